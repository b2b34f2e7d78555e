//! What must be there, and what may be: a client's own part of the tree, with its unknown outcomes.
//!
//! ```text
//!   worlds = { tree, unknown calls that may still take effect }*      all that is possible
//!   an outcome ─▶ worlds in which it is possible stay; none left: something was lost or half done
//! ```
//!
//! Only one client changes a home, one operation at a time, so the model is sequential. A call with an unknown
//! outcome may take effect until a later call of its session is carried out that names a higher lowest number.

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use proto::error::ErrorCode;
use proto::ids::SessionId;

use crate::hosts::client::Fence;
use crate::workload::{Listed, Op, Outcome, content};

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A directory.
    Dir,
    /// A file with these contents.
    File {
        /// Which.
        tag: u64,
        /// How long.
        len_bytes: usize,
    },
}

/// Paths and what is there.
pub type Tree = BTreeMap<String, Entry>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Unknown {
    op: Op,
    session: SessionId,
    number: u64,
    since: Moment,
}

/// No message and no host is held up for so long: what has not taken effect by then never does.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, PartialEq, Eq)]
struct World {
    tree: Tree,
    unknown: Vec<Unknown>,
}

/// What an operation shows, or must.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Done,
    Status(Listed),
    Entries(Vec<Listed>),
    File { tag: u64, len_bytes: usize },
}

/// Worlds that are kept; more means that the workload asks for too much at once.
const MAX_WORLDS: usize = 256;

/// What is known of a home.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// Path of the home.
    pub home: String,
    worlds: Vec<World>,
    /// Unknown outcomes that turned out to have happened, and not to have.
    pub settled: (u64, u64),
}

impl Oracle {
    /// Of a home that does not exist yet.
    #[must_use]
    pub fn new(home: String) -> Self {
        Self { home, worlds: vec![World { tree: Tree::new(), unknown: Vec::new() }], settled: (0, 0) }
    }
    /// A tree that is possible.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        static EMPTY: Tree = Tree::new();
        self.worlds.first().map_or(&EMPTY, |world| &world.tree)
    }
    /// May an unknown call still take effect?
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.worlds.iter().any(|world| !world.unknown.is_empty())
    }
    /// Every path that exists in any possible world, with whether it may be a directory and a file.
    #[must_use]
    pub fn paths(&self) -> BTreeMap<String, (bool, bool)> {
        let mut paths: BTreeMap<String, (bool, bool)> = BTreeMap::new();
        for (path, entry) in self.every_world().iter().flat_map(|world| &world.tree) {
            let kinds = paths.entry(path.clone()).or_default();
            match entry {
                Entry::Dir => kinds.0 = true,
                Entry::File { .. } => kinds.1 = true,
            }
        }
        paths
    }

    /// All worlds, with those in which unknown calls have taken effect meanwhile.
    fn every_world(&self) -> Vec<World> {
        let mut worlds = self.worlds.clone();
        let mut at = 0;
        while let Some(world) = worlds.get(at).cloned() {
            for number in 0..world.unknown.len() {
                let mut next = world.clone();
                let call = next.unknown.remove(number);
                if apply(&mut next.tree, &call.op).is_ok() && !worlds.contains(&next) {
                    worlds.push(next);
                }
            }
            at += 1;
        }
        worlds
    }

    /// Takes the outcome of an operation in.
    ///
    /// # Errors
    /// If it is possible in no world: what was expected, in words.
    pub fn observe(&mut self, op: &Op, outcome: &Outcome, fence: &Fence) -> Result<(), String> {
        let before = self.every_world();
        let mut after: Vec<World> = Vec::new();
        for mut world in before.iter().cloned() {
            if possible(&mut world, op, outcome, fence) && !after.contains(&world) {
                after.push(world);
            }
        }
        if after.is_empty() {
            let expected: Vec<String> = before.iter().map(|world| expectation(world, op)).collect();
            return Err(format!("{op:?} ended with {outcome:?}; possible was {}", expected.join(" or ")));
        }
        for world in &mut after {
            world.unknown.retain(|call| fence.at.since(call.since) < FORGOTTEN_AFTER);
        }
        self.note_settled(&before, &after);
        if after.len() > MAX_WORLDS {
            return Err(format!("{} worlds are possible: the workload leaves too much open", after.len()));
        }
        self.worlds = after;
        Ok(())
    }

    fn note_settled(&mut self, before: &[World], after: &[World]) {
        let open = |worlds: &[World]| worlds.iter().any(|world| !world.unknown.is_empty());
        if !open(before) || open(after) {
            return;
        }
        let never = |world: &World| self.worlds.iter().any(|old| old.tree == world.tree);
        if after.iter().all(never) {
            self.settled.1 += 1;
        } else {
            self.settled.0 += 1;
        }
    }
}

