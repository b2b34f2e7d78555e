//! Rules of names: directories, symbolic links, further names, deleting, renaming.

use std::collections::BTreeMap;

use proto::error::ErrorCode;

use super::acl::Acl;
use super::rights::{ENTRIES, Person, READ, WRITE};
use super::rules::{Last, Reasons, Refused, SNAPSHOTS, State, Told, Walk, refuse};
use super::tree::{Body, Id, Node, Quota};

/// Rights that whoever makes a tree needs to go on in it.
const GO_ON: u32 = 0o300;

/// What a new thing is made with.
#[derive(Clone, Copy)]
pub(super) struct Made {
    pub(super) mode: u32,
    /// Before the umask, if the caller said it: a default ACL takes the place of the umask.
    pub(super) unmasked: Option<u32>,
}

impl State {
    /// A node without a name: it belongs to its maker and to the group of its directory.
    pub(super) fn make(&mut self, who: &Person, directory: Id, made: Made, body: Body) -> Id {
        let id = self.next;
        self.next += 1;
        let above = self.tree.get(directory);
        let inherits = !above.default.0.is_empty() && !matches!(body, Body::Symlink(_));
        let mode = if inherits { made.unmasked.unwrap_or(made.mode) } else { made.mode };
        let is_directory = matches!(body, Body::Directory(_));
        let node = Node {
            owner: who.name.to_owned(),
            group: above.group.clone(),
            special: mode & 0o7000 | if is_directory { above.special & 0o2000 } else { 0 },
            access: if inherits { above.default.inherited(mode) } else { Acl::of_mode(mode) },
            default: if inherits && is_directory { above.default.clone() } else { Acl::default() },
            mtime_ns: self.now_ns,
            atime_ns: self.now_ns,
            ctime_ns: self.now_ns,
            xattrs: BTreeMap::new(),
            quota: Quota::default(),
            snapshottable: false,
            body,
        };
        self.tree.nodes.insert(id, node);
        id
    }
    fn make_directory(&mut self, who: &Person, above: Id, name: &str, made: Made) -> Id {
        let id = self.make(who, above, made, Body::Directory(BTreeMap::new()));
        self.put(above, name, id);
        id
    }
    /// Directories on the way to something new.
    pub(super) fn make_parents(&mut self, who: &Person, top: Id, names: &[(String, bool)], made: Made) -> Id {
        names.iter().fold(top, |at, (name, _)| self.make_directory(who, at, name, made))
    }
    /// Directories that come with a file or a symbolic link are as open as the one that they are made in.
    pub(super) fn made_like(&self, directory: Id) -> Made {
        Made { mode: self.tree.get(directory).mode() & 0o777 | GO_ON, unmasked: None }
    }

    /// May these names be made?
    pub(super) fn may_add(&self, who: &Person, walk: &Walk, parents: bool) -> Told<()> {
        if walk.missing.len() > 1 && !parents {
            return refuse(ErrorCode::NotFound);
        }
        let mut reasons = Reasons::default();
        let odd = |name: &(String, bool)| name.1 && ["", ".", ".."].contains(&name.0.as_str());
        reasons.when(walk.missing.iter().any(odd), ErrorCode::InvalidPath);
        reasons.when(walk.missing.iter().any(|(name, _)| name == SNAPSHOTS), ErrorCode::ReadOnly);
        reasons.denied_unless(who.may(self.tree.get(walk.at), ENTRIES));
        reasons.judge()
    }

    pub(super) fn mkdir(&mut self, who: &Person, path: &str, made: Made, parents: bool) -> Told<Id> {
        self.attempt(|state| {
            if made.mode > 0o7777 || made.unmasked.is_some_and(|mode| mode > 0o7777) {
                return refuse(ErrorCode::InvalidArgument);
            }
            let walk = state.walk(who, path, Last::Follow)?;
            let Some(((last, _), above)) = walk.missing.split_last() else {
                let is_directory = state.tree.get(walk.at).is_directory();
                return if is_directory && parents { Ok(walk.at) } else { refuse(ErrorCode::AlreadyExists) };
            };
            state.may_add(who, &walk, parents)?;
            let on_the_way = Made { mode: made.mode | GO_ON, ..made };
            let directory = state.make_parents(who, walk.at, above, on_the_way);
            Ok(state.make_directory(who, directory, last, made))
        })
    }

    pub(super) fn symlink(&mut self, who: &Person, path: &str, target: &str, parents: bool) -> Told<Id> {
        self.attempt(|state| {
            let walk = state.walk(who, path, Last::Keep)?;
            let Some(((last, _), above)) = walk.missing.split_last() else { return refuse(ErrorCode::AlreadyExists) };
            state.may_add(who, &walk, parents)?;
            let like = state.made_like(walk.at);
            let directory = state.make_parents(who, walk.at, above, like);
            let made = Made { mode: 0o777, unmasked: None };
            let id = state.make(who, directory, made, Body::Symlink(target.to_owned()));
            state.put(directory, last, id);
            Ok(id)
        })
    }

