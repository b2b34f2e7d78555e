//! What snapshots see: entries that are gone from the tree, and attributes as they were.
//!
//! ```text
//!   entry (directory, name) ──▶ inode      in the tree:  seen by snapshot s if  born < s
//!   ghost (directory, name, died) ─▶ inode, born          seen by snapshot s if  born < s ≤ died
//!   version (inode, key): attributes, number of blocks    of snapshot s: the first with key ≥ s, else what is now
//! ```
//!
//! Snapshot ids rise through the whole cluster, so their order is the order of time. `born` of an entry is the newest
//! snapshot that covered its directory when it was made: the entry is younger. Making a snapshot costs nothing;
//! the first change of an inode after it keeps the state before (HDFS keeps whole diff lists per directory; here a
//! directory with a million entries that loses one keeps one ghost).
//!
//! An inode is covered by the snapshots of a directory above it, and by those that see a ghost of it or of a
//! directory above it: so a tree that was moved out of a covered directory is still kept (scar SC-10).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::attributes::{Acl, Xattr};
use super::cuts::CutKey;
use super::records::{Block, Inode, Kind, flags, rare};
use super::sharded::{SHARDS, ShardKey};
use super::{NONE, Store, hash_kind};
use crate::namespace::hash::Mixer;

/// A snapshot of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: u64,
    pub(crate) name: Box<str>,
    pub(crate) created_ns: i64,
}

/// Where a ghost is. The order is that of listings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GhostKey {
    /// Id of the directory.
    pub(crate) directory: u64,
    pub(crate) name: Box<str>,
    /// The newest snapshot that sees it.
    pub(crate) died: u64,
}
impl ShardKey for GhostKey {
    fn spread(&self) -> usize {
        self.directory as usize
    }
}

/// An entry that only snapshots see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ghost {
    /// Id of the inode.
    pub(crate) inode: u64,
    /// Snapshots up to this one do not see it.
    pub(crate) born: u64,
    /// Id of the directory whose snapshots see it; 0 for any.
    pub(crate) root: u64,
}

/// How far everything that is or was in a directory was looked through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// Entries up to this name are done.
    pub(crate) name: Box<str>,
    /// Of this name, ghosts up to the one that died then.
    pub(crate) died: u64,
}

impl Place {
    /// Everything of a name is done.
    pub(crate) fn after_name(name: &str) -> Self {
        Self { name: name.into(), died: u64::MAX }
    }
}

/// An entry or a ghost, as one snapshot sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glimpse<'s> {
    pub(crate) name: &'s str,
    /// 0 for an entry.
    died: u64,
    /// The inode, if the snapshot sees it.
    pub(crate) seen: Option<u32>,
}

impl Glimpse<'_> {
    /// Where a look ends that ended with it.
    pub(crate) fn place(&self) -> Place {
        Place { name: self.name.into(), died: self.died }
    }
}

/// Which state of an inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct VersionKey {
    pub(crate) inode: u64,
    /// The newest snapshot that sees it.
    pub(crate) snapshot: u64,
}
impl ShardKey for VersionKey {
    fn spread(&self) -> usize {
        self.inode as usize
    }
}

/// A state of an inode.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Version {
    /// Its fields; slots in it mean nothing.
    pub(crate) inode: Inode,
    /// Blocks with a length: the first ones of the file, and cuts behind them (see [`super::cuts`]).
    pub(crate) blocks: u64,
    pub(crate) len_bytes: u64,
    pub(crate) xattrs: Option<Arc<[Xattr]>>,
    pub(crate) acl: Option<Arc<Acl>>,
    /// As in [`Ghost`].
    pub(crate) root: u64,
}

/// The newest snapshot that sees something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cover {
    /// 0: none.
    pub(crate) newest: u64,
    /// Id of the directory with the snapshot; 0 if several see it.
    pub(crate) root: u64,
}

