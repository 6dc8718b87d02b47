//! Replays events through the core's `apply` and compares each document with the digest that its leaf names. A document
//! that somebody changed in the store, or an event that somebody changed in a leaf, shows.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use halligan_core::apply::apply;
use halligan_core::command::{Actor, DocumentRef};
use halligan_core::event::Event;
use halligan_core::leaf::{ChainLink, Leaf, LeafBody};
use halligan_core::time::Time;
use halligan_core::world::World;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::findings::{Faults, chain};

/// What is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// A ledger from its first leaf: every document has its whole history there.
    Whole,
    /// The leaves of one incident: a document is compared as far as its whole history is among them.
    Part,
}

/// A document's place: revision and SHA-256 of its stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its revision.
    pub revision: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// A document that a leaf names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// One of the core's.
    Core(DocumentRef, Stored),
    /// Another, by kind and id.
    Other(String, String, Stored),
}

impl Named {
    pub(crate) fn new(kind: &str, id: &str, revision: u64, sha256: &str) -> Result<Self, String> {
        let mut hash = [0; 32];
        if sha256.len() != 64 || !decode(sha256.as_bytes(), &mut hash) {
            return Err(format!("it names {kind} {id} with something that is no digest"));
        }
        let stored = Stored { revision, sha256: hash };
        Ok(match reference(kind, id) {
            Some(document) => Self::Core(document, stored),
            None => Self::Other(kind.to_owned(), id.to_owned(), stored),
        })
    }
}

/// Lower-case hexadecimal; a table is several times as fast as asking for each character's range.
fn decode(digits: &[u8], out: &mut [u8; 32]) -> bool {
    const NONE: u8 = 0xff;
    const fn value(digit: u8) -> u8 {
        match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => NONE,
        }
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut bad = !rest.is_empty() || pairs.len() != out.len();
    for (slot, [high, low]) in out.iter_mut().zip(pairs) {
        let (high, low) = (value(*high), value(*low));
        bad |= high == NONE || low == NONE;
        *slot = (high << 4) | (low & 0xf);
    }
    !bad
}

/// A leaf of control, read for replay: as [`Leaf`], with the digests resolved.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub at: Time,
    pub actor: Actor,
    pub body: LeafBody,
    pub named: Vec<Named>,
    pub chain: Option<ChainLink>,
}

/// The same fields as [`Leaf`], most of them still text: a tagged enum would copy all of it once more.
#[derive(Deserialize)]
struct Raw<'a> {
    v: u32,
    at: Time,
    actor: Actor,
    #[serde(rename = "catalog")]
    _catalog: u64,
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(borrow)]
    documents: Vec<RawDigest<'a>>,
    chain: Option<ChainLink>,
}

#[derive(Deserialize)]
struct RawDigest<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    revision: u64,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawBody<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    events: Option<Vec<&'a RawValue>>,
}

impl Entry {
    /// Reads a leaf's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let say = |error: serde_json::Error| chain(&error);
        let raw: Raw<'_> = serde_json::from_slice(bytes).map_err(say)?;
        if raw.v != 1 {
            return Err(format!("it has format {}", raw.v));
        }
        let body: RawBody<'_> = serde_json::from_str(raw.body.get()).map_err(say)?;
        let body = match body.events {
            Some(events) if body.kind == "events" => {
                let events = events.into_iter().map(|event| parse_event(event.get()));
                LeafBody::Events { events: events.collect::<Result<_, _>>().map_err(say)? }
            }
            _ => serde_json::from_str(raw.body.get()).map_err(say)?,
        };
        let named = raw
            .documents
            .iter()
            .map(|found| Named::new(&found.kind, &found.id, found.revision, &found.sha256));
        let named = named.collect::<Result<_, _>>()?;
        Ok(Self { at: raw.at, actor: raw.actor, body, named, chain: raw.chain })
    }

    /// From a leaf that was read already.
    pub(crate) fn of(leaf: &Leaf) -> Result<Self, String> {
        let named = leaf
            .documents
            .iter()
            .map(|found| Named::new(&found.kind, &found.id, found.revision, &found.sha256));
        Ok(Self {
            at: leaf.at,
            actor: leaf.actor.clone(),
            body: leaf.body.clone(),
            named: named.collect::<Result<_, _>>()?,
            chain: leaf.chain.clone(),
        })
    }
}

