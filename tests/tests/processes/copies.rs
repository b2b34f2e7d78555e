//! Copies as people run them: many files side by side, filters, going on after a kill, verifying, making trees the same.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::command::{Ended, arg};
use tests::{Cluster, Options, cluster, tree, wait};

fn small() -> Cluster {
    Cluster::with(Options { datanodes: 1, ..Options::default() })
}

fn objects(ended: &Ended) -> Vec<Value> {
    ended.text().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// The last object of a copy with `--json`.
fn summary(cluster: &Cluster, args: &[&str]) -> Value {
    let ended = cluster.run(&[args, &["--json"]].concat()).ok();
    let last = objects(&ended).pop().expect("a summary");
    assert_eq!(last["type"], "summary", "{last}");
    last
}

fn counts(summary: &Value) -> [u64; 4] {
    ["files", "same", "removed", "failed"].map(|key| summary[key].as_u64().expect("a count"))
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(path, bytes).expect("file");
}

/// A made tree with a file of a known name.
fn make(top: &Path, seed: u64, files: u64) -> tree::Made {
    let made = tree::make(top, seed, files);
    write(&top.join("known"), b"known");
    tree::Made { files: made.files + 1, bytes: made.bytes + 5, ..made }
}

/// Names below a folder, links not followed.
fn names(top: &Path) -> Vec<String> {
    let mut names: Vec<String> = tree::list(top).keys().map(|path| path.to_str().expect("UTF-8").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn trees_go_in_and_out_with_any_number_of_jobs_and_a_second_run_moves_nothing() {
    let cluster = small();
    let from = cluster.scratch("from");
    let made = make(&from, 11, 120);
    for jobs in ["1", "16"] {
        let (remote, local) = (format!("/jobs{jobs}"), cluster.scratch(&format!("back{jobs}")));
        let put = summary(&cluster, &["put", "-r", "-j", jobs, "--verify", "--preserve", arg(&from), &remote]);
        assert_eq!((put["files"].as_u64(), put["bytes"].as_u64()), (Some(made.files), Some(made.bytes)));
        let get = summary(&cluster, &["get", "-r", "-j", jobs, "--verify", "--preserve", &remote, arg(&local)]);
        assert_eq!(get["bytes"].as_u64(), Some(made.bytes));
        tree::assert_same(&from, &local);
    }
    assert_eq!(counts(&summary(&cluster, &["cp", "-r", "--verify", "/jobs1", "/copies"])), [made.files, 0, 0, 0]);
    // Everything is there, and known by its time: nothing is moved. Into a directory a tree goes by its name.
    cluster.run(&["mkdir", "/into"]).ok();
    cluster.run(&["put", "-r", "--preserve", arg(&from), "/into/"]).ok();
    let again = summary(&cluster, &["put", "-r", "--resume", "--preserve", arg(&from), "/into/"]);
    assert_eq!((counts(&again), again["bytes"].as_u64()), ([0, made.files, 0, 0], Some(0)));
    // Another time, the same contents: both are read, and nothing is moved either.
    cluster.run(&["touch", "-d", "2001-01-01", "/into/from/known"]).ok();
    let again = summary(&cluster, &["put", "-r", "--resume", arg(&from), "/into/"]);
    assert_eq!((counts(&again), again["bytes"].as_u64()), ([0, made.files, 0, 0], Some(0)));
    cluster.run(&["cp", "-r", "--preserve", "/jobs1", "/into/"]).ok();
    let again = summary(&cluster, &["cp", "-r", "--resume", "/jobs1", "/into/"]);
    assert_eq!((counts(&again), again["bytes"].as_u64()), ([0, made.files, 0, 0], Some(0)));
}

#[test]
fn resume_skips_what_is_whole_and_says_what_is_not_the_same() {
    let cluster = small();
    let from = cluster.scratch("from");
    for (name, bytes) in [("a", &b"aaa"[..]), ("b", b"bbb"), ("c", b"ccc")] {
        write(&from.join(name), bytes);
    }
    cluster.run(&["put", "-r", arg(&from), "/x"]).ok();
    cluster.run(&["rm", "/x/a"]).ok();
    cluster.run_with_input(&["put", "-f", "-", "/x/b"], b"BBB").ok();
    let files: Vec<String> = ["a", "b", "c"].iter().map(|name| arg(&from.join(name)).to_owned()).collect();
    let resume = [&["put", "--resume"][..], &files.iter().map(String::as_str).collect::<Vec<_>>(), &["/x"]].concat();
    let ended = cluster.run(&resume);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("/x/b") && ended.stderr.contains("replace it with -f"), "{}", ended.stderr);
    assert!(ended.text().contains("put 1 files") && ended.text().contains("1 the same, 1 failed"), "{}", ended.text());
    assert_eq!(cluster.run(&["cat", "/x/b"]).ok().stdout, b"BBB", "what differs is not replaced without -f");
    let forced = summary(&cluster, &[&resume[..1], &["-f"], &resume[1..]].concat());
    assert_eq!(counts(&forced), [1, 2, 0, 0]);
    assert_eq!(cluster.run(&["cat", "/x/a", "/x/b", "/x/c"]).ok().stdout, b"aaabbbccc");
    // The same of a download.
    let local = cluster.scratch("local");
    write(&local.join("b"), b"bbb");
    write(&local.join("c"), b"cc");
    let ended = cluster.run(&["get", "--resume", "/x/a", "/x/b", "/x/c", arg(&local)]);
    assert_eq!(ended.code(), 1);
    assert!(ended.text().contains("get 1 files") && ended.text().contains("1 the same, 1 failed"), "{}", ended.text());
    assert_eq!(std::fs::read(local.join("c")).expect("c"), b"cc");
}

#[test]
fn a_download_that_was_killed_goes_on_and_one_that_was_spoiled_begins_anew() {
    let cluster = small();
    let content = tests::ledger::Content { seed: 5, len_bytes: 60 << 20 }.bytes();
    let (big, target) = (cluster.scratch("big"), cluster.scratch("target"));
    write(&big, &content);
    cluster.run(&["put", "--block-size", "8M", arg(&big), "/big"]).ok();
    std::fs::create_dir(&target).expect("folder");
    let wanted = target.join("big");
    let of_kind = |kind: &str| {
        let all = std::fs::read_dir(&target).expect("folder").flatten().map(|entry| entry.path());
        all.filter(|path| path.extension().is_some_and(|end| end == kind)).collect::<Vec<_>>()
    };
    let killed = |signal| {
        let mut get = cluster.command(&["get", "--resume", "--local-reads", "off", "/big", arg(&wanted)]);
        let mut child = get.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("get starts");
        wait::until("a note of what came", Duration::from_secs(60), || {
            (!of_kind("state").is_empty() || child.try_wait().expect("wait").is_some()).then_some(())
        });
        cluster::signal(i32::try_from(child.id()).expect("pid"), signal);
        child.wait().expect("wait")
    };
    // It may have been whole before it was killed: then it is killed once more.
    let kill = |signal| {
        wait::until("a download that is cut off", Duration::from_secs(120), || {
            killed(signal);
            if !wanted.exists() {
                return Some(());
            }
            std::fs::remove_file(&wanted).expect("remove");
            None
        });
    };
    kill(Signal::KILL);
    assert_eq!(of_kind("part").len(), 1, "what came is kept");
    let resumed = summary(&cluster, &["get", "--resume", "--verify", "/big", arg(&wanted)]);
    let moved = resumed["bytes"].as_u64().expect("bytes");
    assert!(moved <= (60 - 16) << 20, "{moved} bytes were moved");
    assert!(std::fs::read(&wanted).expect("big") == content);
    assert_eq!(names(&target), ["big"], "nothing else is left");

    std::fs::remove_file(&wanted).expect("remove");
    kill(Signal::INT);
    let part = of_kind("part").pop().expect("what came is kept");
    let mut bytes = std::fs::read(&part).expect("part");
    bytes[5 << 20] ^= 1;
    std::fs::write(&part, &bytes).expect("part");
    let resumed = summary(&cluster, &["get", "--resume", "/big", arg(&wanted)]);
    assert_eq!(resumed["bytes"], 60 << 20, "what was changed is not believed");
    assert!(std::fs::read(&wanted).expect("big") == content);
    assert_eq!(names(&target), ["big"]);
}

#[test]
fn an_interrupted_copy_leaves_nothing_and_says_so() {
    let cluster = small();
    let (big, target) = (cluster.scratch("big"), cluster.scratch("target"));
    write(&big, &tests::ledger::Content { seed: 6, len_bytes: 64 << 20 }.bytes());
    cluster.run(&["put", arg(&big), "/big"]).ok();
    std::fs::create_dir(&target).expect("folder");
    let interrupted = |args: &[&str], begun: &dyn Fn() -> bool| {
        let mut command = cluster.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        wait::until("its begin", Duration::from_secs(60), || {
            (begun() || child.try_wait().expect("wait").is_some()).then_some(())
        });
        cluster::signal(i32::try_from(child.id()).expect("pid"), Signal::INT);
        child.wait_with_output().expect("output")
    };
    let begun = || !names(&target).is_empty();
    let ended = wait::until("a download that is cut off", Duration::from_secs(120), || {
        let ended = interrupted(&["get", "/big", arg(&target.join("big"))], &begun);
        if ended.status.code() == Some(130) {
            return Some(ended);
        }
        std::fs::remove_file(target.join("big")).expect("remove");
        None
    });
    assert!(String::from_utf8_lossy(&ended.stderr).contains("not whole are not there"));
    assert_eq!(names(&target), Vec::<String>::new(), "nothing is left");

    // A put from a pipe that brings nothing more waits until it is interrupted.
    let mut put = cluster.command(&["put", "-", "/half"]);
    let mut child = put.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("put starts");
    let mut pipe = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut pipe, &vec![1; 4 << 20]).expect("it reads");
    cluster::signal(i32::try_from(child.id()).expect("pid"), Signal::INT);
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    drop(pipe);
    assert_eq!(cluster.run(&["test", "-e", "/half"]).code(), 1);
    assert_eq!(cluster.run(&["ls", "/"]).ok().text().lines().filter(|line| line.contains("half")).count(), 0);
}

#[test]
fn filters_and_dry_runs() {
    let cluster = small();
    let from = cluster.scratch("from");
    for name in ["a.log", "b.txt", "tmp/c.log", "deep/d.log", "deep/tmp/e.log", "deep/old.log"] {
        write(&from.join(name), name.as_bytes());
    }
    symlink("nowhere", from.join("dangling.txt")).expect("link");
    let filters = ["--include", "*.log", "--exclude", "tmp/", "--exclude", "old*"];
    let put = [&["put", "-r", arg(&from), "/x"][..], &filters].concat();
    let dry = cluster.run(&[&put[..], &["--dry-run"]].concat()).ok();
    let mut planned: Vec<String> = dry.text().lines().map(str::to_owned).collect();
    assert_eq!(planned.pop().as_deref(), Some("put 2 files, nothing was done, 0 failed"));
    planned.sort();
    let at = |name: &str| arg(&from.join(name)).to_owned();
    assert_eq!(
        planned,
        [
            format!("would copy {} to /x/a.log (5 B)", at("a.log")),
            format!("would copy {} to /x/deep/d.log (10 B)", at("deep/d.log")),
            "would mkdir /x".to_owned(),
            "would mkdir /x/deep".to_owned(),
        ]
    );
    assert_eq!(cluster.run(&["test", "-e", "/x"]).code(), 1, "a dry run makes nothing");
    cluster.run(&put).ok();
    let found = cluster.run(&["find", "/x"]).ok().text();
    assert_eq!(found.lines().collect::<Vec<_>>(), ["/x", "/x/a.log", "/x/deep", "/x/deep/d.log"]);
    // A dry run says what would be refused.
    let refused = cluster.run(&[&put[..2], &["--dry-run", arg(&from.join("a.log")), "/x/a.log"]].concat());
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("replace it with -f"), "{}", refused.stderr);
    // Out, and within the cluster.
    cluster.run_with_input(&["put", "-", "/x/deep/note.txt"], b"n").ok();
    let local = cluster.scratch("local");
    let get = ["get", "-r", "--exclude", "deep/*.log", "/x", arg(&local)];
    let objects = objects(&cluster.run(&[&get[..], &["-n", "--json"]].concat()).ok());
    assert!(objects.iter().any(|one| one["type"] == "plan" && one["act"] == "copy" && one["size"] == 1), "{objects:?}");
    assert!(!local.exists());
    cluster.run(&get).ok();
    assert_eq!(names(&local), ["a.log", "deep", "deep/note.txt"]);
    cluster.run(&["cp", "-r", "--include", "*.txt", "/x", "/y"]).ok();
    assert_eq!(cluster.run(&["find", "/y"]).ok().text(), "/y\n/y/deep\n/y/deep/note.txt\n");
    let bad = cluster.run(&["put", "--exclude", "/", "a", "/b"]);
    assert_eq!(bad.code(), 2);
    assert!(bad.stderr.contains("write a pattern such as *.log"), "{}", bad.stderr);
}

