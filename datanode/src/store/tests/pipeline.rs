//! Replicas whose writer changes: resumed after a failure, appended to, closed by another connection.

use transfer::WriteStage;
use transfer::digest::{self, Leaf, LeafHasher};

use super::super::open::Mark;
use super::*;

pub(super) const FORMAT: ChunkFormat = ChunkFormat::CRC32C_512;
/// Header and trailer of a meta file without leaves.
pub(super) const FRAME_BYTES: u64 = 7 + 64;

pub(super) fn stamp(n: u64) -> GenerationStamp {
    GenerationStamp::from_raw(GenerationStamp::FIRST.raw() + n)
}

pub(super) fn wish(stage: WriteStage, new: u64, min_bytes: u64, max_bytes: u64) -> Wish {
    Wish { stage, floor: GenerationStamp::FIRST, new_stamp: stamp(new), min_bytes, max_bytes }
}

/// A pipeline that goes on at stamp `new`.
pub(super) fn streaming(store: &Store, new: u64, min: u64, max: u64) -> Result<ReplicaWriter, StoreError> {
    store.resume(&block(1), &wish(WriteStage::PipelineSetupStreamingRecovery, new, min, max), None, FORMAT)
}

pub(super) fn append(store: &Store, new: u64, len: u64) -> Result<ReplicaWriter, StoreError> {
    store.resume(&block(1), &wish(WriteStage::PipelineSetupAppend, new, len, len), None, FORMAT)
}

/// Writes `whole[from..to]` as a packet that begins at `from`.
pub(super) fn send(writer: &mut ReplicaWriter, whole: &[u8], from: usize, to: usize) -> Result<(), StoreError> {
    writer.write(from as u64, &whole[from..to], &FORMAT.compute(&whole[from..to]))
}

/// As the receiver does it: the packet is stored, and then acknowledged by everybody.
pub(super) fn send_acked(writer: &mut ReplicaWriter, whole: &[u8], seqno: i64, from: usize, to: usize) {
    send(writer, whole, from, to).unwrap();
    let mark = writer.mark_of(from as u64, to - from, &FORMAT.compute(&whole[from..to])).unwrap();
    writer.open().note_pending(seqno, mark);
    writer.open().acknowledged(seqno);
}

/// A client that appends from `at` on: first the rest of the last chunk with a checksum of just that, then whole chunks.
fn send_appended(writer: &mut ReplicaWriter, whole: &[u8], at: usize) {
    let border = at.next_multiple_of(512).min(whole.len());
    if border > at {
        send(writer, whole, at, border).unwrap();
    }
    if border < whole.len() {
        send(writer, whole, border, whole.len()).unwrap();
    }
}

pub(super) fn open_again(disk: &MemDisk) -> Store {
    open(disk, 1).unwrap()
}

/// Reads what there is of the replica, and verifies it.
pub(super) fn read_open(store: &Store) -> Result<Vec<u8>, StoreError> {
    read(store, 1)
}

/// Byte counts around the borders of chunks.
pub(super) const EDGES: [usize; 9] = [1, 2, 511, 512, 513, 700, 1023, 1024, 1025];

#[test]
fn sc_34_a_pipeline_goes_on_at_every_byte_count_around_chunk_borders_with_overlapping_packets() {
    let whole = bytes(1, 3000);
    for stored in EDGES {
        for acked in EDGES.into_iter().filter(|acked| *acked <= stored) {
            for back in [0, 1] {
                let (disk, store) = joined(1);
                let mut writer = store.create(&block(1), None, FORMAT).unwrap();
                send(&mut writer, &whole, 0, stored).unwrap();
                drop(writer);
                let mut writer = streaming(&store, 1, acked as u64, stored as u64).unwrap();
                assert_eq!(writer.len_bytes(), stored as u64, "what is here and was sent is not thrown away");
                let from = (acked / 512_usize).saturating_sub(back) * 512;
                for end in [from + 1, stored.min(from + 512).max(from + 1), stored + 1, 2049, 3000] {
                    send(&mut writer, &whole, from, end).unwrap();
                }
                writer.finalise().unwrap();
                drop(writer);
                let at_new = BlockRef { stamp: stamp(1), ..block(1) };
                assert_eq!(store.open_reader(&at_new).unwrap().stamp(), stamp(1));
                assert_eq!(read_open(&store).unwrap(), whole, "{stored} {acked} {back}");
                assert_eq!(store.counts().reserved_bytes, 0);
                drop(store);
                disk.power_cut(&SeededRandom::new(stored as u64));
                assert_eq!(read_open(&open_again(&disk)).unwrap(), whole, "{stored} {acked} {back}");
            }
        }
    }
}

