//! What only loading does: all entries are linked at once, by two threads, and all totals are counted at once.
//!
//! ```text
//!   entries ─┬─▶ index: every (directory, name) once          both look names up all over memory,
//!            └─▶ children of each directory, in order         which is most of the time of a load
//! ```

use std::thread;

use super::children::Children;
use super::index::{NameIndex, hash_of};
use super::names::NamePages;
use super::records::Inode;
use super::slab::Slab;
use super::totals::Totals;
use super::{NONE, Store};

impl Store {
    /// Puts all entries, each with its directory's slot, into their directories, of which none has entries so far. False
    /// if a directory has a name twice. Totals are not kept.
    pub(crate) fn link_all(&mut self, entries: &[(u32, u32)]) -> bool {
        for (slot, parent) in entries {
            self.inodes.get_mut(*slot).parent = *parent;
        }
        self.index.expect(entries.len());
        let (inodes, names, directories) = (&self.inodes, self.names.pages(), self.directories.len());
        let index = &mut self.index;
        let (unique, children) = thread::scope(|scope| {
            let order = || children_of_all(inodes, names, directories, entries);
            let ordering = thread::Builder::new().spawn_scoped(scope, order);
            let unique = fill(index, inodes, names, entries);
            // A machine that has no room for another thread now gets the same a little later.
            let children = match ordering {
                Ok(ordering) => ordering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(error) => {
                    tracing::warn!(%error, "no second thread: the namespace is loaded by one");
                    order()
                }
            };
            (unique, children)
        });
        for (directory, children) in self.directories.iter_mut().zip(children) {
            directory.children = children;
        }
        unique
    }
}

impl Store {
    /// Sets the totals of all directories, of which none is set so far. `tops` are the inodes without a directory. How many
    /// inodes are reached from there: what is not is in a loop.
    ///
    /// Entries are looked at in the order of their slots, as they lie in memory: in that of their names it would take
    /// several times as long.
    pub(crate) fn count_totals(&mut self, tops: Vec<u32>) -> u64 {
        let below_each = self.add_up_files();
        let reached = tops.len() as u64;
        let mut directories: Vec<u32> = tops.into_iter().filter(|slot| self.inode(*slot).is_dir()).collect();
        let (mut at, mut entries) = (0, 0);
        while let Some(directory) = directories.get(at).copied() {
            entries += self.directory(directory).children.len();
            directories.extend_from_slice(below_each.of(self.inode(directory).content));
            at += 1;
        }
        for directory in directories.into_iter().rev() {
            let parent = self.inode(directory).parent;
            if parent != NONE {
                let weight = self.weight(directory);
                let above = self.directory_mut(parent);
                above.below = above.below.plus(weight);
                above.subdirectories += 1;
            }
        }
        reached + entries
    }

    /// Gives every directory the totals of its entries that are no directories; its directories are found by its number.
    fn add_up_files(&mut self) -> Grouped {
        let mut directories = Vec::new();
        // Entries of one directory mostly lie together.
        let (mut last, mut sum) = (NONE, Totals::default());
        for slot in self.inodes.all() {
            let inode = *self.inode(slot);
            if inode.parent == NONE {
                continue;
            }
            if inode.is_dir() {
                directories.push((self.inode(inode.parent).content, slot));
                continue;
            }
            if inode.parent != last {
                self.add_below(last, std::mem::take(&mut sum));
                last = inode.parent;
            }
            sum = sum.plus(self.weight(slot));
        }
        self.add_below(last, sum);
        Grouped::by_number(directories, self.directories.len())
    }
    fn add_below(&mut self, directory: u32, more: Totals) {
        if directory != NONE {
            let directory = self.directory_mut(directory);
            directory.below = directory.below.plus(more);
        }
    }
}

/// Slots in groups, by the number of a directory.
struct Grouped {
    slots: Vec<u32>,
    ends: Vec<usize>,
}

impl Grouped {
    fn by_number(mut numbered: Vec<(u32, u32)>, groups: usize) -> Self {
        numbered.sort_unstable();
        let mut ends = vec![0; groups];
        for (number, _) in &numbered {
            ends[*number as usize] += 1;
        }
        for group in 1..groups {
            ends[group] += ends[group - 1];
        }
        Self { slots: numbered.into_iter().map(|(_, slot)| slot).collect(), ends }
    }
    fn of(&self, group: u32) -> &[u32] {
        let group = group as usize;
        let begin = if group == 0 { 0 } else { self.ends[group - 1] };
        &self.slots[begin..self.ends[group]]
    }
}

/// Adds every entry to the index; false at the first name that a directory has twice.
fn fill(index: &mut NameIndex, inodes: &Slab<Inode>, names: &NamePages, entries: &[(u32, u32)]) -> bool {
    let hash_of_slot = |slot: u32| {
        let inode = inodes.get(slot);
        hash_of(inode.parent, names.get(inode.name))
    };
    entries.iter().all(|(slot, parent)| {
        let name = names.get(inodes.get(*slot).name);
        let same = |other: u32| {
            let other = inodes.get(other);
            other.parent == *parent && names.get(other.name) == name
        };
        index.insert_new(hash_of(*parent, name), *slot, same, hash_of_slot)
    })
}

/// The ordered children of each directory, by its number.
fn children_of_all(
    inodes: &Slab<Inode>,
    names: &NamePages,
    directories: usize,
    entries: &[(u32, u32)],
) -> Vec<Children> {
    let number_of = |parent: u32| inodes.get(parent).content as usize;
    let mut ends = vec![0_u32; directories + 1];
    for (_, parent) in entries {
        ends[number_of(*parent) + 1] += 1;
    }
    for number in 1..ends.len() {
        ends[number] += ends[number - 1];
    }
    let begins = ends.clone();
    // The first bytes of the name decide most comparisons, without a look at the name itself.
    let mut sorted = vec![(0_u64, 0_u32); entries.len()];
    for (slot, parent) in entries {
        let end = &mut ends[number_of(*parent)];
        sorted[*end as usize] = (first_bytes(names.get(inodes.get(*slot).name)), *slot);
        *end += 1;
    }
    let name_of = |slot: u32| names.get(inodes.get(slot).name);
    let group_of = |number: usize| begins[number] as usize..ends[number] as usize;
    let children = (0..directories).map(|number| {
        let group = &mut sorted[group_of(number)];
        group.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name_of(a.1).cmp(name_of(b.1))));
        Children::from_sorted(group.iter().map(|entry| entry.1))
    });
    children.collect()
}

/// The first eight bytes of a name as a number: its order is that of the names, where it decides.
fn first_bytes(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(name) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}
