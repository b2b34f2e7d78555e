//! Images in their container, and images that arrive part by part.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{Disk, DiskFault, DiskFaultKind, MemDisk, OpenMode, read_file};
use base::two_slot::crc32c;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use proto::ids::{ClusterId, LogIndex, MemberId, PoolId, Term};
use proto::log::ImageHeader;
use proto::raft::{RaftMessage, RaftSnapshot};

use super::ImageStore;
use super::format::{CHUNK_BYTES, ChunkReader, ImageWriter};
use crate::consensus::{Identity, ImageError, ImageInfo, ImageMeta, SendImage};

const NAME: &str = "image-00000000000000000007-00000000000000000002";

fn identity(cluster: &str) -> Identity {
    Identity {
        cluster: ClusterId::new(cluster),
        pool: PoolId::new("test"),
        member: MemberId::from_raw(1),
        initial_voters: vec![MemberId::from_raw(1)],
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/nn")
}

fn disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(&dir(), CrashPoint::CreateServerDir).expect("a folder");
    disk
}

fn store_of(disk: &MemDisk, cluster: &str) -> ImageStore {
    let lock = Arc::from(disk.lock(&dir().join("lock")).expect("locks"));
    ImageStore::open_dir(disk.shared(), &dir(), &identity(cluster), 64 << 10, lock).expect("opens")
}

fn store(disk: &MemDisk) -> ImageStore {
    store_of(disk, "test")
}

fn meta(index: u64) -> ImageMeta {
    ImageMeta { index: LogIndex::from_raw(index), term: Term::from_raw(2), state_hash: 0x1122_3344_5566_7788 }
}

fn write(store: &ImageStore, index: u64, body: &[u8]) -> ImageInfo {
    store.write(meta(index), &mut |out| out.write_all(body)).expect("written")
}

fn body_of(store: &ImageStore, index: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    store.open(LogIndex::from_raw(index))?.read_to_end(&mut bytes).expect("a verified image reads");
    Ok(bytes)
}

fn put(disk: &MemDisk, name: &str, bytes: &[u8]) {
    let path = dir().join(name);
    if disk.info(&path).expect("looks").is_some() {
        disk.remove_file(&path, CrashPoint::ImageRemove).expect("removes");
    }
    disk.create_new(&path, CrashPoint::ImageCreate).and_then(|file| file.write_at(bytes, 0)).expect("writes");
}

/// A whole image file with this body.
fn image_file(body: &[u8]) -> Vec<u8> {
    let disk = disk();
    write(&store(&disk), 7, body);
    read_file(&disk, &dir().join(NAME), 16 << 20).expect("reads")
}

#[test]
fn an_image_has_the_bytes_of_the_format_page() {
    let hex: String = image_file(b"state").iter().map(|byte| format!("{byte:02x}")).collect();
    let header = "4259494d41474500 01000000 25000000 0801 12084349442d74657374 1a0742502d74657374 2007 2802 \
                  318877665544332211 3a0101 f4bccabf";
    let chunks = "05000000 0ebbf29f 7374617465 00000000 adcf14c5";
    let trailer = "4259494d47454e44 0500000000000000 0100000000000000 9a87a652 dd2fdb6e";
    assert_eq!(hex, [header, chunks, trailer].concat().replace([' ', '\n'], ""));
}

#[test]
fn images_of_every_size_around_a_chunk_read_back() {
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES] {
        let disk = disk();
        let store = store(&disk);
        let body: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        assert_eq!(write(&store, 7, &body).body_bytes, len as u64);
        assert!(body_of(&store, 7).expect("opens") == body, "{len} bytes");
        drop(store);
        let again = self::store(&disk);
        assert_eq!(again.files().expect("lists"), [(7, 2)]);
        assert_eq!(again.adopt(7, 2).expect("verifies").meta, meta(7));
    }
}

