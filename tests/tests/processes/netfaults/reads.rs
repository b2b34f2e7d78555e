//! A datanode cannot be reached, or stops, in the middle of a read.

use rustix::process::Signal;
use tests::apart::{Apart, CLIENT, Flow};
use tests::net::Cut;

use super::{MIB, READ_BOUND, cluster, content, nodes, put};

/// Reads a file, and before each further part breaks the next node (and mends the one before): whichever is read from, it
/// is met. Two copies can be read at any time.
fn read_through(break_node: impl Fn(&Apart, &str), mend_node: impl Fn(&Apart, &str)) {
    let Some(cluster) = cluster() else { return };
    let bytes = content(1, 60 * MIB);
    put(&cluster, "/f", &bytes);
    let mut cat = Flow::start(cluster.command(&["cat", "/f"]));
    let nodes = nodes();
    let part = bytes.len() / (nodes.len() + 1);
    let mut got = cat.take(part);
    for (number, node) in nodes.iter().enumerate() {
        if let Some(before) = number.checked_sub(1).and_then(|before| nodes.get(before)) {
            mend_node(&cluster, before);
        }
        break_node(&cluster, node);
        got.extend(cat.take(part));
    }
    got.extend(cat.take(bytes.len() - got.len()));
    let (ended, longest) = cat.finish();
    println!("read after waits of {longest:?} at most");
    assert!(ended.ok().stdout.is_empty(), "nothing behind the end");
    assert!(got == bytes, "what was read differs");
    assert!(longest <= READ_BOUND, "a read stood still for {longest:?}");
}

fn cut_while_reading(cut: &Cut) {
    read_through(|cluster, node| cluster.cut(node, cut), Apart::heal);
}

#[test]
fn f_13_l_5_a_datanode_that_is_cut_off_in_mid_read_is_read_around() {
    cut_while_reading(&Cut::Both);
}

#[test]
fn f_13_l_5_a_datanode_whose_packets_are_lost_in_mid_read_is_read_around() {
    cut_while_reading(&Cut::Outward);
}

#[test]
fn f_13_l_5_a_datanode_that_hears_nothing_in_mid_read_is_read_around() {
    cut_while_reading(&Cut::Inward);
}

#[test]
fn f_13_a_datanode_whose_connections_are_reset_in_mid_read_is_read_around() {
    cut_while_reading(&Cut::Reset);
}

#[test]
fn f_16_l_5_a_datanode_that_stops_in_mid_read_is_read_around() {
    read_through(
        |cluster, node| cluster.signal(node, Signal::STOP),
        |cluster, node| cluster.signal(node, Signal::CONT),
    );
}

#[test]
fn f_13_a_datanode_that_this_client_alone_cannot_reach_is_read_around() {
    read_through(
        |cluster, node| cluster.cut(CLIENT, &Cut::To(cluster.net().address(node))),
        |cluster, _node| cluster.heal(CLIENT),
    );
}
