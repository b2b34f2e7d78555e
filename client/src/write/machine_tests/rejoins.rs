//! Nodes that were left out and are back where one is left: whoever has what counts takes its place again, and nobody
//! else does without a copy.

use super::*;

/// A pipeline of three of so many nodes, of which some die; time passes, and nobody else is there.
fn one_is_left(run: &mut Run, dead: &[usize]) {
    run.world.dead.extend(dead);
    run.fail(None);
    (0..3).for_each(|_| run.wait());
    assert!(run.world.done.is_none(), "{:?}", run.world.done);
}

/// All three nodes have the whole block, and the writer does not know it.
fn all_whole(bytes: &[u8]) -> Run {
    let mut run = Run::of(3);
    run.write(&bytes[..1024]);
    run.settle();
    run.write(&bytes[1024..]);
    run.event(WriteEvent::Close);
    drop(run.world.lose_ack_at(0));
    run
}

#[test]
fn d_7_an_append_takes_nodes_in_again_that_have_the_block_as_it_was() {
    let mut run = Run::appending(3, &content(700));
    run.world.dead.extend([1, 2]);
    run.write(b"more");
    run.event(WriteEvent::Close);
    (0..3).for_each(|_| run.wait());
    run.world.dead.clear();
    run.end();
    assert_eq!(run.world.published, Some([content(700), b"more".to_vec()].concat()), "{:?}", run.world.done);
    assert_eq!((run.world.committed[0].receipts.len(), run.world.transfers), (3, 0));
}

#[test]
fn sc_27_a_node_that_was_started_anew_gets_a_copy_at_once() {
    let bytes = content(3000);
    let mut run = Run::of(3);
    run.write(&bytes);
    assert!(run.step());
    one_is_left(&mut run, &[1, 2]);
    run.world.restart(&[1, 2]);
    run.event(WriteEvent::Close);
    run.end();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!((run.world.committed[0].receipts.len(), run.world.transfers), (3, 2));
    assert_eq!(run.world.stages.len(), 2, "nobody was asked to go on with what it would refuse");
}

#[test]
fn a_copy_that_broke_off_is_made_again_whatever_has_arrived() {
    let bytes = content(3000);
    let mut run = Run::of(5);
    run.world.slow = Some(Vec::new());
    run.write(&bytes);
    assert!(run.step());
    run.world.dead.extend([0, 1]);
    run.fail(None);
    let broken = run.world.break_transfer();
    run.world.slow = None;
    run.event(broken);
    run.event(WriteEvent::Close);
    run.end();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!((run.world.committed[0].receipts.len(), run.world.transfers), (2, 1), "nobody had synced it");
}

#[test]
fn d_7_whole_replicas_whose_nodes_go_again_before_the_pipeline_stands_count_when_they_are_back() {
    let bytes = content(2000);
    let mut run = all_whole(&bytes);
    one_is_left(&mut run, &[1, 2]);
    run.world.dead.clear();
    run.world.die_next = vec![1, 2];
    (0..2).for_each(|_| run.wait());
    assert_eq!(run.world.dead, [1, 2], "they were taken in, and went");
    run.world.dead.clear();
    run.end();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!((run.world.committed[0].receipts.len(), run.world.transfers), (3, 0));
}

