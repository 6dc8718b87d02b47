//! One entitlement: what is wrong with it by itself, and what its policies cannot give.

use std::collections::BTreeSet;

use halligan_core::catalog::{
    Catalog, CheckKind, Durations, Entitlement, OnPartition, Plane, PolicyRule, ResolvedEntitlement, Who,
};
use halligan_core::ids::Name;
use halligan_core::time::Span;

use super::staffing::{Answer, People, Question};
use super::{At, Checker};
use crate::diagnostic::Severity;

/// Checks that no connector of this version can do.
const NOT_YET: [CheckKind; 2] = [CheckKind::Processes, CheckKind::AuthorizedKeys];
/// A recording needs at least this much of the gateway's disk.
const LEAST_SPOOL: u64 = 1 << 20;

impl Checker<'_> {
    /// What can be said without knowing the system.
    pub(super) fn entitlement_itself(&mut self, at: &At<'_>, entitlement: &Entitlement) {
        let catalog = self.catalog;
        if let Some(why) = bad_account(&entitlement.account) {
            self.error("bad-account", &at.key("account"), why);
        }
        if entitlement.shared_account {
            let say =
                format!("account {} is shared: acts are attributed by the gateway only", entitlement.account);
            self.warn("shared-account", &at.key("shared_account"), say);
        }
        if let Some(class) = &entitlement.sensitivity {
            let known = catalog.sensitivities.keys().map(Name::as_str);
            let exists = catalog.sensitivities.contains_key(class);
            self.reference(&at.key("sensitivity"), "sensitivity", class.as_str(), exists, known);
        }
        if entitlement.plane == Plane::Both {
            let say = "it spans the data and the control plane";
            let help = "split it in two; or accept it by name in `waivers`";
            self.say(Severity::Error, "two-planes", &at.key("plane"), say, Some(help));
        }
        if entitlement.requested_by.is_empty() {
            self.error("never-available", &at.key("requested_by"), "nobody may ask for it");
        }
        self.who(&at.key("requested_by"), &entitlement.requested_by, true);
        if entitlement.emergency
            && entitlement.requested_by.iter().any(|who| matches!(who, Who::Anyone(true)))
        {
            self.warn(
                "anyone",
                &at.key("requested_by"),
                "anybody in the catalog may ask for it in an emergency",
            );
        }
        for (key, policy) in [
            ("standard_policy", &entitlement.standard_policy),
            ("emergency_policy", &entitlement.emergency_policy),
        ] {
            if let Some(policy) = policy {
                self.policy_name(&at.key(key), policy);
            }
        }
        if entitlement.emergency_only && !entitlement.emergency {
            let say = "it is for emergencies only, and not for emergencies";
            self.error("never-available", &at.key("emergency_only"), say);
        }
        self.durations(at, entitlement);
        self.session(at, entitlement);
        self.proof(at, entitlement);
    }

    fn durations(&mut self, at: &At<'_>, entitlement: &Entitlement) {
        let standard = &entitlement.durations;
        if let Some(say) = contradiction(standard) {
            self.error("bad-durations", &at.key("durations"), say);
        }
        for (severity, durations) in &entitlement.emergency_durations {
            let at = at.key(&format!("emergency_durations/{severity}"));
            self.severity(&at, severity);
            if let Some(say) = contradiction(durations) {
                self.error("bad-durations", &at, say);
            }
            if !entitlement.emergency_only
                && (durations.longest > standard.longest || durations.ceiling > standard.ceiling)
            {
                let say = format!(
                    "at {severity} it lasts longer ({}, {} in all) than in standard use ({}, {} in all)",
                    durations.longest, durations.ceiling, standard.longest, standard.ceiling
                );
                self.warn("emergency-longer", &at, say);
            }
        }
    }

    fn session(&mut self, at: &At<'_>, entitlement: &Entitlement) {
        let ssh = &entitlement.ssh;
        if !ssh.shell && !ssh.exec && !ssh.sftp {
            self.error("nothing-allowed", &at.key("ssh"), "neither shell nor exec nor sftp is allowed");
        }
        if entitlement.recording.spool_budget_bytes < LEAST_SPOOL {
            let say = format!(
                "its sessions could not be recorded: the spool budget is {} bytes, {LEAST_SPOOL} at least",
                entitlement.recording.spool_budget_bytes
            );
            self.error("unrecorded", &at.key("recording/spool_budget_bytes"), say);
        }
        if entitlement.idle_limit == Some(Span::ZERO) {
            self.error(
                "bad-durations",
                &at.key("idle_limit"),
                "an idle limit of nothing ends every session at once",
            );
        }
        if entitlement.on_partition == OnPartition::EndAfter(Span::ZERO) {
            let say = "sessions would end at the first breath of the network";
            self.error("bad-durations", &at.key("on_partition"), say);
        }
    }

    fn proof(&mut self, at: &At<'_>, entitlement: &Entitlement) {
        let proof = &entitlement.proof;
        let at = at.key("proof");
        for check in proof.checks.iter().filter(|check| NOT_YET.contains(check)) {
            let name = serde_json::to_value(check).ok();
            let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or_default();
            let say = format!("`{name}` is not supported for ssh yet: the proof could never be PROVEN");
            let help = Some("leave it out; supported are `credential` and `gateway_connections`");
            self.say(Severity::Error, "check-not-supported", &at.key("checks"), say, help);
        }
        if proof.checks.is_empty() {
            self.error(
                "no-proof",
                &at.key("checks"),
                "no check is asked for: the end of access would not be proved",
            );
        } else if !proof.checks.contains(&CheckKind::Credential) {
            self.warn("weak-proof", &at.key("checks"), "the old credential is not tried at the target");
        }
        if proof.login_window == Span::ZERO {
            self.error(
                "bad-durations",
                &at.key("login_window"),
                "no certificate would be valid long enough to log in",
            );
        } else if proof.login_window > Span::minutes(10) {
            let say = format!("a session's certificate opens the door for {}", proof.login_window);
            self.warn("weak-proof", &at.key("login_window"), say);
        }
    }
}

