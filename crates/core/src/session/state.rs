//! Sessions: one use of a grant through a gateway, as control knows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::StatementClass;
use crate::ids::{EntitlementName, GrantId, IncidentId, Name, PersonId, RecordingId, SessionId};
use crate::time::Time;

/// One use of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// What permits it.
    pub grant: GrantId,
    /// Its number within the grant, from 1, without gaps.
    pub number: u32,
    /// Who works in it.
    pub person: PersonId,
    /// On what.
    pub entitlement: EntitlementName,
    /// In which emergency.
    pub incident: Option<IncidentId>,
    /// The gateway that runs it.
    pub gateway: Name,
    /// The client's address.
    pub client: String,
    /// How the person proved who they are.
    pub login: String,
    /// When it began, by the gateway's clock.
    pub opened_at: Time,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Why.
    pub end_reason: Option<String>,
    /// The grant was not in force when it was reported: a violation.
    pub outside_grant: bool,
    /// Channels: kind and detail (the command of an exec).
    pub channels: Vec<String>,
    /// Its recording.
    pub recording: Recording,
    /// People who explain why the recording is missing (two are needed).
    pub gap_waivers: BTreeMap<PersonId, String>,
    /// Statements that wait for a second person, by their number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<u32, HeldStatement>,
    /// The number of the last statement that was held, from 1; 0 if none ever was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_hold: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A statement that waits for a second person. Text and parameters are whole; secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatement {
    /// Its class, as the gateway labels it.
    pub class: StatementClass,
    /// What the answer is for: [`crate::node_event::held_statement_digest`].
    pub sha256: String,
    /// Its text.
    pub text: String,
    /// Its bound parameters, JSON.
    pub parameters: Option<String>,
    /// Since when, by the gateway's clock.
    pub since: Time,
    /// How long the gateway waits.
    pub until: Time,
    /// What a second person said; on its way to the gateway.
    pub answer: Option<HoldAnswer>,
}

/// What a second person says of a held statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAnswer {
    /// It may pass.
    pub allow: bool,
    /// Who says so.
    pub by: PersonId,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Time,
}

/// What is known of a session's recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Its id.
    pub id: RecordingId,
    /// Where it stands.
    pub state: RecordingState,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Hash of the last frame's chain, hex.
    pub chain_head: String,
    /// Frames.
    pub frames: u64,
    /// False when its writer was cut off.
    pub complete: bool,
}

/// Where a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// Being written.
    Running,
    /// Finished at the gateway.
    Finished,
    /// In the store, hash read back.
    Stored,
    /// Lost: an attestation gap.
    Lost,
}
