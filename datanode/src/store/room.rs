//! Room of its own on every volume, for the little that must be written so that something can be removed (SC-57).
//!
//! ```text
//!   <volume>/reserve ── held while there is room ──▶ given up when a delete, a term or an identity finds none
//!                    ◀── taken back by the upkeep ──
//! ```
//!
//! Blocks leave `reserve_bytes` alone, but others may fill the disk. Then this file goes first, and if a rename into the
//! trash still finds no room, the files are removed at once.

use std::io;

use base::crash::CrashPoint;
use base::disk::OpenMode;

use super::error::StoreError;
use super::layout;
use super::volume::Volume;

/// Most bytes that are held.
const ROOM_BYTES: u64 = 1 << 20;
/// The room is taken back when so many times as much is there.
const PLENTY: u64 = 4;

impl Volume {
    fn wanted_room_bytes(&self) -> u64 {
        ROOM_BYTES.min(self.options().reserve_bytes)
    }
    /// Holds the room, if it is not held and there is plenty. A disk that has none is no failure.
    pub(crate) fn hold_room(&self) {
        let wanted_bytes = self.wanted_room_bytes();
        let held = self.state.lock().holds_room;
        if wanted_bytes == 0 || held {
            return;
        }
        match self.try_hold_room(wanted_bytes) {
            Ok(held) => self.state.lock().holds_room = held,
            Err(error) => tracing::debug!(storage = %self.storage, %error, "no room is set aside for deletes"),
        }
    }
    fn try_hold_room(&self, wanted_bytes: u64) -> io::Result<bool> {
        let path = self.dir.join(layout::RESERVE);
        let have_bytes = self.disk.info(&path)?.map(|info| info.len_bytes);
        if have_bytes.is_some_and(|bytes| bytes >= wanted_bytes) {
            return Ok(true);
        }
        if self.disk.space(&self.dir)?.available_bytes < wanted_bytes.saturating_mul(PLENTY) {
            return Ok(false);
        }
        let file = match have_bytes {
            Some(_) => self.disk.open(&path, OpenMode::ReadWrite)?,
            None => self.disk.create_new(&path, CrashPoint::RoomAllocate)?,
        };
        file.allocate(0, wanted_bytes, CrashPoint::RoomAllocate)?;
        Ok(true)
    }
    /// Gives the room up. False: there was none.
    fn give_room_up(&self) -> bool {
        self.state.lock().holds_room = false;
        let removed = self.disk.remove_file(&self.dir.join(layout::RESERVE), CrashPoint::RoomRemove);
        if removed.is_ok() {
            tracing::warn!(storage = %self.storage, "the disk is full: the room kept for deletes is used");
        }
        removed.is_ok()
    }
    /// Does something small that must be possible on a full disk.
    pub(crate) fn with_room<T>(&self, mut run: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match run() {
            Err(error) if error.is_full() && self.give_room_up() => run(),
            other => other,
        }
    }
}
