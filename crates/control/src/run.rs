//! The one way in: a command becomes events, documents, leaves and outbox rows in one commit, or a refusal.

use std::time::Duration;

use halligan_core::apply::apply;
use halligan_core::command::{Actor, Command, DocumentRef};
use halligan_core::decide::{Context, decide};
use halligan_core::effect::Effect;
use halligan_core::event::Event;
use halligan_core::ids::{FreshIds, IncidentId};
use halligan_core::leaf::{ChainLink, DocumentDigest, LEAF_MAX_BYTES, Leaf, LeafBody};
use halligan_core::react::{incident_of, react};
use halligan_core::time::Time;
use halligan_core::world::World;
use halligan_store::{Commit, CommitError, DocumentKey, DocumentWrite, OutboxRow};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::control::Control;
use crate::documents::{bytes, key_of, kind_of, parse, stored};
use crate::error::ControlError;
use crate::load::Slice;

/// Most times that a decision is made anew because others changed what it saw.
const MOST_ATTEMPTS: u32 = 24;
/// Events are spread over leaves of about this size, so that documents' digests fit beside them.
const LEAF_FILL_BYTES: usize = LEAF_MAX_BYTES - 4 * 1024;

/// A command on its way in.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Who.
    pub actor: Actor,
    /// What.
    pub command: Command,
    /// Key under which a repetition is answered with the first outcome.
    pub idempotency: Option<String>,
}

/// A command that was carried out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened; empty if there was nothing left to do.
    pub events: Vec<Event>,
    /// The documents that it saw and changed, as they are now.
    pub world: World,
    /// When.
    pub at: Time,
    /// Index of its first leaf; none if nothing happened.
    pub leaf: Option<u64>,
}

/// The chain of one incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Leaves so far.
    pub count: u64,
    /// RFC 6962 hash (hex) of the last.
    pub head: String,
}

/// What an outbox row asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// The effect.
    pub effect: Effect,
    /// When its decision was made.
    pub at: Time,
}

/// Topic of effects on nodes.
pub const TOPIC_NODES: &str = "nodes";
/// Topic of alerts.
pub const TOPIC_ALERTS: &str = "alerts";

impl Control {
    /// Carries a command out.
    pub async fn run(&self, actor: &Actor, command: Command) -> Result<Outcome, ControlError> {
        self.run_wish(&Wish { actor: actor.clone(), command, idempotency: None }).await
    }

