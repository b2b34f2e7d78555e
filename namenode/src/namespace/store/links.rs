//! Further entries of inodes. Each is a record of its own ([`Kind::Link`]) in the slab of inodes, so that indexes and
//! listings know entries only; the first entry is in the inode itself.
//!
//! ```text
//!   /a/x ─▶ inode (its own entry)  ◀─content─ link record ◀─ /b/y
//!   unlink /a/x: the inode takes over the entry of a link record, whose record goes
//! ```

use std::collections::BTreeMap;

use super::records::{Inode, Kind, rare};
use super::{NONE, Store};

impl Store {
    /// The inode behind an entry.
    pub(crate) fn inode_of(&self, entry: u32) -> u32 {
        let record = self.inode(entry);
        if record.kind == Kind::Link { record.content } else { entry }
    }
    /// The further entries of an inode, oldest first.
    pub(crate) fn links_of(&self, slot: u32) -> &[u32] {
        if !self.inode(slot).has_rare(rare::LINKS) {
            return &[];
        }
        self.links.get(slot).map_or(&[], |links| links)
    }
    /// Names that an inode has.
    pub(crate) fn nlink(&self, slot: u32) -> u32 {
        u32::from(self.inode(slot).parent != NONE) + self.links_of(slot).len() as u32
    }
    /// Names by which an inode is found: those in trees that are unlinked, or that only snapshots hold, are none.
    pub(crate) fn living_names(&self, slot: u32) -> u32 {
        if !self.inode(slot).has_rare(rare::LINKS) {
            return self.nlink(slot);
        }
        // Many names are often in few directories: each is asked for once.
        let mut asked = BTreeMap::new();
        let lives = |parent: &u32| *asked.entry(*parent).or_insert_with(|| self.hangs(*parent));
        self.parents_of(slot).filter(lives).count() as u32
    }
    /// Directories that list an inode, once for each entry.
    pub(crate) fn parents_of(&self, slot: u32) -> impl Iterator<Item = u32> {
        let first = self.inode(slot).parent;
        let further = self.links_of(slot).iter().map(|link| self.inode(*link).parent);
        std::iter::once(first).chain(further).filter(|parent| *parent != NONE)
    }
    /// Directories that list an inode, each with how many names of it: many names are often in few directories, and what
    /// is done for all directories above them is done once for each.
    pub(crate) fn names_by_directory(&self, slot: u32) -> Vec<(u32, u64)> {
        if !self.inode(slot).has_rare(rare::LINKS) {
            return self.parents_of(slot).map(|parent| (parent, 1)).collect();
        }
        let mut names = BTreeMap::new();
        for parent in self.parents_of(slot) {
            *names.entry(parent).or_insert(0) += 1;
        }
        names.into_iter().collect()
    }
    /// Adds a record of a further entry, which is not linked yet.
    pub(crate) fn add_link(&mut self, id: u64, slot: u32) -> u32 {
        let link = self.add_inode(Inode { id, kind: Kind::Link, content: slot, ..Inode::default() });
        self.note_link(slot, link);
        link
    }
    /// Gives a further entry its inode. Only for loading, after all inodes are there.
    pub(crate) fn join_link(&mut self, link: u32, slot: u32) {
        self.mark(link, |record| record.content = slot);
        self.note_link(slot, link);
    }
    fn note_link(&mut self, slot: u32, link: u32) {
        self.links.get_or_default(slot).push(link);
        self.inodes.get_mut(slot).rare |= rare::LINKS;
    }
    fn forget_link(&mut self, slot: u32, link: u32) {
        let Some(links) = self.links.get_mut(slot) else { return };
        links.retain(|other| *other != link);
        if links.is_empty() {
            self.links.remove(slot);
            self.inodes.get_mut(slot).rare &= !rare::LINKS;
        }
    }
    /// An entry was taken out of its directory. True if the inode behind it has other entries: then nothing more is
    /// to be done. A link's record goes; an inode that lost its own entry takes over that of its newest link.
    pub(crate) fn lives_on(&mut self, entry: u32) -> bool {
        if self.inode(entry).kind == Kind::Link {
            let slot = self.inode_of(entry);
            self.forget_link(slot, entry);
            self.remove_inode(entry);
            return true;
        }
        let Some(link) = self.links_of(entry).last().copied() else { return false };
        let (parent, name) = (self.inode(link).parent, self.name(link).to_owned());
        let born = self.born_of(link);
        self.cut(link);
        self.forget_link(entry, link);
        self.remove_inode(link);
        self.put_entry(parent, &name, entry);
        self.set_born(entry, born);
        true
    }
}
