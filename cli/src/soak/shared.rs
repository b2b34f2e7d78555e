//! What all parts of a run share: numbers for writers, books of names, figures, findings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use base::clock::{Clock, Moment};
use base::task::JoinSet;
use client::{Client, ErrorCode, FsError, LocalReads};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::task::JoinError;

use super::model::{Book, Wrong};
use super::stall::{Cause, Faulty, Stalls};
use super::words::WriterNumber;
use crate::verbs::Failure;

/// Directory that everything happens in.
pub(super) const TOP: &str = "/soak";
/// Findings that are told one by one; more are counted.
const TOLD: usize = 40;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// A writer takes bytes, or closes.
    Write,
    /// A reader gives bytes.
    Read,
    /// A call on names.
    Names,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ended {
    Done,
    /// It did not happen.
    Refused,
    /// Nobody knows whether it happened.
    Unknown,
}

impl Ended {
    /// What an error of the client says.
    pub(super) fn by(error: &FsError) -> Self {
        if error.code == ErrorCode::OutcomeUnknown { Self::Unknown } else { Self::Refused }
    }
    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that must not be.
#[derive(Clone, Debug)]
struct Finding {
    what: &'static str,
    place: String,
    text: String,
    at_s: u64,
}

#[derive(Debug, Default)]
struct Findings {
    told: Vec<Finding>,
    count: u64,
    lost_bytes: u64,
    wrong: u64,
}

#[derive(Debug, Default)]
struct Figures {
    operations: BTreeMap<(&'static str, Ended), u64>,
    /// Operations that failed, by what was broken, with the first error of each.
    failed: BTreeMap<(&'static str, Cause), (u64, String)>,
    faults: BTreeMap<&'static str, u64>,
    stalls: BTreeMap<Wait, Stalls>,
    repairs_ms: Vec<u64>,
    repairs_missed: u64,
    killed: BTreeMap<Killed, u64>,
}

/// How far a client was that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Killed {
    /// It was to flush now and then, and had said that something is flushed.
    Flushed,
    /// It was to flush, and had not.
    Unflushed,
    /// It never flushes, and had taken some of its bytes.
    Writing,
    /// It never flushes, and had not begun.
    Idle,
}

impl Killed {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Flushed, "flushed"), (Self::Unflushed, "unflushed"), (Self::Writing, "writing"), (Self::Idle, "idle")];
}

/// So many clients that were killed must have been in the middle of something, one of them at least.
const KILLED_ENOUGH: u64 = 4;

/// Shared by all parts of a run.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) began: Moment,
    fs: String,
    user: String,
    newest: AtomicU32,
    /// One for each worker's directory; the last one for killed clients.
    pub(super) books: Vec<Mutex<Book>>,
    faulty: Mutex<Faulty>,
    figures: Mutex<Figures>,
    findings: Mutex<Findings>,
    /// Bytes that were read and compared.
    pub(super) checked_bytes: AtomicU64,
    /// Files, listings and ranges that were compared.
    pub(super) checked: AtomicU64,
    /// Replicas that were read whole at the end and compared.
    pub(super) checked_replicas: AtomicU64,
    /// Reads of files that changed meanwhile.
    pub(super) unjudged: AtomicU64,
}

impl Shared {
    /// For a cluster, with books for so many workers and one for killed clients.
    pub(super) fn new(clock: Arc<dyn Clock>, fs: String, user: String, workers: usize) -> Arc<Self> {
        let began = clock.now();
        Arc::new(Self {
            clock,
            began,
            fs,
            user,
            newest: AtomicU32::new(0),
            books: (0..=workers).map(|_| Mutex::default()).collect(),
            faulty: Mutex::default(),
            figures: Mutex::default(),
            findings: Mutex::default(),
            checked_bytes: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            checked_replicas: AtomicU64::new(0),
            unjudged: AtomicU64::new(0),
        })
    }
    /// The cluster's address.
    pub(super) fn fs(&self) -> &str {
        &self.fs
    }
    /// A client with connections and a session of its own.
    ///
    /// # Errors
    /// If its settings make no sense.
    pub(super) fn client(&self, local_reads: LocalReads) -> Result<Client, Failure> {
        let builder = Client::builder().connect(&self.fs).user(&self.user).local_reads(local_reads);
        builder.build().map_err(Failure::from)
    }
    /// A number for an act of writing.
    pub(super) fn number(&self) -> WriterNumber {
        WriterNumber(self.newest.fetch_add(1, Ordering::Relaxed) + 1)
    }
    /// The last number that was given.
    pub(super) fn newest(&self) -> WriterNumber {
        WriterNumber(self.newest.load(Ordering::Relaxed))
    }
    /// The faults of the last minutes.
    pub(super) const fn faulty(&self) -> &Mutex<Faulty> {
        &self.faulty
    }

