//! What a change does: the plan, and whether it needs a second person. Every leaf of the model is changed once.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::ops::ControlFlow;

use halligan_catalog::{Kind, Loaded, Source, Systems, diff, diff_catalog, load, system_widening, widening};
use halligan_core::catalog::{Catalog, System};

const BASE: &str = include_str!("findings.yaml");

fn read(text: &str) -> Loaded {
    load(vec![Source::text("c.yaml", text)]).unwrap()
}

fn systems(loaded: &Loaded) -> Vec<System> {
    let mut all = Vec::new();
    loaded
        .systems
        .each(&mut |_, system| {
            all.push(system.clone());
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

/// `true` = needs a second person. The old text stands once in the base; written the other way round it is undone.
const CHANGES: &[(&str, &str, bool, bool)] = &[
    // text, new text, widens, widens when it is taken back
    ("organisation: Test", "organisation: Other", false, false),
    ("activate_within: 1h", "activate_within: 2h", true, false),
    ("approver_minimum_age: 1d", "approver_minimum_age: 1h", true, false),
    ("factor_fresh_for: 5m", "factor_fresh_for: 9m", true, false),
    ("emergency_catalog_limit: 10", "emergency_catalog_limit: 20", false, false),
    ("sev2: {rank: 2,", "sev2: {rank: 3,", true, true),
    ("maps_from: [P2]", "maps_from: [P2, P3]", true, false),
    ("sev2: {rank: 2,", "sev2: {rank: 2, declared_by: [{group: leads}],", false, true),
    ("sev2: {rank: 2,", "sev2: {rank: 2, meaning: graver,", false, false),
    ("plain: {}", "plain: {distinct_approvers: 1}", false, true),
    ("plain: {}", "plain: {automatic_approval: false}", false, true),
    ("ava: {name: Ava}", "ava: {name: Ava, email: ava@example.org}", true, true),
    ("ava: {name: Ava}", "ava: {name: Eva}", true, true),
    ("ava: {name: Ava}", "ava: {name: Ava, left: true}", false, true),
    ("ava: {name: Ava}", "ava: {name: Ava, manager: ben}", true, false),
    ("ava: {name: Ava}", "ava: {name: Ava}\n  zoe: {name: Zoe}", true, false),
    ("deputies: []", "deputies: [mara]", false, true),
    ("members: [carla]", "members: [carla, ava]", true, false),
    ("auditor: {people: [ava]}", "auditor: {people: [ava, ben]}", true, false),
    ("auditor: {people: [ava]}", "auditor: {people: [ava], groups: [leads]}", true, false),
    ("declare: {accountable: platform-owner}", "declare: {accountable: auditor}", false, false),
    ("turn: 7d", "turn: 6d", true, true),
    ("people: [sofia, samir]} #", "people: [samir, sofia]} #", true, true),
    ("people: [sofia, samir]} #", "people: [sofia, samir, ava]} #", true, true),
    (
        "people: [sofia, samir]} #",
        "people: [sofia, samir], overrides: [{from: 2026-11-22T00:00, until: 2026-11-23T00:00, person: samir}]} #",
        true,
        true,
    ),
    ("longest: 1h, per_person", "longest: 2h, per_person", true, false),
    ("per_person_and_day: 3", "per_person_and_day: 4", true, false),
    ("severity: claimed", "severity: attested", false, true),
    ("severities: [sev1] # at once", "severities: [sev2] # at once", true, true),
    ("approvers: [{group: leads}] #", "approvers: [{group: leads}, {person: ava}] #", true, false),
    ("quorum: 1 #", "quorum: 2 #", false, true),
    ("quorum: 1 #", "factors: [totp] #", false, true),
    ("quorum: 1 #", "reason_required: true #", false, true),
    ("quorum: 1 #", "fallback: [{person: ava}] #", true, false),
    ("quorum: 1 #", "timer: {after: 1h, then: {widen: [{person: ava}]}} #", true, false),
    ("          - name: second\n            approvers: [{group: managers}] # second\n", "", true, false),
    ("criteria: [It is down.]", "criteria: [It is down., Really.]", false, true),
    ("severities: [sev1] # down", "severities: [sev1, sev2] # down", true, false),
    ("severities: [sev1] # down", "severities: [] # down", true, false),
    (
        "invoked_by: [{group: responders}] # down",
        "invoked_by: [{group: responders}, {person: ava}] # down",
        true,
        false,
    ),
    ("bypassed_by: []", "bypassed_by: [{person: anna}]", true, false),
    ("- systems: [host]\n", "- systems: []\n", true, true),
    ("    bypassed_by: []\n", "    bypassed_by: []\n    first_step: operate\n", true, false),
    ("reviewed: 2026-11-01} # down", "reviewed: 2026-11-20} # down", false, false),
    ("routes:\n", "routes:\n  more: {to: {mail: [{person: carla}]}}\n", false, true),
    ("alerts: [bypassed]", "alerts: [bypassed, active]", true, true),
    ("systems: {labels: {web: yes}}", "systems: {labels: {web: no}}", true, true),
    ("ladder: observe, emergency: false,", "ladder: observe,", true, false),
    ("waivers: []", "waivers: [{finding: two-planes, entry: host/root, by: sofia, reason: r}]", true, false),
    // systems
    ("192.0.2.1:22", "192.0.2.2:22", true, true),
    ("labels: {environment: production}\n    owner", "labels: {environment: testing}\n    owner", true, true),
    ("owner: [{group: leads}]", "owner: [{group: leads}, {person: ava}]", true, false),
    ("    kind: ssh\n", "    kind: ssh\n    meaning: A host.\n", false, false),
    ("    kind: ssh\n", "    kind: ssh\n    site: other\n", true, true),
    ("    kind: ssh\n", "    kind: ssh\n    emergency_policy: one\n", true, true),
    ("account: ops", "account: root", true, true),
    ("account: ops", "account: ops\n        meaning: It is so.", false, false),
    ("account: ops", "account: ops\n        shared_account: true", true, false),
    ("account: ops", "account: ops\n        subsystem: database", false, false),
    ("account: ops", "account: ops\n        emergency: false", false, true),
    ("account: ops", "account: ops\n        emergency_only: true", false, true),
    ("account: ops", "account: ops\n        link_pattern: OPS-*", false, true),
    ("account: ops", "account: ops\n        idle_limit: 10m", false, true),
    ("account: ops", "account: ops\n        on_partition: {end_after: 10m}", false, true),
    ("account: ops", "account: ops\n        recording: {durability: strict}", false, true),
    ("account: ops", "account: ops\n        recording: {input: true}", false, true),
    ("account: ops", "account: ops\n        recording: {class: sealed}", true, true),
    ("account: ops", "account: ops\n        recording: {keep_content_bytes: 10}", false, true),
    ("account: ops", "account: ops\n        ssh: {sftp: false}", false, true),
    ("account: ops", "account: ops\n        postgres: {connections: 20}", true, false),
    ("account: ops", "account: ops\n        postgres: {replication: true}", true, false),
    ("account: ops", "account: ops\n        postgres: {function_calls: true}", true, false),
    ("account: ops", "account: ops\n        postgres: {read_only: true}", false, true),
    ("account: ops", "account: ops\n        postgres: {statements: {schema: hold}}", false, true),
    ("account: ops", "account: ops\n        postgres: {statements: {unknown: deny}}", false, true),
    ("account: ops", "account: ops\n        postgres: {parameters: false}", true, false),
    ("account: ops", "account: ops\n        postgres: {results: all}", true, true),
    ("account: ops", "account: ops\n        postgres: {hold_limit: 20m}", true, false),
    ("account: ops", "account: ops\n        postgres: {hold_in_transaction: 10s}", true, false),
    ("account: ops", "account: ops\n        postgres: {activation: prepared}", true, true),
    ("account: ops", "account: ops\n        postgres: {direct_path_waiver: so}", true, false),
    ("    kind: ssh\n", "    kind: ssh\n    postgres: {databases: [orders], server_ca: x}\n", true, false),
    ("ladder: administer", "ladder: operate", true, true),
    ("plane: data", "plane: control", true, true),
    ("sensitivity: plain # root", "sensitivity: careful # root", false, true),
    (
        "requested_by: [{group: responders}] # root",
        "requested_by: [{group: responders}, {group: leads}] # root",
        true,
        false,
    ),
    ("emergency_policy: one", "emergency_policy: at-once", true, true),
    ("emergency_policy: one", "emergency_policy: one\n        standard_policy: one", true, true),
    (
        "durations: {default: 30m, longest: 1h, ceiling: 4h}\n        emergency",
        "durations: {default: 30m, longest: 2h, ceiling: 4h}\n        emergency",
        true,
        false,
    ),
    (
        "sev1: {default: 30m, longest: 1h, ceiling: 4h}",
        "sev1: {default: 30m, longest: 1h, ceiling: 5h}",
        true,
        false,
    ),
    (
        "sev1: {default: 30m, longest: 1h, ceiling: 4h}",
        "sev1: {default: 30m, longest: 1h, ceiling: 4h, extensions: 3}",
        true,
        false,
    ),
    ("sev1: {default: 30m,", "sev2: {default: 30m,", true, true),
    ("checks: [credential, gateway_connections]", "checks: [gateway_connections]", true, false),
    ("checks: [credential, gateway_connections]", "revocation_list: true", true, true),
    ("checks: [credential, gateway_connections]", "login_window: 90s", true, false),
];

#[test]
fn every_change_is_told_to_widen_or_not() {
    let base = read(BASE);
    let mut wrong = Vec::new();
    for (before, after, widens, undone_widens) in CHANGES {
        assert_eq!(BASE.matches(before).count(), 1, "{before:?}");
        let changed = read(&BASE.replace(before, after));
        for (from, to, expected) in [(&base, &changed, widens), (&changed, &base, undone_widens)] {
            let plan = diff((&from.catalog, &from.systems), (&to.catalog, &to.systems)).unwrap();
            if plan.is_empty() {
                wrong.push(format!("{after:?}: no change is seen"));
            }
            if plan.widens() != *expected {
                wrong.push(format!("{before:?} and {after:?}: expected {expected}, and got\n{plan}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_widens_between_equals() {
    let base = read(BASE);
    assert!(widening(&base.catalog, &base.catalog).is_empty());
    for system in systems(&base) {
        assert!(system_widening(&base.catalog, &base.catalog, Some(&system), Some(&system)).is_empty());
    }
    let plan = diff((&base.catalog, &base.systems), (&base.catalog, &base.systems)).unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.to_string(), "nothing changes");
    let mut stamped = base.catalog.clone();
    stamped.since.insert("person:anna".to_owned(), Default::default());
    assert!(diff_catalog(&base.catalog, &stamped).is_empty(), "what apply writes is no change");
}

#[test]
fn from_nothing_to_all_of_it_widens_and_back_does_not() {
    let base = read(BASE);
    let (nothing, none): (Catalog, Vec<System>) = Default::default();
    let plan = diff((&nothing, &none), (&base.catalog, &base.systems)).unwrap();
    assert!(plan.widens());
    assert_eq!(plan.systems, [1, 0, 0]);
    let all_added = plan.changes.iter().filter(|change| change.kind == Kind::Added).count();
    assert!(all_added > 30, "{plan}");
    let plan = diff((&base.catalog, &base.systems), (&base.catalog, &none)).unwrap();
    assert_eq!((plan.systems, plan.widens()), ([0, 1, 0], false));
}

#[test]
fn without_its_own_entitlement_a_system_may_have_that_of_a_profile() {
    let text = BASE.replace("systems: {labels: {web: yes}}", "systems: {labels: {environment: production}}");
    let text = text.replace("      peek: {account: app,", "      look: {account: admin,");
    let old = read(&text);
    let without = text.find("      look:\n        account: app\n").unwrap();
    let new = read(&text[..without]);
    let plan = diff((&old.catalog, &old.systems), (&new.catalog, &new.systems)).unwrap();
    assert!(plan.to_string().contains("that of profile web may hold"), "{plan}");
}

#[test]
fn a_plan_reads_well() {
    let base = read(BASE);
    let text = BASE
        .replace("quorum: 1 #", "quorum: 2 #")
        .replace("members: [carla]", "members: [ava]")
        .replace("192.0.2.1:22", "192.0.2.9:22")
        .replace("  ava: {name: Ava}\n", "  ava: {name: Ava}\n  zoe: {name: Zoe}\n");
    let new = read(&text);
    let plan = diff((&base.catalog, &base.systems), (&new.catalog, &new.systems)).unwrap();
    assert_eq!(
        plan.to_string(),
        "+ person:zoe\n~ group:leads\n    members: - carla\n    members: + ava\n~ policy:one\n    \
         rules[0].steps[0].quorum: 1 → 2\n~ system:host\n    address: 192.0.2.1:22 → 192.0.2.9:22\n\
         this widens who may get in, approve, bypass or review: a second person must confirm it\n\
         ! person:zoe: Zoe is new\n! group:leads: new member: ava\n! system:host: it is at 192.0.2.9:22 now\n"
    );
}
