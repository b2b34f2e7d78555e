//! A pipeline that is broken although each of its nodes is well. A connection between two of them was reset while nothing
//! but acknowledgements was on it: who sent them has ended, who waits for them has nothing to send, and hears of nothing.
//!
//! ```text
//!   a node whose replica nobody writes any more            broken, at the first look; also while it is set up, where it
//!                                                          may be the answers that are lost
//!   all have all that was sent, and at the next look       the acknowledgements are lost. But a node that may be
//!   nobody has acknowledged more                           syncing gets the time of `blame`
//! ```
//!
//! Nobody is at fault, and the same nodes go on. Not more often than [`REBUILDS`] times without an acknowledgement: then
//! such a silence is judged like any other.

use proto::common::StorageLocation;

use super::repair::is_in;
use super::{FileWriter, ProbeAnswer, ReplicaAt, Stage};

/// Pipelines of one stall that are left with nobody at fault.
const REBUILDS: u32 = 2;

impl FileWriter {
    /// Did acknowledgements get lost, by what the nodes say now and said at the look before? Remembers what they say for
    /// the next one, which comes sooner then.
    pub(super) fn acks_are_lost(&mut self, answers: &[ProbeAnswer]) -> bool {
        let before = self.held.take();
        let goes_on = self.failures < REBUILDS && self.all_take_part(answers);
        let Some(block) = self.block.as_ref().filter(|_| goes_on) else { return false };
        let nodes: Vec<ReplicaAt> = answers.iter().filter_map(ProbeAnswer::at).collect();
        let stores = nodes.iter().any(|at| !at.finalized && at.stored_bytes < at.received_bytes);
        // Nobody writes a copy before the pipeline has come to its node.
        let is_copy = |node: &StorageLocation| is_in(&self.fault.behind, node);
        let left = nodes.iter().zip(&block.pipeline).any(|(at, node)| at.waiting && !is_copy(node));
        if left && !stores {
            return true;
        }
        if !matches!(self.stage, Stage::Streaming(_)) {
            return false;
        }
        let may_sync = block.window.waits_for_sync() && !nodes.iter().all(|at| at.finalized);
        let stays_away = before.is_some_and(|before| is_as_acknowledged(&nodes, &before));
        if nodes.iter().all(|at| at.stored_bytes >= block.sent_bytes) {
            self.held = Some(nodes);
        }
        stays_away && !may_sync
    }
}

/// Has nobody acknowledged, or finished, more than before?
fn is_as_acknowledged(nodes: &[ReplicaAt], before: &[ReplicaAt]) -> bool {
    let state = |at: &ReplicaAt| (at.acked_bytes, at.finalized);
    nodes.iter().map(state).eq(before.iter().map(state))
}
