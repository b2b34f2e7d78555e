//! Whole clusters from seeds: the gate's seeds, the regressions, determinism, planted bugs, and the long run.
//!
//! A failing seed is made again, with everything that happens, by
//! `BLOCKYARD_SIM_SEED=<seed> cargo test -p sim --test simulation one_seed -- --nocapture`.

mod gate;
mod long;
mod one;
mod plants;
mod seeds;
