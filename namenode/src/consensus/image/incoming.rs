//! An image that the leader sends, part by part.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{Disk, DiskFile};
use proto::raft::{RaftMessage, RaftSnapshot};

/// What makes parts belong together: never two transfers in one file (scar SC-06).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) from: u64,
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) total_bytes: u64,
    pub(super) digest: u32,
}

impl Transfer {
    fn of(from: u64, snapshot: &RaftSnapshot) -> Self {
        let RaftSnapshot { index, term, total_bytes, digest, .. } = *snapshot;
        Self { from, index, term, total_bytes, digest }
    }
}

/// The transfer that is under way.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) transfer: Transfer,
    file: Arc<dyn DiskFile>,
    received_bytes: u64,
}

/// What a part did.
#[derive(Debug)]
pub(super) enum Taken {
    /// It began a transfer anew, or continued one.
    Going,
    /// It was a repetition, or a part of another transfer: nothing was done.
    Ignored,
    /// It was the last one: all bytes are in the file, and durable.
    Whole(Transfer),
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("image.incoming")
}

/// Is this the part that starts a transfer?
pub(super) fn starts(message: &RaftMessage, current: Option<&Incoming>) -> bool {
    let Some(snapshot) = &message.snapshot else { return false };
    let same = current.is_some_and(|c| c.transfer == Transfer::of(message.from, snapshot));
    snapshot.offset_bytes == 0 && !same
}

/// Begins a transfer: the file of an earlier one is dropped.
pub(super) fn begin(disk: &dyn Disk, dir: &Path, message: &RaftMessage) -> io::Result<Incoming> {
    let path = path(dir);
    if disk.info(&path)?.is_some() {
        disk.remove_file(&path, CrashPoint::ImageRemove)?;
    }
    let file = disk.create_new(&path, CrashPoint::ImageCreate)?;
    let snapshot = message.snapshot.clone().unwrap_or_default();
    Ok(Incoming { transfer: Transfer::of(message.from, &snapshot), file, received_bytes: 0 })
}

impl Incoming {
    /// Takes a part, if it is the next one of this transfer.
    pub(super) fn take(&mut self, message: &RaftMessage) -> io::Result<Taken> {
        let Some(snapshot) = &message.snapshot else { return Ok(Taken::Ignored) };
        let end = self.received_bytes.saturating_add(snapshot.data.len() as u64);
        let next = (Transfer::of(message.from, snapshot) == self.transfer || base::mutated!(Sc06PartsOfImagesMix))
            && snapshot.offset_bytes == self.received_bytes
            && !snapshot.data.is_empty()
            && end <= self.transfer.total_bytes;
        if !next {
            return Ok(Taken::Ignored);
        }
        self.file.write_at(&snapshot.data, self.received_bytes)?;
        self.received_bytes = end;
        if end < self.transfer.total_bytes {
            return Ok(Taken::Going);
        }
        self.file.sync(CrashPoint::ImageSync)?;
        Ok(Taken::Whole(self.transfer.clone()))
    }
}
