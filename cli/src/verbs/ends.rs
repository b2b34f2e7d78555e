//! `head`, and what `tail` shares with it: the ends of files.

use std::ops::Range;

use clap::Args;
use client::Reader;

use super::Outcome;
use super::context::Context;
use super::each::each;
use super::paths::PATHS_HELP;
use super::text::size::parse;

/// Bytes that are shown if no flag says how much.
const DEFAULT_BYTES: u64 = 1024;
/// Bytes that are read at a time.
const STEP_BYTES: u64 = 256 << 10;

/// Flags of `head` and `tail`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct EndOptions {
    /// Files of the cluster
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<String>,
    /// This many bytes, with K, M or G [default: 1 KiB]
    #[arg(short = 'c', long, value_name = "N", value_parser = parse)]
    bytes: Option<u64>,
    /// This many lines
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "bytes")]
    pub(super) lines: Option<u64>,
}

/// Runs `head`.
pub(crate) async fn head(options: &EndOptions, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| {
        let reader = context.client.open(path).await?;
        let (mut at, end) = match options.lines {
            Some(_) => (0, reader.len_bytes()),
            None => (0, reader.len_bytes().min(options.bytes.unwrap_or(DEFAULT_BYTES))),
        };
        let mut lines_left = options.lines.unwrap_or(u64::MAX);
        while at < end && lines_left > 0 {
            let bytes = reader.read_at(at, step(end - at)).await?;
            let shown = first_lines(&bytes, &mut lines_left);
            context.output.bytes(bytes.get(..shown).unwrap_or_default())?;
            at += bytes.len() as u64;
        }
        Ok(())
    })
    .await
}

/// Where the last bytes begin that the flags name.
pub(super) fn begin_of_last_bytes(options: &EndOptions, len_bytes: u64) -> u64 {
    len_bytes.saturating_sub(options.bytes.unwrap_or(DEFAULT_BYTES))
}

/// Writes a range of a file to standard output.
pub(super) async fn copy_range(context: &Context, reader: &Reader, range: Range<u64>) -> Outcome {
    let mut at = range.start;
    while at < range.end {
        let bytes = reader.read_at(at, step(range.end - at)).await?;
        if bytes.is_empty() {
            break;
        }
        context.output.bytes(&bytes)?;
        at += bytes.len() as u64;
    }
    context.output.flush()
}

fn step(left_bytes: u64) -> usize {
    usize::try_from(left_bytes.min(STEP_BYTES)).unwrap_or(usize::MAX)
}

/// How many bytes belong to the first lines; takes those lines from the number.
fn first_lines(bytes: &[u8], lines: &mut u64) -> usize {
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            *lines -= 1;
            if *lines == 0 {
                return at + 1;
            }
        }
    }
    bytes.len()
}

/// Where the last lines begin, looked for from the end.
pub(super) async fn begin_of_last_lines(reader: &Reader, lines: u64) -> Result<u64, super::failure::Failure> {
    let mut end = reader.len_bytes();
    // The newline at the very end closes the last line, it does not begin another.
    let mut found = LastLines { wanted: lines, seen: 0, last_byte: end.saturating_sub(1) };
    if lines == 0 {
        return Ok(end);
    }
    while end > 0 {
        let from = end.saturating_sub(STEP_BYTES);
        let bytes = reader.read_at(from, step(end - from)).await?;
        if let Some(begin) = found.look(&bytes, from) {
            return Ok(begin);
        }
        end = from;
    }
    Ok(0)
}

/// A search for the begin of the last lines, piece by piece from the end.
struct LastLines {
    wanted: u64,
    seen: u64,
    last_byte: u64,
}

impl LastLines {
    fn look(&mut self, bytes: &[u8], from: u64) -> Option<u64> {
        for (at, byte) in bytes.iter().enumerate().rev() {
            let place = from + at as u64;
            if *byte == b'\n' && place != self.last_byte {
                self.seen += 1;
                if self.seen == self.wanted {
                    return Some(place + 1);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_lines() {
        let mut left = 2;
        assert_eq!((first_lines(b"a\nb\nc\n", &mut left), left), (4, 0));
        let mut left = 5;
        assert_eq!((first_lines(b"a\nb", &mut left), left), (3, 4));
        let last = |text: &[u8], wanted| {
            let mut search = LastLines { wanted, seen: 0, last_byte: text.len() as u64 - 1 };
            // In pieces of two bytes, from the end.
            let mut end = text.len();
            while end > 0 {
                let from = end.saturating_sub(2);
                if let Some(begin) = search.look(&text[from..end], from as u64) {
                    return begin;
                }
                end = from;
            }
            0
        };
        assert_eq!(
            [last(b"a\nb\nc\n", 1), last(b"a\nb\nc", 1), last(b"a\nb\nc\n", 2), last(b"a\nb\n", 9)],
            [4, 4, 2, 0]
        );
    }
}