#[test]
fn sync_makes_a_tree_the_same_in_all_three_directions() {
    let cluster = small();
    let from = cluster.scratch("from");
    let made = make(&from, 21, 60);
    symlink("known", from.join("link")).expect("link");
    symlink("/etc", from.join("away")).expect("link");
    let there = "blockyard:/data";
    let sync = |args: &[&str]| summary(&cluster, &[&["sync"], args].concat());
    let links = 2;
    let first = sync(&[arg(&from), there, "--verify"]);
    assert_eq!(counts(&first), [made.files + links, 0, 0, 0]);
    assert_eq!(counts(&sync(&[arg(&from), there])), [0, made.files + links, 0, 0]);
    assert_eq!(counts(&sync(&[arg(&from), there, "--checksum"])), [0, made.files + links, 0, 0]);
    assert!(cluster.run(&["ls", "-l", "/data"]).ok().text().contains("away -> /etc\n"));

    let back = cluster.scratch("back");
    assert_eq!(counts(&sync(&[there, arg(&back)])), [made.files + links, 0, 0, 0]);
    tree::assert_same(&from, &back);
    assert_eq!(std::fs::read_link(back.join("away")).expect("link"), Path::new("/etc"));
    assert_eq!(counts(&sync(&[there, arg(&back)])), [0, made.files + links, 0, 0]);
    let old = std::fs::metadata(from.join("known")).expect("meta");
    assert_eq!(std::fs::metadata(back.join("link")).expect("meta").mtime(), old.mtime(), "times are kept");

    assert_eq!(counts(&sync(&[there, "blockyard:/copy"])), [made.files + links, 0, 0, 0]);
    assert_eq!(counts(&sync(&[there, "blockyard:/copy"])), [0, made.files + links, 0, 0]);
    let again = cluster.scratch("again");
    sync(&["blockyard:/copy", arg(&again)]);
    tree::assert_same(&from, &again);
}

