//! Medians, percentiles, rounds.

use std::time::Duration;

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// One more.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each over the one of the other that was measured in the same round: what slows a machine for a while slows both.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// The middle one; 0 of nothing.
    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// Nearest rank: the smallest that `percent` of all do not exceed; 0 of nothing.
    pub fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }

    /// The lowest and the highest.
    pub fn range(&self) -> (f64, f64) {
        let lowest = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (lowest, highest)
    }
}

/// Milliseconds.
pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

/// Processor time of this thread: what one core does, whoever else wants it.
fn thread_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Processor time of this process, all its threads.
pub fn process_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Calls `what` for about `time` and says how often it ran in a second of processor time.
pub fn rate(time: Duration, mut what: impl FnMut()) -> f64 {
    let began = thread_time();
    let mut count = 0_u64;
    loop {
        for _ in 0..16 {
            what();
        }
        count += 16;
        let spent = thread_time().saturating_sub(began);
        if spent >= time {
            return count as f64 / spent.as_secs_f64();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let mut sample = Sample::default();
        for value in (1..=100).rev() {
            sample.push(f64::from(value));
        }
        assert_eq!((sample.median(), sample.percentile(99.0), sample.range()), (50.0, 99.0, (1.0, 100.0)));
        assert_eq!(Sample::default().median(), 0.0);
        // A round in which all was slow says the same of the two.
        let (one, other) = (Sample(vec![2.0, 20.0, 21.0]), Sample(vec![1.0, 10.0, 11.0]));
        assert_eq!(one.over(&other).median(), 2.0);
    }
}
