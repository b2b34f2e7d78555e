//! Bytes on their way to the client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base::net::TcpStream;
use proto::framing::preamble;
use tokio::io::AsyncWrite;

/// Capacity that is kept when everything is written.
const KEPT_BYTES: usize = 256 << 10;

/// Encoded frames that the socket has not taken yet. The preamble goes out with the first of them.
#[derive(Debug, Default)]
pub(super) struct Out {
    bytes: Vec<u8>,
    written: usize,
    greeted: bool,
    total_written: u64,
}

impl Out {
    /// Where frames are appended.
    pub(super) fn frames(&mut self) -> &mut Vec<u8> {
        if !self.greeted {
            self.greeted = true;
            self.bytes.extend_from_slice(&preamble());
        }
        &mut self.bytes
    }

    /// Bytes that wait.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len() - self.written
    }
    /// Does none wait?
    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes that the socket took so far, if some still wait: while it stands still, the client does not read.
    pub(super) fn written_len(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.total_written)
    }

    /// Gives its memory back, if nothing waits.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Writes what waits, with one call if the socket takes it. Ready: did it write anything?
    pub(super) fn poll_write(&mut self, stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let n = ready!(Pin::new(stream).poll_write(context, &self.bytes[self.written..]))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += n;
        self.total_written += n as u64;
        if self.is_empty() {
            self.written = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
        } else if self.written > KEPT_BYTES {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        Poll::Ready(Ok(true))
    }
}
