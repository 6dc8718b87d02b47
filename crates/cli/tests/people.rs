//! What people type, against a running server: from the first enrolment to a request, and out again.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its stage fails"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use halligan_testkit::process::Child;
use halligan_testkit::totp::{STEP, code_at};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

fn halligan() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halligan"));
    command.stdin(Stdio::null()).env_remove("HALLIGAN_HOME").env_remove("XDG_CONFIG_HOME");
    command
}

/// A person at a machine of their own.
struct Person {
    home: PathBuf,
    name: &'static str,
    secret: String,
    last_step: u64,
}

impl Person {
    fn at(base: &Path, name: &'static str) -> Self {
        Self { home: base.join(name), name, secret: String::new(), last_step: 0 }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        halligan().env("HALLIGAN_HOME", &self.home).args(arguments).output().unwrap()
    }

    /// Succeeds and says this.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}\n{said}\n{complaint}");
        said
    }

    /// Succeeds and gives one JSON document.
    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        serde_json::from_str(&self.says(&all)).unwrap()
    }

    /// Fails with this exit code and says why.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{complaint}");
        complaint
    }

    /// The code of the earliest step that has not been used: a server takes one step of slack to either side.
    fn code(&mut self) -> String {
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / STEP;
            let step = (self.last_step + 1).max(now - 1);
            if step <= now + 1 {
                self.last_step = step;
                return code_at(&self.secret, step * STEP).unwrap();
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// From a secret to a signed-in person.
    fn arrives(&mut self, server: &str, secret_file: &Path) {
        let secret_file = secret_file.to_str().unwrap();
        let begun = self.json(&["enrol", "--server", server, "--secret-file", secret_file]);
        assert_eq!(begun["person"], self.name);
        self.secret = begun["secret"].as_str().unwrap().replace(' ', "");
        assert!(begun["otpauth"].as_str().unwrap().contains(&self.secret));
        let password = self.home.join("password");
        fs::write(&password, format!("{} stands on a very long ladder\n", self.name)).unwrap();
        let password = password.to_str().unwrap().to_owned();
        let code = self.code();
        let mut enrol = vec!["enrol", "--server", server, "--secret-file", secret_file];
        enrol.extend(["--totp", &code, "--password-file", &password]);
        assert_eq!(self.json(&enrol)["person"], self.name);
        let code = self.code();
        let said = self.says(&["login", "--name", self.name, "--totp", &code, "--password-file", &password]);
        assert!(said.contains(&format!("as {}", self.name)), "{said}");
        assert!(said.contains("SSH certificate ends in 8h"), "{said}");
        assert!(said.contains("client certificate for databases ends in 8h"), "{said}");
        self.has_a_client_certificate();
    }

    /// As the stock `openssl` reads it: whose it is, and of the key beside it, which is hers alone.
    fn has_a_client_certificate(&self) {
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(&self.home).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let said = openssl(&["x509", "-in", "client.crt", "-noout", "-subject", "-issuer"]);
        let lines: Vec<String> = said.lines().map(|line| line.replace(' ', "")).collect();
        assert_eq!(lines, [format!("subject=CN={}", self.name), "issuer=CN=Halliganlogin".to_owned()]);
        let of_certificate = openssl(&["x509", "-in", "client.crt", "-noout", "-pubkey"]);
        assert_eq!(of_certificate, openssl(&["pkey", "-in", "client.key", "-pubout"]));
        let mode = fs::metadata(self.home.join("client.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_enrolment_to_a_request_and_out_again() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("state");
    let mut command = halligan();
    command.args(["server", "--dev", "--listen", "127.0.0.1:0", "--ssh-listen", "127.0.0.1:0"]);
    command.args(["--log", "json", "--admin", "cleo", "--folder"]).arg(&folder);
    let mut server = Child::start("server", &mut command, base.path()).unwrap();
    server.wait_for_line("\"ready\"", SOON).await.unwrap();
    let addresses: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("addresses.json")).unwrap()).unwrap();
    let url = addresses["api"].as_str().unwrap();

    // Before anybody has signed in, every verb says what to do.
    let mut cleo = Person::at(base.path(), "cleo");
    let complaint = cleo.fails(1, &["whoami"]);
    assert!(complaint.starts_with("halligan: you have not signed in on this machine\nnext: "), "{complaint}");

    cleo.arrives(url, &folder.join("first-enrolment"));
    let mode = |name: &str| fs::metadata(cleo.home.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("profile.json"), mode("id_ed25519")), (0o600, 0o600));
    let me = cleo.json(&["whoami"]);
    assert_eq!((&me["person"], &me["single_administrator"]), (&Value::from("cleo"), &Value::from(true)));
    assert!(cleo.says(&["whoami"]).contains("Single administrator"));
    assert_eq!(cleo.json(&["sign-ins", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(cleo.says(&["tasks"]), "Nothing waits for you.\n");

    // The sample catalog, checked on files alone, explained, and put into force.
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/catalog");
    let checked = cleo.json(&["catalog", "check", sample]);
    assert_eq!(checked["passes"], true);
    assert!(!checked["way_in"]["rows"].as_array().unwrap().is_empty());
    let who = cleo.says(&["catalog", "explain", "shop-host/operate", "--folder", sample]);
    assert!(who.contains("anna"), "{who}");
    let plan = cleo.json(&["catalog", "diff", sample]);
    assert!(plan["changes"].as_array().unwrap().len() > 10);
    let code = cleo.code();
    let applied = cleo.json(&["catalog", "apply", sample, "--totp", &code]);
    assert_eq!(
        (&applied["version"], &applied["single_administrator"]),
        (&Value::from(2), &Value::from(true))
    );
    assert_eq!(cleo.says(&["catalog", "diff", sample]), "Nothing changes.\n");
    assert!(cleo.says(&["catalog", "show", "shop-host"]).contains("name: shop-host"));
    let used = cleo.fails(1, &["catalog", "apply", sample, "--totp", &code]);
    assert!(used.starts_with("halligan: failed to apply"), "a code works once: {used}");

    // A responder arrives with a secret that was made for her.
    let mut anna = Person::at(base.path(), "anna");
    fs::create_dir(&anna.home).unwrap();
    let secret = base.path().join("anna.secret");
    let invited = cleo.json(&["people", "invite", "anna", "--to", secret.to_str().unwrap()]);
    assert_eq!(invited["needs_confirmation"], false);
    anna.arrives(url, &secret);
    let askable = anna.says(&["catalog", "entitlements"]);
    assert!(askable.contains("shop-host/operate") && askable.contains('⚡'), "{askable}");
    assert!(anna.says(&["catalog", "scenarios"]).contains("critical-downtime"));

    // She asks; nobody has decided after the wait; she takes it back.
    let ask = ["request", "shop-host/operate", "--reason", "the shop is slow", "--for", "30m"];
    let filed = anna.run(&[&ask[..], &["--wait", "1s", "-o", "json"]].concat());
    let code = filed.status.code().unwrap();
    let filed: Value = serde_json::from_slice(&filed.stdout).unwrap();
    let request = &filed["items"][0]["request"]["request"];
    let id = request["id"].as_str().unwrap();
    assert_eq!((&request["state"], &request["reason"]), (&"pending".into(), &"the shop is slow".into()));
    // Nobody else is enrolled; whether that blocks it is the server's word, and 3 or 4 says which.
    assert!(code == 3 || code == 4, "{code}");
    assert!(anna.says(&["show", id]).contains("the shop is slow"));
    assert!(anna.says(&["requests", "list"]).contains(id));
    let complaint = anna.fails(1, &["approve", id, "--totp", "000000"]);
    assert!(complaint.starts_with(&format!("halligan: failed to approve {id}: ")), "{complaint}");
    assert!(anna.says(&["withdraw", id]).contains("withdrawn"));
    anna.fails(1, &["show", "nonsense"]);

    // An emergency needs its scenario's criteria; it is marked, and opens an incident.
    let mut emergency = vec!["request", "orders-host/observe", "--emergency", "--severity", "sev1"];
    emergency.extend(["--scenario", "db-locked", "--reason", "orders stand still", "--confirm-criteria"]);
    anna.fails(2, &["request", "orders-host/observe", "--emergency", "--reason", "x"]);
    let said = anna.says(&emergency);
    assert!(said.contains("⚡ orders-host/observe") && said.contains("INC-1"), "{said}");
    assert!(anna.says(&["incident", "list"]).contains("⚡ INC-1"));
    assert!(anna.says(&["show", "INC-1"]).contains("db-locked"));
    anna.fails(1, &["incident", "blockers", "INC-1"]);
    anna.says(&["incident", "note", "INC-1", "monitoring shows waiting statements"]);
    assert!(anna.says(&["incident", "show", "INC-1"]).contains("waiting statements"));

    // The way to a session: the server has said where the gateway is and by which key it is known.
    let (gateway, key) = (addresses["ssh"].as_str().unwrap(), addresses["ssh_host_key"].as_str().unwrap());
    let kept = fs::read_to_string(anna.home.join("known_hosts")).unwrap();
    let (host, port) = gateway.rsplit_once(':').unwrap();
    assert_eq!(kept, format!("[{host}]:{port} {key}\n"));
    let report = anna.json(&["doctor"]);
    let bad: Vec<&Value> =
        report.as_array().unwrap().iter().filter(|finding| finding["state"] == "fail").collect();
    assert!(bad.is_empty(), "{bad:?}");
    // How the installation is concerns those who look after it; to anna nothing of it is said.
    let seen =
        |report: &Value, check: &str| report.as_array().unwrap().iter().any(|one| one["check"] == check);
    assert!(!seen(&report, "signing"), "{report}");
    let installation = cleo.json(&["doctor"]);
    for check in
        ["effects and alerts", "signing", "the server's disk", "gateway gw-1: disk", "connector con-1"]
    {
        assert!(seen(&installation, check), "{check}: {installation}");
    }
    let node = installation.as_array().unwrap().iter().find(|one| one["check"] == "connector con-1").unwrap();
    assert_eq!(node["state"], "ok", "{node}");
    assert!(node["detail"].as_str().unwrap().contains(" ms "), "{node}");
    // The sample's routes have neither mail server nor secrets here: one word of it each, and a test says the same.
    let alerts = installation.as_array().unwrap().iter().find(|one| one["check"] == "alerts").unwrap();
    assert_eq!(alerts["state"], "warn", "{alerts}");
    let tested = cleo.run(&["doctor", "--send-test-alert"]);
    assert_eq!(tested.status.code(), Some(1), "{tested:?}");
    assert!(String::from_utf8_lossy(&tested.stdout).contains("FAIL  route "), "{tested:?}");
    assert!(anna.fails(1, &["doctor", "--send-test-alert"]).contains("office"));
    assert!(anna.says(&["ssh-config"]).contains("StrictHostKeyChecking yes"));
    // Without a grant the gateway refuses the stock client, politely and at once.
    let refused = anna.run(&["ssh", "shop-host/operate", "true"]);
    assert_ne!(refused.status.code(), Some(0));
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("no active grant"), "{refused}");
    assert!(!refused.contains("Host key verification failed"), "{refused}");
    // What she pins by hand goes before the server's word, until she pins otherwise.
    let (code, password) = (anna.code(), anna.home.join("password"));
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let mut login = vec!["login", "--totp", &code, "--password-file", password.to_str().unwrap()];
    login.extend(["--gateway", gateway, "--gateway-key", other]);
    anna.says(&login);
    assert_eq!(
        fs::read_to_string(anna.home.join("known_hosts")).unwrap(),
        format!("[{host}]:{port} {other}\n")
    );
    let refused = anna.run(&["ssh", "shop-host/operate", "true"]);
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("Host key verification failed"), "{refused}");

    anna.says(&["logout"]);
    assert!(anna.fails(1, &["whoami"]).contains("next: sign in with `halligan login`"));
    assert!(!anna.home.join("id_ed25519-cert.pub").exists() && !anna.home.join("client.crt").exists());

    // The server is gone: what is at hand leads to the gateway still (which is gone with it here, so ssh says so).
    server.kill().unwrap();
    let away = cleo.run(&["ssh", "shop-host/operate", "true"]);
    let away = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(away.contains("going on with the key and certificate at hand"), "{away}");
    assert!(away.contains(&format!("port {port}: Connection refused")), "{away}");
}
