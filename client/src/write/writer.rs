//! What an application holds of a file that it writes.

use std::sync::Arc;

use bytes::Bytes;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{AppendResponse, CreateResponse, FileStatus};
use proto::path::FsPath;
use tokio::sync::{mpsc, oneshot};
use transfer::BlockDigest;

use super::driver::{Command, Driver};
use super::{FileWriter, Reopened, WriteConfig};
use crate::client::Inner;
use crate::session::Session;

/// Pieces in which the application's bytes are handed over.
const PIECE_BYTES: usize = transfer::PACKET_DATA_BYTES;

/// A file that is being written.
///
/// - [`Writer::write`] hands bytes over; nothing is promised of them yet.
/// - [`Writer::flush`]: everything so far is held by every node of the pipeline, and readers see it. It survives this
///   process, and all but one of those nodes. The first flush makes the file visible, open.
/// - [`Writer::sync_data`]: and it is durable on each of them.
/// - [`Writer::close`]: the file is whole, durable, closed and visible.
///
/// A writer that is dropped before it was closed publishes nothing; if the file was visible already (it was flushed,
/// appended to, or published at once), the cluster closes it, with everything that was flushed and perhaps some of what
/// followed. Dropping never blocks.
///
/// A datanode that dies, hangs or fails is replaced while the file is written. What cannot be helped is an error of the
/// next call, and of each one after it.
#[derive(Debug)]
pub struct Writer {
    path: FsPath,
    commands: mpsc::Sender<Command>,
    done: Option<oneshot::Receiver<FsResult<FileStatus>>>,
    failed: Option<FsError>,
    /// The file as it was when it was opened.
    status: FileStatus,
    written_bytes: u64,
}

impl Writer {
    /// Starts the task of a file that was just created. Must be called on a tokio runtime.
    pub(crate) fn start(
        inner: Arc<Inner>,
        session: Arc<Session>,
        path: FsPath,
        created: CreateResponse,
        (digest, visible): (Option<BlockDigest>, bool),
    ) -> Self {
        let block_size_bytes = created.status.as_ref().map_or(0, |status| status.block_size_bytes);
        let config = config_of(&inner, digest);
        let machine = FileWriter::new(config, block_size_bytes, created.first_block, inner.rpc.clock.now());
        let machine = if visible { machine.published() } else { machine };
        let status = FileStatus { len_bytes: 0, ..created.status.unwrap_or_default() };
        Self::run((inner, session), path, (created.inode, created.lease_epoch), machine, status)
    }

    /// Starts the task of a file that is written on. Must be called on a tokio runtime.
    pub(crate) fn append(
        inner: Arc<Inner>,
        session: Arc<Session>,
        path: FsPath,
        appending: AppendResponse,
        digest: Option<BlockDigest>,
    ) -> Self {
        let status = appending.status.unwrap_or_default();
        let (new_stamp, replication) = (appending.new_stamp, status.replication);
        let last = appending.last.map(|located| Reopened { located, new_stamp, replication });
        let (config, now) = (config_of(&inner, digest), inner.rpc.clock.now());
        let machine = FileWriter::appending(config, status.block_size_bytes, last, now);
        Self::run((inner, session), path, (appending.inode, appending.lease_epoch), machine, status)
    }

    fn run(
        of: (Arc<Inner>, Arc<Session>),
        path: FsPath,
        lease: (u64, u64),
        machine: FileWriter,
        status: FileStatus,
    ) -> Self {
        let (commands, incoming) = mpsc::channel(1);
        let (finished, done) = oneshot::channel();
        let tasks = of.0.tasks.clone();
        base::task::spawn(&tasks, Driver::new(of, lease, machine, finished).run(incoming));
        Self { path, commands, done: Some(done), failed: None, status, written_bytes: 0 }
    }

    /// Path of the file.
    #[must_use]
    pub const fn path(&self) -> &FsPath {
        &self.path
    }
    /// What was known of the file when it was opened for this writer: created, or found.
    #[must_use]
    pub const fn status(&self) -> &FileStatus {
        &self.status
    }
    /// Bytes given so far.
    #[must_use]
    pub const fn written_bytes(&self) -> u64 {
        self.written_bytes
    }
    /// Where in the file the next byte goes: behind what was there, and what was given.
    #[must_use]
    pub const fn position_bytes(&self) -> u64 {
        self.status.len_bytes + self.written_bytes
    }

