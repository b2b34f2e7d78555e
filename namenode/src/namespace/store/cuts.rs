//! Blocks that a truncate cut off a file, and that snapshots still see. As a ghost is an entry that is gone, a cut is a
//! block that is gone from its place in the file:
//!
//! ```text
//!   file        block 0 ─▶ block 1 ─▶ block 2'                    as it is now
//!   cuts                              (2, died 7) ─▶ block 2      seen by snapshot s if  born < s ≤ died
//!                                     (3, died 7) ─▶ block 3
//! ```
//!
//! What a snapshot sees of a file: the first blocks of the file itself, then cuts, as many together as its state says.
//! A block belongs to the file from the moment it has a length to the moment it is cut off, so the states that have it
//! follow each other. Only the last block of a file ever gets another length; one that a state has with something behind
//! it does not grow again (see [`Store::may_grow`]), so that each state tells the length of its last block by itself.

mod first;

use std::ops::Bound;

use super::history::{Version, VersionKey};
use super::records::{Block, flags, rare};
use super::sharded::ShardKey;
use super::{NONE, Store, hash_kind};
use crate::namespace::hash::Mixer;
use first::{FirstCuts, Span};

/// Where a block was cut off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CutKey {
    /// Id of the file.
    pub(crate) inode: u64,
    /// Number of the block in it, from 0.
    pub(crate) position: u64,
    /// The newest snapshot that may see it.
    pub(crate) died: u64,
}
impl CutKey {
    /// The first and the last one that a file can have.
    pub(crate) const fn all_of(inode: u64) -> (Self, Self) {
        (Self { inode, position: 0, died: 0 }, Self { inode, position: u64::MAX, died: u64::MAX })
    }
}
impl ShardKey for CutKey {
    fn spread(&self) -> usize {
        self.inode as usize
    }
}

/// A block that was cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// Where it is kept. Local: hash and images name its id.
    pub(crate) slot: u32,
    /// Snapshots up to this one do not see it.
    pub(crate) born: u64,
    /// Id of the directory whose snapshots see it; 0 for any.
    pub(crate) root: u64,
}

/// A block as a snapshot sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PastBlock {
    pub(crate) slot: u32,
    pub(crate) offset_bytes: u64,
    /// Not more than the block has.
    pub(crate) len_bytes: u64,
}

/// How many of the first blocks of a file a state has, and whether some snapshot sees the state.
struct State<'s> {
    snapshot: u64,
    shared: u64,
    seen: bool,
    version: &'s Version,
}

/// The newest state that has not a block, by the block's position: the block belongs to the file since then.
struct Births {
    /// Each state that shares fewer blocks than all newer ones, the newest first.
    fewer: Vec<(u64, u64)>,
}

impl Births {
    fn new(states: &[State<'_>]) -> Self {
        let mut fewer: Vec<(u64, u64)> = Vec::new();
        for state in states.iter().rev() {
            if fewer.last().is_none_or(|(shared, _)| state.shared < *shared) {
                fewer.push((state.shared, state.snapshot));
            }
        }
        Self { fewer }
    }
    /// The snapshot of that state; 0: every state has the block.
    fn of(&self, position: u64) -> u64 {
        let newer = self.fewer.partition_point(|(shared, _)| *shared > position);
        self.fewer.get(newer).map_or(0, |(_, snapshot)| *snapshot)
    }
}

impl Store {
    /// Cuts of a file, by position.
    pub(crate) fn cuts_of(&self, inode: u64) -> impl DoubleEndedIterator<Item = (&CutKey, &Cut)> {
        let (from, to) = CutKey::all_of(inode);
        self.cuts.range(inode as usize, (Bound::Included(from), Bound::Included(to)))
    }
    /// Slots of the blocks that were cut off a file and are kept.
    pub(crate) fn cut_slots(&self, slot: u32) -> impl Iterator<Item = u32> {
        let inode = self.inode(slot);
        let some = inode.has_rare(rare::CUTS);
        let cuts = some.then(|| self.cuts_of(inode.id)).into_iter().flatten();
        cuts.map(|(_, cut)| cut.slot)
    }
    /// Cuts that a snapshot sees, by position.
    fn cuts_seen(&self, inode: u64, snapshot: u64) -> impl Iterator<Item = (u64, &Cut)> {
        let sees = move |key: &CutKey, cut: &Cut| {
            #[cfg(test)]
            super::looks::note();
            cut.born < snapshot && snapshot <= key.died
        };
        self.cuts_of(inode).filter(move |(key, cut)| sees(key, cut)).map(|(key, cut)| (key.position, cut))
    }

