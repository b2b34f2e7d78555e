//! Connections to datanodes that finished a read and may serve another one.
//!
//! A datanode waits 4 s for the next operation; connections older than 3 s are not used again, so that a
//! request rarely meets a socket that is being closed. If it does, the reader dials anew.

use std::time::Duration;

use base::clock::Moment;
use parking_lot::Mutex;

use super::replica::Replica;

/// Idle connections kept.
const KEEP: usize = 32;
/// Age at which an idle connection is dropped.
const MAX_IDLE: Duration = Duration::from_secs(3);

/// The idle connections of a client.
#[derive(Debug, Default)]
pub(crate) struct IdleConnections {
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    host: String,
    port: u32,
    since: Moment,
    connection: Replica,
}

impl IdleConnections {
    /// The youngest idle connection to an address.
    pub(super) fn take(&self, host: &str, port: u32, now: Moment) -> Option<Replica> {
        let mut kept = self.kept.lock();
        kept.retain(|one| now.since(one.since) < MAX_IDLE);
        let at = kept.iter().rposition(|one| one.port == port && one.host == host)?;
        Some(kept.swap_remove(at).connection)
    }
    /// Keeps a connection for the next read.
    pub(super) fn put(&self, host: String, port: u32, connection: Replica, now: Moment) {
        let mut kept = self.kept.lock();
        if kept.len() >= KEEP {
            kept.remove(0);
        }
        kept.push(Kept { host, port, since: now, connection });
    }
}
