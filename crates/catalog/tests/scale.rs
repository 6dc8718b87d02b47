//! Many systems pass through one at a time, and what is wrong with one of them is found.

use std::io::Write;
use std::time::Instant;

use halligan_catalog::{Nodes, check_all, diff, load_folder, way_in};
use halligan_core::ids::Name;
use halligan_core::time::Time;

const NOW: Time = Time::from_micros(1_795_348_800_000_000);
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpUFXQhKqgh0HFzlnK75OugcOGzcMS9OWb97ITHTpcv";

fn count() -> u32 {
    std::env::var("HALLIGAN_SYSTEMS").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000)
}

/// `HALLIGAN_SYSTEMS=1000000 cargo test --release -p halligan-catalog --test scale -- --nocapture` for the full measure.
#[test]
fn a_hundred_thousand_systems_are_checked_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let base = include_str!("findings.yaml")
        .replace("systems: {labels: {web: yes}}", "systems: {labels: {web: '*'}}")
        .replace("ladder: observe, emergency: false,", "ladder: observe, emergency_policy: at-once,")
        .replace("emergency_catalog_limit: 10", "emergency_catalog_limit: 4000000000")
        .replace("roles: [look]", "roles: [look, peek]");
    std::fs::write(folder.path().join("catalog.yaml"), base).unwrap();
    let write = |broken: Option<u32>| {
        let file = std::fs::File::create(folder.path().join("systems.jsonl")).unwrap();
        let mut file = std::io::BufWriter::new(file);
        for index in 0..count() {
            let key = if broken == Some(index) { "" } else { KEY };
            // Every tenth has an entitlement of its own, the rest only the profile's.
            let own = if index % 10 == 0 {
                r#","entitlements":{"look":{"account":"app","ladder":"observe","emergency_policy":"one","requested_by":[{"group":"responders"}]}}"#
            } else {
                ""
            };
            writeln!(
                file,
                r#"{{"name":"web-{index}","kind":"ssh","address":"10.{}.{}.{}:22","labels":{{"web":"yes","environment":"production"}},"owner":[{{"group":"leads"}}],"host_keys":["{key}"],"standard_policy":"standard"{own}}}"#,
                index >> 16 & 255,
                index >> 8 & 255,
                index & 255
            )
            .unwrap();
        }
    };
    write(None);
    let clock = Instant::now();
    let loaded = load_folder(folder.path()).unwrap();
    println!("read {} systems: {:?}", loaded.systems.count(), clock.elapsed());
    let nodes = Nodes::gateways([(Name::main(), 2)].into());
    let clock = Instant::now();
    let report = check_all(&loaded.catalog, &loaded.systems, &loaded.places, &nodes, NOW);
    println!("check: {:?}", clock.elapsed());
    assert_eq!((report.systems, report.errors), (u64::from(count()) + 1, 0), "{report}");
    let clock = Instant::now();
    let table = way_in(&loaded.catalog, &loaded.systems, &nodes).unwrap();
    println!("way-in table: {:?}, {} kinds", clock.elapsed(), table.rows.len());
    assert_eq!(table.rows.iter().map(|row| row.alike + 1).sum::<u64>(), u64::from(count()) * 11 / 10 + 2);
    let clock = Instant::now();
    let plan = diff((&loaded.catalog, &loaded.systems), (&loaded.catalog, &loaded.systems)).unwrap();
    println!("compare: {:?}", clock.elapsed());
    assert!(plan.is_empty());

    let broken = count() / 2 + 1;
    write(Some(broken));
    let loaded = load_folder(folder.path()).unwrap();
    let report = check_all(&loaded.catalog, &loaded.systems, &loaded.places, &nodes, NOW);
    assert_eq!(report.errors, 1, "{report}");
    let found = report.findings.iter().find(|found| found.code == "bad-host-key").unwrap();
    assert_eq!((found.line, found.entry.as_str()), (broken + 1, format!("system:web-{broken}").as_str()));
}

#[test]
fn a_million_faults_are_counted_and_not_kept() {
    let lines: String = (0..3000)
        .map(|index| format!("{{\"name\":\"s{index}\",\"kind\":\"ssh\",\"address\":\"nowhere\"}}\n"))
        .collect();
    let sources = vec![
        halligan_catalog::Source::text("c.yaml", include_str!("findings.yaml")),
        halligan_catalog::Source::lines_of("systems.jsonl", lines),
    ];
    let loaded = halligan_catalog::load(sources).unwrap();
    let report = halligan_catalog::check(&loaded, NOW);
    assert_eq!((report.findings.len(), report.errors), (1000, 6000));
    assert!(!report.passes());
}
