//! What a start makes of folders in every condition: the folder is used, or it is left as it is and the others start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use base::disk::OpenMode;

use super::*;

/// What becomes of the middle one of three folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is used, and all its replicas are whole.
    Whole,
    /// It is used, and its replica is in this state, or not there.
    Replica(Option<ReplicaState>),
    /// It is left out, and the message says this.
    Offline(&'static str),
    /// Neither it nor the first one is used.
    BothOffline(&'static str),
    /// It was empty, and is a new volume.
    New,
}

type Spoil = fn(&MemDisk);

fn remove(disk: &MemDisk, path: &str) {
    disk.shared().remove_file(Path::new(path), CrashPoint::BlockRemove).unwrap();
}
fn overwrite(disk: &MemDisk, path: &str, bytes: &[u8]) {
    let file = disk.shared().open(Path::new(path), OpenMode::ReadWrite).unwrap();
    file.set_len(bytes.len() as u64, CrashPoint::BlockCreate).unwrap();
    file.write_at(bytes, 0).unwrap();
}
fn contents(disk: &MemDisk, path: &str) -> Vec<u8> {
    base::disk::read_file(disk.shared().as_ref(), Path::new(path), 1 << 20).unwrap()
}
fn add(disk: &MemDisk, path: &str, bytes: &[u8]) {
    let (disk, path) = (disk.shared(), Path::new(path));
    disk.create_dir_all(path.parent().unwrap(), CrashPoint::VolumeDirCreate).unwrap();
    disk.create_new(path, CrashPoint::BlockCreate).unwrap().write_at(bytes, 0).unwrap();
}
/// The file of the replica on the middle volume whose name ends so.
fn replica_file(disk: &MemDisk, end: &str) -> String {
    let mut files = disk.files().into_iter().filter(|file| file.starts_with("/disk1/current") && file.ends_with(end));
    let is_meta = |file: &String| file.ends_with(".meta");
    files.find(|file| is_meta(file) == (end == ".meta")).unwrap()
}
/// A folder of another node or cluster, in the place of the middle one.
fn foreign(disk: &MemDisk, same_node: bool) {
    let dirs = if same_node { vec!["/disk0".into(), "/elsewhere".into()] } else { vec![PathBuf::from("/elsewhere")] };
    let (store, _) = Store::open(&disk.shared(), &dirs, options(), &SeededRandom::new(99), NOW).unwrap();
    if !same_node {
        store.join(&ClusterId::new("9"), &PoolId::new("9")).unwrap();
    }
    drop(store);
    disk.process_died();
    for file in ["identity", "term"] {
        let bytes = contents(disk, &format!("/elsewhere/{file}"));
        overwrite(disk, &format!("/disk1/{file}"), &bytes);
    }
}

const CASES: &[(&str, Spoil, Outcome)] = &[
    ("nothing is wrong", |_| {}, Outcome::Whole),
    ("no identity", |disk| remove(disk, "/disk1/identity"), Outcome::Offline("no identity file but is not empty")),
    ("a zeroed identity", |disk| overwrite(disk, "/disk1/identity", &[0; 8192]), Outcome::Offline("neither slot")),
    ("an empty identity", |disk| overwrite(disk, "/disk1/identity", &[]), Outcome::Offline("neither slot")),
    (
        "an identity with one torn slot",
        |disk| {
            let mut bytes = contents(disk, "/disk1/identity");
            bytes[..300].fill(0);
            overwrite(disk, "/disk1/identity", &bytes);
        },
        Outcome::Whole,
    ),
    (
        "the identity of another kind of file",
        |disk| {
            let bytes = contents(disk, "/disk1/term");
            overwrite(disk, "/disk1/identity", &bytes);
        },
        Outcome::Offline("neither slot"),
    ),
    ("an unreadable identity", |disk| spoil_reads(disk, "/disk1/identity"), Outcome::Offline("/disk1/identity")),
    ("no term", |disk| remove(disk, "/disk1/term"), Outcome::Offline("the file is missing")),
    ("a zeroed term", |disk| overwrite(disk, "/disk1/term", &[0; 8192]), Outcome::Offline("neither slot")),
    ("a volume of another node", |disk| foreign(disk, false), Outcome::Offline("belongs to node")),
    (
        "a copy of the first volume",
        |disk| {
            for file in ["identity", "term"] {
                let bytes = contents(disk, &format!("/disk0/{file}"));
                overwrite(disk, &format!("/disk1/{file}"), &bytes);
            }
        },
        Outcome::BothOffline("one is a copy of the other"),
    ),
    (
        "an empty folder in the place of the volume",
        |disk| {
            let shared = disk.shared();
            shared.rename(Path::new("/disk1"), Path::new("/another"), CrashPoint::BlockRemove).unwrap();
            shared.create_dir_all(Path::new("/disk1"), CrashPoint::VolumeDirCreate).unwrap();
        },
        Outcome::New,
    ),
    ("lost+found", |disk| add(disk, "/disk1/lost+found/#1", b"?"), Outcome::Whole),
    ("strangers beside", |disk| add(disk, "/disk1/notes.txt", b"?"), Outcome::Whole),
    ("strangers among the blocks", |disk| add(disk, "/disk1/current/BP-1/d00/blk_007", b"?"), Outcome::Whole),
    ("leftovers in the trash", |disk| add(disk, "/disk1/trash/blk_5_1001.data", &[1; 9000]), Outcome::Whole),
    ("an unfinished identity", |disk| add(disk, "/disk1/identity.new", &[0; 4096]), Outcome::Whole),
    ("an unfinished meta file", |disk| add(disk, "/disk1/meta.new", &[0; 40]), Outcome::Whole),
    ("a check that was cut short", |disk| add(disk, "/disk1/check", &[0; 40]), Outcome::Whole),
    ("a damaged record of the scrubber", |disk| add(disk, "/disk1/scrub", &[7; 100]), Outcome::Whole),
    (
        "checksums without data",
        |disk| {
            let data = replica_file(disk, &block(1).id.raw().to_string());
            remove(disk, &data);
        },
        Outcome::Replica(None),
    ),
    (
        "data without checksums",
        |disk| {
            let meta = replica_file(disk, ".meta");
            remove(disk, &meta);
        },
        Outcome::Replica(Some(ReplicaState::WaitingRecovery)),
    ),
    (
        "a torn trailer",
        |disk| {
            let meta = replica_file(disk, ".meta");
            let bytes = contents(disk, &meta);
            overwrite(disk, &meta, &bytes[..bytes.len() - 9]);
        },
        Outcome::Replica(Some(ReplicaState::WaitingRecovery)),
    ),
    (
        "an empty meta file",
        |disk| {
            let meta = replica_file(disk, ".meta");
            overwrite(disk, &meta, &[]);
        },
        Outcome::Replica(Some(ReplicaState::WaitingRecovery)),
    ),
    (
        "data that are too short",
        |disk| {
            let data = replica_file(disk, &block(1).id.raw().to_string());
            let bytes = contents(disk, &data);
            overwrite(disk, &data, &bytes[..100]);
        },
        Outcome::Replica(Some(ReplicaState::Corrupt)),
    ),
    (
        "the checksums of another replica",
        |disk| {
            let meta = replica_file(disk, ".meta");
            let theirs =
                disk.files().into_iter().find(|f| f.starts_with("/disk0/cur") && f.ends_with(".meta")).unwrap();
            let bytes = contents(disk, &theirs);
            overwrite(disk, &meta, &bytes);
        },
        Outcome::Replica(Some(ReplicaState::Corrupt)),
    ),
    (
        "an unreadable meta file",
        |disk| spoil_reads(disk, &replica_file(disk, ".meta")),
        Outcome::Replica(Some(ReplicaState::Corrupt)),
    ),
    ("a folder that cannot be listed", |disk| spoil_lists(disk), Outcome::Offline("list")),
    (
        "the same replica as on the first volume",
        |disk| {
            let theirs: Vec<_> = disk.files().into_iter().filter(|f| f.starts_with("/disk0/current")).collect();
            for file in theirs {
                let bytes = contents(disk, &file);
                add(disk, &file.replace("/disk0/", "/disk1/"), &bytes);
            }
        },
        Outcome::Whole,
    ),
];

fn spoil_reads(disk: &MemDisk, path: &str) {
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on(path));
}
fn spoil_lists(disk: &MemDisk) {
    disk.inject(DiskFault::lasting(DiskFaultKind::Error).at(base::disk::DiskCall::List).on("/disk1/current"));
}

