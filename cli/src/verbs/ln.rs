//! `ln`: further names.

use clap::Args;
use client::{ErrorCode, FileStatus};

use super::Outcome;
use super::context::Context;
use super::each::settle;
use super::entry::object;
use super::failure::Failure;
use super::mv::Destination;

/// Flags of `ln`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A hard link is a further name of a file: neither name is better, and the data stay until the last one is removed.
A symbolic link leads to a path, which need not exist; a relative one begins at the link's directory.
If NAME is a directory, the link is made in it.

Examples:
  blockyard ln /data/x /data/y                    another name of /data/x
  blockyard ln -s 2026-11-22 /data/latest         a symbolic link")]
pub(crate) struct LnOptions {
    /// What exists (with -s: what the link leads to, kept as it is written), then the new name
    #[arg(required = true, num_args = 2, value_names = ["TARGET", "NAME"])]
    paths: Vec<String>,
    /// A symbolic link
    #[arg(short, long)]
    symbolic: bool,
    /// Make missing directories above a symbolic link
    #[arg(short, long, requires = "symbolic")]
    parents: bool,
}

/// Runs `ln`.
pub(crate) async fn run(options: &LnOptions, context: &Context) -> Outcome {
    let [target, name] = options.paths.as_slice() else {
        return Err(Failure::usage("name a target and a new name", "blockyard ln TARGET NAME"));
    };
    let destination = Destination::find(context, name, false).await?;
    let path = destination.of(target);
    let made = match options.symbolic {
        true => context.client.symlink(&path, target, options.parents).await,
        false => context.client.link(&context.absolute(target)?, &path).await,
    };
    let done = match made {
        Ok(status) => print(context, &status, &path),
        Err(error) => {
            let exists = error.code == ErrorCode::AlreadyExists;
            Err(Failure::from(error).at(&path).or_hint(|| exists.then(|| "remove it first".to_owned())))
        }
    };
    settle(context, target, done).await
}

fn print(context: &Context, status: &FileStatus, path: &str) -> Outcome {
    if context.output.is_json() { context.output.record(&object(status, path)) } else { Ok(()) }
}
