//! The writer of one file as a machine: event and time in, effects out. It touches nothing.
//!
//! ```text
//!            data                     PipelineOpened                 ack of the last packet
//!   Idle ──────────▶ Adding ──▶ Opening ──────────▶ Streaming ───────────────────────────────▶ Idle
//!    │ closed           ▲          │ failed, silent    │ failed, silent                         (next block, or)
//!    ▼                  │          ▼                   ▼
//!   Completing ─▶ Over  │        Probing ─▶ who is at fault?
//!                       ├─ Abandoning ◀─┴─ nothing of the block acknowledged: another one, with the same data
//!                       │                └─ else: Stamping ─▶ Transferring ─▶ Opening ─▶ Updating ─▶ Streaming
//!                       └ (`repair`)                     it cannot go on ─▶ Over (discarded)
//! ```
//!
//! Nodes that failed are left out for a while. Where that leaves too few, they are asked again after a moment
//! (`WaitingForBlock`, `WaitingForStamp`), as long as there is time.
//!
//! What may never happen: `Complete`, or `Flushed`, while a byte that the application gave before is not acknowledged by
//! every node of its pipeline; a packet to a pipeline of whose stamp the namenode does not know; `Complete` after the
//! application dropped the file (SC-32). There is one path to `Complete`: `Idle`, nothing pending, closed.

mod blame;
mod block;
mod flush;
mod open;
mod rejoin;
mod repair;
mod stall;
mod words;

use base::clock::Moment;
use proto::common::{Block, LocatedBlock};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{FileStatus, FinishedBlock};
use transfer::packet::HEARTBEAT_SEQNO;
use transfer::{Ack, Packet, Status};

pub use blame::{Blamed, Known, ProbeAnswer, ReplicaAt, blame};
pub use block::Reopened;
use block::{First, OpenBlock};
use flush::Flushes;
use repair::{Fault, Probe, Seen};
pub use words::{PipelineBegin, WriteConfig, WriteEffect, WriteEvent};

use super::Attempt;
use super::cut::Pending;

/// Longest packet: the leaves of its segments must fit its header.
const MAX_PACKET_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Adding,
    Opening(Attempt),
    /// A pipeline stands at a new stamp, and the namenode is told.
    Updating(Attempt),
    Streaming(Attempt),
    /// The nodes of a pipeline that failed are asked how far they are.
    Probing,
    /// None could be reached: until then.
    Pausing(Moment),
    /// Nodes that failed were left out, and the others are too few: all are asked again then, for a new block.
    WaitingForBlock(Moment),
    /// The same for further nodes of the block that is open.
    WaitingForStamp(Moment),
    Abandoning,
    /// The namenode is asked for a higher stamp; `whole`: some replicas are whole, and the block only closes.
    Stamping {
        whole: bool,
    },
    /// The nodes that the namenode named are asked what they have; there is one that is known to have all.
    Checking,
    Transferring,
    Completing,
    Over,
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
    first: Option<First>,
    block: Option<OpenBlock>,
    /// The newest finished block: committed by the next `AddBlock` or by `Complete`.
    previous: Option<FinishedBlock>,
    /// Nodes that failed, and until when they get no block.
    excluded: Vec<(String, Moment)>,
    /// Bytes that the application gave, and how many of them are in packets.
    given_bytes: u64,
    cut_bytes: u64,
    flushes: Flushes,
    /// Last sign that the block gets on: an ack, a new pipeline, the first packet after idling.
    progress: Moment,
    /// From when on silence counts: `progress`, or the last time that the nodes were asked.
    heard: Moment,
    /// Where `progress` stood when the first pipeline failed, and how many have since; until a packet is acknowledged.
    fault_since: Option<Moment>,
    failures: u32,
    fault: Fault,
    probe: Option<Probe>,
    probes: u32,
    /// How the nodes stood when they were asked last, if they had all that was sent: then they are asked again soon.
    held: Option<Vec<ReplicaAt>>,
    /// What came of a pipeline while the namenode was told of it.
    broken: Option<(Option<usize>, String)>,
    early_ack: Option<Ack>,
    last_sent: Moment,
}

impl FileWriter {
    /// A writer of a file that was just created, with its first block if the namenode gave one at once.
    /// A block size of 0 stands for HDFS's 128 MiB.
    #[must_use]
    pub fn new(config: WriteConfig, block_size_bytes: u64, first_block: Option<LocatedBlock>, now: Moment) -> Self {
        Self::with(config, block_size_bytes, first_block.map(First::New), now)
    }

