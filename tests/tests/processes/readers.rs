//! Readers that meet nodes which hang.

use std::time::{Duration, Instant};

use bytes::Bytes;
use client::read::{Coalesce, ReadAhead, ReadConfig};
use client::{Client, CreateOptions, LocalReads};
use rustix::process::Signal;
use tests::cluster::signal;
use tests::{Cluster, Options, wait};

/// Shorter than the 5 s that an attempt at a replica may take: only a second attempt can be so fast.
const SOON: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn l_5_a_node_that_hangs_is_passed_by_a_second_attempt() {
    let cluster = Cluster::with(Options { datanodes: 2, ..Options::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    runtime.block_on(async {
        let client = Client::builder().connect(&cluster.ready().fs).user("root").build().expect("client");
        let wanted = Bytes::from((0..3_000_000_u32).map(|i| (i / 7) as u8).collect::<Vec<_>>());
        let mut writer = client.create("/f", CreateOptions::default()).await.expect("create");
        writer.write(wanted.clone()).await.expect("write");
        writer.close().await.expect("close");

        let mut reader = client.open("/f").await.expect("open");
        let first = &reader.blocks()[0].locations[0].node;
        let role = cluster.ready().roles.iter().find(|role| role.id == *first).expect("a datanode of the cluster");
        signal(role.pid, Signal::STOP);
        let began = Instant::now();
        let mut read = Vec::new();
        while let Some(bytes) = reader.next().await.expect("next") {
            read.extend_from_slice(&bytes);
        }
        assert!(read == wanted);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        // What is known of the node now is shared by all readers of the client.
        let began = Instant::now();
        assert!(client.open("/f").await.expect("open").read_at(0, wanted.len()).await.expect("read") == wanted);
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        signal(role.pid, Signal::CONT);
    });
}

/// A figure of all datanodes together.
fn figure(cluster: &Cluster, name: &str) -> u64 {
    let nodes = cluster.ready().roles.iter().filter(|role| role.role == "datanode");
    let value = |http: &str| {
        let page = super::dev::page(http, "/metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<u64>().expect("a number"))
    };
    nodes.map(|node| value(&node.http)).sum()
}

/// Waits until the nodes have counted so many reads: they do after they have sent the last byte.
fn until_served(cluster: &Cluster, reads: u64) {
    wait::until(&format!("{reads} reads"), PATIENCE, || (figure(cluster, READS) == reads).then_some(()));
}

const READS: &str = "blockyard_datanode_operations_total{operation=\"read\",outcome=\"ok\"}";
const CONNECTIONS: &str = "blockyard_datanode_connections";
const BLOCK: u64 = 64 << 10;
const BLOCKS: u64 = 8;

/// A cluster of one node with a file of eight blocks, and a client that reads it over TCP.
async fn eight_blocks(change: impl FnOnce(&mut ReadConfig)) -> (Cluster, Client) {
    let options = Options { datanodes: 1, ..Options::default() };
    let cluster = Cluster::with(options);
    let mut config = ReadConfig::default();
    change(&mut config);
    let builder = Client::builder().connect(&cluster.ready().fs).user("root").local_reads(LocalReads::Off);
    let client = builder.read_config(config).build().expect("client");
    let options = CreateOptions { block_size_bytes: BLOCK, replication: 1, ..CreateOptions::default() };
    let mut writer = client.create("/f", options).await.expect("create");
    writer.write(Bytes::from(vec![7; (BLOCK * BLOCKS) as usize])).await.expect("write");
    writer.close().await.expect("close");
    (cluster, client)
}

/// What going ahead gains: at the end of a block the next ones have been asked for and sent, and nobody waits for a round
/// trip. Without it each block costs one.
#[tokio::test(flavor = "multi_thread")]
async fn going_ahead_saves_the_round_trip_of_every_block() {
    for (window_bytes, ahead) in [(0, 0), (BLOCK * 4, 2)] {
        let go = ReadAhead { after_bytes: 1, window_bytes, open_blocks: 3, ..ReadAhead::default() };
        let (cluster, client) = eight_blocks(|config| config.ahead = go).await;
        let mut reader = client.open("/f").await.expect("open");
        while reader.position_bytes() < 2 * BLOCK {
            reader.next().await.expect("next").expect("bytes");
        }
        // The application has two blocks and asks for nothing.
        until_served(&cluster, 2 + ahead);
        while reader.next().await.expect("next").is_some() {}
        // And nothing is asked for twice.
        until_served(&cluster, BLOCKS);
    }
}

/// What reading in parallel gains: parts of different blocks are under way at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_many_blocks_is_read_over_several_connections_at_a_time() {
    for streams in [1, 4] {
        let (cluster, client) = eight_blocks(|config| config.streams = streams).await;
        let reader = client.open("/f").await.expect("open");
        let before = figure(&cluster, CONNECTIONS);
        let read = reader.read_at(0, (BLOCK * BLOCKS) as usize).await.expect("read");
        assert_eq!(read.len() as u64, BLOCK * BLOCKS);
        let connections = figure(&cluster, CONNECTIONS) - before;
        assert!(if streams == 1 { connections == 1 } else { (2..=4).contains(&connections) }, "{connections}");
        until_served(&cluster, BLOCKS);
    }
}

/// What merging gains: many ranges that lie close together are a few requests.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_lie_close_together_cost_a_request_for_each_block_they_touch() {
    let ranges: Vec<std::ops::Range<u64>> = (0..64).map(|n| n * 2048..n * 2048 + 1000).collect();
    let apart = Coalesce { gap_bytes: 0, max_bytes: 0 };
    for (coalesce, requests) in [(apart, 64), (Coalesce::default(), 2)] {
        let (cluster, client) = eight_blocks(|config| config.coalesce = coalesce).await;
        let reader = client.open("/f").await.expect("open");
        let read = reader.read_ranges(&ranges).await.expect("read");
        assert!(read.iter().all(|bytes| bytes[..] == [7; 1000]));
        until_served(&cluster, requests);
    }
}
