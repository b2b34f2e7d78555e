//! Accepting data connections, and knowing which are open so that a stop can end them.
//!
//! A connection costs no thread before its first byte is there (S-12), and there are never more than the
//! configured number of them.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base::net::{BlockingStream, TcpListener, TcpStream};
use base::task::TaskTracker;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Context, connection};

/// Time for the first byte of a new connection.
const FIRST_BYTE: Duration = Duration::from_secs(30);
/// Longest wait of one send.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept (no descriptors left, for one).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for cut-off connections to notice.
const CUT: Duration = Duration::from_secs(2);

/// The accept loop.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) context: Context,
    pub(super) connections: Arc<Connections>,
}

impl Acceptor {
    /// Accepts until the token is cancelled; then what waits for a first byte is dropped.
    pub(super) async fn run(self) {
        let waiting = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.context.stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Some(place) = Connections::place(&self.connections) else {
                        self.context.figures.turned_away.inc();
                        tracing::warn!(limit = self.connections.limit, "a data connection is turned away: too many");
                        continue;
                    };
                    base::task::spawn(&waiting, first_byte(stream, place, self.context.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a data connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Waits for the first byte, then gives the connection a thread.
async fn first_byte(stream: TcpStream, place: Place, context: Context) {
    let spoken = tokio::select! {
        () = context.stop.cancelled() => return,
        spoken = tokio::time::timeout(FIRST_BYTE, stream.readable()) => spoken,
    };
    if !matches!(spoken, Ok(Ok(()))) {
        return;
    }
    let started = base::net::into_blocking(stream, SEND_TIMEOUT).and_then(|stream| {
        let open = place.open(stream);
        base::task::thread("dn-data", move || {
            connection::serve(&context, &open);
            // The place is given back last: who waits for it may count on everything else being gone.
            drop(context);
            drop(open);
        })
    });
    if let Err(error) = started {
        tracing::warn!(%error, "a data connection gets no thread");
    }
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    taken: AtomicUsize,
    next: AtomicUsize,
    open: Mutex<BTreeMap<usize, Arc<Entry>>>,
    changed: Notify,
}

#[derive(Debug)]
struct Entry {
    stream: Arc<BlockingStream>,
    busy: AtomicBool,
}

/// The right to one connection.
#[derive(Debug)]
struct Place(Arc<Connections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Place {
    fn open(self, stream: BlockingStream) -> OpenConnection {
        let entry = Arc::new(Entry { stream: Arc::new(stream), busy: AtomicBool::new(false) });
        let number = self.0.next.fetch_add(1, Ordering::SeqCst);
        self.0.open.lock().insert(number, Arc::clone(&entry));
        OpenConnection { number, entry, place: self }
    }
}

/// A connection that a thread serves; dropping it closes and forgets it.
#[derive(Debug)]
pub(super) struct OpenConnection {
    number: usize,
    entry: Arc<Entry>,
    place: Place,
}

impl OpenConnection {
    /// The socket.
    pub(super) fn stream(&self) -> &Arc<BlockingStream> {
        &self.entry.stream
    }
    /// Notes whether an operation is under way: a stop waits for it.
    pub(super) fn set_busy(&self, busy: bool) {
        self.entry.busy.store(busy, Ordering::SeqCst);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.place.0.open.lock().remove(&self.number);
        // Threads of the same connection may hold the socket a moment longer: the peer need not wait for them.
        // An error means that it is closed already.
        drop(self.entry.stream.shutdown(Shutdown::Both));
    }
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            open: Mutex::new(BTreeMap::new()),
            changed: Notify::new(),
        })
    }
    fn place(connections: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(connections));
        let before = connections.taken.fetch_add(1, Ordering::SeqCst);
        (before < connections.limit).then_some(place)
    }
    /// Operations under way.
    pub(super) fn busy(&self) -> usize {
        self.open.lock().values().filter(|entry| entry.busy.load(Ordering::SeqCst)).count()
    }
    /// Ends every connection: idle ones at once, busy ones after `within`. False: some had to be cut off.
    pub(super) async fn drain(&self, within: Duration) -> bool {
        self.close(|entry| !entry.busy.load(Ordering::SeqCst));
        let drained = tokio::time::timeout(within, self.gone()).await.is_ok();
        if !drained {
            self.close(|_| true);
            if tokio::time::timeout(CUT, self.gone()).await.is_err() {
                tracing::warn!("data connections do not end: a disk may hang");
            }
        }
        drained
    }
    fn close(&self, which: impl Fn(&Entry) -> bool) {
        for entry in self.open.lock().values().filter(|entry| which(entry)) {
            // An error means that it is closed already.
            drop(entry.stream.shutdown(Shutdown::Both));
        }
    }
    async fn gone(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.taken.load(Ordering::SeqCst) == 0 {
                return;
            }
            changed.await;
        }
    }
}
