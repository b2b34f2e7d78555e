//! `blockyard bench directory`: a directory as programs use it, through the system's own calls: a mount, a local disk, a mount
//! of another system. Nothing here knows of a cluster.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::clock::{Clock, SystemClock};
use base::random::{Randomness, SeededRandom};
use clap::Args;
use rustix::fs::{self, Advice, Mode, OFlags};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::series::Series;
use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{Failure, Output, parse_size, size};

/// Bytes of one long write or read.
const LONG_BYTES: usize = 1 << 20;
/// Bytes of a small file, and of one read at random.
const SHORT_BYTES: usize = 4096;
/// Threads that read at random.
const READERS: u64 = 4;
/// Reads at random of each of them.
const READS: u64 = 20_000;

/// Flags of `blockyard bench directory`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each directory gets a folder of its own, which is removed at the end. What is measured, by the system's own calls:

  create 1, create N  empty files made and closed, on one thread and on N, each in a folder of its own
  small N             files of 4 KiB made, written, synced and closed, on N threads
  write               one long file written in pieces of 1 MiB, synced and closed
  read                the same file read in pieces of 1 MiB, after the system was asked to forget its pages
  random 4            4 KiB at a time, anywhere in it, on four threads, after the same
  stat                attributes of files that were just listed with theirs

A local disk beside a mount says what the machine can do; its files are synced, too, where it says so.

Examples:
  blockyard bench directory /mnt/b /var/tmp          a mount beside a local disk
  blockyard bench directory /mnt/b --rounds 1 --json"
)]
pub(crate) struct DirectoryOptions {
    /// Directories, one or more: each is measured in each round
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// Length of the long file
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    bytes: u64,
    /// Files made by a thread
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    files: u64,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// How often everything is measured: medians are printed, with the least and the greatest
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// What is measured, in this order; the key in JSON, and what people read.
const FIGURES: [(&str, &str); 7] = [
    ("create_one_per_s", "create 1, files/s"),
    ("create_many_per_s", "create N, files/s"),
    ("small_many_per_s", "small N, files/s"),
    ("write_mb_per_s", "write, MB/s"),
    ("read_mb_per_s", "read, MB/s"),
    ("random_read_per_s", "random 4, reads/s"),
    ("stat_per_s", "stat, files/s"),
];

/// Measures and prints.
pub(super) fn run(options: &DirectoryOptions, global: &Global) -> Status {
    let output = Output::new(global.json, false);
    let printed = measure(options).and_then(|found| print(options, &found, &output));
    match printed {
        Ok(()) => Status::OK,
        Err(failure) => {
            output.failure(&failure);
            failure.status()
        }
    }
}

/// Figures of each directory.
type Found = Vec<[Series; FIGURES.len()]>;

fn measure(options: &DirectoryOptions) -> Result<Found, Failure> {
    let mut found: Found = options.dirs.iter().map(|_| Default::default()).collect();
    for _ in 0..options.rounds {
        for (dir, series) in options.dirs.iter().zip(&mut found) {
            let failed = |error: io::Error| Failure::local("measure in", dir, &error);
            let place = tempfile::Builder::new().prefix(".blockyard-bench-").tempdir_in(dir).map_err(failed)?;
            let round = Round { options, place: &place, clock: SystemClock::new() };
            let figures = round.play().map_err(failed)?;
            place.close().map_err(failed)?;
            series.iter_mut().zip(figures).for_each(|(series, figure)| series.add(figure));
        }
    }
    Ok(found)
}

struct Round<'a> {
    options: &'a DirectoryOptions,
    place: &'a TempDir,
    clock: SystemClock,
}

impl Round<'_> {
    fn play(&self) -> io::Result<[f64; FIGURES.len()]> {
        let (files, threads) = (self.options.files, self.options.threads);
        let one = self.make("one", 1, false)?;
        let many = self.make("many", threads, false)?;
        let small = self.make("small", threads, true)?;
        let long = self.place.path().join("long");
        let write = self.long(|| self.write(&long))?;
        let read = self.long(|| read_whole(&long))?;
        let random = self.timed(|| read_at_random(&long, self.options.bytes))?;
        let listed = self.place.path().join("many-0");
        look_at_all(&listed)?;
        let stat = self.timed(|| (0..files).try_for_each(|file| fs::stat(listed.join(name(file))).map(drop)))?;
        let per_s = |count: u64, took: Duration| count as f64 / took.as_secs_f64().max(1e-9);
        Ok([
            per_s(files, one),
            per_s(files * threads, many),
            per_s(files * threads, small),
            write,
            read,
            per_s(READERS * READS, random),
            per_s(files, stat),
        ])
    }

    fn timed<E: Into<io::Error>>(&self, work: impl FnOnce() -> Result<(), E>) -> io::Result<Duration> {
        let begun = self.clock.now();
        work().map_err(Into::into)?;
        Ok(self.clock.now().since(begun))
    }

    /// MB/s of something that goes through the long file.
    fn long(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
        Ok(self.options.bytes as f64 / 1e6 / self.timed(work)?.as_secs_f64().max(1e-9))
    }

    /// Makes files on so many threads, each in a folder of its own.
    fn make(&self, what: &str, threads: u64, synced: bool) -> io::Result<Duration> {
        let folders: Vec<PathBuf> =
            (0..threads).map(|thread| self.place.path().join(format!("{what}-{thread}"))).collect();
        folders.iter().try_for_each(|folder| fs::mkdir(folder, Mode::RWXU))?;
        let files = self.options.files;
        self.timed(|| {
            on_threads(&folders, |folder| (0..files).try_for_each(|file| make_one(&folder.join(name(file)), synced)))
        })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let file = create(path)?;
        let piece = pattern(LONG_BYTES);
        let mut left = self.options.bytes;
        while left > 0 {
            let len = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            write_all(&file, &piece[..len])?;
            left -= len as u64;
        }
        Ok(fs::fsync(&file)?)
    }
}

