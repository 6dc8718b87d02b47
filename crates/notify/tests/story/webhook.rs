//! Webhooks at a real receiver, whose signatures Python checks by itself.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use halligan_control::effects::AlertSink as _;
use halligan_core::catalog::RouteTarget;
use halligan_core::effect::AlertKind;
use halligan_core::time::Span;
use halligan_notify::{Notifier, NotifyConfig};
use tempfile::TempDir;

use crate::receiver::{Received, Receiver};
use crate::{SECRET, catalog, dispatch, notifier, route};

struct Bench {
    folder: TempDir,
    config: NotifyConfig,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = NotifyConfig::default();
        let file = folder.path().join("siem.whsec");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        config.webhook_secrets.insert("siem".parse().unwrap(), file);
        Self { folder, config }
    }

    fn secret_file(&self) -> &Path {
        &self.config.webhook_secrets["siem"]
    }

    fn notifier(&self, url: &str) -> Notifier {
        let to = RouteTarget::Webhook { url: url.to_owned(), secret: "siem".parse().unwrap() };
        notifier(self.config.clone(), catalog(vec![("siem", route(&[], to))]))
    }
}

/// Is the message's signature one that Python's standard library makes with this secret, too?
fn python_accepts(secret: &str, received: &Received) -> bool {
    let script = r#"
import base64, hashlib, hmac, sys
secret, ident, at, header = sys.argv[1:]
body = sys.stdin.buffer.read()
key = base64.b64decode(secret.removeprefix("whsec_"))
mine = base64.b64encode(hmac.new(key, f"{ident}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
ok = any(v == "v1" and hmac.compare_digest(mine, s) for v, s in (one.split(",", 1) for one in header.split(" ")))
sys.exit(0 if ok else 1)
"#;
    let header = |name: &str| received.headers[name].clone();
    let mut child = Command::new("python3")
        .args(["-c", script, secret])
        .args([header("webhook-id"), header("webhook-timestamp"), header("webhook-signature")])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &received.body).unwrap();
    child.wait().unwrap().success()
}

#[tokio::test]
async fn a_receiver_can_check_what_it_gets_and_knows_repetitions() {
    let bench = Bench::new();
    let receiver = Receiver::plain().await;
    let notifier = bench.notifier(&format!("http://127.0.0.1:{}/hooks/halligan?x=1", receiver.port));
    assert_eq!(notifier.problems().await, Vec::<String>::new());
    let alert = dispatch(AlertKind::EmergencyRequested, "EMERGENCY: anna asks — grüße", &["anna"]);
    assert_eq!(notifier.routes(&alert.alert), ["siem"], "no mail server, no mail");
    notifier.deliver("siem", "17/2/siem", &alert).await.unwrap();
    notifier.deliver("siem", "17/2/siem", &alert).await.unwrap();
    notifier.deliver("siem", "17/3/siem", &alert).await.unwrap();

    let received = receiver.received();
    assert_eq!(received[0].line, "POST /hooks/halligan?x=1 HTTP/1.1");
    assert_eq!(received[0].headers["content-type"], "application/json");
    assert!(python_accepts(SECRET, &received[0]));
    let mut forged = received[0].clone();
    forged.body[10] ^= 1;
    assert!(!python_accepts(SECRET, &forged), "the check can fail");
    assert!(!python_accepts("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", &received[0]));

    let id = |at: usize| received[at].headers["webhook-id"].clone();
    assert_eq!(id(0), id(1));
    assert_ne!(id(0), id(2));
    let json: serde_json::Value = serde_json::from_slice(&received[0].body).unwrap();
    assert_eq!(json["type"], "halligan.emergency-requested");
    assert_eq!(json["say"], "EMERGENCY: anna asks — grüße");
    assert_eq!(json["people"][0], "anna");
    assert!(json["checkpoint"].as_str().unwrap().starts_with("example.org/halligan/control\n7\n"));
}

#[tokio::test]
async fn a_secret_is_changed_by_writing_its_file() {
    let bench = Bench::new();
    let receiver = Receiver::plain().await;
    let notifier = bench.notifier(&format!("http://localhost:{}/", receiver.port));
    let alert = dispatch(AlertKind::Active, "open", &[]);
    let new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    std::fs::write(bench.secret_file(), format!("{new}\n{SECRET}\n")).unwrap();
    notifier.deliver("siem", "a", &alert).await.unwrap();
    std::fs::write(bench.secret_file(), format!("{new}\n")).unwrap();
    notifier.deliver("siem", "b", &alert).await.unwrap();
    let received = receiver.received();
    assert!(python_accepts(new, &received[0]) && python_accepts(SECRET, &received[0]));
    assert!(python_accepts(new, &received[1]) && !python_accepts(SECRET, &received[1]));

    std::fs::remove_file(bench.secret_file()).unwrap();
    let say = notifier.deliver("siem", "c", &alert).await.unwrap_err();
    assert!(say.contains("secret file"), "{say}");
    assert!(notifier.problems().await[0].contains("webhook_secrets.siem"));
    assert_eq!(receiver.received().len(), 2, "nothing leaves unsigned");
}

#[tokio::test]
async fn answers_count_as_the_standard_says() {
    let bench = Bench::new();
    let receiver = Receiver::plain().await;
    let elsewhere = Receiver::plain().await;
    let notifier = bench.notifier(&format!("http://127.0.0.1:{}/", receiver.port));
    let alert = dispatch(AlertKind::Bypassed, "in without waiting", &[]);
    receiver.answers("200 OK", "", &"x".repeat(300_000));
    notifier.deliver("siem", "a", &alert).await.unwrap();
    receiver.answers("410 Gone", "", "");
    notifier.deliver("siem", "b", &alert).await.unwrap();
    receiver.answers("503 Service Unavailable", "", "come\u{1b}[31m back\r\nlater");
    let say = notifier.deliver("siem", "c", &alert).await.unwrap_err();
    assert!(say.contains("503") && say.contains("\\r\\nlater") && !say.contains('\u{1b}'), "{say}");
    receiver.answers(
        "307 Temporary Redirect",
        &format!("location: http://127.0.0.1:{}/\r\n", elsewhere.port),
        "",
    );
    let say = notifier.deliver("siem", "d", &alert).await.unwrap_err();
    assert!(say.contains("redirects are not followed"), "{say}");
    assert!(elsewhere.received().is_empty());
    assert_eq!(receiver.received().len(), 4);
}

#[tokio::test]
async fn a_receiver_that_was_down_gets_it_later_and_one_that_stays_down_is_left_in_peace() {
    let bench = Bench::new();
    let port = Receiver::plain().await.port;
    let notifier = bench.notifier(&format!("http://127.0.0.1:{port}/"));
    let alert = dispatch(AlertKind::Ended, "closed", &[]);
    // The listener's task ends a moment after its drop.
    let mut failed = 0;
    while failed < 4 {
        if notifier.deliver("siem", "a", &alert).await.is_err() {
            failed += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let receiver = Receiver::plain_on(port).await;
    let say = notifier.deliver("siem", "a", &alert).await.unwrap_err();
    assert!(say.contains("is tried again in"), "{say}");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    notifier.deliver("siem", "a", &alert).await.unwrap();
    notifier.deliver("siem", "b", &alert).await.unwrap();
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn one_that_never_answers_takes_ten_seconds_at_most() {
    let bench = Bench::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let notifier = bench.notifier(&format!("http://127.0.0.1:{}/", silent.local_addr().unwrap().port()));
    let before = Instant::now();
    let say = notifier.deliver("siem", "a", &dispatch(AlertKind::Active, "open", &[])).await.unwrap_err();
    assert!(say.contains("failed to reach"), "{say}");
    assert!(before.elapsed() < Duration::from_secs(13), "{:?}", before.elapsed());
}

#[tokio::test]
async fn tls_is_checked_against_the_configured_authority() {
    let mut bench = Bench::new();
    let authority = bench.folder.path().join("authority.pem");
    let receiver = Receiver::tls(&authority).await;
    let url = format!("https://localhost:{}/", receiver.port);
    let alert = dispatch(AlertKind::Active, "open", &[]);
    let say = bench.notifier(&url).deliver("siem", "a", &alert).await.unwrap_err();
    assert!(say.contains("certificate"), "public authorities do not know it: {say}");
    bench.config.webhook_roots = Some(authority);
    bench.notifier(&url).deliver("siem", "a", &alert).await.unwrap();
    assert!(python_accepts(SECRET, &receiver.received()[0]));
    // The certificate is for `localhost` only.
    let by_address = format!("https://127.0.0.1:{}/", receiver.port);
    assert!(bench.notifier(&by_address).deliver("siem", "a", &alert).await.is_err());
    let in_clear = format!("http://localhost:{}/", receiver.port);
    assert!(bench.notifier(&in_clear).deliver("siem", "a", &alert).await.is_err());
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn metadata_services_are_out_of_reach() {
    let bench = Bench::new();
    for url in ["https://169.254.169.254/latest/", "https://[fe80::1]/", "http://192.0.2.1/"] {
        let notifier = bench.notifier(url);
        let before = Instant::now();
        let say = notifier.deliver("siem", "a", &dispatch(AlertKind::Active, "x", &[])).await.unwrap_err();
        assert!(say.contains("cannot be used"), "{say}");
        assert!(before.elapsed() < Duration::from_secs(1));
        assert!(notifier.problems().await[0].contains("route siem"));
    }
}

#[tokio::test]
async fn kinds_choose_routes_and_what_is_too_old_is_given_up() {
    let bench = Bench::new();
    let receiver = Receiver::plain().await;
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    let to = || RouteTarget::Webhook { url: url.clone(), secret: "siem".parse().unwrap() };
    let routes =
        vec![("all", route(&[], to())), ("bypasses", route(&["bypassed", "revocation-failed"], to()))];
    let notifier = notifier(bench.config.clone(), catalog(routes));
    let mut alert = dispatch(AlertKind::Bypassed, "x", &[]);
    assert_eq!(notifier.routes(&alert.alert), ["all", "bypasses"]);
    assert_eq!(notifier.routes(&dispatch(AlertKind::Active, "x", &[]).alert), ["all"]);
    notifier.deliver("taken-out", "a", &alert).await.unwrap();
    alert.at = alert.at.minus(Span::days(8));
    notifier.deliver("all", "a", &alert).await.unwrap();
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_test_alert_says_what_became_of_it() {
    let bench = Bench::new();
    let receiver = Receiver::plain().await;
    let notifier = bench.notifier(&format!("http://127.0.0.1:{}/secret-path", receiver.port));
    let told = notifier.send_test("siem", "anna").await.unwrap();
    assert_eq!(told[0].error, None);
    assert_eq!(told[0].to, format!("http://127.0.0.1:{}", receiver.port));
    let json: serde_json::Value = serde_json::from_slice(&receiver.received()[0].body).unwrap();
    assert_eq!(json["type"], "halligan.test");
    receiver.answers("500 Oh", "", "broken");
    let told = notifier.send_test("siem", "anna").await.unwrap();
    assert!(told[0].error.as_ref().unwrap().contains("broken"));
    assert!(notifier.send_test("sime", "anna").await.unwrap_err().to_string().contains("there are: siem"));
}
