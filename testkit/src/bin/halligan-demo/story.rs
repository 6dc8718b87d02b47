//! The story: what people do, in order, and what must be refused on the way.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cast::{Cast, TEAM, enrol_everybody};
use crate::database;
use crate::people::{Person, find, id};
use crate::place::{Layout, Place, StoreKind};

/// Says what happens and how long it took.
pub struct Teller {
    since: Instant,
}

impl Teller {
    /// One more thing is done.
    pub fn done(&mut self, what: &str) {
        println!("  {:>7.2} s  {what}", self.since.elapsed().as_secs_f64());
        self.since = Instant::now();
    }
}

/// Waits until `probe` gives something.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("waited {within:?} in vain for {what}");
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Files an emergency request; gives the answer of the CLI.
pub fn request(who: &Person, entitlement: &str, scenario: &str, more: &[&str]) -> Result<crate::people::Ran> {
    let mut arguments = vec![
        "request",
        entitlement,
        "--emergency",
        "--severity",
        "sev1",
        "--scenario",
        scenario,
        "--confirm-criteria",
        "--reason",
        "orders are stuck in the queue",
    ];
    arguments.extend(more);
    who.run(&arguments)
}

/// What `halligan show` says.
pub fn show(who: &Person, what: &str) -> Result<Value> {
    who.run(&["show", what])?.ok()?.json()
}

/// Plays everything.
pub async fn play(layout: Layout, store: StoreKind, sample: &Path) -> Result<()> {
    let mut tell = Teller { since: Instant::now() };
    let mut place = Place::start(layout, store).await?;
    tell.done("Halligan, two real SSH hosts and a real PostgreSQL are up");
    let mut cast = match enrol_everybody(&place, &place.catalog(sample)?, &TEAM).await {
        Ok(cast) => cast,
        Err(error) => bail!("{error:#}\n{}", place.log("server")),
    };
    tell.done("the first administrator enrolled, applied the catalog; ten people enrolled and signed in");
    let told = scenes(&mut place, &mut cast, &mut tell).await;
    if told.is_err() {
        for role in ["server", "gateway", "connector"] {
            eprintln!("--- {role}\n{}", place.log(role));
        }
    }
    told
}

async fn scenes(place: &mut Place, cast: &mut Cast, tell: &mut Teller) -> Result<()> {
    let first = two_approvers(place, cast, tell).await?;
    at_once_and_bypass(place, cast, tell).await?;
    work(place, cast, tell, &first.grant).await?;
    let rescue = database::rescue(place, cast, tell, &first.incident).await?;
    database::scene(place, cast, tell, &first.incident).await?;
    extension(cast, tell, &first.grant).await?;
    if place.layout == Layout::Three {
        control_away(place, cast, tell).await?;
    }
    give_back(place, cast, tell, &first.grant).await?;
    hard_stop(place, cast, tell, &first.incident).await?;
    database::rescued(cast, tell, &rescue).await?;
    close(place, cast, tell, &first.incident).await?;
    evidence(place, cast, tell, &first.incident).await
}

struct First {
    grant: String,
    incident: String,
}

/// An emergency on customer data: two distinct approvers, each with a second factor; nobody approves their own.
async fn two_approvers(place: &Place, cast: &mut Cast, tell: &mut Teller) -> Result<First> {
    let anna = cast.person("anna")?;
    let early = anna.use_stock(place, "ssh", &["operate+orders-host@127.0.0.1", "true"])?;
    if early.code == 0 {
        bail!("somebody got in before anything was asked for");
    }
    let filed = request(
        anna,
        "orders-host/operate",
        "db-locked",
        &["--for", "30m", "--why-not-lower", "the queue must be restarted"],
    )?
    .ok()?
    .json()?;
    let wanted = id(&filed, "req_").context("the request has no id")?;
    tell.done("anna asked for orders-host/operate: customer data, two approvers");
    cast.person_mut("anna")?.run_with_code(&["approve", &wanted]).await?.refused("nobody approves")?;
    tell.done("refused: approving one's own request");
    cast.person_mut("carla")?
        .run_with_code(&["approve", &wanted, "--reason", "seen in monitoring"])
        .await?
        .ok()?;
    let half = show(cast.person("anna")?, &wanted)?;
    if find(&half, "state").as_deref() != Some("pending") {
        bail!("one approval was enough: {half}");
    }
    cast.person_mut("dmitri")?.run_with_code(&["approve", &wanted, "--reason", "needed"]).await?.ok()?;
    let anna = cast.person("anna")?;
    let request = eventually("the grant", Duration::from_secs(15), || {
        let request = show(anna, &wanted)?;
        Ok(id(&request, "grt_").is_some().then_some(request))
    })
    .await?;
    let grant = id(&request, "grt_").context("the request has no grant")?;
    let incident = id(&request, "inc_").context("the request has no incident")?;
    eventually("the grant to be active", Duration::from_secs(15), || {
        let found = show(anna, &grant)?;
        Ok((find(&found, "state").as_deref() == Some("active")).then_some(()))
    })
    .await?;
    tell.done("carla and dmitri approved, each with a code of their own; the grant is active");
    Ok(First { grant, incident })
}

