//! What a connector for SSH hosts is told when it starts.

use std::path::PathBuf;

use ed25519_dalek::VerifyingKey;
use halligan_connector::{Clock, SiteConfig, system_clock};
use halligan_core::ids::Name;
use halligan_core::time::Span;

use crate::krl::KrlDelivery;

/// Settings of one connector.
#[derive(Clone)]
pub struct ConnectorConfig {
    /// Its name, which its ledger carries too.
    pub name: Name,
    /// Origin of its ledger (default `halligan/NAME`).
    pub ledger_origin: String,
    /// Its site: it serves no target of another.
    pub site: Name,
    /// Its state folder, which nobody else may use.
    pub folder: PathBuf,
    /// Control's lease key, from the root file.
    pub control: VerifyingKey,
    /// Networks from which certificates open a door (`192.0.2.7/32`): those of the site's gateways *and of this connector*.
    /// Without its own address here a look would be refused for where it comes from, and prove nothing.
    pub source_addresses: Vec<String>,
    /// How far behind a target's clock may be for a new certificate to be valid there (default 30 s).
    pub clock_slack: Span,
    /// How long after the last login window the first look makes sense (default 2 s; certificates know whole seconds).
    pub settle: Span,
    /// How targets get the revocation list.
    pub krl: KrlDelivery,
    /// The clock.
    pub clock: Clock,
}

impl ConnectorConfig {
    /// With the defaults.
    pub fn new(name: Name, site: Name, folder: PathBuf, control: VerifyingKey) -> Self {
        Self {
            ledger_origin: format!("halligan/{name}"),
            name,
            site,
            folder,
            control,
            source_addresses: vec!["127.0.0.1/32".to_owned(), "::1/128".to_owned()],
            clock_slack: Span::seconds(30),
            settle: Span::seconds(2),
            krl: KrlDelivery::default(),
            clock: system_clock(),
        }
    }
}

impl ConnectorConfig {
    /// What it has in common with every other kind.
    pub fn site(&self) -> SiteConfig {
        SiteConfig {
            ledger_origin: self.ledger_origin.clone(),
            clock: std::sync::Arc::clone(&self.clock),
            ..SiteConfig::new(self.name.clone(), self.site.clone(), self.folder.clone(), self.control)
        }
    }
}

impl std::fmt::Debug for ConnectorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConnectorConfig({} at {}, {})", self.name, self.site, self.folder.display())
    }
}
