//! Reading what names have beside their data: totals, attributes, ACLs, lists of snapshots.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::CallerRecord;
use proto::namespace as n;
use proto::path::FsPath;

use super::Namespace;
use super::access::{EXECUTE, READ, Who};
use super::ops::snapshots::not_snapshottable;
use super::resolve::Last;
use super::store::AclName;
use super::store::records::flags;
use super::store::totals::Totals;
use super::view::Seen;

/// Most inodes that a summary of a snapshot looks at: it has no running totals.
const MAX_WALK: u64 = 1 << 20;

impl Namespace {
    /// Totals of a tree, from the running ones. As in HDFS, needs READ and EXECUTE on every directory of the tree: only
    /// where a caller may not look into everything are the directories gone through.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`; `NoSpace` for a snapshot of too many inodes.
    pub fn content_summary(&self, who: &CallerRecord, path: &FsPath) -> FsResult<n::ContentSummaryResponse> {
        let who = self.who(who)?;
        let seen = self.look(&who, path, Last::Follow)?;
        let (slot, snapshot) = match seen {
            Seen::Inode { slot, snapshot } => (slot, snapshot),
            Seen::Snapshots { .. } => {
                return Ok(n::ContentSummaryResponse { directories: 1, names_used: 1, ..Default::default() });
            }
        };
        let totals = match snapshot {
            None => {
                self.need_whole_tree(&who, slot)?;
                self.store.weight(slot)
            }
            Some(snapshot) => self.totals_at(&who, slot, snapshot, path)?,
        };
        let held = if snapshot.is_none() { self.held_below(slot) } else { Totals::default() };
        let quota = if snapshot.is_none() { self.store.quota_of(slot) } else { Default::default() };
        Ok(n::ContentSummaryResponse {
            files: totals.files,
            directories: totals.directories,
            symlinks: totals.symlinks,
            len_bytes: totals.len_bytes,
            space_bytes: totals.space_bytes,
            name_quota: quota.names,
            space_quota_bytes: quota.space_bytes,
            names_used: totals.names(),
            snapshot_files: held.files + held.symlinks,
            snapshot_directories: held.directories,
            snapshot_len_bytes: held.len_bytes,
            snapshot_space_bytes: held.space_bytes,
        })
    }

    fn need_whole_tree(&self, who: &Who<'_>, top: u32) -> FsResult<()> {
        if who.superuser || !self.store.inode(top).is_dir() {
            return Ok(());
        }
        let mut open = vec![top];
        while let Some(at) = open.pop() {
            who.need(&self.store, at, READ | EXECUTE)?;
            let directory = self.store.directory(at);
            if directory.below.directories > 0 {
                open.extend(directory.children.iter().filter(|child| self.store.inode(*child).is_dir()));
            }
        }
        Ok(())
    }

    /// What only snapshots hold of the directories with snapshots in a tree.
    fn held_below(&self, top: u32) -> Totals {
        let mut held = Totals::default();
        if self.store.ghosts.len() == 0 {
            return held;
        }
        let roots: Vec<u64> = self
            .store
            .snapshots()
            .keys()
            .copied()
            .filter(|root| self.store.slot(*root).is_some_and(|slot| self.store.is_below(slot, top)))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        for (_, ghost) in self.store.ghosts.sorted() {
            let Some(slot) = self.store.slot(ghost.inode).filter(|_| roots.contains(&ghost.root)) else { continue };
            if self.store.inode(slot).has(flags::HELD) && seen.insert(slot) {
                held = held.plus(self.store.weight(slot));
            }
        }
        held
    }

    fn totals_at(&self, who: &Who<'_>, top: u32, snapshot: u64, path: &FsPath) -> FsResult<Totals> {
        let (mut totals, mut open, mut looked_at) = (Totals::default(), vec![top], 0);
        while let Some(at) = open.pop() {
            looked_at += 1;
            if looked_at > MAX_WALK {
                let text = format!("the snapshot has more than {MAX_WALK} files and directories here");
                return Err(FsError::new(ErrorCode::NoSpace, text).with_hint("ask for its directories one by one"));
            }
            let status = self.entry_at(at, snapshot, "");
            let inode = self.store.inode(at);
            if inode.is_dir() {
                self.need_at(who, at, Some(snapshot), READ | EXECUTE, path)?;
                totals.directories += 1;
                open.extend(self.store.children_at(at, "", snapshot).map(|(_, slot)| slot));
            } else if inode.is_symlink() {
                totals.symlinks += 1;
            } else {
                totals.files += 1;
                totals.len_bytes += status.len_bytes;
                totals.space_bytes += status.len_bytes.saturating_mul(u64::from(status.replication));
            }
        }
        Ok(totals)
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
    pub fn list_snapshots(&self, who: &CallerRecord, path: &str) -> FsResult<Vec<n::SnapshotStatus>> {
        let who = self.who(who)?;
        if path.is_empty() {
            let slots = self.snapshottable.iter().filter_map(|id| self.store.slot(*id));
            let slots = slots.filter(|slot| self.store.alive(*slot));
            let mine = slots.filter(|slot| who.owns(&self.store, *slot));
            let status = |slot: u32| n::SnapshotStatus {
                directory: self.store.path(slot),
                snapshots: self.store.snapshots_of(self.store.inode(slot).id).len() as u64,
                ..n::SnapshotStatus::default()
            };
            return Ok(mine.map(status).collect());
        }
        let path = FsPath::parse(path)?;
        let slot = self.find(&who, &path, Last::Follow)?;
        who.need(&self.store, slot, READ | EXECUTE)?;
        if !self.store.inode(slot).has(flags::SNAPSHOTTABLE) {
            return Err(not_snapshottable(&path));
        }
        let status = |snapshot: &super::store::history::Snapshot| n::SnapshotStatus {
            directory: path.as_str().to_owned(),
            name: snapshot.name.to_string(),
            id: snapshot.id,
            created_ns: snapshot.created_ns,
            snapshots: 0,
        };
        Ok(self.store.snapshots_of(self.store.inode(slot).id).iter().map(status).collect())
    }
}
