//! The harness of the tests with real processes: a cluster by `blockyard dev --processes`, its command line,
//! trees of files, and the ways to hurt it.
//!
//! ```text
//!   Cluster ──▶ blockyard dev --processes --json --dir TEMP ──▶ namenode, dn1, dn2, dn3   (pids from the ready line)
//!      │ kill -9 of one, of all; restart with the same folder; crash points by environment
//!      └─ run(["put", …]) ──▶ blockyard put …     one process per command, as users do
//! ```
//!
//! A dropped [`Cluster`] ends every process and removes its folder, also when a test panics.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "the harness stands outside of the product, where people and operating systems are; a failed expectation is a failed test"
)]

pub mod apart;
pub mod cluster;
pub mod command;
pub mod golden;
pub mod ledger;
pub mod mount;
pub mod net;
pub mod tree;
pub mod wait;
pub mod workload;

pub use cluster::{Cluster, Options};

/// Environment variable that selects one heavy suite by its name, or `all`.
pub const HEAVY_VARIABLE: &str = "BLOCKYARD_HEAVY";

/// Is this heavy suite asked for? Says so if it is not.
#[must_use]
pub fn heavy(suite: &str) -> bool {
    let asked = std::env::var(HEAVY_VARIABLE).unwrap_or_default();
    let yes = asked == suite || asked == "all";
    if !yes {
        println!("skipped: heavy suite {suite}; set {HEAVY_VARIABLE}={suite} to run it");
    }
    yes
}
