//! Acks of one pipeline position: a packet is acknowledged upstream when it is done here and the next node has
//! acknowledged it, in the order of the packets.
//!
//! ```text
//!   done here     1 2 3 4 5          ┐ ack 1, 2, 3 go up; 4 waits for the next node
//!   from below    1 2 3              ┘
//! ```
//!
//! Who is blamed (SC-37): a node that finds damage says `ErrorChecksum` about what *arrived*. The node before
//! it had verified the same bytes, so the damage was done between its check and the other's: it takes the
//! blame on itself and says `Error` for its own position. A node that cannot be reached, or breaks the
//! protocol, is blamed by the one before it.

use std::collections::VecDeque;

use proto::common::Receipt;
use transfer::{Ack, Status};

/// Packets that may wait for the next node's ack. The client's window is far below it.
const MAX_WAITING: usize = 64 * 1024;

/// What became of a packet on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalDone {
    /// Number of the packet.
    pub seqno: i64,
    /// Outcome here.
    pub status: Status,
    /// Was it the last one? Then, with `Success`, the replica is finalised.
    pub last: bool,
    /// This node's receipt, for the last packet.
    pub receipt: Option<Receipt>,
}

/// The acks of one node in one pipeline.
#[derive(Debug)]
pub struct AckTracker {
    has_next: bool,
    here: VecDeque<LocalDone>,
    below: VecDeque<Ack>,
    next_lost: bool,
    closed: bool,
    finished: bool,
}

impl AckTracker {
    /// A tracker for a node that has another one behind it, or is the last.
    #[must_use]
    pub const fn new(has_next: bool) -> Self {
        Self {
            has_next,
            here: VecDeque::new(),
            below: VecDeque::new(),
            next_lost: false,
            closed: false,
            finished: false,
        }
    }
    /// A packet is done here.
    pub fn done_here(&mut self, done: LocalDone) {
        if self.here.len() >= MAX_WAITING {
            self.next_lost = true;
        }
        self.here.push_back(done);
    }
    /// The next node has acknowledged a packet.
    pub fn from_below(&mut self, ack: Ack) {
        if self.below.len() >= MAX_WAITING {
            self.next_lost = true;
            return;
        }
        self.below.push_back(ack);
    }
    /// The next node is gone. What it acknowledged before still counts.
    pub const fn below_lost(&mut self) {
        self.next_lost = true;
    }
    /// The next ack to send upstream, if one is due.
    pub fn next_ack(&mut self) -> Option<Ack> {
        if self.closed || self.finished {
            return None;
        }
        let head = self.here.front()?;
        if head.status != Status::Success {
            self.closed = true;
            return Some(Ack::single(head.seqno, head.status));
        }
        let (seqno, last) = (head.seqno, head.last);
        let below = match self.has_next {
            false => None,
            true => Some(self.below_for(seqno)?),
        };
        let receipt = self.here.pop_front().and_then(|done| done.receipt);
        let ack = merge(seqno, receipt, below);
        match ack.first_bad() {
            Some(_) => self.closed = true,
            None => self.finished = last,
        }
        Some(ack)
    }
    /// An ack told of a failure: nothing more is sent, the connection is to be ended.
    #[must_use]
    pub const fn closed(&self) -> bool {
        self.closed
    }
    /// The last packet was acknowledged as done by every node.
    #[must_use]
    pub const fn finished(&self) -> bool {
        self.finished
    }

    /// What the next node says of this packet; its loss or a break of the order counts as its failure.
    fn below_for(&mut self, seqno: i64) -> Option<Ack> {
        match self.below.pop_front() {
            Some(ack) if ack.seqno == seqno || base::mutated!(Sc41AcksByArrival) => Some(ack),
            Some(_) => Some(Ack::single(seqno, Status::Error)),
            None if self.next_lost => Some(Ack::single(seqno, Status::Error)),
            None => None,
        }
    }
}

