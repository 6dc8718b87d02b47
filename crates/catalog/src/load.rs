//! Many texts become one catalog: parts are merged, and a name that is defined twice is an error that names both places.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::ops::ControlFlow;
use std::sync::Arc;

use halligan_core::catalog::Catalog;

use crate::diagnostic::{Diagnostic, Place};
use crate::places::{Position, Positions};
use crate::read::{Document, MOST_ERRORS, documents, singular, system_line};
use crate::systems::{LoadedSystems, Open, Unreadable, lines};

/// Something to load: a name for messages, and its text or where its lines come from.
#[derive(Clone)]
pub struct Source {
    /// As messages name it, such as `catalog/people.yaml`.
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// See [`Source`].
#[derive(Clone)]
pub enum Content {
    /// YAML, or JSON, which is YAML too: one or more documents, each a part of a catalog.
    Text(String),
    /// JSON Lines: one system a line. Read more than once, never held whole.
    Lines(Open),
}

impl Source {
    /// A part of a catalog as YAML or JSON.
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), content: Content::Text(text.into()) }
    }
    /// Systems as JSON Lines.
    pub fn lines(name: impl Into<String>, open: Open) -> Self {
        Self { name: name.into(), content: Content::Lines(open) }
    }
    /// Systems as JSON Lines that are in memory already.
    pub fn lines_of(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        let text: Arc<str> = text.into();
        let open: Open = Arc::new(move || {
            let bytes: Vec<u8> = text.as_bytes().to_vec();
            Ok(Box::new(std::io::Cursor::new(bytes)) as Box<dyn std::io::BufRead>)
        });
        Self::lines(name, open)
    }
}

/// A catalog that has been read; whether it is any good is [`check`](crate::check)'s business.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Everything but the systems.
    pub catalog: Catalog,
    /// The systems.
    pub systems: LoadedSystems,
    /// Where every entry stands.
    pub places: Places,
    /// The names of the sources, in the order in which they were read.
    pub sources: Vec<String>,
}

/// Where the keys of a catalog stand.
#[derive(Clone, Debug, Default)]
pub struct Places {
    files: Vec<Arc<str>>,
    at: HashMap<String, (u32, Position)>,
}

impl Places {
    /// The place of a path such as `policies/two-people/rules/0`, or of the nearest key above it.
    pub fn of(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some((file, (line, column))) = self.at.get(path) {
                let file = self.files.get(*file as usize).cloned().unwrap_or_else(|| Arc::from(""));
                return Place { file, line: *line, column: *column };
            }
            match path.rfind('/') {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => return Place::nowhere(),
            }
        }
    }
}

/// Reads everything. On any fault all faults of all sources come back, and no catalog.
pub fn load(sources: Vec<Source>) -> Result<Loaded, Vec<Diagnostic>> {
    let mut merge = Merge::default();
    for source in sources {
        let file: Arc<str> = Arc::from(source.name.as_str());
        merge.sources.push(source.name);
        match source.content {
            Content::Text(text) => match documents(&file, &text) {
                Ok(documents) => {
                    let index = merge.places.files.len() as u32;
                    merge.places.files.push(Arc::clone(&file));
                    for document in documents {
                        merge.document(index, &file, document);
                    }
                }
                Err(found) => merge.errors.extend(found),
            },
            Content::Lines(open) => merge.lines(&file, open),
        }
    }
    if merge.errors.is_empty() {
        Ok(Loaded {
            catalog: merge.catalog,
            systems: merge.systems,
            places: merge.places,
            sources: merge.sources,
        })
    } else {
        Err(merge.errors)
    }
}

#[derive(Default)]
struct Merge {
    catalog: Catalog,
    systems: LoadedSystems,
    places: Places,
    sources: Vec<String>,
    errors: Vec<Diagnostic>,
    /// Where each name of a system was first seen: source and line. The only thing kept per system of a stream.
    names: HashMap<Box<str>, (u32, u32)>,
}

