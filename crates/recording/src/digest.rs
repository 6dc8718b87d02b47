//! Checking a recording's file without a key: its structure, its digests, and whether it is complete.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::frame::{Chain, FRAME_HEADER, FrameError, FrameHeader, Place};
use crate::hash::Hash;
use crate::header::{Header, Preamble};
use crate::reader::ReadError;
use crate::writer::Finished;

/// What a file holds, as far as that can be told without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Bytes of the file.
    pub bytes: u64,
    /// Whole frames.
    pub frames: u64,
    /// Hash of everything up to the end of the last whole frame.
    pub chain_head: Hash,
    /// Hash of the whole file; the same as `chain_head` unless a torn tail follows.
    pub sha256: Hash,
    /// The last frame is there. Without it the recording stops in the middle: a killed process, a power cut.
    pub complete: bool,
    /// Bytes after the last whole frame.
    pub tail_bytes: u64,
}

/// Reads the file once and computes its digests. No key is needed, so content is not checked: compare the
/// result with what the ledger holds.
pub fn verify_digest(path: &Path) -> Result<(Header, Digest), ReadError> {
    digest_of(BufReader::with_capacity(64 * 1024, File::open(path).map_err(ReadError::Read)?))
}

/// As [`verify_digest`], from any reader.
pub fn digest_of(input: impl Read) -> Result<(Header, Digest), ReadError> {
    let mut scanner = Scanner::new(input)?;
    loop {
        match scanner.next()? {
            Scan::Frame { header, sealed } => scanner.accept(header, &sealed),
            Scan::End(digest) => return Ok((scanner.header, digest)),
        }
    }
}

/// What a writer that died would have told. Changes nothing in the file. `records` and `duration_micros`
/// are unknown, as they are sealed.
pub fn recover(path: &Path) -> Result<Finished, ReadError> {
    let (header, digest) = verify_digest(path)?;
    Ok(Finished {
        path: path.to_owned(),
        recording_id: header.recording_id,
        bytes: digest.bytes,
        frames: digest.frames,
        records: None,
        chain_head: digest.chain_head,
        sha256: digest.sha256,
        duration_micros: None,
        complete: digest.complete,
    })
}

/// Walks the frames of a file; the caller accepts each.
pub(crate) struct Scanner<R> {
    input: R,
    pub(crate) header: Header,
    chain: Option<Chain>,
    frame_header: [u8; FRAME_HEADER],
    bytes: u64,
    frames: u64,
    last_seen: bool,
}

pub(crate) enum Scan {
    Frame { header: FrameHeader, sealed: Vec<u8> },
    End(Digest),
}

impl<R: Read> Scanner<R> {
    pub(crate) fn new(mut input: R) -> Result<Self, ReadError> {
        let preamble = Preamble::read(&mut input)?;
        Ok(Self::after(preamble, input))
    }

    /// `input` stands at the first frame.
    pub(crate) fn after(preamble: Preamble, input: R) -> Self {
        let chain = Chain::new(preamble.header.recording_id.clone(), preamble.running);
        Self {
            input,
            header: preamble.header,
            chain: Some(chain),
            frame_header: [0; FRAME_HEADER],
            bytes: preamble.bytes,
            frames: 0,
            last_seen: false,
        }
    }

    pub(crate) fn frame(&self) -> u64 {
        self.frames
    }

    /// Where the frame that [`Self::next`] gave belongs; ask before it is accepted.
    pub(crate) fn place(&self, header: FrameHeader) -> Option<Place> {
        Some(self.chain.as_ref()?.place(header.flags))
    }

    /// The chain goes on after the frame that [`Self::next`] gave.
    pub(crate) fn accept(&mut self, header: FrameHeader, sealed: &[u8]) {
        if let Some(chain) = &mut self.chain {
            chain.advance(&self.frame_header, sealed);
        }
        self.frames += 1;
        self.bytes += (FRAME_HEADER + sealed.len()) as u64;
        self.last_seen = header.is_last();
    }

    pub(crate) fn next(&mut self) -> Result<Scan, ReadError> {
        let mut frame_header = [0_u8; FRAME_HEADER];
        let got = read_up_to(&mut self.input, &mut frame_header)?;
        let present = frame_header.get(..got).unwrap_or_default();
        if self.last_seen {
            return if got == 0 { self.end(&[]) } else { Err(ReadError::AfterTheEnd { frame: self.frames }) };
        }
        if got < FRAME_HEADER {
            return self.end(present);
        }
        self.frame_header = frame_header;
        let header = match FrameHeader::parse(frame_header) {
            Ok(header) => header,
            // After a power cut a file can end in blocks of zeros that were never filled.
            Err(_) if frame_header == [0; FRAME_HEADER] => return self.zeros(),
            Err(error) => return Err(ReadError::Frame { frame: self.frames, source: error }),
        };
        let mut sealed = vec![0; header.sealed_bytes];
        let got = read_up_to(&mut self.input, &mut sealed)?;
        if got < sealed.len() {
            sealed.truncate(got);
            let mut tail = frame_header.to_vec();
            tail.extend_from_slice(&sealed);
            return self.end(&tail);
        }
        Ok(Scan::Frame { header, sealed })
    }

    fn end(&mut self, tail: &[u8]) -> Result<Scan, ReadError> {
        let (chain_head, mut running) = self.close()?;
        running.update(tail);
        Ok(self.digest(chain_head, running, tail.len() as u64))
    }

    /// The rest of the file, if it is nothing but zeros.
    fn zeros(&mut self) -> Result<Scan, ReadError> {
        let (chain_head, mut running) = self.close()?;
        running.update([0; FRAME_HEADER]);
        let mut tail = FRAME_HEADER as u64;
        let mut block = [0_u8; 4096];
        loop {
            let got = read_up_to(&mut self.input, &mut block)?;
            let part = block.get(..got).unwrap_or_default();
            if part.iter().any(|byte| *byte != 0) {
                let source = FrameError::Length { bytes: 0 };
                return Err(ReadError::Frame { frame: self.frames, source });
            }
            running.update(part);
            tail += got as u64;
            if got == 0 {
                return Ok(self.digest(chain_head, running, tail));
            }
        }
    }

    fn close(&mut self) -> Result<(Hash, Sha256), ReadError> {
        let chain = self.chain.take().ok_or(ReadError::Over)?;
        Ok((chain.head(), chain.into_running()))
    }

    fn digest(&self, chain_head: Hash, running: Sha256, tail_bytes: u64) -> Scan {
        Scan::End(Digest {
            bytes: self.bytes + tail_bytes,
            frames: self.frames,
            chain_head,
            sha256: Hash::so_far(&running),
            complete: self.last_seen,
            tail_bytes,
        })
    }
}

/// Fills as much of `buffer` as there is; the count is less than its length only at the end.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ReadError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::Read(error)),
        }
    }
    Ok(filled)
}
