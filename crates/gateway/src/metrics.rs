//! What a gateway counts. Plain numbers: whoever publishes them chooses the form.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        /// Counters and gauges since the start.
        #[derive(Debug, Default)]
        pub struct Metrics { $($(#[doc = $doc])* pub $name: AtomicU64,)* }
        impl Metrics {
            /// Name, meaning and value of each.
            pub fn each(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),*).trim_ascii(), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Sessions opened.
    sessions_opened;
    /// Sessions live now.
    sessions_live;
    /// Sessions refused.
    sessions_refused;
    /// Sessions that ended because they could not be recorded.
    recordings_lost;
    /// Logins accepted.
    logins;
    /// Logins refused.
    logins_refused;
    /// Records written.
    records;
    /// Syncs of recordings, on other threads than those that carry sessions.
    syncs;
    /// Leases held now.
    leases_held;
    /// Leases ended.
    leases_ended;
    /// Microseconds from a revocation's arrival until its sockets were told, the last one.
    last_revocation_micros;
    /// Leaves that control has not acknowledged.
    leaves_waiting;
    /// Recordings that control has not acknowledged.
    recordings_waiting;
    /// Recordings that control has acknowledged.
    recordings_stored;
    /// Times that wall time was found ahead of a lease's count.
    wall_ahead;
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
