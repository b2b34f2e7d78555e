//! What changed between two looks at a directory with snapshots.
//!
//! Both views are walked together. A name with the same inode in both is the same thing; an inode that is in both under
//! different names was renamed; the rest was made or deleted. What was made or deleted with its directory is not
//! listed by itself, as in HDFS.

use std::collections::{BTreeMap, BTreeSet};

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::CallerRecord;
use proto::namespace::{DiffEntry, DiffKind, DiffSnapshotsRequest};
use proto::path::FsPath;

use super::Namespace;
use super::access::{EXECUTE, READ};
use super::ops::snapshots::not_snapshottable;
use super::resolve::Last;
use super::store::records::flags;

/// Most inodes of both views together that one answer looks at.
const MAX_WALK: usize = 1 << 20;

/// A view: a snapshot, or what is there now.
type Side = Option<u64>;

#[derive(Default)]
struct Found {
    /// By inode: where it was, where it is, and whether it changed.
    gone: BTreeMap<u64, String>,
    made: BTreeMap<u64, String>,
    modified: BTreeSet<String>,
    looked_at: usize,
}

impl Namespace {
    /// Differences by path below the directory. Needs READ and EXECUTE on it.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `InvalidArgument`; `NoSpace` for too large trees.
    pub fn diff_snapshots(&self, who: &CallerRecord, request: &DiffSnapshotsRequest) -> FsResult<Vec<DiffEntry>> {
        let (who, path) = (self.who(who)?, FsPath::parse(&request.path)?);
        let slot = self.find(&who, &path, Last::Follow)?;
        who.need(&self.store, slot, READ | EXECUTE)?;
        if !self.store.inode(slot).has(flags::SNAPSHOTTABLE) {
            return Err(not_snapshottable(&path));
        }
        let id = self.store.inode(slot).id;
        let side = |name: &str| match name {
            "" | "." => Ok(None),
            name => self.snapshot_named(id, name, &path).map(Some),
        };
        let (from, to) = (side(&request.from)?, side(&request.to)?);
        let mut found = Found::default();
        let mut open = vec![(slot, String::new())];
        let mut compared = BTreeSet::new();
        while let Some((directory, at)) = open.pop() {
            compared.insert(self.store.inode(directory).id);
            for side in [from, to] {
                self.need_at(&who, directory, side, READ | EXECUTE, &path)?;
            }
            self.compare(directory, &at, (from, to), &mut found, &mut open)?;
            if open.is_empty() {
                // A directory that was moved has changes of its own.
                let moved = found.made.iter().filter(|(id, _)| found.gone.contains_key(id) && !compared.contains(id));
                let moved = moved.filter_map(|(id, path)| Some((self.store.slot(*id)?, path.clone())));
                open.extend(moved.filter(|(slot, _)| self.store.inode(*slot).is_dir()));
            }
        }
        Ok(entries(found))
    }

    /// Compares a directory that is in both views.
    fn compare(
        &self,
        directory: u32,
        at: &str,
        (from, to): (Side, Side),
        found: &mut Found,
        open: &mut Vec<(u32, String)>,
    ) -> FsResult<()> {
        let (before, after) = (self.children_of(directory, from), self.children_of(directory, to));
        found.looked_at += before.len() + after.len() + 1;
        if found.looked_at > MAX_WALK {
            let text = format!("the trees have more than {MAX_WALK} names to compare");
            return Err(FsError::new(ErrorCode::NoSpace, text).with_hint("compare smaller directories with snapshots"));
        }
        let name_below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
        if self.state(directory, from) != self.state(directory, to) || before != after {
            found.modified.insert(at.to_owned());
        }
        for (name, slot) in &before {
            let id = self.store.inode(*slot).id;
            if after.get(name) != Some(slot) {
                found.gone.insert(id, name_below(name));
                continue;
            }
            if self.store.inode(*slot).is_dir() {
                open.push((*slot, name_below(name)));
            } else if self.state(*slot, from) != self.state(*slot, to) {
                found.modified.insert(name_below(name));
            }
        }
        for (name, slot) in after.iter().filter(|(name, slot)| before.get(*name) != Some(*slot)) {
            found.made.insert(self.store.inode(*slot).id, name_below(name));
        }
        Ok(())
    }

    fn children_of(&self, directory: u32, side: Side) -> BTreeMap<&str, u32> {
        match side {
            Some(snapshot) => self.store.children_at(directory, "", snapshot).collect(),
            None => self
                .store
                .entries_after(directory, "")
                .map(|entry| (self.store.name(entry), self.store.inode_of(entry)))
                .collect(),
        }
    }

    /// What a change of contents or attributes changes; access times are not counted.
    fn state(&self, slot: u32, side: Side) -> impl PartialEq + use<> {
        let (inode, len_bytes, xattrs, acl) = match self.version(slot, side) {
            Some(version) => (version.inode, version.len_bytes, version.xattrs.clone(), version.acl.clone()),
            None => {
                let inode = *self.store.inode(slot);
                let (xattrs, acl) =
                    (self.store.xattrs.get(&inode.id).cloned(), self.store.acls.get(&inode.id).cloned());
                (inode, self.store.extent(slot).len_bytes, xattrs, acl)
            }
        };
        (inode.mtime_ns, inode.mode, inode.owner, inode.group, inode.replication, len_bytes, xattrs, acl)
    }
}

fn entries(found: Found) -> Vec<DiffEntry> {
    let entry = |kind: DiffKind, path: &str, target: &str| DiffEntry {
        kind: kind.into(),
        path: path.to_owned(),
        target: target.to_owned(),
    };
    let mut entries: Vec<DiffEntry> = found.modified.iter().map(|path| entry(DiffKind::Modified, path, "")).collect();
    for (inode, path) in &found.gone {
        match found.made.get(inode) {
            Some(target) => entries.push(entry(DiffKind::Renamed, path, target)),
            None => entries.push(entry(DiffKind::Deleted, path, "")),
        }
    }
    let new = found.made.iter().filter(|(inode, _)| !found.gone.contains_key(inode));
    entries.extend(new.map(|(_, path)| entry(DiffKind::Created, path, "")));
    entries.sort_by(|a, b| (&a.path, a.kind).cmp(&(&b.path, b.kind)));
    entries
}
