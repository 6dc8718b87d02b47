//! Frames: batches of records, each sealed on its own and bound to all that came before it.
//!
//! On disk: flags (1 byte), length of the sealed bytes (u32 big-endian), sealed bytes (ChaCha20-Poly1305,
//! RFC 8439). Nonce = frame number. Associated data = a label, the recording's id, the number, the flags,
//! and the hash of the frame before: SHA-256 over all bytes of the file up to that frame's end. Hence the
//! chain's head of a complete recording is the SHA-256 of its file, and each byte is hashed once only.

use std::cell::RefCell;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use sha2::{Digest as _, Sha256};
use zstd::bulk::{Compressor, Decompressor};

use crate::hash::Hash;
use crate::key::DataKey;

const LABEL: &[u8] = b"halligan recording frame v1\0";
/// Bytes before the sealed part.
pub(crate) const FRAME_HEADER: usize = 5;
const TAG: usize = 16;
/// What a frame adds to its records.
pub(crate) const FRAME_OVERHEAD: usize = FRAME_HEADER + TAG;
/// Most bytes of encoded records in one frame.
pub const MAX_PLAIN_BYTES: usize = 1024 * 1024;
/// Most sealed bytes in one frame; a longer claim is refused before anything is allocated.
pub const MAX_SEALED_BYTES: usize = MAX_PLAIN_BYTES + TAG;
/// Below this, compression costs more than it saves.
const COMPRESS_FROM: usize = 512;
const COMPRESSION_LEVEL: i32 = 1;

const COMPRESSED: u8 = 1;
const LAST: u8 = 2;

thread_local! {
    /// One compressor a thread (about 570 KiB), not one a session.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Why a frame does not open.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("its seal does not match: it was altered, moved, or sealed under another key")]
    Forged,
    #[error("its length of {bytes} bytes is not between 17 and {MAX_SEALED_BYTES}")]
    Length { bytes: usize },
    #[error("it carries the unknown flags {flags:#04x}")]
    Flags { flags: u8 },
    #[error("it does not decompress")]
    Compression(#[source] std::io::Error),
    #[error("the cipher refused its input")]
    Cipher,
}

/// What stands before a frame's sealed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) flags: u8,
    pub(crate) sealed_bytes: usize,
}

impl FrameHeader {
    pub(crate) fn parse(bytes: [u8; FRAME_HEADER]) -> Result<Self, FrameError> {
        let [flags, length @ ..] = bytes;
        let sealed_bytes = u32::from_be_bytes(length) as usize;
        if flags & !(COMPRESSED | LAST) != 0 {
            return Err(FrameError::Flags { flags });
        }
        if sealed_bytes <= TAG || sealed_bytes > MAX_SEALED_BYTES {
            return Err(FrameError::Length { bytes: sealed_bytes });
        }
        Ok(Self { flags, sealed_bytes })
    }

    pub(crate) fn is_last(self) -> bool {
        self.flags & LAST != 0
    }
}

/// Where a recording stands: next frame number and the running hash of its file.
pub(crate) struct Chain {
    recording_id: String,
    pub(crate) number: u64,
    running: Sha256,
}

impl Chain {
    /// `running` has taken everything before the first frame.
    pub(crate) fn new(recording_id: String, running: Sha256) -> Self {
        Self { recording_id, number: 0, running }
    }

    /// The hash of everything up to here.
    pub(crate) fn head(&self) -> Hash {
        Hash::so_far(&self.running)
    }

    /// Takes the bytes of frame `self.number`, header included.
    pub(crate) fn advance(&mut self, header: &[u8], sealed: &[u8]) {
        self.running.update(header);
        self.running.update(sealed);
        self.number += 1;
    }

    /// The running hash, for files where something follows that is no whole frame.
    pub(crate) fn into_running(self) -> Sha256 {
        self.running
    }

