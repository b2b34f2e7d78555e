//! From paths to inodes, with the rights that the way demands. Symbolic links are followed here, inside the state
//! machine, so that every door sees the same tree.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::path::FsPath;

use super::access::{EXECUTE, WRITE, Who};
use super::registry::root;
use super::store::NONE;
use super::store::totals::Totals;
use super::{Call, Namespace};

/// Symbolic links that one path may lead through, as in Linux.
const MAX_LINKS: u32 = 40;
/// Names that the target of a symbolic link and what follows it may have together.
const MAX_NAMES_OF_LINKS: usize = 2 * proto::path::MAX_DEPTH;
/// The name under which a directory shows its snapshots. Nothing else may have it.
pub(crate) const SNAPSHOT_DIRECTORY: &str = ".snapshot";

/// How far a path exists.
pub(crate) struct Walk<'p> {
    /// The deepest inode on the path that exists.
    pub(crate) at: u32,
    /// The entry by which the path leads to it: its own, or a further one. The inode itself for the root.
    pub(crate) entry: u32,
    /// The names below it that do not exist.
    pub(crate) missing: Vec<Cow<'p, str>>,
}

/// What happens at a symbolic link that is the last name of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Last {
    /// It stands for what it names.
    Follow,
    /// It is meant itself.
    Keep,
}

impl Last {
    /// From a request's flag.
    pub(crate) const fn keep(no_follow: bool) -> Self {
        if no_follow { Self::Keep } else { Self::Follow }
    }
}

impl Namespace {
    /// Follows a path as far as it exists. Needs EXECUTE on every directory that is looked into.
    ///
    /// # Errors
    /// `PermissionDenied`; `NotADirectory` when a file is in the way; `InvalidPath` in a loop of symbolic links.
    pub(super) fn walk<'p>(&self, who: &Who<'_>, path: &'p FsPath, last: Last) -> FsResult<Walk<'p>> {
        let top = root(&self.store).ok_or_else(|| FsError::new(ErrorCode::Unavailable, "not formatted yet"))?;
        self.follow(who, path, top, path.components().map(Cow::Borrowed), (last, 0))
    }

