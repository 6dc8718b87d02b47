//! Writes a bundle. What goes in is collected by control; this knows no store.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use halligan_core::command::DocumentRef;
use halligan_core::ids::{IncidentId, Name, RecordingId};
use halligan_core::time::Time;
use halligan_ledger::{Checkpoint, NoteError, SignedNote, TileReader, TreeError, TrustPolicy, disk};

use crate::container::{ArchiveWriter, ContainerError};
use crate::layout::{self, Earlier, LeafLine, Manifest, ManifestMember};
use crate::page;
use crate::story::Story;

/// Why a bundle was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("failed to write the bundle")]
    Container(#[from] ContainerError),
    #[error("failed to {doing} {path}")]
    File {
        doing: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to read {what} for the report")]
    Form {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("failed to read a checkpoint")]
    Checkpoint(#[from] NoteError),
    #[error("failed to write the report")]
    Page(#[source] askama::Error),
    #[error("the incident's own document is not among the documents")]
    NoIncident,
}

/// Leaves of one ledger, proved to one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerPart {
    /// The checkpoint.
    pub checkpoint: SignedNote,
    /// Leaves by index, each with its proof.
    pub leaves: Vec<LeafLine>,
    /// Older checkpoints that it continues.
    pub earlier: Vec<Earlier>,
}

impl LedgerPart {
    /// Makes the proofs of these leaves (in order of index) from the ledger's tiles. An older checkpoint that lies
    /// beyond the newer one is left out: it proves nothing here, and `verify` of the folder names it.
    ///
    /// # Errors
    /// When a tile cannot be read or a checkpoint is none.
    pub fn collect<R: TileReader>(
        tiles: &R,
        checkpoint: SignedNote,
        leaves: Vec<(u64, Vec<u8>)>,
        earlier: &[SignedNote],
    ) -> Result<Self, CollectError<R::Error>>
    where
        R::Error: 'static,
    {
        let head = Checkpoint::parse(checkpoint.body())?;
        let leaves = leaves
            .into_iter()
            .map(|(index, leaf)| {
                Ok(LeafLine { index, leaf, proof: tiles.inclusion_proof(index, head.size)? })
            })
            .collect::<Result<_, TreeError<R::Error>>>()?;
        let mut continued = Vec::new();
        for note in earlier {
            let old = Checkpoint::parse(note.body())?;
            if old.origin == head.origin && old.size <= head.size {
                let proof = tiles.consistency_proof(old.size, head.size)?;
                continued.push(Earlier { checkpoint: note.clone(), proof });
            }
        }
        Ok(Self { checkpoint, leaves, earlier: continued })
    }
}

/// Why proofs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CollectError<E: std::error::Error + 'static> {
    #[error("failed to read a checkpoint")]
    Checkpoint(#[from] NoteError),
    #[error("failed to make a proof")]
    Tree(#[from] TreeError<E>),
}

/// Everything that a bundle holds.
pub struct Contents {
    /// Which incident.
    pub incident: IncidentId,
    /// When it is made.
    pub created: Time,
    /// Documents with their stored bytes; standings are left out.
    pub documents: BTreeMap<DocumentRef, Vec<u8>>,
    /// Control's ledger.
    pub control: LedgerPart,
    /// Ledgers of nodes.
    pub nodes: BTreeMap<Name, LedgerPart>,
    /// Recordings, as files.
    pub recordings: Vec<(RecordingId, PathBuf)>,
    /// The ledgers' keys.
    pub policy: TrustPolicy,
}

/// A bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the file.
    pub bytes: u64,
    /// Members, manifest and sums included.
    pub members: usize,
}

/// Writes the bundle to `path`, which is replaced as a whole; only its owner can read it. Blocks for the disk.
///
/// # Errors
/// When something cannot be read or written; no file is left then.
pub fn write_bundle(path: &Path, contents: &Contents) -> Result<Written, WriteError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let done = write_new(&temporary, contents).and_then(|written| {
        fs::rename(&temporary, path).map_err(file_error("rename", path))?;
        disk::sync_folder(disk::folder_of(path)).map_err(file_error("sync the folder of", path))?;
        Ok(written)
    });
    if done.is_err() {
        // The first error is the one worth telling.
        let _ = fs::remove_file(&temporary);
    }
    done
}

fn file_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> WriteError {
    move |source| WriteError::File { doing, path: path.display().to_string(), source }
}

fn write_new(path: &Path, contents: &Contents) -> Result<Written, WriteError> {
    let failed = file_error("make", path);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(&failed)?;
    let story = story_of(contents)?;
    let incident = story.incident(contents.incident).ok_or(WriteError::NoIncident)?;
    let seconds = u64::try_from(contents.created.micros() / 1_000_000).unwrap_or(0);
    let mut out = ArchiveWriter::new(BufWriter::with_capacity(256 * 1024, file), seconds);
    let report = page::render(&story, contents.incident, contents.created).map_err(WriteError::Page)?;
    put(&mut out, layout::REPORT, report.as_bytes())?;
    put(&mut out, layout::POLICY, contents.policy.to_string().as_bytes())?;
    for (document, body) in &contents.documents {
        if let Some(name) = layout::document_path(document) {
            put(&mut out, &name, body)?;
        }
    }
    put_ledger(&mut out, layout::CONTROL, &contents.control)?;
    for (node, part) in &contents.nodes {
        put_ledger(&mut out, &layout::node_folder(node), part)?;
    }
    for (recording, from) in &contents.recordings {
        let failed = file_error("read", from);
        let file = File::open(from).map_err(&failed)?;
        let bytes = file.metadata().map_err(&failed)?.len();
        out.add(&layout::recording_path(*recording), bytes, file)?;
    }
    let members = out
        .members()
        .iter()
        .map(|(name, bytes, sha256)| ManifestMember {
            name: name.clone(),
            bytes: *bytes,
            sha256: sha256.clone(),
        })
        .collect();
    let manifest = Manifest {
        format: layout::FORMAT,
        incident: contents.incident,
        number: incident.number,
        created: contents.created,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        report: layout::REPORT_VERSION,
        members,
    };
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|source| WriteError::Form { what: "the manifest".to_owned(), source })?;
    put(&mut out, layout::MANIFEST, &text)?;
    let sums = sums(out.members());
    put(&mut out, layout::SUMS, sums.as_bytes())?;
    let count = out.members().len();
    let file = out.finish()?.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(&failed)?;
    let bytes = file.metadata().map_err(&failed)?.len();
    Ok(Written { bytes, members: count })
}