    /// Where the next frame belongs: what its seal is bound to.
    pub(crate) fn place(&self, flags: u8) -> Place {
        let mut nonce = [0_u8; 12];
        let (_, number) = nonce.split_at_mut(4);
        number.copy_from_slice(&self.number.to_be_bytes());
        let mut data = Vec::with_capacity(LABEL.len() + 4 + self.recording_id.len() + 8 + 1 + 32);
        data.extend_from_slice(LABEL);
        data.extend_from_slice(&(self.recording_id.len() as u32).to_be_bytes());
        data.extend_from_slice(self.recording_id.as_bytes());
        data.extend_from_slice(&self.number.to_be_bytes());
        data.push(flags);
        data.extend_from_slice(&self.head().0);
        Place { nonce: Nonce::from(nonce), data }
    }
}

/// Nonce and associated data of one frame.
pub(crate) struct Place {
    nonce: Nonce,
    data: Vec<u8>,
}

/// Makes frames, in order.
pub(crate) struct Sealer {
    // Each statement is sealed twice: the library that TLS uses does it in a fifth of the time of the one that opens.
    cipher: LessSafeKey,
    chain: Chain,
}

impl Sealer {
    pub(crate) fn new(key: &DataKey, chain: Chain) -> Result<Self, FrameError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).map_err(|_length| FrameError::Cipher)?;
        Ok(Self { cipher: LessSafeKey::new(key), chain })
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Seals `plain` as the next frame into `out` (emptied first), ready to be written.
    /// `packed` is scratch space for compression.
    pub(crate) fn seal(
        &mut self,
        plain: &[u8],
        last: bool,
        packed: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let mut flags = if last { LAST } else { 0 };
        let body = if plain.len() >= COMPRESS_FROM && compress(plain, packed) {
            flags |= COMPRESSED;
            packed.as_slice()
        } else {
            plain
        };
        let sealed_bytes = body.len() + TAG;
        if body.is_empty() || sealed_bytes > MAX_SEALED_BYTES {
            return Err(FrameError::Length { bytes: sealed_bytes });
        }
        out.clear();
        out.reserve(FRAME_HEADER + sealed_bytes);
        out.push(flags);
        out.extend_from_slice(&(sealed_bytes as u32).to_be_bytes());
        out.extend_from_slice(body);
        let (header, content) = out.split_at_mut_checked(FRAME_HEADER).ok_or(FrameError::Cipher)?;
        let place = self.chain.place(flags);
        // The number of a frame is never used twice under one key: one key, one recording.
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(place.nonce.into());
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce, Aad::from(&place.data), content)
            .map_err(|_length| FrameError::Cipher)?;
        self.chain.running.update(header);
        self.chain.advance(content, tag.as_ref());
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// Opens frames, in order.
pub(crate) struct Opener {
    cipher: ChaCha20Poly1305,
    decompressor: Option<Decompressor<'static>>,
}

impl Opener {
    pub(crate) fn new(key: &DataKey) -> Self {
        Self { cipher: ChaCha20Poly1305::new(&(*key.expose()).into()), decompressor: None }
    }

    /// Opens the frame that belongs at `place`; `sealed` is used up.
    pub(crate) fn open(
        &mut self,
        place: &Place,
        header: FrameHeader,
        mut sealed: Vec<u8>,
    ) -> Result<Vec<u8>, FrameError> {
        let at = sealed.len().checked_sub(TAG).ok_or(FrameError::Forged)?;
        let tag = sealed.split_off(at);
        let tag = Tag::try_from(tag.as_slice()).map_err(|_length| FrameError::Forged)?;
        self.cipher
            .decrypt_inout_detached(&place.nonce, &place.data, sealed.as_mut_slice().into(), &tag)
            .map_err(|_forged| FrameError::Forged)?;
        if header.flags & COMPRESSED == 0 {
            return Ok(sealed);
        }
        let decompressor = match &mut self.decompressor {
            Some(made) => made,
            none => none.insert(Decompressor::new().map_err(FrameError::Compression)?),
        };
        decompressor.decompress(&sealed, MAX_PLAIN_BYTES).map_err(FrameError::Compression)
    }
}