#[test]
fn sync_copies_what_changed_and_removes_only_what_it_was_told_to() {
    let cluster =
        Cluster::with(Options { datanodes: 1, ..Options::default() }.env("BLOCKYARD_NAMENODE__TRASH_INTERVAL", "1h"));
    let from = cluster.scratch("from");
    for name in ["a", "b", "dir/c", "keep.log", "new\nline", " space "] {
        write(&from.join(name), name.as_bytes());
    }
    std::fs::create_dir(from.join("empty")).expect("folder");
    let there = "blockyard:/d/x";
    cluster.run(&["mkdir", "/d"]).ok();
    cluster.run_with_input(&["put", "-", "/d/outside"], b"o").ok();
    let sync = |args: &[&str]| summary(&cluster, &[&["sync", arg(&from), there], args].concat());
    assert_eq!(counts(&sync(&[])), [6, 0, 0, 0]);
    let find = || cluster.run(&["find", "/d/x", "--print0"]).ok().text().replace('\0', "|");
    assert_eq!(find(), "/d/x|/d/x/ space |/d/x/a|/d/x/b|/d/x/dir|/d/x/dir/c|/d/x/empty|/d/x/keep.log|/d/x/new\nline|");

    // Changed in length, in time only, gone, another kind.
    write(&from.join("a"), b"longer");
    write(&from.join("b"), b"B");
    std::fs::remove_dir_all(from.join("dir")).expect("remove");
    std::fs::remove_file(from.join("keep.log")).expect("remove");
    write(&from.join("dir"), b"a file now");
    let dry = cluster.run(&["sync", arg(&from), there, "-n", "--delete", "--exclude", "*.log"]).ok().text();
    assert!(dry.contains("would remove /d/x/dir\n") && dry.contains("to /d/x/dir ("), "{dry}");
    assert!(!dry.contains("keep.log"), "{dry}");
    // Without --delete a directory in the way stays, and nothing is removed.
    let ended = cluster.run(&["sync", arg(&from), there]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("it is replaced with --delete"), "{}", ended.stderr);
    assert_eq!(cluster.run(&["cat", "/d/x/a", "/d/x/b", "/d/x/dir/c"]).ok().stdout, b"longerBdir/c");
    let done = sync(&["--delete", "--exclude", "*.log"]);
    assert_eq!(counts(&done), [1, 4, 1, 0]);
    assert_eq!(cluster.run(&["cat", "/d/x/dir", "/d/x/keep.log"]).ok().stdout, b"a file nowkeep.log");
    assert_eq!(counts(&sync(&["--delete"])), [0, 5, 1, 0]);
    assert_eq!(cluster.run(&["test", "-e", "/d/x/keep.log"]).code(), 1);
    assert_eq!(cluster.run(&["cat", "/d/outside"]).ok().stdout, b"o");
    // It went to the trash, as with rm.
    cluster.run(&["trash", "restore", "/d/x/keep.log"]).ok();

    // A failure, and nothing is removed: here a name that cannot be copied.
    let odd = from.join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    std::fs::write(&odd, b"x").expect("file");
    let ended = cluster.run(&["sync", arg(&from), there, "--delete"]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("not UTF-8") && ended.stderr.contains("nothing was removed"), "{}", ended.stderr);
    assert_eq!(cluster.run(&["test", "-e", "/d/x/keep.log"]).code(), 0);
    std::fs::remove_file(&odd).expect("remove");

    // Back, over a tree that has more and other things: a link to a folder elsewhere is not gone through.
    let (back, elsewhere) = (cluster.scratch("back"), cluster.scratch("elsewhere"));
    write(&elsewhere.join("precious"), b"p");
    write(&back.join("surplus/deep/x"), b"s");
    symlink(&elsewhere, back.join("empty")).expect("link");
    std::fs::create_dir(back.join("readable")).expect("folder");
    let ended = summary(&cluster, &["sync", "--delete", there, arg(&back)]);
    assert_eq!(counts(&ended), [6, 0, 3, 0], "the link that is in the way counts, too");
    assert_eq!(names(&back), [" space ", "a", "b", "dir", "empty", "keep.log", "new\nline"]);
    assert!(back.join("empty").symlink_metadata().expect("meta").is_dir());
    assert_eq!(std::fs::read(elsewhere.join("precious")).expect("precious"), b"p");
}

