//! What the rules share: refusals, the way to a path, quotas. Every operation is tried on the state itself; if it is
//! refused, a copy from before comes back, and a quota is exceeded if a walk over the result says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::error::ErrorCode;

use super::acl::Acl;
use super::rights::{EXECUTE, Person};
use super::tree::{Body, Id, Node, Quota, Snapshot, Tree, Usage};

/// Reasons for which a call must be refused; any of them may be told.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Refused(pub(super) Vec<ErrorCode>);
pub(super) type Told<T> = Result<T, Refused>;

pub(super) fn refuse<T>(code: ErrorCode) -> Told<T> {
    Err(Refused(vec![code]))
}

/// Collects reasons.
#[derive(Default)]
pub(super) struct Reasons(Vec<ErrorCode>);

impl Reasons {
    pub(super) fn when(&mut self, refused: bool, code: ErrorCode) {
        if refused && !self.0.contains(&code) {
            self.0.push(code);
        }
    }
    pub(super) fn denied_unless(&mut self, allowed: bool) {
        self.when(!allowed, ErrorCode::PermissionDenied);
    }
    pub(super) fn also(&mut self, others: Self) {
        others.0.into_iter().for_each(|code| self.when(true, code));
    }
    pub(super) fn judge(self) -> Told<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Refused(self.0)) }
    }
}

/// Who writes a file, and where it goes when it is complete.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) user: &'static str,
    pub(super) pin: Option<Pin>,
}
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub(super) directory: Id,
    pub(super) name: String,
    pub(super) overwrite: bool,
}

/// Everything.
#[derive(Clone)]
pub(super) struct State {
    pub(super) tree: Tree,
    /// By directory, oldest first.
    pub(super) snapshots: BTreeMap<Id, Vec<Snapshot>>,
    pub(super) writers: BTreeMap<Id, Writer>,
    /// Open files that are nobody's, until their last block is finished: the length that it must get, if one is fixed.
    pub(super) recoveries: BTreeMap<Id, Option<u64>>,
    /// Stamps that writers may give their open blocks.
    pub(super) reserved: BTreeMap<Id, u64>,
    pub(super) next: Id,
    pub(super) now_ns: i64,
}

/// How far a path exists.
pub(super) struct Walk {
    pub(super) at: Id,
    /// Directory and name by which it was found; none for the root.
    pub(super) entry: Option<(Id, String)>,
    /// Names that do not exist, and whether each comes out of a symbolic link.
    pub(super) missing: Vec<(String, bool)>,
}

/// What happens at a symbolic link that is the last name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Last {
    Follow,
    Keep,
}

/// Symbolic links on one way.
const MAX_LINKS: usize = 40;
pub(super) const SNAPSHOTS: &str = ".snapshot";

impl State {
    pub(super) fn new(superuser: &'static str) -> Self {
        let root = Node {
            owner: superuser.to_owned(),
            group: "supergroup".to_owned(),
            special: 0,
            access: Acl::of_mode(0o755),
            default: Acl::default(),
            mtime_ns: 0,
            atime_ns: 0,
            ctime_ns: 0,
            xattrs: BTreeMap::new(),
            quota: Quota::default(),
            snapshottable: false,
            body: Body::Directory(BTreeMap::new()),
        };
        Self {
            tree: Tree { nodes: BTreeMap::from([(1, root)]), root: 1 },
            snapshots: BTreeMap::new(),
            writers: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            reserved: BTreeMap::new(),
            next: 2,
            now_ns: 0,
        }
    }

    /// Does all of an operation or nothing.
    pub(super) fn attempt<T>(&mut self, operation: impl FnOnce(&mut Self) -> Told<T>) -> Told<T> {
        let before = self.clone();
        let done = operation(self).and_then(|done| self.keeps_quotas(&before, false).map(|()| done));
        match done {
            Ok(_) => self.forget_what_is_gone(),
            Err(_) => *self = before,
        }
        done
    }

    /// A quota refuses what makes a directory larger than it allows; what does not make it larger is always allowed.
    pub(super) fn keeps_quotas(&self, before: &Self, space_only: bool) -> Told<()> {
        for id in self.tree.reachable(self.tree.root) {
            let Quota { names, space_bytes } = self.tree.get(id).quota;
            let had = if before.tree.nodes.contains_key(&id) { before.tree.usage(id) } else { Usage::default() };
            let has = self.tree.usage(id);
            let more = |has: u64, had: u64, most: Option<u64>| has > had && most.is_some_and(|most| has > most);
            if more(has.space_bytes, had.space_bytes, space_bytes)
                || !space_only && more(has.names(), had.names(), names)
            {
                return refuse(ErrorCode::QuotaExceeded);
            }
        }
        Ok(())
    }