    /// As [`Control::run`], with a key under which repetitions are answered alike.
    pub async fn run_wish(&self, wish: &Wish) -> Result<Outcome, ControlError> {
        for attempt in 0..MOST_ATTEMPTS {
            match self.attempt(wish).await {
                Err(ControlError::Commit(CommitError::Conflict { .. })) => {
                    self.refresh_catalog().await?;
                    let pause = u64::from(attempt) * 2;
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(ControlError::Commit(CommitError::Duplicate { answer })) => {
                    return self.repeated(wish, &answer).await;
                }
                // Done before, and so not to be done again: that is no refusal, if this very wish did it.
                Err(ControlError::Refused(refusal)) => {
                    return match self.answered(wish).await? {
                        Some(answer) => self.repeated(wish, &answer).await,
                        None => Err(refusal.into()),
                    };
                }
                Ok(outcome) if outcome.events.is_empty() => {
                    return match self.answered(wish).await? {
                        Some(answer) => self.repeated(wish, &answer).await,
                        None => Ok(outcome),
                    };
                }
                other => return other,
            }
        }
        Err(ControlError::Busy)
    }

    async fn answered(&self, wish: &Wish) -> Result<Option<Vec<u8>>, ControlError> {
        match &wish.idempotency {
            Some(key) => Ok(self.store().answer(key).await?),
            None => Ok(None),
        }
    }

    async fn attempt(&self, wish: &Wish) -> Result<Outcome, ControlError> {
        self.may_decide()?;
        let in_force = self.in_force();
        let store = self.store();
        let mut slice = Slice::load(store, &in_force, &wish.command).await?;
        let now = self.now();
        let mut seed = [0u8; 16];
        getrandom::fill(&mut seed).map_err(ControlError::local("draw randomness"))?;
        let mut context = Context { now, actor: &wish.actor, ids: FreshIds::new(seed, now) };
        let events = decide(&slice.world, &slice.facts(&in_force), &mut context, &wish.command)?;
        if events.is_empty() {
            return Ok(Outcome { events, world: slice.world, at: now, leaf: None });
        }
        let mut world = slice.world.clone();
        let mut effects = Vec::new();
        for event in &events {
            apply(&mut world, event, now);
            effects.extend(react(&world, &slice.facts(&in_force), event));
        }
        let late_after = in_force.head.catalog.settings.revocation_late_after;
        let mut documents = Vec::new();
        let mut digests = Vec::new();
        for document in &world.changed {
            let Some(form) = stored(&world, document, late_after)? else { continue };
            let revision = slice.revisions.get(document).copied().unwrap_or(0);
            digests.push(DocumentDigest {
                kind: kind_of(document).to_owned(),
                id: key_of(document).id,
                revision: revision + 1,
                sha256: hex::encode(Sha256::digest(&form.body)),
            });
            documents.push(DocumentWrite {
                key: key_of(document),
                expected_revision: revision,
                body: form.body,
                indexes: form.indexes,
                due_at: form.due_at.map(Time::micros),
                deleted: false,
            });
        }
        let mut chain = self.chain(&mut slice, incident_of(&world)).await?;
        let leaves = leaves(now, &wish.actor, in_force.head.version, &events, digests, chain.as_mut())?;
        if let Some((key, revision, _, after)) = &chain {
            documents.push(DocumentWrite::put(key.clone(), *revision, bytes(after)?));
        }
        let outbox = outbox(&effects, now, &seed)?;
        let idempotency = match &wish.idempotency {
            Some(key) => Some((key.clone(), bytes(&events)?)),
            None => None,
        };
        let commit = Commit {
            leaves,
            documents,
            outbox,
            read_set: slice.read_set,
            commit_time: now.micros(),
            idempotency,
        };
        let done = store.commit(commit).await?;
        self.seen(Time::from_micros(done.time));
        world.changed.clear();
        Ok(Outcome { events, world, at: now, leaf: Some(done.first_leaf) })
    }

    /// The chain document of an incident, entered into the read set: key, revision, incident, chain.
    async fn chain(
        &self,
        slice: &mut Slice,
        incident: Option<IncidentId>,
    ) -> Result<Option<(DocumentKey, u64, IncidentId, Chain)>, ControlError> {
        let Some(incident) = incident else { return Ok(None) };
        let key = DocumentKey::new("chain", incident.to_string());
        let found = self.store().get(&key).await?;
        slice.read_set.looked(&key, found.as_ref());
        Ok(Some(match found {
            Some(document) => (key.clone(), document.revision, incident, parse(&key, &document.body)?),
            None => (key, 0, incident, Chain::default()),
        }))
    }

    /// Answers a repetition: the same events, the documents as they are by now.
    async fn repeated(&self, wish: &Wish, answer: &[u8]) -> Result<Outcome, ControlError> {
        let events: Vec<Event> = parse(&DocumentKey::new("answer", "repeated"), answer)?;
        let in_force = self.in_force();
        let mut slice = Slice::load(self.store(), &in_force, &wish.command).await?;
        for event in &events {
            // New documents are not among the command's needs; their first form is in the event.
            let mut after = slice.world.clone();
            apply(&mut after, event, self.now());
            let made: Vec<DocumentRef> = after.changed.iter().cloned().collect();
            for document in made {
                if !slice.world.known.contains(&document)
                    && let Some(found) = self.store().get(&key_of(&document)).await?
                {
                    crate::documents::insert(&mut slice.world, &document, &found.body)?;
                    slice.world.known.insert(document);
                }
            }
        }
        Ok(Outcome { events, world: slice.world, at: self.now(), leaf: None })
    }

    /// Records something that is not an event of the domain: identity, nodes, the catalog.
    pub async fn note(
        &self,
        actor: &Actor,
        body: LeafBody,
        documents: Vec<DocumentWrite>,
    ) -> Result<u64, ControlError> {
        self.may_decide()?;
        let now = self.now();
        let digests = documents
            .iter()
            .map(|write| DocumentDigest {
                kind: write.key.kind.clone(),
                id: write.key.id.clone(),
                revision: write.expected_revision + 1,
                sha256: hex::encode(Sha256::digest(&write.body)),
            })
            .collect();
        let leaf = Leaf {
            v: 1,
            at: now,
            actor: actor.clone(),
            catalog: self.in_force().head.version,
            body,
            documents: digests,
            chain: None,
        };
        let leaf = bytes(&leaf)?;
        if leaf.len() > LEAF_MAX_BYTES {
            return Err(ControlError::TooLarge);
        }
        let commit = Commit { leaves: vec![leaf], documents, commit_time: now.micros(), ..Commit::default() };
        let done = self.store().commit(commit).await?;
        self.seen(Time::from_micros(done.time));
        Ok(done.first_leaf)
    }
}

/// Spreads events and digests over as few leaves as hold them; digests come after all events.
fn leaves(
    at: Time,
    actor: &Actor,
    catalog: u64,
    events: &[Event],
    digests: Vec<DocumentDigest>,
    mut chain: Option<&mut (DocumentKey, u64, IncidentId, Chain)>,
) -> Result<Vec<Vec<u8>>, ControlError> {
    let mut parts: Vec<(Vec<Event>, Vec<DocumentDigest>)> = vec![(Vec::new(), Vec::new())];
    let mut filled = 0;
    let mut room = |parts: &mut Vec<(Vec<Event>, Vec<DocumentDigest>)>, size: usize| {
        if filled > 0 && filled + size > LEAF_FILL_BYTES {
            parts.push((Vec::new(), Vec::new()));
            filled = 0;
        }
        filled += size;
    };
    for event in events {
        room(&mut parts, bytes(event)?.len() + 1);
        if let Some(last) = parts.last_mut() {
            last.0.push(event.clone());
        }
    }
    for digest in digests {
        room(&mut parts, 200);
        if let Some(last) = parts.last_mut() {
            last.1.push(digest);
        }
    }
    let mut out = Vec::new();
    for (events, documents) in parts {
        let link = chain.as_ref().map(|found| ChainLink {
            incident: found.2,
            number: found.3.count + 1,
            previous: found.3.head.clone(),
        });
        let leaf = Leaf {
            v: 1,
            at,
            actor: actor.clone(),
            catalog,
            body: LeafBody::Events { events },
            documents,
            chain: link,
        };
        let leaf = bytes(&leaf)?;
        if leaf.len() > LEAF_MAX_BYTES {
            return Err(ControlError::TooLarge);
        }
        if let Some(found) = chain.as_deref_mut() {
            found.3.count += 1;
            found.3.head = halligan_ledger::leaf_hash(&leaf).to_hex();
        }
        out.push(leaf);
    }
    Ok(out)
}

fn outbox(effects: &[Effect], now: Time, seed: &[u8; 16]) -> Result<Vec<OutboxRow>, ControlError> {
    let tag = hex::encode(seed);
    effects
        .iter()
        .enumerate()
        .map(|(index, effect)| {
            let not_before = match effect {
                Effect::Look { not_before, .. } => *not_before,
                _ => now,
            };
            Ok(OutboxRow {
                id: format!("{tag}-{index}"),
                topic: if matches!(effect, Effect::Alert(_)) { TOPIC_ALERTS } else { TOPIC_NODES }.to_owned(),
                body: bytes(&Errand { effect: effect.clone(), at: now })?,
                not_before: not_before.micros(),
            })
        })
        .collect()
}
