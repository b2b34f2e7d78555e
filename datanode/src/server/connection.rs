//! One data connection: operations, one after another, until the peer leaves, breaks the protocol or is silent.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use base::disk::{Cut, with_cut};
use proto::transfer::OpReplicaState;
use transfer::{Op, ReplicaStateSetup, Status, WireError, reply};

use super::acceptor::OpenConnection;
use super::peer::Peer;
use super::{Context, catch_up, read, verify, write};
use crate::node::Refusal;
use crate::store::ReplicaReader;

/// Time for the next operation on a connection that has carried one. Readers keep theirs 3 s.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Time for the whole of an operation once it has begun, and for the first one.
const OPERATION: Duration = Duration::from_secs(10);
/// What is taken in of a peer that was refused, so that it can read why.
const LINGER_BYTES: usize = 4 << 20;
const LINGER: Duration = Duration::from_millis(500);

/// What follows an operation.
pub(super) enum Next {
    /// Another operation may come.
    Stay,
    /// The reader of this replica has a last word, and then another operation may come. It may let that wait until it has
    /// another one, and say both at once.
    LastWord(ReplicaReader),
    /// The connection ends here.
    End,
    /// The connection ends, and the peer is given time to read why.
    EndGently,
}

/// Serves a connection until its end. If its thread waits for a disk that does not answer, the connection is closed: its
/// peer goes elsewhere at once.
pub(super) fn serve(context: &Context, connection: &OpenConnection) {
    let stream = Arc::clone(connection.stream());
    let cut = Cut::new(move || {
        tracing::warn!("a data connection is cut off: its disk does not answer");
        // An error means that it is closed already.
        drop(stream.shutdown(Shutdown::Both));
    });
    with_cut(cut, || serve_all(context, connection));
}

fn serve_all(context: &Context, connection: &OpenConnection) {
    context.figures.connections.inc();
    let mut peer = Peer::new(connection.stream());
    let mut patience = OPERATION;
    loop {
        let op = peer.within(patience).map_err(WireError::Io).and_then(|()| Op::read(&mut peer));
        connection.set_busy(true);
        let mut next = match op {
            Ok(Op::Write(op)) => write::serve(context, &mut peer, &op),
            Ok(Op::Read(op)) => read::serve(context, &mut peer, &op),
            Ok(Op::Verify(op)) => verify::serve(context, &mut peer, &op),
            Ok(Op::Transfer(op)) => catch_up::serve(context, &mut peer, &op),
            Ok(Op::State(op)) => state(context, &mut peer, &op),
            Ok(Op::Borrow(_)) => not_here(&mut peer),
            Err(error) => not_understood(&mut peer, &error),
        };
        connection.set_busy(false);
        if let Next::LastWord(reader) = next {
            next = read::last_word(&mut peer, &reader);
        }
        match next {
            Next::Stay | Next::LastWord(_) if !context.stop.is_cancelled() => patience = KEEP_ALIVE,
            Next::Stay | Next::LastWord(_) | Next::End => break,
            Next::EndGently => {
                base::net::close_gently(peer.stream(), LINGER_BYTES, LINGER);
                break;
            }
        }
    }
    context.figures.connections.dec();
}

fn not_understood(peer: &mut Peer<'_>, error: &WireError) -> Next {
    let status = match error {
        WireError::Closed | WireError::Io(_) => return Next::End,
        WireError::Version { .. } | WireError::UnknownOp { .. } => Status::ErrorUnsupported,
        _ => Status::ErrorInvalid,
    };
    tracing::warn!(%error, "a data connection is refused");
    peer.answer(&reply::refused(status, &error.to_string(), "")).map_or(Next::End, |()| Next::EndGently)
}

/// Says how far a replica is. Asked while acks stay away, so it waits for nothing.
fn state(context: &Context, peer: &mut Peer<'_>, op: &OpReplicaState) -> Next {
    let told = ReplicaStateSetup::from_op(op)
        .map_err(|error| Refusal { status: Status::ErrorInvalid, message: error.to_string() })
        .and_then(|setup| context.node.progress(&setup, context.wall_ms()));
    let answered = match told {
        Ok(Some(progress)) => peer.answer(&progress.to_reply()),
        Ok(None) => peer.answer(&transfer::progress::absent("no replica on this node")),
        Err(refusal) => {
            tracing::debug!(%refusal, "the state of a replica is not told");
            peer.refuse(&refusal, "")
        }
    };
    answered.map_or(Next::End, |()| Next::Stay)
}

/// Descriptors cannot travel over TCP.
fn not_here(peer: &mut Peer<'_>) -> Next {
    let text = "descriptors are lent on the node's local socket only";
    peer.answer(&reply::refused(Status::ErrorUnsupported, text, "")).map_or(Next::End, |()| Next::EndGently)
}
