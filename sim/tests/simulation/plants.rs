//! Bugs planted on purpose must be caught.

use sim::{Planted, Run};

use crate::seeds::make;

/// Runs in which a planted bug may hide at most.
const TRIES: u64 = 40;

fn is_caught(bug: Planted, voters: usize) {
    let caught = (1..=TRIES).find_map(|seed| {
        let mut run = Run { planted: Some(bug), ..Run::of_seed(seed) };
        run.shape.voters = voters;
        make(run).failure.map(|failure| (seed, failure))
    });
    match caught {
        Some((seed, failure)) => println!("{bug:?} caught with seed {seed}: {failure}"),
        None => panic!("{bug:?} survived {TRIES} runs"),
    }
}

#[test]
fn an_ack_before_the_sync_is_caught() {
    is_caught(Planted::AckBeforeSync, 1);
}

#[test]
fn ignored_generation_stamps_are_caught() {
    is_caught(Planted::StampIgnored, 1);
}

#[test]
fn rot_that_is_cut_like_a_torn_tail_is_caught() {
    is_caught(Planted::RotReadAsEnd, 1);
}

#[test]
fn digests_that_the_namenode_is_not_told_are_missed() {
    is_caught(Planted::DigestNotTold, 1);
}
