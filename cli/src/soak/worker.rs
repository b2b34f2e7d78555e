//! A worker: does what its steps say in a directory of its own, and keeps book of what was acknowledged.

mod open;
mod reads;
mod settle;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use base::task::CancellationToken;
use client::{Client, FsResult, LocalReads};
use parking_lot::Mutex;

use super::model::Book;
use super::plan::{Kind, Step, Steps};
use super::shared::{Shared, TOP, Wait};
use super::words::Content;
use crate::verbs::Failure;

/// Files that a worker has at most: a run takes a bounded room.
const MOST_FILES: usize = 20;
/// Longest time of one step; every call has a shorter deadline of its own.
const STEP_LIMIT: Duration = Duration::from_secs(240);
/// Rest between two steps.
const REST: Duration = Duration::from_millis(10);

/// What a directory held when a snapshot was made.
#[derive(Debug)]
struct Snapshot {
    name: String,
    files: BTreeMap<String, Content>,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    number: usize,
    shared: Arc<Shared>,
    client: Client,
    steps: Steps,
    dir: String,
    serial: u64,
    snapshot: Option<Snapshot>,
    /// Names in doubt, and since when.
    doubts: VecDeque<(Moment, String)>,
}

impl Worker {
    /// Worker `number` of a run. Half of them read through the network alone.
    ///
    /// # Errors
    /// If a client cannot be built.
    pub(super) fn new(shared: Arc<Shared>, seed: u64, number: usize) -> Result<Self, Failure> {
        let local = if number.is_multiple_of(2) { LocalReads::Auto } else { LocalReads::Off };
        Ok(Self {
            number,
            client: shared.client(local)?,
            shared,
            steps: Steps::new(seed, number as u64),
            dir: format!("{TOP}/w{number}"),
            serial: 0,
            snapshot: None,
            doubts: VecDeque::new(),
        })
    }

    /// Makes its directory, before anything breaks.
    ///
    /// # Errors
    /// The client's.
    pub(super) async fn prepare(&self) -> FsResult<()> {
        self.client.mkdir(&self.dir, 0o755, true).await?;
        self.client.allow_snapshots(&self.dir, true).await
    }

    /// Works until told to end; what is under way then is done first.
    pub(super) async fn run(mut self, end: CancellationToken) -> Self {
        while !end.is_cancelled() {
            let Some(step) = self.steps.next() else { break };
            if tokio::time::timeout(STEP_LIMIT, self.step(&step)).await.is_err() {
                let text = format!("{} did not end within {STEP_LIMIT:?}", step.kind.name());
                self.shared.found("endless", &self.dir, text);
            }
            self.settle_old().await;
            tokio::time::sleep(REST).await;
        }
        self
    }

    async fn step(&mut self, step: &Step) {
        let files = self.book().lock().certain().len();
        let kind = match step.kind {
            Kind::Write | Kind::WriteFlushed if files >= MOST_FILES => Kind::Delete,
            // Nothing is there yet.
            Kind::Overwrite
            | Kind::Append
            | Kind::Truncate
            | Kind::Read
            | Kind::ReadRanges
            | Kind::Rename
            | Kind::Delete
                if files == 0 =>
            {
                Kind::Write
            }
            Kind::Replace if files < 2 => Kind::Write,
            kind => kind,
        };
        match kind {
            Kind::Write => self.write_new(step).await,
            Kind::Overwrite => self.overwrite(step).await,
            Kind::WriteFlushed => self.write_flushed(step).await,
            Kind::Append => self.append(step).await,
            Kind::Truncate => self.truncate(step).await,
            Kind::Abandon => self.abandon(step).await,
            Kind::Read => self.read_own(step).await,
            Kind::ReadRanges => self.read_ranges(step).await,
            Kind::ReadOther => self.read_other(step).await,
            Kind::Rename => self.rename(step).await,
            Kind::Replace => self.replace(step).await,
            Kind::Delete => self.delete(step).await,
            Kind::List => self.list().await,
            Kind::Snapshot => self.make_snapshot().await,
            Kind::ReadSnapshot => self.read_snapshot(step).await,
        }
    }

    fn book(&self) -> &Mutex<Book> {
        // There is one for each worker.
        &self.shared.books[self.number]
    }
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }
    fn fresh(&mut self) -> String {
        self.serial += 1;
        format!("f{}", self.serial)
    }
    /// A file of which everything is known.
    fn pick(&self, number: u64) -> Option<(String, Content)> {
        let book = self.book().lock();
        let names = book.certain();
        let at = usize::try_from(number.checked_rem(names.len() as u64)?).ok()?;
        let name = *names.get(at)?;
        Some((name.to_owned(), book.content(name)?.clone()))
    }
    fn doubt(&mut self, name: &str) {
        self.doubts.push_back((self.shared.clock.now(), name.to_owned()));
    }
    async fn names<T>(&self, call: impl Future<Output = FsResult<T>>) -> FsResult<T> {
        self.shared.metered(Wait::Names, call).await
    }
}
