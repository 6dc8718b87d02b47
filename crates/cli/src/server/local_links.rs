//! Links between roles of one process: the same frames as over TLS, made anew should one ever end.

use std::time::Duration;

use halligan_link::Peer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Pause before a link is made anew.
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps a link up until dropped. `make` makes both ends and hands them out; tasks that belong to this one link are ended
/// with it.
pub fn keep(
    stop: CancellationToken,
    mut make: impl FnMut() -> (Peer, Peer, Vec<AbortOnDropHandle<()>>) + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let (a, b, _tasks) = make();
            let why = tokio::select! {
                why = a.closed() => why,
                why = b.closed() => why,
                () = stop.cancelled() => {
                    a.close("the process is stopping");
                    b.close("the process is stopping");
                    return;
                }
            };
            a.close("the other end is gone");
            b.close("the other end is gone");
            tracing::warn!(why, "a link inside the process ended; it is made anew");
            tokio::time::sleep(PAUSE).await;
        }
    }))
}
