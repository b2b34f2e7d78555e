//! What must be there, and what may be: a client's own part of the tree, with its unknown outcomes.
//!
//! ```text
//!   worlds = { tree, unknown calls that may still take effect }*      all that is possible
//!   an outcome ─▶ worlds in which it is possible stay; none left: something was lost or half done
//! ```
//!
//! Only one client changes a home, one operation at a time, so the model is sequential. A call with an unknown
//! outcome may take effect until a later call of its session is carried out that names a higher lowest number.

mod fragile;

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use proto::error::ErrorCode;
use proto::ids::SessionId;

use crate::hosts::client::Fence;
use crate::workload::{Listed, Op, Outcome, contents};

pub use fragile::Fragile;

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A directory.
    Dir,
    /// A file.
    File {
        /// Its contents: so many bytes of each tag, one behind the other.
        parts: Vec<(u64, usize)>,
        /// Its length is at least this; that of all parts, unless its writer is gone and nobody has seen yet at which
        /// length the cluster closed it.
        least_bytes: usize,
        /// What power cuts may take from it, until it is closed.
        fragile: Option<Fragile>,
    },
}

impl Entry {
    /// A file of known length.
    #[must_use]
    pub fn file(parts: Vec<(u64, usize)>) -> Self {
        let least_bytes = total(&parts);
        Self::File { parts, least_bytes, fragile: None }
    }
    /// The greatest length that it may have.
    #[must_use]
    pub fn most_bytes(&self) -> usize {
        match self {
            Self::Dir => 0,
            Self::File { parts, .. } => total(parts),
        }
    }
    /// Learns the length of a file, or only that it is not less. False: it cannot be.
    fn learn(&mut self, len_bytes: u64, is_final: bool) -> bool {
        let Self::File { parts, least_bytes, fragile } = self else { return false };
        let Ok(len_bytes) = usize::try_from(len_bytes) else { return false };
        if !(*least_bytes..=total(parts)).contains(&len_bytes) {
            return false;
        }
        *least_bytes = len_bytes;
        if is_final {
            *parts = cut(parts, len_bytes);
            *fragile = None;
        }
        true
    }
}

fn total(parts: &[(u64, usize)]) -> usize {
    parts.iter().map(|(_, len_bytes)| len_bytes).sum()
}

/// The first bytes of some contents.
fn cut(parts: &[(u64, usize)], mut len_bytes: usize) -> Vec<(u64, usize)> {
    let mut left = Vec::new();
    for (tag, part) in parts {
        let part = (*part).min(len_bytes);
        len_bytes -= part;
        if part > 0 {
            left.push((*tag, part));
        }
    }
    left
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
    Status(String),
    Entries(Vec<String>),
    File(String),
}

/// Worlds that are kept; more means that the workload asks for too much at once.
const MAX_WORLDS: usize = 2048;

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
                if apply_late(&mut next.tree, &call.op).is_ok() && !worlds.contains(&next) {
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
        // An append that may have begun has written nothing: the file is open for a while.
        Outcome::Unknown if matches!(op, Op::Append { .. }) => return true,
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
        // Somebody's lease runs on, or the cluster is closing the file: that says nothing of its name.
        Outcome::Failed(ErrorCode::FileOpen) if matches!(op, Op::Append { .. } | Op::Truncate { .. }) => return true,
        Outcome::Failed(code) if !is_about_names(*code) => return true,
        _ => {}
    }
    let mut tree = world.tree.clone();
    let fits = match outcome {
        Outcome::Appended { base_bytes } => appended(&mut tree, op, *base_bytes, None),
        Outcome::Left { base_bytes, least_bytes, most_bytes } => match op {
            Op::Append { .. } => appended(&mut tree, op, *base_bytes, Some((*least_bytes, *most_bytes))),
            _ => apply(&mut tree, op).is_ok() && left(&mut tree, op, *least_bytes, *most_bytes),
        },
        _ => match (apply(&mut tree, op), outcome) {
            (Ok(Seen::Done), Outcome::Done) => true,
            (Ok(Seen::Status(path)), Outcome::Status(found)) => saw(&mut tree, &path, found),
            (Ok(Seen::Entries(paths)), Outcome::Entries(found)) => {
                paths.len() == found.len() && paths.iter().zip(found).all(|(path, found)| saw(&mut tree, path, found))
            }
            (Ok(Seen::File(path)), Outcome::Bytes { len_bytes, open, start_bytes, bytes }) => {
                let known = tree.get_mut(&path).is_some_and(|entry| entry.learn(*len_bytes, !open));
                let Some(Entry::File { parts, .. }) = tree.get(&path).filter(|_| known) else { return false };
                let (whole, start) = (contents(parts), *start_bytes as usize);
                whole.get(start..start + bytes.0.len()) == Some(bytes.0.as_slice())
                    && complete(op, *len_bytes, bytes.0.len() as u64)
            }
            (Err(ErrorCode::AlreadyExists), Outcome::Failed(ErrorCode::FileOpen)) => true,
            (Err(wanted), Outcome::Failed(found)) => wanted == *found,
            // Of a file whose length is not known yet.
            (Ok(_), Outcome::Failed(ErrorCode::InvalidArgument)) => {
                tree = world.tree.clone();
                is_shorter(&mut tree, op)
            }
            _ => false,
        },
    };
    if fits {
        world.tree = tree;
        // Whatever this session left behind can take effect no more. A writer that left its file had been given it.
        if op.changes() && matches!(outcome, Outcome::Done | Outcome::Appended { .. } | Outcome::Left { .. }) {
            world.unknown.retain(|call| call.session != fence.session || call.number > fence.lowest);
        }
    }
    fits
}