/// Reads an event. Those that hold a whole document are the long ones, and are read without the copy that reading a
/// tagged enum takes; the result is the same.
fn parse_event(text: &str) -> serde_json::Result<Event> {
    macro_rules! whole {
        ($($tag:literal $variant:ident $field:ident;)*) => {$(
            if text.starts_with(concat!("{\"event\":\"", $tag, "\",")) {
                #[derive(Deserialize)]
                struct Whole<T> {
                    $field: Box<T>,
                }
                return serde_json::from_str(text).map(|Whole { $field }| Event::$variant { $field });
            }
        )*};
    }
    whole! {
        "request_filed" RequestFiled request;
        "grant_scheduled" GrantScheduled grant;
        "session_opened" SessionOpened session;
        "incident_opened" IncidentOpened incident;
        "review_opened" ReviewOpened review;
    }
    serde_json::from_str(text)
}

struct Seen {
    stored: Stored,
    /// Its whole history was replayed.
    whole: bool,
}

/// The part of the documents that one of several replays compares.
#[derive(Clone, Copy, Debug)]
struct Share {
    place: u64,
    of: u64,
}

/// A replay under way. Leaves go in by [`Replay::push`], in order.
pub struct Replay {
    history: History,
    share: Share,
    world: World,
    seen: HashMap<DocumentRef, Seen>,
    /// Documents that came whole out of an event, and have no digest yet or a whole history.
    whole: BTreeSet<DocumentRef>,
    /// Changed, and the digest is still to come: a command may take several leaves.
    owed: BTreeSet<DocumentRef>,
    /// The leaf that owes.
    last: Option<(u64, Time, Actor)>,
    others: BTreeMap<(String, String), Stored>,
    buffer: Vec<u8>,
    compared: u64,
}

/// What a replay led to.
pub struct Replayed {
    /// The documents of the core as the last leaves left them.
    pub documents: HashMap<DocumentRef, Stored>,
    /// Documents of other kinds (accounts, nodes, …), by kind and id, as leaves name them. These are not replayed.
    pub others: BTreeMap<(String, String), Stored>,
    /// The world.
    pub world: World,
    /// Digests that were compared.
    pub compared: u64,
}

impl Replay {
    /// Begins.
    #[must_use]
    pub fn new(history: History) -> Self {
        Self::sharing(history, 0, 1)
    }

    /// Replays everything and compares every `of`-th document: several of these together compare all, each on its own
    /// processor.
    pub(crate) fn sharing(history: History, place: u64, of: u64) -> Self {
        Self {
            history,
            share: Share { place, of: of.max(1) },
            world: World::default(),
            seen: HashMap::new(),
            whole: BTreeSet::new(),
            owed: BTreeSet::new(),
            last: None,
            others: BTreeMap::new(),
            buffer: Vec::new(),
            compared: 0,
        }
    }

    /// Takes a leaf from its bytes.
    pub fn push_bytes(&mut self, index: u64, leaf: &[u8], faults: &mut Faults) {
        match Entry::parse(leaf) {
            Ok(entry) => self.push(index, &entry, faults),
            Err(why) => faults.say(format!("leaf {index} cannot be read: {why}")),
        }
    }

    /// Takes a leaf that was read already.
    pub fn push_leaf(&mut self, index: u64, leaf: &Leaf, faults: &mut Faults) {
        match Entry::of(leaf) {
            Ok(entry) => self.push(index, &entry, faults),
            Err(why) => faults.say(format!("leaf {index} cannot be read: {why}")),
        }
    }

    pub(crate) fn push(&mut self, index: u64, leaf: &Entry, faults: &mut Faults) {
        let LeafBody::Events { events } = &leaf.body else {
            self.settle(None, faults);
            for named in &leaf.named {
                self.named(index, named, faults);
            }
            return;
        };
        self.settle(Some((leaf.at, &leaf.actor)), faults);
        for event in events {
            apply(&mut self.world, event, leaf.at);
            if let Some(document) = made_whole(event).filter(|document| self.share.has(document)) {
                self.whole.insert(document);
            }
        }
        let changed = std::mem::take(&mut self.world.changed);
        self.owed.extend(changed.into_iter().filter(|document| self.share.has(document)));
        for named in &leaf.named {
            self.named(index, named, faults);
        }
        if !self.owed.is_empty() {
            self.last = Some((index, leaf.at, leaf.actor.clone()));
        }
    }

