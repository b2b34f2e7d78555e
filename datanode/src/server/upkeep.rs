//! The thread that looks after the disks now and then: old trash goes, room is looked at.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::Context;

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(5);

/// The running thread: it ends when this is dropped. It is not waited for: a hung disk must not keep the process.
pub(super) struct Upkeep(#[allow(dead_code, reason = "the thread notices when it is dropped")] SyncSender<()>);

/// Starts it.
pub(super) fn start(context: Context) -> io::Result<Upkeep> {
    let (stop, stopped) = sync_channel(1);
    base::task::thread("dn-upkeep", move || {
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            context.node.store().tend(context.clock.now());
        }
    })?;
    Ok(Upkeep(stop))
}
