//! Replicas that are read whole by their nodes, over real sockets, with their digests.

use std::path::PathBuf;

use transfer::digest::{self, LeafHasher, LeafQueue};
use transfer::verify::LeafOrigin;
use transfer::{Verified, VerifySetup};

use super::*;

const LEN: usize = (2 << 20) + 77;

fn data() -> Vec<u8> {
    (0..LEN).map(|i| (i * 31) as u8).collect()
}

fn tree(data: &[u8]) -> LeafHasher {
    let mut tree = LeafHasher::default();
    tree.update(data);
    tree.finish();
    tree
}

impl Bench {
    /// Writes a block with its leaves.
    pub(super) fn write_with_leaves(&self, block: &BlockRef, targets: &[Target], data: &[u8]) -> Ack {
        let (mut stream, answer) = self.open_write(block, targets);
        assert_eq!(reply::status_of(&answer), Status::Success, "{answer:?}");
        let (tree, mut queue, mut seqno) = (tree(data), LeafQueue::default(), 0);
        for part in data.chunks(256 << 10) {
            let offset_bytes = seqno as u64 * (256 << 10);
            let mut packet = Packet::with_data(FORMAT, seqno, offset_bytes, Bytes::copy_from_slice(part));
            packet.leaves = queue.take(tree.leaves(), (offset_bytes + part.len() as u64) / digest::SEGMENT_BYTES);
            send(&mut stream, &packet);
            assert_eq!(Ack::read(&mut stream).unwrap().first_bad(), None);
            seqno += 1;
        }
        let last =
            Packet { leaves: queue.take(tree.leaves(), u64::MAX), ..Packet::last(seqno, data.len() as u64, true) };
        send(&mut stream, &last);
        Ack::read(&mut stream).unwrap()
    }
    /// Asks a node about its replica; how many signs of life came, and what it says in the end.
    pub(super) fn verify(&self, block: &BlockRef, node: usize, rate: u64) -> (u32, Result<Verified, Status>) {
        let mut stream = connect(self.nodes[node].address.port());
        let setup = VerifySetup { block: block.clone(), token: self.token(block, Mode::Read), rate_bytes_per_s: rate };
        let mut signs = 0;
        stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
        loop {
            let answer = reply::read(&mut stream).unwrap();
            match reply::status_of(&answer) {
                Status::InProgress => signs += 1,
                Status::Success => {
                    // The connection serves another operation.
                    assert!(self.read_on(&mut stream, block, 100).is_ok());
                    return (signs, Ok(Verified::from_reply(&answer).unwrap()));
                }
                refused => return (signs, Err(refused)),
            }
        }
    }
    fn data_file(&self, node: usize) -> PathBuf {
        let dir = self.home.path().join(format!("dn{node}"));
        let mut waiting = vec![dir];
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => waiting.push(path),
                    false if path.file_name().unwrap().to_string_lossy() == block(1).id.to_string() => return path,
                    false => {}
                }
            }
        }
        panic!("node {node} has no replica");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_its_replica_whole_at_the_rate_asked_for_and_tells_its_digest() {
    let bench = Bench::new(2).await;
    let last = bench.write_with_leaves(&block(1), &bench.targets(), &data());
    assert_eq!(last.replies, [Status::Success; 2]);
    for node in 0..2 {
        let (_, found) = bench.verify(&block(1), node, 0);
        let found = found.unwrap();
        assert_eq!((found.len_bytes, found.damage.as_deref()), (LEN as u64, None));
        assert_eq!((found.digest, found.leaves), (Some(tree(&data()).prefix()), LeafOrigin::Writer));
    }
    // Two mebibytes at one a second: somebody is there all the time.
    let began = std::time::Instant::now();
    let (signs, found) = bench.verify(&block(1), 0, 1 << 20);
    assert!(found.is_ok() && signs >= 1, "{signs}");
    assert!(began.elapsed() >= Duration::from_millis(1900));

    let token = bench.token(&block(2), Mode::Read);
    let setup = VerifySetup { block: block(1), token, rate_bytes_per_s: 0 };
    let mut stream = connect(bench.nodes[0].address.port());
    stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
    assert_eq!(reply::status_of(&reply::read(&mut stream).unwrap()), Status::ErrorAccessToken);
    assert_eq!(bench.verify(&block(3), 0, 0).1, Err(Status::Error), "there is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn f_6_damage_that_is_found_by_asking_is_told_to_the_asker_and_to_the_namenode() {
    let bench = Bench::new(1).await;
    bench.write_with_leaves(&block(1), &bench.targets(), &data());
    let path = bench.data_file(0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[LEN / 2] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let mut stream = connect(bench.nodes[0].address.port());
    let setup = VerifySetup { block: block(1), token: bench.token(&block(1), Mode::Read), rate_bytes_per_s: 0 };
    stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
    let found = Verified::from_reply(&reply::read(&mut stream).unwrap()).unwrap();
    assert!(found.damage.is_some_and(|damage| damage.contains("data from byte 1048576 on")) && found.digest.is_none());
    let (script, node) = (Arc::clone(&bench.script), bench.nodes[0].node.to_string());
    let corrupt = c::ReplicaState::Corrupt;
    eventually("the report", || {
        script.lock().unwrap().reported.get(&(node.clone(), block(1).id.raw())) == Some(&corrupt)
    })
    .await;
}
