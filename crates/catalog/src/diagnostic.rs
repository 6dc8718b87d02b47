//! What `check` and the reader have to say: where, which finding, about which entry, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use halligan_core::catalog::CatalogWaiver;
use halligan_core::ids::PersonId;
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It will be refused.
    Error,
    /// It will be taken, and somebody should look.
    Warning,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file as it was named to the reader; empty for what does not come from a file.
    pub file: String,
    /// Line, from 1; 0 = not known.
    pub line: u32,
    /// Column in characters, from 1; 0 = not known.
    pub column: u32,
    /// Which finding; stable, for programs and for `waivers`.
    pub code: Cow<'static, str>,
    /// How bad.
    pub severity: Severity,
    /// The entry that it is about, such as `policy:two-people` or `orders-host/root`.
    pub entry: String,
    /// The sentence.
    pub say: String,
    /// What to do.
    pub help: Option<String>,
    /// Somebody has accepted it.
    pub waived: Option<Waived>,
}

/// Who has accepted a finding, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// Who.
    pub by: PersonId,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        let severity = match (&self.waived, self.severity) {
            (Some(_), _) => "waived",
            (None, Severity::Error) => "error",
            (None, Severity::Warning) => "warning",
        };
        write!(f, "{severity}[{}] {}: {}", self.code, self.entry, self.say)?;
        if let Some(waived) = &self.waived {
            write!(f, "\n    waived by {}: {}", waived.by, waived.reason)?;
        } else if let Some(help) = &self.help {
            write!(f, "\n    {help}")?;
        }
        Ok(())
    }
}

/// Where an entry stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file as it was named to the reader; empty for what does not come from a file.
    pub file: Arc<str>,
    /// Line, from 1; 0 = not known.
    pub line: u32,
    /// Column, from 1; 0 = not known.
    pub column: u32,
}

impl Place {
    /// For what does not come from a file.
    pub fn nowhere() -> Self {
        Self { file: Arc::from(""), line: 0, column: 0 }
    }
    pub(crate) fn error(
        &self,
        code: &'static str,
        entry: impl Into<String>,
        say: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            file: self.file.to_string(),
            line: self.line,
            column: self.column,
            code: Cow::Borrowed(code),
            severity: Severity::Error,
            entry: entry.into(),
            say: say.into(),
            help: None,
            waived: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.is_empty(), self.line) {
            (true, _) => f.write_str("the catalog in force"),
            (false, 0) => f.write_str(&self.file),
            (false, line) => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// All that `check` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The findings, in the order of the files; at most [`Report::MOST`] of them.
    pub findings: Vec<Diagnostic>,
    /// Errors that nobody waived, those left out included.
    pub errors: u64,
    /// Warnings that nobody waived, those left out included.
    pub warnings: u64,
    /// Findings that somebody waived.
    pub waived: u64,
    /// Findings that were counted and are not in the list.
    pub left_out: u64,
    /// Systems that were looked at.
    pub systems: u64,
}

impl Report {
    /// A million systems can have a million faults; the first of them say enough.
    pub const MOST: usize = 1000;

    /// Nothing that forbids applying it?
    pub const fn passes(&self) -> bool {
        self.errors == 0
    }

    pub(crate) fn add(&mut self, mut found: Diagnostic, waivers: &[CatalogWaiver]) -> Option<usize> {
        let waiver = waivers
            .iter()
            .position(|waiver| waiver.finding == found.code && waiver.entry == found.entry)
            .filter(|_| finding(&found.code).is_some_and(|known| known.waivable));
        if let Some(waiver) = waiver.and_then(|index| waivers.get(index)) {
            found.waived = Some(Waived { by: waiver.by.clone(), reason: waiver.reason.clone() });
        }
        match (&found.waived, found.severity) {
            (Some(_), _) => self.waived += 1,
            (None, Severity::Error) => self.errors += 1,
            (None, Severity::Warning) => self.warnings += 1,
        }
        if self.findings.len() < Self::MOST {
            self.findings.push(found);
        } else {
            self.left_out += 1;
        }
        waiver
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.left_out > 0 {
            writeln!(f, "… and {} more", self.left_out)?;
        }
        write!(
            f,
            "{} systems, {} errors, {} warnings, {} waived",
            self.systems, self.errors, self.warnings, self.waived
        )
    }
}

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its stable code.
    pub code: &'static str,
    /// May an entry of `waivers` accept it?
    pub waivable: bool,
    /// What it means.
    pub meaning: &'static str,
}

/// The kind of finding that this code names.
pub fn finding(code: &str) -> Option<&'static Finding> {
    FINDINGS.iter().find(|finding| finding.code == code)
}

const fn no(code: &'static str, meaning: &'static str) -> Finding {
    Finding { code, waivable: false, meaning }
}
const fn may(code: &'static str, meaning: &'static str) -> Finding {
    Finding { code, waivable: true, meaning }
}

