//! A file that is being written, as tokio's traits see it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::FileStatus;
use tokio::io::AsyncWrite;

use super::Writer;
use crate::io::into_io;

/// Bytes that are collected before they are handed over: a packet.
const PIECE_BYTES: usize = transfer::PACKET_DATA_BYTES;

/// Who writes so many bytes at a time gets room for a packet at once; otherwise it grows with what is written.
const MANY_BYTES: usize = 4 << 10;

/// A [`Writer`] with [`AsyncWrite`].
///
/// - `write` takes bytes into a buffer of a packet; a full one is handed over while the next is filled. An error of the
///   file comes with one of the next calls, and then with every one.
/// - `flush` hands over what is buffered. It makes nothing durable, and nothing visible: those who write through layers
///   flush often, and half a file is nothing to show. Who wants that calls [`AsyncWriter::hflush`] or
///   [`AsyncWriter::sync_data`].
/// - `shutdown` publishes: when it returns, the bytes are durable on every node of the pipeline and the name is in the
///   namespace. [`AsyncWriter::status`] says what was published.
/// - Dropping it without `shutdown` publishes nothing, and what the file would have replaced stays. A file that can be
///   seen already gets closed by the cluster, with everything that was flushed.
///
/// # Cancel safety
/// A `write` that is dropped before it is done has taken nothing. A `flush` or `shutdown` that is dropped is continued
/// by the next one; if a writer is dropped in the middle of `shutdown`, the whole file may be there, or nothing.
///
/// ```
/// use tokio::io::AsyncWriteExt;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let cluster = minicluster::MiniCluster::start(1).await?;
/// # let client = cluster.client()?;
/// let mut file = client.create("/copy", Default::default()).await?.into_async();
/// tokio::io::copy(&mut &b"some source"[..], &mut file).await?;
/// file.shutdown().await?;
/// assert_eq!(file.status().map(|status| status.len_bytes), Some(11));
/// # cluster.shutdown().await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct AsyncWriter {
    state: State,
    /// Taken and not handed over.
    buffer: BytesMut,
}

type Handing = Pin<Box<dyn Future<Output = (Writer, FsResult<()>)> + Send>>;
type Closing = Pin<Box<dyn Future<Output = FsResult<FileStatus>> + Send>>;

enum State {
    /// Boxed: it is moved with every packet.
    Rests(Box<Writer>),
    HandsOver(Handing),
    Closes(Closing),
    Published(Box<FileStatus>),
    Failed(FsError),
}

impl std::fmt::Debug for AsyncWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Rests(_) => "rests",
            State::HandsOver(_) => "hands over",
            State::Closes(_) => "closes",
            State::Published(_) => "published",
            State::Failed(_) => "failed",
        };
        f.debug_struct("AsyncWriter").field("state", &state).field("buffered_bytes", &self.buffer.len()).finish()
    }
}

impl Writer {
    /// This file with tokio's traits.
    #[must_use]
    pub fn into_async(self) -> AsyncWriter {
        AsyncWriter { state: State::Rests(Box::new(self)), buffer: BytesMut::new() }
    }
}

impl AsyncWriter {
    /// The published file, after `shutdown`.
    #[must_use]
    pub fn status(&self) -> Option<&FileStatus> {
        match &self.state {
            State::Published(status) => Some(status),
            _ => None,
        }
    }

    /// The refusal that ended the writer.
    #[must_use]
    pub const fn failure(&self) -> Option<&FsError> {
        match &self.state {
            State::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// As [`Writer::flush`]: waits until everything so far is held by every node, and can be read.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    ///
    /// # Cancel safety
    /// As [`Writer::flush`].
    pub async fn hflush(&mut self) -> FsResult<()> {
        self.flush_with(false).await
    }

    /// As [`Writer::sync_data`]: and is durable on each of them.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    ///
    /// # Cancel safety
    /// As [`Writer::flush`].
    pub async fn sync_data(&mut self) -> FsResult<()> {
        self.flush_with(true).await
    }

    async fn flush_with(&mut self, sync: bool) -> FsResult<()> {
        std::future::poll_fn(|context| self.poll_emptied(context)).await?;
        self.begin(|mut writer, _| {
            State::HandsOver(Box::pin(async move {
                let flushed = if sync { writer.sync_data().await } else { writer.flush().await };
                (writer, flushed)
            }))
        });
        std::future::poll_fn(|context| self.poll_rest(context)).await
    }

    /// Goes on with what is under way; ready when the writer rests, or is over.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<FsResult<()>> {
        match &mut self.state {
            State::Rests(_) | State::Published(_) => {}
            State::Failed(error) => return Poll::Ready(Err(error.clone())),
            State::HandsOver(handing) => {
                let (writer, handed) = ready!(handing.as_mut().poll(context));
                self.state = State::Rests(Box::new(writer));
                self.unless_failed(handed)?;
            }
            State::Closes(closing) => {
                let closed = ready!(closing.as_mut().poll(context));
                let status = self.unless_failed(closed)?;
                self.state = State::Published(Box::new(status));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn unless_failed<T>(&mut self, result: FsResult<T>) -> FsResult<T> {
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    /// Begins to hand over the buffer, if there is anything in it and the writer rests.
    fn hand_over(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        self.begin(|mut writer, buffer| {
            let bytes = buffer.split().freeze();
            State::HandsOver(Box::pin(async move {
                let handed = writer.write(bytes).await;
                (writer, handed)
            }))
        });
    }

    fn begin(&mut self, next: impl FnOnce(Writer, &mut BytesMut) -> State) {
        if !matches!(self.state, State::Rests(_)) {
            return;
        }
        let over = FsError::new(ErrorCode::Internal, "the writer was left in the middle of a step");
        if let State::Rests(writer) = std::mem::replace(&mut self.state, State::Failed(over)) {
            self.state = next(*writer, &mut self.buffer);
        }
    }

    /// Hands over everything.
    fn poll_emptied(&mut self, context: &mut Context<'_>) -> Poll<FsResult<()>> {
        loop {
            ready!(self.poll_rest(context))?;
            if self.buffer.is_empty() || !matches!(self.state, State::Rests(_)) {
                return Poll::Ready(Ok(()));
            }
            self.hand_over();
        }
    }

    fn poll_take(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<FsResult<usize>> {
        match &self.state {
            State::Failed(error) => return Poll::Ready(Err(error.clone())),
            State::Closes(_) | State::Published(_) => {
                let text = "the file was shut down: nothing can be added";
                return Poll::Ready(Err(FsError::new(ErrorCode::InvalidArgument, text)));
            }
            State::Rests(_) | State::HandsOver(_) => {}
        }
        if self.buffer.len() >= PIECE_BYTES {
            ready!(self.poll_rest(context))?;
            self.hand_over();
        }
        let taken = bytes.len().min(PIECE_BYTES - self.buffer.len());
        if taken >= MANY_BYTES {
            self.buffer.reserve(PIECE_BYTES - self.buffer.len());
        }
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() >= PIECE_BYTES && self.poll_rest(context).is_ready() {
            self.hand_over();
        }
        // What is under way begins now, not with the next call; a failure of it is told by the next call.
        drop(self.poll_rest(context));
        Poll::Ready(Ok(taken))
    }
}

impl AsyncWrite for AsyncWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_take(context, bytes).map_err(into_io)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_emptied(context).map_err(into_io)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_emptied(context)).map_err(into_io)?;
        this.begin(|writer, _| State::Closes(Box::pin(writer.close())));
        this.poll_rest(context).map_err(into_io)
    }
}
