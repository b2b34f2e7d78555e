//! The snapshots of a directory, or the directories that may have some: up to tens of thousands, so in steps.

use std::ops::Bound;

use proto::error::{FsError, FsResult};
use proto::namespace::SnapshotStatus;
use proto::path::FsPath;

use super::Walk;
use crate::namespace::Namespace;
use crate::namespace::access::{EXECUTE, READ, Who};
use crate::namespace::ops::snapshots::not_snapshottable;
use crate::namespace::resolve::Last;
use crate::namespace::store::records::flags;

/// What is listed.
#[derive(Debug)]
enum Of {
    /// The snapshots of a directory, of this id once it was found.
    Directory(FsPath, Option<u64>),
    /// Directories that may have some: all for a superuser, else the caller's own.
    Everywhere,
}

/// Where it stands: snapshots that are made meanwhile are seen, those that are removed are not.
#[derive(Debug)]
pub(crate) struct SnapshotsWalk {
    of: Of,
    /// Id of the last snapshot, or directory, that was looked at.
    after: u64,
    found: Vec<SnapshotStatus>,
}

impl SnapshotsWalk {
    /// Of the directory at a path; of all directories for an empty one.
    ///
    /// # Errors
    /// `InvalidPath`.
    pub(crate) fn new(path: &str) -> FsResult<Self> {
        let of = if path.is_empty() { Of::Everywhere } else { Of::Directory(FsPath::parse(path)?, None) };
        Ok(Self { of, after: 0, found: Vec::new() })
    }

    fn find(namespace: &Namespace, who: &Who<'_>, path: &FsPath) -> FsResult<u64> {
        let slot = namespace.find(who, path, Last::Follow)?;
        who.need(&namespace.store, slot, READ | EXECUTE)?;
        if !namespace.store.inode(slot).has(flags::SNAPSHOTTABLE) {
            return Err(not_snapshottable(path));
        }
        Ok(namespace.store.inode(slot).id)
    }

    fn step_everywhere(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> bool {
        let store = &namespace.store;
        let mut rest = namespace.snapshottable.range((Bound::Excluded(self.after), Bound::Unbounded));
        while *left > 0 {
            let Some(id) = rest.next() else { return true };
            self.after = *id;
            *left -= 1;
            let Some(slot) = store.slot(*id).filter(|slot| store.alive(*slot) && who.owns(store, *slot)) else {
                continue;
            };
            let directory = store.path(slot);
            *left = left.saturating_sub(directory.bytes().filter(|byte| *byte == b'/').count());
            let snapshots = store.snapshots_of(*id).len() as u64;
            self.found.push(SnapshotStatus { directory, snapshots, ..SnapshotStatus::default() });
        }
        false
    }
}

impl Walk for SnapshotsWalk {
    type Answer = Vec<SnapshotStatus>;

    fn step(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> FsResult<bool> {
        let Of::Directory(path, root) = &mut self.of else { return Ok(self.step_everywhere(namespace, who, left)) };
        let id = match *root {
            Some(id) => id,
            None => *root.insert(Self::find(namespace, who, path)?),
        };
        namespace.store.slot(id).ok_or_else(|| FsError::not_found(path.as_str()))?;
        let all = namespace.store.snapshots_of(id);
        let from = all.partition_point(|one| one.id <= self.after);
        let some = all.get(from..all.len().min(from + *left)).unwrap_or_default();
        *left -= some.len();
        self.found.extend(some.iter().map(|snapshot| SnapshotStatus {
            directory: path.as_str().to_owned(),
            name: snapshot.name.to_string(),
            id: snapshot.id,
            created_ns: snapshot.created_ns,
            snapshots: 0,
        }));
        self.after = some.last().map_or(self.after, |last| last.id);
        Ok(from + some.len() == all.len())
    }
    fn answer(self) -> Self::Answer {
        self.found
    }
}
