//! Where verbs print: text for people, one JSON object a line for scripts; and what they end with.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::text::plain;
use crate::exit::Status;

/// Where a verb prints. Clones share the count of failures.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    /// Standard output carries data: failures go to standard error.
    data_on_stdout: bool,
    failures: Arc<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    count: AtomicU64,
    successes: AtomicU64,
    left_out: AtomicU64,
    /// Status of all failures while they agree; 0 before the first; FAILED once they do not.
    status: AtomicU64,
    broken: CancellationToken,
}

impl Output {
    pub(crate) fn new(json: bool, data_on_stdout: bool) -> Self {
        Self { json, data_on_stdout, failures: Arc::default() }
    }
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").map_err(|error| Failure::output(&error))
    }
    /// Prints an object.
    pub(crate) fn object(&self, value: &Value) -> Result<(), Failure> {
        self.line(&value.to_string())
    }
    /// Prints an object of a type of its own.
    pub(crate) fn record(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::output(&error.into()))?;
        self.line(&text)
    }
    /// Prints many lines with few system calls.
    pub(crate) fn block(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }
    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Hands everything that was printed on.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        io::stdout().lock().flush().map_err(|error| Failure::output(&error))
    }

    /// Says that an item failed, and goes on.
    pub(crate) fn item_failed(&self, failure: &Failure) {
        let status = u64::from(failure.status().0);
        self.failures.count.fetch_add(1, Ordering::Relaxed);
        let agreed = self.failures.status.compare_exchange(0, status, Ordering::Relaxed, Ordering::Relaxed);
        if agreed.is_err_and(|other| other != status) {
            self.failures.status.store(u64::from(Status::FAILED.0), Ordering::Relaxed);
        }
        self.failure(failure);
    }
    /// Counts an item that was done.
    pub(crate) fn item_done(&self) {
        self.failures.successes.fetch_add(1, Ordering::Relaxed);
    }
    /// Says that an item was left out, and why: the rest was done, so all of it was not.
    pub(crate) fn item_left_out(&self, path: &str, why: &str) {
        self.failures.left_out.fetch_add(1, Ordering::Relaxed);
        if !self.json {
            return self.note(&format!("{} {why} and was left out", plain(path)));
        }
        let object = json!({"v": 1, "type": "left-out", "path": path, "message": why});
        if let Err(failure) = self.object(&object) {
            self.failure(&failure);
        }
    }
    pub(crate) fn left_out(&self) -> u64 {
        self.failures.left_out.load(Ordering::Relaxed)
    }
    pub(crate) fn failed(&self) -> u64 {
        self.failures.count.load(Ordering::Relaxed)
    }
    /// Exit status of a verb that came to its end: the failures' own if all of them agree and nothing was
    /// done, else "at least one item failed", as for items that were left out.
    pub(crate) fn status(&self) -> Status {
        let status = self.failures.status.load(Ordering::Relaxed);
        if self.left_out() > 0 {
            return Status::FAILED;
        }
        match (self.failed(), self.failures.successes.load(Ordering::Relaxed)) {
            (0, _) => Status::OK,
            (_, 0) => Status(u8::try_from(status).unwrap_or(Status::FAILED.0)),
            _ => Status::FAILED,
        }
    }

    /// Prints a failure.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_quiet() {
            self.failures.broken.cancel();
            return;
        }
        if failure.is_verdict() {
            return;
        }
        let printed = match (self.json, self.data_on_stdout) {
            (true, false) => writeln!(io::stdout().lock(), "{}", failure.json()),
            (true, true) => writeln!(io::stderr().lock(), "{}", failure.json()),
            (false, _) => writeln!(io::stderr().lock(), "{}", failure.text()),
        };
        if printed.is_err() {
            self.failures.broken.cancel();
        }
    }
    /// Says something that is no failure.
    pub(crate) fn note(&self, text: &str) {
        if !self.json && writeln!(io::stderr().lock(), "note: {text}").is_err() {
            self.failures.broken.cancel();
        }
    }
}

/// Is somebody watching standard error?
pub(crate) fn on_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_failures_own_only_if_nothing_was_done() {
        let missing = Failure::from(client::FsError::not_found("/x"));
        let output = Output::new(true, true);
        assert_eq!(output.status(), Status::OK);
        output.item_failed(&missing);
        assert_eq!(output.status(), Status::NOT_FOUND);
        output.item_done();
        assert_eq!(output.status(), Status::FAILED);
        let output = Output::new(false, true);
        output.item_done();
        output.item_left_out("/x", "is being written");
        assert_eq!(output.status(), Status::FAILED, "what was left out was asked for");
    }
}
