//! Readers that meet nodes which hang.

use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Client, CreateOptions};
use rustix::process::Signal;
use tests::cluster::signal;
use tests::{Cluster, Options};

/// Shorter than the 5 s that an attempt at a replica may take: only a second attempt can be so fast.
const SOON: Duration = Duration::from_secs(4);

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
