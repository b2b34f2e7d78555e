//! Ending a process well: the first signal asks, a deadline insists, the second signal ends it at once.
//!
//! ```text
//!   SIGTERM / SIGINT ──▶ token cancelled ──▶ roles finish what is under way ──▶ exit 0
//!           │                                        └── deadline over ──▶ exit anyway, said in the log
//!           └── again ──▶ exit 128 + signal, now
//! ```

use std::future::Future;
use std::io::{self, Read};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second SIGINT.
const EXIT_SIGINT: i32 = 130;
/// Exit status after a second SIGTERM.
const EXIT_SIGTERM: i32 = 143;

/// Installs the signal handlers; the token is cancelled by the first SIGTERM or SIGINT, and a second one exits
/// the process at once with 143 or 130.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Lives as long as the process, so no tracker waits for it.
    tokio::spawn(async move {
        loop {
            let status = tokio::select! {
                _ = terminate.recv() => EXIT_SIGTERM,
                _ = interrupt.recv() => EXIT_SIGINT,
            };
            if stop.is_cancelled() {
                std::process::exit(status);
            }
            tracing::info!("stopping; a second signal ends the process at once");
            stop.cancel();
        }
    });
    Ok(())
}

/// Waits for the end of `work`, but no longer than `deadline`. `false`: it did not end in time.
///
/// # Cancel safety
/// Dropping it drops `work`.
pub async fn within(deadline: Duration, work: impl Future<Output = ()>) -> bool {
    let ended = tokio::time::timeout(deadline, work).await.is_ok();
    if !ended {
        tracing::warn!(
            deadline_ms = deadline.as_millis() as u64,
            "stopping took longer than the deadline; ending anyway"
        );
    }
    ended
}

/// Ends this process when the process at the other end of its standard input is gone, however it went.
///
/// A parent gives its child the reading end of a pipe and keeps the writing end open: the kernel closes that
/// one even when the parent is killed by SIGKILL, and the child sees the end of its input.
///
/// # Errors
/// If the watching thread cannot be started.
pub fn end_with_parent() -> io::Result<()> {
    let watch = || {
        let mut byte = [0; 64];
        loop {
            match std::io::stdin().lock().read(&mut byte) {
                Ok(0) => std::process::exit(0),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => std::process::exit(1),
            }
        }
    };
    crate::task::thread("parent-watch", watch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_ends_the_wait() {
        assert!(within(Duration::from_secs(10), std::future::ready(())).await);
        assert!(!within(Duration::from_millis(10), std::future::pending()).await);
    }

    #[tokio::test]
    async fn the_first_signal_cancels() {
        let stop = CancellationToken::new();
        on_signals(stop.clone()).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        tokio::time::timeout(Duration::from_secs(10), stop.cancelled()).await.unwrap();
    }
}
