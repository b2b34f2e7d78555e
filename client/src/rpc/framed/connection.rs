//! The task of a connection: the only one that reads and writes it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::net::TcpStream;
use bytes::Bytes;
use proto::framing::{Broken, Decoder, Kind, Side};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use super::shared::{Rest, Said, Shared, farewell};
use super::silence::Silence;

/// Smallest and largest read.
const READ_BYTES: std::ops::RangeInclusive<usize> = (8 << 10)..=(256 << 10);
/// Why a connection ends that is not needed.
const DESERTED: &str = "nobody holds it any more";
/// Capacity of the outbox that is kept between writes.
const KEPT_BYTES: usize = 256 << 10;

/// Serves a connection until it ends, until nobody holds it any more, or until the server was silent for `patience`
/// although it owes something. The last also when no caller is left to notice: those that give up soon, one after the
/// other, would fill the outbox of a dead connection for ever.
pub(super) async fn run(stream: TcpStream, shared: Arc<Shared>, patience: Duration) {
    // However this task ends, nobody waits for ever.
    let shared = EndsCalls(shared);
    let mut connection = Connection {
        stream,
        shared: &shared.0,
        decoder: Decoder::new(Side::Client),
        read_bytes: *READ_BYTES.start(),
        out: Vec::new(),
        written: 0,
        said: Vec::new(),
        silence: Silence::new(patience),
        alarm: None,
    };
    let why = poll_fn(|context| connection.poll(context)).await;
    shared.0.broke(&why);
}

struct EndsCalls(Arc<Shared>);

impl Drop for EndsCalls {
    fn drop(&mut self) {
        self.0.broke("the client stops");
    }
}

struct Connection<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    decoder: Decoder,
    /// Room for the next read: as much as the last ones filled.
    read_bytes: usize,
    out: Vec<u8>,
    written: usize,
    said: Vec<(u64, Said)>,
    silence: Silence,
    /// Not after the time at which the silence will have lasted too long.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Connection<'_> {
    /// Goes on as far as it can without waiting; ready with the reason when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<String> {
        loop {
            let mut moved = false;
            match self.poll_read(context) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(why)) => return Poll::Ready(why),
                Poll::Pending => {}
            }
            match self.poll_write(context) {
                Poll::Ready(Ok(wrote)) => moved |= wrote,
                Poll::Ready(Err(why)) => return Poll::Ready(why),
                Poll::Pending => {}
            }
            if !moved {
                return match self.shared.rest(self.written < self.out.len(), context) {
                    Rest::ToWrite => continue,
                    Rest::Deserted => Poll::Ready(DESERTED.to_owned()),
                    Rest::Waits => self.poll_silence(true, context),
                    Rest::Idle => self.poll_silence(false, context),
                };
            }
        }
    }

    /// Ready when the server was silent for too long.
    fn poll_silence(&mut self, waits: bool, context: &mut Context<'_>) -> Poll<String> {
        loop {
            let Some(deadline) = self.silence.note(Instant::now(), waits) else { return Poll::Pending };
            // Deadlines only move away: an alarm that goes off early is set anew, instead of with each call.
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            ready!(alarm.as_mut().poll(context));
            self.alarm = None;
            // Only after an alarm: it goes off behind the look at what arrived. This process may have been blocked itself.
            if self.silence.is_too_long() {
                return Poll::Ready("the server does not say anything any more".to_owned());
            }
        }
    }

    /// Reads once and gives out what came.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        let buffer = self.decoder.buffer();
        buffer.reserve(self.read_bytes);
        let room = buffer.capacity() - buffer.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), context, buffer));
        match read.map_err(|error| error.to_string())? {
            0 => return Poll::Ready(Err("the server closed it".to_owned())),
            read if read == room => self.read_bytes = (self.read_bytes * 2).min(*READ_BYTES.end()),
            _ => {}
        }
        self.silence.heard();
        Poll::Ready(self.take_frames())
    }

    fn take_frames(&mut self) -> Result<(), String> {
        let end = loop {
            match self.decoder.next_frame() {
                Ok(None) => break Ok(()),
                Ok(Some(frame)) if frame.head.kind == Kind::GoingAway => {
                    self.shared.answer(&mut self.said);
                    self.shared.farewell(frame.head.call, &farewell(frame.message));
                }
                Ok(Some(frame)) => {
                    let said = (frame.head.kind, Bytes::copy_from_slice(frame.message));
                    self.said.push((frame.head.call, said));
                }
                Err(broken) => break Err(explained(&broken)),
            }
        };
        self.shared.answer(&mut self.said);
        match end {
            Ok(()) if self.shared.is_finished() => Err("the server said farewell".to_owned()),
            end => end,
        }
    }

    /// Writes what waits, all of it at once if the socket takes it. Did it write anything?
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, String>> {
        if self.written == self.out.len() {
            self.out.clear();
            self.out.shrink_to(KEPT_BYTES);
            self.written = 0;
            if !self.shared.collect(&mut self.out) {
                return Poll::Ready(Err(DESERTED.to_owned()));
            }
        }
        if self.out.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(context, &self.out[self.written..]));
        match wrote.map_err(|error| error.to_string())? {
            0 => Poll::Ready(Err("it takes no more bytes".to_owned())),
            n => {
                self.written += n;
                Poll::Ready(Ok(true))
            }
        }
    }
}

/// What a person is told of bytes that make no sense.
fn explained(broken: &Broken) -> String {
    match broken {
        Broken::Stranger(_) => "what answers there does not speak Blockyard's protocol".to_owned(),
        broken => broken.to_string(),
    }
}
