//! Prepared statements and portals by name; the empty name is the unnamed one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use halligan_core::catalog::StatementClass;

use super::AuditError;
use super::budget::{Budget, Pin};
use super::queue::Running;
use crate::classify::{Label, Risk};
use crate::lexer::{Token, TokenKind, tokens};

/// All that is remembered, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an entry costs beside its text.
const ENTRY_BYTES: usize = 256;
/// Names that are longer are cut by the server, to what another may be called.
const MAX_NAME_BYTES: usize = 63;
/// Texts that are longer are not read for the names in them.
const MAX_READ_BYTES: usize = 256 * 1024;

/// A statement that can be bound.
#[derive(Debug)]
pub struct Prepared {
    pub text: Arc<str>,
    pub label: Arc<Label>,
    /// Parameters that are not shown, from 1.
    pub secret: Vec<usize>,
    /// Of code in it a part is not shown.
    pub hides_code: bool,
    pub by_name: ByName,
    /// It may change how texts are read.
    pub touches_reading: bool,
    /// It makes or closes cursors, which are portals by another name.
    pub moves_cursors: bool,
    /// As the client told them, then as the server did. Portals share the statement, so the types are behind a lock.
    types: Mutex<Vec<u32>>,
    _pin: Option<Pin>,
}

impl Prepared {
    pub fn new(
        text: Arc<str>,
        label: Arc<Label>,
        secret: Vec<usize>,
        types: Vec<u32>,
        held: &Budget,
    ) -> Self {
        let pin = held.pin(text.len() + label.shape.len() + ENTRY_BYTES);
        let nothing = Self::unknown(String::new());
        Self { text, label, secret, types: Mutex::new(types), _pin: Some(pin), ..nothing }
    }

    /// A statement that nobody has seen.
    pub fn unknown(text: String) -> Self {
        let label = Label {
            class: StatementClass::Unknown,
            shape: String::new(),
            changes: Vec::new(),
            risks: vec![Risk::NotParsed],
            statements: 1,
        };
        let (label, types) = (Arc::new(label), Mutex::default());
        Self {
            text: text.into(),
            label,
            secret: Vec::new(),
            hides_code: false,
            by_name: ByName::Nothing,
            touches_reading: false,
            moves_cursors: false,
            types,
            _pin: None,
        }
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
    /// The guard rails let it be bound as one of this class.
    pub class: StatementClass,
    /// On record since it was bound; taken when it is executed.
    run: Mutex<Option<Running>>,
    _pin: Pin,
}

impl Portal {
    pub fn new(
        statement: Arc<Prepared>,
        parameters: Option<Arc<str>>,
        class: StatementClass,
        run: Running,
        held: &Budget,
    ) -> Self {
        let pin = held.pin(parameters.as_ref().map_or(0, |values| values.len()) + ENTRY_BYTES);
        Self { statement, parameters, class, run: Mutex::new(Some(run)), _pin: pin }
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

/// A name as the server knows it: folded to lower case, unless quoted. None where that depends on the server.
pub fn folded(token: &Token<'_>) -> Option<String> {
    let name = match token.kind {
        TokenKind::Quoted => {
            let inside = token.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))?;
            inside.replace("\"\"", "\"")
        }
        TokenKind::Word => token.text.to_ascii_lowercase(),
        _ => return None,
    };
    (name.len() <= MAX_NAME_BYTES && name.is_ascii()).then_some(name)
}

/// What a text does to the names of prepared statements.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum ByName {
    #[default]
    Nothing,
    /// `PREPARE name …`, and nothing else.
    Prepares(String),
    /// More than can be said.
    Anything,
}

fn says(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

/// The first words of its statements.
fn verbs<'a>(text: &'a str, backslashes: bool) -> impl Iterator<Item = Token<'a>> {
    let mut begins = true;
    tokens(text, backslashes).filter(move |token| {
        let is_end = token.is_mark(";");
        std::mem::replace(&mut begins, is_end) && !is_end
    })
}

/// Whether it makes or closes cursors, as far as that stands in it.
pub fn moves_cursors(text: &str, backslashes: bool) -> bool {
    let words = ["declare", "close"];
    words.iter().any(|word| says(text, word))
        && (text.len() > MAX_READ_BYTES
            || verbs(text, backslashes).any(|verb| words.iter().any(|word| verb.is(word))))
}

/// Reads it off a text. `is_code`: what it does does not stand in it as statements.
pub fn by_name(text: &str, backslashes: bool, is_code: bool) -> ByName {
    const WORDS: [&str; 2] = ["prepare", "deallocate"];
    if !WORDS.iter().any(|word| says(text, word)) {
        return ByName::Nothing;
    }
    if is_code || text.len() > MAX_READ_BYTES {
        return ByName::Anything;
    }
    let statements = verbs(text, backslashes).take(2).count();
    if !verbs(text, backslashes).any(|verb| WORDS.iter().any(|word| verb.is(word))) {
        return ByName::Nothing;
    }
    if statements > 1 {
        return ByName::Anything;
    }
    let mut tokens = tokens(text, backslashes);
    match (tokens.next(), tokens.next()) {
        (Some(verb), Some(name)) if verb.is("prepare") && !name.is("transaction") => {
            folded(&name).map_or(ByName::Anything, ByName::Prepares)
        }
        // What a DEALLOCATE alone names is not found any more, whatever is remembered.
        _ => ByName::Nothing,
    }
}
