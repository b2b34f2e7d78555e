//! Names of 1 to 255 bytes in shared pages, by size class: a 39-byte name takes 40 bytes and no allocation.

use std::sync::Arc;

use super::free::FreeSlots;
use super::pages::PageTable;

const PAGE_BYTES: usize = 64 * 1024;
/// Cell sizes; a cell is one length byte and the name.
const CELLS: [usize; 13] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256];
const CLASS_SHIFT: u32 = 28;
const CELL_MASK: u32 = (1 << CLASS_SHIFT) - 1;

/// Where a name is: class in the upper four bits, cell below. Local to this process, like a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NameRef(u32);

impl NameRef {
    /// No name: of the root, of unlinked and of unpublished inodes.
    pub(crate) const NONE: Self = Self(u32::MAX);
}
impl Default for NameRef {
    fn default() -> Self {
        Self::NONE
    }
}

/// Pages of cells, for reading.
#[derive(Clone, Default)]
pub(crate) struct NamePages(Vec<PageTable<u8>>);

impl NamePages {
    /// The bytes of a name; empty for [`NameRef::NONE`].
    pub(crate) fn get(&self, name: NameRef) -> &[u8] {
        if name == NameRef::NONE {
            return &[];
        }
        let (class, page, at) = place(name);
        let page = self.0[class].get(page);
        let len = usize::from(page[at]);
        &page[at + 1..at + 1 + len]
    }
    /// A name as text. Only text goes in, so only text comes out.
    pub(crate) fn text(&self, name: NameRef) -> &str {
        std::str::from_utf8(self.get(name)).unwrap_or_default()
    }
}

fn place(name: NameRef) -> (usize, usize, usize) {
    let class = (name.0 >> CLASS_SHIFT) as usize;
    let cell = (name.0 & CELL_MASK) as usize;
    let per_page = PAGE_BYTES / CELLS[class];
    (class, cell / per_page, (cell % per_page) * CELLS[class])
}

/// All names of inodes.
pub(crate) struct Names {
    pages: NamePages,
    free: Vec<FreeSlots>,
    next: Vec<u32>,
}

impl Names {
    /// No names.
    pub(crate) fn new() -> Self {
        Self {
            pages: NamePages(CELLS.iter().map(|_| PageTable::new()).collect()),
            free: CELLS.iter().map(|cell| FreeSlots::new((PAGE_BYTES / cell) as u32)).collect(),
            next: vec![0; CELLS.len()],
        }
    }
    /// Do `more` names fit, whatever their length? Asked before a command changes anything: a cell number that ran
    /// over would name another class.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        self.next.iter().all(|next| *next as usize + more <= CELL_MASK as usize)
    }
    /// Stores a name of at most 255 bytes (the path rules see to that).
    pub(crate) fn insert(&mut self, text: &str) -> NameRef {
        let bytes = text.as_bytes();
        let Ok(len) = u8::try_from(bytes.len()) else { return NameRef::NONE };
        if len == 0 {
            return NameRef::NONE;
        }
        let class = CELLS.partition_point(|cell| *cell < bytes.len() + 1);
        let cell = self.free[class].take().unwrap_or_else(|| {
            self.next[class] += 1;
            self.next[class] - 1
        });
        let page = cell as usize / (PAGE_BYTES / CELLS[class]);
        if !self.pages.0[class].is_there(page) {
            self.pages.0[class].set(page, Arc::from([0; PAGE_BYTES].as_slice()));
        }
        let name = NameRef((class as u32) << CLASS_SHIFT | cell);
        let (class, page, at) = place(name);
        let page = self.pages.0[class].get_mut(page);
        page[at] = len;
        page[at + 1..=at + bytes.len()].copy_from_slice(bytes);
        name
    }
    /// Forgets a name.
    pub(crate) fn remove(&mut self, name: NameRef) {
        if name != NameRef::NONE {
            let (class, page, _) = place(name);
            if self.free[class].give(name.0 & CELL_MASK) {
                self.pages.0[class].set(page, Arc::new([]));
            }
        }
    }
    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let pages = self.pages.0.iter().map(PageTable::bytes).sum::<u64>();
        pages + self.free.iter().map(FreeSlots::bytes).sum::<u64>()
    }
    /// For reading.
    pub(crate) const fn pages(&self) -> &NamePages {
        &self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sc_08_a_class_of_names_ends_before_its_numbers_do() {
        let mut names = Names::new();
        assert!(names.has_room(1000));
        names.next[4] = CELL_MASK - 1;
        assert!(names.has_room(1) && !names.has_room(2));
    }

    #[test]
    fn every_length_comes_back() {
        let mut names = Names::new();
        let texts: Vec<String> = (1..=255).flat_map(|len| [("a".repeat(len)), ("b".repeat(len))]).collect();
        let refs: Vec<NameRef> = texts.iter().map(|text| names.insert(text)).collect();
        for (text, name) in texts.iter().zip(&refs) {
            assert_eq!(names.pages().text(*name), text);
        }
        let frozen = names.pages().clone();
        names.remove(refs[0]);
        assert_eq!(names.insert("z"), refs[0], "cells are reused");
        assert_eq!((frozen.text(refs[0]), names.pages().text(refs[0])), ("a", "z"));
        assert_eq!(names.pages().text(NameRef::NONE), "");
    }
}
