//! Does a process grow? The slope of its memory over time, by least squares; pure, and the same small size for any run.
//!
//! A process that is killed and started again begins anew: each of its lives has a level of its own, all of them share
//! one slope. What a process does in its first seconds (caches, threads, the first blocks) is left out.

use std::time::Duration;

/// The beginning of a life that does not count.
const WARM_UP: Duration = Duration::from_secs(20);
/// Less time than this, warm-up not counted, says nothing about growth.
const ENOUGH: Duration = Duration::from_secs(300);
/// Growth beyond this within the time that was looked at, and steady as it is, fails a run.
const TOO_STEEP_BYTES_PER_MINUTE: f64 = 4.0 * 1024.0 * 1024.0;

/// Sums over one life.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    count: f64,
    t: f64,
    y: f64,
    tt: f64,
    ty: f64,
    first_s: Option<f64>,
    last_s: f64,
}

impl Life {
    fn add(&mut self, t: f64, y: f64) {
        self.count += 1.0;
        self.t += t;
        self.y += y;
        self.tt += t * t;
        self.ty += t * y;
        self.first_s.get_or_insert(t);
        self.last_s = t;
    }
    /// Spread of the times, and what memory does with it, both around the means of this life.
    fn spread(&self) -> (f64, f64) {
        if self.count < 2.0 {
            return (0.0, 0.0);
        }
        (self.tt - self.t * self.t / self.count, self.ty - self.t * self.y / self.count)
    }
    fn seconds(&self) -> f64 {
        self.first_s.map_or(0.0, |first| self.last_s - first)
    }
}

/// The memory of a process over its lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    now: Life,
    /// Spread, and seconds, of the lives before.
    before: (f64, f64),
    before_s: f64,
    samples: u64,
    most_bytes: u64,
}

impl Growth {
    /// The process was started anew.
    pub(super) fn begins(&mut self) {
        let (tt, ty) = self.now.spread();
        self.before = (self.before.0 + tt, self.before.1 + ty);
        self.before_s += self.now.seconds();
        self.now = Life::default();
    }
    /// Its memory, so long after it was started.
    pub(super) fn add(&mut self, age: Duration, resident_bytes: u64) {
        self.most_bytes = self.most_bytes.max(resident_bytes);
        if age >= WARM_UP {
            self.samples += 1;
            self.now.add(age.as_secs_f64(), resident_bytes as f64);
        }
    }
    /// Bytes a minute by which it grows; `None` if there is too little to say so.
    pub(super) fn bytes_per_minute(&self) -> Option<f64> {
        let (tt, ty) = self.now.spread();
        let (tt, ty) = (tt + self.before.0, ty + self.before.1);
        (tt > 0.0).then(|| ty / tt * 60.0)
    }
    /// Time over which it was looked at.
    pub(super) fn looked_at(&self) -> Duration {
        Duration::from_secs_f64(self.before_s + self.now.seconds())
    }
    /// The most that it ever had.
    pub(super) const fn most_bytes(&self) -> u64 {
        self.most_bytes
    }
    /// Was it looked at for long enough, and does it grow on and on?
    pub(super) fn is_without_bound(&self) -> bool {
        self.looked_at() >= ENOUGH && self.bytes_per_minute().is_some_and(|slope| slope > TOO_STEEP_BYTES_PER_MINUTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn life(growth: &mut Growth, seconds: u64, bytes_at: impl Fn(u64) -> u64) {
        growth.begins();
        for second in (0..=seconds).step_by(2) {
            growth.add(Duration::from_secs(second), bytes_at(second));
        }
    }

    #[test]
    fn a_steady_leak_is_found_and_its_slope_is_right() {
        let mut growth = Growth::default();
        life(&mut growth, 600, |second| 50 * MIB + second * MIB / 6);
        let slope = growth.bytes_per_minute().unwrap();
        assert!((slope - 10.0 * MIB as f64).abs() < 1000.0, "{slope}");
        assert!(growth.is_without_bound());
        assert_eq!(growth.most_bytes(), 150 * MIB);
    }

    #[test]
    fn a_leak_over_many_short_lives_is_found_too() {
        let mut growth = Growth::default();
        for level in [40, 90, 60, 80, 50, 70, 60] {
            life(&mut growth, 80, |second| level * MIB + second * MIB / 6);
        }
        let slope = growth.bytes_per_minute().unwrap();
        assert!((slope - 10.0 * MIB as f64).abs() < 1000.0, "levels count for nothing: {slope}");
        assert_eq!(growth.looked_at(), Duration::from_secs(7 * 60));
        assert!(growth.is_without_bound());
    }

    #[test]
    fn what_goes_up_and_down_or_only_warms_up_is_no_leak() {
        let mut growth = Growth::default();
        life(&mut growth, 900, |second| 60 * MIB + (second % 60) * MIB / 2);
        assert!(!growth.is_without_bound(), "{:?}", growth.bytes_per_minute());
        let mut growth = Growth::default();
        life(&mut growth, 900, |second| 20 * MIB + second.min(18) * 5 * MIB);
        assert!(!growth.is_without_bound());
    }

    #[test]
    fn a_short_look_says_nothing() {
        let mut growth = Growth::default();
        life(&mut growth, 100, |second| second * MIB);
        assert!(!growth.is_without_bound());
        assert_eq!(Growth::default().bytes_per_minute(), None);
    }
}
