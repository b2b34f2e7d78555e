//! Reports of one storage to one namenode: changes in order, and full reports by bucket hashes.
//!
//! ```text
//!   Idle ──changes──▶ (answer: next) ──▶ Idle
//!   Due ──changes so far──▶ 1,024 hashes ──▶ differing buckets ──buckets, in parts──▶ Idle, next report later
//! ```
//!
//! Changes go before a full report: half-written replicas are not in the hashes, they are told as changes.

use std::collections::VecDeque;
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::{
    IncrementalReportRequest, IncrementalReportResponse, ReportBucketsRequest, ReportBucketsResponse,
    ReportHashesRequest, ReportHashesResponse,
};
use proto::ids::StorageId;
use proto::report::BUCKETS;

use super::Call;
use crate::node::Node;

/// Changes in one message.
const MAX_CHANGES: usize = 4096;
/// Buckets in one message.
const MAX_BUCKETS: usize = 32;
/// Records in one message, about: two dozen bytes each, and each may be news to the namenode.
const MAX_RECORDS: u64 = 64 * 1024;

const DUE: Full = Full::Due { after: None };

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Full {
    /// None under way.
    #[default]
    Idle,
    /// To be begun, after the changes up to this one.
    Due { after: Option<u64> },
    /// Hashes are sent or about to be answered.
    Asked { incarnation: u64, sequence: u64 },
    /// These buckets are still to be sent.
    Sending { incarnation: u64, sequence: u64, report: u64, left: VecDeque<u32>, sent: usize },
}

/// What a namenode has heard of a storage.
#[derive(Debug)]
pub(super) struct Stream {
    /// Number of the first change that it has not heard.
    next: u64,
    full: Full,
    full_due: Option<Moment>,
    reported: bool,
    /// Changes that are not kept any more were not heard.
    gap: bool,
    /// The namenode may not know what hashes do not cover: it is to be told again.
    restate: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Self { next: 1, full: Full::Idle, full_due: None, reported: false, gap: false, restate: false }
    }
}

/// Buckets in a message of a storage with so many replicas, which their ids spread evenly.
fn buckets_of_part(replicas: u64) -> usize {
    let of_each = replicas.div_ceil(BUCKETS as u64).max(1);
    usize::try_from(MAX_RECORDS / of_each).unwrap_or(MAX_BUCKETS).clamp(1, MAX_BUCKETS)
}

