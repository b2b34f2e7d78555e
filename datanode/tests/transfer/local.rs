//! The local door: descriptors are lent to who may have them, and called back.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base::net::unix::{self, UnixStream};
use base::passed::PassedFile;
use bytes::BytesMut;
use transfer::local::ACCESS_VERSION;
use transfer::{BorrowSetup, LocalLoan, Op, decode_delimited};

use super::*;

/// A reader at the door.
struct Reader {
    stream: UnixStream,
    inbox: BytesMut,
    passed: Vec<OwnedFd>,
}

impl Reader {
    async fn at(path: &Path) -> Self {
        let stream = unix::dial(path, LONG).await.unwrap();
        Self { stream, inbox: BytesMut::new(), passed: Vec::new() }
    }
    async fn say(&self, bytes: &[u8]) {
        unix::send_passing(&self.stream, bytes, &[]).await.unwrap();
    }
    /// False at the end.
    async fn more(&mut self) -> bool {
        let received = unix::receive_passing(&self.stream, &mut self.inbox, &mut self.passed);
        tokio::time::timeout(LONG, received).await.unwrap().is_ok_and(|received| received > 0)
    }
    async fn message(&mut self) -> BlockOpResponse {
        loop {
            if let Some(message) = decode_delimited(&mut self.inbox, "answer").unwrap() {
                return message;
            }
            assert!(self.more().await, "the connection ended");
        }
    }
    async fn end(&mut self) {
        while self.more().await {}
    }
    async fn ask(&mut self, setup: &BorrowSetup) -> BlockOpResponse {
        self.say(&setup.to_op().unwrap().encode()).await;
        self.message().await
    }
    /// Borrows what must be lent.
    async fn borrow(&mut self, setup: &BorrowSetup) -> (LocalLoan, PassedFile, PassedFile) {
        let answer = self.ask(setup).await;
        assert_eq!(reply::status_of(&answer), Status::Success, "{answer:?}");
        while self.inbox.is_empty() {
            assert!(self.more().await);
        }
        assert_eq!(self.inbox.split_to(1)[..], [0]);
        let mut files = self.passed.drain(..2).map(PassedFile::from);
        (LocalLoan::from_answer(&answer).unwrap(), files.next().unwrap(), files.next().unwrap())
    }
    async fn refused(&mut self, setup: &BorrowSetup) -> Status {
        let answer = self.ask(setup).await;
        assert!(answer.loan.is_none() && self.passed.is_empty(), "{answer:?}");
        reply::status_of(&answer)
    }
}

impl Bench {
    fn door(&self, node: usize) -> PathBuf {
        PathBuf::from(self.script.lock().unwrap().doors[self.nodes[node].node.as_str()].clone())
    }
    fn setup(&self, block: &BlockRef) -> BorrowSetup {
        let token = self.token(block, Mode::Read);
        BorrowSetup { block: block.clone(), token, max_version: ACCESS_VERSION, revocations: true, returned: vec![] }
    }
    fn command(&self, what: impl FnOnce(String, Vec<Block>) -> c::node_command::Kind, of: &BlockRef, len_bytes: u64) {
        let name = Block { pool: "BP-1".into(), id: of.id.raw(), stamp: of.stamp.raw(), len_bytes };
        self.order(0, what(self.target(0).storage.to_string(), vec![name]));
    }
    /// A figure of the first node.
    fn figure(&self, name: &str) -> u64 {
        self.figure_of(0, name)
    }
    /// A figure of a node.
    pub(super) fn figure_of(&self, node: usize, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.nodes[node].http).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }
    /// A bench of one node with other settings.
    async fn with(change: impl FnOnce(&mut DatanodeConfig)) -> Self {
        let mut bench = Self::new(0).await;
        let mut config = bench.config("dn0");
        change(&mut config);
        bench.nodes.push(start(config, CancellationToken::new()).await.unwrap());
        let script = Arc::clone(&bench.script);
        eventually("the registration", || !script.lock().unwrap().alive.is_empty()).await;
        bench
    }
}

