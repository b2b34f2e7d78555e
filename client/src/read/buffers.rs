//! The memory of a client's readers: a budget in bytes, shared by all of them. Calls that read at a position have another
//! one: each takes all that it needs at once and gives it back when it returns, so that none waits for ever.
//!
//! What a reader has received ahead of its application counts against the budget from the moment it waits for the
//! application until it is handed over. Beyond it each open stream may hold the one packet that it received last:
//! otherwise readers that wait for each other's room would wait for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget is counted in these: a semaphore counts no further than 32 bits at a time.
const UNIT_BYTES: usize = 4 << 10;

/// The budget of a client.
#[derive(Debug)]
pub(crate) struct Buffers {
    room: Arc<Semaphore>,
    units: u32,
}

/// Bytes that are counted; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "its end is what counts")] OwnedSemaphorePermit);

impl Buffers {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        let units = u32::try_from(limit_bytes / UNIT_BYTES as u64).unwrap_or(u32::MAX).max(1);
        Self { room: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Counts so many bytes, waiting for room. A packet larger than the whole budget takes all of it.
    ///
    /// # Cancel safety
    /// Nothing is counted if the future is dropped; its place in the queue is lost.
    pub(crate) async fn take(&self, bytes: usize) -> Held {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units);
        loop {
            // The semaphore is never closed.
            if let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(units).await {
                return Held(permit);
            }
            std::future::pending::<()>().await;
        }
    }

    /// As [`Buffers::take`], but only for so long: then nothing is counted. For whoever may be waited for by those who hold
    /// what is counted, without their knowing.
    ///
    /// # Cancel safety
    /// As [`Buffers::take`].
    pub(crate) async fn take_within(&self, bytes: usize, wait: Duration) -> Option<Held> {
        tokio::time::timeout(wait, self.take(bytes)).await.ok()
    }

    /// Bytes that may still be taken.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.room.available_permits() * UNIT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_may_not_wait_for_ever_goes_on_uncounted() {
        let buffers = Buffers::new(64 << 10);
        let held = buffers.take(64 << 10).await;
        assert!(buffers.take_within(1, Duration::from_millis(1)).await.is_none());
        drop(held);
        assert!(buffers.take_within(1, Duration::from_secs(60)).await.is_some());
    }

    #[tokio::test]
    async fn r_1_no_more_is_taken_than_there_is_and_all_comes_back() {
        let buffers = Buffers::new(64 << 10);
        let held = [buffers.take(30 << 10).await, buffers.take(1).await];
        assert_eq!(buffers.free_bytes(), (64 - 32 - 4) << 10, "whole units are counted");
        tokio::select! {
            biased;
            _ = buffers.take(40 << 10) => panic!("that is more than there is"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        assert_eq!(buffers.free_bytes(), 64 << 10);
        drop(buffers.take(1 << 30).await);
        assert_eq!(buffers.free_bytes(), 64 << 10, "a giant takes all, and waits for no more than that");
        drop(Buffers::new(0).take(1).await);
    }
}
