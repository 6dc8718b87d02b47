//! Statements that wait for a second person. The question is a synced leaf before anybody is asked, the answer a synced leaf
//! before it has any effect; time, a session's end and a client that does not wait all mean no.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halligan_core::node_event::{HELD_STATEMENT_MOST_BYTES, held_statement_digest};
use halligan_core::time::Span;
use halligan_session::node_event::NodeEvent;
use halligan_session::{Answer, EndReason, Ended, Question};
use tokio::sync::oneshot;

use crate::live::{Live, with_sources};

/// However long an entitlement says, nothing waits longer.
const LONGEST_WAIT: Span = Span::hours(1);

/// What a second person said.
#[derive(Debug)]
pub struct Release {
    /// It may pass.
    pub allow: bool,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// The statements of one session that wait. Whoever takes one out settles it, so each is settled once.
#[derive(Debug, Default)]
pub struct Holds {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u32,
    waiting: BTreeMap<u32, Option<oneshot::Sender<Release>>>,
    over: bool,
}

impl Holds {
    fn begin(&self) -> Option<(u32, oneshot::Receiver<Release>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.over {
            return None;
        }
        let (tell, told) = oneshot::channel();
        state.last += 1;
        let hold = state.last;
        state.waiting.insert(hold, Some(tell));
        Some((hold, told))
    }

    /// True for the one who settles it.
    fn settle(&self, hold: u32) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&hold).is_some()
    }

    /// A second person answered. False if nothing waits for that any more.
    pub fn release(&self, hold: u32, release: Release) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = state.waiting.get_mut(&hold).and_then(Option::take);
        tell.is_some_and(|tell| tell.send(release).is_ok())
    }

    /// Whether anything waits.
    pub fn any(&self) -> bool {
        !self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.is_empty()
    }

    /// The session is over: gives what still waits, to be settled by the caller; nothing new begins.
    pub fn over(&self) -> Vec<u32> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.over = true;
        std::mem::take(&mut state.waiting).into_keys().collect()
    }
}

/// The leaf of a hold that nobody allowed.
pub fn not_allowed(live: &Live, hold: u32, reason: &str) -> NodeEvent {
    NodeEvent::StatementSettled {
        session: live.id(),
        hold,
        allowed: false,
        by: String::new(),
        reason: reason.to_owned(),
    }
}

/// Settles a hold whose client stopped waiting.
struct Waits {
    live: Arc<Live>,
    hold: u32,
}

impl Drop for Waits {
    fn drop(&mut self) {
        // A session that is over settles what waits in it itself, before its own end.
        if self.live.is_dead() || !self.live.holds.settle(self.hold) {
            return;
        }
        let engine = Arc::clone(self.live.engine());
        let event = not_allowed(&self.live, self.hold, "the client did not wait for it");
        // Handed over here and now, so that it stands before the session's end, whatever comes next.
        match engine.journal.submit(event, true) {
            Ok(submitted) => {
                let synced = Arc::clone(&engine);
                engine.runtime.spawn(async move {
                    if let Err(error) = synced.journal.synced(submitted).await {
                        tracing::error!("failed to record the end of a hold: {}", with_sources(&error));
                    }
                });
            }
            Err(error) => tracing::error!("failed to record the end of a hold: {}", with_sources(&error)),
        }
    }
}

/// See [`halligan_session::Session::ask`].
pub async fn ask(live: &Arc<Live>, question: Question) -> Result<Answer, Ended> {
    live.check()?;
    if let Some(say) = cannot_be_shown(&question) {
        return Ok(Answer::Deny { say });
    }
    let engine = live.engine();
    let limit = question.limit.min(LONGEST_WAIT);
    let Some((hold, told)) = live.holds.begin() else { return Err(live.ended()) };
    let _waits = Waits { live: Arc::clone(live), hold };
    let until = engine.journal.now().plus(limit);
    let last_boot = engine.clock.boot().saturating_add(limit.as_micros().unsigned_abs());
    let Question { class, text, parameters, .. } = question;
    let sha256 = held_statement_digest(class, &text, parameters.as_deref());
    write(
        live,
        NodeEvent::StatementHeld { session: live.id(), hold, class, sha256, text, parameters, until },
    )
    .await?;
    let release = tokio::select! {
        // An answer that is there counts before an end of time, and an end of the session before both.
        biased;
        () = live.over() => return Err(live.ended()),
        release = told => release.ok().filter(|_| engine.clock.boot() < last_boot),
        () = tokio::time::sleep(Duration::from_micros(limit.as_micros().unsigned_abs())) => None,
    };
    if !live.holds.settle(hold) {
        return Err(live.ended());
    }
    let (event, answer) = match release {
        Some(Release { allow, by, reason }) => {
            let event = NodeEvent::StatementSettled {
                session: live.id(),
                hold,
                allowed: allow,
                by: by.clone(),
                reason: reason.clone(),
            };
            let answer = match allow {
                true => Answer::Allow { by },
                false if reason.is_empty() => Answer::Deny { say: format!("{by} did not allow it.") },
                false => Answer::Deny { say: format!("{by} did not allow it: {reason}") },
            };
            (event, answer)
        }
        None => {
            let say = format!("Nobody allowed it within {limit}.");
            (not_allowed(live, hold, "nobody answered in time"), Answer::Deny { say })
        }
    };
    write(live, event).await?;
    Ok(answer)
}

async fn write(live: &Live, event: NodeEvent) -> Result<(), Ended> {
    if let Err(error) = live.engine().journal.append(event).await {
        live.cut(EndReason::RecordingLost { why: with_sources(&error) });
        return Err(live.ended());
    }
    live.moved();
    live.check()
}

/// Nobody allows what they cannot be shown whole, as it is.
fn cannot_be_shown(question: &Question) -> Option<String> {
    let parameters = question.parameters.as_deref().unwrap_or_default();
    if question.text.len() + parameters.len() > HELD_STATEMENT_MOST_BYTES {
        return Some(format!(
            "It would have to wait for a second person, and it is too long to be put before one ({HELD_STATEMENT_MOST_BYTES} bytes at most)."
        ));
    }
    let hidden = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    question.text.chars().chain(parameters.chars()).any(hidden).then(|| {
        "It would have to wait for a second person, and it has characters in it that do not show.".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use halligan_core::catalog::StatementClass;

    use super::*;

    fn question(text: &str) -> Question {
        Question {
            class: StatementClass::Schema,
            text: text.to_owned(),
            parameters: None,
            limit: Span::minutes(1),
        }
    }

    #[test]
    fn what_does_not_show_whole_is_not_held() {
        assert!(cannot_be_shown(&question("drop table a;\n\t-- ja: ä")).is_none());
        for bad in ["drop \u{202e}elbat", "drop\u{200b}", "a\x1b[2J", "a\0b", &"x".repeat(9000)] {
            assert!(cannot_be_shown(&question(bad)).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn each_is_settled_once_and_none_begins_after_the_end() {
        let holds = Holds::default();
        let (one, mut told) = holds.begin().unwrap();
        let (two, _told) = holds.begin().unwrap();
        assert_eq!((one, two), (1, 2));
        let yes = || Release { allow: true, by: "bo".to_owned(), reason: String::new() };
        assert!(holds.release(one, yes()) && !holds.release(one, yes()) && !holds.release(7, yes()));
        assert!(told.try_recv().unwrap().allow);
        assert!(holds.settle(one) && !holds.settle(one));
        assert_eq!(holds.over(), [2]);
        assert!(holds.begin().is_none() && !holds.any() && !holds.settle(two));
    }
}
