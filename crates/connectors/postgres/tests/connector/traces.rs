//! What is found afterwards: things that a session leaves in databases, and logins that no session explains.

use std::time::{Duration, Instant};

use halligan_connector::Connector as _;
use halligan_core::catalog::CheckKind;
use halligan_core::ids::{GrantId, SessionId};
use halligan_core::proof::{Evidence, Finding};
use halligan_session::{Lease, NodeEvent};
use halligan_testkit::postgres_target::PostgresTarget;

use crate::client::{Connected, Proof};
use crate::world::{GRANT, World, all_proven, gateway, major, of, sign};

#[tokio::test]
async fn what_is_changed_in_a_database_for_later_is_named() {
    let world = World::new().await;
    // There before, and not so afterwards.
    for database in ["orders", "stock"] {
        let before = "ALTER DEFAULT PRIVILEGES FOR ROLE orders_write GRANT SELECT ON TABLES TO orders_read";
        world.target.sql(database, before).unwrap();
    }
    world.sql("GRANT CREATE ON DATABASE orders TO orders_write; CREATE PUBLICATION old");
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let mut session = world.login(&user, "orders").await.unwrap();
    session.query("CREATE TABLE public.t (); CREATE PUBLICATION leak FOR TABLE public.t").await.unwrap();
    session
        .query("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO orders_read")
        .await
        .unwrap();
    let mut elsewhere = world.login(&user, "stock").await.unwrap();
    // The entry is the same one, with more in it.
    elsewhere.query("ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO orders_read").await.unwrap();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let checks = world.look(2).await;
    let left = of(&checks, CheckKind::Leftovers);
    assert_eq!(left.finding, Finding::Failed, "{left:?}");
    for what in [
        "default privileges of orders_write on functions in public",
        "default privileges of orders_write on tables: {orders_read=ar/orders_write",
        "publication leak of orders_write in orders",
    ] {
        assert!(left.detail.contains(what), "{what}: {left:?}");
    }
    assert!(!left.detail.contains("publication old"), "{left:?}");
    assert!(!left.detail.contains("=r/orders_write"), "{left:?}");
    world.sql("DROP PUBLICATION leak; ALTER DEFAULT PRIVILEGES FOR ROLE orders_write IN SCHEMA public REVOKE EXECUTE ON FUNCTIONS FROM orders_read");
    world
        .target
        .sql(
            "stock",
            "ALTER DEFAULT PRIVILEGES FOR ROLE orders_write REVOKE INSERT ON TABLES FROM orders_read",
        )
        .unwrap();
    all_proven(&Evidence { at: world.lease(1).issued_at, checks: world.look(2).await });
}

