//! The examples of `docs/alerts.md` do what the manual says.

use std::process::{Command, Stdio};

use halligan_control::clock::{Clock as _, SystemClock};
use halligan_control::effects::AlertSink as _;
use halligan_core::catalog::RouteTarget;
use halligan_core::effect::AlertKind;
use halligan_notify::NotifyConfig;

use crate::receiver::{Received, Receiver};
use crate::{SECRET, catalog, dispatch, notifier, route};

const MANUAL: &str = include_str!("../../../../docs/alerts.md");

/// The code block in this language that has `part` in it.
fn example(language: &str, part: &str) -> &'static str {
    MANUAL
        .split("\n```")
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .find(|block| block.contains(part))
        .unwrap()
}

fn run(program: &str, script: &str, received: &Received, folder: &std::path::Path) -> bool {
    let body = folder.join("body");
    std::fs::write(&body, &received.body).unwrap();
    let header = |name: &str| received.headers[name].clone();
    Command::new(program)
        .args(["-c", script])
        .args((program == "sh").then_some("check"))
        .args([SECRET, &header("webhook-id"), &header("webhook-timestamp"), &header("webhook-signature")])
        .arg(body)
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[tokio::test]
async fn both_checks_accept_what_is_genuine_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("siem.whsec");
    std::fs::write(&file, SECRET).unwrap();
    let receiver = Receiver::plain().await;
    let to = RouteTarget::Webhook {
        url: format!("http://127.0.0.1:{}/", receiver.port),
        secret: "siem".parse().unwrap(),
    };
    let mut config = NotifyConfig::default();
    config.webhook_secrets.insert("siem".parse().unwrap(), file);
    let notifier = notifier(config, catalog(vec![("siem", route(&[], to))]));
    notifier.deliver("siem", "a", &dispatch(AlertKind::Active, "open", &[])).await.unwrap();
    let genuine = receiver.received()[0].clone();
    let mut forged = genuine.clone();
    forged.body[3] ^= 1;
    let mut old = genuine.clone();
    let then = SystemClock.now().micros() / 1_000_000 - 400;
    old.headers.insert("webhook-timestamp".to_owned(), then.to_string());

    let python = format!(
        "{}\nimport sys\nnames = ('webhook-id', 'webhook-timestamp', 'webhook-signature')\n\
         check(sys.argv[1], dict(zip(names, sys.argv[2:5])), open(sys.argv[5], 'rb').read())",
        example("python", "def check")
    );
    let shell = format!("{}\ncheck \"$@\"", example("sh", "check()"));
    for (program, script) in [("python3", python), ("sh", shell)] {
        assert!(run(program, &script, &genuine, folder.path()), "{program} refuses what is genuine");
        assert!(!run(program, &script, &forged, folder.path()), "{program} accepts what is forged");
        assert!(!run(program, &script, &old, folder.path()), "{program} accepts what is old");
    }
}

#[test]
fn the_configuration_and_the_routes_can_be_read() {
    let config: NotifyConfig = toml::from_str(example("toml", "[smtp]")).unwrap();
    assert_eq!(config.smtp.unwrap().port, 587);
    let all = example("toml", "[smtp]").replace("# webhook_roots", "webhook_roots").replace("# give", "give");
    assert!(toml::from_str::<NotifyConfig>(&all.replace("# root_file", "root_file")).is_ok());
    for kind in ["emergency-requested", "playback", "widened", "unauthorised-attempt", "before-deadline"] {
        assert!(MANUAL.contains(&format!("`{kind}`")), "{kind}");
    }
}
