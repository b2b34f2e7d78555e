//! The scrubber against a disk in memory: what it finds, what it must not take for damage, its rate, its restarts.

use proto::store::VolumeScrub as Record;

use super::*;
use base::two_slot::TwoSlotFile;
use prost::Message;

const RATE: u64 = 1 << 20;
const PERIOD: Duration = Duration::from_secs(100);
const EPOCH_S: u64 = 1_900_000_000;
const MAGIC: [u8; 8] = *b"BYVLSCRB";
const FILE: &str = "/disk0/scrub";

/// A scrubber under a clock of its own.
struct Bench {
    scrub: VolumeScrub,
    now: Moment,
    bytes: u64,
    sound: Vec<BlockId>,
    damaged: Vec<BlockId>,
}

impl Bench {
    fn new(store: &Store) -> Self {
        Self::with_rate(store, NOW, RATE)
    }
    fn with_rate(store: &Store, now: Moment, rate_bytes_per_s: u64) -> Self {
        let options = ScrubOptions { rate_bytes_per_s, period: PERIOD };
        let scrub = store.scrubs(options).remove(0);
        Self { scrub, now, bytes: 0, sound: Vec::new(), damaged: Vec::new() }
    }
    fn wall_s(&self) -> u64 {
        EPOCH_S + self.now.elapsed_from_start().as_secs()
    }
    fn step(&mut self) {
        match self.scrub.turn(self.now, self.wall_s()) {
            Turn::Rest(until) => self.now = until,
            Turn::Did { bytes, sound, damaged } => {
                self.bytes += bytes;
                self.sound.extend(sound);
                self.damaged.extend(damaged);
            }
        }
    }
    fn run_for(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.step();
        }
    }
    fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..100_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("it never comes");
    }
    /// Reads everything at least once.
    fn round(&mut self) {
        self.run_for(PERIOD * 2);
    }
}

fn file_of(disk: &MemDisk, n: i64, meta: bool) -> PathBuf {
    let name = format!("/{}", block(n).id);
    let is_it = |file: &String| {
        file.contains("/current/") && (if meta { file.contains(&format!("{name}_")) } else { file.ends_with(&name) })
    };
    disk.files().into_iter().find(is_it).unwrap().into()
}

fn last_change(store: &Store) -> ReplicaRecord {
    let storage = StorageId::parse(&store.reports()[0].storage).unwrap();
    let sequence = store.bucket_hashes(&storage).unwrap().sequence;
    store.changes(&storage, sequence, 1).unwrap().pop().unwrap()
}

/// Scrubs a store of three replicas after `damage` was done to the second; it must be found, and nothing else.
fn found_after(what: &str, damage: impl FnOnce(&MemDisk)) {
    let (disk, store) = joined(1);
    (0..3).for_each(|n| drop(store_block(&store, n, 3000).unwrap()));
    // Opened before: what was checked then is checked again.
    read(&store, 1).unwrap();
    damage(&disk);
    let mut bench = Bench::new(&store);
    bench.round();
    assert_eq!(bench.damaged, [block(1).id], "{what}");
    assert!(bench.sound.contains(&block(0).id) && bench.sound.contains(&block(2).id), "{what}");
    assert!(!bench.sound.contains(&block(1).id), "{what}");
    assert_eq!(state(&store, 1), Some(ReplicaState::Corrupt), "{what}");
    let told = last_change(&store);
    assert_eq!((told.id, told.state), (block(1).id.raw(), WireState::Corrupt as i32), "{what}: it is reported");
    assert!(!store.reports()[0].failed, "{what}: the disk goes on");
}

