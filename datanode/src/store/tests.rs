//! The store against a disk in memory: restarts, kills, power cuts, faults, full disks.

mod digest;
mod health;
mod pipeline;
mod recovery;
mod room;
mod scrub;
mod start;
mod takeover;

use std::path::Path;

use base::crash::{CrashPoint, Side};
use base::disk::{DiskFault, DiskFaultKind, MemDisk};
use base::random::SeededRandom;
use proptest::prelude::*;
use proto::cluster::ReplicaState as WireState;

use super::*;

const NOW: Moment = Moment::START;

fn options() -> StoreOptions {
    StoreOptions { reserve_bytes: 0, ..StoreOptions::default() }
}

fn dirs(volumes: usize) -> Vec<PathBuf> {
    (0..volumes).map(|n| PathBuf::from(format!("/disk{n}"))).collect()
}

fn open(disk: &MemDisk, volumes: usize) -> Result<Store, StoreError> {
    let (store, problems) = Store::open(&disk.shared(), &dirs(volumes), options(), &SeededRandom::new(7), NOW)?;
    assert!(problems.is_empty(), "{problems:?}");
    Ok(store)
}

/// A disk with a store that has joined a cluster.
fn joined(volumes: usize) -> (MemDisk, Store) {
    let disk = MemDisk::new();
    let store = open(&disk, volumes).unwrap();
    store.join(&ClusterId::new("1"), &PoolId::new("1")).unwrap();
    (disk, store)
}

fn block(n: i64) -> BlockRef {
    BlockRef {
        pool: PoolId::new("1"),
        id: BlockId::from_raw(BlockId::FIRST.raw() + n),
        stamp: GenerationStamp::FIRST,
        len_bytes: 4096,
    }
}

fn bytes(n: i64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as i64 * 31 + n) as u8).collect()
}

fn put(writer: &mut ReplicaWriter, data: &[u8]) -> Result<(), StoreError> {
    writer.write(writer.len_bytes(), data, &ChunkFormat::CRC32C_512.compute(data))
}

fn store_block(store: &Store, n: i64, len: usize) -> Result<FinalisedReplica, StoreError> {
    let mut writer = store.create(&block(n), None, ChunkFormat::CRC32C_512)?;
    put(&mut writer, &bytes(n, len))?;
    writer.finalise()
}

/// Reads a replica whole and verifies its checksums.
fn read(store: &Store, n: i64) -> Result<Vec<u8>, StoreError> {
    let reader = store.open_reader(&block(n))?;
    let mut data = vec![0; reader.len_bytes() as usize];
    reader.read_data(0, &mut data)?;
    let mut sums = Vec::new();
    reader.read_checksums(0, reader.len_bytes(), &mut sums)?;
    reader.chunks().verify(&data, &sums).map_err(|_mismatch| StoreError::Checksums(block(n).id))?;
    Ok(data)
}

fn state(store: &Store, n: i64) -> Option<ReplicaState> {
    store.replica(block(n).id).map(|(_, replica)| replica.state)
}

#[test]
fn replicas_survive_a_restart_and_are_reported_alike() {
    let (disk, store) = joined(2);
    for n in 0..20 {
        store_block(&store, n, n as usize * 300).unwrap();
    }
    let hashes = |store: &Store| -> Vec<Vec<u64>> {
        let ids = store.reports().into_iter().map(|report| StorageId::parse(&report.storage).unwrap());
        ids.map(|id| store.bucket_hashes(&id).unwrap().hashes).collect()
    };
    let before = hashes(&store);
    drop(store);
    disk.power_cut(&SeededRandom::new(3));
    let store = open(&disk, 2).unwrap();
    assert_eq!(hashes(&store), before);
    for n in 0..20 {
        assert_eq!(read(&store, n).unwrap(), bytes(n, n as usize * 300));
    }
    assert_eq!(store.counts().finalized, 20);
    assert_eq!(store.counts().reserved_bytes, 0);
}

#[test]
fn sc_47_no_power_cut_loses_a_finalised_replica_or_serves_a_torn_one() {
    for seed in 0..200 {
        let (disk, store) = joined(1);
        let random = SeededRandom::new(seed);
        for n in 0..4 {
            store_block(&store, n, 1500).unwrap();
        }
        // A fifth one is stopped at some durable step.
        let points = [
            CrashPoint::BlockCreate,
            CrashPoint::MetaCreate,
            CrashPoint::BlockSync,
            CrashPoint::MetaSync,
            CrashPoint::BlockDirSync,
        ];
        let point = points[random.below(points.len() as u64) as usize];
        let side = if random.below(2) == 0 { Side::Before } else { Side::After };
        disk.stop_at(point, side, 1);
        assert!(store_block(&store, 4, 1500).is_err());
        drop(store);
        disk.power_cut(&random);
        let store = open(&disk, 1).unwrap();
        for n in 0..4 {
            assert_eq!(read(&store, n).unwrap(), bytes(n, 1500), "seed {seed}");
        }
        // Unacknowledged: it may be whole, half or gone, but never served wrong.
        match read(&store, 4) {
            Ok(data) => assert_eq!(data, bytes(4, 1500), "seed {seed}"),
            Err(StoreError::NotFound(_) | StoreError::NotWhole { .. }) => {}
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
}

#[test]
fn half_written_replicas_are_recognised_reported_and_never_served() {
    let (disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 700)).unwrap();
    writer.sync().unwrap();
    assert!(matches!(store.open_reader(&block(1)), Err(StoreError::NotWhole { .. })), "not while it is written");
    disk.process_died();
    drop(writer);
    let store = open(&disk, 1).unwrap();
    assert_eq!(state(&store, 1), Some(ReplicaState::WaitingRecovery));
    assert!(matches!(store.open_reader(&block(1)), Err(StoreError::NotWhole { .. })));
    let storage = store.replica(block(1).id).unwrap().0;
    let changes = store.changes(&storage, 1, 10).unwrap();
    assert_eq!((changes.len(), changes[0].state), (1, WireState::WaitingRecovery as i32));
    assert_eq!(changes[0].len_bytes, 700);
    let (_, buckets) = store.buckets(&storage, &[block(1).id.bucket()]).unwrap();
    assert_eq!(buckets[0].replicas, changes);
    assert_eq!(store.bucket_hashes(&storage).unwrap().replicas, 0);
    store.delete(&storage, block(1).id, block(1).stamp, NOW).unwrap();
    assert_eq!(state(&store, 1), None);
}

#[test]
fn a_writer_that_goes_away_leaves_a_half_written_replica_and_no_reservation() {
    let (_disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 700)).unwrap();
    assert_eq!(store.counts().reserved_bytes, 4096);
    drop(writer);
    assert_eq!(state(&store, 1), Some(ReplicaState::WaitingRecovery));
    drop(store.create(&block(2), None, ChunkFormat::CRC32C_512).unwrap());
    assert_eq!(state(&store, 2), None, "nothing was written, nothing stays");
    assert_eq!(store.counts().reserved_bytes, 0);
    assert!(matches!(store.create(&block(1), None, ChunkFormat::CRC32C_512), Err(StoreError::Exists(_))));
}

