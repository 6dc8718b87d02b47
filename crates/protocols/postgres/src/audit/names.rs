//! Prepared statements and portals by name; the empty name is the unnamed one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use halligan_core::catalog::StatementClass;

use super::AuditError;
use crate::classify::{Label, Risk};
use crate::lexer::{Token, TokenKind, tokens};

/// All that is remembered, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an entry costs beside its text.
const ENTRY_BYTES: usize = 256;

/// A statement that can be bound.
#[derive(Debug)]
pub struct Prepared {
    pub text: Arc<str>,
    pub label: Arc<Label>,
    /// Parameters that are not shown, from 1.
    pub secret: Vec<usize>,
    /// As the client told them, then as the server did. Portals share the statement, so the types are behind a lock.
    types: Mutex<Vec<u32>>,
}

/// A statement whose text nobody knows.
impl Default for Prepared {
    fn default() -> Self {
        let label = Label {
            class: StatementClass::Unknown,
            shape: String::new(),
            changes: Vec::new(),
            risks: vec![Risk::NotParsed],
            statements: 1,
        };
        Self { text: "".into(), label: Arc::new(label), secret: Vec::new(), types: Mutex::default() }
    }
}

impl Prepared {
    pub fn new(text: Arc<str>, label: Arc<Label>, secret: Vec<usize>, types: Vec<u32>) -> Self {
        Self { text, label, secret, types: Mutex::new(types) }
    }

    pub fn types(&self) -> Vec<u32> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_types(&self, types: &[u32]) {
        *self.types.lock().unwrap_or_else(PoisonError::into_inner) = types.to_vec();
    }
}

/// A statement with its values.
#[derive(Debug)]
pub struct Portal {
    pub statement: Arc<Prepared>,
    pub parameters: Option<Arc<str>>,
}

#[derive(Debug, Default)]
pub struct Names {
    statements: HashMap<Bytes, Arc<Prepared>>,
    portals: HashMap<Bytes, Arc<Portal>>,
    bytes: usize,
}

impl Names {
    pub fn statement(&self, name: &Bytes) -> Option<&Arc<Prepared>> {
        self.statements.get(name)
    }

    pub fn portal(&self, name: &Bytes) -> Option<&Arc<Portal>> {
        self.portals.get(name)
    }

    /// Gives what stood there. Names are copied: they must not keep a whole read buffer alive.
    pub fn put_statement(&mut self, name: Bytes, now: Option<Arc<Prepared>>) -> Option<Arc<Prepared>> {
        let cost = |prepared: &Arc<Prepared>| {
            prepared.text.len() + prepared.label.shape.len() + ENTRY_BYTES + name.len()
        };
        let added = now.as_ref().map_or(0, cost);
        let before = match now {
            Some(now) => self.statements.insert(Bytes::copy_from_slice(&name), now),
            None => self.statements.remove(&name),
        };
        self.bytes = (self.bytes + added).saturating_sub(before.as_ref().map_or(0, cost));
        before
    }

    pub fn put_portal(&mut self, name: Bytes, now: Option<Arc<Portal>>) -> Option<Arc<Portal>> {
        let cost = |portal: &Arc<Portal>| {
            portal.parameters.as_ref().map_or(0, |values| values.len()) + ENTRY_BYTES + name.len()
        };
        let added = now.as_ref().map_or(0, cost);
        let before = match now {
            Some(now) => self.portals.insert(Bytes::copy_from_slice(&name), now),
            None => self.portals.remove(&name),
        };
        self.bytes = (self.bytes + added).saturating_sub(before.as_ref().map_or(0, cost));
        before
    }

    /// The end of a transaction ends its portals.
    pub fn forget_portals(&mut self) {
        let names: Vec<Bytes> = self.portals.keys().cloned().collect();
        names.into_iter().for_each(|name| drop(self.put_portal(name, None)));
    }

    pub fn forget_all(&mut self) {
        *self = Self::default();
    }

    pub fn check(&self) -> Result<(), AuditError> {
        if self.bytes > MAX_BYTES { Err(AuditError::TooManyNames { limit: MAX_BYTES }) } else { Ok(()) }
    }
}

/// A name as the server knows it: folded to lower case, unless quoted.
pub fn folded(token: &Token<'_>) -> String {
    match token.kind {
        TokenKind::Quoted => {
            let inside = token.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            inside.unwrap_or(token.text).replace("\"\"", "\"")
        }
        _ => token.text.to_lowercase(),
    }
}

/// `PREPARE name …` puts a statement under a name that Bind knows too.
pub fn prepared_by_sql(text: &str) -> Option<String> {
    let mut tokens = tokens(text, false);
    let first = tokens.next()?;
    let name = tokens.next()?;
    (first.is("prepare") && !name.is("transaction")).then(|| folded(&name))
}
