//! A lender of a few lines, and what readers make of what it does.

#![allow(clippy::disallowed_methods, reason = "the other end is made of plain files")]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use base::net::unix::{UnixListener, UnixStream};
use bytes::BytesMut;
use proto::ids::{GenerationStamp, NodeId};
use tokio::sync::mpsc;
use transfer::{ChunkFormat, LocalLoan, Op, Packet, encode_delimited};

use super::*;

const FORMAT: ChunkFormat = ChunkFormat::CRC32C_512;
const LONG: Duration = Duration::from_secs(20);
const LEN: usize = 600_001;
/// Nothing here is at a file's start, so that blocks may be packed one day.
const DATA_AT: u64 = 100;
const SUMS_AT: u64 = 7;

fn content() -> Vec<u8> {
    (0..LEN).map(|i| (i * 31 / 7) as u8).collect()
}

/// A node that lends one replica under every block id.
struct Fake {
    dir: tempfile::TempDir,
    listener: UnixListener,
    node: &'static str,
}

impl Fake {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = base::net::unix::listen(&dir.path().join("s"), 0o600).unwrap();
        let fake = Self { dir, listener, node: "n" };
        fake.write(&content());
        fake
    }
    fn write(&self, data: &[u8]) {
        std::fs::write(self.path("data"), [&[0; DATA_AT as usize][..], data].concat()).unwrap();
        let mut sums = vec![0; SUMS_AT as usize];
        FORMAT.compute_into(data, &mut sums);
        std::fs::write(self.path("sums"), sums).unwrap();
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn location(&self) -> StorageLocation {
        StorageLocation {
            node: "n".into(),
            local_socket: self.listener.path().display().to_string(),
            ..StorageLocation::default()
        }
    }
    /// The next connection.
    async fn accept(&self) -> Served<'_> {
        let stream = self.listener.accept().await.unwrap();
        Served { fake: self, stream, inbox: BytesMut::new(), loans: 0 }
    }
}

/// One connection of the fake.
struct Served<'a> {
    fake: &'a Fake,
    stream: UnixStream,
    inbox: BytesMut,
    loans: u64,
}

impl Served<'_> {
    /// The next request; `None` at the end.
    async fn request(&mut self) -> Option<BorrowSetup> {
        loop {
            if let Some(Op::Borrow(op)) = Op::decode(&mut self.inbox).unwrap() {
                return Some(BorrowSetup::from_op(&op).unwrap());
            }
            let mut none = Vec::new();
            let received = base::net::unix::receive_passing(&self.stream, &mut self.inbox, &mut none);
            if received.await.ok()? == 0 {
                return None;
            }
        }
    }
    async fn say(&self, answer: &BlockOpResponse) {
        base::net::unix::send_passing(&self.stream, &encode_delimited(answer), &[]).await.unwrap();
    }
    async fn lend(&mut self) -> u64 {
        self.loans += 1;
        let loan = LocalLoan {
            loan: self.loans,
            node: NodeId::new(self.fake.node),
            stamp: GenerationStamp::FIRST,
            data_offset_bytes: DATA_AT,
            len_bytes: LEN as u64,
            checksums_offset_bytes: SUMS_AT,
            chunks: FORMAT,
        };
        let open = |name: &str| File::open(self.fake.path(name)).unwrap();
        let (data, sums) = (open("data"), open("sums"));
        self.say(&loan.to_answer()).await;
        base::net::unix::send_passing(&self.stream, &[0], &[data.as_fd(), sums.as_fd()]).await.unwrap();
        self.loans
    }
    /// Lends whatever is asked for, until the reader leaves; what it returned.
    async fn lend_all(mut self) -> Vec<u64> {
        let mut returned = Vec::new();
        while let Some(setup) = self.request().await {
            returned.extend(setup.returned);
            self.lend().await;
        }
        returned
    }
}

fn block(id: i64) -> Block {
    Block { pool: "BP-1".into(), id, stamp: GenerationStamp::FIRST.raw(), len_bytes: LEN as u64 }
}

fn range(id: i64, offset_bytes: u64, len_bytes: u64) -> Range {
    Range { block: block(id), token: Bytes::new(), offset_bytes, len_bytes }
}

fn located(id: i64) -> LocatedBlock {
    LocatedBlock { block: Some(block(id)), ..LocatedBlock::default() }
}

async fn open(lenders: &Lenders, fake: &Fake, range: Range) -> Option<LocalReplica> {
    let opened = lenders.open(&fake.location(), &range, (Moment::START, LONG)).await;
    opened.map(|(replica, _)| replica)
}

