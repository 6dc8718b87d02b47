//! What must hold after every round, whatever was killed.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::plan::{End, Round};
use super::round::Story;
use super::{Stage, database};
use crate::people::find;

/// A session may end this much after its deadline in the gateway's ledger: no byte passes after the deadline, but the leaf
/// is written then.
const SLACK_MICROS: i64 = 1_000_000;

/// Everything about one round, once everything runs again.
pub async fn after(stage: &Stage, round: &Round, story: &Story) -> Result<()> {
    once(stage, story).await.context("exactly once")?;
    approvals(stage, story).await.context("approvals")?;
    grant(stage, round, story).await.context("the grant")?;
    sessions(stage, story).await.context("sessions")?;
    if round.is_database() {
        database::after(stage, story).context("the database")?;
    }
    still_true(stage, &story.everything()).await.context("acknowledged and still true")?;
    ledgers(stage).await.context("ledgers")
}

impl Story {
    fn everything(&self) -> Vec<String> {
        let extension = self.extension.iter().map(|id| format!("/requests/{id}"));
        let own = [
            format!("/requests/{}", self.request),
            format!("/grants/{}", self.grant),
            format!("/incidents/{}", self.incident),
        ];
        own.into_iter().chain(extension).collect()
    }
}

/// Every document of the whole run that was ever answered is read again.
pub async fn everything_ever_said(stage: &Stage) -> Result<()> {
    still_true(stage, &stage.caller.acknowledged()).await
}

/// The caller itself compares each with what it was told before.
async fn still_true(stage: &Stage, paths: &[String]) -> Result<()> {
    for path in paths {
        stage.as_person("ava", path).await?;
    }
    Ok(())
}

