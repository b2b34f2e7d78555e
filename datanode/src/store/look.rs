//! Looking at a replica: all its bytes are read from the medium, slice by slice, and compared with what the replica says
//! of itself.
//!
//! ```text
//!   Watch (did anything change meanwhile?)
//!     └ Look:  lengths, header, trailer ──▶ slices of data with their checksums … ──▶ checksums and digest as the
//!                                                                                      trailer says
//! ```
//!
//! The data are hashed even if the trailer has no digest: then the look has found out what it is. If the namespace's digest
//! is known, that is what counts: data that have it are sound, and leaves in the trailer that say otherwise are wrong.
//!
//! Nothing is decided here: a damaged replica is one whose bytes differed *this time*.

use std::sync::Arc;

use base::disk::{DiskFile, OpenMode};
use proto::ids::{BlockId, PoolId};
use transfer::digest::{self, LeafHasher, Prefix};
use transfer::verify::LeafOrigin;
use transfer::{ChunkFormat, ChunkMismatch};

use super::error::StoreError;
use super::meta::{self, End, Trailer};
use super::replica::{Replica, ReplicaState};
use super::scan;
use super::volume::{State, Volume};

/// Data that are read and compared at a time.
pub(crate) const SLICE_BYTES: u64 = 1 << 20;

/// How a replica differs from what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the data are {found} bytes long and should be {expected}")]
    Length { found: u64, expected: u64 },
    #[error("the checksum file has no valid header")]
    Header,
    #[error("the checksum file has no valid trailer")]
    Trailer,
    #[error("the trailer is of another replica")]
    Foreign,
    #[error("the checksum file is {found} bytes long and should be {expected}")]
    MetaLength { found: u64, expected: u64 },
    #[error("data from byte {at_bytes} on: {mismatch}")]
    Data { at_bytes: u64, mismatch: ChunkMismatch },
    #[error("the checksums are not those of the trailer")]
    Checksums,
    #[error("the trailer has {found} leaves of a digest and should have {expected}")]
    Leaves { found: u64, expected: u64 },
    #[error("data from byte {at_bytes} on: their digest is another one, although the checksums agree")]
    Leaf { at_bytes: u64 },
    #[error("the data are not those of the block: the namespace has another digest")]
    Digest,
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    #[error(transparent)]
    Damage(#[from] Damage),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tells whether a replica is the same from its beginning to its end. One that is deleted and made anew with the same
/// stamp is another one.
#[derive(Debug)]
pub(crate) struct Watch {
    volume: Arc<Volume>,
    id: BlockId,
    replica: Replica,
    /// Changes that others, who watch for longer, had seen when this watch began.
    changes: u64,
}

impl Watch {
    /// Watches what is known of a block; `None` if that is nothing.
    pub(crate) fn begin(volume: &Arc<Volume>, id: BlockId) -> Option<Self> {
        let mut state = volume.state.lock();
        let replica = *state.replicas.get(&id)?;
        let watched = state.watched.entry(id).or_default();
        watched.watchers += 1;
        let changes = watched.changes;
        drop(state);
        Some(Self { volume: Arc::clone(volume), id, replica, changes })
    }
    pub(crate) const fn id(&self) -> BlockId {
        self.id
    }
    pub(crate) const fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }
    /// What it was when the watch began.
    pub(crate) const fn replica(&self) -> Replica {
        self.replica
    }
    /// As [`Watch::is_unchanged`], for who holds the volume's state already.
    pub(crate) fn is_unchanged_in(&self, state: &State) -> bool {
        state.is_unchanged(self.id, self.changes)
    }
    pub(crate) fn is_unchanged(&self) -> bool {
        self.is_unchanged_in(&self.volume.state.lock())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.volume.state.lock().unwatch(self.id);
    }
}

