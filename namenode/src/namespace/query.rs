//! Reading: what callers and the service ask without changing anything.

use std::ops::Range;

use prost::Message;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp, InodeId, LeaseEpoch, LogIndex, SessionId, StorageId, Term};
use proto::log::{CallerRecord, Settings};
use proto::namespace::FileStatus;
use proto::path::FsPath;

use super::access::{READ, Who};
use super::hash::Mixer;
use super::ops::no_content;
use super::registry::root;
use super::resolve::Last;
use super::store::cuts::PastBlock;
use super::store::records::Open;
use super::store::{NONE, hash_kind};
use super::view::Seen;
use super::walk::{ListWalk, NAMES_AT_ONCE, StatWalk, Walk};
use super::{
    BlockKey, BlockState, BlockView, Counts, Identity, LeaseView, Namespace, OpenFile, OpenLease, Recovery,
    StorageIndex, StorageRecord, WriteView,
};

impl Namespace {
    /// Status of a path. Needs the right to pass through every directory above.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `NotADirectory`.
    pub fn stat(&self, who: &CallerRecord, path: &FsPath) -> FsResult<FileStatus> {
        self.stat_whole(&self.who(who)?, path, Last::Follow)
    }

    /// As [`Namespace::stat`], of a symbolic link itself.
    ///
    /// # Errors
    /// As [`Namespace::stat`].
    pub fn stat_link(&self, who: &CallerRecord, path: &FsPath) -> FsResult<FileStatus> {
        self.stat_whole(&self.who(who)?, path, Last::Keep)
    }
    fn stat_whole(&self, who: &Who<'_>, path: &FsPath, last: Last) -> FsResult<FileStatus> {
        let mut walk = StatWalk::begin(self, who, path, last)?;
        while !walk.step(self, who, &mut NAMES_AT_ONCE.clone())? {}
        Ok(walk.answer())
    }

    /// As [`Namespace::stat`], in steps.
    ///
    /// # Errors
    /// As [`Namespace::stat`].
    pub(crate) fn stat_walk(&self, who: &CallerRecord, path: &FsPath, no_follow: bool) -> FsResult<StatWalk> {
        StatWalk::begin(self, &self.who(who)?, path, Last::keep(no_follow))
    }

    /// At most `limit` entries by name after `start_after`, and whether more follow. `path` of each is its name.
    /// Needs READ and EXECUTE on the directory. A file is listed as its own only entry, with an empty name (as in
    /// HDFS): the path that was asked for is its path.
    ///
    /// # Errors
    /// As [`Namespace::stat`].
    pub fn list(
        &self,
        who: &CallerRecord,
        path: &FsPath,
        start_after: &str,
        limit: usize,
    ) -> FsResult<(Vec<FileStatus>, bool)> {
        self.walk_whole(who, ListWalk::new(path.clone(), start_after, limit))
    }

