//! Opening the folders of a node, each by itself: a disk that does not answer keeps its own folder out, and nobody else's.
//!
//! ```text
//!   job of a folder ─▶ thread "dn-open-<n>" ─▶ disk        results in the order of the folders
//!         a look now and then: which calls are out, and for how long ─▶ given up, if another folder can be used
//! ```
//!
//! The simulation has one thread, and disks that do not keep it: there the jobs are done one after another.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use base::clock::{Clock, Moment};
use base::disk::{DiskCall, Watched};

use super::error::StoreError;

/// A call at the start that is out for longer will not come back soon. Longer than what makes a disk count as hung later: a
/// folder that is given up now is out until the node starts again.
const CALL_BOUND: Duration = Duration::from_secs(60);
/// As before, for a sync of everything: after a kill the page cache may hold a part of the memory, and a slow disk takes its
/// time for that.
const SYNC_BOUND: Duration = Duration::from_secs(300);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What is to be done with a folder.
pub(super) struct Job<T> {
    pub(super) dir: PathBuf,
    pub(super) disk: Watched,
    pub(super) run: Box<dyn FnOnce() -> Result<T, StoreError> + Send>,
}

type Outcome<T> = (usize, Result<T, StoreError>);

/// How the folders are gone through.
pub(super) enum Apart<'a> {
    /// One after another, on this thread.
    No,
    /// Each on a thread of its own, looked at by this clock.
    Yes(&'a dyn Clock),
}

impl Apart<'_> {
    /// Does all jobs; what each one came to, in their order.
    ///
    /// # Errors
    /// If there is no room for a thread: nothing can be said of the folders then.
    pub(super) fn each<T: Send + 'static>(&self, jobs: Vec<Job<T>>) -> Result<Vec<Result<T, StoreError>>, StoreError> {
        match self {
            Self::No => Ok(jobs.into_iter().map(|job| (job.run)()).collect()),
            Self::Yes(clock) => each_by_itself(jobs, *clock),
        }
    }
}

fn each_by_itself<T: Send + 'static>(
    jobs: Vec<Job<T>>,
    clock: &dyn Clock,
) -> Result<Vec<Result<T, StoreError>>, StoreError> {
    let (tell, told) = sync_channel::<Outcome<T>>(jobs.len().max(1));
    let mut waiting: Vec<Waiting> = Vec::with_capacity(jobs.len());
    let mut done: Vec<Option<Result<T, StoreError>>> = Vec::new();
    for (number, Job { dir, disk, run }) in jobs.into_iter().enumerate() {
        let (tell, path) = (tell.clone(), dir.clone());
        let begun = base::task::thread(&format!("dn-open-{number}"), move || work(run, number, path, &tell));
        begun.map_err(StoreError::io("start a thread for", &dir))?;
        waiting.push(Waiting { number, dir, disk });
        done.push(None);
    }
    while !waiting.is_empty() {
        match told.recv_timeout(LOOK) {
            Ok((number, outcome)) => {
                waiting.retain(|one| one.number != number);
                put(&mut done, number, outcome);
            }
            // The sender here lives on.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        // A node without a disk that works has nothing better to do than to wait.
        if done.iter().flatten().any(Result::is_ok) {
            let now = clock.now();
            for given_up in waiting.extract_if(.., |one| one.is_out_for_long(now)) {
                put(&mut done, given_up.number, Err(no_answer(&given_up.dir)));
            }
        }
    }
    Ok(done.into_iter().flatten().collect())
}

fn put<T>(done: &mut [Option<T>], number: usize, outcome: T) {
    if let Some(place) = done.get_mut(number) {
        *place = Some(outcome);
    }
}

/// A folder whose job is not done.
struct Waiting {
    number: usize,
    dir: PathBuf,
    disk: Watched,
}

impl Waiting {
    fn is_out_for_long(&self, now: Moment) -> bool {
        self.disk.calls().look(now).is_some_and(|stuck| {
            let bound = if stuck.what == DiskCall::SyncAll.name() { SYNC_BOUND } else { CALL_BOUND };
            stuck.for_time >= bound
        })
    }
}

fn work<T>(
    run: Box<dyn FnOnce() -> Result<T, StoreError> + Send>,
    number: usize,
    dir: PathBuf,
    tell: &SyncSender<Outcome<T>>,
) {
    // Told in any case: nobody may wait for a thread that is gone.
    let outcome = base::task::survive("dn-open", run).unwrap_or_else(|panicked| {
        Err(StoreError::Refused { path: dir.display().to_string(), problem: panicked.to_string() })
    });
    if tell.send((number, outcome)).is_err() {
        tracing::warn!(dir = %dir.display(), "a disk that did not answer at the start answers: start the node again to use it");
    }
}

fn no_answer(dir: &std::path::Path) -> StoreError {
    StoreError::Refused {
        path: dir.display().to_string(),
        problem: "its disk does not answer: it is left out until the node starts again".to_owned(),
    }
}
