//! An alert in words: as the JSON of a webhook, and as a mail that can be read at three in the morning.

use std::fmt::Write as _;

use halligan_control::effects::Dispatch;
use halligan_core::catalog::Catalog;
use halligan_core::effect::{Alert, AlertKind};
use halligan_core::ids::{GrantId, IncidentId, PersonId, RequestId, ReviewId, SessionId};
use halligan_core::time::Time;
use serde::Serialize;

use crate::text::{lines, one_line};

/// Longest sentence in a mail and in a subject, characters.
const LONGEST_SAY: usize = 2_000;
const LONGEST_SUBJECT: usize = 160;

/// The name of a kind, as catalogs write it.
pub fn kind_name(kind: AlertKind) -> String {
    serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What is told.
pub enum Message<'a> {
    /// Something happened.
    Alert(&'a Dispatch),
    /// Somebody tries a route out.
    Test {
        /// The route.
        route: &'a str,
        /// Who asked for it.
        by: &'a str,
        /// When.
        at: Time,
    },
}

/// The body of a webhook; `docs/alerts.md` promises it. Fields are added, never changed.
#[derive(Serialize)]
struct Payload<'a> {
    r#type: String,
    at: String,
    say: &'a str,
    request: Option<RequestId>,
    grant: Option<GrantId>,
    session: Option<SessionId>,
    incident: Option<IncidentId>,
    review: Option<ReviewId>,
    people: &'a [PersonId],
    checkpoint: Option<&'a str>,
}

/// Subject and body of a mail.
#[derive(Debug)]
pub struct Letter {
    /// One line without anything that misleads.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// What alerts about the same thing have in common, for mail programs that show conversations.
    pub thread: Option<String>,
}

impl Message<'_> {
    /// The body of a webhook.
    pub fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&match self {
            Message::Alert(Dispatch { alert, at, checkpoint }) => Payload {
                r#type: format!("halligan.{}", kind_name(alert.kind)),
                at: at.to_string(),
                say: &alert.say,
                request: alert.request,
                grant: alert.grant,
                session: alert.session,
                incident: alert.incident,
                review: alert.review,
                people: &alert.people,
                checkpoint: checkpoint.as_deref(),
            },
            Message::Test { at, .. } => Payload {
                r#type: "halligan.test".to_owned(),
                at: at.to_string(),
                say: "a test of this route; nothing happened",
                request: None,
                grant: None,
                session: None,
                incident: None,
                review: None,
                people: &[],
                checkpoint: None,
            },
        })
    }

    /// The mail.
    pub fn letter(&self, catalog: &Catalog, public_url: Option<&str>) -> Letter {
        match self {
            Message::Alert(dispatch) => letter(dispatch, catalog, public_url),
            Message::Test { route, by, at } => Letter {
                subject: format!("{}Test of the alert route {}", tag(catalog), one_line(route, 80)),
                body: format!(
                    "This is a test. Nothing happened, nothing is to be done.\n\n\
                     Route        {}\nAsked for by {}\nWhen         {at}\n",
                    one_line(route, 80),
                    one_line(by, 80)
                ),
                thread: None,
            },
        }
    }
}

fn tag(catalog: &Catalog) -> String {
    if catalog.organisation.is_empty() {
        "[Halligan] ".to_owned()
    } else {
        format!("[Halligan {}] ", one_line(&catalog.organisation, 40))
    }
}

/// Emergencies wear a thunderbolt.
fn emergency(kind: AlertKind) -> bool {
    matches!(kind, AlertKind::EmergencyRequested | AlertKind::Bypassed | AlertKind::RevocationFailed)
}

fn heading(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::EmergencyRequested => "Emergency access is asked for",
        AlertKind::DecisionWanted => "Your decision is wanted",
        AlertKind::Approved => "Approved",
        AlertKind::Denied => "Denied",
        AlertKind::ApprovalBlocked => "Nobody can approve",
        AlertKind::Bypassed => "Approval is bypassed",
        AlertKind::Active => "Access is open",
        AlertKind::FirstSession => "Somebody is in",
        AlertKind::BeforeDeadline => "Access closes soon",
        AlertKind::Ended => "Access is closed",
        AlertKind::RevocationLate => "Revocation is not proved yet",
        AlertKind::RevocationFailed => "REVOCATION FAILED",
        AlertKind::RevocationUnknown => "Revocation cannot be told yet",
        AlertKind::ReviewDue => "A review is due",
        AlertKind::ReviewOverdue => "A review is overdue",
        AlertKind::UnauthorisedAttempt => "Unauthorised attempt",
        AlertKind::RecordingLost => "A recording is lost",
        AlertKind::Incident => "Incident",
        AlertKind::Widened => "Access was widened",
        AlertKind::Playback => "A recording is played back",
        AlertKind::StatementHeld => "A statement waits for a second person",
        AlertKind::Unexplained => "Something at a system that no session explains",
    }
}

