//! Images: what is taken is the state of its index, what is damaged is refused, every kind of record comes back.

use std::io::Read;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use proto::log::command::Op;
use proto::log::{
    AddBlock, CommittedBlock, Complete, Create, Delete, Mkdir, Reclaim, RegisterStorage, SetBlockKey, Settings,
    UpdateSettings,
};

use super::harness::{
    BLOCK, Bench, Draft, From, SUPER, by, code, homes, image_of, new_file, path, replay, session, settings,
};
use crate::namespace::sessions::MAX_OUTCOMES;
use crate::namespace::{ImageError, Namespace};

const HEAD_BYTES: usize = 12;
const FRAME_HEADER_BYTES: usize = 16;
/// Kinds of sections, as they are on disk.
const KINDS: [u32; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15];

/// A state with something in every section, and with the ends of every field (SC-08).
fn everything() -> Bench {
    let mut bench = Bench::new();
    for n in 3..12 {
        bench.add_storage(n);
    }
    let odd = RegisterStorage {
        storage: format!("DS-{}", "s".repeat(125)),
        node: "n".repeat(128),
        media: "m".repeat(255),
        rack: "ä".repeat(127),
    };
    bench.run(by(SUPER), Op::RegisterStorage(odd)).result.unwrap();
    for number in [1, 7, u32::MAX] {
        bench.run(by(SUPER), Op::SetBlockKey(SetBlockKey { number, key: vec![9; 64].into() })).result.unwrap();
    }
    let wide = Settings { superuser_group: "g".repeat(255), max_blocks_per_file: 1 << 20, ..settings() };
    bench.run(by(SUPER), Op::UpdateSettings(UpdateSettings { settings: Some(wide) })).result.unwrap();
    bench.mkdir(SUPER, "/d", 0o7777).unwrap();
    bench.mkdir(&"u".repeat(255), &format!("/tmp/{}", "n".repeat(255)), 0).unwrap();

    // A closed file with many copies, digests, the largest block size and most copies.
    let create = Create {
        path: "/d/wide".into(),
        mode: 0o7777,
        replication: 512,
        block_size_bytes: 1 << 40,
        first_block_storages: homes(12),
        unmasked_mode: None,
        ..new_file()
    };
    let draft = bench.create_with(by(SUPER), create).unwrap();
    let last = draft.committed(1 << 40).map(|block| CommittedBlock {
        storages: homes(12),
        digest: Bytes::from_static(&[0xd1; 16]),
        ..block
    });
    let complete = Complete { inode: draft.inode, lease_epoch: draft.epoch, last };
    bench.run(by(SUPER), Op::Complete(complete)).result.unwrap();
    bench.file(SUPER, "/d/small", 1);
    bench.create(SUPER, "/d/at once", true).unwrap();

    // A session with answers, refusals, gaps, forgotten calls, a pinned draft and calls at the end of the numbers.
    let from = |call| From { user: "ann", session: Some((session(3), call, 1)) };
    let draft = bench.create_with(from(1), Create { path: "/tmp/pinned".into(), overwrite: true, ..new_file() });
    let draft = draft.unwrap();
    let mkdir = |path: &str| Op::Mkdir(Mkdir { path: path.into(), mode: 0o755, parents: false, unmasked_mode: None });
    for call in [u64::MAX, u64::MAX - 1, u64::MAX - 3] {
        assert!(bench.run(from(call), mkdir("/no right")).result.is_err());
    }
    let add =
        AddBlock { inode: draft.inode, lease_epoch: draft.epoch, previous: draft.committed(5), storages: homes(3) };
    bench.run(from(10), Op::AddBlock(add)).result.unwrap();
    bench.run(from(12), mkdir("/tmp/made")).result.unwrap();
    bench
        .run(from(13), Op::Delete(Delete { path: "/tmp/made".into(), recursive: true, checked_inode: 0 }))
        .result
        .unwrap();
    for call in 20..20 + MAX_OUTCOMES as u64 {
        bench.run(from(call), mkdir("/tmp/none/x")).result.unwrap_err();
    }
    let other = From { user: "bob", session: Some((session(200), 4, 1)) };
    bench.run(other, mkdir("/tmp/bob")).result.unwrap();

    // Unlinked trees half reclaimed: directories, a large file with blocks gone from its front, open files.
    for dir in ["/x", "/x/y", "/x/y/z"] {
        bench.mkdir(SUPER, dir, 0o755).unwrap();
    }
    let large = large_file(&mut bench, "/x/y/large", 80);
    bench.create(SUPER, "/x/y/z/open", true).unwrap();
    bench.file(SUPER, "/x/f", 1);
    bench.complete(SUPER, &large, 3).unwrap();
    bench.delete(SUPER, "/x", true).unwrap();
    for _ in 0..4 {
        bench.run(by(SUPER), Op::Reclaim(Reclaim { limit: 4 })).result.unwrap();
    }
    assert!(bench.namespace.reclaim_pending() > 1 && bench.namespace.queue.len() > 1);
    bench
}