    /// Digests that are owed come in leaves of the same command, or never.
    fn settle(&mut self, next: Option<(Time, &Actor)>, faults: &mut Faults) {
        if self.owed.is_empty() {
            return;
        }
        let goes_on = match (&self.last, next) {
            (Some((_, at, actor)), Some((next_at, next_actor))) => *at == next_at && actor == next_actor,
            _ => false,
        };
        if !goes_on {
            let index = self.last.as_ref().map_or(0, |(index, ..)| *index);
            for document in std::mem::take(&mut self.owed) {
                // Of a standing, half a history says nothing.
                if self.history == History::Whole || self.whole.contains(&document) {
                    faults.say(format!("leaf {index} changes {} and names no digest of it", name(&document)));
                }
            }
        }
    }

    /// A leaf names a document with its digest.
    fn named(&mut self, index: u64, named: &Named, faults: &mut Faults) {
        let (document, stored) = match named {
            Named::Core(document, stored) => (document, *stored),
            Named::Other(kind, id, stored) => {
                if self.share.place == 0 {
                    self.others.insert((kind.clone(), id.clone()), *stored);
                }
                return;
            }
        };
        if !self.share.has(document) {
            return;
        }
        self.owed.remove(document);
        let revision = stored.revision;
        let before = self.seen.get(document);
        let follows = before.map_or(1, |seen| seen.stored.revision + 1) == revision;
        let whole = match (self.history, before) {
            (History::Whole, _) => {
                if !follows {
                    let had = before.map_or(0, |seen| seen.stored.revision);
                    faults.say(format!(
                        "leaf {index} names revision {revision} of {} after revision {had}",
                        name(document)
                    ));
                }
                true
            }
            (History::Part, Some(seen)) => {
                // A standing goes across incidents; the others belong to one.
                if !follows && !matches!(document, DocumentRef::Standing(_)) {
                    faults.say(format!(
                        "leaf {index} names revision {revision} of {} after revision {}: a leaf is missing",
                        name(document),
                        seen.stored.revision
                    ));
                }
                (seen.whole && follows) || self.whole.contains(document)
            }
            (History::Part, None) => revision == 1 || self.whole.contains(document),
        };
        self.whole.remove(document);
        if whole {
            self.compared += 1;
            self.buffer.clear();
            match serialise(&self.world, document, &mut self.buffer) {
                Ok(true) => {
                    let found: [u8; 32] = Sha256::digest(&self.buffer).into();
                    if found != stored.sha256 {
                        faults.say(format!(
                            "leaf {index}: {} at revision {revision} is not what its events make of it",
                            name(document)
                        ));
                    }
                }
                Ok(false) => {
                    faults.say(format!("leaf {index} names {}, which no event has made", name(document)));
                }
                Err(error) => faults.say(format!("leaf {index}: {}: {error}", name(document))),
            }
        }
        self.seen.insert(document.clone(), Seen { stored, whole });
    }

    /// Whether the whole history of a document was replayed.
    #[must_use]
    pub fn is_whole(&self, document: &DocumentRef) -> bool {
        self.seen.get(document).is_some_and(|seen| seen.whole)
    }

    /// The documents so far, without ending the replay.
    #[must_use]
    pub fn documents(&self) -> HashMap<DocumentRef, Stored> {
        self.seen.iter().map(|(document, seen)| (document.clone(), seen.stored)).collect()
    }

    /// Ends: what is still owed is a fault.
    pub fn finish(mut self, faults: &mut Faults) -> Replayed {
        self.settle(None, faults);
        Replayed {
            documents: self.seen.into_iter().map(|(document, seen)| (document, seen.stored)).collect(),
            others: self.others,
            world: self.world,
            compared: self.compared,
        }
    }
}

/// Replays leaves given one by one: the documents that result, and what is wrong.
pub fn replay(leaves: impl IntoIterator<Item = (u64, Vec<u8>)>) -> (Replayed, Faults) {
    let mut replay = Replay::new(History::Whole);
    let mut faults = Faults::default();
    for (index, leaf) in leaves {
        replay.push_bytes(index, &leaf, &mut faults);
    }
    (replay.finish(&mut faults), faults)
}

