//! Reports: incremental ones in order of (incarnation, sequence), full ones by the buckets that differ.
//!
//! ```text
//!   node                                        here
//!   changes 7..9          ──────────────▶       next = 10            (a gap: "send again from next")
//!   1,024 hashes at 9     ──────────────▶       differing = [3, 77]  (none: the report is complete)
//!   buckets 3, 77 at 11   ──────────────▶       what is listed is there, what is missing is gone;
//!                                               changes ≤ 11 to these buckets are old news from then on
//! ```
//!
//! A report and a change that cross on the wire must not undo each other (scars SC-64, SC-73): a bucket
//! never overrides a change that is newer than itself, and never is overridden by an older one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::cluster::{Bucket, ReplicaRecord, ReplicaState};
use proto::ids::{BlockId, GenerationStamp, Term};
use proto::report::BUCKETS;

use super::facts::Names;
use super::registry::StorageIndex;
use super::replicas::{Replicas, Reported};

/// Changes that are remembered to settle a race with a bucket.
const RECENT: usize = 4096;

/// Where the reports of one storage stand.
#[derive(Debug, Default)]
pub struct Stream {
    /// Start of the node that the sequences belong to.
    pub incarnation: u64,
    next: u64,
    complete: bool,
    /// Term of the leader that has seen a full report.
    full_report_term: Option<Term>,
    recent: VecDeque<(u64, BlockId)>,
    /// Every change from this one on that was applied is in `recent`.
    recent_from: u64,
    /// Buckets that are known as of a change not received yet.
    as_of: BTreeMap<u32, u64>,
    open: Option<OpenReport>,
    /// The last full report showed the state as of this change or a later one.
    full_as_of: u64,
    /// Changes that the node had made by its last heartbeat.
    said: u64,
    /// Replicas that hashes do not cover, of which this incarnation has not spoken yet.
    unconfirmed: BTreeSet<BlockId>,
}

#[derive(Debug)]
struct OpenReport {
    number: u64,
    sequence: u64,
    waiting: BTreeSet<u32>,
}

/// Answer to an incremental report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The change expected next.
    pub next: u64,
    /// The gap cannot be filled, or the table of unknown replicas was full: report in full.
    pub full_report: bool,
    /// Another start of the node is registered.
    pub reregister: bool,
}

/// Answer to a part of a full report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Taken.
    Taken,
    /// Taken, and the report is complete.
    Complete,
    /// Begin again with hashes.
    Restart,
}

