//! The writer of one file as a machine: event and time in, effects out. It touches nothing.
//!
//! ```text
//!            data                      PipelineOpened                 ack of the last packet
//!   Idle ───────────▶ Adding ──▶ Opening ───────────▶ Streaming ────────────────────────────▶ Idle
//!    │ closed            ▲           │ failed             │ failed                              (next block, or)
//!    ▼                   │           ▼                    ▼
//!   Completing ─▶ Over   └────── Abandoning ◀── nothing of the block acknowledged yet
//!                                                   else ─▶ Over (discarded: nothing is published)
//! ```
//!
//! What may never happen: `Complete` while a byte that the application gave is not acknowledged by every
//! node of its pipeline. There is one path to `Complete`: `Idle`, nothing pending, closed.

use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proto::common::{Block, LocatedBlock};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{FileStatus, FinishedBlock};
use transfer::digest::{LeafHasher, LeafQueue};
use transfer::packet::HEARTBEAT_SEQNO;
use transfer::{Ack, BlockDigest, ChunkFormat, Packet, PacketHead};

use super::Attempt;
use super::cut::Pending;
use super::window::Window;

/// Bounds of a writer. The defaults keep the promise "success, or a clear error within 30 s".
#[derive(Clone, Debug)]
pub struct WriteConfig {
    /// Data of a full packet, a multiple of the chunks of 512 bytes, 8 MiB at most.
    pub packet_bytes: usize,
    /// Whether blocks get a digest, unless a file says otherwise.
    pub digest: BlockDigest,
    /// Data taken from the application and not acknowledged, at most (plus one piece).
    pub window_bytes: usize,
    /// A pipeline that is not set up after this is given up.
    pub open_timeout: Duration,
    /// Silence, while acks are due, after which a pipeline is given up.
    pub ack_timeout: Duration,
    /// Idle time after which a heartbeat packet keeps the pipeline alive.
    pub heartbeat: Duration,
    /// Pipelines tried for one block.
    pub attempts: u32,
    /// Time from the last progress within which another pipeline may still be tried.
    pub retry_within: Duration,
    /// Time from the last progress after which the writer must have ended.
    pub stall_limit: Duration,
}

/// Longest packet: the leaves of its segments must fit its header.
const MAX_PACKET_BYTES: usize = 8 << 20;

impl Default for WriteConfig {
    fn default() -> Self {
        Self {
            packet_bytes: transfer::PACKET_DATA_BYTES,
            digest: BlockDigest::Sha256,
            window_bytes: 4 * 1024 * 1024,
            open_timeout: Duration::from_secs(8),
            ack_timeout: Duration::from_secs(20),
            heartbeat: Duration::from_secs(15),
            attempts: 3,
            retry_within: Duration::from_secs(22),
            stall_limit: Duration::from_secs(28),
        }
    }
}

/// What happens to a writer.
#[derive(Debug)]
pub enum WriteEvent {
    /// The application wrote these bytes. Give only as much as [`FileWriter::room_bytes`] allows.
    Data(Bytes),
    /// The application has no more data and wants the file published.
    Close,
    /// The application gave up: nothing may be published.
    Abort,
    /// Answer to [`WriteEffect::AddBlock`].
    BlockAdded(FsResult<LocatedBlock>),
    /// Answer to [`WriteEffect::AbandonBlock`].
    BlockAbandoned(FsResult<()>),
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
    /// Time passed. Needed at [`FileWriter::next_deadline`]; harmless at any other time.
    Tick,
}

