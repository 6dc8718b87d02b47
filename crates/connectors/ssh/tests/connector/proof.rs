//! Grants that begin and end at a real sshd: what opens the door, what proves that it is shut, and what proves nothing.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::world::{ACCOUNT, GRANT, World, login_at, sign};
use halligan_connector::Connector as _;
use halligan_core::ids::{GrantId, SessionId};
use halligan_core::proof::{Finding, SaidBy};
use halligan_core::time::Span;
use halligan_session::NodeEvent;
use halligan_testkit::sshd::TestSshd;

#[tokio::test]
async fn a_grant_from_its_first_login_to_its_proof() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let issued = world.issue(1).await;
    let run = world.login(&issued, "id -un").await.ok().unwrap();
    assert_eq!(run.text().trim(), ACCOUNT);
    let used = format!("halligan grant={GRANT} session={} person=ada", SessionId::from_bits(1));
    world.sshd.wait_for_log(&used, Duration::from_secs(5)).await.unwrap();

    // Before the tombstone a look would prove nothing, and before the window is over it could only fail.
    let early = world.connector.look(GRANT, 1).await.unwrap_err().to_string();
    assert!(early.contains("has not been deactivated"), "{early}");
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    let connections = world.sshd.log().matches("Connection from").count();
    let check = world.look(3).await;
    assert_eq!(check.finding, Finding::Unknown);
    assert!(check.detail.contains("provable at"), "{}", check.detail);
    assert_eq!(world.sshd.log().matches("Connection from").count(), connections, "it dialled too early");
    world.login(&issued, "true").await.ok().unwrap();

    world.until(provable_at).await;
    let sessions = world.sessions_at_target();
    let check = world.look(4).await;
    assert_eq!((check.finding, check.said_by), (Finding::Proven, SaidBy::Target), "{}", check.detail);
    assert!(check.detail.contains(&issued.serial.to_string()), "{}", check.detail);
    assert!(check.detail.contains("SHA256:"), "{}", check.detail);
    assert_eq!(world.sessions_at_target(), sessions, "a look opened a channel");
    assert_eq!(
        world.sshd.log().matches("Connection from").count(),
        connections + 2,
        "one look, one connection"
    );
    assert_ne!(world.login(&issued, "true").await.code, Some(0));

    // The key is gone, the answer stays.
    let file = world.config.folder.join(format!("grants/{GRANT}/certificate-{}.json", issued.serial));
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(!kept.contains(&hex::encode(issued.seed.expose())), "the session's key outlived the proof");
    let world = world.restart();
    assert_eq!(world.look(5).await, check);

    let events = world.events();
    let place = |wanted: fn(&NodeEvent) -> bool| events.iter().position(wanted).unwrap();
    let order = [
        place(|event| matches!(event, NodeEvent::Activated { .. })),
        place(|event| matches!(event, NodeEvent::CertificateIssued { .. })),
        place(|event| matches!(event, NodeEvent::Deactivated { .. })),
        place(|event| matches!(event, NodeEvent::ProbeIssued { .. })),
        place(
            |event| matches!(event, NodeEvent::Looked { evidence, .. } if evidence.checks[0].finding == Finding::Proven),
        ),
    ];
    assert!(order.is_sorted(), "{events:?}");
}

#[tokio::test]
async fn a_certificate_for_one_host_opens_no_other() {
    let world = World::new().await;
    let other = TestSshd::builder()
        .trust_ca(world.connector.ca_public_line())
        .principals(ACCOUNT, [format!("halligan:billing-host:{ACCOUNT}")])
        .start()
        .await
        .unwrap();
    let issued = world.issue(1).await;
    world.login(&issued, "true").await.ok().unwrap();
    assert_eq!(login_at(world.folder.path(), &other, &issued, "true").await.code, Some(255));
}

#[tokio::test]
async fn a_certificate_works_only_from_the_gateways_and_a_look_from_elsewhere_proves_nothing() {
    let world =
        World::with(|config, _| config.source_addresses = vec!["192.0.2.1/32".to_owned()], |sshd, _| sshd)
            .await;
    let issued = world.issue(1).await;
    assert_eq!(world.login(&issued, "true").await.code, Some(255));
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    world.until(provable_at).await;
    let check = world.look(3).await;
    assert_eq!(check.finding, Finding::Unknown, "{}", check.detail);
    assert!(check.detail.contains("come from another address"), "{}", check.detail);
}

