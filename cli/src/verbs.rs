//! Verbs on files and on the cluster, over the client library.

use clap::Subcommand;

use crate::args::Global;
use crate::exit::Status;

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List a directory
    Ls {
        /// What to list
        path: String,
    },
}

/// Runs a verb and says how it ended.
pub(crate) fn run(verb: Verb, global: &Global) -> Status {
    eprintln!("error: {verb:?} is not available for {global:?}");
    Status::FAILED
}
