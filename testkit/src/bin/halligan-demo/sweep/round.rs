//! One round: a short emergency from request to closed incident, struck as the plan says.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::checks;
use super::plan::{Blow, End, Moment, Round, Step};
use super::shell::Shell;
use super::{LEADS, OWNERS, Stage, database};
use crate::people::find;

const LOGIN: &str = "operate+orders-host@127.0.0.1";
/// Longest wait for anything that must come by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Length of an access that ends by its deadline.
const SHORT: &str = "14s";

/// What a round knows of itself.
pub struct Story {
    pub responder: &'static str,
    /// Names the round in texts: found again in lists and recordings.
    pub tag: String,
    pub request: String,
    pub grant: String,
    pub incident: String,
    pub extension: Option<String>,
    /// What the responder saw on the screen: it must be in a recording.
    pub seen: Vec<String>,
    /// Files whose upload was acknowledged.
    pub uploaded: Vec<String>,
    /// Numbers of rows whose writing was acknowledged.
    pub written: Vec<u64>,
    pub shell: Option<Shell>,
    /// The connect password that was made last.
    pub password: Option<String>,
    pub approved_by: Vec<(String, String)>,
}

/// Plays it and checks what must hold.
pub async fn play(stage: &mut Stage, round: &Round) -> Result<()> {
    let responder = if round.number.is_multiple_of(2) { "ben" } else { "anna" };
    let mut story = Story {
        responder,
        tag: format!("round-{}-{}", round.number, std::process::id()),
        request: String::new(),
        grant: String::new(),
        incident: String::new(),
        extension: None,
        seen: Vec::new(),
        uploaded: Vec::new(),
        written: Vec::new(),
        shell: None,
        password: None,
        approved_by: Vec::new(),
    };
    for step in super::plan::STEPS {
        let blows = at_the_deadline(stage, round, &story, step).await?;
        let begun = Instant::now();
        stage.striker.begin(step, &blows);
        act(stage, round, &mut story, step).await.with_context(|| format!("{step:?}"))?;
        stage.striker.end(step, &blows);
        println!("  {:>7} ms  {step:?}", super::striker::since(begun));
    }
    stage.striker.settle().await?;
    checks::after(stage, round, &story).await
}

/// A blow during the end of an access with a deadline is to fall around that deadline.
async fn at_the_deadline(stage: &Stage, round: &Round, story: &Story, step: Step) -> Result<Vec<Blow>> {
    let mut blows = round.blows.clone();
    if step != Step::End || round.end != End::Deadline {
        return Ok(blows);
    }
    let left = left(&stage.grant(story).await?).unwrap_or_default();
    for blow in blows.iter_mut().filter(|blow| blow.step == step) {
        if let Moment::During(after) = blow.moment {
            let around = (left + Duration::from_millis(after * 4)).saturating_sub(Duration::from_millis(600));
            blow.moment = Moment::During(u64::try_from(around.as_millis()).unwrap_or(0));
        }
    }
    Ok(blows)
}

impl Stage {
    pub async fn as_person(&self, who: &str, path: &str) -> Result<Value> {
        self.caller.get(&self.cast.person(who)?.token()?, path).await
    }

    pub async fn grant(&self, story: &Story) -> Result<Value> {
        let answer = self.as_person(story.responder, &format!("/grants/{}", story.grant)).await?;
        answer.get("grant").cloned().context("the answer has no grant")
    }

    pub async fn incident(&self, story: &Story) -> Result<Value> {
        self.as_person("ines", &format!("/incidents/{}", story.incident)).await
    }

    async fn say(&self, who: &str, path: &str, body: Value) -> Result<Value> {
        self.caller.post(&self.cast.person(who)?.token()?, path, &body).await
    }

    /// Somebody of these approves, having read the request. Whose turn it is has a code that was not used.
    async fn approve(&mut self, story: &mut Story, among: &[&str], request: &str) -> Result<()> {
        let who = among.get(self.turn % among.len()).copied().unwrap_or("carla");
        let read = self.as_person(who, &format!("/requests/{request}")).await?;
        let version = read.pointer("/request/version").cloned().context("the request has no version")?;
        let body = json!({ "version": version, "reason": "seen in monitoring" });
        let path = format!("/requests/{request}/approve");
        self.caller.post_with_code(&mut self.cast, who, &path, &body).await?;
        story.approved_by.push((request.to_owned(), who.to_owned()));
        Ok(())
    }
}

