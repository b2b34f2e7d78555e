//! Requests on names: what the namespace does by itself.

use std::time::Duration;

use client::{Attributes, Client, ErrorCode, FileKind, FileStatus, FsError, Replace, Time};
use fuser::{FileAttr, TimeOrNow};

use crate::attr::{attr, given_ns};
use crate::changes::Asked;
use crate::config::SyncAt;
use crate::core::{Answer, Core};
use crate::errno::Errno;
use crate::files::without_setuid;
use crate::inodes::{ROOT, Version};
use crate::open_file::{OpenFile, State};
use crate::people::groups_of;

/// Where snapshots are looked at. Their inodes have the numbers of what is there now, and one number is one file to the
/// kernel: they are not shown.
const SNAPSHOTS: &str = ".snapshot";

/// Times that the cluster is asked for something that this mount changes meanwhile.
pub(crate) const ASKS: u32 = 16;

/// Bits of a mode.
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
/// Rights of `check_access`.
const WRITE: u32 = 2;
const WRITE_AND_SEARCH: u32 = 3;

/// What `setattr` changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) len_bytes: Option<u64>,
    /// By a descriptor.
    pub(crate) handle: Option<u64>,
    pub(crate) atime: Option<TimeOrNow>,
    pub(crate) mtime: Option<TimeOrNow>,
    /// Group and process of who asks for it.
    pub(crate) by: (u32, u32),
}

impl Change {
    /// Another owner, or a change of the content by anybody but root, ends setuid, as the kernel expects of who takes this upon
    /// himself.
    fn ends_setuid(&self, by: u32) -> bool {
        let given = self.uid.is_some() || self.gid.is_some();
        self.mode.is_none() && (given || self.len_bytes.is_some() && by != 0)
    }

    fn changes_attributes(&self) -> bool {
        self.mode.is_some() || self.uid.is_some() || self.gid.is_some() || self.atime.is_some() || self.mtime.is_some()
    }
}

/// What `statfs` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) capacity_bytes: u64,
    pub(crate) available_bytes: u64,
    pub(crate) names: u64,
}

fn time(time: TimeOrNow) -> Time {
    match time {
        TimeOrNow::Now => Time::Now,
        TimeOrNow::SpecificTime(at) => Time::At(given_ns(at)),
    }
}

/// Whoever may write may say "now"; the rest is the owner's.
fn is_only_now(attributes: &Attributes) -> bool {
    let times = [attributes.mtime, attributes.atime];
    attributes.mode.is_none()
        && attributes.owner.is_none()
        && attributes.group.is_none()
        && !times.iter().any(|time| matches!(time, Some(Time::At(_))))
}

impl Core {
    /// The kernel is told of a name that this mount has made.
    fn tell_made(&self, directory: u64, name: &str, status: &FileStatus) -> FileAttr {
        let number = self.inodes.lock().made(directory, name, status.inode);
        self.show_over(number, status, self.config.attribute_ttl)
    }
    /// The kernel is told of a name, which it believes for a while, unless this mount changed what it is since the cluster was
    /// asked.
    pub(crate) fn tell_if_new(
        &self,
        asked: Asked,
        (directory, name): (u64, &str),
        status: &FileStatus,
        believed: Duration,
    ) -> Option<FileAttr> {
        let number = self.inodes.lock().told_if_new(asked, directory, name, status.inode)?;
        let attr = self.show_over(number, status, believed);
        // A commit may have ended between the two steps.
        let mut inodes = self.inodes.lock();
        if inodes.is_old_inode(asked, status.inode) {
            inodes.forget(number, 1);
            return None;
        }
        Some(attr)
    }
    /// Attributes for the kernel, with what is newer here.
    fn show_over(&self, number: u64, status: &FileStatus, believed: Duration) -> FileAttr {
        match self.file(number) {
            Some(file) => {
                let shown = file.seen.lock().over(status.clone());
                self.show(number, &shown, believed)
            }
            None => self.show(number, status, believed),
        }
    }

    /// Attributes for the kernel.
    fn show(&self, number: u64, status: &FileStatus, believed: Duration) -> FileAttr {
        let believed_ns = i64::try_from(believed.as_nanos()).unwrap_or(i64::MAX);
        let plain_until_ns = if status.has_acl { 0 } else { self.now_ns().saturating_add(believed_ns) };
        self.inodes.lock().shows(number, Version::of(status), plain_until_ns);
        attr(number, status, &self.people)
    }

