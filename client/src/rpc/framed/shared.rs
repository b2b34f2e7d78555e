//! What the callers and the task of a connection share: the outbox, and the table of calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use proto::common::ErrorDetail;
use proto::error::{ErrorCode, FsError};
use proto::framing::{Broken, Head, Kind, MAX_CALLS, preamble, put, put_bare};
use proto::methods::Method;
use tokio::sync::{Semaphore, oneshot};

/// Kind and message of what the server said to a call.
pub(super) type Said = (Kind, Bytes);

/// Why a call ended without a word of the server on it.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// The request does not fit a frame; it was not sent.
    TooLong(Broken),
    /// The connection took no further calls when this one was to be sent.
    Over,
    /// The server was going and did not look at the call; it said why.
    NotTaken(FsError),
    /// The connection broke; the call may have been taken.
    Broken(String),
}

/// A connection, as callers hold it. When the last one lets go, the connection is closed.
#[derive(Debug)]
pub(in crate::rpc) struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// As many calls as the server takes at a time.
    room: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    /// Frames that wait for the task.
    out: Vec<u8>,
    calls: BTreeMap<u64, oneshot::Sender<Result<Said, Ended>>>,
    /// Number of the newest call.
    last: u64,
    /// No further call is taken.
    over: bool,
    /// All handles are gone.
    deserted: bool,
    /// Of the task, while it waits.
    waker: Option<Waker>,
}

impl State {
    /// Nobody holds the connection, and nobody waits for it.
    fn is_deserted(&self) -> bool {
        self.deserted && self.calls.is_empty()
    }
}

/// What a connection's task may do that has nothing to read and cannot write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// End: nobody holds the connection any more.
    Deserted,
    /// Go on: something came into the outbox just now.
    ToWrite,
    /// Wait: the server owes an answer, or takes nothing.
    Waits,
    /// Wait: there is nothing to do.
    Idle,
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Handle {
    /// A new connection's: the preamble waits in its outbox.
    pub(super) fn new() -> Arc<Self> {
        let state = State { out: preamble().to_vec(), ..State::default() };
        let shared = Shared { state: Mutex::new(state), room: Semaphore::new(MAX_CALLS) };
        Arc::new(Self { shared: Arc::new(shared) })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// May calls still be made on it?
    pub(super) fn takes_calls(&self) -> bool {
        !self.shared.state.lock().over
    }

    /// Makes a call and waits for the server's word.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call at the server.
    pub(super) async fn call<M: Method>(&self, request: &M) -> Result<Said, Ended> {
        let shared = &*self.shared;
        let Ok(_room) = shared.room.acquire().await else { return Err(Ended::Over) };
        let (sender, answer) = oneshot::channel();
        let (number, waker) = {
            let mut state = shared.state.lock();
            if state.over {
                return Err(Ended::Over);
            }
            let number = state.last + 1;
            let head = Head { call: number, kind: Kind::Request, method: M::NUMBER };
            put(&mut state.out, head, request).map_err(Ended::TooLong)?;
            state.last = number;
            state.calls.insert(number, sender);
            (number, state.waker.take())
        };
        wake(waker);
        let mut cancels = Cancels { shared, number, answered: false };
        let said = answer.await;
        cancels.answered = true;
        said.unwrap_or_else(|_gone| Err(Ended::Broken("the client stops".to_owned())))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.state.lock();
            state.deserted = true;
            state.waker.take()
        };
        wake(waker);
    }
}

/// Cancels a call whose future is dropped.
struct Cancels<'a> {
    shared: &'a Shared,
    number: u64,
    answered: bool,
}

impl Drop for Cancels<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let waker = {
            let mut state = self.shared.state.lock();
            if state.calls.remove(&self.number).is_none() || state.over {
                return;
            }
            put_bare(&mut state.out, Head { call: self.number, kind: Kind::Cancel, method: 0 });
            state.waker.take()
        };
        wake(waker);
    }
}

impl Shared {
    /// Exchanges an empty buffer for the outbox if there is something in it. False: nobody holds the connection any more.
    pub(super) fn collect(&self, empty: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if !state.out.is_empty() {
            std::mem::swap(&mut state.out, empty);
        }
        !state.is_deserted()
    }

    /// What the task may wait for, now that it can do no more; it is woken when that changes. `blocked`: what it took
    /// from the outbox is not written yet.
    pub(super) fn rest(&self, blocked: bool, context: &Context<'_>) -> Rest {
        let mut state = self.state.lock();
        if state.is_deserted() {
            return Rest::Deserted;
        }
        if !blocked && !state.out.is_empty() {
            return Rest::ToWrite;
        }
        state.waker = Some(context.waker().clone());
        if blocked || !state.calls.is_empty() { Rest::Waits } else { Rest::Idle }
    }

    /// Gives the server's words to those who wait for them.
    pub(super) fn answer(&self, said: &mut Vec<(u64, Said)>) {
        let mut state = self.state.lock();
        for (number, said) in said.drain(..) {
            // Nobody may wait for it any more: then the cancellation was on its way.
            if let Some(waiting) = state.calls.remove(&number) {
                drop(waiting.send(Ok(said)));
            }
        }
    }

    /// The server takes nothing after the call `last`; it still answers those before.
    pub(super) fn farewell(&self, last: u64, why: &FsError) {
        let mut state = self.state.lock();
        state.over = true;
        for waiting in state.calls.split_off(&last.saturating_add(1)).into_values() {
            drop(waiting.send(Err(Ended::NotTaken(why.clone()))));
        }
    }

    /// The connection is over: all calls end.
    pub(super) fn broke(&self, why: &str) {
        let mut state = self.state.lock();
        state.over = true;
        for waiting in std::mem::take(&mut state.calls).into_values() {
            drop(waiting.send(Err(Ended::Broken(why.to_owned()))));
        }
    }

    /// Bytes that wait for the task.
    #[cfg(test)]
    pub(super) fn outbox_bytes(&self) -> usize {
        self.state.lock().out.len()
    }

    /// Is there no call under way, and will there be none?
    pub(super) fn is_finished(&self) -> bool {
        let state = self.state.lock();
        state.over && state.calls.is_empty()
    }
}

/// The error in a message of the server.
pub(super) fn refusal(message: &[u8]) -> Result<FsError, prost::DecodeError> {
    ErrorDetail::decode(message).map(FsError::from_detail)
}

/// Why the server goes, as far as that can be read.
pub(super) fn farewell(message: &[u8]) -> FsError {
    let unread = |_| FsError::new(ErrorCode::Unavailable, "the namenode is going, and its reason cannot be read");
    refusal(message).unwrap_or_else(unread)
}
