//! Systems one after the other: a million of them are never held at once.

use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use halligan_core::catalog::System;
use halligan_core::ids::Name;

use crate::diagnostic::Place;
use crate::read::{MOST_LINE_BYTES, system_line};

/// Where systems come from: files, or what control has stored.
pub trait Systems {
    /// Visits every system until the visitor breaks. The order is that of the files.
    fn each(&self, visit: &mut dyn FnMut(&Place, &System) -> ControlFlow<()>) -> Result<(), Unreadable>;

    /// The system of that name.
    fn find(&self, name: &Name) -> Result<Option<System>, Unreadable> {
        let mut found = None;
        self.each(&mut |_, system| {
            if system.name == *name {
                found = Some(system.clone());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

/// Systems that cannot be read (any more).
#[derive(Debug, thiserror::Error)]
#[error("failed to read {place}: {say}")]
pub struct Unreadable {
    /// Where.
    pub place: Place,
    /// Why.
    pub say: String,
}

impl Systems for [System] {
    fn each(&self, visit: &mut dyn FnMut(&Place, &System) -> ControlFlow<()>) -> Result<(), Unreadable> {
        let place = Place::nowhere();
        for system in self {
            if visit(&place, system).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Systems for Vec<System> {
    fn each(&self, visit: &mut dyn FnMut(&Place, &System) -> ControlFlow<()>) -> Result<(), Unreadable> {
        self.as_slice().each(visit)
    }
}

/// Opens a stream of JSON Lines from its beginning.
pub type Open = Arc<dyn Fn() -> io::Result<Box<dyn BufRead>> + Send + Sync>;

/// The systems of a loaded catalog: those of YAML files in memory, those of JSON Lines read again each time.
#[derive(Clone, Default)]
pub struct LoadedSystems {
    pub(crate) memory: Vec<(Place, System)>,
    pub(crate) streams: Vec<(Arc<str>, Open)>,
    pub(crate) count: u64,
}

impl std::fmt::Debug for LoadedSystems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} systems", self.count)
    }
}

impl LoadedSystems {
    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

impl Systems for LoadedSystems {
    fn each(&self, visit: &mut dyn FnMut(&Place, &System) -> ControlFlow<()>) -> Result<(), Unreadable> {
        for (place, system) in &self.memory {
            if visit(place, system).is_break() {
                return Ok(());
            }
        }
        for (file, open) in &self.streams {
            let mut stopped = false;
            lines(file, open, &mut |place, line| {
                let system = system_line(place, line)
                    .map_err(|found| Unreadable { place: place.clone(), say: found.say })?;
                stopped = visit(place, &system).is_break();
                Ok(if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            if stopped {
                return Ok(());
            }
        }
        Ok(())
    }
}

type VisitLine<'a> = dyn FnMut(&Place, &str) -> Result<ControlFlow<()>, Unreadable> + 'a;

/// Every line that says something, in one buffer.
pub(crate) fn lines(file: &Arc<str>, open: &Open, visit: &mut VisitLine<'_>) -> Result<(), Unreadable> {
    let mut place = Place { file: Arc::clone(file), line: 0, column: 1 };
    let failed = |place: &Place, say: String| Unreadable { place: place.clone(), say };
    let mut reader = open().map_err(|error| failed(&place, error.to_string()))?;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        place.line = place.line.saturating_add(1);
        let read = reader
            .by_ref()
            .take(MOST_LINE_BYTES as u64 + 1)
            .read_until(b'\n', &mut buffer)
            .map_err(|error| failed(&place, error.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        if read > MOST_LINE_BYTES {
            return Err(failed(&place, format!("a line has at most {MOST_LINE_BYTES} bytes")));
        }
        let line = std::str::from_utf8(&buffer)
            .map_err(|_| failed(&place, "the line is not UTF-8 text".to_owned()))?
            .trim();
        if !line.is_empty() && visit(&place, line)?.is_break() {
            return Ok(());
        }
    }
}
