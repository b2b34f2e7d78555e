//! REQUEST_SHORT_CIRCUIT_FDS: a reader on the datanode's machine is lent the descriptors of a replica.
//!
//! ```text
//!   reader ── op 87: block, token ──────────────────▶ datanode      over its Unix socket
//!          ◀─ delimited BlockOpResponse with the loan ─
//!          ◀═ one byte, 0, with two descriptors: data, checksums ═
//!          ◀─ delimited BlockOpResponse with `revoked` ─            at any later time, before the next answer
//! ```
//!
//! Operation, answer and the byte with the descriptors are Hadoop's; what is numbered from 1000 is ours
//! (docs/formats/transfer.md). A closed connection ends every loan that was made on it.

use bytes::Bytes;
use proto::ids::{GenerationStamp, NodeId};
use proto::transfer::{BlockOpResponse, LocalLoan as WireLoan, OpRequestShortCircuitAccess, Status};

use crate::op::{BlockRef, Op, base_header, token_bytes};
use crate::{ChunkFormat, WireError};

/// Version of the layout of the two files: Hadoop's first, raw data and a meta file.
pub const ACCESS_VERSION: u32 = 1;
/// Most loans that one message names: as many as fit it easily.
pub const MAX_NAMED: usize = 4096;

/// The operation in words of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BorrowSetup {
    /// The block, with the stamp that the reader knows.
    pub block: BlockRef,
    /// Block token, as the namenode gave it.
    pub token: Bytes,
    /// Newest [`ACCESS_VERSION`] that the reader understands.
    pub max_version: u32,
    /// The reader takes in what is revoked. Hadoop's does not know how.
    pub revocations: bool,
    /// Loans that are over for the reader.
    pub returned: Vec<u64>,
}

impl BorrowSetup {
    /// As an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the token is not one.
    pub fn to_op(&self) -> Result<Op, WireError> {
        Ok(Op::Borrow(Box::new(OpRequestShortCircuitAccess {
            header: base_header(&self.block, &self.token)?,
            max_version: self.max_version,
            revocations: Some(self.revocations),
            returned: self.returned.clone(),
            ..OpRequestShortCircuitAccess::default()
        })))
    }
    /// Checks an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`], naming the field.
    pub fn from_op(op: &OpRequestShortCircuitAccess) -> Result<Self, WireError> {
        Ok(Self {
            block: BlockRef::from_wire(&op.header.block)?,
            token: token_bytes(&op.header),
            max_version: op.max_version,
            revocations: op.revocations(),
            returned: op.returned.clone(),
        })
    }
}

/// Where a lent replica lies in the two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalLoan {
    /// Number of the loan on this connection.
    pub loan: u64,
    /// The lending node.
    pub node: NodeId,
    /// Stamp of the replica.
    pub stamp: GenerationStamp,
    /// Its first byte in the data file.
    pub data_offset_bytes: u64,
    /// Its length.
    pub len_bytes: u64,
    /// Its first checksum in the other file.
    pub checksums_offset_bytes: u64,
    /// How it is cut, and which checksums those are.
    pub chunks: ChunkFormat,
}

impl LocalLoan {
    /// The answer that lends; the byte with the descriptors follows.
    #[must_use]
    pub fn to_answer(&self) -> BlockOpResponse {
        BlockOpResponse {
            status: Status::Success as i32,
            short_circuit_access_version: Some(ACCESS_VERSION),
            loan: Some(WireLoan {
                loan: self.loan,
                node: self.node.as_str().to_owned(),
                stamp: self.stamp.raw(),
                data_offset: self.data_offset_bytes,
                len_bytes: self.len_bytes,
                checksums_offset: self.checksums_offset_bytes,
                checksum: self.chunks.to_wire(),
            }),
            ..BlockOpResponse::default()
        }
    }
    /// The loan in an answer with success.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: none, or one whose ranges leave the files.
    pub fn from_answer(answer: &BlockOpResponse) -> Result<Self, WireError> {
        let bad = |why: String| WireError::malformed("loan", why);
        let wire = answer.loan.as_ref().ok_or_else(|| bad("the answer lends nothing".to_owned()))?;
        let chunks = ChunkFormat::from_wire(&wire.checksum)?;
        let end = |offset: u64, len: u64| offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
        // First the data: what is within them has no more checksums than fit.
        let fits = end(wire.data_offset, wire.len_bytes)
            .and_then(|_| end(wire.checksums_offset, chunks.checksums_bytes(wire.len_bytes)));
        if fits.is_none() {
            return Err(bad(format!("{} bytes from {} on", wire.len_bytes, wire.data_offset)));
        }
        Ok(Self {
            loan: wire.loan,
            node: NodeId::parse(&wire.node).map_err(|error| bad(error.to_string()))?,
            stamp: GenerationStamp::from_raw(wire.stamp),
            data_offset_bytes: wire.data_offset,
            len_bytes: wire.len_bytes,
            checksums_offset_bytes: wire.checksums_offset,
            chunks,
        })
    }
}

