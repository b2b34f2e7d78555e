//! Digests in the store: kept as they came, compared when a replica is read whole, given to those that have none.

use base::disk::{OpenMode, read_file};
use transfer::digest::{self, Leaf, LeafHasher};
use transfer::verify::LeafOrigin;
use transfer::{PACKET_DATA_BYTES, Verified};

use super::super::look::Look;
use super::super::meta::{End, HEADER_BYTES, Trailer};
use super::super::restore::restore;
use super::*;
use crate::commands::begin_copy;
use crate::node::Node;

/// Two whole segments and a short one.
const LEN: usize = (2 << 20) + 700;

fn tree(data: &[u8]) -> LeafHasher {
    let mut tree = LeafHasher::default();
    tree.update(data);
    tree.finish();
    tree
}

/// Writes a replica as its packets come, with these leaves.
fn store_with(store: &Store, n: i64, leaves: &[Leaf]) -> Result<FinalisedReplica, StoreError> {
    let mut writer = store.create(&block(n), None, ChunkFormat::CRC32C_512)?;
    let data = bytes(n, LEN);
    for part in data.chunks(PACKET_DATA_BYTES) {
        put(&mut writer, part)?;
    }
    writer.add_leaves(leaves, LEN as u64, true)?;
    writer.finalise()
}

fn file_of(disk: &MemDisk, n: i64, meta: bool) -> PathBuf {
    let name = format!("/{}", block(n).id);
    let is_it = |file: &String| {
        file.contains("/current/") && (if meta { file.contains(&format!("{name}_")) } else { file.ends_with(&name) })
    };
    disk.files().into_iter().find(is_it).unwrap().into()
}

fn trailer(disk: &MemDisk, n: i64) -> Trailer {
    let bytes = read_file(disk.shared().as_ref(), &file_of(disk, n, true), 1 << 20).unwrap();
    let End::Trailer(trailer, _) = Trailer::decode_end(&bytes) else { panic!("no trailer") };
    trailer
}

/// Lets the scrubber run until it has read everything once; the replicas that it found sound and damaged.
fn scrub(store: &Store) -> (Vec<BlockId>, Vec<BlockId>) {
    const WALL_S: u64 = 1_900_000_000;
    let period = Duration::from_secs(100);
    let mut scrub = store.scrubs(ScrubOptions { rate_bytes_per_s: 1 << 30, period }).remove(0);
    let (mut now, mut sound, mut damaged) = (NOW, Vec::new(), Vec::new());
    while now < NOW.plus(period * 2) {
        match scrub.turn(now, WALL_S + now.elapsed_from_start().as_secs()) {
            Turn::Rest(until) => now = until,
            Turn::Did { sound: one, damaged: bad, .. } => {
                sound.extend(one);
                damaged.extend(bad);
            }
        }
    }
    (sound, damaged)
}

/// Changes a byte of the data and everything that CRCs protect, so that only the digest still knows.
fn forge(disk: &MemDisk, n: i64, at: usize) {
    let shared = disk.shared();
    let (data_path, meta_path) = (file_of(disk, n, false), file_of(disk, n, true));
    let mut data = read_file(shared.as_ref(), &data_path, 1 << 30).unwrap();
    data[at] ^= 0x20;
    shared.open(&data_path, OpenMode::ReadWrite).unwrap().write_at(&data, 0).unwrap();
    let sums = ChunkFormat::CRC32C_512.compute(&data);
    let forged = Trailer { crc_of_crcs: ChunkFormat::CRC32C_512.extend(0, &sums), ..trailer(disk, n) };
    let meta = shared.open(&meta_path, OpenMode::ReadWrite).unwrap();
    meta.write_at(&sums, HEADER_BYTES).unwrap();
    meta.write_at(&forged.encode(), HEADER_BYTES + sums.len() as u64).unwrap();
}