/// Is this outcome possible here? Then the world is as it is afterwards.
fn possible(world: &mut World, op: &Op, outcome: &Outcome, fence: &Fence) -> bool {
    match outcome {
        Outcome::Dropped => return true,
        Outcome::Unknown => {
            // A home is never deleted: making it again changes nothing, now or later.
            let again = matches!(op, Op::Mkdir { path, parents: true } if world.tree.get(path) == Some(&Entry::Dir) && parent(path) == "/");
            if op.changes() && !again {
                world.unknown.push(Unknown {
                    op: op.clone(),
                    session: fence.session,
                    number: fence.newest,
                    since: fence.at,
                });
            }
            return true;
        }
        Outcome::Failed(code) if !is_about_names(*code) => return true,
        _ => {}
    }
    let mut tree = world.tree.clone();
    let fits = match (apply(&mut tree, op), outcome) {
        (Ok(Seen::Done), Outcome::Done) => true,
        (Ok(Seen::Status(wanted)), Outcome::Status(found)) => wanted == *found,
        (Ok(Seen::Entries(wanted)), Outcome::Entries(found)) => wanted == *found,
        (Ok(Seen::File { tag, len_bytes }), Outcome::Bytes { len_bytes: found, start_bytes, bytes }) => {
            let whole = content(tag, len_bytes);
            let start = *start_bytes as usize;
            *found == len_bytes as u64
                && whole.get(start..start + bytes.0.len()) == Some(bytes.0.as_slice())
                && complete(op, len_bytes as u64, bytes.0.len() as u64)
        }
        (Err(wanted), Outcome::Failed(found)) => wanted == *found,
        _ => false,
    };
    if fits {
        world.tree = tree;
        // Whatever this session left behind can take effect no more.
        if op.changes() && *outcome == Outcome::Done {
            world.unknown.retain(|call| call.session != fence.session || call.number > fence.lowest);
        }
    }
    fits
}

fn complete(op: &Op, len_bytes: u64, read_bytes: u64) -> bool {
    let Op::Read { part, .. } = op else { return false };
    read_bytes == len_bytes * part.1 / 1000 - len_bytes * part.0 / 1000
}

/// Does the code say something about names? Everything else says that the operation was not carried out.
const fn is_about_names(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotFound
            | ErrorCode::AlreadyExists
            | ErrorCode::NotADirectory
            | ErrorCode::IsADirectory
            | ErrorCode::NotEmpty
            | ErrorCode::InvalidMove
            | ErrorCode::FileOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::InvalidPath
            | ErrorCode::InvalidArgument
            | ErrorCode::Internal
            | ErrorCode::Corrupt
            | ErrorCode::BadToken
            | ErrorCode::Unsupported
    )
}

