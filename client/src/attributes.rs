//! Calls on what names have beside their data: attributes, links, totals, quotas, extended attributes, ACLs,
//! snapshots, checks.

use bytes::Bytes;
use proto::error::FsResult;
use proto::namespace as n;
use proto::namespace::FileStatus;
use proto::path::FsPath;

use crate::client::{Client, half_told};
use crate::parts::MAX_SOURCES;

/// What [`Client::set_attributes`] changes: what is `Some`, all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Twelve permission bits.
    pub mode: Option<u32>,
    /// Owner; only a superuser gives files away.
    pub owner: Option<String>,
    /// Group; an owner chooses among its own.
    pub group: Option<String>,
    /// Time of the last change of the data.
    pub mtime: Option<Time>,
    /// Time of the last access.
    pub atime: Option<Time>,
    /// Copies wanted, for files.
    pub replication: Option<u32>,
    /// Change a symbolic link itself instead of what it names.
    pub no_follow: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The namenode's time. Needs the right to write only.
    Now,
    /// ns since the Unix epoch. Needs ownership.
    At(i64),
}

impl Time {
    const fn parts(time: Option<Self>) -> (Option<i64>, bool) {
        match time {
            None => (None, false),
            Some(Self::Now) => (None, true),
            Some(Self::At(ns)) => (Some(ns), false),
        }
    }
}

/// A change of one quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quota {
    /// Stays.
    #[default]
    Keep,
    /// No limit any more.
    Clear,
    /// At most this much.
    Limit(u64),
}

impl Quota {
    const fn parts(self) -> (Option<u64>, bool) {
        match self {
            Self::Keep => (None, false),
            Self::Clear => (None, true),
            Self::Limit(limit) => (Some(limit), false),
        }
    }
}

fn path(text: &str) -> FsResult<String> {
    FsPath::parse(text).map(String::from)
}

// Every call here fails with the namenode's refusals, or `InvalidPath` before anything is sent.
#[allow(clippy::missing_errors_doc, reason = "the errors of all calls are the same, said once above")]
impl Client {
    /// Changes attributes; what is not named stays.
    pub async fn set_attributes(&self, at: &str, attributes: &Attributes) -> FsResult<FileStatus> {
        let ((mtime_ns, mtime_now), (atime_ns, atime_now)) =
            (Time::parts(attributes.mtime), Time::parts(attributes.atime));
        let request = n::SetAttributesRequest {
            header: None,
            path: path(at)?,
            mode: attributes.mode,
            owner: attributes.owner.clone(),
            group: attributes.group.clone(),
            mtime_ns,
            atime_ns,
            replication: attributes.replication,
            no_follow: attributes.no_follow,
            mtime_now,
            atime_now,
        };
        self.inner.change("set attributes", &request).await?.0.status.ok_or_else(|| half_told("set attributes"))
    }

    /// Makes a symbolic link. The target is kept as it is given.
    pub async fn symlink(&self, at: &str, target: &str, parents: bool) -> FsResult<FileStatus> {
        let request = n::SymlinkRequest { header: None, path: path(at)?, target: target.to_owned(), parents };
        self.inner.change("symlink", &request).await?.0.status.ok_or_else(|| half_told("symlink"))
    }

    /// Makes a pipe, a socket or a device: a name for programs of one machine. `modes`: masked by the caller's umask, and
    /// without it, which counts where the directory has a default ACL. `device`: as Linux puts it into 32 bits.
    pub async fn make_node(&self, at: &str, kind: n::FileKind, modes: (u32, u32), device: u32) -> FsResult<FileStatus> {
        let (header, path, kind) = (None, path(at)?, kind.into());
        let (mode, unmasked_mode) = (modes.0, Some(modes.1));
        let request = n::MakeNodeRequest { header, path, kind, mode, unmasked_mode, device };
        self.inner.change("make node", &request).await?.0.status.ok_or_else(|| half_told("make node"))
    }

    /// Gives a file a further name.
    pub async fn link(&self, existing: &str, at: &str) -> FsResult<FileStatus> {
        let request = n::LinkRequest { header: None, existing: path(existing)?, path: path(at)? };
        self.inner.change("link", &request).await?.0.status.ok_or_else(|| half_told("link"))
    }

    /// Totals of a tree.
    pub async fn content_summary(&self, at: &str) -> FsResult<n::ContentSummaryResponse> {
        self.inner.ask("content summary", &n::ContentSummaryRequest { header: None, path: path(at)? }).await
    }

    /// Sets or clears the quotas of a directory. For superusers.
    pub async fn set_quota(&self, at: &str, names: Quota, space_bytes: Quota) -> FsResult<()> {
        let ((name_quota, clear_names), (space_quota_bytes, clear_space)) = (names.parts(), space_bytes.parts());
        let path = path(at)?;
        let request =
            n::SetQuotaRequest { header: None, path, name_quota, space_quota_bytes, clear_names, clear_space };
        self.inner.change("set quota", &request).await.map(drop)
    }

