//! The local door: readers on this machine are lent the descriptors of replicas, over a Unix socket.
//!
//! A connection is a task: it waits for requests and for loans that are called back, and costs no thread. Opening a
//! replica waits for the disk and is done off the async threads, one at a time for each connection. Who connects must
//! show a block token, as everywhere; the folder of the socket says who can connect at all.
//!
//! A loan that was called back is told before the next answer leaves: a reader that has an answer knows of every
//! change that came before it.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base::disk::{Cut, with_cut};
use base::net::unix::{self, UnixListener, UnixStream};
use base::task::TaskTracker;
use bytes::BytesMut;
use parking_lot::Mutex;
use proto::transfer::{BlockOpResponse, OpRequestShortCircuitAccess};
use tokio::sync::{Semaphore, oneshot};
use transfer::local::{MAX_NAMED, revoked};
use transfer::{BorrowSetup, LocalLoan, Op, Status, WireError, encode_delimited, reply};

use super::places::{Place, Places};
use super::{Context, ServerError, io as during};
use crate::config::{DatanodeConfig, LOCAL_AUTO, LOCAL_OFF};
use crate::node::{Node, Refusal};
use crate::store::{Borrower, ReplicaReader, User};

/// Name of the socket in a folder of blocks.
const SOCKET: &str = "local.sock";
/// In its own folder: this user. At a path that was chosen: whoever the folder lets through; the token decides.
const OWN_MODE: u32 = 0o600;
const CHOSEN_MODE: u32 = 0o666;
/// Time for the first byte of a new connection.
const FIRST_BYTE: Duration = Duration::from_secs(30);
/// Time for the whole of an operation once it has begun, for opening a replica, and for sending an answer.
const OPERATION: Duration = Duration::from_secs(10);
/// Time without a loan after which a connection is closed. With one it stays: the reader waits to be called back.
const IDLE: Duration = Duration::from_secs(60);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Replicas that are opened at a time. One whose disk does not answer for a while does not count any more: nothing more is
/// begun on that disk then.
const OPENING: usize = 32;
/// What is received at a time.
const RECEIVE_BYTES: usize = 4096;

/// Listens where the settings say. A place that nobody chose may turn out not to work: then there is no door.
pub(super) fn listen(config: &DatanodeConfig, node: &Node) -> Result<Option<UnixListener>, ServerError> {
    match config.local_socket.as_str() {
        LOCAL_OFF => Ok(None),
        LOCAL_AUTO => {
            let Some(dir) = node.store().working_dirs().into_iter().next() else { return Ok(None) };
            let listening = listen_in(&dir);
            if let Err(error) = &listening {
                tracing::warn!(%error, "readers on this machine use the network: set datanode.local_socket");
            }
            Ok(listening.ok())
        }
        path => unix::listen(Path::new(path), CHOSEN_MODE).map(Some).map_err(during("datanode.local_socket")),
    }
}

fn listen_in(dir: &Path) -> io::Result<UnixListener> {
    let path: PathBuf = dir.join(SOCKET);
    unix::listen(&path, OWN_MODE)
}

/// The accept loop.
#[derive(Debug)]
pub(super) struct LocalDoor {
    listener: UnixListener,
    context: Context,
    places: Arc<Places>,
    opening: Arc<Semaphore>,
}

impl LocalDoor {
    pub(super) fn new(listener: UnixListener, context: Context, limit: usize) -> Self {
        let (places, opening) = (Places::new(limit), Arc::new(Semaphore::new(OPENING)));
        Self { listener, context, places, opening }
    }

    /// Accepts until the token is cancelled; every connection ends with it.
    pub(super) async fn run(self) {
        let serving = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.context.stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a local connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let user = user_of(&stream);
            let Some(place) = Places::take(&self.places, user) else {
                self.context.figures.turned_away.inc();
                tracing::warn!(?user, "a local connection is turned away: too many");
                continue;
            };
            let opening = Arc::clone(&self.opening);
            base::task::spawn(&serving, serve(stream, (place, opening), self.context.clone()));
        }
        serving.close();
        // They see the token themselves; one that opens a replica on a hung disk is not waited for.
        if tokio::time::timeout(OPERATION, serving.wait()).await.is_err() {
            tracing::warn!("local connections do not end: a disk may hang");
        }
    }
}

