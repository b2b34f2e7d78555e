//! What the command line keeps and changes beside data: modes and times of copies, whole trees, health of files.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tests::command::arg;
use tests::{Cluster, Options, wait};

fn small() -> Cluster {
    Cluster::with(Options { datanodes: 1, ..Options::default() })
}

/// Mode and time of the last change, with what matters of it.
fn seen(path: &Path) -> (u32, i64, i64) {
    let meta = std::fs::metadata(path).expect("metadata");
    (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec() / 1_000_000)
}

#[test]
fn preserved_modes_and_times_come_back_through_put_cp_and_get() {
    let cluster = small();
    let from = cluster.scratch("from");
    std::fs::create_dir_all(from.join("d")).expect("folders");
    let files = [("f", 0o640, 1_000_000_000), ("d/g", 0o600, 86_400), ("d/run", 0o755, 1_700_000_000)];
    for (name, mode, seconds) in files {
        let path = from.join(name);
        std::fs::write(&path, name).expect("file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 250);
        std::fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(time)).expect("time");
    }
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567);
    std::fs::File::open(from.join("d")).and_then(|folder| folder.set_modified(old)).expect("time");
    cluster.run(&["put", "-r", "--preserve", arg(&from), "/in"]).ok();
    cluster.run(&["cp", "-r", "-p", "/in", "/copy"]).ok();
    let back = cluster.scratch("back");
    cluster.run(&["get", "-r", "-p", "/copy", arg(&back)]).ok();
    for name in ["f", "d/g", "d/run", "d"] {
        assert_eq!(seen(&from.join(name)), seen(&back.join(name)), "{name}");
    }
    let plain = cluster.scratch("plain");
    cluster.run(&["get", "/copy/f", arg(&plain)]).ok();
    assert_ne!(seen(&from.join("f")).1, seen(&plain).1, "without the flag a copy is as old as it is");
}

#[test]
fn directories_that_were_there_keep_what_they_have() {
    let cluster = small();
    let from = cluster.scratch("from");
    std::fs::create_dir_all(from.join("new")).expect("folders");
    std::fs::write(from.join("new/f"), "x").expect("file");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567);
    for (folder, mode) in [(from.join("new"), 0o711), (from.clone(), 0o777)] {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).expect("mode");
        std::fs::File::open(&folder).and_then(|folder| folder.set_modified(old)).expect("time");
    }
    let mode = |path: &str| cluster.run(&["stat", "--format", "%a", path]).ok().text();
    cluster.run(&["mkdir", "-m", "700", "/in", "/in/from"]).ok();
    cluster.run(&["put", "-r", "-q", "--parents", "--preserve", arg(&from), "/in"]).ok();
    assert_eq!([mode("/in/from"), mode("/in/from/new")], ["700\n", "711\n"], "it was not made by this put");
    cluster.run(&["chmod", "777", "/in/from"]).ok();
    cluster.run(&["mkdir", "-m", "700", "/copy", "/copy/from"]).ok();
    cluster.run(&["cp", "-r", "-q", "--preserve", "/in/from", "/copy"]).ok();
    assert_eq!([mode("/copy/from"), mode("/copy/from/new")], ["700\n", "711\n"], "nor by this cp");
    let back = cluster.scratch("back");
    std::fs::create_dir_all(back.join("from")).expect("folders");
    std::fs::set_permissions(back.join("from"), std::fs::Permissions::from_mode(0o700)).expect("mode");
    cluster.run(&["get", "-r", "-q", "--preserve", "/in/from", arg(&back)]).ok();
    assert_eq!((seen(&back.join("from")).0, seen(&back.join("from/new")).0), (0o700, 0o711), "nor by this get");
}

