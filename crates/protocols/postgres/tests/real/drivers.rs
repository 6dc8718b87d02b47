//! Drivers as applications use them, unchanged: Python, JavaScript, Java.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use halligan_recording::RecordKind;
use halligan_session::node_event::NodeEvent;
use halligan_testkit::postgres_programs::{npm, venv};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::process::Command;

use crate::certificates::Authority;
use crate::support::*;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real")
}

/// Runs a program of a driver, which says at its end that all is well, and gives what the last session recorded.
async fn drive(world: &World, mut command: Command, more: &[&str]) -> Vec<RecordKind> {
    command.args(["localhost", &world.port.to_string(), LOGIN, PASSWORD]);
    command.arg(world.folder.path().join("root.pem")).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = finished(command).await;
    assert!(text(&output.stdout).contains("all is well"), "{}{}", text(&output.stdout), text(&output.stderr));
    world.records().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drivers_of_python_work_with_pipelines_copies_cursors_and_cancels() {
    let world = World::new().await;
    for which in ["psycopg", "asyncpg"] {
        let mut python = Command::new(venv().join("bin/python"));
        python.arg(here().join("drivers.py")).arg(which);
        let begun = statements(&drive(&world, python, &[]).await).len();
        assert!(begun > 1000, "{which}: {begun} statements on record");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_postgres_works_with_names_bound_values_notes_and_a_pool() {
    let world = World::new().await;
    let modules = npm().join("node_modules");
    assert!(modules.join("pg").is_dir(), "node-postgres is missing: please run `cargo xtask setup`");
    let mut node = Command::new("node");
    node.arg(here().join("drivers.js"));
    drive(&world, node, &[modules.to_str().unwrap()]).await;
    let sessions = world
        .control
        .events()
        .iter()
        .filter(|event| matches!(event, NodeEvent::SessionOpened { .. }))
        .count();
    assert!((3..=5).contains(&sessions), "{sessions} connections are as many sessions");
    assert_eq!(world.direct("SELECT count(*) FROM noded").await, "400");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jdbc_works_with_batches_cursors_copies_cancels_and_large_objects() {
    for calls in [false, true] {
        let world = World::may(move |may| may.function_calls = calls).await;
        let records = drive(&world, java(), &[if calls { "calls" } else { "no calls" }]).await;
        let bound = records.iter().filter(|record| {
            matches!(record, RecordKind::StatementBegin { text, parameters: Some(values), .. }
                if text.starts_with("INSERT INTO brewed") && values.contains("row 77"))
        });
        assert_eq!(bound.count(), 11, "row 77 and those from 770 on, in a batch with binary values");
    }
}

/// As `halligan login` leaves them: the certificate, and its key in the form that this driver reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jdbc_opens_by_a_certificate_without_a_password() {
    let world = World::new().await;
    let authority = Authority::new("Halligan login");
    world.put_roster_as(2, |roster| roster.client_ca = authority.in_roster()).await;
    let (certificate, key) = authority.person("ana", false);
    let folder = world.folder.path();
    let (shown, its_key) = (folder.join("client.crt"), folder.join("client.pk8"));
    std::fs::write(&shown, certificate).unwrap();
    std::fs::write(&its_key, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap().secret_der()).unwrap();
    let files = [shown.to_str().unwrap(), its_key.to_str().unwrap()];
    drive(&world, java(), &["no calls", files[0], files[1]]).await;
    let by_certificate = world.control.events().iter().any(
        |event| matches!(event, NodeEvent::SessionOpened { login, .. } if login.starts_with("client certificate ")),
    );
    assert!(by_certificate);
}

fn java() -> Command {
    let jar = "/usr/share/java/postgresql.jar";
    assert!(Path::new(jar).exists(), "the driver of Java is missing: please run `cargo xtask setup`");
    let mut java = Command::new("java");
    java.args(["-cp", jar]).arg(here().join("Drivers.java"));
    java
}