/// An entry was seen: is it what is there?
fn saw(tree: &mut Tree, path: &str, found: &Listed) -> bool {
    let Some(entry) = tree.get_mut(path) else { return false };
    if name(path) != found.name {
        return false;
    }
    match entry {
        Entry::Dir => found.is_dir,
        Entry::File { .. } if found.is_dir => false,
        // An open last block is not counted.
        Entry::File { .. } if found.open => found.len_bytes <= entry.most_bytes() as u64,
        Entry::File { .. } => entry.learn(found.len_bytes, true),
    }
}

/// Something was written behind the first `base_bytes` of a file. `open`: at least and at most so long is the file.
fn appended(tree: &mut Tree, op: &Op, base_bytes: usize, open: Option<(usize, usize)>) -> bool {
    let Op::Append { path, tag, len_bytes, .. } = op else { return false };
    let Some(entry) = tree.get_mut(path) else { return false };
    if !entry.learn(base_bytes as u64, true) {
        return false;
    }
    let Entry::File { parts, least_bytes, .. } = entry else { return false };
    let (least, most) = open.unwrap_or((base_bytes + len_bytes, base_bytes + len_bytes));
    if most > base_bytes {
        parts.push((*tag, most - base_bytes));
    }
    *least_bytes = least.max(base_bytes);
    true
}

/// A file was written, and its writer left it before it was closed.
fn left(tree: &mut Tree, op: &Op, least_bytes: usize, most_bytes: usize) -> bool {
    let Op::Write { path, tag, .. } = op else { return false };
    tree.insert(path.clone(), Entry::File { parts: vec![(*tag, most_bytes)], least_bytes, fragile: None });
    true
}

