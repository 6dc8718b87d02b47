//! `halligan doctor`: every part of the way from here to a session, with the next step where something is wrong.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use halligan_client::types::{Listener, NodeStatus, StatusView};
use halligan_client::{Client, look_at_certificate};
use halligan_core::time::{Span, Time};
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::desk::Desk;
use super::ssh::{host_key_line, split_address};
use crate::output::{Look, Tone, printable, roughly};
use crate::profile::{KnownBy, Profile};
use crate::server::postgres_listener::POSTGRES;

/// Clocks further apart than this make one-time codes and certificates fail.
const OFFSET_FAILS: Span = Span::seconds(25);
/// Clocks further apart than this are worth a look.
const OFFSET_WARNS: Span = Span::seconds(3);
/// A certificate that ends sooner is worth a look.
const CERTIFICATE_WARNS: Span = Span::days(21);
/// What waits longer to be done is worth a look.
const WAITING_WARNS: Span = Span::minutes(1);
/// Checkpoints come at least once a second; leaves that wait longer are worth a look.
const UNSIGNED_WARNS: Span = Span::seconds(15);
/// Less room is worth a look.
const ROOM_WARNS: u64 = 1 << 30;
/// A gateway answers within this time.
const GATEWAY_WITHIN: Duration = Duration::from_secs(3);

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One part of the way.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    state: State,
    detail: String,
    next: Option<String>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &str, detail: impl Into<String>) {
        self.0.push(Finding { check: check.to_owned(), state: State::Ok, detail: detail.into(), next: None });
    }
    fn warn(&mut self, check: &str, detail: impl Into<String>, next: impl Into<String>) {
        self.add(State::Warn, check, detail, next);
    }
    fn fail(&mut self, check: &str, detail: impl Into<String>, next: impl Into<String>) {
        self.add(State::Fail, check, detail, next);
    }
    fn add(&mut self, state: State, check: &str, detail: impl Into<String>, next: impl Into<String>) {
        let next = Some(next.into());
        self.0.push(Finding { check: check.to_owned(), state, detail: detail.into(), next });
    }
}

/// Looks at every part of the way from here to a session, and says what to do where something is wrong.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Sends a test alert over this route of the catalog and says what each receiver did; over all routes if none is named.
    #[arg(long, value_name = "ROUTE", num_args = 0..=1, default_missing_value = "")]
    send_test_alert: Option<String>,
}

impl Doctor {
    /// Carries it out. Exit code 1 if anything fails.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        match self.send_test_alert.as_deref() {
            Some(route) => test_alerts(desk, Some(route).filter(|route| !route.is_empty())).await,
            None => look(desk).await,
        }
    }
}

async fn test_alerts(desk: &Desk, route: Option<&str>) -> anyhow::Result<ExitCode> {
    let client = desk.client()?;
    let tested =
        desk.waiting("sending", client.test_alerts(route)).await.context("failed to send a test alert")?;
    let mut findings = Findings::default();
    if tested.is_empty() {
        findings.fail("alerts", "the catalog has no routes", "add `routes` to the catalog: docs/alerts.md");
    }
    for one in &tested {
        let check = format!("route {}", one.route);
        let to = one.to.as_deref().unwrap_or("nobody");
        match &one.error {
            None => findings.ok(&check, format!("{to} took it")),
            Some(why) => {
                findings.fail(&check, format!("{to}: {why}"), "docs/alerts.md says how alerts are set up")
            }
        }
    }
    print(desk, &findings)
}

fn print(desk: &Desk, findings: &Findings) -> anyhow::Result<ExitCode> {
    let failed = findings.0.iter().any(|finding| finding.state == State::Fail);
    desk.print(&findings.0, |look| text(look, &findings.0))?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn look(desk: &Desk) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::default();
    ssh_client(&mut findings);
    match desk.home.load() {
        Err(error) => findings.fail("profile", format!("{error:#}"), "halligan login"),
        Ok(None) => {
            findings.fail("profile", "nobody has signed in here", "halligan login --server URL --name NAME")
        }
        Ok(Some(profile)) => {
            let who = profile.person.as_ref().map_or("nobody".to_owned(), ToString::to_string);
            findings.ok("profile", format!("{who} at {}", profile.server));
            desk.waiting("looking at every part", all(desk, &profile, &mut findings)).await;
        }
    }
    print(desk, &findings)
}

