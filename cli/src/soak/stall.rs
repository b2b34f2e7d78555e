//! How long operations stood still, and what was broken meanwhile: pure.
//!
//! ```text
//!   faults      ──[ dn2 dead ]──────[ dn4 stopped ]─────────────[ namenode dead ]──
//!   one wait              |-----|        → one datanode
//!   another wait                           |------------------------|  → the namenode: not what a node's death cost
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base::clock::Moment;

/// What was broken while an operation waited. The later one hides the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Nothing.
    Nothing,
    /// One datanode.
    Datanode,
    /// Several datanodes, one after another or at once.
    Datanodes,
    /// The namenode: nobody can write while the only one is away.
    Namenode,
}

impl Cause {
    /// Name in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Datanode => "one_datanode",
            Self::Datanodes => "several_datanodes",
            Self::Namenode => "namenode",
        }
    }
}

/// Who is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Namenode,
    /// By its number, from 1.
    Datanode(u16),
}

/// A fault that was there.
#[derive(Clone, Copy, Debug)]
struct Span {
    who: Who,
    from: Moment,
    to: Option<Moment>,
}

/// For so long after a fault its effects still count: a node registers, clients come back.
const AFTERMATH: Duration = Duration::from_secs(3);
/// No operation takes longer: older faults explain nothing any more.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The faults of the last minutes.
#[derive(Clone, Debug, Default)]
pub(super) struct Faulty {
    spans: VecDeque<Span>,
}

impl Faulty {
    /// Somebody breaks.
    pub(super) fn begins(&mut self, who: Who, now: Moment) {
        while self.spans.front().is_some_and(|span| span.to.is_some_and(|to| now.since(to) > REMEMBERED)) {
            self.spans.pop_front();
        }
        self.spans.push_back(Span { who, from: now, to: None });
    }
    /// It is whole again.
    pub(super) fn ends(&mut self, who: Who, now: Moment) {
        for span in self.spans.iter_mut().filter(|span| span.who == who && span.to.is_none()) {
            span.to = Some(now);
        }
    }
    /// What was broken at any time from one moment to another.
    pub(super) fn cause(&self, from: Moment, to: Moment) -> Cause {
        let there = |span: &&Span| span.from <= to && span.to.is_none_or(|end| end.plus(AFTERMATH) >= from);
        let mut cause = (Cause::Nothing, None);
        for span in self.spans.iter().filter(there) {
            cause = match (cause, span.who) {
                (_, Who::Namenode) => return Cause::Namenode,
                ((Cause::Nothing, _), who) => (Cause::Datanode, Some(who)),
                ((before, Some(other)), who) if other == who => (before, Some(other)),
                _ => (Cause::Datanodes, None),
            };
        }
        cause.0
    }
}

/// The longest waits, by what was broken meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls {
    longest: BTreeMap<Cause, Duration>,
}

impl Stalls {
    /// An operation waited so long for its next progress.
    pub(super) fn add(&mut self, cause: Cause, waited: Duration) {
        let longest = self.longest.entry(cause).or_default();
        *longest = (*longest).max(waited);
    }
    /// The longest wait.
    pub(super) fn longest_ms(&self, cause: Cause) -> Option<u64> {
        let longest = self.longest.get(&cause)?;
        Some(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_wait_is_put_down_to_what_was_broken_meanwhile() {
        let mut faulty = Faulty::default();
        assert_eq!(faulty.cause(at(0), at(9)), Cause::Nothing);
        faulty.begins(Who::Datanode(2), at(1000));
        assert_eq!(faulty.cause(at(0), at(999)), Cause::Nothing);
        assert_eq!(faulty.cause(at(0), at(1001)), Cause::Datanode);
        faulty.ends(Who::Datanode(2), at(2000));
        assert_eq!(faulty.cause(at(4999), at(6000)), Cause::Datanode, "its effects last a while");
        assert_eq!(faulty.cause(at(5001), at(6000)), Cause::Nothing);
        faulty.begins(Who::Datanode(2), at(7000));
        assert_eq!(faulty.cause(at(1500), at(7100)), Cause::Datanode, "the same one twice");
        faulty.begins(Who::Datanode(4), at(7200));
        assert_eq!(faulty.cause(at(7000), at(7300)), Cause::Datanodes);
        faulty.begins(Who::Namenode, at(8000));
        assert_eq!(faulty.cause(at(7000), at(9000)), Cause::Namenode);
        assert_eq!(faulty.cause(at(7000), at(7999)), Cause::Datanodes);
    }

    #[test]
    fn only_the_longest_wait_of_each_cause_is_kept() {
        let mut stalls = Stalls::default();
        stalls.add(Cause::Datanode, Duration::from_millis(700));
        stalls.add(Cause::Datanode, Duration::from_millis(20));
        stalls.add(Cause::Namenode, Duration::from_secs(4));
        assert_eq!(stalls.longest_ms(Cause::Datanode), Some(700));
        assert_eq!(stalls.longest_ms(Cause::Nothing), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_by_time() {
        let mut faulty = Faulty::default();
        for minute in 0..1000 {
            faulty.begins(Who::Namenode, at(minute * 60_000));
            faulty.ends(Who::Namenode, at(minute * 60_000 + 10));
        }
        assert!(faulty.spans.len() < 20);
    }
}