#[test]
fn sc_34_what_comes_again_and_is_something_else_is_refused() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 3000);
    let mut other = whole.clone();
    other[699] ^= 1;
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    for (from, to) in [(0, 700), (512, 1000), (0, 3000)] {
        assert!(matches!(send(&mut writer, &other, from, to), Err(StoreError::Differs { .. })), "{from}..{to}");
    }
    send(&mut writer, &whole, 512, 3000).unwrap();
    writer.finalise().unwrap();
    assert_eq!(read_open(&store).unwrap(), whole);
}

#[test]
fn d_6_an_append_goes_on_inside_a_chunk_and_touches_nothing_that_was_there() {
    for at in EDGES {
        for more in [1, 100, 511, 512, 1300] {
            let (disk, store) = joined(1);
            let whole = bytes(1, at + more);
            let mut writer = store.create(&block(1), None, FORMAT).unwrap();
            send(&mut writer, &whole, 0, at).unwrap();
            writer.finalise().unwrap();
            drop(writer);
            assert!(append(&store, 1, at as u64 + 1).is_err(), "SC-29: the length must be the one that the lease told");
            let mut writer = append(&store, 1, at as u64).unwrap();
            assert_eq!(read_open(&store).unwrap(), &whole[..at], "what was there is read while the block is open");
            send_appended(&mut writer, &whole, at);
            // The same packets again, as after a failure: nothing changes.
            send_appended(&mut writer, &whole, at);
            writer.finalise().unwrap();
            drop(writer);
            assert_eq!(read_open(&store).unwrap(), whole, "{at}+{more}");
            assert!(!disk.files().iter().any(|file| file.ends_with(".open")), "the side record is gone");
            drop(store);
            disk.power_cut(&SeededRandom::new(at as u64));
            let store = open_again(&disk);
            assert_eq!(read_open(&store).unwrap(), whole, "{at}+{more}");
            assert_eq!(store.replica(block(1).id).unwrap().1.stamp, stamp(1));
        }
    }
}

#[test]
fn sc_35_writer_successor_and_late_packets_exclude_each_other() {
    let whole = bytes(1, 3000);
    // The old writer is at any place when it is stopped; whatever it does after that comes to nothing.
    for late in ["packet", "sync", "finalise", "leave"] {
        let (_disk, store) = joined(1);
        let mut old = store.create(&block(1), None, FORMAT).unwrap();
        send(&mut old, &whole, 0, 700).unwrap();
        let mut new = streaming(&store, 1, 512, 1000).unwrap();
        match late {
            "packet" => assert!(matches!(send(&mut old, &whole, 512, 1500), Err(StoreError::Superseded(_)))),
            "sync" => assert!(matches!(old.sync(), Err(StoreError::Superseded(_)))),
            "finalise" => assert!(matches!(old.finalise(), Err(StoreError::Superseded(_)))),
            _ => {}
        }
        drop(old);
        assert_eq!(state(&store, 1), Some(ReplicaState::BeingWritten), "{late}: the new one goes on");
        send(&mut new, &whole, 512, 3000).unwrap();
        new.finalise().unwrap();
        assert_eq!(read_open(&store).unwrap(), whole, "{late}");
        drop(new);
        assert_eq!((store.counts().reserved_bytes, store.counts().finalized), (0, 1), "{late}");
        assert_eq!(store.counts().used_bytes, 3000 + FORMAT.checksums_bytes(3000) + FRAME_BYTES, "{late}");
    }
}

