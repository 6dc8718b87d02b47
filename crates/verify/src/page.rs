//! The readable report: a pure function of a bundle's content, so that `verify` can make it again and compare. Everything
//! that came from outside is escaped; there is no script and nothing is fetched.

use askama::Template;
use halligan_core::command::Actor;
use halligan_core::event::Event;
use halligan_core::grant::{Grant, ProofOutcome};
use halligan_core::ids::IncidentId;
use halligan_core::leaf::LeafBody;
use halligan_core::request::{Request, Verdict};
use halligan_core::time::Time;
use halligan_recording::text::escape;

use crate::drawing::{Drawing, draw};
use crate::story::Story;

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    label: String,
    title: String,
    state: String,
    facts: Vec<(String, String)>,
    people: Vec<(String, String)>,
    requests: Vec<Row>,
    grants: Vec<Row>,
    sessions: Vec<Row>,
    reviews: Vec<Row>,
    changes: Vec<Row>,
    notes: Vec<Row>,
    events: Vec<Line>,
    ledgers: Vec<(String, u64, String)>,
    created: String,
    drawing: Drawing,
}

/// One thing with its facts.
struct Row {
    heading: String,
    facts: Vec<(&'static str, String)>,
}

/// One line of the ledger.
struct Line {
    index: u64,
    number: String,
    at: String,
    who: String,
    what: Vec<String>,
}

/// Renders the report.
///
/// # Errors
/// When the incident's document is missing, as a template's error.
pub fn render(story: &Story, incident: IncidentId, created: Time) -> Result<String, askama::Error> {
    let found = story.incident(incident).ok_or(askama::Error::Fmt)?;
    let mut facts = vec![
        ("Severity".to_owned(), found.severity.to_string()),
        ("Scenario".to_owned(), found.scenario.as_ref().map_or_else(none, ToString::to_string)),
        ("Opened".to_owned(), format!("{} by {}", found.opened_at, found.opened_by)),
        ("Mitigated".to_owned(), maybe(found.mitigated_at)),
        ("Closed".to_owned(), maybe(found.closed_at)),
    ];
    facts.push(("In short".to_owned(), in_short(story)));
    facts.extend(found.links.iter().map(|link| ("Link".to_owned(), safe(link))));
    let page = Page {
        label: found.label(),
        title: safe(&found.title),
        state: word(&found.state),
        facts,
        people: found
            .parties
            .iter()
            .map(|(person, parts)| {
                (person.to_string(), parts.iter().map(word).collect::<Vec<_>>().join(", "))
            })
            .collect(),
        requests: story.world.requests.values().map(request).collect(),
        grants: story.world.grants.values().map(grant).collect(),
        sessions: sessions(story),
        reviews: reviews(story),
        changes: found
            .changes
            .iter()
            .map(|change| Row {
                heading: safe(&change.what),
                facts: vec![
                    ("Session", change.session.to_string()),
                    (
                        "Judged",
                        change.judged.as_ref().map_or_else(none, |judged| {
                            let note = safe(&judged.note);
                            format!("{} by {} at {}: {note}", word(&judged.fate), judged.by, judged.at)
                        }),
                    ),
                ],
            })
            .collect(),
        notes: found
            .notes
            .iter()
            .map(|note| Row {
                heading: format!("{} at {}", note.by, note.at),
                facts: vec![("Note", safe(&note.text))],
            })
            .collect(),
        events: lines(story),
        ledgers: story
            .heads
            .iter()
            .map(|head| (safe(&head.origin), head.size, head.root.to_string()))
            .collect(),
        created: created.to_string(),
        drawing: draw(story, found),
    };
    page.render()
}

/// What an auditor wants to know before anything else.
fn in_short(story: &Story) -> String {
    let world = &story.world;
    let several = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let grants = world.grants.values();
    let proven = grants.filter(|grant| matches!(grant.outcome, Some(ProofOutcome::Proven { .. }))).count();
    let begun = world.grants.values().filter(|grant| grant.activated_at.is_some()).count();
    let judged = world.reviews.values().filter(|review| review.judgement.is_some()).count();
    format!(
        "{}; {} that began, {proven} of all {} with their end PROVEN at the target; {}; {}, {judged} judged",
        several(world.requests.len(), "request"),
        several(begun, "grant"),
        world.grants.len(),
        several(world.sessions.len(), "session"),
        several(world.reviews.len(), "review"),
    )
}

fn request(request: &Request) -> Row {
    let mut facts = vec![
        ("Id", request.id.to_string()),
        ("Asked by", request.requester.to_string()),
        ("For", request.beneficiary.to_string()),
        ("Mode", word(&request.mode)),
        ("Reason", safe(&request.reason)),
        ("Why not lower", request.why_not_lower.as_deref().map_or_else(String::new, safe)),
        ("Ticket", request.link.as_deref().map_or_else(String::new, safe)),
        ("Duration", request.duration.to_string()),
        ("Filed", request.filed_at.to_string()),
        ("State", word(&request.state)),
        ("Policy", format!("{}, catalog version {}", request.policy, request.catalog_version)),
    ];
    if request.automatic {
        facts.push(("Approved", "automatically, by policy".to_owned()));
    }
    if let Some(bypass) = &request.bypass {
        facts.push(("Bypass", format!("at {}: {}", bypass.at, safe(&bypass.reason))));
    }
    for decision in &request.decisions {
        let verb = match decision.verdict {
            Verdict::Approve => "Approved by",
            Verdict::Deny => "Denied by",
        };
        let mut text = format!("{} at {}", decision.person, decision.at);
        if let Some(factor) = &decision.factor {
            text.push_str(&format!(", second factor {}", word(factor)));
        }
        if decision.void {
            text.push_str(", void");
        }
        if let Some(reason) = &decision.reason {
            text.push_str(&format!(": {}", safe(reason)));
        }
        facts.push((verb, text));
    }
    facts.retain(|(_, value)| !value.is_empty());
    Row { heading: request.entitlement.to_string(), facts }
}

fn grant(grant: &Grant) -> Row {
    let mut facts = vec![
        ("Id", grant.id.to_string()),
        ("State", word(&grant.state)),
        ("Began", maybe(grant.activated_at)),
        ("Deadline", maybe(grant.deadline)),
        ("Ended", maybe(grant.ended_at)),
        ("Why", grant.end_reason.as_ref().map_or_else(none, word)),
        ("Extensions", grant.extended_by.len().to_string()),
        ("Sessions", grant.last_session.to_string()),
    ];
    let outcome = match &grant.outcome {
        None => "none".to_owned(),
        Some(ProofOutcome::Proven { at }) => format!("PROVEN at {at}"),
        Some(ProofOutcome::Waived { at }) => {
            let people: Vec<String> =
                grant.waivers.iter().map(|(person, why)| format!("{person}: {}", safe(why))).collect();
            format!("waived at {at} ({})", people.join("; "))
        }
        Some(ProofOutcome::TargetGone { by, at, reason }) => {
            format!("target gone, attested by {by} at {at}: {}", safe(reason))
        }
    };
    facts.push(("Revocation proof", outcome));
    for (kind, check) in &grant.checks {
        let required = if grant.required_checks.contains(kind) { "required" } else { "not asked" };
        let (finding, by) = (word(&check.finding), word(&check.said_by));
        let text = format!("{} ({required}): {finding}, says {by}: {}", word(kind), safe(&check.detail));
        facts.push(("Check", text));
    }
    Row { heading: format!("{} for {}", grant.entitlement, grant.person), facts }
}

fn sessions(story: &Story) -> Vec<Row> {
    let row = |session: &halligan_core::session::Session| Row {
        heading: format!("{} by {}, session {}", session.entitlement, session.person, session.number),
        facts: vec![
            ("Id", session.id.to_string()),
            ("Grant", session.grant.to_string()),
            ("Gateway", session.gateway.to_string()),
            ("From", safe(&session.client)),
            ("Login", safe(&session.login)),
            ("Opened", session.opened_at.to_string()),
            ("Ended", maybe(session.ended_at)),
            ("Why", session.end_reason.as_deref().map_or_else(none, spaced)),
            ("Channels", session.channels.iter().map(|channel| safe(channel)).collect::<Vec<_>>().join("; ")),
            ("Recording", format!("{}, {}", session.recording.id, word(&session.recording.state))),
            ("SHA-256", safe(&session.recording.sha256)),
        ],
    };
    story.world.sessions.values().map(row).collect()
}

fn reviews(story: &Story) -> Vec<Row> {
    let yes = |answer: bool| if answer { "yes" } else { "no" }.to_owned();
    let row = |review: &halligan_core::review::Review| {
        let mut facts = vec![
            ("Id", review.id.to_string()),
            ("State", word(&review.state)),
            ("Due", review.due_at.to_string()),
            ("Reviewer", review.reviewer.as_ref().map_or_else(none, ToString::to_string)),
        ];
        if let Some(judgement) = &review.judgement {
            facts.push(("Classification", word(&judgement.classification)));
            facts.push(("Invoked correctly", yes(judgement.invoked_correctly)));
            facts.push(("Grant too wide", yes(judgement.too_wide)));
            facts.push(("Approvals timely", yes(judgement.approvals_timely)));
            facts.push(("Prevention", safe(&judgement.prevention)));
            if !judgement.note.is_empty() {
                facts.push(("Note", safe(&judgement.note)));
            }
        }
        if let Some(deferral) = &review.deferral {
            facts.push((
                "Put off",
                format!("until {} by {}: {}", deferral.until, deferral.by, safe(&deferral.reason)),
            ));
        }
        for action in &review.actions {
            let done = action.done_at.map_or_else(|| "open".to_owned(), |at| format!("done at {at}"));
            facts.push(("Action", format!("{} ({}, {done})", safe(&action.what), action.owner)));
        }
        Row { heading: format!("{} of {}", word(&review.kind), review.person), facts }
    };
    story.world.reviews.values().map(row).collect()
}

fn lines(story: &Story) -> Vec<Line> {
    story
        .leaves
        .iter()
        .map(|(index, leaf)| Line {
            index: *index,
            number: leaf.chain.as_ref().map_or_else(String::new, |link| link.number.to_string()),
            at: leaf.at.to_string(),
            who: match &leaf.actor {
                Actor::Person { id, .. } => id.to_string(),
                Actor::Node { name } => name.to_string(),
                Actor::Clock => "control".to_owned(),
            },
            what: match &leaf.body {
                LeafBody::Events { events } => events.iter().map(words).collect(),
                LeafBody::CatalogApplied { version, .. } => vec![format!("catalog version {version}")],
                LeafBody::Identity { what, person, .. } => {
                    vec![format!("{}: {}", safe(person), spaced(what))]
                }
                LeafBody::Node { what, node, .. } => vec![format!("node {}: {}", safe(node), spaced(what))],
                LeafBody::Evidence { what, .. } => vec![format!("evidence {}", spaced(what))],
                LeafBody::Epoch { reason, .. } => vec![format!("new epoch: {}", safe(reason))],
            },
        })
        .collect()
}

/// An event in a few words.
fn words(event: &Event) -> String {
    let name = tag(event);
    match event {
        Event::Decided { decision, .. } => {
            let verb = match decision.verdict {
                Verdict::Approve => "approves",
                Verdict::Deny => "denies",
            };
            format!("{} {verb}", decision.person)
        }
        Event::PartTaken { person, part, .. } => format!("{person} takes part as {}", word(part)),
        Event::ChannelOpened { kind, detail, .. } => format!("channel {} {}", safe(kind), safe(detail)),
        Event::SessionEnded { reason, .. } => format!("{name}: {}", spaced(reason)),
        Event::GrantActivated { deadline, .. } => format!("{name}, until {deadline}"),
        Event::GrantExtended { deadline, .. } => format!("{name}, until {deadline}"),
        Event::GrantEnded { reason, .. } => format!("{name}: {}", word(reason)),
        Event::LeaseHeld { gateway, .. } | Event::LeaseEnded { gateway, .. } => {
            format!("{name} at {gateway}")
        }
        Event::RecordingPlayed { person, how, .. } => format!("{name}: {person}, {}", safe(how)),
        _ => name,
    }
}

/// The event's name as it stands in the leaf, with spaces.
fn tag(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value.get("event").and_then(|tag| tag.as_str()).unwrap_or("event").replace('_', " ")
}

/// A plain enum's word, with spaces.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}

/// Text from outside: no control characters and nothing that steers the direction of writing. HTML is escaped by the
/// template.
pub(crate) fn safe(text: &str) -> String {
    escape(text).into_owned()
}

/// A name as it stands in a ledger, with spaces.
fn spaced(text: &str) -> String {
    safe(text).replace('_', " ")
}

fn none() -> String {
    "–".to_owned()
}

fn maybe(time: Option<Time>) -> String {
    time.map_or_else(none, |time| time.to_string())
}
