//! Election timeouts from our own randomness.
//!
//! The engine draws them from the thread's generator whenever it resets itself, which no simulation could
//! repeat. So its value is overwritten after every call, by one that is drawn anew exactly when the term or
//! the role has changed, or when an election timed out: events that a seed determines.

use std::sync::Arc;

use base::random::Randomness;
use raft::{RawNode, StateRole, Storage};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Timeout {
    random: Arc<dyn Randomness>,
    election_ticks: usize,
    ticks: usize,
    drawn_for: Option<(u64, StateRole)>,
    /// During a tick: how long no leader had been heard of before it.
    elapsed_before: Option<usize>,
}

impl Timeout {
    pub(super) const fn new(random: Arc<dyn Randomness>, election_ticks: usize) -> Self {
        Self { random, election_ticks, ticks: election_ticks, drawn_for: None, elapsed_before: None }
    }

    /// To be called before each tick: [`Self::pin`] then sees whether an election timed out.
    pub(super) const fn before_tick<S: Storage>(&mut self, raw: &RawNode<S>) {
        self.elapsed_before = Some(raw.raft.r.election_elapsed);
    }

    /// To be called after each call of the engine.
    pub(super) fn pin<S: Storage>(&mut self, raw: &mut RawNode<S>) {
        let state = (raw.raft.term, raw.raft.state);
        let timed_out = self.elapsed_before.take().is_some_and(|before| raw.raft.election_elapsed < before);
        if self.drawn_for != Some(state) || timed_out {
            self.drawn_for = Some(state);
            self.ticks = self.election_ticks + self.random.below(self.election_ticks as u64) as usize;
        }
        raw.raft.set_randomized_election_timeout(self.ticks);
    }
}
