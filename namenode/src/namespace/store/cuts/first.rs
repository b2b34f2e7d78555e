//! The first block that was cut off a file and that a snapshot sees, for one snapshot after the other in one pass.
//!
//! ```text
//!   to come, by birth ─▶ born before the snapshot, by position ─▶ the first that did not die before it
//! ```
//!
//! A file may have as many states and as many cuts as there may be snapshots: to look at all cuts for each state would
//! keep every member busy for seconds, in one command.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Where a file was cut, as far as snapshots are concerned. Seen by snapshot s if `born` < s ≤ `died`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// Number of the block in the file, from 0.
    pub(super) position: u64,
    pub(super) born: u64,
    pub(super) died: u64,
}

/// Answers for snapshots that are asked for in ascending order.
pub(super) struct FirstCuts {
    /// The last one was born first.
    to_come: Vec<Span>,
    /// Position and death of those that are born.
    born: BinaryHeap<Reverse<(u64, u64)>>,
}

impl FirstCuts {
    pub(super) fn new(cuts: impl Iterator<Item = Span>) -> Self {
        let mut to_come: Vec<Span> = cuts.collect();
        to_come.sort_unstable_by_key(|cut| Reverse(cut.born));
        Self { to_come, born: BinaryHeap::new() }
    }
    /// Position of the first cut that a snapshot sees, which is not older than the one that was asked for before.
    pub(super) fn at(&mut self, snapshot: u64) -> Option<u64> {
        while let Some(cut) = self.to_come.pop_if(|cut| cut.born < snapshot) {
            self.born.push(Reverse((cut.position, cut.died)));
        }
        loop {
            #[cfg(test)]
            super::super::looks::note();
            let Reverse((position, died)) = *self.born.peek()?;
            if snapshot <= died {
                return Some(position);
            }
            // Later snapshots do not see it either.
            self.born.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_every_cut_finds(
            cuts in prop::collection::vec((0_u64..6, 0_u64..40, 0_u64..40), 0..40), step in 1_u64..4,
        ) {
            let cuts: Vec<Span> = cuts.into_iter().map(|(position, born, died)| Span { position, born, died }).collect();
            let mut first = FirstCuts::new(cuts.iter().copied());
            for snapshot in (0..45).step_by(step as usize) {
                let seen = cuts.iter().filter(|cut| cut.born < snapshot && snapshot <= cut.died);
                prop_assert_eq!(first.at(snapshot), seen.map(|cut| cut.position).min());
            }
        }
    }
}
