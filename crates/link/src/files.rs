//! Small private files of a node: written whole or not at all, readable by their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::LinkError;

/// Larger files are not ours.
const MOST_BYTES: u64 = 1024 * 1024;

/// Writes a file that only its owner can read (mode 0600), synced with its folder. With `replace` false an existing file
/// stays as it is and this fails.
pub(crate) fn write_private(path: &Path, text: &str, replace: bool) -> Result<(), LinkError> {
    let what = || format!("write {}", path.display());
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|error| LinkError::Io { what: what(), source: error.into() })?;
    let draft = sibling(path, &format!("{}.draft", hex::encode(random)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if replace { fs::rename(&draft, path) } else { fs::hard_link(&draft, path) }?;
        sync_folder(path)
    })();
    if written.is_err() || !replace {
        // The draft is either in place under its true name or worth nothing.
        let _ = fs::remove_file(&draft);
    }
    written.map_err(LinkError::io(what()))
}

/// Renames a private file over another, synced.
pub(crate) fn promote(from: &Path, to: &Path) -> Result<(), LinkError> {
    fs::rename(from, to).and_then(|()| sync_folder(to)).map_err(LinkError::io(format!(
        "put {} in the place of {}",
        from.display(),
        to.display()
    )))
}

/// Reads a private file; `None` if there is none. One that others can read or write is refused.
pub(crate) fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, LinkError> {
    let what = || format!("read {}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LinkError::io(what())(error)),
    };
    let facts = file.metadata().map_err(LinkError::io(what()))?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let say = format!(
            "others than its owner can reach it (mode {mode:o}); make it 600 and replace what is in it"
        );
        return Err(LinkError::Io { what: what(), source: std::io::Error::other(say) });
    }
    if !facts.is_file() || facts.len() > MOST_BYTES {
        let source = std::io::Error::other("it is no small regular file");
        return Err(LinkError::Io { what: what(), source });
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(facts.len()).unwrap_or(0) + 1));
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(LinkError::io(what()))?;
    Ok(Some(text))
}

pub(crate) fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_whole_private_and_not_replaced_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(read_private(&path).unwrap().is_none());
        write_private(&path, "one", false).unwrap();
        assert!(write_private(&path, "two", false).is_err());
        assert_eq!(read_private(&path).unwrap().unwrap().as_str(), "one");
        write_private(&path, "three", true).unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap().as_str(), "three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no drafts stay behind");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().starts_with("failed to read"));
    }
}
