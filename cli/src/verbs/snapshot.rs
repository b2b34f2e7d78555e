//! `snapshot`: directories as they were.

use clap::{Args, Subcommand};
use client::{DiffEntry, DiffKind};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::{each, settle};
use super::failure::Failure;
use super::paths::{PATHS_HELP, below};
use super::text::plain;
use super::text::table::table;
use super::text::time::{short_time, time};

/// `snapshot VERB`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotVerb {
    #[command(subcommand)]
    pub(crate) verb: SnapshotCommand,
}

/// Verbs below `snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Allow snapshots of directories; for the superuser
    Enable(DirectoryOptions),
    /// Allow them no longer; for the superuser, and only when none are left
    Disable(DirectoryOptions),
    /// Make a snapshot of a directory
    Create(CreateOptions),
    /// Show the snapshots of directories, or which directories may have some
    Ls(LsOptions),
    /// Remove snapshots
    Rm(RmOptions),
    /// Give a snapshot another name
    Rename(RenameOptions),
    /// Show what changed between two snapshots, or since one
    Diff(DiffOptions),
}

/// Directories.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct DirectoryOptions {
    /// Directories
    #[arg(required = true, value_name = "DIRECTORY")]
    paths: Vec<String>,
}

/// Flags of `snapshot create`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
What a snapshot holds is read at DIRECTORY/.snapshot/NAME, like any other directory, and cannot be changed.

Examples:
  blockyard snapshot enable /data
  blockyard snapshot create /data before-the-migration
  blockyard ls /data/.snapshot/before-the-migration
  blockyard cp /data/.snapshot/before-the-migration/x /data/x")]
pub(crate) struct CreateOptions {
    /// A directory that may have snapshots
    directory: String,
    /// Its name [default: s and the time]
    name: Option<String>,
}

/// Flags of `snapshot ls`.
#[derive(Debug, Args)]
pub(crate) struct LsOptions {
    /// Directories [default: which ones may have snapshots]
    #[arg(value_name = "DIRECTORY")]
    paths: Vec<String>,
}

/// Flags of `snapshot rm`.
#[derive(Debug, Args)]
pub(crate) struct RmOptions {
    /// The directory
    directory: String,
    /// Snapshots of it
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Flags of `snapshot rename`.
#[derive(Debug, Args)]
pub(crate) struct RenameOptions {
    /// The directory
    directory: String,
    /// The snapshot
    from: String,
    /// Its new name
    to: String,
}

/// Flags of `snapshot diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
+ made, - removed, M changed, R moved.

Examples:
  blockyard snapshot diff /data monday              what changed since then
  blockyard snapshot diff /data monday tuesday")]
pub(crate) struct DiffOptions {
    /// The directory
    directory: String,
    /// The older snapshot
    from: String,
    /// The newer one; . is what is there now
    #[arg(default_value = ".")]
    to: String,
}

/// Runs `snapshot VERB`.
pub(crate) async fn run(verb: &SnapshotCommand, context: &Context) -> Outcome {
    match verb {
        SnapshotCommand::Enable(options) => allow(options, true, context).await,
        SnapshotCommand::Disable(options) => allow(options, false, context).await,
        SnapshotCommand::Create(options) => create(options, context).await,
        SnapshotCommand::Ls(options) => ls(options, context).await,
        SnapshotCommand::Rm(options) => rm(options, context).await,
        SnapshotCommand::Rename(options) => rename(options, context).await,
        SnapshotCommand::Diff(options) => diff(options, context).await,
    }
}

async fn allow(options: &DirectoryOptions, allow: bool, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| {
        context.client.allow_snapshots(path, allow).await?;
        if !context.output.is_json() {
            return Ok(());
        }
        context.output.object(&json!({"v": 1, "type": "snapshots-allowed", "path": path, "allowed": allow}))
    })
    .await
}

/// The one directory that an argument names.
async fn directory(context: &Context, argument: &str) -> Result<String, Failure> {
    match context.expand(argument).await?.as_slice() {
        [one] => Ok(one.clone()),
        several => {
            let text = format!("{argument} fits {} directories", several.len());
            Err(Failure::usage(text, "name one of them"))
        }
    }
}

async fn create(options: &CreateOptions, context: &Context) -> Outcome {
    let at = directory(context, &options.directory).await?;
    let done = async {
        let name = options.name.as_deref().unwrap_or_default();
        let path = context.client.create_snapshot(&at, name).await.map_err(|error| Failure::from(error).at(&at))?;
        match context.output.is_json() {
            true => context.output.object(&json!({"v": 1, "type": "snapshot", "directory": at, "path": path})),
            false => context.output.line(&format!("made {}", plain(&path))),
        }
    };
    settle(context, &options.directory, done.await).await
}

