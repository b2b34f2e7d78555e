//! `delete` unlinks a whole tree in one step; `reclaim` frees its inodes and blocks in bounded ones.
//!
//! ```text
//!   delete /a ─▶ unlink ─▶ has other names: lives on
//!                       ├▶ a snapshot sees it: HELD; what is younger than the snapshot is swept out of it
//!                       ├▶ small file: freed at once
//!                       └▶ else: DETACHED, on the queue ─▶ reclaim takes it apart from below, `limit` at a time
//! ```

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::InodeId;
use proto::log::{Delete, Reclaim};
use proto::path::FsPath;

use super::blocks::freed;
use crate::namespace::access::{EXECUTE, WRITE, Who};
use crate::namespace::resolve::Last;
use crate::namespace::store::NONE;
use crate::namespace::store::records::{Block, Open, flags, rare};
use crate::namespace::walk::{Need, RightsWalk};
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, Sweep, registry};

/// What it costs to free an inode or block, in looks at entries.
const RECLAIM_WORK: usize = 8;
/// Names below a directory that the command which deletes it looks at.
pub(in crate::namespace) const CHECKED_AT_ONCE: usize = 512;
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
        let (slot, entry) = self.find_entry(&who, &path, Last::Keep)?;
        if delete.checked_inode != 0 && self.store.inode(slot).id != delete.checked_inode {
            // It was looked at for a while. What is here now is not what the caller saw, and perhaps he is gone.
            let text = "what was to be deleted is not here any more; what is here was left alone";
            return Err(FsError::new(ErrorCode::NotFound, text).with_path(path.as_str()));
        }
        let above = self.store.inode(entry).parent;
        who.need(&self.store, above, WRITE | EXECUTE)?;
        who.need_unstuck(&self.store, above, entry)?;
        if self.store.inode(slot).is_dir() && self.store.directory(slot).children.len() > 0 {
            if !delete.recursive {
                return Err(FsError::new(ErrorCode::NotEmpty, "the directory is not empty")
                    .with_path(path.as_str())
                    .with_hint("delete it with all its contents (rm -r)"));
            }
            self.check_tree(call, &who, slot, delete.checked_inode)?;
        }
        self.check_no_snapshots_below(slot)?;

        let gone = self.store.weight(entry);
        self.remove_entry(entry, call.now_ns, effects);
        self.touch(above, call.now_ns);
        Ok(Outcome::Deleted { files: gone.files + gone.symlinks, directories: gone.directories })
    }

    /// Takes an entry out of its directory. The inode behind it goes with its last name.
    pub(super) fn remove_entry(&mut self, entry: u32, now_ns: i64, effects: &mut Vec<BlockEffect>) {
        let slot = self.store.inode_of(entry);
        self.store.unlink(entry);
        if self.store.lives_on(entry) {
            self.store.edit(slot, |inode| inode.ctime_ns = now_ns);
            self.end_writing_of_the_dead(slot, effects);
        } else {
            self.let_go(entry, effects);
        }
    }

    /// An inode lost its last name: snapshots hold it, or it goes.
    fn let_go(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) {
        if self.store.inode(slot).has_rare(rare::GHOSTS) && !base::mutated!(Sc10SnapshotIsForgotten) {
            self.hold(slot, effects);
        } else {
            self.discard_tree(slot, effects);
        }
    }

    /// Keeps what snapshots see of a tree: nobody writes in it any more (scar SC-11).
    fn hold(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) {
        self.end_writing(slot, effects);
        self.store.mark(slot, |inode| inode.flags |= flags::HELD);
        if self.store.inode(slot).is_dir() {
            let (id, newest) = (self.store.inode(slot).id, self.store.newest_ghost_of(slot));
            self.sweeps.push(Sweep { directory: id, after: "".into(), died: newest });
        }
    }
    /// Nobody writes in an inode whose other names are all in trees that are gone.
    fn end_writing_of_the_dead(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) {
        // Whether it lives is asked of all its names: only where there is something to end.
        let last = self.store.extent(slot).last;
        let open_end = last != NONE && !self.store.block(last).committed();
        let written = self.store.inode(slot).is_file() && (self.store.inode(slot).has(flags::OPEN) || open_end);
        if written && !self.store.alive(slot) && !base::mutated!(Sc11LeaseOfTheDead) {
            self.end_writing(slot, effects);
        }
    }
    /// Ends construction; a last block without its final length goes. One that was opened again stays, because a snapshot
    /// may see what it had before: a recovery finishes it at just that.
    fn end_writing(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) {
        let last = self.store.extent(slot).last;
        let open = (last != NONE).then(|| self.store.block(last)).filter(|block| !block.committed());
        if let Some(block) = open.filter(Block::is_visible) {
            if !self.store.open_of(slot).is_some_and(Open::is_being_cut) {
                self.recover(slot, Some(block.len_bytes));
            }
            return;
        }
        self.end_lease(slot);
        if open.is_some() {
            effects.extend(self.store.pop_block(slot).as_ref().map(freed));
        }
    }

    /// Looks at some entries of a tree that snapshots hold: what they do not see goes.
    fn sweep(&mut self, most: u64, effects: &mut Vec<BlockEffect>) -> u64 {
        let Some(mut sweep) = self.sweeps.pop() else { return 0 };
        let held = self.store.slot(sweep.directory).filter(|slot| self.store.is_held(*slot));
        let Some(directory) = held else { return 1 };
        let entries: Vec<u32> = self.store.entries_after(directory, &sweep.after).take(most as usize).collect();
        let work = entries.len() as u64;
        if let Some(last) = entries.last().filter(|_| work == most) {
            sweep.after = self.store.name(*last).into();
            self.sweeps.push(sweep.clone());
        }
        for entry in entries {
            let slot = self.store.inode_of(entry);
            if !self.store.sees(entry, sweep.died) {
                self.store.set_born(entry, 0);
                self.store.take_out(entry);
                if self.store.lives_on(entry) {
                    self.end_writing_of_the_dead(slot, effects);
                } else {
                    self.let_go(entry, effects);
                }
            } else if self.store.inode(slot).is_dir() {
                let id = self.store.inode(slot).id;
                self.sweeps.push(Sweep { directory: id, after: "".into(), died: sweep.died });
            } else {
                self.end_writing_of_the_dead(slot, effects);
            }
        }
        work + 1
    }

    /// Has the caller all rights on the tree? A large tree is left to the leader: it looks at the tree in steps, and the
    /// command comes again with its word for it (see `core/long.rs`). Entries of versions before 3 were checked here
    /// whatever their size, and are.
    fn check_tree(&mut self, call: &Call<'_>, who: &Who<'_>, top: u32, checked_inode: u64) -> FsResult<()> {
        let id = self.store.inode(top).id;
        if who.superuser || checked_inode == id {
            return Ok(());
        }
        let most = if call.version < 3 { usize::MAX } else { CHECKED_AT_ONCE };
        let (mut walk, mut left) = (RightsWalk::new(Need::ToDelete, id), most);
        let whole = walk.step(self, who, &mut left)?;
        self.work += most - left;
        if whole {
            return Ok(());
        }
        self.unchecked = Some(InodeId::from_raw(id));
        let text = format!("the tree has more than {CHECKED_AT_ONCE} names, whose rights are checked in steps");
        Err(FsError::new(ErrorCode::Overloaded, text)
            .with_path(self.store.path(top))
            .with_hint("try again in a moment"))
    }

    /// Takes over an inode that is in no directory (any more): frees it if that is little work, else queues it.
    pub(super) fn discard_tree(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) {
        let small = if self.store.inode(slot).is_dir() {
            let id = self.store.inode(slot).id;
            self.store.directory(slot).children.len() == 0 && self.store.ghosts_in(id, "").next().is_none()
        } else {
            self.is_small_file(slot)
        };
        if small {
            self.free_inode(slot, effects);
            return;
        }
        self.pending += self.store.weight(slot).names();
        if !self.store.inode(slot).is_dir() {
            self.end_lease(slot);
        }
        self.detach(slot);
    }

    fn is_small_file(&self, slot: u32) -> bool {
        let most = FREED_AT_ONCE_BLOCKS;
        let cuts = self.store.cut_slots(slot).take(most as usize + 1).count() as u64;
        self.store.extent(slot).count + cuts <= most
    }

    fn detach(&mut self, slot: u32) {
        self.store.mark(slot, |inode| inode.flags |= flags::DETACHED);
        self.queue.push(self.store.inode(slot).id);
    }

    /// Stops after `limit` inodes and blocks together, up to [`FREED_AT_ONCE_BLOCKS`] beyond it.
    pub(in crate::namespace) fn reclaim(&mut self, reclaim: &Reclaim, effects: &mut Vec<BlockEffect>) -> Outcome {
        let limit = u64::from(reclaim.limit);
        let mut work = 0;
        if let Some(purge) = self.purge.take() {
            let purged = self.store.purge(&purge, reclaim.limit as usize);
            self.purge = purged.next;
            self.release(purged.released);
            effects.extend(purged.blocks.iter().map(freed));
            work += 1 + purged.looked_at as u64;
        }
        while work < limit && !self.sweeps.is_empty() {
            work += self.sweep(limit - work, effects);
        }
        while work < limit {
            let Some(slot) = self.queue.last().and_then(|id| self.store.slot(*id)) else { break };
            work += if self.store.inode(slot).is_dir() {
                self.reclaim_entry(slot, limit - work, effects)
            } else {
                self.reclaim_file(slot, limit - work, effects)
            };
        }
        self.work += RECLAIM_WORK * usize::try_from(work).unwrap_or(usize::MAX / RECLAIM_WORK);
        Outcome::Reclaimed { pending: self.reclaim_pending() }
    }

    /// Frees the last entry of a queued directory, or puts it on the queue if it is much work; or frees the
    /// directory, if it is empty.
    fn reclaim_entry(&mut self, directory: u32, most: u64, effects: &mut Vec<BlockEffect>) -> u64 {
        let Some(entry) = self.store.directory(directory).children.last() else {
            let (dropped, released) = self.store.drop_ghosts_in(self.store.inode(directory).id, most as usize);
            self.release(released);
            if dropped > 0 {
                return dropped as u64;
            }
            self.queue.pop();
            return self.reclaim_one(directory, effects);
        };
        let slot = self.store.inode_of(entry);
        self.store.cut(entry);
        self.store.set_born(entry, 0);
        if self.store.lives_on(entry) {
            self.pending -= 1;
            self.end_writing_of_the_dead(slot, effects);
            return 1;
        }
        if self.store.inode(entry).has_rare(rare::GHOSTS) {
            self.pending -= self.store.weight(entry).names();
            self.hold(entry, effects);
            return 1;
        }
        let inode = self.store.inode(entry);
        if !inode.is_dir() && self.is_small_file(entry) {
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
        let cuts = self.store.drop_cuts_of(slot, most as usize);
        effects.extend(cuts.iter().map(freed));
        let (done, rest) = (cuts.len() as u64, most - cuts.len() as u64);
        if rest == 0 {
            return most;
        }
        if self.store.extent(slot).count < rest {
            self.queue.pop();
            return done + self.reclaim_one(slot, effects);
        }
        let blocks = (0..rest).map_while(|_| self.store.take_first_block(slot));
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
        if self.store.inode(slot).is_file() {
            let mut blocks = self.store.clear_blocks(slot);
            blocks.append(&mut self.store.drop_cuts_of(slot, usize::MAX));
            effects.extend(blocks.iter().map(freed));
        }
        if self.store.inode(slot).has(flags::SNAPSHOTTABLE) {
            self.snapshottable.remove(&self.store.inode(slot).id);
        }
        self.store.remove_inode(slot);
    }

    /// Nothing holds these any more: they wait to be reclaimed.
    fn release(&mut self, slots: Vec<u32>) {
        for slot in slots {
            self.store.mark(slot, |inode| inode.flags &= !flags::HELD);
            self.end_lease(slot);
            self.pending += self.store.weight(slot).names();
            self.detach(slot);
        }
    }
}
