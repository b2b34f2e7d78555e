//! The directories of a disk in memory: live, durable, and the changes between the two.
//!
//! A change (link, unlink, rename) is atomic, as journals make it, but changes that no `sync_dir` has covered may
//! be lost in any combination that respects the order of changes of one name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use crate::random::Randomness;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    File(usize),
    Dir(usize),
}

type Dirs = Vec<BTreeMap<String, Child>>;
/// A name in a directory.
type Place = (usize, String);

#[derive(Clone, Debug)]
struct Change {
    removed: Option<Place>,
    added: Option<(Place, Child)>,
}

impl Change {
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.removed.iter().chain(self.added.iter().map(|(place, _)| place))
    }
    fn apply(&self, dirs: &mut Dirs) {
        if let Some((dir, name)) = &self.removed {
            dirs[*dir].remove(name);
        }
        if let Some(((dir, name), child)) = &self.added {
            dirs[*dir].insert(name.clone(), *child);
        }
    }
}

#[derive(Debug)]
pub(super) struct Names {
    live: Dirs,
    durable: Dirs,
    pending: Vec<Change>,
}

/// The components of a path, from the root; `.` is skipped, relative paths start at the root.
pub(super) fn parts_of(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

impl Names {
    pub(super) fn new() -> Self {
        Self { live: vec![BTreeMap::new()], durable: vec![BTreeMap::new()], pending: Vec::new() }
    }

    pub(super) fn find(&self, path: &Path) -> Option<Child> {
        let mut at = Child::Dir(0);
        for name in parts_of(path) {
            let Child::Dir(dir) = at else { return None };
            at = *self.live[dir].get(&name)?;
        }
        Some(at)
    }

    fn dir(&self, path: &Path) -> io::Result<usize> {
        match self.find(path) {
            Some(Child::Dir(dir)) => Ok(dir),
            Some(Child::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(not_found(path)),
        }
    }

    fn place(&self, path: &Path) -> io::Result<Place> {
        let name = parts_of(path).pop().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.dir(path.parent().unwrap_or(Path::new("/")))?;
        Ok((dir, name))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    pub(super) fn link(&mut self, path: &Path, id: usize) -> io::Result<()> {
        let place = self.place(path)?;
        if self.live[place.0].contains_key(&place.1) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change { removed: None, added: Some((place, Child::File(id))) });
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        self.change(Change { removed: Some(place), added: None });
        Ok(())
    }

    /// Renames; returns the file that was replaced, if one was.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<Option<usize>> {
        let moved = self.find(from).ok_or_else(|| not_found(from))?;
        let (from, to) = (self.place(from)?, self.place(to)?);
        let replaced = match (self.live[to.0].get(&to.1), moved) {
            (Some(Child::Dir(_)), _) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Child::File(_)), Child::Dir(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            (Some(Child::File(id)), Child::File(own)) if *id != own => Some(*id),
            _ => None,
        };
        self.change(Change { removed: Some(from), added: Some((to, moved)) });
        Ok(replaced)
    }

    pub(super) fn create_dirs(&mut self, path: &Path) -> io::Result<()> {
        let mut dir = 0;
        for name in parts_of(path) {
            dir = match self.live[dir].get(&name) {
                Some(Child::Dir(next)) => *next,
                Some(Child::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let next = self.live.len();
                    for dirs in [&mut self.live, &mut self.durable] {
                        dirs.push(BTreeMap::new());
                        dirs[dir].insert(name.clone(), Child::Dir(next));
                    }
                    next
                }
            };
        }
        Ok(())
    }

    /// Makes the names of a directory durable; returns the files whose durable names changed.
    pub(super) fn sync(&mut self, path: &Path) -> io::Result<Vec<usize>> {
        let dir = self.dir(path)?;
        let mut touched = Vec::new();
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            if !change.places().any(|place| place.0 == dir) {
                left.push(change);
                continue;
            }
            for (dir, name) in change.places() {
                if let Some(Child::File(id)) = self.durable[*dir].get(name) {
                    touched.push(*id);
                }
            }
            change.apply(&mut self.durable);
        }
        self.pending = left;
        Ok(touched)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(String, Child)>> {
        let dir = self.dir(path)?;
        Ok(self.live[dir].iter().map(|(name, child)| (name.clone(), *child)).collect())
    }

    pub(super) fn power_cut(&mut self, randomness: &dyn Randomness, style: u64) {
        let mut lost: BTreeSet<Place> = BTreeSet::new();
        for change in std::mem::take(&mut self.pending) {
            let keep = match style {
                0 => false,
                1 => true,
                _ => randomness.below(2) == 0,
            };
            if keep && !change.places().any(|place| lost.contains(place)) {
                change.apply(&mut self.durable);
            } else {
                lost.extend(change.places().cloned());
            }
        }
        self.live = self.durable.clone();
    }

    fn links(dirs: &Dirs) -> BTreeMap<usize, u32> {
        let mut links = BTreeMap::new();
        for child in dirs.iter().flat_map(BTreeMap::values) {
            if let Child::File(id) = child {
                *links.entry(*id).or_default() += 1;
            }
        }
        links
    }

    pub(super) fn live_links(&self) -> BTreeMap<usize, u32> {
        Self::links(&self.live)
    }
    pub(super) fn durable_links(&self) -> BTreeMap<usize, u32> {
        let mut links = Self::links(&self.durable);
        // A change that may still come to the medium refers to its file too.
        for change in &self.pending {
            if let Some((_, Child::File(id))) = &change.added {
                *links.entry(*id).or_default() += 1;
            }
        }
        links
    }
    pub(super) fn durable_refers_to(&self, id: usize) -> bool {
        let named = |child: &Child| *child == Child::File(id);
        self.durable.iter().any(|dir| dir.values().any(named))
            || self.pending.iter().any(|change| change.added.as_ref().is_some_and(|(_, child)| named(child)))
    }

    pub(super) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![(0, String::new())];
        while let Some((dir, path)) = waiting.pop() {
            for (name, child) in &self.live[dir] {
                let path = format!("{path}/{name}");
                match child {
                    Child::File(_) => found.push(path),
                    Child::Dir(next) => waiting.push((*next, path)),
                }
            }
        }
        found.sort();
        found
    }
}
