//! Who may do what: mode bits, owner, group, superuser, sticky bit. Checked inside `apply`, against replicated
//! state and the caller as the log has it.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::CallerRecord;

use super::Namespace;
use super::store::records::Inode;
use super::store::{AclName, Store};

/// Bits of a right.
pub(crate) const READ: u16 = 4;
/// Change the contents, or the entries of a directory.
pub(crate) const WRITE: u16 = 2;
/// Pass through a directory.
pub(crate) const EXECUTE: u16 = 1;
/// Deleting or renaming an entry needs the entry or the directory to be the caller's.
const STICKY: u16 = 0o1000;

impl Inode {
    /// Has it the sticky bit?
    pub(crate) const fn is_sticky(&self) -> bool {
        self.mode & STICKY != 0
    }
}
/// Longest name of a user or group, in bytes.
pub(crate) const MAX_PRINCIPAL_BYTES: usize = 255;

/// Whose something is, and what its mode allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) owner: u32,
    pub(crate) group: u32,
    pub(crate) mode: u16,
}

/// A caller, with the numbers of its names in this namespace.
pub(crate) struct Who<'a> {
    /// Name of the user: the owner of what it makes.
    pub(crate) user: &'a str,
    pub(super) owner: Option<u32>,
    pub(super) groups: Vec<u32>,
    /// Above all checks.
    pub(crate) superuser: bool,
    pub(super) group_names: &'a [String],
}

impl Namespace {
    /// Looks a caller up.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that cannot be an owner's.
    pub(crate) fn who<'a>(&self, caller: &'a CallerRecord) -> FsResult<Who<'a>> {
        check_principal("user", &caller.user)?;
        let interned = &self.store.interned;
        Ok(Who {
            user: &caller.user,
            owner: interned.find(&caller.user),
            groups: caller.groups.iter().filter_map(|group| interned.find(group)).collect(),
            superuser: self.is_superuser(caller),
            group_names: &caller.groups,
        })
    }
}

/// Checks the name of a user or group.
pub(crate) fn check_principal(kind: &str, name: &str) -> FsResult<()> {
    if name.is_empty() || name.len() > MAX_PRINCIPAL_BYTES || name.contains(['\0', '/', ':', '\n']) {
        let message =
            format!("{kind} names have 1 to {MAX_PRINCIPAL_BYTES} bytes, without '/', ':', NUL and line ends");
        return Err(FsError::new(ErrorCode::InvalidArgument, message));
    }
    Ok(())
}

impl Who<'_> {
    /// Has the caller all of these rights on the inode? The first class that fits decides, as in POSIX.
    pub(crate) fn may(&self, store: &Store, slot: u32, rights: u16) -> bool {
        let inode = store.inode(slot);
        let acl = store.acl_of(slot).filter(|acl| !acl.access.is_empty());
        self.may_by(
            &Holder { owner: inode.owner, group: inode.group, mode: inode.mode },
            acl.map(|acl| &acl.access[..]),
            rights,
        )
    }
    /// As [`Who::may`], from attributes.
    pub(crate) fn may_by(&self, holder: &Holder, acl: Option<&[(AclName, u8)]>, rights: u16) -> bool {
        if self.superuser {
            return true;
        }
        if self.owner == Some(holder.owner) {
            return holder.mode >> 6 & rights == rights;
        }
        if let Some(acl) = acl {
            return self.may_by_acl(holder, acl, rights);
        }
        let bits = if self.groups.contains(&holder.group) { holder.mode >> 3 } else { holder.mode };
        bits & rights == rights
    }
    /// The mode's group bits are the mask: they limit named entries and the owning group.
    fn may_by_acl(&self, holder: &Holder, acl: &[(AclName, u8)], rights: u16) -> bool {
        let masked = |bits: u8| u16::from(bits) & holder.mode >> 3 & rights == rights;
        if let Some((_, bits)) = acl.iter().find(|(name, _)| self.owner.is_some_and(|me| *name == AclName::User(me))) {
            return masked(*bits);
        }
        let mut of_my_groups = acl
            .iter()
            .filter(|(name, _)| match name {
                AclName::OwningGroup => self.groups.contains(&holder.group),
                AclName::Group(group) => self.groups.contains(group),
                _ => false,
            })
            .peekable();
        if of_my_groups.peek().is_some() {
            return of_my_groups.any(|(_, bits)| masked(*bits));
        }
        holder.mode & rights == rights
    }
    /// Is the caller in a group of this name?
    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.group_names.iter().any(|name| name == group)
    }
    /// Is this the caller's own, or is the caller above all checks?
    pub(crate) fn owns(&self, store: &Store, slot: u32) -> bool {
        self.superuser || self.owner == Some(store.inode(slot).owner)
    }
    /// Demands ownership.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn need_ownership(&self, store: &Store, slot: u32) -> FsResult<()> {
        if self.owns(store, slot) { Ok(()) } else { Err(self.denied(store, slot, "only its owner may do this")) }
    }
    /// Demands a superuser.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn need_superuser(&self, what: &str) -> FsResult<()> {
        if self.superuser || base::mutated!(Sc102EverybodyIsSuperuser) {
            return Ok(());
        }
        let text = format!("permission denied: {} is not a superuser, and only superusers {what}", self.user);
        Err(FsError::new(ErrorCode::PermissionDenied, text).with_hint("act as a superuser (--user)"))
    }
    /// Demands rights.
    ///
    /// # Errors
    /// `PermissionDenied`, naming who lacks what on which inode.
    pub(crate) fn need(&self, store: &Store, slot: u32, rights: u16) -> FsResult<()> {
        if self.may(store, slot, rights) {
            return Ok(());
        }
        Err(self.denied(store, slot, &format!("{} access", words(rights))))
    }
    /// Demands that the sticky bit of the directory does not keep the caller from removing this entry.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn need_unstuck(&self, store: &Store, directory: u32, entry: u32) -> FsResult<()> {
        let (above, below) = (store.inode(directory), store.inode(store.inode_of(entry)));
        let mine = self.owner == Some(above.owner) || self.owner == Some(below.owner);
        if !above.is_sticky() || self.superuser || mine {
            return Ok(());
        }
        Err(self.denied(store, store.inode_of(entry), "the sticky bit of its directory"))
    }
    pub(super) fn denied(&self, store: &Store, slot: u32, what: &str) -> FsError {
        let inode = store.inode(slot);
        let (owner, group) = (store.text(inode.owner), store.text(inode.group));
        let kind = if inode.is_dir() { 'd' } else { '-' };
        FsError::new(
            ErrorCode::PermissionDenied,
            format!(
                "permission denied: user={}, {what}, inode={owner}:{group}:{kind}{}",
                self.user,
                symbols(inode.mode)
            ),
        )
        .with_path(store.path(slot))
        .with_hint("ask its owner, or act as another user (--user)")
    }
}

