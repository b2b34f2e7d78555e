//! Blocks of files: a chain of records from the inode, with the end of longer chains kept aside.

use super::packed::{INLINE_HOMES, PackedBlock};
use super::records::{Block, flags};
use super::{NONE, Store, hash_kind};
use crate::namespace::hash::Mixer;

/// End and sums of a file's blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    /// Slot of the last block; [`NONE`] if there is none.
    pub(crate) last: u32,
    /// Number of blocks.
    pub(crate) count: u64,
    /// Bytes in committed blocks, and the floor of an open one.
    pub(crate) len_bytes: u64,
}

impl Store {
    /// The block in a slot.
    pub(crate) fn block(&self, slot: u32) -> Block {
        #[cfg(test)]
        super::looks::note();
        self.blocks.get(slot).unpack(slot, &self.wide_blocks)
    }
    /// The digest of a block.
    pub(crate) fn digest(&self, slot: u32) -> Option<&[u8; 16]> {
        self.blocks.get(slot).digest()
    }
    /// End and sums of the blocks of a file.
    pub(crate) fn extent(&self, inode: u32) -> Extent {
        if !self.extents.is_empty()
            && let Some(extent) = self.extents.get(inode)
        {
            return *extent;
        }
        if !self.inode(inode).is_file() {
            return Extent { last: NONE, count: 0, len_bytes: 0 };
        }
        match self.inode(inode).content {
            NONE => Extent { last: NONE, count: 0, len_bytes: 0 },
            first => Extent { last: first, count: 1, len_bytes: self.blocks.get(first).len_bytes() },
        }
    }
    pub(super) fn set_extent(&mut self, inode: u32, extent: Extent) {
        if extent.count > 1 {
            self.extents.insert(inode, extent);
        } else {
            self.extents.remove(inode);
        }
    }
    /// Slots of the blocks of a file, in order.
    pub(crate) fn chain(&self, inode: u32) -> impl Iterator<Item = u32> {
        let some = |slot: u32| (slot != NONE).then_some(slot);
        let first = if self.inode(inode).is_file() { some(self.inode(inode).content) } else { None };
        std::iter::successors(first, move |slot| some(self.blocks.get(*slot).next()))
    }
    /// Logged storages of a block.
    pub(crate) fn homes(&self, slot: u32) -> impl Iterator<Item = u32> {
        let block = self.blocks.get(slot);
        let more = if block.is_full() { self.more_homes.get(&slot) } else { None };
        block.inline_homes().chain(more.into_iter().flatten().copied())
    }
    /// Appends a block to a file.
    pub(crate) fn push_block(&mut self, inode: u32, block: Block, homes: &[u32], digest: Option<[u8; 16]>) -> u32 {
        self.reweigh(inode, |store| store.append_block(inode, block, homes, digest))
    }
    /// As [`Store::push_block`], before totals are kept. Only for loading.
    pub(crate) fn load_block(&mut self, inode: u32, block: Block, homes: &[u32], digest: Option<[u8; 16]>) {
        self.append_block(inode, block, homes, digest);
    }
    fn append_block(&mut self, inode: u32, block: Block, homes: &[u32], digest: Option<[u8; 16]>) -> u32 {
        let mut extent = self.extent(inode);
        let slot = self.insert_block(inode, block, homes, digest);
        if extent.last == NONE {
            self.inodes.get_mut(inode).content = slot;
        } else {
            self.blocks.get_mut(extent.last).set_next(slot);
        }
        extent.last = slot;
        extent.count += 1;
        extent.len_bytes += block.len_bytes;
        self.set_extent(inode, extent);
        slot
    }
    /// Adds the record of a block, which is in no chain yet.
    pub(super) fn insert_block(
        &mut self,
        inode: u32,
        mut block: Block,
        homes: &[u32],
        digest: Option<[u8; 16]>,
    ) -> u32 {
        block.inode = inode;
        block.next = NONE;
        let (packed, wide) = PackedBlock::new(&block);
        let slot = self.blocks.insert(packed);
        if wide {
            self.wide_blocks.insert(slot, (block.id, block.stamp));
        }
        self.by_block.insert(block.id.cast_unsigned(), slot);
        self.write_homes(slot, homes);
        if let Some(digest) = digest {
            self.blocks.get_mut(slot).set_digest(digest);
        }
        self.committed += u64::from(block.committed());
        self.hash = self.hash.wrapping_add(self.block_hash(slot));
        slot
    }
    fn write_homes(&mut self, slot: u32, homes: &[u32]) {
        self.blocks.get_mut(slot).set_inline_homes(homes);
        match homes.get(INLINE_HOMES..).filter(|rest| !rest.is_empty()) {
            Some(rest) => drop(self.more_homes.insert(slot, rest.into())),
            None if self.more_homes.len() > 0 => drop(self.more_homes.remove(&slot)),
            None => {}
        }
    }
    /// Gives a block its final length and its proven storages.
    pub(crate) fn commit_block(&mut self, slot: u32, len_bytes: u64, homes: &[u32], digest: Option<[u8; 16]>) {
        let inode = self.block(slot).inode;
        self.keep_version(inode);
        self.reweigh(inode, |store| store.fix_block(slot, len_bytes, homes, digest));
    }
    fn fix_block(&mut self, slot: u32, len_bytes: u64, homes: &[u32], digest: Option<[u8; 16]>) {
        self.hash = self.hash.wrapping_sub(self.block_hash(slot));
        let inode = self.block(slot).inode;
        let mut extent = self.extent(inode);
        let block = self.blocks.get_mut(slot);
        extent.len_bytes = extent.len_bytes - block.len_bytes() + len_bytes;
        block.set_len_bytes(len_bytes);
        block.set_flag(flags::COMMITTED);
        block.clear_flag(flags::UNTOUCHED);
        self.committed += 1;
        self.write_homes(slot, homes);
        // One that it had before was of another length.
        match digest {
            Some(digest) => self.blocks.get_mut(slot).set_digest(digest),
            None => self.blocks.get_mut(slot).clear_digest(),
        }
        self.set_extent(inode, extent);
        self.hash = self.hash.wrapping_add(self.block_hash(slot));
    }
    /// Opens the last block of a file again. It keeps `floor_bytes`: all that it has, or less if it is being cut.
    /// `marked`: it is noted that no pipeline was logged since.
    pub(crate) fn reopen_block(&mut self, slot: u32, floor_bytes: u64, marked: bool) {
        let inode = self.block(slot).inode;
        self.reweigh(inode, |store| store.open_block_again(slot, floor_bytes, marked));
    }
    fn open_block_again(&mut self, slot: u32, floor_bytes: u64, marked: bool) {
        self.hash = self.hash.wrapping_sub(self.block_hash(slot));
        let inode = self.block(slot).inode;
        let mut extent = self.extent(inode);
        let block = self.blocks.get_mut(slot);
        extent.len_bytes = extent.len_bytes - block.len_bytes() + floor_bytes;
        block.set_len_bytes(floor_bytes);
        block.clear_flag(flags::COMMITTED);
        if marked {
            block.set_flag(flags::UNTOUCHED);
        }
        // It is of the bytes that there were.
        block.clear_digest();
        self.committed -= 1;
        self.set_extent(inode, extent);
        self.hash = self.hash.wrapping_add(self.block_hash(slot));
    }
    /// Gives an open block another stamp, and the storages of its pipeline.
    pub(crate) fn restamp_block(&mut self, slot: u32, stamp: u64, homes: &[u32]) {
        self.hash = self.hash.wrapping_sub(self.block_hash(slot));
        let id = self.block(slot).id;
        self.blocks.get_mut(slot).clear_flag(flags::UNTOUCHED);
        if self.blocks.get_mut(slot).set_numbers(id, stamp) {
            self.wide_blocks.insert(slot, (id, stamp));
        } else if self.wide_blocks.len() > 0 {
            self.wide_blocks.remove(&slot);
        }
        self.write_homes(slot, homes);
        self.hash = self.hash.wrapping_add(self.block_hash(slot));
    }
    /// Removes the last block of a file; returns it.
    pub(crate) fn pop_block(&mut self, inode: u32) -> Option<Block> {
        self.reweigh(inode, |store| store.drop_last_block(inode))
    }
    fn drop_last_block(&mut self, inode: u32) -> Option<Block> {
        let mut extent = self.extent(inode);
        let last = self.chain(inode).last()?;
        let before = self.chain(inode).take_while(|slot| *slot != last).last();
        extent.count -= 1;
        extent.len_bytes -= self.block(last).len_bytes;
        match before {
            Some(before) => {
                self.blocks.get_mut(before).set_next(NONE);
                extent.last = before;
            }
            None => {
                self.inodes.get_mut(inode).content = NONE;
                extent.last = NONE;
            }
        }
        self.set_extent(inode, extent);
        Some(self.drop_block(last))
    }
    /// Removes the first block of a file; returns it.
    pub(crate) fn take_first_block(&mut self, inode: u32) -> Option<Block> {
        let first = self.chain(inode).next()?;
        let mut extent = self.extent(inode);
        let block = self.block(first);
        extent.count -= 1;
        extent.len_bytes -= block.len_bytes;
        if extent.count == 0 {
            extent.last = NONE;
        }
        self.inodes.get_mut(inode).content = block.next;
        self.set_extent(inode, extent);
        Some(self.drop_block(first))
    }
    /// Removes all blocks of a file; returns them in order.
    pub(crate) fn clear_blocks(&mut self, inode: u32) -> Vec<Block> {
        let slots: Vec<u32> = self.chain(inode).collect();
        if !slots.is_empty() {
            self.inodes.get_mut(inode).content = NONE;
            self.extents.remove(inode);
        }
        slots.into_iter().map(|slot| self.drop_block(slot)).collect()
    }
    /// Moves all blocks of a file behind those of another one.
    pub(crate) fn move_blocks(&mut self, from: u32, to: u32) {
        let slots: Vec<u32> = self.chain(from).collect();
        let (Some(first), Some(last)) = (slots.first().copied(), slots.last().copied()) else { return };
        self.keep_version(to);
        for slot in &slots {
            self.hash = self.hash.wrapping_sub(self.block_hash(*slot));
        }
        let moved = self.extent(from);
        self.inodes.get_mut(from).content = NONE;
        self.extents.remove(from);
        for slot in &slots {
            self.blocks.get_mut(*slot).set_inode(to);
        }
        self.reweigh(to, |store| {
            let mut extent = store.extent(to);
            match extent.last {
                NONE => store.inodes.get_mut(to).content = first,
                before => store.blocks.get_mut(before).set_next(first),
            }
            extent.last = last;
            extent.count += moved.count;
            extent.len_bytes += moved.len_bytes;
            store.set_extent(to, extent);
        });
        for slot in &slots {
            self.hash = self.hash.wrapping_add(self.block_hash(*slot));
        }
    }
    pub(super) fn drop_block(&mut self, slot: u32) -> Block {
        self.hash = self.hash.wrapping_sub(self.block_hash(slot));
        let block = self.block(slot);
        self.committed -= u64::from(block.committed());
        if self.more_homes.len() > 0 {
            self.more_homes.remove(&slot);
        }
        if self.blocks.get(slot).is_wide() {
            self.wide_blocks.remove(&slot);
        }
        self.by_block.remove(block.id.cast_unsigned());
        self.blocks.remove(slot);
        block
    }
    /// What a block adds to the state hash. The order of a file's blocks is the order of their ids.
    pub(super) fn block_hash(&self, slot: u32) -> u64 {
        let block = self.block(slot);
        let mut mixer = Mixer::new(hash_kind::BLOCK);
        mixer
            .word(block.id.cast_unsigned())
            .word(block.stamp)
            .word(block.len_bytes)
            .word(self.inode(block.inode).id)
            .word(u64::from(block.flags));
        for home in self.homes(slot) {
            mixer.word(u64::from(home));
        }
        mixer.bytes(self.digest(slot).map_or(&[], |digest| digest)).finish()
    }
}
