//! `ls`: directories, page by page; only an order other than by name needs all entries at once.

use std::cmp::Reverse;

use clap::{ArgAction, Args};
use client::{FileKind, FileStatus, Listing};

use super::Outcome;
use super::context::Context;
use super::each::each;
use super::entry::{LongStyle, push_long, push_name, push_object};
use super::failure::Failure;
use super::paths::{PATHS_HELP, below};
use super::text::table::columns;

/// Lines that are aligned together, so that a huge directory needs no huge memory.
const ALIGNED_LINES: usize = 1000;
/// Width of a line if the environment does not say.
const LINE_WIDTH: usize = 80;

/// Flags of `ls`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = PATHS_HELP,
    after_long_help = format!("\
{PATHS_HELP}

Entries are printed as they come, by name, also those of a directory of millions. -t and -S wait for all of them.

Examples:
  blockyard ls                            the root
  blockyard ls -lh /data                  with mode, copies, owner, group, size and time
  blockyard ls -lt '/logs/2026-*/*.gz'    newest first
  blockyard ls -R --json /data            everything below, for a script")
)]
pub(crate) struct LsOptions {
    /// What to list
    #[arg(default_value = "/", value_name = "PATH")]
    paths: Vec<String>,
    /// Mode, copies, owner, group, size and time as well
    #[arg(short, long)]
    long: bool,
    /// With -l: sizes as 1.2 GiB instead of in bytes
    #[arg(short = 'h', long = "human-readable")]
    human: bool,
    /// Everything below, too
    #[arg(short, long, visible_short_alias = 'R')]
    recursive: bool,
    /// Directories themselves instead of what is in them
    #[arg(short, long)]
    directory: bool,
    /// Newest first
    #[arg(short = 't', long, conflicts_with = "by_size")]
    by_time: bool,
    /// Largest first
    #[arg(short = 'S', long)]
    by_size: bool,
    /// Time of the last access, for -l and -t
    #[arg(short = 'u', long)]
    access_time: bool,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// One name a line, as without it
    #[arg(short = '1', conflicts_with_all = ["long", "columns"])]
    one: bool,
    /// Names in columns
    #[arg(short = 'C', long, conflicts_with = "long")]
    columns: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl LsOptions {
    /// Are the entries wanted in another order than by name?
    const fn sorts(&self) -> bool {
        self.by_time || self.by_size || self.reverse
    }
    fn sort(&self, entries: &mut [FileStatus]) {
        let time = |entry: &FileStatus| if self.access_time { entry.atime_ns } else { entry.mtime_ns };
        // Stable: equal ones stay by name.
        if self.by_time {
            entries.sort_by_key(|entry| Reverse(time(entry)));
        } else if self.by_size {
            entries.sort_by_key(|entry| Reverse(entry.len_bytes));
        }
        if self.reverse {
            entries.reverse();
        }
    }
}

/// Runs `ls`.
pub(crate) async fn run(options: &LsOptions, context: &Context) -> Outcome {
    let many = options.paths.len() > 1 || options.recursive || options.paths.iter().any(|path| path.contains('*'));
    let titled = many && !options.directory && !context.output.is_json();
    let mut first = true;
    each(context, &options.paths, async |path| ls(options, context, path, titled, &mut first).await).await
}

async fn ls(options: &LsOptions, context: &Context, path: &str, titled: bool, first: &mut bool) -> Outcome {
    if options.directory {
        let status = context.client.stat_link(path).await?;
        return print(options, context, "", &[FileStatus { path: path.to_owned(), ..status }]);
    }
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        match list(options, context, &directory, titled, first).await {
            Ok(directories) => {
                if options.recursive {
                    waiting.extend(directories.into_iter().rev());
                }
            }
            Err(failure) if failure.is_quiet() || directory == path => return Err(failure),
            // One that cannot be listed does not stop the walk.
            Err(failure) => context.output.item_failed(&failure.at(&directory)),
        }
    }
    Ok(())
}

/// Prints one directory, or a file by itself; answers the directories in it.
async fn list(
    options: &LsOptions,
    context: &Context,
    path: &str,
    titled: bool,
    first: &mut bool,
) -> Result<Vec<String>, Failure> {
    let mut listing = context.client.list(path)?;
    let mut directories = Vec::new();
    let mut page = next_page(options, &mut listing).await?;
    if let [entry] = page.as_slice()
        && entry.path.is_empty()
    {
        print(options, context, "", &[FileStatus { path: path.to_owned(), ..entry.clone() }])?;
        *first = false;
        return Ok(directories);
    }
    if titled {
        context.output.line(&format!("{}{path}:", if *first { "" } else { "\n" }))?;
    }
    *first = false;
    while !page.is_empty() {
        if options.recursive {
            let found = page.iter().filter(|entry| entry.kind() == FileKind::Directory);
            directories.extend(found.map(|entry| below(path, &entry.path)));
        }
        for lines in page.chunks(ALIGNED_LINES) {
            print(options, context, path, lines)?;
        }
        page = next_page(options, &mut listing).await?;
    }
    Ok(directories)
}

/// The next page; all pages at once, sorted, if the order asks for it.
async fn next_page(options: &LsOptions, listing: &mut Listing) -> Result<Vec<FileStatus>, Failure> {
    let mut page: Vec<FileStatus> = listing.next_page().await?.into();
    if options.sorts() && !page.is_empty() {
        loop {
            let more = listing.next_page().await?;
            if more.is_empty() {
                break;
            }
            page.extend(more);
        }
        options.sort(&mut page);
    }
    Ok(page)
}

/// `parent` is empty if the entries carry full paths.
fn print(options: &LsOptions, context: &Context, parent: &str, entries: &[FileStatus]) -> Outcome {
    if context.output.is_json() {
        let mut bytes = Vec::new();
        for entry in entries {
            match parent {
                "" => push_object(&mut bytes, entry, &entry.path)?,
                _ => push_object(&mut bytes, entry, &below(parent, &entry.path))?,
            }
        }
        return context.output.bytes(&bytes);
    }
    let mut text = String::new();
    if options.long {
        push_long(&mut text, entries, LongStyle { human: options.human, access_time: options.access_time });
    } else if options.columns {
        let name = |entry: &FileStatus| {
            let mut name = String::new();
            push_name(&mut name, entry);
            name
        };
        text = columns(&entries.iter().map(name).collect::<Vec<_>>(), line_width());
    } else {
        for entry in entries {
            push_name(&mut text, entry);
            text.push('\n');
        }
    }
    context.output.block(&text)
}

fn line_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns.filter(|width| (1..=10_000).contains(width)).unwrap_or(LINE_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: LsOptions,
        }
        let entry = |name: &str, len_bytes, mtime_ns, atime_ns| FileStatus {
            path: name.into(),
            len_bytes,
            mtime_ns,
            atime_ns,
            ..FileStatus::default()
        };
        let sorted = |flags: &[&str]| {
            let line = <Line as clap::Parser>::try_parse_from([&["ls"], flags].concat()).unwrap();
            let mut entries = vec![entry("a", 1, 9, 1), entry("b", 3, 5, 2), entry("c", 3, 7, 3)];
            line.options.sort(&mut entries);
            entries.into_iter().map(|entry| entry.path).collect::<String>()
        };
        assert_eq!(sorted(&[]), "abc");
        assert_eq!(sorted(&["--reverse"]), "cba");
        assert_eq!(sorted(&["-t"]), "acb");
        assert_eq!(sorted(&["-tu"]), "cba");
        assert_eq!(sorted(&["-S"]), "bca");
        assert_eq!(sorted(&["-S", "--reverse"]), "acb");
    }
}
