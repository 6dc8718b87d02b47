//! What a new catalog changes, entry by entry and field by field, in words that can be read in a plan.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

use halligan_core::catalog::{Catalog, System};
use halligan_core::ids::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::read::singular;
use crate::systems::{Systems, Unreadable};
use crate::widening::{Widening, system_widening, widening};

/// What happens to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It changes.
    Changed,
}

/// One field that changes. `None` = not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Where in the entry, such as `rules[0].steps[1].quorum`; empty = the entry itself.
    pub path: String,
    /// Before, as JSON; long ones are cut.
    pub old: Option<String>,
    /// After.
    pub new: Option<String>,
}

/// One entry that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Such as `policy:two-people` or `system:orders-host`.
    pub entry: String,
    /// What happens to it.
    pub kind: Kind,
    /// The fields; of an entry that is added or removed none.
    pub fields: Vec<Field>,
}

/// What `apply` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Changes, those of systems last; at most [`Plan::MOST`].
    pub changes: Vec<Change>,
    /// Changes that are counted and not listed.
    pub left_out: u64,
    /// Systems that are new, go, change.
    pub systems: [u64; 3],
    /// What widens who may get in, approve, bypass or review, and so needs a second person; at most [`Plan::MOST`].
    pub widening: Vec<Widening>,
    /// Widenings that are counted and not listed.
    pub widening_left_out: u64,
}

impl Plan {
    /// A plan is read by people.
    pub const MOST: usize = 10_000;

    /// Nothing to do?
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Does it need a second person (rule 11)?
    pub const fn widens(&self) -> bool {
        !self.widening.is_empty()
    }

    fn change(&mut self, change: Change) {
        if self.changes.len() < Self::MOST {
            self.changes.push(change);
        } else {
            self.left_out += 1;
        }
    }

    fn wider(&mut self, found: Vec<Widening>) {
        for one in found {
            if self.widening.len() < Self::MOST {
                self.widening.push(one);
            } else {
                self.widening_left_out += 1;
            }
        }
    }
}

