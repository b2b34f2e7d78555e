//! Recovery of replicas: what is proved after kills and power cuts, fences, cuts, and stops at every durable step.

use transfer::WriteStage;

use super::super::side;
use super::pipeline::{
    EDGES, FORMAT, FRAME_BYTES, append, open_again, read_open, send, send_acked, stamp, streaming, wish,
};
use super::*;

fn storage(store: &Store) -> StorageId {
    StorageId::parse(&store.reports()[0].storage).unwrap()
}

fn prepare(store: &Store, recovery: u64) -> Result<Option<FoundReplica>, StoreError> {
    store.prepare_recovery(&storage(store), block(1).id, stamp(recovery))
}

fn finish(store: &Store, recovery: u64, len: usize) -> Result<FinalisedReplica, StoreError> {
    store.finish_recovery(&storage(store), block(1).id, stamp(recovery), len as u64)
}

/// A recovery may end the block on it alone: the others' replicas count for nothing then.
#[test]
fn d_2_i_2_a_recovery_hears_that_a_whole_replica_is_damaged() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 70_000).unwrap();
    assert_eq!(prepare(&store, 1).unwrap().unwrap().state, ReplicaState::Finalized);
    let data = disk.files().into_iter().find(|file| file.ends_with(&format!("/{}", block(1).id))).unwrap();
    disk.flip_bit(Path::new(&data), 66_000, 3).unwrap();
    let found = prepare(&store, 2).unwrap().unwrap();
    assert_eq!((found.state, found.len_bytes), (ReplicaState::Corrupt, 70_000));
    assert_eq!(state(&store, 1), Some(ReplicaState::Corrupt), "it is reported, too");
    assert!(finish(&store, 2, 70_000).is_err());
}

#[test]
fn l_6_a_recovery_does_not_wait_for_a_replica_that_reads_slowly() {
    let (_disk, store) = joined(1);
    store_block(&store, 1, 3 << 20).unwrap();
    for steps in [0, 2] {
        let looks = std::cell::Cell::new(0);
        let is_late = || looks.replace(looks.get() + 1) >= steps;
        let found = store.prepare_recovery_within(&storage(&store), block(1).id, stamp(1), &is_late).unwrap().unwrap();
        assert_eq!((found.state, looks.get()), (ReplicaState::Finalized, steps + 1));
    }
}

