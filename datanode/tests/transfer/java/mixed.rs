//! Pipelines in which datanodes of both kinds stand.

use super::client::token;
use super::peer::{JavaBlock, Peer};
use super::wire::{open_write, read, write};
use super::*;

/// Our nodes, in the pool of the Java cluster.
async fn guests(peer: &Peer, nodes: usize) -> Bench {
    Bench::of(nodes, peer.pool.as_str(), 64).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_of_both_kinds_of_datanodes_hold_the_same_block() {
    let Some(peer) = Peer::shared() else { return };
    let bench = guests(&peer, 2).await;
    let (java, ours): (Vec<_>, Vec<_>) =
        (peer.datanodes.iter().map(|node| node.target.clone()).collect(), bench.targets());
    let [j0, j1, o0, o1] = [&java[0], &java[1], &ours[0], &ours[1]].map(Clone::clone);
    let pipelines = [
        ("java-ours", vec![j0.clone(), o0.clone()]),
        ("ours-java", vec![o0.clone(), j0.clone()]),
        ("java-ours-java-ours", vec![j0.clone(), o0.clone(), j1.clone(), o1.clone()]),
        ("ours-java-java-ours", vec![o0, j0, j1, o1]),
    ];
    for (format, kind, len_bytes) in formats().filter(|(format, ..)| format.kind() != ChecksumKind::Null) {
        let data = pattern(len_bytes, format.chunk_bytes());
        for (order, targets) in &pipelines {
            let name = format!("{order}-{kind}-{}", format.chunk_bytes());
            let JavaBlock { block, .. } =
                peer.allocate(&name, 1, (len_bytes as u64).next_multiple_of(format.chunk_bytes()));
            let token = token(&bench, &block);
            let last = write(&block, &token, targets, format, &data);
            // Only ours give receipts; a Java node hands on none of what it does not know.
            let ours_first = targets.iter().take_while(|target| ours.contains(target)).count();
            assert_eq!(last.receipts.len(), ours_first, "{name}");
            peer.complete(&name, &block, len_bytes);
            for target in targets {
                let mut stream = connect(target.transfer_port);
                let served = read(&mut stream, &block, &token, 0..len_bytes as u64, true).unwrap();
                assert!(served.format == format && served.data == data, "{name} at {target:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_client_writes_through_a_pipeline_of_both_kinds() {
    let Some(peer) = Peer::shared() else { return };
    let bench = guests(&peer, 1).await;
    let data = pattern(300_001, 5);
    let java = &peer.datanodes[0].target;
    for order in [[java, &bench.target(0)], [&bench.target(0), java]] {
        let name = format!("client-{}", order[0].transfer_port);
        let JavaBlock { block, .. } = peer.allocate(&name, 1, 1 << 20);
        super::client::plan(&peer, &bench, &name, 1 << 20, &[(block.clone(), 0)], &order.map(Clone::clone));
        let source = peer.source(&name, &data);
        peer.tell(&format!("write {name} {source} CRC32C 512 777,100000"));
        peer.complete(&name, &block, data.len());
        for target in order {
            let token = token(&bench, &block);
            let served = read(&mut connect(target.transfer_port), &block, &token, 0..300_001, true).unwrap();
            assert!(served.data == data, "at {target:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_datanode_that_does_not_take_a_block_is_named_by_ours() {
    let Some(peer) = Peer::shared() else { return };
    let bench = guests(&peer, 1).await;
    let JavaBlock { block, ports } = peer.allocate("twice", 1, 1 << 20);
    let java = peer.at(ports[0]).target.clone();
    write(&block, &Bytes::new(), std::slice::from_ref(&java), FORMAT, b"once");
    // It has the block, and closes the connection without a word.
    let (_, answer) = open_write(&block, &token(&bench, &block), &[bench.target(0), java.clone()], FORMAT);
    assert_eq!((reply::status_of(&answer), answer.first_bad_link()), (Status::Error, java.link().as_str()));
}
