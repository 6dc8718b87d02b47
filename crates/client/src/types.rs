//! What goes over the API: one set of types for both ends. Documents of the core are taken as they are; around them
//! stands what only the server knows at the moment of the answer.
//!
//! Points in time are integers, microseconds since 1970-01-01 UTC; lengths of time are text such as `90s` or `1h30m`.

use halligan_core::catalog::OfficeName;
use halligan_core::ids::{EntitlementName, Name, PersonId};
use halligan_core::time::{Span, Time};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

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

mod requests;
mod reviews;
mod there;
mod which;

pub use requests::*;
pub use reviews::*;
pub use there::*;
pub use which::{ReplayForm, RequestsOf, Which};

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
    /// `POST /client-certificate`.
    ClientCertificateWish {
        /// A public key of NIST P-256, PEM (`-----BEGIN PUBLIC KEY-----`), made for this.
        public_key: String,
        /// At most, and if not said, 8 h.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        lifetime: Option<Span>,
    }
    /// An X.509 certificate by which gateways know the person in TLS.
    ClientCertificate {
        /// PEM.
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

}
