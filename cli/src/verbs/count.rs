//! `count`: how many names trees hold, and their quotas.

use clap::{ArgAction, Args};
use client::ContentSummaryResponse;
use serde_json::{Value, json};

use super::Outcome;
use super::context::Context;
use super::each::each;
use super::paths::PATHS_HELP;
use super::text::plain;
use super::text::size::shown;

/// Width of a column.
const WIDTH: usize = 15;

/// Flags of `count`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = PATHS_HELP,
    after_long_help = format!("\
Columns: directories, files (and links), bytes, path. With -q before them: quota of names, what is left of it, quota of
bytes on disks (every copy counts), what is left of it.

{PATHS_HELP}

Examples:
  blockyard count /data
  blockyard count -qhv '/user/*'")
)]
pub(crate) struct CountOptions {
    /// What to count
    #[arg(default_value = "/", value_name = "PATH")]
    paths: Vec<String>,
    /// Quotas as well
    #[arg(short, long)]
    quotas: bool,
    /// Sizes as 1.2 GiB
    #[arg(short = 'h', long = "human-readable")]
    human: bool,
    /// What the columns are, first
    #[arg(short = 'v', long)]
    header: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Runs `count`.
pub(crate) async fn run(options: &CountOptions, context: &Context) -> Outcome {
    if options.header && !context.output.is_json() {
        let quotas: &[&str] = if options.quotas { &["names", "left", "space", "left"] } else { &[] };
        let heads: Vec<String> = [quotas, &["directories", "files", "bytes"]].concat().iter().map(cell).collect();
        context.output.line(&format!("{}  path", heads.join("  ")))?;
    }
    each(context, &options.paths, async |path| {
        let summary = context.client.content_summary(path).await?;
        match context.output.is_json() {
            true => context.output.object(&object(&summary, path)),
            false => context.output.line(&line(options, &summary, path)),
        }
    })
    .await
}

/// What is left of a quota; negative if more is used than it allows.
fn left(quota: u64, used: u64) -> i128 {
    i128::from(quota) - i128::from(used)
}

/// A summary as an object of `--json`.
pub(crate) fn object(summary: &ContentSummaryResponse, path: &str) -> Value {
    json!({
        "v": 1, "type": "count", "path": path, "directories": summary.directories, "files": summary.files,
        "symlinks": summary.symlinks, "size": summary.len_bytes, "space": summary.space_bytes,
        "names": summary.names_used, "name_quota": summary.name_quota, "space_quota": summary.space_quota_bytes,
        "snapshot_files": summary.snapshot_files, "snapshot_directories": summary.snapshot_directories,
        "snapshot_size": summary.snapshot_len_bytes, "snapshot_space": summary.snapshot_space_bytes,
    })
}

fn cell(text: impl std::fmt::Display) -> String {
    format!("{text:>WIDTH$}")
}

fn line(options: &CountOptions, summary: &ContentSummaryResponse, path: &str) -> String {
    let mut cells = Vec::new();
    if options.quotas {
        match summary.name_quota {
            Some(quota) => cells.extend([cell(quota), cell(left(quota, summary.names_used))]),
            None => cells.extend([cell("none"), cell("inf")]),
        }
        match summary.space_quota_bytes {
            Some(quota) => {
                let left = left(quota, summary.space_bytes);
                let size = shown(u64::try_from(left.abs()).unwrap_or(u64::MAX), options.human);
                cells.push(cell(shown(quota, options.human)));
                cells.push(cell(if left < 0 { format!("-{size}") } else { size }));
            }
            None => cells.extend([cell("none"), cell("inf")]),
        }
    }
    cells.push(cell(summary.directories));
    cells.push(cell(summary.files + summary.symlinks));
    cells.push(cell(shown(summary.len_bytes, options.human)));
    format!("{}  {}", cells.join("  "), plain(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_stand_before_the_counts() {
        let options = CountOptions { paths: vec![], quotas: true, human: false, header: false, help: None };
        let summary = ContentSummaryResponse {
            directories: 2,
            files: 3,
            symlinks: 1,
            len_bytes: 10,
            space_bytes: 30,
            names_used: 6,
            name_quota: Some(10),
            space_quota_bytes: Some(20),
            ..ContentSummaryResponse::default()
        };
        let words = |options: &CountOptions, summary| {
            let line = line(options, summary, "/d");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words(&options, &summary), ["10", "4", "20", "-10", "2", "4", "10", "/d"]);
        let none = ContentSummaryResponse { name_quota: None, space_quota_bytes: None, ..summary };
        assert_eq!(words(&options, &none), ["none", "inf", "none", "inf", "2", "4", "10", "/d"]);
        assert_eq!(words(&CountOptions { quotas: false, ..options }, &none), ["2", "4", "10", "/d"]);
    }
}
