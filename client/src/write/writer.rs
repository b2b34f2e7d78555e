//! The shell around [`FileWriter`]: a task that owns the socket, and the handle that the application holds.

use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{
    AbandonBlockRequest, AddBlockRequest, CompleteRequest, CreateResponse, DiscardRequest, FileStatus,
};
use proto::path::FsPath;
use tokio::sync::{mpsc, oneshot};
use transfer::BlockDigest;

use super::pipeline::{Pipeline, Unopened};
use super::{Attempt, FileWriter, WriteConfig, WriteEffect, WriteEvent};
use crate::client::Inner;
use crate::session::Session;

/// Time between renewals of the leases of a writing client.
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// Pieces in which the application's bytes are handed over.
const PIECE_BYTES: usize = transfer::PACKET_DATA_BYTES;

enum Command {
    Data(Bytes),
    Close,
}

/// A file that is being written. It appears, whole, when [`Writer::close`] succeeds; a writer that is
/// dropped before publishes nothing. Dropping never blocks.
#[derive(Debug)]
pub struct Writer {
    path: FsPath,
    commands: mpsc::Sender<Command>,
    done: Option<oneshot::Receiver<FsResult<FileStatus>>>,
    failed: Option<FsError>,
    written_bytes: u64,
}

impl Writer {
    /// Starts the task of a file that was just created. Must be called on a tokio runtime.
    pub(crate) fn start(
        inner: Arc<Inner>,
        session: Arc<Session>,
        path: FsPath,
        created: CreateResponse,
        digest: Option<BlockDigest>,
    ) -> Self {
        let (commands, incoming) = mpsc::channel(1);
        let (finished, done) = oneshot::channel();
        let block_size_bytes = created.status.as_ref().map_or(0, |status| status.block_size_bytes);
        let now = inner.rpc.clock.now();
        let config = WriteConfig { digest: digest.unwrap_or(inner.write.digest), ..inner.write.clone() };
        let machine = FileWriter::new(config, block_size_bytes, created.first_block, now);
        let tasks = inner.tasks.clone();
        let driver = Driver {
            inner,
            session,
            inode: created.inode,
            lease_epoch: created.lease_epoch,
            machine,
            pipeline: None,
            finished: Some(finished),
        };
        base::task::spawn(&tasks, driver.run(incoming));
        Self { path, commands, done: Some(done), failed: None, written_bytes: 0 }
    }

    /// Path of the file.
    #[must_use]
    pub const fn path(&self) -> &FsPath {
        &self.path
    }
    /// Bytes given so far.
    #[must_use]
    pub const fn written_bytes(&self) -> u64 {
        self.written_bytes
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

    /// Publishes the file: when this returns, its bytes are durable on every node of the pipeline and its
    /// name is in the namespace.
    ///
    /// # Errors
    /// Whatever ended the writer. Nothing is published then, except that after
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

    /// Why the task is over.
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
        FsError::new(ErrorCode::WriteFailed, "the writer was stopped; nothing was published")
            .with_path(self.path.as_str())
    }
}

/// What the task owns.
struct Driver {
    inner: Arc<Inner>,
    session: Arc<Session>,
    inode: u64,
    lease_epoch: u64,
    machine: FileWriter,
    pipeline: Option<(Attempt, Pipeline)>,
    finished: Option<oneshot::Sender<FsResult<FileStatus>>>,
}

impl Driver {
    async fn run(mut self, mut incoming: mpsc::Receiver<Command>) {
        let mut closed = false;
        let mut renewal = tokio::time::interval(RENEW_EVERY);
        renewal.reset();
        while !self.machine.is_over() {
            let event = tokio::select! {
                command = incoming.recv(), if !closed && self.machine.room_bytes() > 0 => match command {
                    Some(Command::Data(bytes)) => WriteEvent::Data(bytes),
                    Some(Command::Close) => {
                        closed = true;
                        WriteEvent::Close
                    }
                    None => WriteEvent::Abort,
                },
                event = next_of(&mut self.pipeline) => event,
                () = sleep_until(self.machine.next_deadline(), self.inner.rpc.clock.now()) => WriteEvent::Tick,
                _ = renewal.tick() => {
                    self.renew();
                    continue;
                }
            };
            self.handle(event).await;
        }
    }

    /// Renewing may take as long as a namenode is away; the pipeline goes on meanwhile.
    fn renew(&self) {
        let (inner, session) = (Arc::clone(&self.inner), Arc::clone(&self.session));
        base::task::spawn(&self.inner.tasks, async move { inner.renew_lease(&session, RENEW_EVERY).await });
    }

