//! Files: long ones in and out of the page cache, small ones made durable.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Work;
use crate::clock::Clock;
use crate::disk::start_writeback;
use crate::process::process_cpu;
use crate::random::Randomness;

/// Bytes of one write or read of a long file.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// Write-back is started in steps of this size, as datanodes do.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// An open file without a name: it is gone with its descriptor, however this process ends.
pub(super) fn nameless(dir: &Path, random: &dyn Randomness) -> io::Result<File> {
    let path = dir.join(name(random));
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(explain)?;
    fs::remove_file(&path).map_err(explain)?;
    Ok(file)
}

fn name(random: &dyn Randomness) -> String {
    format!(".blockyard-probe-{:016x}", random.next_u64())
}

/// Fills a file from its beginning.
pub(super) fn fill(file: &File, len_bytes: u64, write_back: bool) -> io::Result<()> {
    let piece = vec![0x5a; PIECE_BYTES];
    let (mut at, mut started) = (0, 0);
    while at < len_bytes {
        let more = (len_bytes - at).min(PIECE_BYTES as u64);
        file.write_all_at(piece.get(..more as usize).unwrap_or(&piece), at)?;
        at += more;
        if write_back && at - started >= WRITEBACK_BYTES {
            start_writeback(file, started, at - started);
            started = at;
        }
    }
    Ok(())
}

/// Writes a new file of `len_bytes` in pieces of 1 MiB; with `durable`, its write-back goes on meanwhile and
/// `fdatasync` ends it.
///
/// # Errors
/// The system's, with the path.
pub fn write_file(
    dir: &Path,
    len_bytes: u64,
    durable: bool,
    clock: &dyn Clock,
    random: &dyn Randomness,
) -> io::Result<Work> {
    let file = nameless(dir, random)?;
    let (begun, cpu) = (clock.now(), process_cpu());
    fill(&file, len_bytes, durable)?;
    if durable {
        file.sync_data()?;
    }
    Ok(Work { count: len_bytes, took: clock.now().since(begun), cpu: process_cpu().saturating_sub(cpu) })
}

/// Reads a file of `len_bytes` that was just written, from the page cache, in pieces of 1 MiB.
///
/// # Errors
/// The system's, with the path.
pub fn read_cached(dir: &Path, len_bytes: u64, clock: &dyn Clock, random: &dyn Randomness) -> io::Result<Work> {
    let file = nameless(dir, random)?;
    fill(&file, len_bytes, false)?;
    let mut piece = vec![0; PIECE_BYTES];
    let (begun, cpu) = (clock.now(), process_cpu());
    let mut at = 0;
    while at < len_bytes {
        match file.read_at(&mut piece, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => at += n as u64,
        }
        std::hint::black_box(&piece);
    }
    Ok(Work { count: at, took: clock.now().since(begun), cpu: process_cpu().saturating_sub(cpu) })
}

/// The bare loop of a durable small file with `copies` copies: each copy is created, written and synced
/// (`fdatasync`), then the directory is synced once. Over and over, one after the other; gives the time of each
/// round. The files are removed at the end.
///
/// # Errors
/// The system's, with the path.
pub fn small_files(
    dir: &Path,
    (copies, len_bytes): (u32, usize),
    during: Duration,
    clock: &dyn Clock,
    random: &dyn Randomness,
) -> io::Result<Vec<Duration>> {
    let folder = Folder::make(dir.join(name(random)))?;
    let directory = File::open(&folder.path)?;
    let data = vec![0x5a; len_bytes];
    let begun = clock.now();
    let (mut times, mut last) = (Vec::new(), begun);
    while last.since(begun) < during {
        for copy in 0..copies {
            let path = folder.path.join(format!("{}-{copy}", times.len()));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all_at(&data, 0)?;
            file.sync_data()?;
        }
        directory.sync_all()?;
        let now = clock.now();
        times.push(now.since(last));
        last = now;
    }
    drop(directory);
    folder.remove()?;
    Ok(times)
}

/// A folder that goes with its contents.
struct Folder {
    path: PathBuf,
    there: bool,
}

impl Folder {
    fn make(path: PathBuf) -> io::Result<Self> {
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Self { path, there: true })
    }
    fn remove(mut self) -> io::Result<()> {
        self.there = false;
        fs::remove_dir_all(&self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.there && fs::remove_dir_all(&self.path).is_err() {
            tracing::debug!("{} could not be removed", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::random::OsRandom;

    #[test]
    fn long_and_small_files_are_timed_and_nothing_stays_behind() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), SystemClock::new());
        let len_bytes = 3 * PIECE_BYTES as u64 + 7;
        for durable in [false, true] {
            let work = write_file(dir.path(), len_bytes, durable, &clock, &OsRandom).unwrap();
            assert_eq!(work.count, len_bytes);
            assert!(!work.took.is_zero() && !work.cpu.is_zero(), "{work:?}");
        }
        assert_eq!(read_cached(dir.path(), len_bytes, &clock, &OsRandom).unwrap().count, len_bytes);
        let times = small_files(dir.path(), (3, 4096), Duration::from_millis(20), &clock, &OsRandom).unwrap();
        assert!(!times.is_empty() && times.iter().all(|time| !time.is_zero()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = small_files(&dir.path().join("none"), (1, 1), Duration::ZERO, &clock, &OsRandom);
        assert!(nowhere.unwrap_err().to_string().contains("none"));
    }
}
