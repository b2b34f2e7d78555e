//! `blockyard bench`: measures, and prints the limits of the hardware beside.
//!
//! ```text
//!   bench ─┬▶ io, small, read   files through the shipping client, in a named cluster or one of its own
//!          │     stage  where they work    roles  whose time and syncs count    limits  what the machine can do
//!          │     door   by which way is read
//!          ├▶ rebuild     a datanode dies, its blocks are copied again (watch: what the servers say meanwhile)
//!          ├▶ directory   a directory as programs use it: a mount, or any other
//!          ├▶ meta        calls on names, through the shipping client
//!          └▶ namespace   the namespace and the block map in this process: speed, memory, images
//! ```

mod directory;
mod door;
mod files;
mod io;
mod latencies;
mod limits;
mod load;
mod meta;
mod mix;
mod namespace;
mod own;
mod read;
mod rebuild;
mod roles;
mod series;
mod small;
mod stage;
mod watch;
mod workers;

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
    /// Measure one long file: written with all its copies, and read
    Io(io::IoOptions),
    /// Measure small files: durable ones a second
    Small(small::SmallOptions),
    /// Measure reads: short ones at random, long ones, small files
    Read(read::ReadOptions),
    /// Measure the loss of a datanode: how soon and how fast its blocks are copied again
    Rebuild(rebuild::RebuildOptions),
    /// Measure directories as programs use them: a mount beside a local disk
    Directory(directory::DirectoryOptions),
    /// Measure calls on names: how many a second, how long each takes
    Meta(meta::MetaOptions),
    /// Measure the namespace in memory: speed of applying and looking up, memory by part, images
    Namespace(namespace::NamespaceOptions),
}

/// Runs a benchmark.
pub(crate) fn run(verb: &BenchVerb, global: &Global) -> Status {
    match &verb.command {
        BenchCommand::Io(options) => io::run(options, global),
        BenchCommand::Small(options) => small::run(options, global),
        BenchCommand::Read(options) => read::run(options, global),
        BenchCommand::Rebuild(options) => rebuild::run(options, global),
        BenchCommand::Directory(options) => directory::run(options, global),
        BenchCommand::Meta(options) => meta::run(options, global),
        BenchCommand::Namespace(options) => namespace::run(options, global.json).unwrap_or_else(|why| {
            eprintln!("error: {why}");
            Status::FAILED
        }),
    }
}
