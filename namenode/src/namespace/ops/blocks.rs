//! Blocks of a file under construction: the next one, giving one up, and the final length of the last.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp};
use proto::log::{AbandonBlock, AddBlock, CommittedBlock};

use super::pipeline::check_length;
use crate::namespace::store::NONE;
use crate::namespace::store::records::{Block, Open};
use crate::namespace::store::totals::Totals;
use crate::namespace::{BlockEffect, Call, Namespace, NewBlock, Outcome, StorageIndex, registry};

/// What is to be done to the last block of a file.
pub(super) enum LastBlock {
    /// It has its final length, or there is none.
    Settled,
    /// It gets its final length.
    Commit { slot: u32, len_bytes: u64, homes: Vec<u32>, digest: Option<[u8; 16]> },
    /// Nothing was written to it: it goes.
    Drop,
}

impl Namespace {
    pub(in crate::namespace) fn add_block(
        &mut self,
        call: &Call<'_>,
        add: &AddBlock,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let slot = self.writable(add.inode, add.lease_epoch, call.session)?;
        self.work += self.store.links_of(slot).len();
        let last = self.judge_last(slot, add.previous.as_ref())?;
        if matches!(last, LastBlock::Drop) {
            return Err(registry::invalid("the last block is still open: finish or abandon it first".to_owned()));
        }
        if self.store.extent(slot).count >= self.settings.max_blocks_per_file {
            let most = self.settings.max_blocks_per_file;
            return Err(registry::invalid(format!("the file has {most} blocks, the most that it may"))
                .with_hint("write it with a larger block size"));
        }
        let homes = self.targets(&add.storages)?;
        self.check_room(0)?;
        self.check_next_block(slot, &last)?;

        self.settle(slot, last, effects);
        Ok(Outcome::AddBlock(self.allocate(slot, &homes, effects)))
    }

    /// Every directory that lists the file, or will list it, must have room for what the file takes with one more full
    /// block; the block before it gets its final length in the same step.
    fn check_next_block(&self, slot: u32, last: &LastBlock) -> FsResult<()> {
        if self.store.quotas.len() == 0 {
            return Ok(());
        }
        let (inode, copies) = (self.store.inode(slot), u64::from(self.store.inode(slot).replication));
        let len_bytes = self.store.extent(slot).len_bytes + self.more_when_settled(last) + inode.block_size_bytes();
        let space_bytes = len_bytes.saturating_mul(copies);
        let Some(pin) = self.store.open_of(slot).and_then(|open| open.pin.as_ref()) else {
            return self.check_space_of_names(slot, space_bytes, self.store.weight(slot).space_bytes, &[]);
        };
        // Not in the tree yet. If its directory is gone by now, `complete` says so.
        let Some(parent) = self.store.slot(pin.parent).filter(|parent| self.store.alive(*parent)) else {
            return Ok(());
        };
        let old = self.store.child(parent, &pin.name).filter(|old| pin.overwrite && !self.store.inode(*old).is_dir());
        let less = old.map_or(0, |old| self.store.weight(old).space_bytes);
        let space = |space_bytes: u64| Totals { space_bytes, ..Totals::default() };
        self.check_quota(parent, space(space_bytes), space(less), NONE)
    }

    /// Success also when the block is not there (any more): the call may come twice.
    pub(in crate::namespace) fn abandon_block(
        &mut self,
        call: &Call<'_>,
        abandon: &AbandonBlock,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let slot = self.writable(abandon.inode, abandon.lease_epoch, call.session)?;
        self.work += self.store.links_of(slot).len();
        let last = self.store.extent(slot).last;
        if last == NONE || self.store.block(last).id != abandon.id {
            return match self.store.block_slot(abandon.id).filter(|block| self.store.block(*block).inode == slot) {
                None => Ok(Outcome::Done),
                Some(_) => Err(registry::invalid("only the last block can be abandoned".to_owned())),
            };
        }
        let block = self.store.block(last);
        check_stamp(&block, abandon.stamp)?;
        if block.committed() {
            return Err(registry::invalid("the block has its final length".to_owned()));
        }
        check_droppable(&block)?;

        self.drop_last(slot, effects);
        Ok(Outcome::Done)
    }

    /// Storages for a new block.
    pub(super) fn targets(&self, names: &[String]) -> FsResult<Vec<u32>> {
        if names.is_empty() {
            return Err(FsError::new(ErrorCode::NotEnoughNodes, "no storage was chosen for the block"));
        }
        self.known_storages(names)
    }

    /// Appends a block with the next id and stamp.
    pub(super) fn allocate(&mut self, slot: u32, homes: &[u32], effects: &mut Vec<BlockEffect>) -> NewBlock {
        self.forget_stamp(slot);
        let (block, stamp) = (self.next.block, self.next.stamp);
        self.next.block = block.next();
        self.next.stamp = stamp.next();
        let offset_bytes = self.store.extent(slot).len_bytes;
        let record = Block { id: block.raw(), stamp: stamp.raw(), ..Block::default() };
        self.store.push_block(slot, record, homes, None);
        let inode = self.store.inode(slot);
        let replication = u32::from(inode.replication);
        let storages: Vec<StorageIndex> = homes.iter().copied().map(StorageIndex).collect();
        effects.push(BlockEffect::Allocated { block, stamp, replication, storages: storages.clone() });
        NewBlock { block, stamp, offset_bytes, replication, block_size_bytes: inode.block_size_bytes(), storages }
    }

