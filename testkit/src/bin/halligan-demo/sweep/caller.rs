//! A client as it should be: each call is repeated with its idempotency key until an answer has come whole, and every
//! document in an answer is held against all that was answered before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cast::Cast;
use crate::http::{self, Answer};

/// Longest wait for an answer, restarts included.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered of a document.
#[derive(Clone)]
struct Seen {
    kind: String,
    value: Value,
}

pub struct Caller {
    port: u16,
    seed: u64,
    calls: Cell<u64>,
    repeated: Cell<u64>,
    seen: RefCell<BTreeMap<String, Seen>>,
}

impl Caller {
    pub fn new(port: u16, seed: u64) -> Self {
        Self { port, seed, calls: Cell::new(0), repeated: Cell::new(0), seen: RefCell::default() }
    }

    /// Calls that had to be made more than once.
    pub fn repeated(&self) -> u64 {
        self.repeated.get()
    }

    /// Documents that were answered at least once, with the path under which they are read again.
    pub fn acknowledged(&self) -> Vec<String> {
        let plural = |kind: &str| match kind {
            "request" => "requests",
            "grant" => "grants",
            "incident" => "incidents",
            "review" => "reviews",
            _ => "sessions",
        };
        self.seen.borrow().iter().map(|(id, seen)| format!("/{}/{id}", plural(&seen.kind))).collect()
    }

    pub async fn get(&self, token: &str, path: &str) -> Result<Value> {
        self.call(token, "GET", path, &Value::Null).await
    }

    /// A call that changes something. However often it had to be sent, it is answered as if it had been sent once.
    pub async fn post(&self, token: &str, path: &str, body: &Value) -> Result<Value> {
        self.call(token, "POST", path, body).await
    }

    /// As [`Caller::post`], by a person with a code of their own in the body.
    pub async fn post_with_code(
        &self,
        cast: &mut Cast,
        who: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value> {
        let person = cast.person_mut(who)?;
        let token = person.token()?;
        let mut body = body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.insert("totp".to_owned(), json!(person.code().await?));
        }
        self.post(&token, path, &body).await.with_context(|| format!("{who}: {path}"))
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.answered(token, method, path, body).await?;
        let value = answer.json()?;
        self.look(&value).with_context(|| format!("{method} {path}"))?;
        Ok(value)
    }

    /// An answer that is text.
    pub async fn text(&self, token: &str, path: &str) -> Result<String> {
        Ok(self.answered(token, "GET", path, &Value::Null).await?.text)
    }

    async fn answered(&self, token: &str, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.calls.set(self.calls.get() + 1);
        let key = format!("sweep-{}-{}", self.seed, self.calls.get());
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            match http::once(self.port, method, path, token, &key, body) {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    self.repeated.set(self.repeated.get() + u64::from(tries > 1));
                    return Ok(answer);
                }
                // It is starting or stopping: nothing was decided.
                Ok(answer) if answer.status >= 500 && begun.elapsed() < PATIENCE => {}
                Ok(answer) => {
                    bail!("{method} {path}, try {tries}: {} {}", answer.status, answer.text.trim())
                }
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(error.context(format!("{method} {path}: no answer in {PATIENCE:?}")));
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// Nothing that was answered once is ever taken back.
    fn look(&self, value: &Value) -> Result<()> {
        match value {
            Value::Object(map) => {
                for (kind, inner) in map {
                    let document =
                        ["request", "grant", "incident", "review", "session"].contains(&kind.as_str());
                    if let (true, Some(id)) = (document, inner.get("id").and_then(Value::as_str)) {
                        let mut seen = self.seen.borrow_mut();
                        if let Some(before) = seen.get(id) {
                            not_back(kind, &before.value, inner).with_context(|| {
                                format!("{id} went back\n  before: {}\n  now:    {inner}", before.value)
                            })?;
                        }
                        seen.insert(id.to_owned(), Seen { kind: kind.clone(), value: inner.clone() });
                    } else {
                        self.look(inner)?;
                    }
                }
                Ok(())
            }
            Value::Array(items) => items.iter().try_for_each(|inner| self.look(inner)),
            _ => Ok(()),
        }
    }
}

/// How far a state is along; states of one rank exclude each other.
fn rank(kind: &str, state: &str) -> u8 {
    match (kind, state) {
        (_, "pending" | "scheduled" | "open" | "due") => 0,
        (_, "activating" | "in_review") => 1,
        ("grant", "active") => 2,
        (_, "revoking" | "activation_failed" | "revocation_failed" | "mitigated") => 3,
        ("incident", "closing") => 4,
        (_, "revoked" | "cancelled" | "judged") => 5,
        _ => 6,
    }
}

fn not_back(kind: &str, before: &Value, now: &Value) -> Result<()> {
    let state = |value: &Value| value.get("state").and_then(Value::as_str).unwrap_or("").to_owned();
    let (old, new) = (state(before), state(now));
    if rank(kind, &new) < rank(kind, &old)
        || (rank(kind, &old) >= 5 && rank(kind, &new) == rank(kind, &old) && old != new)
    {
        bail!("its state was {old} and is {new}");
    }
    // Numbers that only grow.
    for field in ["version", "fencing", "looks", "last_session", "sessions", "extensions", "number"] {
        let number = |value: &Value| value.get(field).and_then(Value::as_u64);
        if let (Some(old), Some(new)) = (number(before), number(now))
            && new < old
        {
            bail!("{field} was {old} and is {new}");
        }
    }
    // Lists and maps that only grow; what stands in them stays.
    for field in ["decisions", "extended_by", "notes", "changes", "grants", "reviews", "gateways", "channels"]
    {
        let length = |value: &Value| match value.get(field) {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(items)) => items.len(),
            _ => 0,
        };
        if length(now) < length(before) {
            bail!("{field} had {} entries and has {}", length(before), length(now));
        }
    }
    // What is set once stays as it is.
    for field in [
        "requester",
        "entitlement",
        "incident",
        "reason",
        "grant",
        "person",
        "activated_at",
        "ended_at",
        "opened_at",
    ] {
        let value = |document: &Value| document.get(field).cloned().unwrap_or(Value::Null);
        if !value(before).is_null() && value(before) != value(now) {
            bail!("{field} was {} and is {}", value(before), value(now));
        }
    }
    Ok(())
}
