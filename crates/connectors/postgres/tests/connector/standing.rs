//! `activation: prepared`: standing roles for servers that take no writes when they are needed.

use std::time::{Duration, Instant};

use halligan_connector::Connector as _;
use halligan_core::catalog::CheckKind;
use halligan_core::ids::GrantId;
use halligan_core::proof::{Evidence, Finding};
use halligan_link::messages::FindingLevel;
use halligan_session::NodeEvent;
use halligan_testkit::postgres_target::PostgresTarget;
use halligan_testkit::small_disk::SmallDisk;

use crate::check::{check, entitlement, errors};
use crate::client::{Connected, Proof, Refused};
use crate::world::{GRANT, World, all_proven, name, of, sign};

const ROLE: &str = "halligan_prep_01_orders_write";
const PASSWORD_OF_OWN: &str =
    "DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', session_user, 'my own'); END $$";

/// Until the end can be proved, and a moment.
async fn over(provable_at: halligan_core::time::Time) {
    let now = halligan_connector::system_clock()();
    tokio::time::sleep(provable_at.since(now).to_std() + Duration::from_millis(1100)).await;
}

async fn proven(world: &World, grant: GrantId) -> Evidence {
    let provable_at = world.connector.deactivate(grant, 2).await.unwrap();
    over(provable_at).await;
    world.connector.look(grant, 2).await.unwrap()
}

