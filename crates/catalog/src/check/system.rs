//! Systems and profiles: each by itself, and which scenario covers what.

use std::rc::Rc;

use halligan_core::catalog::{Catalog, Entitlement, Profile, ResolvedEntitlement, Scope, System, SystemKind};
use halligan_core::ids::{EntitlementName, Name};

use super::entitlement::{Judge, Judged};
use super::scenario::covers_everything;
use super::{At, Checker, owners_matter};
use crate::diagnostic::{Place, Severity};

/// Everything about one use of an entitlement that policies look at: uses alike are judged once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UseKey {
    /// A profile's entitlement is the same wherever it is used; of others the words that count.
    what: (Option<Name>, Name, String),
    standard: Option<Name>,
    emergency: Option<Name>,
    /// The scenarios that cover it, by index.
    pub scenarios: Vec<usize>,
    /// The system's owners, as text, where any policy asks for them.
    owner: String,
}

/// Which scenario covers what. The part of a scope that is about systems is tried once per system, not per role.
pub(crate) struct Coverage<'a> {
    scopes: Vec<(usize, &'a Scope)>,
    owners_matter: bool,
}

impl<'a> Coverage<'a> {
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        let scopes = catalog
            .scenarios
            .values()
            .enumerate()
            .flat_map(|(index, scenario)| scenario.scope.iter().map(move |scope| (index, scope)));
        Self { scopes: scopes.collect(), owners_matter: owners_matter(catalog) }
    }

    pub(crate) fn on(&self, system: &System) -> Vec<(usize, &'a Scope)> {
        self.scopes.iter().filter(|(_, scope)| scope.covers_system(system)).copied().collect()
    }

    pub(crate) fn key(
        &self,
        profile: Option<&Name>,
        system: &System,
        role: &Name,
        entitlement: &Entitlement,
        scopes: &[(usize, &Scope)],
    ) -> UseKey {
        let mut scenarios: Vec<usize> = scopes
            .iter()
            .filter(|(_, scope)| scope.roles.is_empty() || scope.roles.contains(role))
            .map(|(index, _)| *index)
            .collect();
        scenarios.dedup();
        let words = match profile {
            Some(_) => String::new(),
            None => format!(
                "{:?} {:?} {:?} {:?} {} {}",
                entitlement.requested_by,
                entitlement.sensitivity,
                entitlement.standard_policy,
                entitlement.emergency_policy,
                entitlement.emergency,
                entitlement.emergency_only
            ),
        };
        UseKey {
            what: (profile.cloned(), if profile.is_some() { role.clone() } else { Name::main() }, words),
            standard: system.standard_policy.clone(),
            emergency: system.emergency_policy.clone(),
            scenarios,
            owner: if self.owners_matter { format!("{:?}", system.owner) } else { String::new() },
        }
    }
}

impl<'a> Checker<'a> {
    pub(super) fn profiles(&mut self) {
        let catalog = self.catalog;
        for (name, profile) in &catalog.profiles {
            let at = At::new(format!("profiles/{name}"), format!("profile:{name}"));
            self.scope(&profile.systems);
            if covers_everything(&profile.systems) && !profile.entitlements.is_empty() {
                let say = "it gives access to every system of the organisation";
                let help = "name systems or labels; or accept it by name in `waivers`";
                self.say(Severity::Error, "whole-organisation", &at.key("systems"), say, Some(help));
            }
            for (role, entitlement) in &profile.entitlements {
                let at =
                    At::new(format!("profiles/{name}/entitlements/{role}"), format!("profile:{name}/{role}"));
                self.entitlement_itself(&at, entitlement);
                self.profiled.entry((name, role)).or_insert(false);
            }
        }
    }

    /// Checks one system.
    pub fn system(&mut self, place: &Place, system: &System) {
        self.report.systems += 1;
        let name = &system.name;
        let entry = format!("system:{name}");
        let at = At { path: format!("systems/{name}"), entry, place: Some(place) };
        if let Err(say) = address(&system.address) {
            self.error("bad-address", &at.key("address"), say);
        }
        match system.kind {
            SystemKind::Ssh => {
                self.host_keys(&at, system);
                self.no_postgres_target(&at, system);
            }
            SystemKind::Postgres => self.postgres_target(&at, system),
        }
        self.who(&at.key("owner"), &system.owner, false);
        for (key, policy) in
            [("standard_policy", &system.standard_policy), ("emergency_policy", &system.emergency_policy)]
        {
            if let Some(policy) = policy {
                self.policy_name(&at.key(key), policy);
            }
        }
        if let Some(seen) = self.named_systems.get_mut(name) {
            *seen = true;
        }
        let scopes = self.coverage.on(system);
        for (role, entitlement) in &system.entitlements {
            let at = At {
                path: format!("systems/{name}/entitlements/{role}"),
                entry: format!("{name}/{role}"),
                place: Some(place),
            };
            self.entitlement_itself(&at, entitlement);
            self.entitlement_on(&at, system, entitlement);
            let key = self.coverage.key(None, system, role, entitlement, &scopes);
            self.seen(role, entitlement, &key);
            if entitlement.emergency && key.scenarios.is_empty() {
                self.warn(
                    "no-scenario",
                    &at,
                    "no scenario covers it, so nobody can ask for it in an emergency",
                );
            }
            let resolved = resolved(system, role, entitlement);
            if entitlement.emergency {
                self.way_in.add(&self.people, None, &resolved, key.clone(), place);
            }
            let judged = match self.judged.get(&key) {
                Some(known) => Rc::clone(known),
                None => {
                    let judge = Judge { catalog: self.catalog, people: &self.people };
                    let found = Rc::new(judge.judge(&resolved, &key.scenarios));
                    self.judged.insert(key, Rc::clone(&found));
                    found
                }
            };
            self.tell(&at, &judged);
        }
        for (profile_name, profile) in &self.catalog.profiles {
            if profile.systems.covers_system(system) {
                self.profile_on(place, system, profile_name, profile, &scopes);
            }
        }
    }

