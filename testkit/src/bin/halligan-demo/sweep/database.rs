//! The rounds whose access is to the database: a live `psql`, statements, rows that are written, and no user left.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Stage;
use super::plan::Round;
use super::round::{PATIENCE, Story, over};
use super::shell::Shell;
use crate::database::{ENTITLEMENT, Psql};
use crate::people::find;

/// Rows that rounds write have larger numbers than those that were there.
const FIRST_ROW: u64 = 1_000_000;

/// A live `halligan psql` that says something all the time. None if the access was over before one opened.
pub async fn live(stage: &Stage, story: &Story) -> Result<Option<Shell>> {
    let person = stage.cast.person(story.responder)?;
    let end = Instant::now() + PATIENCE;
    while !over(stage, story).await? {
        let mut command = person.command()?;
        command.args(["psql", ENTITLEMENT, "-X", "-A", "-t"]);
        let mut shell = Shell::of(command, person, "SELECT 'ti' || 'ck' \\watch 0.1\n")?;
        if shell.up(Duration::from_secs(8)).await? {
            return Ok(Some(shell));
        }
        if Instant::now() > end {
            bail!("no psql opened in {PATIENCE:?}: {}", shell.said());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(None)
}

/// The stock client with a connect password that was just made.
fn fresh<'a>(stage: &'a Stage, story: &Story) -> Result<Psql<'a>> {
    let made = stage.cast.person(story.responder)?.run(&["password", ENTITLEMENT])?.ok()?.json()?;
    let password = find(&made, "password").context("no connect password was made")?;
    Ok(Psql { place: stage.striker.place(), password })
}

/// Repeats what `sql` makes of a new number each time, with a word that its result has, until one was carried out; gives its
/// number. None if the access was over before.
async fn until_done(
    stage: &Stage,
    story: &mut Story,
    sql: impl Fn(u64) -> (String, Option<String>),
) -> Result<Option<u64>> {
    let end = Instant::now() + PATIENCE;
    let mut tries = 0;
    while !over(stage, story).await? {
        tries += 1;
        let (text, word) = sql(tries);
        let why = match fresh(stage, story) {
            Ok(psql) => {
                let run = psql.run(&text)?;
                story.seen.extend(word.filter(|word| run.out.contains(word.as_str())));
                story.password = Some(psql.password);
                if run.code == 0 {
                    return Ok(Some(tries));
                }
                run.err
            }
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > end {
            bail!("no statement was carried out in {PATIENCE:?}: {why}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(None)
}

/// A statement whose result was seen; its rows take a while to come.
pub async fn read(stage: &Stage, round: &Round, story: &mut Story) -> Result<()> {
    let tag = story.tag.clone();
    let statement = |tries| {
        let word = format!("word-{}-{tries}-{tag}", round.number);
        let sql =
            format!("SELECT '{word}' UNION ALL SELECT md5(n::text) FROM generate_series(1, 40000) AS n");
        (sql, Some(word))
    };
    until_done(stage, story, statement).await.map(drop)
}

/// A row whose writing was acknowledged.
pub async fn write(stage: &Stage, round: &Round, story: &mut Story) -> Result<()> {
    let row = |tries| FIRST_ROW + round.number * 1000 + tries;
    let tag = story.tag.clone();
    let statement = |tries| (format!("INSERT INTO orders VALUES ({}, '{tag}', 1)", row(tries)), None);
    if let Some(tries) = until_done(stage, story, statement).await? {
        story.written.push(row(tries));
    }
    Ok(())
}

/// With the password of before, at the gateway and at the server itself.
pub fn gets_in(stage: &Stage, story: &Story) -> Result<bool> {
    let person = stage.cast.person(story.responder)?;
    let wrapped = person
        .command()?
        .args(["psql", ENTITLEMENT, "-X", "-c", "SELECT 1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let Some(password) = story.password.clone() else { return Ok(wrapped.success()) };
    let psql = Psql { place: stage.striker.place(), password };
    Ok(wrapped.success() || psql.run("SELECT 1")?.code == 0 || psql.directly("SELECT 1")?.code == 0)
}

/// Users of the grant whose time at the server is over before this (microseconds since 1970).
pub fn ends_before(stage: &Stage, story: &Story, deadline: i64) -> Result<String> {
    let server = stage.striker.place().database.as_ref().context("the database is missing")?;
    let grant = story.grant.to_lowercase();
    let sql = format!(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'halligan\\_{grant}%'
         AND rolvaliduntil < to_timestamp({deadline} / 1000000.0) - interval '1 s'"
    );
    Ok(server.sql("postgres", &sql)?.trim().to_owned())
}

/// What must be at the server after the proof.
pub fn after(stage: &Stage, story: &Story) -> Result<()> {
    let server = stage.striker.place().database.as_ref().context("the database is missing")?;
    let grant = story.grant.to_lowercase();
    for (what, sql) in [
        ("user", format!("SELECT rolname FROM pg_roles WHERE rolname LIKE 'halligan\\_{grant}%'")),
        ("backend", format!("SELECT usename FROM pg_stat_activity WHERE usename LIKE 'halligan\\_{grant}%'")),
    ] {
        let left = server.sql("postgres", &sql)?;
        if !left.trim().is_empty() {
            bail!("the end of {} is proved, and a {what} is left: {left}", story.grant);
        }
    }
    for row in &story.written {
        let sql = format!("SELECT count(*) FROM orders WHERE id = {row} AND customer = '{}'", story.tag);
        if server.sql("orders", &sql)?.trim() != "1" {
            bail!("row {row} was acknowledged and is not there");
        }
    }
    Ok(())
}
