//! Mail through a real server that demands STARTTLS and a login.

use std::path::{Path, PathBuf};
use std::time::Duration;

use halligan_control::effects::AlertSink as _;
use halligan_core::catalog::{RouteTarget, Who};
use halligan_core::effect::AlertKind;
use halligan_core::time::Span;
use halligan_notify::{Notifier, NotifyConfig, SmtpConfig, SmtpTls};
use halligan_testkit::mail::{Message, TestMail, interpreter};

use crate::{catalog, dispatch, notifier, route};

const SOON: Duration = Duration::from_secs(5);

struct Bench {
    mail: TestMail,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let bench = Self { mail: TestMail::start().await.unwrap(), folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.password(), format!("{}\n", TestMail::PASSWORD)).unwrap();
        bench
    }

    fn password(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    fn smtp(&self) -> SmtpConfig {
        SmtpConfig {
            host: "localhost".to_owned(),
            port: self.mail.port(),
            tls: SmtpTls::Starttls,
            from: "Halligan <halligan@example.org>".to_owned(),
            user: Some(TestMail::USER.to_owned()),
            password_file: Some(self.password()),
            root_file: Some(self.mail.authority()),
        }
    }

    fn notifier(&self, smtp: SmtpConfig) -> Notifier {
        let everybody = route(&["emergency-requested"], RouteTarget::Mail(vec![Who::Anyone(true)]));
        let config = NotifyConfig {
            smtp: Some(smtp),
            public_url: Some("https://halligan.example.org/".to_owned()),
            ..NotifyConfig::default()
        };
        notifier(config, catalog(vec![("everybody", everybody)]))
    }
}