#[test]
fn sync_removes_no_directory_with_what_is_left_out_in_it() {
    let cluster = small();
    let (from, back) = (cluster.scratch("from"), cluster.scratch("back"));
    write(&from.join("x"), b"x");
    let socket = back.join("s/deep/socket");
    for top in [cluster.scratch("more"), back.clone()] {
        for name in ["d/a.csv", "d/keep.log", "d/e/b.csv", "x/in.log"] {
            write(&top.join(name), name.as_bytes());
        }
    }
    write(&back.join("s/deep/y"), b"y");
    let bound = std::os::unix::net::UnixListener::bind(&socket).expect("socket");
    cluster.run(&["put", "-r", arg(&cluster.scratch("more")), "/d"]).ok();
    let sync = ["sync", arg(&from), "blockyard:/d", "--delete", "--exclude", "*.log"];
    // One item is not copied.
    let dry = cluster.run(&[&sync[..], &["-n"]].concat());
    assert!(
        dry.code() == 1 && dry.text().contains("would remove /d/d/a.csv\n") && !dry.text().contains("remove /d/d\n"),
        "{}",
        dry.text()
    );
    let ended = cluster.run(&sync);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("/d/d stays, because it holds /d/d/keep.log"), "{}", ended.stderr);
    assert!(ended.stderr.contains("would replace /d/x/in.log, which stays"), "{}", ended.stderr);
    let found = cluster.run(&["find", "/d"]).ok().text();
    assert_eq!(found, "/d\n/d/d\n/d/d/keep.log\n/d/x\n/d/x/in.log\n");
    // On this machine, and a socket, which cannot be copied.
    cluster.run(&["mkdir", "/empty"]).ok();
    let sync = ["sync", "blockyard:/empty", arg(&back), "--delete"];
    cluster.run(&[&sync[..], &["--exclude", "*.log"]].concat()).ok();
    assert_eq!(names(&back), ["d", "d/keep.log", "s", "s/deep", "x", "x/in.log"]);
    cluster.run(&sync).ok();
    assert_eq!(names(&back), ["s", "s/deep"]);
    // The list of names has no sockets.
    assert!(socket.exists());
    drop(bound);
    std::fs::remove_file(&socket).expect("remove");
}