#[test]
fn f_6_a_flipped_bit_in_any_byte_of_the_checksum_file_and_in_the_data_is_found() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 3000).unwrap();
    let meta_bytes = disk.shared().info(&file_of(&disk, 1, true)).unwrap().unwrap().len_bytes;
    for at in 0..meta_bytes {
        let bit = (at % 8) as u8;
        found_after(&format!("meta byte {at}"), |disk| disk.flip_bit(&file_of(disk, 1, true), at, bit).unwrap());
    }
    for at in [0, 1, 511, 512, 1499, 2560, 2999] {
        found_after(&format!("data byte {at}"), |disk| disk.flip_bit(&file_of(disk, 1, false), at, 7).unwrap());
    }
}

#[test]
fn f_5_files_that_are_too_short_too_long_or_gone_are_found() {
    let set_len = |disk: &MemDisk, path: &Path, len_bytes| {
        let file = disk.shared().open(path, base::disk::OpenMode::ReadWrite).unwrap();
        file.set_len(len_bytes, CrashPoint::BlockSync).unwrap();
    };
    for len_bytes in [0, 1, 512, 2999, 3001, 3072, 1 << 22] {
        found_after(&format!("{len_bytes} bytes of data"), |disk| set_len(disk, &file_of(disk, 1, false), len_bytes));
    }
    for len_bytes in [0, 6, 7, 20, 94, 96, 5000] {
        found_after(&format!("{len_bytes} bytes of checksums"), |disk| {
            set_len(disk, &file_of(disk, 1, true), len_bytes)
        });
    }
    for meta in [false, true] {
        found_after("a file that is gone", |disk| {
            disk.shared().remove_file(&file_of(disk, 1, meta), CrashPoint::BlockRemove).unwrap();
        });
    }
}

#[test]
fn sc_62_another_replicas_files_under_a_name_are_found() {
    // Both files of block 2, whole and with right checksums, at block 1's place: a disk that misplaces.
    found_after("files of another block", |disk| {
        let bytes = |path: &Path| base::disk::read_file(disk.shared().as_ref(), path, 1 << 20).unwrap();
        for meta in [false, true] {
            let from = bytes(&file_of(disk, 2, meta));
            let file = disk.shared().open(&file_of(disk, 1, meta), base::disk::OpenMode::ReadWrite).unwrap();
            file.write_at(&from, 0).unwrap();
        }
    });
}

#[test]
fn a_read_that_fails_once_is_no_damage_and_one_that_fails_twice_is() {
    for kind in [DiskFaultKind::ReadFlip, DiskFaultKind::ReadError] {
        let mut struck = 0;
        for skip in 0..6 {
            let (disk, store) = joined(1);
            store_block(&store, 1, 3000).unwrap();
            disk.inject(DiskFault::once(kind).on("/current/").after(skip));
            let mut bench = Bench::new(&store);
            bench.round();
            struck += disk.faults_fired();
            assert_eq!((bench.damaged.len(), state(&store, 1)), (0, Some(ReplicaState::Finalized)), "{kind:?} {skip}");
            assert!(bench.sound.contains(&block(1).id), "{kind:?} {skip}");
        }
        assert!(struck >= 4, "{kind:?} struck {struck} times");
        let (disk, store) = joined(1);
        store_block(&store, 1, 3000).unwrap();
        disk.inject(DiskFault::lasting(kind).on("/current/"));
        let mut bench = Bench::new(&store);
        bench.round();
        assert_eq!(bench.damaged, [block(1).id], "{kind:?}");
    }
}

#[test]
fn a_want_of_descriptors_is_no_damage_however_long_it_lasts() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 3000).unwrap();
    disk.inject(DiskFault::lasting(DiskFaultKind::NoDescriptor).on("/current/"));
    let mut bench = Bench::new(&store);
    bench.round();
    assert!(disk.faults_fired() > 5);
    assert_eq!((bench.damaged.len(), bench.sound.len()), (0, 0));
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
    disk.clear_faults();
    bench.run_until(|bench| bench.sound == [block(1).id]);
}

