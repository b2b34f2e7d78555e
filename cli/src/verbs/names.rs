//! Verbs on names: `ls stat mkdir mv rm`.

use clap::Args;
use client::{ErrorCode, FileKind, FileStatus, FsError, Replace};
use serde_json::json;

use super::Outcome;
use super::context::{Context, below, name_of, typed};
use super::failure::Failure;
use super::output::{entry_json, mode_text, short_time, size, table, time};

/// Lines of a long listing that are aligned together, so that a huge directory needs no huge memory.
const ALIGNED_LINES: usize = 1000;

/// Flags of `ls`.
#[derive(Debug, Args)]
pub(crate) struct LsOptions {
    /// What to list
    #[arg(default_value = "/", value_name = "PATH")]
    paths: Vec<String>,
    /// Mode, copies, owner, group, size and time as well
    #[arg(short)]
    long: bool,
    /// Everything below, too
    #[arg(short, long, visible_short_alias = 'R')]
    recursive: bool,
    /// Directories themselves instead of what is in them
    #[arg(short)]
    directory: bool,
}

/// Flags of `stat`.
#[derive(Debug, Args)]
pub(crate) struct StatOptions {
    /// Files and directories of the cluster
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// Flags of `mkdir`.
#[derive(Debug, Args)]
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

/// Flags of `mv`.
#[derive(Debug, Args)]
#[command(after_help = "If DESTINATION is a directory, everything is moved into it; otherwise it is the new name.")]
pub(crate) struct MvOptions {
    /// What to move, then where to
    #[arg(required = true, num_args = 2.., value_name = "SOURCE… DESTINATION")]
    paths: Vec<String>,
    /// Replace a file that is there
    #[arg(short, long)]
    force: bool,
}

/// Flags of `rm`.
#[derive(Debug, Args)]
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
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("write up to four octal digits, such as 755".to_owned()),
    }
}

/// Runs `one` for each path; a failed item does not stop the others.
async fn each<'a>(context: &'a Context, paths: &'a [String], one: impl AsyncFn(&'a str) -> Outcome) -> Outcome {
    for path in paths {
        match one(typed(path)).await {
            Ok(()) => context.output.item_done(),
            Err(failure) if failure.is_quiet() => return Err(failure),
            Err(failure) => context.output.item_failed(&context.explained(failure.at(path)).await),
        }
    }
    Ok(())
}

/// Runs `ls`.
pub(crate) async fn ls(options: &LsOptions, context: &Context) -> Outcome {
    let titled = (options.paths.len() > 1 || options.recursive) && !context.output.is_json();
    each(context, &options.paths, async |path| ls_one(options, context, path, titled).await).await
}

async fn ls_one(options: &LsOptions, context: &Context, path: &str, titled: bool) -> Outcome {
    if options.directory {
        let status = context.client.stat(path).await?;
        return print_entries(options, context, "", vec![FileStatus { path: path.to_owned(), ..status }]);
    }
    let mut waiting = vec![path.to_owned()];
    let mut first = true;
    while let Some(directory) = waiting.pop() {
        if titled {
            context.output.line(&format!("{}{directory}:", if first { "" } else { "\n" }))?;
        }
        first = false;
        let below_it = ls_directory(options, context, &directory).await?;
        if options.recursive {
            waiting.extend(below_it.into_iter().rev());
        }
    }
    Ok(())
}

/// Prints one directory, or a file by itself; answers the directories in it.
async fn ls_directory(options: &LsOptions, context: &Context, path: &str) -> Result<Vec<String>, Failure> {
    let mut listing = context.client.list(path)?;
    let mut page = Vec::new();
    let mut directories = Vec::new();
    loop {
        let Some(entry) = listing.next().await? else { break };
        if entry.path.is_empty() {
            print_entries(options, context, "", vec![FileStatus { path: path.to_owned(), ..entry }])?;
            return Ok(directories);
        }
        if entry.kind() == FileKind::Directory {
            directories.push(below(path, &entry.path));
        }
        page.push(entry);
        if page.len() >= ALIGNED_LINES {
            print_entries(options, context, path, std::mem::take(&mut page))?;
        }
    }
    print_entries(options, context, path, page)?;
    Ok(directories)
}

/// `parent` is empty if the entries carry full paths.
fn print_entries(options: &LsOptions, context: &Context, parent: &str, entries: Vec<FileStatus>) -> Outcome {
    let mut text = String::new();
    if context.output.is_json() {
        for entry in &entries {
            let path = if parent.is_empty() { entry.path.clone() } else { below(parent, &entry.path) };
            text.push_str(&format!("{}\n", entry_json(entry, &path)));
        }
    } else if options.long {
        let rows: Vec<Vec<String>> = entries.iter().map(long_row).collect();
        text = table(&rows, &[4]);
    } else {
        for entry in &entries {
            text.push_str(&shown(entry));
            text.push('\n');
        }
    }
    context.output.block(&text)
}

