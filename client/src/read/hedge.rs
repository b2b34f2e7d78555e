//! A second attempt at another replica, when the first one takes longer than nearly all did lately. Pure.
//!
//! ```text
//!   Waits ─▶ one lane ── deadline ──▶ WantsSecond ── granted ──▶ two lanes ── Brought(lane) ──▶ Drop(the other)
//!               ▲                       ▲  │ refused                  │ Failed(lane)
//!               │           a stall later  ▼                          │
//!               └── Brought ◀────────── one lane ◀────────────────────┘
//! ```
//!
//! - [`FirstPackets`] says how long is long: the 99th percentile of the recent times from request to first packet.
//! - [`HedgeBudget`] says how often: a slow cluster must not be asked twice for everything.
//! - [`Hedge`] decides for one range that is read. Who runs it owns two readers of the range ([`super::BlockReadMachine`])
//!   and passes on what they bring; each of them still fails over, and reports wrong checksums, by itself.

use std::collections::VecDeque;
use std::time::Duration;

use base::clock::Moment;

/// Bounds of second attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeConfig {
    /// Second attempts, in percent of all reads of block ranges. 0: none. Default: 5.
    pub percent: u32,
    /// Second attempts that a client saves up for while all goes well, and has from the start. Default: 4.
    pub burst: u32,
    /// Second attempts that a client earns in each second, however few reads it makes. Without them a client that reads
    /// little, and meets one broken node after another, would wait for each until that counts as silent. Default: 2.
    pub per_s: u32,
    /// Second attempts under way at a time. Default: 8.
    pub in_flight: u32,
    /// No first packet is given less time than this, however fast the others came. Default: 20 ms.
    pub min_delay: Duration,
    /// No first packet is given more, also not before enough have come to know. Default: 1 s.
    pub max_delay: Duration,
    /// Time that any further packet has. Default: 1 s.
    pub stall: Duration,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            percent: 5,
            burst: 4,
            per_s: 2,
            in_flight: 8,
            min_delay: Duration::from_millis(20),
            max_delay: Duration::from_secs(1),
            stall: Duration::from_secs(1),
        }
    }
}

impl HedgeConfig {
    /// No second attempts.
    #[must_use]
    pub fn off() -> Self {
        Self { percent: 0, burst: 0, per_s: 0, ..Self::default() }
    }
    /// May there be any?
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.in_flight > 0 && (self.percent > 0 || self.burst > 0 || self.per_s > 0)
    }
}

/// Times that are remembered.
const REMEMBERED: usize = 128;
/// Below this many nothing is known.
const ENOUGH: usize = 16;
/// Which of them is long.
const PERCENTILE: usize = 99;

/// Recent times from a request to its first packet.
#[derive(Clone, Debug, Default)]
pub struct FirstPackets {
    /// In the order in which they came.
    recent: VecDeque<Duration>,
    sorted: Vec<Duration>,
}

impl FirstPackets {
    /// A first packet took this long. Where a second attempt won, the time until then: the first would have taken longer.
    pub fn note(&mut self, took: Duration) {
        if self.recent.len() >= REMEMBERED
            && let Some(oldest) = self.recent.pop_front()
            && let Ok(at) = self.sorted.binary_search(&oldest)
        {
            self.sorted.remove(at);
        }
        self.recent.push_back(took);
        let at = self.sorted.partition_point(|one| *one < took);
        self.sorted.insert(at, took);
    }

    /// Time that a first packet has.
    #[must_use]
    pub fn delay(&self, config: &HedgeConfig) -> Duration {
        let rank = (self.sorted.len() * PERCENTILE).div_ceil(100);
        match self.sorted.get(rank.saturating_sub(1)) {
            Some(long) if self.sorted.len() >= ENOUGH => (*long).max(config.min_delay).min(config.max_delay),
            _ => config.max_delay,
        }
    }
}

/// One attempt, as a budget counts.
const ONE: u64 = 1000;

/// How many second attempts there may still be: never more than `burst`, `percent` of the reads so far, and `per_s` of the
/// seconds so far.
#[derive(Clone, Debug)]
pub struct HedgeBudget {
    /// Thousandths of an attempt.
    credit: u64,
    in_flight: u32,
    /// Until when the seconds were counted; `None`: nobody has asked yet.
    counted_until: Option<Moment>,
}

