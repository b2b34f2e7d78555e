//! Going on with a replica that exists: after a failure of its pipeline, for an append, to close or to recover it.
//!
//! ```text
//!   decide ─▶ stop the writer (bounded) ─▶ decide again ─▶ look at the end ─▶ side record ─▶ switch in memory
//!                                                             ─▶ meta file renamed, folder synced ─▶ cut ─▶ ReplicaWriter
//! ```
//!
//! One name is one truth: the meta file has the old stamp's name or the new one's, never both, and the rename is durable
//! before anything else changes. A whole replica keeps its trailer until then; found under the name of a higher stamp,
//! that trailer says that the replica was reopened, and at which length. Before the checksum of a last chunk is written
//! over that was durable, a side record has it.

use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{DiskFile, OpenMode};
use parking_lot::MutexGuard;
use proto::ids::{BlockId, GenerationStamp, PoolId, StorageId};
use transfer::digest;
use transfer::{BlockRef, ChunkFormat, WriteStage};

use super::Store;
use super::admit::{Here, Verdict, Wish, decide};
use super::error::StoreError;
use super::layout;
use super::look::Watch;
use super::meta::{self, End};
use super::open::{FoundReplica, Mark, OpenLeaves, OpenReplica};
use super::prove;
use super::reader::mark_corrupt;
use super::replica::{Replica, ReplicaState};
use super::reservation::Reservation;
use super::scan;
use super::side::{self, SideFile};
use super::verify::{Verification, VerifyStep};
use super::volume::{State, Volume};
use super::writer::{FinalisedReplica, ReplicaWriter, Start, recount};

/// Checksums that are read at a time.
const PIECE_BYTES: u64 = 1 << 20;

type OpenFile = Arc<dyn DiskFile>;

/// What is known of a replica, at one moment.
#[derive(Clone, Debug)]
struct Seen {
    replica: Replica,
    open: Option<Arc<OpenReplica>>,
    fence: Option<GenerationStamp>,
}

impl Seen {
    fn of(state: &State, id: BlockId) -> Option<Self> {
        let replica = *state.replicas.get(&id)?;
        Some(Self { replica, open: state.open.get(&id).cloned(), fence: state.fences.get(id) })
    }
    fn here(&self) -> Here {
        let len_bytes = match self.replica.state {
            ReplicaState::Finalized | ReplicaState::Corrupt => Some(self.replica.len_bytes),
            ReplicaState::BeingWritten | ReplicaState::WaitingRecovery => {
                self.known_bytes().filter(|_| !self.open.as_ref().is_some_and(|open| open.differs()))
            }
        };
        Here { replica: self.replica, len_bytes, fence: self.fence }
    }
    /// Bytes that it has, whoever wrote them; `None` if nobody has looked.
    fn known_bytes(&self) -> Option<u64> {
        match (&self.open, self.replica.state) {
            (_, ReplicaState::Finalized) => Some(self.replica.len_bytes),
            (Some(open), _) => Some(open.lengths().stored_bytes),
            (None, _) => None,
        }
    }
    /// Is it open, and not as what was seen before? Then whoever was stopped is not who writes it now.
    fn has_other_writer_than(&self, before: &Self) -> bool {
        let same = |open: &Arc<OpenReplica>| before.open.as_ref().is_some_and(|before| Arc::ptr_eq(before, open));
        self.open.as_ref().is_some_and(|open| !same(open))
    }
    /// Is it still the same replica with the same files? Its writer may have gone meanwhile.
    fn is_still(&self, state: &State, id: BlockId) -> bool {
        let Some(now) = Self::of(state, id) else { return false };
        match (&self.open, &now.open) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after) && self.replica.stamp == now.replica.stamp,
            (None, None) => self.replica == now.replica,
            _ => false,
        }
    }
}

/// Stops whoever writes the replica. While the guard is held, nobody changes its files.
fn stop(open: Option<&Arc<OpenReplica>>, id: BlockId) -> Result<Option<MutexGuard<'_, ()>>, StoreError> {
    open.map(|open| open.stop(id)).transpose()
}

