//! A client: one operation at a time through the library's machines: attempts, session, writer, reader.
//!
//! ```text
//!   workload::Op ─▶ Job ─▶ calls (attempts, session) · writing (FileWriter) · reading (BlockReadMachine)
//!                                                          └─▶ Finished: operation, outcome, when ─▶ oracle, registers
//! ```

mod calls;
mod jobs;
mod lanes;
mod measuring;
mod questions;
mod reading;
mod writing;

use std::sync::Arc;

use base::clock::Moment;
use base::random::{Randomness, SeededRandom};
use client::read::{FirstPackets, HedgeBudget, HedgeConfig, Shown};
use proto::ids::SessionId;

use self::calls::Calls;
use self::jobs::Job;
use super::millis;
use crate::logs::Segment;
use crate::message::{Address, Message, Part, Timer};
use crate::network::StreamId;
use crate::planted::Planted;
use crate::scene::Scene;
use crate::workload::{Op, Outcome};

/// Which calls of a session can take effect no more: those numbered below `lowest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The session.
    pub session: SessionId,
    /// Lowest unanswered number when the operation began.
    pub lowest: u64,
    /// The next number when it ended: all of its own are below.
    pub newest: u64,
    /// When it ended.
    pub at: Moment,
}

/// An operation that is over.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What was asked.
    pub op: Op,
    /// What came of it.
    pub outcome: Outcome,
    /// When it began.
    pub begun: Moment,
    /// When it was over; `None` if the client died before.
    pub ended: Option<Moment>,
    /// Which calls it fences off, and which it made itself.
    pub fence: Fence,
}

/// A client.
#[derive(Debug)]
pub struct ClientHost {
    index: usize,
    name: String,
    life: u64,
    calls: Calls,
    job: Option<Job>,
    next_job: u64,
    finished: Vec<Finished>,
    first_packets: FirstPackets,
    hedges: HedgeBudget,
    shown: Shown,
    planted: Option<Planted>,
}

