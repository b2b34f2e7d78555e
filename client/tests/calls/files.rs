//! Whole files against a real cluster in this process: sequences, ranges, the traits of others.

use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use client::read::{Coalesce, ReadAhead, ReadConfig};
use client::{Client, ClientBuilder, CreateOptions, ErrorCode, SplitOptions};
use minicluster::MiniCluster;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

const BLOCK: u64 = 64 << 10;

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 253 + i / 65_536) as u8).collect()
}

async fn cluster(datanodes: usize) -> MiniCluster {
    MiniCluster::builder().datanodes(datanodes).replication(1).block_size_bytes(BLOCK).start().await.unwrap()
}

fn builder(cluster: &MiniCluster) -> ClientBuilder {
    Client::builder().connect(cluster.uri()).user("root")
}

async fn write(client: &Client, path: &str, bytes: &[u8]) {
    let mut writer = client.create(path, CreateOptions::default()).await.unwrap();
    writer.write_all(bytes).await.unwrap();
    writer.close().await.unwrap();
}

async fn read_all(client: &Client, path: &str) -> Vec<u8> {
    let mut reader = client.open(path).await.unwrap();
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn r_1_sequences_come_whole_whatever_the_window_and_the_budget() {
    let cluster = cluster(2).await;
    let wanted = content(40 * BLOCK as usize + 12_345);
    write(&cluster.client().unwrap(), "/f", &wanted).await;
    let tiny = ReadAhead { after_bytes: 0, window_bytes: 1 << 20, packets: 16, open_blocks: 5, client_bytes: 4096 };
    let windows = [
        ReadAhead::default(),
        ReadAhead { window_bytes: 0, ..ReadAhead::default() },
        ReadAhead { after_bytes: 0, window_bytes: 200 << 10, packets: 3, open_blocks: 4, ..ReadAhead::default() },
        // One unit for all readers of the client: each has to come forward with its one packet.
        tiny,
    ];
    for ahead in windows {
        let client = builder(&cluster).read_config(ReadConfig { ahead, ..ReadConfig::default() }).build().unwrap();
        let mut reading = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let client = client.clone();
            reading.spawn(async move { read_all(&client, "/f").await });
        }
        for read in reading.join_all().await {
            assert!(read == wanted, "{ahead:?}");
        }
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_and_a_dropped_next_lose_no_byte() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    let wanted = content(10 * BLOCK as usize);
    write(&client, "/f", &wanted).await;
    let mut reader = client.open("/f").await.unwrap();
    let (mut all, mut polls) = (Vec::new(), 0_u32);
    loop {
        polls += 1;
        // Every other call is dropped at once, whatever it was doing.
        let next = tokio::select! {
            biased;
            next = reader.next() => next.unwrap(),
            () = std::future::ready(()), if polls % 2 == 0 => continue,
        };
        let Some(bytes) = next else { break };
        all.extend_from_slice(&bytes);
    }
    assert!(all == wanted);
    for at in [3 * BLOCK + 7, 5, 9 * BLOCK, 20 * BLOCK] {
        reader.seek(at);
        let read = reader.next().await.unwrap().unwrap_or_default();
        let from = wanted.get(at as usize..).unwrap_or_default();
        assert!(from.starts_with(&read) && (read.is_empty() == from.is_empty()), "at {at}");
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_89_without_a_replica_every_kind_of_read_ends_with_an_error() {
    let mut cluster = cluster(2).await;
    let client = cluster.client().unwrap();
    write(&client, "/f", &content(5 * BLOCK as usize)).await;
    let mut reader = client.open("/f").await.unwrap();
    let first = reader.next().await.unwrap().unwrap();
    for number in 0..2 {
        cluster.stop_datanode(number).await.unwrap();
    }
    reader.seek(BLOCK);
    // The second time is no different from the first.
    for _ in 0..2 {
        assert_eq!(reader.next().await.unwrap_err().code, ErrorCode::NoReplica);
        assert_eq!(reader.position_bytes(), BLOCK);
    }
    assert_eq!(reader.read_at(0, 3 * BLOCK as usize).await.unwrap_err().code, ErrorCode::NoReplica);
    assert_eq!(reader.read_ranges(&[0..1, 4 * BLOCK..5 * BLOCK]).await.unwrap_err().code, ErrorCode::NoReplica);
    // What fails is not forgotten, and what comes back serves.
    for number in 0..2 {
        cluster.start_datanode(number).await.unwrap();
    }
    reader.seek(0);
    assert_eq!(reader.next().await.unwrap().unwrap(), first);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_come_in_the_order_in_which_they_were_asked() {
    let cluster = cluster(2).await;
    let wanted = content(8 * BLOCK as usize + 100);
    write(&cluster.client().unwrap(), "/f", &wanted).await;
    let end = wanted.len() as u64;
    let asked: Vec<Range<u64>> = vec![
        5 * BLOCK..7 * BLOCK + 9,
        0..10,
        20..30,
        end - 3..end + 50,
        end + 9..end + 10,
        8..25,
        100..100,
        BLOCK - 1..BLOCK + 1,
        0..end,
    ];
    for coalesce in [Coalesce::default(), Coalesce { gap_bytes: 0, max_bytes: 0 }] {
        let config = ReadConfig { coalesce, streams: 3, ..ReadConfig::default() };
        let client = builder(&cluster).read_config(config).build().unwrap();
        let reader = client.open("/f").await.unwrap();
        let read = reader.read_ranges(&asked).await.unwrap();
        assert_eq!(read.len(), asked.len());
        for (range, bytes) in asked.iter().zip(&read) {
            let (start, stop) = (range.start.min(end) as usize, range.end.min(end) as usize);
            assert!(bytes[..] == wanted[start..stop.max(start)], "{range:?}");
        }
        assert!(reader.read_at(1, usize::MAX).await.unwrap()[..] == wanted[1..]);
        assert!(reader.read_exact_at(end - 10, 10).await.unwrap()[..] == wanted[end as usize - 10..]);
        let short = reader.read_exact_at(end - 10, 11).await.unwrap_err();
        assert_eq!(short.code, ErrorCode::InvalidArgument);
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        let backwards = reader.read_ranges(&[0..1, 9..3]).await.unwrap_err();
        assert_eq!(backwards.code, ErrorCode::InvalidArgument);
        // Readers and their futures may move between threads.
        let last = tokio::spawn(async move { reader.read_at(end - 1, 1).await }).await.unwrap().unwrap();
        assert_eq!(last[..], wanted[end as usize - 1..]);
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokios_traits_read_seek_and_publish() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    let wanted = content(5 * BLOCK as usize + 77);
    let mut file = client.create("/f", CreateOptions::default()).await.unwrap().into_async();
    for piece in wanted.chunks(1000) {
        file.write_all(piece).await.unwrap();
    }
    file.flush().await.unwrap();
    assert_eq!(client.stat("/f").await.unwrap_err().code, ErrorCode::NotFound, "a flush shows nothing");
    file.shutdown().await.unwrap();
    file.shutdown().await.unwrap();
    assert_eq!(file.status().unwrap().len_bytes, wanted.len() as u64);
    let late = file.write_all(b"more").await.unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::InvalidInput);

    let mut file = client.open("/f").await.unwrap().into_async();
    let mut all = Vec::new();
    file.read_to_end(&mut all).await.unwrap();
    assert!(all == wanted);
    assert_eq!(file.seek(SeekFrom::End(-70)).await.unwrap(), wanted.len() as u64 - 70);
    assert_eq!(file.fill_buf().await.unwrap(), &wanted[wanted.len() - 70..]);
    file.consume(40);
    assert_eq!(file.seek(SeekFrom::Current(-10)).await.unwrap(), wanted.len() as u64 - 40);
    let mut ten = [0; 10];
    file.read_exact(&mut ten).await.unwrap();
    assert_eq!(ten, wanted[wanted.len() - 40..wanted.len() - 30]);
    let before = file.seek(SeekFrom::Current(-1_000_000)).await.unwrap_err();
    assert_eq!(before.kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(file.seek(SeekFrom::Start(1 << 40)).await.unwrap(), 1 << 40);
    assert_eq!(file.read(&mut ten).await.unwrap(), 0, "nothing is behind the end");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d_5_an_async_writer_that_is_dropped_publishes_nothing() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    let mut file = client.create("/f", CreateOptions::default()).await.unwrap().into_async();
    file.write_all(&content(3 * BLOCK as usize)).await.unwrap();
    file.flush().await.unwrap();
    drop(file);
    client.settle(std::time::Duration::from_secs(10)).await;
    assert_eq!(client.stat("/f").await.unwrap_err().code, ErrorCode::NotFound);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_cut_for_tasks_where_its_blocks_are() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    write(&client, "/f", &content(3 * BLOCK as usize + 9000)).await;
    let parts = client.splits("/f", &SplitOptions::default()).await.unwrap();
    let lens: Vec<_> = parts.iter().map(|part| (part.offset_bytes, part.len_bytes)).collect();
    assert_eq!(lens, [(0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, BLOCK), (3 * BLOCK, 9000)]);
    let node = cluster.datanode_address(0).unwrap();
    assert!(parts.iter().all(|part| part.hosts == [node.ip().to_string()]));
    let reader = client.open("/f").await.unwrap();
    assert_eq!(reader.locations()[1].nodes, [node.to_string()]);
    let none = SplitOptions { max_bytes: 0, ..SplitOptions::default() };
    assert_eq!(client.splits("/f", &none).await.unwrap_err().code, ErrorCode::InvalidArgument);
    cluster.shutdown().await.unwrap();
}

#[test]
fn the_blocking_client_writes_reads_and_refuses_to_stop_a_runtime() {
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cluster = elsewhere.block_on(cluster(1));
    let client = client::blocking::Client::new(builder(&cluster)).unwrap();
    let wanted = content(2 * BLOCK as usize + 5);
    client.mkdir("/d", 0o755, false).unwrap();
    let mut writer = client.create("/d/f", CreateOptions::default()).unwrap();
    writer.write_all(&wanted).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.close().unwrap().len_bytes, wanted.len() as u64);
    drop(client.create("/d/dropped", CreateOptions::default()).unwrap());

    let mut reader = client.open("/d/f").unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert!(all == wanted);
    reader.seek(SeekFrom::Start(BLOCK)).unwrap();
    assert_eq!(reader.fill_buf().unwrap()[0], wanted[BLOCK as usize]);
    assert!(reader.read_exact_at(7, 9).unwrap()[..] == wanted[7..16]);
    assert_eq!(client.list("/d").unwrap().len(), 1);
    let missing = client::io::into_io(client.stat("/d/dropped").unwrap_err());
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);

    elsewhere.block_on(async {
        let nested = client.stat("/d/f").unwrap_err();
        assert!(nested.code == ErrorCode::InvalidArgument && nested.hint.contains("std::thread::spawn"), "{nested:?}");
        let of_its_own = client.clone();
        let found = std::thread::spawn(move || of_its_own.stat("/d/f").map(|status| status.len_bytes)).join().unwrap();
        assert!(found.is_ok(), "the hint shows a way: {found:?}");
        assert_eq!(reader.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        // Dropped in here, its runtime ends without a panic.
        drop((client, reader));
    });
    elsewhere.block_on(cluster.shutdown()).unwrap();
}
