//! WRITE_BLOCK: packets down the pipeline, acks up.
//!
//! ```text
//!                 this thread                          "dn-acks" thread, if there is a next node
//!   upstream ──▶ read ─▶ check ─▶ forward ─▶ store       next node ──▶ read ack
//!                                       └──▶ Acks (tracker) ◀─────────────┘
//!   upstream ◀── whichever of the two completes an ack sends it
//! ```

use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use base::net::{self, BlockingStream, Counted};
use parking_lot::Mutex;
use proto::transfer::OpWriteBlock;
use transfer::{Ack, PacketBuffer, Status, Target, WireError, WriteSetup, WriteStage, reply};

use super::Context;
use super::connection::Next;
use super::peer::Peer;
use crate::node::Refusal;
use crate::receive::{AckTracker, LocalDone, PacketSink};
use crate::store::OpenReplica;

/// Time to reach the next node.
const DIAL: Duration = Duration::from_secs(2);
/// Time for the next node's answer, and what each node behind it adds: the client waits for 8 s in all.
const ANSWER: Duration = Duration::from_secs(3);
const ANSWER_PER_NODE: Duration = Duration::from_secs(2);
/// What is received of acks at a time.
const ACK_BYTES: usize = 1024;
/// Time in which a node reads what is appended to. The one before it waits for 2 s more than the next one does.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// Longest wait of one send to the next node.
const SEND: Duration = Duration::from_secs(30);

/// Serves one write. The connection of a client ends with it; a datanode that copies may have more.
pub(super) fn serve(context: &Context, peer: &mut Peer<'_>, op: &OpWriteBlock) -> Next {
    let done = set_up(context, peer, op);
    context.figures.ended("write", matches!(done, Ok(true)));
    let is_copy = op.header.client_name.is_empty() && op.targets.is_empty();
    match done {
        Ok(true) if is_copy => Next::Stay,
        Ok(true) => Next::End,
        Ok(false) => Next::EndGently,
        Err(error) => {
            tracing::debug!(%error, "the connection of a write failed");
            Next::End
        }
    }
}

/// Sets the pipeline up and runs it. `Ok(false)`: it failed and the peer was told.
fn set_up(context: &Context, peer: &mut Peer<'_>, op: &OpWriteBlock) -> io::Result<bool> {
    let read_until = context.clock.now().plus(READ_WITHIN);
    let is_late = || context.clock.now() >= read_until;
    let begun = WriteSetup::from_op(op)
        .map_err(|error| Refusal { status: Status::ErrorInvalid, message: error.to_string() })
        .and_then(|setup| Ok((context.node.begin_write_within(&setup, context.wall_ms(), &is_late)?, setup)));
    let (writer, setup) = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            tracing::info!(%refusal, "a write is refused");
            return peer.refuse(&refusal, "").map(|()| false);
        }
    };
    let below = match Below::open(&setup) {
        Ok(below) => below,
        Err(BadLink { refusal, link }) => {
            tracing::warn!(block = %setup.block.id, %link, %refusal, "the rest of a pipeline does not come up");
            return peer.refuse(&refusal, &link).map(|()| false);
        }
    };
    let open = Arc::clone(writer.open());
    open.on_stop(ending(peer.stream(), below.as_ref()));
    peer.within(context.peer_timeout)?;
    peer.answer(&reply::pipeline_ready())?;
    let acks = Arc::new(Acks::new(Arc::clone(peer.stream()), below.is_some(), open));
    let listener = match &below {
        Some(below) => Some(below.listen(Arc::clone(&acks), patience(context.peer_timeout, &setup))?),
        None => None,
    };
    let receiver = Receiver { context, peer, sink: PacketSink::new(writer), below: below.as_ref(), acks: &acks };
    let whole = match setup.stage {
        WriteStage::PipelineCloseRecovery => receiver.close(),
        _ => receiver.run(),
    };
    if !whole && let Some(below) = &below {
        below.end();
    }
    if let Some(listener) = listener
        && listener.join().is_err()
    {
        tracing::error!("the thread that takes acks panicked");
    }
    Ok(acks.progress() == Progress::Finished)
}

