//! The data plane that client and datanode share: Hadoop's DataTransferProtocol, version 28, with our
//! extensions in fields numbered from 1000. Sans-I/O: bytes in, messages out; sockets belong to the shells.
//!
//! ```text
//!   client ──op──▶ node 1 ──op──▶ node 2 ──op──▶ node 3      op.rs      version, opcode, delimited request
//!          ◀─reply──     ◀─reply──      ◀─reply──            reply.rs   delimited answer to the set-up
//!          ══packets═▶   ══packets═▶    ══packets═▶          packet.rs  lengths, header, chunk checksums, data
//!          ◀──acks────   ◀──acks────    ◀──acks────          ack.rs     a reply per node, receipts in the last
//! ```
//!
//! On a datanode's local socket descriptors are lent instead of packets sent: see [`local`]. Packets carry the leaves of
//! the block's [`digest`]; a replica can be read whole by its own node: see [`verify`]. While a block is written, its nodes
//! say how far they are ([`progress`]), and one brings another up to date ([`catch_up`]).
//!
//! Every decoder here refuses rather than panics, and grows its buffers with the bytes that arrive, never by
//! a length that somebody claims. Read [`op`] first, then [`packet`].

#![deny(clippy::indexing_slicing)]

pub mod ack;
pub mod catch_up;
pub mod chunks;
pub mod digest;
mod frame;
pub mod local;
pub mod op;
pub mod packet;
pub mod progress;
pub mod reply;
pub mod verify;

pub use ack::Ack;
pub use catch_up::TransferSetup;
pub use chunks::{ChecksumKind, ChunkFormat, ChunkMismatch};
pub use digest::BlockDigest;
pub use frame::{MAX_MESSAGE_BYTES, WireError, decode_delimited, encode_delimited, read_delimited};
pub use local::{BorrowSetup, LocalLoan};
pub use op::{BlockRef, Op, ReadSetup, Target, WriteSetup, WriteStage};
pub use packet::{Packet, PacketBuffer, PacketHead, PacketView};
pub use progress::{Progress, ReplicaStateSetup};
pub use proto::transfer::Status;
pub use verify::{Verified, VerifySetup};

/// Version of the DataTransferProtocol that every operation starts with.
pub const DATA_TRANSFER_VERSION: u16 = 28;

/// Data bytes of a packet of ours, at most: large enough that system calls cost little, small enough that
/// checksum and send find the bytes in the second-level cache.
pub const PACKET_DATA_BYTES: usize = 256 * 1024;
