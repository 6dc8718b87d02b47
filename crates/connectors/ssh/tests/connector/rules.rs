//! What the connector refuses, what it remembers after `kill -9`, and what it says on its links.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::world::{ACCOUNT, GRANT, World, alone, control_key, name, sign};
use halligan_connector::{Connector as _, ConnectorHandler};
use halligan_connector_ssh::{ConnectorConfig, Issued, SshConnector};
use halligan_core::ids::{GrantId, SessionId};
use halligan_core::time::Span;
use halligan_link::messages::{Blob, Hello, PeerInfo, Request, Response, Role};
use halligan_link::{BoxFuture, Handler, KeptLink, in_process};
use halligan_session::{NodeEvent, NodeLeaf, SignedLease};
use russh::keys::Certificate;

fn parsed(issued: &Issued) -> Certificate {
    Certificate::from_openssh(&issued.certificate).unwrap()
}

#[tokio::test]
async fn a_certificate_says_just_what_it_must() {
    let mut world = World::new().await;
    world.window = Span::seconds(60);
    let before = world.connector.journal().now().micros() / 1_000_000;
    let certificate = parsed(&world.issue(9).await);
    assert_eq!(certificate.valid_principals(), [format!("halligan:orders-host:{ACCOUNT}")]);
    let options: Vec<_> = certificate.critical_options().iter().collect();
    assert_eq!(options, [(&"source-address".to_owned(), &"127.0.0.1/32,::1/128".to_owned())]);
    assert_eq!(certificate.extensions().keys().collect::<Vec<_>>(), ["permit-pty"]);
    let window = i64::try_from(certificate.valid_before()).unwrap() - before;
    assert!((60..=61).contains(&window), "{window}");
    let slack = before - i64::try_from(certificate.valid_after()).unwrap();
    assert!((29..=30).contains(&slack), "{slack}");

    // Never past the deadline, no terminal where there is no shell.
    let mut lease = world.lease(2);
    lease.issued_at = lease.issued_at.minus(Span::minutes(60)).plus(Span::seconds(3));
    lease.deadline = lease.issued_at.plus(lease.remaining);
    lease.ssh.shell = false;
    lease.ssh.exec = false;
    let issued = world.connector.issue(&sign(&lease), SessionId::from_bits(10)).await.unwrap();
    let certificate = parsed(&issued);
    assert!(certificate.valid_before() <= u64::try_from(lease.deadline.micros() / 1_000_000).unwrap());
    assert!(certificate.extensions().is_empty());
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let late = world.connector.issue(&sign(&lease), SessionId::from_bits(11)).await.unwrap_err().to_string();
    assert!(late.contains("the grant ended at"), "{late}");
}

#[tokio::test]
async fn nothing_is_issued_for_a_lease_that_is_not_controls_or_not_of_this_site() {
    let world = World::new().await;
    let refused = async |lease: &SignedLease| {
        let activated = world.connector.activate(lease).await.unwrap_err().to_string();
        world.connector.issue(lease, SessionId::from_bits(1)).await.unwrap_err();
        activated
    };
    let forged =
        SignedLease::sign(&world.lease(1), &ed25519_dalek::SigningKey::from_bytes(&[1; 32])).unwrap();
    assert!(refused(&forged).await.contains("not signed by control's key"));
    let mut elsewhere = world.lease(1);
    elsewhere.target.site = name("paris");
    assert!(refused(&sign(&elsewhere)).await.contains("site paris"));
    let mut unpinned = world.lease(1);
    unpinned.target.host_keys.clear();
    assert!(refused(&sign(&unpinned)).await.contains("no host key is pinned"));
    // One grant leads to one door.
    world.connector.activate(&world.signed(1)).await.unwrap();
    let mut moved = world.lease(2);
    moved.target.account = "root".to_owned();
    assert!(refused(&sign(&moved)).await.contains("it leads to"));
    assert!(!world.events().iter().any(|event| matches!(event, NodeEvent::CertificateIssued { .. })));
    assert!(world.events().iter().any(|event| matches!(event, NodeEvent::Refused { .. })));
}

#[tokio::test]
async fn a_tombstone_and_the_highest_fencing_number_survive_a_restart() {
    let world = World::new().await;
    world.connector.activate(&world.signed(5)).await.unwrap();
    let overtaken = world.connector.activate(&world.signed(4)).await.unwrap_err().to_string();
    assert!(overtaken.contains("overtaken by 5"), "{overtaken}");
    let world = world.restart();
    world.connector.activate(&world.signed(4)).await.unwrap_err();
    world.connector.issue(&world.signed(4), SessionId::from_bits(1)).await.unwrap_err();
    world.connector.activate(&world.signed(5)).await.unwrap();
    world.connector.issue(&world.signed(5), SessionId::from_bits(1)).await.unwrap();

    world.connector.deactivate(GRANT, 4).await.unwrap_err();
    let first = world.connector.deactivate(GRANT, 6).await.unwrap();
    assert_eq!(world.connector.deactivate(GRANT, 6).await.unwrap(), first, "told twice, the same answer");
    let check = async |world: &World| {
        for fencing in [5, 6, 7, 1000] {
            let late = world.connector.activate(&world.signed(fencing)).await.unwrap_err().to_string();
            assert!(late.contains("nothing is ever issued for it again"), "{late}");
            world.connector.issue(&world.signed(fencing), SessionId::from_bits(2)).await.unwrap_err();
        }
    };
    check(&world).await;
    let world = world.restart();
    check(&world).await;
    let issued =
        world.events().iter().filter(|event| matches!(event, NodeEvent::CertificateIssued { .. })).count();
    assert_eq!(issued, 1);

    // A grant that is ended before it was ever heard of stays ended.
    let mut unheard = world.lease(1);
    unheard.grant = GrantId::from_bits(99);
    world.connector.deactivate(unheard.grant, 3).await.unwrap();
    unheard.fencing = 9;
    let late = world.connector.activate(&sign(&unheard)).await.unwrap_err().to_string();
    assert!(late.contains("nothing is ever issued"), "{late}");
}

