//! `du`: how much trees hold.

use clap::{ArgAction, Args};
use client::FileKind;
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::{each, start};
use super::paths::PATHS_HELP;
use super::paths::walk::{Found, Walk};
use super::text::plain;
use super::text::size::shown;

/// Width of a column of sizes.
const WIDTH: usize = 12;

/// Flags of `du`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = PATHS_HELP,
    after_long_help = format!("\
Columns: bytes, bytes on all disks (every copy counts), path. Without flags: what is directly in PATH.

{PATHS_HELP}

Examples:
  blockyard du -h /data           what is in /data, each with all that is below it
  blockyard du -sh '/user/*'      one line for each")
)]
pub(crate) struct DuOptions {
    /// What to measure
    #[arg(default_value = "/", value_name = "PATH")]
    paths: Vec<String>,
    /// PATH itself only
    #[arg(short, long, conflicts_with = "depth")]
    summarize: bool,
    /// Everything at most this deep below PATH
    #[arg(short, long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    depth: usize,
    /// Sizes as 1.2 GiB
    #[arg(short = 'h', long = "human-readable")]
    human: bool,
    /// A last line with the sum over the PATHs
    #[arg(short = 'c', long)]
    total: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Bytes, and bytes of all copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    len_bytes: u64,
    space_bytes: u64,
}

impl Use {
    const fn plus(self, other: Self) -> Self {
        Self {
            len_bytes: self.len_bytes.saturating_add(other.len_bytes),
            space_bytes: self.space_bytes.saturating_add(other.space_bytes),
        }
    }

    /// Of a file it is in its entry; of a directory the namenode is asked.
    async fn of(context: &Context, found: &Found) -> Result<Self, super::failure::Failure> {
        let status = &found.status;
        match status.kind() {
            FileKind::Directory => {
                let summary = context.client.content_summary(&found.path).await?;
                Ok(Self { len_bytes: summary.len_bytes, space_bytes: summary.space_bytes })
            }
            FileKind::File => Ok(Self {
                len_bytes: status.len_bytes,
                space_bytes: status.len_bytes.saturating_mul(u64::from(status.replication)),
            }),
            _ => Ok(Self::default()),
        }
    }

    fn print(self, options: &DuOptions, context: &Context, path: &str, kind: &str) -> Outcome {
        if context.output.is_json() {
            return context.output.object(&json!({
                "v": 1, "type": kind, "path": path, "size": self.len_bytes, "space": self.space_bytes,
            }));
        }
        let (size, space) = (shown(self.len_bytes, options.human), shown(self.space_bytes, options.human));
        context.output.line(&format!("{size:>WIDTH$}  {space:>WIDTH$}  {}", plain(path)))
    }
}

/// Runs `du`.
pub(crate) async fn run(options: &DuOptions, context: &Context) -> Outcome {
    let mut total = Use::default();
    each(context, &options.paths, async |path| {
        total = total.plus(du(options, context, path).await?);
        Ok(())
    })
    .await?;
    if options.total { total.print(options, context, "total", "total") } else { Ok(()) }
}

/// Prints one tree; answers how much it holds in all.
async fn du(options: &DuOptions, context: &Context, path: &str) -> Result<Use, super::failure::Failure> {
    let top = start(context, path).await?;
    if options.summarize || options.depth == 0 || !top.is_directory() {
        let all = Use::of(context, &top).await?;
        all.print(options, context, path, "use")?;
        return Ok(all);
    }
    let mut all = Use::default();
    let mut walk = Walk::below(&context.client, &top);
    while let Some(found) = walk.next().await {
        let found = match found {
            Ok(found) => found,
            // Nothing can be said of a place that cannot be looked into.
            Err(failure) if failure.path() == path => return Err(failure),
            Err(failure) => {
                context.output.item_failed(&failure);
                continue;
            }
        };
        if found.depth >= options.depth {
            walk.prune();
        }
        let here = match Use::of(context, &found).await {
            Ok(here) => here,
            Err(failure) => {
                context.output.item_failed(&failure.at(&found.path));
                continue;
            }
        };
        here.print(options, context, &found.path, "use")?;
        if found.depth == 1 {
            all = all.plus(here);
        }
    }
    Ok(all)
}
