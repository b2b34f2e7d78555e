//! kill -9 of every process at random instants, under work, with a ledger of what was acknowledged.

use std::time::Duration;

use base::random::{OsRandom, Randomness, SeededRandom};
use tests::ledger::Ledger;
use tests::{Cluster, wait, workload};

/// Environment variable that repeats a run.
const SEED: &str = "BLOCKYARD_TEST_SEED";

fn rounds(count: u64, largest_bytes: u64) {
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| OsRandom.below(1 << 32));
    println!("{SEED}={seed}");
    let random = SeededRandom::new(seed);
    let mut cluster = Cluster::start();
    cluster.run(&["mkdir", workload::DIRECTORY]).ok();
    let mut ledger = Ledger::default();
    let mut acknowledged = 0;
    for round in 0..count {
        let work = Duration::from_millis(20 + random.below(600));
        workload::run(&cluster, &mut ledger, seed.wrapping_add(round), 2, largest_bytes, |control| {
            wait::let_pass(work);
            cluster.kill_roles();
            acknowledged += control.done();
        });
        cluster.kill_all();
        cluster.restart();
        ledger.check(&cluster, workload::DIRECTORY);
    }
    println!("{count} kills, {acknowledged} acknowledged changes, {} names at the end", ledger.len());
    assert!(acknowledged >= count, "the kills met too little work: {acknowledged} changes in {count} rounds");
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_of_everything_at_50_random_instants() {
    rounds(50, 200_000);
}

#[test]
fn heavy_kill_all_with_files_of_many_packets() {
    if tests::heavy("kill-all") {
        rounds(150, 8 << 20);
    }
}

#[test]
fn children_end_with_their_parent_also_by_kill_9() {
    let mut cluster = Cluster::start();
    cluster.kill_parent();
    cluster.restart();
    assert!(cluster.stop().success(), "SIGTERM stops cleanly");
    assert!(cluster.ready().roles.iter().all(|role| !cluster.alive(&role.name)));
}