impl Store {
    /// Starts to write a replica that may exist, as [`Wish::stage`] says. A writer that is at it is stopped first, for good.
    /// What is appended to is read whole before: the append's stamp makes those copies stale that do not take part.
    ///
    /// # Errors
    /// Those of the decision (see `admit`); [`StoreError::Busy`] if the old writer hangs in a disk call,
    /// [`StoreError::Changed`] if somebody else was faster; as [`Store::create`].
    pub fn resume(
        &self,
        block: &BlockRef,
        wish: &Wish,
        storage: Option<&StorageId>,
        chunks: ChunkFormat,
    ) -> Result<ReplicaWriter, StoreError> {
        self.resume_within(block, wish, storage, chunks, &|| false)
    }
    /// As [`Store::resume`]; what is appended to is read until `is_late`: the writer waits, and not for ever.
    ///
    /// # Errors
    /// As [`Store::resume`].
    pub fn resume_within(
        &self,
        block: &BlockRef,
        wish: &Wish,
        storage: Option<&StorageId>,
        chunks: ChunkFormat,
        is_late: &dyn Fn() -> bool,
    ) -> Result<ReplicaWriter, StoreError> {
        self.check_pool(&block.pool)?;
        // Also the fence of a recovery that found no replica, whichever volume it asked.
        self.check_fence(block.id, wish.new_stamp)?;
        let Some((volume, seen)) = self.see(block.id) else { return self.begin(block, wish, storage, chunks) };
        volume.working()?;
        let seen = read_if_left(volume, block, wish, seen)?;
        decide(block.id, wish, Some(&seen.here()))?;
        read_before_append(volume, block, wish, (&seen, is_late))?;
        let held = stop(seen.open.as_ref(), block.id)?;
        let again = Seen::of(&volume.state.lock(), block.id);
        let Some(again) = again else {
            // Its writer had not got a byte, and has taken it away: as if this had come a moment later.
            drop(held);
            return self.begin(block, wish, storage, chunks);
        };
        if again.has_other_writer_than(&seen) {
            return Err(StoreError::Changed(block.id));
        }
        match decide(block.id, wish, Some(&again.here()))? {
            Verdict::Create => Err(StoreError::Changed(block.id)),
            Verdict::Replace => {
                // Room first: what is here may be all that there is, and is not given up for a copy that cannot come.
                let created = BlockRef { stamp: wish.new_stamp, ..block.clone() };
                let room = self.room_for(&created, storage)?;
                Self::clear(volume, &block.pool, block.id, &again)?;
                drop(held);
                let mut writer = self.create_in(room, &created, chunks)?;
                writer.set_stays_open();
                writer.set_replaces();
                Ok(writer)
            }
            Verdict::Resume { at_bytes } => {
                let closes = wish.stage == WriteStage::PipelineCloseRecovery;
                let more_bytes = if closes { 0 } else { block.len_bytes.saturating_sub(at_bytes).max(1) };
                let takeover = Takeover {
                    volume,
                    pool: &block.pool,
                    id: block.id,
                    before: again,
                    at_bytes,
                    new_stamp: wish.new_stamp,
                    chunks: Some(chunks),
                    more_bytes,
                    vouched: Vouched::by(wish),
                    appends: matches!(
                        wish.stage,
                        WriteStage::PipelineSetupAppend | WriteStage::PipelineSetupAppendRecovery
                    ),
                };
                let mut writer = takeover.run()?;
                if wish.stage == WriteStage::TransferRbw {
                    writer.set_stays_open();
                }
                Ok(writer)
            }
        }
    }

    /// As [`Store::resume`], where there is no replica.
    fn begin(
        &self,
        block: &BlockRef,
        wish: &Wish,
        storage: Option<&StorageId>,
        chunks: ChunkFormat,
    ) -> Result<ReplicaWriter, StoreError> {
        decide(block.id, wish, None)?;
        let mut writer = self.create(&BlockRef { stamp: wish.new_stamp, ..block.clone() }, storage, chunks)?;
        if wish.stage == WriteStage::TransferRbw {
            writer.set_stays_open();
        }
        Ok(writer)
    }

