//! What `put`, `get`, `cp` and `sync` share: flags, many files in flight, the summary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::clock::{Clock, Moment, SystemClock};
use base::task::JoinSet;
use clap::Args;
use client::ErrorCode;
use serde_json::json;
use tokio::sync::OnceCell;

use super::Outcome;
use super::context::Context;
use super::copy::Done;
use super::failure::Failure;
use super::filter::{Filters, Rule};
use super::progress::Progress;
use super::streams::Streams;
use super::text::plain;
use super::text::size::size;

/// Bytes that are read or written of a local file at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Time between two lines of progress on a terminal.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// Time between two objects of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Flags of `put`, `get` and `cp` that say what is copied over what.
#[derive(Debug, Clone, Args)]
pub(crate) struct TransferOptions {
    /// Directories with all that is in them
    #[arg(short, long, visible_short_alias = 'R')]
    pub(crate) recursive: bool,
    /// Replace files that are there
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Leave files alone that are there as a whole already, and go on where an earlier run was cut off
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) flow: FlowOptions,
}

/// Flags of everything that copies.
#[derive(Debug, Clone, Args)]
pub(crate) struct FlowOptions {
    /// Take only files that fit; repeat for more
    #[arg(long, value_name = "PATTERN", value_parser = Rule::parse)]
    include: Vec<Rule>,
    /// Leave out files and directories that fit; repeat for more
    #[arg(long, value_name = "PATTERN", value_parser = Rule::parse)]
    exclude: Vec<Rule>,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Read every copy again, and compare it with what was read of its source
    #[arg(long)]
    pub(crate) verify: bool,
    /// Files in flight [default: twice the processors, at most 16]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// With --json: say every second how far it is
    #[arg(long)]
    progress: bool,
    /// No progress bar on a terminal
    #[arg(long)]
    no_progress: bool,
    /// Say nothing but what failed
    #[arg(short, long)]
    quiet: bool,
}

impl FlowOptions {
    fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        self.jobs.map_or_else(|| (2 * cores).min(16), usize::from)
    }
    fn filters(&self) -> Filters {
        Filters { include: self.include.clone(), exclude: self.exclude.clone() }
    }
}

/// How the files of a transfer are treated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// A file that is there is replaced.
    pub(crate) force: bool,
    /// One that is there as a whole stays, and downloads can go on.
    pub(crate) resume: bool,
    /// Every copy is read again.
    pub(crate) verify: bool,
    /// Nothing is changed.
    pub(crate) dry_run: bool,
}

impl TransferOptions {
    fn manner(&self) -> Manner {
        let Self { force, resume, flow, .. } = self;
        Manner { force: *force, resume: *resume, verify: flow.verify, dry_run: flow.dry_run }
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
    clock: Arc<SystemClock>,
    begun: Moment,
    /// Whoever tells how far it is; ends with the transfer.
    ticker: JoinSet<()>,
}

/// What the jobs of a transfer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) context: Context,
    pub(crate) progress: Progress,
    pub(crate) manner: Manner,
    pub(crate) filters: Filters,
    pub(crate) streams: Streams,
    /// Block size of new files in the cluster, once it was asked.
    block_size_bytes: OnceCell<u64>,
    stopped: AtomicBool,
    /// What `sync` removed.
    removed: AtomicU64,
}

/// What would be done, if this were no dry run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// `copy`, `mkdir`, `link`, `remove`.
    pub(crate) act: &'static str,
    /// Where from; empty if it comes from nowhere.
    pub(crate) from: &'a str,
    /// What is changed.
    pub(crate) path: &'a str,
    pub(crate) bytes: u64,
}

