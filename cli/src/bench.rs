//! `blockyard bench`: measures this build on this machine, and prints what the hardware allows beside it.

mod namespace;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::exit::Status;

/// What can be measured.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The namespace in memory: speed of applying and looking up, memory by part, images
    Namespace(namespace::NamespaceOptions),
}

/// Measures.
pub(crate) fn run(options: &BenchOptions, global: &Global) -> Status {
    let measured = match &options.what {
        What::Namespace(options) => namespace::run(options, global.json),
    };
    match measured {
        Ok(()) => Status::OK,
        Err(why) => {
            eprintln!("error: {why}");
            Status::FAILED
        }
    }
}
