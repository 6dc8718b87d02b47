//! The file that holds a bundle: a POSIX tar (ustar, IEEE 1003.1), so that `tar -xf` opens it on any machine without us.
//!
//! No compression: recordings are compressed and sealed already, and a reader of a stored file allocates nothing it
//! was not given. There is exactly one way to write a given list of members, and the reader accepts no other, so that
//! headers, padding and end cannot hide or lose a bit either.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

const BLOCK: usize = 512;
const NAME_BYTES: usize = 100;
/// Eleven octal digits: 8 GiB less one byte.
pub const MAX_MEMBER_BYTES: u64 = (1 << 33) - 1;
/// A bundle with more members is refused.
pub const MAX_MEMBERS: usize = 100_000;

/// Why a bundle's file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("failed to read the file")]
    Read(#[source] io::Error),
    #[error("failed to write {name}")]
    Write {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("the file is cut short at byte {at}")]
    Short { at: u64 },
    #[error("the header at byte {at} is not the one that its member has; it was changed")]
    Header { at: u64 },
    #[error("bytes after {name} that must be zero are not")]
    Padding { name: String },
    #[error("there is something after the end, at byte {at}")]
    AfterEnd { at: u64 },
    #[error("{name} stands in the file twice")]
    Twice { name: String },
    #[error("the file has more than {MAX_MEMBERS} members")]
    TooMany,
    #[error("{name} cannot be a member: its name or its {bytes} bytes do not fit")]
    DoesNotFit { name: String, bytes: u64 },
    #[error("there is no {name}")]
    Missing { name: String },
    #[error("{name} has {bytes} bytes; at most {limit} are read")]
    TooLarge { name: String, bytes: u64, limit: u64 },
}

/// A file inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path, `recordings/rec_….hrec`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, hex.
    pub sha256: String,
    offset: u64,
}

/// A bundle's file, its structure checked and its members hashed.
pub struct Archive {
    file: File,
    members: Vec<Member>,
    /// The time that every header carries, in seconds since 1970.
    pub written_at: u64,
}

impl Archive {
    /// Reads the whole file once.
    pub fn open(path: &Path) -> Result<Self, ContainerError> {
        let file = File::open(path).map_err(ContainerError::Read)?;
        let mut input = BufReader::with_capacity(256 * 1024, file.try_clone().map_err(ContainerError::Read)?);
        let mut members: Vec<Member> = Vec::new();
        let (mut at, mut written_at) = (0_u64, None);
        loop {
            let header = block(&mut input, at)?;
            if header == [0; BLOCK] {
                break;
            }
            let (name, bytes, time) = parse(&header).ok_or(ContainerError::Header { at })?;
            let expected = encode(&name, bytes, *written_at.get_or_insert(time));
            if expected != Some(header) {
                return Err(ContainerError::Header { at });
            }
            if members.iter().any(|member| member.name == name) {
                return Err(ContainerError::Twice { name });
            }
            if members.len() >= MAX_MEMBERS {
                return Err(ContainerError::TooMany);
            }
            let offset = at + BLOCK as u64;
            let sha256 = hash(&mut input, bytes, offset)?;
            at = offset + bytes;
            let padding = padding(bytes);
            let mut zeros = vec![0; padding];
            input.read_exact(&mut zeros).map_err(short(at))?;
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(ContainerError::Padding { name });
            }
            at += padding as u64;
            members.push(Member { name, bytes, sha256, offset });
        }
        let second = block(&mut input, at + BLOCK as u64)?;
        at += 2 * BLOCK as u64;
        let mut rest = [0_u8; 1];
        let more = input.read(&mut rest).map_err(ContainerError::Read)?;
        if second != [0; BLOCK] || more != 0 {
            return Err(ContainerError::AfterEnd { at });
        }
        Ok(Self { file, members, written_at: written_at.unwrap_or_default() })
    }

    /// What is inside, in order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The content of a member of at most `limit` bytes.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, ContainerError> {
        let member = self.member(name).ok_or_else(|| ContainerError::Missing { name: name.to_owned() })?;
        if member.bytes > limit {
            return Err(ContainerError::TooLarge { name: name.to_owned(), bytes: member.bytes, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(member.bytes).unwrap_or(0));
        self.content(name)?.read_to_end(&mut bytes).map_err(ContainerError::Read)?;
        Ok(bytes)
    }

    /// Reads a member piece by piece. One at a time: all share the file's position.
    pub fn content(&self, name: &str) -> Result<impl Read + use<>, ContainerError> {
        let member = self.member(name).ok_or_else(|| ContainerError::Missing { name: name.to_owned() })?;
        let mut file = self.file.try_clone().map_err(ContainerError::Read)?;
        file.seek(SeekFrom::Start(member.offset)).map_err(ContainerError::Read)?;
        Ok(BufReader::with_capacity(64 * 1024, file).take(member.bytes))
    }
}

fn short(at: u64) -> impl Fn(io::Error) -> ContainerError {
    move |error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ContainerError::Short { at },
        _ => ContainerError::Read(error),
    }
}

fn block(input: &mut impl Read, at: u64) -> Result<[u8; BLOCK], ContainerError> {
    let mut block = [0; BLOCK];
    input.read_exact(&mut block).map_err(short(at))?;
    Ok(block)
}

fn hash(input: &mut impl Read, bytes: u64, at: u64) -> Result<String, ContainerError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..want).unwrap_or_default();
        input.read_exact(piece).map_err(short(at + bytes - left))?;
        hasher.update(&piece);
        left -= piece.len() as u64;
    }
    Ok(hex::encode(hasher.finalize()))
}