#[tokio::test]
async fn code_that_others_run_and_rights_given_away_are_named() {
    let world = World::new().await;
    world.sql(
        "GRANT CREATE ON SCHEMA public TO orders_write; CREATE ROLE guest; CREATE ROLE clerks;
         GRANT clerks TO orders_write WITH ADMIN OPTION; GRANT clerks TO guest;
         SET ROLE orders_write; CREATE TABLE public.mine (id int); GRANT SELECT ON public.mine TO guest;
         CREATE FUNCTION public.old() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
         CREATE FUNCTION public.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER first BEFORE INSERT ON public.mine FOR EACH ROW EXECUTE FUNCTION public.fires();
         CREATE VIEW public.seen AS SELECT 1 AS id; GRANT SELECT ON public.seen TO guest",
    );
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let mut session = world.login(&user, "orders").await.unwrap();
    // Work of every day leaves nothing of that kind.
    session.query("CREATE TABLE public.work (id int); CREATE INDEX ON public.work (id); INSERT INTO public.mine VALUES (1); CREATE FUNCTION public.helps() RETURNS int LANGUAGE sql AS 'SELECT 2'").await.unwrap();
    for planted in [
        "CREATE FUNCTION public.door() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION public.old() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 2'",
        "CREATE OR REPLACE FUNCTION public.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1; RETURN NEW; END'",
        "CREATE TRIGGER second AFTER DELETE ON public.mine EXECUTE FUNCTION public.fires()",
        "CREATE RULE quiet AS ON DELETE TO public.mine DO INSTEAD NOTHING",
        "CREATE OR REPLACE VIEW public.seen AS SELECT id FROM public.mine",
        "CREATE POLICY open ON public.mine USING (true)",
        "GRANT UPDATE (id) ON public.mine TO guest",
        "GRANT INSERT ON public.mine TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION public.helps() FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION public.helps() TO guest WITH GRANT OPTION",
        "GRANT clerks TO orders_read",
    ] {
        session.query(planted).await.unwrap_or_else(|error| panic!("{planted}: {error:?}"));
    }
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let checks = world.look(2).await;
    let left = of(&checks, CheckKind::Leftovers);
    assert_eq!(left.finding, Finding::Failed, "{left:?}");
    for what in [
        "the function public.door(), which runs as orders_write",
        "the function public.old(), which runs as orders_write",
        "the trigger first on public.mine",
        "the trigger second on public.mine",
        "the rule quiet on public.mine",
        "the view public.seen, which others may read",
        "the policy open on public.mine",
        "row security of public.mine, which is off",
        "the right UPDATE on column id of table public.mine, which orders_write gave to guest",
        "the right INSERT on table public.mine, which orders_write gave to everybody",
        "the right EXECUTE (and to give it on) on function public.helps(), which orders_write gave to guest",
        "member orders_read in clerks",
    ] {
        assert!(
            left.detail.replace("public.", "").contains(&what.replace("public.", "")),
            "{what}: {left:?}"
        );
    }
    for kept in ["work", "the right SELECT", "guest in clerks"] {
        assert!(!left.detail.contains(kept), "{kept}: {left:?}");
    }
    world.sql(
        "SET ROLE orders_write; REVOKE clerks FROM orders_read; DROP FUNCTION public.door(); DROP FUNCTION public.helps();
         CREATE OR REPLACE FUNCTION public.old() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
         CREATE OR REPLACE FUNCTION public.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         DROP TRIGGER second ON public.mine; DROP RULE quiet ON public.mine; DROP POLICY open ON public.mine;
         CREATE OR REPLACE VIEW public.seen AS SELECT 1 AS id;
         REVOKE UPDATE (id) ON public.mine FROM guest; REVOKE INSERT ON public.mine FROM PUBLIC",
    );
    all_proven(&Evidence { at: world.lease(1).issued_at, checks: world.look(2).await });
}

/// Whether this machine has the extension for this major.
fn has_cron() -> bool {
    std::path::Path::new(&format!("/usr/share/postgresql/{}/extension/pg_cron.control", major())).exists()
}

#[tokio::test]
async fn jobs_that_would_run_later_end_with_their_role_or_are_named() {
    if !has_cron() {
        eprintln!("skipped: there is no pg_cron here (Debian: postgresql-15-cron)");
        return;
    }
    let world = World::with(|builder| {
        builder.setting("shared_preload_libraries", "pg_cron").setting("cron.database_name", "stock")
    })
    .await;
    world
        .target
        .sql("stock", "CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO orders_write")
        .unwrap();
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let mut session = world.login(&user, "stock").await.unwrap();
    session.query("SELECT cron.schedule('as the group', '0 3 * * *', 'SELECT 1')").await.unwrap();
    session.query("SET ROLE NONE; SELECT cron.schedule('as myself', '0 3 * * *', 'SELECT 1')").await.unwrap();
    let jobs = "SELECT string_agg(username, ' ' ORDER BY jobid) FROM cron.job";
    assert_eq!(world.target.sql("stock", jobs).unwrap(), format!("orders_write {}", user.user));
    world.connector.deactivate(GRANT, 2).await.unwrap();
    assert_eq!(world.target.sql("stock", jobs).unwrap(), "orders_write", "its own ended with it");
    let checks = world.look(2).await;
    let left = of(&checks, CheckKind::Leftovers);
    assert_eq!(left.finding, Finding::Failed, "{left:?}");
    assert!(left.detail.contains("job 1 of pg_cron as orders_write"), "{left:?}");
    world.target.sql("stock", "SELECT cron.unschedule(1)").unwrap();
    all_proven(&Evidence { at: world.lease(1).issued_at, checks: world.look(2).await });
}