#[test]
fn sc_50_missing_identity_is_refused() {
    for damage in ["removed", "zeroed"] {
        let (disk, store) = joined(1);
        store_block(&store, 1, 100).unwrap();
        drop(store);
        disk.process_died();
        let identity = Path::new("/disk0/identity");
        if damage == "removed" {
            disk.shared().remove_file(identity, CrashPoint::BlockRemove).unwrap();
        } else {
            let file = disk.shared().open(identity, base::disk::OpenMode::ReadWrite).unwrap();
            file.write_at(&[0; 8192], 0).unwrap();
        }
        let files = disk.files();
        let error = open(&disk, 1).unwrap_err().to_string();
        assert!(error.contains("identity"), "{error}");
        let left: Vec<_> = disk.files().into_iter().filter(|file| !file.ends_with("lock")).collect();
        let before: Vec<_> = files.into_iter().filter(|file| !file.ends_with("lock")).collect();
        assert_eq!(left, before, "nothing was erased");
    }
}

#[test]
fn sc_54_one_bad_volume_does_not_stop_the_others() {
    let (disk, store) = joined(2);
    for n in 0..6 {
        store_block(&store, n, 100).unwrap();
    }
    drop(store);
    disk.process_died();
    disk.shared().remove_file(Path::new("/disk1/identity"), CrashPoint::BlockRemove).unwrap();
    let (store, problems) = Store::open(&disk.shared(), &dirs(2), options(), &SeededRandom::new(1), NOW).unwrap();
    assert_eq!((problems.len(), store.reports().len()), (1, 1));
    store_block(&store, 9, 100).unwrap();
}

#[test]
fn folders_in_use_and_of_other_clusters_are_refused() {
    let (disk, store) = joined(1);
    let second = Store::open(&disk.shared(), &dirs(1), options(), &SeededRandom::new(1), NOW);
    assert!(second.unwrap_err().to_string().contains("another process"));
    let other = store.join(&ClusterId::new("2"), &PoolId::new("1"));
    assert!(matches!(other, Err(StoreError::WrongCluster { .. })));
    let wrong = BlockRef { pool: PoolId::new("2"), ..block(1) };
    assert!(matches!(store.create(&wrong, None, ChunkFormat::CRC32C_512), Err(StoreError::WrongPool(_))));
    drop(store);
    let elsewhere = [PathBuf::from("/other")];
    let (stranger, _) = Store::open(&disk.shared(), &elsewhere, options(), &SeededRandom::new(99), NOW).unwrap();
    stranger.join(&ClusterId::new("2"), &PoolId::new("2")).unwrap();
    drop(stranger);
    let both = [PathBuf::from("/disk0"), PathBuf::from("/other")];
    let mixed = Store::open(&disk.shared(), &both, options(), &SeededRandom::new(1), NOW);
    assert!(matches!(mixed, Err(StoreError::WrongCluster { .. })));
}

#[test]
fn sc_48_a_failed_sync_takes_the_volume_out_and_the_others_go_on() {
    let (disk, store) = joined(2);
    let storages: Vec<StorageId> =
        store.reports().iter().map(|report| StorageId::parse(&report.storage).unwrap()).collect();
    disk.inject(DiskFault::once(DiskFaultKind::SyncError).on("disk0"));
    let mut writer = store.create(&block(1), Some(&storages[0]), ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 100)).unwrap();
    assert!(writer.finalise().is_err());
    assert!(writer.finalise().is_err(), "never tried again");
    drop(writer);
    let reports = store.reports();
    assert!(reports[0].failed && !reports[1].failed);
    let refused = store.create(&block(2), Some(&storages[0]), ChunkFormat::CRC32C_512);
    assert!(matches!(refused, Err(StoreError::VolumeFailed { .. })));
    store_block(&store, 2, 100).unwrap();
    assert_eq!(read(&store, 2).unwrap(), bytes(2, 100));
    assert_eq!(store.counts().reserved_bytes, 0);
}

#[test]
fn a_folder_that_cannot_be_written_takes_no_writes_and_serves_what_it_has() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 100).unwrap();
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadOnly));
    assert!(store_block(&store, 2, 100).is_err());
    let report = store.reports().remove(0);
    assert_eq!((report.failed, report.state.as_str(), report.available_bytes), (false, "read-only", 0));
    assert!(report.failure.contains("Read-only file system"), "{}", report.failure);
    assert_eq!(store.counts().reserved_bytes, 0);
    // For this run, whatever the file system says later.
    disk.clear_faults();
    assert!(matches!(store_block(&store, 3, 100), Err(StoreError::NoStorage(_))));
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 100));
}

#[test]
fn sc_55_a_full_disk_is_a_clean_refusal() {
    let (disk, store) = joined(1);
    disk.add_device(Path::new("/disk0"), 3 << 20);
    drop(store);
    // The device takes what is created from now on.
    let store = {
        disk.process_died();
        open(&disk, 1).unwrap()
    };
    let mut stored = 0;
    let refusal = loop {
        match store_block(&store, stored, 300_000) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(refusal.is_full(), "{refusal}");
    assert!(stored >= 3, "{stored}");
    assert!(!store.reports()[0].failed, "full is not broken");
    assert_eq!(store.counts().reserved_bytes, 0);
    assert_eq!(state(&store, stored), None, "no partial replica stays");
    (0..stored).for_each(|n| assert_eq!(read(&store, n).unwrap(), bytes(n, 300_000)));
    // SC-57: deletes work, and the trash makes room at once.
    let storage = store.replica(block(0).id).unwrap().0;
    for n in 0..stored {
        store.delete(&storage, block(n).id, block(n).stamp, NOW).unwrap();
    }
    store_block(&store, 100, 300_000).unwrap();
}

#[test]
fn full_in_mid_block_removes_the_partial_replica() {
    let (disk, store) = joined(1);
    for skip in 0..6 {
        disk.inject(DiskFault::once(DiskFaultKind::NoSpace).on("current").after(skip));
        let result = store_block(&store, skip as i64, 5000);
        if result.is_ok() {
            disk.clear_faults();
            continue;
        }
        assert!(result.unwrap_err().is_full());
        assert_eq!(state(&store, skip as i64), None);
        assert_eq!(store.counts().reserved_bytes, 0);
        let name = format!("blk_{}", block(skip as i64).id.raw());
        assert!(!disk.files().iter().any(|file| file.contains(&name)), "step {skip}");
    }
    assert!(disk.faults_fired() >= 2);
    assert!(!store.reports()[0].failed);
}

#[test]
fn flipped_bits_in_checksums_and_trailer_are_found_at_start_or_first_read() {
    for offset in [0_u64, 2, 9, 40, 60, 80] {
        let (disk, store) = joined(1);
        store_block(&store, 1, 3000).unwrap();
        drop(store);
        disk.process_died();
        let meta = disk.files().into_iter().find(|file| file.ends_with(".meta")).unwrap();
        disk.flip_bit(Path::new(&meta), offset, 3).unwrap();
        let store = open(&disk, 1).unwrap();
        assert_ne!(state(&store, 1), Some(ReplicaState::Finalized), "byte {offset}");
        assert!(read(&store, 1).is_err());
    }
}

#[test]
fn sc_60_a_meta_file_cut_at_any_byte_is_never_whole() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 1200).unwrap();
    drop(store);
    let path = disk.files().into_iter().find(|file| file.ends_with(".meta")).unwrap();
    let len = disk.shared().info(Path::new(&path)).unwrap().unwrap().len_bytes;
    for cut in (0..len).rev() {
        disk.process_died();
        let file = disk.shared().open(Path::new(&path), base::disk::OpenMode::ReadWrite).unwrap();
        file.set_len(cut, CrashPoint::MetaSync).unwrap();
        let store = open(&disk, 1).unwrap();
        assert_eq!(state(&store, 1), Some(ReplicaState::WaitingRecovery), "cut at {cut}");
    }
}

