//! What every connector is told when it starts.

use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use halligan_core::ids::Name;
use halligan_core::time::Time;

/// The clock. A parameter, so that tests can turn it.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    })
}

/// Settings that are the same for every kind.
#[derive(Clone)]
pub struct SiteConfig {
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
    /// The clock.
    pub clock: Clock,
}

impl SiteConfig {
    /// With the defaults.
    pub fn new(name: Name, site: Name, folder: PathBuf, control: VerifyingKey) -> Self {
        Self { ledger_origin: format!("halligan/{name}"), name, site, folder, control, clock: system_clock() }
    }
}

impl std::fmt::Debug for SiteConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SiteConfig({} at {}, {})", self.name, self.site, self.folder.display())
    }
}
