//! `blockyard mount` as a process: in the background, killed, with its servers killed, and taken away.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tests::command::Ended;
use tests::{Cluster, cluster, command, wait};

/// Longest time for a process or a mount to end.
const END: Duration = Duration::from_secs(30);

/// `EROFS`.
const READ_ONLY: i32 = 30;

/// A folder to mount at; `None`, and a word why, where nothing can be mounted.
pub(super) fn target(cluster: &Cluster, name: &str) -> Option<PathBuf> {
    if !Path::new("/dev/fuse").exists() || !base::process::is_root() {
        eprintln!("SKIPPED: mounting needs /dev/fuse and root");
        return None;
    }
    let dir = cluster.scratch(name);
    fs::create_dir_all(&dir).expect("a folder");
    Some(dir.canonicalize().expect("its path"))
}

fn is_mounted(dir: &Path) -> bool {
    base::mounts::mounted_at(dir).expect("the table of mounts").is_some()
}

/// Mounts, with a cache folder and a log of the test's own.
pub(super) fn mount(cluster: &Cluster, dir: &Path, flags: &[&str]) -> Ended {
    let cache = cluster.scratch("cache");
    fs::create_dir_all(&cache).expect("a folder");
    cluster.run(&[&["mount", "--cache-dir", command::arg(&cache), command::arg(dir)], flags].concat())
}

/// Kills the process of a mount, and waits until programs learn of it.
pub(super) fn kill(dir: &Path) {
    processes(dir).into_iter().for_each(|pid| cluster::signal(pid, Signal::KILL));
    wait_until("the mount is dead", || fs::metadata(dir).is_err());
}

/// Paths of files that somebody writes.
pub(super) fn written(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.run(&["lease", "ls", "--json"]).ok().text();
    let path =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["path"].as_str().map(str::to_owned);
    listed.lines().filter_map(path).collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait::until(what, END, || condition().then_some(()));
}

/// Processes that mount at a folder.
fn processes(dir: &Path) -> Vec<i32> {
    let of = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let mounts = words.clone().any(|word| word == b"--foreground");
        (mounts && words.any(|word| word == dir.as_os_str().as_encoded_bytes())).then_some(pid)
    };
    fs::read_dir("/proc").expect("/proc").flatten().filter_map(of).collect()
}

#[test]
fn a_mount_in_the_background_is_there_when_the_command_ends_and_leaves_nothing() {
    let cluster = Cluster::start();
    let Some(dir) = target(&cluster, "mnt") else { return };
    let at = command::arg(&dir);
    mount(&cluster, &dir, &[]).ok();
    assert!(is_mounted(&dir));
    assert_eq!(mount(&cluster, &dir, &[]).code(), 1, "twice");
    fs::write(dir.join("f"), b"through the mount").expect("write");
    assert_eq!(cluster.run(&["cat", "/f"]).ok().text(), "through the mount");
    let one = processes(&dir);
    assert_eq!(one.len(), 1, "{one:?}");
    cluster.run(&["umount", at]).ok();
    assert!(!is_mounted(&dir));
    wait_until("the process of the mount ends", || processes(&dir).is_empty());
    assert_eq!(cluster.run(&["umount", at]).code(), 3, "nothing is there");
    // SIGTERM takes it away, too.
    cluster.run(&["mount", "--read-only", "--cache-dir", command::arg(&cluster.scratch("cache")), at]).ok();
    assert_eq!(fs::write(dir.join("f"), b"x").expect_err("read only").raw_os_error(), Some(READ_ONLY));
    processes(&dir).into_iter().for_each(|pid| cluster::signal(pid, Signal::TERM));
    wait_until("it is taken away", || !is_mounted(&dir) && processes(&dir).is_empty());
}

