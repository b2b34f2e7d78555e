//! Rare attributes of inodes, in side tables by inode id: targets of symbolic links, extended attributes, ACLs, quotas.
//! Each change keeps the state hash and the inode's flags of rare things in step.

use std::sync::Arc;

use bytes::Bytes;

use super::records::rare;
use super::{Store, hash_kind};
use crate::namespace::hash::Mixer;

/// An extended attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Xattr {
    /// With its class: `user.colour`.
    pub(crate) name: Box<str>,
    pub(crate) value: Bytes,
}

/// Whom an ACL entry is about. The order is that of listings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum AclName {
    /// The owner. In default entries only: in access entries the mode says it.
    Owner,
    /// Number of an interned string.
    User(u32),
    /// The owning group.
    OwningGroup,
    /// Number of an interned string.
    Group(u32),
    /// Most that named entries and the owning group get. In default entries only.
    Mask,
    /// Everybody else. In default entries only.
    Other,
}

/// What a mode cannot say. Both lists are in order and have each name once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Acl {
    /// Owning group and named entries; empty if the mode says everything. Otherwise the mode's group bits are the mask.
    pub(crate) access: Vec<(AclName, u8)>,
    /// What new entries of a directory inherit; empty, or with owner, owning group, other and, if needed, a mask.
    pub(crate) default: Vec<(AclName, u8)>,
}

impl Acl {
    pub(crate) fn is_empty(&self) -> bool {
        self.access.is_empty() && self.default.is_empty()
    }
}

/// Limits of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Quota {
    /// Most names, the directory itself included.
    pub(crate) names: Option<u64>,
    /// Most bytes times copies.
    pub(crate) space_bytes: Option<u64>,
}

/// Something whose presence at an inode is in the state hash.
pub(crate) trait Hashed {
    /// What it adds.
    fn hash_of(&self, inode: u64) -> u64;
}
impl Hashed for Arc<str> {
    fn hash_of(&self, inode: u64) -> u64 {
        Mixer::new(hash_kind::TARGET).word(inode).bytes(self.as_bytes()).finish()
    }
}
impl Hashed for Arc<[Xattr]> {
    fn hash_of(&self, inode: u64) -> u64 {
        let mut mixer = Mixer::new(hash_kind::XATTRS);
        mixer.word(inode);
        for xattr in self.iter() {
            mixer.bytes(xattr.name.as_bytes()).bytes(&xattr.value);
        }
        mixer.finish()
    }
}
impl Hashed for Arc<Acl> {
    fn hash_of(&self, inode: u64) -> u64 {
        let mut mixer = Mixer::new(hash_kind::ACL);
        mixer.word(inode);
        for list in [&self.access, &self.default] {
            mixer.word(list.len() as u64);
            for (name, rights) in list {
                let (kind, number) = name.numbers();
                mixer.word(u64::from(kind)).word(u64::from(number)).word(u64::from(*rights));
            }
        }
        mixer.finish()
    }
}
impl Hashed for Quota {
    fn hash_of(&self, inode: u64) -> u64 {
        let mut mixer = Mixer::new(hash_kind::QUOTA);
        mixer.word(inode);
        for limit in [self.names, self.space_bytes] {
            mixer.word(u64::from(limit.is_some())).word(limit.unwrap_or(0));
        }
        mixer.finish()
    }
}

impl AclName {
    /// As numbers, for hashes and images. Durable.
    pub(crate) const fn numbers(self) -> (u32, u32) {
        match self {
            Self::Owner => (0, 0),
            Self::User(number) => (1, number),
            Self::OwningGroup => (2, 0),
            Self::Group(number) => (3, number),
            Self::Mask => (4, 0),
            Self::Other => (5, 0),
        }
    }
    /// From numbers.
    pub(crate) const fn of(kind: u32, number: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::Owner,
            1 => Self::User(number),
            2 => Self::OwningGroup,
            3 => Self::Group(number),
            4 => Self::Mask,
            5 => Self::Other,
            _ => return None,
        })
    }
}

/// The hash of a value, 0 for none.
pub(crate) fn attribute_hash<T: Hashed>(inode: u64, value: Option<&T>) -> u64 {
    value.map_or(0, |value| value.hash_of(inode))
}

macro_rules! set_table {
    ($(#[$doc:meta])* $set:ident, $table:ident: $value:ty, $flag:expr) => {
        $(#[$doc])*
        pub(crate) fn $set(&mut self, slot: u32, value: Option<$value>) {
            self.keep_version(slot);
            let id = self.inode(slot).id;
            let added = attribute_hash(id, value.as_ref());
            let flag: u8 = $flag;
            let inode = self.inodes.get_mut(slot);
            let before = match value {
                Some(value) => {
                    inode.rare |= flag;
                    self.$table.insert(id, value)
                }
                None => {
                    inode.rare &= !flag;
                    self.$table.remove(&id)
                }
            };
            let removed = attribute_hash(id, before.as_ref());
            self.hash = self.hash.wrapping_add(added).wrapping_sub(removed);
        }
    };
}

impl Store {
    set_table! {
        /// Sets what a symbolic link names.
        set_target, targets: Arc<str>, 0
    }
    set_table! {
        /// Sets all extended attributes; `None` for none.
        set_xattrs, xattrs: Arc<[Xattr]>, rare::XATTRS
    }
    set_table! {
        /// Sets the ACL; `None` if the mode says everything.
        set_acl, acls: Arc<Acl>, rare::ACL
    }
    set_table! {
        /// Sets limits; `None` for none.
        set_quota, quotas: Quota, rare::QUOTA
    }

    /// What a symbolic link names.
    pub(crate) fn target(&self, slot: u32) -> &str {
        self.targets.get(&self.inode(slot).id).map_or("", |target| target)
    }
    /// Extended attributes in order of names.
    pub(crate) fn xattrs_of(&self, slot: u32) -> &[Xattr] {
        let inode = self.inode(slot);
        if !inode.has_rare(rare::XATTRS) {
            return &[];
        }
        self.xattrs.get(&inode.id).map_or(&[], |xattrs| xattrs)
    }
    /// The ACL, if the mode does not say everything.
    pub(crate) fn acl_of(&self, slot: u32) -> Option<&Arc<Acl>> {
        let inode = self.inode(slot);
        if inode.has_rare(rare::ACL) { self.acls.get(&inode.id) } else { None }
    }
    /// Limits of a directory.
    pub(crate) fn quota_of(&self, slot: u32) -> Quota {
        let inode = self.inode(slot);
        if !inode.has_rare(rare::QUOTA) {
            return Quota::default();
        }
        self.quotas.get(&inode.id).copied().unwrap_or_default()
    }
    /// Forgets everything that an inode has in side tables.
    pub(super) fn clear_attributes(&mut self, slot: u32) {
        let inode = self.inode(slot);
        if inode.is_symlink() {
            self.set_target(slot, None);
        }
        let rare = self.inode(slot).rare;
        if rare & rare::XATTRS != 0 {
            self.set_xattrs(slot, None);
        }
        if rare & rare::ACL != 0 {
            self.set_acl(slot, None);
        }
        if rare & rare::QUOTA != 0 {
            self.set_quota(slot, None);
        }
    }
}
