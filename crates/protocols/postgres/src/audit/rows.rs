//! Result rows that policy keeps: whole DataRow frames, in the protocol's own bytes.

use bytes::Bytes;
use halligan_recording::RecordKind;

/// Bytes of rows in one record.
const RECORD_BYTES: usize = 256 * 1024;

/// Which rows of a result are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    None,
    /// The first so many of each statement.
    First(u64),
    /// All, as long as there is room.
    All,
}

#[derive(Debug)]
pub struct Keeper {
    channel: u32,
    kept: Kept,
    /// Bytes that may still be kept in this session.
    room: u64,
    /// Rows that may still be kept of this statement.
    left: u64,
    rows: u64,
    whole: Vec<u8>,
    /// The row that has begun; `None` if it is not kept.
    begun: Option<Vec<u8>>,
}

impl Keeper {
    pub fn new(channel: u32, kept: Kept, room: u64) -> Self {
        let mut keeper = Self { channel, kept, room, left: 0, rows: 0, whole: Vec::new(), begun: None };
        keeper.reset();
        keeper
    }

    fn reset(&mut self) {
        self.left = match self.kept {
            Kept::None => 0,
            Kept::First(rows) => rows,
            Kept::All => u64::MAX,
        };
    }

    /// Whole frames, one behind the other.
    pub fn rows(&mut self, mut frames: &[u8], records: &mut Vec<RecordKind>) {
        while self.left > 0 {
            let Some([_, a, b, c, d]) = frames.first_chunk::<5>() else { return };
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1;
            let Some((frame, rest)) = frames.split_at_checked(length) else { return };
            frames = rest;
            self.keep(frame, records);
        }
    }

    pub fn part(&mut self, part: &[u8], begins: bool, ends: bool, records: &mut Vec<RecordKind>) {
        if begins {
            self.begun = (self.left > 0).then(Vec::new);
        }
        if let Some(row) = &mut self.begun {
            if (row.len() + part.len()) as u64 > self.room || row.len() + part.len() > RECORD_BYTES {
                self.begun = None;
                self.skip();
                return;
            }
            row.extend_from_slice(part);
        }
        if ends && let Some(row) = self.begun.take() {
            self.keep(&row, records);
        }
    }

    fn keep(&mut self, frame: &[u8], records: &mut Vec<RecordKind>) {
        if frame.len() as u64 > self.room || frame.len() > RECORD_BYTES {
            self.skip();
            return;
        }
        if self.whole.len() + frame.len() > RECORD_BYTES {
            self.flush(records);
        }
        self.room -= frame.len() as u64;
        self.left -= 1;
        self.rows += 1;
        self.whole.extend_from_slice(frame);
    }

    /// A row that does not fit ends what is kept of this statement: rows after it would look like the next.
    fn skip(&mut self) {
        self.left = 0;
    }

    fn flush(&mut self, records: &mut Vec<RecordKind>) {
        let rows = std::mem::take(&mut self.rows);
        if rows > 0 {
            let bytes = Bytes::from(std::mem::take(&mut self.whole));
            records.push(RecordKind::Rows { channel: self.channel, rows, bytes });
        }
    }

    /// The statement is over.
    pub fn finish(&mut self, records: &mut Vec<RecordKind>) {
        self.flush(records);
        self.reset();
    }
}