fn text(look: &Look, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (tone, state) = match finding.state {
            State::Ok => (Tone::Good, "ok  "),
            State::Warn => (Tone::Warn, "warn"),
            State::Fail => (Tone::Bad, "FAIL"),
        };
        let detail = printable(&finding.detail);
        text.push_str(&format!("{}  {}: {detail}\n", look.paint(tone, state), finding.check));
        if let Some(next) = &finding.next {
            text.push_str(&format!("      next: {}\n", printable(next)));
        }
    }
    text
}

async fn all(desk: &Desk, profile: &Profile, findings: &mut Findings) {
    certificate(desk, profile, findings).await;
    match profile.client() {
        Err(error) => findings.fail("server", format!("{error:#}"), "halligan login --server URL"),
        Ok(client) => server(desk, profile, client, findings).await,
    }
    ssh_key(desk, profile, findings);
    if profile.gateways.is_empty() {
        findings.warn(
            "gateways",
            "none is known, so `halligan ssh` has nowhere to go",
            "halligan login asks the server for them; it knows none? set gateway.public_address in the gateway's configuration",
        );
    }
    for gateway in &profile.gateways {
        let check = format!("gateway {}", printable(&gateway.name));
        if let Some(at) = gateway.ssh() {
            self::gateway(&check, &at.address, &at.host_keys, findings).await;
        }
        if let Some(at) = gateway.listeners.get(POSTGRES) {
            databases(&format!("{check}, databases"), at, findings).await;
        }
    }
}

/// Whether a gateway takes clients of databases, and is known by its certificate.
async fn databases(check: &str, at: &Listener, findings: &mut Findings) {
    let (address, next) = (printable(&at.address), "is it running, and no firewall between?");
    match timeout(GATEWAY_WITHIN, TcpStream::connect(&at.address)).await {
        Err(_) => findings.fail(check, format!("{address} does not answer"), next),
        Ok(Err(error)) => findings.fail(check, format!("{address}: {error}"), next),
        Ok(Ok(_)) if at.host_keys.is_empty() => findings.warn(
            check,
            format!("{address} answers, and its certificate is not known here"),
            "sign in again with `halligan login`; `halligan password` and a tool of your own work without",
        ),
        Ok(Ok(_)) => findings.ok(check, format!("{address} answers; its certificate is pinned")),
    }
}

async fn certificate(desk: &Desk, profile: &Profile, findings: &mut Findings) {
    let check = "server's certificate";
    let shown = match look_at_certificate(&profile.server).await {
        Ok(Some(shown)) => shown,
        Ok(None) => return findings.ok(check, "none: plain HTTP on this machine"),
        Err(error) => {
            return findings.fail(check, chain(&error), "is the server running, and the address right?");
        }
    };
    let print = shown.print().to_string();
    match &profile.trust {
        KnownBy::Certificate { sha256 } if *sha256 == print => findings.ok(check, format!("pinned, {print}")),
        KnownBy::Certificate { sha256 } => findings.fail(
            check,
            format!("it shows {print}, pinned is {sha256}"),
            "ask your administrator; if it was changed on purpose: halligan login --trust SHA256",
        ),
        KnownBy::Authority { .. } => findings.ok(check, "known by your own authority"),
        KnownBy::System => findings.ok(check, "known by this machine's authorities"),
    }
    match x509_parser::parse_x509_certificate(&shown.der) {
        Ok((_, parsed)) => {
            let until = Time::from_micros(parsed.validity().not_after.timestamp().saturating_mul(1_000_000));
            let text = format!("ends {}", desk.look.when(until));
            if until <= desk.look.now {
                findings.fail("certificate's end", text, "renew the server's certificate");
            } else if until.since(desk.look.now) < CERTIFICATE_WARNS {
                findings.warn("certificate's end", text, "renew the server's certificate soon");
            } else {
                findings.ok("certificate's end", text);
            }
        }
        Err(_) => findings.warn("certificate's end", "it cannot be read", "look at it with openssl s_client"),
    }
}