fn large_file(bench: &mut Bench, at: &str, blocks: usize) -> Draft {
    let mut draft = bench.create(SUPER, at, false).unwrap();
    for _ in 1..blocks {
        draft.block = Some(bench.add_block(SUPER, &draft, BLOCK).unwrap());
    }
    draft
}

fn load(bytes: &[u8]) -> Result<Namespace, ImageError> {
    Namespace::read_from(&mut &*bytes)
}

/// Where each frame begins, and its kind.
fn frames(image: &[u8]) -> Vec<(usize, u32)> {
    let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let (mut at, mut all) = (HEAD_BYTES, Vec::new());
    while at < image.len() {
        all.push((at, word(at)));
        at += FRAME_HEADER_BYTES + word(at + 4) as usize;
    }
    all
}

/// Every byte near the borders of frames, and a sample of the others.
fn sampled(image: &[u8]) -> Vec<usize> {
    let starts: Vec<usize> = frames(image).into_iter().map(|(at, _)| at).collect();
    let near = |at: &usize| starts.iter().any(|start| at + 20 > *start && *at < start + 40);
    (0..image.len()).filter(|at| at % 11 == 0 || near(at) || *at + 20 > image.len()).collect()
}

/// Makes the checksum of the frame at `at` right again.
fn seal(image: &mut [u8], at: usize) {
    let len = u32::from_le_bytes(image[at + 4..at + 8].try_into().unwrap()) as usize;
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&image[at..at + 12]);
    digest.update(&image[at + FRAME_HEADER_BYTES..at + FRAME_HEADER_BYTES + len]);
    let crc = digest.finalize() as u32;
    image[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
}

fn frame(kind: u32, records: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [kind, payload.len() as u32, records, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(payload);
    seal(&mut bytes, 0);
    bytes
}

/// An image that is taken must be the very state, whatever its reader was given.
fn must_be_equal(loaded: &Namespace, live: &Namespace) {
    assert_eq!(loaded.recount(), live.counts());
    assert_eq!(loaded.state_hash(), live.state_hash());
    assert!(image_of(loaded) == image_of(live), "byte-identical");
}

#[test]
fn n_8_sc_08_every_kind_of_record_comes_back() {
    let bench = everything();
    let image = image_of(&bench.namespace);
    let found: Vec<u32> = frames(&image).into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(found, KINDS, "every section, in order");
    must_be_equal(&load(&image).unwrap(), &bench.namespace);
    bench.check();
    // What it says is what was put in.
    let loaded = load(&image).unwrap();
    let wide = loaded.open(&super::harness::caller(SUPER), &path("/d/wide"), 0..1, 9).unwrap();
    assert_eq!((wide.status.mode, wide.status.replication, wide.status.len_bytes), (0o7777, 512, 1 << 40));
    assert_eq!(wide.blocks[0].storages.len(), 12);
    let slot = loaded.store.block_slot(wide.blocks[0].block.raw()).unwrap();
    assert_eq!(loaded.store.digest(slot), Some(&[0xd1; 16]));
    assert_eq!(loaded.settings().superuser_group.len(), 255);
    assert_eq!(loaded.storages().last().unwrap().rack.chars().count(), 127);
}

#[test]
fn f_3_calls_at_the_end_of_their_numbers_do_not_keep_a_member_from_starting() {
    let mut bench = Bench::new();
    for call in [u64::MAX - 2, u64::MAX].into_iter().chain(1..=MAX_OUTCOMES as u64) {
        let from = From { user: "ann", session: Some((session(1), call, 1)) };
        let mkdir = Mkdir { path: format!("/tmp/{call}"), mode: 0o755, parents: false, unmasked_mode: None };
        bench.run(from, Op::Mkdir(mkdir)).result.unwrap();
    }
    bench.check();
    let mut loaded = load(&image_of(&bench.namespace)).unwrap();
    std::mem::swap(&mut loaded, &mut bench.namespace);
    let from = From { user: "ann", session: Some((session(1), u64::MAX, 1)) };
    let again = bench
        .run(from, Op::Mkdir(Mkdir { path: "/tmp/again".into(), mode: 0o755, parents: false, unmasked_mode: None }));
    assert_eq!(code(again.result), proto::error::ErrorCode::OutcomeUnknown, "forgotten, not applied twice");
}

#[test]
fn sc_07_an_image_taken_while_operations_go_on_is_the_state_of_its_index() {
    let mut bench = everything();
    let (before, index) = (image_of(&bench.namespace), bench.namespace.applied());
    let frozen = bench.namespace.freeze();
    assert_eq!((frozen.applied(), frozen.state_hash()), (index, bench.namespace.state_hash()));
    let cut = bench.log.len();
    let written = std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            let mut bytes = Vec::new();
            frozen.write_to(&mut bytes).map(|()| bytes)
        });
        // Everything that the image holds changes meanwhile.
        bench.reclaim_all();
        for n in 0..200 {
            bench.file(SUPER, &format!("/d/new{n}"), 1 + n % BLOCK);
        }
        bench.rename(SUPER, "/d", "/e", false).unwrap();
        bench.delete(SUPER, "/e/wide", false).unwrap();
        bench.delete(SUPER, "/tmp", true).unwrap();
        bench.reclaim_all();
        writer.join()
    });
    let written = written.unwrap().unwrap();
    assert!(written == before, "the bytes of its moment");
    let mut restarted = load(&written).unwrap();
    assert_eq!(restarted.applied(), index);
    replay(&mut restarted, &bench.log, cut);
    must_be_equal(&restarted, &bench.namespace);
}

