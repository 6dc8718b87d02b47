//! PostgreSQL's own regression suite, once directly and once through the gateway, each on a fresh server, at the same
//! time, in the order of its schedule. What `psql` prints must be the same, byte by byte. Whether it is what PostgreSQL's
//! authors expect is theirs to judge; it is counted here, so that a suite that did not run is no success.
//!
//! Both runs log in as roles of the same name and work as the same group, which here is a superuser: so that as much of
//! the suite as can be does something.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use halligan_recording::RecordKind;
use halligan_session::node_event::NodeEvent;
use halligan_testkit::postgres_programs::{DEBIAN, regression_suite};
use halligan_testkit::postgres_target::PostgresTarget;
use tokio::process::Command;

use crate::support::*;

const DATABASE: &str = "regression";
const DIRECT_PASSWORD: &str = "of-this-test-alone";

/// Runs the whole schedule; gives what each test printed.
async fn play(
    target: Arc<PostgresTarget>,
    results: PathBuf,
    connect: impl Fn(&mut Command),
    before_each: impl AsyncFn(),
) -> BTreeMap<String, String> {
    let suite = regression_suite().unwrap();
    // The server reads and writes files there itself.
    let place = target.folder().join("suite");
    std::fs::create_dir_all(place.join("results")).unwrap();
    for folder in [&place, &place.join("results")] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let copied = std::process::Command::new("cp").arg("-r").arg(suite.join("data")).arg(&place).status();
    assert!(copied.unwrap().success());
    std::fs::create_dir_all(&results).unwrap();
    let mut printed = BTreeMap::new();
    for test in schedule(&suite) {
        before_each().await;
        let mut psql = Command::new(Path::new(DEBIAN).join("psql"));
        psql.env_clear()
            .args(["-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"])
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &results)
            .env("LC_MESSAGES", "C")
            .env("PGDATABASE", DATABASE)
            .env("PGTZ", "PST8PDT")
            .env("PGDATESTYLE", "Postgres, MDY")
            .env("PG_ABS_SRCDIR", &place)
            .env("PG_ABS_BUILDDIR", &place)
            .env("PG_LIBDIR", "/nowhere")
            .env("PG_DLSUFFIX", ".so")
            .current_dir(&place);
        connect(&mut psql);
        let out = results.join(format!("{test}.out"));
        let file = std::fs::File::create(&out).unwrap();
        psql.stdin(Stdio::from(std::fs::File::open(suite.join(format!("sql/{test}.sql"))).unwrap()))
            .stdout(Stdio::from(file.try_clone().unwrap()))
            .stderr(Stdio::from(file))
            .kill_on_drop(true);
        let mut running = psql.spawn().unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(300), running.wait()).await;
        assert!(ended.is_ok(), "{test} hangs: see {}", out.display());
        let text = String::from_utf8_lossy(&std::fs::read(&out).unwrap()).into_owned();
        printed.insert(test, text.replace(&place.display().to_string(), "PLACE"));
    }
    printed
}

fn schedule(suite: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(suite.join("parallel_schedule")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("test:"));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The first lines in which two outputs differ.
fn difference(results: &Path, test: &str) -> String {
    let of = |which: &str| results.join(which).join(format!("{test}.out"));
    let output =
        std::process::Command::new("diff").arg("-u").args([of("direct"), of("gateway")]).output().unwrap();
    text(&output.stdout).lines().take(40).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_regression_suite_prints_the_same_through_the_gateway_and_directly() {
    let suite = regression_suite().unwrap();
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("regress");
    let _none = std::fs::remove_dir_all(&results);
    let build = |builder: halligan_testkit::postgres_target::Builder| {
        builder
            .database(DATABASE)
            .setting("log_statement", "none")
            .setting("max_prepared_transactions", "2")
            // Two servers at once, each of which would keep a gigabyte.
            .setting("max_wal_size", "96MB")
    };
    let world = World::with(Change {
        target: Box::new(build),
        attributes: "SUPERUSER",
        lease: Box::new(|lease| lease.postgres.function_calls = true),
        ..Change::default()
    })
    .await;
    let beside = Arc::new(
        tokio::task::spawn_blocking(move || build(PostgresTarget::builder()).start().unwrap()).await.unwrap(),
    );
    for target in [&world.target, &beside] {
        let group = PostgresTarget::WRITERS;
        target.sql("postgres", &format!("ALTER ROLE {group} SUPERUSER")).unwrap();
        target.sql("postgres", &format!("ALTER DATABASE {DATABASE} OWNER TO {group}")).unwrap();
        target.sql(DATABASE, "DROP TABLE public.orders").unwrap();
    }
    // The same user at both servers: there with a password, here as the gateway has it made.
    let user = world.sql("SELECT session_user").await.unwrap();
    let make = format!(
        "CREATE ROLE \"{user}\" LOGIN SUPERUSER PASSWORD '{DIRECT_PASSWORD}' IN ROLE {}",
        PostgresTarget::WRITERS
    );
    beside.sql("postgres", &make).unwrap();
    let ca = world.folder.path().join("server.pem");
    std::fs::write(&ca, beside.ca_pem()).unwrap();
    let port = beside.address().port().to_string();
    let options = "-c intervalstyle=postgres_verbose";
    let direct = play(
        Arc::clone(&beside),
        results.join("direct"),
        |psql| {
            psql.env("PGHOST", "localhost")
                .env("PGPORT", &port)
                .env("PGUSER", &user)
                .env("PGPASSWORD", DIRECT_PASSWORD)
                .env("PGSSLMODE", "verify-full")
                .env("PGSSLROOTCERT", &ca)
                .env("PGOPTIONS", format!("{options} -c role={}", PostgresTarget::WRITERS));
        },
        async || {},
    );
    let through = play(
        Arc::clone(&world.target),
        results.join("gateway"),
        |psql| {
            psql.env("PGHOST", "localhost")
                .env("PGPORT", world.port.to_string())
                .env("PGUSER", LOGIN)
                .env("PGPASSWORD", PASSWORD)
                .env("PGSSLMODE", "verify-full")
                .env("PGSSLROOTCERT", world.folder.path().join("root.pem"))
                .env("PGOPTIONS", options);
        },
        // A password is good for ten minutes.
        async || world.put_password(PASSWORD).await,
    );
    let begun = std::time::Instant::now();
    let (direct, through) = tokio::join!(direct, through);
    let as_expected = direct
        .iter()
        .filter(|(test, printed)| {
            let alternatives =
                ["", "_1", "_2", "_3"].map(|tail| suite.join(format!("expected/{test}{tail}.out")));
            alternatives.iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| text == **printed))
        })
        .count();
    println!("{} tests in {:?}; {as_expected} print what they should", direct.len(), begun.elapsed());
    assert!(direct.len() > 180 && as_expected > 90, "{} tests, {as_expected} as expected", direct.len());
    let differ: Vec<&str> = direct
        .iter()
        .filter(|(test, printed)| through[*test] != **printed)
        .map(|(test, _)| test.as_str())
        .collect();
    let shown: Vec<String> = differ.iter().map(|test| difference(&results, test)).collect();
    assert!(differ.is_empty(), "{differ:?} differ; all is in {}\n{}", results.display(), shown.join("\n\n"));
    // It went through the gateway, each test in a session of its own, and is on record.
    world.all_told().await;
    let opened = |event: &NodeEvent| matches!(event, NodeEvent::SessionOpened { .. });
    assert!(world.control.events().iter().filter(|event| opened(event)).count() > direct.len());
    let records = world.records().await;
    assert!(records.iter().any(|record| matches!(record, RecordKind::StatementBegin { .. })));
}
