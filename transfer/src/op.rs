//! Operations: version, code, delimited request; and the set-ups in words of ours.
//!
//! ```text
//!   00 1c        version 28, big-endian
//!   50 | 51 | 56 | 57   WRITE_BLOCK | READ_BLOCK | TRANSFER_BLOCK | REQUEST_SHORT_CIRCUIT_FDS
//!   c8 | c9             VERIFY_REPLICA | REPLICA_STATE, which are ours
//!   delimited    OpWriteBlock | OpReadBlock | OpTransferBlock | OpRequestShortCircuitAccess | OpVerifyReplica | …
//! ```

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use proto::ids::{BlockId, GenerationStamp, NodeId, PoolId, StorageId};
use proto::transfer::{
    BaseHeader, ClientOperationHeader, DatanodeId, DatanodeInfo, ExtendedBlock, OpReadBlock, OpReplicaState,
    OpRequestShortCircuitAccess, OpTransferBlock, OpVerifyReplica, OpWriteBlock, Token,
};

pub use proto::transfer::op_write_block::Stage as WriteStage;

use crate::ack::MAX_PIPELINE_NODES;
use crate::frame::{decode_delimited, encode_delimited, read_delimited};
use crate::{ChunkFormat, DATA_TRANSFER_VERSION, WireError};

/// Code of WRITE_BLOCK.
pub const WRITE_BLOCK: u8 = 80;
/// Code of READ_BLOCK.
pub const READ_BLOCK: u8 = 81;
/// Code of TRANSFER_BLOCK: a node sends what it has of an open replica to another one.
pub const TRANSFER_BLOCK: u8 = 86;
/// Code of REQUEST_SHORT_CIRCUIT_FDS, on local sockets only.
pub const REQUEST_SHORT_CIRCUIT_FDS: u8 = 87;
/// Code of VERIFY_REPLICA: ours, beyond Hadoop's numbers.
pub const VERIFY_REPLICA: u8 = 200;
/// Code of REPLICA_STATE: ours.
pub const REPLICA_STATE: u8 = 201;

/// Stands for a storage that the sender did not name: the node chooses.
pub const ANY_STORAGE: &str = "DS-any";

const PREFIX_BYTES: usize = 3;
const BORROW: &str = "REQUEST_SHORT_CIRCUIT_FDS";
const VERIFY: &str = "VERIFY_REPLICA";
const TRANSFER: &str = "TRANSFER_BLOCK";
const STATE: &str = "REPLICA_STATE";

/// An operation, as asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Write a replica and pass it on.
    Write(Box<OpWriteBlock>),
    /// Read a range of a replica.
    Read(Box<OpReadBlock>),
    /// Lend the descriptors of a replica.
    Borrow(Box<OpRequestShortCircuitAccess>),
    /// Read a replica whole and say whether it is sound.
    Verify(Box<OpVerifyReplica>),
    /// Send what there is of a replica to another node.
    Transfer(Box<OpTransferBlock>),
    /// Say how far a replica is.
    State(Box<OpReplicaState>),
}