async fn ls(options: &LsOptions, context: &Context) -> Outcome {
    if options.paths.is_empty() {
        let directories = context.client.snapshots(None).await?;
        if context.output.is_json() {
            return directories.iter().try_for_each(|one| {
                let (path, snapshots) = (&one.directory, one.snapshots);
                context.output.object(&json!({"v": 1, "type": "snapshottable", "path": path, "snapshots": snapshots}))
            });
        }
        let rows: Vec<Vec<String>> =
            directories.iter().map(|one| vec![one.snapshots.to_string(), plain(&one.directory).into_owned()]).collect();
        return context.output.block(&table(&rows, &[0]));
    }
    each(context, &options.paths, async |path| {
        let snapshots = context.client.snapshots(Some(path)).await?;
        if context.output.is_json() {
            return snapshots.iter().try_for_each(|one| {
                context.output.object(&json!({
                    "v": 1, "type": "snapshot", "directory": path, "name": one.name, "id": one.id,
                    "path": below(&below(path, ".snapshot"), &one.name), "created": time(one.created_ns),
                }))
            });
        }
        let rows: Vec<Vec<String>> = snapshots
            .iter()
            .map(|one| {
                vec![short_time(one.created_ns), plain(&below(&below(path, ".snapshot"), &one.name)).into_owned()]
            })
            .collect();
        context.output.block(&table(&rows, &[]))
    })
    .await
}

async fn rm(options: &RmOptions, context: &Context) -> Outcome {
    let at = directory(context, &options.directory).await?;
    for name in &options.names {
        let removed = context.client.delete_snapshot(&at, name).await.map_err(|error| Failure::from(error).at(&at));
        let done = removed.and_then(|()| match context.output.is_json() {
            true => context.output.object(&json!({"v": 1, "type": "snapshot-removed", "directory": at, "name": name})),
            false => Ok(()),
        });
        settle(context, &options.directory, done).await?;
    }
    Ok(())
}

async fn rename(options: &RenameOptions, context: &Context) -> Outcome {
    let at = directory(context, &options.directory).await?;
    let (from, to) = (&options.from, &options.to);
    let renamed = context.client.rename_snapshot(&at, from, to).await.map_err(|error| Failure::from(error).at(&at));
    let done = renamed.and_then(|()| match context.output.is_json() {
        true => context
            .output
            .object(&json!({"v": 1, "type": "snapshot-renamed", "directory": at, "from": from, "name": to})),
        false => Ok(()),
    });
    settle(context, &options.directory, done).await
}

async fn diff(options: &DiffOptions, context: &Context) -> Outcome {
    let at = directory(context, &options.directory).await?;
    let to = if options.to == "." { "" } else { options.to.as_str() };
    let entries = context.client.diff_snapshots(&at, &options.from, to).await;
    let done = entries.map_err(|error| Failure::from(error).at(&at)).and_then(|entries| {
        entries.iter().try_for_each(|entry| match context.output.is_json() {
            true => context.output.object(&json!({
                "v": 1, "type": "change", "directory": at, "change": change_name(entry.kind()), "path": entry.path,
                "target": (entry.kind() == DiffKind::Renamed).then_some(entry.target.as_str()),
            })),
            false => context.output.line(&diff_line(entry)),
        })
    });
    settle(context, &options.directory, done).await
}

const fn change_name(kind: DiffKind) -> &'static str {
    match kind {
        DiffKind::Created => "created",
        DiffKind::Deleted => "deleted",
        DiffKind::Modified | DiffKind::Unspecified => "modified",
        DiffKind::Renamed => "renamed",
    }
}

fn diff_line(entry: &DiffEntry) -> String {
    let path = if entry.path.is_empty() { ".".to_owned() } else { format!("./{}", plain(&entry.path)) };
    match entry.kind() {
        DiffKind::Created => format!("+  {path}"),
        DiffKind::Deleted => format!("-  {path}"),
        DiffKind::Modified | DiffKind::Unspecified => format!("M  {path}"),
        DiffKind::Renamed => format!("R  {path} -> ./{}", plain(&entry.target)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_letter() {
        let line = |kind: DiffKind, path: &str| {
            diff_line(&DiffEntry { kind: kind.into(), path: path.into(), target: "new/x".into() })
        };
        assert_eq!(line(DiffKind::Modified, ""), "M  .");
        assert_eq!(line(DiffKind::Created, "a"), "+  ./a");
        assert_eq!(line(DiffKind::Deleted, "a/b"), "-  ./a/b");
        assert_eq!(line(DiffKind::Renamed, "x"), "R  ./x -> ./new/x");
    }
}