/// The user of a reader's process; `None` where the system does not say: they share one account.
fn user_of(stream: &UnixStream) -> User {
    match unix::peer(stream) {
        Ok((uid, pid)) => {
            tracing::debug!(uid, pid, "a local reader connects");
            Some(uid)
        }
        Err(error) => {
            tracing::debug!(%error, "a local reader connects");
            None
        }
    }
}

async fn serve(stream: UnixStream, (place, opening): (Place, Arc<Semaphore>), context: Context) {
    context.figures.local_connections.inc();
    let borrower = Arc::new(context.node.store().loans().borrower(place.user()));
    let inbox = BytesMut::new();
    let (opens, listens, spoken, operation) = (TaskTracker::new(), false, false, None);
    let mut connection = Connection { stream, inbox, borrower, opening, opens, listens, spoken, operation };
    if let Err(error) = connection.run(&context).await {
        tracing::debug!(%error, "a local connection ended");
    }
    // Not when the last replica is opened that was asked for: its disk may hang.
    connection.borrower.end();
    drop(connection);
    drop(place);
    context.figures.local_connections.dec();
}

/// One reader.
struct Connection {
    stream: UnixStream,
    inbox: BytesMut,
    borrower: Arc<Borrower>,
    opening: Arc<Semaphore>,
    /// Replicas that are being opened. Nobody waits for one on a disk that hangs.
    opens: TaskTracker,
    /// It takes in what is called back.
    listens: bool,
    /// An operation of it was served.
    spoken: bool,
    /// The end of the time for the operation of which there is a part.
    operation: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Connection {
    /// Serves until the reader leaves, breaks the protocol or is silent, or the node stops.
    async fn run(&mut self, context: &Context) -> io::Result<()> {
        loop {
            self.call_back().await?;
            match Op::decode(&mut self.inbox) {
                Ok(Some(op)) => {
                    self.spoken = true;
                    self.operation = None;
                    if !self.answer(context, op).await? {
                        return Ok(());
                    }
                }
                Ok(None) => {
                    if !self.wait(context).await? {
                        return Ok(());
                    }
                }
                Err(error) => return self.not_understood(&error).await,
            }
        }
    }

    /// Waits for bytes, or for a loan to be called back. False: the connection is over.
    async fn wait(&mut self, context: &Context) -> io::Result<bool> {
        let Self { stream, inbox, borrower, operation, .. } = self;
        if !inbox.is_empty() {
            // Not anew with every byte: whoever drips would hold a place for days.
            operation.get_or_insert_with(|| Box::pin(tokio::time::sleep(OPERATION)));
        }
        let silence = match (self.spoken, borrower.count()) {
            (false, _) => Some(FIRST_BYTE),
            (true, 0) => Some(IDLE),
            // The kernel tells when such a reader dies, and loans are bounded.
            (true, _) => None,
        };
        let over = async {
            match (operation, silence) {
                (Some(operation), _) => operation.await,
                (None, Some(silence)) => tokio::time::sleep(silence).await,
                (None, None) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = context.stop.cancelled() => Ok(false),
            () = borrower.called() => Ok(true),
            received = receive(stream, inbox) => Ok(received? > 0),
            () = over => Ok(false),
        }
    }

    /// Tells what was called back.
    async fn call_back(&mut self) -> io::Result<()> {
        loop {
            let over = self.borrower.take_revoked(MAX_NAMED);
            if over.is_empty() {
                return Ok(());
            }
            if self.listens {
                self.send(&encode_delimited(&revoked(&over)), &[]).await?;
            }
        }
    }

    /// Answers an operation. False: the connection ends.
    async fn answer(&mut self, context: &Context, op: Op) -> io::Result<bool> {
        let lent = match op {
            Op::Borrow(op) => self.lend(context, &op).await?,
            Op::Read(_) | Op::Write(_) | Op::Verify(_) | Op::Transfer(_) | Op::State(_) => {
                let message = "only descriptors are served here; the transfer port serves data".to_owned();
                self.refuse(&Refusal { status: Status::ErrorUnsupported, message }).await?;
                return Ok(false);
            }
        };
        context.figures.ended("lend", lent.is_ok());
        match lent {
            Ok((loan, reader)) => self.hand_over(&loan, &reader).await?,
            Err(refusal) => {
                tracing::debug!(%refusal, "no descriptors are lent");
                self.refuse(&refusal).await?;
            }
        }
        Ok(true)
    }

    async fn lend(
        &mut self,
        context: &Context,
        op: &OpRequestShortCircuitAccess,
    ) -> io::Result<Result<(LocalLoan, ReplicaReader), Refusal>> {
        let setup = match BorrowSetup::from_op(op) {
            Ok(setup) => setup,
            Err(error) => return Ok(Err(Refusal { status: Status::ErrorInvalid, message: error.to_string() })),
        };
        self.listens |= setup.revocations;
        setup.returned.iter().for_each(|loan| self.borrower.give_back(*loan));
        let Ok(turn) = Arc::clone(&self.opening).try_acquire_owned() else {
            let message = "too many replicas are being opened".to_owned();
            return Ok(Err(Refusal { status: Status::Error, message }));
        };
        let (borrower, node, now_ms) = (Arc::clone(&self.borrower), Arc::clone(&context.node), context.wall_ms());
        let (tell, mut told) = oneshot::channel();
        // A disk that does not answer keeps its own readers waiting, and nobody's turn.
        let turn = Arc::new(Mutex::new(Some(turn)));
        let giving_up = Arc::clone(&turn);
        let cut = Cut::new(move || drop(giving_up.lock().take()));
        let opening = base::task::blocking(move || {
            let lent = with_cut(cut, || node.begin_loan(&setup, &borrower, now_ms));
            drop(turn);
            if let Err(Ok((loan, _))) = tell.send(lent) {
                // Nobody waits for it any more: it was never told.
                borrower.give_back(loan.loan);
            }
        });
        base::task::spawn(&self.opens, opening);
        let Ok(lent) = tokio::time::timeout(OPERATION, &mut told).await else {
            // It may have been lent in the very moment in which the time was over.
            told.close();
            if let Ok(Ok((loan, _))) = told.try_recv() {
                self.borrower.give_back(loan.loan);
            }
            // Other replicas may lie on other disks: what was lent of them stays lent.
            let message =
                format!("the replica could not be opened within {} s: its disk may hang", OPERATION.as_secs());
            return Ok(Err(Refusal { status: Status::Error, message }));
        };
        lent.map_err(io::Error::other)
    }

    /// Sends the answer, then the byte that carries the descriptors. Descriptors are opened for reading only.
    async fn hand_over(&mut self, loan: &LocalLoan, reader: &ReplicaReader) -> io::Result<()> {
        let (Some(data), Some(checksums)) = (reader.data().descriptor(), reader.checksums().0.descriptor()) else {
            self.borrower.give_back(loan.loan);
            let message = "this node's files have no descriptors".to_owned();
            return self.refuse(&Refusal { status: Status::ErrorUnsupported, message }).await;
        };
        self.call_back().await?;
        if !self.borrower.holds(loan.loan) {
            let message = "the replica changed while it was lent".to_owned();
            return self.refuse(&Refusal { status: Status::Error, message }).await;
        }
        self.send(&encode_delimited(&loan.to_answer()), &[]).await?;
        self.send(&[0], &[data, checksums]).await
    }

    async fn not_understood(&mut self, error: &WireError) -> io::Result<()> {
        let status = match error {
            WireError::Version { .. } | WireError::UnknownOp { .. } => Status::ErrorUnsupported,
            _ => Status::ErrorInvalid,
        };
        tracing::debug!(%error, "a local connection is refused");
        self.refuse(&Refusal { status, message: error.to_string() }).await
    }

    async fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        let answer: BlockOpResponse = reply::refused(refusal.status, &refusal.message, "");
        self.call_back().await?;
        self.send(&encode_delimited(&answer), &[]).await
    }

    async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        tokio::time::timeout(OPERATION, unix::send_passing(&self.stream, bytes, descriptors)).await?
    }
}

/// Receives a little: an operation is small. Descriptors that come along are closed by the kernel.
async fn receive(stream: &mut UnixStream, inbox: &mut BytesMut) -> io::Result<usize> {
    use bytes::BufMut;
    use tokio::io::AsyncReadExt;
    inbox.reserve(RECEIVE_BYTES);
    stream.read_buf(&mut inbox.limit(RECEIVE_BYTES)).await
}
