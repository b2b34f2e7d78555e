//! Rules of files that are written again: pipelines, publishing, appending, cutting, recovering.

use proto::error::ErrorCode;

use super::files::MAX_CUT;
use super::rights::{Person, WRITE};
use super::rules::{Last, State, Told, Writer, refuse};
use super::tree::{Block, File, Id};

/// The end of a recovery: the length of the last block, or none if no replica of it was found.
pub(super) type End = Option<u64>;

impl State {
    /// The writer is gone.
    pub(super) fn give_up(&mut self, id: Id) {
        let writer = self.writers.remove(&id);
        self.reserved.remove(&id);
        if writer.is_some_and(|writer| writer.pin.is_some()) {
            return;
        }
        let open =
            self.tree.get(id).file().and_then(|file| file.blocks.last()).is_some_and(|last| last.len_bytes.is_none());
        if open {
            self.recoveries.entry(id).or_insert(None);
        } else {
            self.close(id);
        }
    }

    fn open_last(&mut self, id: Id, (block, stamp): (i64, u64)) -> Told<&mut Block> {
        match self.tree.file_mut(id).blocks.last_mut() {
            Some(last) if last.id == block && last.len_bytes.is_none() => {
                if last.stamp == stamp {
                    Ok(last)
                } else {
                    refuse(ErrorCode::StaleStamp)
                }
            }
            _ => refuse(ErrorCode::InvalidArgument),
        }
    }
    pub(super) fn new_stamp(&mut self, who: &Person, id: Id, block: (i64, u64)) -> Told<()> {
        self.attempt(|state| {
            state.may_write_on(who, id)?;
            state.open_last(id, block).map(drop)
        })
    }
    pub(super) fn update_pipeline(
        &mut self,
        who: &Person,
        id: Id,
        block: (i64, u64),
        (new_stamp, len_bytes): (u64, u64),
    ) -> Told<()> {
        self.attempt(|state| {
            state.may_write_on(who, id)?;
            let (reserved, most) =
                (state.reserved.get(&id).copied(), state.tree.get(id).file().map_or(0, |file| file.block_size_bytes));
            let last = state.open_last(id, block)?;
            if reserved != Some(new_stamp) {
                return refuse(ErrorCode::StaleStamp);
            }
            if len_bytes > most || len_bytes < last.floor_bytes {
                return refuse(ErrorCode::InvalidArgument);
            }
            last.stamp = new_stamp;
            state.reserved.remove(&id);
            Ok(())
        })
    }
    pub(super) fn publish(&mut self, who: &Person, id: Id) -> Told<Id> {
        self.attempt(|state| {
            state.may_write_on(who, id)?;
            if let Some(pin) = state.may_appear(who, id)? {
                state.put(pin.directory, &pin.name, id);
                if let Some(writer) = state.writers.get_mut(&id) {
                    writer.pin = None;
                }
            }
            Ok(id)
        })
    }

    /// A file that may be changed by this caller, and that nobody writes.
    fn closed_file(&self, who: &Person, path: &str) -> Told<Id> {
        let id = self.find(who, path, Last::Follow)?;
        let node = self.tree.get(id);
        let Some(file) = node.file() else { return refuse(ErrorCode::IsADirectory) };
        if !who.may(node, WRITE) {
            return refuse(ErrorCode::PermissionDenied);
        }
        if file.open { refuse(ErrorCode::FileOpen) } else { Ok(id) }
    }
    /// This file in every snapshot that shows it.
    fn in_snapshots(&self, id: Id) -> impl Iterator<Item = &File> {
        let trees = self.snapshots.values().flatten().map(|snapshot| &snapshot.tree);
        trees.filter_map(move |tree| tree.nodes.get(&id)?.file())
    }
    /// Is the last block of this file one that a snapshot shows with others behind it?
    fn is_inner_in_a_snapshot(&self, id: Id) -> bool {
        let last = self.tree.get(id).file().and_then(|file| file.blocks.last()).map(|block| block.id);
        self.in_snapshots(id).any(|file| {
            let at = file.blocks.iter().position(|block| Some(block.id) == last);
            at.is_some_and(|at| at + 1 < file.blocks.len())
        })
    }

