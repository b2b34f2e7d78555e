//! `rename`: to the exact new path, never "into a directory"; outcomes as HDFS's `rename2`. Or two names change what they
//! stand for, as Linux' `renameat2` does it with RENAME_EXCHANGE.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::Rename;
use proto::path::FsPath;

use super::mkdir::parent_missing;
use crate::namespace::access::{EXECUTE, WRITE, Who};
use crate::namespace::resolve::Last;
use crate::namespace::store::NONE;
use crate::namespace::store::totals::Totals;
use crate::namespace::{BlockEffect, Call, Namespace, Outcome};

/// Since this version of the commands names may be exchanged.
const SINCE_EXCHANGE: u32 = 6;

impl Namespace {
    /// A tree moves in one step, open files in it included: their writers name inodes.
    pub(in crate::namespace) fn rename(
        &mut self,
        call: &Call<'_>,
        rename: &Rename,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let (from, to) = (FsPath::parse(&rename.from)?, FsPath::parse(&rename.to)?);
        if to.is_root() {
            return Err(bad_move("nothing can be moved onto the root", &to));
        }
        if from.is_root() {
            return Err(bad_move("the root cannot be moved", &from));
        }
        let (_, source) = self.find_entry(&who, &from, Last::Keep)?;
        let inode = self.store.inode_of(source);
        if from == to {
            return Err(FsError::new(ErrorCode::AlreadyExists, "source and target are the same").with_path(to.as_str()));
        }
        if to.starts_with(&from) {
            return Err(bad_move("a directory cannot be moved below itself", &to));
        }
        if rename.exchange && call.version >= SINCE_EXCHANGE {
            return self.exchange(call, &who, (&from, source), &to);
        }
        let walk = self.walk(&who, &to, Last::Keep)?;
        if walk.missing.len() > 1 {
            return Err(parent_missing(&to));
        }
        self.check_new_names(&walk.missing, &to)?;
        let old = walk.missing.is_empty().then_some(walk.entry);
        if old.is_some_and(|old| self.store.inode(old).parent == NONE) {
            return Err(bad_move("nothing can be moved onto the root", &to));
        }
        let target = old.map_or(walk.at, |old| self.store.inode(old).parent);
        // Whatever the paths say: the tree is what must stay a tree, and symbolic links lead anywhere.
        if self.store.is_below(target, inode) {
            return Err(bad_move("a directory cannot be moved below itself", &to));
        }
        self.check_source(&who, source)?;
        if old == Some(source) {
            // By way of a symbolic link.
            return Err(FsError::new(ErrorCode::AlreadyExists, "source and target are the same").with_path(to.as_str()));
        }
        let name: Box<str> = match (walk.missing.last(), old) {
            (Some(name), _) => name.as_ref().into(),
            (None, Some(old)) => self.store.name(old).into(),
            (None, None) => return Err(FsError::not_found(to.as_str())),
        };
        match old {
            Some(old) => self.check_target(&who, source, target, old, rename.replace, &to)?,
            None => self.check_new_place(&who, source, target, &to)?,
        }
        self.check_quota_of_move(source, target, old)?;
        self.check_snapshots_of_move(inode, target, &to)?;
        if let Some(old) = old {
            self.check_no_snapshots_below(self.store.inode_of(old))?;
        }

        // POSIX: two names of one file, and the file stays as it is.
        if old.is_some_and(|old| self.store.inode_of(old) == inode) {
            return Ok(Outcome::Done);
        }
        let above = self.store.inode(source).parent;
        self.store.unlink(source);
        self.touch(above, call.now_ns);
        self.store.edit(inode, |inode| inode.ctime_ns = call.now_ns);
        self.put_in_place(target, &name, source, old, call.now_ns, effects);
        Ok(Outcome::Done)
    }

