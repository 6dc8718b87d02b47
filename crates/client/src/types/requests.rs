//! Requests, grants and sessions on their way over the API.

use super::Problem;
use halligan_core::catalog::RecordingClass;
use halligan_core::grant::Grant;
use halligan_core::ids::{BatchId, EntitlementName, GrantId, Name, PersonId, RequestId};
use halligan_core::proof::Finding;
use halligan_core::request::{Mode, Request};
use halligan_core::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

bodies! {
// --- requests ---------------------------------------------------------------------------------
    /// `POST /requests`: one or several entitlements with one reason.
    RequestWish {
        /// What for; several become a batch.
        #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
        entitlements: Vec<EntitlementName>,
        /// Who will use it; the caller if not said.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        beneficiary: Option<PersonId>,
        /// `standard` or `emergency`.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        mode: Mode,
        /// How grave; needed in an emergency.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        severity: Option<Name>,
        /// What kind of emergency; needed in an emergency.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        scenario: Option<Name>,
        /// The caller confirms every criterion of the scenario.
        #[serde(default)]
        criteria_confirmed: bool,
        /// `INC-7` or an incident's id; an emergency without one opens one.
        #[serde(default)]
        incident: Option<String>,
        /// Why.
        reason: String,
        /// The outside ticket.
        #[serde(default)]
        link: Option<String>,
        /// Why a lower step of the ladder is not enough.
        #[serde(default)]
        why_not_lower: Option<String>,
        /// For how long; the entitlement's default if not said.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        duration: Option<Span>,
        /// A code of one's authenticator, if none was shown lately.
        #[serde(default)]
        totp: Option<String>,
    }
    /// What became of a `POST /requests`. All refused is a problem document instead.
    Filed {
        /// Several were filed together.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        batch: Option<BatchId>,
        /// One for each entitlement, in order.
        items: Vec<FiledItem>,
    }
    /// One of a batch.
    FiledItem {
        /// What for.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        entitlement: EntitlementName,
        /// The request, if it was filed.
        request: Option<RequestView>,
        /// Why not, otherwise.
        refused: Option<Problem>,
    }
    /// A request as the caller sees it.
    RequestView {
        /// The document (halligan_core::request::Request).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        request: Request,
        /// Who may approve each step now.
        #[cfg_attr(feature = "schema", schema(value_type = Vec<Vec<String>>))]
        eligible: Vec<BTreeSet<PersonId>>,
        /// Indexes of steps that still want an approval.
        missing: Vec<usize>,
        /// Number of its incident, `INC-<number>`.
        incident_number: Option<u64>,
        /// Where its grant stands, if there is one (halligan_core::grant::GrantState).
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        grant_state: Option<halligan_core::grant::GrantState>,
        /// The caller may decide it now.
        may_decide: bool,
        /// Why they may not, if somebody like them might be expected to.
        barred: Option<String>,
        /// The sentence to be typed for a bypass (rule 6), if the caller may bypass it.
        bypass_confirmation: Option<String>,
    }
    /// `POST /requests/{id}/approve` and `/deny`.
    DecisionWish {
        /// The version of the request that was seen.
        version: u32,
        /// In one's own words.
        #[serde(default)]
        reason: Option<String>,
        /// A code for this act; approving needs one.
        #[serde(default)]
        totp: Option<String>,
    }
    /// `POST /batches/{id}/approve`: all pending requests of it, by one code.
    BatchApproval {
        /// Which, with the version of each that was seen.
        requests: Vec<SeenRequest>,
        /// In one's own words.
        #[serde(default)]
        reason: Option<String>,
        /// A code for this act.
        totp: String,
    }
    /// A request in the version that was seen.
    SeenRequest {
        /// Which.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        request: RequestId,
        /// The version.
        version: u32,
    }
    /// `POST /requests/{id}/escalate`.
    EscalateWish {
        /// To which.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        severity: Name,
        /// Under which.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        scenario: Name,
        /// The caller confirms every criterion of the scenario.
        criteria_confirmed: bool,
        /// `INC-7` or an incident's id; one is opened if there is none.
        #[serde(default)]
        incident: Option<String>,
        /// Why.
        reason: String,
        /// A code of one's authenticator, if none was shown lately.
        #[serde(default)]
        totp: Option<String>,
    }
    /// `POST /requests/{id}/bypass`.
    BypassWish {
        /// Why.
        reason: String,
        /// The typed sentence; see `bypass_confirmation`.
        confirmation: String,
        /// A code for this act.
        totp: String,
    }

// --- grants and sessions ----------------------------------------------------------------------
    /// A grant as the caller sees it.
    GrantView {
        /// The document (halligan_core::grant::Grant).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        grant: Grant,
        /// Time left, if it is active.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        time_left: Option<Span>,
        /// What the checks say so far (PROVEN, FAILED, UNKNOWN).
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        finding: Finding,
        /// The login name at gateways, `role+system`.
        login: String,
        /// Number of its incident.
        incident_number: Option<u64>,
        /// Names of connected gateways of its site.
        gateways: Vec<String>,
    }
    /// `POST /grants/{id}/extend`.
    ExtendWish {
        /// By how much.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        duration: Span,
        /// Why.
        reason: String,
        /// A code of one's authenticator, if none was shown lately.
        #[serde(default)]
        totp: Option<String>,
    }
    /// An act with a reason, and a code where the act needs one.
    ReasonWish {
        /// Why.
        reason: String,
        /// A code of one's authenticator.
        #[serde(default)]
        totp: Option<String>,
    }
    /// `POST /grants/{id}/keep`.
    KeepWish {
        /// Until when.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        until: Time,
        /// Why.
        reason: String,
        /// A code of one's authenticator.
        #[serde(default)]
        totp: Option<String>,
    }
    /// `POST /revoke`: every grant that fits; exactly one of the three is given.
    RevokeMany {
        /// All of this person.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        person: Option<PersonId>,
        /// All on this system.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        system: Option<Name>,
        /// All of this incident: `INC-7` or its id.
        #[serde(default)]
        incident: Option<String>,
        /// Why.
        reason: String,
    }
    /// What became of each grant.
    RevokedItem {
        /// Which.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        grant: GrantId,
        /// As it is now, if it was ended.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        state: Option<halligan_core::grant::GrantState>,
        /// Why it was not.
        refused: Option<Problem>,
    }
    /// A session as the caller sees it.
    SessionView {
        /// The document (halligan_core::session::Session).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        session: halligan_core::session::Session,
        /// Number of its incident.
        incident_number: Option<u64>,
        /// How its recording may be seen: `readable` here, `sealed` only on the auditor's machine.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        recording_class: RecordingClass,
    }
    /// A live watch has begun.
    WatchBegun {
        /// Give it with each `GET`.
        watch: String,
    }
    /// A piece of a live watch.
    Watched {
        /// Text that appeared since; control characters of the target are escaped.
        text: String,
        /// Frames that were dropped because the watcher was slow.
        dropped: u64,
        /// The session has ended; there is no more.
        ended: bool,
    }
}