#[tokio::test]
async fn a_door_that_is_still_open_is_found_and_no_channel_is_opened() {
    // The target's clock is twenty seconds behind the connector's: the old certificate still opens the door.
    let mut world = World::with(|config, _| config.clock_slack = Span::seconds(60), |sshd, _| sshd).await;
    world.window = Span::seconds(8);
    let issued = world.issue(1).await;
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    world.ahead.store(20_000_000, Ordering::SeqCst);
    let check = world.look(3).await;
    assert_eq!((check.finding, check.said_by), (Finding::Failed, SaidBy::Target), "{}", check.detail);
    assert!(check.detail.contains(&format!("old certificate {} in", issued.serial)), "{}", check.detail);
    assert_eq!(world.sessions_at_target(), 0, "a look opened a channel");
    // Later it is shut, and that is seen too.
    world.until(provable_at).await;
    let check = world.look(4).await;
    assert_eq!(check.finding, Finding::Proven, "{}", check.detail);
}

#[tokio::test]
async fn a_target_that_is_gone_proves_nothing_until_it_is_back_and_is_dialled_gently() {
    let mut world = World::new().await;
    world.issue(1).await;
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    world.until(provable_at).await;
    world.sshd.stop();
    let failed = Instant::now();
    let check = world.look(3).await;
    assert_eq!(check.finding, Finding::Unknown, "{}", check.detail);
    assert!(check.detail.contains("could not be reached"), "{}", check.detail);
    world.sshd.restart().await.unwrap();
    let check = world.look(4).await;
    assert_eq!(check.finding, Finding::Proven, "{}", check.detail);
    assert!(
        failed.elapsed() > Duration::from_secs(14),
        "the second connection came after {:?}",
        failed.elapsed()
    );
}

#[tokio::test]
async fn a_target_that_refuses_everybody_proves_nothing() {
    let world = World::new().await;
    let issued = world.issue(1).await;
    world.login(&issued, "true").await.ok().unwrap();
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    world.sshd.set_principals(ACCOUNT, Vec::<String>::new()).unwrap();
    world.until(provable_at).await;
    let check = world.look(3).await;
    assert_eq!((check.finding, check.said_by), (Finding::Unknown, SaidBy::Target), "{}", check.detail);
    assert!(check.detail.contains("refused as well"), "{}", check.detail);
}

#[tokio::test]
async fn a_host_with_another_key_gets_no_certificate() {
    let world = World::new().await;
    let mut lease = world.lease(1);
    lease.target.host_keys = vec![
        halligan_testkit::ssh_keys::SshKey::generate(world.folder.path(), "other").unwrap().public().unwrap(),
    ];
    world.connector.issue(&sign(&lease), SessionId::from_bits(1)).await.unwrap();
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    world.until(provable_at).await;
    let check = world.look(3).await;
    assert_eq!(check.finding, Finding::Unknown, "{}", check.detail);
    assert!(check.detail.contains("not pinned"), "{}", check.detail);
    assert!(!world.sshd.log().contains("Accepted publickey"), "{}", world.sshd.log());
}

#[tokio::test]
async fn a_host_certificate_of_a_pinned_authority_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let authority = halligan_testkit::ssh_keys::SshKey::generate(folder.path(), "hosts").unwrap();
    let world = World::with(|_, _| {}, |sshd, _| sshd.host_certificate(&authority, &["127.0.0.1"])).await;
    let mut lease = world.lease(1);
    lease.target.host_keys = vec![format!("@cert-authority {}", authority.public().unwrap())];
    world.connector.check_target(&lease.target).await.unwrap();
    // A name that the host certificate does not hold.
    lease.target.address = lease.target.address.replace("127.0.0.1", "localhost");
    let error = world.connector.check_target(&lease.target).await.unwrap_err().to_string();
    assert!(error.contains("not pinned"), "{error}");
}

