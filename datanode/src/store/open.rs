//! Open replicas: what is known of one beside its state, shared by its writer, by readers, and by whoever takes it over.
//!
//! ```text
//!   packets ─▶ received ─▶ stored ─▶ acknowledged here and by all behind: the mark up to which it is read
//!                gate: held while its writer changes files, and by whoever ends that writer
//! ```
//!
//! The numbers come from memory, never from a disk: whoever asks how far a node is wants an answer while its disk hangs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use proto::ids::{BlockId, GenerationStamp};
use transfer::digest::{self, Leaf};

use super::error::StoreError;

/// Longest wait for a writer that is being stopped: it may be in the middle of a disk call, and whoever stops it has a
/// caller with patience of its own (SC-35).
pub(crate) const STOP_BOUND: Duration = Duration::from_secs(2);
/// Packets whose acks may be outstanding. What is beyond it is not lost, but is seen by readers a packet later.
const MAX_PENDING: usize = 64 * 1024;

/// An end of a replica, with the checksum of its last chunk as the writer made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Bytes.
    pub(crate) len_bytes: u64,
    /// Checksum of the last chunk, if that is not whole: the one in the file may be of more bytes already (SC-51).
    pub(crate) tail: Option<[u8; 4]>,
}

/// How far an open replica is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLengths {
    /// Received and checked.
    pub received_bytes: u64,
    /// Handed to the disk.
    pub stored_bytes: u64,
    /// Acknowledged by this node and all behind it.
    pub acked_bytes: u64,
}

impl OpenLengths {
    /// Everything of a replica of this length.
    pub(crate) const fn all(len_bytes: u64) -> Self {
        Self { received_bytes: len_bytes, stored_bytes: len_bytes, acked_bytes: len_bytes }
    }
}

/// Leaves of the digest that an open replica has so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenLeaves {
    pub(crate) leaves: Vec<Leaf>,
    /// They are what a scrubber found.
    pub(crate) observed: bool,
    /// Some are lost, or the block was appended to: none are taken any more, and the replica is finalised without.
    pub(crate) off: bool,
}

#[derive(Debug, Default)]
struct Lengths {
    received_bytes: u64,
    stored: Mark,
    acked: Mark,
    /// Ends of packets that were stored and are not acknowledged yet.
    pending: VecDeque<(i64, Mark)>,
    /// Until so much is acknowledged, more than it has may have been, before this writer came.
    unsure_below_bytes: u64,
    leaves: OpenLeaves,
    /// Bytes of it that its volume counts as used.
    counted_bytes: u64,
}

type Stopper = Box<dyn Fn() + Send + Sync>;

/// An open replica of this run of the node, or one that was found at its start and read since.
pub struct OpenReplica {
    restarted: bool,
    /// A copy of a replica elsewhere that is being made, or that broke off: it may lack what was acknowledged.
    unfinished_copy: AtomicBool,
    /// What came again for a copy was something else: it is no beginning of the block.
    differs: AtomicBool,
    gate: Mutex<()>,
    stopped: AtomicBool,
    /// Stopped because the replica is removed: what its writer is told.
    removed: AtomicBool,
    stopper: Mutex<Option<Stopper>>,
    lengths: Mutex<Lengths>,
}

impl std::fmt::Debug for OpenReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenReplica").field("restarted", &self.restarted).field("lengths", &self.lengths()).finish()
    }
}