/// What the shell must do, in this order.
#[derive(Debug)]
pub enum WriteEffect {
    /// Ask the namenode for the next block; answer with [`WriteEvent::BlockAdded`].
    AddBlock {
        /// The block before, full and acknowledged.
        previous: Option<FinishedBlock>,
        /// Nodes that failed this block.
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
    /// Publish the file; answer with [`WriteEvent::Completed`].
    Complete {
        /// The last block, if the file has any.
        last: Option<FinishedBlock>,
    },
    /// Tell the namenode, if it can be told, that nothing will be published. No answer is awaited.
    Discard,
    /// Dial the first node of a block's pipeline; answer with `PipelineOpened` or `PipelineFailed`.
    OpenPipeline {
        /// Number of this pipeline.
        attempt: Attempt,
        /// The block with its nodes, first node first.
        block: LocatedBlock,
    },
    /// Send a packet.
    SendPacket {
        /// Into which pipeline.
        attempt: Attempt,
        /// The packet.
        packet: Packet,
    },
    /// Close the connection of a pipeline; its later events do not count.
    ClosePipeline {
        /// Which one.
        attempt: Attempt,
    },
    /// The writer is over: the file is published, or an error says what is known.
    Done(FsResult<FileStatus>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Adding,
    Opening(Attempt),
    Streaming(Attempt),
    Abandoning,
    Completing,
    Over,
}

/// The block that is being written.
#[derive(Debug)]
struct OpenBlock {
    located: LocatedBlock,
    cut_bytes: u64,
    next_seqno: i64,
    last_cut: bool,
    any_acked: bool,
    tries: u32,
    window: Window,
    /// Hashes what is cut; `None` if the block gets no digest.
    digest: Option<LeafHasher>,
    leaves: LeafQueue,
}

/// Writer of one file.
#[derive(Debug)]
pub struct FileWriter {
    config: WriteConfig,
    block_size_bytes: u64,
    stage: Stage,
    attempt: Attempt,
    pending: Pending,
    closing: bool,
    first_block: Option<LocatedBlock>,
    block: Option<OpenBlock>,
    /// The newest finished block: committed by the next `AddBlock` or by `Complete`.
    previous: Option<FinishedBlock>,
    excluded: Vec<String>,
    /// Last sign that the block gets on: an ack, a new pipeline, the first packet after idling.
    progress: Moment,
    /// Where `progress` stood when the first pipeline of this block failed; until a byte is acknowledged.
    fault_since: Option<Moment>,
    last_sent: Moment,
}

impl FileWriter {
    /// A writer of a file that was just created, with its first block if the namenode gave one at once.
    /// A block size of 0 stands for HDFS's 128 MiB.
    #[must_use]
    pub fn new(config: WriteConfig, block_size_bytes: u64, first_block: Option<LocatedBlock>, now: Moment) -> Self {
        let config = WriteConfig { packet_bytes: config.packet_bytes.min(MAX_PACKET_BYTES), ..config };
        Self {
            config,
            block_size_bytes: if block_size_bytes == 0 { 128 << 20 } else { block_size_bytes },
            stage: Stage::Idle,
            attempt: 0,
            pending: Pending::default(),
            closing: false,
            first_block,
            block: None,
            previous: None,
            excluded: Vec::new(),
            progress: now,
            fault_since: None,
            last_sent: now,
        }
    }

    /// Bytes that the application may still give; 0 when the window is full or the writer is over.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        if self.closing || self.is_over() {
            return 0;
        }
        let in_flight = self.block.as_ref().map_or(0, |block| block.window.bytes());
        self.config.window_bytes.saturating_sub(in_flight + self.pending.len_bytes())
    }