/// A store with a replica of 3 MiB whose last byte is damaged, and a scrubber that has read a part of it.
fn in_mid_replica() -> (MemDisk, Store, Bench) {
    let (disk, store) = joined(1);
    store_block(&store, 1, 3 << 20).unwrap();
    disk.flip_bit(&file_of(&disk, 1, false), (3 << 20) - 1, 0).unwrap();
    let mut bench = Bench::new(&store);
    bench.run_until(|bench| bench.bytes > 0);
    (disk, store, bench)
}

#[test]
fn what_is_deleted_or_made_anew_under_the_scrubber_is_no_damage() {
    // The first look and the second.
    for second in [false, true] {
        for again in [false, true] {
            let (_disk, store, mut bench) = in_mid_replica();
            if second {
                bench.run_until(|bench| bench.bytes > 3 << 20);
            }
            let (storage, replica) = store.replica(block(1).id).unwrap();
            store.delete(&storage, block(1).id, replica.stamp, bench.now).unwrap();
            if again {
                // The same block with the same stamp and length, as a copy: only its bytes are right now.
                store_block(&store, 1, 3 << 20).unwrap();
                assert_eq!(store.replica(block(1).id).unwrap().1, replica);
            }
            bench.round();
            assert_eq!(bench.damaged, [], "second look {second}, made anew {again}");
            assert_eq!(state(&store, 1), again.then_some(ReplicaState::Finalized));
            assert_eq!(bench.sound.contains(&block(1).id), again, "its own turn comes");
        }
    }
    // Nothing happened to it: it is found.
    let (_disk, store, mut bench) = in_mid_replica();
    bench.round();
    assert_eq!((bench.damaged.as_slice(), state(&store, 1)), ([block(1).id].as_slice(), Some(ReplicaState::Corrupt)));
}

#[test]
fn a_damaged_replica_whose_copy_came_while_it_was_looked_at_is_not_taken_for_the_copy() {
    // Deleted and made anew between the last byte of the second look and its verdict: the watch tells.
    let (disk, store) = joined(1);
    store_block(&store, 1, 3000).unwrap();
    disk.flip_bit(&file_of(&disk, 1, false), 0, 0).unwrap();
    let volume = Arc::clone(&store.volumes[0]);
    let watch = Watch::begin(&volume, block(1).id).unwrap();
    let other = Watch::begin(&volume, block(1).id).unwrap();
    assert!(look::look_whole(&watch, &PoolId::new("1"), None).unwrap().is_none());
    store.delete(&volume.storage, block(1).id, block(1).stamp, NOW).unwrap();
    store_block(&store, 1, 3000).unwrap();
    assert!(!volume.looked_at(&watch, false, true));
    drop(watch);
    assert!(!volume.looked_at(&other, false, true), "nor does another that began before");
    drop(other);
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
    let watch = Watch::begin(&volume, block(1).id).unwrap();
    assert!(volume.looked_at(&watch, true, true), "a look that begins now counts");
    drop(watch);
    assert!(volume.state.lock().watched.is_empty());
}

#[test]
fn the_scrubber_reads_no_more_than_its_rate() {
    let (_disk, store) = joined(1);
    (0..12).for_each(|n| drop(store_block(&store, n, 5 << 20).unwrap()));
    let mut bench = Bench::new(&store);
    bench.run_until(|bench| bench.bytes > 0);
    let (from, before) = (bench.now, bench.bytes);
    let mut most = 0;
    bench.run_until(|bench| {
        let elapsed = bench.now.since(from).as_micros() as u64;
        let read = bench.bytes - before;
        // A slice of data and its checksums are read at once.
        assert!(read <= elapsed * RATE / 1_000_000 + (1 << 20) + (1 << 13), "{read} bytes in {elapsed} us");
        most = most.max(elapsed);
        bench.sound.len() == 12
    });
    assert!(most >= 55_000_000, "60 MiB take a minute: {most} us");
    assert!(most <= 70_000_000, "and not much longer: {most} us");
}

