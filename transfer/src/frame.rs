//! Length-delimited protobuf messages: a varint length, then the message.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

/// Longest set-up request, reply or ack. A pipeline of dozens of nodes with tokens fits; nothing honest is longer.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Bytes of the longest varint of a length that is still within a `u32`.
const MAX_VARINT_BYTES: usize = 5;

/// Why bytes from a peer are not understood. The connection is useless after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The peer closed between two messages: the ordinary end.
    #[error("the peer closed the connection")]
    Closed,
    /// Another version of the protocol, or not this protocol at all.
    #[error("peer speaks data transfer version {found}, this side speaks {expected}: use the same release on both, or check that the port is a datanode's transfer port", expected = crate::DATA_TRANSFER_VERSION)]
    Version {
        /// What the first two bytes say.
        found: u16,
    },
    /// An operation that is not offered.
    #[error("operation {code} is not offered")]
    UnknownOp {
        /// Its code.
        code: u8,
    },
    /// A length beyond what is accepted.
    #[error("{what} claims {claimed} bytes, the limit is {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Claimed length in bytes.
        claimed: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// A message that breaks its format.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// How.
        why: String,
    },
    /// The connection failed, or ended inside a message (`UnexpectedEof`).
    #[error("read from the peer")]
    Io(#[from] io::Error),
}

impl WireError {
    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { what, why: why.into() }
    }
}

/// Encodes a message behind its length.
#[must_use]
pub fn encode_delimited(message: &impl Message) -> Vec<u8> {
    message.encode_length_delimited_to_vec()
}

/// Takes one message from the front of `bytes`; `None` if it is not whole yet, and then nothing is taken.
///
/// # Errors
/// [`WireError::TooLong`] above [`MAX_MESSAGE_BYTES`], [`WireError::Malformed`].
pub fn decode_delimited<M: Message + Default>(
    bytes: &mut BytesMut,
    what: &'static str,
) -> Result<Option<M>, WireError> {
    let Some((prefix, len)) = length_prefix(bytes, what)? else { return Ok(None) };
    if bytes.len() < prefix + len {
        return Ok(None);
    }
    bytes.advance(prefix);
    decode_body(bytes.split_to(len).freeze(), what).map(Some)
}

/// Reads one message from a blocking reader, byte by byte for the length so that nothing after it is taken.
///
/// # Errors
/// As [`decode_delimited`], [`WireError::Closed`] if the peer ends before the first byte, [`WireError::Io`].
pub fn read_delimited<M: Message + Default>(reader: &mut impl Read, what: &'static str) -> Result<M, WireError> {
    let mut prefix = BytesMut::with_capacity(MAX_VARINT_BYTES);
    let len = loop {
        let mut byte = [0];
        match reader.read_exact(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && prefix.is_empty() => {
                return Err(WireError::Closed);
            }
            other => other?,
        }
        prefix.extend_from_slice(&byte);
        if let Some((_, len)) = length_prefix(&prefix, what)? {
            break len;
        }
    };
    // Within MAX_MESSAGE_BYTES, which every connection may have.
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    decode_body(Bytes::from(body), what)
}

fn decode_body<M: Message + Default>(body: Bytes, what: &'static str) -> Result<M, WireError> {
    M::decode(body).map_err(|error| WireError::malformed(what, error.to_string()))
}

/// Bytes of the varint and the length that it says; `None` if it is not whole.
fn length_prefix(bytes: &[u8], what: &'static str) -> Result<Option<(usize, usize)>, WireError> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(MAX_VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let limit = MAX_MESSAGE_BYTES as u64;
            if value > limit {
                return Err(WireError::TooLong { what, claimed: value, limit });
            }
            return Ok(Some((i + 1, value as usize)));
        }
    }
    if bytes.len() < MAX_VARINT_BYTES {
        return Ok(None);
    }
    Err(WireError::malformed(what, "its length is not a varint of a 32-bit number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::transfer::BlockOpResponse;

    #[test]
    fn a_claim_of_two_gibibytes_is_refused_at_once() {
        let mut claim = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0x07][..]);
        let error = decode_delimited::<BlockOpResponse>(&mut claim, "reply").unwrap_err();
        assert!(matches!(error, WireError::TooLong { claimed, .. } if claimed == 0x7fff_ffff), "{error}");
        let error = read_delimited::<BlockOpResponse>(&mut &[0xff; 16][..], "reply").unwrap_err();
        assert!(matches!(error, WireError::Malformed { .. }), "{error}");
    }

    #[test]
    fn the_end_between_messages_is_told_from_the_end_inside() {
        let closed = read_delimited::<BlockOpResponse>(&mut &[][..], "reply").unwrap_err();
        assert!(matches!(closed, WireError::Closed));
        let torn = read_delimited::<BlockOpResponse>(&mut &[4, 8][..], "reply").unwrap_err();
        assert!(matches!(torn, WireError::Io(_)));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode_delimited::<BlockOpResponse>(&mut buffer, "reply") {}
            let mut reader = &bytes[..];
            while read_delimited::<BlockOpResponse>(&mut reader, "reply").is_ok() {}
        }
    }
}
