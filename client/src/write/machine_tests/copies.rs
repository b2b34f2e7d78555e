//! Copies to further nodes: how long they may take, and how often they are begun.

use super::*;

/// A pipeline of three of five nodes of which so many are dead, and the copy to further ones takes its time.
fn repairing(dead: usize) -> (Run, Vec<u8>) {
    let bytes = content(3000);
    let mut run = Run::of(3 + dead);
    run.world.slow = Some(Vec::new());
    run.write(&bytes);
    run.step();
    let line = run.world.line.clone().unwrap();
    run.world.dead.extend(&line.nodes[..dead]);
    run.fail(None);
    (run, bytes)
}

#[test]
fn d_7_with_one_node_left_a_copy_gets_the_time_that_the_data_need() {
    let (mut run, bytes) = repairing(2);
    assert_eq!(run.world.slow.as_ref().map(Vec::len), Some(1));
    assert_eq!(run.world.slow.as_ref().unwrap()[0].until, None, "there is nothing without it");
    // A large block over a slow network: five minutes, with a sign of life each second.
    for _ in 0..300 {
        run.now = run.now.plus(Duration::from_secs(1));
        run.event(WriteEvent::Tick);
        run.event(WriteEvent::TransferGoes);
        assert!(run.world.done.is_none(), "{:?}", run.world.done);
    }
    let done = run.world.end_transfer();
    run.event(done);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!(run.world.committed[0].receipts.len(), 3);
}

#[test]
fn d_7_a_copy_that_does_not_move_ends_also_with_one_node_left() {
    let (mut run, _) = repairing(2);
    for _ in 0..60 {
        run.now = run.now.plus(Duration::from_secs(1));
        run.event(WriteEvent::TransferGoes);
    }
    let last = run.now;
    while run.world.done.is_none() {
        run.wait();
    }
    assert!(run.now.since(last) <= Duration::from_secs(30), "{:?}", run.now.since(last));
    let Some(Err(error)) = &run.world.done else { panic!("{:?}", run.world.done) };
    assert_eq!(error.code, ErrorCode::WriteFailed);
}

#[test]
fn l_5_with_one_node_left_nobody_waits_for_a_copy_to_one_that_is_silent() {
    let bytes = content(3000);
    let mut run = Run::of(5);
    run.world.slow = Some(Vec::new());
    run.write(&bytes);
    run.step();
    // The namenode does not know it yet, and names node 3.
    run.world.dead.extend([0, 1, 3]);
    run.fail(None);
    while run.world.slow.as_ref().is_some_and(Vec::is_empty) {
        run.wait();
    }
    let targets = &run.world.slow.as_ref().unwrap()[0].targets;
    assert_eq!(targets.iter().map(|at| at.node.as_str()).collect::<Vec<_>>(), ["node-4"]);
    let done = run.world.end_transfer();
    run.event(done);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
}

#[test]
fn d_7_with_one_node_left_copies_that_failed_together_are_made_one_at_a_time() {
    for cannot in [3, 4] {
        let bytes = content(3000);
        let mut run = Run::of(5);
        run.write(&bytes);
        run.step();
        run.world.dead.extend([0, 1]);
        run.world.cannot_copy_to.push(cannot);
        run.fail(None);
        run.event(WriteEvent::Close);
        let begun = run.now;
        while run.world.done.is_none() {
            if !run.step() {
                run.wait();
            }
        }
        assert_eq!(run.world.published, Some(bytes), "{cannot}: {:?}", run.world.done);
        assert!(run.now.since(begun) <= Duration::from_secs(8), "{cannot}: {:?}", run.now.since(begun));
    }
}

/// How long a write lasts, and how many stamps it takes, if each copy fails after so many signs of life.
fn copies_that_fail(signs: u32) -> (Duration, usize) {
    let (mut run, _) = repairing(2);
    let (begun, mut copies) = (run.now, 0);
    while run.world.done.is_none() {
        if run.world.slow.as_ref().is_none_or(Vec::is_empty) {
            run.wait();
            continue;
        }
        copies += 1;
        assert!(copies < 500 && run.now.since(begun) < Duration::from_secs(1200), "it never ends");
        for _ in 0..signs {
            run.now = run.now.plus(Duration::from_secs(1));
            run.event(WriteEvent::TransferGoes);
        }
        run.now = run.now.plus(Duration::from_millis(100));
        if run.world.slow.as_mut().is_some_and(|slow| slow.pop().is_some()) {
            run.event(WriteEvent::Transferred(Err("it broke off".into())));
        }
    }
    let Some(Err(error)) = &run.world.done else { panic!("{:?}", run.world.done) };
    assert!(matches!(error.code, ErrorCode::WriteFailed | ErrorCode::NotEnoughNodes), "{error}");
    (run.now.since(begun), copies)
}

#[test]
fn d_7_copies_that_begin_and_fail_end_a_write_also_with_one_node_left() {
    for signs in [0, 1] {
        let (lasted, copies) = copies_that_fail(signs);
        assert!(lasted <= Duration::from_secs(30), "a first sign says nothing of bytes: {lasted:?}, {copies} copies");
    }
    for signs in [2, 5, 20] {
        let (lasted, copies) = copies_that_fail(signs);
        // However long each of them moves bytes: so many, and no more.
        let most = Duration::from_secs(5 * u64::from(signs) + 5);
        assert!(lasted <= most && copies == 5, "{signs} signs: {lasted:?}, {copies} copies");
    }
}

#[test]
fn l_5_with_two_nodes_left_a_copy_is_not_waited_for_for_long() {
    let (mut run, bytes) = repairing(1);
    let until = run.world.slow.as_ref().unwrap()[0].until.expect("they go on without");
    assert!(until.since(run.now) <= Duration::from_secs(12));
    run.now = until;
    run.event(WriteEvent::Transferred(Err("it was not made in time".into())));
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(bytes), "{:?}", run.world.done);
    assert_eq!(run.world.committed[0].receipts.len(), 2);
}
