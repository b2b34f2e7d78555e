//! The thread that looks after the disks now and then: old trash goes, room is looked at; idle connections are closed.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Context;

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(5);
/// Time for a round that is under way at the end.
const LAST_ROUND: Duration = Duration::from_secs(2);

/// The running thread.
pub(super) struct Upkeep {
    stop: SyncSender<()>,
    ended: oneshot::Receiver<()>,
}

/// Starts it.
pub(super) fn start(context: Context) -> io::Result<Upkeep> {
    let (stop, stopped) = sync_channel(1);
    let (tell, ended) = oneshot::channel();
    base::task::thread("dn-upkeep", move || {
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            // What panicked is tried again with the next round.
            let done = base::task::survive("dn-upkeep", || {
                context.node.store().tend(context.clock.now());
                context.copies.tend(&context);
            });
            context.figures.panics.inc_by(u64::from(done.is_err()));
        }
        drop(context);
        if tell.send(()).is_err() {
            tracing::debug!("nobody waits for the end of the upkeep");
        }
    })?;
    Ok(Upkeep { stop, ended })
}

impl Upkeep {
    /// Ends it, and waits a moment: a hung disk must not keep the process.
    pub(super) async fn stop(self) {
        drop(self.stop);
        if tokio::time::timeout(LAST_ROUND, self.ended).await.is_err() {
            tracing::warn!("the upkeep of the disks does not end: a disk may hang");
        }
    }
}
