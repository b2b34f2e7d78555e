//! Entries: linking, unlinking, looking up, and the running totals of directories.

use proto::path::MAX_PATH_BYTES;

use super::index::hash_of;
use super::records::flags;
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
    /// Puts an unlinked inode, with all that is below it, into a directory that has no entry of this name.
    pub(crate) fn link(&mut self, parent: u32, name: &str, slot: u32) {
        self.enter(parent, name, slot);
        let (files, directories) = self.weight(slot);
        self.walk_up(parent, |totals| {
            totals.0 += files;
            totals.1 += directories;
        });
        self.add_child(parent, slot);
    }
    fn enter(&mut self, parent: u32, name: &str, slot: u32) {
        self.set_name(slot, name);
        self.place(parent, slot);
    }
    /// Names an inode that has no name. Its entry follows by [`Store::place`].
    pub(crate) fn set_name(&mut self, slot: u32, name: &str) {
        let before = self.inode_hash(slot);
        let name = self.names.insert(name);
        self.inodes.get_mut(slot).name = name;
        self.hash = self.hash.wrapping_sub(before).wrapping_add(self.inode_hash(slot));
    }
    /// Sets the directory of a named inode and adds to the index, but neither to the children nor to the totals.
    pub(crate) fn place(&mut self, parent: u32, slot: u32) {
        let before = self.inode_hash(slot);
        self.inodes.get_mut(slot).parent = parent;
        self.hash = self.hash.wrapping_sub(before).wrapping_add(self.inode_hash(slot));
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
        self.directories[number].children.insert(slot, name, |slot| names.get(inodes.get(slot).name));
    }
    /// Takes an inode, with all that is below it, out of its directory.
    pub(crate) fn unlink(&mut self, slot: u32) {
        let (files, directories) = self.weight(slot);
        self.walk_up(self.inode(slot).parent, |totals| {
            totals.0 -= files;
            totals.1 -= directories;
        });
        self.cut(slot);
    }
    /// As [`Store::unlink`], but inside a tree that is unlinked already: totals above are not kept any more.
    pub(crate) fn cut(&mut self, slot: u32) {
        let inode = *self.inode(slot);
        let number = self.inode(inode.parent).content as usize;
        let (inodes, names) = (&self.inodes, self.names.pages());
        let name = names.get(inode.name);
        self.directories[number].children.remove(name, |slot| names.get(inodes.get(slot).name));
        self.index.remove(hash_of(inode.parent, name), slot);
        let before = self.inode_hash(slot);
        self.names.remove(inode.name);
        let inode = self.inodes.get_mut(slot);
        inode.parent = NONE;
        inode.name = super::names::NameRef::NONE;
        self.hash = self.hash.wrapping_sub(before).wrapping_add(self.inode_hash(slot));
    }
    /// Files and directories of a tree, its top included.
    pub(crate) fn weight(&self, slot: u32) -> (u64, u64) {
        if self.inode(slot).is_dir() {
            let directory = self.directory(slot);
            (directory.files, directory.directories + 1)
        } else {
            (1, 0)
        }
    }
    fn walk_up(&mut self, from: u32, mut change: impl FnMut(&mut (u64, u64))) {
        let mut at = from;
        while at != NONE {
            let directory = self.directory_mut(at);
            let mut totals = (directory.files, directory.directories);
            change(&mut totals);
            (directory.files, directory.directories) = totals;
            at = self.inode(at).parent;
        }
    }
    /// Is this inode in the tree, or an unpublished file that may still get there? Everything that comes by inode
    /// id asks this first: a tree that was unlinked is gone for its writers before it is reclaimed (scar SC-01).
    pub(crate) fn alive(&self, slot: u32) -> bool {
        let mut at = slot;
        loop {
            let inode = self.inode(at);
            if inode.has(flags::DETACHED) {
                return false;
            }
            if inode.parent == NONE {
                return true;
            }
            at = inode.parent;
        }
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
        names.iter().rev().fold(begin.to_owned(), |path, name| path + "/" + name)
    }
    /// Entries of a directory after a name, in byte order.
    pub(crate) fn entries_after(&self, directory: u32, name: &str) -> impl Iterator<Item = u32> {
        let (inodes, names) = (&self.inodes, self.names.pages());
        self.directory(directory).children.after(name.as_bytes(), move |slot| names.get(inodes.get(slot).name))
    }
    /// Rebuilds the ordered children and totals of one directory from entries in any order. Only for loading.
    pub(crate) fn set_children(&mut self, directory: u32, mut slots: Vec<u32>) {
        let (inodes, names) = (&self.inodes, self.names.pages());
        slots.sort_unstable_by_key(|slot| names.get(inodes.get(*slot).name));
        self.directory_mut(directory).children = super::children::Children::from_sorted(&slots);
    }
    /// Sets the totals of a directory. Only for loading.
    pub(crate) fn set_totals(&mut self, directory: u32, files: u64, directories: u64) {
        let directory = self.directory_mut(directory);
        directory.files = files;
        directory.directories = directories;
    }
}
