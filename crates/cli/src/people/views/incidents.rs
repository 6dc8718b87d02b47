//! Incidents.

use halligan_client::types::IncidentView;
use halligan_core::incident::IncidentState;

use super::BOLT;
use crate::output::{Look, Tone, printable, word};

const fn tone(state: IncidentState) -> Tone {
    match state {
        IncidentState::Open => Tone::Bad,
        IncidentState::Mitigated | IncidentState::Closing | IncidentState::ClosedUnproven => Tone::Warn,
        IncidentState::Closed => Tone::Good,
    }
}

/// A list of incidents.
pub fn incident_table(look: &Look, views: &[IncidentView]) -> String {
    let mut table = look.table(&["incident", "severity", "state", "opened", "by", "blocks", "title"]);
    for view in views {
        let incident = &view.incident;
        table.add_row([
            look.cell(Tone::Plain, format!("{BOLT} INC-{}", incident.number)),
            look.cell(Tone::Plain, &incident.severity),
            look.cell(tone(incident.state), word(&incident.state)),
            look.cell(Tone::Plain, look.when(incident.opened_at)),
            look.cell(Tone::Plain, &incident.opened_by),
            look.cell(Tone::Plain, view.blockers.len()),
            look.cell(Tone::Plain, printable(&incident.title)),
        ]);
    }
    table.trim_fmt()
}

/// One incident with all that belongs to it.
pub fn incident_card(look: &Look, view: &IncidentView) -> String {
    let incident = &view.incident;
    let when = |time: Option<_>| time.map(|time| look.when(time)).unwrap_or_default();
    let mut rows = vec![
        ("incident", format!("{BOLT} INC-{} ({})", incident.number, incident.id)),
        ("title", printable(&incident.title)),
        ("severity", incident.severity.to_string()),
        ("scenario", incident.scenario.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("state", look.paint(tone(incident.state), &word(&incident.state))),
        ("opened", format!("{} by {}", look.when(incident.opened_at), incident.opened_by)),
        ("mitigated", when(incident.mitigated_at)),
        ("closed", when(incident.closed_at)),
        ("links", incident.links.iter().map(|link| printable(link)).collect::<Vec<_>>().join(", ")),
    ];
    for (person, parts) in &incident.parties {
        rows.push(("party", format!("{person}: {}", parts.iter().map(word).collect::<Vec<_>>().join(", "))));
    }
    for (grant, settled) in &incident.grants {
        rows.push(("grant", format!("{grant} {}", if *settled { "settled" } else { "not settled" })));
    }
    for (review, done) in &incident.reviews {
        rows.push(("review", format!("{review} {}", if *done { "done" } else { "to be judged" })));
    }
    rows.push(("sessions", format!("{} ({} live)", incident.sessions, incident.open_sessions.len())));
    for (index, change) in incident.changes.iter().enumerate() {
        let fate = change.judged.as_ref().map_or_else(
            || look.paint(Tone::Warn, "to be judged"),
            |judged| {
                let note = if judged.note.is_empty() {
                    String::new()
                } else {
                    format!(": {}", printable(&judged.note))
                };
                format!("{} by {}{note}", word(&judged.fate), judged.by)
            },
        );
        rows.push(("change", format!("{index}: {} ({fate})", printable(&change.what))));
    }
    for note in &incident.notes {
        rows.push(("note", format!("{}, {}: {}", note.by, look.when(note.at), printable(&note.text))));
    }
    for (person, reason) in &incident.unproven {
        rows.push(("unproven", format!("says {person}: {}", printable(reason))));
    }
    for blocker in &view.blockers {
        rows.push(("blocks", look.paint(Tone::Warn, &printable(blocker))));
    }
    look.card(&rows)
}
