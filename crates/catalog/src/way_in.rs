//! The way-in table: each emergency entitlement × everything that can be down → who still opens it, and how.
//!
//! It says what this version can do, not what is planned: a way that does not exist yet is named as missing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;

use halligan_core::catalog::{Activation, Catalog, OfficeName, ResolvedEntitlement, SystemKind};
use halligan_core::ids::{EntitlementName, Name, PersonId};
use serde::{Deserialize, Serialize};

use crate::check::staffing::People;
use crate::check::{Coverage, UseKey, address};
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::load::Places;
use crate::systems::{Systems, Unreadable};

/// What is down: a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Down {
    /// The identity provider.
    IdentityProvider,
    /// Chat, e-mail, pager.
    Chat,
    /// The control plane.
    ControlPlane,
    /// The gateway in use.
    Gateway,
    /// The control plane's database, or the object store.
    Database,
    /// DNS, or the pages' certificate.
    DnsOrCertificate,
    /// A person's phone or key.
    PhoneOrKey,
    /// Clocks.
    Clocks,
    /// The target is sick: disk full, no connection free.
    TargetSick,
    /// The gateway's disk is full.
    GatewayDisk,
    /// Our own configuration: bad catalog, expired token, certificate or key.
    OwnConfiguration,
}

impl Down {
    /// All rows.
    pub const ALL: [Self; 11] = [
        Self::IdentityProvider,
        Self::Chat,
        Self::ControlPlane,
        Self::Gateway,
        Self::Database,
        Self::DnsOrCertificate,
        Self::PhoneOrKey,
        Self::Clocks,
        Self::TargetSick,
        Self::GatewayDisk,
        Self::OwnConfiguration,
    ];

    /// As waivers name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IdentityProvider => "identity-provider",
            Self::Chat => "chat",
            Self::ControlPlane => "control-plane",
            Self::Gateway => "gateway",
            Self::Database => "database",
            Self::DnsOrCertificate => "dns-or-certificate",
            Self::PhoneOrKey => "phone-or-key",
            Self::Clocks => "clocks",
            Self::TargetSick => "target-sick",
            Self::GatewayDisk => "gateway-disk",
            Self::OwnConfiguration => "own-configuration",
        }
    }
}

/// How far the door still opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    /// New access can be had.
    New,
    /// Only those who hold a grant already go on, and open sessions on it.
    HeldOnly,
    /// It depends on something that the catalog does not say.
    Depends,
    /// Nobody: an empty cell.
    Nobody,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// What is down.
    pub down: Down,
    /// How far the door still opens.
    pub opening: Opening,
    /// Who opens it; at most [`Cell::MOST`] of them.
    pub people: Vec<PersonId>,
    /// How many there are in all.
    pub people_count: usize,
    /// How, in order.
    pub steps: Vec<String>,
    /// A way that this version does not have yet.
    pub missing: Option<String>,
}

impl Cell {
    /// People named in one cell.
    pub const MOST: usize = 12;
}

/// A row of entitlements that are all alike in this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayInRow {
    /// The entitlement, or the first of those alike.
    pub entitlement: EntitlementName,
    /// The profile that gives it, if one does.
    pub profile: Option<Name>,
    /// How many others are alike.
    pub alike: u64,
    /// One cell for each thing that can be down.
    pub cells: Vec<Cell>,
}

/// The whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayInTable {
    /// Rows by name.
    pub rows: Vec<WayInRow>,
}

/// What is known of nodes besides the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    gateways: Option<BTreeMap<Name, u32>>,
}

impl Nodes {
    /// Nothing is known, as when only files are at hand.
    pub const fn unknown() -> Self {
        Self { gateways: None }
    }
    /// Gateways by site; a site that is not named has none.
    pub const fn gateways(by_site: BTreeMap<Name, u32>) -> Self {
        Self { gateways: Some(by_site) }
    }
}

