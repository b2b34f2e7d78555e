//! `chmod`: permission bits.

use clap::Args;
use client::{Attributes, FileKind};

use super::Outcome;
use super::context::Context;
use super::each::{each_below, each_together, start_beside_links};
use super::entry::object;
use super::paths::PATHS_HELP;
use super::paths::walk::Found;
use super::text::mode::ModeChange;

/// Flags of `chmod`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
MODE is octal, or clauses with commas: who (u owner, g group, o others, a all), + - or =, and what (r w x, X: x for
directories and where someone has it, s set-id, t sticky, or u g o to copy). Without who, the umask applies.
A mode that begins with - needs `--` in front. With -R symbolic links are left alone, also one that is named.

{PATHS_HELP}

Examples:
  blockyard chmod 640 /data/x
  blockyard chmod -R u+rwX,g-w,o= /data
  blockyard chmod -- -x /data/x")
)]
pub(crate) struct ChmodOptions {
    /// 755, or u+rwX,g-w,o=r,+t
    #[arg(value_parser = ModeChange::parse)]
    mode: ModeChange,
    /// What to change
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Runs `chmod`.
pub(crate) async fn run(options: &ChmodOptions, context: &Context) -> Outcome {
    each_together(context, &options.paths, false, async |path| {
        let Some(top) = start_beside_links(context, path, options.recursive).await? else { return Ok(()) };
        let change = |context, found| chmod(options.mode.clone(), options.recursive, context, found);
        each_below(context, top, options.recursive, change).await
    })
    .await
}

async fn chmod(change: ModeChange, no_follow: bool, context: Context, found: Found) -> Outcome {
    if found.status.kind() == FileKind::Symlink {
        return Ok(());
    }
    let mode = change.apply(found.status.mode, found.is_directory(), context.umask());
    let attributes = Attributes { mode: Some(mode), no_follow, ..Attributes::default() };
    let status = context.client.set_attributes(&found.path, &attributes).await?;
    if context.output.is_json() { context.output.record(&object(&status, &found.path)) } else { Ok(()) }
}
