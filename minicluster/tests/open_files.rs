//! Files while they are written: nodes that go, appends, cuts, writers that vanish, readers beside them. Real servers.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::time::Duration;

use client::{AppendOptions, Client, CreateOptions, ErrorCode};
use minicluster::MiniCluster;

const BLOCK: u64 = 256 << 10;
/// Recovery ends within two minutes by its contract; here no node is slow.
const CLOSED: Duration = Duration::from_secs(60);

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 253 + i / 65_536) as u8).collect()
}

async fn cluster(datanodes: usize) -> MiniCluster {
    MiniCluster::builder().datanodes(datanodes).replication(3).block_size_bytes(BLOCK).start().await.unwrap()
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
async fn f_1_a_datanode_that_goes_in_the_middle_of_a_write_costs_no_byte() {
    let mut cluster = cluster(4).await;
    let client = cluster.client().unwrap();
    let bytes = content(2 * BLOCK as usize + 77_777);
    for round in 0..8 {
        let path = format!("/f{round}");
        let mut writer = client.create(&path, CreateOptions::default()).await.unwrap();
        // At another place of a block each time: on its first packets, in a chunk, at its end.
        let stop_at = (round + 1) * bytes.len() / 9;
        writer.write_all(&bytes[..stop_at]).await.unwrap();
        writer.flush().await.unwrap();
        let number = round % 4;
        cluster.stop_datanode(number).await.unwrap();
        writer.write_all(&bytes[stop_at..]).await.unwrap();
        assert_eq!(writer.close().await.unwrap().len_bytes, bytes.len() as u64, "{path}");
        assert!(read_all(&client, &path).await == bytes, "{path}");
        cluster.start_datanode(number).await.unwrap();
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d_6_appends_go_on_behind_partial_chunks_whole_chunks_and_whole_blocks() {
    let cluster = cluster(3).await;
    let client = cluster.client().unwrap();
    let mut wanted = Vec::new();
    client.create("/f", CreateOptions { empty: true, ..Default::default() }).await.unwrap().close().await.unwrap();
    for (round, len) in [1, 510, 1, 512, 700, 262_144 - 1724, 300_000, 5].into_iter().enumerate() {
        let options = AppendOptions { new_block: round == 7, ..AppendOptions::default() };
        let mut writer = client.append("/f", options).await.unwrap();
        assert_eq!(writer.position_bytes(), wanted.len() as u64);
        let piece: Vec<u8> = content(len).into_iter().map(|byte| byte.wrapping_add(round as u8)).collect();
        writer.write_all(&piece).await.unwrap();
        wanted.extend_from_slice(&piece);
        if round % 2 == 0 {
            writer.sync_data().await.unwrap();
            assert!(read_all(&client, "/f").await == wanted, "it is seen while it is open: {round}");
        }
        assert_eq!(writer.close().await.unwrap().len_bytes, wanted.len() as u64);
        assert!(read_all(&client, "/f").await == wanted, "{round}");
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d_5_what_was_flushed_outlives_its_writer() {
    let cluster = cluster(3).await;
    let client = cluster.client().unwrap();
    for flushed in [0, 1, 600, BLOCK as usize, BLOCK as usize + 513] {
        let path = format!("/f{flushed}");
        let bytes = content(flushed + 1000);
        let mut writer = client.create(&path, CreateOptions::default()).await.unwrap();
        writer.write_all(&bytes[..flushed]).await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(read_all(&client, &path).await.len(), flushed);
        writer.write_all(&bytes[flushed..]).await.unwrap();
        drop(writer);
        client.settle(Duration::from_secs(5)).await;
        let status = client.until_closed(&path, CLOSED).await.unwrap();
        assert!(status.len_bytes >= flushed as u64, "{} of {flushed}", status.len_bytes);
        assert!(bytes.starts_with(&read_all(&client, &path).await));
    }
    // One that was never flushed never appears.
    let mut writer = client.create("/never", CreateOptions::default()).await.unwrap();
    writer.write_all(&content(1000)).await.unwrap();
    drop(writer);
    client.settle(Duration::from_secs(5)).await;
    assert_eq!(client.stat("/never").await.unwrap_err().code, ErrorCode::NotFound);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn v_4_of_two_appenders_one_has_the_file_until_it_is_taken_from_it() {
    let cluster = cluster(3).await;
    let (ana, ben) = (cluster.client().unwrap(), cluster.client().unwrap());
    let mut writer = ana.create("/f", CreateOptions::default()).await.unwrap();
    writer.write_all(&content(1000)).await.unwrap();
    writer.close().await.unwrap();
    let mut first = ana.append("/f", AppendOptions::default()).await.unwrap();
    first.write_all(b"first").await.unwrap();
    first.flush().await.unwrap();
    let fast =
        Client::builder().connect(cluster.uri()).user("root").timeout(Duration::from_millis(300)).build().unwrap();
    assert_eq!(fast.append("/f", AppendOptions::default()).await.unwrap_err().code, ErrorCode::FileOpen);
    let (leases, more) = ben.list_leases("", 0, 0).await.unwrap();
    assert_eq!((leases.len(), more, leases[0].path.as_str()), (1, false, "/f"));
    ben.recover_lease("/f").await.unwrap();
    ben.until_closed("/f", CLOSED).await.unwrap();
    // Whoever had it is told, and changes nothing.
    first.write_all(b" and more").await.ok();
    assert!(first.close().await.is_err());
    let mut second = ben.append("/f", AppendOptions::default()).await.unwrap();
    second.write_all(b" second").await.unwrap();
    second.close().await.unwrap();
    let all = read_all(&ben, "/f").await;
    assert!(all.starts_with(&content(1000)) && all[1000..].starts_with(b"first") && all.ends_with(b" second"));
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d_6_files_are_cut_at_the_ends_of_blocks_and_inside() {
    let cluster = cluster(3).await;
    let client = cluster.client().unwrap();
    let bytes = content(3 * BLOCK as usize);
    let mut writer = client.create("/f", CreateOptions::default()).await.unwrap();
    writer.write_all(&bytes).await.unwrap();
    writer.close().await.unwrap();
    for len in [2 * BLOCK, 2 * BLOCK - 1, BLOCK + 513, BLOCK + 512, BLOCK, 700, 0] {
        let cut = client.truncate("/f", len).await.unwrap();
        assert_eq!(cut.done, len % BLOCK == 0, "{len}");
        let status = client.until_closed("/f", CLOSED).await.unwrap();
        assert_eq!(status.len_bytes, len);
        assert!(read_all(&client, "/f").await[..] == bytes[..len as usize], "{len}");
    }
    // sc_46: nothing of what was cut comes back.
    let mut writer = client.append("/f", AppendOptions::default()).await.unwrap();
    writer.write_all(b"anew").await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(read_all(&client, "/f").await, b"anew");
    assert_eq!(client.truncate("/f", 5).await.unwrap_err().code, ErrorCode::InvalidArgument);
    // Reckoned from a length that it had before: what was acknowledged since stays.
    for expected in [0, 3, 5] {
        assert_eq!(client.truncate_expecting("/f", 0, expected).await.unwrap_err().code, ErrorCode::Changed);
    }
    assert_eq!(read_all(&client, "/f").await, b"anew");
    assert!(client.truncate_expecting("/f", 0, 4).await.unwrap().done);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_12_n_6_files_are_cut_inside_blocks_that_a_snapshot_sees() {
    let cluster = cluster(3).await;
    let client = cluster.client().unwrap();
    let bytes = content(3 * BLOCK as usize);
    client.mkdir("/d", 0o755, false).await.unwrap();
    let mut writer = client.create("/d/f", CreateOptions::default()).await.unwrap();
    writer.write_all(&bytes).await.unwrap();
    writer.close().await.unwrap();
    client.allow_snapshots("/d", true).await.unwrap();
    for (number, len) in [3 * BLOCK - 1, 2 * BLOCK + 513, BLOCK + 512, BLOCK, 700].into_iter().enumerate() {
        let before = client.stat("/d/f").await.unwrap().len_bytes;
        client.create_snapshot("/d", &format!("s{number}")).await.unwrap();
        let refused = client.truncate_expecting("/d/f", len, before - 1).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Changed);
        let cut = client.truncate("/d/f", len).await.unwrap();
        assert!(cut.done && cut.status.len_bytes == len, "a copy is cut at once");
        assert!(read_all(&client, "/d/f").await[..] == bytes[..len as usize], "{len}");
        let seen = read_all(&client, &format!("/d/.snapshot/s{number}/f")).await;
        assert!(seen[..] == bytes[..before as usize], "the snapshot is what it was");
    }
    let listed = client.list("/d").unwrap().collect().await.unwrap();
    assert_eq!(listed.len(), 1, "no copy is left beside it: {listed:?}");
    let mut writer = client.append("/d/f", AppendOptions::default()).await.unwrap();
    writer.write_all(b"more").await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(read_all(&client, "/d/f").await, [&bytes[..700], b"more"].concat());
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d_6_an_append_that_follows_the_close_of_another_one_at_once_finds_its_block() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    let options = CreateOptions { replication: 1, ..CreateOptions::default() };
    client.create("/f", options).await.unwrap().close().await.unwrap();
    let mut wanted = Vec::new();
    // The datanode's report of an append is on its way while the next one begins: not always, so many times.
    for number in 0..200_u32 {
        let mut writer = client.append("/f", AppendOptions::default()).await.unwrap();
        writer.write_all(&number.to_le_bytes()).await.unwrap();
        writer.close().await.unwrap();
        wanted.extend_from_slice(&number.to_le_bytes());
    }
    assert!(read_all(&client, "/f").await == wanted);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn v_1_readers_follow_a_file_while_it_is_written() {
    let cluster = cluster(3).await;
    let client = cluster.client().unwrap();
    let bytes = content(2 * BLOCK as usize + 999);
    let mut writer = client.create("/f", CreateOptions::default()).await.unwrap();
    writer.flush().await.unwrap();
    let mut follower = client.open("/f").await.unwrap();
    let (mut seen, mut given) = (Vec::new(), 0);
    for len in [1, 511, 1, 70_000, BLOCK as usize - 70_513, 1000, BLOCK as usize - 2] {
        writer.write_all(&bytes[given..given + len]).await.unwrap();
        given += len;
        writer.flush().await.unwrap();
        while let Some(piece) = follower.next().await.unwrap() {
            seen.extend_from_slice(&piece);
        }
        assert!(seen == bytes[..given], "{} of {given}", seen.len());
        assert_eq!(client.open("/f").await.unwrap().len_bytes(), given as u64);
    }
    writer.write_all(&bytes[given..]).await.unwrap();
    writer.close().await.unwrap();
    while let Some(piece) = follower.next().await.unwrap() {
        seen.extend_from_slice(&piece);
    }
    assert!(seen == bytes);
    assert!(!follower.refresh().await.unwrap(), "it is closed");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_88_an_open_file_whose_nodes_are_away_is_an_error_and_not_shorter() {
    let mut cluster = cluster(3).await;
    let client = cluster.client().unwrap();
    let mut writer = client.create("/f", CreateOptions::default()).await.unwrap();
    writer.write_all(&content(5000)).await.unwrap();
    writer.flush().await.unwrap();
    for number in 0..3 {
        cluster.stop_datanode(number).await.unwrap();
    }
    assert_eq!(client.open("/f").await.unwrap_err().code, ErrorCode::NoReplica);
    cluster.shutdown().await.unwrap();
}
