//! What verbs print: text for people, one JSON object a line for scripts.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use client::{FileKind, FileStatus};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
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
    /// Prints many lines with few system calls.
    pub(crate) fn block(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).map_err(|error| Failure::output(&error))
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
    pub(crate) fn failed(&self) -> u64 {
        self.failures.count.load(Ordering::Relaxed)
    }
    /// Exit status of a verb that came to its end: the failures' own if all of them agree and nothing was
    /// done, else "at least one item failed".
    pub(crate) fn status(&self) -> Status {
        let status = self.failures.status.load(Ordering::Relaxed);
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

/// An entry as an object; `path` is its full path.
pub(crate) fn entry_json(status: &FileStatus, path: &str) -> Value {
    let kind = match status.kind() {
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::File | FileKind::Unspecified => "file",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharacterDevice => "character-device",
        FileKind::BlockDevice => "block-device",
    };
    json!({
        "v": 1, "type": "entry", "path": path, "kind": kind, "size": status.len_bytes,
        "replication": status.replication, "ec": null, "block_size": status.block_size_bytes,
        "owner": status.owner, "group": status.group, "mode": format!("{:04o}", status.mode),
        "mtime": time(status.mtime_ns), "atime": time(status.atime_ns), "inode": status.inode,
        "open": status.open_for_write,
    })
}

/// `-rw-r--r--`, with `d` and `l` in front and the sticky bit at the end.
pub(crate) fn mode_text(status: &FileStatus) -> String {
    let kind = match status.kind() {
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::File | FileKind::Unspecified => '-',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharacterDevice => 'c',
        FileKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    for (i, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if status.mode & (0o400 >> i) != 0 { letter } else { '-' });
    }
    if status.mode & 0o1000 != 0 {
        text.pop();
        text.push(if status.mode & 1 != 0 { 't' } else { 'T' });
    }
    text
}

/// `1.2 GiB`; bytes below 1 KiB as they are.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn time(ns: i64) -> String {
    let (seconds, below) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z", second % 60, below / 1_000_000)
}

/// For tables: UTC, to the minute.
pub(crate) fn short_time(ns: i64) -> String {
    time(ns).chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// Date of a day counted from 1970-01-01 in the Gregorian calendar. Years begin in March here, so that the
/// leap day is the last day of a year.
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// `3h12m`, `4m10s`, `12s`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

/// Lines with aligned columns; `right` names the columns that are aligned to the right.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            if c > 0 {
                line.push_str("  ");
            }
            if right.contains(&c) {
                line.push_str(&gap);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&gap);
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_400_000_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time(1_795_339_719_515_000_000), "2026-11-22T09:28:39.515Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(short_time(0), "1970-01-01 00:00");
    }

    #[test]
    fn sizes_and_durations() {
        assert_eq!([size(0), size(1023), size(1024), size(1 << 30)], ["0 B", "1023 B", "1.0 KiB", "1.0 GiB"]);
        assert_eq!(size(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!([duration(999), duration(250_000), duration(11_520_000)], ["0s", "4m10s", "3h12m"]);
    }

    #[test]
    fn modes_look_like_ls() {
        let status = |kind: FileKind, mode| FileStatus { kind: kind as i32, mode, ..FileStatus::default() };
        assert_eq!(mode_text(&status(FileKind::File, 0o754)), "-rwxr-xr--");
        assert_eq!(mode_text(&status(FileKind::Directory, 0o1777)), "drwxrwxrwt");
        assert_eq!(mode_text(&status(FileKind::Directory, 0o1770)), "drwxrwx--T");
    }

    #[test]
    fn the_status_is_the_failures_own_only_if_nothing_was_done() {
        let missing = Failure::from(client::FsError::not_found("/x"));
        let output = Output::new(true, true);
        assert_eq!(output.status(), Status::OK);
        output.item_failed(&missing);
        assert_eq!(output.status(), Status::NOT_FOUND);
        output.item_done();
        assert_eq!(output.status(), Status::FAILED);
    }
}
