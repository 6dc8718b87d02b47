//! Incidents and reviews on their way over the API.

use halligan_core::ids::{Name, PersonId};
use halligan_core::incident::{ChangeFate, Incident};
use halligan_core::review::{Classification, ComputedFacts, Review};
use halligan_core::time::Time;
use serde::{Deserialize, Serialize};

bodies! {
// --- incidents and reviews --------------------------------------------------------------------
    /// An incident as the caller sees it.
    IncidentView {
        /// The document (halligan_core::incident::Incident).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        incident: Incident,
        /// What keeps it from being closed, in words.
        blockers: Vec<String>,
    }
    /// `POST /incidents`.
    IncidentWish {
        /// What it is about.
        title: String,
        /// How grave.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        severity: Name,
        /// What kind of emergency.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        scenario: Option<Name>,
        /// The outside ticket.
        #[serde(default)]
        link: Option<String>,
    }
    /// `POST /incidents/{id}/notes`.
    NoteWish {
        /// What.
        text: String,
    }
    /// `POST /incidents/{id}/links`.
    LinkWish {
        /// The outside ticket.
        link: String,
    }
    /// `POST /incidents/{id}/severity`.
    SeverityWish {
        /// To which.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        severity: Name,
        /// Why.
        reason: String,
    }
    /// `POST /incidents/{id}/changes/{index}`.
    ChangeWish {
        /// What became of it: `kept`, `corrected`, `rolled_back`.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        fate: ChangeFate,
        /// In one's own words.
        #[serde(default)]
        note: String,
    }
    /// A review as the caller sees it.
    ReviewView {
        /// The document (halligan_core::review::Review).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        review: Review,
        /// Computed facts by question.
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        facts: ComputedFacts,
        /// Number of its incident.
        incident_number: Option<u64>,
        /// It is past its date.
        overdue: bool,
        /// The caller may judge it.
        may_judge: bool,
        /// Why not, otherwise.
        barred: Option<String>,
    }
    /// `POST /reviews/{id}/judge`.
    JudgeWish {
        /// What it was: `genuine_emergency`, `drill`, `needs_closer_look`.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        classification: Classification,
        /// Was the procedure invoked correctly?
        invoked_correctly: bool,
        /// Was the grant wider than needed?
        too_wide: bool,
        /// Were approvals timely?
        approvals_timely: bool,
        /// What would prevent the next one?
        prevention: String,
        /// Anything else.
        #[serde(default)]
        note: String,
        /// Explains why there was no activity, where there was none.
        #[serde(default)]
        empty_activity_explained: Option<String>,
        /// A code of one's authenticator, if none was shown lately.
        #[serde(default)]
        totp: Option<String>,
    }
    /// `POST /reviews/{id}/defer`.
    DeferWish {
        /// Until when.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        until: Time,
        /// Why.
        reason: String,
    }
    /// `POST /reviews/{id}/actions`.
    ActionWish {
        /// What.
        what: String,
        /// By whom.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        owner: PersonId,
        /// Until when.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        due_at: Time,
    }
}
