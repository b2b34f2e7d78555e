//! What a storage tells the namenodes: numbered changes, and a hash for each bucket of a full report.

use std::collections::VecDeque;

use proto::cluster::{ReplicaRecord, ReplicaState as WireState};
use proto::ids::{BlockId, GenerationStamp};
use proto::report::{BUCKETS, replica_hash};

use super::replica::{Replica, ReplicaState};

/// Changes kept for namenodes that have not heard them. A namenode that is further behind gets a full report.
pub(crate) const MAX_CHANGES: usize = 32 * 1024;

/// Changes of one storage since the node started.
#[derive(Debug)]
pub(crate) struct Journal {
    incarnation: u64,
    /// Number of `changes[0]`; the first change of an incarnation is number 1.
    first: u64,
    changes: VecDeque<ReplicaRecord>,
    hashes: Box<[u64]>,
    finalized: u64,
}

impl Journal {
    pub(crate) fn new(incarnation: u64) -> Self {
        let hashes = vec![0; BUCKETS].into_boxed_slice();
        Self { incarnation, first: 1, changes: VecDeque::new(), hashes, finalized: 0 }
    }
    pub(crate) const fn incarnation(&self) -> u64 {
        self.incarnation
    }
    /// Number of the last change.
    pub(crate) fn sequence(&self) -> u64 {
        self.first + self.changes.len() as u64 - 1
    }
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }
    pub(crate) const fn finalized(&self) -> u64 {
        self.finalized
    }
    /// A replica found by the start-up scan: part of the full report; if not whole, also a change.
    pub(crate) fn found(&mut self, id: BlockId, replica: &Replica) {
        if replica.state == ReplicaState::Finalized {
            self.count(id, replica, true);
        } else {
            self.push(record(id, replica));
        }
    }
    /// Says once more what a replica is that hashes do not cover.
    pub(crate) fn restate(&mut self, id: BlockId, replica: &Replica) {
        self.push(record(id, replica));
    }
    /// Says that a replica is not there, to a namenode that believes it is: one that was half-written may have gone in a power
    /// cut, and neither hashes nor what was told since speak of it.
    pub(crate) fn absent(&mut self, id: BlockId, stamp: GenerationStamp) {
        let (id, stamp, state) = (id.raw(), stamp.raw(), WireState::Deleted as i32);
        self.push(ReplicaRecord { id, stamp, len_bytes: 0, state, verified: false });
    }
    /// A replica was read whole and is sound.
    pub(crate) fn verified(&mut self, id: BlockId, replica: &Replica) {
        self.push(ReplicaRecord { verified: true, ..record(id, replica) });
    }
    /// A replica changed from `before` to `after`.
    pub(crate) fn changed(&mut self, id: BlockId, before: Option<&Replica>, after: Option<&Replica>) {
        let whole = |replica: &&Replica| replica.state == ReplicaState::Finalized;
        if let Some(before) = before.filter(whole) {
            self.count(id, before, false);
        }
        if let Some(after) = after.filter(whole) {
            self.count(id, after, true);
        }
        match (before, after) {
            (_, Some(after)) => self.push(record(id, after)),
            (Some(before), None) => {
                self.push(ReplicaRecord { state: WireState::Deleted as i32, ..record(id, before) });
            }
            (None, None) => {}
        }
    }
    /// Changes from number `from` on, at most `limit`; `None` if they are not kept any more.
    pub(crate) fn since(&self, from: u64, limit: usize) -> Option<Vec<ReplicaRecord>> {
        let skip = usize::try_from(from.checked_sub(self.first)?).ok()?;
        Some(self.changes.iter().skip(skip).take(limit).cloned().collect())
    }
    /// Forgets changes below `number`, which every namenode has heard.
    pub(crate) fn forget_below(&mut self, number: u64) {
        while self.first < number && self.changes.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn push(&mut self, record: ReplicaRecord) {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
            self.first += 1;
        }
        self.changes.push_back(record);
    }
    fn count(&mut self, id: BlockId, replica: &Replica, plus: bool) {
        let hash = replica_hash(id, replica.stamp, replica.len_bytes);
        if let Some(bucket) = self.hashes.get_mut(id.bucket() as usize) {
            *bucket = if plus { bucket.wrapping_add(hash) } else { bucket.wrapping_sub(hash) };
        }
        self.finalized = if plus { self.finalized + 1 } else { self.finalized.saturating_sub(1) };
    }
}

/// A replica as it is reported.
pub(crate) fn record(id: BlockId, replica: &Replica) -> ReplicaRecord {
    ReplicaRecord {
        id: id.raw(),
        stamp: replica.stamp.raw(),
        len_bytes: replica.len_bytes,
        state: replica.state.to_wire() as i32,
        verified: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::GenerationStamp;

    fn replica(len_bytes: u64, state: ReplicaState) -> Replica {
        Replica { stamp: GenerationStamp::FIRST, len_bytes, state }
    }

    #[test]
    fn hashes_follow_the_finalised_replicas_in_any_order() {
        let (a, b) = (BlockId::from_raw(5), BlockId::from_raw(5 + BUCKETS as i64));
        let whole = replica(7, ReplicaState::Finalized);
        let mut one = Journal::new(1);
        one.changed(a, Some(&replica(0, ReplicaState::BeingWritten)), Some(&whole));
        one.changed(b, None, Some(&whole));
        one.changed(a, Some(&whole), None);
        let mut other = Journal::new(2);
        other.found(b, &whole);
        assert_eq!(one.hashes(), other.hashes());
        assert_eq!((one.finalized(), one.sequence(), other.sequence()), (1, 3, 0));
    }

    #[test]
    fn half_written_replicas_found_at_start_are_changes_but_not_hashed() {
        let mut journal = Journal::new(1);
        journal.found(BlockId::FIRST, &replica(7, ReplicaState::WaitingRecovery));
        assert_eq!(journal.hashes().iter().sum::<u64>(), 0);
        let changes = journal.since(1, 10).unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].state, WireState::WaitingRecovery as i32);
    }

    #[test]
    fn changes_are_kept_from_the_oldest_needed_and_never_beyond_the_bound() {
        let mut journal = Journal::new(1);
        let whole = replica(7, ReplicaState::Finalized);
        for raw in 0..MAX_CHANGES as i64 + 10 {
            journal.changed(BlockId::from_raw(raw), None, Some(&whole));
        }
        assert_eq!(journal.since(1, 1), None, "too old: a full report is due");
        assert_eq!(journal.since(11, 2).unwrap().len(), 2);
        journal.forget_below(100);
        assert_eq!(journal.since(99, 1), None);
        assert_eq!(journal.since(journal.sequence() + 1, 1).unwrap(), []);
    }
}
