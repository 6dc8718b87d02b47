//! What a session has changed, for the review: gathered by thing, counted once its transaction is through.

use crate::classify::Label;
use halligan_core::catalog::StatementClass;

/// Things that are told apart; more are counted as one.
const MAX_THINGS: usize = 200;

/// One thing, and what was done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// `insert table orders`, `drop table x`; for what could not be read, its shape.
    pub what: String,
    /// Rows, where the server told them for this thing alone.
    pub rows: Option<u64>,
    pub statements: u64,
    /// The number of the first statement.
    pub first: u64,
}

#[derive(Debug, Default)]
pub struct Ledger {
    /// Of the open transaction.
    open: Vec<Changed>,
    through: Vec<Changed>,
}

impl Ledger {
    /// A statement came out well.
    pub fn ran(&mut self, label: &Label, rows: Option<u64>, number: u64) {
        if label.class == StatementClass::Read {
            return;
        }
        let rows = rows.filter(|_| label.changes.len() == 1 && label.statements == 1);
        let one = |what| Changed { what, rows, statements: 1, first: number };
        if label.changes.is_empty() {
            let shape = label.shape.chars().take(200).collect::<String>();
            let risks: Vec<_> = label.risks.iter().map(|risk| risk.words()).collect();
            add(&mut self.open, one(format!("{} ({}): {shape}", label.class, risks.join(", "))));
        }
        for change in &label.changes {
            add(&mut self.open, one(change.to_string()));
        }
    }

    pub fn rolled_back(&mut self) {
        self.open.clear();
    }

    /// The server is idle: what was open is through.
    pub fn committed(&mut self) {
        for changed in std::mem::take(&mut self.open) {
            add(&mut self.through, changed);
        }
    }

    pub fn take(&mut self) -> Vec<Changed> {
        std::mem::take(&mut self.through)
    }
}

fn add(list: &mut Vec<Changed>, mut changed: Changed) {
    if list.len() >= MAX_THINGS {
        changed.what = "other changes".to_owned();
    }
    match list.iter_mut().find(|known| known.what == changed.what) {
        Some(known) => {
            known.rows = known.rows.zip(changed.rows).map(|(all, more)| all.saturating_add(more));
            known.statements += changed.statements;
        }
        None => list.push(changed),
    }
}
