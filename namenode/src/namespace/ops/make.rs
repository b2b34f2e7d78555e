//! New inodes: what they get from their maker, and what they inherit from their directory.

use std::sync::Arc;

use crate::namespace::store::records::{Inode, Kind};
use crate::namespace::store::{Acl, AclName, fresh};
use crate::namespace::{Call, Namespace};

/// Who makes something, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maker {
    pub(super) owner: u32,
    /// With the umask applied.
    pub(super) mode: u16,
    /// Without it: taken where a default ACL is inherited. `None` if the caller does not say.
    pub(super) unmasked: Option<u16>,
    pub(super) now_ns: i64,
    /// Directories that are made in a setgid one are setgid themselves.
    pub(super) passes_setgid: bool,
}

/// Are directories that this command makes in a setgid one setgid? Since version 7 of the commands.
pub(super) const fn passes_setgid(call: &Call<'_>) -> bool {
    call.version >= 7
}

/// Setgid. Of a directory: what is made in it has its group (which all have here), and directories pass it on.
const SETGID: u16 = 0o2000;

impl Namespace {
    /// An inode with the next id. Its group is that of the directory that it is made in.
    pub(super) fn new_inode(&mut self, kind: Kind, maker: &Maker, parent: u32) -> Inode {
        let id = self.next_inode_id();
        fresh(id, kind, maker.mode, maker.owner, self.store.inode(parent).group, maker.now_ns)
    }
    /// The next id.
    pub(super) fn next_inode_id(&mut self) -> u64 {
        let id = self.next.inode;
        self.next.inode = id.next();
        id.raw()
    }
    /// A new directory that is to get into another one, linked or not.
    pub(super) fn new_directory(&mut self, parent: u32, maker: &Maker) -> u32 {
        let setgid = if maker.passes_setgid { self.store.inode(parent).mode & SETGID } else { 0 };
        let directory = self.new_inode(Kind::Directory, maker, parent);
        let slot = self.store.add_inode(directory);
        self.inherit(parent, slot, maker);
        if setgid != 0 {
            self.store.edit(slot, |inode| inode.mode |= setgid);
        }
        slot
    }
    /// Gives a new inode what the default ACL of its directory says (POSIX 1003.1e, draft 17: the entries, each class
    /// limited by the mode that was asked for, in place of the umask). Directories pass it on.
    pub(super) fn inherit(&mut self, parent: u32, slot: u32, maker: &Maker) {
        let Some(default) = self.store.acl_of(parent).map(|acl| acl.default.clone()).filter(|acl| !acl.is_empty())
        else {
            return;
        };
        let wanted = maker.unmasked.unwrap_or(maker.mode);
        let rights =
            |name: AclName| default.iter().find(|(other, _)| *other == name).map(|(_, rights)| u16::from(*rights));
        let extended = rights(AclName::Mask).is_some();
        let (user, other) = (rights(AclName::Owner).unwrap_or(7), rights(AclName::Other).unwrap_or(7));
        let group = rights(AclName::Mask).or_else(|| rights(AclName::OwningGroup)).unwrap_or(7);
        let mode = wanted & 0o7000 | (user << 6 | group << 3 | other) & wanted & 0o777;
        let kept = |name: &AclName| matches!(name, AclName::User(_) | AclName::Group(_) | AclName::OwningGroup);
        let access =
            if extended { default.iter().filter(|(name, _)| kept(name)).copied().collect() } else { Vec::new() };
        let default = if self.store.inode(slot).is_dir() { default } else { Vec::new() };
        self.store.edit(slot, |inode| inode.mode = mode);
        let acl = Acl { access, default };
        self.store.set_acl(slot, (!acl.is_empty()).then(|| Arc::new(acl)));
    }
    /// Entries of a directory changed.
    pub(super) fn touch(&mut self, directory: u32, now_ns: i64) {
        self.store.edit(directory, |inode| {
            inode.mtime_ns = now_ns;
            inode.ctime_ns = now_ns;
        });
    }
}
