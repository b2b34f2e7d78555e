//! Replicas on this machine: their nodes lend descriptors, and they are read without a socket in between.
//!
//! ```text
//!   Lenders ── doors.rs ── door.rs: a Unix socket to each node of this machine, or a few; what is called back comes in there
//!     │           │ Arc<Loan>
//!     ├── cache.rs     loans by block and stamp, shared by all readers; the least used one goes
//!     ├── source.rs    a range of a loan as packets, for the machine that reads every replica
//!     └── read_cached  a small range that is in the page cache: verified at once, nothing waits
//! ```
//!
//! Every chunk that is touched is verified against the checksum in the other descriptor. Whatever does not go well here
//! is no error: the replica is then read over the network. Only a wrong checksum says something about the replica, and
//! even that only if the node says that the loan still holds ([`Doubt`]).
//!
//! What is called back is not read any more once the message was taken in. Nothing wrong could be read before either: a
//! whole replica of a block and a stamp never changes its bytes, and what an append would change, the checksum of the
//! last chunk, is noticed and no harm (see [`Doubt`]). A connection that ends takes all its loans with it.

mod cache;
mod door;
mod doors;
mod pool;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proto::common::{Block, LocatedBlock, StorageLocation};
use proto::transfer::BlockOpResponse;
use tokio::sync::Semaphore;
use transfer::local::ACCESS_VERSION;
use transfer::{BlockRef, BorrowSetup, ChecksumKind, Status, reply};

use cache::Cache;
use door::Loan;
use doors::Doors;

use pool::Pool;

use super::replica::Range;

pub(super) use source::LocalReplica;

/// Longest range that is read at once, on the caller's thread.
const AT_ONCE_BYTES: u64 = 64 * 1024;
/// Longest checksums of such a range: its chunks of 512 bytes, and two more at its ends.
const AT_ONCE_SUMS_BYTES: usize = (AT_ONCE_BYTES as usize / 512 + 2) * 4;
/// Longest wait for a node's word on a loan that is in doubt.
const DOUBT: Duration = Duration::from_secs(5);
/// Reads that wait for a disk at a time: threads, if a disk hangs.
const WAITING_READS: usize = 16;

/// Whether replicas on this machine are read through borrowed descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalReads {
    /// Where a node of this machine lends them.
    #[default]
    Auto,
    /// Never: everything goes over the network.
    Off,
}

/// What was read through borrowed descriptors so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalFigures {
    /// Replicas that were lent.
    pub borrowed: u64,
    /// Loans that were called back.
    pub revoked: u64,
    /// Requests for a loan that came to nothing; the network was used.
    pub refused: u64,
    /// Verified data bytes read, whole chunks counted.
    pub read_bytes: u64,
}

/// Counters behind [`LocalFigures`].
#[derive(Debug, Default)]
struct Counters {
    borrowed: AtomicU64,
    revoked: AtomicU64,
    refused: AtomicU64,
    read_bytes: AtomicU64,
}

impl Counters {
    fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// The nodes of this machine, as a client and all its readers see them.
#[derive(Debug)]
pub(crate) struct Lenders {
    /// What the machine calls itself; empty: nothing is borrowed.
    machine: String,
    doors: Doors,
    cache: Arc<Cache>,
    counters: Arc<Counters>,
    shared: Arc<source::Means>,
}

impl Lenders {
    pub(crate) fn new(setting: LocalReads) -> Self {
        let machine = if setting == LocalReads::Auto { base::process::machine() } else { String::new() };
        let counters = Arc::new(Counters::default());
        let waiting = Arc::new(Semaphore::new(WAITING_READS));
        let shared = Arc::new(source::Means { pool: Pool::new(), waiting, counters: Arc::clone(&counters) });
        let (doors, cache) = (Doors::new(), Arc::<Cache>::default());
        Self { machine, doors, cache, counters, shared }
    }

    /// What namenodes are told, so that they name the doors of this machine.
    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    pub(crate) fn figures(&self) -> LocalFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LocalFigures {
            borrowed: read(&self.counters.borrowed),
            revoked: read(&self.counters.revoked),
            refused: read(&self.counters.refused),
            read_bytes: read(&self.counters.read_bytes),
        }
    }

    /// Reads a small range of a block whose descriptors are here and whose bytes are in the page cache. `None`: they are
    /// not, or something is wrong; the ordinary way finds out what.
    pub(super) fn read_cached(&self, located: &LocatedBlock, offset_bytes: u64, len_bytes: u64) -> Option<Bytes> {
        if len_bytes == 0 || len_bytes > AT_ONCE_BYTES || self.machine.is_empty() {
            return None;
        }
        let block = located.block.as_ref()?;
        let loan = self.cache.get(block)?;
        let terms = &loan.terms;
        let chunk_bytes = terms.chunks.chunk_bytes();
        let wanted_end = offset_bytes.checked_add(len_bytes).filter(|end| *end <= terms.len_bytes)?;
        let start = offset_bytes - offset_bytes % chunk_bytes;
        let end = wanted_end.next_multiple_of(chunk_bytes).min(terms.len_bytes);
        let sums_bytes = usize::try_from(terms.chunks.checksums_bytes(end - start)).ok()?;
        let mut room = [0; AT_ONCE_SUMS_BYTES];
        let sums = room.get_mut(..sums_bytes)?;
        let mut data = vec![0; usize::try_from(end - start).ok()?];
        let sums_at = terms.checksums_offset_bytes + terms.chunks.checksums_bytes(start);
        let here = loan.data.read_now(&mut data, terms.data_offset_bytes + start).unwrap_or(false)
            && loan.checksums.read_now(sums, sums_at).unwrap_or(false);
        if !here {
            return None;
        }
        if terms.chunks.verify(&data, sums).is_err() {
            // Read again as any replica is, and reported from there.
            self.cache.forget(&loan);
            return None;
        }
        self.counters.read_bytes.fetch_add(end - start, Ordering::Relaxed);
        let from = usize::try_from(offset_bytes - start).ok()?;
        Some(Bytes::from(data).slice(from..from + usize::try_from(len_bytes).ok()?))
    }