#[tokio::test]
async fn with_a_revocation_list_the_proof_comes_at_once() {
    let mut world = World::with(
        |config, folder| config.krl = World::krl(&folder.join("krl")),
        |sshd, folder| {
            std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            sshd.option("RevokedKeys", &folder.join("krl").display().to_string())
        },
    )
    .await;
    world.window = Span::minutes(5);
    world.revocation_list = true;
    let issued = world.issue(1).await;
    world.login(&issued, "true").await.ok().unwrap();
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    assert!(provable_at <= world.connector.journal().now(), "it waits for a window that the list has shut");
    let check = world.look(3).await;
    assert_eq!(check.finding, Finding::Proven, "{}", check.detail);
    assert_eq!(world.login(&issued, "true").await.code, Some(255));

    // Another grant; the list goes missing, and sshd refuses everybody: that proves nothing.
    let mut lease = world.lease(1);
    lease.grant = GrantId::from_bits(77);
    world.connector.issue(&sign(&lease), SessionId::from_bits(2)).await.unwrap();
    world.connector.deactivate(lease.grant, 2).await.unwrap();
    std::fs::remove_file(world.folder.path().join("krl")).unwrap();
    let check = crate::world::credential(world.connector.look(lease.grant, 2).await.unwrap());
    assert_eq!(check.finding, Finding::Unknown, "{}", check.detail);
}

#[tokio::test]
async fn a_target_that_does_not_read_the_list_is_an_open_door() {
    let mut world =
        World::with(|config, folder| config.krl = World::krl(&folder.join("krl")), |sshd, _| sshd).await;
    world.window = Span::minutes(5);
    world.revocation_list = true;
    world.issue(1).await;
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let check = world.look(3).await;
    assert_eq!(check.finding, Finding::Failed, "{}", check.detail);
}

#[tokio::test]
async fn a_list_that_cannot_be_delivered_leaves_the_window_to_wait_for() {
    let mut world =
        World::with(|config, folder| config.krl = World::krl(&folder.join("gone/krl")), |sshd, _| sshd).await;
    world.revocation_list = true;
    world.issue(1).await;
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    assert!(provable_at > world.connector.journal().now(), "it counts on a list that nobody has");
    // Once it can be delivered, being told again is enough.
    std::fs::create_dir(world.folder.path().join("gone")).unwrap();
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    assert!(provable_at <= world.connector.journal().now());
    assert!(world.folder.path().join("gone/krl").exists());
}

#[tokio::test]
async fn many_certificates_take_several_connections_and_a_strict_host_is_met_halfway() {
    let world = World::with(|_, _| {}, |sshd, _| sshd.option("MaxAuthTries", "2")).await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let serials = [world.issue(1).await.serial, world.issue(2).await.serial, world.issue(3).await.serial];
    let provable_at = world.connector.deactivate(GRANT, 2).await.unwrap();
    world.until(provable_at).await;
    let check = world.look(3).await;
    assert_eq!(check.finding, Finding::Proven, "{}", check.detail);
    for serial in serials {
        assert!(check.detail.contains(&serial.to_string()), "{}", check.detail);
    }
    let accepted = world.sshd.log().matches("Accepted publickey").count();
    assert_eq!(accepted, 3, "each connection ends with its own positive control");
}

#[tokio::test]
async fn a_grant_that_never_had_a_certificate_needs_no_target() {
    let mut world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    world.sshd.stop();
    world.connector.deactivate(GRANT, 2).await.unwrap();
    let check = world.look(3).await;
    assert_eq!((check.finding, check.said_by), (Finding::Proven, SaidBy::Connector));
    assert!(check.detail.contains("never issued"), "{}", check.detail);
}

#[tokio::test]
async fn a_target_is_checked_without_a_session() {
    let world = World::new().await;
    let mut target = world.lease(1).target;
    world.connector.check_target(&target).await.unwrap();
    target.account = "halligan-ops".to_owned();
    let error = world.connector.check_target(&target).await.unwrap_err().to_string();
    assert!(error.contains("may not trust this site's CA"), "{error}");
    assert_eq!(world.sessions_at_target(), 0);
    let text = world.connector.sshd_setup(&crate::world::name("orders-host"), "app");
    assert!(
        text.contains(world.connector.ca_public_line()) && text.contains("halligan:orders-host:app"),
        "{text}"
    );
}
