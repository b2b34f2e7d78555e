//! Logs made record by record, then damaged: what is a torn tail, what is rot, what is foreign.

use std::path::{Path, PathBuf};

use base::crash::CrashPoint;
use base::disk::{Disk, MemDisk, OpenMode, read_file};
use proptest::prelude::*;
use prost::Message;
use proto::ids::ClusterId;
use proto::raft::RaftEntry;

use super::record::{self, Found, Header, Kind, Seed};
use super::segment::{self, RECORDS_AT, Segment};
use super::{Scan, rot_error, scan};
use crate::consensus::ConsensusError;

const CLUSTER: u64 = 9;
const SEGMENT_BYTES: u64 = 8 << 10;

fn dir() -> PathBuf {
    PathBuf::from("/nn")
}

/// A log that is being made.
struct Log {
    disk: MemDisk,
    segment: Segment,
    offset: u64,
}

impl Log {
    fn new(first_sequence: u64) -> Self {
        let disk = MemDisk::new();
        disk.create_dir_all(&dir(), CrashPoint::CreateServerDir).expect("a folder");
        let segment = create(&disk, first_sequence);
        Self { disk, segment, offset: RECORDS_AT }
    }

    fn put(&mut self, kind: Kind, batch: u64, last_of_batch: bool, (index, term): (u64, u64), body: &[u8]) -> u64 {
        let mut bytes = Vec::new();
        record::encode(&mut bytes, self.segment.seed, Header { kind, last_of_batch, term, index, batch }, body);
        self.raw(&bytes)
    }

    /// Appends bytes; returns where they begin.
    fn raw(&mut self, bytes: &[u8]) -> u64 {
        let at = self.offset;
        self.segment.file.write_at(bytes, at).expect("writes");
        self.offset += bytes.len() as u64;
        at
    }

    /// Appends an entry of term 1.
    fn entry(&mut self, batch: u64, last: bool, index: u64) -> u64 {
        self.put(Kind::Entry, batch, last, (index, 1), &body(index, 1))
    }

    /// Goes on in the next segment.
    fn roll(&mut self, batch: u64) {
        self.put(Kind::End, batch, false, (0, 0), b"");
        self.segment = create(&self.disk, self.segment.sequence + 1);
        self.offset = RECORDS_AT;
    }

    fn scan(&self) -> Result<Scan, ConsensusError> {
        scan(&self.disk, &dir(), CLUSTER)
    }

    fn sound(&self) -> Scan {
        let scan = self.scan().expect("readable");
        assert!(scan.rot.is_none(), "{:?}", scan.rot);
        scan
    }

    fn bytes(&self, sequence: u64) -> Vec<u8> {
        read_file(&self.disk, &segment::path(&dir(), sequence), 1 << 20).expect("reads")
    }

    /// Puts bytes over what a segment holds.
    fn overwrite(&self, sequence: u64, offset: u64, bytes: &[u8]) {
        let file = self.disk.open(&segment::path(&dir(), sequence), OpenMode::ReadWrite).expect("opens");
        file.write_at(bytes, offset).expect("writes");
    }

    fn refusal(&self) -> String {
        self.scan().expect_err("refused").to_string()
    }
}

fn create(disk: &MemDisk, sequence: u64) -> Segment {
    let seed = Seed { salt: 1000 + sequence, cluster: CLUSTER };
    Segment::create(disk, &dir(), sequence, seed, SEGMENT_BYTES).expect("a segment")
}

fn body(index: u64, term: u64) -> Vec<u8> {
    let data = vec![index as u8; 21].into();
    RaftEntry { term, index, kind: 0, data, context: vec![7; 8].into() }.encode_to_vec()
}

fn indexes(scan: &Scan) -> Vec<u64> {
    scan.entries.iter().map(|entry| entry.index).collect()
}

/// Three sealed batches and a last one of two entries; returns where each begins.
fn four_batches() -> (Log, Vec<u64>) {
    let mut log = Log::new(1);
    let mut starts = vec![log.entry(1, false, 1)];
    log.entry(1, true, 2);
    starts.push(log.entry(2, true, 3));
    starts.push(log.entry(3, true, 4));
    starts.push(log.entry(4, false, 5));
    log.entry(4, true, 6);
    (log, starts)
}

