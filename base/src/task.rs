//! Spawning: named threads and tasks, nowhere else.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

/// Tasks that end with their owner: dropping the set stops them.
pub use tokio::task::JoinSet;
pub use tokio_util::sync::CancellationToken;
pub use tokio_util::task::TaskTracker;

/// Stack of a thread that serves one connection or one disk: they hold buffers on the heap.
pub const SMALL_STACK_BYTES: usize = 256 * 1024;

/// Starts a named thread with a small stack.
///
/// # Errors
/// If the machine has no room for another thread.
pub fn thread<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.chars().take(15).collect()).stack_size(SMALL_STACK_BYTES).spawn(run)
}

/// Starts a named thread for work that nobody waits for: it takes the processors when others leave them (nice 10 on
/// Linux, where priorities are those of threads).
///
/// # Errors
/// If the machine has no room for another thread.
pub fn background_thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread(name, move || {
        crate::process::stand_back();
        run()
    })
}

/// Work of a background task that panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task} panicked: {words}")]
pub struct Panicked {
    task: &'static str,
    words: String,
}

/// Does one piece of a background task's work. A panic ends this piece and is told; whether the task goes on with the next
/// one, or the server ends, is for the caller to say: nobody may go on waiting for a task that is gone (scar SC-84).
///
/// In builds with debug assertions `BLOCKYARD_PANIC=<task>` makes the first piece of that task panic.
///
/// # Errors
/// [`Panicked`]. What the work had changed by then stays as it is.
pub fn survive<T>(task: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let work = AssertUnwindSafe(|| {
        hook::strike(task);
        work()
    });
    catch_unwind(work).map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let panicked = Panicked { task, words: words.unwrap_or("it says not why").to_owned() };
        tracing::error!("a background task failed: {panicked}");
        panicked
    })
}

#[cfg(debug_assertions)]
mod hook {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Panics if this task is to, the first time.
    pub(super) fn strike(task: &str) {
        static ASKED: OnceLock<Option<String>> = OnceLock::new();
        static STRUCK: AtomicBool = AtomicBool::new(false);
        let asked = ASKED.get_or_init(|| std::env::var("BLOCKYARD_PANIC").ok());
        if asked.as_deref() == Some(task) && !STRUCK.swap(true, Ordering::SeqCst) {
            panic!("somebody asked for it");
        }
    }
}

#[cfg(not(debug_assertions))]
mod hook {
    pub(super) const fn strike(_task: &str) {}
}

/// Starts a task on the current tokio runtime, tracked so that shutdown can wait for it.
pub fn spawn<F>(tracker: &TaskTracker, future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tracker.spawn(future)
}

/// As [`spawn`], for a task without which a server serves nobody: `stop` is cancelled when it ends, by a panic too. The
/// name is for `BLOCKYARD_PANIC`, as in [`survive`].
pub fn spawn_vital<F>(
    tracker: &TaskTracker,
    name: &'static str,
    stop: CancellationToken,
    future: F,
) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tracker.spawn(async move {
        let _stop = stop.drop_guard();
        hook::strike(name);
        future.await
    })
}

/// Threads of a server's runtime: one for each processor, and four at least, so that two long answers under way (a page
/// of a thousand names, a part of a full report) do not keep the short ones waiting on a small machine.
#[must_use]
pub fn server_workers() -> usize {
    std::thread::available_parallelism().map_or(4, |processors| processors.get().max(4))
}

/// Runs blocking work off the async threads.
pub async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(run).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_9_a_panic_ends_one_piece_of_work_and_says_what_it_was() {
        let pieces: Vec<_> = (0..3_u32)
            .map(|number| {
                survive("counting", || {
                    assert_ne!(number, 1, "one is too many");
                    number
                })
            })
            .collect();
        assert_eq!((pieces[0].as_ref(), pieces[2].as_ref()), (Ok(&0), Ok(&2)));
        let told = pieces[1].as_ref().unwrap_err().to_string();
        assert!(told.starts_with("counting panicked: ") && told.contains("one is too many"), "{told}");
    }
}