#[test]
fn d_3_sc_27_a_power_cut_after_hsync_inside_a_chunk_loses_nothing_of_what_was_synced() {
    let whole = bytes(1, 3000);
    let mut needed = 0;
    for seed in 0..300 {
        let synced = EDGES[seed as usize % EDGES.len()];
        let later = synced + 1 + (seed as usize * 37) % 900;
        let (disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        send(&mut writer, &whole, 0, synced).unwrap();
        writer.sync().unwrap();
        // The chunk is written over, and none of that is made durable.
        send(&mut writer, &whole, synced / 512 * 512, later).unwrap();
        send(&mut writer, &whole, later / 512 * 512, later + 700).unwrap();
        drop((writer, store));
        disk.power_cut(&SeededRandom::new(seed));
        let store = open_again(&disk);
        let found = prepare(&store, 1).unwrap().unwrap();
        assert!(found.restarted && found.acked_bytes == 0);
        let len = found.len_bytes as usize;
        assert!(len >= synced, "seed {seed}: {len} of {synced} synced bytes are left");
        finish(&store, 1, len).unwrap();
        assert_eq!(read_open(&store).unwrap(), &whole[..len], "seed {seed}");
        drop(store);
        needed += u32::from(lost_without_the_record(seed, synced, later, &whole));
    }
    assert!(needed > 5, "the side record is what saves it: {needed}");
}

#[test]
fn l_6_data_whose_checksums_went_in_a_power_cut_are_a_replica_of_which_nothing_is_left() {
    let whole = bytes(1, 3000);
    let (disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    drop((writer, store));
    // What was not synced may go in any order: here the entry of the meta file went, and that of the data stayed.
    let meta = disk.files().into_iter().find(|file| file.ends_with(".meta")).unwrap();
    disk.remove_file(Path::new(&meta), CrashPoint::MetaRemove).unwrap();
    let store = open_again(&disk);
    let (_, replica) = store.replica(block(1).id).unwrap();
    assert_eq!((replica.stamp.raw(), replica.state), (0, ReplicaState::WaitingRecovery));
    let state = ReplicaState::WaitingRecovery;
    let nothing = FoundReplica { state, stamp: stamp(5), len_bytes: 0, acked_bytes: 0, restarted: true };
    for asked in ["once", "again"] {
        assert_eq!(prepare(&store, 5).unwrap(), Some(nothing), "{asked}");
    }
}

/// The same cut, and the side record is not there.
fn lost_without_the_record(seed: u64, synced: usize, later: usize, whole: &[u8]) -> bool {
    let (disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, whole, 0, synced).unwrap();
    writer.sync().unwrap();
    send(&mut writer, whole, synced / 512 * 512, later).unwrap();
    send(&mut writer, whole, later / 512 * 512, later + 700).unwrap();
    drop((writer, store));
    disk.power_cut(&SeededRandom::new(seed));
    if let Some(side) = disk.files().into_iter().find(|file| file.ends_with(".open")) {
        disk.shared().remove_file(Path::new(&side), CrashPoint::SideRemove).unwrap();
    }
    let store = open_again(&disk);
    (prepare(&store, 1).unwrap().unwrap().len_bytes as usize) < synced
}

#[test]
fn d_6_a_power_cut_during_an_append_loses_nothing_of_what_was_whole() {
    let whole = bytes(1, 3000);
    for seed in 0..300 {
        let at = EDGES[seed as usize % EDGES.len()];
        let (disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        send(&mut writer, &whole, 0, at).unwrap();
        writer.finalise().unwrap();
        drop(writer);
        let mut writer = append(&store, 1, at as u64).unwrap();
        let border = at.next_multiple_of(512);
        if border > at {
            send(&mut writer, &whole, at, border - seed as usize % (border - at)).unwrap();
        } else {
            send(&mut writer, &whole, at, at + 1 + seed as usize % 1500).unwrap();
        }
        drop((writer, store));
        disk.power_cut(&SeededRandom::new(seed));
        let store = open_again(&disk);
        let found = prepare(&store, 2).unwrap().unwrap();
        let len = found.len_bytes as usize;
        assert!(len >= at, "seed {seed}: {len} of {at} bytes are left");
        finish(&store, 2, len).unwrap();
        assert_eq!(read_open(&store).unwrap(), &whole[..len], "seed {seed}");
    }
}

#[test]
fn f_3_a_kill_at_any_disk_call_keeps_what_was_acknowledged_without_a_sync() {
    let whole = bytes(1, 3000);
    for calls in 0..12 {
        let (disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        send_acked(&mut writer, &whole, 0, 0, 700);
        // The process dies between the data of a packet and its checksums, or anywhere near.
        disk.inject(DiskFault::once(DiskFaultKind::WriteError).on("current").after(calls));
        let more = send(&mut writer, &whole, 512, 900).and_then(|()| send(&mut writer, &whole, 512, 2100));
        disk.clear_faults();
        drop((writer, store));
        disk.process_died();
        let store = open_again(&disk);
        let len = prepare(&store, 1).unwrap().unwrap().len_bytes as usize;
        assert!(len >= 700, "{calls}: {len}, {more:?}");
        finish(&store, 1, len).unwrap();
        assert_eq!(read_open(&store).unwrap(), &whole[..len]);
    }
}

#[test]
fn sc_51_a_stop_at_any_step_of_an_append_or_a_recovery_leaves_one_truth() {
    const POINTS: [CrashPoint; 7] = [
        CrashPoint::SideCreate,
        CrashPoint::SideSync,
        CrashPoint::SideRemove,
        CrashPoint::RestampRename,
        CrashPoint::ReplicaCut,
        CrashPoint::BlockDirSync,
        CrashPoint::MetaSync,
    ];
    let (whole, mut reached) = (bytes(1, 1500), std::collections::BTreeSet::new());
    for point in POINTS {
        for side in [Side::Before, Side::After] {
            for nth in 1..=2 {
                for (recovers, seed) in
                    [(false, None), (false, Some(1)), (false, Some(2)), (true, None), (true, Some(3))]
                {
                    let (disk, store) = joined(1);
                    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
                    send(&mut writer, &whole, 0, 700).unwrap();
                    writer.finalise().unwrap();
                    drop(writer);
                    disk.stop_at(point, side, nth);
                    let done = if recovers {
                        prepare(&store, 1).and_then(|_| finish(&store, 1, 600)).map(drop)
                    } else {
                        append(&store, 1, 700).and_then(|mut writer| {
                            send(&mut writer, &whole, 700, 1000)?;
                            writer.sync()?;
                            send(&mut writer, &whole, 700, 1024)?;
                            send(&mut writer, &whole, 1024, 1500)?;
                            writer.finalise().map(drop)
                        })
                    };
                    if disk.stopped() {
                        reached.insert(point);
                    }
                    drop(store);
                    match seed {
                        None => disk.process_died(),
                        Some(seed) => disk.power_cut(&SeededRandom::new(seed)),
                    }
                    let what = format!("{} {side:?} {nth} {recovers} {seed:?}: {done:?}", point.name());
                    one_truth(&disk, &whole, if recovers { 600 } else { 700 }, &what);
                }
            }
        }
    }
    assert_eq!(reached.len(), POINTS.len(), "{reached:?}");
}

/// What a start finds is one replica, with at least `floor` good bytes, that a recovery makes whole.
fn one_truth(disk: &MemDisk, whole: &[u8], floor: usize, what: &str) {
    let store = open_again(disk);
    let metas = disk.files().into_iter().filter(|file| file.contains("/current/") && file.ends_with(".meta")).count();
    assert_eq!(metas, 1, "{what}");
    let (_, replica) = store.replica(block(1).id).unwrap();
    assert_ne!(replica.state, ReplicaState::Corrupt, "{what}");
    let found = prepare(&store, 5).unwrap().unwrap();
    let len = found.len_bytes as usize;
    assert!(len >= floor, "{what}: {len}");
    finish(&store, 5, len).unwrap();
    assert_eq!(read_open(&store).unwrap(), &whole[..len], "{what}");
    assert_eq!(store.counts().reserved_bytes, 0, "{what}");
}

#[test]
fn a_recovery_cuts_to_any_length_whatever_the_replica_was() {
    let whole = bytes(1, 1300);
    for state in ["being written", "left", "whole", "restarted"] {
        for len in [0, 1, 511, 512, 513, 1000, 1023, 1024, 1025, 1299, 1300] {
            let (disk, store) = joined(1);
            let mut writer = store.create(&block(1), None, FORMAT).unwrap();
            send(&mut writer, &whole, 0, 1300).unwrap();
            let mut alive = None;
            let store = match state {
                "being written" => {
                    alive = Some(writer);
                    store
                }
                "whole" => {
                    writer.finalise().unwrap();
                    store
                }
                "left" => {
                    drop(writer);
                    store
                }
                _ => {
                    drop((writer, store));
                    disk.process_died();
                    open_again(&disk)
                }
            };
            let found = prepare(&store, 1).unwrap().unwrap();
            assert_eq!((found.len_bytes, found.restarted), (1300, state == "restarted"), "{state}");
            assert!(matches!(finish(&store, 1, 1301), Err(StoreError::WrongLength { .. })));
            for (recovery, fenced) in [(0, true), (2, true), (1, false)] {
                let done = finish(&store, recovery, len);
                assert_eq!(matches!(done, Err(StoreError::Fenced { .. })), fenced, "{state} {recovery}: {done:?}");
            }
            let again = finish(&store, 1, len).unwrap();
            assert_eq!((again.stamp, again.len_bytes), (stamp(1), len as u64), "asked twice, done once");
            if let Some(mut writer) = alive {
                assert!(matches!(send(&mut writer, &whole, 1024, 1300), Err(StoreError::Superseded(_))));
                assert!(matches!(writer.finalise(), Err(StoreError::Superseded(_))));
            }
            assert_eq!(read_open(&store).unwrap(), &whole[..len], "{state} {len}");
            let used_bytes = len as u64 + FORMAT.checksums_bytes(len as u64) + FRAME_BYTES;
            assert_eq!(store.counts().used_bytes, used_bytes, "{state} {len}");
            drop(store);
            disk.power_cut(&SeededRandom::new(len as u64));
            assert_eq!(read_open(&open_again(&disk)).unwrap(), &whole[..len], "{state} {len}");
        }
    }
}

fn transfer(store: &Store, new: u64) -> Result<ReplicaWriter, StoreError> {
    store.resume(&block(1), &wish(WriteStage::TransferRbw, new, 0, 0), None, FORMAT)
}

/// A replica of this run of the node, or of an earlier one, whose writer is gone.
fn left_with(data: &[u8], restarted: bool) -> (MemDisk, Store) {
    let (disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, data, 0, data.len()).unwrap();
    drop(writer);
    if !restarted {
        return (disk, store);
    }
    drop(store);
    disk.process_died();
    let store = open_again(&disk);
    (disk, store)
}

#[test]
fn sc_27_a_copy_that_broke_off_speaks_for_nothing_and_what_it_replaced_was_not_nothing() {
    let whole = bytes(1, 1500);
    for (arrived, all) in [(0, false), (700, false), (1500, true)] {
        let (_disk, store) = left_with(&bytes(9, 2000), false);
        let mut copy = transfer(&store, 1).unwrap();
        assert!(
            matches!(send(&mut copy, &whole, 0, 1500), Err(StoreError::Differs { .. })),
            "no beginning of the block"
        );
        drop(copy);
        let mut copy = transfer(&store, 2).unwrap();
        assert_eq!(copy.len_bytes(), 0, "it takes the place of what is something else");
        if arrived > 0 {
            send(&mut copy, &whole, 0, arrived).unwrap();
        }
        if all {
            copy.sync_copy().unwrap();
        }
        drop(copy);
        let found = prepare(&store, 5).unwrap().expect("where a replica was, nobody finds nothing");
        assert_eq!((found.len_bytes, found.restarted), (arrived as u64, !all));
        assert_eq!(store.counts().reserved_bytes, 0);
    }
}

#[test]
fn f_1_a_copy_goes_on_with_what_is_there_and_gives_nothing_of_it_up() {
    let whole = bytes(1, 1500);
    for restarted in [false, true] {
        for (arrived, ends, len) in [(0, false, 1300), (700, false, 1300), (1000, true, 1300), (1500, true, 1500)] {
            let (_disk, store) = left_with(&whole[..1300], restarted);
            let mut copy = transfer(&store, 1).unwrap();
            assert_eq!(copy.len_bytes(), 1300);
            if arrived > 0 {
                send(&mut copy, &whole, 0, arrived).unwrap();
            }
            if ends {
                copy.sync_copy().unwrap();
            }
            drop(copy);
            let found = prepare(&store, 5).unwrap().unwrap();
            assert_eq!((found.len_bytes, found.restarted), (len, !ends), "{restarted} {arrived}");
            finish(&store, 5, len as usize).unwrap();
            assert_eq!(read_open(&store).unwrap(), &whole[..len as usize]);
            assert_eq!(store.counts().reserved_bytes, 0);
        }
    }
}

#[test]
fn f_1_what_a_start_found_is_gone_on_with_where_it_has_what_was_acknowledged() {
    let whole = bytes(1, 2000);
    for asked_before in [false, true] {
        let (disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        send(&mut writer, &whole, 0, 1300).unwrap();
        drop((writer, store));
        disk.process_died();
        let store = open_again(&disk);
        if asked_before {
            // A recovery has read it, and a later writer goes on.
            assert!(prepare(&store, 1).unwrap().unwrap().restarted);
        }
        let refused = streaming(&store, 2, 1301, 2000);
        assert!(matches!(refused, Err(StoreError::WrongLength { found_bytes: 1300, .. })), "{refused:?}");
        let mut writer = streaming(&store, 2, 1200, 2000).unwrap();
        assert_eq!(writer.len_bytes(), 1300);
        send(&mut writer, &whole, 1024, 2000).unwrap();
        writer.finalise().unwrap();
        drop(writer);
        assert_eq!(read_open(&store).unwrap(), whole);
    }
    // Of what a power cut left, what is good counts, not what is there.
    let (disk, store) = joined(1);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    writer.sync().unwrap();
    send(&mut writer, &whole, 512, 2000).unwrap();
    drop((writer, store));
    disk.power_cut(&SeededRandom::new(7));
    let store = open_again(&disk);
    assert!(streaming(&store, 1, 2000, 2000).is_err());
    let mut writer = streaming(&store, 1, 700, 2000).unwrap();
    send(&mut writer, &whole, 512, 2000).unwrap();
    writer.finalise().unwrap();
    drop(writer);
    assert_eq!(read_open(&store).unwrap(), whole);
}

#[test]
fn sc_26_overlapping_recoveries_rise_and_the_highest_wins() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 1300);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 1300).unwrap();
    drop(writer);
    prepare(&store, 3).unwrap();
    assert_eq!(prepare(&store, 3).unwrap(), prepare(&store, 3).unwrap(), "asked twice");
    assert!(matches!(prepare(&store, 2), Err(StoreError::Fenced { .. })));
    prepare(&store, 5).unwrap();
    assert!(matches!(finish(&store, 3, 1000), Err(StoreError::Fenced { .. })), "nothing was touched");
    assert!(matches!(streaming(&store, 4, 0, 1300), Err(StoreError::Fenced { .. })));
    assert!(
        matches!(streaming(&store, 5, 0, 1300), Err(StoreError::Fenced { .. })),
        "no writer has a recovery's stamp"
    );
    finish(&store, 5, 1300).unwrap();
    assert!(matches!(prepare(&store, 4), Err(StoreError::StaleStamp { .. })));
    assert_eq!(read_open(&store).unwrap(), whole);
    // The file is opened again later: the fence is no more.
    assert_eq!(append(&store, 6, 1300).unwrap().len_bytes(), 1300);
}

#[test]
fn sc_26_a_recovery_that_found_no_replica_shuts_out_late_writers_too() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 700);
    assert_eq!(prepare(&store, 3).unwrap(), None);
    assert!(matches!(store.create(&block(1), None, FORMAT), Err(StoreError::Fenced { .. })));
    assert!(matches!(streaming(&store, 2, 0, 700), Err(StoreError::Fenced { .. })));
    assert!(matches!(prepare(&store, 2), Err(StoreError::Fenced { .. })));
    assert_eq!(store.counts().reserved_bytes, 0);
    let copy = BlockRef { stamp: stamp(3), ..block(1) };
    let mut writer = store.create_copy(&copy, None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    writer.finalise().unwrap();
    assert_eq!(read_open(&store).unwrap(), whole);
}

#[test]
fn sc_51_a_full_disk_does_not_take_what_another_writer_began() {
    let (disk, store) = joined(1);
    let whole = bytes(1, 1300);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    drop(writer);
    let mut writer = streaming(&store, 1, 0, 700).unwrap();
    disk.inject(DiskFault::once(DiskFaultKind::NoSpace).on("current"));
    assert!(send(&mut writer, &whole, 512, 1300).unwrap_err().is_full());
    drop(writer);
    let (_, replica) = store.replica(block(1).id).unwrap();
    assert_eq!((replica.state, replica.len_bytes), (ReplicaState::WaitingRecovery, 700));
}

#[test]
fn sc_51_a_delete_ends_the_writer_before_files_move() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 1300);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    store.delete(&storage(&store), block(1).id, stamp(0), NOW).unwrap();
    assert!(matches!(send(&mut writer, &whole, 512, 1300), Err(StoreError::Removed(_))));
    assert!(writer.open().is_stopped());
    assert!(store.volumes[0].state.lock().leaving.is_empty());
}

