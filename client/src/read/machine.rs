//! The reader of one range of one block as a machine: event and time in, effects out. It touches nothing.
//!
//! ```text
//!   Connecting ── Opened ──▶ Streaming ── end packet ──▶ Over (Ok)
//!      ▲  │ failed               │ failed, bad checksum (reported), silent
//!      │  ▼                      ▼
//!      └─ next replica, continuing after the last verified byte; none left: Relocating, then Over (Err)
//! ```
//!
//! What may never happen: a byte is delivered whose chunk was not verified, or out of order, or twice.

use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proto::common::{Block, LocatedBlock, StorageLocation};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::transfer::BlockOpResponse;
use transfer::packet::HEARTBEAT_SEQNO;
use transfer::{ChecksumKind, ChunkFormat, Packet, Status, reply};

use super::{Attempt, Coalesce, HedgeConfig, ReadAhead};

/// Bounds of a reader.
#[derive(Clone, Debug)]
pub struct ReadConfig {
    /// A replica that has not answered the request after this is left.
    pub open_timeout: Duration,
    /// Silence after which a replica is left.
    pub silence: Duration,
    /// Times that the namenode is asked again where the block is, after all replicas failed.
    pub relocations: u32,
    /// How far a reader goes ahead of an application that reads in sequence.
    pub ahead: ReadAhead,
    /// Parts of a file that one call of `read_at` or `read_ranges` reads at the same time. Default: 4.
    pub streams: usize,
    /// Bytes that all calls of `read_at` and `read_ranges` of a client together may receive at a time; further calls wait
    /// for their turn. What a call has returned is the caller's, and not counted any more. Default: 64 MiB. Apart from
    /// [`ReadAhead::client_bytes`], so that no call waits for readers whose application waits for the call.
    pub positional_bytes: u64,
    /// How ranges that lie close together become one read.
    pub coalesce: Coalesce,
    /// When a slow replica is not waited for alone.
    pub hedge: HedgeConfig,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            open_timeout: Duration::from_secs(5),
            silence: Duration::from_secs(8),
            relocations: 2,
            ahead: ReadAhead::default(),
            streams: 4,
            positional_bytes: 64 << 20,
            coalesce: Coalesce::default(),
            hedge: HedgeConfig::default(),
        }
    }
}

/// What happens to a reader.
#[derive(Debug)]
pub enum ReadEvent {
    /// Begin. Once, first.
    Start,
    /// The replica answered the request.
    Opened {
        /// Which attempt.
        attempt: Attempt,
        /// The answer.
        response: BlockOpResponse,
    },
    /// A packet came.
    Packet {
        /// In which attempt.
        attempt: Attempt,
        /// The packet.
        packet: Packet,
    },
    /// The connection could not be made, broke or ended, or carried garbage.
    Failed {
        /// Which attempt.
        attempt: Attempt,
        /// What was seen, for the message.
        why: String,
    },
    /// Answer to [`ReadEffect::Relocate`].
    Relocated(FsResult<LocatedBlock>),
    /// Nobody took packets for a while: what was silent is not the replica, and a connection that is gone now was
    /// ended by a node that had waited long enough. Also said of packets that came another way than from the node: the
    /// next failure is not its fault, and it is asked again.
    Rested,
    /// Time passed. Needed at [`BlockReadMachine::next_deadline`]; harmless at any other time.
    Tick,
}

/// What the shell must do, in this order.
#[derive(Debug)]
pub enum ReadEffect {
    /// Dial a replica and send it a read request with checksums.
    Connect {
        /// Number of this attempt.
        attempt: Attempt,
        /// Where.
        location: StorageLocation,
        /// What.
        block: Block,
        /// The right to read it, an encoded token.
        token: Bytes,
        /// First byte wanted.
        offset_bytes: u64,
        /// Bytes wanted.
        len_bytes: u64,
    },
    /// Verified bytes, the next ones in order.
    Deliver(Bytes),
    /// Close the connection of an attempt.
    Close {
        /// Which one.
        attempt: Attempt,
    },
    /// All came well: tell the datanode `CHECKSUM_OK`; the connection may serve another request.
    Finish {
        /// Which attempt.
        attempt: Attempt,
    },
    /// Tell the namenode that this replica is corrupt.
    ReportBad {
        /// The block.
        block: Block,
        /// The storage that holds the replica.
        storage: String,
    },
    /// This node did not serve well: others go first for a while.
    AvoidNode {
        /// Uuid of the node.
        node: String,
    },
    /// Ask the namenode where the block is now (locations age, tokens expire), after a pause that the shell
    /// chooses; answer with [`ReadEvent::Relocated`].
    Relocate {
        /// How often this was asked before.
        asked_before: u32,
    },
    /// Over.
    Done(FsResult<()>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Connecting(Attempt),
    Streaming(Attempt),
    Relocating,
    Over,
}

/// What the current attempt must bring next.
#[derive(Debug, Default)]
struct Stream {
    chunks: ChunkFormat,
    next_seqno: i64,
    next_offset_bytes: u64,
}

/// Reader of one range of one block.
#[derive(Debug)]
pub struct BlockReadMachine {
    config: ReadConfig,
    located: Arc<LocatedBlock>,
    stage: Stage,
    attempt: Attempt,
    replica: usize,
    /// First byte that was not delivered.
    next_bytes: u64,
    end_bytes: u64,
    stream: Stream,
    heard: Moment,
    /// Nothing came since nobody took packets.
    rested: bool,
    relocations: u32,
    failures: Vec<String>,
}

impl BlockReadMachine {
    /// A reader of `len_bytes` from `offset_bytes` of a block on.
    #[must_use]
    pub fn new(config: ReadConfig, located: impl Into<Arc<LocatedBlock>>, offset_bytes: u64, len_bytes: u64) -> Self {
        Self {
            config,
            located: located.into(),
            stage: Stage::New,
            attempt: 0,
            replica: 0,
            next_bytes: offset_bytes,
            end_bytes: offset_bytes.saturating_add(len_bytes),
            stream: Stream::default(),
            heard: Moment::START,
            rested: false,
            relocations: 0,
            failures: Vec::new(),
        }
    }