impl HedgeBudget {
    /// A client's at its begin.
    #[must_use]
    pub const fn new(config: &HedgeConfig) -> Self {
        Self { credit: config.burst as u64 * ONE, in_flight: 0, counted_until: None }
    }
    /// A read begins.
    pub fn read_begins(&mut self, config: &HedgeConfig) {
        self.earn(u64::from(config.percent) * ONE / 100, config);
    }
    fn earn(&mut self, thousandths: u64, config: &HedgeConfig) {
        let most = u64::from(config.burst.max(1)) * ONE;
        self.credit = self.credit.saturating_add(thousandths).min(most);
    }
    /// What the whole milliseconds since the last call have brought.
    fn time_passed(&mut self, config: &HedgeConfig, now: Moment) {
        let until = *self.counted_until.get_or_insert(now);
        let passed_ms = u64::try_from(now.since(until).as_millis()).unwrap_or(u64::MAX);
        self.counted_until = Some(until.plus(Duration::from_millis(passed_ms)));
        self.earn(passed_ms.saturating_mul(u64::from(config.per_s)), config);
    }
    /// May a read be attempted a second time? If so, [`HedgeBudget::over`] follows.
    pub fn grant(&mut self, config: &HedgeConfig, now: Moment) -> bool {
        self.time_passed(config, now);
        let affordable = self.credit >= ONE || base::mutated!(Sc95SecondAttemptsAreFree);
        let granted = config.is_on() && self.in_flight < config.in_flight && affordable;
        if granted {
            self.credit = self.credit.saturating_sub(ONE);
            self.in_flight += 1;
        }
        granted
    }
    /// A second attempt has won, lost or failed.
    pub const fn over(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

/// One of the two readers of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The one that was there first, or is alone.
    First,
    /// The second attempt.
    Second,
}

impl Lane {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// What happens to a range that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeEvent {
    /// The application waits for bytes from now on.
    Waits,
    /// Time passed. Needed at [`Hedge::next_deadline`]; harmless at any other time.
    Tick,
    /// Answer to [`HedgeEffect::WantsSecond`].
    Second {
        /// The budget allows it, and there is another replica.
        granted: bool,
    },
    /// A lane delivered bytes.
    Brought(Lane),
    /// A lane ended with an error.
    Failed(Lane),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeEffect {
    /// Ask the budget, and read what is left from a replica that was not asked yet, as [`Lane::Second`]. Answer with
    /// [`HedgeEvent::Second`].
    WantsSecond,
    /// Note the time of a first packet.
    Took(Duration),
    /// End a lane. The other one is [`Lane::First`] from now on.
    Drop {
        /// Which one.
        lane: Lane,
        /// The other one was faster. Otherwise it failed by itself.
        slower: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody waits.
    Rests,
    /// One lane, and a second one when this takes too long.
    Alone {
        since: Moment,
        until: Moment,
    },
    /// The answer of the budget is awaited.
    Asks {
        since: Moment,
    },
    /// One lane, and no other for now: the budget is asked again when this goes on.
    Resigned {
        since: Moment,
        until: Moment,
    },
    Racing {
        since: Moment,
    },
}

/// The decisions for one range of one block.
#[derive(Clone, Debug)]
pub struct Hedge {
    on: bool,
    stage: Stage,
    /// Time for the next packet.
    patience: Duration,
    stall: Duration,
    /// Nothing came yet.
    first: bool,
}

impl Hedge {
    /// Of a range whose first packet has `delay`.
    #[must_use]
    pub const fn new(config: &HedgeConfig, delay: Duration) -> Self {
        Self { on: config.is_on(), stage: Stage::Rests, patience: delay, stall: config.stall, first: true }
    }

    /// When [`HedgeEvent::Tick`] is needed next.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Moment> {
        match self.stage {
            Stage::Alone { until, .. } | Stage::Resigned { until, .. } if self.on => Some(until),
            _ => None,
        }
    }

    /// Are there two lanes?
    #[must_use]
    pub const fn is_racing(&self) -> bool {
        matches!(self.stage, Stage::Racing { .. })
    }

    /// Takes one event and says what to do.
    pub fn handle(&mut self, event: HedgeEvent, now: Moment, out: &mut Vec<HedgeEffect>) {
        match (event, self.stage) {
            (HedgeEvent::Waits, Stage::Rests) => {
                self.stage = Stage::Alone { since: now, until: now.plus(self.patience) };
            }
            (HedgeEvent::Tick, Stage::Alone { since, until } | Stage::Resigned { since, until })
                if self.on && now >= until && !base::mutated!(Sc96SlowReplicaIsWaitedFor) =>
            {
                self.stage = Stage::Asks { since };
                out.push(HedgeEffect::WantsSecond);
            }
            (HedgeEvent::Second { granted }, Stage::Asks { since }) => {
                self.stage = if granted { Stage::Racing { since } } else { self.resigned(since, now) };
            }
            (HedgeEvent::Brought(lane), _) => self.brought(lane, now, out),
            (HedgeEvent::Failed(lane), Stage::Racing { since }) => {
                self.stage = self.resigned(since, now);
                out.push(HedgeEffect::Drop { lane, slower: false });
            }
            _ => {}
        }
    }

    fn resigned(&self, since: Moment, now: Moment) -> Stage {
        Stage::Resigned { since, until: now.plus(self.stall) }
    }

    fn brought(&mut self, lane: Lane, now: Moment, out: &mut Vec<HedgeEffect>) {
        let (Stage::Alone { since, .. }
        | Stage::Asks { since }
        | Stage::Resigned { since, .. }
        | Stage::Racing { since }) = self.stage
        else {
            return;
        };
        if std::mem::take(&mut self.first) {
            out.push(HedgeEffect::Took(now.since(since)));
        }
        if self.is_racing() {
            out.push(HedgeEffect::Drop { lane: lane.other(), slower: true });
        }
        self.patience = self.stall;
        self.stage = Stage::Rests;
    }
}
