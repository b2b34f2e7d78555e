//! A model of namenode and datanodes: what each node has, what the namenode knows, and the rules of both.

use std::collections::BTreeMap;

use proto::common::{Block, LocatedBlock, Receipt, StorageLocation};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{FileStatus, FinishedBlock};
use transfer::ack::CLOSE_RECOVERY_SEQNO;
use transfer::digest::{self, LeafHasher};
use transfer::{Ack, ChunkFormat, Packet, Status, WriteStage};

use super::super::{PipelineBegin, ProbeAnswer, ReplicaAt, WriteEffect, WriteEvent};

pub(super) const BLOCK_BYTES: u64 = 4096;
/// Nodes of a pipeline.
pub(super) const COPIES: usize = 3;
/// Copies below which the namenode agrees to no pipeline.
const MIN_COPIES: usize = 2;

pub(super) fn location(n: usize) -> StorageLocation {
    StorageLocation {
        node: format!("node-{n}"),
        storage: format!("DS-{n}"),
        host: "127.0.0.1".into(),
        transfer_port: 9000 + n as u32,
        ..StorageLocation::default()
    }
}

pub(super) fn block(id: i64, stamp: u64, len_bytes: u64, nodes: &[usize]) -> LocatedBlock {
    let locations = nodes.iter().map(|n| location(*n)).collect();
    let block = Block { pool: "BP-1".into(), id, stamp, len_bytes };
    LocatedBlock { block: Some(block), locations, ..LocatedBlock::default() }
}

fn number_of(at: &StorageLocation) -> usize {
    at.transfer_port as usize - 9000
}

#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    pub(super) stamp: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) acked: usize,
    pub(super) finalized: bool,
    /// Its writer is gone.
    pub(super) left: bool,
    /// Its node was started anew while it was open: nobody knows what was acknowledged of it.
    restarted: bool,
    /// It is written, and does not say what was acknowledged of it: a start of its node had found it.
    unsure: bool,
    /// Leaves that came with them; `None`: some are missing, as in a copy, or behind an append.
    leaves: Option<Vec<digest::Leaf>>,
}

/// The pipeline of the present attempt.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) attempt: u32,
    pub(super) id: i64,
    pub(super) nodes: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) nodes: usize,
    pub(super) replicas: BTreeMap<(usize, i64), Replica>,
    pub(super) dead: Vec<usize>,
    next_block: i64,
    newest_stamp: u64,
    /// Stamps that the namenode has, by block.
    named: BTreeMap<i64, u64>,
    pub(super) line: Option<Line>,
    /// Packets on their way in the current attempt.
    pub(super) wire: Vec<(u32, Packet)>,
    /// An ack that is due without a packet.
    closing_ack: Option<WriteEvent>,
    pub(super) committed: Vec<FinishedBlock>,
    pub(super) visible: bool,
    /// The namenode was asked to show the file while this block was written, or none.
    pub(super) shown_with: Vec<Option<i64>>,
    /// The file was taken from its writer.
    pub(super) lost: bool,
    pub(super) published: Option<Vec<u8>>,
    pub(super) discarded: bool,
    pub(super) done: Option<Result<(), FsError>>,
    pub(super) flushed: usize,
    pub(super) excluded: Vec<String>,
    /// Pipelines that the namenode agreed to.
    pub(super) updates: Vec<Vec<usize>>,
    pub(super) transfers: usize,
    pub(super) probes: usize,
    pub(super) stages: Vec<WriteStage>,
    /// Blocks of which the writer has had an ack.
    pub(super) heard_of: Vec<i64>,
    /// These die when the next pipeline is set up.
    pub(super) die_next: Vec<usize>,
    /// Transfers fail to these.
    pub(super) cannot_copy_to: Vec<usize>,
    /// Transfers are not answered by themselves, but kept here.
    pub(super) slow: Option<Vec<SlowTransfer>>,
}

/// A transfer that is under way, and until when.
#[derive(Debug)]
pub(super) struct SlowTransfer {
    from: LocatedBlock,
    pub(super) targets: Vec<StorageLocation>,
    new_stamp: u64,
    pub(super) until: Option<base::clock::Moment>,
}

