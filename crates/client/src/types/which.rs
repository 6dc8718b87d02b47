//! Which part of a list, and in which form.

use serde::{Deserialize, Serialize};

/// Which requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RequestsOf {
    /// The caller asked or would use it.
    #[default]
    Mine,
    /// Pending, and the caller may decide.
    ToDecide,
    /// Pending, all that the caller may see.
    Pending,
    /// All that the caller may see.
    All,
}

/// Which grants or sessions or incidents or reviews.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The caller's own.
    #[default]
    Mine,
    /// Those that are going on, as far as the caller may see them.
    Open,
    /// All that the caller may see.
    All,
}

/// How a recording is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReplayForm {
    /// One record a line, JSON.
    Records,
    /// asciicast v2, for a player.
    Asciicast,
    /// Plain text.
    Transcript,
}
