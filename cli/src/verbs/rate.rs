//! How fast a transfer is, and when it will be over. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use base::clock::Moment;

/// What the rate is an average of: long enough to be readable, short enough to follow a change.
const WINDOW: Duration = Duration::from_secs(10);
/// Longest time to the end that is told: beyond it is a guess.
const MAX_ETA: Duration = Duration::from_secs(99 * 3600);

/// The rate over the last seconds, from samples of how much was done.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    samples: VecDeque<(Moment, u64)>,
}

impl Rate {
    /// Nothing was done before `begun`.
    pub(crate) fn new(begun: Moment) -> Self {
        Self { samples: VecDeque::from([(begun, 0)]) }
    }

    /// So many bytes were done until now.
    pub(crate) fn sample(&mut self, now: Moment, bytes: u64) {
        self.samples.push_back((now, bytes));
        // The oldest one within the window and the one before it: together they span the window.
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second.
    pub(crate) fn bytes_per_second(&self) -> u64 {
        let (Some((first, had)), Some((last, have))) = (self.samples.front(), self.samples.back()) else { return 0 };
        let millis = u64::try_from(last.since(*first).as_millis()).unwrap_or(u64::MAX);
        let moved = u128::from(have.saturating_sub(*had)) * 1000;
        moved.checked_div(u128::from(millis)).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
    }

    /// When the rest will be done at this rate; `None` if that is not to be said.
    pub(crate) fn eta(&self, left_bytes: u64) -> Option<Duration> {
        let rate = self.bytes_per_second();
        let seconds = left_bytes.checked_add(rate.saturating_sub(1))?.checked_div(rate)?;
        Some(Duration::from_secs(seconds)).filter(|eta| *eta <= MAX_ETA)
    }
}

/// `7s`, `1m07s`, `2h05m`.
pub(crate) fn eta_text(eta: Duration) -> String {
    let seconds = eta.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::new(at(0));
        assert_eq!((rate.bytes_per_second(), rate.eta(5)), (0, None), "nothing is known");
        rate.sample(at(500), 1000);
        assert_eq!(rate.bytes_per_second(), 2000);
        // Fast for a minute, then nothing comes: after a window that is what is told.
        for second in 1..=60 {
            rate.sample(at(second * 1000), 1000 + second * 5000);
        }
        assert_eq!(rate.bytes_per_second(), 5000);
        for second in 61..=65 {
            rate.sample(at(second * 1000), 301_000);
        }
        assert_eq!(rate.bytes_per_second(), 2500);
        for second in 66..=71 {
            rate.sample(at(second * 1000), 301_000);
        }
        assert_eq!((rate.bytes_per_second(), rate.eta(1)), (0, None));
        assert!(rate.samples.len() < 14, "no more than the window is kept: {}", rate.samples.len());
    }

    #[test]
    fn the_end_is_rounded_up_and_a_guess_is_not_told() {
        let mut rate = Rate::new(at(0));
        rate.sample(at(1000), 1000);
        let eta = |left| rate.eta(left).map(|eta| eta.as_secs());
        assert_eq!([eta(0), eta(1), eta(1000), eta(1001)], [Some(0), Some(1), Some(1), Some(2)]);
        assert_eq!([eta(u64::MAX), eta(1000 * 99 * 3600 + 1)], [None, None]);
    }

    #[test]
    fn times_for_people() {
        let text = |seconds| eta_text(Duration::from_secs(seconds));
        assert_eq!([text(0), text(59), text(67), text(3599)], ["0s", "59s", "1m07s", "59m59s"]);
        assert_eq!([text(3600), text(7500), text(360_000)], ["1h00m", "2h05m", "100h00m"]);
    }
}