#[test]
fn sc_52_lost_data_files_are_reported_corrupt() {
    let (disk, store) = joined(1);
    let done = store_block(&store, 1, 1200).unwrap();
    let data = disk.files().into_iter().find(|file| file.contains("blk_") && !file.ends_with(".meta")).unwrap();
    disk.shared().remove_file(Path::new(&data), CrashPoint::BlockRemove).unwrap();
    assert!(store.open_reader(&block(1)).is_err());
    let last = store.changes(&done.storage, 1, 10).unwrap().pop().unwrap();
    assert_eq!(last.state, WireState::Corrupt as i32);
}

#[test]
fn sc_62_checksums_that_lost_their_data_are_not_taken_for_those_of_an_older_replica() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 700).unwrap();
    drop(store);
    disk.process_died();
    // A power cut brought back one name of a removed replica.
    let data = disk.files().into_iter().find(|file| file.contains("blk_") && !file.ends_with(".meta")).unwrap();
    disk.shared().remove_file(Path::new(&data), CrashPoint::BlockRemove).unwrap();
    let store = open(&disk, 1).unwrap();
    assert_eq!(state(&store, 1), None);
    // A copy of the block as it was before arrives, and is as long.
    let stamp = GenerationStamp::from_raw(block(1).stamp.raw() - 1);
    let older = BlockRef { stamp, ..block(1) };
    let mut writer = store.create_copy(&older, None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(2, 700)).unwrap();
    writer.finalise().unwrap();
    drop(store);
    disk.power_cut(&SeededRandom::new(3));
    let store = open(&disk, 1).unwrap();
    let (_, replica) = store.replica(block(1).id).unwrap();
    assert_eq!((replica.stamp, replica.state), (stamp, ReplicaState::Finalized), "it is what it was finished as");
}

#[test]
fn sc_62_a_replica_under_another_name_is_corrupt() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 1200).unwrap();
    drop(store);
    disk.process_died();
    for file in disk.files().into_iter().filter(|file| file.contains("blk_")) {
        let other = file.replace(&block(1).id.to_string(), &block(2).id.to_string());
        disk.shared().rename(Path::new(&file), Path::new(&other), CrashPoint::BlockRemove).unwrap();
    }
    let store = open(&disk, 1).unwrap();
    assert_eq!(state(&store, 2), Some(ReplicaState::Corrupt));
}

#[test]
fn sc_49_deletes_are_by_stamp_and_absent_replicas_are_no_error() {
    let (disk, store) = joined(1);
    let done = store_block(&store, 1, 1200).unwrap();
    let (id, stamp) = (block(1).id, block(1).stamp);
    assert!(matches!(store.delete(&done.storage, id, stamp.next(), NOW), Err(StoreError::StaleStamp { .. })));
    let reader = store.open_reader(&block(1)).unwrap();
    store.delete(&done.storage, id, stamp, NOW).unwrap();
    store.delete(&done.storage, id, stamp, NOW).unwrap();
    let mut data = vec![0; 1200];
    reader.read_data(0, &mut data).unwrap();
    assert_eq!(data, bytes(1, 1200), "an open reader reads on");
    assert!(disk.files().iter().any(|file| file.contains("/trash/")));
    store.tend(NOW.plus(Duration::from_secs(599)));
    assert!(disk.files().iter().any(|file| file.contains("/trash/")), "quarantine holds");
    store.tend(NOW.plus(Duration::from_secs(600)));
    assert!(!disk.files().iter().any(|file| file.contains("/trash/")));
    store_block(&store, 1, 1200).unwrap();
}

#[test]
fn a_crash_in_mid_delete_leaves_something_that_is_deleted_again() {
    for point in [CrashPoint::MetaRemove, CrashPoint::BlockRemove] {
        for side in [Side::Before, Side::After] {
            let (disk, store) = joined(1);
            let done = store_block(&store, 1, 1200).unwrap();
            disk.stop_at(point, side, 1);
            assert!(store.delete(&done.storage, block(1).id, block(1).stamp, NOW).is_err());
            drop(store);
            disk.process_died();
            let store = open(&disk, 1).unwrap();
            store.delete(&done.storage, block(1).id, block(1).stamp, NOW).unwrap();
            assert_eq!(state(&store, 1), None);
            disk.process_died();
            drop(store);
            assert_eq!(state(&open(&disk, 1).unwrap(), 1), None, "{point:?} {side:?}");
        }
    }
}

/// Deletes a replica as one that the namenode calls damaged, or as any other.
fn delete_one(store: &Store, damaged: bool) -> Result<(), StoreError> {
    let (storage, replica) = store.replica(block(1).id).unwrap();
    let (id, stamp) = (block(1).id, replica.stamp);
    if damaged { store.delete_damaged(&storage, id, stamp, NOW) } else { store.delete(&storage, id, stamp, NOW) }
}

#[test]
fn i_2_a_damaged_replica_that_was_told_to_be_gone_is_not_brought_back_by_a_power_cut() {
    // The namenodes forget what they knew of it when they hear that it is gone: back, it would count as a good one.
    for (found_here, by_namenode, seed) in [(true, false), (false, true), (true, true)]
        .into_iter()
        .flat_map(|(here, there)| (0..20).map(move |seed| (here, there, seed)))
    {
        let (disk, store) = joined(1);
        store_block(&store, 1, 1200).unwrap();
        if found_here {
            store.open_reader(&block(1)).unwrap().mark_corrupt();
        }
        delete_one(&store, by_namenode).unwrap();
        assert_eq!(state(&store, 1), None);
        drop(store);
        disk.power_cut(&SeededRandom::new(seed));
        let store = open(&disk, 1).unwrap();
        assert_eq!(state(&store, 1), None, "{found_here} {by_namenode} {seed}");
        store_block(&store, 1, 1200).unwrap();
    }
}

