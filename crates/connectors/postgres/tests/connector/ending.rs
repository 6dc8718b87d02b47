//! Ends that are interrupted, what they leave behind, and what is found again afterwards.

use std::time::{Duration, Instant};

use halligan_connector::Connector as _;
use halligan_connector_postgres::session_role;
use halligan_core::catalog::CheckKind;
use halligan_core::ids::GrantId;
use halligan_core::proof::{Evidence, Finding};
use halligan_session::{Lease, NodeEvent};
use halligan_testkit::postgres_target::PostgresTarget;

use crate::world::{GRANT, World, all_proven, gateway, of, setup, sign};

#[tokio::test]
async fn an_end_that_was_interrupted_after_any_step_is_taken_up_again() {
    let world = World::new().await;
    let role = |grant: GrantId| halligan_connector_postgres::session_role(grant, &crate::world::gateway());
    // What the connector's account did before it died.
    let steps = [
        "SELECT halligan.session_shut('{role}')",
        "SELECT halligan.session_terminate('{role}', NULL, NULL)",
        "SELECT pg_sleep(0.2)",
        "SELECT halligan.session_disown('{role}')",
        "SELECT halligan.session_drop('{role}')",
    ];
    for done in 0..=steps.len() {
        let grant = GrantId::from_bits(500 + done as u128);
        let lease = Lease { grant, ..world.lease(1) };
        world.connector.activate(&sign(&lease)).await.unwrap();
        let user = world.issue_for(grant).await;
        let mut session = world.login(&user, "orders").await.unwrap();
        session.query(&format!("SET ROLE NONE; CREATE TABLE public.t{done} ()")).await.unwrap();
        let mut dead = world.as_connector().await;
        for step in steps.iter().take(done) {
            dead.query(&step.replace("{role}", &role(grant))).await.unwrap();
        }
        // Told twice, and at the same time.
        let (one, two) =
            tokio::join!(world.connector.deactivate(grant, 2), world.connector.deactivate(grant, 2));
        assert_eq!(one.unwrap(), two.unwrap());
        assert_eq!(world.roles(), "", "after {done} steps");
        session.query("SELECT 1").await.unwrap_err();
        let checks = world.connector.look(grant, 2).await.unwrap();
        all_proven(&checks);
        let owner = format!("SELECT tableowner FROM pg_tables WHERE tablename = 't{done}'");
        assert_eq!(world.sql(&owner), PostgresTarget::WRITERS);
    }
}

#[tokio::test]
async fn what_is_left_behind_is_named() {
    let world = World::new().await;
    world.sql("ALTER ROLE orders_write REPLICATION");
    world.sql("SELECT pg_create_physical_replication_slot('old')");
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let mut session = world.login(&user, "orders").await.unwrap();
    session.query("SELECT pg_create_physical_replication_slot('kept')").await.unwrap();
    session.query("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC").await.unwrap();
    session.query("BEGIN; CREATE TABLE public.p (); PREPARE TRANSACTION 'later'").await.unwrap();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let checks = world.look(2).await;
    assert_eq!(of(&checks, CheckKind::Credential).finding, Finding::Proven);
    let left = of(&checks, CheckKind::Leftovers);
    assert_eq!(left.finding, Finding::Failed, "{left:?}");
    for what in [
        "replication slot kept",
        "prepared transaction later in orders of orders_write",
        "default privilege of the group orders/",
    ] {
        assert!(left.detail.contains(what), "{what}: {left:?}");
    }
    assert!(!left.detail.contains("slot old"), "{left:?}");
    // An administrator puts it right.
    world.sql("ROLLBACK PREPARED 'later'");
    world.sql("SELECT pg_drop_replication_slot('kept')");
    world.sql("ALTER DEFAULT PRIVILEGES FOR ROLE orders_write REVOKE ALL ON TABLES FROM PUBLIC");
    all_proven(&Evidence { at: world.lease(1).issued_at, checks: world.look(2).await });
}

