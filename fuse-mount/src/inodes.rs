//! The names and numbers that the kernel knows. Pure.
//!
//! ```text
//!   kernel's number ─▶ node: the namespace's inode, its names here (directory's number, name), how often it was told
//! ```
//!
//! A number is the namespace's inode id. A file that a commit replaced by a new one keeps the number that programs know, and
//! the node says which inode stands behind it. A node is kept for as long as the kernel remembers it or a file is open, so
//! that the table is bounded by the kernel's own.

use std::collections::BTreeMap;

use base::clock::Moment;
use client::FileStatus;

use crate::changes::{Asked, Changes, What};

/// The number of the root, by FUSE.
pub(crate) const ROOT: u64 = 1;
/// Deepest path that is put together: the namespace allows 1,000 names.
const MAX_DEPTH: usize = 1_100;

/// What the kernel knows of one file.
#[derive(Clone, Debug, Default)]
struct Node {
    /// The namespace's inode; 0: not known, as of the root.
    inode: u64,
    /// The latest last.
    names: Vec<(u64, String)>,
    /// How often the kernel was told of it, less what it forgot.
    told: u64,
    /// Open files.
    pins: u64,
    /// What the pages are of that the kernel may hold.
    cached: Option<Version>,
    /// What the kernel was told of it last.
    shown: Option<Version>,
    /// It was told, too, that there is no ACL; believed until then.
    plain_until_ns: i64,
    listed: Option<Listed>,
}

/// How a directory was read last, if that was as a whole.
#[derive(Clone, Copy, Debug)]
struct Listed {
    by: u32,
    believed_until: Moment,
}

/// A version of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The namespace's inode.
    pub(crate) inode: u64,
    /// Length in bytes.
    pub(crate) len_bytes: u64,
    /// Time of the last change, ns since the Unix epoch.
    pub(crate) mtime_ns: i64,
}

impl Version {
    /// What a status is of.
    pub(crate) const fn of(status: &FileStatus) -> Self {
        Self { inode: status.inode, len_bytes: status.len_bytes, mtime_ns: status.mtime_ns }
    }
}

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct Inodes {
    nodes: BTreeMap<u64, Node>,
    by_inode: BTreeMap<u64, u64>,
    by_name: BTreeMap<(u64, String), u64>,
    /// Inodes that are about to take the place of the one behind a number.
    reserved: BTreeMap<u64, u64>,
    changes: Changes,
}

impl Default for Inodes {
    fn default() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node { pins: 1, ..Node::default() })]);
        let (by_inode, by_name, reserved) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { nodes, by_inode, by_name, reserved, changes: Changes::default() }
    }
}

