//! The person's end of the way, and statements that are cancelled through it or through another gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use halligan_protocol_postgres::codec::{Version, Writer};
use halligan_protocol_postgres::{Door, Means, Place, Renewal};
use halligan_recording::RecordKind;
use halligan_session::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
    let places = [Place { address, certificate: root }];
    let by_password = Means::password(&places, Secret::new(PASSWORD.to_owned()));
    let by_certificate = Means::certificate(&places, &certificate, &Secret::new(key));
    for (which, means) in [("password", by_password), ("certificate", by_certificate)] {
        let opened = Opened::new(means.unwrap(), "orders", || None);
        let psql = |sql: &str| opened.psql(&world, sql);
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
    }
}

/// A door with its socket, and what it was told when it asked for other means.
struct Opened {
    folder: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
    asked: Arc<AtomicUsize>,
}

impl Opened {
    fn new(means: Means, database: &str, other: impl Fn() -> Option<Means> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let renewal: Renewal = Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let made = other();
            Box::pin(async move { made })
        });
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let door = Door::new(LOGIN.to_owned(), database.to_owned(), means, renewal);
        let serving = tokio::spawn(Arc::new(door).serve(listener));
        Self { folder, serving, asked }
    }

    fn psql(&self, world: &World, sql: &str) -> tokio::process::Command {
        let mut psql = world.psql();
        psql.env_remove("PGPASSWORD").env_remove("PGSSLMODE").env_remove("PGSSLROOTCERT");
        psql.env("PGHOST", self.folder.path()).env("PGPORT", "5432").args(["-w", "-c", sql]);
        psql
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_stays_open_goes_to_another_gateway_and_asks_for_other_means() {
    let world = World::new().await;
    let here = format!("localhost:{}", world.port);
    let certificate = std::fs::read_to_string(world.folder.path().join("root.pem")).unwrap();
    let place = |address: &str| Place { address: address.to_owned(), certificate: certificate.clone() };
    let gone = format!("localhost:{}", halligan_testkit::process::free_port().unwrap());
    let password =
        |text: &str, places: &[Place]| Means::password(places, Secret::new(text.to_owned())).unwrap();

    // The first gateway is away, the second is not.
    let opened = Opened::new(password(PASSWORD, &[place(&gone), place(&here)]), "orders", || None);
    let output = finished(opened.psql(&world, "SELECT 1")).await;
    assert_eq!(text(&output.stdout).trim(), "1", "{}", text(&output.stderr));
    assert_eq!(opened.asked.load(Ordering::SeqCst), 0);
    // Whoever cancels goes where the statement runs.
    let running = opened.psql(&world, "SELECT pg_sleep(60)").spawn().unwrap();
    world.direct_until(SLEEPS, "1", Duration::from_secs(10)).await;
    interrupt(&running);
    let output = ended(running, Duration::from_secs(5)).await;
    assert!(text(&output.stderr).contains("canceling statement"), "{}", text(&output.stderr));

    // A password that is over; and one whose gateways are all away.
    for places in [vec![place(&here)], vec![place(&gone)]] {
        let good = vec![place(&here)];
        let fresh = move || Some(Means::password(&good, Secret::new(PASSWORD.to_owned())).unwrap());
        let opened = Opened::new(password("of-yesterday", &places), "orders", fresh);
        for _ in 0..2 {
            let output = finished(opened.psql(&world, "SELECT 1")).await;
            assert_eq!(text(&output.stdout).trim(), "1", "{}", text(&output.stderr));
        }
        assert_eq!(opened.asked.load(Ordering::SeqCst), 1, "once, and then they are at hand");
    }

    // None: the person is told whose fault it is, once for each connection.
    let opened = Opened::new(password(PASSWORD, &[place(&gone)]), "orders", || None);
    let output = finished(opened.psql(&world, "SELECT 1")).await;
    let said = text(&output.stderr);
    assert!(said.contains(&format!("the gateway at {gone} cannot be reached")), "{said}");
    assert!(said.contains("halligan doctor"), "{said}");
    let opened = Opened::new(password("of-yesterday", &[place(&here)]), "orders", || None);
    let output = finished(opened.psql(&world, "SELECT 1")).await;
    assert!(text(&output.stderr).contains("password authentication failed"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_names_no_database_gets_the_door_s_own() {
    let world =
        World::with(Change { target: Box::new(|builder| builder.database("stock")), ..Change::default() })
            .await;
    let certificate = std::fs::read_to_string(world.folder.path().join("root.pem")).unwrap();
    let places = [Place { address: format!("localhost:{}", world.port), certificate }];
    let means = Means::password(&places, Secret::new(PASSWORD.to_owned())).unwrap();
    let opened = Opened::new(means, "stock", || None);
    // libpq names the user then.
    for (user, database, expected) in [
        (Some(LOGIN), None, "stock"),
        (Some("anybody"), None, "stock"),
        (Some(LOGIN), Some("orders"), "orders"),
    ] {
        let mut psql = opened.psql(&world, "SELECT current_database()");
        psql.env_remove("PGDATABASE").env_remove("PGUSER");
        psql.args(user.into_iter().flat_map(|user| ["-U", user]));
        psql.args(database.into_iter().flat_map(|database| ["-d", database]));
        let output = finished(psql).await;
        assert_eq!(text(&output.stdout).trim(), expected, "{user:?}: {}", text(&output.stderr));
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
        // Of a profile of somebody who usually goes elsewhere.
        psql.env("PGHOSTADDR", "127.0.0.9").env("PGSERVICE", "elsewhere");
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
    // What is wrong is said, all of it.
    let elsewhere = {
        let mut psql = tokio::process::Command::new(halligan_testkit::process::halligan_bin().unwrap());
        psql.env_clear().env("PATH", "/usr/bin:/bin").env("HALLIGAN_HOME", &home).env("HOME", &home);
        psql.args(["psql", "--gateway", "nope", "orders-db/work"]);
        psql.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        finished(psql).await
    };
    let said = text(&elsewhere.stderr);
    assert!(said.contains("failed to reach") && said.contains("the gateway nope is not known"), "{said}");
    // Nor does it matter what keeps the server from answering: something else answers, or it is sick.
    for answer in [
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\nconnection: close\r\n\r\nsorry",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ] {
        let sick = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://localhost:{}", sick.local_addr().unwrap().port());
        let answering = tokio::spawn(async move {
            loop {
                let (mut stream, _) = sick.accept().await.unwrap();
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let mut sick: serde_json::Value = serde_json::from_str(&profile(4_000_000_000_000_000)).unwrap();
        sick["server"] = server.into();
        write("profile.json", &sick.to_string());
        let output = finished(psql()).await;
        assert_eq!(text(&output.stdout).trim(), "orders", "{answer}: {}", text(&output.stderr));
        answering.abort();
    }
    // One that has ended is not tried.
    write("profile.json", &profile(2));
    let output = finished(psql()).await;
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("failed to reach") && !said.contains("going on"),
        "{said}"
    );
}
