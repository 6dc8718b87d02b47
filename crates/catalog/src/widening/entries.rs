//! Everything but systems and entitlements.

use std::collections::BTreeMap;
use std::fmt::Display;

use halligan_core::catalog::{
    Automatic, Catalog, Group, Office, Person, Policy, PolicyRule, Profile, Route, Scenario, Schedule,
    Sensitivity, Settings, Severity, SeverityWord, Step,
};

use super::Wider;
use super::entitlement::{entitlement, role_removed};

pub(super) fn entries(wider: &mut Wider, old: &Catalog, new: &Catalog) {
    settings(wider, &old.settings, &new.settings);
    each(wider, "severity", &old.severities, &new.severities, severity);
    each(wider, "sensitivity", &old.sensitivities, &new.sensitivities, sensitivity);
    each(wider, "person", &old.people, &new.people, person);
    each(wider, "group", &old.groups, &new.groups, group);
    each(wider, "office", &old.offices, &new.offices, office);
    each(wider, "schedule", &old.schedules, &new.schedules, schedule);
    each(wider, "policy", &old.policies, &new.policies, policy);
    each(wider, "scenario", &old.scenarios, &new.scenarios, scenario);
    each(wider, "route", &old.routes, &new.routes, route);
    for (name, now) in &new.profiles {
        profile(wider, old, new, name, old.profiles.get(name), Some(now));
    }
    for (name, before) in old.profiles.iter().filter(|(name, _)| !new.profiles.contains_key(*name)) {
        profile(wider, old, new, name, Some(before), None);
    }
    for waiver in new.waivers.iter().filter(|waiver| !old.waivers.contains(waiver)) {
        wider.about(format!("waiver:{}:{}", waiver.finding, waiver.entry));
        wider.say(format!("{} accepts a finding of the check", waiver.by));
    }
    // The organisation's name, the chart and what apply writes give no right to anybody.
}

fn each<K: Ord + Display, V: PartialEq>(
    wider: &mut Wider,
    kind: &str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    compare: impl Fn(&mut Wider, Option<&V>, Option<&V>),
) {
    for (name, now) in new {
        let before = old.get(name);
        if before != Some(now) {
            wider.about(format!("{kind}:{name}"));
            compare(wider, before, Some(now));
        }
    }
    for (name, before) in old.iter().filter(|(name, _)| !new.contains_key(name)) {
        wider.about(format!("{kind}:{name}"));
        compare(wider, Some(before), None);
    }
}

fn settings(wider: &mut Wider, old: &Settings, new: &Settings) {
    if old == new {
        return;
    }
    wider.about("settings");
    for (key, old, new) in [
        ("activate_within", old.activate_within, new.activate_within),
        ("request_lapses_after", old.request_lapses_after, new.request_lapses_after),
        ("factor_fresh_for", old.factor_fresh_for, new.factor_fresh_for),
        ("review_post_use", old.review_post_use, new.review_post_use),
        ("review_bypass", old.review_bypass, new.review_bypass),
        ("review_extended_twice", old.review_extended_twice, new.review_extended_twice),
        ("review_deferral", old.review_deferral, new.review_deferral),
        ("revocation_late_after", old.revocation_late_after, new.revocation_late_after),
    ] {
        wider.when(new > old, format!("{key} is longer: {old} → {new}"));
    }
    for (key, old, new) in [
        ("approver_minimum_age", old.approver_minimum_age, new.approver_minimum_age),
        ("denial_blocks_automatic", old.denial_blocks_automatic, new.denial_blocks_automatic),
        ("regrant_window", old.regrant_window, new.regrant_window),
        ("second_bypass_wait", old.second_bypass_wait, new.second_bypass_wait),
    ] {
        wider.when(new < old, format!("{key} is shorter: {old} → {new}"));
    }
    wider.when(
        new.closed_unproven_allowed && !old.closed_unproven_allowed,
        "incidents may be closed unproven",
    );
    // Every setting is above, but for one on which only a warning hangs. A new one does not compile until it is here.
    let Settings {
        activate_within: _,
        approver_minimum_age: _,
        request_lapses_after: _,
        denial_blocks_automatic: _,
        regrant_window: _,
        second_bypass_wait: _,
        review_post_use: _,
        review_bypass: _,
        review_extended_twice: _,
        review_deferral: _,
        revocation_late_after: _,
        factor_fresh_for: _,
        emergency_catalog_limit: _,
        closed_unproven_allowed: _,
    } = new;
}

