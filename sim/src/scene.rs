//! What all hosts share: the clock, the queue of what happens next, the network, the trace.

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use base::random::{Randomness, SeededRandom};

use crate::coverage::{Coverage, Rare};
use crate::message::{Address, Event, Message, Part, Timer};
use crate::network::{Fate, Network, StreamId};
use crate::trace::Trace;

/// The world around the hosts.
#[derive(Debug)]
pub struct Scene {
    now: Moment,
    queue: BTreeMap<(Moment, u64), Event>,
    next_number: u64,
    /// Links.
    pub network: Network,
    /// Randomness of the world; each host has its own beside.
    pub random: SeededRandom,
    /// What happened.
    pub trace: Trace,
    /// Rare events.
    pub coverage: Coverage,
    /// The first thing that must never be.
    violation: Option<String>,
    /// What the host of this moment says on its connections, while it may turn out that its disk hangs.
    held: Option<Vec<Said>>,
}

/// Something that a host says on a connection.
#[derive(Debug)]
pub struct Said {
    stream: StreamId,
    from: Address,
    /// `None`: it closes the connection.
    part: Option<Part>,
}

impl Scene {
    /// A world at its beginning.
    #[must_use]
    pub fn new(seed: u64, loud: bool) -> Self {
        let random = SeededRandom::new(seed);
        Self {
            // Not at zero: durations are taken back from now here and there.
            now: Moment::START.plus(Duration::from_secs(1000)),
            queue: BTreeMap::new(),
            next_number: 0,
            network: Network::new(random.next_u64()),
            random,
            trace: Trace::new(loud),
            coverage: Coverage::default(),
            violation: None,
            held: None,
        }
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.now
    }
    /// Lets something happen at a moment (not before now).
    pub fn at(&mut self, at: Moment, event: Event) {
        self.next_number += 1;
        self.queue.insert((at.max(self.now), self.next_number), event);
    }
    /// Lets something happen after a while.
    pub fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now.plus(wait), event);
    }
    /// Wakes a host after a while, if it still lives then.
    pub fn wake(&mut self, host: Address, life: u64, wait: Duration, timer: Timer) {
        self.after(wait, Event::Wake { host, life, timer });
    }
    /// The next thing that happens; time moves there.
    pub fn next_event(&mut self) -> Option<Event> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// Sends a message that stands for itself.
    pub fn send(&mut self, from: Address, to: Address, message: &Message) {
        for at in self.network.deliver(from, to, self.now, &mut self.coverage) {
            self.at(at, Event::Arrive { to, from, message: message.clone() });
        }
    }

    /// From now on what is said on connections is held back.
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }
    /// Takes what was held back; nothing more is.
    pub fn take_held(&mut self) -> Vec<Said> {
        self.held.take().unwrap_or_default()
    }
    /// Says what was held back.
    pub fn say_held(&mut self, held: Vec<Said>) {
        for Said { stream, from, part } in held {
            match part {
                Some(part) => self.push(stream, from, part),
                None => self.close(stream, from),
            }
        }
    }

    /// Sends a part on a stream.
    pub fn push(&mut self, stream: StreamId, from: Address, mut part: Part) {
        if let Some(held) = &mut self.held {
            return held.push(Said { stream, from, part: Some(part) });
        }
        let Some(to) = self.network.other_end(stream, from) else { return };
        // Only on the way to a datanode: a reader cannot tell damage on the way from damage on the disk, it reports
        // the replica, and the only copy of a block would stay under suspicion.
        if let Part::Packet(packet) = &mut part
            && matches!(to, Address::Datanode(_))
            && !packet.data.is_empty()
            && self.network.damages()
        {
            let mut data = packet.data.to_vec();
            let at = self.random.below(data.len() as u64) as usize;
            data[at] ^= 1 << self.random.below(8);
            packet.data = data.into();
        }
        match self.network.push(stream, from, self.now, &mut self.coverage) {
            Fate::At(at) => self.at(at, Event::Arrive { to, from, message: Message::Stream { stream, part } }),
            fate => self.tell_of_break(stream, fate),
        }
    }

    /// Closes a stream; the other end hears of it behind what was sent before.
    pub fn close(&mut self, stream: StreamId, from: Address) {
        if let Some(held) = &mut self.held {
            return held.push(Said { stream, from, part: None });
        }
        self.push(stream, from, Part::Closed);
        self.network.close(stream);
    }

    /// A host died: its connections break.
    pub fn break_streams(&mut self, host: Address) {
        for stream in self.network.streams_of(host) {
            self.lose(stream);
        }
    }
    /// A connection breaks; its ends notice sooner or later.
    pub fn lose(&mut self, stream: StreamId) {
        let fate = self.network.break_up(stream, self.now);
        self.tell_of_break(stream, fate);
    }

    fn tell_of_break(&mut self, stream: StreamId, fate: Fate) {
        let Fate::Breaks(ends) = fate else { return };
        for (to, at) in ends {
            let from = if to == ends[0].0 { ends[1].0 } else { ends[0].0 };
            let message = Message::Stream { stream, part: Part::Closed };
            self.at(at, Event::Arrive { to, from, message });
        }
    }

    /// A number below `bound`.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }
    /// True once in `n` times.
    #[must_use]
    pub fn one_in(&self, n: u64) -> bool {
        self.random.below(n) == 0
    }
    /// A rare event happened.
    pub fn hit(&mut self, event: Rare) {
        self.coverage.hit(event);
    }
    /// Shows a line, if someone wants to see it.
    pub fn say(&self, line: std::fmt::Arguments<'_>) {
        self.trace.say(self.now.elapsed_from_start().as_secs_f64(), line);
    }
    /// Something happened that must never be. The first one ends the run.
    pub fn violation(&mut self, what: String) {
        self.say(format_args!("VIOLATION {what}"));
        if self.violation.is_none() {
            let at = self.now.elapsed_from_start().as_secs_f64();
            self.violation = Some(format!("at {at:.4} s: {what}"));
        }
    }
    /// The first thing that must never be, if it happened.
    #[must_use]
    pub fn violated(&self) -> Option<&str> {
        self.violation.as_deref()
    }
}
