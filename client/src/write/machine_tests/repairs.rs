//! Pipelines that fail at every packet and position: what was acknowledged is there in the end, and the rest follows.

use super::*;
use transfer::WriteStage;

/// How much of the last packet arrives before a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Nowhere,
    BeforeTheNode,
    /// Everywhere, and the ack is lost.
    Everywhere,
}

/// Writes `bytes`, and kills the node at `position` when `packet` packets have been acknowledged.
fn with_a_death(nodes: usize, bytes: &[u8], (position, packet, reach, known): (usize, usize, Reach, bool)) -> Run {
    let mut run = Run::of(nodes);
    let mut left = bytes;
    let (mut acked, mut died) = (0, false);
    loop {
        let room = run.writer.room_bytes().min(left.len());
        if room > 0 {
            run.write(&left[..room]);
            left = &left[room..];
        } else if left.is_empty() && run.writer.room_bytes() > 0 {
            run.event(WriteEvent::Close);
        }
        if !died && acked == packet {
            died = true;
            let line = run.world.line.clone().expect("a pipeline");
            let node = line.nodes[position];
            match reach {
                Reach::Nowhere => {}
                Reach::BeforeTheNode => drop(run.world.deliver(position)),
                Reach::Everywhere => drop(run.world.deliver(usize::MAX)),
            }
            run.world.dead.push(node);
            run.fail(known.then_some(position));
        }
        if !run.step() && left.is_empty() {
            break;
        }
        acked += 1;
    }
    run
}

#[test]
fn d_2_whichever_node_dies_at_whichever_packet_the_file_is_whole() {
    // Two whole blocks of four packets and a begun one.
    let bytes = content(2 * BLOCK_BYTES as usize + 1500);
    for nodes in [3, 5] {
        for (position, packet) in (0..3).flat_map(|position| (0..10).map(move |packet| (position, packet))) {
            for reach in [Reach::Nowhere, Reach::BeforeTheNode, Reach::Everywhere] {
                for known in [true, false] {
                    let what = format!("{nodes} nodes, {position} dies at {packet}, {reach:?}, known: {known}");
                    let run = with_a_death(nodes, &bytes, (position, packet, reach, known));
                    assert_eq!(run.world.done, Some(Ok(())), "{what}");
                    assert!(run.world.published.as_ref() == Some(&bytes), "{what}");
                }
            }
        }
    }
}

#[test]
fn d_7_with_further_nodes_no_copy_is_missing_and_with_none_the_write_goes_on_or_fails_loudly() {
    let bytes = content(3500);
    let copies = |run: &Run| run.world.committed.last().unwrap().receipts.len();
    let run = with_a_death(5, &bytes, (1, 2, Reach::BeforeTheNode, true));
    assert_eq!((copies(&run), run.world.transfers), (3, 1), "a further node got what was acknowledged");
    let run = with_a_death(3, &bytes, (1, 2, Reach::BeforeTheNode, true));
    assert_eq!((copies(&run), run.world.transfers), (2, 0));
    // Two of three: the namenode does not agree to one copy.
    let mut run = Run::of(3);
    run.write(&bytes[..3000]);
    run.step();
    run.world.dead.extend([0, 2]);
    run.fail(None);
    let begun = run.now;
    while run.world.done.is_none() {
        run.wait();
    }
    assert!(run.now.since(begun) <= Duration::from_secs(30), "{:?}", run.now.since(begun));
    let Some(Err(error)) = &run.world.done else { panic!("{:?}", run.world.done) };
    assert_eq!(error.code, ErrorCode::NotEnoughNodes);
    assert!(error.message.contains("127.0.0.1:900") && error.message.contains("nothing was published"), "{error}");
    assert!(run.world.discarded && run.world.published.is_none());
}

#[test]
fn a_second_death_in_the_middle_of_a_repair_is_repaired_too() {
    let bytes = content(3500);
    for second in 0..6 {
        let mut run = Run::of(6);
        run.write(&bytes[..3000]);
        run.step();
        // Everything on the way to the new pipeline fails once: the sender or the target of the copy, or a node of it.
        run.world.dead.push(1);
        match second {
            0 => run.world.cannot_copy_to.push(3),
            1 => run.world.cannot_copy_to.extend([3, 4]),
            node => run.world.dead.push(node),
        }
        run.fail(Some(1));
        run.write_all(&bytes[3000..]);
        run.event(WriteEvent::Close);
        run.settle();
        assert_eq!(run.world.published.as_ref(), Some(&bytes), "{second}: {:?}", run.world.done);
    }
}

