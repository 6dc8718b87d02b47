//! The catalog that ships: it is read, passes its own check, and shows what the documentation says of it.

#![expect(clippy::panic, reason = "tests")]

use std::path::PathBuf;

use halligan_catalog::{
    CatalogFile, Loaded, Nodes, Opening, Source, Systems, check, check_all, load, load_folder, way_in,
};
use halligan_core::time::Time;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn sample() -> Loaded {
    load_folder(folder("samples/catalog")).unwrap_or_else(|found| {
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        panic!("{}", text.join("\n"))
    })
}

/// 2026-11-22, noon.
fn now() -> Time {
    Time::from_micros(1_795_348_800_000_000)
}

#[test]
fn the_sample_passes_its_own_check() {
    let report = check(&sample(), now());
    assert_eq!((report.errors, report.warnings, report.systems), (0, 0, 3), "\n{report}");
    assert_eq!(report.waived, 4, "\n{report}");
}

#[test]
fn its_runbooks_grow_old() {
    let report = check(&sample(), Time::from_micros(now().micros() + 365 * 86_400_000_000));
    assert_eq!(report.findings.iter().filter(|found| found.code == "old-runbook").count(), 8);
}

#[test]
fn with_one_gateway_the_empty_cells_are_those_that_were_accepted() {
    let loaded = sample();
    let one = Nodes::gateways([(halligan_core::ids::Name::main(), 1)].into());
    let report = check_all(&loaded.catalog, &loaded.systems, &loaded.places, &one, now());
    assert!(report.passes(), "\n{report}");
    let mut open = loaded.catalog.clone();
    open.waivers.retain(|waiver| waiver.finding != "way-in");
    let report = check_all(&open, &loaded.systems, &loaded.places, &one, now());
    assert!(!report.passes());
    let two = Nodes::gateways([(halligan_core::ids::Name::main(), 2)].into());
    let report = check_all(&open, &loaded.systems, &loaded.places, &two, now());
    assert!(report.passes(), "\n{report}");
}

#[test]
fn the_way_in_table_names_people() {
    let loaded = sample();
    let table = way_in(&loaded.catalog, &loaded.systems, &Nodes::unknown()).unwrap();
    assert_eq!(table.rows.len(), 8);
    assert!(table.rows.iter().all(|row| row.cells.len() == 11));
    assert!(table.rows.iter().flat_map(|row| &row.cells).all(|cell| cell.opening != Opening::Nobody));
    let text = table.to_string();
    for said in [
        "orders-host/root",
        "anna, ben",
        "cleo",
        "not yet: new access needs warrants",
        "bypassed by anna, ben",
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
}

#[test]
fn printed_and_read_again_it_is_the_same() {
    let loaded = sample();
    let mut systems = Vec::new();
    loaded
        .systems
        .each(&mut |_, system| {
            systems.push(system.clone());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let text = CatalogFile::of(&loaded.catalog, systems.clone()).to_yaml().unwrap();
    let again = load(vec![Source::text("printed.yaml", text)]).unwrap();
    assert_eq!(again.catalog, loaded.catalog);
    assert_eq!(again.systems.find(&systems[0].name).unwrap().as_ref(), Some(&systems[0]));
}

/// Write it anew with `HALLIGAN_WRITE_GOLDEN=1 cargo test -p halligan-catalog schema`.
#[test]
fn the_published_schema_is_that_of_the_types() {
    let path = folder("docs/catalog.schema.json");
    let schema = halligan_catalog::schema();
    if std::env::var_os("HALLIGAN_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), schema, "docs/catalog.schema.json is not up to date");
    for said in ["requested_by", "\"systems\"", "emergency_policy", "additionalProperties"] {
        assert!(schema.contains(said), "{said}");
    }
    assert!(!schema.contains("\"since\""), "what apply writes is not offered to editors");
}

#[test]
fn the_documentation_lists_every_finding() {
    let text = std::fs::read_to_string(folder("docs/catalog.md")).unwrap();
    for finding in halligan_catalog::FINDINGS {
        let waivable = if finding.waivable { "yes" } else { "" };
        let row = format!("| `{}` | {waivable} | {} |", finding.code, finding.meaning);
        assert!(text.contains(&row), "docs/catalog.md has no row\n{row}");
    }
}