impl Stream {
    /// One of which nothing was reported yet.
    pub(super) fn due() -> Self {
        Self { full: DUE, ..Self::default() }
    }
    pub(super) const fn next(&self) -> u64 {
        self.next
    }
    pub(super) const fn reported(&self) -> bool {
        self.reported
    }
    pub(super) fn registered(&mut self, wants_full: bool, now: Moment, every: Duration) {
        if wants_full || !self.reported {
            self.full = DUE;
            self.restate = self.next > 1;
        } else {
            let _already_set = self.full_due.get_or_insert(now.plus(every));
        }
    }
    pub(super) fn report_in_full(&mut self) {
        if self.full == Full::Idle {
            self.full = DUE;
        }
    }
    /// The next call about this storage, if there is something to say.
    pub(super) fn next_call(&mut self, node: &Node, storage: &str, now: Moment) -> Option<Call> {
        let id = StorageId::parse(storage).ok()?;
        if std::mem::take(&mut self.restate) {
            node.store().restate(&id);
        }
        if self.full == Full::Idle && self.full_due.is_some_and(|due| now >= due) {
            self.full = DUE;
        }
        match &self.full {
            Full::Due { after } => {
                let after = after.unwrap_or(node.store().bucket_hashes(&id)?.sequence);
                self.full = Full::Due { after: Some(after) };
                let changes = if self.next <= after { self.changes(node, &id) } else { None };
                changes.or_else(|| self.hashes(node, &id))
            }
            Full::Asked { .. } => self.hashes(node, &id),
            Full::Sending { .. } => self.buckets(node, &id),
            Full::Idle => self.changes(node, &id).or_else(|| if self.gap { self.hashes(node, &id) } else { None }),
        }
    }
    fn changes(&mut self, node: &Node, id: &StorageId) -> Option<Call> {
        let hashes = node.store().bucket_hashes(id)?;
        if hashes.sequence < self.next {
            return None;
        }
        let Some(changes) = node.store().changes(id, self.next, MAX_CHANGES) else {
            // Too far behind: only the whole picture helps.
            self.gap = true;
            return None;
        };
        Some(Call::Incremental(IncrementalReportRequest {
            node: node.id().to_string(),
            storage: id.to_string(),
            incarnation: hashes.incarnation,
            first_sequence: self.next,
            changes,
        }))
    }
    fn hashes(&mut self, node: &Node, id: &StorageId) -> Option<Call> {
        let hashes = node.store().bucket_hashes(id)?;
        self.full = Full::Asked { incarnation: hashes.incarnation, sequence: hashes.sequence };
        Some(Call::Hashes(ReportHashesRequest {
            node: node.id().to_string(),
            storage: id.to_string(),
            incarnation: hashes.incarnation,
            sequence: hashes.sequence,
            hashes: hashes.hashes,
            replicas: hashes.replicas,
        }))
    }
    fn buckets(&mut self, node: &Node, id: &StorageId) -> Option<Call> {
        let Full::Sending { incarnation, report, left, sent, .. } = &mut self.full else { return None };
        let most = buckets_of_part(node.store().bucket_hashes(id)?.replicas);
        let part: Vec<u32> = left.iter().take(most).copied().collect();
        let last = part.len() == left.len();
        *sent = part.len();
        // Each part says as of which change its buckets are.
        let (sequence, buckets) = node.store().buckets(id, &part)?;
        Some(Call::Buckets(ReportBucketsRequest {
            node: node.id().to_string(),
            storage: id.to_string(),
            incarnation: *incarnation,
            sequence,
            report: *report,
            buckets,
            last,
        }))
    }

    pub(super) fn took_incremental(&mut self, answer: &IncrementalReportResponse) {
        self.next = answer.next_sequence.max(1);
        if answer.full_report {
            self.report_in_full();
        }
    }
    pub(super) fn took_hashes(&mut self, answer: &ReportHashesResponse, now: Moment, every: Duration) {
        let Full::Asked { incarnation, sequence } = self.full else { return };
        let left = answer.differing.iter().copied().collect();
        self.full = Full::Sending { incarnation, sequence, report: answer.report, left, sent: 0 };
        if answer.differing.is_empty() {
            self.finished(sequence, now.plus(every));
        }
    }
    pub(super) fn took_buckets(&mut self, answer: &ReportBucketsResponse, now: Moment, every: Duration) {
        let Full::Sending { left, sent, sequence, .. } = &mut self.full else { return };
        if answer.restart {
            self.full = DUE;
            return;
        }
        left.drain(..(*sent).min(left.len()));
        if left.is_empty() {
            let sequence = *sequence;
            self.finished(sequence, now.plus(every));
        }
    }
    fn finished(&mut self, sequence: u64, next_report: Moment) {
        self.full = Full::Idle;
        self.full_due = Some(next_report);
        self.reported = true;
        if std::mem::take(&mut self.gap) {
            // What cannot be told one by one any more was part of the report, or is told again.
            self.next = self.next.max(sequence + 1);
            self.restate = true;
        }
    }
    /// The call got no answer: a full report begins again, changes are sent again.
    pub(super) fn call_failed(&mut self) {
        if self.full != Full::Idle {
            self.full = DUE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_report_is_bounded_however_many_replicas_there_are() {
        for (replicas, buckets) in [(0, 32), (1_000_000, 32), (10_000_000, 6), (1 << 40, 1)] {
            assert_eq!(buckets_of_part(replicas), buckets, "{replicas} replicas");
        }
        assert!(
            (0..50_000_000_u64).step_by(99_991).all(|replicas| {
                buckets_of_part(replicas) as u64 * replicas.div_ceil(BUCKETS as u64) <= MAX_RECORDS
            })
        );
    }
}