#[test]
fn sc_35_a_writer_that_hangs_in_a_disk_call_is_not_taken_over_and_is_told_to_end() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 700);
    let mut old = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut old, &whole, 0, 700).unwrap();
    let open = std::sync::Arc::clone(old.open());
    let inside = open.enter(block(1).id).unwrap();
    assert!(matches!(streaming(&store, 1, 0, 700), Err(StoreError::Busy(_))));
    assert!(open.is_stopped());
    drop(inside);
    assert!(matches!(send(&mut old, &whole, 0, 700), Err(StoreError::Superseded(_))), "it wakes up and is fenced");
    assert_eq!(streaming(&store, 1, 700, 700).unwrap().len_bytes(), 700);
}

#[test]
fn v_4_only_rising_stamps_go_on_and_a_stopped_writer_stays_stopped() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 2000);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    let mut writer = streaming(&store, 5, 700, 700).unwrap();
    for lower in [0, 1, 4] {
        assert!(matches!(streaming(&store, lower, 0, 700), Err(StoreError::StaleStamp { .. })), "{lower}");
    }
    send(&mut writer, &whole, 512, 1200).unwrap();
    let floor = Wish { floor: stamp(6), ..wish(WriteStage::PipelineSetupStreamingRecovery, 7, 0, 2000) };
    assert!(matches!(store.resume(&block(1), &floor, None, FORMAT), Err(StoreError::StaleStamp { .. })));
    send(&mut writer, &whole, 1024, 2000).unwrap();
    writer.finalise().unwrap();
    assert_eq!(read_open(&store).unwrap(), whole);
}

#[test]
fn a_close_that_was_not_heard_of_is_closed_again_with_the_new_stamp_wherever_it_had_come_to() {
    for had_finalised in [false, true] {
        let (disk, store) = joined(1);
        let whole = bytes(1, 1300);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        send(&mut writer, &whole, 0, 1300).unwrap();
        if had_finalised {
            writer.finalise().unwrap();
        }
        drop(writer);
        let close = |len| wish(WriteStage::PipelineCloseRecovery, 1, len, len);
        assert!(store.resume(&block(1), &close(1299), None, FORMAT).is_err(), "not shorter");
        let mut writer = store.resume(&block(1), &close(1300), None, FORMAT).unwrap();
        let done = writer.finalise_as_it_is().unwrap();
        assert_eq!((done.stamp, done.len_bytes), (stamp(1), 1300));
        drop(writer);
        assert_eq!(store.counts().used_bytes, 1300 + FORMAT.checksums_bytes(1300) + FRAME_BYTES);
        drop(store);
        disk.power_cut(&SeededRandom::new(4));
        let store = open_again(&disk);
        assert_eq!(store.replica(block(1).id).unwrap().1.stamp, stamp(1));
        assert_eq!(read_open(&store).unwrap(), whole);
    }
}

#[test]
fn sc_36_an_empty_replica_is_begun_anywhere_and_transferred_as_it_is() {
    let (_disk, store) = joined(1);
    drop(streaming(&store, 1, 0, 512).unwrap());
    assert_eq!(state(&store, 1), None, "nothing came, nothing stays");
    let mut writer = streaming(&store, 2, 0, 512).unwrap();
    send(&mut writer, &bytes(1, 512), 0, 512).unwrap();
    writer.finalise().unwrap();
    assert_eq!(read_open(&store).unwrap(), bytes(1, 512));
    // The source of an empty transfer: its format is known although it has no byte.
    let (_disk, store) = joined(1);
    let _writer = store.create(&block(1), None, FORMAT).unwrap();
    assert!(store.open_reader(&block(1)).is_err());
    let reader = store.open_for_transfer(&block(1)).unwrap();
    assert_eq!((reader.len_bytes(), reader.chunks(), reader.is_unfinished()), (0, FORMAT, true));
}

