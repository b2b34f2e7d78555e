//! `tail`: the end of files, and what is added to them.

use std::collections::BTreeMap;
use std::time::Duration;

use base::config::HumanDuration;
use bytes::Bytes;
use clap::Args;
use client::{ErrorCode, FileStatus, FsError, Reader};

use super::Outcome;
use super::context::Context;
use super::each::{each, expand_all};
use super::ends::{EndOptions, begin_of_last_bytes, begin_of_last_lines, copy_range};
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::text::plain;

/// Bytes at the end of what was shown by which a file that was cut and grew again is known.
const KEPT_BYTES: u64 = 4096;

/// Flags of `tail`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
With -f it stays, and writes what is added to the files, until it is interrupted: it looks every --interval whether they
are longer. Of a file that is being written it shows what was flushed. A file that was replaced, or cut, is written from
its beginning, also if it was cut and grew again between two looks; one that is removed ends it.

{PATHS_HELP}

Examples:
  blockyard tail -n 20 /logs/today
  blockyard tail -f --interval 5s /logs/today")
)]
pub(crate) struct TailOptions {
    #[command(flatten)]
    ends: EndOptions,
    /// Stay, and write what is added
    #[arg(short, long)]
    follow: bool,
    /// Time between two looks with -f, such as 500ms or 5s
    #[arg(short = 's', long, value_name = "TIME", value_parser = interval, default_value = "1s", requires = "follow")]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse::<HumanDuration>() {
        Ok(HumanDuration(time)) if time >= Duration::from_millis(10) => Ok(time),
        Ok(_) => Err("write 10ms at least".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs `tail`.
pub(crate) async fn run(options: &TailOptions, context: &Context) -> Outcome {
    if options.follow {
        return follow(options, context).await;
    }
    each(context, &options.ends.paths, async |path| show_end(&options.ends, context, path).await.map(drop)).await
}

/// Writes the end of a file; answers the file as it was.
async fn show_end(options: &EndOptions, context: &Context, path: &str) -> Result<Reader, Failure> {
    let reader = context.client.open(path).await?;
    let at = match options.lines {
        Some(lines) => begin_of_last_lines(&reader, lines).await?,
        None => begin_of_last_bytes(options, reader.len_bytes()),
    };
    copy_range(context, &reader, at..reader.len_bytes()).await?;
    Ok(reader)
}

/// Where in a file it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    inode: u64,
    /// Bytes that were written out.
    shown_bytes: u64,
    mtime_ns: i64,
    /// Block of the last byte that was written out, with its stamp.
    block: Option<Stamped>,
    /// The last bytes that were written out.
    end: Bytes,
}

/// A block and its stamp. Whatever opens a block again gives it a higher stamp; one that was cut off never comes back.
type Stamped = (i64, u64);

/// What a look at a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait,
    /// From here on there is more.
    More(u64),
    /// Its last block was opened again since: it was written on, or cut and written on. The bytes that were shown tell.
    Compare,
    /// It was cut before the end of what was shown: everything is new.
    Cut,
    /// It is another file: everything is new.
    Replaced,
}

impl Place {
    /// Behind all that a file has.
    async fn at_end_of(reader: &Reader) -> Result<Self, Failure> {
        let (status, shown_bytes) = (reader.status(), reader.len_bytes());
        let kept = shown_bytes.min(KEPT_BYTES);
        let end = reader.read_at(shown_bytes - kept, usize::try_from(kept).unwrap_or_default()).await?;
        let (inode, mtime_ns) = (status.inode, status.mtime_ns);
        Ok(Self { inode, shown_bytes, mtime_ns, block: block_before(reader, shown_bytes), end })
    }

    /// Did nothing happen to the file, as far as its entry says?
    const fn is_of(&self, status: &FileStatus) -> bool {
        status.inode == self.inode
            && !status.open_for_write
            && status.len_bytes == self.shown_bytes
            && status.mtime_ns == self.mtime_ns
    }

    /// What to do about a file whose byte before the end of what was shown is in this block now.
    fn step(&self, status: &FileStatus, block: Option<Stamped>) -> Step {
        if status.inode != self.inode {
            return Step::Replaced;
        }
        if status.len_bytes < self.shown_bytes {
            // How long an open file is, its datanodes say; who was asked now may know less than who was asked before.
            return if status.open_for_write { Step::Wait } else { Step::Cut };
        }
        match (self.block, block) {
            (Some((before, _)), Some((now, _))) if before != now => Step::Cut,
            (Some((_, before)), Some((_, now))) if before != now => Step::Compare,
            _ => self.beyond(status),
        }
    }

    const fn beyond(&self, status: &FileStatus) -> Step {
        if status.len_bytes > self.shown_bytes { Step::More(self.shown_bytes) } else { Step::Wait }
    }

    /// The same, with a look at the bytes if they have to tell.
    async fn look(&self, reader: &Reader) -> Result<Step, Failure> {
        let step = self.step(reader.status(), block_before(reader, self.shown_bytes));
        if step != Step::Compare {
            return Ok(step);
        }
        let there = reader.read_at(self.shown_bytes - self.end.len() as u64, self.end.len()).await?;
        Ok(if there == self.end { self.beyond(reader.status()) } else { Step::Cut })
    }
}

/// The block of the last byte before this one.
fn block_before(reader: &Reader, end_bytes: u64) -> Option<Stamped> {
    let blocks = reader.blocks();
    let before = blocks.partition_point(|block| block.offset_bytes < end_bytes);
    let named = blocks.get(before.checked_sub(1)?)?.block.as_ref()?;
    Some((named.id, named.stamp))
}

