//! Every kind of fault does what it says, in memory and under the machine's files alike.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Disk, DiskCall, DiskFault, DiskFaultKind as Kind, DiskFile, FaultyDisk, MemDisk, OpenMode, OsDisk, read_file,
};
use crate::crash::CrashPoint;
use crate::random::SeededRandom;

const POINT: CrashPoint = CrashPoint::BlockSync;

type Inject = Box<dyn Fn(DiskFault)>;
type Clear = Arc<dyn Fn() + Send + Sync>;

/// A disk with faults.
struct Bench {
    name: &'static str,
    disk: Arc<dyn Disk>,
    inject: Inject,
    clear: Clear,
    dir: PathBuf,
    /// The medium in memory, to cut its power.
    medium: Option<MemDisk>,
    _folder: Option<tempfile::TempDir>,
}

impl Bench {
    fn all() -> Vec<Self> {
        let mem = MemDisk::new();
        let (one, other) = (mem.clone(), mem.clone());
        let in_memory = Self {
            name: "memory",
            disk: mem.shared(),
            inject: Box::new(move |fault| one.inject(fault)),
            clear: Arc::new(move || other.clear_faults()),
            dir: "/d".into(),
            medium: Some(mem),
            _folder: None,
        };
        let medium = MemDisk::new();
        let around_memory = Self::around("around memory", medium.shared(), "/d".into());
        let folder = tempfile::tempdir().unwrap();
        let machine = Self::around("the machine", OsDisk::shared(), folder.path().join("d"));
        let benches =
            vec![in_memory, Self { medium: Some(medium), ..around_memory }, Self { _folder: Some(folder), ..machine }];
        benches.iter().for_each(|bench| bench.disk.create_dir_all(&bench.dir, POINT).unwrap());
        benches
    }
    fn around(name: &'static str, inner: Arc<dyn Disk>, dir: PathBuf) -> Self {
        let faulty = FaultyDisk::new(inner);
        let (one, other) = (faulty.clone(), faulty.clone());
        let (inject, clear) = (Box::new(move |fault| one.inject(fault)), Arc::new(move || other.clear_faults()));
        Self { name, disk: faulty.shared(), inject, clear, dir, medium: None, _folder: None }
    }
    fn file(&self, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
        let file = self.disk.create_new(&self.dir.join(name), POINT).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync(POINT).unwrap();
        self.disk.sync_dir(&self.dir, POINT).unwrap();
        file
    }
    fn contents(&self, name: &str) -> Vec<u8> {
        read_file(self.disk.as_ref(), &self.dir.join(name), 1 << 20).unwrap()
    }
    fn inject(&self, fault: DiskFault) {
        (self.inject)(fault);
    }
}

fn each(check: impl Fn(&Bench)) {
    for bench in Bench::all() {
        println!("{}", bench.name);
        check(&bench);
    }
}

