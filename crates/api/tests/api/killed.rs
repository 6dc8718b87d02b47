//! Control dies between taking somebody's code and carrying out what it was shown for.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::http::call;
use crate::world::{Prepared, code, serve_until_killed};

const FOLDER: &str = "HALLIGAN_TEST_API_FOLDER";
const CLOCK: &str = "HALLIGAN_TEST_API_CLOCK";

/// The one that is killed: this very test, in a process of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the test below"]
async fn the_one_that_is_killed() {
    let (Ok(folder), Ok(clock)) = (std::env::var(FOLDER), std::env::var(CLOCK)) else { return };
    serve_until_killed(Path::new(&folder), clock.parse().unwrap()).await;
}

/// Killed when it goes out of sight, too.
struct Killed(Child, SocketAddr);

impl Killed {
    fn start(folder: &Path, clock: i64) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::the_one_that_is_killed", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .env(CLOCK, clock.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut killed = Self(child, SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut lines = BufReader::new(killed.0.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next().expect("the child says ready").unwrap();
            if let Some(address) = line.strip_prefix("ready ") {
                killed.1 = address.parse().unwrap();
                return killed;
            }
        }
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// As somebody with a hand on the database file.
fn sql(folder: &Path, text: &str) {
    let script =
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=10)\nc.executescript(sys.argv[2])\n";
    let store = folder.join("store.sqlite");
    let status = Command::new("python3").args(["-c", script]).arg(store).arg(text).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_taken_before_a_crash_is_good_for_the_repetition_of_that_call_and_nothing_else() {
    let prepared = Prepared::make().await;
    let facts = &prepared.facts;
    let folder = prepared.copy();
    let path = format!("/requests/{}/approve", facts.pending);
    let alan = Some(facts.tokens["alan"].as_str());
    let at = halligan_core::time::Time::from_micros(facts.clock);
    let shown = code(&facts.secrets["alan"], at);
    let words = |version: u32, reason: &str| {
        serde_json::json!({"version": version, "reason": reason, "totp": shown}).to_string()
    };
    let body = words(facts.pending_version, "seen");
    let key = [("Idempotency-Key", "approve-1")];

    // What takes the code is stored; what carries the approval out, with its leaf, is not: there it dies.
    sql(
        folder.path(),
        "CREATE TRIGGER die BEFORE INSERT ON leaves BEGIN SELECT RAISE(ABORT, 'no leaf'); END;",
    );
    let dying = Killed::start(folder.path(), facts.clock);
    let reply = call(dying.1, "POST", &path, alan, Some(&body), &key).await;
    assert!(reply.status >= 500, "{}", reply.text());
    drop(dying);
    sql(folder.path(), "DROP TRIGGER die;");

    let again = Killed::start(folder.path(), facts.clock);
    // The code is gone for everything else: another call, the same words under another key, somebody else.
    let other = [("Idempotency-Key", "approve-2")];
    let spent = call(again.1, "POST", &path, alan, Some(&body), &other).await;
    assert_eq!(
        (spent.status, spent.json()["code"].as_str()),
        (403, Some("second_factor")),
        "{}",
        spent.text()
    );
    let changed = words(facts.pending_version, "changed my mind");
    let spent = call(again.1, "POST", &path, alan, Some(&changed), &key).await;
    assert_eq!(
        (spent.status, spent.json()["code"].as_str()),
        (403, Some("second_factor")),
        "{}",
        spent.text()
    );
    // The call itself, repeated, is carried out; once, however often it is repeated, and whoever dies meanwhile.
    let reply = call(again.1, "POST", &path, alan, Some(&body), &key).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.header("halligan-leaf").is_some(), "this time it was carried out");
    let decisions =
        |reply: &crate::http::Reply| reply.json()["request"]["decisions"].as_array().unwrap().len();
    assert_eq!(decisions(&reply), 1);
    drop(again);
    let last = Killed::start(folder.path(), facts.clock);
    let reply = call(last.1, "POST", &path, alan, Some(&body), &key).await;
    assert_eq!((reply.status, decisions(&reply)), (200, 1), "{}", reply.text());
    assert!(reply.header("halligan-leaf").is_none(), "answered, not done again");
}
