//! Serving a read: a replica's range as packets.
//!
//! ```text
//!   offset rounded down to a chunk ── packets of 256 KiB: head, checksums as stored, data ── end rounded up
//!   then one empty packet marked last
//! ```
//!
//! Data leave by sendfile where there is a descriptor, in calls of a packet each; short reads and the simulation copy. The
//! node does not verify what it serves: it sends the checksums as they were stored, and the reader compares.

use bytes::Bytes;
use proto::transfer::BlockOpResponse;
use transfer::digest::{self, Leaf, LeafQueue};
use transfer::{ChecksumKind, ChunkFormat, PACKET_DATA_BYTES, Packet, PacketHead, reply};

use crate::store::{ReplicaReader, StoreError};

/// Longest read that is short: one packet, answered with one send, of a replica whose files may be open already. A long
/// one is worth its own files.
pub const SHORT_BYTES: u64 = 32 * 1024;

/// One packet to be sent: bytes, then a range of the data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadStep {
    /// What the packet says of itself.
    pub head: PacketHead,
    /// Leaves of the digest that travel with it; only copies have any.
    pub leaves: Bytes,
    /// Its checksums.
    pub checksums: Vec<u8>,
    /// Start of its data in the replica.
    pub offset_bytes: u64,
    /// Length of its data.
    pub len_bytes: u64,
}

impl ReadStep {
    /// The packet's bytes before its data.
    #[must_use]
    pub fn prefix(&self) -> Vec<u8> {
        let mut prefix = self.head.encode_with(&self.leaves, self.checksums.len(), self.len_bytes as usize);
        prefix.extend_from_slice(&self.checksums);
        prefix
    }
}

/// A read under way.
#[derive(Debug)]
pub struct ReadSession {
    reader: ReplicaReader,
    at_bytes: u64,
    end_bytes: u64,
    start_bytes: u64,
    seqno: i64,
    /// Checksums that are sent, and the grid of chunks that the range is widened to.
    sent: ChunkFormat,
    ended: bool,
    /// Leaves that go out with the packets.
    leaves: Vec<Leaf>,
    sent_leaves: LeafQueue,
}

impl ReadSession {
    /// Reads `len_bytes` from `offset_bytes`, widened to whole chunks: stored ones, or those of
    /// [`ChunkFormat::BARE_512`] if no checksums are sent. Hadoop's client refuses an answer that begins a whole
    /// announced chunk or more before its offset.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`].
    pub fn new(
        reader: ReplicaReader,
        offset_bytes: u64,
        len_bytes: u64,
        send_checksums: bool,
    ) -> Result<Self, StoreError> {
        let replica_bytes = reader.len_bytes();
        let wanted_end = offset_bytes.checked_add(len_bytes).filter(|end| *end <= replica_bytes);
        let Some(wanted_end) = wanted_end else {
            return Err(StoreError::OutOfRange { id: reader.id(), offset_bytes, len_bytes, replica_bytes });
        };
        let sent = if send_checksums { reader.chunks() } else { ChunkFormat::BARE_512 };
        let chunk_bytes = sent.chunk_bytes();
        let start_bytes = offset_bytes - offset_bytes % chunk_bytes;
        let end_bytes = wanted_end.div_ceil(chunk_bytes).saturating_mul(chunk_bytes).min(replica_bytes);
        let (leaves, sent_leaves) = (Vec::new(), LeafQueue::default());
        let at_bytes = start_bytes;
        Ok(Self { reader, at_bytes, end_bytes, start_bytes, seqno: 0, sent, ended: false, leaves, sent_leaves })
    }
    /// Sends these leaves along, each with the packet that ends its segment: for whole replicas, to another node.
    #[must_use]
    pub fn with_leaves(mut self, leaves: Vec<Leaf>) -> Self {
        self.leaves = leaves;
        self
    }
    /// The answer that precedes the packets.
    #[must_use]
    pub fn reply(&self) -> BlockOpResponse {
        reply::reading(self.sent, self.start_bytes)
    }
    /// Is it worth no file and no call of its own? With the chunks at its ends it may be a little longer than that.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.end_bytes - self.start_bytes <= 2 * SHORT_BYTES
    }
    /// The replica.
    #[must_use]
    pub fn into_reader(self) -> ReplicaReader {
        self.reader
    }
    /// The replica.
    #[must_use]
    pub const fn reader(&self) -> &ReplicaReader {
        &self.reader
    }
    /// The next packet, without its data; `None` after the last one.
    ///
    /// # Errors
    /// The disk's; the connection is then to be closed.
    pub fn next_step(&mut self) -> Result<Option<ReadStep>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let chunk_bytes = self.sent.chunk_bytes();
        // Whole chunks in every packet but the last; a chunk is at most 1 MiB.
        let most_bytes = (PACKET_DATA_BYTES as u64 / chunk_bytes).max(1) * chunk_bytes;
        let len_bytes = (self.end_bytes - self.at_bytes).min(most_bytes);
        let last = len_bytes == 0;
        let mut checksums = Vec::new();
        if self.sent.kind() != ChecksumKind::Null && !last {
            self.reader.read_checksums(self.at_bytes, len_bytes, &mut checksums)?;
        }
        let head = PacketHead { offset_bytes: self.at_bytes, seqno: self.seqno, last, sync: false };
        let offset_bytes = self.at_bytes;
        self.at_bytes += len_bytes;
        let ended = if self.at_bytes == self.end_bytes { u64::MAX } else { self.at_bytes / digest::SEGMENT_BYTES };
        let leaves = self.sent_leaves.take(&self.leaves, ended);
        let step = ReadStep { head, leaves, checksums, offset_bytes, len_bytes };
        self.seqno += 1;
        self.ended = last;
        Ok(Some(step))
    }
    /// The next packet with its data copied; `None` after the last one.
    ///
    /// # Errors
    /// As [`ReadSession::next_step`].
    pub fn next_packet(&mut self) -> Result<Option<Packet>, StoreError> {
        let Some(step) = self.next_step()? else { return Ok(None) };
        let mut data = vec![0; step.len_bytes as usize];
        self.reader.read_data(step.offset_bytes, &mut data)?;
        let (checksums, data) = (Bytes::from(step.checksums), Bytes::from(data));
        Ok(Some(Packet { head: step.head, leaves: step.leaves, checksums, data }))
    }
}