#[test]
fn a_call_fails_with_the_error_that_was_planned_at_the_call_and_the_turn_that_were_planned() {
    each(|bench| {
        let file = bench.file("f", b"data");
        let cases = [
            (Kind::Error, rustix::io::Errno::IO),
            (Kind::Full, rustix::io::Errno::NOSPC),
            (Kind::ReadOnly, rustix::io::Errno::ROFS),
        ];
        for (kind, errno) in cases {
            bench.inject(DiskFault::once(kind).at(DiskCall::Write).on("/f").after(1));
            file.write_at(b"1", 0).unwrap();
            assert_eq!(file.write_at(b"2", 0).unwrap_err().raw_os_error(), Some(errno.raw_os_error()));
            file.write_at(b"3", 0).unwrap();
        }
        assert_eq!(bench.contents("f"), b"3ata");
        bench.inject(DiskFault::once(Kind::NoDescriptor));
        let error = file.read_at(&mut [0; 4], 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
    });
}

#[test]
fn every_call_can_fail() {
    each(|bench| {
        let (disk, path, dir) = (&bench.disk, bench.dir.join("f"), &bench.dir);
        let file = bench.file("f", b"data");
        let fails = |call: DiskCall| {
            bench.inject(DiskFault::once(Kind::Error).at(call));
            let failed = match call {
                DiskCall::Open => disk.open(&path, OpenMode::Read).is_err(),
                DiskCall::OpenForWriting => disk.open(&path, OpenMode::ReadWrite).is_err(),
                DiskCall::Create => disk.create_new(&dir.join("new"), POINT).is_err(),
                DiskCall::CreateDir => disk.create_dir_all(&dir.join("sub"), POINT).is_err(),
                DiskCall::Rename => disk.rename(&path, &dir.join("g"), POINT).is_err(),
                DiskCall::Remove => disk.remove_file(&path, POINT).is_err(),
                DiskCall::SyncDir => disk.sync_dir(dir, POINT).is_err(),
                DiskCall::SyncAll => disk.sync_all(dir, POINT).is_err(),
                DiskCall::List => disk.read_dir(dir).is_err(),
                DiskCall::Info => disk.info(&path).is_err(),
                DiskCall::Space => disk.space(dir).is_err(),
                DiskCall::Lock => disk.lock(&dir.join("lock")).is_err(),
                DiskCall::Read => file.read_at(&mut [0], 0).is_err(),
                DiskCall::Write => file.write_at(b"x", 0).is_err(),
                DiskCall::Sync => file.sync(POINT).is_err(),
                DiskCall::SetLen => file.set_len(1, POINT).is_err(),
                DiskCall::Allocate => file.allocate(0, 10, POINT).is_err(),
            };
            (bench.clear)();
            failed
        };
        use DiskCall as C;
        for call in [
            C::Open,
            C::OpenForWriting,
            C::Create,
            C::CreateDir,
            C::Rename,
            C::Remove,
            C::SyncDir,
            C::SyncAll,
            C::List,
            C::Info,
            C::Space,
            C::Lock,
            C::Read,
            C::Write,
            C::Sync,
            C::SetLen,
            C::Allocate,
        ] {
            assert!(fails(call), "{}", call.name());
        }
        assert_eq!(bench.contents("f"), b"data", "nothing was done");
    });
}

#[test]
fn f_10_a_full_disk_takes_nothing_new_and_lets_go_of_what_is_there() {
    each(|bench| {
        let file = bench.file("f", b"data");
        bench.inject(DiskFault::lasting(Kind::Full));
        assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(bench.disk.create_new(&bench.dir.join("g"), POINT).is_err());
        file.sync(POINT).unwrap();
        bench.disk.remove_file(&bench.dir.join("f"), POINT).unwrap();
    });
}

#[test]
fn f_5_a_torn_write_says_yes_and_ends_at_a_border() {
    each(|bench| {
        for (name, unit, kept) in [("a", 512, 4096), ("b", 4096, 4096), ("c", 4096, 0)] {
            let file = bench.file(name, &[1; 9000]);
            let len = if kept == 0 { 5000 } else { 8500 };
            bench.inject(DiskFault::once(Kind::TornWrite(unit)).on(name));
            file.write_at(&vec![2; len], 0).unwrap();
            let left = bench.contents(name);
            assert_eq!(left.iter().position(|byte| *byte == 1), Some(kept), "{name}");
            assert!(left[kept..].iter().all(|byte| *byte == 1) && left.len() == 9000);
        }
        let file = bench.file("longer", &[1; 10]);
        bench.inject(DiskFault::once(Kind::TornWrite(512)).on("longer"));
        file.write_at(&[2; 2000], 0).unwrap();
        assert_eq!(bench.contents("longer"), [vec![2; 512], vec![0; 1488]].concat().as_slice()[..2000].to_vec());
    });
}

#[test]
fn f_8_writes_are_lost_and_misplaced_and_reads_are_stale() {
    each(|bench| {
        let file = bench.file("f", &[1; 8192]);
        bench.inject(DiskFault::once(Kind::LostWrite));
        file.write_at(&[2; 8192], 0).unwrap();
        assert_eq!(bench.contents("f"), [1; 8192]);
        bench.inject(DiskFault::once(Kind::MisdirectedWrite));
        file.write_at(&[3; 100], 10).unwrap();
        let left = bench.contents("f");
        assert!(left[..4096].iter().all(|byte| *byte == 1) && left[4106..4206].iter().all(|byte| *byte == 3));
        bench.inject(DiskFault::lasting(Kind::StaleRead).on("/f"));
        assert_eq!(bench.contents("f"), left, "nothing was written since");
        file.write_at(&[4; 4], 8).unwrap();
        file.write_at(&[5; 2], 8).unwrap();
        assert_eq!(bench.contents("f")[6..14], [1, 1, 4, 4, 1, 1, 1, 1]);
        (bench.clear)();
        assert_eq!(bench.contents("f")[6..14], [1, 1, 5, 5, 4, 4, 1, 1]);
    });
}

#[test]
fn f_6_a_read_returns_a_flipped_bit_once_and_the_medium_is_sound() {
    each(|bench| {
        bench.file("f", &[0; 64]);
        bench.inject(DiskFault::once(Kind::ReadFlip));
        assert_eq!(bench.contents("f").iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_eq!(bench.contents("f"), [0; 64]);
    });
}

#[test]
fn sc_62_a_sync_that_lies_makes_nothing_durable() {
    let mut checked = 0;
    each(|bench| {
        let Some(medium) = &bench.medium else { return };
        let file = bench.file("f", b"old");
        bench.inject(DiskFault::once(Kind::SyncLie).at(DiskCall::Sync));
        file.write_at(b"new", 0).unwrap();
        file.sync(POINT).unwrap();
        let made = bench.disk.create_new(&bench.dir.join("g"), POINT).unwrap();
        made.sync(POINT).unwrap();
        bench.inject(DiskFault::once(Kind::SyncLie).at(DiskCall::SyncDir));
        bench.disk.sync_dir(&bench.dir, POINT).unwrap();
        // A generator whose first draw is a multiple of four loses everything unsynced.
        use crate::random::Randomness;
        let seed = (0..).find(|seed| SeededRandom::new(*seed).below(4) == 0).unwrap();
        medium.power_cut(&SeededRandom::new(seed));
        assert_eq!(bench.contents("f"), b"old");
        assert_eq!(bench.disk.info(&bench.dir.join("g")).unwrap(), None);
    });
    checked += Bench::all().iter().filter(|bench| bench.medium.is_some()).count();
    assert_eq!(checked, 2, "a power cut needs a medium of ours");
}

#[test]
fn f_11_a_delay_takes_its_time_and_a_hang_lasts_until_it_is_taken_away() {
    each(|bench| {
        let file = bench.file("f", b"data");
        bench.inject(DiskFault::once(Kind::Delay(30)).at(DiskCall::Write));
        let began = Instant::now();
        file.write_at(b"late", 0).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(bench.contents("f"), b"late");

        bench.inject(DiskFault::once(Kind::Hang).at(DiskCall::Write));
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let hung = crate::task::thread("hung", move || {
            file.write_at(b"hung", 0).unwrap();
            tell.send(()).unwrap();
        })
        .unwrap();
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "it does not come back");
        // The others do: it was one call.
        assert_eq!(bench.contents("f"), b"late");
        (bench.clear)();
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        hung.join().unwrap();
        assert_eq!(bench.contents("f"), b"hung", "and then it goes well");
    });
}

#[test]
fn waits_of_a_disk_in_memory_can_be_counted_instead() {
    let disk = MemDisk::new();
    disk.count_waits();
    disk.create_dir_all("/d".as_ref(), POINT).unwrap();
    disk.inject(DiskFault::once(Kind::Delay(7000)));
    disk.inject(DiskFault::once(Kind::Hang));
    let file = disk.create_new("/d/f".as_ref(), POINT).unwrap();
    file.sync(POINT).unwrap();
    assert_eq!(disk.take_waits(), Duration::from_secs(7) + super::HANG);
    assert_eq!(disk.take_waits(), Duration::ZERO);
}

#[test]
fn a_plan_is_read_anew_when_its_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan");
    let disk = FaultyDisk::with_plan(OsDisk::shared(), plan.clone());
    let path = folder.path().join("f");
    let file = disk.create_new(&path, POINT).unwrap();
    let wait = |wanted: bool| {
        let began = Instant::now();
        while file.write_at(b"x", 0).is_err() != wanted {
            assert!(began.elapsed() < Duration::from_secs(10), "the plan is not read");
            std::thread::yield_now();
        }
    };
    assert!(file.descriptor().is_some());
    std::fs::write(&plan, "# the disk of the logs\nwrite fail=EIO on=/f from=1\nread flip on=/f at=1 # once\n")
        .unwrap();
    wait(true);
    assert!(file.descriptor().is_none(), "nobody reads past the fault");
    std::fs::write(&plan, "nonsense\n").unwrap();
    assert!(file.write_at(b"x", 0).is_err(), "what cannot be read changes nothing");
    std::fs::remove_file(&plan).unwrap();
    wait(false);
    assert!(file.descriptor().is_some());
}

#[test]
fn a_sync_runs_out_of_room_only_where_it_is_the_call_that_is_named() {
    each(|bench| {
        let file = bench.file("f", b"data");
        bench.inject(DiskFault::lasting(Kind::Full));
        file.sync(POINT).unwrap();
        bench.disk.sync_dir(&bench.dir, POINT).unwrap();
        (bench.clear)();
        bench.inject(DiskFault::parse("sync fail=ENOSPC on=/f").unwrap());
        bench.disk.sync_dir(&bench.dir, POINT).unwrap();
        file.write_at(b"more", 0).unwrap();
        assert_eq!(file.sync(POINT).unwrap_err().kind(), ErrorKind::StorageFull);
        bench.inject(DiskFault::parse("sync-dir fail=ENOSPC").unwrap());
        assert_eq!(bench.disk.sync_dir(&bench.dir, POINT).unwrap_err().kind(), ErrorKind::StorageFull);
    });
}