#[test]
fn leaves_are_kept_as_they_came_and_survive_a_restart() {
    let (disk, store) = joined(1);
    let leaves = tree(&bytes(1, LEN)).leaves().to_vec();
    store_with(&store, 1, &leaves).unwrap();
    assert_eq!(trailer(&disk, 1), Trailer { leaves: leaves.clone(), observed: false, ..trailer(&disk, 1) });
    drop(store);
    disk.power_cut(&SeededRandom::new(3));
    let store = open(&disk, 1).unwrap();
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
    assert_eq!(read(&store, 1).unwrap(), bytes(1, LEN));
    assert_eq!(store.open_reader(&block(1)).unwrap().leaves().unwrap(), (leaves, false));
}

#[test]
fn sc_51_data_with_the_namespaces_digest_are_sound_whatever_the_leaves_say_and_get_the_right_ones() {
    for (name, wrong) in [("another leaf", 3), ("too many", 4)] {
        let (disk, store) = joined(1);
        let tree = tree(&bytes(1, LEN));
        store_with(&store, 1, tree.leaves()).unwrap();
        let mut leaves = tree.leaves().to_vec();
        leaves[1] = [9; digest::LEAF_BYTES];
        leaves.resize(wrong, [8; digest::LEAF_BYTES]);
        let bad = Trailer { leaves, ..trailer(&disk, 1) };
        let meta = disk.shared().open(&file_of(&disk, 1, true), OpenMode::ReadWrite).unwrap();
        let at = HEADER_BYTES + ChunkFormat::CRC32C_512.checksums_bytes(LEN as u64);
        meta.set_len(at, CrashPoint::MetaSync).unwrap();
        meta.write_at(&bad.encode(), at).unwrap();
        // Nobody who knows no better can tell which of the two is wrong.
        let storage = store.replica(block(1).id).unwrap().0;
        let verify = |known: Option<&Prefix>| store.verify(&storage, (block(1).id, block(1).stamp), known).unwrap();
        assert!(!verify(None), "{name}");
        assert_eq!(state(&store, 1), Some(ReplicaState::Corrupt), "{name}");
        assert!(!verify(Some(&[5; 16])), "{name}: another digest");
        assert!(verify(Some(&tree.prefix())), "{name}");
        assert_eq!(state(&store, 1), Some(ReplicaState::Finalized), "{name}");
        assert_eq!(trailer(&disk, 1), Trailer { leaves: tree.leaves().to_vec(), observed: false, ..bad }, "{name}");
        assert!(verify(None), "{name}: now they agree");
        assert_eq!(read(&store, 1).unwrap(), bytes(1, LEN), "{name}");
        // Data that were changed with everything else do not have it.
        forge(&disk, 1, 77);
        assert!(!verify(Some(&tree.prefix())), "{name}");
    }
}

#[test]
fn too_many_and_too_few_leaves_are_refused_and_kept_nowhere() {
    let (_disk, store) = joined(1);
    let leaves = tree(&bytes(1, LEN)).leaves().to_vec();
    let mut more = leaves.clone();
    more.push([0; digest::LEAF_BYTES]);
    for (n, wrong) in [(1, &leaves[..2]), (2, &more[..])] {
        let refused = store_with(&store, n, wrong).unwrap_err();
        assert!(
            matches!(refused, StoreError::Leaves { replica_bytes, .. } if replica_bytes == LEN as u64),
            "{refused}"
        );
        assert_eq!(state(&store, n), Some(ReplicaState::WaitingRecovery), "it is not whole");
    }
    // None before the data of its segment are there: what a sender can make a node keep is bounded.
    let mut writer = store.create(&block(3), None, ChunkFormat::CRC32C_512).unwrap();
    assert!(writer.add_leaves(&leaves[..1], 0, false).is_err());
    put(&mut writer, &bytes(3, 512)).unwrap();
    assert!(writer.add_leaves(&leaves[..1], 512, true).is_ok() && writer.add_leaves(&leaves[..1], 512, true).is_err());
}

