//! Flushes and the namenode's word on them.

use super::*;

/// A writer with a flush of which every node has the bytes, and the namenode is being asked.
fn asked() -> Run {
    let mut run = Run::new(true);
    run.write(&content(1500));
    run.event_unanswered(WriteEvent::Flush { sync: false });
    while let Some(ack) = run.world.deliver(usize::MAX) {
        run.event_unanswered(ack);
    }
    assert_eq!(run.world.flushed, 0);
    run
}

impl Run {
    /// Handles an event, and keeps what the namenode says to `Publish` back. Was it asked?
    fn event_unanswered(&mut self, event: WriteEvent) -> bool {
        let (mut events, mut asked) = (std::collections::VecDeque::from([event]), false);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.writer.handle(event, self.now, &mut effects);
            asked |= effects.iter().any(|effect| matches!(effect, WriteEffect::Publish { .. }));
            effects.retain(|effect| !matches!(effect, WriteEffect::Publish { .. }));
            events.extend(self.world.perform(effects));
        }
        asked
    }
}

#[test]
fn d_2_a_flush_that_the_namenode_did_not_answer_in_time_is_never_answered() {
    let mut run = asked();
    let late = FsError::new(ErrorCode::Unavailable, "no namenode answered in time");
    run.event(WriteEvent::Published(Err(late)));
    assert!(
        matches!(&run.world.done, Some(Err(error)) if error.code == ErrorCode::Unavailable),
        "{:?}",
        run.world.done
    );
    run.world.visible = true;
    run.event(WriteEvent::Published(Ok(())));
    run.event(WriteEvent::Flush { sync: false });
    assert_eq!(run.world.flushed, 0, "it is over, whatever comes late");
    assert!(run.world.discarded);
}

#[test]
fn d_2_sc_25_the_namenodes_word_is_for_the_block_that_it_was_asked_for() {
    let mut run = asked();
    let whole = content(BLOCK_BYTES as usize + 100);
    // The block is filled and another one begun before the answer comes, and a flush waits in each.
    let mut given = 1500;
    while given < whole.len() {
        let room = run.writer.room_bytes().min(whole.len() - given);
        assert!(!run.event_unanswered(WriteEvent::Data(Bytes::copy_from_slice(&whole[given..given + room]))));
        given += room;
        while let Some(ack) = run.world.deliver(usize::MAX) {
            assert!(!run.event_unanswered(ack));
        }
    }
    assert!(!run.event_unanswered(WriteEvent::Flush { sync: false }));
    while let Some(ack) = run.world.deliver(usize::MAX) {
        assert!(!run.event_unanswered(ack), "one question at a time");
    }
    run.world.visible = true;
    assert!(run.event_unanswered(WriteEvent::Published(Ok(()))), "the second block has a question of its own");
    assert_eq!(run.world.flushed, 1);
    run.event(WriteEvent::Published(Ok(())));
    assert_eq!(run.world.flushed, 2);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(whole));
}

#[test]
fn sc_98_a_writer_that_is_dropped_while_the_file_may_become_visible_does_not_say_that_it_is_not() {
    let mut run = asked();
    run.event(WriteEvent::Abort);
    let Some(Err(error)) = &run.world.done else { panic!("it is over") };
    assert!(error.message.contains("may be visible") && !error.message.contains("nothing"), "{error}");
    assert!(run.world.discarded);
}
