//! `stat`: what is known of names.

use clap::Args;
use client::{FileKind, FileStatus};

use super::Outcome;
use super::context::Context;
use super::each::each;
use super::entry::{kind_name, object};
use super::paths::PATHS_HELP;
use super::text::format::{Format, SEQUENCES};
use super::text::mode::mode_text;
use super::text::plain;
use super::text::size::size;
use super::text::table::table;
use super::text::time::time;

/// Flags of `stat`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
{SEQUENCES}

{PATHS_HELP}

Examples:
  blockyard stat /data/x
  blockyard stat --format '%n %b' '/data/*.csv'")
)]
pub(crate) struct StatOptions {
    /// Files and directories of the cluster
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Print this for each, with %-sequences (see --help)
    #[arg(long, short = 'c', value_name = "FORMAT", value_parser = Format::parse)]
    format: Option<Format>,
    /// What a symbolic link names instead of the link itself
    #[arg(short = 'L', long)]
    dereference: bool,
}

/// Runs `stat`.
pub(crate) async fn run(options: &StatOptions, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| {
        let status = match options.dereference {
            true => context.client.stat(path).await?,
            false => context.client.stat_link(path).await?,
        };
        match &options.format {
            _ if context.output.is_json() => context.output.record(&object(&status, path)),
            Some(format) => context.output.line(&format.render(&status, path)),
            None => context.output.block(&text(&status, path)),
        }
    })
    .await
}

fn text(status: &FileStatus, path: &str) -> String {
    let mut rows = vec![
        ("path", plain(path).into_owned()),
        ("kind", kind_name(status.kind()).to_owned()),
        ("mode", format!("{:04o} ({})", status.mode, mode_text(status))),
        ("owner", format!("{}:{}", status.owner, status.group)),
    ];
    match status.kind() {
        FileKind::Directory => rows.push(("entries", status.children.to_string())),
        FileKind::Symlink => rows.push(("target", plain(&status.symlink_target).into_owned())),
        _ => {
            rows.push(("size", format!("{} bytes ({})", status.len_bytes, size(status.len_bytes))));
            rows.push(("copies", status.replication.to_string()));
            rows.push(("block size", size(status.block_size_bytes)));
            rows.push(("state", if status.open_for_write { "being written" } else { "closed" }.to_owned()));
        }
    }
    if status.nlink > 1 && status.kind() == FileKind::File {
        rows.push(("names", status.nlink.to_string()));
    }
    let special = [
        (status.has_acl, "an ACL (blockyard acl get)"),
        (status.has_quota, "quotas (blockyard quota get)"),
        (status.snapshottable, "snapshots (blockyard snapshot ls)"),
    ];
    let special: Vec<&str> = special.iter().filter(|(has, _)| *has).map(|(_, what)| *what).collect();
    if !special.is_empty() {
        rows.push(("has", special.join(", ")));
    }
    rows.push(("modified", time(status.mtime_ns)));
    if status.atime_ns != 0 {
        rows.push(("accessed", time(status.atime_ns)));
    }
    rows.push(("inode", status.inode.to_string()));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    table(&rows, &[])
}
