//! What changes something.

use client::{CreateOptions, ErrorCode, FsError, FsResult, Replace, Writer};

use super::{Snapshot, Worker};
use crate::soak::model::State;
use crate::soak::plan::{PIECE_BYTES, Step};
use crate::soak::shared::{Ended, Wait};
use crate::soak::words::Content;

impl Worker {
    pub(super) async fn write_new(&mut self, step: &Step) {
        let name = self.fresh();
        self.write("write", &name, step, State::Absent).await;
    }

    pub(super) async fn overwrite(&mut self, step: &Step) {
        let Some((name, content)) = self.pick(step.pick) else { return };
        self.write("overwrite", &name, step, State::whole(content)).await;
    }

    /// Writes a file that is `before` until it is published.
    async fn write(&mut self, operation: &'static str, name: &str, step: &Step, before: State) {
        let content = Content::new(self.shared.number(), step.len_bytes);
        self.book().lock().may(name, State::whole(content.clone()));
        let from = self.shared.clock.now();
        let overwrite = before != State::Absent;
        let outcome = self.write_whole(&self.path(name), &content, step, overwrite).await;
        self.shared.ended(operation, from, outcome.as_ref().err());
        match outcome {
            Ok(()) => self.book().lock().is(name, State::whole(content)),
            Err(error) => self.failed(name, &error, before),
        }
    }

    /// An operation on a name failed: it is as it was, or nobody knows.
    pub(super) fn failed(&mut self, name: &str, error: &FsError, before: State) {
        match Ended::by(error) {
            Ended::Unknown => self.doubt(name),
            Ended::Refused | Ended::Done => self.book().lock().is(name, before),
        }
    }

    async fn write_whole(&self, path: &str, content: &Content, step: &Step, overwrite: bool) -> FsResult<()> {
        let mut writer = self.create(path, step, overwrite).await?;
        self.pour(&mut writer, content, step, content.len_bytes()).await?;
        let status = self.shared.metered(Wait::Write, writer.close()).await?;
        if status.len_bytes != content.len_bytes() {
            let text = format!("closed with {} bytes, {} were written", status.len_bytes, content.len_bytes());
            self.shared.found("length", path, text);
        }
        Ok(())
    }

    pub(super) async fn create(&self, path: &str, step: &Step, overwrite: bool) -> FsResult<Writer> {
        let options = CreateOptions {
            overwrite,
            replication: step.replication,
            block_size_bytes: step.block_size_bytes,
            ..CreateOptions::default()
        };
        self.names(self.client.create(path, options)).await
    }

    /// Gives a writer the first bytes of a content, with rests in between.
    async fn pour(&self, writer: &mut Writer, content: &Content, step: &Step, len_bytes: u64) -> FsResult<()> {
        let mut at_bytes = 0;
        while at_bytes < len_bytes {
            let piece = content.bytes(at_bytes, PIECE_BYTES.min(len_bytes - at_bytes));
            at_bytes += piece.len() as u64;
            self.shared.metered(Wait::Write, writer.write(piece)).await?;
            if !step.rest.is_zero() {
                tokio::time::sleep(step.rest).await;
            }
        }
        Ok(())
    }

    /// Writes a part of a file and lets it go: nothing may come of it.
    pub(super) async fn abandon(&mut self, step: &Step) {
        let name = self.fresh();
        let path = self.path(&name);
        let content = Content::new(self.shared.number(), step.len_bytes);
        let from = self.shared.clock.now();
        let written = async {
            let mut writer = self.create(&path, step, false).await?;
            self.pour(&mut writer, &content, step, content.len_bytes() / 2).await
        };
        let written = written.await;
        self.shared.ended("abandon", from, written.as_ref().err());
    }

    pub(super) async fn rename(&mut self, step: &Step) {
        let Some((from, content)) = self.pick(step.pick) else { return };
        let to = self.fresh();
        self.move_to("rename", &from, &to, content, State::Absent).await;
    }

    pub(super) async fn replace(&mut self, step: &Step) {
        let (Some((from, content)), Some((to, other))) = (self.pick(step.pick), self.pick(step.other)) else { return };
        if from != to {
            self.move_to("replace", &from, &to, content, State::whole(other)).await;
        }
    }

    async fn move_to(&mut self, operation: &'static str, from: &str, to: &str, content: Content, to_was: State) {
        self.book().lock().moving(from, to);
        let replace = if to_was == State::Absent { Replace::Refuse } else { Replace::Allow };
        let began = self.shared.clock.now();
        let (from_path, to_path) = (self.path(from), self.path(to));
        let outcome = self.names(self.client.rename(&from_path, &to_path, replace)).await;
        self.shared.ended(operation, began, outcome.as_ref().err());
        match outcome.as_ref().err().map(Ended::by) {
            Some(Ended::Unknown) => {
                self.doubt(from);
                self.doubt(to);
            }
            failed => self.book().lock().moved(from, to, &content, failed.is_none(), to_was),
        }
    }

    pub(super) async fn delete(&mut self, step: &Step) {
        let Some((name, content)) = self.pick(step.pick) else { return };
        self.book().lock().may(&name, State::Absent);
        let from = self.shared.clock.now();
        let path = self.path(&name);
        let outcome = self.names(self.client.delete(&path, false)).await;
        self.shared.ended("delete", from, outcome.as_ref().err());
        match outcome {
            Ok(_) => self.book().lock().is(&name, State::Absent),
            Err(error) => self.failed(&name, &error, State::whole(content)),
        }
    }

    /// Makes a snapshot; the one before goes.
    pub(super) async fn make_snapshot(&mut self) {
        if let Some(old) = self.snapshot.take() {
            let from = self.shared.clock.now();
            let outcome = self.names(self.client.delete_snapshot(&self.dir, &old.name)).await;
            self.shared.ended("drop_snapshot", from, outcome.as_ref().err());
        }
        self.serial += 1;
        let name = format!("s{}", self.serial);
        let files = {
            let book = self.book().lock();
            let known = |name: &str| Some((name.to_owned(), book.content(name)?.clone()));
            book.certain().into_iter().filter_map(known).collect()
        };
        let from = self.shared.clock.now();
        let outcome = self.names(self.client.create_snapshot(&self.dir, &name)).await;
        self.shared.ended("snapshot", from, outcome.as_ref().err());
        match outcome {
            Ok(_) => self.snapshot = Some(Snapshot { name, files }),
            Err(error) if error.code == ErrorCode::AlreadyExists => {
                self.shared.found("snapshot", &self.dir, format!("{name} is there, nobody made it"));
            }
            // It is there or not: nobody looks at it.
            Err(_) => {}
        }
    }
}