#[test]
fn i_2_that_a_damaged_replica_is_gone_is_told_after_its_folder_was_synced() {
    let (disk, store) = joined(1);
    let done = store_block(&store, 1, 1200).unwrap();
    let told = |store: &Store| -> Vec<i32> {
        store.changes(&done.storage, 1, 99).unwrap().iter().map(|change| change.state).collect()
    };
    disk.stop_at(CrashPoint::BlockDirSync, Side::Before, 1);
    assert!(delete_one(&store, true).is_err());
    let expected = [WireState::Finalized, WireState::Corrupt].map(|state| state as i32);
    assert_eq!(told(&store), expected, "it may come back, and is known as damaged");
    drop(store);
    disk.process_died();
    let store = open(&disk, 1).unwrap();
    store_block(&store, 1, 1200).unwrap();
    delete_one(&store, true).unwrap();
    let expected = [WireState::Finalized, WireState::Corrupt, WireState::Deleted].map(|state| state as i32);
    assert_eq!(told(&store), expected);
}

#[test]
fn a_block_on_two_volumes_is_kept_where_it_is_whole() {
    let (disk, store) = joined(2);
    let storages: Vec<StorageId> =
        store.reports().iter().map(|report| StorageId::parse(&report.storage).unwrap()).collect();
    let mut writer = store.create(&block(1), Some(&storages[0]), ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 700)).unwrap();
    writer.sync().unwrap();
    drop(writer);
    drop(store);
    disk.process_died();
    // Another life of the node wrote it on the other disk.
    let only = [PathBuf::from("/disk1")];
    let (store, _) = Store::open(&disk.shared(), &only, options(), &SeededRandom::new(1), NOW).unwrap();
    store_block(&store, 1, 900).unwrap();
    drop(store);
    disk.process_died();
    let files = disk.files();
    let store = open(&disk, 2).unwrap();
    assert_eq!(store.replica(block(1).id).unwrap().0, storages[1]);
    assert_eq!(disk.files(), files, "nothing is deleted at start");
}

#[test]
fn sc_48_an_error_of_the_disk_at_any_step_takes_only_its_volume_out() {
    for kind in [DiskFaultKind::WriteError, DiskFaultKind::SyncError, DiskFaultKind::ReadOnly] {
        let mut struck = 0;
        for skip in 0..8 {
            let (disk, store) = joined(2);
            let storages: Vec<StorageId> =
                store.reports().iter().map(|report| StorageId::parse(&report.storage).unwrap()).collect();
            disk.inject(DiskFault { path_contains: "disk0/current".into(), skip, ..DiskFault::lasting(kind) });
            let result = store.create(&block(1), Some(&storages[0]), ChunkFormat::CRC32C_512).and_then(|mut writer| {
                put(&mut writer, &bytes(1, 3000))?;
                writer.sync()?;
                writer.finalise()
            });
            if result.is_ok() {
                continue;
            }
            struck += 1;
            let reports = store.reports();
            let expected = if kind == DiskFaultKind::ReadOnly { (false, "read-only") } else { (true, "failed") };
            assert_eq!((reports[0].failed, reports[0].state.as_str()), expected, "{kind:?} {skip}");
            assert!(!reports[0].failure.is_empty() && !reports[1].failed, "{kind:?} {skip}");
            assert!(read(&store, 1).is_err(), "{kind:?} {skip}: never served");
            assert_eq!(store.counts().reserved_bytes, 0, "{kind:?} {skip}");
            // The other disk goes on, and takes what comes without a storage of its own.
            assert_eq!(store_block(&store, 2, 100).unwrap().storage, storages[1]);
            assert_eq!(read(&store, 2).unwrap(), bytes(2, 100));
            store.raise_term(Term::from_raw(3)).unwrap();
            let gone = store.delete(&storages[0], block(9).id, block(9).stamp, NOW);
            assert!(gone.is_ok(), "what is not there is deleted on any volume");
        }
        assert!(struck >= 2, "{kind:?} struck {struck} times");
    }
}

#[test]
fn what_a_killed_node_left_in_the_page_cache_is_durable_before_it_is_reported() {
    for point in [CrashPoint::MetaSync, CrashPoint::BlockDirSync] {
        let (disk, store) = joined(1);
        disk.stop_at(point, Side::Before, 1);
        assert!(store_block(&store, 1, 1500).is_err());
        drop(store);
        disk.process_died();
        let store = open(&disk, 1).unwrap();
        assert_eq!(state(&store, 1), Some(ReplicaState::Finalized), "{point:?}: its trailer is there");
        drop(store);
        for seed in 0..20 {
            disk.power_cut(&SeededRandom::new(seed));
            assert_eq!(read(&open(&disk, 1).unwrap(), 1).unwrap(), bytes(1, 1500), "{point:?} {seed}");
        }
    }
    let (disk, store) = joined(1);
    store_block(&store, 1, 1500).unwrap();
    drop(store);
    disk.process_died();
    for side in [Side::Before, Side::After] {
        disk.stop_at(CrashPoint::VolumeSync, side, 1);
        assert!(open(&disk, 1).is_err());
        disk.process_died();
    }
    disk.inject(DiskFault::lasting(DiskFaultKind::SyncError).on("disk0"));
    assert!(open(&disk, 1).is_err(), "what cannot be made durable is not reported");
    disk.clear_faults();
    disk.process_died();
    assert_eq!(read(&open(&disk, 1).unwrap(), 1).unwrap(), bytes(1, 1500));
}