#[test]
fn sc_25_sc_35_close_recovery_and_a_late_packet_in_any_order_end_in_one_whole_replica() {
    let whole = bytes(1, 1300);
    let orders = [["close", "packet", "recover"], ["close", "recover", "packet"], ["packet", "close", "recover"]];
    let more = [["packet", "recover", "close"], ["recover", "close", "packet"], ["recover", "packet", "close"]];
    for order in orders.into_iter().chain(more) {
        let (_disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        send_acked(&mut writer, &whole, 0, 0, 700);
        for step in order {
            match step {
                "close" => drop(writer.finalise()),
                "packet" => drop(send(&mut writer, &whole, 512, 1300)),
                _ => {
                    let found = prepare(&store, 1).unwrap().unwrap();
                    assert!(found.len_bytes >= 700);
                    finish(&store, 1, found.len_bytes as usize).unwrap();
                }
            }
        }
        drop(writer);
        let (_, replica) = store.replica(block(1).id).unwrap();
        assert_eq!((replica.state, replica.stamp), (ReplicaState::Finalized, stamp(1)), "{order:?}");
        assert!(replica.len_bytes >= 700, "{order:?}");
        assert_eq!(read_open(&store).unwrap(), &whole[..replica.len_bytes as usize], "{order:?}");
    }
}

#[test]
fn what_a_recovery_finds_is_told_as_it_was() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 1300);
    assert_eq!(prepare(&store, 0).unwrap(), None, "there is none");
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send_acked(&mut writer, &whole, 0, 0, 700);
    send(&mut writer, &whole, 512, 1300).unwrap();
    let found = prepare(&store, 1).unwrap().unwrap();
    let expected = FoundReplica {
        state: ReplicaState::BeingWritten,
        stamp: stamp(0),
        len_bytes: 1300,
        acked_bytes: 700,
        restarted: false,
    };
    assert_eq!(found, expected);
    // Readers go on with what was acknowledged.
    assert_eq!(read_open(&store).unwrap(), &whole[..700]);
    drop(writer);
    assert_eq!(store.counts().reserved_bytes, 0);
    let changes = store.changes(&storage(&store), 1, 10).unwrap();
    assert_eq!(
        changes.last().map(|change| (change.state, change.len_bytes)),
        Some((WireState::WaitingRecovery as i32, 1300))
    );
    finish(&store, 1, 1300).unwrap();
    let changes = store.changes(&storage(&store), 1, 10).unwrap();
    assert_eq!(changes.last().map(|change| (change.state, change.stamp)), Some((WireState::Finalized as i32, 1002)));
}

