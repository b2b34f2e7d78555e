//! Who holds which replica, as the nodes reported it, judged by what the namespace says now.
//!
//! ```text
//!   report ──▶ good  (finalised, current stamp, committed length)   slots + bitmap per storage
//!          └─▶ odd   (open, half-written, stale, damaged, removed, not known yet)   with its own stamp and length
//!   commit, free, new stamp ──▶ reconsider: odd ⇄ good
//! ```
//!
//! An odd replica carries what its node said; what it *means* is computed from the namespace at the moment
//! of asking ([`Class`]), never remembered. So a report that is older than a close (scar SC-64), or one for a
//! stamp that is not current (scar SC-65), can neither count as good nor be condemned by mistake.

use std::collections::{BTreeMap, BTreeSet};

use proto::cluster::ReplicaState;
use proto::ids::{BlockId, GenerationStamp};
use proto::report::{BUCKETS, replica_hash};
use roaring::RoaringTreemap;

use super::facts::{Facts, Names};
use super::registry::StorageIndex;
use super::slots::Slots;

/// A replica as a node reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The block.
    pub block: BlockId,
    /// Stamp of the replica.
    pub stamp: GenerationStamp,
    /// Its length.
    pub len_bytes: u64,
    /// Its state; never `Deleted` here.
    pub state: ReplicaState,
}

/// A replica that is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd {
    /// Stamp, as reported.
    pub stamp: GenerationStamp,
    /// Length, as reported.
    pub len_bytes: u64,
    /// State, as reported.
    pub state: ReplicaState,
    /// A reader or its node found it damaged. Stays until the node confirms its deletion (scar SC-66), or has read it
    /// whole and found it sound.
    pub marked: bool,
}

/// What an odd replica means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Of a block that this namenode does not know yet, or with a stamp from its future: kept (scar SC-73).
    Unknown,
    /// Of an open block, or still being written: its time will come.
    Open,
    /// Its block was removed by a committed entry.
    Removed,
    /// Of an older stamp, or half-written and abandoned, while the block is complete.
    Stale,
    /// Damaged, or of the wrong length.
    Corrupt,
    /// Good after all: only while it moves over.
    Good,
}

/// Judges a replica by what the namespace says.
#[must_use]
pub fn classify(odd: &Odd, block: BlockId, names: &dyn Names) -> Class {
    let Some(facts) = names.facts(block) else {
        // Ids below the first were never given out: nobody removed such a block.
        let removed = (BlockId::FIRST..names.next_block()).contains(&block);
        return if removed || base::mutated!(Sc73UnknownIsGone) { Class::Removed } else { Class::Unknown };
    };
    if odd.stamp > facts.stamp {
        // Of an open block: a pipeline that is not in the log yet.
        return if facts.committed { Class::Unknown } else { Class::Open };
    }
    if odd.marked || odd.state == ReplicaState::Corrupt {
        return Class::Corrupt;
    }
    // Also one that fell out of the pipeline is kept until the block is whole: a recovery may need it.
    if !facts.committed {
        return Class::Open;
    }
    if odd.stamp < facts.stamp {
        return Class::Stale;
    }
    match odd.state {
        // Its last report is on its way.
        ReplicaState::BeingWritten => return Class::Open,
        ReplicaState::Finalized => {}
        _ => return Class::Stale,
    }
    if odd.len_bytes == facts.len_bytes { Class::Good } else { Class::Corrupt }
}

#[derive(Debug)]
struct Held {
    good: RoaringTreemap,
    /// Replicas that may be added before the bitmap is made as small as it can be.
    until_small: u64,
    /// Sum of the hashes of all replicas that the node says are finalised, good or not.
    hashes: Box<[u64; BUCKETS]>,
}

impl Held {
    /// Adds a good replica. Vectors grow by doubling, and what ids left behind stays half empty: once in a while all
    /// of them are copied to their length, which is a few bytes of copying for each replica.
    fn insert(&mut self, block: BlockId) {
        self.until_small -= u64::from(self.good.insert(key(block)));
        if self.until_small == 0 {
            self.good = self.good.clone();
            self.until_small = LEAST_GROWTH + self.good.len() / 8;
        }
    }
}

impl Default for Held {
    fn default() -> Self {
        Self { good: RoaringTreemap::new(), until_small: LEAST_GROWTH, hashes: Box::new([0; BUCKETS]) }
    }
}

