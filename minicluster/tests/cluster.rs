//! The cluster as its users see it.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use client::{CreateOptions, ErrorCode};
use minicluster::{MiniCluster, MiniClusterError};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_outlives_the_node_that_holds_it() {
    let mut cluster =
        MiniCluster::builder().datanodes(2).replication(2).block_size_bytes(64 << 10).start().await.unwrap();
    let client = cluster.client().unwrap();
    let content: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    writer.write_all(&content).await.unwrap();
    assert_eq!(writer.close().await.unwrap().replication, 2);

    let gone = cluster.datanode_id(0).unwrap().to_owned();
    cluster.stop_datanode(0).await.unwrap();
    assert_eq!(cluster.datanode_id(0), None);
    let reader = client.open("/a").await.unwrap();
    assert_eq!(reader.blocks().len(), 4);
    assert_eq!(&reader.read_at(0, content.len()).await.unwrap()[..], &content[..]);

    cluster.start_datanode(0).await.unwrap();
    assert_eq!(cluster.datanode_id(0), Some(gone.as_str()), "it is the same node, at another port");
    cluster.stop_datanode(1).await.unwrap();
    let reader = client.open("/a").await.unwrap();
    assert_eq!(&reader.read_at(0, content.len()).await.unwrap()[..], &content[..]);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_do_not_meet_and_nothing_is_left() {
    let (one, two) = (MiniCluster::start(1).await.unwrap(), MiniCluster::start(1).await.unwrap());
    one.client().unwrap().mkdir("/only-here", 0o755, false).await.unwrap();
    let error = two.client().unwrap().stat("/only-here").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let folder = one.datanode_dir(0);
    assert!(folder.exists());
    one.shutdown().await.unwrap();
    assert!(!folder.exists());
    two.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_never_there_is_named() {
    let mut cluster = MiniCluster::start(1).await.unwrap();
    assert!(matches!(cluster.stop_datanode(7).await, Err(MiniClusterError::NoSuchNode(7))));
    assert!(matches!(cluster.start_datanode(7).await, Err(MiniClusterError::NoSuchNode(7))));
    cluster.shutdown().await.unwrap();
}
