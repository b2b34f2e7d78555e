//! What is measured while everything else goes on: calls, locks, and the machine itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::clock::{Clock, SystemClock};
use base::random::{Randomness, SeededRandom};
use base::task::JoinSet;
use client::Client;
use namenode::core::Shared;

use super::super::super::latencies::Latencies;
use super::super::{Outcome, names};

/// Pause of a caller between two calls: they measure the server, they do not fill it.
const PAUSE: Duration = Duration::from_millis(1);
/// Pause between two looks at a lock.
const LOOK_PAUSE: Duration = Duration::from_micros(250);

/// Callers, each with a connection, that ask for a file now and then.
pub(super) struct Callers {
    pub(super) clients: Vec<Client>,
    /// Directory of the files.
    pub(super) dir: String,
    pub(super) files: u64,
}

/// Times that were measured in one period.
pub(super) struct Times {
    pub(super) stats: Latencies,
    pub(super) namespace_lock: Latencies,
    pub(super) blocks_lock: Latencies,
    /// How late a thread that slept was woken: what this machine adds to everything.
    pub(super) wakeups: Latencies,
}

impl Callers {
    /// Calls until `done`.
    pub(super) fn run(&self, shared: &Arc<Shared>, done: &Arc<AtomicBool>) -> Outcome<Times> {
        let failed = |error: std::io::Error| format!("no thread: {error}");
        let looking = {
            let (shared, done) = (Arc::clone(shared), Arc::clone(done));
            base::task::thread("bench-locks", move || look_at_locks(&shared, &done)).map_err(failed)?
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let stats = runtime.block_on(self.call(done));
        done.store(true, Ordering::Relaxed);
        let (namespace_lock, blocks_lock, wakeups) =
            looking.join().map_err(|_panic| "the thread that looks at locks panicked".to_owned())?;
        Ok(Times { stats: stats?, namespace_lock, blocks_lock, wakeups })
    }

    async fn call(&self, done: &Arc<AtomicBool>) -> Outcome<Latencies> {
        let mut workers = JoinSet::new();
        for (number, client) in self.clients.iter().enumerate() {
            let (client, dir, files, done) = (client.clone(), self.dir.clone(), self.files, Arc::clone(done));
            workers.spawn(async move {
                let (clock, random, mut times) =
                    (SystemClock::new(), SeededRandom::new(number as u64 + 1), Latencies::default());
                while !done.load(Ordering::Relaxed) {
                    let path = format!("{dir}/{}", names::leaf(random.below(files)));
                    let started = clock.now();
                    client.stat(&path).await.map_err(|error| format!("a status failed: {error}"))?;
                    times.add(clock.now().since(started));
                    tokio::time::sleep(PAUSE).await;
                }
                Ok::<_, String>(times)
            });
        }
        let mut all = Latencies::default();
        while let Some(times) = workers.join_next().await {
            all.merge(&times.map_err(|error| error.to_string())??);
        }
        Ok(all)
    }
}

/// How long a reader waits for each lock.
fn look_at_locks(shared: &Shared, done: &AtomicBool) -> (Latencies, Latencies, Latencies) {
    let clock = SystemClock::new();
    let (mut namespace, mut blocks, mut wakeups) = (Latencies::default(), Latencies::default(), Latencies::default());
    while !done.load(Ordering::Relaxed) {
        let started = clock.now();
        drop(shared.namespace.read());
        let between = clock.now();
        drop(shared.blocks.read());
        let ended = clock.now();
        namespace.add(between.since(started));
        blocks.add(ended.since(between));
        std::thread::park_timeout(LOOK_PAUSE);
        wakeups.add(clock.now().since(ended).saturating_sub(LOOK_PAUSE));
    }
    (namespace, blocks, wakeups)
}
