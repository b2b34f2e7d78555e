//! Whole clusters on one thread, from one seed.
//!
//! ```text
//!   seed ─▶ Run ─▶ World ── events in order of virtual time ──▶ hosts: Namenode · Datanode · Client
//!                    │                                            the shipping machines, thin shells of ours
//!                    ├─ Scene    clock, queue, network, randomness, trace, coverage: what all hosts share
//!                    ├─ faults   what goes wrong, when, and how it ends
//!                    ├─ admin    nodes that are drained, replaced and balanced meanwhile, in every second pair of seeds
//!                    └─ checks   what must hold at every step, and at the end
//! ```
//!
//! Nothing here decides anything that a product decides: a host takes a message, gives it to the machine that ships
//! (`NamenodeCore`, `Agent`, `BlockReceiver`, `FileWriter`, …) and carries its effects to the simulated world. The
//! same seed gives the same run, to the byte: `tests/simulation` runs one seed twice and compares the traces.
//!
//! A seed is about 500 client operations and at least 20 faults. When they are over, the faults are lifted and the
//! cluster must heal: every block at its number of copies, every acknowledged byte read back, all members equal.
//!
//! Read [`run`] first, then [`scene`], then a host.

pub mod admin;
pub mod checks;
pub mod cluster;
pub mod coverage;
pub mod faults;
pub mod hosts;
pub mod logs;
pub mod message;
pub mod network;
pub mod oracle;
pub mod planted;
pub mod registers;
pub mod run;
pub mod scene;
pub mod trace;
pub mod workload;

pub use coverage::{Coverage, Rare};
pub use planted::Planted;
pub use run::{Report, Run, Shape};
