//! `rm`: files and trees, into the trash if the cluster has one.

use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use client::{ErrorCode, FileKind, FsError};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::each_together;
use super::failure::Failure;
use super::output::on_terminal;
use super::paths::PATHS_HELP;
use super::trash::Trash;

/// Flags of `rm`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
If the cluster keeps a trash (namenode.trash_interval), what is removed moves to /user/USER/.Trash/Current, under its
whole path, and is removed for good after that time; `blockyard trash restore` brings it back. What is in the trash
already is removed for good. Patterns name the trash itself only if they begin with a dot.

{PATHS_HELP}

Examples:
  blockyard rm /data/x '/logs/*.tmp'
  blockyard rm -r --skip-trash /data/old")
)]
pub(crate) struct RmOptions {
    /// What to remove
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Directories with all that is in them
    #[arg(short, long, visible_short_alias = 'R')]
    recursive: bool,
    /// Take a missing path for success
    #[arg(short, long)]
    force: bool,
    /// Remove for good, whatever the cluster keeps
    #[arg(long)]
    skip_trash: bool,
}

/// Runs `rm`.
pub(crate) async fn run(options: &RmOptions, context: &Context) -> Outcome {
    let trash = Trash::of(context);
    let keeps = !options.skip_trash && context.client.server_info().await?.trash_interval_ms > 0;
    let moved = AtomicU64::new(0);
    each_together(context, &options.paths, options.force, async |path| {
        let done = match keeps && !trash.holds(path) {
            true => to_trash(options, context, &trash, path).await.map(|()| {
                moved.fetch_add(1, Ordering::Relaxed);
            }),
            false => for_good(options, context, path).await,
        };
        match done {
            Err(failure) if options.force && failure.code() == ErrorCode::NotFound => Ok(()),
            other => other,
        }
    })
    .await?;
    let moved = moved.into_inner();
    if moved > 0 && on_terminal() {
        context.output.note(&format!("{moved} moved to the trash; `blockyard trash restore PATH` brings it back"));
    }
    Ok(())
}

async fn to_trash(options: &RmOptions, context: &Context, trash: &Trash, path: &str) -> Outcome {
    let status = context.client.stat_link(path).await?;
    if status.kind() == FileKind::Directory && !options.recursive {
        let error = FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(path);
        return Err(Failure::from(error.with_hint("remove the tree with -r")));
    }
    let to = trash.take(context, path).await?;
    if context.output.is_json() {
        return context.output.object(&json!({"v": 1, "type": "trashed", "path": path, "to": to}));
    }
    Ok(())
}

async fn for_good(options: &RmOptions, context: &Context, path: &str) -> Outcome {
    let removed = context.client.delete(path, options.recursive).await.map_err(|error| {
        let full = matches!(error.code, ErrorCode::NotEmpty | ErrorCode::IsADirectory);
        Failure::from(error).or_hint(|| full.then(|| "remove the tree with -r".to_owned()))
    })?;
    if context.output.is_json() {
        let (files, directories) = (removed.files, removed.directories);
        let object = json!({"v": 1, "type": "removed", "path": path, "files": files, "directories": directories});
        return context.output.object(&object);
    }
    Ok(())
}