    /// Length of the file, and of its last block if that is opened again.
    pub(super) fn append(&mut self, who: &Person, path: &str, new_block: bool) -> Told<(Id, u64, Option<u64>)> {
        self.attempt(|state| {
            let id = state.closed_file(who, path)?;
            let stays = new_block || state.is_inner_in_a_snapshot(id);
            let file = state.tree.file_mut(id);
            let (len_bytes, block_size_bytes) = (file.len_bytes(), file.block_size_bytes);
            let with_room = |block: &&mut Block| !stays && block.visible_bytes() < block_size_bytes;
            let last = file.blocks.last_mut().filter(with_room).map(|last| {
                last.floor_bytes = last.visible_bytes();
                last.len_bytes = None;
                last.floor_bytes
            });
            file.open = true;
            state.writers.insert(id, Writer { user: who.name, pin: None });
            Ok((id, len_bytes, last))
        })
    }

    /// True: nothing is left to do.
    pub(super) fn truncate(
        &mut self,
        who: &Person,
        path: &str,
        (len_bytes, expected_len_bytes): (u64, Option<u64>),
    ) -> Told<(Id, bool)> {
        self.attempt(|state| {
            let id = state.closed_file(who, path)?;
            let file = state.tree.file_mut(id);
            if expected_len_bytes.is_some_and(|expected| expected != file.len_bytes()) {
                return refuse(ErrorCode::Changed);
            }
            if len_bytes > file.len_bytes() {
                return refuse(ErrorCode::InvalidArgument);
            }
            if len_bytes == file.len_bytes() {
                return Ok((id, true));
            }
            let (mut kept, mut left) = (Vec::new(), len_bytes);
            for block in &file.blocks {
                if left == 0 {
                    break;
                }
                let bytes = left.min(block.visible_bytes());
                kept.push((block.clone(), bytes));
                left -= bytes;
            }
            if file.blocks.len() - kept.len() > MAX_CUT {
                return refuse(ErrorCode::InvalidArgument);
            }
            let inside = kept.last().filter(|(block, bytes)| *bytes < block.visible_bytes()).cloned();
            file.blocks = kept.into_iter().map(|(block, _)| block).collect();
            if let Some((block, bytes)) = &inside {
                let needed =
                    |file: &File| file.blocks.iter().any(|one| one.id == block.id && one.visible_bytes() > *bytes);
                if state.in_snapshots(id).any(needed) {
                    return refuse(ErrorCode::Unsupported);
                }
                let file = state.tree.file_mut(id);
                (file.open, file.cutting) = (true, true);
                if let Some(last) = file.blocks.last_mut() {
                    (last.len_bytes, last.floor_bytes) = (None, *bytes);
                }
                state.recoveries.insert(id, Some(*bytes));
            }
            state.touch(id);
            Ok((id, inside.is_none()))
        })
    }

    /// True: it is closed.
    pub(super) fn recover_lease(&mut self, who: &Person, path: &str) -> Told<(Id, bool)> {
        self.attempt(|state| {
            let id = state.find(who, path, Last::Follow)?;
            let node = state.tree.get(id);
            if node.file().is_none() {
                return refuse(ErrorCode::IsADirectory);
            }
            if !who.may(node, WRITE) {
                return refuse(ErrorCode::PermissionDenied);
            }
            if state.tree.get(id).file().is_some_and(|file| file.open) && !state.recoveries.contains_key(&id) {
                state.give_up(id);
            }
            Ok((id, !state.tree.get(id).file().is_some_and(|file| file.open)))
        })
    }
    /// The cluster takes a file from whoever writes it.
    pub(super) fn begin_recovery(&mut self, who: &Person, id: Id) -> Told<()> {
        self.attempt(|state| {
            state.may_write_on(who, id)?;
            state.give_up(id);
            Ok(())
        })
    }
    pub(super) fn finish_recovery(&mut self, id: Id, stamp: u64, end: End) -> Told<()> {
        self.attempt(|state| {
            let Some(target) = state.recoveries.get(&id).copied() else { return refuse(ErrorCode::InvalidArgument) };
            let file = state.tree.file_mut(id);
            let most = file.block_size_bytes;
            let Some(last) = file.blocks.last_mut() else { return refuse(ErrorCode::InvalidArgument) };
            let fits = match end {
                None => last.floor_bytes == 0,
                Some(len) => {
                    (last.floor_bytes..=most).contains(&len) && len > 0 && target.is_none_or(|target| target == len)
                }
            };
            if !fits {
                return refuse(ErrorCode::InvalidArgument);
            }
            match end {
                Some(len) => (last.len_bytes, last.stamp) = (Some(len), stamp),
                None => drop(file.blocks.pop()),
            }
            state.close(id);
            Ok(())
        })
    }
}
