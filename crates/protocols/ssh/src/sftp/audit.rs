//! What the packets of an sftp channel mean: requests are remembered by id, handles by name, and replies say how it went.

use std::collections::HashMap;

use bytes::Bytes;
use halligan_recording::{Direction, Hash, Outcome, RecordKind};
use halligan_session::end_reason::printable;
use sha2::{Digest as _, Sha256};

use super::wire::{ContentHead, Fields, Framer, NAME, Side, Sink, Unreadable, unreadable};

/// Requests without a reply, and handles, that one channel may have. OpenSSH's client keeps 64 requests under way.
const MOST_PENDING: usize = 8_192;
/// Longest path that is recorded, in characters.
const PATH_CHARACTERS: usize = 4_096;

// Packet types (section 3) and the bits of an open (section 6.3).
const INIT: u8 = 1;
const VERSION: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const READS: u32 = 0x01;
const WRITES: u32 = 0x02 | 0x04 | 0x08 | 0x10;
const STATUS_OK: u32 = 0;
const STATUS_EOF: u32 = 1;

/// A transfer that ended: a milestone, to be synced before the target's reply goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransferDone {
    pub path: String,
    pub direction: Direction,
    pub bytes: u64,
    pub sha256: Hash,
}

/// Reads along in one sftp channel.
#[derive(Debug)]
pub(crate) struct SftpAudit {
    client: Framer,
    target: Framer,
    state: State,
}

#[derive(Debug)]
struct State {
    channel: u32,
    keep: u64,
    greeted: bool,
    agreed: bool,
    home: Option<String>,
    pending: HashMap<u32, Pending>,
    handles: HashMap<Vec<u8>, Opened>,
    streaming: Option<(Vec<u8>, Direction)>,
    records: Vec<RecordKind>,
    done: Vec<TransferDone>,
}

#[derive(Debug)]
enum Pending {
    Open { path: String, writes: bool },
    Directory { path: String },
    Read { handle: Vec<u8>, offset: u64, length: u32 },
    Write { handle: Vec<u8> },
    Close { handle: Vec<u8> },
    Home,
    Operation { op: String, path: String, path2: Option<String> },
    Look,
}

#[derive(Debug)]
struct Opened {
    path: String,
    writes: bool,
    directory: bool,
    up: Option<Transfer>,
    down: Option<Transfer>,
}

#[derive(Debug)]
struct Transfer {
    bytes: u64,
    next: u64,
    hash: Sha256,
    kept: u64,
    out_of_order: bool,
    failed: Option<String>,
}

impl SftpAudit {
    /// Keeps up to `keep` bytes of each transfer's content.
    pub(crate) fn new(channel: u32, keep: u64) -> Self {
        Self {
            client: Framer::new(Side::Client),
            target: Framer::new(Side::Target),
            state: State {
                channel,
                keep,
                greeted: false,
                agreed: false,
                home: None,
                pending: HashMap::new(),
                handles: HashMap::new(),
                streaming: None,
                records: Vec::new(),
                done: Vec::new(),
            },
        }
    }

    /// Bytes on their way to the target.
    pub(crate) fn upward(&mut self, chunk: &Bytes) -> Result<(), Unreadable> {
        self.client.feed(chunk, &mut self.state)
    }

    /// Bytes on their way to the person.
    pub(crate) fn downward(&mut self, chunk: &Bytes) -> Result<(), Unreadable> {
        self.target.feed(chunk, &mut self.state)
    }

    /// The channel ends: what is still open ends as it is.
    pub(crate) fn finish(&mut self) {
        let cut = !(self.client.at_boundary() && self.target.at_boundary());
        let mut left: Vec<Opened> = self.state.handles.drain().map(|(_, opened)| opened).collect();
        left.sort_by(|a, b| a.path.cmp(&b.path));
        for mut opened in left {
            for transfer in [&mut opened.up, &mut opened.down].into_iter().flatten() {
                transfer
                    .failed
                    .get_or_insert_with(|| "the channel ended before the file was closed".to_owned());
            }
            self.state.close(opened);
        }
        if cut {
            self.state.note("the channel ended within a packet");
        }
    }

    /// What there is to write down, in order.
    pub(crate) fn take_records(&mut self) -> Vec<RecordKind> {
        std::mem::take(&mut self.state.records)
    }

    /// Which transfers have ended.
    pub(crate) fn take_done(&mut self) -> Vec<TransferDone> {
        std::mem::take(&mut self.state.done)
    }
}

impl Sink for State {
    fn wants_names(&self, id: u32) -> bool {
        matches!(self.pending.get(&id), Some(Pending::Home))
    }

