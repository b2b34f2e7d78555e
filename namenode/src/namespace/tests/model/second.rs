//! The namespace against a second implementation of its rules, which is as naive as can be: a tree of maps, walked for
//! every question, copied for every snapshot. It derives what must happen from POSIX and HDFS and calls nothing of the
//! namespace. Where several refusals are right, any of them may be told.
//!
//! ```text
//!   steps ─▶ operation ─▶ State (rules, names, files, attributes, look)   ─▶ what must be told
//!                      └▶ Namespace, by way of its log                    ─▶ what is told
//!   compare: every status, listing, ACL, attribute, usage, block and snapshot of both
//! ```
//!
//! `BLOCKYARD_MODEL_RUNS` and `BLOCKYARD_MODEL_SEED` make more runs, and others.

mod acl;
mod again;
mod attributes;
mod compare;
mod files;
mod look;
mod names;
mod rights;
mod rules;
mod steps;
mod tree;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

use steps::{Step, steps};
use world::{Tally, World};

/// Runs of the normal suite.
const RUNS: u64 = 600;
/// All that users ask for.
const OPERATIONS: [&str; 28] = [
    "AbandonBlock",
    "AddBlock",
    "AllowSnapshots",
    "Append",
    "BeginRecovery",
    "ChangeAcl",
    "Complete",
    "Concat",
    "Create",
    "CreateSnapshot",
    "Delete",
    "DeleteSnapshot",
    "Discard",
    "FinishRecovery",
    "Link",
    "Mkdir",
    "NewStamp",
    "Publish",
    "RecoverLease",
    "RemoveXattr",
    "Rename",
    "RenameSnapshot",
    "SetAttributes",
    "SetQuota",
    "SetXattr",
    "Symlink",
    "Truncate",
    "UpdatePipeline",
];

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn run(world: &mut World, steps: &[Step]) {
    for step in steps {
        world.step(*step);
    }
    world.restart();
    world.end();
}

/// The operations of a failing run, for people.
fn told(steps: &[Step]) -> String {
    let mut world = World::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut world, steps)));
    format!("{}\n{} steps, failing again: {}", world.operations(), steps.len(), outcome.is_err())
}

#[test]
fn n_1_n_4_n_6_n_8_every_operation_does_as_a_naive_second_implementation_says() {
    let runs = number_from("BLOCKYARD_MODEL_RUNS", RUNS);
    let config = Config {
        cases: runs as u32,
        rng_seed: RngSeed::Fixed(number_from("BLOCKYARD_MODEL_SEED", 1)),
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let tally = RefCell::new(Tally::new());
    let whole = |steps: Vec<Step>| {
        let mut world = World::new();
        run(&mut world, &steps);
        for (what, count) in world.tally() {
            *tally.borrow_mut().entry(what.clone()).or_default() += count;
        }
        Ok(())
    };
    match TestRunner::new(config).run(&steps(120), whole) {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!("{reason}\n{}", told(&steps)),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    if runs >= RUNS {
        everything_happened(&tally.into_inner());
    }
}

/// Runs in which nothing succeeds, or nothing is refused, would compare nothing.
fn everything_happened(tally: &Tally) {
    println!("{tally:#?}");
    let often = |name: &str, done: bool| {
        let counts = tally.iter().filter(|((what, reason), _)| what == name && reason.is_none() == done);
        counts.map(|(_, count)| count).sum::<u64>() >= 5
    };
    for name in OPERATIONS {
        assert!(often(name, true), "{name} is done: {tally:#?}");
        assert!(often(name, false), "{name} is refused: {tally:#?}");
    }
    for reason in [
        "quota_exceeded",
        "read_only",
        "not_empty",
        "invalid_move",
        "lease_lost",
        "file_open",
        "no_attribute",
        "unsupported",
        "stale_stamp",
        "changed",
    ] {
        assert!(tally.keys().any(|(_, why)| *why == Some(reason)), "{reason} is a reason: {tally:#?}");
    }
}
