//! A disk fills up: writes fail with "no space", deletes still work, nothing acknowledged is lost.

use std::time::Duration;

use tests::command::Ended;
use tests::ledger::Content;
use tests::mount::SmallDisk;
use tests::{Cluster, Options, wait};

const FILE: u64 = 4 << 20;

fn content(i: u64) -> Content {
    Content { seed: 1000 + i, len_bytes: FILE }
}

fn put(cluster: &Cluster, i: u64) -> Ended {
    cluster.run_with_input(&["put", "-", &format!("/f{i}")], &content(i).bytes())
}

fn all_there(cluster: &Cluster, acknowledged: &[u64]) {
    for i in acknowledged {
        let got = cluster.run(&["cat", &format!("/f{i}")]).ok();
        assert!(got.stdout == content(*i).bytes(), "/f{i} differs");
    }
}

#[test]
fn heavy_full_disk_refuses_writes_keeps_what_was_acknowledged_and_still_deletes() {
    if !tests::heavy("full-disk") {
        return;
    }
    let options = Options { datanodes: 1, ..Options::default() }
        .env("BLOCKYARD_NAMENODE__LOG_SEGMENT", "1MiB")
        .env("BLOCKYARD_NAMENODE__DELETE_DELAY", "0s")
        .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms");
    let mut cluster = Cluster::unstarted(options);
    let Some(_disk) = SmallDisk::mount(&cluster.data_dir(), 256) else { return };
    cluster.restart();

    let mut acknowledged = Vec::new();
    let refused = (0..100).find_map(|i| {
        let ended = put(&cluster, i);
        if ended.status.success() {
            acknowledged.push(i);
            return None;
        }
        Some(ended)
    });
    let refused = refused.expect("the disk is smaller than what was put");
    println!("{} files fitted; then: {}", acknowledged.len(), refused.stderr.trim());
    assert!(refused.stderr.contains("space") || refused.stderr.contains("room"), "{}", refused.stderr);
    assert!(acknowledged.len() >= 10, "a disk of 256 MiB holds more than {} files", acknowledged.len());
    assert!(cluster.ready().roles.iter().all(|role| cluster.alive(&role.name)), "no role dies of a full disk");
    assert!(!cluster.logs().contains("panicked"), "{}", cluster.logs());
    all_there(&cluster, &acknowledged);

    // Full also across a crash.
    cluster.kill_all();
    cluster.restart();
    all_there(&cluster, &acknowledged);

    // Deletes make room again.
    for i in acknowledged.drain(..8) {
        cluster.run(&["rm", &format!("/f{i}")]).ok();
    }
    wait::until("room after deletes", Duration::from_secs(90), || put(&cluster, 1000).status.success().then_some(()));
    acknowledged.push(1000);
    all_there(&cluster, &acknowledged);
}
