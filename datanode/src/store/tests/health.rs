//! Disks that hang, fail, fill up and take no writes any more: each keeps its trouble to itself.

use std::sync::Arc;
use std::time::Duration;

use base::disk::{Cut, DiskCall, with_cut};

use super::pipeline::{send_acked, streaming};
use super::*;

fn at(secs: u64) -> Moment {
    Moment::after_start(Duration::from_secs(secs))
}

fn storages(store: &Store) -> Vec<StorageId> {
    store.health().into_iter().map(|(storage, ..)| storage).collect()
}

fn states(store: &Store) -> Vec<VolumeState> {
    store.health().into_iter().map(|(_, _, state, _)| state).collect()
}

/// Two volumes with five replicas each, of which the first one hangs in a sync.
struct Hung {
    disk: MemDisk,
    store: Arc<Store>,
    writer: std::thread::JoinHandle<Result<FinalisedReplica, StoreError>>,
}

impl Hung {
    fn begin(cut: Cut) -> Self {
        let (disk, store) = joined(2);
        for n in 0..10 {
            let storage = &storages(&store)[n as usize % 2];
            let mut writer = store.create(&block(n), Some(storage), ChunkFormat::CRC32C_512).unwrap();
            put(&mut writer, &bytes(n, 3000)).unwrap();
            writer.finalise().unwrap();
        }
        let store = Arc::new(store);
        let mut writer = store.create(&block(20), Some(&storages(&store)[0]), ChunkFormat::CRC32C_512).unwrap();
        put(&mut writer, &bytes(20, 3000)).unwrap();
        disk.inject(DiskFault::lasting(DiskFaultKind::Hang).on("/disk0/"));
        let writer = base::task::thread("hung", move || with_cut(cut, || writer.finalise())).unwrap();
        let calls = Arc::clone(&store.volumes[0].calls);
        while calls.under_way() == 0 {
            std::thread::yield_now();
        }
        store.watch(at(100));
        Self { disk, store, writer }
    }
    fn come_back(self) -> (MemDisk, Arc<Store>) {
        self.disk.clear_faults();
        self.writer.join().unwrap().unwrap();
        (self.disk, self.store)
    }
}

#[test]
fn sc_53_a_disk_that_does_not_answer_is_noticed_and_keeps_nobody_else() {
    let (told, heard) = std::sync::mpsc::sync_channel(1);
    let hung = Hung::begin(Cut::new(move || told.send(()).unwrap()));
    let store = &hung.store;
    store.watch(at(102));
    assert_eq!(states(store), [VolumeState::Working; 2], "it may be busy");
    store.watch(at(103));
    assert_eq!(states(store), [VolumeState::Slow, VolumeState::Working]);
    heard.try_recv().expect("whoever waits for it is told to go elsewhere");
    let report = store.reports().remove(0);
    assert_eq!((report.failed, report.available_bytes), (false, 0), "its replicas count, it gets no new ones");
    assert!(report.failure.contains("\"sync\" of /disk0/current/"), "{}", report.failure);
    // Nothing is begun on it, and nobody waits: neither reads nor writes, deletes nor terms.
    assert!(matches!(read(store, 0), Err(StoreError::VolumeFailed { .. })));
    let named = store.create(&block(21), Some(&storages(store)[0]), ChunkFormat::CRC32C_512);
    assert!(matches!(named, Err(StoreError::VolumeFailed { .. })));
    let stamp = GenerationStamp::FIRST;
    assert!(store.delete(&storages(store)[0], block(0).id, stamp, at(103)).is_err());
    assert!(matches!(store.begin_verify(&block(0)), Err(StoreError::VolumeFailed { .. })));
    assert_eq!(store.term_keepers(), storages(store)[1..]);
    store.raise_term(Term::from_raw(9)).unwrap();
    // The other one does everything.
    assert_eq!(store_block(store, 30, 500).unwrap().storage, storages(store)[1]);
    assert_eq!(read(store, 1).unwrap(), bytes(1, 3000));
    store.tend(at(104));
    let (_, store) = hung.come_back();
    store.watch(at(105));
    assert_eq!(states(&store), [VolumeState::Working; 2], "it was only slow");
    assert_eq!(read(&store, 20).unwrap(), bytes(20, 3000), "what was under way went well");
}

