//! Rules of files: writing, publishing, joining.

use proto::error::ErrorCode;

use super::names::Made;
use super::rights::{ENTRIES, Person, READ, WRITE};
use super::rules::{Last, Pin, Reasons, State, Told, Writer, refuse};
use super::tree::{Block, Body, File, Id};

/// Settings of the harness.
const MIN_BLOCK_BYTES: u64 = 1024;
const MAX_BLOCKS: usize = 100;
/// Blocks that one truncate cuts off.
pub(super) const MAX_CUT: usize = 5000;
pub(super) const MAX_REPLICATION: u64 = 512;

pub(super) struct NewFile {
    pub(super) made: Made,
    pub(super) overwrite: bool,
    pub(super) parents: bool,
    pub(super) at_once: bool,
    pub(super) first_block: bool,
    pub(super) replication: u64,
    pub(super) block_size_bytes: u64,
}

/// What a writer says of its last block: id, stamp, length.
pub(super) type Said = Option<(i64, u64, u64)>;

/// What is to be done to the last block.
enum Ending {
    Settled,
    Commit(u64),
    Drop,
}

impl State {
    /// May a file take the place of another entry?
    fn may_replace(&self, who: &Person, directory: Id, old: Id, overwrite: bool) -> Reasons {
        let (above, node) = (self.tree.get(directory), self.tree.get(old));
        let mut reasons = Reasons::default();
        reasons.when(node.is_directory(), ErrorCode::IsADirectory);
        if !overwrite && !node.is_directory() {
            let open = node.file().is_some_and(|file| file.open);
            reasons.when(true, if open { ErrorCode::FileOpen } else { ErrorCode::AlreadyExists });
        }
        let writable = node.target().is_some() || who.may(node, WRITE);
        reasons.denied_unless(who.may(above, ENTRIES) && writable && !who.is_stuck(above, node));
        reasons
    }

    pub(super) fn create(&mut self, who: &Person, path: &str, new: &NewFile) -> Told<Id> {
        self.attempt(|state| {
            let fits = new.made.mode <= 0o7777
                && new.replication <= MAX_REPLICATION
                && new.block_size_bytes >= MIN_BLOCK_BYTES
                && new.block_size_bytes.is_multiple_of(512);
            if !fits {
                return refuse(ErrorCode::InvalidArgument);
            }
            let before = state.clone();
            let walk = state.walk(who, path, Last::Follow)?;
            let (directory, name) = match (walk.missing.split_last(), walk.entry.clone()) {
                (None, None) => return refuse(ErrorCode::IsADirectory),
                (None, Some((directory, name))) => {
                    state.may_replace(who, directory, walk.at, new.overwrite).judge()?;
                    (directory, name)
                }
                (Some(((name, _), above)), _) => {
                    state.may_add(who, &walk, new.parents)?;
                    let like = state.made_like(walk.at);
                    (state.make_parents(who, walk.at, above, like), name.clone())
                }
            };
            let blocks = if new.first_block { vec![Block::new()] } else { Vec::new() };
            let (replication, block_size_bytes) = (new.replication, new.block_size_bytes);
            let file = File { replication, block_size_bytes, blocks, open: true, cutting: false };
            let id = state.make(who, directory, new.made, Body::File(file));
            let mut published = state.clone();
            published.put(directory, &name, id);
            // What has no room in its place is not begun.
            published.keeps_quotas(&before, false)?;
            let pin = if new.at_once {
                *state = published;
                None
            } else {
                Some(Pin { directory, name, overwrite: new.overwrite })
            };
            state.writers.insert(id, Writer { user: who.name, pin });
            Ok(id)
        })
    }

    /// What the namenode called the last block.
    pub(super) fn name_last_block(&mut self, id: Id, (block, stamp): (i64, u64)) {
        if let Some(last) = self.tree.file_mut(id).blocks.last_mut() {
            (last.id, last.stamp) = (block, stamp);
        }
    }

