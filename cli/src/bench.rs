//! `blockyard bench`: measures, and prints the limits of the hardware beside.
//!
//! ```text
//!   bench ─┬▶ meta        calls on names, through the shipping client
//!          └▶ namespace   the namespace and the block map in this process: speed, memory, images
//! ```

mod latencies;
mod load;
mod meta;
mod namespace;

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
    /// Measure the namespace in memory: speed of applying and looking up, memory by part, images
    Namespace(namespace::NamespaceOptions),
}

/// Runs a benchmark.
pub(crate) fn run(verb: &BenchVerb, global: &Global) -> Status {
    match &verb.command {
        BenchCommand::Meta(options) => meta::run(options, global),
        BenchCommand::Namespace(options) => namespace::run(options, global.json).unwrap_or_else(|why| {
            eprintln!("error: {why}");
            Status::FAILED
        }),
    }
}