/// How long a node waits for acks: longer the more nodes are behind it, so that the one next to the silence names it, and
/// not one that only waits for that one (SC-37).
fn patience(peer_timeout: Duration, setup: &WriteSetup) -> Duration {
    let behind = u32::try_from(setup.targets.len()).unwrap_or(u32::MAX);
    peer_timeout.saturating_add(ANSWER_PER_NODE.saturating_mul(behind))
}

/// Ends both connections of a write that somebody else takes over: its thread may wait for packets for long.
fn ending(upstream: &Arc<BlockingStream>, below: Option<&Below>) -> impl Fn() + Send + Sync + use<> {
    let ends = [Some(Arc::downgrade(upstream)), below.map(|below| Arc::downgrade(&below.stream))];
    move || {
        for stream in ends.iter().flatten().filter_map(Weak::upgrade) {
            // An error: it is closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// How far the acks of a block have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    /// The last packet was acknowledged as done by every node.
    Finished,
    /// A failure was told, or nobody is there to be told.
    Over,
}

/// The acks of this node, sent upstream by whichever thread completes one.
#[derive(Debug)]
struct Acks {
    upstream: Arc<BlockingStream>,
    open: Arc<OpenReplica>,
    state: Mutex<(AckTracker, Progress)>,
}

impl Acks {
    fn new(upstream: Arc<BlockingStream>, has_next: bool, open: Arc<OpenReplica>) -> Self {
        Self { upstream, open, state: Mutex::new((AckTracker::new(has_next), Progress::Open)) }
    }
    fn progress(&self) -> Progress {
        self.state.lock().1
    }
    /// Changes the tracker and sends what is due. The lock keeps the acks in order; a send has a time limit.
    fn settle(&self, change: impl FnOnce(&mut AckTracker)) -> Progress {
        let (tracker, progress) = &mut *self.state.lock();
        change(tracker);
        while *progress == Progress::Open
            && let Some(ack) = tracker.next_ack()
        {
            if ack.first_bad().is_none() {
                self.open.acknowledged(ack.seqno);
            }
            let sent = Counted(&self.upstream).write_all(&ack.encode());
            *progress = match sent {
                Ok(()) if tracker.finished() => Progress::Finished,
                Ok(()) if tracker.closed() => Progress::Over,
                Ok(()) => Progress::Open,
                Err(_gone) => Progress::Over,
            };
        }
        *progress
    }
}

/// The next node of the pipeline.
#[derive(Debug)]
struct Below {
    stream: Arc<BlockingStream>,
}

/// The node at fault when a pipeline does not come up.
struct BadLink {
    refusal: Refusal,
    link: String,
}

impl Below {
    /// Dials the next node, if there is one, and waits until the rest of the pipeline stands.
    fn open(setup: &WriteSetup) -> Result<Option<Self>, BadLink> {
        let (Some(target), Some(next)) = (setup.targets.first(), setup.for_next()) else { return Ok(None) };
        let bad = |status, message: String| BadLink { refusal: Refusal { status, message }, link: link_of(target) };
        let behind = u32::try_from(next.targets.len()).unwrap_or(u32::MAX);
        let patience = ANSWER.saturating_add(ANSWER_PER_NODE.saturating_mul(behind));
        let op = next.to_op().map_err(|error| bad(Status::ErrorInvalid, error.to_string()))?;
        let asked = net::dial_blocking(&target.host, target.transfer_port, DIAL).and_then(|stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(SEND.saturating_add(ANSWER_PER_NODE.saturating_mul(behind))))?;
            (&mut &stream).write_all(&op.encode())?;
            Ok(stream)
        });
        let stream = asked.map_err(|error| bad(Status::Error, error.to_string()))?;
        let response = reply::read(&mut &stream).map_err(|error| bad(Status::Error, error.to_string()))?;
        match reply::status_of(&response) {
            Status::Success => Ok(Some(Self { stream: Arc::new(stream) })),
            status => {
                let mut failed = bad(status, response.message().to_owned());
                if !response.first_bad_link().is_empty() {
                    failed.link = response.first_bad_link().to_owned();
                }
                Err(failed)
            }
        }
    }
    /// Starts the thread that takes the next node's acks.
    fn listen(&self, acks: Arc<Acks>, patience: Duration) -> io::Result<JoinHandle<()>> {
        self.stream.set_read_timeout(Some(patience))?;
        let stream = Arc::clone(&self.stream);
        base::task::thread("dn-acks", move || {
            let mut reader = BufReader::with_capacity(ACK_BYTES, Counted(&stream));
            loop {
                let progress = match Ack::read(&mut reader) {
                    Ok(ack) => acks.settle(|tracker| tracker.from_below(ack)),
                    Err(error) => {
                        tracing::debug!(%error, "the next node sends no more acks");
                        acks.settle(AckTracker::below_lost);
                        return;
                    }
                };
                if progress != Progress::Open {
                    return;
                }
            }
        })
    }
}

