//! Verbs on files and on the cluster, over the client library.
//!
//! ```text
//!   run ─▶ Context (client, output) ─▶ names    ls stat mkdir mv rm
//!                                      cat      bytes to standard output
//!                                      put, get trees, many files in flight ─▶ transfer (tally, progress)
//!                                      cluster  cluster status, node ls
//!   every failure ─▶ failure (text or JSON, hint, exit status)
//! ```

mod cat;
mod cluster;
mod context;
mod failure;
mod get;
mod names;
mod output;
mod progress;
mod put;
mod transfer;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::exit::Status;
use context::Context;
pub(crate) use context::{DEFAULT_FS, os_user};
pub(crate) use failure::Failure;
pub(crate) use output::Output;

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Copy local files or trees into the cluster
    Put(put::PutOptions),
    /// Copy files or trees out of the cluster
    Get(get::GetOptions),
    /// Write files to standard output
    Cat(cat::CatOptions),
    /// List directories
    Ls(names::LsOptions),
    /// Show what is known of files and directories
    Stat(names::StatOptions),
    /// Make directories
    Mkdir(names::MkdirOptions),
    /// Move or rename files and directories
    Mv(names::MvOptions),
    /// Remove files and directories
    Rm(names::RmOptions),
    /// Look at the cluster
    Cluster(ClusterVerb),
    /// Look at the datanodes
    Node(NodeVerb),
}

/// Verbs below `cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterVerb {
    #[command(subcommand)]
    verb: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Health, capacity and counts
    Status,
}

/// Verbs below `node`.
#[derive(Debug, Args)]
pub(crate) struct NodeVerb {
    #[command(subcommand)]
    verb: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// The datanodes, with their state and room
    Ls,
}

/// What a verb ends with: the number of items that failed is in the context.
type Outcome = Result<(), Failure>;

impl Verb {
    /// Does the verb move enough bytes to be worth several threads?
    const fn moves_data(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Get(_))
    }
    /// Does standard output carry data, so that nothing else may go there?
    fn prints_data(&self) -> bool {
        match self {
            Self::Cat(_) => true,
            Self::Get(options) => options.to_stdout(),
            _ => false,
        }
    }
}

/// Runs a verb and says how it ended.
pub(crate) fn run(verb: Verb, global: &Global) -> Status {
    let output = output::Output::new(global.json, verb.prints_data());
    match start(verb, global, output.clone()) {
        Ok(status) => status,
        Err(failure) => {
            output.failure(&failure);
            failure.status()
        }
    }
}

fn start(verb: Verb, global: &Global, output: output::Output) -> Result<Status, Failure> {
    // Before any thread starts: reading the mask sets it for a moment.
    let umask = base::local::umask();
    let runtime = match verb.moves_data() {
        // One thread starts fastest.
        false => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        true => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = runtime.map_err(|error| Failure::local("start", "", &error))?;
    let ended = runtime.block_on(async {
        let context = Context::new(global, output, umask)?;
        let ended = tokio::select! {
            ended = dispatch(&verb, &context) => ended,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| Failure::local("wait for signals", "", &error))?;
                Err(Failure::interrupted())
            }
        };
        context.client.settle(Duration::from_secs(1)).await;
        ended?;
        Ok(context.output.status())
    });
    // Temporary files get this long to vanish; a read of standard input may never end.
    runtime.shutdown_timeout(Duration::from_millis(300));
    ended
}

async fn dispatch(verb: &Verb, context: &Context) -> Outcome {
    match verb {
        Verb::Put(options) => put::run(options, context).await,
        Verb::Get(options) => get::run(options, context).await,
        Verb::Cat(options) => cat::run(options, context).await,
        Verb::Ls(options) => names::ls(options, context).await,
        Verb::Stat(options) => names::stat(options, context).await,
        Verb::Mkdir(options) => names::mkdir(options, context).await,
        Verb::Mv(options) => names::mv(options, context).await,
        Verb::Rm(options) => names::rm(options, context).await,
        Verb::Cluster(ClusterVerb { verb: ClusterCommand::Status }) => cluster::status(context).await,
        Verb::Node(NodeVerb { verb: NodeCommand::Ls }) => cluster::nodes(context).await,
    }
}