#[test]
fn f_3_a_stop_at_every_durable_step_leaves_what_can_be_named_deleted_and_copied_again() {
    let points = [
        CrashPoint::VolumeDirCreate,
        CrashPoint::BlockCreate,
        CrashPoint::MetaCreate,
        CrashPoint::BlockSync,
        CrashPoint::MetaSync,
        CrashPoint::BlockDirSync,
    ];
    let mut seen = std::collections::BTreeSet::new();
    for point in points {
        for side in [Side::Before, Side::After] {
            for seed in 0..12 {
                let (disk, store) = joined(1);
                store_block(&store, 700, 900).unwrap();
                disk.stop_at(point, side, 1);
                assert!(store_block(&store, 1, 1500).is_err());
                assert!(disk.stopped());
                drop(store);
                if seed == 0 {
                    disk.process_died()
                } else {
                    disk.power_cut(&SeededRandom::new(seed))
                }
                let store = open(&disk, 1).unwrap();
                assert_eq!(read(&store, 700).unwrap(), bytes(700, 900), "what was acknowledged is whole");
                let storage = StorageId::parse(&store.reports()[0].storage).unwrap();
                let state = state(&store, 1);
                seen.insert(state.map(ReplicaState::as_str));
                match state {
                    Some(ReplicaState::Finalized) => assert_eq!(read(&store, 1).unwrap(), bytes(1, 1500)),
                    Some(ReplicaState::BeingWritten) => panic!("nobody writes it"),
                    Some(odd) => {
                        assert!(read(&store, 1).is_err(), "{point:?} {side:?} {seed}: {odd:?} is not served");
                        let told = store.changes(&storage, 1, 10).unwrap();
                        assert_eq!(told.len(), 1, "{point:?} {side:?} {seed}: it is told");
                        assert_eq!(told[0].state, odd.to_wire() as i32);
                    }
                    None => {}
                }
                // A copy of the block comes, whatever lies in its way.
                if state != Some(ReplicaState::Finalized) {
                    let mut writer = store.create_copy(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
                    put(&mut writer, &bytes(1, 1500)).unwrap();
                    writer.finalise().unwrap();
                }
                assert_eq!(read(&store, 1).unwrap(), bytes(1, 1500), "{point:?} {side:?} {seed}");
                assert!(!store.reports()[0].failed, "{point:?} {side:?} {seed}");
                drop(store);
                disk.power_cut(&SeededRandom::new(seed + 50));
                assert_eq!(read(&open(&disk, 1).unwrap(), 1).unwrap(), bytes(1, 1500), "{point:?} {side:?} {seed}");
            }
        }
    }
    assert!(seen.contains(&None) && seen.contains(&Some(ReplicaState::WaitingRecovery.as_str())), "{seen:?}");
}

#[test]
fn a_file_in_the_way_goes_to_the_trash_and_does_not_cost_the_disk() {
    for lost in [".meta", ""] {
        let (disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
        put(&mut writer, &bytes(1, 700)).unwrap();
        writer.sync().unwrap();
        disk.process_died();
        drop(writer);
        drop(store);
        // A power cut kept one of the two names.
        let name = format!("blk_{}", block(1).id.raw());
        let files = disk.files().into_iter().filter(|file| file.contains(&name));
        let gone: Vec<_> = files.filter(|file| file.ends_with(".meta") == (lost == ".meta")).collect();
        for file in &gone {
            disk.shared().remove_file(Path::new(file), CrashPoint::BlockRemove).unwrap();
        }
        let store = open(&disk, 1).unwrap();
        assert_eq!(state(&store, 1).is_some(), lost == ".meta", "checksums without data are no replica");
        let mut writer = store.create_copy(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
        put(&mut writer, &bytes(1, 900)).unwrap();
        writer.finalise().unwrap();
        assert_eq!(read(&store, 1).unwrap(), bytes(1, 900));
        assert!(!store.reports()[0].failed);
        assert!(disk.files().iter().any(|file| file.contains("/trash/")), "nothing is erased at once");
        store.tend(NOW.plus(Duration::from_secs(600)));
        assert!(!disk.files().iter().any(|file| file.contains("/trash/")));
        assert_eq!(read(&store, 1).unwrap(), bytes(1, 900));
    }
    // What came there after the start, by whatever way.
    let (disk, store) = joined(1);
    let (volume, id) = (&store.volumes[0], block(1).id);
    let pool = volume.pool().unwrap();
    volume.make_folder(&pool, layout::folder_of(id)).unwrap();
    for path in [volume.data_path(&pool, id), volume.meta_path(&pool, id, block(1).stamp)] {
        let file = disk.shared().create_new(&path, CrashPoint::BlockCreate).unwrap();
        file.write_at(&[7; 3000], 0).unwrap();
    }
    store_block(&store, 1, 900).unwrap();
    drop(store);
    let store = open(&disk, 1).unwrap();
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 900));
}

#[test]
fn a_second_copy_that_is_not_spoken_of_does_not_cost_its_disk() {
    let (disk, store) = joined(2);
    let storages: Vec<StorageId> =
        store.reports().iter().map(|report| StorageId::parse(&report.storage).unwrap()).collect();
    store_block(&store, 1, 700).unwrap();
    drop(store);
    disk.process_died();
    let (kept, other) = if disk.files().iter().any(|f| f.starts_with("/disk0/current")) { (0, 1) } else { (1, 0) };
    let only = [PathBuf::from(format!("/disk{other}"))];
    let (store, _) = Store::open(&disk.shared(), &only, options(), &SeededRandom::new(1), NOW).unwrap();
    store_block(&store, 1, 700).unwrap();
    drop(store);
    disk.process_died();
    let store = open(&disk, 2).unwrap();
    let (holder, replica) = store.replica(block(1).id).unwrap();
    store.delete(&holder, block(1).id, replica.stamp, NOW).unwrap();
    let loser = if holder == storages[kept] { &storages[other] } else { &storages[kept] };
    let mut writer = store.create(&block(1), Some(loser), ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 900)).unwrap();
    writer.finalise().unwrap();
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 900));
    assert!(store.reports().iter().all(|report| !report.failed));
}

#[test]
fn sc_59_a_writer_whose_replica_was_deleted_and_begun_anew_touches_nothing() {
    for end in ["finalise", "drop", "drop empty"] {
        let (_disk, store) = joined(1);
        let mut old = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
        if end != "drop empty" {
            put(&mut old, &bytes(9, 700)).unwrap();
        }
        let storage = old.storage().clone();
        store.delete(&storage, block(1).id, block(1).stamp, NOW).unwrap();
        assert_eq!(state(&store, 1), None);
        let mut new = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
        put(&mut new, &bytes(1, 300)).unwrap();
        if end == "finalise" {
            assert!(matches!(old.finalise(), Err(StoreError::Removed(_))));
        }
        drop(old);
        assert_eq!(state(&store, 1), Some(ReplicaState::BeingWritten), "{end}: the new writer goes on");
        new.finalise().unwrap();
        drop(new);
        assert_eq!(read(&store, 1).unwrap(), bytes(1, 300), "{end}");
        assert_eq!(store.counts().reserved_bytes, 0, "{end}");
    }
}

#[test]
fn a_replica_that_is_deleted_while_it_is_written_is_neither_acknowledged_nor_reported() {
    let (_disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 700)).unwrap();
    let storage = writer.storage().clone();
    store.delete(&storage, block(1).id, block(1).stamp, NOW).unwrap();
    assert!(matches!(writer.finalise(), Err(StoreError::Removed(_))));
    drop(writer);
    assert_eq!(state(&store, 1), None);
    assert_eq!(store.changes(&storage, 1, 10).unwrap(), [], "nobody had heard of it");
    assert_eq!((store.counts().reserved_bytes, store.counts().finalized), (0, 0));
}

