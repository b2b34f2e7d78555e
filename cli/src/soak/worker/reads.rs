//! What only looks.

use std::ops::Range;
use std::sync::atomic::Ordering;

use client::{ErrorCode, FsError, FsResult};

use super::Worker;
use crate::soak::finish::every_replica;
use crate::soak::model::State;
use crate::soak::plan::Step;
use crate::soak::reading;
use crate::soak::shared::{TOP, Wait};
use crate::soak::words::Content;

/// Ranges that are read at once, and their length at most.
const RANGES: u64 = 4;
const RANGE_BYTES: u64 = 100_000;

impl Worker {
    pub(super) async fn read_own(&self, step: &Step) {
        let Some((name, content)) = self.pick(step.pick) else { return };
        self.read("read", &self.path(&name), content).await;
    }

    /// Reads a file of which everything is known.
    async fn read(&self, operation: &'static str, path: &str, content: Content) {
        let from = self.shared.clock.now();
        let outcome = reading::judge(&self.shared, &self.client, path, vec![State::whole(content)]).await;
        self.shared.ended(operation, from, outcome.as_ref().err());
        if let Ok(Err(wrong)) = outcome {
            self.shared.found_wrong(path, &wrong);
        }
    }

    pub(super) async fn read_other(&self, step: &Step) {
        let workers = self.shared.books.len() as u64 - 1;
        let whose = usize::try_from(step.other % workers.max(1)).unwrap_or(0);
        let (name, version, allowed) = {
            let book = self.shared.books[whose].lock();
            let names = book.names();
            let Some(at) = step.pick.checked_rem(names.len() as u64) else { return };
            let Some(name) = usize::try_from(at).ok().and_then(|at| names.get(at).cloned()) else { return };
            let (version, allowed) = book.allowed(&name);
            (name, version, allowed)
        };
        let path = format!("{TOP}/w{whose}/{name}");
        let from = self.shared.clock.now();
        let outcome = reading::judge(&self.shared, &self.client, &path, allowed).await;
        let unchanged = self.shared.books[whose].lock().unchanged(&name, version);
        if !unchanged {
            self.shared.unjudged.fetch_add(1, Ordering::Relaxed);
            return self.shared.ended("read_other", from, None);
        }
        self.shared.ended("read_other", from, outcome.as_ref().err());
        if let Ok(Err(wrong)) = outcome {
            self.shared.found_wrong(&path, &wrong);
        }
    }

    pub(super) async fn read_ranges(&self, step: &Step) {
        let Some((name, content)) = self.pick(step.pick) else { return };
        let path = self.path(&name);
        let from = self.shared.clock.now();
        let outcome = self.compare_ranges(&path, &content, step.other).await;
        self.shared.ended("read_ranges", from, outcome.as_ref().err());
        match outcome {
            Err(error) if error.code == ErrorCode::NotFound => self.shared.found("lost", &path, "it is not there"),
            Ok(Some(text)) => self.shared.found("wrong", &path, text),
            Ok(None) | Err(_) => {}
        }
    }

    /// What is wrong with some ranges.
    async fn compare_ranges(&self, path: &str, content: &Content, seed: u64) -> FsResult<Option<String>> {
        let reader = self.names(self.client.open(path)).await?;
        if reader.len_bytes() != content.len_bytes() {
            let text = format!("it has {} bytes, {} ought to be", reader.len_bytes(), content.len_bytes());
            return Ok(Some(text));
        }
        let ranges = ranges(content.len_bytes(), seed);
        let all = self.shared.metered(Wait::Read, reader.read_ranges(&ranges)).await?;
        for (range, bytes) in ranges.iter().zip(&all) {
            if bytes.len() as u64 != range.end - range.start {
                return Ok(Some(format!("{} bytes came for {range:?}", bytes.len())));
            }
            if let Some(difference) = content.differs(range.start, bytes) {
                return Ok(Some(difference.text(self.shared.newest())));
            }
            self.shared.checked_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.shared.checked.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    pub(super) async fn list(&self) {
        let from = self.shared.clock.now();
        let outcome = self.listed().await;
        self.shared.ended("list", from, outcome.as_ref().err());
        let Ok(names) = outcome else { return };
        self.shared.checked.fetch_add(1, Ordering::Relaxed);
        let wrong = self.book().lock().judge_listing(&names);
        if let Some(text) = wrong {
            self.shared.found("listing", &self.dir, text);
        }
    }

    pub(super) async fn listed(&self) -> FsResult<Vec<String>> {
        let entries = self.names(self.client.list(&self.dir)?.collect()).await?;
        Ok(entries.into_iter().map(|entry| entry.path).collect())
    }

    pub(super) async fn read_snapshot(&self, step: &Step) {
        let Some(snapshot) = &self.snapshot else { return };
        let Some(at) = step.pick.checked_rem(snapshot.files.len() as u64) else { return };
        let Some((name, content)) = snapshot.files.iter().nth(usize::try_from(at).unwrap_or(0)) else { return };
        self.read("read_snapshot", &self.snapshot_path(&snapshot.name, name), content.clone()).await;
    }

    pub(super) fn snapshot_path(&self, snapshot: &str, name: &str) -> String {
        format!("{}/.snapshot/{snapshot}/{name}", self.dir)
    }
}

/// Ranges of a file that a number stands for.
fn ranges(len_bytes: u64, seed: u64) -> Vec<Range<u64>> {
    let one = |turn: u64| {
        let start = seed.rotate_left(13 * u32::try_from(turn).unwrap_or(0)).checked_rem(len_bytes)?;
        let end = (start + 1 + seed.rotate_right(7) % RANGE_BYTES).min(len_bytes);
        Some(start..end)
    };
    (0..RANGES).filter_map(one).collect()
}

/// Everything of the worker's own, at the end.
impl Worker {
    /// Compares every file, the listing, and the snapshot with the book; nothing is in doubt any more.
    ///
    /// # Errors
    /// The client's.
    pub(in crate::soak) async fn verify_all(&self) -> Result<(), FsError> {
        let names = self.listed().await?;
        let (wrong, known) = {
            let book = self.book().lock();
            (book.judge_listing(&names), book.names())
        };
        if let Some(text) = wrong {
            self.shared.found("listing", &self.dir, text);
        }
        for name in known {
            let (path, (_, allowed)) = (self.path(&name), self.book().lock().allowed(&name));
            self.verify(&path, allowed).await?;
        }
        if let Some(snapshot) = &self.snapshot {
            for (name, content) in &snapshot.files {
                let path = self.snapshot_path(&snapshot.name, name);
                self.verify(&path, vec![State::whole(content.clone())]).await?;
            }
        }
        Ok(())
    }

    async fn verify(&self, path: &str, allowed: Vec<State>) -> FsResult<()> {
        let outcome = reading::judge(&self.shared, &self.client, path, allowed).await;
        match outcome {
            Ok(Ok(state)) => {
                every_replica(&self.shared, &self.client, path, &state).await;
                Ok(())
            }
            Ok(Err(wrong)) => {
                self.shared.found_wrong(path, &wrong);
                Ok(())
            }
            Err(error) => {
                self.shared.found("unreadable", path, error.to_string());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_within_the_file() {
        for len_bytes in [0, 1, 7, 99_999, 12 << 20] {
            for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
                let ranges = ranges(len_bytes, seed);
                assert_eq!(ranges.is_empty(), len_bytes == 0);
                assert!(ranges.iter().all(|range| range.start < range.end && range.end <= len_bytes));
            }
        }
    }
}
