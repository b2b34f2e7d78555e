//! `delete` unlinks a whole tree in one step; `reclaim` frees its inodes and blocks in bounded ones.
//!
//! ```text
//!   delete /a ─▶ unlink ─▶ small file: freed at once
//!                       └▶ else: DETACHED, on the queue ─▶ reclaim takes it apart from below, `limit` at a time
//! ```

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::{Delete, Reclaim};
use proto::path::FsPath;

use super::blocks::freed;
use crate::namespace::access::{EXECUTE, READ, WRITE, Who};
use crate::namespace::store::records::flags;
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, registry};

/// A file with at most this many blocks is freed by the command that unlinks it.
const FREED_AT_ONCE_BLOCKS: u64 = 64;

impl Namespace {
    /// Needs WRITE on the parent, and all rights on every directory of the tree that is not empty, as if each
    /// entry were deleted by itself.
    pub(in crate::namespace) fn delete(
        &mut self,
        call: &Call<'_>,
        delete: &Delete,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&delete.path)?;
        if path.is_root() {
            return Err(registry::invalid("the root cannot be deleted".to_owned()).with_path("/"));
        }
        let slot = self.find(&who, &path)?;
        let above = self.store.inode(slot).parent;
        who.need(&self.store, above, WRITE | EXECUTE)?;
        who.need_unstuck(&self.store, above, slot)?;
        if self.store.inode(slot).is_dir() && self.store.directory(slot).children.len() > 0 {
            if !delete.recursive {
                return Err(FsError::new(ErrorCode::NotEmpty, "the directory is not empty")
                    .with_path(path.as_str())
                    .with_hint("delete it with all its contents (rm -r)"));
            }
            self.check_tree(&who, slot)?;
        }

        let (files, directories) = self.store.weight(slot);
        self.store.unlink(slot);
        self.touch(above, call.now_ns);
        self.discard_tree(slot, effects);
        Ok(Outcome::Deleted { files, directories })
    }

    /// Looks into directories only where there are directories below.
    fn check_tree(&self, who: &Who<'_>, top: u32) -> FsResult<()> {
        if who.superuser {
            return Ok(());
        }
        let mut open = vec![top];
        while let Some(at) = open.pop() {
            let directory = self.store.directory(at);
            if directory.children.len() == 0 {
                continue;
            }
            who.need(&self.store, at, READ | WRITE | EXECUTE)?;
            for entry in directory.children.iter().filter(|_| self.store.inode(at).is_sticky()) {
                who.need_unstuck(&self.store, at, entry)?;
            }
            if directory.directories > 0 {
                open.extend(directory.children.iter().filter(|child| self.store.inode(*child).is_dir()));
            }
        }
        Ok(())
    }

    /// Takes over an inode that is in no directory (any more): frees it if that is little work, else queues it.
    pub(super) fn discard_tree(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) {
        let small = if self.store.inode(slot).is_dir() {
            self.store.directory(slot).children.len() == 0
        } else {
            self.store.extent(slot).count <= FREED_AT_ONCE_BLOCKS
        };
        if small {
            self.free_inode(slot, effects);
            return;
        }
        let (files, directories) = self.store.weight(slot);
        self.pending += files + directories;
        if !self.store.inode(slot).is_dir() {
            self.end_lease(slot);
        }
        self.detach(slot);
    }

    fn detach(&mut self, slot: u32) {
        self.store.edit(slot, |inode| inode.flags |= flags::DETACHED);
        self.queue.push(self.store.inode(slot).id);
    }

    /// Stops after `limit` inodes and blocks together, up to [`FREED_AT_ONCE_BLOCKS`] beyond it.
    pub(in crate::namespace) fn reclaim(&mut self, reclaim: &Reclaim, effects: &mut Vec<BlockEffect>) -> Outcome {
        let mut work = 0;
        while work < u64::from(reclaim.limit) {
            let Some(slot) = self.queue.last().and_then(|id| self.store.slot(*id)) else { break };
            work += if self.store.inode(slot).is_dir() {
                self.reclaim_entry(slot, effects)
            } else {
                self.reclaim_file(slot, u64::from(reclaim.limit) - work, effects)
            };
        }
        Outcome::Reclaimed { pending: self.pending }
    }

    /// Frees the last entry of a queued directory, or puts it on the queue if it is much work; or frees the
    /// directory, if it is empty.
    fn reclaim_entry(&mut self, directory: u32, effects: &mut Vec<BlockEffect>) -> u64 {
        let Some(entry) = self.store.directory(directory).children.last() else {
            self.queue.pop();
            return self.reclaim_one(directory, effects);
        };
        self.store.cut(entry);
        let inode = self.store.inode(entry);
        if !inode.is_dir() && self.store.extent(entry).count <= FREED_AT_ONCE_BLOCKS {
            return self.reclaim_one(entry, effects);
        }
        if !inode.is_dir() {
            self.end_lease(entry);
        }
        self.detach(entry);
        1
    }

    /// Frees up to `most` blocks of a queued file, and the file with the last of them.
    fn reclaim_file(&mut self, slot: u32, most: u64, effects: &mut Vec<BlockEffect>) -> u64 {
        if self.store.extent(slot).count < most {
            self.queue.pop();
            return self.reclaim_one(slot, effects);
        }
        let blocks = (0..most).map_while(|_| self.store.take_first_block(slot));
        effects.extend(blocks.map(|block| freed(&block)));
        most
    }

    fn reclaim_one(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) -> u64 {
        let freed_before = effects.len();
        self.free_inode(slot, effects);
        self.pending -= 1;
        (1 + effects.len() - freed_before) as u64
    }

    /// Frees an inode without entries, with its lease and blocks.
    fn free_inode(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) {
        self.end_lease(slot);
        if !self.store.inode(slot).is_dir() {
            let blocks = self.store.clear_blocks(slot);
            effects.extend(blocks.iter().map(freed));
        }
        self.store.remove_inode(slot);
    }
}
