//! Every message of the contract: round trips, garbage, lengths that claim more than is there.

use proptest::prelude::*;
use prost::Message;

use crate::{cluster, common, log, namespace, raft, store, transfer};

/// Decodes as a message; what decodes must encode to something that decodes to the same.
fn try_one<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(message) = M::decode(bytes) {
        let again = M::decode(message.encode_to_vec().as_slice());
        // NaN is no member of any message, so equality is what it seems.
        prop_assert_eq!(again.as_ref(), Ok(&message));
    }
    M::decode_length_delimited(bytes).ok();
    Ok(())
}

macro_rules! every_message {
    ($($module:ident::$name:ident),* $(,)?) => {
        fn try_all(bytes: &[u8]) -> Result<(), TestCaseError> {
            $(try_one::<$module::$name>(bytes)?;)*
            Ok(())
        }
        fn refuse_all(bytes: &[u8]) {
            $(assert!($module::$name::decode_length_delimited(bytes).is_err(), stringify!($name));)*
        }
    };
}

every_message! {
    common::RequestHeader, common::ErrorDetail, common::Block, common::LocatedBlock, common::StorageLocation,
    common::Receipt,
    namespace::FileStatus, namespace::CreateRequest, namespace::CreateResponse, namespace::AddBlockRequest,
    namespace::CompleteRequest, namespace::RenameRequest, namespace::ListResponse, namespace::OpenResponse,
    namespace::ClusterStatusResponse, namespace::ListNodesResponse,
    cluster::RegisterRequest, cluster::RegisterResponse, cluster::HeartbeatRequest, cluster::HeartbeatResponse,
    cluster::IncrementalReportRequest, cluster::ReportHashesRequest, cluster::ReportBucketsRequest,
    log::Entry, log::Command, log::Settings, log::ImageHeader,
    cluster::NodeCommand, cluster::CommandResult,
    raft::RaftEntry, raft::RaftSnapshot, raft::RaftMessage, raft::HardState, raft::Membership,
    store::NamenodeIdentity, store::VolumeIdentity, store::VolumeTerm,
    transfer::OpReadBlock, transfer::OpWriteBlock, transfer::BlockOpResponse, transfer::ClientReadStatus,
    transfer::PacketHeader, transfer::PipelineAck,
}

#[test]
fn lengths_that_claim_too_much_are_refused() {
    // A message of 2^35 bytes; of 2^63; one whose length never ends.
    for claim in [&[0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0xff; 9], &[0x80; 11]] {
        refuse_all(claim);
    }
    // Inside a message: a string, bytes and a nested message that are longer than what is left.
    for tag in [0x0a_u8, 0x12, 0x1a, 0x22] {
        let bytes = [&[tag, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x61; 40]].concat();
        assert!(log::Entry::decode(bytes.as_slice()).is_err());
        assert!(namespace::ListResponse::decode(bytes.as_slice()).is_err());
    }
    // A hundred thousand messages inside each other: refused, and no stack is used up.
    let mut nested = bytes::BytesMut::new();
    for _ in 0..100_000 {
        nested.extend_from_slice(&[0x2a, 0xff, 0xff, 0x03]);
    }
    assert!(log::Entry::decode(nested.freeze()).is_err());
}

#[test]
fn an_entry_of_a_newer_program_keeps_its_version() {
    // Field 200 and the command 99 are not known here: they are skipped, and the version says that they matter.
    let mut bytes = log::Entry { version: 9, ..log::Entry::default() }.encode_to_vec();
    bytes.extend_from_slice(&[0xc2, 0x0c, 0x01, 0x07]);
    bytes.extend_from_slice(&[0x2a, 0x03, 0x9a, 0x06, 0x00]);
    let entry = log::Entry::decode(bytes.as_slice()).unwrap();
    assert_eq!((entry.version, entry.commands.len()), (9, 1));
    assert!(entry.commands[0].op.is_none(), "an unknown command is none, not another one");
}

proptest! {
    #[test]
    fn garbage_is_refused_or_means_what_it_encodes(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        try_all(&bytes)?;
    }

    #[test]
    fn damaged_entries_are_refused_or_mean_what_they_encode(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let create = log::Create { path: "/a/b".into(), first_block_storages: vec!["DS-1".into()], ..Default::default() };
        let command = log::Command {
            session: vec![7; 16].into(), call: u64::MAX, op: Some(log::command::Op::Create(create)), ..Default::default()
        };
        let callers = vec![log::CallerRecord { user: "ann".into(), groups: vec!["g".into()] }];
        let entry = log::Entry { version: 1, leader_wall_ns: i64::MIN, callers, commands: vec![command], ..Default::default() };
        let mut bytes = entry.encode_to_vec();
        prop_assert_eq!(log::Entry::decode(bytes.as_slice()), Ok(entry));
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        try_all(&bytes)?;
        let len = cut.index(bytes.len());
        try_all(&bytes[..len])?;
    }
}
