//! Answers as sessions and images keep them: `docs/formats/image.md`, section of outcomes.
#![deny(clippy::indexing_slicing)]

use prost::Message;
use proto::common::ErrorDetail;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp, InodeId, LeaseEpoch};
use proto::namespace::FileStatus;

use super::{Answer, NewBlock, Outcome, ReopenedBlock, StorageIndex};

#[derive(Clone, PartialEq, Message)]
struct AnswerRecord {
    #[prost(message, optional, tag = "1")]
    refusal: Option<ErrorDetail>,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(message, optional, tag = "3")]
    status: Option<FileStatus>,
    #[prost(uint64, tag = "4")]
    inode: u64,
    #[prost(uint64, tag = "5")]
    lease_epoch: u64,
    #[prost(message, optional, tag = "6")]
    block: Option<NewBlockRecord>,
    #[prost(uint64, repeated, tag = "7")]
    numbers: Vec<u64>,
    #[prost(string, tag = "8")]
    text: String,
    /// Of a block that may be written again: its new stamp and its length.
    #[prost(uint64, repeated, tag = "9")]
    reopened: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct NewBlockRecord {
    #[prost(sint64, tag = "1")]
    id: i64,
    #[prost(uint64, tag = "2")]
    stamp: u64,
    #[prost(uint64, tag = "3")]
    offset_bytes: u64,
    #[prost(uint32, tag = "4")]
    replication: u32,
    #[prost(uint64, tag = "5")]
    block_size_bytes: u64,
    #[prost(uint32, repeated, tag = "6")]
    storages: Vec<u32>,
}

const DONE: u32 = 1;
const MKDIR: u32 = 2;
const CREATE: u32 = 3;
const ADD_BLOCK: u32 = 4;
const COMPLETE: u32 = 5;
const DELETED: u32 = 6;
const RECLAIMED: u32 = 7;
const STORAGE_REGISTERED: u32 = 8;
const STATUS: u32 = 9;
const NAMED: u32 = 10;
const NEW_STAMP: u32 = 11;
const APPENDING: u32 = 12;
const TRUNCATED: u32 = 13;
const RECOVERING: u32 = 14;

/// Encodes what a caller was told, without a copy of what is in it.
pub(super) fn encode(result: &FsResult<Outcome>) -> Answer {
    let outcome = match result {
        Err(refusal) => {
            let record = AnswerRecord { refusal: Some(refusal.to_detail()), ..AnswerRecord::default() };
            return record.encode_to_vec().into();
        }
        Ok(outcome) => outcome,
    };
    let mut fields = AnswerRecord { kind: kind_of(outcome), ..AnswerRecord::default() };
    let mut status = None;
    match outcome {
        Outcome::Done => {}
        Outcome::Mkdir(of) | Outcome::Complete(of) | Outcome::Status(of) => status = Some(of),
        Outcome::Create { inode, lease_epoch, first_block, status: of } => {
            (fields.inode, fields.lease_epoch) = (inode.raw(), lease_epoch.raw());
            fields.block = first_block.as_ref().map(block_record);
            status = Some(of);
        }
        Outcome::AddBlock(block) => fields.block = Some(block_record(block)),
        Outcome::Deleted { files, directories } => fields.numbers = vec![*files, *directories],
        Outcome::Reclaimed { pending } => fields.numbers = vec![*pending],
        Outcome::StorageRegistered(index) => fields.numbers = vec![u64::from(index.0)],
        Outcome::Named(text) => fields.text.clone_from(text),
        Outcome::NewStamp { stamp, more } => {
            fields.numbers =
                std::iter::once(stamp.raw()).chain(more.iter().map(|storage| u64::from(storage.0))).collect();
        }
        Outcome::Appending { inode, lease_epoch, status: of, last } => {
            (fields.inode, fields.lease_epoch) = (inode.raw(), lease_epoch.raw());
            if let Some(last) = last {
                (fields.block, fields.reopened) =
                    (Some(reopened_record(last)), vec![last.new_stamp.raw(), last.len_bytes]);
            }
            status = Some(of);
        }
        Outcome::Truncated { status: of, done: flag } | Outcome::Recovering { status: of, closed: flag } => {
            fields.numbers = vec![u64::from(*flag)];
            status = Some(of);
        }
    }
    // In the order of tags: the kind, the status, then the rest.
    let mut bytes = Vec::with_capacity(256);
    prost::encoding::uint32::encode(2, &std::mem::take(&mut fields.kind), &mut bytes);
    if let Some(status) = status {
        prost::encoding::message::encode(3, status, &mut bytes);
    }
    fields.encode_raw(&mut bytes);
    bytes.as_slice().into()
}

