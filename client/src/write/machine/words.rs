//! What a writer is told and what it says: its bounds, events and effects.

use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proto::common::{Block, LocatedBlock, StorageLocation};
use proto::error::FsResult;
use proto::namespace::{FileStatus, FinishedBlock};
use transfer::{Ack, BlockDigest, Packet, WriteStage};

use super::super::Attempt;
use super::blame::ProbeAnswer;

/// Bounds of a writer. The defaults keep two promises: "success, or a clear error within 30 s", and "a node that dies or
/// hangs stops the writer for 5 s at most".
#[derive(Clone, Debug)]
pub struct WriteConfig {
    /// Data of a full packet, a multiple of the chunks of 512 bytes, 8 MiB at most.
    pub packet_bytes: usize,
    /// Whether blocks get a digest, unless a file says otherwise.
    pub digest: BlockDigest,
    /// Data taken from the application and not acknowledged, at most (plus one piece).
    pub window_bytes: usize,
    /// A pipeline that is not set up after this is given up, even if nobody can be blamed.
    pub open_timeout: Duration,
    /// Silence, while acks are due, after which a pipeline is given up, even if nobody can be blamed.
    pub ack_timeout: Duration,
    /// Silence, while acks or a pipeline are due, after which every node is asked how far it is.
    pub silence: Duration,
    /// Time for the answers to that. A node that has not answered by then is at fault. And time to the next question, if
    /// all have all that was sent: it may be that only the acks are lost.
    pub probe_within: Duration,
    /// Idle time after which a heartbeat packet keeps the pipeline alive.
    pub heartbeat: Duration,
    /// Pipelines that may fail in a row; data that get acknowledged begin a new row.
    pub attempts: u32,
    /// Time from the last progress within which another pipeline may still be tried.
    pub retry_within: Duration,
    /// Time from the last progress after which the writer must have ended.
    pub stall_limit: Duration,
}

impl Default for WriteConfig {
    fn default() -> Self {
        Self {
            packet_bytes: transfer::PACKET_DATA_BYTES,
            digest: BlockDigest::Sha256,
            window_bytes: 4 * 1024 * 1024,
            open_timeout: Duration::from_secs(8),
            ack_timeout: Duration::from_secs(20),
            silence: Duration::from_millis(2_500),
            probe_within: Duration::from_secs(1),
            heartbeat: Duration::from_secs(15),
            attempts: 5,
            retry_within: Duration::from_secs(22),
            stall_limit: Duration::from_secs(28),
        }
    }
}

/// What happens to a writer.
#[derive(Debug)]
pub enum WriteEvent {
    /// The application wrote these bytes. Give only as much as [`super::FileWriter::room_bytes`] allows.
    Data(Bytes),
    /// The application wants everything so far held by every node of the pipeline, and the file visible; answered with
    /// [`WriteEffect::Flushed`], one for each, in order.
    Flush {
        /// And durable on each of them.
        sync: bool,
    },
    /// The application has no more data and wants the file published.
    Close,
    /// The application gave up: nothing may be published that is not published yet.
    Abort,
    /// Answer to [`WriteEffect::AddBlock`].
    BlockAdded(FsResult<LocatedBlock>),
    /// Answer to [`WriteEffect::AbandonBlock`].
    BlockAbandoned(FsResult<()>),
    /// Answer to [`WriteEffect::NewStamp`].
    Stamped(FsResult<LocatedBlock>),
    /// The sender of a [`WriteEffect::Transfer`] says that bytes move.
    TransferGoes,
    /// Answer to [`WriteEffect::Transfer`]; what was seen if it failed.
    Transferred(Result<(), String>),
    /// Answer to [`WriteEffect::UpdatePipeline`].
    PipelineUpdated(FsResult<()>),
    /// Answer to [`WriteEffect::Publish`].
    Published(FsResult<()>),
    /// Answer to [`WriteEffect::Complete`].
    Completed(FsResult<FileStatus>),
    /// Every node of the pipeline is ready.
    PipelineOpened {
        /// Which pipeline.
        attempt: Attempt,
    },
    /// The pipeline refused, broke or ended.
    PipelineFailed {
        /// Which pipeline.
        attempt: Attempt,
        /// Position of the node at fault, if known.
        bad: Option<usize>,
        /// What was seen, for the message.
        why: String,
    },
    /// An ack came up the pipeline.
    Ack {
        /// From which pipeline.
        attempt: Attempt,
        /// The ack.
        ack: Ack,
    },
    /// Answer to [`WriteEffect::Probe`].
    Probed {
        /// Which one.
        number: u32,
        /// What each node of the pipeline says, in its order.
        answers: Vec<ProbeAnswer>,
    },
    /// Time passed. Needed at [`super::FileWriter::next_deadline`]; harmless at any other time.
    Tick,
}

