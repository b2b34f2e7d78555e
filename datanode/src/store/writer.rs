//! Writing one replica: data and checksums as they arrive, then, at the end, trailer and durability.
//!
//! ```text
//!   finalise:  data synced → trailer written → meta synced → names synced → Finalized
//!   sync:      data synced → meta synced → side record of a last chunk that is not whole → names synced
//! ```
//!
//! The order is the format's promise: a valid trailer proves durable data. Any failure on the way leaves a
//! replica without a trailer, or none at all.
//!
//! Whatever changes files is done inside the gate of the open replica: once somebody else has taken the replica over,
//! nothing of this writer touches it any more, not even its end (SC-35).

use std::io;
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::DiskFile;
use parking_lot::MutexGuard;
use proto::ids::{BlockId, GenerationStamp, PoolId, StorageId};
use transfer::ChunkFormat;
use transfer::digest::{self, Leaf};

use super::error::StoreError;
use super::layout;
use super::meta::{self, Trailer};
use super::open::{Mark, OpenReplica};
use super::replica::{Replica, ReplicaState};
use super::side::{self, SideFile};
use super::volume::Volume;

/// Write-back of streamed data is started in steps of this size, so that the sync at the end finds little.
const WRITEBACK_BYTES: u64 = 8 * 1024 * 1024;

type OpenFile = Arc<dyn DiskFile>;

/// A replica that is being written. Dropped without [`ReplicaWriter::finalise`] it stays half-written and is
/// reported so; one without a byte is removed, if this writer made it.
#[derive(Debug)]
pub struct ReplicaWriter {
    volume: Arc<Volume>,
    pool: PoolId,
    id: BlockId,
    stamp: GenerationStamp,
    chunks: ChunkFormat,
    data: OpenFile,
    meta: OpenFile,
    open: Arc<OpenReplica>,
    len_bytes: u64,
    /// CRC over the checksums of all whole chunks.
    sums_crc: u32,
    /// Checksum of the last chunk, if it is not whole.
    tail_sum: Option<[u8; 4]>,
    written_back_bytes: u64,
    reserved_bytes: u64,
    /// It goes on with what another writer began: packets may come again, and leaves with them.
    resumed: bool,
    /// Its end is no end of the block: it stays open for a pipeline that goes on with it.
    stays_open: bool,
    /// It is in the place of a replica that may have had more.
    replaces: bool,
    names_durable: bool,
    side: Option<SideFile>,
    /// This writer's number at its volume.
    number: u64,
    end: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Finalised,
    Removed,
}

/// A replica that is whole and durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalisedReplica {
    /// Its pool.
    pub pool: PoolId,
    /// Its block.
    pub id: BlockId,
    /// Its stamp.
    pub stamp: GenerationStamp,
    /// Its length.
    pub len_bytes: u64,
    /// Where it lies.
    pub storage: StorageId,
}

/// What a writer starts from.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) volume: Arc<Volume>,
    pub(crate) pool: PoolId,
    pub(crate) id: BlockId,
    pub(crate) stamp: GenerationStamp,
    pub(crate) chunks: ChunkFormat,
    pub(crate) open: Arc<OpenReplica>,
    /// The writer's number at its volume.
    pub(crate) number: u64,
    pub(crate) reserved_bytes: u64,
}

impl ReplicaWriter {
    /// Creates the files of a new replica at their final path. The caller has entered the replica into the
    /// volume's map, reserved room, and holds the replica's gate.
    pub(crate) fn create(start: Start) -> Result<Self, StoreError> {
        let Start { volume, pool, id, stamp, chunks, number, reserved_bytes, .. } = &start;
        match Self::create_files(volume, pool, *id, *stamp, *chunks) {
            Ok(files) => Ok(Self::new(start, files, false)),
            Err(error) => {
                if volume.is_written_by(*id, *number) {
                    remove_files(volume, pool, *id, *stamp);
                    volume.end_writing(*id, *number, None);
                }
                release(volume, *reserved_bytes);
                Err(error)
            }
        }
    }
    /// Goes on with a replica at the end that `start.open` says; `sums_crc` is the CRC over the checksums of its whole
    /// chunks.
    pub(crate) fn resume(start: Start, files: (OpenFile, OpenFile), sums_crc: u32, side: Option<SideFile>) -> Self {
        let mut writer = Self::new(start, files, true);
        (writer.sums_crc, writer.side) = (sums_crc, side);
        writer
    }
    fn new(start: Start, (data, meta): (OpenFile, OpenFile), resumed: bool) -> Self {
        let Start { volume, pool, id, stamp, chunks, open, number, reserved_bytes } = start;
        let stored = open.stored();
        Self {
            volume,
            pool,
            id,
            stamp,
            chunks,
            data,
            meta,
            open,
            len_bytes: stored.len_bytes,
            sums_crc: 0,
            tail_sum: stored.tail,
            written_back_bytes: stored.len_bytes,
            reserved_bytes,
            resumed,
            stays_open: false,
            replaces: false,
            names_durable: false,
            side: None,
            number,
            end: None,
        }
    }

