//! What changed between two looks at a directory with snapshots.
//!
//! Both views are walked together, name by name. A name with the same inode in both is the same thing; an inode that is
//! in both under different names was renamed; the rest was made or deleted. What was made or deleted with its directory
//! is not listed by itself, as in HDFS.
//!
//! It is done in steps: what a snapshot sees stays, but of what is there now the changes that are made meanwhile are seen
//! or not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use proto::error::{ErrorCode, FsError, FsResult};
#[cfg(test)]
use proto::log::CallerRecord;
use proto::namespace::{DiffEntry, DiffKind, DiffSnapshotsRequest};
use proto::path::FsPath;

use super::Namespace;
use super::access::{EXECUTE, READ, Who};
use super::ops::snapshots::not_snapshottable;
use super::resolve::Last;
use super::store::history::Place;
use super::store::records::flags;
use super::walk::Walk;

/// Most names of both views together that one answer looks at.
const MAX_NAMES: usize = 1 << 20;
/// Names that are looked at ahead on one side while the other one is behind.
const AHEAD: usize = 64;

/// What it costs to begin with a directory, in names.
const DIRECTORY_COST: usize = 4;

/// A view: a snapshot, or what is there now.
type Side = Option<u64>;

/// Where it stands.
#[derive(Debug)]
pub(crate) struct DiffWalk {
    request: DiffSnapshotsRequest,
    path: FsPath,
    /// `None` before the first step.
    sides: Option<(Side, Side)>,
    found: Found,
    /// The directory that is being compared.
    at: Option<Comparing>,
    /// Directories in both views that are to be compared, with their paths; the last one first.
    open: Vec<(u64, String)>,
    /// While nothing is open: made inodes up to this one were looked at for directories that were moved.
    moved: Option<u64>,
}

#[derive(Debug, Default)]
struct Found {
    /// By inode: where it was, where it is, and whether it changed.
    gone: BTreeMap<u64, String>,
    made: BTreeMap<u64, String>,
    modified: BTreeSet<String>,
    compared: BTreeSet<u64>,
    looked_at: usize,
}

/// A directory in both views, gone through name by name.
#[derive(Debug)]
struct Comparing {
    directory: u64,
    path: String,
    from: Stream,
    to: Stream,
    /// Is there a name in one view only, or of another inode?
    differs: bool,
}

/// The names of a directory in one view.
#[derive(Debug)]
struct Stream {
    side: Side,
    place: Place,
    ahead: VecDeque<(Box<str>, u64)>,
    ended: bool,
}

impl Stream {
    fn new(side: Side) -> Self {
        Self { side, place: Place::default(), ahead: VecDeque::new(), ended: false }
    }
    /// Is it known which name comes next, or that none does?
    fn is_ready(&self) -> bool {
        self.ended || !self.ahead.is_empty()
    }

    /// Looks at more names.
    fn fill(&mut self, namespace: &Namespace, slot: u32, left: &mut usize) {
        let store = &namespace.store;
        let id_of = |slot: u32| store.inode(slot).id;
        let Some(snapshot) = self.side else {
            let mut entries = store.entries_after(slot, &self.place.name);
            while *left > 0 && self.ahead.len() < AHEAD {
                let Some(entry) = entries.next() else {
                    self.ended = true;
                    break;
                };
                *left -= 1;
                self.ahead.push_back((store.name(entry).into(), id_of(store.inode_of(entry))));
            }
            if let Some((name, _)) = self.ahead.back() {
                self.place = Place::after_name(name);
            }
            return;
        };
        let mut last = None;
        let mut all = store.glimpses(slot, &self.place, snapshot);
        while *left > 0 && self.ahead.len() < AHEAD {
            let Some(glimpse) = all.next() else {
                self.ended = true;
                break;
            };
            *left -= 1;
            self.ahead.extend(glimpse.seen.map(|child| (glimpse.name.into(), id_of(child))));
            last = Some(glimpse);
        }
        if let Some(last) = last {
            self.place = last.place();
        }
    }
}

impl Comparing {
    /// The next name, with its inode in each view. `None`: there is none, or one view has to look further.
    fn next(&mut self) -> Option<(Box<str>, Option<u64>, Option<u64>)> {
        let order = match (self.from.ahead.front(), self.to.ahead.front()) {
            (Some((before, _)), Some((after, _))) => before.cmp(after),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return None,
        };
        let before = if order.is_le() { self.from.ahead.pop_front() } else { None };
        let after = if order.is_ge() { self.to.ahead.pop_front() } else { None };
        let (before_id, after_id) = (before.as_ref().map(|(_, id)| *id), after.as_ref().map(|(_, id)| *id));
        before.or(after).map(|(name, _)| (name, before_id, after_id))
    }
}

impl DiffWalk {
    /// Differences by path below the directory. Needs READ and EXECUTE on it, and on every directory that is compared.
    ///
    /// # Errors
    /// `InvalidPath`.
    pub(crate) fn new(request: &DiffSnapshotsRequest) -> FsResult<Self> {
        Ok(Self {
            request: request.clone(),
            path: FsPath::parse(&request.path)?,
            sides: None,
            found: Found::default(),
            at: None,
            open: Vec::new(),
            moved: None,
        })
    }

