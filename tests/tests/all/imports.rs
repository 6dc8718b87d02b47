//! Who may import whom. The table below is the design; an edge that is not in it is argued for, not added.
//!
//! Direct edges are read from the manifests, tests included. What a crate reaches through others is read
//! from the resolved tree: a role's secrets must not be reachable from another role's crates.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, PackageId};

/// A crate of ours, and the crates of ours that it may import. `halligan-` is left out.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("catalog", &["core"]),
    ("ledger", &["core"]),
    ("recording", &["core", "ledger"]),
    ("session", &["core", "ledger", "recording"]),
    ("store", &["core", "ledger"]),
    ("link", &["core", "ledger", "session"]),
    ("gateway", &["core", "ledger", "recording", "session", "link"]),
    ("protocol-ssh", &["core", "ledger", "recording", "session"]),
    ("protocol-postgres", &["core", "recording", "session"]),
    ("protocol-postgres", &["core", "ledger", "recording", "session"]),
    ("connector", &["core", "ledger", "session", "link"]),
    ("connector-ssh", &["core", "ledger", "session", "link", "connector"]),
    ("connector-postgres", &["core", "session", "link", "connector", "vault"]),
    ("vault", &["ledger"]),
    // Control writes the bundles that `verify` reads: their form is in one place.
    ("control", &["core", "catalog", "ledger", "recording", "session", "link", "store", "verify"]),
    ("notify", &["core", "control", "session"]),
    // The API answers in the client's own bodies, names nodes by their role, and plays recordings back.
    ("api", &["core", "control", "client", "link", "recording"]),
    ("client", &["core"]),
    ("verify", &["core", "ledger", "recording"]),
    ("testkit", &[]),
];

/// These put the whole together, and see all of it.
const SEES_ALL: &[&str] = &["cli", "tests", "bench"];

/// What tests set up by hand, beside what their crate may import.
const TESTS_IMPORT: &[(&str, &[&str])] = &[
    ("core", &["core"]),
    ("notify", &["store"]),
    ("api", &["store", "ledger"]),
    ("protocol-postgres", &["gateway", "link"]),
];

/// Stands apart: it starts cargo and imports nothing.
const ALONE: &[&str] = &["xtask"];

/// Crates that only some of ours may import, and why.
const ONLY: &[(&[&str], &[&str], &str)] = &[
    (&["rusqlite", "refinery"], &["store"], "SQL of ours is in one place"),
    (
        &["tokio-postgres"],
        &["store", "connector-postgres"],
        "SQL of ours is in one place, and one connector manages users of PostgreSQL servers",
    ),
    (
        &["axum", "axum-server", "tower", "tower-http", "utoipa-axum"],
        &["api"],
        "HTTP is one way in of several",
    ),
    (&["utoipa"], &["api", "client"], "the API is described where its calls and bodies are"),
    (
        &["russh"],
        &["protocol-ssh", "connector-ssh", "control"],
        "only these speak SSH, and control reads keys",
    ),
    (&["reqwest"], &["client", "notify"], "only these call out over HTTP"),
    (&["sqlparser"], &["protocol-postgres"], "labels of SQL are made in one place"),
    (&["lettre"], &["notify"], "mail is sent in one place"),
    (&["clap", "comfy-table", "indicatif", "rpassword"], &[], "only the program talks to a terminal"),
    (&["serde-saphyr"], &["catalog", "control"], "the catalog is read in one place"),
    (&["argon2"], &["control"], "passwords are checked in one place"),
    (&["x25519-dalek", "zstd"], &["recording"], "recordings are sealed in one place"),
    (
        &["chacha20poly1305"],
        &["recording", "control", "vault"],
        "only recordings, accounts' secrets and the vault's are sealed",
    ),
    (
        &["rcgen"],
        &["link", "api", "testkit", "protocol-postgres", "connector-postgres", "control"],
        "certificates are made where TLS ends, by who opens standing database roles, and for people who log in",
    ),
    (
        &["x509-parser"],
        &["link", "api", "testkit", "protocol-postgres", "connector-postgres", "gateway"],
        "certificates are read where TLS ends, and by who says whom they name",
    ),
    (&["anyhow"], &["testkit"], "libraries have errors with names; only programs and tests do without"),
];