    /// First half of a block's recovery: the writer is stopped, and nothing but this recovery, or what comes after it,
    /// changes the replica from now on. `None`: there is none on that disk; a writer on another one is stopped
    /// all the same. What an earlier run of the node left is read whole, and so is what is finalised: one that is damaged is
    /// told as such.
    ///
    /// # Errors
    /// [`StoreError::StaleStamp`] and [`StoreError::Fenced`] if a later recovery was here; [`StoreError::Busy`]; the disk's.
    pub fn prepare_recovery(
        &self,
        storage: &StorageId,
        id: BlockId,
        recovery: GenerationStamp,
    ) -> Result<Option<FoundReplica>, StoreError> {
        self.prepare_recovery_within(storage, id, recovery, &|| false)
    }
    /// As [`Store::prepare_recovery`]; what is finalised is read until `is_late`: who is silent for long counts as gone, and a
    /// replica that was read in part is as good as one that nobody has looked at.
    ///
    /// # Errors
    /// As [`Store::prepare_recovery`].
    pub fn prepare_recovery_within(
        &self,
        storage: &StorageId,
        id: BlockId,
        recovery: GenerationStamp,
        is_late: &dyn Fn() -> bool,
    ) -> Result<Option<FoundReplica>, StoreError> {
        let volume = self.volume(storage)?;
        volume.working()?;
        let pool = volume.pool()?;
        let (fenced, elsewhere) = {
            // Whoever enters the block looks for fences under the same lock.
            let _entering = self.entering.lock();
            (fence(volume, id, recovery)?, self.fence_elsewhere(storage, id, recovery)?)
        };
        for (other, seen) in elsewhere {
            tracing::info!(block = %id, asked = %storage, found = %other.storage, "a recovery shuts out another disk's writer");
            shut_out(other, id, &seen)?;
        }
        let Some(before) = fenced else { return Ok(None) };
        let Some(stopped) = shut_out(volume, id, &before)? else { return Ok(None) };
        let (stamp, state) = (stopped.replica.stamp, stopped.replica.state);
        let found =
            |len_bytes, acked_bytes, restarted| FoundReplica { state, stamp, len_bytes, acked_bytes, restarted };
        match (&stopped.open, state) {
            (_, ReplicaState::Finalized | ReplicaState::Corrupt) => {
                let len_bytes = stopped.replica.len_bytes;
                let state = read_if_whole(volume, &pool, (id, &stopped.replica), is_late)?;
                let found = found(len_bytes, len_bytes, false);
                Ok(Some(FoundReplica { state, ..found }))
            }
            (Some(open), _) => {
                let lengths = open.lengths();
                // Told as it was before: a recovery that asks twice hears the same.
                let state = before.replica.state;
                let found = found(lengths.stored_bytes, lengths.acked_bytes, open.may_lack());
                Ok(Some(FoundReplica { state, ..found }))
            }
            // Data without a meta file: their checksums were never durable, so nothing of them was. Of what was written there a
            // power cut has left nothing; at which stamp that was makes no difference, and one that is too low would count
            // as a replica that may have more than it can tell, for ever.
            (None, _) if stamp.raw() == 0 => Ok(Some(FoundReplica { stamp: recovery, ..found(0, 0, true) })),
            (None, _) => {
                let good = prove_left(volume, &pool, id, &stopped)?;
                Ok(Some(found(good, 0, true)))
            }
        }
    }

    /// Second half: the replica is cut to `len_bytes`, gets the stamp of the recovery, and is finalised, durably. Asked
    /// again after it was done, it is done.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if the first half was not this recovery's; [`StoreError::WrongLength`] if the replica is
    /// shorter; as [`ReplicaWriter::finalise`].
    pub fn finish_recovery(
        &self,
        storage: &StorageId,
        id: BlockId,
        recovery: GenerationStamp,
        len_bytes: u64,
    ) -> Result<FinalisedReplica, StoreError> {
        let volume = self.volume(storage)?;
        volume.working()?;
        let pool = volume.pool()?;
        let seen = Seen::of(&volume.state.lock(), id).ok_or(StoreError::NotFound(id))?;
        let replica = seen.replica;
        let done = (replica.state, replica.stamp, replica.len_bytes) == (ReplicaState::Finalized, recovery, len_bytes);
        if done && seen.fence.is_none() {
            return Ok(FinalisedReplica { pool, id, stamp: recovery, len_bytes, storage: storage.clone() });
        }
        if seen.fence != Some(recovery) {
            let fence = seen.fence.unwrap_or(replica.stamp);
            return Err(StoreError::Fenced { id, fence, sent: recovery });
        }
        if replica.stamp > recovery {
            return Err(StoreError::StaleStamp { id, found: replica.stamp, sent: recovery });
        }
        let state = replica.state.as_str();
        let known = seen.known_bytes().filter(|_| replica.state != ReplicaState::Corrupt);
        let found_bytes = known.ok_or(StoreError::NotWhole { id, state })?;
        if found_bytes < len_bytes {
            let max_bytes = u64::MAX;
            return Err(StoreError::WrongLength { id, found_bytes, min_bytes: len_bytes, max_bytes });
        }
        let _held = stop(seen.open.as_ref(), id)?;
        let takeover = Takeover {
            volume,
            pool: &pool,
            id,
            before: seen.clone(),
            at_bytes: len_bytes,
            new_stamp: recovery,
            chunks: None,
            more_bytes: 0,
            vouched: Vouched::NOTHING,
            appends: false,
        };
        takeover.run()?.finalise_as_it_is()
    }

    /// Shuts out what is below a recovery's stamp on the other disks, too: a recovery names one disk, and a writer of the
    /// block may be at work on another, where the namenode does not know of it (SC-26).
    fn fence_elsewhere(
        &self,
        asked: &StorageId,
        id: BlockId,
        recovery: GenerationStamp,
    ) -> Result<Vec<(&Arc<Volume>, Seen)>, StoreError> {
        let others = self.volumes.iter().filter(|other| other.storage != *asked);
        let holders = others.filter(|other| other.state.lock().replicas.contains_key(&id));
        let fenced =
            holders.filter_map(|other| Some(fence(other, id, recovery).transpose()?.map(|seen| (other, seen))));
        fenced.collect()
    }
    fn see(&self, id: BlockId) -> Option<(&Arc<Volume>, Seen)> {
        self.volumes.iter().find_map(|volume| Some((volume, Seen::of(&volume.state.lock(), id)?)))
    }
    /// Moves a replica away that makes room for a better one.
    fn clear(volume: &Volume, pool: &PoolId, id: BlockId, seen: &Seen) -> Result<(), StoreError> {
        tracing::warn!(block = %id, state = seen.replica.state.as_str(), "a replica makes room for a copy of a higher stamp");
        take_away(volume, pool, id, seen)
    }
}

