//! kill -9 in the middle of what programs do: of a datanode, of the namenode, of the mount's own process.
//!
//! Servers that come back are not noticed. A mount that is killed takes its programs with it, and what they had closed or
//! synced by then is there afterwards.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::command::{arg, blockyard, wait_with_patience};
use tests::{tree, wait};

use super::programs::shell;
use super::{PATIENCE, Place, has};
use crate::mounts;

/// Longest time until a program is in the middle of its work.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// A program at its work.
struct Work {
    child: Child,
    log: PathBuf,
}

impl Work {
    fn begin(place: &Place, dir: &Path, line: &str) -> Self {
        let log = place.local("scratch").join("work.log");
        let out = File::create(&log).expect("a log");
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(dir).stdin(Stdio::null());
        command.stderr(out.try_clone().expect("the same log")).stdout(out);
        Self { child: command.spawn().expect("the program starts"), log }
    }
    /// Waits until it is in the middle of its work.
    fn under_way(&self, what: &str, mut is: impl FnMut() -> bool) {
        wait::until(what, UNDER_WAY, || is().then_some(()));
    }
    /// Is it still at its work?
    fn goes_on(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }
    /// Its end; was it content?
    fn end(mut self) -> (bool, String) {
        let status = wait_with_patience(&mut self.child, PATIENCE);
        (status.success(), fs::read_to_string(self.log).expect("a log"))
    }
}

/// A server that was killed and stands again, with the folder that it had. Killed at its end.
struct Again(Child);