#[test]
fn no_more_nodes_are_taken_in_again_than_the_file_has_copies() {
    let bytes = content(3000);
    let mut run = Run::of(5);
    run.write(&bytes);
    assert!(run.step());
    // Two others get copies, and go before the pipeline stands. Then all are back, and all have what counts.
    run.world.dead.extend([0, 1]);
    run.world.die_next = vec![3, 4];
    run.fail(None);
    assert_eq!(run.world.dead, [0, 1, 3, 4]);
    run.world.dead.clear();
    run.event(WriteEvent::Close);
    run.end();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!(run.world.updates.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
}

#[test]
fn d_7_two_of_three_that_refuse_for_a_while_do_not_end_a_write() {
    for acked in [0, 1] {
        for refuse_secs in [0, 1, 4, 15] {
            let bytes = content(3500);
            let mut run = Run::of(3);
            run.write(&bytes[..3000]);
            (0..acked).for_each(|_| assert!(run.step()));
            let begun = run.now;
            run.world.dead.extend([0, 2]);
            run.fail(None);
            while run.world.line.as_ref().is_none_or(|line| line.nodes.iter().any(|node| run.world.dead.contains(node)))
            {
                assert!(run.world.done.is_none(), "{acked}, {refuse_secs} s: {:?}", run.world.done);
                if run.now.since(begun) >= Duration::from_secs(refuse_secs) {
                    run.world.dead.clear();
                }
                run.wait();
            }
            run.write_all(&bytes[3000..]);
            run.event(WriteEvent::Close);
            run.settle();
            assert_eq!(run.world.published.as_ref(), Some(&bytes), "{acked}, {refuse_secs} s: {:?}", run.world.done);
        }
    }
}

#[test]
fn two_of_three_that_refuse_for_good_end_a_write_in_time() {
    let mut run = Run::of(3);
    run.world.dead.extend([0, 2]);
    let begun = run.now;
    run.write(&content(3000));
    run.event(WriteEvent::Close);
    while run.world.done.is_none() {
        run.wait();
    }
    assert!(run.now.since(begun) <= Duration::from_secs(30), "{:?}", run.now.since(begun));
    assert!(matches!(&run.world.done, Some(Err(error)) if error.retryable()), "{:?}", run.world.done);
    assert!(run.world.published.is_none() && run.world.discarded);
}

/// One of three is left, and no other of the cluster answers; then those are back that had the packet that ends the block.
fn back_after(seconds: u64, bytes: &[u8]) -> Run {
    let mut run = Run::of(4);
    run.write(&bytes[..2048]);
    run.settle();
    run.write(&bytes[2048..]);
    run.event(WriteEvent::Close);
    let line = run.world.line.clone().unwrap();
    run.world.deliver(3);
    run.world.dead.extend((0..4).filter(|node| *node != line.nodes[0]));
    run.fail(None);
    let begun = run.now;
    while run.now.since(begun) < Duration::from_secs(seconds) && run.world.done.is_none() {
        run.wait();
    }
    run.world.dead = vec![3];
    while run.world.done.is_none() {
        if !run.step() {
            run.wait();
        }
    }
    run
}

#[test]
fn d_7_nodes_that_are_back_with_whole_replicas_are_taken_in_again() {
    for seconds in [0, 3, 15] {
        let bytes = content(2500);
        let run = back_after(seconds, &bytes);
        assert_eq!(run.world.published.as_ref(), Some(&bytes), "after {seconds} s: {:?}", run.world.done);
        assert_eq!(run.world.committed[0].receipts.len(), 3, "what they have counts");
        assert_eq!(run.world.transfers, 0, "and is not made again");
    }
}

#[test]
fn l_5_who_failed_before_and_is_back_is_asked_at_once_when_one_node_is_left() {
    let bytes = content(3000);
    let mut run = Run::of(3);
    run.write(&bytes[..1000]);
    run.settle();
    run.world.dead = vec![0];
    run.fail(None);
    run.now = run.now.plus(Duration::from_secs(1));
    run.write(&bytes[1000..2000]);
    run.settle();
    // Nobody says that it is back, and it was left out a second ago.
    run.world.dead = vec![1];
    let begun = run.now;
    run.fail(None);
    run.write(&bytes[2000..]);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!((run.world.committed[0].receipts.len(), run.world.transfers), (2, 1));
    assert_eq!(run.now, begun, "nobody waited");
}

#[test]
fn l_5_a_block_is_taken_at_once_on_who_failed_before_rather_than_on_who_failed_just_now() {
    let bytes = content(BLOCK_BYTES as usize + 1500);
    let mut run = Run::of(3);
    run.write(&bytes[..1000]);
    run.settle();
    run.fail(Some(0));
    run.now = run.now.plus(Duration::from_secs(1));
    run.write_all(&bytes[1000..BLOCK_BYTES as usize]);
    run.settle();
    // Nothing of the next block is acknowledged.
    let begun = run.now;
    run.write(&bytes[BLOCK_BYTES as usize..]);
    run.fail(Some(1));
    assert_eq!(run.world.excluded, ["node-2"], "with both left out there are too few");
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!(run.now, begun, "nobody waited");
}