async fn server(desk: &Desk, profile: &Profile, client: Client, findings: &mut Findings) {
    let before = crate::output::now();
    match client.ready().await {
        Ok(ready) => {
            let text = format!(
                "version {}, catalog {}, {} leaves",
                printable(&ready.version),
                ready.catalog,
                ready.ledger_size
            );
            if !ready.ready {
                findings.fail("server", text, "it takes no work: look into its log");
            } else if ready.version == env!("CARGO_PKG_VERSION") {
                findings.ok("server", text);
            } else {
                findings.warn(
                    "server",
                    format!("{text}; this is {}", env!("CARGO_PKG_VERSION")),
                    "use the same version on both ends",
                );
            }
        }
        Err(error) => {
            let next = "is the server running, and the network up? Open grants go on without it";
            return findings.fail("server", chain(&error), next);
        }
    }
    clock(&client, before, findings);
    if let Some(note) = client.last_checkpoint() {
        let size = note.lines().nth(1).unwrap_or("?").to_owned();
        findings.ok("checkpoint", format!("of {} leaves", printable(&size)));
    } else {
        match client.checkpoint().await {
            Ok(note) => {
                let size = note.lines().nth(1).unwrap_or("?").to_owned();
                findings.ok("checkpoint", format!("of {} leaves", printable(&size)));
            }
            Err(error) => {
                findings.warn("checkpoint", chain(&error), "the sequencer may stand still: look into the log")
            }
        }
    }
    let Some(token) = profile.token.clone() else {
        return findings.fail("sign-in", "you are signed out", "halligan login");
    };
    let client = client.with_token(token);
    match client.me().await {
        Ok(me) => {
            let ends = me.sign_in.expires_at;
            let text = format!("{}, ends {}", me.person, desk.look.when(ends));
            if ends.since(desk.look.now) < Span::minutes(15) {
                findings.warn("sign-in", text, "halligan login");
            } else {
                findings.ok("sign-in", text);
            }
            if me.totp_enrolled_at.is_none() {
                findings.warn("authenticator", "none is enrolled", "ask an administrator for an enrolment");
            }
            if me.single_administrator {
                findings.warn(
                    "administrators",
                    "only one can sign in: nobody confirms their changes",
                    "halligan people invite NAME",
                );
            }
        }
        Err(error) => findings.fail("sign-in", chain(&error), "halligan login"),
    }
    // Only those who look after Halligan may see it.
    if let Ok(status) = client.status().await {
        installation(desk, &status, findings);
    }
}

/// What waits, whether alerts can leave, and how the nodes are.
fn installation(desk: &Desk, status: &StatusView, findings: &mut Findings) {
    let waiting = format!("{} waiting, the oldest for {}", status.outbox, roughly(status.outbox_age));
    if status.outbox_age > WAITING_WARNS {
        let next = "a receiver or a node does not take them: see the server's log, and `halligan doctor --send-test-alert`";
        findings.warn("effects and alerts", waiting, next);
    } else {
        findings.ok("effects and alerts", waiting);
    }
    for problem in &status.alert_problems {
        findings.warn("alerts", problem.clone(), "docs/alerts.md says how alerts are set up");
    }
    if status.alerts_unrouted > 0 {
        let text = format!("{} since the server started that nobody was told of", status.alerts_unrouted);
        findings.warn("alerts", text, "docs/alerts.md says how alerts are set up");
    }
    let unsigned = format!(
        "{} leaves wait for the next, the oldest for {}",
        status.unsigned_leaves,
        roughly(status.unsigned_age)
    );
    if status.unsigned_age > UNSIGNED_WARNS {
        findings.warn("signing", unsigned, "the sequencer stands still: look into the server's log");
    } else {
        findings.ok("signing", unsigned);
    }
    room("the server's disk", status.disk_free, findings);
    if status.clock_is_bad {
        let text = "the server's is more than two seconds off its database's: it decides nothing";
        findings.fail("clocks", text, "set the clocks, for instance by NTP");
    }
    for node in &status.nodes {
        one_node(desk, node, findings);
    }
}

