//! Mode, owner, group, times, replication: what is named is set, all of it or nothing. Rights as in HDFS and POSIX.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, InodeId};
use proto::log::{SetAccessTimes, SetAttributes};
use proto::path::FsPath;

use crate::namespace::access::{WRITE, Who, check_principal};
use crate::namespace::resolve::{Last, mode_bits};
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, registry};

/// The set-group-id bit: an owner outside the group may not set it.
const SET_GROUP_ID: u16 = 0o2000;

/// A change of attributes, checked.
#[derive(Default)]
struct Wanted {
    mode: Option<u16>,
    owner: Option<String>,
    group: Option<String>,
    mtime_ns: Option<i64>,
    atime_ns: Option<i64>,
    replication: Option<u16>,
}

impl Namespace {
    pub(in crate::namespace) fn set_attributes(
        &mut self,
        call: &Call<'_>,
        set: &SetAttributes,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&set.path)?;
        let slot = self.find(&who, &path, Last::keep(set.no_follow))?;
        self.work += self.store.links_of(slot).len();
        if set.mode.or(set.replication).is_none()
            && set.mtime_ns.or(set.atime_ns).is_none()
            && !(set.mtime_now || set.atime_now)
            && [&set.owner, &set.group].into_iter().flatten().all(String::is_empty)
        {
            return Err(registry::invalid("the call names no attribute to set".to_owned()));
        }
        let mut wanted = self.wanted_attributes(&who, slot, set, call.now_ns)?;
        if let Some(replication) = wanted.replication {
            self.check_replication(slot, replication, &path)?;
        }
        if let Some(mode) = &mut wanted.mode {
            // As in POSIX: who is not in the group, the new one if it changes, loses the bit silently.
            let group = wanted.group.as_deref().unwrap_or_else(|| self.store.text(self.store.inode(slot).group));
            if !who.superuser && !who.is_in(group) {
                *mode &= !SET_GROUP_ID;
            }
        }

