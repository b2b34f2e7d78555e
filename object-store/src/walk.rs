//! Objects in the order of their paths, one directory at a time, as they are asked for.
//!
//! ```text
//!   Walk ── levels: the directories from the first down to where it is
//!             └ Listing, page by page, the next page ahead ─▶ ByKey ─▶ object, or directory: one level down
//! ```
//!
//! A walk keeps a page of entries for each level, however much there is.

use std::collections::VecDeque;

use client::{Client, ErrorCode, FileKind, FileStatus, FsResult, Listing};
use object_store::path::Path;
use object_store::{ObjectMeta, Result};

use crate::error::{Doing, refused};
use crate::order::{ByKey, first_name, has_keys_after};
use crate::place::{Root, UPLOAD_PREFIX, is_file, meta};

/// What to walk through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The directory to begin in.
    pub(crate) directory: Path,
    /// What names in that directory must begin with.
    pub(crate) name_prefix: String,
    /// Keys up to and with this one are left out.
    pub(crate) after: String,
    /// Look into directories, instead of naming them.
    pub(crate) deep: bool,
}

/// What a walk comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An object.
    Object(ObjectMeta),
    /// A directory that is not empty, of a walk that is not deep.
    Directory(Path),
}

impl Found {
    /// The key: a walk that begins after it goes on where this one was.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Object(meta) => meta.location.to_string(),
            Self::Directory(path) => format!("{path}/"),
        }
    }
}

/// A walk under way.
#[derive(Debug)]
pub(crate) struct Walk {
    client: Client,
    root: Root,
    wanted: Wanted,
    levels: Vec<Level>,
}

impl Walk {
    /// Nothing is asked before the first object is wanted.
    ///
    /// # Errors
    /// As [`Root::path_of`].
    pub(crate) fn new(client: Client, root: Root, wanted: Wanted) -> Result<Self> {
        let mut walk = Self { client, root, wanted, levels: Vec::new() };
        let key = if walk.wanted.directory.is_root() { String::new() } else { format!("{}/", walk.wanted.directory) };
        let level = walk.level(key, &walk.wanted.directory, walk.wanted.name_prefix.clone())?;
        walk.levels.push(level);
        Ok(walk)
    }

    fn level(&self, key: String, directory: &Path, name_prefix: String) -> Result<Level> {
        let listing = self.client.list(&self.root.path_of(directory)?);
        let listing = listing.map_err(|error| refused(error, directory, Doing::Reading))?;
        let from = first_name(&key, &self.wanted.after).max(name_prefix.as_str());
        let listing = listing.starting_before(from);
        let (order, ready) = (ByKey::default(), VecDeque::new());
        Ok(Level { directory: directory.clone(), key, name_prefix, listing, order, ready, is_over: false })
    }

    /// The next object or directory; `None` after the last. After an error the walk is over, except that it goes on after
    /// a name that no location can say.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped, except that a symbolic link may be left out.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>> {
        while let Some(level) = self.levels.last_mut() {
            match level.next().await {
                Ok(Some((part, entry))) => {
                    let key = format!("{}{part}", level.key);
                    if let Some(found) = self.judge(key, entry).await? {
                        return Ok(Some(found));
                    }
                }
                // It went while the walk was on its way, or was never there; what is no directory has nothing in it.
                Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::NotADirectory) => {
                    self.levels.pop();
                }
                Ok(None) => drop(self.levels.pop()),
                Err(error) => {
                    let error = refused(error, &level.directory, Doing::Reading);
                    self.levels.clear();
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// What an entry is to this walk.
    async fn judge(&mut self, key: String, entry: FileStatus) -> Result<Option<Found>> {
        if entry.kind() == FileKind::Directory {
            // Nothing is in it: that costs no call.
            if entry.children == 0 || !has_keys_after(&key, &self.wanted.after) {
                return Ok(None);
            }
            let directory = Path::parse(&key)?;
            if self.wanted.deep {
                let level = self.level(key, &directory, String::new())?;
                self.levels.push(level);
                return Ok(None);
            }
            return Ok((key > self.wanted.after).then_some(Found::Directory(directory)));
        }
        if key <= self.wanted.after {
            return Ok(None);
        }
        let location = Path::parse(&key)?;
        let status = if entry.kind() == FileKind::Symlink { self.named_by(&location).await? } else { Some(entry) };
        Ok(status.filter(is_file).map(|status| Found::Object(meta(location, &status))))
    }

    /// What a symbolic link names, if that can be seen.
    async fn named_by(&mut self, location: &Path) -> Result<Option<FileStatus>> {
        match self.client.stat(&self.root.path_of(location)?).await {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.retryable() => {
                self.levels.clear();
                Err(refused(error, location, Doing::Reading))
            }
            Err(_) => Ok(None),
        }
    }
}

/// A directory of a walk.
#[derive(Debug)]
struct Level {
    directory: Path,
    key: String,
    name_prefix: String,
    listing: Listing,
    order: ByKey<FileStatus>,
    /// Entries whose turn has come, with the last part of their keys.
    ready: VecDeque<(String, FileStatus)>,
    is_over: bool,
}

impl Level {
    /// The next entry in the order of keys. Cancel safe.
    async fn next(&mut self) -> FsResult<Option<(String, FileStatus)>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            if self.is_over {
                return Ok(None);
            }
            let entry = self.listing.next().await?;
            self.take(entry);
        }
    }

    /// Takes the next entry of the listing.
    fn take(&mut self, entry: Option<FileStatus>) {
        match entry {
            Some(entry) if entry.path.starts_with(&self.name_prefix) => {
                // The listing of a file is the file itself, without a name: a prefix is a directory.
                if !entry.path.is_empty() && !entry.path.starts_with(UPLOAD_PREFIX) {
                    let name = entry.path.clone();
                    self.ready.extend(self.order.push(&name, entry.kind() == FileKind::Directory, entry));
                }
            }
            Some(entry) if *entry.path < *self.name_prefix => {}
            _ => {
                self.is_over = true;
                self.ready.extend(self.order.finish());
            }
        }
    }
}