#[test]
fn a_transfer_replaces_what_is_something_else_and_stays_open() {
    let (disk, store) = joined(1);
    let whole = bytes(1, 1500);
    let mut old = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut old, &bytes(9, 2000), 0, 2000).unwrap();
    let transfer = wish(WriteStage::TransferRbw, 1, 0, 0);
    let mut writer = store.resume(&block(1), &transfer, None, FORMAT).unwrap();
    assert!(writer.stays_open());
    drop(old);
    assert!(matches!(send(&mut writer, &whole, 0, 700), Err(StoreError::Differs { .. })));
    drop(writer);
    let mut writer = store.resume(&block(1), &transfer, None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    writer.sync().unwrap();
    drop(writer);
    assert_eq!(state(&store, 1), Some(ReplicaState::WaitingRecovery));
    let mut writer = streaming(&store, 1, 700, 1000).unwrap();
    send(&mut writer, &whole, 512, 1500).unwrap();
    writer.finalise().unwrap();
    drop(writer);
    assert_eq!(read_open(&store).unwrap(), whole);
    assert!(matches!(
        store.resume(&block(1), &wish(WriteStage::TransferRbw, 2, 0, 0), None, FORMAT),
        Err(StoreError::Exists(_))
    ));
    assert_eq!(store.counts().reserved_bytes, 0);
    drop(disk);
}

#[test]
fn sc_51_a_reader_of_an_open_replica_sees_what_was_acknowledged_with_the_checksum_of_just_that() {
    let whole = bytes(1, 2000);
    for at in EDGES {
        let (_disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        assert!(store.open_reader(&block(1)).is_err(), "nothing is acknowledged");
        send_acked(&mut writer, &whole, 0, 0, at);
        let reader = store.open_reader(&block(1)).unwrap();
        let shared = store.open_shared(&block(1)).unwrap();
        // The chunk grows, and its checksum is written over, while they read.
        send(&mut writer, &whole, at / 512 * 512, 2000).unwrap();
        for reader in [&reader, &shared, &store.open_reader(&block(1)).unwrap()] {
            assert_eq!(reader.len_bytes(), at as u64);
            let (mut data, mut sums) = (vec![0; at], Vec::new());
            reader.read_data(0, &mut data).unwrap();
            reader.read_checksums(0, at as u64, &mut sums).unwrap();
            FORMAT.verify(&data, &sums).unwrap();
            assert_eq!(data, &whole[..at]);
        }
        assert!(
            matches!(store.open_whole(&block(1)), Err(StoreError::NotWhole { .. })),
            "it is not copied, and not lent"
        );
        let open = BlockRef { stamp: stamp(1), ..block(1) };
        assert!(matches!(store.open_reader(&open), Err(StoreError::StaleStamp { .. })), "{at}");
    }
}

#[test]
fn sc_51_readers_and_scrubbers_of_a_whole_replica_accuse_nobody_when_it_is_appended_to() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 2000);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    writer.finalise().unwrap();
    drop(writer);
    let (reader, shared) = (store.open_reader(&block(1)).unwrap(), store.open_shared(&block(1)).unwrap());
    let mut scrubbing = store.begin_verify(&block(1)).unwrap();
    scrubbing.step().unwrap();
    let mut writer = append(&store, 1, 700).unwrap();
    send_appended(&mut writer, &whole, 700);
    for reader in [&reader, &shared] {
        let (mut data, mut sums) = (vec![0; 700], Vec::new());
        reader.read_data(0, &mut data).unwrap();
        reader.read_checksums(0, 700, &mut sums).unwrap();
        FORMAT.verify(&data, &sums).unwrap();
        assert_eq!(data, &whole[..700]);
        // A reader that is wrong about an older replica does no harm to the newer one.
        reader.mark_corrupt();
    }
    assert!(matches!(scrubbing.step(), Err(StoreError::Changed(_))));
    assert!(store.open_reader(&block(1)).is_ok(), "one who has watched for long does not blind who comes later");
    writer.finalise().unwrap();
    reader.mark_corrupt();
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
    assert_eq!(read_open(&store).unwrap(), whole);
}