    /// Finds directory and snapshots; again in each step, because they may be gone.
    fn find(&mut self, namespace: &Namespace, who: &Who<'_>) -> FsResult<(Side, Side)> {
        let slot = namespace.find(who, &self.path, Last::Follow)?;
        who.need(&namespace.store, slot, READ | EXECUTE)?;
        if !namespace.store.inode(slot).has(flags::SNAPSHOTTABLE) {
            return Err(not_snapshottable(&self.path));
        }
        let id = namespace.store.inode(slot).id;
        let side = |name: &str| match name {
            "" | "." => Ok(None),
            name => namespace.snapshot_named(id, name, &self.path).map(Some),
        };
        let sides = (side(&self.request.from)?, side(&self.request.to)?);
        if self.sides.is_none() {
            self.open.push((id, String::new()));
        } else if self.sides != Some(sides) {
            let text = "the snapshots were replaced while they were compared";
            return Err(FsError::new(ErrorCode::NotFound, text).with_path(self.path.as_str()));
        }
        self.sides = Some(sides);
        Ok(sides)
    }

    /// Begins with the next directory. False: there is none.
    fn open_next(
        &mut self,
        namespace: &Namespace,
        who: &Who<'_>,
        (from, to): (Side, Side),
        left: &mut usize,
    ) -> FsResult<bool> {
        let Some((directory, path)) = self.open.pop() else { return Ok(false) };
        *left = left.saturating_sub(DIRECTORY_COST);
        let Some(slot) = namespace.store.slot(directory) else { return Ok(true) };
        self.found.compared.insert(directory);
        for side in [from, to] {
            namespace.need_at(who, slot, side, READ | EXECUTE, &self.path)?;
        }
        self.found.count(1)?;
        let (from, to) = (Stream::new(from), Stream::new(to));
        self.at = Some(Comparing { directory, path, from, to, differs: false });
        Ok(true)
    }

    /// Compares on. True: the directory is done.
    fn compare(&mut self, namespace: &Namespace, left: &mut usize) -> FsResult<bool> {
        let Some(at) = &mut self.at else { return Ok(true) };
        let Some(slot) = namespace.store.slot(at.directory) else { return Ok(true) };
        let sides = (at.from.side, at.to.side);
        while (at.from.is_ready() && at.to.is_ready()) || *left > 0 {
            let before = *left;
            for stream in [&mut at.from, &mut at.to] {
                if !stream.is_ready() {
                    stream.fill(namespace, slot, left);
                }
            }
            self.found.count(before - *left)?;
            if !(at.from.is_ready() && at.to.is_ready()) {
                return Ok(false);
            }
            let Some((name, before, after)) = at.next() else {
                if at.differs || namespace.changed(slot, sides) {
                    self.found.modified.insert(at.path.clone());
                }
                return Ok(true);
            };
            let path = if at.path.is_empty() { name.into_string() } else { format!("{}/{name}", at.path) };
            if let Some(id) = before.filter(|id| after == Some(*id)) {
                let child = namespace.store.slot(id);
                match child {
                    Some(child) if namespace.store.inode(child).is_dir() => self.open.push((id, path)),
                    Some(child) if namespace.changed(child, sides) => {
                        self.found.modified.insert(path);
                    }
                    _ => {}
                }
                continue;
            }
            at.differs = true;
            if let Some(id) = before {
                self.found.gone.insert(id, path.clone());
            }
            if let Some(id) = after {
                self.found.made.insert(id, path);
            }
        }
        Ok(false)
    }

    /// A directory that was moved has changes of its own. True: there is none that was not compared.
    fn open_moved(&mut self, namespace: &Namespace, left: &mut usize) -> bool {
        let from = self.moved.map_or(Bound::Unbounded, Bound::Excluded);
        for (id, path) in self.found.made.range((from, Bound::Unbounded)) {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            self.moved = Some(*id);
            let directory = namespace.store.slot(*id).is_some_and(|slot| namespace.store.inode(slot).is_dir());
            if directory && self.found.gone.contains_key(id) && !self.found.compared.contains(id) {
                self.open.push((*id, path.clone()));
            }
        }
        self.moved = None;
        self.open.is_empty()
    }
}

impl Found {
    fn count(&mut self, names: usize) -> FsResult<()> {
        self.looked_at += names;
        if self.looked_at <= MAX_NAMES {
            return Ok(());
        }
        let text = format!("the trees have more than {MAX_NAMES} names to compare");
        Err(FsError::new(ErrorCode::NoSpace, text).with_hint("compare smaller directories with snapshots"))
    }
}

impl Walk for DiffWalk {
    type Answer = Vec<DiffEntry>;

    fn step(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> FsResult<bool> {
        let sides = self.find(namespace, who)?;
        while *left > 0 {
            if self.at.is_some() {
                if !self.compare(namespace, left)? {
                    return Ok(false);
                }
                self.at = None;
            } else if (self.moved.is_some() || !self.open_next(namespace, who, sides, left)?)
                && self.open_moved(namespace, left)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
    fn answer(self) -> Vec<DiffEntry> {
        entries(self.found)
    }
}

impl Namespace {
    /// Differences by path below the directory: see [`DiffWalk`].
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `InvalidArgument`; `NoSpace` for too large trees.
    #[cfg(test)]
    pub(crate) fn diff_snapshots(
        &self,
        who: &CallerRecord,
        request: &DiffSnapshotsRequest,
    ) -> FsResult<Vec<DiffEntry>> {
        self.walk_whole(who, DiffWalk::new(request)?)
    }

    /// Did contents or attributes change? Access times are not counted.
    fn changed(&self, slot: u32, (from, to): (Side, Side)) -> bool {
        self.state(slot, from) != self.state(slot, to)
    }

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