const fn padding(bytes: u64) -> usize {
    let over = (bytes % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

/// Names are plain ASCII paths below the bundle: nothing that `tar -x` could put elsewhere.
fn fits(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    name.len() <= NAME_BYTES && name.split('/').all(plain)
}

/// The one header of a member.
fn encode(name: &str, bytes: u64, time: u64) -> Option<[u8; BLOCK]> {
    if !fits(name) || bytes > MAX_MEMBER_BYTES || time > MAX_MEMBER_BYTES {
        return None;
    }
    let mut header = Vec::with_capacity(BLOCK);
    let mut field = |text: String, width: usize| {
        header.extend_from_slice(text.as_bytes());
        header.resize(header.len() + width.saturating_sub(text.len()), 0);
    };
    field(name.to_owned(), NAME_BYTES);
    field("0000644".to_owned(), 8);
    field("0000000".to_owned(), 8);
    field("0000000".to_owned(), 8);
    field(format!("{bytes:011o}"), 12);
    field(format!("{time:011o}"), 12);
    field("        ".to_owned(), 8);
    field("0".to_owned(), 1);
    field(String::new(), 100);
    field("ustar".to_owned(), 6);
    field("00".to_owned(), 2);
    field(String::new(), 247);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let check = format!("{sum:06o}\0 ");
    for (slot, byte) in header.iter_mut().skip(148).zip(check.bytes()) {
        *slot = byte;
    }
    header.try_into().ok()
}

fn parse(header: &[u8; BLOCK]) -> Option<(String, u64, u64)> {
    let text = |from: usize, width: usize| {
        let field = header.get(from..from + width)?;
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(width);
        std::str::from_utf8(field.get(..end)?).ok()
    };
    let octal = |from: usize| u64::from_str_radix(text(from, 12)?, 8).ok();
    Some((text(0, NAME_BYTES)?.to_owned(), octal(124)?, octal(136)?))
}

/// Writes a bundle's file, member by member.
pub struct ArchiveWriter<W: Write> {
    output: W,
    time: u64,
    members: Vec<(String, u64, String)>,
}

impl<W: Write> ArchiveWriter<W> {
    /// Every header carries `time`, in seconds since 1970.
    pub fn new(output: W, time: u64) -> Self {
        Self { output, time, members: Vec::new() }
    }

    /// Adds a member of exactly `bytes` bytes. Gives its SHA-256, hex.
    pub fn add(&mut self, name: &str, bytes: u64, mut content: impl Read) -> Result<String, ContainerError> {
        let failed = |source| ContainerError::Write { name: name.to_owned(), source };
        if self.members.iter().any(|(other, ..)| other == name) {
            return Err(ContainerError::Twice { name: name.to_owned() });
        }
        let header = encode(name, bytes, self.time)
            .ok_or_else(|| ContainerError::DoesNotFit { name: name.to_owned(), bytes })?;
        self.output.write_all(&header).map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..want).unwrap_or_default();
            content.read_exact(piece).map_err(failed)?;
            hasher.update(&piece);
            self.output.write_all(piece).map_err(failed)?;
            left -= piece.len() as u64;
        }
        self.output.write_all(&vec![0; padding(bytes)]).map_err(failed)?;
        let sha256 = hex::encode(hasher.finalize());
        self.members.push((name.to_owned(), bytes, sha256.clone()));
        Ok(sha256)
    }

    /// What was added so far: name, bytes, SHA-256 in hex.
    #[must_use]
    pub fn members(&self) -> &[(String, u64, String)] {
        &self.members
    }

    /// Writes the end and gives the output back.
    pub fn finish(mut self) -> Result<W, ContainerError> {
        let failed = |source| ContainerError::Write { name: "the end".to_owned(), source };
        self.output.write_all(&[0; 2 * BLOCK]).map_err(failed)?;
        self.output.flush().map_err(failed)?;
        Ok(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path) -> std::path::PathBuf {
        let mut writer = ArchiveWriter::new(Vec::new(), 1_700_000_000);
        writer.add("a.json", 2, &b"{}"[..]).unwrap();
        writer.add("deep/er/empty", 0, &b""[..]).unwrap();
        writer.add("block", 512, &[7_u8; 512][..]).unwrap();
        let path = folder.join("x.tar");
        std::fs::write(&path, writer.finish().unwrap()).unwrap();
        path
    }

    #[test]
    fn stock_tar_reads_what_we_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let archive = Archive::open(&path).unwrap();
        assert_eq!(archive.read("a.json", 10).unwrap(), b"{}");
        assert_eq!(archive.members().len(), 3);
        let listed = std::process::Command::new("tar").arg("-tf").arg(&path).output().unwrap();
        assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
        assert_eq!(String::from_utf8(listed.stdout).unwrap(), "a.json\ndeep/er/empty\nblock\n");
    }

    #[test]
    fn every_bit_of_the_structure_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let digests = |path: &Path| {
            Archive::open(path).ok().map(|archive| (archive.members().to_vec(), archive.written_at))
        };
        let before = digests(&path);
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1 << (place % 8);
            std::fs::write(&path, &changed).unwrap();
            assert_ne!(digests(&path), before, "byte {place}");
        }
        for cut in [1, 511, 512, 1024, whole.len() - 10] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert!(Archive::open(&path).is_err(), "cut by {cut}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        std::fs::write(&path, &longer).unwrap();
        assert!(matches!(Archive::open(&path), Err(ContainerError::AfterEnd { .. })));
    }

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        let mut writer = ArchiveWriter::new(Vec::new(), 0);
        for name in ["../x", "/x", "a//b", "a/../b", ".hidden", "a b", "", &"x".repeat(101)] {
            assert!(writer.add(name, 0, &b""[..]).is_err(), "{name}");
        }
    }
}