/// Moves a replica to the trash that is still what its judge has seen; its writer is stopped first. `damaged`: so says the
/// namenode, whatever is known here.
///
/// # Errors
/// [`StoreError::Changed`] if it is something else by now; [`StoreError::Busy`]; the disk's.
pub(super) fn discard(
    volume: &Volume,
    pool: &PoolId,
    id: BlockId,
    judged: &Replica,
    damaged: bool,
) -> Result<(), StoreError> {
    let seen = Seen::of(&volume.state.lock(), id);
    let seen = seen.filter(|seen| seen.replica == *judged).ok_or(StoreError::Changed(id))?;
    let _held = seen.open.as_ref().map(|open| open.stop_removed(id)).transpose()?;
    if damaged { take_away_lastingly(volume, pool, id, &seen) } else { take_away(volume, pool, id, &seen) }
}

/// Takes a replica, whose writer is stopped, out of the map, in one step with the question whether it is still the one that
/// was seen, and its files to the trash. Nobody begins the block anew before they are there.
fn take_away(volume: &Volume, pool: &PoolId, id: BlockId, seen: &Seen) -> Result<(), StoreError> {
    if seen.replica.state == ReplicaState::Corrupt {
        return take_away_lastingly(volume, pool, id, seen);
    }
    let now = {
        let mut state = volume.state.lock();
        begin_to_leave(&mut state, id, seen)?;
        state.set_replica(id, None);
        state.now
    };
    if seen.replica.state != ReplicaState::Finalized {
        side::remove(volume, pool, id);
    }
    let moved = volume.move_to_trash(pool, id, &seen.replica, now);
    volume.state.lock().leaving.remove(&id);
    moved
}

/// As [`take_away`], of a damaged replica: that it is gone is told when no power cut brings it back. It would come back as
/// a sound one, because the namenodes forget what they knew of it when they hear that it is gone, and good copies would be
/// removed for it. Until then it stays in the map as what it is; so it does after an error, and is deleted again.
fn take_away_lastingly(volume: &Volume, pool: &PoolId, id: BlockId, seen: &Seen) -> Result<(), StoreError> {
    let now = {
        let mut state = volume.state.lock();
        begin_to_leave(&mut state, id, seen)?;
        if seen.replica.state != ReplicaState::Corrupt {
            state.set_replica(id, Some(Replica { state: ReplicaState::Corrupt, ..seen.replica }));
        }
        state.now
    };
    if seen.replica.state != ReplicaState::Finalized {
        side::remove(volume, pool, id);
    }
    let moved = volume.move_to_trash(pool, id, &seen.replica, now);
    let lasting = moved.and_then(|()| volume.commit_names(pool, layout::folder_of(id)));
    let mut state = volume.state.lock();
    state.leaving.remove(&id);
    if lasting.is_ok() {
        // Whatever became of it meanwhile: its files are not here.
        state.set_replica(id, None);
    }
    lasting
}

/// From now on the replica's files are on their way to the trash, if it is still the one that was seen.
fn begin_to_leave(state: &mut State, id: BlockId, seen: &Seen) -> Result<(), StoreError> {
    if !seen.is_still(state, id) || !state.leaving.insert(id) {
        return Err(StoreError::Changed(id));
    }
    Ok(())
}

/// Shuts out everything below a recovery's stamp; what is there.
fn fence(volume: &Volume, id: BlockId, recovery: GenerationStamp) -> Result<Option<Seen>, StoreError> {
    let mut state = volume.state.lock();
    if let Some(fence) = state.fences.get(id).filter(|fence| *fence > recovery) {
        return Err(StoreError::Fenced { id, fence, sent: recovery });
    }
    let Some(seen) = Seen::of(&state, id) else {
        // A late writer of a lower stamp would begin what the recovery has done without.
        state.fence(id, recovery);
        return Ok(None);
    };
    if seen.replica.stamp > recovery {
        return Err(StoreError::StaleStamp { id, found: seen.replica.stamp, sent: recovery });
    }
    if seen.replica.stamp < recovery || seen.replica.state != ReplicaState::Finalized {
        state.fence(id, recovery);
    }
    Ok(Some(seen))
}