#[test]
fn sc_54_a_disk_that_hung_is_checked_and_nothing_on_it_is_forgotten() {
    let hung = Hung::begin(Cut::new(|| {}));
    let (store, changes) = (&hung.store, hung.store.health_changes());
    let before = store.bucket_hashes(&storages(store)[0]).unwrap();
    store.watch(at(110));
    assert_eq!(states(store), [VolumeState::Hung, VolumeState::Working]);
    assert!(store.reports()[0].failed, "its replicas count as away");
    assert_eq!((store.counts().volumes_failed, store.health_changes()), (1, changes + 1));
    store.check_again(&storages(store)[0]);
    assert_eq!(states(store)[0], VolumeState::Hung, "a call is still out: nobody waits for a check");
    let (disk, store) = hung.come_back();
    store.watch(at(111));
    assert_eq!(states(&store)[0], VolumeState::Hung, "not before it was checked");
    store.check_again(&storages(&store)[0]);
    assert_eq!(states(&store), [VolumeState::Working; 2]);
    assert!(!store.reports()[0].failed);
    assert!(!disk.files().iter().any(|file| file.ends_with("/check")), "the check leaves nothing");
    let after = store.bucket_hashes(&storages(&store)[0]).unwrap();
    assert_eq!((after.incarnation, after.replicas), (before.incarnation, before.replicas + 1));
    for n in (0..10).chain([20]) {
        assert_eq!(read(&store, n).unwrap(), bytes(n, 3000));
    }
}

#[test]
fn f_9_a_disk_that_fails_its_check_stays_out() {
    for call in [DiskCall::Create, DiskCall::Write, DiskCall::Sync, DiskCall::Read, DiskCall::Remove] {
        let hung = Hung::begin(Cut::new(|| {}));
        hung.store.watch(at(110));
        let (disk, store) = hung.come_back();
        store.watch(at(111));
        disk.inject(DiskFault::lasting(DiskFaultKind::Error).at(call).on("/disk0/check"));
        store.check_again(&storages(&store)[0]);
        let (_, _, state, why) = store.health().remove(0);
        assert_eq!(state, VolumeState::Failed, "{}", call.name());
        assert!(why.contains("the check after that failed"), "{why}");
        disk.clear_faults();
        store.check_again(&storages(&store)[0]);
        store.watch(at(112));
        assert_eq!(states(&store)[0], VolumeState::Failed, "for this run");
    }
}

#[test]
fn f_10_a_full_disk_that_hung_is_taken_up_again() {
    let hung = Hung::begin(Cut::new(|| {}));
    hung.store.watch(at(110));
    let (disk, store) = hung.come_back();
    store.watch(at(111));
    disk.inject(DiskFault::lasting(DiskFaultKind::Full));
    store.check_again(&storages(&store)[0]);
    assert_eq!(states(&store), [VolumeState::Working; 2]);
    assert_eq!(read(&store, 0).unwrap(), bytes(0, 3000));
}

#[test]
fn f_3_a_stop_at_any_step_of_a_check_costs_nothing() {
    for point in [CrashPoint::CheckCreate, CrashPoint::CheckSync, CrashPoint::CheckRemove] {
        for side in [Side::Before, Side::After] {
            for seed in 0..4 {
                let hung = Hung::begin(Cut::new(|| {}));
                hung.store.watch(at(110));
                let (disk, store) = hung.come_back();
                store.watch(at(111));
                // The first removal is of what an earlier check left, and finds nothing.
                let second = point == CrashPoint::CheckRemove && side == Side::Before;
                disk.stop_at(point, side, 1 + u64::from(second));
                store.check_again(&storages(&store)[0]);
                assert!(disk.stopped(), "{} is reached", point.name());
                drop(store);
                disk.power_cut(&SeededRandom::new(seed));
                let store = open(&disk, 2).unwrap();
                (0..10).for_each(|n| assert_eq!(read(&store, n).unwrap(), bytes(n, 3000)));
            }
        }
    }
}

