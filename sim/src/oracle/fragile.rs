//! What power cuts may take: bytes that were flushed without a sync.

use std::collections::BTreeSet;

use super::{Entry, Oracle};
use crate::workload::{Op, Outcome};

/// A file whose writer is gone, and flushed without a sync: that is in the memory of its nodes (D-2), and gone when all of
/// them lose power.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fragile {
    /// So much is durable all the same.
    floor_bytes: usize,
    /// Nodes that have the rest, at least.
    homes: usize,
    /// Nodes that lost power since the write began: some of its homes, perhaps. Once there is one, also those whose disk
    /// fails: the last good home may go either way.
    dark: BTreeSet<usize>,
}

impl Entry {
    /// Nodes have lost power.
    fn lose_power(&mut self, nodes: &BTreeSet<usize>) {
        let Self::File { least_bytes, fragile: Some(fragile), .. } = self else { return };
        fragile.dark.extend(nodes);
        if fragile.dark.len() >= fragile.homes {
            *least_bytes = fragile.floor_bytes.min(*least_bytes);
        }
    }
}

impl Oracle {
    /// A writer left its file without a sync; these nodes lost power since it began.
    pub fn left_unsynced(&mut self, op: &Op, outcome: &Outcome, dark: &BTreeSet<usize>) {
        let Outcome::Left { base_bytes, least_bytes, .. } = outcome else { return };
        let (path, floor_bytes, homes) = match op {
            // Blocks behind which another one was begun are finished, and durable.
            Op::Write { path, block_size_bytes, replication, .. } => {
                let block = usize::try_from(*block_size_bytes).unwrap_or(usize::MAX).max(1);
                (path, least_bytes.saturating_sub(1) / block * block, usize::try_from(*replication).unwrap_or(1).min(2))
            }
            // It does not say how many homes the file has.
            Op::Append { path, .. } => (path, *base_bytes, 1),
            _ => return,
        };
        for entry in self.worlds.iter_mut().filter_map(|world| world.tree.get_mut(path)) {
            if let Entry::File { fragile, .. } = entry {
                *fragile = Some(Fragile { floor_bytes, homes, dark: BTreeSet::new() });
            }
            entry.lose_power(dark);
        }
    }
    /// A node lost power.
    pub fn power_cut(&mut self, node: usize) {
        let nodes = BTreeSet::from([node]);
        self.worlds.iter_mut().flat_map(|world| world.tree.values_mut()).for_each(|entry| entry.lose_power(&nodes));
    }
    /// The disk of a node has failed. Alone that loses nothing (D-2).
    pub fn disk_fails(&mut self, node: usize) {
        let nodes = BTreeSet::from([node]);
        let is_hurt =
            |entry: &&mut Entry| matches!(&**entry, Entry::File { fragile: Some(f), .. } if !f.dark.is_empty());
        let entries = self.worlds.iter_mut().flat_map(|world| world.tree.values_mut());
        entries.filter(is_hurt).for_each(|entry| entry.lose_power(&nodes));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fence;
    use super::*;
    use crate::workload::{Data, Manner, content};

    #[test]
    fn what_was_flushed_without_a_sync_may_go_when_all_its_homes_lose_power_and_not_before() {
        let manner = Manner { flush_every: Some(100), ..Manner::default() };
        let write = Op::Write {
            path: "/f".into(),
            tag: 9,
            len_bytes: 9000,
            overwrite: false,
            replication: 2,
            block_size_bytes: 4096,
            manner,
        };
        let left = Outcome::Left { base_bytes: 0, least_bytes: 4300, most_bytes: 9000 };
        let read = Op::Read { path: "/f".into(), part: (0, 1000) };
        let short = Outcome::Bytes { len_bytes: 4096, open: false, start_bytes: 0, bytes: Data(content(9, 4096)) };
        let shorter = Outcome::Bytes { len_bytes: 4095, open: false, start_bytes: 0, bytes: Data(content(9, 4095)) };
        let mut oracle = Oracle::new("/c".into());
        oracle.observe(&write, &left, &fence(1, 2)).unwrap();
        oracle.left_unsynced(&write, &left, &BTreeSet::from([3]));
        oracle.power_cut(3);
        assert!(oracle.clone().observe(&read, &short, &fence(2, 2)).is_err(), "one of its two homes at most");
        oracle.power_cut(1);
        assert!(oracle.clone().observe(&read, &shorter, &fence(2, 2)).is_err(), "its first block is finished");
        oracle.observe(&read, &short, &fence(2, 2)).unwrap();
        oracle.power_cut(2);
        assert!(oracle.clone().observe(&read, &shorter, &fence(3, 3)).is_err(), "it is closed");
    }

    #[test]
    fn a_disk_that_fails_loses_nothing_alone_and_with_a_power_cut_what_was_seen_without_a_sync() {
        let op = Op::Append { path: "/f".into(), tag: 9, len_bytes: 700, manner: Manner::default() };
        let write = Op::Write {
            path: "/f".into(),
            tag: 8,
            len_bytes: 600,
            overwrite: false,
            replication: 2,
            block_size_bytes: 4096,
            manner: Manner::default(),
        };
        let left = Outcome::Left { base_bytes: 600, least_bytes: 600, most_bytes: 1300 };
        let of = |len_bytes: usize| {
            let bytes = Data([content(8, 600), content(9, 700)].concat()[..len_bytes].to_vec());
            Outcome::Bytes { len_bytes: len_bytes as u64, open: true, start_bytes: 0, bytes }
        };
        let read = Op::Read { path: "/f".into(), part: (0, 1000) };
        for dark in [BTreeSet::new(), BTreeSet::from([1])] {
            let mut oracle = Oracle::new("/c".into());
            oracle.observe(&write, &Outcome::Done, &fence(1, 1)).unwrap();
            oracle.observe(&op, &left, &fence(2, 2)).unwrap();
            oracle.left_unsynced(&op, &left, &dark);
            oracle.observe(&read, &of(1300), &fence(3, 3)).unwrap();
            oracle.disk_fails(2);
            assert_eq!(oracle.observe(&read, &of(900), &fence(4, 4)).is_ok(), !dark.is_empty(), "{dark:?}");
        }
    }
}
