//! Writing one replica: data and checksums as they arrive, then, at the end, trailer and durability.
//!
//! ```text
//!   finalise:  data synced → trailer written → meta synced → names synced → Finalized
//! ```
//!
//! The order is the format's promise: a valid trailer proves durable data. Any failure on the way leaves a
//! replica without a trailer, or none at all.

use std::io;
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::DiskFile;
use proto::ids::{BlockId, GenerationStamp, PoolId, StorageId};
use transfer::ChunkFormat;
use transfer::digest::{self, Leaf};

use super::error::StoreError;
use super::layout;
use super::meta::{self, Trailer};
use super::replica::{Replica, ReplicaState};
use super::volume::Volume;

/// Write-back of streamed data is started in steps of this size, so that the sync at the end finds little.
const WRITEBACK_BYTES: u64 = 8 * 1024 * 1024;

type OpenFile = Arc<dyn DiskFile>;

/// A replica that is being written. Dropped without [`ReplicaWriter::finalise`] it stays half-written and is
/// reported so; one without a byte is removed.
#[derive(Debug)]
pub struct ReplicaWriter {
    volume: Arc<Volume>,
    pool: PoolId,
    id: BlockId,
    stamp: GenerationStamp,
    chunks: ChunkFormat,
    data: Arc<dyn DiskFile>,
    meta: Arc<dyn DiskFile>,
    len_bytes: u64,
    /// CRC over the checksums of all whole chunks.
    sums_crc: u32,
    /// Checksum of the last chunk, if it is not whole.
    tail_sum: Option<[u8; 4]>,
    written_back_bytes: u64,
    reserved_bytes: u64,
    /// Leaves of the digest so far, and whose they are.
    leaves: Vec<Leaf>,
    observed: bool,
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

impl ReplicaWriter {
    /// Creates the files of a new replica at their final path. The caller has entered the replica into the
    /// volume's map and reserved room.
    pub(crate) fn create(
        volume: Arc<Volume>,
        pool: PoolId,
        id: BlockId,
        stamp: GenerationStamp,
        chunks: ChunkFormat,
        (number, reserved_bytes): (u64, u64),
    ) -> Result<Self, StoreError> {
        match Self::create_files(&volume, &pool, id, stamp, chunks) {
            Ok((data, meta)) => Ok(Self {
                volume,
                pool,
                id,
                stamp,
                chunks,
                data,
                meta,
                len_bytes: 0,
                sums_crc: 0,
                tail_sum: None,
                written_back_bytes: 0,
                reserved_bytes,
                leaves: Vec::new(),
                observed: false,
                number,
                end: None,
            }),
            Err(error) => {
                if volume.is_written_by(id, number) {
                    remove_files(&volume, &pool, id, stamp);
                    volume.end_writing(id, number, None);
                }
                release(&volume, reserved_bytes, 0);
                Err(error)
            }
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
        let create = |path: &std::path::Path, point, trash_name: String| {
            let mut created = volume.disk.create_new(path, point);
            if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
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

    /// Writes a packet's data and checksums, which the caller has verified. A packet may start before the end:
    /// then only what is new is written, and an incomplete last chunk is written again as a whole, data and
    /// checksum together (SC-34).
    ///
    /// # Errors
    /// [`StoreError::NotContinuous`], [`StoreError::Checksums`]; the disk's. After "full" the partial replica
    /// is removed; after any other error of the disk the volume is out of service.
    pub fn write(&mut self, offset_bytes: u64, data: &[u8], checksums: &[u8]) -> Result<(), StoreError> {
        let chunk_bytes = self.chunks.chunk_bytes();
        if offset_bytes > self.len_bytes || !offset_bytes.is_multiple_of(chunk_bytes) {
            return Err(self.not_continuous(offset_bytes));
        }
        if checksums.len() as u64 != self.chunks.checksums_bytes(data.len() as u64) {
            return Err(StoreError::Checksums(self.id));
        }
        if offset_bytes + data.len() as u64 <= self.len_bytes {
            return Ok(());
        }
        // Everything before the last incomplete chunk is final.
        let start_bytes = self.len_bytes - self.len_bytes % chunk_bytes;
        let skip = (start_bytes - offset_bytes) as usize;
        let sum_bytes = self.chunks.kind().checksum_bytes();
        let skip_sums = (skip as u64 / chunk_bytes) as usize * sum_bytes;
        let (Some(data), Some(sums)) = (data.get(skip..), checksums.get(skip_sums..)) else {
            return Err(StoreError::Checksums(self.id));
        };
        self.volume.writable()?;
        let meta_at = meta::HEADER_BYTES + self.chunks.checksums_bytes(start_bytes);
        let written = self
            .data
            .write_at(data, start_bytes)
            .map_err(StoreError::io("write", &self.volume.data_path(&self.pool, self.id)))
            .and_then(|()| {
                let path = self.volume.meta_path(&self.pool, self.id, self.stamp);
                self.meta.write_at(sums, meta_at).map_err(StoreError::io("write", &path))
            });
        self.settle(written)?;
        self.note_written(start_bytes + data.len() as u64, sums, sum_bytes);
        Ok(())
    }

    /// Takes the next leaves of the digest: of segments whose bytes are written. They are kept as they came: the CRCs
    /// protect the data on their way, and whoever reads the replica whole compares.
    ///
    /// # Errors
    /// [`StoreError::Leaves`] if there are more of them than segments.
    pub fn add_leaves(&mut self, leaves: &[Leaf]) -> Result<(), StoreError> {
        if leaves.is_empty() {
            return Ok(());
        }
        // The bound also of what a sender may make this node keep.
        if (self.leaves.len() + leaves.len()) as u64 > digest::leaf_count(self.len_bytes) {
            return Err(self.wrong_leaves(leaves.len()));
        }
        self.leaves.extend_from_slice(leaves);
        Ok(())
    }
    /// Says that the leaves are what a scrubber found, not what the block's writer meant.
    pub(crate) const fn set_observed(&mut self, observed: bool) {
        self.observed = observed;
    }
    const fn wrong_leaves(&self, more: usize) -> StoreError {
        StoreError::Leaves { id: self.id, leaves: (self.leaves.len() + more) as u64, replica_bytes: self.len_bytes }
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
        if self.len_bytes - self.written_back_bytes >= WRITEBACK_BYTES {
            self.data.start_writeback(self.written_back_bytes, self.len_bytes - self.written_back_bytes);
            self.written_back_bytes = self.len_bytes;
        }
    }

    /// Makes everything so far durable, names included; the replica goes on being written.
    ///
    /// # Errors
    /// The disk's; the volume is then out of service.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let done = self.sync_data().and_then(|()| self.sync_meta());
        self.settle(done)?;
        self.volume.commit_names(&self.pool, layout::folder_of(self.id))
    }

    /// Ends the replica: durable data, trailer, durable names. Only then is it served and may be acknowledged.
    ///
    /// # Errors
    /// The disk's, as for [`ReplicaWriter::write`]; [`StoreError::Removed`] if it was deleted meanwhile;
    /// [`StoreError::Leaves`] if its digest has leaves, but not one for each segment.
    pub fn finalise(&mut self) -> Result<FinalisedReplica, StoreError> {
        self.volume.writable()?;
        if !self.leaves.is_empty() && self.leaves.len() as u64 != digest::leaf_count(self.len_bytes) {
            return Err(self.wrong_leaves(0));
        }
        let done = self.sync_data().and_then(|()| self.write_trailer()).and_then(|()| self.sync_meta());
        self.settle(done)?;
        self.volume.commit_names(&self.pool, layout::folder_of(self.id))?;
        if !self.volume.end_writing(self.id, self.number, Some(self.replica(ReplicaState::Finalized))) {
            self.end = Some(Ended::Removed);
            release(&self.volume, self.reserved_bytes, 0);
            return Err(StoreError::Removed(self.id));
        }
        self.end = Some(Ended::Finalised);
        release(&self.volume, self.reserved_bytes, self.used_bytes());
        Ok(FinalisedReplica {
            pool: self.pool.clone(),
            id: self.id,
            stamp: self.stamp,
            len_bytes: self.len_bytes,
            storage: self.volume.storage.clone(),
        })
    }

    fn sync_data(&self) -> Result<(), StoreError> {
        let path = self.volume.data_path(&self.pool, self.id);
        self.data.sync(CrashPoint::BlockSync).map_err(StoreError::io("sync", &path))
    }
    fn sync_meta(&self) -> Result<(), StoreError> {
        let path = self.volume.meta_path(&self.pool, self.id, self.stamp);
        self.meta.sync(CrashPoint::MetaSync).map_err(StoreError::io("sync", &path))
    }
    fn write_trailer(&self) -> Result<(), StoreError> {
        let tail = self.tail_sum.as_ref().map_or(&[][..], |sum| sum.as_slice());
        let trailer = Trailer {
            pool: self.pool.clone(),
            id: self.id,
            stamp: self.stamp,
            len_bytes: self.len_bytes,
            crc_of_crcs: ChunkFormat::CRC32C_512.extend(self.sums_crc, tail),
            leaves: self.leaves.clone(),
            observed: self.observed && !self.leaves.is_empty(),
        };
        let at = meta::HEADER_BYTES + self.chunks.checksums_bytes(self.len_bytes);
        let path = self.volume.meta_path(&self.pool, self.id, self.stamp);
        self.meta.write_at(&trailer.encode(), at).map_err(StoreError::io("write", &path))
    }

    /// Passes a disk result through: "full" removes the partial replica, anything else condemns the volume.
    fn settle(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if result.as_ref().is_err_and(StoreError::is_full) {
            self.remove();
        }
        self.volume.guard(result)
    }
    fn remove(&mut self) {
        if self.end.is_none() {
            self.end = Some(Ended::Removed);
            // What was deleted meanwhile is in the trash already, and another writer may be at its place.
            if self.volume.is_written_by(self.id, self.number) {
                remove_files(&self.volume, &self.pool, self.id, self.stamp);
                self.volume.end_writing(self.id, self.number, None);
            }
            release(&self.volume, self.reserved_bytes, 0);
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
        if self.len_bytes == 0 && !self.volume.is_failed() {
            self.remove();
            return;
        }
        let left = self.replica(ReplicaState::WaitingRecovery);
        let stays = self.volume.end_writing(self.id, self.number, Some(left));
        release(&self.volume, self.reserved_bytes, if stays { self.used_bytes() } else { 0 });
    }
}

/// Gives a reservation back; `used_bytes` of it have become data.
fn release(volume: &Volume, reserved_bytes: u64, used_bytes: u64) {
    let mut state = volume.state.lock();
    state.reserved_bytes = state.reserved_bytes.saturating_sub(reserved_bytes);
    state.used_bytes = state.used_bytes.saturating_add(used_bytes);
}

/// Removes the files of a replica that nobody was told of. What cannot be removed is found by the next scan.
fn remove_files(volume: &Volume, pool: &PoolId, id: BlockId, stamp: GenerationStamp) {
    let meta = volume.remove(&volume.meta_path(pool, id, stamp), CrashPoint::MetaRemove);
    let data = volume.remove(&volume.data_path(pool, id), CrashPoint::BlockRemove);
    for error in [meta, data].into_iter().filter_map(Result::err) {
        tracing::warn!(block = %id, %error, "a partial replica stays on the disk");
    }
}
