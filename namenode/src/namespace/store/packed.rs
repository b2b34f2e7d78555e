//! How a block is kept: 52 bytes for an id and a stamp of five bytes, a length of six, three storages and a digest.
//!
//! ```text
//!   inode slot · next block of the file
//!   id · stamp            five bytes each, counted from the first that is ever given; wider ones are kept aside
//!   length                six bytes: twice the longest block
//!   up to three logged storages, 24 bits each; the others are kept aside
//!   marks: number of storages, wide, digest · flags · digest
//! ```

use proto::ids::{BlockId, GenerationStamp};

use super::ids::NONE;
use super::records::{BLOCK_SIZE_UNIT, Block};
use super::sharded::Sharded;

/// Storages that fit into a block record.
pub(crate) const INLINE_HOMES: usize = 3;
/// What fits into five bytes.
const NARROW: u64 = 1 << 40;
/// A block is not longer than its file's block size, a u32 of units.
const LONGEST_BYTES: u64 = (u32::MAX as u64 + 1) * BLOCK_SIZE_UNIT;
const _: () = assert!(LONGEST_BYTES < 1 << 48, "a length has six bytes");

const HOME_COUNT: u8 = 3;
const WIDE: u8 = 4;
const DIGEST: u8 = 8;

/// Id and stamp of blocks whose numbers do not fit, by slot. No cluster comes near: a million blocks a second take
/// twelve days to use up five bytes, and this keeps it right from then on.
pub(crate) type Wide = Sharded<u32, (i64, u64)>;

/// A block in its slab.
#[derive(Clone, Copy)]
pub(crate) struct PackedBlock {
    inode: u32,
    next: u32,
    id: [u8; 5],
    stamp: [u8; 5],
    len: [u8; 6],
    homes: [[u8; 3]; INLINE_HOMES],
    marks: u8,
    flags: u8,
    digest: [u8; 16],
}

impl Default for PackedBlock {
    fn default() -> Self {
        Self {
            inode: NONE,
            next: NONE,
            id: [0; 5],
            stamp: [0; 5],
            len: [0; 6],
            homes: [[0; 3]; INLINE_HOMES],
            marks: 0,
            flags: 0,
            digest: [0; 16],
        }
    }
}

const fn five([a, b, c, d, e]: [u8; 5]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
}
const fn to_five(number: u64) -> [u8; 5] {
    let [a, b, c, d, e, ..] = number.to_le_bytes();
    [a, b, c, d, e]
}