fn one_node(desk: &Desk, node: &NodeStatus, findings: &mut Findings) {
    let check = format!("{} {}", printable(&node.role), node.name);
    let Some(said) = &node.answer else {
        let heard = node.last_contact.map_or_else(
            || "since the server started".to_owned(),
            |at| format!("since {}", desk.look.when(at)),
        );
        let text = match node.connected {
            true => "connected, and does not answer".to_owned(),
            false => format!("not connected, not heard {heard}"),
        };
        return findings.warn(&check, text, "look at its machine; `halligan nodes list` shows all");
    };
    let ahead = said.clock_offset_micros;
    let offset = Span::micros(ahead.abs());
    let clock = format!(
        "clock {} {} the server's",
        if offset < Span::seconds(1) { format!("{} ms", ahead.abs() / 1000) } else { roughly(offset) },
        if ahead < 0 { "behind" } else { "ahead of" }
    );
    let text = format!(
        "version {}, {} leases, {} sessions, {} recordings to send, {clock}",
        printable(&said.version),
        said.leases,
        said.sessions,
        said.recordings_to_send
    );
    if offset >= OFFSET_WARNS {
        findings.warn(&check, text, "set its clock, for instance by NTP");
    } else {
        findings.ok(&check, text);
    }
    room(&format!("{check}: disk"), said.disk_free, findings);
    for warning in &said.warnings {
        findings.warn(&check, warning.clone(), "look at its machine");
    }
}

fn room(check: &str, free: u64, findings: &mut Findings) {
    let gib = free / (1 << 30);
    let text = if gib == 0 { format!("{} MiB free", free >> 20) } else { format!("{gib} GiB free") };
    if free < ROOM_WARNS {
        findings.warn(check, text, "make room: a gateway without room opens no session");
    } else {
        findings.ok(check, text);
    }
}

fn clock(client: &Client, before: Time, findings: &mut Findings) {
    let after = crate::output::now();
    let said = client.last_date().and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
    let Some(said) = said else {
        return findings.warn("clock", "the server does not say its time", "compare by hand");
    };
    // Said to the second, so it lies anywhere within that second.
    let said = Time::from_micros(said.timestamp().as_microsecond());
    let ahead = before.since(said.plus(Span::seconds(1)));
    let behind = said.since(after);
    let offset = if ahead > behind { ahead } else { behind };
    let text = format!(
        "this machine is {} {} the server",
        roughly(offset),
        if ahead > behind { "ahead of" } else { "behind" }
    );
    if offset >= OFFSET_FAILS {
        findings.fail("clock", text, "set the clock: codes and certificates fail otherwise");
    } else if offset >= OFFSET_WARNS {
        findings.warn("clock", text, "set the clock, for instance by NTP");
    } else {
        findings.ok("clock", "within 3 s of the server's");
    }
}

fn ssh_client(findings: &mut Findings) {
    match Command::new("ssh").arg("-V").output() {
        Ok(output) => {
            let version = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            match openssh_version(&version) {
                Some(found) if found < (7, 8) => {
                    findings.warn("ssh", version, "upgrade: certificates with Ed25519 keys need OpenSSH 7.8");
                }
                Some(_) => findings.ok("ssh", version),
                None => findings.warn(
                    "ssh",
                    format!("{version}: no OpenSSH"),
                    "plain logins may need other options",
                ),
            }
        }
        Err(error) => findings.fail("ssh", error.to_string(), "install the OpenSSH client"),
    }
}

