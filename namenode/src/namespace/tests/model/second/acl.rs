//! Access control lists as POSIX 1003.1e and HDFS have them: whole lists, the mode's nine bits are read from them.

use std::collections::BTreeMap;

use proto::error::ErrorCode;

use super::rules::{Told, refuse};

/// Whom an entry is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Tag {
    Owner,
    User(String),
    OwningGroup,
    Group(String),
    Mask,
    Other,
}

/// A list of one scope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Acl(pub(super) BTreeMap<Tag, u32>);

/// A change, as callers ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Modify,
    RemoveEntries,
    Set,
    RemoveDefault,
    RemoveAll,
}

const BASE: [Tag; 3] = [Tag::Owner, Tag::OwningGroup, Tag::Other];

impl Acl {
    pub(super) fn of_mode(mode: u32) -> Self {
        Self(BTreeMap::from([(Tag::Owner, mode >> 6 & 7), (Tag::OwningGroup, mode >> 3 & 7), (Tag::Other, mode & 7)]))
    }
    pub(super) fn get(&self, tag: &Tag) -> u32 {
        self.0.get(tag).copied().unwrap_or(0)
    }
    pub(super) fn has_mask(&self) -> bool {
        self.0.contains_key(&Tag::Mask)
    }
    /// The group class: the mask, where there is one.
    pub(super) fn mode_bits(&self) -> u32 {
        let group = if self.has_mask() { Tag::Mask } else { Tag::OwningGroup };
        self.get(&Tag::Owner) << 6 | self.get(&group) << 3 | self.get(&Tag::Other)
    }
    /// `chmod`.
    pub(super) fn set_mode_bits(&mut self, mode: u32) {
        let group = if self.has_mask() { Tag::Mask } else { Tag::OwningGroup };
        self.0.extend([(Tag::Owner, mode >> 6 & 7), (group, mode >> 3 & 7), (Tag::Other, mode & 7)]);
    }
    /// Has it more than a mode can say?
    pub(super) fn is_extended(&self) -> bool {
        self.0.len() > BASE.len()
    }
    fn is_named(tag: &Tag) -> bool {
        matches!(tag, Tag::User(_) | Tag::Group(_))
    }
    fn has_named(&self) -> bool {
        self.0.keys().any(Self::is_named)
    }
    /// The mask that lets everything through that it limits.
    fn recompute_mask(&mut self) {
        self.0.remove(&Tag::Mask);
        if self.has_named() {
            let limited = |tag: &Tag| Self::is_named(tag) || *tag == Tag::OwningGroup;
            let union = self.0.iter().filter(|(tag, _)| limited(tag)).fold(0, |all, (_, rights)| all | rights);
            self.0.insert(Tag::Mask, union);
        }
    }
    /// What a new entry of a directory with this default list gets, if `mode` was asked for.
    pub(super) fn inherited(&self, mode: u32) -> Self {
        let mut access = self.clone();
        let mut limit = |tag: Tag, bits: u32| {
            if let Some(rights) = access.0.get_mut(&tag) {
                *rights &= bits;
            }
        };
        limit(Tag::Owner, mode >> 6);
        limit(if self.has_mask() { Tag::Mask } else { Tag::OwningGroup }, mode >> 3);
        limit(Tag::Other, mode);
        access
    }
}

/// What the lists of a node are after a change.
pub(super) fn changed((access, default): (&Acl, &Acl), change: Change, given: [&[(Tag, u32)]; 2]) -> Told<(Acl, Acl)> {
    let mut lists = [access.clone(), default.clone()];
    let mut dirty = [false; 2];
    for (scope, entries) in given.into_iter().enumerate() {
        let once: BTreeMap<_, _> = entries.iter().cloned().collect();
        if once.len() != entries.len() {
            return refuse(ErrorCode::InvalidArgument);
        }
        let list = &mut lists[scope].0;
        match change {
            Change::Modify => {
                dirty[scope] = !once.is_empty();
                list.extend(once);
            }
            Change::Set if !once.is_empty() => {
                dirty[scope] = true;
                *list = once;
            }
            Change::RemoveEntries => {
                let before = list.len();
                list.retain(|tag, _| !once.contains_key(tag));
                dirty[scope] = list.len() != before;
            }
            Change::RemoveDefault if scope == 1 => list.clear(),
            Change::RemoveAll if scope == 1 => list.clear(),
            Change::RemoveAll => list.retain(|tag, _| BASE.contains(tag)),
            Change::Set | Change::RemoveDefault => {}
        }
    }
    let [mut access, mut default] = lists;
    if BASE.iter().any(|tag| !access.0.contains_key(tag)) {
        return refuse(ErrorCode::InvalidArgument);
    }
    // A mask alone is no list: it limits nothing.
    if default.0.keys().all(|tag| *tag == Tag::Mask) && change == Change::RemoveEntries {
        default.0.clear();
    }
    if !default.0.is_empty() {
        for tag in BASE {
            let rights = access.get(&tag);
            default.0.entry(tag).or_insert(rights);
        }
    }
    for (scope, list) in [&mut access, &mut default].into_iter().enumerate() {
        let names_mask = given[scope].iter().any(|(tag, _)| *tag == Tag::Mask);
        if names_mask && change == Change::RemoveEntries && list.has_named() {
            return refuse(ErrorCode::InvalidArgument);
        }
        let says_mask = names_mask && change != Change::RemoveEntries;
        if dirty[scope] && !says_mask {
            list.recompute_mask();
        }
    }
    Ok((access, default))
}