impl OpenReplica {
    /// A replica of which `stored` is on the disk and `acked` was acknowledged.
    pub(crate) fn new(stored: Mark, acked: Mark, leaves: OpenLeaves) -> Arc<Self> {
        let received_bytes = stored.len_bytes;
        Arc::new(Self {
            restarted: false,
            unfinished_copy: AtomicBool::new(false),
            differs: AtomicBool::new(false),
            gate: Mutex::new(()),
            stopped: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            stopper: Mutex::new(None),
            lengths: Mutex::new(Lengths { received_bytes, stored, acked, leaves, ..Lengths::default() }),
        })
    }
    /// One that an earlier run of the node left, read and found good up to `stored`: nobody knows what was acknowledged.
    pub(crate) fn found(stored: Mark) -> Arc<Self> {
        let leaves = OpenLeaves { off: true, ..OpenLeaves::default() };
        let lengths = Lengths { received_bytes: stored.len_bytes, stored, leaves, ..Lengths::default() };
        Arc::new(Self {
            restarted: true,
            unfinished_copy: AtomicBool::new(false),
            differs: AtomicBool::new(false),
            gate: Mutex::new(()),
            stopped: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            stopper: Mutex::new(None),
            lengths: Mutex::new(lengths),
        })
    }
    /// Was it left by an earlier run of the node?
    pub(crate) const fn restarted(&self) -> bool {
        self.restarted
    }
    /// Says whether it is a copy that is not whole yet.
    pub(crate) fn set_unfinished_copy(&self, unfinished: bool) {
        self.unfinished_copy.store(unfinished, Ordering::SeqCst);
    }
    /// It may lack what was acknowledged, until so much is acknowledged with it.
    pub(crate) fn set_unsure_below(&self, unsure_below_bytes: u64) {
        self.lengths.lock().unsure_below_bytes = unsure_below_bytes;
    }
    /// Notes that it is no beginning of what a copy of its block is to be.
    pub(crate) fn set_differs(&self) {
        self.differs.store(true, Ordering::SeqCst);
    }
    /// Is it known to be no beginning of its block?
    pub(crate) fn differs(&self) -> bool {
        self.differs.load(Ordering::SeqCst)
    }
    /// May it lack what was acknowledged? Left by an earlier run of the node, or a copy that broke off, or one of them with
    /// which a writer goes on that has not sent everything again: none speaks for the pipeline that its node is of.
    pub(crate) fn may_lack(&self) -> bool {
        let unfinished = self.unfinished_copy.load(Ordering::SeqCst) && !base::mutated!(Sc27UnfinishedCopySpeaks);
        self.restarted || unfinished || self.is_unsure()
    }
    fn is_unsure(&self) -> bool {
        let lengths = self.lengths.lock();
        lengths.acked.len_bytes < lengths.unsure_below_bytes
    }
    /// How far it is.
    #[must_use]
    pub fn lengths(&self) -> OpenLengths {
        let lengths = self.lengths.lock();
        OpenLengths {
            received_bytes: lengths.received_bytes,
            stored_bytes: lengths.stored.len_bytes,
            acked_bytes: lengths.acked.len_bytes,
        }
    }
    pub(crate) fn acked(&self) -> Mark {
        self.lengths.lock().acked
    }
    pub(crate) fn stored(&self) -> Mark {
        self.lengths.lock().stored
    }
    pub(crate) fn leaves(&self) -> OpenLeaves {
        self.lengths.lock().leaves.clone()
    }
    pub(crate) fn with_leaves<T>(&self, change: impl FnOnce(&mut OpenLeaves) -> T) -> T {
        change(&mut self.lengths.lock().leaves)
    }
    /// Leaves of the segments that end within the first `len_bytes`, if all of them are known.
    pub(crate) fn whole_leaves(&self, len_bytes: u64) -> (Vec<Leaf>, bool) {
        let lengths = self.lengths.lock();
        let whole = usize::try_from(len_bytes / digest::SEGMENT_BYTES).unwrap_or(usize::MAX);
        match lengths.leaves.leaves.get(..whole).filter(|_| !lengths.leaves.off) {
            Some(leaves) => (leaves.to_vec(), lengths.leaves.observed),
            None => (Vec::new(), false),
        }
    }

    /// Counts it as so many bytes on its volume; what it was counted as before.
    pub(crate) fn recount(&self, now_bytes: u64) -> u64 {
        std::mem::replace(&mut self.lengths.lock().counted_bytes, now_bytes)
    }
    /// Notes that everything up to this byte was received and is what its sender made.
    pub fn note_received(&self, end_bytes: u64) {
        let mut lengths = self.lengths.lock();
        lengths.received_bytes = lengths.received_bytes.max(end_bytes);
    }
    pub(crate) fn note_stored(&self, stored: Mark) {
        self.lengths.lock().stored = stored;
    }
    /// Notes where a packet ends that is stored, so that its ack moves the mark.
    pub(crate) fn note_pending(&self, seqno: i64, end: Mark) {
        let pending = &mut self.lengths.lock().pending;
        if pending.len() < MAX_PENDING {
            pending.push_back((seqno, end));
        }
    }
    /// Notes that this node and all behind it acknowledge the packets up to this one. To be said before the ack leaves, so
    /// that nobody who heard of the ack is told less.
    pub fn acknowledged(&self, seqno: i64) {
        let mut lengths = self.lengths.lock();
        while lengths.pending.front().is_some_and(|(pending, _)| *pending <= seqno) {
            if let Some((_, end)) = lengths.pending.pop_front()
                && end.len_bytes > lengths.acked.len_bytes
            {
                lengths.acked = end;
            }
        }
    }