fn name(file: u64) -> String {
    format!("f{file:06}")
}

fn create(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::open(path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, Mode::RUSR | Mode::WUSR)?)
}

fn make_one(path: &Path, synced: bool) -> io::Result<()> {
    let file = create(path)?;
    if synced {
        write_all(&file, &pattern(SHORT_BYTES))?;
        fs::fsync(&file)?;
    }
    Ok(())
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::write(file, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Opens a file of which the system was asked to forget the pages.
fn open_cold(path: &Path) -> io::Result<OwnedFd> {
    let file = fs::open(path, OFlags::RDONLY, Mode::empty())?;
    fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    drop(file);
    Ok(fs::open(path, OFlags::RDONLY, Mode::empty())?)
}

fn read_whole(path: &Path) -> io::Result<()> {
    let file = open_cold(path)?;
    let mut buffer = vec![0; LONG_BYTES];
    while rustix::io::read(&file, &mut buffer)? > 0 {}
    Ok(())
}

fn read_at_random(path: &Path, bytes: u64) -> io::Result<()> {
    let file = open_cold(path)?;
    let places = (bytes / SHORT_BYTES as u64).max(1);
    let readers: Vec<u64> = (0..READERS).collect();
    on_threads(&readers, |reader| {
        let random = SeededRandom::new(*reader);
        let mut buffer = [0; SHORT_BYTES];
        for _ in 0..READS {
            rustix::io::pread(&file, &mut buffer, random.below(places) * SHORT_BYTES as u64)?;
        }
        Ok(())
    })
}

/// Lists a folder with the attributes of everything in it, as `ls -l` does.
fn look_at_all(dir: &Path) -> io::Result<()> {
    for (name, _) in base::local::read_dir(dir)? {
        fs::lstat(dir.join(name))?;
    }
    Ok(())
}

/// Does something for each of these, on a thread of its own.
fn on_threads<T: Sync>(each: &[T], work: impl Fn(&T) -> io::Result<()> + Sync) -> io::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = each.iter().map(|one| scope.spawn(|| work(one))).collect();
        let ends =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|byte| (byte * 31 + byte / 251) as u8).collect()
}

fn print(options: &DirectoryOptions, found: &Found, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        let of = |(dir, figures): (&PathBuf, &[Series; FIGURES.len()])| {
            let mut fields: Map<String, Value> =
                FIGURES.iter().zip(figures).map(|((key, _), figure)| ((*key).to_owned(), figure.json())).collect();
            fields.insert("dir".into(), dir.display().to_string().into());
            Value::Object(fields)
        };
        let dirs: Vec<Value> = options.dirs.iter().zip(found).map(of).collect();
        return output.object(&json!({
            "v": 1, "type": "bench", "bench": "directory", "bytes": options.bytes, "files": options.files,
            "threads": options.threads, "rounds": options.rounds, "dirs": dirs,
        }));
    }
    output.line(&format!(
        "a file of {}, {} files a thread, N = {} threads, {} round(s): median (least-greatest)",
        size(options.bytes),
        options.files,
        options.threads,
        options.rounds
    ))?;
    for (dir, figures) in options.dirs.iter().zip(found) {
        output.line(&dir.display().to_string())?;
        for ((_, what), figure) in FIGURES.iter().zip(figures) {
            output.line(&format!("  {what:<20} {}", figure.text()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_measured_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            DirectoryOptions { dirs: vec![dir.path().into()], bytes: 3 << 20, files: 3, threads: 2, rounds: 2 };
        let found = measure(&options).unwrap();
        assert!(found[0].iter().all(|series| series.median() > 0.0));
        assert_eq!(base::local::read_dir(dir.path()).unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_directory_is_named() {
        let options =
            DirectoryOptions { dirs: vec!["/nowhere/at/all".into()], bytes: 1, files: 1, threads: 1, rounds: 1 };
        assert!(measure(&options).unwrap_err().text().contains("/nowhere/at/all"));
    }
}
