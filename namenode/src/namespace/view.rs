//! Looking at a path: as it is now, or as a snapshot sees it (`<directory>/.snapshot/<name>/…`).

use std::cell::Cell;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{FileKind, FileStatus};
use proto::path::FsPath;

use super::Namespace;
use super::access::{EXECUTE, Holder, Who};
use super::ops::snapshots::not_snapshottable;
use super::resolve::{Last, SNAPSHOT_DIRECTORY};
use super::store::history::{Snapshot, Version};
use super::store::records::{Kind, flags};
use super::store::{AclName, NONE};

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// An inode: now, or as a snapshot sees it.
    Inode { slot: u32, snapshot: Option<u64> },
    /// `.snapshot` of a directory.
    Snapshots { slot: u32 },
}

impl Namespace {
    /// Follows a path for reading. Inside a snapshot symbolic links are shown, not followed: what they name may be gone.
    ///
    /// # Errors
    /// As [`Namespace::find`].
    pub(super) fn look(&self, who: &Who<'_>, path: &FsPath, last: Last) -> FsResult<Seen> {
        let Some((above, below)) = split_at_snapshots(path.as_str()) else {
            return self.find(who, path, last).map(|slot| Seen::Inode { slot, snapshot: None }).map_err(plain_miss);
        };
        let missing = || FsError::not_found(path.as_str());
        let above = FsPath::parse(if above.is_empty() { "/" } else { above })?;
        let slot = self.find(who, &above, Last::Follow)?;
        if !self.store.inode(slot).has(flags::SNAPSHOTTABLE) {
            return Err(FsError { hint: not_snapshottable(path).hint, ..missing() });
        }
        who.need(&self.store, slot, EXECUTE)?;
        let mut names = below.split('/').filter(|name| !name.is_empty());
        let Some(name) = names.next() else { return Ok(Seen::Snapshots { slot }) };
        let snapshot = self.snapshot_named(self.store.inode(slot).id, name, path)?;
        let mut at = slot;
        for name in names {
            if !self.store.inode(at).is_dir() {
                return Err(FsError::new(ErrorCode::NotADirectory, "a component of the path is not a directory")
                    .with_path(path.as_str()));
            }
            self.need_at(who, at, Some(snapshot), EXECUTE, path)?;
            at = self.store.child_at(at, name, snapshot).ok_or_else(missing)?;
        }
        Ok(Seen::Inode { slot: at, snapshot: Some(snapshot) })
    }

