//! Operations on the wire.

use super::*;
use crate::{BorrowSetup, ReplicaStateSetup, TransferSetup, VerifySetup};
use proptest::prelude::*;

fn token() -> Bytes {
    let token = Token {
        identifier: Bytes::from_static(b"id"),
        password: Bytes::from_static(b"pw"),
        kind: "HDFS_BLOCK_TOKEN".into(),
        service: String::new(),
    };
    token.encode_to_vec().into()
}

fn target(n: u16) -> Target {
    Target {
        node: NodeId::new(&format!("node-{n}")),
        storage: StorageId::new(&n.to_string()),
        host: "127.0.0.1".into(),
        transfer_port: n,
    }
}

fn block(id: i64, len_bytes: u64) -> BlockRef {
    BlockRef { pool: PoolId::new("1"), id: BlockId::from_raw(id), stamp: GenerationStamp::FIRST, len_bytes }
}

fn write(id: i64, nodes: u16) -> WriteSetup {
    let targets: Vec<Target> = (1..=nodes).map(target).collect();
    WriteSetup::create(block(id, 9), token(), "c".into(), &targets, ChunkFormat::CRC32C_512).unwrap()
}

#[test]
fn operations_start_as_hadoops() {
    assert_eq!(write(1, 1).to_op().unwrap().encode()[..3], [0x00, 0x1c, 0x50]);
    let read = ReadSetup {
        block: block(1, 9),
        token: token(),
        client_name: "c".into(),
        offset_bytes: 0,
        len_bytes: 9,
        send_checksums: true,
    };
    assert_eq!(read.to_op().unwrap().encode()[..3], [0x00, 0x1c, 0x51]);
}

#[test]
fn strangers_are_told_which_version_is_spoken() {
    let mut http = BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]);
    assert!(matches!(Op::decode(&mut http), Err(WireError::Version { found: 0x4745 })));
    assert!(matches!(Op::read(&mut &b"\x00\x1b\x50"[..]), Err(WireError::Version { found: 27 })));
    assert!(matches!(Op::read(&mut &b"\x00\x1c\x7f"[..]), Err(WireError::UnknownOp { code: 127 })));
    assert!(matches!(Op::read(&mut &b""[..]), Err(WireError::Closed)));
    let two_gibibytes = b"\x00\x1c\x50\xff\xff\xff\xff\x07";
    assert!(matches!(Op::read(&mut &two_gibibytes[..]), Err(WireError::TooLong { .. })));
}

#[test]
fn each_node_of_a_pipeline_gets_the_rest_of_it() {
    let first = write(1, 3);
    let second = first.for_next().unwrap();
    let third = second.for_next().unwrap();
    assert_eq!(second.storage, Some(StorageId::new("2")));
    assert_eq!(second.targets, [target(3)]);
    assert_eq!(third.pipeline_size, 3);
    assert_eq!(third.for_next(), None);
}

#[test]
fn a_stamp_of_zero_means_no_other() {
    let Op::Write(mut op) = write(1, 1).to_op().unwrap() else { panic!("a write") };
    op.latest_generation_stamp = 0;
    assert_eq!(WriteSetup::from_op(&op).unwrap().new_stamp, GenerationStamp::FIRST);
}

#[test]
fn malformed_fields_are_named() {
    let Op::Write(good) = write(1, 2).to_op().unwrap() else { panic!("a write") };
    let spoil = |spoil: &dyn Fn(&mut OpWriteBlock)| {
        let mut op = good.as_ref().clone();
        spoil(&mut op);
        WriteSetup::from_op(&op).unwrap_err().to_string()
    };
    assert!(spoil(&|op| op.header.base_header.block.pool_id = "../..".into()).contains("PoolId"));
    assert!(spoil(&|op| op.storage_id = Some("DS-/etc".into())).contains("StorageId"));
    assert!(spoil(&|op| op.stage = 99).contains("99"));
    assert!(spoil(&|op| op.targets[0].id.xfer_port = 70_000).contains("70000"));
    assert!(spoil(&|op| op.requested_checksum.bytes_per_checksum = 0).contains("0 bytes"));
    assert!(spoil(&|op| op.min_bytes_rcvd = 1).contains("1 bytes acknowledged"));
    assert!(spoil(&|op| op.targets = vec![op.targets[0].clone(); 64]).contains("64"));
}

