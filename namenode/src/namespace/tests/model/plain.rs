//! The model: a map from paths to what is there, and the rules of `DESIGN.md` in their plainest form. No inodes in
//! slots, no indexes, no totals; every question is answered by looking at all paths.

use std::collections::BTreeMap;

use proto::error::ErrorCode;
use proto::ids::SessionId;

use super::super::harness::{BLOCK, SUPER};

/// Largest block of a file, as the settings of the harness have it.
pub(super) const BLOCK_SIZE: u64 = 4 * BLOCK;
const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;

pub(super) type Told<T> = Result<T, ErrorCode>;

/// What a path leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) inode: u64,
    pub(super) directory: bool,
    pub(super) mode: u32,
    pub(super) owner: String,
    pub(super) len_bytes: u64,
    pub(super) open: bool,
    pub(super) mtime_ns: i64,
}

/// A file that someone writes, or once wrote.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) inode: u64,
    pub(super) epoch: u64,
    pub(super) holder: Option<SessionId>,
    owner: String,
    mode: u32,
    /// Directory, name, and whether a file there may be replaced.
    pin: Option<(u64, String, bool)>,
    /// Id, stamp, and length once it is known.
    pub(super) blocks: Vec<(i64, u64, Option<u64>)>,
    /// Complete, given up, or taken away.
    pub(super) over: bool,
}

impl Draft {
    pub(super) fn len_bytes(&self) -> u64 {
        self.blocks.iter().filter_map(|block| block.2).sum()
    }
    /// The last block, if its length is not known yet.
    pub(super) fn open_block(&self) -> Option<(i64, u64)> {
        self.blocks.last().filter(|block| block.2.is_none()).map(|(id, stamp, _)| (*id, *stamp))
    }
}

/// Who creates a file, and how.
pub(super) struct NewFile<'a> {
    pub(super) user: &'a str,
    pub(super) holder: Option<SessionId>,
    pub(super) path: &'a str,
    pub(super) mode: u32,
    pub(super) overwrite: bool,
    pub(super) parents: bool,
    pub(super) at_once: bool,
    pub(super) first_block: bool,
}

#[derive(Clone)]
pub(super) struct Plain {
    pub(super) tree: BTreeMap<String, Node>,
    pub(super) drafts: Vec<Draft>,
    pub(super) next_inode: u64,
    pub(super) next_block: i64,
    pub(super) next_stamp: u64,
    pub(super) next_epoch: u64,
    pub(super) now_ns: i64,
}

fn parent(path: &str) -> String {
    match path.rfind('/') {
        Some(0) | None => "/".to_owned(),
        Some(cut) => path[..cut].to_owned(),
    }
}
fn join(directory: &str, name: &str) -> String {
    if directory == "/" { format!("/{name}") } else { format!("{directory}/{name}") }
}
fn below(path: &str, top: &str) -> bool {
    path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/') || top == "/")
}

impl Plain {
    pub(super) fn new(root: Node) -> Self {
        Self {
            next_inode: root.inode + 1,
            tree: BTreeMap::from([("/".to_owned(), root)]),
            drafts: Vec::new(),
            next_block: 1_073_741_825,
            next_stamp: 1001,
            next_epoch: 1,
            now_ns: 0,
        }
    }

    // Looking.

