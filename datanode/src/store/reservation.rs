//! Room that is set aside on a volume for a replica that is not there yet.

use std::sync::Arc;

use super::error::StoreError;
use super::volume::Volume;
use super::writer::release;

/// Room for one replica; given back if none comes of it.
#[derive(Debug)]
pub(super) struct Reservation {
    volume: Arc<Volume>,
    reserved_bytes: u64,
}

impl Reservation {
    /// Sets room aside; see [`Volume::reserve`].
    pub(super) fn on(volume: &Arc<Volume>, wanted_bytes: u64) -> Result<Self, StoreError> {
        Ok(Self { reserved_bytes: volume.reserve(wanted_bytes)?, volume: Arc::clone(volume) })
    }
    /// None at all, for who writes nothing more.
    pub(super) fn none(volume: &Arc<Volume>) -> Self {
        Self { reserved_bytes: 0, volume: Arc::clone(volume) }
    }
    /// Where it is.
    pub(super) const fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }
    /// Hands it on, to be given back by somebody else: bytes.
    pub(super) fn keep(mut self) -> u64 {
        std::mem::take(&mut self.reserved_bytes)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.reserved_bytes > 0 {
            release(&self.volume, self.reserved_bytes);
        }
    }
}