/// Three folders with a replica each.
fn three() -> MemDisk {
    let (disk, store) = joined(3);
    for (n, (storage, ..)) in store.health().into_iter().enumerate() {
        let mut writer = store.create(&block(n as i64), Some(&storage), ChunkFormat::CRC32C_512).unwrap();
        put(&mut writer, &bytes(n as i64, 3000)).unwrap();
        writer.finalise().unwrap();
    }
    store.raise_term(Term::from_raw(3)).unwrap();
    drop(store);
    disk.process_died();
    disk
}

#[test]
fn sc_50_sc_49_f_17_whatever_a_start_finds_nothing_is_erased_and_the_others_start() {
    for (name, spoil, expected) in CASES {
        let disk = three();
        spoil(&disk);
        let before = disk.files();
        let opened = Store::open(&disk.shared(), &dirs(3), options(), &SeededRandom::new(1), NOW);
        let (store, problems) = opened.unwrap_or_else(|error| panic!("{name}: the node does not start: {error}"));
        let problems: Vec<String> = problems.iter().map(|problem| crate::receive::chain(problem)).collect();
        let after = disk.files();
        let gone: Vec<_> = before.iter().filter(|file| !after.contains(file) && !file.ends_with(".new")).collect();
        assert!(gone.is_empty(), "{name}: erased {gone:?}");
        let (volumes, serving) = match expected {
            Outcome::Offline(text) => {
                assert!(problems.len() == 1 && problems[0].contains(text), "{name}: {problems:?}");
                assert!(problems[0].contains("disk1"), "{name}: {problems:?}");
                (2, vec![0, 2])
            }
            Outcome::BothOffline(text) => {
                assert!(problems.len() == 1 && problems[0].contains(text), "{name}: {problems:?}");
                (1, vec![2])
            }
            Outcome::Whole => (3, vec![0, 1, 2]),
            Outcome::Replica(found) => {
                assert_eq!(state(&store, 1), *found, "{name}");
                (3, vec![0, 2])
            }
            Outcome::New => (3, vec![0, 2]),
        };
        if volumes == 3 {
            assert_eq!(problems, Vec::<String>::new(), "{name}");
        }
        assert_eq!(store.reports().len(), volumes, "{name}");
        for n in serving {
            assert_eq!(read(&store, n).unwrap(), bytes(n, 3000), "{name}: replica {n}");
        }
        store_block(&store, 50, 700).unwrap_or_else(|error| panic!("{name}: takes no block: {error}"));
        assert_eq!(store.highest_term(), Term::from_raw(3), "{name}");
    }
}

