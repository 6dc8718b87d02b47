//! How a process is asked to stop, and to read its files again.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the signals ask for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Stop in order: nothing new, what runs gets its time.
    pub soon: CancellationToken,
    /// Stop at once.
    pub now: CancellationToken,
    /// Ticks when certificates are to be read again.
    pub reload: watch::Receiver<u64>,
}

/// Listens for SIGTERM and SIGINT (the second time: at once; the third time without any order) and SIGHUP.
pub fn on_signals() -> std::io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (reload_to, reload) = watch::channel(0);
    let stop = Stop { soon: CancellationToken::new(), now: CancellationToken::new(), reload };
    let (soon, now) = (stop.soon.clone(), stop.now.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hang_up.recv() => {
                    reload_to.send_modify(|count| *count += 1);
                    tracing::info!("asked to read certificates again");
                    continue;
                }
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if now.is_cancelled() {
                std::process::exit(1);
            } else if soon.is_cancelled() {
                now.cancel();
                tracing::warn!("asked again to stop: ending at once");
            } else {
                soon.cancel();
                tracing::info!("asked to stop");
            }
        }
    });
    Ok(stop)
}
