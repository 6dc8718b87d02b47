//! What the catalog in force says of a system, against the system itself: the site's connector looks. Only systems in force
//! are looked at, so that nobody points a connector and its credentials at an address of their own.

use halligan_core::catalog::{System, SystemKind};
use halligan_core::ids::Name;
use halligan_link::Role;
use halligan_link::messages::{FindingLevel, Request, Response, TargetFinding};

use crate::control::Control;
use crate::error::ControlError;
use crate::timers::chain;

/// What a look at one system found.
#[derive(Clone, Debug)]
pub struct CheckedSystem {
    /// Which.
    pub system: Name,
    /// One by one; an error where nobody could look.
    pub findings: Vec<TargetFinding>,
}

impl Control {
    /// Whether this kind of system can be looked at.
    pub const fn can_be_looked_at(system: &System) -> bool {
        matches!(system.kind, SystemKind::Postgres)
    }

    /// Looks at one system of the catalog in force.
    pub async fn check_live(&self, system: System) -> Result<CheckedSystem, ControlError> {
        let in_force = self.in_force();
        let catalog = &in_force.head.catalog;
        let roles = catalog.roles_of(&system);
        let entitlements = roles
            .into_iter()
            .filter_map(|role| {
                let resolved = catalog.resolve(&system, &role)?;
                Some((role, resolved.entitlement))
            })
            .collect();
        let name = system.name.clone();
        let nobody = |say: String| CheckedSystem {
            system: name.clone(),
            findings: vec![TargetFinding { role: None, level: FindingLevel::Error, say }],
        };
        let Some(connector) = self.peers(Role::Connector, &system.site).into_iter().next() else {
            return Ok(nobody(format!(
                "no connector of site {} is connected, so nobody looked",
                system.site
            )));
        };
        let request = Request::CheckTarget { system: Box::new(system), entitlements };
        Ok(match connector.call(request).await {
            Ok(Response::TargetChecked { findings }) => CheckedSystem { system: name.clone(), findings },
            Ok(Response::Error { say }) => nobody(format!("the connector could not look: {say}")),
            Ok(other) => nobody(format!("the connector answered {}", other.name())),
            Err(error) => nobody(format!("the connector could not be asked: {}", chain(&error))),
        })
    }
}