impl Op {
    /// The operation as it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (code, body) = match self {
            Self::Write(op) => (WRITE_BLOCK, encode_delimited(op.as_ref())),
            Self::Read(op) => (READ_BLOCK, encode_delimited(op.as_ref())),
            Self::Borrow(op) => (REQUEST_SHORT_CIRCUIT_FDS, encode_delimited(op.as_ref())),
            Self::Verify(op) => (VERIFY_REPLICA, encode_delimited(op.as_ref())),
            Self::Transfer(op) => (TRANSFER_BLOCK, encode_delimited(op.as_ref())),
            Self::State(op) => (REPLICA_STATE, encode_delimited(op.as_ref())),
        };
        let mut out = Vec::with_capacity(PREFIX_BYTES + body.len());
        out.extend_from_slice(&DATA_TRANSFER_VERSION.to_be_bytes());
        out.push(code);
        out.extend_from_slice(&body);
        out
    }
    /// Takes one operation from the front of `bytes`; `None` if it is not whole yet. Version and code are
    /// checked as soon as they are there.
    ///
    /// # Errors
    /// [`WireError::Version`], [`WireError::UnknownOp`], [`WireError::TooLong`], [`WireError::Malformed`].
    pub fn decode(bytes: &mut BytesMut) -> Result<Option<Self>, WireError> {
        if let Some(&[a, b]) = bytes.get(..2) {
            check_version([a, b])?;
        }
        let Some(&code) = bytes.get(2) else { return Ok(None) };
        check_code(code)?;
        let mut rest = bytes.split_off(PREFIX_BYTES);
        let decoded = match code {
            WRITE_BLOCK => decode_delimited(&mut rest, "WRITE_BLOCK").map(|op| op.map(|op| Self::Write(Box::new(op)))),
            READ_BLOCK => decode_delimited(&mut rest, "READ_BLOCK").map(|op| op.map(|op| Self::Read(Box::new(op)))),
            VERIFY_REPLICA => decode_delimited(&mut rest, VERIFY).map(|op| op.map(|op| Self::Verify(Box::new(op)))),
            TRANSFER_BLOCK => decode_delimited(&mut rest, TRANSFER).map(|op| op.map(|op| Self::Transfer(Box::new(op)))),
            REPLICA_STATE => decode_delimited(&mut rest, STATE).map(|op| op.map(|op| Self::State(Box::new(op)))),
            _ => decode_delimited(&mut rest, BORROW).map(|op| op.map(|op| Self::Borrow(Box::new(op)))),
        };
        bytes.unsplit(rest);
        if let Ok(Some(_)) = &decoded {
            bytes.advance(PREFIX_BYTES);
        }
        decoded
    }
    /// Reads one operation from a blocking reader, and not a byte more.
    ///
    /// # Errors
    /// As [`Op::decode`]; [`WireError::Closed`] if the peer ends before the first byte, [`WireError::Io`].
    pub fn read(reader: &mut impl Read) -> Result<Self, WireError> {
        let mut first = [0];
        match reader.read_exact(&mut first) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(WireError::Closed),
            other => other?,
        }
        let mut rest = [0; 2];
        reader.read_exact(&mut rest)?;
        let ([high], [low, code]) = (first, rest);
        check_version([high, low])?;
        check_code(code)?;
        Ok(match code {
            WRITE_BLOCK => Self::Write(Box::new(read_delimited(reader, "WRITE_BLOCK")?)),
            READ_BLOCK => Self::Read(Box::new(read_delimited(reader, "READ_BLOCK")?)),
            VERIFY_REPLICA => Self::Verify(Box::new(read_delimited(reader, VERIFY)?)),
            TRANSFER_BLOCK => Self::Transfer(Box::new(read_delimited(reader, TRANSFER)?)),
            REPLICA_STATE => Self::State(Box::new(read_delimited(reader, STATE)?)),
            _ => Self::Borrow(Box::new(read_delimited(reader, BORROW)?)),
        })
    }
}

fn check_version(bytes: [u8; 2]) -> Result<(), WireError> {
    match u16::from_be_bytes(bytes) {
        DATA_TRANSFER_VERSION => Ok(()),
        found => Err(WireError::Version { found }),
    }
}

fn check_code(code: u8) -> Result<(), WireError> {
    match code {
        WRITE_BLOCK | READ_BLOCK | TRANSFER_BLOCK | REQUEST_SHORT_CIRCUIT_FDS | VERIFY_REPLICA | REPLICA_STATE => {
            Ok(())
        }
        _ => Err(WireError::UnknownOp { code }),
    }
}

/// A block as an operation names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its pool.
    pub pool: PoolId,
    /// Its id.
    pub id: BlockId,
    /// Its generation stamp, as the caller knows it.
    pub stamp: GenerationStamp,
    /// When reading: bytes that the caller knows of. When writing: bytes that are expected, for the
    /// reservation of room; 0 if unknown.
    pub len_bytes: u64,
}

