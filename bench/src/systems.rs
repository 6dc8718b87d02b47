//! A catalog of 1,000,000 systems: what finding an entitlement and deciding about it takes, beside the same with 1,000.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use halligan_control::catalog::{CatalogHead, head_key, system_kind};
use halligan_control::clock::SystemClock;
use halligan_control::load::Slice;
use halligan_control::{Control, ControlOptions};
use halligan_core::catalog::{
    Catalog, FactorKind, LadderStep, Person, Policy, PolicyRule, Profile, Scenario, Scope, Severity, Step,
    Who,
};
use halligan_core::command::{Actor, Command, FactorUse, FileRequest};
use halligan_core::decide::{Context, decide};
use halligan_core::ids::{EntitlementName, FreshIds, Name};
use halligan_core::leaf::LeafBody;
use halligan_core::request::Mode;
use halligan_core::time::{Span, Time};
use halligan_store::{DocumentKey, DocumentWrite, SqliteOptions, Store};
use tempfile::TempDir;

use crate::figure::{Figure, Goal};
use crate::sample::{Sample, millis};
use crate::story::name;
use crate::{Figures, Options};

/// Control over a catalog of so many systems.
struct Large {
    control: Control,
    systems: u64,
    _folder: TempDir,
}

/// Measures.
pub async fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let many = start(options.size(1_000_000, 2_000)).await?;
    let few = start(1_000).await?;
    let mut found = [Sample::default(), Sample::default()];
    let mut decided = [Sample::default(), Sample::default()];
    let mut filed = [Sample::default(), Sample::default()];
    let mut step = 0;
    for _ in 0..options.size(5, 1) {
        for (place, large) in [&many, &few].into_iter().enumerate() {
            let (Some(found), Some(decided), Some(filed)) =
                (found.get_mut(place), decided.get_mut(place), filed.get_mut(place))
            else {
                continue;
            };
            for _ in 0..options.size(1_000, 20) {
                step += 1;
                let wanted = large.wanted(step);
                let in_force = large.control.in_force();
                let began = Instant::now();
                let entitlement = in_force.entitlement(large.control.store(), &wanted).await?;
                found.push(millis(began.elapsed()));
                ensure!(entitlement.is_some(), "{wanted} is not in the catalog");
                let began = Instant::now();
                large.decides(&wanted).await?;
                decided.push(millis(began.elapsed()));
            }
            for _ in 0..options.size(100, 5) {
                step += 1;
                let wanted = large.wanted(step);
                let began = Instant::now();
                large.control.run(&actor(large.control.now()), file(wanted)).await?;
                filed.push(millis(began.elapsed()));
            }
        }
    }
    let beside = "with 1,000 systems";
    let among = format!("among {} systems", crate::figure::number(many.systems as f64));
    let names = [
        (format!("control/find an entitlement {among}, p99"), found),
        (format!("control/load and decide a request {among}, p99"), decided),
    ];
    for (name, [many, few]) in names {
        let figure = Figure::new(name, many.percentile(99.0), "ms").beside(beside, few.percentile(99.0));
        figures.add(figure.goal(Goal::AtMost(1.0)));
    }
    let [many, few] = filed;
    let figure = Figure::new("control/file a request, committed, p50", many.median(), "ms");
    figures.add(figure.range(many.range()).beside(beside, few.median()));
    Ok(())
}

impl Large {
    fn wanted(&self, step: u64) -> EntitlementName {
        let number = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.systems;
        EntitlementName { system: name(&format!("host-{number}")), role: name("operate") }
    }

    /// Everything but the commit.
    async fn decides(&self, wanted: &EntitlementName) -> Result<()> {
        let in_force = self.control.in_force();
        let command = file(wanted.clone());
        let slice = Slice::load(self.control.store(), &in_force, &command).await?;
        let now = self.control.now();
        let actor = actor(now);
        let mut context = Context { now, actor: &actor, ids: FreshIds::new([3; 16], now) };
        let events = decide(&slice.world, &slice.facts(&in_force), &mut context, &command)?;
        ensure!(!events.is_empty(), "the request led to nothing");
        Ok(())
    }
}

fn actor(at: Time) -> Actor {
    let factor = FactorUse { kind: FactorKind::Totp, at, enrolled_at: Time::default(), for_this_act: true };
    Actor::Person { id: name("anna"), factor: Some(factor), token: false }
}

fn file(entitlement: EntitlementName) -> Command {
    Command::FileRequest(Box::new(FileRequest {
        beneficiary: name("anna"),
        entitlement,
        mode: Mode::Emergency,
        severity: Some(name("sev1")),
        severity_attested: false,
        scenario: Some(name("stuck")),
        criteria_confirmed: true,
        incident: None,
        incident_number: 1,
        reason: "orders are stuck".to_owned(),
        link: None,
        why_not_lower: None,
        duration: Some(Span::hours(1)),
        batch: None,
    }))
}

async fn start(systems: u64) -> Result<Large> {
    let folder = crate::disk::folder()?;
    let store = Store::open_sqlite(SqliteOptions::new(folder.path().join("store.sqlite"))).await?;
    let options = ControlOptions {
        name: name("control"),
        site: Name::main(),
        folder: folder.path().join("control"),
        origin: "bench.example/control".to_owned(),
        auditors: Vec::new(),
        link_addresses: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    let control = Control::open(options, store).await?;
    let kind = system_kind(1);
    let mut next = 0;
    while next < systems {
        let until = (next + 20_000).min(systems);
        let writes = (next..until)
            .map(|number| {
                let host = format!("host-{number}");
                let body = serde_json::to_vec(&system(&host))?;
                Ok(DocumentWrite::put(DocumentKey::new(kind.as_str(), host), 0, body))
            })
            .collect::<Result<Vec<_>>>()?;
        control.store().bulk_put(&kind, writes).await?;
        next = until;
    }
    let head = CatalogHead { version: 1, systems_generation: 1, catalog: catalog()? };
    let body =
        LeafBody::Identity { what: "set_up".to_owned(), person: "bench".to_owned(), detail: String::new() };
    let write = DocumentWrite::put(head_key(), 0, serde_json::to_vec(&head)?);
    control.note(&Actor::Clock, body, vec![write]).await?;
    control.refresh_catalog().await?;
    Ok(Large { control, systems, _folder: folder })
}

fn system(host: &str) -> serde_json::Value {
    serde_json::json!({
        "name": host, "kind": "ssh", "address": "192.0.2.1:22", "labels": {"fleet": "orders"},
        "host_keys": [format!("ssh-ed25519 {}", "A".repeat(68))],
    })
}

fn catalog() -> Result<Catalog> {
    let mut catalog = Catalog { organisation: "Bench".to_owned(), ..Catalog::default() };
    for person in ["anna", "carla", "sofia"] {
        catalog.people.insert(name(person), Person { name: person.to_owned(), ..Person::default() });
    }
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
    let entitlement = serde_json::from_value(serde_json::json!({
        "account": "app", "ladder": "operate", "requested_by": [{"anyone": true}], "emergency_policy": "one"
    }))
    .context("the entitlement has another form")?;
    let profile = Profile {
        systems: Scope { labels: [("fleet".to_owned(), "orders".to_owned())].into(), ..Scope::default() },
        entitlements: [(name("operate"), entitlement)].into(),
    };
    catalog.profiles.insert(name("fleet"), profile);
    Ok(catalog)
}
