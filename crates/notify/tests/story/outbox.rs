//! The whole way: a decision of a real control, its outbox, a receiver that is down at first.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use halligan_control::catalog::{CatalogHead, head_key};
use halligan_control::clock::SystemClock;
use halligan_control::{Control, ControlOptions};
use halligan_core::catalog::{Catalog, RouteTarget, Severity, Who};
use halligan_core::command::{Actor, Command};
use halligan_notify::{Notifier, NotifyConfig};
use halligan_store::{Commit, DocumentWrite, SqliteOptions, Store};

use crate::receiver::Receiver;
use crate::{SECRET, catalog, route};

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done().await {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Control over a store that holds this catalog, in which everybody may declare an incident.
async fn control_with(folder: &Path, mut catalog: Catalog) -> Control {
    let declared_by = vec![Who::Anyone(true)];
    let severity = Severity { rank: 1, declared_by, ..Severity::default() };
    catalog.severities.insert("sev1".parse().unwrap(), severity);
    let store = Store::open_sqlite(SqliteOptions::new(folder.join("store.db"))).await.unwrap();
    let head = CatalogHead { version: 1, systems_generation: 1, catalog };
    let write = DocumentWrite {
        key: head_key(),
        expected_revision: 0,
        body: serde_json::to_vec(&head).unwrap(),
        indexes: Vec::new(),
        due_at: None,
        deleted: false,
    };
    store.commit(Commit { documents: vec![write], ..Commit::default() }).await.unwrap();
    let options = ControlOptions {
        name: "control-1".parse().unwrap(),
        site: "main".parse().unwrap(),
        folder: folder.join("control"),
        origin: "example.org/halligan/control".to_owned(),
        auditors: Vec::new(),
        link_addresses: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    Control::open(options, store).await.unwrap()
}

fn anna_declares() -> (Actor, Command) {
    let anna = Actor::Person { id: "anna".parse().unwrap(), factor: None, token: false };
    let command = Command::OpenIncident {
        title: "the database is stuck".to_owned(),
        severity: "sev1".parse().unwrap(),
        scenario: None,
        link: None,
        number: 1,
    };
    (anna, command)
}

#[tokio::test]
async fn an_alert_outlives_a_dead_receiver_and_holds_no_decision_up() {
    let folder = tempfile::tempdir().unwrap();
    let port = Receiver::plain().await.port;
    let secret = folder.path().join("siem.whsec");
    std::fs::write(&secret, SECRET).unwrap();
    let to =
        RouteTarget::Webhook { url: format!("http://127.0.0.1:{port}/"), secret: "siem".parse().unwrap() };
    let catalog = catalog(vec![("siem", route(&[], to))]);
    let control = control_with(folder.path(), catalog).await;
    let mut config = NotifyConfig::default();
    config.webhook_secrets.insert("siem".parse().unwrap(), secret);
    let asked = control.clone();
    let notifier = Notifier::new(config, Arc::new(move || Arc::clone(&asked.in_force().head))).unwrap();
    control.set_alert_sink(Arc::new(notifier));
    control.start();

    let (anna, command) = anna_declares();
    let before = Instant::now();
    control.run(&anna, command).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(2));
    until("the delivery fails while the receiver is down", async || {
        control.counts().get("alerts_failed").copied().unwrap_or(0) >= 2
    })
    .await;

    let receiver = Receiver::plain_on(port).await;
    until("the receiver gets the alert", async || !receiver.received().is_empty()).await;
    let json: serde_json::Value = serde_json::from_slice(&receiver.received()[0].body).unwrap();
    assert_eq!(json["type"], "halligan.incident");
    assert!(json["say"].as_str().unwrap().contains("the database is stuck"));
    assert!(json["incident"].as_str().unwrap().starts_with("inc_"));
    assert!(json["checkpoint"].as_str().unwrap().starts_with("example.org/halligan/control\n"));
    until("nothing is left to send", async || control.store().outbox_stats().await.unwrap().count == 0).await;
    control.stop().await;
}

#[tokio::test]
async fn an_alert_that_nobody_would_get_is_counted_and_the_reason_is_said_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let to = RouteTarget::Mail(vec![Who::Person("anna".parse().unwrap())]);
    let control = control_with(folder.path(), catalog(vec![("ops", route(&[], to))])).await;
    let asked = control.clone();
    // The catalog has a route by mail; the server has no mail server.
    let head = Arc::new(move || Arc::clone(&asked.in_force().head));
    control.set_alert_sink(Arc::new(Notifier::new(NotifyConfig::default(), head).unwrap()));
    control.start();
    assert_eq!(control.status().await.unwrap().alerts_unrouted, 0);
    let (anna, command) = anna_declares();
    control.run(&anna, command).await.unwrap();
    until("the alert is counted", async || {
        control.counts().get("alerts_unrouted").copied().unwrap_or(0) == 1
    })
    .await;
    until("nothing is left to send", async || control.store().outbox_stats().await.unwrap().count == 0).await;
    let status = control.status().await.unwrap();
    assert_eq!((status.alerts_unrouted, status.outbox), (1, 0));
    assert_eq!(status.alert_problems, ["route ops is by mail, but the server's configuration has no smtp"]);
    assert!(status.disk_free > 0);
    let sink = control.alert_sink().unwrap();
    let tested = sink.test("ops", "anna").await.unwrap();
    assert!(tested.iter().all(|one| one.error.is_some()), "{tested:?}");
    assert!(sink.test("nowhere", "anna").await.unwrap_err().contains("ops"));
    control.stop().await;
}