    /// The entitlements that a profile gives to a system. What is wrong with them is told of the profile, once.
    fn profile_on(
        &mut self,
        place: &Place,
        system: &System,
        name: &'a Name,
        profile: &'a Profile,
        scopes: &[(usize, &Scope)],
    ) {
        for (role, entitlement) in &profile.entitlements {
            let wins = |(other, found): (&Name, &Profile)| {
                other < name && found.entitlements.contains_key(role) && found.systems.covers_system(system)
            };
            if system.entitlements.contains_key(role) || self.catalog.profiles.iter().any(wins) {
                continue;
            }
            let key = self.coverage.key(Some(name), system, role, entitlement, scopes);
            self.seen(role, entitlement, &key);
            if !key.scenarios.is_empty() {
                self.profiled.insert((name, role), true);
            }
            if self.fitted.insert((name, role, system.kind)) {
                let at =
                    At::new(format!("profiles/{name}/entitlements/{role}"), format!("profile:{name}/{role}"));
                self.entitlement_on(&at, system, entitlement);
            }
            let new = !self.judged.contains_key(&key);
            if !new && !entitlement.emergency {
                continue;
            }
            let resolved = resolved(system, role, entitlement);
            if new {
                let judge = Judge { catalog: self.catalog, people: &self.people };
                let found = judge.judge(&resolved, &key.scenarios);
                let at = At {
                    path: format!("profiles/{name}/entitlements/{role}"),
                    entry: format!("profile:{name}/{role}"),
                    place: None,
                };
                self.tell(&at, &found);
                self.judged.insert(key.clone(), Rc::new(found));
            }
            if entitlement.emergency {
                self.way_in.add(&self.people, Some(name), &resolved, key, place);
            }
        }
    }

    fn tell(&mut self, at: &At<'_>, judged: &[Judged]) {
        for found in judged {
            self.say(found.severity, found.code, at, found.say.clone(), found.help);
        }
    }

    fn seen(&mut self, role: &Name, entitlement: &Entitlement, key: &UseKey) {
        if let Some(seen) = self.named_roles.get_mut(role) {
            *seen = true;
        }
        if entitlement.emergency {
            self.emergency_entitlements += 1;
            self.covering.extend(key.scenarios.iter().copied());
        }
    }

    fn host_keys(&mut self, at: &At<'_>, system: &System) {
        if system.host_keys.is_empty() {
            let say = "it has no pinned host key, and no key is trusted on first use";
            let help = "add the lines of /etc/ssh/ssh_host_*_key.pub, read over a way that you trust";
            self.say(Severity::Error, "no-host-key", &at.key("host_keys"), say, Some(help));
        }
        for (index, line) in system.host_keys.iter().enumerate() {
            if let Err(say) = host_key(line) {
                self.error("bad-host-key", &at.key(&format!("host_keys/{index}")), say);
            }
        }
    }

