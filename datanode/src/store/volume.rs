//! One volume: a folder on one disk, with its replicas, its room and its changes.
//!
//! ```text
//!   Volume ── state (mutex, held without I/O): replicas, journal, reserved and used bytes, health
//!          ├─ disk: watched, so that a call that does not come back is seen (health.rs)
//!          ├─ committer: shared directory syncs
//!          └─ identity and term files
//! ```
//!
//! Lock order: the gate of an open replica before a volume's `files` and `renewing`, those before its `names`, that before
//! its `state`, that before the numbers of open replicas and the table of loans; never two volumes at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::clock::Moment;
use base::crash::CrashPoint;
use base::disk::{Calls, Disk, DiskLock, Space, Watched};
use parking_lot::{Mutex, RwLock};
use proto::cluster::StorageReport;
use proto::ids::{BlockId, ClusterId, GenerationStamp, NodeId, PoolId, StorageId, Term};

use super::StoreOptions;
use super::commit::DirCommitter;
use super::error::StoreError;
use super::fences::Fences;
use super::health::{Health, VolumeState};
use super::identity::{Identity, IdentityFile, TermFile};
use super::journal::Journal;
use super::layout;
use super::loans::Loans;
use super::open::OpenReplica;
use super::opened::Opened;
use super::replica::{Replica, ReplicaState};
use super::scan::{self, Orphans};
use super::unsynced;

/// A volume of this node.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) disk: Arc<dyn Disk>,
    /// Calls of the disk under way, of this volume.
    pub(crate) calls: Arc<Calls>,
    pub(crate) dir: PathBuf,
    /// The folder once more, for [`Calls`].
    pub(crate) named: Arc<Path>,
    pub(crate) node: NodeId,
    pub(crate) storage: StorageId,
    pub(crate) committer: DirCommitter,
    pub(crate) state: Mutex<State>,
    /// Held while names of replicas change: shared by whoever makes or moves the files of a replica that it has entered or
    /// left, alone by whoever puts another meta file in the place of one. Disk calls are made under it.
    pub(crate) names: RwLock<()>,
    /// Held by whoever makes a meta file anew beside the old one: there is one name for it. Disk calls are made under it.
    pub(crate) renewing: Mutex<()>,
    files: Mutex<Files>,
    options: StoreOptions,
    _lock: Box<dyn DiskLock>,
}

#[derive(Debug)]
struct Files {
    identity: IdentityFile,
    term: TermFile,
}

/// What changes; the mutex around it is never held across a disk call.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) membership: Option<(ClusterId, PoolId)>,
    pub(crate) replicas: BTreeMap<BlockId, Replica>,
    pub(crate) journal: Journal,
    pub(crate) reserved_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) trash: VecDeque<Trashed>,
    /// Finalised replicas whose checksums were compared with their trailer since the start.
    pub(crate) checked: BTreeSet<BlockId>,
    pub(crate) health: Health,
    /// Is the room for deletes set aside?
    pub(crate) holds_room: bool,
    /// The disk refused something for want of room, and has taken nothing since.
    pub(crate) is_full: bool,
    /// Writers at work, by number: a replica that was deleted and begun anew has another one.
    writers: BTreeMap<BlockId, u64>,
    next_writer: u64,
    /// Open replicas of this run of the node, and those of an earlier one that were read since.
    pub(crate) open: BTreeMap<BlockId, Arc<OpenReplica>>,
    /// Stamps of the recoveries that have shut out everything else, also of blocks that are not here.
    pub(crate) fences: Fences,
    /// Checksum files that a start found without data.
    orphans: Orphans,
    /// Blocks whose replica was removed and whose files are on their way to the trash: nobody begins them anew here meanwhile.
    pub(crate) leaving: BTreeSet<BlockId>,
    /// The last moment that somebody told.
    pub(crate) now: Moment,
    space: Space,
    folders_made: BTreeSet<u16>,
    /// Replicas that are being looked at.
    pub(crate) watched: BTreeMap<BlockId, Watchers>,
    /// Replicas that the scrubber looks at first.
    pub(crate) suspects: BTreeSet<BlockId>,
    /// Finalised replicas of each folder.
    pub(crate) whole: Box<[u32]>,
    /// Told of every change, after it was made.
    loans: Arc<Loans>,
    /// Files of replicas that are open for short reads.
    pub(super) opened: Opened,
}

