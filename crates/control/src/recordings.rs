//! Finished recordings, as files that control keeps for its gateways: taken in pieces, read back, then acknowledged.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use halligan_core::ids::RecordingId;
use sha2::{Digest, Sha256};

use crate::error::ControlError;

/// A folder of recordings.
pub struct Recordings {
    folder: PathBuf,
}

impl Recordings {
    /// Opens the folder.
    pub fn open(folder: &Path) -> Result<Self, ControlError> {
        std::fs::create_dir_all(folder).map_err(ControlError::local(format!("make {}", folder.display())))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where a finished recording lies.
    pub fn path(&self, recording: RecordingId) -> PathBuf {
        self.folder.join(format!("{recording}.hrec"))
    }
    fn part(&self, recording: RecordingId) -> PathBuf {
        self.folder.join(format!("{recording}.part"))
    }

    /// Whether it is here.
    pub fn has(&self, recording: RecordingId) -> bool {
        self.path(recording).is_file()
    }

    /// Bytes held of one that is coming in.
    pub fn held(&self, recording: RecordingId) -> u64 {
        std::fs::metadata(self.part(recording)).map_or(0, |meta| meta.len())
    }

    /// Takes a piece; says where the next begins. Blocks for the disk.
    pub fn take(&self, recording: RecordingId, offset: u64, data: &[u8]) -> Result<u64, ControlError> {
        let what = || ControlError::local(format!("keep recording {recording}"));
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.part(recording))
            .map_err(what())?;
        let held = file.metadata().map_err(what())?.len();
        if offset > held {
            return Ok(held);
        }
        file.seek(SeekFrom::Start(offset)).map_err(what())?;
        file.write_all(data).map_err(what())?;
        Ok(offset + data.len() as u64)
    }

    /// All pieces are here: syncs, renames, reads back. Gives the SHA-256 (hex) of what was read. Blocks for the disk.
    pub fn finish(&self, recording: RecordingId) -> Result<String, ControlError> {
        let what = || ControlError::local(format!("keep recording {recording}"));
        let path = self.path(recording);
        if !path.is_file() {
            let file = File::open(self.part(recording)).map_err(what())?;
            file.sync_all().map_err(what())?;
            std::fs::rename(self.part(recording), &path).map_err(what())?;
            halligan_ledger::disk::sync_folder(&self.folder).map_err(what())?;
        }
        self.digest(recording)
    }

    /// Throws away what came in of a recording whose digest was not the one announced.
    pub fn forget(&self, recording: RecordingId) -> Result<(), ControlError> {
        for path in [self.part(recording), self.path(recording)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ControlError::local(format!("remove {}", path.display()))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// SHA-256 (hex) of a finished recording, read from the disk. Blocks.
    pub fn digest(&self, recording: RecordingId) -> Result<String, ControlError> {
        let what = || ControlError::local(format!("read recording {recording}"));
        let mut file = File::open(self.path(recording)).map_err(what())?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0u8; 128 * 1024];
        loop {
            let count = file.read(&mut buffer).map_err(what())?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            hash.update(piece);
        }
        Ok(hex::encode(hash.finalize()))
    }
}
