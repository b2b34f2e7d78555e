//! Counting everything from scratch, to compare with what is kept step by step (scars SC-13, SC-21, SC-23), and
//! asking of everything that is kept who owns it (SC-10).

use std::collections::BTreeSet;

use super::store::records::{Inode, Kind, flags, rare};
use super::store::totals::Totals;
use super::store::{NONE, Store};
use super::{Counts, Namespace};

impl Namespace {
    /// Recomputes counters from the inodes alone and checks every derived structure on the way.
    ///
    /// # Panics
    /// At the first contradiction.
    #[must_use]
    pub fn recount(&self) -> Counts {
        let store = &self.store;
        let mut counts = Counts { sessions: self.sessions.len() as u64, ..Counts::default() };
        let mut open = BTreeSet::new();
        let mut blocks = BTreeSet::new();
        for (id, slot) in store.by_id.freeze().iter() {
            let inode = *store.inode(slot);
            assert_eq!(inode.id, id, "id table and record");
            audit_entry(store, slot);
            audit_owner(store, slot);
            let listed = store.hangs(slot) && !inode.has(flags::UNPUBLISHED);
            match inode.kind {
                Kind::Directory => {
                    counts.directories += u64::from(listed);
                    audit_directory(store, slot, store.alive(slot) || store.is_held(slot));
                }
                Kind::File | Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => {
                    counts.files += u64::from(listed);
                }
                Kind::Symlink => {
                    counts.symlinks += u64::from(listed);
                    assert!(!store.target(slot).is_empty(), "a symbolic link names something");
                }
                Kind::Link => {
                    let file = !store.inode(store.inode_of(slot)).is_symlink();
                    counts.files += u64::from(listed && file);
                    counts.symlinks += u64::from(listed && !file);
                    assert!(store.links_of(store.inode_of(slot)).contains(&slot), "an entry that its inode knows");
                }
                Kind::Free => panic!("a free slot has an id"),
            }
            counts.reclaim_pending += u64::from(!store.hangs(slot) && !store.is_held(slot));
            if inode.has(flags::OPEN) {
                open.insert(id);
            }
            self.audit_open(slot);
            let mut extent = (0, 0);
            for block in store.chain(slot) {
                let record = store.block(block);
                assert_eq!((record.inode, store.block_slot(record.id)), (slot, Some(block)));
                assert!(blocks.insert(record.id), "a block in two files");
                extent = (extent.0 + 1, extent.1 + record.len_bytes);
                assert!(record.committed() || store.extent(slot).last == block, "only the last block is open");
                assert!(!record.is_cut() && (record.is_visible() || !record.committed()), "a finished block has bytes");
            }
            for block in store.cut_slots(slot) {
                let record = store.block(block);
                assert!(record.is_cut() && record.committed() && record.is_visible(), "what was cut off is finished");
                assert_eq!((record.inode, store.block_slot(record.id)), (slot, Some(block)));
                assert!(blocks.insert(record.id), "a block in two places");
            }
            if inode.kind == Kind::File {
                assert_eq!((store.extent(slot).count, store.extent(slot).len_bytes), extent);
            }
            assert_eq!(inode.has(flags::DETACHED), self.queue.contains(&id), "queue and flag");
            assert_eq!(inode.has(flags::SNAPSHOTTABLE), self.snapshottable.contains(&id), "the list of roots");
        }
        audit_history(store, self.purge.is_none());
        counts.reclaim_pending += u64::from(self.purge.is_some());
        let leases: BTreeSet<u64> = self.open_files().iter().map(|lease| lease.inode.raw()).collect();
        assert_eq!(leases, open, "leases are exactly the open files (SC-11, SC-13)");
        counts.open_files = open.len() as u64;
        counts.blocks = blocks.len() as u64;
        counts.reclaim_pending += self.sweeps.len() as u64;
        let views = blocks.iter().filter_map(|id| self.block(proto::ids::BlockId::from_raw(*id)));
        assert_eq!(views.filter(|view| view.committed).count() as u64, self.committed_blocks());
        assert_eq!(self.blocks_after(None, usize::MAX).len(), blocks.len());
        counts
    }
}

impl Namespace {
    /// Whoever writes a file, and what is reserved for it.
    fn audit_open(&self, slot: u32) {
        let (store, id) = (&self.store, self.store.inode(slot).id);
        let last = store.extent(slot).last;
        let block = (last != NONE).then(|| store.block(last)).filter(|block| !block.committed());
        let Some(open) = store.open_of(slot) else {
            assert!(!store.recovering.contains(&id), "nobody recovers what is closed");
            let waits = store.inode(slot).has(flags::DETACHED);
            assert!(block.is_none() || waits, "a closed file has no open block (SC-13)");
            return;
        };
        assert_eq!(open.recovery.is_some(), store.recovering.contains(&id), "the index of recoveries");
        if open.reserved_stamp != 0 {
            assert!(open.reserved_stamp < self.next.stamp.raw(), "a stamp that was given");
            assert!(
                block.is_some_and(|block| block.stamp < open.reserved_stamp),
                "for an open last block, above its own"
            );
        }
        assert!(open.offered.is_empty() || open.reserved_stamp != 0, "what is offered is for the pipeline to come");
        let Some(recovery) = open.recovery else { return };
        assert!(open.offered.is_empty(), "nobody is offered anything in a recovery");
        assert!(open.session.is_none() && open.pin.is_none() && open.reserved_stamp != 0, "a recovery is nobody's");
        assert!(recovery.target_len_bytes.is_none_or(|target| block.is_some_and(|block| block.len_bytes == target)));
    }