/// A message as Python's own reader of mail understands it: headers in lines, an empty line, the body.
fn decoded(message: &Message, folder: &Path) -> String {
    let file = folder.join("message.eml");
    std::fs::write(&file, &message.text).unwrap();
    let script = "import email, email.policy, sys\n\
        m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)\n\
        for name, value in m.items(): print(f'{name}: {value}')\n\
        print(); print(m.get_content())";
    let output = std::process::Command::new(interpreter().unwrap())
        .args(["-X", "utf8", "-c", script])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn each_person_gets_one_mail_that_can_be_read_at_night() {
    let bench = Bench::new().await;
    let notifier = bench.notifier(bench.smtp());
    assert_eq!(notifier.problems().await, Vec::<String>::new());
    let evil = "EMERGENCY sev1: anna asks for orders-db/dba: locked\r\nBcc: eve@example.org\r\n\r\nhello";
    let alert = dispatch(AlertKind::EmergencyRequested, evil, &["anna", "cleo"]);
    // Anna is on the route and named, Cleo has no address.
    assert_eq!(notifier.routes(&alert.alert), ["person:anna", "person:ben"]);
    assert_eq!(notifier.routes(&dispatch(AlertKind::Denied, "no", &["ben"]).alert), ["person:ben"]);
    for route in notifier.routes(&alert.alert) {
        notifier.deliver(&route, &format!("17/2/{route}"), &alert).await.unwrap();
    }
    let messages = bench.mail.wait_for(2, SOON).await.unwrap();
    assert_eq!(messages[0].sender, "halligan@example.org");
    assert_eq!(messages[0].recipients, ["anna@example.org"]);
    assert_eq!(messages[1].recipients, ["ben@example.org"]);
    let text = decoded(&messages[0], bench.folder.path());
    let (head, body) = text.split_once("\n\n").unwrap();
    let subject = head.lines().find(|line| line.starts_with("Subject: ")).unwrap();
    assert!(
        subject.starts_with("Subject: ⚡ [Halligan Acme] Emergency access is asked for: EMERGENCY sev1"),
        "{subject}"
    );
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    assert!(head.contains("To: Anna Ångström <anna@example.org>"), "{head}");
    assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
    for expected in [
        "locked\\r\\nBcc: eve@example.org",
        "UTC",
        "  halligan approve req_00000000000000000000000001 --reason",
        "Incident  inc_00000000000000000000000002",
        "https://halligan.example.org\n",
        "example.org/halligan/control\n7\nq83v\n",
    ] {
        assert!(body.contains(expected), "no {expected:?} in\n{body}");
    }
}

#[tokio::test]
async fn repetitions_have_the_same_message_id() {
    let bench = Bench::new().await;
    let notifier = bench.notifier(bench.smtp());
    let alert = dispatch(AlertKind::DecisionWanted, "decide", &["ben"]);
    for id in ["a", "a", "b"] {
        notifier.deliver("person:ben", id, &alert).await.unwrap();
    }
    let messages = bench.mail.wait_for(3, SOON).await.unwrap();
    let id = |at: usize| {
        let line = messages[at].text.lines().find(|line| line.starts_with("Message-ID: ")).unwrap();
        line.to_owned()
    };
    assert_eq!(id(0), id(1));
    assert_ne!(id(0), id(2));
}

#[tokio::test]
async fn a_server_in_trouble_gets_it_later() {
    let mut bench = Bench::new().await;
    let notifier = bench.notifier(bench.smtp());
    let mut alert = dispatch(AlertKind::Bypassed, "in", &["anna"]);
    // Trouble never makes an alert void, however old; only `give_up_after` does.
    alert.at = alert.at.minus(Span::hours(5));
    bench.mail.set_refusing(true).unwrap();
    let say = notifier.deliver("person:anna", "a", &alert).await.unwrap_err();
    assert!(say.contains("451"), "{say}");
    bench.mail.set_refusing(false).unwrap();
    notifier.deliver("person:anna", "a", &alert).await.unwrap();
    assert_eq!(bench.mail.wait_for(1, SOON).await.unwrap().len(), 1);
    bench.mail.stop();
    assert!(notifier.deliver("person:anna", "b", &alert).await.is_err());
}

#[tokio::test]
async fn a_wrong_password_is_told_and_a_new_one_is_read() {
    let bench = Bench::new().await;
    let notifier = bench.notifier(bench.smtp());
    let alert = dispatch(AlertKind::Approved, "yes", &["anna"]);
    std::fs::write(bench.password(), "wrong").unwrap();
    let say = notifier.deliver("person:anna", "a", &alert).await.unwrap_err();
    assert!(say.contains("535"), "{say}");
    assert!(!say.contains("wrong"), "{say}");
    std::fs::write(bench.password(), TestMail::PASSWORD).unwrap();
    notifier.deliver("person:anna", "a", &alert).await.unwrap();
    std::fs::remove_file(bench.password()).unwrap();
    let say = notifier.deliver("person:anna", "b", &alert).await.unwrap_err();
    assert!(say.contains("password"), "{say}");
    assert!(notifier.problems().await[0].contains("password_file"));
    assert_eq!(bench.mail.messages().unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_is_not_the_right_one() {
    let bench = Bench::new().await;
    let alert = dispatch(AlertKind::Approved, "yes", &["anna"]);
    // Public authorities do not know its certificate.
    let stranger = bench.notifier(SmtpConfig { root_file: None, ..bench.smtp() });
    let say = stranger.deliver("person:anna", "a", &alert).await.unwrap_err();
    assert!(say.contains("certificate"), "{say}");
    // It speaks no TLS from the first byte.
    let implicit = bench.notifier(SmtpConfig { tls: SmtpTls::Implicit, ..bench.smtp() });
    assert!(implicit.deliver("person:anna", "a", &alert).await.is_err());
    // It demands TLS, and we were told to do without.
    let clear = SmtpConfig { tls: SmtpTls::NoneOnLoopback, root_file: None, ..bench.smtp() };
    assert!(bench.notifier(clear).deliver("person:anna", "a", &alert).await.is_err());
    assert!(bench.mail.messages().unwrap().is_empty());
}

#[tokio::test]
async fn a_test_mail_goes_to_everybody_on_the_route() {
    let bench = Bench::new().await;
    let notifier = bench.notifier(bench.smtp());
    let told = notifier.send_test("everybody", "ben").await.unwrap();
    assert_eq!(
        told.iter().map(|one| one.to.as_str()).collect::<Vec<_>>(),
        ["anna@example.org", "ben@example.org"]
    );
    assert!(told.iter().all(|one| one.error.is_none()), "{told:?}");
    let messages = bench.mail.wait_for(2, SOON).await.unwrap();
    assert!(decoded(&messages[0], bench.folder.path()).contains("This is a test. Nothing happened"));
    let cleo = notifier.send_test("person:cleo", "ben").await.unwrap();
    assert!(cleo[0].error.as_ref().unwrap().contains("no mail address"));
}

/// The same kind of server, but with TLS from the first byte; it prints its port.
const IMPLICIT: &str = r#"
import pathlib, ssl, sys, time
from aiosmtpd.controller import Controller
folder, out = map(pathlib.Path, sys.argv[1:3])
class Mailbox:
    async def handle_DATA(self, server, session, envelope):
        (out / "part").write_bytes(envelope.content)
        (out / "part").rename(out / "message")
        return "250 2.0.0 Taken"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
controller = Controller(Mailbox(), hostname="127.0.0.1", port=int(sys.argv[3]), ssl_context=context)
controller.start()
print("listening", flush=True)
time.sleep(60)
"#;

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    let bench = Bench::new().await;
    let certificates = bench.mail.authority();
    let port = halligan_testkit::process::free_port().unwrap();
    let mut server = Killed(
        std::process::Command::new(interpreter().unwrap())
            .args(["-c", IMPLICIT])
            .args([certificates.parent().unwrap(), bench.folder.path()])
            .arg(port.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    let mut output = std::io::BufReader::new(server.0.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "listening\n");
    let smtp = SmtpConfig { tls: SmtpTls::Implicit, port, user: None, password_file: None, ..bench.smtp() };
    let alert = dispatch(AlertKind::Approved, "yes", &["anna"]);
    bench.notifier(smtp).deliver("person:anna", "a", &alert).await.unwrap();
    let text = std::fs::read_to_string(bench.folder.path().join("message")).unwrap();
    assert!(text.contains("Message-ID: <msg_"), "{text}");
}
