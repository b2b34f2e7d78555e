//! Listings and counts of directories. What is there now is found by two searches and never takes a second step; what a
//! snapshot sees lies between everything that came and went.

use std::cell::Cell;

use proto::error::FsResult;
use proto::namespace::FileStatus;
use proto::path::FsPath;

use super::Walk;
use crate::namespace::Namespace;
use crate::namespace::access::{EXECUTE, READ, Who};
use crate::namespace::resolve::Last;
use crate::namespace::store::history::Place;
use crate::namespace::view::{NAMES_ASKED_OF_ALL, Seen};

/// A directory, as a snapshot sees it, and how far it was looked through.
#[derive(Debug)]
struct Past {
    directory: u64,
    snapshot: u64,
    place: Place,
}

impl Past {
    /// The slot of the directory, if it and the snapshot are still there.
    ///
    /// # Errors
    /// `NotFound`.
    fn slot(&self, namespace: &Namespace, path: &FsPath) -> FsResult<u32> {
        namespace.slot_in_snapshot(self.directory, self.snapshot, path)
    }
}

/// A page of a listing: at most `limit` entries by name after one.
#[derive(Debug)]
pub(crate) struct ListWalk {
    path: FsPath,
    start_after: String,
    limit: usize,
    past: Option<Past>,
    entries: Vec<FileStatus>,
    more: bool,
}

impl ListWalk {
    /// `limit` bounds what one step does where nothing but what is listed is looked at.
    pub(crate) fn new(path: FsPath, start_after: &str, limit: usize) -> Self {
        Self { path, start_after: start_after.to_owned(), limit, past: None, entries: Vec::new(), more: false }
    }

    /// True if there is nothing more to look at.
    fn begin(&mut self, namespace: &Namespace, who: &Who<'_>) -> FsResult<bool> {
        let store = &namespace.store;
        let seen = namespace.look(who, &self.path, Last::Follow)?;
        match seen {
            Seen::Inode { slot, .. } if !store.inode(slot).is_dir() => {
                self.entries = vec![namespace.status_of(seen, "")];
            }
            Seen::Inode { slot, snapshot: None } => {
                who.need(store, slot, READ | EXECUTE)?;
                let asks = Cell::new(NAMES_ASKED_OF_ALL);
                let status = |entry| namespace.status_among(store.inode_of(entry), store.name(entry), &asks);
                self.fill(store.entries_after(slot, &self.start_after), status);
            }
            Seen::Inode { slot, snapshot: Some(snapshot) } => {
                namespace.need_at(who, slot, Some(snapshot), READ | EXECUTE, &self.path)?;
                let (directory, place) = (store.inode(slot).id, Place::after_name(&self.start_after));
                self.past = Some(Past { directory, snapshot, place });
                return Ok(false);
            }
            Seen::Snapshots { slot } => {
                who.need(store, slot, READ | EXECUTE)?;
                let all = store.snapshots_by_name(store.inode(slot).id, &self.start_after);
                self.fill(all, |snapshot| namespace.status_of_snapshot(slot, snapshot));
            }
        }
        Ok(true)
    }
    /// Takes a whole page.
    fn fill<T>(&mut self, mut all: impl Iterator<Item = T>, status: impl Fn(T) -> FileStatus) {
        self.entries = all.by_ref().take(self.limit).map(status).collect();
        self.more = all.next().is_some();
    }
}

impl Walk for ListWalk {
    type Answer = (Vec<FileStatus>, bool);

    fn step(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> FsResult<bool> {
        if self.past.is_none() && self.begin(namespace, who)? {
            return Ok(true);
        }
        let Some(past) = &mut self.past else { return Ok(true) };
        let slot = past.slot(namespace, &self.path)?;
        let mut last = None;
        let mut all = namespace.store.glimpses(slot, &past.place, past.snapshot);
        while *left > 0 {
            let Some(glimpse) = all.next() else { return Ok(true) };
            *left -= 1;
            if let Some(child) = glimpse.seen {
                if self.entries.len() >= self.limit {
                    self.more = true;
                    return Ok(true);
                }
                self.entries.push(namespace.entry_at(child, past.snapshot, glimpse.name));
            }
            last = Some(glimpse);
        }
        if let Some(last) = last {
            past.place = last.place();
        }
        Ok(false)
    }
    fn answer(self) -> Self::Answer {
        (self.entries, self.more)
    }
}

/// The status of a path. Only the entries of a directory in a snapshot have to be counted for it.
#[derive(Debug)]
pub(crate) struct StatWalk {
    status: FileStatus,
    counting: Option<(FsPath, Past)>,
}

impl StatWalk {
    /// Begins; most often that is all.
    ///
    /// # Errors
    /// As [`Namespace::stat`].
    pub(crate) fn begin(namespace: &Namespace, who: &Who<'_>, path: &FsPath, last: Last) -> FsResult<Self> {
        let seen = namespace.look(who, path, last)?;
        let status = namespace.status_of(seen, path.as_str());
        let counting = match seen {
            Seen::Inode { slot, snapshot: Some(snapshot) } if namespace.store.inode(slot).is_dir() => {
                let directory = namespace.store.inode(slot).id;
                Some((path.clone(), Past { directory, snapshot, place: Place::default() }))
            }
            _ => None,
        };
        Ok(Self { status, counting })
    }
    /// Is there nothing to count?
    pub(crate) const fn is_done(&self) -> bool {
        self.counting.is_none()
    }
}

impl Walk for StatWalk {
    type Answer = FileStatus;

    fn step(&mut self, namespace: &Namespace, _: &Who<'_>, left: &mut usize) -> FsResult<bool> {
        let Some((path, past)) = &mut self.counting else { return Ok(true) };
        let slot = past.slot(namespace, path)?;
        let mut last = None;
        let mut all = namespace.store.glimpses(slot, &past.place, past.snapshot);
        while *left > 0 {
            let Some(glimpse) = all.next() else { return Ok(true) };
            *left -= 1;
            self.status.children += u64::from(glimpse.seen.is_some());
            last = Some(glimpse);
        }
        if let Some(last) = last {
            past.place = last.place();
        }
        Ok(false)
    }
    fn answer(self) -> FileStatus {
        self.status
    }
}