/// A replica that is being looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watchers {
    pub(crate) watchers: u32,
    /// Changes since somebody watches: who came later has not seen the earlier ones, and is not blinded by them.
    pub(crate) changes: u64,
}

/// Suspects that are remembered; the others are met when their turn comes.
const MAX_SUSPECTS: usize = 1024;

/// A deleted replica that is kept a while.
#[derive(Clone, Debug)]
pub(crate) struct Trashed {
    pub(crate) names: [String; 2],
    pub(crate) bytes: u64,
    pub(crate) since: Moment,
}

impl State {
    pub(crate) fn set_replica(&mut self, id: BlockId, after: Option<Replica>) {
        let before = match after {
            Some(replica) => self.replicas.insert(id, replica),
            None => self.replicas.remove(&id),
        };
        self.checked.remove(&id);
        self.writers.remove(&id);
        let is_open =
            |replica: &Replica| matches!(replica.state, ReplicaState::BeingWritten | ReplicaState::WaitingRecovery);
        if !after.as_ref().is_some_and(is_open) {
            self.open.remove(&id);
        }
        self.fences.replica_changed(id, after.as_ref());
        // Under the lock, so that nobody finds them from now on. Their names are still there: closing removes nothing.
        if !base::mutated!(Sc91OldFilesAreRead) {
            drop(self.opened.remove(id));
        }
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.changes += 1;
        }
        self.count(id, before.as_ref(), after.as_ref());
        if before != after {
            self.loans.revoke(id);
        }
        // Only the namenodes' view counts here: a replica that nobody heard of may vanish unheard.
        let silent =
            |replica: Option<&Replica>| replica.is_none_or(|replica| replica.state == ReplicaState::BeingWritten);
        if !(silent(before.as_ref()) && silent(after.as_ref())) {
            self.journal.changed(id, before.as_ref(), after.as_ref());
        }
    }
    /// Shuts out what is below a recovery's stamp, whether there is a replica or not.
    pub(crate) fn fence(&mut self, id: BlockId, recovery: GenerationStamp) {
        let is_lone = !self.replicas.contains_key(&id);
        self.fences.raise(id, recovery, is_lone);
    }
    fn count(&mut self, id: BlockId, before: Option<&Replica>, after: Option<&Replica>) {
        let whole = |replica: Option<&Replica>| replica.is_some_and(|r| r.state == ReplicaState::Finalized);
        if let Some(count) = self.whole.get_mut(usize::from(layout::folder_of(id))) {
            *count = count.saturating_sub(u32::from(whole(before))).saturating_add(u32::from(whole(after)));
        }
    }
    /// A replica gets a writer; its number.
    pub(crate) fn begin_writing(&mut self, id: BlockId, stamp: GenerationStamp, open: &Arc<OpenReplica>) -> u64 {
        let len_bytes = open.lengths().stored_bytes;
        self.set_replica(id, Some(Replica { stamp, len_bytes, state: ReplicaState::BeingWritten }));
        self.open.insert(id, Arc::clone(open));
        let number = self.next_writer;
        self.next_writer += 1;
        self.writers.insert(id, number);
        number
    }
    /// See [`Volume::end_writing`].
    pub(crate) fn end_writing(&mut self, id: BlockId, number: u64, after: Option<Replica>) -> bool {
        if self.writers.get(&id) != Some(&number) && !base::mutated!(Sc59WriterOfAnotherReplica) {
            return false;
        }
        self.set_replica(id, after);
        if after.is_some_and(|replica| replica.state == ReplicaState::Finalized) {
            self.checked.insert(id);
        }
        true
    }
    /// Is a replica that is being looked at still what it was when it had changed so often?
    pub(crate) fn is_unchanged(&self, id: BlockId, changes: u64) -> bool {
        self.watched.get(&id).is_some_and(|watched| watched.changes == changes)
    }
    pub(crate) fn unwatch(&mut self, id: BlockId) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.watchers = watched.watchers.saturating_sub(1);
            if watched.watchers == 0 {
                self.watched.remove(&id);
            }
        }
    }
    /// Calls back every loan.
    pub(crate) fn call_back_all(&self) {
        if self.loans.lent() > 0 {
            self.replicas.keys().for_each(|id| self.loans.revoke(*id));
        }
    }
    pub(crate) fn suspect(&mut self, id: BlockId) {
        if self.suspects.len() < MAX_SUSPECTS {
            self.suspects.insert(id);
        }
    }
}