    /// Numbers its attempts from the one after `before`: for two machines that read the same range.
    #[must_use]
    pub const fn numbered_after(mut self, before: Attempt) -> Self {
        self.attempt = before;
        self
    }

    /// Has [`ReadEffect::Done`] been said?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// When [`ReadEvent::Tick`] is needed next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        match self.stage {
            Stage::Connecting(_) => Some(self.heard.plus(self.config.open_timeout)),
            Stage::Streaming(_) => Some(self.heard.plus(self.config.silence)),
            Stage::New | Stage::Relocating | Stage::Over => None,
        }
    }

    /// Takes one event and says what to do.
    pub fn handle(&mut self, event: ReadEvent, now: Moment, out: &mut Vec<ReadEffect>) {
        match event {
            ReadEvent::Start if self.stage == Stage::New => self.connect(now, out),
            ReadEvent::Opened { attempt, response } if self.stage == Stage::Connecting(attempt) => {
                self.on_opened(attempt, &response, now, out);
            }
            ReadEvent::Packet { attempt, packet } if self.stage == Stage::Streaming(attempt) => {
                // What the socket held while the application rested still comes whole, then the connection ends: so
                // packets do not take back that it rested.
                self.heard = now;
                self.on_packet(packet, now, out);
            }
            ReadEvent::Rested if matches!(self.stage, Stage::Streaming(_)) => {
                (self.heard, self.rested) = (now, true);
            }
            ReadEvent::Failed { attempt, .. } if self.rested && self.is_current(attempt) => {
                self.rested = false;
                out.push(ReadEffect::Close { attempt });
                self.connect(now, out);
            }
            ReadEvent::Failed { attempt, why } if self.is_current(attempt) => self.fail(&why, now, out),
            ReadEvent::Relocated(result) if self.stage == Stage::Relocating => self.on_relocated(result, now, out),
            ReadEvent::Tick if self.next_deadline().is_some_and(|deadline| now >= deadline) => {
                self.fail("it fell silent", now, out);
            }
            _ => {}
        }
    }

    fn is_current(&self, attempt: Attempt) -> bool {
        matches!(self.stage, Stage::Connecting(a) | Stage::Streaming(a) if a == attempt)
    }

    fn connect(&mut self, now: Moment, out: &mut Vec<ReadEffect>) {
        if self.next_bytes >= self.end_bytes {
            return self.end(Ok(()), out);
        }
        let Some(location) = self.located.locations.get(self.replica).cloned() else {
            return self.relocate(out);
        };
        self.attempt += 1;
        self.stage = Stage::Connecting(self.attempt);
        self.heard = now;
        out.push(ReadEffect::Connect {
            attempt: self.attempt,
            location,
            block: self.located.block.clone().unwrap_or_default(),
            token: self.located.token.clone(),
            offset_bytes: self.next_bytes,
            len_bytes: self.end_bytes - self.next_bytes,
        });
    }

    fn on_opened(&mut self, attempt: Attempt, response: &BlockOpResponse, now: Moment, out: &mut Vec<ReadEffect>) {
        let status = reply::status_of(response);
        if status != Status::Success {
            let why = format!("{} {}", status.as_str_name(), response.message());
            return self.fail(why.trim_end(), now, out);
        }
        let Some(info) = &response.read_op_checksum_info else {
            return self.fail("its answer says nothing of checksums", now, out);
        };
        let chunks = match ChunkFormat::from_wire(&info.checksum) {
            Ok(chunks) if chunks.kind() != ChecksumKind::Null => chunks,
            Ok(_) => return self.fail("it sends no checksums", now, out),
            Err(error) => return self.fail(&error.to_string(), now, out),
        };
        if info.chunk_offset > self.next_bytes {
            return self.fail("it begins after the wanted byte", now, out);
        }
        self.stage = Stage::Streaming(attempt);
        self.stream = Stream { chunks, next_seqno: 0, next_offset_bytes: info.chunk_offset };
        self.heard = now;
    }

    fn on_packet(&mut self, packet: Packet, now: Moment, out: &mut Vec<ReadEffect>) {
        let Packet { head, checksums, data, .. } = packet;
        if head.seqno == HEARTBEAT_SEQNO {
            return;
        }
        if head.seqno != self.stream.next_seqno || head.offset_bytes != self.stream.next_offset_bytes {
            return self.fail("a packet came out of turn", now, out);
        }
        if self.stream.chunks.verify(&data, &checksums).is_err() {
            return self.report_bad(now, out);
        }
        self.stream.next_seqno += 1;
        let start = self.stream.next_offset_bytes;
        self.stream.next_offset_bytes += data.len() as u64;
        self.deliver(start, data, out);
        if head.last {
            self.on_end(now, out);
        }
    }

    /// Passes on what of a verified packet is wanted and was not delivered before.
    fn deliver(&mut self, start_bytes: u64, mut data: Bytes, out: &mut Vec<ReadEffect>) {
        let surplus_bytes = (start_bytes + data.len() as u64).saturating_sub(self.end_bytes);
        data.truncate(data.len().saturating_sub(usize::try_from(surplus_bytes).unwrap_or(usize::MAX)));
        let before_bytes = self.next_bytes.saturating_sub(start_bytes);
        let before = usize::try_from(before_bytes).unwrap_or(usize::MAX).min(data.len());
        let wanted = data.split_off(before);
        if !wanted.is_empty() {
            self.next_bytes += wanted.len() as u64;
            out.push(ReadEffect::Deliver(wanted));
        }
    }

    fn on_end(&mut self, now: Moment, out: &mut Vec<ReadEffect>) {
        if self.next_bytes < self.end_bytes {
            return self.fail("its replica is shorter than the block", now, out);
        }
        out.push(ReadEffect::Finish { attempt: self.attempt });
        self.end(Ok(()), out);
    }

    fn report_bad(&mut self, now: Moment, out: &mut Vec<ReadEffect>) {
        if let (Some(block), Some(at)) = (&self.located.block, self.located.locations.get(self.replica)) {
            out.push(ReadEffect::ReportBad { block: block.clone(), storage: at.storage.clone() });
        }
        self.fail("a chunk does not match its checksum", now, out);
    }

    /// Leaves the current replica for the next one.
    fn fail(&mut self, why: &str, now: Moment, out: &mut Vec<ReadEffect>) {
        out.push(ReadEffect::Close { attempt: self.attempt });
        if let Some(at) = self.located.locations.get(self.replica) {
            self.failures.push(format!("{}:{}: {why}", at.host, at.transfer_port));
            out.push(ReadEffect::AvoidNode { node: at.node.clone() });
        }
        self.replica += 1;
        self.connect(now, out);
    }

    fn relocate(&mut self, out: &mut Vec<ReadEffect>) {
        if self.relocations >= self.config.relocations {
            let nothing = if base::mutated!(Sc88NoReplicaIsTheEnd) { Ok(()) } else { Err(self.no_replica()) };
            return self.end(nothing, out);
        }
        self.stage = Stage::Relocating;
        out.push(ReadEffect::Relocate { asked_before: self.relocations });
        self.relocations += u32::from(!base::mutated!(Sc89RetriesAreNotCounted));
    }

    fn on_relocated(&mut self, result: FsResult<LocatedBlock>, now: Moment, out: &mut Vec<ReadEffect>) {
        let same = |new: &LocatedBlock, old: &LocatedBlock| {
            let key = |of: &LocatedBlock| of.block.as_ref().map(|block| (block.id, block.len_bytes));
            key(new) == key(old)
        };
        match result {
            Ok(located) if same(&located, &self.located) => {
                self.located = located.into();
                self.replica = 0;
                self.connect(now, out);
            }
            Ok(_) => {
                let text = "the file was replaced while it was read";
                self.end(Err(FsError::new(ErrorCode::NotFound, text).with_hint("open it again")), out);
            }
            Err(error) => self.end(Err(error), out),
        }
    }

    fn no_replica(&self) -> FsError {
        let block = self.located.block.clone().unwrap_or_default();
        let tried = if self.failures.is_empty() { "none is known".to_owned() } else { self.failures.join("; ") };
        FsError::new(ErrorCode::NoReplica, format!("no replica of block {} can be read ({tried})", block.id))
            .with_hint("`blockyard node ls` shows which datanodes are dead; start them again")
    }

    fn end(&mut self, result: FsResult<()>, out: &mut Vec<ReadEffect>) {
        self.stage = Stage::Over;
        out.push(ReadEffect::Done(result));
    }
}
