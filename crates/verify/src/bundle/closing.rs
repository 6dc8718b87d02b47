//! The incident as a whole: closed, and every document that belongs to it is here.

use halligan_core::command::DocumentRef;
use halligan_core::incident::{IncidentState, blockers};

use super::file::Opened;
use crate::findings::{Report, count};
use crate::replay::name;
use crate::story::Story;

pub(super) fn check(opened: &Opened, story: &Story, report: &mut Report) {
    let Some(incident) = story.incident(opened.manifest.incident) else { return };
    report.check("incident closed", |faults| {
        faults.unless(incident.number == opened.manifest.number, || {
            format!("the manifest says INC-{}, the incident is {}", opened.manifest.number, incident.label())
        });
        match incident.state {
            IncidentState::Closed => {}
            IncidentState::ClosedUnproven => {
                let people: Vec<String> = incident.unproven.keys().map(ToString::to_string).collect();
                faults.say(format!(
                    "{} was ended WITHOUT proof by {}",
                    incident.label(),
                    people.join(" and ")
                ));
            }
            _ => faults.say(format!("{} is not closed", incident.label())),
        }
        for blocker in blockers(incident) {
            faults.say(format!("{}: {blocker}", incident.label()));
        }
        incident.closed_at.map_or_else(String::new, |at| format!("at {at}"))
    });
    report.check("documents complete", |faults| {
        let world = &story.world;
        let mut belongs = 0;
        let mut wants = |document: DocumentRef, here: bool| {
            belongs += 1;
            faults.unless(here, || format!("{} belongs to the incident and is missing", name(&document)));
        };
        for id in incident.grants.keys() {
            wants(DocumentRef::Grant(*id), world.grants.contains_key(id));
        }
        for id in incident.reviews.keys() {
            wants(DocumentRef::Review(*id), world.reviews.contains_key(id));
        }
        for grant in world.grants.values() {
            for id in std::iter::once(&grant.request).chain(&grant.extended_by) {
                wants(DocumentRef::Request(*id), world.requests.contains_key(id));
            }
        }
        let sessions = world.sessions.len();
        faults.unless(sessions == incident.sessions as usize, || {
            format!("the incident counts {} sessions, {sessions} are here", incident.sessions)
        });
        // And the other way round: nothing here is foreign.
        let foreign = |document: DocumentRef| format!("{} does not belong to this incident", name(&document));
        for (id, grant) in &world.grants {
            faults.unless(incident.grants.contains_key(id) && grant.incident == Some(incident.id), || {
                foreign(DocumentRef::Grant(*id))
            });
        }
        for (id, request) in &world.requests {
            faults.unless(request.incident == Some(incident.id), || foreign(DocumentRef::Request(*id)));
        }
        for (id, session) in &world.sessions {
            faults.unless(session.incident == Some(incident.id), || foreign(DocumentRef::Session(*id)));
        }
        for (id, review) in &world.reviews {
            faults.unless(incident.reviews.contains_key(id) && review.incident == Some(incident.id), || {
                foreign(DocumentRef::Review(*id))
            });
        }
        count(belongs + sessions, "document", "documents")
    });
}