impl Plan<'_> {
    fn text(&self) -> String {
        let (act, path) = (self.act, plain(self.path));
        match self.act {
            "copy" => format!("would copy {} to {path} ({})", plain(self.from), size(self.bytes)),
            "link" => format!("would link {path} to {}", plain(self.from)),
            _ => format!("would {act} {path}"),
        }
    }
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
    /// Tells what would be done.
    pub(crate) fn planned(&self, plan: Plan<'_>) -> Outcome {
        let Plan { act, from, path, bytes } = plan;
        self.progress.aside(|| match self.context.output.is_json() {
            false => self.context.output.line(&plan.text()),
            true => self.context.output.object(&json!({
                "v": 1, "type": "plan", "act": act, "from": from, "path": path, "size": bytes,
            })),
        })
    }
    /// Something was removed, or would be.
    pub(crate) fn removed(&self) {
        self.removed.fetch_add(1, Ordering::Relaxed);
    }
    /// Block size of new files, in bytes, unless somebody says otherwise.
    pub(crate) async fn block_size_bytes(&self) -> Result<u64, Failure> {
        let ask = async || Ok(self.context.client.server_info().await?.block_size_bytes);
        self.block_size_bytes.get_or_try_init(ask).await.copied()
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
        Self::with(verb, &options.flow, options.manner(), context)
    }

    /// A transfer whose files are treated in this manner.
    pub(crate) fn with(verb: &'static str, flow: &FlowOptions, manner: Manner, context: &Context) -> Self {
        let json = context.output.is_json();
        let clock = Arc::new(SystemClock::new());
        let begun = clock.now();
        let shared = Arc::new(Shared {
            context: context.clone(),
            progress: Progress::new(verb, !flow.no_progress && !flow.quiet && !json && !flow.dry_run, begun),
            manner,
            filters: flow.filters(),
            streams: Streams::new(flow.jobs()),
            block_size_bytes: OnceCell::new(),
            stopped: AtomicBool::new(false),
            removed: AtomicU64::new(0),
        });
        let mut ticker = JoinSet::new();
        ticker.spawn(tell(Arc::clone(&shared), Arc::clone(&clock), json && flow.progress));
        Self { verb, quiet: flow.quiet, context: context.clone(), shared, jobs: JoinSet::new(), begun, clock, ticker }
    }
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Starts the copy of a file once there is room for it. It answers with the failure of its item.
    pub(crate) async fn start(&mut self, copy: impl Future<Output = Result<Done, Failure>> + Send + 'static) {
        let shared = self.shared();
        let Some(stream) = shared.streams.take().await else { return };
        while self.jobs.try_join_next().is_some() {}
        self.jobs.spawn(async move {
            match copy.await {
                Ok(done) => {
                    // One that is the same said so itself.
                    if done != Done::Same {
                        shared.progress.file_done();
                    }
                    shared.context.output.item_done();
                }
                Err(failure) => shared.failed(failure).await,
            }
            drop(stream);
        });
    }

    /// Waits for all files that were started.
    pub(crate) async fn settle(&mut self) {
        while self.jobs.join_next().await.is_some() {}
    }

    /// Waits for all files and says how it went; `summary` asks for the last line in text, too.
    pub(crate) async fn finish(mut self, summary: bool) -> Outcome {
        self.settle().await;
        self.ticker.shutdown().await;
        self.shared.progress.clear();
        let totals = Totals {
            verb: self.verb,
            dry_run: self.shared.manner.dry_run,
            seconds: self.clock.now().since(self.begun).as_secs_f64(),
            files: self.shared.progress.files(),
            bytes: self.shared.progress.bytes(),
            same: self.shared.progress.files_the_same(),
            removed: self.shared.removed.load(Ordering::Relaxed),
            failed: self.context.output.failed(),
            left_out: self.context.output.left_out(),
        };
        if self.context.output.is_json() {
            return self.context.output.object(&totals.object());
        }
        if (!summary && !totals.dry_run) || self.quiet { Ok(()) } else { self.context.output.line(&totals.text()) }
    }
}

/// Tells how far it is, until it is dropped.
async fn tell(shared: Arc<Shared>, clock: Arc<SystemClock>, as_objects: bool) {
    let every = if as_objects { TELL_EVERY } else { DRAW_EVERY };
    loop {
        tokio::time::sleep(every).await;
        let now = clock.now();
        shared.progress.tick(now);
        if as_objects && let Err(failure) = shared.context.output.object(&shared.progress.object(now)) {
            shared.failed(failure).await;
            return;
        }
    }
}

/// How a transfer went.
#[derive(Clone, Copy, Debug)]
struct Totals {
    verb: &'static str,
    dry_run: bool,
    seconds: f64,
    files: u64,
    bytes: u64,
    same: u64,
    removed: u64,
    failed: u64,
    left_out: u64,
}

impl Totals {
    fn object(&self) -> serde_json::Value {
        json!({
            "v": 1, "type": "summary", "op": self.verb, "files": self.files, "bytes": self.bytes, "same": self.same,
            "removed": self.removed, "failed": self.failed, "left_out": self.left_out, "dry_run": self.dry_run,
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
        })
    }
    fn text(&self) -> String {
        let Self { verb, seconds, files, same, removed, failed, left_out, .. } = self;
        let rate = size((self.bytes as f64 / seconds.max(0.001)) as u64);
        let moved = match self.dry_run {
            true => "nothing was done".to_owned(),
            false => format!("{} in {seconds:.1} s ({rate}/s)", size(self.bytes)),
        };
        let some = |count: &u64, what: &str| if *count > 0 { format!(", {count} {what}") } else { String::new() };
        let (same, removed) = (some(same, "the same"), some(removed, "removed"));
        format!("{verb} {files} files, {moved}{same}{removed}, {failed} failed{}", some(left_out, "left out"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_what_there_was() {
        let totals = Totals {
            verb: "put",
            dry_run: false,
            seconds: 2.0,
            files: 3,
            bytes: 4 << 20,
            same: 0,
            removed: 0,
            failed: 0,
            left_out: 0,
        };
        assert_eq!(totals.text(), "put 3 files, 4.0 MiB in 2.0 s (2.0 MiB/s), 0 failed");
        let more = Totals { same: 5, removed: 1, left_out: 2, ..totals };
        assert_eq!(
            more.text(),
            "put 3 files, 4.0 MiB in 2.0 s (2.0 MiB/s), 5 the same, 1 removed, 0 failed, 2 left out"
        );
        let dry = Totals { dry_run: true, ..totals };
        assert_eq!(dry.text(), "put 3 files, nothing was done, 0 failed");
        assert_eq!(dry.object()["dry_run"], true);
    }

    #[test]
    fn plans_are_sentences() {
        let plan = |act, from| Plan { act, from, path: "/x\n", bytes: 2048 }.text();
        assert_eq!(plan("copy", "a"), "would copy a to /x? (2.0 KiB)");
        assert_eq!(plan("link", "b"), "would link /x? to b");
        assert_eq!([plan("mkdir", ""), plan("remove", "")], ["would mkdir /x?", "would remove /x?"]);
    }
}