    pub(super) fn children(&self, path: &str) -> Vec<&str> {
        let inside = |other: &&String| *other != "/" && parent(other) == path;
        self.tree.keys().filter(inside).map(|other| &other[other.rfind('/').map_or(0, |cut| cut + 1)..]).collect()
    }
    fn path_of(&self, inode: u64) -> Option<String> {
        self.tree.iter().find(|(_, node)| node.inode == inode).map(|(path, _)| path.clone())
    }
    fn may(&self, user: &str, path: &str, rights: u32) -> bool {
        let node = &self.tree[path];
        // Every group is the one of the root, whose members are superusers.
        let bits = if node.owner == user { node.mode >> 6 } else { node.mode };
        user == SUPER || bits & rights == rights
    }
    fn need(&self, user: &str, path: &str, rights: u32) -> Told<()> {
        if self.may(user, path, rights) { Ok(()) } else { Err(ErrorCode::PermissionDenied) }
    }
    fn need_unstuck(&self, user: &str, entry: &str) -> Told<()> {
        let above = &self.tree[&parent(entry)];
        let mine = user == SUPER || above.owner == user || self.tree[entry].owner == user;
        if above.mode & 0o1000 == 0 || mine { Ok(()) } else { Err(ErrorCode::PermissionDenied) }
    }
    /// The deepest part of the path that exists, and the names that do not.
    fn walk(&self, user: &str, path: &str) -> Told<(String, Vec<String>)> {
        let mut at = "/".to_owned();
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        for (i, name) in names.iter().enumerate() {
            if !self.tree[&at].directory {
                return Err(ErrorCode::NotADirectory);
            }
            self.need(user, &at, EXECUTE)?;
            let next = join(&at, name);
            if !self.tree.contains_key(&next) {
                return Ok((at, names[i..].iter().map(|name| (*name).to_owned()).collect()));
            }
            at = next;
        }
        Ok((at, Vec::new()))
    }
    pub(super) fn find(&self, user: &str, path: &str) -> Told<&Node> {
        let (at, missing) = self.walk(user, path)?;
        if missing.is_empty() { Ok(&self.tree[&at]) } else { Err(ErrorCode::NotFound) }
    }
    pub(super) fn list<'a>(&'a self, user: &str, path: &'a str) -> Told<Vec<&'a str>> {
        if !self.find(user, path)?.directory {
            return Ok(vec![""]);
        }
        self.need(user, path, READ | EXECUTE)?;
        Ok(self.children(path))
    }
    pub(super) fn open(&self, user: &str, path: &str) -> Told<u64> {
        let node = self.find(user, path)?;
        if node.directory {
            return Err(ErrorCode::IsADirectory);
        }
        self.need(user, path, READ)?;
        Ok(node.len_bytes)
    }

    // Changing.

    fn touch(&mut self, directory: &str) {
        let now_ns = self.now_ns;
        if let Some(node) = self.tree.get_mut(directory) {
            node.mtime_ns = now_ns;
        }
    }
    fn node(&mut self, user: &str, directory: bool, mode: u32) -> Node {
        self.next_inode += 1;
        Node {
            inode: self.next_inode - 1,
            directory,
            mode,
            owner: user.to_owned(),
            len_bytes: 0,
            open: false,
            mtime_ns: self.now_ns,
        }
    }
    fn put(&mut self, path: &str, node: Node) {
        self.tree.insert(path.to_owned(), node);
        self.touch(&parent(path));
    }

    pub(super) fn mkdir(&mut self, user: &str, path: &str, mode: u32, parents: bool) -> Told<u64> {
        let (mut at, missing) = self.walk(user, path)?;
        if missing.is_empty() {
            let node = &self.tree[&at];
            return if node.directory && parents { Ok(node.inode) } else { Err(ErrorCode::AlreadyExists) };
        }
        if missing.len() > 1 && !parents {
            return Err(ErrorCode::NotFound);
        }
        self.addable(user, &at)?;
        for (i, name) in missing.iter().enumerate() {
            let node = self.node(user, true, if i + 1 == missing.len() { mode } else { mode | 0o300 });
            at = join(&at, name);
            self.put(&at, node);
        }
        Ok(self.tree[&at].inode)
    }
    fn addable(&self, user: &str, directory: &str) -> Told<()> {
        if !self.tree[directory].directory {
            return Err(ErrorCode::NotADirectory);
        }
        self.need(user, directory, WRITE | EXECUTE)
    }
    fn replaceable(&self, user: &str, old: &str, overwrite: bool) -> Told<()> {
        let node = &self.tree[old];
        match (node.directory, overwrite, node.open) {
            (true, ..) => Err(ErrorCode::IsADirectory),
            (_, false, true) => Err(ErrorCode::FileOpen),
            (_, false, false) => Err(ErrorCode::AlreadyExists),
            _ => self.need(user, old, WRITE).and_then(|()| self.need_unstuck(user, old)),
        }
    }

