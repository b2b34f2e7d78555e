//! Many times, kept as counts: a few kilobytes however many there are.

use std::time::Duration;

use serde_json::{Value, json};

/// Buckets for each power of two: a time is known to 1/32 of itself.
const FINE: u32 = 32;
/// Powers of two of nanoseconds: up to about 18 minutes.
const POWERS: usize = 40;

/// Counts of times.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; POWERS * FINE as usize], total: 0 }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let last = self.counts.len() - 1;
        self.counts[bucket(ns).min(last)] += 1;
        self.total += 1;
    }
    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
    }
    pub(super) const fn count(&self) -> u64 {
        self.total
    }
    /// The time that this share of all does not exceed, in µs; 0 if there is none.
    pub(super) fn quantile_us(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle_ns(at) / 1000.0;
            }
        }
        0.0
    }
    /// The usual three, as an object.
    pub(super) fn json(&self) -> Value {
        let us = |share| (self.quantile_us(share) * 10.0).round() / 10.0;
        json!({ "p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999) })
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        let mut this = Self::default();
        times.into_iter().for_each(|time| this.add(time));
        this
    }
}

/// Times below 32 ns have a bucket each; above, every power of two has 32.
const fn bucket(ns: u64) -> usize {
    if ns < FINE as u64 {
        return ns as usize;
    }
    let power = ns.ilog2();
    let fine = ns >> (power - FINE.ilog2());
    ((power - FINE.ilog2()) * FINE) as usize + fine as usize
}

fn middle_ns(bucket: usize) -> f64 {
    let fine = FINE as usize;
    if bucket < fine {
        return bucket as f64;
    }
    let power = bucket / fine - 1;
    let width = 2_f64.powi(i32::try_from(power).unwrap_or(i32::MAX));
    ((bucket % fine + fine) as f64 + 0.5) * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_thirtieth() {
        let times: Latencies = (1..=100_000_u64).map(Duration::from_micros).collect();
        for (share, wanted) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.999, 99_900.0)] {
            let found = times.quantile_us(share);
            assert!((found / wanted - 1.0).abs() < 1.0 / 30.0, "{share}: {found}");
        }
        assert_eq!(Latencies::default().quantile_us(0.5), 0.0);
    }

    #[test]
    fn buckets_ascend_without_gaps() {
        let mut before = 0;
        for ns in 0..100_000 {
            let now = bucket(ns);
            assert!(now == before || now == before + 1, "{ns}");
            before = now;
        }
        let mut long = Latencies::default();
        long.add(Duration::MAX);
        assert_eq!(long.count(), 1);
    }
}
