//! Reading a replica: its files, opened once, and what they were when they were opened.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::disk::{DiskFile, OpenMode, UnderWay};
use proto::ids::{BlockId, GenerationStamp};
use transfer::digest::Leaf;
use transfer::{BlockRef, ChecksumKind, ChunkFormat};

use super::error::{StoreError, is_exhausted};
use super::look::Watch;
use super::meta::End;
use super::open::Mark;
use super::opened::OpenFiles;
use super::replica::{Replica, ReplicaState};
use super::volume::Volume;
use super::{meta, scan};

/// A replica open for reading. It stays readable when the replica is deleted meanwhile. Of one that is being written, what
/// was acknowledged when it was opened.
#[derive(Debug)]
pub struct ReplicaReader {
    id: BlockId,
    stamp: GenerationStamp,
    /// How much of it is read, with the checksum of its last chunk: the one in the file may be of more bytes by now (SC-51).
    end: Mark,
    files: Arc<OpenFiles>,
    /// Leaves of an open replica, as they were when it was opened.
    open_leaves: Option<(Vec<Leaf>, bool)>,
    volume: Arc<Volume>,
}

impl ReplicaReader {
    /// Opens the files of a replica, which nobody else then uses.
    pub(crate) fn open(volume: &Arc<Volume>, block: &BlockRef) -> Result<Self, StoreError> {
        if let Some(reader) = Self::open_unfinished(volume, block, 1)? {
            return Ok(reader);
        }
        let watch = Watch::begin(volume, block.id).ok_or(StoreError::NotFound(block.id))?;
        let replica = watch.replica();
        check(block, replica)?;
        let files = open_files(volume, block, &watch)?;
        Ok(Self::new(volume, block.id, replica, Arc::new(files)))
    }
    /// Opens a replica that is being written, or was until its writer left; `None` if it is no such replica. One that an
    /// earlier run of the node left, or of which less than `least_bytes` were acknowledged, is not served.
    pub(crate) fn open_unfinished(
        volume: &Arc<Volume>,
        block: &BlockRef,
        least_bytes: u64,
    ) -> Result<Option<Self>, StoreError> {
        let (replica, open) = {
            let state = volume.state.lock();
            let Some(open) = state.open.get(&block.id).filter(|open| !open.restarted()) else { return Ok(None) };
            let Some(replica) = state.replicas.get(&block.id) else { return Ok(None) };
            (*replica, Arc::clone(open))
        };
        let end = open.acked();
        if end.len_bytes < least_bytes {
            return Ok(None);
        }
        check_stamp(block, replica)?;
        volume.working()?;
        let (data_path, meta_path) =
            (volume.data_path(&block.pool, block.id), volume.meta_path(&block.pool, block.id, replica.stamp));
        let open_file = |path: &Path| {
            volume.disk.open(path, OpenMode::Read).map_err(|source| match source.kind() {
                // It has got another stamp just now.
                io::ErrorKind::NotFound => StoreError::Changed(block.id),
                _ => StoreError::io("open", path)(source),
            })
        };
        let (data, meta) = (open_file(&data_path)?, open_file(&meta_path)?);
        let mut header = [0; meta::HEADER_BYTES as usize];
        meta.read_exact_at(&mut header, 0).map_err(StoreError::io("read", &meta_path))?;
        let damaged = StoreError::NotWhole { id: block.id, state: ReplicaState::Corrupt.as_str() };
        let chunks = meta::decode_header(&header).ok_or(damaged)?;
        let files = Arc::new(OpenFiles { data, meta, chunks, tail: None });
        let open_leaves = Some(open.whole_leaves(end.len_bytes));
        let (id, stamp, volume) = (block.id, replica.stamp, Arc::clone(volume));
        Ok(Some(Self { id, stamp, end, files, open_leaves, volume }))
    }

    /// As [`ReplicaReader::open`], with files that are open already, if they are, and that stay open for others.
    pub(crate) fn open_shared(volume: &Arc<Volume>, block: &BlockRef) -> Result<Self, StoreError> {
        if let Some(reader) = Self::open_unfinished(volume, block, 1)? {
            return Ok(reader);
        }
        let (replica, files) = volume.opened(block.id)?;
        check(block, replica)?;
        if let Some(files) = files {
            return Ok(Self::new(volume, block.id, replica, files));
        }
        let watch = Watch::begin(volume, block.id).ok_or(StoreError::NotFound(block.id))?;
        let replica = watch.replica();
        check(block, replica)?;
        let files = Arc::new(open_files(volume, block, &watch)?);
        volume.keep_open(&watch, &files);
        Ok(Self::new(volume, block.id, replica, files))
    }

