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
