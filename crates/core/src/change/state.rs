//! A change of Halligan itself that is proposed, and confirmed by a second person if it widens who may do what.

use serde::{Deserialize, Serialize};

use crate::command::People;
use crate::ids::{ChangeId, PersonId};
use crate::time::{Span, Time};

/// A change waits this long for its second person.
pub const CONFIRM_WITHIN: Span = Span::hours(24);

/// A proposed change with what became of it. What is to be changed lies with control under the digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedChange {
    /// Its id.
    pub id: ChangeId,
    /// What kind of thing.
    pub subject: ChangeSubject,
    /// Whose factor, login or membership, where it is about one person. They do not confirm it.
    pub about: Option<PersonId>,
    /// SHA-256 (hex) of exactly what will be put into force.
    pub digest: String,
    /// In words, as the second person reads it.
    pub summary: String,
    /// It widens who can get in, approve, bypass or review, or touches a factor.
    pub widening: bool,
    /// The catalog version that it was made against.
    pub catalog_version: u64,
    /// Who.
    pub proposed_by: PersonId,
    /// When.
    pub proposed_at: Time,
    /// Nobody can confirm it from then on.
    pub expires_at: Time,
    /// Who could confirm it when it was proposed.
    pub confirmers: People,
    /// Nobody with the office could sign in then: anybody among `confirmers` may confirm.
    pub without_office: bool,
    /// Where it stands.
    pub state: ChangeState,
    /// The second person.
    pub confirmed_by: Option<PersonId>,
    /// It was put into force by one person, because there was no other: single-administrator.
    pub alone: bool,
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeSubject {
    /// The catalog: apply or roll back.
    Catalog,
    /// A second factor or SSH key: enrolment or reset.
    Factor,
    /// A person's login: made, ended, opened again.
    Person,
    /// A gateway, connector or control node: joined, expelled.
    Node,
}

/// Where a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// Waits for a second person.
    Proposed,
    /// A second person has agreed; in force with the same commit.
    Confirmed,
    /// In force.
    Applied,
    /// Somebody said no, took it back, or nobody confirmed it in time.
    Rejected,
}

/// See [`Command::ProposeChange`](crate::command::Command::ProposeChange).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposeChange {
    /// Its id, new.
    pub id: ChangeId,
    /// What kind of thing.
    pub subject: ChangeSubject,
    /// See [`ProposedChange::about`].
    pub about: Option<PersonId>,
    /// See [`ProposedChange::digest`].
    pub digest: String,
    /// In words.
    pub summary: String,
    /// See [`ProposedChange::widening`]. What is about a factor always widens.
    pub widening: bool,
    /// People who could confirm anything now, because they can sign in with a second factor: all holders of the two
    /// offices that can, and if there is none, anybody else who can. The proposer may be among them.
    pub able: People,
}