impl Inodes {
    /// Files and directories that the kernel remembers, or that are open.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        self.nodes.len() as u64
    }
    /// A path by which the namespace finds a file; `None` if it has none that this mount knows.
    #[must_use]
    pub(crate) fn path(&self, number: u64) -> Option<String> {
        let mut names = Vec::new();
        let mut at = number;
        while at != ROOT {
            let (directory, name) = self.nodes.get(&at)?.names.last()?;
            names.push(name.as_str());
            at = *directory;
            if names.len() > MAX_DEPTH {
                return None;
            }
        }
        if names.is_empty() {
            return Some("/".to_owned());
        }
        let len = names.iter().map(|name| name.len() + 1).sum();
        let join = |mut path: String, name: &&str| {
            path.push('/');
            path.push_str(name);
            path
        };
        Some(names.iter().rev().fold(String::with_capacity(len), join))
    }
    /// The path of a name in a directory.
    #[must_use]
    pub(crate) fn path_in(&self, directory: u64, name: &str) -> Option<String> {
        let path = self.path(directory)?;
        Some(if path == "/" { format!("/{name}") } else { format!("{path}/{name}") })
    }
    /// The number of a name in a directory, if it is known.
    #[must_use]
    pub(crate) fn child(&self, directory: u64, name: &str) -> Option<u64> {
        self.by_name.get(&(directory, name.to_owned())).copied()
    }
    /// The namespace's inode behind a number; 0 if it is not known.
    #[must_use]
    pub(crate) fn inode(&self, number: u64) -> u64 {
        self.nodes.get(&number).map_or(0, |node| node.inode)
    }
    /// The number that an inode of the namespace has here, or would get.
    #[must_use]
    pub(crate) fn number_of(&self, inode: u64) -> u64 {
        self.by_inode.get(&inode).copied().unwrap_or(inode)
    }
    /// Are several names of a file known?
    #[must_use]
    pub(crate) fn has_another_name(&self, number: u64) -> bool {
        self.nodes.get(&number).is_some_and(|node| node.names.len() > 1)
    }

    /// The cluster is asked for something now: what it answers may be old by then.
    #[must_use]
    pub(crate) const fn asked(&self) -> Asked {
        self.changes.asked()
    }
    /// Did this mount change what a name stands for since the cluster was asked?
    #[must_use]
    pub(crate) fn is_old_name(&self, asked: Asked, directory: u64, name: &str) -> bool {
        self.changes.since(asked, &What::Name(directory, name.to_owned()))
    }
    /// Did it change this inode?
    #[must_use]
    pub(crate) fn is_old_inode(&self, asked: Asked, inode: u64) -> bool {
        self.changes.since(asked, &What::Inode(inode))
    }
    /// This mount has changed content or attributes of an inode.
    pub(crate) fn changed(&mut self, inode: u64) {
        self.changes.note(What::Inode(inode));
    }
    fn name_changed(&mut self, directory: u64, name: &str) {
        self.changes.note(What::Name(directory, name.to_owned()));
        if let Some(inode) = self.child(directory, name).map(|number| self.inode(number)) {
            self.changed(inode);
        }
    }

    /// As [`Inodes::told`], of a name that this mount has made.
    pub(crate) fn made(&mut self, directory: u64, name: &str, inode: u64) -> u64 {
        let number = self.told(directory, name, inode);
        self.name_changed(directory, name);
        number
    }
    /// As [`Inodes::told`], unless this mount has changed what the cluster said of it since that was asked.
    pub(crate) fn told_if_new(&mut self, asked: Asked, directory: u64, name: &str, inode: u64) -> Option<u64> {
        let is_old = self.is_old_name(asked, directory, name) || self.is_old_inode(asked, inode);
        (!is_old).then(|| self.told(directory, name, inode))
    }
    /// The namespace has this inode under this name, and the kernel is told so once. Its number.
    pub(crate) fn told(&mut self, directory: u64, name: &str, inode: u64) -> u64 {
        let key = (directory, name.to_owned());
        if let Some(number) = self.by_name.get(&key).copied().filter(|number| self.reserved.get(&inode) == Some(number))
        {
            // Seen before whoever put it there was told so.
            self.replaced(number, inode);
        }
        let number = *self.by_inode.entry(inode).or_insert(inode);
        match self.by_name.insert(key.clone(), number) {
            Some(before) if before == number => {}
            before => {
                if let Some(before) = before {
                    self.lose_name(before, &key);
                }
                self.nodes.entry(number).or_default().names.push(key);
            }
        }
        let node = self.nodes.entry(number).or_default();
        node.inode = inode;
        node.told += 1;
        number
    }
    /// The kernel forgets a number so many times.
    pub(crate) fn forget(&mut self, number: u64, times: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.told = node.told.saturating_sub(times);
            self.drop_unused(number);
        }
    }
    /// Keeps a node while a file is open.
    pub(crate) fn pin(&mut self, number: u64) {
        self.nodes.entry(number).or_default().pins += 1;
    }
    /// The other end of [`Inodes::pin`].
    pub(crate) fn unpin(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.pins = node.pins.saturating_sub(1);
            self.drop_unused(number);
        }
    }

    /// A name is gone.
    pub(crate) fn removed(&mut self, directory: u64, name: &str) {
        self.name_changed(directory, name);
        self.lost(directory, name);
    }
    /// A name was not there any more when the cluster was asked.
    pub(crate) fn missed(&mut self, asked: Asked, directory: u64, name: &str) -> bool {
        let is_old = self.is_old_name(asked, directory, name);
        if !is_old {
            self.lost(directory, name);
        }
        !is_old
    }
    fn lost(&mut self, directory: u64, name: &str) {
        let key = (directory, name.to_owned());
        if let Some(number) = self.by_name.remove(&key) {
            self.lose_name(number, &key);
            self.drop_unused(directory);
        }
    }
    /// A name moved, in the place of what was there. `moved`: the number that it stood for before the cluster was asked to, if
    /// that was known, whatever somebody learned of either name meanwhile; `both`: it was that of the other name, too.
    pub(crate) fn renamed(&mut self, from: (u64, &str), to: (u64, &str), (moved, both): (Option<u64>, bool)) {
        self.name_changed(from.0, from.1);
        self.name_changed(to.0, to.1);
        if both {
            // Two names of one file: the namespace leaves both.
            return;
        }
        let key = (from.0, from.1.to_owned());
        let known = self.by_name.remove(&key);
        if let Some(other) = known.filter(|other| Some(*other) != moved) {
            self.lose_name(other, &key);
        }
        let Some(number) = moved.or(known).filter(|number| self.nodes.contains_key(number)) else {
            return self.lost(to.0, to.1);
        };
        let new = (to.0, to.1.to_owned());
        match self.by_name.insert(new.clone(), number) {
            Some(before) if before != number => self.lose_name(before, &new),
            _ => {}
        }
        if let Some(node) = self.nodes.get_mut(&number) {
            node.names.retain(|name| *name != key && *name != new);
            node.names.push(new);
        }
        self.drop_unused(from.0);
    }
    /// Two names stand for what the other one stood for before the cluster was asked to, as far as that was known, whatever
    /// somebody learned of them meanwhile.
    pub(crate) fn exchanged(&mut self, from: ((u64, &str), Option<u64>), to: ((u64, &str), Option<u64>)) {
        let ends = [from, to].map(|((directory, name), number)| {
            self.name_changed(directory, name);
            ((directory, name.to_owned()), number)
        });
        let [(first, one), (second, other)] = &ends;
        if one.is_some() && one == other {
            // Two names of one file.
            return;
        }
        for (key, _) in &ends {
            if let Some(number) = self.by_name.remove(key) {
                self.lose_name(number, key);
            }
        }
        for (number, old, new) in [(one, first, second), (other, second, first)] {
            let Some(node) = number.and_then(|number| self.nodes.get_mut(&number)) else { continue };
            node.names.retain(|name| name != old && name != new);
            node.names.push(new.clone());
            self.by_name.extend(number.map(|number| (new.clone(), number)));
        }
    }
    /// This inode is about to take the place of the one behind a number, under the same name.
    pub(crate) fn reserve(&mut self, number: u64, inode: u64) {
        self.reserved.insert(inode, number);
    }
    /// It is not, or has.
    pub(crate) fn unreserve(&mut self, inode: u64) {
        self.reserved.remove(&inode);
    }
    /// Another inode stands behind a number from now on.
    pub(crate) fn replaced(&mut self, number: u64, inode: u64) {
        self.unreserve(inode);
        self.changed(self.inode(number));
        self.changed(inode);
        if let Some(node) = self.nodes.get_mut(&number) {
            self.by_inode.remove(&node.inode);
            node.inode = inode;
            self.by_inode.insert(inode, number);
        }
    }

    /// The kernel is about to fill its pages from this version. Are those that it has of the same one?
    pub(crate) fn keeps_pages(&mut self, number: u64, version: Version) -> bool {
        let Some(node) = self.nodes.get_mut(&number) else { return false };
        node.cached.replace(version) == Some(version)
    }

    /// A directory was read as a whole, by this user and to be believed until then; `None`: it is too long for that.
    pub(crate) fn listed(&mut self, number: u64, whole: Option<(u32, Moment)>) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.listed = whole.map(|(by, believed_until)| Listed { by, believed_until });
        }
    }
    /// May the kernel keep what a user reads of a directory? Only of one that was read as a whole, in which names have places for
    /// good. May it give him what it has kept? Only as long as it may believe it, and to whom it was given.
    pub(crate) fn keeps_listing(&self, number: u64, by: u32, now: Moment) -> (bool, bool) {
        match self.nodes.get(&number).and_then(|node| node.listed) {
            Some(listed) => (listed.by == by, listed.by == by && now < listed.believed_until),
            None => (false, false),
        }
    }

    /// The kernel is told of this version, and that its mode says all there is about rights until some time; 0: it does not.
    pub(crate) fn shows(&mut self, number: u64, version: Version, plain_until_ns: i64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            (node.shown, node.plain_until_ns) = (Some(version), plain_until_ns);
        }
    }
    /// Does the mode say all there is, as far as the kernel was told?
    pub(crate) fn is_plain(&self, number: u64, now_ns: i64) -> bool {
        self.nodes.get(&number).is_some_and(|node| now_ns < node.plain_until_ns)
    }
    /// Somebody here says more about rights than a mode does.
    pub(crate) fn not_plain(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.plain_until_ns = 0;
        }
    }
    /// Was the kernel told of another version last?
    pub(crate) fn shows_another(&self, number: u64, version: Version) -> bool {
        self.nodes.get(&number).is_some_and(|node| node.shown.is_some_and(|shown| shown != version))
    }

    fn lose_name(&mut self, number: u64, key: &(u64, String)) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.names.retain(|name| name != key);
        }
    }

    /// Of what is below a directory the path is wanted for as long as it is known: a file may be committed when the kernel has
    /// forgotten all of them.
    pub(crate) fn has_children(&self, directory: u64) -> bool {
        let first = self.by_name.range((directory, String::new())..).next();
        first.is_some_and(|((of, _), _)| *of == directory)
    }

    fn drop_unused(&mut self, number: u64) {
        let mut unused = vec![number];
        while let Some(number) = unused.pop() {
            let is_unused = self.nodes.get(&number).is_some_and(|node| node.told == 0 && node.pins == 0);
            if !is_unused || self.has_children(number) {
                continue;
            }
            self.reserved.retain(|_, of| *of != number);
            let Some(node) = self.nodes.remove(&number) else { continue };
            if self.by_inode.get(&node.inode) == Some(&number) {
                self.by_inode.remove(&node.inode);
            }
            for name in node.names {
                if self.by_name.get(&name) == Some(&number) {
                    self.by_name.remove(&name);
                }
                unused.push(name.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_renames_of_what_is_above() {
        let mut inodes = Inodes::default();
        let a = inodes.told(ROOT, "a", 100);
        let f = inodes.told(a, "f", 101);
        assert_eq!((a, inodes.path(f).as_deref(), inodes.path(ROOT).as_deref()), (100, Some("/a/f"), Some("/")));
        inodes.renamed((ROOT, "a"), (ROOT, "b"), (Some(a), false));
        assert_eq!((inodes.path(f).as_deref(), inodes.child(ROOT, "a")), (Some("/b/f"), None));
        inodes.removed(a, "f");
        assert_eq!(inodes.path(f), None);
        assert_eq!(inodes.path_in(ROOT, "x").as_deref(), Some("/x"));
    }

    #[test]
    fn what_the_kernel_forgets_is_gone_unless_it_is_open() {
        let mut inodes = Inodes::default();
        let f = inodes.told(ROOT, "f", 101);
        assert_eq!(inodes.told(ROOT, "f", 101), f);
        inodes.pin(f);
        inodes.forget(f, 2);
        assert_eq!(inodes.path(f).as_deref(), Some("/f"));
        inodes.unpin(f);
        assert_eq!((inodes.path(f), inodes.child(ROOT, "f"), inodes.nodes.len()), (None, None, 1));
        inodes.forget(ROOT, 9);
        assert_eq!(inodes.nodes.len(), 1, "the root stays");
    }

    #[test]
    fn the_path_of_what_is_open_stays_when_the_directories_above_are_forgotten() {
        let mut inodes = Inodes::default();
        let a = inodes.told(ROOT, "a", 100);
        let b = inodes.told(a, "b", 101);
        let f = inodes.told(b, "f", 102);
        inodes.pin(f);
        [f, b, a].into_iter().for_each(|number| inodes.forget(number, 1));
        assert_eq!(inodes.path(f).as_deref(), Some("/a/b/f"));
        inodes.unpin(f);
        assert_eq!((inodes.path(f), inodes.nodes.len(), inodes.by_name.len()), (None, 1, 0), "all of them go with it");
        // And those that lose what is in them by another way.
        let a = inodes.told(ROOT, "a", 100);
        let f = inodes.told(a, "f", 102);
        inodes.pin(f);
        [a, f].into_iter().for_each(|number| inodes.forget(number, 1));
        inodes.renamed((a, "f"), (ROOT, "g"), (Some(f), false));
        assert_eq!((inodes.path(f).as_deref(), inodes.path(a)), (Some("/g"), None));
        inodes.removed(ROOT, "g");
        inodes.unpin(f);
        assert_eq!(inodes.nodes.len(), 1);
    }

    #[test]
    fn a_name_may_lead_to_another_file_by_now() {
        let mut inodes = Inodes::default();
        let old = inodes.told(ROOT, "f", 101);
        let new = inodes.told(ROOT, "f", 102);
        assert_eq!((inodes.path(old), inodes.path(new).as_deref()), (None, Some("/f")));
    }

    #[test]
    fn further_names_take_over_and_a_replaced_file_keeps_its_number() {
        let mut inodes = Inodes::default();
        let f = inodes.told(ROOT, "f", 101);
        assert!(!inodes.has_another_name(f));
        assert_eq!(inodes.told(ROOT, "g", 101), f);
        assert!(inodes.has_another_name(f));
        inodes.removed(ROOT, "g");
        assert_eq!(inodes.path(f).as_deref(), Some("/f"));
        inodes.replaced(f, 900);
        assert_eq!((inodes.told(ROOT, "f", 900), inodes.inode(f)), (f, 900));
        inodes.forget(f, 3);
        assert_eq!((inodes.nodes.len(), inodes.told(ROOT, "f", 900)), (1, 900));
    }

    #[test]
    fn a_new_inode_that_is_seen_before_it_is_told_keeps_the_number() {
        let mut inodes = Inodes::default();
        let f = inodes.told(ROOT, "f", 101);
        inodes.reserve(f, 900);
        assert_ne!(inodes.told(ROOT, "temporary", 900), f, "it has another name yet");
        assert_eq!((inodes.told(ROOT, "f", 900), inodes.inode(f), inodes.path(f).as_deref()), (f, 900, Some("/f")));
        inodes.replaced(f, 900);
        assert_eq!((inodes.inode(f), inodes.number_of(900), inodes.reserved.len()), (900, f, 0));
    }

    #[test]
    fn a_listing_is_kept_for_who_read_it_and_as_long_as_it_is_believed() {
        let mut inodes = Inodes::default();
        let (now, until) = (Moment::START, Moment::START.plus(std::time::Duration::from_secs(1)));
        assert_eq!(inodes.keeps_listing(ROOT, 5, now), (false, false), "how long it is, nobody knows");
        inodes.listed(ROOT, Some((5, until)));
        assert_eq!(inodes.keeps_listing(ROOT, 5, now), (true, true));
        assert_eq!(inodes.keeps_listing(ROOT, 5, until), (true, false));
        assert_eq!(inodes.keeps_listing(ROOT, 6, now), (false, false), "he may not be allowed to read it");
        inodes.listed(ROOT, None);
        assert_eq!(inodes.keeps_listing(ROOT, 5, now), (false, false));
    }

    #[test]
    fn what_was_asked_before_a_rename_or_a_commit_takes_no_name_away() {
        let mut inodes = Inodes::default();
        let f = inodes.told(ROOT, "f", 101);
        let asked = inodes.asked();
        inodes.renamed((ROOT, "f"), (ROOT, "g"), (Some(f), false));
        assert_eq!(inodes.told_if_new(asked, ROOT, "f", 101), None);
        assert!(!inodes.missed(asked, ROOT, "g"), "asked before it came");
        let asked = inodes.asked();
        inodes.replaced(f, 900);
        assert_eq!(inodes.told_if_new(asked, ROOT, "g", 101), None, "the inode of before");
        assert_eq!((inodes.path(f).as_deref(), inodes.inode(f)), (Some("/g"), 900));
        let asked = inodes.asked();
        let h = inodes.made(ROOT, "h", 102);
        assert!(!inodes.missed(asked, ROOT, "h"));
        assert_eq!(inodes.told_if_new(asked, ROOT, "h", 77), None);
        let asked = inodes.asked();
        assert_eq!(
            (inodes.told_if_new(asked, ROOT, "g", 900), inodes.told_if_new(asked, ROOT, "h", 102)),
            (Some(f), Some(h))
        );
        inodes.exchanged(((ROOT, "g"), Some(f)), ((ROOT, "h"), Some(h)));
        assert_eq!(
            (inodes.told_if_new(asked, ROOT, "g", 900), inodes.told_if_new(asked, ROOT, "h", 102)),
            (None, None)
        );
        assert_eq!((inodes.path(f).as_deref(), inodes.path(h).as_deref()), (Some("/h"), Some("/g")));
        // Somebody learned of both before this mount did.
        assert_eq!((inodes.told(ROOT, "h", 102), inodes.told(ROOT, "g", 900)), (h, f));
        inodes.exchanged(((ROOT, "h"), Some(f)), ((ROOT, "g"), Some(h)));
        assert_eq!((inodes.path(f).as_deref(), inodes.path(h).as_deref()), (Some("/g"), Some("/h")));
        assert!(inodes.missed(inodes.asked(), ROOT, "g"));
        assert_eq!(inodes.path(f), None);
    }

    #[test]
    fn what_is_learned_of_a_name_while_it_moves_takes_no_name_away() {
        let mut inodes = Inodes::default();
        let f = inodes.told(ROOT, "f", 101);
        // The cluster has moved it, and somebody asks for the old name, and for the new one, before that is known here.
        assert!(inodes.missed(inodes.asked(), ROOT, "f"));
        inodes.renamed((ROOT, "f"), (ROOT, "g"), (Some(f), false));
        assert_eq!(inodes.path(f).as_deref(), Some("/g"));
        let h = inodes.told(ROOT, "h", 102);
        assert_eq!(inodes.told(ROOT, "g", 102), h);
        inodes.renamed((ROOT, "h"), (ROOT, "g"), (Some(h), false));
        assert_eq!((inodes.path(h).as_deref(), inodes.child(ROOT, "h")), (Some("/g"), None));
        assert!(!inodes.has_another_name(h) && inodes.path(f).is_none());
    }

    #[test]
    fn renaming_one_name_of_a_file_onto_another_changes_nothing() {
        let mut inodes = Inodes::default();
        let f = inodes.told(ROOT, "f", 101);
        inodes.told(ROOT, "g", 101);
        inodes.renamed((ROOT, "f"), (ROOT, "g"), (Some(f), true));
        assert_eq!((inodes.child(ROOT, "f"), inodes.child(ROOT, "g")), (Some(f), Some(f)));
        let other = inodes.told(ROOT, "h", 102);
        inodes.renamed((ROOT, "h"), (ROOT, "g"), (Some(other), false));
        assert_eq!((inodes.path(other).as_deref(), inodes.path(f).as_deref()), (Some("/g"), Some("/f")));
    }

    #[test]
    fn pages_are_kept_only_of_the_same_version() {
        let mut inodes = Inodes::default();
        let f = inodes.told(ROOT, "f", 101);
        let version = Version { inode: 101, len_bytes: 5, mtime_ns: 7 };
        assert!(!inodes.keeps_pages(f, version));
        assert!(inodes.keeps_pages(f, version));
        assert!(!inodes.keeps_pages(f, Version { mtime_ns: 8, ..version }));
    }
}
