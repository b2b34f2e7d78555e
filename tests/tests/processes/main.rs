//! Tests with real processes, in one binary.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "these tests stand outside of the product, where people and operating systems are; a failed expectation is a failed test"
)]

mod attributes;
mod bad_input;
mod bench;
mod blocks;
mod budgets;
mod contract;
mod copies;
mod crash_points;
mod descriptors;
mod dev;
mod digest;
mod disks;
mod full_disk;
mod kills;
mod listings;
mod local_reads;
mod main_job;
mod mount_referees;
mod mounts;
mod mutations;
mod netfaults;
mod nodes;
mod open_files;
mod operations;
mod readers;
mod reliability;
mod repair;
mod rules;
mod soak;
mod tasks;
mod transcripts;
mod verbs;
mod writers;