#[test]
fn what_is_in_the_way_of_a_sync_goes_when_its_replacement_is_whole() {
    let cluster = small();
    let (from, back) = (cluster.scratch("from"), cluster.scratch("back"));
    for name in ["dir/in", "file", "tree/deep/in", "other/in"] {
        write(&from.join(name), name.as_bytes());
    }
    symlink("file", from.join("link")).expect("link");
    cluster.run(&["sync", arg(&from), "blockyard:/d"]).ok();
    // Each becomes another kind.
    std::fs::remove_dir_all(&from).expect("remove");
    write(&from.join("file/now"), b"n");
    write(&from.join("link"), b"l");
    write(&from.join("tree"), b"t");
    symlink("tree", from.join("dir")).expect("link");
    write(&from.join("other"), b"o");
    // A dry run tells all of it, and is no failure.
    let sync = ["sync", arg(&from), "blockyard:/d", "--delete"];
    let dry = cluster.run(&[&sync[..], &["-n"]].concat()).ok().text();
    for told in ["remove /d/file\n", "mkdir /d/file\n", "remove /d/tree\n", "to /d/tree (", "link /d/dir to tree\n"] {
        assert!(dry.contains(told), "{told}: {dry}");
    }
    // A failure, and the directories in the way stay.
    let before = cluster.run(&["find", "/d"]).ok().text();
    let odd = from.join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    std::fs::write(&odd, b"x").expect("file");
    let ended = cluster.run(&sync);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("nothing was removed"), "{}", ended.stderr);
    assert_eq!(cluster.run(&["cat", "/d/tree/deep/in", "/d/dir/in"]).ok().stdout, b"tree/deep/indir/in");
    assert_ne!(cluster.run(&["find", "/d"]).ok().text(), before, "files and links are replaced");
    std::fs::remove_file(&odd).expect("remove");
    let ended = summary(&cluster, &sync);
    assert_eq!(counts(&ended), [3, 2, 3, 0]);
    cluster.run(&["sync", "blockyard:/d", arg(&back)]).ok();
    tree::assert_same(&from, &back);
    // The same on this machine.
    let here = cluster.scratch("here");
    for name in ["tree/in", "dir/in", "file", "other/in"] {
        write(&here.join(name), b"old");
    }
    symlink("file", here.join("link")).expect("link");
    let dry = cluster.run(&["sync", "blockyard:/d", arg(&here), "--delete", "-n"]).ok().text();
    assert!(dry.contains(&format!("would mkdir {}\n", arg(&here.join("file")))), "{dry}");
    assert_eq!(counts(&summary(&cluster, &["sync", "blockyard:/d", arg(&here), "--delete"])), [5, 0, 5, 0]);
    tree::assert_same(&from, &here);
    assert_eq!(names(&here), names(&from), "nothing is left beside");
}

