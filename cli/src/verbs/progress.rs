//! A bar on a terminal, and the counts behind it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::on_terminal;

/// Redraws in a second, at most.
const DRAWS_PER_SECOND: u8 = 10;

/// What a transfer has done so far.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    files: AtomicU64,
    bytes: AtomicU64,
    found_bytes: AtomicU64,
    /// Keeps the bar and the lines of failures apart.
    screen: Mutex<()>,
}

impl Progress {
    /// Counts, and a bar if somebody watches and `wanted`.
    pub(crate) fn new(verb: &'static str, wanted: bool) -> Self {
        let bar = (wanted && on_terminal()).then(|| bar(verb));
        let zero = || AtomicU64::new(0);
        Self { bar, files: zero(), bytes: zero(), found_bytes: zero(), screen: Mutex::new(()) }
    }
    /// More to do was found.
    pub(crate) fn found(&self, bytes: u64) {
        let found = self.found_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = &self.bar {
            bar.set_length(found);
        }
    }
    /// Bytes were copied.
    pub(crate) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }
    /// A file is whole at its target.
    pub(crate) fn file_done(&self) {
        let files = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{files} files"));
        }
    }
    pub(crate) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    /// Prints something while the bar is away.
    pub(crate) fn aside(&self, print: impl FnOnce()) {
        // A thread that panicked while printing leaves nothing that matters behind.
        let _screen = self.screen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(verb: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
    let template = "  {prefix}  {msg}  {binary_bytes}  {bar:28}  {percent}%  {binary_bytes_per_sec}  eta {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_prefix(verb);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