impl PackedBlock {
    /// Packs a block without storages and digest; true if its id and stamp must be kept aside.
    pub(crate) fn new(block: &Block) -> (Self, bool) {
        let mut packed = Self { inode: block.inode, next: block.next, flags: block.flags, ..Self::default() };
        packed.set_len_bytes(block.len_bytes);
        let wide = packed.set_numbers(block.id, block.stamp);
        (packed, wide)
    }
    /// Sets id and stamp; true if they must be kept aside.
    pub(crate) const fn set_numbers(&mut self, id: i64, stamp: u64) -> bool {
        let id = id.wrapping_sub(BlockId::FIRST.raw()).cast_unsigned();
        let stamp = stamp.wrapping_sub(GenerationStamp::FIRST.raw());
        let wide = id >= NARROW || stamp >= NARROW;
        if wide {
            self.marks |= WIDE;
            (self.id, self.stamp) = ([0; 5], [0; 5]);
        } else {
            self.marks &= !WIDE;
            (self.id, self.stamp) = (to_five(id), to_five(stamp));
        }
        wide
    }
    /// What it says.
    pub(crate) fn unpack(&self, slot: u32, wide: &Wide) -> Block {
        let (id, stamp) = if self.is_wide() {
            wide.get(&slot).copied().unwrap_or_default()
        } else {
            let id = BlockId::FIRST.raw().wrapping_add_unsigned(five(self.id));
            (id, GenerationStamp::FIRST.raw().wrapping_add(five(self.stamp)))
        };
        Block { id, stamp, len_bytes: self.len_bytes(), inode: self.inode, next: self.next, flags: self.flags }
    }
    pub(crate) const fn is_wide(&self) -> bool {
        self.marks & WIDE != 0
    }
    pub(crate) const fn len_bytes(&self) -> u64 {
        let [a, b, c, d, e, f] = self.len;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
    /// Sets a length of at most six bytes; the block size, which was looked at before, is less.
    pub(crate) const fn set_len_bytes(&mut self, len_bytes: u64) {
        let [a, b, c, d, e, f, ..] = len_bytes.to_le_bytes();
        self.len = [a, b, c, d, e, f];
    }
    pub(crate) const fn next(&self) -> u32 {
        self.next
    }
    pub(crate) const fn set_next(&mut self, next: u32) {
        self.next = next;
    }
    pub(crate) const fn set_inode(&mut self, inode: u32) {
        self.inode = inode;
    }
    pub(crate) const fn set_flag(&mut self, flag: u8) {
        self.flags |= flag;
    }
    pub(crate) const fn clear_flag(&mut self, flag: u8) {
        self.flags &= !flag;
    }
    pub(crate) const fn digest(&self) -> Option<&[u8; 16]> {
        if self.marks & DIGEST == 0 { None } else { Some(&self.digest) }
    }
    pub(crate) const fn clear_digest(&mut self) {
        self.marks &= !DIGEST;
        self.digest = [0; 16];
    }
    pub(crate) const fn set_digest(&mut self, digest: [u8; 16]) {
        self.marks |= DIGEST;
        self.digest = digest;
    }
    /// The storages that fit; the others are in a side table.
    pub(crate) fn inline_homes(&self) -> impl Iterator<Item = u32> + Clone {
        self.homes
            .iter()
            .take(usize::from(self.marks & HOME_COUNT))
            .map(|[low, middle, high]| u32::from_le_bytes([*low, *middle, *high, 0]))
    }
    /// Could there be more storages than these?
    pub(crate) const fn is_full(&self) -> bool {
        self.marks & HOME_COUNT == INLINE_HOMES as u8
    }
    /// Keeps the first storages; the caller puts the rest into the side table.
    pub(crate) fn set_inline_homes(&mut self, homes: &[u32]) {
        let mut count = 0;
        for (to, home) in self.homes.iter_mut().zip(homes) {
            let [low, middle, high, _] = home.to_le_bytes();
            *to = [low, middle, high];
            count += 1;
        }
        self.marks = self.marks & !HOME_COUNT | count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_size() {
        assert_eq!(size_of::<PackedBlock>(), 52);
    }

    #[test]
    fn storages_of_24_bits_come_back() {
        let mut block = PackedBlock::default();
        block.set_inline_homes(&[0, 1, (1 << 24) - 1, 77, 78]);
        assert_eq!(block.inline_homes().collect::<Vec<_>>(), [0, 1, (1 << 24) - 1]);
        block.set_inline_homes(&[5]);
        assert_eq!(block.inline_homes().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn sc_08_every_number_comes_back_or_is_kept_aside() {
        let (first, stamp) = (BlockId::FIRST.raw(), GenerationStamp::FIRST.raw());
        let edge = NARROW.cast_signed();
        for (id, stamp, aside) in [
            (first, stamp, false),
            (first + edge - 1, stamp + NARROW - 1, false),
            (first + edge, stamp, true),
            (first, stamp + NARROW, true),
            (i64::MAX, u64::MAX, true),
            (i64::MIN, 0, true),
        ] {
            for len_bytes in [0, 1, LONGEST_BYTES - 1, LONGEST_BYTES] {
                let block = Block { id, stamp, len_bytes, inode: 7, next: 8, flags: 1 };
                let (packed, wide) = PackedBlock::new(&block);
                assert_eq!(wide, aside, "{id} {stamp}");
                let mut kept = Wide::new();
                if wide {
                    kept.insert(3, (id, stamp));
                }
                assert_eq!(packed.unpack(3, &kept), block);
            }
        }
    }
}
