//! Files that are open: flushed as they are written, written on, cut.

use std::time::Duration;

use client::{AppendOptions, FsError, FsResult, Writer};

use super::Worker;
use crate::soak::model::State;
use crate::soak::plan::{PIECE_BYTES, Step};
use crate::soak::shared::{Ended, Wait};
use crate::soak::words::Content;

/// Acts of writing that one file has seen at most.
const MOST_PIECES: usize = 8;
/// Longest additions: they are many, and most of them end within a chunk.
const MOST_ADDED_BYTES: u64 = 1 << 20;
/// The end of a recovery, with time to spare (L-6: two minutes).
const RECOVERED: Duration = Duration::from_secs(150);
/// One in so many flushed files is let go instead of closed.
const LET_GO: u64 = 4;

/// What a writer was given, and what of it is acknowledged.
#[derive(Debug)]
struct Written {
    content: Content,
    /// Length that every reader must see.
    flushed_bytes: u64,
    /// A flush was asked for: readers may see the file.
    maybe_visible: bool,
}

impl Worker {
    /// A new file that is flushed now and then, and read by others meanwhile.
    pub(super) async fn write_flushed(&mut self, step: &Step) {
        let name = self.fresh();
        let content = Content::new(self.shared.number(), step.len_bytes);
        let mut written = Written { content, flushed_bytes: 0, maybe_visible: false };
        let from = self.shared.clock.now();
        let created = self.create(&self.path(&name), step, false).await;
        let outcome = match created {
            Ok(writer) => self.write_on(&name, writer, &mut written, 0, step).await,
            Err(error) => Err(error),
        };
        self.shared.ended("write_flushed", from, outcome.as_ref().err());
        self.written(&name, written, outcome, State::Absent);
    }

    /// Adds to a file.
    pub(super) async fn append(&mut self, step: &Step) {
        let Some((name, before)) = self.pick(step.pick) else { return };
        if before.pieces() >= MOST_PIECES {
            return self.delete(step).await;
        }
        let content = before.appended(self.shared.number(), 1 + step.len_bytes % MOST_ADDED_BYTES);
        let mut written = Written { content, flushed_bytes: before.len_bytes(), maybe_visible: true };
        self.book().lock().may(&name, open(&written));
        let from = self.shared.clock.now();
        let options = AppendOptions { new_block: step.other.is_multiple_of(5), ..AppendOptions::default() };
        let path = self.path(&name);
        let opened = self.names(self.client.append(&path, options)).await;
        let outcome = match opened {
            Ok(writer) => {
                if writer.position_bytes() != before.len_bytes() {
                    let text = format!("it is written on at {}, not at its end", writer.position_bytes());
                    self.shared.found("length", &path, format!("{text} ({} bytes)", before.len_bytes()));
                }
                self.write_on(&name, writer, &mut written, before.len_bytes(), step).await
            }
            // It was never open for us.
            Err(error) if Ended::by(&error) == Ended::Refused => {
                self.shared.ended("append", from, Some(&error));
                return self.book().lock().is(&name, State::whole(before));
            }
            Err(error) => Err(error),
        };
        self.shared.ended("append", from, outcome.as_ref().err());
        self.written(&name, written, outcome, State::whole(before));
    }

