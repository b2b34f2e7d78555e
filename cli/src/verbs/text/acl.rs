//! ACL entries as people write them: `user:bob:rwx,default:group::r-x`.

use client::{AclEntry, AclScope, AclTag, GetAclResponse};

const WRITE_ENTRIES: &str = "write entries such as user:bob:rw-,group::r-x,mask::rwx,other::r--,default:user:bob:rwx";

/// Reads entries with their rights.
pub(crate) fn parse(text: &str) -> Result<Vec<AclEntry>, String> {
    text.split(',').map(|entry| read(entry, true).ok_or_else(|| refused(entry))).collect()
}

/// Reads entries that are to be removed: rights may be left out, and do not matter.
pub(crate) fn parse_names(text: &str) -> Result<Vec<AclEntry>, String> {
    text.split(',').map(|entry| read(entry, false).ok_or_else(|| refused(entry))).collect()
}

fn refused(entry: &str) -> String {
    format!("{entry:?} is no ACL entry: {WRITE_ENTRIES}")
}

fn read(entry: &str, with_rights: bool) -> Option<AclEntry> {
    let mut parts = entry.trim().split(':').peekable();
    let default = matches!(parts.peek(), Some(&"default" | &"d"));
    if default {
        parts.next();
    }
    let tag = match parts.next()? {
        "user" | "u" => AclTag::User,
        "group" | "g" => AclTag::Group,
        "mask" | "m" => AclTag::Mask,
        "other" | "o" => AclTag::Other,
        _ => return None,
    };
    let mut name = parts.next().unwrap_or_default();
    let mut rights = parts.next();
    let named = matches!(tag, AclTag::User | AclTag::Group);
    if !named && !name.is_empty() && rights.is_none() {
        // `mask:rwx` and `other:r--` are as good as with two colons.
        rights = Some(std::mem::take(&mut name));
    }
    if parts.next().is_some() || (!named && !name.is_empty()) {
        return None;
    }
    let rights = match rights {
        Some(text) if with_rights => parse_rights(text)?,
        Some(text) => {
            if text.is_empty() {
                0
            } else {
                parse_rights(text)?
            }
        }
        None if with_rights => return None,
        None => 0,
    };
    let scope = if default { AclScope::Default } else { AclScope::Access };
    Some(AclEntry { scope: scope.into(), tag: tag.into(), name: name.to_owned(), rights })
}

/// `rwx`, `r-x`, `rx`, or a digit.
fn parse_rights(text: &str) -> Option<u32> {
    if let Ok(digit) = text.parse::<u32>() {
        return (digit < 8 && text.len() == 1).then_some(digit);
    }
    let mut rights = 0;
    for letter in text.chars() {
        rights |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    (!text.is_empty() && text.len() <= 3).then_some(rights)
}

/// `rwx`, `r-x`.
pub(crate) fn rights_text(rights: u32) -> String {
    [(4, 'r'), (2, 'w'), (1, 'x')].iter().map(|(bit, letter)| if rights & bit != 0 { *letter } else { '-' }).collect()
}

/// What of an entry's rights the mask of its scope lets through: all of them if there is no mask, or if the mask
/// does not hold for it.
pub(crate) fn effective(acl: &GetAclResponse, entry: &AclEntry) -> u32 {
    let masked = match entry.tag() {
        AclTag::User => !entry.name.is_empty(),
        AclTag::Group => true,
        AclTag::Mask | AclTag::Other => false,
    };
    let mask = acl.entries.iter().find(|other| other.scope == entry.scope && other.tag() == AclTag::Mask);
    match mask {
        Some(mask) if masked => entry.rights & mask.rights,
        _ => entry.rights,
    }
}

/// Name of a tag.
pub(crate) const fn tag_name(tag: AclTag) -> &'static str {
    match tag {
        AclTag::User => "user",
        AclTag::Group => "group",
        AclTag::Mask => "mask",
        AclTag::Other => "other",
    }
}

/// The entry as it is written.
pub(crate) fn entry_text(entry: &AclEntry) -> String {
    let scope = if entry.scope() == AclScope::Default { "default:" } else { "" };
    format!("{scope}{}:{}:{}", tag_name(entry.tag()), entry.name, rights_text(entry.rights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_as_people_write_them() {
        let text = |entries: Result<Vec<AclEntry>, String>| {
            entries.map(|entries| entries.iter().map(entry_text).collect::<Vec<_>>().join(","))
        };
        for (written, meant) in [
            ("user:bob:rwx", "user:bob:rwx"),
            ("u:bob:rx,d:g::5", "user:bob:r-x,default:group::r-x"),
            ("mask::rw-,m:r", "mask::rw-,mask::r--"),
            ("other::---, default:other:x", "other::---,default:other::--x"),
        ] {
            assert_eq!(text(parse(written)), Ok(meant.to_owned()), "{written}");
        }
        for bad in ["", "user:bob", "user:bob:rwxr", "user:bob:q", "mask:x:rwx", "bob:rwx", "user:bob:8", "u::rw:x"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(text(parse_names("user:bob,default:group:etl:,mask")), text(parse("u:bob:-,d:g:etl:-,m::-")));
    }

    #[test]
    fn the_mask_limits_all_but_owner_and_others() {
        let entries = parse("user::rwx,user:bob:rwx,group::rwx,mask::r-x,other::rwx,default:user:bob:rwx").unwrap();
        let acl = GetAclResponse { entries, ..GetAclResponse::default() };
        let rights: Vec<u32> = acl.entries.iter().map(|entry| effective(&acl, entry)).collect();
        assert_eq!(rights, [7, 5, 5, 5, 7, 7]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(default:|d:)?[ugmoxserthak]{0,5}:{0,3}[a-z]{0,2}:?[rwx0-9-]{0,4}") {
            if let Ok(entries) = parse(&text) {
                prop_assert!(entries.iter().all(|entry| entry.rights < 8));
            }
            drop(parse_names(&text));
        }
    }
}
