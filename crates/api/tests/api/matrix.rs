//! Who may do what: every call × everybody, by really calling. A change of rights is a change of the golden file.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::http::{Reply, call};
use crate::rows::rows;
use crate::world::Prepared;

/// Columns: heading and whose token. Rita asked and is inside; Sten has nothing to do with it.
const ROLES: [(&str, &str); 10] = [
    ("nobody", ""),
    ("stranger", "sten"),
    ("responder", "rita"),
    ("approver", "alan"),
    ("lead", "lena"),
    ("security", "sofia"),
    ("auditor", "ava"),
    ("cloud", "cleo"),
    ("platform", "paula"),
    ("token", "token"),
];

fn golden() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/matrix.txt")
}

/// The operations that the OpenAPI text names.
fn described() -> BTreeSet<(String, String)> {
    let text: serde_json::Value = serde_json::from_str(&halligan_api::openapi_text()).unwrap();
    let paths = text["paths"].as_object().unwrap();
    let mut found = BTreeSet::new();
    for (path, item) in paths {
        for method in item.as_object().unwrap().keys() {
            let path = path.strip_prefix("/api/v1").unwrap().replace("{*path}", "{path}");
            found.insert((method.to_uppercase(), path));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_what_is_theirs_and_nothing_else() {
    let prepared = Prepared::make().await;
    let first = prepared.open().await;
    let all = rows(&first);
    let named: BTreeSet<(String, String)> =
        all.iter().map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
    assert_eq!(described(), named, "every call needs a row, and every row a call");

    let mut text = String::from(
        "# Status of every call for everybody, with words that fit. 404 where the caller must not know that it exists.\n",
    );
    write!(text, "{:42}", "").unwrap();
    for (heading, _) in ROLES {
        write!(text, " {heading:>9}").unwrap();
    }
    text.push('\n');
    for row in &all {
        write!(text, "{:6} {:35}", row.method, row.path).unwrap();
        for (_, who) in ROLES {
            // What changes something gets a world of its own.
            let own = if row.method == "GET" { None } else { Some(prepared.open().await) };
            let world = own.as_ref().unwrap_or(&first);
            let token = world.facts.tokens.get(who).map(String::as_str);
            let body = row.body.as_ref().map(|body| body.replace("{totp}", &world.code(who)));
            // A metrics scraper on this machine needs no token; the matrix asks as if from afar.
            let afar = [("X-Forwarded-For", "192.0.2.1")];
            let reply = call(world.address, row.method, &row.concrete, token, body.as_deref(), &afar).await;
            assert!(
                reply.status < 500,
                "{} {} as {who}: {} {}",
                row.method,
                row.path,
                reply.status,
                reply.text()
            );
            check_form(&reply, row.path);
            write!(text, " {:>9}", reply.status).unwrap();
            if let Some(own) = own {
                own.stop().await;
            }
        }
        text.push('\n');
    }
    first.stop().await;
    if std::env::var_os("HALLIGAN_BLESS").is_some() {
        std::fs::write(golden(), &text).unwrap();
    }
    let kept = std::fs::read_to_string(golden()).unwrap_or_default();
    assert!(kept == text, "rights have changed; if that is meant, run with HALLIGAN_BLESS=1\n{text}");
}

/// Every refusal is a problem document with a sentence, and tells nothing about the inside.
fn check_form(reply: &Reply, path: &str) {
    if reply.status < 400 {
        return;
    }
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path}: {}", reply.text());
    let problem = reply.json();
    assert_eq!(problem["status"], reply.status, "{path}");
    for field in ["type", "title", "detail", "code"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{path}: {problem}");
    }
    let said = reply.text().to_lowercase();
    for inside in ["sqlite", "select ", "panicked", "/tmp", "rusqlite", "src/"] {
        assert!(!said.contains(inside), "{path}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_tell_what_exists() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let ghost = |kind: &str| format!("{kind}_00000000000000000000000000");
    let facts = &world.facts;
    let pairs = [
        (facts.pending.to_string(), ghost("req")),
        (facts.grant.to_string(), ghost("grt")),
        (facts.ended.to_string(), ghost("grt")),
        (facts.session.to_string(), ghost("ses")),
        (facts.readable.to_string(), ghost("ses")),
        (facts.review.to_string(), ghost("rev")),
        ("INC-1".to_owned(), "INC-9".to_owned()),
    ];
    let mut compared = 0;
    for row in rows(&world) {
        let Some((real, ghost)) = pairs.iter().find(|(real, _)| row.concrete.contains(real.as_str())) else {
            continue;
        };
        // A code burns on use, so it is asked without.
        let body = row.body.as_ref().map(|body| body.replace("{totp}", ""));
        let token = Some(facts.tokens["sten"].as_str());
        let there = call(world.address, row.method, &row.concrete, token, body.as_deref(), &[]).await;
        let gone = row.concrete.replace(real.as_str(), ghost);
        let not_there = call(world.address, row.method, &gone, token, body.as_deref(), &[]).await;
        let said = |reply: &Reply, id: &str| reply.text().replace(id, "ID");
        assert_eq!(
            (there.status, said(&there, real)),
            (not_there.status, said(&not_there, ghost)),
            "{} {}",
            row.method,
            row.path
        );
        assert_eq!(there.status, 404, "{} {}", row.method, row.path);
        compared += 1;
    }
    assert!(compared >= 30, "only {compared} calls were compared");
    world.stop().await;
}
