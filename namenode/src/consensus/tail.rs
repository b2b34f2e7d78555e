//! The end of the log in memory, as the engine reads it.
//!
//! Holds what is not applied yet and, in a group, what lagging followers may still ask for. What is older is
//! in the segments and in the images; a follower that needs it gets an image.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Tail {
    /// Index and term of the entry before the first one here.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: u64,
    members: ConfState,
    hard_state: HardState,
    /// Newest image that can be sent.
    image: Option<(u64, u64)>,
}

fn cost(entry: &Entry) -> u64 {
    (entry.data.len() + entry.context.len() + size_of::<Entry>()) as u64
}

impl Tail {
    pub(super) fn new(base: (u64, u64), entries: Vec<Entry>, hard_state: HardState, voters: Vec<u64>) -> Self {
        let members = ConfState { voters, ..ConfState::default() };
        let bytes = entries.iter().map(cost).sum();
        Self { base, entries: entries.into(), bytes, members, hard_state, image: None }
    }

    pub(super) fn last_index(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        let place = index.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(place).ok()?).map(|entry| entry.term)
    }

    /// Appends entries, dropping what they overwrite.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            while self.last_index() >= entry.index && !self.entries.is_empty() {
                self.bytes -= self.entries.pop_back().as_ref().map_or(0, cost);
            }
            debug_assert_eq!(self.last_index() + 1, entry.index, "the engine appends without gaps");
            self.bytes += cost(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// An image from the leader took the place of everything here.
    pub(super) fn restart(&mut self, index: u64, term: u64) {
        self.entries.clear();
        self.bytes = 0;
        self.base = (index, term);
        self.image = Some((index, term));
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(super) const fn set_image(&mut self, index: u64, term: u64) {
        self.image = Some((index, term));
    }

    pub(super) const fn image(&self) -> Option<(u64, u64)> {
        self.image
    }

    /// Drops entries up to `through` while more than `keep_bytes` are held.
    pub(super) fn evict(&mut self, through: u64, keep_bytes: u64) {
        while self.bytes > keep_bytes && self.base.0 < through {
            let Some(gone) = self.entries.pop_front() else { return };
            self.bytes -= cost(&gone);
            self.base = (gone.index, gone.term);
        }
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last_index() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let place = |index: u64| usize::try_from(index - self.base.0 - 1).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in self.entries.range(place(low)..place(high)) {
            bytes += (entry.data.len() + entry.context.len()) as u64;
            if !found.is_empty() && bytes > limit {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> Result<u64> {
        let missing = if index < self.base.0 { StorageError::Compacted } else { StorageError::Unavailable };
        self.term_at(index).ok_or(Error::Store(missing))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(Self::last_index(self))
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        match self.image {
            // An image below the first entry here would leave the follower with a gap.
            Some((index, term)) if index >= request_index && index >= self.base.0 => {
                let mut snapshot = Snapshot::default();
                let metadata = snapshot.mut_metadata();
                metadata.index = index;
                metadata.term = term;
                metadata.set_conf_state(self.members.clone());
                Ok(snapshot)
            }
            _ => Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable)),
        }
    }
}