/// What a crate must not reach, not even through others.
const NEVER_REACHES: &[(&str, &[&str], &str)] = &[
    (
        "core",
        &[
            "tokio",
            "mio",
            "socket2",
            "rustix",
            "rusqlite",
            "tokio-postgres",
            "reqwest",
            "hyper",
            "axum",
            "russh",
            "rustls",
            "tempfile",
        ],
        "the core is pure",
    ),
    (
        "catalog",
        &["tokio", "hyper", "axum", "russh", "rustls", "rusqlite", "tokio-postgres"],
        "a catalog is text and rules: whoever checks it needs no server",
    ),
    (
        "ledger",
        &["tokio", "hyper", "axum", "russh", "rustls", "rusqlite", "tokio-postgres"],
        "a ledger is files and hashes",
    ),
    (
        "recording",
        &["hyper", "axum", "russh", "rustls", "rusqlite", "tokio-postgres"],
        "a recording is files and hashes",
    ),
    (
        "verify",
        &[
            "halligan-store",
            "halligan-control",
            "halligan-api",
            "halligan-session",
            "halligan-link",
            "tokio",
            "hyper",
            "axum",
            "russh",
            "rustls",
            "rusqlite",
            "tokio-postgres",
        ],
        "whoever verifies must not have to trust the server",
    ),
    (
        "protocol-ssh",
        &[
            "halligan-store",
            "halligan-control",
            "halligan-api",
            "halligan-connector",
            "halligan-link",
            "rusqlite",
            "tokio-postgres",
            "axum",
            "reqwest",
        ],
        "a protocol knows a session, and no more",
    ),
    (
        "protocol-postgres",
        &[
            "halligan-store",
            "halligan-control",
            "halligan-api",
            "halligan-connector",
            "halligan-gateway",
            "halligan-link",
            "rusqlite",
            "tokio-postgres",
            "axum",
            "reqwest",
            "russh",
        ],
        "a protocol knows a session, and no more",
    ),
    (
        "protocol-postgres",
        &[
            "halligan-store",
            "halligan-control",
            "halligan-api",
            "halligan-link",
            "halligan-connector",
            "halligan-protocol-ssh",
            "rusqlite",
            "tokio-postgres",
            "axum",
            "reqwest",
        ],
        "a protocol knows a session, and no more",
    ),
    (
        "gateway",
        &[
            "halligan-store",
            "halligan-control",
            "halligan-api",
            "halligan-connector",
            "rusqlite",
            "tokio-postgres",
            "axum",
            "reqwest",
        ],
        "the gateway parses hostile bytes: it holds no key of control or connector",
    ),
    (
        "connector-ssh",
        &[
            "halligan-store",
            "halligan-control",
            "halligan-api",
            "halligan-gateway",
            "halligan-protocol-ssh",
            "rusqlite",
            "tokio-postgres",
            "axum",
            "reqwest",
        ],
        "the connector holds a site's keys: it hears no client and decides nothing",
    ),
    (
        "connector-postgres",
        &[
            "halligan-store",
            "halligan-control",
            "halligan-api",
            "halligan-gateway",
            "halligan-protocol-postgres",
            "rusqlite",
            "axum",
            "reqwest",
            "russh",
        ],
        "the connector can make users of databases: it hears no client and decides nothing",
    ),
    (
        "client",
        &[
            "halligan-store",
            "halligan-control",
            "halligan-api",
            "rusqlite",
            "tokio-postgres",
            "axum",
            "russh",
        ],
        "a client sees what the API shows",
    ),
    (
        "link",
        &["halligan-store", "halligan-control", "halligan-gateway", "rusqlite", "tokio-postgres", "axum"],
        "the link carries, and knows neither end",
    ),
    (
        "control",
        &["halligan-gateway", "halligan-connector", "halligan-protocol-ssh", "halligan-api", "axum"],
        "control meets the other roles over the link",
    ),
];

/// All that the pure core is made of. (What it reaches cannot tell: other crates switch on features.)
const CORE_IS_MADE_OF: &[&str] = &["serde", "serde_json", "jiff", "schemars", "sha2", "hex", "thiserror"];

/// Nobody, in no feature: one TLS stack, one cryptographic provider.
const NOBODY: &[&str] = &["openssl", "openssl-sys", "native-tls"];

fn metadata(resolved: bool) -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    if resolved {
        // Only what builds here: the rest need not even have been downloaded.
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        command.other_options(["--locked".to_owned(), "--filter-platform".to_owned(), target]);
    } else {
        command.no_deps().features(CargoOpt::SomeFeatures(Vec::new()));
    }
    command.exec().unwrap()
}

fn short(name: &str) -> &str {
    name.strip_prefix("halligan-").unwrap_or(name)
}