async fn follow(options: &TailOptions, context: &Context) -> Outcome {
    let paths = expand_all(context, &options.ends.paths).await?;
    let mut last: Option<&str> = None;
    let mut places = BTreeMap::new();
    for path in &paths {
        headline(context, &paths, path, &mut last)?;
        let place = match show_end(&options.ends, context, path).await {
            Ok(reader) => Place::at_end_of(&reader).await,
            Err(failure) => Err(failure),
        };
        match place {
            Ok(place) => places.insert(path.as_str(), place),
            Err(failure) => return Err(context.explained(failure.at(path)).await),
        };
    }
    loop {
        tokio::time::sleep(options.interval).await;
        for path in &paths {
            let Some(place) = places.get_mut(path.as_str()) else { continue };
            let Some(reader) = opened_if_new(context, path, place).await? else { continue };
            let more = show_more(context, &reader, place, path, || headline(context, &paths, path, &mut last)).await;
            if let Some(now) = more.map_err(|failure| failure.at(path))? {
                *place = now;
            }
        }
    }
}

/// The file, if there may be something new in it: as it is when it is opened, perhaps longer than it was when it was seen.
async fn opened_if_new(context: &Context, path: &str, place: &Place) -> Result<Option<Reader>, Failure> {
    let seen = async {
        let status = context.client.stat(path).await?;
        if place.is_of(&status) {
            return Ok(None);
        }
        context.client.open(path).await.map(Some)
    };
    match seen.await {
        // A namenode that is away comes back, or the next look says what is wrong; so do the datanodes of an open file.
        Err(error) if error.retryable() || error.code == ErrorCode::NoReplica => Ok(None),
        other => other.map_err(|error: FsError| Failure::from(error).at(path)),
    }
}

/// Writes what a file has more than was written; answers where it is then, if that is another place.
async fn show_more(
    context: &Context,
    reader: &Reader,
    place: &Place,
    path: &str,
    headline: impl FnOnce() -> Outcome,
) -> Result<Option<Place>, Failure> {
    let from = match place.look(reader).await? {
        Step::Wait if reader.len_bytes() < place.shown_bytes => return Ok(None),
        Step::Wait | Step::Compare => {
            let (mtime_ns, block) = (reader.status().mtime_ns, block_before(reader, place.shown_bytes));
            return Ok(Some(Place { mtime_ns, block, ..place.clone() }));
        }
        Step::More(from) => from,
        Step::Cut => {
            context.output.note(&format!("{}: file truncated; it follows from its beginning", plain(path)));
            0
        }
        Step::Replaced => {
            context.output.note(&format!("{} was replaced; it follows from its beginning", plain(path)));
            0
        }
    };
    if from < reader.len_bytes() {
        headline()?;
        copy_range(context, reader, from..reader.len_bytes()).await?;
    }
    Place::at_end_of(reader).await.map(Some)
}

/// Says which of several files comes next, as `tail` of every Unix does.
fn headline<'a>(context: &Context, paths: &[String], path: &'a str, last: &mut Option<&'a str>) -> Outcome {
    if paths.len() < 2 || *last == Some(path) {
        return Ok(());
    }
    let gap = if last.is_some() { "\n" } else { "" };
    *last = Some(path);
    context.output.block(&format!("{gap}==> {} <==\n", plain(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { inode: 7, shown_bytes: 10, mtime_ns: 5, block: Some((3, 1001)), end: Bytes::from_static(b"0123456789") }
    }
    fn status(inode: u64, len_bytes: u64) -> FileStatus {
        FileStatus { inode, len_bytes, mtime_ns: 5, ..FileStatus::default() }
    }

    #[test]
    fn a_look_says_what_is_new() {
        let step = |inode, len_bytes| place().step(&status(inode, len_bytes), Some((3, 1001)));
        assert_eq!([step(7, 10), step(7, 12), step(7, 9)], [Step::Wait, Step::More(10), Step::Cut]);
        assert_eq!([step(8, 10), step(8, 99), step(8, 1)], [Step::Replaced; 3]);
        let open = |inode, len_bytes| {
            place().step(&FileStatus { open_for_write: true, ..status(inode, len_bytes) }, Some((3, 1001)))
        };
        assert_eq!([open(7, 9), open(7, 11), open(8, 9)], [Step::Wait, Step::More(10), Step::Replaced]);
    }

    #[test]
    fn a_file_that_shrank_and_grew_between_two_looks_is_not_taken_for_one_that_grew() {
        for len_bytes in [10, 11, 99] {
            let step = |block| place().step(&status(7, len_bytes), block);
            assert_eq!(step(Some((4, 1007))), Step::Cut, "another block where the last one was");
            assert_eq!(step(Some((3, 1002))), Step::Compare, "written on, or cut and written on");
        }
        // At the old length again: its entry has another time of change.
        assert!(place().is_of(&status(7, 10)));
        assert!(!place().is_of(&FileStatus { mtime_ns: 6, ..status(7, 10) }));
        assert!(!place().is_of(&FileStatus { open_for_write: true, ..status(7, 10) }));
        // Of an empty file nothing can be cut.
        let empty = Place { inode: 7, ..Place::default() };
        assert_eq!(empty.step(&status(7, 4), None), Step::More(0));
    }

    #[test]
    fn intervals_have_units_and_are_not_tiny() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert!(interval("2").is_err() && interval("1ms").is_err() && interval("x").is_err());
    }
}
