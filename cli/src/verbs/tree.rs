//! `tree`: a directory and what is below it, drawn.

use clap::Args;
use client::{Client, FileKind, FileStatus, Listing};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::{each, start};
use super::entry::{object, push_name};
use super::failure::Failure;
use super::paths::walk::Found;
use super::paths::{PATHS_HELP, below};
use super::text::size::size;
use super::text::{counted, plain};

/// Flags of `tree`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct TreeOptions {
    /// Where to begin
    #[arg(default_value = "/", value_name = "PATH")]
    paths: Vec<String>,
    /// At most this many levels
    #[arg(short = 'L', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    level: Option<u32>,
    /// Directories only
    #[arg(short, long)]
    directories: bool,
    /// Sizes of files, too
    #[arg(short, long)]
    sizes: bool,
}

/// What was drawn.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    directories: u64,
    others: u64,
    bytes: u64,
}

/// One level that is being drawn.
struct Level {
    path: String,
    entries: Entries,
    /// What stands in front of its lines.
    margin: String,
}

/// The entries that are to be drawn, one ahead: the last one looks different.
struct Entries {
    listing: Listing,
    next: Option<FileStatus>,
    directories_only: bool,
}

impl Entries {
    async fn of(client: &Client, path: &str, directories_only: bool) -> Result<Self, Failure> {
        let mut entries = Self { listing: client.list(path)?, next: None, directories_only };
        entries.take().await?;
        Ok(entries)
    }

    /// The next entry, and whether it is the last.
    async fn take(&mut self) -> Result<Option<(FileStatus, bool)>, Failure> {
        let current = self.next.take();
        while let Some(entry) = self.listing.next().await? {
            let wanted = !self.directories_only || entry.kind() == FileKind::Directory;
            if wanted && !entry.path.is_empty() {
                self.next = Some(entry);
                break;
            }
        }
        Ok(current.map(|entry| (entry, self.next.is_none())))
    }
}

/// Runs `tree`.
pub(crate) async fn run(options: &TreeOptions, context: &Context) -> Outcome {
    let mut totals = Totals::default();
    each(context, &options.paths, async |path| tree(options, context, path, &mut totals).await).await?;
    if context.output.is_json() {
        return context.output.object(&json!({
            "v": 1, "type": "summary", "op": "tree", "directories": totals.directories, "files": totals.others,
            "bytes": totals.bytes,
        }));
    }
    let mut text = counted(totals.directories, "directory", "directories");
    if !options.directories {
        text.push_str(&format!(", {}", counted(totals.others, "file", "files")));
    }
    if options.sizes {
        text.push_str(&format!(", {}", size(totals.bytes)));
    }
    context.output.line(&format!("\n{text}"))
}

async fn tree(options: &TreeOptions, context: &Context, path: &str, totals: &mut Totals) -> Outcome {
    let top = start(context, path).await?;
    draw(options, context, &top, "", totals)?;
    let mut levels = Vec::new();
    if top.is_directory() {
        let entries = Entries::of(&context.client, path, options.directories).await?;
        levels.push(Level { path: path.to_owned(), entries, margin: String::new() });
    }
    while let Some(level) = levels.last_mut() {
        let Some((status, last)) = level.entries.take().await.map_err(|failure| failure.at(&level.path))? else {
            levels.pop();
            continue;
        };
        let (branch, margin) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let found = Found { path: below(&level.path, &status.path), depth: 0, status };
        draw(options, context, &found, &format!("{}{branch}", level.margin), totals)?;
        let margin = format!("{}{margin}", level.margin);
        let deeper = options.level.is_none_or(|most| levels.len() < most as usize);
        if !found.is_directory() || !deeper {
            continue;
        }
        match Entries::of(&context.client, &found.path, options.directories).await {
            Ok(entries) => levels.push(Level { path: found.path, entries, margin }),
            Err(failure) => context.output.item_failed(&failure.at(&found.path)),
        }
    }
    Ok(())
}

/// Draws one entry. `prefix` is empty for the top, which is drawn with its whole path.
fn draw(options: &TreeOptions, context: &Context, found: &Found, prefix: &str, totals: &mut Totals) -> Outcome {
    let status = &found.status;
    match (status.kind(), prefix.is_empty()) {
        (FileKind::Directory, true) => {}
        (FileKind::Directory, false) => totals.directories += 1,
        _ => totals.others += 1,
    }
    totals.bytes += status.len_bytes;
    if context.output.is_json() {
        return context.output.record(&object(status, &found.path));
    }
    let mut line = prefix.to_owned();
    if options.sizes && status.kind() == FileKind::File {
        line.push_str(&format!("[{:>10}]  ", size(status.len_bytes)));
    }
    match prefix {
        "" => line.push_str(&plain(&found.path)),
        _ => push_name(&mut line, status),
    }
    if status.kind() == FileKind::Symlink {
        line.push_str(&format!(" -> {}", plain(&status.symlink_target)));
    }
    context.output.line(&line)
}
