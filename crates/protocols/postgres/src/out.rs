//! What goes on to one side: nothing leaves before its records are where they have to be.

use bytes::BytesMut;
use halligan_session::{Ended, Session, Written};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::gait::Gait;

/// Bytes on their way, and what was written for them.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) bytes: BytesMut,
    written: Written,
}

impl Out {
    /// Something more was written, for bytes that are in here or come next.
    pub(crate) fn written(&mut self, written: Written) {
        self.written = self.written.and(written);
    }

    /// Waits for the sync that is owed, if one is, and looks whether the session still lives. Other conversations of this
    /// thread go on meanwhile.
    pub(crate) async fn pay(&mut self, session: &Session) -> Result<Paid<'_>, Ended> {
        session.on_disk(self.written).await?;
        self.written = Written::default();
        Ok(Paid(&mut self.bytes))
    }
}

/// What may go on.
#[derive(Debug)]
pub(crate) struct Paid<'a>(&'a mut BytesMut);

impl Paid<'_> {
    /// Sends everything on. Memory is kept only while much moves.
    pub(crate) async fn send(self, to: &mut (impl AsyncWrite + Unpin), gait: &Gait) -> std::io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut sent = to.write_all(self.0).await;
        if sent.is_ok() {
            sent = to.flush().await;
        }
        gait.done_with(self.0);
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use halligan_session::EndReason;
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;
    use crate::double::Double;

    async fn once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }

    #[tokio::test]
    async fn what_owes_a_sync_goes_on_after_it_and_not_at_all_without() {
        let (double, session) = Double::session();
        let (mut to, mut far) = duplex(100);
        let gait = Gait::default();
        let mut seen = BytesMut::new();

        // What owes nothing does not wait.
        let mut out = Out::default();
        out.bytes.extend_from_slice(b"read");
        out.pay(&session).await.unwrap().send(&mut to, &gait).await.unwrap();
        far.read_buf(&mut seen).await.unwrap();

        out.bytes.extend_from_slice(b" write");
        out.written(Written::new(true));
        // A debt is not forgotten for what comes after it.
        out.written(Written::default());
        {
            let mut paying = pin!(out.pay(&session));
            assert!(once(paying.as_mut()).await.is_pending());
            double.disk.send_replace(Some(Ok(())));
            paying.await.unwrap().send(&mut to, &gait).await.unwrap();
        }
        far.read_buf(&mut seen).await.unwrap();
        assert_eq!(&seen[..], b"read write");

        // Paid: what comes next owes nothing, whatever the disk says by then.
        let ended = Ended { reason: EndReason::RecordingLost { why: "the disk".to_owned() } };
        double.disk.send_replace(Some(Err(ended.clone())));
        out.bytes.extend_from_slice(b" on");
        out.pay(&session).await.unwrap().send(&mut to, &gait).await.unwrap();
        out.bytes.extend_from_slice(b" never");
        out.written(Written::new(true));
        assert_eq!(out.pay(&session).await.unwrap_err(), ended);

        // What was never recorded is looked at too.
        let mut out = Out::default();
        out.bytes.extend_from_slice(b" copied");
        assert!(out.pay(&session).await.is_ok());
        *double.over.lock().unwrap() = Some(ended.clone());
        assert_eq!(out.pay(&session).await.unwrap_err(), ended);
        drop(to);
        let mut rest = String::new();
        far.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, " on");
    }
}
