//! Acknowledgements, up the pipeline: one reply for every node, nearest first; the ack of the last packet
//! carries each node's receipt.

use std::io::Read;

use bytes::BytesMut;
use proto::common::Receipt;
use proto::transfer::{PipelineAck, PipelineReceipt, Status};

use crate::WireError;
use crate::frame::{decode_delimited, encode_delimited, read_delimited};

/// Number of an out-of-band ack: it answers no packet.
pub const OUT_OF_BAND_SEQNO: i64 = -2;

/// Number of the one ack that follows the set-up of `PipelineCloseRecovery`: it answers no packet, and is what the ack of
/// the last packet would have been.
pub const CLOSE_RECOVERY_SEQNO: i64 = -3;

/// Longest pipeline. No placement asks for more.
pub const MAX_PIPELINE_NODES: usize = 64;

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack {
    /// Number of the packet that it answers.
    pub seqno: i64,
    /// What each node says, in pipeline order; after the first failure nothing is known of the rest.
    pub replies: Vec<Status>,
    /// In the ack of the last packet: each node's proof, parallel to `replies`. Empty otherwise.
    pub receipts: Vec<Receipt>,
}

impl Ack {
    /// An ack of one node, the last of its pipeline.
    #[must_use]
    pub fn single(seqno: i64, reply: Status) -> Self {
        Self { seqno, replies: vec![reply], receipts: Vec::new() }
    }
    /// Position in the pipeline of the first node that does not say success.
    #[must_use]
    pub fn first_bad(&self) -> Option<usize> {
        self.replies.iter().position(|reply| *reply != Status::Success)
    }
    /// The ack as a message.
    #[must_use]
    pub fn to_wire(&self) -> PipelineAck {
        PipelineAck {
            seqno: self.seqno,
            reply: self.replies.iter().map(|reply| *reply as i32).collect(),
            downstream_ack_time_nanos: None,
            // Congestion and slowness marks are off: a flag is its status.
            flag: self.replies.iter().map(|reply| *reply as u32).collect(),
            receipt: self.receipts.iter().cloned().map(receipt_to_wire).collect(),
        }
    }
    /// Checks a message.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for unknown statuses, no reply at all, more replies than a pipeline has nodes, or
    /// more receipts than replies.
    pub fn from_wire(wire: PipelineAck) -> Result<Self, WireError> {
        let (replies, receipts) = (wire.reply.len(), wire.receipt.len());
        if replies == 0 || replies > MAX_PIPELINE_NODES || receipts > replies {
            return Err(WireError::malformed("ack", format!("{replies} replies, {receipts} receipts")));
        }
        let unknown = |number| WireError::malformed("ack", format!("unknown status {number}"));
        let replies = wire
            .reply
            .into_iter()
            .map(|number| Status::try_from(number).map_err(|_unknown_enum_value| unknown(number)))
            .collect::<Result<_, _>>()?;
        let receipts = wire.receipt.into_iter().map(receipt_from_wire).collect();
        Ok(Self { seqno: wire.seqno, replies, receipts })
    }
    /// The ack as it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_delimited(&self.to_wire())
    }
    /// Takes one ack from the front of `bytes`; `None` if it is not whole yet.
    ///
    /// # Errors
    /// As [`Ack::from_wire`]; [`WireError::TooLong`].
    pub fn decode(bytes: &mut BytesMut) -> Result<Option<Self>, WireError> {
        decode_delimited(bytes, "ack")?.map(Self::from_wire).transpose()
    }
    /// Reads one ack from a blocking reader.
    ///
    /// # Errors
    /// As [`Ack::decode`]; [`WireError::Closed`], [`WireError::Io`].
    pub fn read(reader: &mut impl Read) -> Result<Self, WireError> {
        Self::from_wire(read_delimited(reader, "ack")?)
    }
}

fn receipt_to_wire(receipt: Receipt) -> PipelineReceipt {
    let Receipt { storage, node, stamp, len_bytes, mac } = receipt;
    PipelineReceipt { storage, node, stamp, len_bytes, mac }
}

fn receipt_from_wire(wire: PipelineReceipt) -> Receipt {
    let PipelineReceipt { storage, node, stamp, len_bytes, mac } = wire;
    Receipt { storage, node, stamp, len_bytes, mac }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ack_is_hadoops_bytes() {
        assert_eq!(Ack::single(0, Status::Success).encode(), [0x07, 0x08, 0x00, 0x10, 0x00, 0x22, 0x01, 0x00]);
    }

    #[test]
    fn the_first_failure_names_the_node() {
        let replies = vec![Status::Success, Status::Error, Status::Success];
        assert_eq!(Ack { seqno: 1, replies, receipts: Vec::new() }.first_bad(), Some(1));
        assert_eq!(Ack::single(1, Status::Success).first_bad(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        let wire = |reply: Vec<i32>| PipelineAck { reply, ..PipelineAck::default() };
        assert!(Ack::from_wire(wire(vec![])).is_err());
        assert!(Ack::from_wire(wire(vec![99])).is_err());
        assert!(Ack::from_wire(wire(vec![0; MAX_PIPELINE_NODES + 1])).is_err());
    }

    proptest! {
        #[test]
        fn acks_survive_the_wire(seqno in any::<i64>(), nodes in 1..5_usize, with_receipts in any::<bool>(), mac in any::<[u8; 32]>()) {
            let receipt = Receipt {
                storage: "DS-1".into(), node: "n".into(), stamp: 1001, len_bytes: 7, mac: mac.to_vec().into(),
            };
            let receipts = if with_receipts { vec![receipt; nodes] } else { Vec::new() };
            let ack = Ack { seqno, replies: vec![Status::Success; nodes], receipts };
            prop_assert_eq!(&Ack::read(&mut &ack.encode()[..]).unwrap(), &ack);
            let mut bytes = BytesMut::from(&ack.encode()[..]);
            prop_assert_eq!(Ack::decode(&mut bytes).unwrap(), Some(ack));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Ack::decode(&mut buffer) {}
        }
    }
}
