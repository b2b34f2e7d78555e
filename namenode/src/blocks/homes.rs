//! Where open blocks are being written, and whether their nodes can still have what nobody told.
//!
//! A replica that is being written is in no full report, and a new one is not told before it is finished. So as long as
//! nothing is known of it, the node that it was placed on is believed to write it (scar SC-75). That ends with the node's
//! life: what it finds when it starts again it tells. And it ends when the node says that there is nothing.

use proto::cluster::{ReplicaRecord, ReplicaState};
use proto::ids::{BlockId, GenerationStamp};

use super::BlockManager;
use super::facts::Names;
use super::registry::StorageIndex;

/// A storage that an open block was placed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    pub(super) storage: StorageIndex,
    life: Life,
}

/// Until when a home is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It was not heard of since this namenode started.
    Unknown,
    /// As long as its node is in this start.
    Of(u64),
    /// It said that it has nothing.
    Over,
}

impl BlockManager {
    /// The storages that are known, as they are now.
    pub(super) fn homes_at(&self, storages: &[StorageIndex]) -> Vec<Home> {
        let known = |storage: &StorageIndex| (storage.0 as usize) < self.streams.len();
        let home = |storage: StorageIndex| Home { storage, life: self.life_of(storage) };
        storages.iter().copied().filter(known).map(home).collect()
    }
    fn life_of(&self, storage: StorageIndex) -> Life {
        match self.streams.get(storage.0 as usize).map_or(0, |stream| stream.incarnation) {
            0 => Life::Unknown,
            incarnation => Life::Of(incarnation),
        }
    }

    /// Homes that were not heard of when an open block was placed on them are in the life that is known by now.
    pub(super) fn meet_homes(&mut self, block: BlockId) {
        let Some(homes) = self.open_targets.get(&block) else { return };
        if homes.iter().all(|home| home.life != Life::Unknown) {
            return;
        }
        let mut homes = homes.clone();
        for home in homes.iter_mut().filter(|home| home.life == Life::Unknown) {
            home.life = self.life_of(home.storage);
        }
        self.open_targets.insert(block, homes);
    }

    /// A storage told changes. What it says is gone, at the stamp of the pipeline or a later one, it does not write.
    pub(super) fn told_of_homes(&mut self, storage: StorageIndex, changes: &[ReplicaRecord], names: &dyn Names) {
        let gone = changes.iter().filter(|change| change.state == ReplicaState::Deleted as i32);
        for change in gone {
            let (block, stamp) = (BlockId::from_raw(change.id), GenerationStamp::from_raw(change.stamp));
            // One of before that it took out of the way says nothing of the one that is written now.
            if names.facts(block).is_none_or(|facts| stamp < facts.stamp) {
                continue;
            }
            let homes = self.open_targets.get_mut(&block).into_iter().flatten();
            homes.filter(|home| home.storage == storage).for_each(|home| home.life = Life::Over);
        }
    }

    /// Can this storage be writing an open block of which it told nothing? Its pipeline was logged.
    pub(super) fn may_write_untold(&self, block: BlockId, storage: StorageIndex) -> bool {
        if self.is_untold(storage) {
            return true;
        }
        let homes = self.open_targets.get(&block).into_iter().flatten();
        let mut lives = homes.filter(|home| home.storage == storage).map(|home| home.life);
        lives.all(|life| life == Life::Unknown || life == self.life_of(storage))
    }
}