    fn packet(&mut self, side: Side, kind: u8, body: &[u8]) -> Result<(), Unreadable> {
        match side {
            Side::Client => self.request(kind, Fields(body)),
            Side::Target => self.reply(kind, Fields(body)),
        }
    }

    fn content_begins(&mut self, head: ContentHead<'_>) -> Result<(), Unreadable> {
        let (handle, direction, offset) = match head.write {
            Some((handle, offset)) => {
                self.must_be_agreed()?;
                self.remember(head.id, Pending::Write { handle: handle.to_vec() })?;
                (handle.to_vec(), Direction::Upload, offset)
            }
            None => match self.pending.remove(&head.id) {
                Some(Pending::Read { handle, offset, length }) if head.length <= length => {
                    (handle, Direction::Download, offset)
                }
                Some(Pending::Read { .. }) => {
                    return Err(unreadable("the target sent more than was asked for"));
                }
                _ => return Err(unreadable("the target sent data that nobody asked for")),
            },
        };
        let begins = {
            // The target refuses a handle that it never gave; we have nothing to count then.
            let Some(opened) = self.handles.get_mut(&handle) else {
                self.streaming = None;
                return Ok(());
            };
            let slot = match direction {
                Direction::Upload => &mut opened.up,
                Direction::Download => &mut opened.down,
            };
            let begins = slot.is_none().then(|| opened.path.clone());
            let transfer = slot.get_or_insert_with(|| Transfer::new(offset));
            transfer.out_of_order |= transfer.next != offset;
            transfer.next = offset.saturating_add(u64::from(head.length));
            begins
        };
        if let Some(path) = begins {
            self.records.push(RecordKind::TransferBegin { channel: self.channel, path, direction });
        }
        self.streaming = Some((handle, direction));
        Ok(())
    }

    fn content(&mut self, bytes: Bytes) {
        let Some((handle, direction)) = &self.streaming else { return };
        let Some(opened) = self.handles.get_mut(handle) else { return };
        let transfer = match direction {
            Direction::Upload => opened.up.as_mut(),
            Direction::Download => opened.down.as_mut(),
        };
        let Some(transfer) = transfer else { return };
        transfer.hash.update(&bytes);
        transfer.bytes = transfer.bytes.saturating_add(bytes.len() as u64);
        let room = self.keep.saturating_sub(transfer.kept).min(bytes.len() as u64);
        if room > 0 {
            transfer.kept += room;
            let kept = bytes.slice(..room as usize);
            self.records.push(RecordKind::Content {
                channel: self.channel,
                direction: *direction,
                bytes: kept,
            });
        }
    }
}

impl State {
    fn must_be_agreed(&self) -> Result<(), Unreadable> {
        // Clients wait for the version before they ask: what comes earlier may be read differently over there.
        if self.agreed { Ok(()) } else { Err(unreadable("a request came before the version was agreed")) }
    }

    fn remember(&mut self, id: u32, pending: Pending) -> Result<(), Unreadable> {
        if self.pending.len() >= MOST_PENDING {
            return Err(unreadable("too many requests wait for a reply"));
        }
        if self.pending.insert(id, pending).is_some() {
            return Err(unreadable("two requests under way have the same number"));
        }
        Ok(())
    }

    fn request(&mut self, kind: u8, mut body: Fields<'_>) -> Result<(), Unreadable> {
        if kind == INIT {
            if std::mem::replace(&mut self.greeted, true) {
                return Err(unreadable("the client greeted twice"));
            }
            return Ok(());
        }
        self.must_be_agreed()?;
        let short = || unreadable(format!("a request of type {kind} is too short"));
        let id = body.number().ok_or_else(short)?;
        let pending = match kind {
            3 => {
                let path = self.path(body.bytes().ok_or_else(short)?);
                let flags = body.number().ok_or_else(short)?;
                let writes = flags & WRITES != 0;
                if writes {
                    self.asked(&format!("open {path} ({})", open_words(flags)));
                }
                Pending::Open { path, writes }
            }
            4 => Pending::Close { handle: body.bytes().ok_or_else(short)?.to_vec() },
            5 => Pending::Read {
                handle: body.bytes().ok_or_else(short)?.to_vec(),
                offset: body.long().ok_or_else(short)?,
                length: body.number().ok_or_else(short)?,
            },
            7 | 8 | 12 | 17 | 19 => Pending::Look,
            9 | 13 | 14 | 15 => {
                let op = match kind {
                    9 => "setstat",
                    13 => "remove",
                    14 => "mkdir",
                    _ => "rmdir",
                };
                let path = self.path(body.bytes().ok_or_else(short)?);
                self.operation(op, path, None)
            }
            10 => {
                let path = self.handle_path(body.bytes().ok_or_else(short)?);
                self.operation("setstat", path, None)
            }
            11 => Pending::Directory { path: self.path(body.bytes().ok_or_else(short)?) },
            16 => match body.bytes().ok_or_else(short)? {
                b"." | b"" => Pending::Home,
                _ => Pending::Look,
            },
            18 | 20 => {
                let first = self.path(body.bytes().ok_or_else(short)?);
                let second = self.path(body.bytes().ok_or_else(short)?);
                // OpenSSH takes the target of a symbolic link first, against the draft; both names are recorded.
                self.operation(if kind == 18 { "rename" } else { "symlink" }, first, Some(second))
            }
            200 => self.extended(body).ok_or_else(short)?,
            _ => return Err(unreadable(format!("a request of the unknown type {kind}"))),
        };
        self.remember(id, pending)
    }

