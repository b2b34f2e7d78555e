//! The Unix socket to one node of this machine: requests go out, loans come in, and later what is called back.
//!
//! One task receives everything in order, so that what a node called back before an answer is over before the answer is
//! seen. Requests are answered in the order in which they were sent.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use base::clock::Moment;
use base::net::unix::{self, UnixStream};
use base::passed::PassedFile;
use base::task::{CancellationToken, TaskTracker};
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use proto::common::Block;
use proto::transfer::BlockOpResponse;
use tokio::sync::oneshot;
use transfer::local::MAX_NAMED;
use transfer::{LocalLoan, Status, decode_delimited, reply};

use super::cache::Cache;
use super::doors::STUCK;
use super::{Counters, Refused, refusal, setup};

/// Requests that wait for their answers.
const MAX_WAITING: usize = 64;
/// Descriptors of one answer: data and checksums.
const LENT: usize = 2;

/// A replica whose descriptors were lent. The node hears that it is over with the next request.
#[derive(Debug)]
pub(super) struct Loan {
    /// What was lent.
    pub(super) terms: LocalLoan,
    /// The data.
    pub(super) data: PassedFile,
    /// The checksums.
    pub(super) checksums: PassedFile,
    over: AtomicBool,
    door: Weak<Shared>,
}

impl Loan {
    /// Was it called back, or is the connection gone on which it was made?
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
    /// The door that it came through, if it is still there.
    pub(super) fn door(&self) -> Option<Arc<Shared>> {
        self.door.upgrade()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(door) = self.door.upgrade() {
            door.forget(self);
        }
    }
}

type Answer = Result<Arc<Loan>, Refused>;

/// A door, as long as anybody wants it. Dropping it ends the connection and every loan.
#[derive(Debug)]
pub(super) struct Door {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shared.end();
        self.stop.cancel();
    }
}

/// What requests, loans and the task share.
#[derive(Debug)]
pub(super) struct Shared {
    stream: UnixStream,
    counters: Arc<Counters>,
    /// Keeps loans for readers; what is over goes out of it.
    cache: Weak<Cache>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    over: bool,
    /// The node has answered a request.
    answered: bool,
    /// With the moment at which they asked.
    waiting: VecDeque<(oneshot::Sender<Answer>, Moment)>,
    loans: BTreeMap<u64, Weak<Loan>>,
    /// Over for us, and not said yet.
    returned: Vec<u64>,
}

impl Door {
    /// Takes a new connection over.
    pub(super) fn start(stream: UnixStream, tasks: &TaskTracker, counters: &Arc<Counters>, cache: &Arc<Cache>) -> Self {
        let (counters, cache) = (Arc::clone(counters), Arc::downgrade(cache));
        let shared = Arc::new(Shared { stream, counters, cache, state: Mutex::default() });
        let stop = CancellationToken::new();
        let (ends, stopped) = (Ends(Arc::clone(&shared)), stop.clone());
        base::task::spawn(tasks, async move {
            let ends = ends;
            let listened = tokio::select! {
                () = stopped.cancelled() => Ok(()),
                listened = listen(&ends.0) => listened,
            };
            if let Err(why) = listened {
                tracing::debug!(why, "a local door closes");
            }
        });
        Self { shared, stop }
    }
    /// Has the connection ended?
    pub(super) fn is_over(&self) -> bool {
        self.shared.state.lock().over
    }
    /// Has the node ever answered?
    pub(super) fn has_answered(&self) -> bool {
        self.shared.state.lock().answered
    }
    /// Does the oldest request wait for so long that the next one had better go elsewhere?
    pub(super) fn is_stuck(&self, now: Moment) -> bool {
        self.shared.state.lock().waiting.front().is_some_and(|(_, since)| now.since(*since) >= STUCK)
    }
    /// Where requests are made.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Shared {
    /// Asks for the descriptors of a replica.
    ///
    /// # Cancel safety
    /// If the future is dropped, what is lent is returned.
    pub(super) async fn borrow(&self, block: &Block, token: &Bytes, now: Moment) -> Answer {
        let answer = self.send(block, token, now)?;
        answer.await.unwrap_or_else(|_gone| Err(Refused::Block("the connection ended".to_owned())))
    }