impl Volume {
    /// Notes what a look at a whole replica has shown, unless the replica has changed since the look began; false then.
    /// Soundness is told to the namenodes if they `asked`.
    pub(crate) fn looked_at(&self, watch: &Watch, sound: bool, asked: bool) -> bool {
        let (id, replica) = (watch.id(), watch.replica());
        let mut state = self.state.lock();
        if !watch.is_unchanged_in(&state) && !base::mutated!(Sc51ChangingReplicaIsJudged) {
            return false;
        }
        let found = if sound { ReplicaState::Finalized } else { ReplicaState::Corrupt };
        let after = Replica { state: found, ..replica };
        if after != replica {
            state.set_replica(id, Some(after));
        }
        if sound {
            state.checked.insert(id);
            if asked {
                state.journal.verified(id, &after);
            }
        }
        true
    }
}

/// A replica that is being read.
#[derive(Debug)]
pub(crate) struct Look {
    id: BlockId,
    data: Arc<dyn DiskFile>,
    meta: Arc<dyn DiskFile>,
    chunks: ChunkFormat,
    trailer: Trailer,
    at_bytes: u64,
    /// CRC of the checksums so far.
    sums_crc: u32,
    hasher: LeafHasher,
    /// Leaves that were compared with those of the trailer: a block of a terabyte has a million.
    compared: usize,
    /// What the namespace has of the block.
    known: Option<Prefix>,
    /// The trailer's leaves are not those of the data.
    wrong_leaves: bool,
}

/// What a slice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Bytes read, checksums included.
    pub(crate) bytes: u64,
    /// It was the last one, and everything agrees.
    pub(crate) sound: bool,
}

impl Look {
    /// Opens both files and compares what can be told without the data. `known`: the digest that the namespace has.
    pub(crate) fn begin(watch: &Watch, pool: &PoolId, known: Option<&Prefix>) -> Result<Self, LookError> {
        let (volume, id, replica) = (&watch.volume, watch.id, watch.replica);
        let meta_path = volume.meta_path(pool, id, replica.stamp);
        let open = |path: &std::path::Path| {
            let file = volume.disk.open(path, OpenMode::Read).map_err(StoreError::io("open", path))?;
            file.no_readahead();
            Ok::<_, StoreError>(file)
        };
        let (data, meta) = (open(&volume.data_path(pool, id))?, open(&meta_path)?);
        let io = || StoreError::io("read", &meta_path);
        let (data_bytes, meta_bytes) = (data.len_bytes().map_err(io())?, meta.len_bytes().map_err(io())?);
        let ends = scan::read_ends(|buffer, at| meta.read_medium_at(buffer, at), meta_bytes);
        let (header, end) = ends.map_err(io())?;
        let chunks = meta::decode_header(&header).ok_or(Damage::Header)?;
        let End::Trailer(trailer, trailer_bytes) = end else { return Err(Damage::Trailer.into()) };
        if (&trailer.pool, trailer.id, trailer.stamp, trailer.len_bytes) != (pool, id, replica.stamp, replica.len_bytes)
        {
            return Err(Damage::Foreign.into());
        }
        if data_bytes != replica.len_bytes {
            return Err(Damage::Length { found: data_bytes, expected: replica.len_bytes }.into());
        }
        let leaves = (trailer.leaves.len() as u64, digest::leaf_count(trailer.len_bytes));
        let wrong_leaves = leaves.0 != 0 && leaves.0 != leaves.1;
        if wrong_leaves && known.is_none() {
            return Err(Damage::Leaves { found: leaves.0, expected: leaves.1 }.into());
        }
        let expected = meta::HEADER_BYTES + chunks.checksums_bytes(data_bytes) + trailer_bytes as u64;
        if meta_bytes != expected {
            return Err(Damage::MetaLength { found: meta_bytes, expected }.into());
        }
        let (hasher, known) = (LeafHasher::default(), known.copied());
        let (at_bytes, sums_crc, compared) = (0, 0, 0);
        Ok(Self { id, data, meta, chunks, trailer, at_bytes, sums_crc, hasher, compared, known, wrong_leaves })
    }