fn severity(wider: &mut Wider, old: Option<&Severity>, new: Option<&Severity>) {
    let Some(new) = new else { return };
    let Some(old) = old else { return wider.say("a new severity, with whatever policies say of it") };
    let mut known = old.clone();
    known.meaning.clone_from(&new.meaning);
    known.examples.clone_from(&new.examples);
    match (old.declared_by.is_empty(), new.declared_by.is_empty()) {
        (false, true) => wider.say("everybody may declare it"),
        (true, _) => {}
        (false, false) => wider.more("may declare it", &old.declared_by, &new.declared_by),
    }
    known.declared_by.clone_from(&new.declared_by);
    wider.more("maps to it from outside", &old.maps_from, &new.maps_from);
    known.maps_from.clone_from(&new.maps_from);
    wider.when(known != *new, format!("its rank changes: {} → {}", old.rank, new.rank));
}

fn sensitivity(wider: &mut Wider, old: Option<&Sensitivity>, new: Option<&Sensitivity>) {
    let (Some(old), Some(new)) = (old, new) else { return };
    let Sensitivity { meaning: _, automatic_approval: _, distinct_approvers: _ } = new;
    wider.when(new.automatic_approval && !old.automatic_approval, "policies may approve by themselves");
    wider.when(
        new.distinct_approvers < old.distinct_approvers,
        format!("fewer distinct approvers: {} → {}", old.distinct_approvers, new.distinct_approvers),
    );
}

fn person(wider: &mut Wider, old: Option<&Person>, new: Option<&Person>) {
    let Some(new) = new.filter(|person| !person.left) else { return };
    let Some(old) = old else { return wider.say(format!("{} is new", new.name)) };
    let Person { name: _, email: _, manager: _, deputies: _, left: _ } = new;
    wider.when(old.left, format!("{} comes back", new.name));
    wider.when(old.email != new.email, "mail for them goes elsewhere");
    wider
        .when(old.name.trim() != new.name.trim(), format!("is called {} now, {} before", new.name, old.name));
    if let Some(manager) = new.manager.as_ref().filter(|_| old.manager != new.manager) {
        wider.say(format!("{manager} is their manager, and approves as such"));
    }
    wider.fewer("may approve for them, being no deputy any more", &old.deputies, &new.deputies);
}

fn group(wider: &mut Wider, old: Option<&Group>, new: Option<&Group>) {
    // A new group is of no use until something names it, which shows there.
    if let (Some(old), Some(new)) = (old, new) {
        let Group { meaning: _, members: _ } = new;
        wider.more("new member", &old.members, &new.members);
    }
}

fn office(wider: &mut Wider, old: Option<&Office>, new: Option<&Office>) {
    let Some(new) = new else { return };
    let empty = Office::default();
    let old = old.unwrap_or(&empty);
    let Office { people: _, groups: _ } = new;
    wider.more("new holder", &old.people, &new.people);
    wider.more("new holders, group", &old.groups, &new.groups);
}

fn schedule(wider: &mut Wider, old: Option<&Schedule>, new: Option<&Schedule>) {
    let (Some(old), Some(new)) = (old, new) else { return };
    wider.more("new in the rotation", &old.people, &new.people);
    wider.more("takes a turn", &old.overrides, &new.overrides);
    // Whatever else changes in it moves the turns, and with them who may approve right now.
    let moved = Schedule { overrides: new.overrides.clone(), ..old.clone() } != *new
        || old.overrides.iter().any(|over| !new.overrides.contains(over));
    wider.when(moved, "somebody else is on call than before");
}

fn policy(wider: &mut Wider, old: Option<&Policy>, new: Option<&Policy>) {
    // A new policy is of no use until something names it, which shows there.
    let (Some(old), Some(new)) = (old, new) else { return };
    let same_form = old.rules.len() == new.rules.len()
        && old.rules.iter().zip(&new.rules).all(|(old, new)| {
            old.severities == new.severities
                && old.steps.len() <= new.steps.len()
                && old.steps.iter().zip(&new.steps).all(|(old, new)| old.name == new.name)
        });
    if !same_form {
        let known = Policy { meaning: new.meaning.clone(), ..old.clone() };
        return wider.when(known != *new, "its rules are not the same ones any more");
    }
    let Policy { meaning: _, rules: _ } = new;
    for (old, new) in old.rules.iter().zip(&new.rules) {
        let PolicyRule { severities: _, automatic: _, steps: _ } = new;
        rule(wider, old, new);
    }
}

fn rule(wider: &mut Wider, old: &PolicyRule, new: &PolicyRule) {
    match (&old.automatic, &new.automatic) {
        (None, Some(_)) => wider.say("it approves by itself"),
        (Some(old), Some(new)) => automatic(wider, old, new),
        (_, None) => {}
    }
    // Steps that come on top narrow; but where there were none before, automatic approval now can be exceeded.
    wider.when(old.steps.is_empty() && !new.steps.is_empty(), "people may approve what its limits refused");
    for (old, new) in old.steps.iter().zip(&new.steps) {
        step(wider, old, new);
    }
}

