//! `mkdir` and `rmdir`.

use clap::Args;
use client::{ErrorCode, FileKind, FsError};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::{each_new, each_together};
use super::entry::object;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::text::mode::octal;

/// Flags of `mkdir`.
#[derive(Debug, Args)]
#[command(
    after_help = "Paths that do not begin with / begin at /user/USER. Names are taken as they are written: no patterns."
)]
pub(crate) struct MkdirOptions {
    /// Directories to make
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Make what is missing above, and take an existing directory for success
    #[arg(short, long)]
    parents: bool,
    /// Permission bits, in octal [default: 777 without the umask]
    #[arg(short, long, value_name = "MODE", value_parser = octal)]
    mode: Option<u32>,
}

/// Flags of `rmdir`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct RmdirOptions {
    /// Empty directories to remove
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Leave directories that are not empty without a word
    #[arg(long)]
    ignore_fail_on_non_empty: bool,
}

/// Runs `mkdir`.
pub(crate) async fn mkdir(options: &MkdirOptions, context: &Context) -> Outcome {
    let mode = options.mode.unwrap_or_else(|| context.masked(0o777));
    each_new(context, &options.paths, async |path| {
        let status = context.client.mkdir(path, mode, options.parents).await?;
        if context.output.is_json() { context.output.record(&object(&status, path)) } else { Ok(()) }
    })
    .await
}

/// Runs `rmdir`.
pub(crate) async fn rmdir(options: &RmdirOptions, context: &Context) -> Outcome {
    each_together(context, &options.paths, false, async |path| {
        if context.client.stat_link(path).await?.kind() != FileKind::Directory {
            let error = FsError::new(ErrorCode::NotADirectory, "not a directory").with_path(path);
            return Err(Failure::from(error.with_hint("remove files with `blockyard rm`")));
        }
        match context.client.delete(path, false).await {
            Err(error) if options.ignore_fail_on_non_empty && error.code == ErrorCode::NotEmpty => return Ok(()),
            Err(error) => {
                let full = error.code == ErrorCode::NotEmpty;
                let hint = || full.then(|| "remove the tree with `blockyard rm -r`".to_owned());
                return Err(Failure::from(error).or_hint(hint));
            }
            Ok(_) => {}
        }
        if context.output.is_json() {
            let object = json!({"v": 1, "type": "removed", "path": path, "files": 0, "directories": 1});
            context.output.object(&object)?;
        }
        Ok(())
    })
    .await
}