#[test]
fn a_record_has_the_bytes_of_the_format_page() {
    let mut bytes = Vec::new();
    let seed = Seed { salt: 7, cluster: 9 };
    let header = Header { kind: Kind::Entry, last_of_batch: true, term: 3, index: 4, batch: 5 };
    record::encode(&mut bytes, seed, header, b"body");
    record::encode(&mut bytes, seed, Header { kind: Kind::Seal, term: 0, index: 0, batch: 6, ..header }, b"");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let entry = "42595243 01 01 01 00 0900000000000000 0300000000000000 0400000000000000 0500000000000000 \
                 04000000 50c93f26 00000000 04aaa04d 626f6479 00000000";
    let seal = "42595243 01 02 01 00 0900000000000000 0000000000000000 0000000000000000 0600000000000000 \
                00000000 00000000 00000000 3cea99c8";
    assert_eq!(hex, [entry, seal].concat().replace([' ', '\n'], ""));
    assert_eq!(super::cluster_hash(&ClusterId::new("1")), 0xb6d0_96d7_4aa1_4565);
}

#[test]
fn a_claimed_length_is_not_believed() {
    let mut bytes = Vec::new();
    let seed = Seed { salt: 7, cluster: 9 };
    let header = Header { kind: Kind::Entry, last_of_batch: true, term: 1, index: 1, batch: 1 };
    record::encode(&mut bytes, seed, header, b"body");
    bytes[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut salted = seed.salt.to_le_bytes().to_vec();
    salted.extend_from_slice(&bytes[..52]);
    let crc = base::two_slot::crc32c(&salted).to_le_bytes();
    bytes[52..56].copy_from_slice(&crc);
    assert_eq!(record::decode(&bytes, seed), Found::BadBody(header));
    let mut log = Log::new(1);
    let file = log.segment.file.clone();
    file.set_len(2 << 30, CrashPoint::LogTruncate).expect("a sparse file");
    assert!(log.refusal().contains("expected at most"), "2 GiB are refused before they are read");
    log.offset = 0;
}

#[test]
fn what_was_written_is_read_back_across_segments() {
    let (mut log, _) = four_batches();
    log.put(Kind::Seal, 5, true, (0, 0), b"");
    log.entry(6, false, 7);
    log.roll(6);
    log.entry(6, true, 8);
    // A later term overwrites the end.
    log.put(Kind::Entry, 7, true, (7, 2), &body(7, 2));
    let scan = log.sound();
    assert_eq!(indexes(&scan), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(scan.entries[6].term, 2);
    assert_eq!((scan.last_batch, scan.base, scan.needs_cut), (7, None, false));
    assert_eq!((scan.end.segment, scan.end.offset), (1, log.offset));
    assert_eq!(scan.segments.iter().map(|found| found.max_index).collect::<Vec<_>>(), [7, 8]);
    // An image from the leader voids what came before.
    log.put(Kind::Restart, 8, false, (100, 3), b"");
    log.put(Kind::Entry, 8, true, (101, 3), &body(101, 3));
    let scan = log.sound();
    assert_eq!((scan.base, indexes(&scan)), (Some((100, 3)), vec![101]));
}

#[test]
fn f_5_a_torn_tail_at_each_byte_is_cut_and_nothing_before_it() {
    let (log, starts) = four_batches();
    let (from, to) = (starts[3] as usize, log.offset as usize);
    let whole = log.bytes(1);
    for cut in from..to {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        if torn == whole {
            continue;
        }
        log.overwrite(1, 0, &torn);
        let scan = log.sound();
        assert_eq!(indexes(&scan), [1, 2, 3, 4], "cut at {cut}");
        assert_eq!((scan.last_batch, scan.end.offset), (3, starts[3]), "cut at {cut}");
        assert_eq!(scan.needs_cut, torn[from..].iter().any(|byte| *byte != 0), "cut at {cut}");
    }
}

#[test]
fn f_4_a_last_batch_that_lost_any_of_its_sectors_is_cut() {
    // Sectors of one write come to the medium in any order.
    let mut log = Log::new(1);
    log.entry(1, true, 1);
    let from = log.offset;
    for index in 2..40 {
        log.entry(2, index == 39, index);
    }
    let whole = log.bytes(1);
    for sector in (from / 512)..log.offset.div_ceil(512) {
        let mut torn = whole.clone();
        let lost = (sector * 512).max(from) as usize..(sector as usize + 1) * 512;
        torn[lost].fill(0);
        log.overwrite(1, 0, &torn);
        let scan = log.sound();
        assert_eq!((indexes(&scan), scan.end.offset), (vec![1], from), "sector {sector}");
    }
}

#[test]
fn sc_19_a_flipped_bit_in_a_sealed_batch_is_rot_and_names_the_place() {
    let (mut log, starts) = four_batches();
    let seal = log.put(Kind::Seal, 5, true, (0, 0), b"");
    let padding = |offset: u64| {
        // Bytes behind a body's end carry nothing; no checksum covers them.
        let whole = log.bytes(1);
        let mut at = RECORDS_AT as usize;
        while at < offset as usize {
            let len = u32::from_le_bytes(whole[at + 40..at + 44].try_into().expect("four")) as usize;
            let (end, next) = (at + record::HEADER_BYTES + len, at + record::size_bytes(len));
            if (end..next).contains(&(offset as usize)) {
                return true;
            }
            at = next;
        }
        false
    };
    for offset in RECORDS_AT..seal {
        if padding(offset) {
            continue;
        }
        log.disk.flip_bit(&segment::path(&dir(), 1), offset, (offset % 8) as u8).expect("flips");
        let scan = log.scan().expect("readable");
        let rot = scan.rot.as_ref().unwrap_or_else(|| panic!("offset {offset} is silently cut"));
        let start = starts.iter().rev().find(|start| **start <= offset).expect("one");
        assert!(rot.at.offset >= *start && rot.at.offset <= offset, "offset {offset}: {rot:?}");
        let text = rot_error(&scan, rot).to_string();
        let place = format!("log-{:016}: damaged at offset {}", 1, rot.at.offset);
        assert!(text.contains(&place) && text.contains("nothing was changed"), "{text}");
        log.disk.flip_bit(&segment::path(&dir(), 1), offset, (offset % 8) as u8).expect("flips back");
    }
    // The seal itself holds nothing.
    for offset in seal..log.offset {
        log.disk.flip_bit(&segment::path(&dir(), 1), offset, (offset % 8) as u8).expect("flips");
        assert_eq!(indexes(&log.sound()), [1, 2, 3, 4, 5, 6], "offset {offset}");
        log.disk.flip_bit(&segment::path(&dir(), 1), offset, (offset % 8) as u8).expect("flips back");
    }
}

#[test]
fn f_8_a_lost_write_in_the_middle_is_rot() {
    let (log, starts) = four_batches();
    let whole = log.bytes(1);
    for batch in 0..3 {
        let mut lost = whole.clone();
        lost[starts[batch] as usize..starts[batch + 1] as usize].fill(0);
        log.overwrite(1, 0, &lost);
        let scan = log.scan().expect("readable");
        let rot = scan.rot.expect("a hole is rot");
        assert_eq!(rot.at.offset, starts[batch]);
        assert_eq!(scan.last_batch, batch as u64);
    }
}

#[test]
fn a_batch_that_runs_into_the_next_segment_is_torn_as_a_whole() {
    let mut log = Log::new(1);
    log.entry(1, true, 1);
    let from = log.offset;
    log.entry(2, false, 2);
    log.roll(2);
    log.entry(2, false, 3);
    let last = log.entry(2, true, 4);
    assert_eq!(indexes(&log.sound()), [1, 2, 3, 4]);
    log.disk.flip_bit(&segment::path(&dir(), 2), last + 60, 0).expect("flips");
    let scan = log.sound();
    assert_eq!(indexes(&scan), [1]);
    assert_eq!((scan.end.segment, scan.end.offset, scan.needs_cut), (0, from, true));
    // The whole second part was lost.
    log.overwrite(2, RECORDS_AT, &vec![0; 400]);
    let scan = log.sound();
    assert_eq!((indexes(&scan), scan.end.segment, scan.end.offset), (vec![1], 0, from));
}

#[test]
fn sc_19_the_oldest_segment_that_is_left_never_begins_with_a_torn_batch() {
    // Segment 1 was removed below an image: batch 3 ran from it into this one, and was synced before that.
    for damage in [record::HEADER_BYTES as u64 + 4, 20] {
        let mut log = Log::new(2);
        log.entry(3, false, 8);
        let last = log.entry(3, true, 9);
        assert_eq!(indexes(&log.sound()), [8, 9]);
        log.disk.flip_bit(&segment::path(&dir(), 2), last + damage, 0).expect("flips");
        let scan = log.scan().expect("readable");
        assert!(scan.rot.is_some(), "damage at {damage} of the record is silently cut");
    }
    // In the very first segment the same is a torn tail: nothing was acknowledged yet.
    let mut log = Log::new(1);
    log.entry(1, false, 1);
    let last = log.entry(1, true, 2);
    log.disk.flip_bit(&segment::path(&dir(), 1), last + 20, 0).expect("flips");
    assert_eq!(indexes(&log.sound()), [0_u64; 0]);
}

#[test]
fn the_oldest_segment_that_is_left_may_begin_with_entries_that_were_overwritten_from_further_back() {
    // Segment 2, gone with an image of index 12, held entries up to 9; a new leader went back to 8.
    let mut log = Log::new(3);
    log.entry(20, true, 10);
    log.entry(21, true, 11);
    for (batch, index) in [(22, 8), (23, 9), (24, 10), (25, 11), (26, 12), (27, 13)] {
        log.put(Kind::Entry, batch, true, (index, 2), &body(index, 2));
    }
    let scan = log.sound();
    assert_eq!(indexes(&scan), [8, 9, 10, 11, 12, 13]);
    assert!(scan.entries.iter().all(|entry| entry.term == 2));

    // An image that was installed stands for what was committed: nobody goes back behind it.
    let mut log = Log::new(3);
    log.put(Kind::Restart, 20, true, (9, 1), b"");
    log.entry(21, true, 10);
    log.put(Kind::Entry, 22, true, (8, 2), &body(8, 2));
    assert!(log.scan().expect("readable").rot.is_some());
}

#[test]
fn sc_22_a_missing_segment_is_not_the_end_of_the_log() {
    let three = || {
        let mut log = Log::new(1);
        log.entry(1, true, 1);
        log.roll(2);
        log.entry(2, true, 2);
        log.roll(3);
        log.entry(3, true, 3);
        assert_eq!(indexes(&log.sound()), [1, 2, 3]);
        log
    };
    let remove = |log: &Log, sequence| {
        log.disk.remove_file(&segment::path(&dir(), sequence), CrashPoint::SegmentRemove).expect("removes");
    };
    for missing in [2, 3] {
        let log = three();
        remove(&log, missing);
        let text = log.refusal();
        assert!(text.contains(&format!("log-{missing:016} is missing")), "{text}");
        assert!(text.contains("Acknowledged changes are missing") && text.contains("nothing was changed"), "{text}");
    }
    // Without its first segment the log begins later: whether an image covers that is decided by `open`.
    let log = three();
    remove(&log, 1);
    assert_eq!(indexes(&log.sound()), [2, 3]);
    for sequence in [2, 3] {
        remove(&log, sequence);
    }
    assert!(log.refusal().contains("no log segment"));
}

#[test]
fn f_17_foreign_and_renamed_segments_are_refused() {
    let (log, _) = four_batches();
    let other = scan(&log.disk, &dir(), CLUSTER + 1).expect_err("refused").to_string();
    assert!(other.contains("belongs to another cluster"), "{other}");
    let from = segment::path(&dir(), 1);
    log.disk.rename(&from, &segment::path(&dir(), 2), CrashPoint::ImageRename).expect("renames");
    assert!(log.refusal().contains("this is segment 1"), "{}", log.refusal());
    // Records of one segment mean nothing in another: the salt differs.
    let records = log.bytes(2)[RECORDS_AT as usize..].to_vec();
    let fresh = Log::new(2);
    fresh.overwrite(2, RECORDS_AT, &records);
    assert_eq!(indexes(&fresh.scan().expect("readable")), [0_u64; 0]);
}

#[test]
fn sc_60_a_segment_cut_at_any_byte_of_its_sealed_part_is_refused() {
    let (mut log, _) = four_batches();
    log.roll(5);
    log.entry(5, true, 7);
    let file = log.disk.open(&segment::path(&dir(), 1), OpenMode::ReadWrite).expect("opens");
    for len in (0..log.offset).rev().step_by(37) {
        file.set_len(len, CrashPoint::LogTruncate).expect("cuts");
        match log.scan() {
            Ok(scan) => assert!(scan.rot.is_some(), "cut to {len} bytes"),
            Err(error) => assert!(error.to_string().contains("does not verify"), "{error}"),
        }
    }
}

#[test]
fn u_2_unknown_records_stop_the_reader_even_at_the_end() {
    let reseal = |bytes: &mut Vec<u8>, salt: u64| {
        let mut salted = salt.to_le_bytes().to_vec();
        salted.extend_from_slice(&bytes[..52]);
        let crc = base::two_slot::crc32c(&salted).to_le_bytes();
        bytes[52..56].copy_from_slice(&crc);
    };
    // Byte of the header, its new value, what the message says.
    for (at, value, said) in [
        (4, 2_u8, "format version 2 is newer"),
        (5, 9, "unknown kind 9"),
        (6, 3, "flags 0x03"),
        (7, 1, "a newer program wrote it"),
        (48, 1, "a newer program wrote it"),
    ] {
        let (mut log, _) = four_batches();
        let mut bytes = Vec::new();
        let header = Header { kind: Kind::Entry, last_of_batch: true, term: 1, index: 7, batch: 5 };
        record::encode(&mut bytes, log.segment.seed, header, &body(7, 1));
        bytes[at] = value;
        reseal(&mut bytes, log.segment.seed.salt);
        log.raw(&bytes);
        let text = log.refusal();
        assert!(text.contains(said), "byte {at}: {text}");
    }
    let unknown = RaftEntry { term: 1, index: 7, kind: 1, ..RaftEntry::default() }.encode_to_vec();
    let contradicting = body(8, 1);
    for (kind, body) in [
        (Kind::Entry, unknown.as_slice()),
        (Kind::Entry, contradicting.as_slice()),
        (Kind::Entry, &[0xff; 9]),
        (Kind::Seal, b"more"),
    ] {
        let (mut log, _) = four_batches();
        let at = log.put(kind, 5, true, (7, 1), body);
        let scan = log.scan().expect("readable");
        assert_eq!(scan.rot.expect("its checksum is right: never cut").at.offset, at);
    }
}

#[test]
fn batches_and_entries_out_of_order_are_never_taken() {
    // A batch is missing in between.
    let (mut log, _) = four_batches();
    let at = log.entry(6, true, 7);
    assert_eq!(log.scan().expect("readable").rot.expect("rot").at.offset, at);
    // An entry is missing in between.
    let (mut log, _) = four_batches();
    let at = log.entry(5, true, 8);
    assert_eq!(log.scan().expect("readable").rot.expect("rot").at.offset, at);
    // The end of batch 5 is missing, and batch 6 stands there.
    let (mut log, _) = four_batches();
    log.entry(5, false, 7);
    log.entry(6, true, 8);
    assert!(log.scan().expect("readable").rot.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_is_never_an_entry(bytes in proptest::collection::vec(any::<u8>(), 0..600), place in 0_u64..40) {
        let (mut log, _) = four_batches();
        log.offset += place * 8;
        log.raw(&bytes);
        let scan = log.sound();
        prop_assert_eq!(indexes(&scan), [1, 2, 3, 4, 5, 6]);
        prop_assert_eq!(scan.needs_cut, bytes.iter().any(|byte| *byte != 0));
    }

    #[test]
    fn garbage_instead_of_a_segment_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let disk = MemDisk::new();
        disk.create_dir_all(&dir(), CrashPoint::CreateServerDir).expect("a folder");
        let file = disk.create_new(&segment::path(&dir(), 1), CrashPoint::SegmentCreate).expect("creates");
        file.write_at(&bytes, 0).expect("writes");
        prop_assert!(scan(&disk, Path::new("/nn"), CLUSTER).is_err());
    }

    #[test]
    fn any_log_reads_back(batches in proptest::collection::vec(1_usize..4, 1..12), rolls in any::<u16>()) {
        let mut log = Log::new(1);
        let mut index = 0;
        for (number, entries) in batches.iter().enumerate() {
            let batch = number as u64 + 1;
            for entry in 0..*entries {
                index += 1;
                log.entry(batch, entry + 1 == *entries, index);
            }
            if rolls >> (number % 16) & 1 == 1 {
                log.roll(batch + 1);
            }
        }
        let scan = log.sound();
        prop_assert_eq!(indexes(&scan), (1..=index).collect::<Vec<_>>());
        prop_assert_eq!(scan.last_batch, batches.len() as u64);
    }
}
