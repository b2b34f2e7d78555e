//! Who may do what: mode bits, owner, group, superuser, sticky bit. Checked inside `apply`, against replicated
//! state and the caller as the log has it.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::CallerRecord;

use super::Namespace;
use super::store::Store;
use super::store::records::Inode;

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

/// A caller, with the numbers of its names in this namespace.
pub(crate) struct Who<'a> {
    /// Name of the user: the owner of what it makes.
    pub(crate) user: &'a str,
    owner: Option<u32>,
    groups: Vec<u32>,
    /// Above all checks.
    pub(crate) superuser: bool,
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
    pub(crate) fn may(&self, inode: &Inode, rights: u16) -> bool {
        let bits = if self.superuser {
            return true;
        } else if self.owner == Some(inode.owner) {
            inode.mode >> 6
        } else if self.groups.contains(&inode.group) {
            inode.mode >> 3
        } else {
            inode.mode
        };
        bits & rights == rights
    }
    /// Demands rights.
    ///
    /// # Errors
    /// `PermissionDenied`, naming who lacks what on which inode.
    pub(crate) fn need(&self, store: &Store, slot: u32, rights: u16) -> FsResult<()> {
        let inode = store.inode(slot);
        if self.may(inode, rights) {
            return Ok(());
        }
        Err(self.denied(store, slot, &format!("{} access", words(rights))))
    }
    /// Demands that the sticky bit of the directory does not keep the caller from removing this entry.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn need_unstuck(&self, store: &Store, directory: u32, entry: u32) -> FsResult<()> {
        let (above, below) = (store.inode(directory), store.inode(entry));
        let mine = self.owner == Some(above.owner) || self.owner == Some(below.owner);
        if !above.is_sticky() || self.superuser || mine {
            return Ok(());
        }
        Err(self.denied(store, entry, "the sticky bit of its directory"))
    }
    fn denied(&self, store: &Store, slot: u32, what: &str) -> FsError {
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

    #[test]
    fn the_first_class_that_fits_decides() {
        let who = Who { user: "u", owner: Some(1), groups: vec![7], superuser: false };
        let inode = |owner, group, mode| Inode { owner, group, mode, ..Inode::default() };
        assert!(who.may(&inode(1, 9, 0o400), READ));
        assert!(!who.may(&inode(1, 7, 0o077), READ), "the owner is not saved by its group");
        assert!(who.may(&inode(2, 7, 0o050), READ | EXECUTE));
        assert!(!who.may(&inode(2, 7, 0o707), READ));
        assert!(who.may(&inode(2, 9, 0o002), WRITE));
        assert!(Who { superuser: true, ..who }.may(&inode(2, 9, 0), 7));
    }

    #[test]
    fn symbols_are_those_of_ls() {
        assert_eq!(symbols(0o755), "rwxr-xr-x");
        assert_eq!(symbols(0o1777), "rwxrwxrwt");
        assert_eq!(symbols(0o1640), "rw-r----T");
    }
}