#[test]
fn a_recovery_while_a_reader_reads_and_a_loan_is_out_calls_the_loan_back_and_harms_neither() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 1300);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 1300).unwrap();
    writer.finalise().unwrap();
    drop(writer);
    let reader = store.open_reader(&block(1)).unwrap();
    prepare(&store, 1).unwrap();
    assert_eq!(read_open(&store).unwrap(), whole, "a whole replica is served until it changes");
    finish(&store, 1, 1000).unwrap();
    let mut data = vec![0; 1300];
    assert!(reader.read_data(0, &mut data).is_err(), "a truncated tail is gone for who read it");
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized), "and nobody is called damaged for it");
    let mut data = vec![0; 1000];
    reader.read_data(0, &mut data).unwrap();
    assert_eq!(data, &whole[..1000]);
}

#[test]
fn f_6_rot_in_what_an_earlier_run_left_is_not_counted_as_good() {
    let (disk, store) = joined(1);
    let whole = bytes(1, 3000);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 3000).unwrap();
    drop((writer, store));
    disk.process_died();
    let file = disk.files().into_iter().find(|file| file.ends_with(&block(1).id.to_string())).unwrap();
    disk.flip_bit(Path::new(&file), 1100, 3).unwrap();
    let store = open_again(&disk);
    let refused = streaming(&store, 1, 1025, 3000);
    assert!(matches!(refused, Err(StoreError::WrongLength { found_bytes: 1024, .. })), "SC-27: {refused:?}");
    let found = prepare(&store, 1).unwrap().unwrap();
    assert_eq!(found.len_bytes, 1024);
    finish(&store, 1, 1024).unwrap();
    assert_eq!(read_open(&store).unwrap(), &whole[..1024]);
}

