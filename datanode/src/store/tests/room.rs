//! Room for replicas, and what is given up for them.

use std::sync::Arc;

use base::disk::DiskCall;
use transfer::WriteStage;

use super::pipeline::{FORMAT, stamp, wish};
use super::*;

const MIB: usize = 1 << 20;

fn storages(store: &Store) -> Vec<StorageId> {
    store.health().into_iter().map(|(storage, ..)| storage).collect()
}
/// A volume on a disk of this size.
fn small(capacity_bytes: usize) -> (MemDisk, Store) {
    let disk = MemDisk::new();
    disk.add_device(Path::new("/disk0"), capacity_bytes as u64);
    let store = open(&disk, 1).unwrap();
    store.join(&ClusterId::new("1"), &PoolId::new("1")).unwrap();
    (disk, store)
}
fn trashed(disk: &MemDisk, n: i64) -> usize {
    let id = block(n).id.to_string();
    disk.files().iter().filter(|file| file.contains("/trash/") && file.contains(&id)).count()
}

#[test]
fn sc_55_what_makes_room_for_a_copy_stays_where_the_copy_has_none() {
    let (disk, store) = small(MIB + MIB / 2);
    store_block(&store, 1, 1000).unwrap();
    store_block(&store, 2, MIB).unwrap();
    store.open_reader(&block(1)).unwrap().mark_corrupt();
    let refused = store.create_copy(&block(1), None, FORMAT).unwrap_err();
    assert!(refused.is_full(), "{refused}");
    assert_eq!((state(&store, 1), trashed(&disk, 1)), (Some(ReplicaState::Corrupt), 0));
    // One that is in the making, for a transfer.
    let (disk, store) = small(MIB + MIB / 2);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    put(&mut writer, &bytes(1, 700)).unwrap();
    let other = disk.shared().create_new(Path::new("/disk0/somebody's"), CrashPoint::BlockCreate).unwrap();
    other.write_at(&vec![1; MIB], 0).unwrap();
    let transfer = wish(WriteStage::TransferRbw, 1, 0, 0);
    let refused = store.resume(&block(1), &transfer, None, FORMAT).unwrap_err();
    assert!(refused.is_full(), "{refused}");
    drop(writer);
    let (_, replica) = store.replica(block(1).id).unwrap();
    let left = Replica { state: ReplicaState::WaitingRecovery, stamp: stamp(0), len_bytes: 700 };
    assert_eq!((replica, trashed(&disk, 1)), (left, 0));
    assert_eq!(store.counts().reserved_bytes, 0);
}

#[test]
fn what_makes_room_for_a_copy_is_not_erased_for_it() {
    let (disk, store) = small(2 * MIB);
    let storage = storages(&store).remove(0);
    store_block(&store, 1, 600_000).unwrap();
    store_block(&store, 2, 800_000).unwrap();
    store.delete(&storage, block(2).id, block(2).stamp, NOW).unwrap();
    store.open_reader(&block(1)).unwrap().mark_corrupt();
    let mut writer = store.create_copy(&block(1), None, FORMAT).unwrap();
    assert_eq!((trashed(&disk, 2), trashed(&disk, 1)), (0, 2), "the older trash makes room, it itself is kept a while");
    put(&mut writer, &bytes(1, 1000)).unwrap();
    writer.finalise().unwrap();
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 1000));
    assert_eq!(store.counts().reserved_bytes, 0);
}

#[test]
fn f_11_a_replica_that_does_not_get_off_a_disk_that_hangs_is_in_nobodys_way_on_another() {
    let (disk, store) = joined(2);
    let (disks, store) = (storages(&store), Arc::new(store));
    let mut writer = store.create(&block(1), Some(&disks[0]), FORMAT).unwrap();
    put(&mut writer, &bytes(1, 700)).unwrap();
    writer.finalise().unwrap();
    drop(writer);
    disk.inject(DiskFault::once(DiskFaultKind::Hang).at(DiskCall::Rename).on("/disk0/trash/"));
    let deleting = {
        let (store, storage) = (Arc::clone(&store), disks[0].clone());
        base::task::thread("deleting", move || store.delete(&storage, block(1).id, block(1).stamp, NOW)).unwrap()
    };
    while disk.faults_fired() == 0 {
        assert!(!deleting.is_finished());
        std::thread::yield_now();
    }
    let refused = store.create_copy(&block(1), Some(&disks[0]), FORMAT);
    assert!(matches!(refused, Err(StoreError::Exists(_))), "its files have the names of the new ones: {refused:?}");
    let mut writer = store.create_copy(&block(1), Some(&disks[1]), FORMAT).unwrap();
    put(&mut writer, &bytes(1, 900)).unwrap();
    writer.finalise().unwrap();
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 900));
    disk.clear_faults();
    deleting.join().unwrap().unwrap();
    assert_eq!(read(&store, 1).unwrap(), bytes(1, 900));
    assert_eq!(store.counts().reserved_bytes, 0);
}