    fn follow<'p>(
        &self,
        who: &Who<'_>,
        path: &FsPath,
        from: u32,
        mut names: impl Iterator<Item = Cow<'p, str>>,
        (last, links): (Last, u32),
    ) -> FsResult<Walk<'p>> {
        let (mut at, mut entry) = (from, from);
        while let Some(name) = names.next() {
            if !self.store.inode(at).is_dir() {
                return Err(FsError::new(ErrorCode::NotADirectory, "a component of the path is not a directory")
                    .with_path(path.as_str()));
            }
            who.need(&self.store, at, EXECUTE)?;
            // Only the targets of symbolic links have these.
            if name == "." || name.is_empty() {
                continue;
            }
            if name == ".." {
                at = match self.store.inode(at).parent {
                    NONE => at,
                    parent => parent,
                };
                entry = at;
                continue;
            }
            let Some(child) = self.store.child(at, &name) else {
                if name == SNAPSHOT_DIRECTORY {
                    return Err(read_only(path));
                }
                return Ok(Walk { at, entry, missing: std::iter::once(name).chain(names).collect() });
            };
            let slot = self.store.inode_of(child);
            if !self.store.inode(slot).is_symlink() {
                (at, entry) = (slot, child);
                continue;
            }
            let mut rest: Vec<Cow<'p, str>> = names.collect();
            if rest.is_empty() && last == Last::Keep {
                return Ok(Walk { at: slot, entry: child, missing: rest });
            }
            if links >= MAX_LINKS {
                return Err(FsError::new(ErrorCode::InvalidPath, "too many symbolic links, perhaps in a loop")
                    .with_path(path.as_str()));
            }
            let target = self.store.target(slot);
            let from = if target.starts_with('/') { root(&self.store).unwrap_or(at) } else { at };
            let mut names: Vec<Cow<'p, str>> = target.split('/').map(|name| Cow::Owned(name.to_owned())).collect();
            names.append(&mut rest);
            if names.len() > MAX_NAMES_OF_LINKS {
                return Err(FsError::new(ErrorCode::InvalidPath, "symbolic links lead through too many names")
                    .with_path(path.as_str()));
            }
            // The names are owned: one level of calls for each link, at most MAX_LINKS.
            let names: Box<dyn Iterator<Item = Cow<'p, str>>> = Box::new(names.into_iter());
            return self.follow(who, path, from, names, (last, links + 1));
        }
        Ok(Walk { at, entry, missing: Vec::new() })
    }

    /// The inode of a path, and the entry by which it was found.
    ///
    /// # Errors
    /// As [`Namespace::walk`], and `NotFound`.
    pub(super) fn find_entry(&self, who: &Who<'_>, path: &FsPath, last: Last) -> FsResult<(u32, u32)> {
        let walk = self.walk(who, path, last)?;
        if walk.missing.is_empty() { Ok((walk.at, walk.entry)) } else { Err(FsError::not_found(path.as_str())) }
    }
    /// The inode of a path.
    ///
    /// # Errors
    /// As [`Namespace::find_entry`].
    pub(super) fn find(&self, who: &Who<'_>, path: &FsPath, last: Last) -> FsResult<u32> {
        self.find_entry(who, path, last).map(|(slot, _)| slot)
    }

    /// Checks names that are about to be made: those that came out of the target of a symbolic link were not looked
    /// at yet, and `.snapshot` is nobody's.
    ///
    /// # Errors
    /// `InvalidPath`, `NameTooLong`.
    pub(super) fn check_new_names(&self, names: &[Cow<'_, str>], path: &FsPath) -> FsResult<()> {
        for name in names {
            if name == SNAPSHOT_DIRECTORY {
                return Err(read_only(path));
            }
            if let Cow::Owned(name) = name {
                proto::path::check_name(name)?;
            }
        }
        Ok(())
    }

    /// Checks that names may be added below a directory: its kind, WRITE, its number of entries, room in memory, the
    /// quotas above it.
    pub(super) fn check_addable(
        &self,
        who: &Who<'_>,
        directory: u32,
        names: &[Cow<'_, str>],
        path: &FsPath,
    ) -> FsResult<()> {
        self.check_new_names(names, path)?;
        self.check_writable_directory(who, directory, path)?;
        self.check_entries(directory)?;
        self.check_room(names.len())?;
        self.check_owner_room(who)?;
        self.check_quota(
            directory,
            Totals { directories: names.len() as u64, ..Totals::default() },
            Totals::default(),
            NONE,
        )
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
        self.check_text_room(who.user)
    }
    /// As [`Namespace::check_owner_room`], for any name of a user or group.
    pub(super) fn check_text_room(&self, name: &str) -> FsResult<()> {
        if self.store.interned.has_room(name) {
            return Ok(());
        }
        Err(FsError::new(ErrorCode::NoSpace, "the namespace holds as many names of owners as it may")
            .with_hint("act as a user that owns something already (--user)"))
    }
    /// Checks that the quotas of a directory and of all above it, up to but without `until`, allow `more` instead of
    /// `less`. A quota that is exceeded already refuses growth only.
    ///
    /// # Errors
    /// `QuotaExceeded`, naming the directory, its limit and what it holds.
    pub(super) fn check_quota(&self, from: u32, more: Totals, less: Totals, until: u32) -> FsResult<()> {
        if self.store.quotas.len() == 0 {
            return Ok(());
        }
        let mut at = from;
        while at != NONE && at != until {
            self.check_quota_at(at, more, less)?;
            at = self.store.inode(at).parent;
        }
        Ok(())
    }
    /// Checks the space of every directory that lists a file: it grows by `more` instead of `less` once for each name of
    /// the file below it, and loses `sources` where they are below it. Directories of trees that are gone have no say:
    /// their totals are not kept, and an image that was loaded counts them anew.
    pub(super) fn check_space_of_names(&self, slot: u32, more: u64, less: u64, sources: &[u32]) -> FsResult<()> {
        if self.store.quotas.len() == 0 {
            return Ok(());
        }
        let mut names: BTreeMap<u32, u64> = BTreeMap::new();
        for (parent, count) in self.store.names_by_directory(slot) {
            if self.store.hangs(parent) {
                for directory in self.store.ancestors(parent) {
                    *names.entry(directory).or_default() += count;
                }
            }
        }
        // By id: slots are each member's own, and which quota is named must be the same everywhere.
        let mut names: Vec<(u64, u32, u64)> =
            names.into_iter().map(|(directory, count)| (self.store.inode(directory).id, directory, count)).collect();
        names.sort_unstable();
        let from = sources.first().map(|source| self.store.ancestors(self.store.inode(*source).parent));
        let gone: u64 = sources.iter().map(|source| self.store.weight(*source).space_bytes).sum();
        for (_, directory, count) in names {
            let loses = from.as_ref().is_some_and(|above| above.contains(&directory));
            let space = |bytes: u64| Totals { space_bytes: bytes, ..Totals::default() };
            let less = less.saturating_mul(count).saturating_add(if loses { gone } else { 0 });
            self.check_quota_at(directory, space(more.saturating_mul(count)), space(less))?;
        }
        Ok(())
    }
    fn check_quota_at(&self, at: u32, more: Totals, less: Totals) -> FsResult<()> {
        let quota = self.store.quota_of(at);
        let below = self.store.directory(at).below;
        let grows = |more: u64, less: u64| more > less;
        let after = |used: u64, more: u64, less: u64| used.saturating_add(more).saturating_sub(less);
        let (names, space) = (
            after(below.names() + 1, more.names(), less.names()),
            after(below.space_bytes, more.space_bytes, less.space_bytes),
        );
        if let Some(limit) = quota.names.filter(|limit| names > *limit && grows(more.names(), less.names())) {
            return Err(self.over_quota(at, &format!("the quota of {limit} names: it would hold {names}")));
        }
        if let Some(limit) =
            quota.space_bytes.filter(|limit| space > *limit && grows(more.space_bytes, less.space_bytes))
        {
            return Err(self.over_quota(
                at,
                &format!("the space quota of {limit} bytes: it would take {space}, all copies counted"),
            ));
        }
        Ok(())
    }
    fn over_quota(&self, directory: u32, what: &str) -> FsError {
        FsError::new(ErrorCode::QuotaExceeded, format!("the directory would exceed {what}"))
            .with_path(self.store.path(directory))
            .with_hint("remove something, or ask a superuser for more (blockyard quota set)")
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

/// A snapshot cannot be changed, and nothing can be called as its directory is.
pub(super) fn read_only(path: &FsPath) -> FsError {
    FsError::new(ErrorCode::ReadOnly, "snapshots are read-only, and \".snapshot\" is a reserved name")
        .with_path(path.as_str())
        .with_hint("copy what you need out of the snapshot")
}
