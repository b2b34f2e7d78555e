//! `create`: a file under construction, visible at once or pinned to its place until it is complete.
//!
//! ```text
//!   publish on close:  create ─▶ unlinked inode + Pin{directory id, name} ─▶ complete links it, or replaces
//!   at once:           create ─▶ linked inode, listed as open             ─▶ complete closes it
//! ```

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{InodeId, LeaseEpoch, SessionId};
use proto::log::Create;
use proto::path::FsPath;

use super::OWNER_WRITE_EXECUTE;
use super::make::{Maker, passes_setgid};
use super::mkdir::parent_missing;
use crate::namespace::access::{EXECUTE, WRITE, Who};
use crate::namespace::resolve::{Last, mode_bits};
use crate::namespace::store::NONE;
use crate::namespace::store::records::{BLOCK_SIZE_UNIT, Kind, Open, Pin, flags};
use crate::namespace::store::totals::Totals;
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, registry};

/// What a create asks for, checked.
struct Wanted {
    mode: u16,
    unmasked: Option<u16>,
    replication: u16,
    block_size_units: u32,
    first_block: Option<Vec<u32>>,
}

impl Namespace {
    /// The file that is overwritten is unlinked here if the new one is visible at once, else at complete.
    pub(in crate::namespace) fn create(
        &mut self,
        call: &Call<'_>,
        create: &Create,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&create.path)?;
        let wanted = self.wanted(create)?;
        let walk = self.walk(&who, &path, Last::Follow)?;
        let Some(above) = path.parent() else {
            return Err(FsError::new(ErrorCode::IsADirectory, "the root is a directory").with_path("/"));
        };
        // Through symbolic links: the names that count are those of what was found, or is to be made.
        let old = walk.missing.is_empty().then_some(walk.entry);
        let directory = match old {
            Some(old) if self.store.inode(old).parent == NONE => {
                return Err(FsError::new(ErrorCode::IsADirectory, "the root is a directory").with_path("/"));
            }
            Some(old) => self.store.inode(old).parent,
            None => walk.at,
        };
        if let Some(old) = old {
            self.check_replaceable(&who, directory, old, create.overwrite, path.as_str())?;
            who.need(&self.store, directory, WRITE | EXECUTE)?;
            self.check_room(1)?;
            self.check_owner_room(&who)?;
        } else {
            if walk.missing.len() > 1 && !create.parents {
                return Err(parent_missing(&path));
            }
            self.check_addable(&who, directory, &walk.missing, &above)?;
        }
        let name: Box<str> = match (walk.missing.last(), old) {
            (Some(name), _) => name.as_ref().into(),
            (None, Some(old)) => self.store.name(old).into(),
            (None, None) => return Err(FsError::not_found(path.as_str())),
        };
        if wanted.first_block.is_some() {
            self.check_block_quota(directory, wanted.block_size_units, wanted.replication, old)?;
        }

