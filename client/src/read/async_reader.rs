//! An open file as tokio's traits see it.

use std::io::{self, ErrorKind, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, ReadBuf};

use super::Reader;
use crate::io::into_io;

/// A [`Reader`] with [`AsyncRead`], [`AsyncBufRead`] and [`AsyncSeek`].
///
/// Its buffer is the packet that was received last, so that small reads cost no copy more than the one they ask for.
/// Seeking within the buffer keeps it; seeking elsewhere asks nobody before the next read. A position behind the end is
/// allowed, and nothing is there to read.
///
/// # Cancel safety
/// A read that is dropped has taken nothing: what was under way goes on, and the next read gets it. The same holds for
/// `read_exact` and its like only as tokio says: they may have taken some bytes.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncSeekExt};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let cluster = minicluster::MiniCluster::start(1).await?;
/// # let client = cluster.client()?;
/// # let mut writer = client.create("/words", Default::default()).await?;
/// # writer.write_all(b"hello world").await?;
/// # writer.close().await?;
/// let mut file = client.open("/words").await?.into_async();
/// file.seek(std::io::SeekFrom::End(-5)).await?;
/// let mut text = String::new();
/// file.read_to_string(&mut text).await?;
/// assert_eq!(text, "world");
/// # cluster.shutdown().await?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncReader {
    reader: Reader,
    /// Received and not read yet; the reader's position is behind it.
    buffer: Bytes,
}

impl Reader {
    /// This file with tokio's traits, from the present position on.
    #[must_use]
    pub fn into_async(self) -> AsyncReader {
        AsyncReader { reader: self, buffer: Bytes::new() }
    }
}

impl AsyncReader {
    /// The reader: for its length, its blocks, and ranges. Its position may be ahead of ours.
    #[must_use]
    pub const fn get_ref(&self) -> &Reader {
        &self.reader
    }
    /// The reader, at our position.
    #[must_use]
    pub fn into_inner(mut self) -> Reader {
        self.reader.seek(self.position_bytes());
        self.reader
    }
    /// Where the next read begins.
    #[must_use]
    pub fn position_bytes(&self) -> u64 {
        self.reader.position_bytes() - self.buffer.len() as u64
    }
    /// Bytes that can be read without waiting.
    #[must_use]
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Moves the position.
    fn go_to(&mut self, target_bytes: u64) {
        let ahead = target_bytes.checked_sub(self.position_bytes()).and_then(|ahead| usize::try_from(ahead).ok());
        match ahead.filter(|ahead| *ahead <= self.buffer.len()) {
            Some(ahead) => self.buffer.advance(ahead),
            None => {
                self.buffer.clear();
                self.reader.seek(target_bytes);
            }
        }
    }
}

impl AsyncBufRead for AsyncReader {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.buffer.is_empty() {
            match ready!(this.reader.poll_next(context)).map_err(into_io)? {
                Some(bytes) => this.buffer = bytes,
                None => break,
            }
        }
        Poll::Ready(Ok(&this.buffer))
    }

    fn consume(mut self: Pin<&mut Self>, bytes: usize) {
        let bytes = bytes.min(self.buffer.len());
        self.buffer.advance(bytes);
    }
}

impl AsyncRead for AsyncReader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let here = ready!(self.as_mut().poll_fill_buf(context))?;
        let taken = here.len().min(out.remaining());
        out.put_slice(&here[..taken]);
        self.consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for AsyncReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let target = match to {
            SeekFrom::Start(bytes) => Some(bytes),
            SeekFrom::End(by) => self.reader.len_bytes().checked_add_signed(by),
            SeekFrom::Current(by) => self.position_bytes().checked_add_signed(by),
        };
        let out_of_range = || io::Error::new(ErrorKind::InvalidInput, format!("{to:?} leads before the file's begin"));
        self.go_to(target.ok_or_else(out_of_range)?);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position_bytes()))
    }
}