#[test]
fn sc_37_of_a_connection_that_broke_once_nobody_is_at_fault() {
    let bytes = content(3500);
    let mut run = Run::of(3);
    run.write(&bytes[..3000]);
    run.step();
    run.fail(None);
    assert_eq!(run.world.updates.iter().map(Vec::len).collect::<Vec<_>>(), [3], "all are there, and go on");
    assert!(run.world.excluded.is_empty());
    // Without anything that got on since.
    run.fail(None);
    assert_eq!(run.world.updates.last().map(Vec::len), Some(2), "again: somebody has to go");
    run.write_all(&bytes[3000..]);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
}

#[test]
fn proofs_that_came_before_the_connection_ended_are_not_lost() {
    let bytes = content(2500);
    let mut run = Run::of(3);
    run.write(&bytes[..2048]);
    run.settle();
    run.write(&bytes[2048..]);
    run.event(WriteEvent::Close);
    let line = run.world.line.clone().unwrap();
    run.world.deliver(2);
    run.world.dead.push(line.nodes[2]);
    let failed = WriteEvent::PipelineFailed { attempt: line.attempt, bad: Some(2), why: "it died".into() };
    let mut events = std::collections::VecDeque::from([failed]);
    while let Some(event) = events.pop_front() {
        let mut effects = Vec::new();
        run.writer.handle(event, run.now, &mut effects);
        let updates = effects.iter().any(|effect| matches!(effect, WriteEffect::UpdatePipeline { .. }));
        events.extend(run.world.perform(effects));
        if updates {
            // While the namenode is told, the nodes say that they have it, and are done.
            let attempt = run.attempt();
            let told = events.pop_back().unwrap();
            events.extend(run.world.deliver(usize::MAX));
            events.push_back(WriteEvent::PipelineFailed { attempt, bad: None, why: "it closed".into() });
            events.push_back(told);
        }
    }
    assert_eq!((run.world.published, run.world.updates.len()), (Some(bytes), 1), "{:?}", run.world.done);
}

#[test]
fn l_5_a_node_that_hangs_holds_the_writer_up_for_less_than_five_seconds() {
    for position in 0..3 {
        let mut run = Run::of(5);
        run.write(&content(3000));
        run.step();
        let (begun, line) = (run.now, run.world.line.clone().unwrap());
        // It takes nothing more, and says nothing: what follows is not passed on either.
        run.world.deliver(position);
        run.world.dead.push(line.nodes[position]);
        while run.world.updates.is_empty() {
            run.wait();
        }
        assert!(run.now.since(begun) <= Duration::from_secs(4), "{:?} at {position}", run.now.since(begun));
        assert!(!run.world.updates[0].contains(&line.nodes[position]) && run.world.updates[0].len() == 3);
        run.event(WriteEvent::Close);
        run.settle();
        assert_eq!(run.world.published, Some(content(3000)));
    }
}

#[test]
fn sc_38_ten_restarts_in_a_row_under_one_open_file() {
    let mut run = Run::of(3);
    let bytes = content(3000);
    run.write(&bytes[..1024]);
    run.settle();
    let mut written = 1024;
    for restart in 0..10 {
        let line = run.world.line.clone().unwrap();
        let node = line.nodes[restart % line.nodes.len()];
        // It is away when the pipeline breaks, and back, without its open replica's writer, a while later.
        run.world.dead = vec![node];
        run.fail(None);
        run.write_all(&bytes[written..written + 150]);
        run.event(WriteEvent::Flush { sync: false });
        run.settle();
        written += 150;
        assert!(run.world.done.is_none(), "restart {restart}: {:?}", run.world.done);
        assert_eq!(run.world.flushed, restart + 1);
        run.world.dead.clear();
        run.now = run.now.plus(Duration::from_secs(12));
        run.event(WriteEvent::Tick);
    }
    run.write_all(&bytes[written..]);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(bytes));
}

