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

#[test]
fn d_2_a_flush_is_answered_when_every_node_has_what_was_given_before_it() {
    for first in [0, 1, 511, 512, 1024, 1300, 4096, 4097, 9000] {
        let bytes = content(first + 2000);
        let mut run = Run::new(true);
        run.write_all(&bytes[..first]);
        run.event(WriteEvent::Flush { sync: false });
        run.settle();
        assert_eq!((run.world.flushed, run.world.visible), (1, true), "{first}");
        let held: usize = (run.world.committed.iter())
            .map(|finished| finished.block.as_ref().unwrap().len_bytes as usize)
            .sum::<usize>();
        let open = run.world.line.clone().map_or(0, |line| {
            let lens = line.nodes.iter().map(|node| &run.world.replicas[&(*node, line.id)]);
            let named = run.world.committed.iter().any(|one| one.block.as_ref().unwrap().id == line.id);
            if named { 0 } else { lens.map(|replica| replica.bytes.len()).min().unwrap() }
        });
        assert!(held + open >= first, "{held} + {open} of {first}");
        run.write_all(&bytes[first..]);
        run.event(WriteEvent::Close);
        run.settle();
        assert_eq!(run.world.published, Some(bytes), "{first}");
    }
}

#[test]
fn d_2_sc_25_the_first_flush_of_each_block_is_answered_on_the_namenodes_word() {
    let block = |number: usize| content(BLOCK_BYTES as usize * number + 1500);
    for taken_after in 0..=3 {
        let mut run = Run::new(true);
        let mut given = 0;
        for number in 0..3 {
            run.world.lost |= number == taken_after;
            for more in [0, 100] {
                let bytes = block(number);
                run.write_all(&[&bytes[given..], &content(more)[..]].concat());
                given = bytes.len() + more;
                run.event(WriteEvent::Flush { sync: more > 0 });
                run.settle();
            }
        }
        assert_eq!(run.world.flushed, 2 * taken_after.min(3), "two in each block, until the file was taken");
        assert_eq!(run.world.shown_with.len(), (taken_after + 1).min(3), "one word a block");
        let taken = run.world.done.as_ref().is_some_and(|done| {
            done.as_ref().is_err_and(|error| error.code == ErrorCode::LeaseLost && run.world.discarded)
        });
        assert_eq!(taken, taken_after < 3, "{:?}", run.world.done);
    }
}

#[test]
fn flushes_that_nobody_waits_for_are_over_before_the_file_is_closed() {
    for len in [1, 1024, BLOCK_BYTES as usize, 2 * BLOCK_BYTES as usize + 5] {
        let mut run = Run::new(true);
        run.write_all(&content(len));
        run.event(WriteEvent::Flush { sync: false });
        run.event(WriteEvent::Close);
        run.settle();
        assert_eq!((run.world.flushed, run.world.published), (1, Some(content(len))), "{len}");
    }
}

#[test]
fn a_pipeline_that_the_namenode_took_needs_no_further_word() {
    let mut run = Run::appending(3, &content(700));
    run.write(b"more");
    run.event(WriteEvent::Flush { sync: false });
    run.settle();
    assert_eq!((run.world.flushed, run.world.shown_with.len()), (1, 0));
}

#[test]
fn sc_44_a_sync_reaches_the_wire_also_when_all_bytes_are_there_and_through_a_repair() {
    let syncs = |run: &Run| run.world.wire.iter().filter(|(_, packet)| packet.head.sync).count();
    let mut run = Run::of(5);
    run.write(&content(100));
    run.event(WriteEvent::Flush { sync: true });
    assert_eq!(syncs(&run), 1, "with the data");
    run.world.dead.push(2);
    run.fail(Some(2));
    assert_eq!(syncs(&run), 1, "again");
    run.settle();
    assert_eq!(run.world.flushed, 1);
    run.event(WriteEvent::Flush { sync: false });
    run.event(WriteEvent::Flush { sync: true });
    assert_eq!((syncs(&run), run.world.flushed), (1, 2), "the second has to be asked for by a packet of its own");
    run.settle();
    assert_eq!(run.world.flushed, 3);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(content(100)));
}

#[test]
fn a_flush_of_nothing_shows_an_empty_file_without_a_block_that_nobody_has() {
    let mut run = Run::new(true);
    run.event(WriteEvent::Flush { sync: false });
    assert_eq!((run.world.flushed, run.world.visible), (1, true));
    run.event(WriteEvent::Close);
    assert_eq!(run.world.published.as_deref(), Some(&b""[..]));
}

#[test]
fn v_3_sc_33_what_readers_may_have_seen_of_a_visible_file_is_not_given_back() {
    for visible in [false, true] {
        let mut run = Run::new(true);
        if visible {
            run.writer = FileWriter::new(config(), BLOCK_BYTES, Some(located(1)), Moment::START).published();
            run.world.visible = true;
        }
        run.write(&content(1500));
        run.event(WriteEvent::Close);
        // Every node has everything, and has acknowledged it to the others: the writer hears nothing of it.
        while run.world.deliver(usize::MAX).is_some() {}
        assert!(run.world.line.as_ref().is_some_and(|line| line.id == 1));
        run.fail(None);
        run.settle();
        assert_eq!(run.world.published, Some(content(1500)));
        let id = run.world.committed[0].block.as_ref().map(|block| block.id);
        assert_eq!(id == Some(1), visible, "nobody sees a file that is not published");
    }
}