    /// A file and at most `limit` of its blocks, from the first one that has a byte of the range on; of a file that is
    /// being written also the open last one, if the range ends behind its beginning. Needs the right to read it.
    ///
    /// # Errors
    /// As [`Namespace::stat`], and `IsADirectory`.
    pub fn open(&self, who: &CallerRecord, path: &FsPath, range: Range<u64>, limit: usize) -> FsResult<OpenFile> {
        let who = self.who(who)?;
        let seen = self.look(&who, path, Last::Follow)?;
        let (slot, snapshot) = match seen {
            Seen::Inode { slot, snapshot } if self.store.inode(slot).is_file() => (slot, snapshot),
            Seen::Inode { slot, .. } if self.store.inode(slot).is_symlink() => {
                return Err(FsError::new(ErrorCode::InvalidArgument, "is a symbolic link in a snapshot")
                    .with_path(path.as_str()));
            }
            Seen::Inode { slot, .. } if !self.store.inode(slot).is_dir() => return Err(no_content(path)),
            _ => return Err(FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(path.as_str())),
        };
        self.need_at(&who, slot, snapshot, READ, path)?;
        let blocks = match snapshot {
            None => self.blocks_now(slot, &range, limit),
            Some(snapshot) => self.blocks_then(slot, snapshot, &range, limit),
        };
        Ok(OpenFile { status: self.status_of(seen, path.as_str()), blocks })
    }
    fn blocks_now(&self, slot: u32, range: &Range<u64>, limit: usize) -> Vec<BlockView> {
        // What is being cut has its length already, and no replica may show more.
        let final_length = self.store.open_of(slot).is_some_and(Open::is_being_cut);
        let inside = |(slot, offset_bytes): &(u32, u64)| {
            let block = self.store.block(*slot);
            let reaches = offset_bytes.saturating_add(block.len_bytes) > range.start || !block.committed();
            *offset_bytes < range.end && reaches
        };
        let view = |(slot, offset_bytes)| {
            let view = self.view(slot, offset_bytes);
            BlockView { committed: view.committed || final_length, ..view }
        };
        self.chain_from(slot).filter(inside).take(limit).map(view).collect()
    }
    fn blocks_then(&self, slot: u32, snapshot: u64, range: &Range<u64>, limit: usize) -> Vec<BlockView> {
        let inside = |block: &PastBlock| {
            block.offset_bytes < range.end && block.offset_bytes.saturating_add(block.len_bytes) > range.start
        };
        let view = |past: PastBlock| {
            let view = self.view(past.slot, past.offset_bytes);
            // A digest is of the whole block.
            let digest = view.digest.filter(|_| view.len_bytes == past.len_bytes);
            BlockView { committed: true, len_bytes: past.len_bytes, digest, ..view }
        };
        self.store.blocks_at(slot, snapshot).into_iter().filter(inside).take(limit).map(view).collect()
    }

    /// A block by its id, in constant time.
    #[must_use]
    pub fn block(&self, block: BlockId) -> Option<BlockState> {
        let block = self.store.block(self.store.block_slot(block.raw())?);
        Some(BlockState {
            stamp: GenerationStamp::from_raw(block.stamp),
            len_bytes: block.len_bytes,
            committed: block.committed(),
            replication: u32::from(self.store.inode(block.inode).replication),
            untouched: block.is_untouched(),
        })
    }

    /// Storages in the log of a block; see [`BlockView::storages`].
    #[must_use]
    pub fn storages_of_block(&self, block: BlockId) -> Vec<StorageIndex> {
        let slot = self.store.block_slot(block.raw());
        slot.map(|slot| self.store.homes(slot).map(StorageIndex).collect()).unwrap_or_default()
    }

    /// The digest of a block, for one stamp and one length only.
    #[must_use]
    pub fn block_digest(&self, block: BlockId, stamp: GenerationStamp, len_bytes: u64) -> Option<[u8; 16]> {
        let slot = self.store.block_slot(block.raw())?;
        let known = self.store.block(slot);
        let same = known.committed() && (known.stamp, known.len_bytes) == (stamp.raw(), len_bytes);
        self.store.digest(slot).copied().filter(|_| same)
    }

    /// Calls `each` for every block, by ascending inode, then by position: to fill a block map after a restart. Blocks
    /// that only snapshots see come behind those of their file, with no place in it (0).
    pub fn for_each_block(&self, mut each: impl FnMut(BlockView)) {
        for (_, slot) in self.store.by_id.freeze().iter() {
            self.views(slot).for_each(&mut each);
            self.store.cut_slots(slot).map(|block| self.view(block, 0)).for_each(&mut each);
        }
    }

    /// The id that the next allocation will get: an id below it that has no owner was removed.
    #[must_use]
    pub const fn next_block_id(&self) -> BlockId {
        self.next.block
    }
    /// Blocks with their final length.
    #[must_use]
    pub const fn committed_blocks(&self) -> u64 {
        self.store.committed
    }
    /// Up to `limit` blocks after `after`, ascending: for scans in bounded steps.
    #[must_use]
    pub fn blocks_after(&self, after: Option<BlockId>, limit: usize) -> Vec<BlockId> {
        let from = after.map_or(BlockId::FIRST, BlockId::next).raw();
        let ids = self.store.by_block.range(from.cast_unsigned(), self.next.block.raw().cast_unsigned(), limit);
        ids.into_iter().map(|id| BlockId::from_raw(id.cast_signed())).collect()
    }
    /// Would this call be answered from the session's remembered outcomes? Then the leader skips its own checks.
    #[must_use]
    pub fn remembers(&self, session: Option<SessionId>, call: u64) -> bool {
        session.is_some_and(|session| self.sessions.remembers(session, call))
    }

