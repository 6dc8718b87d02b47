//! What is refused, and how that is said and written down: each refusal of somebody who is known is a milestone.

use std::sync::Arc;

use halligan_recording::RecordKind;
use halligan_session::NodeEvent;
use halligan_session::end_reason::printable;
use russh::ChannelOpenFailure;

use crate::connection::Connection;

/// After this many refusals on one connection it is ended: each one is a synced leaf.
pub(crate) const MOST_REFUSALS: usize = 32;

/// Reason code 1 of RFC 4254, section 5.1, with our own words.
pub(crate) fn prohibited(reason: &str) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: 1, reason: reason.to_owned() }
}

/// Writes down that `what` was refused. Opens the session if there is none yet: an attempt belongs to a session of its
/// person, or, if they may have none, to the refusal that the control plane writes.
pub(crate) async fn write_down(connection: &Arc<Connection>, what: &str, reason: &str) {
    let what = printable(what, 300);
    tracing::info!(client = %connection.from.client, what, reason, "refused");
    let Ok(session) = connection.session().await else { return };
    let person = connection.login().map(|login| login.person.id.clone());
    let event = NodeEvent::Refused {
        person,
        what: what.clone(),
        client: connection.from.client.to_string(),
        reason: reason.to_owned(),
    };
    // A session that has ended takes neither; then everything is refused anyway.
    let _ended = session.record_now(RecordKind::Note { text: format!("refused: {what} ({reason})") });
    let _ended = session.milestone(event).await;
}