/// Beside it: a sev1 that is granted at once and reviewed afterwards, and a bypass.
async fn at_once_and_bypass(place: &Place, cast: &mut Cast, tell: &mut Teller) -> Result<()> {
    let ben = cast.person("ben")?;
    request(ben, "shop-host/operate", "critical-downtime", &["--wait", "20s"])?
        .ok()
        .context("a sev1 was not granted at once")?;
    eventually("ben's way in", Duration::from_secs(10), || {
        let run = ben.use_stock(place, "ssh", &["operate+shop-host@127.0.0.1", "echo the shop answers"])?;
        Ok(run.out.contains("the shop answers").then_some(()))
    })
    .await?;
    tell.done("ben's sev1 on the shop was granted at once, to be reviewed; he is in");
    let filed = request(
        ben,
        "shop-host/root",
        "critical-downtime",
        &["--for", "10m", "--why-not-lower", "a kernel setting"],
    )?
    .ok()?
    .json()?;
    let wanted = id(&filed, "req_").context("the request has no id")?;
    let ben = cast.person_mut("ben")?;
    let bypass = ["bypass", &wanted, "--reason", "nobody answers", "--confirm", "shop-host/root"];
    ben.run_with_code(&bypass).await?.ok().context("the bypass was refused")?;
    eventually("the bypass to open the door", Duration::from_secs(15), || {
        let run = ben.use_stock(place, "ssh", &["root+shop-host@127.0.0.1", "id -un"])?;
        Ok(run.out.contains("halligan-ops").then_some(()))
    })
    .await?;
    tell.done("ben bypassed approval for shop-host/root; security and everybody not waited for were told");
    Ok(())
}

/// The work: `ssh`, `scp`, `sftp`, a one-time password; and what must not work.
async fn work(place: &Place, cast: &mut Cast, tell: &mut Teller, grant: &str) -> Result<()> {
    let anna = cast.person("anna")?;
    let run = anna.ssh("orders-host/operate", "echo nothing was pinned by hand")?;
    if !run.ok().context("halligan ssh")?.out.contains("nothing was pinned") {
        bail!("halligan ssh ran something else");
    }
    let run = anna.use_stock(place, "ssh", &["operate+orders-host@127.0.0.1", "id -un; exit 3"])?;
    if run.code != 3 || run.out.trim() != "halligan-app" {
        bail!("ssh: exit code {} and {:?} {:?}", run.code, run.out, run.err);
    }
    tell.done("ssh works, with the command's own exit code");
    let file = anna.file("correction.sql");
    fs::write(&file, "update orders set stuck = false;\n".repeat(4000))?;
    let from = file.display().to_string();
    let to = format!("operate+orders-host@127.0.0.1:/tmp/halligan-demo-{grant}.sql");
    anna.use_stock(place, "scp", &[&from, &to])?.ok().context("scp")?;
    let back = anna.file("back.sql");
    anna.use_stock(place, "scp", &[&to, &back.display().to_string()])?.ok().context("scp back")?;
    if fs::read(&file)? != fs::read(&back)? {
        bail!("scp changed the file");
    }
    let batch = anna.file("batch");
    fs::write(&batch, format!("ls /tmp/halligan-demo-{grant}.sql\nrm /tmp/halligan-demo-{grant}.sql\n"))?;
    anna.use_stock(place, "sftp", &["-b", &batch.display().to_string(), "operate+orders-host@127.0.0.1"])?
        .ok()
        .context("sftp")?;
    tell.done("scp and sftp work, each file counted and hashed");
    let tunnel = anna.use_stock(place, "ssh", &["-W", "127.0.0.1:1", "operate+orders-host@127.0.0.1"])?;
    if tunnel.code == 0 {
        bail!("a tunnel around the recording was opened");
    }
    tell.done("refused: a tunnel around the recording");
    one_time_password(place, anna)?;
    tell.done("a one-time password let anna in once, and not twice");
    certificate_for_another_host(place)?;
    tell.done("refused: a certificate for another host");
    Ok(())
}