type Out = ArchiveWriter<BufWriter<File>>;

fn put(out: &mut Out, name: &str, bytes: &[u8]) -> Result<(), ContainerError> {
    out.add(name, bytes.len() as u64, bytes).map(drop)
}

fn put_ledger(out: &mut Out, folder: &str, part: &LedgerPart) -> Result<(), WriteError> {
    put(out, &layout::checkpoint_path(folder), part.checkpoint.to_string().as_bytes())?;
    put(out, &layout::leaves_path(folder), &lines(&part.leaves)?)?;
    if !part.earlier.is_empty() {
        put(out, &layout::earlier_path(folder), &lines(&part.earlier)?)?;
    }
    Ok(())
}

fn lines<T: serde::Serialize>(values: &[T]) -> Result<Vec<u8>, WriteError> {
    let mut out = Vec::new();
    for value in values {
        serde_json::to_writer(&mut out, value)
            .map_err(|source| WriteError::Form { what: "a leaf".to_owned(), source })?;
        out.push(b'\n');
    }
    Ok(out)
}

/// The lines that `sha256sum -c` reads.
pub(crate) fn sums(members: &[(String, u64, String)]) -> String {
    members.iter().map(|(name, _, sha256)| format!("{sha256}  {name}\n")).collect()
}

fn story_of(contents: &Contents) -> Result<Story, WriteError> {
    let mut story = Story::default();
    let form = |what: String| move |source| WriteError::Form { what, source };
    for (document, body) in &contents.documents {
        if layout::document_path(document).is_some() {
            story.insert(document, body).map_err(form(crate::replay::name(document)))?;
        }
    }
    story.heads.push(Checkpoint::parse(contents.control.checkpoint.body())?);
    for line in &contents.control.leaves {
        let leaf = serde_json::from_slice(&line.leaf).map_err(form(format!("leaf {}", line.index)))?;
        story.leaves.push((line.index, leaf));
    }
    for (node, part) in &contents.nodes {
        story.heads.push(Checkpoint::parse(part.checkpoint.body())?);
        let mut leaves = Vec::new();
        for line in &part.leaves {
            let what = format!("leaf {} of {node}", line.index);
            leaves.push((line.index, serde_json::from_slice(&line.leaf).map_err(form(what))?));
        }
        story.nodes.insert(node.clone(), leaves);
    }
    Ok(story)
}
