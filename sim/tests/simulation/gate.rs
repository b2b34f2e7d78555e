//! The seeds of this commit.

use std::ops::RangeInclusive;

use sim::{Rare, Run};

use crate::seeds::{EXTENDED_REGRESSIONS, REGRESSIONS, Sum, base_of_commit, make, make_all, plain};

/// Seeds of a commit.
const SEEDS: usize = 200;
/// Seeds that are made at most when a rare event is missing: the rarest, a torn tail, happens in one run of ninety, so that
/// every ninth commit would fail by bad luck alone.
const MOST_SEEDS: usize = 1200;
/// Seeds that are added at a time.
const MORE: usize = 100;

/// Of these, the clusters with logs, an administrator and disks that hang, the same ones for every commit: among others,
/// about one in a thousand finds something (docs/reliability.md), and a commit would fail by the luck of its hash. The long
/// run makes others.
const EXTENDED: RangeInclusive<u64> = 2..=402;
/// What happens in those only. The long run demands it.
const OF_EXTENDED: [Rare; 11] = [
    Rare::NodeDrained,
    Rare::DrainedNodeReplaced,
    Rare::MaintenanceReady,
    Rare::BackInService,
    Rare::BalanceMoved,
    Rare::DiskHung,
    Rare::HangCut,
    Rare::VolumeAway,
    Rare::VolumeBack,
    Rare::LeaseTaken,
    Rare::FormerWriterFenced,
];

fn missing(sum: &Sum) -> Vec<Rare> {
    sum.coverage.missing().into_iter().filter(|event| !OF_EXTENDED.contains(event)).collect()
}

#[test]
fn the_seeds_of_this_commit_pass_and_every_rare_event_happens() {
    let base = base_of_commit();
    let mut sum = make_all(SEEDS, move |number| plain(base.wrapping_add(number as u64)), || true);
    let mut made = SEEDS;
    while sum.failures.is_empty() && !missing(&sum).is_empty() && made < MOST_SEEDS {
        println!("{made} runs without {:?}: {MORE} more", missing(&sum));
        let first = base.wrapping_add(made as u64);
        sum.join(make_all(MORE, move |number| plain(first.wrapping_add(number as u64)), || true));
        made += MORE;
    }
    let extended: Vec<u64> = EXTENDED.filter(|seed| Run::of_seed(*seed).shape.extended).collect();
    let count = extended.len();
    sum.join(make_all(count, move |number| Run::of_seed(extended[number]), || true));
    println!(
        "{} runs from seed {base}: {} operations, {} faults\n{}",
        sum.runs, sum.operations, sum.faults, sum.coverage
    );
    assert!(sum.failures.is_empty(), "{}", sum.failures.join("\n"));
    assert_eq!(sum.runs, (made + count) as u64);
    assert!(sum.operations >= 500 * SEEDS as u64 && sum.faults >= 20 * SEEDS as u64);
    assert_eq!(missing(&sum), [], "rare events that never happened");
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