impl BlockRef {
    /// From the words of the namenode's contract.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the pool id is not one.
    pub fn from_common(block: &proto::common::Block) -> Result<Self, WireError> {
        Ok(Self {
            pool: PoolId::parse(&block.pool).map_err(|bad| WireError::malformed("block", bad.to_string()))?,
            id: BlockId::from_raw(block.id),
            stamp: GenerationStamp::from_raw(block.stamp),
            len_bytes: block.len_bytes,
        })
    }
    fn to_wire(&self) -> ExtendedBlock {
        ExtendedBlock {
            pool_id: self.pool.as_str().to_owned(),
            // Hadoop carries the signed id in an unsigned field.
            block_id: self.id.raw() as u64,
            generation_stamp: self.stamp.raw(),
            num_bytes: Some(self.len_bytes),
        }
    }
    pub(crate) fn from_wire(wire: &ExtendedBlock) -> Result<Self, WireError> {
        Ok(Self {
            pool: PoolId::parse(&wire.pool_id).map_err(|bad| WireError::malformed("block", bad.to_string()))?,
            id: BlockId::from_raw(wire.block_id as i64),
            stamp: GenerationStamp::from_raw(wire.generation_stamp),
            len_bytes: wire.num_bytes.unwrap_or(0),
        })
    }
}

/// A storage of the pipeline, with the address of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// The storage on it.
    pub storage: StorageId,
    /// Host to dial.
    pub host: String,
    /// Port of its transfer server.
    pub transfer_port: u16,
}

impl Target {
    /// `host:port`, by which a bad link is named.
    #[must_use]
    pub fn link(&self) -> String {
        format!("{}:{}", self.host, self.transfer_port)
    }
    /// From the words of the namenode's contract.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for malformed ids and ports.
    pub fn from_common(location: &proto::common::StorageLocation) -> Result<Self, WireError> {
        Self::checked(&location.node, &location.storage, location.host.clone(), location.transfer_port)
    }
    fn checked(node: &str, storage: &str, host: String, port: u32) -> Result<Self, WireError> {
        let bad = |why: String| WireError::malformed("target", why);
        Ok(Self {
            node: NodeId::parse(node).map_err(|error| bad(error.to_string()))?,
            storage: StorageId::parse(storage).map_err(|error| bad(error.to_string()))?,
            host,
            transfer_port: u16::try_from(port).map_err(|error| bad(format!("port {port}: {error}")))?,
        })
    }
    pub(crate) fn to_wire(&self) -> DatanodeInfo {
        let id = DatanodeId {
            ip_addr: self.host.clone(),
            host_name: self.host.clone(),
            datanode_uuid: self.node.as_str().to_owned(),
            xfer_port: u32::from(self.transfer_port),
            ..DatanodeId::default()
        };
        DatanodeInfo { id, location: None }
    }
}

/// WRITE_BLOCK in words of ours. An empty `client_name` says that a datanode sends a copy: it gets set-up reply
/// and acks like a client (see docs/formats/transfer.md).
///
/// Stages, by what the receiver must have (stamps: `block.stamp` ≤ the replica's ≤ `new_stamp`, which it then gets):
///
/// | stage | replica | then |
/// |---|---|---|
/// | `PipelineSetupCreate` | none | packets from 0 on |
/// | `PipelineSetupStreamingRecovery` | open, `min_bytes` ≤ its length ≤ `max_bytes`; or none, if `min_bytes` is 0 | packets from `min_bytes` on, or before |
/// | `PipelineSetupAppend` | finalised, of `min_bytes` | packets from there on |
/// | `PipelineSetupAppendRecovery` | as for either of the two before | packets from `min_bytes` on, or before |
/// | `PipelineCloseRecovery` | open or finalised, of `min_bytes` | no packet: one ack, numbered [`CLOSE_RECOVERY_SEQNO`](crate::ack::CLOSE_RECOVERY_SEQNO), with receipts |
/// | `TransferRbw` | none, or one that is not finalised: it goes on with a beginning of the same bytes, and replaces everything else | packets from 0 on; the last one does not finalise |
#[derive(Clone, Debug, PartialEq)]
pub struct WriteSetup {
    /// The block; `len_bytes` is the room to reserve.
    pub block: BlockRef,
    /// Block token, as the namenode gave it (an encoded `proto::transfer::Token`).
    pub token: Bytes,
    /// Name of the writing client; empty if a datanode sends.
    pub client_name: String,
    /// Storage of the receiver; `None` lets it choose.
    pub storage: Option<StorageId>,
    /// The rest of the pipeline, without the receiver.
    pub targets: Vec<Target>,
    /// Nodes in the whole pipeline.
    pub pipeline_size: u32,
    /// Which kind of write.
    pub stage: WriteStage,
    /// Generation stamp that the replica gets; equal to the block's for a new one.
    pub new_stamp: GenerationStamp,
    /// Bytes that every node of the pipeline has acknowledged, as the writer knows: a replica with less is of no use.
    pub min_bytes: u64,
    /// Bytes that the writer has sent at most: a replica with more is another writer's.
    pub max_bytes: u64,
    /// Checksums of the packets that follow.
    pub chunks: ChunkFormat,
    /// The leaves in the packets that follow are what a scrubber found, not what the block's writer meant.
    pub digest_observed: bool,
}

