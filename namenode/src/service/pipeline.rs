//! Files that are written on: stamps, pipelines, appends. What is chosen before `apply`, and what the writer is told.

use std::collections::BTreeSet;

use auth::token::Mode;
use base::random::Randomness;
use bytes::Bytes;
use proto::common::{Block, LocatedBlock};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp, InodeId};
use proto::log;
use proto::log::command::Op;
use proto::namespace as n;
use proto::path::FsPath;

use super::View;
use super::admit::session;
use super::request::Request;
use super::write::{Prepared, names};
use crate::blocks::placement::{self, Wanted};
use crate::blocks::{NodeIndex, NodeState, StorageIndex};
use crate::namespace::{ReopenedBlock, WriteView};

/// What a writer that repairs its pipeline may do with a block: also have one node send it to another.
const REPAIR: [Mode; 3] = [Mode::Write, Mode::Read, Mode::Copy];

/// The command of a request of this kind for which nothing has to be chosen.
pub(super) fn command(request: &Request) -> Option<Op> {
    Some(match request {
        Request::UpdatePipeline(r) => {
            let block = r.block.clone().unwrap_or_default();
            Op::UpdatePipeline(log::UpdatePipeline {
                inode: r.inode,
                lease_epoch: r.lease_epoch,
                id: block.id,
                stamp: block.stamp,
                new_stamp: r.new_stamp,
                len_bytes: block.len_bytes,
                storages: r.storages.clone(),
            })
        }
        Request::Publish(r) => Op::Publish(log::Publish { inode: r.inode, lease_epoch: r.lease_epoch }),
        Request::Truncate(r) => Op::Truncate(log::Truncate {
            path: r.path.clone(),
            len_bytes: r.len_bytes,
            expected_len_bytes: r.expected_len_bytes,
            tail: r.tail.clone(),
            tail_block: r.tail_of.as_ref().map_or(0, |block| block.id),
            tail_stamp: r.tail_of.as_ref().map_or(0, |block| block.stamp),
            whole: r.whole,
            expected_inode: r.expected_inode,
        }),
        Request::RecoverLease(r) => {
            Op::RecoverLease(log::RecoverLease { path: r.path.clone(), accept_loss: r.accept_loss })
        }
        _ => return None,
    })
}

/// Who stays in a pipeline was in it, or was offered for it.
fn check_kept(file: &WriteView, kept: &[StorageIndex]) -> FsResult<()> {
    let homes = file.last_block.as_ref().map_or(&[][..], |last| &last.storages);
    if kept.iter().all(|storage| homes.contains(storage) || file.offered.contains(storage)) {
        return Ok(());
    }
    Err(FsError::new(ErrorCode::InvalidArgument, "a storage that is to stay is not of the pipeline"))
}

