//! Programs that people use, in a mount as on any disk.

use std::path::Path;
use std::process::Command;

use tests::command::arg;
use tests::tree;

use super::{Place, has, said};

/// Runs a line of shell in a folder.
pub(super) fn shell(place: &Place, dir: &Path, line: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", line]).current_dir(dir);
    let (content, said) = said(&mut command, &place.local("scratch").join("shell.log"));
    assert!(content, "{line}\n{said}");
    said
}

#[test]
fn heavy_sqlite_keeps_its_databases_with_journal_and_with_wal() {
    let Some(place) = Place::new() else { return };
    if !has("sqlite3") {
        return;
    }
    let dir = place.folder("sqlite");
    for mode in ["delete", "truncate", "persist", "wal"] {
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
            INSERT INTO t SELECT i, hex(randomblob(200)) FROM n;";
        let sql = format!(
            "PRAGMA journal_mode={mode}; CREATE TABLE t(i INTEGER PRIMARY KEY, text TEXT); BEGIN; {rows} COMMIT; \
            BEGIN; DELETE FROM t; ROLLBACK; UPDATE t SET text = 'short' WHERE i % 3 = 0; DELETE FROM t WHERE i % 5 = 0; VACUUM;"
        );
        std::fs::write(place.local("scratch").join("sql"), &sql).expect("a script");
        shell(&place, &dir, &format!("sqlite3 {mode}.db < {}", arg(&place.local("scratch").join("sql"))));
        let asked = format!("sqlite3 {mode}.db 'PRAGMA integrity_check; SELECT count(*) FROM t;'");
        assert_eq!(shell(&place, &dir, &asked), "ok\n1600\n", "{mode}");
    }
}

#[test]
fn heavy_git_clones_commits_and_finds_nothing_wrong() {
    let Some(place) = Place::new() else { return };
    if !has("git") {
        return;
    }
    let dir = place.folder("git");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    shell(&place, &dir, &format!("git clone -q --no-hardlinks file://{} clone", arg(repository)));
    let clone = dir.join("clone");
    assert_eq!(shell(&place, &clone, "git status --porcelain"), "");
    let commit = "git -c user.name=n -c user.email=e@e commit -qam more";
    shell(&place, &clone, &format!("echo more >> README.md; git status --porcelain | grep -q 'M README.md'; {commit}"));
    shell(&place, &clone, "git checkout -q HEAD~1; git gc -q; git fsck --full --no-dangling; git status --porcelain");
}

#[test]
fn heavy_tar_and_rsync_bring_a_tree_in_and_out() {
    let Some(place) = Place::new() else { return };
    let (from, back, dir) = (place.local("from"), place.local("back"), place.folder("trees"));
    tree::make(&from, 11, 1000);
    shell(&place, &dir, &format!("mkdir tar; tar -C {} -cf - . | tar -C tar -xf -", arg(&from)));
    tree::assert_same(&from, &dir.join("tar"));
    shell(&place, &dir, &format!("tar -cf all.tar -C tar . && tar -C {} -xf all.tar", arg(&back)));
    tree::assert_same(&from, &back);
    if has("rsync") {
        shell(&place, &dir, &format!("rsync -a {}/ rsync/", arg(&from)));
        tree::assert_same(&from, &dir.join("rsync"));
        let again = shell(&place, &dir, &format!("rsync -ai --checksum {}/ rsync/", arg(&from)));
        assert_eq!(again, "", "nothing is left to do");
        shell(&place, &dir, &format!("rsync -ai rsync/ {}/again/", arg(&back)));
        tree::assert_same(&from, &back.join("again"));
    }
}

#[test]
fn heavy_fio_verifies_what_it_wrote() {
    let Some(place) = Place::new() else { return };
    if !has("fio") {
        return;
    }
    let dir = place.folder("fio");
    for how in ["write", "randwrite", "randrw"] {
        let job = "fio --name=j --size=24m --bs=8k --verify=crc32c --do_verify=1 --fsync=512 --end_fsync=1 --minimal";
        shell(&place, &dir, &format!("{job} --rw={how} --filename={how} --ioengine=psync"));
    }
    let job =
        "fio --name=m --size=8m --bs=4k --verify=crc32c --rw=randwrite --ioengine=mmap --filename=mapped --minimal";
    shell(&place, &dir, job);
}

#[test]
fn heavy_cargo_builds_a_crate_inside() {
    let Some(place) = Place::new() else { return };
    if !has("cargo") {
        return;
    }
    let dir = place.folder("cargo");
    shell(&place, &dir, "cargo new -q --vcs none small");
    let build = "export CARGO_TARGET_DIR=$PWD/target; cargo build -q --offline && ./target/debug/small";
    assert_eq!(shell(&place, &dir.join("small"), build), "Hello, world!\n");
    let again = format!("sed -i s/Hello/Bye/ src/main.rs; {build}");
    assert_eq!(shell(&place, &dir.join("small"), &again), "Bye, world!\n");
}
