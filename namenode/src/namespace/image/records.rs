//! The records of an image. Durable: fields are only ever added (`docs/formats/image.md`).

use bytes::Bytes;
use prost::Message;
use proto::log::Settings;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Meta {
    #[prost(bool, tag = "1")]
    pub(super) formatted: bool,
    #[prost(string, tag = "2")]
    pub(super) cluster: String,
    #[prost(string, tag = "3")]
    pub(super) pool: String,
    #[prost(string, tag = "4")]
    pub(super) superuser: String,
    #[prost(message, optional, tag = "5")]
    pub(super) settings: Option<Settings>,
    #[prost(uint64, tag = "6")]
    pub(super) index: u64,
    #[prost(uint64, tag = "7")]
    pub(super) term: u64,
    #[prost(uint64, tag = "8")]
    pub(super) next_inode: u64,
    #[prost(sint64, tag = "9")]
    pub(super) next_block: i64,
    #[prost(uint64, tag = "10")]
    pub(super) next_stamp: u64,
    #[prost(uint64, tag = "11")]
    pub(super) next_epoch: u64,
    #[prost(uint64, tag = "12")]
    pub(super) log_time_ms: u64,
    #[prost(uint64, tag = "13")]
    pub(super) last_snapshot: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Text {
    #[prost(string, tag = "1")]
    pub(super) text: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Storage {
    #[prost(string, tag = "1")]
    pub(super) storage: String,
    #[prost(string, tag = "2")]
    pub(super) node: String,
    #[prost(string, tag = "3")]
    pub(super) media: String,
    #[prost(string, tag = "4")]
    pub(super) rack: String,
    /// Of its node, in the first record of it: 2 decommissioned, 3 maintenance; 0: in service.
    #[prost(uint32, tag = "5")]
    pub(super) service: u32,
    /// End of the maintenance in ms of the log's time; 0: none.
    #[prost(uint64, tag = "6")]
    pub(super) service_until_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Key {
    #[prost(uint32, tag = "1")]
    pub(super) number: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InodeRecord {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// 0: the root, or not linked.
    #[prost(uint64, tag = "2")]
    pub(super) parent: u64,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(uint32, tag = "4")]
    pub(super) kind: u32,
    #[prost(uint32, tag = "5")]
    pub(super) flags: u32,
    #[prost(uint32, tag = "6")]
    pub(super) mode: u32,
    #[prost(uint32, tag = "7")]
    pub(super) owner: u32,
    #[prost(uint32, tag = "8")]
    pub(super) group: u32,
    #[prost(sfixed64, tag = "9")]
    pub(super) mtime_ns: i64,
    #[prost(sfixed64, tag = "10")]
    pub(super) ctime_ns: i64,
    #[prost(sfixed64, tag = "11")]
    pub(super) atime_ns: i64,
    #[prost(uint32, tag = "12")]
    pub(super) replication: u32,
    #[prost(uint32, tag = "13")]
    pub(super) block_size_units: u32,
    /// Of a further entry: its inode.
    #[prost(uint64, tag = "14")]
    pub(super) target: u64,
    /// Of a symbolic link: what it names.
    #[prost(string, tag = "15")]
    pub(super) symlink: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct XattrRecord {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// Kinds: 0 owner, 1 user, 2 owning group, 3 group, 4 mask, 5 other.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AclRecord {
    #[prost(uint32, tag = "1")]
    pub(super) kind: u32,
    /// Of the interned name.
    #[prost(uint32, tag = "2")]
    pub(super) number: u32,
    #[prost(uint32, tag = "3")]
    pub(super) rights: u32,
}

/// What an inode has in side tables.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributesRecord {
    #[prost(uint64, tag = "1")]
    pub(super) inode: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) xattrs: Vec<XattrRecord>,
    #[prost(message, repeated, tag = "3")]
    pub(super) acl_access: Vec<AclRecord>,
    #[prost(message, repeated, tag = "4")]
    pub(super) acl_default: Vec<AclRecord>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) name_quota: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(super) space_quota_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotRecord {
    #[prost(uint64, tag = "1")]
    pub(super) directory: u64,
    #[prost(uint64, tag = "2")]
    pub(super) id: u64,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(sfixed64, tag = "4")]
    pub(super) created_ns: i64,
}

/// Exactly one of them.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) birth: Option<BirthRecord>,
    #[prost(message, optional, tag = "2")]
    pub(super) ghost: Option<GhostRecord>,
    #[prost(message, optional, tag = "3")]
    pub(super) version: Option<VersionRecord>,
    #[prost(message, optional, tag = "4")]
    pub(super) cut: Option<CutRecord>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct CutRecord {
    #[prost(uint64, tag = "1")]
    pub(super) inode: u64,
    #[prost(uint64, tag = "2")]
    pub(super) position: u64,
    #[prost(uint64, tag = "3")]
    pub(super) died: u64,
    #[prost(sint64, tag = "4")]
    pub(super) block: i64,
    #[prost(uint64, tag = "5")]
    pub(super) born: u64,
    #[prost(uint64, tag = "6")]
    pub(super) root: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct BirthRecord {
    #[prost(uint64, tag = "1")]
    pub(super) entry: u64,
    #[prost(uint64, tag = "2")]
    pub(super) born: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GhostRecord {
    #[prost(uint64, tag = "1")]
    pub(super) directory: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(uint64, tag = "3")]
    pub(super) died: u64,
    #[prost(uint64, tag = "4")]
    pub(super) inode: u64,
    #[prost(uint64, tag = "5")]
    pub(super) born: u64,
    #[prost(uint64, tag = "6")]
    pub(super) root: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionRecord {
    /// Fields of the inode at that time; no parent, name and target.
    #[prost(message, optional, tag = "1")]
    pub(super) inode: Option<InodeRecord>,
    #[prost(uint64, tag = "2")]
    pub(super) snapshot: u64,
    #[prost(uint64, tag = "3")]
    pub(super) blocks: u64,
    #[prost(uint64, tag = "4")]
    pub(super) len_bytes: u64,
    #[prost(uint64, tag = "5")]
    pub(super) root: u64,
    /// Extended attributes and ACL of that time, if it had any.
    #[prost(message, optional, tag = "6")]
    pub(super) attributes: Option<AttributesRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SweepRecord {
    #[prost(uint64, tag = "1")]
    pub(super) directory: u64,
    #[prost(string, tag = "2")]
    pub(super) after: String,
    #[prost(uint64, tag = "3")]
    pub(super) died: u64,
    /// Not 0: no sweep, but where the search for what no snapshot sees stands (1 states, 2 births, 3 ghosts, 4 cuts).
    #[prost(uint32, tag = "4")]
    pub(super) purge: u32,
    #[prost(uint32, tag = "5")]
    pub(super) shard: u32,
    /// Of a cut: the number of its block.
    #[prost(uint64, tag = "6")]
    pub(super) position: u64,
}

/// Written and read by hand (`encode`, `decode`); the tests hold that against this.
#[cfg(test)]
#[derive(Clone, PartialEq, Message)]
pub(super) struct BlockRecord {
    #[prost(uint64, tag = "1")]
    pub(super) inode: u64,
    #[prost(sint64, tag = "2")]
    pub(super) id: i64,
    #[prost(uint64, tag = "3")]
    pub(super) stamp: u64,
    #[prost(uint64, tag = "4")]
    pub(super) len_bytes: u64,
    #[prost(uint32, tag = "5")]
    pub(super) flags: u32,
    #[prost(uint32, repeated, tag = "6")]
    pub(super) storages: Vec<u32>,
    #[prost(bytes = "bytes", tag = "7")]
    pub(super) digest: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OpenRecord {
    #[prost(uint64, tag = "1")]
    pub(super) inode: u64,
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) session: Bytes,
    /// 0: the file is visible.
    #[prost(uint64, tag = "4")]
    pub(super) pin_parent: u64,
    #[prost(string, tag = "5")]
    pub(super) pin_name: String,
    #[prost(bool, tag = "6")]
    pub(super) pin_overwrite: bool,
    /// Since version 4. 0: none.
    #[prost(uint64, tag = "7")]
    pub(super) reserved_stamp: u64,
    #[prost(bool, tag = "8")]
    pub(super) recovering: bool,
    /// Only while it is being cut.
    #[prost(uint64, optional, tag = "9")]
    pub(super) target_len_bytes: Option<u64>,
    /// Since version 7.
    #[prost(bool, tag = "10")]
    pub(super) accept_loss: bool,
    #[prost(uint32, repeated, tag = "11")]
    pub(super) offered: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) session: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) seen: u64,
    #[prost(uint64, tag = "3")]
    pub(super) lowest: u64,
    /// First and last call of each range of forgotten ones, in turn.
    #[prost(uint64, repeated, tag = "4")]
    pub(super) forgotten: Vec<u64>,
    /// Number of its answers in the section of answers.
    #[prost(uint32, tag = "5")]
    pub(super) answers: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnswerOfCall {
    #[prost(uint64, tag = "1")]
    pub(super) call: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) answer: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Queued {
    #[prost(uint64, tag = "1")]
    pub(super) inode: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct End {
    /// Records before this one.
    #[prost(uint64, tag = "1")]
    pub(super) records: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) state_hash: u64,
}
