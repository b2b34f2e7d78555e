//! `tail`: the end of files, and what is added to them.

use std::collections::BTreeMap;
use std::time::Duration;

use base::config::HumanDuration;
use clap::Args;
use client::{ErrorCode, FileStatus, FsError, Reader};

use super::Outcome;
use super::context::Context;
use super::each::{each, expand_all};
use super::ends::{EndOptions, begin_of_last_bytes, begin_of_last_lines, copy_range};
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::text::plain;

/// Flags of `tail`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
With -f it stays, and writes what is added to the files, until it is interrupted: it looks every --interval whether they
are longer. Of a file that is being written it shows what was flushed. A file that was replaced, or cut, is written from
its beginning; one that is removed ends it.

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

/// Writes the end of a file; answers what it was.
async fn show_end(options: &EndOptions, context: &Context, path: &str) -> Result<FileStatus, Failure> {
    let reader = context.client.open(path).await?;
    let at = match options.lines {
        Some(lines) => begin_of_last_lines(&reader, lines).await?,
        None => begin_of_last_bytes(options, reader.len_bytes()),
    };
    copy_range(context, &reader, at..reader.len_bytes()).await?;
    Ok(reader.status().clone())
}

/// Where in a file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    inode: u64,
    /// Bytes that were written out.
    shown_bytes: u64,
}

/// What a look at a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait,
    /// From here on there is more.
    More(u64),
    /// It is another file, or it became shorter: everything is new.
    Anew,
}

impl Place {
    const fn step(self, status: &FileStatus) -> Step {
        // How long an open file is, is known only when its datanodes were asked: until then it seems shorter.
        if status.inode != self.inode || !status.open_for_write && status.len_bytes < self.shown_bytes {
            Step::Anew
        } else if status.len_bytes > self.shown_bytes {
            Step::More(self.shown_bytes)
        } else {
            Step::Wait
        }
    }
}

async fn follow(options: &TailOptions, context: &Context) -> Outcome {
    let paths = expand_all(context, &options.ends.paths).await?;
    let mut last: Option<&str> = None;
    let mut places = BTreeMap::new();
    for path in &paths {
        headline(context, &paths, path, &mut last)?;
        let status = match show_end(&options.ends, context, path).await {
            Ok(status) => status,
            Err(failure) => return Err(context.explained(failure.at(path)).await),
        };
        places.insert(path.as_str(), Place { inode: status.inode, shown_bytes: status.len_bytes });
    }
    loop {
        tokio::time::sleep(options.interval).await;
        for path in &paths {
            let Some(place) = places.get_mut(path.as_str()) else { continue };
            let Some(reader) = opened_if_new(context, path, *place).await? else { continue };
            *place = show_more(context, &reader, *place, path, || headline(context, &paths, path, &mut last)).await?;
        }
    }
}

/// The file, if there is something new in it: as it is when it is opened, perhaps longer than it was when it was seen.
async fn opened_if_new(context: &Context, path: &str, place: Place) -> Result<Option<Reader>, Failure> {
    let seen = async {
        let status = context.client.stat(path).await?;
        if place.step(&status) == Step::Wait && !status.open_for_write {
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

/// Writes what a file has more than was written; answers where it is then.
async fn show_more(
    context: &Context,
    reader: &Reader,
    place: Place,
    path: &str,
    headline: impl FnOnce() -> Outcome,
) -> Result<Place, Failure> {
    let from = match place.step(reader.status()) {
        Step::Wait => return Ok(place),
        Step::More(from) => from,
        Step::Anew => {
            context.output.note(&format!("{} was replaced or cut; it follows from its beginning", plain(path)));
            0
        }
    };
    headline()?;
    copy_range(context, reader, from..reader.len_bytes()).await.map_err(|failure| failure.at(path))?;
    Ok(Place { inode: reader.status().inode, shown_bytes: reader.len_bytes() })
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

    #[test]
    fn a_look_says_what_is_new() {
        let place = Place { inode: 7, shown_bytes: 10 };
        let step = |inode, len_bytes| place.step(&FileStatus { inode, len_bytes, ..FileStatus::default() });
        assert_eq!([step(7, 10), step(7, 12)], [Step::Wait, Step::More(10)]);
        assert_eq!([step(7, 9), step(8, 10), step(8, 99)], [Step::Anew; 3]);
        let open = |inode, len_bytes| {
            place.step(&FileStatus { inode, len_bytes, open_for_write: true, ..FileStatus::default() })
        };
        assert_eq!([open(7, 9), open(7, 11), open(8, 9)], [Step::Wait, Step::More(10), Step::Anew]);
    }

    #[test]
    fn intervals_have_units_and_are_not_tiny() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert!(interval("2").is_err() && interval("1ms").is_err() && interval("x").is_err());
    }
}
