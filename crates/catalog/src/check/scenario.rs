//! Scenarios, and the waivers.

use halligan_core::catalog::{OfficeName, Scenario, Scope, Who};
use jiff::civil::Date;

use super::{At, Checker};
use crate::diagnostic::finding;

/// A runbook is looked at twice a year.
const RUNBOOK_DAYS: i64 = 180;

/// Whose acceptance of a finding counts.
const MAY_WAIVE: [OfficeName; 3] =
    [OfficeName::SecurityOfficer, OfficeName::CloudAdministrator, OfficeName::PlatformOwner];

/// Does it cover systems whatever they are?
pub(super) fn covers_everything(scope: &Scope) -> bool {
    scope.systems.is_empty() && scope.labels.is_empty()
}

impl Checker<'_> {
    pub(super) fn scenarios(&mut self) {
        for (name, scenario) in &self.catalog.scenarios {
            let at = At::new(format!("scenarios/{name}"), format!("scenario:{name}"));
            self.scenario(&at, scenario);
        }
    }

    fn scenario(&mut self, at: &At<'_>, scenario: &Scenario) {
        for severity in &scenario.severities {
            self.severity(&at.key("severities"), severity);
        }
        if scenario.invoked_by.is_empty() {
            self.error("nobody-invokes", at, "nobody may invoke it: `invoked_by` is empty");
        }
        self.who(&at.key("invoked_by"), &scenario.invoked_by, true);
        self.who(&at.key("bypassed_by"), &scenario.bypassed_by, true);
        if scenario.bypassed_by.iter().any(|who| matches!(who, Who::Anyone(true))) {
            let say = "anybody in the catalog may bypass approval in it";
            self.warn("anyone", &at.key("bypassed_by"), say);
        }
        if scenario.criteria.iter().all(|text| text.trim().is_empty()) {
            self.warn("no-criteria", at, "it has no criteria: nobody has to say that it is this emergency");
        }
        if scenario.scope.is_empty() {
            self.error("empty-scenario", at, "it has no scope: it covers nothing");
        }
        for (index, scope) in scenario.scope.iter().enumerate() {
            self.scope(scope);
            if covers_everything(scope) {
                let say = "it covers every system of the organisation";
                let help = "name systems or labels; or accept it by name in `waivers`";
                let at = at.key(&format!("scope/{index}"));
                self.say(crate::Severity::Error, "whole-organisation", &at, say, Some(help));
            }
        }
        let Some(runbook) = &scenario.runbook else {
            self.warn("no-runbook", at, "it has no runbook");
            return;
        };
        let at = at.key("runbook");
        self.person(&at.key("owner"), &runbook.owner);
        match runbook.reviewed.parse::<Date>() {
            Err(_) => {
                let say =
                    format!("`{}` is not a date of the form 2026-11-22", runbook.reviewed.escape_debug());
                self.error("bad-date", &at.key("reviewed"), say);
            }
            Ok(reviewed) => {
                let today = jiff::Timestamp::from_microsecond(self.now.micros())
                    .map(|now| now.to_zoned(jiff::tz::TimeZone::UTC).date());
                let days = today.ok().and_then(|today| (today - reviewed).get_days().into());
                if days.is_some_and(|days: i32| i64::from(days) > RUNBOOK_DAYS) {
                    let say =
                        format!("its runbook was last looked at on {reviewed}, over {RUNBOOK_DAYS} days ago");
                    self.warn("old-runbook", &at.key("reviewed"), say);
                }
            }
        }
    }

    pub(super) fn waivers(&mut self) {
        let used = std::mem::take(&mut self.used_waivers);
        for (index, waiver) in self.catalog.waivers.iter().enumerate() {
            let at =
                At::new(format!("waivers/{index}"), format!("waiver:{}:{}", waiver.finding, waiver.entry));
            self.person(&at.key("by"), &waiver.by);
            if self.catalog.people.contains_key(&waiver.by)
                && !MAY_WAIVE.iter().any(|office| self.catalog.holds(&waiver.by, *office))
            {
                let say = format!(
                    "{} may not accept findings: it takes a security officer, cloud administrator or platform owner",
                    waiver.by
                );
                self.error("bad-waiver", &at.key("by"), say);
            }
            if waiver.reason.trim().is_empty() {
                self.error("bad-waiver", &at.key("reason"), "it gives no reason");
            }
            match finding(&waiver.finding) {
                None => {
                    let say = format!("there is no finding `{}`", waiver.finding.escape_debug());
                    self.error("bad-waiver", &at.key("finding"), say);
                }
                Some(known) if !known.waivable => {
                    let say = format!("`{}` cannot be waived: {}", known.code, known.meaning);
                    self.error("bad-waiver", &at.key("finding"), say);
                }
                Some(_) if !used.contains(&index) => {
                    let say = format!("{} is not found for {} (any more)", waiver.finding, waiver.entry);
                    self.warn("unused-waiver", &at, say);
                }
                Some(_) => {}
            }
        }
    }
}