/// How a pipeline begins: what its nodes are told of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipelineBegin {
    /// Which kind of write.
    pub stage: WriteStage,
    /// Stamp that the replicas get; that of the block is the lowest that they may have now.
    pub new_stamp: u64,
    /// Bytes that every replica must have; what follows is sent from here.
    pub acked_bytes: u64,
    /// Bytes that a replica may have.
    pub sent_bytes: u64,
}

/// What the shell must do, in this order.
#[derive(Debug)]
pub enum WriteEffect {
    /// Ask the namenode for the next block; answer with [`WriteEvent::BlockAdded`].
    AddBlock {
        /// The block before, full and acknowledged.
        previous: Option<FinishedBlock>,
        /// Nodes that failed lately.
        exclude_nodes: Vec<String>,
        /// The answer is useless after this moment.
        until: Moment,
    },
    /// Give a block back; answer with [`WriteEvent::BlockAbandoned`].
    AbandonBlock {
        /// The block.
        block: Block,
        /// The answer is useless after this moment.
        until: Moment,
    },
    /// Ask the namenode for a higher stamp of the block, and for further nodes; answer with [`WriteEvent::Stamped`].
    NewStamp {
        /// The block, at the stamp that the namenode has.
        block: Block,
        /// Storages that stay in the pipeline, in its order.
        keep: Vec<String>,
        /// Further nodes wanted.
        more: u32,
        /// Nodes that failed lately.
        exclude_nodes: Vec<String>,
        /// The answer is useless after this moment.
        until: Moment,
    },
    /// Have a node send what every node has acknowledged to further ones; answer with [`WriteEvent::Transferred`]. Each sign
    /// of life of the sender before is a [`WriteEvent::TransferGoes`].
    Transfer {
        /// The block at its present stamp and its acknowledged length, with the token; its one location sends.
        block: LocatedBlock,
        /// Who gets it.
        targets: Vec<StorageLocation>,
        /// Stamp of the copies.
        new_stamp: u64,
        /// The answer is useless after this moment. `None`: nothing goes on without, so it lasts as long as there are signs
        /// of life; the shell ends it when they stay away for longer than the sender waits for one ack.
        until: Option<Moment>,
    },
    /// Tell the namenode that the pipeline stands again; answer with [`WriteEvent::PipelineUpdated`].
    UpdatePipeline {
        /// The block at its stamp before, and the length that every node of the new pipeline has.
        block: Block,
        /// Its stamp from now on.
        new_stamp: u64,
        /// The pipeline.
        storages: Vec<String>,
        /// The answer is useless after this moment.
        until: Moment,
    },
    /// Make the file visible while it is written; answer with [`WriteEvent::Published`].
    Publish {
        /// The answer is useless after this moment.
        until: Moment,
    },
    /// Close the file, and publish it if it is not yet; answer with [`WriteEvent::Completed`].
    Complete {
        /// The last block, if the file has any.
        last: Option<FinishedBlock>,
    },
    /// Tell the namenode, if it can be told, that this writer is gone: nothing is published any more, and a file that is
    /// visible gets closed at what its replicas have. No answer is awaited.
    Discard,
    /// Dial the first node of a block's pipeline; answer with `PipelineOpened` or `PipelineFailed`.
    OpenPipeline {
        /// Number of this pipeline.
        attempt: Attempt,
        /// The block with its nodes, first node first.
        block: LocatedBlock,
        /// What they are told.
        begin: PipelineBegin,
        /// The answer is useless after this moment.
        until: Moment,
    },
    /// Send a packet.
    SendPacket {
        /// Into which pipeline.
        attempt: Attempt,
        /// The packet.
        packet: Packet,
    },
    /// Close the connection of a pipeline, or give up dialling it; its later events do not count.
    ClosePipeline {
        /// Which one.
        attempt: Attempt,
    },
    /// Ask every node of the pipeline, at the same time and beside everything else, how far its replica is; answer with
    /// [`WriteEvent::Probed`] as soon as all answers are there, and at `until` at the latest.
    Probe {
        /// Number of this question.
        number: u32,
        /// The block, at the lowest stamp that counts, with its nodes.
        block: LocatedBlock,
        /// A node without an answer by then is silent.
        until: Moment,
    },
    /// The oldest flush that was not answered is done.
    Flushed,
    /// The writer is over: the file is published and closed, or an error says what is known.
    Done(FsResult<FileStatus>),
}
