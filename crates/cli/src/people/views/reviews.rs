//! Reviews.

use halligan_client::types::ReviewView;
use halligan_core::review::ReviewState;

use super::incident_name;
use crate::output::{Look, Tone, printable, word};

fn standing(view: &ReviewView) -> (Tone, String) {
    match view.review.state {
        _ if view.overdue => (Tone::Bad, format!("{}, overdue", word(&view.review.state))),
        ReviewState::Due | ReviewState::InReview => (Tone::Warn, word(&view.review.state)),
        ReviewState::Judged | ReviewState::Closed => (Tone::Good, word(&view.review.state)),
    }
}

/// A list of reviews.
pub fn review_table(look: &Look, views: &[ReviewView]) -> String {
    let mut table = look.table(&["id", "about", "whose", "on", "state", "due", "incident"]);
    for view in views {
        let review = &view.review;
        let (tone, state) = standing(view);
        table.add_row([
            look.cell(Tone::Plain, review.id),
            look.cell(Tone::Plain, word(&review.kind)),
            look.cell(Tone::Plain, &review.person),
            look.cell(Tone::Plain, review.entitlement.as_ref().map(ToString::to_string).unwrap_or_default()),
            look.cell(tone, state),
            look.cell(Tone::Plain, look.when(review.due_at)),
            look.cell(Tone::Plain, incident_name(view.incident_number)),
        ]);
    }
    table.trim_fmt()
}

/// One review: the computed facts beside the questions, and what was judged.
pub fn review_card(look: &Look, view: &ReviewView) -> String {
    let review = &view.review;
    let (tone, state) = standing(view);
    let id = |id: Option<String>| id.unwrap_or_default();
    let mut rows = vec![
        ("review", review.id.to_string()),
        ("about", word(&review.kind)),
        ("whose", review.person.to_string()),
        ("on", review.entitlement.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("incident", incident_name(view.incident_number)),
        ("grant", id(review.grant.map(|id| id.to_string()))),
        ("request", id(review.request.map(|id| id.to_string()))),
        ("session", id(review.session.map(|id| id.to_string()))),
        ("state", look.paint(tone, &state)),
        ("due", look.when(review.due_at)),
        ("reviewer", review.reviewer.as_ref().map(ToString::to_string).unwrap_or_default()),
    ];
    for (question, fact) in &view.facts {
        rows.push(("fact", format!("{}: {}", printable(&question.replace('_', " ")), printable(fact))));
    }
    if let Some(judged) = &review.judgement {
        let yes = |answer: bool| if answer { "yes" } else { "no" };
        rows.push((
            "judged",
            format!("{} by {}, {}", word(&judged.classification), judged.by, look.when(judged.at)),
        ));
        rows.push(("invoked correctly", yes(judged.invoked_correctly).to_owned()));
        rows.push(("too wide", yes(judged.too_wide).to_owned()));
        rows.push(("approvals timely", yes(judged.approvals_timely).to_owned()));
        rows.push(("prevention", printable(&judged.prevention)));
        rows.push((
            "no activity",
            judged.empty_activity_explained.as_deref().map(printable).unwrap_or_default(),
        ));
        rows.push(("note", printable(&judged.note)));
    }
    if let Some(deferral) = &review.deferral {
        let until = look.when(deferral.until);
        rows.push((
            "deferred",
            format!("due again {until}, says {}: {}", deferral.by, printable(&deferral.reason)),
        ));
    }
    for (index, action) in review.actions.iter().enumerate() {
        let state = match action.done_at {
            Some(at) => format!("done {}", look.when(at)),
            None => format!("due {}", look.when(action.due_at)),
        };
        rows.push(("action", format!("{index}: {} ({}, {state})", printable(&action.what), action.owner)));
    }
    rows.push(("you", if view.may_judge { "may judge it".to_owned() } else { String::new() }));
    rows.push(("you may not", view.barred.as_deref().map(printable).unwrap_or_default()));
    look.card(&rows)
}
