//! Three voters: election, replication, loss, images for those who lag, rot that peers mend.

use super::*;

fn commit(group: &mut Group, payload: &[u8]) {
    let leader = group.elect();
    let proposed = group.at(leader).propose(payload);
    let index = proposed.index.raw();
    group.until("the entry is applied", |group| group.nodes.values().any(|node| node.applied.contains_key(&index)));
}

fn converge(group: &mut Group) {
    group.loss_percent = 0;
    group.cut_off = None;
    group.until("all members agree", |group| {
        let mut positions = group.nodes.values().map(|node| node.position.index);
        let first = positions.next();
        group.leader().is_some() && positions.all(|position| Some(position) == first)
    });
    let states: Vec<_> = group.nodes.values().map(|node| node.applied.clone()).collect();
    assert!(states.iter().all(|state| *state == states[0]));
}

#[test]
fn three_members_elect_and_replicate() {
    let mut group = Group::new(1);
    for number in 0..20 {
        commit(&mut group, &[number]);
    }
    converge(&mut group);
    assert_eq!(group.at(1).payloads().len(), 20);
    let leader = group.elect();
    group.at(leader).consensus.read_index(77).expect("serves");
    group.until("the read is answered", |group| group.nodes[&leader].reads.iter().any(|read| read.context == 77));
    let follower = (1..=3).find(|id| *id != leader).expect("one");
    let refused = group.at(follower).consensus.propose(1, Bytes::from_static(b"x"));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(MemberId::from_raw(leader)) }));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut group = Group::new(seed);
        group.loss_percent = 20;
        let mut trace = Vec::new();
        for _ in 0..200 {
            group.round();
            trace.push((group.leader(), group.network.len(), group.at(1).position.index));
            if let Some(leader) = group.leader() {
                group.at(leader).propose(b"x");
            }
        }
        trace
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn nothing_acknowledged_is_lost_by_losses_restarts_and_partitions() {
    for seed in 0..8 {
        let mut group = Group::new(100 + seed);
        group.loss_percent = 15;
        let mut acknowledged = Vec::new();
        let mut waiting: Vec<(u64, Proposed, Vec<u8>)> = Vec::new();
        for step in 0..600_u64 {
            match group.random.below(40) {
                0 => {
                    let id = 1 + group.random.below(3);
                    group.restart(id);
                    waiting.retain(|(leader, ..)| *leader != id);
                }
                1 => group.cut_off = Some(1 + group.random.below(3)),
                2 => group.cut_off = None,
                3 => {
                    let id = 1 + group.random.below(3);
                    let node = group.at(id);
                    if node.images.newest().is_none_or(|newest| newest.meta.index < node.position.index) {
                        node.write_image();
                    }
                }
                _ => {}
            }
            if let Some(leader) = group.leader() {
                let payload = step.to_le_bytes().to_vec();
                if let Ok(proposed) = group.at(leader).consensus.propose(1, Bytes::from(payload.clone())) {
                    waiting.push((leader, proposed, payload));
                }
            }
            group.round();
            waiting.retain(|(leader, proposed, payload)| {
                let node = &group.nodes[leader];
                let done = node.applied.get(&proposed.index.raw()) == Some(payload);
                if done {
                    acknowledged.push((proposed.index.raw(), payload.clone()));
                }
                !done
            });
        }
        converge(&mut group);
        assert!(acknowledged.len() > 100, "seed {seed}: {}", acknowledged.len());
        let state = group.at(2).applied.clone();
        for (index, payload) in acknowledged {
            assert_eq!(state.get(&index), Some(&payload), "seed {seed} index {index}");
        }
    }
}

#[test]
fn a_follower_that_lags_behind_the_log_gets_an_image() {
    let mut group = Group::new(9);
    let leader = group.elect();
    let lagging = (1..=3).find(|id| *id != leader).expect("one");
    group.cut_off = Some(lagging);
    for number in 0..120_u8 {
        group.until("a leader that is not cut off", |group| group.leader().is_some_and(|id| id != lagging));
        let leader = group.leader().expect("just seen");
        group.at(leader).propose(&vec![number; 700]);
        group.round();
    }
    for id in (1..=3).filter(|id| *id != lagging) {
        group.at(id).write_image();
        group.round();
    }
    for _ in 0..5 {
        let leader = group.elect();
        group.at(leader).propose(b"after");
        group.round();
    }
    converge(&mut group);
    let node = group.at(lagging);
    assert!(node.images.newest().is_some(), "it came as an image");
    group.restart(lagging);
    converge(&mut group);
    commit(&mut group, b"and on");
    converge(&mut group);
}

#[test]
fn a_member_may_stand_for_election_when_nothing_came_after_its_image() {
    let mut group = Group::new(31);
    let leader = group.elect();
    let lagging = (1..=3).find(|id| *id != leader).expect("one");
    group.cut_off = Some(lagging);
    for number in 0..120_u8 {
        let leader = group.elect();
        group.at(leader).propose(&vec![number; 700]);
        group.round();
    }
    for id in (1..=3).filter(|id| *id != lagging) {
        group.at(id).write_image();
    }
    group.cut_off = None;
    group.until("the image is there", |group| group.nodes[&lagging].images.newest().is_some());
    let place = group.nodes[&lagging].position.index;
    assert_eq!(Some(place), group.nodes[&lagging].images.newest().map(|newest| newest.meta.index), "nothing behind it");
    // Whoever leads falls silent: the follower's election timeout passes.
    group.cut_off = group.leader();
    group.until("someone else leads", |group| group.leader().is_some_and(|id| Some(id) != group.cut_off));
    group.at(lagging).consensus.campaign();
    group.cut_off = None;
    commit(&mut group, b"and on");
    converge(&mut group);
}

#[test]
fn foreign_and_malformed_messages_change_nothing() {
    let mut group = Group::new(2);
    commit(&mut group, b"x");
    let leader = group.elect();
    let follower = (1..=3).find(|id| *id != leader).expect("one");
    let good = RaftMessage {
        cluster: "CID-test".to_owned(),
        kind: 8,
        to: follower,
        from: leader,
        term: 99,
        ..RaftMessage::default()
    };
    let image = |voters| proto::raft::RaftSnapshot { index: 99, term: 1, voters, ..Default::default() };
    let bad = [
        RaftMessage { cluster: "CID-other".to_owned(), ..good.clone() },
        RaftMessage { to: leader, ..good.clone() },
        RaftMessage { from: 9, ..good.clone() },
        RaftMessage { from: follower, ..good.clone() },
        RaftMessage { kind: 2, ..good.clone() },
        RaftMessage { kind: 1_000, ..good.clone() },
        RaftMessage { kind: 8, snapshot: Some(image(vec![1, 2, 3])), ..good.clone() },
        RaftMessage { kind: 7, snapshot: Some(image(vec![1])), ..good.clone() },
    ];
    let before = group.at(follower).consensus.role();
    for message in bad {
        assert!(group.at(follower).consensus.step(message.clone()).is_err(), "{message:?}");
        assert_eq!(group.at(follower).consensus.role(), before);
    }
}