#[test]
fn sc_53_a_file_that_the_kernel_sends_is_watched_like_one_that_is_read() {
    let (_disk, store) = joined(1);
    store_block(&store, 1, 3000).unwrap();
    let reader = store.open_reader(&block(1)).unwrap();
    let reading = reader.reading();
    store.watch(at(100));
    store.watch(at(103));
    assert_eq!(states(&store), [VolumeState::Slow]);
    store.watch(at(110));
    assert_eq!(states(&store), [VolumeState::Hung]);
    drop(reading);
    store.watch(at(111));
    store.check_again(&storages(&store)[0]);
    assert_eq!(states(&store), [VolumeState::Working]);
}

#[test]
fn sc_48_a_sync_that_fails_for_want_of_room_condemns_as_any_other_and_is_never_tried_again() {
    type Run = fn(&Store, &mut ReplicaWriter) -> Result<(), StoreError>;
    let cases: [(&str, DiskCall, Run); 6] = [
        ("/current/", DiskCall::Sync, |_, writer| writer.sync()),
        (".meta", DiskCall::Sync, |_, writer| writer.sync()),
        (".open", DiskCall::Sync, |_, writer| writer.sync()),
        ("/current/", DiskCall::SyncDir, |_, writer| writer.sync()),
        (".meta", DiskCall::Sync, |_, writer| writer.finalise().map(drop)),
        ("/term", DiskCall::Sync, |store, _| store.raise_term(Term::from_raw(9))),
    ];
    for (file, call, run) in cases {
        let what = format!("{} of {file}", call.name());
        let (disk, store) = joined(1);
        store_block(&store, 2, 3000).unwrap();
        let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
        send_acked(&mut writer, &bytes(1, 700), 0, 0, 700);
        disk.inject(DiskFault::once(DiskFaultKind::Full).at(call).on(file));
        let failed = run(&store, &mut writer).unwrap_err();
        assert!(!failed.is_full(), "{what}: it is no matter of room: {failed}");
        assert_eq!((disk.faults_fired(), states(&store)[0]), (1, VolumeState::Failed), "{what}");
        // The next sync would say yes, and prove nothing: nobody gets to it.
        assert!(writer.sync().is_err() && writer.finalise().is_err(), "{what}");
        drop(writer);
        let resumed = streaming(&store, 1, 0, 700);
        assert!(matches!(resumed, Err(StoreError::VolumeFailed { .. })), "{what}: {resumed:?}");
        assert!(matches!(read(&store, 1), Err(StoreError::VolumeFailed { .. })), "{what}");
        assert!(read(&store, 2).is_err() && store_block(&store, 3, 100).is_err(), "{what}");
        assert_eq!(store.counts().reserved_bytes, 0, "{what}");
        // A write that fails for the same reason is refused cleanly.
        let (disk, store) = joined(1);
        disk.inject(DiskFault::once(DiskFaultKind::NoSpace).on("/current/"));
        assert!(store_block(&store, 1, 100).unwrap_err().is_full());
        assert_eq!(states(&store)[0], VolumeState::Working);
    }
}

