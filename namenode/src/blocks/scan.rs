//! Passes over many blocks: a bounded step at a time, in turn, so that none holds up another.
//!
//! ```text
//!   begin ─▶ ──step──▶ ──step──▶ end            every block behind the place once
//!   begin again in the middle:    ──▶ end, then from the first block to that place
//! ```
//!
//! A node that comes and goes faster than its blocks can be looked at begins its pass again and again: going round,
//! instead of starting over, looks at every block nevertheless, and one pass a storage is enough.

use std::collections::VecDeque;

use proto::ids::BlockId;

use super::registry::StorageIndex;

/// What a pass goes over, in order of block ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Every block of the namespace.
    All,
    /// Every odd replica.
    Odd,
    /// Every block of a storage.
    Storage(StorageIndex),
    /// The blocks of a silent storage that have at most one copy on nodes that are heard of.
    Endangered(StorageIndex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the last block.
    Last,
    /// With the last block it begins anew, and ends behind this one.
    Round(BlockId),
    /// Behind this block.
    Behind(BlockId),
}

/// A pass, and how far it has come.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) over: Over,
    /// Blocks up to this one were looked at.
    pub(super) after: Option<BlockId>,
    end: End,
}

/// The passes under way.
#[derive(Debug, Default)]
pub(super) struct Passes(VecDeque<Pass>);

impl Passes {
    /// Looks at everything from now on, whatever was looked at before.
    pub(super) fn begin(&mut self, over: Over) {
        match self.0.iter_mut().find(|pass| pass.over == over) {
            Some(pass) => pass.end = pass.after.map_or(End::Last, End::Round),
            None => self.0.push_back(Pass { over, after: None, end: End::Last }),
        }
    }
    /// Looks at everything, unless that is under way already.
    pub(super) fn begin_if_none(&mut self, over: Over) {
        if !self.0.iter().any(|pass| pass.over == over) {
            self.begin(over);
        }
    }
    /// The pass whose turn it is.
    pub(super) fn next(&mut self) -> Option<Pass> {
        self.0.pop_front()
    }
    /// A step of a pass was done, up to a block; `None`: there was none left.
    pub(super) fn stepped(&mut self, mut pass: Pass, last: Option<BlockId>) {
        match (last, pass.end) {
            (Some(last), End::Behind(end)) if last >= end => return,
            (Some(last), _) => pass.after = Some(last),
            (None, End::Round(end)) => (pass.after, pass.end) = (None, End::Behind(end)),
            (None, _) => return,
        }
        self.0.push_back(pass);
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const ON: Over = Over::Storage(StorageIndex(3));

    /// A step over blocks `0..count`.
    fn step(passes: &mut Passes, count: i64, size: usize) -> Vec<i64> {
        let Some(pass) = passes.next() else { return Vec::new() };
        let from = pass.after.map_or(0, |after| after.raw() + 1);
        let looked: Vec<i64> = (from..count).take(size).collect();
        passes.stepped(pass, looked.last().map(|last| BlockId::from_raw(*last)));
        looked
    }

    proptest! {
        #[test]
        fn every_block_is_looked_at_after_the_last_beginning_and_few_twice(
            count in 0_i64..60, size in 1_usize..9, begins in prop::collection::vec(0_usize..20, 1..6),
        ) {
            let mut passes = Passes::default();
            for steps in begins {
                (0..steps).for_each(|_| drop(step(&mut passes, count, size)));
                passes.begin(ON);
                prop_assert_eq!(passes.0.len(), 1, "one pass is enough");
            }
            let mut seen: BTreeMap<i64, u32> = BTreeMap::new();
            while !passes.is_empty() {
                step(&mut passes, count, size).into_iter().for_each(|block| *seen.entry(block).or_default() += 1);
            }
            prop_assert_eq!(seen.len() as i64, count);
            prop_assert!(seen.values().filter(|times| **times > 1).count() <= size, "{:?}", seen);
        }
    }

    #[test]
    fn passes_take_turns() {
        let mut passes = Passes::default();
        passes.begin(Over::All);
        step(&mut passes, 1000, 1);
        passes.begin(ON);
        let turns: Vec<Over> = (0..4)
            .map(|_| {
                let pass = passes.next().unwrap();
                let over = pass.over;
                let next = pass.after.map_or(BlockId::from_raw(0), BlockId::next);
                passes.stepped(pass, Some(next));
                over
            })
            .collect();
        assert_eq!(
            turns,
            [Over::All, ON, Over::All, ON],
            "a long pass does not keep the blocks of a lost node waiting"
        );
    }
}
