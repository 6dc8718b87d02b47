//! The stock clients against a real sshd: who gets in, who does not, and what the test can see and do.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use halligan_testkit::ssh_client::SshClient;
use halligan_testkit::ssh_keys::{Certificate, SshKey, revocation_list};
use halligan_testkit::sshd::TestSshd;

const PRINCIPAL: &str = "halligan:orders-host:halligan-app";
const SOON: Duration = Duration::from_secs(10);

/// A server that trusts one authority, and a person with a key.
struct World {
    folder: tempfile::TempDir,
    authority: SshKey,
    key: SshKey,
    sshd: TestSshd,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = SshKey::generate(folder.path(), "authority").unwrap();
        let key = SshKey::generate(folder.path(), "ada").unwrap();
        let sshd = TestSshd::builder()
            .trust_ca(&authority.public().unwrap())
            .principals("halligan-app", [PRINCIPAL])
            .principals("halligan-ops", ["halligan:orders-host:halligan-ops"])
            .revoked_keys()
            .max_startups("20")
            .login_grace_time(20)
            .start()
            .await
            .unwrap();
        Self { folder, authority, key, sshd }
    }

    fn client(&self, serial: u64, principal: &str, validity: &str) -> SshClient {
        let certificate =
            Certificate { principals: &[principal], serial, validity, ..Certificate::default() };
        let path = self.authority.certify(&self.key, &certificate).unwrap();
        self.bare_client().identity(&self.key).certificate(&path)
    }

    fn bare_client(&self) -> SshClient {
        SshClient::new()
            .unwrap()
            .trust_host(self.sshd.port(), &self.sshd.host_key_openssh().unwrap())
            .unwrap()
    }
}

#[tokio::test]
async fn a_certificate_opens_its_account_and_nothing_else_does() {
    let world = World::new().await;
    let port = world.sshd.port();
    let client = world.client(7, PRINCIPAL, "-1m:+5m");
    let run = client.ssh(port, "halligan-app", "id -un; echo oops >&2; exit 3").await.unwrap();
    assert_eq!((run.text().trim(), run.code), ("halligan-app", Some(3)), "{}", run.stderr);
    assert!(run.stderr.contains("oops") && run.duration > Duration::ZERO);
    world.sshd.wait_for_log("serial 7", SOON).await.unwrap();

    let other_account = client.ssh(port, "halligan-ops", "true").await.unwrap();
    assert_eq!(other_account.code, Some(255), "a certificate for one account opened another");
    let bare_name =
        world.client(8, "halligan-app", "-1m:+5m").ssh(port, "halligan-app", "true").await.unwrap();
    assert_eq!(bare_name.code, Some(255), "the bare account name is a principal");
    let other_host = world.client(9, "halligan:billing-host:halligan-app", "-1m:+5m");
    assert_eq!(other_host.ssh(port, "halligan-app", "true").await.unwrap().code, Some(255));
    let expired = world.client(10, PRINCIPAL, "-10m:-5m").ssh(port, "halligan-app", "true").await.unwrap();
    assert_eq!(expired.code, Some(255), "an expired certificate opened the door");
    let keyless = world.bare_client().ssh(port, "halligan-app", "true").await.unwrap();
    assert!(keyless.stderr.contains("Permission denied"), "{}", keyless.stderr);

    world.sshd.set_principals("halligan-ops", [PRINCIPAL]).unwrap();
    client.ssh(port, "halligan-ops", "true").await.unwrap().ok().unwrap();
}

#[tokio::test]
async fn an_unknown_host_key_is_not_trusted_and_a_host_certificate_is() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = SshKey::generate(folder.path(), "hosts").unwrap();
    let sshd = TestSshd::builder().host_certificate(&hosts, &["127.0.0.1"]).start().await.unwrap();
    let stranger = SshClient::new().unwrap().ssh(sshd.port(), "halligan-app", "true").await.unwrap();
    assert!(stranger.stderr.contains("Host key verification failed"), "{}", stranger.stderr);
    let knowing = SshClient::new().unwrap().trust_host_ca(&hosts.public().unwrap()).unwrap();
    let refused = knowing.ssh(sshd.port(), "halligan-app", "true").await.unwrap();
    assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_revoked_serial_is_refused_and_a_missing_list_refuses_all() {
    let world = World::new().await;
    let port = world.sshd.port();
    let (first, second) = (world.client(1, PRINCIPAL, "-1m:+5m"), world.client(2, PRINCIPAL, "-1m:+5m"));
    first.ssh(port, "halligan-app", "true").await.unwrap().ok().unwrap();
    world.sshd.set_krl(&revocation_list(Some(&world.authority), &["serial: 1"]).unwrap()).unwrap();
    assert_eq!(first.ssh(port, "halligan-app", "true").await.unwrap().code, Some(255));
    world.sshd.wait_for_log("revoked", SOON).await.unwrap();
    second.ssh(port, "halligan-app", "true").await.unwrap().ok().unwrap();
    world.sshd.remove_krl().unwrap();
    assert_eq!(second.ssh(port, "halligan-app", "true").await.unwrap().code, Some(255));
}