fn bad_account(account: &str) -> Option<String> {
    if account.trim().is_empty() {
        return Some("the account is missing".to_owned());
    }
    let first = account.bytes().next();
    let fits = account.len() <= 32
        && first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && account.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    (!fits).then(|| {
        format!(
            "`{}` is not an account: up to 32 letters, digits, `_`, `-`, `.`, beginning with a letter",
            account.chars().take(40).collect::<String>().escape_debug()
        )
    })
}

fn contradiction(durations: &Durations) -> Option<String> {
    let Durations { default, longest, ceiling, .. } = durations;
    if *default == Span::ZERO {
        Some("the default duration is zero".to_owned())
    } else if default > longest {
        Some(format!("the default ({default}) is longer than the longest ({longest})"))
    } else if longest > ceiling {
        Some(format!("the longest ({longest}) is above the ceiling ({ceiling})"))
    } else {
        None
    }
}

/// What a policy cannot give, on one system.
pub(super) struct Judge<'j, 'a> {
    pub catalog: &'a Catalog,
    pub people: &'j People<'a>,
}

#[derive(Debug)]
pub(super) struct Judged {
    pub severity: Severity,
    pub code: &'static str,
    pub say: String,
    pub help: Option<&'static str>,
}

impl Judge<'_, '_> {
    /// `scenarios` are those that cover it, by index.
    pub(super) fn judge(&self, resolved: &ResolvedEntitlement, scenarios: &[usize]) -> Vec<Judged> {
        let mut found = Vec::new();
        let entitlement = &resolved.entitlement;
        let standard = resolved.standard_policy();
        if entitlement.emergency {
            match resolved.emergency_policy() {
                None => found.push(Judged {
                    severity: Severity::Error,
                    code: "no-emergency-policy",
                    say: "it can be asked for in an emergency, and no policy decides that".to_owned(),
                    help: Some("name `emergency_policy` here or at the system, or say `emergency: false`"),
                }),
                Some(policy) => self.policy(&mut found, resolved, policy, Some(scenarios)),
            }
        } else if standard.is_none() {
            found.push(Judged {
                severity: Severity::Error,
                code: "never-available",
                say: "it has no standard policy and is not for emergencies".to_owned(),
                help: Some("name `standard_policy` here or at the system"),
            });
        }
        if let Some(policy) = standard {
            self.policy(&mut found, resolved, policy, None);
        }
        found
    }

    /// With scenarios it is asked in an emergency, without in standard use.
    fn policy(
        &self,
        found: &mut Vec<Judged>,
        resolved: &ResolvedEntitlement,
        name: &Name,
        scenarios: Option<&[usize]>,
    ) {
        let emergency = scenarios.is_some();
        let Some(policy) = self.catalog.policies.get(name) else { return };
        let mut rules: Vec<(Vec<&Name>, &PolicyRule)> = Vec::new();
        let mut without: Vec<&str> = Vec::new();
        if let Some(scenarios) = scenarios {
            for severity in self.severities(scenarios) {
                match policy.rule_at(Some(severity)) {
                    None => without.push(severity.as_str()),
                    Some(rule) => match rules.iter_mut().find(|(_, known)| std::ptr::eq(*known, rule)) {
                        Some((severities, _)) => severities.push(severity),
                        None => rules.push((vec![severity], rule)),
                    },
                }
            }
        } else {
            match policy.rule_at(None) {
                None => without.push("standard requests"),
                Some(rule) => rules.push((Vec::new(), rule)),
            }
        }
        if !without.is_empty() {
            found.push(Judged {
                severity: Severity::Warning,
                code: "no-rule",
                say: format!(
                    "policy {name} has no rule for {}: such requests are refused",
                    without.join(", ")
                ),
                help: None,
            });
        }
        for (severities, rule) in rules {
            let names: Vec<&str> = severities.iter().map(|name| name.as_str()).collect();
            let at =
                if emergency { format!("at {}", names.join(", ")) } else { "in standard use".to_owned() };
            self.rule(found, resolved, name, rule, emergency, &at);
        }
    }

