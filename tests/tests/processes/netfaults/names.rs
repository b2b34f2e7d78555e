//! The namenode cannot be reached for a while.

use std::time::{Duration, Instant};

use tests::apart::{Flow, NAMENODE};
use tests::net::Cut;
use tests::wait;

use super::{MIB, cluster, content, is_there};

/// A client that never reached the cluster tries for 10 s, one call has 30 s at most.
const DEADLINE: Duration = Duration::from_secs(35);

#[test]
fn l_10_a_command_ends_by_its_deadline_while_the_namenode_is_cut_off_and_succeeds_afterwards() {
    let Some(cluster) = cluster() else { return };
    let bytes = content(2, 3 * MIB);
    for (number, cut) in [Cut::Both, Cut::Outward, Cut::Reset].iter().enumerate() {
        let path = format!("/f{number}");
        cluster.cut(NAMENODE, cut);
        let began = Instant::now();
        let failed = cluster.run_with_input(&["put", "-", &path], &bytes);
        println!("{cut:?}: ended with {} after {:?}: {}", failed.status, began.elapsed(), failed.stderr.trim());
        assert!(began.elapsed() < DEADLINE, "{cut:?}: it took {:?}", began.elapsed());
        assert_eq!(failed.code(), 5, "{cut:?}: a retry may help: {}", failed.stderr);
        cluster.heal(NAMENODE);
        cluster.run_with_input(&["put", "-", &path], &bytes).ok();
        is_there(&cluster, &path, &bytes);
    }
}

/// The namenode goes away before the block is full, and comes back after the last byte was given.
#[test]
fn f_13_a_write_that_is_under_way_waits_for_a_namenode_that_was_cut_off_for_a_while() {
    let Some(cluster) = cluster() else { return };
    let bytes = content(3, 20 * MIB);
    for (number, cut) in [Cut::Both, Cut::Inward, Cut::Outward, Cut::Reset].iter().enumerate() {
        let path = format!("/f{number}");
        let mut put = Flow::start(cluster.command(&["put", "-", &path]));
        assert!(put.feed(&bytes[..7 * MIB]));
        cluster.cut(NAMENODE, cut);
        std::thread::scope(|scope| {
            let cluster = &cluster;
            scope.spawn(move || {
                wait::let_pass(Duration::from_secs(3));
                cluster.heal(NAMENODE);
            });
            assert!(put.feed(&bytes[7 * MIB..]), "{cut:?}");
        });
        let (ended, longest) = put.finish();
        println!("{cut:?}: {} after waits of {longest:?} at most", ended.status);
        ended.ok();
        is_there(&cluster, &path, &bytes);
    }
}
