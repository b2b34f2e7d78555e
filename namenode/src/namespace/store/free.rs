//! Which slots of a paged table are free: one bit each, and a stack of the pages that have some. Giving and taking
//! are constant work, and ten million freed slots cost a megabyte.

/// Free slots of pages with equally many slots.
pub(crate) struct FreeSlots {
    per_page: u32,
    bits: Vec<u64>,
    /// Free slots of each page.
    counts: Vec<u16>,
    /// Pages with free slots, each once.
    pages: Vec<u32>,
}

impl FreeSlots {
    /// None are free.
    pub(crate) const fn new(per_page: u32) -> Self {
        Self { per_page, bits: Vec::new(), counts: Vec::new(), pages: Vec::new() }
    }
    const fn words(&self) -> usize {
        self.per_page.div_ceil(64) as usize
    }
    /// Takes a free slot: the lowest of the page in which one was freed last.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let page = *self.pages.last()?;
        let from = page as usize * self.words();
        let word = (from..from + self.words()).find(|word| self.bits[*word] != 0)?;
        let bit = self.bits[word].trailing_zeros();
        self.bits[word] &= self.bits[word] - 1;
        self.counts[page as usize] -= 1;
        if self.counts[page as usize] == 0 {
            self.pages.pop();
        }
        Some(page * self.per_page + (word - from) as u32 * 64 + bit)
    }
    /// Gives a slot back. True if every slot of its page is free now.
    pub(crate) fn give(&mut self, slot: u32) -> bool {
        let (page, at) = (slot / self.per_page, slot % self.per_page);
        if self.counts.len() <= page as usize {
            self.counts.resize(page as usize + 1, 0);
            self.bits.resize((page as usize + 1) * self.words(), 0);
        }
        let word = page as usize * self.words() + (at / 64) as usize;
        self.bits[word] |= 1 << (at % 64);
        let count = &mut self.counts[page as usize];
        *count += 1;
        if *count == 1 {
            self.pages.push(page);
        }
        u32::from(*count) == self.per_page
    }
    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.bits.capacity() * 8 + self.counts.capacity() * 2 + self.pages.capacity() * 4) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_slots(steps in prop::collection::vec((any::<bool>(), 0_u32..300), 0..600), per_page in 1_u32..130) {
            let (mut free, mut model) = (FreeSlots::new(per_page), BTreeSet::new());
            for (take, slot) in steps {
                if take {
                    let taken = free.take();
                    prop_assert_eq!(taken.is_some(), !model.is_empty());
                    prop_assert!(taken.is_none_or(|slot| model.remove(&slot)));
                } else if model.insert(slot) {
                    let page = slot / per_page * per_page;
                    let whole = (page..page + per_page).all(|other| model.contains(&other));
                    prop_assert_eq!(free.give(slot), whole);
                }
            }
        }
    }
}
