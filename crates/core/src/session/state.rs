//! Sessions: one use of a grant through a gateway, as control knows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
