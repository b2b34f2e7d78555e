//! The block that is being written: its packets, its pipeline, and how far it is.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::common::{Block, LocatedBlock, StorageLocation};
use transfer::digest::{LeafHasher, LeafQueue};
use transfer::{BlockDigest, ChunkFormat, Packet, PacketHead, WriteStage};

use super::super::window::Window;
use super::blame::ReplicaAt;
use super::words::PipelineBegin;

/// A finished block that is written again at its end, as the namenode's answer to an append names it.
#[derive(Clone, Debug)]
pub struct Reopened {
    /// The block at its present stamp and length, with its replicas and a token for both stamps.
    pub located: LocatedBlock,
    /// Reserved for the pipeline that goes on.
    pub new_stamp: u64,
    /// Copies wanted.
    pub replication: u32,
}

/// What the namenode gave before any byte was there.
#[derive(Debug)]
pub(super) enum First {
    New(LocatedBlock),
    Reopened(Reopened),
}

/// The block that is being written.
#[derive(Debug)]
pub(super) struct OpenBlock {
    /// At the stamp that the namenode has.
    pub(super) named: Block,
    /// Stamp that the present pipeline gives to its replicas.
    pub(super) new_stamp: u64,
    /// How the present pipeline begins.
    pub(super) stage: WriteStage,
    /// Its nodes, first node first.
    pub(super) pipeline: Vec<StorageLocation>,
    token: Bytes,
    offset_bytes: u64,
    /// Nodes that it had at first.
    pub(super) wanted: usize,
    pub(super) cut_bytes: u64,
    pub(super) acked_bytes: u64,
    /// End of the packets that any pipeline was sent.
    pub(super) sent_bytes: u64,
    pub(super) next_seqno: i64,
    pub(super) last_cut: bool,
    /// The packet that ends the block was sent: a replica may be finalised.
    pub(super) last_sent: bool,
    /// A pipeline of it was ready for packets once.
    pub(super) streamed: bool,
    /// Bytes of the file, as the writer counts them, that were cut before this block.
    pub(super) begin_total: u64,
    pub(super) window: Window,
    /// Hashes what is cut; `None` if the block gets no digest.
    pub(super) digest: Option<LeafHasher>,
    leaves: LeafQueue,
    /// Nodes that were at the near end of a broken link.
    pub(super) doubted: BTreeSet<String>,
    /// Nodes that were left out since the namenode has its stamp: they may have what counts.
    pub(super) lost: Vec<StorageLocation>,
    /// Those of them that were taken in again for what they said, and of these, those that it was no good with.
    pub(super) rejoined: BTreeSet<String>,
    pub(super) disbelieved: BTreeSet<String>,
    /// Nodes to which a copy failed, once for each time.
    pub(super) uncopied: Vec<String>,
}

impl OpenBlock {
    /// A new block.
    pub(super) fn new(located: LocatedBlock, digest: BlockDigest, begin_total: u64) -> Self {
        let LocatedBlock { block, locations, token, offset_bytes, .. } = located;
        let named = block.unwrap_or_default();
        Self {
            new_stamp: named.stamp,
            stage: WriteStage::PipelineSetupCreate,
            wanted: locations.len(),
            pipeline: locations,
            token,
            offset_bytes,
            cut_bytes: 0,
            acked_bytes: 0,
            sent_bytes: 0,
            next_seqno: 0,
            last_cut: false,
            last_sent: false,
            streamed: false,
            begin_total,
            window: Window::default(),
            digest: (digest == BlockDigest::Sha256).then(LeafHasher::default),
            leaves: LeafQueue::default(),
            doubted: BTreeSet::new(),
            lost: Vec::new(),
            rejoined: BTreeSet::new(),
            disbelieved: BTreeSet::new(),
            uncopied: Vec::new(),
            named,
        }
    }

    /// A finished block, to be written on. It gets no digest: nobody here knows its first bytes.
    pub(super) fn reopened(reopened: Reopened, begin_total: u64) -> Self {
        let base_bytes = reopened.located.block.as_ref().map_or(0, |block| block.len_bytes);
        let new = Self::new(reopened.located, BlockDigest::None, begin_total);
        Self {
            new_stamp: reopened.new_stamp,
            stage: WriteStage::PipelineSetupAppend,
            wanted: new.wanted.max(reopened.replication as usize),
            cut_bytes: base_bytes,
            acked_bytes: base_bytes,
            sent_bytes: base_bytes,
            ..new
        }
    }