#[test]
fn f_8_a_flipped_byte_whose_checksums_were_forged_is_found_by_the_scrubber() {
    for at in [0, (1 << 20) - 1, 1 << 20, LEN - 1] {
        let (disk, store) = joined(1);
        store_with(&store, 1, tree(&bytes(1, LEN)).leaves()).unwrap();
        store_with(&store, 2, tree(&bytes(2, LEN)).leaves()).unwrap();
        forge(&disk, 1, at);
        assert!(read(&store, 1).is_ok(), "the checksums agree: a reader sees nothing");
        let (sound, damaged) = scrub(&store);
        assert_eq!(damaged, [block(1).id], "byte {at}");
        assert!(sound.contains(&block(2).id) && !sound.contains(&block(1).id));
        assert_eq!(state(&store, 1), Some(ReplicaState::Corrupt));
    }
}

#[test]
fn a_replica_without_leaves_gets_them_from_the_scrubber_and_its_readers_notice_nothing() {
    let (disk, store) = joined(1);
    for (n, len) in [(1, LEN), (2, 3000), (3, 0)] {
        store_block(&store, n, len).unwrap();
    }
    let before = store.open_reader(&block(1)).unwrap();
    let borrower = store.loans().borrower(None);
    let lent = borrower.lend(block(1).id).unwrap();
    let (sound, damaged) = scrub(&store);
    assert_eq!((sound.len() >= 3, damaged), (true, vec![]));
    for (n, len) in [(1, LEN), (2, 3000)] {
        let found = trailer(&disk, n);
        assert_eq!((found.leaves.as_slice(), found.observed), (tree(&bytes(n, len)).leaves(), true), "{n}");
        assert_eq!(read(&store, n).unwrap(), bytes(n, len));
    }
    assert!(trailer(&disk, 3).leaves.is_empty(), "nothing is hashed of nothing");
    assert!(borrower.holds(lent), "nothing is called back: the replica is the same");
    let mut sums = Vec::new();
    before.read_checksums(0, LEN as u64, &mut sums).unwrap();
    before.chunks().verify(&bytes(1, LEN), &sums).unwrap();
    assert!(!disk.files().iter().any(|file| file.ends_with("meta.new")));
    // Once they are there, they count.
    forge(&disk, 1, 5);
    assert_eq!(scrub(&store).1, [block(1).id]);
    drop((before, store));
    disk.power_cut(&SeededRandom::new(5));
    let store = open(&disk, 1).unwrap();
    assert_eq!(state(&store, 2), Some(ReplicaState::Finalized));
}

#[test]
fn f_3_a_stop_at_any_step_of_giving_leaves_keeps_the_replica_whole() {
    let points = [
        CrashPoint::LeavesRemove,
        CrashPoint::LeavesCreate,
        CrashPoint::LeavesSync,
        CrashPoint::LeavesRename,
        CrashPoint::BlockDirSync,
    ];
    for (seed, point) in (0..).zip(points) {
        for side in [Side::Before, Side::After] {
            for cut in [false, true] {
                let what = format!("{side:?} {}, power cut {cut}", point.name());
                let (disk, store) = joined(1);
                store_block(&store, 1, LEN).unwrap();
                // As an earlier kill leaves it.
                drop(disk.shared().create_new(Path::new("/disk0/meta.new"), CrashPoint::LeavesCreate).unwrap());
                disk.stop_at(point, side, 1);
                let volume = Arc::clone(&store.volumes[0]);
                let watch = Watch::begin(&volume, block(1).id).unwrap();
                let mut look = Look::begin(&watch, &block(1).pool, None).unwrap();
                while !look.slice().unwrap().sound {}
                restore(&watch, &look).unwrap_err();
                assert!(disk.stopped(), "{what}");
                drop((watch, look, volume, store));
                match cut {
                    true => disk.power_cut(&SeededRandom::new(seed)),
                    false => disk.process_died(),
                }
                let store = open(&disk, 1).unwrap();
                assert_eq!(state(&store, 1), Some(ReplicaState::Finalized), "{what}");
                assert_eq!(read(&store, 1).unwrap(), bytes(1, LEN), "{what}");
                // What was left is no hindrance.
                assert_eq!(scrub(&store).1, [], "{what}");
                assert_eq!(trailer(&disk, 1).leaves, tree(&bytes(1, LEN)).leaves(), "{what}");
                // After a power cut the name may be back; it means nothing.
                assert!(cut || !disk.files().iter().any(|file| file.ends_with("meta.new")), "{what}");
            }
        }
    }
}

