//! Our datanodes serve a real Java client.

use super::peer::Peer;
use super::wire::read;
use super::*;

/// A token for everything that a client does with a block.
pub(super) fn token(bench: &Bench, block: &BlockRef) -> Bytes {
    let claims = Claims {
        pool: block.pool.clone(),
        block: block.id,
        floor: block.stamp,
        ceiling: block.stamp,
        modes: vec![Mode::Read, Mode::Write],
        user: "ana".into(),
        expires_ms: i64::MAX,
    };
    let nodes: Vec<NodeId> = bench.nodes.iter().map(|node| node.node.clone()).collect();
    token::mint(&master(), 1, &claims, &nodes)
}

/// Tells the scripted namenode of the Java client of a file: its blocks with their lengths, all on these nodes.
pub(super) fn plan(
    peer: &Peer,
    bench: &Bench,
    name: &str,
    block_bytes: u64,
    blocks: &[(BlockRef, u64)],
    targets: &[Target],
) {
    let node = |target: &Target| peer.tell(&format!("node {} {}", target.node, target.transfer_port));
    let nodes = targets.iter().map(node).collect::<Vec<_>>().join(",");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let plan = |(block, len_bytes): &(BlockRef, u64)| {
        let token = token::decode(&token(bench, block)).unwrap();
        let (identifier, password) = (hex(&token.identifier), hex(&token.password));
        format!("{}:{}:{len_bytes}:{nodes}:{identifier}:{password}", block.id.raw(), block.stamp.raw())
    };
    let plans = blocks.iter().map(plan).collect::<Vec<_>>().join(" ");
    let pool = bench.script.lock().unwrap().pool.clone();
    peer.tell(&format!("file {name} {pool} {block_bytes} {plans}"));
}

/// Blocks that a file of that length has.
fn blocks_of(first: i64, len_bytes: usize, block_bytes: u64) -> Vec<(BlockRef, u64)> {
    let len_bytes = len_bytes as u64;
    let count = len_bytes.div_ceil(block_bytes);
    let piece = |n: u64| (block(first + n as i64), block_bytes.min(len_bytes - n * block_bytes));
    (0..count).map(piece).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_client_writes_to_our_datanodes_and_reads_from_each() {
    let Some(peer) = Peer::shared() else { return };
    let bench = Bench::of(3, "BP-1", 64).await;
    let targets = bench.targets();
    for (n, (format, kind, len_bytes)) in
        formats().filter(|(format, ..)| format.kind() != ChecksumKind::Null).enumerate()
    {
        let chunk_bytes = format.chunk_bytes();
        let name = format!("java-{kind}-{chunk_bytes}");
        let data = pattern(len_bytes, chunk_bytes);
        let source = peer.source(&name, &data);
        // Several blocks; the first one is flushed and synced in the middle of chunks.
        let block_bytes = (len_bytes as u64 / 2).next_multiple_of(chunk_bytes);
        let blocks = blocks_of(100 * n as i64, len_bytes, block_bytes);
        let unwritten: Vec<_> = blocks.iter().map(|(block, _)| (block.clone(), 0)).collect();
        plan(&peer, &bench, &name, block_bytes, &unwritten, &targets);
        peer.tell(&format!("write {name} {source} {kind} {chunk_bytes} 1,700,1025,1025,66000"));
        for first in 0..targets.len() {
            let mut order = targets.clone();
            order.rotate_left(first);
            plan(&peer, &bench, &name, block_bytes, &blocks, &order);
            for how in ["stream", "legacy", "unchecked"] {
                assert_eq!(peer.tell(&format!("read {name} {source} {how}")), "", "{name}: nothing is damaged");
            }
        }
        for ((block, len_bytes), part) in blocks.iter().zip(data.chunks(block_bytes as usize)) {
            let served =
                read(&mut connect(targets[2].transfer_port), block, &token(&bench, block), 0..*len_bytes, true);
            assert!(served.is_ok_and(|served| served.format == format && served.data == part), "{name}");
            let trailer = on_disk(&bench.home.path().join("dn0"), block, format, part);
            assert!(trailer.starts_with(b"BYBLKEND"), "{name}: our own part follows Hadoop's");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_client_finds_damage_tells_of_it_and_reads_from_another_node() {
    let Some(peer) = Peer::shared() else { return };
    let bench = Bench::of(2, "BP-1", 64).await;
    let data = pattern(200_000, 9);
    let source = peer.source("flipped", &data);
    bench.write(&block(1), &bench.targets(), &data);
    let path = find(&bench.home.path().join("dn0"), &format!("blk_{}", block(1).id.raw())).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    plan(&peer, &bench, "flipped", 1 << 20, &[(block(1), 200_000)], &bench.targets());
    let reported = peer.tell(&format!("read flipped {source} stream"));
    let expected = format!("{}@{}", block(1).id.raw(), bench.target(0).transfer_port);
    assert!(reported.split(' ').any(|one| one == expected), "{reported}");
    // Alone, it is no source.
    plan(&peer, &bench, "flipped", 1 << 20, &[(block(1), 200_000)], &bench.targets()[..1]);
    let error = peer.ask(&format!("read flipped {source} stream")).unwrap_err();
    assert!(error.contains("Checksum") || error.contains("BlockMissing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_client_is_refused_without_token_and_without_checksums() {
    let Some(peer) = Peer::shared() else { return };
    let bench = Bench::of(1, "BP-1", 64).await;
    let source = peer.source("refusals", &pattern(5000, 1));
    let home = bench.home.path().to_owned();
    plan(&peer, &bench, "bare", 1 << 20, &[(block(1), 0)], &bench.targets());
    let error = peer.ask(&format!("write bare {source} NULL 512 -")).unwrap_err();
    assert!(error.contains("blocks are written with checksums only"), "{error}");
    // A token for another block.
    let other = BlockRef { pool: PoolId::parse("BP-2").unwrap(), ..block(2) };
    plan(&peer, &bench, "foreign", 1 << 20, &[(other, 0)], &bench.targets());
    let error = peer.ask(&format!("write foreign {source} CRC32C 512 -")).unwrap_err();
    assert!(error.contains("access token error"), "{error}");
    eventually("nothing to stay behind", || files_named(&home, "blk_") == 0).await;
}