    fn extended(&mut self, mut body: Fields<'_>) -> Option<Pending> {
        let name = body.bytes()?;
        Some(match name {
            b"posix-rename@openssh.com" | b"hardlink@openssh.com" => {
                let op = if name.starts_with(b"posix") { "rename" } else { "hardlink" };
                let first = self.path(body.bytes()?);
                let second = self.path(body.bytes()?);
                self.operation(op, first, Some(second))
            }
            b"lsetstat@openssh.com" => {
                let path = self.path(body.bytes()?);
                self.operation("setstat", path, None)
            }
            b"copy-data" => {
                let from = self.handle_path(body.bytes()?);
                let (_offset, _length) = (body.long()?, body.long()?);
                let to = self.handle_path(body.bytes()?);
                self.operation("copy-data", from, Some(to))
            }
            b"statvfs@openssh.com"
            | b"fstatvfs@openssh.com"
            | b"fsync@openssh.com"
            | b"limits@openssh.com"
            | b"expand-path@openssh.com"
            | b"home-directory"
            | b"users-groups-by-id@openssh.com" => Pending::Look,
            other => {
                // Not known here: whatever it does, that it was asked for is on record.
                let op = format!("extended {}", printable(&String::from_utf8_lossy(other), 100));
                self.operation(&op, String::new(), None)
            }
        })
    }

    fn reply(&mut self, kind: u8, mut body: Fields<'_>) -> Result<(), Unreadable> {
        let short = || unreadable(format!("a reply of type {kind} is too short"));
        if kind == VERSION {
            let version = body.number().ok_or_else(short)?;
            if !self.greeted || self.agreed || version != 3 {
                return Err(unreadable(format!("version {version} of the protocol is not supported")));
            }
            self.agreed = true;
            return Ok(());
        }
        let id = body.number().ok_or_else(short)?;
        let pending = self.pending.remove(&id).ok_or_else(|| unreadable("a reply to no request"))?;
        match (kind, pending) {
            (STATUS, pending) => {
                let code = body.number().ok_or_else(short)?;
                let words = body.bytes().map(|words| printable(&String::from_utf8_lossy(words), 200));
                self.status(pending, code, words.unwrap_or_default());
            }
            (HANDLE, Pending::Open { path, writes }) => {
                let handle = body.bytes().ok_or_else(short)?.to_vec();
                self.file_op("open", path.clone(), None, Outcome::Done);
                self.opened(handle, Opened { path, writes, directory: false, up: None, down: None })?;
            }
            (HANDLE, Pending::Directory { path }) => {
                let handle = body.bytes().ok_or_else(short)?.to_vec();
                self.opened(handle, Opened { path, writes: false, directory: true, up: None, down: None })?;
            }
            (NAME, Pending::Home) => {
                let count = body.number().ok_or_else(short)?;
                if count > 0 {
                    let name = body.bytes().ok_or_else(short)?;
                    self.home = Some(printable(&String::from_utf8_lossy(name), PATH_CHARACTERS));
                }
            }
            (NAME | 105 | 201, Pending::Look) => {}
            // An extension that we do not know may answer with its own reply.
            (201, Pending::Operation { op, path, path2 }) => self.file_op(&op, path, path2, Outcome::Done),
            _ => return Err(unreadable(format!("a reply of type {kind} does not fit its request"))),
        }
        Ok(())
    }