impl Cover {
    fn add(&mut self, snapshot: u64, root: u64) {
        let several = self.newest != 0 && self.root != root;
        self.newest = self.newest.max(snapshot);
        self.root = if several { 0 } else { root };
    }
}

/// Where the search for what no snapshot sees any more stands: part of the state, so that its steps are bounded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Purge {
    pub(crate) phase: Phase,
    pub(crate) shard: usize,
    /// The last key that was looked at; zeros and no name before the first.
    pub(crate) number: u64,
    pub(crate) name: Box<str>,
    pub(crate) snapshot: u64,
    /// Of a cut: the number of its block.
    pub(crate) position: u64,
}

/// What a purge step did.
#[derive(Debug, Default)]
pub(crate) struct Purged {
    /// Where to go on.
    pub(crate) next: Option<Purge>,
    /// Pieces of history that were looked at.
    pub(crate) looked_at: usize,
    /// Slots that nothing holds any more.
    pub(crate) released: Vec<u32>,
    /// Blocks that nothing needs any more.
    pub(crate) blocks: Vec<Block>,
}

/// What is looked through, in this order. The numbers are durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Versions = 1,
    Births = 2,
    Ghosts = 3,
    /// Only if there are any.
    Cuts = 4,
}

impl Purge {
    /// From the beginning.
    pub(crate) fn start() -> Self {
        Self { phase: Phase::Versions, shard: 0, number: 0, name: "".into(), snapshot: 0, position: 0 }
    }
    /// After a page of a shard, which was its last one or not.
    fn next(&self, last_page: bool, last: Option<(u64, Box<str>, u64)>, cuts: bool) -> Option<Self> {
        if !last_page {
            let (number, name, snapshot) = last?;
            return Some(Self { number, name, snapshot, ..self.clone() });
        }
        let (phase, shard) = match (self.phase, self.shard + 1) {
            (phase, shard) if shard < SHARDS => (phase, shard),
            (Phase::Versions, _) => (Phase::Births, 0),
            (Phase::Births, _) => (Phase::Ghosts, 0),
            (Phase::Ghosts, _) if cuts => (Phase::Cuts, 0),
            (Phase::Ghosts | Phase::Cuts, _) => return None,
        };
        Some(Self { phase, shard, ..Self::start() })
    }
}

impl Store {
    /// Snapshots of a directory, oldest first.
    pub(crate) fn snapshots_of(&self, root: u64) -> &[Snapshot] {
        self.snapshots.get(&root).map_or(&[], |snapshots| snapshots)
    }
    /// Is there a snapshot in (`after`, `until`]? `root` 0 asks for those of any directory.
    pub(crate) fn has_snapshot(&self, root: u64, after: u64, until: u64) -> bool {
        let within = |snapshots: &Vec<Snapshot>| {
            let next = snapshots.partition_point(|one| one.id <= after);
            snapshots.get(next).is_some_and(|one| one.id <= until)
        };
        if root == 0 { self.snapshots.values().any(within) } else { self.snapshots.get(&root).is_some_and(within) }
    }
    fn newest_within(&self, root: u64, after: u64, until: u64) -> Option<u64> {
        let newest = |snapshots: &Vec<Snapshot>| {
            let next = snapshots.partition_point(|one| one.id <= until);
            next.checked_sub(1).and_then(|last| snapshots.get(last)).map(|one| one.id).filter(|id| *id > after)
        };
        if root == 0 {
            self.snapshots.values().filter_map(newest).max()
        } else {
            self.snapshots.get(&root).and_then(newest)
        }
    }

    /// When an entry was made: the newest snapshot that does not see it.
    pub(crate) fn born_of(&self, entry: u32) -> u64 {
        let record = self.inode(entry);
        if record.has_rare(rare::BORN) { self.born.get(&record.id).copied().unwrap_or(0) } else { 0 }
    }
    /// Sets it; 0 for "all see it".
    pub(crate) fn set_born(&mut self, entry: u32, born: u64) {
        let id = self.inode(entry).id;
        let before = if born == 0 { self.born.remove(&id) } else { self.born.insert(id, born) };
        let record = self.inodes.get_mut(entry);
        record.rare = if born == 0 { record.rare & !rare::BORN } else { record.rare | rare::BORN };
        self.hash = self.hash.wrapping_sub(born_hash(id, before.unwrap_or(0))).wrapping_add(born_hash(id, born));
    }