#[test]
fn a_doubted_replica_is_looked_at_before_its_time() {
    let (disk, store) = joined(1);
    (0..3).for_each(|n| drop(store_block(&store, n, 3000).unwrap()));
    disk.flip_bit(&file_of(&disk, 2, false), 100, 0).unwrap();
    let mut bench = Bench::new(&store);
    bench.run_for(Duration::from_secs(5));
    assert_eq!(bench.bytes, 0, "nothing is due");
    for n in [1, 2] {
        store.open_reader(&block(n)).unwrap().suspect();
    }
    bench.run_until(|bench| bench.sound.len() + bench.damaged.len() == 2);
    assert_eq!(
        (bench.sound.as_slice(), bench.damaged.as_slice()),
        ([block(1).id].as_slice(), [block(2).id].as_slice())
    );
}

#[test]
fn f_3_a_restart_goes_on_where_the_scrubber_was() {
    for (seed, stop) in [(0, None), (1, Some(Side::Before)), (2, Some(Side::After)), (3, Some(Side::Before))] {
        let (disk, store) = joined(1);
        // All in one folder; five quarters of a second each.
        let (len, rate) = (256 << 10, 256 << 10);
        (0..200).for_each(|n| drop(store_block(&store, n, len).unwrap()));
        let folders: std::collections::BTreeSet<_> = (0..200).map(|n| layout::folder_of(block(n).id)).collect();
        assert!(folders.len() <= 2);
        let mut bench = Bench::with_rate(&store, NOW, rate);
        bench.run_until(|bench| bench.sound.len() == 130);
        if let Some(side) = stop {
            disk.stop_at(CrashPoint::ScrubSync, side, 1);
            bench.run_until(|_| disk.stopped());
        }
        let (now, read) = (bench.now, bench.sound.len());
        drop((bench, store));
        if seed == 0 {
            disk.process_died();
        } else {
            disk.power_cut(&SeededRandom::new(seed));
        }
        let store = open(&disk, 1).unwrap();
        let mut bench = Bench::with_rate(&store, now, rate);
        bench.run_until(|bench| bench.sound.last() == Some(&block(199).id));
        let took = bench.now.since(now);
        assert!(
            bench.sound.len() <= 200 - read + 64,
            "{seed}: {} after {read}: a minute is read again",
            bench.sound.len()
        );
        assert!(took < Duration::from_secs(200), "{seed}: at once, not after another period: {took:?}");
        assert_eq!(bench.damaged, []);
    }
}

#[test]
fn a_stop_at_any_step_of_making_the_record_leaves_a_volume_that_scrubs() {
    for side in [Side::Before, Side::After] {
        for nth in 1..=6 {
            let (disk, store) = joined(1);
            store_block(&store, 1, 100).unwrap();
            disk.stop_at(CrashPoint::ScrubSync, side, nth);
            let mut bench = Bench::new(&store);
            bench.run_for(PERIOD);
            assert!(disk.stopped(), "{side:?} {nth}");
            drop((bench, store));
            disk.power_cut(&SeededRandom::new(nth));
            let store = open(&disk, 1).unwrap();
            let mut bench = Bench::new(&store);
            bench.round();
            assert!(bench.sound.contains(&block(1).id), "{side:?} {nth}");
            assert!(disk.files().iter().any(|file| file == FILE), "{side:?} {nth}");
            assert!(!store.reports()[0].failed);
        }
    }
}