/// Every kind of finding, as the documentation lists them.
pub const FINDINGS: &[Finding] = &[
    // --- reading
    no("unreadable", "a file cannot be read, or changed while it was being read"),
    no("too-large", "a file, a line or the folder is larger than the reader takes"),
    no("syntax", "the text is not YAML or JSON, or not of the expected form"),
    no("unknown-key", "a key that no entry of this kind has"),
    no("unknown-value", "a word that is not one of those possible here"),
    no("missing-key", "a key that must be there"),
    no("duplicate", "a name is defined twice"),
    // --- names
    no("unknown-reference", "something is named that is nowhere defined"),
    no("says-nothing", "a way to name people that never names anybody"),
    may("unknown-role", "a scope names a role that no system has"),
    may("left-but-named", "somebody who has left still stands in an entry"),
    no("id-reused", "the id of somebody who left is given to somebody else"),
    // --- people and offices
    no("bad-person", "a person without a name, or their own manager or deputy"),
    no("bad-mail-address", "not a mail address"),
    no("no-accountable", "an act without an accountable office"),
    no("no-holders", "an accountable office that nobody holds"),
    may("single-administrator", "fewer than two cloud administrators"),
    no("bad-schedule", "a schedule that never says who is on call"),
    // --- settings, severities, classes
    may("young-approvers", "approver_minimum_age is zero: for demonstrations only"),
    no("bad-setting", "a setting that makes a rule void"),
    no("bad-severity", "a severity whose rank is zero, or that of another"),
    no("ambiguous-priority", "an outside priority maps to two severities"),
    // --- policies
    no("empty-policy", "a policy or rule that can never approve anything"),
    no("bad-step", "a step that asks for nobody, or twice the same name"),
    no("factor-not-supported", "a step that only takes second factors which this version cannot check"),
    may("no-fallback-steps", "automatic approval with nobody to ask once its limits are passed"),
    may("unreachable-rule", "a rule that stands behind one for all severities"),
    may("anyone", "everybody in the catalog is named where that is rarely meant"),
    // --- entitlements
    no("bad-address", "an address that is not host:port"),
    no("no-host-key", "a host without pinned keys: nothing is trusted on first use"),
    no("bad-target", "a PostgreSQL server without databases, or without who signed its certificate"),
    no("wrong-kind", "something that is for another kind of system"),
    no("bad-database", "a database that the system does not have"),
    no("replication", "an entitlement lets people replicate a whole database server"),
    no("bad-hold", "a statement would be held not at all, or for too long"),
    may("read-only-writes", "an entitlement that reads only lets writing statements go to the server"),
    no(
        "standing-role-open",
        "roles that stand at all times, and nobody looks whether a certificate is all that opens them",
    ),
    may("direct-path-open", "the way past the gateways may be open, or nobody looks"),
    no("bad-host-key", "a pinned key that is not an OpenSSH public key line"),
    no("bad-account", "an account name that no host can have"),
    may("shared-account", "an account used by others too: shared, attributed by the gateway only"),
    no("unrecorded", "a path that cannot be recorded"),
    no("nothing-allowed", "an entitlement that permits no kind of session"),
    no("never-available", "an entitlement that nobody can ever get"),
    no("no-emergency-policy", "an emergency entitlement without a policy"),
    may("no-rule", "a policy without a rule for a severity"),
    may("no-scenario", "an emergency entitlement that no scenario covers"),
    no("bad-durations", "durations that contradict each other"),
    may("emergency-longer", "emergency access lasts longer than standard access"),
    no("check-not-supported", "a proof check that cannot be done for this kind of system"),
    no("no-proof", "a proof that would prove nothing"),
    may("weak-proof", "a proof that does not try the old credential"),
    may("two-planes", "an entitlement that spans the data and the control plane"),
    may("whole-organisation", "a scope that covers every system"),
    may("emergency-catalog-large", "more emergency entitlements than the settings allow for"),
    no("automatic-forbidden", "automatic approval where the class of the entitlement forbids it"),
    // --- enough people
    no("no-approver", "a step that nobody can ever approve"),
    no("policy-not-met", "a policy that cannot be met by enough distinct people"),
    may("policy-not-met-by", "a policy that cannot be met when certain people ask"),
    may("sometimes-blocked", "a policy that cannot be met while certain people are on call"),
    no("too-few-people", "not enough distinct people for request, approvals, review and waivers"),
    may("too-few-people-for", "not enough distinct people when certain people ask"),
    may("way-in", "an emergency entitlement that nobody can open while something is down"),
    // --- scenarios, routes, waivers
    no("nobody-invokes", "a scenario that nobody may invoke"),
    no("empty-scenario", "a scenario without a scope"),
    may("scenario-covers-nothing", "a scenario whose scope covers no system"),
    may("no-criteria", "a scenario without criteria to confirm"),
    may("no-runbook", "a scenario without a runbook"),
    no("bad-date", "not a date of the form 2026-11-22"),
    may("old-runbook", "a runbook that nobody looked at for half a year"),
    may("no-routes", "no alert goes anywhere"),
    no("route-reaches-nobody", "a route that leads to no address"),
    may("no-mail-address", "somebody named in a mail route has no address"),
    no("bad-url", "a webhook that is not https"),
    no("bad-waiver", "a waiver of nothing that can be waived, or by somebody without the right"),
    may("unused-waiver", "a waiver of something that was not found"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_can_be_written_in_waivers() {
        for (index, finding) in FINDINGS.iter().enumerate() {
            assert!(halligan_core::ids::Name::new(finding.code).is_ok());
            assert!(FINDINGS[index + 1..].iter().all(|other| other.code != finding.code), "{}", finding.code);
        }
    }
}