#[test]
fn side_records_of_lower_stamps_count_and_those_of_higher_ones_do_not() {
    for (record, counts) in [(0, true), (1, true), (2, false)] {
        let (disk, store) = joined(1);
        let whole = bytes(1, 700);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        send(&mut writer, &whole, 0, 700).unwrap();
        drop(writer);
        drop(streaming(&store, 1, 700, 700).unwrap());
        let (volume, pool) = (&store.volumes[0], PoolId::new("1"));
        let mut file = side::SideFile::open_or_create(volume, &pool, block(1).id).unwrap();
        let tail = Some(FORMAT.checksum(&whole[512..600]).to_be_bytes());
        let mark = super::super::open::Mark { len_bytes: 600, tail };
        file.write(block(1).id, stamp(record), mark).unwrap();
        let meta = disk.files().into_iter().find(|file| file.ends_with(".meta")).unwrap();
        disk.flip_bit(Path::new(&meta), 7 + 4, 0).unwrap();
        drop(store);
        disk.process_died();
        let store = open_again(&disk);
        let len = prepare(&store, 3).unwrap().unwrap().len_bytes;
        assert_eq!(len, if counts { 600 } else { 512 }, "{record}");
        store.delete(&storage(&store), block(1).id, stamp(1), NOW).unwrap();
        assert!(!disk.files().iter().any(|file| file.ends_with(".open")), "it goes with its replica");
    }
}

#[test]
fn a_recovered_replica_does_not_take_part_in_an_older_transfer() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 700);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    prepare(&store, 5).unwrap();
    let transfer = wish(WriteStage::TransferRbw, 4, 0, 0);
    assert!(matches!(store.resume(&block(1), &transfer, None, FORMAT), Err(StoreError::Fenced { .. })));
    finish(&store, 5, 700).unwrap();
    assert_eq!(read_open(&store).unwrap(), whole);
}
