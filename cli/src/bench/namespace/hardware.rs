//! What the machine can do, measured in the same run: no figure beside it can be better than these allow.

use std::path::Path;

use base::clock::{Clock, SystemClock};
use base::crash::CrashPoint;
use base::disk::OsDisk;

use super::Outcome;
use super::report::Report;
use crate::bench::limits;
use crate::bench::mix::mix;

const COPY_BYTES: usize = 256 << 20;
const CHASES: usize = 4_000_000;
const PART_BYTES: usize = 1 << 20;

/// Copies memory, and follows pointers through more of it than any cache holds.
pub(super) fn memory(report: &mut Report) {
    let clock = SystemClock::new();
    let copied = limits::memory_copy(COPY_BYTES as u64, &clock);
    report.rate("hardware_memory_copy_mib_per_second", copied.count >> 20, copied.took);

    let words = COPY_BYTES / 8;
    let mut next = vec![0_u64; words];
    for (at, word) in next.iter_mut().enumerate() {
        *word = mix(at as u64) % words as u64;
    }
    let started = clock.now();
    let mut at = 1;
    for step in 0..CHASES {
        at = next[at as usize] ^ (step as u64 & 1);
        at %= words as u64;
    }
    std::hint::black_box(at);
    let took = clock.now().since(started);
    report.rate("hardware_memory_accesses_per_second", CHASES as u64, took);
}

/// Writes and syncs a file as long as the image.
pub(super) fn disk(folder: &Path, len_bytes: u64, report: &mut Report) -> Outcome<()> {
    let clock = SystemClock::new();
    let disk = OsDisk::shared();
    let failed = |error: std::io::Error| format!("the disk cannot be measured: {error}");
    let path = folder.join("sequential");
    let part = vec![7_u8; PART_BYTES];
    let started = clock.now();
    let file = disk.create_new(&path, CrashPoint::ImageCreate).map_err(failed)?;
    let mut done = 0;
    while done < len_bytes {
        let more = (len_bytes - done).min(PART_BYTES as u64);
        file.write_at(part.get(..more as usize).unwrap_or(&part), done).map_err(failed)?;
        done += more;
    }
    file.sync(CrashPoint::ImageSync).map_err(failed)?;
    report.millis("hardware_write_and_sync_ms", clock.now().since(started));
    disk.remove_file(&path, CrashPoint::ImageRemove).map_err(failed)
}