/// Stops the writer of a replica that was fenced; what it is then, `None` if it was removed meanwhile.
fn shut_out(volume: &Volume, id: BlockId, fenced: &Seen) -> Result<Option<Seen>, StoreError> {
    let _held = stop(fenced.open.as_ref(), id)?;
    let now = {
        let mut state = volume.state.lock();
        let Some(now) = Seen::of(&state, id) else { return Ok(None) };
        if now.has_other_writer_than(fenced) {
            return Err(StoreError::Changed(id));
        }
        if now.replica.state == ReplicaState::BeingWritten {
            let len_bytes = now.known_bytes().unwrap_or(0);
            let left = Replica { state: ReplicaState::WaitingRecovery, len_bytes, ..now.replica };
            state.set_replica(id, Some(left));
        }
        now
    };
    if let Some(open) = &now.open {
        recount(volume, open, open.lengths().stored_bytes);
    }
    Ok(Some(now))
}

/// What is here, read if a writer goes on with what an earlier run of the node left: how much of it is good nobody knows
/// before, and the writer knows how much must be. The only other way would be a copy in its place, which gives up what may
/// be all that there is once its source is gone (F-1).
fn read_if_left(volume: &Volume, block: &BlockRef, wish: &Wish, seen: Seen) -> Result<Seen, StoreError> {
    use WriteStage as Stage;
    let goes_on = matches!(
        wish.stage,
        Stage::PipelineSetupStreamingRecovery | Stage::PipelineSetupAppendRecovery | Stage::TransferRbw
    );
    let is_left = seen.open.is_none() && seen.replica.state == ReplicaState::WaitingRecovery;
    // Data without a meta file are good up to nowhere.
    if !goes_on || !is_left || seen.replica.stamp < wish.floor || seen.replica.stamp.raw() == 0 {
        return Ok(seen);
    }
    prove_left(volume, &block.pool, block.id, &seen)?;
    Seen::of(&volume.state.lock(), block.id).ok_or(StoreError::Changed(block.id))
}

/// Reads what is appended to. A damaged replica would be the only current one where the pipeline has no other node, or loses
/// it: the append's stamp makes the good copies stale that are not in it.
fn read_before_append(
    volume: &Arc<Volume>,
    block: &BlockRef,
    wish: &Wish,
    (seen, is_late): (&Seen, &dyn Fn() -> bool),
) -> Result<(), StoreError> {
    if wish.stage != WriteStage::PipelineSetupAppend || base::mutated!(Sc29AppendReadsNothing) {
        return Ok(());
    }
    match read_if_whole(volume, &block.pool, (block.id, &seen.replica), is_late)? {
        ReplicaState::Corrupt => Err(StoreError::NotWhole { id: block.id, state: ReplicaState::Corrupt.as_str() }),
        _ => Ok(()),
    }
}

/// What a whole replica is, by its bytes: a recovery may end the block on it alone, and what the others have counts for nothing
/// then. A damaged one is noted and reported as such.
fn read_if_whole(
    volume: &Arc<Volume>,
    pool: &PoolId,
    (id, whole): (BlockId, &Replica),
    is_late: &dyn Fn() -> bool,
) -> Result<ReplicaState, StoreError> {
    if whole.state != ReplicaState::Finalized {
        return Ok(whole.state);
    }
    let watch = Watch::begin(volume, id).filter(|watch| watch.replica() == *whole).ok_or(StoreError::Changed(id))?;
    let mut reading = Verification::new(watch, pool.clone());
    while !is_late() {
        if let VerifyStep::Done(verified) = reading.step()? {
            return Ok(if verified.damage.is_none() { whole.state } else { ReplicaState::Corrupt });
        }
    }
    Ok(whole.state)
}

/// Reads what an earlier run of the node left, and keeps what was found.
fn prove_left(volume: &Volume, pool: &PoolId, id: BlockId, seen: &Seen) -> Result<u64, StoreError> {
    let stamp = seen.replica.stamp;
    let good = prove::good_length(volume, pool, id, stamp)?;
    let open = OpenReplica::found(good);
    // As the scan has counted it, but for chunks of another length.
    let sums_bytes = ChunkFormat::CRC32C_512.checksums_bytes(seen.replica.len_bytes);
    open.recount(seen.replica.len_bytes + sums_bytes + meta::HEADER_BYTES);
    let mut state = volume.state.lock();
    if !seen.is_still(&state, id) {
        return Err(StoreError::Changed(id));
    }
    state.open.insert(id, open);
    Ok(good.len_bytes)
}

/// What is known of earlier acknowledgements by whoever takes a replica over.
#[derive(Clone, Copy, Debug)]
struct Vouched {
    /// So much was acknowledged.
    min_bytes: u64,
    /// No more was: nothing beyond it was sent. Nodes may have acknowledged it to each other, and readers have seen it,
    /// before the writer heard of it.
    max_bytes: u64,
}

