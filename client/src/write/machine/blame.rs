//! Who is at fault when a pipeline is silent: a function of what its nodes say of themselves.
//!
//! ```text
//!   no answer                                     it is dead, hung, or cut off
//!   no replica, a damaged one, an older stamp,
//!   acked bytes gone                              it does not take part
//!   received more than it stored                  its disk hangs: the last such node, for those before it wait for it.
//!                                                 But if it has not passed on what it received: the link behind it
//!   received less than the node before has        the link between the two
//!   stored, and not acknowledged                  it has not synced: told only when others have, or after a while
//! ```
//!
//! A link has two ends, and who broke it is not known: the node behind it goes first, and if the one before it is at a
//! broken link again, that one (SC-37).

use std::time::Duration;

/// Silence after which a node that has everything, and acknowledges nothing, is at fault: a sync of a healthy disk that
/// is busy takes seconds.
const SYNC_PATIENCE: Duration = Duration::from_secs(4);

/// What a node says of its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// Nothing: it could not be reached, or did not answer in time.
    Silent,
    /// It has no such replica, on no disk of its own.
    Missing,
    /// It has one, or may have one, that it cannot serve: damaged, of an older stamp, or on a disk that is out of service.
    Refused,
    /// It is there, and does not say how far it is: an older release, or a token that has run out.
    Mute,
    /// How far it is.
    At(ReplicaAt),
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaAt {
    /// Its stamp.
    pub stamp: u64,
    /// Bytes received from the node before, and checked.
    pub received_bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// Bytes acknowledged by this node and all behind it.
    pub acked_bytes: u64,
    /// Is it whole and closed?
    pub finalized: bool,
    /// Nobody writes it: its writer is gone, or its node was started anew since.
    pub waiting: bool,
    /// It says nothing of what was acknowledged: its node was started anew, or it is a beginning that a writer goes on with,
    /// which may still lack some.
    pub unsure: bool,
}

impl ProbeAnswer {
    /// How far its replica is, if it says so.
    #[must_use]
    pub const fn at(&self) -> Option<ReplicaAt> {
        match self {
            Self::At(at) => Some(*at),
            _ => None,
        }
    }
    /// Is the replica whole and closed?
    #[must_use]
    pub const fn is_finalized(&self) -> bool {
        matches!(self, Self::At(at) if at.finalized)
    }
}

/// What the writer knows beside the answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Stamp that every replica of the pipeline should have.
    pub stamp: u64,
    /// Bytes that every node has acknowledged.
    pub acked_bytes: u64,
    /// Bytes that were sent to the first node.
    pub sent_bytes: u64,
    /// How long nothing was heard.
    pub silent_for: Duration,
    /// The pipeline is over in any case: somebody is to be named.
    pub over: bool,
    /// Positions of nodes that were at the near end of a broken link before.
    pub doubted: &'a [bool],
}

/// The node at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blamed {
    /// Its position.
    pub at: usize,
    /// The other end of the link, if it is the link that is broken.
    pub other: Option<usize>,
}

impl Blamed {
    const fn node(at: usize) -> Self {
        Self { at, other: None }
    }
    /// The link behind a node.
    fn link(before: usize, known: &Known<'_>) -> Self {
        let behind = before + 1;
        if known.doubted.get(before).copied().unwrap_or(false) {
            Self { at: before, other: Some(behind) }
        } else {
            Self { at: behind, other: Some(before) }
        }
    }
}

/// The node at fault; `None` if nobody can be blamed yet, and the pipeline may go on by itself. If it is over, somebody
/// always is, in a pipeline that has nodes.
#[must_use]
pub fn blame(answers: &[ProbeAnswer], known: Known<'_>) -> Option<Blamed> {
    if let Some(silent) = answers.iter().position(|answer| *answer == ProbeAnswer::Silent) {
        return Some(Blamed::node(silent));
    }
    let takes_part = |answer: &ProbeAnswer| match answer {
        ProbeAnswer::At(at) => at.stamp >= known.stamp && at.stored_bytes.max(at.received_bytes) >= known.acked_bytes,
        ProbeAnswer::Silent | ProbeAnswer::Missing | ProbeAnswer::Refused => false,
        ProbeAnswer::Mute => true,
    };
    if let Some(apart) = answers.iter().position(|answer| !takes_part(answer)) {
        return Some(Blamed::node(apart));
    }
    let nodes = answers.iter().map(ProbeAnswer::at);
    let found = nodes.collect::<Option<Vec<_>>>().and_then(|nodes| compare(&nodes, &known));
    found.or_else(|| known.over.then_some(Blamed::node(0)))
}

/// All nodes say how far they are.
fn compare(nodes: &[ReplicaAt], known: &Known<'_>) -> Option<Blamed> {
    let found = stuck_while_storing(nodes, known).or_else(|| cut_link(nodes, known));
    found.or_else(|| stuck_in_sync(nodes, known))
}