    pub(super) fn create(&mut self, new: &NewFile<'_>) -> Told<(u64, u64, Option<i64>)> {
        let (mut at, missing) = self.walk(new.user, new.path)?;
        if new.path == "/" {
            return Err(ErrorCode::IsADirectory);
        }
        if missing.is_empty() {
            self.replaceable(new.user, &at, new.overwrite)?;
            self.need(new.user, &parent(&at), WRITE | EXECUTE)?;
        } else if missing.len() > 1 && !new.parents {
            return Err(ErrorCode::NotFound);
        } else {
            self.addable(new.user, &at)?;
            let mode = self.tree[&at].mode & 0o777 | 0o300;
            for name in &missing[..missing.len() - 1] {
                let node = self.node(new.user, true, mode);
                at = join(&at, name);
                self.put(&at, node);
            }
        }
        let node = Node { open: true, ..self.node(new.user, false, new.mode) };
        let inode = node.inode;
        let directory = self.tree[&parent(new.path)].inode;
        if new.at_once {
            self.put(new.path, node);
        }
        let name = new.path[new.path.rfind('/').map_or(0, |cut| cut + 1)..].to_owned();
        let mut draft = Draft {
            inode,
            epoch: self.next_epoch,
            holder: new.holder,
            owner: new.user.to_owned(),
            mode: new.mode,
            pin: (!new.at_once).then_some((directory, name, new.overwrite)),
            blocks: Vec::new(),
            over: false,
        };
        self.next_epoch += 1;
        let first = new.first_block.then(|| self.allocate(&mut draft));
        let epoch = draft.epoch;
        self.drafts.push(draft);
        Ok((inode, epoch, first))
    }
    fn allocate(&mut self, draft: &mut Draft) -> i64 {
        draft.blocks.push((self.next_block, self.next_stamp, None));
        self.next_block += 1;
        self.next_stamp += 1;
        self.next_block - 1
    }

    fn writable(&self, draft: usize, holder: Option<SessionId>) -> Told<Draft> {
        let draft = &self.drafts[draft];
        let exists = self.path_of(draft.inode).is_some() || (draft.pin.is_some() && !draft.over);
        match (exists, !draft.over && draft.holder == holder) {
            (false, _) => Err(ErrorCode::NotFound),
            (true, false) => Err(ErrorCode::LeaseLost),
            (true, true) => Ok(draft.clone()),
        }
    }
    /// What becomes of the last block if the writer says that it has this length.
    fn settle(draft: &mut Draft, len_bytes: u64) -> Told<()> {
        let Some(last) = draft.blocks.last_mut().filter(|block| block.2.is_none()) else { return Ok(()) };
        if len_bytes > BLOCK_SIZE {
            return Err(ErrorCode::InvalidArgument);
        }
        last.2 = Some(len_bytes);
        if len_bytes == 0 {
            draft.blocks.pop();
        }
        Ok(())
    }
    fn store(&mut self, at: usize, draft: Draft) {
        if let Some(path) = self.path_of(draft.inode)
            && let Some(node) = self.tree.get_mut(&path)
        {
            node.len_bytes = draft.len_bytes();
        }
        self.drafts[at] = draft;
    }

