//! Who changes the files of a replica while somebody takes it over, and what is left when that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use base::disk::DiskCall;
use transfer::WriteStage;

use super::pipeline::{FORMAT, FRAME_BYTES, append, open_again, read_open, send, send_acked, stamp, streaming, wish};
use super::*;

fn storages(store: &Store) -> Vec<StorageId> {
    store.health().into_iter().map(|(storage, ..)| storage).collect()
}
fn prepare(store: &Store, recovery: u64) -> Result<Option<FoundReplica>, StoreError> {
    store.prepare_recovery(&storages(store)[0], block(1).id, stamp(recovery))
}
fn finish(store: &Store, recovery: u64, len_bytes: u64) -> Result<FinalisedReplica, StoreError> {
    store.finish_recovery(&storages(store)[0], block(1).id, stamp(recovery), len_bytes)
}
/// Bytes of both files of a whole replica without leaves.
fn whole_bytes(len_bytes: u64) -> u64 {
    len_bytes + FORMAT.checksums_bytes(len_bytes) + FRAME_BYTES
}

/// Does something on a thread of its own until it hangs in a call of the disk.
fn hang<T: Send + 'static>(
    (disk, store): (&MemDisk, &Arc<Store>),
    fault: DiskFault,
    run: impl FnOnce(&Store) -> T + Send + 'static,
) -> JoinHandle<T> {
    let (before, store) = (disk.faults_fired(), Arc::clone(store));
    disk.inject(fault);
    let running = base::task::thread("hangs", move || run(&store)).unwrap();
    while disk.faults_fired() == before {
        assert!(!running.is_finished(), "it does not meet the fault");
        std::thread::yield_now();
    }
    running
}

#[test]
fn sc_26_a_recovery_waits_until_the_files_of_the_one_before_are_not_cut_any_more() {
    let (disk, store) = joined(1);
    let (whole, store) = (bytes(1, 1300), Arc::new(store));
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 1300).unwrap();
    drop(writer);
    prepare(&store, 5).unwrap();
    let fault = DiskFault::once(DiskFaultKind::Hang).at(DiskCall::SetLen);
    let late = hang((&disk, &store), fault, |store| finish(store, 5, 600));
    assert!(matches!(prepare(&store, 7), Err(StoreError::Busy(_))), "a cut is under way");
    let storage = storages(&store).remove(0);
    assert!(matches!(store.delete(&storage, block(1).id, stamp(5), NOW), Err(StoreError::Busy(_))));
    disk.clear_faults();
    assert!(
        matches!(late.join().unwrap(), Err(StoreError::Superseded(_))),
        "it was overtaken, and touches nothing more"
    );
    assert_eq!(prepare(&store, 7).unwrap().unwrap().len_bytes, 600);
    finish(&store, 7, 600).unwrap();
    assert_eq!(read_open(&store).unwrap(), &whole[..600]);
    assert_eq!(store.counts().used_bytes, whole_bytes(600));
    drop(store);
    disk.power_cut(&SeededRandom::new(1));
    assert_eq!(read_open(&open_again(&disk)).unwrap(), &whole[..600]);
}

#[test]
fn sc_34_a_writer_that_takes_its_empty_replica_away_is_in_nobodys_way() {
    let (disk, store) = joined(1);
    let store = Arc::new(store);
    let writer = store.create(&block(1), None, FORMAT).unwrap();
    let open = Arc::clone(&store.volumes[0].state.lock().open[&block(1).id]);
    let ends = hang((&disk, &store), DiskFault::once(DiskFaultKind::Hang).at(DiskCall::Remove), |_| drop(writer));
    let other = Arc::clone(&store);
    let goes_on = base::task::thread("goes-on", move || streaming(&other, 5, 0, 0));
    while !open.is_stopped() {
        std::thread::yield_now();
    }
    disk.clear_faults();
    ends.join().unwrap();
    let mut writer = goes_on.unwrap().join().unwrap().unwrap();
    send(&mut writer, &bytes(1, 700), 0, 700).unwrap();
}

