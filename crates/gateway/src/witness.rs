//! This gateway as a witness of control's ledger: it cosigns a checkpoint that continues the one it cosigned last, and shows
//! that one to a control whose history has gone back or another way. What it has seen is on disk before it signs.

use std::sync::Arc;

use halligan_ledger::witness::Seen;
use halligan_ledger::{AddCheckpoint, Checkpoint, Hash, LedgerKey, SignedNote, Verdict, judge};
use halligan_link::Response;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::live::with_sources;
use crate::shelf::{read_json, write_json};

const FILE: &str = "witnessed";
const FILE_MOST_BYTES: u64 = 256 * 1024;

/// The checkpoint cosigned last. An older epoch of control's ledger has another origin, and its own last.
#[derive(Default, Serialize, Deserialize)]
struct Witnessed {
    notes: Vec<String>,
}

impl Witnessed {
    fn of(&self, origin: &str) -> Option<(String, Checkpoint)> {
        self.notes.iter().find_map(|text| {
            let note = SignedNote::parse(text).ok()?;
            let head = Checkpoint::parse(note.body()).ok()?;
            (head.origin == origin).then(|| (text.clone(), head))
        })
    }

    fn put(&mut self, origin: &str, note: String) {
        let other = |text: &String| {
            SignedNote::parse(text)
                .ok()
                .and_then(|note| Checkpoint::parse(note.body()).ok())
                .is_some_and(|head| head.origin != origin)
        };
        self.notes.retain(other);
        self.notes.push(note);
    }
}

impl Engine {
    /// Answers [`halligan_link::Request::Witness`]. Blocks for the disk.
    pub(crate) fn witness(&self, checkpoint: &str, old: u64, proof: &[String]) -> Response {
        // Two questions at one time would each judge against what the other is about to replace.
        let _turn = self.witnessing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = self.roster().and_then(|roster| roster.roster().ledger_key.parse::<LedgerKey>().ok());
        let Some(key) = key else {
            return Response::error("this gateway has not been told the key of control's ledger yet");
        };
        let proof: Result<Vec<Hash>, _> = proof.iter().map(|hash| hash.parse()).collect();
        let (Ok(note), Ok(proof)) = (SignedNote::parse(checkpoint), proof) else {
            return Response::error("what is to be cosigned is no checkpoint with a proof");
        };
        let path = self.shelf.path(FILE);
        let mut all: Witnessed = match read_json(&path, FILE_MOST_BYTES) {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => return Response::error(with_sources(&error)),
        };
        let last = all.of(key.name());
        let seen = last.as_ref().map(|(_, head)| Seen { size: head.size, root: head.root });
        let request = AddCheckpoint { old, proof, note };
        match judge(seen, std::slice::from_ref(&key), &request) {
            Verdict::Accept(accepted) => {
                all.put(key.name(), request.note.to_string());
                if let Err(error) = write_json(&path, &all) {
                    return Response::error(with_sources(&error));
                }
                let seconds = u64::try_from(self.clock.wall().micros() / 1_000_000).unwrap_or(0);
                match self.journal.cosign(&accepted, seconds) {
                    Ok(note) => Response::Cosigned { note: note.to_string() },
                    Err(error) => Response::error(with_sources(&error)),
                }
            }
            Verdict::Conflict { size } => match (Checkpoint::parse(request.note.body()), last) {
                // Its head is behind ours, or another of the same size.
                (Ok(shown), Some((text, _))) if shown.size < size || old == size => other_history(text),
                _ => Response::WitnessedSize { size },
            },
            Verdict::BadProof => match last {
                Some((text, _)) => other_history(text),
                None => Response::error("the checkpoint does not follow from the empty ledger"),
            },
            verdict => Response::error(format!(
                "the checkpoint is not cosigned: {}",
                match verdict {
                    Verdict::UnknownOrigin => "it is of another ledger",
                    Verdict::BadSignature => "control's ledger key has not signed it",
                    _ => "the question is malformed",
                }
            )),
        }
    }
}

fn other_history(checkpoint: String) -> Response {
    tracing::error!("control's ledger does not continue what this gateway has cosigned");
    Response::OtherHistory { checkpoint }
}

/// See [`Engine::witness`].
pub(crate) async fn answer(
    engine: &Arc<Engine>,
    checkpoint: String,
    old: u64,
    proof: Vec<String>,
) -> Response {
    let engine = Arc::clone(engine);
    tokio::task::spawn_blocking(move || engine.witness(&checkpoint, old, &proof))
        .await
        .unwrap_or_else(|_| Response::error("the gateway is stopping"))
}