impl Share {
    fn has(self, document: &DocumentRef) -> bool {
        if self.of == 1 {
            return true;
        }
        let bits = match document {
            DocumentRef::Request(id) => id.bits(),
            DocumentRef::Grant(id) => id.bits(),
            DocumentRef::Session(id) => id.bits(),
            DocumentRef::Incident(id) => id.bits(),
            DocumentRef::Review(id) => id.bits(),
            DocumentRef::Change(id) => id.bits(),
            DocumentRef::Standing(id) => id.as_str().bytes().map(u128::from).sum(),
        };
        // The low bits of an id are random.
        (bits as u64) % self.of == self.place
    }
}

/// The document that an event holds in full.
fn made_whole(event: &Event) -> Option<DocumentRef> {
    Some(match event {
        Event::RequestFiled { request } => DocumentRef::Request(request.id),
        Event::Escalated { request, .. } => DocumentRef::Request(*request),
        Event::GrantScheduled { grant } => DocumentRef::Grant(grant.id),
        Event::SessionOpened { session } => DocumentRef::Session(session.id),
        Event::IncidentOpened { incident } => DocumentRef::Incident(incident.id),
        Event::ReviewOpened { review } => DocumentRef::Review(review.id),
        Event::ChangeProposed { change } => DocumentRef::Change(change.id),
        _ => return None,
    })
}

/// The core's document that a leaf's kind and id mean; none for other kinds.
#[must_use]
pub fn reference(kind: &str, id: &str) -> Option<DocumentRef> {
    match kind {
        "request" => id.parse().ok().map(DocumentRef::Request),
        "grant" => id.parse().ok().map(DocumentRef::Grant),
        "session" => id.parse().ok().map(DocumentRef::Session),
        "incident" => id.parse().ok().map(DocumentRef::Incident),
        "review" => id.parse().ok().map(DocumentRef::Review),
        "change" => id.parse().ok().map(DocumentRef::Change),
        "standing" => id.parse().ok().map(DocumentRef::Standing),
        _ => None,
    }
}

/// Kind and id of a document, as leaves and the store write them.
#[must_use]
pub fn kind_and_id(document: &DocumentRef) -> (&'static str, String) {
    match document {
        DocumentRef::Request(id) => ("request", id.to_string()),
        DocumentRef::Grant(id) => ("grant", id.to_string()),
        DocumentRef::Session(id) => ("session", id.to_string()),
        DocumentRef::Incident(id) => ("incident", id.to_string()),
        DocumentRef::Review(id) => ("review", id.to_string()),
        DocumentRef::Change(id) => ("change", id.to_string()),
        DocumentRef::Standing(id) => ("standing", id.to_string()),
    }
}

/// `grant grt_…`, for people.
pub(crate) fn name(document: &DocumentRef) -> String {
    let (kind, id) = kind_and_id(document);
    format!("{kind} {id}")
}

/// The stored form of a document: JSON in the order of the type's fields. False if it is not there.
fn serialise(world: &World, document: &DocumentRef, out: &mut Vec<u8>) -> Result<bool, serde_json::Error> {
    macro_rules! write {
        ($found:expr) => {
            match $found {
                Some(found) => serde_json::to_writer(out, found).map(|()| true),
                None => Ok(false),
            }
        };
    }
    match document {
        DocumentRef::Request(id) => write!(world.requests.get(id)),
        DocumentRef::Grant(id) => write!(world.grants.get(id)),
        DocumentRef::Session(id) => write!(world.sessions.get(id)),
        DocumentRef::Incident(id) => write!(world.incidents.get(id)),
        DocumentRef::Review(id) => write!(world.reviews.get(id)),
        DocumentRef::Change(id) => write!(world.changes.get(id)),
        DocumentRef::Standing(id) => write!(world.standings.get(id)),
    }
}

/// The stored form of a document in the world.
pub(crate) fn stored_form(world: &World, document: &DocumentRef) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    matches!(serialise(world, document, &mut out), Ok(true)).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_digests_are_read() {
        let good = "0123456789abcdef".repeat(4);
        let mut out = [0; 32];
        assert!(decode(good.as_bytes(), &mut out));
        assert_eq!(hex::encode(out), good);
        for bad in [good.to_uppercase(), good.replace('0', "g"), good[1..].to_owned(), format!("{good}0")] {
            assert!(Named::new("grant", "x", 1, &bad).is_err(), "{bad}");
        }
    }
}
