//! Commits of files that are closed already: how many there may be, and what became of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::errno::Errno;

/// Files that are committed at the same time behind the programs that closed them. Who closes one more waits.
const MAX_COMMITS: usize = 64;
/// Files of which it is remembered that they could not be committed.
const MAX_LOST: usize = 4096;

/// What goes on behind the programs of a mount.
#[derive(Debug)]
pub(crate) struct Behind {
    turns: Semaphore,
    /// Commits of changed copies, whoever waits for them.
    under_way: AtomicU64,
    /// Told whenever one has ended.
    ended: Notify,
    /// Steps of commits, of whatever file: whoever waits for them all sees that they go on.
    steps: AtomicU64,
    /// By the namespace's inode: what to tell whoever opens the file next.
    lost: Mutex<BTreeMap<u64, Errno>>,
}

impl Default for Behind {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(MAX_COMMITS),
            under_way: AtomicU64::new(0),
            ended: Notify::new(),
            steps: AtomicU64::new(0),
            lost: Mutex::default(),
        }
    }
}

impl Behind {
    /// Waits until fewer are committed than may be.
    pub(crate) async fn room(&self) {
        drop(self.turns.acquire().await);
    }
    /// A turn to commit one.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }
    /// A changed copy is about to be committed, until the guard goes: then its room is free.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }
    /// Changed copies that are being committed.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::SeqCst)
    }
    /// A commit has gone on.
    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
    fn end(&self) {
        self.step();
        self.ended.notify_waiters();
    }
    /// If some are being committed, or wait for their turn: ends when the next one does that has not ended by now.
    pub(crate) fn room_to_come(&self) -> Option<Notified<'_>> {
        let next_end = self.ended.notified();
        (self.under_way() > 0).then_some(next_end)
    }
    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Bytes of a file are lost, and nobody was told. Of too many the newest files are told of.
    pub(crate) fn lose(&self, inode: u64, errno: Errno) {
        let mut lost = self.lost.lock();
        lost.insert(inode, errno);
        if lost.len() > MAX_LOST {
            lost.pop_first();
        }
    }
    /// What whoever opens a file is to be told once.
    pub(crate) fn take_lost(&self, inode: u64) -> Option<Errno> {
        self.lost.lock().remove(&inode)
    }
}

/// A commit that is under way.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a Behind);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_told_once_and_does_not_pile_up() {
        let behind = Behind::default();
        behind.lose(7, Errno::ENOSPC);
        assert_eq!((behind.take_lost(7), behind.take_lost(7)), (Some(Errno::ENOSPC), None));
        (0..MAX_LOST as u64 + 5).for_each(|number| behind.lose(number, Errno::EIO));
        assert_eq!(behind.lost.lock().len(), MAX_LOST);
        assert_eq!(behind.take_lost(4), None);
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_of_a_commit_is_told() {
        let behind = Behind::default();
        let under_way = behind.begin();
        assert_eq!(behind.under_way(), 1);
        let end = behind.room_to_come().unwrap();
        drop(under_way);
        end.await;
        assert!(behind.under_way() == 0 && behind.room_to_come().is_none());
    }

    #[tokio::test]
    async fn so_many_are_committed_at_the_same_time_and_no_more() {
        let behind = Behind::default();
        let mut turns = Vec::new();
        for _ in 0..MAX_COMMITS {
            turns.push(behind.turn().await);
        }
        assert!(behind.turns.try_acquire().is_err());
        turns.pop();
        behind.room().await;
    }
}