#[test]
fn v_3_acknowledged_bytes_stay_readable_when_the_writer_leaves_and_another_goes_on() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 3000);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send_acked(&mut writer, &whole, 0, 0, 700);
    drop(writer);
    assert_eq!(read_open(&store).unwrap(), &whole[..700]);
    // The client has not heard of the last ack: what a reader has seen stays nevertheless.
    let mut writer = streaming(&store, 1, 512, 1000).unwrap();
    assert_eq!(read_open(&store).unwrap(), &whole[..700]);
    send_acked(&mut writer, &whole, 5, 512, 1500);
    assert_eq!(read_open(&store).unwrap(), &whole[..1500]);
    let progress = store.progress(&block(1)).unwrap();
    assert_eq!((progress.stamp, progress.acked_bytes, progress.finalized), (stamp(1), 1500, false));
}

#[test]
fn sc_55_every_way_out_gives_its_reservation_back() {
    let whole = bytes(1, 3000);
    for step in 0..14 {
        for kind in [DiskFaultKind::NoSpace, DiskFaultKind::WriteError, DiskFaultKind::SyncError] {
            for whole_before in [false, true] {
                let (disk, store) = joined(1);
                let mut writer = store.create(&block(1), None, FORMAT).unwrap();
                send_acked(&mut writer, &whole, 0, 0, 700);
                if whole_before {
                    writer.finalise().unwrap();
                }
                drop(writer);
                disk.inject(DiskFault::once(kind).on("current").after(step));
                let resumed = if whole_before { append(&store, 1, 700) } else { streaming(&store, 1, 700, 700) };
                let done = resumed.and_then(|mut writer| {
                    send(&mut writer, &whole, if whole_before { 700 } else { 512 }, 1024)?;
                    writer.sync()?;
                    writer.finalise()
                });
                assert_eq!(store.counts().reserved_bytes, 0, "{step} {kind:?}: {done:?}");
                if kind == DiskFaultKind::NoSpace {
                    assert!(!store.reports()[0].failed, "{step}: full is not broken");
                    // What was acknowledged is still there, in whatever state.
                    let found = store.prepare_recovery(&store.replica(block(1).id).unwrap().0, block(1).id, stamp(9));
                    assert!(found.unwrap().unwrap().len_bytes >= 700, "{step}: {done:?}");
                }
            }
        }
    }
}

fn tree(data: &[u8]) -> Vec<Leaf> {
    let mut tree = LeafHasher::default();
    tree.update(data);
    tree.finish();
    tree.leaves().to_vec()
}

#[test]
fn leaves_that_come_again_are_taken_once_and_lost_ones_leave_none() {
    const MIB: usize = digest::SEGMENT_BYTES as usize;
    let whole = bytes(1, 2 * MIB + 700);
    let leaves = tree(&whole);
    for lost in [false, true] {
        let (_disk, store) = joined(1);
        let mut writer = store.create(&block(1), None, FORMAT).unwrap();
        send(&mut writer, &whole, 0, MIB).unwrap();
        if !lost {
            writer.add_leaves(&leaves[..1], MIB as u64, false).unwrap();
        }
        send(&mut writer, &whole, MIB, MIB + 512).unwrap();
        drop(writer);
        let mut writer = streaming(&store, 1, 512, 2 * MIB as u64).unwrap();
        send(&mut writer, &whole, 512, MIB).unwrap();
        writer.add_leaves(&leaves[..1], MIB as u64, false).unwrap();
        let other = [[7; digest::LEAF_BYTES]];
        assert_eq!(writer.add_leaves(&other, MIB as u64, false).is_err(), !lost, "another one is not the same");
        send(&mut writer, &whole, MIB, 2 * MIB).unwrap();
        writer.add_leaves(&leaves[1..2], 2 * MIB as u64, false).unwrap();
        send(&mut writer, &whole, 2 * MIB, whole.len()).unwrap();
        writer.add_leaves(&leaves[2..], whole.len() as u64, true).unwrap();
        writer.finalise().unwrap();
        let (kept, _) = store.open_reader(&block(1)).unwrap().leaves().unwrap();
        assert_eq!(kept, if lost { Vec::new() } else { leaves.clone() });
    }
}