    /// The same data on another block, of which nobody has anything: all packets are still here.
    pub(super) fn move_to(&mut self, located: LocatedBlock) {
        let LocatedBlock { block, locations, token, offset_bytes, .. } = located;
        self.named = block.unwrap_or_default();
        (self.new_stamp, self.stage) = (self.named.stamp, WriteStage::PipelineSetupCreate);
        (self.wanted, self.pipeline, self.token, self.offset_bytes) = (locations.len(), locations, token, offset_bytes);
        (self.sent_bytes, self.last_sent, self.streamed) = (0, false, false);
        self.forget_lost();
        self.window.rewind();
    }

    /// Whoever is not in the pipeline that stands now would need a copy.
    pub(super) fn forget_lost(&mut self) {
        (self.lost, self.uncopied) = (Vec::new(), Vec::new());
        (self.rejoined, self.disbelieved) = (BTreeSet::new(), BTreeSet::new());
    }

    /// The pipeline that stands again.
    pub(super) fn go_on_with(&mut self, located: LocatedBlock, stage: WriteStage) {
        let LocatedBlock { block, locations, token, .. } = located;
        self.new_stamp = block.map_or(self.new_stamp, |block| block.stamp);
        (self.stage, self.pipeline, self.token) = (stage, locations, token);
        self.window.rewind();
    }

    /// May a node that was left out go on with an open replica that is so far?
    pub(super) fn is_good_at(&self, node: &StorageLocation, at: &ReplicaAt) -> bool {
        let broke_off = self.uncopied.contains(&node.node);
        !at.unsure && !broke_off && at.stored_bytes <= self.sent_bytes
    }

    /// Must what is there be kept? Else the block may be given back, and another one taken.
    pub(super) const fn is_kept(&self) -> bool {
        self.acked_bytes > 0
    }
    /// Has the namenode to hear that the present pipeline stands?
    pub(super) fn is_restamped(&self) -> bool {
        self.new_stamp != self.named.stamp
    }
    /// Is the block only waiting for the proofs of its replicas, which are whole?
    pub(super) fn only_closes(&self) -> bool {
        self.stage == WriteStage::PipelineCloseRecovery
    }

    /// The block with its nodes, at the stamp that the namenode has, and with this length.
    pub(super) fn located(&self, len_bytes: u64) -> LocatedBlock {
        LocatedBlock {
            block: Some(Block { len_bytes, ..self.named.clone() }),
            offset_bytes: self.offset_bytes,
            locations: self.pipeline.clone(),
            token: self.token.clone(),
            ..LocatedBlock::default()
        }
    }
    /// What the nodes of the present pipeline are told.
    pub(super) fn begin(&self) -> PipelineBegin {
        let whole = self.only_closes();
        PipelineBegin {
            stage: self.stage,
            new_stamp: self.new_stamp,
            acked_bytes: if whole { self.cut_bytes } else { self.acked_bytes },
            sent_bytes: self.sent_bytes,
        }
    }

    /// Most bytes of the next packet: none goes over the end of a chunk that another one began, so that a checksum is
    /// always that of a whole chunk or of the rest of one.
    pub(super) fn next_packet_bytes(&self, packet_bytes: usize) -> usize {
        let chunk_bytes = ChunkFormat::CRC32C_512.chunk_bytes();
        match self.cut_bytes % chunk_bytes {
            0 => packet_bytes,
            begun => usize::try_from(chunk_bytes - begun).unwrap_or(packet_bytes).min(packet_bytes),
        }
    }

    /// Cuts a packet.
    pub(super) fn push(&mut self, data: Bytes, last: bool, sync: bool) {
        let head = PacketHead { offset_bytes: self.cut_bytes, seqno: self.next_seqno, last, sync: sync || last };
        let packet =
            Packet { head, leaves: self.hash(&data, last), checksums: ChunkFormat::CRC32C_512.compute(&data), data };
        self.next_seqno += 1;
        self.cut_bytes += packet.data.len() as u64;
        self.last_cut = last;
        self.window.push(packet);
    }

    /// The next packet to send.
    pub(super) fn send_next(&mut self) -> Option<Packet> {
        let packet = self.window.send_next()?;
        self.sent_bytes = self.sent_bytes.max(packet.head.offset_bytes + packet.data.len() as u64);
        self.last_sent |= packet.head.last;
        Some(packet)
    }

    /// Number of the newest packet that is acknowledged, with all before it.
    pub(super) fn acked_seqno(&self) -> i64 {
        self.window.front().map_or(self.next_seqno, |packet| packet.head.seqno) - 1
    }

    /// Takes data into the digest; the leaves of the segments that end with them, which travel with their packet. A
    /// packet that is sent again on another pipeline still has them.
    fn hash(&mut self, data: &[u8], last: bool) -> Bytes {
        let Some(digest) = &mut self.digest else { return Bytes::new() };
        digest.update(data);
        if last {
            digest.finish();
        }
        self.leaves.take(digest.leaves(), u64::MAX)
    }
}
