//! Any catalog that is printed is read back as it was, whatever stands in its texts.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use halligan_catalog::{CatalogFile, Source, Systems, load};
use halligan_core::catalog::*;
use halligan_core::ids::Name;
use halligan_core::time::Span;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = Name> {
    // Names that YAML would rather take for numbers and truth are among them.
    prop_oneof![
        "[a-z0-9][a-z0-9._-]{0,12}",
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("1e3".to_owned()),
        Just("0x1f".to_owned()),
        Just("007".to_owned()),
        Just("no".to_owned()),
        Just("2026-11-22".to_owned()),
    ]
    .prop_map(|text| Name::new(text).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~\\n\\t]{0,200}",
        Just("- x: [y".to_owned()),
        Just("# no comment".to_owned()),
        Just("---\n...\n".to_owned()),
        Just("a\n---\nb".to_owned()),
        Just("yes".to_owned()),
        Just("~".to_owned()),
        Just(" leading and trailing ".to_owned()),
        Just("line\n\n  indented\n\n".to_owned()),
        Just("\u{feff}\u{85}\u{2028}\u{0}".to_owned()),
    ]
}

fn who() -> impl Strategy<Value = Vec<Who>> {
    vec(
        prop_oneof![
            name().prop_map(Who::Person),
            name().prop_map(Who::Group),
            name().prop_map(Who::OnCall),
            Just(Who::Office(OfficeName::Auditor)),
            any::<bool>().prop_map(Who::Manager),
            Just(Who::Owner(true)),
            Just(Who::Anyone(true)),
        ],
        0..4,
    )
}

fn span() -> impl Strategy<Value = Span> {
    (0i64..10_000_000_000_000).prop_map(Span::micros)
}

fn step() -> impl Strategy<Value = Step> {
    let timer = prop_oneof![
        who().prop_map(TimerAction::Reassign),
        who().prop_map(TimerAction::Widen),
        any::<bool>().prop_map(TimerAction::Lapse),
    ];
    let timer = proptest::option::of((span(), timer).prop_map(|(after, then)| StepTimer { after, then }));
    (text(), who(), any::<u8>(), who(), any::<bool>(), timer).prop_map(
        |(name, approvers, quorum, fallback, reason_required, timer)| Step {
            name,
            approvers,
            quorum,
            fallback,
            factors: BTreeSet::from([FactorKind::Totp, FactorKind::SshSk]),
            reason_required,
            timer,
        },
    )
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let automatic = (any::<bool>(), span(), any::<u32>()).prop_map(|(claimed, longest, count)| Automatic {
        severity: if claimed { SeverityWord::Claimed } else { SeverityWord::Attested },
        longest,
        per_person_and_day: count,
    });
    (btree_set(name(), 0..3), proptest::option::of(automatic), vec(step(), 0..3))
        .prop_map(|(severities, automatic, steps)| PolicyRule { severities, automatic, steps })
}

fn system() -> impl Strategy<Value = System> {
    let entitlement = (text(), who(), span(), proptest::option::of(span()), any::<bool>()).prop_map(
        |(account, requested_by, longest, idle_limit, input)| Entitlement {
            meaning: String::new(),
            account,
            shared_account: input,
            sensitivity: Some(Name::main()),
            ladder: LadderStep::Administer,
            plane: Plane::Both,
            subsystem: Some("null".to_owned()),
            requested_by,
            standard_policy: None,
            emergency_policy: Some(Name::main()),
            emergency: !input,
            emergency_only: input,
            durations: Durations { longest, ..Durations::default() },
            emergency_durations: BTreeMap::from([(Name::main(), Durations::default())]),
            link_pattern: Some("OPS-*".to_owned()),
            recording: RecordingPolicy { input, class: RecordingClass::Sealed, ..RecordingPolicy::default() },
            ssh: SshCapabilities::default(),
            postgres: Default::default(),
            proof: ProofPolicy::default(),
            on_partition: if input { OnPartition::Keep } else { OnPartition::EndAfter(longest) },
            idle_limit,
        },
    );
    (
        name(),
        text(),
        btree_map(text(), text(), 0..3),
        who(),
        vec(text(), 0..2),
        btree_map(name(), entitlement, 0..3),
    )
        .prop_map(|(name, address, labels, owner, host_keys, entitlements)| System {
            name,
            kind: SystemKind::Ssh,
            meaning: address.clone(),
            address,
            site: Name::main(),
            labels,
            owner,
            host_keys,
            postgres: None,
            standard_policy: None,
            emergency_policy: None,
            entitlements,
        })
}