    /// Whoever writes a file is told when it is gone, or not theirs any more.
    pub(super) fn may_write_on(&self, who: &Person, id: Id) -> Told<()> {
        if !self.tree.nodes.contains_key(&id) {
            return refuse(ErrorCode::NotFound);
        }
        let theirs = self.writers.get(&id).is_some_and(|writer| writer.user == who.name);
        if theirs { Ok(()) } else { refuse(ErrorCode::LeaseLost) }
    }
    fn judge_last(&self, id: Id, said: Said) -> Told<Ending> {
        let file = self.tree.get(id).file().unwrap();
        let invalid = || refuse(ErrorCode::InvalidArgument);
        match (file.blocks.last(), said) {
            (None, None) | (Some(Block { len_bytes: Some(_), .. }), None) => Ok(Ending::Settled),
            (Some(last), None) if file.blocks.len() == 1 && last.floor_bytes == 0 => Ok(Ending::Drop),
            (Some(_), None) | (None, Some(_)) => invalid(),
            (Some(last), Some((block, _, _))) if last.id != block => invalid(),
            (Some(last), Some((_, stamp, _))) if last.stamp != stamp => refuse(ErrorCode::StaleStamp),
            (Some(Block { len_bytes: Some(known), .. }), Some((_, _, len))) => {
                if *known == len {
                    Ok(Ending::Settled)
                } else {
                    invalid()
                }
            }
            // What readers have seen of it stays.
            (Some(last), Some((_, _, len))) if len < last.floor_bytes => invalid(),
            (Some(_), Some((_, _, 0))) => Ok(Ending::Drop),
            (Some(_), Some((_, _, len))) if len > file.block_size_bytes => invalid(),
            (Some(_), Some((_, _, len))) => Ok(Ending::Commit(len)),
        }
    }
    fn settle(&mut self, id: Id, last: Ending) {
        if !matches!(last, Ending::Settled) {
            self.reserved.remove(&id);
        }
        let blocks = &mut self.tree.file_mut(id).blocks;
        match (last, blocks.last_mut()) {
            (Ending::Commit(len), Some(block)) => block.len_bytes = Some(len),
            (Ending::Drop, _) => drop(blocks.pop()),
            _ => {}
        }
    }

    pub(super) fn add_block(&mut self, who: &Person, id: Id, said: Said) -> Told<()> {
        self.attempt(|state| {
            state.may_write_on(who, id)?;
            let before = state.clone();
            let last = state.judge_last(id, said)?;
            let full = state.tree.get(id).file().is_some_and(|file| file.blocks.len() >= MAX_BLOCKS);
            if matches!(last, Ending::Drop) || full {
                return refuse(ErrorCode::InvalidArgument);
            }
            state.settle(id, last);
            state.tree.file_mut(id).blocks.push(Block::new());
            state.room_where_it_goes(id, &before)
        })
    }
    /// A file that is not in the tree yet must have room for its bytes where it will be.
    fn room_where_it_goes(&self, id: Id, before: &Self) -> Told<()> {
        let Some(Pin { directory, name, overwrite }) = self.writers.get(&id).and_then(|writer| writer.pin.clone())
        else {
            return Ok(());
        };
        if !self.tree.nodes.contains_key(&directory) {
            return Ok(());
        }
        let old = self.tree.child(directory, &name);
        let replaces = overwrite && old.is_some_and(|old| !self.tree.get(old).is_directory());
        let mut published = self.clone();
        let name = if old.is_some() && !replaces { format!("{name} beside it") } else { name };
        published.put(directory, &name, id);
        published.keeps_quotas(before, true)
    }

    pub(super) fn abandon_block(&mut self, who: &Person, id: Id, block: i64, stamp: u64) -> Told<()> {
        self.attempt(|state| {
            state.may_write_on(who, id)?;
            let blocks = &mut state.tree.file_mut(id).blocks;
            match blocks.last() {
                Some(last) if last.id == block => {
                    if last.stamp != stamp {
                        return refuse(ErrorCode::StaleStamp);
                    }
                    if last.len_bytes.is_some() || last.floor_bytes > 0 {
                        return refuse(ErrorCode::InvalidArgument);
                    }
                    blocks.pop();
                    state.reserved.remove(&id);
                    Ok(())
                }
                _ if blocks.iter().any(|other| other.id == block) => refuse(ErrorCode::InvalidArgument),
                // It may come twice.
                _ => Ok(()),
            }
        })
    }