impl Vouched {
    /// A recovery ends what it takes over, and of a copy only its end says that nothing is missing.
    const NOTHING: Self = Self { min_bytes: 0, max_bytes: u64::MAX };

    const fn by(wish: &Wish) -> Self {
        match wish.stage {
            WriteStage::TransferRbw => Self::NOTHING,
            _ => Self { min_bytes: wish.min_bytes, max_bytes: wish.most_bytes() },
        }
    }
}

/// A replica that is about to get another stamp, and another writer.
struct Takeover<'a> {
    volume: &'a Arc<Volume>,
    pool: &'a PoolId,
    id: BlockId,
    before: Seen,
    at_bytes: u64,
    new_stamp: GenerationStamp,
    /// Format of the packets that come; `None`: none come.
    chunks: Option<ChunkFormat>,
    /// Room to set aside.
    more_bytes: u64,
    vouched: Vouched,
    /// The block grows beyond what its writer made: the leaves of its digest are of no use any more.
    appends: bool,
}

/// The files of a replica, and its end.
struct Looked {
    data: OpenFile,
    meta: OpenFile,
    chunks: ChunkFormat,
    end: Mark,
    /// What was acknowledged of it, as far as it is known.
    acked: Mark,
    sums_crc: u32,
    leaves: OpenLeaves,
}

/// What a replica is that could not be taken over.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// As it was, but for its writer.
    Untouched(Replica),
    /// Under the new stamp, cut or not.
    Changed(Replica),
}