/// "These loans are over": a message that answers nothing. At most [`MAX_NAMED`] loans.
#[must_use]
pub fn revoked(loans: &[u64]) -> BlockOpResponse {
    BlockOpResponse { status: Status::Success as i32, revoked: loans.to_vec(), ..BlockOpResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChecksumKind, decode_delimited, encode_delimited};
    use bytes::BytesMut;
    use proptest::prelude::*;
    use proto::ids::{BlockId, PoolId};

    fn setup() -> BorrowSetup {
        BorrowSetup {
            block: BlockRef { pool: PoolId::new("1"), id: BlockId::FIRST, stamp: GenerationStamp::FIRST, len_bytes: 9 },
            token: Bytes::new(),
            max_version: ACCESS_VERSION,
            revocations: true,
            returned: vec![3, 4],
        }
    }

    fn loan() -> LocalLoan {
        LocalLoan {
            loan: 7,
            node: NodeId::new("n"),
            stamp: GenerationStamp::FIRST,
            data_offset_bytes: 0,
            len_bytes: 9,
            checksums_offset_bytes: 7,
            chunks: ChunkFormat::CRC32C_512,
        }
    }

    #[test]
    fn a_request_is_hadoops_operation() {
        let bytes = setup().to_op().unwrap().encode();
        assert_eq!(bytes[..3], [0x00, 0x1c, 87]);
        let Op::Borrow(op) = Op::decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap() else { panic!("another") };
        assert_eq!(BorrowSetup::from_op(&op).unwrap(), setup());
        // Hadoop's own says nothing of ours.
        let theirs = OpRequestShortCircuitAccess { header: op.header, max_version: 1, ..Default::default() };
        let read = BorrowSetup::from_op(&theirs).unwrap();
        assert_eq!((read.revocations, read.returned), (false, Vec::new()));
    }

    #[test]
    fn loans_round_trip_and_revocations_answer_nothing() {
        assert_eq!(LocalLoan::from_answer(&loan().to_answer()).unwrap(), loan());
        let mut bytes = BytesMut::from(&encode_delimited(&revoked(&[1, 300]))[..]);
        let message: BlockOpResponse = decode_delimited(&mut bytes, "reply").unwrap().unwrap();
        assert_eq!(message.revoked, [1, 300]);
        assert!(LocalLoan::from_answer(&message).is_err());
        let most: Vec<u64> = (0..MAX_NAMED as u64).map(|n| u64::MAX - n).collect();
        assert!(encode_delimited(&revoked(&most)).len() < crate::MAX_MESSAGE_BYTES);
    }

    #[test]
    fn ranges_that_leave_the_files_are_refused() {
        type Spoil = fn(&mut WireLoan);
        let cases: [Spoil; 5] = [
            |wire| wire.len_bytes = u64::MAX,
            |wire| wire.data_offset = u64::MAX,
            |wire| wire.checksums_offset = u64::MAX - 3,
            |wire| wire.checksum.bytes_per_checksum = 0,
            |wire| wire.node = "a/b".into(),
        ];
        for spoil in cases {
            let mut answer = loan().to_answer();
            spoil(answer.loan.as_mut().unwrap());
            assert!(LocalLoan::from_answer(&answer).is_err(), "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn any_loan_is_understood_or_refused(data in any::<u64>(), len in any::<u64>(), sums in any::<u64>(), chunk in 1..=1_048_576_u32) {
            let chunks = ChunkFormat::new(ChecksumKind::Crc32c, chunk).unwrap();
            let any = LocalLoan { data_offset_bytes: data, len_bytes: len, checksums_offset_bytes: sums, chunks, ..loan() };
            if let Ok(read) = LocalLoan::from_answer(&any.to_answer()) {
                prop_assert_eq!(read, any);
            }
        }
    }
}