#[test]
fn sc_38_a_repair_while_nothing_is_written_is_over_when_the_pipeline_stands() {
    let mut run = Run::of(4);
    let bytes = content(2000);
    run.write(&bytes[..1024]);
    run.event(WriteEvent::Flush { sync: false });
    run.settle();
    let node = run.world.line.clone().unwrap().nodes[0];
    run.world.dead = vec![node];
    run.fail(None);
    run.settle();
    // The application says nothing for a minute, and goes on.
    run.now = run.now.plus(Duration::from_secs(60));
    run.write_all(&bytes[1024..]);
    run.event(WriteEvent::Tick);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
}

#[test]
fn a_pipeline_that_breaks_after_an_hour_without_data_is_repaired_like_any_other() {
    for nodes in [3, 5] {
        let mut run = Run::of(nodes);
        let bytes = content(2000);
        run.write(&bytes[..1024]);
        run.event(WriteEvent::Flush { sync: true });
        run.settle();
        let end = run.now.plus(Duration::from_secs(3600));
        while run.now < end {
            run.wait();
        }
        let node = run.world.line.clone().unwrap().nodes[1];
        run.world.dead = vec![node];
        run.fail(Some(1));
        run.write_all(&bytes[1024..]);
        run.event(WriteEvent::Close);
        run.settle();
        assert_eq!(run.world.published, Some(bytes), "of {nodes}: {:?}", run.world.done);
    }
}

#[test]
fn replicas_that_are_whole_are_not_written_again() {
    // The last packet is stored and finalised by some, and its ack never comes.
    for (whole, dies) in [(1, 2), (1, 1), (2, 2), (2, 0), (3, 0), (3, 2)] {
        for nodes in [3, 5] {
            let bytes = content(2500);
            let mut run = Run::of(nodes);
            run.write(&bytes[..2048]);
            run.settle();
            run.write(&bytes[2048..]);
            run.event(WriteEvent::Close);
            let line = run.world.line.clone().unwrap();
            run.world.deliver(whole);
            run.world.dead.push(line.nodes[dies]);
            run.fail(Some(dies));
            run.settle();
            let what = format!("{whole} whole, {dies} dies, of {nodes}");
            assert_eq!(run.world.published, Some(bytes), "{what}: {:?}", run.world.done);
            let some_left = (0..whole).any(|at| at != dies);
            let closes = run.world.stages.last() == Some(&WriteStage::PipelineCloseRecovery);
            assert_eq!(closes, some_left, "{what}");
        }
    }
}

#[test]
fn a_replica_that_becomes_whole_after_it_was_asked_is_not_blamed_for_it() {
    let bytes = content(2500);
    let mut run = Run::of(3);
    run.write(&bytes[..2048]);
    run.settle();
    run.write(&bytes[2048..]);
    run.event(WriteEvent::Close);
    let attempt = run.attempt();
    // Nobody has the last packet yet; node 0 is slow, and finalises while the others are being reset.
    let mut effects = Vec::new();
    let dead = WriteEvent::PipelineFailed { attempt, bad: Some(2), why: "it died".into() };
    run.writer.handle(dead, run.now, &mut effects);
    run.world.dead.push(2);
    let late = run.world.wire.clone();
    let mut answers = run.world.perform(effects);
    run.world.wire = late;
    run.world.deliver(1);
    run.event(answers.remove(0));
    run.settle();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!(run.world.committed[0].receipts.len(), 2, "both that live");
}

#[test]
fn sc_32_a_writer_that_is_dropped_never_completes_and_says_what_is_left() {
    for flushed in [false, true] {
        let mut run = Run::of(3);
        run.write(&content(600));
        if flushed {
            run.event(WriteEvent::Flush { sync: false });
            run.settle();
        }
        run.event(WriteEvent::Abort);
        let Some(Err(error)) = &run.world.done else { panic!("it is over") };
        assert_eq!(error.message.contains("what was flushed"), flushed, "{error}");
        assert!(run.world.discarded && run.world.published.is_none());
    }
}

#[test]
fn sc_41_acks_count_for_their_own_packets_only() {
    for seqno in [1, 2, -2, 7] {
        let mut run = Run::of(3);
        run.write(&content(3000));
        let attempt = run.attempt();
        let ack = Ack { seqno, replies: vec![Status::Success; COPIES], receipts: vec![] };
        run.event(WriteEvent::Ack { attempt, ack });
        assert_ne!(run.attempt(), attempt, "the pipeline is left");
        run.event(WriteEvent::Close);
        run.settle();
        assert_eq!(run.world.published, Some(content(3000)));
    }
}

