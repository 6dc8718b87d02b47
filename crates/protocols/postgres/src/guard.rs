//! Guard rails: statements that do not pass, or not before a second person has said so. A belt: the lock is the role.
//!
//! A statement that does not pass is replaced on its way by one that the server cannot read. So the server itself
//! answers with an error where the answer belongs, fails an open transaction and skips what was sent behind it, as with
//! any other statement that fails; the error's words become ours on the way back ([`Refused::answer`]).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use halligan_core::catalog::{LONGEST_HOLD_IN_TRANSACTION, PostgresCapabilities, StatementRule};
use halligan_core::time::Span;
use halligan_session::{Answer, Question};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::audit::Runs;
use crate::codec::{FromClientMessage, ServerMessage, Severity, TransactionStatus, Writer};
use crate::relay::{Conversation, Stop};

/// Of insufficient privilege.
pub(crate) const DENIED: &str = "42501";
const CANCELED: &str = "57014";
const SYNTAX_ERROR: &str = "42601";
/// What a client may send behind a statement that waits, before it is no longer read.
const BEHIND: usize = 64 * 1024;
/// How often a client is told that it still waits.
const REMIND: Duration = Duration::from_secs(60);

/// What becomes of a statement.
#[derive(Debug)]
pub(crate) enum Verdict {
    Pass,
    Refuse(Reason),
    Ask,
}

/// Why one does not pass.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) code: &'static str,
    pub(crate) say: String,
}

impl Reason {
    fn denied(say: impl Into<String>) -> Self {
        Self { code: DENIED, say: say.into() }
    }
}

/// The rule for a statement.
pub(crate) fn judge(may: &PostgresCapabilities, message: &FromClientMessage, runs: &Runs) -> Verdict {
    let class = runs.class();
    if matches!(message, FromClientMessage::FunctionCall { .. }) {
        return match may.function_calls {
            true => Verdict::Pass,
            false => Verdict::Refuse(Reason::denied(
                "Halligan: function calls that name no statement are not allowed by this entitlement.",
            )),
        };
    }
    match may.statements.of(class) {
        StatementRule::Allow => Verdict::Pass,
        StatementRule::Hold => Verdict::Ask,
        StatementRule::Deny => Verdict::Refuse(Reason::denied(format!(
            "Halligan: this entitlement allows no statements of the class \"{class}\"."
        ))),
    }
}

/// A statement's values, for a second person.
#[derive(Debug)]
pub(crate) enum Values {
    None,
    All(String),
    /// One is a secret, or too long.
    NotShown,
}

fn cannot_be_judged(class: impl std::fmt::Display) -> Reason {
    Reason::denied(format!(
        "Halligan: statements of the class \"{class}\" wait for a second person, and a part of this one is a secret, too \
         long to be shown or not in UTF-8, so nobody can judge it. Send it without."
    ))
}

/// The server would skip it whatever anybody said.
pub(crate) fn skipped() -> Reason {
    Reason::denied("Halligan: nobody was asked about this statement, since what was sent with it has failed.")
}

/// Whoever sent it does not want it any more.
pub(crate) fn withdrawn() -> Reason {
    let say = "Halligan: the statement was withdrawn while it waited for a second person.";
    Reason { code: CANCELED, say: say.to_owned() }
}

/// Statements that were replaced and whose error has not come back.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Nobody can guess it: nothing but our replacements fails with it.
    mark: String,
    count: u64,
    waiting: VecDeque<(u64, Reason)>,
    probe: Option<u64>,
}

impl Refused {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let mark = format!("halligan_refused_{}_", hex::encode(random));
        Ok(Self { mark, count: 0, waiting: VecDeque::new(), probe: None })
    }

    /// Appends what goes to the server in place of `message`.
    pub(crate) fn replace(&mut self, message: &FromClientMessage, reason: Reason, out: &mut BytesMut) {
        self.count += 1;
        let sql = format!("{}{}", self.mark, self.count);
        self.waiting.push_back((self.count, reason));
        match message {
            FromClientMessage::Bind(_) | FromClientMessage::Execute { .. } => parse(out, &self.mark, &sql),
            _ => {
                Writer(out).query(&sql);
            }
        }
    }

    /// The server has answered everything: those whose error has not come were skipped.
    pub(crate) fn all_answered(&mut self) {
        self.waiting.clear();
    }

    /// Appends a question that nothing but an error of its own answers.
    pub(crate) fn probe(&mut self, out: &mut BytesMut) {
        self.count += 1;
        let sql = format!("{}{}", self.mark, self.count);
        self.probe = Some(self.count);
        Writer(out).query(&sql);
    }

    /// Whether this error answers the question.
    pub(crate) fn is_probed(&mut self, error: &ServerMessage) -> bool {
        let answers = self.probe.is_some() && self.number(error) == self.probe;
        if answers {
            self.probe = None;
        }
        answers
    }

    fn number(&self, error: &ServerMessage) -> Option<u64> {
        let (_, behind) = error.message.split_once(&self.mark)?;
        behind.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
    }

    /// What a client is told in place of this error, if it is that of a replacement.
    pub(crate) fn answer(&mut self, error: &ServerMessage) -> Option<Reason> {
        if self.waiting.is_empty() || error.code != SYNTAX_ERROR {
            return None;
        }
        let number = self.number(error)?;
        // Those before it were skipped.
        while let Some((waiting, reason)) = self.waiting.pop_front() {
            if waiting == number {
                return Some(reason);
            }
        }
        None
    }
}