impl View<'_> {
    /// Chooses further storages for a pipeline: on nodes that are not in it and did not fail, if possible without a replica
    /// of the block from before. Fewer than wanted, or none, are an answer as well.
    pub(super) fn new_stamp(
        &self,
        r: &n::NewStampRequest,
        remembered: bool,
        random: &dyn Randomness,
    ) -> FsResult<Prepared> {
        let block = r.block.clone().unwrap_or_default();
        let mut op = log::NewStamp {
            inode: r.inode,
            lease_epoch: r.lease_epoch,
            id: block.id,
            stamp: block.stamp,
            more: Vec::new(),
        };
        // What was chosen the first time is in the answer that is remembered.
        if !remembered {
            let file = self.writing((r.inode, r.lease_epoch), session(r.header.as_ref()))?;
            let registry = self.blocks.registry();
            let kept = self.kept(&r.keep)?;
            check_kept(&file, &kept)?;
            let keep: BTreeSet<_> = kept.into_iter().map(|storage| registry.at(storage).node).collect();
            let wanted = Wanted {
                copies: (r.more as usize).min((file.replication as usize).saturating_sub(keep.len())),
                block_size_bytes: file.block_size_bytes,
                writer_host: r.client_host.clone(),
                exclude: self.nodes_named(&r.exclude_nodes),
                holders: keep.into_iter().collect(),
            };
            let chosen = self.further(wanted, BlockId::from_raw(block.id), file.replication, random);
            op.more = names(self, &chosen);
        }
        Ok(Prepared::Propose(Op::NewStamp(op)))
    }

    /// Nodes that did not fail, without a replica of the block if there are such. Where the write would end for want of
    /// nodes, also those that its writer saw failing, if they were started anew, or heard of again after a silence: as
    /// in a rolling restart. While there are enough others, nobody waits for what failed a moment ago.
    fn further(
        &self,
        mut wanted: Wanted,
        block: BlockId,
        replication: u32,
        random: &dyn Randomness,
    ) -> Vec<StorageIndex> {
        let registry = self.blocks.registry();
        let failed = wanted.exclude.clone();
        wanted
            .exclude
            .extend(self.blocks.replicas().odd_of(block).iter().map(|(storage, _)| registry.at(*storage).node));
        let mut chosen = self.place(&mut wanted, random);
        // Over what a node has of an earlier pipeline.
        wanted.exclude = failed;
        chosen.extend(self.place(&mut wanted, random));

        let is_back = |node: &NodeIndex| {
            let node = registry.node(*node);
            node.state == NodeState::Live && node.returned_at.is_some()
        };
        let least = self.namespace.minimum_copies(replication) as usize;
        wanted.copies = wanted.copies.min(least.saturating_sub(wanted.holders.len()));
        wanted.exclude.retain(|node| !is_back(node));
        chosen.extend(self.place(&mut wanted, random));
        chosen
    }
    /// Chooses what is wanted, as far as there is room, and takes it off.
    fn place(&self, wanted: &mut Wanted, random: &dyn Randomness) -> Vec<StorageIndex> {
        let registry = self.blocks.registry();
        let chosen = placement::choose(registry, wanted, random);
        wanted.copies = wanted.copies.saturating_sub(chosen.len());
        wanted.holders.extend(chosen.iter().map(|storage| registry.at(*storage).node));
        chosen
    }

    /// An append: with the storages that are known to hold the last block, because its copies may have been moved since
    /// the log named some. Whether the caller may append, and whether the block has room, is for `apply` to say.
    pub(super) fn append(&self, r: &n::AppendRequest) -> log::Append {
        let path = FsPath::parse(&r.path).ok();
        let last = path.filter(|_| !r.new_block).and_then(|path| self.namespace.last_block_at(&path));
        let good = last.filter(|last| last.committed).map(|last| {
            let good = self.blocks.known_good((last.block, last.stamp, last.len_bytes), &[], "");
            names(self, &good)
        });
        log::Append { path: r.path.clone(), new_block: r.new_block, good: good.unwrap_or_default() }
    }

    /// Storages that stay in a pipeline.
    fn kept(&self, keep: &[String]) -> FsResult<Vec<StorageIndex>> {
        let kept = self.blocks.storages_named(keep);
        if kept.len() == keep.len() {
            return Ok(kept);
        }
        Err(FsError::new(ErrorCode::InvalidArgument, "a storage of the pipeline is not known"))
    }

    /// The block at its new stamp, with everybody who shall be in its pipeline.
    pub(super) fn restamped(
        &self,
        user: &str,
        r: &n::NewStampRequest,
        stamp: GenerationStamp,
        more: &[StorageIndex],
    ) -> FsResult<LocatedBlock> {
        let block = r.block.clone().unwrap_or_default();
        let (id, floor) = (BlockId::from_raw(block.id), GenerationStamp::from_raw(block.stamp));
        self.check_reserved(r, (id, floor), stamp)?;
        let mut pipeline = self.kept(&r.keep)?;
        pipeline.extend(more.iter().filter(|storage| !self.blocks.storages_named(&r.keep).contains(storage)));
        let last = self.namespace.lease(InodeId::from_raw(r.inode)).and_then(|view| view.last_block);
        let offset_bytes = last.filter(|last| last.block == id).map_or(0, |last| last.offset_bytes);
        Ok(self.for_writing(user, (id, offset_bytes, block.len_bytes), (floor, stamp), stamp, &pipeline))
    }

    /// Is the outcome that of this very request? The outcome of a repeated call is the one of before, and a token is made
    /// for what the request names: somebody who repeats his call with another block must get none for that.
    fn check_reserved(
        &self,
        r: &n::NewStampRequest,
        (id, floor): (BlockId, GenerationStamp),
        stamp: GenerationStamp,
    ) -> FsResult<()> {
        let file = self.writing((r.inode, r.lease_epoch), session(r.header.as_ref()))?;
        let is_last = file.last_block.is_some_and(|last| last.block == id && last.stamp == floor);
        if is_last && file.reserved_stamp == Some(stamp) {
            return Ok(());
        }
        Err(FsError::new(ErrorCode::InvalidArgument, "the call was another one before"))
    }

    /// A finished block that is written on: at the stamp that its replicas have, on those that are good as far as is known.
    pub(super) fn reopened(&self, user: &str, host: &str, last: &ReopenedBlock) -> LocatedBlock {
        let mut good = self.blocks.known_good((last.block, last.stamp, last.len_bytes), &last.storages, host);
        // A pipeline of others would be refused.
        good.retain(|storage| last.storages.contains(storage));
        let most = (last.replication as usize).max(1);
        let good = good.get(..good.len().min(most)).unwrap_or_default();
        let what = (last.block, last.offset_bytes, last.len_bytes);
        self.for_writing(user, what, (last.stamp, last.new_stamp), last.stamp, good)
    }

    fn for_writing(
        &self,
        user: &str,
        (block, offset_bytes, len_bytes): (BlockId, u64, u64),
        (floor, ceiling): (GenerationStamp, GenerationStamp),
        stamp: GenerationStamp,
        pipeline: &[StorageIndex],
    ) -> LocatedBlock {
        let registry = self.blocks.registry();
        let nodes: Vec<_> = pipeline.iter().map(|storage| registry.node_of(*storage).id.clone()).collect();
        LocatedBlock {
            block: Some(Block { pool: self.pool().to_owned(), id: block.raw(), stamp: stamp.raw(), len_bytes }),
            offset_bytes,
            token: self.mint_range(user, &REPAIR, block, (floor, ceiling), &nodes),
            locations: pipeline.iter().map(|storage| registry.location(*storage)).collect(),
            corrupt: false,
            open: true,
            left_out: 0,
            untouched: false,
            digest: Bytes::new(),
        }
    }
}