#[test]
fn f_5_sc_60_an_image_cut_anywhere_is_refused() {
    let image = image_of(&everything().namespace);
    for len in sampled(&image) {
        match load(&image[..len]) {
            Err(ImageError::Damaged { .. }) => {}
            Err(other) => panic!("cut at {len}: {other}"),
            Ok(_) => panic!("an image cut at {len} of {} was taken", image.len()),
        }
    }
    let mut longer = image;
    longer.push(0);
    assert!(load(&longer).is_err(), "nothing may follow");
}

#[test]
fn f_6_sc_19_a_flipped_bit_is_found_wherever_it_is() {
    let image = image_of(&everything().namespace);
    for at in sampled(&image) {
        let mut damaged = image.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(load(&damaged).is_err(), "bit {} of byte {at}", at % 8);
    }
}

#[test]
fn i_6_a_changed_record_with_a_right_checksum_is_refused_or_changes_nothing() {
    let bench = everything();
    let image = image_of(&bench.namespace);
    let mut taken = 0;
    for (n, (at, _)) in frames(&image).into_iter().enumerate() {
        let len = u32::from_le_bytes(image[at + 4..at + 8].try_into().unwrap()) as usize;
        // Every byte of short frames, a sample of the long ones.
        let step = 1 + len / 400;
        for byte in (0..len).step_by(step) {
            for bit in [byte % 8, (byte + n + 3) % 8] {
                let mut changed = image.clone();
                changed[at + FRAME_HEADER_BYTES + byte] ^= 1 << bit;
                seal(&mut changed, at);
                if let Ok(loaded) = load(&changed) {
                    must_be_equal(&loaded, &bench.namespace);
                    taken += 1;
                }
            }
        }
    }
    // A flipped tag of a field that is zero anyway is an unknown field, and nothing else.
    assert!(taken < 20, "{taken} changed images were taken");
}

#[test]
fn i_6_frames_left_out_doubled_or_swapped_are_refused() {
    let image = image_of(&everything().namespace);
    let starts: Vec<usize> = frames(&image).into_iter().map(|(at, _)| at).chain([image.len()]).collect();
    let parts: Vec<&[u8]> = starts.windows(2).map(|pair| &image[pair[0]..pair[1]]).collect();
    let build = |order: &[usize]| -> Vec<u8> {
        let frames = order.iter().flat_map(|part| parts[*part]).copied();
        image[..HEAD_BYTES].iter().copied().chain(frames).collect()
    };
    let all: Vec<usize> = (0..parts.len()).collect();
    assert!(load(&build(&all)).is_ok());
    for part in 0..parts.len() {
        let without: Vec<usize> = all.iter().copied().filter(|other| *other != part).collect();
        assert!(load(&build(&without)).is_err(), "without section {part}");
        let mut doubled = all.clone();
        doubled.insert(part, part);
        assert!(load(&build(&doubled)).is_err(), "section {part} twice");
        let mut swapped = all.clone();
        swapped.swap(part, (part + 1) % parts.len());
        assert!(load(&build(&swapped)).is_err(), "section {part} after the next");
    }
}

