//! `blockyard bench`: measures, and prints the limits of the hardware beside.
//!
//! ```text
//!   bench ─▶ meta   calls on names, through the shipping client
//! ```

mod latencies;
mod load;
mod meta;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::exit::Status;

/// Verbs below `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchVerb {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure calls on names: how many a second, how long each takes
    Meta(meta::MetaOptions),
}

/// Runs a benchmark.
pub(crate) fn run(verb: &BenchVerb, global: &Global) -> Status {
    match &verb.command {
        BenchCommand::Meta(options) => meta::run(options, global),
    }
}
