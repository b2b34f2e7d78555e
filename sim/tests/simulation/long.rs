//! The long run: as many seeds as fit into some minutes, or as many as `BLOCKYARD_SIM_RUNS` says.

use std::sync::Arc;
use std::time::Duration;

use base::clock::{Clock, SystemClock};
use sim::Run;

use crate::seeds::{base_of_commit, make_all};

/// Time that the long run takes.
const BUDGET: Duration = Duration::from_secs(8 * 60);

#[test]
fn thousands_of_seeds_pass() {
    if std::env::var("BLOCKYARD_HEAVY").as_deref() != Ok("simulation") {
        println!("skipped: set BLOCKYARD_HEAVY=simulation for the long run");
        return;
    }
    // Apart from the seeds of the gate.
    let base = base_of_commit().wrapping_add(1 << 32);
    let clock = Arc::new(SystemClock::new());
    let asked = std::env::var("BLOCKYARD_SIM_RUNS").ok();
    let runs = asked.map(|runs| runs.parse().expect("BLOCKYARD_SIM_RUNS is a number"));
    let go_on = move || runs.is_some() || clock.now().elapsed_from_start() < BUDGET;
    let sum = make_all(runs.unwrap_or(usize::MAX), move |number| Run::of_seed(base.wrapping_add(number as u64)), go_on);
    println!(
        "{} runs from seed {base}: {} operations, {} faults\n{}",
        sum.runs, sum.operations, sum.faults, sum.coverage
    );
    assert!(sum.failures.is_empty(), "{}", sum.failures.join("\n"));
    assert_eq!(sum.coverage.missing(), [], "rare events that never happened");
}
