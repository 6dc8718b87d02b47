//! The database in the story: two approvers, the stock `psql`, a change of the schema that waits for a second person, and the
//! proof that the user is gone.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cast::Cast;
use crate::people::{Ran, find, id};
use crate::place::Place;
use crate::story::{Teller, eventually, proof, proof_within, request, show};

pub const ENTITLEMENT: &str = "orders-db/operate";

/// For a server that makes no new users.
const RESCUE: &str = "orders-db/rescue";
/// What such a server says of itself.
const READ_ONLY: &str = "ALTER SYSTEM SET default_transaction_read_only = on";

/// Anna asks, carla and dmitri agree; gives the grant when it is active.
async fn granted(cast: &mut Cast, entitlement: &str, incident: &str) -> Result<String> {
    let more = ["--for", "20m", "--why-not-lower", "rows must be corrected", "--incident", incident];
    let mut filed = request(cast.person("anna")?, entitlement, "db-locked", &more)?;
    if filed.code != 0 {
        let totp = cast.person_mut("anna")?.code().await?;
        let more = [&more[..], &["--totp", &totp]].concat();
        filed = request(cast.person("anna")?, entitlement, "db-locked", &more)?;
    }
    let wanted = id(&filed.ok()?.json()?, "req_").context("the request has no id")?;
    for who in ["carla", "dmitri"] {
        cast.person_mut(who)?
            .run_with_code(&["approve", &wanted, "--reason", "rows are stuck"])
            .await?
            .ok()?;
    }
    let anna = cast.person("anna")?;
    eventually("the grant to be active", Duration::from_secs(15), || {
        let grant = id(&show(anna, &wanted)?, "grt_");
        let active =
            |grant: &String| Ok::<_, anyhow::Error>(show(anna, grant)?.to_string().contains("\"active\""));
        Ok(match grant {
            Some(grant) if active(&grant)? => Some(grant),
            _ => None,
        })
    })
    .await
}

/// The server takes no writes, so no user can be made in it. A standing role, which only a certificate opens, is there for
/// that. Gives its grant: the proof comes when the certificate is over, and nobody waits for it here.
pub async fn rescue(place: &Place, cast: &mut Cast, tell: &mut Teller, incident: &str) -> Result<String> {
    let database = place.database.as_ref().context("the database is missing")?;
    let says = |statement: &str| {
        database.sql("postgres", statement)?;
        database.sql("postgres", "SELECT pg_reload_conf()")
    };
    says(READ_ONLY)?;
    let grant = granted(cast, RESCUE, incident).await?;
    let anna = cast.person("anna")?;
    let psql = |sql: &str| {
        let wrapped =
            ["psql", RESCUE, "-X", "-A", "-t", "-c", "SET default_transaction_read_only = off", "-c", sql];
        Ok::<_, anyhow::Error>(Ran::of(anna.command()?.args(wrapped).output()?))
    };
    let run = psql("UPDATE orders SET cents = cents WHERE id = 1 RETURNING session_user")?;
    let run = run.ok().context("halligan psql at a server that makes no users")?;
    if !run.out.contains("halligan_prep_") {
        bail!("that was no standing role: {}", run.out);
    }
    let made =
        database.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'halligan\\_grt%'")?;
    if made.trim() != "0" {
        bail!("{made} users were made");
    }
    says("ALTER SYSTEM RESET default_transaction_read_only")?;
    anna.run(&["give-back", &grant])?.ok()?;
    if psql("SELECT 1")?.code == 0 {
        bail!("psql got in after the end");
    }
    tell.done(
        "a server that takes no writes: anna gets in as a standing role, by a certificate of two minutes",
    );
    Ok(grant)
}

/// The proof for [`rescue`]'s grant.
pub async fn rescued(cast: &Cast, tell: &mut Teller, grant: &str) -> Result<()> {
    proof_within(cast.person("anna")?, grant, Duration::from_secs(180)).await?;
    tell.done("proved: the standing role is what it was, and its certificates open nothing any more");
    Ok(())
}