#[test]
fn leaves_are_not_given_to_a_replica_that_was_made_anew_meanwhile() {
    let (disk, store) = joined(1);
    let storage = store_block(&store, 1, LEN).unwrap().storage;
    let volume = Arc::clone(&store.volumes[0]);
    let watch = Watch::begin(&volume, block(1).id).unwrap();
    let mut look = Look::begin(&watch, &block(1).pool, None).unwrap();
    while !look.slice().unwrap().sound {}
    store.delete(&storage, block(1).id, block(1).stamp, NOW).unwrap();
    let mut writer = store.create(&block(1), None, ChunkFormat::CRC32C_512).unwrap();
    put(&mut writer, &bytes(7, 900)).unwrap();
    assert!(!restore(&watch, &look).unwrap());
    writer.finalise().unwrap();
    assert!(!restore(&watch, &look).unwrap());
    assert!(trailer(&disk, 1).leaves.is_empty() && trailer(&disk, 1).len_bytes == 900);
    assert!(!disk.files().iter().any(|file| file.ends_with("meta.new")));
}

#[test]
fn a_full_disk_leaves_a_replica_without_leaves_and_a_failed_sync_costs_the_volume() {
    for (kind, failed) in [(DiskFaultKind::NoSpace, false), (DiskFaultKind::SyncError, true)] {
        let (disk, store) = joined(1);
        store_block(&store, 1, 3000).unwrap();
        disk.inject(DiskFault::once(kind).on("meta.new"));
        let (sound, damaged) = scrub(&store);
        assert_eq!((disk.faults_fired(), sound.contains(&block(1).id), damaged), (1, true, vec![]), "{kind:?}");
        assert_eq!(store.reports()[0].failed, failed, "{kind:?}");
        assert_eq!(state(&store, 1), Some(ReplicaState::Finalized), "{kind:?}");
        if !failed {
            assert!(!disk.files().iter().any(|file| file.ends_with("meta.new")), "what was begun is removed");
        }
    }
}