#[tokio::test]
async fn a_session_is_found_by_its_backend_under_any_name() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let (one, other) = (SessionId::from_bits(1), SessionId::from_bits(2));
    let login = async |session: SessionId| {
        let application = format!("halligan:{session}");
        let startup = [("application_name", application.as_str())];
        let (address, ca) = (world.target.address(), world.target.ca_pem());
        Connected::login(address, ca, "orders", &user.user, Proof::Keys(&user), &startup).await.unwrap()
    };
    let (mut first, mut second) = (login(one).await, login(other).await);
    first.query("SET application_name = 'psql'").await.unwrap();
    let number: u32 = first.query("SELECT pg_backend_pid()").await.unwrap()[0].parse().unwrap();
    world.connector.end_session(GRANT, one, &gateway(), None).await.unwrap();
    first.query("SELECT 1").await.unwrap();
    // A backend that is none of the grant's is left alone, whatever a gateway says.
    world.sql("CREATE ROLE app LOGIN PASSWORD 'app'");
    let (address, ca) = (world.target.address(), world.target.ca_pem());
    let mut app = Connected::login(address, ca, "orders", "app", Proof::Password("app"), &[]).await.unwrap();
    let foreign: u32 = app.query("SELECT pg_backend_pid()").await.unwrap()[0].parse().unwrap();
    for number in [foreign, u32::MAX] {
        world.connector.end_session(GRANT, one, &gateway(), Some(number)).await.unwrap();
    }
    app.query("SELECT 1").await.unwrap();
    world.connector.end_session(GRANT, one, &gateway(), Some(number)).await.unwrap();
    first.query("SELECT 1").await.unwrap_err();
    second.query("SELECT 1").await.unwrap();
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(15), "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn logins_are_read(destination: &str) {
    let (directory, destination) = ("log_directory", destination.to_owned());
    let mut world = World::with(|builder| {
        builder
            .setting("logging_collector", "on")
            .setting(directory, "log")
            .setting("log_destination", &destination)
            .setting("log_line_prefix", "%m [%p] %q%u@%d ")
    })
    .await;
    let groups = [PostgresTarget::READERS, PostgresTarget::WRITERS];
    let setup =
        halligan_connector_postgres::Setup { read_log: true, ..crate::world::setup(&world.target, &groups) };
    world.target.install(&setup.script().unwrap(), &setup.hba().unwrap()).unwrap();
    world.sql("CREATE ROLE app LOGIN PASSWORD 'app' IN ROLE orders_write; CREATE ROLE stranger LOGIN PASSWORD 'app'");
    let (at, ca) = (world.target.address(), world.target.ca_pem().to_owned());
    let app = async |name: &str| {
        drop(Connected::login(at, &ca, "orders", name, Proof::Password("app"), &[]).await.unwrap());
    };
    // Before its time: none of the grant's business.
    app("app").await;
    world.keep_watch();
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let session = format!("halligan:{}", SessionId::from_bits(1));
    let startup = [("application_name", session.as_str())];
    let mine = Connected::login(at, &ca, "orders", &user.user, Proof::Keys(&user), &startup).await.unwrap();
    // The log is read from where it stood when the first grant was seen.
    let place = world.folder.path().join("state/postgres");
    let reading = || {
        std::fs::read_dir(&place)
            .unwrap()
            .any(|file| file.unwrap().file_name().to_string_lossy().starts_with("log-"))
    };
    until("the log is not read", reading).await;
    app("app").await;
    world.sql("SELECT pg_rotate_logfile()");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    // Through a restart of the connector, too.
    let mut world = world.restart().await;
    app("app").await;
    app("stranger").await;
    world.keep_watch();
    let told = |world: &World, grant: GrantId| {
        let of_grant = world.events().into_iter().filter_map(move |event| match event {
            NodeEvent::LoginUnexplained { grant: of, user, from, why, .. } if of == grant => {
                Some((user, from, why))
            }
            _ => None,
        });
        of_grant.collect::<Vec<_>>()
    };
    until("app was not told", || told(&world, GRANT).iter().any(|(user, ..)| user == "app")).await;
    drop(mine);
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let checks = world.look(2).await;
    let path = of(&checks, CheckKind::DirectPath);
    assert_eq!(path.finding, Finding::Proven, "{path:?}");
    for part in
        ["app from 127.0.0.1, 2 times (an account that holds the group's rights)", "postgres from [local], "]
    {
        assert!(path.detail.contains(part), "{destination}, {part}: {path:?}");
    }
    assert!(!path.detail.contains("stranger") && !path.detail.contains("halligan_connector"), "{path:?}");
    assert!(!told(&world, GRANT).iter().any(|(user, ..)| user == &user_of(GRANT)), "a session explains it");
    all_proven(&Evidence { at: world.lease(1).issued_at, checks });

    // Somebody comes in as a session's role without being one.
    let other = GrantId::from_bits(0x99);
    world.connector.activate(&sign(&Lease { grant: other, ..world.lease(1) })).await.unwrap();
    let user = world.issue_for(other).await;
    until("the log is not read", reading).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    drop(Connected::login(at, &ca, "orders", &user.user, Proof::Keys(&user), &[]).await.unwrap());
    let ours = |world: &World| told(world, other).into_iter().find(|(who, ..)| *who == user.user);
    until("the role was not told", || ours(&world).is_some()).await;
    world.connector.deactivate(other, 2).await.unwrap();
    let checks = world.connector.look(other, 2).await.unwrap().checks;
    let path = of(&checks, CheckKind::DirectPath);
    assert_eq!(path.finding, Finding::Failed, "{path:?}");
    assert!(path.detail.contains("a role of sessions, without a session's name"), "{path:?}");
}

