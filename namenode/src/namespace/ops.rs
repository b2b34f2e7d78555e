//! The operations, one file each. Each one decides first and then makes changes that cannot fail (scar SC-03):
//! below the line where an operation takes `&mut self.store` there is no `?`.

mod blocks;
mod close;
mod create;
mod delete;
mod leases;
mod mkdir;
mod rename;

use super::Namespace;
use super::store::fresh;
use super::store::records::{Inode, Kind};

impl Namespace {
    /// Makes directories one below the other; returns the last. All rights and limits are checked already.
    fn make_directories(&mut self, top: u32, names: &[&str], modes: Modes, owner: u32, now_ns: i64) -> u32 {
        let mut at = top;
        for (i, name) in names.iter().enumerate() {
            let mode = if i + 1 == names.len() { modes.last } else { modes.between };
            let directory = self.new_inode(Kind::Directory, mode, owner, at, now_ns);
            let slot = self.store.add_inode(directory);
            self.store.link(at, name, slot);
            self.touch(at, now_ns);
            at = slot;
        }
        at
    }
    /// An inode with the next id. Its group is that of the directory that it is made in.
    fn new_inode(&mut self, kind: Kind, mode: u16, owner: u32, parent: u32, now_ns: i64) -> Inode {
        let id = self.next.inode;
        self.next.inode = id.next();
        fresh(id.raw(), kind, mode, owner, self.store.inode(parent).group, now_ns)
    }
    /// Entries of a directory changed.
    fn touch(&mut self, directory: u32, now_ns: i64) {
        self.store.edit(directory, |inode| {
            inode.mtime_ns = now_ns;
            inode.ctime_ns = now_ns;
        });
    }
}

/// Modes of directories that are made in one go.
#[derive(Clone, Copy)]
struct Modes {
    between: u16,
    last: u16,
}

/// Added to the mode of directories that are made on the way, so that their maker can go on below them.
const OWNER_WRITE_EXECUTE: u16 = 0o300;