fn words(rights: u16) -> &'static str {
    match rights {
        READ => "READ",
        WRITE => "WRITE",
        EXECUTE => "EXECUTE",
        3 => "WRITE_EXECUTE",
        5 => "READ_EXECUTE",
        6 => "READ_WRITE",
        _ => "ALL",
    }
}

/// A mode as `ls` shows it, without the kind.
fn symbols(mode: u16) -> String {
    let mut text: String =
        (0..9).rev().map(|bit| if mode >> bit & 1 == 1 { ['x', 'w', 'r'][bit % 3] } else { '-' }).collect();
    if mode & STICKY != 0 {
        let last = if mode & 1 == 1 { 't' } else { 'T' };
        text.pop();
        text.push(last);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(owner: u32, group: u32, mode: u16) -> Holder {
        Holder { owner, group, mode }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let who = Who { user: "u", owner: Some(1), groups: vec![7], superuser: false, group_names: &[] };
        let may = |who: &Who<'_>, holder: Holder, rights| who.may_by(&holder, None, rights);
        assert!(may(&who, holder(1, 9, 0o400), READ));
        assert!(!may(&who, holder(1, 7, 0o077), READ), "the owner is not saved by its group");
        assert!(may(&who, holder(2, 7, 0o050), READ | EXECUTE));
        assert!(!may(&who, holder(2, 7, 0o707), READ));
        assert!(may(&who, holder(2, 9, 0o002), WRITE));
        assert!(may(&Who { superuser: true, ..who }, holder(2, 9, 0), 7));
    }

    #[test]
    fn acl_entries_are_masked_and_any_group_that_grants_is_enough() {
        let who = Who { user: "u", owner: Some(1), groups: vec![7, 8], superuser: false, group_names: &[] };
        let may = |acl: &[(AclName, u8)], holder: Holder, rights| who.may_by(&holder, Some(acl), rights);
        let named = [(AclName::User(1), 6), (AclName::OwningGroup, 7)];
        assert!(may(&named, holder(2, 7, 0o060), READ | WRITE));
        assert!(!may(&named, holder(2, 7, 0o040), WRITE), "the mask limits named users");
        assert!(!may(&named, holder(2, 7, 0o077), EXECUTE), "a named user is not saved by its groups");
        let groups = [(AclName::OwningGroup, 0), (AclName::Group(7), 4), (AclName::Group(8), 2)];
        assert!(may(&groups, holder(2, 9, 0o070), READ) && may(&groups, holder(2, 9, 0o070), WRITE));
        assert!(!may(&groups, holder(2, 9, 0o070), READ | WRITE), "no single entry grants both");
        assert!(
            !may(&[(AclName::OwningGroup, 0)], holder(2, 7, 0o074), READ),
            "a group that matches shuts out the rest"
        );
        assert!(may(&[(AclName::OwningGroup, 0)], holder(2, 9, 0o074), READ));
        assert!(may(&[(AclName::OwningGroup, 0)], holder(1, 9, 0o700), READ), "the owner's bits are not masked");
    }

    #[test]
    fn symbols_are_those_of_ls() {
        assert_eq!(symbols(0o755), "rwxr-xr-x");
        assert_eq!(symbols(0o1777), "rwxrwxrwt");
        assert_eq!(symbols(0o1640), "rw-r----T");
    }
}
