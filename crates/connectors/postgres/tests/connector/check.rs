//! What `catalog check --live` finds, and whether the way past the gateways is shut.

use halligan_connector::Connector as _;
use halligan_core::catalog::{CheckKind, Entitlement, System};
use halligan_core::ids::Name;
use halligan_core::proof::{Finding, SaidBy};
use halligan_link::messages::{FindingLevel, PeerInfo, Request, Response, Role, TargetFinding};
use halligan_testkit::postgres_target::PostgresTarget;

use crate::world::{GRANT, World, name, of, setup};

fn system(world: &World) -> System {
    let target = serde_json::to_value(world.catalog_target()).unwrap();
    serde_json::from_value(serde_json::json!({
        "name": "orders-db", "kind": "postgres", "address": world.target.address().to_string(), "postgres": target,
    }))
    .unwrap()
}

pub fn entitlement(account: &str, read_only: bool, waiver: Option<&str>) -> Entitlement {
    serde_json::from_value(serde_json::json!({
        "account": account, "ladder": "observe", "requested_by": [],
        "postgres": { "databases": ["orders"], "read_only": read_only, "direct_path_waiver": waiver },
    }))
    .unwrap()
}

pub async fn check(world: &World, entitlements: Vec<(Name, Entitlement)>) -> Vec<TargetFinding> {
    let control = PeerInfo { name: name("control"), role: Role::Control, site: name("main") };
    let request = Request::CheckTarget { system: Box::new(system(world)), entitlements };
    match world.connector.answer(&control, request).await {
        Some(Ok(Response::TargetChecked { findings })) => findings,
        other => panic!("{other:?}"),
    }
}

pub fn errors(findings: &[TargetFinding]) -> Vec<&str> {
    let errors = findings.iter().filter(|one| one.level == FindingLevel::Error);
    errors.map(|one| one.say.as_str()).collect()
}

#[tokio::test]
async fn read_only_is_what_the_role_cannot_do_and_not_what_it_is_called() {
    let world = World::new().await;
    let read = || vec![(name("read"), entitlement(PostgresTarget::READERS, true, None))];
    let findings = check(&world, read()).await;
    assert_eq!(errors(&findings), Vec::<&str>::new(), "a good one is good");
    assert!(
        findings.iter().any(|one| one.level == FindingLevel::Warning && one.say.contains("large objects"))
    );
    world.sql("CREATE SCHEMA other; CREATE SEQUENCE public.numbers; CREATE ROLE writer NOLOGIN NOINHERIT; GRANT INSERT ON orders TO writer");
    world.sql("CREATE FUNCTION public.powerful() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; REVOKE ALL ON FUNCTION public.powerful() FROM PUBLIC");
    world.sql(
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far; SELECT lo_create(1)",
    );
    for (grant, revoke, says) in [
        (
            "GRANT INSERT ON orders TO orders_read",
            "REVOKE INSERT ON orders FROM orders_read",
            "may INSERT public.orders",
        ),
        (
            "GRANT UPDATE (cents) ON orders TO orders_read",
            "REVOKE UPDATE (cents) ON orders FROM orders_read",
            "may UPDATE columns of public.orders",
        ),
        ("GRANT TRUNCATE ON orders TO PUBLIC", "REVOKE TRUNCATE ON orders FROM PUBLIC", "may TRUNCATE"),
        (
            "GRANT CREATE ON SCHEMA other TO orders_read",
            "REVOKE CREATE ON SCHEMA other FROM orders_read",
            "may create in the schema other",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            "may create in the schema public",
        ),
        (
            "GRANT CREATE ON DATABASE orders TO orders_read",
            "REVOKE CREATE ON DATABASE orders FROM orders_read",
            "may create schemas",
        ),
        (
            "GRANT USAGE ON SEQUENCE numbers TO orders_read",
            "REVOKE USAGE ON SEQUENCE numbers FROM orders_read",
            "may move the sequence",
        ),
        ("GRANT writer TO orders_read", "REVOKE writer FROM orders_read", "writer may INSERT"),
        (
            "GRANT pg_write_all_data TO orders_read",
            "REVOKE pg_write_all_data FROM orders_read",
            "member of pg_write_all_data",
        ),
        (
            "GRANT pg_execute_server_program TO orders_read",
            "REVOKE pg_execute_server_program FROM orders_read",
            "member of pg_execute_server_program",
        ),
        (
            "GRANT pg_read_server_files TO orders_read",
            "REVOKE pg_read_server_files FROM orders_read",
            "member of pg_read_server_files",
        ),
        (
            "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO orders_read",
            "REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM orders_read",
            "pg_read_file(text), which reaches files",
        ),
        (
            "GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO orders_read",
            "REVOKE EXECUTE ON FUNCTION lo_export(oid, text) FROM orders_read",
            "lo_export",
        ),
        (
            "GRANT EXECUTE ON FUNCTION public.powerful() TO orders_read",
            "REVOKE EXECUTE ON FUNCTION public.powerful() FROM orders_read",
            "acts with the rights of postgres",
        ),
        (
            "ALTER TABLE orders OWNER TO orders_read",
            "ALTER TABLE orders OWNER TO postgres",
            "orders_read owns",
        ),
        (
            "GRANT USAGE ON FOREIGN SERVER far TO orders_read",
            "REVOKE USAGE ON FOREIGN SERVER far FROM orders_read",
            "foreign server far",
        ),
        (
            "GRANT UPDATE ON LARGE OBJECT 1 TO orders_read",
            "REVOKE UPDATE ON LARGE OBJECT 1 FROM orders_read",
            "large objects",
        ),
        ("ALTER ROLE orders_read CREATEROLE", "ALTER ROLE orders_read NOCREATEROLE", "CREATEROLE"),
        ("ALTER ROLE orders_read CREATEDB", "ALTER ROLE orders_read NOCREATEDB", "CREATEDB"),
        ("ALTER ROLE orders_read REPLICATION", "ALTER ROLE orders_read NOREPLICATION", "REPLICATION"),
        ("ALTER ROLE orders_read LOGIN", "ALTER ROLE orders_read NOLOGIN", "orders_read can log in"),
        (
            "ALTER ROLE orders_read SUPERUSER",
            "ALTER ROLE orders_read NOSUPERUSER",
            "orders_read is a superuser",
        ),
    ] {
        world.sql(grant);
        let findings = check(&world, read()).await;
        assert!(errors(&findings).iter().any(|say| say.contains(says)), "{grant}: {findings:?}");
        world.sql(revoke);
        assert_eq!(errors(&check(&world, read()).await), Vec::<&str>::new(), "after {revoke}");
    }
    // What may write is told nothing of it, unless its group is no group.
    let write = || vec![(name("write"), entitlement(PostgresTarget::WRITERS, false, None))];
    assert_eq!(errors(&check(&world, write()).await), Vec::<&str>::new());
    world.sql("ALTER ROLE orders_write SUPERUSER");
    assert!(errors(&check(&world, write()).await)[0].contains("superuser"));
    let unlisted = vec![(name("other"), entitlement("writer", false, None))];
    assert!(errors(&check(&world, unlisted).await)[0].contains("not among the groups"));
}