#[tokio::test]
async fn a_prepared_transaction_whose_role_is_gone_is_named_and_an_applications_own_is_not() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let mut session = world.login(&user, "orders").await.unwrap();
    session.query("SET ROLE NONE").await.unwrap();
    session.query("BEGIN; PREPARE TRANSACTION 'empty'").await.unwrap();
    world.sql("BEGIN; SELECT 1; PREPARE TRANSACTION 'of an application'");
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let checks = world.look(2).await;
    assert_eq!(of(&checks, CheckKind::Credential).finding, Finding::Proven, "{checks:?}");
    let left = of(&checks, CheckKind::Leftovers);
    assert_eq!(left.finding, Finding::Failed, "{left:?}");
    assert!(left.detail.contains("prepared transaction empty in orders of a role that is gone"), "{left:?}");
    assert!(!left.detail.contains("of an application"), "{left:?}");
    // Others still get in there.
    let next = GrantId::from_bits(0x77);
    let lease = Lease { grant: next, ..world.lease(1) };
    world.connector.activate(&sign(&lease)).await.unwrap();
    world.issue_for(next).await;
    world.connector.deactivate(next, 2).await.unwrap();
    world.sql("ROLLBACK PREPARED 'empty'");
    all_proven(&Evidence { at: world.lease(1).issued_at, checks: world.look(2).await });
    world.sql("ROLLBACK PREPARED 'of an application'");
}

#[tokio::test]
async fn a_right_that_a_session_took_from_its_group_keeps_nothing_from_the_end() {
    let world = World::new().await;
    world.sql("GRANT CREATE ON DATABASE orders TO orders_write");
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let mut session = world.login(&user, "orders").await.unwrap();
    for statement in [
        // As the group…
        "CREATE SCHEMA theirs; REVOKE CREATE ON SCHEMA theirs FROM orders_write",
        // …and as the session's own role.
        "SET ROLE NONE; CREATE SCHEMA own; CREATE TABLE own.t (); REVOKE ALL ON SCHEMA own FROM CURRENT_USER",
        "SET ROLE orders_write; GRANT CREATE ON SCHEMA theirs TO orders_write; SET ROLE NONE; CREATE TABLE theirs.t ();
         CREATE FUNCTION theirs.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE theirs.e AS ENUM ('a');
         SET ROLE orders_write; REVOKE CREATE ON SCHEMA theirs FROM orders_write",
    ] {
        session.query(statement).await.unwrap();
    }
    world.connector.deactivate(GRANT, 2).await.unwrap();
    assert_eq!(world.roles(), "");
    all_proven(&world.connector.look(GRANT, 2).await.unwrap());
    let owners =
        "SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE schemaname IN ('own', 'theirs')";
    assert_eq!(world.sql(owners), PostgresTarget::WRITERS);
    let lent = "SELECT has_schema_privilege('orders_write', 'theirs', 'CREATE')";
    assert_eq!(world.sql(lent), "f", "what was lent is taken back");
}

#[tokio::test]
async fn what_cannot_be_given_away_keeps_the_role_and_fails_the_proof() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    // The database `postgres` was not set up for sessions; an administrator let the role own something there.
    world
        .target
        .sql(
            "postgres",
            &format!("CREATE TABLE public.odd (); ALTER TABLE public.odd OWNER TO \"{}\"", user.user),
        )
        .unwrap();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let checks = world.look(2).await;
    let credential = of(&checks, CheckKind::Credential);
    assert_eq!(credential.finding, Finding::Failed, "{credential:?}");
    assert!(credential.detail.contains("nobody can log in as it"), "{credential:?}");
    let left = of(&checks, CheckKind::Leftovers);
    assert!(left.detail.contains("in postgres"), "{left:?}");
    world.login(&user, "orders").await.unwrap_err();
    world.target.sql("postgres", "DROP TABLE public.odd").unwrap();
    all_proven(&Evidence { at: world.lease(1).issued_at, checks: world.look(2).await });
}

