//! People, groups, offices, the chart and schedules.

use halligan_core::catalog::{Act, OfficeName, Schedule};
use halligan_core::ids::Name;
use halligan_core::time::Span;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{At, Checker};
use crate::load::act_name;

/// Every act that needs somebody accountable.
pub(crate) const ACTS: [Act; 9] = [
    Act::Declare,
    Act::Approve,
    Act::Bypass,
    Act::Use,
    Act::Oversee,
    Act::Revoke,
    Act::Review,
    Act::Close,
    Act::ChangeCatalog,
];

impl Checker<'_> {
    pub(super) fn persons(&mut self) {
        self.each_person();
        self.groups_and_offices();
        self.chart();
        self.schedules();
    }

    fn each_person(&mut self) {
        for (id, person) in &self.catalog.people {
            let at = At::new(format!("people/{id}"), format!("person:{id}"));
            if person.left {
                continue;
            }
            if person.name.trim().is_empty() {
                self.error("bad-person", &at, "the name is missing");
            }
            if person.name.chars().any(char::is_control) {
                self.error("bad-person", &at.key("name"), "the name has control characters in it");
            }
            if person.manager.as_ref() == Some(id) {
                self.error("bad-person", &at.key("manager"), format!("{id} cannot be their own manager"));
            } else if let Some(manager) = &person.manager {
                self.person(&at.key("manager"), manager);
            }
            for deputy in &person.deputies {
                if deputy == id {
                    self.error("bad-person", &at.key("deputies"), format!("{id} cannot be their own deputy"));
                } else {
                    self.person(&at.key("deputies"), deputy);
                }
            }
            if let Some(email) = &person.email
                && !is_mail_address(email)
            {
                let say = format!("`{}` is not a mail address", email.escape_debug());
                self.error("bad-mail-address", &at.key("email"), say);
            }
        }
    }

    fn groups_and_offices(&mut self) {
        let catalog = self.catalog;
        for (name, group) in &catalog.groups {
            let at = At::new(format!("groups/{name}/members"), format!("group:{name}"));
            for member in &group.members {
                self.person(&at, member);
            }
        }
        for (office, holders) in &catalog.offices {
            let at = At::new(format!("offices/{office}"), format!("office:{office}"));
            for person in &holders.people {
                self.person(&at.key("people"), person);
            }
            for group in &holders.groups {
                let known = catalog.groups.keys().map(Name::as_str);
                let exists = catalog.groups.contains_key(group);
                self.reference(&at.key("groups"), "group", group.as_str(), exists, known);
            }
        }
        if self.holders_present(OfficeName::CloudAdministrator).len() < 2 {
            let at = At::new("offices/cloud-administrator", "office:cloud-administrator");
            let say =
                "fewer than two cloud administrators: no change of the catalog has a second pair of eyes";
            self.warn("single-administrator", &at, say);
        }
    }

    fn chart(&mut self) {
        for act in ACTS {
            let name = act_name(act);
            let at = At::new(format!("chart/{name}"), format!("act:{name}"));
            let row = self.catalog.chart.get(&act);
            match row.and_then(|row| row.accountable) {
                None => self.error("no-accountable", &at, format!("no office is accountable for `{name}`")),
                Some(office) if self.holders_present(office).is_empty() => {
                    let say = format!("{office} is accountable for `{name}`, and nobody holds that office");
                    self.error("no-holders", &at.key("accountable"), say);
                }
                Some(_) => {}
            }
            if let Some(row) = row {
                self.who(&at.key("responsible"), &row.responsible, true);
                self.who(&at.key("consulted"), &row.consulted, true);
                self.who(&at.key("informed"), &row.informed, true);
            }
        }
    }

    fn schedules(&mut self) {
        for (name, schedule) in &self.catalog.schedules {
            let at = At::new(format!("schedules/{name}"), format!("schedule:{name}"));
            self.schedule(&at, schedule);
        }
    }

    fn schedule(&mut self, at: &At<'_>, schedule: &Schedule) {
        let zone = schedule.time_zone.escape_debug().to_string();
        if schedule.time_zone.is_empty() || TimeZone::get(&schedule.time_zone).is_err() {
            let say = format!("`{zone}` is not a time zone; write one such as Europe/Berlin");
            self.error("bad-schedule", &at.key("time_zone"), say);
        }
        if schedule.starts.parse::<DateTime>().is_err() {
            let say = format!("`{}` is not of the form 2026-01-05T09:00", schedule.starts.escape_debug());
            self.error("bad-schedule", &at.key("starts"), say);
        }
        if schedule.turn < Span::seconds(1) {
            self.error("bad-schedule", &at.key("turn"), "a turn has no length");
        }
        if schedule.people.is_empty() {
            self.error("bad-schedule", &at.key("people"), "the rotation is empty");
        }
        for (index, person) in schedule.people.iter().enumerate() {
            self.person(&at.key(&format!("people/{index}")), person);
        }
        for (index, over) in schedule.overrides.iter().enumerate() {
            let at = at.key(&format!("overrides/{index}"));
            self.person(&at, &over.person);
            match (over.from.parse::<DateTime>(), over.until.parse::<DateTime>()) {
                (Ok(from), Ok(until)) if from < until => {}
                (Ok(_), Ok(_)) => self.error("bad-schedule", &at, "it ends before it begins"),
                _ => self.error("bad-schedule", &at, "begin and end are of the form 2026-01-05T09:00"),
            }
        }
    }
}

/// The everyday form (RFC 5321, 4.1.2 without quotes and comments): what could break a mail's head is refused.
fn is_mail_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_fits = !local.is_empty()
        && local.len() <= 64
        && local.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c))
        && !local.starts_with('.')
        && !local.ends_with('.');
    let domain_fits = domain.len() <= 253
        && domain.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
        });
    local_fits && domain_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_addresses() {
        for good in ["anna@example.org", "a.b+c@localhost", "x@xn--mller-kva.example"] {
            assert!(is_mail_address(good), "{good}");
        }
        for bad in ["anna", "@example.org", "a@", "a b@example.org", "a@ex\r\nBcc: b", "a@b..c", ".a@b"] {
            assert!(!is_mail_address(bad), "{bad}");
        }
    }

    #[test]
    fn every_act_is_in_the_list() {
        let all = serde_json::from_value::<Act>("none".into()).unwrap_err().to_string();
        assert_eq!(all.matches('`').count() / 2 - 1, ACTS.len(), "{all}");
    }
}
