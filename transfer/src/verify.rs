//! VERIFY_REPLICA: a node reads one of its replicas whole and says whether it is sound. Ours, beyond Hadoop's numbers.
//!
//! ```text
//!   client ──op: block, token, rate──▶ node
//!          ◀──IN_PROGRESS, now and then──
//!          ◀──SUCCESS with what was found, or a refusal──
//! ```
//!
//! What the node finds damaged it also tells its namenodes, by itself. Whether the digest is the one that the namespace
//! has is for the client to compare: a node believes nobody's word about what its bytes should be but a namenode's.

use bytes::Bytes;
use proto::ids::GenerationStamp;
use proto::transfer::{BlockOpResponse, OpVerifyReplica, Status, VerifiedReplica};

use crate::digest::{PREFIX_BYTES, Prefix};
use crate::op::{base_header, token_bytes};
use crate::{BlockRef, Op, WireError};

/// Longest text of a damage that is sent.
const MAX_TEXT_CHARS: usize = 1024;

/// VERIFY_REPLICA in words of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifySetup {
    /// The block.
    pub block: BlockRef,
    /// Block token for reading, as the namenode gave it.
    pub token: Bytes,
    /// Bytes a second to be read at most; 0 leaves it to the node.
    pub rate_bytes_per_s: u64,
}

impl VerifySetup {
    /// As an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the token is not one.
    pub fn to_op(&self) -> Result<Op, WireError> {
        let header = base_header(&self.block, &self.token)?;
        Ok(Op::Verify(Box::new(OpVerifyReplica { header, rate_bytes_per_s: Some(self.rate_bytes_per_s) })))
    }
    /// Checks an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`], naming the field.
    pub fn from_op(op: &OpVerifyReplica) -> Result<Self, WireError> {
        Ok(Self {
            block: BlockRef::from_wire(&op.header.block)?,
            token: token_bytes(&op.header),
            rate_bytes_per_s: op.rate_bytes_per_s.unwrap_or(0),
        })
    }
}

/// Whose leaves a replica has in its trailer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeafOrigin {
    /// It has none.
    #[default]
    None,
    /// The writer of the block made them.
    Writer,
    /// A scrubber made them of the bytes that it found.
    Observed,
}

/// What a node found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Stamp of the replica.
    pub stamp: GenerationStamp,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Start of the root over the bytes that were read; `None` if they are damaged.
    pub digest: Option<Prefix>,
    /// What is wrong.
    pub damage: Option<String>,
    /// Its leaves.
    pub leaves: LeafOrigin,
}

/// "It is being read", so that the client knows that somebody is there.
#[must_use]
pub fn in_progress() -> BlockOpResponse {
    BlockOpResponse { status: Status::InProgress as i32, ..BlockOpResponse::default() }
}

impl Verified {
    /// As an answer.
    #[must_use]
    pub fn to_reply(&self) -> BlockOpResponse {
        let verified = VerifiedReplica {
            stamp: self.stamp.raw(),
            len_bytes: self.len_bytes,
            digest: self.digest.map(|digest| Bytes::copy_from_slice(&digest)),
            damage: self.damage.as_ref().map(|damage| damage.chars().take(MAX_TEXT_CHARS).collect()),
            leaves: Some(match self.leaves {
                LeafOrigin::None => 0,
                LeafOrigin::Writer => 1,
                LeafOrigin::Observed => 2,
            }),
        };
        BlockOpResponse { status: Status::Success as i32, verified: Some(verified), ..BlockOpResponse::default() }
    }
    /// From an answer with SUCCESS.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if it says nothing of a replica.
    pub fn from_reply(reply: &BlockOpResponse) -> Result<Self, WireError> {
        let bad = |why: &str| WireError::malformed("answer to VERIFY_REPLICA", why);
        let wire = reply.verified.as_ref().ok_or_else(|| bad("it says nothing of the replica"))?;
        let digest = match wire.digest.as_ref().map_or(&[][..], |digest| digest) {
            [] => None,
            bytes => {
                Some(<[u8; PREFIX_BYTES]>::try_from(bytes).map_err(|_length| bad("a digest that has not 16 bytes"))?)
            }
        };
        Ok(Self {
            stamp: GenerationStamp::from_raw(wire.stamp),
            len_bytes: wire.len_bytes,
            digest,
            damage: wire.damage.clone(),
            leaves: match wire.leaves.unwrap_or(0) {
                1 => LeafOrigin::Writer,
                2 => LeafOrigin::Observed,
                _ => LeafOrigin::None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode_delimited, encode_delimited};
    use bytes::BytesMut;
    use proptest::prelude::*;
    use proto::ids::{BlockId, PoolId};

    #[test]
    fn the_operation_survives_the_wire() {
        let setup = VerifySetup {
            block: BlockRef { pool: PoolId::new("1"), id: BlockId::FIRST, stamp: GenerationStamp::FIRST, len_bytes: 5 },
            token: Bytes::new(),
            rate_bytes_per_s: 1 << 20,
        };
        let bytes = setup.to_op().unwrap().encode();
        assert_eq!(bytes[..3], [0x00, 0x1c, 0xc8]);
        let Ok(Op::Verify(read)) = Op::read(&mut &bytes[..]) else { panic!("another operation") };
        assert_eq!(VerifySetup::from_op(&read).unwrap(), setup);
        let Ok(Some(Op::Verify(decoded))) = Op::decode(&mut BytesMut::from(&bytes[..])) else { panic!("not decoded") };
        assert_eq!(decoded, read);
    }

    #[test]
    fn an_answer_without_a_replica_or_with_half_a_digest_is_refused() {
        assert!(Verified::from_reply(&in_progress()).is_err());
        let mut reply = BlockOpResponse { verified: Some(VerifiedReplica::default()), ..BlockOpResponse::default() };
        assert!(Verified::from_reply(&reply).is_ok());
        reply.verified = Some(VerifiedReplica { digest: Some(vec![7; 15].into()), ..VerifiedReplica::default() });
        assert!(Verified::from_reply(&reply).is_err());
    }

    proptest! {
        #[test]
        fn answers_survive_the_wire(
            stamp in any::<u64>(), len_bytes in any::<u64>(), digest in any::<Option<Prefix>>(),
            damage in proptest::option::of(".{0,40}"), origin in 0..3_u8,
        ) {
            let leaves = [LeafOrigin::None, LeafOrigin::Writer, LeafOrigin::Observed][usize::from(origin)];
            let said = Verified { stamp: GenerationStamp::from_raw(stamp), len_bytes, digest, damage, leaves };
            let mut bytes = BytesMut::from(&encode_delimited(&said.to_reply())[..]);
            let reply: BlockOpResponse = decode_delimited(&mut bytes, "reply").unwrap().unwrap();
            prop_assert_eq!(Verified::from_reply(&reply).unwrap(), said);
        }
    }
}
