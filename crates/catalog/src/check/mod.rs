//! What is wrong with a catalog (rule 11), and what somebody should look at.

mod entitlement;
mod ground;
mod people;
mod policy;
mod postgres;
mod scenario;
pub(crate) mod staffing;
mod system;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use halligan_core::catalog::{Catalog, OfficeName, Scope, SystemKind, Who};
use halligan_core::ids::{Name, PersonId};
use halligan_core::time::Time;

pub(crate) use self::system::{Coverage, UseKey, address};
use crate::diagnostic::{Diagnostic, Place, Report, Severity, finding};
use crate::load::{Loaded, Places};
use crate::systems::{Systems, Unreadable};
use crate::way_in::{Nodes, WayIn};

/// Checks what was loaded from files. `now` judges ages of runbooks.
pub fn check(loaded: &Loaded, now: Time) -> Report {
    check_all(&loaded.catalog, &loaded.systems, &loaded.places, &Nodes::unknown(), now)
}

/// Checks any catalog: `places` may be empty, and `nodes` tells what is known of gateways.
pub fn check_all(
    catalog: &Catalog,
    systems: &(impl Systems + ?Sized),
    places: &Places,
    nodes: &Nodes,
    now: Time,
) -> Report {
    let mut checker = Checker::new(catalog, places, nodes, now);
    let outcome = systems.each(&mut |place, system| {
        checker.system(place, system);
        ControlFlow::Continue(())
    });
    if let Err(Unreadable { place, say }) = outcome {
        let entry = place.file.to_string();
        checker.add(place.error("unreadable", entry, say));
    }
    checker.finish()
}

/// The check in pieces, for those who have systems one at a time: `new`, `system` for each, `finish`.
pub struct Checker<'a> {
    pub(crate) catalog: &'a Catalog,
    places: &'a Places,
    now: Time,
    report: Report,
    used_waivers: BTreeSet<usize>,
    people: staffing::People<'a>,
    way_in: WayIn<'a>,
    /// Systems that a scope names, and whether they exist.
    named_systems: HashMap<Name, bool>,
    /// Roles that a scope names, and whether some system has them.
    named_roles: HashMap<Name, bool>,
    /// Scenarios whose scope covers something, by index.
    covering: HashSet<usize>,
    /// Profiles' entitlements that were met on some system, and whether a scenario covers them.
    profiled: HashMap<(&'a Name, &'a Name), bool>,
    /// Profiles' entitlements that were compared with a kind of system.
    fitted: HashSet<(&'a Name, &'a Name, SystemKind)>,
    /// What was found wrong with uses of entitlements that are alike.
    judged: HashMap<UseKey, Rc<Vec<entitlement::Judged>>>,
    coverage: Coverage<'a>,
    emergency_entitlements: u64,
}

impl<'a> Checker<'a> {
    /// Checks everything but the systems.
    pub fn new(catalog: &'a Catalog, places: &'a Places, nodes: &Nodes, now: Time) -> Self {
        let mut checker = Self {
            catalog,
            places,
            now,
            report: Report::default(),
            used_waivers: BTreeSet::new(),
            people: staffing::People::new(catalog),
            way_in: WayIn::new(catalog, nodes.clone()),
            named_systems: HashMap::new(),
            named_roles: HashMap::new(),
            covering: HashSet::new(),
            profiled: HashMap::new(),
            fitted: HashSet::new(),
            judged: HashMap::new(),
            coverage: Coverage::new(catalog),
            emergency_entitlements: 0,
        };
        checker.ground();
        checker.persons();
        checker.policies();
        checker.scenarios();
        checker.profiles();
        checker
    }

    /// What can only be said when all systems were seen.
    pub fn finish(mut self) -> Report {
        self.after_systems();
        for found in self.way_in.findings(self.places) {
            self.add(found);
        }
        self.waivers();
        self.report
    }

    pub(crate) fn add(&mut self, found: Diagnostic) {
        debug_assert!(finding(&found.code).is_some(), "{} is not in the list of findings", found.code);
        if let Some(waiver) = self.report.add(found, &self.catalog.waivers) {
            self.used_waivers.insert(waiver);
        }
    }

    /// Something at `path`, which `entry` names for people.
    fn say(
        &mut self,
        severity: Severity,
        code: &'static str,
        at: &At<'_>,
        say: impl Into<String>,
        help: Option<&str>,
    ) {
        let place = at.place.cloned().unwrap_or_else(|| self.places.of(&at.path));
        // A system of a stream has one place; of one in a file the key is known too.
        let exact = self.places.of(&at.path);
        let place =
            if exact.line > 0 && (at.place.is_none() || exact.file == place.file) { exact } else { place };
        let mut found = place.error(code, at.entry.clone(), say);
        found.severity = severity;
        found.help = help.map(str::to_owned);
        self.add(found);
    }

    fn error(&mut self, code: &'static str, at: &At<'_>, say: impl Into<String>) {
        self.say(Severity::Error, code, at, say, None);
    }