/// All replicas.
#[derive(Debug, Default)]
pub struct Replicas {
    slots: Slots,
    held: Vec<Held>,
    odd: BTreeMap<(BlockId, StorageIndex), Odd>,
    odd_of_storage: BTreeSet<(StorageIndex, BlockId)>,
    unknown: usize,
}

/// Replicas that are added before a bitmap is made small.
const LEAST_GROWTH: u64 = 4096;
/// Replicas of blocks not known yet that are kept; beyond it the reporting storage must report again.
pub(super) const MAX_UNKNOWN: usize = if cfg!(test) { 1000 } else { 1 << 20 };

/// The table of unknown replicas is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFull;

// Bitmaps hold unsigned numbers; the order of signed ids is kept by flipping the sign bit.
const fn key(block: BlockId) -> u64 {
    (block.raw() as u64) ^ (1 << 63)
}
const fn block_of(key: u64) -> BlockId {
    BlockId::from_raw((key ^ (1 << 63)) as i64)
}

/// Memory of a bitmap: two bytes for each block where they are rare, else a bit for each id.
fn bytes_of(blocks: &RoaringTreemap) -> usize {
    let of_one = |bitmap: &roaring::RoaringBitmap| {
        let statistics = bitmap.statistics();
        let containers = statistics.n_containers as usize * 32;
        // The crate counts four bytes for each place of an array; they are of two.
        let bytes = statistics.n_bytes_array_containers / 2;
        let bitsets = u64::from(statistics.n_bitset_containers) * 8192;
        containers + (bytes + bitsets + statistics.n_bytes_run_containers) as usize
    };
    blocks.bitmaps().map(|(_, bitmap)| of_one(bitmap)).sum()
}

impl Replicas {
    fn held_mut(&mut self, storage: StorageIndex) -> &mut Held {
        let place = storage.0 as usize;
        if self.held.len() <= place {
            self.held.resize_with(place + 1, Held::default);
        }
        &mut self.held[place]
    }

    fn count_hash(&mut self, storage: StorageIndex, replica: &Reported, add: bool) {
        if replica.state != ReplicaState::Finalized {
            return;
        }
        let hash = replica_hash(replica.block, replica.stamp, replica.len_bytes);
        let bucket = &mut self.held_mut(storage).hashes[replica.block.bucket() as usize];
        *bucket = if add { bucket.wrapping_add(hash) } else { bucket.wrapping_sub(hash) };
    }

    /// What the node is believed to hold of this block on this storage.
    fn believed(&self, block: BlockId, storage: StorageIndex, names: &dyn Names) -> Option<Reported> {
        if let Some(odd) = self.odd.get(&(block, storage)) {
            return Some(Reported { block, stamp: odd.stamp, len_bytes: odd.len_bytes, state: odd.state });
        }
        if !self.slots.contains(block, storage) {
            return None;
        }
        let facts = names.facts(block)?;
        Some(Reported { block, stamp: facts.stamp, len_bytes: facts.len_bytes, state: ReplicaState::Finalized })
    }

    /// Takes in what a node says of one replica.
    ///
    /// # Errors
    /// `UnknownFull`; nothing is changed then.
    pub fn report(&mut self, storage: StorageIndex, replica: Reported, names: &dyn Names) -> Result<(), UnknownFull> {
        // A node that restarts has forgotten what it or a reader found; the same replica is no better for it.
        let is_same = |odd: &&Odd| odd.stamp == replica.stamp && !base::mutated!(Sc66MarkIsForgotten);
        let known = self.odd.get(&(replica.block, storage)).filter(is_same);
        let marked = known.is_some_and(|odd| odd.marked || odd.state == ReplicaState::Corrupt);
        let odd = Odd { stamp: replica.stamp, len_bytes: replica.len_bytes, state: replica.state, marked };
        let class = classify(&odd, replica.block, names);
        let not_known = class == Class::Unknown && !self.odd.contains_key(&(replica.block, storage));
        if not_known && self.unknown >= MAX_UNKNOWN && self.count_unknown(names) >= MAX_UNKNOWN {
            return Err(UnknownFull);
        }
        self.remove(storage, replica.block, names);
        self.count_hash(storage, &replica, true);
        self.place(storage, replica.block, odd, class);
        Ok(())
    }

    /// Counts anew: the counter says "at most", because a replica that came as unknown may be known by now.
    fn count_unknown(&mut self, names: &dyn Names) -> usize {
        let unknown = |(block, _): &(BlockId, StorageIndex), odd: &Odd| classify(odd, *block, names) == Class::Unknown;
        self.unknown = self.odd.iter().filter(|(at, odd)| unknown(at, odd)).count();
        self.unknown
    }

