//! Safe mode: after a start nothing changes until the blocks have been found again.
//!
//! It counts committed blocks with at least one reported good replica; both numbers are lengths of tables,
//! not counters kept by hand (scar SC-72). It ends as soon as enough are known, at once in an empty cluster,
//! and in any case when every registered node has reported or has been silent long enough to be dead: then
//! waiting longer would find nothing. It does not come back, and there is no further delay after it.

use std::time::Duration;

use base::clock::Moment;

/// Is the namenode still looking for its blocks?
#[derive(Debug)]
pub struct SafeMode {
    since: Moment,
    reason: Option<String>,
}

/// What the verdict rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Committed blocks of the namespace.
    pub committed: u64,
    /// Blocks with at least one good replica reported.
    pub known: u64,
    /// Registered storages that have not reported in full.
    pub silent_storages: u64,
}

/// Share of blocks that must be known, in thousandths, as in HDFS.
const ENOUGH_PERMILLE: u64 = 999;

impl SafeMode {
    /// On, from now.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self { since: now, reason: Some("the namenode is starting".to_owned()) }
    }

    /// Why it is on; `None` if it is over.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Looks again. True if it ended just now.
    pub fn look(&mut self, sight: Sight, now: Moment, dead_after: Duration) -> bool {
        if self.reason.is_none() {
            return false;
        }
        let needed = sight.committed.saturating_mul(ENOUGH_PERMILLE).div_ceil(1000);
        let nothing_more_to_come = sight.silent_storages == 0 || now.since(self.since) >= dead_after;
        if sight.known >= needed || (nothing_more_to_come && !base::mutated!(Sc72SafeModeNeverEnds)) {
            self.reason = None;
            return true;
        }
        self.reason = Some(format!(
            "{} of {} blocks are reported, {} storages have not reported yet",
            sight.known, sight.committed, sight.silent_storages
        ));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Duration = Duration::from_secs(300);

    fn at(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn sc_72_it_ends_when_enough_is_known_and_not_before() {
        let mut mode = SafeMode::new(at(0));
        let sight = |known| Sight { committed: 10, known, silent_storages: 1 };
        assert!(!mode.look(sight(9), at(1), DEAD));
        assert!(mode.reason().is_some_and(|r| r.contains("9 of 10")));
        assert!(mode.look(sight(10), at(2), DEAD));
        assert!(!mode.look(sight(0), at(3), DEAD), "it does not come back");
        assert_eq!(mode.reason(), None);
    }

    #[test]
    fn sc_72_an_empty_cluster_starts_at_once_and_lost_nodes_do_not_hold_it_for_ever() {
        assert!(SafeMode::new(at(0)).look(Sight::default(), at(0), DEAD));
        let lost = Sight { committed: 10, known: 1, silent_storages: 2 };
        let mut mode = SafeMode::new(at(0));
        assert!(!mode.look(lost, at(299), DEAD));
        assert!(mode.look(lost, at(300), DEAD));
        let all_reported = Sight { silent_storages: 0, ..lost };
        assert!(SafeMode::new(at(0)).look(all_reported, at(1), DEAD));
    }
}
