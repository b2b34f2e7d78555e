//! Spawning: named threads and tasks, nowhere else.

use std::future::Future;
use std::io;
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

/// Starts a task on the current tokio runtime, tracked so that shutdown can wait for it.
pub fn spawn<F>(tracker: &TaskTracker, future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tracker.spawn(future)
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
