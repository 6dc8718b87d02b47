//! What goes over the API: one set of types for both ends. Documents of the core are taken as they are; around them
//! stands what only the server knows at the moment of the answer.
//!
//! Points in time are integers, microseconds since 1970-01-01 UTC; lengths of time are text such as `90s` or `1h30m`.

mod which;

use std::collections::{BTreeMap, BTreeSet};

use halligan_core::catalog::{
    Durations, LadderStep, OfficeName, RecordingClass, Scenario, System, SystemKind,
};
use halligan_core::grant::Grant;
use halligan_core::ids::{
    BatchId, EntitlementName, GrantId, IncidentId, Name, PersonId, RequestId, ReviewId, SessionId,
};
use halligan_core::incident::{Change, ChangeFate, Incident};
use halligan_core::proof::Finding;
use halligan_core::request::{Mode, Request};
use halligan_core::review::{Action, Classification, ComputedFacts, Review};
use halligan_core::session::HeldStatement;
use halligan_core::time::{Span, Time};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use which::{ReplayForm, RequestsOf, Which};

/// Header with the last checkpoint of control's ledger, base64 of the signed note. Every answer that decides has it.
pub const CHECKPOINT_HEADER: &str = "halligan-checkpoint";
/// Header with the index of the first leaf of what was decided.
pub const LEAF_HEADER: &str = "halligan-leaf";
/// Header with a key (1 to 64 printable characters) under which a repetition is answered like the first try.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    )*};
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// Give this as `after` for what follows; none at the end.
    pub next: Option<String>,
}

/// Where in a list, and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paging {
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 1 to 200; 50 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `https://halligan.dev/problems/` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// A few words, the same for every problem of this type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, in a sentence for the person.
    pub detail: String,
    /// For programs: `not_found`, `second_factor`, …
    pub code: String,
    /// What to do instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an API token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Read what its person may see.
    Read,
    /// File standard requests.
    Request,
    /// Read metrics.
    Metrics,
}

// --- signing in -------------------------------------------------------------------------------
/// `POST /sign-in`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SignInWish {
    /// The person's id.
    pub name: String,
    /// Their password.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = Password))]
    pub password: Zeroizing<String>,
    /// A code of their authenticator.
    pub totp: Option<String>,
    /// A word for this sign-in, such as the machine's name.
    #[serde(default)]
    pub label: String,
}

/// A new sign-in or API token.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SignedIn {
    /// `hgn_…`; shown this once.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub token: Zeroizing<String>,
    /// About it.
    pub sign_in: SignInView,
}

/// `POST /enrolment/finish`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EnrolmentFinish {
    /// The enrolment's secret, `enrol_…`.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub secret: Zeroizing<String>,
    /// The password from now on.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = Password))]
    pub password: Zeroizing<String>,
    /// The code that the new authenticator shows.
    pub totp: String,
}

/// `POST /enrolment/begin`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EnrolmentBegin {
    /// The enrolment's secret, `enrol_…`.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub secret: Zeroizing<String>,
}

/// A begun enrolment.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EnrolmentBegun {
    /// Whose it is.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub person: PersonId,
    /// `otpauth://…`, for the authenticator. It holds a secret.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub otpauth: Zeroizing<String>,
}

/// An enrolment that was made for somebody.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Invited {
    /// What the person needs; shown this once. Hand it over by another way than the one they lost.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub secret: Zeroizing<String>,
    /// Names it, for the second administrator.
    pub id: String,
    /// It works only after a second administrator has confirmed it.
    pub needs_confirmation: bool,
}

/// A password for one login through a gateway.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OneTimePassword {
    /// The login name, `role+system`.
    pub login: String,
    /// The password; shown this once.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub password: Zeroizing<String>,
    /// It works until then, once.
    #[cfg_attr(feature = "schema", schema(value_type = i64))]
    pub expires_at: Time,
}

/// A password for connections to a database through the gateways, of one grant.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConnectPassword {
    /// The login name, `role+system`.
    pub login: String,
    /// The password; shown this once.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub password: Zeroizing<String>,
    /// It takes no new connection from then on.
    #[cfg_attr(feature = "schema", schema(value_type = i64))]
    pub expires_at: Time,
    /// Databases that the entitlement opens.
    pub databases: Vec<String>,
    /// Most connections at one time.
    pub connections: u32,
    /// Gateways that take it.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub gateways: Vec<Name>,
}