#[test]
fn f_17_a_volume_under_another_path_is_the_volume() {
    let disk = three();
    disk.shared().rename(Path::new("/disk1"), Path::new("/moved"), CrashPoint::BlockRemove).unwrap();
    let dirs = ["/moved", "/disk2", "/disk0"].map(PathBuf::from);
    let (store, problems) = Store::open(&disk.shared(), &dirs, options(), &SeededRandom::new(1), NOW).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    (0..3).for_each(|n| assert_eq!(read(&store, n).unwrap(), bytes(n, 3000)));
}

#[test]
fn f_17_where_nobody_can_say_who_the_node_is_it_does_not_start_and_nothing_is_made() {
    let disk = three();
    foreign(&disk, false);
    disk.process_died();
    let files = disk.files();
    let dirs = ["/disk0", "/disk1", "/empty"].map(PathBuf::from);
    let refused = Store::open(&disk.shared(), &dirs, options(), &SeededRandom::new(1), NOW).unwrap_err().to_string();
    assert!(refused.contains("/disk0") && refused.contains("/disk1") && refused.contains("node"), "{refused}");
    assert_eq!(disk.files(), files, "the empty folder stays empty");
}

/// A clock that somebody turns.
#[derive(Debug, Default)]
struct Turned(AtomicU64);