#[test]
fn d_4_sc_48_what_could_not_be_synced_is_not_whole_after_a_restart_either() {
    for (file, call) in [(".meta", DiskCall::Sync), ("/current/", DiskCall::SyncDir)] {
        let what = format!("{} of {file}", call.name());
        let (disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
        put(&mut writer, &bytes(1, 700)).unwrap();
        disk.inject(DiskFault::once(DiskFaultKind::SyncError).at(call).on(file));
        assert!(writer.finalise().is_err(), "{what}");
        assert_eq!(disk.faults_fired(), 1, "{what}");
        drop((writer, store));
        // What is in the page cache is still there, and looks as if it had been written.
        disk.process_died();
        let store = open(&disk, 1).unwrap();
        assert_eq!(states(&store)[0], VolumeState::Working, "{what}");
        assert_ne!(state(&store, 1), Some(ReplicaState::Finalized), "{what}: a power cut would take it");
    }
}

/// What was flushed and could not be synced looks as before to the next run of the node, and its syncs say yes.
#[test]
fn sc_48_a_recovery_after_a_failed_sync_ends_on_what_is_on_the_disk() {
    for killed in [false, true] {
        let (disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
        let whole = bytes(1, 70_000);
        put(&mut writer, &whole).unwrap();
        disk.inject(DiskFault::once(DiskFaultKind::SyncError).at(DiskCall::Sync).on("/current/"));
        assert!(writer.sync().is_err());
        drop((writer, store));
        disk.process_died();
        if killed {
            // In the middle of the next start, before anything was synced.
            disk.stop_at(CrashPoint::VolumeSync, Side::Before, 1);
            assert!(open(&disk, 1).is_err());
            disk.process_died();
        }
        let store = open(&disk, 1).unwrap();
        let storage = storages(&store).remove(0);
        let recovery = GenerationStamp::from_raw(GenerationStamp::FIRST.raw() + 1);
        let found = store.prepare_recovery(&storage, block(1).id, recovery).unwrap().unwrap();
        assert_eq!(found.len_bytes, 70_000);
        store.finish_recovery(&storage, block(1).id, recovery, found.len_bytes).unwrap();
        assert!(!disk.files().iter().any(|file| file.ends_with("/unsynced")), "{:?}", disk.files());
        drop(store);
        disk.power_cut(&SeededRandom::new(7));
        assert_eq!(read(&open(&disk, 1).unwrap(), 1).unwrap(), whole, "killed at the next start: {killed}");
    }
}

#[test]
fn sc_48_a_full_disk_that_had_a_failed_sync_starts_and_its_note_stays_until_there_is_room() {
    let (disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 7000)).unwrap();
    disk.inject(DiskFault::once(DiskFaultKind::SyncError).at(DiskCall::Sync).on("/current/"));
    assert!(writer.sync().is_err());
    drop((writer, store));
    let noted = || disk.files().iter().any(|file| file.ends_with("/unsynced"));
    for (kind, stays) in [(Some(DiskFaultKind::Full), true), (Some(DiskFaultKind::ReadOnly), true), (None, false)] {
        disk.process_died();
        if let Some(kind) = kind {
            disk.inject(DiskFault::lasting(kind).on("/current/"));
        }
        let store = open(&disk, 1).unwrap();
        assert_eq!(state(&store, 1), Some(ReplicaState::WaitingRecovery), "{kind:?}");
        assert_eq!(noted(), stays, "{kind:?}");
        disk.clear_faults();
    }
}

/// One file that finds no room leaves the others no less durable, and a note that stays keeps nothing from opening.
#[test]
fn sc_48_what_can_be_written_once_more_is_and_a_note_that_stays_is_no_fault() {
    let (disk, store) = joined(1);
    let mut writers: Vec<_> =
        (1..=2).map(|n| store.create(&block(n), None, ChunkFormat::CRC32C_512).unwrap()).collect();
    for (n, writer) in writers.iter_mut().enumerate() {
        put(writer, &bytes(n as i64 + 1, 7000)).unwrap();
    }
    disk.inject(DiskFault::once(DiskFaultKind::SyncError).at(DiskCall::Sync).on("/current/"));
    assert!(writers[1].sync().is_err());
    drop((writers, store));
    disk.process_died();
    // The first of the two finds no room.
    disk.inject(DiskFault::lasting(DiskFaultKind::Full).at(DiskCall::Write).on(&format!("/{}", block(1).id)));
    drop(open(&disk, 1).unwrap());
    let noted = || disk.files().iter().any(|file| file.ends_with("/unsynced"));
    assert!(disk.faults_fired() > 1 && noted());
    disk.clear_faults();
    disk.power_cut(&SeededRandom::new(7));
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadOnly).on("/unsynced"));
    let store = open(&disk, 1).unwrap();
    assert_eq!(states(&store)[0], VolumeState::Working);
    let storage = storages(&store).remove(0);
    let recovery = GenerationStamp::from_raw(GenerationStamp::FIRST.raw() + 1);
    assert_eq!(store.prepare_recovery(&storage, block(2).id, recovery).unwrap().unwrap().len_bytes, 7000);
}

#[test]
fn sc_48_a_disk_that_is_looked_at_for_room_and_cannot_sync_is_out() {
    for kind in [DiskFaultKind::Full, DiskFaultKind::SyncError] {
        let (disk, store) = joined(1);
        disk.inject(DiskFault::once(DiskFaultKind::NoSpace).on("/current/"));
        assert!(store_block(&store, 1, 100).unwrap_err().is_full());
        disk.inject(DiskFault::once(kind).at(DiskCall::Sync).on("/check"));
        store.tend(at(5));
        assert_eq!(states(&store)[0], VolumeState::Failed, "{kind:?}");
    }
}