#[tokio::test]
async fn accounts_that_need_no_grant_are_listed() {
    let world = World::new().await;
    world.sql("CREATE ROLE dba LOGIN SUPERUSER; CREATE ROLE app LOGIN IN ROLE orders_write; CREATE ROLE replica LOGIN REPLICATION");
    let findings =
        check(&world, vec![(name("write"), entitlement(PostgresTarget::WRITERS, false, None))]).await;
    let warned =
        |text: &str| findings.iter().any(|one| one.level == FindingLevel::Warning && one.say.contains(text));
    for text in [
        "dba can log in at any time and is a superuser",
        "app can log in with its rights",
        "replica can log in",
    ] {
        assert!(warned(text), "{text}: {findings:?}");
    }
    let user = {
        world.connector.activate(&world.signed(1)).await.unwrap();
        world.issue().await
    };
    let _session = world.login(&user, "orders").await.unwrap();
    let findings = check(&world, vec![]).await;
    assert!(findings.iter().any(|one| one.say.contains("no session of ours explains")), "{findings:?}");
}

#[tokio::test]
async fn the_way_past_the_gateways_is_looked_at_in_two_ways() {
    // The connector comes from 127.0.0.1, which is no gateway here.
    let world = World::at("127.0.0.9/32", |builder| builder).await;
    let write =
        |waiver: Option<&str>| vec![(name("write"), entitlement(PostgresTarget::WRITERS, false, waiver))];
    assert_eq!(errors(&check(&world, write(None)).await), Vec::<&str>::new());
    world.connector.activate(&world.signed(1)).await.unwrap();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let good = setup(&world.target, &[PostgresTarget::WRITERS]);
    let good =
        halligan_connector_postgres::Setup { gateways: vec!["127.0.0.9".to_owned()], ..good }.hba().unwrap();

    // A line that stands before ours.
    let open = format!("host all all 127.0.0.0/8 scram-sha-256\n{good}");
    world.target.set_hba(&open).unwrap();
    let checks = world.look(2).await;
    let path = of(&checks, CheckKind::DirectPath);
    assert_eq!(path.finding, Finding::Failed, "{path:?}");
    assert!(path.detail.contains("line 2 lets session roles in from 127.0.0.0 by scram-sha-256"), "{path:?}");
    assert!(errors(&check(&world, write(None)).await)[0].contains("open"));
    let waived = check(&world, write(Some("the reporting host moves in May"))).await;
    assert_eq!(errors(&waived), Vec::<&str>::new());
    assert!(waived.iter().any(|one| one.say.contains("waived because: the reporting host moves in May")));

    // The file is right again, and the server has not read it: only a login tells.
    std::fs::write(
        world.target.folder().join("data/pg_hba.conf"),
        format!("local all postgres trust\n{good}"),
    )
    .unwrap();
    let checks = world.look(2).await;
    let path = of(&checks, CheckKind::DirectPath);
    assert_eq!(path.finding, Finding::Failed, "{path:?}");
    assert!(path.detail.contains("not those in force"), "{path:?}");

    world.target.set_hba(&good).unwrap();
    let checks = world.look(2).await;
    let path = of(&checks, CheckKind::DirectPath);
    assert_eq!((path.finding, path.said_by), (Finding::Proven, SaidBy::Target), "{path:?}");
    assert!(path.detail.contains("a login as halligan_probe from 127.0.0.1 was refused"), "{path:?}");
}
