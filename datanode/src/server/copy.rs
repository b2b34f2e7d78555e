//! Copying replicas to other nodes at the namenode's word: this node writes as a client does.
//!
//! ```text
//!   commands ─▶ streams: so many at a time, as many again ─▶ a connection that is idle, or a new one ─▶ packets
//!               for endangered blocks                                                                at the rate
//! ```

mod links;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use base::net::{self, BlockingStream};
use parking_lot::Mutex;
use proto::cluster::CopyReplica;
use proto::transfer::BlockOpResponse;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use transfer::{Ack, Status, Target, WireError, reply};

use super::Context;
use super::read::{SendError, send_step};
use crate::budget::CopyBudget;
use crate::commands::{self, CopyError, CopyJob};
use crate::config::DatanodeConfig;
use crate::serve::ReadStep;
use crate::store::{ReplicaReader, StoreError};

/// Time to reach the target.
const DIAL: Duration = Duration::from_secs(5);
/// Longest wait of one send.
const SEND: Duration = Duration::from_secs(30);
/// Packets under way: enough to keep the target busy, few enough that its acks never fill a buffer.
const WINDOW: usize = 16;

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyFailure {
    #[error("the copy cannot begin")]
    Begin(#[from] CopyError),
    #[error("the target cannot be reached")]
    Dial(#[from] io::Error),
    #[error("the target's answer")]
    Wire(#[from] WireError),
    #[error("sending")]
    Send(#[from] SendError),
    #[error("the target refused: {0}")]
    Refused(String),
    #[error("the target says {} about packet {seqno}", status.as_str_name())]
    Packet { seqno: i64, status: Status },
    #[error("the target acknowledged packet {found} where {expected} was due")]
    Order { expected: i64, found: i64 },
    #[error("this node stops")]
    Stopped,
    #[error("who asked for it left")]
    Asker(#[source] io::Error),
}

/// What all copies of this node share.
#[derive(Debug)]
pub(super) struct Copies {
    /// Streams of copies that are not urgent.
    ordinary: Arc<Semaphore>,
    /// Streams of all copies: twice as many.
    all: Arc<Semaphore>,
    budget: Mutex<CopyBudget>,
    links: links::Links,
}

/// The right to make one copy.
#[derive(Debug)]
pub(super) struct Stream {
    _all: Option<OwnedSemaphorePermit>,
    _ordinary: Option<OwnedSemaphorePermit>,
}

impl Copies {
    pub(super) fn new(config: &DatanodeConfig) -> Self {
        let streams = config.copy_streams as usize;
        Self {
            ordinary: Arc::new(Semaphore::new(streams)),
            all: Arc::new(Semaphore::new(2 * streams)),
            budget: Mutex::new(CopyBudget::new(config.copy_rate.0)),
            links: links::Links::default(),
        }
    }
    /// Waits for a stream.
    ///
    /// # Cancel safety
    /// Dropping the future gives its place in the row up.
    pub(super) async fn stream(&self, urgent: bool) -> Stream {
        // The semaphores are never closed.
        let ordinary = if urgent { None } else { Arc::clone(&self.ordinary).acquire_owned().await.ok() };
        Stream { _all: Arc::clone(&self.all).acquire_owned().await.ok(), _ordinary: ordinary }
    }
    /// Closes connections that nobody has used lately.
    pub(super) fn tend(&self, context: &Context) {
        self.links.tend(context.clock.now());
    }
}

/// Copies a replica. Waits for disk and network.
pub(super) fn run(context: &Context, what: &CopyReplica) -> Result<(), CopyFailure> {
    context.figures.copy_begins();
    let done = commands::begin_copy(&context.node, what)
        .map_err(CopyFailure::Begin)
        .and_then(|job| Sending::begin(context, job, what.urgent)?.run());
    context.figures.copy_ends(done.is_ok());
    done
}

/// Asks a target whether it takes the replica.
pub(super) fn ask(mut stream: &BlockingStream, op: &[u8]) -> Result<BlockOpResponse, WireError> {
    stream.write_all(op).map_err(WireError::Io)?;
    reply::read(&mut stream)
}

/// A connection on which the target has answered.
fn set_up(context: &Context, target: &Target, op: &[u8]) -> Result<(BlockingStream, BlockOpResponse), CopyFailure> {
    if let Some(stream) = context.copies.links.take(target, context.clock.now()) {
        match ask(&stream, op) {
            Ok(response) => return Ok((stream, response)),
            // It was closed while it was idle.
            Err(WireError::Closed | WireError::Io(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let stream = net::dial_blocking(&target.host, target.transfer_port, DIAL)?;
    stream.set_write_timeout(Some(SEND))?;
    stream.set_read_timeout(Some(context.peer_timeout))?;
    let response = ask(&stream, op)?;
    Ok((stream, response))
}

pub(super) struct Sending<'a> {
    context: &'a Context,
    job: CopyJob,
    urgent: bool,
    stream: BlockingStream,
    /// Packets sent and not acknowledged, oldest first.
    unanswered: std::collections::VecDeque<ReadStep>,
}

impl<'a> Sending<'a> {
    /// Over a connection of its own on which the target has answered, for something that cannot wait.
    pub(super) const fn over(context: &'a Context, job: CopyJob, stream: BlockingStream) -> Self {
        Self { context, job, urgent: true, stream, unanswered: std::collections::VecDeque::new() }
    }
    fn begin(context: &'a Context, job: CopyJob, urgent: bool) -> Result<Self, CopyFailure> {
        let (stream, response) = set_up(context, &job.target, &job.setup.to_op()?.encode())?;
        match reply::status_of(&response) {
            Status::Success => Ok(Self { context, job, urgent, stream, unanswered: Default::default() }),
            status => Err(CopyFailure::Refused(format!("{} {}", status.as_str_name(), response.message()))),
        }
    }

    fn run(mut self) -> Result<(), CopyFailure> {
        self.send(&mut || Ok(()))?;
        self.context.copies.links.put(&self.job.target, self.stream, self.context.clock.now());
        Ok(())
    }
    /// Sends the replica and takes every ack; `between` is called between two packets.
    pub(super) fn send(&mut self, between: &mut dyn FnMut() -> io::Result<()>) -> Result<(), CopyFailure> {
        while let Some(step) = self.job.session.next_step().map_err(SendError::from)? {
            self.pay(step.len_bytes)?;
            between().map_err(CopyFailure::Asker)?;
            send_step(&self.stream, self.job.session.reader(), &step)?;
            self.context.figures.copied(step.len_bytes, self.urgent);
            self.unanswered.push_back(step);
            if self.unanswered.len() >= WINDOW {
                self.take_ack()?;
            }
        }
        while !self.unanswered.is_empty() {
            self.take_ack()?;
        }
        Ok(())
    }

    /// Waits until the budget allows for more bytes. The target waits as well, for less than its patience.
    fn pay(&self, len_bytes: u64) -> Result<(), CopyFailure> {
        let wait = self.context.copies.budget.lock().take(len_bytes, self.urgent, self.context.clock.now());
        if wait.is_zero() {
            return Ok(());
        }
        self.context.figures.copy_waited(wait);
        let stopped = tokio::time::timeout(wait, self.context.stop.cancelled());
        match Handle::current().block_on(stopped) {
            Ok(()) => Err(CopyFailure::Stopped),
            Err(_waited) => Ok(()),
        }
    }

    fn take_ack(&mut self) -> Result<(), CopyFailure> {
        let ack = Ack::read(&mut &self.stream)?;
        let Some(step) = self.unanswered.pop_front() else { return Ok(()) };
        if ack.seqno != step.head.seqno {
            return Err(CopyFailure::Order { expected: step.head.seqno, found: ack.seqno });
        }
        let Some(status) = ack.first_bad().and_then(|bad| ack.replies.get(bad)).copied() else { return Ok(()) };
        if status == Status::ErrorChecksum && damaged_here(self.job.session.reader(), &step) == Ok(true) {
            self.job.session.reader().mark_corrupt();
            self.context.wake.changed();
        }
        Err(CopyFailure::Packet { seqno: ack.seqno, status })
    }
}

/// Was a packet damaged on this node's disk already, or only on its way?
fn damaged_here(reader: &ReplicaReader, step: &ReadStep) -> Result<bool, DamageUnknown> {
    let mut data = vec![0; step.len_bytes as usize];
    reader.read_data(step.offset_bytes, &mut data)?;
    Ok(reader.chunks().verify(&data, &step.checksums).is_err())
}

/// The disk did not answer: then the read itself has marked the replica.
#[derive(Debug, PartialEq, Eq)]
struct DamageUnknown;

impl From<StoreError> for DamageUnknown {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = %crate::receive::chain(&error), "a packet that a target refused cannot be read again");
        Self
    }
}