    /// Reads on.
    pub(crate) fn slice(&mut self) -> Result<Slice, LookError> {
        let chunk_bytes = self.chunks.chunk_bytes();
        let most_bytes = (SLICE_BYTES / chunk_bytes).max(1) * chunk_bytes;
        let at_bytes = self.at_bytes;
        let len_bytes = most_bytes.min(self.trailer.len_bytes - at_bytes);
        let mut data = vec![0; len_bytes as usize];
        let mut sums = vec![0; self.chunks.checksums_bytes(len_bytes) as usize];
        let io = |source| StoreError::Io { operation: "read", path: self.id.to_string(), source };
        if !sums.is_empty() {
            let sums_at = meta::HEADER_BYTES + self.chunks.checksums_bytes(at_bytes);
            self.meta.read_medium_at(&mut sums, sums_at).map_err(io)?;
        }
        if len_bytes > 0 {
            self.data.read_medium_at(&mut data, at_bytes).map_err(io)?;
        }
        let agree = self.chunks.verify(&data, &sums);
        agree.map_err(|mismatch| Damage::Data { at_bytes, mismatch })?;
        self.sums_crc = ChunkFormat::CRC32C_512.extend(self.sums_crc, &sums);
        self.hasher.update(&data);
        self.at_bytes += len_bytes;
        let sound = self.at_bytes == self.trailer.len_bytes;
        if sound {
            self.hasher.finish();
        }
        if sound && self.sums_crc != self.trailer.crc_of_crcs {
            return Err(Damage::Checksums.into());
        }
        match (self.check_leaves(), self.known) {
            (Ok(()), None) => {}
            (Err(damage), None) => return Err(damage.into()),
            (_, Some(known)) if sound && known != self.digest() => return Err(Damage::Digest.into()),
            (leaves, Some(_)) => self.wrong_leaves |= leaves.is_err(),
        }
        Ok(Slice { bytes: len_bytes + sums.len() as u64, sound })
    }

    /// Are the leaves since the last look those of the trailer, if that has any?
    fn check_leaves(&mut self) -> Result<(), Damage> {
        let found = self.hasher.leaves();
        let first = std::mem::replace(&mut self.compared, found.len());
        let pairs = found.iter().zip(&self.trailer.leaves).enumerate().skip(first);
        match pairs.into_iter().find(|(_, (found, told))| found != told) {
            None => Ok(()),
            Some((number, _)) => Err(Damage::Leaf { at_bytes: number as u64 * digest::SEGMENT_BYTES }),
        }
    }

    /// Start of the root over the data, once they were read to the end.
    pub(crate) fn digest(&self) -> Prefix {
        self.hasher.prefix()
    }
    /// Whose leaves the trailer has.
    pub(crate) const fn leaf_origin(&self) -> LeafOrigin {
        match (self.trailer.leaves.is_empty(), self.trailer.observed) {
            (true, _) => LeafOrigin::None,
            (false, false) => LeafOrigin::Writer,
            (false, true) => LeafOrigin::Observed,
        }
    }
    /// After the end: the trailer with the leaves that were found, if it has none or wrong ones. Those of data that have the
    /// namespace's digest are what the writer meant.
    pub(crate) fn completed(&self) -> Option<Trailer> {
        let lacks = self.trailer.leaves.is_empty() && self.trailer.len_bytes > 0;
        let (leaves, observed) = (self.hasher.leaves().to_vec(), self.known.is_none());
        (lacks || self.wrong_leaves).then(|| Trailer { leaves, observed, ..self.trailer.clone() })
    }
    /// The meta file, and how the data are cut.
    pub(crate) fn meta(&self) -> (&dyn DiskFile, ChunkFormat) {
        (self.meta.as_ref(), self.chunks)
    }

    /// Reads to the end.
    fn finish(mut self) -> Result<Self, LookError> {
        while !self.slice()?.sound {}
        Ok(self)
    }
}

/// Looks at a replica from its first to its last byte. What was seen if it is sound, and has the digest if there is one.
pub(crate) fn look_whole(watch: &Watch, pool: &PoolId, digest: Option<&Prefix>) -> Result<Option<Look>, StoreError> {
    match Look::begin(watch, pool, digest).and_then(Look::finish) {
        Ok(look) => Ok(Some(look)),
        Err(LookError::Damage(damage)) => {
            tracing::warn!(block = %watch.id, storage = %watch.volume.storage, %damage, "a replica differs");
            Ok(None)
        }
        Err(LookError::Store(error)) => Err(error),
    }
}
