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
        let replies = ROLES.map(async |(_, who)| {
            // What changes something gets a world of its own.
            let own = if row.method == "GET" { None } else { Some(prepared.open().await) };
            let world = own.as_ref().unwrap_or(&first);
            let token = world.facts.tokens.get(who).map(String::as_str);
            let body = row.body.as_ref().map(|body| body.replace("{totp}", &world.code(who)));
            // A metrics scraper on this machine needs no token; the matrix asks as if from afar.
            let afar = [("X-Forwarded-For", "192.0.2.1")];
            let reply = call(world.address, row.method, &row.concrete, token, body.as_deref(), &afar).await;
            if let Some(own) = own {
                own.stop().await;
            }
            (who, reply)
        });
        for (who, reply) in futures::future::join_all(replies).await {
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

#[tokio::test(flavor = "multi_thread")]
async fn lists_hold_nothing_for_those_who_may_not_see_it() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let count = async |who: &str, path: &str| {
        let token = Some(world.facts.tokens[who].as_str());
        let reply = call(world.address, "GET", path, token, None, &[]).await;
        reply.json()["items"].as_array().unwrap().len()
    };
    for (path, all) in
        [("/requests", 3), ("/grants", 2), ("/sessions", 3), ("/incidents", 1), ("/reviews", 1)]
    {
        let path = format!("{path}?which=all");
        assert_eq!(count("sten", &path).await, 0, "{path}");
        assert_eq!(count("ava", &path).await, all, "{path}");
        assert_eq!(count("rita", &path).await, all, "{path}: it is all hers");
        // Whoever administers Halligan sees reviews to judge, and nothing of the emergencies.
        assert_eq!(count("cleo", &path).await, usize::from(path.starts_with("/reviews")), "{path}");
    }
    assert_eq!(count("alan", "/requests?which=to_decide").await, 1);
    assert_eq!(count("alan", "/grants?which=all").await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn naming_an_incident_does_not_tell_a_stranger_whether_it_exists() {
    let prepared = Prepared::make().await;
    let world = prepared.open().await;
    let ask = async |who: &str, incident: &str| {
        let body = serde_json::json!({
            "entitlements": ["sealed-db/observe"], "mode": "emergency", "severity": "sev1", "scenario": "db-locked",
            "criteria_confirmed": true, "incident": incident, "reason": "a look", "totp": world.code(who),
        });
        let token = Some(world.facts.tokens[who].as_str());
        let reply = call(world.address, "POST", "/requests", token, Some(&body.to_string()), &[]).await;
        world.clock.forward(halligan_core::time::Span::seconds(30));
        (reply.status, reply.text())
    };
    let (there, not_there) = (ask("sten", "INC-1").await, ask("sten", "INC-9").await);
    assert_eq!(there, not_there);
    assert_eq!(there.0, 404);
    let (status, text) = ask("rita", "INC-9").await;
    assert_eq!(status, 404);
    assert!(text.contains("incident INC-9 does not exist"), "{text}");
    assert_eq!(ask("rita", "INC-1").await.0, 200);
    world.stop().await;
}
