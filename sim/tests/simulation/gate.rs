//! The seeds of this commit.

use sim::Run;

use crate::seeds::{EXTENDED_REGRESSIONS, REGRESSIONS, base_of_commit, make, make_all, plain};

/// Plain clusters of a commit, and as many with logs, an administrator and disks that hang.
const SEEDS: usize = 200;
/// Seeds that are made at most when a rare event is missing: the rarest, a torn tail, happens in one run of ninety, so that
/// every ninth commit would fail by bad luck alone.
const MOST_SEEDS: usize = 1200;
/// Seeds that are added at a time.
const MORE: usize = 100;

/// The nth run of a commit: one of each kind in turn, with a seed of its own.
fn nth(base: u64, number: usize) -> Run {
    let (number, is_plain) = (number as u64 / 2, number.is_multiple_of(2));
    if is_plain {
        return plain(base.wrapping_add(number));
    }
    // Of four seeds in a row, the last two are of that kind.
    let four = (base & !3).wrapping_add(1 << 40).wrapping_add(number / 2 * 4);
    let run = Run::of_seed(four + 2 + number % 2);
    assert!(run.shape.extended, "seed {}", run.seed);
    run
}

#[test]
fn the_seeds_of_this_commit_pass_and_every_rare_event_happens() {
    let base = base_of_commit();
    let mut sum = make_all(2 * SEEDS, move |number| nth(base, number), || true);
    let mut made = 2 * SEEDS;
    while sum.failures.is_empty() && !sum.coverage.missing().is_empty() && made < MOST_SEEDS {
        println!("{made} runs without {:?}: {MORE} more", sum.coverage.missing());
        sum.join(make_all(MORE, move |number| nth(base, made + number), || true));
        made += MORE;
    }
    println!(
        "{} runs from seed {base}: {} operations, {} faults\n{}",
        sum.runs, sum.operations, sum.faults, sum.coverage
    );
    assert!(sum.failures.is_empty(), "{}", sum.failures.join("\n"));
    assert_eq!(sum.runs, made as u64);
    assert!(sum.operations >= 500 * SEEDS as u64 && sum.faults >= 20 * SEEDS as u64);
    assert_eq!(sum.coverage.missing(), [], "rare events that never happened");
}

#[test]
fn seeds_that_failed_once_pass() {
    let run = |number: usize| match number.checked_sub(REGRESSIONS.len()) {
        // They failed in clusters that had no logs and no administrator: as such they are the runs that they were.
        None => plain(REGRESSIONS[number]),
        Some(number) => Run::of_seed(EXTENDED_REGRESSIONS[number]),
    };
    let sum = make_all(REGRESSIONS.len() + EXTENDED_REGRESSIONS.len(), run, || true);
    assert!(sum.failures.is_empty(), "{}", sum.failures.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_run_to_the_byte() {
    for seed in [11, 12] {
        let (first, second) = (make(Run::of_seed(seed)), make(Run::of_seed(seed)));
        assert_eq!(first.failure, None);
        assert_eq!((first.trace, first.events), (second.trace, second.events), "seed {seed}");
        assert_ne!(first.trace, make(Run::of_seed(seed + 2)).trace, "another seed is another run");
    }
}

#[test]
fn a_cluster_without_faults_refuses_nothing() {
    for (seed, voters) in [(1, 1), (2, 3)] {
        let mut run = Run::of_seed(seed);
        (run.shape.voters, run.shape.faults, run.shape.kinds) = (voters, 0, 0);
        let report = make(run);
        assert_eq!(report.failure, None);
        let refused =
            [sim::Rare::WriteFailed, sim::Rare::ReadFailed, sim::Rare::OutcomeUnknown, sim::Rare::LeaderDeposed];
        assert_eq!(refused.map(|event| report.coverage.count(event)), [0; 4], "{voters} voters");
    }
}