impl Merge {
    fn document(&mut self, index: u32, file: &Arc<str>, document: Document) {
        let Document { part, positions, line } = document;
        let here = Here { index, file, positions: &positions, line };
        let waivers_before = self.catalog.waivers.len();
        if let Some(organisation) = part.organisation {
            self.once("organisation", &here);
            self.catalog.organisation = organisation;
        }
        if let Some(settings) = part.settings {
            self.once("settings", &here);
            self.catalog.settings = settings;
        }
        let Self { catalog, errors, places, .. } = self;
        let mut join = Join { errors, places, here: &here };
        join.map("severities", &mut catalog.severities, part.severities);
        join.map("sensitivities", &mut catalog.sensitivities, part.sensitivities);
        join.map("people", &mut catalog.people, part.people);
        join.map("groups", &mut catalog.groups, part.groups);
        join.map("offices", &mut catalog.offices, part.offices);
        join.map("schedules", &mut catalog.schedules, part.schedules);
        join.map("policies", &mut catalog.policies, part.policies);
        join.map("scenarios", &mut catalog.scenarios, part.scenarios);
        join.map("routes", &mut catalog.routes, part.routes);
        join.map("profiles", &mut catalog.profiles, part.profiles);
        let acts = part.chart.into_iter().map(|(act, row)| (act_name(act), (act, row)));
        let mut rows = BTreeMap::new();
        let known = catalog.chart.iter().map(|(act, row)| (act_name(*act), (*act, row.clone())));
        rows.extend(known);
        join.map("chart", &mut rows, acts.collect());
        catalog.chart = rows.into_values().collect();
        catalog.waivers.extend(part.waivers);
        let mut names = Vec::new();
        for (number, system) in part.systems.into_iter().enumerate() {
            let place = here.at(&format!("systems/{number}"));
            names.push(system.name.to_string());
            self.name(index, &place, system.name.as_str());
            self.systems.count += 1;
            self.systems.memory.push((place, system));
        }
        for (path, at) in positions {
            // Items of lists are known by name or by their number in the whole catalog.
            let path = match path.split_once('/') {
                Some(("systems", rest)) => {
                    let (number, rest) = rest.split_once('/').unwrap_or((rest, ""));
                    let name = number.parse::<usize>().ok().and_then(|number| names.get(number));
                    match name {
                        Some(name) if rest.is_empty() => format!("systems/{name}"),
                        Some(name) => format!("systems/{name}/{rest}"),
                        None => continue,
                    }
                }
                Some(("waivers", rest)) => {
                    let (number, rest) = rest.split_once('/').unwrap_or((rest, ""));
                    let number = number.parse::<usize>().unwrap_or(0) + waivers_before;
                    format!("waivers/{number}/{rest}").trim_end_matches('/').to_owned()
                }
                _ => path,
            };
            self.places.at.entry(path).or_insert((index, at));
        }
    }

    /// A key that stands once in the whole catalog.
    fn once(&mut self, key: &str, here: &Here<'_>) {
        if self.places.at.contains_key(key) {
            let first = self.places.of(key);
            let mut found = here.at(key).error("duplicate", key, format!("`{key}` is given twice"));
            found.help = Some(format!("the other one is at {first}"));
            self.errors.push(found);
        }
    }

    fn lines(&mut self, file: &Arc<str>, open: Open) {
        let index = self.places.files.len() as u32;
        self.places.files.push(Arc::clone(file));
        let mut told = 0;
        let outcome = lines(file, &open, &mut |place, line| {
            match system_line(place, line) {
                Ok(system) => {
                    let before = self.errors.len();
                    self.name(index, place, system.name.as_str());
                    told += self.errors.len() - before;
                    self.systems.count += 1;
                }
                Err(found) => {
                    self.errors.push(*found);
                    told += 1;
                }
            }
            Ok(if told < MOST_ERRORS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        });
        match outcome {
            Ok(()) => self.systems.streams.push((Arc::clone(file), open)),
            Err(Unreadable { place, say }) => {
                self.errors.push(place.error("unreadable", file.to_string(), say));
            }
        }
    }

    fn name(&mut self, file: u32, place: &Place, name: &str) {
        match self.names.get(name) {
            None => {
                self.names.insert(name.into(), (file, place.line));
            }
            Some((file, line)) => {
                let first = self.places.files.get(*file as usize).cloned().unwrap_or_else(|| Arc::from(""));
                let mut found = place.error(
                    "duplicate",
                    format!("system:{name}"),
                    format!("system {name} is defined twice"),
                );
                found.help = Some(format!("the other one is at {first}:{line}"));
                self.errors.push(found);
            }
        }
    }
}

pub(crate) fn act_name(act: halligan_core::catalog::Act) -> String {
    serde_json::to_value(act).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

struct Here<'a> {
    index: u32,
    file: &'a Arc<str>,
    positions: &'a Positions,
    line: u32,
}

impl Here<'_> {
    fn at(&self, path: &str) -> Place {
        let (line, column) = self.positions.get(path).copied().unwrap_or((self.line, 1));
        Place { file: Arc::clone(self.file), line, column }
    }
}

