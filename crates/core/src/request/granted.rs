//! A request is approved: a grant, or more time on the one that it extends.

use super::Request;
use crate::catalog::ResolvedEntitlement;
use crate::decide::Context;
use crate::event::Event;
use crate::grant::{Grant, GrantState};
use crate::ids::GrantId;
use crate::refusal::{Refusal, RefusalCode};
use crate::review::{self, About, ReviewKind};
use crate::world::{Facts, World};

/// What came of an approval.
pub(crate) struct Granted {
    /// In order.
    pub events: Vec<Event>,
    /// The grant that is new or got more time.
    pub grant: Option<GrantId>,
}

/// `request` must be brought up to now, so that its `new_total` is that of this moment.
pub(crate) fn granted(
    world: &World,
    facts: &Facts<'_>,
    context: &mut Context<'_>,
    request: &Request,
    entitlement: &ResolvedEntitlement,
) -> Result<Granted, Refusal> {
    let now = context.now;
    let durations = entitlement.entitlement.durations_at(request.severity.as_ref());
    let window = facts.catalog.settings.regrant_window;
    let running = world.running(request, now, window).unwrap_or_default();
    let (earlier_total, extensions) = if request.new_total || running.grants.is_empty() {
        (crate::time::Span::ZERO, 0)
    } else {
        (running.total, running.extensions.saturating_add(1))
    };
    if earlier_total.plus(request.duration) > durations.ceiling {
        return Err(Refusal::new(
            RefusalCode::Limit,
            format!("{} may be held for {} in all", request.entitlement, durations.ceiling),
        ));
    }
    let mut events =
        vec![Event::RequestApproved { request: request.id, at: now, automatic: request.automatic }];
    let id = request.extends.unwrap_or_else(|| context.ids.make());
    if extensions == 2 {
        let mut about = About::request(request);
        about.grant = Some(id);
        events.push(review::opened(context, facts, ReviewKind::ExtendedTwice, about));
    }
    if request.extends.is_some() {
        let grant = world.grant(id)?;
        let Some(deadline) = grant.deadline.filter(|_| grant.in_force(now)) else {
            return Err(Refusal::new(RefusalCode::WrongState, "the grant to be extended has ended")
                .next("deny this request; a new one can be filed"));
        };
        let mut continues = running.grants;
        continues.insert(id);
        events.push(Event::GrantExtended {
            grant: id,
            request: request.id,
            deadline: deadline.plus(request.duration),
            by: request.duration,
            fencing: grant.fencing + 1,
            new_total: request.new_total,
            extensions,
            continues,
        });
        return Ok(Granted { events, grant: Some(id) });
    }
    let grant = Grant {
        id,
        request: request.id,
        extended_by: Vec::new(),
        person: request.beneficiary.clone(),
        entitlement: request.entitlement.clone(),
        mode: request.mode,
        severity: request.severity.clone(),
        incident: request.incident,
        reason: request.reason.clone(),
        automatic: request.automatic,
        bypassed: request.bypass.as_ref().is_some_and(|bypass| bypass.in_effect),
        durations: durations.clone(),
        required_checks: entitlement.entitlement.proof.checks.clone(),
        state: GrantState::Scheduled,
        fencing: 1,
        duration: request.duration,
        scheduled_at: now,
        activate_by: now.plus(facts.catalog.settings.activate_within),
        activated_at: None,
        deadline: None,
        earlier_total,
        new_total: request.new_total,
        continues: running.grants,
        pending_extension: None,
        extensions,
        warned: false,
        ended_at: None,
        end_reason: None,
        gateways: Default::default(),
        deactivated: false,
        provable_at: None,
        look_at: None,
        looks: 0,
        late_alerted: false,
        checks: Default::default(),
        outcome: None,
        waivers: Default::default(),
        last_session: 0,
        open_sessions: Default::default(),
        kept: None,
    };
    events.push(Event::GrantScheduled { grant: Box::new(grant) });
    Ok(Granted { events, grant: Some(id) })
}
