//! ACLs as programs see them: attributes of the kernel's layout, with this machine's numbers. Pure.
//!
//! ```text
//!   u32 version 2 │ u16 tag · u16 rights · u32 number │ …      little endian, in order of tags and numbers
//! ```

use client::{AclEntry, AclScope, AclTag};

use crate::core::Answer;
use crate::errno::Errno;
use crate::people::People;

/// Of the layout.
const VERSION: u32 = 2;
/// Number of entries that name nobody.
const NOBODY: u32 = u32::MAX;
/// Bytes of an entry.
const ENTRY_BYTES: usize = 8;
/// Tags.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Attributes that are ACLs.
pub(crate) const ATTRIBUTES: [(&str, AclScope); 2] =
    [("system.posix_acl_access", AclScope::Access), ("system.posix_acl_default", AclScope::Default)];

/// Which ACL an attribute is.
#[must_use]
pub(crate) fn scope(attribute: &str) -> Option<AclScope> {
    ATTRIBUTES.iter().find(|(name, _)| *name == attribute).map(|(_, scope)| *scope)
}

/// The access ACL that is no more than a mode.
pub(crate) fn of_mode(mode: u32) -> Vec<AclEntry> {
    let entry = |(tag, shift): (AclTag, u32)| AclEntry {
        scope: AclScope::Access.into(),
        tag: tag.into(),
        name: String::new(),
        rights: mode >> shift & 7,
    };
    [(AclTag::User, 6), (AclTag::Group, 3), (AclTag::Other, 0)].map(entry).into()
}

/// The entries of a scope as an attribute; empty if there are none.
#[must_use]
pub(crate) fn encoded(entries: &[AclEntry], scope: AclScope, people: &People) -> Vec<u8> {
    let mut rows: Vec<(u16, u32, u16)> = entries
        .iter()
        .filter(|entry| entry.scope() == scope)
        .map(|entry| {
            let (tag, number) = match (entry.tag(), entry.name.is_empty()) {
                (AclTag::User, true) => (OWNER, NOBODY),
                (AclTag::User, false) => (USER, people.uid(&entry.name)),
                (AclTag::Group, true) => (OWNING_GROUP, NOBODY),
                (AclTag::Group, false) => (GROUP, people.gid(&entry.name)),
                (AclTag::Mask, _) => (MASK, NOBODY),
                (AclTag::Other, _) => (OTHER, NOBODY),
            };
            (tag, number, (entry.rights & 7) as u16)
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    rows.sort_unstable();
    let entry = |(tag, number, rights): (u16, u32, u16)| {
        tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(number.to_le_bytes())
    };
    VERSION.to_le_bytes().into_iter().chain(rows.into_iter().flat_map(entry)).collect()
}

/// The entries of an attribute. Those who are not told apart by name would be one: that is refused by the namenode.
pub(crate) fn decoded(bytes: &[u8], scope: AclScope, people: &People) -> Answer<Vec<AclEntry>> {
    let (version, rest) = bytes.split_first_chunk().ok_or(Errno::EINVAL)?;
    if u32::from_le_bytes(*version) != VERSION || rest.len() % ENTRY_BYTES != 0 {
        return Err(Errno::EINVAL);
    }
    rest.chunks_exact(ENTRY_BYTES).map(|entry| entry_of(entry, scope, people)).collect()
}

fn entry_of(entry: &[u8], scope: AclScope, people: &People) -> Answer<AclEntry> {
    let [tag, tag_high, rights, _, number @ ..] = entry else { return Err(Errno::EINVAL) };
    let number = u32::from_le_bytes(number.try_into().map_err(|_short| Errno::EINVAL)?);
    let (tag, name) = match u16::from_le_bytes([*tag, *tag_high]) {
        OWNER => (AclTag::User, String::new()),
        USER => (AclTag::User, people.user(number)),
        OWNING_GROUP => (AclTag::Group, String::new()),
        GROUP => (AclTag::Group, people.group(number)),
        MASK => (AclTag::Mask, String::new()),
        OTHER => (AclTag::Other, String::new()),
        _ => return Err(Errno::EINVAL),
    };
    Ok(AclEntry { scope: scope.into(), tag: tag.into(), name, rights: u32::from(*rights & 7) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_comes_back_in_the_kernels_order() {
        let people = People::default();
        let entry = |tag: AclTag, name: &str, rights| AclEntry { scope: 0, tag: tag.into(), name: name.into(), rights };
        let entries = [
            entry(AclTag::Other, "", 4),
            entry(AclTag::User, "uid7", 6),
            entry(AclTag::User, "", 7),
            entry(AclTag::Mask, "", 6),
            entry(AclTag::Group, "", 5),
            entry(AclTag::User, "uid5", 1),
            AclEntry { scope: AclScope::Default.into(), ..entry(AclTag::Other, "", 7) },
        ];
        let bytes = encoded(&entries, AclScope::Access, &people);
        assert_eq!((bytes.len(), &bytes[..12]), (4 + 6 * 8, &[2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255][..]));
        let back = decoded(&bytes, AclScope::Access, &people).unwrap();
        let wanted = [2, 5, 1, 4, 3, 0].map(|at: usize| entries[at].clone());
        assert_eq!(back, wanted);
        assert!(encoded(&entries[..6], AclScope::Default, &people).is_empty());
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        for bytes in [&[][..], &[2, 0, 0], &[1, 0, 0, 0], &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 64, 0, 7, 0, 0, 0, 0, 0]] {
            assert_eq!(decoded(bytes, AclScope::Access, &People::default()), Err(Errno::EINVAL), "{bytes:?}");
        }
        assert_eq!((scope("system.posix_acl_default"), scope("user.x")), (Some(AclScope::Default), None));
    }
}