/// The way-in table of a catalog.
pub fn way_in(
    catalog: &Catalog,
    systems: &(impl Systems + ?Sized),
    nodes: &Nodes,
) -> Result<WayInTable, Unreadable> {
    let mut table = WayIn::new(catalog, nodes.clone());
    let people = People::new(catalog);
    let coverage = Coverage::new(catalog);
    systems.each(&mut |place, system| {
        let scopes = coverage.on(system);
        for role in catalog.roles_of(system) {
            let Some(resolved) = catalog.resolve(system, &role) else { continue };
            if resolved.entitlement.emergency {
                let profile = (!system.entitlements.contains_key(&role))
                    .then(|| {
                        catalog.profiles.iter().find(|(_, profile)| {
                            profile.systems.covers_system(system) && profile.entitlements.contains_key(&role)
                        })
                    })
                    .flatten()
                    .map(|(name, _)| name);
                let key = coverage.key(profile, system, &role, &resolved.entitlement, &scopes);
                table.add(&people, profile, &resolved, key, place);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(table.table())
}

/// The table while it is filled. Entitlements that are alike are worked out once.
pub(crate) struct WayIn<'a> {
    catalog: &'a Catalog,
    nodes: Nodes,
    alike: HashMap<(UseKey, Name, bool), (WayInRow, Place)>,
}

impl<'a> WayIn<'a> {
    pub(crate) fn new(catalog: &'a Catalog, nodes: Nodes) -> Self {
        Self { catalog, nodes, alike: HashMap::new() }
    }

    pub(crate) fn add(
        &mut self,
        people: &People<'_>,
        profile: Option<&Name>,
        resolved: &ResolvedEntitlement,
        key: UseKey,
        place: &Place,
    ) {
        let pinned =
            address(&resolved.system.address).is_ok_and(|(host, _)| host.parse::<std::net::IpAddr>().is_ok());
        let scenarios = key.scenarios.clone();
        let (catalog, nodes) = (self.catalog, &self.nodes);
        self.alike
            .entry((key, resolved.system.site.clone(), pinned))
            .and_modify(|(row, _)| row.alike += 1)
            .or_insert_with(|| {
                let cells = Asked { catalog, people, nodes, resolved, pinned, scenarios }.cells();
                let row = WayInRow {
                    entitlement: resolved.name.clone(),
                    profile: profile.cloned(),
                    alike: 0,
                    cells,
                };
                (row, place.clone())
            });
    }

    pub(crate) fn table(self) -> WayInTable {
        let mut rows: Vec<WayInRow> = self.alike.into_values().map(|(row, _)| row).collect();
        rows.sort_by(|a, b| a.entitlement.cmp(&b.entitlement));
        WayInTable { rows }
    }

    /// Empty cells. A waiver may name a row (`gateway`), an entitlement (`host/root`), or both (`host/root:gateway`).
    pub(crate) fn findings(&mut self, places: &Places) -> Vec<Diagnostic> {
        let mut rows: Vec<(WayInRow, Place)> = std::mem::take(&mut self.alike).into_values().collect();
        rows.sort_by(|(a, _), (b, _)| a.entitlement.cmp(&b.entitlement));
        let accepted: BTreeSet<&str> = self
            .catalog
            .waivers
            .iter()
            .filter(|waiver| waiver.finding == "way-in")
            .map(|waiver| waiver.entry.as_str())
            .collect();
        let mut told = BTreeSet::new();
        let mut found = Vec::new();
        for (row, place) in rows {
            for cell in row.cells.iter().filter(|cell| cell.opening == Opening::Depends) {
                // The same for all of a site; once is enough.
                if told.insert((cell.down.name().to_owned(), cell.down)) {
                    let say = format!(
                        "when the {} is down it depends: {}",
                        cell.down.name(),
                        cell.steps.join("; ")
                    );
                    let mut one = Place::nowhere().error("way-in", cell.down.name(), say);
                    one.severity = Severity::Warning;
                    found.push(one);
                }
            }
            for cell in row.cells.iter().filter(|cell| cell.opening == Opening::Nobody) {
                let name = match &row.profile {
                    Some(profile) => format!("profile:{profile}/{}", row.entitlement.role),
                    None => row.entitlement.to_string(),
                };
                let down = cell.down.name();
                let both = format!("{name}:{down}");
                let entry = [down.to_owned(), name.clone(), both.clone()]
                    .into_iter()
                    .find(|entry| accepted.contains(entry.as_str()))
                    .unwrap_or(both);
                if !told.insert((entry.clone(), cell.down)) {
                    continue;
                }
                let path = match &row.profile {
                    Some(profile) => format!("profiles/{profile}/entitlements/{}", row.entitlement.role),
                    None => {
                        format!("systems/{}/entitlements/{}", row.entitlement.system, row.entitlement.role)
                    }
                };
                let exact = places.of(&path);
                let place = if exact.line > 0 { exact } else { place.clone() };
                let why = cell.steps.first().map(String::as_str).unwrap_or_default();
                let mut one =
                    place.error("way-in", entry, format!("nobody gets in when this is down: {down} ({why})"));
                one.help = Some(format!(
                    "change that, or accept it in `waivers`: finding way-in, entry {down} or {name}:{down}"
                ));
                found.push(one);
            }
        }
        found
    }
}

struct Asked<'q> {
    catalog: &'q Catalog,
    people: &'q People<'q>,
    nodes: &'q Nodes,
    resolved: &'q ResolvedEntitlement,
    pinned: bool,
    /// Which scenarios cover it, by index.
    scenarios: Vec<usize>,
}

impl Asked<'_> {
    fn cells(&self) -> Vec<Cell> {
        let system = Some(&self.resolved.system);
        let entitlement = &self.resolved.entitlement;
        let scenarios: Vec<_> = self
            .catalog
            .scenarios
            .values()
            .enumerate()
            .filter(|(index, _)| self.scenarios.contains(index))
            .map(|(_, scenario)| scenario)
            .collect();
        let may_ask = self.people.possible(&entitlement.requested_by, system);
        let invoke: BTreeSet<PersonId> = scenarios
            .iter()
            .flat_map(|scenario| self.people.possible(&scenario.invoked_by, system))
            .collect();
        let asking: BTreeSet<PersonId> = may_ask.intersection(&invoke).cloned().collect();
        let bypassing: BTreeSet<PersonId> = scenarios
            .iter()
            .flat_map(|scenario| self.people.possible(&scenario.bypassed_by, system))
            .filter(|person| asking.contains(person))
            .collect();
        let how = self.how(&bypassing);
        Down::ALL.into_iter().map(|down| self.cell(down, &asking, &how)).collect()
    }

    /// How approval is had.
    fn how(&self, bypassing: &BTreeSet<PersonId>) -> String {
        let mut ways = Vec::new();
        let mut approvers = BTreeSet::new();
        let policy = self.resolved.emergency_policy().and_then(|name| self.catalog.policies.get(name));
        for rule in policy.into_iter().flat_map(|policy| &policy.rules) {
            if rule.automatic.is_some() {
                let names: Vec<&str> = rule.severities.iter().map(Name::as_str).collect();
                let at = if names.is_empty() {
                    "at any severity".to_owned()
                } else {
                    format!("at {}", names.join(", "))
                };
                ways.push(format!("approved at once {at}"));
            }
            for step in &rule.steps {
                approvers.extend(self.people.possible(&step.approvers, Some(&self.resolved.system)));
                approvers.extend(self.people.possible(&step.fallback, Some(&self.resolved.system)));
            }
        }
        if !approvers.is_empty() {
            ways.push(format!("approved by {}", some(&approvers)));
        }
        if !bypassing.is_empty() {
            ways.push(format!("bypassed by {}", some(bypassing)));
        }
        ways.join("; or ")
    }

    /// Full, read-only or without disk: what does activation need of the target?
    fn target_sick(
        &self,
        ask: String,
        people: BTreeSet<PersonId>,
    ) -> (Opening, BTreeSet<PersonId>, Vec<String>, Option<&'static str>) {
        let entitlement = &self.resolved.entitlement;
        let (opening, step, missing) = match (self.resolved.system.kind, entitlement.postgres.activation) {
            (SystemKind::Ssh, _) => (
                Opening::New,
                "certificates: activation writes nothing at the target; its sshd must answer",
                None,
            ),
            (SystemKind::Postgres, Activation::Prepared) => (
                Opening::New,
                "standing roles, opened by certificate: activation writes nothing at the server, and from PostgreSQL 16 on reserved_connections keep seats for them",
                None,
            ),
            (SystemKind::Postgres, Activation::Dynamic) => (
                Opening::HeldOnly,
                "users that were made before; a new one cannot be made at a server that takes no writes",
                Some("`activation: prepared` has standing roles for this"),
            ),
        };
        (opening, people, vec![step.to_owned(), ask], missing)
    }

    fn cell(&self, down: Down, asking: &BTreeSet<PersonId>, how: &str) -> Cell {
        let everybody = || asking.clone();
        let site = &self.resolved.system.site;
        let ask = format!("halligan request {} --emergency: {how}", self.resolved.name);
        let held = "sessions on leases that are held, old and new ones, by SSH key or certificate, to their deadline";
        let (opening, people, steps, missing): (Opening, BTreeSet<PersonId>, Vec<String>, Option<&str>) =
            match down {
                Down::IdentityProvider => (
                    Opening::New,
                    everybody(),
                    vec![
                        "sign in locally: password and TOTP (no identity provider is in use)".to_owned(),
                        ask,
                    ],
                    Some("emergency identities are not in this version; local accounts take their place"),
                ),
                Down::Chat => (
                    Opening::New,
                    everybody(),
                    vec!["ask and approve with the program; alerts queue and are sent again".to_owned(), ask],
                    None,
                ),
                Down::ControlPlane | Down::Database => (
                    Opening::HeldOnly,
                    everybody(),
                    vec![held.to_owned(), "recordings wait on the gateway".to_owned()],
                    Some("new access needs warrants, which are not in this version"),
                ),
                Down::Gateway | Down::GatewayDisk => {
                    let missing = Some("sealed credentials are not in this version");
                    match self.nodes.gateways.as_ref().map(|sites| sites.get(site).copied().unwrap_or(0)) {
                        None => (
                            Opening::Depends,
                            everybody(),
                            vec![format!("another gateway of site {site}, if there is one")],
                            missing,
                        ),
                        Some(0 | 1) => (
                            Opening::Nobody,
                            BTreeSet::new(),
                            vec![format!("site {site} has no second gateway")],
                            missing,
                        ),
                        Some(count) => (
                            Opening::New,
                            everybody(),
                            vec![format!("{} other gateways of site {site}", count - 1), ask],
                            missing,
                        ),
                    }
                }
                Down::DnsOrCertificate if self.pinned => (
                    Opening::New,
                    everybody(),
                    vec![
                        format!("the catalog pins the address {}", self.resolved.system.address),
                        "use the program with the server's address and key pinned in the profile".to_owned(),
                        ask,
                    ],
                    Some("`halligan open` is not in this version"),
                ),
                Down::DnsOrCertificate => (
                    Opening::Nobody,
                    BTreeSet::new(),
                    vec![format!("{} is a name, which only DNS can resolve", self.resolved.system.address)],
                    None,
                ),
                Down::PhoneOrKey if asking.len() > 1 => (
                    Opening::New,
                    everybody(),
                    vec![
                        "a colleague asks instead".to_owned(),
                        ask,
                        "sessions on held leases, by SSH key".to_owned(),
                    ],
                    Some("a second authenticator is not in this version"),
                ),
                Down::PhoneOrKey => (
                    Opening::Nobody,
                    BTreeSet::new(),
                    vec!["only one person may ask for it in an emergency".to_owned()],
                    None,
                ),
                Down::Clocks => (
                    Opening::HeldOnly,
                    everybody(),
                    vec![
                        "leases count on a clock of their own".to_owned(),
                        held.to_owned(),
                        "new access while the server's clock is right to 30 seconds, as TOTP needs"
                            .to_owned(),
                    ],
                    None,
                ),
                Down::TargetSick => self.target_sick(ask, everybody()),
                Down::OwnConfiguration => {
                    let mut administrators = self.catalog.holders(OfficeName::CloudAdministrator);
                    administrators
                        .retain(|id| self.catalog.people.get(id).is_some_and(|person| !person.left));
                    let opening = match administrators.len() {
                        0 => Opening::Nobody,
                        1 => Opening::HeldOnly,
                        _ => Opening::New,
                    };
                    let second =
                        if administrators.len() > 1 { "two of them" } else { "only one administrator" };
                    (
                        opening,
                        administrators,
                        vec![format!("halligan catalog rollback ({second}), then {ask}"), held.to_owned()],
                        None,
                    )
                }
            };
        // Who cannot ask cannot open, whatever still works.
        let (opening, steps) = if asking.is_empty() && opening != Opening::Nobody {
            (
                Opening::Nobody,
                vec!["nobody may both ask for it and invoke a scenario that covers it".to_owned()],
            )
        } else {
            (opening, steps)
        };
        let people = if opening == Opening::Nobody { BTreeSet::new() } else { people };
        Cell {
            down,
            opening,
            people_count: people.len(),
            people: people.into_iter().take(Cell::MOST).collect(),
            steps,
            missing: missing.map(str::to_owned),
        }
    }
}

fn some(people: &BTreeSet<PersonId>) -> String {
    let mut names: Vec<&str> = people.iter().take(8).map(Name::as_str).collect();
    let more = format!("{} more", people.len().saturating_sub(8));
    if people.len() > 8 {
        names.push(&more);
    }
    names.join(", ")
}

impl fmt::Display for WayInTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            write!(f, "{}", row.entitlement)?;
            if row.alike > 0 {
                write!(f, " and {} alike", row.alike)?;
            }
            writeln!(f)?;
            for cell in &row.cells {
                let opening = match cell.opening {
                    Opening::New => "opens",
                    Opening::HeldOnly => "held only",
                    Opening::Depends => "depends",
                    Opening::Nobody => "NOBODY",
                };
                let mut names: Vec<&str> = cell.people.iter().map(Name::as_str).collect();
                let more = format!("{} more", cell.people_count - cell.people.len());
                if cell.people_count > cell.people.len() {
                    names.push(&more);
                }
                writeln!(f, "  {:<18} {opening:<9} {}", cell.down.name(), names.join(", "))?;
                for step in &cell.steps {
                    writeln!(f, "  {:<18}   {step}", "")?;
                }
                if let Some(missing) = &cell.missing {
                    writeln!(f, "  {:<18}   (not yet: {missing})", "")?;
                }
            }
        }
        Ok(())
    }
}
