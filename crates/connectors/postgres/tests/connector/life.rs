//! A grant from its first login to its proof.

use halligan_connector::Connector as _;
use halligan_core::catalog::CheckKind;
use halligan_core::ids::{GrantId, SessionId};
use halligan_core::proof::{Evidence, Finding};
use halligan_core::time::Span;
use halligan_session::NodeEvent;
use halligan_testkit::postgres_target::PostgresTarget;

use crate::client::{Connected, Proof};
use crate::world::{GRANT, PASSWORD, World, all_proven, gateway, name, of, sign};

#[tokio::test]
async fn a_grant_from_its_first_login_to_its_proof() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    assert_eq!(world.roles(), "", "nothing is made before it is asked for");
    let user = world.issue().await;
    assert_eq!(user.user, World::role());
    let again = world.issue().await;
    assert_eq!(again.client_key, user.client_key, "one user for a gateway");

    let mut session = world.login(&user, "orders").await.unwrap();
    let who = session.query("SELECT session_user || ' ' || current_user").await.unwrap();
    assert_eq!(who, [format!("{} {}", user.user, PostgresTarget::WRITERS)]);
    session.query("CREATE TABLE public.made (n int); INSERT INTO public.made VALUES (1)").await.unwrap();
    // Also where the session is itself and not its group.
    session.query("RESET ROLE").await.unwrap();
    let back = session.query("SELECT current_user").await.unwrap();
    assert_eq!(back, [PostgresTarget::WRITERS], "what the session began with is what it goes back to");
    session.query("SET ROLE NONE; CREATE TABLE public.mine (n int); SELECT lo_create(4711)").await.unwrap();
    assert_eq!(session.query("SELECT count(*) FROM orders").await.unwrap(), ["1000"], "its rights are there");
    let mut elsewhere = world.login(&user, "stock").await.unwrap();
    elsewhere.query("SET ROLE NONE; CREATE TABLE public.there (n int)").await.unwrap();
    let limits = "SELECT rolconnlimit || ' ' || (rolvaliduntil > now() + interval '59 minutes') || ' ' || rolsuper || rolcreaterole || rolcreatedb \
                  FROM pg_roles WHERE rolname = '{role}'";
    assert_eq!(world.sql(&limits.replace("{role}", &user.user)), "3 true falsefalsefalse");

    let provable = world.connector.deactivate(GRANT, 2).await.unwrap();
    assert!(provable <= world.connector.site().journal().now());
    assert_eq!(world.roles(), "");
    for session in [&mut session, &mut elsewhere] {
        let ended = session.query("SELECT 1").await.unwrap_err();
        assert!(["57P01", "closed"].contains(&ended.code.as_str()), "{ended:?}");
    }
    world.login(&user, "orders").await.unwrap_err();
    let owners = "SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE tablename IN ('made', 'mine', 'there')";
    assert_eq!(world.sql(owners), PostgresTarget::WRITERS);
    assert_eq!(world.target.sql("stock", owners).unwrap(), PostgresTarget::WRITERS);
    assert_eq!(
        world.sql("SELECT lomowner::regrole FROM pg_largeobject_metadata WHERE oid = 4711"),
        PostgresTarget::WRITERS
    );

    let checks = world.look(3).await;
    let credential = of(&checks, CheckKind::Credential);
    assert!(credential.detail.contains("pg_roles has no halligan_grt_"), "{credential:?}");
    let system = world.sql("SELECT system_identifier FROM pg_control_system()");
    assert!(
        credential.detail.contains(&format!("system {system}, timeline 00000001, position ")),
        "{credential:?}"
    );
    assert_eq!(checks.len(), 4, "the gateways' own leaves say which connections are left: {checks:?}");
    all_proven(&Evidence { at: provable, checks });
    // The tombstone is for ever.
    world.connector.activate(&world.signed(9)).await.unwrap_err();
    let late = world.connector.issue(&world.signed(9), SessionId::from_bits(2), &gateway(), false).await;
    assert!(late.unwrap_err().to_string().contains("nothing is ever issued for it again"));
    assert_eq!(world.roles(), "");
    let made = |event: &&NodeEvent| matches!(event, NodeEvent::DatabaseUserMade { .. });
    assert_eq!(world.events().iter().filter(made).count(), 1);
    no_secret_is_in_the_log(&world);
}

/// Every statement is logged there.
fn no_secret_is_in_the_log(world: &World) {
    let log = world.target.log();
    assert!(log.contains("may log in as a member of"), "the functions say what they do");
    assert!(log.contains("CREATE TABLE public.made"), "statements are logged");
    for secret in [PASSWORD, "SCRAM-SHA-256$"] {
        assert!(!log.contains(secret), "{secret} is in the server's log");
    }
}

