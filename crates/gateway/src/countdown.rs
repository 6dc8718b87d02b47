//! When a lease ends, by the gateway's own clocks. Pure: readings are parameters.
//!
//! A lease is counted down on boot time from the moment it was received. Wall time is only compared with that count: if
//! it runs ahead by more than [`TOLERANCE`], control is asked; without control the earlier end wins.

use halligan_core::time::{Span, Time};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;

/// How far wall time may run ahead of the count before control is asked.
pub const TOLERANCE: Span = Span::seconds(5);

/// What a clock said.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Wall time.
    pub wall: Time,
    /// Microseconds of boot time.
    pub boot: u64,
}

impl Reading {
    /// Reads both clocks.
    pub fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.wall(), boot: clock.boot() }
    }
}

/// The count of one lease, as it is kept on disk beside the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Boot time at which it ends, microseconds.
    pub end_boot: u64,
    /// The run of the machine that this boot time belongs to.
    pub boot_id: String,
    /// Wall time at receipt: wall time is never taken to be earlier.
    pub received: Time,
}

/// How a lease stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Both clocks agree that it runs.
    Runs,
    /// Wall time is ahead of the count. Unless control says that the grant stands, it ends at this boot time.
    WallAhead { end_boot: u64 },
    /// It has ended.
    Over,
}

impl Count {
    /// Begins to count a lease that was received now.
    pub fn begin(remaining: Span, now: Reading, boot_id: &str) -> Self {
        Self {
            end_boot: now.boot.saturating_add(remaining.as_micros().unsigned_abs()),
            boot_id: boot_id.to_owned(),
            received: now.wall,
        }
    }

    /// Takes the count up again after a restart. In the same run of the machine it simply goes on. After a reboot only wall
    /// time knows how long the machine was down; it is not taken to be earlier than `not_before`, nor to leave more than the
    /// lease ever had.
    pub fn resume(
        self,
        deadline: Time,
        remaining: Span,
        now: Reading,
        boot_id: &str,
        not_before: Time,
    ) -> Self {
        if self.boot_id == boot_id && !boot_id.is_empty() {
            return self;
        }
        let wall = now.wall.max(self.received).max(not_before);
        let left = deadline.since(wall).min(remaining);
        Self {
            end_boot: now.boot.saturating_add(left.as_micros().unsigned_abs()),
            boot_id: boot_id.to_owned(),
            received: self.received,
        }
    }

    /// How it stands now.
    pub fn standing(&self, deadline: Time, now: Reading) -> Standing {
        let left_by_count = self.end_boot.saturating_sub(now.boot);
        if left_by_count == 0 {
            return Standing::Over;
        }
        let left_by_wall = deadline.since(now.wall).as_micros().unsigned_abs();
        if left_by_wall.saturating_add(TOLERANCE.as_micros().unsigned_abs()) >= left_by_count {
            Standing::Runs
        } else {
            Standing::WallAhead { end_boot: now.boot.saturating_add(left_by_wall) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn at(wall_s: i64, boot_s: u64) -> Reading {
        Reading { wall: Time::from_micros(wall_s * 1_000_000), boot: boot_s * SECOND }
    }

    #[test]
    fn the_count_runs_on_boot_time_whatever_wall_time_does() {
        let deadline = at(1_060, 0).wall;
        let count = Count::begin(Span::seconds(60), at(1_000, 10), "a");
        assert_eq!(count.standing(deadline, at(1_030, 40)), Standing::Runs);
        assert_eq!(count.standing(deadline, at(0, 69)), Standing::Runs, "wall set back does not matter");
        assert_eq!(count.standing(deadline, at(0, 70)), Standing::Over, "and does not lengthen it");
        assert_eq!(count.standing(deadline, at(1_034, 40)), Standing::Runs, "five seconds are tolerated");
        assert_eq!(
            count.standing(deadline, at(1_050, 40)),
            Standing::WallAhead { end_boot: 50 * SECOND },
            "without control the earlier end wins"
        );
        assert_eq!(
            count.standing(deadline, at(9_999, 40)),
            Standing::WallAhead { end_boot: 40 * SECOND },
            "at once, when wall time is past the deadline"
        );
    }

    #[test]
    fn a_reboot_leaves_what_wall_time_leaves_and_never_more_than_there_was() {
        let deadline = at(1_060, 0).wall;
        let count = Count::begin(Span::seconds(60), at(1_000, 10), "a");
        let zero = Time::from_micros(0);
        let resume = |now, id, floor| {
            count.clone().resume(deadline, Span::seconds(60), now, id, floor).end_boot / SECOND
        };
        assert_eq!(resume(at(1_030, 2), "b", zero), 32);
        assert_eq!(resume(at(0, 2), "b", zero), 62, "a clock set back gives at most the whole lease");
        assert_eq!(resume(at(0, 2), "b", at(1_050, 0).wall), 12, "and not less than the ledger has seen");
        assert_eq!(resume(at(1_030, 20), "a", zero), 70, "the same run goes on counting");
        assert_eq!(resume(at(1_030, 20), "", zero), 50, "a run without a name is a new one");
    }

    proptest! {
        #[test]
        fn no_clock_makes_a_lease_longer_than_it_was(
            remaining in 1i64..1_000_000, wall in -1_000_000i64..2_000_000, boot in 0u64..3_000_000,
        ) {
            let received = at(0, 0);
            let count = Count::begin(Span::seconds(remaining), received, "a");
            let deadline = Time::from_micros(remaining * 1_000_000);
            let standing = count.standing(deadline, at(wall, boot));
            if boot >= remaining.unsigned_abs() {
                prop_assert_eq!(standing, Standing::Over);
            }
            let resumed = count.resume(deadline, Span::seconds(remaining), at(wall, boot), "b", received.wall);
            prop_assert!(resumed.end_boot <= (boot + remaining.unsigned_abs()) * SECOND);
        }
    }
}