    fn new(volume: &Arc<Volume>, id: BlockId, replica: Replica, files: Arc<OpenFiles>) -> Self {
        let (stamp, volume) = (replica.stamp, Arc::clone(volume));
        let end = Mark { len_bytes: replica.len_bytes, tail: files.tail };
        Self { id, stamp, end, files, open_leaves: None, volume }
    }

    /// The block.
    #[must_use]
    pub const fn id(&self) -> BlockId {
        self.id
    }
    /// Stamp of the replica.
    #[must_use]
    pub const fn stamp(&self) -> GenerationStamp {
        self.stamp
    }
    /// Its length in bytes; of one that is being written, how much of it may be read.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.end.len_bytes
    }
    /// Was it open, not finalised?
    #[must_use]
    pub const fn is_unfinished(&self) -> bool {
        self.open_leaves.is_some()
    }
    /// How it is cut and which checksums it carries.
    #[must_use]
    pub fn chunks(&self) -> ChunkFormat {
        self.files.chunks
    }
    /// Its data file, for sendfile.
    #[must_use]
    pub fn data(&self) -> &dyn DiskFile {
        self.files.data.as_ref()
    }
    /// To be held while somebody else reads the data file by its descriptor: a disk that does not answer is noticed by what
    /// is out for long.
    #[must_use]
    pub fn reading(&self) -> UnderWay<'_> {
        self.volume.waits("send a replica")
    }
    /// The file of its checksums, and where in it they begin.
    #[must_use]
    pub fn checksums(&self) -> (&dyn DiskFile, u64) {
        (self.files.meta.as_ref(), meta::HEADER_BYTES)
    }
    /// Leaves of its digest as its trailer has them, none if nobody made them; true: a scrubber did.
    ///
    /// # Errors
    /// The disk's; [`StoreError::NotWhole`] if there is no valid trailer any more.
    pub fn leaves(&self) -> Result<(Vec<Leaf>, bool), StoreError> {
        if let Some(leaves) = &self.open_leaves {
            return Ok(leaves.clone());
        }
        let ends = self.files.meta.len_bytes().and_then(|meta_bytes| {
            scan::read_ends(|buffer, at_bytes| self.files.meta.read_exact_at(buffer, at_bytes), meta_bytes)
        });
        match ends.map_err(|source| StoreError::Io { operation: "read", path: self.id.to_string(), source })?.1 {
            End::Trailer(trailer, _) => Ok((trailer.leaves, trailer.observed)),
            End::None | End::Needs(_) | End::Newer(_) | End::Marked(_) => {
                Err(StoreError::NotWhole { id: self.id, state: ReplicaState::Corrupt.as_str() })
            }
        }
    }
    /// Appends the stored checksums of `len_bytes` from `offset_bytes`, a chunk border. As stored: a reader
    /// finds out by itself whether the data still agree.
    ///
    /// # Errors
    /// The disk's; the replica is then marked corrupt and reported.
    pub fn read_checksums(&self, offset_bytes: u64, len_bytes: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let chunks = self.chunks();
        if chunks.kind() == ChecksumKind::Null {
            return Ok(());
        }
        let at = meta::HEADER_BYTES + chunks.checksums_bytes(offset_bytes);
        let start = out.len();
        // At most a packet's worth: the caller asks for no more.
        out.resize(start + chunks.checksums_bytes(len_bytes) as usize, 0);
        let read = self.files.meta.read_exact_at(out.get_mut(start..).unwrap_or_default(), at);
        self.damage_on_error(read, "read the checksums of")?;
        if offset_bytes + len_bytes == self.end.len_bytes
            && let Some(tail) = self.end.tail
            && let Some(last) = out.last_chunk_mut::<4>()
        {
            *last = tail;
        }
        Ok(())
    }
    /// Reads data exactly.
    ///
    /// # Errors
    /// As [`ReplicaReader::read_checksums`].
    pub fn read_data(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.damage_on_error(self.files.data.read_exact_at(out, offset_bytes), "read")
    }
    /// Has the scrubber look at the replica before others: its reader is not content, and may be wrong.
    pub fn suspect(&self) {
        self.volume.state.lock().suspect(self.id);
    }
    /// Marks the replica corrupt: a reader or a copy found its bytes damaged.
    pub fn mark_corrupt(&self) {
        mark_corrupt(&self.volume, self.id, self.stamp);
    }

    fn damage_on_error(&self, result: io::Result<()>, operation: &'static str) -> Result<(), StoreError> {
        result.map_err(|source| {
            if !is_exhausted(&source) {
                mark_corrupt(&self.volume, self.id, self.stamp);
            }
            StoreError::Io { operation, path: self.id.to_string(), source }
        })
    }
}

