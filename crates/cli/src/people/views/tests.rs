//! How it looks: an emergency as it goes, on a terminal of 110 columns without colours.

use halligan_client::types::{GrantView, IncidentView, RequestView, ReviewView, SessionView, Tasks};
use halligan_core::time::Time;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::request::{Outcome, outcome};
use super::super::tasks;
use super::*;
use crate::output::Look;

const NOW: i64 = 1_800_000_000_000_000;

fn look() -> Look {
    Look { width: Some(110), colour: false, now: Time::from_micros(NOW) }
}

fn at(minutes: i64) -> i64 {
    NOW + minutes * 60_000_000
}

fn id(kind: &str, number: u8) -> String {
    format!("{kind}_{number:026}")
}

fn parse<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn request_value() -> Value {
    json!({
        "id": id("req", 1), "batch": null, "requester": "anna", "beneficiary": "anna",
        "entitlement": "orders-db/read-only", "mode": "emergency", "severity": "sev1", "severity_attested": false,
        "scenario": "db-locked", "incident": id("inc", 7), "reason": "orders stand still\u{1b}[2J",
        "link": "OPS-123", "why_not_lower": null, "duration": "1h", "extends": null, "new_total": false,
        "earlier_approvers": [], "filed_at": at(-3), "timers_from": at(-3), "lapses_at": at(57),
        "policy": "emergency-two", "catalog_version": 4, "steps": [], "distinct_approvers": 2,
        "decisions": [{ "person": "carla", "at": at(-1), "verdict": "approve", "reason": "go on", "factor": "totp",
            "version_seen": 1, "digest": "d1", "carried": false, "void": false }],
        "bypass": null, "automatic": false, "state": "pending", "version": 1,
        "scope_digest": "00112233445566778899aabbccddeeff", "context_digest": "ff", "grant": null
    })
}

fn request_with(change: impl FnOnce(&mut Value)) -> RequestView {
    let mut view = json!({
        "request": request_value(), "eligible": [[], ["dmitri", "mara"]], "missing": [1], "incident_number": 7,
        "grant_state": null, "may_decide": true, "barred": null, "bypass_confirmation": null
    });
    change(&mut view);
    parse(view)
}

fn grant_view(state: &str) -> GrantView {
    let ended = state != "active";
    let checks = json!({ "credential": { "kind": "credential", "finding": "proven", "said_by": "target",
        "detail": "serial 81 refused, fresh probe accepted" } });
    parse(json!({
        "grant": {
            "id": id("grt", 1), "request": id("req", 1), "extended_by": [], "person": "anna",
            "entitlement": "orders-db/read-only", "mode": "emergency", "severity": "sev1", "incident": id("inc", 7),
            "reason": "orders stand still", "automatic": false, "bypassed": false,
            "durations": { "default": "1h", "longest": "2h", "extensions": 2, "ceiling": "8h" },
            "required_checks": ["credential"], "state": state, "fencing": 3, "duration": "1h",
            "scheduled_at": at(-20), "activate_by": at(40), "activated_at": at(-19), "deadline": at(41),
            "earlier_total": "0s", "extensions": 1, "warned": false,
            "ended_at": if ended { json!(at(-2)) } else { Value::Null },
            "end_reason": if ended { json!("given_back") } else { Value::Null },
            "gateways": { "gw-1": ended }, "deactivated": ended, "provable_at": null, "look_at": null, "looks": 1,
            "late_alerted": false, "checks": if ended { checks } else { json!({}) },
            "outcome": if ended { json!({ "kind": "proven", "at": at(-1) }) } else { Value::Null },
            "waivers": {}, "last_session": 2, "open_sessions": [], "kept": null
        },
        "time_left": if ended { Value::Null } else { json!("41m") },
        "finding": if ended { "proven" } else { "unknown" },
        "login": "read-only+orders-db", "incident_number": 7, "gateways": ["gw-1"]
    }))
}

fn session_view() -> SessionView {
    parse(json!({
        "session": {
            "id": id("ses", 1), "grant": id("grt", 1), "number": 2, "person": "anna",
            "entitlement": "orders-db/read-only", "incident": id("inc", 7), "gateway": "gw-1",
            "client": "10.1.2.3:50022", "login": "certificate of anna", "opened_at": at(-15), "ended_at": at(-5),
            "end_reason": "the client left", "outside_grant": false, "channels": ["exec: uptime\u{9b}31m"],
            "recording": { "id": id("rec", 1), "state": "stored", "bytes": 5_242_880, "sha256": "ab12", "chain_head": "cd",
                "frames": 31, "complete": true },
            "gap_waivers": {}
        },
        "incident_number": 7, "recording_class": "sealed"
    }))
}