    /// A replica through descriptors, with the answer that a request over the network would have got. `None`: not here.
    pub(super) async fn open(
        &self,
        location: &StorageLocation,
        range: &Range,
        (now, within): (Moment, Duration),
    ) -> Option<(LocalReplica, BlockOpResponse)> {
        if self.machine.is_empty() || location.local_socket.is_empty() {
            return None;
        }
        let end_bytes = range.offset_bytes.checked_add(range.len_bytes)?;
        let here = self.cache.get(&range.block).filter(|loan| loan.terms.node.as_str() == location.node);
        let loan = match here {
            Some(loan) => loan,
            None => self.borrow(location, range, (now, within)).await?,
        };
        if loan.terms.len_bytes < end_bytes {
            return None;
        }
        let replica = LocalReplica::new(Arc::clone(&self.shared), loan, range, end_bytes);
        let answer = reply::reading(replica.chunks(), replica.start_bytes());
        Some((replica, answer))
    }

    async fn borrow(
        &self,
        location: &StorageLocation,
        range: &Range,
        (now, within): (Moment, Duration),
    ) -> Option<Arc<Loan>> {
        let path = &location.local_socket;
        let door = self.doors.at(path, (now, within), (&self.counters, &self.cache)).await?;
        let refused = |why: Refused| {
            self.counters.refuse();
            tracing::debug!(path, %why, "nothing is lent");
            match why {
                Refused::Door(_) => self.doors.shut(path, now),
                Refused::Lane(_) => self.doors.turned_away(path, now, &door),
                Refused::Block(_) => {}
            }
        };
        let asked = tokio::time::timeout(within, door.shared().borrow(&range.block, &range.token, now));
        let loan = match asked.await {
            Ok(Ok(loan)) => loan,
            Ok(Err(Refused::Block(why))) if door.is_over() && !door.has_answered() => {
                // It takes no more readers than it has.
                refused(Refused::Lane(why));
                return None;
            }
            Ok(Err(why)) => {
                refused(why);
                return None;
            }
            Err(elapsed) => {
                // Perhaps its disk hangs. What other disks have lent is none the worse, and others take another connection.
                refused(Refused::Block(format!("no answer ({elapsed})")));
                return None;
            }
        };
        if loan.terms.node.as_str() != location.node {
            // Two nodes that see different file systems gave the same path: this one is not the one that is meant.
            refused(Refused::Door(format!("{} answers there", loan.terms.node)));
            return None;
        }
        if loan.terms.chunks.kind() == ChecksumKind::Null || loan.terms.stamp.raw() < range.block.stamp {
            refused(Refused::Block("what is lent cannot be verified".to_owned()));
            return None;
        }
        self.counters.borrowed.fetch_add(1, Ordering::Relaxed);
        self.cache.put(&range.block, &loan);
        Some(loan)
    }

    /// A loan could not be read, for whatever reason. It is not used again.
    pub(super) fn forget(&self, replica: &LocalReplica) {
        self.cache.forget(replica.loan());
    }

    /// A chunk of a loan does not match its checksum. The loan is not used again.
    pub(super) fn doubt(&self, replica: &LocalReplica) -> Doubt {
        let loan = replica.loan();
        self.cache.forget(loan);
        let (block, token) = replica.asked();
        Doubt { loan: Arc::clone(loan), block: block.clone(), token: token.clone() }
    }
}

/// A wrong checksum in a replica that was lent. It proves damage only if the loan still held when it was seen: an append
/// rewrites the checksum of the last chunk, and calls the loan back first.
pub(super) struct Doubt {
    loan: Arc<Loan>,
    block: Block,
    token: Bytes,
}

impl Doubt {
    /// Asks the node once more: what it called back before it answers has come by then.
    pub(super) async fn confirmed(self, now: Moment) -> bool {
        let Some(door) = self.loan.door() else { return false };
        let asked = tokio::time::timeout(DOUBT, door.borrow(&self.block, &self.token, now)).await;
        let answered = matches!(asked, Ok(Ok(_)));
        answered && !self.loan.is_over()
    }
}

/// Why nothing was lent.
#[derive(Clone, Debug, thiserror::Error)]
enum Refused {
    /// This door lends nothing to this client, whatever it asks for.
    #[error("{0}")]
    Door(String),
    /// This connection to it is over.
    #[error("{0}")]
    Lane(String),
    /// Not this block, or not now.
    #[error("{0}")]
    Block(String),
}

fn setup(block: &Block, token: &Bytes, returned: Vec<u64>) -> Result<Vec<u8>, String> {
    let setup = BorrowSetup {
        block: BlockRef::from_common(block).map_err(|error| error.to_string())?,
        token: token.clone(),
        max_version: ACCESS_VERSION,
        revocations: true,
        returned,
    };
    Ok(setup.to_op().map_err(|error| error.to_string())?.encode())
}

fn refusal(answer: &BlockOpResponse) -> Refused {
    let status = reply::status_of(answer);
    let why = format!("{} {}", status.as_str_name(), answer.message());
    match status {
        Status::ErrorUnsupported => Refused::Door(why),
        _ => Refused::Block(why),
    }
}
