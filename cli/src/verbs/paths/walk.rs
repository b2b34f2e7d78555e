//! Everything below a directory, entry by entry: each before what is in it, by name. Needs the memory of one page
//! for each level.

use client::{Client, FileKind, FileStatus, Listing};

use super::below;
use crate::verbs::failure::Failure;

/// An entry that a walk came to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its full path.
    pub(crate) path: String,
    /// 0 for where the walk began.
    pub(crate) depth: usize,
    pub(crate) status: FileStatus,
}

impl Found {
    pub(crate) fn is_directory(&self) -> bool {
        self.status.kind() == FileKind::Directory
    }
}

/// A walk that is under way. Symbolic links are not followed.
#[derive(Debug)]
pub(crate) struct Walk {
    client: Client,
    levels: Vec<Level>,
    /// The directory that was answered last; its entries come next.
    pending: Option<(String, usize)>,
}

#[derive(Debug)]
struct Level {
    path: String,
    listing: Listing,
    depth: usize,
}

impl Walk {
    /// Begins below an entry that is known already.
    pub(crate) fn below(client: &Client, start: &Found) -> Self {
        let pending = start.is_directory().then(|| (start.path.clone(), start.depth));
        Self { client: client.clone(), levels: Vec::new(), pending }
    }

    /// Leaves out what is in the directory that was answered last.
    pub(crate) fn prune(&mut self) {
        self.pending = None;
    }

    /// The next entry. A directory that cannot be listed is an error in its place; the walk goes on after it.
    pub(crate) async fn next(&mut self) -> Option<Result<Found, Failure>> {
        if let Some((path, depth)) = self.pending.take() {
            match self.client.list(&path) {
                Ok(listing) => self.levels.push(Level { path, listing, depth: depth + 1 }),
                Err(error) => return Some(Err(Failure::from(error).at(&path))),
            }
        }
        while let Some(level) = self.levels.last_mut() {
            match level.listing.next().await {
                Ok(Some(status)) if !status.path.is_empty() => {
                    let found = Found { path: below(&level.path, &status.path), depth: level.depth, status };
                    if found.is_directory() {
                        self.pending = Some((found.path.clone(), found.depth));
                    }
                    return Some(Ok(found));
                }
                // An entry without a name: a file took the directory's place.
                Ok(_) => {
                    self.levels.pop();
                }
                Err(error) => {
                    let failure = Failure::from(error).at(&level.path);
                    self.levels.pop();
                    return Some(Err(failure));
                }
            }
        }
        None
    }
}