    fn create_files(
        volume: &Arc<Volume>,
        pool: &PoolId,
        id: BlockId,
        stamp: GenerationStamp,
        chunks: ChunkFormat,
    ) -> Result<(OpenFile, OpenFile), StoreError> {
        volume.make_folder(pool, layout::folder_of(id))?;
        let (data_path, meta_path) = (volume.data_path(pool, id), volume.meta_path(pool, id, stamp));
        let _waits = volume.waits("create a replica");
        let _names = volume.names.read();
        volume.clear_orphans(pool, id)?;
        let create = |path: &std::path::Path, point, trash_name: String| {
            let mut created = volume.disk.create_new(path, point);
            if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                if base::mutated!(Sc46OldBytesStay) {
                    let there = volume.disk.open(path, base::disk::OpenMode::ReadWrite);
                    return volume.guard(there.map_err(StoreError::io("open", path)));
                }
                volume.set_aside(path, trash_name)?;
                created = volume.disk.create_new(path, point);
            }
            volume.guard(created.map_err(StoreError::io("create", path)))
        };
        let data = create(&data_path, CrashPoint::BlockCreate, layout::trash_name(id, stamp))?;
        let meta = create(&meta_path, CrashPoint::MetaCreate, layout::meta_name(id, stamp))?;
        let header = meta.write_at(&meta::encode_header(chunks), 0);
        volume.guard(header.map_err(StoreError::io("write", &meta_path)))?;
        Ok((data, meta))
    }

    /// Bytes so far.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
    /// How the data are cut and which checksums they carry.
    #[must_use]
    pub const fn chunks(&self) -> ChunkFormat {
        self.chunks
    }
    /// The storage that the replica lies on.
    #[must_use]
    pub fn storage(&self) -> &StorageId {
        &self.volume.storage
    }
    /// What others see of the replica while it is open.
    #[must_use]
    pub const fn open(&self) -> &Arc<OpenReplica> {
        &self.open
    }
    /// Does its last packet leave it open?
    #[must_use]
    pub const fn stays_open(&self) -> bool {
        self.stays_open
    }
    /// Refuses if somebody has stopped this writer.
    pub(crate) fn check_goes_on(&self) -> Result<(), StoreError> {
        self.open.check_goes_on(self.id)
    }
    /// It is a copy of an open replica elsewhere, which a pipeline goes on with.
    pub(crate) fn set_stays_open(&mut self) {
        self.stays_open = true;
        self.open.set_unfinished_copy(true);
    }
    /// It is in the place of another replica: where that was, nobody may find nothing.
    pub(crate) fn set_replaces(&mut self) {
        self.replaces = !base::mutated!(Sc27ReplacedIsNothing);
    }
    /// Makes the copy durable that has arrived whole.
    ///
    /// # Errors
    /// As [`ReplicaWriter::sync`].
    pub(crate) fn sync_copy(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        self.open.set_unfinished_copy(false);
        self.open.set_unsure_below(0);
        Ok(())
    }

    /// Writes a packet's data and checksums, which the caller has verified. A packet starts at a chunk's start, or inside
    /// the last chunk; then it has bytes of that chunk only, and one checksum of just these. It may start before the end:
    /// then only what is new is written, an incomplete last chunk gets its new checksum, and what comes again is compared
    /// with what is stored (SC-34).
    ///
    /// # Errors
    /// [`StoreError::NotContinuous`], [`StoreError::Checksums`], [`StoreError::Differs`], [`StoreError::Superseded`]; the
    /// disk's. After "full" the partial replica is removed, unless something of it was acknowledged or another writer
    /// began it; after any other error of the disk the volume is out of service.
    pub fn write(&mut self, offset_bytes: u64, data: &[u8], checksums: &[u8]) -> Result<(), StoreError> {
        let open = Arc::clone(&self.open);
        let _inside = self.enter(&open)?;
        let chunk_bytes = self.chunks.chunk_bytes();
        let sum_bytes = self.chunks.kind().checksum_bytes();
        let inside_bytes = offset_bytes % chunk_bytes;
        let fits = inside_bytes == 0 || data.len() as u64 <= chunk_bytes - inside_bytes;
        if offset_bytes > self.len_bytes || !fits {
            return Err(self.not_continuous(offset_bytes));
        }
        if checksums.len() as u64 != self.chunks.checksums_bytes(data.len() as u64) {
            return Err(StoreError::Checksums(self.id));
        }
        let end_bytes = offset_bytes + data.len() as u64;
        let again_bytes = end_bytes.min(self.len_bytes) - offset_bytes;
        let Some((again, new)) = data.split_at_checked(again_bytes as usize) else {
            return Err(self.not_continuous(offset_bytes));
        };
        self.compare(offset_bytes, again)?;
        if new.is_empty() {
            return Ok(());
        }
        // Everything before the last incomplete chunk is final.
        let partial_bytes = if base::mutated!(Sc34PacketsBeginAtTheEnd) { 0 } else { self.len_bytes % chunk_bytes };
        let start_bytes = self.len_bytes - partial_bytes;
        let joined;
        let sums = if inside_bytes == 0 {
            let final_sums = ((start_bytes - offset_bytes) / chunk_bytes) as usize * sum_bytes;
            checksums.get(final_sums..).ok_or(StoreError::Checksums(self.id))?
        } else {
            // The bytes before these have a checksum that was verified when they came; both together have this one.
            let before = self.tail_sum.map(u32::from_be_bytes).ok_or_else(|| self.not_continuous(offset_bytes))?;
            joined = self.chunks.extend(before, new).to_be_bytes();
            &joined[..]
        };
        self.volume.writable()?;
        let meta_at = meta::HEADER_BYTES + self.chunks.checksums_bytes(start_bytes);
        let written = self
            .data
            .write_at(new, self.len_bytes)
            .map_err(StoreError::io("write", &self.volume.data_path(&self.pool, self.id)))
            .and_then(|()| {
                let path = self.volume.meta_path(&self.pool, self.id, self.stamp);
                self.meta.write_at(sums, meta_at).map_err(StoreError::io("write", &path))
            });
        self.settle(written)?;
        self.note_written(end_bytes, sums, sum_bytes);
        Ok(())
    }

    /// Enters the gate. A writer that has come to its end changes nothing any more: a late packet would write over a trailer.
    fn enter<'a>(&self, open: &'a OpenReplica) -> Result<MutexGuard<'a, ()>, StoreError> {
        match self.end {
            None => open.enter(self.id),
            Some(Ended::Finalised) => Err(StoreError::Superseded(self.id)),
            Some(Ended::Removed) => Err(StoreError::Removed(self.id)),
        }
    }
    /// What came again must be what is stored: whoever sends both a second time and something else is not this writer.
    fn compare(&self, offset_bytes: u64, again: &[u8]) -> Result<(), StoreError> {
        if again.is_empty() {
            return Ok(());
        }
        // At most a packet.
        let mut stored = vec![0; again.len()];
        let read = self.data.read_exact_at(&mut stored, offset_bytes);
        read.map_err(StoreError::io("read", &self.volume.data_path(&self.pool, self.id)))?;
        if stored == again {
            return Ok(());
        }
        if self.stays_open {
            // The next copy takes its place.
            self.open.set_differs();
        }
        Err(StoreError::Differs { id: self.id, offset_bytes })
    }

    /// Takes the leaves that came with a packet: of segments whose bytes are written. They are kept as they came: whoever
    /// reads the replica whole compares.
    ///
    /// # Errors
    /// [`StoreError::Leaves`] if there are more of them than segments, or some come again and are others.
    pub fn add_leaves(&mut self, leaves: &[Leaf], end_bytes: u64, last: bool) -> Result<(), StoreError> {
        if leaves.is_empty() {
            return Ok(());
        }
        let (len_bytes, resumed) = (self.len_bytes, self.resumed);
        let taken = self.open.with_leaves(|known| {
            if known.off {
                return Ok(());
            }
            let count = known.leaves.len();
            let ended = if last { digest::leaf_count(end_bytes) } else { end_bytes / digest::SEGMENT_BYTES };
            // A packet of ours has the leaves of the segments that end with it; one that comes again has them again.
            let first = usize::try_from(ended).unwrap_or(usize::MAX).saturating_sub(leaves.len());
            let again = if resumed && first < count { (count - first).min(leaves.len()) } else { 0 };
            let (again, new) = leaves.split_at_checked(again).unwrap_or_default();
            let same = again.iter().zip(known.leaves.iter().skip(first)).all(|(one, other)| one == other);
            // The bound also of what a sender may make this node keep.
            if !same || (count + new.len()) as u64 > digest::leaf_count(len_bytes) {
                return Err(count + new.len());
            }
            known.leaves.extend_from_slice(new);
            Ok(())
        });
        taken.map_err(|leaves| StoreError::Leaves { id: self.id, leaves: leaves as u64, replica_bytes: len_bytes })
    }
    /// Says that the leaves are what a scrubber found, not what the block's writer meant.
    pub(crate) fn set_observed(&self, observed: bool) {
        self.open.with_leaves(|leaves| leaves.observed |= observed);
    }

    /// The refusal of a packet that is not at the place where the replica goes on.
    pub(crate) const fn not_continuous(&self, offset_bytes: u64) -> StoreError {
        StoreError::NotContinuous { id: self.id, offset_bytes, replica_bytes: self.len_bytes }
    }
    fn note_written(&mut self, end_bytes: u64, sums: &[u8], sum_bytes: usize) {
        self.len_bytes = end_bytes;
        self.tail_sum = None;
        let mut whole = sums;
        if !end_bytes.is_multiple_of(self.chunks.chunk_bytes())
            && sum_bytes == 4
            && let Some((before, last)) = sums.split_last_chunk::<4>()
        {
            (whole, self.tail_sum) = (before, Some(*last));
        }
        self.sums_crc = ChunkFormat::CRC32C_512.extend(self.sums_crc, whole);
        self.open.note_stored(self.stored());
        if self.len_bytes - self.written_back_bytes >= WRITEBACK_BYTES {
            self.data.start_writeback(self.written_back_bytes, self.len_bytes - self.written_back_bytes);
            self.written_back_bytes = self.len_bytes;
        }
    }
    const fn stored(&self) -> Mark {
        Mark { len_bytes: self.len_bytes, tail: self.tail_sum }
    }
    /// The end of a packet that is stored, with the checksum of its last chunk; `None` if that is not known, because the
    /// packet came again and the chunk has grown since.
    pub(crate) fn mark_of(&self, offset_bytes: u64, data_bytes: usize, checksums: &[u8]) -> Option<Mark> {
        let len_bytes = offset_bytes + data_bytes as u64;
        let chunk_bytes = self.chunks.chunk_bytes();
        let tail = match checksums.last_chunk::<4>() {
            _ if len_bytes.is_multiple_of(chunk_bytes) => None,
            _ if len_bytes == self.len_bytes => self.tail_sum,
            Some(last) if offset_bytes <= len_bytes - len_bytes % chunk_bytes => Some(*last),
            _ => return None,
        };
        Some(Mark { len_bytes, tail })
    }

    /// Makes everything so far durable, names included; the replica goes on being written.
    ///
    /// # Errors
    /// [`StoreError::Superseded`]; the disk's, and the volume is then out of service.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let open = Arc::clone(&self.open);
        let _inside = self.enter(&open)?;
        self.volume.working()?;
        let done = self.sync_data().and_then(|()| self.sync_meta()).and_then(|()| self.write_side());
        self.settle(done)?;
        if !self.names_durable {
            self.volume.commit_names(&self.pool, layout::folder_of(self.id))?;
            self.names_durable = true;
        }
        Ok(())
    }
    /// Keeps the length if it ends inside a chunk, whose checksum the next packet writes over.
    fn write_side(&mut self) -> Result<(), StoreError> {
        let stored = self.stored();
        if stored.tail.is_none() {
            return Ok(());
        }
        let side = match self.side.take() {
            Some(side) => self.side.insert(side),
            None => {
                self.names_durable = false;
                self.side.insert(SideFile::open_or_create(&self.volume, &self.pool, self.id)?)
            }
        };
        side.write(self.id, self.stamp, stored)
    }

    /// Ends the replica: durable data, trailer, durable names. Only then is it served and may be acknowledged.
    ///
    /// # Errors
    /// The disk's, as for [`ReplicaWriter::write`]; [`StoreError::Removed`] if it was deleted meanwhile,
    /// [`StoreError::Superseded`]; [`StoreError::Leaves`] if its digest has leaves, but not one for each segment.
    pub fn finalise(&mut self) -> Result<FinalisedReplica, StoreError> {
        let open = Arc::clone(&self.open);
        let _inside = self.enter(&open)?;
        self.volume.writable()?;
        let (leaves, wanted) = (self.open.leaves(), digest::leaf_count(self.len_bytes));
        let missing = leaves.leaves.len() as u64 != wanted;
        if missing && !leaves.leaves.is_empty() && !leaves.off {
            let (id, replica_bytes) = (self.id, self.len_bytes);
            return Err(StoreError::Leaves { id, leaves: leaves.leaves.len() as u64, replica_bytes });
        }
        let (leaves, observed) =
            if missing || leaves.off { (Vec::new(), false) } else { (leaves.leaves, leaves.observed) };
        let whole =
            self.sync_data().and_then(|()| self.write_trailer(leaves, observed)).and_then(|()| self.sync_meta());
        let named = whole.and_then(|()| self.volume.commit_names(&self.pool, layout::folder_of(self.id)));
        if named.is_err() && !base::mutated!(Sc48UnsyncedTrailerStays) {
            self.take_trailer_back();
        }
        self.settle(named)?;
        if !self.volume.end_writing(self.id, self.number, Some(self.replica(ReplicaState::Finalized))) {
            self.end = Some(Ended::Removed);
            release(&self.volume, self.reserved_bytes);
            return Err(StoreError::Removed(self.id));
        }
        self.end = Some(Ended::Finalised);
        release(&self.volume, self.reserved_bytes);
        recount(&self.volume, &self.open, self.used_bytes());
        if self.resumed || self.side.is_some() {
            side::remove(&self.volume, &self.pool, self.id);
        }
        Ok(FinalisedReplica {
            pool: self.pool.clone(),
            id: self.id,
            stamp: self.stamp,
            len_bytes: self.len_bytes,
            storage: self.volume.storage.clone(),
        })
    }
    /// Ends a replica whose writer sends nothing more: leaves that are not one for each segment are of no use then.
    ///
    /// # Errors
    /// As [`ReplicaWriter::finalise`].
    pub fn finalise_as_it_is(&mut self) -> Result<FinalisedReplica, StoreError> {
        let wanted = digest::leaf_count(self.len_bytes);
        self.open.with_leaves(|leaves| leaves.off |= leaves.leaves.len() as u64 != wanted);
        self.finalise()
    }

    /// Of a sync that failed nobody knows what it wrote, and the next one says yes: a restart of the node would find a valid
    /// trailer in the page cache, and take the replica for durable (SC-48). What cannot be taken back stays.
    fn take_trailer_back(&self) {
        let at = meta::HEADER_BYTES + self.chunks.checksums_bytes(self.len_bytes);
        if let Err(error) = self.meta.set_len(at, CrashPoint::ReplicaCut) {
            tracing::warn!(block = %self.id, %error, "a replica that was not synced keeps its trailer");
        }
    }
    fn sync_data(&self) -> Result<(), StoreError> {
        let path = self.volume.data_path(&self.pool, self.id);
        self.data.sync(CrashPoint::BlockSync).map_err(StoreError::sync(&path))
    }
    fn sync_meta(&self) -> Result<(), StoreError> {
        let path = self.volume.meta_path(&self.pool, self.id, self.stamp);
        self.meta.sync(CrashPoint::MetaSync).map_err(StoreError::sync(&path))
    }
    fn write_trailer(&self, leaves: Vec<Leaf>, observed: bool) -> Result<(), StoreError> {
        let tail = self.tail_sum.as_ref().map_or(&[][..], |sum| sum.as_slice());
        let observed = observed && !leaves.is_empty();
        let trailer = Trailer {
            pool: self.pool.clone(),
            id: self.id,
            stamp: self.stamp,
            len_bytes: self.len_bytes,
            crc_of_crcs: ChunkFormat::CRC32C_512.extend(self.sums_crc, tail),
            leaves,
            observed,
        };
        let at = meta::HEADER_BYTES + self.chunks.checksums_bytes(self.len_bytes);
        let path = self.volume.meta_path(&self.pool, self.id, self.stamp);
        self.meta.write_at(&trailer.encode(), at).map_err(StoreError::io("write", &path))
    }

    /// Passes a disk result through, inside the gate: "full" at a write removes a partial replica of which nothing was
    /// acknowledged, anything else, and any sync that fails, condemns the volume. One that this writer did not begin stays: it may be all that is left of a block.
    fn settle(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if result.as_ref().is_err_and(StoreError::is_full)
            && self.open.lengths().acked_bytes == 0
            && !(self.resumed || self.replaces)
        {
            self.remove();
        }
        self.volume.guard(result)
    }
    /// Removes the replica, inside the gate.
    fn remove(&mut self) {
        if self.end.is_none() {
            self.end = Some(Ended::Removed);
            // What was deleted meanwhile is in the trash already, and another writer may be at its place.
            if self.volume.is_written_by(self.id, self.number) {
                remove_files(&self.volume, &self.pool, self.id, self.stamp);
                if self.resumed || self.side.is_some() {
                    side::remove(&self.volume, &self.pool, self.id);
                }
                self.volume.end_writing(self.id, self.number, None);
                recount(&self.volume, &self.open, 0);
            }
            if !base::mutated!(Sc55RoomIsNotGivenBack) {
                release(&self.volume, self.reserved_bytes);
            }
        }
    }
    /// Bytes of both files, as a scan counts them. Waits for the disk.
    fn used_bytes(&self) -> u64 {
        self.len_bytes + self.meta.len_bytes().unwrap_or(0)
    }
    const fn replica(&self, state: ReplicaState) -> Replica {
        Replica { stamp: self.stamp, len_bytes: self.len_bytes, state }
    }
}