#[test]
fn sc_60_every_flip_and_every_cut_of_an_image_is_seen() {
    let whole = image_file(b"the state of a small cluster");
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let disk = disk();
        put(&disk, NAME, &damaged);
        let found = store(&disk).adopt(7, 2);
        assert!(matches!(found, Err(ImageError::Damaged { .. })), "bit {bit}: {found:?}");
    }
    for cut in 0..whole.len() {
        let disk = disk();
        put(&disk, NAME, &whole[..cut]);
        assert!(matches!(store(&disk).adopt(7, 2), Err(ImageError::Damaged { .. })), "cut {cut}");
    }
    let disk = disk();
    put(&disk, NAME, &[whole.as_slice(), b"\0"].concat());
    let longer = store(&disk).adopt(7, 2).expect_err("refused").to_string();
    assert!(longer.contains("behind the trailer"), "{longer}");
}

#[test]
fn f_8_chunks_in_another_order_and_images_under_another_name_are_seen() {
    let disk = disk();
    let writing = store(&disk);
    let body: Vec<u8> = (0..2 * CHUNK_BYTES).map(|at| (at / CHUNK_BYTES) as u8).collect();
    write(&writing, 7, &body);
    drop(writing);
    let whole = read_file(&disk, &dir().join(NAME), 16 << 20).expect("reads");
    let (at, size) = (16 + 37 + 4, 8 + CHUNK_BYTES);
    let swapped = [&whole[..at], &whole[at + size..at + 2 * size], &whole[at..at + size], &whole[at + 2 * size..]];
    put(&disk, NAME, &swapped.concat());
    let text = store(&disk).adopt(7, 2).expect_err("refused").to_string();
    assert!(text.contains("a chunk does not verify"), "{text}");
    put(&disk, "image-00000000000000000008-00000000000000000002", &whole);
    let text = store(&disk).adopt(8, 2).expect_err("refused").to_string();
    assert!(text.contains("of another index than its name says"), "{text}");
    put(&disk, NAME, &whole);
    let text = store_of(&disk, "other").adopt(7, 2).expect_err("refused").to_string();
    assert!(text.contains("belongs to another cluster"), "{text}");
}

#[test]
fn u_2_an_image_of_another_version_is_named() {
    let mut container = image_file(b"state");
    container[8] = 2;
    let crc = crc32c(&container[..53]).to_le_bytes();
    container[53..57].copy_from_slice(&crc);
    let disk = disk();
    put(&disk, NAME, &container);
    let found = store(&disk).adopt(7, 2);
    assert!(matches!(found, Err(ImageError::Newer { found: 2, known: 1, .. })), "{found:?}");
    // The same in the header's own field, in a file that verifies.
    let file = disk.create_new(&dir().join("made"), CrashPoint::ImageCreate).expect("creates");
    let header = ImageHeader { version: 2, index: 7, term: 2, ..ImageHeader::default() };
    ImageWriter::begin(file, &header).and_then(ImageWriter::finish).expect("written");
    disk.rename(&dir().join("made"), &dir().join(NAME), CrashPoint::ImageRename).expect("renames");
    let found = store(&disk).adopt(7, 2);
    assert!(matches!(found, Err(ImageError::Newer { found: 2, .. })), "{found:?}");
}

#[test]
fn claimed_lengths_are_bounded_before_they_are_believed() {
    for (at, claim) in [(12, u32::MAX), (12, (64 << 10) + 1), (57, u32::MAX), (57, CHUNK_BYTES as u32 + 1)] {
        let mut bytes = image_file(b"state");
        bytes[at..at + 4].copy_from_slice(&claim.to_le_bytes());
        let disk = disk();
        put(&disk, NAME, &bytes);
        let text = store(&disk).adopt(7, 2).expect_err("refused").to_string();
        assert!(text.contains("not the header of an image") || text.contains("longer than chunks can be"), "{text}");
    }
}

#[test]
fn what_an_interrupted_write_or_transfer_left_is_removed_and_strangers_are_not() {
    let disk = disk();
    for name in ["image.new", "image.incoming", "image-7-2", "image-notes.txt"] {
        put(&disk, name, b"x");
    }
    let store = store(&disk);
    assert_eq!(store.files().expect("lists"), [], "only names that this program writes");
    assert!(store.newest().is_none());
    let left = disk.files();
    assert!(left.iter().all(|name| !name.ends_with("image.new") && !name.ends_with("image.incoming")), "{left:?}");
    assert!(left.iter().any(|name| name.ends_with("image-7-2")), "{left:?}");
    assert!(matches!(store.open(LogIndex::from_raw(7)), Err(ImageError::Gone { index: 7 })));
}

