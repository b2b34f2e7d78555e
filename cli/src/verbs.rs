//! Verbs on files and on the cluster, over the client library.
//!
//! ```text
//!   run ─▶ Context (client, output, user) ─▶ each (paths ─▶ one after the other) ─▶ ls stat mkdir chmod …
//!                     │                       put, get, cp, sync  trees, many files in flight ─▶ transfer ─▶ copy
//!                     │                       cat head tail bytes to standard output
//!                     ├─ paths   what arguments name: relative paths, patterns, walks
//!                     ├─ text    what people write and read, pure
//!                     └─ entry   how an entry is printed
//!   every failure ─▶ failure (text or JSON, hint, exit status)
//! ```

mod acl;
mod append;
mod balance;
mod block;
mod cat;
mod checksum;
mod chmod;
mod chown;
mod cluster;
mod concat;
mod context;
mod copy;
mod count;
mod cp;
mod df;
mod digest;
mod du;
mod each;
mod ends;
mod entry;
mod failure;
mod filter;
pub(crate) mod find;
mod fsck;
mod get;
mod jobs;
mod lease;
mod ln;
mod ls;
mod mkdir;
mod mv;
mod node;
mod output;
mod paths;
mod progress;
mod put;
mod quota;
mod rate;
mod rm;
mod setrep;
mod snapshot;
mod stat;
mod streams;
mod sync;
mod tail;
mod test;
mod text;
mod touch;
mod transfer;
mod trash;
mod tree;
mod truncate;
mod xattr;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::exit::Status;
use context::Context;
pub(crate) use context::{DEFAULT_FS, hostname, os_user};
pub(crate) use digest::Digest;
pub(crate) use failure::Failure;
pub(crate) use output::Output;
pub(crate) use text::size::{parse_positive as parse_size, size};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Copy local files or trees into the cluster
    Put(put::PutOptions),
    /// Copy files or trees out of the cluster
    Get(get::GetOptions),
    /// Write files to standard output
    Cat(cat::CatOptions),
    /// Write the beginning of files to standard output
    Head(ends::EndOptions),
    /// Write the end of files to standard output
    Tail(tail::TailOptions),
    /// List directories
    Ls(ls::LsOptions),
    /// Draw directories and what is below them
    Tree(tree::TreeOptions),
    /// Find names below directories
    Find(Box<find::FindOptions>),
    /// Show what is known of files and directories
    Stat(stat::StatOptions),
    /// Ask a question that the exit status answers
    Test(test::TestOptions),
    /// Measure trees
    Du(du::DuOptions),
    /// Show the room of the cluster
    Df(df::DfOptions),
    /// Count names, bytes and quotas
    Count(count::CountOptions),
    /// Compute what is in files: SHA-256 and CRC-32C
    Checksum(checksum::ChecksumOptions),
    /// Look for files that are not whole
    Fsck(fsck::FsckOptions),
    /// Make directories
    Mkdir(mkdir::MkdirOptions),
    /// Remove empty directories
    Rmdir(mkdir::RmdirOptions),
    /// Set times, or make empty files
    Touch(touch::TouchOptions),
    /// Copy files or trees within the cluster
    Cp(cp::CpOptions),
    /// Make a tree the same as another, on this machine or in the cluster
    Sync(Box<sync::SyncOptions>),
    /// Write local files at the end of a file of the cluster
    Append(append::AppendOptions),
    /// Append files to another without copying
    Concat(concat::ConcatOptions),
    /// Make files shorter
    Truncate(truncate::TruncateOptions),
    /// Move or rename files and directories
    Mv(mv::MvOptions),
    /// Make further names: hard and symbolic links
    Ln(ln::LnOptions),
    /// Remove files and directories
    Rm(rm::RmOptions),
    /// Look at, restore or empty your trash
    Trash(trash::TrashVerb),
    /// Change permission bits
    Chmod(chmod::ChmodOptions),
    /// Change owner and group
    Chown(chown::ChownOptions),
    /// Change the group
    Chgrp(chown::ChgrpOptions),
    /// Change the number of copies
    Setrep(setrep::SetrepOptions),
    /// Show and change ACLs
    Acl(acl::AclVerb),
    /// Show and change extended attributes
    Xattr(xattr::XattrVerb),
    /// Show and change quotas of directories
    Quota(quota::QuotaVerb),
    /// Make and look at snapshots of directories
    Snapshot(snapshot::SnapshotVerb),
    /// Look at the blocks of files
    Block(block::BlockVerb),
    /// Look at files that are being written, or take them from their writers
    Lease(lease::LeaseVerb),
    /// Look at the cluster
    Cluster(ClusterVerb),
    /// Look at the datanodes, and take them out of service
    Node(node::NodeVerb),
    /// Look at long work of the cluster
    Jobs(jobs::JobsVerb),
    /// Even out how full the datanodes are
    Balance(balance::BalanceOptions),
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

