//! Counting everything from scratch, to compare with what is kept step by step (scars SC-13, SC-21, SC-23).

use std::collections::BTreeSet;

use super::store::records::{Kind, flags};
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
            let alive = store.alive(slot);
            let listed = alive && !inode.has(flags::UNPUBLISHED);
            match inode.kind {
                Kind::Directory => {
                    counts.directories += u64::from(listed);
                    audit_directory(store, slot, alive);
                }
                Kind::File => counts.files += u64::from(listed),
                Kind::Free => panic!("a free slot has an id"),
            }
            counts.reclaim_pending += u64::from(!alive);
            if inode.has(flags::OPEN) {
                open.insert(id);
            }
            let mut extent = (0, 0);
            for block in store.chain(slot) {
                let record = store.block(block);
                assert_eq!((record.inode, store.block_slot(record.id)), (slot, Some(block)));
                assert!(blocks.insert(record.id), "a block in two files");
                extent = (extent.0 + 1, extent.1 + record.len_bytes);
            }
            if inode.kind == Kind::File {
                assert_eq!((store.extent(slot).count, store.extent(slot).len_bytes), extent);
            }
            assert_eq!(inode.has(flags::DETACHED), self.queue.contains(&id), "queue and flag");
        }
        let leases: BTreeSet<u64> = self.open_files().iter().map(|lease| lease.inode.raw()).collect();
        assert_eq!(leases, open, "leases are exactly the open files (SC-11, SC-13)");
        counts.open_files = open.len() as u64;
        counts.blocks = blocks.len() as u64;
        let views = blocks.iter().filter_map(|id| self.block(proto::ids::BlockId::from_raw(*id)));
        assert_eq!(views.filter(|view| view.committed).count() as u64, self.committed_blocks());
        assert_eq!(self.blocks_after(None, usize::MAX).len(), blocks.len());
        counts
    }
}

/// An entry is found by its name and in the listing of its directory, and nowhere if it is not linked (SC-21).
fn audit_entry(store: &Store, slot: u32) {
    let inode = store.inode(slot);
    if inode.parent == NONE {
        assert_eq!(store.name(slot), "");
        return;
    }
    assert_eq!(store.child(inode.parent, store.name(slot)), Some(slot));
    assert!(store.directory(inode.parent).children.iter().any(|child| child == slot));
}

fn audit_directory(store: &Store, slot: u32, alive: bool) {
    let directory = store.directory(slot);
    let names: Vec<&str> = directory.children.iter().map(|child| store.name(child)).collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "listing is in order");
    assert_eq!(names.len() as u64, directory.children.len());
    if alive {
        let weights = directory.children.iter().map(|child| store.weight(child));
        let sums = weights.fold((0, 0), |sum, weight| (sum.0 + weight.0, sum.1 + weight.1));
        assert_eq!((directory.files, directory.directories), sums, "running totals");
    }
}