    /// Gives bytes to the file, waiting while the window is full. Bytes of one packet or more are not copied.
    ///
    /// # Errors
    /// The error that ended the writer; every later call says the same.
    ///
    /// # Cancel safety
    /// If the future is dropped, some of the bytes may have been taken: close the file no more.
    pub async fn write(&mut self, mut bytes: Bytes) -> FsResult<()> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            let piece_bytes = piece.len() as u64;
            if self.commands.send(Command::Data(piece)).await.is_err() {
                return Err(self.end().await);
            }
            self.written_bytes += piece_bytes;
        }
        Ok(())
    }

    /// Gives a copy of bytes to the file.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub async fn write_all(&mut self, bytes: &[u8]) -> FsResult<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.write(Bytes::copy_from_slice(piece)).await?;
        }
        Ok(())
    }

    /// Waits until all bytes so far are held, and verified, by every node of the pipeline, and can be read by others: what
    /// HDFS calls `hflush`. The first one makes the file visible, unless it is already. They survive the end of this
    /// process and of the nodes' processes, but not a power cut of all nodes: see [`Writer::sync_data`].
    ///
    /// # Errors
    /// As [`Writer::write`]; and why the file cannot be made visible, which ends the writer.
    ///
    /// # Cancel safety
    /// If the future is dropped, the flush goes on.
    pub async fn flush(&mut self) -> FsResult<()> {
        self.flush_with(false).await
    }

    /// As [`Writer::flush`], and all bytes so far are durable on every node of the pipeline: what HDFS calls `hsync`.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    ///
    /// # Cancel safety
    /// As [`Writer::flush`].
    pub async fn sync_data(&mut self) -> FsResult<()> {
        self.flush_with(true).await
    }

    /// The same as [`Writer::sync_data`]: the length of an open file is what its replicas have, so there is nothing else to
    /// make durable.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    ///
    /// # Cancel safety
    /// As [`Writer::flush`].
    pub async fn sync_all(&mut self) -> FsResult<()> {
        self.flush_with(true).await
    }

    async fn flush_with(&mut self, sync: bool) -> FsResult<()> {
        let (done, flushed) = oneshot::channel();
        if self.commands.send(Command::Flush { sync, done }).await.is_err() {
            return Err(self.end().await);
        }
        match flushed.await {
            Ok(()) => Ok(()),
            Err(_writer_ended) => Err(self.end().await),
        }
    }

    /// Publishes and closes the file: when this returns, its bytes are durable on every node of the pipeline and its
    /// name is in the namespace.
    ///
    /// # Errors
    /// Whatever ended the writer. Nothing is published then that was not before, except that after
    /// [`ErrorCode::OutcomeUnknown`] the whole file may be there.
    pub async fn close(mut self) -> FsResult<FileStatus> {
        if self.commands.send(Command::Close).await.is_err() {
            return Err(self.end().await);
        }
        match self.done.take() {
            Some(done) => done.await.unwrap_or_else(|_| Err(self.gone())),
            None => Err(self.gone()),
        }
    }

    /// Why the task is over. One that ended without a word (SC-40) is an error, too.
    async fn end(&mut self) -> FsError {
        if let Some(done) = self.done.take() {
            let error = match done.await {
                Ok(Err(error)) => error,
                Ok(Ok(_)) | Err(_) => self.gone(),
            };
            self.failed = Some(error);
        }
        self.failed.clone().unwrap_or_else(|| self.gone())
    }

    fn gone(&self) -> FsError {
        let text = "the writer was stopped; the file was not closed";
        FsError::new(ErrorCode::WriteFailed, text).with_path(self.path.as_str())
    }
}

fn config_of(inner: &Inner, digest: Option<BlockDigest>) -> WriteConfig {
    WriteConfig { digest: digest.unwrap_or(inner.write.digest), ..inner.write.clone() }
}
