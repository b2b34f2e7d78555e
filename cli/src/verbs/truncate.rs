//! `truncate`: files become shorter.

use std::time::Duration;

use clap::Args;
use client::{ErrorCode, FileKind, FileStatus, FsError};

use super::Outcome;
use super::context::Context;
use super::each::each;
use super::entry::object;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::text::size;

/// Longest wait for the datanodes: what the cluster promises, and a little more.
pub(super) const CLOSED_WITHIN: Duration = Duration::from_secs(150);
/// Those who watch hear of a wait that is longer than this.
const QUIET: Duration = Duration::from_secs(2);

/// Flags of `truncate`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
SIZE is a number of bytes, with K, M or G for powers of 1024. With a sign before it, it is less than a file has (-SIZE),
at most this (<SIZE), or what a file has rounded down to a multiple (/SIZE); if somebody writes to the file meanwhile,
nothing is cut, and the exit status is 5. Files do not become longer: append to them.

A file that is cut inside a block is open until its datanodes have cut their copies; that is waited for.

{PATHS_HELP}

Examples:
  blockyard truncate -s 0 /logs/today
  blockyard truncate -s -1M /data/x             the last MiB goes
  blockyard truncate -s '<64M' '/data/part-*'   64 MiB stay of each")
)]
pub(crate) struct TruncateOptions {
    /// How long the files are to be
    #[arg(short, long, value_name = "SIZE", value_parser = parse, allow_hyphen_values = true)]
    size: Size,
    /// Files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Do not wait for the datanodes
    #[arg(long)]
    no_wait: bool,
}

/// A length that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    To(u64),
    Less(u64),
    AtMost(u64),
    DownTo(u64),
}

impl Size {
    /// The length for a file of this length.
    const fn of(self, len_bytes: u64) -> u64 {
        match self {
            Self::To(bytes) => bytes,
            Self::Less(bytes) => len_bytes.saturating_sub(bytes),
            Self::AtMost(bytes) => {
                if bytes < len_bytes {
                    bytes
                } else {
                    len_bytes
                }
            }
            Self::DownTo(bytes) => len_bytes - len_bytes % bytes,
        }
    }
}

fn parse(text: &str) -> Result<Size, String> {
    match text.split_at_checked(1) {
        Some(("-", rest)) => size::parse(rest).map(Size::Less),
        Some(("<", rest)) => size::parse(rest).map(Size::AtMost),
        Some(("/", rest)) => size::parse_positive(rest).map(Size::DownTo),
        Some(("+" | ">" | "%", _)) => Err("files do not become longer by this: use `blockyard append`".to_owned()),
        _ => size::parse(text).map(Size::To),
    }
}

/// Runs `truncate`.
pub(crate) async fn run(options: &TruncateOptions, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| {
        let status = truncate(options, context, path).await?;
        if context.output.is_json() { context.output.record(&object(&status, path)) } else { Ok(()) }
    })
    .await
}

async fn truncate(options: &TruncateOptions, context: &Context, path: &str) -> Result<FileStatus, Failure> {
    let cut = match options.size {
        Size::To(bytes) => context.client.truncate(path, bytes).await?,
        of => {
            let status = context.client.stat(path).await?;
            if status.kind() != FileKind::File {
                return Err(FsError::new(ErrorCode::IsADirectory, "is not a file").with_path(path).into());
            }
            // Reckoned from a length that may be another one by now: what was written since must not go.
            let (len_bytes, expected_bytes) = (of.of(status.len_bytes), status.len_bytes);
            context.client.truncate_expecting(path, len_bytes, expected_bytes).await?
        }
    };
    if cut.done || options.no_wait {
        return Ok(cut.status);
    }
    until_closed(context, path, "its datanodes cut their copies").await
}

/// Waits until a file is closed, and says what for if that takes a while.
pub(super) async fn until_closed(context: &Context, path: &str, what_for: &str) -> Result<FileStatus, Failure> {
    let closed = context.client.until_closed(path, CLOSED_WITHIN);
    tokio::pin!(closed);
    tokio::select! {
        status = &mut closed => return Ok(status?),
        () = tokio::time::sleep(QUIET) => context.output.note(&format!("{path} is open until {what_for}; waiting")),
    }
    Ok(closed.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_absolute_or_of_what_a_file_has() {
        let of = |text: &str, len_bytes| parse(text).unwrap().of(len_bytes);
        assert_eq!([of("0", 100), of("70", 100), of("1K", 2000)], [0, 70, 1024]);
        assert_eq!([of("-30", 100), of("-200", 100), of("<30", 100), of("<300", 100)], [70, 0, 30, 100]);
        assert_eq!([of("/512", 1300), of("/512", 1024), of("/1M", 10)], [1024, 1024, 0]);
        for bad in ["+1", ">1", "%1", "/0", "", "-", "x", "<"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