        let (new_owner, new_rights) = (wanted.owner.is_some(), wanted.mode.is_some() || wanted.group.is_some());
        let owner = wanted.owner.map(|owner| self.store.interned.intern(&owner));
        let group = wanted.group.map(|group| self.store.interned.intern(&group));
        self.store.edit(slot, |inode| {
            inode.mode = wanted.mode.unwrap_or(inode.mode);
            inode.owner = owner.unwrap_or(inode.owner);
            inode.group = group.unwrap_or(inode.group);
            inode.mtime_ns = wanted.mtime_ns.unwrap_or(inode.mtime_ns);
            inode.atime_ns = wanted.atime_ns.unwrap_or(inode.atime_ns);
            inode.ctime_ns = call.now_ns;
        });
        self.note_rights_of(slot, new_owner, new_rights);
        if let Some(replication) = wanted.replication {
            self.set_replication(slot, replication, effects);
        }
        Ok(Outcome::Status(self.status(slot, path.as_str())))
    }

    fn wanted_attributes(&self, who: &Who<'_>, slot: u32, set: &SetAttributes, now_ns: i64) -> FsResult<Wanted> {
        let inode = self.store.inode(slot);
        let mut wanted = Wanted::default();
        if let Some(mode) = set.mode {
            who.need_ownership(&self.store, slot)?;
            if inode.is_symlink() {
                return Err(registry::invalid("a symbolic link has no mode of its own".to_owned()));
            }
            wanted.mode = Some(mode_bits(mode)?);
        }
        wanted.owner = self.wanted_owner(who, slot, set.owner.as_deref())?;
        wanted.group = self.wanted_group(who, slot, set.group.as_deref())?;
        // As in HDFS; POSIX lets only owners set another time than the present one.
        let times = set.mtime_ns.or(set.atime_ns).is_some() || set.mtime_now || set.atime_now;
        if times && !who.owns(&self.store, slot) {
            who.need(&self.store, slot, WRITE)?;
        }
        wanted.mtime_ns = if set.mtime_now { Some(now_ns) } else { set.mtime_ns };
        wanted.atime_ns = if set.atime_now { Some(now_ns) } else { set.atime_ns };
        if let Some(replication) = set.replication {
            who.need(&self.store, slot, WRITE)?;
            wanted.replication = Some(self.copies(replication)?);
        }
        Ok(wanted)
    }

    fn wanted_owner(&self, who: &Who<'_>, slot: u32, owner: Option<&str>) -> FsResult<Option<String>> {
        let Some(owner) = owner.filter(|owner| !owner.is_empty()) else { return Ok(None) };
        check_principal("user", owner)?;
        if self.store.text(self.store.inode(slot).owner) != owner {
            who.need_superuser("change owners")?;
        } else {
            who.need_ownership(&self.store, slot)?;
        }
        self.check_text_room(owner)?;
        Ok(Some(owner.to_owned()))
    }
    fn wanted_group(&self, who: &Who<'_>, slot: u32, group: Option<&str>) -> FsResult<Option<String>> {
        let Some(group) = group.filter(|group| !group.is_empty()) else { return Ok(None) };
        check_principal("group", group)?;
        who.need_ownership(&self.store, slot)?;
        if !who.superuser && !who.is_in(group) {
            let text = format!("permission denied: {} does not belong to the group {group}", who.user);
            return Err(FsError::new(ErrorCode::PermissionDenied, text).with_path(self.store.path(slot)));
        }
        self.check_text_room(group)?;
        Ok(Some(group.to_owned()))
    }

    /// Says it to whoever looks through the tree: rights on a directory count there, and owners in sticky directories.
    fn note_rights_of(&mut self, slot: u32, new_owner: bool, new_rights: bool) {
        if self.store.inode(slot).is_dir() && (new_owner || new_rights) {
            self.store.rights_changed(slot);
        }
        if new_owner {
            let sticky = |parent: &u32| self.store.inode(*parent).is_sticky();
            let above: Vec<u32> = self.store.parents_of(slot).filter(sticky).collect();
            for directory in above {
                self.store.rights_changed(directory);
            }
        }
    }

    /// Copies that a caller may ask for.
    fn copies(&self, replication: u32) -> FsResult<u16> {
        let most = self.settings.max_replication;
        u16::try_from(replication)
            .ok()
            .filter(|copies| *copies > 0 && u32::from(*copies) <= most)
            .ok_or_else(|| registry::invalid(format!("replication is 1 to {most}, not {replication}")))
    }
    fn check_replication(&self, slot: u32, replication: u16, path: &FsPath) -> FsResult<()> {
        let inode = self.store.inode(slot);
        if !inode.is_file() {
            let code = if inode.is_dir() { ErrorCode::IsADirectory } else { ErrorCode::InvalidArgument };
            return Err(FsError::new(code, "only files have copies").with_path(path.as_str()));
        }
        let weight = self.store.weight(slot);
        let per_copy = weight.space_bytes / u64::from(inode.replication.max(1));
        self.check_space_of_names(slot, per_copy.saturating_mul(u64::from(replication)), weight.space_bytes, &[])
    }
    /// Changes the copies wanted of a file and of its blocks.
    pub(super) fn set_replication(&mut self, slot: u32, replication: u16, effects: &mut Vec<BlockEffect>) {
        if self.store.inode(slot).replication == replication {
            return;
        }
        self.store.reweigh(slot, |store| store.edit(slot, |inode| inode.replication = replication));
        let block = |block: u32| BlockEffect::Replicated {
            block: BlockId::from_raw(self.store.block(block).id),
            replication: u32::from(replication),
        };
        effects.extend(self.store.chain(slot).map(block));
    }

    /// What the leader saw: later than what is known, and never a reason to refuse anything.
    pub(in crate::namespace) fn set_access_times(&mut self, set: &SetAccessTimes) -> Outcome {
        for (inode, atime_ns) in set.inodes.iter().zip(&set.atime_ns) {
            let slot = self.store.slot(InodeId::from_raw(*inode).raw());
            let Some(slot) = slot.filter(|slot| self.store.inode(*slot).atime_ns < *atime_ns) else { continue };
            if self.store.alive(slot) {
                self.store.edit(slot, |inode| inode.atime_ns = *atime_ns);
            }
        }
        Outcome::Done
    }
}