#[test]
fn sc_49_that_a_replica_is_not_there_is_told_again_to_whoever_wants_it_deleted() {
    let (_, store) = joined(1);
    let done = store_block(&store, 1, 700).unwrap();
    let told = store.changes(&done.storage, 1, 9).unwrap().len() as u64;
    let gone = block(2);
    store.delete(&done.storage, gone.id, gone.stamp, NOW).unwrap();
    let changes = store.changes(&done.storage, told + 1, 9).unwrap();
    let seen: Vec<_> = changes.iter().map(|change| (change.id, change.stamp, change.state)).collect();
    assert_eq!(seen, [(gone.id.raw(), gone.stamp.raw(), WireState::Deleted as i32)]);
}

#[test]
fn a_copy_replaces_what_cannot_be_served_and_nothing_else() {
    let newer = BlockRef { stamp: block(1).stamp.next(), ..block(1) };
    let copy = |store: &Store, block: &BlockRef| store.create_copy(block, None, ChunkFormat::CRC32C_512);
    let (disk, store) = joined(1);
    let mut half = store.create(&newer, None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut half, &bytes(1, 700)).unwrap();
    assert!(matches!(copy(&store, &newer), Err(StoreError::Exists(_))), "it is being written");
    drop(half);
    assert!(matches!(copy(&store, &block(1)), Err(StoreError::Exists(_))), "of a newer stamp than the copy");
    assert!(matches!(store.create(&newer, None, ChunkFormat::CRC32C_512), Err(StoreError::Exists(_))), "no copy");
    let mut writer = copy(&store, &newer).unwrap();
    put(&mut writer, &bytes(1, 900)).unwrap();
    let done = writer.finalise().unwrap();
    assert!(matches!(copy(&store, &newer), Err(StoreError::Exists(_))), "it is whole");
    assert!(disk.files().iter().any(|file| file.contains("/trash/")), "what was there is kept a while");
    store.open_reader(&newer).unwrap().mark_corrupt();
    let mut writer = copy(&store, &newer).unwrap();
    put(&mut writer, &bytes(1, 900)).unwrap();
    writer.finalise().unwrap();
    let states: Vec<i32> = store.changes(&done.storage, 1, 99).unwrap().iter().map(|change| change.state).collect();
    let wire = [
        WireState::WaitingRecovery,
        WireState::Deleted,
        WireState::Finalized,
        WireState::Corrupt,
        WireState::Deleted,
        WireState::Finalized,
    ];
    assert_eq!(states, wire.map(|state| state as i32), "and all of it is told");
    let newest = BlockRef { stamp: newer.stamp.next(), ..block(1) };
    let mut writer = copy(&store, &newest).unwrap();
    put(&mut writer, &bytes(1, 900)).unwrap();
    assert_eq!(writer.finalise().unwrap().stamp, newest.stamp, "a whole one of an older stamp makes room");
    assert!(matches!(copy(&store, &newer), Err(StoreError::Exists(_))), "and never the other way round");
}

#[test]
fn what_a_disk_without_room_cannot_take_goes_to_another() {
    let disk = MemDisk::new();
    disk.add_device(Path::new("/disk0"), 2 << 20);
    let store = open(&disk, 2).unwrap();
    store.join(&ClusterId::new("1"), &PoolId::new("1")).unwrap();
    let storages: Vec<StorageId> =
        store.reports().iter().map(|report| StorageId::parse(&report.storage).unwrap()).collect();
    for n in 0..5 {
        assert_eq!(store_block(&store, n, 500_000).unwrap().storage, storages[1]);
    }
    let large = BlockRef { len_bytes: 100 << 20, ..block(9) };
    let refused = store.create(&large, Some(&storages[0]), ChunkFormat::CRC32C_512);
    assert!(refused.is_err_and(|error| error.is_full()), "a disk that is named is not replaced by another");
    assert_eq!(store.counts().reserved_bytes, 0);
    assert!(store.reports().iter().all(|report| !report.failed));
}

#[test]
fn sc_54_a_volume_that_cannot_be_read_at_start_is_left_out_and_comes_back() {
    let (disk, store) = joined(2);
    (0..6).for_each(|n| drop(store_block(&store, n, 100).unwrap()));
    drop(store);
    disk.process_died();
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on("disk1/identity"));
    let (store, problems) = Store::open(&disk.shared(), &dirs(2), options(), &SeededRandom::new(1), NOW).unwrap();
    assert_eq!((problems.len(), store.reports().len()), (1, 1));
    drop(store);
    disk.process_died();
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on("disk0/identity"));
    assert!(Store::open(&disk.shared(), &dirs(2), options(), &SeededRandom::new(1), NOW).is_err(), "none is left");
    disk.process_died();
    disk.clear_faults();
    let store = open(&disk, 2).unwrap();
    (0..6).for_each(|n| assert_eq!(read(&store, n).unwrap(), bytes(n, 100)));
}

#[test]
fn sc_88_only_a_node_with_all_its_disks_says_that_it_has_no_replica() {
    let (disk, store) = joined(2);
    (0..6).for_each(|n| drop(store_block(&store, n, 100).unwrap()));
    assert!(matches!(store.progress(&block(9)), Err(StoreError::NotFound(_))));
    drop(store);
    disk.process_died();
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on("disk1/identity"));
    let (store, _) = Store::open(&disk.shared(), &dirs(2), options(), &SeededRandom::new(1), NOW).unwrap();
    let said: Vec<_> = (0..6).map(|n| store.progress(&block(n))).collect();
    assert!(said.iter().any(Result::is_ok), "some are on the disk in use");
    let unsure = |said: &Result<_, StoreError>| matches!(said, Ok(_) | Err(StoreError::NotOnDisksInUse(_, 1)));
    assert!(said.iter().all(unsure) && said.iter().any(Result::is_err), "{said:?}");
}

#[test]
fn an_unreadable_meta_file_costs_its_replica_and_not_the_volume() {
    let (disk, store) = joined(1);
    (0..3).for_each(|n| drop(store_block(&store, n, 100).unwrap()));
    drop(store);
    disk.process_died();
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on(&format!("blk_{}_", block(1).id.raw())));
    let store = open(&disk, 1).unwrap();
    assert_eq!(state(&store, 1), Some(ReplicaState::Corrupt));
    assert_eq!(read(&store, 2).unwrap(), bytes(2, 100));
    assert!(!store.reports()[0].failed);
}

