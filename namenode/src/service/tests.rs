//! Service functions over a namespace with files and a block map without nodes.

use base::clock::Moment;
use base::random::SeededRandom;
use parking_lot::RwLock;
use proto::PROTOCOL_VERSION;
use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError};
use proto::ids::LogIndex;
use proto::log::command::Op;
use proto::log::{self, CallerRecord, Command, CommittedBlock, Entry, Settings};
use proto::namespace as n;

use super::read::Read;
use super::request::{Request, Response};
use super::walk::{LOCATIONS_AT_ONCE, OPEN_BLOCKS};
use super::write::Prepared;
use super::{MemberStatus, View};
use crate::blocks::{BlockManager, BlocksConfig};
use crate::core::Leases;
use crate::namespace::{Namespace, NewBlock, Outcome};

const SESSION: [u8; 16] = [7; 16];

struct Bench {
    namespace: Namespace,
    blocks: BlockManager,
    leases: RwLock<Leases>,
    call: u64,
}

fn root() -> CallerRecord {
    CallerRecord { user: "root".into(), groups: Vec::new() }
}

impl Bench {
    fn new() -> Self {
        let blocks = BlockManager::new(BlocksConfig::default(), Moment::default());
        let mut bench = Self { namespace: Namespace::new(), blocks, leases: RwLock::new(Leases::default()), call: 0 };
        let settings = Settings {
            superuser_group: "supergroup".into(),
            default_replication: 3,
            default_block_size_bytes: 4096,
            max_replication: 512,
            min_block_size_bytes: 512,
            max_block_size_bytes: 1 << 40,
            lease_hard_limit_ms: 60_000,
            feature_level: 1,
            max_blocks_per_file: 10_000,
            max_directory_entries: 1000,
            ..Default::default()
        };
        bench.apply(Op::Format(log::Format {
            cluster: "CID-1".into(),
            pool: "BP-1".into(),
            superuser: "root".into(),
            settings: Some(settings),
        }));
        bench.apply(Op::RegisterStorage(log::RegisterStorage {
            storage: "DS-1".into(),
            node: "node-1".into(),
            ..Default::default()
        }));
        bench
    }
    fn header(&self, call: u64) -> Option<RequestHeader> {
        Some(RequestHeader {
            protocol_version: PROTOCOL_VERSION,
            user: "root".into(),
            session: SESSION.to_vec().into(),
            call,
            lowest_unanswered: 1,
            ..RequestHeader::default()
        })
    }
    fn apply(&mut self, op: Op) -> Outcome {
        self.call += 1;
        let session = if matches!(op, Op::Create(_)) { SESSION.to_vec().into() } else { bytes::Bytes::new() };
        let command = Command { session, call: self.call, lowest_unanswered: 1, op: Some(op), caller: 0 };
        let entry = Entry { version: 1, callers: vec![root()], commands: vec![command], ..Entry::default() };
        let (index, term) = self.namespace.applied();
        let next = LogIndex::from_raw(index.raw() + 1);
        self.namespace.apply(next, term, &entry).remove(0).result.unwrap()
    }
    fn view(&self) -> View<'_> {
        View {
            namespace: &self.namespace,
            blocks: &self.blocks,
            member: MemberStatus::default(),
            leases: &self.leases,
            wall_ns: 0,
            token_life_ms: 1000,
        }
    }
    fn prepare(&self, request: impl Into<Request>) -> Result<Prepared, FsError> {
        self.view().prepare(&request.into(), &SeededRandom::new(1)).unwrap()
    }
    /// A file of blocks of one byte each, left open.
    fn file(&mut self, path: &str, replication: u32, blocks: usize) {
        let storages = || vec!["DS-1".to_owned()];
        // Without a session, so that every writer's call may come without one.
        let create = log::Create {
            path: path.into(),
            replication,
            publish_at_once: true,
            with_first_block: true,
            first_block_storages: storages(),
            unmasked_mode: None,
            ..log::Create::default()
        };
        let entry = Entry {
            version: 1,
            callers: vec![root()],
            commands: vec![Command { op: Some(Op::Create(create)), ..Command::default() }],
            ..Entry::default()
        };
        let (index, term) = self.namespace.applied();
        let applied = self.namespace.apply(LogIndex::from_raw(index.raw() + 1), term, &entry).remove(0);
        let Ok(Outcome::Create { inode, lease_epoch, first_block: Some(mut last), .. }) = applied.result else {
            panic!("{applied:?}")
        };
        let done = |block: &NewBlock| {
            Some(CommittedBlock {
                id: block.block.raw(),
                stamp: block.stamp.raw(),
                len_bytes: 1,
                storages: storages(),
                ..CommittedBlock::default()
            })
        };
        let (inode, lease_epoch) = (inode.raw(), lease_epoch.raw());
        for _ in 0..blocks {
            let add = log::AddBlock { inode, lease_epoch, previous: done(&last), storages: storages() };
            let Outcome::AddBlock(next) = self.apply(Op::AddBlock(add)) else { panic!() };
            last = next;
        }
    }
    fn open(&self, path: &str, offset_bytes: u64, len_bytes: u64) -> n::OpenResponse {
        self.open_in_steps(path, offset_bytes, len_bytes).0
    }
    /// And in how many steps.
    fn open_in_steps(&self, path: &str, offset_bytes: u64, len_bytes: u64) -> (n::OpenResponse, usize) {
        let request = n::OpenRequest {
            header: self.header(1),
            path: path.into(),
            offset_bytes,
            len_bytes,
            client_host: String::new(),
            ..n::OpenRequest::default()
        };
        let mut walk = match self.view().read(&root(), &request.into(), Moment::default()) {
            Some(Read::Answered(Ok(Response::Open(answer)))) => return (answer, 1),
            Some(Read::Walking(walk)) => walk,
            other => panic!("{other:?}"),
        };
        let mut steps = 2;
        while !walk.step(&self.view()).unwrap() {
            steps += 1;
        }
        match walk.answer() {
            Response::Open(answer) => (answer, steps),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_create_that_no_datanode_could_help_is_refused_as_what_it_is() {
    let bench = Bench::new();
    let create = |replication, block_size_bytes| {
        let request = n::CreateRequest {
            header: bench.header(1),
            path: "/f".into(),
            replication,
            block_size_bytes,
            with_first_block: true,
            ..n::CreateRequest::default()
        };
        bench.prepare(request).unwrap_err()
    };
    for (replication, block_size_bytes) in [(513, 0), (u32::MAX, 0), (0, 511), (0, 513), (0, u64::MAX)] {
        let error = create(replication, block_size_bytes);
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{replication} {block_size_bytes}");
        assert!(!error.retryable());
    }
    assert_eq!(create(0, 0).code, ErrorCode::NotEnoughNodes, "no datanode is here");
}

#[test]
fn n_7_a_remembered_create_is_passed_on_whatever_became_of_the_datanodes() {
    let mut bench = Bench::new();
    let call = bench.call + 1;
    bench.apply(Op::Create(log::Create { path: "/f".into(), ..log::Create::default() }));
    for block_size_bytes in [0, 7] {
        let request = n::CreateRequest {
            header: bench.header(call),
            path: "/f".into(),
            block_size_bytes,
            with_first_block: true,
            ..n::CreateRequest::default()
        };
        assert!(matches!(bench.prepare(request), Ok(Prepared::Propose(Op::Create(_)))), "its answer is known");
    }
}

#[test]
fn r_1_open_answers_in_pages() {
    let mut bench = Bench::new();
    bench.file("/long", 1, 2500);
    let (mut offset_bytes, mut pages) = (0, Vec::new());
    loop {
        let page = bench.open("/long", offset_bytes, 0);
        let offsets: Vec<u64> = page.blocks.iter().map(|block| block.offset_bytes).collect();
        assert!(offsets.iter().copied().eq(offset_bytes..offset_bytes + offsets.len() as u64));
        assert_eq!(page.status.unwrap().len_bytes, 2500);
        assert!(page.blocks.iter().rev().skip(1).all(|block| !block.open), "only the last one is open");
        offset_bytes += offsets.len() as u64;
        pages.push(offsets.len());
        if page.blocks.last().is_some_and(|block| block.open) {
            break;
        }
    }
    assert_eq!(pages, [1000, 1000, 501], "the open last block is the last of them");
    assert_eq!(bench.open("/long", 1200, 7).blocks.len(), 7);
    assert!(bench.open("/long", 1200, 7).blocks.iter().all(|block| !block.open));
    let beyond = bench.open("/long", 1 << 60, 1 << 60).blocks;
    assert!(beyond.len() == 1 && beyond[0].open, "its replicas may know more of it");
    // Many copies make smaller pages, and at least one block.
    bench.file("/wide", 512, 100);
    assert_eq!(bench.open("/wide", 0, 0).blocks.len(), 20_000 / 512);
    assert_eq!(bench.open("/wide", 99, 1).blocks.len(), 1);
    // A page takes as many steps as its locations need, whatever it holds.
    assert_eq!(bench.open_in_steps("/long", 0, 100).1, 1);
    assert_eq!(bench.open_in_steps("/long", 0, 0).1, OPEN_BLOCKS.div_ceil(LOCATIONS_AT_ONCE));
    assert_eq!(bench.open_in_steps("/wide", 0, 0).1, 20_000 / 512);
}
