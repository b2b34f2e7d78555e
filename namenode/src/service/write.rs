//! A client's change becomes a command: targets are chosen, receipts are checked, then `apply` decides.
//!
//! The checks here only choose and prove; who may do what is decided inside `apply`, but for what `allow` refuses. A call
//! that the session remembers is passed on whatever these checks say: its answer is known already.

use std::collections::BTreeSet;

use auth::{MasterKey, receipt};
use base::random::Randomness;
use proto::common::{Block, Receipt};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp, InodeId, LeaseEpoch, NodeId, PoolId, SessionId, StorageId};
use proto::log::command::Op;
use proto::log::{self, CallerRecord, CommittedBlock};
use proto::namespace as n;

use super::View;
use super::admit::session;
use super::request::Request;
use crate::blocks::placement::{self, Wanted};
use crate::blocks::{NodeIndex, StorageIndex};
use crate::namespace::WriteView;

/// What becomes of a change.
#[derive(Debug)]
pub enum Prepared {
    /// Goes into the log.
    Propose(Op),
    /// Too few copies are proven yet: worth another look when reports come in.
    NotYet(FsError),
}

pub(super) fn names(view: &View<'_>, storages: &[StorageIndex]) -> Vec<String> {
    let name = |storage: &StorageIndex| view.blocks.registry().at(*storage).id.as_str().to_owned();
    storages.iter().map(name).collect()
}