    /// Whoever owns a file, or may read and write it, may give it another name.
    pub(super) fn link(&mut self, who: &Person, existing: &str, path: &str) -> Told<Id> {
        self.attempt(|state| {
            let id = state.find(who, existing, Last::Keep)?;
            let node = state.tree.get(id);
            if node.is_directory() {
                return refuse(ErrorCode::IsADirectory);
            }
            let usable = node.file().is_some() && who.may(node, READ | WRITE);
            if !(who.owns(node) || usable) {
                return refuse(ErrorCode::PermissionDenied);
            }
            let walk = state.walk(who, path, Last::Keep)?;
            let Some((name, _)) = walk.missing.first() else { return refuse(ErrorCode::AlreadyExists) };
            state.may_add(who, &walk, false)?;
            state.put(walk.at, name, id);
            state.attributes_changed(id);
            Ok(id)
        })
    }

    /// Files (and symbolic links) and directories that went.
    pub(super) fn delete(&mut self, who: &Person, path: &str, recursive: bool) -> Told<(u64, u64)> {
        self.attempt(|state| {
            if path == "/" {
                return refuse(ErrorCode::InvalidArgument);
            }
            let walk = state.walk(who, path, Last::Keep)?;
            let Some((directory, name)) = walk.entry.filter(|_| walk.missing.is_empty()) else {
                return refuse(ErrorCode::NotFound);
            };
            let node = state.tree.get(walk.at);
            let mut reasons = state.may_remove(who, directory, walk.at);
            let full = node.entries().is_some_and(|entries| !entries.is_empty());
            reasons.when(full && !recursive, ErrorCode::NotEmpty);
            reasons.when(state.has_snapshots_below(walk.at), ErrorCode::NotEmpty);
            reasons.denied_unless(!recursive || state.may_remove_all_below(who, walk.at));
            reasons.judge()?;
            let usage = state.tree.usage(walk.at);
            state.take_out(directory, &name);
            Ok((usage.files + usage.symlinks, usage.directories))
        })
    }
    fn may_remove(&self, who: &Person, directory: Id, id: Id) -> Reasons {
        let (above, node) = (self.tree.get(directory), self.tree.get(id));
        let mut reasons = Reasons::default();
        reasons.denied_unless(who.may(above, ENTRIES) && !who.is_stuck(above, node));
        reasons
    }
    /// As if each entry were deleted by itself; what is in an empty directory nobody has to ask.
    fn may_remove_all_below(&self, who: &Person, top: Id) -> bool {
        self.tree.reachable(top).into_iter().all(|id| {
            let node = self.tree.get(id);
            let mut entries = node.entries().into_iter().flatten().peekable();
            let empty = entries.peek().is_none();
            empty
                || who.may(node, READ | ENTRIES) && entries.all(|(_, child)| !who.is_stuck(node, self.tree.get(*child)))
        })
    }
    pub(super) fn has_snapshots_below(&self, top: Id) -> bool {
        let mut with = self.snapshots.iter().filter(|(_, snapshots)| !snapshots.is_empty());
        with.any(|(id, _)| self.tree.is_below(*id, top))
    }

