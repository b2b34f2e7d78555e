//! What `put` and `get` share: flags, many files in flight, the summary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::clock::{Clock, Moment, SystemClock};
use base::task::JoinSet;
use clap::Args;
use client::ErrorCode;
use serde_json::json;
use tokio::sync::Semaphore;

use super::Outcome;
use super::context::Context;
use super::failure::Failure;
use super::progress::Progress;
use super::text::size::size;

/// Bytes that are read or written of a local file at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Flags of both verbs.
#[derive(Debug, Clone, Args)]
pub(crate) struct TransferOptions {
    /// Directories with all that is in them
    #[arg(short, long, visible_short_alias = 'R')]
    pub(crate) recursive: bool,
    /// Replace files that are there
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Files in flight [default: twice the processors, at most 16]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// No progress bar on a terminal
    #[arg(long)]
    no_progress: bool,
    /// Say nothing but what failed
    #[arg(short, long)]
    quiet: bool,
}

impl TransferOptions {
    fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        self.jobs.map_or_else(|| (2 * cores).min(16), usize::from)
    }
}

/// A transfer that is under way: its files run side by side, as many as `--jobs` says.
#[derive(Debug)]
pub(crate) struct Transfer {
    verb: &'static str,
    quiet: bool,
    context: Context,
    shared: Arc<Shared>,
    jobs: JoinSet<()>,
    permits: Arc<Semaphore>,
    clock: SystemClock,
    begun: Moment,
}

/// What the jobs of a transfer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) context: Context,
    pub(crate) progress: Progress,
    pub(crate) force: bool,
    stopped: AtomicBool,
}

impl Shared {
    /// An item failed: says so and goes on, unless nothing else can succeed either.
    pub(crate) async fn failed(&self, failure: Failure) {
        let failure = self.context.explained(failure).await;
        if failure.is_quiet() || ends_everything(failure.code()) {
            self.stopped.store(true, Ordering::Relaxed);
        }
        self.progress.aside(|| self.context.output.item_failed(&failure));
    }
    /// Says that an item was left out, and why.
    pub(crate) fn left_out(&self, path: &str, why: &str) {
        self.progress.aside(|| self.context.output.item_left_out(path, why));
    }
    /// Has a failure happened after which no further file makes sense?
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// After these no other file of the transfer can succeed: each would wait in vain for its whole deadline.
const fn ends_everything(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::NoSpace | ErrorCode::NotEnoughNodes | ErrorCode::SafeMode)
}

impl Transfer {
    pub(crate) fn new(verb: &'static str, options: &TransferOptions, context: &Context) -> Self {
        let wanted = !options.no_progress && !options.quiet && !context.output.is_json();
        let shared = Shared {
            context: context.clone(),
            progress: Progress::new(verb, wanted),
            force: options.force,
            stopped: AtomicBool::new(false),
        };
        let clock = SystemClock::new();
        Self {
            verb,
            quiet: options.quiet,
            context: context.clone(),
            shared: Arc::new(shared),
            jobs: JoinSet::new(),
            permits: Arc::new(Semaphore::new(options.jobs())),
            begun: clock.now(),
            clock,
        }
    }
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Starts the copy of a file once there is room for it. It answers with the failure of its item.
    pub(crate) async fn start(&mut self, copy: impl Future<Output = Outcome> + Send + 'static) {
        let shared = self.shared();
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
        while self.jobs.try_join_next().is_some() {}
        self.jobs.spawn(async move {
            match copy.await {
                Ok(()) => {
                    shared.progress.file_done();
                    shared.context.output.item_done();
                }
                Err(failure) => shared.failed(failure).await,
            }
            drop(permit);
        });
    }

    /// Waits for all files that were started.
    pub(crate) async fn settle(&mut self) {
        while self.jobs.join_next().await.is_some() {}
    }

    /// Waits for all files and says how it went; `summary` asks for the last line in text, too.
    pub(crate) async fn finish(mut self, summary: bool) -> Outcome {
        self.settle().await;
        let progress = &self.shared.progress;
        progress.clear();
        let seconds = self.clock.now().since(self.begun).as_secs_f64();
        let (files, bytes) = (progress.files(), progress.bytes());
        let (failed, left_out) = (self.context.output.failed(), self.context.output.left_out());
        if self.context.output.is_json() {
            return self.context.output.object(&json!({
                "v": 1, "type": "summary", "op": self.verb, "files": files, "bytes": bytes, "failed": failed,
                "left_out": left_out, "seconds": (seconds * 1000.0).round() / 1000.0,
            }));
        }
        if !summary || self.quiet {
            return Ok(());
        }
        let rate = size((bytes as f64 / seconds.max(0.001)) as u64);
        let verb = self.verb;
        let left_out = if left_out > 0 { format!(", {left_out} left out") } else { String::new() };
        let moved = format!("{} in {seconds:.1} s ({rate}/s)", size(bytes));
        self.context.output.line(&format!("{verb} {files} files, {moved}, {failed} failed{left_out}"))
    }
}

/// Runs a local call off the async threads.
pub(crate) async fn local<T: Send + 'static>(
    what: &str,
    path: &std::path::Path,
    call: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let failed = |error: std::io::Error| Failure::local(what, path, &error);
    base::task::blocking(call).await.map_err(failed)?.map_err(failed)
}