/// Everything that happens in the database.
pub async fn scene(place: &Place, cast: &mut Cast, tell: &mut Teller, incident: &str) -> Result<()> {
    let grant = granted(cast, ENTITLEMENT, incident).await?;
    let anna = cast.person("anna")?;
    let made = anna.run(&["password", ENTITLEMENT])?.ok()?.json()?;
    let password = find(&made, "password").context("no connect password was made")?;
    let psql = Psql { place, password };
    let seen = eventually("psql", Duration::from_secs(15), || {
        let run = psql.run("SELECT 'there are ' || count(*) || ' orders' FROM orders")?;
        Ok((run.code == 0).then_some(run))
    })
    .await;
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => bail!("{error:#}: {}", psql.run("SELECT 1")?.err),
    };
    if !seen.out.contains("there are 1000 orders") {
        bail!("psql saw something else: {} {}", seen.out, seen.err);
    }
    psql.run("UPDATE orders SET cents = cents + 1 WHERE id <= 10")?.ok().context("an update")?;
    let wrapped = ["psql", ENTITLEMENT, "-X", "-A", "-t", "-c", "SELECT 'nobody typed a password'"];
    let anna = cast.person("anna")?;
    let run = Ran::of(anna.command()?.args(wrapped).output()?).ok().context("halligan psql")?;
    if !run.out.contains("nobody typed a password") {
        bail!("halligan psql said something else: {}", run.out);
    }
    tell.done("psql through the gateway: anna reads and corrects rows as a user of her own");
    refused(place, &psql)?;
    tell.done("refused: the same password directly at the server, a change of rights, a wrong password");
    second_person(cast, &psql).await?;
    let database = place.database.as_ref().context("the database is missing")?;
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'corrections'";
    let owner = database.sql("orders", owner)?;
    if owner.trim() != "orders_operators" {
        bail!("what the session made belongs to {owner}, not to the group");
    }
    tell.done("a change of the schema waited until carla had read and allowed that one statement");
    live_check(place, cast)?;
    tell.done("the server's rights are as the catalog says; refused when readers could write");
    let anna = cast.person("anna")?;
    anna.run(&["give-back", &grant])?.ok()?;
    proof(anna, &grant).await?;
    let database = place.database.as_ref().context("the database is missing")?;
    let left =
        database.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'halligan\\_grt%'")?;
    if left.trim() != "0" {
        bail!("{left} users are left at the server");
    }
    if psql.run("SELECT 1")?.code == 0 {
        bail!("psql got in after the end");
    }
    tell.done(
        "given back, and proved at the server: no user, no backend, nothing owned; the direct way is shut",
    );
    Ok(())
}

/// The catalog's words against the server's rights: first true, then not, because somebody gave readers more.
fn live_check(place: &Place, cast: &Cast) -> Result<()> {
    let database = place.database.as_ref().context("the database is missing")?;
    let check = || cast.person("cleo")?.run(&["catalog", "check", "--live", "--system", "orders-db"]);
    check()?.ok().context("the live check")?;
    database.sql("orders", "GRANT INSERT ON orders TO orders_readers")?;
    check()?.refused("read-only").context("the live check of readers who write")?;
    database.sql("orders", "REVOKE INSERT ON orders FROM orders_readers")?;
    check()?.ok().context("the live check")?;
    Ok(())
}

/// What must not work.
fn refused(place: &Place, psql: &Psql<'_>) -> Result<()> {
    if psql.directly("SELECT 1")?.code == 0 {
        bail!("the connect password opens the server itself");
    }
    psql.run("GRANT SELECT ON orders TO PUBLIC")?.refused("")?;
    let wrong = Psql { place, password: "0".repeat(32) };
    if wrong.run("SELECT 1")?.code == 0 {
        bail!("a wrong password got in");
    }
    Ok(())
}

/// `ALTER TABLE` is held; somebody else lets that one pass.
async fn second_person(cast: &mut Cast, psql: &Psql<'_>) -> Result<()> {
    let mut held = psql.command(psql.place.psql, "CREATE TABLE corrections (id BIGINT, why TEXT)");
    let held = held.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let carla = cast.person("carla")?;
    let (session, number) = eventually("the held statement", Duration::from_secs(20), || {
        let found = carla.run(&["statements", "list"])?.ok()?.json()?;
        let number = number_of(&found);
        Ok(id(&found, "ses_").zip(number))
    })
    .await?;
    cast.person_mut("carla")?
        .run_with_code(&["statements", "allow", &session, &number, "--reason", "read, a new table only"])
        .await?
        .ok()?;
    let output = held.wait_with_output()?;
    if !output.status.success() {
        bail!("the held statement did not pass: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn number_of(found: &Value) -> Option<String> {
    match found {
        Value::Array(items) => items.iter().find_map(number_of),
        Value::Object(map) => map
            .get("hold")
            .and_then(Value::as_u64)
            .map(|number| number.to_string())
            .or_else(|| map.values().find_map(number_of)),
        _ => None,
    }
}

/// The stock client with a connect password.
pub struct Psql<'a> {
    pub place: &'a Place,
    pub password: String,
}

impl Psql<'_> {
    fn command(&self, port: u16, sql: &str) -> Command {
        let mut command = Command::new("psql");
        command
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(format!(
                "host=127.0.0.1 port={port} dbname=orders user=operate+orders-db sslmode=require connect_timeout=10"
            ))
            .env("PGPASSWORD", &self.password)
            .stdin(Stdio::null());
        command
    }
    fn at(&self, port: u16, sql: &str) -> Result<Ran> {
        Ok(Ran::of(self.command(port, sql).output()?))
    }
    /// Through the gateway.
    pub fn run(&self, sql: &str) -> Result<Ran> {
        self.at(self.place.psql, sql)
    }
    /// Past the gateway.
    pub fn directly(&self, sql: &str) -> Result<Ran> {
        let database = self.place.database.as_ref().context("the database is missing")?;
        self.at(database.address().port(), sql)
    }
}
