//! From paths to inodes, with the rights that the way demands.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::path::FsPath;

use super::access::{EXECUTE, WRITE, Who};
use super::registry::root;
use super::{Call, Namespace};

/// How far a path exists.
pub(crate) struct Walk<'p> {
    /// The deepest inode on the path that exists.
    pub(crate) at: u32,
    /// The names below it that do not.
    pub(crate) missing: Vec<&'p str>,
}

impl Namespace {
    /// Follows a path as far as it exists. Needs EXECUTE on every directory that is looked into.
    ///
    /// # Errors
    /// `PermissionDenied`; `NotADirectory` when a file is in the way.
    pub(super) fn walk<'p>(&self, who: &Who<'_>, path: &'p FsPath) -> FsResult<Walk<'p>> {
        let mut at = root(&self.store).ok_or_else(|| FsError::new(ErrorCode::Unavailable, "not formatted yet"))?;
        let mut names = path.components();
        while let Some(name) = names.next() {
            if !self.store.inode(at).is_dir() {
                return Err(FsError::new(ErrorCode::NotADirectory, "a component of the path is not a directory")
                    .with_path(path.as_str()));
            }
            who.need(&self.store, at, EXECUTE)?;
            match self.store.child(at, name) {
                Some(child) => at = child,
                None => return Ok(Walk { at, missing: std::iter::once(name).chain(names).collect() }),
            }
        }
        Ok(Walk { at, missing: Vec::new() })
    }

    /// The inode of a path.
    ///
    /// # Errors
    /// As [`Namespace::walk`], and `NotFound`.
    pub(super) fn find(&self, who: &Who<'_>, path: &FsPath) -> FsResult<u32> {
        let walk = self.walk(who, path)?;
        if walk.missing.is_empty() { Ok(walk.at) } else { Err(FsError::not_found(path.as_str())) }
    }

    /// Checks that names may be added below a directory: its kind, WRITE, its number of entries, room in memory.
    pub(super) fn check_addable(&self, who: &Who<'_>, directory: u32, inodes: usize, path: &FsPath) -> FsResult<()> {
        self.check_writable_directory(who, directory, path)?;
        self.check_entries(directory)?;
        self.check_room(inodes)?;
        self.check_owner_room(who)
    }
    /// Checks that this is a directory whose entries the caller may change.
    pub(super) fn check_writable_directory(&self, who: &Who<'_>, directory: u32, path: &FsPath) -> FsResult<()> {
        if !self.store.inode(directory).is_dir() {
            return Err(
                FsError::new(ErrorCode::NotADirectory, "the parent is not a directory").with_path(path.as_str())
            );
        }
        who.need(&self.store, directory, WRITE | EXECUTE)
    }
    /// Checks that one more entry fits into a directory.
    pub(super) fn check_entries(&self, directory: u32) -> FsResult<()> {
        let limit = u64::from(self.settings.max_directory_entries);
        if self.store.directory(directory).children.len() < limit {
            return Ok(());
        }
        Err(FsError::new(ErrorCode::NoSpace, format!("the directory holds {limit} entries, the most that it may"))
            .with_path(self.store.path(directory))
            .with_hint("use several directories"))
    }
    /// Checks that more inodes fit, with an entry each, and one more entry and block. Ids are never reused, so
    /// their end is an end, too.
    pub(super) fn check_room(&self, inodes: usize) -> FsResult<()> {
        let store = &self.store;
        let slots = store.inodes.has_room(inodes) && store.blocks.has_room(1) && store.names.has_room(inodes + 1);
        if slots && self.next.has_left(inodes as u64 + 1) {
            return Ok(());
        }
        Err(FsError::new(ErrorCode::NoSpace, "the namespace is full"))
    }
    /// Checks that the caller's name is kept already, or that there is room for one more.
    pub(super) fn check_owner_room(&self, who: &Who<'_>) -> FsResult<()> {
        if self.store.interned.has_room(who.user) {
            return Ok(());
        }
        Err(FsError::new(ErrorCode::NoSpace, "the namespace holds as many names of owners as it may")
            .with_hint("act as a user that owns something already (--user)"))
    }

    /// The caller of a command.
    pub(super) fn who_calls<'a>(&self, call: &Call<'a>) -> FsResult<Who<'a>> {
        let caller =
            call.caller.ok_or_else(|| FsError::new(ErrorCode::InvalidArgument, "the command names no caller"))?;
        self.who(caller)
    }
}

/// Twelve mode bits.
pub(super) fn mode_bits(mode: u32) -> FsResult<u16> {
    u16::try_from(mode)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| FsError::new(ErrorCode::InvalidArgument, format!("mode {mode:o} has more than twelve bits")))
}
