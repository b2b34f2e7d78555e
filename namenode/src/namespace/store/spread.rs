//! Maps of rare things that may become many: a table that grows moves everything that is in it, and one of a million
//! would stop everything for tens of milliseconds. So there are many small ones. Derived things only: the order never
//! shows.

use std::hash::Hash;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// Number of tables.
const SHARDS: usize = 1024;

/// A map from slots or ids, which spread evenly by themselves.
pub(crate) struct Spread<K, V> {
    shards: Vec<HashMap<K, V, FxBuildHasher>>,
    len: usize,
}

impl<K: Copy + Eq + Hash + Into<u64>, V> Spread<K, V> {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self { shards: std::iter::repeat_with(HashMap::default).take(SHARDS).collect(), len: 0 }
    }
    fn shard(key: K) -> usize {
        let number: u64 = key.into();
        number as usize % SHARDS
    }
    /// Is there nothing?
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Value of a key.
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        if self.len == 0 { None } else { self.shards[Self::shard(key)].get(&key) }
    }
    /// Value of a key, for change.
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.shards[Self::shard(key)].get_mut(&key)
    }
    /// Sets a value.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.len += usize::from(self.shards[Self::shard(key)].insert(key, value).is_none());
    }
    /// Removes a key.
    pub(crate) fn remove(&mut self, key: K) {
        if self.len > 0 {
            self.len -= usize::from(self.shards[Self::shard(key)].remove(&key).is_some());
        }
    }
    /// Value of a key, for change; a new one if it has none.
    pub(crate) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let Self { shards, len } = self;
        shards[Self::shard(key)].entry(key).or_insert_with(|| {
            *len += 1;
            V::default()
        })
    }
    /// Memory of the tables.
    pub(crate) fn allocation_size(&self) -> usize {
        self.shards.iter().map(HashMap::allocation_size).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn like_a_map(steps in proptest::collection::vec((0_u32..3000, 0_u8..3, any::<u8>()), 0..400)) {
            let (mut spread, mut model) = (Spread::new(), BTreeMap::new());
            for (key, what, value) in steps {
                match what {
                    0 => {
                        spread.insert(key, value);
                        model.insert(key, value);
                    }
                    1 => {
                        spread.remove(key);
                        model.remove(&key);
                    }
                    _ => {
                        *spread.get_or_default(key) = value;
                        *model.entry(key).or_default() = value;
                    }
                }
                prop_assert_eq!(spread.get(key).copied(), model.get(&key).copied());
                prop_assert_eq!(spread.get_mut(key).copied(), model.get(&key).copied());
                prop_assert_eq!((spread.is_empty(), spread.len), (model.is_empty(), model.len()));
            }
        }
    }

    #[test]
    fn no_table_that_grows_holds_more_than_its_part() {
        let mut spread = Spread::new();
        for slot in 0..200_000_u32 {
            spread.insert(slot, slot);
        }
        let largest = spread.shards.iter().map(HashMap::len).max();
        assert_eq!(largest, Some(200_000_usize.div_ceil(SHARDS)));
    }
}