#[test]
fn sync_refuses_what_makes_no_sense() {
    let cluster = small();
    let dir = cluster.scratch("dir");
    std::fs::create_dir(&dir).expect("folder");
    cluster.run(&["mkdir", "-p", "/a/b"]).ok();
    cluster.run_with_input(&["put", "-", "/f"], b"f").ok();
    let local = arg(&dir);
    let cases: &[(&[&str], i32, &str)] = &[
        (&[local, local], 2, "write a path of the cluster as blockyard:/PATH"),
        (&[local, "blockyard://elsewhere:1/x"], 2, "name the cluster with --fs"),
        (&["", "blockyard:/x"], 2, "an empty path"),
        (&["/no/such/dir", "blockyard:/x"], 3, "no such file or directory"),
        (&["blockyard:/nothing", local], 3, "no such file or directory"),
        (&["blockyard:/f", local], 1, "copy a file with put, get or cp"),
        (&[local, "blockyard:/f"], 1, "is not a directory"),
        (&[local, "blockyard:/no/x"], 3, "make it first (mkdir -p)"),
        (&["blockyard:/a", "blockyard:/a/b"], 1, "one in the other"),
        (&["blockyard:/a/b", "blockyard:/a"], 1, "one in the other"),
        (&["blockyard:/a", "blockyard:/a"], 1, "one in the other"),
    ];
    for (args, code, words) in cases {
        let ended = cluster.run(&[&["sync", "--delete"], *args].concat());
        assert_eq!(ended.code(), *code, "{args:?}: {}{}", ended.text(), ended.stderr);
        assert!(ended.stderr.contains(words), "{args:?}: {words:?} is not in {}", ended.stderr);
    }
    assert_eq!(cluster.run(&["find", "/a"]).ok().text(), "/a\n/a/b\n", "nothing was removed");
    let uri = format!("{}/a", cluster.ready().fs);
    cluster.run(&["sync", local, &uri]).ok();
}

