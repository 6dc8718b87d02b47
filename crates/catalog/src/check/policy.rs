//! Policies as they stand, without regard to who asks for what.

use std::collections::BTreeSet;

use halligan_core::catalog::{FactorKind, PolicyRule, Step, TimerAction, Who};
use halligan_core::time::Span;

use super::{At, Checker};

/// Kinds of second factor that this version can check.
pub(crate) const FACTORS: [FactorKind; 1] = [FactorKind::Totp];

impl Checker<'_> {
    pub(super) fn policies(&mut self) {
        for (name, policy) in &self.catalog.policies {
            let at = At::new(format!("policies/{name}"), format!("policy:{name}"));
            if policy.rules.is_empty() {
                self.error("empty-policy", &at, "it has no rules: it can never approve anything");
            }
            let mut covers_all = false;
            for (index, rule) in policy.rules.iter().enumerate() {
                let at = at.key(&format!("rules/{index}"));
                if covers_all {
                    let say = "it is never reached: a rule before it is for all severities";
                    self.warn("unreachable-rule", &at, say);
                }
                covers_all |= rule.severities.is_empty();
                self.rule(&at, rule);
            }
        }
    }

    fn rule(&mut self, at: &At<'_>, rule: &PolicyRule) {
        for severity in &rule.severities {
            self.severity(&at.key("severities"), severity);
        }
        if let Some(automatic) = &rule.automatic {
            if automatic.longest == Span::ZERO || automatic.per_person_and_day == 0 {
                let say = "its limits are zero: it never approves anything by itself";
                self.error("empty-policy", &at.key("automatic"), say);
            }
            if rule.steps.is_empty() {
                let say = "once its limits are passed nobody can be asked: add steps";
                self.warn("no-fallback-steps", &at.key("automatic"), say);
            }
        } else if rule.steps.is_empty() {
            self.error("empty-policy", at, "a rule needs steps, or `automatic`");
        }
        let mut names = BTreeSet::new();
        for (index, step) in rule.steps.iter().enumerate() {
            let at = at.key(&format!("steps/{index}"));
            if !names.insert(&step.name) {
                self.error("bad-step", &at.key("name"), format!("two steps are named `{}`", step.name));
            }
            self.step(&at, step);
        }
    }

    fn step(&mut self, at: &At<'_>, step: &Step) {
        if step.name.trim().is_empty() {
            self.error("bad-step", at, "a step needs a name");
        }
        if step.quorum == 0 {
            self.error("bad-step", &at.key("quorum"), "every step needs at least one approval");
        }
        if step.approvers.is_empty() {
            self.error("bad-step", &at.key("approvers"), format!("step `{}` asks nobody", step.name));
        }
        if !step.factors.is_empty() && !step.factors.iter().any(|kind| FACTORS.contains(kind)) {
            let say = format!("step `{}` takes no second factor that this version can check", step.name);
            let help = Some("this version checks `totp`; leave `factors` out, or add it");
            self.say(crate::Severity::Error, "factor-not-supported", &at.key("factors"), say, help);
        }
        self.who(&at.key("approvers"), &step.approvers, true);
        self.who(&at.key("fallback"), &step.fallback, true);
        if step.approvers.iter().chain(&step.fallback).any(|who| matches!(who, Who::Anyone(true))) {
            let say = format!("anybody in the catalog may approve step `{}`", step.name);
            self.warn("anyone", at, say);
        }
        let Some(timer) = &step.timer else { return };
        let at = at.key("timer");
        if timer.after == Span::ZERO {
            self.error("bad-step", &at.key("after"), "the timer strikes at once");
        }
        match &timer.then {
            TimerAction::Reassign(who) | TimerAction::Widen(who) if who.is_empty() => {
                self.error("bad-step", &at.key("then"), "the timer names nobody");
            }
            TimerAction::Reassign(who) => self.who(&at.key("then/reassign"), who, true),
            TimerAction::Widen(who) => self.who(&at.key("then/widen"), who, true),
            TimerAction::Lapse(true) => {}
            TimerAction::Lapse(false) => {
                self.error(
                    "says-nothing",
                    &at.key("then"),
                    "`lapse: false` does nothing; leave the timer out",
                );
            }
        }
    }
}
