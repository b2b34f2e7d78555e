//! A connection as tonic takes it: what the port read of it comes first, and it ends when it is idle for too long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

use super::Activity;
use crate::doors::port::{Open, Opening, Place};

/// A connection that the port handed over.
#[derive(Debug)]
pub(in crate::doors) struct Incoming {
    stream: TcpStream,
    opening: Option<Opening>,
    activity: Activity,
    look: Pin<Box<Sleep>>,
    _held: (Place, Open),
}

impl Incoming {
    pub(in crate::doors) fn new(stream: TcpStream, opening: Opening, activity: Activity, held: (Place, Open)) -> Self {
        let look = Box::pin(tokio::time::sleep(activity.look_every()));
        Self { stream, opening: Some(opening), activity, look, _held: held }
    }
}

impl Connected for Incoming {
    type ConnectInfo = Activity;
    fn connect_info(&self) -> Activity {
        self.activity.clone()
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(opening) = this.opening.take_if(|opening| opening.bytes().len() <= buffer.remaining()) {
            buffer.put_slice(opening.bytes());
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            return Poll::Ready(read);
        }
        loop {
            ready!(this.look.as_mut().poll(context));
            if this.activity.is_over() {
                // Nothing read: the end of the stream.
                return Poll::Ready(Ok(()));
            }
            this.look.as_mut().reset(Instant::now() + this.activity.look_every());
        }
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