impl Takeover<'_> {
    /// Does it. The gate of the old writer is held, and that of the new one from before anybody can see it until the files
    /// are what it says: a recovery or a delete that comes meanwhile waits, and finds nothing that is still being cut.
    fn run(self) -> Result<ReplicaWriter, StoreError> {
        let mut looked = self.look()?;
        let side = self.keep_end(&looked)?;
        let room = match self.more_bytes {
            0 => Reservation::none(self.volume),
            more_bytes => Reservation::on(self.volume, more_bytes)?,
        };
        let open = self.open(&looked);
        let gate = Arc::clone(&open);
        let _inside = gate.enter(self.id)?;
        let found_bytes = self.before.replica.len_bytes + looked.meta.len_bytes().unwrap_or(0);
        let number = {
            let mut state = self.volume.state.lock();
            if !self.before.is_still(&state, self.id) || self.is_shut_out(&state) {
                return Err(StoreError::Changed(self.id));
            }
            // Counted as before, in one step with the question whether it is still the replica that was counted.
            open.recount(self.before.open.as_ref().map_or(found_bytes, |before| before.recount(0)));
            state.begin_writing(self.id, self.new_stamp, &open)
        };
        if let Err((error, left)) = self.switch(&mut looked) {
            self.give_back(number, &open, left);
            return Err(error);
        }
        let start = Start {
            volume: Arc::clone(self.volume),
            pool: self.pool.clone(),
            id: self.id,
            stamp: self.new_stamp,
            chunks: looked.chunks,
            open,
            number,
            reserved_bytes: room.keep(),
        };
        Ok(ReplicaWriter::resume(start, (looked.data, looked.meta), looked.sums_crc, side))
    }
    /// The files did not become the new writer's: the replica is what they are, and has no writer.
    fn give_back(&self, number: u64, open: &Arc<OpenReplica>, left: Left) {
        let (Left::Untouched(replica) | Left::Changed(replica)) = left;
        let mut state = self.volume.state.lock();
        if state.end_writing(self.id, number, Some(replica))
            && matches!(left, Left::Untouched(_))
            && let Some(before) = &self.before.open
        {
            // Its length is the one before, and so is what was acknowledged of that.
            before.recount(open.recount(0));
            state.open.insert(self.id, Arc::clone(before));
        }
    }

    /// A recovery that began meanwhile shuts this out; one that is being finished is the fence itself.
    fn is_shut_out(&self, state: &State) -> bool {
        let fence = state.fences.get(self.id);
        if self.chunks.is_some() { fence >= Some(self.new_stamp) } else { fence != Some(self.new_stamp) }
    }
    const fn was_whole(&self) -> bool {
        matches!(self.before.replica.state, ReplicaState::Finalized)
    }
    fn old_meta_path(&self) -> std::path::PathBuf {
        self.volume.meta_path(self.pool, self.id, self.before.replica.stamp)
    }
    fn damaged(&self) -> StoreError {
        if self.was_whole() {
            mark_corrupt(self.volume, self.id, self.before.replica.stamp);
        }
        StoreError::NotWhole { id: self.id, state: ReplicaState::Corrupt.as_str() }
    }

    /// Opens the files and looks at the place from which the replica goes on. Changes nothing.
    fn look(&self) -> Result<Looked, StoreError> {
        let (data_path, meta_path) = (self.volume.data_path(self.pool, self.id), self.old_meta_path());
        let open = |path: &std::path::Path| {
            self.volume.disk.open(path, OpenMode::ReadWrite).map_err(StoreError::io("open", path))
        };
        let (data, meta) = (open(&data_path)?, open(&meta_path)?);
        let io = || StoreError::io("read", &meta_path);
        let mut header = [0; meta::HEADER_BYTES as usize];
        meta.read_exact_at(&mut header, 0).map_err(io())?;
        let Some(chunks) = meta::decode_header(&header) else { return Err(self.damaged()) };
        if self.chunks.is_some_and(|wanted| wanted != chunks) {
            return Err(StoreError::Checksums(self.id));
        }
        let leaves = self.look_at_leaves(meta.as_ref())?;
        let mark_at = |at_bytes| self.mark_at(at_bytes, (data.as_ref(), meta.as_ref()), chunks);
        let end = mark_at(self.at_bytes)?;
        let acked = self.acked_before(end, mark_at)?;
        let whole_end =
            meta::HEADER_BYTES + chunks.checksums_bytes(end.len_bytes - end.len_bytes % chunks.chunk_bytes());
        let (mut at, mut sums_crc) = (meta::HEADER_BYTES, 0);
        while at < whole_end {
            let mut sums = vec![0; PIECE_BYTES.min(whole_end - at) as usize];
            meta.read_exact_at(&mut sums, at).map_err(io())?;
            sums_crc = ChunkFormat::CRC32C_512.extend(sums_crc, &sums);
            at += sums.len() as u64;
        }
        Ok(Looked { data, meta, chunks, end, acked, sums_crc, leaves })
    }

    /// What was acknowledged of it, by what it knows itself and by what the writer was told. Of a whole one all was.
    fn acked_before(&self, end: Mark, mark_at: impl Fn(u64) -> Result<Mark, StoreError>) -> Result<Mark, StoreError> {
        let known = self.before.open.as_ref().map_or(end, |open| open.acked());
        let told_bytes = self.vouched.min_bytes.min(end.len_bytes);
        match known.len_bytes {
            known_bytes if known_bytes >= end.len_bytes => Ok(end),
            known_bytes if known_bytes >= told_bytes => Ok(known),
            _ => mark_at(told_bytes),
        }
    }

    fn look_at_leaves(&self, meta: &dyn DiskFile) -> Result<OpenLeaves, StoreError> {
        let mut leaves = match &self.before.open {
            Some(open) => open.leaves(),
            None => self.trailers_leaves(meta)?,
        };
        if self.before.known_bytes() != Some(self.at_bytes) {
            // The leaf of a segment that is cut is that of bytes which are not there any more.
            leaves.leaves.truncate((self.at_bytes / digest::SEGMENT_BYTES) as usize);
        }
        leaves.off |=
            (self.appends && self.was_whole()) || (leaves.leaves.len() as u64) < self.at_bytes / digest::SEGMENT_BYTES;
        Ok(leaves)
    }

    /// The place after so many bytes, with a checksum for its last chunk that was verified.
    fn mark_at(
        &self,
        at_bytes: u64,
        (data, meta): (&dyn DiskFile, &dyn DiskFile),
        chunks: ChunkFormat,
    ) -> Result<Mark, StoreError> {
        let io = |source| StoreError::Io { operation: "read", path: self.id.to_string(), source };
        let known_bytes = self.before.known_bytes().unwrap_or(0);
        let inside_bytes = at_bytes % chunks.chunk_bytes();
        if inside_bytes == 0 {
            return Ok(Mark { len_bytes: at_bytes, tail: None });
        }
        let start_bytes = at_bytes - inside_bytes;
        let mut chunk = vec![0; (known_bytes - start_bytes).min(chunks.chunk_bytes()) as usize];
        data.read_exact_at(&mut chunk, start_bytes).map_err(io)?;
        let mut stored = [0; 4];
        meta.read_exact_at(&mut stored, meta::HEADER_BYTES + chunks.checksums_bytes(start_bytes)).map_err(io)?;
        // What the writer said counts more than the file, in which a checksum may stand whose data were not written.
        let said = self.before.open.as_ref().map(|open| open.stored());
        let said = said.filter(|said| said.len_bytes == start_bytes + chunk.len() as u64).and_then(|said| said.tail);
        if chunks.checksum(&chunk).to_be_bytes() != said.unwrap_or(stored) {
            return Err(self.damaged());
        }
        let part = chunk.get(..inside_bytes as usize).unwrap_or_default();
        let tail = Some(chunks.checksum(part).to_be_bytes());
        Ok(Mark { len_bytes: at_bytes, tail })
    }
    fn trailers_leaves(&self, meta: &dyn DiskFile) -> Result<OpenLeaves, StoreError> {
        let ends =
            meta.len_bytes().and_then(|bytes| scan::read_ends(|buffer, at| meta.read_exact_at(buffer, at), bytes));
        match ends.map_err(|source| StoreError::Io { operation: "read", path: self.id.to_string(), source })?.1 {
            End::Trailer(trailer, _) => {
                Ok(OpenLeaves { leaves: trailer.leaves, observed: trailer.observed, off: false })
            }
            End::None | End::Needs(_) | End::Newer(_) | End::Marked(_) => Err(self.damaged()),
        }
    }

    /// Makes the end durable beside the meta file, before its checksum there is written over.
    fn keep_end(&self, looked: &Looked) -> Result<Option<SideFile>, StoreError> {
        let is_cut = self.before.known_bytes() != Some(self.at_bytes);
        if looked.end.tail.is_none() || !(self.was_whole() || is_cut) {
            return Ok(None);
        }
        let kept = SideFile::open_or_create(self.volume, self.pool, self.id).and_then(|mut side| {
            side.write(self.id, self.new_stamp, looked.end)?;
            Ok(side)
        });
        let side = self.volume.guard(kept)?;
        self.volume.commit_names(self.pool, layout::folder_of(self.id))?;
        Ok(Some(side))
    }

    /// What others see from now on. What may have lacked acknowledged bytes may still do so: it has what its writer was told
    /// of, and perhaps not what nodes acknowledged to each other, and a reader saw. If the writer goes before it has sent
    /// that again, this replica is none that the block is cut to (SC-27).
    fn open(&self, looked: &Looked) -> Arc<OpenReplica> {
        let open = OpenReplica::new(looked.end, looked.acked, looked.leaves.clone());
        if self.before.open.as_ref().is_some_and(|before| before.may_lack()) {
            open.set_unsure_below(self.vouched.max_bytes);
        }
        open
    }

    /// Gives the files the new stamp, and cuts what is too much. A failure tells what the replica is then.
    fn switch(&self, looked: &mut Looked) -> Result<(), (StoreError, Left)> {
        let (old, new) = (self.old_meta_path(), self.volume.meta_path(self.pool, self.id, self.new_stamp));
        looked.meta = self.take_meta(&old, &new).map_err(|error| (error, Left::Untouched(self.untouched())))?;
        let state = ReplicaState::WaitingRecovery;
        let left = Left::Changed(Replica { stamp: self.new_stamp, len_bytes: self.at_bytes, state });
        let done = self
            .volume
            .commit_names(self.pool, layout::folder_of(self.id))
            .and_then(|()| self.volume.guard(self.cut(looked, &new)));
        done.map_err(|error| (error, left))
    }
    /// What the replica is while nothing of it was changed. Its writer was stopped, so nobody writes it.
    fn untouched(&self) -> Replica {
        let before = self.before.replica;
        if before.state != ReplicaState::BeingWritten {
            return before;
        }
        let len_bytes = self.before.known_bytes().unwrap_or(before.len_bytes);
        Replica { state: ReplicaState::WaitingRecovery, len_bytes, ..before }
    }
    /// Opens the meta file once more and gives it the new name. Since the look another file with the same checksums may
    /// have come to its place (see `restore`); none does any more now that the writer is entered, and what is written to the
    /// old one would have no name.
    fn take_meta(&self, old: &std::path::Path, new: &std::path::Path) -> Result<OpenFile, StoreError> {
        let _names = self.volume.names.read();
        let meta = self.volume.disk.open(old, OpenMode::ReadWrite).map_err(StoreError::io("open", old))?;
        if old != new {
            let renamed = self.volume.disk.rename(old, new, CrashPoint::RestampRename);
            self.volume.guard(renamed.map_err(StoreError::io("rename", old)))?;
        }
        Ok(meta)
    }
    fn cut(&self, looked: &Looked, meta_path: &std::path::Path) -> Result<(), StoreError> {
        let data_path = self.volume.data_path(self.pool, self.id);
        let sums_end = meta::HEADER_BYTES + looked.chunks.checksums_bytes(self.at_bytes);
        let cut = |file: &OpenFile, end: u64, path| {
            let io = || StoreError::io("cut", path);
            if file.len_bytes().map_err(io())? > end {
                file.set_len(end, CrashPoint::ReplicaCut).map_err(io())?;
            }
            Ok::<_, StoreError>(())
        };
        cut(&looked.meta, sums_end, meta_path)?;
        if let Some(tail) = &looked.end.tail {
            looked.meta.write_at(tail, sums_end - tail.len() as u64).map_err(StoreError::io("write", meta_path))?;
        }
        if self.was_whole() && self.before.replica.stamp == self.new_stamp {
            // Its old trailer would say that it is whole, whatever comes now: the name is the same.
            looked.meta.sync(CrashPoint::MetaSync).map_err(StoreError::sync(meta_path))?;
        }
        cut(&looked.data, self.at_bytes, &data_path)
    }
}