fn merge(seqno: i64, receipt: Option<Receipt>, below: Option<Ack>) -> Ack {
    let mut ack = Ack { seqno, replies: vec![Status::Success], receipts: receipt.into_iter().collect() };
    let Some(below) = below else { return ack };
    if below.replies.first() == Some(&Status::ErrorChecksum) && !base::mutated!(Sc37ReporterIsBlamed) {
        return Ack::single(seqno, Status::Error);
    }
    ack.replies.extend(below.replies);
    if !ack.receipts.is_empty() {
        ack.receipts.extend(below.receipts);
    }
    ack
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(seqno: i64, status: Status) -> LocalDone {
        LocalDone { seqno, status, last: false, receipt: None }
    }
    fn below(seqno: i64, replies: &[Status]) -> Ack {
        Ack { seqno, replies: replies.to_vec(), receipts: Vec::new() }
    }
    fn drain(tracker: &mut AckTracker) -> Vec<(i64, Vec<Status>)> {
        std::iter::from_fn(|| tracker.next_ack()).map(|ack| (ack.seqno, ack.replies)).collect()
    }
    const OK: Status = Status::Success;

    #[test]
    fn acks_wait_for_both_sides_and_keep_the_order() {
        let mut tracker = AckTracker::new(true);
        tracker.done_here(done(1, OK));
        assert_eq!(drain(&mut tracker), []);
        tracker.from_below(below(1, &[OK, OK]));
        tracker.from_below(below(2, &[OK, OK]));
        assert_eq!(drain(&mut tracker), [(1, vec![OK; 3])]);
        tracker.done_here(done(2, OK));
        assert_eq!(drain(&mut tracker), [(2, vec![OK; 3])]);
    }

    #[test]
    fn sc_41_an_ack_for_another_packet_is_the_next_nodes_failure() {
        let mut tracker = AckTracker::new(true);
        tracker.done_here(done(1, OK));
        tracker.from_below(below(2, &[OK]));
        assert_eq!(drain(&mut tracker), [(1, vec![OK, Status::Error])]);
        assert!(tracker.closed());
    }

    #[test]
    fn sc_37_damage_found_below_is_blamed_on_the_sender() {
        let mut tracker = AckTracker::new(true);
        tracker.done_here(done(1, OK));
        tracker.from_below(below(1, &[Status::ErrorChecksum]));
        assert_eq!(drain(&mut tracker), [(1, vec![Status::Error])]);
        // One position further up, that failure is the next node's.
        let mut first = AckTracker::new(true);
        first.done_here(done(1, OK));
        first.from_below(below(1, &[Status::Error]));
        assert_eq!(drain(&mut first), [(1, vec![OK, Status::Error])]);
    }

    #[test]
    fn a_lost_node_is_blamed_after_what_it_acknowledged() {
        let mut tracker = AckTracker::new(true);
        tracker.from_below(below(1, &[OK]));
        tracker.below_lost();
        tracker.done_here(done(1, OK));
        tracker.done_here(done(2, OK));
        tracker.done_here(done(3, OK));
        assert_eq!(drain(&mut tracker), [(1, vec![OK, OK]), (2, vec![OK, Status::Error])]);
        assert!(tracker.closed() && !tracker.finished());
    }

    #[test]
    fn a_failure_here_does_not_wait_for_the_next_node() {
        let mut tracker = AckTracker::new(true);
        tracker.done_here(done(1, Status::ErrorChecksum));
        assert_eq!(drain(&mut tracker), [(1, vec![Status::ErrorChecksum])]);
        assert!(tracker.closed());
    }

    #[test]
    fn the_last_ack_carries_every_receipt() {
        let receipt = |node: &str| Receipt { node: node.into(), ..Receipt::default() };
        let mut tracker = AckTracker::new(true);
        tracker.done_here(LocalDone { seqno: 9, status: OK, last: true, receipt: Some(receipt("a")) });
        tracker.from_below(Ack { seqno: 9, replies: vec![OK], receipts: vec![receipt("b")] });
        let ack = tracker.next_ack().unwrap();
        assert_eq!(ack.receipts, [receipt("a"), receipt("b")]);
        assert!(tracker.finished() && !tracker.closed());
    }
}
