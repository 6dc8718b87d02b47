//! Settings, severities, classes, routes: what everything else stands on.

use std::collections::BTreeMap;

use halligan_core::catalog::{RouteTarget, WhoContext};
use halligan_core::effect::AlertKind;
use halligan_core::ids::Name;
use halligan_core::time::Span;

use super::{At, Checker};
use crate::diagnostic::Severity;

impl Checker<'_> {
    pub(super) fn ground(&mut self) {
        self.settings();
        self.severities();
        self.routes();
    }

    fn settings(&mut self) {
        let settings = &self.catalog.settings;
        let at = At::new("settings", "settings");
        if settings.approver_minimum_age == Span::ZERO {
            let say = "approver_minimum_age is zero: whoever is added can approve at once (demo only)";
            self.warn("young-approvers", &at.key("approver_minimum_age"), say);
        }
        for (key, span, why) in [
            ("activate_within", settings.activate_within, "no approval would ever be good"),
            ("request_lapses_after", settings.request_lapses_after, "every request would lapse at once"),
            ("factor_fresh_for", settings.factor_fresh_for, "no second factor would ever be fresh"),
            ("regrant_window", settings.regrant_window, "no ceiling on total time would hold"),
            ("second_bypass_wait", settings.second_bypass_wait, "a second bypass would not wait"),
            ("review_post_use", settings.review_post_use, "every review would be overdue at once"),
            ("review_bypass", settings.review_bypass, "every review would be overdue at once"),
            (
                "review_extended_twice",
                settings.review_extended_twice,
                "every review would be overdue at once",
            ),
        ] {
            if span == Span::ZERO {
                self.error("bad-setting", &at.key(key), format!("{key} is zero: {why}"));
            }
        }
        if settings.factor_fresh_for > Span::hours(1) {
            let say =
                "factor_fresh_for is longer than an hour: a second factor must be fresh to mean anything";
            self.error("bad-setting", &at.key("factor_fresh_for"), say);
        }
    }

    fn severities(&mut self) {
        let catalog = self.catalog;
        let mut ranks: BTreeMap<u8, &Name> = BTreeMap::new();
        let mut priorities: BTreeMap<&str, &Name> = BTreeMap::new();
        for (name, severity) in &catalog.severities {
            let at = At::new(format!("severities/{name}"), format!("severity:{name}"));
            if severity.rank == 0 {
                self.error("bad-severity", &at, "its rank is 0; 1 is the gravest");
            } else if let Some(other) = ranks.insert(severity.rank, name) {
                let say = format!("its rank is that of {other}; one of them must be graver");
                self.error("bad-severity", &at.key("rank"), say);
            }
            for outside in &severity.maps_from {
                if let Some(other) = priorities.insert(outside, name) {
                    let say = format!("`{outside}` maps to {other} as well");
                    self.error("ambiguous-priority", &at.key("maps_from"), say);
                }
            }
            self.who(&at.key("declared_by"), &severity.declared_by, false);
        }
    }

    fn routes(&mut self) {
        let catalog = self.catalog;
        if catalog.routes.is_empty() {
            let say = "no alert goes anywhere: emergencies would go unnoticed";
            self.warn("no-routes", &At::new("routes", "routes"), say);
        }
        for (name, route) in &catalog.routes {
            let at = At::new(format!("routes/{name}"), format!("route:{name}"));
            for alert in &route.alerts {
                // The refusal lists the alerts that there are.
                if let Err(error) = serde_json::from_value::<AlertKind>(alert.as_str().into()) {
                    let error = error.to_string();
                    let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
                    let help = crate::suggest::nearest(alert.as_str(), known.iter().copied())
                        .map(|word| format!("did you mean `{word}`?"))
                        .unwrap_or_else(|| format!("there are {}", known.join(", ")));
                    let say = format!("there is no alert {alert}");
                    self.say(Severity::Error, "unknown-reference", &at.key("alerts"), say, Some(&help));
                }
            }
            match &route.to {
                RouteTarget::Mail(who) => self.mail(&at, who),
                RouteTarget::Webhook { url, .. } => {
                    if let Err(say) = webhook(url) {
                        self.error("bad-url", &at.key("to/webhook/url"), say);
                    }
                }
            }
        }
    }

    fn mail(&mut self, at: &At<'_>, who: &[halligan_core::catalog::Who]) {
        let catalog = self.catalog;
        let at = at.key("to/mail");
        self.who(&at, who, false);
        let nobody = Name::main();
        let context = WhoContext { beneficiary: &nobody, system: None, now: self.now };
        let mut people = catalog.people_of(who, context);
        for one in who {
            if let halligan_core::catalog::Who::OnCall(name) = one {
                let rotation = catalog.schedules.get(name).into_iter().flat_map(|schedule| &schedule.people);
                people.extend(rotation.cloned());
            }
        }
        let mut reached = 0;
        for id in people {
            match catalog.people.get(&id).and_then(|person| person.email.as_ref()) {
                Some(_) => reached += 1,
                None => self.warn("no-mail-address", &at, format!("{id} has no mail address")),
            }
        }
        if reached == 0 {
            self.error("route-reaches-nobody", &at, "nobody who is named here has a mail address");
        }
    }
}

/// A webhook is https, or http on this very machine.
fn webhook(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("`{}` is not a URL", show(url)))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("the URL carries a user name or password; use the webhook's secret".to_owned());
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let odd = host.is_empty() || url.chars().any(|c| c.is_whitespace() || c.is_control());
    let loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        _ if odd => Err(format!("`{}` is not a URL", show(url))),
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err("alerts leave this machine by https only".to_owned()),
        _ => Err(format!("`{}` is neither https nor http", show(scheme))),
    }
}

fn show(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_leave_the_machine_by_https_only() {
        for good in
            ["https://hooks.example/x", "http://127.0.0.1:8080/", "http://[::1]/", "http://localhost/a"]
        {
            assert_eq!(webhook(good), Ok(()), "{good}");
        }
        for bad in [
            "http://hooks.example/",
            "ftp://a/",
            "hooks.example",
            "https://",
            "https://u:p@h/",
            "https://a b/",
        ] {
            assert!(webhook(bad).is_err(), "{bad}");
        }
    }
}