    /// Feeds an event to the machine and does what it says, until it waits for the world.
    async fn handle(&mut self, event: WriteEvent) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let mut effects = Vec::new();
            self.machine.handle(event, self.inner.rpc.clock.now(), &mut effects);
            for effect in effects {
                // An effect that is answered is the last of its batch.
                next = self.perform(effect).await;
            }
        }
    }

    /// Asks for a block on none of the nodes that could not be reached just now, by whomever of this client; if there are
    /// too few others, on any.
    async fn add_block(&self, request: AddBlockRequest, until: Moment) -> FsResult<LocatedBlock> {
        let mut careful = request.clone();
        careful.exclude_nodes.extend(self.inner.avoided.unreachable(self.inner.rpc.clock.now()));
        if careful.exclude_nodes.len() > request.exclude_nodes.len() {
            match self.inner.add_block(&self.session, careful, until).await {
                Err(error) if error.code == ErrorCode::NotEnoughNodes => {}
                answer => return answer,
            }
        }
        self.inner.add_block(&self.session, request, until).await
    }

    async fn perform(&mut self, effect: WriteEffect) -> Option<WriteEvent> {
        let (inode, lease_epoch, header) = (self.inode, self.lease_epoch, None);
        match effect {
            WriteEffect::AddBlock { previous, exclude_nodes, until } => {
                let client_host = String::new();
                let request = AddBlockRequest { header, inode, lease_epoch, previous, exclude_nodes, client_host };
                Some(WriteEvent::BlockAdded(self.add_block(request, until).await))
            }
            WriteEffect::AbandonBlock { block, until } => {
                let request = AbandonBlockRequest { header, inode, lease_epoch, block: Some(block) };
                Some(WriteEvent::BlockAbandoned(self.inner.abandon_block(&self.session, request, until).await))
            }
            WriteEffect::Complete { last } => {
                let request = CompleteRequest { header, inode, lease_epoch, last };
                Some(WriteEvent::Completed(self.inner.complete(&self.session, request).await))
            }
            WriteEffect::Discard => {
                // Best effort, beside: whoever waits for this writer has its answer at once.
                let (inner, session) = (Arc::clone(&self.inner), Arc::clone(&self.session));
                let request = DiscardRequest { header, inode, lease_epoch };
                base::task::spawn(&self.inner.tasks, async move { inner.discard(&session, request).await });
                None
            }
            WriteEffect::OpenPipeline { attempt, block } => {
                let within = self
                    .machine
                    .next_deadline()
                    .map_or(self.inner.write.open_timeout, |deadline| deadline.since(self.inner.rpc.clock.now()));
                match Pipeline::open(&block, &self.inner.name, within).await {
                    Ok(pipeline) => {
                        block.locations.iter().for_each(|at| self.inner.avoided.reached(&at.node));
                        self.pipeline = Some((attempt, pipeline));
                        Some(WriteEvent::PipelineOpened { attempt })
                    }
                    Err(Unopened { fault: (bad, why), unreachable }) => {
                        let at = bad.and_then(|bad| block.locations.get(bad));
                        if let Some(at) = at.filter(|_| unreachable) {
                            self.inner.avoided.add_unreachable(at.node.clone(), self.inner.rpc.clock.now());
                        }
                        Some(WriteEvent::PipelineFailed { attempt, bad, why })
                    }
                }
            }
            WriteEffect::SendPacket { packet, .. } => {
                if let Some((_, pipeline)) = &mut self.pipeline {
                    pipeline.queue(&packet);
                }
                None
            }
            WriteEffect::ClosePipeline { .. } => {
                self.pipeline = None;
                None
            }
            WriteEffect::Done(result) => {
                if let Some(finished) = self.finished.take()
                    && finished.send(result).is_err()
                {
                    tracing::trace!("nobody waited for the end of a writer");
                }
                None
            }
        }
    }
}

/// The next event of the open pipeline; waits for ever if none is open.
async fn next_of(pipeline: &mut Option<(Attempt, Pipeline)>) -> WriteEvent {
    let Some((attempt, open)) = pipeline else { return std::future::pending().await };
    let attempt = *attempt;
    match open.next_ack().await {
        Ok(ack) => WriteEvent::Ack { attempt, ack },
        Err((bad, why)) => WriteEvent::PipelineFailed { attempt, bad, why },
    }
}

/// Waits until a moment of the client's clock; for ever if there is none.
pub(crate) async fn sleep_until(deadline: Option<base::clock::Moment>, now: base::clock::Moment) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(now)).await,
        None => std::future::pending().await,
    }
}