    /// The states of a file, oldest first.
    fn states_of<'s>(&'s self, slot: u32) -> Vec<State<'s>> {
        let inode = self.inode(slot);
        if !inode.has_rare(rare::VERSIONS) {
            return Vec::new();
        }
        let mut first_cut = FirstCuts::new(self.spans_of(slot));
        let mut before = 0;
        let state = |(key, version): (&VersionKey, &'s std::sync::Arc<Version>)| {
            let position = first_cut.at(key.snapshot);
            let shared = position.map_or(version.blocks, |position| position.min(version.blocks));
            let seen = self.has_snapshot(version.root, before, key.snapshot);
            before = key.snapshot;
            State { snapshot: key.snapshot, shared, seen, version }
        };
        self.versions_of(inode.id).map(state).collect()
    }
    fn versions_of(&self, inode: u64) -> impl Iterator<Item = (&VersionKey, &std::sync::Arc<Version>)> {
        let (from, to) = (VersionKey { inode, snapshot: 0 }, VersionKey { inode, snapshot: u64::MAX });
        self.versions.range(inode as usize, (Bound::Included(from), Bound::Included(to)))
    }
    fn spans_of(&self, slot: u32) -> impl Iterator<Item = Span> {
        let inode = self.inode(slot);
        let cuts = inode.has_rare(rare::CUTS).then(|| self.cuts_of(inode.id));
        let span = |(key, cut): (&CutKey, &Cut)| Span { position: key.position, born: cut.born, died: key.died };
        cuts.into_iter().flatten().map(span)
    }
    /// What a look at all states of a file costs, in records: they, and the cuts.
    pub(crate) fn records_of_past(&self, slot: u32) -> usize {
        let inode = self.inode(slot);
        let versions = if inode.has_rare(rare::VERSIONS) { self.versions_of(inode.id).count() } else { 0 };
        versions + self.spans_of(slot).count()
    }

    /// Bytes of a block of a file that snapshots see. `offset_bytes` is where the block begins.
    pub(crate) fn bytes_needed(&self, slot: u32, position: u64, offset_bytes: u64) -> u64 {
        let newest = self.cover_of_inode(slot).newest;
        if newest != 0 && self.version_at(self.inode(slot).id, newest).is_none() {
            // It did not change since: what is there now is what the snapshot sees.
            return u64::MAX;
        }
        let len_bytes = self.chain(slot).nth(position as usize).map_or(0, |block| self.block(block).len_bytes);
        let of_state = |state: State<'_>| match state.version.blocks.checked_sub(position + 1) {
            Some(0) => state.version.len_bytes.saturating_sub(offset_bytes),
            _ => len_bytes,
        };
        let has_it = |state: &State<'_>| state.seen && position < state.shared;
        self.states_of(slot).into_iter().filter(has_it).map(of_state).max().unwrap_or(0)
    }
    /// May the last block of a file get longer? Not if a state of the past has blocks behind it.
    pub(crate) fn may_grow(&self, slot: u32) -> bool {
        let count = self.extent(slot).count;
        let behind = |state: &State<'_>| state.seen && state.shared == count && state.version.blocks > count;
        !self.states_of(slot).iter().any(behind)
    }

    /// The blocks of a file as a snapshot sees them.
    pub(crate) fn blocks_at(&self, slot: u32, snapshot: u64) -> Vec<PastBlock> {
        let id = self.inode(slot).id;
        let Some(version) = self.version_at(id, snapshot) else {
            let visible = self.chain(slot).filter(|block| self.block(*block).is_visible());
            return self.placed(visible, self.extent(slot).len_bytes);
        };
        let cuts: Vec<(u64, u32)> = self.cuts_seen(id, snapshot).map(|(position, cut)| (position, cut.slot)).collect();
        let own = cuts.first().map_or(version.blocks, |(position, _)| (*position).min(version.blocks));
        let own = self.chain(slot).take(own as usize);
        self.placed(own.chain(cuts.iter().map(|(_, block)| *block)).take(version.blocks as usize), version.len_bytes)
    }
    /// Blocks one behind the other, the last one cut to the length of the whole.
    fn placed(&self, blocks: impl Iterator<Item = u32>, whole_bytes: u64) -> Vec<PastBlock> {
        let mut offset_bytes = 0;
        let place = |slot: u32| {
            let len_bytes = self.block(slot).len_bytes.min(whole_bytes.saturating_sub(offset_bytes));
            let placed = PastBlock { slot, offset_bytes, len_bytes };
            offset_bytes += len_bytes;
            placed
        };
        blocks.map(place).filter(|block| block.len_bytes > 0).collect()
    }

    /// Takes all blocks of a file behind the first `keep` away. What snapshots see stays as cuts: their state was kept
    /// before ([`Store::keep_version`]). Returns the other ones, in order.
    pub(crate) fn cut_off(&mut self, slot: u32, keep: u64) -> Vec<Block> {
        let behind: Vec<u32> = self.chain(slot).skip(keep as usize).collect();
        let fates: Vec<Option<(CutKey, Cut)>> = self.fates(slot, keep, &behind);
        self.reweigh(slot, |store| store.shorten(slot, keep));
        let mut gone = Vec::new();
        for (block, fate) in behind.into_iter().zip(fates) {
            match fate {
                Some((key, cut)) => self.put_cut(key, cut),
                None => gone.push(self.drop_block(block)),
            }
        }
        gone
    }
    /// Who needs blocks that are about to be cut off?
    fn fates(&self, slot: u32, keep: u64, behind: &[u32]) -> Vec<Option<(CutKey, Cut)>> {
        let cover = self.cover_of_inode(slot);
        let states = if cover.newest == 0 { Vec::new() } else { self.states_of(slot) };
        let born_after = Births::new(&states);
        let inode = self.inode(slot).id;
        let fate = |(position, block): (u64, &u32)| {
            let died = states.last()?.snapshot;
            let born = born_after.of(position);
            let cut = Cut { slot: *block, born, root: cover.root };
            self.has_snapshot(cover.root, born, died).then_some((CutKey { inode, position, died }, cut))
        };
        (keep..).zip(behind).map(fate).collect()
    }
    /// Ends the chain of a file after its first blocks; those behind belong to nobody then.
    fn shorten(&mut self, slot: u32, keep: u64) {
        let last = keep.checked_sub(1).and_then(|at| self.chain(slot).nth(at as usize)).unwrap_or(NONE);
        let len_bytes = self.chain(slot).take(keep as usize).map(|block| self.block(block).len_bytes).sum();
        if last == NONE {
            self.inodes.get_mut(slot).content = NONE;
        } else {
            self.blocks.get_mut(last).set_next(NONE);
        }
        self.set_extent(slot, super::Extent { last, count: keep, len_bytes });
    }
    /// Keeps a block, which is in no chain, as a cut.
    fn put_cut(&mut self, key: CutKey, cut: Cut) {
        let before = self.block_hash(cut.slot);
        let record = self.blocks.get_mut(cut.slot);
        record.set_next(NONE);
        record.set_flag(flags::CUT);
        self.hash = self.hash.wrapping_sub(before).wrapping_add(self.block_hash(cut.slot));
        self.note_cut(key, cut);
    }
    fn note_cut(&mut self, key: CutKey, cut: Cut) {
        if let Some(slot) = self.slot(key.inode) {
            self.inodes.get_mut(slot).rare |= rare::CUTS;
        }
        self.hash = self.hash.wrapping_add(cut_hash(&key, &cut, self.block(cut.slot).id));
        self.cuts.insert(key, cut);
    }
    /// Adds a block of an image that was cut off. Its cut follows ([`Store::load_cut`]).
    pub(crate) fn load_cut_block(&mut self, inode: u32, block: Block, homes: &[u32], digest: Option<[u8; 16]>) {
        self.insert_block(inode, block, homes, digest);
    }
    /// Says where a block was cut off that is there already. False if that cannot be.
    pub(crate) fn load_cut(&mut self, key: CutKey, cut: Cut) -> bool {
        let block = self.block(cut.slot);
        let new = block.is_cut() && self.slot(key.inode) == Some(block.inode) && self.cuts.get(&key).is_none();
        if new {
            self.note_cut(key, cut);
        }
        new
    }
    /// Removes a cut, and its block.
    pub(super) fn drop_cut(&mut self, key: CutKey) -> Option<Block> {
        let cut = self.cuts.remove(&key)?;
        self.hash = self.hash.wrapping_sub(cut_hash(&key, &cut, self.block(cut.slot).id));
        if self.cuts_of(key.inode).next().is_none()
            && let Some(slot) = self.slot(key.inode)
        {
            self.inodes.get_mut(slot).rare &= !rare::CUTS;
        }
        Some(self.drop_block(cut.slot))
    }
    /// Removes up to `most` of the cuts of a file that goes for good, with their blocks.
    pub(crate) fn drop_cuts_of(&mut self, slot: u32, most: usize) -> Vec<Block> {
        if !self.inode(slot).has_rare(rare::CUTS) {
            return Vec::new();
        }
        let keys: Vec<CutKey> = self.cuts_of(self.inode(slot).id).take(most).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.drop_cut(key)).collect()
    }
}

fn cut_hash(key: &CutKey, cut: &Cut, block: i64) -> u64 {
    let mut mixer = Mixer::new(hash_kind::CUT);
    mixer.word(key.inode).word(key.position).word(key.died);
    mixer.word(block.cast_unsigned()).word(cut.born).word(cut.root).finish()
}
