//! Links between hosts: cut, lossy, slow, repeating; and connections, which keep their order or break.
//!
//! ```text
//!   calls, answers, Raft   each message by itself: lost, late, twice, out of order
//!   streams (data)         in order; a part that is lost breaks the stream, and both ends hear of it later
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use base::random::{Randomness, SeededRandom};

use crate::coverage::{Coverage, Rare};
use crate::message::Address;

/// A connection between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// How bad the network is, beside cuts. Shares are in thousandths of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Lost.
    pub lost: u64,
    /// Delivered twice.
    pub twice: u64,
    /// Held back up to `late_by`.
    pub late: u64,
    /// See `late`.
    pub late_by: Duration,
    /// Packets whose data are damaged on the way.
    pub damaged: u64,
}

#[derive(Debug)]
struct Stream {
    ends: [Address; 2],
    /// What was sent to each end arrives at this moment at the earliest.
    free_from: [Moment; 2],
    broken: bool,
}

/// What becomes of a part that is sent on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    At(Moment),
    /// It is lost, and the stream is broken from now on; both ends learn of it at these moments.
    Breaks([(Address, Moment); 2]),
    /// Nobody listens any more.
    Nowhere,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    random: SeededRandom,
    cuts: BTreeMap<(Address, Address), u32>,
    noise: Noise,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
}

impl Network {
    /// A network without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: SeededRandom::new(seed),
            cuts: BTreeMap::new(),
            noise: Noise::default(),
            streams: BTreeMap::new(),
            next_stream: 1,
        }
    }

    /// Cuts a link one way.
    pub fn cut(&mut self, from: Address, to: Address) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }
    /// Takes one cut back.
    pub fn mend(&mut self, from: Address, to: Address) {
        if let Some(cuts) = self.cuts.get_mut(&(from, to)) {
            *cuts -= 1;
            if *cuts == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }
    /// Makes the network noisy, or quiet again.
    pub const fn set_noise(&mut self, noise: Noise) {
        self.noise = noise;
    }
    /// All faults end.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.noise = Noise::default();
    }
    /// Is the link cut in this direction?
    #[must_use]
    pub fn is_cut(&self, from: Address, to: Address) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    fn chance(&self, permille: u64) -> bool {
        permille > 0 && self.random.below(1000) < permille
    }
    fn delay(&self, coverage: &mut Coverage) -> Duration {
        let mut micros = 80 + self.random.below(400);
        if self.chance(self.noise.late) {
            coverage.hit(Rare::Delayed);
            micros += self.random.below(self.noise.late_by.as_micros() as u64 + 1);
        }
        Duration::from_micros(micros)
    }

    /// When a message that stands for itself arrives: never, once or twice.
    ///
    /// Calls of clients do not arrive twice: TCP does not do that, and a copy of a call that was refused without being
    /// remembered could be carried out later. Their repetitions are the client's own, which knows of them.
    pub fn deliver(&self, from: Address, to: Address, now: Moment, coverage: &mut Coverage) -> Vec<Moment> {
        if self.is_cut(from, to) {
            return Vec::new();
        }
        if self.chance(self.noise.lost) {
            coverage.hit(Rare::Lost);
            return Vec::new();
        }
        let mut at = vec![now.plus(self.delay(coverage))];
        if !matches!(from, Address::Client(_)) && self.chance(self.noise.twice) {
            coverage.hit(Rare::Duplicated);
            at.push(now.plus(self.delay(coverage) + Duration::from_millis(self.random.below(3000))));
        }
        at
    }

    /// Opens a stream. The other end learns of it by the first part.
    pub fn open(&mut self, from: Address, to: Address) -> StreamId {
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        self.streams.insert(id, Stream { ends: [from, to], free_from: [Moment::START; 2], broken: false });
        id
    }

    /// The end of a stream that is not `host`.
    #[must_use]
    pub fn other_end(&self, id: StreamId, host: Address) -> Option<Address> {
        let stream = self.streams.get(&id)?;
        stream.ends.iter().copied().find(|end| *end != host)
    }

    /// Sends a part to the other end.
    pub fn push(&mut self, id: StreamId, from: Address, now: Moment, coverage: &mut Coverage) -> Fate {
        let Some(stream) = self.streams.get(&id) else { return Fate::Nowhere };
        if stream.broken {
            return Fate::Nowhere;
        }
        let to_first = stream.ends[0] != from;
        let to = if to_first { stream.ends[0] } else { stream.ends[1] };
        if self.is_cut(from, to) || self.chance(self.noise.lost / 8) {
            coverage.hit(Rare::Lost);
            return self.break_up(id, now);
        }
        let delay = self.delay(coverage);
        let Some(stream) = self.streams.get_mut(&id) else { return Fate::Nowhere };
        let free_from = &mut stream.free_from[usize::from(!to_first)];
        let at = now.plus(delay).max(*free_from);
        *free_from = at;
        Fate::At(at)
    }

    /// A stream breaks: nothing more is carried, and both ends learn of it sooner or later.
    pub fn break_up(&mut self, id: StreamId, now: Moment) -> Fate {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.broken) else { return Fate::Nowhere };
        stream.broken = true;
        let ends = stream.ends;
        // From a reset at once to a time-out of the connection.
        let soon = |random: &SeededRandom| {
            let millis = if random.below(3) == 0 { random.below(25_000) } else { random.below(20) };
            now.plus(Duration::from_millis(millis + 1))
        };
        Fate::Breaks([(ends[0], soon(&self.random)), (ends[1], soon(&self.random))])
    }

    /// One end closed the stream: what was sent arrives, nothing more is taken.
    pub fn close(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }
    /// Streams with this end.
    #[must_use]
    pub fn streams_of(&self, host: Address) -> Vec<StreamId> {
        let ours = |(_, stream): &(&StreamId, &Stream)| stream.ends.contains(&host);
        self.streams.iter().filter(ours).map(|(id, _)| *id).collect()
    }
    /// Should the data of a packet be damaged on the way?
    #[must_use]
    pub fn damages(&self) -> bool {
        self.chance(self.noise.damaged)
    }
}
