//! Snapshots of directories: made in no time, kept by what changes later (see `store/history.rs`).

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::{AllowSnapshots, CreateSnapshot, DeleteSnapshot, RenameSnapshot};
use proto::path::FsPath;

use crate::namespace::access::Who;
use crate::namespace::resolve::{Last, SNAPSHOT_DIRECTORY};
use crate::namespace::store::NONE;
use crate::namespace::store::history::{Purge, Snapshot};
use crate::namespace::store::records::flags;
use crate::namespace::store::totals::Totals;
use crate::namespace::{Call, Namespace, Outcome, registry};

/// Snapshots of one directory, as in HDFS.
const MAX_SNAPSHOTS: usize = 65_536;

impl Namespace {
    /// For superusers. One directory with snapshots does not lie in another, as in HDFS.
    pub(in crate::namespace) fn allow_snapshots(
        &mut self,
        call: &Call<'_>,
        allow: &AllowSnapshots,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&allow.path)?;
        who.need_superuser("allow snapshots")?;
        let slot = self.find(&who, &path, Last::Follow)?;
        let inode = self.store.inode(slot);
        if !inode.is_dir() {
            return Err(FsError::new(ErrorCode::NotADirectory, "snapshots are of directories").with_path(path.as_str()));
        }
        let id = inode.id;
        if allow.allow {
            self.check_not_nested(slot, &path)?;
        } else if !self.store.snapshots_of(id).is_empty() {
            return Err(FsError::new(ErrorCode::NotEmpty, "the directory has snapshots")
                .with_path(path.as_str())
                .with_hint("delete them first (blockyard snapshot rm)"));
        }