impl Below {
    /// Ends the connection: the thread that waits for acks ends, and the next node is told.
    fn end(&self) {
        // An error: it is closed already.
        drop(self.stream.shutdown(Shutdown::Both));
    }
}

fn link_of(target: &Target) -> String {
    format!("{}:{}", target.host, target.transfer_port)
}

struct Receiver<'a, 'p> {
    context: &'a Context,
    peer: &'a mut Peer<'p>,
    sink: PacketSink,
    below: Option<&'a Below>,
    acks: &'a Acks,
}

/// What a packet leads to.
enum Step {
    More,
    /// It was the last one, and the replica is finalised here.
    Whole,
    /// Nothing more is taken.
    Broken,
}

impl Receiver<'_, '_> {
    /// Finalises the replica at once: its writer sends nothing more. True if that is done here.
    fn close(mut self) -> bool {
        let done = self.sink.close(&self.context.node);
        let good = done.status == Status::Success;
        self.context.wake.changed();
        self.tell(done, false);
        good
    }
    /// Takes packets until the block is done here (true), fails, or the sender leaves.
    fn run(mut self) -> bool {
        let mut buffer = PacketBuffer::new();
        let mut whole = false;
        while self.acks.progress() == Progress::Open {
            match self.packet(&mut buffer) {
                Ok(Step::More) => {}
                Ok(Step::Whole) => {
                    whole = true;
                    break;
                }
                Ok(Step::Broken) => break,
                Err(error) => {
                    tracing::debug!(%error, "the sender of a block left");
                    break;
                }
            }
        }
        // A half-written replica gets its state when the sink goes; the namenodes hear of it.
        drop(self.sink);
        self.context.wake.changed();
        whole
    }

    fn packet(&mut self, buffer: &mut PacketBuffer) -> Result<Step, WireError> {
        buffer.read(self.peer)?;
        let Some(packet) = buffer.packet() else { return Ok(Step::Broken) };
        if let Err(damaged) = self.sink.check(&packet) {
            self.acks.settle(|tracker| tracker.done_here(damaged));
            return Ok(Step::Broken);
        }
        let forwarded = self.below.map(|below| Counted(&below.stream).write_all(buffer.raw()));
        let done = self.sink.store(&self.context.node, &packet);
        let good = done.status == Status::Success;
        if good {
            self.context.figures.received_bytes.inc_by(packet.data.len() as u64);
        }
        if packet.head.last && good {
            // The namenodes hear of it while the ack travels.
            self.context.wake.changed();
        }
        self.tell(done, matches!(forwarded, Some(Err(_))));
        Ok(match (good, packet.head.last) {
            (false, _) => Step::Broken,
            (true, true) => Step::Whole,
            (true, false) => Step::More,
        })
    }

    fn tell(&self, done: LocalDone, below_lost: bool) {
        self.acks.settle(|tracker| {
            tracker.done_here(done);
            if below_lost {
                tracker.below_lost();
            }
        });
    }
}
