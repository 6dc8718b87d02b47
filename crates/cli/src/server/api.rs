//! The API's listener.

use std::net::SocketAddr;

use halligan_control::Control;

use super::stop::Stop;
use crate::config::Config;

/// A running API.
pub struct ApiRole {
    /// Where it listens.
    pub address: SocketAddr,
    /// How people reach it.
    pub url: String,
}

/// Starts the API; `None` while this build has none.
pub async fn start(_: &Control, _: &Config, _: &Stop) -> anyhow::Result<Option<ApiRole>> {
    Ok(None)
}