    /// A writer at the end of a file that was there, with its last block if that has room. The file can be seen.
    #[must_use]
    pub fn appending(config: WriteConfig, block_size_bytes: u64, last: Option<Reopened>, now: Moment) -> Self {
        Self::with(config, block_size_bytes, last.map(First::Reopened), now).published()
    }

    /// The file can be seen already.
    #[must_use]
    pub const fn published(mut self) -> Self {
        self.flushes.published = true;
        self
    }

    fn with(config: WriteConfig, block_size_bytes: u64, first: Option<First>, now: Moment) -> Self {
        let config = WriteConfig { packet_bytes: config.packet_bytes.min(MAX_PACKET_BYTES), ..config };
        Self {
            config,
            block_size_bytes: if block_size_bytes == 0 { 128 << 20 } else { block_size_bytes },
            stage: Stage::Idle,
            attempt: 0,
            pending: Pending::default(),
            closing: false,
            first,
            block: None,
            previous: None,
            excluded: Vec::new(),
            given_bytes: 0,
            cut_bytes: 0,
            flushes: Flushes::default(),
            progress: now,
            heard: now,
            fault_since: None,
            failures: 0,
            fault: Fault::default(),
            probe: None,
            probes: 0,
            held: None,
            broken: None,
            early_ack: None,
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
            Stage::Opening(_) => Some(self.patience(self.config.open_timeout)),
            Stage::Streaming(_) if self.waits_for_ack() => Some(self.patience(self.config.ack_timeout)),
            Stage::Streaming(_) => Some(self.last_sent.plus(self.config.heartbeat)),
            Stage::Pausing(until) | Stage::WaitingForBlock(until) | Stage::WaitingForStamp(until) => {
                Some(until.min(self.limit()))
            }
            // The shell watches over the others.
            Stage::Transferring if self.fault.alone => Some(self.limit()),
            _ => None,
        }
    }

    /// When something is done about silence: the nodes are asked, or, after all patience, the pipeline given up.
    fn patience(&self, all: std::time::Duration) -> Moment {
        let end = self.progress.plus(all).min(self.limit());
        let silence = if self.held.is_some() { self.config.probe_within } else { self.config.silence };
        if self.probe.is_some() { end } else { end.min(self.heard.plus(silence)) }
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
        self.excluded.retain(|(_, until)| *until > now);
        match event {
            WriteEvent::Data(bytes) => self.take(bytes),
            WriteEvent::Flush { sync } => self.on_flush(sync),
            WriteEvent::Close => self.closing = true,
            WriteEvent::Abort if base::mutated!(Sc32AbortedWriteIsPublished) => self.closing = true,
            WriteEvent::Abort => self.give_up(self.aborted(), out),
            WriteEvent::BlockAdded(Ok(located)) => self.on_block(located, now, out),
            WriteEvent::BlockAbandoned(Ok(())) => self.on_abandoned(now, out),
            WriteEvent::BlockAdded(Err(error)) => self.on_no_block(error, now, out),
            WriteEvent::BlockAbandoned(Err(error)) => self.give_up(error, out),
            WriteEvent::Stamped(result) => self.on_stamped(result, now, out),
            WriteEvent::TransferGoes => self.on_transfer_goes(now),
            WriteEvent::Transferred(result) => self.on_transferred(result, now, out),
            WriteEvent::PipelineUpdated(result) => self.on_updated(result, now, out),
            WriteEvent::Published(result) => self.on_published(result, out),
            WriteEvent::Completed(result) => self.on_completed(result, out),
            WriteEvent::PipelineOpened { attempt } => self.on_opened(attempt, now, out),
            WriteEvent::PipelineFailed { attempt, bad, why } => self.on_pipeline_failed(attempt, bad, why, now, out),
            WriteEvent::Ack { attempt, ack } if self.is_current(attempt) => self.on_ack(ack, now, out),
            WriteEvent::Ack { .. } => {}
            WriteEvent::Probed { number, answers } => self.on_probed(number, answers, now, out),
            WriteEvent::Tick => self.on_tick(now, out),
        }
        // Before anything else: what asks for the file's place must not be asked when it is closed.
        self.settle_flushes(now, out);
        self.step(now, out);
        self.settle_flushes(now, out);
    }

    fn take(&mut self, bytes: bytes::Bytes) {
        if !self.closing {
            self.given_bytes += bytes.len() as u64;
            self.pending.push(bytes);
        }
    }

