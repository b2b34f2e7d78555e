//! A client dies in the middle of a write.

use std::time::Duration;

use tests::apart::{Apart, Flow};
use tests::wait;

use super::{DATANODES, MIB, content, is_there, put};

#[test]
fn d_5_f_15_a_client_that_is_killed_in_mid_write_leaves_nothing_and_its_space_comes_back() {
    let settings = [
        "namenode.block_size=2MiB",
        "namenode.heartbeat_interval=500ms",
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