#[test]
fn a_block_that_was_appended_to_has_no_leaves_of_its_first_writer() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 2000);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 700).unwrap();
    writer.add_leaves(&tree(&whole[..700]), 700, true).unwrap();
    writer.finalise().unwrap();
    drop(writer);
    let mut writer = append(&store, 1, 700).unwrap();
    send_appended(&mut writer, &whole, 700);
    writer.add_leaves(&tree(&whole), 2000, true).unwrap();
    writer.finalise().unwrap();
    assert_eq!(store.open_reader(&block(1)).unwrap().leaves().unwrap(), (Vec::new(), false));
    assert_eq!(read_open(&store).unwrap(), whole);
}

#[test]
fn a_mark_knows_its_checksum_or_is_none() {
    let (_disk, store) = joined(1);
    let whole = bytes(1, 2000);
    let mut writer = store.create(&block(1), None, FORMAT).unwrap();
    send(&mut writer, &whole, 0, 1500).unwrap();
    let sums = |from: usize, to: usize| FORMAT.compute(&whole[from..to]);
    let mark = |from: usize, to: usize| writer.mark_of(from as u64, to - from, &sums(from, to));
    let tail = |to: usize| Some(FORMAT.checksum(&whole[to / 512 * 512..to]).to_be_bytes());
    assert_eq!(mark(0, 1024), Some(Mark { len_bytes: 1024, tail: None }));
    assert_eq!(mark(512, 1500), Some(Mark { len_bytes: 1500, tail: tail(1500) }));
    assert_eq!(mark(0, 1100), Some(Mark { len_bytes: 1100, tail: tail(1100) }));
    assert_eq!(mark(1030, 1100), None, "its checksum is of seventy bytes of the chunk only");
}

/// The append's stamp makes the good copies stale that are not in its pipeline.
#[test]
fn i_2_sc_29_nothing_is_appended_to_a_replica_whose_bytes_differ() {
    let (disk, store) = joined(1);
    store_block(&store, 1, 70_000).unwrap();
    let data = disk.files().into_iter().find(|file| file.ends_with(&format!("/{}", block(1).id))).unwrap();
    disk.flip_bit(Path::new(&data), 66_000, 3).unwrap();
    assert!(matches!(append(&store, 2, 70_000), Err(StoreError::NotWhole { .. })));
    assert_eq!(state(&store, 1), Some(ReplicaState::Corrupt), "it is reported");
    let (_, kept) = store.replica(block(1).id).unwrap();
    assert_eq!((kept.stamp, kept.len_bytes), (block(1).stamp, 70_000), "nothing of it has changed");
}

#[test]
fn an_append_does_not_wait_for_a_disk_that_reads_slowly() {
    let (_disk, store) = joined(1);
    store_block(&store, 1, 3 << 20).unwrap();
    let looks = std::cell::Cell::new(0);
    let is_late = || looks.replace(looks.get() + 1) >= 2;
    let append = wish(WriteStage::PipelineSetupAppend, 2, 3 << 20, 3 << 20);
    let writer = store.resume_within(&block(1), &append, None, FORMAT, &is_late).unwrap();
    assert_eq!(looks.get(), 3);
    drop(writer);
}