prop_compose! {
    fn catalog()(
        organisation in text(),
        names in vec((name(), text(), who()), 0..5),
        rules in vec(rule(), 0..4),
        criteria in vec(text(), 0..3),
        url in text(),
    ) -> Catalog {
        let mut catalog = Catalog { organisation, ..Catalog::default() };
        for (name, text, who) in names {
            catalog.severities.insert(name.clone(), Severity { meaning: text.clone(), declared_by: who.clone(), ..Severity::default() });
            catalog.people.insert(name.clone(), Person { name: text.clone(), email: Some(text.clone()), ..Person::default() });
            catalog.groups.insert(name.clone(), Group { meaning: text.clone(), members: BTreeSet::from([name.clone()]) });
            catalog.policies.insert(name.clone(), Policy { meaning: text.clone(), rules: rules.clone() });
            catalog.chart.insert(Act::ChangeCatalog, Responsibility { responsible: who.clone(), ..Responsibility::default() });
            catalog.offices.insert(OfficeName::IncidentLead, Office { people: BTreeSet::from([name.clone()]), ..Office::default() });
            catalog.schedules.insert(name.clone(), Schedule { time_zone: text.clone(), people: vec![name.clone()], ..Schedule::default() });
            catalog.scenarios.insert(name.clone(), Scenario {
                criteria: criteria.clone(),
                scope: vec![Scope::default()],
                runbook: Some(Runbook { link: text.clone(), owner: name.clone(), reviewed: text.clone() }),
                ..Scenario::default()
            });
            let to = if who.is_empty() { RouteTarget::Webhook { url: url.clone(), secret: name.clone() } } else { RouteTarget::Mail(who.clone()) };
            catalog.routes.insert(name.clone(), Route { alerts: BTreeSet::new(), to });
            catalog.waivers.push(CatalogWaiver { finding: text.clone(), entry: text, by: name, reason: url.clone() });
        }
        catalog
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn printed_and_read_it_is_the_same(catalog in catalog(), systems in vec(system(), 0..3)) {
        let mut named = BTreeMap::new();
        for system in systems {
            named.insert(system.name.clone(), system);
        }
        let systems: Vec<System> = named.into_values().collect();
        let text = CatalogFile::of(&catalog, systems.clone()).to_yaml().unwrap();
        let loaded = load(vec![Source::text("c.yaml", text.as_str())]).map_err(|found| {
            TestCaseError::fail(format!("{}\n{text}", found.first().map(ToString::to_string).unwrap_or_default()))
        })?;
        prop_assert_eq!(&loaded.catalog, &catalog, "\n{}", text);
        let mut read = Vec::new();
        loaded.systems.each(&mut |_, system| { read.push(system.clone()); ControlFlow::Continue(()) }).unwrap();
        prop_assert_eq!(read, systems);
    }

    /// Whatever is read, nothing falls over, and every fault has a sentence.
    #[test]
    fn no_text_makes_the_reader_fall_over(text in any::<String>(), key in "(people|systems|policies|waivers|chart)", rest in "[ -~\\n]{0,200}") {
        for text in [text, format!("{key}:\n  {rest}\n"), format!("{key}: {{{rest}}}")] {
            if let Err(found) = load(vec![Source::text("c.yaml", text.as_str()), Source::lines_of("s.jsonl", text.as_str())]) {
                prop_assert!(found.iter().all(|one| !one.say.is_empty()));
            }
        }
    }
}
