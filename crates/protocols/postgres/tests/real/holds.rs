//! Guard rails: statements that are refused, and those that wait for a second person.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use halligan_core::catalog::{PostgresCapabilities, StatementRule};
use halligan_core::time::Span;
use halligan_link::{Request, Response};
use halligan_protocol_postgres::codec::{Version, Writer};
use halligan_recording::{Outcome, RecordKind};
use halligan_session::node_event::NodeEvent;

use crate::raw::*;
use crate::support::*;

fn careful(may: &mut PostgresCapabilities) {
    may.statements.schema = StatementRule::Hold;
    may.statements.privilege = StatementRule::Deny;
    may.hold_limit = Span::seconds(20);
}

/// Waits for the newest hold and answers it.
async fn answer(world: &World, text: &str, allow: bool) {
    let held = world
        .told(|event| matches!(event, NodeEvent::StatementHeld { text: held, .. } if held == text))
        .await;
    let NodeEvent::StatementHeld { session, hold, .. } = held else { unreachable!() };
    let release = Request::ReleaseStatement {
        session,
        hold,
        allow,
        by: "Bo".to_owned(),
        reason: "the wrong table".to_owned(),
    };
    assert_eq!(world.ask(release).await, Response::Ok);
}

async fn table(world: &World, name: &str) {
    world.direct(&format!("CREATE TABLE {name} (n BIGINT); ALTER TABLE {name} OWNER TO orders_write")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_waits_until_a_second_person_allows_or_denies_it() {
    let world = World::may(careful).await;
    table(&world, "one").await;
    table(&world, "two").await;

    let mut psql = world.psql();
    psql.args(["-c", "DROP TABLE one"]);
    let psql = psql.spawn().unwrap();
    let text_of = "DROP TABLE one";
    world.told(|event| matches!(event, NodeEvent::StatementHeld { text, .. } if text == text_of)).await;
    assert_eq!(
        world.direct("SELECT to_regclass('one') IS NULL").await,
        "f",
        "nothing passes before the answer"
    );
    answer(&world, text_of, true).await;
    let output = ended(psql, Duration::from_secs(10)).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("waits for a second person"), "{}", text(&output.stderr));
    assert_eq!(world.direct("SELECT to_regclass('one') IS NULL").await, "t");

    // By the extended protocol, with parameters before and a query behind it.
    let driver = world.driver().await;
    let asked = driver.execute("DROP TABLE two", &[]);
    let (outcome, ()) = tokio::join!(asked, answer(&world, "DROP TABLE two", false));
    let error = outcome.unwrap_err();
    let said = error.as_db_error().unwrap();
    assert_eq!(said.code().code(), "42501");
    assert!(said.message().contains("the wrong table"), "{}", said.message());
    let row = driver.query_one("SELECT $1::BIGINT + 1", &[&41_i64]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 42);
    assert_eq!(world.direct("SELECT to_regclass('two') IS NULL").await, "f");
    drop(driver);
    let records = world.records().await;
    assert!(
        records.iter().any(|record| matches!(
            record,
            RecordKind::StatementEnd { outcome: Outcome::Refused { .. }, .. }
        )),
        "{records:#?}"
    );
    assert!(records.iter().any(
        |record| matches!(record, RecordKind::StatementBegin { parameters: Some(values), .. } if values == "[41]")
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_fails_as_any_statement_does_and_open_transactions_do_not_wait() {
    let world = World::may(careful).await;
    table(&world, "kept").await;
    let error = world.sql("GRANT SELECT ON kept TO PUBLIC").await.unwrap_err();
    assert!(error.contains("no statements of the class \"privilege\""), "{error}");
    // One text with several statements is the worst of them.
    let error = world.sql("SELECT 1; GRANT SELECT ON kept TO PUBLIC").await.unwrap_err();
    assert!(error.contains("privilege"), "{error}");
    // The transaction is failed, not half done.
    let mut psql = talking(world.program("psql"));
    say(
        &mut psql,
        "BEGIN;\nINSERT INTO kept VALUES (1);\nGRANT SELECT ON kept TO PUBLIC;\nSELECT 7;\nCOMMIT;\n",
    )
    .await;
    say(
        &mut psql,
        "BEGIN;\nINSERT INTO kept VALUES (2);\nDROP TABLE kept;\nCOMMIT;\nSELECT 'go' || 'es on';\n\\q\n",
    )
    .await;
    let output = ended(psql, Duration::from_secs(10)).await;
    let said = text(&output.stderr);
    assert!(said.contains("privilege") && said.contains("current transaction is aborted"), "{said}");
    assert!(said.contains("not done inside an open transaction"), "{said}");
    assert!(text(&output.stdout).contains("goes on"), "{}", text(&output.stdout));
    assert_eq!(world.direct("SELECT count(*) FROM kept").await, "0");
    // A pipeline behind a denied Execute is skipped by the server, up to its Sync.
    let driver = world.driver().await;
    let grant = driver.prepare("GRANT SELECT ON kept TO PUBLIC").await.unwrap();
    let (denied, after) = tokio::join!(driver.execute(&grant, &[]), driver.query_one("SELECT 5", &[]));
    assert_eq!(denied.unwrap_err().code().unwrap().code(), "42501");
    assert_eq!(after.unwrap().get::<_, i32>(0), 5);
    drop(driver);
    assert!(!world.control.events().iter().any(|event| matches!(event, NodeEvent::StatementHeld { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_statement_is_withdrawn_by_control_c_and_ends_with_the_session() {
    let world = World::may(careful).await;
    table(&world, "kept").await;
    let drop_it = || {
        let mut psql = world.psql();
        psql.args(["-c", "DROP TABLE kept"]);
        psql.spawn().unwrap()
    };
    let psql = drop_it();
    world.told(|event| matches!(event, NodeEvent::StatementHeld { .. })).await;
    let pid = i32::try_from(psql.id().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::INT)
        .unwrap();
    let output = ended(psql, Duration::from_secs(2)).await;
    assert!(text(&output.stderr).contains("withdrawn"), "{}", text(&output.stderr));
    world.told(|event| matches!(event, NodeEvent::StatementSettled { allowed: false, .. })).await;
    let holds =
        || world.control.events().iter().filter(|e| matches!(e, NodeEvent::StatementHeld { .. })).count();
    let before = holds();
    let psql = drop_it();
    while holds() == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    world.kill(world.last_session().0, "enough").await;
    let output = ended(psql, Duration::from_secs(2)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let said = text(&output.stderr);
    assert!(said.contains("ended by somebody else: enough"), "{said}");
    assert_eq!(world.direct("SELECT to_regclass('kept') IS NULL").await, "f");
}

/// Simple queries in the middle of a batch that no Sync has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_refused_in_the_middle_of_a_batch_fails_as_at_the_server() {
    let world = World::may(careful).await;
    let denied = "GRANT SELECT ON orders TO PUBLIC";
    // After what went well: it fails, and the conversation goes on; the server answers both without a Sync.
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    let mut out = BytesMut::new();
    parse(&mut out, "", "SELECT 1");
    bind_nothing(&mut out);
    execute(&mut out);
    Writer(&mut out).query(denied);
    raw.send(&out).await;
    let (code, say) = raw.error().await;
    assert_eq!(code, "42501", "{say}");
    assert_eq!(raw.until(b'Z').await.0, "Z");
    raw.query("SELECT 2").await;
    assert_eq!(raw.until(b'Z').await.0, "TDCZ");
    // After what failed: the server skips it, and what is behind it, up to the Sync.
    for early in [false, true] {
        let mut out = BytesMut::new();
        parse(&mut out, "", "SELECT nonsense FROM nowhere");
        bind_nothing(&mut out);
        execute(&mut out);
        if early {
            // The error has come back before the query goes out.
            raw.send(&out).await;
            assert_eq!(raw.error().await.0, "42P01");
            out.clear();
        }
        Writer(&mut out).query(denied);
        Writer(&mut out).query("SELECT 3");
        sync(&mut out);
        raw.send(&out).await;
        if !early {
            assert_eq!(raw.error().await.0, "42P01");
        }
        assert_eq!(raw.until(b'Z').await.0, "Z", "early: {early}");
        raw.query("SELECT 4").await;
        assert_eq!(raw.until(b'Z').await.0, "TDCZ", "early: {early}");
    }
    drop(raw);
    let records = world.records().await;
    let ends: Vec<(u64, Outcome)> = records
        .iter()
        .filter_map(|record| match record {
            RecordKind::StatementEnd { number, outcome, .. } => Some((*number, outcome.clone())),
            _ => None,
        })
        .collect();
    let of = |text: &str| -> Vec<Outcome> {
        let numbers: Vec<u64> = records
            .iter()
            .filter_map(|record| match record {
                RecordKind::StatementBegin { number, text: begun, .. } if begun == text => Some(*number),
                _ => None,
            })
            .collect();
        ends.iter()
            .filter(|(number, _)| numbers.contains(number))
            .map(|(_, outcome)| outcome.clone())
            .collect()
    };
    assert!(
        of(denied).len() == 3 && of(denied).iter().all(|end| matches!(end, Outcome::Refused { .. })),
        "{ends:?}"
    );
    assert_eq!(of("SELECT 1"), [Outcome::Done]);
    assert_eq!(of("SELECT 2"), [Outcome::Done]);
    assert!(
        of("SELECT 3").len() == 2 && of("SELECT 3").iter().all(|end| matches!(end, Outcome::Failed { .. })),
        "{ends:?}"
    );
    assert_eq!(of("SELECT 4"), [Outcome::Done, Outcome::Done]);
}

/// In one batch with what fails, the server skips it whatever a second person says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_about_what_the_server_skips() {
    let world = World::may(careful).await;
    table(&world, "kept").await;
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    for whole in [false, true] {
        let mut out = BytesMut::new();
        parse(&mut out, "", "SELECT nonsense FROM nowhere");
        bind_nothing(&mut out);
        execute(&mut out);
        if whole {
            Writer(&mut out).query("DROP TABLE kept");
        } else {
            parse(&mut out, "", "DROP TABLE kept");
            bind_nothing(&mut out);
            execute(&mut out);
        }
        sync(&mut out);
        raw.send(&out).await;
        assert_eq!(raw.error().await.0, "42P01");
        assert_eq!(raw.until(b'Z').await.0, "Z", "whole: {whole}");
        raw.query("SELECT 4").await;
        assert_eq!(raw.until(b'Z').await.0, "TDCZ", "whole: {whole}");
    }
    // So it does with the rest of one that fails when it is parsed.
    let mut out = BytesMut::new();
    parse(&mut out, "", "CREATE TABLE made AS SELECT * FROM nowhere");
    bind_nothing(&mut out);
    execute(&mut out);
    sync(&mut out);
    raw.send(&out).await;
    assert_eq!(raw.error().await.0, "42P01");
    assert_eq!(raw.until(b'Z').await.0, "Z");
    assert!(!world.control.events().iter().any(|event| matches!(event, NodeEvent::StatementHeld { .. })));
    assert_eq!(world.direct("SELECT to_regclass('kept') IS NULL").await, "f");
    // And the next one is, as ever.
    raw.query("DROP TABLE kept").await;
    answer(&world, "DROP TABLE kept", true).await;
    assert_eq!(raw.until(b'Z').await.0.replace('N', ""), "CZ");
    drop(raw);
    let refused = |record: &RecordKind| matches!(record, RecordKind::StatementEnd { outcome: Outcome::Refused { reason }, .. } if reason.contains("nobody was asked"));
    // The Bind of the first round is for a name that was never parsed.
    assert_eq!(world.records().await.iter().filter(|record| refused(record)).count(), 1, "the whole one");
}

/// Its bytes stand as `\xe9` in what people see, as other texts would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_about_what_can_be_read_in_two_ways() {
    let world = World::may(careful).await;
    world.direct("CREATE TABLE caf\u{e9} (n BIGINT); ALTER TABLE caf\u{e9} OWNER TO orders_write").await;
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    raw.query("SET client_encoding = 'LATIN1'").await;
    raw.until(b'Z').await;
    let mut out = BytesMut::new();
    put(&mut out, b'Q', b"DROP TABLE \"caf\xe9\"\0");
    raw.send(&out).await;
    let (code, say) = raw.error().await;
    assert!(code == "42501" && say.contains("not in UTF-8"), "{code} {say}");
    raw.until(b'Z').await;
    out.clear();
    put(&mut out, b'Q', b"SELECT n FROM \"caf\xe9\"\0");
    raw.send(&out).await;
    assert_eq!(raw.until(b'Z').await.0, "TCZ", "what passes anyhow does");
    assert!(!world.control.events().iter().any(|event| matches!(event, NodeEvent::StatementHeld { .. })));
}

fn bind_nothing(out: &mut BytesMut) {
    put(out, b'B', b"\0\0\0\0\0\0\0\0");
}

/// Whoever lets a statement pass has seen all its values, whether they are recorded or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_person_is_shown_every_value_whole_or_is_not_asked() {
    let world = World::may(|may| {
        may.statements.write = StatementRule::Hold;
        may.hold_limit = Span::seconds(20);
        may.parameters = false;
    })
    .await;
    table(&world, "notes").await;
    let mut raw = Raw::ready(&world, Version::V3_0).await;
    let mut out = BytesMut::new();
    let sql = "INSERT INTO notes VALUES ($1)";
    parse(&mut out, "", sql);
    bind(&mut out, "", "41");
    execute(&mut out);
    sync(&mut out);
    raw.send(&out).await;
    answer(&world, sql, true).await;
    assert_eq!(raw.until(b'Z').await.0.replace('N', ""), "12CZ");
    let held = world.told(|event| matches!(event, NodeEvent::StatementHeld { .. })).await;
    let NodeEvent::StatementHeld { parameters, .. } = held else { unreachable!() };
    assert!(parameters.is_some_and(|shown| shown.contains("41")));
    out.clear();
    parse(&mut out, "", sql);
    bind(&mut out, "", &"1".repeat(20_000));
    execute(&mut out);
    sync(&mut out);
    raw.send(&out).await;
    let (code, say) = raw.error().await;
    assert!(code == "42501" && say.contains("nobody can judge it"), "{code} {say}");
    assert_eq!(raw.until(b'Z').await.0, "Z");
    drop(raw);
    let recorded = world.records().await;
    assert!(!format!("{recorded:?}").contains("[41]"), "values are not recorded here");
}