    fn warn(&mut self, code: &'static str, at: &At<'_>, say: impl Into<String>) {
        self.say(Severity::Warning, code, at, say, None);
    }

    /// A name that must be defined.
    fn reference<'n>(
        &mut self,
        at: &At<'_>,
        kind: &str,
        name: &str,
        exists: bool,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        if !exists {
            let help = crate::suggest::nearest(name, known.into_iter().take(10_000))
                .map(|word| format!("did you mean `{word}`?"));
            let say = format!("there is no {kind} {name}");
            self.say(Severity::Error, "unknown-reference", at, say, help.as_deref());
        }
    }

    fn person(&mut self, at: &At<'_>, id: &PersonId) {
        let catalog = self.catalog;
        let found = catalog.people.get(id);
        self.reference(at, "person", id.as_str(), found.is_some(), catalog.people.keys().map(Name::as_str));
        if found.is_some_and(|person| person.left) {
            self.warn("left-but-named", at, format!("{id} has left"));
        }
    }

    fn severity(&mut self, at: &At<'_>, name: &Name) {
        let all = &self.catalog.severities;
        self.reference(at, "severity", name.as_str(), all.contains_key(name), all.keys().map(Name::as_str));
    }

    fn policy_name(&mut self, at: &At<'_>, name: &Name) {
        let all = &self.catalog.policies;
        self.reference(at, "policy", name.as_str(), all.contains_key(name), all.keys().map(Name::as_str));
    }

    /// Ways to name people.
    fn who(&mut self, at: &At<'_>, list: &[Who], may_say_owner: bool) {
        let catalog = self.catalog;
        for (index, who) in list.iter().enumerate() {
            let at = at.key(&index.to_string());
            match who {
                Who::Person(id) => self.person(&at, id),
                Who::Group(name) => {
                    let all = &catalog.groups;
                    let known = all.keys().map(Name::as_str);
                    self.reference(&at, "group", name.as_str(), all.contains_key(name), known);
                }
                Who::Office(office) => {
                    if catalog.holders(*office).is_empty() {
                        self.error("no-holders", &at, format!("nobody holds the office of {office}"));
                    }
                }
                Who::OnCall(name) => {
                    let all = &catalog.schedules;
                    let known = all.keys().map(Name::as_str);
                    self.reference(&at, "schedule", name.as_str(), all.contains_key(name), known);
                }
                Who::Manager(false) | Who::Owner(false) | Who::Anyone(false) => {
                    self.error("says-nothing", &at, "`false` names nobody; leave the line out");
                }
                Who::Owner(true) if !may_say_owner => {
                    self.error("says-nothing", &at, "`owner` means nobody here");
                }
                Who::Manager(true) | Who::Owner(true) | Who::Anyone(true) => {}
            }
        }
    }

    /// A scope's names are looked for among the systems that pass by.
    fn scope(&mut self, scope: &Scope) {
        for name in &scope.systems {
            self.named_systems.entry(name.clone()).or_insert(false);
        }
        for role in &scope.roles {
            self.named_roles.entry(role.clone()).or_insert(false);
        }
    }

    fn holders_present(&self, office: OfficeName) -> BTreeSet<PersonId> {
        let mut people = self.catalog.holders(office);
        people.retain(|id| self.catalog.people.get(id).is_some_and(|person| !person.left));
        people
    }
}

/// What a finding is about: the path of its keys, the entry's name for people, and the place of its system.
#[derive(Clone, Debug)]
pub(crate) struct At<'p> {
    pub path: String,
    pub entry: String,
    pub place: Option<&'p Place>,
}

impl<'p> At<'p> {
    fn new(path: impl Into<String>, entry: impl Into<String>) -> Self {
        Self { path: path.into(), entry: entry.into(), place: None }
    }
    fn key(&self, key: &str) -> Self {
        Self { path: format!("{}/{key}", self.path), entry: self.entry.clone(), place: self.place }
    }
}

/// Does any policy, profile or scenario ask who owns a system?
fn owners_matter(catalog: &Catalog) -> bool {
    let owner = |list: &[Who]| list.iter().any(|who| matches!(who, Who::Owner(true)));
    catalog.policies.values().flat_map(|policy| &policy.rules).flat_map(|rule| &rule.steps).any(|step| {
        owner(&step.approvers)
            || owner(&step.fallback)
            || step.timer.as_ref().is_some_and(|timer| match &timer.then {
                halligan_core::catalog::TimerAction::Reassign(who)
                | halligan_core::catalog::TimerAction::Widen(who) => owner(who),
                halligan_core::catalog::TimerAction::Lapse(_) => false,
            })
    }) || catalog
        .profiles
        .values()
        .flat_map(|profile| profile.entitlements.values())
        .any(|entitlement| owner(&entitlement.requested_by))
        || catalog
            .scenarios
            .values()
            .any(|scenario| owner(&scenario.invoked_by) || owner(&scenario.bypassed_by))
}
