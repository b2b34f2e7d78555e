//! How fast this node sends copies to others: tokens that come with time. Pure.
//!
//! ```text
//!   ordinary copy ── takes its bytes ──▶ waits until they are paid for
//!   urgent copy   ── takes its bytes ──▶ does not wait; the others wait for it as well, but for no longer than DEBT
//! ```
//!
//! Repair uses what clients leave, and must not stop: a block with a single copy left is not made to wait, and however
//! many of those there are, ordinary copies go on, a packet now and then.

use std::time::Duration;

use base::clock::Moment;

/// Unused time that is kept: the pauses between two packets of a busy machine.
const BURST: Duration = Duration::from_millis(100);
/// Longest time for which urgent copies make ordinary ones wait.
const DEBT: Duration = Duration::from_secs(1);

/// The budget of a node, shared by all its copies.
#[derive(Clone, Debug)]
pub struct CopyBudget {
    /// 0: no limit.
    rate_bytes_per_s: u64,
    /// Everything taken so far is paid for at this moment.
    paid_at: Moment,
}

impl CopyBudget {
    /// A budget of so many bytes a second; 0: there is no limit.
    #[must_use]
    pub const fn new(rate_bytes_per_s: u64) -> Self {
        Self { rate_bytes_per_s, paid_at: Moment::START }
    }

    /// Takes bytes that are about to be sent: how long they wait. Who does not send them after all has taken them.
    pub fn take(&mut self, len_bytes: u64, urgent: bool, now: Moment) -> Duration {
        if self.rate_bytes_per_s == 0 {
            return Duration::ZERO;
        }
        let cost_ns = u128::from(len_bytes) * 1_000_000_000 / u128::from(self.rate_bytes_per_s);
        let cost = Duration::from_nanos(u64::try_from(cost_ns).unwrap_or(u64::MAX));
        let begun = self.paid_at.max(now);
        if urgent {
            self.paid_at = begun.plus(cost).min(begun.max(now.plus(DEBT)));
            return Duration::ZERO;
        }
        self.paid_at = begun.plus(cost);
        begun.since(now).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACKET: u64 = 256 << 10;
    const RATE: u64 = 8 << 20;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    /// Bytes that copies in so many streams send from one moment to another: each takes, waits and takes again.
    fn sent(budget: &mut CopyBudget, streams: usize, from: Moment, to: Moment) -> u64 {
        let (mut ready, mut bytes) = (vec![from; streams], 0);
        while let Some(next) = ready.iter_mut().min().filter(|next| **next < to) {
            *next = next.plus(budget.take(PACKET, false, *next));
            bytes += u64::from(*next < to) * PACKET;
            // Sending takes a moment as well.
            *next = next.plus(Duration::from_micros(10));
        }
        bytes
    }

    #[test]
    fn ordinary_copies_keep_to_the_rate_in_any_number_of_streams() {
        for streams in [1, 4, 16] {
            let mut budget = CopyBudget::new(RATE);
            let bytes = sent(&mut budget, streams, at(0), at(10_000));
            assert!(bytes.abs_diff(10 * RATE) <= RATE / 5 + streams as u64 * PACKET, "{streams} streams: {bytes}");
        }
    }

    #[test]
    fn unused_time_is_kept_for_a_moment_only() {
        let mut budget = CopyBudget::new(RATE);
        assert_eq!(budget.take(PACKET, false, at(0)), Duration::ZERO);
        let bytes = sent(&mut budget, 4, at(60_000), at(61_000));
        assert!(bytes <= RATE + RATE / 5 + 4 * PACKET, "{bytes}: a minute of silence is no minute of tokens");
    }

    #[test]
    fn urgent_copies_never_wait_are_paid_for_by_the_others_and_starve_nobody() {
        let mut budget = CopyBudget::new(RATE);
        (0..1000).for_each(|_| assert_eq!(budget.take(PACKET, true, at(0)), Duration::ZERO));
        let wait = budget.take(PACKET, false, at(0));
        assert!(wait > DEBT / 2 && wait <= DEBT, "{wait:?}");
        // Urgent ones all the time, at ten times the rate; one ordinary stream beside them.
        let (mut budget, mut ready, mut ordinary) = (CopyBudget::new(RATE), at(0), 0);
        for ms in 0..60_000 {
            budget.take(10 * RATE / 1000, true, at(ms));
            if ready <= at(ms) {
                ready = at(ms).plus(budget.take(PACKET, false, at(ms)));
                ordinary += 1;
            }
        }
        assert!((40..=90).contains(&ordinary), "{ordinary} packets in a minute");
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let mut budget = CopyBudget::new(0);
        assert_eq!(budget.take(u64::MAX, false, at(0)), Duration::ZERO);
        assert_eq!(budget.take(u64::MAX, true, at(0)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_span_of_time_gets_more_than_its_share(
            steps in prop::collection::vec((0_u64..200, 1_u64..PACKET), 1..200),
        ) {
            let mut budget = CopyBudget::new(RATE);
            let (mut now, mut sends) = (0, Vec::new());
            for (pause_ms, len_bytes) in steps {
                now += pause_ms;
                sends.push((at(now).plus(budget.take(len_bytes, false, at(now))), len_bytes));
            }
            for (place, (from, _)) in sends.iter().enumerate() {
                let mut bytes = 0;
                for (to, len_bytes) in sends.iter().skip(place) {
                    bytes += len_bytes;
                    let share = RATE as f64 * (to.since(*from) + BURST).as_secs_f64() + PACKET as f64 + 1.0;
                    prop_assert!(bytes as f64 <= share, "{} bytes in {:?}", bytes, to.since(*from));
                }
            }
        }
    }
}