#[test]
fn sc_59_a_creator_that_hangs_is_waited_for_and_sets_nothing_of_its_successor_aside() {
    for file in ["/current/", ".meta"] {
        let (disk, store) = joined(1);
        let store = Arc::new(store);
        let fault = DiskFault::once(DiskFaultKind::Hang).at(DiskCall::Create).on(file);
        let late = hang((&disk, &store), fault, |store| store.create(&block(1), None, FORMAT));
        let storage = storages(&store).remove(0);
        let deleted = store.delete(&storage, block(1).id, block(1).stamp, NOW);
        assert!(matches!(deleted, Err(StoreError::Busy(_))), "{file}: {deleted:?}");
        assert!(matches!(store.create(&block(1), None, FORMAT), Err(StoreError::Exists(_))), "{file}");
        disk.clear_faults();
        let mut late = late.join().unwrap().unwrap();
        assert!(send(&mut late, &bytes(9, 700), 0, 700).is_err(), "{file}: it was stopped");
        store.delete(&storage, block(1).id, block(1).stamp, NOW).unwrap();
        store_block(&store, 1, 900).unwrap();
        drop(late);
        assert_eq!(read(&store, 1).unwrap(), bytes(1, 900), "{file}");
        assert_eq!(store.counts().reserved_bytes, 0, "{file}");
    }
}

#[test]
fn sc_35_who_waited_for_one_writer_does_not_take_the_replica_from_the_next_one() {
    let (disk, store) = joined(1);
    let (whole, store) = (bytes(1, 1300), Arc::new(store));
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    let stops = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stops);
    writer.open().on_stop(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let fault = DiskFault::once(DiskFaultKind::Hang).at(DiskCall::OpenForWriting).on(".meta");
    let first = hang((&disk, &store), fault, |store| streaming(store, 1, 0, 700));
    let second = {
        let store = Arc::clone(&store);
        base::task::thread("second", move || streaming(&store, 2, 0, 700)).unwrap()
    };
    while stops.load(Ordering::SeqCst) < 2 {
        assert!(!second.is_finished());
        std::thread::yield_now();
    }
    disk.clear_faults();
    let (mut first, second) = (first.join().unwrap().unwrap(), second.join().unwrap());
    assert!(matches!(second, Err(StoreError::Changed(_))), "{second:?}");
    send(&mut first, &whole, 512, 900).unwrap();
    let mut second = streaming(&store, 2, 0, 900).unwrap();
    assert!(matches!(send(&mut first, &whole, 512, 1000), Err(StoreError::Superseded(_))));
    send(&mut second, &whole, 512, 1300).unwrap();
    second.finalise().unwrap();
    assert_eq!(read_open(&store).unwrap(), whole);
}

#[test]
fn sc_28_a_takeover_that_fails_leaves_a_replica_that_waits_for_recovery_and_is_what_it_was() {
    for kind in [DiskFaultKind::Error, DiskFaultKind::Full] {
        for recovers in [false, true] {
            let what = format!("{kind:?} {recovers}");
            let (disk, store) = joined(1);
            let whole = bytes(1, 1300);
            let mut writer = store.create(&block(1), None, FORMAT).unwrap();
            send(&mut writer, &whole, 0, 700).unwrap();
            if recovers {
                prepare(&store, 1).unwrap();
            }
            disk.inject(DiskFault::once(kind).at(DiskCall::Rename).on(".meta"));
            let failed =
                if recovers { finish(&store, 1, 600).map(drop) } else { streaming(&store, 1, 0, 700).map(drop) };
            assert!(failed.is_err(), "{what}");
            let (_, replica) = store.replica(block(1).id).unwrap();
            let expected = Replica { state: ReplicaState::WaitingRecovery, stamp: stamp(0), len_bytes: 700 };
            assert_eq!(replica, expected, "{what}");
            assert_eq!(store.counts().reserved_bytes, 4096, "{what}: its first writer is still there");
            drop(writer);
            assert_eq!(store.counts().reserved_bytes, 0, "{what}");
            assert_eq!(store.replica(block(1).id).unwrap().1, expected, "{what}");
            let changes = store.changes(&storages(&store)[0], 1, 10).unwrap();
            assert_eq!(changes.last().map(|last| last.state), Some(WireState::WaitingRecovery as i32), "{what}");
            if kind == DiskFaultKind::Full {
                assert_eq!(prepare(&store, 2).unwrap().unwrap().len_bytes, 700, "{what}: nothing was cut");
                finish(&store, 2, 700).unwrap();
                assert_eq!(read_open(&store).unwrap(), &whole[..700], "{what}");
                assert_eq!(store.counts().used_bytes, whole_bytes(700), "{what}");
            }
        }
    }
}

