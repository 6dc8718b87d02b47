//! Documents against the events that made them, and the report against both.

use std::collections::BTreeMap;

use halligan_core::command::DocumentRef;
use halligan_core::leaf::LeafBody;
use sha2::{Digest as _, Sha256};

use super::file::Opened;
use super::ledgers::Read;
use crate::findings::{Report, count};
use crate::layout::{self, INCIDENT, MAX_DOCUMENT_BYTES, REPORT, REPORT_VERSION};
use crate::page;
use crate::replay::{History, Replay, name, stored_form};
use crate::story::Story;

pub(super) fn check(opened: &Opened, read: Read, report: &mut Report) -> Option<Story> {
    let incident = opened.manifest.incident;
    let mut story = Story { heads: read.heads, nodes: read.nodes, ..Story::default() };
    let mut bodies: BTreeMap<DocumentRef, Vec<u8>> = BTreeMap::new();
    report.check("documents can be read", |faults| {
        let paths = opened.archive.members().iter().map(|member| member.name.as_str());
        for path in paths.filter(|path| *path == INCIDENT || path.starts_with("documents/")) {
            let Some(document) = layout::document_at(path, incident) else {
                faults.say(format!("{path} is not where a document lies"));
                continue;
            };
            let Some(body) = faults.value(opened.archive.read(path, MAX_DOCUMENT_BYTES), path) else {
                continue;
            };
            faults.value(story.insert(&document, &body), path);
            bodies.insert(document, body);
        }
        faults.unless(story.incident(incident).is_some(), || format!("{INCIDENT} is not of {incident}"));
        count(bodies.len(), "document", "documents")
    });
    let mut replay = Replay::new(History::Part);
    report.check("documents against events", |faults| {
        for (index, _, leaf) in &read.leaves {
            // Catalog and nodes are beside the chain; their documents are not in the bundle.
            if matches!(leaf.body, LeafBody::Events { .. }) {
                replay.push_leaf(*index, leaf, faults);
            }
        }
        let replayed = std::mem::replace(&mut replay, Replay::new(History::Part));
        let whole: Vec<DocumentRef> = bodies.keys().filter(|key| replayed.is_whole(key)).cloned().collect();
        let replayed = replayed.finish(faults);
        for (document, body) in &bodies {
            let place = name(document);
            let Some(stored) = replayed.documents.get(document) else {
                faults.say(format!("{place} is in the bundle, and no leaf names it"));
                continue;
            };
            let found: [u8; 32] = Sha256::digest(body).into();
            faults.unless(found == stored.sha256, || {
                format!("{place} is not the document whose digest the last leaf about it names")
            });
            faults.unless(whole.contains(document), || format!("{place}: its history is not whole"));
            faults.unless(stored_form(&replayed.world, document).as_ref() == Some(body), || {
                format!("{place} is not what the events make of it")
            });
        }
        for document in replayed.documents.keys() {
            let wanted = layout::document_path(document).is_some();
            faults.unless(!wanted || bodies.contains_key(document), || {
                format!("{} is named by leaves and missing from the bundle", name(document))
            });
        }
        format!("{} digests, {}", replayed.compared, count(bodies.len(), "document", "documents"))
    });
    report.counts.documents = bodies.len() as u64;
    story.leaves = read.leaves.into_iter().map(|(index, _, leaf)| (index, leaf)).collect();
    report.counts.events = story.events().count() as u64;
    story.incident(incident).is_some().then_some(story)
}

/// The report must be the one that this content gives.
pub(super) fn page(opened: &Opened, story: &Story, report: &mut Report) {
    if opened.manifest.report != REPORT_VERSION {
        report.warnings.push(format!(
            "{REPORT} was written by another version of the program and cannot be compared with the evidence"
        ));
        return;
    }
    report.check("report", |faults| {
        let manifest = &opened.manifest;
        let Some(found) = faults.value(opened.archive.read(REPORT, layout::MAX_LEAVES_BYTES), REPORT) else {
            return String::new();
        };
        let wanted = faults.value(page::render(story, manifest.incident, manifest.created), REPORT);
        faults.unless(wanted.is_none_or(|wanted| wanted.as_bytes() == found), || {
            format!("{REPORT} does not show what the evidence holds")
        });
        "it shows what the evidence holds".to_owned()
    });
}
