//! Stamps of recoveries that have shut out everything below them, block by block.
//!
//! A recovery that found no replica leaves a *lone* fence: a late writer of a lower stamp would begin what the recovery has
//! done without. Nothing ends those, so their number is bounded.

use std::collections::{BTreeMap, BTreeSet};

use proto::ids::{BlockId, GenerationStamp};

use super::replica::{Replica, ReplicaState};

/// Fences without a replica that are remembered. Beyond it those of the lowest block ids are dropped: these blocks are the
/// oldest, and late writers of them the least likely.
pub(crate) const MAX_LONE_FENCES: usize = 4096;

/// The fences of a volume. Every step costs the same, however many there are: they are taken under the volume's lock.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    stamps: BTreeMap<BlockId, GenerationStamp>,
    /// Those without a replica.
    lone: BTreeSet<BlockId>,
}

impl Fences {
    /// The stamp below which a block's replica is not changed.
    pub(crate) fn get(&self, id: BlockId) -> Option<GenerationStamp> {
        self.stamps.get(&id).copied()
    }
    /// Shuts out what is below a stamp. `is_lone`: there is no replica of the block.
    pub(crate) fn raise(&mut self, id: BlockId, recovery: GenerationStamp, is_lone: bool) {
        self.stamps.insert(id, recovery);
        self.set_lone(id, is_lone);
    }
    /// Notes what a replica is from now on; one that is whole at the stamp of the recovery or later needs no fence any more.
    pub(crate) fn replica_changed(&mut self, id: BlockId, after: Option<&Replica>) {
        let Some(fence) = self.get(id) else { return };
        if after.is_some_and(|replica| replica.state == ReplicaState::Finalized && replica.stamp >= fence) {
            self.stamps.remove(&id);
            self.lone.remove(&id);
        } else {
            self.set_lone(id, after.is_none());
        }
    }
    fn set_lone(&mut self, id: BlockId, is_lone: bool) {
        if !is_lone {
            self.lone.remove(&id);
            return;
        }
        self.lone.insert(id);
        while self.lone.len() > MAX_LONE_FENCES
            && let Some(oldest) = self.lone.pop_first()
        {
            self.stamps.remove(&oldest);
        }
    }
    /// Number of fences.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.stamps.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: i64 = 3 * MAX_LONE_FENCES as i64;

    fn stamp(n: u64) -> GenerationStamp {
        GenerationStamp::from_raw(n)
    }
    fn replica(stamp_number: u64, state: ReplicaState) -> Replica {
        Replica { stamp: stamp(stamp_number), len_bytes: 0, state }
    }

    #[test]
    fn sc_26_lone_fences_are_bounded_and_those_of_replicas_stay() {
        let mut fences = Fences::default();
        (0..MANY).for_each(|n| fences.raise(BlockId::from_raw(n), stamp(5), n % 2 == 0));
        assert_eq!(fences.len(), MANY as usize / 2 + MAX_LONE_FENCES, "of the lone ones some go");
        assert!((0..MANY).filter(|n| n % 2 == 1).all(|n| fences.get(BlockId::from_raw(n)) == Some(stamp(5))));
        assert_eq!(fences.get(BlockId::from_raw(0)), None, "the oldest ones");
        assert_eq!(fences.get(BlockId::from_raw(MANY - 2)), Some(stamp(5)));
        // Their replicas go, too.
        (0..MANY).for_each(|n| fences.replica_changed(BlockId::from_raw(n), None));
        assert_eq!((fences.len(), fences.lone.len()), (MAX_LONE_FENCES, MAX_LONE_FENCES));
        assert_eq!(fences.get(BlockId::from_raw(MANY - 1)), Some(stamp(5)));
    }

    #[test]
    fn a_fence_ends_with_a_whole_replica_of_its_stamp_and_with_no_other() {
        let (id, mut fences) = (BlockId::FIRST, Fences::default());
        fences.raise(id, stamp(5), true);
        for still in [
            replica(4, ReplicaState::Finalized),
            replica(5, ReplicaState::BeingWritten),
            replica(6, ReplicaState::WaitingRecovery),
        ] {
            fences.replica_changed(id, Some(&still));
            assert_eq!((fences.get(id), fences.lone.len()), (Some(stamp(5)), 0), "{still:?}");
        }
        fences.replica_changed(id, None);
        assert_eq!(fences.lone.len(), 1);
        fences.replica_changed(id, Some(&replica(5, ReplicaState::Finalized)));
        assert_eq!((fences.get(id), fences.len(), fences.lone.len()), (None, 0, 0));
    }
}
