//! Data that is only passed: rows are counted, COPY data is counted and hashed.

use halligan_recording::Direction;
use sha2::{Digest as _, Sha256};

use super::Audit;
use super::queue::Owed;
use super::rows::Layout;
use crate::codec::Passing;
use crate::lexer::{TokenKind, tokens};

/// A COPY under way.
#[derive(Debug)]
pub struct Copying {
    pub direction: Direction,
    pub path: String,
    pub bytes: u64,
    pub sha256: Sha256,
}

impl Copying {
    pub fn new(direction: Direction, path: String) -> Self {
        Self { direction, path, bytes: 0, sha256: Sha256::new() }
    }

    fn take(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.sha256.update(data);
    }
}

/// `COPY orders`, or `COPY (query)`.
pub fn path(text: &str, backslashes: bool) -> String {
    let mut tokens = tokens(text, backslashes).skip_while(|token| !token.is("copy")).skip(1).peekable();
    let mut path = String::from("COPY ");
    while let Some(token) = tokens.next() {
        match token.kind {
            TokenKind::Word | TokenKind::Quoted if path.len() < 400 => path.push_str(token.text),
            _ => break,
        }
        if tokens.next_if(|token| token.is_mark(".")).is_none() {
            return path;
        }
        path.push('.');
    }
    path.push_str("(query)");
    path
}

fn copies_in(owed: &mut Owed) -> Option<&mut Copying> {
    owed.what.running_mut()?.copy.as_mut().filter(|copy| copy.direction == Direction::Upload)
}

pub struct FromClient<'a>(pub &'a mut Audit);

impl Passing for FromClient<'_> {
    fn copy(&mut self, data: &[u8]) {
        let audit = &mut *self.0;
        if let Some(copy) = audit.waiting.iter_mut().find_map(copies_in) {
            copy.take(data);
        } else if audit.may_copy_in() {
            // The server has not said yet that it copies: counted when it does. Other data it ignores.
            audit.early.take(data);
        }
    }
}

pub struct FromServer<'a>(pub &'a mut Audit);

impl FromServer<'_> {
    fn count(&mut self, rows: u64) {
        let audit = &mut *self.0;
        if let Some(running) = audit.waiting.iter_mut().find_map(|owed| owed.what.running_mut()) {
            running.seen += rows;
            if audit.keeper.wants_layout() {
                let (number, statement) = (running.number, &running.runs.statement);
                let layout = Layout::of_portal(number, statement, running.asked.as_deref());
                audit.keeper.lay_out(layout, &mut audit.records);
            }
        }
    }
}

impl Passing for FromServer<'_> {
    fn rows(&mut self, frames: &[u8], count: u64) {
        self.count(count);
        self.0.keeper.rows(frames, &mut self.0.records);
    }

    fn row_part(&mut self, _: &[u8], ends: bool) {
        self.count(u64::from(ends));
        // Longer than any that is kept.
        self.0.keeper.skip();
    }

    fn copy(&mut self, data: &[u8]) {
        let running = self.0.waiting.iter_mut().find_map(|owed| owed.what.running_mut());
        if let Some(copy) = running.and_then(|running| running.copy.as_mut()) {
            copy.take(data);
        }
    }
}
