//! Stamps of recoveries that have shut out everything below them, block by block.
//!
//! A recovery that found no replica leaves a *lone* fence: a late writer of a lower stamp would begin what the recovery has
//! done without. Nothing ends those, so their number is bounded; and they are in memory only. What is forgotten of them
//! is made good by one number:
//!
//! ```text
//!   too many lone fences ─▶ the lowest stamp goes ─┐
//!                                                  ├─▶ floor: a *new* block of a writer is refused below it
//!   the node starts ─▶ the namenode's next stamp ──┘   (a writer that is refused asks for another block)
//! ```
//!
//! Only the begin of a new block is asked about the floor. Whatever else begins a replica has a stamp that the namenode
//! confirms before it counts (a pipeline that was mended), or is a copy that the leader ordered.

use std::collections::{BTreeMap, BTreeSet};

use proto::ids::{BlockId, GenerationStamp};

use super::replica::{Replica, ReplicaState};

/// Fences without a replica that are remembered.
pub(crate) const MAX_LONE_FENCES: usize = 4096;

/// The fences of a volume. Every step costs little, however many there are: they are taken under the volume's lock.
#[derive(Debug)]
pub(crate) struct Fences {
    stamps: BTreeMap<BlockId, GenerationStamp>,
    /// Those without a replica, the lowest stamp first.
    lone: BTreeSet<(GenerationStamp, BlockId)>,
    /// Every fence that was forgotten is at most as high.
    floor: GenerationStamp,
}

impl Default for Fences {
    fn default() -> Self {
        Self { stamps: BTreeMap::new(), lone: BTreeSet::new(), floor: GenerationStamp::from_raw(0) }
    }
}

impl Fences {
    /// The stamp below which a block's replica is not changed.
    pub(crate) fn get(&self, id: BlockId) -> Option<GenerationStamp> {
        self.stamps.get(&id).copied()
    }
    /// The stamp below which there may have been a fence that is forgotten.
    pub(crate) const fn floor(&self) -> GenerationStamp {
        self.floor
    }
    /// Fences below a stamp are forgotten.
    pub(crate) fn forgot_below(&mut self, stamp: GenerationStamp) {
        self.floor = self.floor.max(stamp);
    }
    /// Shuts out what is below a stamp. `is_lone`: there is no replica of the block.
    pub(crate) fn raise(&mut self, id: BlockId, recovery: GenerationStamp, is_lone: bool) {
        if let Some(before) = self.stamps.insert(id, recovery) {
            self.lone.remove(&(before, id));
        }
        self.set_lone(id, recovery, is_lone);
    }
    /// Notes what a replica is from now on; one that is whole at the stamp of the recovery or later needs no fence any more.
    pub(crate) fn replica_changed(&mut self, id: BlockId, after: Option<&Replica>) {
        let Some(fence) = self.get(id) else { return };
        if after.is_some_and(|replica| replica.state == ReplicaState::Finalized && replica.stamp >= fence) {
            self.stamps.remove(&id);
            self.lone.remove(&(fence, id));
        } else {
            self.set_lone(id, fence, after.is_none());
        }
    }
    fn set_lone(&mut self, id: BlockId, fence: GenerationStamp, is_lone: bool) {
        if !is_lone {
            self.lone.remove(&(fence, id));
            return;
        }
        self.lone.insert((fence, id));
        while self.lone.len() > MAX_LONE_FENCES
            && let Some((lowest, oldest)) = self.lone.pop_first()
        {
            self.stamps.remove(&oldest);
            self.forgot_below(lowest);
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
    fn sc_26_the_lowest_stamps_are_forgotten_first_and_the_floor_stands_for_them() {
        let (mut fences, most) = (Fences::default(), MAX_LONE_FENCES as u64);
        // Recoveries of old blocks come last: the newest fence is that of the lowest block.
        for n in 1..=most {
            fences.raise(BlockId::from_raw(10_000 - n as i64), stamp(n), true);
        }
        assert_eq!(fences.floor(), stamp(0), "nothing is forgotten");
        fences.raise(BlockId::FIRST, stamp(most + 1), true);
        assert_eq!(fences.get(BlockId::FIRST), Some(stamp(most + 1)), "not the one that was just raised");
        assert_eq!((fences.get(BlockId::from_raw(9_999)), fences.floor()), (None, stamp(1)));
        // One that is raised again is the younger.
        fences.raise(BlockId::from_raw(9_998), stamp(most + 2), true);
        fences.raise(BlockId::from_raw(1), stamp(most + 3), true);
        assert_eq!((fences.get(BlockId::from_raw(9_998)), fences.floor()), (Some(stamp(most + 2)), stamp(3)));
        fences.forgot_below(stamp(2));
        assert_eq!(fences.floor(), stamp(3), "it never falls");
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