#[test]
fn the_trash_of_an_earlier_run_is_kept_its_time_and_makes_room_when_room_is_needed() {
    let (disk, store) = joined(1);
    let done = store_block(&store, 1, 1200).unwrap();
    store.delete(&done.storage, block(1).id, block(1).stamp, NOW).unwrap();
    drop(store);
    disk.process_died();
    let store = open(&disk, 1).unwrap();
    let trashed = |disk: &MemDisk| disk.files().iter().filter(|file| file.contains("/trash/")).count();
    store.tend(NOW.plus(Duration::from_secs(599)));
    assert_eq!(trashed(&disk), 2);
    store.tend(NOW.plus(Duration::from_secs(600)));
    assert_eq!(trashed(&disk), 0);
    assert_eq!(state(&store, 1), None, "what is in the trash is no replica");
}

#[test]
fn a_loan_is_called_back_by_every_change_of_its_replica() {
    type Change = fn(&Store, &StorageId);
    let changes: [(&str, Change); 5] = [
        ("deleted", |store, disk| store.delete(disk, block(0).id, GenerationStamp::FIRST, NOW).unwrap()),
        ("found damaged", |store, _| store.open_reader(&block(0)).unwrap().mark_corrupt()),
        ("of another stamp", |store, _| {
            let (volume, replica) = store.find(block(0).id).unwrap();
            let stamp = GenerationStamp::FIRST.next();
            volume.set_replica(block(0).id, Some(Replica { stamp, ..replica }));
        }),
        ("appended to", |store, _| {
            let (volume, replica) = store.find(block(0).id).unwrap();
            volume.set_replica(block(0).id, Some(Replica { state: ReplicaState::BeingWritten, ..replica }));
        }),
        ("on a disk that failed", |store, _| {
            store.find(block(0).id).unwrap().0.condemn("it burns".into());
        }),
    ];
    for (what, change) in changes {
        let (_disk, store) = joined(1);
        let disk = store_block(&store, 0, 1000).unwrap().storage;
        store_block(&store, 1, 1000).unwrap();
        let borrower = store.loans().borrower(None);
        let (lent, other) = (borrower.lend(block(0).id).unwrap(), borrower.lend(block(1).id).unwrap());
        // What changes nothing calls nothing back.
        read(&store, 0).unwrap();
        store.verify(&disk, (block(0).id, GenerationStamp::FIRST), None).unwrap();
        store_block(&store, 2, 10).unwrap();
        assert!(borrower.holds(lent), "{what}");
        change(&store, &disk);
        assert!(!borrower.holds(lent), "{what}");
        let whole_disk = what.contains("disk");
        assert_eq!(borrower.holds(other), !whole_disk, "{what}");
        assert_eq!(borrower.take_revoked(9).first(), Some(&lent), "{what}");
    }
}

/// The same changes as those that call loans back.
#[test]
fn files_stay_open_for_short_reads_until_their_replica_changes() {
    type Change = fn(&Store, &StorageId);
    let changes: [(&str, Change); 5] = [
        ("deleted", |store, disk| store.delete(disk, block(0).id, GenerationStamp::FIRST, NOW).unwrap()),
        ("found damaged", |store, _| store.open_shared(&block(0)).unwrap().mark_corrupt()),
        ("of another stamp", |store, _| {
            let (volume, replica) = store.find(block(0).id).unwrap();
            let stamp = GenerationStamp::FIRST.next();
            volume.set_replica(block(0).id, Some(Replica { stamp, ..replica }));
        }),
        ("appended to", |store, _| {
            let (volume, replica) = store.find(block(0).id).unwrap();
            volume.set_replica(block(0).id, Some(Replica { state: ReplicaState::BeingWritten, ..replica }));
        }),
        ("on a disk that failed", |store, _| {
            store.find(block(0).id).unwrap().0.condemn("it burns".into());
        }),
    ];
    for (what, change) in changes {
        let (disk, store) = joined(1);
        let storage = store_block(&store, 0, 1000).unwrap().storage;
        store_block(&store, 1, 1000).unwrap();
        let shared = |n: i64| {
            let reader = store.open_shared(&block(n))?;
            let mut data = vec![0; 1000];
            reader.read_data(0, &mut data).map(|()| data)
        };
        for n in [0, 1] {
            assert_eq!(shared(n).unwrap(), bytes(n, 1000), "{what}");
        }
        read(&store, 0).unwrap();
        store.verify(&storage, (block(0).id, GenerationStamp::FIRST), None).unwrap();
        assert_eq!(store.opened(), 2, "{what}: what changes nothing closes nothing");
        // No file is opened any more.
        disk.inject(DiskFault::lasting(DiskFaultKind::NoDescriptor).on("/current/"));
        let open_already = store.open_shared(&block(0)).unwrap();
        disk.clear_faults();
        change(&store, &storage);
        let all = what.contains("disk");
        assert_eq!(store.opened(), if all { 0 } else { 1 }, "{what}");
        assert!(shared(0).is_err(), "{what}");
        assert_eq!(shared(1).is_err(), all, "{what}: the other replica");
        let mut data = vec![0; 1000];
        open_already.read_data(0, &mut data).unwrap();
        assert_eq!(data, bytes(0, 1000), "{what}: who reads already reads on");
        if what == "deleted" {
            let mut writer = store.create(&block(0), None, ChunkFormat::CRC32C_512).unwrap();
            put(&mut writer, &bytes(77, 1000)).unwrap();
            writer.finalise().unwrap();
            assert_eq!(shared(0).unwrap(), bytes(77, 1000), "made anew with the same name and stamp");
        }
    }
}

#[test]
fn r_6_open_files_are_bounded_closed_when_nobody_reads_and_given_up_for_others() {
    let disk = MemDisk::new();
    let options = StoreOptions { max_opened: 4, ..options() };
    let (store, _) = Store::open(&disk.shared(), &dirs(1), options, &SeededRandom::new(7), NOW).unwrap();
    store.join(&ClusterId::new("1"), &PoolId::new("1")).unwrap();
    for n in 0..9 {
        store_block(&store, n, 100).unwrap();
        store.open_shared(&block(n)).unwrap();
    }
    assert_eq!(store.opened(), 4);
    store.tend(NOW);
    store.open_shared(&block(8)).unwrap();
    store.tend(NOW);
    assert_eq!(store.opened(), 1, "the others were not used for a round");
    // The process has no descriptor left: those that only wait are given back, and it is tried once more.
    disk.inject(DiskFault::once(DiskFaultKind::NoDescriptor).on("/current/"));
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 100));
    assert_eq!((disk.faults_fired(), store.opened()), (1, 0));
    disk.inject(DiskFault::once(DiskFaultKind::NoDescriptor).on("/current/"));
    assert!(store.open_reader(&block(1)).unwrap_err().is_exhausted(), "nothing is left to give up");
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
}

