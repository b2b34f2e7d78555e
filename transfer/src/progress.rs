//! REPLICA_STATE: how far a replica is. Ours, beyond Hadoop's numbers.
//!
//! Readers of an open file ask how much of its last block they may see; a writer whose acks stay away asks every node of
//! its pipeline, to find the one that holds it up. The answer comes from memory, whatever the node's disks do.

use bytes::Bytes;
use proto::ids::GenerationStamp;
use proto::transfer::{BlockOpResponse, OpReplicaState, ReplicaProgress, Status};

use crate::op::{base_header, token_bytes};
use crate::{BlockRef, Op, WireError, reply};

/// REPLICA_STATE in words of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStateSetup {
    /// The block, at the lowest stamp that counts; its length says nothing.
    pub block: BlockRef,
    /// Block token for reading or writing, as the namenode gave it.
    pub token: Bytes,
}

impl ReplicaStateSetup {
    /// As an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the token is not one.
    pub fn to_op(&self) -> Result<Op, WireError> {
        Ok(Op::State(Box::new(OpReplicaState { header: base_header(&self.block, &self.token)? })))
    }
    /// Checks an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`], naming the field.
    pub fn from_op(op: &OpReplicaState) -> Result<Self, WireError> {
        Ok(Self { block: BlockRef::from_wire(&op.header.block)?, token: token_bytes(&op.header) })
    }
}

/// The answer of a node that has no replica of the block: nothing of it was ever written there, or it was deleted since.
/// Whoever does not know field 1004 reads a refusal.
#[must_use]
pub fn absent(message: &str) -> BlockOpResponse {
    BlockOpResponse { absent: Some(true), ..reply::refused(Status::Error, message, "") }
}

/// Does a refusal say that there is no replica, rather than one that cannot be served?
#[must_use]
pub fn is_absent(reply: &BlockOpResponse) -> bool {
    reply.absent.unwrap_or(false)
}

/// How far a replica is. For a finalised one the three lengths are its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its stamp.
    pub stamp: GenerationStamp,
    /// Bytes received from the sender and checked.
    pub received_bytes: u64,
    /// Bytes handed to the disk. Less than `received_bytes` for long: the disk holds the pipeline up.
    pub stored_bytes: u64,
    /// Bytes acknowledged by this node and all behind it: what a reader may see.
    pub acked_bytes: u64,
    /// Is it whole and durable?
    pub finalized: bool,
    /// Nobody writes: the writer is gone, or the node was started anew since.
    pub waiting: bool,
    /// It is not known how much was acknowledged, and `acked_bytes` is 0: the node was started anew since, or a writer goes
    /// on with what was found then and has not sent everything again.
    pub unsure: bool,
}

impl Progress {
    /// As an answer.
    #[must_use]
    pub fn to_reply(&self) -> BlockOpResponse {
        let progress = ReplicaProgress {
            stamp: self.stamp.raw(),
            received_bytes: self.received_bytes,
            stored_bytes: self.stored_bytes,
            acked_bytes: self.acked_bytes,
            finalized: self.finalized,
            waiting: Some(self.waiting),
            unsure: Some(self.unsure),
        };
        BlockOpResponse { status: Status::Success as i32, progress: Some(progress), ..BlockOpResponse::default() }
    }
    /// From an answer with SUCCESS.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if it says nothing of a replica.
    pub fn from_reply(reply: &BlockOpResponse) -> Result<Self, WireError> {
        let wire = reply.progress.as_ref();
        let wire =
            wire.ok_or_else(|| WireError::malformed("answer to REPLICA_STATE", "it says nothing of a replica"))?;
        let waiting = wire.waiting.unwrap_or(false);
        Ok(Self {
            stamp: GenerationStamp::from_raw(wire.stamp),
            received_bytes: wire.received_bytes,
            stored_bytes: wire.stored_bytes,
            acked_bytes: wire.acked_bytes,
            finalized: wire.finalized,
            waiting,
            unsure: wire.unsure.unwrap_or(waiting && wire.acked_bytes == 0),
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
        let block =
            BlockRef { pool: PoolId::new("1"), id: BlockId::FIRST, stamp: GenerationStamp::FIRST, len_bytes: 0 };
        let setup = ReplicaStateSetup { block, token: Bytes::new() };
        let bytes = setup.to_op().unwrap().encode();
        assert_eq!(bytes[..3], [0x00, 0x1c, 201]);
        let Ok(Op::State(read)) = Op::read(&mut &bytes[..]) else { panic!("another operation") };
        assert_eq!(ReplicaStateSetup::from_op(&read).unwrap(), setup);
    }

    #[test]
    fn an_answer_without_a_replica_is_refused() {
        assert!(Progress::from_reply(&crate::verify::in_progress()).is_err());
    }

    #[test]
    fn only_who_has_no_replica_says_that_it_is_absent() {
        let said = encode_delimited(&absent("nothing here"));
        let reply: BlockOpResponse = decode_delimited(&mut BytesMut::from(&said[..]), "reply").unwrap().unwrap();
        assert!(is_absent(&reply) && reply.message() == "nothing here");
        assert_eq!(reply::status_of(&reply), Status::Error, "a refusal, to whoever does not know the field");
        assert!(!is_absent(&reply::refused(Status::Error, "it is damaged", "")));
    }

    #[test]
    fn an_older_node_that_waits_and_acknowledged_nothing_does_not_know() {
        let of = |waiting, acked_bytes| {
            let stamp = GenerationStamp::FIRST;
            let (received_bytes, stored_bytes, finalized, unsure) = (9, 9, false, false);
            let said = Progress { stamp, received_bytes, stored_bytes, acked_bytes, finalized, waiting, unsure };
            let mut reply = said.to_reply();
            reply.progress.as_mut().unwrap().unsure = None;
            Progress::from_reply(&reply).unwrap().unsure
        };
        assert_eq!([of(true, 0), of(true, 5), of(false, 0)], [true, false, false]);
    }

    proptest! {
        #[test]
        fn answers_survive_the_wire(
            stamp in any::<u64>(), lengths in any::<[u64; 3]>(), said in any::<[bool; 3]>(),
        ) {
            let [finalized, waiting, unsure] = said;
            let [received_bytes, stored_bytes, acked_bytes] = lengths;
            let stamp = GenerationStamp::from_raw(stamp);
            let said = Progress { stamp, received_bytes, stored_bytes, acked_bytes, finalized, waiting, unsure };
            let mut bytes = BytesMut::from(&encode_delimited(&said.to_reply())[..]);
            let reply: BlockOpResponse = decode_delimited(&mut bytes, "reply").unwrap().unwrap();
            prop_assert_eq!(Progress::from_reply(&reply).unwrap(), said);
        }
    }
}
