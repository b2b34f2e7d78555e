//! Registration, identity, heartbeats, disks that come and go.

use proto::cluster::HeartbeatRequest;
use proto::ids::{NodeId, StorageId};

use super::super::{NodeState, RegistryError};
use super::harness::*;

#[test]
fn sc_71_a_disk_of_another_node_is_refused() {
    let mut bench = Bench::new(2);
    let storage = StorageId::parse(&bench.nodes[0].disks[0].name).unwrap();
    let other = NodeId::parse(&bench.nodes[1].name).unwrap();
    let refused = bench.map.add_storage(&storage, &other, "DISK");
    assert!(matches!(refused, Err(RegistryError::WrongNode { .. })));
    // A report for a disk that is not the reporter's is not believed either.
    let mut stolen = bench.hashes_request(1, 0);
    stolen.storage = bench.nodes[0].disks[0].name.clone();
    assert!(bench.map.hashes(&stolen, &bench.world, bench.now).unwrap().reregister);
}

#[test]
fn who_has_not_registered_is_told_to() {
    let mut bench = Bench::empty(config(), &[1]);
    assert!(bench.beat_with(0, Vec::new()).is_none());
    assert!(bench.report_from(0, 0, 1).reregister);
    let hashes = bench.hashes_request(0, 0);
    assert!(bench.map.hashes(&hashes, &bench.world, bench.now).unwrap().reregister);
    let buckets = bench.buckets_request((0, 0), 1, &[], true);
    assert!(bench.map.buckets(&buckets, &bench.world, bench.now).unwrap().reregister);
    let stranger = HeartbeatRequest { node: "no node".into(), ..HeartbeatRequest::default() };
    assert!(bench.map.heartbeat(&stranger, &bench.world, bench.now, &bench.random).is_none());
    bench.register(0);
    assert!(bench.beat_with(0, Vec::new()).unwrap().full_report);
    bench.full_report(0);
    assert!(!bench.beat_with(0, Vec::new()).unwrap().full_report);
}

#[test]
fn sc_70_a_new_term_asks_every_node_for_a_full_report() {
    let mut bench = Bench::new(1);
    assert!(!bench.beat_with(0, Vec::new()).unwrap().full_report);
    bench.lead(2);
    assert!(bench.beat_with(0, Vec::new()).unwrap().full_report);
    assert_eq!(bench.full_report(0), 0, "equal hashes are a full report");
    assert!(!bench.beat_with(0, Vec::new()).unwrap().full_report);
}

#[test]
fn f_14_a_heartbeat_of_an_earlier_life_of_a_node_gets_no_commands() {
    let mut bench = Bench::new(2);
    bench.file(1, 1, &[0]);
    bench.free(1);
    bench.pass(61);
    bench.restart(0);
    bench.full_report(0);
    bench.nodes[0].disks[0].incarnation -= 1;
    assert!(bench.beat_with(0, Vec::new()).is_none(), "it has to register, and nothing was sent to it");
    bench.nodes[0].disks[0].incarnation += 1;
    assert_eq!(deletes(&bench.beat(0)), [(block(1), "deleted".to_owned())]);
}

#[test]
fn a_node_is_silent_after_ten_seconds_and_dead_after_five_minutes() {
    let mut bench = Bench::new(1);
    let state = |bench: &Bench| bench.map.registry().node(bench.index(0)).state;
    bench.pass(9);
    assert_eq!((state(&bench), bench.map.node_counts()), (NodeState::Live, (1, 0, 0)));
    bench.pass(1);
    assert_eq!((state(&bench), bench.map.node_counts()), (NodeState::Stale, (0, 1, 0)));
    bench.pass(290);
    assert_eq!((state(&bench), bench.map.node_counts()), (NodeState::Dead, (0, 0, 1)));
    bench.beat(0);
    assert_eq!(state(&bench), NodeState::Live);
    bench.pass(400);
    bench.hold(0, whole(1));
    assert_eq!(state(&bench), NodeState::Live, "a report is a sign of life of a dead node");
}

#[test]
fn sc_54_a_disk_that_its_node_does_not_bring_up_does_not_count() {
    let mut bench = Bench::with(config(), &[2, 1, 1]);
    bench.put(0, 1, whole(1));
    bench.report(0);
    bench.file(1, 2, &[1]);
    bench.run(15);
    assert_eq!(bench.map.counts().under_replicated, 0);
    let lost = bench.nodes[0].disks.remove(1);
    bench.restart(0);
    bench.run(15);
    assert!(bench.holders(1).len() >= 2, "copied again: {:?}", bench.holders(1));
    assert_eq!(bench.map.counts().under_replicated, 0);
    assert!(!bench.beat_with(0, Vec::new()).unwrap().full_report, "the lost disk is not asked for");
    // It is back: its copy is one too many, not a missing one.
    bench.nodes[0].disks.push(lost);
    bench.restart(0);
    bench.run(2);
    let index = bench.storage(0, 1);
    assert!(bench.map.registry().counts(index));
}

#[test]
fn a_disk_that_fails_counts_no_more_and_one_that_is_back_counts_again() {
    let mut bench = Bench::new(1);
    bench.file(1, 1, &[0]);
    bench.run(15);
    bench.nodes[0].disks[0].failed = true;
    bench.run(2);
    assert_eq!((bench.map.counts().missing, bench.map.counts().under_replicated), (1, 1));
    bench.nodes[0].disks[0].failed = false;
    bench.run(2);
    assert_eq!((bench.map.counts().missing, bench.map.counts().under_replicated), (0, 0));
}

#[test]
fn an_installed_image_makes_every_node_register_again() {
    let mut bench = Bench::new(1);
    bench.file(1, 1, &[0]);
    bench.map.forget_replicas();
    assert_eq!(bench.map.replicas().known_blocks(), 0);
    assert!(bench.beat_with(0, Vec::new()).is_none());
    bench.register(0);
    bench.full_report(0);
    assert!(bench.map.replicas().is_good(block(1), bench.storage(0, 0)));
}