    /// Waits for something and keeps how long that took.
    pub(super) async fn metered<T>(&self, what: Wait, work: impl Future<Output = T>) -> T {
        let from = self.clock.now();
        let outcome = work.await;
        let to = self.clock.now();
        let cause = self.faulty.lock().cause(from, to);
        self.figures.lock().stalls.entry(what).or_default().add(cause, to.since(from));
        outcome
    }
    /// An operation that began at `from` has ended. One that fails while nothing is broken is a finding.
    pub(super) fn ended(&self, operation: &'static str, from: Moment, error: Option<&FsError>) {
        let cause = self.faulty.lock().cause(from, self.clock.now());
        {
            let mut figures = self.figures.lock();
            *figures.operations.entry((operation, error.map_or(Ended::Done, Ended::by))).or_default() += 1;
            if let Some(error) = error {
                let failed = figures.failed.entry((operation, cause)).or_insert_with(|| (0, error.to_string()));
                failed.0 += 1;
            }
        }
        if let Some(error) = error.filter(|_| cause == Cause::Nothing) {
            self.found("failed", operation, format!("nothing was broken, and it ended with: {error}"));
        }
    }
    /// A task of the run has ended: one that panicked is a finding.
    pub(super) fn task_ended(&self, who: &'static str, ended: Result<(), JoinError>) {
        if let Err(panic) = ended {
            self.found("panic", who, panic.to_string());
        }
    }
    /// Waits until all tasks have ended.
    ///
    /// # Cancel safety
    /// Yes: what has not ended goes on.
    pub(super) async fn all_ended(&self, who: &'static str, tasks: &mut JoinSet<()>) {
        while let Some(ended) = tasks.join_next().await {
            self.task_ended(who, ended);
        }
    }
    /// A client was killed.
    pub(super) fn killed_client(&self, how: Killed) {
        *self.figures.lock().killed.entry(how).or_default() += 1;
    }
    /// Clients that were killed in vain: of many, none was in the middle of what is to be tested.
    pub(super) fn look_at_killed(&self) {
        let killed = self.figures.lock().killed.clone();
        let count = |how| killed.get(&how).copied().unwrap_or(0);
        let pairs = [(Killed::Flushed, Killed::Unflushed, "flushed"), (Killed::Writing, Killed::Idle, "begun")];
        for (right, early, what) in pairs {
            if count(right) == 0 && count(early) >= KILLED_ENOUGH {
                let text = format!("none of {} had {what} anything: nothing was tested", count(early));
                self.found("untested", "clients that were killed", text);
            }
        }
    }
    /// A fault was injected.
    pub(super) fn injected(&self, kind: &'static str) {
        *self.figures.lock().faults.entry(kind).or_default() += 1;
    }
    /// Copies of blocks with one copy left began, so long after the silence did; `None`: they did not, in time.
    pub(super) fn repair_began(&self, after_ms: Option<u64>) {
        let mut figures = self.figures.lock();
        match after_ms {
            Some(after_ms) => figures.repairs_ms.push(after_ms),
            None => figures.repairs_missed += 1,
        }
    }

    /// Something that must not be.
    pub(super) fn found(&self, what: &'static str, place: &str, text: impl Into<String>) {
        let at_s = self.clock.now().since(self.began).as_secs();
        let finding = Finding { what, place: place.to_owned(), text: text.into(), at_s };
        tracing::error!(what, place, at_s, "{}", finding.text);
        let mut findings = self.findings.lock();
        findings.count += 1;
        if findings.told.len() < TOLD {
            findings.told.push(finding);
        }
    }
    /// A file is not what it ought to be.
    pub(super) fn found_wrong(&self, path: &str, wrong: &Wrong) {
        {
            let mut findings = self.findings.lock();
            findings.lost_bytes += wrong.lost_bytes;
            findings.wrong += u64::from(wrong.is_wrong);
        }
        let what = if wrong.is_wrong { "wrong" } else { "lost" };
        self.found(what, path, &wrong.text);
    }
    /// How many findings there are.
    pub(super) fn findings(&self) -> u64 {
        self.findings.lock().count
    }
    /// How many operations ended, and faults were injected.
    pub(super) fn so_far(&self) -> (u64, u64) {
        let figures = self.figures.lock();
        (figures.operations.values().sum(), figures.faults.values().sum())
    }
}

