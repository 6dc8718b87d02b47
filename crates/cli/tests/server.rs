//! The program itself, as an operator runs it: started, asked, stopped, killed, and as three processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its stage fails")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use halligan_testkit::process::Child;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

fn halligan() -> Command {
    Command::new(env!("CARGO_BIN_EXE_halligan"))
}

fn run(args: &[&str]) -> Output {
    halligan().args(args).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A server on loopback, in a folder of its own.
struct Server {
    _base: tempfile::TempDir,
    logs: PathBuf,
    folder: PathBuf,
    child: Child,
}

impl Server {
    async fn start() -> Self {
        let base = tempfile::tempdir().unwrap();
        let (logs, folder) = (base.path().to_owned(), base.path().join("state"));
        let child = Self::spawn(&folder, &logs).await;
        Self { _base: base, logs, folder, child }
    }

    async fn spawn(folder: &Path, logs: &Path) -> Child {
        let mut command = halligan();
        command.args([
            "server",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--ssh-listen",
            "127.0.0.1:0",
            "--log",
            "json",
        ]);
        command.arg("--folder").arg(folder);
        // What an earlier start said must not be taken for this one's word.
        let _ = fs::remove_file(logs.join("server.err"));
        let mut child = Child::start("server", &mut command, logs).unwrap();
        child.wait_for_line("\"ready\"", SOON).await.unwrap();
        child
    }

    async fn again(&mut self) {
        self.child = Self::spawn(&self.folder, &self.logs).await;
    }

    fn ask(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--folder", text(&self.folder), "-o", "json"]);
        let output = run(&all);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn connected(status: &Value) -> Vec<String> {
    let nodes = status["nodes"].as_array().unwrap().iter();
    nodes
        .filter(|node| node["connected"] == true)
        .map(|node| node["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn one_process_starts_private_says_how_it_is_and_stops_in_order() {
    let mut server = Server::start().await;
    let enrolment = server.folder.join("first-enrolment");
    assert_eq!(fs::metadata(&enrolment).unwrap().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&enrolment).unwrap();
    assert!(secret.trim().len() >= 26, "128 bits at least");
    assert!(!server.child.stderr().contains(secret.trim()), "the secret is not logged");
    for name in
        ["auditor.key", "admin.sock", "addresses.json", "control/ledger_key", "gateway/ssh_host_ed25519_key"]
    {
        let mode = fs::metadata(server.folder.join(name)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name} has mode {mode:o}");
    }
    assert_eq!(fs::metadata(server.folder.join("control")).unwrap().mode() & 0o777, 0o700);
    // Nobody dumps its memory.
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");

    let status = server.ask(&["server", "status"]);
    assert_eq!(connected(&status), ["con-1", "gw-1"]);
    assert!(status["addresses"]["site_ca"].as_str().unwrap().starts_with("ssh-ed25519 "));
    until("all leaves are signed", || {
        let status = server.ask(&["server", "status"]);
        status["leaves"].as_u64() == status["signed"].as_u64()
    })
    .await;
    // A second one cannot run on the same folder.
    let second = run(&["server", "--dev", "--folder", text(&server.folder)]);
    assert!(!second.status.success() && said(&second).contains("another halligan runs"), "{}", said(&second));
    let setup = run(&["connector", "setup", "orders", "root", "--folder", text(&server.folder)]);
    assert!(said(&setup).contains("halligan:orders:root"), "{}", said(&setup));

    let began = Instant::now();
    server.child.terminate().unwrap();
    let status = server.child.wait(Duration::from_secs(10)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.child.stderr());
    assert!(began.elapsed() < Duration::from_secs(5), "nobody was connected: nothing to wait for");
    assert!(!server.folder.join("admin.sock").exists());
    let gone = run(&["server", "status", "--folder", text(&server.folder)]);
    assert!(said(&gone).contains("is it running"), "{}", said(&gone));
}

#[tokio::test]
async fn a_killed_server_starts_again_with_what_it_had() {
    let mut server = Server::start().await;
    let before = server.ask(&["server", "status"]);
    server.child.kill().unwrap();
    server.again().await;
    let after = server.ask(&["server", "status"]);
    assert!(after["leaves"].as_u64() >= before["leaves"].as_u64(), "{before} {after}");
    assert_eq!(before["addresses"]["ssh_host_key"], after["addresses"]["ssh_host_key"]);
    assert_eq!(before["addresses"]["site_ca"], after["addresses"]["site_ca"]);
    until("both roles are linked again", || connected(&server.ask(&["server", "status"])).len() == 2).await;
    // Asked twice, it does not wait.
    server.child.terminate().unwrap();
    let _ = server.child.terminate();
    assert!(server.child.wait(Duration::from_secs(10)).await.unwrap().success());
}

#[tokio::test]
async fn a_client_that_lingers_gets_the_drain_time_unless_asked_twice() {
    let mut server = Server::start().await;
    let ssh = server.ask(&["server", "status"])["addresses"]["ssh"].as_str().unwrap().to_owned();
    // Connected and not signed in: it may stay for the drain time, ten seconds.
    let lingering = std::net::TcpStream::connect(&ssh).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.child.terminate().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.child.exit().is_none(), "it waits");
    assert!(std::net::TcpStream::connect(&ssh).is_err(), "nobody new comes in");
    let asked = Instant::now();
    server.child.terminate().unwrap();
    assert_eq!(server.child.wait(SOON).await.unwrap().code(), Some(0), "{}", server.child.tail());
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    drop(lingering);
}

#[tokio::test]
async fn a_server_whose_log_nobody_reads_any_more_goes_on_and_stops_in_order() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("state");
    for form in ["json", "text"] {
        let mut command = halligan();
        command.args([
            "server",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--ssh-listen",
            "127.0.0.1:0",
            "--log",
            form,
        ]);
        command.arg("--folder").arg(&folder).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stderr.take());
        until("it is there", || {
            let status = run(&["server", "status", "--folder", text(&folder), "-o", "json"]);
            serde_json::from_slice(&status.stdout).is_ok_and(|status: Value| connected(&status).len() == 2)
        })
        .await;
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let mut ended = None;
        until("it stops", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        assert_eq!(ended.unwrap().code(), Some(0), "with --log {form}");
    }
}

#[tokio::test]
async fn folders_that_others_reach_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("state");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let output = run(&["server", "--dev", "--folder", text(&folder)]);
    assert!(!output.status.success());
    assert!(said(&output).contains("chmod 700"), "{}", said(&output));
}

#[tokio::test]
async fn a_store_that_went_back_in_time_is_noticed_and_recovered_by_two() {
    let mut server = Server::start().await;
    let copy = server.logs.join("copy.db");
    let made = server.ask(&["backup", "--to", text(&copy)]);
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
    let held = made["leaves"].as_u64().unwrap();
    // A restart writes more: the enrolment of a first start.
    server.child.terminate().unwrap();
    server.child.wait(SOON).await.unwrap();
    server.again().await;
    until("later leaves are signed", || {
        server.ask(&["server", "status"])["signed"].as_u64().is_some_and(|signed| signed > held)
    })
    .await;
    server.child.terminate().unwrap();
    server.child.wait(SOON).await.unwrap();

    let store = server.folder.join("control/store.db");
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(server.folder.join(format!("control/store.db{ending}")));
    }
    fs::copy(&copy, &store).unwrap();
    let start = run(&["server", "--dev", "--listen", "127.0.0.1:0", "--folder", text(&server.folder)]);
    assert!(!start.status.success());
    assert!(
        said(&start).contains("gone back in time") && said(&start).contains("ledger recover"),
        "{}",
        said(&start)
    );

    let recover = |lines: &str| {
        let answers = server.logs.join("answers");
        fs::write(&answers, lines).unwrap();
        halligan()
            .args(["ledger", "recover", "--folder", text(&server.folder), "--config"])
            .arg(dev_config(&server.logs))
            .stdin(fs::File::open(&answers).unwrap())
            .output()
            .unwrap()
    };
    // The catalog of a first start has one administrator: alone they cannot.
    let alone = recover("admin\nadmin\nthe disk was replaced\n");
    assert!(!alone.status.success() && said(&alone).contains("two people"), "{}", said(&alone));
    let stranger = recover("admin\nmallory\nthe disk was replaced\n");
    assert!(
        !stranger.status.success() && said(&stranger).contains("no administrator"),
        "{}",
        said(&stranger)
    );
}

/// What `--dev` sets and `ledger recover` must know: the ledger's name.
fn dev_config(folder: &Path) -> PathBuf {
    let path = folder.join("recover.toml");
    fs::write(&path, "[ledger]\norigin = \"localhost/halligan/dev\"\n").unwrap();
    path
}

#[test]
fn the_configuration_is_checked_and_shown() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("halligan.toml");
    fs::write(&path, "[server]\nlisten = \"127.0.0.1:7443\"\n\n[gateway]\nlisen = \"0.0.0.0:22\"\n").unwrap();
    let output = run(&["config", "check", "--config", text(&path)]);
    assert!(!output.status.success());
    let out = said(&output);
    assert!(out.contains("halligan.toml:5:1") && out.contains("unknown key `lisen`"), "{out}");
    assert!(out.contains("did you mean `listen`?"), "{out}");

    fs::write(&path, "[server]\nlisten = \"127.0.0.1:7443\"\n").unwrap();
    let output = run(&["config", "check", "--config", text(&path), "-o", "json"]);
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |key: &str| rows.as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone();
    assert!(row("server.listen")["origin"].as_str().unwrap().ends_with("halligan.toml:2"));
    assert_eq!(row("limits.sessions")["origin"], "default");
    let schema: Value = serde_json::from_slice(&run(&["config", "schema"]).stdout).unwrap();
    assert!(schema["properties"]["gateway"].is_object(), "{schema}");
}

