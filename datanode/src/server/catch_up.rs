//! TRANSFER_BLOCK: another node is sent what was acknowledged of an open replica, at a client's word.
//!
//! The target is written to as by a client, over a connection of its own, and is given little time: a pipeline waits.

use std::io;
use std::time::Duration;

use base::net::{self, BlockingStream};
use proto::transfer::OpTransferBlock;
use transfer::catch_up::TransferReply;
use transfer::{Status, TransferSetup, reply};

use super::Context;
use super::connection::Next;
use super::copy::{CopyFailure, Sending, ask};
use super::peer::Peer;
use super::read::SendError;
use crate::commands::CopyJob;
use crate::node::Refusal;

/// Time to reach the target, and for its answer to the set-up.
const DIAL: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(3);
/// Longest wait for an ack: the last one waits for a sync of everything.
const ACK: Duration = Duration::from_secs(10);
/// Longest wait of one send.
const SEND: Duration = Duration::from_secs(5);
/// Time between two signs of life to the client.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Serves one transfer.
pub(super) fn serve(context: &Context, peer: &mut Peer<'_>, op: &OpTransferBlock) -> Next {
    let begun = TransferSetup::from_op(op)
        .map_err(|error| Refusal { status: Status::ErrorInvalid, message: error.to_string() })
        .and_then(|setup| Ok((context.node.begin_transfer(&setup, context.wall_ms())?, setup.new_stamp.is_some())));
    let (job, knows_signs) = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            tracing::info!(%refusal, "a transfer is refused");
            context.figures.ended("transfer", false);
            return peer.refuse(&refusal, "").map_or(Next::End, |()| Next::Stay);
        }
    };
    let (block, link) = (job.setup.block.id, job.target.link());
    let done = send(context, peer, job, knows_signs);
    context.figures.ended("transfer", done.is_ok());
    let said = match done {
        Ok(()) => TransferReply::Done,
        Err(CopyFailure::Asker(error)) => {
            tracing::debug!(%block, %error, "who asked for a transfer left");
            return Next::End;
        }
        Err(failure) => {
            let message = crate::receive::chain(&failure);
            tracing::warn!(%block, %link, message, "a transfer failed");
            let bad_link = if is_ours(&failure) { String::new() } else { link };
            TransferReply::Failed { status: Status::Error, bad_link, message }
        }
    };
    peer.answer(&said.to_wire()).map_or(Next::End, |()| Next::Stay)
}

/// Is this node at fault, and not the target? What arrives damaged was damaged by who sent it (SC-37).
const fn is_ours(failure: &CopyFailure) -> bool {
    matches!(
        failure,
        CopyFailure::Begin(_)
            | CopyFailure::Stopped
            | CopyFailure::Send(SendError::Store(_))
            | CopyFailure::Packet { status: Status::ErrorChecksum, .. }
    )
}

fn send(context: &Context, peer: &mut Peer<'_>, job: CopyJob, knows_signs: bool) -> Result<(), CopyFailure> {
    let stream = set_up(&job)?;
    let mut told = context.clock.now();
    let mut between = || -> io::Result<()> {
        let now = context.clock.now();
        if knows_signs && now.since(told) >= SIGN_OF_LIFE {
            told = now;
            peer.answer(&TransferReply::Going.to_wire())?;
        }
        Ok(())
    };
    Sending::over(context, job, stream).send(&mut between)
}

fn set_up(job: &CopyJob) -> Result<BlockingStream, CopyFailure> {
    let op = job.setup.to_op()?.encode();
    let stream = net::dial_blocking(&job.target.host, job.target.transfer_port, DIAL)?;
    stream.set_write_timeout(Some(SEND))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let response = ask(&stream, &op)?;
    match reply::status_of(&response) {
        Status::Success => {
            stream.set_read_timeout(Some(ACK))?;
            Ok(stream)
        }
        status => Err(CopyFailure::Refused(format!("{} {}", status.as_str_name(), response.message()))),
    }
}
