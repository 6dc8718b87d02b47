//! What `apply` writes into a catalog by itself: since when people and memberships are there, and who has left.

use std::collections::BTreeSet;

use halligan_core::catalog::Catalog;
use halligan_core::time::Time;

use crate::diagnostic::Diagnostic;
use crate::load::Places;

/// Dates every person, membership, office, turn and manager that was not there before (rule 4). What the old catalog had
/// undated stays undated, which counts as old; so does everything of the very first catalog, or nobody could approve.
pub fn stamp_since(old: Option<&Catalog>, new: &mut Catalog, now: Time) {
    new.since.clear();
    let Some(old) = old else { return };
    let before = memberships(old);
    for key in memberships(new) {
        match old.since.get(&key) {
            Some(since) if before.contains(&key) => {
                new.since.insert(key, *since);
            }
            None if before.contains(&key) => {}
            _ => {
                new.since.insert(key, now);
            }
        }
    }
}

/// The keys of [`Catalog::since`] that a catalog has reason for. People who have left have none: who comes back is new.
fn memberships(catalog: &Catalog) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (id, person) in catalog.people.iter().filter(|(_, person)| !person.left) {
        keys.insert(format!("person:{id}"));
        keys.extend(person.manager.iter().map(|manager| format!("manager:{id}:{manager}")));
    }
    for (name, group) in &catalog.groups {
        keys.extend(group.members.iter().map(|member| format!("group:{name}:{member}")));
    }
    for office in catalog.offices.keys() {
        keys.extend(catalog.holders(*office).iter().map(|holder| format!("office:{office}:{holder}")));
    }
    for (name, schedule) in &catalog.schedules {
        let people = schedule.people.iter().chain(schedule.overrides.iter().map(|over| &over.person));
        keys.extend(people.map(|person| format!("schedule:{name}:{person}")));
    }
    keys
}

/// Somebody who is in the old catalog and not in the new one has left: the id stays taken, and it cannot be given to
/// somebody of another name.
pub fn keep_left(old: &Catalog, new: &mut Catalog, places: &Places) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (id, before) in &old.people {
        match new.people.get(id) {
            None => {
                let mut gone = before.clone();
                gone.left = true;
                gone.manager = None;
                gone.deputies = BTreeSet::new();
                new.people.insert(id.clone(), gone);
            }
            Some(now) if before.left && !now.left && now.name.trim() != before.name.trim() => {
                let say =
                    format!("{id} was {}, who has left; an id is never given to somebody else", before.name);
                let mut one =
                    places.of(&format!("people/{id}")).error("id-reused", format!("person:{id}"), say);
                one.help = Some(format!(
                    "choose another id, such as {id}2; if they came back, write the name as it was"
                ));
                found.push(one);
            }
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Source, load};
    use halligan_core::catalog::{Who, WhoContext};
    use halligan_core::ids::Name;

    fn catalog(text: &str) -> Catalog {
        load(vec![Source::text("c.yaml", text)]).unwrap().catalog
    }

    #[test]
    fn what_is_new_is_young_and_what_comes_back_is_new() {
        let (day1, day2, day3) = (Time::from_micros(1), Time::from_micros(2), Time::from_micros(3));
        let mut first = catalog("people: {anna: {name: A}, ben: {name: B}}\ngroups: {g: {members: [anna]}}");
        stamp_since(None, &mut first, day1);
        assert!(first.since.is_empty());
        let mut second = catalog(
            "people: {anna: {name: A}, ben: {name: B, manager: anna}, cleo: {name: C}}\ngroups: {g: {members: [anna, ben]}}\noffices: {auditor: {groups: [g]}}\nschedules: {s: {people: [ben]}}",
        );
        stamp_since(Some(&first), &mut second, day2);
        let keys: Vec<&str> = second.since.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "group:g:ben",
                "manager:ben:anna",
                "office:auditor:anna",
                "office:auditor:ben",
                "person:cleo",
                "schedule:s:ben"
            ]
        );
        let mut third = second.clone();
        third.groups.get_mut("g").unwrap().members.clear();
        stamp_since(Some(&second), &mut third, day3);
        assert_eq!(third.since.get("person:cleo"), Some(&day2));
        assert_eq!(third.since.get("group:g:ben"), None);
        let mut fourth = second.clone();
        stamp_since(Some(&third), &mut fourth, day3);
        assert_eq!(fourth.since.get("group:g:anna"), Some(&day3), "once old, gone, and back: young");
        // The core reads what is written here.
        let anna = Name::new("anna").unwrap();
        let who = [Who::Group(Name::new("g").unwrap())];
        let context = WhoContext { beneficiary: &anna, system: None, now: day3 };
        assert_eq!(fourth.member_since(&anna, &who, context), Some(day3));
    }

    #[test]
    fn who_is_gone_keeps_the_id() {
        let old = catalog("people: {anna: {name: Anna, deputies: [ben]}, ben: {name: Ben}}");
        let mut new = catalog("people: {ben: {name: Ben}}");
        assert!(keep_left(&old, &mut new, &Places::default()).is_empty());
        assert!(new.people["anna"].left);
        let mut other = catalog("people: {ben: {name: Ben}, anna: {name: Annabel}}");
        assert_eq!(keep_left(&new, &mut other, &Places::default())[0].code, "id-reused");
        let mut back = catalog("people: {ben: {name: Ben}, anna: {name: Anna}}");
        assert!(keep_left(&new, &mut back, &Places::default()).is_empty());
        stamp_since(Some(&new), &mut back, Time::from_micros(9));
        assert_eq!(back.since.get("person:anna"), Some(&Time::from_micros(9)));
    }
}