const fn kind_of(outcome: &Outcome) -> u32 {
    match outcome {
        Outcome::Done => DONE,
        Outcome::Mkdir(_) => MKDIR,
        Outcome::Create { .. } => CREATE,
        Outcome::AddBlock(_) => ADD_BLOCK,
        Outcome::Complete(_) => COMPLETE,
        Outcome::Deleted { .. } => DELETED,
        Outcome::Reclaimed { .. } => RECLAIMED,
        Outcome::StorageRegistered(_) => STORAGE_REGISTERED,
        Outcome::Status(_) => STATUS,
        Outcome::Named(_) => NAMED,
        Outcome::NewStamp { .. } => NEW_STAMP,
        Outcome::Appending { .. } => APPENDING,
        Outcome::Truncated { .. } => TRUNCATED,
        Outcome::Recovering { .. } => RECOVERING,
    }
}

/// Decodes an answer of [`encode`]; anything else is an answer that is lost.
pub(super) fn decode(bytes: &[u8]) -> FsResult<Outcome> {
    let record = AnswerRecord::decode(bytes).map_err(|error| lost(&error.to_string()))?;
    match record.refusal {
        Some(refusal) => Err(FsError::from_detail(refusal)),
        None => outcome_of(record).ok_or_else(|| lost("it is of an unknown kind"))?,
    }
}

fn lost(why: &str) -> FsError {
    FsError::new(ErrorCode::OutcomeUnknown, format!("the remembered answer cannot be read: {why}"))
}

fn outcome_of(record: AnswerRecord) -> Option<FsResult<Outcome>> {
    let mut numbers = record.numbers.iter().copied();
    Some(Ok(match record.kind {
        DONE => Outcome::Done,
        MKDIR => Outcome::Mkdir(record.status?),
        CREATE => Outcome::Create {
            inode: InodeId::from_raw(record.inode),
            lease_epoch: LeaseEpoch::from_raw(record.lease_epoch),
            first_block: record.block.map(new_block),
            status: record.status?,
        },
        ADD_BLOCK => Outcome::AddBlock(new_block(record.block?)),
        COMPLETE => Outcome::Complete(record.status?),
        DELETED => Outcome::Deleted { files: numbers.next()?, directories: numbers.next()? },
        RECLAIMED => Outcome::Reclaimed { pending: numbers.next()? },
        STORAGE_REGISTERED => Outcome::StorageRegistered(StorageIndex(u32::try_from(numbers.next()?).ok()?)),
        STATUS => Outcome::Status(record.status?),
        NAMED => Outcome::Named(record.text),
        NEW_STAMP => Outcome::NewStamp {
            stamp: GenerationStamp::from_raw(numbers.next()?),
            more: numbers.map(|index| u32::try_from(index).ok().map(StorageIndex)).collect::<Option<_>>()?,
        },
        APPENDING => Outcome::Appending {
            inode: InodeId::from_raw(record.inode),
            lease_epoch: LeaseEpoch::from_raw(record.lease_epoch),
            status: record.status?,
            last: match record.block {
                Some(block) => Some(reopened(block, &record.reopened)?),
                None => None,
            },
        },
        TRUNCATED => Outcome::Truncated { status: record.status?, done: numbers.next()? == 1 },
        RECOVERING => Outcome::Recovering { status: record.status?, closed: numbers.next()? == 1 },
        _ => return None,
    }))
}

fn block_record(block: &NewBlock) -> NewBlockRecord {
    NewBlockRecord {
        id: block.block.raw(),
        stamp: block.stamp.raw(),
        offset_bytes: block.offset_bytes,
        replication: block.replication,
        block_size_bytes: block.block_size_bytes,
        storages: block.storages.iter().map(|storage| storage.0).collect(),
    }
}

fn new_block(record: NewBlockRecord) -> NewBlock {
    NewBlock {
        block: BlockId::from_raw(record.id),
        stamp: GenerationStamp::from_raw(record.stamp),
        offset_bytes: record.offset_bytes,
        replication: record.replication,
        block_size_bytes: record.block_size_bytes,
        storages: record.storages.into_iter().map(StorageIndex).collect(),
    }
}

fn reopened_record(block: &ReopenedBlock) -> NewBlockRecord {
    NewBlockRecord {
        id: block.block.raw(),
        stamp: block.stamp.raw(),
        offset_bytes: block.offset_bytes,
        replication: block.replication,
        block_size_bytes: block.block_size_bytes,
        storages: block.storages.iter().map(|storage| storage.0).collect(),
    }
}