    /// Has [`WriteEffect::Done`] been said?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// When [`WriteEvent::Tick`] is needed next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        match self.stage {
            Stage::Opening(_) => Some(self.progress.plus(self.config.open_timeout).min(self.limit())),
            Stage::Streaming(_) if self.waits_for_ack() => {
                Some(self.progress.plus(self.config.ack_timeout).min(self.limit()))
            }
            Stage::Streaming(_) => Some(self.last_sent.plus(self.config.heartbeat)),
            _ => None,
        }
    }

    /// When the writer must have ended if nothing gets on from now.
    fn limit(&self) -> Moment {
        self.fault_since.unwrap_or(self.progress).plus(self.config.stall_limit)
    }

    /// Takes one event and says what to do.
    pub fn handle(&mut self, event: WriteEvent, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.is_over() {
            return;
        }
        match event {
            WriteEvent::Data(bytes) => self.pending.push(bytes),
            WriteEvent::Close => self.closing = true,
            WriteEvent::Abort if base::mutated!(Sc32AbortedWriteIsPublished) => self.closing = true,
            WriteEvent::Abort => self.give_up(aborted(), out),
            WriteEvent::BlockAdded(Ok(located)) => self.on_block(located, now, out),
            WriteEvent::BlockAbandoned(Ok(())) => self.on_abandoned(now, out),
            WriteEvent::BlockAdded(Err(error)) | WriteEvent::BlockAbandoned(Err(error)) => self.give_up(error, out),
            WriteEvent::Completed(result) => self.on_completed(result, out),
            WriteEvent::PipelineOpened { attempt } => self.on_opened(attempt, now),
            WriteEvent::PipelineFailed { attempt, bad, why } if self.is_current(attempt) => {
                self.on_failed(bad, &why, now, out);
            }
            WriteEvent::Ack { attempt, ack } if self.stage == Stage::Streaming(attempt) => self.on_ack(ack, now, out),
            WriteEvent::PipelineFailed { .. } | WriteEvent::Ack { .. } => {}
            WriteEvent::Tick => self.on_tick(now, out),
        }
        self.step(now, out);
    }

    /// Does everything that can be done without another event.
    fn step(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        match self.stage {
            Stage::Idle if !self.pending.is_empty() => {
                self.progress = now;
                match self.first_block.take() {
                    Some(located) => self.on_block_of(located, now, out),
                    None => self.ask_for_block(out),
                }
            }
            Stage::Idle if self.closing => self.finish(now, out),
            Stage::Opening(_) => self.cut(),
            Stage::Streaming(attempt) => {
                self.cut();
                self.send(attempt, now, out);
            }
            _ => {}
        }
    }

    /// Everything is acknowledged: publish. A first block that was never needed goes back before.
    fn finish(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        if let Some(unused) = self.first_block.take() {
            // However long the application took to say that there is nothing: the time starts here.
            self.progress = now;
            self.stage = Stage::Abandoning;
            let block = unused.block.unwrap_or_default();
            out.push(WriteEffect::AbandonBlock { block, until: self.limit() });
            return;
        }
        self.stage = Stage::Completing;
        out.push(WriteEffect::Complete { last: self.previous.clone() });
    }

    fn ask_for_block(&mut self, out: &mut Vec<WriteEffect>) {
        self.stage = Stage::Adding;
        out.push(WriteEffect::AddBlock {
            previous: self.previous.clone(),
            exclude_nodes: self.excluded.clone(),
            until: self.limit(),
        });
    }

    fn on_block(&mut self, located: LocatedBlock, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.stage == Stage::Adding {
            self.on_block_of(located, now, out);
        }
    }

    fn on_block_of(&mut self, located: LocatedBlock, now: Moment, out: &mut Vec<WriteEffect>) {
        if located.locations.is_empty() || located.block.is_none() {
            let error = FsError::new(ErrorCode::NotEnoughNodes, "the namenode named no datanode for a new block");
            return self.give_up(error, out);
        }
        self.attempt += 1;
        self.stage = Stage::Opening(self.attempt);
        self.progress = now;
        match &mut self.block {
            // Another pipeline for the same data: all packets are still here, none was acknowledged.
            Some(block) => {
                block.located = located.clone();
                block.tries += 1;
                block.window.rewind();
            }
            None => self.block = Some(OpenBlock::new(located.clone(), self.config.digest)),
        }
        out.push(WriteEffect::OpenPipeline { attempt: self.attempt, block: located });
    }

    fn on_opened(&mut self, attempt: Attempt, now: Moment) {
        if self.stage == Stage::Opening(attempt) {
            self.stage = Stage::Streaming(attempt);
            self.last_sent = now;
        }
    }

    /// Cuts pending data into packets of the open block: full ones, and the rest once no more can come.
    fn cut(&mut self) {
        let Some(block) = &mut self.block else { return };
        while !block.last_cut {
            let room = self.block_size_bytes - block.cut_bytes;
            let want = usize::try_from(room).unwrap_or(usize::MAX).min(self.config.packet_bytes);
            if self.pending.len_bytes() < want && !self.closing {
                break;
            }
            let data = self.pending.take(want);
            let last = data.len() as u64 == room || (self.closing && self.pending.is_empty());
            block.push(data, last);
        }
    }

    fn send(&mut self, attempt: Attempt, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &mut self.block else { return };
        if !block.window.waits_for_ack() {
            // The silence that counts begins with the first packet that wants an ack.
            self.progress = now;
        }
        while let Some(packet) = block.window.send_next() {
            self.last_sent = now;
            out.push(WriteEffect::SendPacket { attempt, packet });
        }
    }

    fn on_ack(&mut self, ack: Ack, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &mut self.block else { return };
        if let Some(bad) = ack.first_bad() {
            let status = ack.replies.get(bad).map_or("ERROR", |status| status.as_str_name());
            return self.on_failed(Some(bad), &format!("it answered {status}"), now, out);
        }
        if ack.seqno == HEARTBEAT_SEQNO {
            return;
        }
        if block.window.expected_seqno() != Some(ack.seqno) || ack.replies.len() != block.located.locations.len() {
            let why = format!("it acknowledged packet {} out of turn or not for every node", ack.seqno);
            return self.on_failed(Some(0), &why, now, out);
        }
        let Some(packet) = block.window.acknowledge() else { return };
        block.any_acked |= !packet.data.is_empty();
        self.progress = now;
        self.fault_since = None;
        if packet.head.last {
            self.on_block_finished(ack, out);
        }
    }

    fn on_block_finished(&mut self, ack: Ack, out: &mut Vec<WriteEffect>) {
        let Some(block) = self.block.take() else { return };
        out.push(WriteEffect::ClosePipeline { attempt: self.attempt });
        let named = block.located.block.unwrap_or_default();
        let stale_bytes = if base::mutated!(Sc39LengthIsStale) { block.cut_bytes / 2 } else { 0 };
        self.previous = Some(FinishedBlock {
            block: Some(Block { len_bytes: block.cut_bytes - stale_bytes, ..named }),
            receipts: ack.receipts,
            digest: block.digest.map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(&digest.prefix())),
        });
        self.excluded.clear();
        self.stage = Stage::Idle;
    }

    fn on_failed(&mut self, bad: Option<usize>, why: &str, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &self.block else { return };
        out.push(WriteEffect::ClosePipeline { attempt: self.attempt });
        let blamed = block.located.locations.get(bad.unwrap_or(0));
        let name = blamed.map_or_else(|| "a datanode".to_owned(), |at| format!("{}:{}", at.host, at.transfer_port));
        let in_time = now.since(*self.fault_since.get_or_insert(self.progress)) < self.config.retry_within;
        self.stage = Stage::Abandoning;
        if block.any_acked || block.tries >= self.config.attempts || !in_time {
            return self.give_up(write_failed(&name, why), out);
        }
        self.excluded.extend(blamed.map(|at| at.node.clone()));
        let block = block.located.block.clone().unwrap_or_default();
        out.push(WriteEffect::AbandonBlock { block, until: self.limit() });
    }

    fn on_abandoned(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.stage != Stage::Abandoning {
            return;
        }
        if self.block.is_some() {
            self.ask_for_block(out);
        } else {
            // It was the unused first block of an empty file.
            self.progress = now;
            self.stage = Stage::Idle;
        }
    }

    fn on_completed(&mut self, result: FsResult<FileStatus>, out: &mut Vec<WriteEffect>) {
        if self.stage != Stage::Completing {
            return;
        }
        // With an unknown outcome the file may be published: then nothing is left to discard.
        let certain = |error: &FsError| error.code != ErrorCode::OutcomeUnknown || base::mutated!(Sc98DoubtIsRefusal);
        let refused = result.as_ref().is_err_and(certain);
        if refused {
            out.push(WriteEffect::Discard);
        }
        self.stage = Stage::Over;
        out.push(WriteEffect::Done(result));
    }

    fn on_tick(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.stage {
            Stage::Opening(_) => self.on_failed(None, "the pipeline was not set up in time", now, out),
            Stage::Streaming(_) if self.waits_for_ack() => self.on_failed(None, "no acknowledgement in time", now, out),
            Stage::Streaming(attempt) => {
                self.last_sent = now;
                out.push(WriteEffect::SendPacket { attempt, packet: Packet::heartbeat() });
            }
            _ => {}
        }
    }

    fn give_up(&mut self, error: FsError, out: &mut Vec<WriteEffect>) {
        if matches!(self.stage, Stage::Opening(_) | Stage::Streaming(_)) {
            out.push(WriteEffect::ClosePipeline { attempt: self.attempt });
        }
        self.stage = Stage::Over;
        self.pending.clear();
        self.block = None;
        out.push(WriteEffect::Discard);
        out.push(WriteEffect::Done(Err(error)));
    }

    fn waits_for_ack(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.window.waits_for_ack())
    }

    fn is_current(&self, attempt: Attempt) -> bool {
        matches!(self.stage, Stage::Opening(a) | Stage::Streaming(a) if a == attempt)
    }
}

impl OpenBlock {
    fn new(located: LocatedBlock, digest: BlockDigest) -> Self {
        Self {
            located,
            cut_bytes: 0,
            next_seqno: 0,
            last_cut: false,
            any_acked: false,
            tries: 1,
            window: Window::default(),
            digest: (digest == BlockDigest::Sha256).then(LeafHasher::default),
            leaves: LeafQueue::default(),
        }
    }

    fn push(&mut self, data: Bytes, last: bool) {
        let head = PacketHead { offset_bytes: self.cut_bytes, seqno: self.next_seqno, last, sync: last };
        let packet =
            Packet { head, leaves: self.hash(&data, last), checksums: ChunkFormat::CRC32C_512.compute(&data), data };
        self.next_seqno += 1;
        self.cut_bytes += packet.data.len() as u64;
        self.last_cut = last;
        self.window.push(packet);
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

fn aborted() -> FsError {
    FsError::new(ErrorCode::WriteFailed, "the writer was dropped before it was closed; nothing was published")
}

fn write_failed(node: &str, why: &str) -> FsError {
    let message = format!("the write failed at datanode {node}: {why}; nothing was published");
    FsError::new(ErrorCode::WriteFailed, message).with_hint("write the file again; `blockyard node ls` shows the nodes")
}
