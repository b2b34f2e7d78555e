//! Files that are written on at their end, through failures as well.

use super::*;
use transfer::WriteStage;

#[test]
fn d_6_an_append_goes_on_behind_partial_and_whole_chunks_and_through_failures() {
    for floor in [1, 511, 512, 700, 1024, 4000] {
        for dies in [None, Some(0), Some(1), Some(2)] {
            for packet in 0..3 {
                let before = content(floor);
                let added: Vec<u8> = content(3000).into_iter().rev().collect();
                let mut run = Run::appending(5, &before);
                run.write(&added);
                for _ in 0..packet {
                    run.step();
                }
                if let (Some(dies), Some(line)) = (dies, run.world.line.clone()) {
                    run.world.dead.push(line.nodes[dies]);
                    run.fail(None);
                }
                run.event(WriteEvent::Close);
                run.settle();
                let whole = [before, added].concat();
                assert!(
                    run.world.published.as_ref() == Some(&whole),
                    "{floor}, {dies:?} dies at {packet}: {:?}",
                    run.world.done
                );
                assert!(run.world.committed[0].digest.is_empty(), "nobody here hashed the first bytes");
            }
        }
    }
}

#[test]
fn an_append_whose_first_pipeline_does_not_come_up_goes_on_with_the_others() {
    for dies in 0..3 {
        let mut run = Run::appending(5, &content(700));
        run.world.dead.push(dies);
        run.write(b"more");
        run.event(WriteEvent::Close);
        run.settle();
        assert_eq!(run.world.published, Some([content(700), b"more".to_vec()].concat()));
        assert_eq!(run.world.stages, [WriteStage::PipelineSetupAppend, WriteStage::PipelineSetupAppendRecovery]);
        assert_eq!(run.world.committed[0].receipts.len(), 3);
    }
}

#[test]
fn an_append_of_nothing_closes_the_block_again() {
    let mut run = Run::appending(3, &content(700));
    run.event(WriteEvent::Flush { sync: true });
    assert_eq!(run.world.flushed, 1, "everything is durable");
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(content(700)));
}