    /// The snapshots that see what is in a directory, or an inode itself: by directories above and by ghosts.
    /// `born` is when the thing in question was made.
    pub(crate) fn cover(&self, from: u32, born: u64) -> Cover {
        let mut cover = Cover::default();
        if !self.snapshots.is_empty() {
            self.cover_from(from, born, &mut cover);
        }
        cover
    }
    fn cover_from(&self, from: u32, mut born: u64, cover: &mut Cover) {
        let mut at = from;
        while at != NONE {
            let inode = self.inode(at);
            if inode.has(flags::SNAPSHOTTABLE)
                && let Some(newest) = self.newest_within(inode.id, born, u64::MAX)
            {
                cover.add(newest, inode.id);
            }
            if inode.has_rare(rare::GHOSTS) {
                for key in self.ghosts_of.get(inode.id).into_iter().flatten() {
                    let Some(ghost) = self.ghosts.get(key) else { continue };
                    if let Some(newest) = self.newest_within(ghost.root, born.max(ghost.born), key.died) {
                        cover.add(newest, ghost.root);
                    }
                }
            }
            born = born.max(self.born_of(at));
            at = inode.parent;
        }
    }
    /// The snapshots that see an inode, by all its names.
    pub(super) fn cover_of_inode(&self, slot: u32) -> Cover {
        let mut cover = self.cover(slot, 0);
        for link in self.links_of(slot) {
            self.cover_from(self.inode(*link).parent, self.born_of(*link), &mut cover);
        }
        cover
    }

    /// Keeps the state of an inode for the snapshots that see it, if they do not have it yet. Called before each
    /// change.
    pub(crate) fn keep_version(&mut self, slot: u32) {
        if self.snapshots.is_empty() || self.inode(slot).kind == Kind::Link {
            return;
        }
        let cover = self.cover_of_inode(slot);
        let id = self.inode(slot).id;
        if cover.newest == 0 || self.version_at(id, cover.newest).is_some() {
            return;
        }
        let version = Version {
            inode: *self.inode(slot),
            blocks: self.chain(slot).filter(|block| self.block(*block).is_visible()).count() as u64,
            len_bytes: self.extent(slot).len_bytes,
            xattrs: self.xattrs.get(&id).cloned(),
            acl: self.acls.get(&id).cloned(),
            root: cover.root,
        };
        self.put_version(VersionKey { inode: id, snapshot: cover.newest }, version);
    }
    /// Adds a state.
    pub(crate) fn put_version(&mut self, key: VersionKey, version: Version) {
        if let Some(slot) = self.slot(key.inode) {
            self.inodes.get_mut(slot).rare |= rare::VERSIONS;
        }
        self.hash = self.hash.wrapping_add(version_hash(key, &version));
        self.versions.insert(key, Arc::new(version));
    }
    /// The state of an inode that a snapshot sees; `None` if it is as now.
    pub(crate) fn version_at(&self, inode: u64, snapshot: u64) -> Option<&Arc<Version>> {
        let keys = (
            Bound::Included(VersionKey { inode, snapshot }),
            Bound::Included(VersionKey { inode, snapshot: u64::MAX }),
        );
        self.versions.range(inode as usize, keys).next().map(|(_, version)| version)
    }
    fn drop_version(&mut self, key: VersionKey) {
        if let Some(version) = self.versions.remove(&key) {
            self.hash = self.hash.wrapping_sub(version_hash(key, &version));
        }
        // The flag must be what an image load would make it: decisions look at it.
        if self.version_at(key.inode, 0).is_none()
            && let Some(slot) = self.slot(key.inode)
        {
            self.inodes.get_mut(slot).rare &= !rare::VERSIONS;
        }
    }