/// Only what is whole is read, and by readers that know no newer one.
fn check(block: &BlockRef, replica: Replica) -> Result<(), StoreError> {
    if replica.state != ReplicaState::Finalized {
        return Err(StoreError::NotWhole { id: block.id, state: replica.state.as_str() });
    }
    check_stamp(block, replica)
}

/// A newer replica serves a reader that knows an older stamp: its bytes are a superset.
fn check_stamp(block: &BlockRef, replica: Replica) -> Result<(), StoreError> {
    if replica.stamp < block.stamp {
        return Err(StoreError::StaleStamp { id: block.id, found: replica.stamp, sent: block.stamp });
    }
    Ok(())
}

/// Opens the files of the replica that is watched. If they are missing, not whole, or not to be read, the replica is marked
/// corrupt (SC-52).
fn open_files(volume: &Arc<Volume>, block: &BlockRef, watch: &Watch) -> Result<OpenFiles, StoreError> {
    volume.working()?;
    let opened = try_open(volume, block, watch);
    // Reopened since we looked? Then its last checksum may be another one's already (SC-51).
    if opened.is_ok() && !watch.is_unchanged() {
        return Err(StoreError::Changed(block.id));
    }
    opened.inspect_err(|error| {
        let gone = matches!(error, StoreError::Io { source, .. } if !is_exhausted(source));
        // Deleted since we looked? Then it is not damaged.
        if watch.is_unchanged() && (gone || matches!(error, StoreError::NotWhole { .. })) {
            mark_corrupt(volume, block.id, watch.replica().stamp);
        }
    })
}

fn try_open(volume: &Volume, block: &BlockRef, watch: &Watch) -> Result<OpenFiles, StoreError> {
    let data_path = volume.data_path(&block.pool, block.id);
    let meta_path = volume.meta_path(&block.pool, block.id, watch.replica().stamp);
    let open = |path: &Path| volume.disk.open(path, OpenMode::Read).map_err(StoreError::io("open", path));
    let (data, meta) = (open(&data_path)?, open(&meta_path)?);
    let mut header = [0; meta::HEADER_BYTES as usize];
    meta.read_exact_at(&mut header, 0).map_err(StoreError::io("read", &meta_path))?;
    let damaged = StoreError::NotWhole { id: block.id, state: ReplicaState::Corrupt.as_str() };
    let Some(chunks) = meta::decode_header(&header) else { return Err(damaged) };
    if !volume.state.lock().checked.contains(&block.id) {
        let trailer =
            scan::read_trailer(volume.disk.as_ref(), &meta_path).map_err(StoreError::io("read", &meta_path))?;
        let Some(trailer) = trailer else { return Err(damaged) };
        if !sums_intact(volume, &meta_path, &trailer)? {
            return Err(damaged);
        }
        volume.was_checked(watch);
    }
    let tail =
        read_tail(meta.as_ref(), chunks, watch.replica().len_bytes).map_err(StoreError::io("read", &meta_path))?;
    Ok(OpenFiles { data, meta, chunks, tail })
}

/// Checksum of a last chunk that is not whole: an append writes over it.
fn read_tail(meta: &dyn DiskFile, chunks: ChunkFormat, len_bytes: u64) -> io::Result<Option<[u8; 4]>> {
    if len_bytes.is_multiple_of(chunks.chunk_bytes()) || chunks.kind().checksum_bytes() != 4 {
        return Ok(None);
    }
    let mut tail = [0; 4];
    meta.read_exact_at(&mut tail, meta::HEADER_BYTES + chunks.checksums_bytes(len_bytes) - 4)?;
    Ok(Some(tail))
}

/// See [`scan::sums_intact`]. Bytes that the disk does not give back are damage, a want of descriptors or memory is none.
fn sums_intact(volume: &Volume, path: &Path, trailer: &meta::Trailer) -> Result<bool, StoreError> {
    match scan::sums_intact(volume.disk.as_ref(), path, trailer) {
        Err(error) if is_exhausted(&error) => Err(StoreError::io("read", path)(error)),
        other => Ok(other.unwrap_or(false)),
    }
}

/// SC-52: damage that is noticed is reported, so that the namenode repairs it. One that has got another stamp since is
/// another replica (SC-51).
pub(crate) fn mark_corrupt(volume: &Volume, id: BlockId, stamp: GenerationStamp) {
    if base::mutated!(Sc52DamageIsNotTold) {
        return;
    }
    let mut state = volume.state.lock();
    let found = state.replicas.get(&id).copied();
    let same = |replica: &Replica| replica.state == ReplicaState::Finalized && replica.stamp == stamp;
    if let Some(replica) = found.filter(same) {
        tracing::warn!(block = %id, storage = %volume.storage, "replica is corrupt");
        state.set_replica(id, Some(Replica { state: ReplicaState::Corrupt, ..replica }));
    }
}
