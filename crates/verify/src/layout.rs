//! What lies where in a bundle, and in what form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_core::command::DocumentRef;
use halligan_core::ids::{IncidentId, Name, RecordingId};
use halligan_core::time::Time;
use halligan_ledger::{Hash, SignedNote};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::replay::{kind_and_id, reference};

/// Version of the layout that this program writes and reads.
pub const FORMAT: u32 = 1;
/// Version of the report's look. A report of another version cannot be compared.
pub const REPORT_VERSION: u32 = 1;

/// Lists the members with digests, for programs.
pub const MANIFEST: &str = "manifest.json";
/// The same for `sha256sum -c`, manifest included; the last member.
pub const SUMS: &str = "SHA256SUMS";
/// For people.
pub const REPORT: &str = "report.html";
/// The incident's document.
pub const INCIDENT: &str = "incident.json";
/// The ledgers' keys as the exporter knows them.
pub const POLICY: &str = "trust.policy";
/// Folder of control's ledger.
pub const CONTROL: &str = "control";

/// Longest document, in bytes.
pub const MAX_DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Longest list of leaves, in bytes.
pub const MAX_LEAVES_BYTES: u64 = 1 << 30;

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Which incident.
    pub incident: IncidentId,
    /// Its number, as in `INC-7`.
    pub number: u64,
    /// When the bundle was made, by control's clock.
    pub created: Time,
    /// Version of the program that made it.
    pub program: String,
    /// [`REPORT_VERSION`].
    pub report: u32,
    /// Every member but this and [`SUMS`], in order.
    pub members: Vec<ManifestMember>,
}

/// One member in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestMember {
    /// Its path.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// One line of `leaves.jsonl`: a leaf and its place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafLine {
    /// From zero.
    pub index: u64,
    /// The stored bytes, which are what was hashed; base64.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub leaf: Vec<u8>,
    /// Inclusion proof to the checkpoint beside it, sibling of the leaf first.
    pub proof: Vec<Hash>,
}

/// One line of `earlier.jsonl`: a checkpoint that somebody had kept, and the proof that it is continued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// The older checkpoint.
    pub checkpoint: SignedNote,
    /// Consistency proof to the checkpoint beside it.
    pub proof: Vec<Hash>,
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
    STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}

/// Where a document lies. Standings and changes concern more than one incident and are not given out.
#[must_use]
pub fn document_path(document: &DocumentRef) -> Option<String> {
    let (kind, id) = kind_and_id(document);
    match document {
        DocumentRef::Standing(_) | DocumentRef::Change(_) => None,
        DocumentRef::Incident(_) => Some(INCIDENT.to_owned()),
        _ => Some(format!("documents/{kind}/{id}.json")),
    }
}

/// The document that lies there.
pub(crate) fn document_at(path: &str, incident: IncidentId) -> Option<DocumentRef> {
    if path == INCIDENT {
        return Some(DocumentRef::Incident(incident));
    }
    let (kind, file) = path.strip_prefix("documents/")?.split_once('/')?;
    let found = reference(kind, file.strip_suffix(".json")?)?;
    (document_path(&found).as_deref() == Some(path)).then_some(found)
}

/// Where a recording lies.
#[must_use]
pub fn recording_path(recording: RecordingId) -> String {
    format!("recordings/{recording}.hrec")
}

/// Folder of a node's ledger.
#[must_use]
pub fn node_folder(node: &Name) -> String {
    // A name may begin with a digit or letter only, so it is a plain folder's name.
    format!("nodes/{node}")
}

/// The checkpoint in a ledger's folder.
pub(crate) fn checkpoint_path(folder: &str) -> String {
    format!("{folder}/checkpoint")
}
/// The leaves in a ledger's folder.
pub(crate) fn leaves_path(folder: &str) -> String {
    format!("{folder}/leaves.jsonl")
}
/// Older checkpoints in a ledger's folder.
pub(crate) fn earlier_path(folder: &str) -> String {
    format!("{folder}/earlier.jsonl")
}