/// All packets, verified.
async fn read(replica: &mut LocalReplica) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    loop {
        let packet: Packet = replica.next_packet().await?;
        FORMAT.verify(&packet.data, &packet.checksums).map_err(|error| error.to_string())?;
        data.extend_from_slice(&packet.data);
        if packet.head.last {
            return Ok(data);
        }
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

#[tokio::test]
async fn any_range_is_read_in_whole_chunks_and_one_loan_serves_all_readers() {
    let (fake, lenders) = (Fake::new(), Lenders::new(LocalReads::Auto));
    let reads = async {
        for (from, to) in [(0, LEN), (1, 2), (511, 513), (262_144, 262_145), (600_000, 600_001), (300_000, 600_001)] {
            let mut replica = open(&lenders, &fake, range(1, from as u64, (to - from) as u64)).await.unwrap();
            let start = from - from % 512;
            assert_eq!(replica.start_bytes(), start as u64);
            let end = to.next_multiple_of(512).min(LEN);
            assert!(read(&mut replica).await.unwrap() == content()[start..end], "{from}..{to}");
        }
        assert!(open(&lenders, &fake, range(1, 600_000, 2)).await.is_none(), "the replica is shorter");
        assert_eq!((lenders.figures().borrowed, lenders.figures().refused), (1, 0));
        assert!(lenders.figures().read_bytes > LEN as u64);
        drop(lenders);
    };
    let (_, returned) = tokio::join!(reads, async { fake.accept().await.lend_all().await });
    assert!(returned.is_empty(), "the end of the connection returns all");
}

#[tokio::test]
async fn small_ranges_in_the_page_cache_are_read_at_once() {
    let (fake, lenders) = (Fake::new(), Lenders::new(LocalReads::Auto));
    let reads = async {
        assert!(lenders.read_cached(&located(1), 0, 10).is_none(), "nothing is borrowed yet");
        let mut replica = open(&lenders, &fake, range(1, 0, LEN as u64)).await.unwrap();
        read(&mut replica).await.unwrap();
        let mut at_once = 0;
        for (from, len) in [(0, 1), (511, 2), (4096, 4096), (5, 65_536), (600_000, 1)] {
            // A file system that cannot tell what is cached gives nothing; ext4, xfs, btrfs and overlays of them can.
            if let Some(bytes) = lenders.read_cached(&located(1), from, len) {
                let (from, len) = (from as usize, len as usize);
                assert!(bytes[..] == content()[from..from + len], "{from}+{len}");
                at_once += 1;
            }
        }
        assert!(at_once == 5 || at_once == 0, "{at_once}");
        for (from, len) in [(600_000, 2), (0, 0), (0, 65_537), (u64::MAX, 5)] {
            assert!(lenders.read_cached(&located(1), from, len).is_none(), "{from}+{len}");
        }
        let other_pool = Block { pool: "BP-2".into(), ..block(1) };
        let other_pool = LocatedBlock { block: Some(other_pool), ..LocatedBlock::default() };
        let newer = Block { stamp: block(1).stamp + 1, ..block(1) };
        let newer = LocatedBlock { block: Some(newer), ..LocatedBlock::default() };
        for another in [&located(2), &other_pool, &newer] {
            assert!(lenders.read_cached(another, 0, 10).is_none(), "{another:?}");
        }
        drop(lenders);
    };
    tokio::join!(reads, async { fake.accept().await.lend_all().await });
}

#[tokio::test]
async fn f_6_damage_in_data_or_checksums_is_noticed_and_certain_only_while_the_loan_holds() {
    for (file, revoked) in [("data", false), ("sums", false), ("sums", true)] {
        let (fake, lenders) = (Fake::new(), Lenders::new(LocalReads::Auto));
        // The third byte of both: of the first chunk, or of its checksum.
        let mut rotten =
            base::local::LocalReader::open(&fake.path(file)).unwrap().read_chunk(1 << 20).unwrap().to_vec();
        rotten[if file == "data" { DATA_AT } else { SUMS_AT } as usize + 2] ^= 1;
        std::fs::write(fake.path(file), &rotten).unwrap();
        let reads = async {
            let mut replica = open(&lenders, &fake, range(1, 0, 100)).await.unwrap();
            let error = read(&mut replica).await.unwrap_err();
            assert!(error.starts_with("chunk 0"), "{error}");
            assert!(lenders.read_cached(&located(1), 0, 100).is_none(), "it delivers nothing wrong");
            let justified = lenders.doubt(&replica).confirmed(Moment::START).await;
            assert_eq!(justified, !revoked, "{file}");
            assert!(lenders.cache.get(&block(1)).is_none(), "the loan is not used again");
            drop((replica, lenders));
        };
        let lends = async {
            let mut served = fake.accept().await;
            served.request().await.unwrap();
            let loan = served.lend().await;
            served.request().await.unwrap();
            if revoked {
                // The node changed the replica, and says so before it answers anything else.
                served.say(&transfer::local::revoked(&[loan])).await;
            }
            served.lend().await;
            assert!(served.request().await.is_none());
        };
        tokio::join!(reads, lends);
    }
}

#[tokio::test]
async fn what_is_called_back_or_whose_connection_ends_is_not_read_any_more() {
    let (fake, lenders) = (Fake::new(), Lenders::new(LocalReads::Auto));
    let (tell, mut told) = mpsc::channel::<()>(1);
    let reads = async {
        let mut called_back = open(&lenders, &fake, range(1, 0, LEN as u64)).await.unwrap();
        called_back.next_packet().await.unwrap();
        tell.send(()).await.unwrap();
        eventually("the word", || lenders.figures().revoked == 1).await;
        let why = called_back.next_packet().await.unwrap_err();
        assert!(why.contains("called the replica back"), "{why}");
        assert!(lenders.read_cached(&located(1), 0, 10).is_none());

        // Borrowed anew; then the socket vanishes in the middle.
        let mut cut_off = open(&lenders, &fake, range(1, 0, LEN as u64)).await.unwrap();
        cut_off.next_packet().await.unwrap();
        tell.send(()).await.unwrap();
        eventually("the end", || cut_off.loan().is_over()).await;
        cut_off.next_packet().await.unwrap_err();
        assert!(lenders.cache.get(&block(1)).is_none());
        // The next one dials again.
        let mut again = open(&lenders, &fake, range(1, 0, LEN as u64)).await.unwrap();
        assert!(read(&mut again).await.unwrap() == content());
        drop((called_back, cut_off, again, lenders));
    };
    let lends = async {
        let mut served = fake.accept().await;
        served.request().await.unwrap();
        let loan = served.lend().await;
        told.recv().await.unwrap();
        served.say(&transfer::local::revoked(&[loan, 77])).await;
        let second = served.request().await.unwrap();
        assert!(second.returned.is_empty(), "what was called back is not returned");
        served.lend().await;
        told.recv().await.unwrap();
        drop(served);
        fake.accept().await.lend_all().await
    };
    tokio::join!(reads, lends);
}

#[tokio::test]
async fn r_6_loans_are_bounded_and_returned() {
    let (fake, lenders) = (Fake::new(), Lenders::new(LocalReads::Auto));
    let reads = async {
        for id in 0..400 {
            open(&lenders, &fake, range(id, 0, 1)).await.unwrap();
            // Used all the time: it stays.
            lenders.cache.get(&block(0)).unwrap();
        }
        assert_eq!(lenders.figures().borrowed, 400);
        assert!(lenders.cache.get(&block(399)).is_some() && lenders.cache.get(&block(1)).is_none());
        drop(lenders);
    };
    let (_, mut returned) = tokio::join!(reads, async { fake.accept().await.lend_all().await });
    returned.sort_unstable();
    // All but the 256 that are kept, and those that the last request could not say yet.
    assert_eq!(returned, (2..=400 - 256).map(|n| n as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn refusals_and_doors_of_others_are_left_for_the_network() {
    let mut fake = Fake::new();
    let lenders = Lenders::new(LocalReads::Auto);
    let at = |now: Duration| (Moment::after_start(now), LONG);
    // Nobody listens: once is enough for a while.
    let nowhere = StorageLocation { local_socket: fake.path("nowhere").display().to_string(), ..fake.location() };
    for refused in [1, 1, 1] {
        assert!(lenders.open(&nowhere, &range(1, 0, 1), at(Duration::ZERO)).await.is_none());
        assert_eq!(lenders.figures().refused, refused);
    }
    assert!(lenders.open(&nowhere, &range(1, 0, 1), at(doors::SHUT)).await.is_none());
    assert_eq!(lenders.figures().refused, 2, "and then it is tried again");

    // A refusal of one block says nothing about others; a refusal by principle shuts the door.
    let reads = async {
        assert!(open(&lenders, &fake, range(1, 0, 1)).await.is_none());
        assert!(open(&lenders, &fake, range(2, 0, 1)).await.is_some());
        assert!(open(&lenders, &fake, range(3, 0, 1)).await.is_none());
        assert!(open(&lenders, &fake, range(2, 0, 1)).await.is_none(), "the loan went with the door");
    };
    let lends = async {
        let mut served = fake.accept().await;
        served.request().await.unwrap();
        served.say(&reply::refused(Status::ErrorAccessToken, "no", "")).await;
        served.request().await.unwrap();
        served.lend().await;
        served.request().await.unwrap();
        served.say(&reply::refused(Status::ErrorUnsupported, "never", "")).await;
        assert!(served.request().await.is_none());
    };
    tokio::join!(reads, lends);

    // Another node answers at the path: what it lends would be blamed on the wrong one.
    fake.node = "m";
    let lenders = Lenders::new(LocalReads::Auto);
    let (opened, _) =
        tokio::join!(open(&lenders, &fake, range(1, 0, 1)), async { fake.accept().await.lend_all().await });
    assert!(opened.is_none());

    let off = Lenders::new(LocalReads::Off);
    assert_eq!(off.machine(), "", "no namenode tells it of a door");
    assert!(open(&off, &fake, range(1, 0, 1)).await.is_none());
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_nobody_waits_in_vain() {
    let mut headless = BlockOpResponse { status: Status::Success as i32, ..BlockOpResponse::default() };
    let nonsense = [encode_delimited(&headless), vec![0xff; 20], {
        headless.status = Status::Error as i32;
        // An answer too many.
        [encode_delimited(&headless), encode_delimited(&headless)].concat()
    }];
    for bytes in nonsense {
        let (fake, lenders) = (Fake::new(), Lenders::new(LocalReads::Auto));
        let reads = async {
            assert!(open(&lenders, &fake, range(1, 0, 1)).await.is_none());
            eventually("the end", || lenders.doors.open_lanes() == 0).await;
        };
        let lends = async {
            let mut served = fake.accept().await;
            served.request().await.unwrap();
            base::net::unix::send_passing(&served.stream, &bytes, &[]).await.unwrap();
            served
        };
        tokio::join!(reads, lends);
    }
}

/// A fake whose disk is slow answers nothing; the one behind it does.
#[tokio::test]
async fn one_slow_replica_keeps_nobody_from_others_and_costs_no_loan() {
    use doors::{MAX_LANES, STUCK};
    let (fake, lenders) = (Fake::new(), Lenders::new(LocalReads::Auto));
    let at = |now: Duration, within: Duration| (Moment::after_start(now), within);
    let slow = Duration::from_millis(20);
    let reads = async {
        let mut good = open(&lenders, &fake, range(1, 0, 1000)).await.unwrap();
        // Nobody answers: given up after its time, and the network is used.
        assert!(lenders.open(&fake.location(), &range(2, 0, 1), at(Duration::ZERO, slow)).await.is_none());
        assert_eq!(read(&mut good).await.unwrap(), content()[..1024], "what was lent before is as good as it was");
        // Later ones do not wait behind it.
        let others = at(STUCK, LONG);
        assert!(lenders.open(&fake.location(), &range(3, 0, 1), others).await.is_some());
        assert!(lenders.open(&fake.location(), &range(1, 0, 1), others).await.is_some());
        assert_eq!(lenders.doors.open_lanes(), 2);
        // As many slow ones as there are connections: then there is the network, at once.
        for n in 1..MAX_LANES as u32 {
            let since = at(STUCK * n, slow);
            assert!(lenders.open(&fake.location(), &range(10 + i64::from(n), 0, 1), since).await.is_none());
        }
        let refused = lenders.figures().refused;
        let full = at(STUCK * MAX_LANES as u32, Duration::from_secs(3600));
        assert!(lenders.open(&fake.location(), &range(20, 0, 1), full).await.is_none());
        assert_eq!((lenders.doors.open_lanes(), lenders.figures().refused), (MAX_LANES, refused));
        assert!(lenders.open(&fake.location(), &range(3, 0, 1), full).await.is_some(), "loans go on");
        drop(lenders);
    };
    let lends = async {
        let mut first = fake.accept().await;
        first.request().await.unwrap();
        first.lend().await;
        first.request().await.unwrap();
        let mut second = fake.accept().await;
        second.request().await.unwrap();
        second.lend().await;
        let mut held = vec![first, second];
        while held.len() < MAX_LANES {
            held.push(fake.accept().await);
        }
        for one in &mut held {
            while one.request().await.is_some() {}
        }
    };
    tokio::join!(reads, lends);
}

/// A node that has no place left hangs up without a word.
#[tokio::test]
async fn a_full_door_is_left_alone_for_a_while() {
    let (fake, lenders) = (Fake::new(), Lenders::new(LocalReads::Auto));
    let at = |now: Duration| (Moment::after_start(now), LONG);
    let reads = async {
        for refused in [1, 1, 1] {
            assert!(lenders.open(&fake.location(), &range(1, 0, 1), at(Duration::ZERO)).await.is_none());
            assert_eq!(lenders.figures().refused, refused, "asked once, and not again for every read");
        }
        assert!(lenders.open(&fake.location(), &range(1, 0, 1), at(doors::SHUT)).await.is_some(), "there is a place");
        drop(lenders);
    };
    let lends = async {
        drop(fake.accept().await);
        fake.accept().await.lend_all().await
    };
    tokio::join!(reads, lends);
}
