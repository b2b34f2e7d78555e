//! The framed carrier: the client's service as length-delimited frames over one connection. Pure bytes, no I/O.
//!
//! ```text
//!   client                                                    server
//!     preamble  "byk1" version ─────────────────────────────▶
//!     request   call 1, method 10, StatRequest ─────────────▶
//!     request   call 2, method 3, CreateRequest ────────────▶   calls overlap; answers come as they are ready
//!            ◀───────────────────────────── preamble "byk1" version
//!            ◀───────────────────────────── answer   call 2, CreateResponse
//!            ◀───────────────────────────── refusal  call 1, ErrorDetail
//!     cancel    call 3 ─────────────────────────────────────▶   nobody waits for it any more
//!            ◀───────────────────────────── going away: last call taken, ErrorDetail says why
//!
//!   frame     CRC │ length │ call │ kind │ method │ message           24 bytes before the message
//! ```
//!
//! Neither side waits for the other's preamble: the first request travels with it. The bytes are described in
//! docs/formats/framed.md; methods and their numbers are those of [`crate::methods`].

mod decode;
#[cfg(test)]
mod tests;

use prost::Message;

pub use decode::{Decoder, Frame};

/// First bytes of a connection of this carrier.
pub const MAGIC: [u8; 4] = *b"byk1";
/// Version of the framing.
pub const VERSION: u32 = 1;
/// Bytes of a preamble: magic and version.
pub const PREAMBLE_BYTES: usize = 8;
/// Bytes of a frame before its message.
pub const HEAD_BYTES: usize = 24;
/// Longest message of a client: paths are at most 8,000 bytes.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Longest message of a server: a page of a listing, or the blocks of a very large file.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Calls that a client may have under way on one connection; beyond them a server stops reading.
pub const MAX_CALLS: usize = 1024;

/// Who reads: each side sends other kinds of frames, up to other lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reads requests and cancellations.
    Server,
    /// Reads answers, refusals and farewells.
    Client,
}

impl Side {
    /// Longest message that this side reads.
    #[must_use]
    pub const fn limit_bytes(self) -> usize {
        match self {
            Self::Server => MAX_REQUEST_BYTES,
            Self::Client => MAX_ANSWER_BYTES,
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A call: the method's request.
    Request = 1,
    /// The method's response.
    Answer = 2,
    /// An `ErrorDetail` in place of a response.
    Refusal = 3,
    /// Nobody waits for the answer to this call any more. It may take effect all the same.
    Cancel = 4,
    /// The server takes no further calls on this connection; `call` is the last one that it took, and an
    /// `ErrorDetail` says why. Calls above it were not looked at.
    GoingAway = 5,
}

impl Kind {
    /// The kind of a number, if this side may be sent it.
    const fn read_by(side: Side, number: u32) -> Option<Self> {
        match (side, number) {
            (Side::Server, 1) => Some(Self::Request),
            (Side::Server, 4) => Some(Self::Cancel),
            (Side::Client, 2) => Some(Self::Answer),
            (Side::Client, 3) => Some(Self::Refusal),
            (Side::Client, 5) => Some(Self::GoingAway),
            _ => None,
        }
    }
}

/// What stands before the message of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the call: chosen by the client, above all before it on this connection, never 0. In a farewell the
    /// last call that was taken, 0 if there was none.
    pub call: u64,
    /// What the frame is.
    pub kind: Kind,
    /// Number of the method; 0 where there is none.
    pub method: u32,
}

/// Why a stream of bytes cannot be read on. The connection ends: what follows cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The first bytes are of another protocol.
    #[error("the first bytes are {0:02x?}, not those of Blockyard's protocol")]
    Stranger([u8; 4]),
    /// Another version of the framing.
    #[error("the peer speaks version {0} of the framing, this program speaks {VERSION}")]
    Version(u32),
    /// A length beyond the limit.
    #[error("a message of {len_bytes} bytes is too long: the limit is {limit_bytes}")]
    TooLong {
        /// What the frame claims.
        len_bytes: u64,
        /// What may be sent.
        limit_bytes: usize,
    },
    /// The checksum is wrong.
    #[error("a frame fails its checksum")]
    Checksum,
    /// A kind that is unknown, or that the other side has no business sending.
    #[error("a frame of kind {0} is not expected here")]
    Kind(u32),
}

/// What either side sends first.
#[must_use]
pub fn preamble() -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// Appends a frame. Nothing is appended if the message is longer than the receiver takes.
///
/// # Errors
/// [`Broken::TooLong`].
pub fn put<M: Message>(out: &mut Vec<u8>, head: Head, message: &M) -> Result<(), Broken> {
    let limit_bytes = match head.kind {
        Kind::Request | Kind::Cancel => MAX_REQUEST_BYTES,
        Kind::Answer | Kind::Refusal | Kind::GoingAway => MAX_ANSWER_BYTES,
    };
    let len_bytes = message.encoded_len();
    let too_long = || Broken::TooLong { len_bytes: len_bytes as u64, limit_bytes };
    let len = u32::try_from(len_bytes).ok().filter(|_| len_bytes <= limit_bytes).ok_or_else(too_long)?;
    let begin = out.len();
    out.reserve(HEAD_BYTES + len_bytes);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&head.call.to_le_bytes());
    out.extend_from_slice(&(head.kind as u32).to_le_bytes());
    out.extend_from_slice(&head.method.to_le_bytes());
    if message.encode(out).is_err() {
        // A vector has room for everything.
        out.truncate(begin);
        return Err(too_long());
    }
    let crc = crc_fast::crc32_iscsi(&out[begin + 4..]);
    out[begin..begin + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Appends a frame without a message.
pub fn put_bare(out: &mut Vec<u8>, head: Head) {
    let put = put(out, head, &());
    debug_assert!(put.is_ok(), "an empty message is never too long");
}
