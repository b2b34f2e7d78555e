//! Connections to datanodes that finished a read and may serve another one.
//!
//! A datanode waits 4 s for the next operation; connections older than 3 s are not used again, so that a
//! request rarely meets a socket that is being closed. If it does, the reader dials anew. The youngest goes first: so
//! the others age, and as many are kept as were in use lately.
//!
//! The last word on a read is said together with the next request on its connection. Where none comes soon, it is said
//! by itself; also when the connection goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use base::clock::{Clock, Moment};
use parking_lot::Mutex;

use super::replica::Replica;

/// Idle connections kept.
const KEEP: usize = 64;
/// Of them, to one node.
const KEEP_OF_ONE: usize = 8;
/// Age at which an idle connection is dropped.
const MAX_IDLE: Duration = Duration::from_secs(3);
/// How long a last word waits for a request to go with.
const HOLD_BACK: Duration = Duration::from_millis(200);

/// What can be kept.
pub(crate) trait Connection {
    /// Did the other end neither close it nor send anything?
    fn is_quiet(&self) -> bool;
    /// Is there a last word that was not said?
    fn owes(&self) -> bool;
    /// Says it, without waiting. False: that was not possible, and the connection is of no use any more.
    fn settle(&mut self) -> bool;
}

/// The idle connections of a client.
#[derive(Debug)]
pub(crate) struct IdleConnections<C = Replica> {
    /// By age, the oldest first.
    kept: Mutex<Vec<Kept<C>>>,
    /// Somebody will call [`IdleConnections::settle`].
    settling: AtomicBool,
}

#[derive(Debug)]
struct Kept<C> {
    host: String,
    port: u32,
    since: Moment,
    connection: C,
}

impl<C> Default for IdleConnections<C> {
    fn default() -> Self {
        Self { kept: Mutex::default(), settling: AtomicBool::new(false) }
    }
}

impl<C: Connection> IdleConnections<C> {
    /// The youngest idle connection to an address that is still sound.
    pub(super) fn take(&self, host: &str, port: u32, now: Moment) -> Option<C> {
        let mut kept = self.kept.lock();
        kept.retain(|one| now.since(one.since) < MAX_IDLE);
        loop {
            let at = kept.iter().rposition(|one| one.port == port && one.host == host)?;
            let one = kept.remove(at);
            if one.connection.is_quiet() {
                return Some(one.connection);
            }
        }
    }

    /// Keeps a connection for the next read. True: call [`settle`], nobody else has yet.
    #[must_use]
    pub(super) fn put(&self, host: String, port: u32, connection: C, now: Moment) -> bool {
        let mut kept = self.kept.lock();
        kept.retain(|one| now.since(one.since) < MAX_IDLE);
        let to_it = |one: &Kept<C>| one.port == port && one.host == host;
        let crowded = kept.iter().filter(|one| to_it(one)).count() >= KEEP_OF_ONE;
        if crowded && let Some(oldest) = kept.iter().position(to_it) {
            kept.remove(oldest);
        } else if kept.len() >= KEEP {
            kept.remove(0);
        }
        let owes = connection.owes();
        kept.push(Kept { host, port, since: now, connection });
        owes && !self.settling.swap(true, Ordering::SeqCst)
    }

    /// Says the last words that have waited long enough. True: others wait.
    pub(super) fn settle(&self, now: Moment) -> bool {
        let mut kept = self.kept.lock();
        kept.retain_mut(|one| {
            let due = one.connection.owes() && now.since(one.since) >= HOLD_BACK;
            !due || one.connection.settle()
        });
        let more = kept.iter().any(|one| one.connection.owes());
        // Under the lock: whoever puts the next one sees it.
        self.settling.store(more, Ordering::SeqCst);
        more
    }
}

/// Has last words said until none is left, or the client is gone.
pub(super) async fn settle(idle: Weak<IdleConnections>, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(HOLD_BACK).await;
        let Some(idle) = idle.upgrade() else { return };
        if !idle.settle(clock.now()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, whether it is quiet, and what it owes.
    #[derive(Debug, PartialEq)]
    struct Fake(u32, bool, Owed);

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Owed {
        Nothing,
        Word,
        /// The socket takes nothing.
        Stuck,
    }

    impl Connection for Fake {
        fn is_quiet(&self) -> bool {
            self.1
        }
        fn owes(&self) -> bool {
            self.2 != Owed::Nothing
        }
        fn settle(&mut self) -> bool {
            let said = self.2 == Owed::Word;
            self.2 = Owed::Nothing;
            said
        }
    }

    fn fake(number: u32, quiet: bool) -> Fake {
        Fake(number, quiet, Owed::Nothing)
    }

    fn secs(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn the_youngest_sound_one_of_the_node_is_taken() {
        let idle = IdleConnections::<Fake>::default();
        for (number, quiet) in [(1, true), (2, true), (3, false)] {
            assert!(!idle.put("a".into(), 1, fake(number, quiet), secs(u64::from(number))));
        }
        assert!(!idle.put("b".into(), 1, fake(9, true), secs(3)));
        assert_eq!(idle.take("a", 1, secs(3)), Some(fake(2, true)), "what was closed meanwhile is dropped");
        assert_eq!(idle.take("a", 2, secs(3)), None, "another port is another node");
        assert_eq!(idle.take("a", 1, secs(4)), None, "the first is too old");
        assert_eq!(idle.take("b", 1, secs(4)), Some(fake(9, true)));
        assert!(idle.kept.lock().is_empty());
    }

    #[test]
    fn i_15_they_are_bounded_in_all_and_for_each_node() {
        let idle = IdleConnections::<Fake>::default();
        for number in 0..100 {
            assert!(!idle.put("a".into(), 1, fake(number, true), secs(0)));
        }
        assert_eq!(idle.kept.lock().len(), KEEP_OF_ONE);
        for number in 0..1000 {
            assert!(!idle.put("b".into(), number, fake(number, true), secs(0)));
        }
        assert_eq!(idle.kept.lock().len(), KEEP);
        assert_eq!(idle.take("b", 999, secs(0)), Some(fake(999, true)), "the newest stay");
        assert_eq!(idle.take("a", 1, secs(0)), None);
    }

    #[test]
    fn last_words_wait_for_a_request_and_not_for_ever() {
        let idle = IdleConnections::<Fake>::default();
        let at = |ms: u64| Moment::after_start(Duration::from_millis(ms));
        assert!(idle.put("a".into(), 1, Fake(1, true, Owed::Word), at(0)), "one has to call");
        assert!(!idle.put("a".into(), 1, Fake(2, true, Owed::Word), at(100)), "one is enough");
        assert!(!idle.put("b".into(), 1, Fake(3, true, Owed::Stuck), at(100)));
        assert_eq!(idle.take("a", 1, at(150)), Some(Fake(2, true, Owed::Word)), "it goes with the request");
        assert!(idle.settle(at(200)), "one is younger");
        assert!(!idle.settle(at(300)));
        assert_eq!(idle.take("a", 1, at(300)), Some(Fake(1, true, Owed::Nothing)));
        assert_eq!(idle.take("b", 1, at(300)), None, "what takes nothing is of no use");
        assert!(idle.put("a".into(), 1, Fake(4, true, Owed::Word), at(400)), "and the next one asks again");
    }
}