/// All complaints about direct edges.
fn complaints(metadata: &Metadata) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|package| short(&package.name)).collect();
    let mut complaints = Vec::new();
    for package in &metadata.packages {
        let from = short(&package.name);
        let sees_all = SEES_ALL.contains(&from);
        if !sees_all && !ALONE.contains(&from) && !allowed.contains_key(from) {
            complaints.push(format!("{from} has no row in the table of who may import whom"));
            continue;
        }
        for dependency in &package.dependencies {
            let to = short(&dependency.name);
            let for_tests = dependency.kind == DependencyKind::Development;
            if ours.contains(to) && !sees_all && !(for_tests && to == "testkit") {
                let by_test = |(name, may): &(&str, &[&str])| *name == from && may.contains(&to);
                let may = allowed.get(from).is_some_and(|may| may.contains(&to))
                    || (for_tests && TESTS_IMPORT.iter().any(by_test));
                if !may {
                    complaints.push(format!("{from} may not import {to}"));
                }
            }
            if from == "core" && !for_tests && !CORE_IS_MADE_OF.contains(&dependency.name.as_str()) {
                complaints.push(format!("core may not depend on {}: it is pure", dependency.name));
            }
            for (names, holders, why) in ONLY {
                let here = sees_all || ALONE.contains(&from) || holders.contains(&from);
                if names.contains(&dependency.name.as_str()) && !here && !for_tests {
                    complaints.push(format!("{from} may not depend on {}: {why}", dependency.name));
                }
            }
        }
    }
    complaints
}

#[test]
fn no_crate_imports_what_it_may_not() {
    let complaints = complaints(&metadata(false));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_table_names_only_crates_that_exist() {
    let metadata = metadata(false);
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|package| short(&package.name)).collect();
    let rows = MAY_IMPORT.iter().flat_map(|(from, to)| to.iter().chain([from]));
    let named = rows.chain(SEES_ALL).chain(ALONE).chain(NEVER_REACHES.iter().map(|(from, ..)| from));
    let unknown: Vec<&str> = named.copied().filter(|name| !ours.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} stand in the table and not in the workspace");
}

/// The rule is tried on a tree that breaks it: each wrong edge must be seen.
#[test]
fn a_forbidden_import_is_noticed() {
    let mut broken = metadata(false);
    let edge = |from: &str, to: &str| {
        let package = broken.packages.iter().find(|package| package.name.as_str() == from).unwrap();
        package.dependencies.iter().find(|dependency| dependency.name == to).unwrap().clone()
    };
    let (store, rusqlite) = (edge("halligan-control", "halligan-store"), edge("halligan-store", "rusqlite"));
    for package in &mut broken.packages {
        match package.name.as_str() {
            "halligan-protocol-ssh" => package.dependencies.push(store.clone()),
            "halligan-control" | "halligan-core" => package.dependencies.push(rusqlite.clone()),
            _ => {}
        }
    }
    let complaints = complaints(&broken);
    for expected in [
        "protocol-ssh may not import store",
        "control may not depend on rusqlite",
        "core may not depend on rusqlite: it",
    ] {
        assert!(
            complaints.iter().any(|said| said.starts_with(expected)),
            "{expected}: not in {complaints:?}"
        );
    }
}

/// Everything that is compiled into `from`, by name, with one way to it.
fn reached(metadata: &Metadata, from: &PackageId) -> BTreeMap<String, String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let mut found = BTreeMap::new();
    let mut waiting = vec![(from, names.get(from).unwrap().to_string())];
    while let Some((id, way)) = waiting.pop() {
        for dependency in &nodes.get(id).unwrap().deps {
            if !dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal) {
                continue;
            }
            let name = *names.get(&dependency.pkg).unwrap();
            if !found.contains_key(name) {
                let way = format!("{way} → {name}");
                found.insert(name.to_owned(), way.clone());
                waiting.push((&dependency.pkg, way));
            }
        }
    }
    found
}

#[test]
fn no_crate_reaches_what_it_must_not_even_through_others() {
    let metadata = metadata(true);
    let mut complaints = Vec::new();
    for (from, never, why) in NEVER_REACHES {
        let name = format!("halligan-{from}");
        let package = metadata.packages.iter().find(|package| package.name.as_str() == name).unwrap();
        let reached = reached(&metadata, &package.id);
        for (_, way) in never.iter().filter_map(|name| reached.get_key_value(*name)) {
            complaints.push(format!("{way}: {why}"));
        }
    }
    for package in &metadata.packages {
        if NOBODY.contains(&package.name.as_str()) {
            complaints.push(format!("{} is in the tree: one TLS stack is enough", package.name));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    // The reader itself: what everybody knows to be there, behind two doors, must be found.
    let api = metadata.packages.iter().find(|package| package.name.as_str() == "halligan-api").unwrap();
    assert!(reached(&metadata, &api.id).contains_key("rusqlite"), "the tree is read wrongly");
}
