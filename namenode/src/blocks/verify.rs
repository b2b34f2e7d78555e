//! Replicas that somebody called damaged, and that their nodes are asked to read again.
//!
//! ```text
//!   a reader's word, or damage found before a restart ─▶ suspect ──heartbeat of that node──▶ asked
//!                                                          ▲                                  │ the node's changes:
//!                                                          └────── no answer in time ─────────┤  "damaged"  ─▶ stays odd
//!                                                                                             └  "verified" ─▶ good
//! ```
//!
//! A reader may be wrong: bits flip on the wire, and a disk may fail one read and not the next. Without the node's own
//! look a mark would stay until the replica is replaced from a good one, and for ever if the mark is on the last.
//! Asking costs one read and removes nothing.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::ReplicaState;
use proto::ids::BlockId;

use super::facts::Facts;
use super::registry::StorageIndex;
use super::replicas::Odd;

/// Replicas of a storage that one heartbeat's reply asks about: each is read whole.
pub(super) const AT_ONCE: usize = 4;
/// The node's answer may have been lost: it is asked again.
const AGAIN: Duration = Duration::from_secs(60);
/// The node itself found it damaged: it may have been a read that failed once, but most likely it is so.
const AGAIN_IF_DAMAGED: Duration = Duration::from_secs(600);

/// Is this replica to be read again by its node? One that is only marked: at once. One that its node found damaged: only
/// while there is no good one to replace it from, because nothing is lost by another look then.
pub(super) fn is_suspect(odd: &Odd, facts: &Facts, any_good: bool) -> bool {
    let could_be_good = facts.committed && (odd.stamp, odd.len_bytes) == (facts.stamp, facts.len_bytes);
    could_be_good
        && match odd.state {
            ReplicaState::Finalized => odd.marked,
            ReplicaState::Corrupt => !any_good,
            _ => false,
        }
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    asked: Option<Moment>,
    /// Time after which the node is asked again.
    again: Duration,
}

/// The suspects, with what their nodes were asked.
#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<(StorageIndex, BlockId), Suspect>);

const fn all_of(storage: StorageIndex) -> RangeInclusive<(StorageIndex, BlockId)> {
    (storage, BlockId::from_raw(i64::MIN))..=(storage, BlockId::from_raw(i64::MAX))
}

impl Suspects {
    /// Has the replica read again, unless that is under way.
    pub(super) fn want(&mut self, storage: StorageIndex, block: BlockId, odd: &Odd) {
        let again = if odd.state == ReplicaState::Corrupt { AGAIN_IF_DAMAGED } else { AGAIN };
        self.0.entry((storage, block)).or_insert(Suspect { asked: None, again }).again = again;
    }
    /// It is no suspect (any more).
    pub(super) fn drop(&mut self, storage: StorageIndex, block: BlockId) {
        self.0.remove(&(storage, block));
    }
    /// Some of a storage about which its node is to be asked now.
    pub(super) fn due_of(&self, storage: StorageIndex, now: Moment) -> Vec<BlockId> {
        let is_due = |suspect: &Suspect| suspect.asked.is_none_or(|at| now.since(at) >= suspect.again);
        let due = self.0.range(all_of(storage)).filter(|(_, suspect)| is_due(suspect));
        due.map(|((_, block), _)| *block).take(AT_ONCE).collect()
    }
    /// The node was asked.
    pub(super) fn asked(&mut self, storage: StorageIndex, block: BlockId, now: Moment) {
        if let Some(suspect) = self.0.get_mut(&(storage, block)) {
            suspect.asked = Some(now);
        }
    }
}
