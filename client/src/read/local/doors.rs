//! The doors of this machine's nodes. Each may have several connections: a node answers the requests of one in their order,
//! so one replica whose disk is slow keeps those waiting that were asked for behind it. Whoever comes next takes another
//! connection; where all are stuck, or the node takes no more of them, there is the network.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use base::task::TaskTracker;
use parking_lot::Mutex;

use super::Counters;
use super::cache::Cache;
use super::door::Door;

/// How long a door is left alone that does not open, or lends nothing by principle.
pub(super) const SHUT: Duration = Duration::from_secs(30);
/// How long no further connection is tried at a door that has some and took no more.
const FULL: Duration = Duration::from_secs(2);
/// Nodes of one machine.
const MAX_DOORS: usize = 64;
/// Connections to one of them.
pub(super) const MAX_LANES: usize = 4;
/// A request that waits for longer says that its disk is slow.
pub(super) const STUCK: Duration = Duration::from_millis(300);

/// What is known of a door.
#[derive(Debug)]
enum Known {
    /// Its connections.
    Open(Vec<Arc<Door>>),
    ShutUntil(Moment),
}

/// All doors.
#[derive(Debug)]
pub(super) struct Doors {
    known: Mutex<BTreeMap<String, Known>>,
    /// Doors with connections that take no more of them, and until when that is believed.
    full: Mutex<BTreeMap<String, Moment>>,
    /// Tasks that listen at the doors. They end with them.
    tasks: TaskTracker,
}

/// Where to ask.
enum Way {
    Here(Arc<Door>),
    Dial,
    Nowhere,
}

impl Doors {
    pub(super) fn new() -> Self {
        Self { known: Mutex::default(), full: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// A connection to the door at a path on which nothing is stuck; `None` if there is none to be had.
    pub(super) async fn at(
        &self,
        path: &str,
        (now, within): (Moment, Duration),
        (counters, cache): (&Arc<Counters>, &Arc<Cache>),
    ) -> Option<Arc<Door>> {
        match self.way(path, now) {
            Way::Here(door) => return Some(door),
            Way::Nowhere => return None,
            Way::Dial => {}
        }
        match base::net::unix::dial(Path::new(path), within).await {
            Ok(stream) => Some(self.enter(path, now, Arc::new(Door::start(stream, &self.tasks, counters, cache)))),
            Err(error) => {
                tracing::debug!(path, %error, "a node of this machine has no door for this process");
                counters.refuse();
                // Connections that were made before are as good as they were.
                if !matches!(self.known.lock().get(path), Some(Known::Open(lanes)) if lanes.iter().any(|lane| !lane.is_over()))
                {
                    self.shut(path, now);
                }
                None
            }
        }
    }

    fn way(&self, path: &str, now: Moment) -> Way {
        let mut doors = self.known.lock();
        let count = doors.len();
        match doors.get_mut(path) {
            Some(Known::Open(lanes)) => {
                let over: Vec<_> = lanes.extract_if(.., |lane| lane.is_over()).collect();
                let free = lanes.iter().find(|lane| !lane.is_stuck(now)).cloned();
                let room = lanes.len() < MAX_LANES && !self.is_full(path, now);
                drop(doors);
                drop(over);
                match free {
                    Some(lane) => Way::Here(lane),
                    None if room => Way::Dial,
                    None => Way::Nowhere,
                }
            }
            Some(Known::ShutUntil(until)) if now < *until => Way::Nowhere,
            None if count >= MAX_DOORS => Way::Nowhere,
            Some(Known::ShutUntil(_)) | None => Way::Dial,
        }
    }

    /// Enters a new connection. Another read may have made one at the same time: then that one serves, and this one goes.
    fn enter(&self, path: &str, now: Moment, ours: Arc<Door>) -> Arc<Door> {
        let mut doors = self.known.lock();
        let known = doors.entry(path.to_owned()).or_insert_with(|| Known::Open(Vec::new()));
        if let Known::ShutUntil(_) = known {
            *known = Known::Open(Vec::new());
        }
        let Known::Open(lanes) = known else { return ours };
        if let Some(theirs) = lanes.iter().find(|lane| !lane.is_over() && !lane.is_stuck(now)) {
            let theirs = Arc::clone(theirs);
            drop(doors);
            return theirs;
        }
        lanes.push(Arc::clone(&ours));
        ours
    }

    /// Leaves a door alone for a while; every loan that came through it is over.
    pub(super) fn shut(&self, path: &str, now: Moment) {
        let before = self.known.lock().insert(path.to_owned(), Known::ShutUntil(now.plus(SHUT)));
        drop(before);
    }

    /// The node took this connection and ended it without an answer: it takes no more readers than it has. Connections that
    /// were made before are as good as they were; where there is none, the door is left alone for a while.
    pub(super) fn turned_away(&self, path: &str, now: Moment, lane: &Arc<Door>) {
        let mut doors = self.known.lock();
        let Some(Known::Open(lanes)) = doors.get_mut(path) else { return };
        let gone: Vec<_> = lanes.extract_if(.., |one| Arc::ptr_eq(one, lane) || one.is_over()).collect();
        let others = !lanes.is_empty();
        drop(doors);
        drop(gone);
        if others {
            self.full.lock().insert(path.to_owned(), now.plus(FULL));
        } else {
            self.shut(path, now);
        }
    }
    fn is_full(&self, path: &str, now: Moment) -> bool {
        let mut full = self.full.lock();
        full.retain(|_, until| now < *until);
        full.contains_key(path)
    }

    /// Connections to a door that are not over.
    #[cfg(test)]
    pub(super) fn open_lanes(&self) -> usize {
        let doors = self.known.lock();
        let lanes = |known: &Known| match known {
            Known::Open(lanes) => lanes.iter().filter(|lane| !lane.is_over()).count(),
            Known::ShutUntil(_) => 0,
        };
        doors.values().map(lanes).sum()
    }
}