impl View<'_> {
    /// Refuses what only superusers may ask for and `apply` does not refuse: it does for every version of the log what it did.
    /// What was done already is answered as it was.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub fn allow(&self, who: &CallerRecord, request: &Request) -> FsResult<()> {
        let Request::MakeNode(r) = request else { return Ok(()) };
        let header = request.header();
        let remembered = header.is_some_and(|header| self.namespace.remembers(session(Some(header)), header.call));
        let is_device = matches!(r.kind(), n::FileKind::BlockDevice | n::FileKind::CharacterDevice);
        if is_device && !remembered { self.namespace.who(who)?.need_superuser("make devices") } else { Ok(()) }
    }

    /// Turns a change into its command; `None` for requests that change nothing.
    ///
    /// # Errors
    /// What placement or receipts refuse.
    pub fn prepare(&self, request: &Request, random: &dyn Randomness) -> Option<FsResult<Prepared>> {
        let header = request.header();
        let remembered = header.is_some_and(|header| self.namespace.remembers(session(Some(header)), header.call));
        let op = match request {
            Request::Mkdir(r) => Op::Mkdir(log::Mkdir {
                path: r.path.clone(),
                mode: r.mode,
                parents: r.parents,
                unmasked_mode: r.unmasked_mode,
            }),
            Request::Create(r) => match self.create(r, remembered, random) {
                Ok(op) => op,
                Err(error) => return Some(Err(error)),
            },
            Request::AddBlock(r) => return Some(self.add_block(r, remembered, random)),
            Request::AbandonBlock(r) => {
                let block = r.block.clone().unwrap_or_default();
                let (inode, lease_epoch) = (r.inode, r.lease_epoch);
                Op::AbandonBlock(log::AbandonBlock { inode, lease_epoch, id: block.id, stamp: block.stamp })
            }
            Request::Complete(r) => return Some(self.complete(r, remembered)),
            Request::Discard(r) => Op::Discard(log::Discard { inode: r.inode, lease_epoch: r.lease_epoch }),
            Request::Rename(r) => {
                let (from, to) = (r.from.clone(), r.to.clone());
                Op::Rename(log::Rename { from, to, replace: r.replace, exchange: r.exchange })
            }
            // Whether the caller has the rights on a large tree is found out when `apply` asks for it.
            Request::Delete(r) => {
                Op::Delete(log::Delete { path: r.path.clone(), recursive: r.recursive, checked_inode: 0 })
            }
            Request::SetNodeState(_) | Request::CancelJob(_) => match self.node_service(request, remembered) {
                Ok(op) => op,
                Err(error) => return Some(Err(error)),
            },
            Request::Append(r) => Op::Append(self.append(r)),
            Request::NewStamp(r) => return Some(self.new_stamp(r, remembered, random)),
            other => super::pipeline::command(other).or_else(|| super::attributes::command(other, self.wall_ns))?,
        };
        Some(Ok(Prepared::Propose(op)))
    }

    fn create(&self, r: &n::CreateRequest, remembered: bool, random: &dyn Randomness) -> FsResult<Op> {
        let mut op = log::Create {
            path: r.path.clone(),
            mode: r.mode,
            overwrite: r.overwrite,
            parents: r.parents,
            replication: r.replication,
            block_size_bytes: r.block_size_bytes,
            publish_at_once: r.publish() == n::Publish::AtOnce,
            with_first_block: r.with_first_block,
            first_block_storages: Vec::new(),
            unmasked_mode: r.unmasked_mode,
        };
        if r.with_first_block {
            let sizes = self.namespace.sizes_of_new_file(r.replication, r.block_size_bytes);
            let (copies, block_size_bytes) = match sizes {
                Ok(sizes) => sizes,
                // What no datanode could help is refused as it is, not as a lack of room that may be over soon.
                Err(error) if !remembered => return Err(error.with_path(&r.path)),
                Err(_) => return Ok(Op::Create(op)),
            };
            let wanted = Wanted {
                copies: copies as usize,
                block_size_bytes,
                writer_host: r.client_host.clone(),
                ..Wanted::default()
            };
            match self.choose(&wanted, random) {
                Ok(storages) => op.first_block_storages = names(self, &storages),
                Err(error) if !remembered => return Err(error.with_path(&r.path)),
                Err(_) => {}
            }
        }
        Ok(Op::Create(op))
    }

    fn choose(&self, wanted: &Wanted, random: &dyn Randomness) -> FsResult<Vec<StorageIndex>> {
        let chosen = placement::choose(self.blocks.registry(), wanted, random);
        let least = self.namespace.minimum_copies(wanted.copies as u32).max(1) as usize;
        if chosen.len() >= least {
            return Ok(chosen);
        }
        let (live, _, dead) = self.blocks.node_counts();
        let text = format!(
            "{} of {} copies can be placed ({live} datanodes alive, {dead} dead, {} excluded)",
            chosen.len(),
            wanted.copies,
            wanted.exclude.len()
        );
        let hint = "start more datanodes, or free space on their disks; see `blockyard node ls`";
        Err(FsError::new(ErrorCode::NotEnoughNodes, text).with_hint(hint))
    }

    pub(super) fn writing(&self, (inode, epoch): (u64, u64), session: Option<SessionId>) -> FsResult<WriteView> {
        self.namespace.file_for_write(InodeId::from_raw(inode), LeaseEpoch::from_raw(epoch), session)
    }

    fn add_block(&self, r: &n::AddBlockRequest, remembered: bool, random: &dyn Randomness) -> FsResult<Prepared> {
        let mut op = log::AddBlock { inode: r.inode, lease_epoch: r.lease_epoch, previous: None, storages: Vec::new() };
        if remembered {
            op.previous = r.previous.as_ref().map(|finished| self.unproven(finished));
            return Ok(Prepared::Propose(Op::AddBlock(op)));
        }
        let file = self.writing((r.inode, r.lease_epoch), session(r.header.as_ref()))?;
        if let Some(finished) = &r.previous {
            match self.proven(finished, file.replication)? {
                Ok(block) => op.previous = Some(block),
                Err(too_few) => return Ok(Prepared::NotYet(too_few)),
            }
        }
        let wanted = Wanted {
            copies: file.replication as usize,
            block_size_bytes: file.block_size_bytes,
            writer_host: r.client_host.clone(),
            exclude: self.nodes_named(&r.exclude_nodes),
            holders: Vec::new(),
        };
        op.storages = names(self, &self.choose(&wanted, random)?);
        Ok(Prepared::Propose(Op::AddBlock(op)))
    }

    /// Nodes by name; names that are not registered are left out.
    pub(super) fn nodes_named(&self, names: &[String]) -> BTreeSet<NodeIndex> {
        let node = |name: &String| self.blocks.registry().node_by_id(&NodeId::parse(name).ok()?);
        names.iter().filter_map(node).collect()
    }

    fn complete(&self, r: &n::CompleteRequest, remembered: bool) -> FsResult<Prepared> {
        let mut op = log::Complete { inode: r.inode, lease_epoch: r.lease_epoch, last: None };
        if let Some(finished) = &r.last {
            if remembered {
                op.last = Some(self.unproven(finished));
            } else {
                let file = self.writing((r.inode, r.lease_epoch), session(r.header.as_ref()))?;
                match self.proven(finished, file.replication)? {
                    Ok(block) => op.last = Some(block),
                    Err(too_few) => return Ok(Prepared::NotYet(too_few)),
                }
            }
        }
        Ok(Prepared::Propose(Op::Complete(op)))
    }

    fn unproven(&self, finished: &n::FinishedBlock) -> CommittedBlock {
        let block = finished.block.clone().unwrap_or_default();
        CommittedBlock {
            id: block.id,
            stamp: block.stamp,
            len_bytes: block.len_bytes,
            storages: Vec::new(),
            digest: finished.digest.clone(),
        }
    }

    /// The block with the storages that prove it, by receipts or by reports of the same stamp and length
    /// (scar SC-65). Inner error: fewer nodes than the minimum prove it so far.
    fn proven(&self, finished: &n::FinishedBlock, replication: u32) -> FsResult<Result<CommittedBlock, FsError>> {
        let block = finished.block.as_ref();
        let block = block.ok_or_else(|| FsError::new(ErrorCode::InvalidArgument, "a finished block without its id"))?;
        let (id, stamp) = (BlockId::from_raw(block.id), GenerationStamp::from_raw(block.stamp));
        if self.namespace.block(id).is_some_and(|known| known.stamp != stamp) {
            return Err(FsError::new(ErrorCode::StaleStamp, format!("{id} has another stamp than {stamp}")));
        }
        let mut storages: BTreeSet<StorageIndex> = self.blocks.proven(id, stamp, block.len_bytes).into_iter().collect();
        let mut bad = 0;
        for receipt in &finished.receipts {
            match self.check_receipt(block, receipt) {
                Some(storage) => {
                    storages.insert(storage);
                }
                None => bad += 1,
            }
        }
        let nodes: BTreeSet<_> = storages.iter().map(|s| self.blocks.registry().at(*s).node).collect();
        let least = self.namespace.minimum_copies(replication) as usize;
        if nodes.len() < least {
            let text =
                format!("{} of at least {least} copies of {id} are proven, {bad} receipts do not verify", nodes.len());
            let code = if bad > 0 { ErrorCode::BadToken } else { ErrorCode::NotReplicatedYet };
            return Ok(Err(FsError::new(code, text)));
        }
        let storages: Vec<StorageIndex> = storages.into_iter().collect();
        Ok(Ok(CommittedBlock { storages: names(self, &storages), ..self.unproven(finished) }))
    }

    /// The storage that a receipt proves to hold the block.
    fn check_receipt(&self, block: &Block, shown: &Receipt) -> Option<StorageIndex> {
        let storage = StorageId::parse(&shown.storage).ok()?;
        let index = self.blocks.registry().storage(&storage)?;
        let node = &self.blocks.registry().node_of(index).id;
        let pool = PoolId::parse(&block.pool).ok()?;
        let number = receipt::key_number(&shown.mac)?;
        let key = self.namespace.block_keys().iter().find(|key| key.number == number)?;
        let what = receipt::Finalised {
            pool: &pool,
            block: BlockId::from_raw(block.id),
            stamp: GenerationStamp::from_raw(block.stamp),
            len_bytes: block.len_bytes,
            storage: &storage,
        };
        let agrees = shown.node == node.as_str() && shown.stamp == block.stamp && shown.len_bytes == block.len_bytes;
        let ours = self.namespace.identity().is_some_and(|identity| identity.pool == pool);
        let verified = receipt::verify(&MasterKey::from_slice(&key.key)?, node, &what, &shown.mac);
        (agrees && ours && verified).then_some(index)
    }
}
