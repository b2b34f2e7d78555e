//! Datanodes over their real sockets, with a namenode of a few lines.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests are clients of their own, and may fail loudly"
)]

#[path = "transfer/java/mod.rs"]
mod java;
#[path = "transfer/local.rs"]
mod local;
#[path = "transfer/pipeline.rs"]
mod pipeline;
#[path = "transfer/verify.rs"]
mod verify;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use auth::MasterKey;
use auth::token::{self, Claims, Mode};
use base::config::HumanDuration;
use base::task::CancellationToken;
use bytes::Bytes;
use datanode::config::DatanodeConfig;
use datanode::server::{Running, ServerError, start};
use proto::cluster as c;
use proto::cluster::cluster_server::{Cluster, ClusterServer};
use proto::common::{Block, StorageLocation};
use proto::ids::{BlockId, GenerationStamp, NodeId, PoolId, StorageId};
use proto::transfer::BlockOpResponse;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status as GrpcStatus};
use transfer::verify::LeafOrigin;
use transfer::{Ack, BlockRef, ChunkFormat, Packet, PacketBuffer, ReadSetup, Status, Target, WriteSetup, reply};

const FORMAT: ChunkFormat = ChunkFormat::CRC32C_512;
const LONG: Duration = Duration::from_secs(20);