    pub(super) fn add_block(&mut self, at: usize, holder: Option<SessionId>, len_bytes: u64) -> Told<i64> {
        let mut draft = self.writable(at, holder)?;
        if draft.open_block().is_some() && len_bytes == 0 {
            return Err(ErrorCode::InvalidArgument);
        }
        Self::settle(&mut draft, len_bytes)?;
        let id = self.allocate(&mut draft);
        self.store(at, draft);
        Ok(id)
    }
    /// Gives up the last block.
    pub(super) fn abandon(&mut self, at: usize, holder: Option<SessionId>) -> Told<()> {
        let mut draft = self.writable(at, holder)?;
        if draft.blocks.last().is_some_and(|block| block.2.is_some()) {
            return Err(ErrorCode::InvalidArgument);
        }
        draft.blocks.pop();
        self.store(at, draft);
        Ok(())
    }
    pub(super) fn complete(
        &mut self,
        user: &str,
        at: usize,
        holder: Option<SessionId>,
        len_bytes: u64,
    ) -> Told<(String, u64)> {
        let mut draft = self.writable(at, holder)?;
        Self::settle(&mut draft, len_bytes)?;
        let path = match &draft.pin {
            None => self.path_of(draft.inode).ok_or(ErrorCode::NotFound)?,
            Some((directory, name, overwrite)) => {
                let directory = self.path_of(*directory).ok_or(ErrorCode::NotFound)?;
                self.need(user, &directory, WRITE | EXECUTE)?;
                let path = join(&directory, name);
                if self.tree.contains_key(&path) {
                    self.replaceable(user, &path, *overwrite)?;
                }
                path
            }
        };
        draft.over = true;
        let node = Node {
            inode: draft.inode,
            directory: false,
            mode: draft.mode,
            owner: draft.owner.clone(),
            len_bytes: draft.len_bytes(),
            open: false,
            mtime_ns: self.now_ns,
        };
        if draft.pin.is_some() {
            self.put(&path, node);
        } else {
            self.tree.insert(path.clone(), node);
        }
        let len_bytes = draft.len_bytes();
        self.store(at, draft);
        Ok((path, len_bytes))
    }
    /// The writer gives the file up, or the cluster takes it away from a silent one.
    pub(super) fn give_up(&mut self, at: usize, holder: Option<SessionId>) -> Told<()> {
        let mut draft = self.writable(at, holder)?;
        draft.over = true;
        if draft.pin.is_none() {
            self.next_epoch += 1;
        }
        self.drafts[at] = draft;
        Ok(())
    }

    pub(super) fn rename(&mut self, user: &str, from: &str, to: &str, replace: bool) -> Told<()> {
        if to == "/" || from == "/" {
            return Err(ErrorCode::InvalidMove);
        }
        let source = self.find(user, from)?.clone();
        if from == to {
            return Err(ErrorCode::AlreadyExists);
        }
        if below(to, from) {
            return Err(ErrorCode::InvalidMove);
        }
        let (_, missing) = self.walk(user, to)?;
        if missing.len() > 1 {
            return Err(ErrorCode::NotFound);
        }
        self.need(user, &parent(from), WRITE | EXECUTE)?;
        self.need_unstuck(user, from)?;
        if let Some(target) = self.tree.get(to) {
            match (replace, source.directory, target.directory) {
                (false, ..) => return Err(ErrorCode::AlreadyExists),
                (_, false, true) => return Err(ErrorCode::IsADirectory),
                (_, true, false) => return Err(ErrorCode::NotADirectory),
                _ if !self.children(to).is_empty() => return Err(ErrorCode::NotEmpty),
                _ => {}
            }
            self.need(user, &parent(to), WRITE | EXECUTE)?;
            self.need_unstuck(user, to)?;
        } else {
            self.addable(user, &parent(to))?;
        }
        self.tree.remove(to);
        let moved: Vec<String> = self.tree.keys().filter(|path| below(path, from)).cloned().collect();
        for path in moved {
            if let Some(node) = self.tree.remove(&path) {
                self.tree.insert(format!("{to}{}", &path[from.len()..]), node);
            }
        }
        self.touch(&parent(from));
        self.touch(&parent(to));
        Ok(())
    }

    /// Files and directories that went.
    pub(super) fn delete(&mut self, user: &str, path: &str, recursive: bool) -> Told<(u64, u64)> {
        if path == "/" {
            return Err(ErrorCode::InvalidArgument);
        }
        self.find(user, path)?;
        self.need(user, &parent(path), WRITE | EXECUTE)?;
        self.need_unstuck(user, path)?;
        let gone: Vec<String> = self.tree.keys().filter(|other| below(other, path)).cloned().collect();
        if gone.len() > 1 && !recursive {
            return Err(ErrorCode::NotEmpty);
        }
        for entry in gone.iter().filter(|entry| *entry != path) {
            self.need(user, &parent(entry), READ | WRITE | EXECUTE)?;
            self.need_unstuck(user, entry)?;
        }
        let nodes: Vec<Node> = gone.iter().filter_map(|path| self.tree.remove(path)).collect();
        let directories = nodes.iter().filter(|node| node.directory).count();
        self.touch(&parent(path));
        Ok(((nodes.len() - directories) as u64, directories as u64))
    }
}