/// A server on HTTPS with an own certificate that is replaced while it runs.
#[tokio::test]
async fn the_certificate_is_read_again_on_hangup() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let make = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(at("cert.pem"), made.cert.pem()).unwrap();
        fs::write(at("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    };
    let first = make();
    let config = at("halligan.toml");
    let text_of = "[server]\nfolder = \"state\"\nlisten = \"127.0.0.1:0\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n\
                   [server.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n";
    fs::write(&config, text_of).unwrap();
    let mut command = halligan();
    command.args(["server", "--log", "json", "--config"]).arg(&config);
    let mut server = Child::start("server", &mut command, base.path()).unwrap();
    server.wait_for_line("\"ready\"", SOON).await.unwrap();
    let addresses: Value = serde_json::from_slice(&fs::read(at("state/addresses.json")).unwrap()).unwrap();
    let url = addresses["api"].as_str().unwrap().to_owned();
    let ready = async |pem: &str| {
        let trusted = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([trusted]).timeout(SOON).build().unwrap();
        client.get(format!("{url}/api/v1/ready")).send().await.map(|answer| answer.status().as_u16())
    };
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    assert_eq!(ready(&first).await.unwrap(), 200);
    // A certificate that cannot be used changes nothing.
    fs::write(at("cert.pem"), "no certificate").unwrap();
    server.hang_up().unwrap();
    server.wait_for_line("certificate in use is kept", SOON).await.unwrap();
    assert_eq!(ready(&first).await.unwrap(), 200);
    let second = make();
    server.hang_up().unwrap();
    server.wait_for_line("the certificate was read again", SOON).await.unwrap();
    assert_eq!(ready(&second).await.unwrap(), 200);
    assert!(ready(&first).await.is_err(), "the old one is not shown any more");
    server.terminate().unwrap();
    assert!(server.wait(SOON).await.unwrap().success());
}

#[test]
fn manual_pages_completion_and_version() {
    let base = tempfile::tempdir().unwrap();
    assert!(run(&["man", text(base.path())]).status.success());
    assert!(base.path().join("halligan-server.1").is_file());
    assert!(said(&run(&["completion", "bash"])).contains("complete -F _halligan"));
    let version: Value = serde_json::from_slice(&run(&["version", "-o", "json"]).stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

/// A port for a listener that must be known before it is bound.
fn port() -> u16 {
    halligan_testkit::process::free_port().unwrap()
}

#[tokio::test]
async fn three_processes_join_and_are_linked_over_tls() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let (gateway_link, control_link) = (port(), port());
    let config = at("halligan.toml");
    let text_of = format!(
        "[server]\nfolder = \"control\"\nlisten = \"127.0.0.1:0\"\nplain_http = true\n\
         [gateway]\nenabled = false\nlisten = \"127.0.0.1:0\"\nlink_listen = \"127.0.0.1:{gateway_link}\"\n\
         [connector]\nenabled = false\n\
         [link]\nlisten = \"127.0.0.1:{control_link}\"\n\
         write_join_tokens = [\"gateway:gw-1@127.0.0.1:{gateway_link}\", \"connector:con-1\"]\n"
    );
    fs::write(&config, text_of).unwrap();
    let spawn = |name: &'static str, args: &[&str]| {
        let mut command = halligan();
        command.args(args).args(["--config", text(&config), "--log", "json"]);
        Child::start(name, &mut command, base.path()).unwrap()
    };
    let (gw, con) = (at("gw"), at("con"));
    let not_joined = run(&["gateway", "--folder", text(&gw)]);
    assert!(
        !not_joined.status.success() && said(&not_joined).contains("halligan node join"),
        "{}",
        said(&not_joined)
    );

    let mut control = spawn("control", &["server"]);
    control.wait_for_line("\"ready\"", SOON).await.unwrap();
    for (name, folder) in [("gw-1", &gw), ("con-1", &con)] {
        let token = at("control").join(format!("join-{name}.token"));
        assert_eq!(fs::metadata(&token).unwrap().mode() & 0o777, 0o600);
        let joined = run(&["node", "join", text(&token), "--folder", text(folder)]);
        assert!(joined.status.success(), "{}", said(&joined));
        // It works once.
        let other = at("other");
        let again = run(&["node", "join", text(&token), "--folder", text(&other)]);
        assert!(!again.status.success() && said(&again).contains("used before"), "{}", said(&again));
        fs::remove_dir_all(&other).unwrap();
    }
    let wrong_role = run(&["connector", "--folder", text(&gw), "--config", text(&config)]);
    assert!(!wrong_role.status.success(), "a gateway's folder is no connector's");

    let mut gateway = spawn("gateway", &["gateway", "--folder", text(&gw)]);
    let mut connector = spawn("connector", &["connector", "--folder", text(&con)]);
    gateway.wait_for_line("\"ready\"", SOON).await.unwrap();
    connector.wait_for_line("\"ready\"", SOON).await.unwrap();
    let status = |folder: &Path, verb: &[&str]| -> Value {
        let mut all = verb.to_vec();
        all.extend(["--folder", text(folder), "-o", "json"]);
        serde_json::from_slice(&run(&all).stdout).unwrap_or_default()
    };
    let of_control = || status(&at("control"), &["server", "status"]);
    until("both nodes are linked with control", || connected(&of_control()) == ["con-1", "gw-1"]).await;
    // The connector finds the gateway by the roster and is let in by it.
    until("the connector is linked with the gateway", || status(&gw, &["node", "status"])["connectors"] == 1)
        .await;

    // A killed gateway comes back; control is away in between.
    gateway.kill().unwrap();
    control.terminate().unwrap();
    assert!(control.wait(SOON).await.unwrap().success());
    let mut gateway = spawn("gateway-again", &["gateway", "--folder", text(&gw)]);
    gateway.wait_for_line("\"ready\"", SOON).await.unwrap();
    assert_eq!(status(&gw, &["node", "status"])["control"], false, "it starts without control");
    let mut control = spawn("control-again", &["server"]);
    control.wait_for_line("\"ready\"", SOON).await.unwrap();
    assert!(!at("control").join("join-gw-1.token").exists(), "who has joined needs no token");
    until("all are linked again", || connected(&of_control()) == ["con-1", "gw-1"]).await;
    until("the connector is linked again", || status(&gw, &["node", "status"])["connectors"] == 1).await;
    for child in [&mut gateway, &mut connector, &mut control] {
        child.terminate().unwrap();
        assert!(child.wait(SOON).await.unwrap().success(), "{}", child.tail());
    }
}