    /// Demands rights on what was found.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(super) fn need_at(
        &self,
        who: &Who<'_>,
        slot: u32,
        snapshot: Option<u64>,
        rights: u16,
        path: &FsPath,
    ) -> FsResult<()> {
        let Some(version) = self.version(slot, snapshot) else { return who.need(&self.store, slot, rights) };
        let inode = &version.inode;
        let holder = Holder { owner: inode.owner, group: inode.group, mode: inode.mode };
        let acl: Option<&[(AclName, u8)]> =
            version.acl.as_ref().map(|acl| &acl.access[..]).filter(|acl| !acl.is_empty());
        if who.may_by(&holder, acl, rights) {
            return Ok(());
        }
        let text = format!("permission denied: user={}, in a snapshot", who.user);
        Err(FsError::new(ErrorCode::PermissionDenied, text).with_path(path.as_str()))
    }

    /// The state of an inode that a snapshot sees, if it is not as now.
    pub(super) fn version(&self, slot: u32, snapshot: Option<u64>) -> Option<&Version> {
        let snapshot = snapshot?;
        self.store.version_at(self.store.inode(slot).id, snapshot).map(|version| &**version)
    }

    /// The slot of something that a snapshot sees, if both are still there.
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) fn slot_in_snapshot(&self, inode: u64, snapshot: u64, path: &FsPath) -> FsResult<u32> {
        let exists = self.store.has_snapshot(0, snapshot.saturating_sub(1), snapshot);
        self.store.slot(inode).filter(|_| exists).ok_or_else(|| FsError::not_found(path.as_str()))
    }

    /// Status of what was found; of a directory in a snapshot without the number of its entries.
    pub(super) fn status_of(&self, seen: Seen, path: &str) -> FileStatus {
        match seen {
            Seen::Inode { slot, snapshot: None } => self.status(slot, path),
            Seen::Inode { slot, snapshot: Some(snapshot) } => self.entry_at(slot, snapshot, path),
            Seen::Snapshots { slot } => FileStatus {
                children: self.store.snapshots_of(self.store.inode(slot).id).len() as u64,
                mode: 0o755,
                snapshottable: false,
                has_quota: false,
                has_acl: false,
                ..self.status(slot, path)
            },
        }
    }

    /// Status of a snapshot, as an entry of `.snapshot`.
    pub(super) fn status_of_snapshot(&self, root: u32, snapshot: &Snapshot) -> FileStatus {
        let status = self.entry_at(root, snapshot.id, &snapshot.name);
        FileStatus { mtime_ns: snapshot.created_ns, ..status }
    }

    /// Status of an inode as a snapshot sees it. The entries of directories are not counted, because each count looks at
    /// all of them.
    pub(super) fn entry_at(&self, slot: u32, snapshot: u64, path: &str) -> FileStatus {
        // One name is what a snapshot says of everything: no others are counted for it.
        let now = self.status_with(slot, path, 1);
        let children = 0;
        let plain = FileStatus {
            children,
            subdirectories: 0,
            open_for_write: false,
            snapshottable: false,
            has_quota: false,
            nlink: 1,
            ..now
        };
        let Some(version) = self.version(slot, Some(snapshot)) else { return plain };
        let inode = &version.inode;
        FileStatus {
            // What a symbolic link names never changes.
            len_bytes: if plain.kind() == FileKind::Symlink { plain.len_bytes } else { version.len_bytes },
            replication: u32::from(inode.replication),
            mode: u32::from(inode.mode),
            owner: self.store.text(inode.owner).to_owned(),
            group: self.store.text(inode.group).to_owned(),
            mtime_ns: inode.mtime_ns,
            atime_ns: inode.atime_ns,
            ctime_ns: inode.ctime_ns,
            has_acl: version.acl.is_some(),
            ..plain
        }
    }

    /// Names that an inode has. Only while something is unlinked or held by snapshots are they asked one by one whether
    /// they are still in the tree, as long as `asks` lasts; else those in trees that wait to be reclaimed count.
    fn names_of(&self, slot: u32, asks: &Cell<u32>) -> u32 {
        let all_live = self.queue.is_empty() && self.store.ghosts.len() == 0;
        let names = self.store.nlink(slot);
        let Some(left) = asks.get().checked_sub(names).filter(|_| names > 1 && !all_live) else { return names };
        asks.set(left);
        self.store.living_names(slot)
    }

    pub(super) fn status(&self, slot: u32, path: &str) -> FileStatus {
        self.status_with(slot, path, self.names_of(slot, &Cell::new(NAMES_ASKED)))
    }

    /// As [`Namespace::status`], for many: together they ask no more names than `asks`.
    pub(super) fn status_among(&self, slot: u32, path: &str, asks: &Cell<u32>) -> FileStatus {
        self.status_with(slot, path, self.names_of(slot, asks))
    }

    fn status_with(&self, slot: u32, path: &str, names: u32) -> FileStatus {
        let inode = self.store.inode(slot);
        let directory = inode.is_dir();
        FileStatus {
            path: path.to_owned(),
            inode: inode.id,
            kind: match inode.kind {
                Kind::Directory => FileKind::Directory,
                Kind::File => FileKind::File,
                Kind::Symlink => FileKind::Symlink,
                Kind::Fifo => FileKind::Fifo,
                Kind::Socket => FileKind::Socket,
                Kind::CharacterDevice => FileKind::CharacterDevice,
                Kind::BlockDevice => FileKind::BlockDevice,
                Kind::Free | Kind::Link => FileKind::Unspecified,
            }
            .into(),
            len_bytes: match inode.kind {
                Kind::File => self.store.extent(slot).len_bytes,
                Kind::Symlink => self.store.target(slot).len() as u64,
                _ => 0,
            },
            replication: u32::from(inode.replication),
            block_size_bytes: inode.block_size_bytes(),
            mode: u32::from(inode.mode),
            owner: self.store.text(inode.owner).to_owned(),
            group: self.store.text(inode.group).to_owned(),
            mtime_ns: inode.mtime_ns,
            atime_ns: inode.atime_ns,
            ctime_ns: inode.ctime_ns,
            nlink: names.max(u32::from(inode.parent == NONE)),
            open_for_write: inode.has(flags::OPEN),
            subdirectories: if directory { self.store.directory(slot).subdirectories } else { 0 },
            children: if directory { self.store.directory(slot).children.len() } else { 0 },
            symlink_target: if inode.is_symlink() { self.store.target(slot).to_owned() } else { String::new() },
            has_acl: self.store.acl_of(slot).is_some(),
            snapshottable: inode.has(flags::SNAPSHOTTABLE),
            device: inode.device(),
            has_quota: directory && self.store.quota_of(slot) != super::store::Quota::default(),
        }
    }
}

/// Names of an inode that are asked one by one.
const NAMES_ASKED: u32 = 64;
/// The same of all inodes of one listing together.
pub(super) const NAMES_ASKED_OF_ALL: u32 = 512;

/// The path before and after its component `.snapshot`.
fn split_at_snapshots(path: &str) -> Option<(&str, &str)> {
    // Most paths have no name that begins with a dot: this is looked at for every status.
    if !path.contains("/.") {
        return None;
    }
    let mut from = 0;
    while let Some(at) = path.get(from..)?.find("/.snapshot") {
        let (at, end) = (from + at, from + at + 1 + SNAPSHOT_DIRECTORY.len());
        match path.as_bytes().get(end) {
            None | Some(b'/') => return Some((path.get(..at)?, path.get(end..)?)),
            Some(_) => from = end,
        }
    }
    None
}

/// A path that is only read is not refused for what it would be like to change it.
fn plain_miss(error: FsError) -> FsError {
    if error.code == ErrorCode::ReadOnly { FsError::not_found(&error.path) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_whole_only() {
        assert_eq!(split_at_snapshots("/a/b"), None);
        assert_eq!(split_at_snapshots("/.snapshots/x"), None);
        assert_eq!(split_at_snapshots("/.snapshot"), Some(("", "")));
        assert_eq!(split_at_snapshots("/a/.snapshot/s/b"), Some(("/a", "/s/b")));
        assert_eq!(split_at_snapshots("/a/.snapshotx/.snapshot/s"), Some(("/a/.snapshotx", "/s")));
    }
}