impl Volume {
    /// Opens a volume, or makes one in an empty folder. `node` is the id that new volumes of this node get.
    pub(crate) fn open(
        watched: Watched,
        dir: &Path,
        fresh: &Identity,
        incarnation: u64,
        (options, loans): (StoreOptions, &Arc<Loans>),
        now: Moment,
    ) -> Result<Self, StoreError> {
        let (calls, disk): (_, Arc<dyn Disk>) = (watched.calls(), Arc::new(watched));
        disk.create_dir_all(dir, CrashPoint::VolumeDirCreate).map_err(StoreError::io("create", dir))?;
        let lock = take_lock(disk.as_ref(), dir)?;
        let (identity_file, identity) = match IdentityFile::open(disk.as_ref(), dir)? {
            Some(found) => found,
            None => {
                refuse_if_used(disk.as_ref(), dir)?;
                (IdentityFile::create(disk.as_ref(), dir, fresh)?, fresh.clone())
            }
        };
        let term = TermFile::open_or_create(disk.as_ref(), dir, identity.membership.is_some())?;
        let mut found = scan::Found::default();
        if let Some((_, pool)) = &identity.membership {
            found = scan::scan(disk.as_ref(), dir, pool)?;
        }
        let pool = identity.membership.as_ref().map(|(_, pool)| pool);
        let unsynced = unsynced::write_again(disk.as_ref(), dir, pool, &found.replicas)?;
        if !found.replicas.is_empty() {
            // A killed process may have left trailers and names in the page cache alone: what is reported as
            // whole must be durable.
            let synced = disk.sync_all(dir, CrashPoint::VolumeSync);
            synced.inspect_err(|_| unsynced::note(disk.as_ref(), dir)).map_err(StoreError::sync_names(dir))?;
        }
        unsynced.forget();
        if !found.orphans.is_empty() {
            let blocks = found.orphans.len();
            tracing::warn!(dir = %dir.display(), blocks, "checksum files without data stay until their block begins again");
        }
        let mut journal = Journal::new(incarnation);
        let mut whole = vec![0; usize::from(layout::FOLDERS)].into_boxed_slice();
        for (id, replica) in &found.replicas {
            journal.found(*id, replica);
            if replica.state == ReplicaState::Finalized
                && let Some(count) = whole.get_mut(usize::from(layout::folder_of(*id)))
            {
                *count += 1;
            }
        }
        let volume = Self {
            node: identity.node,
            storage: identity.storage,
            calls,
            dir: dir.to_path_buf(),
            named: Arc::from(dir),
            committer: DirCommitter::default(),
            names: RwLock::new(()),
            renewing: Mutex::new(()),
            files: Mutex::new(Files { identity: identity_file, term }),
            options,
            _lock: lock,
            state: Mutex::new(State {
                membership: identity.membership,
                replicas: found.replicas,
                journal,
                reserved_bytes: 0,
                used_bytes: found.used_bytes,
                trash: VecDeque::new(),
                checked: BTreeSet::new(),
                health: Health::default(),
                holds_room: false,
                is_full: false,
                writers: BTreeMap::new(),
                next_writer: 1,
                open: BTreeMap::new(),
                fences: Fences::default(),
                orphans: found.orphans,
                leaving: BTreeSet::new(),
                now,
                space: Space::default(),
                folders_made: BTreeSet::new(),
                watched: BTreeMap::new(),
                suspects: BTreeSet::new(),
                whole,
                loans: Arc::clone(loans),
                opened: Opened::new(options.max_opened),
            }),
            disk,
        };
        volume.find_trash(now)?;
        volume.hold_room();
        volume.refresh_space()?;
        Ok(volume)
    }

