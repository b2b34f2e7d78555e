//! `block locate` and `block verify`: where the blocks of files are, and whether every replica of them is sound.
//!
//! ```text
//!   argument ─▶ target    a path, or the id of a block ─▶ the blocks meant, with the nodes that hold them
//!                 ├─ locate   prints them
//!                 └─ verify ─▶ examine  each replica by itself ─▶ judge, pure: what the replicas say together
//! ```

mod examine;
mod judge;
mod locate;
mod target;
mod verify;

use clap::{Args, Subcommand};

use super::Outcome;
use super::context::Context;
use super::paths::PATHS_HELP;

/// Said in the help of both verbs.
const TARGETS_HELP: &str = "\
A number, also written blk_NUMBER, is the id of a block: the file that it belongs to is looked for below --below, file
by file. Write ./NUMBER for a file that has a number for its name.";

/// `block VERB`.
#[derive(Debug, Args)]
pub(crate) struct BlockVerb {
    #[command(subcommand)]
    pub(crate) verb: BlockCommand,
}

/// Verbs below `block`.
#[derive(Debug, Subcommand)]
pub(crate) enum BlockCommand {
    /// Show which nodes hold the blocks of files
    Locate(LocateOptions),
    /// Read every replica of every block, and compare them
    Verify(VerifyOptions),
}

/// What both verbs are about.
#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// Files of the cluster, or ids of blocks
    #[arg(required = true, value_name = "FILE|BLOCK")]
    targets: Vec<String>,
    /// Where files of blocks are looked for
    #[arg(long, value_name = "PATH", default_value = "/")]
    below: String,
}

/// Flags of `block locate`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
{TARGETS_HELP}

{PATHS_HELP}

Examples:
  blockyard block locate /data/events.parquet
  blockyard block locate 1073741841 --below /data --json"))]
pub(crate) struct LocateOptions {
    #[command(flatten)]
    targets: Targets,
}

/// Flags of `block verify`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Every replica is read from its own node and compared with its checksums, and with the other replicas of its block.
Damage is told to the namenode, which has it repaired. Ends with 6 if a replica is damaged, cannot be read, or differs
from the others, or if a block has none; blocks with too few replicas are told only.

{TARGETS_HELP}

{PATHS_HELP}

Examples:
  blockyard block verify '/data/*.parquet'
  blockyard block verify blk_1073741841 --json"))]
pub(crate) struct VerifyOptions {
    #[command(flatten)]
    targets: Targets,
}

/// Runs a verb below `block`.
pub(crate) async fn run(verb: &BlockCommand, context: &Context) -> Outcome {
    match verb {
        BlockCommand::Locate(options) => locate::run(&options.targets, context).await,
        BlockCommand::Verify(options) => verify::run(&options.targets, context).await,
    }
}