/// A volume with room of its own on a small disk.
fn small(capacity_bytes: u64) -> (MemDisk, Store) {
    let disk = MemDisk::new();
    disk.add_device(Path::new("/disk0"), capacity_bytes);
    let store = with_reserve(&disk);
    store.join(&ClusterId::new("1"), &PoolId::new("1")).unwrap();
    (disk, store)
}

fn with_reserve(disk: &MemDisk) -> Store {
    let options = StoreOptions { reserve_bytes: 2 << 20, ..StoreOptions::default() };
    let (store, problems) = Store::open(&disk.shared(), &dirs(1), options, &SeededRandom::new(7), NOW).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    store
}

/// Somebody else fills the disk to the last block.
fn fill(disk: &MemDisk) {
    let path = Path::new("/disk0/somebody's");
    let other = disk.shared().create_new(path, CrashPoint::BlockCreate).unwrap();
    let mut at_bytes = 0;
    while other.write_at(&[1; 4096], at_bytes).is_ok() {
        at_bytes += 4096;
    }
}

#[test]
fn sc_57_a_disk_filled_to_the_last_block_starts_deletes_and_recovers() {
    let (disk, store) = small(16 << 20);
    assert!(disk.files().contains(&"/disk0/reserve".to_owned()));
    (0..4).for_each(|n| drop(store_block(&store, n, 100_000).unwrap()));
    fill(&disk);
    assert!(store_block(&store, 9, 100).unwrap_err().is_full());
    drop(store);
    disk.process_died();
    // It starts, keeps a term, serves, refuses cleanly, and deletes.
    let store = with_reserve(&disk);
    store.raise_term(Term::from_raw(7)).unwrap();
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 100_000));
    assert!(store_block(&store, 9, 100).unwrap_err().is_full());
    let storage = &storages(&store)[0];
    store.delete(storage, block(0).id, GenerationStamp::FIRST, NOW).unwrap();
    assert_eq!((state(&store, 0), states(&store)[0]), (None, VolumeState::Working));
    // Space returns with the trash, and the room is set aside again when there is plenty.
    disk.shared().remove_file(Path::new("/disk0/somebody's"), CrashPoint::BlockRemove).unwrap();
    store.tend(at(5));
    assert!(disk.files().contains(&"/disk0/reserve".to_owned()));
    store_block(&store, 9, 100).unwrap();
}

#[test]
fn sc_57_where_no_room_is_left_even_for_the_trash_a_delete_frees_space_at_once() {
    let (disk, store) = small(16 << 20);
    (0..3).for_each(|n| drop(store_block(&store, n, 100_000).unwrap()));
    // Names need room, too: nothing can be created or renamed, removed it can be.
    disk.inject(DiskFault::lasting(DiskFaultKind::Full).on("/trash"));
    let before = disk.shared().space(Path::new("/disk0")).unwrap().available_bytes;
    let storage = &storages(&store)[0];
    store.delete(storage, block(0).id, GenerationStamp::FIRST, NOW).unwrap();
    assert!(!disk.files().contains(&"/disk0/reserve".to_owned()), "the room went first");
    let after = disk.shared().space(Path::new("/disk0")).unwrap().available_bytes;
    assert!(after >= before + 100_000, "{before} {after}");
    assert_eq!(states(&store)[0], VolumeState::Working);
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 100_000));
}

#[test]
fn f_3_a_stop_at_any_step_around_the_room_for_deletes_costs_nothing() {
    for (point, side) in [CrashPoint::RoomAllocate, CrashPoint::RoomRemove]
        .into_iter()
        .flat_map(|point| [(point, Side::Before), (point, Side::After)])
    {
        for seed in 0..4 {
            let (disk, store) = small(16 << 20);
            (0..3).for_each(|n| drop(store_block(&store, n, 5000).unwrap()));
            disk.inject(DiskFault::lasting(DiskFaultKind::Full).on("/trash"));
            let storage = storages(&store).remove(0);
            if point == CrashPoint::RoomAllocate {
                store.delete(&storage, block(0).id, GenerationStamp::FIRST, NOW).unwrap();
                disk.stop_at(point, side, 1);
                store.tend(at(5));
            } else {
                disk.stop_at(point, side, 1);
                assert!(store.delete(&storage, block(0).id, GenerationStamp::FIRST, NOW).is_err());
            }
            assert!(disk.stopped(), "{} is reached", point.name());
            drop(store);
            disk.clear_faults();
            disk.power_cut(&SeededRandom::new(seed));
            let store = with_reserve(&disk);
            (1..3).for_each(|n| assert_eq!(read(&store, n).unwrap(), bytes(n, 5000)));
        }
    }
}

