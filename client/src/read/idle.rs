//! Connections to datanodes that finished a read and may serve another one.
//!
//! A datanode waits 4 s for the next operation; connections older than 3 s are not used again, so that a
//! request rarely meets a socket that is being closed. If it does, the reader dials anew. The youngest goes first: so
//! the others age, and as many are kept as were in use lately.

use std::time::Duration;

use base::clock::Moment;
use parking_lot::Mutex;

use super::replica::Replica;

/// Idle connections kept.
const KEEP: usize = 64;
/// Of them, to one node.
const KEEP_OF_ONE: usize = 8;
/// Age at which an idle connection is dropped.
const MAX_IDLE: Duration = Duration::from_secs(3);

/// What can be kept.
pub(crate) trait Connection {
    /// Did the other end neither close it nor send anything?
    fn is_quiet(&self) -> bool;
}

/// The idle connections of a client.
#[derive(Debug)]
pub(crate) struct IdleConnections<C = Replica> {
    /// By age, the oldest first.
    kept: Mutex<Vec<Kept<C>>>,
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
        Self { kept: Mutex::default() }
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

    /// Keeps a connection for the next read.
    pub(super) fn put(&self, host: String, port: u32, connection: C, now: Moment) {
        let mut kept = self.kept.lock();
        kept.retain(|one| now.since(one.since) < MAX_IDLE);
        let to_it = |one: &Kept<C>| one.port == port && one.host == host;
        let crowded = kept.iter().filter(|one| to_it(one)).count() >= KEEP_OF_ONE;
        if crowded && let Some(oldest) = kept.iter().position(to_it) {
            kept.remove(oldest);
        } else if kept.len() >= KEEP {
            kept.remove(0);
        }
        kept.push(Kept { host, port, since: now, connection });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Fake(u32, bool);

    impl Connection for Fake {
        fn is_quiet(&self) -> bool {
            self.1
        }
    }

    fn secs(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn the_youngest_sound_one_of_the_node_is_taken() {
        let idle = IdleConnections::<Fake>::default();
        for (number, quiet) in [(1, true), (2, true), (3, false)] {
            idle.put("a".into(), 1, Fake(number, quiet), secs(u64::from(number)));
        }
        idle.put("b".into(), 1, Fake(9, true), secs(3));
        assert_eq!(idle.take("a", 1, secs(3)), Some(Fake(2, true)), "what was closed meanwhile is dropped");
        assert_eq!(idle.take("a", 2, secs(3)), None, "another port is another node");
        assert_eq!(idle.take("a", 1, secs(4)), None, "the first is too old");
        assert_eq!(idle.take("b", 1, secs(4)), Some(Fake(9, true)));
        assert!(idle.kept.lock().is_empty());
    }

    #[test]
    fn i_15_they_are_bounded_in_all_and_for_each_node() {
        let idle = IdleConnections::<Fake>::default();
        for number in 0..100 {
            idle.put("a".into(), 1, Fake(number, true), secs(0));
        }
        assert_eq!(idle.kept.lock().len(), KEEP_OF_ONE);
        for number in 0..1000 {
            idle.put("b".into(), number, Fake(number, true), secs(0));
        }
        assert_eq!(idle.kept.lock().len(), KEEP);
        assert_eq!(idle.take("b", 999, secs(0)), Some(Fake(999, true)), "the newest stay");
        assert_eq!(idle.take("a", 1, secs(0)), None);
    }
}