#[test]
fn sc_55_a_takeover_that_comes_too_late_leaves_the_used_bytes_as_they_are() {
    let (disk, store) = joined(1);
    let (whole, store) = (bytes(1, 1300), Arc::new(store));
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    drop(writer);
    let used_bytes = store.counts().used_bytes;
    let fault = DiskFault::once(DiskFaultKind::Hang).at(DiskCall::OpenForWriting).on(".meta");
    let late = hang((&disk, &store), fault, |store| streaming(store, 1, 0, 700));
    // The recovery shuts it out, and is told to ask again.
    assert!(matches!(prepare(&store, 5), Err(StoreError::Busy(_))));
    disk.clear_faults();
    assert!(matches!(late.join().unwrap(), Err(StoreError::Changed(_))));
    assert_eq!((store.counts().used_bytes, store.counts().reserved_bytes), (used_bytes, 0));
    prepare(&store, 5).unwrap();
    finish(&store, 5, 700).unwrap();
    assert_eq!(store.counts().used_bytes, whole_bytes(700));
}

#[test]
fn d_6_an_empty_replica_that_was_there_before_stays_when_its_appender_leaves() {
    let (disk, store) = joined(1);
    store.create(&block(1), None, FORMAT).unwrap().finalise().unwrap();
    drop(append(&store, 1, 0).unwrap());
    let (_, replica) = store.replica(block(1).id).unwrap();
    assert_eq!((replica.state, replica.stamp), (ReplicaState::WaitingRecovery, stamp(1)));
    assert_eq!(prepare(&store, 2).unwrap().unwrap().len_bytes, 0);
    finish(&store, 2, 0).unwrap();
    assert_eq!(read_open(&store).unwrap(), b"");
    drop(store);
    disk.power_cut(&SeededRandom::new(1));
    assert_eq!(read_open(&open_again(&disk)).unwrap(), b"");
}

