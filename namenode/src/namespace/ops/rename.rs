//! `rename`: to the exact new path, never "into a directory"; outcomes as HDFS's `rename2`.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::Rename;
use proto::path::FsPath;

use super::mkdir::parent_missing;
use crate::namespace::access::{EXECUTE, WRITE, Who};
use crate::namespace::{BlockEffect, Call, Namespace, Outcome};

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
        let Some(name) = to.name() else { return Err(bad_move("nothing can be moved onto the root", &to)) };
        if from.is_root() {
            return Err(bad_move("the root cannot be moved", &from));
        }
        let source = self.find(&who, &from)?;
        if from == to {
            return Err(FsError::new(ErrorCode::AlreadyExists, "source and target are the same").with_path(to.as_str()));
        }
        if to.starts_with(&from) {
            return Err(bad_move("a directory cannot be moved below itself", &to));
        }
        let walk = self.walk(&who, &to)?;
        if walk.missing.len() > 1 {
            return Err(parent_missing(&to));
        }
        let old = walk.missing.is_empty().then_some(walk.at);
        let target = old.map_or(walk.at, |old| self.store.inode(old).parent);
        self.check_source(&who, source)?;
        match old {
            Some(old) => self.check_target(&who, source, target, old, rename.replace, &to)?,
            None => self.check_new_place(&who, source, target, &to)?,
        }

        let above = self.store.inode(source).parent;
        self.store.unlink(source);
        self.touch(above, call.now_ns);
        self.store.edit(source, |inode| inode.ctime_ns = call.now_ns);
        self.put_in_place(target, name, source, old, call.now_ns, effects);
        Ok(Outcome::Done)
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
        // The paths decide this already; the tree is what must stay a tree.
        if self.store.is_below(target, source) {
            return Err(bad_move("a directory cannot be moved below itself", to));
        }
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
