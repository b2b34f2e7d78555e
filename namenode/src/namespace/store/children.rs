//! The entries of one directory in byte order of their names: slots in chunks, so that one insertion into a
//! directory of a million moves two KiB, and a page of a listing is found by two binary searches.

const CHUNK: usize = 512;

/// Slots ordered by name. The names are looked up through the function that each call is given.
#[derive(Default)]
pub(crate) struct Children {
    chunks: Vec<Vec<u32>>,
    len: u64,
}

impl Children {
    /// Builds from slots that are already in order.
    pub(crate) fn from_sorted(slots: impl ExactSizeIterator<Item = u32>) -> Self {
        let len = slots.len();
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK));
        for (at, slot) in slots.enumerate() {
            if at % CHUNK == 0 {
                chunks.push(Vec::with_capacity(CHUNK.min(len - at)));
            }
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(slot);
            }
        }
        Self { chunks, len: len as u64 }
    }
    /// Number of entries.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }
    /// The last entry.
    pub(crate) fn last(&self) -> Option<u32> {
        self.chunks.last()?.last().copied()
    }
    /// Adds a slot whose name is not among the entries.
    pub(crate) fn insert<'a>(&mut self, slot: u32, name: &[u8], name_of: impl Fn(u32) -> &'a [u8]) {
        self.len += 1;
        let (mut chunk, mut at) = self.first_not_below(name, &name_of);
        if chunk == self.chunks.len() {
            match chunk.checked_sub(1).filter(|last| self.chunks[*last].len() < CHUNK) {
                Some(last) => (chunk, at) = (last, self.chunks[last].len()),
                None => self.chunks.push(Vec::new()),
            }
        }
        if self.chunks[chunk].len() == CHUNK {
            // Before it grows beyond its memory.
            let upper = self.chunks[chunk].split_off(CHUNK / 2);
            self.chunks.insert(chunk + 1, upper);
            if at > CHUNK / 2 {
                (chunk, at) = (chunk + 1, at - CHUNK / 2);
            }
        }
        self.chunks[chunk].insert(at, slot);
    }
    /// Memory that it takes beside its own fields.
    pub(crate) fn bytes(&self) -> u64 {
        let slots: usize = self.chunks.iter().map(Vec::capacity).sum();
        (slots * size_of::<u32>() + self.chunks.capacity() * size_of::<Vec<u32>>()) as u64
    }
    /// Removes the entry of this name.
    pub(crate) fn remove<'a>(&mut self, name: &[u8], name_of: impl Fn(u32) -> &'a [u8]) {
        let (chunk, at) = self.first_not_below(name, &name_of);
        let Some(slots) = self.chunks.get_mut(chunk) else { return };
        slots.remove(at);
        self.len -= 1;
        if slots.is_empty() {
            self.chunks.remove(chunk);
        }
    }
    /// Entries whose names come after `name`, in order. The empty name comes before all.
    pub(crate) fn after<'s, 'a, F: Fn(u32) -> &'a [u8]>(
        &'s self,
        name: &[u8],
        name_of: F,
    ) -> impl Iterator<Item = u32> + use<'s, 'a, F> {
        let (chunk, at) = self.find(|slot| name_of(slot) > name);
        let first = self.chunks.get(chunk).map_or(&[][..], |slots| &slots[at..]);
        let rest = self.chunks.get(chunk + 1..).unwrap_or_default();
        first.iter().chain(rest.iter().flatten()).copied()
    }
    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flatten().copied()
    }
    fn first_not_below<'a>(&self, name: &[u8], name_of: &impl Fn(u32) -> &'a [u8]) -> (usize, usize) {
        self.find(|slot| name_of(slot) >= name)
    }
    /// Chunk and position of the first slot for which `reached` holds; it holds for all that follow.
    fn find(&self, reached: impl Fn(u32) -> bool) -> (usize, usize) {
        let chunk = self.chunks.partition_point(|slots| slots.last().is_some_and(|slot| !reached(*slot)));
        let at = self.chunks.get(chunk).map_or(0, |slots| slots.partition_point(|slot| !reached(*slot)));
        (chunk, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn like_an_ordered_map(steps in proptest::collection::vec((0_u32..3000, any::<bool>()), 0..3000)) {
            let names: Vec<Vec<u8>> = (0..3000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
            let name_of = |slot: u32| names[slot as usize].as_slice();
            let mut children = Children::default();
            let mut model = BTreeMap::new();
            for (slot, add) in steps {
                let name = name_of(slot);
                if add && !model.contains_key(name) {
                    children.insert(slot, name, name_of);
                    model.insert(name.to_vec(), slot);
                } else if model.remove(name).is_some() {
                    children.remove(name, name_of);
                }
            }
            prop_assert_eq!(children.len(), model.len() as u64);
            prop_assert!(children.iter().eq(model.values().copied()));
            let middle = b"8".to_vec();
            let expected: Vec<u32> = model.iter().filter(|(name, _)| **name > middle).map(|(_, slot)| *slot).collect();
            prop_assert_eq!(children.after(&middle, name_of).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn names_in_order_fill_their_chunks() {
        let names: Vec<[u8; 4]> = (0..2048_u32).map(u32::to_be_bytes).collect();
        let mut children = Children::default();
        for slot in 0..2048 {
            children.insert(slot, &names[slot as usize], |s| &names[s as usize]);
        }
        assert_eq!(children.chunks.len(), 4);
    }
}
