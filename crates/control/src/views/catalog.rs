//! What the catalog offers one person: entitlements to ask for, scenarios to invoke.

use halligan_core::catalog::{ResolvedEntitlement, Scenario, System, WhoContext};
use halligan_core::ids::Name;
use halligan_store::Order;

use super::{MOST_SCANNED, Part, Viewer};
use crate::catalog::system_kind;
use crate::documents::parse;
use crate::error::ControlError;

/// An entitlement that somebody may ask for.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The entitlement with its system.
    pub resolved: ResolvedEntitlement,
    /// May be asked for every day.
    pub standard: bool,
    /// May be asked for in an emergency.
    pub emergency: bool,
}

/// A scenario with what the viewer may do under it.
#[derive(Clone, Debug)]
pub struct SeenScenario {
    /// Its name.
    pub name: Name,
    /// What it says.
    pub scenario: Scenario,
    /// They may invoke it.
    pub may_invoke: bool,
    /// They may bypass approval under it.
    pub may_bypass: bool,
}

impl Viewer {
    /// Entitlements that the person may ask for, by name of the system. All entitlements of a system come together, so
    /// that a page may be a little longer than `limit`.
    pub async fn offered(&self, after: Option<&str>, limit: usize) -> Result<Part<Offered>, ControlError> {
        let kind = system_kind(self.in_force.head.systems_generation);
        let catalog = &self.in_force.head.catalog;
        let mut items = Vec::new();
        let mut after = after.map(str::to_owned);
        let mut scanned = 0;
        loop {
            let page = self.control.store().list(&kind, after.as_deref(), 200, Order::Ascending).await?;
            if page.is_empty() {
                return Ok(Part { items, next: None });
            }
            for document in &page {
                scanned += 1;
                after = Some(document.key.id.clone());
                let system: System = parse(&document.key, &document.body)?;
                for role in catalog.roles_of(&system) {
                    let Some(resolved) = catalog.resolve(&system, &role) else { continue };
                    let context = WhoContext {
                        beneficiary: &self.person,
                        system: Some(&resolved.system),
                        now: self.now,
                    };
                    if !catalog.is_among(&self.person, &resolved.entitlement.requested_by, context) {
                        continue;
                    }
                    let emergency = resolved.entitlement.emergency && resolved.emergency_policy().is_some();
                    let standard =
                        !resolved.entitlement.emergency_only && resolved.standard_policy().is_some();
                    items.push(Offered { resolved, standard, emergency });
                }
                if items.len() >= limit || scanned >= MOST_SCANNED {
                    return Ok(Part { items, next: after });
                }
            }
        }
    }

    /// All scenarios.
    pub fn scenarios(&self) -> Vec<SeenScenario> {
        let catalog = &self.in_force.head.catalog;
        let context = WhoContext { beneficiary: &self.person, system: None, now: self.now };
        let all = catalog.scenarios.iter().map(|(name, scenario)| SeenScenario {
            name: name.clone(),
            scenario: scenario.clone(),
            may_invoke: catalog.is_among(&self.person, &scenario.invoked_by, context),
            may_bypass: catalog.is_among(&self.person, &scenario.bypassed_by, context),
        });
        all.collect()
    }

    /// Systems of the catalog in force, by name; for those who look after it.
    pub async fn systems(&self, after: Option<&str>, limit: usize) -> Result<Part<System>, ControlError> {
        let kind = system_kind(self.in_force.head.systems_generation);
        let page = self.control.store().list(&kind, after, limit, Order::Ascending).await?;
        let next = page.get(limit.saturating_sub(1)).map(|last| last.key.id.clone());
        let items: Result<Vec<System>, _> =
            page.iter().map(|document| parse(&document.key, &document.body)).collect();
        Ok(Part { items: items?, next })
    }
}