struct Join<'a> {
    errors: &'a mut Vec<Diagnostic>,
    places: &'a mut Places,
    here: &'a Here<'a>,
}

impl Join<'_> {
    fn map<K: Ord + Display, V>(&mut self, kind: &str, all: &mut BTreeMap<K, V>, part: BTreeMap<K, V>) {
        for (name, entry) in part {
            let path = format!("{kind}/{name}");
            if all.contains_key(&name) {
                let first = self.places.of(&path);
                let what = singular(kind).unwrap_or(kind);
                let mut found = self.here.at(&path).error(
                    "duplicate",
                    format!("{what}:{name}"),
                    format!("{what} {name} is defined twice"),
                );
                found.help = Some(format!("the other one is at {first}"));
                self.errors.push(found);
                continue;
            }
            if let Some(at) = self.here.positions.get(&path) {
                self.places.at.insert(path, (self.here.index, *at));
            }
            all.insert(name, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systems::Systems;

    #[test]
    fn files_merge_and_a_name_twice_names_both_places() {
        let one = Source::text("a.yaml", "organisation: X\npeople:\n  anna: {name: Anna}\n");
        let two =
            Source::text("b.yaml", "people:\n  ben: {name: Ben}\nchart:\n  use: {accountable: auditor}\n");
        let loaded = load(vec![one.clone(), two]).unwrap();
        assert_eq!(loaded.catalog.people.len(), 2);
        assert_eq!(loaded.places.of("people/ben/name").to_string(), "b.yaml:2:9");
        assert_eq!(loaded.places.of("people/ben/email").to_string(), "b.yaml:2:3");
        let again = Source::text("c.yaml", "groups: {}\n---\norganisation: Y\npeople:\n  anna: {}\n");
        let found = load(vec![one, again]).unwrap_err();
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(said[0].starts_with("c.yaml:3:1: error[duplicate] organisation"), "{said:?}");
        assert!(said[1].starts_with("c.yaml:5:3: error[duplicate] person:anna"), "{said:?}");
        assert!(said[1].contains("a.yaml:3:3"), "{said:?}");
    }

    #[test]
    fn systems_come_from_yaml_and_from_lines() {
        let yaml = "systems:\n  - {name: a, kind: ssh, address: '192.0.2.1:22'}\n";
        let json = "{\"name\":\"b\",\"kind\":\"ssh\",\"address\":\"192.0.2.2:22\"}\n\n";
        let loaded = load(vec![Source::text("a.yaml", yaml), Source::lines_of("s.jsonl", json)]).unwrap();
        assert_eq!(loaded.systems.count(), 2);
        let b = halligan_core::ids::Name::new("b").unwrap();
        assert_eq!(loaded.systems.find(&b).unwrap().unwrap().address, "192.0.2.2:22");
        assert_eq!(loaded.places.of("systems/a/address").to_string(), "a.yaml:2:26");
        let twice = format!("{json}{json}");
        let found = load(vec![Source::lines_of("s.jsonl", twice)]).unwrap_err();
        assert_eq!((found[0].line, found[0].help.as_deref()), (3, Some("the other one is at s.jsonl:1")));
    }
}