#[tokio::test]
async fn files_go_both_ways_by_scp_and_sftp() {
    let world = World::new().await;
    let port = world.sshd.port();
    let client = world.client(3, PRINCIPAL, "-1m:+5m");
    let local = world.folder.path().join("report.txt");
    let back = world.folder.path().join("back.txt");
    let remote = format!("/tmp/halligan-testkit-{}", std::process::id());
    let content: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    std::fs::write(&local, &content).unwrap();
    for old in [&[][..], &["-O"][..]] {
        let to = format!("remote:{remote}");
        let up =
            client.scp_with_arguments(port, "halligan-app", old, local.to_str().unwrap(), &to).await.unwrap();
        up.ok().unwrap();
        let down =
            client.scp_with_arguments(port, "halligan-app", old, &to, back.to_str().unwrap()).await.unwrap();
        down.ok().unwrap();
        assert_eq!(std::fs::read_to_string(&back).unwrap(), content);
    }
    let batch = format!("rename {remote} {remote}.2\nget {remote}.2 {}\nrm {remote}.2\n", back.display());
    client.sftp(port, "halligan-app", &batch).await.unwrap().ok().unwrap();
    let gone = client.sftp(port, "halligan-app", &format!("get {remote}.2\n")).await.unwrap();
    assert!(!gone.success(), "sftp found a file that was removed");
    let echoed = client.ssh_with_input(port, "halligan-app", "sha256sum", content.as_bytes()).await.unwrap();
    assert_eq!(echoed.text().split_whitespace().next().unwrap().len(), 64);
}

#[tokio::test]
async fn a_terminal_is_typed_on_and_dies_with_the_server() {
    let mut world = World::new().await;
    let client = world.client(4, PRINCIPAL, "-1m:+5m");
    let mut terminal = client.terminal(world.sshd.port(), "halligan-app", "").unwrap();
    terminal.send(b"tty; echo $((6 * 7))-answer\n").await.unwrap();
    terminal.wait_for("/dev/pts/", SOON).await.unwrap();
    terminal.wait_for("42-answer", SOON).await.unwrap();
    terminal.send(b"exit 5\n").await.unwrap();
    assert_eq!(terminal.ended().await.unwrap().code, Some(5));

    let mut terminal = client.terminal(world.sshd.port(), "halligan-app", "").unwrap();
    terminal.send(b"echo is-$((1 + 1))\n").await.unwrap();
    terminal.wait_for("is-2", SOON).await.unwrap();
    world.sshd.stop();
    let run = terminal.ended().await.unwrap();
    assert!(!run.success() && run.duration < Duration::from_secs(25), "{run:?}");
    assert_eq!(client.ssh(world.sshd.port(), "halligan-app", "true").await.unwrap().code, Some(255));
    world.sshd.restart().await.unwrap();
    client.ssh(world.sshd.port(), "halligan-app", "true").await.unwrap().ok().unwrap();
    world.sshd.reload().await.unwrap();
    client.ssh(world.sshd.port(), "halligan-app", "true").await.unwrap().ok().unwrap();
}

/// sshd itself answers prompts only with PAM, or with the password of an account: that is enough to see
/// that the answers reach it.
#[tokio::test]
async fn answers_reach_the_prompt() {
    let sshd = TestSshd::builder()
        .option("PasswordAuthentication", "yes")
        .principals("halligan-app", [PRINCIPAL])
        .start()
        .await
        .unwrap();
    let client = SshClient::new()
        .unwrap()
        .trust_host(sshd.port(), &sshd.host_key_openssh().unwrap())
        .unwrap()
        .answers(&["open sesame"])
        .unwrap();
    let run = client.ssh(sshd.port(), "halligan-app", "true").await.unwrap();
    assert_eq!(run.code, Some(255));
    assert!(client.prompts().contains("password:"), "{:?} {}", client.prompts(), run.stderr);
    sshd.wait_for_log("Failed password for halligan-app", SOON).await.unwrap();
}
