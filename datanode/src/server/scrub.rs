//! The scrubbers' threads, one a disk, of low priority: a disk that hangs keeps its own scrubber only.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Context;
use crate::scrub::ScrubOptions;
use crate::store::{Turn, VolumeScrub};

/// Time for the step that is under way at the end.
const LAST_STEP: Duration = Duration::from_secs(2);

/// Pause after a turn that panicked.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// The running threads.
pub(super) struct Scrubbers(Vec<Thread>);

struct Thread {
    stop: SyncSender<()>,
    ended: oneshot::Receiver<()>,
}

/// Starts them, unless the settings say that there are none.
pub(super) fn start(context: &Context, options: ScrubOptions) -> io::Result<Scrubbers> {
    if options.rate_bytes_per_s == 0 {
        tracing::info!("there is no scrubber: damage is found when somebody reads");
        return Ok(Scrubbers(Vec::new()));
    }
    let scrubs = context.node.store().scrubs(options).into_iter().enumerate();
    let threads = scrubs.map(|(number, scrub)| {
        let (stop, stopped) = sync_channel(1);
        let (tell, ended) = oneshot::channel();
        let context = context.clone();
        base::task::background_thread(&format!("dn-scrub-{number}"), move || {
            run(&context, scrub, &stopped);
            drop(context);
            if tell.send(()).is_err() {
                tracing::debug!("nobody waits for the end of a scrubber");
            }
        })?;
        Ok(Thread { stop, ended })
    });
    threads.collect::<io::Result<_>>().map(Scrubbers)
}

fn run(context: &Context, mut scrub: VolumeScrub, stopped: &Receiver<()>) {
    let mut wait = Duration::ZERO;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let wall_s = u64::try_from(context.clock.wall_ns() / 1_000_000_000).unwrap_or(0);
        let now = context.clock.now();
        let turn = base::task::survive("dn-scrub", || scrub.turn(now, wall_s));
        wait = match turn {
            // Whatever it was, it is met again if it lasts: not at once, and not for ever in silence.
            Err(_told) => {
                context.figures.panics.inc();
                AFTER_PANIC
            }
            Ok(Turn::Rest(until)) => {
                context.figures.scrub_oldest(scrub.storage(), scrub.oldest_s(wall_s));
                until.since(now)
            }
            Ok(Turn::Did { bytes, sound, damaged }) => {
                context.figures.scrub_bytes.inc_by(bytes);
                context.figures.scrub_replicas.inc_by(u64::from(sound.is_some() || damaged.is_some()));
                if damaged.is_some() {
                    context.figures.scrub_errors.inc();
                    context.wake.changed();
                }
                Duration::ZERO
            }
        };
    }
}

impl Scrubbers {
    /// Ends them, and waits a moment for all together: a hung disk must not keep the process.
    pub(super) async fn stop(self) {
        let (stops, ends): (Vec<_>, Vec<_>) = self.0.into_iter().map(|thread| (thread.stop, thread.ended)).unzip();
        drop(stops);
        let all = async {
            for ended in ends {
                if ended.await.is_err() {
                    tracing::error!("a scrubber had ended by itself");
                }
            }
        };
        if tokio::time::timeout(LAST_STEP, all).await.is_err() {
            tracing::warn!("a scrubber does not end: a disk may hang");
        }
    }
}
