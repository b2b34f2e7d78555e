//! Holds a namespace against the model: everything that can be seen, now and in snapshots.

use std::collections::BTreeMap;

use proto::log::CallerRecord;
use proto::namespace::{AclScope, AclTag, FileKind, FileStatus, GetXattrsRequest};

use super::acl::{Acl, Tag};
use super::rights::Person;
use super::rules::State;
use super::tree::{Block, Body, Id, Tree};
use crate::namespace::Namespace;
use crate::namespace::tests::harness::path;

/// Which inode is which node. Neither is ever used again for something else.
#[derive(Clone, Default)]
pub(super) struct Ids {
    inode_of: BTreeMap<Id, u64>,
    id_of: BTreeMap<u64, Id>,
}

impl Ids {
    pub(super) fn pair(&mut self, id: Id, inode: u64) {
        assert_eq!(*self.inode_of.entry(id).or_insert(inode), inode, "node {id} is the same inode everywhere");
        assert_eq!(*self.id_of.entry(inode).or_insert(id), id, "inode {inode} is the same node everywhere");
    }
    /// The node of an inode.
    pub(super) fn of(&self, inode: u64) -> Option<Id> {
        self.id_of.get(&inode).copied()
    }
    /// The n-th inode that was ever seen.
    pub(super) fn nth(&self, n: usize) -> Option<(u64, Id)> {
        self.id_of.iter().nth(n.checked_rem(self.id_of.len())?).map(|(inode, id)| (*inode, *id))
    }
}

pub(super) fn record(who: &Person) -> CallerRecord {
    CallerRecord { user: who.name.to_owned(), groups: who.groups.iter().map(|group| (*group).to_owned()).collect() }
}

/// What the model says of a node.
pub(super) fn status_of(tree: &Tree, id: Id, past: bool) -> FileStatus {
    let node = tree.get(id);
    let file = node.file();
    let kind = match &node.body {
        Body::Directory(_) => FileKind::Directory,
        Body::File(_) => FileKind::File,
        Body::Symlink(_) => FileKind::Symlink,
    };
    let names = if node.is_directory() || past { 1 } else { tree.places(id).len() as u32 };
    FileStatus {
        path: String::new(),
        inode: 0,
        kind: kind.into(),
        len_bytes: file.map_or_else(|| node.target().map_or(0, str::len) as u64, |file| file.len_bytes()),
        replication: file.map_or(0, |file| file.replication as u32),
        block_size_bytes: file.map_or(0, |file| file.block_size_bytes),
        mode: node.mode(),
        owner: node.owner.clone(),
        group: node.group.clone(),
        mtime_ns: node.mtime_ns,
        atime_ns: node.atime_ns,
        ctime_ns: node.ctime_ns,
        nlink: names,
        open_for_write: file.is_some_and(|file| file.open),
        children: node.entries().map_or(0, BTreeMap::len) as u64,
        subdirectories: match node.entries() {
            Some(entries) if !past => entries.values().filter(|child| tree.get(**child).is_directory()).count() as u32,
            _ => 0,
        },
        device: 0,
        symlink_target: node.target().unwrap_or_default().to_owned(),
        has_acl: node.access.is_extended() || !node.default.0.is_empty(),
        snapshottable: node.snapshottable && !past,
        has_quota: (node.quota.names.is_some() || node.quota.space_bytes.is_some()) && !past,
    }
}

/// A status without what it calls itself.
pub(super) fn bare(status: &FileStatus) -> FileStatus {
    FileStatus { path: String::new(), inode: 0, ..status.clone() }
}

fn lists_of(namespace: &Namespace, who: &CallerRecord, at: &str) -> [Acl; 2] {
    let mut lists = [Acl::default(), Acl::default()];
    let told = namespace.acl(who, &path(at)).unwrap();
    for entry in &told.entries {
        let tag = match (entry.tag(), entry.name.clone()) {
            (AclTag::User, name) if name.is_empty() => Tag::Owner,
            (AclTag::User, name) => Tag::User(name),
            (AclTag::Group, name) if name.is_empty() => Tag::OwningGroup,
            (AclTag::Group, name) => Tag::Group(name),
            (AclTag::Mask, _) => Tag::Mask,
            (AclTag::Other, _) => Tag::Other,
        };
        let list = &mut lists[usize::from(entry.scope() == AclScope::Default)];
        assert_eq!(list.0.insert(tag, entry.rights), None, "{at}: an entry twice");
    }
    assert_eq!(told.extended, lists[0].is_extended() || !lists[1].0.is_empty(), "{at}");
    lists
}

