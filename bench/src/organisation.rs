//! The organisation of the installations here: who may ask for what, who approves, and control that carries it out.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use halligan_control::clock::SystemClock;
use halligan_control::{Control, ControlOptions, Outcome};
use halligan_core::catalog::{
    Catalog, FactorKind, LadderStep, Office, OfficeName, Person, Policy, PolicyRule, Profile, Scenario,
    Scope, Severity, Step, Who,
};
use halligan_core::command::{Actor, Command, FactorUse, FileRequest};
use halligan_core::event::Event;
use halligan_core::ids::{EntitlementName, GrantId, Name};
use halligan_core::request::{Mode, Verdict};
use halligan_core::time::{Span, Time};
use halligan_store::{SqliteOptions, Store};
use serde_json::Value;

use crate::story::name;

/// Control on a store in this folder.
pub async fn start_control(folder: &Path) -> Result<Control> {
    let store = Store::open_sqlite(SqliteOptions::new(folder.join("store.sqlite"))).await?;
    let auditor = halligan_recording::Identity::generate()?;
    let options = ControlOptions {
        name: name("control"),
        site: Name::main(),
        folder: folder.join("control"),
        origin: "bench.example/control".to_owned(),
        auditors: vec![auditor.recipient()],
        link_addresses: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    let control = Control::open(options, store).await?;
    control.start();
    Ok(control)
}

/// Carries a command of a person out, with a second factor shown for it.
pub async fn does(control: &Control, who: &str, command: Command) -> Result<Outcome> {
    let at = control.now();
    let factor = FactorUse { kind: FactorKind::Totp, at, enrolled_at: Time::default(), for_this_act: true };
    let actor = Actor::Person { id: name(who), factor: Some(factor), token: false };
    Ok(control.run(&actor, command).await?)
}

/// Anna asks for this in an emergency, Carla approves.
pub async fn ask_and_approve(
    control: &Control,
    entitlement: EntitlementName,
    incident_number: u64,
) -> Result<GrantId> {
    let file = FileRequest {
        beneficiary: name("anna"),
        entitlement,
        mode: Mode::Emergency,
        severity: Some(name("sev1")),
        severity_attested: false,
        scenario: Some(name("stuck")),
        criteria_confirmed: true,
        incident: None,
        incident_number,
        reason: "orders are stuck".to_owned(),
        link: None,
        why_not_lower: None,
        duration: Some(Span::hours(4)),
        batch: None,
    };
    let filed = does(control, "anna", Command::FileRequest(Box::new(file))).await?;
    let request = filed.events.iter().find_map(|event| match event {
        Event::RequestFiled { request } => Some(request.id),
        _ => None,
    });
    let request = request.context("no request was filed")?;
    let approve = Command::Decide { request, verdict: Verdict::Approve, version: 1, reason: None };
    let approved = does(control, "carla", approve).await?;
    let grant = approved.events.iter().find_map(|event| match event {
        Event::GrantScheduled { grant } => Some(grant.id),
        _ => None,
    });
    grant.context("the approval made no grant")
}

/// Anna may ask for the role `operate` of any system, Carla approves; the role is this entitlement.
pub fn catalog(entitlement: Value) -> Result<Catalog> {
    let mut catalog = Catalog { organisation: "Bench".to_owned(), ..Catalog::default() };
    catalog.settings.approver_minimum_age = Span::ZERO;
    for person in ["anna", "carla", "sofia"] {
        catalog.people.insert(name(person), Person { name: person.to_owned(), ..Person::default() });
    }
    let office = Office { people: [name("sofia")].into(), ..Office::default() };
    catalog.offices.insert(OfficeName::SecurityOfficer, office);
    catalog.severities.insert(name("sev1"), Severity { rank: 1, ..Severity::default() });
    let step = Step {
        name: "lead".to_owned(),
        approvers: vec![Who::Person(name("carla"))],
        quorum: 1,
        fallback: Vec::new(),
        factors: Default::default(),
        reason_required: false,
        timer: None,
    };
    let rule = PolicyRule { steps: vec![step], ..PolicyRule::default() };
    catalog.policies.insert(name("one"), Policy { rules: vec![rule], ..Policy::default() });
    let scenario = Scenario {
        invoked_by: vec![Who::Anyone(true)],
        scope: vec![Scope::default()],
        first_step: LadderStep::Administer,
        ..Scenario::default()
    };
    catalog.scenarios.insert(name("stuck"), scenario);
    let entitlement = serde_json::from_value(entitlement)?;
    let profile =
        Profile { systems: Scope::default(), entitlements: [(name("operate"), entitlement)].into() };
    catalog.profiles.insert(name("all"), profile);
    Ok(catalog)
}