    /// Sizes of the side tables, of what was ever linked and of what waits: all 0 once everything is gone.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> [usize; 10] {
        let store = &self.store;
        [
            store.targets.len(),
            store.xattrs.len(),
            store.acls.len(),
            store.quotas.len(),
            store.born.len(),
            store.ghosts.len(),
            store.versions.len(),
            store.cuts.len(),
            store.snapshots().len(),
            self.queue.len() + self.sweeps.len(),
        ]
    }
}

/// An entry is found by its name and in the listing of its directory, and nowhere if it is not linked (SC-21).
fn audit_entry(store: &Store, slot: u32) {
    let inode = store.inode(slot);
    if inode.parent == NONE {
        assert_eq!(store.name(slot), "");
        assert_eq!(store.born_of(slot), 0, "what has no entry has no birth");
        return;
    }
    assert_eq!(store.child(inode.parent, store.name(slot)), Some(slot));
    assert!(store.directory(inode.parent).children.iter().any(|child| child == slot));
}

/// Everything has a reason to be there, and exactly one place that says so (SC-10, SC-11).
fn audit_owner(store: &Store, slot: u32) {
    let inode: &Inode = store.inode(slot);
    for link in store.links_of(slot) {
        assert_eq!((store.inode(*link).kind, store.inode_of(*link)), (Kind::Link, slot), "a further entry");
        assert_ne!(store.inode(*link).parent, NONE, "a further entry is somewhere");
    }
    let floating = inode.has(flags::UNPUBLISHED | flags::DETACHED | flags::HELD) || inode.id == root_id();
    assert_eq!(inode.parent == NONE, floating, "inode {} is in the tree, or somebody says why not", inode.id);
    assert!(
        !floating || inode.id == root_id() || store.links_of(slot).is_empty(),
        "the first entry is the inode's own"
    );
    if inode.has(flags::HELD) {
        assert!(inode.has_rare(rare::GHOSTS), "a snapshot holds it");
        let recovered = store.open_of(slot).is_some_and(|open| open.recovery.is_some());
        assert!(!inode.has(flags::OPEN) || recovered, "nobody writes what is gone (SC-11)");
    }
    // Flags of rare things decide: they must be what a load of an image makes them.
    assert_eq!(inode.has_rare(rare::LINKS), !store.links_of(slot).is_empty());
    assert_eq!(inode.has_rare(rare::GHOSTS), store.newest_ghost_of(slot) > 0);
    assert_eq!(inode.has_rare(rare::VERSIONS), store.version_at(inode.id, 0).is_some());
    let (id, rare) = (inode.id, |flag| inode.has_rare(flag));
    assert_eq!(rare(rare::ACL), store.acls.get(&id).is_some());
    assert_eq!(rare(rare::XATTRS), store.xattrs.get(&id).is_some());
    assert_eq!(rare(rare::QUOTA), store.quotas.get(&id).is_some());
    assert_eq!(rare(rare::BORN), store.born.get(&id).is_some());
    assert_eq!(rare(rare::CUTS), store.cuts_of(id).next().is_some());
    assert_eq!(inode.is_symlink(), store.targets.get(&id).is_some());
}

const fn root_id() -> u64 {
    proto::ids::InodeId::ROOT.raw()
}

/// What is kept for snapshots is kept for one that is there, and belongs to something that is there.
fn audit_history(store: &Store, purged: bool) {
    for (key, ghost) in store.ghosts.sorted() {
        assert!(store.slot(key.directory).is_some(), "a ghost is somewhere");
        let Some(slot) = store.slot(ghost.inode) else { panic!("a ghost of nothing") };
        assert!(store.inode(slot).has_rare(rare::GHOSTS));
        let seen = !purged || store.has_snapshot(ghost.root, ghost.born, key.died);
        assert!(seen, "a snapshot sees the ghost {key:?}");
    }
    for (id, _) in store.born.sorted() {
        assert!(store.slot(*id).is_some(), "the birth of something");
    }
    for (key, version) in store.versions.sorted() {
        assert!(store.slot(key.inode).is_some(), "a state of something");
        let seen = !purged || store.has_snapshot(version.root, 0, key.snapshot);
        assert!(seen, "a snapshot sees the state {key:?}");
    }
    for (key, cut) in store.cuts.sorted() {
        assert!(store.block(cut.slot).is_cut(), "a cut of a block");
        let seen = !purged || store.has_snapshot(cut.root, cut.born, key.died);
        assert!(seen, "a snapshot sees the cut {key:?}");
    }
    for root in store.snapshots().keys() {
        let Some(slot) = store.slot(*root) else { panic!("snapshots of nothing") };
        assert!(store.inode(slot).has(flags::SNAPSHOTTABLE) && store.alive(slot));
        let by_name: Vec<u64> = store.snapshots_by_name(*root, "").map(|one| one.id).collect();
        assert_eq!(by_name.len(), store.snapshots_of(*root).len(), "each snapshot has its name");
        let named = |one: &super::store::history::Snapshot| store.snapshot_called(*root, &one.name) == Some(one.id);
        assert!(store.snapshots_of(*root).iter().all(named), "and is found by it");
    }
}

fn audit_directory(store: &Store, slot: u32, counted: bool) {
    let directory = store.directory(slot);
    let names: Vec<&str> = directory.children.iter().map(|child| store.name(child)).collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "listing is in order");
    assert_eq!(names.len() as u64, directory.children.len());
    let below = directory.children.iter().filter(|child| store.inode(*child).is_dir());
    assert_eq!(below.count(), directory.subdirectories as usize);
    if counted {
        let sum = directory.children.iter().map(|child| store.weight(child)).fold(Totals::default(), Totals::plus);
        assert_eq!(directory.below, sum, "running totals");
    }
}
