//! The storages of each block's good replicas: three inline, the rest in a side table.
//!
//! ```text
//!   BlockId ──▶ [ u32; 3 ]      low 24 bits: storage index, 0xFF_FFFF = empty
//!                 └ top bit of the first: more in `more`
//! ```

use std::collections::BTreeMap;

use hashbrown::HashMap;
use proto::ids::BlockId;
use rustc_hash::FxBuildHasher;

use super::registry::StorageIndex;

const EMPTY: u32 = 0x00ff_ffff;
const INDEX: u32 = 0x00ff_ffff;
const MORE: u32 = 1 << 31;

/// Which storages hold a block. A block without any has no entry, so [`Slots::len`] counts the blocks of
/// which at least one good replica is known: nothing is counted by hand (scar SC-72).
#[derive(Debug, Default)]
pub(super) struct Slots {
    inline: HashMap<BlockId, [u32; 3], FxBuildHasher>,
    more: BTreeMap<BlockId, Vec<StorageIndex>>,
}

impl Slots {
    /// Blocks with at least one replica.
    pub(super) fn len(&self) -> usize {
        self.inline.len()
    }

    /// The storages of a block, in order of arrival.
    pub(super) fn of(&self, block: BlockId) -> Vec<StorageIndex> {
        let Some(slots) = self.inline.get(&block) else { return Vec::new() };
        let mut all: Vec<_> = slots.iter().map(|s| s & INDEX).filter(|s| *s != EMPTY).map(StorageIndex).collect();
        if slots[0] & MORE != 0 {
            all.extend(self.more.get(&block).into_iter().flatten());
        }
        all
    }

    pub(super) fn contains(&self, block: BlockId, storage: StorageIndex) -> bool {
        let Some(slots) = self.inline.get(&block) else { return false };
        slots.iter().any(|s| s & INDEX == storage.0)
            || (slots[0] & MORE != 0 && self.more.get(&block).is_some_and(|more| more.contains(&storage)))
    }

    /// Adds a storage. False if it was there.
    pub(super) fn insert(&mut self, block: BlockId, storage: StorageIndex) -> bool {
        if self.contains(block, storage) {
            return false;
        }
        let slots = self.inline.entry(block).or_insert([EMPTY; 3]);
        if let Some(free) = slots.iter_mut().find(|s| **s & INDEX == EMPTY) {
            *free = (*free & !INDEX) | storage.0;
        } else {
            slots[0] |= MORE;
            self.more.entry(block).or_default().push(storage);
        }
        true
    }

    /// Removes a storage. False if it was not there.
    pub(super) fn remove(&mut self, block: BlockId, storage: StorageIndex) -> bool {
        let Some(slots) = self.inline.get_mut(&block) else { return false };
        if let Some(slot) = slots.iter_mut().find(|s| **s & INDEX == storage.0) {
            // The side table refills the gap, so that it empties first.
            let refill = self.more.get_mut(&block).and_then(Vec::pop);
            *slot = (*slot & !INDEX) | refill.map_or(EMPTY, |s| s.0);
        } else {
            let Some(more) = self.more.get_mut(&block) else { return false };
            let Some(place) = more.iter().position(|s| *s == storage) else { return false };
            more.remove(place);
        }
        if self.more.get(&block).is_some_and(Vec::is_empty) {
            self.more.remove(&block);
            slots[0] &= !MORE;
        }
        if slots.iter().all(|s| s & INDEX == EMPTY) {
            self.inline.remove(&block);
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
        }
    }
}