/// `OpenSSH_9.6p1 …` → (9, 6).
fn openssh_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.trim().strip_prefix("OpenSSH_")?;
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn ssh_key(desk: &Desk, profile: &Profile, findings: &mut Findings) {
    use std::os::unix::fs::PermissionsExt as _;
    let key = desk.home.key();
    match std::fs::metadata(&key) {
        Err(_) => {
            return findings.fail("SSH key", format!("{} is not there", key.display()), "halligan login");
        }
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let text = format!("others can read {}", key.display());
            findings.fail("SSH key", text, format!("chmod 600 {}", key.display()));
        }
        Ok(_) => findings.ok("SSH key", key.display().to_string()),
    }
    match profile.certificate {
        None => findings.warn(
            "SSH certificate",
            "there is none",
            "halligan login, or register a key: halligan keys add",
        ),
        Some(times) if times.valid_until <= desk.look.now => {
            let text = format!("it ended {}", desk.look.when(times.valid_until));
            findings.fail("SSH certificate", text, "halligan login");
        }
        Some(times) => {
            findings.ok("SSH certificate", format!("ends {}", desk.look.when(times.valid_until)));
        }
    }
}

async fn gateway(check: &str, address: &str, host_keys: &[String], findings: &mut Findings) {
    let Some((host, port)) = split_address(address) else {
        return findings.fail(check, format!("{address} is no address"), "halligan login");
    };
    let greeting = timeout(GATEWAY_WITHIN, async {
        let mut stream = TcpStream::connect((host, port)).await?;
        let mut bytes = [0u8; 8];
        stream.read_exact(&mut bytes).await?;
        Ok::<_, std::io::Error>(bytes)
    })
    .await;
    match greeting {
        Ok(Ok(bytes)) if bytes.starts_with(b"SSH-2.0-") => findings.ok(check, format!("{address} answers")),
        Ok(Ok(_)) => {
            return findings.fail(check, format!("{address} does not speak SSH"), "is the port right?");
        }
        Ok(Err(error)) => {
            return findings.fail(
                check,
                format!("{address}: {error}"),
                "is it running, and no firewall between?",
            );
        }
        Err(_) => {
            return findings.fail(
                check,
                format!("{address} does not answer"),
                "is it running, and no firewall between?",
            );
        }
    }
    let name = format!("{check}: host key");
    if host_keys.iter().any(|key| key.starts_with("@cert-authority")) {
        return findings.ok(&name, "known by its authority");
    }
    let scanned = Command::new("ssh-keyscan")
        .args(["-T", "3", "-t", "ed25519", "-p", &port.to_string(), "--", host])
        .output();
    let shown: Vec<String> = match &scanned {
        Ok(output) => String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' ').and_then(|(_, key)| host_key_line(key)))
            .collect(),
        Err(_) => Vec::new(),
    };
    let pinned: Vec<String> = host_keys.iter().filter_map(|key| host_key_line(key)).collect();
    if shown.is_empty() {
        findings.warn(
            &name,
            "ssh-keyscan could not read it",
            "try again; `ssh` checks it at each login anyway",
        );
    } else if shown.iter().any(|key| pinned.contains(key)) {
        findings.ok(&name, "as pinned");
    } else {
        findings.fail(
            &name,
            "it shows another key than the one pinned",
            "do not go in; ask your administrator",
        );
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        text.push_str(": ");
        text.push_str(&found.to_string());
        cause = found.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_openssh_are_read() {
        assert_eq!(openssh_version("OpenSSH_9.6p1 Ubuntu-3ubuntu13, OpenSSL 3.0.13"), Some((9, 6)));
        assert_eq!(openssh_version("OpenSSH_10.0p2"), Some((10, 0)));
        assert_eq!(openssh_version("dropbear"), None);
    }

    #[test]
    fn findings_read_with_their_next_step() {
        let mut findings = Findings::default();
        findings.ok("server", "version 0.1.0");
        findings.warn("sign-in", "anna, until in 5m", "halligan login");
        findings.fail("gateway gw-1", "127.0.0.1:1: refused\u{1b}", "is it running?");
        let look = Look { width: Some(80), colour: false, now: Time::from_micros(0) };
        insta::assert_snapshot!(text(&look, &findings.0));
    }
}
