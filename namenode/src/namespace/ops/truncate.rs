//! `truncate`: a closed file gets shorter.
//!
//! ```text
//!   at a boundary:   the blocks behind go (those that a snapshot sees stay as cuts)                   done
//!   inside a block:  it shows its new length at once, and its replicas are cut by a recovery          not done
//! ```
//!
//! What a snapshot sees of a block is never taken away (scar SC-12). To cut inside such a block its first part has to be
//! copied. The namenode has no data: the caller copies it into a file of its own, a *tail*, which then takes the block's
//! place in one step (HDFS' namenode lets datanodes copy: "copy-on-truncate"):
//!
//! ```text
//!   file   |block 1|block 2|      cut inside block 2      |block 1|tail|        tail: gone
//!   tail   |first bytes of block 2|       ─────▶          snapshot: |block 1|block 2|
//! ```

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::Truncate;
use proto::path::FsPath;

use super::blocks::freed;
use crate::namespace::access::{EXECUTE, WRITE, Who};
use crate::namespace::resolve::Last;
use crate::namespace::store::NONE;
use crate::namespace::store::records::{Open, Recovering};
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, registry};

/// Most blocks that one call cuts off: nobody can look meanwhile.
pub(in crate::namespace) const MAX_CUT_BLOCKS: u64 = 5000;

/// Since this version of the commands a tail may take the place of a block.
const SINCE_TAILS: u32 = 6;

/// Since this version of the commands a tail may take the place of all blocks, and the file that is meant may be named.
const SINCE_WHOLE: u32 = 7;

/// The block in which a file is cut.
struct Edge {
    position: u64,
    offset_bytes: u64,
    /// Bytes of it that stay; 0 at a boundary.
    kept_bytes: u64,
}

/// A file that takes the place of a block, and the directory that it is in.
struct Tail {
    slot: u32,
    directory: u32,
}

impl Namespace {
    pub(in crate::namespace) fn truncate(
        &mut self,
        call: &Call<'_>,
        truncate: &Truncate,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&truncate.path)?;
        let slot = self.closed_file(&who, &path)?;
        self.work += self.store.links_of(slot).len();
        if call.version >= SINCE_WHOLE {
            self.check_inode(slot, truncate.expected_inode, &path)?;
            if let Some(tail) = truncate.tail.as_ref().filter(|_| truncate.whole) {
                return self.replace_content(call, &who, (slot, &path), tail, effects);
            }
        }
        let (len_bytes, whole) = (truncate.len_bytes, self.store.extent(slot));
        if let Some(expected) = truncate.expected_len_bytes.filter(|expected| *expected != whole.len_bytes) {
            let text = format!("the file has {} bytes, {expected} were reckoned with", whole.len_bytes);
            let error = FsError::new(ErrorCode::Changed, text).with_path(path.as_str());
            return Err(
                error.with_hint("somebody wrote to it meanwhile, and nothing was cut: look at it, and try again")
            );
        }
        if len_bytes > whole.len_bytes {
            let text = format!("the file has {} bytes, it cannot be cut to {len_bytes}", whole.len_bytes);
            return Err(registry::invalid(text).with_path(path.as_str()));
        }
        let Some(edge) = self.edge(slot, len_bytes) else {
            return Ok(Outcome::Truncated { status: self.status(slot, path.as_str()), done: true });
        };
        let keep = edge.position + u64::from(edge.kept_bytes > 0);
        let cut = whole.count - keep;
        if cut > MAX_CUT_BLOCKS {
            let text = format!("{cut} blocks would go, one call cuts off {MAX_CUT_BLOCKS}");
            return Err(registry::invalid(text).with_path(path.as_str()).with_hint("cut it in several calls"));
        }
        self.work += self.store.records_of_past(slot);
        let tail = match truncate.tail.as_ref().filter(|_| call.version >= SINCE_TAILS) {
            Some(tail) => {
                self.check_copied(slot, &edge, truncate)?;
                let tail = self.tail_of(&who, (slot, &path), tail, edge.position)?;
                self.check_tail_length(&tail, edge.kept_bytes)?;
                Some(tail)
            }
            None => {
                self.check_edge(slot, &edge, &path)?;
                None
            }
        };
        self.check_room(0)?;
        self.work += whole.count as usize;

