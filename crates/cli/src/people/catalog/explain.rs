//! `halligan catalog explain`: who could get in here and how; or what happens if this person asks for this, and why.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use halligan_catalog::{Ask, Systems as _, explain_ask, explain_who};
use halligan_client::Client;
use halligan_client::types::Paging;
use halligan_core::catalog::{Catalog, System};
use halligan_core::ids::{EntitlementName, Name, PersonId};
use halligan_core::request::Mode;
use halligan_core::time::{Span, Time};

use super::apply::catalog_in_force;
use super::files::load;
use super::shown;
use crate::people::desk::Desk;
use crate::people::failure::said;

/// Explains.
#[derive(Debug, Args)]
pub struct Explain {
    /// Where to.
    #[arg(value_name = "SYSTEM/ROLE")]
    entitlement: EntitlementName,
    /// Who asks. Without it: who could get in at all, and how.
    #[arg(long, value_name = "NAME")]
    person: Option<PersonId>,
    /// ⚡ They ask in emergency.
    #[arg(long, requires_all = ["person", "severity", "scenario"])]
    emergency: bool,
    /// How grave.
    #[arg(long, value_name = "NAME", requires = "emergency")]
    severity: Option<Name>,
    /// What kind of emergency.
    #[arg(long, value_name = "NAME", requires = "emergency")]
    scenario: Option<Name>,
    /// An alert source, or a second person, vouches for the severity.
    #[arg(long, requires = "emergency")]
    attested: bool,
    /// For how long.
    #[arg(long = "for", value_name = "TIME", requires = "person")]
    duration: Option<Span>,
    /// When, such as 2026-12-24T03:00:00Z; now if not said.
    #[arg(long, value_name = "TIME", value_parser = point)]
    at: Option<Time>,
    /// Looks into these files instead of the catalog in force.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// A point in time as RFC 3339 writes it.
fn point(text: &str) -> Result<Time, String> {
    text.parse::<jiff::Timestamp>()
        .map(|stamp| Time::from_micros(stamp.as_microsecond()))
        .map_err(|_| "write it such as 2026-12-24T03:00:00Z".to_owned())
}

impl Explain {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let (catalog, system) = match &self.folder {
            Some(folder) => {
                let loaded = load(folder)?;
                let system = loaded.systems.find(&self.entitlement.system)?;
                (loaded.catalog, system)
            }
            None => {
                let client = desk.client()?;
                let (_, catalog) = catalog_in_force(&client).await?;
                (catalog, find(&client, &self.entitlement.system).await?)
            }
        };
        let resolved = system.and_then(|system| catalog.resolve(&system, &self.entitlement.role));
        let Some(resolved) = resolved else {
            return Err(said(
                format!("there is no entitlement {}", self.entitlement),
                "`halligan catalog entitlements` lists them",
            ));
        };
        self.explain(desk, &catalog, &resolved)
    }

    fn explain(
        &self,
        desk: &Desk,
        catalog: &Catalog,
        resolved: &halligan_core::catalog::ResolvedEntitlement,
    ) -> anyhow::Result<()> {
        let at = self.at.unwrap_or(desk.look.now);
        let Some(person) = &self.person else {
            let explanation = explain_who(catalog, resolved, at)?;
            return desk.print(&explanation, |_| shown(&explanation));
        };
        let ask = Ask {
            person: person.clone(),
            mode: if self.emergency { Mode::Emergency } else { Mode::Standard },
            severity: self.severity.clone(),
            scenario: self.scenario.clone(),
            duration: self.duration,
            severity_attested: self.attested,
        };
        let explanation = explain_ask(catalog, resolved, &ask, at, None)?;
        desk.print(&explanation, |_| shown(&explanation))
    }
}

async fn find(client: &Client, name: &Name) -> anyhow::Result<Option<System>> {
    let mut after = None;
    loop {
        let page = client.systems(&Paging { after, limit: Some(200) }).await;
        let page = page.context("failed to read the systems in force")?;
        if let Some(view) = page.items.into_iter().find(|view| view.system.name == *name) {
            return Ok(Some(view.system));
        }
        after = page.next;
        if after.is_none() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_time_has_a_zone() {
        assert_eq!(point("1970-01-01T00:00:01Z").unwrap(), Time::from_micros(1_000_000));
        assert!(point("2026-12-24 03:00").is_err());
    }
}