impl Again {
    fn datanode(place: &Place, name: &str) -> Self {
        let namenode = place.cluster.ready().fs.trim_start_matches("blockyard://").to_owned();
        let mut command = blockyard(["datanode", "--listen", "127.0.0.1:0", "--set", "datanode.http=127.0.0.1:0"]);
        command.args(["--set", &format!("datanode.namenodes=[\"{namenode}\"]")]);
        Self::start(place, name, command)
    }
    fn namenode(place: &Place) -> Self {
        let address = place.cluster.ready().fs.trim_start_matches("blockyard://").to_owned();
        let command = blockyard(["namenode", "--listen", &address, "--set", "namenode.http=127.0.0.1:0"]);
        Self::start(place, "namenode", command)
    }
    fn start(place: &Place, name: &str, mut command: Command) -> Self {
        let log = place.local("scratch").join(format!("{name}-again.log"));
        command.args(["--dir", arg(&place.cluster.role(name).dir), "--log-file", arg(&log)]);
        Self(command.stdout(Stdio::null()).spawn().expect("a server starts"))
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

/// Does each of the programs in a folder of its own, and `strike` in the middle of it. Each ends well, and then what was killed
/// `stands` again.
fn each_in_the_middle(place: &Place, name: &str, mut strike: impl FnMut(), stands: impl Fn()) {
    let (from, dir) = (place.local("from"), place.folder(name));
    tree::make(&from, 12, 800);
    let some = |dir: &Path, count: usize| fs::read_dir(dir).is_ok_and(|names| names.take(count).count() == count);
    let mut done = |what: &str, line: &str, is: &mut dyn FnMut() -> bool| {
        let mut work = Work::begin(place, &dir, line);
        work.under_way(what, is);
        strike();
        assert!(work.goes_on(), "{what} was at its end before anything was killed");
        let (content, said) = work.end();
        assert!(content, "{what}\n{said}");
        stands();
    };
    let tar = format!("mkdir tar; tar -C {} -cf - . | tar -C tar -xf -", arg(&from));
    done("tar", &tar, &mut || some(&dir.join("tar"), 20));
    tree::assert_same(&from, &dir.join("tar"));
    if has("rsync") {
        done("rsync", &format!("rsync -a {}/ rsync/", arg(&from)), &mut || some(&dir.join("rsync"), 20));
        tree::assert_same(&from, &dir.join("rsync"));
    }
    if has("git") {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let clone = format!("git clone -q --no-hardlinks file://{} clone", arg(repository));
        done("git", &clone, &mut || some(&dir.join("clone"), 5));
        let clone = dir.join("clone");
        assert_eq!(shell(place, &clone, "git fsck --full --no-dangling; git status --porcelain"), "");
    }
    if has("sqlite3") {
        let acknowledged = place.local("scratch").join("acknowledged");
        done("sqlite", &inserts(&acknowledged, 120), &mut || lines(&acknowledged) >= 20);
        assert_eq!(shell(place, &dir, COUNT), "ok\n120\n");
    }
    if has("fio") {
        let job = "fio --name=j --size=24m --bs=8k --verify=crc32c --do_verify=1 --fsync=64 --end_fsync=1 --fallocate=none --minimal";
        let job = format!("{job} --rw=write --filename=fio --ioengine=psync");
        done("fio", &job, &mut || fs::metadata(dir.join("fio")).is_ok_and(|file| file.len() > 1 << 20));
    }
    if has("cargo") {
        let build = "cargo new -q --vcs none small; cd small; export CARGO_TARGET_DIR=$PWD/target; \
            cargo build -q --offline; ./target/debug/small";
        done("cargo", build, &mut || dir.join("small/target").is_dir());
    }
}

/// Inserts row after row, each in a transaction of its own, and notes those that were acknowledged.
fn inserts(acknowledged: &Path, rows: u32) -> String {
    let noted = arg(acknowledged);
    format!(
        "sqlite3 k.db 'CREATE TABLE t(i INTEGER PRIMARY KEY)'; : > {noted}; \
        for i in $(seq {rows}); do sqlite3 k.db \"INSERT INTO t VALUES($i)\"; echo $i >> {noted}; done"
    )
}
const COUNT: &str = "sqlite3 k.db 'PRAGMA integrity_check; SELECT count(*) FROM t;'";

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[test]
fn heavy_a_datanode_that_is_killed_in_the_middle_is_not_noticed() {
    let Some(place) = Place::new() else { return };
    let again: RefCell<Option<Again>> = RefCell::default();
    let id = place.cluster.role("dn1").id.clone();
    let port = || {
        let listed = place.cluster.run(&["node", "ls", "--json"]).ok().text();
        let nodes = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        nodes.into_iter().find(|node| node["id"] == *id).map(|node| node["port"].to_string()).expect("dn1")
    };
    let killed = RefCell::new(String::new());
    let strike = || {
        killed.replace(port());
        match again.take() {
            Some(running) => drop(running),
            None => place.cluster.kill("dn1"),
        }
        again.replace(Some(Again::datanode(&place, "dn1")));
    };
    // It has another port each time.
    let stands = || wait::until("dn1 to stand again", UNDER_WAY, || (port() != *killed.borrow()).then_some(()));
    each_in_the_middle(&place, "datanode", strike, stands);
}

#[test]
fn heavy_a_namenode_that_is_killed_in_the_middle_and_comes_back_is_not_noticed() {
    let Some(place) = Place::new() else { return };
    let mut again: Option<Again> = None;
    let strike = || {
        match again.take() {
            Some(running) => drop(running),
            None => place.cluster.kill("namenode"),
        }
        again = Some(Again::namenode(&place));
    };
    // Nothing is read or written without it.
    each_in_the_middle(&place, "namenode", strike, || ());
}

/// Kills the mount's own process in the middle of a program, and mounts again.
fn killed_in_the_middle(place: &Place, work: Work, what: &str, is: impl FnMut() -> bool) {
    work.under_way(what, is);
    mounts::kill(&place.dir);
    let (content, said) = work.end();
    assert!(!content, "{what} did not notice that its files are gone\n{said}");
    place.cluster.run(&["umount", "--lazy", arg(&place.dir)]).ok();
    mounts::mount(&place.cluster, &place.dir, &["--allow-other"]).ok();
    // Nobody waits for the leases of the one that is gone to end.
    for path in mounts::written(&place.cluster) {
        place.cluster.run(&["lease", "recover", &path]).ok();
    }
    wait::until("what was being written to be closed", UNDER_WAY, || {
        mounts::written(&place.cluster).is_empty().then_some(())
    });
}

#[test]
fn heavy_a_mount_that_is_killed_in_the_middle_keeps_what_was_closed_or_synced() {
    let Some(place) = Place::new() else { return };
    let (from, dir) = (place.local("from"), place.folder("killed"));
    tree::make(&from, 13, 800);
    let tar = format!("mkdir tar; tar -C {} -cf - . | tar -C tar -xf -", arg(&from));
    let mut before = BTreeSet::new();
    killed_in_the_middle(&place, Work::begin(&place, &dir, &tar), "tar", || {
        before = files(&dir.join("tar"));
        before.len() >= 60
    });
    let whole = |name: &PathBuf| fs::read(dir.join("tar").join(name)).ok() == fs::read(from.join(name)).ok();
    let cut: Vec<_> = before.iter().filter(|name| !whole(name)).collect();
    assert!(cut.len() <= 1, "tar writes one file at a time, and closed all others: {cut:?}");

    if has("sqlite3") {
        let acknowledged = place.local("scratch").join("acknowledged");
        let work = Work::begin(&place, &dir, &inserts(&acknowledged, 100_000));
        killed_in_the_middle(&place, work, "sqlite", || lines(&acknowledged) >= 40);
        let said = shell(&place, &dir, COUNT);
        let rows: usize = said.strip_prefix("ok\n").and_then(|rows| rows.trim().parse().ok()).expect(&said);
        assert!(rows >= lines(&acknowledged), "{rows} rows of {} that were acknowledged", lines(&acknowledged));
    }
    if has("git") {
        let acknowledged = place.local("scratch").join("commits");
        let commits = format!(
            "git init -q repo; cd repo; for i in $(seq 100000); do echo $i > f; git add f; \
            git -c user.name=n -c user.email=e@e commit -qm $i; echo $i >> {}; done",
            arg(&acknowledged)
        );
        killed_in_the_middle(&place, Work::begin(&place, &dir, &commits), "git", || lines(&acknowledged) >= 10);
        let repo = dir.join("repo");
        shell(&place, &repo, "find .git -name '*.lock' -delete; git fsck --full --no-dangling");
        let said = shell(&place, &repo, "git rev-list --count HEAD");
        let commits: usize = said.trim().parse().expect(&said);
        assert!(commits >= lines(&acknowledged), "{commits} of {}", lines(&acknowledged));
    }
}

/// The files of a tree.
fn files(top: &Path) -> BTreeSet<PathBuf> {
    if !top.is_dir() {
        return BTreeSet::new();
    }
    tree::list(top).into_iter().filter_map(|(name, len)| len.map(|_| name)).collect()
}
