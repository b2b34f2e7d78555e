//! The framed door: one connection of our client, served by one task.
//!
//! ```text
//!            ┌──────────────────────── one task ─────────────────────────┐
//!   socket ─▶ read all that is there ─▶ Decoder ─▶ Calls::take ─▶ Desk    │
//!            │                                        │ answered at once │ waits for the core
//!   socket ◀─ one write for all answers ◀── out ◀─────┴──── waiting ◀────┘
//!            └────────────────────────────────────────────────────────────┘
//! ```
//!
//! Bounded throughout: with too many calls under way, or too many bytes of answers that the client does not read,
//! nothing more is read. A call that waits blocks no other one. A cancellation, or the end of the connection, drops
//! what waits. Bytes that make no sense end the connection with a farewell that says why.

mod calls;
mod methods;
mod out;
mod timer;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::net::TcpStream;
use base::task::CancellationToken;
use proto::error::{ErrorCode, FsError};
use proto::framing::{Broken, Decoder, Side};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{Desk, Peer};
use calls::Calls;
use timer::{Overdue, Timer};

/// Smallest and largest read.
const READ_BYTES: std::ops::RangeInclusive<usize> = (4 << 10)..=(64 << 10);
/// Time for the client to take in a farewell before the connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the whole preamble.
    pub(super) preamble: Duration,
    /// Without a call.
    pub(super) idle: Duration,
}

/// What a connection needs.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) desk: Desk,
    pub(super) peer: Peer,
    pub(super) limits: Limits,
}

/// Serves a connection until its end; `opening` was read from it already.
///
/// # Cancel safety
/// Dropping the future closes the connection and gives up its calls.
pub(super) async fn serve(stream: TcpStream, opening: &[u8], door: Door, stop: CancellationToken) {
    let mut connection = Connection::new(stream, opening, door, stop);
    match poll_fn(|context| connection.poll(context)).await {
        Ok(End::ByClient) => {}
        Ok(End::ByUs) => {
            let closed = base::net::end_gently(&mut connection.stream, FAREWELL).await;
            tracing::debug!(?closed, "a connection was ended");
        }
        Err(error) => tracing::debug!(%error, "a connection broke"),
    }
}

/// How a connection ends, if it does not break.
#[derive(Debug)]
enum End {
    /// The client closed it.
    ByClient,
    /// Everything is said, the farewell included.
    ByUs,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    calls: Calls,
    timer: Timer,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Room for the next read: as much as the last ones filled.
    read_bytes: usize,
    /// A farewell was said: nothing is read any more.
    leaving: bool,
}

impl Connection {
    fn new(stream: TcpStream, opening: &[u8], door: Door, stop: CancellationToken) -> Self {
        let Door { desk, peer, limits } = door;
        let mut decoder = Decoder::new(Side::Server);
        decoder.buffer().extend_from_slice(opening);
        let timer = Timer::new(limits, desk.clock().now());
        let stop = Box::pin(stop.cancelled_owned());
        let calls = Calls::new(desk, peer);
        Self { stream, decoder, calls, timer, stop, read_bytes: *READ_BYTES.start(), leaving: false }
    }

    /// Goes on as far as it can without waiting.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<End>> {
        loop {
            let mut moved = self.calls.poll_waiting(context);
            match self.poll_read(context) {
                Poll::Ready(Ok(true)) => moved = true,
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(End::ByClient)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            moved |= self.take_frames();
            match self.calls.out.poll_write(&mut self.stream, context) {
                Poll::Ready(Ok(wrote)) => moved |= wrote,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            if self.leaving && self.calls.none_waits() && self.calls.out.is_empty() {
                return Poll::Ready(Ok(End::ByUs));
            }
            if !moved {
                ready!(self.poll_events(context))?;
            }
        }
    }

    /// Reads once, if there is room for what may come. `false`: the client closed the connection.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.leaving || !self.calls.has_room() {
            return Poll::Pending;
        }
        let buffer = self.decoder.buffer();
        buffer.reserve(self.read_bytes);
        let room = buffer.capacity() - buffer.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), context, buffer))?;
        if read == room {
            self.read_bytes = (self.read_bytes * 2).min(*READ_BYTES.end());
        }
        Poll::Ready(Ok(read > 0))
    }

    /// Takes the calls of all frames that are there, while there is room for them.
    fn take_frames(&mut self) -> bool {
        let mut taken = false;
        while !self.leaving && self.calls.has_room() {
            match self.decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    taken = true;
                    if let Err(error) = self.calls.take(frame) {
                        self.leave(&error);
                    }
                }
                Err(broken) => self.leave(&refusal(&broken)),
            }
        }
        if taken {
            self.timer.call_taken(self.calls.now());
        }
        taken
    }

    /// The server stops, or time has passed. Pending unless something is to be done.
    fn poll_events(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.leaving && self.stop.as_mut().poll(context).is_ready() {
            let error = FsError::new(ErrorCode::Unavailable, "the namenode is stopping");
            self.leave(&error.with_hint("try again in a moment"));
            return Poll::Ready(Ok(()));
        }
        ready!(self.timer.poll(context));
        let now = self.calls.now();
        if self.decoder.pending_bytes() == 0 {
            // Connections that wait for nothing hold no buffers.
            *self.decoder.buffer() = bytes::BytesMut::new();
            self.calls.out.rest();
        }
        // A frame that waits for room is no slow client's.
        let partial = self.decoder.pending_bytes() > 0 && self.calls.has_room();
        let stalled = self.calls.out.written_len();
        let idle = self.calls.none_waits();
        match self.timer.overdue(now, (self.decoder.greeted(), partial, idle), stalled) {
            None => Poll::Ready(Ok(())),
            Some(Overdue::Idle) if !self.leaving => {
                self.leave(&FsError::new(ErrorCode::Unavailable, "the connection was idle"));
                Poll::Ready(Ok(()))
            }
            Some(Overdue::Idle) => Poll::Ready(Ok(())),
            Some(what) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what.as_str()))),
        }
    }

    fn leave(&mut self, why: &FsError) {
        self.leaving = true;
        self.calls.farewell(why);
    }
}

/// What a client is told whose bytes cannot be read.
fn refusal(broken: &Broken) -> FsError {
    let code = match broken {
        Broken::Version(_) => ErrorCode::VersionMismatch,
        Broken::Checksum => ErrorCode::Corrupt,
        Broken::Stranger(_) | Broken::TooLong { .. } | Broken::Kind(_) => ErrorCode::InvalidArgument,
    };
    let hint = match broken {
        Broken::Version(_) => "use a client of the same release as the cluster",
        _ => "",
    };
    FsError::new(code, broken.to_string()).with_hint(hint)
}
