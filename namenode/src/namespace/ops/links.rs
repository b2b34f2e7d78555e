//! Symbolic links, and further names of files.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::{Link, Symlink};
use proto::path::{FsPath, MAX_PATH_BYTES};

use super::OWNER_WRITE_EXECUTE;
use super::make::{Maker, passes_setgid};
use super::mkdir::parent_missing;
use crate::namespace::access::{READ, WRITE};
use crate::namespace::resolve::Last;
use crate::namespace::store::NONE;
use crate::namespace::store::records::Kind;
use crate::namespace::store::totals::Totals;
use crate::namespace::{Call, Namespace, Outcome, registry};

/// Most names of one file: whatever changes its size goes to every directory that lists it, in one step.
pub(in crate::namespace) const MAX_NAMES: u32 = 1000;
/// The same of entries before version 3.
const MAX_NAMES_ONCE: u32 = 65_000;

impl Namespace {
    /// The target is kept as it is given; whether it exists shows when the link is followed.
    pub(in crate::namespace) fn symlink(&mut self, call: &Call<'_>, symlink: &Symlink) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&symlink.path)?;
        check_target(&symlink.target)?;
        let walk = self.walk(&who, &path, Last::Keep)?;
        if walk.missing.is_empty() {
            return Err(FsError::new(ErrorCode::AlreadyExists, "the name exists").with_path(path.as_str()));
        }
        if walk.missing.len() > 1 && !symlink.parents {
            return Err(parent_missing(&path));
        }
        self.check_addable(&who, walk.at, &walk.missing, &path)?;
        let Some((name, parents)) = walk.missing.split_last() else { return Err(parent_missing(&path)) };

        let owner = self.store.interned.intern(who.user);
        let mode = self.store.inode(walk.at).mode & 0o777 | OWNER_WRITE_EXECUTE;
        let maker = Maker { owner, mode, unmasked: None, now_ns: call.now_ns, passes_setgid: passes_setgid(call) };
        let directory = self.make_directories(walk.at, parents, &maker, mode);
        let link = self.new_inode(Kind::Symlink, &Maker { mode: 0o777, ..maker }, directory);
        let slot = self.store.add_inode(link);
        self.store.set_target(slot, Some(symlink.target.as_str().into()));
        self.store.link(directory, name, slot);
        self.touch(directory, call.now_ns);
        Ok(Outcome::Status(self.status(slot, path.as_str())))
    }

    /// Needs the right to write to the new directory. Directories have one name.
    pub(in crate::namespace) fn link(&mut self, call: &Call<'_>, link: &Link) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let (existing, path) = (FsPath::parse(&link.existing)?, FsPath::parse(&link.path)?);
        let slot = self.find(&who, &existing, Last::Keep)?;
        let inode = self.store.inode(slot);
        if inode.is_dir() {
            return Err(FsError::new(ErrorCode::IsADirectory, "a directory has one name only")
                .with_path(existing.as_str())
                .with_hint("make a symbolic link (ln -s)"));
        }
        // Others' files could be kept alive, and charged, against their will.
        let usable = inode.is_file() && who.may(&self.store, slot, READ | WRITE);
        if !(who.owns(&self.store, slot) || usable) {
            return Err(who.denied(&self.store, slot, "READ_WRITE access, or ownership, to give it another name"));
        }
        let walk = self.walk(&who, &path, Last::Keep)?;
        match walk.missing.len() {
            0 => return Err(FsError::new(ErrorCode::AlreadyExists, "the name exists").with_path(path.as_str())),
            1 => {}
            _ => return Err(parent_missing(&path)),
        }
        self.check_addable(&who, walk.at, &walk.missing, &path)?;
        self.check_quota(walk.at, self.store.weight(slot), Totals::default(), NONE)?;
        let most = if call.version < 3 { MAX_NAMES_ONCE } else { MAX_NAMES };
        if self.store.nlink(slot) >= most {
            return Err(registry::invalid(format!("the file has {most} names, the most that it may"))
                .with_path(existing.as_str())
                .with_hint("make a symbolic link (ln -s), or a copy to link further names to"));
        }

        let id = self.next_inode_id();
        let entry = self.store.add_link(id, slot);
        let Some(name) = walk.missing.last() else { return Err(parent_missing(&path)) };
        self.store.link(walk.at, name, entry);
        self.touch(walk.at, call.now_ns);
        self.store.edit(slot, |inode| inode.ctime_ns = call.now_ns);
        Ok(Outcome::Status(self.status(slot, path.as_str())))
    }
}

fn check_target(target: &str) -> FsResult<()> {
    let refuse = |why: &str| Err(FsError::new(ErrorCode::InvalidPath, format!("no target of a symbolic link: {why}")));
    if target.is_empty() || target.len() > MAX_PATH_BYTES {
        return refuse(&format!("it has 1 to {MAX_PATH_BYTES} bytes"));
    }
    if target.contains('\0') {
        return refuse("it has a NUL byte");
    }
    Ok(())
}