        let owner = self.store.interned.intern(who.user);
        let directory = match walk.missing.split_last() {
            Some((_, parents)) if !parents.is_empty() => {
                let mode = self.store.inode(directory).mode & 0o777 | OWNER_WRITE_EXECUTE;
                let maker =
                    Maker { owner, mode, unmasked: None, now_ns: call.now_ns, passes_setgid: passes_setgid(call) };
                self.make_directories(directory, parents, &maker, mode)
            }
            _ => directory,
        };
        let maker = Maker {
            owner,
            mode: wanted.mode,
            unmasked: wanted.unmasked,
            now_ns: call.now_ns,
            passes_setgid: passes_setgid(call),
        };
        let mut inode = self.new_inode(Kind::File, &maker, directory);
        inode.replication = wanted.replication;
        inode.block_size_units = wanted.block_size_units;
        let slot = self.store.add_inode(inode);
        self.inherit(directory, slot, &maker);
        let pin = if create.publish_at_once {
            self.put_in_place(directory, &name, slot, old, call.now_ns, effects);
            None
        } else {
            let parent = self.store.inode(directory).id;
            Some(Pin { parent, name, overwrite: create.overwrite })
        };
        let lease_epoch = self.take_lease(slot, call.session, pin);
        let first_block = wanted.first_block.map(|homes| self.allocate(slot, &homes, effects));
        let status = self.status(slot, path.as_str());
        Ok(Outcome::Create { inode: InodeId::from_raw(inode.id), lease_epoch, first_block, status })
    }

    /// Replication and block size of a new file, in bytes: what was asked for, where 0 is the cluster's default.
    ///
    /// # Errors
    /// `InvalidArgument` if the settings do not allow them.
    pub fn sizes_of_new_file(&self, replication: u32, block_size_bytes: u64) -> FsResult<(u32, u64)> {
        let settings = &self.settings;
        let replication = if replication == 0 { settings.default_replication } else { replication };
        let block_size_bytes = if block_size_bytes == 0 { settings.default_block_size_bytes } else { block_size_bytes };
        if replication > settings.max_replication {
            let most = settings.max_replication;
            return Err(registry::invalid(format!("replication {replication} is above the limit of {most}")));
        }
        let (least, most) = (settings.min_block_size_bytes, settings.max_block_size_bytes);
        if !(least..=most).contains(&block_size_bytes) || !block_size_bytes.is_multiple_of(BLOCK_SIZE_UNIT) {
            return Err(registry::invalid(format!(
                "block size {block_size_bytes} is not a multiple of {BLOCK_SIZE_UNIT} from {least} to {most}"
            )));
        }
        Ok((replication, block_size_bytes))
    }

    fn wanted(&self, create: &Create) -> FsResult<Wanted> {
        let (replication, block_size_bytes) = self.sizes_of_new_file(create.replication, create.block_size_bytes)?;
        let range = |error: std::num::TryFromIntError| registry::invalid(error.to_string());
        Ok(Wanted {
            mode: mode_bits(create.mode)?,
            unmasked: create.unmasked_mode.map(mode_bits).transpose()?,
            replication: u16::try_from(replication).map_err(range)?,
            block_size_units: u32::try_from(block_size_bytes / BLOCK_SIZE_UNIT).map_err(range)?,
            first_block: create.with_first_block.then(|| self.targets(&create.first_block_storages)).transpose()?,
        })
    }

    /// Checks that the quotas of a directory allow one more block in full. The file that is replaced frees its space.
    pub(super) fn check_block_quota(
        &self,
        directory: u32,
        block_size_units: u32,
        replication: u16,
        old: Option<u32>,
    ) -> FsResult<()> {
        let space_bytes = (u64::from(block_size_units) * BLOCK_SIZE_UNIT).saturating_mul(u64::from(replication));
        let less = old.map_or_else(Totals::default, |old| self.store.weight(old));
        self.check_quota(directory, Totals { space_bytes, ..Totals::default() }, less, NONE)
    }

    /// May a file take the place of this entry?
    pub(super) fn check_replaceable(
        &self,
        who: &Who<'_>,
        directory: u32,
        old: u32,
        overwrite: bool,
        path: &str,
    ) -> FsResult<()> {
        let inode = self.store.inode(self.store.inode_of(old));
        let refuse = |code, message: &str| Err(FsError::new(code, message).with_path(path));
        if inode.is_dir() {
            return refuse(ErrorCode::IsADirectory, "a directory has this name");
        }
        if !overwrite {
            return if inode.has(flags::OPEN) {
                refuse(ErrorCode::FileOpen, "the file exists and is being written")
            } else {
                refuse(ErrorCode::AlreadyExists, "the file exists")
            };
        }
        // As POSIX opens a file to replace what is in it: the right to write counts. A symbolic link has no mode.
        if !inode.is_symlink() {
            who.need(&self.store, self.store.inode_of(old), WRITE)?;
        }
        who.need_unstuck(&self.store, directory, old)
    }

    /// Links an entry into a directory, instead of the one that has its name, if any.
    pub(super) fn put_in_place(
        &mut self,
        directory: u32,
        name: &str,
        slot: u32,
        old: Option<u32>,
        now_ns: i64,
        effects: &mut Vec<BlockEffect>,
    ) {
        if let Some(old) = old {
            self.remove_entry(old, now_ns, effects);
        }
        self.store.link(directory, name, slot);
        self.touch(directory, now_ns);
    }

    /// Somebody begins to write a file.
    pub(super) fn take_lease(&mut self, slot: u32, session: Option<SessionId>, pin: Option<Pin>) -> LeaseEpoch {
        let epoch = self.next.epoch;
        self.next.epoch = epoch.next();
        self.store.set_open(slot, Open::by(epoch.raw(), session, pin));
        self.sessions.lease_taken(session);
        epoch
    }
}