fn user_of(grant: GrantId) -> String {
    halligan_connector_postgres::session_role(grant, &gateway())
}

#[tokio::test]
async fn logins_that_no_session_explains_are_read_from_a_log_of_json() {
    logins_are_read("jsonlog").await;
}

#[tokio::test]
async fn logins_that_no_session_explains_are_read_from_a_log_of_csv() {
    logins_are_read("csvlog").await;
}

#[tokio::test]
async fn logins_that_no_session_explains_are_read_from_a_log_of_text() {
    logins_are_read("stderr").await;
}

#[tokio::test]
async fn the_log_gives_nothing_but_logins_and_only_where_it_was_allowed() {
    let world =
        World::with(|builder| builder.setting("logging_collector", "on").setting("log_directory", "log"))
            .await;
    let mut account = world.as_connector().await;
    let missing = account.query("SELECT halligan.logins(NULL, 0, '{}')").await.unwrap_err();
    assert_eq!(missing.code, "42883", "not installed unless asked for");
    let groups = [PostgresTarget::READERS, PostgresTarget::WRITERS];
    let with =
        halligan_connector_postgres::Setup { read_log: true, ..crate::world::setup(&world.target, &groups) };
    world.target.run_script("orders", &with.script().unwrap()).unwrap();
    for file in ["/etc/passwd", "postgresql.conf", "log/../postgresql.conf", "log/", "../x", "base/1/112"] {
        let said = account.query(&format!("SELECT halligan.logins('{file}', 0, '{{}}')->'logins'")).await;
        match said {
            Err(refused) => assert_eq!(refused.code, "42501", "{file}"),
            Ok(rows) => assert_eq!(rows, ["[]"], "{file}"),
        }
    }
    let said = crate::check::check(&world, vec![]).await;
    assert!(said.iter().any(|one| one.say == "logins are read from the server's log"), "{said:?}");
    world.sql("SELECT 'a secret of somebody', 'connection authorized: user=postgres database=x'");
    let file = world.sql("SELECT pg_current_logfile()");
    let rows = account.query(&format!("SELECT halligan.logins('{file}', 0, '{{}}')")).await.unwrap();
    assert!(rows[0].contains("\"superuser\"") && !rows[0].contains("secret"), "{rows:?}");
    // And is taken away again.
    let without = crate::world::setup(&world.target, &groups).script().unwrap();
    world.target.run_script("orders", &without).unwrap();
    account.query("SELECT halligan.logins(NULL, 0, '{}')").await.unwrap_err();
}