/// Compresses into `packed`; false if that fails or does not make it smaller.
fn compress(plain: &[u8], packed: &mut Vec<u8>) -> bool {
    packed.clear();
    packed.reserve(plain.len());
    COMPRESSOR.with(|cell| {
        let Ok(mut slot) = cell.try_borrow_mut() else { return false };
        let compressor = match &mut *slot {
            Some(made) => made,
            none => match Compressor::new(COMPRESSION_LEVEL) {
                Ok(made) => none.insert(made),
                Err(_no_memory) => return false,
            },
        };
        matches!(compressor.compress_to_buffer(plain, packed), Ok(bytes) if bytes < plain.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain::new("rec-1".into(), Sha256::new())
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let key = DataKey::from_bytes([1; 32]);
        let mut out = Vec::new();
        Sealer::new(&key, chain()).unwrap().seal(plain, false, &mut Vec::new(), &mut out).unwrap();
        out
    }

    fn opened(chain: &Chain, frame: &[u8]) -> Result<Vec<u8>, FrameError> {
        let header = FrameHeader::parse(frame[..FRAME_HEADER].try_into().unwrap())?;
        Opener::new(&DataKey::from_bytes([1; 32])).open(
            &chain.place(header.flags),
            header,
            frame[FRAME_HEADER..].to_vec(),
        )
    }

    #[test]
    fn small_stays_raw_large_is_compressed_noise_stays_raw() {
        let text = b"the same line again and again\n".repeat(100);
        let mut noise = vec![0; 4096];
        getrandom::fill(&mut noise).unwrap();
        for (plain, compressed) in [(&b"x"[..], 0), (&text, COMPRESSED), (&noise, 0)] {
            let frame = sealed(plain);
            assert_eq!(frame[0], compressed);
            assert_eq!(opened(&chain(), &frame).unwrap(), plain);
        }
        assert!(sealed(&text).len() < 200);
    }

    #[test]
    fn a_frame_opens_only_in_its_own_place() {
        let frame = sealed(b"hello");
        assert!(opened(&chain(), &frame).is_ok());
        let elsewhere = Chain::new("rec-2".into(), Sha256::new());
        assert!(matches!(opened(&elsewhere, &frame), Err(FrameError::Forged)));
        let mut later = chain();
        later.number = 1;
        assert!(matches!(opened(&later, &frame), Err(FrameError::Forged)));
        let mut other_past = chain();
        other_past.running.update(b"x");
        assert!(matches!(opened(&other_past, &frame), Err(FrameError::Forged)));
        let mut reflagged = frame;
        reflagged[0] = LAST;
        assert!(matches!(opened(&chain(), &reflagged), Err(FrameError::Forged)));
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_PLAIN_BYTES + 1], 1).unwrap();
        let place = chain().place(COMPRESSED);
        let key = DataKey::from_bytes([1; 32]);
        let mut body = bomb;
        let cipher = ChaCha20Poly1305::new(&(*key.expose()).into());
        let tag =
            cipher.encrypt_inout_detached(&place.nonce, &place.data, body.as_mut_slice().into()).unwrap();
        body.extend_from_slice(&tag);
        let header = FrameHeader { flags: COMPRESSED, sealed_bytes: body.len() };
        assert!(matches!(Opener::new(&key).open(&place, header, body), Err(FrameError::Compression(_))));
    }

    #[test]
    fn a_claimed_length_is_refused_before_allocation() {
        assert!(matches!(
            FrameHeader::parse([0, 0xff, 0xff, 0xff, 0xff]),
            Err(FrameError::Length { bytes: 0xffff_ffff })
        ));
        assert!(FrameHeader::parse([0, 0, 0, 0, 16]).is_err());
        assert!(matches!(FrameHeader::parse([4, 0, 0, 0, 99]), Err(FrameError::Flags { flags: 4 })));
    }
}