/// By keyboard-interactive, as somebody without their key would.
fn one_time_password(place: &Place, anna: &Person) -> Result<()> {
    let made = anna.run(&["password", "orders-host/operate"])?.ok()?.json()?;
    let password = find(&made, "password").context("no one-time password was made")?;
    let asked = anna.file("askpass");
    fs::write(&asked, format!("#!/bin/sh\nprintf '%s\\n' '{password}'\n"))?;
    std::process::Command::new("chmod").arg("700").arg(&asked).status()?;
    let try_it = || -> Result<std::process::Output> {
        let mut command = anna.stock(place, "ssh", &[])?;
        command.args([
            "-o",
            "PubkeyAuthentication=no",
            "-o",
            "PreferredAuthentications=keyboard-interactive",
        ]);
        command.args(["-o", "NumberOfPasswordPrompts=1", "operate+orders-host@127.0.0.1", "echo in"]);
        command.env("SSH_ASKPASS", &asked).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":0");
        Ok(command.output()?)
    };
    let first = try_it()?;
    if !String::from_utf8_lossy(&first.stdout).contains("in") {
        bail!("the one-time password did not open: {}", String::from_utf8_lossy(&first.stderr));
    }
    if try_it()?.status.success() {
        bail!("a one-time password opened twice");
    }
    Ok(())
}

/// Even with the site's own key a certificate for one host does not open another.
fn certificate_for_another_host(place: &Place) -> Result<()> {
    let folder = place.folder.path().join("forged");
    fs::create_dir_all(&folder)?;
    let key = folder.join("key");
    let keygen = |command: &mut Command| -> Result<()> {
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    if !key.exists() {
        keygen(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", ""]).arg("-f").arg(&key))?;
    }
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-I", "demo", "-n", "halligan:orders-host:halligan-app", "-V", "-1m:+5m", "-s"]);
    keygen(sign.arg(place.site_ca_file()).arg(key.with_extension("pub")))?;
    for (host, opens) in [(&place.orders, true), (&place.shop, false)] {
        let host = host.as_ref().context("a host is missing")?;
        let known = folder.join("known_hosts");
        fs::write(&known, format!("[127.0.0.1]:{} {}\n", host.port(), host.host_key_openssh()?))?;
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "LogLevel=ERROR",
            "-p",
            &host.port().to_string(),
        ]);
        ssh.args(["-o", &format!("UserKnownHostsFile={}", known.display()), "-i"]).arg(&key);
        let run = ssh.args(["halligan-app@127.0.0.1", "true"]).stdin(Stdio::null()).output()?;
        if run.status.success() != opens {
            bail!(
                "a certificate for orders-host: expected {opens} at port {}: {}",
                host.port(),
                String::from_utf8_lossy(&run.stderr)
            );
        }
    }
    Ok(())
}

/// More time is a decision of its own.
async fn extension(cast: &mut Cast, tell: &mut Teller, grant: &str) -> Result<()> {
    let before = find(&show(cast.person("anna")?, grant)?, "deadline");
    let asked = cast.person("anna")?.run(&[
        "extend",
        grant,
        "--for",
        "20m",
        "--reason",
        "the rebuild takes longer",
    ])?;
    let asked = if asked.code != 0 {
        cast.person_mut("anna")?
            .run_with_code(&["extend", grant, "--for", "20m", "--reason", "the rebuild takes longer"])
            .await?
            .ok()?
    } else {
        asked
    };
    let wanted = id(&asked.json()?, "req_").context("the extension has no request")?;
    for who in ["carla", "dmitri"] {
        cast.person_mut(who)?.run_with_code(&["approve", &wanted, "--reason", "go on"]).await?.ok()?;
    }
    let anna = cast.person("anna")?;
    eventually("the extension", Duration::from_secs(10), || {
        let found = show(anna, grant)?;
        let raw = found.to_string();
        Ok((find(&found, "deadline") != before || raw.contains(&wanted)).then_some(()))
    })
    .await?;
    tell.done("the grant was extended: a decision of its own, by the same two");
    Ok(())
}