/// The whole tree and every snapshot.
pub(super) fn compare(state: &State, namespace: &Namespace, who: &Person, ids: &mut Ids) {
    compare_tree(&state.tree, "", false, namespace, who, ids);
    let paths: BTreeMap<Id, String> = state.tree.paths().into_iter().map(|(path, id)| (id, path)).collect();
    for (id, snapshots) in &state.snapshots {
        let Some(top) = paths.get(id).filter(|_| state.tree.get(*id).snapshottable) else {
            assert!(snapshots.is_empty(), "a directory with snapshots stays");
            continue;
        };
        let listed = namespace.list_snapshots(&record(who), if top.is_empty() { "/" } else { top }).unwrap();
        let listed: Vec<String> = listed.into_iter().map(|snapshot| snapshot.name).collect();
        let names: Vec<String> = snapshots.iter().map(|snapshot| snapshot.name.clone()).collect();
        assert_eq!(listed, names, "snapshots of {top}, oldest first");
        for snapshot in snapshots {
            let top = format!("{top}/.snapshot/{}", snapshot.name);
            compare_tree(&snapshot.tree, &top, true, namespace, who, ids);
        }
    }
    let marked = state.tree.nodes.values().filter(|node| node.snapshottable).count();
    assert_eq!(
        namespace.list_snapshots(&record(who), "").unwrap().len(),
        marked,
        "directories that may have snapshots"
    );
}

fn compare_tree(tree: &Tree, top: &str, past: bool, namespace: &Namespace, who: &Person, ids: &mut Ids) {
    let caller = record(who);
    for (below, id) in tree.paths() {
        let at = format!("{top}{below}");
        let at = if at.is_empty() { "/".to_owned() } else { at };
        let node = tree.get(id);
        let told = namespace.stat_link(&caller, &path(&at)).unwrap_or_else(|error| panic!("{at}: {error}"));
        ids.pair(id, told.inode);
        assert_eq!(bare(&told), status_of(tree, id, past), "{at}");
        let request = GetXattrsRequest { path: at.clone(), no_follow: true, ..GetXattrsRequest::default() };
        let xattrs = namespace.xattrs(&caller, &request).unwrap();
        let xattrs: BTreeMap<String, Vec<u8>> =
            xattrs.into_iter().map(|xattr| (xattr.name, xattr.value.to_vec())).collect();
        let shown = node.xattrs.iter().filter(|(name, _)| !name.starts_with("raw."));
        let shown: BTreeMap<String, Vec<u8>> = shown.map(|(name, value)| (name.clone(), value.clone())).collect();
        assert_eq!(xattrs, shown, "{at}");
        if node.target().is_none() {
            assert_eq!(lists_of(namespace, &caller, &at), [node.access.clone(), node.default.clone()], "{at}");
            compare_usage(tree, id, past, namespace, &caller, &at);
        }
        match &node.body {
            Body::Directory(entries) => compare_listing(tree, entries, past, namespace, &caller, &at),
            Body::File(file) => {
                let told = namespace.open(&caller, &path(&at), 0..u64::MAX, usize::MAX).unwrap();
                let told: Vec<_> =
                    told.blocks.iter().map(|block| (block.block.raw(), block.len_bytes, block.committed)).collect();
                let block =
                    |block: &Block| (block.id, block.visible_bytes(), block.len_bytes.is_some() || file.cutting);
                let blocks: Vec<_> = file.blocks.iter().map(block).collect();
                assert_eq!(told, blocks, "{at}");
            }
            Body::Symlink(_) => {}
        }
    }
}

fn compare_listing(
    tree: &Tree,
    entries: &BTreeMap<String, Id>,
    past: bool,
    namespace: &Namespace,
    caller: &CallerRecord,
    at: &str,
) {
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let (page, more) = namespace.list(caller, &path(at), &after, 3).unwrap();
        for status in page {
            let id = entries.get(&status.path).unwrap_or_else(|| panic!("{at} lists {}", status.path));
            let children = status.children;
            let expected = status_of(tree, *id, past);
            // In a snapshot the entries of directories are not counted for a listing.
            assert_eq!(bare(&status), FileStatus { children, ..expected }, "{at}/{}", status.path);
            after.clone_from(&status.path);
            names.push(status.path);
        }
        if !more {
            break;
        }
    }
    assert!(names.iter().eq(entries.keys()), "{at} lists {names:?}, not {:?}", entries.keys());
}

fn compare_usage(tree: &Tree, id: Id, past: bool, namespace: &Namespace, caller: &CallerRecord, at: &str) {
    let told = namespace.content_summary(caller, &path(at)).unwrap();
    let usage = tree.usage(id);
    let (quota, names) = (&tree.get(id).quota, usage.names());
    assert_eq!((told.files, told.directories, told.symlinks), (usage.files, usage.directories, usage.symlinks), "{at}");
    assert_eq!((told.len_bytes, told.space_bytes), (usage.len_bytes, usage.space_bytes), "{at}");
    assert_eq!(told.names_used, names, "{at}");
    if !past {
        assert_eq!((told.name_quota, told.space_quota_bytes), (quota.names, quota.space_bytes), "{at}");
    }
}