/// What the namenode knows and what it orders.
#[derive(Default)]
struct Script {
    storages: BTreeMap<String, String>,
    reported: BTreeMap<(String, i64), c::ReplicaState>,
    orders: BTreeMap<String, Vec<c::NodeCommand>>,
    results: Vec<c::CommandResult>,
    /// Nodes that have taken the answer to their registration: only then do they send heartbeats.
    alive: std::collections::BTreeSet<String>,
    cluster: String,
    pool: String,
    /// Local doors, by node.
    doors: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Fake(Arc<Mutex<Script>>);

fn master() -> MasterKey {
    MasterKey::new([7; 32])
}

#[tonic::async_trait]
impl Cluster for Fake {
    async fn register(
        &self,
        request: Request<c::RegisterRequest>,
    ) -> Result<Response<c::RegisterResponse>, GrpcStatus> {
        let request = request.into_inner();
        let mut script = self.0.lock().unwrap();
        script.storages.insert(request.node.clone(), request.storages[0].storage.clone());
        script.doors.insert(request.node.clone(), request.local_socket.clone());
        let key = master().node_key(&NodeId::parse(&request.node).unwrap());
        Ok(Response::new(c::RegisterResponse {
            cluster: script.cluster.clone(),
            pool: script.pool.clone(),
            term: 1,
            heartbeat_interval_ms: 100,
            key_number: 1,
            node_key: key.as_bytes().to_vec().into(),
            full_report: true,
            ..c::RegisterResponse::default()
        }))
    }
    async fn heartbeat(
        &self,
        request: Request<c::HeartbeatRequest>,
    ) -> Result<Response<c::HeartbeatResponse>, GrpcStatus> {
        let request = request.into_inner();
        let mut script = self.0.lock().unwrap();
        script.results.extend(request.results);
        script.alive.insert(request.node.clone());
        let commands = script.orders.remove(&request.node).unwrap_or_default();
        let answer = c::HeartbeatResponse { term: 1, leader: true, commands, key_number: 1, ..Default::default() };
        Ok(Response::new(answer))
    }
    async fn incremental_report(
        &self,
        request: Request<c::IncrementalReportRequest>,
    ) -> Result<Response<c::IncrementalReportResponse>, GrpcStatus> {
        let request = request.into_inner();
        let mut script = self.0.lock().unwrap();
        for change in &request.changes {
            script.reported.insert((request.node.clone(), change.id), change.state());
        }
        let next_sequence = request.first_sequence + request.changes.len() as u64;
        Ok(Response::new(c::IncrementalReportResponse { next_sequence, ..Default::default() }))
    }
    async fn report_hashes(
        &self,
        _: Request<c::ReportHashesRequest>,
    ) -> Result<Response<c::ReportHashesResponse>, GrpcStatus> {
        Ok(Response::new(c::ReportHashesResponse::default()))
    }
    async fn report_buckets(
        &self,
        _: Request<c::ReportBucketsRequest>,
    ) -> Result<Response<c::ReportBucketsResponse>, GrpcStatus> {
        Ok(Response::new(c::ReportBucketsResponse::default()))
    }
}

struct Bench {
    script: Arc<Mutex<Script>>,
    namenode: SocketAddr,
    home: tempfile::TempDir,
    nodes: Vec<Running>,
    max_connections: u32,
}

impl Bench {
    async fn new(nodes: usize) -> Self {
        Self::of(nodes, "BP-1", 8).await
    }
    async fn of(nodes: usize, pool: &str, max_connections: u32) -> Self {
        let script = Script { cluster: "CID-1".into(), pool: pool.into(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let listener = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let namenode = listener.local_addr().unwrap();
        let door = tonic::transport::Server::builder().add_service(ClusterServer::new(Fake(Arc::clone(&script))));
        tokio::spawn(door.serve_with_incoming(TcpIncoming::from(listener)));
        let home = tempfile::tempdir().unwrap();
        let mut bench = Self { script, namenode, home, nodes: Vec::new(), max_connections };
        for i in 0..nodes {
            let config = bench.config(&format!("dn{i}"));
            bench.nodes.push(start(config, CancellationToken::new()).await.unwrap());
        }
        let script = Arc::clone(&bench.script);
        eventually("registrations", || script.lock().unwrap().alive.len() == nodes).await;
        bench
    }
    fn config(&self, name: &str) -> DatanodeConfig {
        DatanodeConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            http: "127.0.0.1:0".parse().unwrap(),
            dirs: vec![self.home.path().join(name)],
            namenodes: vec![self.namenode.to_string()],
            max_connections: self.max_connections,
            peer_timeout: HumanDuration(Duration::from_secs(5)),
            // What a whole disk does that hangs is shown elsewhere: here one file does.
            disk_slow_after: HumanDuration(Duration::from_secs(60)),
            disk_hung_after: HumanDuration(Duration::from_secs(120)),
            ..DatanodeConfig::default()
        }
    }
    fn target(&self, node: usize) -> Target {
        let id = self.nodes[node].node.clone();
        let storage = self.script.lock().unwrap().storages[id.as_str()].clone();
        let (host, transfer_port) = ("127.0.0.1".to_owned(), self.nodes[node].address.port());
        Target { node: id, storage: StorageId::parse(&storage).unwrap(), host, transfer_port }
    }
    fn targets(&self) -> Vec<Target> {
        (0..self.nodes.len()).map(|node| self.target(node)).collect()
    }
    fn token(&self, block: &BlockRef, mode: Mode) -> Bytes {
        let claims = Claims {
            pool: block.pool.clone(),
            block: block.id,
            floor: block.stamp,
            ceiling: block.stamp,
            modes: vec![mode],
            user: "ana".into(),
            expires_ms: i64::MAX,
        };
        let nodes: Vec<NodeId> = self.nodes.iter().map(|node| node.node.clone()).collect();
        token::mint(&master(), 1, &claims, &nodes)
    }
    /// Sends a write set-up for `targets`; the socket and the answer.
    fn open_write(&self, block: &BlockRef, targets: &[Target]) -> (TcpStream, BlockOpResponse) {
        let token = self.token(block, Mode::Write);
        let setup = WriteSetup::create(block.clone(), token, "test".into(), targets, FORMAT).unwrap();
        let mut stream = connect(targets[0].transfer_port);
        stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
        let answer = reply::read(&mut stream).unwrap();
        (stream, answer)
    }
    fn write(&self, block: &BlockRef, targets: &[Target], data: &[u8]) -> Ack {
        let (mut stream, answer) = self.open_write(block, targets);
        assert_eq!(reply::status_of(&answer), Status::Success, "{answer:?}");
        send(&mut stream, &Packet::with_data(FORMAT, 0, 0, Bytes::copy_from_slice(data)));
        send(&mut stream, &Packet::last(1, data.len() as u64, false));
        assert_eq!(Ack::read(&mut stream).unwrap().first_bad(), None);
        Ack::read(&mut stream).unwrap()
    }
    /// Reads a whole block from a node; the status of the answer, and the data.
    fn read(&self, block: &BlockRef, node: usize, len_bytes: u64) -> Result<Vec<u8>, Status> {
        let mut stream = connect(self.nodes[node].address.port());
        let data = self.read_on(&mut stream, block, len_bytes)?;
        // The connection serves another operation.
        assert_eq!(self.read_on(&mut stream, block, len_bytes)?, data);
        Ok(data)
    }
    fn read_on(&self, stream: &mut TcpStream, block: &BlockRef, len_bytes: u64) -> Result<Vec<u8>, Status> {
        let setup = ReadSetup {
            block: block.clone(),
            token: self.token(block, Mode::Read),
            client_name: "test".into(),
            offset_bytes: 0,
            len_bytes,
            send_checksums: true,
        };
        stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
        match reply::status_of(&reply::read(stream).unwrap()) {
            Status::Success => {}
            refused => return Err(refused),
        }
        let (mut data, mut buffer) = (Vec::new(), PacketBuffer::new());
        loop {
            let packet = buffer.read(stream).unwrap();
            FORMAT.verify(packet.data, packet.checksums).unwrap();
            data.extend_from_slice(packet.data);
            if packet.head.last {
                stream.write_all(&reply::read_status(Status::ChecksumOk)).unwrap();
                return Ok(data);
            }
        }
    }
    fn order(&self, node: usize, kind: c::node_command::Kind) {
        let command = c::NodeCommand { number: 1, kind: Some(kind) };
        self.script.lock().unwrap().orders.insert(self.nodes[node].node.to_string(), vec![command]);
    }
    async fn result(&self) -> c::CommandResult {
        let script = Arc::clone(&self.script);
        eventually("the result of a command", || !script.lock().unwrap().results.is_empty()).await;
        self.script.lock().unwrap().results.remove(0)
    }
}

/// Looks until a condition holds.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // A last word and the next operation are two small sends in a row.
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, packet: &Packet) {
    let mut bytes = bytes::BytesMut::new();
    packet.encode_into(&mut bytes);
    stream.write_all(&bytes).unwrap();
}

fn block(n: i64) -> BlockRef {
    let id = BlockId::from_raw(BlockId::FIRST.raw() + n);
    BlockRef { pool: PoolId::parse("BP-1").unwrap(), id, stamp: GenerationStamp::FIRST, len_bytes: 1 << 20 }
}

fn files_named(dir: &Path, part: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => files_named(&path, part),
        path => usize::from(path.to_string_lossy().contains(part)),
    };
    entries.flatten().map(count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_goes_through_three_nodes_and_comes_back_from_each() {
    let bench = Bench::new(3).await;
    let data: Vec<u8> = (0..200_001_u32).map(|i| i as u8).collect();
    let last = bench.write(&block(1), &bench.targets(), &data);
    assert_eq!(last.replies, [Status::Success; 3]);
    let storages: Vec<&str> = last.receipts.iter().map(|receipt| receipt.storage.as_str()).collect();
    let targets = bench.targets();
    assert_eq!(storages, targets.iter().map(|target| target.storage.as_str()).collect::<Vec<_>>());
    for node in 0..3 {
        assert!(bench.read(&block(1), node, data.len() as u64).unwrap() == data, "node {node}");
    }
    let script = Arc::clone(&bench.script);
    let whole = c::ReplicaState::Finalized;
    eventually("reports", || script.lock().unwrap().reported.values().filter(|state| **state == whole).count() == 3)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_37_the_node_at_fault_is_named_when_a_pipeline_does_not_come_up() {
    let bench = Bench::new(2).await;
    let mut targets = bench.targets();
    let unused = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
    let nobody = Target { node: NodeId::new("nobody"), storage: StorageId::new("x"), ..targets[0].clone() };
    targets.push(Target { transfer_port: unused.port(), ..nobody });
    let (_, answer) = bench.open_write(&block(1), &targets);
    assert_eq!(reply::status_of(&answer), Status::Error);
    assert_eq!(answer.first_bad_link(), format!("127.0.0.1:{}", unused.port()), "named through two hops");
    // Nothing stays behind on the nodes that were reached.
    let home = bench.home.path().to_owned();
    eventually("partial replicas to go", || files_named(&home, "blk_") == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_the_wire_is_refused_and_never_served() {
    let bench = Bench::new(2).await;
    let (mut stream, answer) = bench.open_write(&block(1), &bench.targets());
    assert_eq!(reply::status_of(&answer), Status::Success);
    let good = Packet::with_data(FORMAT, 0, 0, Bytes::from(vec![5; 1000]));
    send(&mut stream, &Packet { data: Bytes::from(vec![6; 1000]), ..good });
    assert_eq!(Ack::read(&mut stream).unwrap().replies, [Status::ErrorChecksum]);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the connection ends");
    for node in 0..2 {
        assert_eq!(bench.read(&block(1), node, 1000), Err(Status::Error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn v_1_a_writer_that_vanishes_leaves_a_half_written_replica_that_is_told_and_served_as_far_as_was_acknowledged() {
    let bench = Bench::new(2).await;
    let (mut stream, _) = bench.open_write(&block(1), &bench.targets());
    send(&mut stream, &Packet::with_data(FORMAT, 0, 0, Bytes::from(vec![5; 1000])));
    assert_eq!(Ack::read(&mut stream).unwrap().replies, [Status::Success; 2]);
    drop(stream);
    let script = Arc::clone(&bench.script);
    let waiting = c::ReplicaState::WaitingRecovery;
    eventually("reports", || script.lock().unwrap().reported.values().filter(|s| **s == waiting).count() == 2).await;
    assert_eq!(bench.read(&block(1), 1, 1000), Ok(vec![5; 1000]));
    assert_eq!(bench.read(&block(1), 1, 1001), Err(Status::ErrorInvalid));
}

#[tokio::test(flavor = "multi_thread")]
async fn s_4_no_token_opens_another_block_mode_or_stamp() {
    let bench = Bench::new(1).await;
    bench.write(&block(1), &bench.targets(), b"secret");
    let wrong = [
        bench.token(&block(2), Mode::Read),
        bench.token(&block(1), Mode::Write),
        bench.token(&BlockRef { stamp: GenerationStamp::FIRST.next(), ..block(1) }, Mode::Read),
        Bytes::new(),
    ];
    for token in wrong {
        let (client_name, block) = ("test".to_owned(), block(1));
        let setup = ReadSetup { block, token, client_name, offset_bytes: 0, len_bytes: 6, send_checksums: true };
        let mut stream = connect(bench.nodes[0].address.port());
        stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
        let answer = reply::read(&mut stream).unwrap();
        assert_eq!(reply::status_of(&answer), Status::ErrorAccessToken, "{answer:?}");
    }
}

impl Bench {
    /// Has node 0 copy a replica of so many bytes to node 1.
    async fn copy(&self, block: &BlockRef, len_bytes: u64) -> c::CommandResult {
        let (from, to) = (self.target(0), self.target(1));
        let name = Block { pool: "BP-1".into(), id: block.id.raw(), stamp: block.stamp.raw(), len_bytes };
        self.order(
            0,
            c::node_command::Kind::Copy(c::CopyReplica {
                block: Some(name),
                from_storage: from.storage.to_string(),
                targets: vec![StorageLocation {
                    node: to.node.to_string(),
                    storage: to.storage.to_string(),
                    host: to.host.clone(),
                    transfer_port: u32::from(to.transfer_port),
                    ..StorageLocation::default()
                }],
                token: self.token(block, Mode::Copy),
                urgent: false,
            }),
        );
        self.result().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_carries_a_replica_to_another_node_and_a_delete_removes_it() {
    let bench = Bench::new(2).await;
    let data = vec![9; 3_000_000];
    bench.write_with_leaves(&BlockRef { len_bytes: 4 << 20, ..block(1) }, &bench.targets()[..1], &data);
    let result = bench.copy(&block(1), 3_000_000).await;
    assert!(result.ok, "{}", result.error);
    assert!(bench.read(&block(1), 1, 3_000_000).unwrap() == data);
    let copied = bench.verify(&block(1), 1, 0).1.unwrap();
    assert_eq!((copied.damage, copied.leaves), (None, LeafOrigin::Writer), "with its digest");

    let from = bench.target(0);
    let name = Block { pool: "BP-1".into(), id: block(1).id.raw(), stamp: block(1).stamp.raw(), len_bytes: 3_000_000 };
    let delete = c::DeleteReplicas { storage: from.storage.to_string(), blocks: vec![name], reason: "surplus".into() };
    bench.order(0, c::node_command::Kind::Delete(delete));
    let result = bench.result().await;
    assert!(result.ok, "{}", result.error);
    assert_eq!(bench.read(&block(1), 0, 3_000_000), Err(Status::Error));
    assert!(bench.read(&block(1), 1, 3_000_000).unwrap() == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_to_one_node_share_a_connection() {
    let bench = Bench::new(2).await;
    // More of them than the target takes connections, all within the time that an idle one is kept.
    let copies = 12;
    for n in 0..copies {
        bench.write(&block(n), &bench.targets()[..1], format!("block {n}").as_bytes());
    }
    for n in 0..copies {
        let result = bench.copy(&block(n), format!("block {n}").len() as u64).await;
        assert!(result.ok, "{n}: {}", result.error);
    }
    let open = || bench.figure_of(1, "blockyard_datanode_connections");
    eventually("one idle connection to be all that is open", || open() == 1).await;
    for n in 0..copies {
        let data = format!("block {n}");
        assert_eq!(bench.read(&block(n), 1, data.len() as u64).unwrap(), data.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_12_connections_beyond_the_limit_are_closed_and_garbage_gets_a_refusal() {
    let bench = Bench::new(1).await;
    let port = bench.nodes[0].address.port();
    let idle: Vec<TcpStream> = (0..8).map(|_| connect(port)).collect();
    let mut beyond = connect(port);
    assert!(matches!(beyond.read(&mut [0]), Ok(0) | Err(_)), "the ninth is closed");
    drop(idle);
    bench.write_when_there_is_a_place().await;

    for (opening, word) in [(&b"\x00\x1b\x51\x00"[..], "version"), (b"\x00\x1c\x07\x00", "operation 7")] {
        let mut stream = connect(port);
        stream.write_all(opening).unwrap();
        let answer = reply::read(&mut stream).unwrap();
        assert_eq!(reply::status_of(&answer), Status::ErrorUnsupported);
        assert!(answer.message().contains(word), "{answer:?}");
    }
}

impl Bench {
    /// Places come back a moment after their connections went.
    async fn write_when_there_is_a_place(&self) {
        let (targets, token) = (self.targets(), self.token(&block(9), Mode::Write));
        let setup = WriteSetup::create(block(9), token, "test".into(), &targets, FORMAT).unwrap();
        let op = setup.to_op().unwrap().encode();
        eventually("a place", || {
            let mut stream = connect(targets[0].transfer_port);
            stream.write_all(&op).is_ok() && reply::read(&mut stream).is_ok()
        })
        .await;
    }
}

/// A reader may say its last word together with its next request, and ask for several things at once.
#[tokio::test(flavor = "multi_thread")]
async fn requests_and_last_words_that_come_together_are_served_one_after_the_other() {
    let bench = Bench::new(1).await;
    let data: Vec<u8> = (0..300_000_u32).map(|i| (i / 3) as u8).collect();
    bench.write(&block(1), &bench.targets(), &data);
    let parts = [(0_u64, 4096_u64), (1000, 1), (299_999, 1), (0, 300_000), (5000, 33_000)];
    let request = |(offset_bytes, len_bytes)| {
        let (block, client_name) = (block(1), "test".to_owned());
        let token = bench.token(&block, Mode::Read);
        let setup = ReadSetup { block, token, client_name, offset_bytes, len_bytes, send_checksums: true };
        setup.to_op().unwrap().encode()
    };
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(request(part));
        bytes.extend(reply::read_status(Status::ChecksumOk));
    }
    let mut stream = connect(bench.nodes[0].address.port());
    stream.write_all(&bytes).unwrap();
    let mut buffer = PacketBuffer::new();
    for (offset, len) in parts {
        assert_eq!(reply::status_of(&reply::read(&mut stream).unwrap()), Status::Success);
        let mut read = Vec::new();
        loop {
            let packet = buffer.read(&mut stream).unwrap();
            FORMAT.verify(packet.data, packet.checksums).unwrap();
            read.extend_from_slice(packet.data);
            if packet.head.last {
                break;
            }
        }
        let start = offset - offset % 512;
        let end = (offset + len).next_multiple_of(512).min(data.len() as u64);
        assert!(read == data[start as usize..end as usize], "{offset}+{len}");
    }
    // It waits for another one: without a word it is as idle as with one.
    stream.write_all(&request((0, 10))).unwrap();
    assert_eq!(reply::status_of(&reply::read(&mut stream).unwrap()), Status::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_idle_connections_at_once_and_leaves_nothing_open() {
    let mut bench = Bench::new(1).await;
    bench.write(&block(1), &bench.targets(), b"kept");
    let mut idle = connect(bench.nodes[0].address.port());
    assert_eq!(bench.read_on(&mut idle, &block(1), 4).unwrap(), b"kept");
    let node = bench.nodes.remove(0);
    node.shutdown.cancel();
    tokio::time::timeout(LONG, node.join).await.unwrap().unwrap().unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    // The folder is free, and the block is there.
    bench.script.lock().unwrap().alive.clear();
    let node = start(bench.config("dn0"), CancellationToken::new()).await.unwrap();
    bench.nodes.push(node);
    let script = Arc::clone(&bench.script);
    eventually("the second registration", || !script.lock().unwrap().alive.is_empty()).await;
    assert_eq!(bench.read(&block(1), 0, 4).unwrap(), b"kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_50_a_node_of_another_cluster_ends_with_the_reason_and_changes_nothing() {
    let mut bench = Bench::new(1).await;
    bench.write(&block(1), &bench.targets(), b"kept");
    let node = bench.nodes.remove(0);
    node.shutdown.cancel();
    node.join.await.unwrap().unwrap();
    bench.script.lock().unwrap().cluster = "CID-2".into();
    let stranger = start(bench.config("dn0"), CancellationToken::new()).await.unwrap();
    let ended = tokio::time::timeout(LONG, stranger.join).await.unwrap().unwrap();
    assert!(matches!(&ended, Err(ServerError::WrongCluster(why)) if why.contains("CID-1") && why.contains("CID-2")));
    assert_eq!(files_named(bench.home.path(), "blk_"), 2);
}
