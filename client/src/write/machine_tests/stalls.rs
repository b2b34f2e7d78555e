//! Pipelines that stand still with every node well: acknowledgements that a reset took on their way, and what only looks
//! like it.

use super::*;

/// How long the writer may wait before it begins to repair: L-5 leaves a second for that.
const SOON: Duration = Duration::from_secs(4);

/// A pipeline of three of five nodes, with a packet on the way: of a block of which something is acknowledged, or not,
/// and the last one of it, or not. And what will have been written.
fn on_the_way(kept: bool, ends: bool) -> (Run, Vec<u8>) {
    let bytes = content(if kept { 2048 } else { 1024 });
    let mut run = Run::of(5);
    if kept {
        run.write(&bytes[..1024]);
        run.settle();
        run.write(&bytes[1024..]);
    } else {
        run.write(&bytes);
    }
    if ends {
        run.event(WriteEvent::Close);
        run.settle_all_but_last();
    }
    (run, bytes)
}

impl Run {
    /// Delivers all packets but the last.
    fn settle_all_but_last(&mut self) {
        while self.world.wire.len() > 1 {
            assert!(self.step());
        }
    }
    /// Waits until another pipeline stands; how long that took.
    fn until_rebuilt(&mut self) -> Duration {
        let (begun, attempt) = (self.now, self.attempt());
        while self.attempt() == attempt && self.world.done.is_none() {
            self.wait();
        }
        self.now.since(begun)
    }
    /// The file is closed with these bytes and all copies, and nobody was left out.
    fn ends_with(&mut self, bytes: &[u8], what: &str) {
        assert!(self.world.excluded.is_empty(), "{what}: {:?}", self.world.excluded);
        self.event(WriteEvent::Close);
        self.settle();
        assert_eq!(self.world.published.as_deref(), Some(bytes), "{what}: {:?}", self.world.done);
        assert_eq!(self.world.committed[0].receipts.len(), COPIES, "{what}");
        assert_eq!(self.world.transfers, 0, "{what}: nothing had to be made again");
    }
}

#[test]
fn l_5_acknowledgements_that_were_lost_between_nodes_that_have_all_are_not_waited_for() {
    for (kept, ends) in [(true, true), (true, false), (false, true), (false, false)] {
        for position in 0..2 {
            let what = format!("kept: {kept}, ends: {ends}, lost at {position}");
            let (mut run, bytes) = on_the_way(kept, ends);
            drop(run.world.lose_ack_at(position));
            let waited = run.until_rebuilt();
            assert!(waited <= SOON, "{what}: {waited:?}");
            run.ends_with(&bytes, &what);
        }
    }
}

#[test]
fn l_5_a_writer_that_has_ended_in_the_middle_of_a_pipeline_is_noticed_at_the_first_look() {
    for position in 1..3 {
        for reach in [position, usize::MAX] {
            let what = format!("reset before {position}, {reach} have it");
            let (mut run, bytes) = on_the_way(true, false);
            if reach == usize::MAX {
                drop(run.world.lose_ack_at(position - 1));
            } else {
                // It was received and never read: who sent it does not know.
                assert!(run.world.deliver(reach).is_none());
            }
            run.world.reset_before(position);
            let waited = run.until_rebuilt();
            assert!(waited <= config().silence, "{what}: {waited:?}");
            run.ends_with(&bytes, &what);
        }
    }
}

#[test]
fn l_5_answers_that_were_lost_while_a_pipeline_is_set_up_are_not_waited_for() {
    let (mut run, bytes) = on_the_way(true, false);
    let attempt = run.attempt();
    let failed = WriteEvent::PipelineFailed { attempt, bad: None, why: "it broke".into() };
    let mut events = std::collections::VecDeque::from([failed]);
    while let Some(event) = events.pop_front() {
        let mut effects = Vec::new();
        run.writer.handle(event, run.now, &mut effects);
        events.extend(run.world.perform(effects));
        events.retain(|event| !matches!(event, WriteEvent::PipelineOpened { .. }));
    }
    assert_ne!(run.attempt(), attempt, "all are ready, and the writer does not know it");
    run.world.reset_before(1);
    let waited = run.until_rebuilt();
    assert!(waited <= config().silence, "{waited:?}");
    run.ends_with(&bytes, "lost answers");
}

#[test]
fn a_sync_that_takes_its_time_is_no_lost_acknowledgement() {
    let (mut run, mut bytes) = on_the_way(true, false);
    run.settle();
    bytes.extend([7; 100]);
    run.write(&[7; 100]);
    run.event(WriteEvent::Flush { sync: true });
    let (begun, attempt) = (run.now, run.attempt());
    // All have it, and the first one is syncing: the two behind it are done.
    let late = run.world.lose_ack_at(0).expect("an ack");
    while run.writer.next_deadline().is_some_and(|next| next.since(begun) < SOON) {
        run.wait();
    }
    assert!(run.world.probes >= 2, "it was looked at twice");
    assert_eq!(run.attempt(), attempt, "and let be");
    run.event(late);
    assert_eq!(run.world.flushed, 1);
    run.ends_with(&bytes, "a slow sync");
}

#[test]
fn a_replica_that_does_not_say_what_it_acknowledged_is_no_broken_pipeline() {
    let (mut run, mut bytes) = on_the_way(true, false);
    run.fail(None);
    bytes.extend([7; 100]);
    run.write(&[7; 100]);
    run.event(WriteEvent::Flush { sync: true });
    run.settle_all_but_last();
    run.world.set_unsure(1, true);
    let (begun, attempt) = (run.now, run.attempt());
    let late = run.world.lose_ack_at(0).expect("an ack");
    while run.writer.next_deadline().is_some_and(|next| next.since(begun) < SOON) {
        run.wait();
    }
    assert!(run.world.probes >= 2, "it was looked at twice");
    assert_eq!(run.attempt(), attempt, "a node that goes on with what it found is written");
    run.event(late);
    run.world.set_unsure(1, false);
    assert_eq!(run.world.flushed, 1);
    run.ends_with(&bytes, "an unsure replica");
}

#[test]
fn an_acknowledgement_between_two_looks_begins_the_silence_anew() {
    let mut run = Run::of(3);
    let bytes = content(2048);
    run.write(&bytes);
    let (attempt, begun) = (run.attempt(), run.now);
    let first = run.world.lose_ack_at(1).expect("an ack");
    let second = run.world.lose_ack_at(1).expect("an ack");
    run.wait();
    assert_eq!((run.world.probes, run.attempt()), (1, attempt));
    run.event(first);
    run.now = begun.plus(SOON);
    run.event(WriteEvent::Tick);
    assert_eq!(run.attempt(), attempt);
    run.event(second);
    run.ends_with(&bytes, "slow acks");
}

#[test]
fn acknowledgements_that_are_lost_again_and_again_end_a_write_in_time() {
    let (mut run, _) = on_the_way(true, true);
    let (begun, mut waits) = (run.now, Vec::new());
    while run.world.done.is_none() {
        drop(run.world.lose_ack_at(0));
        waits.push(run.until_rebuilt());
    }
    assert!(run.now.since(begun) <= Duration::from_secs(30), "{waits:?}");
    assert!(waits[..2].iter().all(|waited| *waited <= SOON), "{waits:?}");
    assert!(waits.len() <= 4 && waits[2] > SOON, "then as for any other silence: {waits:?}");
    assert!(
        matches!(&run.world.done, Some(Err(error)) if error.code == ErrorCode::WriteFailed),
        "{:?}",
        run.world.done
    );
}