/// The name, with a slash after a directory, and nothing that a terminal would act on.
fn shown(entry: &FileStatus) -> String {
    let name: String = entry.path.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if entry.kind() == FileKind::Directory && !name.ends_with('/') { format!("{name}/") } else { name }
}

fn long_row(entry: &FileStatus) -> Vec<String> {
    let file = entry.kind() == FileKind::File;
    let dash = || "-".to_owned();
    let mut name = shown(entry);
    if entry.open_for_write {
        name.push_str("  (being written)");
    }
    vec![
        mode_text(entry),
        if file { format!("x{}", entry.replication) } else { dash() },
        entry.owner.clone(),
        entry.group.clone(),
        if file { size(entry.len_bytes) } else { dash() },
        short_time(entry.mtime_ns),
        name,
    ]
}

/// Runs `stat`.
pub(crate) async fn stat(options: &StatOptions, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| {
        let status = context.client.stat(path).await?;
        if context.output.is_json() {
            return context.output.object(&entry_json(&status, path));
        }
        context.output.block(&stat_text(&status, path))
    })
    .await
}

fn stat_text(status: &FileStatus, path: &str) -> String {
    let file = status.kind() == FileKind::File;
    let mut rows = vec![
        ("path", path.to_owned()),
        ("kind", if file { "file".to_owned() } else { "directory".to_owned() }),
        ("mode", format!("{:04o} ({})", status.mode, mode_text(status))),
        ("owner", format!("{}:{}", status.owner, status.group)),
    ];
    if file {
        rows.push(("size", format!("{} bytes ({})", status.len_bytes, size(status.len_bytes))));
        rows.push(("copies", status.replication.to_string()));
        rows.push(("block size", size(status.block_size_bytes)));
        rows.push(("state", if status.open_for_write { "being written" } else { "closed" }.to_owned()));
    } else {
        rows.push(("entries", status.children.to_string()));
    }
    rows.push(("modified", time(status.mtime_ns)));
    rows.push(("inode", status.inode.to_string()));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    table(&rows, &[])
}

/// Runs `mkdir`.
pub(crate) async fn mkdir(options: &MkdirOptions, context: &Context) -> Outcome {
    let mode = options.mode.unwrap_or_else(|| context.masked(0o777));
    each(context, &options.paths, async |path| {
        let status = context.client.mkdir(path, mode, options.parents).await?;
        if context.output.is_json() { context.output.object(&entry_json(&status, path)) } else { Ok(()) }
    })
    .await
}

/// Runs `mv`.
pub(crate) async fn mv(options: &MvOptions, context: &Context) -> Outcome {
    let Some((target, sources)) = options.paths.split_last() else {
        return Err(Failure::usage("nothing to move", "blockyard mv SOURCE… DESTINATION"));
    };
    let names_a_directory = target.ends_with('/') && target != "/";
    let target = typed(target);
    let into = context.look(target).await?.is_some_and(|status| status.kind() == FileKind::Directory);
    if names_a_directory && !into {
        let error = FsError::new(ErrorCode::NotADirectory, "not a directory").with_path(target);
        return Err(Failure::from(error.with_hint("make it with `blockyard mkdir`")));
    }
    if sources.len() > 1 && !into {
        let error = FsError::new(ErrorCode::NotADirectory, "several things can only be moved into a directory");
        return Err(Failure::from(error.with_path(target)));
    }
    let replace = if options.force { Replace::Allow } else { Replace::Refuse };
    each(context, sources, async |from| {
        let to = match (into, name_of(from)) {
            (true, Some(name)) => below(target, name),
            _ => target.to_owned(),
        };
        context.client.rename(from, &to, replace).await.map_err(|error| {
            let exists = error.code == ErrorCode::AlreadyExists;
            Failure::from(error).or_hint(|| exists.then(|| "replace it with -f".to_owned()))
        })?;
        if context.output.is_json() {
            context.output.object(&json!({"v": 1, "type": "moved", "from": from, "path": to}))?;
        }
        Ok(())
    })
    .await
}

/// Runs `rm`.
pub(crate) async fn rm(options: &RmOptions, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| {
        let removed = match context.client.delete(path, options.recursive).await {
            Err(error) if options.force && error.code == ErrorCode::NotFound => return Ok(()),
            Err(error) => {
                let full = matches!(error.code, ErrorCode::NotEmpty | ErrorCode::IsADirectory);
                return Err(Failure::from(error).or_hint(|| full.then(|| "remove the tree with -r".to_owned())));
            }
            Ok(removed) => removed,
        };
        if context.output.is_json() {
            let (files, directories) = (removed.files, removed.directories);
            let object = json!({"v": 1, "type": "removed", "path": path, "files": files, "directories": directories});
            context.output.object(&object)?;
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal("755"), Ok(0o755));
        assert_eq!(octal("1777"), Ok(0o1777));
        assert!(octal("888").is_err() && octal("17777").is_err() && octal("").is_err());
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        let entry = FileStatus { path: "a\u{1b}[2Jb\n".into(), ..FileStatus::default() };
        assert_eq!(shown(&entry), "a?[2Jb?");
    }
}