    /// Compares what the writer says of its last block with what the namespace knows. Changes nothing.
    pub(super) fn judge_last(&self, slot: u32, said: Option<&CommittedBlock>) -> FsResult<LastBlock> {
        let extent = self.store.extent(slot);
        let Some(said) = said else {
            return match extent.last {
                NONE => Ok(LastBlock::Settled),
                last if self.store.block(last).committed() => Ok(LastBlock::Settled),
                last if extent.count == 1 && !self.store.block(last).is_visible() => Ok(LastBlock::Drop),
                _ => Err(registry::invalid("the last block is open, and the call does not name it".to_owned())),
            };
        };
        if extent.last == NONE || self.store.block(extent.last).id != said.id {
            return Err(registry::invalid(format!("{} is not the last block of the file", BlockId::from_raw(said.id))));
        }
        let block = self.store.block(extent.last);
        check_stamp(&block, said.stamp)?;
        if block.committed() {
            return if block.len_bytes == said.len_bytes {
                Ok(LastBlock::Settled)
            } else {
                Err(registry::invalid(format!("the block was committed with {} bytes", block.len_bytes)))
            };
        }
        if said.len_bytes == 0 {
            check_droppable(&block)?;
            return Ok(LastBlock::Drop);
        }
        self.judge_commit(slot, extent.last, said)
    }

    fn judge_commit(&self, slot: u32, last: u32, said: &CommittedBlock) -> FsResult<LastBlock> {
        let inode = self.store.inode(slot);
        check_length(&self.store, slot, &self.store.block(last), said.len_bytes)?;
        let digest = match said.digest.as_ref() {
            [] => None,
            bytes => Some(
                bytes
                    .try_into()
                    .map_err(|error| registry::invalid(format!("a digest has 16 bytes or none: {error}")))?,
            ),
        };
        let homes = self.known_storages(&said.storages)?;
        let (proven, needed) = (self.registry.nodes_of(&homes), self.minimum_copies(inode.replication.into()));
        if proven < needed as usize {
            let message = format!("the last block has {proven} proven copies, {needed} are needed");
            return Err(FsError::new(ErrorCode::NotReplicatedYet, message));
        }
        Ok(LastBlock::Commit { slot: last, len_bytes: said.len_bytes, homes, digest })
    }

    /// Does what [`Namespace::judge_last`] decided.
    pub(super) fn settle(&mut self, slot: u32, last: LastBlock, effects: &mut Vec<BlockEffect>) {
        match last {
            LastBlock::Settled => {}
            LastBlock::Drop => self.drop_last(slot, effects),
            LastBlock::Commit { slot: last, len_bytes, homes, digest } => {
                self.forget_stamp(slot);
                self.store.commit_block(last, len_bytes, &homes, digest);
                let block = self.store.block(last);
                effects.push(BlockEffect::Committed {
                    block: BlockId::from_raw(block.id),
                    stamp: GenerationStamp::from_raw(block.stamp),
                    len_bytes,
                    replication: u32::from(self.store.inode(slot).replication),
                    storages: homes.into_iter().map(StorageIndex).collect(),
                });
            }
        }
    }

    /// A stamp was reserved for a block that is not the open last one any more. That of a recovery ends with it.
    fn forget_stamp(&mut self, slot: u32) {
        let open = self.store.open_of(slot).filter(|open| open.reserved_stamp != 0 && open.recovery.is_none());
        if let Some(open) = open.cloned() {
            self.store.set_open(slot, Open { reserved_stamp: 0, offered: Vec::new(), ..open });
        }
    }

    /// Visible bytes that a file gets by that.
    pub(super) fn more_when_settled(&self, last: &LastBlock) -> u64 {
        match last {
            LastBlock::Commit { slot, len_bytes, .. } => len_bytes.saturating_sub(self.store.block(*slot).len_bytes),
            LastBlock::Settled | LastBlock::Drop => 0,
        }
    }

    fn drop_last(&mut self, slot: u32, effects: &mut Vec<BlockEffect>) {
        self.forget_stamp(slot);
        if let Some(block) = self.store.pop_block(slot) {
            effects.push(freed(&block));
        }
    }
}

/// A block that was removed.
pub(super) fn freed(block: &Block) -> BlockEffect {
    BlockEffect::Freed {
        block: BlockId::from_raw(block.id),
        stamp: GenerationStamp::from_raw(block.stamp),
        len_bytes: block.len_bytes,
        committed: block.committed(),
    }
}

/// A block that readers have seen stays.
fn check_droppable(block: &Block) -> FsResult<()> {
    if !block.is_visible() {
        return Ok(());
    }
    Err(registry::invalid(format!("the block had {} bytes before it was opened again: it stays", block.len_bytes)))
}

/// Every call for an open block names its stamp: that of before a repair, or of a recovery that was overtaken, is refused.
pub(super) fn check_stamp(block: &Block, said: u64) -> FsResult<()> {
    if block.stamp == said {
        return Ok(());
    }
    let message = format!("the block is at stamp {}, the call says {said}", block.stamp);
    Err(FsError::new(ErrorCode::StaleStamp, message))
}