/// A file of unknown length turns out to be shorter than a truncate would have made it. False: it cannot be.
fn is_shorter(tree: &mut Tree, op: &Op) -> bool {
    let Op::Truncate { path, len_bytes } = op else { return false };
    match tree.get_mut(path) {
        Some(Entry::File { parts, least_bytes, .. }) if *least_bytes < *len_bytes => {
            *parts = cut(parts, len_bytes - 1);
            true
        }
        _ => false,
    }
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

/// A call whose outcome nobody knew takes effect. A file that is flushed on the way may show in part.
fn apply_late(tree: &mut Tree, op: &Op) -> Result<Seen, ErrorCode> {
    let seen = apply(tree, op)?;
    if let Op::Write { len_bytes, .. } = op
        && op.flushes()
    {
        left(tree, op, 0, *len_bytes);
    }
    Ok(seen)
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
            tree.insert(path.clone(), Entry::file(vec![(*tag, *len_bytes)]));
            Ok(Seen::Done)
        }
        // What it begins with is told with its outcome.
        Op::Append { path, .. } => match find(tree, path)? {
            Entry::Dir => Err(ErrorCode::IsADirectory),
            Entry::File { .. } => Ok(Seen::Done),
        },
        Op::Truncate { path, len_bytes } => match find(tree, path)? {
            Entry::Dir => Err(ErrorCode::IsADirectory),
            Entry::File { parts, .. } if total(parts) < *len_bytes => Err(ErrorCode::InvalidArgument),
            Entry::File { parts, .. } => {
                let shorter = Entry::file(cut(parts, *len_bytes));
                tree.insert(path.clone(), shorter);
                Ok(Seen::Done)
            }
        },
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
        Op::Stat { path } => find(tree, path).map(|_| Seen::Status(path.clone())),
        Op::List { path } => match find(tree, path)? {
            Entry::Dir => {
                Ok(Seen::Entries(below(tree, path).into_iter().filter(|other| parent(other) == path).collect()))
            }
            Entry::File { .. } => Ok(Seen::Entries(vec![path.clone()])),
        },
        Op::Read { path, .. } => match find(tree, path)? {
            Entry::Dir => Err(ErrorCode::IsADirectory),
            Entry::File { .. } => Ok(Seen::File(path.clone())),
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
    use crate::workload::{Data, Manner, content};

    pub(super) fn fence(lowest: u64, newest: u64) -> Fence {
        Fence { session: SessionId::new([1; 16]), lowest, newest, at: Moment::START }
    }
    fn mkdir(path: &str) -> Op {
        Op::Mkdir { path: path.into(), parents: false }
    }
    fn stat(path: &str) -> Op {
        Op::Stat { path: path.into() }
    }
    fn dir(name: &str) -> Outcome {
        Outcome::Status(Listed { name: name.into(), is_dir: true, len_bytes: 0, open: false })
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
    fn a_writer_that_left_its_file_has_fenced_what_was_unknown_before() {
        let mut oracle = Oracle::new("/c".into());
        let write = Op::Write {
            path: "/f".into(),
            tag: 9,
            len_bytes: 100,
            overwrite: false,
            replication: 1,
            block_size_bytes: 4096,
            manner: Manner::default(),
        };
        oracle.observe(&write, &Outcome::Done, &fence(1, 2)).unwrap();
        let cut = Op::Truncate { path: "/f".into(), len_bytes: 30 };
        oracle.observe(&cut, &Outcome::Unknown, &fence(2, 3)).unwrap();
        let manner = Manner { flush_every: Some(4), ..Manner::default() };
        let append = Op::Append { path: "/f".into(), tag: 10, len_bytes: 20, manner };
        let left = Outcome::Left { base_bytes: 100, least_bytes: 112, most_bytes: 120 };
        oracle.observe(&append, &left, &fence(3, 5)).unwrap();
        assert!(!oracle.in_doubt(), "the append was numbered higher, and it was carried out");
        let read = Op::Read { path: "/f".into(), part: (0, 1000) };
        let bytes = |data: Vec<u8>| Outcome::Bytes {
            len_bytes: data.len() as u64,
            open: false,
            start_bytes: 0,
            bytes: Data(data),
        };
        let late = oracle.clone().observe(&read, &bytes(content(9, 30)), &fence(5, 5));
        assert!(late.is_err(), "the truncate took effect behind the append: its flushed bytes are gone");
        oracle.observe(&read, &bytes([content(9, 100), content(10, 12)].concat()), &fence(5, 5)).unwrap();
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
            manner: Manner::default(),
        };
        oracle.observe(&write, &Outcome::Done, &fence(1, 2)).unwrap();
        let read = Op::Read { path: "/f".into(), part: (0, 1000) };
        let bytes = |len: usize| Outcome::Bytes {
            len_bytes: len as u64,
            open: false,
            start_bytes: 0,
            bytes: Data(content(9, len)),
        };
        oracle.observe(&read, &bytes(100), &fence(2, 2)).unwrap();
        assert!(oracle.observe(&read, &bytes(99), &fence(2, 2)).is_err());
    }

    #[test]
    fn a_file_that_was_left_keeps_what_was_flushed_and_never_gets_shorter() {
        let mut oracle = Oracle::new("/c".into());
        let manner = Manner { flush_every: Some(10), ..Manner::default() };
        let write = Op::Write {
            path: "/f".into(),
            tag: 9,
            len_bytes: 100,
            overwrite: false,
            replication: 1,
            block_size_bytes: 4096,
            manner,
        };
        let left = Outcome::Left { base_bytes: 0, least_bytes: 40, most_bytes: 60 };
        oracle.observe(&write, &left, &fence(1, 2)).unwrap();
        let read = Op::Read { path: "/f".into(), part: (0, 1000) };
        let bytes = |len: usize, open| Outcome::Bytes {
            len_bytes: len as u64,
            open,
            start_bytes: 0,
            bytes: Data(content(9, len)),
        };
        for too in [39, 61] {
            assert!(oracle.clone().observe(&read, &bytes(too, true), &fence(2, 2)).is_err(), "{too} bytes");
        }
        oracle.observe(&read, &bytes(45, true), &fence(2, 2)).unwrap();
        let longer = Op::Truncate { path: "/f".into(), len_bytes: 58 };
        oracle.observe(&longer, &Outcome::Failed(ErrorCode::InvalidArgument), &fence(2, 2)).unwrap();
        assert!(oracle.clone().observe(&read, &bytes(58, true), &fence(2, 2)).is_err(), "it is shorter than that");
        assert!(oracle.clone().observe(&read, &bytes(44, true), &fence(2, 2)).is_err(), "it got shorter");
        oracle.observe(&read, &bytes(50, false), &fence(2, 2)).unwrap();
        assert!(oracle.clone().observe(&read, &bytes(51, true), &fence(2, 2)).is_err(), "it was closed");
        let append = Op::Append { path: "/f".into(), tag: 10, len_bytes: 5, manner };
        assert!(oracle.clone().observe(&append, &Outcome::Appended { base_bytes: 49 }, &fence(2, 3)).is_err());
        oracle.observe(&append, &Outcome::Appended { base_bytes: 50 }, &fence(2, 3)).unwrap();
        let both = Data([content(9, 50), content(10, 5)].concat());
        let whole = Outcome::Bytes { len_bytes: 55, open: false, start_bytes: 0, bytes: both };
        oracle.observe(&read, &whole, &fence(3, 3)).unwrap();
        let cut = Op::Truncate { path: "/f".into(), len_bytes: 45 };
        oracle.observe(&cut, &Outcome::Done, &fence(3, 4)).unwrap();
        oracle.observe(&read, &bytes(45, false), &fence(4, 4)).unwrap();
    }
}