/// A Parse message for a name that is never used.
fn parse(out: &mut BytesMut, name: &str, sql: &str) {
    out.put_u8(b'P');
    out.put_u32((4 + name.len() + 1 + sql.len() + 1 + 2) as u32);
    for text in [name, sql] {
        out.put_slice(text.as_bytes());
        out.put_u8(0);
    }
    out.put_u16(0);
}

/// A Flush message: the server answers what it has, without a Sync.
pub(crate) fn flush(out: &mut BytesMut) {
    out.put_slice(&[b'H', 0, 0, 0, 4]);
}

impl Conversation {
    /// Waits for a second person. Everything sent before has been answered. `behind` takes what the client sends
    /// meanwhile, which nobody reads yet.
    pub(crate) async fn second_person(
        &self,
        runs: &Runs,
        values: Values,
        in_transaction: bool,
        behind: &mut BytesMut,
        client: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Reason>, Stop> {
        let class = runs.class();
        let limit = match (in_transaction, self.may.hold_in_transaction) {
            (false, _) => self.may.hold_limit,
            (true, Some(limit)) => limit.min(LONGEST_HOLD_IN_TRANSACTION),
            (true, None) => {
                return Ok(Some(Reason::denied(format!(
                    "Halligan: statements of the class \"{class}\" wait for a second person, which is not done inside \
                     an open transaction, since it keeps its locks. Run it outside of one."
                ))));
            }
        };
        let parameters = match values {
            Values::None => None,
            Values::All(values) => Some(values),
            Values::NotShown => return Ok(Some(cannot_be_judged(class))),
        };
        if runs.statement.hides_part {
            return Ok(Some(cannot_be_judged(class)));
        }
        let question = Question { class, text: runs.text().to_string(), parameters, limit };
        self.tell(&waits(class, limit));
        let asked = self.session().ask(question);
        tokio::pin!(asked);
        let mut remind = tokio::time::interval_at(tokio::time::Instant::now() + REMIND, REMIND);
        loop {
            behind.reserve(4096);
            tokio::select! {
                answer = &mut asked => return match answer? {
                    Answer::Allow { by } => {
                        self.tell(&format!("Halligan: {by} allowed the statement."));
                        Ok(None)
                    }
                    Answer::Deny { say } => Ok(Some(Reason::denied(format!("Halligan: {say}")))),
                },
                () = self.withdrawn() => return Ok(Some(withdrawn())),
                read = client.read_buf(behind), if behind.len() < BEHIND => {
                    if !matches!(read, Ok(1..)) {
                        return Err(Stop::ClientLeft);
                    }
                }
                _ = remind.tick() => self.tell("Halligan: the statement still waits for a second person."),
            }
        }
    }

    /// Says something to the client, between two messages.
    pub(crate) fn tell(&self, text: &str) {
        let mut out = BytesMut::new();
        Writer(&mut out).notice(Severity::Notice, "00000", text);
        self.put_in(out.freeze());
    }
}

fn waits(class: impl std::fmt::Display, limit: Span) -> String {
    format!(
        "Halligan: this statement is of the class \"{class}\" and waits for a second person, {limit} at most. \
         Cancel it to withdraw it."
    )
}

/// Whether a statement would wait with locks held.
pub(crate) fn in_transaction(status: TransactionStatus, executed_in_batch: bool) -> bool {
    status != TransactionStatus::Idle || executed_in_batch
}

/// An error in our words, in place of `_raw`.
pub(crate) fn in_our_words(reason: &Reason) -> Bytes {
    let mut out = BytesMut::new();
    Writer(&mut out).error(Severity::Error, reason.code, &reason.say, None);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, message: String) -> ServerMessage {
        ServerMessage { code: code.to_owned(), message, ..ServerMessage::default() }
    }

    #[test]
    fn an_error_is_ours_only_with_the_mark_and_skipped_ones_are_forgotten() {
        let mut refused = Refused::new().unwrap();
        let query = FromClientMessage::Query { sql: Bytes::new() };
        let mut out = BytesMut::new();
        for number in 1..=3 {
            refused.replace(&query, Reason::denied(format!("no {number}")), &mut out);
        }
        let mark = refused.mark.clone();
        assert!(out.windows(mark.len()).any(|bytes| bytes == mark.as_bytes()));
        assert!(refused.answer(&error("42601", "syntax error at or near \"x\"".into())).is_none());
        assert!(refused.answer(&error("42883", format!("\"{mark}2\""))).is_none());
        assert_eq!(refused.answer(&error("42601", format!("near \"{mark}2\""))).unwrap().say, "no 2");
        assert!(refused.answer(&error("42601", format!("near \"{mark}1\""))).is_none());
    }
}
