//! Who may come in, and as whom.

use halligan_core::time::Span;
use halligan_gateway::Clock as _;
use halligan_link::{Request, Response};
use halligan_session::Secret;
use halligan_session::control_plane::{ControlPlane as _, LoginProof, one_time_password_digest};
use halligan_session::node_event::NodeEvent;

use crate::support::*;

fn typed(login: &str, password: &str) -> LoginProof {
    LoginProof::OneTimePassword { login: login.to_owned(), password: Secret::new(password.to_owned()) }
}

async fn put_password(site: &Site, person: &str, password: &str) -> Response {
    let sha256 = one_time_password_digest(&Secret::new(password.to_owned()));
    let expires = site.clock.wall().plus(Span::minutes(2));
    site.ask(Request::PutOneTimePassword {
        person: name(person),
        entitlement: entitlement(),
        sha256,
        expires,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_time_password_opens_one_entitlement_once() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    assert_eq!(put_password(&site, "ana", "0123456789abcdef").await, Response::Ok);
    let login = |password| site.gateway.login(typed("root+orders-host", password), client_ref());
    let wrong = login("0123456789abcdee").await.unwrap_err();
    let person = login("0123456789abcdef").await.unwrap();
    assert_eq!(person.id, name("ana"));
    let again = login("0123456789abcdef").await.unwrap_err();
    assert_eq!(wrong, again, "both read alike");
    let nobody = site.gateway.login(typed("root+no-such-host", "x"), &client()).await.unwrap_err();
    assert_eq!(nobody, again);
    assert!(matches!(put_password(&site, "ana", "0123456789abcdef").await, Response::Error { .. }), "burned");

    let other = "orders-host/admin".parse().unwrap();
    assert!(site.gateway.open(&person, &other, &client()).await.is_err());
    assert!(site.gateway.open(&person, &entitlement(), &client()).await.is_ok());
    let refused = site
        .told(|event| matches!(event, NodeEvent::Refused { what, .. } if what.contains("one-time")))
        .await;
    let NodeEvent::Refused { client, .. } = refused else { panic!() };
    assert_eq!(client, "192.0.2.7:50022");
    let all = String::from_utf8(site.control.leaves.lock().unwrap().concat()).unwrap();
    assert!(!all.contains("0123456789abcde"), "no password reaches the ledger");
}

fn client_ref() -> &'static halligan_session::ClientConnection {
    Box::leak(Box::new(client()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_registered_keys_are_known_and_a_person_taken_off_the_roster_gets_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::linked(folder.path()).await;
    site.hold(&site.lease(1, 1, Span::minutes(10))).await;
    assert!(site.gateway.knows_key(ANA_KEY));
    assert!(!site.gateway.knows_key("ssh-ed25519 AAAAnobody"));
    let nobody = LoginProof::PublicKey { openssh: "ssh-ed25519 AAAAnobody".to_owned() };
    assert!(site.gateway.login(nobody, &client()).await.is_err());
    let bo =
        site.gateway.login(LoginProof::PublicKey { openssh: BO_KEY.to_owned() }, &client()).await.unwrap();
    let refusal = site.gateway.open(&bo, &entitlement(), &client()).await.unwrap_err();
    assert!(refusal.say.contains("no access to orders-host/root for you"), "{refusal}");

    let ana = site.ana().await;
    let mut roster = halligan_session::Roster { version: 1, serial: 2, ..Default::default() };
    roster.people.clear();
    let empty = halligan_session::SignedRoster::sign(&roster, &control_key()).unwrap();
    assert_eq!(site.ask(Request::PutRoster { roster: empty }).await, Response::Ok);
    assert!(site.gateway.open(&ana, &entitlement(), &client()).await.is_err());
    let older = site.ask(Request::PutRoster { roster: Site::roster(1) }).await;
    assert!(matches!(older, Response::Error { .. }), "an older roster does not bring her back");
}

/// A certificate as `halligan login` has it made, by the stock `ssh-keygen`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_certificate_names_the_person() {
    let folder = tempfile::tempdir().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let keygen = |arguments: &[&str]| {
        let done = std::process::Command::new("ssh-keygen")
            .args(arguments)
            .current_dir(keys.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", "user"]);
    let read = |file: &str| std::fs::read_to_string(keys.path().join(file)).unwrap().trim().to_owned();
    let site = Site::linked(folder.path()).await;
    let roster = Site::roster(2);
    let mut roster = roster.verify(&control_key().verifying_key()).unwrap();
    roster.login_ca = vec![read("ca.pub")];
    let roster = halligan_session::SignedRoster::sign(&roster, &control_key()).unwrap();
    assert_eq!(site.ask(Request::PutRoster { roster }).await, Response::Ok);
    for (id, good) in [("ana", true), ("eve", false)] {
        keygen(&["-q", "-s", "ca", "-I", id, "-n", "halligan-login", "-V", "-1m:+5m", "-z", "7", "user.pub"]);
        let openssh = read("user-cert.pub");
        assert_eq!(site.gateway.knows_key(&openssh), good);
        let outcome = site.gateway.login(LoginProof::Certificate { openssh }, &client()).await;
        assert_eq!(outcome.is_ok(), good, "{id}");
        if let Ok(person) = outcome {
            assert_eq!((person.id.as_str(), person.how.as_str()), ("ana", "login certificate 7"));
        }
    }
}
