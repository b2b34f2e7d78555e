//! Who may do what, by POSIX 1003.1e.

use super::acl::Tag;
use super::tree::Node;

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;
/// To change the entries of a directory.
pub(super) const ENTRIES: u32 = WRITE | EXECUTE;

/// A caller.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Person {
    pub(in super::super) name: &'static str,
    pub(in super::super) groups: &'static [&'static str],
    pub(in super::super) superuser: bool,
}

impl Person {
    pub(super) fn is_in(&self, group: &str) -> bool {
        self.groups.contains(&group)
    }
    pub(super) fn owns(&self, node: &Node) -> bool {
        self.superuser || node.owner == self.name
    }
    /// The first class that fits decides; of groups any that grants is enough.
    pub(super) fn may(&self, node: &Node, rights: u32) -> bool {
        let acl = &node.access;
        let grants = |bits: u32| bits & rights == rights;
        if self.superuser {
            return true;
        }
        if node.owner == self.name {
            return grants(acl.get(&Tag::Owner));
        }
        let mask = if acl.has_mask() { acl.get(&Tag::Mask) } else { 7 };
        if let Some(bits) = acl.0.get(&Tag::User(self.name.to_owned())) {
            return grants(bits & mask);
        }
        let in_group = |tag: &Tag| match tag {
            Tag::OwningGroup => self.is_in(&node.group),
            Tag::Group(group) => self.is_in(group),
            _ => false,
        };
        let groups: Vec<u32> = acl.0.iter().filter(|(tag, _)| in_group(tag)).map(|(_, bits)| bits & mask).collect();
        if groups.is_empty() { grants(acl.get(&Tag::Other)) } else { groups.into_iter().any(grants) }
    }
    /// Does the sticky bit of a directory keep this caller from removing or replacing an entry?
    pub(super) fn is_stuck(&self, directory: &Node, entry: &Node) -> bool {
        directory.is_sticky() && !self.owns(directory) && !self.owns(entry)
    }
}
