//! A client dies, or is cut off, in the middle of a write.

use std::time::Duration;

use tests::apart::{Apart, CLIENT, Flow};
use tests::net::Cut;
use tests::wait;

use super::{DATANODES, MIB, content, is_there, put};

#[test]
fn d_5_f_15_a_client_that_is_killed_in_mid_write_leaves_nothing_and_its_space_comes_back() {
    let settings = [
        "namenode.block_size=2MiB",
        "namenode.heartbeat_interval=500ms",
        "namenode.lease_soft_limit=3s",
        "namenode.lease_hard_limit=3s",
        "namenode.delete_delay=0s",
        "datanode.trash_keep=0s",
    ];
    let Some(cluster) = Apart::start(DATANODES, &settings) else { return };
    let before = content(4, MIB);
    put(&cluster, "/replaced", &before);
    let bytes = content(5, 12 * MIB);
    for (number, path) in ["/new", "/replaced"].iter().enumerate() {
        let mut put = Flow::start(cluster.command(&["put", "-f", "-", path]));
        // In the middle of a block, and of a chunk.
        assert!(put.feed(&bytes[..(5 + 3 * number) * MIB + 77]));
        put.kill();
    }
    assert_eq!(cluster.run(&["stat", "/new"]).code(), 3, "it was never closed");
    is_there(&cluster, "/replaced", &before);
    wait::until("leases and blocks of the dead clients to be gone", Duration::from_secs(60), || {
        let status = cluster.status();
        (status["open_files"] == 0 && status["blocks"] == 1).then_some(())
    });
    wait::until("their replicas to be gone", Duration::from_secs(60), || {
        let text = cluster.run(&["node", "ls", "--json"]).ok().text();
        let nodes = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        (nodes.map(|node| node["blocks"].as_u64().expect("blocks")).sum::<u64>() == 3).then_some(())
    });
    for path in ["/new", "/replaced"] {
        cluster.run_with_input(&["put", "-f", "-", path], &bytes).ok();
        is_there(&cluster, path, &bytes);
    }
}

/// Length that a client writes towards, and its flag of a soak: it flushes now and then, and prints each flushed length.
const TOWARDS: usize = 64 * MIB;

fn flushing(cluster: &Apart, path: &str) -> Flow {
    Flow::start(cluster.command(&["soak", "--as-client", &format!("1:{TOWARDS}:{path}")]))
}

/// The last of so many lengths that it says are flushed.
fn flushed(client: &mut Flow, times: usize) -> usize {
    let lines: Vec<String> = (0..times).map(|_| client.line().expect("a flushed length")).collect();
    lines.last().and_then(|line| line.parse().ok()).expect("a number")
}

/// The file's bytes once it is closed; nothing is asked of the namenode but to wait.
fn closed(cluster: &Apart, path: &str) -> Vec<u8> {
    wait::until("the file to be closed", Duration::from_secs(120), || {
        let entry: serde_json::Value = serde_json::from_str(&cluster.observe(&["stat", "--json", path]).text()).ok()?;
        (entry["open"] == false).then_some(())
    });
    cluster.observe(&["cat", path]).ok().stdout
}

fn leases() -> Option<Apart> {
    let settings = [
        "namenode.block_size=1MiB",
        "namenode.heartbeat_interval=500ms",
        "namenode.lease_soft_limit=8s",
        "namenode.lease_hard_limit=8s",
    ];
    Apart::start(DATANODES, &settings)
}

/// Two clients write the same and die at different bytes: each file is a beginning of the same content.
#[test]
fn d_5_f_15_a_client_that_is_killed_leaves_a_readable_file_of_at_least_what_it_flushed() {
    let Some(cluster) = leases() else { return };
    let mut files = Vec::new();
    for (path, times) in [("/short", 1), ("/middle", 12), ("/long", 37)] {
        let mut client = flushing(&cluster, path);
        let least = flushed(&mut client, times);
        client.kill();
        files.push((path, least));
    }
    let contents: Vec<Vec<u8>> = files.iter().map(|(path, _)| closed(&cluster, path)).collect();
    for ((path, least), bytes) in files.iter().zip(&contents) {
        assert!(bytes.len() >= *least, "{path}: {} bytes, {least} were flushed", bytes.len());
    }
    let longest = contents.iter().max_by_key(|bytes| bytes.len()).expect("three");
    assert!(contents.iter().all(|bytes| longest.starts_with(bytes)), "each is a beginning of the longest");
    assert!(longest.chunks(4096).all(|page| page.iter().any(|byte| *byte != 0)), "no padding");
}

/// Its lease runs out behind its back: the file is closed without it, and what it sends when it is back counts for nothing.
#[test]
fn v_4_f_13_a_client_that_is_cut_off_loses_its_file_and_cannot_write_to_it_any_more() {
    let Some(cluster) = leases() else { return };
    let mut client = flushing(&cluster, "/f");
    let least = flushed(&mut client, 9);
    cluster.cut(CLIENT, &Cut::Both);
    let bytes = closed(&cluster, "/f");
    assert!(bytes.len() >= least, "{} bytes, {least} were flushed", bytes.len());
    cluster.heal(CLIENT);
    // What it still says were answers that were on their way.
    while let Some(line) = client.line() {
        let said: usize = line.parse().unwrap_or(0);
        assert!(said <= bytes.len(), "{said} bytes are said to be flushed, {} are there", bytes.len());
    }
    let (ended, _) = client.finish();
    assert!(!ended.status.success(), "it has lost its file");
    assert!(closed(&cluster, "/f") == bytes, "nothing was added");
}