fn expectation(world: &World, op: &Op) -> String {
    let shown = apply(&mut world.tree.clone(), op);
    format!("{shown:?} (with {} unknown calls)", world.unknown.len())
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}
fn name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}
fn below(tree: &Tree, path: &str) -> Vec<String> {
    let prefix = format!("{path}/");
    tree.keys().filter(|other| other.starts_with(&prefix)).cloned().collect()
}
/// The parent must be a directory.
fn check_parent(tree: &Tree, path: &str) -> Result<(), ErrorCode> {
    let mut above = parent(path);
    if above == "/" {
        return Ok(());
    }
    let mut result = Ok(());
    loop {
        match tree.get(above) {
            Some(Entry::Dir) => return result,
            Some(Entry::File { .. }) => return Err(ErrorCode::NotADirectory),
            None => result = Err(ErrorCode::NotFound),
        }
        above = parent(above);
        if above == "/" {
            return result;
        }
    }
}
fn find<'a>(tree: &'a Tree, path: &str) -> Result<&'a Entry, ErrorCode> {
    check_parent(tree, path)?;
    tree.get(path).ok_or(ErrorCode::NotFound)
}
fn listed(path: &str, entry: &Entry) -> Listed {
    match entry {
        Entry::Dir => Listed { name: name(path), is_dir: true, len_bytes: 0 },
        Entry::File { len_bytes, .. } => Listed { name: name(path), is_dir: false, len_bytes: *len_bytes as u64 },
    }
}

/// The whole semantics of names, in a page.
fn apply(tree: &mut Tree, op: &Op) -> Result<Seen, ErrorCode> {
    match op {
        Op::Mkdir { path, parents } => mkdir(tree, path, *parents),
        Op::Write { path, tag, len_bytes, overwrite, .. } => {
            check_parent(tree, path)?;
            match tree.get(path) {
                Some(Entry::Dir) => return Err(ErrorCode::IsADirectory),
                Some(Entry::File { .. }) if !overwrite => return Err(ErrorCode::AlreadyExists),
                _ => {}
            }
            tree.insert(path.clone(), Entry::File { tag: *tag, len_bytes: *len_bytes });
            Ok(Seen::Done)
        }
        Op::Rename { from, to, replace } => rename(tree, from, to, *replace),
        Op::Delete { path, recursive } => {
            let is_dir = *find(tree, path)? == Entry::Dir;
            let inside = if is_dir { below(tree, path) } else { Vec::new() };
            if !inside.is_empty() && !recursive {
                return Err(ErrorCode::NotEmpty);
            }
            inside.iter().chain([path]).for_each(|gone| {
                tree.remove(gone);
            });
            Ok(Seen::Done)
        }
        Op::Stat { path } => find(tree, path).map(|entry| Seen::Status(listed(path, entry))),
        Op::List { path } => match find(tree, path)? {
            Entry::Dir => {
                let children = below(tree, path).into_iter().filter(|other| parent(other) == path);
                Ok(Seen::Entries(children.filter_map(|other| Some(listed(&other, tree.get(&other)?))).collect()))
            }
            file @ Entry::File { .. } => Ok(Seen::Entries(vec![listed(path, file)])),
        },
        Op::Read { path, .. } => match find(tree, path)? {
            Entry::Dir => Err(ErrorCode::IsADirectory),
            Entry::File { tag, len_bytes } => Ok(Seen::File { tag: *tag, len_bytes: *len_bytes }),
        },
    }
}

fn mkdir(tree: &mut Tree, path: &str, parents: bool) -> Result<Seen, ErrorCode> {
    if let Err(error) = check_parent(tree, path)
        && !(parents && error == ErrorCode::NotFound)
    {
        return Err(error);
    }
    match tree.get(path) {
        Some(Entry::Dir) if parents => return Ok(Seen::Done),
        Some(_) => return Err(ErrorCode::AlreadyExists),
        None => {}
    }
    let mut at = path;
    while at != "/" {
        tree.insert(at.to_owned(), Entry::Dir);
        at = parent(at);
    }
    Ok(Seen::Done)
}