impl Drop for ReplicaWriter {
    fn drop(&mut self) {
        if self.end.is_some() {
            return;
        }
        let open = Arc::clone(&self.open);
        // One that was there before this writer stays, however short it is; and so does what came in its place: "nothing"
        // would say that no acknowledgement ever passed this node.
        if self.len_bytes == 0
            && !self.resumed
            && !self.replaces
            && !self.volume.is_failed()
            && let Some(_inside) = open.try_enter()
        {
            self.remove();
            return;
        }
        let left = self.replica(ReplicaState::WaitingRecovery);
        if self.volume.end_writing(self.id, self.number, Some(left)) {
            recount(&self.volume, &self.open, self.used_bytes());
        }
        release(&self.volume, self.reserved_bytes);
    }
}

/// Gives a reservation back.
pub(crate) fn release(volume: &Volume, reserved_bytes: u64) {
    let mut state = volume.state.lock();
    state.reserved_bytes = state.reserved_bytes.saturating_sub(reserved_bytes);
}

/// Counts an open replica as so many bytes of its volume.
pub(crate) fn recount(volume: &Volume, open: &OpenReplica, now_bytes: u64) {
    let before_bytes = open.recount(now_bytes);
    let mut state = volume.state.lock();
    state.used_bytes = state.used_bytes.saturating_add(now_bytes).saturating_sub(before_bytes);
}

/// Removes the files of a replica that nobody was told of. What cannot be removed is found by the next scan.
fn remove_files(volume: &Volume, pool: &PoolId, id: BlockId, stamp: GenerationStamp) {
    let meta = volume.remove(&volume.meta_path(pool, id, stamp), CrashPoint::MetaRemove);
    let data = volume.remove(&volume.data_path(pool, id), CrashPoint::BlockRemove);
    for error in [meta, data].into_iter().filter_map(Result::err) {
        tracing::warn!(block = %id, %error, "a partial replica stays on the disk");
    }
}
