//! From an id to its slot, in three levels: ids are sequential, so a leaf of 512 neighbours is dense while they live
//! and is dropped when the last of them is gone. A frozen view clones the chunks of 64 leaves.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

const LEAF: u64 = 512;
/// Leaves of a chunk.
const LEAVES: u64 = 64;
/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// Slots of 512 ids; empty while none of them lives.
#[derive(Clone)]
struct Leaf {
    slots: Arc<[u32]>,
    live: u32,
}

/// Neighbouring leaves, shared with frozen views as a whole.
#[derive(Clone)]
struct Chunk {
    leaves: [Leaf; LEAVES as usize],
    /// Leaves that are not empty.
    live: u32,
}

/// Ids and their slots.
#[derive(Default)]
pub(crate) struct IdTable {
    chunks: HashMap<u64, Arc<Chunk>, FxBuildHasher>,
}

/// The ids of one moment, ascending.
pub(crate) struct FrozenIds(Vec<(u64, Arc<Chunk>)>);

impl Leaf {
    /// Ids and slots of a leaf with this number. The last id of all may be one of them: nothing counts beyond it.
    fn iter(&self, number: u64) -> impl Iterator<Item = (u64, u32)> {
        let here = move |(at, slot): (usize, &u32)| (*slot != NONE).then_some((number * LEAF + at as u64, *slot));
        self.slots.iter().enumerate().filter_map(here)
    }
}

impl Chunk {
    fn new() -> Self {
        let empty: Arc<[u32]> = Arc::new([]);
        Self { leaves: std::array::from_fn(|_| Leaf { slots: empty.clone(), live: 0 }), live: 0 }
    }
    /// Ids and slots of a chunk with this number.
    fn iter(&self, number: u64) -> impl Iterator<Item = (u64, u32)> {
        self.leaves.iter().enumerate().flat_map(move |(at, leaf)| leaf.iter(number * LEAVES + at as u64))
    }
}

impl FrozenIds {
    /// Every id and its slot, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.0.iter().flat_map(|(number, chunk)| chunk.iter(*number))
    }
}

/// Chunk, leaf in it, place in that.
const fn place(id: u64) -> (u64, usize, usize) {
    (id / (LEAF * LEAVES), (id / LEAF % LEAVES) as usize, (id % LEAF) as usize)
}

impl IdTable {
    /// Slot of an id.
    pub(crate) fn get(&self, id: u64) -> Option<u32> {
        let (chunk, leaf, at) = place(id);
        self.chunks.get(&chunk)?.leaves[leaf].slots.get(at).copied().filter(|slot| *slot != NONE)
    }
    /// Adds an id that is not in the table.
    pub(crate) fn insert(&mut self, id: u64, slot: u32) {
        let (chunk, leaf, at) = place(id);
        let chunk = Arc::make_mut(self.chunks.entry(chunk).or_insert_with(|| Arc::new(Chunk::new())));
        let leaf = &mut chunk.leaves[leaf];
        if leaf.live == 0 {
            leaf.slots = std::iter::repeat_n(NONE, LEAF as usize).collect();
            chunk.live += 1;
        }
        leaf.live += 1;
        Arc::make_mut(&mut leaf.slots)[at] = slot;
    }
    /// Removes an id that is in the table.
    pub(crate) fn remove(&mut self, id: u64) {
        let (number, leaf, at) = place(id);
        let Some(chunk) = self.chunks.get_mut(&number) else { return };
        let chunk = Arc::make_mut(chunk);
        let leaf = &mut chunk.leaves[leaf];
        leaf.live -= 1;
        if leaf.live > 0 {
            Arc::make_mut(&mut leaf.slots)[at] = NONE;
            return;
        }
        leaf.slots = Arc::new([]);
        chunk.live -= 1;
        if chunk.live == 0 {
            self.chunks.remove(&number);
        }
    }
    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let leaves: u32 = self.chunks.values().map(|chunk| chunk.live).sum();
        let leaf_bytes = LEAF as usize * size_of::<u32>() + 16;
        let chunks = self.chunks.len() * (size_of::<Chunk>() + 16) + self.chunks.allocation_size();
        (leaves as usize * leaf_bytes + chunks) as u64
    }
    /// At most `limit` ids from `from` on and below `end`, ascending.
    pub(crate) fn range(&self, from: u64, end: u64, limit: usize) -> Vec<u64> {
        let wanted = place(from).0..end.div_ceil(LEAF * LEAVES);
        // Where most chunks are gone, sorting those that are left is less work than stepping over the others.
        let sparse = wanted.end.saturating_sub(wanted.start) > 2 * self.chunks.len() as u64;
        let mut left: Vec<u64> = Vec::new();
        if sparse {
            left.extend(self.chunks.keys().filter(|number| wanted.contains(number)));
            left.sort_unstable();
        }
        let all = if sparse { 0..0 } else { wanted };
        // The first chunk may have many ids before the first one that is wanted: its leaves are stepped over.
        let chunk_ids = |number: u64| {
            let leaves = self.chunks.get(&number).map_or(&[][..], |chunk| &chunk.leaves);
            let leaves = leaves.iter().enumerate().map(move |(at, leaf)| (number * LEAVES + at as u64, leaf));
            leaves.filter(|(leaf, _)| *leaf >= from / LEAF).flat_map(|(number, leaf)| leaf.iter(number))
        };
        let ids = left.into_iter().chain(all).flat_map(chunk_ids).map(|(id, _)| id);
        ids.skip_while(|id| *id < from).take_while(|id| *id < end).take(limit).collect()
    }
    /// The table of this moment, sorted: the order of the hash map never shows.
    pub(crate) fn freeze(&self) -> FrozenIds {
        let mut chunks: Vec<_> = self.chunks.iter().map(|(number, chunk)| (*number, chunk.clone())).collect();
        chunks.sort_unstable_by_key(|(number, _)| *number);
        FrozenIds(chunks)
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
        assert_eq!((table.get(19_999), table.get(16_385), table.chunks.len()), (Some(19_999), None, 1));
        assert_eq!(table.chunks.values().map(|chunk| chunk.live).sum::<u32>(), 1, "leaves go");
        assert!(frozen.iter().map(|(id, _)| id).eq(16_385..20_000));
        table.insert(70_000, 1);
        assert_eq!(table.range(0, 70_000, 9), [19_999]);
        assert_eq!(table.range(19_999, u64::from(u32::MAX), 2), [19_999, 70_000]);
        assert_eq!(table.range(20_000, 80_000, 0), [0; 0]);
        assert_eq!(table.range(0, u64::MAX, 9), [19_999, 70_000], "no stepping over what is gone");
        table.insert(u64::MAX - 1, 3);
        table.insert(u64::MAX, 4);
        assert_eq!(table.range(70_001, u64::MAX, 9), [u64::MAX - 1]);
        assert_eq!(table.freeze().iter().last(), Some((u64::MAX, 4)), "the last id of all");
    }
}