    /// Two entries, neither of them above the other, change places.
    fn exchange(
        &mut self,
        call: &Call<'_>,
        who: &Who<'_>,
        (from, one): (&FsPath, u32),
        to: &FsPath,
    ) -> FsResult<Outcome> {
        let (_, other) = self.find_entry(who, to, Last::Keep)?;
        let [(inode, above), (other_inode, other_above)] =
            [one, other].map(|entry| (self.store.inode_of(entry), self.store.inode(entry).parent));
        if other_above == NONE {
            return Err(bad_move("the root cannot be moved", to));
        }
        if self.store.is_below(other_above, inode) || self.store.is_below(above, other_inode) {
            return Err(bad_move("a directory cannot be moved below itself", to));
        }
        if one == other {
            return Err(FsError::new(ErrorCode::AlreadyExists, "both names are the same").with_path(to.as_str()));
        }
        self.check_source(who, one)?;
        self.check_source(who, other)?;
        self.check_quota_of_move(one, other_above, Some(other))?;
        self.check_quota_of_move(other, above, Some(one))?;
        self.check_snapshots_of_move(inode, other_above, to)?;
        self.check_snapshots_of_move(other_inode, above, from)?;
        self.check_room(0)?;

        // POSIX: two names of one file, and the file stays as it is.
        if inode == other_inode {
            return Ok(Outcome::Done);
        }
        let names: [Box<str>; 2] = [self.store.name(one).into(), self.store.name(other).into()];
        self.store.unlink(one);
        self.store.unlink(other);
        let [name, other_name] = &names;
        self.store.link(other_above, other_name, one);
        self.store.link(above, name, other);
        self.touch(above, call.now_ns);
        self.touch(other_above, call.now_ns);
        for inode in [inode, other_inode] {
            self.store.edit(inode, |inode| inode.ctime_ns = call.now_ns);
        }
        Ok(Outcome::Done)
    }

    /// Quotas that hold both places do not change; those above the new place only must have room.
    fn check_quota_of_move(&self, source: u32, target: u32, old: Option<u32>) -> FsResult<()> {
        if self.store.quotas.len() == 0 {
            return Ok(());
        }
        let above = self.store.ancestors(self.store.inode(source).parent);
        let common = self.store.ancestors(target).into_iter().find(|directory| above.contains(directory));
        let less = old.map_or_else(Totals::default, |old| self.store.weight(old));
        self.check_quota(target, self.store.weight(source), less, common.unwrap_or(NONE))
    }

    fn check_source(&self, who: &Who<'_>, source: u32) -> FsResult<()> {
        let above = self.store.inode(source).parent;
        who.need(&self.store, above, WRITE | EXECUTE)?;
        who.need_unstuck(&self.store, above, source)
    }

    fn check_new_place(&self, who: &Who<'_>, source: u32, target: u32, to: &FsPath) -> FsResult<()> {
        self.check_writable_directory(who, target, to)?;
        // Within one directory the number of entries stays: a full one is no obstacle.
        if self.store.inode(source).parent != target {
            self.check_entries(target)?;
        }
        self.check_room(0)?;
        Ok(())
    }

    fn check_target(
        &self,
        who: &Who<'_>,
        source: u32,
        directory: u32,
        old: u32,
        replace: bool,
        to: &FsPath,
    ) -> FsResult<()> {
        let refuse = |code, message: &str| Err(FsError::new(code, message).with_path(to.as_str()));
        if !replace {
            return refuse(ErrorCode::AlreadyExists, "the target exists");
        }
        match (self.store.inode(source).is_dir(), self.store.inode(old).is_dir()) {
            (false, true) => return refuse(ErrorCode::IsADirectory, "the target is a directory, the source is not"),
            (true, false) => return refuse(ErrorCode::NotADirectory, "the source is a directory, the target is not"),
            _ => {}
        }
        if self.store.inode(old).is_dir() && self.store.directory(old).children.len() > 0 {
            return refuse(ErrorCode::NotEmpty, "the target directory is not empty");
        }
        who.need(&self.store, directory, WRITE | EXECUTE)?;
        who.need_unstuck(&self.store, directory, old)
    }
}

fn bad_move(message: &str, path: &FsPath) -> FsError {
    FsError::new(ErrorCode::InvalidMove, message).with_path(path.as_str())
}