    pub(super) fn complete(&mut self, who: &Person, id: Id, said: Said) -> Told<Id> {
        self.attempt(|state| {
            state.may_write_on(who, id)?;
            let last = state.judge_last(id, said)?;
            let pin = state.may_appear(who, id)?;
            state.settle(id, last);
            let (mtime_ns, ctime_ns) = (state.tree.get(id).mtime_ns, state.tree.get(id).ctime_ns);
            state.close(id);
            if pin.is_none() && state.tree.file_mut(id).blocks.is_empty() {
                let node = state.tree.edit(id);
                (node.mtime_ns, node.ctime_ns) = (mtime_ns, ctime_ns);
            }
            if let Some(pin) = pin {
                state.put(pin.directory, &pin.name, id);
            }
            Ok(id)
        })
    }
    /// The place of a file that nobody sees yet, if it may get there now.
    pub(super) fn may_appear(&self, who: &Person, id: Id) -> Told<Option<Pin>> {
        let pin = self.writers.get(&id).and_then(|writer| writer.pin.clone());
        if let Some(pin) = &pin {
            if !self.tree.nodes.contains_key(&pin.directory) {
                return refuse(ErrorCode::NotFound);
            }
            match self.tree.child(pin.directory, &pin.name) {
                Some(old) => self.may_replace(who, pin.directory, old, pin.overwrite).judge()?,
                None if who.may(self.tree.get(pin.directory), ENTRIES) => {}
                None => return refuse(ErrorCode::PermissionDenied),
            }
        }
        Ok(pin)
    }
    /// The file is what it is.
    pub(super) fn close(&mut self, id: Id) {
        self.writers.remove(&id);
        self.recoveries.remove(&id);
        self.reserved.remove(&id);
        let file = self.tree.file_mut(id);
        (file.open, file.cutting) = (false, false);
        self.touch(id);
    }

    /// What nobody sees vanishes; what is seen is closed at what its replicas hold.
    pub(super) fn discard(&mut self, who: &Person, id: Id) -> Told<()> {
        self.attempt(|state| {
            state.may_write_on(who, id)?;
            state.give_up(id);
            Ok(())
        })
    }
    /// A writer is silent: all its files.
    pub(super) fn release_all(&mut self, who: &Person) -> Told<()> {
        self.attempt(|state| {
            let theirs = state.writers.iter().filter(|(_, writer)| writer.user == who.name).map(|(id, _)| *id);
            for id in theirs.collect::<Vec<Id>>() {
                state.give_up(id);
            }
            Ok(())
        })
    }

    pub(super) fn concat(&mut self, who: &Person, target: &str, sources: &[String]) -> Told<()> {
        self.attempt(|state| {
            if sources.is_empty() {
                return refuse(ErrorCode::InvalidArgument);
            }
            let walk = state.walk(who, target, Last::Keep)?;
            if !walk.missing.is_empty() {
                return refuse(ErrorCode::NotFound);
            }
            let mut reasons = Reasons::default();
            let Some((directory, _)) = walk.entry else { return refuse(ErrorCode::IsADirectory) };
            state.may_be_a_part(walk.at, &mut reasons);
            let (above, node) = (state.tree.get(directory), state.tree.get(walk.at));
            reasons.denied_unless(who.may(node, WRITE) && who.may(above, ENTRIES));
            let parent = |path: &str| path.rsplit_once('/').map(|(above, _)| above.to_owned());
            let (mut joined, mut names) = (Vec::new(), Vec::new());
            for source in sources {
                let Some((_, name)) = source.rsplit_once('/').filter(|_| parent(source) == parent(target)) else {
                    reasons.when(true, ErrorCode::InvalidArgument);
                    continue;
                };
                let Some(id) = state.tree.child(directory, name) else {
                    reasons.when(true, ErrorCode::NotFound);
                    continue;
                };
                let part = state.tree.get(id);
                state.may_be_a_part(id, &mut reasons);
                reasons.denied_unless(who.may(part, READ) && !who.is_stuck(above, part));
                let block_bytes = |id: Id| state.tree.get(id).file().map_or(0, |file| file.block_size_bytes);
                let alone = state.tree.places(id).len() == 1 && !state.in_a_snapshot(id);
                let fits = id != walk.at && !joined.contains(&id) && block_bytes(id) <= block_bytes(walk.at);
                reasons.when(!(alone && fits), ErrorCode::InvalidArgument);
                joined.push(id);
                names.push(name.to_owned());
            }
            reasons.judge()?;
            let parts: Vec<Block> = joined
                .iter()
                .filter_map(|id| state.tree.get(*id).file())
                .flat_map(|file| file.blocks.clone())
                .collect();
            let blocks = &mut state.tree.file_mut(walk.at).blocks;
            blocks.extend(parts);
            if blocks.len() > MAX_BLOCKS {
                return refuse(ErrorCode::InvalidArgument);
            }
            for name in names {
                state.take_out(directory, &name);
            }
            state.touch(walk.at);
            Ok(())
        })
    }
    /// Closed files that are not empty.
    fn may_be_a_part(&self, id: Id, reasons: &mut Reasons) {
        match &self.tree.get(id).body {
            Body::Directory(_) => reasons.when(true, ErrorCode::IsADirectory),
            Body::Symlink(_) => reasons.when(true, ErrorCode::InvalidArgument),
            Body::File(file) => {
                reasons.when(file.open, ErrorCode::FileOpen);
                reasons.when(file.blocks.is_empty(), ErrorCode::InvalidArgument);
            }
        }
    }
}
