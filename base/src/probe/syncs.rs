//! A write and its sync, over and over.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::random::Randomness;

/// Length of the file that is written in turn: set aside before, as a log's segment is.
const FILE_BYTES: u64 = 4 << 20;
/// Bytes of each write.
const WRITE_BYTES: usize = 4 << 10;

/// Writes 4 KiB and syncs them (`fdatasync`), over and over, in a file that is removed at the end. Gives the time of
/// each. Blocks: not for async threads.
///
/// # Errors
/// The system's, with the folder.
pub fn sync_times(
    dir: &Path,
    during: Duration,
    clock: &dyn Clock,
    random: &dyn Randomness,
) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!(".blockyard-probe-{:016x}", random.next_u64()));
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(explain)?;
    // Whatever happens below, no file stays behind.
    let removed = std::fs::remove_file(&path);
    let block = [0x5a; WRITE_BYTES];
    for at in (0..FILE_BYTES).step_by(WRITE_BYTES) {
        file.write_all_at(&block, at).map_err(explain)?;
    }
    file.sync_all().map_err(explain)?;
    let begun = clock.now();
    let (mut times, mut at, mut last): (Vec<Duration>, u64, Moment) = (Vec::new(), 0, begun);
    while last.since(begun) < during {
        file.write_all_at(&block, at).map_err(explain)?;
        file.sync_data().map_err(explain)?;
        let now = clock.now();
        times.push(now.since(last));
        last = now;
        at = (at + WRITE_BYTES as u64) % FILE_BYTES;
    }
    removed.map_err(explain)?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::random::OsRandom;

    #[test]
    fn syncs_are_timed_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        let times = sync_times(dir.path(), Duration::from_millis(50), &SystemClock::new(), &OsRandom).unwrap();
        assert!(!times.is_empty() && times.iter().all(|time| !time.is_zero()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = sync_times(&dir.path().join("none"), Duration::ZERO, &SystemClock::new(), &OsRandom);
        assert!(nowhere.unwrap_err().to_string().contains("none"));
    }
}
