//! Cancel requests of a conversation: what they hit, and when they go.

use std::net::SocketAddr;
use std::time::Duration;

use halligan_core::ids::Name;
use halligan_recording::{Record, RecordKind};

use super::Conversation;
use crate::upstream::Cancel;

/// How long a cancel request waits for a statement that is on its way to the server.
const GETS_THERE: Duration = Duration::from_secs(10);

impl Conversation {
    pub(crate) async fn withdrawn(&self) {
        while !std::mem::take(&mut self.lock().withdrawn) {
            self.withdrawn.notified().await;
        }
    }

    /// Somebody who has this conversation's key wants its running statement stopped. Until that is with the server, nothing
    /// more goes there.
    pub(crate) async fn cancel(&self, from: SocketAddr, through: Option<&Name>) {
        let (written, number) = {
            let mut state = self.lock();
            let (held, running) = (state.held, state.audit.running());
            let what = match (held, running) {
                (_, Some(number)) => format!("cancels statement {number}"),
                (true, None) => "withdraws the statement that waits".to_owned(),
                (false, None) => "finds no statement that runs".to_owned(),
            };
            let through = through.map(|gateway| format!(", through gateway {gateway},")).unwrap_or_default();
            let text = format!("a cancel request from {from}{through} {what}");
            let note = Record::new(self.session.since_start(), RecordKind::Note { text });
            // Nothing is stopped for a session that is over, or that cannot record it.
            let Ok(written) = self.session.write(&[note]) else { return };
            if held && running.is_none() {
                state.withdrawn = true;
                self.withdrawn.notify_one();
            }
            let Some(number) = running else { return };
            (written, number)
        };
        if self.session.on_disk(written).await.is_ok()
            && let Ok(Some(_under_way)) = tokio::time::timeout(GETS_THERE, self.there(number)).await
        {
            self.cancel.clone().send().await;
        }
    }

    /// Waits until a statement has left for the server, where the request would find nothing before. None once it has ended.
    async fn there(&self, number: u64) -> Option<UnderWay<'_>> {
        loop {
            let left = self.left.notified();
            {
                let mut state = self.lock();
                if state.audit.running() != Some(number) {
                    return None;
                }
                if state.sent >= number {
                    state.cancelling += 1;
                    return Some(UnderWay(self));
                }
            }
            left.await;
        }
    }

    /// Stops what runs at the target; for the end of a session.
    pub(crate) fn cancel_running(&self) -> Option<Cancel> {
        self.lock().audit.running().map(|_| self.cancel.clone())
    }
}

