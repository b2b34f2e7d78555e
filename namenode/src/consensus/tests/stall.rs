//! The disk of one member's log hangs: the group goes on without it, and takes it back when it answers.

use super::*;

fn proposed(group: &mut Group, id: u64, payload: &[u8]) -> Proposed {
    group.at(id).propose(payload)
}

/// A group whose leader's log hangs, with a change under way there.
fn hung_leader(seed: u64) -> (Group, u64) {
    let mut group = Group::new(seed);
    let leader = group.elect();
    let index = proposed(&mut group, leader, b"before").index.raw();
    group.until("the entry is applied", |group| group.nodes.values().all(|node| node.applied.contains_key(&index)));
    group.at(leader).hung = Some(Vec::new());
    proposed(&mut group, leader, b"under way");
    (group, leader)
}

#[test]
fn sc_17_a_leader_whose_log_hangs_hands_over_within_a_bound_and_comes_back() {
    for seed in 0..8 {
        let (mut group, leader) = hung_leader(40 + seed);
        let bound = config().stall_ticks as usize + 5;
        let serves = (0..bound).find(|_| {
            group.round();
            group.leader().is_some_and(|other| other != leader)
        });
        assert!(serves.is_some(), "seed {seed}: another one serves within {bound} ticks");
        assert!(!group.at(leader).consensus.role().leader && group.at(leader).consensus.is_stalled());
        let heir = group.elect();
        let index = proposed(&mut group, heir, b"after").index.raw();
        group.until("the others go on", |group| {
            group.nodes.iter().filter(|(id, _)| **id != leader).all(|(_, node)| node.applied.contains_key(&index))
        });
        // It does not stand while its log hangs, however long that is.
        for _ in 0..200 {
            group.round();
        }
        assert!(group.leader().is_some_and(|other| other != leader));
        // The disk answers: what waited is written, and the member is one of three again.
        let waited = group.at(leader).hung.take().expect("it hung");
        let node = group.at(leader);
        for batch in waited {
            let done = node.writer.write(vec![batch]).expect("the disk takes it");
            node.consensus.persisted(done);
        }
        group.until("all agree", |group| {
            let payloads: Vec<_> = group.nodes.values().map(Node::payloads).collect();
            payloads.iter().all(|one| *one == payloads[0]) && payloads[0].last().is_some_and(|last| last == b"after")
        });
        assert!(!group.at(leader).consensus.is_stalled());
        assert!(group.at(leader).payloads().contains(&b"before".to_vec()));
    }
}

#[test]
fn sc_17_a_follower_whose_log_hangs_keeps_nobody() {
    let mut group = Group::new(77);
    let leader = group.elect();
    let follower = (1..=3).find(|id| *id != leader).expect("one");
    group.at(follower).hung = Some(Vec::new());
    let index = proposed(&mut group, leader, b"x").index.raw();
    group.until("the others have it", |group| {
        group.nodes.iter().filter(|(id, _)| **id != follower).all(|(_, node)| node.applied.contains_key(&index))
    });
    for _ in 0..100 {
        group.round();
    }
    assert_eq!(group.leader(), Some(leader), "no election");
}

#[test]
fn a_member_alone_waits_for_its_disk_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = OsDisk::shared();
    Node::format(&disk, folder.path(), &identity(1, 1), 1);
    let mut node = Node::start(&disk, folder.path());
    node.settle();
    node.hung = Some(Vec::new());
    node.propose(b"waits");
    for _ in 0..=config().stall_ticks + 1 {
        node.consensus.tick();
        node.settle();
    }
    assert!(node.consensus.is_stalled() && node.consensus.role().leader);
    for batch in node.hung.take().expect("it hung") {
        let done = node.writer.write(vec![batch]).expect("the disk takes it");
        node.consensus.persisted(done);
    }
    node.settle();
    node.consensus.tick();
    assert!(!node.consensus.is_stalled());
    assert_eq!(node.payloads(), [b"waits".to_vec()]);
}