    /// Does everything that can be done without another event.
    fn step(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        let reopened = matches!(self.first, Some(First::Reopened(_)));
        match self.stage {
            // An appended block is open in the namespace: it has to be closed again, even with nothing more in it.
            Stage::Idle if !self.pending.is_empty() || self.closing && reopened => self.begin_block(now, out),
            Stage::Idle if self.closing && !self.flushes.is_publishing() => self.finish(now, out),
            Stage::Idle if !self.flushes.is_empty() && self.given_bytes == 0 => self.return_unused(now, out),
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
        if self.has_unused_block() {
            return self.return_unused(now, out);
        }
        self.stage = Stage::Completing;
        out.push(WriteEffect::Complete { last: self.previous.clone() });
    }

    fn on_opened(&mut self, attempt: Attempt, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.stage != Stage::Opening(attempt) {
            return;
        }
        self.probe = None;
        if self.block.as_ref().is_some_and(OpenBlock::is_restamped) {
            return self.ask_to_update(attempt, out);
        }
        if let Some(block) = &mut self.block {
            block.streamed = true;
        }
        self.stage = Stage::Streaming(attempt);
        self.last_sent = now;
    }

    fn on_pipeline_failed(
        &mut self,
        attempt: Attempt,
        bad: Option<usize>,
        why: String,
        now: Moment,
        out: &mut Vec<WriteEffect>,
    ) {
        match self.stage {
            Stage::Opening(current) if current == attempt => {
                self.on_failed(Seen { refused: true, ..Seen::of(bad, why) }, now, out);
            }
            Stage::Streaming(current) if current == attempt => {
                self.on_failed(Seen { broke: bad.is_none(), ..Seen::of(bad, why) }, now, out);
            }
            // The namenode is being told of it. What it says decides whether there is anything to repair.
            Stage::Updating(current) if current == attempt => {
                self.broken.get_or_insert((bad, why));
            }
            _ => {}
        }
    }

    /// Cuts pending data into packets of the open block: full ones, what a flush wants, and the rest once no more can come.
    fn cut(&mut self) {
        let Some(block) = &mut self.block else { return };
        while !block.last_cut {
            let room = self.block_size_bytes.saturating_sub(block.cut_bytes);
            let packet = block.next_packet_bytes(self.config.packet_bytes);
            let want = usize::try_from(room).unwrap_or(usize::MAX).min(packet);
            let due = self.closing || self.flushes.wants_more_than(self.cut_bytes);
            if self.pending.len_bytes() < want && !due {
                break;
            }
            let data = self.pending.take(want);
            let last = data.len() as u64 == room || (self.closing && self.pending.is_empty());
            if data.is_empty() && !last {
                break;
            }
            let (before, after) = (self.cut_bytes, self.cut_bytes + data.len() as u64);
            let seqno = block.next_seqno;
            block.push(data, last, self.flushes.syncs_between(before, after));
            self.cut_bytes = after;
            self.flushes.reached(before, after, block.begin_total, seqno);
        }
        self.cut_syncs();
    }

    fn send(&mut self, attempt: Attempt, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &mut self.block else { return };
        if block.only_closes() {
            return;
        }
        if !block.window.waits_for_ack() {
            // The silence that counts begins with the first packet that wants an ack.
            (self.progress, self.heard) = (now, now);
        }
        while let Some(packet) = block.send_next() {
            self.last_sent = now;
            out.push(WriteEffect::SendPacket { attempt, packet });
        }
    }

    fn on_ack(&mut self, ack: Ack, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &mut self.block else { return };
        if let Some(bad) = ack.first_bad() {
            let status = ack.replies.get(bad).copied().unwrap_or(Status::Error);
            if status == Status::ErrorChecksum && bad == 0 && block.window.first_is_damaged() {
                return self.give_up(damaged_here(), out);
            }
            let why = format!("it answered {}", status.as_str_name());
            return self.ack_failed(Some(bad), why, now, out);
        }
        if ack.seqno == HEARTBEAT_SEQNO {
            return;
        }
        let for_all = ack.replies.len() == block.pipeline.len();
        if block.only_closes() && for_all {
            return self.on_close_ack(ack, now, out);
        }
        if block.window.expected_seqno() != Some(ack.seqno) || !for_all {
            let why = format!("it acknowledged packet {} out of turn or not for every node", ack.seqno);
            return self.ack_failed(Some(0), why, now, out);
        }
        let Some(packet) = block.window.acknowledge() else { return };
        block.acked_bytes = block.acked_bytes.max(packet.head.offset_bytes + packet.data.len() as u64);
        self.acknowledged(now);
        if packet.head.last {
            self.on_block_finished(ack, out);
        }
    }

    /// What an ack says against the pipeline.
    fn ack_failed(&mut self, bad: Option<usize>, why: String, now: Moment, out: &mut Vec<WriteEffect>) {
        if let Stage::Streaming(attempt) | Stage::Updating(attempt) = self.stage {
            self.on_pipeline_failed(attempt, bad, why, now, out);
        }
    }

    /// Something got on: what failed before counts no more.
    fn acknowledged(&mut self, now: Moment) {
        (self.progress, self.heard) = (now, now);
        let failures = if base::mutated!(Sc38FailuresAreNeverForgotten) { self.failures } else { 0 };
        (self.fault_since, self.failures, self.probe, self.held) = (None, failures, None, None);
    }

    fn on_block_finished(&mut self, ack: Ack, out: &mut Vec<WriteEffect>) {
        let Some(block) = self.block.take() else { return };
        out.push(WriteEffect::ClosePipeline { attempt: self.attempt });
        let stale_bytes = if base::mutated!(Sc39LengthIsStale) { block.cut_bytes / 2 } else { 0 };
        self.previous = Some(FinishedBlock {
            block: Some(Block { len_bytes: block.cut_bytes - stale_bytes, ..block.named }),
            receipts: ack.receipts,
            digest: block.digest.map_or_else(bytes::Bytes::new, |digest| digest.prefix().to_vec().into()),
        });
        self.stage = Stage::Idle;
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
        let over = |all| now >= self.progress.plus(all).min(self.limit());
        match self.stage {
            Stage::Opening(_) if over(self.config.open_timeout) => {
                self.on_failed(Seen::of(None, "the pipeline was not set up in time"), now, out);
            }
            Stage::Streaming(_) if self.waits_for_ack() && over(self.config.ack_timeout) => {
                self.on_failed(Seen::of(None, "no acknowledgement in time"), now, out);
            }
            Stage::Opening(_) => self.ask_nodes(now, out),
            Stage::Streaming(_) if self.waits_for_ack() => self.ask_nodes(now, out),
            Stage::Streaming(attempt) => {
                // It has stood for the time between two heartbeats.
                self.failures = 0;
                self.last_sent = now;
                out.push(WriteEffect::SendPacket { attempt, packet: Packet::heartbeat() });
            }
            Stage::Pausing(_) => {
                self.stage = Stage::Probing;
                // Who was blamed before may be the one that answers now; the answers say who does not.
                self.fault.blame_nobody();
                self.ask_nodes(now, out);
            }
            Stage::WaitingForBlock(_) => self.ask_for_block(now, out),
            Stage::WaitingForStamp(_) => self.ask_for_stamp_again(out),
            Stage::Transferring => self.give_up(self.write_failed(), out),
            _ => {}
        }
    }

    fn give_up(&mut self, error: FsError, out: &mut Vec<WriteEffect>) {
        if matches!(self.stage, Stage::Opening(_) | Stage::Updating(_) | Stage::Streaming(_)) {
            out.push(WriteEffect::ClosePipeline { attempt: self.attempt });
        }
        self.stage = Stage::Over;
        self.pending.clear();
        self.block = None;
        out.push(WriteEffect::Discard);
        out.push(WriteEffect::Done(Err(error)));
    }

    fn waits_for_ack(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.window.waits_for_ack() || block.only_closes())
    }

    fn is_current(&self, attempt: Attempt) -> bool {
        matches!(self.stage, Stage::Updating(a) | Stage::Streaming(a) if a == attempt)
    }

    /// What becomes of the file when its writer gives up.
    const fn what_is_left(&self) -> &'static str {
        match (self.flushes.published, self.flushes.is_publishing()) {
            (true, _) => "the file keeps what was flushed, and gets closed by the cluster",
            (false, true) => {
                "the file may be visible: then it keeps what every node has, and gets closed by the cluster"
            }
            (false, false) => "nothing was published",
        }
    }

    fn aborted(&self) -> FsError {
        let text = format!("the writer was dropped before it was closed; {}", self.what_is_left());
        FsError::new(ErrorCode::WriteFailed, text)
    }
}

fn damaged_here() -> FsError {
    let text = "a packet changed in this machine's memory after its checksum was made; it was not written";
    FsError::new(ErrorCode::WriteFailed, text).with_hint("check the memory of this machine before you try again")
}
