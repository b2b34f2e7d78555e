//! The tree as plain as it can be: maps of nodes, found by looking through all of them. Nothing is packed, nothing is
//! counted in advance, and a snapshot is a copy of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::acl::Acl;

/// Number of a node; never given twice.
pub(super) type Id = u64;

/// A block: what the namenode called it, and its length once that is final.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Block {
    pub(super) id: i64,
    pub(super) stamp: u64,
    pub(super) len_bytes: Option<u64>,
    /// What it has at least while that is not known.
    pub(super) floor_bytes: u64,
}

impl Block {
    pub(super) fn new() -> Self {
        Self { id: 0, stamp: 0, len_bytes: None, floor_bytes: 0 }
    }
    /// What readers see of it for sure.
    pub(super) fn visible_bytes(&self) -> u64 {
        self.len_bytes.unwrap_or(self.floor_bytes)
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct File {
    pub(super) replication: u64,
    pub(super) block_size_bytes: u64,
    pub(super) blocks: Vec<Block>,
    /// Being written, perhaps by nobody any more.
    pub(super) open: bool,
    /// Its last block only gets shorter.
    pub(super) cutting: bool,
}

impl File {
    pub(super) fn len_bytes(&self) -> u64 {
        self.blocks.iter().map(Block::visible_bytes).sum()
    }
    /// What a space quota counts: a block that is being written counts in full.
    fn space_bytes(&self) -> u64 {
        let counted = |block: &Block| match block.len_bytes {
            None if !self.cutting => self.block_size_bytes,
            _ => block.visible_bytes(),
        };
        let bytes: u64 = self.blocks.iter().map(counted).sum();
        bytes * self.replication
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Body {
    Directory(BTreeMap<String, Id>),
    File(File),
    Symlink(String),
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Quota {
    pub(super) names: Option<u64>,
    pub(super) space_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Node {
    pub(super) owner: String,
    pub(super) group: String,
    /// Set-user-id, set-group-id and sticky bit.
    pub(super) special: u32,
    /// Who may do what: the nine bits of a mode are read from it.
    pub(super) access: Acl,
    /// What entries inherit; empty for none.
    pub(super) default: Acl,
    pub(super) mtime_ns: i64,
    pub(super) atime_ns: i64,
    pub(super) ctime_ns: i64,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
    pub(super) quota: Quota,
    pub(super) snapshottable: bool,
    pub(super) body: Body,
}

impl Node {
    pub(super) fn mode(&self) -> u32 {
        self.special | self.access.mode_bits()
    }
    pub(super) fn entries(&self) -> Option<&BTreeMap<String, Id>> {
        if let Body::Directory(entries) = &self.body { Some(entries) } else { None }
    }
    pub(super) fn file(&self) -> Option<&File> {
        if let Body::File(file) = &self.body { Some(file) } else { None }
    }
    pub(super) fn is_directory(&self) -> bool {
        self.entries().is_some()
    }
    pub(super) fn target(&self) -> Option<&str> {
        if let Body::Symlink(target) = &self.body { Some(target) } else { None }
    }
    pub(super) fn is_sticky(&self) -> bool {
        self.special & 0o1000 != 0
    }
}

/// What a directory holds: each name counts, also a second one of the same file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) symlinks: u64,
    pub(super) len_bytes: u64,
    pub(super) space_bytes: u64,
}

impl Usage {
    pub(super) fn names(&self) -> u64 {
        self.files + self.directories + self.symlinks
    }
}

/// Nodes, and which of them is the top.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<Id, Node>,
    pub(super) root: Id,
}

/// A copy of a directory as it was.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) tree: Rc<Tree>,
}

impl Tree {
    pub(super) fn get(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }
    pub(super) fn edit(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }
    pub(super) fn file_mut(&mut self, id: Id) -> &mut File {
        if let Body::File(file) = &mut self.edit(id).body { file } else { panic!("{id} is no file") }
    }
    pub(super) fn entries_mut(&mut self, id: Id) -> &mut BTreeMap<String, Id> {
        if let Body::Directory(entries) = &mut self.edit(id).body { entries } else { panic!("{id} is no directory") }
    }
    pub(super) fn child(&self, directory: Id, name: &str) -> Option<Id> {
        self.get(directory).entries()?.get(name).copied()
    }
    /// Every place where a node is listed, by looking into all directories that are reached from the top.
    pub(super) fn places(&self, id: Id) -> Vec<(Id, String)> {
        let mut places = Vec::new();
        for directory in self.reachable(self.root) {
            for (name, child) in self.get(directory).entries().into_iter().flatten() {
                if *child == id {
                    places.push((directory, name.clone()));
                }
            }
        }
        places
    }
    /// A node and everything below it.
    pub(super) fn reachable(&self, top: Id) -> BTreeSet<Id> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![top]);
        while let Some(at) = open.pop() {
            if seen.insert(at) {
                open.extend(self.get(at).entries().into_iter().flatten().map(|(_, child)| *child));
            }
        }
        seen
    }
    pub(super) fn is_below(&self, id: Id, top: Id) -> bool {
        self.nodes.contains_key(&top) && self.reachable(top).contains(&id)
    }
    /// What an entry adds to its directory: itself and all below it.
    pub(super) fn usage(&self, id: Id) -> Usage {
        let mut usage = Usage::default();
        match &self.get(id).body {
            Body::Symlink(_) => usage.symlinks = 1,
            Body::File(file) => {
                usage.files = 1;
                (usage.len_bytes, usage.space_bytes) = (file.len_bytes(), file.space_bytes());
            }
            Body::Directory(entries) => {
                usage.directories = 1;
                for child in entries.values() {
                    let below = self.usage(*child);
                    usage.files += below.files;
                    usage.directories += below.directories;
                    usage.symlinks += below.symlinks;
                    usage.len_bytes += below.len_bytes;
                    usage.space_bytes += below.space_bytes;
                }
            }
        }
        usage
    }
    /// Every path of the tree, without following symbolic links: first the top, as an empty one.
    pub(super) fn paths(&self) -> Vec<(String, Id)> {
        let (mut paths, mut open) = (Vec::new(), vec![(String::new(), self.root)]);
        while let Some((path, id)) = open.pop() {
            for (name, child) in self.get(id).entries().into_iter().flatten() {
                open.push((format!("{path}/{name}"), *child));
            }
            paths.push((path, id));
        }
        paths.sort();
        paths
    }
    /// A copy of a directory for a snapshot: of open files what was acknowledged.
    pub(super) fn copy_of(&self, top: Id) -> Self {
        let mut nodes: BTreeMap<Id, Node> =
            self.reachable(top).into_iter().map(|id| (id, self.get(id).clone())).collect();
        for node in nodes.values_mut() {
            if let Body::File(file) = &mut node.body {
                file.blocks.retain(|block| block.visible_bytes() > 0);
                for block in &mut file.blocks {
                    block.len_bytes = Some(block.visible_bytes());
                }
                (file.open, file.cutting) = (false, false);
            }
        }
        Self { nodes, root: top }
    }
}