impl ClientHost {
    /// A client of a cluster with so many namenodes.
    #[must_use]
    pub fn new(index: usize, namenodes: usize, seed: u64, planted: Option<Planted>) -> Self {
        let random = Arc::new(SeededRandom::new(seed));
        let calls = Calls::new(index, namenodes, Arc::clone(&random));
        let name = format!("client-{index}-{:016x}", random.next_u64());
        let (first_packets, hedges) = (FirstPackets::default(), HedgeBudget::new(&HedgeConfig::default()));
        let (finished, shown) = (Vec::new(), Shown::default());
        Self { index, name, life: 1, calls, job: None, next_job: 1, finished, first_packets, hedges, shown, planted }
    }
    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Address {
        Address::Client(self.index)
    }
    /// Its current life.
    #[must_use]
    pub const fn life(&self) -> u64 {
        self.life
    }
    /// Is an operation under way?
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.job.is_some()
    }
    /// Is it in the middle of a write?
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.job.as_ref().is_some_and(Job::is_writing)
    }
    /// The path of the file that it appends to, if it has got that, its job, and what it has written.
    #[must_use]
    pub fn appending(&self) -> Option<(&str, u64, Segment)> {
        self.job.as_ref().and_then(Job::segment)
    }
    /// When the operation under way began that flushes without a sync, if one does.
    #[must_use]
    pub fn unsynced_since(&self) -> Option<Moment> {
        self.job.as_ref().and_then(Job::unsynced_since)
    }
    /// Operations that are over since this was asked last.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Dies and begins a new life, with another session.
    pub fn die(&mut self, scene: &mut Scene) {
        scene.say(format_args!("{:?} dies", self.address()));
        scene.break_streams(self.address());
        if let Some(job) = self.job.take() {
            let (fence, outcome) = (Self::fence_of(&job, scene.now()), job.outcome_of_death());
            let (op, begun) = job.into_op();
            self.finished.push(Finished { op, outcome, begun, ended: None, fence });
        }
        self.life += 1;
        self.shown = Shown::default();
        self.calls.begin_life();
        scene.wake(self.address(), self.life, millis(200 + scene.below(2000)), Timer::Tick);
        scene.wake(self.address(), self.life, calls::RENEW_EVERY, Timer::Renew);
    }

    /// Wakes up for the first time.
    pub fn start(&self, scene: &mut Scene) {
        scene.wake(self.address(), self.life, millis(scene.below(100)), Timer::Tick);
        scene.wake(self.address(), self.life, calls::RENEW_EVERY, Timer::Renew);
    }

    /// Begins an operation.
    pub fn begin(&mut self, op: Op, scene: &mut Scene) {
        scene.say(format_args!("{:?} begins {op:?}", self.address()));
        let id = self.next_job;
        self.next_job += 1;
        let session = Arc::clone(self.calls.session());
        let lowest = session.lowest_unanswered();
        let mut job = Job::new(id, op, scene.now(), session, lowest);
        if scene.one_in(4) {
            // Someone who does not wait: what the client then says of the outcome must be true.
            job.patience = millis(500 + scene.below(4_000));
        }
        self.job = Some(job);
        // Each operation may spend as much as a client that was just started.
        self.hedges = HedgeBudget::new(&HedgeConfig::default());
        self.begin_job(scene);
    }

    fn fence_of(job: &Job, at: Moment) -> Fence {
        Fence { session: *job.session.id(), lowest: job.lowest, newest: job.session.newest() + 1, at }
    }

    /// The operation is over.
    fn finish(&mut self, outcome: Outcome, scene: &mut Scene) {
        let Some(job) = self.job.take() else { return };
        let fence = Self::fence_of(&job, scene.now());
        let (op, begun) = job.into_op();
        scene.say(format_args!("{:?} ends {op:?}: {outcome:?}", self.address()));
        self.finished.push(Finished { op, outcome, begun, ended: Some(scene.now()), fence });
    }

    /// A message came.
    pub fn arrive(&mut self, _from: Address, message: Message, scene: &mut Scene) {
        match message {
            Message::Answer { call, answer } => {
                if let Some(ended) = self.calls.answered(call, *answer, scene) {
                    self.call_ended(ended, scene);
                }
            }
            Message::Stream { stream, part } => self.part(stream, part, scene),
            Message::Call { .. } | Message::Raft(_) => {}
        }
    }

    fn part(&mut self, stream: StreamId, part: Part, scene: &mut Scene) {
        if !self.writer_part(stream, &part, scene)
            && !self.question_part(stream, &part, scene)
            && !self.measuring_part(stream, &part, scene)
        {
            self.reader_part(stream, part, scene);
        }
    }

    /// A timer fired.
    pub fn wake(&mut self, timer: Timer, scene: &mut Scene) {
        match timer {
            Timer::AttemptOver(attempt) => {
                if let Some(ended) = self.calls.attempt_over(attempt, scene) {
                    self.call_ended(ended, scene);
                }
            }
            Timer::Retry(call) => {
                if let Some(ended) = self.calls.try_again(call, scene) {
                    self.call_ended(ended, scene);
                }
            }
            Timer::WriterTick(job) => self.tell_writer(job, client::write::WriteEvent::Tick, scene),
            Timer::ToWriter(job, event) => self.tell_writer(job, *event, scene),
            Timer::OpenAgain(job) => self.open_again(job, scene),
            Timer::QuestionOver(job, stream) => self.question_over(job, stream, scene),
            Timer::ReaderTick(job) => self.tick_reader(job, scene),
            Timer::ToReader(job, event) => self.tell_reader(job, *event, scene),
            Timer::Relocate(job) => self.relocate_now(job, scene),
            Timer::Renew => {
                scene.wake(self.address(), self.life, calls::RENEW_EVERY, Timer::Renew);
                self.renew(scene);
            }
            _ => {}
        }
    }
}
