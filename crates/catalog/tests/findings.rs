//! Every kind of finding: a catalog without fault, one thing changed, and what is said of it and where.

use std::collections::BTreeSet;

use halligan_catalog::{FINDINGS, Loaded, Nodes, Report, Severity, Source, check_all, keep_left, load};
use halligan_core::ids::Name;
use halligan_core::time::Time;

const BASE: &str = include_str!("findings.yaml");

/// Code, entry, and what is changed in the catalog without fault: the first text is replaced by the second.
const CASES: &[(&str, &str, &str, &str)] = &[
    // reading
    ("syntax", "settings:activate_within", "activate_within: 1h", "activate_within: soon"),
    ("unknown-key", "person:anna", "name: Anna,", "nmae: Anna,"),
    ("unknown-value", "system:host", "ladder: administer", "ladder: administrate"),
    ("missing-key", "system:host", "        account: ops\n", ""),
    ("duplicate", "person:anna", "  ben: {", "  anna: {"),
    // names
    ("unknown-reference", "policy:one", "approvers: [{group: leads}] #", "approvers: [{group: leeds}] #"),
    ("unknown-reference", "group:leads", "members: [carla]", "members: [karla]"),
    ("unknown-reference", "host/root", "emergency_policy: one", "emergency_policy: none"),
    ("unknown-reference", "host/root", "sensitivity: plain # root", "sensitivity: plane"),
    ("unknown-reference", "scenario:down", "severities: [sev1] # down", "severities: [sev9] # down"),
    ("unknown-reference", "scenario:down", "systems: [host]", "systems: [host, ghost]"),
    ("unknown-reference", "route:all", "alerts: [bypassed]", "alerts: [bypased]"),
    (
        "unknown-reference",
        "office:auditor",
        "auditor: {people: [ava]}",
        "auditor: {people: [ava], groups: [x]}",
    ),
    (
        "says-nothing",
        "policy:one",
        "approvers: [{group: leads}] #",
        "approvers: [{group: leads}, {manager: false}] #",
    ),
    ("says-nothing", "system:host", "owner: [{group: leads}]", "owner: [{owner: true}]"),
    ("unknown-role", "scenario:down", "roles: [root]", "roles: [root, rooot]"),
    ("left-but-named", "group:responders", "ben: {name: Ben,", "ben: {name: Ben, left: true,"),
    // people and offices
    ("bad-person", "person:anna", "name: Anna,", "name: ' ',"),
    ("bad-person", "person:anna", "name: Anna,", "name: Anna, manager: anna,"),
    ("bad-mail-address", "person:anna", "anna@example.org", "anna at example.org"),
    ("no-accountable", "act:bypass", "  bypass: {accountable: security-officer}\n", ""),
    ("no-holders", "act:use", "use: {accountable: platform-owner}", "use: {accountable: identity-team}"),
    ("single-administrator", "office:cloud-administrator", "[cleo, casper]", "[cleo]"),
    ("bad-schedule", "schedule:duty", "Europe/Berlin", "Europe/Berlim"),
    ("bad-schedule", "schedule:duty", "2026-01-05T09:00", "5 January"),
    ("bad-schedule", "schedule:duty", "people: [sofia, samir]} #", "people: []} #"),
    ("bad-schedule", "schedule:duty", "turn: 7d", "turn: 0s"),
    // settings, severities
    ("young-approvers", "settings", "approver_minimum_age: 1d", "approver_minimum_age: 0s"),
    ("bad-setting", "settings", "activate_within: 1h", "activate_within: 0s"),
    ("bad-setting", "settings", "factor_fresh_for: 5m", "factor_fresh_for: 1d"),
    ("bad-severity", "severity:sev2", "sev2: {rank: 2,", "sev2: {rank: 1,"),
    ("bad-severity", "severity:sev2", "sev2: {rank: 2,", "sev2: {rank: 0,"),
    ("ambiguous-priority", "severity:sev2", "maps_from: [P2]", "maps_from: [P1]"),
    // policies
    (
        "empty-policy",
        "policy:standard",
        "    rules: # standard\n      - steps: [{name: lead, approvers: [{group: leads}, {group: managers}]}]\n",
        "    rules: []\n",
    ),
    (
        "empty-policy",
        "policy:standard",
        "- steps: [{name: lead, approvers: [{group: leads}, {group: managers}]}]\n",
        "- steps: []\n",
    ),
    ("bad-step", "policy:one", "quorum: 1 #", "quorum: 0 #"),
    ("bad-step", "policy:one", "- name: second", "- name: lead"),
    ("factor-not-supported", "policy:one", "quorum: 1 #", "factors: [passkey-device] #"),
    (
        "no-fallback-steps",
        "policy:at-once",
        "        steps: [{name: fallback, approvers: [{group: leads}, {group: managers}]}]\n",
        "",
    ),
    ("unreachable-rule", "policy:at-once", "severities: [sev1] # at once", "severities: [] # at once"),
    ("anyone", "policy:one", "approvers: [{group: leads}] #", "approvers: [{anyone: true}] #"),
    (
        "anyone",
        "host/root",
        "requested_by: [{group: responders}] # root",
        "requested_by: [{anyone: true}] # root",
    ),
    ("anyone", "scenario:down", "bypassed_by: []", "bypassed_by: [{anyone: true}]"),
    // entitlements
    ("bad-address", "system:host", "192.0.2.1:22", "192.0.2.1"),
    (
        "no-host-key",
        "system:host",
        "    host_keys:\n      - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpUFXQhKqgh0HFzlnK75OugcOGzcMS9OWb97ITHTpcv\n",
        "",
    ),
    ("bad-host-key", "system:host", "HTpcv", "HTp"),
    ("bad-account", "host/root", "account: ops", "account: 'ops; reboot'"),
    ("bad-account", "host/root", "account: ops", "account: ''"),
    ("wrong-kind", "system:host", "    kind: ssh\n", "    kind: ssh\n    postgres: {databases: [orders]}\n"),
    ("wrong-kind", "system:host", "    kind: ssh\n", "    kind: postgres\n"),
    ("bad-target", "system:host", "    kind: ssh\n", "    kind: postgres\n"),
    (
        "bad-target",
        "system:host",
        "    kind: ssh\n",
        "    kind: postgres\n    postgres: {databases: [], server_ca: x}\n",
    ),
    ("wrong-kind", "host/root", "account: ops", "account: ops\n        postgres: {connections: 3}"),
    (
        "wrong-kind",
        "host/root",
        "checks: [credential, gateway_connections]",
        "checks: [credential, backends]",
    ),
    ("shared-account", "host/root", "account: ops", "account: ops\n        shared_account: true"),
    ("unrecorded", "host/root", "account: ops", "account: ops\n        recording: {spool_budget_bytes: 0}"),
    (
        "nothing-allowed",
        "host/root",
        "account: ops",
        "account: ops\n        ssh: {shell: false, exec: false, sftp: false}",
    ),
    ("never-available", "host/root", "requested_by: [{group: responders}] # root", "requested_by: [] # root"),
    (
        "never-available",
        "host/look",
        "emergency_only: false",
        "emergency_only: true\n        emergency: false",
    ),
    ("no-emergency-policy", "host/root", "        emergency_policy: one\n", ""),
    (
        "no-rule",
        "host/look",
        "      - severities: [sev2] # slower\n",
        "      - severities: [sev1] # slower\n",
    ),
    ("no-scenario", "host/root", "roles: [root]", "roles: [look]"),
    ("bad-durations", "host/root", "durations: {default: 30m,", "durations: {default: 9h,"),
    ("bad-durations", "host/root", "account: ops", "account: ops\n        idle_limit: 0s"),
    (
        "emergency-longer",
        "host/root",
        "sev1: {default: 30m, longest: 1h, ceiling: 4h}",
        "sev1: {default: 30m, longest: 5h, ceiling: 9h}",
    ),
    (
        "check-not-supported",
        "host/root",
        "checks: [credential, gateway_connections]",
        "checks: [credential, processes]",
    ),
    ("no-proof", "host/root", "checks: [credential, gateway_connections]", "checks: []"),
    ("weak-proof", "host/root", "checks: [credential, gateway_connections]", "checks: [gateway_connections]"),
    ("two-planes", "host/root", "plane: data", "plane: both"),
    ("whole-organisation", "scenario:down", "- systems: [host]\n", "- systems: []\n"),
    ("whole-organisation", "profile:web", "systems: {labels: {web: yes}}", "systems: {}"),
    ("emergency-catalog-large", "settings", "emergency_catalog_limit: 10", "emergency_catalog_limit: 1"),
    ("automatic-forbidden", "host/look", "sensitivity: plain # look", "sensitivity: careful # look"),
    // enough people
    ("no-approver", "host/root", "carla: {name: Carla,", "carla: {left: true, name: Carla,"),
    (
        "policy-not-met",
        "host/root",
        "approvers: [{group: managers}] # second",
        "approvers: [{group: leads}] # second",
    ),
    (
        "policy-not-met",
        "host/root",
        "approvers: [{group: managers}] # second",
        "quorum: 2\n            approvers: [{group: managers}] # second",
    ),
    ("policy-not-met-by", "host/root", "deputies: []", "deputies: [carla, mara]"),
    (
        "policy-not-met-by",
        "host/root",
        "requested_by: [{group: responders}] # root",
        "requested_by: [{group: responders}, {person: carla}] # root",
    ),
    (
        "sometimes-blocked",
        "host/root",
        "approvers: [{group: managers}] # second",
        "approvers: [{on_call: leads}] # second",
    ),
    (
        "too-few-people",
        "host/root",
        "security-officer: {people: [sofia, samir]}\n  cloud-administrator: {people: [cleo, casper]}\n  platform-owner: {people: [paula]}",
        "security-officer: {people: [sofia]}\n  cloud-administrator: {people: [cleo, casper]}\n  platform-owner: {people: [sofia]}",
    ),
    (
        "too-few-people-for",
        "host/root",
        "security-officer: {people: [sofia, samir]}\n  cloud-administrator: {people: [cleo, casper]}\n  platform-owner: {people: [paula]}",
        "security-officer: {people: [sofia]}\n  cloud-administrator: {people: [cleo, casper]}\n  platform-owner: {people: [anna]}",
    ),
    ("way-in", "host/look:dns-or-certificate", "192.0.2.1:22", "host.example.org:22"),
    (
        "way-in",
        "host/look:phone-or-key",
        "requested_by: [{group: responders}] # look",
        "requested_by: [{person: anna}] # look",
    ),
    // scenarios, routes, waivers
    ("nobody-invokes", "scenario:down", "invoked_by: [{group: responders}] # down", "invoked_by: [] # down"),
    ("empty-scenario", "scenario:down", "    scope:\n      - systems: [host]\n        roles: [root]\n", ""),
    ("scenario-covers-nothing", "scenario:down", "- systems: [host]\n", "- labels: {no: such}\n"),
    ("no-criteria", "scenario:down", "criteria: [It is down.]", "criteria: []"),
    (
        "no-runbook",
        "scenario:down",
        "    runbook: {link: 'https://x.example/', owner: paula, reviewed: 2026-11-01} # down\n",
        "",
    ),
    ("bad-date", "scenario:down", "reviewed: 2026-11-01} # down", "reviewed: 1.11.2026} # down"),
    ("old-runbook", "scenario:down", "reviewed: 2026-11-01} # down", "reviewed: 2026-05-01} # down"),
    (
        "no-routes",
        "routes",
        "routes:\n  all: {alerts: [bypassed], to: {mail: [{office: security-officer}]}}\n",
        "",
    ),
    (
        "route-reaches-nobody",
        "route:all",
        "to: {mail: [{office: security-officer}]}",
        "to: {mail: [{office: auditor}]}",
    ),
    (
        "no-mail-address",
        "route:all",
        "to: {mail: [{office: security-officer}]}",
        "to: {mail: [{person: sofia}, {person: ava}]}",
    ),
    (
        "bad-url",
        "route:all",
        "to: {mail: [{office: security-officer}]}",
        "to: {webhook: {url: 'http://hooks.example/', secret: s}}",
    ),
    (
        "bad-waiver",
        "waiver:no-host-key:system:host",
        "waivers: []",
        "waivers: [{finding: no-host-key, entry: 'system:host', by: sofia, reason: r}]",
    ),
    (
        "bad-waiver",
        "waiver:two-planes:host/root",
        "waivers: []",
        "waivers: [{finding: two-planes, entry: host/root, by: anna, reason: r}]",
    ),
    (
        "unused-waiver",
        "waiver:two-planes:host/root",
        "waivers: []",
        "waivers: [{finding: two-planes, entry: host/root, by: sofia, reason: r}]",
    ),
];

