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
/// Inode, lease and length of a file that is appended to, and id and length of the block that is open again.
pub(super) type Appended = (u64, u64, u64, Option<(i64, u64)>);

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
    made_ns: i64,
    /// Directory, name, and whether a file there may be replaced.
    pin: Option<(u64, String, bool)>,
    /// Id, stamp, and length once it is known.
    pub(super) blocks: Vec<(i64, u64, Option<u64>)>,
    /// What the open last block has at least.
    pub(super) floor: u64,
    /// Nobody's: the stamp of its recovery, and the length that it must give the last block, if that is fixed.
    pub(super) recovery: Option<(u64, Option<u64>)>,
    /// The stamp that was reserved last for the open block.
    pub(super) reserved: Option<u64>,
    /// Complete, given up, or taken away.
    pub(super) over: bool,
}

impl Draft {
    pub(super) fn len_bytes(&self) -> u64 {
        let finished: u64 = self.blocks.iter().filter_map(|block| block.2).sum();
        finished + self.open_block().map_or(0, |_| self.floor)
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
            made_ns: self.now_ns,
            pin: (!new.at_once).then_some((directory, name, new.overwrite)),
            blocks: Vec::new(),
            floor: 0,
            recovery: None,
            reserved: None,
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
        (draft.floor, draft.reserved) = (0, None);
        self.next_block += 1;
        self.next_stamp += 1;
        self.next_block - 1
    }

