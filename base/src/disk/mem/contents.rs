//! A file's bytes, live and durable, in sparse pages that the two share until they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::SECTOR_BYTES;
use crate::random::Randomness;

pub(super) const PAGE_BYTES: usize = 4096;
/// States a dirty page may still have on the medium, beside the durable and the newest one.
const MAX_OLDER: usize = 4;

type Page = Arc<[u8; PAGE_BYTES]>;

#[derive(Debug, Default)]
pub(super) struct Contents {
    live: BTreeMap<u64, Page>,
    live_len: u64,
    durable: BTreeMap<u64, Page>,
    durable_len: u64,
    /// Pages that differ from the medium, with states that writeback may have stored meanwhile.
    dirty: BTreeMap<u64, Vec<Option<Page>>>,
    /// Lengths the file has had since its last sync.
    lens: BTreeSet<u64>,
}

fn pages(offset: u64, len: usize) -> std::ops::Range<u64> {
    let size = PAGE_BYTES as u64;
    if len == 0 { 0..0 } else { offset / size..(offset + len as u64).div_ceil(size) }
}

/// Which part of page `page` the range covers, as positions in the page.
fn within(page: u64, offset: u64, end: u64) -> std::ops::Range<usize> {
    let start = page * PAGE_BYTES as u64;
    let from = offset.saturating_sub(start).min(PAGE_BYTES as u64) as usize;
    let to = end.saturating_sub(start).min(PAGE_BYTES as u64) as usize;
    from..to
}

impl Contents {
    pub(super) fn len_bytes(&self) -> u64 {
        self.live_len
    }
    pub(super) fn allocated_bytes(&self) -> u64 {
        (self.live.len() * PAGE_BYTES) as u64
    }
    /// Room that writing there would take.
    pub(super) fn growth_bytes(&self, offset: u64, len: usize) -> u64 {
        pages(offset, len).filter(|page| !self.live.contains_key(page)).count() as u64 * PAGE_BYTES as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self.live_len.min(offset.saturating_add(buffer.len() as u64));
        let len = end.saturating_sub(offset) as usize;
        for page in pages(offset, len) {
            let from = within(page, offset, end);
            let at = (page * PAGE_BYTES as u64 + from.start as u64 - offset) as usize;
            let to = &mut buffer[at..at + from.len()];
            match self.live.get(&page) {
                Some(bytes) => to.copy_from_slice(&bytes[from]),
                None => to.fill(0),
            }
        }
        len
    }

    fn touch(&mut self, page: u64) {
        let now = self.live.get(&page).cloned();
        let older = self.dirty.entry(page).or_default();
        if older.len() < MAX_OLDER {
            older.push(now);
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        for page in pages(offset, bytes.len()) {
            self.touch(page);
            let to = within(page, offset, end);
            let at = (page * PAGE_BYTES as u64 + to.start as u64 - offset) as usize;
            let from = &bytes[at..at + to.len()];
            let target = self.live.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(target)[to].copy_from_slice(from);
        }
        self.extend_to(end);
    }

    pub(super) fn extend_to(&mut self, len: u64) {
        if len > self.live_len {
            self.lens.insert(self.live_len);
            self.live_len = len;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.live_len {
            let first_gone = len.div_ceil(PAGE_BYTES as u64);
            let gone: Vec<u64> = self.live.range(first_gone..).map(|(page, _)| *page).collect();
            for page in gone {
                self.touch(page);
                self.live.remove(&page);
            }
            let cut = (len % PAGE_BYTES as u64) as usize;
            let last = len / PAGE_BYTES as u64;
            if cut > 0 && self.live.contains_key(&last) {
                self.touch(last);
                if let Some(page) = self.live.get_mut(&last) {
                    Arc::make_mut(page)[cut..].fill(0);
                }
            }
        }
        self.lens.insert(self.live_len);
        self.live_len = len;
    }

    pub(super) fn allocate(&mut self, offset: u64, len: u64) {
        let zero: Page = Arc::new([0; PAGE_BYTES]);
        for page in pages(offset, len as usize) {
            if !self.live.contains_key(&page) {
                self.touch(page);
                self.live.insert(page, Arc::clone(&zero));
            }
        }
        self.extend_to(offset + len);
    }

    pub(super) fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty).into_keys() {
            match self.live.get(&page) {
                Some(bytes) => self.durable.insert(page, Arc::clone(bytes)),
                None => self.durable.remove(&page),
            };
        }
        self.durable_len = self.live_len;
        self.lens.clear();
    }

    /// A sync failed: the pages count as clean, the medium keeps what it had.
    pub(super) fn forget_dirty(&mut self) {
        self.dirty.clear();
        self.lens.clear();
    }

    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        let (page, at) = (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize);
        for side in [&mut self.live, &mut self.durable] {
            if let Some(bytes) = side.get_mut(&page) {
                Arc::make_mut(bytes)[at] ^= 1 << (bit % 8);
            }
        }
    }

    /// What is left: `style` 0 nothing unsynced, 1 everything, else sector by sector.
    pub(super) fn power_cut(&mut self, randomness: &dyn Randomness, style: u64) {
        let unsynced = !self.dirty.is_empty() || self.durable_len != self.live_len;
        if style == 1 {
            self.sync();
        } else if style > 1 && unsynced {
            self.tear(randomness);
        }
        self.live = self.durable.clone();
        self.live_len = self.durable_len;
        self.dirty.clear();
        self.lens.clear();
    }

    fn tear(&mut self, randomness: &dyn Randomness) {
        let mut lens: Vec<u64> = std::mem::take(&mut self.lens).into_iter().collect();
        lens.extend([self.durable_len, self.live_len]);
        let len = lens[randomness.below(lens.len() as u64) as usize];
        for (page, mut states) in std::mem::take(&mut self.dirty) {
            states.push(self.durable.get(&page).cloned());
            states.push(self.live.get(&page).cloned());
            if self.durable.contains_key(&page) {
                // Cutting a file changes its length: it never leaves zeros below the old length.
                states.retain(Option::is_some);
            }
            let mut left = [0; PAGE_BYTES];
            for (at, sector) in left.chunks_mut(SECTOR_BYTES).enumerate() {
                let pick = randomness.below(states.len() as u64) as usize;
                if let Some(state) = &states[pick] {
                    sector.copy_from_slice(&state[at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES]);
                }
            }
            self.durable.insert(page, Arc::new(left));
        }
        self.durable_len = len;
        // No file system shows old bytes behind a new end: what is past the length is gone.
        let whole = len.div_ceil(PAGE_BYTES as u64);
        self.durable.retain(|page, _| *page < whole);
        let cut = (len % PAGE_BYTES as u64) as usize;
        if cut > 0
            && let Some(last) = self.durable.get_mut(&(len / PAGE_BYTES as u64))
        {
            Arc::make_mut(last)[cut..].fill(0);
        }
    }
}
