//! (directory, name) → slot. Rebuilt on load, in no image. Its order never shows.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::namespace::hash::Mixer;

/// Number of tables. One table of ten million entries would stop everything for most of a second when it grows;
/// a shard of it grows in a millisecond.
const SHARDS: usize = 1024;

/// Finds entries by directory and name.
pub(crate) struct NameIndex {
    shards: Vec<HashTable<u32>>,
}

/// Hash of an entry.
pub(crate) fn hash_of(parent: u32, name: &[u8]) -> u64 {
    Mixer::new(u64::from(parent)).bytes(name).finish()
}

impl NameIndex {
    /// No entries.
    pub(crate) fn new() -> Self {
        Self { shards: std::iter::repeat_with(HashTable::new).take(SHARDS).collect() }
    }
    /// The slot with this hash that `is_it`.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.shards[shard(hash)].find(hash, |slot| is_it(*slot)).copied()
    }
    /// Adds a slot that is not there; `hash_of_slot` gives the hashes of the others when a table grows.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32, hash_of_slot: impl Fn(u32) -> u64) {
        self.shards[shard(hash)].insert_unique(hash, slot, |slot| hash_of_slot(*slot));
    }
    /// As [`NameIndex::insert`], unless there is one that `is_it`: then false.
    pub(crate) fn insert_new(
        &mut self,
        hash: u64,
        slot: u32,
        is_it: impl Fn(u32) -> bool,
        hash_of_slot: impl Fn(u32) -> u64,
    ) -> bool {
        match self.shards[shard(hash)].entry(hash, |slot| is_it(*slot), |slot| hash_of_slot(*slot)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(slot);
                true
            }
        }
    }
    /// Makes room for so many entries in an empty index.
    pub(crate) fn expect(&mut self, count: usize) {
        for shard in &mut self.shards {
            *shard = HashTable::with_capacity(count / SHARDS);
        }
    }
    /// Removes a slot.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) {
        if let Ok(entry) = self.shards[shard(hash)].find_entry(hash, |found| *found == slot) {
            entry.remove();
        }
    }
    /// Memory that it takes: a slot and a byte of its hash for each bucket.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(HashTable::allocation_size).sum::<usize>() as u64
    }
}

/// The tables use the lowest and the seven highest bits.
const fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}