impl WriteSetup {
    /// A new block through a pipeline: what the first node, `targets[0]`, is sent. `None` if there is no target.
    #[must_use]
    pub fn create(
        block: BlockRef,
        token: Bytes,
        client_name: String,
        targets: &[Target],
        chunks: ChunkFormat,
    ) -> Option<Self> {
        let (first, rest) = targets.split_first()?;
        let new_stamp = block.stamp;
        Some(Self {
            block,
            token,
            client_name,
            storage: Some(first.storage.clone()),
            targets: rest.to_vec(),
            pipeline_size: targets.len() as u32,
            stage: WriteStage::PipelineSetupCreate,
            new_stamp,
            min_bytes: 0,
            max_bytes: 0,
            chunks,
            digest_observed: false,
        })
    }
    /// The same set-up for a replica that exists: another stage, the stamp that its nodes get, and what the writer knows of
    /// its length (see [`WriteSetup::min_bytes`] and [`WriteSetup::max_bytes`]).
    #[must_use]
    pub fn resume(self, stage: WriteStage, new_stamp: GenerationStamp, (min_bytes, max_bytes): (u64, u64)) -> Self {
        Self { stage, new_stamp, min_bytes, max_bytes, ..self }
    }
    /// What the receiver of this sends to the next node; `None` at the end of the pipeline.
    #[must_use]
    pub fn for_next(&self) -> Option<Self> {
        let (next, rest) = self.targets.split_first()?;
        Some(Self { storage: Some(next.storage.clone()), targets: rest.to_vec(), ..self.clone() })
    }
    /// As an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the token is not one.
    pub fn to_op(&self) -> Result<Op, WireError> {
        Ok(Op::Write(Box::new(OpWriteBlock {
            header: header(&self.block, &self.token, &self.client_name)?,
            targets: self.targets.iter().map(Target::to_wire).collect(),
            source: None,
            stage: self.stage as i32,
            pipeline_size: self.pipeline_size,
            min_bytes_rcvd: self.min_bytes,
            max_bytes_rcvd: self.max_bytes,
            latest_generation_stamp: self.new_stamp.raw(),
            requested_checksum: self.chunks.to_wire(),
            storage_id: self.storage.as_ref().map(|storage| storage.as_str().to_owned()),
            target_storage_ids: self.targets.iter().map(|target| target.storage.as_str().to_owned()).collect(),
            digest_observed: self.digest_observed.then_some(true),
            ..OpWriteBlock::default()
        })))
    }
    /// Checks an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`], naming the field.
    pub fn from_op(op: &OpWriteBlock) -> Result<Self, WireError> {
        let bad = |why: String| WireError::malformed("WRITE_BLOCK", why);
        let targets = op.targets.len();
        if targets >= MAX_PIPELINE_NODES {
            return Err(bad(format!("{targets} targets")));
        }
        let base = &op.header.base_header;
        let block = BlockRef::from_wire(&base.block)?;
        if op.min_bytes_rcvd > op.max_bytes_rcvd {
            let (min, max) = (op.min_bytes_rcvd, op.max_bytes_rcvd);
            return Err(bad(format!("{min} bytes acknowledged, but {max} sent")));
        }
        let storage = match op.storage_id.as_deref() {
            None | Some("") => None,
            Some(text) => Some(StorageId::parse(text).map_err(|error| bad(error.to_string()))?),
        };
        Ok(Self {
            token: token_bytes(base),
            client_name: op.header.client_name.clone(),
            storage,
            targets: targets_from_wire(&op.targets, &op.target_storage_ids)?,
            pipeline_size: op.pipeline_size,
            stage: WriteStage::try_from(op.stage).map_err(|error| bad(error.to_string()))?,
            // Hadoop sends 0 for a new block: no other stamp than the block's.
            new_stamp: match op.latest_generation_stamp {
                0 => block.stamp,
                stamp => GenerationStamp::from_raw(stamp),
            },
            min_bytes: op.min_bytes_rcvd,
            max_bytes: op.max_bytes_rcvd,
            chunks: ChunkFormat::from_wire(&op.requested_checksum)?,
            digest_observed: op.digest_observed.unwrap_or(false),
            block,
        })
    }
}