    /// Makes the volume a member of a cluster, durably.
    pub(crate) fn join(&self, cluster: &ClusterId, pool: &PoolId) -> Result<(), StoreError> {
        if self.state.lock().membership.is_some() {
            return Ok(());
        }
        let membership = Some((cluster.clone(), pool.clone()));
        let identity =
            Identity { membership: membership.clone(), node: self.node.clone(), storage: self.storage.clone() };
        let written = self.with_room(|| self.files.lock().identity.write(&identity, &self.dir));
        self.guard(written)?;
        self.state.lock().membership = membership;
        Ok(())
    }
    pub(crate) fn term(&self) -> Term {
        self.files.lock().term.term()
    }
    pub(crate) fn raise_term(&self, term: Term) -> Result<(), StoreError> {
        self.writable()?;
        let _waits = self.waits("keep a term");
        let raised = self.with_room(|| self.files.lock().term.raise(term, &self.dir));
        self.guard(raised)
    }

    pub(crate) fn pool(&self) -> Result<PoolId, StoreError> {
        let state = self.state.lock();
        state.membership.as_ref().map(|(_, pool)| pool.clone()).ok_or(StoreError::NotRegistered)
    }
    pub(crate) fn folder_path(&self, pool: &PoolId, folder: u16) -> PathBuf {
        layout::pool_dir(&self.dir, pool).join(layout::folder_name(folder))
    }
    pub(crate) fn data_path(&self, pool: &PoolId, id: BlockId) -> PathBuf {
        self.folder_path(pool, layout::folder_of(id)).join(layout::data_name(id))
    }
    pub(crate) fn meta_path(&self, pool: &PoolId, id: BlockId, stamp: GenerationStamp) -> PathBuf {
        self.folder_path(pool, layout::folder_of(id)).join(layout::meta_name(id, stamp))
    }
    /// Makes a block's folder once per start.
    pub(crate) fn make_folder(&self, pool: &PoolId, folder: u16) -> Result<(), StoreError> {
        if self.state.lock().folders_made.contains(&folder) {
            return Ok(());
        }
        let path = self.folder_path(pool, folder);
        let made = self.disk.create_dir_all(&path, CrashPoint::VolumeDirCreate);
        self.guard(made.map_err(StoreError::io("create", &path)))?;
        self.state.lock().folders_made.insert(folder);
        Ok(())
    }
    /// Makes the names in a folder durable, together with everyone who waits for the same.
    pub(crate) fn commit_names(&self, pool: &PoolId, folder: u16) -> Result<(), StoreError> {
        if base::mutated!(Sc47NamesAreNotSynced) {
            return Ok(());
        }
        let path = self.folder_path(pool, folder);
        let _waits = self.waits("sync with others");
        let done = self.committer.commit(folder, || self.disk.sync_dir(&path, CrashPoint::BlockDirSync));
        self.guard(done.map_err(StoreError::sync_names(&path)))
    }

