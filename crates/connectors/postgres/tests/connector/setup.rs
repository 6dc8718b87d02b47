//! What somebody could do with a stolen account of the connector: nothing but what the functions take.

use halligan_connector_postgres::Setup;
use halligan_testkit::postgres_target::PostgresTarget;

use crate::client::Connected;
use crate::world::{World, setup};

const VERIFIER: &str = "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn begin(login: &str, group: &str, verifier: &str, until: &str, connections: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    format!(
        "SELECT halligan.session_begin({}, {}, {}, now() + interval '{until}', {connections}, 'it''s a note')",
        quoted(login),
        quoted(group),
        quoted(verifier)
    )
}

async fn refused(account: &mut Connected, sql: &str) -> String {
    match account.query(sql).await {
        Ok(rows) => panic!("{sql} was done: {rows:?}"),
        Err(why) => why.code,
    }
}

#[tokio::test]
async fn the_functions_take_our_names_and_the_listed_groups_and_nothing_else() {
    let world = World::new().await;
    let mut account = world.as_connector().await;
    let ours = World::role();
    let writers = PostgresTarget::WRITERS;
    for login in [
        "postgres",
        "halligan_owner",
        "halligan_connector",
        "halligan_sessions",
        "halligan_probe",
        "halligan_grt_1_gw",
        "",
        "halligan_grt_0000000000000000000000014m_gw-1\"; DROP ROLE postgres; --",
        "halligan_grt_0000000000000000000000014m_gw'||'1",
        "halligan_grt_0000000000000000000000014m_gw\n1",
        "halligan_grt_0000000000000000000000014m_aaaaaaaaaaaaaaaaaaaaaaaa",
        "HALLIGAN_GRT_0000000000000000000000014M_GW",
    ] {
        assert_eq!(
            refused(&mut account, &begin(login, writers, VERIFIER, "1 hour", "1")).await,
            "42501",
            "{login}"
        );
        let quoted = login.replace('\'', "''");
        for call in [
            "session_shut('{}')",
            "session_terminate('{}', NULL, NULL)",
            "session_disown('{}')",
            "session_drop('{}')",
            "session_databases('{}')",
            "session_until('{}', now() + interval '1 hour')",
            "look('{}', 'orders_write')",
        ] {
            let sql = format!("SELECT halligan.{}", call.replace("{}", &quoted));
            assert_eq!(refused(&mut account, &sql).await, "42501", "{sql}");
        }
    }
    for group in [
        "postgres",
        "pg_execute_server_program",
        "pg_write_all_data",
        "halligan_owner",
        "nobody",
        "",
        "orders_write; --",
    ] {
        assert_eq!(
            refused(&mut account, &begin(&ours, group, VERIFIER, "1 hour", "1")).await,
            "42501",
            "{group}"
        );
    }
    for verifier in [
        "secret",
        "md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "",
        &format!("{VERIFIER}x"),
        &VERIFIER.replace("4096", "1"),
    ] {
        assert_eq!(
            refused(&mut account, &begin(&ours, writers, verifier, "1 hour", "1")).await,
            "22023",
            "{verifier}"
        );
    }
    for (until, connections) in
        [("-1 second", "1"), ("32 days", "1"), ("1 hour", "0"), ("1 hour", "-1"), ("1 hour", "NULL")]
    {
        assert_eq!(
            refused(&mut account, &begin(&ours, writers, VERIFIER, until, connections)).await,
            "22023"
        );
    }
    assert_eq!(world.roles(), "");
    // A role of our name that we did not make is left alone.
    world.sql(&format!("CREATE ROLE \"{ours}\" LOGIN SUPERUSER"));
    assert_eq!(refused(&mut account, &begin(&ours, writers, VERIFIER, "1 hour", "1")).await, "42501");
    assert_eq!(refused(&mut account, &format!("SELECT halligan.session_shut('{ours}')")).await, "42501");
    world.sql(&format!("DROP ROLE \"{ours}\""));
    // A role that lives keeps its group, and is not dropped before it is shut.
    account.query(&begin(&ours, writers, VERIFIER, "1 hour", "1")).await.unwrap();
    assert_eq!(
        refused(&mut account, &begin(&ours, PostgresTarget::READERS, VERIFIER, "1 hour", "1")).await,
        "42501"
    );
    assert_eq!(refused(&mut account, &format!("SELECT halligan.session_drop('{ours}')")).await, "55000");
    assert_eq!(refused(&mut account, &format!("SELECT halligan.session_disown('{ours}')")).await, "55000");
    // A group that grew too powerful since.
    let other = ours.replace("gw-1", "gw-2");
    for change in ["ALTER ROLE orders_write SUPERUSER", "ALTER ROLE orders_write NOSUPERUSER LOGIN"] {
        world.sql(change);
        assert_eq!(
            refused(&mut account, &begin(&other, writers, VERIFIER, "1 hour", "1")).await,
            "42501",
            "{change}"
        );
    }
    assert_eq!(world.roles(), ours);
}

