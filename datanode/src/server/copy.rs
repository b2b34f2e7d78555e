//! Copying a replica to another node at the namenode's word: this node writes as a client does.

use std::io::{self, Write};
use std::time::Duration;

use base::net::{self, BlockingStream};
use proto::cluster::CopyReplica;
use transfer::{Ack, Status, WireError, reply};

use super::Context;
use super::read::{SendError, send_step};
use crate::commands::{self, CopyError, CopyJob};
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
}

/// Copies a replica. Waits for disk and network.
pub(super) fn run(context: &Context, what: &CopyReplica) -> Result<(), CopyFailure> {
    let done = commands::begin_copy(&context.node, what)
        .map_err(CopyFailure::Begin)
        .and_then(|job| Sending::begin(context, job)?.run());
    context.figures.ended("copy", done.is_ok());
    done
}

struct Sending<'a> {
    context: &'a Context,
    job: CopyJob,
    stream: BlockingStream,
    /// Packets sent and not acknowledged, oldest first.
    unanswered: std::collections::VecDeque<ReadStep>,
}

impl<'a> Sending<'a> {
    fn begin(context: &'a Context, job: CopyJob) -> Result<Self, CopyFailure> {
        let target = &job.target;
        let stream = net::dial_blocking(&target.host, target.transfer_port, DIAL)?;
        stream.set_write_timeout(Some(SEND))?;
        stream.set_read_timeout(Some(context.peer_timeout))?;
        (&mut &stream).write_all(&job.setup.to_op()?.encode())?;
        let response = reply::read(&mut &stream)?;
        match reply::status_of(&response) {
            Status::Success => Ok(Self { context, job, stream, unanswered: std::collections::VecDeque::new() }),
            status => Err(CopyFailure::Refused(format!("{} {}", status.as_str_name(), response.message()))),
        }
    }

    fn run(mut self) -> Result<(), CopyFailure> {
        while let Some(step) = self.job.session.next_step().map_err(SendError::from)? {
            send_step(&self.stream, self.job.session.reader(), &step)?;
            self.context.figures.sent_bytes.inc_by(step.len_bytes);
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