fn reopened(record: NewBlockRecord, numbers: &[u64]) -> Option<ReopenedBlock> {
    let [new_stamp, len_bytes] = numbers else { return None };
    let NewBlock { block, stamp, offset_bytes, replication, block_size_bytes, storages } = new_block(record);
    let new_stamp = GenerationStamp::from_raw(*new_stamp);
    let len_bytes = *len_bytes;
    Some(ReopenedBlock { block, stamp, new_stamp, len_bytes, offset_bytes, block_size_bytes, replication, storages })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_answer_comes_back() {
        let status = FileStatus { path: "/a".into(), mode: 0o644, mtime_ns: i64::MIN, ..FileStatus::default() };
        let block = NewBlock {
            block: BlockId::from_raw(-16),
            stamp: GenerationStamp::from_raw(u64::MAX),
            offset_bytes: 7,
            replication: 512,
            block_size_bytes: 1 << 40,
            storages: vec![StorageIndex(0), StorageIndex((1 << 24) - 1)],
        };
        let reopened = ReopenedBlock {
            block: BlockId::from_raw(9),
            stamp: GenerationStamp::from_raw(1001),
            new_stamp: GenerationStamp::from_raw(u64::MAX),
            len_bytes: 77,
            offset_bytes: 1 << 40,
            block_size_bytes: 1 << 27,
            replication: 3,
            storages: vec![StorageIndex(5)],
        };
        let appending = |last| Outcome::Appending {
            inode: InodeId::from_raw(16386),
            lease_epoch: LeaseEpoch::from_raw(4),
            status: status.clone(),
            last,
        };
        let create = |first_block| Outcome::Create {
            inode: InodeId::from_raw(u64::MAX),
            lease_epoch: LeaseEpoch::from_raw(3),
            first_block,
            status: status.clone(),
        };
        for answer in [
            Ok(Outcome::Done),
            Ok(Outcome::Mkdir(status.clone())),
            Ok(create(None)),
            Ok(create(Some(block.clone()))),
            Ok(Outcome::AddBlock(block)),
            Ok(Outcome::Complete(status.clone())),
            Ok(Outcome::Status(status.clone())),
            Ok(Outcome::Named("/a/.snapshot/s".into())),
            Ok(Outcome::NewStamp { stamp: GenerationStamp::from_raw(7), more: vec![StorageIndex(3), StorageIndex(0)] }),
            Ok(Outcome::NewStamp { stamp: GenerationStamp::from_raw(7), more: vec![] }),
            Ok(appending(None)),
            Ok(appending(Some(reopened))),
            Ok(Outcome::Truncated { status: status.clone(), done: true }),
            Ok(Outcome::Recovering { status: status.clone(), closed: false }),
            Ok(Outcome::Deleted { files: 1, directories: u64::MAX }),
            Ok(Outcome::Reclaimed { pending: 9 }),
            Ok(Outcome::StorageRegistered(StorageIndex(5))),
            Err(FsError::not_found("/x").with_hint("look")),
        ] {
            assert_eq!(decode(&encode(&answer)), answer);
            let whole = answer.as_ref().map(record_of).unwrap_or_default().encode_to_vec();
            assert!(answer.is_err() || *encode(&answer) == *whole, "the same bytes as of the whole record");
        }
    }

    fn record_of(outcome: &Outcome) -> AnswerRecord {
        let empty = AnswerRecord::default();
        match outcome {
            Outcome::Done => AnswerRecord { kind: DONE, ..empty },
            Outcome::Mkdir(status) => AnswerRecord { kind: MKDIR, status: Some(status.clone()), ..empty },
            Outcome::Create { inode, lease_epoch, first_block, status } => AnswerRecord {
                kind: CREATE,
                inode: inode.raw(),
                lease_epoch: lease_epoch.raw(),
                block: first_block.as_ref().map(block_record),
                status: Some(status.clone()),
                ..empty
            },
            Outcome::AddBlock(block) => AnswerRecord { kind: ADD_BLOCK, block: Some(block_record(block)), ..empty },
            Outcome::Complete(status) => AnswerRecord { kind: COMPLETE, status: Some(status.clone()), ..empty },
            Outcome::Deleted { files, directories } => {
                AnswerRecord { kind: DELETED, numbers: vec![*files, *directories], ..empty }
            }
            Outcome::Reclaimed { pending } => AnswerRecord { kind: RECLAIMED, numbers: vec![*pending], ..empty },
            Outcome::StorageRegistered(index) => {
                AnswerRecord { kind: STORAGE_REGISTERED, numbers: vec![u64::from(index.0)], ..empty }
            }
            Outcome::Status(status) => AnswerRecord { kind: STATUS, status: Some(status.clone()), ..empty },
            Outcome::Named(text) => AnswerRecord { kind: NAMED, text: text.clone(), ..empty },
            Outcome::NewStamp { stamp, more } => {
                let numbers = std::iter::once(stamp.raw()).chain(more.iter().map(|storage| u64::from(storage.0)));
                AnswerRecord { kind: NEW_STAMP, numbers: numbers.collect(), ..empty }
            }
            Outcome::Appending { inode, lease_epoch, status, last } => AnswerRecord {
                kind: APPENDING,
                inode: inode.raw(),
                lease_epoch: lease_epoch.raw(),
                block: last.as_ref().map(reopened_record),
                reopened: last.as_ref().map_or_else(Vec::new, |last| vec![last.new_stamp.raw(), last.len_bytes]),
                status: Some(status.clone()),
                ..empty
            },
            Outcome::Truncated { status, done } => {
                AnswerRecord { kind: TRUNCATED, status: Some(status.clone()), numbers: vec![u64::from(*done)], ..empty }
            }
            Outcome::Recovering { status, closed } => {
                let numbers = vec![u64::from(*closed)];
                AnswerRecord { kind: RECOVERING, status: Some(status.clone()), numbers, ..empty }
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_is_a_lost_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // Some garbage is a well-formed record: it only must not panic.
            decode(&bytes).ok();
        }
    }
}
