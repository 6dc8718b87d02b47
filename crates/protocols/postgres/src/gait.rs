//! Memory of a pump: little while little moves.

use bytes::BytesMut;

/// What a pump reads at once: little while little moves, so that an idle session holds little.
const LEAST_READ: usize = 8 * 1024;
const MOST_READ: usize = 128 * 1024;

/// How much is read at once.
pub(crate) struct Gait(usize);

impl Default for Gait {
    fn default() -> Self {
        Self(LEAST_READ)
    }
}

impl Gait {
    pub(crate) fn room(&self, buffer: &mut BytesMut, wants: usize) {
        if buffer.is_empty() && self.0 == LEAST_READ && buffer.capacity() > 2 * LEAST_READ {
            // A large one of a busier time is given back.
            *buffer = BytesMut::new();
        }
        let missing = wants.saturating_sub(buffer.len()).min(8 * MOST_READ);
        buffer.reserve(missing.max(self.0));
    }

    /// Empties what was sent.
    pub(crate) fn done_with(&self, sent: &mut BytesMut) {
        if self.0 == LEAST_READ && sent.capacity() > 4 * LEAST_READ {
            *sent = BytesMut::new();
        } else {
            sent.clear();
        }
    }

    pub(crate) fn moved(&mut self, bytes: usize) {
        if bytes >= self.0 {
            self.0 = (self.0 * 4).min(MOST_READ);
        } else if bytes < self.0 / 8 {
            self.0 = (self.0 / 2).max(LEAST_READ);
        }
    }
}
