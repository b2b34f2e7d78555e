//! TRANSFER_BLOCK: a node that is behind, or new in a pipeline, is brought up to date by one of the others.
//!
//! ```text
//!   client ──op: block, length, target, new stamp──▶ node ══WRITE_BLOCK, stage TransferRbw══▶ target
//!          ◀──IN_PROGRESS, about every second──
//!          ◀──SUCCESS, or a refusal that names the bad link──
//! ```
//!
//! The node sends what it has up to the length that was acknowledged through it, at least the length asked for. The copy is
//! an open replica of the new stamp, durable as far as it goes; the pipeline that is set up next goes on with it. Operation
//! and answer are Hadoop's; IN_PROGRESS is only told to clients that named a stamp, which is a field of ours.

use bytes::Bytes;
use proto::ids::GenerationStamp;
use proto::transfer::{BlockOpResponse, OpTransferBlock, Status};

use crate::ack::MAX_PIPELINE_NODES;
use crate::op::{header, targets_from_wire, token_bytes};
use crate::{BlockRef, Op, Target, WireError, reply};

/// TRANSFER_BLOCK in words of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferSetup {
    /// The block; `len_bytes` is what the copy must have at least.
    pub block: BlockRef,
    /// Block token for writing, as the namenode gave it, good on both nodes.
    pub token: Bytes,
    /// Name of the writing client.
    pub client_name: String,
    /// Where to; the copy goes from each to the next.
    pub targets: Vec<Target>,
    /// Stamp that the copy gets; `None`: the block's.
    pub new_stamp: Option<GenerationStamp>,
}

impl TransferSetup {
    /// As an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the token is not one.
    pub fn to_op(&self) -> Result<Op, WireError> {
        Ok(Op::Transfer(Box::new(OpTransferBlock {
            header: header(&self.block, &self.token, &self.client_name)?,
            targets: self.targets.iter().map(Target::to_wire).collect(),
            target_storage_types: Vec::new(),
            target_storage_ids: self.targets.iter().map(|target| target.storage.as_str().to_owned()).collect(),
            new_stamp: self.new_stamp.map(GenerationStamp::raw),
        })))
    }
    /// Checks an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`], naming the field.
    pub fn from_op(op: &OpTransferBlock) -> Result<Self, WireError> {
        let count = op.targets.len();
        if count == 0 || count >= MAX_PIPELINE_NODES {
            return Err(WireError::malformed("TRANSFER_BLOCK", format!("{count} targets")));
        }
        Ok(Self {
            block: BlockRef::from_wire(&op.header.base_header.block)?,
            token: token_bytes(&op.header.base_header),
            client_name: op.header.client_name.clone(),
            targets: targets_from_wire(&op.targets, &op.target_storage_ids)?,
            new_stamp: op.new_stamp.map(GenerationStamp::from_raw),
        })
    }
}

/// What a node says of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferReply {
    /// It goes on.
    Going,
    /// The target has it, durably.
    Done,
    /// It failed; `bad_link` is the target's `host:port` if that is at fault, empty if the asked node is.
    Failed {
        /// What the node says.
        status: Status,
        /// `host:port` of the node at fault.
        bad_link: String,
        /// For people.
        message: String,
    },
}

impl TransferReply {
    /// As an answer.
    #[must_use]
    pub fn to_wire(&self) -> BlockOpResponse {
        match self {
            Self::Going => crate::verify::in_progress(),
            Self::Done => reply::pipeline_ready(),
            Self::Failed { status, bad_link, message } => reply::refused(*status, message, bad_link),
        }
    }
    /// From an answer.
    #[must_use]
    pub fn from_wire(response: &BlockOpResponse) -> Self {
        match reply::status_of(response) {
            Status::InProgress => Self::Going,
            Status::Success => Self::Done,
            status => Self::Failed {
                status,
                bad_link: response.first_bad_link().to_owned(),
                message: response.message().to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::{BlockId, NodeId, PoolId, StorageId};

    fn setup() -> TransferSetup {
        TransferSetup {
            block: BlockRef { pool: PoolId::new("1"), id: BlockId::FIRST, stamp: GenerationStamp::FIRST, len_bytes: 5 },
            token: Bytes::new(),
            client_name: "c".to_owned(),
            targets: vec![Target {
                node: NodeId::new("n"),
                storage: StorageId::new("1"),
                host: "h".to_owned(),
                transfer_port: 7,
            }],
            new_stamp: Some(GenerationStamp::from_raw(1002)),
        }
    }

    #[test]
    fn the_operation_is_hadoops_and_survives_the_wire() {
        for new_stamp in [None, Some(GenerationStamp::from_raw(1002))] {
            let setup = TransferSetup { new_stamp, ..setup() };
            let bytes = setup.to_op().unwrap().encode();
            assert_eq!(bytes[..3], [0x00, 0x1c, 86]);
            let Ok(Op::Transfer(read)) = Op::read(&mut &bytes[..]) else { panic!("another operation") };
            assert_eq!(TransferSetup::from_op(&read).unwrap(), setup);
        }
    }

    #[test]
    fn a_transfer_to_nobody_is_refused() {
        let Op::Transfer(op) = TransferSetup { targets: Vec::new(), ..setup() }.to_op().unwrap() else { panic!() };
        assert!(TransferSetup::from_op(&op).is_err());
    }

    #[test]
    fn answers_survive_the_wire_and_name_the_node_at_fault() {
        let failed = TransferReply::Failed { status: Status::Error, bad_link: "h:7".into(), message: "gone".into() };
        for said in [TransferReply::Going, TransferReply::Done, failed] {
            assert_eq!(TransferReply::from_wire(&said.to_wire()), said);
        }
    }
}