    fn place(&mut self, storage: StorageIndex, block: BlockId, odd: Odd, class: Class) {
        if class == Class::Good {
            self.slots.insert(block, storage);
            self.held_mut(storage).insert(block);
            return;
        }
        self.unknown += usize::from(class == Class::Unknown);
        self.odd.insert((block, storage), odd);
        self.odd_of_storage.insert((storage, block));
    }

    fn take_odd(&mut self, storage: StorageIndex, block: BlockId) -> Option<Odd> {
        let odd = self.odd.remove(&(block, storage))?;
        self.odd_of_storage.remove(&(storage, block));
        Some(odd)
    }

    /// The node says that the replica is gone. False if none was known.
    pub fn remove(&mut self, storage: StorageIndex, block: BlockId, names: &dyn Names) -> bool {
        let Some(believed) = self.believed(block, storage, names) else { return false };
        self.count_hash(storage, &believed, false);
        if self.take_odd(storage, block).is_none() {
            self.slots.remove(block, storage);
            self.held_mut(storage).good.remove(key(block));
        }
        true
    }

    /// The namespace changed its mind about a block: `before` is what it said until now.
    pub fn reconsider(&mut self, block: BlockId, before: Option<Facts>, names: &dyn Names) {
        let now = names.facts(block);
        if before == now {
            return;
        }
        if let Some(before) = before {
            for storage in self.slots.of(block) {
                self.slots.remove(block, storage);
                self.held_mut(storage).good.remove(key(block));
                let odd = Odd {
                    stamp: before.stamp,
                    len_bytes: before.len_bytes,
                    state: ReplicaState::Finalized,
                    marked: false,
                };
                self.place(storage, block, odd, classify(&odd, block, names));
            }
        }
        for (storage, odd) in self.odd_of(block) {
            let class = classify(&odd, block, names);
            if class == Class::Good {
                self.take_odd(storage, block);
                self.place(storage, block, odd, class);
            }
        }
    }

    /// A reader found this replica damaged. False if it is not known as good.
    pub fn mark_corrupt(&mut self, storage: StorageIndex, block: BlockId, names: &dyn Names) -> bool {
        let Some(facts) = names.facts(block).filter(|_| self.slots.contains(block, storage)) else { return false };
        self.slots.remove(block, storage);
        self.held_mut(storage).good.remove(key(block));
        let odd = Odd { stamp: facts.stamp, len_bytes: facts.len_bytes, state: ReplicaState::Finalized, marked: true };
        self.place(storage, block, odd, Class::Corrupt);
        true
    }

    /// Its node has read this replica whole and found it sound: the mark goes. Only if it is the replica that is known
    /// here: what the node says of others must not bring back what a newer report took away.
    pub fn verified(&mut self, storage: StorageIndex, replica: &Reported, names: &dyn Names) -> bool {
        let same = |odd: &Odd| {
            (odd.stamp, odd.len_bytes, odd.state) == (replica.stamp, replica.len_bytes, replica.state)
                && odd.state == ReplicaState::Finalized
        };
        let known = self.odd.get(&(replica.block, storage)).copied();
        let Some(odd) = known.filter(|odd| odd.marked && same(odd)) else { return false };
        let odd = Odd { marked: false, ..odd };
        self.take_odd(storage, replica.block);
        self.place(storage, replica.block, odd, classify(&odd, replica.block, names));
        true
    }

    /// Is the replica on this storage a finalised one, good or not, as far as is known?
    #[must_use]
    pub fn is_final(&self, block: BlockId, storage: StorageIndex) -> bool {
        let odd = self.odd.get(&(block, storage));
        odd.map_or_else(|| self.is_good(block, storage), |odd| odd.state == ReplicaState::Finalized)
    }
    /// Replicas of a storage that bucket hashes do not cover: half-written or found damaged by their node.
    #[must_use]
    pub fn not_final_on(&self, storage: StorageIndex) -> BTreeSet<BlockId> {
        let all = (storage, BlockId::from_raw(i64::MIN))..=(storage, BlockId::from_raw(i64::MAX));
        let odd = self.odd_of_storage.range(all).map(|(_, block)| *block);
        odd.filter(|block| !self.is_final(*block, storage)).collect()
    }