fn incident_view() -> IncidentView {
    parse(json!({
        "incident": {
            "id": id("inc", 7), "number": 7, "title": "Orders stand still", "severity": "sev1", "scenario": "db-locked",
            "opened_by": "anna", "opened_at": at(-30), "state": "mitigated", "links": ["OPS-123"],
            "parties": { "anna": ["opener", "requester"], "carla": ["approver"] }, "pending_requests": [],
            "grants": { id("grt", 1): true, id("grt", 2): false }, "open_sessions": [], "unstored_recordings": [],
            "sessions": 2, "reviews": { id("rev", 1): false },
            "changes": [{ "session": id("ses", 1), "what": "wrote /etc/app.conf", "judged": null }],
            "notes": [{ "by": "anna", "at": at(-10), "text": "restarted\nthe pool" }], "mitigated_at": at(-2),
            "closed_at": null, "unproven": {}, "attestation_gaps": []
        },
        "blockers": ["1 grant has no revocation proof", "1 review is not judged"]
    }))
}

fn review_view() -> ReviewView {
    parse(json!({
        "review": {
            "id": id("rev", 1), "kind": "post_use", "incident": id("inc", 7), "grant": id("grt", 1), "request": null,
            "session": null, "person": "anna", "entitlement": "orders-db/read-only", "opened_at": at(-2),
            "due_at": at(-1), "overdue_alerted": false, "state": "due", "reviewer": null, "judgement": null,
            "deferral": null,
            "actions": [{ "what": "add an index", "owner": "carla", "due_at": at(60 * 24 * 14), "done_at": null }]
        },
        "facts": { "approvals_timely": "approved after 2m, by carla and dmitri" },
        "incident_number": 7, "overdue": true, "may_judge": false, "barred": "you acted in the incident"
    }))
}

#[test]
fn a_request_before_it_is_decided() {
    insta::assert_snapshot!(request_card(&look(), &request_with(|_| {})));
}

#[test]
fn lists_of_an_emergency() {
    let requests = [
        request_with(|_| {}),
        request_with(|view| {
            view["request"]["mode"] = "standard".into();
            view["eligible"] = json!([[], []]);
        }),
    ];
    let all = [
        request_table(&look(), &requests),
        grant_table(&look(), &[grant_view("active"), grant_view("revoked")]),
        session_table(&look(), &[session_view()]),
        incident_table(&look(), &[incident_view()]),
        review_table(&look(), &[review_view()]),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn cards_of_an_emergency() {
    let all = [
        grant_card(&look(), &grant_view("active")),
        grant_card(&look(), &grant_view("revoked")),
        session_card(&look(), &session_view()),
        incident_card(&look(), &incident_view()),
        review_card(&look(), &review_view()),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn what_waits_for_me() {
    let waiting = Tasks {
        decisions: vec![request_with(|_| {})],
        statements: vec![parse(json!({
            "session": id("ses", 1), "hold": 3, "person": "anna", "entitlement": "orders-db/operate",
            "incident_number": 7, "may_release": true,
            "statement": {
                "class": "schema", "sha256": "00", "text": "drop table orders_old\n  cascade\u{1b}[2J",
                "parameters": null, "since": 1_772_445_600_000_000_i64, "until": 1_772_446_200_000_000_i64,
                "answer": null
            }
        }))],
        reviews: vec![review_view()],
        changes: vec![parse(json!({
            "incident": id("inc", 7), "number": 7, "index": 0,
            "change": { "session": id("ses", 1), "what": "wrote /etc/app.conf", "judged": null }
        }))],
        actions: Vec::new(),
    };
    insta::assert_snapshot!(tasks::page(&look(), &waiting));
    let nothing =
        Tasks { decisions: vec![], statements: vec![], reviews: vec![], changes: vec![], actions: vec![] };
    assert_eq!(tasks::page(&look(), &nothing), "Nothing waits for you.");
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    let all = [request_card(&look(), &request_with(|_| {})), session_card(&look(), &session_view())].concat();
    assert!(!all.chars().any(|c| c.is_control() && c != '\n'), "{all:?}");
}

#[test]
fn exit_codes_of_waiting() {
    let code = |state: &str, grant: Option<&str>| {
        let view = request_with(|view| {
            view["request"]["state"] = state.into();
            view["grant_state"] = grant.map_or(Value::Null, Value::from);
        });
        outcome(&view).code()
    };
    assert_eq!(code("approved", Some("active")), 0);
    assert_eq!(code("denied", None), 2);
    assert_eq!(code("pending", None), 3);
    assert_eq!(code("approved", Some("activating")), 3);
    assert_eq!(code("approved", Some("activation_failed")), 5);
    for over in ["withdrawn", "lapsed", "superseded"] {
        assert_eq!(code(over, None), 6);
    }
    assert_eq!(code("approved", Some("cancelled")), 6);
    let blocked = request_with(|view| view["eligible"] = json!([[], []]));
    assert_eq!(outcome(&blocked).code(), 4);
    // Of a batch the gravest counts.
    assert_eq!(
        [Outcome::Active, Outcome::Denied, Outcome::Pending].into_iter().max().map(Outcome::code),
        Some(2)
    );
}
