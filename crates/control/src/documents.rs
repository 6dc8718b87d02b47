//! How the core's documents lie in the store: key, canonical bytes, indexes, when they want to be looked at.

use halligan_core::change::{self, ChangeState};
use halligan_core::command::DocumentRef;
use halligan_core::grant::{self, GrantState};
use halligan_core::incident::IncidentState;
use halligan_core::request::{self, RequestState};
use halligan_core::review::{self, ReviewState};
use halligan_core::time::{Span, Time};
use halligan_core::world::World;
use halligan_store::DocumentKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ControlError;

/// Index of sessions in which a statement waits for a second person.
pub const HELD_INDEX: (&str, &str) = ("held", "yes");

/// The kind under which a document is stored.
pub const fn kind_of(document: &DocumentRef) -> &'static str {
    match document {
        DocumentRef::Request(_) => "request",
        DocumentRef::Grant(_) => "grant",
        DocumentRef::Session(_) => "session",
        DocumentRef::Incident(_) => "incident",
        DocumentRef::Review(_) => "review",
        DocumentRef::Standing(_) => "standing",
        DocumentRef::Change(_) => "change",
    }
}

/// The store's key of a document.
pub fn key_of(document: &DocumentRef) -> DocumentKey {
    let id = match document {
        DocumentRef::Request(id) => id.to_string(),
        DocumentRef::Grant(id) => id.to_string(),
        DocumentRef::Session(id) => id.to_string(),
        DocumentRef::Incident(id) => id.to_string(),
        DocumentRef::Review(id) => id.to_string(),
        DocumentRef::Standing(id) => id.to_string(),
        DocumentRef::Change(id) => id.to_string(),
    };
    DocumentKey::new(kind_of(document), id)
}

/// Reads stored bytes.
pub fn parse<T: DeserializeOwned>(key: &DocumentKey, body: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(|source| ControlError::Form { what: key.to_string(), source })
}

/// Canonical bytes: field order is that of the type, maps are sorted.
pub fn bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, ControlError> {
    serde_json::to_vec(value)
        .map_err(|source| ControlError::Form { what: "a value to be written".to_owned(), source })
}

/// Puts a stored document into the world.
pub fn insert(world: &mut World, document: &DocumentRef, body: &[u8]) -> Result<(), ControlError> {
    let key = key_of(document);
    match document {
        DocumentRef::Request(id) => drop(world.requests.insert(*id, parse(&key, body)?)),
        DocumentRef::Grant(id) => drop(world.grants.insert(*id, parse(&key, body)?)),
        DocumentRef::Session(id) => drop(world.sessions.insert(*id, parse(&key, body)?)),
        DocumentRef::Incident(id) => drop(world.incidents.insert(*id, parse(&key, body)?)),
        DocumentRef::Review(id) => drop(world.reviews.insert(*id, parse(&key, body)?)),
        DocumentRef::Standing(id) => drop(world.standings.insert(id.clone(), parse(&key, body)?)),
        DocumentRef::Change(id) => drop(world.changes.insert(*id, parse(&key, body)?)),
    }
    Ok(())
}

/// How a document of the world is to be stored.
pub struct Stored {
    /// Canonical bytes.
    pub body: Vec<u8>,
    /// Indexes.
    pub indexes: Vec<(String, String)>,
    /// When time will do something to it.
    pub due_at: Option<Time>,
}

/// Serialises a document of the world; `None` if it is not there.
pub fn stored(
    world: &World,
    document: &DocumentRef,
    late_after: Span,
) -> Result<Option<Stored>, ControlError> {
    let index = |name: &str, value: &dyn std::fmt::Display| (name.to_owned(), value.to_string());
    Ok(match document {
        DocumentRef::Request(id) => match world.requests.get(id) {
            None => None,
            Some(found) => {
                let mut indexes = vec![
                    index("person", &found.beneficiary),
                    index("entitlement", &found.entitlement),
                    index("all", &"request"),
                ];
                if found.requester != found.beneficiary {
                    indexes.push(index("person", &found.requester));
                }
                indexes.extend(found.incident.iter().map(|incident| index("incident", incident)));
                indexes.extend(found.batch.iter().map(|batch| index("batch", batch)));
                if found.state == RequestState::Pending {
                    indexes.push(index("state", &"pending"));
                }
                Some(Stored { body: bytes(found)?, indexes, due_at: request::due_at(found) })
            }
        },
        DocumentRef::Grant(id) => match world.grants.get(id) {
            None => None,
            Some(found) => {
                let mut indexes = vec![
                    index("person", &found.person),
                    index("system", &found.entitlement.system),
                    index("entitlement", &found.entitlement),
                ];
                indexes.extend(found.incident.iter().map(|incident| index("incident", incident)));
                if !found.state.settled() {
                    indexes.push(index("state", &"unsettled"));
                }
                if matches!(found.state, GrantState::Active | GrantState::Activating) {
                    indexes.push(index("state", &"active"));
                }
                Some(Stored { body: bytes(found)?, indexes, due_at: grant::due_at(found, late_after) })
            }
        },
        DocumentRef::Session(id) => match world.sessions.get(id) {
            None => None,
            Some(found) => {
                let mut indexes = vec![
                    index("person", &found.person),
                    index("grant", &found.grant),
                    index("recording", &found.recording.id),
                ];
                indexes.extend(found.incident.iter().map(|incident| index("incident", incident)));
                if found.ended_at.is_none() {
                    indexes.push(index("state", &"live"));
                }
                if !found.held.is_empty() {
                    indexes.push(index(HELD_INDEX.0, &HELD_INDEX.1));
                }
                Some(Stored { body: bytes(found)?, indexes, due_at: None })
            }
        },
        DocumentRef::Incident(id) => match world.incidents.get(id) {
            None => None,
            Some(found) => {
                let mut indexes = vec![index("number", &found.number)];
                if !matches!(found.state, IncidentState::Closed | IncidentState::ClosedUnproven) {
                    indexes.push(index("state", &"open"));
                }
                indexes.extend(found.parties.keys().map(|person| index("person", person)));
                Some(Stored { body: bytes(found)?, indexes, due_at: None })
            }
        },
        DocumentRef::Review(id) => match world.reviews.get(id) {
            None => None,
            Some(found) => {
                let mut indexes = vec![index("person", &found.person)];
                indexes.extend(found.incident.iter().map(|incident| index("incident", incident)));
                if matches!(found.state, ReviewState::Due | ReviewState::InReview) {
                    indexes.push(index("state", &"open"));
                }
                let owners: std::collections::BTreeSet<_> = found
                    .actions
                    .iter()
                    .filter(|action| action.done_at.is_none())
                    .map(|action| &action.owner)
                    .collect();
                indexes.extend(owners.into_iter().map(|owner| index("action", owner)));
                Some(Stored { body: bytes(found)?, indexes, due_at: review::due_at(found) })
            }
        },
        DocumentRef::Change(id) => match world.changes.get(id) {
            None => None,
            Some(found) => {
                let mut indexes = vec![index("all", &"change")];
                if found.state == ChangeState::Proposed {
                    indexes.push(index("state", &"open"));
                }
                Some(Stored { body: bytes(found)?, indexes, due_at: change::due_at(found) })
            }
        },
        DocumentRef::Standing(person) => match world.standings.get(person) {
            None => None,
            Some(found) => Some(Stored { body: bytes(found)?, indexes: Vec::new(), due_at: None }),
        },
    })
}