/// What to type next; the ids are filled in.
fn commands(alert: &Alert) -> Vec<String> {
    let mut next = Vec::new();
    let mut add = |verb: &str, id: Option<String>, rest: &str| {
        if let Some(id) = id {
            next.push(format!("halligan {verb} {id}{rest}"));
        }
    };
    let request = || alert.request.map(|id| id.to_string());
    let grant = || alert.grant.map(|id| id.to_string());
    let session = || alert.session.map(|id| id.to_string());
    let reason = " --reason \"…\"";
    match alert.kind {
        AlertKind::EmergencyRequested | AlertKind::DecisionWanted => {
            add("approve", request(), reason);
            add("deny", request(), reason);
        }
        AlertKind::Bypassed | AlertKind::Active | AlertKind::BeforeDeadline => {
            if alert.kind == AlertKind::BeforeDeadline {
                add("extend", grant(), reason);
            }
            add("give-back", grant(), "");
            add("revoke", grant(), reason);
        }
        AlertKind::FirstSession | AlertKind::UnauthorisedAttempt | AlertKind::RecordingLost => {
            add("sessions watch", session(), "");
            add("sessions terminate", session(), reason);
        }
        AlertKind::StatementHeld => {
            add("statements list --session", session(), "");
            add("sessions terminate", session(), reason);
        }
        AlertKind::ReviewDue | AlertKind::ReviewOverdue => {
            add("review judge", alert.review.map(|id| id.to_string()), "");
        }
        AlertKind::Ended
        | AlertKind::RevocationLate
        | AlertKind::RevocationFailed
        | AlertKind::RevocationUnknown
        | AlertKind::Incident => {
            add("incident blockers", alert.incident.map(|id| id.to_string()), "");
        }
        AlertKind::Unexplained => add("show", grant(), ""),
        AlertKind::Approved
        | AlertKind::Denied
        | AlertKind::ApprovalBlocked
        | AlertKind::Widened
        | AlertKind::Playback => {}
    }
    if next.is_empty() {
        next.push("halligan tasks".to_owned());
    }
    next
}

fn letter(dispatch: &Dispatch, catalog: &Catalog, public_url: Option<&str>) -> Letter {
    let Dispatch { alert, at, checkpoint } = dispatch;
    let bolt = if emergency(alert.kind) { "⚡ " } else { "" };
    let subject = format!("{bolt}{}{}: {}", tag(catalog), heading(alert.kind), alert.say);
    let mut body = format!("{bolt}{}\n\n{}\n\n", heading(alert.kind), one_line(&alert.say, LONGEST_SAY));
    let mut row = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = writeln!(body, "{label:<10}{value}");
        }
    };
    row("When", Some(at.to_string().replace('T', " ").replace('Z', " UTC")));
    row("Request", alert.request.map(|id| id.to_string()));
    row("Grant", alert.grant.map(|id| id.to_string()));
    row("Session", alert.session.map(|id| id.to_string()));
    row("Incident", alert.incident.map(|id| id.to_string()));
    row("Review", alert.review.map(|id| id.to_string()));
    row("Told", (!alert.people.is_empty()).then(|| people(&alert.people, catalog)));
    body.push_str("\nNext:\n");
    for command in commands(alert) {
        let _ = writeln!(body, "  {command}");
    }
    if let Some(url) = public_url {
        let _ = writeln!(body, "\n{url}");
    }
    if let Some(checkpoint) = checkpoint {
        let _ = writeln!(
            body,
            "\n----\nKeep this mail: with the checkpoint below, nobody can change the ledger behind your back.\n\n{}",
            lines(checkpoint)
        );
    }
    let thread = alert.incident.map(|id| id.to_string()).or_else(|| alert.request.map(|id| id.to_string()));
    Letter { subject: one_line(&subject, LONGEST_SUBJECT), body, thread }
}