#[tokio::test]
async fn what_a_restored_backup_brings_back_is_ended_again() {
    let mut world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let living = GrantId::from_bits(0x77);
    let lease = Lease { grant: living, ..world.lease(1) };
    world.connector.activate(&sign(&lease)).await.unwrap();
    let alive = world.issue_for(living).await;
    let backup = world.target.dump_roles().unwrap();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    assert_eq!(world.roles(), alive.user);
    // The backup is from before the end, so it has the role; and one that this connector has never heard of, whose time is
    // over; and one of another connector's, whose time is not; and one that only looks like ours.
    let role = |grant| session_role(GrantId::from_bits(grant), &gateway());
    let (unheard, others, foreign) = (role(0x99), role(0x98), role(0x97));
    for line in backup.lines().filter(|line| line.contains(&user.user)) {
        for name in [&user.user, &unheard, &others] {
            world.sql(&line.replace(&user.user, name));
        }
    }
    assert_eq!(world.roles().split(' ').count(), 4, "{backup}");
    world.sql(&format!("ALTER ROLE \"{unheard}\" VALID UNTIL '2001-01-01'"));
    world.sql(&format!("CREATE ROLE \"{foreign}\" LOGIN VALID UNTIL '2001-01-01'"));
    world.keep_watch();
    let begun = Instant::now();
    let mut expected = [alive.user.as_str(), &others, &foreign];
    expected.sort_unstable();
    while world.roles() != expected.join(" ") {
        assert!(begun.elapsed() < Duration::from_secs(6), "{} instead of {expected:?}", world.roles());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.login(&alive, "orders").await.unwrap();
    // And each is written down, with why.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut ended: Vec<(String, String)> = world
        .events()
        .into_iter()
        .filter_map(|event| match event {
            NodeEvent::DatabaseUserEnded { user, reason, .. } => Some((user, reason)),
            _ => None,
        })
        .collect();
    ended.sort();
    let mut why = [
        (user.user.clone(), "its grant had ended".to_owned()),
        (unheard, "its time was over, and its grant is not known here".to_owned()),
    ];
    why.sort();
    assert_eq!(ended, why);
}

#[tokio::test]
async fn what_was_made_before_an_upgrade_is_ended_after_it() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await.user;
    // As an upgrade from 15 leaves it: there, who may make roles may end any, and needs no ADMIN on them.
    world.sql(&format!("REVOKE \"{user}\" FROM halligan_owner CASCADE"));
    world.sql(&format!("GRANT \"{user}\" TO halligan_owner"));
    let again = setup(&world.target, &[PostgresTarget::READERS, PostgresTarget::WRITERS]).script().unwrap();
    world.target.run_script("orders", &again).unwrap();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    assert_eq!(world.roles(), "");
    all_proven(&world.connector.look(GRANT, 2).await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_away_is_ended_at_when_it_is_back() {
    let mut world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    world.issue().await;
    world.keep_watch();
    world.target.server().stop().unwrap();
    let begun = Instant::now();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(31));
    let checks = world.look(2).await;
    assert!(checks.iter().all(|check| check.finding == Finding::Unknown), "{checks:?}");
    world.target.server().resume().unwrap();
    let begun = Instant::now();
    while !world.roles().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(6));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    all_proven(&Evidence { at: world.lease(1).issued_at, checks: world.look(2).await });
}

#[tokio::test]
async fn from_revocation_to_no_backend_takes_a_fraction_of_a_second() {
    let world = World::new().await;
    let mut slowest = Duration::ZERO;
    for number in 0..20u128 {
        let grant = GrantId::from_bits(2000 + number);
        let lease = Lease { grant, ..world.lease(1) };
        world.connector.activate(&sign(&lease)).await.unwrap();
        let user = world.issue_for(grant).await;
        let mut session = world.login(&user, "orders").await.unwrap();
        let running =
            tokio::spawn(async move { session.query("SELECT pg_sleep(60)").await.unwrap_err().code });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let begun = Instant::now();
        let (ended, code) = tokio::join!(world.connector.deactivate(grant, 2), async {
            let code = running.await.unwrap();
            slowest = slowest.max(begun.elapsed());
            code
        });
        ended.unwrap();
        assert_eq!(code, "57P01");
    }
    eprintln!("revocation to backend gone: slowest of 20 took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}
