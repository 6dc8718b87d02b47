//! Any bytes, cut anyhow: one entry for each direction, which the fuzz targets and the tests share.
//!
//! They hold what must be true of every input: pieces put together are the input as far as it was taken, the
//! buffer never grows past what is held, nothing panics. A broken promise is said in words.

use bytes::{Bytes, BytesMut};

use super::frame::{Flow, NotKept, Passing, Piece, Scanner};
use super::startup::{First, read_first};
use super::{ClientScanner, ServerScanner};

/// Longest message that is held here, in bytes.
pub const HOLD: usize = 4096;
/// Longest that any message of the server is held.
const SERVER_HOLD: usize = 1024 * 1024;

/// A frame that is only passed may be waited for until it is whole, if it is as short as this.
const SHORT: usize = 32 * 1024;

/// What a stream came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Messages and ranges, in order; ranges that touch are one.
    pub pieces: Vec<String>,
    /// Why it stopped.
    pub error: Option<String>,
    pub rows: u64,
    pub row_bytes: u64,
    pub copied: Vec<u8>,
}

/// A client's stream: first packets until a startup, then messages. `cuts` are the sizes of the reads, over and
/// over; none reads all at once.
pub fn client(data: &[u8], cuts: &[u8]) -> Result<Seen, String> {
    let mut reads = Reads { data, cuts, turn: 0 };
    let mut buffer = BytesMut::new();
    loop {
        match read_first(&mut buffer) {
            Ok(Some(First::Tls | First::Startup(_) | First::Cancel { .. })) => break,
            Ok(Some(First::SslRequest | First::GssencRequest)) => {}
            Err(_) => break,
            Ok(None) => {
                if buffer.len() > super::MAX_STARTUP_BYTES + 255 {
                    return Err("a first packet is held past its bound".to_owned());
                }
                if !reads.read(&mut buffer) {
                    break;
                }
            }
        }
    }
    let mut rest = buffer.to_vec();
    rest.extend_from_slice(reads.data);
    let early = run(ClientScanner::new(HOLD), &rest, cuts, HOLD.max(super::MAX_AUTHENTICATION_BYTES))?;
    let mut scanner = ClientScanner::new(HOLD);
    scanner.authenticated();
    let seen = run(scanner, &rest, cuts, HOLD)?;
    if early.error.is_none() && early.pieces.len() > seen.pieces.len() + 1 {
        return Err("more passes before authentication than after".to_owned());
    }
    Ok(seen)
}

/// A server's stream.
pub fn server(data: &[u8], cuts: &[u8]) -> Result<Seen, String> {
    let _early = run(ServerScanner::new(HOLD), data, cuts, SERVER_HOLD)?;
    let mut scanner = ServerScanner::new(HOLD);
    scanner.authenticated();
    run(scanner, data, cuts, SERVER_HOLD)
}

struct Reads<'a> {
    data: &'a [u8],
    cuts: &'a [u8],
    turn: usize,
}

impl Reads<'_> {
    fn read(&mut self, buffer: &mut BytesMut) -> bool {
        let size =
            self.cuts.get(self.turn % self.cuts.len().max(1)).map_or(usize::MAX, |cut| usize::from(*cut) + 1);
        self.turn += 1;
        let (now, later) = self.data.split_at(size.min(self.data.len()));
        buffer.extend_from_slice(now);
        self.data = later;
        !now.is_empty()
    }
}

#[derive(Default)]
struct Counts {
    rows: u64,
    row_bytes: u64,
    copied: Vec<u8>,
}

impl Passing for Counts {
    fn rows(&mut self, frames: &[u8], count: u64) {
        self.rows += count;
        self.row_bytes += frames.len() as u64;
    }
    fn row_part(&mut self, part: &[u8], ends: bool) {
        self.rows += u64::from(ends);
        self.row_bytes += part.len() as u64;
    }
    fn copy(&mut self, data: &[u8]) {
        self.copied.extend_from_slice(data);
    }
}

fn run<D: Flow<Message: std::fmt::Debug>>(
    mut scanner: Scanner<D>,
    data: &[u8],
    cuts: &[u8],
    hold: usize,
) -> Result<Seen, String> {
    let hold = hold.max(SHORT);
    let mut reads = Reads { data, cuts, turn: 0 };
    let (mut buffer, mut counts) = (BytesMut::new(), Counts::default());
    let (mut pieces, mut passed, mut given) = (Vec::new(), Vec::new(), Vec::new());
    let mut error = None;
    let end_range = |passed: &mut Vec<u8>, pieces: &mut Vec<String>| {
        if !passed.is_empty() {
            pieces.push(format!("{:?}", Bytes::from(std::mem::take(passed))));
        }
    };
    loop {
        match scanner.next(&mut buffer, &mut counts) {
            Ok(Some(Piece::Pass(bytes))) => {
                if bytes.is_empty() {
                    return Err("an empty range".to_owned());
                }
                given.extend_from_slice(&bytes);
                passed.extend_from_slice(&bytes);
            }
            Ok(Some(Piece::Message { message, raw })) => {
                given.extend_from_slice(&raw);
                end_range(&mut passed, &mut pieces);
                pieces.push(format!("{message:?} {raw:?}"));
            }
            Ok(None) => {
                if !cuts.is_empty() && buffer.len() > hold + 5 + 256 {
                    return Err(format!("{} bytes are held", buffer.len()));
                }
                if scanner.wants() > hold + 5 {
                    return Err(format!("{} bytes are wanted", scanner.wants()));
                }
                if !reads.read(&mut buffer) {
                    break;
                }
            }
            Err(why) => {
                error = Some(why.to_string());
                break;
            }
        }
    }
    end_range(&mut passed, &mut pieces);
    if data.get(..given.len()) != Some(given.as_slice()) {
        return Err("the pieces are not the stream".to_owned());
    }
    let _ = scanner.next(&mut BytesMut::new(), &mut NotKept);
    Ok(Seen { pieces, error, rows: counts.rows, row_bytes: counts.row_bytes, copied: counts.copied })
}
