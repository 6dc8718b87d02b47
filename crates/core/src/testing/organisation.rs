//! A small organisation with every kind of policy, for tests, the simulator and benches.

use std::collections::BTreeMap;

use serde_json::json;

use crate::catalog::{Catalog, ResolvedEntitlement, System};
use crate::ids::{EntitlementName, Name, PersonId};
use crate::time::Time;
use crate::world::Facts;

/// A catalog with its systems resolved.
#[derive(Clone, Debug)]
pub struct Organisation {
    /// Everything but the systems.
    pub catalog: Catalog,
    /// Grows with each change.
    pub version: u64,
    /// Entitlements by name.
    pub entitlements: BTreeMap<EntitlementName, ResolvedEntitlement>,
    systems: Vec<System>,
}

/// Monday, 2 March 2026, 10:00 UTC.
pub const MONDAY: Time = Time::from_micros(1_772_445_600_000_000);

/// A name, of which the caller knows that it is one.
pub fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|_| Name::main())
}

/// An entitlement, `system/role`.
pub fn entitlement(text: &str) -> EntitlementName {
    text.parse().unwrap_or_else(|_| EntitlementName { system: Name::main(), role: Name::main() })
}

impl Organisation {
    /// Responders `anna`, `ben`, `cleo` (oto is anna's deputy, dan is ben's), leads `dan` and `hana`, security `eve` and `fred`, owner
    /// `gus`, stewards of customer data `kim`, `lea`, `max`, auditor `ivo`, administrators `jon` and `pia`, and `nia`, who
    /// has nothing to do with any of it. Two systems, and per system a role for each kind of policy.
    pub fn small() -> Self {
        let person = |name: &str, manager: Option<&str>| json!({"name": name, "manager": manager});
        let catalog = json!({
            "organisation": "Small",
            "severities": {
                "sev1": {"rank": 1, "declared_by": [{"group": "sre"}, {"group": "leads"}, {"office": "security-officer"}]},
                "sev2": {"rank": 2},
                "sev3": {"rank": 3}
            },
            "sensitivities": {"customer-data": {"automatic_approval": false, "distinct_approvers": 2}},
            "people": {
                "anna": {"name": "Anna", "manager": "dan", "deputies": ["oto"]},
                "ben": {"name": "Ben", "manager": "dan", "deputies": ["dan"]}, "cleo": person("Cleo", Some("hana")),
                "dan": person("Dan", Some("gus")), "eve": person("Eve", None), "fred": person("Fred", None),
                "gus": person("Gus", None), "hana": person("Hana", Some("gus")), "ivo": person("Ivo", None),
                "jon": person("Jon", None), "kim": person("Kim", None), "lea": person("Lea", None),
                "max": person("Max", None), "nia": person("Nia", None), "oto": person("Oto", Some("dan")),
                "pia": person("Pia", None)
            },
            "groups": {
                "sre": {"members": ["anna", "ben", "cleo", "oto"]},
                "leads": {"members": ["dan", "hana"]},
                "security": {"members": ["eve", "fred"]},
                "stewards": {"members": ["kim", "lea", "max"]}
            },
            "offices": {
                "security-officer": {"groups": ["security"]},
                "incident-lead": {"people": ["hana", "dan"]},
                "platform-owner": {"people": ["gus"]},
                "cloud-administrator": {"people": ["jon", "pia"]},
                "identity-team": {"people": ["jon"]},
                "auditor": {"people": ["ivo"]}
            },
            "schedules": {
                "duty": {"time_zone": "UTC", "starts": "2026-01-05T00:00", "turn": "12h", "people": ["dan", "hana", "gus"]}
            },
            "policies": {
                "automatic": {"rules": [
                    {"severities": ["sev1"], "automatic": {"severity": "claimed", "longest": "2h", "per_person_and_day": 2},
                     "steps": [{"name": "lead", "approvers": [{"group": "leads"}]}]},
                    {"steps": [{"name": "lead", "approvers": [{"group": "leads"}]}]}
                ]},
                "attested": {"rules": [{"automatic": {"severity": "attested", "longest": "2h", "per_person_and_day": 4}}]},
                "one": {"rules": [{"steps": [{
                    "name": "lead", "approvers": [{"group": "leads"}], "fallback": [{"office": "security-officer"}],
                    "timer": {"after": "20m", "then": {"widen": [{"group": "security"}]}}
                }]}]},
                "two": {"rules": [{"steps": [
                    {"name": "steward or security", "approvers": [{"group": "stewards"}, {"group": "security"}]},
                    {"name": "security", "approvers": [{"group": "security"}], "reason_required": true,
                     "factors": ["totp", "passkey-device"]}
                ]}]},
                "duty": {"rules": [{"steps": [{"name": "duty", "approvers": [{"on_call": "duty"}],
                    "timer": {"after": "30m", "then": {"reassign": [{"group": "leads"}]}}}]}]},
                "manager": {"rules": [{"steps": [{"name": "manager", "approvers": [{"manager": true}, {"owner": true}],
                    "timer": {"after": "1h", "then": {"lapse": true}}}]}]}
            },
            "scenarios": {
                "outage": {"criteria": ["users notice it"], "severities": ["sev1", "sev2"],
                    "invoked_by": [{"group": "sre"}, {"group": "leads"}], "bypassed_by": [{"group": "sre"}],
                    "scope": [{"labels": {"tier": "*"}}], "first_step": "operate"},
                "data-fix": {"invoked_by": [{"group": "sre"}], "scope": [{"systems": ["orders-host"], "roles": ["data"]}],
                    "first_step": "administer"}
            }
        });
        let durations = |default: &str, longest: &str, ceiling: &str| json!({"default": default, "longest": longest, "extensions": 2, "ceiling": ceiling});
        let sre = json!([{"group": "sre"}]);
        let roles = json!({
            "observe": {"account": "watch", "ladder": "observe", "requested_by": [{"group": "sre"}, {"group": "leads"}],
                "standard_policy": "manager", "emergency_policy": "automatic", "durations": durations("30m", "2h", "3h")},
            "operate": {"account": "ops", "ladder": "operate", "requested_by": sre, "standard_policy": "duty",
                "emergency_policy": "one", "durations": durations("1h", "2h", "4h"),
                "emergency_durations": {"sev1": durations("1h", "3h", "6h")}},
            "root": {"account": "root", "ladder": "administer", "requested_by": sre, "emergency_only": true,
                "emergency_policy": "one", "durations": durations("30m", "1h", "2h"),
                "proof": {"checks": ["credential", "gateway_connections", "processes"]}},
            "data": {"account": "data", "ladder": "operate", "requested_by": sre, "sensitivity": "customer-data",
                "standard_policy": "two", "emergency_policy": "two", "durations": durations("1h", "1h", "2h")},
            "patch": {"account": "patch", "ladder": "operate", "requested_by": sre, "emergency_policy": "attested",
                "durations": durations("1h", "2h", "3h")},
            "vendor": {"account": "vendor", "ladder": "operate", "requested_by": sre, "standard_policy": "manager",
                "emergency_policy": "one", "link_pattern": "OPS-*", "durations": durations("1h", "2h", "3h")}
        });
        let system = |name: &str| {
            json!({"name": name, "kind": "ssh", "address": "127.0.0.1:22", "labels": {"tier": "one"},
                "owner": [{"person": "gus"}], "entitlements": roles})
        };
        Self::of(catalog, vec![system("orders-host"), system("billing-host")])
    }

