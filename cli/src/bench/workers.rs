//! Work of one kind, so many times at a time, for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::clock::{Clock, Moment, SystemClock};
use base::task::JoinSet;
use client::{ErrorCode, FsError, FsResult};

use super::latencies::Latencies;

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) times: Latencies,
    pub(super) took: Duration,
}

impl Measured {
    pub(super) fn per_second(&self) -> f64 {
        self.times.count() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// How many workers, and when they end: when time is up, or nothing is left to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift {
    pub(super) in_flight: u64,
    /// Time that is not measured, at the beginning.
    pub(super) warm_up: Duration,
    /// Time that is.
    pub(super) during: Duration,
    /// Most turns of all workers together.
    pub(super) limit: u64,
}

/// A piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Who does it.
    pub(super) worker: u64,
    /// How many turns this worker had before.
    pub(super) round: u64,
    /// Number among those of all workers.
    pub(super) number: u64,
}

struct Until {
    warm: Moment,
    end: Moment,
    next: AtomicU64,
    limit: u64,
}

/// Keeps all workers busy; the first failure ends it.
pub(super) async fn run<F>(
    clock: &Arc<SystemClock>,
    shift: Shift,
    work: impl Fn(Turn) -> F + Clone + Send + 'static,
) -> FsResult<Measured>
where
    F: Future<Output = FsResult<()>> + Send + 'static,
{
    let warm = clock.now().plus(shift.warm_up);
    let until = Until { warm, end: warm.plus(shift.during), next: AtomicU64::new(0), limit: shift.limit };
    let until = Arc::new(until);
    let mut workers = JoinSet::new();
    for worker in 0..shift.in_flight {
        workers.spawn(one(worker, work.clone(), Arc::clone(clock), Arc::clone(&until)));
    }
    let mut times = Latencies::default();
    while let Some(ended) = workers.join_next().await {
        let ended = ended.map_err(|error| FsError::new(ErrorCode::Internal, error.to_string()))?;
        times.merge(&ended?);
    }
    Ok(Measured { times, took: clock.now().since(warm) })
}

async fn one<F>(
    worker: u64,
    work: impl Fn(Turn) -> F + Send,
    clock: Arc<SystemClock>,
    until: Arc<Until>,
) -> FsResult<Latencies>
where
    F: Future<Output = FsResult<()>> + Send,
{
    let (mut times, mut round) = (Latencies::default(), 0);
    loop {
        let number = until.next.fetch_add(1, Ordering::Relaxed);
        let begun = clock.now();
        if number >= until.limit || begun >= until.end {
            return Ok(times);
        }
        work(Turn { worker, round, number }).await?;
        if begun >= until.warm {
            times.add(clock.now().since(begun));
        }
        round += 1;
    }
}
