//! `mkdir`, with parents if asked.

use std::borrow::Cow;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::Mkdir;
use proto::path::FsPath;

use super::OWNER_WRITE_EXECUTE;
use super::make::{Maker, passes_setgid};
use crate::namespace::resolve::{Last, mode_bits};
use crate::namespace::{Call, Namespace, Outcome};

impl Namespace {
    /// With `parents`, missing parents are made (with the mode, and rights of their owner to go on), and a
    /// directory that is there already is success; its mode stays.
    pub(in crate::namespace) fn mkdir(&mut self, call: &Call<'_>, mkdir: &Mkdir) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&mkdir.path)?;
        let mode = mode_bits(mkdir.mode)?;
        let unmasked = mkdir.unmasked_mode.map(mode_bits).transpose()?;
        let walk = self.walk(&who, &path, Last::Follow)?;
        if walk.missing.is_empty() {
            return self.already_there(walk.at, mkdir.parents, &path).map(Outcome::Mkdir);
        }
        if walk.missing.len() > 1 && !mkdir.parents {
            return Err(parent_missing(&path));
        }
        self.check_addable(&who, walk.at, &walk.missing, &path)?;

        let owner = self.store.interned.intern(who.user);
        let maker = Maker {
            owner,
            mode: mode | OWNER_WRITE_EXECUTE,
            unmasked,
            now_ns: call.now_ns,
            passes_setgid: passes_setgid(call),
        };
        let slot = self.make_directories(walk.at, &walk.missing, &maker, mode);
        Ok(Outcome::Mkdir(self.status(slot, path.as_str())))
    }

    fn already_there(&self, slot: u32, parents: bool, path: &FsPath) -> FsResult<proto::namespace::FileStatus> {
        if self.store.inode(slot).is_dir() && parents {
            return Ok(self.status(slot, path.as_str()));
        }
        let message = if self.store.inode(slot).is_dir() { "the directory exists" } else { "a file has this name" };
        Err(FsError::new(ErrorCode::AlreadyExists, message).with_path(path.as_str()))
    }

    /// Makes directories one below the other; returns the last, which gets the mode `last`. All rights and limits are
    /// checked already.
    pub(super) fn make_directories(&mut self, top: u32, names: &[Cow<'_, str>], maker: &Maker, last: u16) -> u32 {
        self.work += 8 * names.len().saturating_sub(1);
        let mut slots = vec![top];
        let mut at = top;
        for i in 0..names.len() {
            let mode = if i + 1 == names.len() { last } else { maker.mode };
            at = self.new_directory(at, &Maker { mode, ..*maker });
            slots.push(at);
        }
        // From below: so each is added to the totals of one directory, and only the topmost to those of all above it.
        for (i, name) in names.iter().enumerate().rev() {
            self.store.link(slots[i], name, slots[i + 1]);
            self.touch(slots[i], maker.now_ns);
        }
        at
    }
}

/// The directory above a path is not there.
pub(super) fn parent_missing(path: &FsPath) -> FsError {
    FsError::new(ErrorCode::NotFound, "the parent directory does not exist")
        .with_path(path.parent().map_or_else(String::new, |parent| parent.as_str().to_owned()))
        .with_hint("make it first (mkdir -p), or ask for missing parents to be made")
}