/// The parts of an image at index 7, as a leader sends them; cut smaller than a leader would.
fn parts(body: &[u8], part_bytes: usize) -> Vec<RaftMessage> {
    let disk = disk();
    let store = store(&disk);
    write(&store, 7, body);
    let snapshot = RaftSnapshot { index: 7, term: 2, voters: vec![1], ..RaftSnapshot::default() };
    let message = RaftMessage { kind: 7, from: 2, to: 1, term: 3, snapshot: Some(snapshot), ..RaftMessage::default() };
    let send = SendImage { to: MemberId::from_raw(1), index: LogIndex::from_raw(7), message };
    let mut whole = Vec::new();
    store.parts(&send, |part| whole.push(part)).expect("sends");
    let mut parts = Vec::new();
    for message in whole {
        let snapshot = message.snapshot.clone().expect("a part");
        for (number, piece) in snapshot.data.chunks(part_bytes).enumerate() {
            let mut part = message.clone();
            let offset_bytes = snapshot.offset_bytes + (number * part_bytes) as u64;
            let data = Bytes::copy_from_slice(piece);
            part.snapshot = Some(RaftSnapshot { data, offset_bytes, ..snapshot.clone() });
            parts.push(part);
        }
    }
    parts
}

fn change(part: &RaftMessage, change: impl FnOnce(&mut RaftSnapshot)) -> RaftMessage {
    let mut part = part.clone();
    change(part.snapshot.as_mut().expect("a part"));
    part
}

const BODY: &[u8] = b"the state of the leader, in a few parts";

#[test]
fn parts_in_order_with_repetitions_make_an_image() {
    let disk = disk();
    let store = store(&disk);
    let parts = parts(BODY, 30);
    assert!(parts.len() > 4);
    for (number, part) in parts.iter().enumerate() {
        let arrived = store.receive(part.clone()).expect("taken");
        assert_eq!(arrived.is_some(), number + 1 == parts.len(), "part {number}");
        if let Some(message) = arrived {
            assert!(message.snapshot.is_some_and(|snapshot| snapshot.data.is_empty() && snapshot.index == 7));
            break;
        }
        // Duplicates and parts from the future change nothing.
        assert!(store.receive(part.clone()).expect("ignored").is_none());
        assert!(store.receive(parts[parts.len() - 1].clone()).expect("ignored").is_none() || number + 2 == parts.len());
        if number + 2 == parts.len() {
            break;
        }
    }
    assert_eq!(body_of(&store, 7).expect("opens"), BODY);
    assert!(!disk.files().iter().any(|name| name.ends_with("image.incoming")));
}

#[test]
fn sc_06_parts_of_two_images_never_mix() {
    let disk = disk();
    let store = store(&disk);
    let (one, other) = (parts(BODY, 30), parts(b"another state of the same length, in parts", 30));
    store.receive(one[0].clone()).expect("taken");
    for part in &other[1..] {
        assert!(store.receive(part.clone()).expect("ignored").is_none());
    }
    for foreign in [
        change(&one[1], |snapshot| snapshot.term += 1),
        change(&one[1], |snapshot| snapshot.total_bytes += 1),
        change(&one[1], |snapshot| snapshot.digest ^= 1),
        RaftMessage { from: 3, ..one[1].clone() },
    ] {
        assert!(store.receive(foreign).expect("ignored").is_none());
    }
    // A new first part begins anew, and what the old leader still sends is ignored.
    store.receive(other[0].clone()).expect("taken");
    for (new, old) in other[1..].iter().zip(&one[1..]) {
        assert!(store.receive(old.clone()).expect("ignored").is_none());
        store.receive(new.clone()).expect("taken");
    }
    for new in other.iter().skip(one.len()) {
        store.receive(new.clone()).expect("taken");
    }
    assert_eq!(body_of(&store, 7).expect("opens"), b"another state of the same length, in parts");
}