    /// Slots of the blocks of a file, and where each begins in it.
    fn chain_from(&self, inode: u32) -> impl Iterator<Item = (u32, u64)> {
        self.store.chain(inode).scan(0, |next_bytes, slot| {
            let offset_bytes = *next_bytes;
            *next_bytes += self.store.block(slot).len_bytes;
            Some((slot, offset_bytes))
        })
    }
    fn views(&self, inode: u32) -> impl Iterator<Item = BlockView> {
        self.chain_from(inode).map(|(slot, offset_bytes)| self.view(slot, offset_bytes))
    }
    pub(super) fn view(&self, slot: u32, offset_bytes: u64) -> BlockView {
        let block = self.store.block(slot);
        let inode = self.store.inode(block.inode);
        BlockView {
            block: BlockId::from_raw(block.id),
            stamp: GenerationStamp::from_raw(block.stamp),
            len_bytes: block.len_bytes,
            committed: block.committed(),
            replication: u32::from(inode.replication),
            inode: InodeId::from_raw(inode.id),
            offset_bytes,
            storages: self.store.homes(slot).map(StorageIndex).collect(),
            untouched: block.is_untouched(),
            digest: self.store.digest(slot).copied(),
        }
    }

    /// The leader's check before it chooses targets for a further block.
    ///
    /// # Errors
    /// `LeaseLost` if the lease is not (any more) the caller's, `NotFound` if the file is gone.
    pub fn file_for_write(&self, inode: InodeId, epoch: LeaseEpoch, session: Option<SessionId>) -> FsResult<WriteView> {
        let slot = self.writable(inode.raw(), epoch.raw(), session)?;
        let file = self.store.inode(slot);
        let extent = self.store.extent(slot);
        let open = self.store.open_of(slot);
        Ok(WriteView {
            inode,
            block_size_bytes: file.block_size_bytes(),
            replication: u32::from(file.replication),
            blocks: extent.count,
            len_bytes: extent.len_bytes,
            last_block: self.last_view(slot),
            reserved_stamp: open.and_then(reserved),
            offered: open.map(|open| open.offered.iter().copied().map(StorageIndex).collect()).unwrap_or_default(),
            unpublished: open.is_some_and(|open| open.pin.is_some()),
        })
    }
    /// Is this file written, and not in its place yet?
    #[must_use]
    pub fn is_unpublished(&self, inode: InodeId) -> bool {
        let open = self.store.slot(inode.raw()).and_then(|slot| self.store.open_of(slot));
        open.is_some_and(|open| open.pin.is_some())
    }
    /// The last block of the file at a path, whoever asks: for choices of the leader, which `apply` checks.
    #[must_use]
    pub fn last_block_at(&self, path: &FsPath) -> Option<BlockView> {
        let user = self.identity.as_ref()?.superuser.clone();
        let record = CallerRecord { user, groups: Vec::new() };
        let slot = self.find(&self.who(&record).ok()?, path, Last::Follow).ok()?;
        self.last_view(slot)
    }
    fn last_view(&self, slot: u32) -> Option<BlockView> {
        let extent = self.store.extent(slot);
        (extent.count > 0).then(|| {
            let own_bytes = self.store.block(extent.last).len_bytes;
            self.view(extent.last, extent.len_bytes - own_bytes)
        })
    }

    /// Replicated settings; all zero before format.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }
    /// Names of the cluster; `None` before format.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
    /// The stamp that the next block or pipeline gets: nothing has it or a higher one yet.
    #[must_use]
    pub const fn next_stamp(&self) -> GenerationStamp {
        self.next.stamp
    }
    /// The next inode: none has this number or a higher one yet.
    #[must_use]
    pub const fn next_inode(&self) -> InodeId {
        self.next.inode
    }
    /// The keys of block tokens, oldest first; the last one is in use.
    #[must_use]
    pub fn block_keys(&self) -> &[BlockKey] {
        &self.keys
    }
    /// The registry: position = [`StorageIndex`].
    #[must_use]
    pub fn storages(&self) -> &[StorageRecord] {
        self.registry.records()
    }
    /// Index of a registered storage.
    #[must_use]
    pub fn storage_index(&self, storage: &StorageId) -> Option<StorageIndex> {
        self.registry.find(storage).map(StorageIndex)
    }
    /// Is this caller above all permission checks?
    #[must_use]
    pub fn is_superuser(&self, who: &CallerRecord) -> bool {
        self.identity.as_ref().is_some_and(|identity| {
            identity.superuser == who.user || who.groups.contains(&self.settings.superuser_group)
        })
    }

