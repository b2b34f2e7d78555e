use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::*;
use crate::disk::{DiskFaultKind, read_file};
use crate::random::SeededRandom;

const POINT: CrashPoint = CrashPoint::BlockSync;

fn at(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

fn disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d"), POINT).unwrap();
    disk
}

/// Creates a file with synced contents and a synced name.
fn durable(disk: &MemDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create_new(&at(name), POINT).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync(POINT).unwrap();
    disk.sync_dir(Path::new("/d"), POINT).unwrap();
    file
}

fn contents(disk: &MemDisk, name: &str) -> Option<Vec<u8>> {
    read_file(disk, &at(name), 1 << 20).ok()
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    for seed in 0..64 {
        let disk = disk();
        let file = durable(&disk, "a", &[7; 10_000]);
        file.write_at(&[8; 3000], 9000).unwrap();
        disk.power_cut(&SeededRandom::new(seed));
        let left = contents(&disk, "a").unwrap();
        assert_eq!(left[..8192], [7; 8192]);
        assert_eq!(left[8192..9000.min(left.len())], [7; 808][..9000.min(left.len()) - 8192]);
        assert!((10_000..=12_000).contains(&left.len()), "{}", left.len());
    }
}

#[test]
fn unsynced_writes_are_kept_lost_and_torn_at_sectors() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..64 {
        let disk = disk();
        let file = durable(&disk, "a", &[1; 4096]);
        file.write_at(&[2; 4096], 0).unwrap();
        disk.power_cut(&SeededRandom::new(seed));
        let left = contents(&disk, "a").unwrap();
        assert_eq!(left.len(), 4096);
        for sector in left.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is never torn");
        }
        match left.iter().filter(|byte| **byte == 2).count() {
            0 => lost += 1,
            4096 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(kept > 0 && lost > 0 && torn > 0, "kept {kept} lost {lost} torn {torn}");
}

#[test]
fn a_name_needs_its_directory_synced_and_a_rename_is_never_half() {
    let (mut gone, mut stayed) = (0, 0);
    for seed in 0..64 {
        let disk = disk();
        let file = disk.create_new(&at("new"), POINT).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync(POINT).unwrap();
        durable(&disk, "old", b"o");
        let other = disk.create_new(&at("unsynced"), POINT).unwrap();
        other.sync(POINT).unwrap();
        disk.rename(&at("new"), &at("old"), POINT).unwrap();
        disk.power_cut(&SeededRandom::new(seed));
        match contents(&disk, "old").unwrap().as_slice() {
            b"x" => assert_eq!(contents(&disk, "new"), None),
            b"o" => assert_eq!(contents(&disk, "new").unwrap(), b"x"),
            other => panic!("{other:?}"),
        }
        if contents(&disk, "unsynced").is_some() {
            stayed += 1;
        } else {
            gone += 1;
        }
    }
    assert!(gone > 0 && stayed > 0);
}