    /// Storages with a good replica.
    #[must_use]
    pub fn good(&self, block: BlockId) -> Vec<StorageIndex> {
        self.slots.of(block)
    }
    /// As [`Replicas::good`], for passes over very many blocks.
    pub fn each_good(&self, block: BlockId) -> impl Iterator<Item = StorageIndex> {
        self.slots.each(block)
    }
    /// Is there a good replica on this storage?
    #[must_use]
    pub fn is_good(&self, block: BlockId, storage: StorageIndex) -> bool {
        self.slots.contains(block, storage)
    }
    /// The odd replicas of a block.
    #[must_use]
    pub fn odd_of(&self, block: BlockId) -> Vec<(StorageIndex, Odd)> {
        let range = (block, StorageIndex(0))..=(block, StorageIndex(u32::MAX));
        self.odd.range(range).map(|((_, storage), odd)| (*storage, *odd)).collect()
    }
    /// One odd replica.
    #[must_use]
    pub fn odd_at(&self, block: BlockId, storage: StorageIndex) -> Option<Odd> {
        self.odd.get(&(block, storage)).copied()
    }
    /// Up to `limit` odd replicas after a block, for scans.
    #[must_use]
    pub fn odd_blocks_after(&self, after: Option<BlockId>, limit: usize) -> Vec<BlockId> {
        let from = after.map_or(BlockId::from_raw(i64::MIN), BlockId::next);
        let mut blocks: Vec<_> = self.odd.range((from, StorageIndex(0))..).map(|((b, _), _)| *b).take(limit).collect();
        blocks.dedup();
        blocks
    }
    /// Memory of the large parts, in bytes.
    #[must_use]
    pub fn memory_by_part(&self) -> Vec<(&'static str, u64)> {
        let good: usize = self.held.iter().map(|held| bytes_of(&held.good)).sum();
        let hashes = self.held.len() * (size_of::<Held>() + BUCKETS * size_of::<u64>());
        // A node of these trees is two thirds full.
        let odd = self.odd.len() * (size_of::<((BlockId, StorageIndex), Odd)>() + size_of::<(StorageIndex, BlockId)>());
        vec![
            ("replica_slots", self.slots.bytes()),
            ("replica_bitmaps", good as u64),
            ("bucket_hashes", hashes as u64),
            ("odd_replicas", (odd * 3 / 2) as u64),
        ]
    }
    /// Up to `limit` odd replicas of a storage, by block.
    #[must_use]
    pub fn odd_on(&self, storage: StorageIndex, limit: usize) -> Vec<BlockId> {
        let all = (storage, BlockId::from_raw(i64::MIN))..=(storage, BlockId::from_raw(i64::MAX));
        self.odd_of_storage.range(all).map(|(_, block)| *block).take(limit).collect()
    }
    /// Blocks of which a good replica is known.
    #[must_use]
    pub fn known_blocks(&self) -> u64 {
        self.slots.len() as u64
    }
    /// Good replicas of a storage.
    #[must_use]
    pub fn count_on(&self, storage: StorageIndex) -> u64 {
        self.held.get(storage.0 as usize).map_or(0, |held| held.good.len())
    }
    /// Up to `limit` blocks with a good replica on a storage, after a block.
    #[must_use]
    pub fn blocks_on(&self, storage: StorageIndex, after: Option<BlockId>, limit: usize) -> Vec<BlockId> {
        let Some(held) = self.held.get(storage.0 as usize) else { return Vec::new() };
        let mut all = held.good.iter();
        if let Some(after) = after {
            all.advance_to(key(after).saturating_add(1));
        }
        all.take(limit).map(block_of).collect()
    }
    /// Hash of each bucket of what a storage is believed to hold.
    #[must_use]
    pub fn bucket_hash(&self, storage: StorageIndex, bucket: usize) -> u64 {
        self.held.get(storage.0 as usize).and_then(|held| held.hashes.get(bucket)).copied().unwrap_or(0)
    }
    /// Every block, good or odd, believed to be on a storage in these buckets. One pass over its blocks.
    #[must_use]
    pub fn in_buckets(&self, storage: StorageIndex, buckets: &BTreeSet<u32>) -> BTreeSet<BlockId> {
        let good = self.held.get(storage.0 as usize).into_iter().flat_map(|held| held.good.iter().map(block_of));
        let least = (storage, BlockId::from_raw(i64::MIN));
        let odd = self.odd_of_storage.range(least..).take_while(|(s, _)| *s == storage).map(|(_, block)| *block);
        good.chain(odd).filter(|block| buckets.contains(&block.bucket())).collect()
    }
}
