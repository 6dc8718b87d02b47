//! Requests.

use std::collections::BTreeSet;

use halligan_client::types::RequestView;
use halligan_core::grant::GrantState;
use halligan_core::request::{RequestState, Verdict};

use super::{bolt, incident_name, names};
use crate::output::{Look, Tone, printable, word};

/// How it stands, in words, and how that looks.
fn standing(view: &RequestView) -> (Tone, String) {
    let request = &view.request;
    match (request.state, view.grant_state) {
        (RequestState::Pending, _) if blocked(view) => (Tone::Bad, "blocked: nobody can approve".to_owned()),
        (RequestState::Pending, _) => (Tone::Warn, "pending".to_owned()),
        (RequestState::Denied, _) => (Tone::Bad, "denied".to_owned()),
        (RequestState::Approved, Some(grant)) => {
            let tone = match grant {
                GrantState::Active | GrantState::Revoked => Tone::Good,
                GrantState::ActivationFailed | GrantState::RevocationFailed => Tone::Bad,
                _ => Tone::Plain,
            };
            (tone, word(&grant))
        }
        (state, _) => (Tone::Plain, word(&state)),
    }
}

/// A step that is still wanted has nobody who could approve it.
pub fn blocked(view: &RequestView) -> bool {
    view.missing.iter().any(|step| {
        view.request.steps.get(*step).is_some_and(|open| open.blocked)
            || view.eligible.get(*step).is_some_and(BTreeSet::is_empty)
    })
}

/// A list of requests.
pub fn request_table(look: &Look, views: &[RequestView]) -> String {
    let mut table = look.table(&["id", "entitlement", "who", "state", "filed", "incident", "reason"]);
    for view in views {
        let request = &view.request;
        let (tone, state) = standing(view);
        table.add_row([
            look.cell(Tone::Plain, request.id),
            look.cell(Tone::Plain, format!("{}{}", bolt(request.mode), request.entitlement)),
            look.cell(Tone::Plain, &request.beneficiary),
            look.cell(tone, state),
            look.cell(Tone::Plain, look.when(request.filed_at)),
            look.cell(Tone::Plain, incident_name(view.incident_number)),
            look.cell(Tone::Plain, printable(&request.reason)),
        ]);
    }
    table.trim_fmt()
}

/// One line: `⚡ orders-db/read-only for anna, 1h, sev1`.
pub fn request_title(view: &RequestView) -> String {
    let request = &view.request;
    let mut text = format!(
        "{}{} for {}, {}",
        bolt(request.mode),
        request.entitlement,
        request.beneficiary,
        request.duration
    );
    if let Some(severity) = &request.severity {
        text.push_str(&format!(", {severity}"));
    }
    text
}

/// All that is to be known before deciding.
pub fn request_card(look: &Look, view: &RequestView) -> String {
    let request = &view.request;
    let (tone, state) = standing(view);
    let severity = request.severity.as_ref().map(|severity| {
        format!("{severity} ({})", if request.severity_attested { "attested" } else { "claimed" })
    });
    let requester =
        if request.requester == request.beneficiary { String::new() } else { request.requester.to_string() };
    let pending = request.state == RequestState::Pending;
    let mut rows = vec![
        ("request", request.id.to_string()),
        ("batch", request.batch.map(|id| id.to_string()).unwrap_or_default()),
        ("what", format!("{}{}", bolt(request.mode), request.entitlement)),
        ("for whom", request.beneficiary.to_string()),
        ("asked by", requester),
        ("for", request.duration.to_string()),
        ("reason", printable(&request.reason)),
        ("severity", severity.unwrap_or_default()),
        ("scenario", request.scenario.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("incident", incident_name(view.incident_number)),
        ("ticket", request.link.as_deref().map(printable).unwrap_or_default()),
        ("why not lower", request.why_not_lower.as_deref().map(printable).unwrap_or_default()),
        ("extends", request.extends.map(|id| id.to_string()).unwrap_or_default()),
        ("state", look.paint(tone, &state)),
        ("filed", look.when(request.filed_at)),
        ("lapses", if pending { look.when(request.lapses_at) } else { String::new() }),
        ("policy", format!("{} (catalog version {})", request.policy, request.catalog_version)),
        ("approved", if request.automatic { "by policy alone".to_owned() } else { String::new() }),
        ("grant", request.grant.map(|id| id.to_string()).unwrap_or_default()),
    ];
    for decision in &request.decisions {
        let said = decision.reason.as_deref().map(|reason| format!(": {}", printable(reason)));
        let verb = match decision.verdict {
            Verdict::Approve if decision.void => "approved (void)",
            Verdict::Approve if decision.carried => "approved (carried)",
            Verdict::Approve => "approved",
            Verdict::Deny => "denied",
        };
        rows.push((
            "decision",
            format!("{} {verb}, {}{}", decision.person, look.when(decision.at), said.unwrap_or_default()),
        ));
    }
    if let Some(bypass) = &request.bypass {
        let when = if bypass.in_effect { "in effect since" } else { "takes effect" };
        rows.push((
            "bypass",
            format!("⚡ {when} {}: {}", look.when(bypass.effective_at), printable(&bypass.reason)),
        ));
    }
    if pending {
        for step in &view.missing {
            let name = request.steps.get(*step).map(|open| printable(&open.step.name)).unwrap_or_default();
            let who = view.eligible.get(*step).map(names).unwrap_or_default();
            let who = if who.is_empty() { look.paint(Tone::Bad, "nobody") } else { who };
            rows.push(("waits for", format!("{name}: {who}")));
        }
    }
    rows.push(("digest", request.scope_digest.chars().take(16).collect()));
    rows.push(("you", if view.may_decide { "may decide it".to_owned() } else { String::new() }));
    rows.push(("you may not", view.barred.as_deref().map(printable).unwrap_or_default()));
    look.card(&rows)
}