    /// From a catalog's and systems' JSON text; what cannot be read is left out, as tests would notice at once.
    pub fn of(catalog: serde_json::Value, systems: Vec<serde_json::Value>) -> Self {
        let catalog = serde_json::from_value(catalog).unwrap_or_default();
        let systems = systems.into_iter().filter_map(|system| serde_json::from_value(system).ok()).collect();
        let mut organisation = Self { catalog, version: 1, entitlements: BTreeMap::new(), systems };
        organisation.resolve();
        organisation
    }

    /// Applies a change of the catalog.
    pub fn change(&mut self, change: impl FnOnce(&mut Catalog)) {
        change(&mut self.catalog);
        self.version += 1;
        self.resolve();
    }

    fn resolve(&mut self) {
        self.entitlements.clear();
        for system in &self.systems {
            for role in self.catalog.roles_of(system) {
                if let Some(found) = self.catalog.resolve(system, &role) {
                    self.entitlements.insert(found.name.clone(), found);
                }
            }
        }
    }

    /// What a decision knows of it.
    pub fn facts(&self) -> Facts<'_> {
        Facts { catalog: &self.catalog, catalog_version: self.version, entitlements: &self.entitlements }
    }

    /// Everybody, also who has left.
    pub fn people(&self) -> Vec<PersonId> {
        self.catalog.people.keys().cloned().collect()
    }
}
