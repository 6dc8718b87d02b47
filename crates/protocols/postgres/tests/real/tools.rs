//! What people have at hand beside drivers, with its oddities.

use std::time::Duration;

use halligan_recording::{Direction, RecordKind};
use halligan_testkit::postgres_target::PostgresTarget;

use crate::support::*;

async fn run(mut command: tokio::process::Command, arguments: &[&str]) -> (bool, String) {
    command.args(arguments);
    let output = finished(command).await;
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_copies_files_watches_listens_and_keeps_large_objects() {
    let world = World::may(|may| may.function_calls = true).await;
    let file = |name: &str| world.folder.path().join(name);
    std::fs::write(file("in.csv"), "1,one\n2,two\n").unwrap();
    std::fs::write(file("picture"), vec![7; 100_000]).unwrap();
    let script = format!(
        "CREATE TABLE things (n INT, t TEXT);
         \\copy things FROM '{input}' CSV
         \\copy (SELECT * FROM things ORDER BY n) TO '{output}' CSV
         \\lo_import '{picture}'
         \\lo_export :LASTOID '{again}'
         \\lo_unlink :LASTOID
         LISTEN bell;
         NOTIFY bell, 'rings';
         SELECT 'seen' \\watch c=3 i=0.1
         SELECT n FROM things \\gset row_
         SELECT format('SELECT %s', n) FROM things ORDER BY n \\gexec
         \\d things
         \\dt+
         \\du\n",
        input = file("in.csv").display(),
        output = file("out.csv").display(),
        picture = file("picture").display(),
        again = file("again").display(),
    );
    std::fs::write(file("script.sql"), script).unwrap();
    let mut psql = world.program_18("psql");
    psql.args(["-X", "-f"]).arg(file("script.sql"));
    let output = finished(psql).await;
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert_eq!(said.matches("seen").count(), 3, "{said}");
    assert!(said.contains("Asynchronous notification \"bell\" with payload \"rings\""), "{said}");
    assert!(
        said.contains("more than one row") || text(&output.stderr).contains("more than one row"),
        "{said}"
    );
    assert_eq!(std::fs::read(file("out.csv")).unwrap(), b"1,one\n2,two\n");
    assert_eq!(std::fs::read(file("again")).unwrap(), vec![7; 100_000]);
    let records = world.records().await;
    let moved = |way: Direction| {
        records.iter().any(
            |record| matches!(record, RecordKind::TransferEnd { direction, bytes: 12, .. } if *direction == way),
        )
    };
    assert!(moved(Direction::Upload) && moved(Direction::Download), "{records:#?}");
    // Without the right to call functions a large object is refused with a sentence, and the session goes on.
    let world = World::new().await;
    let picture = format!("\\lo_import '{}'", file("picture").display());
    let (_, said) =
        run(world.psql(), &["-v", "ON_ERROR_STOP=0", "-c", &picture, "-c", "SELECT 'and on'"]).await;
    assert!(
        said.contains("function calls that name no statement are not allowed") && said.contains("and on"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_dump_with_four_workers_needs_only_the_right_to_read() {
    let world = World::with(Change {
        lease: Box::new(|lease| {
            lease.target.account = PostgresTarget::READERS.to_owned();
            lease.postgres.read_only = true;
        }),
        ..Change::default()
    })
    .await;
    let folder = world.folder.path().join("dump");
    let mut dump = world.program_for_server("pg_dump");
    dump.args(["-Fd", "-j", "4", "-f"]).arg(&folder);
    let (done, said) = run(dump, &[]).await;
    assert!(done, "{said}");
    let mut restore = world.program_for_server("pg_restore");
    restore.args(["-f", "-"]).arg(&folder);
    let (_, text) = run(restore, &[]).await;
    assert!(text.contains("CREATE TABLE public.orders") && text.contains("\n1000\tcustomer 1000\t100000\n"));
    let refused = world.sql("INSERT INTO orders VALUES (0, '', 0)").await.unwrap_err();
    assert!(refused.contains("read-only transaction"), "{refused}");
    let talked = world.sql("BEGIN READ WRITE; INSERT INTO orders VALUES (0, '', 0)").await;
    let refused = talked.unwrap_err();
    assert!(refused.contains("permission denied for table orders"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_refused_with_a_sentence() {
    let world = World::new().await;
    let to = world.folder.path().join("backup").display().to_string();
    std::fs::create_dir(&to).unwrap();
    let (done, said) = run(world.program("pg_basebackup"), &["-D", &to]).await;
    assert!(!done && said.contains("this entitlement allows no replication connections"), "{said}");
    let (done, said) = run(world.program("pg_receivewal"), &["-D", &to, "-n"]).await;
    assert!(!done && said.contains("this entitlement allows no replication connections"), "{said}");
    let receive = ["-d", "orders", "--slot", "s", "--create-slot"];
    let (done, said) = run(world.program("pg_recvlogical"), &receive).await;
    assert!(!done && said.contains("this entitlement allows no replication connections"), "{said}");
    let create = world.program("createdb");
    let (done, said) = run(create, &["other"]).await;
    assert!(!done && said.contains("does not lead to the database \""), "{said}");
    // Nothing of it has come to the server.
    assert_eq!(world.direct("SELECT count(*) FROM pg_replication_slots").await, "0");
    // And what needs no login at all.
    let (done, said) = run(world.program("pg_isready"), &[]).await;
    assert!(done && said.contains("accepting connections"), "{said}");
    let (done, said) = run(world.program("vacuumdb"), &["-z", "-t", "orders", "orders"]).await;
    let owner =
        said.contains("only table or database owner can") || said.contains("permission denied to vacuum");
    assert!(done && owner, "{said}");
    let (done, said) = run(world.program("psql"), &["-X", "-l"]).await;
    assert!(done || said.contains("does not lead to the database"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logical_changes_are_let_through_where_the_entitlement_says_so() {
    let world = World::with(Change {
        lease: Box::new(|lease| lease.postgres.replication = true),
        attributes: "REPLICATION",
        ..Change::default()
    })
    .await;
    let create = ["-d", "orders", "--slot", "changes", "--create-slot", "-P", "test_decoding"];
    let (done, said) = run(world.program_for_server("pg_recvlogical"), &create).await;
    assert!(done, "{said}");
    let mut receive = world.program_for_server("pg_recvlogical");
    let out = world.folder.path().join("changes");
    receive.args(["-d", "orders", "--slot", "changes", "--start", "-F", "0", "-f"]).arg(&out);
    let mut receive = receive.spawn().unwrap();
    world.direct("INSERT INTO orders VALUES (5000, 'told of', 1)").await;
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&out).is_ok_and(|text| text.contains("told of")) {
        assert!(std::time::Instant::now() < until, "no change came");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let session = world.last_session().0;
    world.kill(session, "enough").await;
    let _ended = tokio::time::timeout(Duration::from_secs(1), receive.wait()).await;
    let still = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    world.direct_until(still, "0", Duration::from_secs(2)).await;
    receive.kill().await.unwrap();
}