fn automatic(wider: &mut Wider, old: &Automatic, new: &Automatic) {
    let Automatic { severity: _, longest: _, per_person_and_day: _ } = new;
    let claimed = new.severity == SeverityWord::Claimed && old.severity != new.severity;
    wider.when(claimed, "it takes the requester's word on the severity");
    wider.when(new.longest > old.longest, format!("it approves up to {} by itself", new.longest));
    wider.when(
        new.per_person_and_day > old.per_person_and_day,
        format!("it approves {} times a day by itself", new.per_person_and_day),
    );
}

fn step(wider: &mut Wider, old: &Step, new: &Step) {
    let Step { name, approvers: _, quorum: _, fallback: _, factors: _, reason_required: _, timer: _ } = new;
    wider.more(&format!("may approve step `{name}`"), &old.approvers, &new.approvers);
    wider.more(&format!("fallback of step `{name}`"), &old.fallback, &new.fallback);
    wider.when(
        new.quorum.max(1) < old.quorum.max(1),
        format!("step `{name}` needs fewer: {} → {}", old.quorum, new.quorum),
    );
    match (old.factors.is_empty(), new.factors.is_empty()) {
        (false, true) => wider.say(format!("step `{name}` takes any second factor")),
        (true, _) => {}
        (false, false) => wider.more(&format!("step `{name}` takes"), &old.factors, &new.factors),
    }
    wider.when(old.reason_required && !new.reason_required, format!("step `{name}` needs no reason"));
    wider.when(new.timer.is_some() && old.timer != new.timer, format!("the timer of step `{name}` changes"));
}

fn scenario(wider: &mut Wider, old: Option<&Scenario>, new: Option<&Scenario>) {
    let Some(new) = new else { return };
    let Some(old) = old else { return wider.say("a new kind of emergency") };
    let mut known = old.clone();
    known.title.clone_from(&new.title);
    known.meaning.clone_from(&new.meaning);
    known.runbook.clone_from(&new.runbook);
    wider.fewer("need not be confirmed any more", &old.criteria, &new.criteria);
    known.criteria.clone_from(&new.criteria);
    match (old.severities.is_empty(), new.severities.is_empty()) {
        (false, true) => wider.say("it can be invoked at every severity"),
        (true, _) => {}
        (false, false) => wider.more("can be invoked at", &old.severities, &new.severities),
    }
    known.severities.clone_from(&new.severities);
    wider.more("may invoke it", &old.invoked_by, &new.invoked_by);
    known.invoked_by.clone_from(&new.invoked_by);
    wider.more("may bypass approval in it", &old.bypassed_by, &new.bypassed_by);
    known.bypassed_by.clone_from(&new.bypassed_by);
    if new.scope.iter().any(|scope| !old.scope.contains(scope)) {
        wider.say("it covers other entitlements than before");
    }
    known.scope.clone_from(&new.scope);
    wider.when(new.first_step > old.first_step, "it begins higher on the ladder");
    known.first_step = new.first_step;
    wider.when(known != *new, "it changes");
}

fn route(wider: &mut Wider, old: Option<&Route>, new: Option<&Route>) {
    // A new route tells more people; one that goes or changes may tell fewer, and a bypass lives from silence.
    if old.is_some() {
        wider.say(if new.is_some() { "alerts go elsewhere" } else { "alerts do not go there any more" });
    }
}

fn profile(
    wider: &mut Wider,
    old_catalog: &Catalog,
    new_catalog: &Catalog,
    name: &halligan_core::ids::Name,
    old: Option<&Profile>,
    new: Option<&Profile>,
) {
    if old == new {
        return;
    }
    wider.about(format!("profile:{name}"));
    let Some(now) = new else {
        // Where it ruled, another profile may rule now.
        for role in old.into_iter().flat_map(|profile| profile.entitlements.keys()) {
            role_removed(wider, new_catalog, role);
        }
        return;
    };
    let Some(before) = old else { return wider.say("gives entitlements on every system that it chooses") };
    wider.when(before.systems != now.systems, "it chooses other systems than before");
    for (role, after) in &now.entitlements {
        wider.about(format!("profile:{name}/{role}"));
        entitlement(wider, old_catalog, new_catalog, before.entitlements.get(role), after);
    }
    wider.about(format!("profile:{name}"));
    for role in before.entitlements.keys().filter(|role| !now.entitlements.contains_key(*role)) {
        role_removed(wider, new_catalog, role);
    }
}