fn delete(storage: String, blocks: Vec<Block>) -> c::node_command::Kind {
    c::node_command::Kind::Delete(c::DeleteReplicas { storage, blocks, reason: "deleted".into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lent_is_the_replica_and_can_only_be_read() {
    let bench = Bench::new(1).await;
    let data: Vec<u8> = (0..100_001_u32).map(|i| (i * 7) as u8).collect();
    bench.write(&block(1), &bench.targets(), &data);
    let mut reader = Reader::at(&bench.door(0)).await;
    let (loan, file, sums) = reader.borrow(&bench.setup(&block(1))).await;
    assert_eq!((loan.node, loan.len_bytes), (bench.nodes[0].node.clone(), data.len() as u64));
    assert_eq!((loan.stamp, loan.chunks), (GenerationStamp::FIRST, FORMAT));
    assert!(file.is_read_only().unwrap() && sums.is_read_only().unwrap());
    let (mut bytes, mut checksums) = (vec![0; data.len()], vec![0; FORMAT.checksums_bytes(loan.len_bytes) as usize]);
    file.read_exact(&mut bytes, loan.data_offset_bytes).unwrap();
    sums.read_exact(&mut checksums, loan.checksums_offset_bytes).unwrap();
    assert!(bytes == data);
    FORMAT.verify(&bytes, &checksums).unwrap();
    assert_eq!(bench.figure("blockyard_datanode_loans"), 1);
    drop(reader);
    let bench = &bench;
    eventually("the end of the loan", || bench.figure("blockyard_datanode_loans") == 0).await;
    // Hadoop's reader has the same operation and knows nothing of ours.
    let mut theirs = Reader::at(&bench.door(0)).await;
    theirs.borrow(&BorrowSetup { revocations: false, ..bench.setup(&block(1)) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_100_nothing_is_lent_without_a_token_for_it() {
    let bench = Bench::new(1).await;
    bench.write(&block(1), &bench.targets(), b"secret");
    let good = bench.setup(&block(1));
    let stamp = GenerationStamp::FIRST.next();
    let newer = BlockRef { stamp, ..block(1) };
    let claims = |expires_ms| Claims {
        pool: block(1).pool,
        block: block(1).id,
        floor: GenerationStamp::FIRST,
        ceiling: stamp,
        modes: vec![Mode::Read],
        user: "ana".into(),
        expires_ms,
    };
    let here = [bench.nodes[0].node.clone()];
    let wrong = [
        ("none", Bytes::new()),
        ("another block's", bench.token(&block(2), Mode::Read)),
        ("a writer's", bench.token(&block(1), Mode::Write)),
        ("another stamp's", bench.token(&newer, Mode::Read)),
        ("another node's", token::mint(&master(), 1, &claims(i64::MAX), &[NodeId::new("other")])),
        ("a forger's", token::mint(&MasterKey::new([8; 32]), 1, &claims(i64::MAX), &here)),
        ("an expired one", token::mint(&master(), 1, &claims(1), &here)),
    ];
    let mut reader = Reader::at(&bench.door(0)).await;
    for (what, token) in wrong {
        let status = reader.refused(&BorrowSetup { token, ..good.clone() }).await;
        assert_eq!(status, Status::ErrorAccessToken, "{what}");
    }
    // A right token does not make a replica newer, whole or there.
    let token = token::mint(&master(), 1, &claims(i64::MAX), &here);
    let status = reader.refused(&BorrowSetup { block: newer, token, ..good.clone() }).await;
    assert_eq!(status, Status::Error, "the replica's stamp is below the reader's");
    assert_eq!(reader.refused(&bench.setup(&block(7))).await, Status::Error, "there is no such replica");
    assert_eq!(reader.refused(&BorrowSetup { max_version: 0, ..good.clone() }).await, Status::ErrorUnsupported);
    // And the connection is as good as before.
    reader.borrow(&good).await;
    assert_eq!(bench.figure("blockyard_datanode_loans"), 1, "what was refused is not counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn loans_are_called_back_when_a_replica_is_deleted_or_found_damaged() {
    let bench = Bench::new(1).await;
    for n in 1..4 {
        bench.write(&block(n), &bench.targets(), &[n as u8; 3000]);
    }
    let mut reader = Reader::at(&bench.door(0)).await;
    let (deleted, file, _) = reader.borrow(&bench.setup(&block(1))).await;
    let (damaged, ..) = reader.borrow(&bench.setup(&block(2))).await;
    let (kept, ..) = reader.borrow(&bench.setup(&block(3))).await;

    bench.command(delete, &block(1), 3000);
    assert_eq!(reader.message().await.revoked, [deleted.loan]);
    assert!(bench.result().await.ok);
    // Who reads on does so on his own account, and reads what was there.
    let mut bytes = [0; 3000];
    file.read_exact(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [1; 3000]);

    let path = block_file(bench.home.path(), &format!("blk_{}", block(2).id.raw()));
    let mut rotten = std::fs::read(&path).unwrap();
    rotten[7] ^= 1;
    std::fs::write(&path, rotten).unwrap();
    let verify =
        |storage, blocks| c::node_command::Kind::Verify(c::VerifyReplicas { storage, blocks, digests: vec![] });
    bench.command(verify, &block(2), 3000);
    assert_eq!(reader.message().await.revoked, [damaged.loan]);
    assert_eq!(reader.refused(&bench.setup(&block(2))).await, Status::Error);
    assert_eq!(bench.figure("blockyard_datanode_loans"), 1);
    assert_eq!(bench.figure("blockyard_datanode_loans_revoked_total"), 2);

    // A loan that was returned is not called back any more: the next message answers what was asked.
    let again = BorrowSetup { returned: vec![kept.loan], ..bench.setup(&block(3)) };
    let (again, ..) = reader.borrow(&again).await;
    bench.script.lock().unwrap().results.clear();
    bench.command(delete, &block(3), 3000);
    assert_eq!(reader.message().await.revoked, [again.loan]);
}

fn block_file(dir: &Path, name: &str) -> PathBuf {
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() == name {
                return path;
            }
        }
    }
    panic!("no {name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r_6_loans_and_connections_are_bounded_and_beyond_them_there_is_the_network() {
    let bench = Bench::with(|config| {
        config.max_loans = 4;
        config.max_connections = 4;
    })
    .await;
    for n in 1..4 {
        bench.write(&block(n), &bench.targets(), b"abc");
    }
    let mut reader = Reader::at(&bench.door(0)).await;
    let (loan, ..) = reader.borrow(&bench.setup(&block(1))).await;
    assert_eq!(reader.refused(&bench.setup(&block(2))).await, Status::Error, "a quarter is the share of one");
    assert_eq!(bench.read(&block(2), 0, 3).unwrap(), b"abc", "over the network");
    reader.borrow(&BorrowSetup { returned: vec![loan.loan], ..bench.setup(&block(2)) }).await;

    // Of four places and four loans one is left for other users.
    let mut held = Vec::new();
    for n in 1..3 {
        let mut other = Reader::at(&bench.door(0)).await;
        other.borrow(&bench.setup(&block(n))).await;
        held.push(other);
    }
    assert_eq!(bench.figure("blockyard_datanode_loans"), 3);
    Reader::at(&bench.door(0)).await.end().await;
    drop(held);
    let door = bench.door(0);
    let bench = &bench;
    eventually("places", || bench.figure("blockyard_datanode_local_connections") == 1).await;
    Reader::at(&door).await.borrow(&bench.setup(&block(1))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_the_door_changes_nothing() {
    let bench = Bench::new(1).await;
    bench.write(&block(1), &bench.targets(), b"abc");
    let door = bench.door(0);
    let read = ReadSetup {
        block: block(1),
        token: bench.token(&block(1), Mode::Read),
        client_name: "test".into(),
        offset_bytes: 0,
        len_bytes: 3,
        send_checksums: true,
    };
    let read = read.to_op().unwrap().encode();
    let cases: [(&[u8], Status); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", Status::ErrorUnsupported),
        (b"\x00\x1c\x59\x00", Status::ErrorUnsupported),
        (b"\x00\x1c\x57\xff\xff\xff\xff\x07", Status::ErrorInvalid),
        (&read, Status::ErrorUnsupported),
    ];
    for (garbage, status) in cases {
        let mut stranger = Reader::at(&door).await;
        stranger.say(garbage).await;
        assert_eq!(reply::status_of(&stranger.message().await), status, "{garbage:?}");
        stranger.end().await;
    }
    // Half an operation, then nothing; descriptors that nobody wants.
    let mut half = Reader::at(&door).await;
    let op = bench.setup(&block(1)).to_op().unwrap().encode();
    let null = std::fs::File::open("/dev/null").unwrap();
    unix::send_passing(&half.stream, &op[..9], &[null.as_fd(), null.as_fd()]).await.unwrap();
    let mut good = Reader::at(&door).await;
    good.borrow(&bench.setup(&block(1))).await;
    half.say(&op[9..]).await;
    assert_eq!(reply::status_of(&half.message().await), Status::Success);

    // Over TCP nothing is lent.
    let mut tcp = connect(bench.nodes[0].address.port());
    tcp.write_all(&op).unwrap();
    let answer = reply::read(&mut tcp).unwrap();
    assert_eq!(reply::status_of(&answer), Status::ErrorUnsupported, "{answer:?}");
    assert!(matches!(Op::decode(&mut BytesMut::from(&op[..])), Ok(Some(Op::Borrow(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_is_where_the_settings_say_and_goes_with_the_node() {
    let mut bench = Bench::new(1).await;
    let door = bench.door(0);
    assert_eq!(door, bench.home.path().join("dn0/local.sock"));
    assert_eq!(std::fs::metadata(&door).unwrap().permissions().mode() & 0o777, 0o600, "in its own folder");
    let mut reader = Reader::at(&door).await;
    let node = bench.nodes.remove(0);
    node.shutdown.cancel();
    tokio::time::timeout(LONG, node.join).await.unwrap().unwrap().unwrap();
    reader.end().await;
    assert!(!door.exists());

    let chosen = bench.home.path().join("chosen.sock");
    let at = chosen.display().to_string();
    let bench = Bench::with(|config| config.local_socket.clone_from(&at)).await;
    assert_eq!(bench.door(0), chosen);
    assert_eq!(std::fs::metadata(&chosen).unwrap().permissions().mode() & 0o777, 0o666, "its folder decides");
    // A second node at the same path is told what to do.
    let config = DatanodeConfig { local_socket: at, ..bench.config("dn1") };
    let error = start(config, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("local_socket") && error.contains("choose another path"), "{error}");

    let off = Bench::with(|config| config.local_socket = "off".into()).await;
    assert_eq!(off.door(0), PathBuf::new());
    // A folder with too long a name is no obstacle where nobody chose the path.
    let long = Bench::with(|config| config.dirs = vec![config.dirs[0].join("x".repeat(100))]).await;
    assert_eq!(long.door(0), PathBuf::new());
    long.write(&block(1), &long.targets(), b"abc");
    assert_eq!(long.read(&block(1), 0, 3).unwrap(), b"abc");
}

/// A disk that hangs: a file whose opening waits. Its reader is told so in the end, and loses nothing else; nobody else waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_be_opened_keeps_nobody_from_others() {
    let bench = Bench::new(1).await;
    for n in 1..4 {
        bench.write(&block(n), &bench.targets(), b"abc");
    }
    let hangs = block_file(bench.home.path(), &format!("blk_{}", block(1).id.raw()));
    std::fs::remove_file(&hangs).unwrap();
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &hangs, kind, mode, 0).unwrap();
    let door = bench.door(0);
    let mut patient = Reader::at(&door).await;
    patient.borrow(&bench.setup(&block(2))).await;
    patient.say(&bench.setup(&block(1)).to_op().unwrap().encode()).await;
    let mut other = Reader::at(&door).await;
    other.borrow(&bench.setup(&block(2))).await;
    let bench = &bench;
    eventually("the open", || bench.figure("blockyard_datanode_loans") == 3).await;
    let answer = patient.message().await;
    assert_eq!(reply::status_of(&answer), Status::Error, "{answer:?}");
    assert!(answer.message().contains("its disk may hang"), "{answer:?}");
    patient.borrow(&bench.setup(&block(3))).await;
    // The disk comes back. What it gives now nobody waits for.
    drop(std::fs::OpenOptions::new().write(true).open(&hangs).unwrap());
    eventually("the loan of nobody to end", || bench.figure("blockyard_datanode_loans") == 3).await;
}
