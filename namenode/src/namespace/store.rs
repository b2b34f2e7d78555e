//! Memory of the namespace: inodes, entries, blocks and their indexes. No rule of the file system is decided here;
//! every change keeps the running hash and the derived indexes in step.
//!
//! ```text
//!   id ──ids──▶ slot ──slab──▶ Inode{parent, name, …} ──content──▶ Block ─next─▶ Block   (file)
//!                 ▲                                   └─content──▶ Directory{children, totals}
//!   (parent, name) ──index──┘
//!   rare: open files · storages beyond three · last block of files with several · further entries ·
//!         targets of symbolic links · extended attributes · ACLs · quotas
//! ```
//!
//! Replicated: inodes, blocks, open files, interned strings, all keyed by *ids*. Local: slots, pages, indexes,
//! totals; they are rebuilt from an image and are in no hash.

mod attributes;
mod blocks;
pub(crate) mod children;
pub(crate) mod cuts;
mod free;
pub(crate) mod history;
pub(crate) mod ids;
mod index;
mod interned;
mod links;
mod load;
#[cfg(test)]
pub(crate) mod looks;
mod memory;
pub(crate) mod names;
pub(crate) mod packed;
pub(crate) mod pages;
pub(crate) mod records;
pub(crate) mod sharded;
pub(crate) mod slab;
mod spread;
pub(crate) mod totals;
mod tree;

pub(crate) use attributes::{Acl, AclName, Quota, Xattr, attribute_hash};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use blocks::Extent;
use children::Children;
use cuts::{Cut, CutKey};
use history::{Ghost, GhostKey, Snapshot, Version, VersionKey};
use ids::IdTable;
pub(crate) use ids::NONE;
use index::NameIndex;
pub(crate) use interned::Interned;
use names::Names;
use packed::{PackedBlock, Wide};
use records::{Inode, Kind, Open};
use sharded::Sharded;
use slab::Slab;
use spread::Spread;
use totals::Totals;

use super::hash::Mixer;

/// Kinds of things in the state hash.
pub(crate) mod hash_kind {
    pub(crate) const INODE: u64 = 1;
    pub(crate) const BLOCK: u64 = 2;
    pub(crate) const OPEN: u64 = 3;
    pub(crate) const SESSION: u64 = 4;
    pub(crate) const OUTCOME: u64 = 5;
    pub(crate) const REST: u64 = 6;
    pub(crate) const TARGET: u64 = 7;
    pub(crate) const XATTRS: u64 = 8;
    pub(crate) const ACL: u64 = 9;
    pub(crate) const QUOTA: u64 = 10;
    pub(crate) const BORN: u64 = 11;
    pub(crate) const GHOST: u64 = 12;
    pub(crate) const VERSION: u64 = 13;
    pub(crate) const SNAPSHOT: u64 = 14;
    pub(crate) const CUT: u64 = 15;
}

/// What a directory has beside its inode. Derived: rebuilt on load.
#[derive(Default)]
pub(crate) struct Directory {
    /// Entries in order.
    pub(crate) children: Children,
    /// Those of them that are directories. Derived: in no image and in no hash.
    pub(crate) subdirectories: u32,
    /// Everything anywhere below, itself not included.
    pub(crate) below: Totals,
    /// Goes up with every change of entries and totals here and below: who looks in several steps sees by it whether
    /// they showed one moment.
    pub(crate) changes: u64,
    /// Goes up when a caller may have lost rights here or below: see [`Store::rights_changed`].
    pub(crate) rights: u64,
}