/// `POST /nodes/join-tokens` answers with this.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JoinTokenMade {
    /// To be carried to the node; shown this once.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub token: Zeroizing<String>,
    /// It dies then.
    #[cfg_attr(feature = "schema", schema(value_type = i64))]
    pub expires_at: Time,
}

bodies! {
    /// A sign-in or API token, without its secret.
    SignInView {
        /// Names it in lists.
        id: String,
        /// When it was made.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        created_at: Time,
        /// When it dies.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        expires_at: Time,
        /// The owner's word for it.
        label: String,
        /// From where.
        client: String,
        /// An API token, with what it may do.
        scopes: Option<Vec<TokenScope>>,
        /// It is the one that asks.
        current: bool,
    }
    /// A code of one's authenticator.
    Totp {
        /// Six digits.
        totp: String,
    }
    /// A code of one's authenticator, where one may be needed.
    MaybeTotp {
        /// Six digits.
        #[serde(default)]
        totp: Option<String>,
    }
    /// Whose it is or was.
    WhoseIt {
        /// The person.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        person: PersonId,
    }
    /// A second factor was shown: until when it counts as fresh.
    SteppedUp {
        /// When it was shown.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        at: Time,
        /// It is fresh until then.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        fresh_until: Time,
    }
    /// `POST /api-tokens`.
    ApiTokenWish {
        /// A word for it.
        label: String,
        /// What it may do.
        scopes: Vec<TokenScope>,
        /// How long it lives; at most 365 days.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        lifetime: Span,
        /// A code of its own.
        totp: String,
    }
    /// The person who asks.
    Me {
        /// Their id.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        person: PersonId,
        /// Their name.
        name: String,
        /// Offices that they hold.
        #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
        offices: Vec<OfficeName>,
        /// When the password was set.
        #[cfg_attr(feature = "schema", schema(value_type = Option<i64>))]
        password_set_at: Option<Time>,
        /// When the authenticator was enrolled.
        #[cfg_attr(feature = "schema", schema(value_type = Option<i64>))]
        totp_enrolled_at: Option<Time>,
        /// Registered SSH public keys.
        ssh_keys: Vec<SshKey>,
        /// The sign-in that asks.
        sign_in: SignInView,
        /// Fewer than two administrators can sign in: second persons cannot be demanded yet.
        single_administrator: bool,
    }
    /// A registered SSH public key.
    SshKey {
        /// `type base64`.
        openssh: String,
        /// The owner's word for it.
        label: String,
        /// When it was added.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        added_at: Time,
    }
    /// `POST /ssh-keys`.
    SshKeyWish {
        /// `ssh-ed25519 AAAA…`
        openssh: String,
        /// A word for it.
        label: String,
        /// A code of its own.
        totp: String,
    }
    /// `POST /ssh-keys/remove`.
    SshKeyRemoval {
        /// `ssh-ed25519 AAAA…`
        openssh: String,
    }
    /// `POST /login-certificate`.
    LoginCertificateWish {
        /// `ssh-ed25519 AAAA…`, made for this.
        public_key: String,
        /// At most, and if not said, 8 h.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        lifetime: Option<Span>,
    }
    /// A certificate by which gateways know the person.
    LoginCertificate {
        /// `ssh-ed25519-cert-v01@openssh.com AAAA…`
        certificate: String,
        /// Valid until then.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        valid_until: Time,
    }
    /// `POST /one-time-passwords`.
    OneTimePasswordWish {
        /// For which entitlement; the caller holds an active grant of it.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        entitlement: EntitlementName,
    }
    /// `POST /connect-passwords`.
    ConnectPasswordWish {
        /// For which entitlement of a database; the caller holds an active grant of it.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        entitlement: EntitlementName,
    }

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

// --- what waits, what there is ----------------------------------------------------------------
    /// Everything that waits for the caller.
    Tasks {
        /// Requests to decide.
        decisions: Vec<RequestView>,
        /// Held statements to allow or deny.
        #[serde(default)]
        statements: Vec<StatementView>,
        /// Reviews to judge.
        reviews: Vec<ReviewView>,
        /// Changes to judge.
        changes: Vec<ChangeTask>,
        /// Actions to do.
        actions: Vec<ActionTask>,
    }
    /// A statement that waits for a second person.
    StatementView {
        /// Its session.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        session: SessionId,
        /// Its number there.
        hold: u32,
        /// Who wants to run it.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        person: PersonId,
        /// On what.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        entitlement: EntitlementName,
        /// In which emergency, by its number.
        incident_number: Option<u64>,
        /// The statement (halligan_core::session::HeldStatement): text and parameters as they stand, secrets masked.
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        statement: HeldStatement,
        /// The caller may answer.
        may_release: bool,
    }
    /// `POST /catalog/check-live`.
    LiveCheckWish {
        /// A system of the catalog in force; every one that can be looked at if not said.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        system: Option<Name>,
        /// Go on after this system.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        after: Option<Name>,
    }
    /// What a look at systems found, against the catalog in force.
    LiveCheck {
        /// Those that were looked at.
        systems: Vec<LiveChecked>,
        /// Ask again with this as `after`; none at the end.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        next: Option<Name>,
    }
    /// What a look at one system found.
    LiveChecked {
        /// Which.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        system: Name,
        /// One by one.
        findings: Vec<LiveFinding>,
    }
    /// One thing that a look found.
    LiveFinding {
        /// The entitlement that it is about; none = the system itself.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        role: Option<Name>,
        /// `error`, `warning` or `info`.
        level: String,
        /// In a sentence.
        say: String,
    }
    /// A change to be judged.
    ChangeTask {
        /// In which incident.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        incident: IncidentId,
        /// Its number.
        number: u64,
        /// Index of the change.
        index: u32,
        /// What (halligan_core::incident::Change).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        change: Change,
    }
    /// An action to be done.
    ActionTask {
        /// Of which review.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        review: ReviewId,
        /// Index of the action.
        index: u32,
        /// What (halligan_core::review::Action).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        action: Action,
    }
    /// An entitlement that the caller may ask for.
    Askable {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        entitlement: EntitlementName,
        /// What it is for.
        meaning: String,
        /// What the system is.
        system: String,
        /// The kind of system.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        kind: SystemKind,
        /// Its step on the ladder.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        ladder: LadderStep,
        /// Its sensitivity.
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        sensitivity: Option<Name>,
        /// May be asked for every day.
        standard: bool,
        /// May be asked for in an emergency.
        emergency: bool,
        /// How long in the standard mode (halligan_core::catalog::Durations).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        durations: Durations,
        /// The outside ticket has to look like this.
        link_pattern: Option<String>,
    }
    /// A scenario.
    ScenarioView {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// What it says (halligan_core::catalog::Scenario).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        scenario: Scenario,
        /// The caller may invoke it.
        may_invoke: bool,
        /// The caller may bypass approval under it.
        may_bypass: bool,
    }
    /// The catalog in force, without its systems.
    CatalogView {
        /// Its version.
        version: u64,
        /// SHA-256 (hex) of its head document.
        sha256: String,
        /// Everything but the systems (halligan_core::catalog::Catalog).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        catalog: halligan_core::catalog::Catalog,
    }
    /// A system of the catalog.
    SystemView {
        /// The entry (halligan_core::catalog::System).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        system: System,
    }
    /// A node.
    NodeView {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// `gateway`, `connector`, `control`.
        role: String,
        /// Its site.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        site: Name,
        /// Where it listens for links.
        address: Option<String>,
        /// It is connected to the node that answers.
        connected: bool,
        /// When it joined.
        #[cfg_attr(feature = "schema", schema(value_type = i64))]
        joined_at: Time,
        /// May not speak any more.
        expelled: bool,
        /// Print of its link key.
        key_sha256: String,
        /// Verifier key of its ledger.
        ledger_key: Option<String>,
        /// Leaves of its ledger that control holds.
        mirrored: u64,
    }
    /// `POST /nodes/join-tokens`.
    JoinTokenWish {
        /// The node's name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// `gateway` or `connector`.
        role: String,
        /// Its site.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        site: Name,
        /// Where connectors reach a gateway, `host:port`.
        #[serde(default)]
        address: Option<String>,
        /// The token dies after this; at most 24 h.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        lifetime: Span,
        /// A code for this act.
        totp: String,
    }
    /// A gateway, as people's clients find and know it.
    GatewayView {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// Its site.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        site: Name,
        /// It is connected to the node that answers.
        connected: bool,
        /// Where it takes clients in, by protocol: `ssh`, `postgres`.
        listeners: BTreeMap<String, Listener>,
    }
    /// Where a gateway takes clients of one protocol in.
    Listener {
        /// `host:port`.
        address: String,
        /// SSH: its host keys, `ssh-ed25519 AAAA…`, or `@cert-authority ssh-ed25519 AAAA…`.
        #[serde(default)]
        host_keys: Vec<String>,
    }
    /// `POST /catalog/systems`: systems that are not in force yet.
    CatalogGeneration {
        /// Names them.
        generation: u64,
    }
    /// `POST /catalog/apply`.
    CatalogApplyWish {
        /// Everything but the systems (halligan_core::catalog::Catalog).
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        catalog: halligan_core::catalog::Catalog,
        /// Its systems; those in force if not said.
        #[serde(default)]
        generation: Option<u64>,
        /// A code for this act.
        totp: String,
    }
    /// `POST /catalog/rollback`.
    CatalogRollbackWish {
        /// To which version.
        version: u64,
        /// A code for this act.
        totp: String,
    }
    /// What became of a catalog that was to be applied.
    CatalogApplied {
        /// The change; a second person confirms it by this.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        change: halligan_core::ids::ChangeId,
        /// The version in force; none while a second person is waited for.
        version: Option<u64>,
        /// In force by one person because there is no other.
        single_administrator: bool,
        /// What changes, in lines.
        changes: Vec<String>,
        /// What becomes wider, in lines.
        widening: Vec<String>,
        /// Who could confirm it, while it waits.
        #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
        confirmers: Vec<PersonId>,
    }
    /// `GET /status`.
    StatusView {
        /// Effects and alerts that wait to be done.
        outbox: u64,
        /// Age of the oldest of them; `0s` for none.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        outbox_age: Span,
        /// Leaves that no checkpoint covers yet.
        unsigned_leaves: u64,
        /// Age of the oldest of them; `0s` for none. More than some seconds: the sequencer stands still.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        unsigned_age: Span,
        /// Bytes free in control's folder.
        disk_free: u64,
        /// This node's clock is too far off the database's: it decides nothing.
        clock_is_bad: bool,
        /// Alerts since its start that no route took.
        alerts_unrouted: u64,
        /// What keeps alerts from leaving, in sentences.
        alert_problems: Vec<String>,
        /// Nodes that were not expelled.
        nodes: Vec<NodeStatus>,
    }
    /// How a node is.
    NodeStatus {
        /// Its name.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        name: Name,
        /// `gateway` or `connector`.
        role: String,
        /// Its site.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        site: Name,
        /// It is connected to the node that answers.
        connected: bool,
        /// When it was heard last, since the answering node started.
        #[cfg_attr(feature = "schema", schema(value_type = Option<i64>))]
        last_contact: Option<Time>,
        /// What it said just now; none if it did not answer.
        answer: Option<NodeAnswer>,
    }
    /// What a node says of itself.
    NodeAnswer {
        /// Version of its program.
        version: String,
        /// Its clock minus the server's, in microseconds.
        clock_offset_micros: i64,
        /// Live sessions.
        sessions: u64,
        /// Leases held.
        leases: u64,
        /// Recordings that wait for the server.
        recordings_to_send: u64,
        /// Bytes free in its folder.
        disk_free: u64,
        /// What a person should know, in sentences.
        warnings: Vec<String>,
    }
    /// `POST /alerts/test`.
    AlertTest {
        /// A route of the catalog, or `person:NAME`; all routes if not said.
        #[serde(default)]
        route: Option<String>,
    }
    /// What became of a test alert.
    AlertTested {
        /// Over which route.
        route: String,
        /// To whom; none if the route could not be used at all.
        to: Option<String>,
        /// Why it did not arrive.
        error: Option<String>,
    }
    /// `GET /ready`.
    Ready {
        /// It takes work.
        ready: bool,
        /// Version of the program.
        version: String,
        /// Version of the catalog in force.
        catalog: u64,
        /// Leaves of the ledger.
        ledger_size: u64,
    }
}