    /// Memory of the large parts, in bytes: what was allocated. Rare things are not counted.
    #[must_use]
    pub fn memory_by_part(&self) -> Vec<(&'static str, u64)> {
        let mut parts = self.store.memory_by_part();
        parts.push(("sessions", self.sessions.bytes()));
        parts
    }
    /// Numbers of the whole.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let top = root(&self.store).map(|root| self.store.directory(root));
        Counts {
            files: top.map_or(0, |top| top.below.files),
            directories: top.map_or(0, |top| top.below.directories + 1),
            symlinks: top.map_or(0, |top| top.below.symlinks),
            blocks: u64::from(self.store.blocks.len()),
            open_files: self.store.open.len() as u64,
            reclaim_pending: self.reclaim_pending(),
            sessions: self.sessions.len() as u64,
        }
    }
    /// Every file under construction, by inode. There may be very many: see [`Namespace::open_files_after`].
    #[must_use]
    pub fn open_files(&self) -> Vec<OpenLease> {
        self.store.open.sorted().into_iter().map(|(id, open)| lease_of(*id, open)).collect()
    }
    /// Up to `limit` files under construction after an inode, by inode: for looks in bounded steps. Files of trees that
    /// are gone and wait to be reclaimed are among them; nobody can do anything about those.
    #[must_use]
    pub fn open_files_after(&self, after: Option<InodeId>, limit: usize) -> Vec<OpenLease> {
        let after = after.map(InodeId::raw);
        self.store.open.after(after, limit).into_iter().map(|(id, open)| lease_of(*id, open)).collect()
    }
    /// The files that are being recovered, by inode, but for those of trees that are gone. Costs nothing while there
    /// are none, however many files are open.
    pub fn recovering(&self) -> impl Iterator<Item = OpenLease> {
        let alive = |id: &u64| self.store.slot(*id).is_some_and(|slot| self.may_recover(slot));
        let of = |id: u64| self.store.open.get(&id).map(|open| lease_of(id, open));
        self.store.recovering.iter().copied().filter(alive).filter_map(of)
    }
    /// What people are shown of a session, to tell one from another. The session itself is what guards the files of a
    /// writer, so whoever sees this must not learn it: twelve hex digits leave most of its bits open, whatever the hash.
    #[must_use]
    pub fn session_for_people(session: SessionId) -> String {
        let hash = Mixer::new(hash_kind::SESSION).bytes(session.as_bytes()).finish();
        format!("{:012x}", hash >> 16)
    }
    /// As [`Namespace::lease`], without what it takes long to find out.
    #[must_use]
    pub fn open_lease(&self, inode: InodeId) -> Option<OpenLease> {
        self.open_file(inode).map(|(_, open)| lease_of(inode.raw(), open))
    }
    fn open_file(&self, inode: InodeId) -> Option<(u32, &Open)> {
        let slot = self.store.slot(inode.raw()).filter(|slot| self.may_recover(*slot))?;
        Some((slot, self.store.open_of(slot)?))
    }
    /// A file under construction, unless it is of a tree that is gone.
    #[must_use]
    pub fn lease(&self, inode: InodeId) -> Option<LeaseView> {
        let (slot, open) = self.open_file(inode)?;
        let file = self.store.inode(slot);
        let path = match &open.pin {
            Some(pin) => {
                let parent = self.store.slot(pin.parent).filter(|parent| self.store.alive(*parent));
                parent.map_or_else(String::new, |parent| match self.store.path(parent).as_str() {
                    "/" => format!("/{}", pin.name),
                    above => format!("{above}/{}", pin.name),
                })
            }
            None if self.store.alive(slot) => self.store.path(slot),
            None => String::new(),
        };
        Some(LeaseView {
            lease: lease_of(inode.raw(), open),
            path,
            owner: self.store.text(file.owner).to_owned(),
            len_bytes: self.store.extent(slot).len_bytes,
            block_size_bytes: file.block_size_bytes(),
            last_block: self.last_view(slot),
        })
    }
    /// The last block of an open file, if it was finished before and is open again.
    #[must_use]
    pub fn reopened_block(&self, inode: InodeId) -> Option<BlockView> {
        let slot = self.store.slot(inode.raw()).filter(|slot| self.store.alive(*slot))?;
        let block = self.store.block(Some(self.store.extent(slot).last).filter(|last| *last != NONE)?);
        if block.committed() || !block.is_visible() { None } else { self.last_view(slot) }
    }
    /// Inodes of unlinked trees that wait for `Reclaim`; the leader proposes it while this is not 0.
    #[must_use]
    pub const fn reclaim_pending(&self) -> u64 {
        self.pending + self.sweeps.len() as u64 + self.purge.is_some() as u64
    }
    /// Hash of the whole state: equal on every member at the same index, after replay and after loading an image.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let mut mixer = Mixer::new(hash_kind::REST);
        mixer.word(self.store.hash).word(self.sessions.hash);
        mixer.word(self.next.inode.raw()).word(self.next.block.raw().cast_unsigned());
        mixer.word(self.next.stamp.raw()).word(self.next.epoch.raw());
        mixer.word(self.log_time_ms).word(self.applied.0.raw()).word(self.applied.1.raw());
        if let Some(identity) = &self.identity {
            for text in [identity.cluster.as_str(), identity.pool.as_str(), &identity.superuser] {
                mixer.bytes(text.as_bytes());
            }
        }
        mixer.bytes(&self.settings.encode_to_vec());
        for key in &self.keys {
            mixer.word(u64::from(key.number)).bytes(&key.key);
        }
        for record in self.registry.records().iter() {
            for text in [record.storage.as_str(), record.node.as_str(), &record.media, &record.rack] {
                mixer.bytes(text.as_bytes());
            }
        }
        // None in images that are older than services of nodes.
        for (node, service) in self.registry.services().iter() {
            let (number, until_ms) = service.parts();
            mixer.bytes(node.as_str().as_bytes()).word(u64::from(number)).word(until_ms);
        }
        for text in self.store.interned.texts().iter() {
            mixer.bytes(text.as_bytes());
        }
        for inode in &self.queue {
            mixer.word(*inode);
        }
        // Only once there are any: images that are older than snapshots keep their hash.
        if self.last_snapshot != 0 {
            mixer.word(self.last_snapshot);
        }
        if let Some(purge) = &self.purge {
            mixer.word(purge.phase as u64).word(purge.shard as u64).word(purge.number).word(purge.snapshot);
            mixer.bytes(purge.name.as_bytes());
            if purge.position != 0 {
                mixer.word(purge.position);
            }
        }
        for sweep in &self.sweeps {
            mixer.word(sweep.directory).word(sweep.died).bytes(sweep.after.as_bytes());
        }
        mixer.finish()
    }
    /// Index and term of the last applied entry; zeros at first.
    #[must_use]
    pub const fn applied(&self) -> (LogIndex, Term) {
        self.applied
    }
    /// Monotonic time that the log has counted, in ms.
    #[must_use]
    pub const fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }
}

fn reserved(open: &Open) -> Option<GenerationStamp> {
    (open.reserved_stamp != 0).then(|| GenerationStamp::from_raw(open.reserved_stamp))
}

fn lease_of(id: u64, open: &Open) -> OpenLease {
    OpenLease {
        inode: InodeId::from_raw(id),
        lease_epoch: LeaseEpoch::from_raw(open.epoch),
        session: open.session,
        unpublished: open.pin.is_some(),
        reserved_stamp: reserved(open),
        recovery: open.recovery.map(|recovery| Recovery {
            stamp: GenerationStamp::from_raw(open.reserved_stamp),
            target_len_bytes: recovery.target_len_bytes,
            accept_loss: recovery.accept_loss,
        }),
    }
}
