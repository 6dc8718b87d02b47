//! What control shows becomes what goes over the wire.

use halligan_client::types::{
    Askable, GrantView, IncidentView, Page, RequestView, ReviewView, ScenarioView, SessionView, SignInView,
    TokenScope,
};
use halligan_control::people::sign_in::{Caller, Scope, SignIn};
use halligan_control::views::{
    Offered, Part, SeenGrant, SeenIncident, SeenRequest, SeenReview, SeenScenario, SeenSession,
};

/// A request.
pub fn request(seen: SeenRequest) -> RequestView {
    RequestView {
        request: seen.request,
        eligible: seen.eligible,
        missing: seen.missing,
        incident_number: seen.incident_number,
        grant_state: seen.grant_state,
        may_decide: seen.may_decide,
        barred: seen.barred,
        bypass_confirmation: seen.bypass_confirmation,
    }
}

/// A grant.
pub fn grant(seen: SeenGrant) -> GrantView {
    GrantView {
        time_left: seen.time_left,
        finding: seen.finding,
        login: format!("{}+{}", seen.grant.entitlement.role, seen.grant.entitlement.system),
        incident_number: seen.incident_number,
        gateways: seen.gateways.iter().map(ToString::to_string).collect(),
        grant: seen.grant,
    }
}

/// A session.
pub fn session(seen: SeenSession) -> SessionView {
    SessionView {
        session: seen.session,
        incident_number: seen.incident_number,
        recording_class: seen.recording_class,
    }
}

/// An incident.
pub fn incident(seen: SeenIncident) -> IncidentView {
    IncidentView { incident: seen.incident, blockers: seen.blockers }
}

/// A review.
pub fn review(seen: SeenReview) -> ReviewView {
    ReviewView {
        review: seen.review,
        facts: seen.facts,
        incident_number: seen.incident_number,
        overdue: seen.overdue,
        may_judge: seen.may_judge,
        barred: seen.barred,
    }
}

/// An entitlement to ask for.
pub fn askable(offered: Offered) -> Askable {
    let entitlement = offered.resolved.entitlement;
    Askable {
        entitlement: offered.resolved.name,
        meaning: entitlement.meaning,
        system: offered.resolved.system.meaning,
        kind: offered.resolved.system.kind,
        ladder: entitlement.ladder,
        sensitivity: entitlement.sensitivity,
        standard: offered.standard,
        emergency: offered.emergency,
        durations: entitlement.durations,
        link_pattern: entitlement.link_pattern,
    }
}

/// A scenario.
pub fn scenario(seen: SeenScenario) -> ScenarioView {
    ScenarioView {
        name: seen.name,
        scenario: seen.scenario,
        may_invoke: seen.may_invoke,
        may_bypass: seen.may_bypass,
    }
}

/// A page.
pub fn page<T, U>(part: Part<T>, map: impl FnMut(T) -> U) -> Page<U> {
    Page { items: part.items.into_iter().map(map).collect(), next: part.next }
}

const fn scope(scope: Scope) -> TokenScope {
    match scope {
        Scope::Read => TokenScope::Read,
        Scope::Request => TokenScope::Request,
        Scope::Metrics => TokenScope::Metrics,
    }
}

/// The scope that a word asks for.
pub const fn asked_scope(scope: TokenScope) -> Scope {
    match scope {
        TokenScope::Read => Scope::Read,
        TokenScope::Request => Scope::Request,
        TokenScope::Metrics => Scope::Metrics,
    }
}

/// A sign-in, as `caller` sees it.
pub fn sign_in(found: SignIn, caller: Option<&Caller>) -> SignInView {
    SignInView {
        current: caller.is_some_and(|caller| caller.sign_in.id == found.id),
        id: found.id,
        created_at: found.created_at,
        expires_at: found.expires_at,
        label: found.label,
        client: found.client,
        scopes: found.scopes.map(|scopes| scopes.into_iter().map(scope).collect()),
    }
}
