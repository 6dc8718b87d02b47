//! Answers to a client's requests on one channel, in the order of the requests.
//!
//! The SSH library keeps one "wants a reply" mark per channel, which the next request overwrites: a reply must be given
//! before the next request is read. So the reader waits for the answer, but only for a moment: the target's slowness
//! must not stop the person's other channels. An answer that comes later is sent by whoever has it. (A client that has
//! not been answered does not send another request that wants a reply, so nothing is lost.)

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::flow::Backlog;

/// How long the reader waits for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// One channel as the client's reader knows it.
#[derive(Debug)]
pub(crate) struct ClientChannel {
    pub(crate) backlog: Arc<Backlog>,
    answers: Mutex<Answers>,
    given: Notify,
}

#[derive(Debug, Default)]
struct Answers {
    ready: VecDeque<bool>,
    // Requests whose reader did not wait any longer.
    late: usize,
    closed: bool,
}

impl ClientChannel {
    pub(crate) fn new(backlog: Arc<Backlog>) -> Self {
        Self { backlog, answers: Mutex::default(), given: Notify::new() }
    }

    /// For the reader: the answer to the request it has just passed on, or `None` if it will be sent later.
    pub(crate) async fn answer(&self) -> Option<bool> {
        let wait = async {
            loop {
                let given = self.given.notified();
                {
                    let mut answers = self.lock();
                    if let Some(answer) = answers.ready.pop_front() {
                        return answer;
                    }
                    if answers.closed {
                        return false;
                    }
                }
                given.await;
            }
        };
        if let Ok(answer) = tokio::time::timeout(PATIENCE, wait).await {
            return Some(answer);
        }
        let mut answers = self.lock();
        let answer = answers.ready.pop_front();
        if answer.is_none() {
            answers.late += 1;
        }
        answer
    }

    /// For the relay: gives the next answer. Returns true if the reader no longer waits for it, so that the caller must
    /// send the reply itself.
    #[must_use]
    pub(crate) fn give(&self, answer: bool) -> bool {
        let mut answers = self.lock();
        if answers.late > 0 {
            answers.late -= 1;
            return true;
        }
        answers.ready.push_back(answer);
        drop(answers);
        self.given.notify_waiters();
        false
    }

    /// Nobody will answer any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.given.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_come_in_order_and_a_late_one_is_left_to_the_relay() {
        let channel = ClientChannel::new(Arc::default());
        assert!(!channel.give(true) && !channel.give(false));
        assert_eq!(channel.answer().await, Some(true));
        assert_eq!(channel.answer().await, Some(false));
        assert_eq!(channel.answer().await, None, "the reader does not wait for ever");
        assert!(channel.give(true), "and the relay is told to send the reply itself");
        let (asked, given) = tokio::join!(channel.answer(), async { channel.give(true) });
        assert_eq!((asked, given), (Some(true), false));
        channel.close();
        assert_eq!(channel.answer().await, Some(false));
    }
}