#[test]
fn sc_55_used_bytes_are_those_that_the_next_start_counts() {
    let (disk, store) = joined(1);
    for n in 0..6 {
        store_block(&store, n, 1000 + 700 * n as usize).unwrap();
    }
    let mut half = store.create(&block(9), None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut half, &bytes(9, 700)).unwrap();
    drop(half);
    let storage = &storages(&store)[0];
    store.delete(storage, block(2).id, GenerationStamp::FIRST, NOW).unwrap();
    // Replicas without leaves get them from the scrubber, which makes their files longer.
    let mut scrub = store.scrubs(ScrubOptions { rate_bytes_per_s: 1 << 40, period: Duration::from_secs(1) }).remove(0);
    for n in 0..200 {
        scrub.turn(at(n), n);
    }
    let used_bytes = store.counts().used_bytes;
    assert_eq!(store.counts().reserved_bytes, 0);
    drop((scrub, store));
    disk.process_died();
    assert_eq!(open(&disk, 1).unwrap().counts().used_bytes, used_bytes);
}

#[test]
fn sc_52_an_error_on_data_or_checksums_and_a_missing_file_reach_the_namenode_as_damage() {
    enum Spoil {
        Error(&'static str),
        Missing(&'static str),
    }
    for spoil in [Spoil::Error("data"), Spoil::Error("meta"), Spoil::Missing("data"), Spoil::Missing("meta")] {
        let (disk, store) = joined(1);
        let done = store_block(&store, 1, 5000).unwrap();
        store_block(&store, 2, 5000).unwrap();
        let (Spoil::Error(which) | Spoil::Missing(which)) = spoil;
        let name = block(1).id.to_string();
        let file =
            disk.files().into_iter().find(|file| file.contains(&name) && file.ends_with(".meta") == (which == "meta"));
        let file = file.unwrap();
        match spoil {
            // The data's path is a part of no other one.
            Spoil::Error("data") => {
                disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on(&file).at(DiskCall::Read))
            }
            Spoil::Error(_) => disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on(&file)),
            Spoil::Missing(_) => {
                disk.shared().remove_file(Path::new(&file), CrashPoint::BlockRemove).unwrap();
            }
        }
        assert!(read(&store, 1).is_err());
        let last = store.changes(&done.storage, 1, 10).unwrap().pop().unwrap();
        assert_eq!((last.id, last.state), (block(1).id.raw(), WireState::Corrupt as i32), "{file}");
        assert_eq!(states(&store)[0], VolumeState::Working, "a bad sector is not a bad disk");
        assert_eq!(read(&store, 2).unwrap(), bytes(2, 5000));
    }
}

#[test]
fn f_10_a_disk_that_runs_out_of_names_gets_nothing_before_it_takes_a_file_again() {
    let (disk, store) = joined(2);
    let storages = storages(&store);
    // Bytes are there: it is the inodes that are gone.
    disk.inject(DiskFault::lasting(DiskFaultKind::Full).at(DiskCall::Create).on("/disk0/"));
    let refused = store.create(&block(1), Some(&storages[0]), ChunkFormat::CRC32C_512);
    assert!(refused.unwrap_err().is_full());
    let report = store.reports().remove(0);
    assert_eq!((report.state.as_str(), report.available_bytes), ("working", 0));
    (2..6).for_each(|n| assert_eq!(store_block(&store, n, 100).unwrap().storage, storages[1]));
    store.tend(at(5));
    assert_eq!(store.reports()[0].available_bytes, 0, "still");
    disk.clear_faults();
    store.tend(at(10));
    assert!(store.reports()[0].available_bytes > 0);
    let mut writer = store.create(&block(1), Some(&storages[0]), ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(1, 100)).unwrap();
    writer.finalise().unwrap();
    assert_eq!(store.counts().reserved_bytes, 0);
}
