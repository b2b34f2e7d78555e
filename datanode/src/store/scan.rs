//! The start-up scan: what replicas a volume holds, and in which state. Changes nothing on the disk:
//! deletes wait for the namenode (SC-49).

use std::collections::BTreeMap;
use std::path::Path;

use base::disk::{Disk, OpenMode, read_file};
use base::two_slot::crc32c;
use proto::ids::{BlockId, GenerationStamp, PoolId};

use super::error::{StoreError, is_exhausted};
use super::layout::{self, Name};
use super::meta::{self, End, Trailer};
use super::replica::{Replica, ReplicaState};

/// Meta files up to this size are checked whole at start; the checksums of longer ones when they are first
/// read. (64 KiB of checksums cover 8 MiB of data.)
pub(crate) const WHOLE_CHECK_BYTES: u64 = 64 * 1024;
/// The end of a longer meta file that is read first. Holds the trailer of a block of 128 MiB with its digest.
const TAIL_BYTES: u64 = 8192;

/// Stamps of meta files that belong to no data, by block.
pub(crate) type Orphans = BTreeMap<BlockId, Vec<GenerationStamp>>;

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) replicas: BTreeMap<BlockId, Replica>,
    /// Bytes of data and meta files.
    pub(crate) used_bytes: u64,
    /// Meta files that belong to no data: left where they are until their block is begun here again.
    pub(crate) orphans: Orphans,
}

/// Names of one block in its folder.
#[derive(Debug, Default)]
struct Files {
    data_bytes: Option<u64>,
    /// Highest stamp and the length of its meta file.
    meta: Option<(GenerationStamp, u64)>,
    /// The other stamps.
    lower: Vec<GenerationStamp>,
}

pub(crate) fn scan(disk: &dyn Disk, volume: &Path, pool: &PoolId) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let pool_dir = layout::pool_dir(volume, pool);
    if disk.info(&pool_dir).map_err(StoreError::io("look at", &pool_dir))?.is_none() {
        return Ok(found);
    }
    for entry in disk.read_dir(&pool_dir).map_err(StoreError::io("list", &pool_dir))? {
        if entry.info.is_dir && layout::parse_folder(&entry.name).is_some() {
            scan_folder(disk, &pool_dir.join(&entry.name), pool, &mut found)?;
        }
    }
    Ok(found)
}

fn scan_folder(disk: &dyn Disk, folder: &Path, pool: &PoolId, found: &mut Found) -> Result<(), StoreError> {
    let mut files: BTreeMap<BlockId, Files> = BTreeMap::new();
    for entry in disk.read_dir(folder).map_err(StoreError::io("list", folder))? {
        let len_bytes = entry.info.len_bytes;
        match layout::parse(&entry.name) {
            Name::Data(id) => files.entry(id).or_default().data_bytes = Some(len_bytes),
            Name::Meta(id, stamp) => {
                let files = files.entry(id).or_default();
                let (highest, lower) = match files.meta {
                    Some((known, known_bytes)) if known > stamp => ((known, known_bytes), Some(stamp)),
                    known => ((stamp, len_bytes), known.map(|(known, _)| known)),
                };
                files.meta = Some(highest);
                files.lower.extend(lower);
            }
            Name::Other => continue,
        }
        found.used_bytes += len_bytes;
    }
    for (id, files) in files {
        let mut orphans = files.lower;
        if files.data_bytes.is_none() {
            orphans.extend(files.meta.map(|(stamp, _)| stamp));
        }
        if !orphans.is_empty() {
            found.orphans.insert(id, orphans);
        }
        let Some(data_bytes) = files.data_bytes else { continue };
        let replica = match files.meta {
            None => half_written(GenerationStamp::from_raw(0), 0),
            Some((stamp, meta_bytes)) => {
                let path = folder.join(layout::meta_name(id, stamp));
                judge(disk, &path, &Seen { pool, id, stamp, data_bytes, meta_bytes })?
            }
        };
        found.replicas.insert(id, replica);
    }
    Ok(())
}

struct Seen<'a> {
    pool: &'a PoolId,
    id: BlockId,
    stamp: GenerationStamp,
    data_bytes: u64,
    meta_bytes: u64,
}

