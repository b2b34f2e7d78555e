//! Rules of attributes: mode, owner, times, copies, quotas, extended attributes, ACLs, snapshots.

use std::rc::Rc;

use proto::error::ErrorCode;

use super::acl::{self, Change, Tag};
use super::files::MAX_REPLICATION;
use super::rights::{Person, WRITE};
use super::rules::{Last, Reasons, State, Told, refuse};
use super::tree::{Body, Id, Node, Quota, Snapshot};

/// What is to be set.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    pub(super) mtime_ns: Option<i64>,
    pub(super) atime_ns: Option<i64>,
    pub(super) replication: Option<u64>,
}

/// Most attributes and bytes of one, as in HDFS.
const MAX_XATTRS: usize = 32;
const MAX_XATTR_BYTES: usize = 16_384;

/// May this caller change an attribute of this name?
fn may_change_xattr(who: &Person, node: &Node, name: &str) -> Told<()> {
    let mut reasons = Reasons::default();
    match name.split_once('.').map(|(class, _)| class) {
        Some("user") => {
            reasons.when(node.target().is_some(), ErrorCode::InvalidArgument);
            let sticky = node.is_directory() && node.is_sticky();
            reasons.denied_unless(if sticky { who.owns(node) } else { who.may(node, WRITE) });
        }
        Some("trusted" | "security" | "raw") => reasons.denied_unless(who.superuser),
        Some("system") => reasons.denied_unless(false),
        _ => reasons.when(true, ErrorCode::InvalidArgument),
    }
    reasons.judge()
}

impl State {
    pub(super) fn set_attributes(&mut self, who: &Person, path: &str, last: Last, wanted: &Wanted) -> Told<()> {
        self.attempt(|state| {
            let id = state.find(who, path, last)?;
            state.may_set(who, id, wanted).judge()?;
            let now_ns = state.now_ns;
            let node = state.tree.edit(id);
            if let Some(mode) = wanted.mode {
                // POSIX: who is not in the group loses the set-group-id bit silently.
                let group = wanted.group.as_ref().unwrap_or(&node.group);
                let lost = if who.superuser || who.is_in(group) { 0 } else { 0o2000 };
                node.special = mode & 0o7000 & !lost;
                node.access.set_mode_bits(mode);
            }
            node.owner = wanted.owner.clone().unwrap_or_else(|| node.owner.clone());
            node.group = wanted.group.clone().unwrap_or_else(|| node.group.clone());
            node.mtime_ns = wanted.mtime_ns.unwrap_or(node.mtime_ns);
            node.atime_ns = wanted.atime_ns.unwrap_or(node.atime_ns);
            node.ctime_ns = now_ns;
            if let (Body::File(file), Some(replication)) = (&mut node.body, wanted.replication) {
                file.replication = replication;
            }
            Ok(())
        })
    }
    fn may_set(&self, who: &Person, id: Id, wanted: &Wanted) -> Reasons {
        let node = self.tree.get(id);
        let mut reasons = Reasons::default();
        if let Some(mode) = wanted.mode {
            reasons.denied_unless(who.owns(node));
            reasons.when(node.target().is_some() || mode > 0o7777, ErrorCode::InvalidArgument);
        }
        if let Some(owner) = &wanted.owner {
            reasons.denied_unless(who.superuser || *owner == node.owner && who.owns(node));
        }
        if let Some(group) = &wanted.group {
            reasons.denied_unless(who.superuser || who.owns(node) && who.is_in(group));
        }
        if wanted.mtime_ns.or(wanted.atime_ns).is_some() {
            reasons.denied_unless(who.owns(node) || who.may(node, WRITE));
        }
        if let Some(replication) = wanted.replication {
            reasons.denied_unless(who.may(node, WRITE));
            reasons.when(!(1..=MAX_REPLICATION).contains(&replication), ErrorCode::InvalidArgument);
            reasons.when(node.is_directory(), ErrorCode::IsADirectory);
            reasons.when(node.target().is_some(), ErrorCode::InvalidArgument);
        }
        reasons
    }
    /// What readers did: later times only, and it is no change of the attributes.
    pub(super) fn saw_access(&mut self, id: Id, atime_ns: i64) {
        if let Some(node) = self.tree.nodes.get_mut(&id) {
            node.atime_ns = node.atime_ns.max(atime_ns);
        }
    }

    /// For each limit: `None` leaves it, `Some(None)` takes it away.
    pub(super) fn set_quota(
        &mut self,
        who: &Person,
        path: &str,
        names: Option<Option<u64>>,
        space_bytes: Option<Option<u64>>,
    ) -> Told<()> {
        if !who.superuser {
            return refuse(ErrorCode::PermissionDenied);
        }
        let id = self.find(who, path, Last::Follow)?;
        let node = self.tree.edit(id);
        if !node.is_directory() {
            return refuse(ErrorCode::NotADirectory);
        }
        let Quota { names: old_names, space_bytes: old_bytes } = node.quota;
        node.quota = Quota { names: names.unwrap_or(old_names), space_bytes: space_bytes.unwrap_or(old_bytes) };
        Ok(())
    }

