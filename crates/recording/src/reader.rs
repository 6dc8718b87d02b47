//! Reading a recording back, record by record, checking every seal and the chain on the way.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use bytes::Bytes;

use crate::age_file::{self, AgeError, Identity};
use crate::digest::{Digest, Scan, Scanner};
use crate::frame::{FrameError, Opener};
use crate::header::{FORMAT, Header, Preamble};
use crate::key::DataKey;
use crate::record::{DecodeError, ENCODING_VERSION, Record, RecordKind};

/// Why a recording cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("failed to read the recording")]
    Read(#[source] io::Error),
    #[error("this is not a recording")]
    NotARecording,
    #[error("the recording ends in its header")]
    ShortHeader,
    #[error("the recording's {what} claims {bytes} bytes; at most {limit} are read")]
    TooLarge { what: &'static str, bytes: usize, limit: usize },
    #[error("the recording's header is malformed")]
    Header(#[source] serde_json::Error),
    #[error("the recording has format {format}; this program reads format {FORMAT}")]
    Format { format: u32 },
    #[error("the wrapped key is not the one that the recording's header names")]
    KeyDigest,
    #[error("the recording's key could not be unwrapped")]
    Key(#[source] AgeError),
    #[error("frame {frame} is broken")]
    Frame { frame: u64, source: FrameError },
    #[error("a record in frame {frame} is malformed")]
    Record { frame: u64, source: DecodeError },
    #[error("frame {frame} follows after the recording's end")]
    AfterTheEnd { frame: u64 },
    #[error("the end record stands in frame {frame}, which is not marked as the last, or is missing there")]
    EndMisplaced { frame: u64 },
    #[error("the recording has been read to its end already")]
    Over,
}

/// Iterates over the records of one recording. Nothing is given out before its frame's seal was checked.
/// A recording that stops without its end gives a last [`RecordKind::Gap`] that says so; after any error
/// it gives nothing more.
pub struct RecordingReader<R> {
    scanner: Scanner<R>,
    opener: Opener,
    frame: Frame,
    last_at_micros: u64,
    digest: Option<Digest>,
    over: bool,
}

/// Records of the frame being read.
#[derive(Default)]
struct Frame {
    rest: Bytes,
    number: u64,
    is_last: bool,
    end_seen: bool,
}

impl RecordingReader<BufReader<File>> {
    /// Opens a file with its data key.
    pub fn open(path: &Path, key: &DataKey) -> Result<Self, ReadError> {
        Self::from_read(BufReader::with_capacity(64 * 1024, File::open(path).map_err(ReadError::Read)?), key)
    }

    /// Opens a file with one of the identities that its data key was wrapped to.
    pub fn open_as(path: &Path, identity: &Identity) -> Result<Self, ReadError> {
        let mut input = BufReader::with_capacity(64 * 1024, File::open(path).map_err(ReadError::Read)?);
        let preamble = Preamble::read(&mut input)?;
        let key = age_file::unwrap(&preamble.wrapped_key, identity).map_err(ReadError::Key)?;
        Ok(Self::after(Scanner::after(preamble, input), &key))
    }
}

impl<R: Read> RecordingReader<R> {
    /// Reads from anything; small reads are made, so give it a buffered reader.
    pub fn from_read(input: R, key: &DataKey) -> Result<Self, ReadError> {
        Ok(Self::after(Scanner::new(input)?, key))
    }

    fn after(scanner: Scanner<R>, key: &DataKey) -> Self {
        Self {
            scanner,
            opener: Opener::new(key),
            frame: Frame::default(),
            last_at_micros: 0,
            digest: None,
            over: false,
        }
    }

    /// The clear header; it is proven genuine once the first record was read.
    pub fn header(&self) -> &Header {
        &self.scanner.header
    }

    /// The file's digests, once it was read to its end: compare them with the ledger's.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    fn step(&mut self) -> Result<Option<Record>, ReadError> {
        while self.frame.rest.is_empty() {
            if self.frame.is_last != self.frame.end_seen {
                return Err(ReadError::EndMisplaced { frame: self.frame.number });
            }
            if let Some(gap) = self.next_frame()? {
                return Ok(gap);
            }
        }
        let frame = self.frame.number;
        if self.frame.end_seen {
            return Err(ReadError::EndMisplaced { frame });
        }
        let record =
            Record::decode(&mut self.frame.rest).map_err(|source| ReadError::Record { frame, source })?;
        self.frame.end_seen = matches!(record.kind, RecordKind::End { .. });
        self.last_at_micros = record.at_micros;
        Ok(Some(record))
    }

    /// `None` if a frame was opened, else what the iterator ends with.
    fn next_frame(&mut self) -> Result<Option<Option<Record>>, ReadError> {
        let frame = self.scanner.frame();
        let (header, sealed) = match self.scanner.next()? {
            Scan::Frame { header, sealed } => (header, sealed),
            Scan::End(digest) => {
                let gap = (!digest.complete).then(|| self.gap(&digest));
                self.digest = Some(digest);
                self.over = true;
                return Ok(Some(gap));
            }
        };
        let place = self.scanner.place(header).ok_or(ReadError::Over)?;
        // Hashed before it is opened in place; if it does not open, nothing more is read.
        self.scanner.accept(header, &sealed);
        let plain =
            self.opener.open(&place, header, sealed).map_err(|source| ReadError::Frame { frame, source })?;
        let mut rest = Bytes::from(plain);
        let version = rest.split_to(rest.len().min(1)).first().copied().unwrap_or_default();
        if version != ENCODING_VERSION {
            return Err(ReadError::Record { frame, source: DecodeError::Version { version } });
        }
        self.frame = Frame { rest, number: frame, is_last: header.is_last(), end_seen: false };
        Ok(None)
    }

    fn gap(&self, digest: &Digest) -> Record {
        let reason = format!(
            "the recording stops here without its end: {} whole frames, then {} bytes that are no whole frame",
            digest.frames, digest.tail_bytes
        );
        Record::new(self.last_at_micros, RecordKind::Gap { reason })
    }
}

impl<R: Read> Iterator for RecordingReader<R> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.over = true;
        }
        step.transpose()
    }
}
