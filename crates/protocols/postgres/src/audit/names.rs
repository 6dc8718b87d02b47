//! Prepared statements and portals by name; the empty name is the unnamed one.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use halligan_core::catalog::StatementClass;

use super::AuditError;
use super::budget::{Budget, Pin};
use super::queue::Running;
use super::texts::Said;
use crate::codec::Column;

/// All that is remembered, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an entry costs beside its text.
const ENTRY_BYTES: usize = 256;
/// Names that are longer are cut by the server, to what another may be called.
pub(super) const MAX_NAME_BYTES: usize = 63;

/// A statement that can be bound.
#[derive(Debug)]
pub struct Prepared {
    said: Arc<Said>,
    /// As the client told them, then as the server did. Portals share the statement, so the types are behind a lock.
    types: Mutex<Vec<u32>>,
    /// Of its result, once the server has described it.
    columns: Mutex<Option<(Arc<[Column]>, Pin)>>,
    _pin: Option<Pin>,
}

impl Deref for Prepared {
    type Target = Said;
    fn deref(&self) -> &Said {
        &self.said
    }
}

impl Prepared {
    pub fn new(said: Arc<Said>, types: Vec<u32>, held: &Budget) -> Self {
        let pin = held.pin(said.text.len() + said.label.shape.len() + ENTRY_BYTES);
        Self { said, types: Mutex::new(types), columns: Mutex::default(), _pin: Some(pin) }
    }

    /// A statement that nobody has seen.
    pub fn unknown(text: String) -> Self {
        let said = Arc::new(Said::unknown(text));
        Self { said, types: Mutex::default(), columns: Mutex::default(), _pin: None }
    }

    pub fn types(&self) -> MutexGuard<'_, Vec<u32>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None of them where nobody has told.
    pub fn columns(&self) -> Arc<[Column]> {
        let known = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map_or_else(Arc::default, |(columns, _)| Arc::clone(columns))
    }

    pub fn set_columns(&self, columns: Arc<[Column]>, bytes: usize, held: &Budget) {
        let pin = held.pin(bytes);
        *self.columns.lock().unwrap_or_else(PoisonError::into_inner) = Some((columns, pin));
    }

    pub fn set_types(&self, types: &[u32]) {
        *self.types() = types.to_vec();
    }
}

/// A statement with its values.
#[derive(Debug)]
pub struct Portal {
    pub statement: Arc<Prepared>,
    pub parameters: Option<Arc<str>>,
    /// The guard rails let it be bound as one of this class.
    pub class: StatementClass,
    /// Formats of the values of its result, as the protocol has them.
    pub asked: Vec<i16>,
    /// On record since it was bound; taken when it is executed.
    run: Mutex<Option<Running>>,
    _pin: Pin,
}

impl Portal {
    pub fn new(
        statement: Arc<Prepared>,
        parameters: Option<Arc<str>>,
        class: StatementClass,
        asked: Vec<i16>,
        run: Running,
        held: &Budget,
    ) -> Self {
        let pin = held.pin(parameters.as_ref().map_or(0, |values| values.len()) + ENTRY_BYTES);
        Self { statement, parameters, class, asked, run: Mutex::new(Some(run)), _pin: pin }
    }

    pub fn run(&self) -> MutexGuard<'_, Option<Running>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names of one kind.
#[derive(Debug)]
struct Kind<T> {
    known: HashMap<Bytes, Arc<T>>,
    /// The batch in which something was last asked of a name that is not answered yet.
    asked: HashMap<Bytes, u64>,
}

impl<T> Default for Kind<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), asked: HashMap::new() }
    }
}

impl<T> Kind<T> {
    /// Gives what stood there. Names are copied: they must not keep a whole read buffer alive.
    fn put(&mut self, name: &Bytes, now: Option<Arc<T>>) -> Option<Arc<T>> {
        match now {
            Some(now) => self.known.insert(Bytes::copy_from_slice(name), now),
            None => self.known.remove(name),
        }
    }

    fn ask(&mut self, name: &Bytes, batch: u64) {
        self.asked.insert(Bytes::copy_from_slice(name), batch);
    }

    fn answered(&mut self, name: &Bytes, batch: u64) {
        if self.asked.get(name) == Some(&batch) {
            self.asked.remove(name);
        }
    }

    fn is_open(&self, name: &Bytes, batch: u64) -> bool {
        self.asked.get(name).is_some_and(|asked| *asked < batch)
    }
}

#[derive(Debug, Default)]
pub struct Names {
    statements: Kind<Prepared>,
    portals: Kind<Portal>,
    pub held: Budget,
}

impl Names {
    pub fn statement(&self, name: &Bytes) -> Option<&Arc<Prepared>> {
        self.statements.known.get(name)
    }

    pub fn portal(&self, name: &Bytes) -> Option<&Arc<Portal>> {
        self.portals.known.get(name)
    }

    pub fn put_statement(&mut self, name: &Bytes, now: Option<Arc<Prepared>>) -> Option<Arc<Prepared>> {
        self.statements.put(name, now)
    }

    pub fn put_portal(&mut self, name: &Bytes, now: Option<Arc<Portal>>) -> Option<Arc<Portal>> {
        self.portals.put(name, now)
    }

    /// What stands under a statement's name is for the server to say.
    pub fn ask_statement(&mut self, name: &Bytes, batch: u64) {
        self.statements.ask(name, batch);
    }

    pub fn ask_portal(&mut self, name: &Bytes, batch: u64) {
        self.portals.ask(name, batch);
    }

    pub fn statement_answered(&mut self, name: &Bytes, batch: u64) {
        self.statements.answered(name, batch);
    }

    pub fn portal_answered(&mut self, name: &Bytes, batch: u64) {
        self.portals.answered(name, batch);
    }

    /// Whether an earlier batch that is not answered decides what stands under the name.
    pub fn is_statement_open(&self, name: &Bytes, batch: u64) -> bool {
        self.statements.is_open(name, batch)
    }

    pub fn is_portal_open(&self, name: &Bytes, batch: u64) -> bool {
        self.portals.is_open(name, batch)
    }

    /// Nothing waits for an answer.
    pub fn all_answered(&mut self) {
        self.statements.asked.clear();
        self.portals.asked.clear();
    }

    /// The end of a transaction ends its portals.
    pub fn take_portals(&mut self) -> Vec<Arc<Portal>> {
        self.portals.known.drain().map(|(_, portal)| portal).collect()
    }

    /// As [`Self::take_portals`], those that have a name.
    pub fn take_cursors(&mut self) -> Vec<Arc<Portal>> {
        let unnamed = self.portals.known.remove(&Bytes::new());
        let taken = self.take_portals();
        self.portals.known.extend(unnamed.map(|portal| (Bytes::new(), portal)));
        taken
    }

    pub fn forget_statements(&mut self) {
        self.statements.known.clear();
    }

    pub fn check(&self) -> Result<(), AuditError> {
        if self.held.taken() > MAX_BYTES {
            Err(AuditError::TooManyNames { limit: MAX_BYTES })
        } else {
            Ok(())
        }
    }
}

/// A name that the server takes as it is, in any encoding.
pub fn check_name(name: &[u8]) -> Result<(), AuditError> {
    if name.len() > MAX_NAME_BYTES || !name.is_ascii() { Err(AuditError::Name) } else { Ok(()) }
}