impl World {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            replicas: BTreeMap::new(),
            dead: Vec::new(),
            next_block: 1,
            newest_stamp: 1001,
            named: BTreeMap::from([(1, 1001)]),
            line: None,
            wire: Vec::new(),
            closing_ack: None,
            committed: Vec::new(),
            visible: false,
            shown_with: Vec::new(),
            lost: false,
            published: None,
            discarded: false,
            done: None,
            flushed: 0,
            excluded: Vec::new(),
            updates: Vec::new(),
            transfers: 0,
            probes: 0,
            stages: Vec::new(),
            heard_of: Vec::new(),
            die_next: Vec::new(),
            cannot_copy_to: Vec::new(),
            slow: None,
        }
    }

    /// A finished block on the first nodes, that is written on.
    pub(super) fn with_block(mut self, bytes: &[u8]) -> Self {
        for node in 0..COPIES {
            let replica = Replica {
                stamp: 1001,
                bytes: bytes.to_vec(),
                acked: bytes.len(),
                finalized: true,
                left: false,
                restarted: false,
                unsure: false,
                leaves: None,
            };
            self.replicas.insert((node, 1), replica);
        }
        self.newest_stamp = 1002;
        self
    }

    pub(super) const fn blocks_given(&self) -> i64 {
        self.next_block
    }

    fn commit(&mut self, finished: Option<FinishedBlock>) {
        let Some(finished) = finished else { return };
        let named = finished.block.clone().unwrap();
        if self.committed.iter().any(|other| other.block.as_ref().unwrap().id == named.id) {
            return;
        }
        assert_eq!(Some(&named.stamp), self.named.get(&named.id), "a commit at the stamp that the namenode has");
        assert!(finished.receipts.len() >= MIN_COPIES.min(COPIES));
        self.committed.push(finished);
    }

    /// What the committed blocks hold, on every node that proved it.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for finished in &self.committed {
            let named = finished.block.as_ref().unwrap();
            let holders = finished.receipts.iter().map(|receipt| receipt.node["node-".len()..].parse().unwrap());
            let copies: Vec<&Replica> = holders.map(|node: usize| &self.replicas[&(node, named.id)]).collect();
            for copy in &copies {
                assert!(copy.finalized && copy.stamp == named.stamp, "what was proved");
                assert_eq!(copy.bytes.len() as u64, named.len_bytes, "a committed length is what the nodes have");
                assert_eq!(copy.bytes, copies[0].bytes);
                if let Some(leaves) = &copy.leaves {
                    assert_eq!(leaves, tree(&copy.bytes).leaves(), "the nodes have every leaf, on whichever pipeline");
                }
            }
            if !finished.digest.is_empty() {
                assert_eq!(&finished.digest[..], tree(&copies[0].bytes).prefix());
            }
            all.extend_from_slice(&copies[0].bytes);
        }
        all
    }

    /// Gives the oldest packet to the first `reach` nodes of the pipeline; the ack, if it reached all.
    pub(super) fn deliver(&mut self, reach: usize) -> Option<WriteEvent> {
        if let Some(ack) = self.closing_ack.take() {
            return Some(ack);
        }
        let (attempt, packet) = (!self.wire.is_empty()).then(|| self.wire.remove(0))?;
        let line = self.line.clone().expect("a pipeline");
        assert_eq!(line.attempt, attempt);
        assert!(ChunkFormat::CRC32C_512.verify(&packet.data, &packet.checksums).is_ok());
        for node in line.nodes.iter().take(reach) {
            self.store(*node, line.id, &packet);
        }
        if reach < line.nodes.len() {
            return None;
        }
        let mut ack =
            Ack { seqno: packet.head.seqno, replies: vec![Status::Success; line.nodes.len()], receipts: vec![] };
        for node in &line.nodes {
            let replica = self.replicas.get_mut(&(*node, line.id)).unwrap();
            replica.acked = replica.bytes.len();
            if packet.head.last {
                ack.receipts.push(receipt(*node, replica));
            }
        }
        Some(WriteEvent::Ack { attempt, ack })
    }

    /// Gives the oldest packet to all; what the nodes behind this position acknowledge does not get to it, nor to those
    /// before it. The ack that did not come.
    pub(super) fn lose_ack_at(&mut self, position: usize) -> Option<WriteEvent> {
        let line = self.line.clone().expect("a pipeline");
        let before: Vec<usize> = line.nodes.iter().map(|node| self.replicas[&(*node, line.id)].acked).collect();
        let lost = self.deliver(usize::MAX);
        for (node, acked) in line.nodes.iter().zip(before).take(position + 1) {
            self.replicas.get_mut(&(*node, line.id)).expect("a replica").acked = acked;
        }
        lost
    }

    /// The connection to this position is reset: who writes there, and behind it, ends.
    pub(super) fn reset_before(&mut self, position: usize) {
        let line = self.line.clone().expect("a pipeline");
        for node in line.nodes.iter().skip(position) {
            self.replicas.get_mut(&(*node, line.id)).expect("a replica").left = true;
        }
    }

    /// The replica at this position is one that was found, and may lack something.
    pub(super) fn set_unsure(&mut self, position: usize, unsure: bool) {
        let line = self.line.clone().expect("a pipeline");
        self.replicas.get_mut(&(line.nodes[position], line.id)).expect("a replica").unsure = unsure;
    }

    fn store(&mut self, node: usize, id: i64, packet: &Packet) {
        let replica = self.replicas.get_mut(&(node, id)).expect("a replica");
        assert!(!replica.finalized);
        let offset = packet.head.offset_bytes as usize;
        assert_eq!(offset, replica.bytes.len(), "no hole, no repetition");
        let begun = offset % 512;
        assert!(
            begun == 0 || packet.data.len() <= 512 - begun,
            "a checksum never begins in the middle of a chunk (SC-34)"
        );
        replica.bytes.extend_from_slice(&packet.data);
        if let Some(leaves) = &mut replica.leaves {
            leaves.extend_from_slice(digest::parse_leaves(&packet.leaves).expect("whole leaves"));
            assert!(leaves.len() as u64 <= digest::leaf_count(replica.bytes.len() as u64), "no leaf before its data");
        }
        replica.finalized = packet.head.last;
    }

    /// What a node makes of the begin of a pipeline; `Err`: it refuses.
    fn enter(&mut self, node: usize, id: i64, floor: u64, begin: &PipelineBegin) -> Result<(), ()> {
        if self.dead.contains(&node) {
            return Err(());
        }
        let (min, max) = (begin.acked_bytes as usize, begin.sent_bytes as usize);
        if begin.stage == WriteStage::PipelineSetupCreate {
            let new = Replica { stamp: begin.new_stamp, leaves: Some(Vec::new()), ..Replica::default() };
            assert!(self.replicas.insert((node, id), new).is_none(), "a block is made once");
            return Ok(());
        }
        let replica = self.replicas.get_mut(&(node, id)).ok_or(())?;
        let len = replica.bytes.len();
        let open = !replica.finalized && min <= len && len <= max;
        let whole = replica.finalized && len == min;
        let fits = match begin.stage {
            WriteStage::PipelineSetupStreamingRecovery => open,
            WriteStage::PipelineSetupAppend => whole,
            WriteStage::PipelineSetupAppendRecovery => open || whole,
            WriteStage::PipelineCloseRecovery => len == min,
            other => panic!("{other:?} is not asked for"),
        };
        if !fits || replica.restarted || replica.stamp < floor || replica.stamp > begin.new_stamp {
            return Err(());
        }
        replica.bytes.truncate(min);
        replica.left = false;
        if let Some(leaves) = &mut replica.leaves {
            // A leaf whose data were cut goes, too; that of the end only comes with the packet that ends the block.
            leaves.truncate(if replica.finalized { usize::MAX } else { min / digest::SEGMENT_BYTES as usize });
        }
        (replica.stamp, replica.finalized) = (begin.new_stamp, begin.stage == WriteStage::PipelineCloseRecovery);
        Ok(())
    }

    fn open(&mut self, attempt: u32, located: &LocatedBlock, begin: &PipelineBegin) -> WriteEvent {
        let named = located.block.clone().unwrap();
        let nodes: Vec<usize> = located.locations.iter().map(number_of).collect();
        self.stages.push(begin.stage);
        self.dead.append(&mut self.die_next);
        self.wire.clear();
        self.closing_ack = None;
        for (at, node) in nodes.iter().enumerate() {
            if self.enter(*node, named.id, named.stamp, begin).is_err() {
                return WriteEvent::PipelineFailed { attempt, bad: Some(at), why: "it refused".into() };
            }
        }
        if begin.stage == WriteStage::PipelineCloseRecovery {
            let receipts: Vec<_> =
                nodes.iter().map(|node| receipt(*node, &self.replicas[&(*node, named.id)])).collect();
            let replies = vec![Status::Success; nodes.len()];
            let ack = Ack { seqno: CLOSE_RECOVERY_SEQNO, replies, receipts };
            self.closing_ack = Some(WriteEvent::Ack { attempt, ack });
        }
        self.line = Some(Line { attempt, id: named.id, nodes });
        WriteEvent::PipelineOpened { attempt }
    }

    fn free_nodes(&self, keep: &[usize], excluded: &[String]) -> Vec<usize> {
        let free = |node: &usize| !keep.contains(node) && !excluded.contains(&format!("node-{node}"));
        // The namenode does not know yet who is dead: only who was named to it.
        (0..self.nodes).filter(free).collect()
    }

    fn stamp_for(&mut self, named: &Block, keep: &[String], more: u32, excluded: &[String]) -> FsResult<LocatedBlock> {
        assert_eq!(Some(&named.stamp), self.named.get(&named.id));
        self.newest_stamp += 1;
        let mut nodes: Vec<usize> = keep.iter().map(|storage| storage["DS-".len()..].parse().unwrap()).collect();
        assert!(!nodes.is_empty(), "somebody has what was acknowledged");
        let further = self.free_nodes(&nodes, excluded);
        nodes.extend(further.into_iter().take(more as usize));
        Ok(block(named.id, self.newest_stamp, 0, &nodes))
    }

    fn update(&mut self, named: &Block, new_stamp: u64, storages: &[String]) -> FsResult<()> {
        let nodes: Vec<usize> = storages.iter().map(|storage| storage["DS-".len()..].parse().unwrap()).collect();
        if nodes.len() < MIN_COPIES {
            return Err(FsError::new(ErrorCode::NotEnoughNodes, "1 of 2 copies"));
        }
        assert_eq!(Some(&named.stamp), self.named.get(&named.id));
        assert_eq!(new_stamp, self.newest_stamp, "the stamp that was reserved last");
        for node in &nodes {
            let replica = &self.replicas[&(*node, named.id)];
            assert!(replica.stamp == new_stamp && replica.bytes.len() as u64 >= named.len_bytes);
        }
        self.named.insert(named.id, new_stamp);
        self.updates.push(nodes);
        Ok(())
    }

    fn transfer(&mut self, from: &LocatedBlock, targets: &[StorageLocation], new_stamp: u64) -> Result<(), String> {
        let named = from.block.as_ref().unwrap();
        let source = number_of(&from.locations[0]);
        if self.dead.contains(&source) {
            return Err("the sender is gone".into());
        }
        let replica = self.replicas.get(&(source, named.id)).ok_or("it has none")?.clone();
        assert!(replica.bytes.len() as u64 >= named.len_bytes, "the sender has what is asked for");
        for target in targets.iter().map(number_of) {
            if self.dead.contains(&target) || self.cannot_copy_to.contains(&target) {
                return Err("it is gone".into());
            }
            let there = self.replicas.get(&(target, named.id));
            if there.is_some_and(|there| there.finalized) {
                return Err("a whole replica exists".into());
            }
            assert!(there.is_none_or(|there| there.stamp < new_stamp));
            let bytes = replica.bytes[..named.len_bytes as usize].to_vec();
            let acked = bytes.len();
            let copy = Replica { stamp: new_stamp, bytes, acked, ..Replica::default() };
            self.replicas.insert((target, named.id), copy);
            self.transfers += 1;
        }
        Ok(())
    }

    /// The nodes are back, started anew.
    pub(super) fn restart(&mut self, nodes: &[usize]) {
        self.dead.retain(|node| !nodes.contains(node));
        for ((node, _), replica) in &mut self.replicas {
            replica.restarted |= nodes.contains(node) && !replica.finalized;
        }
    }

    /// The oldest slow transfer breaks off when all has arrived, and nothing of it is synced.
    pub(super) fn break_transfer(&mut self) -> WriteEvent {
        let SlowTransfer { from, targets, new_stamp, .. } = self.slow.as_mut().expect("slow ones").remove(0);
        drop(self.transfer(&from, &targets, new_stamp));
        self.transfers = 0;
        let id = from.block.as_ref().expect("a block").id;
        for target in &targets {
            self.replicas.get_mut(&(number_of(target), id)).expect("a copy").left = true;
        }
        WriteEvent::Transferred(Err("it broke off".into()))
    }

    /// The oldest slow transfer ends.
    pub(super) fn end_transfer(&mut self) -> WriteEvent {
        let SlowTransfer { from, targets, new_stamp, .. } = self.slow.as_mut().expect("slow ones").remove(0);
        WriteEvent::Transferred(self.transfer(&from, &targets, new_stamp))
    }

    fn probe(&mut self, located: &LocatedBlock) -> Vec<ProbeAnswer> {
        self.probes += 1;
        let id = located.block.as_ref().unwrap().id;
        let said = |node: usize| match self.replicas.get(&(node, id)) {
            _ if self.dead.contains(&node) => ProbeAnswer::Silent,
            None => ProbeAnswer::Missing,
            Some(replica) => {
                let len = replica.bytes.len() as u64;
                let unsure = replica.restarted || replica.unsure;
                let acked = if unsure { 0 } else { replica.acked as u64 };
                ProbeAnswer::At(ReplicaAt {
                    stamp: replica.stamp,
                    received_bytes: len,
                    stored_bytes: len,
                    acked_bytes: if replica.finalized { len } else { acked },
                    finalized: replica.finalized,
                    waiting: (replica.left || replica.restarted) && !replica.finalized,
                    unsure: unsure && !replica.finalized,
                })
            }
        };
        located.locations.iter().map(|at| said(number_of(at))).collect()
    }

    fn add_block(&mut self, excluded: Vec<String>) -> FsResult<LocatedBlock> {
        let nodes: Vec<usize> = self.free_nodes(&[], &excluded).into_iter().take(COPIES).collect();
        if nodes.len() < MIN_COPIES {
            return Err(FsError::new(ErrorCode::NotEnoughNodes, "too few"));
        }
        self.next_block += 1;
        self.newest_stamp += 1;
        self.named.insert(self.next_block, self.newest_stamp);
        self.excluded = excluded;
        Ok(block(self.next_block, self.newest_stamp, 0, &nodes))
    }

    /// Does the effects and returns the answers that are certain.
    pub(super) fn perform(&mut self, effects: Vec<WriteEffect>) -> Vec<WriteEvent> {
        let mut answers = Vec::new();
        for effect in effects {
            match effect {
                WriteEffect::AddBlock { previous, exclude_nodes, .. } => {
                    self.commit(previous);
                    answers.push(WriteEvent::BlockAdded(self.add_block(exclude_nodes)));
                }
                WriteEffect::AbandonBlock { block, .. } => {
                    assert!(!self.heard_of.contains(&block.id), "nothing acknowledged is given back");
                    answers.push(WriteEvent::BlockAbandoned(Ok(())));
                }
                WriteEffect::NewStamp { block, keep, more, exclude_nodes, .. } => {
                    answers.push(WriteEvent::Stamped(self.stamp_for(&block, &keep, more, &exclude_nodes)));
                    self.excluded = exclude_nodes;
                }
                WriteEffect::Transfer { block: from, targets, new_stamp, until } if self.slow.is_some() => {
                    let transfer = SlowTransfer { from, targets, new_stamp, until };
                    self.slow.get_or_insert_default().push(transfer);
                }
                WriteEffect::Transfer { block, targets, new_stamp, .. } => {
                    answers.push(WriteEvent::Transferred(self.transfer(&block, &targets, new_stamp)));
                }
                WriteEffect::UpdatePipeline { block, new_stamp, storages, .. } => {
                    answers.push(WriteEvent::PipelineUpdated(self.update(&block, new_stamp, &storages)));
                }
                WriteEffect::Publish { .. } => {
                    let block = self.line.as_ref().map(|line| line.id);
                    assert!(!self.shown_with.contains(&block), "once a block");
                    assert!(self.published.is_none(), "nothing is asked of a file that was closed");
                    self.shown_with.push(block);
                    self.visible |= !self.lost;
                    let lost = || FsError::new(ErrorCode::LeaseLost, "the file was taken from its writer");
                    answers.push(WriteEvent::Published(if self.lost { Err(lost()) } else { Ok(()) }));
                }
                WriteEffect::Complete { last } => {
                    assert!(!self.discarded);
                    self.commit(last);
                    self.published = Some(self.content());
                    answers.push(WriteEvent::Completed(Ok(FileStatus::default())));
                }
                WriteEffect::Discard => self.discarded = true,
                WriteEffect::OpenPipeline { attempt, block, begin, .. } => {
                    answers.push(self.open(attempt, &block, &begin))
                }
                WriteEffect::SendPacket { attempt, packet } if packet.head.seqno >= 0 => {
                    self.wire.push((attempt, packet));
                }
                WriteEffect::SendPacket { .. } => {}
                WriteEffect::ClosePipeline { .. } => {
                    self.wire.clear();
                    self.closing_ack = None;
                }
                WriteEffect::Probe { number, block, .. } => {
                    answers.push(WriteEvent::Probed { number, answers: self.probe(&block) });
                }
                WriteEffect::Flushed => {
                    assert!(self.visible, "what is flushed can be seen");
                    self.flushed += 1;
                }
                WriteEffect::Done(result) => self.done = Some(result.map(|_| ())),
            }
        }
        answers
    }
}

fn receipt(node: usize, replica: &Replica) -> Receipt {
    Receipt {
        node: format!("node-{node}"),
        stamp: replica.stamp,
        len_bytes: replica.bytes.len() as u64,
        ..Receipt::default()
    }
}

pub(super) fn tree(bytes: &[u8]) -> LeafHasher {
    let mut tree = LeafHasher::default();
    tree.update(bytes);
    tree.finish();
    tree
}