#[test]
fn what_hashes_do_not_cover_can_be_told_again() {
    let (_disk, store) = joined(1);
    let done = store_block(&store, 1, 100).unwrap();
    let mut writer = store.create(&block(2), None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(2, 100)).unwrap();
    drop(writer);
    store_block(&store, 3, 100).unwrap();
    store.open_reader(&block(3)).unwrap().mark_corrupt();
    let before = store.bucket_hashes(&done.storage).unwrap();
    store.forget_changes(&done.storage, before.sequence + 1);
    store.restate(&done.storage);
    let told = store.changes(&done.storage, before.sequence + 1, 99).unwrap();
    let states: Vec<(i64, i32)> = told.iter().map(|change| (change.id, change.state)).collect();
    assert_eq!(
        states,
        [(block(2).id.raw(), WireState::WaitingRecovery as i32), (block(3).id.raw(), WireState::Corrupt as i32)]
    );
    assert_eq!(store.bucket_hashes(&done.storage).unwrap().hashes, before.hashes);
}

#[test]
fn f_6_a_replica_is_read_whole_and_cleared_or_condemned() {
    let (disk, store) = joined(1);
    let done = store_block(&store, 1, 3000).unwrap();
    store_block(&store, 2, 0).unwrap();
    let (storage, stamp) = (&done.storage, GenerationStamp::FIRST);
    let last = |store: &Store| {
        let sequence = store.bucket_hashes(storage).unwrap().sequence;
        store.changes(storage, sequence, 1).unwrap().pop().unwrap()
    };
    let hashes = |store: &Store| store.bucket_hashes(storage).unwrap().hashes;
    let whole = hashes(&store);
    for n in [1, 2] {
        assert!(store.verify(storage, (block(n).id, stamp), None).unwrap());
        assert_eq!((last(&store).id, last(&store).verified), (block(n).id.raw(), true), "the namenode hears of it");
    }
    assert_eq!(hashes(&store), whole);
    // A read failed, the bytes are sound: it is served again.
    disk.inject(DiskFault::once(DiskFaultKind::ReadError).on("/current/"));
    assert!(store.verify(storage, (block(1).id, stamp), None).is_err());
    assert_eq!((state(&store, 1), last(&store).verified), (Some(ReplicaState::Corrupt), false));
    assert!(store.verify(storage, (block(1).id, stamp), None).unwrap());
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
    assert_eq!((last(&store).state, last(&store).verified), (WireState::Finalized as i32, true));
    assert_eq!(hashes(&store), whole);
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 3000));
    // Without descriptors nothing was looked at, and nothing is noted.
    let before = store.bucket_hashes(storage).unwrap().sequence;
    for read in 0..4 {
        disk.inject(DiskFault::once(DiskFaultKind::NoDescriptor).on("/current/").after(read));
        assert!(store.verify(storage, (block(1).id, stamp), None).is_err(), "read {read}");
        assert_eq!(store.bucket_hashes(storage).unwrap().sequence, before);
        assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
    }
    // Only what is meant, and only what is or was whole.
    assert!(matches!(store.verify(storage, (block(1).id, stamp.next()), None), Err(StoreError::NotFound(_))));
    assert!(matches!(store.verify(storage, (block(9).id, stamp), None), Err(StoreError::NotFound(_))));
    let half = store.create(&block(3), None, ChunkFormat::CRC32C_512).unwrap();
    assert!(matches!(store.verify(storage, (block(3).id, stamp), None), Err(StoreError::NotFound(_))));
    drop(half);
}

#[test]
fn f_6_rot_in_any_file_of_a_replica_is_found_when_it_is_read_whole() {
    for (meta, offset) in [(false, 0_u64), (false, 2999), (true, 2), (true, 9), (true, 30), (true, 60)] {
        let (disk, store) = joined(1);
        let done = store_block(&store, 1, 3000).unwrap();
        // Opened before: what was checked then is checked again.
        read(&store, 1).unwrap();
        let is_it = |file: &String| file.contains("blk_") && file.ends_with(".meta") == meta;
        let path = disk.files().into_iter().find(is_it).unwrap();
        disk.flip_bit(Path::new(&path), offset, 3).unwrap();
        let found = store.verify(&done.storage, (block(1).id, GenerationStamp::FIRST), None);
        assert!(!matches!(found, Ok(true)), "byte {offset}");
        assert_eq!(state(&store, 1), Some(ReplicaState::Corrupt), "byte {offset}");
    }
}

#[test]
fn f_9_an_identity_that_could_not_be_synced_is_not_believed_at_the_second_look() {
    let (disk, store) = joined(2);
    let (node, first) = (store.node().clone(), store.reports()[0].storage.clone());
    drop(store);
    disk.process_died();
    disk.inject(DiskFault::once(DiskFaultKind::SyncError).on("disk0/identity"));
    let (dirs, random) = (dirs(2), SeededRandom::new(4));
    let (store, problems) = Store::open(&disk.shared(), &dirs, options(), &random, NOW).unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(store.node(), &node, "the other folder knows it");
    assert!(store.reports().iter().all(|report| report.storage != first));
}

#[test]
fn terms_are_kept() {
    let (disk, store) = joined(2);
    store.raise_term(Term::from_raw(5)).unwrap();
    drop(store);
    disk.power_cut(&SeededRandom::new(1));
    assert_eq!(open(&disk, 2).unwrap().highest_term(), Term::from_raw(5));
}

#[test]
fn gaps_and_unaligned_packets_are_refused() {
    let (_disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 1000)).unwrap();
    let data = bytes(1, 512);
    let sums = ChunkFormat::CRC32C_512.compute(&data);
    for offset in [1000, 1024, 100, u64::MAX] {
        let refused = writer.write(offset, &data, &sums);
        assert!(matches!(refused, Err(StoreError::NotContinuous { .. })), "{offset}");
    }
    assert!(matches!(writer.write(512, &data, &sums[1..]), Err(StoreError::Checksums(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn sc_34_resent_packets_around_chunk_borders_keep_data_and_checksums_together(
        ends in proptest::collection::vec(1_usize..3000, 1..6), back in proptest::collection::vec(0_usize..4, 6)) {
        let (disk, store) = joined(1);
        let whole = bytes(1, 3000);
        let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
        let mut longest = 0;
        for (end, back) in ends.iter().zip(back) {
            // From the last chunk border or some chunks before it, as after a repair.
            let chunk = (longest / 512_usize).saturating_sub(back);
            let start = chunk * 512;
            if *end <= start {
                continue;
            }
            let data = &whole[start..*end];
            writer.write(start as u64, data, &ChunkFormat::CRC32C_512.compute(data)).unwrap();
            longest = longest.max(*end);
            prop_assert_eq!(writer.len_bytes(), longest as u64);
        }
        writer.finalise().unwrap();
        prop_assert_eq!(read(&store, 1).unwrap(), &whole[..longest]);
        drop(writer);
        drop(store);
        disk.process_died();
        let store = open(&disk, 1).unwrap();
        prop_assert_eq!(read(&store, 1).unwrap(), &whole[..longest]);
    }
}