/// Targets of an operation, with the storages named beside them.
pub(crate) fn targets_from_wire(nodes: &[DatanodeInfo], storages: &[String]) -> Result<Vec<Target>, WireError> {
    let mut storages = storages.iter();
    let target = |info: &DatanodeInfo| {
        let id = &info.id;
        // Hadoop clients may leave the storages out; the node then chooses, told so by this well-formed none.
        let storage = storages.next().map_or(ANY_STORAGE, String::as_str);
        Target::checked(&id.datanode_uuid, storage, id.ip_addr.clone(), id.xfer_port)
    };
    nodes.iter().map(target).collect()
}

/// READ_BLOCK in words of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSetup {
    /// The block; `len_bytes` is the length that the reader knows of.
    pub block: BlockRef,
    /// Block token, as the namenode gave it.
    pub token: Bytes,
    /// Name of the reading client.
    pub client_name: String,
    /// First byte wanted.
    pub offset_bytes: u64,
    /// Bytes wanted.
    pub len_bytes: u64,
    /// False: data without checksums.
    pub send_checksums: bool,
}

impl ReadSetup {
    /// As an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the token is not one.
    pub fn to_op(&self) -> Result<Op, WireError> {
        Ok(Op::Read(Box::new(OpReadBlock {
            header: header(&self.block, &self.token, &self.client_name)?,
            offset: self.offset_bytes,
            len: self.len_bytes,
            send_checksums: Some(self.send_checksums),
            caching_strategy: None,
        })))
    }
    /// Checks an operation.
    ///
    /// # Errors
    /// [`WireError::Malformed`], naming the field.
    pub fn from_op(op: &OpReadBlock) -> Result<Self, WireError> {
        let base = &op.header.base_header;
        Ok(Self {
            block: BlockRef::from_wire(&base.block)?,
            token: token_bytes(base),
            client_name: op.header.client_name.clone(),
            offset_bytes: op.offset,
            len_bytes: op.len,
            send_checksums: op.send_checksums.unwrap_or(true),
        })
    }
}

pub(crate) fn header(block: &BlockRef, token: &Bytes, client_name: &str) -> Result<ClientOperationHeader, WireError> {
    Ok(ClientOperationHeader { base_header: base_header(block, token)?, client_name: client_name.to_owned() })
}

pub(crate) fn base_header(block: &BlockRef, token: &Bytes) -> Result<BaseHeader, WireError> {
    let token = match token.is_empty() {
        true => None,
        false => {
            Some(Token::decode(token.clone()).map_err(|error| WireError::malformed("block token", error.to_string()))?)
        }
    };
    Ok(BaseHeader { block: block.to_wire(), token, trace_info: None })
}

pub(crate) fn token_bytes(base: &BaseHeader) -> Bytes {
    base.token.as_ref().map(|token| Bytes::from(token.encode_to_vec())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
