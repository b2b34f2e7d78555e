//! Pages in two levels, so that a frozen view of ten million records is a few hundred clones.
//!
//! ```text
//!   chunks: [Arc ─▶ 64 × Arc ─▶ page] …
//!             ▲ a frozen view clones these; the next write below one copies its 64 pointers and one page, once
//! ```

use std::sync::Arc;

/// Pages of a chunk.
const CHUNK: usize = 64;

type Page<T> = Arc<[T]>;

/// Pages by number, shared with frozen views. A page that was given back is empty.
#[derive(Clone)]
pub(crate) struct PageTable<T> {
    chunks: Vec<Arc<[Page<T>; CHUNK]>>,
    /// Number of pages, those given back included.
    len: usize,
}

impl<T> Default for PageTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> PageTable<T> {
    /// No pages.
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
    /// A page.
    pub(crate) fn get(&self, page: usize) -> &[T] {
        &self.chunks[page / CHUNK][page % CHUNK]
    }
    /// Memory of the pages and of the table.
    pub(crate) fn bytes(&self) -> u64 {
        let of_page = |page: &Page<T>| if page.is_empty() { 0 } else { size_of_val(&**page) + 16 };
        let pages: usize = self.chunks.iter().flat_map(|chunk| chunk.iter()).map(of_page).sum();
        let table =
            self.chunks.len() * (CHUNK * size_of::<Page<T>>() + 16) + self.chunks.capacity() * size_of::<usize>();
        (pages + table) as u64
    }
}

impl<T: Clone> PageTable<T> {
    /// A page, for change. Copies what a frozen view still holds.
    pub(crate) fn get_mut(&mut self, page: usize) -> &mut [T] {
        Arc::make_mut(&mut Arc::make_mut(&mut self.chunks[page / CHUNK])[page % CHUNK])
    }
    /// Adds a page, or fills one that was given back.
    pub(crate) fn set(&mut self, page: usize, records: Page<T>) {
        while self.chunks.len() <= page / CHUNK {
            let empty: Page<T> = Arc::new([]);
            self.chunks.push(Arc::new(std::array::from_fn(|_| empty.clone())));
        }
        self.len = self.len.max(page + 1);
        Arc::make_mut(&mut self.chunks[page / CHUNK])[page % CHUNK] = records;
    }
    /// Is this page there?
    pub(crate) fn is_there(&self, page: usize) -> bool {
        page < self.len && !self.get(page).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_pages_stay_and_others_change() {
        let mut table = PageTable::new();
        for page in 0..200_u32 {
            table.set(page as usize, Arc::from([page, page]));
        }
        let frozen = table.clone();
        table.get_mut(70)[1] = 7;
        table.set(71, Arc::new([]));
        assert_eq!((frozen.get(70), table.get(70)), (&[70, 70][..], &[70, 7][..]));
        assert_eq!((table.is_there(71), frozen.is_there(71), table.is_there(200)), (false, true, false));
        assert_eq!((table.len, table.get(199)), (200, &[199, 199][..]));
        assert!(table.bytes() >= 199 * 8);
    }
}