    /// What has no name, and cannot get one any more, is gone, and so is its writer.
    fn forget_what_is_gone(&mut self) {
        let mut kept: BTreeSet<Id> = self.tree.reachable(self.tree.root);
        kept.extend(self.writers.iter().filter(|(_, writer)| writer.pin.is_some()).map(|(id, _)| *id));
        self.tree.nodes.retain(|id, _| kept.contains(id));
        self.writers.retain(|id, _| kept.contains(id));
        self.recoveries.retain(|id, _| kept.contains(id));
        self.reserved.retain(|id, _| kept.contains(id));
    }

    pub(super) fn is_listed(&self, id: Id) -> bool {
        self.tree.reachable(self.tree.root).contains(&id)
    }
    /// The directory above a directory.
    pub(super) fn place_of_directory(&self, id: Id) -> Option<(Id, String)> {
        self.tree.places(id).pop()
    }

    pub(super) fn walk(&self, who: &Person, path: &str, last: Last) -> Told<Walk> {
        let mut names: VecDeque<(String, bool)> =
            path.split('/').filter(|name| !name.is_empty()).map(|name| (name.to_owned(), false)).collect();
        let (mut at, mut entry, mut links) = (self.tree.root, None, 0);
        while let Some((name, from_link)) = names.pop_front() {
            let directory = self.tree.get(at);
            let Some(entries) = directory.entries() else { return refuse(ErrorCode::NotADirectory) };
            if !who.may(directory, EXECUTE) {
                return refuse(ErrorCode::PermissionDenied);
            }
            match name.as_str() {
                "." | "" => continue,
                ".." => {
                    entry = self.place_of_directory(at);
                    at = entry.as_ref().map_or(at, |(above, _)| *above);
                    entry = self.place_of_directory(at);
                    continue;
                }
                SNAPSHOTS => return refuse(ErrorCode::ReadOnly),
                _ => {}
            }
            let Some(child) = entries.get(&name).copied() else {
                names.push_front((name, from_link));
                return Ok(Walk { at, entry, missing: names.into() });
            };
            let target = self.tree.get(child).target().filter(|_| !names.is_empty() || last == Last::Follow);
            let Some(target) = target else {
                (at, entry) = (child, Some((at, name)));
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return refuse(ErrorCode::InvalidPath);
            }
            if target.starts_with('/') {
                (at, entry) = (self.tree.root, None);
            }
            for name in target.split('/').rev() {
                names.push_front((name.to_owned(), true));
            }
        }
        Ok(Walk { at, entry, missing: Vec::new() })
    }

    pub(super) fn find(&self, who: &Person, path: &str, last: Last) -> Told<Id> {
        let walk = self.walk(who, path, last)?;
        if walk.missing.is_empty() { Ok(walk.at) } else { refuse(ErrorCode::NotFound) }
    }

    /// Entries of a directory changed.
    pub(super) fn touch(&mut self, directory: Id) {
        let now_ns = self.now_ns;
        let node = self.tree.edit(directory);
        (node.mtime_ns, node.ctime_ns) = (now_ns, now_ns);
    }
    pub(super) fn attributes_changed(&mut self, id: Id) {
        let now_ns = self.now_ns;
        if let Some(node) = self.tree.nodes.get_mut(&id) {
            node.ctime_ns = now_ns;
        }
    }
    /// Takes a name out of its directory.
    pub(super) fn take_out(&mut self, directory: Id, name: &str) {
        if let Some(id) = self.tree.entries_mut(directory).remove(name) {
            self.attributes_changed(id);
        }
        self.touch(directory);
    }
    /// Gives a node a name, instead of what has it.
    pub(super) fn put(&mut self, directory: Id, name: &str, id: Id) {
        self.take_out(directory, name);
        self.tree.entries_mut(directory).insert(name.to_owned(), id);
    }
    /// Does a snapshot show this node?
    pub(super) fn in_a_snapshot(&self, id: Id) -> bool {
        self.snapshots.values().flatten().any(|snapshot| snapshot.tree.nodes.contains_key(&id))
    }
}
