//! The right to a connection: there are only so many.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places.
#[derive(Debug)]
pub(in crate::doors) struct Places(Arc<Semaphore>);

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(in crate::doors) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))))
    }

    /// A place, if one is free.
    pub(super) fn take(&self) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(|_permit| Place { _permit })
    }
}