/// The last node that has not stored what it received. Those before it may only wait for it.
fn stuck_while_storing(nodes: &[ReplicaAt], known: &Known<'_>) -> Option<Blamed> {
    let stuck = nodes.iter().rposition(|at| !at.finalized && at.received_bytes > at.stored_bytes)?;
    let (here, next) = (nodes.get(stuck)?, nodes.get(stuck + 1));
    // A packet is passed on before it is stored: a node behind it that has less was not sent it.
    match next {
        Some(next) if next.received_bytes < here.received_bytes => Some(Blamed::link(stuck, known)),
        _ => Some(Blamed::node(stuck)),
    }
}

/// A node that has not received what the one before has stored.
fn cut_link(nodes: &[ReplicaAt], known: &Known<'_>) -> Option<Blamed> {
    let behind = nodes.windows(2).position(|pair| match pair {
        [before, here] => here.received_bytes < before.stored_bytes,
        _ => false,
    });
    if let Some(before) = behind {
        return Some(Blamed::link(before, known));
    }
    let first = nodes.first()?;
    let lost = first.received_bytes < known.sent_bytes;
    // Of a finalised replica all counts as acknowledged, whatever those behind it do.
    let unheard = !first.finalized && first.acked_bytes >= known.sent_bytes && known.sent_bytes > known.acked_bytes;
    (lost || unheard).then_some(Blamed::node(0))
}

