//! Memory that is taken and given back by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts bytes.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<AtomicUsize>);

/// A part of it, given back when dropped.
#[derive(Debug)]
pub struct Pin {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    pub fn pin(&self, bytes: usize) -> Pin {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Pin { all: Arc::clone(&self.0), bytes }
    }

    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