    pub(super) fn rename(&mut self, who: &Person, from: &str, to: &str, replace: bool) -> Told<()> {
        self.attempt(|state| {
            if from == "/" || to == "/" {
                return refuse(ErrorCode::InvalidMove);
            }
            let source = state.walk(who, from, Last::Keep)?;
            let Some((above, old_name)) = source.entry.filter(|_| source.missing.is_empty()) else {
                return refuse(ErrorCode::NotFound);
            };
            if from == to {
                return refuse(ErrorCode::AlreadyExists);
            }
            // As HDFS, by what the paths say; POSIX would call a file in the way no directory.
            if to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                let mut codes = vec![ErrorCode::InvalidMove];
                codes.extend(state.tree.get(source.at).file().map(|_| ErrorCode::NotADirectory));
                return Err(Refused(codes));
            }
            let target = state.walk(who, to, Last::Keep)?;
            if target.missing.len() > 1 {
                return refuse(ErrorCode::NotFound);
            }
            let old = target.missing.is_empty().then_some(target.at);
            let (directory, name) = match (target.missing.into_iter().next(), target.entry) {
                (Some((name, _)), _) => (target.at, name),
                (None, Some(entry)) => entry,
                (None, None) => return refuse(ErrorCode::InvalidMove),
            };
            let mut reasons = state.may_remove(who, above, source.at);
            reasons.when(state.tree.is_below(directory, source.at), ErrorCode::InvalidMove);
            reasons.when((above, &old_name) == (directory, &name), ErrorCode::AlreadyExists);
            reasons.denied_unless(who.may(state.tree.get(directory), ENTRIES));
            if let Some(old) = old {
                state.may_take_the_place(who, (source.at, directory, old), replace, &mut reasons);
            }
            reasons.judge()?;
            if state.breaks_snapshots(source.at, directory, old) {
                // Whether a quota or a snapshot says no is the same for the caller.
                let codes = vec![ErrorCode::InvalidArgument, ErrorCode::NotEmpty, ErrorCode::QuotaExceeded];
                return Err(Refused(codes));
            }
            // POSIX: two names of one file, and nothing happens.
            if old == Some(source.at) {
                return Ok(());
            }
            state.take_out(above, &old_name);
            state.put(directory, &name, source.at);
            state.attributes_changed(source.at);
            Ok(())
        })
    }
    pub(super) fn exchange(&mut self, who: &Person, from: &str, to: &str) -> Told<()> {
        self.attempt(|state| {
            if from == "/" || to == "/" {
                return refuse(ErrorCode::InvalidMove);
            }
            let one = state.walk(who, from, Last::Keep)?;
            let Some((above, name)) = one.entry.filter(|_| one.missing.is_empty()) else {
                return refuse(ErrorCode::NotFound);
            };
            if from == to {
                return refuse(ErrorCode::AlreadyExists);
            }
            if to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                let mut codes = vec![ErrorCode::InvalidMove];
                codes.extend(state.tree.get(one.at).file().map(|_| ErrorCode::NotADirectory));
                return Err(Refused(codes));
            }
            let other = state.walk(who, to, Last::Keep)?;
            let Some((other_above, other_name)) = other.entry.filter(|_| other.missing.is_empty()) else {
                let codes = vec![if other.missing.is_empty() { ErrorCode::InvalidMove } else { ErrorCode::NotFound }];
                return Err(Refused(codes));
            };
            let mut reasons = state.may_remove(who, above, one.at);
            let others = state.may_remove(who, other_above, other.at);
            reasons.also(others);
            let turned = state.tree.is_below(other_above, one.at) || state.tree.is_below(above, other.at);
            reasons.when(turned, ErrorCode::InvalidMove);
            reasons.when((above, &name) == (other_above, &other_name), ErrorCode::AlreadyExists);
            reasons.judge()?;
            // Each goes to the place of the other one; nothing is replaced.
            let breaks =
                state.breaks_snapshots(one.at, other_above, None) || state.breaks_snapshots(other.at, above, None);
            if breaks {
                return Err(Refused(vec![ErrorCode::InvalidArgument, ErrorCode::QuotaExceeded]));
            }
            if one.at == other.at {
                return Ok(());
            }
            state.take_out(above, &name);
            state.take_out(other_above, &other_name);
            state.put(above, &name, other.at);
            state.put(other_above, &other_name, one.at);
            state.attributes_changed(one.at);
            state.attributes_changed(other.at);
            Ok(())
        })
    }
    fn may_take_the_place(
        &self,
        who: &Person,
        (source, directory, old): (Id, Id, Id),
        replace: bool,
        reasons: &mut Reasons,
    ) {
        let (node, old_node) = (self.tree.get(source), self.tree.get(old));
        reasons.when(!replace, ErrorCode::AlreadyExists);
        let kinds = (node.is_directory(), old_node.is_directory());
        reasons.when(kinds == (false, true), ErrorCode::IsADirectory);
        reasons.when(kinds == (true, false), ErrorCode::NotADirectory);
        let full = old_node.entries().is_some_and(|entries| !entries.is_empty());
        reasons.when(kinds.0 && full, ErrorCode::NotEmpty);
        reasons.denied_unless(!who.is_stuck(self.tree.get(directory), old_node));
    }
    /// What has snapshots stays where it is, is not replaced, and does not get into what has some itself.
    fn breaks_snapshots(&self, source: Id, directory: Id, old: Option<Id>) -> bool {
        let has_snapshots = |id: Id| self.snapshots.get(&id).is_some_and(|snapshots| !snapshots.is_empty());
        let marked = |id: &Id| self.tree.get(*id).snapshottable;
        let holds_marked = self.tree.reachable(source).iter().any(marked);
        let above_is_marked =
            self.tree.nodes.keys().any(|id| marked(id) && self.is_listed(*id) && self.tree.is_below(directory, *id));
        has_snapshots(source) || holds_marked && above_is_marked || old.is_some_and(has_snapshots)
    }
}
