//! Giving a replica the leaves of its digest, which its writer did not send: Hadoop's clients know of none.
//!
//! ```text
//!   meta file ──header, checksums──▶ <volume>/meta.new ─ trailer with leaves, "observed" ─▶ sync ─▶ rename ─▶ folder synced
//! ```
//!
//! The name always leads to a whole meta file, the old one or the new one. Who has the old one open goes on with it: the
//! checksums are the same. Whoever makes a `meta.new` is alone with it (`Volume::renewing`).

use std::path::Path;

use base::crash::CrashPoint;
use base::disk::DiskFile;
use transfer::ChunkFormat;

use super::error::StoreError;
use super::layout;
use super::look::{Look, Watch};
use super::meta::{self, Trailer};
use super::volume::Volume;

/// Checksums that are copied at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Puts the leaves that a look has found into the replica's trailer, if it has none. False: there was nothing to do, or
/// the replica has changed meanwhile.
///
/// # Errors
/// The disk's. "Full" leaves everything as it was; after any other error the volume is out of service.
pub(super) fn restore(watch: &Watch, look: &Look) -> Result<bool, StoreError> {
    let Some(trailer) = look.completed() else { return Ok(false) };
    let volume = watch.volume();
    volume.writable()?;
    let _alone = volume.renewing.lock();
    let path = volume.dir.join(layout::META_NEW);
    let done = write(volume, &path, look, &trailer)
        .and_then(|written| if written { replace(watch, &path, &trailer) } else { Ok(false) });
    let done = volume.guard(done);
    if !matches!(done, Ok(true)) && !volume.is_failed() {
        volume.remove(&path, CrashPoint::LeavesRemove)?;
    }
    done
}

/// Makes the new file durable. False: the old one is not (any more) what it was when it was looked at.
fn write(volume: &Volume, path: &Path, look: &Look, trailer: &Trailer) -> Result<bool, StoreError> {
    // What a killed process left.
    volume.remove(path, CrashPoint::LeavesRemove)?;
    let file = volume.disk.create_new(path, CrashPoint::LeavesCreate).map_err(StoreError::io("create", path))?;
    let (old, chunks) = look.meta();
    let put = |bytes: &[u8], at_bytes| file.write_at(bytes, at_bytes).map_err(StoreError::io("write", path));
    put(&meta::encode_header(chunks), 0)?;
    let end_bytes = meta::HEADER_BYTES + chunks.checksums_bytes(trailer.len_bytes);
    let (mut at_bytes, mut crc) = (meta::HEADER_BYTES, 0);
    while at_bytes < end_bytes {
        let Some(sums) = piece(old, at_bytes, end_bytes, trailer) else { return Ok(false) };
        put(&sums, at_bytes)?;
        crc = ChunkFormat::CRC32C_512.extend(crc, &sums);
        at_bytes += sums.len() as u64;
    }
    if crc != trailer.crc_of_crcs {
        return Ok(false);
    }
    put(&trailer.encode(), end_bytes)?;
    if !base::mutated!(Sc58NewFileIsNotSynced) {
        file.sync(CrashPoint::LeavesSync).map_err(StoreError::sync(path))?;
    }
    Ok(true)
}

/// Checksums of the old file; `None` if the disk does not give them back: the next look will say so.
fn piece(old: &dyn DiskFile, at_bytes: u64, end_bytes: u64, trailer: &Trailer) -> Option<Vec<u8>> {
    let mut sums = vec![0; PIECE_BYTES.min(end_bytes - at_bytes) as usize];
    match old.read_exact_at(&mut sums, at_bytes) {
        Ok(()) => Some(sums),
        Err(error) => {
            tracing::warn!(block = %trailer.id, %error, "checksums that were just read cannot be read again");
            None
        }
    }
}

/// Puts the new file in the place of the old one, if that is still the same replica's.
fn replace(watch: &Watch, path: &Path, trailer: &Trailer) -> Result<bool, StoreError> {
    let volume = watch.volume();
    let meta_path = volume.meta_path(&trailer.pool, trailer.id, trailer.stamp);
    let more_bytes = volume.bytes_of(path).saturating_sub(volume.bytes_of(&meta_path));
    let opened = {
        // Whoever deletes the replica, or makes another one, says so first and moves files after.
        let _waits = volume.waits("replace a meta file");
        let _alone = volume.names.write();
        if !watch.is_unchanged() {
            return Ok(false);
        }
        let renamed = volume.disk.rename(path, &meta_path, CrashPoint::LeavesRename);
        renamed.map_err(StoreError::io("rename", path))?;
        volume.state.lock().opened.remove(trailer.id)
    };
    // The old file has no name any more: its last close is work for the disk, and not done under a lock.
    drop(opened);
    volume.commit_names(&trailer.pool, layout::folder_of(trailer.id))?;
    let mut state = volume.state.lock();
    state.used_bytes = state.used_bytes.saturating_add(more_bytes);
    Ok(true)
}