        let before = self.store.weight(slot);
        self.store.mark(slot, |inode| {
            inode.flags =
                if allow.allow { inode.flags | flags::SNAPSHOTTABLE } else { inode.flags & !flags::SNAPSHOTTABLE };
        });
        self.reweigh_root(slot, before);
        if allow.allow {
            self.snapshottable.insert(id)
        } else {
            self.snapshottable.remove(&id)
        };
        Ok(Outcome::Done)
    }

    fn check_not_nested(&self, slot: u32, path: &FsPath) -> FsResult<()> {
        let above = self.store.ancestors(self.store.inode(slot).parent);
        let above = above.into_iter().find(|at| self.store.inode(*at).has(flags::SNAPSHOTTABLE));
        if above.is_none() && !self.store.directory(slot).below.has_roots() {
            return Ok(());
        }
        let text = "directories with snapshots do not lie in each other";
        let text = match above.or_else(|| self.root_below(slot)) {
            Some(nested) => format!("{text}: {} has some", self.store.path(nested)),
            None => text.to_owned(),
        };
        Err(registry::invalid(text).with_path(path.as_str()))
    }
    /// The first directory in another one that may have snapshots, for a refusal to name it: only then all are looked at. What
    /// a refusal says is remembered, and is the same on every member and in every replay.
    fn root_below(&self, slot: u32) -> Option<u32> {
        let first = self.snapshottable.iter().filter_map(|id| self.store.slot(*id));
        first.into_iter().find(|found| *found != slot && self.store.is_below(*found, slot))
    }
    /// What a directory has of marks is not what it had: that of every directory above it follows.
    fn reweigh_root(&mut self, slot: u32, before: Totals) {
        let more = self.store.weight(slot).minus(before);
        self.store.add_totals(self.store.inode(slot).parent, more);
    }

    pub(in crate::namespace) fn create_snapshot(
        &mut self,
        call: &Call<'_>,
        create: &CreateSnapshot,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&create.path)?;
        let slot = self.root_of_snapshots(&who, &path)?;
        let id = self.store.inode(slot).id;
        self.check_snapshot_name(id, &create.name, &path)?;
        if self.store.snapshots_of(id).len() >= MAX_SNAPSHOTS {
            let text = format!("the directory has {MAX_SNAPSHOTS} snapshots, the most that it may");
            return Err(FsError::new(ErrorCode::NoSpace, text).with_path(path.as_str()));
        }
        let next = self.last_snapshot.checked_add(1).filter(|next| *next < u64::MAX);
        let next = next.ok_or_else(|| FsError::new(ErrorCode::NoSpace, "the namespace is full"))?;

        self.last_snapshot = next;
        self.store.add_totals(self.store.inode(slot).parent, Totals::snapshot());
        self.store.add_snapshot(id, Snapshot { id: next, name: create.name.as_str().into(), created_ns: call.now_ns });
        let top = self.store.path(slot);
        let top = if top == "/" { "" } else { &top };
        Ok(Outcome::Named(format!("{top}/{SNAPSHOT_DIRECTORY}/{}", create.name)))
    }

    pub(in crate::namespace) fn rename_snapshot(
        &mut self,
        call: &Call<'_>,
        rename: &RenameSnapshot,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&rename.path)?;
        let slot = self.root_of_snapshots(&who, &path)?;
        let id = self.store.inode(slot).id;
        let snapshot = self.snapshot_named(id, &rename.from, &path)?;
        if rename.from == rename.to {
            return Ok(Outcome::Done);
        }
        self.check_snapshot_name(id, &rename.to, &path)?;

        self.store.rename_snapshot(id, snapshot, &rename.to);
        Ok(Outcome::Done)
    }

    pub(in crate::namespace) fn delete_snapshot(
        &mut self,
        call: &Call<'_>,
        delete: &DeleteSnapshot,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&delete.path)?;
        let slot = self.root_of_snapshots(&who, &path)?;
        let id = self.store.inode(slot).id;
        let snapshot = self.snapshot_named(id, &delete.name, &path)?;

        self.store.add_totals(self.store.inode(slot).parent, Totals::default().minus(Totals::snapshot()));
        self.store.remove_snapshot(id, snapshot);
        self.purge = Some(Purge::start());
        Ok(Outcome::Done)
    }

    /// A directory of which the caller may make and remove snapshots: its own one that is marked.
    fn root_of_snapshots(&self, who: &Who<'_>, path: &FsPath) -> FsResult<u32> {
        let slot = self.find(who, path, Last::Follow)?;
        who.need_ownership(&self.store, slot)?;
        if !self.store.inode(slot).has(flags::SNAPSHOTTABLE) {
            return Err(not_snapshottable(path));
        }
        Ok(slot)
    }
    /// Id of a snapshot.
    pub(in crate::namespace) fn snapshot_named(&self, root: u64, name: &str, path: &FsPath) -> FsResult<u64> {
        self.store.snapshot_called(root, name).ok_or_else(|| {
            FsError::new(ErrorCode::NotFound, format!("there is no snapshot {name:.255?}")).with_path(path.as_str())
        })
    }
    fn check_snapshot_name(&self, root: u64, name: &str, path: &FsPath) -> FsResult<()> {
        proto::path::check_name(name)?;
        if name == SNAPSHOT_DIRECTORY || self.store.snapshot_called(root, name).is_some() {
            return Err(FsError::new(ErrorCode::AlreadyExists, format!("a snapshot is called {name:?} already"))
                .with_path(path.as_str()));
        }
        Ok(())
    }

    /// A directory that has snapshots, or holds one that has, stays.
    pub(super) fn check_no_snapshots_below(&self, slot: u32) -> FsResult<()> {
        if !self.store.inode(slot).is_dir() || !self.store.weight(slot).has_snapshots() {
            return Ok(());
        }
        let below = |id: &u64| self.store.slot(*id).filter(|root| self.store.is_below(*root, slot));
        let root = self.store.snapshots().keys().find_map(below);
        Err(FsError::new(ErrorCode::NotEmpty, "the directory has snapshots")
            .with_path(self.store.path(root.unwrap_or(slot)))
            .with_hint("delete them first (blockyard snapshot rm)"))
    }
    /// Directories with snapshots do not get into each other.
    pub(super) fn check_snapshots_of_move(&self, source: u32, target: u32, to: &FsPath) -> FsResult<()> {
        if self.snapshottable.is_empty() || !self.store.inode(source).is_dir() {
            return Ok(());
        }
        if self.store.inode(source).has(flags::SNAPSHOTTABLE)
            && !self.store.snapshots_of(self.store.inode(source).id).is_empty()
        {
            return Err(registry::invalid("a directory that has snapshots cannot be moved".to_owned())
                .with_path(self.store.path(source))
                .with_hint("delete them first (blockyard snapshot rm)"));
        }
        let covered = self.store.ancestors(target).iter().any(|at| self.store.inode(*at).has(flags::SNAPSHOTTABLE));
        let was_covered = self
            .store
            .ancestors(self.store.inode(source).parent)
            .iter()
            .any(|at| self.store.inode(*at).has(flags::SNAPSHOTTABLE));
        if covered && !was_covered && self.store.weight(source).has_roots() {
            return Err(registry::invalid("directories with snapshots do not lie in each other".to_owned())
                .with_path(to.as_str()));
        }
        Ok(())
    }
    /// Would a snapshot keep this entry if it were removed?
    pub(super) fn seen_by_snapshots(&self, entry: u32) -> bool {
        let parent = self.store.inode(entry).parent;
        parent != NONE && self.store.cover(parent, self.store.born_of(entry)).newest != 0
    }
}

/// The directory is not marked.
pub(in crate::namespace) fn not_snapshottable(path: &FsPath) -> FsError {
    registry::invalid("snapshots of this directory are not allowed".to_owned())
        .with_path(path.as_str())
        .with_hint("a superuser allows them (blockyard snapshot enable)")
}
