//! Grants.

use halligan_client::types::GrantView;
use halligan_core::catalog::CheckKind;
use halligan_core::grant::{Grant, GrantState, ProofOutcome};
use halligan_core::ids::Name;
use halligan_core::proof::Finding;

use super::{bolt, incident_name};
use crate::output::{Look, Tone, printable, roughly, word};

const fn tone(state: GrantState) -> Tone {
    match state {
        GrantState::Active | GrantState::Revoked => Tone::Good,
        GrantState::Scheduled | GrantState::Activating | GrantState::Revoking => Tone::Warn,
        GrantState::ActivationFailed | GrantState::RevocationFailed => Tone::Bad,
        GrantState::Cancelled => Tone::Plain,
    }
}

/// What is proved of its end, or when it ends.
fn ends(look: &Look, view: &GrantView) -> String {
    let grant = &view.grant;
    match grant.state {
        GrantState::Active => match (view.time_left, grant.deadline) {
            (Some(left), Some(deadline)) => {
                let stamp = look.when(deadline);
                let stamp = stamp.split_once('(').map_or(stamp.clone(), |(_, rest)| format!("({rest}"));
                format!("{} left {stamp}", roughly(left))
            }
            (None, Some(deadline)) => look.when(deadline),
            (_, None) => String::new(),
        },
        GrantState::Scheduled | GrantState::Activating => {
            format!("to begin {}", look.when(grant.activate_by))
        }
        GrantState::Revoking => match grant.provable_at {
            Some(at) if at > look.now => format!("provable {}", look.when(at)),
            _ => "being proved".to_owned(),
        },
        _ => grant.ended_at.map(|at| look.when(at)).unwrap_or_default(),
    }
}

fn proof(view: &GrantView) -> (Tone, String) {
    match (&view.grant.outcome, view.grant.ended_at) {
        (Some(ProofOutcome::Proven { .. }), _) => (Tone::Good, "PROVEN".to_owned()),
        (Some(ProofOutcome::Waived { .. }), _) => (Tone::Warn, "waived".to_owned()),
        (Some(ProofOutcome::TargetGone { .. }), _) => (Tone::Warn, "target gone".to_owned()),
        (None, None) => (Tone::Plain, String::new()),
        (None, Some(_)) => match view.finding {
            Finding::Proven => (Tone::Good, "PROVEN".to_owned()),
            Finding::Failed => (Tone::Bad, "FAILED".to_owned()),
            Finding::Unknown => (Tone::Warn, "UNKNOWN".to_owned()),
        },
    }
}

/// A list of grants.
pub fn grant_table(look: &Look, views: &[GrantView]) -> String {
    let mut table = look.table(&["id", "entitlement", "who", "state", "ends", "proof", "incident"]);
    for view in views {
        let grant = &view.grant;
        let (proof_tone, proof) = proof(view);
        table.add_row([
            look.cell(Tone::Plain, grant.id),
            look.cell(Tone::Plain, format!("{}{}", bolt(grant.mode), grant.entitlement)),
            look.cell(Tone::Plain, &grant.person),
            look.cell(tone(grant.state), word(&grant.state)),
            look.cell(Tone::Plain, ends(look, view)),
            look.cell(proof_tone, proof),
            look.cell(Tone::Plain, incident_name(view.incident_number)),
        ]);
    }
    table.trim_fmt()
}

/// One grant with its proof, check by check.
pub fn grant_card(look: &Look, view: &GrantView) -> String {
    let grant = &view.grant;
    let (proof_tone, proof) = proof(view);
    let when = |time: Option<_>| time.map(|time| look.when(time)).unwrap_or_default();
    let how = match (grant.automatic, grant.bypassed) {
        (_, true) => "⚡ by bypass",
        (true, false) => "by policy alone",
        (false, false) => "",
    };
    let mut rows = vec![
        ("grant", grant.id.to_string()),
        ("what", format!("{}{}", bolt(grant.mode), grant.entitlement)),
        ("who", grant.person.to_string()),
        ("reason", printable(&grant.reason)),
        ("incident", incident_name(view.incident_number)),
        ("request", grant.request.to_string()),
        ("approved", how.to_owned()),
        ("state", look.paint(tone(grant.state), &word(&grant.state))),
        ("began", when(grant.activated_at)),
        ("ends", if grant.ended_at.is_none() { ends(look, view) } else { String::new() }),
        ("ended", when(grant.ended_at)),
        ("because", grant.end_reason.map(|reason| word(&reason)).unwrap_or_default()),
        ("extensions", if grant.extensions > 0 { grant.extensions.to_string() } else { String::new() }),
        ("sessions", format!("{} ({} open)", grant.last_session, grant.open_sessions.len())),
        ("proof", look.paint(proof_tone, &proof)),
        ("provable", if grant.outcome.is_none() { when(grant.provable_at) } else { String::new() }),
    ];
    if let Some(ProofOutcome::TargetGone { by, at, reason }) = &grant.outcome {
        rows.push(("attested", format!("by {by}, {}: {}", look.when(*at), printable(reason))));
    }
    for (kind, check) in &grant.checks {
        let tone = match check.finding {
            Finding::Proven => Tone::Good,
            Finding::Failed => Tone::Bad,
            Finding::Unknown => Tone::Warn,
        };
        let asked = if grant.required_checks.contains(kind) { "" } else { " (not asked for)" };
        let finding = look.paint(tone, &word(&check.finding).to_uppercase());
        let said_by = word(&check.said_by);
        rows.push((
            "check",
            format!("{}{asked}: {finding}, says the {said_by}: {}", word(kind), printable(&check.detail)),
        ));
    }
    for kind in grant.required_checks.iter().filter(|kind| !grant.checks.contains_key(kind)) {
        if grant.ended_at.is_some() {
            rows.push(("check", format!("{}: {}", word(kind), unseen(look, grant, *kind))));
        }
    }
    for (person, reason) in &grant.waivers {
        rows.push(("waived", format!("by {person}: {}", printable(reason))));
    }
    if let Some(kept) = &grant.kept {
        rows.push((
            "kept",
            format!("ends {}, says {}: {}", look.when(kept.until), kept.by, printable(&kept.reason)),
        ));
    }
    look.card(&rows)
}

/// How to go in.
pub fn login_hint(view: &GrantView) -> String {
    format!("next: halligan ssh {}", view.grant.entitlement)
}

/// A required check that no target answers. What gateways hold is known from their own ledgers, not looked up.
fn unseen(look: &Look, grant: &Grant, kind: CheckKind) -> String {
    if kind != CheckKind::GatewayConnections {
        return "not seen yet".to_owned();
    }
    let open: Vec<&str> =
        grant.gateways.iter().filter(|(_, gone)| !**gone).map(|(name, _)| name.as_str()).collect();
    if open.is_empty() && grant.open_sessions.is_empty() {
        let all: Vec<&str> = grant.gateways.keys().map(Name::as_str).collect();
        let names = if all.is_empty() { "no gateway ever held it".to_owned() } else { all.join(", ") };
        return format!("{}, says the gateway: {names}", look.paint(Tone::Good, "PROVEN"));
    }
    format!("waits for {}", if open.is_empty() { "its sessions to end".to_owned() } else { open.join(", ") })
}