/// Copies a replica to another node by what its packets carry.
fn copy(from: &Node, to: &Store, n: i64) {
    let command = proto::cluster::CopyReplica {
        block: Some(proto::common::Block {
            pool: block(n).pool.to_string(),
            id: block(n).id.raw(),
            stamp: block(n).stamp.raw(),
            len_bytes: 0,
        }),
        targets: vec![proto::common::StorageLocation {
            node: NodeId::new("other").to_string(),
            storage: StorageId::new("other").to_string(),
            host: "h".into(),
            transfer_port: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut job = begin_copy(from, &command).unwrap();
    let mut writer = to.create_copy(&block(n), None, job.setup.chunks).unwrap();
    writer.set_observed(job.setup.digest_observed);
    while let Some(packet) = job.session.next_packet().unwrap() {
        if !packet.data.is_empty() {
            writer.write(packet.head.offset_bytes, &packet.data, &packet.checksums).unwrap();
        }
        {
            let end_bytes = packet.head.offset_bytes + packet.data.len() as u64;
            let leaves = digest::parse_leaves(&packet.leaves).unwrap();
            writer.add_leaves(leaves, end_bytes, packet.head.last).unwrap();
        }
    }
    writer.finalise().unwrap();
}

#[test]
fn a_copy_has_the_leaves_of_its_original_and_says_whose_they_are() {
    let (_disk, store) = joined(1);
    store_with(&store, 1, tree(&bytes(1, LEN)).leaves()).unwrap();
    store_block(&store, 2, LEN).unwrap();
    scrub(&store);
    store_block(&store, 3, LEN).unwrap();
    let from = Node::new(store);
    let (disk, store) = joined(1);
    (1..=3).for_each(|n| copy(&from, &store, n));
    for (n, leaves, observed) in [(1, 3, false), (2, 3, true), (3, 0, false)] {
        let copied = trailer(&disk, n);
        assert_eq!((copied.leaves.len(), copied.observed), (leaves, observed), "{n}");
        assert_eq!(copied.leaves[..], tree(&bytes(n, LEN)).leaves()[..leaves], "{n}");
    }
    assert_eq!(scrub(&store).1, [], "and they are right");
}

fn verify(store: &Store, n: i64) -> Result<(Verified, u64), StoreError> {
    let (mut verification, mut read) = (store.begin_verify(&block(n))?, 0);
    loop {
        match verification.step()? {
            VerifyStep::Going { bytes } => read += bytes,
            VerifyStep::Done(found) => return Ok((found, read)),
        }
    }
}

#[test]
fn a_replica_that_is_asked_about_is_read_whole_and_its_digest_told() {
    let (disk, store) = joined(1);
    store_with(&store, 1, tree(&bytes(1, LEN)).leaves()).unwrap();
    store_block(&store, 2, LEN).unwrap();
    let changes = |store: &Store| store.reports()[0].sequence;
    let before = changes(&store);
    for (n, leaves) in [(1, LeafOrigin::Writer), (2, LeafOrigin::None)] {
        let (found, read) = verify(&store, n).unwrap();
        let digest = Some(tree(&bytes(n, LEN)).prefix());
        let stamp = GenerationStamp::FIRST;
        assert_eq!(found, Verified { stamp, len_bytes: LEN as u64, digest, damage: None, leaves }, "{n}");
        assert!(read >= 2 << 20);
    }
    assert_eq!(changes(&store), before, "what is sound is no news");
    // A read that fails once is no damage.
    disk.inject(DiskFault::once(DiskFaultKind::ReadFlip).on("/current/").after(3));
    assert_eq!(verify(&store, 1).unwrap().0.damage, None);
    assert_eq!(disk.faults_fired(), 1);
    forge(&disk, 1, 1 << 20);
    let (found, _) = verify(&store, 1).unwrap();
    assert_eq!(found.digest, None);
    assert!(found.damage.is_some_and(|damage| damage.contains("from byte 1048576 on")));
    assert_eq!((state(&store, 1), changes(&store)), (Some(ReplicaState::Corrupt), before + 1), "and it is reported");
    assert!(matches!(store.begin_verify(&block(9)), Err(StoreError::NotFound(_))));
    let newer = BlockRef { stamp: GenerationStamp::FIRST.next(), ..block(2) };
    assert!(matches!(store.begin_verify(&newer), Err(StoreError::StaleStamp { .. })));
    // One that is deleted meanwhile is neither.
    let mut verification = store.begin_verify(&block(2)).unwrap();
    verification.step().unwrap();
    let storage = store.replica(block(2).id).unwrap().0;
    store.delete(&storage, block(2).id, block(2).stamp, NOW).unwrap();
    assert!(matches!(verification.step(), Err(StoreError::Changed(_))));
}

#[test]
fn bytes_that_are_not_those_of_the_namespace_are_damage_at_the_namenodes_word_only() {
    let (_disk, store) = joined(1);
    let storage = store_block(&store, 1, LEN).unwrap().storage;
    let (id, right) = ((block(1).id, block(1).stamp), tree(&bytes(1, LEN)).prefix());
    assert!(store.verify(&storage, id, Some(&right)).unwrap());
    assert!(!store.verify(&storage, id, Some(&[9; 16])).unwrap());
    assert_eq!(state(&store, 1), Some(ReplicaState::Corrupt));
    assert!(store.verify(&storage, id, Some(&right)).unwrap());
    assert_eq!(state(&store, 1), Some(ReplicaState::Finalized));
}
