//! Both pumps of a conversation, run together.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use crate::relay::{Conversation, Stop};

/// Runs both pumps until one has nothing more to do.
pub(crate) async fn run(
    conversation: &Arc<Conversation>,
    client: (&mut (impl AsyncRead + Unpin), &mut (impl AsyncWrite + Unpin)),
    server: (&mut (impl AsyncRead + Unpin), &mut (impl AsyncWrite + Unpin)),
    read: BytesMut,
) -> Stop {
    let up = conversation.upward(client.0, server.1);
    let down = conversation.downward(server.0, read, client.1);
    let beside = Arc::clone(conversation);
    // In a task of its own: it has nothing to say to most messages.
    let _beside = AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::join!(beside.recorder.report(), beside.warnings());
    }));
    let session = conversation.session().clone();
    let closed = session.closed();
    tokio::pin!(up, down, closed);
    tokio::select! {
        biased;
        reason = &mut closed => Stop::Ended(reason),
        stop = &mut down => stop,
        stop = &mut up => stop,
    }
}