/// Compares two catalogs with their systems. Both sets of systems are passed through at most twice, and never held.
pub fn diff(old: (&Catalog, &dyn Systems), new: (&Catalog, &dyn Systems)) -> Result<Plan, Unreadable> {
    let mut plan = Plan::default();
    for change in diff_catalog(old.0, new.0) {
        plan.change(change);
    }
    plan.wider(widening(old.0, new.0));
    // A fingerprint per system tells which of them changed. Its key is drawn afresh, so that nobody can choose two alike.
    let keys = [RandomState::new(), RandomState::new()];
    let fingerprint = |system: &System| {
        let text = serde_json::to_string(system).unwrap_or_default();
        [keys[0].hash_one(&text), keys[1].hash_one(&text)]
    };
    let mut before: HashMap<Name, Option<[u64; 2]>> = HashMap::new();
    old.1.each(&mut |_, system| {
        before.insert(system.name.clone(), Some(fingerprint(system)));
        ControlFlow::Continue(())
    })?;
    let mut changed: HashMap<Name, System> = HashMap::new();
    let mut too_many = 0u64;
    new.1.each(&mut |_, system| {
        match before.get_mut(&system.name) {
            None => {
                plan.systems[0] += 1;
                plan.change(Change {
                    entry: entry("systems", &system.name),
                    kind: Kind::Added,
                    fields: Vec::new(),
                });
                plan.wider(system_widening(old.0, new.0, None, Some(system)));
            }
            Some(seen) => {
                if seen.take() != Some(fingerprint(system)) {
                    plan.systems[2] += 1;
                    if changed.len() < Plan::MOST {
                        changed.insert(system.name.clone(), system.clone());
                    } else {
                        too_many += 1;
                    }
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    old.1.each(&mut |_, system| {
        if before.get(&system.name).is_some_and(Option::is_some) {
            plan.systems[1] += 1;
            plan.change(Change {
                entry: entry("systems", &system.name),
                kind: Kind::Removed,
                fields: Vec::new(),
            });
            plan.wider(system_widening(old.0, new.0, Some(system), None));
        } else if let Some(now) = changed.get(&system.name) {
            let fields = fields(&value(system), &value(now));
            plan.change(Change { entry: entry("systems", &system.name), kind: Kind::Changed, fields });
            plan.wider(system_widening(old.0, new.0, Some(system), Some(now)));
        }
        ControlFlow::Continue(())
    })?;
    if too_many > 0 {
        plan.left_out += too_many;
        let say = format!("{too_many} more systems change than can be compared one by one");
        plan.wider(vec![Widening { entry: "systems".to_owned(), say }]);
    }
    Ok(plan)
}

/// Compares all but the systems. What `apply` writes by itself is left out.
pub fn diff_catalog(old: &Catalog, new: &Catalog) -> Vec<Change> {
    let (Value::Object(old), Value::Object(new)) = (value(old), value(new)) else { return Vec::new() };
    let mut changes = Vec::new();
    for (kind, after) in &new {
        let before = old.get(kind).unwrap_or(&Value::Null);
        match (before, after) {
            _ if kind == "since" => {}
            (Value::Object(before), Value::Object(after)) if singular(kind).is_some() => {
                for (name, entry_after) in after {
                    match before.get(name) {
                        None => changes.push(Change {
                            entry: entry(kind, name),
                            kind: Kind::Added,
                            fields: Vec::new(),
                        }),
                        Some(entry_before) if entry_before != entry_after => changes.push(Change {
                            entry: entry(kind, name),
                            kind: Kind::Changed,
                            fields: fields(entry_before, entry_after),
                        }),
                        Some(_) => {}
                    }
                }
                for name in before.keys().filter(|name| !after.contains_key(*name)) {
                    changes.push(Change {
                        entry: entry(kind, name),
                        kind: Kind::Removed,
                        fields: Vec::new(),
                    });
                }
            }
            (before, after) if before != after => {
                changes.push(Change {
                    entry: kind.clone(),
                    kind: Kind::Changed,
                    fields: fields(before, after),
                });
            }
            _ => {}
        }
    }
    changes
}

/// Compares one system; none = it is not there.
pub fn diff_system(old: Option<&System>, new: Option<&System>) -> Option<Change> {
    let name = &old.or(new)?.name;
    let entry = entry("systems", name);
    match (old, new) {
        (None, _) => Some(Change { entry, kind: Kind::Added, fields: Vec::new() }),
        (_, None) => Some(Change { entry, kind: Kind::Removed, fields: Vec::new() }),
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) => {
            Some(Change { entry, kind: Kind::Changed, fields: fields(&value(old), &value(new)) })
        }
    }
}

fn entry(kind: &str, name: impl fmt::Display) -> String {
    format!("{}:{name}", singular(kind).unwrap_or(kind))
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

fn fields(old: &Value, new: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<Field>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let (old, new) = (old.get(key), new.get(key));
                compare(&path, old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), found);
            }
        }
        // Lists of people and names are sets in spirit: what comes and what goes is what matters.
        (Value::Array(old), Value::Array(new)) if plain(old) && plain(new) => {
            for gone in old.iter().filter(|item| !new.contains(item)) {
                found.push(Field { path: path.to_owned(), old: Some(short(gone)), new: None });
            }
            for come in new.iter().filter(|item| !old.contains(item)) {
                found.push(Field { path: path.to_owned(), old: None, new: Some(short(come)) });
            }
            let same = |a: &[Value], b: &[Value]| a.iter().all(|item| b.contains(item));
            if same(old, new) && same(new, old) {
                let (old, new) = (Value::Array(old.clone()), Value::Array(new.clone()));
                found.push(Field { path: path.to_owned(), old: Some(short(&old)), new: Some(short(&new)) });
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                let (old, new) = (old.get(index), new.get(index));
                let path = format!("{path}[{index}]");
                compare(&path, old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), found);
            }
        }
        (old, new) => {
            let side = |value: &Value| (!value.is_null()).then(|| short(value));
            found.push(Field { path: path.to_owned(), old: side(old), new: side(new) });
        }
    }
}

/// Only words, numbers, and words with one key (`person: anna`)?
fn plain(items: &[Value]) -> bool {
    items.iter().all(|item| match item {
        Value::Object(map) => {
            map.len() == 1 && map.values().all(|value| !value.is_object() && !value.is_array())
        }
        Value::Array(_) => false,
        _ => true,
    })
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Object(map) if map.len() == 1 => map
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => format!("{key}: {}", text.escape_debug()),
                other => format!("{key}: {other}"),
            })
            .collect(),
        other => other.to_string(),
    };
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        write!(f, "{sign} {}", self.entry)?;
        for field in &self.fields {
            let path = if field.path.is_empty() { "" } else { &field.path };
            match (&field.old, &field.new) {
                (Some(old), Some(new)) => write!(f, "\n    {path}: {old} → {new}")?,
                (None, Some(new)) => write!(f, "\n    {path}: + {new}")?,
                (Some(old), None) => write!(f, "\n    {path}: - {old}")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changes");
        }
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        if self.left_out > 0 {
            writeln!(f, "… and {} more", self.left_out)?;
        }
        if self.widening.is_empty() {
            return f.write_str("nobody gets more than before: one person may apply this");
        }
        writeln!(
            f,
            "this widens who may get in, approve, bypass or review: a second person must confirm it"
        )?;
        for one in &self.widening {
            writeln!(f, "! {}: {}", one.entry, one.say)?;
        }
        if self.widening_left_out > 0 {
            writeln!(f, "… and {} more", self.widening_left_out)?;
        }
        Ok(())
    }
}