#[test]
fn what_is_left_out_of_a_copy_is_told_and_is_not_everything() {
    let cluster = small();
    cluster.run(&["mkdir", "-p", "/tree", "/other"]).ok();
    cluster.run_with_input(&["put", "-", "/tree/f"], b"x").ok();
    cluster.run(&["ln", "-s", "/other", "/tree/link"]).ok();
    let ended = cluster.run(&["get", "-r", "/tree", arg(&cluster.scratch("copy"))]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("/tree/link leads to a directory and was left out"), "{}", ended.stderr);
    assert!(ended.text().ends_with(", 0 failed, 1 left out\n"), "{}", ended.text());
    let ended = cluster.run(&["get", "-r", "--json", "/tree", arg(&cluster.scratch("again"))]);
    let text = ended.text();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["path"]), (&"left-out".into(), &"/tree/link".into()), "{text}");
    assert_eq!((&lines[1]["files"], &lines[1]["left_out"]), (&1.into(), &1.into()), "{text}");
}

#[test]
fn whole_trees_are_changed_and_failures_below_do_not_stop_the_rest() {
    let cluster = small();
    let from = cluster.scratch("from");
    for i in 0..300 {
        let folder = from.join(format!("d{}", i % 7));
        std::fs::create_dir_all(&folder).expect("folder");
        std::fs::write(folder.join(format!("f{i}")), "x").expect("file");
    }
    cluster.run(&["put", "-r", "-q", arg(&from), "/tree"]).ok();
    cluster.run(&["chmod", "-R", "u=rwX,go=", "/tree"]).ok();
    let of = |args: &[&str]| cluster.run(args).ok().text().lines().count();
    assert_eq!(of(&["find", "/tree", "--type", "f", "--perm", "600"]), 300);
    assert_eq!(of(&["find", "/tree", "--type", "d", "--perm", "700"]), 8);
    // One directory is not the caller's: what is in it cannot be seen, everything else is changed.
    cluster.run(&["chown", "-R", "bob", "/tree"]).ok();
    cluster.run(&["chown", "eve", "/tree/d3"]).ok();
    let ended = cluster.run(&["--user", "bob", "chmod", "-R", "u+x", "/tree"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("/tree/d3"), "{}", ended.stderr);
    let (all, inside) = (300, (0..300).filter(|i| i % 7 == 3).count());
    assert_eq!(of(&["find", "/tree", "--type", "f", "--perm", "-100"]), all - inside);
    assert_eq!(cluster.run(&["chgrp", "-R", "etl", "/tree", "--json"]).ok().text().lines().count(), 308);
}

#[test]
fn fsck_names_files_that_are_not_whole_and_ends_with_six() {
    let quick = |options: Options, name: &str, value: &str| options.env(&format!("BLOCKYARD_NAMENODE__{name}"), value);
    let options = Options { datanodes: 1, ..Options::default() };
    let options = quick(options, "HEARTBEAT_INTERVAL", "200ms");
    let options = quick(quick(options, "STALE_AFTER", "1s"), "DEAD_AFTER", "2s");
    let cluster = Cluster::with(options);
    cluster.run_with_input(&["put", "-", "/f"], b"not empty").ok();
    cluster.run(&["touch", "/empty"]).ok();
    let well = cluster.run(&["fsck"]).ok().text();
    assert!(well.contains("health       OK"), "{well}");
    cluster.kill("dn1");
    let broken = wait::until("a file without a copy", Duration::from_secs(30), || {
        let ended = cluster.run(&["fsck", "-q", "/"]);
        (ended.code() == 6).then(|| ended.text())
    });
    assert_eq!(broken, "MISSING     /f  of 1 blocks 1 without a copy\n");
    let told = cluster.run(&["fsck", "--json", "/"]);
    assert!(
        told.text().contains("\"type\":\"fsck-file\"") && told.text().contains("\"healthy\":false"),
        "{}",
        told.text()
    );
    assert_eq!(cluster.run(&["fsck", "/nothing"]).code(), 3);
    assert_eq!(cluster.run(&["--user", "bob", "fsck"]).code(), 4);
}