    /// Asks the file system for its room. Not on the heartbeat's path.
    pub(crate) fn refresh_space(&self) -> Result<(), StoreError> {
        let space = self.disk.space(&self.dir);
        let space = self.guard(space.map_err(StoreError::io("look at the room of", &self.dir)))?;
        self.state.lock().space = space;
        Ok(())
    }
    /// Sets room aside for a block, clearing the trash if that is what it takes. The promise is what the
    /// writer announced, or less where less is there: writing then finds out.
    pub(crate) fn reserve(&self, wanted_bytes: u64) -> Result<u64, StoreError> {
        self.refresh_space()?;
        self.look_for_room();
        let needed_bytes = wanted_bytes.clamp(MIN_ROOM_BYTES, MAX_NEEDED_BYTES);
        if self.room_bytes() < needed_bytes && self.state.lock().trash.front().is_some() {
            self.empty_trash(None)?;
            self.refresh_space()?;
            self.look_for_room();
        }
        let room_bytes = self.room_bytes();
        if room_bytes < needed_bytes {
            return Err(StoreError::NoSpace { wanted_bytes, room_bytes });
        }
        let reserved_bytes = wanted_bytes.min(room_bytes);
        self.state.lock().reserved_bytes += reserved_bytes;
        Ok(reserved_bytes)
    }
    pub(crate) fn room_bytes(&self) -> u64 {
        let state = self.state.lock();
        let kept = state.reserved_bytes.saturating_add(self.options.reserve_bytes);
        if state.is_full { 0 } else { state.space.available_bytes.saturating_sub(kept) }
    }

    /// What heartbeats and registrations say of this volume. No disk call.
    pub(crate) fn report(&self) -> StorageReport {
        let state = self.state.lock();
        let kept = state.reserved_bytes.saturating_add(self.options.reserve_bytes);
        // Trash is cleared when room is needed.
        let trash_bytes = state.trash.iter().map(|trashed| trashed.bytes).sum::<u64>();
        let available_bytes = state.space.available_bytes.saturating_add(trash_bytes).saturating_sub(kept);
        let (health, why) = state.health.state();
        StorageReport {
            storage: self.storage.to_string(),
            media: "DISK".to_owned(),
            capacity_bytes: state.space.capacity_bytes,
            used_bytes: state.used_bytes,
            available_bytes: if health == VolumeState::Working && !state.is_full { available_bytes } else { 0 },
            failed: health.is_out(),
            failure: why.to_owned(),
            state: health.as_str().to_owned(),
            incarnation: state.journal.incarnation(),
            sequence: state.journal.sequence(),
        }
    }

    /// Changes a replica and notes the change. Whoever was writing it is its writer no more.
    pub(crate) fn set_replica(&self, id: BlockId, after: Option<Replica>) {
        self.state.lock().set_replica(id, after);
    }
    /// Enters a replica that is about to be written; the number of its writer.
    pub(crate) fn begin_writing(&self, id: BlockId, stamp: GenerationStamp, open: &Arc<OpenReplica>) -> u64 {
        self.state.lock().begin_writing(id, stamp, open)
    }
    /// Is this replica still written by this writer? Not if it was deleted meanwhile, begun anew or not.
    pub(crate) fn is_written_by(&self, id: BlockId, number: u64) -> bool {
        self.state.lock().writers.get(&id) == Some(&number) || base::mutated!(Sc59WriterOfAnotherReplica)
    }
    /// Ends the writing of a replica, in one step with the question whether it is still this writer's.
    pub(crate) fn end_writing(&self, id: BlockId, number: u64, after: Option<Replica>) -> bool {
        self.state.lock().end_writing(id, number, after)
    }
    /// Notes what time it is, for what is set aside without being asked for.
    pub(crate) fn note_time(&self, now: Moment) {
        self.state.lock().now = now;
    }