    fn send(&self, block: &Block, token: &Bytes, now: Moment) -> Result<oneshot::Receiver<Answer>, Refused> {
        // One lock for both, so that answers and those who wait for them have the same order.
        let mut state = self.state.lock();
        if state.over {
            return Err(Refused::Block("the connection has ended".to_owned()));
        }
        if state.waiting.len() >= MAX_WAITING {
            return Err(Refused::Block("too many requests wait at this door".to_owned()));
        }
        let returned = state.returned.iter().take(MAX_NAMED).copied().collect();
        let request = setup(block, token, returned).map_err(Refused::Block)?;
        unix::send_now(&self.stream, &request).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Refused::Block(format!("the node takes nothing in: {error}")),
            _ => Refused::Lane(format!("send: {error}")),
        })?;
        let said = state.returned.len().min(MAX_NAMED);
        state.returned.drain(..said);
        let (sender, answer) = oneshot::channel();
        state.waiting.push_back((sender, now));
        Ok(answer)
    }

    fn forget(&self, loan: &Loan) {
        let mut state = self.state.lock();
        let known = state.loans.remove(&loan.terms.loan).is_some();
        if known && !state.over {
            state.returned.push(loan.terms.loan);
        }
    }

    /// What the node called back.
    fn call_back(&self, loans: &[u64]) {
        let gone: Vec<_> = {
            let mut state = self.state.lock();
            loans.iter().filter_map(|loan| state.loans.remove(loan)).collect()
        };
        // Beyond the lock: the last holder of a loan takes it when he lets go.
        for loan in gone.iter().filter_map(Weak::upgrade) {
            loan.over.store(true, Ordering::SeqCst);
            self.counters.revoked.fetch_add(1, Ordering::Relaxed);
        }
        self.sweep();
    }

    fn sweep(&self) {
        if let Some(cache) = self.cache.upgrade() {
            cache.sweep();
        }
    }

    /// Passes an answer to who waited longest.
    fn answer(&self, answer: Answer) -> Result<(), String> {
        let waits = {
            let mut state = self.state.lock();
            state.answered = true;
            state.waiting.pop_front()
        };
        let Some((waits, _)) = waits else { return Err("the node answered what nobody asked".to_owned()) };
        // Nobody waits any more: the loan is dropped, and so returned.
        drop(waits.send(answer));
        Ok(())
    }

    /// Nothing is asked or borrowed here any more, and nobody waits.
    fn end(&self) {
        let (waiting, loans) = {
            let mut state = self.state.lock();
            state.over = true;
            (std::mem::take(&mut state.waiting), std::mem::take(&mut state.loans))
        };
        drop(waiting);
        for loan in loans.values().filter_map(Weak::upgrade) {
            loan.over.store(true, Ordering::SeqCst);
        }
        self.sweep();
    }

    fn lend(self: &Arc<Self>, terms: LocalLoan, data: OwnedFd, checksums: OwnedFd) -> Arc<Loan> {
        let (data, checksums) = (PassedFile::from(data), PassedFile::from(checksums));
        let number = terms.loan;
        let loan = Arc::new(Loan { terms, data, checksums, over: AtomicBool::new(false), door: Arc::downgrade(self) });
        self.state.lock().loans.insert(number, Arc::downgrade(&loan));
        loan
    }
}

/// Held by the task: however it ends, the door is over.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Takes in messages until the connection ends or makes no sense.
async fn listen(shared: &Arc<Shared>) -> Result<(), String> {
    let (mut inbox, mut passed) = (BytesMut::new(), Vec::new());
    let mut lent: Option<LocalLoan> = None;
    loop {
        while take_in(shared, &mut inbox, &mut passed, &mut lent)? {}
        let received = unix::receive_passing(&shared.stream, &mut inbox, &mut passed).await;
        if received.map_err(|error| error.to_string())? == 0 {
            return Ok(());
        }
        if passed.len() > LENT * MAX_WAITING {
            return Err("more descriptors came than were asked for".to_owned());
        }
    }
}

/// Takes in what is whole at the front. False: more has to come first.
fn take_in(
    shared: &Arc<Shared>,
    inbox: &mut BytesMut,
    passed: &mut Vec<OwnedFd>,
    lent: &mut Option<LocalLoan>,
) -> Result<bool, String> {
    if lent.is_some() && inbox.is_empty() {
        return Ok(false);
    }
    if let Some(terms) = lent.take() {
        // The byte that carries the descriptors.
        inbox.advance(1);
        if passed.len() < LENT {
            return Err(format!("{} descriptors came where {LENT} were to come", passed.len()));
        }
        let mut these = passed.drain(..LENT);
        let (Some(data), Some(checksums)) = (these.next(), these.next()) else { return Ok(false) };
        drop(these);
        let loan = shared.lend(terms, data, checksums);
        shared.answer(Ok(loan))?;
        return Ok(true);
    }
    let decoded: Option<BlockOpResponse> = decode_delimited(inbox, "answer").map_err(|error| error.to_string())?;
    let Some(message) = decoded else { return Ok(false) };
    if !message.revoked.is_empty() {
        shared.call_back(&message.revoked);
    } else if reply::status_of(&message) == Status::Success {
        *lent = Some(LocalLoan::from_answer(&message).map_err(|error| error.to_string())?);
    } else {
        shared.answer(Err(refusal(&message)))?;
    }
    Ok(true)
}
