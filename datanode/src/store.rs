//! The block store: volumes, replicas, their states, and what is reported of them.
//!
//! ```text
//!   receive ──create──▶ ReplicaWriter ──finalise──▶ ┐
//!   serve   ──open────▶ ReplicaReader               ├─ Volume (one per disk) ──▶ base::disk
//!   agent   ──delete, reports, term─────────────────┘
//! ```
//!
//! The formats are in docs/formats/block-files.md and docs/formats/identity-volume.md. What this module
//! promises: a replica is *finalized* only when its data, checksums, trailer and names are durable; a
//! half-written one is never served; nothing is erased because something is missing; a volume that fails a
//! write or a sync is taken out and never trusted again while the process lives; one whose disk does not answer
//! keeps nobody but those who wait for it already (health.rs).

mod admit;
mod apart;
mod commit;
mod error;
mod fences;
mod health;
mod identity;
mod journal;
mod layout;
mod loans;
mod look;
mod meta;
mod open;
mod opened;
mod prove;
mod reader;
mod replica;
mod reservation;
mod restore;
mod resume;
mod room;
mod scan;
mod scrub;
mod side;
mod strangers;
#[cfg(test)]
mod tests;
mod unsynced;
mod verify;
mod volume;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::clock::{Clock, Moment};
use base::disk::{Calls, Disk, Watched};
use base::random::Randomness;
use parking_lot::Mutex;
use proto::cluster::{Bucket, ReplicaRecord, StorageReport};
use proto::ids::{BlockId, ClusterId, GenerationStamp, NodeId, PoolId, StorageId, Term};
use transfer::digest::Prefix;
use transfer::{BlockRef, ChunkFormat};

pub use admit::Wish;
pub use error::StoreError;
pub use health::VolumeState;
pub(crate) use loans::share_of_user;
pub use loans::{Borrower, Loans, TooMany, User};
pub use open::{FoundReplica, OpenLengths, OpenReplica};
pub use reader::ReplicaReader;
pub use replica::{Replica, ReplicaState};
pub use scrub::{Turn, VolumeScrub};
pub use verify::{Verification, VerifyStep};
pub use writer::{FinalisedReplica, ReplicaWriter};

pub(crate) use layout::FOLDERS;

use apart::{Apart, Job};
use identity::Identity;
use look::Watch;
use open::{Mark, OpenLeaves};
use reservation::Reservation;
use volume::Volume;
use writer::Start;

use crate::scrub::ScrubOptions;

/// Longest meta file that is read whole: checksums of a terabyte of data in chunks of 512 bytes would be
/// 8 GiB, but blocks end at 32 GiB.
const MAX_META_BYTES: u64 = 288 * 1024 * 1024;

/// Replicas whose files are kept open for short reads, unless something else is said.
pub(crate) const MAX_OPENED: usize = 256;

/// What the store is told by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Room on each disk that blocks never use.
    pub reserve_bytes: u64,
    /// How long deleted replicas are kept while there is room.
    pub trash_keep: Duration,
    /// A volume is slow when one of its calls has been out for this long.
    pub slow_after: Duration,
    /// And hung when one has been out for this long.
    pub hung_after: Duration,
    /// Replicas whose descriptors are lent at a time.
    pub max_loans: usize,
    /// Replicas whose files are kept open for short reads, on all disks together: two descriptors each.
    pub max_opened: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: 64 * 1024 * 1024,
            trash_keep: Duration::from_secs(600),
            slow_after: Duration::from_secs(3),
            hung_after: Duration::from_secs(10),
            max_loans: 16_384,
            max_opened: MAX_OPENED,
        }
    }
}

/// The block store of one node.
#[derive(Debug)]
pub struct Store {
    node: NodeId,
    volumes: Vec<Arc<Volume>>,
    /// Volumes that could not be used when the store was opened: what is on them is not known.
    left_out: usize,
    loans: Arc<Loans>,
    /// Held while a replica is entered, so that a block is created on one volume only. No I/O under it.
    entering: Mutex<()>,
}