#[test]
fn sc_26_a_recovery_stops_the_writer_on_whichever_disk_of_the_node_it_is() {
    let (_disk, store) = joined(2);
    let (whole, disks) = (bytes(1, 1300), storages(&store));
    let mut writer = store.create(&block(1), Some(&disks[1]), FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    assert_eq!(prepare(&store, 5).unwrap(), None, "there is none on the disk that was asked");
    assert!(matches!(send(&mut writer, &whole, 512, 1300), Err(StoreError::Superseded(_))));
    drop(writer);
    let (holder, replica) = store.replica(block(1).id).unwrap();
    assert_eq!((&holder, replica.state, replica.len_bytes), (&disks[1], ReplicaState::WaitingRecovery, 700));
    let late =
        store.resume(&block(1), &wish(WriteStage::PipelineSetupStreamingRecovery, 4, 0, 700), Some(&disks[1]), FORMAT);
    assert!(matches!(late, Err(StoreError::Fenced { .. })), "{late:?}");
    // The disk that has it is asked later, and the recovery goes on there.
    assert_eq!(store.prepare_recovery(&disks[1], block(1).id, stamp(5)).unwrap().unwrap().len_bytes, 700);
    store.finish_recovery(&disks[1], block(1).id, stamp(5), 700).unwrap();
    assert_eq!(read_open(&store).unwrap(), &whole[..700]);
}

/// What a start of the node finds: a replica of 1,300 bytes, and nobody knows what was acknowledged of it.
fn found(whole: &[u8]) -> (MemDisk, Store) {
    let (disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, whole, 0, 1300).unwrap();
    drop((writer, store));
    disk.process_died();
    let store = open_again(&disk);
    (disk, store)
}
/// A copy that broke off after 1,300 bytes.
fn broken_off(whole: &[u8]) -> (MemDisk, Store) {
    let (disk, store) = joined(1);
    let mut copy = store.resume(&block(1), &wish(WriteStage::TransferRbw, 0, 0, 0), None, FORMAT).unwrap();
    send(&mut copy, whole, 0, 1300).unwrap();
    drop(copy);
    (disk, store)
}
/// What readers and writers are told: does it speak for what was acknowledged, and how much was that?
fn told(store: &Store) -> (bool, u64) {
    let told = store.progress(&block(1)).unwrap();
    (!told.unsure, told.acked_bytes)
}

#[test]
fn sc_27_what_was_found_speaks_for_its_pipeline_only_when_all_that_was_sent_is_acknowledged() {
    let whole = bytes(1, 2000);
    for stage in [WriteStage::PipelineSetupStreamingRecovery, WriteStage::PipelineSetupAppendRecovery] {
        for make in [found, broken_off] {
            for (min, max) in [(0, 1300), (700, 1300), (1024, 2000), (1299, 1300), (1300, 2000), (1, 1301)] {
                // Sent again up to here, and acknowledged, before the writer goes.
                for again in [0, 700, max - 1, max] {
                    let what = format!("{stage:?} {min}..{max} {again}");
                    let (_disk, store) = make(&whole);
                    let resumed = store.resume(&block(1), &wish(stage, 1, min, max), None, FORMAT);
                    let mut writer = resumed.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(told(&store), (false, 0), "{what}");
                    if min > 0 {
                        assert_eq!(
                            read_open(&store).unwrap(),
                            &whole[..min as usize],
                            "{what}: the writer knows of it"
                        );
                    }
                    if again > 0 {
                        send_acked(&mut writer, &whole, 7, 0, again as usize);
                    }
                    let speaks = again == max;
                    assert_eq!(told(&store), if speaks { (true, max) } else { (false, 0) }, "{what}");
                    drop(writer);
                    let found = prepare(&store, 5).unwrap().unwrap();
                    assert_eq!((found.len_bytes, found.acked_bytes), (again.max(1300), again.max(min)), "{what}");
                    assert_eq!(found.restarted, !speaks, "{what}");
                }
            }
        }
    }
}

#[test]
fn sc_27_a_writer_that_was_told_of_all_that_it_sent_makes_what_was_found_certain_at_once() {
    let whole = bytes(1, 2000);
    for make in [found, broken_off] {
        let (_disk, store) = make(&whole);
        let writer = streaming(&store, 1, 1300, 1300).unwrap();
        // It may be idle for an hour.
        assert_eq!(told(&store), (true, 1300));
        assert_eq!(read_open(&store).unwrap(), &whole[..1300]);
        drop(writer);
        assert_eq!(told(&store).1, 1300);
        assert!(!prepare(&store, 5).unwrap().unwrap().restarted);
        // Whoever closes knows that all of it was acknowledged, whatever was sent once.
        let (_disk, store) = make(&whole);
        prepare(&store, 1).unwrap();
        let close = wish(WriteStage::PipelineCloseRecovery, 2, 1300, 2000);
        let writer = store.resume(&block(1), &close, None, FORMAT).unwrap();
        assert_eq!(told(&store), (true, 1300));
        drop(writer);
    }
    // Nothing was sent, and nothing is missing.
    let (_disk, store) = joined(1);
    drop(store.resume(&block(1), &wish(WriteStage::TransferRbw, 0, 0, 0), None, FORMAT).unwrap());
    let _writer = streaming(&store, 1, 0, 0).unwrap();
    assert_eq!(told(&store), (true, 0));
}

#[test]
fn sc_27_what_may_lack_something_does_so_through_any_number_of_pipelines_and_what_lacks_nothing_never() {
    let whole = bytes(1, 2000);
    let (disk, store) = found(&whole);
    drop(streaming(&store, 1, 700, 1500).unwrap());
    let writer = streaming(&store, 2, 800, 1500).unwrap();
    assert_eq!(told(&store), (false, 0));
    assert_eq!(read_open(&store).unwrap(), &whole[..800]);
    drop(writer);
    // A recovery that fails after its cut has not made up for anything.
    prepare(&store, 3).unwrap();
    disk.inject(DiskFault::once(DiskFaultKind::Full).at(DiskCall::SetLen));
    assert!(finish(&store, 3, 900).is_err());
    assert!(prepare(&store, 4).unwrap().unwrap().restarted);
    let mut writer = streaming(&store, 5, 800, 1500).unwrap();
    send_acked(&mut writer, &whole, 7, 512, 1500);
    assert_eq!(told(&store), (true, 1500));
    drop(writer);
    let writer = streaming(&store, 6, 1500, 2000).unwrap();
    assert_eq!(told(&store), (true, 1500), "it was there all the time since");
    drop(writer);
    // One of this life of the node, whose writer had heard of more than it has heard itself.
    let (_disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send_acked(&mut writer, &whole, 0, 0, 600);
    send(&mut writer, &whole, 512, 1300).unwrap();
    drop(writer);
    let _writer = streaming(&store, 1, 700, 2000).unwrap();
    assert_eq!(told(&store), (true, 700));
    // A whole one that is appended to.
    let (_disk, store) = joined(1);
    store_block(&store, 1, 1300).unwrap();
    let _writer = append(&store, 1, 1300).unwrap();
    assert_eq!(told(&store), (true, 1300));
}

#[test]
fn sc_27_a_copy_onto_what_was_found_ends_with_nothing_missing() {
    let whole = bytes(1, 2000);
    let (_disk, store) = found(&whole);
    let mut copy = store.resume(&block(1), &wish(WriteStage::TransferRbw, 1, 0, 0), None, FORMAT).unwrap();
    assert_eq!(told(&store), (false, 0));
    send_acked(&mut copy, &whole, 0, 0, 1500);
    assert_eq!(told(&store), (false, 0), "its end has not come");
    copy.sync_copy().unwrap();
    drop(copy);
    let _writer = streaming(&store, 2, 1500, 2000).unwrap();
    assert_eq!(told(&store), (true, 1500));
}
