//! Real processes on machines of their own, with a network between them that drops, drops one way, resets and flaps;
//! servers that stop, clients that die. Root only: elsewhere each test prints why it was skipped.

mod clients;
mod names;
mod reads;
mod writes;

use std::time::Duration;

use tests::apart::{Apart, Flow, datanode, still_alive};
use tests::ledger::Content;
use tests::net::{self, Cut};

/// Another replica is read within 1 s (L-5); the rest is for a machine that does other things too.
const READ_BOUND: Duration = Duration::from_secs(3);
/// A writer goes on within 5 s (L-5); the rest as above.
const WRITE_BOUND: Duration = Duration::from_secs(8);

const MIB: usize = 1 << 20;

/// Datanodes of a cluster: one more than a file has copies, so that a lost one can be replaced.
const DATANODES: u16 = 4;

/// Blocks are short, so that a file has many; nodes are soon known to be silent.
fn cluster() -> Option<Apart> {
    Apart::start(
        DATANODES,
        &["namenode.block_size=8MiB", "namenode.heartbeat_interval=500ms", "namenode.stale_after=3s"],
    )
}

fn content(seed: u64, len: usize) -> Vec<u8> {
    Content { seed, len_bytes: len as u64 }.bytes()
}

/// The names of all datanodes.
fn nodes() -> Vec<String> {
    (1..=DATANODES).map(datanode).collect()
}

/// Puts a file with nothing broken.
fn put(cluster: &Apart, path: &str, bytes: &[u8]) {
    cluster.run_with_input(&["put", "-", path], bytes).ok();
}

/// A file must be there, byte by byte.
fn is_there(cluster: &Apart, path: &str, bytes: &[u8]) {
    assert!(cluster.run(&["cat", path]).ok().stdout == bytes, "{path} differs");
}

/// Feeds a put in as many parts as there are nodes and one more, and breaks one node after another in between.
fn write_through(cluster: &Apart, path: &str, bytes: &[u8], mut before_part: impl FnMut(&Apart, usize)) -> Duration {
    let mut put = Flow::start(cluster.command(&["put", "-", path]));
    let part = bytes.len().div_ceil(nodes().len() + 1);
    for (number, piece) in bytes.chunks(part).enumerate() {
        if number > 0 {
            before_part(cluster, number - 1);
        }
        if !put.feed(piece) {
            break;
        }
    }
    let (ended, longest) = put.finish();
    println!("{path}: {} after waits of {longest:?} at most: {}", ended.status, ended.stderr.trim());
    ended.ok();
    longest
}

#[test]
fn a_network_leaves_nothing_behind_also_when_its_test_fails() {
    let Some(cluster) = cluster() else { return };
    let mut pids: Vec<i32> = nodes().iter().map(|node| cluster.pid(node)).collect();
    pids.push(cluster.pid(tests::apart::NAMENODE));
    let prefix = cluster.net().prefix().to_owned();
    assert_eq!(cluster.net().there().len(), usize::from(DATANODES) + 4, "a namespace for each machine and the switch");
    cluster.cut("dn1", &Cut::Both);
    cluster.signal("dn2", rustix::process::Signal::STOP);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _cluster = cluster;
        panic!("as a failed test does");
    }));
    assert!(failed.is_err());
    assert_eq!(still_alive(&pids), [0; 0]);
    assert!(!net::names().iter().any(|name| name.starts_with(&prefix)), "{:?}", net::names());
}
