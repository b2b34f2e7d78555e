//! One data connection: operations, one after another, until the peer leaves, breaks the protocol or is silent.

use std::io::{self, Write};
use std::time::Duration;

use base::net::BlockingStream;
use proto::transfer::BlockOpResponse;
use transfer::{Op, Status, WireError, encode_delimited, reply};

use super::acceptor::OpenConnection;
use super::{Context, read, verify, write};
use crate::node::Refusal;

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
    /// The connection ends here.
    End,
    /// The connection ends, and the peer is given time to read why.
    EndGently,
}

/// Serves a connection until its end.
pub(super) fn serve(context: &Context, connection: &OpenConnection) {
    context.figures.connections.inc();
    let stream = connection.stream();
    let mut patience = OPERATION;
    loop {
        let op = stream
            .set_read_timeout(Some(patience))
            .map_err(WireError::Io)
            .and_then(|()| Op::read(&mut stream.as_ref()));
        connection.set_busy(true);
        let next = match op {
            Ok(Op::Write(op)) => write::serve(context, stream, &op),
            Ok(Op::Read(op)) => read::serve(context, stream, &op),
            Ok(Op::Verify(op)) => verify::serve(context, stream, &op),
            Ok(Op::Borrow(_)) => not_here(stream),
            Err(error) => not_understood(stream, &error),
        };
        connection.set_busy(false);
        match next {
            Next::Stay if !context.stop.is_cancelled() => patience = KEEP_ALIVE,
            Next::Stay | Next::End => break,
            Next::EndGently => {
                base::net::close_gently(stream, LINGER_BYTES, LINGER);
                break;
            }
        }
    }
    context.figures.connections.dec();
}

fn not_understood(stream: &BlockingStream, error: &WireError) -> Next {
    let status = match error {
        WireError::Closed | WireError::Io(_) => return Next::End,
        WireError::Version { .. } | WireError::UnknownOp { .. } => Status::ErrorUnsupported,
        _ => Status::ErrorInvalid,
    };
    tracing::warn!(%error, "a data connection is refused");
    answer(stream, &reply::refused(status, &error.to_string(), "")).map_or(Next::End, |()| Next::EndGently)
}

/// Descriptors cannot travel over TCP.
fn not_here(stream: &BlockingStream) -> Next {
    let text = "descriptors are lent on the node's local socket only";
    answer(stream, &reply::refused(Status::ErrorUnsupported, text, "")).map_or(Next::End, |()| Next::EndGently)
}

/// Sends an answer to a set-up.
pub(super) fn answer(mut stream: &BlockingStream, response: &BlockOpResponse) -> io::Result<()> {
    stream.write_all(&encode_delimited(response))
}

/// Tells a peer that its operation is refused.
pub(super) fn refuse(stream: &BlockingStream, refusal: &Refusal, bad_link: &str) -> io::Result<()> {
    answer(stream, &reply::refused(refusal.status, &refusal.message, bad_link))
}
