//! What has to happen in the world because of an event. The world passed in is the one after the event.

use crate::command::DocumentRef;
use crate::effect::{Alert, AlertKind, Effect};
use crate::event::Event;
use crate::grant::{Grant, GrantState};
use crate::ids::{GrantId, PersonId};
use crate::proof::Finding;
use crate::request::{Mode, Request};
use crate::world::{Facts, World};

fn alert(kind: AlertKind, say: String) -> Alert {
    Alert {
        kind,
        say,
        request: None,
        grant: None,
        session: None,
        incident: None,
        review: None,
        people: Vec::new(),
    }
}

fn about_request(kind: AlertKind, request: &Request, say: String, people: Vec<PersonId>) -> Effect {
    Effect::Alert(Alert {
        request: Some(request.id),
        incident: request.incident,
        grant: request.grant,
        people,
        ..alert(kind, say)
    })
}

fn about_grant(kind: AlertKind, grant: &Grant, say: String) -> Effect {
    Effect::Alert(Alert {
        grant: Some(grant.id),
        request: Some(grant.request),
        incident: grant.incident,
        people: vec![grant.person.clone()],
        ..alert(kind, say)
    })
}

/// The effects of one event.
pub fn react(world: &World, facts: &Facts<'_>, event: &Event) -> Vec<Effect> {
    match event {
        Event::RequestFiled { request } => filed(facts, request),
        Event::Escalated { request, .. } => {
            world.requests.get(request).map(|found| filed(facts, found)).unwrap_or_default()
        }
        Event::StepMoved { request, .. } => {
            world.requests.get(request).map(|found| vec![wanted(facts, found)]).unwrap_or_default()
        }
        Event::StepBlocked { request, blocked: true, .. } => with_request(world, *request, |found| {
            about_request(
                AlertKind::ApprovalBlocked,
                found,
                format!("nobody can approve a step of the request for {}", found.entitlement),
                Vec::new(),
            )
        }),
        Event::RequestReopened { request, .. } => {
            world.requests.get(request).map(|found| vec![wanted(facts, found)]).unwrap_or_default()
        }
        Event::BypassTookEffect { request } => with_request(world, *request, |found| {
            let say = format!("the bypass for {} by {} is in effect", found.entitlement, found.beneficiary);
            about_request(AlertKind::Bypassed, found, say, Vec::new())
        }),
        Event::BypassAsked { request, person, bypass } => with_request(world, *request, |found| {
            let say = format!("{person} bypasses approval for {}: {}", found.entitlement, bypass.reason);
            about_request(AlertKind::Bypassed, found, say, bypass.not_waited_for.iter().cloned().collect())
        }),
        Event::RequestApproved { request, automatic, .. } => with_request(world, *request, |found| {
            let how = if *automatic { " by policy, to be reviewed afterwards" } else { "" };
            let say = format!("{} is approved for {}{how}", found.entitlement, found.beneficiary);
            about_request(AlertKind::Approved, found, say, vec![found.requester.clone()])
        }),
        Event::RequestDenied { request, person, .. } => with_request(world, *request, |found| {
            about_request(
                AlertKind::Denied,
                found,
                format!("{person} denied {} to {}", found.entitlement, found.beneficiary),
                vec![found.requester.clone()],
            )
        }),
        Event::GrantScheduled { grant } => vec![Effect::Activate { grant: grant.id }],
        Event::GrantActivated { grant, deadline, .. } => with_grant(world, *grant, |found| {
            vec![
                Effect::PushLease { grant: *grant },
                about_grant(
                    AlertKind::Active,
                    found,
                    format!("{} is open for {} until {deadline}", found.entitlement, found.person),
                ),
            ]
        }),
        Event::GrantExtended { grant, deadline, .. } => with_grant(world, *grant, |found| {
            vec![
                Effect::PushLease { grant: *grant },
                about_grant(
                    AlertKind::Active,
                    found,
                    format!("{} stays open for {} until {deadline}", found.entitlement, found.person),
                ),
            ]
        }),
        Event::GrantCancelled { grant, why } => with_grant(world, *grant, |found| {
            vec![about_grant(
                AlertKind::Ended,
                found,
                format!("{} was not opened for {}: {why}", found.entitlement, found.person),
            )]
        }),
        Event::LeaseHeld { grant, .. } => with_grant(world, *grant, |found| {
            if matches!(found.state, GrantState::Activating | GrantState::Active) {
                return Vec::new();
            }
            let reason = "the grant has ended".to_owned();
            vec![Effect::RevokeLease { grant: *grant, fencing: found.fencing, reason }]
        }),
        Event::GrantKept { grant, .. } => vec![Effect::PushLease { grant: *grant }],
        Event::GrantActivationFailed { grant, fencing, reason, .. } => with_grant(world, *grant, |found| {
            vec![
                Effect::Deactivate { grant: *grant, fencing: *fencing },
                about_grant(
                    AlertKind::Ended,
                    found,
                    format!("{} could not be opened for {}: {reason}", found.entitlement, found.person),
                ),
            ]
        }),
        Event::GrantEnded { grant, fencing, reason, .. } => with_grant(world, *grant, |found| {
            let reason = serde_name(reason);
            vec![
                Effect::RevokeLease { grant: *grant, fencing: *fencing, reason: reason.clone() },
                Effect::Deactivate { grant: *grant, fencing: *fencing },
                about_grant(
                    AlertKind::Ended,
                    found,
                    format!("{} is closed for {} ({reason})", found.entitlement, found.person),
                ),
            ]
        }),
        Event::GrantDeactivated { grant, provable_at } => with_grant(world, *grant, |found| {
            vec![Effect::Look { grant: *grant, fencing: found.fencing, not_before: *provable_at }]
        }),
        Event::LookAsked { grant, at, .. } => with_grant(world, *grant, |found| {
            vec![Effect::Look { grant: *grant, fencing: found.fencing, not_before: *at }]
        }),
        Event::DeadlineNear { grant, deadline } => with_grant(world, *grant, |found| {
            vec![about_grant(
                AlertKind::BeforeDeadline,
                found,
                format!("{} closes for {} at {deadline}", found.entitlement, found.person),
            )]
        }),
        Event::GrantLooked { grant, evidence, .. }
            if evidence.checks.iter().any(|check| check.finding == Finding::Unknown) =>
        {
            with_grant(world, *grant, |found| {
                if found.looks != 1 {
                    return Vec::new();
                }
                vec![about_grant(
                    AlertKind::RevocationUnknown,
                    found,
                    format!(
                        "it cannot be told yet whether {} is shut for {}",
                        found.entitlement, found.person
                    ),
                )]
            })
        }
        Event::RevocationFailed { grant } => with_grant(world, *grant, |found| {
            vec![about_grant(
                AlertKind::RevocationFailed,
                found,
                format!("{} is STILL OPEN to {}'s old credential", found.entitlement, found.person),
            )]
        }),
        Event::RevocationLate { grant } => with_grant(world, *grant, |found| {
            vec![about_grant(
                AlertKind::RevocationLate,
                found,
                format!("the revocation of {} for {} is not proved yet", found.entitlement, found.person),
            )]
        }),
        Event::SessionOpened { session } => {
            let mut effects = Vec::new();
            let of_session = |kind, say| {
                Effect::Alert(Alert {
                    session: Some(session.id),
                    grant: Some(session.grant),
                    incident: session.incident,
                    ..alert(kind, say)
                })
            };
            // Whatever it was when the session began: a grant that has ended has no sessions.
            let ended =
                world.grants.get(&session.grant).is_none_or(|grant| grant.state != GrantState::Active);
            if session.outside_grant || ended {
                let reason = "the grant is not in force".to_owned();
                effects.push(Effect::KillSession {
                    session: session.id,
                    gateway: session.gateway.clone(),
                    reason,
                });
            }
            if session.outside_grant {
                effects.push(of_session(
                    AlertKind::UnauthorisedAttempt,
                    format!("a session on {} was opened outside its grant", session.entitlement),
                ));
            }
            if session.number == 1 {
                effects.push(of_session(
                    AlertKind::FirstSession,
                    format!("{} is in {}", session.person, session.entitlement),
                ));
            }
            effects
        }
        Event::SessionTerminated { session, reason, .. } => world
            .sessions
            .get(session)
            .map(|found| {
                vec![Effect::KillSession {
                    session: *session,
                    gateway: found.gateway.clone(),
                    reason: reason.clone(),
                }]
            })
            .unwrap_or_default(),
        Event::StatementHeld { session, statement, .. } => {
            let Some(found) = world.sessions.get(session) else { return Vec::new() };
            let people = crate::session::releasers(world, facts, found, statement.since);
            // Not its text: that may be the customers' data, and alerts go far.
            let say = format!(
                "{} wants to run a statement of class {} on {}, and a second person must allow it until {}",
                found.person, statement.class, found.entitlement, statement.until
            );
            vec![Effect::Alert(Alert {
                session: Some(*session),
                grant: Some(found.grant),
                incident: found.incident,
                people: people.into_iter().take(50).collect(),
                ..alert(AlertKind::StatementHeld, say)
            })]
        }
        Event::StatementReleased { session, hold, answer } => world
            .sessions
            .get(session)
            .map(|found| {
                vec![Effect::ReleaseStatement {
                    session: *session,
                    gateway: found.gateway.clone(),
                    hold: *hold,
                    allow: answer.allow,
                    by: answer.by.clone(),
                    reason: answer.reason.clone(),
                }]
            })
            .unwrap_or_default(),
        Event::StatementSettled { session, hold, unasked: true, .. } => {
            let found = world.sessions.get(session);
            let gateway = found.map(|found| found.gateway.to_string()).unwrap_or_default();
            let say = format!(
                "gateway {gateway} let held statement {hold} of session {session} pass, and nobody had allowed it"
            );
            vec![Effect::Alert(Alert {
                session: Some(*session),
                incident: found.and_then(|found| found.incident),
                ..alert(AlertKind::UnauthorisedAttempt, say)
            })]
        }
        Event::RecordingLost { session, incident, reason } => vec![Effect::Alert(Alert {
            session: Some(*session),
            incident: *incident,
            ..alert(AlertKind::RecordingLost, format!("a recording is lost: {reason}"))
        })],
        Event::AttemptRefused { person, what, client, reason } => {
            let who = person.as_ref().map_or("somebody unknown", |person| person.as_str());
            vec![Effect::Alert(alert(
                AlertKind::UnauthorisedAttempt,
                format!("{who} tried {what} from {client}: {reason}"),
            ))]
        }
        Event::UnexplainedFound { grant, system, what } => {
            let say = format!("on {system} there was what no session explains: {what}");
            vec![Effect::Alert(Alert { grant: *grant, ..alert(AlertKind::Unexplained, say) })]
        }
        Event::RecordingPlayed { session, person, how } => vec![Effect::Alert(Alert {
            session: Some(*session),
            incident: world.sessions.get(session).and_then(|found| found.incident),
            ..alert(AlertKind::Playback, format!("{person} opened a recording ({how})"))
        })],
        Event::ChangeProposed { change } if change.widening && !change.alone => {
            let say = format!(
                "{} wants to change Halligan, and a second person must agree: {}",
                change.proposed_by,
                first_line(&change.summary)
            );
            let people = change.confirmers.iter().take(50).cloned().collect();
            vec![Effect::Alert(Alert { people, ..alert(AlertKind::Widened, say) })]
        }
        Event::ChangeApplied { change: id, alone, .. } => world
            .changes
            .get(id)
            .map(|change| {
                let mut effects = vec![Effect::ApplyChange { change: *id }];
                if change.widening {
                    let who = match (&change.confirmed_by, alone) {
                        (Some(second), _) => format!("{} and {second}", change.proposed_by),
                        (None, true) => format!("{} ALONE (single-administrator)", change.proposed_by),
                        (None, false) => change.proposed_by.to_string(),
                    };
                    let say = format!("Halligan was changed by {who}: {}", first_line(&change.summary));
                    effects.push(Effect::Alert(alert(AlertKind::Widened, say)));
                }
                effects
            })
            .unwrap_or_default(),
        Event::IncidentOpened { incident } => vec![of_incident(world, incident.id, "opened")],
        Event::IncidentMitigated { incident, .. } => {
            vec![of_incident(world, *incident, "mitigated: its access ends now")]
        }
        Event::IncidentClosed { incident, .. } => {
            vec![of_incident(world, *incident, "closed, with everything proved")]
        }
        Event::IncidentClosedUnproven { incident, .. } => {
            vec![of_incident(world, *incident, "CLOSED UNPROVEN by two people")]
        }
        Event::IncidentReopened { incident, why } => {
            vec![of_incident(world, *incident, &format!("open again: {why}"))]
        }
        Event::ReviewOpened { review } => vec![Effect::Alert(Alert {
            review: Some(review.id),
            incident: review.incident,
            grant: review.grant,
            ..alert(
                AlertKind::ReviewDue,
                format!(
                    "a review ({}) of {} is due by {}",
                    serde_name(&review.kind),
                    review.person,
                    review.due_at
                ),
            )
        })],
        Event::ReviewOverdue { review } => world
            .reviews
            .get(review)
            .map(|found| {
                vec![Effect::Alert(Alert {
                    review: Some(*review),
                    incident: found.incident,
                    ..alert(
                        AlertKind::ReviewOverdue,
                        format!("the review of {} was due at {}", found.person, found.due_at),
                    )
                })]
            })
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn filed(facts: &Facts<'_>, request: &Request) -> Vec<Effect> {
    let mut effects = Vec::new();
    if request.mode == Mode::Emergency {
        let severity = request.severity.as_ref().map_or("", |severity| severity.as_str());
        let say = format!(
            "EMERGENCY {severity}: {} asks for {}: {}",
            request.beneficiary, request.entitlement, request.reason
        );
        effects.push(about_request(AlertKind::EmergencyRequested, request, say, Vec::new()));
    }
    if !request.automatic {
        effects.push(wanted(facts, request));
        if request.steps.iter().any(|step| step.blocked) {
            let say = format!("nobody can approve a step of the request for {}", request.entitlement);
            effects.push(about_request(AlertKind::ApprovalBlocked, request, say, Vec::new()));
        }
    }
    effects
}

fn wanted(facts: &Facts<'_>, request: &Request) -> Effect {
    let people = facts
        .entitlements
        .get(&request.entitlement)
        .map(|entitlement| {
            let now = request.timers_from;
            let all = request
                .steps
                .iter()
                .flat_map(|step| crate::request::eligible(facts, request, entitlement, step, now));
            all.collect::<std::collections::BTreeSet<_>>()
        })
        .unwrap_or_default();
    let say = format!("{} asks for {} and needs your decision", request.beneficiary, request.entitlement);
    about_request(AlertKind::DecisionWanted, request, say, people.into_iter().take(50).collect())
}

fn with_request(
    world: &World,
    id: crate::ids::RequestId,
    make: impl FnOnce(&Request) -> Effect,
) -> Vec<Effect> {
    world.requests.get(&id).map(make).into_iter().collect()
}

fn with_grant(world: &World, id: GrantId, make: impl FnOnce(&Grant) -> Vec<Effect>) -> Vec<Effect> {
    world.grants.get(&id).map(make).unwrap_or_default()
}

fn of_incident(world: &World, id: crate::ids::IncidentId, what: &str) -> Effect {
    let label = world
        .incidents
        .get(&id)
        .map_or_else(|| id.to_string(), |found| format!("{} ({})", found.label(), found.title));
    Effect::Alert(Alert { incident: Some(id), ..alert(AlertKind::Incident, format!("{label} {what}")) })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

/// The name that serde gives a unit variant.
fn serde_name(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|json| json.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The incident that an event belongs to, for the incident's numbered chain: that of the documents it changed.
pub fn incident_of(world: &World) -> Option<crate::ids::IncidentId> {
    world.changed.iter().find_map(|document| match document {
        DocumentRef::Incident(id) => Some(*id),
        DocumentRef::Request(id) => world.requests.get(id).and_then(|found| found.incident),
        DocumentRef::Grant(id) => world.grants.get(id).and_then(|found| found.incident),
        DocumentRef::Session(id) => world.sessions.get(id).and_then(|found| found.incident),
        DocumentRef::Review(id) => world.reviews.get(id).and_then(|found| found.incident),
        DocumentRef::Standing(_) | DocumentRef::Change(_) => None,
    })
}
