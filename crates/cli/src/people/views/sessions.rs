//! Sessions.

use halligan_client::types::SessionView;
use halligan_core::catalog::RecordingClass;
use halligan_core::session::RecordingState;

use super::incident_name;
use crate::output::{Look, Tone, printable, roughly, size, word};

const fn recording_tone(state: RecordingState) -> Tone {
    match state {
        RecordingState::Running | RecordingState::Finished => Tone::Warn,
        RecordingState::Stored => Tone::Good,
        RecordingState::Lost => Tone::Bad,
    }
}

/// A list of sessions.
pub fn session_table(look: &Look, views: &[SessionView]) -> String {
    let mut table = look.table(&["id", "entitlement", "who", "opened", "lasted", "recording", "incident"]);
    for view in views {
        let session = &view.session;
        let lasted = match session.ended_at {
            Some(ended) => roughly(ended.since(session.opened_at)),
            None => format!("live, {}", roughly(look.now.since(session.opened_at))),
        };
        let class = if view.recording_class == RecordingClass::Sealed { ", sealed" } else { "" };
        table.add_row([
            look.cell(Tone::Plain, session.id),
            look.cell(Tone::Plain, format!("{} #{}", session.entitlement, session.number)),
            look.cell(Tone::Plain, &session.person),
            look.cell(Tone::Plain, look.when(session.opened_at)),
            look.cell(if session.ended_at.is_none() { Tone::Good } else { Tone::Plain }, lasted),
            look.cell(
                recording_tone(session.recording.state),
                format!("{}{class}", word(&session.recording.state)),
            ),
            look.cell(Tone::Plain, incident_name(view.incident_number)),
        ]);
    }
    table.trim_fmt()
}

/// One session.
pub fn session_card(look: &Look, view: &SessionView) -> String {
    let session = &view.session;
    let recording = &session.recording;
    let state = look.paint(recording_tone(recording.state), &word(&recording.state));
    let mut rows = vec![
        ("session", session.id.to_string()),
        ("what", format!("{}, session {} of its grant", session.entitlement, session.number)),
        ("who", session.person.to_string()),
        ("grant", session.grant.to_string()),
        ("incident", incident_name(view.incident_number)),
        ("gateway", session.gateway.to_string()),
        ("from", printable(&session.client)),
        ("known by", printable(&session.login)),
        ("opened", look.when(session.opened_at)),
        ("ended", session.ended_at.map_or_else(|| "live".to_owned(), |at| look.when(at))),
        ("because", session.end_reason.as_deref().map(printable).unwrap_or_default()),
    ];
    if session.outside_grant {
        rows.push(("VIOLATION", look.paint(Tone::Bad, "its grant was not in force when it was reported")));
    }
    for channel in &session.channels {
        rows.push(("channel", printable(channel)));
    }
    let whole =
        if recording.complete || recording.state == RecordingState::Running { "" } else { ", cut off" };
    rows.push((
        "recording",
        format!("{} {state}{whole}, class {}", recording.id, word(&view.recording_class)),
    ));
    if !recording.sha256.is_empty() {
        let seals = format!(
            "{}, {} frames, SHA-256 {}",
            size(recording.bytes),
            recording.frames,
            printable(&recording.sha256)
        );
        rows.push(("size", seals));
    }
    for (person, reason) in &session.gap_waivers {
        rows.push(("gap waived", format!("by {person}: {}", printable(reason))));
    }
    look.card(&rows)
}