#[test]
fn a_file_that_changes_while_it_is_put_is_not_claimed_to_be_whole() {
    let cluster = small();
    let growing = cluster.scratch("growing");
    // A pipe that looks like a file would do, but there is none: a file that is written on while it is read.
    write(&growing, &vec![1; 24 << 20]);
    let mut put = cluster.command(&["put", "--verify", arg(&growing), "/x"]);
    let mut child = put.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("put starts");
    let mut file = std::fs::OpenOptions::new().append(true).open(&growing).expect("file");
    let mut grown = 0_u64;
    let ended = wait::until("the end of the put", Duration::from_secs(60), || {
        if grown < 512 {
            std::io::Write::write_all(&mut file, &[2; 4096]).expect("append");
            grown += 1;
        }
        child.try_wait().expect("wait")
    });
    // Either it was at rest between the look and the last byte, or it was seen that it changed.
    let there = cluster.run(&["test", "-e", "/x"]).code() == 0;
    assert_eq!(ended.success(), there, "what is said to be copied is there, and nothing else");
    if ended.success() {
        let bytes = cluster.run(&["cat", "/x"]).ok().stdout;
        assert!(std::fs::read(&growing).expect("file").starts_with(&bytes));
    } else {
        let mut said = String::new();
        let mut stderr = child.stderr.take().expect("piped");
        std::io::Read::read_to_string(&mut stderr, &mut said).expect("stderr");
        assert!(said.contains("changed while it was read"), "{said}");
    }
}

#[test]
fn progress_is_told_to_scripts_that_ask() {
    let cluster = small();
    // The put is over when its input is, and that is after a line of progress was seen.
    let mut put = cluster.command(&["put", "--json", "--progress", "-", "/x"]);
    let mut child = put.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("put starts");
    let mut pipe = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut pipe, &vec![1; 3 << 20]).expect("it reads");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    let first: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON");
    assert_eq!((&first["type"], &first["op"], &first["files_done"]), (&"progress".into(), &"put".into(), &0.into()));
    drop(pipe);
    let last = lines.map_while(Result::ok).last().expect("a summary");
    assert!(last.contains("\"summary\"") && last.contains(&(3 << 20).to_string()), "{last}");
    assert!(child.wait().expect("wait").success());
    // Without a terminal nobody is told anything on standard error.
    let quiet = cluster.run(&["get", "/x", arg(&cluster.scratch("x"))]).ok();
    assert_eq!((quiet.stderr.as_str(), quiet.text().as_str()), ("", ""));
}

#[test]
fn modes_links_and_empty_directories() {
    let cluster = small();
    let from = cluster.scratch("from");
    write(&from.join("script"), b"#!");
    std::fs::set_permissions(from.join("script"), std::fs::Permissions::from_mode(0o750)).expect("mode");
    std::fs::hard_link(from.join("script"), from.join("twin")).expect("link");
    std::fs::create_dir_all(from.join("a/b/c")).expect("folder");
    cluster.run(&["sync", "--preserve", arg(&from), "blockyard:/x"]).ok();
    let inode = |path: &str| objects(&cluster.run(&["stat", path, "--json"]).ok())[0]["inode"].clone();
    assert_ne!(inode("/x/script"), inode("/x/twin"), "each hard link becomes a file of its own");
    let back = cluster.scratch("back");
    cluster.run(&["sync", "--preserve", "blockyard:/x", arg(&back)]).ok();
    tree::assert_same(&from, &back);
    assert_eq!(std::fs::metadata(back.join("script")).expect("meta").permissions().mode() & 0o7777, 0o750);
    assert!(back.join("a/b/c").is_dir());
}