#[test]
fn f_3_a_killed_mount_loses_nothing_that_was_synced_and_is_taken_away() {
    let mut cluster = Cluster::start();
    let Some(dir) = target(&cluster, "mnt") else { return };
    let at = command::arg(&dir);
    mount(&cluster, &dir, &[]).ok();
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number / 3) as u8).collect();
    let mut wanted = bytes.clone();
    fs::write(dir.join("closed"), &bytes).expect("write");
    let mut synced = File::create(dir.join("synced")).expect("create");
    synced.write_all(&bytes).expect("write");
    synced.sync_all().expect("fsync");
    synced.write_all(b"more").expect("write");
    let changed = File::options().read(true).write(true).open(dir.join("closed")).expect("open");
    changed.write_all_at(b"changed", 1000).expect("write");
    changed.sync_all().expect("fsync");
    wanted[1000..1007].copy_from_slice(b"changed");
    changed.write_all_at(b"never synced", 2000).expect("write");
    kill(&dir);
    drop((synced, changed));
    let refused = mount(&cluster, &dir, &[]);
    assert!(refused.code() != 0 && refused.stderr.contains("umount"), "it says what to do");
    cluster.run(&["umount", at]).ok();
    // The servers, too.
    cluster.kill_roles();
    cluster.kill_all();
    cluster.restart();
    // Its writer is gone: whoever does not wait for its lease to end says so.
    cluster.run(&["lease", "recover", "/synced"]).ok();
    mount(&cluster, &dir, &[]).ok();
    assert!(fs::read(dir.join("closed")).expect("read") == wanted);
    assert!(fs::read(dir.join("synced")).expect("read").starts_with(&bytes));
    cluster.run(&["umount", at]).ok();
}

#[test]
fn without_a_cluster_or_a_directory_mount_says_what_is_wrong() {
    let cluster = Cluster::start();
    let Some(dir) = target(&cluster, "mnt") else { return };
    let missing = mount(&cluster, &dir.join("missing"), &[]);
    assert!(missing.stderr.contains("is not a directory"));
    let nobody = command::run(command::blockyard(["--fs", "blockyard://127.0.0.1:1", "mount", command::arg(&dir)]));
    assert_eq!(nobody.code(), 5, "{}", nobody.stderr);
    assert!(!is_mounted(&dir) && processes(&dir).is_empty());
}

/// Most memory that a process has ever had, in KiB.
fn peak_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// Writes, reads and changes a file of so many MiB, a MiB at a time.
fn use_file(path: &Path, mib: u64, salt: u8) {
    let mut piece = vec![salt; 1 << 20];
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).expect("create");
    (0..mib).for_each(|at| file.write_all_at(&piece, at << 20).expect("write"));
    file.sync_all().expect("fsync");
    for at in 0..mib {
        file.read_exact_at(&mut piece, at << 20).expect("read");
        assert!(piece.iter().all(|byte| *byte == salt));
    }
    (0..mib).step_by(16).for_each(|at| file.write_all_at(&[salt; 4096], (at << 20) + 77).expect("change"));
}

/// Much more goes through it than it may hold.
#[test]
fn l_10_the_memory_of_a_mount_is_bounded_whatever_goes_through_it() {
    const FILES: u8 = 8;
    const MIB_EACH: u64 = 96;
    const MOST_KIB: u64 = 384 << 10;
    const NAMES: u32 = 3000;
    let cluster = Cluster::start();
    let Some(dir) = target(&cluster, "mnt") else { return };
    mount(&cluster, &dir, &[]).ok();
    let pid = processes(&dir)[0];
    std::thread::scope(|scope| {
        for number in 0..FILES {
            let path = dir.join(format!("f{number}"));
            scope.spawn(move || use_file(&path, MIB_EACH, number + 1));
        }
    });
    let much = peak_kib(pid);
    for round in 0..3 {
        let many = dir.join(format!("many{round}"));
        fs::create_dir(&many).expect("mkdir");
        (0..NAMES).for_each(|number| drop(File::create(many.join(format!("f{number}"))).expect("create")));
        assert_eq!(fs::read_dir(&many).expect("list").count(), NAMES as usize);
    }
    let all = peak_kib(pid);
    eprintln!("the mount had {} MiB at most, {} MiB for content alone", all >> 10, much >> 10);
    assert!(all < MOST_KIB, "{all} KiB");
    cluster.run(&["umount", command::arg(&dir)]).ok();
}
