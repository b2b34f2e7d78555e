//! Reading what names have beside their data: attributes and ACLs. Totals and lists of snapshots are walks.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::CallerRecord;
use proto::namespace as n;
use proto::path::FsPath;

use super::Namespace;
use super::resolve::Last;
use super::store::AclName;
use super::view::Seen;

impl Namespace {
    /// Totals of a tree, from the running ones. As in HDFS, needs READ and EXECUTE on every directory of the tree.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`; `NoSpace` for a snapshot of too many inodes.
    #[cfg(test)]
    pub(crate) fn content_summary(&self, who: &CallerRecord, path: &FsPath) -> FsResult<n::ContentSummaryResponse> {
        self.walk_whole(who, super::walk::SummaryWalk::new(path.clone()))
    }

    /// Extended attributes that the caller may see: all, or those that are named.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `NoAttribute`, `InvalidArgument`.
    pub fn xattrs(&self, who: &CallerRecord, request: &n::GetXattrsRequest) -> FsResult<Vec<n::Xattr>> {
        let (who, path) = (self.who(who)?, FsPath::parse(&request.path)?);
        let Seen::Inode { slot, snapshot } = self.look(&who, &path, Last::keep(request.no_follow))? else {
            return Ok(Vec::new());
        };
        let shown = |name: &str, value: &bytes::Bytes| {
            let value = if request.names_only { bytes::Bytes::new() } else { value.clone() };
            n::Xattr { name: name.to_owned(), value }
        };
        let all = self.visible_xattrs(&who, (slot, snapshot), &request.names, &path)?;
        Ok(all.iter().map(|xattr| shown(&xattr.name, &xattr.value)).collect())
    }

    /// The whole ACL of a path.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub fn acl(&self, who: &CallerRecord, path: &FsPath) -> FsResult<n::GetAclResponse> {
        let who = self.who(who)?;
        let seen = self.look(&who, path, Last::Follow)?;
        let status = self.status_of(seen, path.as_str());
        let base =
            n::GetAclResponse { owner: status.owner, group: status.group, mode: status.mode, ..Default::default() };
        let Seen::Inode { slot, snapshot } = seen else { return Ok(base) };
        let (mode, acl) = match self.version(slot, snapshot) {
            Some(version) => (version.inode.mode, version.acl.clone()),
            None => (self.store.inode(slot).mode, self.store.acl_of(slot).cloned()),
        };
        let acl = acl.as_deref().cloned().unwrap_or_default();
        let access = super::ops::acl::access_entries(mode, &acl);
        let entry = |scope: n::AclScope| {
            move |(name, rights): &(AclName, u8)| {
                let (tag, number) = match name {
                    AclName::Owner => (n::AclTag::User, None),
                    AclName::User(number) => (n::AclTag::User, Some(*number)),
                    AclName::OwningGroup => (n::AclTag::Group, None),
                    AclName::Group(number) => (n::AclTag::Group, Some(*number)),
                    AclName::Mask => (n::AclTag::Mask, None),
                    AclName::Other => (n::AclTag::Other, None),
                };
                let name = number.map_or_else(String::new, |number| self.store.text(number).to_owned());
                n::AclEntry { scope: scope.into(), tag: tag.into(), name, rights: u32::from(*rights) }
            }
        };
        let entries =
            access.iter().map(entry(n::AclScope::Access)).chain(acl.default.iter().map(entry(n::AclScope::Default)));
        Ok(n::GetAclResponse { entries: entries.collect(), extended: !acl.is_empty(), ..base })
    }

    /// Has the caller these rights? 0 asks whether the path exists.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied` on the way there, `InvalidArgument`.
    pub fn check_access(&self, who: &CallerRecord, path: &FsPath, rights: u32) -> FsResult<bool> {
        let who = self.who(who)?;
        let rights = u16::try_from(rights).ok().filter(|rights| *rights <= 7).ok_or_else(|| {
            FsError::new(ErrorCode::InvalidArgument, "rights are a sum of 4 (read), 2 (write) and 1 (execute)")
        })?;
        Ok(match self.look(&who, path, Last::Follow)? {
            Seen::Inode { slot, snapshot } => {
                let changes = snapshot.is_some() && rights & 2 != 0;
                !changes && self.need_at(&who, slot, snapshot, rights, path).is_ok()
            }
            Seen::Snapshots { .. } => rights & 2 == 0,
        })
    }

    /// Snapshots of a directory, oldest first; without a path, the directories that may have some: all for a superuser,
    /// else the caller's own.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`; `InvalidArgument` if the directory is not marked.
    #[cfg(test)]
    pub(crate) fn list_snapshots(&self, who: &CallerRecord, path: &str) -> FsResult<Vec<n::SnapshotStatus>> {
        self.walk_whole(who, super::walk::SnapshotsWalk::new(path)?)
    }
}