fn rename(tree: &mut Tree, from: &str, to: &str, replace: bool) -> Result<Seen, ErrorCode> {
    let source = find(tree, from)?.clone();
    if from == to {
        return Err(ErrorCode::AlreadyExists);
    }
    if to.starts_with(&format!("{from}/")) {
        return Err(ErrorCode::InvalidMove);
    }
    check_parent(tree, to)?;
    if let Some(old) = tree.get(to) {
        if !replace {
            return Err(ErrorCode::AlreadyExists);
        }
        match (&source, old) {
            (Entry::File { .. }, Entry::Dir) => return Err(ErrorCode::IsADirectory),
            (Entry::Dir, Entry::File { .. }) => return Err(ErrorCode::NotADirectory),
            (Entry::Dir, Entry::Dir) if !below(tree, to).is_empty() => return Err(ErrorCode::NotEmpty),
            _ => {}
        }
    }
    let moved: Vec<String> = below(tree, from);
    for path in moved.iter().map(String::as_str).chain([from]) {
        if let Some(entry) = tree.remove(path) {
            tree.insert(format!("{to}{}", &path[from.len()..]), entry);
        }
    }
    Ok(Seen::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(lowest: u64, newest: u64) -> Fence {
        Fence { session: SessionId::new([1; 16]), lowest, newest, at: Moment::START }
    }
    fn mkdir(path: &str) -> Op {
        Op::Mkdir { path: path.into(), parents: false }
    }
    fn stat(path: &str) -> Op {
        Op::Stat { path: path.into() }
    }
    fn dir(name: &str) -> Outcome {
        Outcome::Status(Listed { name: name.into(), is_dir: true, len_bytes: 0 })
    }
    const MISSING: Outcome = Outcome::Failed(ErrorCode::NotFound);

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let mut oracle = Oracle::new("/c".into());
        oracle.observe(&mkdir("/c"), &Outcome::Done, &fence(1, 2)).unwrap();
        assert!(oracle.clone().observe(&stat("/c"), &MISSING, &fence(2, 2)).is_err());
        oracle.observe(&stat("/c"), &dir("c"), &fence(2, 2)).unwrap();
    }

    #[test]
    fn an_unknown_call_may_have_happened_until_a_later_one_of_its_session_did() {
        let mut oracle = Oracle::new("/c".into());
        oracle.observe(&mkdir("/c"), &Outcome::Unknown, &fence(1, 2)).unwrap();
        oracle.observe(&stat("/c"), &MISSING, &fence(2, 2)).unwrap();
        oracle.clone().observe(&stat("/c"), &dir("c"), &fence(2, 2)).unwrap();
        // Calls below 2 are its own, and the next call names 1 as unanswered: it may still come.
        let mut open = oracle.clone();
        open.observe(&mkdir("/d"), &Outcome::Done, &fence(1, 3)).unwrap();
        assert!(open.in_doubt());
        oracle.observe(&mkdir("/d"), &Outcome::Done, &fence(2, 3)).unwrap();
        oracle.observe(&stat("/c"), &MISSING, &fence(4, 4)).unwrap();
        assert!(oracle.observe(&stat("/c"), &dir("c"), &fence(4, 4)).is_err(), "too late");
    }

    #[test]
    fn half_a_file_is_not_possible() {
        let mut oracle = Oracle::new("/c".into());
        let write = Op::Write {
            path: "/f".into(),
            tag: 9,
            len_bytes: 100,
            overwrite: false,
            replication: 1,
            block_size_bytes: 4096,
            drop_after: None,
        };
        oracle.observe(&write, &Outcome::Done, &fence(1, 2)).unwrap();
        let read = Op::Read { path: "/f".into(), part: (0, 1000) };
        let bytes = |len: usize| Outcome::Bytes {
            len_bytes: len as u64,
            start_bytes: 0,
            bytes: crate::workload::Data(content(9, len)),
        };
        oracle.observe(&read, &bytes(100), &fence(2, 2)).unwrap();
        assert!(oracle.observe(&read, &bytes(99), &fence(2, 2)).is_err());
    }
}