    pub(super) fn after_systems(&mut self) {
        let catalog = self.catalog;
        let unknown: Vec<Name> =
            self.named_systems.iter().filter(|(_, seen)| !**seen).map(|(name, _)| name.clone()).collect();
        let roles: Vec<Name> =
            self.named_roles.iter().filter(|(_, seen)| !**seen).map(|(name, _)| name.clone()).collect();
        let scopes = catalog
            .scenarios
            .iter()
            .flat_map(|(name, scenario)| {
                scenario.scope.iter().enumerate().map(move |(index, scope)| {
                    (format!("scenarios/{name}/scope/{index}"), format!("scenario:{name}"), scope)
                })
            })
            .chain(catalog.profiles.iter().map(|(name, profile)| {
                (format!("profiles/{name}/systems"), format!("profile:{name}"), &profile.systems)
            }));
        for (path, entry, scope) in scopes {
            let at = At::new(path, entry);
            for name in scope.systems.iter().filter(|name| unknown.contains(name)) {
                self.error("unknown-reference", &at.key("systems"), format!("there is no system {name}"));
            }
            for role in scope.roles.iter().filter(|role| roles.contains(role)) {
                self.warn("unknown-role", &at.key("roles"), format!("no system has a role {role}"));
            }
        }
        for (index, (name, scenario)) in catalog.scenarios.iter().enumerate() {
            if !scenario.scope.is_empty() && !self.covering.contains(&index) {
                let at = At::new(format!("scenarios/{name}/scope"), format!("scenario:{name}"));
                self.warn("scenario-covers-nothing", &at, "its scope covers no emergency entitlement");
            }
        }
        let uncovered: Vec<(&Name, &Name)> =
            self.profiled.iter().filter(|(_, covered)| !**covered).map(|(key, _)| *key).collect();
        for (profile, role) in uncovered {
            let emergency = catalog
                .profiles
                .get(profile)
                .and_then(|profile| profile.entitlements.get(role))
                .is_some_and(|entitlement| entitlement.emergency);
            if emergency {
                let at = At::new(
                    format!("profiles/{profile}/entitlements/{role}"),
                    format!("profile:{profile}/{role}"),
                );
                let say = "no scenario covers it on any system, so nobody can ask for it in an emergency";
                self.warn("no-scenario", &at, say);
            }
        }
        let limit = u64::from(catalog.settings.emergency_catalog_limit);
        if self.emergency_entitlements > limit {
            let say = format!(
                "there are {} emergency entitlements, and {limit} are the set size: what everybody can break is watched by nobody",
                self.emergency_entitlements
            );
            self.warn(
                "emergency-catalog-large",
                &At::new("settings/emergency_catalog_limit", "settings"),
                say,
            );
        }
    }
}

fn resolved(system: &System, role: &Name, entitlement: &Entitlement) -> ResolvedEntitlement {
    ResolvedEntitlement {
        name: EntitlementName { system: system.name.clone(), role: role.clone() },
        system: system.clone(),
        entitlement: entitlement.clone(),
    }
}

/// `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets.
pub(crate) fn address(text: &str) -> Result<(&str, u16), String> {
    let bad = |why: &str| {
        format!("`{}` is not host:port: {why}", text.chars().take(80).collect::<String>().escape_debug())
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
    let port =
        port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| bad("the port is not 1 to 65535"))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']').ok_or_else(|| bad("a bracket is open"))?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| bad("not an IPv6 address"))?;
            inner
        }
        None if host.contains(':') => return Err(bad("an IPv6 address stands in brackets")),
        None => host,
    };
    let name = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
        });
    if name || host.parse::<std::net::IpAddr>().is_ok() {
        Ok((host, port))
    } else {
        Err(bad("not a host name"))
    }
}

/// Key types that OpenSSH hosts have (RFC 4253, 5656, 8709, 8332).
const KEY_TYPES: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

fn host_key(line: &str) -> Result<(), String> {
    let bad = |why: &str| {
        format!(
            "`{}…` is not an OpenSSH public key line: {why}",
            line.chars().take(30).collect::<String>().escape_debug()
        )
    };
    let mut words = line.strip_prefix("@cert-authority ").unwrap_or(line).split_ascii_whitespace();
    let kind = words.next().unwrap_or_default();
    if !KEY_TYPES.contains(&kind) {
        return Err(bad(&format!("the type is not one of {}", KEY_TYPES.join(", "))));
    }
    let blob = words.next().and_then(unbase64).ok_or_else(|| bad("the key is not base64"))?;
    // The blob begins with the type again, as a string with its length (RFC 4253, 6.6).
    let length = (kind.len() as u32).to_be_bytes();
    let rest = blob
        .strip_prefix(length.as_slice())
        .and_then(|rest| rest.strip_prefix(kind.as_bytes()))
        .ok_or_else(|| bad("the key is of another type than it says"))?;
    let complete = if kind == "ssh-ed25519" { rest.len() == 36 } else { rest.len() > 36 };
    if complete { Ok(()) } else { Err(bad("the key is cut off")) }
}

/// RFC 4648, section 4, padding required.
pub(super) fn unbase64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 || text.len() > 8192 {
        return None;
    }
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for byte in body.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["127.0.0.1:22", "[::1]:2222", "orders.example.org:22", "host_a:1"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "host",
            ":22",
            "host:0",
            "host:65536",
            "::1:22",
            "[::1:22",
            "a b:22",
            "-x:22",
            "a..b:22",
            "h\n:22",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_keys() {
        const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpUFXQhKqgh0HFzlnK75OugcOGzcMS9OWb97ITHTpcv";
        assert_eq!(host_key(KEY), Ok(()));
        assert_eq!(host_key(&format!("@cert-authority {KEY} example")), Ok(()));
        let other = KEY.replace("ssh-ed25519", "ssh-rsa");
        let cut = KEY.get(..60).unwrap();
        for bad in ["", "ssh-ed25519", "ssh-ed25519 !!!!", "ssh-dss AAAA", other.as_str(), cut] {
            assert!(host_key(bad).is_err(), "{bad}");
        }
    }
}
