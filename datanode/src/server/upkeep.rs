//! The threads that look after the disks now and then, one a disk: old trash goes, room is looked at, a disk that hung is
//! tried. A disk that hangs keeps its own thread only. One more closes idle connections.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use proto::ids::StorageId;
use tokio::sync::oneshot;

use super::Context;

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(5);
/// Time between two looks whether a disk that hung is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time for a round that is under way at the end.
const LAST_ROUND: Duration = Duration::from_secs(2);

/// The running threads.
pub(super) struct Upkeep(Vec<Thread>);

struct Thread {
    stop: SyncSender<()>,
    ended: oneshot::Receiver<()>,
}

/// Starts them.
pub(super) fn start(context: &Context) -> io::Result<Upkeep> {
    let storages = context.node.store().health().into_iter().map(|(storage, ..)| storage).enumerate();
    let disks = storages.map(|(number, storage)| {
        thread(&format!("dn-upkeep-{number}"), context, move |context, stopped| tend(context, &storage, stopped))
    });
    let copies = thread("dn-upkeep", context, |context, stopped| {
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let done = base::task::survive("dn-upkeep", || context.copies.tend(context));
            context.figures.panics.inc_by(u64::from(done.is_err()));
        }
    });
    disks.chain([copies]).collect::<io::Result<_>>().map(Upkeep)
}

fn thread(
    name: &str,
    context: &Context,
    run: impl FnOnce(&Context, &Receiver<()>) + Send + 'static,
) -> io::Result<Thread> {
    let (stop, stopped) = sync_channel(1);
    let (tell, ended) = oneshot::channel();
    let context = context.clone();
    base::task::thread(name, move || {
        run(&context, &stopped);
        drop(context);
        if tell.send(()).is_err() {
            tracing::debug!("nobody waits for the end of the upkeep");
        }
    })?;
    Ok(Thread { stop, ended })
}

fn tend(context: &Context, storage: &StorageId, stopped: &Receiver<()>) {
    let mut next = context.clock.now().plus(EVERY);
    while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let now = context.clock.now();
        let due = now >= next;
        if due {
            next = now.plus(EVERY);
        }
        // What panicked is tried again with the next round.
        let done = base::task::survive("dn-upkeep", || match due {
            true => context.node.store().tend_one(storage, now),
            false => context.node.store().check_again(storage),
        });
        context.figures.panics.inc_by(u64::from(done.is_err()));
    }
}

impl Upkeep {
    /// Ends them, and waits a moment for all together: a hung disk must not keep the process.
    pub(super) async fn stop(self) {
        let (stops, ends): (Vec<_>, Vec<_>) = self.0.into_iter().map(|thread| (thread.stop, thread.ended)).unzip();
        drop(stops);
        let all = async {
            for ended in ends {
                if ended.await.is_err() {
                    tracing::error!("an upkeep thread had ended by itself");
                }
            }
        };
        if tokio::time::timeout(LAST_ROUND, all).await.is_err() {
            tracing::warn!("the upkeep of the disks does not end: a disk may hang");
        }
    }
}
