//! (directory, name) → slot. Rebuilt on load, in no image. Its order never shows.

use hashbrown::HashTable;

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
    /// Removes a slot.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) {
        if let Ok(entry) = self.shards[shard(hash)].find_entry(hash, |found| *found == slot) {
            entry.remove();
        }
    }
}

/// The tables use the lowest and the seven highest bits.
const fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}