        self.store.edit(slot, |inode| {
            inode.mtime_ns = call.now_ns;
            inode.ctime_ns = call.now_ns;
        });
        if let Some(tail) = tail {
            self.work += self.store.extent(tail.slot).count as usize;
            effects.extend(self.store.cut_off(slot, edge.position).iter().map(freed));
            self.append_file(call, (tail.slot, slot), tail.directory, effects);
            return Ok(Outcome::Truncated { status: self.status(slot, path.as_str()), done: true });
        }
        effects.extend(self.store.cut_off(slot, keep).iter().map(freed));
        let done = edge.kept_bytes == 0;
        if !done {
            self.cut_replicas(call, slot, edge.kept_bytes, effects);
        }
        Ok(Outcome::Truncated { status: self.status(slot, path.as_str()), done })
    }

    /// Was the block copied from that is there now?
    fn check_copied(&self, slot: u32, edge: &Edge, truncate: &Truncate) -> FsResult<()> {
        let block = self.store.chain(slot).nth(edge.position as usize).map(|block| self.store.block(block));
        let named = block.is_some_and(|b| (b.id, b.stamp) == (truncate.tail_block, truncate.tail_stamp));
        if named && truncate.expected_len_bytes.is_some() {
            return Ok(());
        }
        let text = "the file changed since the first part of its block was copied";
        Err(FsError::new(ErrorCode::Changed, text).with_path(&truncate.path).with_hint("nothing was cut: try again"))
    }

    /// The file that takes the place of the block in which another one is cut.
    fn tail_of(&self, who: &Who<'_>, (slot, path): (u32, &FsPath), tail: &str, position: u64) -> FsResult<Tail> {
        let (named, entry) = self.find_entry(who, path, Last::Keep)?;
        if named != slot {
            let text = "the file itself has to be named, not a symbolic link to it";
            return Err(registry::invalid(text.to_owned()).with_path(path.as_str()));
        }
        let directory = self.store.inode(entry).parent;
        let tail_slot = self.check_source_of_concat(who, slot, (directory, path), tail, &[])?;
        if directory != NONE {
            who.need(&self.store, directory, WRITE | EXECUTE)?;
        }
        let (inode, extent) = (self.store.inode(tail_slot), self.store.extent(tail_slot));
        if inode.replication != self.store.inode(slot).replication {
            return Err(registry::invalid("the tail has another number of copies".to_owned()).with_path(tail));
        }
        let most = self.settings.max_blocks_per_file;
        if extent.count > MAX_CUT_BLOCKS || extent.count + position > most {
            let text =
                format!("the tail has {} blocks: more than {MAX_CUT_BLOCKS}, or the file than {most}", extent.count);
            return Err(registry::invalid(text).with_path(tail));
        }
        Ok(Tail { slot: tail_slot, directory })
    }

    fn check_tail_length(&self, tail: &Tail, kept_bytes: u64) -> FsResult<()> {
        let len_bytes = self.store.extent(tail.slot).len_bytes;
        if len_bytes == kept_bytes && kept_bytes > 0 {
            return Ok(());
        }
        let text = format!("the tail has {len_bytes} bytes, {kept_bytes} stay of the block that is cut");
        Err(FsError::new(ErrorCode::Changed, text).with_path(self.store.path(tail.slot)))
    }

    fn check_inode(&self, slot: u32, expected: Option<u64>, path: &FsPath) -> FsResult<()> {
        let inode = self.store.inode(slot).id;
        match expected {
            Some(expected) if expected != inode => {
                let text = format!("this is inode {inode} by now, not {expected}");
                let error = FsError::new(ErrorCode::Changed, text).with_path(path.as_str());
                Err(error.with_hint("somebody put another file in its place, and nothing was changed"))
            }
            _ => Ok(()),
        }
    }

    /// All of a file is replaced by the blocks of another one: under all its names, and whoever looks sees one or the other.
    fn replace_content(
        &mut self,
        call: &Call<'_>,
        who: &Who<'_>,
        (slot, path): (u32, &FsPath),
        tail: &str,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let old = self.store.extent(slot);
        if old.count > MAX_CUT_BLOCKS {
            let text = format!("{} blocks would go, one call cuts off {MAX_CUT_BLOCKS}", old.count);
            return Err(registry::invalid(text).with_path(path.as_str()));
        }
        let tail = self.tail_of(who, (slot, path), tail, 0)?;
        let new = self.store.extent(tail.slot);
        let copies = u64::from(self.store.inode(slot).replication);
        let space = new.len_bytes.saturating_mul(copies);
        self.check_space_of_names(slot, space, self.store.weight(slot).space_bytes, &[tail.slot])?;
        self.check_room(0)?;
        self.work += (old.count + new.count) as usize;

        // Snapshots keep what it was: before anything of it goes.
        self.store.edit(slot, |inode| inode.mtime_ns = call.now_ns);
        effects.extend(self.store.cut_off(slot, 0).iter().map(freed));
        self.append_file(call, (tail.slot, slot), tail.directory, effects);
        Ok(Outcome::Truncated { status: self.status(slot, path.as_str()), done: true })
    }

    /// Where a file is cut; `None` if it keeps all it has.
    fn edge(&self, slot: u32, len_bytes: u64) -> Option<Edge> {
        let (mut position, mut offset_bytes) = (0, 0);
        for block in self.store.chain(slot) {
            let end_bytes = offset_bytes + self.store.block(block).len_bytes;
            if len_bytes < end_bytes {
                return Some(Edge { position, offset_bytes, kept_bytes: len_bytes - offset_bytes });
            }
            (position, offset_bytes) = (position + 1, end_bytes);
        }
        None
    }

    /// Does a snapshot need what would be cut off inside a block?
    fn check_edge(&self, slot: u32, edge: &Edge, path: &FsPath) -> FsResult<()> {
        if base::mutated!(Sc12SnapshotIsCut) {
            return Ok(());
        }
        if edge.kept_bytes == 0 || self.store.bytes_needed(slot, edge.position, edge.offset_bytes) <= edge.kept_bytes {
            return Ok(());
        }
        let text = "a snapshot sees this file longer, and only whole blocks can be cut off it then";
        let hint = format!(
            "cut it at {} bytes, where the block begins, give the first part of the block as a tail, or delete the snapshot",
            edge.offset_bytes
        );
        Err(FsError::new(ErrorCode::Unsupported, text).with_path(path.as_str()).with_hint(hint))
    }

    /// The last block shows its new length from now on; a recovery that nobody has to ask for cuts its replicas.
    fn cut_replicas(&mut self, call: &Call<'_>, slot: u32, kept_bytes: u64, effects: &mut Vec<BlockEffect>) {
        let epoch = self.next.epoch;
        self.next.epoch = epoch.next();
        let recovery = Some(Recovering { target_len_bytes: Some(kept_bytes), accept_loss: false });
        self.store.set_open(slot, Open { recovery, ..Open::by(epoch.raw(), None, None) });
        self.reserve_stamp(slot);
        self.reopen(call, (slot, self.store.extent(slot).last), kept_bytes, effects);
    }
}