#[test]
fn a_kill_keeps_the_page_cache_and_ends_handles_and_locks() {
    let disk = disk();
    let file = disk.create_new(&at("a"), POINT).unwrap();
    file.write_at(b"cached", 0).unwrap();
    let lock = disk.lock(&at("lock")).unwrap();
    assert_eq!(disk.lock(&at("lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
    disk.process_died();
    assert!(file.write_at(b"ghost", 0).is_err(), "a dead process writes nothing");
    let again = disk.lock(&at("lock")).unwrap();
    drop(lock);
    assert_eq!(disk.lock(&at("lock")).unwrap_err().kind(), ErrorKind::WouldBlock, "only its own holder frees it");
    drop(again);
    assert_eq!(contents(&disk, "a").unwrap(), b"cached");
}

#[test]
fn sc_48_after_a_failed_sync_a_second_one_says_yes_and_the_bytes_are_gone() {
    let disk = disk();
    let file = durable(&disk, "a", b"old");
    disk.inject(DiskFault::once(DiskFaultKind::SyncError));
    file.write_at(b"new", 0).unwrap();
    assert!(file.sync(POINT).is_err());
    file.sync(POINT).unwrap();
    disk.power_cut(&SeededRandom::new(1));
    assert_eq!(contents(&disk, "a").unwrap(), b"old");
    assert_eq!(disk.faults_fired(), 1);
}

#[test]
fn faults_strike_where_and_when_they_are_told() {
    let disk = disk();
    let (a, b) = (durable(&disk, "a", b"aaaa"), durable(&disk, "b", b"bbbb"));
    disk.inject(DiskFault::once(DiskFaultKind::WriteError).on("/a").after(1));
    b.write_at(b"1", 0).unwrap();
    a.write_at(b"1", 0).unwrap();
    assert!(a.write_at(b"2", 0).is_err());
    a.write_at(b"3", 0).unwrap();
    disk.inject(DiskFault::once(DiskFaultKind::LostWrite));
    a.write_at(b"lost", 0).unwrap();
    assert_eq!(contents(&disk, "a").unwrap(), b"3aaa");
    disk.inject(DiskFault::once(DiskFaultKind::MisdirectedWrite));
    a.write_at(b"away", 0).unwrap();
    assert_eq!(contents(&disk, "a").unwrap()[4096..], *b"away");
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadOnly));
    assert_eq!(a.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert!(disk.create_new(&at("c"), POINT).is_err() && disk.remove_file(&at("a"), POINT).is_err());
    disk.clear_faults();
    disk.flip_bit(&at("b"), 0, 0).unwrap();
    assert_eq!(contents(&disk, "b").unwrap(), b"0bbb");
    disk.inject(DiskFault::once(DiskFaultKind::ReadError));
    assert!(b.read_at(&mut [0; 4], 0).is_err());
}

#[test]
fn room_is_bounded_per_device_and_comes_back() {
    let disk = disk();
    disk.add_device(Path::new("/d/small"), 8192);
    disk.create_dir_all(Path::new("/d/small"), POINT).unwrap();
    let file = disk.create_new(&at("small/a"), POINT).unwrap();
    file.write_at(&[1; 8192], 0).unwrap();
    assert_eq!(file.write_at(&[1; 1], 8192).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(&[2; 8192], 0).unwrap();
    assert_eq!(disk.space(&at("small/a")).unwrap().available_bytes, 0);
    disk.remove_file(&at("small/a"), POINT).unwrap();
    assert_eq!(disk.space(&at("small")).unwrap().available_bytes, 0, "still open");
    drop(file);
    assert_eq!(disk.space(&at("small")).unwrap().available_bytes, 8192);
    let held = disk.create_new(&at("small/b"), POINT).unwrap();
    held.allocate(0, 8192, POINT).unwrap();
    held.write_at(&[3; 100], 8000).unwrap();
    held.set_len(4096, POINT).unwrap();
    assert_eq!(disk.space(&at("small")).unwrap().available_bytes, 4096);
    assert!(durable(&disk, "elsewhere", &[1; 9000]).len_bytes().is_ok());
}

#[test]
fn a_process_stops_at_its_named_step() {
    for side in [Side::Before, Side::After] {
        let disk = disk();
        let file = durable(&disk, "a", b"old");
        disk.stop_at(CrashPoint::MetaSync, side, 2);
        file.write_at(b"one", 0).unwrap();
        file.sync(CrashPoint::MetaSync).unwrap();
        file.write_at(b"two", 0).unwrap();
        file.sync(CrashPoint::LogSync).unwrap();
        file.write_at(b"end", 0).unwrap();
        assert!(file.sync(CrashPoint::MetaSync).is_err() && disk.stopped());
        assert!(file.write_at(b"dead", 0).is_err() && disk.info(&at("a")).is_err());
        // A generator whose first draw is a multiple of four loses everything unsynced.
        let seed = (0..).find(|seed| SeededRandom::new(*seed).below(4) == 0).unwrap();
        disk.power_cut(&SeededRandom::new(seed));
        let expected: &[u8] = if side == Side::After { b"end" } else { b"two" };
        assert_eq!(contents(&disk, "a").unwrap(), expected);
    }
}

#[test]
fn equal_calls_leave_equal_traces_and_bytes() {
    let run = || {
        let disk = disk();
        let file = durable(&disk, "a", &[5; 5000]);
        file.write_at(&[6; 5000], 100).unwrap();
        disk.power_cut(&SeededRandom::new(9));
        (disk.trace(), contents(&disk, "a"), disk.files())
    };
    assert_eq!(run(), run());
}
