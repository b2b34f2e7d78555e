//! What a failed sync leaves in the page cache, which another sync does not make durable (SC-48).
//!
//! ```text
//!   a sync fails ─▶ note: <volume>/unsynced ─▶ the volume is condemned … the node is started again
//!                       ─▶ write_again: every open replica over itself ─▶ everything is synced ─▶ forget
//! ```
//!
//! The kernel takes a page that it could not write for clean: the next sync says yes, the bytes are there for whoever reads,
//! and a power cut takes them. A recovery would end a block on them. Written once more they are to be synced again. The note
//! itself need not be durable: what takes it has taken the page cache with it.
//!
//! What was whole was synced before it was called so, and the trailer of one whose sync failed is taken back (see `writer`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base::crash::CrashPoint;
use base::disk::{Disk, OpenMode};
use proto::ids::{BlockId, PoolId};

use super::error::{StoreError, is_full, is_read_only};
use super::layout;
use super::replica::{Replica, ReplicaState};

/// Bytes that are read and written at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Notes that a sync of a volume has failed.
pub(super) fn note(disk: &dyn Disk, dir: &Path) {
    let path = dir.join(layout::UNSYNCED);
    match disk.create_new(&path, CrashPoint::CheckCreate) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "a failed sync could not be noted"),
    }
}

/// A note that was acted upon, or none.
#[must_use]
pub(super) struct Noted<'a> {
    disk: &'a dyn Disk,
    path: Option<PathBuf>,
}

impl Noted<'_> {
    /// Everything is synced since. A note that stays costs the next start the same once more, and nothing else.
    pub(super) fn forget(self) {
        let Some(path) = self.path else { return };
        if let Err(error) = self.disk.remove_file(&path, CrashPoint::CheckRemove) {
            tracing::warn!(path = %path.display(), %error, "cannot be removed: the next start writes what is open once more");
        }
    }
}

/// Writes what is open over itself if a sync has failed before this start. It is still to be synced. What a disk that is full,
/// or takes no writes, refuses is left as it is, and the note stays for the next start.
///
/// # Errors
/// The disk's; but what cannot be read is left to whoever needs it.
pub(super) fn write_again<'a>(
    disk: &'a dyn Disk,
    dir: &Path,
    pool: Option<&PoolId>,
    replicas: &BTreeMap<BlockId, Replica>,
) -> Result<Noted<'a>, StoreError> {
    let path = dir.join(layout::UNSYNCED);
    if disk.info(&path).map_err(StoreError::io("look at", &path))?.is_none() {
        return Ok(Noted { disk, path: None });
    }
    let mut all = true;
    let open = replicas.iter().filter(|(_, replica)| replica.state != ReplicaState::Finalized);
    for (pool, (id, replica)) in pool.into_iter().flat_map(|pool| open.clone().map(move |one| (pool, one))) {
        let folder = layout::pool_dir(dir, pool).join(layout::folder_name(layout::folder_of(*id)));
        tracing::warn!(block = %id, dir = %dir.display(), "written once more: a sync had failed before this start");
        for name in [layout::data_name(*id), layout::meta_name(*id, replica.stamp), layout::side_name(*id)] {
            let file = folder.join(name);
            match write_over(disk, &file) {
                Err(error) if is_full(&error) || is_read_only(&error) => {
                    tracing::warn!(path = %file.display(), %error, "cannot be written once more now: it may not be durable");
                    all = false;
                }
                other => other.map_err(StoreError::io("write", &file))?,
            }
        }
    }
    Ok(Noted { disk, path: Some(path).filter(|_| all) })
}

/// Writes the bytes of a file, if there is one, over themselves.
fn write_over(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let file = match disk.open(path, OpenMode::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let (mut at, end) = (0, file.len_bytes()?);
    while at < end {
        let mut piece = vec![0; PIECE_BYTES.min(end - at) as usize];
        if let Err(error) = file.read_exact_at(&mut piece, at) {
            tracing::warn!(path = %path.display(), at, %error, "cannot be read");
        } else {
            file.write_at(&piece, at)?;
        }
        at += piece.len() as u64;
    }
    Ok(())
}
