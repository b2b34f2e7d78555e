//! A range of a borrowed replica as packets, as a datanode would send them: the machine that reads replicas verifies them
//! and knows no difference.
//!
//! What is in the page cache is read on the caller's thread: at most 256 KiB at a time.
//! What is not waits on a thread for it, and only so many do at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::common::Block;
use tokio::sync::Semaphore;
use transfer::{ChunkFormat, Packet, PacketHead};

use super::Counters;
use super::door::Loan;
use super::pool::{BUFFER_BYTES, Buffer, Pool};
use crate::read::replica::Range;

/// What all local reads of a client share.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) pool: Pool,
    /// Reads that may wait for a disk.
    pub(super) waiting: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
}

/// A range of a borrowed replica.
#[derive(Debug)]
pub(crate) struct LocalReplica {
    means: Arc<Means>,
    loan: Arc<Loan>,
    block: Block,
    token: Bytes,
    start_bytes: u64,
    at_bytes: u64,
    /// End of the last chunk that is wanted.
    end_bytes: u64,
    seqno: i64,
}

impl LocalReplica {
    /// `end_bytes` is within the loan.
    pub(super) fn new(means: Arc<Means>, loan: Arc<Loan>, range: &Range, end_bytes: u64) -> Self {
        let chunk_bytes = loan.terms.chunks.chunk_bytes();
        let start_bytes = range.offset_bytes - range.offset_bytes % chunk_bytes;
        let end_bytes = end_bytes.div_ceil(chunk_bytes).saturating_mul(chunk_bytes).min(loan.terms.len_bytes);
        let (block, token) = (range.block.clone(), range.token.clone());
        Self { means, loan, block, token, start_bytes, at_bytes: start_bytes, end_bytes, seqno: 0 }
    }
    pub(super) fn chunks(&self) -> ChunkFormat {
        self.loan.terms.chunks
    }
    pub(super) const fn start_bytes(&self) -> u64 {
        self.start_bytes
    }
    pub(super) const fn loan(&self) -> &Arc<Loan> {
        &self.loan
    }
    /// What the loan was asked for with.
    pub(super) const fn asked(&self) -> (&Block, &Bytes) {
        (&self.block, &self.token)
    }

    /// The next packet.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(in crate::read) async fn next_packet(&mut self) -> Result<Packet, String> {
        // A reader of much that is cached never waits: others get their turn here.
        tokio::task::coop::consume_budget().await;
        if self.loan.is_over() {
            return Err("the node called the replica back".to_owned());
        }
        if self.at_bytes >= self.end_bytes {
            return Ok(Packet::last(self.seqno, self.at_bytes, false));
        }
        let chunk_bytes = self.chunks().chunk_bytes();
        // Whole chunks. One that is longer than a buffer comes alone, in memory of its own.
        let most_bytes = (BUFFER_BYTES as u64 / chunk_bytes).max(1) * chunk_bytes;
        let part = Part { start_bytes: self.at_bytes, len_bytes: most_bytes.min(self.end_bytes - self.at_bytes) };
        let (data, checksums) = self.read(part).await?;
        let head = PacketHead { offset_bytes: part.start_bytes, seqno: self.seqno, last: false, sync: false };
        self.at_bytes += part.len_bytes;
        self.seqno += 1;
        self.means.counters.read_bytes.fetch_add(part.len_bytes, Ordering::Relaxed);
        Ok(Packet { head, leaves: Bytes::new(), checksums, data })
    }

    async fn read(&self, part: Part) -> Result<(Bytes, Bytes), String> {
        let mut target = Target::new(&self.means.pool, &self.loan, part);
        if target.fill(&self.loan, part, true).map_err(|error| error.to_string())? {
            return Ok(target.freeze());
        }
        let turn = Arc::clone(&self.means.waiting).acquire_owned().await.map_err(|error| error.to_string())?;
        let loan = Arc::clone(&self.loan);
        let read = base::task::blocking(move || {
            let read = target.fill(&loan, part, false).map(|_| target);
            // Kept by a thread that hangs, whoever waits for it.
            drop(turn);
            read
        });
        let read = read.await;
        let target = read.and_then(|read| read).map_err(|error| error.to_string())?;
        Ok(target.freeze())
    }
}

/// Whole chunks of a replica.
#[derive(Clone, Copy, Debug)]
struct Part {
    start_bytes: u64,
    len_bytes: u64,
}

/// Where a part is read to.
struct Target {
    data: Data,
    checksums: Vec<u8>,
}

enum Data {
    Pooled(Buffer),
    Own(Vec<u8>),
}

impl Target {
    fn new(pool: &Pool, loan: &Loan, part: Part) -> Self {
        let sums_bytes = loan.terms.chunks.checksums_bytes(part.len_bytes) as usize;
        // At most a chunk, that is a megabyte.
        let len = part.len_bytes as usize;
        let small = len <= BUFFER_BYTES / 8;
        let data = if small || len > BUFFER_BYTES { Data::Own(vec![0; len]) } else { Data::Pooled(pool.take()) };
        Self { data, checksums: vec![0; sums_bytes] }
    }
    /// Reads data and checksums; if `at_once`, only what takes no wait. False: it would.
    fn fill(&mut self, loan: &Loan, part: Part, at_once: bool) -> std::io::Result<bool> {
        let terms = &loan.terms;
        let data_at = terms.data_offset_bytes + part.start_bytes;
        let sums_at = terms.checksums_offset_bytes + terms.chunks.checksums_bytes(part.start_bytes);
        let room = match &mut self.data {
            Data::Pooled(buffer) => buffer.room(part.len_bytes as usize),
            Data::Own(bytes) => bytes.as_mut_slice(),
        };
        if at_once {
            return Ok(loan.data.read_now(room, data_at)? && loan.checksums.read_now(&mut self.checksums, sums_at)?);
        }
        loan.data.read_exact(room, data_at)?;
        loan.checksums.read_exact(&mut self.checksums, sums_at)?;
        Ok(true)
    }
    fn freeze(self) -> (Bytes, Bytes) {
        let data = match self.data {
            Data::Pooled(buffer) => buffer.freeze(),
            Data::Own(bytes) => Bytes::from(bytes),
        };
        (data, Bytes::from(self.checksums))
    }
}
