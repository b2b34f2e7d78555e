//! The files that a session writes, as far as entries said so. A file may be taken from it or be gone with no word of it:
//! deleted, replaced, recovered. Those are found a few at a time, faster than further ones come.

use std::collections::BTreeSet;
use std::ops::Bound;

use proto::ids::InodeId;

/// Files that are looked at for each one that is opened.
const SWEPT: usize = 2;

/// The files of one session.
#[derive(Debug, Default)]
pub(super) struct Written {
    files: BTreeSet<InodeId>,
    /// The last one that was looked at.
    looked: Option<InodeId>,
}

impl Written {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }
    pub(super) fn insert(&mut self, inode: InodeId, is_its: impl Fn(InodeId) -> bool) {
        self.sweep(SWEPT, is_its);
        self.files.insert(inode);
    }
    pub(super) fn remove(&mut self, inode: InodeId) {
        self.files.remove(&inode);
    }
    /// All of them; none is left.
    pub(super) fn take(&mut self) -> BTreeSet<InodeId> {
        std::mem::take(&mut self.files)
    }
    pub(super) fn put_back(&mut self, files: BTreeSet<InodeId>) {
        self.files = files;
    }
    /// Looks at the next ones, `most` at most, in turn, and forgets those that are not its own (any more). How many were
    /// looked at.
    pub(super) fn sweep(&mut self, most: usize, is_its: impl Fn(InodeId) -> bool) -> usize {
        if most == 0 {
            return 0;
        }
        let from = self.looked.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<InodeId> = self.files.range((from, Bound::Unbounded)).take(most).copied().collect();
        self.looked = next.last().copied().filter(|_| next.len() == most);
        for inode in next.iter().filter(|inode| !is_its(**inode)) {
            self.files.remove(inode);
        }
        next.len()
    }
}