impl Clock for Turned {
    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_secs(self.0.load(Ordering::SeqCst)))
    }
    fn wall_ns(&self) -> i64 {
        0
    }
}

#[test]
fn sc_54_a_disk_that_hangs_at_the_start_is_left_out_and_the_others_start() {
    for hangs in ["/disk1/identity", "/disk1/current", "/disk1/lock"] {
        let (disk, store) = joined(3);
        let disks: Vec<StorageId> = store.health().into_iter().map(|(storage, ..)| storage).collect();
        for n in 0..6 {
            let mut writer = store.create(&block(n), Some(&disks[n as usize % 3]), ChunkFormat::CRC32C_512).unwrap();
            put(&mut writer, &bytes(n, 100)).unwrap();
            writer.finalise().unwrap();
        }
        drop(store);
        disk.process_died();
        disk.inject(DiskFault::lasting(DiskFaultKind::Hang).on(hangs));
        let clock = Arc::new(Turned::default());
        let (tell, told) = sync_channel(1);
        let opening = {
            let (disk, clock) = (disk.shared(), Arc::clone(&clock));
            let open = move || Store::open_apart(&disk, &dirs(3), options(), &SeededRandom::new(1), clock.as_ref());
            base::task::thread("opening", move || tell.send(open()).unwrap()).unwrap()
        };
        let opened = loop {
            match told.recv_timeout(Duration::from_millis(10)) {
                Err(RecvTimeoutError::Timeout) => clock.0.fetch_add(1, Ordering::SeqCst),
                other => break other,
            };
        };
        opening.join().unwrap();
        let (store, problems) = opened.unwrap().unwrap();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("/disk1: its disk does not answer"), "{problems:?}");
        let here: Vec<StorageId> = store.health().into_iter().map(|(storage, ..)| storage).collect();
        assert_eq!(here, [disks[0].clone(), disks[2].clone()], "{hangs}");
        for n in 0..6 {
            assert_eq!(read(&store, n).is_ok(), n % 3 != 1, "{hangs} {n}");
        }
        drop(store);
        disk.process_died();
        disk.clear_faults();
        let store = open(&disk, 3).unwrap();
        (0..6).for_each(|n| assert_eq!(read(&store, n).unwrap(), bytes(n, 100), "{hangs}"));
    }
}

#[test]
fn folders_that_are_opened_apart_are_opened_as_one_after_another() {
    let (disk, store) = joined(3);
    (0..6).for_each(|n| drop(store_block(&store, n, 100).unwrap()));
    let (node, storages) = (store.node().clone(), store.health());
    drop(store);
    disk.process_died();
    let clock = Turned::default();
    let (dirs, random) = (dirs(3), SeededRandom::new(1));
    let (store, problems) = Store::open_apart(&disk.shared(), &dirs, options(), &random, &clock).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((store.node(), store.health()), (&node, storages));
    (0..6).for_each(|n| assert_eq!(read(&store, n).unwrap(), bytes(n, 100)));
    drop(store);
    disk.process_died();
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on("/disk1/identity"));
    let (store, problems) = Store::open_apart(&disk.shared(), &dirs, options(), &random, &clock).unwrap();
    assert_eq!((store.health().len(), problems.len()), (2, 1), "{problems:?}");
}