/// What a verb ends with: the number of items that failed is in the context.
type Outcome = Result<(), Failure>;

/// What is left of an interrupted download with `--resume`.
const PARTS_ARE_KEPT: &str =
    "files that were not whole are not there; what came of them is kept beside, and --resume goes on with it";

impl Verb {
    /// Does the verb move enough bytes, or print enough names, to be worth several threads?
    const fn is_heavy(&self) -> bool {
        matches!(
            self,
            Self::Put(_) | Self::Get(_) | Self::Cp(_) | Self::Sync(_) | Self::Block(_) | Self::Ls(_) | Self::Find(_)
        )
    }
    /// What is left of what was under way when it is interrupted.
    fn left_behind(&self) -> &'static str {
        match self {
            Self::Get(options) if options.keeps_parts() => PARTS_ARE_KEPT,
            Self::Sync(options) if options.keeps_parts() => PARTS_ARE_KEPT,
            Self::Put(_) | Self::Get(_) | Self::Cp(_) | Self::Sync(_) => "files that were not whole are not there",
            Self::Append(_) => "the file keeps what was flushed, and the cluster closes it",
            _ => "",
        }
    }
    /// Does standard output carry data, so that nothing else may go there?
    fn prints_data(&self) -> bool {
        match self {
            Self::Cat(_) | Self::Head(_) | Self::Tail(_) => true,
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
    let runtime = match verb.is_heavy() {
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
                Err(Failure::interrupted(verb.left_behind()))
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
        Verb::Head(options) => ends::head(options, context).await,
        Verb::Tail(options) => tail::run(options, context).await,
        Verb::Ls(options) => ls::run(options, context).await,
        Verb::Tree(options) => tree::run(options, context).await,
        Verb::Find(options) => find::run(options, context).await,
        Verb::Stat(options) => stat::run(options, context).await,
        Verb::Test(options) => test::run(options, context).await,
        Verb::Du(options) => du::run(options, context).await,
        Verb::Df(options) => df::run(options, context).await,
        Verb::Count(options) => count::run(options, context).await,
        Verb::Checksum(options) => checksum::run(options, context).await,
        Verb::Fsck(options) => fsck::run(options, context).await,
        Verb::Mkdir(options) => mkdir::mkdir(options, context).await,
        Verb::Rmdir(options) => mkdir::rmdir(options, context).await,
        Verb::Touch(options) => touch::run(options, context).await,
        Verb::Cp(options) => cp::run(options, context).await,
        Verb::Sync(options) => sync::run(options, context).await,
        Verb::Append(options) => append::run(options, context).await,
        Verb::Concat(options) => concat::run(options, context).await,
        Verb::Truncate(options) => truncate::run(options, context).await,
        Verb::Mv(options) => mv::run(options, context).await,
        Verb::Ln(options) => ln::run(options, context).await,
        Verb::Rm(options) => rm::run(options, context).await,
        Verb::Trash(trash) => trash::run(&trash.verb, context).await,
        Verb::Chmod(options) => chmod::run(options, context).await,
        Verb::Chown(options) => chown::chown(options, context).await,
        Verb::Chgrp(options) => chown::chgrp(options, context).await,
        Verb::Setrep(options) => setrep::run(options, context).await,
        Verb::Acl(acl) => acl::run(&acl.verb, context).await,
        Verb::Xattr(xattr) => xattr::run(&xattr.verb, context).await,
        Verb::Quota(quota) => quota::run(&quota.verb, context).await,
        Verb::Snapshot(snapshot) => snapshot::run(&snapshot.verb, context).await,
        Verb::Block(block) => block::run(&block.verb, context).await,
        Verb::Lease(lease) => lease::run(&lease.verb, context).await,
        Verb::Cluster(ClusterVerb { verb: ClusterCommand::Status }) => cluster::status(context).await,
        Verb::Node(node) => node::run(&node.verb, context).await,
        Verb::Jobs(jobs) => jobs::run(&jobs.verb, context).await,
        Verb::Balance(options) => balance::run(options, context).await,
    }
}