    /// Moves a file that is in the way of a new replica to the trash: nothing knows it (the rest of a power
    /// cut, or a second copy that is not spoken of), and the disk is none the worse for it.
    pub(crate) fn set_aside(&self, path: &Path, trash_name: String) -> Result<(), StoreError> {
        tracing::warn!(path = %path.display(), "a file that no replica owns is moved to the trash");
        let bytes = self.bytes_of(path);
        let trash = self.make_trash()?;
        self.move_away(path, &trash.join(&trash_name), CrashPoint::BlockRemove)?;
        let mut state = self.state.lock();
        let since = state.now;
        state.trash.push_back(Trashed { names: [trash_name.clone(), trash_name], bytes, since });
        Ok(())
    }
    /// Moves what is left of an earlier replica of a block to the trash, durably, before a new one begins: checksum files that
    /// a power cut left without their data. One with a higher stamp would be taken for the new data's at the next start.
    pub(crate) fn clear_orphans(&self, pool: &PoolId, id: BlockId) -> Result<(), StoreError> {
        let stamps = self.state.lock().orphans.get(&id).cloned().unwrap_or_default();
        if stamps.is_empty() {
            return Ok(());
        }
        for stamp in stamps {
            self.set_aside(&self.meta_path(pool, id, stamp), layout::meta_name(id, stamp))?;
        }
        self.commit_names(pool, layout::folder_of(id))?;
        self.state.lock().orphans.remove(&id);
        Ok(())
    }
    fn make_trash(&self) -> Result<PathBuf, StoreError> {
        let trash = self.dir.join(layout::TRASH);
        let made = self.disk.create_dir_all(&trash, CrashPoint::VolumeDirCreate);
        self.guard(made.map_err(StoreError::io("create", &trash)))?;
        Ok(trash)
    }

