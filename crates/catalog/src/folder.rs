//! The one place that opens files.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::diagnostic::{Diagnostic, Place};
use crate::load::{Loaded, Source, load};
use crate::read::MOST_FILE_BYTES;
use crate::systems::Open;

/// Files in a folder.
const MOST_FILES: usize = 2000;
/// All YAML and JSON of a folder together, in bytes.
const MOST_BYTES: u64 = 128 << 20;

/// Loads a file, or every `*.yaml`, `*.yml`, `*.json` and `*.jsonl` of a folder by name. Subfolders and hidden files are left alone.
pub fn load_folder(path: impl AsRef<Path>) -> Result<Loaded, Vec<Diagnostic>> {
    load(sources(path.as_ref())?)
}

/// What [`load_folder`] loads, for those who send it elsewhere.
pub fn sources(path: &Path) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let files = list(path).map_err(|error| vec![unreadable(path, &error.to_string())])?;
    if files.is_empty() {
        return Err(vec![unreadable(path, "there is no *.yaml, *.json or *.jsonl in it")]);
    }
    if files.len() > MOST_FILES {
        return Err(vec![unreadable(path, &format!("it has more than {MOST_FILES} files"))]);
    }
    let (mut sources, mut errors, mut left) = (Vec::new(), Vec::new(), MOST_BYTES);
    for file in files {
        match source(&file, &mut left) {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(unreadable(&file, &error.to_string())),
        }
    }
    if errors.is_empty() { Ok(sources) } else { Err(errors) }
}

fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        let hidden = entry.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let wanted = extension(&entry).is_some_and(|end| matches!(end, "yaml" | "yml" | "json" | "jsonl"));
        if wanted && !hidden && fs::metadata(&entry)?.is_file() {
            files.push(entry);
        }
    }
    files.sort();
    Ok(files)
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|end| end.to_str())
}

fn source(path: &Path, left: &mut u64) -> io::Result<Source> {
    let name = path.display().to_string();
    if extension(path) == Some("jsonl") {
        return Ok(Source::lines(name, stream(path)?));
    }
    let file = File::open(path)?;
    let large = || io::Error::other("it is too large: write systems as JSON Lines, in systems*.jsonl");
    if file.metadata()?.len() > MOST_FILE_BYTES.min(*left) {
        return Err(large());
    }
    let mut text = String::new();
    // The length may have changed since it was asked for.
    let read = file.take(MOST_FILE_BYTES + 1).read_to_string(&mut text)? as u64;
    *left = left.checked_sub(read).ok_or_else(large)?;
    Ok(Source::text(name, text))
}

/// Opens the file each time, and refuses when it is not the one of the first time any more: what was checked is what is used.
fn stream(path: &Path) -> io::Result<Open> {
    let path = path.to_owned();
    let first = fingerprint(&fs::metadata(&path)?)?;
    Ok(Arc::new(move || {
        let file = File::open(&path)?;
        if fingerprint(&file.metadata()?)? != first {
            return Err(io::Error::other("it was changed in the meantime; start again"));
        }
        Ok(Box::new(BufReader::with_capacity(1 << 17, file)) as Box<dyn BufRead>)
    }))
}

fn fingerprint(metadata: &Metadata) -> io::Result<(u64, SystemTime)> {
    Ok((metadata.len(), metadata.modified()?))
}

fn unreadable(path: &Path, say: &str) -> Diagnostic {
    let name = path.display().to_string();
    Place { file: Arc::from(name.as_str()), line: 0, column: 0 }.error("unreadable", name.clone(), say)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systems::Systems;
    use std::ops::ControlFlow;

    #[test]
    fn a_folder_is_read_by_name_and_noticed_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("b.yaml"), "organisation: X\n").unwrap();
        fs::write(at("a.json"), "{\"groups\": {\n\t\"g\": {}}}").unwrap();
        fs::write(at(".hidden.yaml"), "nonsense").unwrap();
        fs::write(at("README.md"), "nonsense").unwrap();
        fs::write(at("systems.jsonl"), "{\"name\":\"a\",\"kind\":\"ssh\",\"address\":\"x:1\"}\n").unwrap();
        let loaded = load_folder(folder.path()).unwrap();
        assert_eq!((loaded.catalog.organisation.as_str(), loaded.catalog.groups.len()), ("X", 1));
        assert_eq!(loaded.sources.len(), 3);
        fs::write(at("systems.jsonl"), "").unwrap();
        let outcome = loaded.systems.each(&mut |_, _| ControlFlow::Continue(()));
        assert!(outcome.unwrap_err().to_string().contains("changed in the meantime"));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load_folder(folder.path()).unwrap_err()[0].code, "unreadable");
        assert_eq!(load_folder(folder.path().join("none.yaml")).unwrap_err()[0].code, "unreadable");
        let large = folder.path().join("large.yaml");
        File::create(&large).unwrap().set_len(MOST_FILE_BYTES + 1).unwrap();
        assert!(load_folder(&large).unwrap_err()[0].say.contains("JSON Lines"));
    }
}