/// A node that has everything and has not said so while others have.
fn stuck_in_sync(nodes: &[ReplicaAt], known: &Known<'_>) -> Option<Blamed> {
    if known.silent_for < SYNC_PATIENCE && !known.over {
        return None;
    }
    let some_finalized = nodes.iter().any(|at| at.finalized);
    if some_finalized && let Some(open) = nodes.iter().position(|at| !at.finalized) {
        return Some(Blamed::node(open));
    }
    let held_back = nodes.windows(2).rposition(|pair| match pair {
        // Whoever does not say has not acknowledged everything.
        [here, behind] if here.unsure => behind.acked_bytes >= known.sent_bytes,
        [here, behind] => here.acked_bytes < behind.acked_bytes,
        _ => false,
    });
    if let Some(here) = held_back {
        return Some(Blamed::node(here));
    }
    // Whether the last one is the only one is not known: others may be as busy.
    let last = nodes.len().checked_sub(1)?;
    let waits = nodes.get(last).is_some_and(|at| !at.finalized && at.acked_bytes < at.stored_bytes);
    (waits && known.over).then_some(Blamed::node(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: u64 = 100;
    const ACKED: u64 = 40;

    /// received, stored, acked.
    fn at(received_bytes: u64, stored_bytes: u64, acked_bytes: u64) -> ProbeAnswer {
        let at = ReplicaAt { stamp: 7, received_bytes, stored_bytes, acked_bytes, ..ReplicaAt::default() };
        ProbeAnswer::At(at)
    }
    /// Of a finalised replica all is acknowledged.
    fn finalized() -> ProbeAnswer {
        let ProbeAnswer::At(whole) = at(SENT, SENT, SENT) else { unreachable!("see above") };
        ProbeAnswer::At(ReplicaAt { finalized: true, ..whole })
    }
    fn known(silent_for: u64) -> Known<'static> {
        let silent_for = Duration::from_millis(silent_for);
        Known { stamp: 7, acked_bytes: ACKED, sent_bytes: SENT, silent_for, over: false, doubted: &[] }
    }
    fn position(answers: &[ProbeAnswer], known: Known<'_>) -> Option<usize> {
        blame(answers, known).map(|blamed| blamed.at)
    }

    #[test]
    fn sc_37_the_node_that_hangs_is_blamed_at_each_position_and_no_other() {
        use ProbeAnswer::{Missing, Refused, Silent};
        let all = at(SENT, SENT, 60);
        // What each fault looks like at each position of three.
        let cases: Vec<(&str, Vec<[ProbeAnswer; 3]>)> = vec![
            (
                "dead or hung process",
                vec![
                    [Silent, at(60, 60, 60), at(60, 60, 60)],
                    [at(90, 80, 50), Silent, at(60, 60, 60)],
                    [at(90, 80, 50), at(80, 70, 50), Silent],
                ],
            ),
            ("lost its replica", vec![[Missing, all, all], [all, Missing, all], [all, all, Missing]]),
            ("damaged its replica", vec![[Refused, all, all], [all, Refused, all], [all, all, Refused]]),
            (
                "lost what it had acknowledged",
                vec![[at(30, 30, 30), all, all], [all, at(30, 30, 0), all], [all, all, at(39, 39, 39)]],
            ),
            (
                "hung or slow disk",
                vec![
                    // It passes a packet on, and then waits for its disk; who is before it waits for it to read on.
                    [at(60, 50, 40), at(60, 60, 60), at(60, 60, 60)],
                    [at(90, 80, 40), at(60, 50, 50), at(60, 60, 60)],
                    [at(95, 90, 40), at(90, 80, 50), at(60, 50, 50)],
                ],
            ),
            (
                "link to it is cut",
                vec![
                    [at(60, 60, 60), at(60, 60, 60), at(60, 60, 60)],
                    [at(SENT, SENT, 50), at(60, 60, 60), at(60, 60, 60)],
                    [at(SENT, SENT, 50), at(SENT, SENT, 50), at(50, 50, 50)],
                ],
            ),
            (
                "link to it is cut, and full",
                vec![
                    [at(60, 60, 60), at(60, 60, 60), at(60, 60, 60)],
                    [at(SENT, 90, 50), at(60, 60, 60), at(60, 60, 60)],
                    [at(SENT, 95, 50), at(95, 90, 50), at(50, 50, 50)],
                ],
            ),
        ];
        for (fault, positions) in cases {
            for (wanted, answers) in positions.iter().enumerate() {
                assert_eq!(position(answers, known(2_500)), Some(wanted), "{fault} at {wanted}");
            }
        }
    }

    #[test]
    fn sc_37_a_slow_sync_is_not_blamed_before_its_time_and_then_the_right_one_is() {
        let synced = at(SENT, SENT, SENT);
        let (closing, closed) = (at(SENT, SENT, ACKED), finalized());
        let cases = [
            ("close", [closing, closed, closed], 0),
            ("close", [closed, closing, closed], 1),
            ("close", [closed, closed, closing], 2),
            ("hsync", [at(SENT, SENT, ACKED), synced, synced], 0),
            ("hsync", [at(SENT, SENT, ACKED), at(SENT, SENT, ACKED), synced], 1),
        ];
        for (what, answers, wanted) in cases {
            assert_eq!(position(&answers, known(2_500)), None, "{what} at {wanted}: too early");
            assert_eq!(position(&answers, known(4_000)), Some(wanted), "{what} at {wanted}");
        }
        let last = [at(SENT, SENT, ACKED); 3];
        assert_eq!(position(&last, known(9_000)), None, "all may be as busy");
        assert_eq!(position(&last, Known { over: true, ..known(20_000) }), Some(2), "whose ack comes first");
    }

    #[test]
    fn sc_37_who_does_not_say_what_it_acknowledged_is_blamed_only_if_all_behind_it_have_everything() {
        let ProbeAnswer::At(silent) = at(SENT, SENT, 0) else { unreachable!("see above") };
        let unsure = ProbeAnswer::At(ReplicaAt { waiting: true, unsure: true, ..silent });
        let (synced, half) = (at(SENT, SENT, SENT), at(SENT, SENT, 60));
        assert_eq!(position(&[unsure, synced, synced], known(4_000)), Some(0));
        assert_eq!(position(&[at(SENT, SENT, ACKED), unsure, synced], known(4_000)), Some(1));
        assert_eq!(position(&[unsure, half, half], known(4_000)), None, "it may be as far as they are");
        assert_eq!(position(&[half, unsure, half], known(4_000)), None);
    }

    #[test]
    fn sc_37_who_is_at_two_broken_links_goes() {
        let answers = [at(SENT, SENT, 50), at(60, 60, 60), at(60, 60, 60)];
        assert_eq!(blame(&answers, known(2_500)), Some(Blamed { at: 1, other: Some(0) }));
        let doubted = [true, false, false];
        let again = Known { doubted: &doubted, ..known(2_500) };
        assert_eq!(blame(&answers, again), Some(Blamed { at: 0, other: Some(1) }));
        let elsewhere = [false, true, true];
        assert_eq!(position(&answers, Known { doubted: &elsewhere, ..known(2_500) }), Some(1));
    }

    #[test]
    fn nobody_is_blamed_for_a_pipeline_that_goes_on() {
        let moving = [at(SENT, SENT, 60), at(SENT, SENT, 60), at(SENT, SENT, 60)];
        assert_eq!(position(&moving, known(2_500)), None);
        assert_eq!(position(&moving, Known { over: true, ..known(2_500) }), Some(2), "it was over: its ack is missing");
        assert_eq!(blame(&[], Known { over: true, ..known(2_500) }), Some(Blamed::node(0)));
        let mute = [ProbeAnswer::Mute, at(60, 50, 40), at(60, 60, 60)];
        assert_eq!(position(&mute, known(2_500)), None, "a node that says nothing of itself cannot be compared");
        assert_eq!(position(&[ProbeAnswer::Mute, ProbeAnswer::Silent], known(2_500)), Some(1));
        // Everything is acknowledged, and the writer does not hear of it.
        assert_eq!(position(&[at(SENT, SENT, SENT); 3], known(2_500)), Some(0));
    }

    #[test]
    fn a_pipeline_that_does_not_come_up_stops_at_the_first_node_without_a_replica_of_its_stamp() {
        let opening = Known { acked_bytes: 0, sent_bytes: 0, ..known(2_500) };
        let made = at(0, 0, 0);
        assert_eq!(position(&[made, ProbeAnswer::Missing, ProbeAnswer::Missing], opening), Some(1));
        assert_eq!(position(&[made, made, ProbeAnswer::Missing], opening), Some(2));
        assert_eq!(position(&[made, made, made], opening), None);
        let old = ProbeAnswer::At(ReplicaAt { stamp: 6, ..ReplicaAt::default() });
        assert_eq!(position(&[made, old, old], opening), Some(1), "not taken into the new pipeline");
    }
}
