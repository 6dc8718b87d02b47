//! Result rows that policy keeps: decoded, so that whoever reads the record sees what the person saw.

use std::sync::Arc;

use halligan_recording::RecordKind;
use halligan_recording::text::lossless;
use serde_json::Value;

use super::names::Prepared;
use crate::codec::Column;
use crate::parameters::{Format, decode};

/// Bytes of rows in one record, and of one row.
const RECORD_BYTES: usize = 256 * 1024;
/// Longest description of columns that is read, in bytes.
const DESCRIPTION_BYTES: usize = 64 * 1024;

/// Which rows of a result are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    None,
    /// The first so many of each statement.
    First(u64),
    /// All, as long as there is room.
    All,
}

impl Kept {
    /// Longest description of columns that is wanted, in bytes.
    pub fn description_bytes(self) -> usize {
        if self == Self::None { 0 } else { DESCRIPTION_BYTES }
    }

    /// Longest row that is wanted whole, in bytes: a longer one is not kept, and none is on its way before it is.
    pub fn row_bytes(self) -> usize {
        if self == Self::None { 0 } else { RECORD_BYTES }
    }
}

/// How the values of a result are to be read.
#[derive(Debug, Clone)]
pub struct Layout {
    pub number: u64,
    pub columns: Arc<[Column]>,
    /// As the client asked when it bound; none where the description tells.
    pub asked: Option<Vec<i16>>,
}

impl Layout {
    /// Of a portal of a statement that may have been described.
    pub fn of_portal(number: u64, statement: &Prepared, asked: Option<&[i16]>) -> Self {
        Self { number, columns: statement.columns(), asked: Some(asked.unwrap_or_default().to_vec()) }
    }

    fn value(&self, place: usize, value: Option<&[u8]>) -> Value {
        let column = self.columns.get(place);
        let format = match self.asked.as_deref() {
            None => column.map_or(0, |column| column.format),
            Some([]) => 0,
            Some([all]) => *all,
            Some(each) => each.get(place).copied().unwrap_or(0),
        };
        let format = if format == 0 { Format::Text } else { Format::Binary };
        decode(column.map_or(0, |column| column.type_oid), format, value)
    }

    fn names(&self) -> String {
        Value::from_iter(self.columns.iter().map(|column| lossless(&column.name))).to_string()
    }
}

#[derive(Debug)]
pub struct Keeper {
    channel: u32,
    kept: Kept,
    /// Bytes of rows that may still be kept in this session.
    room: u64,
    /// Rows that may still be kept of this statement.
    left: u64,
    layout: Option<Layout>,
    rows: u64,
    /// Arrays of values, with commas between them.
    values: String,
}

impl Keeper {
    pub fn new(channel: u32, kept: Kept, room: u64) -> Self {
        let (left, layout, values) = (0, None, String::new());
        let mut keeper = Self { channel, kept, room, left, layout, rows: 0, values };
        keeper.reset();
        keeper
    }

    fn reset(&mut self) {
        self.layout = None;
        self.left = match self.kept {
            Kept::None => 0,
            Kept::First(rows) => rows,
            Kept::All => u64::MAX,
        };
    }

    /// The next row would be kept, and nobody has told how it is read.
    pub fn wants_layout(&self) -> bool {
        self.left > 0 && self.layout.is_none()
    }

    /// What comes next is read so.
    pub fn lay_out(&mut self, layout: Layout, records: &mut Vec<RecordKind>) {
        self.flush(records);
        self.layout = Some(layout);
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

    fn keep(&mut self, frame: &[u8], records: &mut Vec<RecordKind>) {
        let fits = frame.len() as u64 <= self.room && frame.len() <= RECORD_BYTES;
        let row = self.layout.as_ref().filter(|_| fits).and_then(|layout| values(frame, layout));
        let Some(row) = row.filter(|row| row.len() <= RECORD_BYTES) else {
            self.skip();
            return;
        };
        if self.values.len() + row.len() > RECORD_BYTES {
            self.flush(records);
        }
        self.room -= frame.len() as u64;
        self.left -= 1;
        self.rows += 1;
        if !self.values.is_empty() {
            self.values.push(',');
        }
        self.values.push_str(&row);
    }

    /// A row that does not fit ends what is kept of this statement: rows after it would look like the next.
    pub fn skip(&mut self) {
        self.left = 0;
    }

    /// What is kept by now goes on record, before the rows themselves go on.
    pub fn flush(&mut self, records: &mut Vec<RecordKind>) {
        let rows = std::mem::take(&mut self.rows);
        if let Some(layout) = self.layout.as_ref().filter(|_| rows > 0) {
            let values = format!("[{}]", std::mem::take(&mut self.values));
            let (number, columns) = (layout.number, layout.names());
            records.push(RecordKind::Result { channel: self.channel, number, rows, columns, values });
        }
    }

    /// The statement is over.
    pub fn finish(&mut self, records: &mut Vec<RecordKind>) {
        self.flush(records);
        self.reset();
    }
}

/// The values of one DataRow frame, as a JSON array. None where it is not formed as one.
fn values(frame: &[u8], layout: &Layout) -> Option<String> {
    let (count, mut rest) = frame.get(5..)?.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for place in 0..usize::from(u16::from_be_bytes(*count)) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let value = match i32::from_be_bytes(*length) {
            -1 => {
                rest = behind;
                None
            }
            length => {
                let (value, behind) = behind.split_at_checked(usize::try_from(length).ok()?)?;
                rest = behind;
                Some(value)
            }
        };
        row.push(layout.value(place, value));
    }
    Some(Value::Array(row).to_string())
}
