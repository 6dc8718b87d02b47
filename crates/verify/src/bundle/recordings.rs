//! Recordings: one for each session, exactly the bytes that its gateway's ledger names, and with a key read to the end.

use std::collections::BTreeMap;

use halligan_core::ids::{RecordingId, SessionId};
use halligan_core::node_event::NodeEvent;
use halligan_core::review::ReviewKind;
use halligan_core::session::{RecordingState, Session};
use halligan_recording::digest::digest_of;
use halligan_recording::header::Preamble;
use halligan_recording::{Identity, RecordingReader, age_file};

use super::Options;
use super::file::Opened;
use crate::findings::{Faults, Report, count};
use crate::layout::recording_path;
use crate::story::Story;

/// What a gateway's ledger says of a finished recording.
struct Told<'a> {
    recording: RecordingId,
    bytes: u64,
    frames: u64,
    records: u64,
    sha256: &'a str,
    chain_head: &'a str,
    complete: bool,
}

pub(super) fn check(opened: &Opened, story: &Story, options: &Options, report: &mut Report) {
    let told = told(story);
    let mut found = 0;
    report.check("recordings", |faults| {
        for session in story.world.sessions.values() {
            if is_lost(session, faults) {
                continue;
            }
            let Some(told) = told.get(&session.id) else {
                faults.say(format!(
                    "no leaf of gateway {} finishes the recording of session {}",
                    session.gateway, session.id
                ));
                continue;
            };
            found += 1;
            compare(opened, story, session, told, faults);
        }
        for member in opened.archive.members() {
            let foreign = member.name.starts_with("recordings/")
                && !story
                    .world
                    .sessions
                    .values()
                    .any(|known| recording_path(known.recording.id) == member.name);
            faults.unless(!foreign, || format!("{} is of no session in the bundle", member.name));
        }
        count(found, "recording", "recordings")
    });
    for session in story.world.sessions.values() {
        if session.recording.state == RecordingState::Stored && !session.recording.complete {
            report.warnings.push(format!(
                "the recording of session {} stops in the middle, because its gateway was killed; a reviewer has judged that",
                session.id
            ));
        }
    }
    report.counts.recordings = found as u64;
    match &options.identity {
        None if found > 0 => report.warnings.push(
            "recordings were compared with their digests and not opened: that takes an auditor's key (--identity)"
                .to_owned(),
        ),
        None => {}
        Some(identity) => {
            report.check("recordings read", |faults| {
                let mut records = 0;
                for (session, told) in &told {
                    if story.world.sessions.contains_key(session) {
                        records += read(opened, told, identity, faults);
                    }
                }
                format!("{records} records")
            });
        }
    }
}

fn told(story: &Story) -> BTreeMap<SessionId, Told<'_>> {
    let mut told = BTreeMap::new();
    for (_, _, leaf) in story.node_events() {
        if let NodeEvent::RecordingFinished {
            session,
            recording,
            bytes,
            frames,
            records,
            sha256,
            chain_head,
            complete,
            ..
        } = &leaf.event
        {
            let (recording, bytes, frames, records) = (*recording, *bytes, *frames, *records);
            let complete = *complete;
            // Said again after a restart, the first time counts.
            told.entry(*session).or_insert(Told {
                recording,
                bytes,
                frames,
                records,
                sha256,
                chain_head,
                complete,
            });
        }
    }
    told
}

/// A lost recording is a gap that two people have explained; see the check of waivers.
fn is_lost(session: &Session, faults: &mut Faults) -> bool {
    let lost = session.recording.state == RecordingState::Lost;
    faults.unless(!lost || session.gap_waivers.len() >= 2, || {
        format!("the recording of session {} is lost, and nobody has explained it", session.id)
    });
    lost
}

fn compare(opened: &Opened, story: &Story, session: &Session, told: &Told<'_>, faults: &mut Faults) {
    let place = format!("recording {}", session.recording.id);
    let kept = &session.recording;
    faults.unless(kept.state == RecordingState::Stored, || format!("{place} was never stored"));
    let same = kept.id == told.recording
        && kept.bytes == told.bytes
        && kept.frames == told.frames
        && kept.sha256 == told.sha256
        && kept.chain_head == told.chain_head
        && kept.complete == told.complete;
    faults.unless(same, || format!("{place}: control and gateway {} tell it differently", session.gateway));
    let path = recording_path(kept.id);
    let Some(member) = opened.archive.member(&path) else {
        faults.say(format!("{place} of session {} is not in the bundle", session.id));
        return;
    };
    if member.sha256 != told.sha256 {
        faults.say(format!("{path} is not the recording that the ledger of {} names", session.gateway));
        return;
    }
    let Some(content) = faults.value(opened.archive.content(&path), &path) else { return };
    let Some((header, digest)) = faults.value(digest_of(content), &path) else { return };
    faults.unless(
        header.recording_id == kept.id.to_string() && header.session_id == session.id.to_string(),
        || format!("{path} is a recording of session {}, not of {}", header.session_id, session.id),
    );
    let same = digest.bytes == told.bytes
        && digest.frames == told.frames
        && digest.chain_head.to_string() == told.chain_head
        && digest.complete == told.complete;
    faults.unless(same, || format!("{path}: its frames are not those that the ledger names"));
    let judged = story.world.reviews.values().any(|review| {
        review.kind == ReviewKind::AttestationGap
            && review.session == Some(session.id)
            && review.judgement.is_some()
    });
    faults.unless(digest.complete || judged, || {
        format!("{path} stops in the middle: its writer was cut off, and nobody has judged that")
    });
}

/// Opens every frame and reads every record.
fn read(opened: &Opened, told: &Told<'_>, identity: &Identity, faults: &mut Faults) -> u64 {
    let path = recording_path(told.recording);
    let Some(mut content) = faults.value(opened.archive.content(&path), &path) else { return 0 };
    let Some(preamble) = faults.value(Preamble::read(&mut content), &path) else { return 0 };
    let Some(key) = faults.value(age_file::unwrap(&preamble.wrapped_key, identity), &path) else { return 0 };
    let Some(content) = faults.value(opened.archive.content(&path), &path) else { return 0 };
    let Some(reader) = faults.value(RecordingReader::from_read(content, &key), &path) else { return 0 };
    let mut records = 0;
    for record in reader {
        if faults.value(record, &path).is_none() {
            return records;
        }
        records += 1;
    }
    faults.unless(records == told.records || !told.complete, || {
        format!("{path} holds {records} records, the ledger names {}", told.records)
    });
    records
}
