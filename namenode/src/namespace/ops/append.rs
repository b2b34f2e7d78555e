//! `append`: a closed file is written again at its end. The answer that grants the lease says where that is (SC-29).

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp, InodeId};
use proto::log::Append;
use proto::path::FsPath;

use super::nodes::no_content;
use super::pipeline::SINCE_OFFERS;
use crate::namespace::access::{WRITE, Who};
use crate::namespace::resolve::Last;
use crate::namespace::store::NONE;
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, ReopenedBlock, StorageIndex};

impl Namespace {
    /// If the last block has room, it is opened again, and a stamp reserved for the pipeline that goes on with it. A
    /// block that a snapshot sees with other blocks behind it is left as it is, as if it had no room.
    pub(in crate::namespace) fn append(
        &mut self,
        call: &Call<'_>,
        append: &Append,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&append.path)?;
        let slot = self.closed_file(&who, &path)?;
        self.work += self.store.links_of(slot).len();
        let last = if append.new_block { None } else { self.last_with_room(slot) };
        self.work += if append.new_block { 0 } else { self.store.records_of_past(slot) };
        self.check_room(0)?;
        if last.is_some() {
            self.check_rest_of_last(slot)?;
        }

        let offered = self.known_storages(&append.good)?;

        let lease_epoch = self.take_lease(slot, call.session, None);
        let last = last.map(|last| self.reopen_to_append(call, (slot, last), &offered, effects));
        let status = self.status(slot, path.as_str());
        Ok(Outcome::Appending { inode: InodeId::from_raw(self.store.inode(slot).id), lease_epoch, status, last })
    }

    /// A file that nobody writes, and that the caller may write.
    pub(super) fn closed_file(&self, who: &Who<'_>, path: &FsPath) -> FsResult<u32> {
        let slot = self.find(who, path, Last::Follow)?;
        let inode = self.store.inode(slot);
        if inode.is_dir() {
            return Err(FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(path.as_str()));
        }
        who.need(&self.store, slot, WRITE)?;
        match self.store.open_of(slot) {
            None if !inode.is_file() => Err(no_content(path)),
            None => Ok(slot),
            Some(open) if open.recovery.is_some() => {
                Err(FsError::new(ErrorCode::FileOpen, "the file is being closed by the cluster")
                    .with_path(path.as_str())
                    .with_hint("try again in a moment; see `blockyard lease ls`"))
            }
            Some(_) => Err(FsError::new(ErrorCode::FileOpen, "the file is being written")
                .with_path(path.as_str())
                .with_hint("wait for its writer, or take the file from it (blockyard lease recover)")),
        }
    }

    fn last_with_room(&self, slot: u32) -> Option<u32> {
        let last = self.store.extent(slot).last;
        let room = last != NONE && self.store.block(last).len_bytes < self.store.inode(slot).block_size_bytes();
        (room && self.store.may_grow(slot)).then_some(last)
    }
    /// From now on the last block counts in full.
    fn check_rest_of_last(&self, slot: u32) -> FsResult<()> {
        let (inode, extent) = (self.store.inode(slot), self.store.extent(slot));
        let rest_bytes = inode.block_size_bytes().saturating_sub(self.store.block(extent.last).len_bytes);
        let space_bytes = (extent.len_bytes + rest_bytes).saturating_mul(u64::from(inode.replication));
        self.check_space_of_names(slot, space_bytes, self.store.weight(slot).space_bytes, &[])
    }

    fn reopen_to_append(
        &mut self,
        call: &Call<'_>,
        (slot, last): (u32, u32),
        offered: &[u32],
        effects: &mut Vec<BlockEffect>,
    ) -> ReopenedBlock {
        let len_bytes = self.store.block(last).len_bytes;
        self.reopen(call, (slot, last), len_bytes, effects);
        let new_stamp = self.reserve_stamp(slot);
        self.offer(call, slot, offered);
        let (block, inode) = (self.store.block(last), self.store.inode(slot));
        let homes: Vec<u32> = self.store.homes(last).collect();
        let further = offered.iter().copied().filter(|storage| !homes.contains(storage));
        let storages = homes.iter().copied().chain(further).map(StorageIndex).collect();
        ReopenedBlock {
            block: BlockId::from_raw(block.id),
            stamp: GenerationStamp::from_raw(block.stamp),
            new_stamp,
            len_bytes,
            offset_bytes: self.store.extent(slot).len_bytes - len_bytes,
            block_size_bytes: inode.block_size_bytes(),
            replication: u32::from(inode.replication),
            storages,
        }
    }
    /// The finished last block of a file is open again, and keeps so many bytes.
    pub(super) fn reopen(
        &mut self,
        call: &Call<'_>,
        (slot, last): (u32, u32),
        floor_bytes: u64,
        effects: &mut Vec<BlockEffect>,
    ) {
        let finished_bytes = self.store.block(last).len_bytes;
        self.store.reopen_block(last, floor_bytes, call.version >= SINCE_OFFERS);
        let block = self.store.block(last);
        effects.push(BlockEffect::Reopened {
            block: BlockId::from_raw(block.id),
            stamp: GenerationStamp::from_raw(block.stamp),
            len_bytes: floor_bytes,
            finished_bytes,
            replication: u32::from(self.store.inode(slot).replication),
            storages: self.store.homes(last).map(StorageIndex).collect(),
        });
    }
}
