//! A range of a block that a task receives, some packets ahead of the application.
//!
//! ```text
//!   RacedStream ─ task ─ pieces, bounded in number, counted in bytes (buffers) ─▶ poll_next of the reader
//!                  ▲                                                                   │
//!                  └──────── hungry: the application waits and nothing is there ◀──────┘
//! ```
//!
//! Until it is eager the task fetches a piece only when the application waits for one. Dropping the handle ends the task
//! and its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use base::task::JoinSet;
use bytes::Bytes;
use proto::error::{ErrorCode, FsError, FsResult};
use tokio::sync::{Notify, mpsc};

use super::buffers::{Buffers, Held};
use super::race::RacedStream;

/// The reader's end.
#[derive(Debug)]
pub(super) struct Ahead {
    pieces: mpsc::Receiver<FsResult<Piece>>,
    signals: Arc<Signals>,
    left_bytes: u64,
    /// It was opened before the application came to it: a failure may be over when it does.
    early: bool,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    _held: Option<Held>,
}

#[derive(Debug, Default)]
struct Signals {
    eager: AtomicBool,
    hungry: Notify,
}

impl Ahead {
    /// Starts the task of a stream of `len_bytes`. Must be called on a tokio runtime.
    pub(super) fn start(
        stream: RacedStream,
        len_bytes: u64,
        buffers: &Arc<Buffers>,
        packets: usize,
        early: bool,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(packets);
        let signals = Arc::new(Signals::default());
        let fetching = Fetching { stream, left_bytes: len_bytes, buffers: Arc::clone(buffers), sender };
        let mut task = JoinSet::new();
        task.spawn(fetching.run(Arc::clone(&signals)));
        Self { pieces, signals, left_bytes: len_bytes, early, _task: task }
    }

    /// From now on it is received ahead.
    pub(super) fn hurry(&self) {
        if !self.signals.eager.swap(true, Ordering::AcqRel) {
            self.signals.hungry.notify_one();
        }
    }

    /// Bytes that did not go to the application yet.
    pub(super) const fn left_bytes(&self) -> u64 {
        self.left_bytes
    }
    /// Was it opened before the application came to it?
    pub(super) const fn is_early(&self) -> bool {
        self.early
    }

    /// The next bytes; `None` after the last.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<FsResult<Option<Bytes>>> {
        let polled = self.pieces.poll_recv(context);
        if polled.is_pending() {
            self.signals.hungry.notify_one();
        }
        Poll::Ready(match ready!(polled) {
            Some(Ok(piece)) => {
                self.left_bytes = self.left_bytes.saturating_sub(piece.bytes.len() as u64);
                Ok(Some(piece.bytes))
            }
            Some(Err(error)) => Err(error),
            None if self.left_bytes == 0 => Ok(None),
            None => Err(FsError::new(ErrorCode::Internal, "the task that reads ahead ended early")),
        })
    }
}

/// What the task owns.
struct Fetching {
    stream: RacedStream,
    left_bytes: u64,
    buffers: Arc<Buffers>,
    sender: mpsc::Sender<FsResult<Piece>>,
}

impl Fetching {
    async fn run(mut self, signals: Arc<Signals>) {
        // An error: nobody reads any more.
        while let Ok(place) = self.sender.reserve().await {
            // After the last byte only the end follows: to be asked at once, so that the connection can serve again.
            let hungry = self.left_bytes > 0 && signals.wait_unless_eager().await;
            match self.stream.next().await {
                Ok(Some(bytes)) => {
                    self.left_bytes = self.left_bytes.saturating_sub(bytes.len() as u64);
                    let held = if hungry { None } else { signals.hold(&self.buffers, bytes.len()).await };
                    place.send(Ok(Piece { bytes, _held: held }));
                }
                Ok(None) => return,
                Err(error) => return place.send(Err(error)),
            }
        }
    }
}

impl Signals {
    /// Before it goes ahead: waits until the application waits. Did it?
    async fn wait_unless_eager(&self) -> bool {
        if self.eager.load(Ordering::Acquire) {
            return false;
        }
        self.hungry.notified().await;
        true
    }

    /// Counts bytes that were received; not if the application waits for them.
    async fn hold(&self, buffers: &Buffers, bytes: usize) -> Option<Held> {
        tokio::select! {
            biased;
            held = buffers.take(bytes) => Some(held),
            () = self.hungry.notified() => None,
        }
    }
}