#[tokio::test]
async fn a_password_that_a_session_gives_itself_opens_nothing_from_elsewhere() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let mut session = world.login(&user, "orders").await.unwrap();
    let sneaky = "DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', session_user, 'my own'); END $$";
    session.query(&format!("SET ROLE NONE; {sneaky}")).await.unwrap();
    // It is a password, and where gateways are it would do.
    let (address, ca) = (world.target.address(), world.target.ca_pem());
    let own = || Proof::Password("my own");
    Connected::login(address, ca, "orders", &user.user, own(), &[]).await.unwrap();
    let refused = Connected::login_from("127.0.0.2", address, ca, "orders", &user.user, own()).await;
    let refused = refused.err().unwrap();
    assert_eq!(refused.code, "28000", "{refused:?}");
    assert!(refused.message.contains("pg_hba.conf rejects"), "{refused:?}");
    // The gateway's keys do not fit any more: it asks for new ones, and the person's password is gone.
    assert_eq!(world.login(&user, "orders").await.err().unwrap().code, "28P01");
    let session_id = SessionId::from_bits(1);
    let renewed = world.connector.issue(&world.signed(1), session_id, &gateway(), true).await.unwrap();
    assert_ne!(renewed.client_key, user.client_key);
    world.login(&renewed, "orders").await.unwrap();
    Connected::login(address, ca, "orders", &user.user, own(), &[]).await.err().unwrap();
}

#[tokio::test]
async fn keys_are_lost_with_the_process_and_made_anew() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let user = world.issue().await;
    let mut session = world.login(&user, "orders").await.unwrap();
    let world = world.restart().await;
    for file in walk(&world.folder.path().join("state")) {
        let bytes = std::fs::read(&file).unwrap();
        let hex = hex_of(user.client_key.expose());
        assert!(!bytes.windows(64).any(|piece| piece == hex.as_bytes()), "{}", file.display());
        assert!(!bytes.windows(32).any(|piece| piece == user.client_key.expose()), "{}", file.display());
    }
    let anew = world.issue().await;
    assert_ne!(anew.client_key, user.client_key);
    world.login(&anew, "orders").await.unwrap();
    world.login(&user, "orders").await.unwrap_err();
    session.query("SELECT 1").await.unwrap();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    session.query("SELECT 1").await.unwrap_err();
    all_proven(&Evidence { at: world.lease(1).issued_at, checks: world.look(2).await });
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn one_session_is_ended_and_the_others_go_on() {
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
    // Not from a gateway that it is not at.
    world.connector.end_session(GRANT, one, &name("gw-2"), None).await.unwrap();
    first.query("SELECT 1").await.unwrap();
    world.connector.end_session(GRANT, one, &gateway(), None).await.unwrap();
    first.query("SELECT 1").await.unwrap_err();
    second.query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn an_extended_grant_keeps_its_user_for_longer() {
    let mut world = World::new().await;
    let mut short = world.lease(1);
    short.remaining = Span::seconds(4);
    short.deadline = short.issued_at.plus(short.remaining);
    world.connector.activate(&sign(&short)).await.unwrap();
    let first =
        world.connector.issue(&sign(&short), SessionId::from_bits(1), &gateway(), false).await.unwrap();
    world.keep_watch();
    world.connector.activate(&world.signed(2)).await.unwrap();
    let until = "SELECT rolvaliduntil > now() + interval '59 minutes' FROM pg_roles WHERE rolname LIKE 'halligan_grt%'";
    assert_eq!(world.sql(until), "t");
    let session = SessionId::from_bits(2);
    let longer = world.connector.issue(&world.signed(2), session, &gateway(), false).await.unwrap();
    assert_eq!(longer.client_key, first.client_key, "a session that is just logging in is not refused");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.roles(), World::role(), "a living grant's role is never touched");
}

#[tokio::test]
async fn what_is_not_supported_or_not_pinned_is_refused() {
    let world = World::new().await;
    let refused = async |change: &dyn Fn(&mut halligan_session::Lease)| {
        let mut lease = world.lease(1);
        change(&mut lease);
        let issued = world.connector.issue(&sign(&lease), SessionId::from_bits(1), &gateway(), false).await;
        issued.unwrap_err();
        world.connector.activate(&sign(&lease)).await.unwrap_err().to_string()
    };
    assert!(refused(&|lease| lease.postgres.replication = true).await.contains("replication"));
    assert!(refused(&|lease| lease.target.postgres = None).await.contains("names no databases"));
    let unpinned =
        |lease: &mut halligan_session::Lease| lease.target.postgres.as_mut().unwrap().server_ca.clear();
    assert!(refused(&unpinned).await.contains("no server CA is pinned"));
    assert!(refused(&|lease| lease.target.site = name("paris")).await.contains("site paris"));
    // Another authority, another name: nothing is sent to such a server.
    let other = PostgresTarget::start().unwrap();
    let mut lease = world.lease(1);
    lease.target.postgres.as_mut().unwrap().server_ca = other.ca_pem().to_owned();
    world.connector.activate(&sign(&lease)).await.unwrap();
    let issued = world.connector.issue(&sign(&lease), SessionId::from_bits(1), &gateway(), false).await;
    let why = issued.unwrap_err().sentence();
    assert!(why.contains("certificate"), "{why}");
    let mut lease = world.lease(2);
    lease.grant = GrantId::from_bits(77);
    lease.target.postgres.as_mut().unwrap().server_name = Some("db.example.org".to_owned());
    let issued = world.connector.issue(&sign(&lease), SessionId::from_bits(1), &gateway(), false).await;
    assert!(issued.unwrap_err().sentence().contains("certificate"));
    assert_eq!(world.roles(), "");
    let unknown = world.connector.look(GRANT, 9).await.unwrap_err();
    assert!(unknown.to_string().contains("has not been deactivated here"));
    world.connector.deactivate(GRANT, 9).await.unwrap();
    assert!(world.look(9).await.iter().all(|check| check.finding == Finding::Unknown));
}
