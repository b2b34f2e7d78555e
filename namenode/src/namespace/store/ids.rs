//! From an id to its slot, in two levels: ids are sequential, so a leaf of 512 neighbours is dense while they live
//! and is dropped when the last of them is gone.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

const LEAF: u64 = 512;
/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

struct Leaf {
    slots: Arc<[u32]>,
    live: u32,
}

/// Ids and their slots.
#[derive(Default)]
pub(crate) struct IdTable {
    leaves: HashMap<u64, Leaf, FxBuildHasher>,
}

/// The ids of one moment, ascending.
pub(crate) struct FrozenIds(Vec<(u64, Arc<[u32]>)>);

impl FrozenIds {
    /// Every id and its slot, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.0.iter().flat_map(|(number, slots)| {
            slots
                .iter()
                .enumerate()
                .filter(|(_, slot)| **slot != NONE)
                .map(move |(i, slot)| (number * LEAF + i as u64, *slot))
        })
    }
}

impl IdTable {
    /// Slot of an id.
    pub(crate) fn get(&self, id: u64) -> Option<u32> {
        let slot = self.leaves.get(&(id / LEAF))?.slots[(id % LEAF) as usize];
        (slot != NONE).then_some(slot)
    }
    /// Adds an id that is not in the table.
    pub(crate) fn insert(&mut self, id: u64, slot: u32) {
        let leaf = self
            .leaves
            .entry(id / LEAF)
            .or_insert_with(|| Leaf { slots: std::iter::repeat_n(NONE, LEAF as usize).collect(), live: 0 });
        Arc::make_mut(&mut leaf.slots)[(id % LEAF) as usize] = slot;
        leaf.live += 1;
    }
    /// Removes an id that is in the table.
    pub(crate) fn remove(&mut self, id: u64) {
        let Some(leaf) = self.leaves.get_mut(&(id / LEAF)) else { return };
        leaf.live -= 1;
        if leaf.live == 0 {
            self.leaves.remove(&(id / LEAF));
        } else {
            Arc::make_mut(&mut leaf.slots)[(id % LEAF) as usize] = NONE;
        }
    }
    /// At most `limit` ids from `from` on and below `end`, ascending.
    pub(crate) fn range(&self, from: u64, end: u64, limit: usize) -> Vec<u64> {
        let wanted = from / LEAF..end.div_ceil(LEAF);
        // Where most leaves are gone, sorting those that are left is less work than stepping over the others.
        let sparse = wanted.end.saturating_sub(wanted.start) > 2 * self.leaves.len() as u64;
        let mut left: Vec<u64> = Vec::new();
        if sparse {
            left.extend(self.leaves.keys().filter(|number| wanted.contains(number)));
            left.sort_unstable();
        }
        let all = if sparse { 0..0 } else { wanted };
        let leaf_ids = |number: u64| {
            let slots = self.leaves.get(&number).map_or(&[][..], |leaf| &leaf.slots);
            let here = move |(i, slot): (usize, &u32)| (*slot != NONE).then_some(number * LEAF + i as u64);
            slots.iter().enumerate().filter_map(here)
        };
        let ids = left.into_iter().chain(all).flat_map(leaf_ids);
        ids.skip_while(|id| *id < from).take_while(|id| *id < end).take(limit).collect()
    }
    /// The table of this moment, sorted: the order of the hash map never shows.
    pub(crate) fn freeze(&self) -> FrozenIds {
        let mut leaves: Vec<_> = self.leaves.iter().map(|(number, leaf)| (*number, leaf.slots.clone())).collect();
        leaves.sort_unstable_by_key(|(number, _)| *number);
        FrozenIds(leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_come_and_go() {
        let mut table = IdTable::default();
        for id in (16_385..20_000).rev() {
            table.insert(id, id as u32);
        }
        let frozen = table.freeze();
        for id in 16_385..19_999 {
            table.remove(id);
        }
        assert_eq!((table.get(19_999), table.get(16_385), table.leaves.len()), (Some(19_999), None, 1));
        assert!(frozen.iter().map(|(id, _)| id).eq(16_385..20_000));
        table.insert(70_000, 1);
        assert_eq!(table.range(0, 70_000, 9), [19_999]);
        assert_eq!(table.range(19_999, u64::from(u32::MAX), 2), [19_999, 70_000]);
        assert_eq!(table.range(20_000, 80_000, 0), [0; 0]);
        assert_eq!(table.range(0, u64::MAX, 9), [19_999, 70_000], "no stepping over what is gone");
    }
}