    /// What ends the connection of the writer when it is stopped: it may wait for packets for long.
    pub fn on_stop(&self, stopper: impl Fn() + Send + Sync + 'static) {
        // Stored first, under the lock that whoever stops takes after it has said so: one of the two sees the other.
        let mut slot = self.stopper.lock();
        let stopper = slot.insert(Box::new(stopper));
        if self.stopped.load(Ordering::SeqCst) {
            stopper();
        }
    }
    /// Lets the writer change files; not any more once somebody has taken the replica over.
    pub(crate) fn enter(&self, id: BlockId) -> Result<MutexGuard<'_, ()>, StoreError> {
        let gate = self.gate.lock();
        self.check_goes_on(id)?;
        Ok(gate)
    }
    /// Refuses a writer that was stopped. Waits for nobody.
    pub(crate) fn check_goes_on(&self, id: BlockId) -> Result<(), StoreError> {
        if !self.stopped.load(Ordering::SeqCst) || base::mutated!(Sc35StoppedWriterGoesOn) {
            return Ok(());
        }
        let removed = self.removed.load(Ordering::SeqCst);
        Err(if removed { StoreError::Removed(id) } else { StoreError::Superseded(id) })
    }
    /// As [`OpenReplica::enter`] for somebody who can let it be; `None` also while another one is inside.
    pub(crate) fn try_enter(&self) -> Option<MutexGuard<'_, ()>> {
        let gate = self.gate.try_lock()?;
        (!self.stopped.load(Ordering::SeqCst)).then_some(gate)
    }
    /// Ends its writer for good, and waits until it is out of its last disk call. While the guard is held, nobody else
    /// changes the replica's files.
    pub(crate) fn stop(&self, id: BlockId) -> Result<MutexGuard<'_, ()>, StoreError> {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(stopper) = self.stopper.lock().as_ref() {
            stopper();
        }
        self.gate.try_lock_for(STOP_BOUND).ok_or(StoreError::Busy(id))
    }
    /// As [`OpenReplica::stop`], because the replica is removed.
    pub(crate) fn stop_removed(&self, id: BlockId) -> Result<MutexGuard<'_, ()>, StoreError> {
        let held = self.stop(id)?;
        // Inside the gate: a writer that is refused from now on hears why.
        self.removed.store(true, Ordering::SeqCst);
        Ok(held)
    }
    #[cfg(test)]
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// What a recovery has found of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundReplica {
    /// State before the recovery.
    pub state: super::ReplicaState,
    /// Its stamp.
    pub stamp: GenerationStamp,
    /// Bytes received and checked.
    pub len_bytes: u64,
    /// Bytes acknowledged by this node and all behind it.
    pub acked_bytes: u64,
    /// It may lack what was acknowledged: left by an earlier run of the node, or a copy that broke off, and nobody has made
    /// up for that since.
    pub restarted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(len_bytes: u64) -> Mark {
        Mark { len_bytes, tail: None }
    }

    #[test]
    fn sc_41_the_mark_follows_the_numbers_of_acks_and_never_goes_back() {
        let open = OpenReplica::new(mark(0), mark(0), OpenLeaves::default());
        for (seqno, end) in [(4, 512), (5, 1024), (6, 700), (7, 2048)] {
            open.note_pending(seqno, mark(end));
        }
        open.acknowledged(3);
        assert_eq!(open.lengths().acked_bytes, 0, "an ack of an earlier packet says nothing of these");
        open.acknowledged(6);
        assert_eq!(open.lengths().acked_bytes, 1024, "a packet sent again takes nothing back");
        open.acknowledged(6);
        open.acknowledged(7);
        assert_eq!(open.lengths().acked_bytes, 2048);
    }

    #[test]
    fn sc_35_who_is_stopped_enters_no_more_and_who_stops_waits_for_who_is_inside() {
        let open = OpenReplica::new(mark(0), mark(0), OpenLeaves::default());
        let told = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&told);
        open.on_stop(move || tell.store(true, Ordering::SeqCst));
        let inside = open.enter(BlockId::FIRST).unwrap();
        assert!(open.try_enter().is_none());
        let other = Arc::clone(&open);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let stopping = base::task::thread("stopper", move || {
            let held = other.stop(BlockId::FIRST).map(drop);
            sender.send(held.is_ok()).unwrap();
        })
        .unwrap();
        while !told.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert!(receiver.try_recv().is_err(), "it waits");
        drop(inside);
        assert!(receiver.recv().unwrap());
        stopping.join().unwrap();
        assert!(matches!(open.enter(BlockId::FIRST), Err(StoreError::Superseded(_))));
        assert!(open.try_enter().is_none() && open.is_stopped());
        // A connection that is set up only now is told at once.
        let late = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&late);
        open.on_stop(move || tell.store(true, Ordering::SeqCst));
        assert!(late.load(Ordering::SeqCst));
    }
}