/// State of a replica from its meta file. Unreadable meta files leave the replica corrupt, not the volume failed. A want of
/// descriptors or memory says nothing of it, and nothing is made up: it ends the scan.
fn judge(disk: &dyn Disk, path: &Path, seen: &Seen<'_>) -> Result<Replica, StoreError> {
    let corrupt = Replica { stamp: seen.stamp, len_bytes: seen.data_bytes, state: ReplicaState::Corrupt };
    let file = disk.open(path, OpenMode::Read);
    let ends = file.and_then(|file| read_ends(|buffer, at| file.read_exact_at(buffer, at), seen.meta_bytes));
    let (header, end) = match ends {
        Ok(ends) => ends,
        Err(error) if is_exhausted(&error) => return Err(StoreError::io("look at", path)(error)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the checksums of a replica");
            return Ok(corrupt);
        }
    };
    let chunks = meta::decode_header(&header);
    match end {
        End::Newer(version) => Err(StoreError::Refused {
            path: path.display().to_string(),
            problem: format!("written by a newer program (trailer version {version}): use that program"),
        }),
        End::Marked(marks) => Err(StoreError::Refused {
            path: path.display().to_string(),
            problem: format!(
                "its trailer has marks that this program does not know ({marks:#x}): use the newer program"
            ),
        }),
        End::Trailer(trailer, trailer_bytes) => {
            let fits = chunks.is_some_and(|chunks| {
                let sums = chunks.checksums_bytes(trailer.len_bytes);
                trailer.len_bytes == seen.data_bytes
                    && meta::HEADER_BYTES + sums + trailer_bytes as u64 == seen.meta_bytes
            });
            let block = trailer.pool == *seen.pool && trailer.id == seen.id;
            if block && trailer.stamp < seen.stamp {
                // It was whole, and was reopened under a higher stamp: the name is the newer truth. A recovery may have cut
                // the data, and the cut of the trailer not have become durable.
                return Ok(half_written(seen.stamp, trailer.len_bytes.min(seen.data_bytes)));
            }
            let same = block && trailer.stamp == seen.stamp;
            if !fits || !(same || base::mutated!(Sc62MisplacedReplicaIsBelieved)) {
                return Ok(corrupt);
            }
            let intact =
                if seen.meta_bytes <= WHOLE_CHECK_BYTES { sums_intact(disk, path, &trailer) } else { Ok(true) };
            // Without descriptors nothing was looked at: the first reader does.
            if !intact.unwrap_or_else(|error| is_exhausted(&error)) {
                return Ok(corrupt);
            }
            Ok(Replica { stamp: seen.stamp, len_bytes: seen.data_bytes, state: ReplicaState::Finalized })
        }
        End::None | End::Needs(_) => {
            let covered = chunks.map_or(0, |chunks| {
                let sums = seen.meta_bytes.saturating_sub(meta::HEADER_BYTES);
                let count = sums / chunks.kind().checksum_bytes().max(1) as u64;
                count.saturating_mul(chunks.chunk_bytes()).min(seen.data_bytes)
            });
            Ok(half_written(seen.stamp, covered))
        }
    }
}

const fn half_written(stamp: GenerationStamp, len_bytes: u64) -> Replica {
    Replica { stamp, len_bytes, state: ReplicaState::WaitingRecovery }
}

/// Header and end of a meta file; `read` reads exactly, at an offset.
pub(crate) fn read_ends(
    read: impl Fn(&mut [u8], u64) -> std::io::Result<()>,
    meta_bytes: u64,
) -> std::io::Result<(Vec<u8>, End)> {
    let mut header = vec![0; meta::HEADER_BYTES.min(meta_bytes) as usize];
    read(&mut header, 0)?;
    let read_tail = |bytes: u64| {
        let mut tail = vec![0; bytes.min(meta_bytes) as usize];
        let at = meta_bytes - tail.len() as u64;
        read(&mut tail, at)?;
        Ok::<_, std::io::Error>(Trailer::decode_end(&tail))
    };
    let end = match read_tail(TAIL_BYTES)? {
        End::Needs(bytes) if (bytes as u64) <= meta_bytes => read_tail(bytes as u64)?,
        end => end,
    };
    Ok((header, end))
}

/// Do the checksums of a meta file add up to what its trailer says?
pub(crate) fn sums_intact(disk: &dyn Disk, path: &Path, trailer: &Trailer) -> std::io::Result<bool> {
    let bytes = read_file(disk, path, super::MAX_META_BYTES)?;
    let Some(chunks) = meta::decode_header(&bytes) else { return Ok(false) };
    let start = meta::HEADER_BYTES as usize;
    let sums = usize::try_from(chunks.checksums_bytes(trailer.len_bytes)).unwrap_or(usize::MAX);
    Ok(bytes.get(start..start.saturating_add(sums)).is_some_and(|sums| crc32c(sums) == trailer.crc_of_crcs))
}

/// Reads the trailer of a finalised replica's meta file; `None` if there is no valid one.
pub(crate) fn read_trailer(disk: &dyn Disk, path: &Path) -> std::io::Result<Option<Trailer>> {
    let file = disk.open(path, OpenMode::Read)?;
    match read_ends(|buffer, at| file.read_exact_at(buffer, at), file.len_bytes()?)?.1 {
        End::Trailer(trailer, _) => Ok(Some(trailer)),
        End::None | End::Needs(_) | End::Newer(_) | End::Marked(_) => Ok(None),
    }
}