/// A record that no node of ours sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed report: {0}")]
pub struct Malformed(pub &'static str);

fn decode(record: &ReplicaRecord) -> Result<(BlockId, Option<Reported>), Malformed> {
    let block = BlockId::from_raw(record.id);
    let state = ReplicaState::try_from(record.state).unwrap_or(ReplicaState::Unspecified);
    match state {
        ReplicaState::Unspecified => Err(Malformed("a replica without a known state")),
        ReplicaState::Deleted => Ok((block, None)),
        state => {
            let stamp = GenerationStamp::from_raw(record.stamp);
            Ok((block, Some(Reported { block, stamp, len_bytes: record.len_bytes, state })))
        }
    }
}

impl Stream {
    /// A registration of the node: a new start begins new sequences and needs a full report. `not_final` are
    /// the replicas that hashes do not cover: the node tells each of them again, or they are gone when the
    /// report is complete. True if it began anew.
    pub fn registered(&mut self, incarnation: u64, not_final: impl FnOnce() -> BTreeSet<BlockId>) -> bool {
        if self.incarnation == incarnation && self.complete {
            return false;
        }
        *self = Self { incarnation, next: 1, unconfirmed: not_final(), ..Self::default() };
        true
    }
    /// The replicas that a complete report should have shown and has not.
    pub fn take_unconfirmed(&mut self) -> BTreeSet<BlockId> {
        std::mem::take(&mut self.unconfirmed)
    }
    /// Every change up to this one that concerns a whole replica was taken in, by itself or in a full report.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.next.saturating_sub(1).max(self.full_as_of)
    }

    /// A heartbeat says how many changes the storage has made.
    pub fn heartbeat(&mut self, sequence: u64) {
        self.said = self.said.max(sequence);
    }
    /// Is everything known that the storage had changed by its last heartbeat? What is missing may be the news that a
    /// replica is damaged.
    #[must_use]
    pub fn is_heard_out(&self) -> bool {
        self.heard() >= self.said
    }

    /// Has this storage reported in full since it (or this namenode) started?
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.complete
    }
    /// Has a full report been seen in this term?
    #[must_use]
    pub fn full_in(&self, term: Term) -> bool {
        self.complete && self.full_report_term == Some(term)
    }

    /// Takes changes in. The blocks that changed are added to `touched`.
    ///
    /// # Errors
    /// [`Malformed`]; what came before the bad record was taken.
    pub fn changes(
        &mut self,
        storage: StorageIndex,
        (incarnation, first): (u64, u64),
        records: &[ReplicaRecord],
        (replicas, names): (&mut Replicas, &dyn Names),
        touched: &mut Vec<BlockId>,
    ) -> Result<Progress, Malformed> {
        if incarnation != self.incarnation {
            return Ok(Progress { reregister: true, ..Progress::default() });
        }
        if first > self.next {
            let gap = self.complete && first > self.full_as_of.saturating_add(1);
            if gap && !base::mutated!(Sc83GapIsPassedOver) {
                return Ok(Progress { next: self.next, ..Progress::default() });
            }
            // The full report that was, or is due, covers what is missing.
            self.next = first;
            self.recent.clear();
            self.recent_from = first;
        }
        for (number, record) in (first..).zip(records) {
            if number < self.next {
                continue;
            }
            let (block, replica) = decode(record)?;
            self.unconfirmed.remove(&block);
            let known = self.as_of.get(&block.bucket()).is_some_and(|as_of| number <= *as_of);
            // Equal hashes say nothing of half-written replicas: such a change is news nevertheless.
            let covered = replicas.is_final(block, storage)
                || replica.is_some_and(|replica| replica.state == ReplicaState::Finalized);
            if !(known && covered) {
                match replica {
                    Some(replica) => {
                        if replicas.report(storage, replica, names).is_err() {
                            return Ok(self.overflow());
                        }
                    }
                    None => {
                        replicas.remove(storage, block, names);
                    }
                }
                touched.push(block);
            }
            // No hash covers this: it is news even if a report has shown the replica meanwhile.
            if record.verified && replica.is_some_and(|replica| replicas.verified(storage, &replica, names)) {
                touched.push(block);
            }
            self.note(number, block);
        }
        let next = self.next;
        self.as_of.retain(|_, as_of| *as_of >= next);
        Ok(Progress { next, full_report: false, reregister: false })
    }

    fn note(&mut self, number: u64, block: BlockId) {
        self.next = number + 1;
        // Room is made first: with one more than RECENT the queue would take twice its memory, of every storage.
        let full = self.recent.len() == RECENT;
        if full {
            self.recent.pop_front();
        }
        self.recent.push_back((number, block));
        if full {
            self.recent_from = self.recent.front().map_or(number + 1, |(oldest, _)| *oldest);
        }
    }

    /// The table of unknown replicas is full: what this storage holds is not known completely any more.
    fn overflow(&mut self) -> Progress {
        self.complete = false;
        self.full_report_term = None;
        self.open = None;
        Progress { next: self.next, full_report: true, reregister: false }
    }

    /// Compares bucket hashes. The buckets that differ, or `None` if the node must register again.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn hashes(
        &mut self,
        storage: StorageIndex,
        (incarnation, sequence): (u64, u64),
        hashes: &[u64],
        number: u64,
        replicas: &Replicas,
        term: Option<Term>,
    ) -> Result<Option<Vec<u32>>, Malformed> {
        if hashes.len() != BUCKETS {
            return Err(Malformed("a full report has 1,024 hashes"));
        }
        if incarnation != self.incarnation {
            return Ok(None);
        }
        // Hashes that are older than the changes taken, while changes before those may be missing, prove nothing.
        let proves = self.complete || sequence + 1 >= self.next;
        let differs = |(bucket, hash): (usize, &u64)| {
            (!proves || replicas.bucket_hash(storage, bucket) != *hash).then_some(bucket as u32)
        };
        let differing: Vec<u32> = hashes.iter().enumerate().filter_map(differs).collect();
        let waiting: BTreeSet<u32> = differing.iter().copied().collect();
        if sequence >= self.next {
            for bucket in (0..BUCKETS as u32).filter(|bucket| !waiting.contains(bucket)) {
                self.as_of.insert(bucket, sequence);
            }
        }
        self.open = Some(OpenReport { number, sequence, waiting });
        if differing.is_empty() {
            self.finish(term);
        }
        Ok(Some(differing))
    }

    fn finish(&mut self, term: Option<Term>) {
        if let Some(report) = self.open.take() {
            // The changes up to it still come: hashes say nothing of the half-written replicas among them.
            self.complete = true;
            self.full_as_of = self.full_as_of.max(report.sequence);
            self.full_report_term = term;
            let next = self.next;
            self.as_of.retain(|_, as_of| *as_of >= next);
        }
    }

    /// Looks at a part of a full report: what it will change, without changing it. `None`: begin again with hashes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn plan(
        &self,
        storage: StorageIndex,
        (sequence, number, last): (u64, u64, bool),
        buckets: &[Bucket],
        replicas: &Replicas,
    ) -> Result<Option<Plan>, Malformed> {
        let listed = decode_buckets(buckets)?;
        let older_than_known = sequence + 1 < self.recent_from;
        if older_than_known || self.open.as_ref().is_none_or(|open| open.number != number) {
            return Ok(None);
        }
        let numbers: BTreeSet<u32> = buckets.iter().map(|bucket| bucket.bucket).collect();
        let is_newer = |change: u64| change > sequence && !base::mutated!(Sc64OlderReportWins);
        let newer: BTreeSet<BlockId> =
            self.recent.iter().filter(|(change, _)| is_newer(*change)).map(|(_, block)| *block).collect();
        let believed = replicas.in_buckets(storage, &numbers);
        let gone = believed.into_iter().filter(|block| !listed.contains_key(block) && !newer.contains(block));
        let mut work: Vec<(BlockId, Option<Reported>)> = gone.map(|block| (block, None)).collect();
        // Of what is newer, only that it was told is news.
        let told = listed.into_iter().map(|(block, replica)| (block, Some(replica)));
        let (newer, told): (Vec<_>, Vec<_>) = told.partition(|(block, _)| newer.contains(block));
        work.extend(told);
        let newer = newer.into_iter().map(|(block, _)| block).collect();
        Ok(Some(Plan { storage, sequence, last, numbers, newer, work, done: 0 }))
    }

    /// Does up to `limit` changes of a plan. The blocks that changed are added to `touched`. False if the report has
    /// to begin again.
    pub fn take_some(
        &mut self,
        plan: &mut Plan,
        limit: usize,
        (replicas, names): (&mut Replicas, &dyn Names),
        touched: &mut Vec<BlockId>,
    ) -> bool {
        for block in std::mem::take(&mut plan.newer) {
            self.unconfirmed.remove(&block);
        }
        let until = plan.work.len().min(plan.done + limit);
        for (block, replica) in plan.work.get(plan.done..until).unwrap_or_default() {
            match replica {
                None => {
                    replicas.remove(plan.storage, *block, names);
                }
                Some(replica) => {
                    self.unconfirmed.remove(block);
                    if replicas.report(plan.storage, *replica, names).is_err() {
                        self.overflow();
                        return false;
                    }
                }
            }
            touched.push(*block);
        }
        plan.done = until;
        true
    }

    /// A plan is done: the report counts as a whole, when its last bucket came (scar SC-68).
    pub fn end_part(&mut self, plan: Plan, term: Option<Term>) -> Part {
        let Some(open) = self.open.as_mut() else { return Part::Restart };
        open.waiting.retain(|bucket| !plan.numbers.contains(bucket) && !base::mutated!(Sc68PartCountsAsReport));
        let all_here = open.waiting.is_empty();
        if plan.sequence >= self.next {
            self.as_of.extend(plan.numbers.into_iter().map(|bucket| (bucket, plan.sequence)));
        }
        match (plan.last, all_here) {
            (true, true) => {
                self.finish(term);
                Part::Complete
            }
            (true, false) => {
                self.open = None;
                Part::Restart
            }
            (false, _) => Part::Taken,
        }
    }
}

/// What a part of a full report changes.
#[derive(Debug)]
pub struct Plan {
    storage: StorageIndex,
    sequence: u64,
    last: bool,
    numbers: BTreeSet<u32>,
    newer: Vec<BlockId>,
    work: Vec<(BlockId, Option<Reported>)>,
    done: usize,
}

impl Plan {
    /// The storage that it is about.
    #[must_use]
    pub const fn storage(&self) -> StorageIndex {
        self.storage
    }
    /// Is there anything left to do?
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done >= self.work.len() && self.newer.is_empty()
    }
}

fn decode_buckets(buckets: &[Bucket]) -> Result<BTreeMap<BlockId, Reported>, Malformed> {
    let mut listed = BTreeMap::new();
    for bucket in buckets {
        if bucket.bucket as usize >= BUCKETS {
            return Err(Malformed("a bucket beyond the last"));
        }
        for record in &bucket.replicas {
            let (block, replica) = decode(record)?;
            if block.bucket() != bucket.bucket {
                return Err(Malformed("a block in a bucket that is not its own"));
            }
            let replica = replica.ok_or(Malformed("a deleted replica in a full report"))?;
            listed.insert(block, replica);
        }
    }
    Ok(listed)
}