#[tokio::test]
async fn issuing_races_with_the_end_and_never_wins_after_it() {
    let world = World::new().await;
    world.connector.activate(&world.signed(1)).await.unwrap();
    let tasks: Vec<_> = (0..40u128)
        .map(|session| {
            let (connector, lease) = (world.connector.clone(), world.signed(1));
            tokio::spawn(async move {
                if session == 20 {
                    connector.deactivate(GRANT, 2).await.unwrap();
                    return;
                }
                let _ = connector.issue(&lease, SessionId::from_bits(session)).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let events = world.events();
    let end = events.iter().position(|event| matches!(event, NodeEvent::Deactivated { .. })).unwrap();
    let last = events.iter().rposition(|event| matches!(event, NodeEvent::CertificateIssued { .. }));
    assert!(last.is_none_or(|last| last < end), "issued at {last:?}, ended at {end}");
}

#[test]
fn files_with_secrets_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(async {
        let world = World::new().await;
        world.issue(1).await;
        world
    });
    let mut waiting = vec![world.config.folder.clone()];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("revoked_keys") && !path.ends_with("ledger/lock") {
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 5);
    assert_eq!(std::fs::metadata(&world.config.folder).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Not a test: what `kill_nine_loses_nothing…` starts and kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn victim() {
    let Ok(folder) = std::env::var("VICTIM_FOLDER") else { return };
    let lease: SignedLease = serde_json::from_str(&std::env::var("VICTIM_LEASE").unwrap()).unwrap();
    let config =
        ConnectorConfig::new(name("conn-1"), name("main"), folder.into(), control_key().verifying_key());
    let connector = SshConnector::open(config).unwrap();
    let life: u128 = std::env::var("VICTIM_LIFE").unwrap().parse().unwrap();
    let ended = GrantId::from_bits(life * 1_000_000);
    println!();
    for round in 0u128.. {
        let issued = connector.issue(&lease, SessionId::from_bits(round)).await.unwrap();
        println!("issued {}", issued.serial);
        let grant = GrantId::from_bits(ended.bits() + round);
        connector.deactivate(grant, 3).await.unwrap();
        println!("ended {}", grant.bits());
    }
}

#[tokio::test]
async fn kill_nine_loses_nothing_that_was_acknowledged() {
    let world = World::new().await;
    let folder = world.folder.path().join("victim");
    let mut acknowledged: BTreeSet<u64> = BTreeSet::new();
    let mut ended: BTreeSet<u128> = BTreeSet::new();
    for round in 0u64..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["rules::victim", "--exact", "--ignored", "--nocapture"])
            .env("VICTIM_FOLDER", &folder)
            .env("VICTIM_LIFE", (round + 1).to_string())
            .env("VICTIM_LEASE", serde_json::to_string(&world.signed(1)).unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: String| match line.split_once(' ') {
            Some(("issued", serial)) => drop(acknowledged.insert(serial.parse().unwrap())),
            Some(("ended", grant)) => drop(ended.insert(grant.parse().unwrap())),
            _ => {}
        };
        let mut seen = 0;
        while seen < 11 + round * 7 {
            let line = lines.next().expect("the connector ended by itself").unwrap();
            seen += u64::from(line.contains(' '));
            note(line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts; half a line does not.
        for line in lines.map_while(Result::ok) {
            if line.split_once(' ').is_some_and(|(word, _)| word == "ended") {
                note(line);
            }
        }
    }
    let config =
        ConnectorConfig::new(name("conn-1"), name("main"), folder.clone(), control_key().verifying_key());
    let connector = SshConnector::open(config).unwrap();
    connector.journal().ledger().check().unwrap();
    let mut from = 0;
    let mut in_ledger = BTreeSet::new();
    loop {
        let leaves = connector.journal().leaves(from).unwrap();
        if leaves.is_empty() {
            break;
        }
        from += leaves.len() as u64;
        in_ledger.extend(leaves.into_iter().filter_map(|leaf| match leaf.event {
            NodeEvent::CertificateIssued { serial, .. } => Some(serial),
            _ => None,
        }));
    }
    assert!(acknowledged.len() > 20 && acknowledged.is_subset(&in_ledger));
    for serial in &in_ledger {
        let file = folder.join(format!("grants/{GRANT}/certificate-{serial}.json"));
        assert!(
            std::fs::read_to_string(file).unwrap().contains("seed"),
            "a serial without its key for the proof"
        );
    }
    assert!(ended.len() > 20);
    for grant in ended {
        let mut lease = world.lease(9);
        lease.grant = GrantId::from_bits(grant);
        connector.activate(&sign(&lease)).await.unwrap_err();
    }
}

/// Control's side of the link: keeps what it is told.
#[derive(Default)]
pub struct Told {
    pub leaves: Mutex<Vec<Vec<u8>>>,
    refuse_once: Mutex<bool>,
}

impl Handler for Told {
    fn handle<'a>(&'a self, _: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        let mut leaves = self.leaves.lock().unwrap();
        Box::pin(std::future::ready(match request {
            Request::Hello(hello) => Response::Welcome {
                acknowledged: (leaves.len() as u64).min(hello.ledger_size),
                hello: Hello { role: Role::Control, name: name("control"), ..hello },
            },
            Request::LedgerEntries { from, entries, .. } => {
                if std::mem::take(&mut *self.refuse_once.lock().unwrap()) {
                    return Box::pin(std::future::ready(Response::error("the database is away")));
                }
                assert_eq!(from, leaves.len() as u64);
                leaves.extend(entries.into_iter().map(|Blob(bytes)| bytes));
                Response::LedgerAck { size: leaves.len() as u64 }
            }
            _ => Response::error("unexpected"),
        }))
    }
}

pub fn info(text: &str, role: Role, site: &str) -> PeerInfo {
    PeerInfo { name: name(text), role, site: name(site) }
}

#[tokio::test]
async fn each_role_is_answered_what_it_may_ask() {
    let world = World::new().await;
    let handler = Arc::new(ConnectorHandler::new(alone(&world.connector)).unwrap());
    let peer = |role, site: &str| {
        let own = info("conn-1", Role::Connector, "main");
        let (_, here) = in_process(handler.clone(), own, Arc::new(Told::default()), info("peer", role, site));
        here
    };
    let requests = || {
        [
            Request::Activate { lease: world.signed(1) },
            Request::IssueCertificate { lease: world.signed(1), session: SessionId::from_bits(1) },
            Request::Deactivate { grant: GRANT, fencing: 2 },
            Request::Look { grant: GRANT, fencing: 2 },
            Request::PutLease { lease: world.signed(1) },
        ]
    };
    let mut table = String::new();
    for (role, site) in [
        (Role::Gateway, "paris"),
        (Role::Connector, "main"),
        (Role::Gateway, "main"),
        (Role::Control, "main"),
    ] {
        let peer = peer(role, site);
        for request in requests() {
            let asked = request.name();
            let answer = peer.call(request).await.unwrap();
            let refused = matches!(&answer, Response::Error { say } if say.contains("may not ask"));
            let word = if refused { "refused" } else { answer.name() };
            table.push_str(&format!("{role:?} {site} {asked}: {word}\n"));
        }
    }
    let expected = "\
Gateway paris activate: refused
Gateway paris issue_certificate: refused
Gateway paris deactivate: refused
Gateway paris look: refused
Gateway paris put_lease: refused
Connector main activate: refused
Connector main issue_certificate: refused
Connector main deactivate: refused
Connector main look: refused
Connector main put_lease: refused
Gateway main activate: refused
Gateway main issue_certificate: certificate
Gateway main deactivate: refused
Gateway main look: refused
Gateway main put_lease: refused
Control main activate: ok
Control main issue_certificate: refused
Control main deactivate: deactivated
Control main look: evidence
Control main put_lease: refused
";
    assert_eq!(table, expected);
}

#[tokio::test]
async fn every_leaf_reaches_control_in_order_and_after_trouble() {
    let world = World::new().await;
    world.issue(1).await;
    let handler = Arc::new(ConnectorHandler::new(alone(&world.connector)).unwrap());
    let control = Arc::new(Told::default());
    *control.refuse_once.lock().unwrap() = true;
    let (to_control, _) = in_process(
        handler.clone(),
        info("conn-1", Role::Connector, "main"),
        control.clone(),
        info("control", Role::Control, "main"),
    );
    let link = Arc::new(KeptLink::fixed(to_control));
    let reporting = tokio::spawn(handler.clone().report(link));
    world.issue(2).await;
    let wanted = world.connector.journal().size();
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while (control.leaves.lock().unwrap().len() as u64) < wanted {
        assert!(tokio::time::Instant::now() < until, "leaves did not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.connector.deactivate(GRANT, 2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    reporting.abort();
    let told: Vec<NodeLeaf> =
        control.leaves.lock().unwrap().iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
    assert_eq!(told, world.connector.journal().leaves(0).unwrap());
    assert!(matches!(told.last().unwrap().event, NodeEvent::Deactivated { .. }));
    assert!(told.is_sorted_by_key(|leaf| leaf.at));
}