/// All inodes and blocks.
pub(crate) struct Store {
    pub(crate) inodes: Slab<Inode>,
    pub(crate) names: Names,
    pub(crate) by_id: IdTable,
    pub(crate) blocks: Slab<PackedBlock>,
    pub(crate) by_block: IdTable,
    /// Storages of blocks that have more than fit the record: all but the first three.
    pub(crate) more_homes: Sharded<u32, Box<[u32]>>,
    /// Id and stamp of blocks whose numbers do not fit the record.
    pub(crate) wide_blocks: Wide,
    pub(crate) open: Sharded<u64, Open>,
    /// Those of them that are being recovered. Derived.
    pub(crate) recovering: BTreeSet<u64>,
    pub(crate) interned: Interned,
    /// What symbolic links name, by inode.
    pub(crate) targets: Sharded<u64, Arc<str>>,
    pub(crate) xattrs: Sharded<u64, Arc<[Xattr]>>,
    pub(crate) acls: Sharded<u64, Arc<Acl>>,
    pub(crate) quotas: Sharded<u64, Quota>,
    /// Snapshots by directory, oldest first.
    snapshots: BTreeMap<u64, Vec<Snapshot>>,
    /// Their ids by directory and name. Derived.
    snapshot_names: BTreeMap<u64, BTreeMap<Box<str>, u64>>,
    /// Entries that some snapshots do not see.
    pub(crate) born: Sharded<u64, u64>,
    pub(crate) ghosts: Sharded<GhostKey, Ghost>,
    pub(crate) versions: Sharded<VersionKey, Arc<Version>>,
    pub(crate) cuts: Sharded<CutKey, Cut>,
    /// Ghosts by inode. Derived.
    ghosts_of: Spread<u64, BTreeSet<GhostKey>>,
    /// Further entries of inodes that have some: slots of their records by the inode's slot. Derived.
    links: Spread<u32, Vec<u32>>,
    /// Last block, number and bytes of files with more than one block. Derived.
    extents: Spread<u32, Extent>,
    /// Blocks with their final length. Derived.
    pub(crate) committed: u64,
    directories: Vec<Directory>,
    free_directories: Vec<u32>,
    index: NameIndex,
    /// Wrapping sum of the hashes of all records: order does not matter, so it can follow every change.
    pub(crate) hash: u64,
    /// While an image is loaded the hashes of inodes are left out of it: they are added at the end.
    loading: bool,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            inodes: Slab::new(),
            names: Names::new(),
            by_id: IdTable::default(),
            blocks: Slab::new(),
            by_block: IdTable::default(),
            more_homes: Sharded::new(),
            wide_blocks: Sharded::new(),
            open: Sharded::new(),
            recovering: BTreeSet::new(),
            interned: Interned::default(),
            targets: Sharded::new(),
            xattrs: Sharded::new(),
            acls: Sharded::new(),
            quotas: Sharded::new(),
            snapshots: BTreeMap::new(),
            snapshot_names: BTreeMap::new(),
            born: Sharded::new(),
            ghosts: Sharded::new(),
            versions: Sharded::new(),
            cuts: Sharded::new(),
            ghosts_of: Spread::new(),
            links: Spread::new(),
            extents: Spread::new(),
            committed: 0,
            directories: Vec::new(),
            free_directories: Vec::new(),
            index: NameIndex::new(),
            hash: 0,
            loading: false,
        }
    }

    /// The inode in a slot.
    pub(crate) fn inode(&self, slot: u32) -> &Inode {
        #[cfg(test)]
        looks::note();
        self.inodes.get(slot)
    }
    /// Slot of an inode.
    pub(crate) fn slot(&self, id: u64) -> Option<u32> {
        self.by_id.get(id)
    }
    /// Slot of a block.
    pub(crate) fn block_slot(&self, id: i64) -> Option<u32> {
        self.by_block.get(id.cast_unsigned())
    }
    /// The name of an inode; empty if it has none.
    pub(crate) fn name(&self, slot: u32) -> &str {
        self.names.pages().text(self.inode(slot).name)
    }
    /// The directory part of a directory's inode.
    pub(crate) fn directory(&self, slot: u32) -> &Directory {
        &self.directories[self.inode(slot).content as usize]
    }
    pub(in crate::namespace) fn directory_mut(&mut self, slot: u32) -> &mut Directory {
        let number = self.inode(slot).content as usize;
        &mut self.directories[number]
    }

    /// Adds an inode that is not linked yet. A directory gets its directory part; what a link names stays.
    pub(crate) fn add_inode(&mut self, mut inode: Inode) -> u32 {
        inode.parent = NONE;
        inode.name = names::NameRef::NONE;
        inode.rare = 0;
        if inode.kind != Kind::Link {
            inode.content = NONE;
        }
        if inode.is_dir() {
            inode.content = self.free_directories.pop().unwrap_or_else(|| {
                self.directories.push(Directory::default());
                (self.directories.len() - 1) as u32
            });
        }
        let slot = self.inodes.insert(inode);
        self.by_id.insert(inode.id, slot);
        if !self.loading {
            self.hash = self.hash.wrapping_add(self.inode_hash(slot));
        }
        slot
    }
    /// Removes an inode that is not linked, has no entries and no blocks, with all its attributes.
    pub(crate) fn remove_inode(&mut self, slot: u32) {
        self.clear_attributes(slot);
        if self.inode(slot).has_rare(records::rare::VERSIONS) {
            self.drop_versions_of(self.inode(slot).id);
        }
        if self.inode(slot).has_rare(records::rare::BORN) {
            self.set_born(slot, 0);
        }
        self.hash = self.hash.wrapping_sub(self.inode_hash(slot));
        let inode = *self.inode(slot);
        if inode.is_dir() {
            *self.directory_mut(slot) = Directory::default();
            self.free_directories.push(inode.content);
        }
        self.names.remove(inode.name);
        self.by_id.remove(inode.id);
        self.inodes.remove(slot);
    }
    /// Changes fields of an inode, all but id, kind, parent, name and content.
    pub(crate) fn edit(&mut self, slot: u32, change: impl FnOnce(&mut Inode)) {
        self.keep_version(slot);
        self.mark(slot, change);
    }
    /// Changes flags of an inode that are no business of snapshots.
    pub(crate) fn mark(&mut self, slot: u32, change: impl FnOnce(&mut Inode)) {
        if self.loading {
            return change(self.inodes.get_mut(slot));
        }
        let before = self.inode_hash(slot);
        change(self.inodes.get_mut(slot));
        self.hash = self.hash.wrapping_sub(before).wrapping_add(self.inode_hash(slot));
    }
    /// An image is being loaded: the hashes of inodes are added when all of them are there.
    pub(crate) fn begin_loading(&mut self) {
        self.loading = true;
    }
    /// See [`Store::begin_loading`].
    pub(crate) fn end_loading(&mut self) {
        self.loading = false;
        let hash_of = |slots: std::ops::Range<u32>| slots.map(|slot| self.inode_hash(slot)).fold(0, u64::wrapping_add);
        let all = self.inodes.all();
        let (first, second) = (all.start..all.end / 2, all.end / 2..all.end);
        let hashes = std::thread::scope(|scope| {
            let other = scope.spawn(|| hash_of(first));
            hash_of(second).wrapping_add(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        self.hash = self.hash.wrapping_add(hashes);
    }
    /// What an inode adds to the state hash. It names ids only, so that slots stay local.
    fn inode_hash(&self, slot: u32) -> u64 {
        let inode = self.inode(slot);
        let parent = if inode.parent == NONE { 0 } else { self.inode(inode.parent).id };
        let joined = inode.kind == Kind::Link && inode.content != NONE;
        let target = if joined { self.inode(inode.content).id } else { 0 };
        inode_hash(inode, (parent, target), self.names.pages().get(inode.name))
    }

    /// Marks a file as under construction, or changes who writes it.
    pub(crate) fn set_open(&mut self, slot: u32, open: Open) {
        self.reweigh(slot, |store| store.put_open(slot, open));
    }
    fn put_open(&mut self, slot: u32, open: Open) {
        let id = self.inode(slot).id;
        let added = open_hash(id, &open);
        let unpublished = open.pin.is_some();
        if open.recovery.is_some() {
            self.recovering.insert(id);
        } else if !self.recovering.is_empty() {
            self.recovering.remove(&id);
        }
        let removed = self.open.insert(id, open).map_or(0, |before| open_hash(id, &before));
        self.hash = self.hash.wrapping_add(added).wrapping_sub(removed);
        self.mark(slot, |inode| {
            inode.flags |= records::flags::OPEN;
            if unpublished {
                inode.flags |= records::flags::UNPUBLISHED;
            } else {
                inode.flags &= !records::flags::UNPUBLISHED;
            }
        });
    }
    /// Ends construction; returns what was open.
    pub(crate) fn clear_open(&mut self, slot: u32) -> Option<Open> {
        if !self.inode(slot).has(records::flags::OPEN) {
            return None;
        }
        self.reweigh(slot, |store| store.drop_open(slot))
    }
    fn drop_open(&mut self, slot: u32) -> Option<Open> {
        let id = self.inode(slot).id;
        let before = self.open.remove(&id)?;
        self.recovering.remove(&id);
        self.hash = self.hash.wrapping_sub(open_hash(id, &before));
        self.mark(slot, |inode| inode.flags &= !(records::flags::OPEN | records::flags::UNPUBLISHED));
        Some(before)
    }
    /// Who writes this file?
    pub(crate) fn open_of(&self, slot: u32) -> Option<&Open> {
        self.open.get(&self.inode(slot).id)
    }

    /// Name of an owner or group.
    pub(crate) fn text(&self, number: u32) -> &str {
        self.interned.text(number)
    }
}

/// The hash of an inode and its entry; `target` is the inode of a further entry.
pub(crate) fn inode_hash(inode: &Inode, (parent, target): (u64, u64), name: &[u8]) -> u64 {
    let small = u64::from(inode.mode)
        | u64::from(inode.replication) << 16
        | (inode.kind as u64) << 32
        | u64::from(inode.flags) << 40;
    let mut mixer = Mixer::new(hash_kind::INODE);
    if target != 0 {
        mixer.word(target);
    }
    mixer
        .word(inode.id)
        .word(parent)
        .word(inode.mtime_ns.cast_unsigned())
        .word(inode.ctime_ns.cast_unsigned())
        .word(inode.atime_ns.cast_unsigned())
        .word(u64::from(inode.owner) << 32 | u64::from(inode.group))
        .word(u64::from(inode.block_size_units))
        .word(small)
        .bytes(name)
        .finish()
}

fn open_hash(id: u64, open: &Open) -> u64 {
    let mut mixer = Mixer::new(hash_kind::OPEN);
    mixer.word(id).word(open.epoch).bytes(open.session.as_ref().map_or(&[], |session| session.as_bytes()));
    if let Some(pin) = &open.pin {
        mixer.word(pin.parent).word(u64::from(pin.overwrite)).bytes(pin.name.as_bytes());
    }
    // Only where there is something: images that are older than recoveries keep their hash.
    if open.reserved_stamp != 0 {
        mixer.word(open.reserved_stamp).word(u64::from(open.recovery.is_some()));
    }
    if let Some(target_len_bytes) = open.recovery.and_then(|recovery| recovery.target_len_bytes) {
        mixer.word(target_len_bytes);
    }
    // In words of their own, so that none of them can be taken for a length.
    if open.recovery.is_some_and(|recovery| recovery.accept_loss) {
        mixer.bytes(b"accept loss");
    }
    if !open.offered.is_empty() {
        mixer.bytes(b"offered");
        open.offered.iter().for_each(|storage| {
            mixer.word(u64::from(*storage));
        });
    }
    mixer.finish()
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

/// A new inode of a kind, with equal times.
pub(crate) fn fresh(id: u64, kind: Kind, mode: u16, owner: u32, group: u32, now_ns: i64) -> Inode {
    Inode { id, kind, mode, owner, group, mtime_ns: now_ns, ctime_ns: now_ns, atime_ns: now_ns, ..Inode::default() }
}
