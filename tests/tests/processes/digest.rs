//! Digests from the writer to `fsck --full`: what nobody's checksum tells any more is found, named and repaired.

use std::path::Path;
use std::time::Duration;

use base::two_slot::crc32c;
use serde_json::Value;
use tests::ledger::Content;
use tests::{Cluster, Options, wait};

use super::repair::{checksums_of, data_files, flip, replicas, status};

const PATIENCE: Duration = Duration::from_secs(60);
const LONG_BYTES: u64 = (3 << 20) + 500;

/// A cluster in which nobody but the asker looks for damage.
fn unwatched() -> Cluster {
    Cluster::with(
        Options::default()
            .env("BLOCKYARD_NAMENODE__SETTLE", "500ms")
            .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms")
            .env("BLOCKYARD_NAMENODE__DELETE_DELAY", "0s")
            .env("BLOCKYARD_DATANODE__SCRUB_RATE", "0"),
    )
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The last object of `fsck --full --json`, and the damaged replicas before it.
fn fsck(cluster: &Cluster, code: i32) -> (Value, Vec<Value>) {
    let ended = cluster.run(&["fsck", "--full", "--rate", "1G", "--json"]);
    assert_eq!(ended.code(), code, "{}", ended.text());
    let mut said = objects(&ended.text());
    let last = said.pop().expect("a summary");
    assert_eq!(last["type"], "fsck");
    (last, said.into_iter().filter(|object| object["type"] == "fsck-replica").collect())
}

/// Replaces a replica by other bytes of the same length with right checksums and a right trailer, without leaves.
fn forge(data: &Path, content: &[u8]) {
    let meta = checksums_of(data);
    let bytes = std::fs::read(&meta).expect("checksums");
    let at = bytes.windows(8).position(|window| window == b"BYBLKEND").expect("a trailer");
    let pool_bytes = u32::from_le_bytes(bytes[at + 44..at + 48].try_into().expect("four bytes")) as usize;
    let sums: Vec<u8> = content.chunks(512).flat_map(|chunk| crc32c(chunk).to_be_bytes()).collect();
    assert_eq!(7 + sums.len(), at, "as long as it was");
    let mut trailer = bytes[at..at + 52 + pool_bytes].to_vec();
    trailer[36..40].copy_from_slice(&crc32c(&sums).to_le_bytes());
    trailer[40..44].copy_from_slice(&0_u32.to_le_bytes());
    trailer.extend_from_slice(&(trailer.len() as u32 + 8).to_le_bytes());
    trailer.extend_from_slice(&crc32c(&trailer).to_le_bytes());
    std::fs::write(data, content).expect("data");
    std::fs::write(&meta, [&bytes[..7], &sums, &trailer].concat()).expect("checksums");
}

#[test]
fn f_6_fsck_full_finds_rot_and_forgery_and_the_cluster_repairs_both() {
    let cluster = unwatched();
    let long = Content { seed: 1, len_bytes: LONG_BYTES }.bytes();
    let short = Content { seed: 2, len_bytes: 3000 }.bytes();
    cluster.run_with_input(&["put", "-", "/long"], &long).ok();
    cluster.run_with_input(&["put", "-", "/short"], &short).ok();
    cluster.run_with_input(&["put", "--digest", "none", "-", "/plain"], b"no digest").ok();
    wait::until("the replicas to be counted", PATIENCE, || (replicas(&cluster) == 9).then_some(()));
    let (said, damaged) = fsck(&cluster, 0);
    assert_eq!((said["healthy"].as_bool(), damaged.len()), (Some(true), 0), "{said}");
    assert_eq!((&said["replicas_read"], &said["blocks_without_digest"]), (&9.into(), &1.into()), "{said}");
    assert_eq!(said["bytes_read"].as_u64(), Some(3 * (LONG_BYTES + 3000 + 9)), "{said}");

    // Rot in the long file on one node; on another the short one is a good replica of something else.
    let of_length = |role: &str, len_bytes: u64| {
        let files = data_files(&cluster, role).into_iter();
        files.into_iter().find(|path| path.metadata().is_ok_and(|is| is.len() == len_bytes)).expect("a replica")
    };
    let (rotten, forged) = (of_length("dn1", LONG_BYTES), of_length("dn2", 3000));
    let (_, rot) = flip(&rotten, LONG_BYTES / 2);
    let other = Content { seed: 3, len_bytes: 3000 }.bytes();
    forge(&forged, &other);
    let (said, damaged) = fsck(&cluster, 6);
    assert_eq!((&said["healthy"], &said["damaged_replicas"]), (&false.into(), &2.into()), "{said}");
    let of = |path: &str| damaged.iter().find(|object| object["path"] == path).expect("named").clone();
    assert!(of("/long")["damage"].as_str().expect("words").contains("data from byte 1048576"), "{damaged:?}");
    assert!(of("/short")["damage"].as_str().expect("words").contains("not those that were written"), "{damaged:?}");
    let nodes = objects(&cluster.run(&["node", "ls", "--json"]).ok().text());
    for object in &damaged {
        assert!(nodes.iter().any(|node| node["id"] == object["node"]), "{object}");
        assert!(object["block"].as_i64() >= Some(1_073_741_825), "{object}");
    }

    wait::until("both to be replaced", PATIENCE, || {
        let gone = |path: &Path, bad: &[u8]| std::fs::read(path).is_ok_and(|now| now != bad);
        let whole = replicas(&cluster) == 9 && status(&cluster)["corrupt"] == 0;
        (whole && gone(&rotten, &rot) && gone(&forged, &other)).then_some(())
    });
    assert_eq!(std::fs::read(&forged).expect("a replica"), short);
    let (said, damaged) = fsck(&cluster, 0);
    assert_eq!((&said["replicas_read"], damaged.len()), (&9.into(), 0), "{said}");
    assert!(cluster.run(&["cat", "/long"]).ok().stdout == long);
}

#[test]
fn checksum_tells_the_digest_of_files_whose_blocks_all_have_one() {
    let cluster = unwatched();
    let content = Content { seed: 7, len_bytes: 300_000 }.bytes();
    for (path, flags) in [
        ("/a", &["--block-size", "64K"][..]),
        ("/same", &["--block-size", "64K"]),
        ("/other-blocks", &["--block-size", "128K"]),
        ("/none", &["--digest", "none"]),
    ] {
        cluster.run_with_input(&[&["put"], flags, &["-", path]].concat(), &content).ok();
    }
    let digest =
        |path: &str| cluster.run(&["checksum", "--digest", path]).ok().text().split(' ').next().map(str::to_owned);
    assert_eq!(digest("/a"), digest("/same"));
    assert_ne!(digest("/a"), digest("/other-blocks"));
    let refused = cluster.run(&["checksum", "--digest", "/none"]);
    assert_ne!(refused.code(), 0);
    let said = |path: &str| objects(&cluster.run(&["checksum", "--json", path]).ok().text()).remove(0);
    assert_eq!(said("/a")["digest"].as_str().map(str::to_owned), digest("/a"));
    assert_eq!(said("/none")["digest"], Value::Null);
    assert_eq!(said("/a")["sha256"], said("/none")["sha256"], "the bytes are the same");
    // Copies within the cluster are written anew.
    cluster.run(&["cp", "/none", "/copied"]).ok();
    assert!(digest("/copied").is_some_and(|digest| digest.len() == 32));
}