    fn writable(&self, draft: usize, holder: Option<SessionId>) -> Told<Draft> {
        let draft = &self.drafts[draft];
        let exists = self.path_of(draft.inode).is_some() || (draft.pin.is_some() && !draft.over);
        match (exists, !draft.over && draft.holder == holder && draft.recovery.is_none()) {
            (false, _) => Err(ErrorCode::NotFound),
            (true, false) => Err(ErrorCode::LeaseLost),
            (true, true) => Ok(draft.clone()),
        }
    }
    /// What becomes of the last block if the writer says that it has this length.
    fn settle(draft: &mut Draft, len_bytes: u64) -> Told<()> {
        let floor = draft.floor;
        let Some(last) = draft.blocks.last_mut().filter(|block| block.2.is_none()) else { return Ok(()) };
        if len_bytes > BLOCK_SIZE || len_bytes < floor {
            return Err(ErrorCode::InvalidArgument);
        }
        last.2 = Some(len_bytes);
        if len_bytes == 0 {
            draft.blocks.pop();
        }
        (draft.floor, draft.reserved) = (0, None);
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
        if draft.blocks.last().is_some_and(|block| block.2.is_some() || draft.floor > 0) {
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
            Some((directory, name, overwrite)) => self.place(user, *directory, name, *overwrite)?,
        };
        draft.over = true;
        let node = Node {
            inode: draft.inode,
            directory: false,
            mode: draft.mode,
            owner: draft.owner.clone(),
            len_bytes: draft.len_bytes(),
            open: false,
            mtime_ns: match self.tree.get(&path) {
                // Nobody wrote anything since it was made.
                Some(made) if draft.pin.is_none() && draft.blocks.is_empty() => made.mtime_ns,
                _ => self.now_ns,
            },
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
        let draft = self.writable(at, holder)?;
        self.take_away(at, &draft);
        Ok(())
    }
    fn take_away(&mut self, at: usize, draft: &Draft) {
        self.drafts[at].over = true;
        if draft.pin.is_some() {
            return;
        }
        if draft.open_block().is_some() {
            self.recover(draft.clone(), None);
        } else {
            self.close(draft.inode);
        }
    }
    /// The file is nobody's until its last block is finished.
    fn recover(&mut self, draft: Draft, target: Option<u64>) {
        let (epoch, stamp) = (self.next_epoch, self.next_stamp);
        self.next_epoch += 1;
        self.next_stamp += 1;
        let recovery = Some((stamp, target));
        self.drafts.push(Draft { epoch, holder: None, recovery, reserved: None, over: false, ..draft });
    }
    fn close(&mut self, inode: u64) {
        let now_ns = self.now_ns;
        if let Some(path) = self.path_of(inode)
            && let Some(node) = self.tree.get_mut(&path)
        {
            (node.open, node.mtime_ns) = (false, now_ns);
        }
    }
    fn latest(&self, inode: u64) -> usize {
        self.drafts.iter().rposition(|draft| draft.inode == inode).unwrap()
    }

    /// A file that nobody writes, for somebody who may.
    fn closed(&self, user: &str, path: &str) -> Told<usize> {
        let node = self.find(user, path)?;
        if node.directory {
            return Err(ErrorCode::IsADirectory);
        }
        self.need(user, path, WRITE)?;
        if node.open { Err(ErrorCode::FileOpen) } else { Ok(self.latest(node.inode)) }
    }
    pub(super) fn append(
        &mut self,
        user: &str,
        holder: Option<SessionId>,
        path: &str,
        new_block: bool,
    ) -> Told<Appended> {
        let before = self.closed(user, path)?;
        let (epoch, len_bytes) = (self.next_epoch, self.drafts[before].len_bytes());
        let mut draft = Draft { epoch, holder, pin: None, over: false, recovery: None, ..self.drafts[before].clone() };
        self.next_epoch += 1;
        let room = |block: &&mut (i64, u64, Option<u64>)| !new_block && block.2.is_some_and(|len| len < BLOCK_SIZE);
        let last = draft.blocks.last_mut().filter(room).map(|last| {
            let floor = last.2.take().unwrap_or(0);
            (last.0, floor)
        });
        if let Some((_, floor)) = last {
            (draft.floor, draft.reserved) = (floor, Some(self.next_stamp));
            self.next_stamp += 1;
        }
        if let Some(node) = self.tree.get_mut(path) {
            node.open = true;
        }
        let inode = draft.inode;
        self.drafts.push(draft);
        Ok((inode, epoch, len_bytes, last))
    }
    /// True: nothing is left to do.
    pub(super) fn truncate(&mut self, user: &str, path: &str, len_bytes: u64) -> Told<bool> {
        let at = self.closed(user, path)?;
        let whole = self.drafts[at].len_bytes();
        if len_bytes >= whole {
            return if len_bytes == whole { Ok(true) } else { Err(ErrorCode::InvalidArgument) };
        }
        let draft = &mut self.drafts[at];
        let (mut kept, mut left) = (Vec::new(), len_bytes);
        for block in &draft.blocks {
            let len = block.2.unwrap_or(0);
            if left > 0 {
                kept.push((block.0, block.1, Some(len.min(left))));
                left -= len.min(left);
            }
        }
        let last = kept.last().copied().filter(|last| draft.blocks[kept.len() - 1].2 != last.2);
        draft.blocks = kept;
        let now_ns = self.now_ns;
        if let Some(node) = self.tree.get_mut(path) {
            (node.len_bytes, node.open, node.mtime_ns) = (len_bytes, last.is_some(), now_ns);
        }
        if let Some((_, _, Some(target))) = last {
            let mut cut = self.drafts[at].clone();
            if let Some(last) = cut.blocks.last_mut() {
                last.2 = None;
            }
            cut.floor = target;
            self.recover(cut, Some(target));
        }
        Ok(last.is_none())
    }
    /// True: it is closed.
    pub(super) fn recover_lease(&mut self, user: &str, path: &str) -> Told<bool> {
        let node = self.find(user, path)?.clone();
        if node.directory {
            return Err(ErrorCode::IsADirectory);
        }
        self.need(user, path, WRITE)?;
        let at = self.latest(node.inode);
        if node.open && self.drafts[at].recovery.is_none() {
            self.take_away(at, &self.drafts[at].clone());
        }
        Ok(!self.tree[path].open)
    }
    /// The length of the last block at the end of a recovery; none if it goes.
    pub(super) fn finish_recovery(&mut self, at: usize, end: Option<u64>) -> Told<u64> {
        let mut draft = self.drafts[at].clone();
        let Some((stamp, target)) = draft.recovery.filter(|_| self.path_of(draft.inode).is_some()) else {
            return Err(ErrorCode::NotFound);
        };
        let fits = match end {
            None => draft.floor == 0,
            Some(len) => len <= BLOCK_SIZE && len >= draft.floor && target.is_none_or(|target| target == len),
        };
        if !fits {
            return Err(ErrorCode::InvalidArgument);
        }
        match (end, draft.blocks.last_mut()) {
            (Some(len), Some(last)) => (last.1, last.2) = (stamp, Some(len)),
            _ => drop(draft.blocks.pop()),
        }
        (draft.over, draft.floor, draft.recovery) = (true, 0, None);
        let (inode, len_bytes) = (draft.inode, draft.len_bytes());
        self.store(at, draft);
        self.close(inode);
        Ok(len_bytes)
    }
    pub(super) fn new_stamp(&mut self, at: usize, holder: Option<SessionId>) -> Told<u64> {
        let mut draft = self.writable(at, holder)?;
        if draft.open_block().is_none() {
            return Err(ErrorCode::InvalidArgument);
        }
        draft.reserved = Some(self.next_stamp);
        self.next_stamp += 1;
        self.drafts[at] = draft;
        Ok(self.next_stamp - 1)
    }
    pub(super) fn update_pipeline(&mut self, at: usize, holder: Option<SessionId>, len_bytes: u64) -> Told<()> {
        let mut draft = self.writable(at, holder)?;
        let (floor, reserved) = (draft.floor, draft.reserved.take());
        let Some(last) = draft.blocks.last_mut().filter(|last| last.2.is_none()) else {
            return Err(ErrorCode::InvalidArgument);
        };
        let Some(stamp) = reserved else { return Err(ErrorCode::StaleStamp) };
        if len_bytes < floor || len_bytes > BLOCK_SIZE {
            return Err(ErrorCode::InvalidArgument);
        }
        last.1 = stamp;
        self.drafts[at] = draft;
        Ok(())
    }
    pub(super) fn publish(&mut self, user: &str, at: usize, holder: Option<SessionId>) -> Told<String> {
        let mut draft = self.writable(at, holder)?;
        let Some((directory, name, overwrite)) = draft.pin.take() else {
            return self.path_of(draft.inode).ok_or(ErrorCode::NotFound);
        };
        let path = self.place(user, directory, &name, overwrite)?;
        let node = Node {
            inode: draft.inode,
            directory: false,
            mode: draft.mode,
            owner: draft.owner.clone(),
            len_bytes: draft.len_bytes(),
            open: true,
            mtime_ns: draft.made_ns,
        };
        self.put(&path, node);
        self.drafts[at] = draft;
        Ok(path)
    }
    /// Where a file would appear now.
    fn place(&self, user: &str, directory: u64, name: &str, overwrite: bool) -> Told<String> {
        let directory = self.path_of(directory).ok_or(ErrorCode::NotFound)?;
        self.need(user, &directory, WRITE | EXECUTE)?;
        let path = join(&directory, name);
        if self.tree.contains_key(&path) {
            self.replaceable(user, &path, overwrite)?;
        }
        Ok(path)
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
