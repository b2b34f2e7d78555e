//! How far a transfer is: counts, a line on a terminal, objects for scripts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::clock::Moment;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::output::on_terminal;
use super::rate::{Rate, eta_text};
use super::text::size::size;

/// Redraws in a second, at most.
const DRAWS_PER_SECOND: u8 = 10;

/// What a transfer has done so far.
#[derive(Debug)]
pub(crate) struct Progress {
    verb: &'static str,
    bar: Option<ProgressBar>,
    /// Files that were copied, or would be.
    files: AtomicU64,
    /// Bytes that were moved in this run.
    bytes: AtomicU64,
    /// Files and bytes that are to be copied, as far as is known.
    found_files: AtomicU64,
    found_bytes: AtomicU64,
    /// Files that were there already.
    same: AtomicU64,
    rate: Mutex<Rate>,
    /// Keeps the bar and the lines of failures apart.
    screen: Mutex<()>,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    files: u64,
    found_files: u64,
    bytes: u64,
    found_bytes: u64,
    rate: u64,
    eta: Option<Duration>,
}

impl Progress {
    /// Counts, and a bar if somebody watches and `wanted`.
    pub(crate) fn new(verb: &'static str, wanted: bool, now: Moment) -> Self {
        let bar = (wanted && on_terminal()).then(|| bar(verb));
        let zero = || AtomicU64::new(0);
        Self {
            verb,
            bar,
            files: zero(),
            bytes: zero(),
            found_files: zero(),
            found_bytes: zero(),
            same: zero(),
            rate: Mutex::new(Rate::new(now)),
            screen: Mutex::new(()),
        }
    }
    /// A file to copy was found.
    pub(crate) fn found(&self, bytes: u64) {
        self.found_files.fetch_add(1, Ordering::Relaxed);
        let found = self.found_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = &self.bar {
            bar.set_length(found);
        }
    }
    /// Bytes that were counted as found need not be moved: they are there.
    pub(crate) fn there(&self, bytes: u64) {
        let before = self.found_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(before.saturating_sub(bytes));
        }
    }
    /// Bytes that were moved came to nothing, and are moved once more.
    pub(crate) fn again(&self, bytes: u64) {
        let before = self.found_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(before + bytes);
        }
    }
    /// A file that was found is there already, as a whole.
    pub(crate) fn same(&self, bytes: u64) {
        self.there(bytes);
        self.found_files.fetch_sub(1, Ordering::Relaxed);
        self.same.fetch_add(1, Ordering::Relaxed);
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
        self.files.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    pub(crate) fn files_the_same(&self) -> u64 {
        self.same.load(Ordering::Relaxed)
    }

    /// Time passed: tells whoever watches the terminal.
    pub(crate) fn tick(&self, now: Moment) {
        let counts = self.sample(now);
        if let Some(bar) = &self.bar {
            bar.set_message(line(&counts));
        }
    }
    /// Where it is, as an object.
    pub(crate) fn object(&self, now: Moment) -> Value {
        object(self.verb, &self.sample(now))
    }

    fn sample(&self, now: Moment) -> Counts {
        // A thread that panicked with it leaves a rate that is a little wrong.
        let mut rate = self.rate.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (bytes, found_bytes) = (self.bytes(), self.found_bytes.load(Ordering::Relaxed));
        rate.sample(now, bytes);
        Counts {
            files: self.files(),
            found_files: self.found_files.load(Ordering::Relaxed),
            bytes,
            found_bytes,
            rate: rate.bytes_per_second(),
            eta: rate.eta(found_bytes.saturating_sub(bytes)),
        }
    }

    /// Prints something while the bar is away.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
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

/// What stands beside the bar.
fn line(counts: &Counts) -> String {
    let eta = counts.eta.map(|eta| format!("  eta {}", eta_text(eta))).unwrap_or_default();
    let (files, bytes) = (format!("{}/{} files", counts.files, counts.found_files), size(counts.bytes));
    format!("{files}  {bytes} of {}  {}/s{eta}", size(counts.found_bytes), size(counts.rate))
}

fn object(verb: &str, counts: &Counts) -> Value {
    json!({
        "v": 1, "type": "progress", "op": verb, "files_done": counts.files, "files_total": counts.found_files,
        "bytes_done": counts.bytes, "bytes_total": counts.found_bytes, "rate_bps": counts.rate,
        "eta_s": counts.eta.map(|eta| eta.as_secs()),
    })
}

fn bar(verb: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
    if let Ok(style) = ProgressStyle::with_template("  {prefix}  {bar:28}  {percent:>3}%  {msg}") {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_prefix(verb);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_line_and_an_object_say_how_far_it_is() {
        let progress = Progress::new("put", false, at(0));
        [3 << 20, 1 << 20, 7].into_iter().for_each(|bytes| progress.found(bytes));
        progress.same(7);
        progress.moved(1 << 20);
        progress.file_done();
        let counts = progress.sample(at(1000));
        assert_eq!(line(&counts), "1/2 files  1.0 MiB of 4.0 MiB  1.0 MiB/s  eta 3s");
        let object = progress.object(at(2000));
        assert_eq!((&object["files_total"], &object["bytes_done"]), (&2.into(), &(1 << 20).into()));
        assert_eq!((&object["rate_bps"], &object["eta_s"]), (&(1 << 19).into(), &6.into()));
        assert_eq!(progress.files_the_same(), 1);
    }

    #[test]
    fn nothing_is_said_of_an_end_that_is_not_known() {
        let progress = Progress::new("put", false, at(0));
        progress.found(10);
        assert_eq!(line(&progress.sample(at(500))), "0/1 files  0 B of 10 B  0 B/s");
        assert_eq!(progress.object(at(600))["eta_s"], Value::Null);
    }
}