impl Store {
    /// Opens every volume, makes identities in empty folders, and finds out what replicas there are. Volumes
    /// that cannot be used, or are not this node's, are returned beside; the others work.
    ///
    /// # Errors
    /// If no volume can be used, if nobody can say which of them are this node's, or for want of descriptors or memory:
    /// then nothing can be said of what was not looked at.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dirs: &[PathBuf],
        options: StoreOptions,
        randomness: &dyn Randomness,
        now: Moment,
    ) -> Result<(Self, Vec<StoreError>), StoreError> {
        Self::open_by(&Apart::No, disk, dirs, options, (randomness, now))
    }
    /// As [`Store::open`], each folder on a thread of its own: one whose disk does not answer is left out while another one
    /// works (SC-54). It stays out until the node starts again.
    ///
    /// # Errors
    /// As [`Store::open`]; if there is no room for a thread.
    pub fn open_apart(
        disk: &Arc<dyn Disk>,
        dirs: &[PathBuf],
        options: StoreOptions,
        randomness: &dyn Randomness,
        clock: &dyn Clock,
    ) -> Result<(Self, Vec<StoreError>), StoreError> {
        Self::open_by(&Apart::Yes(clock), disk, dirs, options, (randomness, clock.now()))
    }
    fn open_by(
        apart: &Apart<'_>,
        disk: &Arc<dyn Disk>,
        dirs: &[PathBuf],
        options: StoreOptions,
        (randomness, now): (&dyn Randomness, Moment),
    ) -> Result<(Self, Vec<StoreError>), StoreError> {
        let mut volumes: Vec<Arc<Volume>> = Vec::new();
        let mut problems = Vec::new();
        let disks: Vec<Watched> = dirs.iter().map(|_| Watched::new(Arc::clone(disk))).collect();
        let looks = dirs.iter().zip(&disks).map(|(dir, disk)| {
            let (watched, path) = (disk.clone(), dir.clone());
            let run = Box::new(move || strangers::look(&watched, &path));
            Job { dir: dir.clone(), disk: disk.clone(), run }
        });
        let first_look = apart.each(looks.collect())?;
        let known_node = strangers::known_node(dirs, &first_look)?;
        let unsure = known_node.is_none() && first_look.iter().any(Result::is_err);
        let loans = Loans::new(options.max_loans);
        let options = StoreOptions { max_opened: options.max_opened / dirs.len().max(1), ..options };
        let fresh_node = known_node.unwrap_or_else(|| NodeId::new(&randomness.uuid()));
        let mut jobs = Vec::new();
        for ((dir, disk), looked) in dirs.iter().zip(disks).zip(first_look) {
            match looked.and_then(|_| if unsure { Err(not_stamped(dir)) } else { Ok(()) }) {
                Ok(()) => {}
                Err(error) if error.is_exhausted() => return Err(error),
                Err(error) => {
                    problems.push(error);
                    continue;
                }
            }
            let fresh =
                Identity { membership: None, node: fresh_node.clone(), storage: StorageId::new(&randomness.uuid()) };
            // An incarnation is never 0, which means "none" in reports.
            let incarnation = randomness.next_u64() | 1;
            let (watched, path, loans) = (disk.clone(), dir.clone(), Arc::clone(&loans));
            let run = Box::new(move || Volume::open(watched, &path, &fresh, incarnation, (options, &loans), now));
            jobs.push(Job { dir: dir.clone(), disk, run });
        }
        for opened in apart.each(jobs)? {
            match opened {
                Ok(volume) => volumes.push(Arc::new(volume)),
                // Not the disk's fault, and not lasting: all volumes or none.
                Err(error) if error.is_exhausted() || base::mutated!(Sc54OneBadDiskStopsTheNode) => return Err(error),
                Err(error) => problems.push(error),
            }
        }
        problems.extend(strangers::put_out(&mut volumes)?);
        if volumes.is_empty() {
            return Err(problems
                .pop()
                .unwrap_or_else(|| StoreError::NoStorage("(no folder is configured)".to_owned())));
        }
        let node = volumes.first().map_or(fresh_node, |volume| volume.node.clone());
        let store = Self { node, volumes, left_out: problems.len(), loans, entering: Mutex::new(()) };
        store.hide_duplicates();
        if let Some((cluster, pool)) = store.membership() {
            store.volumes.iter().try_for_each(|volume| volume.join(&cluster, &pool))?;
        }
        Ok((store, problems))
    }

    /// This node's id, the same since its first start.
    #[must_use]
    pub const fn node(&self) -> &NodeId {
        &self.node
    }
    /// Who was lent what.
    #[must_use]
    pub const fn loans(&self) -> &Arc<Loans> {
        &self.loans
    }
    /// Folders of the volumes in service.
    #[must_use]
    pub fn working_dirs(&self) -> Vec<PathBuf> {
        self.working().map(|volume| volume.dir.clone()).collect()
    }
    /// Cluster and pool; `None` until the first registration.
    #[must_use]
    pub fn membership(&self) -> Option<(ClusterId, PoolId)> {
        self.volumes.iter().find_map(|volume| volume.state.lock().membership.clone())
    }
    /// Joins the cluster that answered the first registration, durably; later only checks.
    ///
    /// # Errors
    /// [`StoreError::WrongCluster`] if the node belongs to another one; the disk's.
    pub fn join(&self, cluster: &ClusterId, pool: &PoolId) -> Result<(), StoreError> {
        if let Some((known_cluster, known_pool)) = self.membership()
            && (known_cluster != *cluster || known_pool != *pool)
        {
            return Err(StoreError::WrongCluster {
                what: "the namenode that answered".to_owned(),
                found: format!("{cluster}, {pool}"),
                expected: format!("{known_cluster}, {known_pool}"),
            });
        }
        let mut joined = Err(StoreError::NoStorage("(none is left)".to_owned()));
        for volume in self.working() {
            match volume.join(cluster, pool) {
                Ok(()) => joined = Ok(()),
                Err(error) => joined = joined.or(Err(error)),
            }
        }
        joined
    }

    /// The highest term that this node obeyed.
    #[must_use]
    pub fn highest_term(&self) -> Term {
        self.volumes.iter().map(|volume| volume.term()).max().unwrap_or_default()
    }
    /// Makes a higher term durable on every working volume.
    ///
    /// # Errors
    /// If no volume could keep it: then no command of that term may be carried out.
    pub fn raise_term(&self, term: Term) -> Result<(), StoreError> {
        let mut raised = Err(StoreError::NoStorage("(none is left)".to_owned()));
        for volume in self.working().filter(|volume| volume.takes_writes()) {
            match volume.raise_term(term) {
                Ok(()) => raised = Ok(()),
                Err(error) => raised = raised.or(Err(error)),
            }
        }
        raised
    }
    /// The storages that can keep a term.
    #[must_use]
    pub fn term_keepers(&self) -> Vec<StorageId> {
        self.volumes.iter().filter(|volume| volume.takes_writes()).map(|volume| volume.storage.clone()).collect()
    }
    /// As [`Store::raise_term`], on one volume: one is enough, and another may hang.
    ///
    /// # Errors
    /// [`StoreError::NoStorage`], [`StoreError::VolumeFailed`]; the disk's.
    pub fn raise_term_on(&self, storage: &StorageId, term: Term) -> Result<(), StoreError> {
        self.volume(storage)?.raise_term(term)
    }

    /// Starts a new replica with room reserved for `block.len_bytes`. `storage` names the disk, or leaves the
    /// choice to the node (the one with the most room).
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Fenced`], [`StoreError::NoSpace`], [`StoreError::VolumeFailed`],
    /// [`StoreError::NoStorage`], [`StoreError::WrongPool`]; the disk's. Nothing stays behind.
    pub fn create(
        &self,
        block: &BlockRef,
        storage: Option<&StorageId>,
        chunks: ChunkFormat,
    ) -> Result<ReplicaWriter, StoreError> {
        self.check_pool(&block.pool)?;
        self.create_in(self.room_for(block, storage)?, block, chunks)
    }
    /// As [`Store::create`], for the writer of a new block. One whose fence may have been forgotten is refused.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_new(
        &self,
        block: &BlockRef,
        storage: Option<&StorageId>,
        chunks: ChunkFormat,
    ) -> Result<ReplicaWriter, StoreError> {
        let floor = self.volumes.iter().map(|volume| volume.state.lock().fences.floor()).max();
        let (id, sent) = (block.id, block.stamp);
        match floor.filter(|floor| sent < *floor && !base::mutated!(Sc26RestartForgetsFences)) {
            Some(fence) => Err(StoreError::Fenced { id, fence, sent }),
            None => self.create(block, storage, chunks),
        }
    }
    /// Fences without a replica that this node was told of before it started are forgotten: all were below this stamp.
    pub(crate) fn forgot_fences_below(&self, stamp: GenerationStamp) {
        for volume in &self.volumes {
            volume.state.lock().fences.forgot_below(stamp);
        }
    }
    /// Chooses the disk of a new replica, and sets room aside on it.
    fn room_for(&self, block: &BlockRef, storage: Option<&StorageId>) -> Result<Reservation, StoreError> {
        Reservation::on(&self.choose(storage)?, block.len_bytes)
    }
    /// As [`Store::create`], where there is room. The gate of the new replica is held until its files are there: whoever
    /// stops a creator that hangs waits for it, and no successor is begun whose files it would set aside.
    fn create_in(&self, room: Reservation, block: &BlockRef, chunks: ChunkFormat) -> Result<ReplicaWriter, StoreError> {
        let open = OpenReplica::new(Mark::default(), Mark::default(), OpenLeaves::default());
        let gate = Arc::clone(&open);
        let _inside = gate.enter(block.id)?;
        let volume = Arc::clone(room.volume());
        let number = self.enter(&volume, block, &open)?;
        let (pool, id, stamp) = (block.pool.clone(), block.id, block.stamp);
        let reserved_bytes = room.keep();
        ReplicaWriter::create(Start { volume, pool, id, stamp, chunks, open, number, reserved_bytes })
    }
    fn enter(&self, volume: &Volume, block: &BlockRef, open: &Arc<OpenReplica>) -> Result<u64, StoreError> {
        let _entering = self.entering.lock();
        // Files that are on their way to the trash have the names of the new ones. Those of another disk are in nobody's way,
        // and may be on their way for long, if it hangs.
        let is_leaving = volume.state.lock().leaving.contains(&block.id);
        if is_leaving || self.find(block.id).is_some() {
            return Err(StoreError::Exists(block.id));
        }
        self.check_fence(block.id, block.stamp)?;
        Ok(volume.begin_writing(block.id, block.stamp, open))
    }

    /// Refuses a stamp below that of a recovery. The fence may be on another volume than the replica: a recovery names one.
    fn check_fence(&self, id: BlockId, sent: GenerationStamp) -> Result<(), StoreError> {
        let fences = self.volumes.iter().filter_map(|volume| volume.state.lock().fences.get(id));
        match fences.max() {
            Some(fence) if sent < fence => Err(StoreError::Fenced { id, fence, sent }),
            _ => Ok(()),
        }
    }

    /// Starts a copy that the leader ordered of a committed block. What this node has of the block and cannot
    /// serve (half-written or damaged, of no newer stamp; whole, of an older one) is no hindrance: it goes to the trash.
    ///
    /// # Errors
    /// As [`Store::create`]; [`StoreError::Fenced`] below a recovery's stamp, [`StoreError::Changed`], [`StoreError::Busy`].
    pub fn create_copy(
        &self,
        block: &BlockRef,
        storage: Option<&StorageId>,
        chunks: ChunkFormat,
    ) -> Result<ReplicaWriter, StoreError> {
        self.check_pool(&block.pool)?;
        self.check_fence(block.id, block.stamp)?;
        let useless = |replica: &Replica| {
            let broken = matches!(replica.state, ReplicaState::WaitingRecovery | ReplicaState::Corrupt);
            let stale = replica.state == ReplicaState::Finalized && replica.stamp < block.stamp;
            broken && replica.stamp <= block.stamp || stale
        };
        if let Some((volume, replica)) = self.find(block.id)
            && useless(&replica)
            && volume.takes_writes()
        {
            tracing::warn!(block = %block.id, state = replica.state.as_str(), "a useless replica makes room for a copy");
            // Room first: emptying the trash for it must not take what is here, and a copy that cannot come is not worth it.
            let room = self.room_for(block, storage)?;
            resume::discard(volume, &block.pool, block.id, &replica, false)?;
            return self.create_in(room, block, chunks);
        }
        self.create(block, storage, chunks)
    }

    /// Opens a replica whose stamp is not below the reader's: a finalised one, or what was acknowledged of one that is
    /// being written.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NotWhole`], [`StoreError::StaleStamp`],
    /// [`StoreError::WrongPool`], [`StoreError::VolumeFailed`]; the disk's.
    pub fn open_reader(&self, block: &BlockRef) -> Result<ReplicaReader, StoreError> {
        self.open_with(block, ReplicaReader::open)
    }
    /// As [`Store::open_reader`], for a short read: the files may have been opened before, and stay open for a while. Any
    /// change of the replica closes them.
    ///
    /// # Errors
    /// As [`Store::open_reader`].
    pub fn open_shared(&self, block: &BlockRef) -> Result<ReplicaReader, StoreError> {
        self.open_with(block, ReplicaReader::open_shared)
    }
    /// As [`Store::open_reader`], but only a finalised replica: to be copied as a whole one, or lent.
    ///
    /// # Errors
    /// As [`Store::open_reader`].
    pub fn open_whole(&self, block: &BlockRef) -> Result<ReplicaReader, StoreError> {
        let reader = self.open_reader(block)?;
        let state = ReplicaState::BeingWritten.as_str();
        if reader.is_unfinished() { Err(StoreError::NotWhole { id: block.id, state }) } else { Ok(reader) }
    }
    /// As [`Store::open_reader`], also for an open replica of which nothing was acknowledged yet: the copy is then empty
    /// (SC-36).
    ///
    /// # Errors
    /// As [`Store::open_reader`].
    pub fn open_for_transfer(&self, block: &BlockRef) -> Result<ReplicaReader, StoreError> {
        self.open_with(block, |volume, block| match ReplicaReader::open_unfinished(volume, block, 0)? {
            Some(reader) => Ok(reader),
            None => ReplicaReader::open(volume, block),
        })
    }
    fn open_with(
        &self,
        block: &BlockRef,
        open: impl Fn(&Arc<Volume>, &BlockRef) -> Result<ReplicaReader, StoreError>,
    ) -> Result<ReplicaReader, StoreError> {
        self.check_pool(&block.pool)?;
        let (volume, _) = self.find(block.id).ok_or(StoreError::NotFound(block.id))?;
        match open(volume, block) {
            // What is only kept for later is not worth a refusal.
            Err(error) if error.is_exhausted() && self.close_opened() > 0 => open(volume, block),
            other => other,
        }
    }
    fn close_opened(&self) -> usize {
        self.volumes.iter().map(|volume| volume.close_opened()).sum()
    }
    /// Replicas whose files are kept open for short reads.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.volumes.iter().map(|volume| volume.opened_count()).sum()
    }
    /// Reads a replica whole at the namenode's word, and notes what it finds: damage as a change of state, soundness as a
    /// change of its own. A replica that was called corrupt and is sound is served again. True if it is sound, and has the
    /// digest that the namespace has of the block, if that has one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such replica that is or was whole; [`StoreError::VolumeFailed`]; the
    /// disk's, and then the replica counts as damaged. If only descriptors or memory were wanting, nothing is noted:
    /// the namenode asks again.
    pub fn verify(
        &self,
        storage: &StorageId,
        (id, stamp): (BlockId, GenerationStamp),
        digest: Option<&Prefix>,
    ) -> Result<bool, StoreError> {
        let volume = self.volume(storage)?;
        volume.working()?;
        let whole = |watch: &Watch| {
            let replica = watch.replica();
            replica.stamp == stamp && matches!(replica.state, ReplicaState::Finalized | ReplicaState::Corrupt)
        };
        let watch = Watch::begin(volume, id).filter(whole).ok_or(StoreError::NotFound(id))?;
        let looked = look::look_whole(&watch, &volume.pool()?, digest);
        if let Ok(Some(look)) = &looked
            && digest.is_some()
        {
            // Before the finding is noted: that may be a change of the replica.
            scrub::restore(&watch, Some(look));
        }
        if !looked.as_ref().is_err_and(StoreError::is_exhausted) {
            volume.looked_at(&watch, matches!(looked, Ok(Some(_))), true);
        }
        looked.map(|sound| sound.is_some())
    }
    /// Begins to read a replica whole for somebody who asks about it; see [`Verification::step`]. Nothing is read yet.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no replica that is or was whole; [`StoreError::StaleStamp`],
    /// [`StoreError::WrongPool`], [`StoreError::VolumeFailed`].
    pub fn begin_verify(&self, block: &BlockRef) -> Result<Verification, StoreError> {
        self.check_pool(&block.pool)?;
        let (volume, _) = self.find(block.id).ok_or(StoreError::NotFound(block.id))?;
        volume.working()?;
        let whole = |watch: &Watch| matches!(watch.replica().state, ReplicaState::Finalized | ReplicaState::Corrupt);
        let watch = Watch::begin(volume, block.id).filter(whole).ok_or(StoreError::NotFound(block.id))?;
        let found = watch.replica().stamp;
        if found < block.stamp {
            return Err(StoreError::StaleStamp { id: block.id, found, sent: block.stamp });
        }
        Ok(Verification::new(watch, block.pool.clone()))
    }
    /// A scrubber for each volume. Nothing is read yet.
    #[must_use]
    pub fn scrubs(&self, options: ScrubOptions) -> Vec<VolumeScrub> {
        self.volumes.iter().map(|volume| VolumeScrub::new(Arc::clone(volume), options)).collect()
    }
    /// How far a replica is, at stamp `floor` or a later one. No disk call.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] only if no disk of this node can have one, else [`StoreError::NotOnDisksInUse`];
    /// [`StoreError::StaleStamp`], [`StoreError::WrongPool`]; [`StoreError::NotWhole`] if it is damaged.
    pub fn progress(&self, block: &BlockRef) -> Result<transfer::Progress, StoreError> {
        self.check_pool(&block.pool)?;
        let Some((volume, replica)) = self.find(block.id) else {
            return Err(match self.left_out {
                0 => StoreError::NotFound(block.id),
                left_out => StoreError::NotOnDisksInUse(block.id, left_out),
            });
        };
        if replica.stamp < block.stamp {
            return Err(StoreError::StaleStamp { id: block.id, found: replica.stamp, sent: block.stamp });
        }
        let open = volume.state.lock().open.get(&block.id).cloned();
        // What may lack acknowledged bytes says nothing of what was acknowledged: others are asked.
        let is_whole = replica.state == ReplicaState::Finalized;
        let may_lack = !is_whole && open.as_ref().is_none_or(|open| open.may_lack());
        let lengths = match (replica.state, open) {
            (ReplicaState::Corrupt, _) => {
                return Err(StoreError::NotWhole { id: block.id, state: replica.state.as_str() });
            }
            (ReplicaState::Finalized, _) => OpenLengths::all(replica.len_bytes),
            (_, Some(open)) if may_lack => OpenLengths { acked_bytes: 0, ..open.lengths() },
            (_, Some(open)) => open.lengths(),
            (_, None) => OpenLengths { acked_bytes: 0, ..OpenLengths::all(replica.len_bytes) },
        };
        Ok(transfer::Progress {
            stamp: replica.stamp,
            received_bytes: lengths.received_bytes,
            stored_bytes: lengths.stored_bytes,
            acked_bytes: lengths.acked_bytes,
            finalized: is_whole,
            waiting: replica.state == ReplicaState::WaitingRecovery,
            unsure: may_lack,
        })
    }
    /// What is known of a replica.
    #[must_use]
    pub fn replica(&self, id: BlockId) -> Option<(StorageId, Replica)> {
        self.find(id).map(|(volume, replica)| (volume.storage.clone(), replica))
    }

    /// Deletes a replica on the namenode's command: its files go to the trash. A replica that is not there is
    /// no error (SC-49: a delete is a no-op then), and that it is not there is told once more: the namenode believes it is.
    ///
    /// # Errors
    /// [`StoreError::StaleStamp`] unless the command names the replica's stamp; [`StoreError::Changed`] if it changes just
    /// now, [`StoreError::Busy`] if its writer hangs in a disk call; the disk's.
    pub fn delete(
        &self,
        storage: &StorageId,
        id: BlockId,
        stamp: GenerationStamp,
        now: Moment,
    ) -> Result<(), StoreError> {
        self.delete_as(storage, (id, stamp), now, false)
    }
    /// As [`Store::delete`], of a replica that the namenode knows as damaged. That it is gone is told when no power cut
    /// brings it back.
    ///
    /// # Errors
    /// As [`Store::delete`].
    pub fn delete_damaged(
        &self,
        storage: &StorageId,
        id: BlockId,
        stamp: GenerationStamp,
        now: Moment,
    ) -> Result<(), StoreError> {
        self.delete_as(storage, (id, stamp), now, true)
    }
    fn delete_as(
        &self,
        storage: &StorageId,
        (id, stamp): (BlockId, GenerationStamp),
        now: Moment,
        damaged: bool,
    ) -> Result<(), StoreError> {
        let volume = self.volume(storage)?;
        let pool = volume.pool()?;
        let replica = {
            let mut state = volume.state.lock();
            let Some(replica) = state.replicas.get(&id).copied() else {
                state.journal.absent(id, stamp);
                return Ok(());
            };
            replica
        };
        // A replica that lost its checksums has no stamp: any stamp deletes it.
        if replica.stamp != stamp && replica.stamp.raw() != 0 {
            return Err(StoreError::StaleStamp { id, found: replica.stamp, sent: stamp });
        }
        volume.writable()?;
        volume.note_time(now);
        // What is half-written comes back as that, and counts for nothing.
        let damaged = damaged && matches!(replica.state, ReplicaState::Finalized | ReplicaState::Corrupt);
        resume::discard(volume, &pool, id, &replica, damaged)
    }

    /// What heartbeats say of each storage. No disk call.
    #[must_use]
    pub fn reports(&self) -> Vec<StorageReport> {
        self.volumes.iter().map(|volume| volume.report()).collect()
    }
    /// Changes of a storage from number `from` on; `None` if they are not kept any more.
    #[must_use]
    pub fn changes(&self, storage: &StorageId, from: u64, limit: usize) -> Option<Vec<ReplicaRecord>> {
        self.volume(storage).ok()?.state.lock().journal.since(from, limit)
    }
    /// Forgets changes that every namenode has heard.
    pub fn forget_changes(&self, storage: &StorageId, below: u64) {
        if let Ok(volume) = self.volume(storage) {
            volume.state.lock().journal.forget_below(below);
        }
    }
    /// Notes every replica that hashes do not cover (half-written or damaged) as a change once more, for a
    /// namenode that has forgotten, or has not heard, what it was told before.
    pub fn restate(&self, storage: &StorageId) {
        if let Ok(volume) = self.volume(storage) {
            let mut state = volume.state.lock();
            let odd =
                |replica: &Replica| matches!(replica.state, ReplicaState::WaitingRecovery | ReplicaState::Corrupt);
            let again = state.replicas.iter().filter(|(_, r)| odd(r)).map(|(id, r)| (*id, *r));
            // Fewer than the journal keeps: telling it must come to an end.
            let again: Vec<_> = again.take(journal::MAX_CHANGES / 2).collect();
            again.iter().for_each(|(id, replica)| state.journal.restate(*id, replica));
        }
    }
    /// Hash of each bucket, with the incarnation, the last change that they include, and the number of replicas.
    #[must_use]
    pub fn bucket_hashes(&self, storage: &StorageId) -> Option<BucketHashes> {
        let volume = self.volume(storage).ok()?;
        let state = volume.state.lock();
        Some(BucketHashes {
            incarnation: state.journal.incarnation(),
            sequence: state.journal.sequence(),
            hashes: state.journal.hashes().to_vec(),
            replicas: state.journal.finalized(),
        })
    }
    /// The replicas of some buckets, whole, and the last change that they include.
    #[must_use]
    pub fn buckets(&self, storage: &StorageId, wanted: &[u32]) -> Option<(u64, Vec<Bucket>)> {
        let volume = self.volume(storage).ok()?;
        let state = volume.state.lock();
        let mut buckets: std::collections::BTreeMap<u32, Bucket> =
            wanted.iter().map(|bucket| (*bucket, Bucket { bucket: *bucket, replicas: Vec::new() })).collect();
        for (id, replica) in state.replicas.iter().filter(|(_, r)| r.state != ReplicaState::BeingWritten) {
            if let Some(bucket) = buckets.get_mut(&id.bucket()) {
                bucket.replicas.push(journal::record(*id, replica));
            }
        }
        Some((state.journal.sequence(), buckets.into_values().collect()))
    }

    /// Upkeep, now and then, on a thread that may wait for disks: old trash goes, room is looked at, files that no short
    /// read has used since the last time are closed.
    pub fn tend(&self, now: Moment) {
        self.volumes.iter().for_each(|volume| volume.tend(now));
    }
    /// As [`Store::tend`], of one volume: a thread for each, so that a disk that hangs keeps its own only.
    pub fn tend_one(&self, storage: &StorageId, now: Moment) {
        if let Ok(volume) = self.volume(storage) {
            volume.tend(now);
        }
    }
    /// Takes a volume that hung up again if it works again. On a thread that may wait for its disk.
    pub fn check_again(&self, storage: &StorageId) {
        if let Ok(volume) = self.volume(storage) {
            volume.check_again();
        }
    }
    /// Calls of a storage's disk that are under way; for whoever stands in for a disk that hangs.
    #[must_use]
    pub fn calls(&self, storage: &StorageId) -> Option<Arc<Calls>> {
        self.volume(storage).ok().map(|volume| Arc::clone(&volume.calls))
    }
    /// Looks whether calls of a disk do not come back: to be called several times a second, from a thread that waits for
    /// no disk. Waits for none.
    pub fn watch(&self, now: Moment) {
        self.volumes.iter().for_each(|volume| volume.watch(now));
    }
    /// Grows whenever the state of a volume changes.
    #[must_use]
    pub fn health_changes(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.state.lock().health.changes()).sum()
    }
    /// Every storage, its folder, its state, and why it is not working.
    #[must_use]
    pub fn health(&self) -> Vec<(StorageId, PathBuf, VolumeState, String)> {
        let one = |volume: &Arc<Volume>| {
            let (state, why) = volume.health();
            (volume.storage.clone(), volume.dir.clone(), state, why)
        };
        self.volumes.iter().map(one).collect()
    }
    /// Numbers for metrics: replicas that are whole, volumes in service, volumes out of service.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        let mut counts = StoreCounts::default();
        for volume in &self.volumes {
            let state = volume.state.lock();
            counts.finalized += state.journal.finalized();
            counts.used_bytes += state.used_bytes;
            counts.reserved_bytes += state.reserved_bytes;
            if state.health.state().0.is_out() {
                counts.volumes_failed += 1;
            } else {
                counts.volumes_working += 1;
            }
        }
        counts
    }

    fn check_pool(&self, pool: &PoolId) -> Result<(), StoreError> {
        match self.membership() {
            None => Err(StoreError::NotRegistered),
            Some((_, ours)) if ours == *pool => Ok(()),
            Some(_) => Err(StoreError::WrongPool(pool.to_string())),
        }
    }
    fn working(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.volumes.iter().filter(|volume| !volume.is_failed())
    }
    fn volume(&self, storage: &StorageId) -> Result<&Arc<Volume>, StoreError> {
        let found = self.volumes.iter().find(|volume| volume.storage == *storage);
        found.ok_or_else(|| StoreError::NoStorage(storage.to_string()))
    }
    fn choose(&self, storage: Option<&StorageId>) -> Result<Arc<Volume>, StoreError> {
        if let Some(storage) = storage {
            let volume = self.volume(storage)?;
            volume.writable()?;
            return Ok(Arc::clone(volume));
        }
        let writable = self.volumes.iter().filter(|volume| volume.takes_writes());
        let roomiest = writable.max_by_key(|volume| volume.room_bytes());
        roomiest.cloned().ok_or_else(|| StoreError::NoStorage("(none is left)".to_owned()))
    }
    fn find(&self, id: BlockId) -> Option<(&Arc<Volume>, Replica)> {
        self.volumes.iter().find_map(|volume| {
            let replica = volume.state.lock().replicas.get(&id).copied();
            replica.map(|replica| (volume, replica))
        })
    }
    /// A block found on two volumes is kept where it is whole and newest; the other copy is left alone and not
    /// spoken of (SC-49: nothing is deleted at start).
    fn hide_duplicates(&self) {
        let mut best: std::collections::BTreeMap<BlockId, (usize, Replica)> = std::collections::BTreeMap::new();
        for (index, volume) in self.volumes.iter().enumerate() {
            let replicas: Vec<_> = volume.state.lock().replicas.iter().map(|(id, r)| (*id, *r)).collect();
            for (id, replica) in replicas {
                let rank = |r: &Replica| (r.state == ReplicaState::Finalized, r.stamp);
                let loser = match best.get(&id) {
                    Some((_, kept)) if rank(kept) >= rank(&replica) => Some(index),
                    Some((other, _)) => Some(*other),
                    None => None,
                };
                if loser != Some(index) {
                    best.insert(id, (index, replica));
                }
                if let Some(loser) = loser.and_then(|loser| self.volumes.get(loser)) {
                    tracing::warn!(block = %id, storage = %loser.storage, "a second copy on this node is ignored");
                    loser.set_replica(id, None);
                    if base::mutated!(Sc49DuplicateIsDeletedAtStart)
                        && let Err(error) =
                            loser.pool().and_then(|pool| loser.move_to_trash(&pool, id, &replica, Moment::START))
                    {
                        tracing::warn!(%error, "the second copy stays");
                    }
                }
            }
        }
    }
}

/// A storage's side of a full report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketHashes {
    /// Incarnation of the storage's journal.
    pub incarnation: u64,
    /// Last change that the hashes include.
    pub sequence: u64,
    /// One hash per bucket.
    pub hashes: Vec<u64>,
    /// Finalised replicas.
    pub replicas: u64,
}

/// Numbers of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Finalised replicas.
    pub finalized: u64,
    /// Bytes of replicas.
    pub used_bytes: u64,
    /// Bytes set aside for replicas that are being written.
    pub reserved_bytes: u64,
    /// Volumes in service.
    pub volumes_working: u64,
    /// Volumes taken out.
    pub volumes_failed: u64,
}

/// An empty folder, beside one that could not be read: a new id in it would part the two for good.
fn not_stamped(dir: &Path) -> StoreError {
    StoreError::Refused {
        path: dir.display().to_string(),
        problem:
            "not used: another folder of this node, which may know the node's id, cannot be read; mend that folder, \
                  or take it out of the settings"
                .to_owned(),
    }
}
