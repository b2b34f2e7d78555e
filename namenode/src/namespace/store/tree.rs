//! Entries: linking, unlinking, looking up, and the running totals of directories.

use proto::path::MAX_PATH_BYTES;

use super::index::hash_of;
use super::records::{Kind, flags};
use super::totals::Totals;
use super::{NONE, Store};

impl Store {
    /// The entry of a name in a directory.
    pub(crate) fn child(&self, parent: u32, name: &str) -> Option<u32> {
        let name = name.as_bytes();
        self.index.find(hash_of(parent, name), |slot| {
            let inode = self.inode(slot);
            inode.parent == parent && self.names.pages().get(inode.name) == name
        })
    }
    /// Puts an unlinked entry, with all that is below it, into a directory that has no entry of this name.
    pub(crate) fn link(&mut self, parent: u32, name: &str, entry: u32) {
        let weight = self.weight(entry);
        self.put_entry(parent, name, entry);
        self.add_totals(parent, weight);
        let (directory, only_one) = (self.inode(parent), self.directory(parent).children.len() == 1);
        if only_one || directory.is_sticky() || self.inode(entry).is_dir() {
            self.rights_changed(parent);
        }
        let cover = self.cover(parent, 0);
        if cover.newest != 0 {
            self.set_born(entry, cover.newest);
        }
    }
    /// As [`Store::link`], where the totals know the entry already.
    pub(super) fn put_entry(&mut self, parent: u32, name: &str, entry: u32) {
        let name = self.names.insert(name);
        self.mark(entry, |inode| (inode.name, inode.parent) = (name, parent));
        self.add_to_index(entry);
        if !base::mutated!(Sc21EntryIsInNoListing) {
            self.add_child(parent, entry);
        }
    }
    /// Names an inode that has no name. Its entry follows by placing it in a directory.
    pub(crate) fn set_name(&mut self, slot: u32, name: &str) {
        let name = self.names.insert(name);
        self.mark(slot, |inode| inode.name = name);
    }
    /// Adds a named entry, whose directory is set, to the index.
    fn add_to_index(&mut self, slot: u32) {
        let (inodes, names) = (&self.inodes, self.names.pages());
        let hash_of_slot = |slot: u32| {
            let inode = inodes.get(slot);
            hash_of(inode.parent, names.get(inode.name))
        };
        self.index.insert(hash_of_slot(slot), slot, hash_of_slot);
    }
    fn add_child(&mut self, parent: u32, slot: u32) {
        let number = self.inode(parent).content as usize;
        let (inodes, names) = (&self.inodes, self.names.pages());
        let name = names.get(inodes.get(slot).name);
        let directory = &mut self.directories[number];
        directory.children.insert(slot, name, |slot| names.get(inodes.get(slot).name));
        directory.subdirectories += u32::from(inodes.get(slot).is_dir());
    }
    /// Takes an entry, with all that is below it, out of its directory. Snapshots that see it keep it.
    pub(crate) fn unlink(&mut self, entry: u32) {
        self.note_removal(entry);
        self.take_out(entry);
    }
    /// As [`Store::unlink`], but without looking for snapshots that see the entry.
    pub(crate) fn take_out(&mut self, entry: u32) {
        let weight = self.weight(entry);
        if !base::mutated!(Sc23TotalsKeepWhatLeft) {
            self.add_totals(self.inode(entry).parent, Totals::default().minus(weight));
        }
        self.cut(entry);
    }
    /// As [`Store::unlink`], but inside a tree that is unlinked already: totals above are not kept any more.
    pub(crate) fn cut(&mut self, slot: u32) {
        let inode = *self.inode(slot);
        let number = self.inode(inode.parent).content as usize;
        let (inodes, names) = (&self.inodes, self.names.pages());
        let name = names.get(inode.name);
        let directory = &mut self.directories[number];
        directory.children.remove(name, |slot| names.get(inodes.get(slot).name));
        directory.subdirectories = directory.subdirectories.saturating_sub(u32::from(inode.is_dir()));
        self.index.remove(hash_of(inode.parent, name), slot);
        self.mark(slot, |inode| (inode.name, inode.parent) = (super::names::NameRef::NONE, NONE));
        self.names.remove(inode.name);
    }
    /// What an entry adds to the totals of its directory: itself and everything below it.
    pub(crate) fn weight(&self, entry: u32) -> Totals {
        let slot = self.inode_of(entry);
        let inode = self.inode(slot);
        match inode.kind {
            Kind::Directory => {
                let below = self.directory(slot).below;
                let with_itself = Totals { directories: below.directories + 1, ..below };
                if inode.has(flags::SNAPSHOTTABLE) {
                    return with_itself.plus(Totals::marks(self.snapshots_of(inode.id).len()));
                }
                with_itself
            }
            Kind::Symlink => Totals { symlinks: 1, ..Totals::default() },
            // Pipes, sockets and devices count as empty files.
            _ => self.file_weight(slot),
        }
    }
    fn file_weight(&self, slot: u32) -> Totals {
        let (inode, extent) = (self.inode(slot), self.extent(slot));
        // An open block counts in full, whatever of it there is, unless it only gets shorter.
        let open = (extent.last != NONE).then(|| self.block(extent.last)).filter(|last| !last.committed());
        let grows = open.filter(|_| !self.open_of(slot).is_some_and(super::records::Open::is_being_cut));
        let rest_bytes = grows.map_or(0, |last| inode.block_size_bytes().saturating_sub(last.len_bytes));
        let charged_bytes = extent.len_bytes + rest_bytes;
        let space_bytes = charged_bytes.saturating_mul(u64::from(inode.replication));
        Totals { files: 1, len_bytes: extent.len_bytes, space_bytes, ..Totals::default() }
    }
    /// Adds to the totals of a directory and of all above it.
    pub(crate) fn add_totals(&mut self, from: u32, more: Totals) {
        let mut at = from;
        while at != NONE {
            let directory = self.directory_mut(at);
            directory.below = directory.below.plus(more);
            directory.changes = directory.changes.wrapping_add(1);
            at = self.inode(at).parent;
        }
    }
    /// Somebody may have fewer rights in a directory than before, or has something new there to have rights on: who is
    /// looking through a tree that it belongs to learns of it.
    pub(crate) fn rights_changed(&mut self, directory: u32) {
        let mut at = directory;
        while at != NONE {
            let directory = self.directory_mut(at);
            directory.rights = directory.rights.wrapping_add(1);
            at = self.inode(at).parent;
        }
    }
    /// Changes a file so that its weight may change; the totals of every directory above it follow.
    pub(crate) fn reweigh<T>(&mut self, slot: u32, change: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.file_weight(slot);
        let done = change(self);
        let more = self.file_weight(slot).minus(before);
        if more != Totals::default() {
            for (directory, names) in self.names_by_directory(slot) {
                self.add_totals(directory, more.times(names));
            }
        }
        done
    }
    /// Is this inode in the tree, or an unpublished file that may still get there? Everything that comes by inode
    /// id asks this first: a tree that was unlinked is gone for its writers before it is reclaimed (scar SC-01).
    pub(crate) fn alive(&self, slot: u32) -> bool {
        self.hangs(slot) || self.links_of(slot).iter().any(|link| self.hangs(*link))
    }
    /// Is this entry in the tree?
    pub(crate) fn hangs(&self, entry: u32) -> bool {
        let mut at = entry;
        loop {
            let inode = self.inode(at);
            if inode.has(flags::DETACHED | flags::HELD) {
                return false;
            }
            if inode.parent == NONE {
                return true;
            }
            at = inode.parent;
        }
    }
    /// Is this inode in a tree that snapshots hold, and that is not being reclaimed?
    pub(crate) fn is_held(&self, slot: u32) -> bool {
        let mut at = slot;
        while at != NONE {
            let inode = self.inode(at);
            if inode.has(flags::DETACHED | flags::HELD) {
                return inode.has(flags::HELD);
            }
            at = inode.parent;
        }
        false
    }
    /// A directory and all above it, from below.
    pub(crate) fn ancestors(&self, directory: u32) -> Vec<u32> {
        let above = |slot: &u32| Some(self.inode(*slot).parent).filter(|parent| *parent != NONE);
        std::iter::successors(Some(directory).filter(|slot| *slot != NONE), above).collect()
    }
    /// Is `slot` equal to `top`, or below it?
    pub(crate) fn is_below(&self, slot: u32, top: u32) -> bool {
        let mut at = slot;
        while at != NONE {
            if at == top {
                return true;
            }
            at = self.inode(at).parent;
        }
        false
    }
    /// The full path of a linked inode. Renames can make a tree deeper than a path may be long: then the path
    /// begins with `…`, so that no message and no remembered answer grows without bound.
    pub(crate) fn path(&self, slot: u32) -> String {
        let (mut names, mut bytes) = (Vec::<&str>::new(), 0);
        let mut begin = "";
        let mut at = slot;
        while self.inode(at).parent != NONE {
            bytes += 1 + self.name(at).len();
            if bytes > MAX_PATH_BYTES {
                begin = "…";
                break;
            }
            names.push(self.name(at));
            at = self.inode(at).parent;
        }
        if names.is_empty() {
            return "/".to_owned();
        }
        let mut path = String::with_capacity(begin.len() + bytes);
        path.push_str(begin);
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }
    /// Entries of a directory after a name, in byte order.
    pub(crate) fn entries_after<'s>(&'s self, directory: u32, name: &str) -> impl Iterator<Item = u32> + use<'s> {
        let (inodes, names) = (&self.inodes, self.names.pages());
        self.directory(directory).children.after(name.as_bytes(), move |slot| names.get(inodes.get(slot).name))
    }
    /// Sets the totals of a directory.
    #[cfg(test)]
    pub(crate) fn set_totals(&mut self, directory: u32, below: Totals) {
        self.directory_mut(directory).below = below;
    }
}