/// A cancel request on its way to the server. However that ends, the conversation goes on afterwards.
struct UnderWay<'a>(&'a Conversation);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().cancelling -= 1;
        self.0.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;
    use halligan_core::catalog::{PostgresCapabilities, StatementRule};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::audit::{AuditConfig, Kept};
    use crate::codec::{FromServerMessage, ServerMessage, Writer};
    use crate::double::Double;

    /// A conversation with its two far ends, and who carries what the client says.
    struct Talk {
        conversation: Arc<Conversation>,
        double: Arc<Double>,
        client: DuplexStream,
        server: DuplexStream,
        _up: JoinHandle<()>,
    }

    impl Talk {
        fn new() -> Self {
            Self::with(|_| {})
        }

        fn with(change: impl FnOnce(&mut PostgresCapabilities)) -> Self {
            let (double, session) = Double::session();
            let config = AuditConfig {
                channel: 0,
                role: String::new(),
                database: String::new(),
                parameters: false,
                kept: Kept::None,
                keep_bytes: 0,
            };
            let mut made = Conversation::new(session, config, Cancel::nowhere(), 1000, &[]).unwrap();
            change(&mut made.may);
            let conversation = Arc::new(made);
            let ((client, mut from), (mut to, server)) = (duplex(1000), duplex(1000));
            let up = Arc::clone(&conversation);
            let up = tokio::spawn(async move {
                up.upward(&mut from, &mut to).await;
            });
            Self { conversation, double, client, server, _up: up }
        }

        async fn say(&mut self, sql: &str) {
            let mut out = BytesMut::new();
            Writer(&mut out).query(sql);
            self.send(&out).await;
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.client.write_all(bytes).await.unwrap();
            others().await;
        }

        /// The server says something.
        fn answer(&self, message: &FromServerMessage) {
            self.conversation.lock().audit.server(message, 0);
            self.conversation.moved.notify_one();
        }

        fn cancel(&self) -> JoinHandle<()> {
            let conversation = Arc::clone(&self.conversation);
            tokio::spawn(async move {
                conversation.cancel("127.0.0.1:5000".parse().unwrap(), None).await;
            })
        }

        /// What has come to the server by now.
        async fn came(&mut self) -> String {
            others().await;
            let mut came = BytesMut::new();
            tokio::select! {
                biased;
                read = self.server.read_buf(&mut came) => drop(read.unwrap()),
                () = std::future::ready(()) => {}
            }
            String::from_utf8_lossy(&came).into_owned()
        }
    }

    /// All other tasks get their turns; nothing here waits for anything else.
    async fn others() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_cancel_request_waits_for_a_statement_that_waits_for_its_sync() {
        let mut talk = Talk::new();
        talk.say("UPDATE t SET n = 1").await;
        assert_eq!(talk.came().await, "", "its record is not on the disk");
        let cancel = talk.cancel();
        others().await;
        assert!(!cancel.is_finished(), "the server would find nothing to stop");
        talk.double.disk.send_replace(Some(Ok(())));
        assert!(talk.came().await.contains("UPDATE t"));
        cancel.await.unwrap();
        assert_eq!(talk.conversation.lock().cancelling, 0);
        // One that never goes is not waited for.
        let mut talk = Talk::new();
        talk.say("UPDATE t SET n = 2").await;
        let cancel = talk.cancel();
        others().await;
        talk.conversation.finish("over").await;
        cancel.await.unwrap();
    }

    #[tokio::test]
    async fn a_statement_that_is_withdrawn_before_anybody_is_asked_does_not_pass() {
        let error = ServerMessage { severity: "ERROR".to_owned(), ..ServerMessage::default() };
        // What was sent before it is done; or it fails, and then this one is judged anew, as one that nobody has seen.
        for answer in [FromServerMessage::ParseComplete, FromServerMessage::Error(error)] {
            let mut talk = Talk::with(|may| {
                may.statements.write = StatementRule::Hold;
                may.statements.unknown = StatementRule::Allow;
            });
            talk.double.disk.send_replace(Some(Ok(())));
            talk.send(b"P\0\0\0\x16a\0DELETE FROM t\0\0\0B\0\0\0\x0d\0a\0\0\0\0\0\0\0").await;
            let came = talk.came().await;
            assert!(came.contains("DELETE FROM t") && !came.contains('B'), "{came:?}");
            talk.cancel().await.unwrap();
            assert_eq!(talk.came().await, "");
            talk.answer(&answer);
            let came = talk.came().await;
            assert!(came.contains("halligan_refused_") && !came.contains('B'), "{came:?}");
        }
    }

    #[tokio::test]
    async fn nothing_goes_to_the_server_while_a_cancel_request_does() {
        let mut talk = Talk::new();
        talk.say("SELECT 1").await;
        assert!(talk.came().await.contains("SELECT 1"));
        let conversation = Arc::clone(&talk.conversation);
        let under_way = conversation.there(1).await.unwrap();
        talk.say("SELECT 2").await;
        assert_eq!(talk.came().await, "");
        drop(under_way);
        assert!(talk.came().await.contains("SELECT 2"));

        // Nor what was taken before and waits for its sync; and that not at all where the session is over by then.
        for (over, expected) in [(false, true), (true, false)] {
            let mut talk = Talk::new();
            talk.say("SELECT 1").await;
            talk.came().await;
            talk.say("UPDATE t SET n = 1").await;
            let conversation = Arc::clone(&talk.conversation);
            let under_way = conversation.there(1).await.unwrap();
            talk.double.disk.send_replace(Some(Ok(())));
            assert_eq!(talk.came().await, "");
            if over {
                let reason = halligan_session::EndReason::Expired;
                *talk.double.over.lock().unwrap() = Some(halligan_session::Ended { reason });
            }
            drop(under_way);
            assert_eq!(talk.came().await.contains("UPDATE t"), expected);
        }
    }
}
