//! A datanode of a pipeline cannot be reached, or stops, in the middle of a write: the write goes on with others.

use std::time::Duration;

use rustix::process::Signal;
use tests::apart::{Apart, CLIENT, Flow};
use tests::net::Cut;
use tests::wait;

use super::{MIB, WRITE_BOUND, cluster, content, is_there, nodes, put, write_through};

const LEN: usize = 40 * MIB;

/// Breaks each node in turn, and mends the one before, while a file is written.
fn break_in_turn(break_node: impl Fn(&Apart, &str), mend_node: impl Fn(&Apart, &str)) {
    let Some(cluster) = cluster() else { return };
    let (bytes, nodes) = (content(6, LEN), nodes());
    let longest = write_through(&cluster, "/f", &bytes, |cluster, turn| {
        if let Some(before) = turn.checked_sub(1).and_then(|before| nodes.get(before)) {
            mend_node(cluster, before);
        }
        break_node(cluster, &nodes[turn]);
    });
    assert!(longest <= WRITE_BOUND, "a write stood still for {longest:?}");
    is_there(&cluster, "/f", &bytes);
    nodes.iter().for_each(|node| mend_node(&cluster, node));
    becomes_whole(&cluster, &bytes);
}

/// All copies are made again, each of them is right, and replicas of older stamps are no harm.
fn becomes_whole(cluster: &Apart, bytes: &[u8]) {
    wait::until("full redundancy", Duration::from_secs(120), || {
        let status = cluster.status();
        let whole = status["under_replicated"] == 0 && status["pending_copy"] == 0 && status["live_nodes"] == 4;
        // What was closed lately is not copied yet, and lacks copies all the same: each file is looked at.
        let looked = cluster.run(&["fsck", "--json", "/"]).text();
        let lacks = looked.contains(r#""type":"fsck-file""#);
        (whole && !lacks).then_some(())
    });
    cluster.run(&["fsck", "--full", "--rate", "1G", "/"]).ok();
    is_there(cluster, "/f", bytes);
}

fn cut_in_turn(cut: &Cut) {
    break_in_turn(|cluster, node| cluster.cut(node, cut), Apart::heal);
}

#[test]
fn f_13_l_5_datanodes_that_are_cut_off_in_mid_write_are_replaced() {
    cut_in_turn(&Cut::Both);
}

#[test]
fn f_13_l_5_datanodes_that_hear_nothing_in_mid_write_are_replaced() {
    cut_in_turn(&Cut::Inward);
}

#[test]
fn f_13_l_5_datanodes_whose_packets_are_lost_in_mid_write_are_replaced() {
    cut_in_turn(&Cut::Outward);
}

#[test]
fn f_13_datanodes_that_the_client_alone_cannot_reach_in_mid_write_are_replaced() {
    break_in_turn(
        |cluster, node| cluster.cut(CLIENT, &Cut::To(cluster.net().address(node))),
        |cluster, _node| cluster.heal(CLIENT),
    );
}

#[test]
fn f_13_a_write_survives_the_reset_of_every_connection_of_its_pipeline() {
    let Some(cluster) = cluster() else { return };
    let bytes = content(7, LEN);
    let longest = write_through(&cluster, "/f", &bytes, |cluster, _turn| {
        nodes().iter().for_each(|node| cluster.cut(node, &Cut::Reset));
        wait::let_pass(Duration::from_millis(200));
        nodes().iter().for_each(|node| cluster.heal(node));
    });
    assert!(longest <= WRITE_BOUND, "a write stood still for {longest:?}");
    is_there(&cluster, "/f", &bytes);
    becomes_whole(&cluster, &bytes);
}

/// A node that was stopped wakes up with a replica that is older than all others: it may not do harm with it.
#[test]
fn f_16_v_4_datanodes_that_stop_in_mid_write_are_replaced_and_are_no_harm_when_they_wake_up() {
    break_in_turn(
        |cluster, node| cluster.signal(node, Signal::STOP),
        |cluster, node| cluster.signal(node, Signal::CONT),
    );
}

/// A link goes away and comes back all the time; the other two copies are enough.
#[test]
fn f_13_a_link_that_flaps_under_writes_and_reads_is_no_harm() {
    let Some(cluster) = cluster() else { return };
    let bytes = content(8, LEN);
    put(&cluster, "/read", &bytes);
    std::thread::scope(|scope| {
        let cluster = &cluster;
        let flap = scope.spawn(move || {
            for turn in 0..24 {
                let cut = if turn % 3 == 0 { Cut::Reset } else { Cut::Both };
                cluster.cut("dn1", &cut);
                wait::let_pass(Duration::from_millis(150));
                cluster.heal("dn1");
                wait::let_pass(Duration::from_millis(150));
            }
        });
        let mut number = 0;
        while !flap.is_finished() || number == 0 {
            let path = if number == 0 { "/f".to_owned() } else { format!("/f{number}") };
            let mut put = Flow::start(cluster.command(&["put", "-", &path]));
            assert!(put.feed(&bytes), "{path}");
            put.finish().0.ok();
            is_there(cluster, &path, &bytes);
            is_there(cluster, "/read", &bytes);
            number += 1;
        }
        println!("{number} files were written meanwhile");
    });
    becomes_whole(&cluster, &bytes);
}
