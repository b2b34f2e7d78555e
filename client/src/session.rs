//! Numbered calls: a retry repeats its number, so that the namenode lets it take effect once.
//!
//! The namenode keeps at most 256 outcomes of a session, from the lowest unanswered call on; the client
//! therefore never lets its calls spread further than that.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::random::Randomness;
use parking_lot::Mutex;
use proto::ids::SessionId;
use tokio::sync::Notify;

/// Numbers from the lowest unanswered call to the newest one, at most.
const SPREAD: u64 = 200;

/// A session of this client with the namenodes.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    calls: Mutex<Calls>,
    answered: Notify,
}

#[derive(Debug, Default)]
struct Calls {
    newest: u64,
    open: BTreeSet<u64>,
}

/// A call that has a number and no answer yet. Dropping it says that no retry will follow.
#[derive(Debug)]
pub struct CallNumber {
    session: Arc<Session>,
    number: u64,
}

impl Session {
    /// A new session with a random id.
    #[must_use]
    pub fn new(random: &dyn Randomness) -> Arc<Self> {
        let mut id = [0; 16];
        random.fill(&mut id);
        Arc::new(Self { id: SessionId::new(id), calls: Mutex::default(), answered: Notify::new() })
    }
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &SessionId {
        &self.id
    }

    /// The newest number that was taken; 0 at first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.calls.lock().newest
    }
    /// Calls below this number have their answers, or nobody waits for them any more.
    #[must_use]
    pub fn lowest_unanswered(&self) -> u64 {
        let calls = self.calls.lock();
        calls.open.first().copied().unwrap_or(calls.newest + 1)
    }

    /// Takes the next number; `None` while too many calls lie behind an unanswered one.
    pub fn try_begin(self: &Arc<Self>) -> Option<CallNumber> {
        let mut calls = self.calls.lock();
        let lowest = calls.open.first().copied().unwrap_or(calls.newest + 1);
        if calls.newest + 1 >= lowest + SPREAD {
            return None;
        }
        calls.newest += 1;
        let number = calls.newest;
        calls.open.insert(number);
        Some(CallNumber { session: Arc::clone(self), number })
    }

    /// Takes the next number, waiting for room.
    ///
    /// # Cancel safety
    /// No number is taken if the future is dropped.
    pub async fn begin(self: &Arc<Self>) -> CallNumber {
        loop {
            let answered = self.answered.notified();
            if let Some(call) = self.try_begin() {
                return call;
            }
            answered.await;
        }
    }
}

impl CallNumber {
    /// The number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
    /// Id of its session.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.session.id
    }
    /// Lowest number of the session without an answer; this call counts.
    #[must_use]
    pub fn lowest_unanswered(&self) -> u64 {
        self.session.calls.lock().open.first().copied().unwrap_or(self.number)
    }
}

impl Drop for CallNumber {
    fn drop(&mut self) {
        self.session.calls.lock().open.remove(&self.number);
        self.session.answered.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::random::SeededRandom;

    #[test]
    fn the_lowest_unanswered_call_holds_back_the_rest() {
        let session = Session::new(&SeededRandom::new(1));
        let first = session.try_begin().unwrap();
        let rest: Vec<_> = std::iter::from_fn(|| session.try_begin()).collect();
        assert_eq!(rest.len() as u64, SPREAD - 1);
        assert_eq!((rest[10].lowest_unanswered(), session.lowest_unanswered(), session.newest()), (1, 1, SPREAD));
        drop(first);
        assert_eq!(rest[10].lowest_unanswered(), 2);
        assert_eq!(session.try_begin().unwrap().number(), SPREAD + 1);
    }

    #[tokio::test]
    async fn waiting_ends_with_an_answer() {
        let session = Session::new(&SeededRandom::new(1));
        let mut open: Vec<_> = std::iter::from_fn(|| session.try_begin()).collect();
        let waiting = session.begin();
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there was no room"),
            () = std::future::ready(()) => {}
        }
        open.remove(0);
        assert_eq!(waiting.await.number(), SPREAD + 1);
    }
}
