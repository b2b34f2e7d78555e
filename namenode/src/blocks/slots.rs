//! The storages of each block's good replicas: three inline, the rest in a side table.
//!
//! ```text
//!   block id ─┬─▶ leaf of 512 neighbours ─▶ three storages of 24 bits each, 0xFF_FFFF = empty
//!             └─▶ more, for blocks whose three are taken
//! ```
//!
//! Block ids are sequential, so leaves are dense: nine bytes for a block, and no key.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use proto::ids::BlockId;
use rustc_hash::FxBuildHasher;

use super::registry::StorageIndex;

const INLINE: usize = 3;
const LEAF: usize = 512;

/// Three storages.
type Homes = [[u8; 3]; INLINE];

const EMPTY: [u8; 3] = [0xff; 3];
const NOWHERE: Homes = [EMPTY; INLINE];

const fn pack(storage: StorageIndex) -> [u8; 3] {
    let [low, middle, high, _] = storage.0.to_le_bytes();
    [low, middle, high]
}
const fn unpack([low, middle, high]: [u8; 3]) -> StorageIndex {
    StorageIndex(u32::from_le_bytes([low, middle, high, 0]))
}

#[derive(Debug)]
struct Leaf {
    homes: Box<[Homes; LEAF]>,
    /// Blocks with at least one storage.
    live: u32,
}

/// Which storages hold a block. A block without any has no entry, so [`Slots::len`] counts the blocks of which at
/// least one good replica is known; the test recounts it (scar SC-72).
#[derive(Debug, Default)]
pub(super) struct Slots {
    leaves: HashMap<i64, Leaf, FxBuildHasher>,
    more: BTreeMap<BlockId, Vec<StorageIndex>>,
    blocks: usize,
}

const fn place(block: BlockId) -> (i64, usize) {
    (block.raw().div_euclid(LEAF as i64), block.raw().rem_euclid(LEAF as i64) as usize)
}

impl Slots {
    /// Blocks with at least one replica.
    pub(super) const fn len(&self) -> usize {
        self.blocks
    }
    /// Memory that it takes.
    pub(super) fn bytes(&self) -> u64 {
        let more: usize = self.more.values().map(|more| 48 + more.capacity() * size_of::<StorageIndex>()).sum();
        (self.leaves.allocation_size() + self.leaves.len() * size_of::<[Homes; LEAF]>() + more) as u64
    }

    fn inline(&self, block: BlockId) -> &Homes {
        let (leaf, at) = place(block);
        self.leaves.get(&leaf).map_or(&NOWHERE, |leaf| &leaf.homes[at])
    }
    /// The side table is used only while all three are taken.
    fn more(&self, block: BlockId, homes: &Homes) -> &[StorageIndex] {
        if self.more.is_empty() || homes.contains(&EMPTY) {
            return &[];
        }
        self.more.get(&block).map_or(&[], |more| more)
    }

    /// The storages of a block, in order of arrival.
    pub(super) fn of(&self, block: BlockId) -> Vec<StorageIndex> {
        self.each(block).collect()
    }
    /// As [`Slots::of`], without memory of its own.
    pub(super) fn each(&self, block: BlockId) -> impl Iterator<Item = StorageIndex> {
        let homes = self.inline(block);
        let inline = homes.iter().filter(|home| **home != EMPTY).map(|home| unpack(*home));
        inline.chain(self.more(block, homes).iter().copied())
    }

    pub(super) fn contains(&self, block: BlockId, storage: StorageIndex) -> bool {
        let homes = self.inline(block);
        homes.contains(&pack(storage)) || self.more(block, homes).contains(&storage)
    }

    /// Adds a storage. False if it was there.
    pub(super) fn insert(&mut self, block: BlockId, storage: StorageIndex) -> bool {
        if self.contains(block, storage) {
            return false;
        }
        let (leaf, at) = place(block);
        let leaf = self.leaves.entry(leaf).or_insert_with(|| Leaf { homes: Box::new([NOWHERE; LEAF]), live: 0 });
        let homes = &mut leaf.homes[at];
        if *homes == NOWHERE {
            leaf.live += 1;
            self.blocks += 1;
        }
        match homes.iter_mut().find(|home| **home == EMPTY) {
            Some(free) => *free = pack(storage),
            None => self.more.entry(block).or_default().push(storage),
        }
        true
    }

    /// Removes a storage. False if it was not there.
    pub(super) fn remove(&mut self, block: BlockId, storage: StorageIndex) -> bool {
        let (number, at) = place(block);
        let Some(leaf) = self.leaves.get_mut(&number) else { return false };
        let homes = &mut leaf.homes[at];
        if let Some(home) = homes.iter_mut().find(|home| **home == pack(storage)) {
            // The side table refills the gap, so that it empties first.
            let refill = if self.more.is_empty() { None } else { self.more.get_mut(&block).and_then(Vec::pop) };
            *home = refill.map_or(EMPTY, pack);
        } else {
            let Some(more) = self.more.get_mut(&block) else { return false };
            let Some(place) = more.iter().position(|s| *s == storage) else { return false };
            more.remove(place);
        }
        if self.more.get(&block).is_some_and(Vec::is_empty) {
            self.more.remove(&block);
        }
        if *homes == NOWHERE {
            leaf.live -= 1;
            self.blocks -= 1;
            if leaf.live == 0 {
                self.leaves.remove(&number);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slots_are_a_set_of_storages(steps in prop::collection::vec((0_i64..4, 0_u32..7, any::<bool>()), 0..200)) {
            let mut slots = Slots::default();
            let mut model: BTreeMap<i64, BTreeSet<u32>> = BTreeMap::new();
            for (block, storage, insert) in steps {
                let (id, index) = (BlockId::from_raw(block), StorageIndex(storage));
                let set = model.entry(block).or_default();
                if insert {
                    prop_assert_eq!(slots.insert(id, index), set.insert(storage));
                } else {
                    prop_assert_eq!(slots.remove(id, index), set.remove(&storage));
                }
                let have: BTreeSet<u32> = slots.of(id).iter().map(|s| s.0).collect();
                prop_assert_eq!(&have, set);
                prop_assert_eq!(slots.len(), model.values().filter(|s| !s.is_empty()).count());
            }
            prop_assert!(slots.more.values().all(|more| !more.is_empty()));
            let recounted: usize = slots
                .leaves
                .values()
                .map(|leaf| leaf.homes.iter().filter(|homes| **homes != NOWHERE).count())
                .sum();
            prop_assert_eq!(slots.len(), recounted);
        }
    }
}