    /// Sets an extended attribute; `name` with its class (`user.colour`). `create` and `replace` say whether it
    /// may be new and whether it may exist.
    pub async fn set_xattr(&self, at: &str, name: &str, value: Bytes, create: bool, replace: bool) -> FsResult<()> {
        let xattr = Some(n::Xattr { name: name.to_owned(), value });
        let request = n::SetXattrRequest { header: None, path: path(at)?, xattr, create, replace, no_follow: false };
        self.inner.change("set xattr", &request).await.map(drop)
    }

    /// Extended attributes: the named ones, or all that the caller may see.
    pub async fn xattrs(&self, at: &str, names: &[String]) -> FsResult<Vec<n::Xattr>> {
        let (path, names) = (path(at)?, names.to_vec());
        let request = n::GetXattrsRequest { path, names, ..n::GetXattrsRequest::default() };
        Ok(self.inner.ask("get xattrs", &request).await?.xattrs)
    }

    /// Removes an extended attribute.
    pub async fn remove_xattr(&self, at: &str, name: &str) -> FsResult<()> {
        let request = n::RemoveXattrRequest { path: path(at)?, name: name.to_owned(), ..Default::default() };
        self.inner.change("remove xattr", &request).await.map(drop)
    }

    /// Changes an ACL.
    pub async fn change_acl(&self, at: &str, change: n::AclChange, entries: Vec<n::AclEntry>) -> FsResult<()> {
        let request = n::ChangeAclRequest { header: None, path: path(at)?, change: change.into(), entries };
        self.inner.change("change acl", &request).await.map(drop)
    }

    /// The whole ACL of a name.
    pub async fn acl(&self, at: &str) -> FsResult<n::GetAclResponse> {
        self.inner.ask("get acl", &n::GetAclRequest { header: None, path: path(at)? }).await
    }

    /// Appends the blocks of closed files to another; the files are gone then. A namenode joins a bounded number in one
    /// step: of more than 250 files, those of the calls before one that fails stay joined.
    pub async fn concat(&self, target: &str, sources: &[String]) -> FsResult<FileStatus> {
        let (target, sources) =
            (path(target)?, sources.iter().map(|source| path(source)).collect::<FsResult<Vec<_>>>()?);
        let mut rest = &sources[..];
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_SOURCES));
            let request = n::ConcatRequest { header: None, target: target.clone(), sources: now.to_vec() };
            let status = self.inner.change("concat", &request).await?.0.status;
            if later.is_empty() {
                return status.ok_or_else(|| half_told("concat"));
            }
            rest = later;
        }
    }

    /// Has the caller these rights (r 4, w 2, x 1)? 0 asks whether the name exists.
    pub async fn check_access(&self, at: &str, rights: u32) -> FsResult<bool> {
        Ok(self
            .inner
            .ask("check access", &n::CheckAccessRequest { header: None, path: path(at)?, rights })
            .await?
            .allowed)
    }

    /// Marks a directory so that snapshots of it can be made, or takes the mark back. For superusers.
    pub async fn allow_snapshots(&self, at: &str, allow: bool) -> FsResult<()> {
        let request = n::AllowSnapshotsRequest { header: None, path: path(at)?, allow };
        self.inner.change("allow snapshots", &request).await.map(drop)
    }

    /// Makes a snapshot; an empty name is chosen by the namenode. Returns its path.
    pub async fn create_snapshot(&self, at: &str, name: &str) -> FsResult<String> {
        let request = n::CreateSnapshotRequest { header: None, path: path(at)?, name: name.to_owned() };
        Ok(self.inner.change("create snapshot", &request).await?.0.path)
    }

    /// Renames a snapshot.
    pub async fn rename_snapshot(&self, at: &str, from: &str, to: &str) -> FsResult<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        let request = n::RenameSnapshotRequest { header: None, path: path(at)?, from, to };
        self.inner.change("rename snapshot", &request).await.map(drop)
    }

    /// Removes a snapshot; what only it held is freed.
    pub async fn delete_snapshot(&self, at: &str, name: &str) -> FsResult<()> {
        let request = n::DeleteSnapshotRequest { header: None, path: path(at)?, name: name.to_owned() };
        self.inner.change("delete snapshot", &request).await.map(drop)
    }

    /// The snapshots of a directory, oldest first; with `None`, the directories that may have snapshots.
    pub async fn snapshots(&self, at: Option<&str>) -> FsResult<Vec<n::SnapshotStatus>> {
        let path = at.map(path).transpose()?.unwrap_or_default();
        Ok(self.inner.ask("list snapshots", &n::ListSnapshotsRequest { header: None, path }).await?.snapshots)
    }

    /// What changed from a snapshot to another, or to what is there now (`to` empty).
    pub async fn diff_snapshots(&self, at: &str, from: &str, to: &str) -> FsResult<Vec<n::DiffEntry>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        let request = n::DiffSnapshotsRequest { header: None, path: path(at)?, from, to };
        Ok(self.inner.ask("diff snapshots", &request).await?.entries)
    }

    /// One step of looking at every file of a tree. Begin with an empty cursor, go on with the answer's until that
    /// is empty.
    pub async fn fsck_step(&self, at: &str, cursor: Bytes) -> FsResult<n::FsckResponse> {
        self.inner.ask("fsck", &n::FsckRequest { header: None, path: path(at)?, cursor }).await
    }
}