fn people(ids: &[PersonId], catalog: &Catalog) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = ids
        .iter()
        .take(SHOWN)
        .map(|id| {
            match catalog.people.get(id).map(|person| person.name.as_str()).filter(|name| !name.is_empty()) {
                Some(name) => format!("{} ({id})", one_line(name, 60)),
                None => id.to_string(),
            }
        })
        .collect();
    if ids.len() > SHOWN {
        names.push(format!("and {} more", ids.len() - SHOWN));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dispatch(kind: AlertKind, say: &str) -> Dispatch {
        Dispatch {
            alert: Alert {
                kind,
                say: say.to_owned(),
                request: Some(RequestId::from_bits(1)),
                grant: None,
                session: None,
                incident: Some(IncidentId::from_bits(2)),
                review: None,
                people: vec!["anna".parse().unwrap()],
            },
            at: Time::from_micros(1_788_000_000_000_000),
            checkpoint: Some("example.org/halligan\n7\nq83v\n\n— example.org abc\n".to_owned()),
        }
    }

    #[test]
    fn the_payload_is_what_the_manual_promises() {
        let json = Message::Alert(&dispatch(AlertKind::EmergencyRequested, "anna asks")).json().unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"type":"halligan.emergency-requested","at":"2026-08-29T10:40:00Z","say":"anna asks","request":"req_00000000000000000000000001","grant":null,"session":null,"incident":"inc_00000000000000000000000002","review":null,"people":["anna"],"checkpoint":"example.org/halligan\n7\nq83v\n\n— example.org abc\n"}"#
        );
        let test = Message::Test { route: "pager", by: "ben", at: Time::from_micros(0) }.json().unwrap();
        assert!(
            String::from_utf8(test)
                .unwrap()
                .starts_with(r#"{"type":"halligan.test","at":"1970-01-01T00:00:00Z""#)
        );
    }

    #[test]
    fn a_letter_says_what_who_when_and_what_to_type() {
        let catalog = Catalog { organisation: "Acme".to_owned(), ..Catalog::default() };
        let dispatch =
            dispatch(AlertKind::EmergencyRequested, "EMERGENCY sev1: anna asks for orders-db/dba: locked");
        let letter = Message::Alert(&dispatch).letter(&catalog, Some("https://halligan.example.org"));
        assert_eq!(
            letter.subject,
            "⚡ [Halligan Acme] Emergency access is asked for: EMERGENCY sev1: anna asks for orders-db/dba: locked"
        );
        let expected = "\
⚡ Emergency access is asked for

EMERGENCY sev1: anna asks for orders-db/dba: locked

When      2026-08-29 10:40:00 UTC
Request   req_00000000000000000000000001
Incident  inc_00000000000000000000000002
Told      anna

Next:
  halligan approve req_00000000000000000000000001 --reason \"…\"
  halligan deny req_00000000000000000000000001 --reason \"…\"

https://halligan.example.org

----
Keep this mail: with the checkpoint below, nobody can change the ledger behind your back.

example.org/halligan
7
q83v

— example.org abc
";
        assert_eq!(letter.body, expected);
    }

    #[test]
    fn what_somebody_typed_can_neither_add_headers_nor_lines() {
        let evil = "x\r\nBcc: eve@example.org\r\n\r\nNext:\n  halligan approve req_evil";
        let dispatch = dispatch(AlertKind::DecisionWanted, evil);
        let letter = Message::Alert(&dispatch).letter(&Catalog::default(), None);
        assert!(!letter.subject.contains(['\r', '\n']));
        assert!(!letter.subject.starts_with('⚡'));
        assert_eq!(letter.body.lines().filter(|line| line.starts_with("Next:")).count(), 1);
        assert!(!letter.body.lines().any(|line| line.trim_start().starts_with("halligan approve req_evil")));
    }

    #[test]
    fn every_kind_ends_with_something_to_type() {
        for name in [
            "emergency-requested",
            "decision-wanted",
            "approved",
            "denied",
            "approval-blocked",
            "bypassed",
            "active",
            "first-session",
            "before-deadline",
            "ended",
            "revocation-late",
            "revocation-failed",
            "revocation-unknown",
            "review-due",
            "review-overdue",
            "unauthorised-attempt",
            "recording-lost",
            "incident",
            "widened",
            "playback",
            "statement-held",
            "unexplained",
        ] {
            let kind: AlertKind = serde_json::from_value(name.into()).unwrap();
            assert_eq!(kind_name(kind), name);
            let alert = Alert { session: Some(SessionId::from_bits(3)), ..dispatch(kind, "x").alert };
            assert!(commands(&alert).iter().all(|command| command.starts_with("halligan ")), "{name}");
            assert!(!heading(kind).is_empty());
        }
    }
}
