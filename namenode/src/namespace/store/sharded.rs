//! Ordered maps for the rare things, in 64 shared shards: a frozen view costs 64 clones, and the first change of a
//! shard after it copies that shard only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;
use std::sync::Arc;

/// Number of shards. Durable: where a purge stands is told by it.
pub(crate) const SHARDS: usize = 64;

/// A key that can tell its shard.
pub(crate) trait ShardKey: Ord + Clone {
    /// Any number that spreads keys evenly.
    fn spread(&self) -> usize;
}
impl ShardKey for u32 {
    fn spread(&self) -> usize {
        *self as usize
    }
}
impl ShardKey for u64 {
    fn spread(&self) -> usize {
        *self as usize
    }
}
impl ShardKey for proto::ids::SessionId {
    fn spread(&self) -> usize {
        usize::from(self.as_bytes()[0])
    }
}

/// A map that is cheap to freeze: `clone` is the frozen view.
#[derive(Clone)]
pub(crate) struct Sharded<K, V> {
    shards: Vec<Arc<BTreeMap<K, V>>>,
    len: usize,
}

impl<K: ShardKey, V: Clone> Sharded<K, V> {
    /// An empty map.
    pub(crate) fn new() -> Self {
        Self { shards: std::iter::repeat_with(Arc::default).take(SHARDS).collect(), len: 0 }
    }
    /// Number of keys.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
    /// Value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.shards[key.spread() % SHARDS].get(key)
    }
    /// Value of a key, for change.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let shard = &mut self.shards[key.spread() % SHARDS];
        if shard.contains_key(key) { Arc::make_mut(shard).get_mut(key) } else { None }
    }
    /// Sets a value; returns the one before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = Arc::make_mut(&mut self.shards[key.spread() % SHARDS]).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }
    /// Removes a key.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let shard = &mut self.shards[key.spread() % SHARDS];
        if !shard.contains_key(key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(shard).remove(key)
    }
    /// Keys within bounds that all have this spread, by key.
    pub(crate) fn range(
        &self,
        spread: usize,
        bounds: (Bound<K>, Bound<K>),
    ) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.shards[spread % SHARDS].range(bounds)
    }
    /// Keys of one shard after a key, by key.
    pub(crate) fn shard_after(&self, shard: usize, after: Option<K>) -> impl Iterator<Item = (&K, &V)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.shards[shard % SHARDS].range((from, Bound::Unbounded))
    }
    /// Up to `most` keys after a key, by key: each shard is looked into once, and then as often as it has the next one.
    pub(crate) fn after(&self, after: Option<K>, most: usize) -> Vec<(&K, &V)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut shards: Vec<_> =
            self.shards.iter().map(|shard| shard.range((from.clone(), Bound::Unbounded)).peekable()).collect();
        let firsts = shards.iter_mut().enumerate().filter_map(|(at, shard)| Some(Reverse((shard.peek()?.0, at))));
        let mut next: BinaryHeap<Reverse<(&K, usize)>> = firsts.collect();
        let mut found = Vec::new();
        while found.len() < most
            && let Some(Reverse((_, at))) = next.pop()
            && let Some(shard) = shards.get_mut(at)
        {
            found.extend(shard.next());
            next.extend(shard.peek().map(|(key, _)| Reverse((*key, at))));
        }
        found
    }
    /// Everything, by key.
    pub(crate) fn sorted(&self) -> Vec<(&K, &V)> {
        let mut all: Vec<_> = self.shards.iter().flat_map(|shard| shard.iter()).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }
}