/// With control gone, sessions on held leases go on and new ones open; afterwards the gateway reports.
async fn control_away(place: &mut Place, cast: &Cast, tell: &mut Teller) -> Result<()> {
    let anna = cast.person("anna")?;
    let mut live = anna.stock(
        place,
        "ssh",
        &["operate+orders-host@127.0.0.1", "for i in 1 2 3 4 5 6 7 8; do echo tick; sleep 0.5; done"],
    )?;
    let live = live.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    if let Some(mut server) = place.server.take() {
        server.kill()?;
    }
    let run = anna.use_stock(place, "ssh", &["operate+orders-host@127.0.0.1", "echo still in"])?;
    if !run.out.contains("still in") {
        bail!("with control away no new session opened on a held lease: {}", run.err);
    }
    if !anna.ssh("orders-host/operate", "echo still in")?.out.contains("still in") {
        bail!("halligan ssh did not find the gateway with control away");
    }
    let output = live.wait_with_output()?;
    let ticks = String::from_utf8_lossy(&output.stdout).matches("tick").count();
    if ticks != 8 {
        bail!("a live session lost bytes when control was killed: {ticks} of 8");
    }
    tell.done("control was killed: the live session went on, and a new one opened on the held lease");
    place.start_server().await?;
    tell.done("control is back");
    Ok(())
}

