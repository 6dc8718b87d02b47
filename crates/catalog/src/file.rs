//! One file of a catalog: any part of [`Catalog`], and systems.

use std::collections::BTreeMap;

use halligan_core::catalog::{
    Act, Catalog, CatalogWaiver, Group, Office, OfficeName, Person, Policy, Profile, Responsibility, Route,
    Scenario, Schedule, Sensitivity, Settings, Severity, System,
};
use halligan_core::ids::{Name, PersonId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A catalog, or a part of one. A catalog may be spread over any number of files; each name is defined once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogFile {
    /// The organisation's name, as pages and alerts show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Defaults that rules use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// Severities, the gravest first by `rank`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub severities: BTreeMap<Name, Severity>,
    /// Classes of entitlements.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sensitivities: BTreeMap<Name, Sensitivity>,
    /// People by immutable id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<PersonId, Person>,
    /// Groups.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<Name, Group>,
    /// Offices: roles in the organisation with rights in Halligan.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub offices: BTreeMap<OfficeName, Office>,
    /// The responsibility chart: who is accountable for which act.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub chart: BTreeMap<Act, Responsibility>,
    /// On-call schedules.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<Name, Schedule>,
    /// Policies.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<Name, Policy>,
    /// Scenarios.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scenarios: BTreeMap<Name, Scenario>,
    /// Where alerts go.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<Name, Route>,
    /// Entitlements shared by many systems, chosen by label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub profiles: BTreeMap<Name, Profile>,
    /// Findings of `check` that somebody has accepted by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<CatalogWaiver>,
    /// What one can get into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub systems: Vec<System>,
}

impl CatalogFile {
    /// The whole of a catalog as one file. What `apply` writes (`since`) is left out.
    pub fn of(catalog: &Catalog, systems: Vec<System>) -> Self {
        let Catalog {
            organisation,
            settings,
            severities,
            sensitivities,
            people,
            groups,
            offices,
            chart,
            schedules,
            policies,
            scenarios,
            routes,
            profiles,
            waivers,
            since: _,
        } = catalog.clone();
        Self {
            organisation: Some(organisation),
            settings: Some(settings),
            severities,
            sensitivities,
            people,
            groups,
            offices,
            chart,
            schedules,
            policies,
            scenarios,
            routes,
            profiles,
            waivers,
            systems,
        }
    }

    /// As YAML that [`load`](crate::load) reads back.
    pub fn to_yaml(&self) -> Result<String, Unprintable> {
        serde_saphyr::to_string(self).map_err(|source| Unprintable { say: source.to_string() })
    }
}

/// A catalog that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the catalog as YAML: {say}")]
pub struct Unprintable {
    say: String,
}

/// The JSON Schema of catalog files for editors (draft 2020-12), as pretty-printed text with a line end.
pub fn schema() -> String {
    let mut schema = schemars::schema_for!(CatalogFile);
    schema.insert("title".to_owned(), "Halligan catalog file".into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