    /// An entry is about to leave its directory. It becomes a ghost if a snapshot sees it.
    pub(crate) fn note_removal(&mut self, entry: u32) {
        if self.snapshots.is_empty() {
            return;
        }
        let (parent, born) = (self.inode(entry).parent, self.born_of(entry));
        let cover = self.cover(parent, born);
        if born != 0 {
            self.set_born(entry, 0);
        }
        if cover.newest == 0 {
            return;
        }
        let key = GhostKey { directory: self.inode(parent).id, name: self.name(entry).into(), died: cover.newest };
        let inode = self.inode(self.inode_of(entry)).id;
        let born = self.born_on_the_way(parent, born);
        self.put_ghost(key, Ghost { inode, born, root: cover.root });
    }
    /// When something was made that is in a directory, as snapshots see it: not before the directories on the way to it.
    /// Beyond a directory that has ghosts there are other ways.
    fn born_on_the_way(&self, directory: u32, mut born: u64) -> u64 {
        let mut at = directory;
        while at != NONE {
            let inode = self.inode(at);
            if inode.has(flags::SNAPSHOTTABLE) || inode.has_rare(rare::GHOSTS) {
                break;
            }
            born = born.max(self.born_of(at));
            at = inode.parent;
        }
        born
    }
    /// Adds a ghost.
    pub(crate) fn put_ghost(&mut self, key: GhostKey, ghost: Ghost) {
        if let Some(slot) = self.slot(ghost.inode) {
            self.inodes.get_mut(slot).rare |= rare::GHOSTS;
        }
        self.hash = self.hash.wrapping_add(ghost_hash(&key, &ghost));
        self.ghosts_of.get_or_default(ghost.inode).insert(key.clone());
        self.ghosts.insert(key, ghost);
    }
    /// The newest snapshot that sees an inode without a name.
    pub(crate) fn newest_ghost_of(&self, slot: u32) -> u64 {
        let keys = self.ghosts_of.get(self.inode(slot).id);
        keys.into_iter().flatten().map(|key| key.died).max().unwrap_or(0)
    }
    /// Removes a ghost; returns the slot of its inode if nothing holds that any more.
    fn drop_ghost(&mut self, key: &GhostKey) -> Option<u32> {
        let ghost = self.ghosts.remove(key)?;
        self.hash = self.hash.wrapping_sub(ghost_hash(key, &ghost));
        let left = self.ghosts_of.get_mut(ghost.inode)?;
        left.remove(key);
        if !left.is_empty() {
            return None;
        }
        self.ghosts_of.remove(ghost.inode);
        let slot = self.slot(ghost.inode)?;
        self.inodes.get_mut(slot).rare &= !rare::GHOSTS;
        self.inode(slot).has(flags::HELD).then_some(slot)
    }
    /// A directory goes for good: so does what was in it, `most` at a time. Returns how many went, and the slots that
    /// nothing holds any more.
    pub(crate) fn drop_ghosts_in(&mut self, directory: u64, most: usize) -> (usize, Vec<u32>) {
        let keys: Vec<GhostKey> = self.ghosts_in(directory, "").take(most).map(|(key, _)| key.clone()).collect();
        (keys.len(), keys.iter().filter_map(|key| self.drop_ghost(key)).collect())
    }
    /// An inode goes for good.
    pub(crate) fn drop_versions_of(&mut self, inode: u64) {
        let all = (
            Bound::Included(VersionKey { inode, snapshot: 0 }),
            Bound::Included(VersionKey { inode, snapshot: u64::MAX }),
        );
        let keys: Vec<VersionKey> = self.versions.range(inode as usize, all).map(|(key, _)| *key).collect();
        for key in keys {
            self.drop_version(key);
        }
    }
    /// Ghosts of a directory whose names are `from` or after it, by name.
    pub(crate) fn ghosts_in<'a>(
        &'a self,
        directory: u64,
        from: &str,
    ) -> impl Iterator<Item = (&'a GhostKey, &'a Ghost)> + use<'a> {
        let from = GhostKey { directory, name: from.into(), died: 0 };
        let end = GhostKey { directory: directory.saturating_add(1), name: "".into(), died: 0 };
        self.ghosts.range(directory as usize, (Bound::Included(from), Bound::Excluded(end)))
    }

    /// Adds a snapshot of a directory, newer than all.
    pub(crate) fn add_snapshot(&mut self, root: u64, snapshot: Snapshot) {
        self.hash = self.hash.wrapping_add(snapshot_hash(root, &snapshot));
        self.snapshot_names.entry(root).or_default().insert(snapshot.name.clone(), snapshot.id);
        self.snapshots.entry(root).or_default().push(snapshot);
    }
    /// Changes the name of a snapshot.
    pub(crate) fn rename_snapshot(&mut self, root: u64, id: u64, name: &str) {
        let Some(all) = self.snapshots.get_mut(&root) else { return };
        let Some(snapshot) = all.binary_search_by_key(&id, |one| one.id).ok().and_then(|at| all.get_mut(at)) else {
            return;
        };
        let before = snapshot_hash(root, snapshot);
        let old_name = std::mem::replace(&mut snapshot.name, name.into());
        self.hash = self.hash.wrapping_sub(before).wrapping_add(snapshot_hash(root, snapshot));
        let names = self.snapshot_names.entry(root).or_default();
        names.remove(&old_name);
        names.insert(name.into(), id);
    }
    /// Removes a snapshot. What only it saw is found by [`Store::purge`].
    pub(crate) fn remove_snapshot(&mut self, root: u64, id: u64) {
        let Some(all) = self.snapshots.get_mut(&root) else { return };
        let Ok(at) = all.binary_search_by_key(&id, |one| one.id) else { return };
        let gone = all.remove(at);
        if all.is_empty() {
            self.snapshots.remove(&root);
            self.snapshot_names.remove(&root);
        } else if let Some(names) = self.snapshot_names.get_mut(&root) {
            names.remove(&gone.name);
        }
        self.hash = self.hash.wrapping_sub(snapshot_hash(root, &gone));
    }
    /// The snapshot of a directory that is called so.
    pub(crate) fn snapshot_called(&self, root: u64, name: &str) -> Option<u64> {
        self.snapshot_names.get(&root)?.get(name).copied()
    }
    /// Snapshots of a directory by name, after a name.
    pub(crate) fn snapshots_by_name<'s>(
        &'s self,
        root: u64,
        after: &str,
    ) -> impl Iterator<Item = &'s Snapshot> + use<'s> {
        let names = self.snapshot_names.get(&root);
        let names = names.map(|names| names.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)));
        let all = self.snapshots_of(root);
        let of_id = move |id: u64| all.binary_search_by_key(&id, |one| one.id).ok().and_then(|at| all.get(at));
        names.into_iter().flatten().filter_map(move |(_, id)| of_id(*id))
    }

    /// Looks at up to `most` pieces of history from a place on, and removes what no snapshot sees any more.
    pub(crate) fn purge(&mut self, at: &Purge, most: usize) -> Purged {
        match at.phase {
            Phase::Versions => self.purge_versions(at, most),
            Phase::Births => self.purge_births(at, most),
            Phase::Ghosts => self.purge_ghosts(at, most),
            Phase::Cuts => self.purge_cuts(at, most),
        }
    }
    fn purge_versions(&mut self, at: &Purge, most: usize) -> Purged {
        let after =
            (at.number > 0 || at.snapshot > 0).then_some(VersionKey { inode: at.number, snapshot: at.snapshot });
        let page: Vec<(VersionKey, u64)> =
            self.versions.shard_after(at.shard, after).take(most).map(|(key, version)| (*key, version.root)).collect();
        for (key, root) in &page {
            let below = VersionKey { inode: key.inode, snapshot: 0 };
            let earlier = (Bound::Included(below), Bound::Excluded(*key));
            let before = self.versions.range(key.inode as usize, earlier).next_back();
            let after = before.map_or(0, |(key, _)| key.snapshot);
            if !self.has_snapshot(*root, after, key.snapshot) {
                self.drop_version(*key);
            }
        }
        let last = page.last().map(|(key, _)| (key.inode, "".into(), key.snapshot));
        Purged { next: at.next(page.len() < most, last, false), looked_at: page.len(), ..Purged::default() }
    }
    fn purge_births(&mut self, at: &Purge, most: usize) -> Purged {
        let oldest = self.snapshots.values().filter_map(|all| all.first()).map(|one| one.id).min();
        let oldest = oldest.unwrap_or(u64::MAX);
        let after = (at.number > 0).then_some(at.number);
        let page: Vec<(u64, u64)> =
            self.born.shard_after(at.shard, after).take(most).map(|(id, born)| (*id, *born)).collect();
        // An entry that every snapshot that is left sees is like one without a birth.
        for (id, _) in page.iter().filter(|(_, born)| *born < oldest) {
            if let Some(slot) = self.slot(*id) {
                self.set_born(slot, 0);
            }
        }
        let last = page.last().map(|(id, _)| (*id, "".into(), 0));
        Purged { next: at.next(page.len() < most, last, false), looked_at: page.len(), ..Purged::default() }
    }
    fn purge_ghosts(&mut self, at: &Purge, most: usize) -> Purged {
        let after =
            (at.number > 0).then(|| GhostKey { directory: at.number, name: at.name.clone(), died: at.snapshot });
        let page: Vec<(GhostKey, Ghost)> =
            self.ghosts.shard_after(at.shard, after).take(most).map(|(key, one)| (key.clone(), *one)).collect();
        let unseen: Vec<&GhostKey> = page
            .iter()
            .filter(|(key, ghost)| !self.has_snapshot(ghost.root, ghost.born, key.died))
            .map(|(key, _)| key)
            .collect();
        let released = unseen.into_iter().filter_map(|key| self.drop_ghost(key)).collect();
        let last = page.last().map(|(key, _)| (key.directory, key.name.clone(), key.died));
        let next = at.next(page.len() < most, last, self.cuts.len() > 0);
        Purged { next, looked_at: page.len(), released, ..Purged::default() }
    }
    fn purge_cuts(&mut self, at: &Purge, most: usize) -> Purged {
        let after = (at.number > 0).then_some(CutKey { inode: at.number, position: at.position, died: at.snapshot });
        let page: Vec<(CutKey, u64, u64)> =
            self.cuts.shard_after(at.shard, after).take(most).map(|(key, cut)| (*key, cut.root, cut.born)).collect();
        let unseen = page.iter().filter(|(key, root, born)| !self.has_snapshot(*root, *born, key.died));
        let unseen: Vec<CutKey> = unseen.map(|(key, ..)| *key).collect();
        let blocks = unseen.into_iter().filter_map(|key| self.drop_cut(key)).collect();
        let last = page.last().map(|(key, ..)| (key.inode, "".into(), key.died));
        let mut next = at.next(page.len() < most, last, false);
        if let (Some(next), Some((key, ..))) = (&mut next, page.last())
            && next.number > 0
        {
            next.position = key.position;
        }
        Purged { next, looked_at: page.len(), blocks, ..Purged::default() }
    }

    /// Does a snapshot see an entry?
    pub(crate) fn sees(&self, entry: u32, snapshot: u64) -> bool {
        self.born_of(entry) < snapshot
    }
    /// The inode that a snapshot sees under a name.
    pub(crate) fn child_at(&self, directory: u32, name: &str, snapshot: u64) -> Option<u32> {
        if let Some(entry) = self.child(directory, name).filter(|entry| self.sees(*entry, snapshot)) {
            return Some(self.inode_of(entry));
        }
        let id = self.inode(directory).id;
        let mut ghosts = self.ghosts_in(id, name).take_while(|(key, _)| *key.name == *name);
        let (_, ghost) = ghosts.find(|(key, ghost)| key.died >= snapshot && ghost.born < snapshot)?;
        self.slot(ghost.inode)
    }
    /// Everything that is or was in a directory after a place, by name; the snapshot sees some of it.
    pub(crate) fn glimpses<'s>(
        &'s self,
        directory: u32,
        after: &Place,
        snapshot: u64,
    ) -> impl Iterator<Item = Glimpse<'s>> + use<'s> {
        let entry = move |entry: u32| {
            let seen = self.sees(entry, snapshot).then(|| self.inode_of(entry));
            Glimpse { name: self.name(entry), died: 0, seen }
        };
        let ghost = move |(key, ghost): (&'s GhostKey, &Ghost)| {
            #[cfg(test)]
            super::looks::note();
            let sees = key.died >= snapshot && ghost.born < snapshot;
            Glimpse { name: &key.name, died: key.died, seen: if sees { self.slot(ghost.inode) } else { None } }
        };
        let id = self.inode(directory).id;
        let from = GhostKey { directory: id, name: after.name.clone(), died: after.died };
        let end = GhostKey { directory: id.saturating_add(1), name: "".into(), died: 0 };
        let ghosts = self.ghosts.range(id as usize, (Bound::Excluded(from), Bound::Excluded(end)));
        let mut ghosts = ghosts.map(ghost).peekable();
        let mut entries = self.entries_after(directory, &after.name).map(entry).peekable();
        std::iter::from_fn(move || match (entries.peek(), ghosts.peek()) {
            (Some(entry), Some(ghost)) if ghost.name < entry.name => ghosts.next(),
            (Some(_), _) => entries.next(),
            (None, _) => ghosts.next(),
        })
    }
    /// Ghosts after one, shard by shard: for looks in steps over all of them.
    pub(crate) fn ghosts_of_shard_after<'s>(
        &'s self,
        shard: usize,
        after: Option<GhostKey>,
    ) -> impl Iterator<Item = (&'s GhostKey, &'s Ghost)> + use<'s> {
        self.ghosts.shard_after(shard, after)
    }
    /// All snapshots by directory.
    pub(crate) const fn snapshots(&self) -> &BTreeMap<u64, Vec<Snapshot>> {
        &self.snapshots
    }
}