/// Figures for programs and for people.
impl Shared {
    /// Findings, for people: one a line.
    pub(super) fn findings_text(&self) -> Vec<String> {
        let findings = self.findings.lock();
        let told = findings.told.iter();
        let mut lines: Vec<String> =
            told.map(|one| format!("{} at {} s: {}: {}", one.what, one.at_s, one.place, one.text)).collect();
        if findings.count > findings.told.len() as u64 {
            lines.push(format!("and {} more", findings.count - findings.told.len() as u64));
        }
        lines
    }
    /// Findings, and what was lost.
    pub(super) fn findings_json(&self) -> Value {
        let findings = self.findings.lock();
        let told: Vec<Value> = findings
            .told
            .iter()
            .map(|one| json!({ "what": one.what, "where": one.place, "text": one.text, "at_s": one.at_s }))
            .collect();
        json!({
            "findings": told, "findings_count": findings.count, "lost_bytes": findings.lost_bytes,
            "wrong_files": findings.wrong,
        })
    }
    /// Faults by kind.
    pub(super) fn faults_json(&self) -> Value {
        self.figures.lock().faults.iter().map(|(kind, count)| ((*kind).to_owned(), json!(count))).collect()
    }
    /// Clients that were killed, by how far they were.
    pub(super) fn killed_json(&self) -> Value {
        let figures = self.figures.lock();
        let count = |how: &Killed| json!(figures.killed.get(how).copied().unwrap_or(0));
        Killed::ALL.iter().map(|(how, name)| ((*name).to_owned(), count(how))).collect()
    }
    /// Operations by kind and end.
    pub(super) fn operations_json(&self) -> Value {
        let mut all = Map::new();
        for ((operation, ended), count) in &self.figures.lock().operations {
            let of = all.entry(*operation).or_insert_with(|| json!({}));
            of[ended.name()] = json!(count);
        }
        all.into()
    }
    /// Operations that failed, by what was broken.
    pub(super) fn failed_json(&self) -> Value {
        let mut all = Map::new();
        for ((operation, cause), (count, first)) in &self.figures.lock().failed {
            let of = all.entry(*operation).or_insert_with(|| json!({}));
            of[cause.name()] = json!({ "count": count, "first": first });
        }
        all.into()
    }
    /// The longest wait of a kind while something was broken.
    pub(super) fn longest_ms(&self, wait: Wait, cause: Cause) -> Option<u64> {
        self.figures.lock().stalls.get(&wait)?.longest_ms(cause)
    }
    /// The longest time from silence to the first copy of what has one copy left.
    pub(super) fn repair_ms(&self) -> Option<u64> {
        self.figures.lock().repairs_ms.iter().max().copied()
    }
    /// How often such copies were seen to begin, and how often they did not in time.
    pub(super) fn repairs(&self) -> (usize, u64) {
        let figures = self.figures.lock();
        (figures.repairs_ms.len(), figures.repairs_missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::stall::Who;

    fn shared() -> Arc<Shared> {
        Shared::new(Arc::new(base::clock::SystemClock::new()), "blockyard://none".into(), "ana".into(), 1)
    }

    #[tokio::test]
    async fn a_task_of_the_run_that_panics_is_a_finding() {
        let shared = shared();
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        tasks.spawn(async { panic!("the plan made no sense") });
        shared.all_ended("a fault", &mut tasks).await;
        assert_eq!(shared.findings(), 1);
        assert!(shared.findings_text()[0].contains("the plan made no sense"), "{:?}", shared.findings_text());
    }

    #[test]
    fn what_fails_while_nothing_is_broken_is_a_finding() {
        let shared = shared();
        let error = FsError::new(ErrorCode::NoReplica, "nobody has it");
        let from = shared.clock.now();
        shared.faulty().lock().begins(Who::Datanode(1), from);
        shared.ended("read", from, Some(&error));
        assert_eq!(shared.findings(), 0, "a datanode is away");
        let shared = self::shared();
        shared.ended("read", shared.clock.now(), None);
        assert_eq!(shared.findings(), 0);
        shared.ended("read", shared.clock.now(), Some(&error));
        assert_eq!(shared.findings(), 1);
        assert!(shared.findings_text()[0].contains("nobody has it"), "{:?}", shared.findings_text());
    }

    #[test]
    fn clients_that_were_all_killed_before_they_began_are_a_finding() {
        let shared = shared();
        (0..3).for_each(|_| shared.killed_client(Killed::Unflushed));
        shared.look_at_killed();
        assert_eq!(shared.findings(), 0, "too few to say so");
        shared.killed_client(Killed::Unflushed);
        (0..9).for_each(|_| shared.killed_client(Killed::Idle));
        shared.look_at_killed();
        assert_eq!(shared.findings(), 2, "{:?}", shared.findings_text());
        shared.killed_client(Killed::Flushed);
        shared.killed_client(Killed::Writing);
        shared.look_at_killed();
        assert_eq!(shared.findings(), 2, "one of many was in the middle of it");
        assert_eq!(shared.killed_json()["unflushed"], 4);
    }
}