    fn status(&mut self, pending: Pending, code: u32, words: String) {
        let outcome = match code {
            STATUS_OK => Outcome::Done,
            _ if words.is_empty() => Outcome::Failed { reason: format!("status {code}") },
            _ => Outcome::Failed { reason: words },
        };
        match pending {
            Pending::Open { path, .. } => self.file_op("open", path, None, outcome),
            Pending::Operation { op, path, path2 } => self.file_op(&op, path, path2, outcome),
            Pending::Write { handle } => self.failed(&handle, Direction::Upload, outcome),
            Pending::Read { handle, .. } if code != STATUS_EOF => {
                self.failed(&handle, Direction::Download, outcome);
            }
            Pending::Close { handle } => {
                if let Some(opened) = self.handles.remove(&handle) {
                    self.close(opened);
                }
            }
            Pending::Read { .. } | Pending::Directory { .. } | Pending::Home | Pending::Look => {}
        }
    }

    fn failed(&mut self, handle: &[u8], direction: Direction, outcome: Outcome) {
        let Outcome::Failed { reason } = outcome else { return };
        let Some(opened) = self.handles.get_mut(handle) else { return };
        let transfer = match direction {
            Direction::Upload => &mut opened.up,
            Direction::Download => &mut opened.down,
        };
        if let Some(transfer) = transfer {
            transfer.failed.get_or_insert(reason);
        }
    }

    fn opened(&mut self, handle: Vec<u8>, opened: Opened) -> Result<(), Unreadable> {
        if self.handles.len() >= MOST_PENDING {
            return Err(unreadable("too many files are open"));
        }
        match self.handles.insert(handle, opened) {
            None => Ok(()),
            Some(_) => Err(unreadable("the target gave the same handle twice")),
        }
    }

    fn close(&mut self, mut opened: Opened) {
        if opened.directory {
            return;
        }
        if opened.writes && opened.up.is_none() && opened.down.is_none() {
            // An empty file is a transfer too.
            self.records.push(RecordKind::TransferBegin {
                channel: self.channel,
                path: opened.path.clone(),
                direction: Direction::Upload,
            });
            opened.up = Some(Transfer::new(0));
        }
        for (transfer, direction) in [(opened.up, Direction::Upload), (opened.down, Direction::Download)] {
            let Some(transfer) = transfer else { continue };
            if transfer.out_of_order {
                self.note(&format!(
                    "parts of {} came out of order; the digest of its {} is over them as they came",
                    opened.path,
                    direction.word()
                ));
            }
            let sha256 = Hash(transfer.hash.finalize().into());
            let outcome = match transfer.failed {
                None => Outcome::Done,
                Some(reason) => Outcome::Failed { reason },
            };
            let (path, bytes) = (opened.path.clone(), transfer.bytes);
            self.done.push(TransferDone { path: path.clone(), direction, bytes, sha256 });
            self.records.push(RecordKind::TransferEnd {
                channel: self.channel,
                path,
                direction,
                bytes,
                sha256,
                outcome,
            });
        }
    }

    /// Says what was asked for before it can have an effect; how it went comes with the reply.
    fn asked(&mut self, what: &str) {
        self.records.push(RecordKind::Command { channel: self.channel, text: format!("sftp {what}") });
    }

    fn operation(&mut self, op: &str, path: String, path2: Option<String>) -> Pending {
        match &path2 {
            Some(path2) => self.asked(&format!("{op} {path} {path2}")),
            None => self.asked(&format!("{op} {path}")),
        }
        Pending::Operation { op: op.to_owned(), path, path2 }
    }

    fn file_op(&mut self, op: &str, path: String, path2: Option<String>, outcome: Outcome) {
        let op = op.to_owned();
        self.records.push(RecordKind::FileOp { channel: self.channel, op, path, path2, outcome });
    }

    fn note(&mut self, text: &str) {
        self.records.push(RecordKind::Note { text: format!("sftp: {text}") });
    }

    /// A path as it is recorded: from the root where the client asked for its home folder, printable, bounded.
    fn path(&self, raw: &[u8]) -> String {
        let text = printable(&String::from_utf8_lossy(raw), PATH_CHARACTERS);
        match &self.home {
            Some(home) if !text.starts_with('/') => format!("{}/{text}", home.trim_end_matches('/')),
            _ => text,
        }
    }

    fn handle_path(&self, handle: &[u8]) -> String {
        self.handles.get(handle).map_or_else(|| "(an unknown file)".to_owned(), |opened| opened.path.clone())
    }
}

impl Transfer {
    fn new(offset: u64) -> Self {
        Self { bytes: 0, next: offset, hash: Sha256::new(), kept: 0, out_of_order: false, failed: None }
    }
}

fn open_words(flags: u32) -> String {
    [
        (READS, "read"),
        (0x02, "write"),
        (0x04, "append"),
        (0x08, "create"),
        (0x10, "truncate"),
        (0x20, "exclusive"),
    ]
    .into_iter()
    .filter(|(bit, _)| flags & bit != 0)
    .map(|(_, word)| word)
    .collect::<Vec<_>>()
    .join(", ")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