/// Tested beside the code that finds them, since they need files or an older catalog.
const ELSEWHERE: &[&str] = &[
    "unreadable",
    "too-large",
    "id-reused",
    // below, on a database
    "bad-database",
    "bad-hold",
    "replication",
    "read-only-writes",
    "standing-role-open",
    "direct-path-open",
];

/// 2026-11-22, noon.
const NOW: Time = Time::from_micros(1_795_348_800_000_000);

fn checked(text: &str) -> Result<Report, Report> {
    match load(vec![Source::text("c.yaml", text)]) {
        Ok(Loaded { catalog, systems, places, .. }) => {
            let nodes = Nodes::gateways([(Name::main(), 2)].into());
            Ok(check_all(&catalog, &systems, &places, &nodes, NOW))
        }
        Err(findings) => Err(Report { errors: findings.len() as u64, findings, ..Report::default() }),
    }
}

#[test]
fn the_catalog_that_cases_start_from_is_without_fault() {
    let report = checked(BASE).unwrap_or_else(|report| report);
    assert_eq!((report.findings.len(), report.systems), (0, 1), "\n{report}");
}

#[test]
fn every_finding_is_found_where_it_is() {
    let mut wrong = Vec::new();
    for (code, entry, before, after) in CASES {
        if BASE.matches(before).count() != 1 {
            wrong.push(format!("{before:?} does not stand once in the base"));
        }
        let report = checked(&BASE.replace(before, after)).unwrap_or_else(|report| report);
        match report.findings.iter().find(|found| found.code == *code && found.entry == *entry) {
            Some(found) if found.line == 0 && *code != "no-routes" => {
                wrong.push(format!("no place: {found}"))
            }
            Some(_) => {}
            None => wrong.push(format!("{code} of {entry} ({after:?}) is not in\n{report}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn no_finding_is_without_a_test() {
    let tested: BTreeSet<&str> =
        CASES.iter().map(|(code, ..)| *code).chain(ELSEWHERE.iter().copied()).collect();
    let known: BTreeSet<&str> = FINDINGS.iter().map(|finding| finding.code).collect();
    assert_eq!(tested, known);
}

#[test]
fn what_may_be_accepted_is_shown_as_waived_and_nothing_else_is() {
    let waiver = |finding: &str, entry: &str| {
        format!("waivers: [{{finding: {finding}, entry: '{entry}', by: sofia, reason: it is so}}]")
    };
    let text = BASE.replace("plane: data", "plane: both");
    assert!(!checked(&text).unwrap().passes());
    let report = checked(&text.replace("waivers: []", &waiver("two-planes", "host/root"))).unwrap();
    assert!(report.passes(), "{report}");
    assert_eq!(report.waived, 1);
    assert!(report.to_string().contains("waived by sofia: it is so"), "{report}");
    let text = BASE.replace("HTpcv", "HTp").replace("waivers: []", &waiver("bad-host-key", "system:host"));
    let report = checked(&text).unwrap();
    assert_eq!((report.errors, report.waived), (2, 0), "{report}");
}

#[test]
fn a_waiver_of_an_empty_cell_can_name_the_row_or_the_entitlement() {
    let text = BASE.replace("192.0.2.1:22", "host.example.org:22");
    for entries in [
        &["dns-or-certificate"][..],
        &["host/root", "host/look"],
        &["host/root:dns-or-certificate", "host/look"],
    ] {
        let list: Vec<String> = entries
            .iter()
            .map(|entry| format!("{{finding: way-in, entry: '{entry}', by: sofia, reason: r}}"))
            .collect();
        let report =
            checked(&text.replace("waivers: []", &format!("waivers: [{}]", list.join(", ")))).unwrap();
        assert_eq!((report.errors, report.warnings, report.waived), (0, 0, entries.len() as u64), "{report}");
    }
}

#[test]
fn an_error_says_where_and_what_to_do() {
    let report =
        checked(&BASE.replace("approvers: [{group: leads}] #", "approvers: [{group: leeds}] #")).unwrap();
    let found = report.findings.iter().find(|found| found.code == "unknown-reference").unwrap();
    let line = BASE.lines().position(|line| line.contains("approvers: [{group: leads}] #")).unwrap() + 1;
    assert_eq!(
        found.to_string(),
        format!(
            "c.yaml:{line}:25: error[unknown-reference] policy:one: there is no group leeds\n    did you mean `leads`?"
        )
    );
    assert_eq!(found.severity, Severity::Error);
}

#[test]
fn a_place_of_a_reused_id_is_known() {
    let old = load(vec![Source::text("a.yaml", "people: {anna: {name: Anna, left: true}}")]).unwrap();
    let mut new = load(vec![Source::text("b.yaml", "people:\n  anna: {name: Other}\n")]).unwrap();
    let found = keep_left(&old.catalog, &mut new.catalog, &new.places);
    assert_eq!(found.first().map(ToString::to_string).unwrap().split(": ").next(), Some("b.yaml:2:3"));
}

/// What is said of an entitlement of a database, by what stands in its `postgres`, its account and its checks.
const ON_A_DATABASE: &[(&str, &str, &str)] = &[
    ("bad-database", "connections: 3", "databases: [orders, others]"),
    ("replication", "connections: 3", "replication: true"),
    ("bad-hold", "connections: 3", "hold_limit: 0s"),
    ("bad-hold", "connections: 3", "hold_limit: 2h"),
    ("bad-hold", "connections: 3", "hold_in_transaction: 61s"),
    ("read-only-writes", "connections: 3", "read_only: true"),
    ("standing-role-open", "connections: 3", "activation: prepared, direct_path_waiver: it is a test server"),
    ("direct-path-open", "connections: 3", "direct_path_waiver: it is a test server"),
    ("direct-path-open", ", direct_path]", "]"),
    ("nothing-allowed", "connections: 3", "connections: 0"),
    ("bad-account", "account: ops", "account: Ops-1"),
    ("wrong-kind", "account: ops", "account: ops\n        ssh: {sftp: false}"),
];

#[test]
fn every_finding_on_a_database_is_found() {
    let pem = include_str!("authority.pem").replace('\n', "\\n");
    let keys = "    host_keys:\n      - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpUFXQhKqgh0HFzlnK75OugcOGzcMS9OWb97ITHTpcv\n";
    let target = format!("    kind: postgres\n    postgres: {{databases: [orders], server_ca: \"{pem}\"}}\n");
    let base = BASE
        .replace(keys, "")
        .replace("    kind: ssh\n", &target)
        .replace("account: ops", "account: ops\n        postgres: {connections: 3}")
        .replace("checks: [credential, gateway_connections]", "checks: [credential, backends, direct_path]");
    let report = checked(&base).unwrap_or_else(|report| report);
    let about_root = |report: &Report, code: &str| {
        report.findings.iter().any(|found| found.code == code && found.entry == "host/root" && found.line > 0)
    };
    assert!(
        !report.findings.iter().any(|found| found.entry == "system:host" || found.entry == "host/root"),
        "{report}"
    );
    for (code, before, after) in ON_A_DATABASE {
        assert_eq!(base.matches(before).count(), 1, "{before}");
        let report = checked(&base.replace(before, after)).unwrap_or_else(|report| report);
        assert!(about_root(&report, code), "{code} ({after}) is not in\n{report}");
    }
}
