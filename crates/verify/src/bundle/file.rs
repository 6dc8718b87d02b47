//! The file itself: structure, digests, and no member too many or too few.

use std::path::Path;

use crate::container::{Archive, Member};
use crate::findings::{Report, count};
use crate::layout::{FORMAT, MANIFEST, MAX_DOCUMENT_BYTES, Manifest, SUMS};
use crate::write::sums;

/// A bundle whose file is whole.
pub(super) struct Opened {
    pub archive: Archive,
    pub manifest: Manifest,
}

pub(super) fn open(path: &Path, report: &mut Report) -> Option<Opened> {
    let mut archive = None;
    report.check("container", |faults| {
        archive = faults.value(Archive::open(path), &path.display().to_string());
        archive
            .as_ref()
            .map_or_else(String::new, |archive| count(archive.members().len(), "member", "members"))
    });
    let archive = archive?;
    let mut manifest = None;
    report.check("manifest", |faults| {
        let Some(bytes) = faults.value(archive.read(MANIFEST, MAX_DOCUMENT_BYTES), MANIFEST) else {
            return String::new();
        };
        let Some(found) = faults.value(serde_json::from_slice::<Manifest>(&bytes), MANIFEST) else {
            return String::new();
        };
        faults.unless(found.format == FORMAT, || {
            format!("{MANIFEST} has format {}; this program reads {FORMAT}", found.format)
        });
        let seconds = u64::try_from(found.created.micros() / 1_000_000).unwrap_or(0);
        faults.unless(seconds == archive.written_at, || {
            format!("{MANIFEST} was made at {}, the file's headers say another time", found.created)
        });
        let held = content(archive.members());
        for member in &found.members {
            match held.iter().find(|held| held.name == member.name) {
                None => faults.say(format!("{} is in the manifest and not in the file", member.name)),
                Some(held) if held.bytes != member.bytes || held.sha256 != member.sha256 => {
                    faults
                        .say(format!("{} was changed: its digest is not that of the manifest", member.name));
                }
                Some(_) => {}
            }
        }
        for held in &held {
            faults.unless(found.members.iter().any(|member| member.name == held.name), || {
                format!("{} is in the file and not in the manifest", held.name)
            });
        }
        let listed = found.members.len();
        manifest = Some(found);
        count(listed, "digest", "digests")
    });
    report.check("SHA256SUMS", |faults| {
        let Some(found) = faults.value(archive.read(SUMS, MAX_DOCUMENT_BYTES), SUMS) else {
            return String::new();
        };
        let listed: Vec<(String, u64, String)> = archive
            .members()
            .iter()
            .filter(|member| member.name != SUMS)
            .map(|member| (member.name.clone(), member.bytes, member.sha256.clone()))
            .collect();
        let found = String::from_utf8_lossy(&found);
        for (line, wanted) in sums(&listed).lines().zip(&listed) {
            faults.unless(found.lines().any(|other| other == line), || {
                format!("{} was changed: its digest is not that of {SUMS}", wanted.0)
            });
        }
        faults.unless(*found == sums(&listed), || format!("{SUMS} does not list the file's members"));
        count(listed.len(), "digest", "digests")
    });
    // What follows is read from members whose digests held.
    report.ok().then_some(())?;
    manifest.map(|manifest| Opened { archive, manifest })
}

fn content(members: &[Member]) -> Vec<&Member> {
    members.iter().filter(|member| member.name != MANIFEST && member.name != SUMS).collect()
}

impl Opened {
    /// Names of nodes whose ledgers are here.
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes: Vec<String> = self
            .archive
            .members()
            .iter()
            .filter_map(|member| member.name.strip_prefix("nodes/")?.split_once('/'))
            .map(|(node, _)| node.to_owned())
            .collect();
        nodes.dedup();
        nodes
    }
}