#[test]
fn sc_24_an_image_of_a_newer_program_is_refused_by_name() {
    let mut image = image_of(&Bench::new().namespace);
    for found in [0, 3, 5, 6, 9, 12, u32::MAX] {
        image[8..12].copy_from_slice(&u32::to_le_bytes(found));
        assert!(matches!(load(&image), Err(ImageError::Version { found: told, known: 8 }) if told == found));
    }
    image[0] = b'X';
    assert!(matches!(load(&image), Err(ImageError::Damaged { offset: 0, .. })));
}

/// Notes the largest buffer that it was asked to fill: what a reader allocates before it has the bytes.
struct Asked<'a> {
    bytes: &'a [u8],
    most: usize,
}
impl Read for Asked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.most = self.most.max(buffer.len());
        self.bytes.read(buffer)
    }
}

#[test]
fn r_1_no_memory_is_taken_for_what_a_length_claims() {
    let image = image_of(&Bench::new().namespace);
    for claimed in [8 << 20, (8 << 20) + 1, u32::MAX] {
        for records in [1, u32::MAX] {
            let mut bytes = image[..HEAD_BYTES].to_vec();
            for word in [1, claimed, records, 0] {
                bytes.extend_from_slice(&u32::to_le_bytes(word));
            }
            bytes.extend_from_slice(&[0x0a; 100]);
            let mut reader = Asked { bytes: &bytes, most: 0 };
            assert!(Namespace::read_from(&mut reader).is_err());
            assert!(reader.most <= 64 << 10, "{} bytes were asked for with 100 there", reader.most);
        }
    }
    // Lengths inside a record: a name of 4 GiB, a list of 2^60 numbers.
    for claim in
        [&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x22, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f][..]]
    {
        for kind in KINDS {
            let mut record = vec![claim.len() as u8];
            record.extend_from_slice(claim);
            let first = frames(&image)[1].0;
            let mut bytes = image[..first].to_vec();
            bytes.extend_from_slice(&frame(kind, 1, &record));
            assert!(load(&bytes).is_err(), "section {kind}");
        }
    }
}

#[test]
fn f_9_a_writer_that_fails_is_an_error_not_a_short_image() {
    /// Takes so many bytes, then fails.
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(buffer.len()) {
                Some(left) => {
                    self.0 = left;
                    Ok(buffer.len())
                }
                None => Err(std::io::ErrorKind::StorageFull.into()),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let bench = everything();
    let len = image_of(&bench.namespace).len();
    for room in (0..len).step_by(97) {
        let written = bench.namespace.freeze().write_to(&mut Full(room));
        assert!(matches!(written, Err(ImageError::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull));
    }
    assert!(bench.namespace.freeze().write_to(&mut Full(len)).is_ok());
}

#[test]
fn n_8_ids_are_never_given_twice_whatever_was_deleted_before_a_restart() {
    let mut bench = Bench::new();
    let (old, over) = (bench.create(SUPER, "/a", true).unwrap(), bench.create(SUPER, "/b", false).unwrap());
    bench.delete(SUPER, "/a", false).unwrap();
    let give_up = proto::log::Discard { inode: over.inode, lease_epoch: over.epoch };
    bench.run(by(SUPER), Op::Discard(give_up)).result.unwrap();
    assert_eq!(bench.namespace.counts().blocks, 0);
    bench.namespace = load(&image_of(&bench.namespace)).unwrap();
    let new = bench.create(SUPER, "/a", true).unwrap();
    let (one, two, three) = (old.block.unwrap(), over.block.unwrap(), new.block.unwrap());
    assert_eq!((one.block.next(), two.block.next()), (two.block, three.block));
    assert_eq!((one.stamp.next(), two.stamp.next()), (two.stamp, three.stamp));
    assert!(new.inode > over.inode && new.epoch > over.epoch);
    assert_eq!(bench.namespace.block(one.block), None);
}

fn fixed(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(fixed(400, 5))]

    #[test]
    fn s_9_garbage_is_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        kinds in proptest::collection::vec((0_usize..KINDS.len(), 0_u32..4), 0..5),
        keep in 0_usize..12,
    ) {
        prop_assert!(load(&bytes).is_err());
        let image = image_of(&Bench::new().namespace);
        let starts: Vec<usize> = frames(&image).into_iter().map(|(at, _)| at).collect();
        // A good beginning, then garbage: as it is, and as records of frames with right checksums.
        let good = &image[..starts.get(keep).copied().unwrap_or(image.len())];
        prop_assert!(load(&[good, &bytes].concat()).is_err() || bytes.is_empty());
        let mut framed = good.to_vec();
        for (part, (kind, records)) in bytes.chunks(80).zip(kinds) {
            framed.extend_from_slice(&frame(KINDS[kind], records, part));
        }
        prop_assert!(load(&framed).is_err() || framed == image);
    }
}
