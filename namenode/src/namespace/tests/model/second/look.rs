//! Rules of reading: now, and as a snapshot has it.

use std::collections::BTreeMap;

use proto::error::ErrorCode;

use super::rights::{EXECUTE, Person, READ};
use super::rules::{Last, Reasons, Refused, SNAPSHOTS, State, Told, refuse};
use super::tree::{Id, Tree, Usage};

/// What a path leads to.
pub(super) enum Seen<'a> {
    Node {
        tree: &'a Tree,
        id: Id,
        /// Not as it is now.
        past: bool,
    },
    /// The list of snapshots of a directory.
    Snapshots(Id),
}

fn need(allowed: bool) -> Told<()> {
    if allowed { Ok(()) } else { refuse(ErrorCode::PermissionDenied) }
}

impl State {
    pub(super) fn look(&self, who: &Person, path: &str, last: Last) -> Told<Seen<'_>> {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let Some(at) = names.iter().position(|name| *name == SNAPSHOTS) else {
            let id = self.find(who, path, last).map_err(|refused| {
                // To look for something is no change.
                let plain = |code| if code == ErrorCode::ReadOnly { ErrorCode::NotFound } else { code };
                Refused(refused.0.into_iter().map(plain).collect())
            })?;
            return Ok(Seen::Node { tree: &self.tree, id, past: false });
        };
        let id = self.find(who, &format!("/{}", names[..at].join("/")), Last::Follow)?;
        let node = self.tree.get(id);
        if !node.snapshottable {
            let mut reasons = Reasons::default();
            reasons.when(true, ErrorCode::NotFound);
            reasons.when(!node.is_directory(), ErrorCode::NotADirectory);
            reasons.judge()?;
        }
        need(who.may(node, EXECUTE))?;
        let Some(name) = names.get(at + 1) else { return Ok(Seen::Snapshots(id)) };
        let mut snapshots = self.snapshots.get(&id).into_iter().flatten();
        let Some(snapshot) = snapshots.find(|snapshot| snapshot.name == *name) else {
            return refuse(ErrorCode::NotFound);
        };
        let tree = &*snapshot.tree;
        let mut id = tree.root;
        for name in &names[at + 2..] {
            if !tree.get(id).is_directory() {
                return refuse(ErrorCode::NotADirectory);
            }
            need(who.may(tree.get(id), EXECUTE))?;
            let Some(child) = tree.child(id, name) else { return refuse(ErrorCode::NotFound) };
            id = child;
        }
        Ok(Seen::Node { tree, id, past: true })
    }

    /// Names in a directory; a file is listed as itself.
    pub(super) fn list(&self, who: &Person, path: &str) -> Told<Vec<String>> {
        match self.look(who, path, Last::Follow)? {
            Seen::Node { tree, id, .. } => {
                let node = tree.get(id);
                let Some(entries) = node.entries() else { return Ok(vec![String::new()]) };
                need(who.may(node, READ | EXECUTE))?;
                Ok(entries.keys().cloned().collect())
            }
            Seen::Snapshots(id) => {
                need(who.may(self.tree.get(id), READ | EXECUTE))?;
                let mut names: Vec<String> =
                    self.snapshots.get(&id).into_iter().flatten().map(|snapshot| snapshot.name.clone()).collect();
                names.sort();
                Ok(names)
            }
        }
    }
    /// Length of a file that the caller may read.
    pub(super) fn open(&self, who: &Person, path: &str) -> Told<u64> {
        let Seen::Node { tree, id, .. } = self.look(who, path, Last::Follow)? else {
            return refuse(ErrorCode::IsADirectory);
        };
        let node = tree.get(id);
        match node.file() {
            Some(file) => need(who.may(node, READ)).map(|()| file.len_bytes()),
            None if node.is_directory() => refuse(ErrorCode::IsADirectory),
            None => refuse(ErrorCode::InvalidArgument),
        }
    }
    /// Has the caller these rights? Nobody writes to a snapshot.
    pub(super) fn check_access(&self, who: &Person, path: &str, rights: u32) -> Told<bool> {
        Ok(match self.look(who, path, Last::Follow)? {
            Seen::Node { tree, id, past } => !(past && rights & 2 != 0) && who.may(tree.get(id), rights),
            Seen::Snapshots(_) => rights & 2 == 0,
        })
    }
    /// All extended attributes that the caller may see; what is raw must be asked for by name.
    pub(super) fn xattrs(&self, who: &Person, path: &str, last: Last) -> Told<BTreeMap<String, Vec<u8>>> {
        let Seen::Node { tree, id, .. } = self.look(who, path, last)? else { return Ok(BTreeMap::new()) };
        let node = tree.get(id);
        need(who.may(node, READ))?;
        let seen = |name: &str| {
            let trusted = name.starts_with("trusted.") || name.starts_with("security.");
            name.starts_with("user.") || who.superuser && trusted
        };
        Ok(node
            .xattrs
            .iter()
            .filter(|(name, _)| seen(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect())
    }
    /// One that is asked for by name.
    pub(super) fn xattr(&self, who: &Person, path: &str, name: &str) -> Told<Vec<u8>> {
        let Seen::Node { tree, id, .. } = self.look(who, path, Last::Follow)? else { return Ok(Vec::new()) };
        let node = tree.get(id);
        let mut reasons = Reasons::default();
        reasons.denied_unless(who.superuser || name.starts_with("user.") && who.may(node, READ));
        reasons.judge()?;
        match node.xattrs.get(name) {
            Some(value) => Ok(value.clone()),
            None => refuse(ErrorCode::NoAttribute),
        }
    }
    /// Whoever asks must be able to look into every directory.
    pub(super) fn summary(&self, who: &Person, path: &str) -> Told<Usage> {
        let Seen::Node { tree, id, .. } = self.look(who, path, Last::Follow)? else {
            return Ok(Usage { directories: 1, ..Usage::default() });
        };
        let closed = |id: &Id| tree.get(*id).is_directory() && !who.may(tree.get(*id), READ | EXECUTE);
        need(!tree.reachable(id).iter().any(closed))?;
        Ok(tree.usage(id))
    }
}
