//! `setrep`: how many copies files have.

use std::time::Duration;

use clap::Args;
use client::{Attributes, ErrorCode, FileKind, FsError};

use super::Outcome;
use super::context::Context;
use super::each::{each_below, each_together, start_beside_links};
use super::entry::object;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::paths::walk::Found;

/// Time between two looks at the copies.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Flags of `setrep`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
The cluster makes or removes copies in the background; -w waits until it has made them.

{PATHS_HELP}

Examples:
  blockyard setrep 2 /data/x
  blockyard setrep -R -w 3 /data")
)]
pub(crate) struct SetrepOptions {
    /// Copies
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    copies: u32,
    /// Files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// All files of directories
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Wait until there are enough copies
    #[arg(short, long)]
    wait: bool,
}

/// Runs `setrep`.
pub(crate) async fn run(options: &SetrepOptions, context: &Context) -> Outcome {
    let (copies, wait) = (options.copies, options.wait);
    each_together(context, &options.paths, false, async |path| {
        let Some(top) = start_beside_links(context, path, options.recursive).await? else { return Ok(()) };
        if top.is_directory() && !options.recursive {
            let error = FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(path);
            return Err(Failure::from(error.with_hint("change all files in it with -R")));
        }
        let no_follow = options.recursive;
        let change = |context, found| change(Wanted { copies, no_follow, wait }, context, found);
        each_below(context, top, options.recursive, change).await
    })
    .await
}

/// What one file is to get, and how.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    copies: u32,
    no_follow: bool,
    wait: bool,
}

async fn change(wanted: Wanted, context: Context, found: Found) -> Outcome {
    let Wanted { copies, no_follow, wait } = wanted;
    if found.status.kind() != FileKind::File {
        return Ok(());
    }
    let attributes = Attributes { replication: Some(copies), no_follow, ..Attributes::default() };
    let status = context.client.set_attributes(&found.path, &attributes).await?;
    while wait && missing(&context, &found.path, copies).await? {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if context.output.is_json() { context.output.record(&object(&status, &found.path)) } else { Ok(()) }
}

/// Has a block fewer copies than wanted?
async fn missing(context: &Context, path: &str, copies: u32) -> Result<bool, Failure> {
    let reader = context.client.open(path).await?;
    let fewest = reader.blocks().iter().map(|block| block.locations.len()).min();
    if fewest.is_none_or(|fewest| fewest >= copies as usize) {
        return Ok(false);
    }
    let live = context.client.status().await?.live_nodes;
    if live < u64::from(copies) {
        let error = FsError::new(ErrorCode::NotEnoughNodes, format!("{copies} copies need as many live datanodes"));
        return Err(Failure::from(error.with_path(path).with_hint(format!("{live} are live: blockyard node ls"))));
    }
    Ok(true)
}
