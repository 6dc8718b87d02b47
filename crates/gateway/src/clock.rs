//! The two clocks of a gateway: wall time, which somebody can set, and boot time, which only runs.

use std::sync::OnceLock;

use halligan_core::time::Time;

/// Where a gateway reads time. A parameter, so that tests can make it jump.
pub trait Clock: Send + Sync + 'static {
    /// Wall time. It may jump.
    fn wall(&self) -> Time;
    /// Microseconds since the machine started, through suspend as well. It never jumps.
    fn boot(&self) -> u64;
    /// Names this run of the machine: boot times of two runs cannot be compared.
    fn boot_id(&self) -> &str;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Time {
        Time::from_micros(micros(rustix::time::ClockId::Realtime))
    }
    fn boot(&self) -> u64 {
        micros(rustix::time::ClockId::Boottime).unsigned_abs()
    }
    fn boot_id(&self) -> &str {
        static ID: OnceLock<String> = OnceLock::new();
        // Without it every restart counts as a reboot, which only ever shortens a lease.
        ID.get_or_init(|| {
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|text| text.trim().to_owned())
                .unwrap_or_default()
        })
    }
}

fn micros(clock: rustix::time::ClockId) -> i64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000)
}
