//! The timeline of an incident as a drawing: a bar for each grant and each session, marks for what people decided.

use halligan_core::event::Event;
use halligan_core::incident::Incident;
use halligan_core::time::Time;

use crate::story::Story;

/// Width of the drawing area in its own units.
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 230.0;
const ROW: f64 = 26.0;
/// Characters that fit beside the bars; the rest is in the tip.
const LABEL: usize = 34;
/// More rows are not drawn; the tables hold them all.
const MOST_ROWS: usize = 200;

/// What the template draws.
pub(crate) struct Drawing {
    pub height: f64,
    pub bars: Vec<Bar>,
    pub marks: Vec<Mark>,
    pub ticks: Vec<Tick>,
    pub left_out: usize,
}

/// A stretch of time.
pub(crate) struct Bar {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub kind: &'static str,
    pub label: String,
    pub says: String,
}

/// A moment.
pub(crate) struct Mark {
    pub x: f64,
    pub y: f64,
    pub says: String,
}

/// A line through all rows, with its time.
pub(crate) struct Tick {
    pub x: f64,
    /// How the time stands at the line (SVG `text-anchor`): the last one must not hang over the edge.
    pub anchor: &'static str,
    pub says: String,
}

/// Lays the timeline out.
pub(crate) fn draw(story: &Story, incident: &Incident) -> Drawing {
    let last = story.leaves.iter().map(|(_, leaf)| leaf.at).max().unwrap_or(incident.opened_at);
    let end = incident.closed_at.unwrap_or(last).max(incident.opened_at);
    let span = (end.micros() - incident.opened_at.micros()).max(1) as f64;
    let x = |time: Time| {
        let part = (time.micros() - incident.opened_at.micros()) as f64 / span;
        // Whole units: the same text on every machine.
        (LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - 10.0)).round()
    };
    let mut bars = Vec::new();
    // The row above the bars is for what people did.
    let mut row = 2.0;
    let mut bar = |kind, label: String, from: Time, to: Time| {
        let (from_x, to_x) = (x(from), x(to.max(from)));
        let says = format!("{label}, {from} to {to}");
        let label: String = label.chars().take(LABEL).collect();
        bars.push(Bar { x: from_x, y: row * ROW, width: (to_x - from_x).max(2.0), kind, label, says });
        row += 1.0;
    };
    bar("incident", incident.label(), incident.opened_at, end);
    for grant in story.world.grants.values() {
        let Some(from) = grant.activated_at else { continue };
        let to = grant.ended_at.or(grant.deadline).unwrap_or(end);
        bar("grant", format!("{} {}", grant.person, grant.entitlement), from, to);
        for session in story.world.sessions.values().filter(|session| session.grant == grant.id) {
            let to = session.ended_at.unwrap_or(end);
            bar(
                "session",
                format!("session {} of {}", session.number, session.person),
                session.opened_at,
                to,
            );
        }
    }
    let left_out = bars.len().saturating_sub(MOST_ROWS);
    bars.truncate(MOST_ROWS);
    let mark = |at: Time, says: String| Mark { x: x(at), y: ROW * 1.0 + 8.0, says: format!("{says}, {at}") };
    let marks = story
        .events()
        .filter_map(|(_, at, event)| match event {
            Event::RequestFiled { request } => Some(mark(at, format!("{} asks", request.requester))),
            Event::Decided { decision, .. } => Some(mark(at, format!("{} decides", decision.person))),
            Event::BypassTookEffect { .. } => Some(mark(at, "bypass".to_owned())),
            Event::GrantRevoked { .. } => Some(mark(at, "revocation settled".to_owned())),
            Event::IncidentMitigated { by, .. } => Some(mark(at, format!("{by} mitigates"))),
            Event::ReviewJudged { judgement, .. } => Some(mark(at, format!("{} judges", judgement.by))),
            _ => None,
        })
        .collect();
    let ticks = (0..=4)
        .map(|quarter| {
            let at = Time::from_micros(
                incident.opened_at.micros() + (end.micros() - incident.opened_at.micros()) / 4 * quarter,
            );
            let text = at.to_string();
            let anchor = if quarter == 4 { "end" } else { "middle" };
            Tick { x: x(at), anchor, says: text.get(11..19).unwrap_or(&text).to_owned() }
        })
        .collect();
    Drawing { height: (bars.len() as f64 + 2.5) * ROW, bars, marks, ticks, left_out }
}