fn born_hash(entry: u64, born: u64) -> u64 {
    if born == 0 { 0 } else { Mixer::new(hash_kind::BORN).word(entry).word(born).finish() }
}
fn ghost_hash(key: &GhostKey, ghost: &Ghost) -> u64 {
    let mut mixer = Mixer::new(hash_kind::GHOST);
    mixer.word(key.directory).word(key.died).word(ghost.inode).word(ghost.born).word(ghost.root);
    mixer.bytes(key.name.as_bytes()).finish()
}
fn version_hash(key: VersionKey, version: &Version) -> u64 {
    let own = super::inode_hash(&Inode { id: key.inode, ..version.inode }, (0, 0), &[]);
    let mut mixer = Mixer::new(hash_kind::VERSION);
    mixer.word(own).word(key.snapshot).word(version.blocks).word(version.len_bytes).word(version.root);
    mixer.word(super::attribute_hash(key.inode, version.xattrs.as_ref()));
    mixer.word(super::attribute_hash(key.inode, version.acl.as_ref())).finish()
}
fn snapshot_hash(root: u64, snapshot: &Snapshot) -> u64 {
    let mut mixer = Mixer::new(hash_kind::SNAPSHOT);
    mixer
        .word(root)
        .word(snapshot.id)
        .word(snapshot.created_ns.cast_unsigned())
        .bytes(snapshot.name.as_bytes())
        .finish()
}
