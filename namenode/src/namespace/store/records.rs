//! The fixed-size record of an inode, what a block looks like, and what open files have beside.
//!
//! ```text
//!   Inode, 64 bytes
//!   id · mtime · ctime · atime
//!   parent slot · name · owner · group   (the entry)
//!   block size · first block or directory
//!   mode · replication · kind · flags
//! ```

use proto::ids::SessionId;

use super::ids::NONE;
use super::names::NameRef;

/// Block sizes are kept in units of a checksum chunk.
pub(crate) const BLOCK_SIZE_UNIT: u64 = 512;

/// What an inode is. The numbers are durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A free slot.
    #[default]
    Free = 0,
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A further entry of a file or symbolic link: its `content` is the slot of the inode.
    Link = 4,
    /// A named pipe.
    Fifo = 5,
    /// A socket.
    Socket = 6,
    /// A device of characters.
    CharacterDevice = 7,
    /// A device of blocks.
    BlockDevice = 8,
}

/// Flags of an inode. The numbers are durable.
pub(crate) mod flags {
    /// Under construction: exactly these inodes have an [`super::Open`].
    pub(crate) const OPEN: u8 = 1;
    /// Not in the tree yet: appears at complete.
    pub(crate) const UNPUBLISHED: u8 = 2;
    /// Top of an unlinked tree that waits to be reclaimed.
    pub(crate) const DETACHED: u8 = 4;
    /// Not in the tree any more, but in some snapshot: the top of what a snapshot holds.
    pub(crate) const HELD: u8 = 8;
    /// Of a directory: snapshots of it may be made.
    pub(crate) const SNAPSHOTTABLE: u8 = 16;
    /// Every flag that this version knows.
    pub(crate) const ALL: u8 = OPEN | UNPUBLISHED | DETACHED | HELD | SNAPSHOTTABLE;
    /// Of a block: it has its final length.
    pub(crate) const COMMITTED: u8 = 1;
    /// Of a block: a truncate cut it off, and only snapshots see it ([`super::super::cuts`]).
    pub(crate) const CUT: u8 = 2;
    /// Of an open block that was finished before: no pipeline was logged since, so nobody was told of a byte beyond its
    /// length, and each replica that has as much has all that counts.
    pub(crate) const UNTOUCHED: u8 = 4;
}

/// What an inode has in side tables, so that the tables of rare things are looked into for those few only. Derived:
/// in no image and in no hash.
pub(crate) mod rare {
    /// Named ACL entries, or default ones.
    pub(crate) const ACL: u8 = 1;
    /// Extended attributes.
    pub(crate) const XATTRS: u8 = 2;
    /// A quota.
    pub(crate) const QUOTA: u8 = 4;
    /// Further entries ([`super::Kind::Link`]).
    pub(crate) const LINKS: u8 = 8;
    /// Ghosts: entries that only snapshots see.
    pub(crate) const GHOSTS: u8 = 16;
    /// States of the past, kept for snapshots.
    pub(crate) const VERSIONS: u8 = 32;
    /// The entry is younger than some snapshot.
    pub(crate) const BORN: u8 = 64;
    /// Blocks that were cut off, and that snapshots see.
    pub(crate) const CUTS: u8 = 128;
}

/// An inode with its first entry; or a further entry of one ([`Kind::Link`]).
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Inode {
    pub(crate) id: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
    pub(crate) atime_ns: i64,
    /// Slot of the directory; [`NONE`] for the root and for what is not linked.
    pub(crate) parent: u32,
    pub(crate) name: NameRef,
    /// Index of an interned string.
    pub(crate) owner: u32,
    /// Index of an interned string.
    pub(crate) group: u32,
    /// Files: in units of [`BLOCK_SIZE_UNIT`]. Devices: their number. Else 0.
    pub(crate) block_size_units: u32,
    /// Files: slot of the first block, or [`NONE`]. Directories: number of the [`super::Directory`]. Links: slot of
    /// the inode.
    pub(crate) content: u32,
    pub(crate) mode: u16,
    pub(crate) replication: u16,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// Of [`rare`].
    pub(crate) rare: u8,
}

impl Default for Inode {
    fn default() -> Self {
        Self {
            id: 0,
            mtime_ns: 0,
            ctime_ns: 0,
            atime_ns: 0,
            parent: NONE,
            name: NameRef::NONE,
            owner: 0,
            group: 0,
            block_size_units: 0,
            content: NONE,
            mode: 0,
            replication: 0,
            kind: Kind::Free,
            flags: 0,
            rare: 0,
        }
    }
}