#[tokio::test]
async fn a_standing_role_is_opened_by_a_certificate_and_nothing_else_and_stays() {
    let world = World::standing(|builder| builder).await;
    world.connector.activate(&sign(&world.prepared(GRANT, 1))).await.unwrap();
    let (signed, first) = (sign(&world.prepared(GRANT, 1)), halligan_core::ids::SessionId::from_bits(1));
    let by_password = world.connector.issue(&signed, first, &crate::world::gateway(), false).await;
    assert!(by_password.unwrap_err().to_string().contains("opened by certificate"));
    let made = world.certificate(GRANT, 1).await.unwrap();
    assert_eq!(made.0.user, ROLE);
    let mut session = world.login_standing(&made, 1).await.unwrap();
    let who = session.query("SELECT session_user || ' ' || current_user").await.unwrap();
    assert_eq!(who, [format!("{ROLE} {}", PostgresTarget::WRITERS)]);
    session.query("CREATE TABLE public.made ()").await.unwrap();
    session.query("SET ROLE NONE; CREATE TABLE public.mine ()").await.unwrap();
    assert_eq!(world.certificate(GRANT, 2).await.unwrap().0.user, ROLE, "a grant keeps its role");
    // From inside, everything that could be left for later.
    session.query(PASSWORD_OF_OWN).await.unwrap();
    session.query(&format!("ALTER ROLE \"{ROLE}\" SET search_path = trap")).await.unwrap();
    session.query(&format!("ALTER ROLE \"{ROLE}\" IN DATABASE orders SET work_mem = '1GB'")).await.unwrap();
    world.sql("CREATE ROLE friend LOGIN PASSWORD 'friend'");
    // Up to 14 the role may hand itself on. Here somebody does who may.
    session.query(&format!("GRANT \"{ROLE}\" TO friend")).await.unwrap_err();
    if crate::world::major() < 16 {
        world.sql(&format!("GRANT \"{ROLE}\" TO friend"));
    }
    session.query("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC").await.unwrap();
    // The password opens nothing, not even from a gateway's address.
    let (at, ca) = (world.target.address(), world.target.ca_pem());
    let refused = Connected::login(at, ca, "orders", ROLE, Proof::Password("my own"), &[]).await;
    assert_eq!(refused.err().unwrap().code, "28000");
    // Nor does the certificate open another role.
    let shown = (made.0.certificate.as_str(), made.1.as_str());
    let other = Connected::login_by_certificate(at, ca, "halligan_prep_02_orders_write", shown, &[]).await;
    assert_eq!(other.err().unwrap().code, "28000");

    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    assert!(provable_at > halligan_connector::system_clock()(), "a certificate is still good");
    session.query("SELECT 1").await.unwrap_err();
    let early = world.look(2).await;
    // (Unless this machine was so slow that it is over by now.)
    if halligan_connector::system_clock()() < made.0.valid_before {
        assert_eq!(of(&early, CheckKind::Credential).finding, Finding::Unknown, "{early:?}");
    }
    over(provable_at).await;
    world.login_standing(&made, 3).await.unwrap_err();
    let checks = world.look(2).await;
    let credential = of(&checks, CheckKind::Credential);
    for part in [
        "2 certificates of halligan_prep_01_orders_write",
        "it has no password",
        "one that is over was refused",
    ] {
        assert!(credential.detail.contains(part), "{part}: {credential:?}");
    }
    all_proven(&Evidence { at: provable_at, checks });
    assert_eq!(
        world
            .sql("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'halligan_prep_01_orders_write'"),
        "t"
    );
    let settings = format!(
        "SELECT string_agg(s, ' ') FROM pg_db_role_setting, unnest(setconfig) s WHERE setrole = '{ROLE}'::regrole AND s !~ '^(tcp_|client_connection)'"
    );
    assert_eq!(world.sql(&settings), "");
    assert_eq!(world.sql(&format!("SELECT pg_has_role('friend', '{ROLE}', 'MEMBER')")), "f");
    assert_eq!(
        world.sql(
            "SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE tablename IN ('made', 'mine')"
        ),
        PostgresTarget::WRITERS
    );
    assert_eq!(
        world.sql(&format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{ROLE}'")),
        "t",
        "it stays"
    );
    let issued = |event: &&NodeEvent| matches!(event, NodeEvent::CertificateIssued { principal, .. } if principal == ROLE);
    assert_eq!(world.events().iter().filter(issued).count(), 2, "each certificate is a leaf");
    world.certificate(GRANT, 4).await.unwrap_err();
    let log = world.target.log();
    assert!(!log.contains("SCRAM-SHA-256$"));
}

#[tokio::test]
async fn nothing_is_written_at_a_server_that_takes_no_writes() {
    let mut world = World::standing(|builder| builder).await;
    // The server is known from a look beforehand, as `catalog check --live` makes it.
    check(&world, vec![(name("write"), prepared_entitlement(PostgresTarget::WRITERS))]).await;
    // First one that could write and must not: no transaction id is used up.
    let ids = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    let before = world.sql(ids);
    let one = GrantId::from_bits(0x51);
    world.connector.activate(&sign(&world.prepared(one, 1))).await.unwrap();
    let made = world.certificate(one, 1).await.unwrap();
    let mut session = world.login_standing(&made, 1).await.unwrap();
    session.query("SELECT count(*) FROM orders").await.unwrap();
    all_proven(&proven(&world, one).await);
    assert_eq!(world.sql(ids), before, "activation, session, end and proof have written nothing");

    // Then a real standby of that server.
    world.target.server().stop().unwrap();
    std::fs::write(world.target.folder().join("data/standby.signal"), "").unwrap();
    world.target.server().resume().unwrap();
    assert_eq!(world.sql("SELECT pg_is_in_recovery()"), "t");
    let two = GrantId::from_bits(0x52);
    world.connector.activate(&sign(&world.prepared(two, 1))).await.unwrap();
    let made = world.certificate(two, 1).await.unwrap();
    let mut session = world.login_standing(&made, 1).await.unwrap();
    assert_eq!(session.query("SELECT count(*) FROM orders").await.unwrap(), ["1000"]);
    let evidence = proven(&world, two).await;
    session.query("SELECT 1").await.unwrap_err();
    let credential = of(&evidence.checks, CheckKind::Credential);
    assert!(credential.detail.contains("on the standby at"), "{credential:?}");
    all_proven(&evidence);
    // A user of its own cannot be made there, and it says why.
    world.connector.activate(&sign(&world.lease(1))).await.unwrap();
    let session = halligan_core::ids::SessionId::from_bits(1);
    let issued = world.connector.issue(&world.signed(1), session, &crate::world::gateway(), false).await;
    assert!(issued.unwrap_err().sentence().contains("25006"));
}

/// Two databases of one server are two systems in a catalog. Its roles are one grant's at a time all the same.
#[tokio::test]
async fn systems_at_one_server_share_its_standing_roles() {
    let mut world = World::standing(|builder| builder).await;
    let (one, two) =
        (world.prepared(GrantId::from_bits(0x61), 1), world.prepared(GrantId::from_bits(0x62), 1));
    let elsewhere = |mut lease: halligan_session::Lease| {
        lease.target.system = name("billing-db");
        lease.entitlement = "billing-db/write".parse().unwrap();
        lease
    };
    let (two, three) = (elsewhere(two), elsewhere(world.prepared(GrantId::from_bits(0x63), 1)));
    let mut sessions = Vec::new();
    for (lease, number) in [(&one, 1), (&two, 2)] {
        world.connector.activate(&sign(lease)).await.unwrap();
        let made = world.certificate_for(lease, number).await.unwrap();
        sessions.push((made.0.user.clone(), world.login_standing(&made, number).await.unwrap()));
    }
    assert_ne!(sessions[0].0, sessions[1].0);
    world.connector.activate(&sign(&three)).await.unwrap();
    let none = world.certificate_for(&three, 3).await.unwrap_err();
    assert!(none.contains("none is free"), "{none}");
    // Nor does one system end what lives by the other's grant.
    world.keep_watch();
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (login, session) in &mut sessions {
        assert_eq!(session.query("SELECT session_user").await.unwrap(), [login.as_str()]);
    }
}

/// Not the disk with the write-ahead log: without that a server is down, and nothing gets in.
#[tokio::test]
async fn a_server_without_disk_is_entered_and_left() {
    let mut world = World::standing(|builder| builder).await;
    check(&world, vec![(name("write"), prepared_entitlement(PostgresTarget::WRITERS))]).await;
    let folder = world.target.folder();
    world.target.server().stop().unwrap();
    let disk = SmallDisk::mount_on(&folder.join("small"), 80).unwrap();
    let data = folder.join("data");
    for part in ["base", "global"] {
        let moved = std::process::Command::new("cp").arg("-a").arg(data.join(part)).arg(disk.path()).status();
        assert!(moved.unwrap().success());
        std::fs::remove_dir_all(data.join(part)).unwrap();
        std::os::unix::fs::symlink(disk.path().join(part), data.join(part)).unwrap();
    }
    world.target.server().resume().unwrap();
    // A server that cannot write the file with which backends begin lets nobody in, whoever it is.
    for database in ["orders", "stock"] {
        world.target.sql(database, "SELECT 1").unwrap();
    }
    disk.fill().unwrap();
    world.connector.activate(&sign(&world.prepared(GRANT, 1))).await.unwrap();
    let made = world.certificate(GRANT, 1).await.unwrap();
    let mut session = world.login_standing(&made, 1).await.unwrap();
    assert_eq!(session.query("SELECT count(*) FROM orders").await.unwrap(), ["1000"]);
    let full = session.query("CREATE TABLE public.more AS SELECT generate_series(1, 100000)").await;
    assert_eq!(full.unwrap_err().code, "53100");
    let evidence = proven(&world, GRANT).await;
    session.query("SELECT 1").await.unwrap_err();
    all_proven(&evidence);
    // The server still has its files open.
    world.target.server().stop().unwrap();
}

#[tokio::test]
async fn a_read_only_default_stops_neither_beginning_nor_ending() {
    let world = World::standing(|builder| builder).await;
    world.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    world.sql("SELECT pg_reload_conf()");
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.connector.activate(&sign(&world.prepared(GRANT, 1))).await.unwrap();
    let made = world.certificate(GRANT, 1).await.unwrap();
    let mut session = world.login_standing(&made, 1).await.unwrap();
    assert_eq!(session.query("CREATE TABLE public.t ()").await.unwrap_err().code, "25006");
    // It is only a default.
    session.query("SET default_transaction_read_only = off").await.unwrap();
    session.query("SET ROLE NONE; CREATE TABLE public.mine ()").await.unwrap();
    session.query(PASSWORD_OF_OWN).await.unwrap();
    all_proven(&proven(&world, GRANT).await);
    assert_eq!(
        world.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'mine'"),
        PostgresTarget::WRITERS
    );
}

/// Takes every seat that the server has for ordinary people.
async fn fill(world: &World) -> Vec<Connected> {
    let mut seats = Vec::new();
    let (at, ca) = (world.target.address(), world.target.ca_pem());
    loop {
        match Connected::login(at, ca, "orders", "app", Proof::Password("app"), &[]).await {
            Ok(seat) => seats.push(seat),
            Err(Refused { code, .. }) if code == "53300" => return seats,
            Err(other) => panic!("{other:?}"),
        }
        assert!(seats.len() < 40);
    }
}

#[tokio::test]
async fn a_full_server_is_entered_by_reserved_seats_and_left_in_any_case() {
    let reserved = crate::world::major() >= 16;
    let mut world = World::standing(|builder| {
        let builder = builder.setting("max_connections", "18").setting("superuser_reserved_connections", "3");
        if reserved { builder.setting("reserved_connections", "4") } else { builder }
    })
    .await;
    world.sql("CREATE ROLE app LOGIN PASSWORD 'app'");
    let write = || vec![(name("write"), prepared_entitlement(PostgresTarget::WRITERS))];
    let found = check(&world, write()).await;
    assert_eq!(errors(&found), Vec::<&str>::new(), "{found:?}");
    world.keep_watch();
    let living = GrantId::from_bits(0x61);
    world.connector.activate(&sign(&world.prepared(living, 1))).await.unwrap();
    let made = world.certificate(living, 1).await.unwrap();
    let mut session = world.login_standing(&made, 1).await.unwrap();
    let seats = fill(&world).await;
    assert!(seats.len() > 4, "{}", seats.len());
    // The next grant: nothing at the server is needed for its certificate but what is there already.
    let next = GrantId::from_bits(0x62);
    world.connector.activate(&sign(&world.prepared(next, 1))).await.unwrap();
    let made = world.certificate(next, 1).await.unwrap();
    assert_eq!(made.0.user, "halligan_prep_02_orders_write");
    match world.login_standing(&made, 2).await {
        Ok(mut second) if reserved => {
            second.query("SELECT 1").await.unwrap();
        }
        Err(Refused { code, .. }) if !reserved => assert_eq!(code, "53300"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    // And both end while it is still full.
    let begun = Instant::now();
    let provable_at = world.connector.deactivate(living, 2).await.unwrap();
    session.query("SELECT 1").await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    world.connector.deactivate(next, 2).await.unwrap();
    assert_eq!(world.sql("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'halligan_prep%'"), "0");
    drop(seats);
    over(provable_at).await;
    all_proven(&world.connector.look(living, 2).await.unwrap());
}

#[tokio::test]
async fn a_role_is_one_grants_at_a_time_and_rests_before_the_next() {
    let mut world = World::standing(|builder| builder).await;
    world.keep_watch();
    let grants: Vec<GrantId> = (0x71..0x74).map(GrantId::from_bits).collect();
    for grant in &grants {
        world.connector.activate(&sign(&world.prepared(*grant, 1))).await.unwrap();
    }
    let (one, two) =
        (world.certificate(grants[0], 1).await.unwrap(), world.certificate(grants[1], 2).await.unwrap());
    assert_ne!(one.0.user, two.0.user);
    let refused = world.certificate(grants[2], 3).await.err().unwrap();
    assert!(refused.contains("has 2 standing roles for orders_write and none is free"), "{refused}");
    let mut session = world.login_standing(&one, 1).await.unwrap();
    session
        .query(&format!("SET ROLE NONE; ALTER ROLE \"{}\" SET search_path = trap", one.0.user))
        .await
        .unwrap();
    world.connector.deactivate(grants[0], 2).await.unwrap();
    let refused = world.certificate(grants[2], 3).await.err().unwrap();
    assert!(refused.contains("resting"), "{refused}");
    // It remembers that through a restart.
    let mut world = world.restart().await;
    world.certificate(grants[2], 3).await.unwrap_err();
    world.keep_watch();
    let begun = Instant::now();
    let third = loop {
        match world.certificate(grants[2], 3).await {
            Ok(third) => break third,
            Err(_) if begun.elapsed() < Duration::from_secs(20) => {
                tokio::time::sleep(Duration::from_millis(200)).await
            }
            Err(why) => panic!("{why}"),
        }
    };
    assert_eq!(third.0.user, one.0.user);
    assert!(begun.elapsed() > Duration::from_secs(3), "not before the last certificate was over");
    let mut session = world.login_standing(&third, 3).await.unwrap();
    assert_eq!(session.query("SHOW search_path").await.unwrap(), ["\"$user\", public"]);
    // What the next one does with it is no fault of the first.
    session
        .query(&format!("SET ROLE NONE; ALTER ROLE \"{}\" SET work_mem = '2MB'", third.0.user))
        .await
        .unwrap();
    let checks = world.connector.look(grants[0], 2).await.unwrap().checks;
    for kind in [CheckKind::Credential, CheckKind::Backends, CheckKind::Leftovers] {
        let check = of(&checks, kind);
        assert_eq!(check.finding, Finding::Proven, "{checks:?}");
        assert!(check.detail.contains("before another grant took it"), "{check:?}");
    }
}

#[tokio::test]
async fn whoever_is_in_a_role_without_a_grant_is_put_out_and_it_is_written_down() {
    let mut world = World::standing(|builder| builder).await;
    check(&world, vec![(name("write"), prepared_entitlement(PostgresTarget::WRITERS))]).await;
    world.connector.activate(&sign(&world.prepared(GRANT, 1))).await.unwrap();
    let mine = world.certificate(GRANT, 1).await.unwrap();
    let mut living = world.login_standing(&mine, 1).await.unwrap();
    // Somebody with the other role, by whatever way.
    let pem = world.target.client_certificate("halligan_prep_02_orders_write").unwrap();
    let (at, ca) = (world.target.address(), world.target.ca_pem());
    let shown = (pem.0.as_str(), pem.1.as_str());
    let mut stranger =
        Connected::login_by_certificate(at, ca, "halligan_prep_02_orders_write", shown, &[]).await.unwrap();
    world.keep_watch();
    let begun = Instant::now();
    while stranger.query("SELECT 1").await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(6));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    living.query("SELECT 1").await.unwrap();
    let ended = world.events().into_iter().find_map(|event| match event {
        NodeEvent::DatabaseUserEnded { grant: None, user, reason, .. } => Some((user, reason)),
        _ => None,
    });
    let (user, reason) = ended.unwrap();
    assert_eq!(user, "halligan_prep_02_orders_write");
    assert!(reason.contains("no grant holds it"), "{reason}");
}

fn prepared_entitlement(account: &str) -> halligan_core::catalog::Entitlement {
    let mut made = entitlement(account, false, None);
    made.postgres.activation = halligan_core::catalog::Activation::Prepared;
    made
}

#[tokio::test]
async fn what_is_missing_for_standing_roles_is_told_beforehand() {
    let write = || vec![(name("write"), prepared_entitlement(PostgresTarget::WRITERS))];
    let bare = World::new().await;
    let said = check(&bare, write()).await;
    assert!(errors(&said)[0].contains("orders_write has no standing roles"), "{said:?}");

    let world = World::standing(|builder| builder).await;
    let said = check(&world, write()).await;
    assert_eq!(errors(&said), Vec::<&str>::new());
    assert!(
        said.iter().any(|one| one.level == FindingLevel::Info && one.say.contains("has 2 standing roles"))
    );
    let says = async |text: &str| {
        let said = check(&world, write()).await;
        assert!(errors(&said).iter().any(|say| say.contains(text)), "{text}: {said:?}");
    };
    world.sql(&format!("ALTER ROLE \"{ROLE}\" PASSWORD 'x'"));
    says("halligan_prep_01_orders_write: it has a password").await;
    world.sql(&format!("ALTER ROLE \"{ROLE}\" PASSWORD NULL CREATEDB"));
    says("it is more than a standing role may be").await;
    world.sql(&format!("ALTER ROLE \"{ROLE}\" NOCREATEDB"));
    let good = world.standing_setup().hba().unwrap();
    world
        .target
        .set_hba(
            &good.replace(
                "halligan_prepared 127.0.0.1/32 cert",
                "halligan_prepared 127.0.0.1/32 scram-sha-256",
            ),
        )
        .unwrap();
    says("lets standing roles in from 127.0.0.1 by scram-sha-256").await;
    says("no line of pg_hba.conf lets standing roles into orders from 127.0.0.1/32 by certificate").await;
    world.target.set_hba(&good).unwrap();
    // The server forgets who signs.
    std::fs::write(world.target.folder().join("ca.pem"), world.target.ca_pem()).unwrap();
    world.sql("SELECT pg_reload_conf()");
    tokio::time::sleep(Duration::from_millis(300)).await;
    says("append it to ssl_ca_file").await;
    // And a proof without a positive control is none.
    world.connector.activate(&sign(&world.prepared(GRANT, 1))).await.unwrap();
    world.certificate(GRANT, 1).await.unwrap();
    let checks = proven(&world, GRANT).await.checks;
    let credential = of(&checks, CheckKind::Credential);
    assert_eq!(credential.finding, Finding::Unknown, "{credential:?}");
    assert!(credential.detail.contains("its refusal proves nothing"), "{credential:?}");
}

#[tokio::test]
async fn the_functions_for_standing_roles_take_no_other_names() {
    let world = World::standing(|builder| builder).await;
    let mut account = world.as_connector().await;
    for login in [
        "postgres",
        "halligan_owner",
        "halligan_prepared",
        "halligan_prep_1_x",
        "halligan_prep_01_",
        &World::role(),
    ] {
        for call in ["prepared_terminate('{}', NULL, NULL)", "prepared_reset('{}')"] {
            let sql = format!("SELECT halligan.{}", call.replace("{}", login));
            assert_eq!(account.query(&sql).await.unwrap_err().code, "42501", "{sql}");
        }
    }
    // And those for session roles take no standing ones: they cannot be shut or dropped.
    for call in ["session_shut", "session_drop", "session_disown"] {
        let sql = format!("SELECT halligan.{call}('{ROLE}')");
        assert_eq!(account.query(&sql).await.unwrap_err().code, "42501", "{sql}");
    }
    for sql in ["SELECT halligan.has_password('postgres')", "SELECT rolpassword FROM pg_authid"] {
        assert_eq!(account.query(sql).await.unwrap_err().code, "42501", "{sql}");
    }
    assert_eq!(world.sql("SELECT coalesce(halligan.has_password('postgres')::text, 'untold')"), "untold");
}