#[test]
fn damage_in_our_own_memory_is_not_blamed_on_a_node() {
    let mut run = Run::of(3);
    let bytes = content(1024);
    run.write(&bytes);
    let attempt = run.attempt();
    let damaged = Ack { seqno: 0, replies: vec![Status::ErrorChecksum], receipts: vec![] };
    run.event(WriteEvent::Ack { attempt, ack: damaged });
    assert_eq!(run.world.excluded, ["node-0"], "the packet is as it was made: the node, or the way to it");
    assert!(run.world.done.is_none());
}

#[test]
fn everybody_out_of_reach_for_a_moment_is_our_own_network() {
    let mut run = Run::of(3);
    run.write(&content(3000));
    run.step();
    run.world.dead.extend([0, 1, 2]);
    run.fail(None);
    assert!(run.world.done.is_none());
    run.wait();
    assert!(run.world.done.is_none() && run.world.probes == 2);
    run.world.dead.clear();
    run.wait();
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(content(3000)), "{:?}", run.world.done);
    // And it ends, if it does not come back.
    let mut run = Run::of(3);
    run.write(&content(3000));
    run.step();
    run.world.dead.extend([0, 1, 2]);
    run.fail(None);
    while run.world.done.is_none() {
        run.wait();
    }
    assert!(run.now.since(Moment::START) <= Duration::from_secs(30));
}

#[test]
fn a_network_that_goes_one_node_after_another_is_no_fault_of_the_one_that_is_named_first() {
    for named in 0..3 {
        let bytes = content(2000);
        let mut run = Run::of(3);
        run.write(&bytes[..1024]);
        run.settle();
        run.write(&bytes[1024..]);
        run.event(WriteEvent::Close);
        // The one that is named still answers, the others do not.
        run.world.dead = (0..3).filter(|node| *node != named).collect();
        run.fail(Some(named));
        assert!(run.world.done.is_none(), "{named}: {:?}", run.world.done);
        run.world.dead.clear();
        run.end();
        assert_eq!(run.world.published, Some(bytes), "{named}: {:?}", run.world.done);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn d_2_deaths_at_random_lose_nothing_that_was_flushed(
        steps in proptest::collection::vec((0..6_u8, 0..7_usize, 1..1500_usize), 1..50),
    ) {
        let mut run = Run::of(7);
        let mut given = 0;
        for (what, node, len) in steps {
            if run.world.done.is_some() {
                break;
            }
            match what {
                0 | 1 => {
                    let len = len.min(run.writer.room_bytes());
                    run.write(&content(given + len)[given..]);
                    given += len;
                }
                2 | 3 => {
                    run.step();
                }
                4 => {
                    let before = run.world.flushed;
                    run.event(WriteEvent::Flush { sync: len % 2 == 0 });
                    run.settle();
                    prop_assert!(run.world.flushed > before || run.world.done.is_some() || !run.world.dead.is_empty());
                }
                // One node is away at a time.
                _ => {
                    run.world.dead = vec![node];
                    if run.world.line.as_ref().is_some_and(|line| line.nodes.contains(&node)) {
                        run.world.deliver(len % 4);
                        run.fail(None);
                    }
                    run.now = run.now.plus(Duration::from_secs(1));
                }
            }
        }
        run.event(WriteEvent::Close);
        run.settle();
        if run.world.done == Some(Ok(())) {
            prop_assert_eq!(run.world.published.clone(), Some(content(given)));
        } else {
            prop_assert!(run.world.published.is_none());
        }
    }
}

#[test]
fn a_blame_of_before_does_not_keep_out_the_node_that_answers() {
    let bytes = content(3500);
    let mut run = Run::of(5);
    run.write(&bytes[..3000]);
    run.step();
    run.write_all(&bytes[3000..]);
    run.event(WriteEvent::Close);
    let line = run.world.line.clone().expect("a pipeline");
    // The first and the last one are gone, and what was seen blames the one between.
    run.world.dead.extend([line.nodes[0], line.nodes[2]]);
    run.fail(Some(1));
    assert!(run.world.done.is_none(), "all of them seem to be gone: it may be this machine's network");
    run.end();
    assert_eq!(run.world.done, Some(Ok(())));
    assert!(run.world.updates.last().is_some_and(|nodes| nodes.contains(&line.nodes[1])), "{:?}", run.world.updates);
    assert_eq!(run.world.published, Some(bytes));
}