impl Inode {
    pub(crate) fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }
    pub(crate) fn is_file(&self) -> bool {
        self.kind == Kind::File
    }
    pub(crate) fn is_symlink(&self) -> bool {
        self.kind == Kind::Symlink
    }
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
    pub(crate) const fn has_rare(&self, flag: u8) -> bool {
        self.rare & flag != 0
    }
    pub(crate) fn is_device(&self) -> bool {
        matches!(self.kind, Kind::CharacterDevice | Kind::BlockDevice)
    }
    pub(crate) fn block_size_bytes(&self) -> u64 {
        if self.is_device() { 0 } else { u64::from(self.block_size_units) * BLOCK_SIZE_UNIT }
    }
    /// Which device it stands for; 0 of everything else.
    pub(crate) fn device(&self) -> u32 {
        if self.is_device() { self.block_size_units } else { 0 }
    }
}

/// A block of a file, as it is looked at; how it is kept: [`super::packed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) id: i64,
    pub(crate) stamp: u64,
    /// Its final length; until it is committed its floor: what it holds at least.
    pub(crate) len_bytes: u64,
    /// Slot of the file.
    pub(crate) inode: u32,
    /// Slot of the next block of the file, or [`NONE`]; [`NONE`] for blocks that were cut off.
    pub(crate) next: u32,
    pub(crate) flags: u8,
}

impl Default for Block {
    fn default() -> Self {
        Self { id: 0, stamp: 0, len_bytes: 0, inode: NONE, next: NONE, flags: 0 }
    }
}

impl Block {
    pub(crate) const fn committed(&self) -> bool {
        self.flags & flags::COMMITTED != 0
    }
    pub(crate) const fn is_cut(&self) -> bool {
        self.flags & flags::CUT != 0
    }
    pub(crate) const fn is_untouched(&self) -> bool {
        self.flags & flags::UNTOUCHED != 0
    }
    /// Does it belong to the visible length of its file? A new block does once it is committed; one that was reopened
    /// does all the time.
    pub(crate) const fn is_visible(&self) -> bool {
        self.len_bytes > 0
    }
}

/// What a file under construction has beside its inode. The only place that says who writes (scar SC-13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Open {
    /// Lease in force.
    pub(crate) epoch: u64,
    /// Who holds it.
    pub(crate) session: Option<SessionId>,
    /// Where the file will appear, if it is unpublished.
    pub(crate) pin: Option<Pin>,
    /// The highest stamp that was reserved for its open last block and is not in force yet; 0 if there is none. That of
    /// a recovery is in force when the recovery ends.
    pub(crate) reserved_stamp: u64,
    /// Storages that its writer was offered for the open last block since its pipeline was logged: those may be in the
    /// next one, beside those of the log.
    pub(crate) offered: Vec<u32>,
    /// Nobody writes it any more: the replicas of its last block are asked what they hold.
    pub(crate) recovery: Option<Recovering>,
}

/// Storages that are remembered as offered; beyond it the oldest are forgotten.
pub(crate) const MAX_OFFERED: usize = 1024;

/// How the recovery of a last block must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Recovering {
    /// The length that the block gets, which it shows already; else what its replicas hold.
    pub(crate) target_len_bytes: Option<u64>,
    /// A superuser said that what does not answer is lost: the best of what is left is taken.
    pub(crate) accept_loss: bool,
}

impl Open {
    /// Somebody begins to write.
    pub(crate) const fn by(epoch: u64, session: Option<SessionId>, pin: Option<Pin>) -> Self {
        Self { epoch, session, pin, reserved_stamp: 0, offered: Vec::new(), recovery: None }
    }
    /// Notes storages that its writer may put into the next pipeline.
    pub(crate) fn offer(&mut self, storages: &[u32]) {
        for storage in storages {
            if !self.offered.contains(storage) {
                self.offered.push(*storage);
            }
        }
        let surplus = self.offered.len().saturating_sub(MAX_OFFERED);
        self.offered.drain(..surplus);
    }
    /// Is its last block made shorter, rather than longer?
    pub(crate) fn is_being_cut(&self) -> bool {
        self.recovery.is_some_and(|recovery| recovery.target_len_bytes.is_some())
    }
}

/// The place of an unpublished file, by inode: a rename of the directory in between moves it along (scar SC-02).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pin {
    /// Id of the directory.
    pub(crate) parent: u64,
    /// Name in it.
    pub(crate) name: Box<str>,
    /// May it replace a file of that name?
    pub(crate) overwrite: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_size() {
        assert_eq!(size_of::<Inode>(), 64);
    }
}