#[test]
fn sc_06_an_image_that_is_not_the_announced_one_is_dropped_and_may_come_again() {
    let disk = disk();
    let store = store(&disk);
    let good = parts(BODY, 30);
    let lies: [&dyn Fn(&mut RaftSnapshot); 3] = [
        &|snapshot| snapshot.digest ^= 1,
        &|snapshot| snapshot.index = 8,
        // One byte of the file is another one.
        &|snapshot| {
            let mut data = snapshot.data.to_vec();
            data[0] ^= 1;
            snapshot.data = data.into();
        },
    ];
    for lie in lies {
        let mut last = None;
        for part in &good {
            last = Some(store.receive(change(part, lie)));
        }
        let refused = last.expect("parts").expect_err("refused");
        assert!(matches!(refused, ImageError::Damaged { .. }), "{refused}");
        assert!(store.newest().is_none(), "nothing was installed");
        assert!(!disk.files().iter().any(|name| name.contains("incoming") || name.contains("image-")));
    }
    for part in good {
        store.receive(part).expect("taken");
    }
    assert_eq!(body_of(&store, 7).expect("opens"), BODY);
}

#[test]
fn an_abandoned_transfer_costs_one_file_until_the_next_one_or_the_next_start() {
    let disk = disk();
    let receiving = store(&disk);
    let parts = parts(BODY, 30);
    receiving.receive(parts[0].clone()).expect("taken");
    // Meanwhile this member writes an image of its own.
    write(&receiving, 9, b"own state");
    drop(receiving);
    let again = store(&disk);
    assert!(!disk.files().iter().any(|name| name.ends_with("image.incoming")));
    // The rest of the old transfer is ignored, its repetition from the start is taken.
    for part in &parts[1..] {
        assert!(again.receive(part.clone()).expect("ignored").is_none());
    }
    for part in parts {
        again.receive(part).expect("taken");
    }
    assert_eq!(body_of(&again, 7).expect("opens"), BODY);
}

#[test]
fn sc_48_a_disk_error_during_a_transfer_drops_it_and_installs_nothing() {
    for kind in [DiskFaultKind::WriteError, DiskFaultKind::SyncError, DiskFaultKind::NoSpace] {
        let disk = disk();
        let store = store(&disk);
        let parts = parts(BODY, 30);
        disk.inject(DiskFault::once(kind).on("image.incoming"));
        let failed = parts.iter().filter(|part| store.receive((*part).clone()).is_err()).count();
        assert_eq!(failed, 1, "{kind:?}");
        assert!(store.newest().is_none(), "{kind:?}");
        for part in parts {
            store.receive(part).expect("taken");
        }
        assert_eq!(body_of(&store, 7).expect("opens"), BODY, "{kind:?}");
    }
}

#[test]
fn two_images_are_kept_and_the_log_since_the_older_one() {
    let disk = disk();
    let store = store(&disk);
    let mut needed = Vec::new();
    for index in [3, 7, 12, 20] {
        needed.push(write(&store, index, b"s").log_needed_after.raw());
    }
    assert_eq!(needed, [0, 3, 7, 12]);
    assert_eq!(store.files().expect("lists"), [(20, 2), (12, 2)]);
    let again = store.write(meta(20), &mut |_| Ok(()));
    assert!(matches!(again, Err(ImageError::Superseded { index: 20, newest: 20 })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_is_not_an_image(bytes in proptest::collection::vec(any::<u8>(), 0..400), keep in 0_usize..120) {
        let whole = image_file(b"state");
        for start in [&[][..], &whole[..keep.min(whole.len())]] {
            let disk = disk();
            let damaged = [start, &bytes].concat();
            if damaged == whole {
                continue;
            }
            put(&disk, NAME, &damaged);
            let path = dir().join(NAME);
            let read = disk.open(&path, OpenMode::Read).map(|file| {
                ChunkReader::begin(file, Path::new(NAME)).and_then(|(reader, _)| reader.verify_to_end())
            });
            prop_assert!(read.expect("opens").is_err());
        }
    }

    #[test]
    fn headers_of_garbage_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        ImageHeader::decode(bytes.as_slice()).ok();
    }
}