fn items(answer: &Value) -> Vec<Value> {
    answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// A call that was repeated was carried out once.
async fn once(stage: &Stage, story: &Story) -> Result<()> {
    let mine = items(&stage.as_person(story.responder, "/requests?which=mine&limit=200").await?);
    for (reason, wanted) in [
        (format!("orders are stuck, {}", story.tag), Some(&story.request)),
        (format!("longer, {}", story.tag), story.extension.as_ref()),
    ] {
        let found: Vec<&str> = mine
            .iter()
            .filter_map(|item| item.get("request"))
            .filter(|request| request.get("reason").and_then(Value::as_str) == Some(reason.as_str()))
            .filter_map(|request| request.get("id").and_then(Value::as_str))
            .collect();
        let wanted: Vec<&str> = wanted.into_iter().map(String::as_str).collect();
        if found != wanted {
            bail!("{wanted:?} was acknowledged for {reason:?}, and there are {found:?}");
        }
    }
    Ok(())
}

async fn approvals(stage: &Stage, story: &Story) -> Result<()> {
    for (request, who) in &story.approved_by {
        let answer = stage.as_person("ava", &format!("/requests/{request}")).await?;
        let decisions = answer.pointer("/request/decisions").and_then(Value::as_array).cloned();
        let by = |decision: &&Value| decision.get("person").and_then(Value::as_str) == Some(who);
        let count = decisions.unwrap_or_default().iter().filter(by).count();
        if count != 1 {
            bail!("the approval of {request} by {who} was acknowledged and stands there {count} times");
        }
        if answer.pointer("/request/state").and_then(Value::as_str) != Some("approved") {
            bail!("{request} is not approved: {answer}");
        }
    }
    Ok(())
}

async fn grant(stage: &Stage, round: &Round, story: &Story) -> Result<()> {
    let grant = stage.grant(story).await?;
    if grant.pointer("/outcome/kind").and_then(Value::as_str) != Some("proven") {
        bail!("it ended without a proof: {grant}");
    }
    let why = grant.get("end_reason").and_then(Value::as_str).unwrap_or("");
    let fits = match round.end {
        End::GivenBack => why == "given_back",
        End::Revoked => why == "revoked",
        End::Mitigated => why == "incident_mitigated",
        End::Deadline => matches!(why, "expired" | "never_used"),
    };
    if !fits {
        bail!("it ended by {why}, and not by {:?}", round.end);
    }
    if let (Some(shell), Some(deadline)) = (&story.shell, grant.get("deadline").and_then(Value::as_i64))
        && let Some(last) = shell.last()
    {
        let last = i64::try_from(last.duration_since(std::time::UNIX_EPOCH)?.as_micros())?;
        if last > deadline + SLACK_MICROS / 2 {
            bail!("the live shell still spoke {} ms after the deadline", (last - deadline) / 1000);
        }
    }
    Ok(())
}

/// Each within its grant, numbered without gaps, ended, recorded; what people saw is in a recording.
async fn sessions(stage: &Stage, story: &Story) -> Result<()> {
    let grant = stage.grant(story).await?;
    let deadline = grant.get("deadline").and_then(Value::as_i64).context("no deadline")?;
    let all = items(&stage.as_person("ava", "/sessions?which=all&limit=200").await?);
    let all: Vec<Value> = all.into_iter().filter_map(|item| item.get("session").cloned()).collect();
    let of: Vec<&Value> = all
        .iter()
        .filter(|session| session.get("grant").and_then(Value::as_str) == Some(story.grant.as_str()))
        .collect();
    let mut numbers = BTreeSet::new();
    let (mut words, mut said) = (story.seen.clone(), String::new());
    for session in &of {
        let id = session.get("id").and_then(Value::as_str).unwrap_or("");
        let one = one_session(stage, session, deadline).await;
        said += &one.with_context(|| format!("{id}: {session}"))?;
        numbers.extend(session.get("number").and_then(Value::as_u64));
    }
    let last = grant.get("last_session").and_then(Value::as_u64).unwrap_or(0);
    let wanted: BTreeSet<u64> = (1..=last).collect();
    if numbers != wanted || of.len() != wanted.len() {
        bail!("the numbers of sessions are {numbers:?}, and the last is {last}");
    }
    words.retain(|word| !said.contains(word.as_str()));
    if !words.is_empty() {
        bail!("people saw {words:?}, and no recording has it");
    }
    let incident = stage.incident(story).await?;
    let changes = incident.pointer("/incident/changes").map(Value::to_string).unwrap_or_default();
    if !story.written.is_empty() && !changes.contains("orders") {
        bail!("rows were written, and no change of the incident says so: {changes}");
    }
    for file in &story.uploaded {
        if !changes.contains(file.as_str()) {
            bail!("the upload of {file} was acknowledged and is no change of the incident");
        }
    }
    Ok(())
}

/// Gives its transcript.
async fn one_session(stage: &Stage, session: &Value, deadline: i64) -> Result<String> {
    let time = |field: &str| session.get(field).and_then(Value::as_i64);
    let why = session.get("end_reason").and_then(Value::as_str).unwrap_or("");
    let crashed = why.contains("restarted");
    if session.get("outside_grant") != Some(&Value::Bool(false))
        || time("opened_at").is_none_or(|at| at >= deadline)
    {
        bail!("it was opened outside its grant");
    }
    // A gateway that was killed ended it by dying; its ledger says so once it is back.
    if time("ended_at").is_none_or(|at| at > deadline + SLACK_MICROS && !crashed) {
        bail!("it outlived the deadline {deadline}");
    }
    // Each client here opens one channel.
    if session.get("channels").and_then(Value::as_array).is_some_and(|channels| channels.len() > 1) {
        bail!("its channel was taken in more than once");
    }
    let recording = session.get("recording").context("it has no recording")?;
    let complete = recording.get("complete") == Some(&Value::Bool(true));
    match recording.get("state").and_then(Value::as_str) {
        Some("stored") if complete || crashed => {}
        Some("stored") => bail!("no gateway was killed in it, and its recording is not whole"),
        state => bail!("its recording is {state:?}"),
    }
    let id = session.get("id").and_then(Value::as_str).context("it has no id")?;
    stage
        .caller
        .text(&stage.cast.person("ava")?.token()?, &format!("/sessions/{id}/replay?form=transcript"))
        .await
}

/// Store against ledger, and the tiles of all three ledgers offline, with a checkpoint of before.
async fn ledgers(stage: &Stage) -> Result<()> {
    let ava = stage.cast.person("ava")?;
    let token = ava.token()?;
    let check = stage.caller.post(&token, "/ledger/check", &json!({})).await?;
    if check.get("faults").and_then(Value::as_array).is_none_or(|faults| !faults.is_empty()) {
        bail!("the store is not what the ledger says: {check}");
    }
    let place = stage.striker.place();
    let root = fs::read_to_string(place.role_folder("gateway").join("root.json"))
        .context("the gateway has no root.json")?;
    let control_key =
        find(&serde_json::from_str(&root)?, "control_ledger_key").context("no key of control")?;
    let nodes = stage.caller.get(&stage.cast.person("cleo")?.token()?, "/nodes").await?;
    let mut keys = vec![control_key];
    for node in nodes.as_array().into_iter().flatten() {
        keys.extend(find(node, "ledger_key"));
    }
    if keys.len() != 3 {
        bail!("there should be three ledgers: {nodes}");
    }
    let policy = ava.file("policy");
    let lines: String = keys.iter().map(|key| format!("log {key}\n")).collect();
    fs::write(&policy, lines + "quorum none\n")?;
    let policy = policy.display().to_string();
    let control = place.role_folder("control");
    // The sequencer is a moment behind; what it signed before must still be contained.
    let earlier = ava.file("checkpoint");
    let tiles = control.join("tiles").display().to_string();
    if earlier.exists() {
        ava.run(&["verify", &tiles, "--policy", &policy, "--since", &earlier.display().to_string()])?.ok()?;
    }
    fs::write(&earlier, stage.caller.text(&token, "/checkpoint").await?)?;
    ava.run(&["verify", &tiles, "--policy", &policy])?.ok().context("control's ledger")?;
    for node in ["gw-1", "con-1"] {
        let mirror = control.join("mirrors").join(node).display().to_string();
        ava.run(&["verify", &mirror, "--policy", &policy])?
            .ok()
            .with_context(|| format!("the ledger of {node}"))?;
    }
    Ok(())
}