    pub(super) fn set_xattr(
        &mut self,
        who: &Person,
        (path, last): (&str, Last),
        (name, value): (&str, &[u8]),
        (create, replace): (bool, bool),
    ) -> Told<()> {
        self.attempt(|state| {
            if !create && !replace || name.len() + value.len() > MAX_XATTR_BYTES {
                return refuse(ErrorCode::InvalidArgument);
            }
            let id = state.find(who, path, last)?;
            let node = state.tree.get(id);
            may_change_xattr(who, node, name)?;
            match node.xattrs.contains_key(name) {
                true if !replace => return refuse(ErrorCode::AlreadyExists),
                false if !create => return refuse(ErrorCode::NoAttribute),
                false if node.xattrs.len() >= MAX_XATTRS => return refuse(ErrorCode::NoSpace),
                _ => {}
            }
            state.tree.edit(id).xattrs.insert(name.to_owned(), value.to_vec());
            state.attributes_changed(id);
            Ok(())
        })
    }
    pub(super) fn remove_xattr(&mut self, who: &Person, path: &str, last: Last, name: &str) -> Told<()> {
        self.attempt(|state| {
            let id = state.find(who, path, last)?;
            may_change_xattr(who, state.tree.get(id), name)?;
            if state.tree.edit(id).xattrs.remove(name).is_none() {
                return refuse(ErrorCode::NoAttribute);
            }
            state.attributes_changed(id);
            Ok(())
        })
    }

    pub(super) fn change_acl(
        &mut self,
        who: &Person,
        path: &str,
        change: Change,
        given: [&[(Tag, u32)]; 2],
    ) -> Told<()> {
        self.attempt(|state| {
            let id = state.find(who, path, Last::Follow)?;
            let node = state.tree.get(id);
            if !who.owns(node) {
                return refuse(ErrorCode::PermissionDenied);
            }
            let (access, default) = acl::changed((&node.access, &node.default), change, given)?;
            if !default.0.is_empty() && !node.is_directory() {
                return refuse(ErrorCode::InvalidArgument);
            }
            let node = state.tree.edit(id);
            (node.access, node.default) = (access, default);
            state.attributes_changed(id);
            Ok(())
        })
    }

    pub(super) fn allow_snapshots(&mut self, who: &Person, path: &str, allow: bool) -> Told<()> {
        if !who.superuser {
            return refuse(ErrorCode::PermissionDenied);
        }
        let id = self.find(who, path, Last::Follow)?;
        if !self.tree.get(id).is_directory() {
            return refuse(ErrorCode::NotADirectory);
        }
        let related = |other: &Id| {
            *other != id
                && self.tree.get(*other).snapshottable
                && (self.tree.is_below(*other, id) || self.tree.is_below(id, *other))
        };
        if allow && self.tree.nodes.keys().any(related) {
            return refuse(ErrorCode::InvalidArgument);
        }
        if !allow && self.snapshots.get(&id).is_some_and(|snapshots| !snapshots.is_empty()) {
            return refuse(ErrorCode::NotEmpty);
        }
        self.tree.edit(id).snapshottable = allow;
        Ok(())
    }
    /// The directory of which snapshots are made: the caller's own.
    fn root_of_snapshots(&self, who: &Person, path: &str) -> Told<Id> {
        let id = self.find(who, path, Last::Follow)?;
        let mut reasons = Reasons::default();
        reasons.denied_unless(who.owns(self.tree.get(id)));
        reasons.when(!self.tree.get(id).snapshottable, ErrorCode::InvalidArgument);
        reasons.judge().map(|()| id)
    }
    fn position(&self, id: Id, name: &str) -> Option<usize> {
        self.snapshots.get(&id)?.iter().position(|snapshot| snapshot.name == name)
    }
    pub(super) fn create_snapshot(&mut self, who: &Person, path: &str, name: &str) -> Told<()> {
        let id = self.root_of_snapshots(who, path)?;
        if self.position(id, name).is_some() {
            return refuse(ErrorCode::AlreadyExists);
        }
        let snapshot = Snapshot { name: name.to_owned(), tree: Rc::new(self.tree.copy_of(id)) };
        self.snapshots.entry(id).or_default().push(snapshot);
        Ok(())
    }
    pub(super) fn rename_snapshot(&mut self, who: &Person, path: &str, from: &str, to: &str) -> Told<()> {
        let id = self.root_of_snapshots(who, path)?;
        let Some(at) = self.position(id, from) else { return refuse(ErrorCode::NotFound) };
        if from != to && self.position(id, to).is_some() {
            return refuse(ErrorCode::AlreadyExists);
        }
        if let Some(snapshots) = self.snapshots.get_mut(&id) {
            to.clone_into(&mut snapshots[at].name);
        }
        Ok(())
    }
    pub(super) fn delete_snapshot(&mut self, who: &Person, path: &str, name: &str) -> Told<()> {
        let id = self.root_of_snapshots(who, path)?;
        let Some(at) = self.position(id, name) else { return refuse(ErrorCode::NotFound) };
        if let Some(snapshots) = self.snapshots.get_mut(&id) {
            snapshots.remove(at);
        }
        Ok(())
    }
}