/// Time left, by this machine's clock, which is the servers' too.
pub fn left(grant: &Value) -> Option<Duration> {
    let deadline = u64::try_from(grant.get("deadline")?.as_i64()?).ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::from_micros(deadline).saturating_sub(now))
}

fn state(document: &Value) -> &str {
    document.get("state").and_then(Value::as_str).unwrap_or("")
}

/// Waits until `probe` has found something.
macro_rules! eventually {
    ($what:expr, $probe:expr) => {{
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = $probe {
                break found;
            }
            if Instant::now() > end {
                bail!("waited {PATIENCE:?} in vain for {}", $what);
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }};
}

async fn act(stage: &mut Stage, round: &Round, story: &mut Story, step: Step) -> Result<()> {
    let extends = round.end != End::Deadline;
    match step {
        Step::File => file(stage, round, story).await,
        Step::FirstApproval => {
            stage.turn += 1;
            let request = story.request.clone();
            stage.approve(story, &LEADS, &request).await
        }
        Step::SecondApproval => {
            let request = story.request.clone();
            stage.approve(story, &OWNERS, &request).await
        }
        Step::Activation => activation(stage, story).await,
        Step::Shell if round.is_database() => {
            story.shell = database::live(stage, story).await?;
            Ok(())
        }
        Step::Exec if round.is_database() => database::read(stage, round, story).await,
        Step::Transfer if round.is_database() => database::write(stage, round, story).await,
        Step::Shell => shell(stage, story).await,
        Step::Exec => exec(stage, round, story).await,
        Step::Transfer => transfer(stage, round, story).await,
        Step::Extend if extends => {
            let body = json!({ "duration": "20m", "reason": format!("longer, {}", story.tag) });
            let path = format!("/grants/{}/extend", story.grant);
            let answer = stage.caller.post_with_code(&mut stage.cast, story.responder, &path, &body).await?;
            let id = answer.pointer("/request/id").and_then(Value::as_str).context("no request")?;
            story.extension = Some(id.to_owned());
            Ok(())
        }
        Step::FirstExtension | Step::SecondExtension => match story.extension.clone() {
            Some(request) => {
                stage.turn += usize::from(step == Step::FirstExtension);
                let among = if step == Step::FirstExtension { &LEADS } else { &OWNERS };
                stage.approve(story, among, &request).await
            }
            None => Ok(()),
        },
        Step::Extended => {
            let Some(extension) = story.extension.clone() else { return Ok(()) };
            eventually!("the extension", {
                let grant = stage.grant(story).await?;
                grant.get("extended_by").map(Value::to_string).filter(|by| by.contains(&extension))
            });
            if round.is_database() {
                let deadline = stage.grant(story).await?.get("deadline").and_then(Value::as_i64);
                let deadline = deadline.context("the grant has no deadline")?;
                // Who is in and does not log in again must not be cut at the old deadline.
                eventually!("the longer time at the database", {
                    database::ends_before(stage, story, deadline)?.is_empty().then_some(())
                });
            }
            Ok(())
        }
        Step::End => end(stage, round, story).await,
        Step::Cut => cut(stage, round, story).await,
        Step::Proof => {
            eventually!("the revocation proof", {
                let grant = stage.grant(story).await?;
                (state(&grant) == "revoked").then_some(())
            });
            Ok(())
        }
        Step::Recordings => {
            eventually!("the recordings", {
                let seen = stage.incident(story).await?;
                let waiting = seen.pointer("/incident/unstored_recordings").and_then(Value::as_array);
                waiting.is_some_and(Vec::is_empty).then_some(())
            });
            Ok(())
        }
        Step::Mitigate if round.end != End::Mitigated => {
            let path = format!("/incidents/{}/mitigate", story.incident);
            stage.say("ines", &path, json!({})).await.map(drop)
        }
        Step::Review => review(stage, story).await,
        Step::Changes => changes(stage, story).await,
        Step::Close => {
            let path = format!("/incidents/{}/close", story.incident);
            let closed = stage.say("ines", &path, json!({})).await?;
            match closed.pointer("/incident/state").and_then(Value::as_str) {
                Some("closed") => Ok(()),
                _ => bail!("the incident does not close: {closed}"),
            }
        }
        Step::Export => export(stage, story).await,
        Step::Extend | Step::Mitigate => Ok(()),
    }
}

async fn file(stage: &mut Stage, round: &Round, story: &mut Story) -> Result<()> {
    let duration = if round.end == End::Deadline { SHORT } else { "30m" };
    let entitlement = if round.is_database() { crate::database::ENTITLEMENT } else { "orders-host/operate" };
    let wish = json!({
        "entitlements": [entitlement], "mode": "emergency", "severity": "sev1", "scenario": "db-locked",
        "criteria_confirmed": true, "reason": format!("orders are stuck, {}", story.tag),
        "why_not_lower": "the queue must be restarted", "duration": duration,
    });
    let filed = stage.caller.post_with_code(&mut stage.cast, story.responder, "/requests", &wish).await?;
    let request = filed.pointer("/items/0/request/request").context("nothing was filed")?;
    let text = |field: &str| request.get(field).and_then(Value::as_str).map(str::to_owned);
    story.request = text("id").context("the request has no id")?;
    story.incident = text("incident").context("the request has no incident")?;
    Ok(())
}

async fn activation(stage: &Stage, story: &mut Story) -> Result<()> {
    let path = format!("/requests/{}", story.request);
    let answer = stage.as_person(story.responder, &path).await?;
    let grant = answer.pointer("/request/grant").and_then(Value::as_str);
    story.grant = grant.with_context(|| format!("two approved, and there is no grant: {answer}"))?.to_owned();
    eventually!("the grant to be active", {
        let grant = stage.grant(story).await?;
        match state(&grant) {
            "scheduled" | "activating" => None,
            "activation_failed" => bail!("the activation failed: {grant}"),
            _ => Some(()),
        }
    });
    Ok(())
}

/// Whether the access is still meant to work: with a deadline it may be over before everything runs again.
pub async fn over(stage: &Stage, story: &Story) -> Result<bool> {
    let grant = stage.grant(story).await?;
    Ok(state(&grant) != "active" || left(&grant).is_none_or(|left| left < Duration::from_millis(1500)))
}

async fn shell(stage: &Stage, story: &mut Story) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !over(stage, story).await? {
        let mut shell = Shell::start(stage.striker.place(), stage.cast.person(story.responder)?, LOGIN)?;
        if shell.up(Duration::from_secs(8)).await? {
            story.shell = Some(shell);
            return Ok(());
        }
        if Instant::now() > end {
            bail!("no shell opened in {PATIENCE:?}: {}", shell.said());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// A command whose output was seen; it says enough that its recording takes a while to send.
async fn exec(stage: &Stage, round: &Round, story: &mut Story) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut tries = 0;
    while !over(stage, story).await? {
        tries += 1;
        let word = format!("word-{}-{tries}-{}", round.number, story.tag);
        let command = format!("echo {word}; head -c 1500000 /dev/urandom | base64 -w 100; exit 3");
        let person = stage.cast.person(story.responder)?;
        let run = person.use_stock(stage.striker.place(), "ssh", &[LOGIN, &command])?;
        if run.out.contains(&word) {
            story.seen.push(word);
        }
        if run.code == 3 {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("no command ran in {PATIENCE:?}: {}", run.err);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn transfer(stage: &Stage, round: &Round, story: &mut Story) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let person = stage.cast.person(story.responder)?;
    let from = person.file("correction.sql");
    fs::write(&from, "update orders set stuck = false;\n".repeat(4000))?;
    let to = format!("/tmp/halligan-sweep-{}-{}.sql", std::process::id(), round.number);
    let batch = person.file("batch");
    fs::write(&batch, format!("put {} {to}\nls {to}\nrm {to}\n", from.display()))?;
    while !over(stage, story).await? {
        let run =
            person.use_stock(stage.striker.place(), "sftp", &["-b", &batch.display().to_string(), LOGIN])?;
        if run.code == 0 {
            story.uploaded.push(to);
            return Ok(());
        }
        if Instant::now() > end {
            bail!("no file went over in {PATIENCE:?}: {}", run.err);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn end(stage: &mut Stage, round: &Round, story: &mut Story) -> Result<()> {
    match round.end {
        End::GivenBack => {
            let path = format!("/grants/{}/give-back", story.grant);
            stage.say(story.responder, &path, json!({})).await?;
        }
        End::Revoked => {
            let path = format!("/grants/{}/revoke", story.grant);
            stage.say("ines", &path, json!({ "reason": "that is enough" })).await?;
        }
        End::Mitigated => {
            let path = format!("/incidents/{}/mitigate", story.incident);
            stage.say("ines", &path, json!({})).await?;
        }
        End::Deadline => {
            if let Some(left) = left(&stage.grant(story).await?) {
                tokio::time::sleep(left).await;
            }
        }
    }
    // From the acknowledgement, or the deadline, on: never again.
    eventually!("the end of the grant", {
        let grant = stage.grant(story).await?;
        (state(&grant) != "active").then_some(())
    });
    Ok(())
}

/// Live sessions are cut, and nobody gets in any more.
async fn cut(stage: &Stage, round: &Round, story: &mut Story) -> Result<()> {
    if let Some(shell) = &mut story.shell {
        eventually!("the live shell to be cut", { shell.ended()?.then_some(()) });
    }
    // The end has been said to the gateway when it says so itself; a gateway that is down lets nobody in either.
    eventually!("the gateway to end the lease", {
        let grant = stage.grant(story).await?;
        let gateways = grant.get("gateways").and_then(Value::as_object);
        gateways.is_none_or(|all| all.values().all(|gone| *gone == Value::Bool(true))).then_some(())
    });
    let in_again = if round.is_database() {
        database::gets_in(stage, story)?
    } else {
        let person = stage.cast.person(story.responder)?;
        person.use_stock(stage.striker.place(), "ssh", &[LOGIN, "true"])?.code == 0
    };
    if in_again {
        bail!("somebody got in after the end");
    }
    Ok(())
}

async fn review(stage: &mut Stage, story: &Story) -> Result<()> {
    let answer = stage.incident(story).await?;
    let reviews = answer.pointer("/incident/reviews").and_then(Value::as_object).cloned().unwrap_or_default();
    if reviews.is_empty() {
        bail!("the emergency has no review: {answer}");
    }
    if stage.turn % 6 < 3 {
        // Judging needs a second factor that was shown within five minutes.
        let totp = stage.cast.person_mut("paula")?.code().await?;
        stage.say("paula", "/step-up", json!({ "totp": totp })).await?;
    }
    for (review, done) in reviews {
        if done == Value::Bool(true) {
            continue;
        }
        let path = format!("/reviews/{review}");
        let facts = stage.as_person("paula", &path).await?;
        let quiet = find(&facts, "nothing").is_none();
        let judgement = json!({
            "classification": "genuine_emergency", "invoked_correctly": true, "too_wide": false,
            "approvals_timely": true, "prevention": "an index on orders(stuck)",
            "empty_activity_explained": quiet.then_some("a machine was killed"),
        });
        stage.say("paula", &format!("{path}/judge"), judgement).await?;
    }
    Ok(())
}

async fn changes(stage: &Stage, story: &Story) -> Result<()> {
    let answer = stage.incident(story).await?;
    let changes = answer.pointer("/incident/changes").and_then(Value::as_array).map_or(0, Vec::len);
    for change in 0..changes {
        let path = format!("/incidents/{}/changes/{change}", story.incident);
        stage.say("paula", &path, json!({ "fate": "kept", "note": "wanted" })).await?;
    }
    Ok(())
}

async fn export(stage: &Stage, story: &Story) -> Result<()> {
    let ava = stage.cast.person("ava")?;
    let bundle = ava.file("evidence.halligan");
    let file = bundle.display().to_string();
    eventually!("the evidence", {
        fs::remove_file(&bundle).ok();
        let run = ava.run(&["evidence", "export", &story.incident, "--to", &file])?;
        (run.code == 0).then_some(())
    });
    let verified = ava.run(&["verify", &file])?;
    if verified.code != 0 {
        bail!("the evidence does not verify:\n{}\n{}", verified.out, verified.err);
    }
    Ok(())
}
