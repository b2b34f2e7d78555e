//! Fixed-size records in shared pages of at most 64 KiB.
//!
//! ```text
//!   pages: [─▶ 64 KiB] [─▶ 64 KiB] …      slot = page * RECORDS + position
//!            ▲ shared with frozen views (super::pages); the next write to a page copies that page once
//! ```
//!
//! One writer; slots are reused, and a page of which every slot is free gives its memory back. Slot numbers are local
//! to this process: they are in no image and in no hash.

use std::sync::Arc;

use super::free::FreeSlots;
use super::pages::PageTable;

const PAGE_BYTES: usize = 64 * 1024;

/// Pages of records, shared with frozen views.
#[derive(Clone)]
pub(crate) struct Pages<T>(PageTable<T>);

impl<T> Pages<T> {
    /// Records in a page: a power of two, so that a slot splits by shifts.
    const RECORDS: usize = {
        let fit = PAGE_BYTES / size_of::<T>();
        1 << (usize::BITS - 1 - fit.leading_zeros())
    };

    /// The record in a slot that was given out.
    pub(crate) fn get(&self, slot: u32) -> &T {
        let slot = slot as usize;
        &self.0.get(slot / Self::RECORDS)[slot % Self::RECORDS]
    }
}

/// Records with slots.
pub(crate) struct Slab<T> {
    pages: Pages<T>,
    free: FreeSlots,
    next: u32,
    live: u32,
}

impl<T: Copy + Default> Slab<T> {
    /// Most records, well below the end of the slot numbers.
    pub(crate) const MAX: u32 = u32::MAX - (1 << 20);

    /// An empty slab.
    pub(crate) const fn new() -> Self {
        Self { pages: Pages(PageTable::new()), free: FreeSlots::new(Pages::<T>::RECORDS as u32), next: 0, live: 0 }
    }
    /// Number of records.
    pub(crate) const fn len(&self) -> u32 {
        self.live
    }
    /// All slots, in the order in which they were given out. Only while none was given back, as after loading.
    pub(crate) fn all(&self) -> std::ops::Range<u32> {
        debug_assert_eq!(self.next, self.live, "a slot was given back");
        0..self.next
    }
    /// Is there room for `more` records? Asked before a command changes anything.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        u64::from(self.live) + more as u64 <= u64::from(Self::MAX)
    }
    /// Puts a record into a free slot.
    pub(crate) fn insert(&mut self, record: T) -> u32 {
        self.live += 1;
        let slot = self.free.take().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let page = slot as usize / Pages::<T>::RECORDS;
        if !self.pages.0.is_there(page) {
            self.pages.0.set(page, std::iter::repeat_n(T::default(), Pages::<T>::RECORDS).collect());
        }
        *self.get_mut(slot) = record;
        slot
    }
    /// The record in a slot that was given out.
    pub(crate) fn get(&self, slot: u32) -> &T {
        self.pages.get(slot)
    }
    /// The record, for change. Copies its page first if a frozen view still holds it.
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut T {
        let slot = slot as usize;
        &mut self.pages.0.get_mut(slot / Pages::<T>::RECORDS)[slot % Pages::<T>::RECORDS]
    }
    /// Gives a slot back, and its page if that was the last one in use.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.live -= 1;
        if self.free.give(slot) {
            self.pages.0.set(slot as usize / Pages::<T>::RECORDS, Arc::new([]));
        } else {
            *self.get_mut(slot) = T::default();
        }
    }
    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.pages.0.bytes() + self.free.bytes()
    }
    /// The pages of this moment.
    pub(crate) fn freeze(&self) -> Pages<T> {
        self.pages.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_view_does_not_move() {
        let mut slab = Slab::<u64>::new();
        let slots: Vec<u32> = (0..5000).map(|n| slab.insert(n)).collect();
        let frozen = slab.freeze();
        *slab.get_mut(slots[7]) = 70;
        slab.remove(slots[8]);
        assert_eq!(slab.insert(80), slots[8], "freed slots are reused");
        assert_eq!((*frozen.get(slots[7]), *frozen.get(slots[8])), (7, 8));
        assert_eq!((*slab.get(slots[7]), *slab.get(slots[8])), (70, 80));
        assert_eq!(slab.len(), 5000);
    }

    #[test]
    fn what_is_freed_is_given_back_and_used_again() {
        let mut slab = Slab::<u64>::new();
        let slots: Vec<u32> = (0..400_000).map(|n| slab.insert(n)).collect();
        let full = slab.bytes();
        for slot in &slots {
            slab.remove(*slot);
        }
        assert!(slab.bytes() < full / 20, "{} of {full}", slab.bytes());
        let again: std::collections::BTreeSet<u32> = (0..400_000).map(|n| slab.insert(n)).collect();
        assert_eq!((slab.len(), again.len(), again.last()), (400_000, 400_000, slots.last()));
        assert!(slab.bytes() <= full + 400_000 / 4);
    }
}