#[test]
fn a_damaged_record_is_made_anew_and_a_newer_one_is_left_alone() {
    let newer = Record { version: 2, ..crate::scrub::ScrubRecord::default().to_wire() };
    for (what, kept) in [("damaged", false), ("odd", false), ("newer", true)] {
        let (disk, store) = joined(1);
        store_block(&store, 1, 100).unwrap();
        Bench::new(&store).round();
        let shared = disk.shared();
        if what == "damaged" {
            for slot in 0..2 {
                disk.flip_bit(Path::new(FILE), 4096 * slot + 30, 1).unwrap();
            }
        } else {
            let (mut file, _) =
                TwoSlotFile::open(shared.as_ref(), Path::new(FILE), MAGIC, CrashPoint::ScrubSync).unwrap().unwrap();
            file.write(&if what == "odd" { vec![1, 2, 3] } else { newer.encode_to_vec() }).unwrap();
        }
        drop(store);
        disk.process_died();
        let before = base::disk::read_file(shared.as_ref(), Path::new(FILE), 1 << 20).unwrap();
        let store = open(&disk, 1).unwrap();
        let mut bench = Bench::new(&store);
        bench.round();
        assert!(bench.sound.contains(&block(1).id), "{what}: it scrubs");
        let after = base::disk::read_file(shared.as_ref(), Path::new(FILE), 1 << 20).unwrap();
        assert_eq!(before == after, kept, "{what}");
        assert!(!store.reports()[0].failed, "{what}");
    }
}

#[test]
fn f_9_a_record_that_cannot_be_synced_takes_the_volume_out() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 100).unwrap();
    let mut bench = Bench::new(&store);
    bench.step();
    disk.inject(DiskFault::once(DiskFaultKind::SyncError).on("/scrub"));
    bench.round();
    assert!(store.reports()[0].failed, "a disk that fails a sync is not trusted");
    let read = bench.bytes;
    bench.round();
    assert_eq!(bench.bytes, read, "nothing is read from it any more");
}

#[test]
fn the_age_of_the_oldest_reading_is_told() {
    let (_disk, store) = joined(1);
    let mut bench = Bench::new(&store);
    bench.run_for(PERIOD);
    assert_eq!(bench.scrub.oldest_s(bench.wall_s()), 0, "there is nothing");
    store_block(&store, 1, 100).unwrap();
    bench.run_for(Duration::from_secs(61));
    let seen = bench.scrub.oldest_s(bench.wall_s());
    bench.run_until(|bench| !bench.sound.is_empty());
    let due = bench.scrub.oldest_s(bench.wall_s());
    assert!((1..=100).contains(&seen) && (100..165).contains(&due), "{seen} {due}");
    bench.run_for(Duration::from_secs(1));
    assert!(bench.scrub.oldest_s(bench.wall_s()) <= 65);
}

#[test]
fn a_start_without_descriptors_says_nothing_of_what_it_did_not_see() {
    // Every read of a replica's files at the start, one after the other.
    let mut struck = 0;
    for volumes in [1, 2] {
        for skip in 0..12 {
            let (disk, store) = joined(volumes);
            (0..3).for_each(|n| drop(store_block(&store, n, 3000).unwrap()));
            drop(store);
            disk.process_died();
            disk.inject(DiskFault::once(DiskFaultKind::NoDescriptor).on("/current/").after(skip));
            let opened = Store::open(&disk.shared(), &dirs(volumes), options(), &SeededRandom::new(7), NOW);
            let fired = disk.faults_fired() > 0;
            struck += u64::from(fired);
            let store = match opened {
                // The last read: the checksums, which the first reader compares.
                Ok((store, problems)) => {
                    assert!(problems.is_empty(), "{skip}: {problems:?}");
                    store
                }
                Err(error) => {
                    assert!(fired && error.is_exhausted(), "{skip}: {error}");
                    disk.process_died();
                    open(&disk, volumes).unwrap()
                }
            };
            disk.clear_faults();
            for n in 0..3 {
                assert_eq!(state(&store, n), Some(ReplicaState::Finalized), "{skip}");
                assert_eq!(read(&store, n).unwrap(), bytes(n, 3000));
            }
        }
    }
    assert!(struck >= 12, "{struck}");
    // The same for who the volume is.
    let (disk, store) = joined(2);
    drop(store);
    disk.process_died();
    disk.inject(DiskFault::once(DiskFaultKind::NoDescriptor).on("disk1/identity"));
    let opened = Store::open(&disk.shared(), &dirs(2), options(), &SeededRandom::new(7), NOW);
    assert!(opened.is_err_and(|error| error.is_exhausted()), "all volumes or none");
}