    /// Writes the rest of a content with flushes in between, and closes; `Ok(false)`: it was let go instead.
    async fn write_on(
        &self,
        name: &str,
        mut writer: Writer,
        written: &mut Written,
        from_bytes: u64,
        step: &Step,
    ) -> FsResult<bool> {
        let (mut at_bytes, len_bytes) = (from_bytes, written.content.len_bytes());
        let every_bytes = ((len_bytes - from_bytes) / 4).max(1);
        let (mut next_bytes, mut turn) = (from_bytes + every_bytes, step.other);
        while at_bytes < len_bytes {
            let piece = written.content.bytes(at_bytes, PIECE_BYTES.min(next_bytes.min(len_bytes) - at_bytes));
            at_bytes += piece.len() as u64;
            self.shared.metered(Wait::Write, writer.write(piece)).await?;
            if at_bytes >= next_bytes && at_bytes < len_bytes {
                next_bytes += every_bytes;
                turn = turn.rotate_right(1);
                self.flush(name, &mut writer, written, (at_bytes, turn % 2 == 0)).await?;
            }
            if !step.rest.is_zero() {
                tokio::time::sleep(step.rest).await;
            }
        }
        if written.maybe_visible && step.other.is_multiple_of(LET_GO) {
            return Ok(false);
        }
        let status = self.shared.metered(Wait::Write, writer.close()).await?;
        if status.len_bytes != len_bytes {
            let text = format!("closed with {} bytes, {len_bytes} were written", status.len_bytes);
            self.shared.found("length", &self.path(name), text);
        }
        Ok(true)
    }

    async fn flush(
        &self,
        name: &str,
        writer: &mut Writer,
        written: &mut Written,
        (at_bytes, sync): (u64, bool),
    ) -> FsResult<()> {
        if !written.maybe_visible {
            written.maybe_visible = true;
            self.book().lock().may(name, open(written));
        }
        match sync {
            true => self.shared.metered(Wait::Write, writer.sync_data()).await?,
            false => self.shared.metered(Wait::Write, writer.flush()).await?,
        }
        written.flushed_bytes = at_bytes;
        self.book().lock().grew(name, open(written));
        Ok(())
    }

    /// What the book has when a writer is done.
    fn written(&mut self, name: &str, written: Written, outcome: Result<bool, FsError>, before: State) {
        let flushed = written.flushed_bytes > before.len_bytes();
        match outcome {
            Ok(true) => self.book().lock().is(name, State::whole(written.content)),
            Err(error) if !written.maybe_visible && Ended::by(&error) == Ended::Refused => {
                self.book().lock().is(name, before);
            }
            // Recovery closes it, with all that was flushed and perhaps more. If nothing was, it may be gone, or as before.
            Ok(false) | Err(_) => {
                let least_bytes = written.flushed_bytes;
                let state = State::File { content: written.content, least_bytes };
                match flushed {
                    true => self.book().lock().is(name, state),
                    false => {
                        let mut book = self.book().lock();
                        book.may(name, before);
                        book.may(name, state);
                    }
                }
                self.doubt(name);
            }
        }
    }

    /// Cuts a file, at any byte.
    pub(super) async fn truncate(&mut self, step: &Step) {
        let Some((name, before)) = self.pick(step.pick) else { return };
        // One in four at the end of a block, if there is one.
        let any_bytes = step.other % (before.len_bytes() + 1);
        let block_bytes = any_bytes - any_bytes % (1 << 20);
        let len_bytes = if step.len_bytes.is_multiple_of(4) { block_bytes } else { any_bytes };
        let after = before.cut(len_bytes);
        self.book().lock().may(&name, State::whole(after.clone()));
        let from = self.shared.clock.now();
        let path = self.path(&name);
        let outcome = match self.names(self.client.truncate(&path, len_bytes)).await {
            Ok(cut) if !cut.done => {
                self.client.until_closed(&path, RECOVERED).await.map(drop).map_err(|error| (true, error))
            }
            Ok(_) => Ok(()),
            Err(error) => Err((false, error)),
        };
        self.shared.ended("truncate", from, outcome.as_ref().err().map(|(_, error)| error));
        match outcome {
            Ok(()) => self.book().lock().is(&name, State::whole(after)),
            // It was accepted: it happens, but not yet.
            Err((true, _)) => self.doubt(&name),
            Err((false, error)) => self.failed(&name, &error, State::whole(before)),
        }
    }
}

/// A file that is being written.
fn open(written: &Written) -> State {
    State::File { content: written.content.clone(), least_bytes: written.flushed_bytes }
}