    /// The severities at which it can be asked for: those of the scenarios that cover it; all, if none does.
    fn severities(&self, scenarios: &[usize]) -> BTreeSet<&Name> {
        let covering =
            || self.catalog.scenarios.values().enumerate().filter(|(index, _)| scenarios.contains(index));
        if covering().next().is_none() || covering().any(|(_, scenario)| scenario.severities.is_empty()) {
            return self.catalog.severities.keys().collect();
        }
        covering().flat_map(|(_, scenario)| &scenario.severities).collect()
    }

    fn rule(
        &self,
        found: &mut Vec<Judged>,
        resolved: &ResolvedEntitlement,
        policy: &Name,
        rule: &PolicyRule,
        emergency: bool,
        at: &str,
    ) {
        let class = resolved
            .entitlement
            .sensitivity
            .as_ref()
            .and_then(|name| self.catalog.sensitivities.get(name).map(|class| (name, class)));
        if let Some((name, class)) = class
            && (!class.automatic_approval || class.distinct_approvers > 0)
            && rule.automatic.is_some()
        {
            found.push(Judged {
                severity: Severity::Error,
                code: "automatic-forbidden",
                say: format!("{at} policy {policy} approves by itself, and the class {name} forbids that"),
                help: Some("choose a policy in which people approve"),
            });
        }
        let distinct = class.map_or(0, |(_, class)| class.distinct_approvers);
        let question = Question {
            rule,
            requested_by: &resolved.entitlement.requested_by,
            system: Some(&resolved.system),
            distinct,
            emergency,
        };
        let answer = self.people.ask(&question);
        staffing(found, &answer, policy, emergency, at);
    }
}

fn staffing(found: &mut Vec<Judged>, answer: &Answer, policy: &Name, emergency: bool, at: &str) {
    let severity = if emergency { Severity::Error } else { Severity::Warning };
    let mut say = |severity, code, say: String, help| found.push(Judged { severity, code, say, help });
    if answer.requesters == 0 {
        say(Severity::Error, "never-available", "none of those who may ask for it is there".to_owned(), None);
        return;
    }
    if !answer.empty_steps.is_empty() {
        let steps = answer.empty_steps.join("`, `");
        say(
            severity,
            "no-approver",
            format!("{at} nobody can ever approve step `{steps}` of policy {policy}"),
            Some("name people who are there; a step without approver is blocked, never skipped"),
        );
        return;
    }
    let unmet = &answer.unmet;
    if unmet.count == answer.requesters {
        say(
            severity,
            "policy-not-met",
            format!(
                "{at} policy {policy} cannot be met: there are not enough distinct people who may approve"
            ),
            Some("whoever asks, and their deputies, do not count as approvers"),
        );
        return;
    }
    if unmet.count > 0 {
        say(
            Severity::Warning,
            "policy-not-met-by",
            format!("{at} policy {policy} cannot be met when {unmet} asks"),
            None,
        );
    }
    if answer.after_timer.count > 0 {
        say(
            Severity::Warning,
            "policy-not-met-by",
            format!("{at} policy {policy} can be met only after a timer when {} asks", answer.after_timer),
            None,
        );
    }
    if answer.sometimes.count > 0 {
        say(
            Severity::Warning,
            "sometimes-blocked",
            format!(
                "{at} it depends on who is on call whether policy {policy} can be met when {} asks",
                answer.sometimes
            ),
            Some("add a `fallback`"),
        );
    }
    let too_few = &answer.too_few;
    let reachable = answer.requesters - unmet.count - answer.after_timer.count;
    let need = "approvals, a review by somebody else and two waivers by others still";
    if too_few.count > 0 && too_few.count >= reachable {
        say(
            Severity::Error,
            "too-few-people",
            format!("{at} there are not enough distinct people for {need}"),
            Some("give more people the offices of security officer, incident lead or platform owner"),
        );
    } else if too_few.count > 0 {
        say(
            Severity::Warning,
            "too-few-people-for",
            format!("{at} there are not enough distinct people for {need} when {too_few} asks"),
            None,
        );
    }
}
