//! The person's end of the way, and statements that are cancelled through it or through another gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use halligan_protocol_postgres::Door;
use halligan_protocol_postgres::codec::{Version, Writer};
use halligan_recording::RecordKind;
use halligan_session::Secret;
use tokio::net::UnixListener;

use crate::certificates::Authority;
use crate::raw::*;
use crate::support::*;

const SLEEPS: &str = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' \
                      AND application_name LIKE 'halligan:%'";

fn interrupt(child: &tokio::process::Child) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_door_tools_need_no_password_and_ctrl_c_cancels() {
    let world = World::new().await;
    let authority = Authority::new("Halligan login");
    world.put_roster_as(2, |roster| roster.client_ca = authority.in_roster()).await;
    let address = format!("localhost:{}", world.port);
    let root = std::fs::read_to_string(world.folder.path().join("root.pem")).unwrap();
    let (certificate, key) = authority.person("ana", false);
    let by_password =
        Door::new(&address, &root, LOGIN.to_owned(), "orders".to_owned(), Secret::new(PASSWORD.to_owned()));
    let own = (certificate.as_str(), &Secret::new(key));
    let by_certificate = Door::by_certificate(&address, &root, LOGIN.to_owned(), String::new(), own);
    for (which, door) in [("password", by_password), ("certificate", by_certificate)] {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let serving = tokio::spawn(Arc::new(door.unwrap()).serve(listener));
        let psql = |sql: &str| {
            let mut psql = world.psql();
            psql.env_remove("PGPASSWORD").env_remove("PGSSLMODE").env_remove("PGSSLROOTCERT");
            psql.env("PGHOST", folder.path()).env("PGPORT", "5432").args(["-w", "-c", sql]);
            psql
        };
        let output = finished(psql("SELECT current_database()")).await;
        assert_eq!(text(&output.stdout).trim(), "orders", "{which}: {}", text(&output.stderr));
        let running = psql("SELECT pg_sleep(60)").spawn().unwrap();
        world.direct_until(SLEEPS, "1", Duration::from_secs(10)).await;
        let begun = Instant::now();
        interrupt(&running);
        let output = ended(running, Duration::from_secs(5)).await;
        let said = text(&output.stderr);
        assert!(said.contains("canceling statement due to user request"), "{which}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{which}: {:?}", begun.elapsed());
        let noted = world.records().await.into_iter().any(
            |record| matches!(record, RecordKind::Note { text } if text.contains("a cancel request from")),
        );
        assert!(noted, "{which}");
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_that_comes_to_another_gateway_is_brought_to_its_session() {
    let home = World::with(Change { gateway: "gw-2", ..Change::default() }).await;
    let other = World::with(Change { gateway: "gw-1", ..Change::default() }).await;
    *other.control.beside.lock().unwrap() = Some(home.from_control.clone());
    let cancel = async |world: &World, process: u32, key: &[u8]| {
        let mut raw = Raw::plain(world).await;
        let mut out = BytesMut::new();
        Writer(&mut out).cancel_request(process, key);
        raw.send(&out).await;
        assert_eq!(raw.message().await, None, "a cancel request has no answer");
    };
    for version in [Version::V3_0, Version::V3_2] {
        let mut running = Raw::ready(&home, version).await;
        let (process, key) = running.key.clone();
        running.query("SELECT pg_sleep(60)").await;
        home.direct_until(SLEEPS, "1", Duration::from_secs(10)).await;
        // Through the other gateway too the secret must be right, and whole.
        let mut wrong = key.clone();
        wrong[0] ^= 1;
        for bad in [&wrong[..], &key[1..], &[0; 256][..]] {
            cancel(&other, process, bad).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(home.direct(SLEEPS).await, "1");
        let begun = Instant::now();
        cancel(&other, process, &key).await;
        assert_eq!(running.error().await.0, "57014");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        running.until(b'Z').await;
        drop(running);
        let noted = home.records().await.into_iter().any(|record| {
            matches!(record, RecordKind::Note { text }
                if text.contains("a cancel request from 127.0.0.1:") && text.contains("through gateway gw-1, cancels statement 1"))
        });
        assert!(noted, "it is on record where it hit");
    }
    // However many come, control is not flooded, and sessions go on.
    for _ in 0..150 {
        cancel(&other, home_number() << 21 | 7, &[0; 4]).await;
    }
    assert_eq!(home.sql("SELECT 1").await.unwrap(), "1");
    assert_eq!(other.sql("SELECT 1").await.unwrap(), "1");
}

fn home_number() -> u32 {
    halligan_session::cancel::gateway_number(&name("gw-2"))
}

/// The program itself, on a machine that remembers where the gateways are, with a server that cannot be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halligan_psql_goes_in_by_certificate_while_the_server_is_away() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new().await;
    let authority = Authority::new("Halligan login");
    world.put_roster_as(2, |roster| roster.client_ca = authority.in_roster()).await;
    let home = world.folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let write = |file: &str, text: &str| {
        let path = home.join(file);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let (certificate, key) = authority.person("ana", false);
    write("client.crt", &certificate);
    write("client.key", &key);
    let root = std::fs::read_to_string(world.folder.path().join("root.pem")).unwrap();
    let pinned: String = root.lines().filter(|line| !line.starts_with("-----")).collect();
    let profile = |valid_until: i64| {
        serde_json::json!({
            "server": format!("http://localhost:{}", halligan_testkit::process::free_port().unwrap()),
            "trust": {"by": "system"}, "person": "ana", "token": "hgn_test", "token_expires": null,
            "certificate": null, "client_certificate": {"made_at": 1, "valid_until": valid_until},
            "gateways": [
                {"name": "gone", "site": null, "listeners": {"postgres":
                    {"address": format!("localhost:{}", halligan_testkit::process::free_port().unwrap()), "host_keys": []}}},
                {"name": "gw-1", "site": null, "listeners": {"postgres":
                    {"address": format!("localhost:{}", world.port), "host_keys": [format!("certificate {pinned}")]}}},
            ],
        })
        .to_string()
    };
    let psql = || {
        let mut psql = tokio::process::Command::new(halligan_testkit::process::halligan_bin().unwrap());
        psql.env_clear().env("PATH", "/usr/bin:/bin").env("HALLIGAN_HOME", &home).env("HOME", &home);
        psql.args(["psql", "orders-db/work", "--", "-X", "-A", "-t", "-c", "SELECT current_database()"]);
        psql.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        psql.stderr(std::process::Stdio::piped()).kill_on_drop(true);
        psql
    };
    write("profile.json", &profile(4_000_000_000_000_000));
    let output = finished(psql()).await;
    let said = text(&output.stderr);
    assert_eq!(text(&output.stdout).trim(), "orders", "{said}");
    assert!(said.contains("going on with the client certificate at hand"), "{said}");
    // One that has ended is not tried.
    write("profile.json", &profile(2));
    let output = finished(psql()).await;
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("failed to reach") && !said.contains("going on"),
        "{said}"
    );
}
