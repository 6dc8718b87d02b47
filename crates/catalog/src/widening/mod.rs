//! Which changes widen who may get in, approve, bypass or review (rule 11): those need a second person.
//!
//! The rule is the other way round: a change widens *unless* it is known not to. Each entry is compared field by field
//! with what is known to be harmless or narrower; a copy of the old entry takes those fields over, and if it still
//! differs from the new one, then something changed of which nobody has said that it is harmless.

mod entitlement;
mod entries;

use halligan_core::catalog::{Catalog, System};
use serde::{Deserialize, Serialize};

use self::entitlement::system;
use self::entries::entries;

/// Something that becomes wider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Widening {
    /// Such as `group:sre` or `system:orders-host`.
    pub entry: String,
    /// What becomes wider, in a sentence.
    pub say: String,
}

/// What becomes wider by everything but the systems. Between equal catalogs nothing.
pub fn widening(old: &Catalog, new: &Catalog) -> Vec<Widening> {
    let mut wider = Wider::default();
    entries(&mut wider, old, new);
    wider.found
}

/// What becomes wider by one system; none = it is not there.
pub fn system_widening(
    old_catalog: &Catalog,
    new_catalog: &Catalog,
    old: Option<&System>,
    new: Option<&System>,
) -> Vec<Widening> {
    let mut wider = Wider::default();
    system(&mut wider, old_catalog, new_catalog, old, new);
    wider.found
}

#[derive(Default)]
struct Wider {
    entry: String,
    found: Vec<Widening>,
}

impl Wider {
    fn about(&mut self, entry: impl Into<String>) {
        self.entry = entry.into();
    }

    fn say(&mut self, say: impl Into<String>) {
        self.found.push(Widening { entry: self.entry.clone(), say: say.into() });
    }

    fn when(&mut self, wider: bool, say: impl Into<String>) {
        if wider {
            self.say(say);
        }
    }

    /// A list of which every new item may do more.
    fn more<'t, T: PartialEq + std::fmt::Debug + 't>(
        &mut self,
        what: &str,
        old: impl IntoIterator<Item = &'t T>,
        new: impl IntoIterator<Item = &'t T>,
    ) {
        let old: Vec<&T> = old.into_iter().collect();
        for item in new.into_iter().filter(|item| !old.contains(item)) {
            self.say(format!("{what}: {}", word(item)));
        }
    }

    /// A list of which every item that goes meant a limit.
    fn fewer<'t, T: PartialEq + std::fmt::Debug + 't>(
        &mut self,
        what: &str,
        old: impl IntoIterator<Item = &'t T>,
        new: impl IntoIterator<Item = &'t T>,
    ) {
        self.more(what, new, old);
    }
}

/// `Person(anna)` → `person anna`.
fn word(item: &impl std::fmt::Debug) -> String {
    let text = format!("{item:?}");
    match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((kind, name)) => format!("{} {name}", kind.to_lowercase()),
        None => text,
    }
}