#[tokio::test]
async fn the_account_owns_nothing_and_can_do_nothing_itself() {
    let world = World::new().await;
    let mut account = world.as_connector().await;
    account.query(&begin(&World::role(), PostgresTarget::WRITERS, VERIFIER, "1 hour", "1")).await.unwrap();
    for sql in [
        "CREATE ROLE mine LOGIN",
        "ALTER ROLE postgres PASSWORD 'x'",
        "GRANT pg_execute_server_program TO halligan_connector",
        "SET ROLE halligan_owner",
        "SET ROLE orders_write",
        &format!("SET ROLE \"{}\"", World::role()),
        &format!("ALTER ROLE \"{}\" PASSWORD 'x'", World::role()),
        "SELECT * FROM public.orders",
        "INSERT INTO public.orders VALUES (0, '', 0)",
        "CREATE TABLE public.mine ()",
        "CREATE TABLE halligan.mine ()",
        "CREATE OR REPLACE FUNCTION halligan.groups() RETURNS text[] LANGUAGE sql AS $$ SELECT ARRAY['postgres'] $$",
        "SELECT halligan.exists('x')",
        "SELECT * FROM pg_authid",
        "SELECT * FROM pg_hba_file_rules",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "ALTER ROLE halligan_connector SET log_statement = 'all'",
    ] {
        assert_eq!(refused(&mut account, sql).await, "42501", "{sql}");
    }
    assert_eq!(world.sql("SELECT count(*) FROM pg_shdepend WHERE refobjid = 'halligan_connector'::regrole AND deptype = 'o'"), "0");
    // Objects that hide behind names of functions are not looked at.
    account
        .query("CREATE TEMPORARY TABLE pg_roles (rolname text, rolsuper bool, rolcanlogin bool)")
        .await
        .unwrap();
    account.query("SET search_path = pg_temp, pg_catalog").await.unwrap();
    assert_eq!(
        refused(&mut account, &begin("postgres", PostgresTarget::WRITERS, VERIFIER, "1 hour", "1")).await,
        "42501"
    );
    // Nobody else may call them, people's sessions least of all.
    for member in ["orders_write", "orders_read"] {
        let sql = format!("SET ROLE {member}; SELECT halligan.sweep()");
        assert!(world.target.sql("orders", &sql).is_err(), "{member}");
    }
}

#[tokio::test]
async fn the_script_runs_again_and_refuses_what_it_must_not_take() {
    let world = World::new().await;
    let groups = [PostgresTarget::READERS, PostgresTarget::WRITERS];
    let again = setup(&world.target, &groups).script().unwrap();
    world.target.run_script("orders", &again).unwrap();
    world.sql("CREATE ROLE too_much NOLOGIN SUPERUSER; CREATE ROLE person LOGIN");
    for bad in ["too_much", "person", "nobody"] {
        let script =
            Setup { groups: vec![bad.to_owned()], ..setup(&world.target, &groups) }.script().unwrap();
        world.target.run_script("orders", &script).unwrap_err();
    }
    assert_eq!(
        world.sql("SELECT halligan.groups()"),
        "{orders_read,orders_write}",
        "it is done whole or not at all"
    );
    let (certificate, key) = world.target.client_certificate("halligan_connector").unwrap();
    assert!(certificate.contains("BEGIN CERTIFICATE") && key.contains("PRIVATE KEY"));
}
