//! Who could get in here, and how: everybody who may ask is put to the core in every way, and like answers are told together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use halligan_core::catalog::{Catalog, ResolvedEntitlement, WhoContext};
use halligan_core::ids::{EntitlementName, Name, PersonId};
use halligan_core::request::Mode;
use halligan_core::time::{Span, Time};
use serde::{Deserialize, Serialize};

use super::ask::{Ask, AskError, BypassWay, Outcome, StepWay, explain_ask};

/// People asked for one by one; the rest is counted.
const MOST_PEOPLE: usize = 200;

/// Who could get in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoExplanation {
    /// Where.
    pub entitlement: EntitlementName,
    /// When: who is on call and who counts as approver depends on it.
    pub at: Time,
    /// The account at the target.
    pub account: String,
    /// Rows, the ways that need nobody else first.
    pub rows: Vec<WhoRow>,
    /// People who may ask and were not looked at one by one.
    pub left_out: u64,
}

/// People for whom the same holds in the same cases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoRow {
    /// Who.
    pub people: Vec<PersonId>,
    /// How.
    pub way: Way,
    /// Severity and scenario of each case; none of both = standard use.
    pub cases: Vec<Case>,
}

/// Severity and scenario.
type Case = (Option<Name>, Option<Name>);

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "way")]
pub enum Way {
    /// By policy alone.
    AtOnce,
    /// Without waiting, loudly.
    Bypass {
        /// After so long.
        wait: Span,
    },
    /// With the approval of others.
    Approved {
        /// By whom.
        steps: Vec<StepWay>,
        /// At least so many.
        distinct_approvers: u8,
    },
    /// Only once somebody can approve again.
    Blocked {
        /// The steps as they stand.
        steps: Vec<StepWay>,
    },
}

/// Who could get in here at that time, and how?
pub fn explain_who(
    catalog: &Catalog,
    resolved: &ResolvedEntitlement,
    at: Time,
) -> Result<WhoExplanation, AskError> {
    let mut cases = vec![(Mode::Standard, None, None)];
    for (name, scenario) in &catalog.scenarios {
        if scenario.scope.iter().any(|scope| scope.covers(&resolved.system, &resolved.name.role)) {
            for severity in catalog.severities.keys() {
                cases.push((Mode::Emergency, Some(severity.clone()), Some(name.clone())));
            }
        }
    }
    let mut found: BTreeMap<(Way, Option<Name>, Option<Name>), BTreeSet<PersonId>> = BTreeMap::new();
    let asking: Vec<&PersonId> = catalog
        .people
        .keys()
        .filter(|person| {
            let context = WhoContext { beneficiary: person, system: Some(&resolved.system), now: at };
            catalog.is_among(person, &resolved.entitlement.requested_by, context)
        })
        .collect();
    for person in asking.iter().take(MOST_PEOPLE) {
        for (mode, severity, scenario) in &cases {
            let ask = Ask {
                person: (*person).clone(),
                mode: *mode,
                severity: severity.clone(),
                scenario: scenario.clone(),
                duration: None,
                severity_attested: false,
            };
            let answer = explain_ask(catalog, resolved, &ask, at, None)?;
            let mut note = |way| {
                let people = found.entry((way, severity.clone(), scenario.clone())).or_default();
                people.insert((*person).clone());
            };
            if let Some(BypassWay::After(wait)) = answer.bypass {
                note(Way::Bypass { wait });
            }
            match answer.outcome {
                Outcome::AtOnce => note(Way::AtOnce),
                Outcome::Waits => {
                    note(Way::Approved { steps: answer.steps, distinct_approvers: answer.distinct_approvers })
                }
                Outcome::Blocked => note(Way::Blocked { steps: answer.steps }),
                Outcome::Refused(_) => {}
            }
        }
    }
    let mut rows: BTreeMap<(Way, Vec<PersonId>), Vec<Case>> = BTreeMap::new();
    for ((way, severity, scenario), people) in found {
        rows.entry((way, people.into_iter().collect())).or_default().push((severity, scenario));
    }
    let rows = rows.into_iter().map(|((way, people), cases)| WhoRow { people, way, cases }).collect();
    Ok(WhoExplanation {
        entitlement: resolved.name.clone(),
        at,
        account: resolved.entitlement.account.clone(),
        rows,
        left_out: asking.len().saturating_sub(MOST_PEOPLE) as u64,
    })
}

impl fmt::Display for WhoExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (account {}), {}", self.entitlement, self.account, self.at)?;
        if self.rows.is_empty() {
            return writeln!(f, "nobody could get in");
        }
        for row in &self.rows {
            let people: Vec<&str> = row.people.iter().map(Name::as_str).collect();
            write!(f, "{}: ", people.join(", "))?;
            let steps = |steps: &[StepWay]| {
                let texts: Vec<String> = steps
                    .iter()
                    .map(|step| {
                        let names: Vec<&str> = step.people.iter().map(Name::as_str).collect();
                        format!("{} of {} ({})", step.needs, names.join(", "), step.name)
                    })
                    .collect();
                texts.join(" and ")
            };
            match &row.way {
                Way::AtOnce => writeln!(f, "at once, by policy")?,
                Way::Bypass { wait: Span::ZERO } => writeln!(f, "by bypass, at once")?,
                Way::Bypass { wait } => writeln!(f, "by bypass, after {wait}")?,
                Way::Approved { steps: list, .. } => writeln!(f, "approved by {}", steps(list))?,
                Way::Blocked { steps: list } => writeln!(f, "BLOCKED: {}", steps(list))?,
            }
            for (severity, scenario) in &row.cases {
                match (severity, scenario) {
                    (Some(severity), Some(scenario)) => writeln!(f, "    {severity} {scenario}")?,
                    _ => writeln!(f, "    standard use")?,
                }
            }
        }
        if self.left_out > 0 {
            writeln!(f, "… and {} more people who may ask", self.left_out)?;
        }
        Ok(())
    }
}