/// The end by hand, with its proof.
async fn give_back(place: &Place, cast: &mut Cast, tell: &mut Teller, grant: &str) -> Result<()> {
    let anna = cast.person("anna")?;
    let mut live = anna.stock(place, "ssh", &["operate+orders-host@127.0.0.1", "echo in; sleep 600"])?;
    let mut live = live.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    tokio::time::sleep(Duration::from_millis(900)).await;
    anna.run(&["give-back", grant])?.ok()?;
    let begun = Instant::now();
    while live.try_wait()?.is_none() {
        if begun.elapsed() > Duration::from_secs(5) {
            bail!("the live session outlived its grant");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tell.done("anna gave it back: her live session ended at once");
    proof(anna, grant).await?;
    tell.done("proved at the target: the old certificate is refused, a fresh one beside it accepted");
    let late = anna.use_stock(place, "ssh", &["operate+orders-host@127.0.0.1", "true"])?;
    if late.code == 0 {
        bail!("somebody got in after the end");
    }
    tell.done("refused: a login after the end");
    Ok(())
}

/// Waits for the proof of a grant.
pub async fn proof(who: &Person, grant: &str) -> Result<()> {
    proof_within(who, grant, Duration::from_secs(90)).await
}

/// As [`proof`], for one that takes its time.
pub async fn proof_within(who: &Person, grant: &str, within: Duration) -> Result<()> {
    eventually("the revocation proof", within, || {
        let found = show(who, grant)?;
        if find(&found, "state").as_deref() != Some("revoked") {
            return Ok(None);
        }
        if !found.to_string().contains("\"proven\"") {
            bail!("revoked without a proof: {found}");
        }
        Ok(Some(()))
    })
    .await
}

/// A second grant ends hard at its deadline.
async fn hard_stop(place: &Place, cast: &mut Cast, tell: &mut Teller, incident: &str) -> Result<()> {
    let more = ["--for", "12s", "--why-not-lower", "as before", "--incident", incident];
    let anna = cast.person("anna")?;
    let mut filed = request(anna, "orders-host/operate", "db-locked", &more)?;
    if filed.code != 0 {
        let totp = cast.person_mut("anna")?.code().await?;
        let more = ["--for", "12s", "--why-not-lower", "as before", "--incident", incident, "--totp", &totp];
        filed = request(cast.person("anna")?, "orders-host/operate", "db-locked", &more)?;
    }
    let wanted = id(&filed.ok()?.json()?, "req_").context("the request has no id")?;
    for who in ["carla", "dmitri"] {
        cast.person_mut(who)?.run_with_code(&["approve", &wanted, "--reason", "once more"]).await?.ok()?;
    }
    let anna = cast.person("anna")?;
    let grant =
        eventually("the second grant", Duration::from_secs(10), || Ok(id(&show(anna, &wanted)?, "grt_")))
            .await?;
    let live = eventually("the way in", Duration::from_secs(8), || {
        let mut live = anna.stock(place, "ssh", &["operate+orders-host@127.0.0.1", "echo in; sleep 600"])?;
        let mut live = live.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        std::thread::sleep(Duration::from_millis(700));
        Ok(live.try_wait()?.is_none().then_some(live))
    })
    .await?;
    let output = live.wait_with_output()?;
    if output.status.success() {
        bail!("the session of the second grant ended by itself");
    }
    tell.done("the second grant ended hard at its deadline, its session with it");
    if place.layout == Layout::One {
        // Closing too early is refused with the list of what blocks.
        cast.person("ines")?.run(&["incident", "close", incident])?.refused("proof")?;
        tell.done("refused: closing the incident while a proof is missing");
    }
    proof(cast.person("anna")?, &grant).await?;
    tell.done("proved at the target");
    Ok(())
}

/// Mitigated, reviewed by somebody who took no part, closed.
async fn close(_place: &Place, cast: &mut Cast, tell: &mut Teller, incident: &str) -> Result<()> {
    let ines = cast.person("ines")?;
    ines.run(&["incident", "mitigate", incident])?.ok()?;
    tell.done("ines declared the incident mitigated");
    ines.run(&["incident", "close", incident])?.refused("review")?;
    tell.done("refused: closing with reviews open");
    let paula = cast.person("paula")?;
    let found = eventually("recordings in the store", Duration::from_secs(30), || {
        let found = show(paula, incident)?;
        Ok((!found.to_string().contains("recording has") && !found.to_string().contains("recordings have"))
            .then_some(found))
    })
    .await?;
    let mut reviews: Vec<String> = Vec::new();
    collect(&found, "rev_", &mut reviews);
    if reviews.is_empty() {
        bail!("the incident has no review: {found}");
    }
    for review in &reviews {
        let answers = [
            "review",
            "judge",
            review,
            "--classification",
            "genuine-emergency",
            "--invoked-correctly",
            "yes",
            "--too-wide",
            "no",
            "--approvals-timely",
            "yes",
            "--prevention",
            "an index on orders(stuck)",
        ];
        let judged = cast.person("paula")?.run(&answers)?;
        if judged.code != 0 {
            cast.person_mut("paula")?.run_with_code(&answers).await?.ok()?;
        }
    }
    tell.done("paula, who took no part, judged the reviews");
    let found = show(cast.person("paula")?, incident)?;
    let changes = found.to_string().matches("\"what\"").count();
    for change in 0..changes {
        let number = change.to_string();
        cast.person("paula")?
            .run(&["incident", "judge-change", incident, &number, "kept", "--note", "wanted"])?
            .ok()?;
    }
    tell.done("what was changed was kept by its owner");
    cast.person("ines")?.run(&["incident", "close", incident])?.ok()?;
    tell.done("ines closed the incident");
    Ok(())
}

fn collect(value: &Value, prefix: &str, into: &mut Vec<String>) {
    match value {
        Value::String(text) if text.starts_with(prefix) && !into.contains(text) => into.push(text.clone()),
        Value::Object(map) => {
            for (key, inner) in map {
                if key.starts_with(prefix) && !into.contains(key) {
                    into.push(key.clone());
                }
                collect(inner, prefix, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, prefix, into)),
        _ => {}
    }
}

/// One file proves it all, offline; one changed bit and it does not; an edit by SQL shows.
async fn evidence(place: &mut Place, cast: &mut Cast, tell: &mut Teller, incident: &str) -> Result<()> {
    let ava = cast.person("ava")?;
    let bundle = ava.file("evidence.halligan");
    let file = bundle.display().to_string();
    ava.run(&["evidence", "export", incident, "--to", &file])?.ok()?;
    let size = fs::metadata(&bundle)?.len();
    tell.done(&format!("ava exported the evidence: one file of {size} bytes"));
    ava.run(&["verify", &file])?.ok()?;
    tell.done("it verifies offline");
    let mut bytes = fs::read(&bundle)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    let broken = ava.file("broken.halligan");
    fs::write(&broken, bytes)?;
    let run = ava.run(&["verify", &broken.display().to_string()])?;
    if run.code == 0 {
        bail!("a bundle with one changed bit verified");
    }
    tell.done("refused: the same file with one changed bit");
    edit_by_sql(place, incident)?;
    let found = ava.run(&["ledger", "check"])?;
    if found.code == 0 {
        bail!("an edit of the database by SQL went unnoticed");
    }
    tell.done("noticed: an edit of the database by SQL");
    Ok(())
}

fn edit_by_sql(place: &mut Place, incident: &str) -> Result<()> {
    let statement = "UPDATE documents SET body = replace(CAST(body AS TEXT), 'db-locked', 'db-lockeD') WHERE kind = 'incident'";
    let _ = incident;
    if let Some(postgres) = &place.postgres {
        postgres.sql("postgres", "UPDATE documents SET body = convert_to(replace(convert_from(body, 'UTF8'), 'db-locked', 'db-lockeD'), 'UTF8') WHERE kind = 'incident'")?;
        return Ok(());
    }
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=10)\nn = c.execute(sys.argv[2]).rowcount\nc.commit()\nprint(n)";
    let store = place.folder.path().join("state/control/store.db");
    let output = Command::new("python3").args(["-c", script]).arg(&store).arg(statement).output()?;
    if !output.status.success() || String::from_utf8_lossy(&output.stdout).trim() == "0" {
        bail!(
            "the edit itself failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