#[test]
fn resumed_writes_say_stage_stamp_and_lengths_in_hadoops_fields_to_every_node() {
    let stamp = GenerationStamp::from_raw(1005);
    let setup = write(1, 2).resume(WriteStage::PipelineSetupStreamingRecovery, stamp, (512, 700));
    let Op::Write(op) = setup.to_op().unwrap() else { panic!("a write") };
    assert_eq!((op.stage, op.min_bytes_rcvd, op.max_bytes_rcvd, op.latest_generation_stamp), (3, 512, 700, 1005));
    assert_eq!(
        op.header.base_header.block.generation_stamp,
        GenerationStamp::FIRST.raw(),
        "the block's own stamp stays"
    );
    assert_eq!(WriteSetup::from_op(&op).unwrap(), setup);
    let next = setup.for_next().unwrap();
    assert_eq!((next.stage, next.new_stamp, next.min_bytes, next.max_bytes), (setup.stage, stamp, 512, 700));
}

proptest! {
    #[test]
    fn reads_survive_the_wire(id in any::<i64>(), offset_bytes in any::<u64>(), len_bytes in any::<u64>(), send_checksums in any::<bool>()) {
        let block = block(id, len_bytes);
        let setup = ReadSetup { block, token: token(), client_name: "c".into(), offset_bytes, len_bytes, send_checksums };
        let wire = setup.to_op().unwrap().encode();
        let Op::Read(read) = Op::read(&mut &wire[..]).unwrap() else { panic!("a read") };
        prop_assert_eq!(ReadSetup::from_op(&read).unwrap(), setup);
        let decoded = Op::decode(&mut BytesMut::from(&wire[..])).unwrap();
        prop_assert_eq!(decoded, Some(Op::Read(read)));
    }

    #[test]
    fn writes_survive_the_wire(id in any::<i64>(), nodes in 1_u16..5, piece in 1_usize..40) {
        let setup = write(id, nodes);
        let wire = setup.to_op().unwrap().encode();
        let Op::Write(read) = Op::read(&mut &wire[..]).unwrap() else { panic!("a write") };
        prop_assert_eq!(WriteSetup::from_op(&read).unwrap(), setup);
        let (mut arrived, mut decoded) = (BytesMut::new(), None);
        for part in wire.chunks(piece) {
            prop_assert!(decoded.is_none());
            arrived.extend_from_slice(part);
            decoded = Op::decode(&mut arrived).unwrap();
        }
        prop_assert_eq!(decoded, Some(Op::Write(read)));
        prop_assert!(arrived.is_empty());
    }

    #[test]
    fn garbage_never_panics(code in prop_oneof![Just(80_u8), Just(81), Just(86), Just(87), Just(200), Just(201), any::<u8>()], bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut wire = vec![0, 28, code];
        wire.extend(bytes);
        if let Ok(op) = Op::read(&mut &wire[..]) {
            match op {
                Op::Write(op) => drop(WriteSetup::from_op(&op)),
                Op::Read(op) => drop(ReadSetup::from_op(&op)),
                Op::Borrow(op) => drop(BorrowSetup::from_op(&op)),
                Op::Verify(op) => drop(VerifySetup::from_op(&op)),
                Op::Transfer(op) => drop(TransferSetup::from_op(&op)),
                Op::State(op) => drop(ReplicaStateSetup::from_op(&op)),
            }
        }
        let mut buffer = BytesMut::from(&wire[..]);
        while let Ok(Some(_)) = Op::decode(&mut buffer) {}
    }
}
