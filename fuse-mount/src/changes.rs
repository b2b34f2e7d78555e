//! What this mount has changed lately: what the cluster was asked before a change, and answers after it, is old. Pure.
//!
//! ```text
//!   asked ───────▶ the cluster answers ───────▶ is it still so?   told to the kernel, or asked again
//!            a change of this mount ──▶ noted ──────┘
//! ```
//!
//! Changes of other mounts are not known here: of those an answer is as old as the cluster's.

use std::collections::{BTreeMap, VecDeque};

/// Changes that are remembered. What was asked before the oldest of them counts as old.
const MAX_CHANGES: usize = 4096;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// What a name stands for: number of the directory, and the name.
    Name(u64, String),
    /// Content, length, rights or further names of an inode of the namespace.
    Inode(u64),
}

/// A moment at which the cluster was asked something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked(u64);

/// The newest changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    count: u64,
    last: BTreeMap<What, u64>,
    order: VecDeque<(u64, What)>,
    forgotten: u64,
}

impl Changes {
    /// The cluster is asked now.
    pub(crate) const fn asked(&self) -> Asked {
        Asked(self.count)
    }
    /// Something is not what it was before.
    pub(crate) fn note(&mut self, what: What) {
        self.count += 1;
        self.last.insert(what.clone(), self.count);
        self.order.push_back((self.count, what));
        if self.order.len() > MAX_CHANGES
            && let Some((at, what)) = self.order.pop_front()
        {
            self.forgotten = at;
            if self.last.get(&what) == Some(&at) {
                self.last.remove(&what);
            }
        }
    }
    /// Has it changed since the cluster was asked?
    pub(crate) fn since(&self, asked: Asked, what: &What) -> bool {
        asked.0 < self.forgotten || self.last.get(what).is_some_and(|at| *at > asked.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_before_a_change_is_old_and_what_is_asked_after_it_is_not() {
        let mut changes = Changes::default();
        let (f, g) = (What::Name(1, "f".to_owned()), What::Name(1, "g".to_owned()));
        let before = changes.asked();
        assert!(!changes.since(before, &f));
        changes.note(f.clone());
        assert!(changes.since(before, &f) && !changes.since(before, &g) && !changes.since(before, &What::Inode(1)));
        assert!(!changes.since(changes.asked(), &f));
    }

    #[test]
    fn of_more_changes_than_are_remembered_all_that_was_asked_before_is_old() {
        let mut changes = Changes::default();
        let (before, f) = (changes.asked(), What::Inode(7));
        (0..=MAX_CHANGES as u64).for_each(|inode| changes.note(What::Inode(inode + 100)));
        assert!(changes.since(before, &f), "it may have changed");
        assert!(!changes.since(changes.asked(), &f));
        assert_eq!((changes.last.len(), changes.order.len()), (MAX_CHANGES, MAX_CHANGES));
        // One that changes again and again does not push out what it is itself.
        (0..=MAX_CHANGES).for_each(|_| changes.note(f.clone()));
        assert_eq!((changes.last.len(), changes.order.len()), (1, MAX_CHANGES));
    }
}