    /// A file that somebody else is writing is as long as what was flushed of it.
    async fn visible(&self, path: &str, status: FileStatus) -> FileStatus {
        let number = self.inodes.lock().number_of(status.inode);
        if !status.open_for_write || self.file(number).is_some_and(|file| file.seen.lock().local.is_some()) {
            return status;
        }
        match self.ask(self.own.open(path)).await {
            Ok(reader) if reader.status().inode == status.inode => {
                FileStatus { len_bytes: reader.len_bytes().max(status.len_bytes), ..status }
            }
            Ok(_) | Err(_) => status,
        }
    }

    /// Attributes of an entry of which the kernel is not told a number for later.
    pub(crate) fn entry_number(&self, status: &FileStatus) -> u64 {
        self.inodes.lock().number_of(status.inode)
    }

    pub(crate) async fn lookup(&self, uid: u32, directory: u64, name: &str) -> Answer<FileAttr> {
        self.look_up(&self.client(uid)?, directory, name).await
    }

    /// The kernel is told what a name stands for. What this mount changes meanwhile is asked for again: told late, the state of
    /// before would take the name of an open file away here.
    pub(crate) async fn look_up(&self, client: &Client, directory: u64, name: &str) -> Answer<FileAttr> {
        if name == SNAPSHOTS {
            return Err(Errno::ENOENT);
        }
        for _ in 0..ASKS {
            let asked = self.inodes.lock().asked();
            let path = self.path_in(directory, name)?;
            let found = self.ask(client.stat_link(&path)).await.map_err(Errno::from);
            if found == Err(Errno::ENOENT) {
                self.moves_are_known().await;
            }
            if self.path_in(directory, name)? != path {
                continue;
            }
            match found {
                Ok(status) => {
                    let status = self.visible(&path, status).await;
                    if let Some(attr) = self.tell_if_new(asked, (directory, name), &status, self.config.attribute_ttl) {
                        return Ok(attr);
                    }
                }
                Err(Errno::ENOENT) if !self.inodes.lock().missed(asked, directory, name) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EIO)
    }

    pub(crate) async fn getattr(&self, uid: u32, number: u64) -> Answer<FileAttr> {
        let client = self.client(uid)?;
        for _ in 0..ASKS {
            if let Some(attr) = self.unlinked_attr(number) {
                return Ok(attr);
            }
            let (asked, inode) = {
                let inodes = self.inodes.lock();
                (inodes.asked(), inodes.inode(number))
            };
            let status = self.status(&client, number).await;
            let shown = status.map(|status| self.show_over(number, &status, self.config.attribute_ttl));
            if self.inodes.lock().is_old_inode(asked, inode) {
                // Committed meanwhile: as long as it is known here, it is as it was committed.
                if let Some(file) = self.file(number).filter(|file| !file.is_placeholder()) {
                    let status = file.seen.lock().status.clone();
                    return Ok(self.show_over(number, &status, self.config.attribute_ttl));
                }
                continue;
            }
            return match (shown, self.file(number)) {
                (Ok(attr), _) => Ok(attr),
                // Somebody else gave its name to another file, or removed it: who has it open goes on.
                (Err(Errno::ESTALE), Some(file)) if !file.is_placeholder() => {
                    let seen = file.seen.lock();
                    Ok(attr(number, &seen.over(seen.status.clone()), &self.people))
                }
                (Err(error), _) => Err(error),
            };
        }
        Err(Errno::EIO)
    }

    /// Attributes of an open file that has no name any more.
    fn unlinked_attr(&self, number: u64) -> Option<FileAttr> {
        let file = self.file(number).filter(|file| !file.is_placeholder())?;
        let seen = file.seen.lock();
        if !seen.unlinked {
            return None;
        }
        let mut attr = attr(number, &seen.over(seen.status.clone()), &self.people);
        attr.nlink = 0;
        Some(attr)
    }

    /// What the cluster knows of a number. `ESTALE`: its name leads to another file by now, or to none.
    pub(crate) async fn status(&self, client: &Client, number: u64) -> Answer<FileStatus> {
        let status = self.same(client, number).await?;
        Ok(self.visible(&self.path(number)?, status).await)
    }

    /// The same without what another writer flushed.
    pub(crate) async fn same(&self, client: &Client, number: u64) -> Answer<FileStatus> {
        for _ in 0..ASKS {
            let path = self.path(number)?;
            match self.ask(client.stat_link(&path)).await.map_err(Errno::from) {
                Ok(status) if number == ROOT || self.inodes.lock().inode(number) == status.inode => return Ok(status),
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
            // The cluster may have moved a directory above before its new path is known here.
            self.moves_are_known().await;
            if self.path(number)? == path {
                break;
            }
        }
        Err(Errno::ESTALE)
    }

    /// May a user do this with a file that the cluster does not have any more? Nobody is known here as a member of its group:
    /// who is not its owner has what both the group and all others have.
    pub(crate) fn permits(&self, uid: u32, status: &FileStatus, rights: u32) -> bool {
        let own = self.people.user(uid) == status.owner;
        let bits = if own { status.mode >> 6 } else { (status.mode >> 3) & status.mode };
        self.is_superuser(uid) || bits & rights == rights
    }

    fn is_superuser(&self, uid: u32) -> bool {
        uid == 0 || self.people.user(uid) == self.config.user
    }

    /// May a caller change the names in a directory?
    pub(crate) async fn may_change_names(&self, client: &Client, directory: u64) -> Answer<()> {
        let path = self.path(directory)?;
        let allowed = self.ask(client.check_access(&path, WRITE_AND_SEARCH)).await?;
        if allowed { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// The same where a name is to go: of a sticky directory only one's own, or any of one's own directory.
    pub(crate) async fn may_remove(&self, uid: u32, client: &Client, directory: u64, owner: &str) -> Answer<()> {
        self.may_change_names(client, directory).await?;
        let above = self.ask(client.stat(&self.path(directory)?)).await?;
        let user = self.people.user(uid);
        let own = user == above.owner || user == owner || self.is_superuser(uid);
        if own || above.mode & STICKY == 0 { Ok(()) } else { Err(Errno::EPERM) }
    }

    pub(crate) async fn setattr(&self, uid: u32, number: u64, mut change: Change) -> Answer<FileAttr> {
        let client = self.client(uid)?;
        drop(self.hold_still(self.file(number).as_deref()).await?);
        if let Some(len_bytes) = change.len_bytes {
            self.set_len(&client, number, change.handle, len_bytes).await?;
        }
        if change.ends_setuid(uid) {
            let status = match self.status(&client, number).await {
                Ok(status) => status,
                // It has no name any more: what it is, is known here.
                Err(Errno::ESTALE) if self.file(number).is_some() => FileStatus::default(),
                Err(error) => return Err(error),
            };
            let wanted = without_setuid(status.mode);
            change.mode = (status.kind() == FileKind::File && wanted != status.mode).then_some(wanted);
        }
        let client = if self.gives_setgid(uid, number, &change).await? { self.own.clone() } else { client };
        if change.changes_attributes() {
            self.set_attributes(uid, &client, number, &change).await?;
        }
        self.getattr(uid, number).await
    }

    /// Does an owner make setgid what has one of his groups? Groups are those that this machine's process has: the namenode,
    /// which takes the bit away else, does not know of them.
    async fn gives_setgid(&self, uid: u32, number: u64, change: &Change) -> Answer<bool> {
        let given = change.uid.is_some() || change.gid.is_some();
        if uid == 0 || given || change.mode.is_none_or(|mode| mode & SETGID == 0) {
            return Ok(false);
        }
        let status = match self.same(&self.own, number).await {
            Err(Errno::ESTALE) => return Ok(false),
            status => status?,
        };
        let ((gid, pid), group) = (change.by, self.people.gid(&status.group));
        let owns = self.people.user(uid) == status.owner;
        Ok(owns && (gid == group || groups_of(pid).await.contains(&group)))
    }

    async fn set_attributes(&self, uid: u32, client: &Client, number: u64, change: &Change) -> Answer<()> {
        let attributes = Attributes {
            mode: change.mode.map(|mode| mode & 0o7777),
            owner: change.uid.map(|uid| self.people.user(uid)),
            group: change.gid.map(|gid| self.people.group(gid)),
            mtime: change.mtime.map(time),
            atime: change.atime.map(time),
            no_follow: true,
            ..Attributes::default()
        };
        let Some(file) = self.file(number) else {
            return self.set_in_cluster(uid, client, number, &attributes).await.map(drop);
        };
        let mut state = self.lock(&file).await?;
        if state.unlinked && file.is_placeholder() {
            return Err(Errno::ESTALE);
        }
        if state.unlinked {
            self.may_set_unlinked(uid, &file.seen.lock().status, &attributes)?;
            self.set_unlinked(&file, &attributes);
        } else {
            // Also times that a commit will put its own in the place of: the cluster says who may set them.
            let status = self.set_in_cluster(uid, client, number, &attributes).await?;
            file.seen.lock().takes_rights(&status);
        }
        Self::keep_times(&file, &mut state, &attributes);
        Ok(())
    }

    async fn set_in_cluster(
        &self,
        uid: u32,
        client: &Client,
        number: u64,
        attributes: &Attributes,
    ) -> Answer<FileStatus> {
        let now = self.same(&self.own, number).await?;
        let (path, only_now) = (self.path(number)?, is_only_now(attributes));
        // The namespace takes times of whoever may write.
        if !only_now && self.people.user(uid) != now.owner && !self.is_superuser(uid) {
            return Err(Errno::EPERM);
        }
        let set = self.change(client.set_attributes(&path, attributes)).await;
        {
            let mut inodes = self.inodes.lock();
            // Of the root only the number is known.
            let known = inodes.inode(number);
            [known, now.inode].into_iter().for_each(|inode| inodes.changed(inode));
        }
        set.map_err(|error| if only_now { error.into() } else { Errno::of_owners(error.code) })
    }

    /// What the cluster would say of a file that it does not have any more.
    fn may_set_unlinked(&self, uid: u32, status: &FileStatus, attributes: &Attributes) -> Answer<()> {
        let gives = attributes.owner.as_ref().is_some_and(|owner| *owner != status.owner)
            || attributes.group.as_ref().is_some_and(|group| *group != status.group);
        let owns = self.people.user(uid) == status.owner && !gives;
        if owns || self.is_superuser(uid) || is_only_now(attributes) && self.permits(uid, status, WRITE) {
            return Ok(());
        }
        Err(if is_only_now(attributes) { Errno::EACCES } else { Errno::EPERM })
    }

    /// Why a name may not be moved or removed: of directories that one may write, only others' names in sticky ones.
    async fn removal_refused(&self, client: &Client, directories: &[u64], error: FsError) -> Errno {
        if error.code != ErrorCode::PermissionDenied {
            return error.into();
        }
        for directory in directories {
            let Ok(path) = self.path(*directory) else { return error.into() };
            if !matches!(self.ask(client.check_access(&path, WRITE_AND_SEARCH)).await, Ok(true)) {
                return error.into();
            }
        }
        Errno::of_owners(error.code)
    }

    /// Attributes of a file that the cluster does not have any more.
    fn set_unlinked(&self, file: &OpenFile, attributes: &Attributes) {
        let now_ns = self.now_ns();
        let mut seen = file.seen.lock();
        let status = &mut seen.status;
        if let Some(mode) = attributes.mode {
            status.mode = mode;
        }
        if let Some(owner) = &attributes.owner {
            status.owner.clone_from(owner);
        }
        if let Some(group) = &attributes.group {
            status.group.clone_from(group);
        }
        status.ctime_ns = now_ns;
    }

    pub(crate) async fn readlink(&self, uid: u32, number: u64) -> Answer<String> {
        let status = self.status(&self.client(uid)?, number).await?;
        Ok(status.symlink_target)
    }

    pub(crate) async fn mkdir(&self, uid: u32, directory: u64, name: &str, mode: u32, umask: u32) -> Answer<FileAttr> {
        let (path, client) = (self.path_in(directory, name)?, self.client(uid)?);
        let (mode, masked) = (mode & 0o7777, mode & 0o7777 & !umask);
        let status = self.change(client.mkdir_inheriting(&path, masked, Some(mode), false)).await?;
        Ok(self.tell_made(directory, name, &status))
    }

    pub(crate) async fn symlink(&self, uid: u32, directory: u64, name: &str, target: &str) -> Answer<FileAttr> {
        let (path, client) = (self.path_in(directory, name)?, self.client(uid)?);
        let status = self.change(client.symlink(&path, target, false)).await?;
        Ok(self.tell_made(directory, name, &status))
    }

    /// A pipe, a socket or a device.
    pub(crate) async fn make_node(
        &self,
        uid: u32,
        (directory, name): (u64, &str),
        kind: FileKind,
        (mode, umask): (u32, u32),
        device: u32,
    ) -> Answer<FileAttr> {
        let (path, client) = (self.path_in(directory, name)?, self.client(uid)?);
        let modes = (mode & 0o7777 & !umask, mode & 0o7777);
        let status = self.change(client.make_node(&path, kind, modes, device)).await?;
        Ok(self.tell_made(directory, name, &status))
    }

    pub(crate) async fn link(&self, uid: u32, number: u64, directory: u64, name: &str) -> Answer<FileAttr> {
        let open = self.file(number);
        // A commit that does not know of the new name would leave the old content there.
        let _still = self.hold_still(open.as_deref()).await?;
        let (existing, path) = (self.path(number)?, self.path_in(directory, name)?);
        let client = self.client(uid)?;
        let status = self.change(client.link(&existing, &path)).await?;
        Ok(self.tell_made(directory, name, &status))
    }

    pub(crate) async fn rmdir(&self, uid: u32, directory: u64, name: &str) -> Answer<()> {
        let (path, client) = (self.path_in(directory, name)?, self.client(uid)?);
        if let Err(error) = self.change(client.delete(&path, false)).await {
            return Err(self.removal_refused(&client, &[directory], error).await);
        }
        self.inodes.lock().removed(directory, name);
        Ok(())
    }

    pub(crate) async fn unlink(&self, uid: u32, directory: u64, name: &str) -> Answer<()> {
        let client = self.client(uid)?;
        let number = self.inodes.lock().child(directory, name);
        let mut kept = self.keep_content(uid, &client, &[directory], number).await?;
        let removed = self.remove(&client, (directory, name)).await;
        self.let_kept_go(&mut kept, removed.is_ok()).await;
        removed
    }

    async fn remove(&self, client: &Client, (directory, name): (u64, &str)) -> Answer<()> {
        // Only now: whoever waited may have seen a directory above move.
        let path = self.path_in(directory, name)?;
        if let Err(error) = self.change(client.delete(&path, false)).await {
            return Err(self.removal_refused(client, &[directory], error).await);
        }
        self.inodes.lock().removed(directory, name);
        Ok(())
    }

    pub(crate) async fn rename(&self, uid: u32, from: (u64, &str), to: (u64, &str), replace: Replace) -> Answer<()> {
        let client = self.client(uid)?;
        let (source, target) = {
            let inodes = self.inodes.lock();
            (inodes.child(from.0, from.1), inodes.child(to.0, to.1))
        };
        let lost = target.filter(|_| replace == Replace::Allow && source != target);
        // What is committed meanwhile would get the old name.
        let moved = source.and_then(|source| self.file(source));
        let mut still = self.hold_still(moved.as_deref()).await?;
        if lost.is_some() || replace == Replace::Exchange {
            self.commit_before_move(moved.as_deref(), still.as_deref_mut()).await?;
        }
        // What goes the other way: a commit of it must not meet this either.
        let other = target.filter(|_| replace == Replace::Exchange && source != target);
        let other = other.and_then(|target| self.file(target));
        let mut still_other = self.hold_still(other.as_deref()).await?;
        self.commit_before_move(other.as_deref(), still_other.as_deref_mut()).await?;
        let mut kept = self.keep_content(uid, &client, &[from.0, to.0], lost).await?;
        let moved = self.move_name(&client, (from, to), (source, target), replace).await;
        self.let_kept_go(&mut kept, moved.is_ok()).await;
        moved
    }

    async fn move_name(
        &self,
        client: &Client,
        (from, to): ((u64, &str), (u64, &str)),
        (source, target): (Option<u64>, Option<u64>),
        replace: Replace,
    ) -> Answer<()> {
        // Of what is below a directory that moves, others see where it is when this is over.
        let above_others = [source, target].into_iter().flatten().any(|number| self.inodes.lock().has_children(number));
        let moving = if above_others { Some(self.moves.read().await) } else { None };
        let (old, new) = (self.path_in(from.0, from.1)?, self.path_in(to.0, to.1)?);
        if let Err(error) = self.change(client.rename(&old, &new, replace)).await {
            drop(moving);
            return Err(self.removal_refused(client, &[from.0, to.0], error).await);
        }
        let mut inodes = self.inodes.lock();
        match replace {
            Replace::Exchange => inodes.exchanged((from, source), (to, target)),
            Replace::Allow | Replace::Refuse => {
                inodes.renamed(from, to, (source, source.is_some() && source == target))
            }
        }
        Ok(())
    }

    /// Whoever puts a new file in the place of an old one has either of them whole, whatever happens, also where a close has
    /// not brought it to the cluster.
    async fn commit_before_move(&self, file: Option<&OpenFile>, state: Option<&mut State>) -> Answer<()> {
        let (Some(file), Some(state)) = (file, state) else { return Ok(()) };
        if self.config.sync == SyncAt::Close {
            return Ok(());
        }
        Self::keep_shown_time(file, state);
        let ended = self.commit(file, state).await;
        state.tell(ended)
    }

    pub(crate) async fn access(&self, uid: u32, number: u64, rights: u32) -> Answer<()> {
        let (path, client) = (self.path(number)?, self.client(uid)?);
        let allowed = self.ask(client.check_access(&path, rights)).await?;
        if allowed { Ok(()) } else { Err(Errno::EACCES) }
    }

    pub(crate) async fn statfs(&self) -> Answer<Space> {
        let status = self.ask(self.own.status()).await?;
        Ok(Space {
            capacity_bytes: status.capacity_bytes,
            available_bytes: status.available_bytes,
            names: status.files + status.directories,
        })
    }
}