    /// Moves a replica's files to the trash: checksums first, so that a crash in between leaves data without
    /// checksums, which is reported and deleted again. A disk that is too full for that loses them at once.
    pub(crate) fn move_to_trash(
        &self,
        pool: &PoolId,
        id: BlockId,
        replica: &Replica,
        now: Moment,
    ) -> Result<(), StoreError> {
        let names = [layout::meta_name(id, replica.stamp), layout::trash_name(id, replica.stamp)];
        let files = [self.meta_path(pool, id, replica.stamp), self.data_path(pool, id)];
        let (bytes, kept) = {
            let _waits = self.waits("delete a replica");
            let _names = self.names.read();
            let bytes = files.iter().map(|file| self.bytes_of(file)).sum();
            (bytes, self.take_away(&files, &names)?)
        };
        let mut state = self.state.lock();
        state.used_bytes = state.used_bytes.saturating_sub(bytes);
        if kept {
            state.trash.push_back(Trashed { names, bytes, since: now });
        }
        Ok(())
    }
    /// Moves files to the trash, or removes them if the disk has no room for that. False: they are gone.
    fn take_away(&self, files: &[PathBuf; 2], names: &[String; 2]) -> Result<bool, StoreError> {
        let points = [CrashPoint::MetaRemove, CrashPoint::BlockRemove];
        let moved = self.with_room(|| {
            let trash = self.make_trash()?;
            let moves = files.iter().zip(names).zip(points);
            moves.into_iter().try_for_each(|((file, name), point)| self.move_away(file, &trash.join(name), point))
        });
        match moved {
            Err(error) if error.is_full() => {
                tracing::warn!(storage = %self.storage, %error, "the disk is full: a deleted replica is not kept");
                let removes = files.iter().zip(points);
                removes.into_iter().try_for_each(|(file, point)| self.remove(file, point)).map(|()| false)
            }
            other => other.map(|()| true),
        }
    }
    /// Length of a file; 0 if it is not there, or nobody knows.
    pub(crate) fn bytes_of(&self, path: &Path) -> u64 {
        self.disk.info(path).ok().flatten().map_or(0, |info| info.len_bytes)
    }
    fn move_away(&self, from: &Path, to: &Path, point: CrashPoint) -> Result<(), StoreError> {
        match self.disk.rename(from, to, point) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => self.guard(other.map_err(StoreError::io("move to the trash", from))),
        }
    }
    /// Removes what has been in the trash since `before`; everything if `None`.
    pub(crate) fn empty_trash(&self, before: Option<Moment>) -> Result<(), StoreError> {
        loop {
            let oldest = {
                let mut state = self.state.lock();
                let due = state.trash.front().is_some_and(|t| before.is_none_or(|before| t.since <= before));
                if due { state.trash.pop_front() } else { None }
            };
            let Some(trashed) = oldest else { return Ok(()) };
            for (name, point) in trashed.names.iter().zip([CrashPoint::MetaRemove, CrashPoint::BlockRemove]) {
                self.remove(&self.dir.join(layout::TRASH).join(name), point)?;
            }
        }
    }
    /// Removes a file that may be gone already.
    pub(crate) fn remove(&self, path: &Path, point: CrashPoint) -> Result<(), StoreError> {
        match self.disk.remove_file(path, point) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => self.guard(other.map_err(StoreError::io("remove", path))),
        }
    }
    /// What an earlier run left in the trash: its time starts again.
    fn find_trash(&self, now: Moment) -> Result<(), StoreError> {
        let trash = self.dir.join(layout::TRASH);
        if self.disk.info(&trash).map_err(StoreError::io("look at", &trash))?.is_none() {
            return Ok(());
        }
        let entries = self.disk.read_dir(&trash).map_err(StoreError::io("list", &trash))?;
        let mut state = self.state.lock();
        for entry in entries.into_iter().filter(|entry| !entry.info.is_dir) {
            let names = [entry.name.clone(), entry.name];
            state.trash.push_back(Trashed { names, bytes: entry.info.len_bytes, since: now });
        }
        Ok(())
    }
    /// See [`super::Store::tend`].
    pub(crate) fn tend(&self, now: Moment) {
        self.check_again();
        if self.is_failed() {
            return;
        }
        self.note_time(now);
        self.close_unused();
        let keep = self.options.trash_keep;
        let before = now.elapsed_from_start().checked_sub(keep).map(Moment::after_start);
        let writes = self.takes_writes();
        let emptied = before.filter(|_| writes).map_or(Ok(()), |before| self.empty_trash(Some(before)));
        if writes {
            self.look_for_room();
            self.hold_room();
        }
        if let Err(error) = emptied.and_then(|()| self.refresh_space()) {
            tracing::warn!(storage = %self.storage, error = %crate::receive::chain(&error), "upkeep failed");
        }
    }
    pub(crate) fn options(&self) -> &StoreOptions {
        &self.options
    }
}

/// A block needs at least this much room, whatever its writer announced.
const MIN_ROOM_BYTES: u64 = 1024 * 1024;
/// A writer that announces a whole block but writes a small file is not turned away from a small disk: this
/// much room is enough to begin.
const MAX_NEEDED_BYTES: u64 = 8 * 1024 * 1024;

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, StoreError> {
    let path = dir.join(layout::LOCK);
    match disk.lock(&path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StoreError::Refused {
            path: dir.display().to_string(),
            problem: "another process uses this folder: stop it, or give each datanode its own".to_owned(),
        }),
        other => other.map_err(StoreError::io("lock", &path)),
    }
}

/// A folder without an identity is new only if it is empty (SC-50). What a first start leaves that died
/// before its identity was durable counts as empty.
fn refuse_if_used(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    let harmless = |name: &str| name == layout::LOCK || name == "identity.new" || name == "lost+found";
    let entries = disk.read_dir(dir).map_err(StoreError::io("list", dir))?;
    match entries.iter().find(|entry| !harmless(&entry.name)) {
        None => Ok(()),
        Some(_) if base::mutated!(Sc50NoIdentityIsNew) => Ok(()),
        Some(entry) => Err(StoreError::Refused {
            path: dir.display().to_string(),
            problem: format!(
                "has no identity file but is not empty (it holds {:?}): restore the identity file, or give an empty folder; nothing was erased",
                entry.name
            ),
        }),
    }
}
