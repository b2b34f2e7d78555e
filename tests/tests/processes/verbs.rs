//! The command line as people and scripts use it: every verb, its JSON, its hints, its exit statuses.

use serde_json::Value;
use tests::command::{Ended, arg};
use tests::{Cluster, Options};

fn small() -> Cluster {
    Cluster::with(Options { datanodes: 1, ..Options::default() })
}

/// The lines of `--json`, each an object of version 1.
fn objects(ended: &Ended) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let objects: Vec<Value> = ended.text().lines().map(parse).collect();
    assert!(objects.iter().all(|object| object["v"] == 1 && object["type"].is_string()), "{objects:?}");
    objects
}

fn json(cluster: &Cluster, args: &[&str]) -> Vec<Value> {
    objects(&cluster.run(&[args, &["--json"]].concat()).ok())
}

#[test]
fn every_verb_speaks_json() {
    let cluster = small();
    assert_eq!(json(&cluster, &["mkdir", "/d"])[0]["kind"], "directory");
    let put = cluster.run_with_input(&["put", "-", "/d/f", "--json"], b"twelve bytes").ok();
    let summary = &objects(&put)[0];
    assert_eq!((&summary["op"], &summary["files"], &summary["bytes"]), (&"put".into(), &1.into(), &12.into()));
    let stat = &json(&cluster, &["stat", "/d/f"])[0];
    assert_eq!((&stat["path"], &stat["size"], &stat["open"]), (&"/d/f".into(), &12.into(), &false.into()));
    for listed in [&["ls", "/d"][..], &["ls", "/d/f"], &["ls", "-d", "/d/f"], &["ls", "-r", "/d"]] {
        assert_eq!(json(&cluster, listed)[0]["path"], "/d/f", "{listed:?}");
    }
    let moved = &json(&cluster, &["mv", "/d/f", "/d/g"])[0];
    assert_eq!((&moved["from"], &moved["path"]), (&"/d/f".into(), &"/d/g".into()));
    assert_eq!(cluster.run(&["cat", "--json", "/d/g"]).ok().stdout, b"twelve bytes", "data stay data");
    assert_eq!(cluster.run(&["get", "/d/g", "-"]).ok().stdout, b"twelve bytes");
    let copy = cluster.scratch("copy");
    assert_eq!(json(&cluster, &["get", "/d/g", arg(&copy)])[0]["bytes"], 12);
    cluster.run(&["mkdir", "/e"]).ok();
    let exchanged = &json(&cluster, &["mv", "--exchange", "/d/g", "/e"])[0];
    assert_eq!((&exchanged["type"], &exchanged["from"]), (&"exchanged".into(), &"/d/g".into()));
    assert_eq!(json(&cluster, &["stat", "/d/g"])[0]["kind"], "directory");
    cluster.run(&["mv", "--exchange", "/d/g", "/e"]).ok();
    let removed = &json(&cluster, &["rm", "-r", "/d"])[0];
    assert_eq!((&removed["files"], &removed["directories"]), (&1.into(), &1.into()));
    let status = &json(&cluster, &["cluster", "status"])[0];
    assert_eq!((&status["type"], &status["live_nodes"]), (&"cluster".into(), &1.into()));
    let nodes = json(&cluster, &["node", "ls"]);
    assert_eq!((nodes.len(), &nodes[0]["state"]), (1, &"live".into()));
}

#[test]
fn exit_statuses_and_hints_say_what_went_wrong() {
    let cluster = small();
    cluster.run_with_input(&["put", "-", "/f"], b"first").ok();
    cluster.run(&["mkdir", "-p", "/data/deep", "/data/deep"]).ok();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["ls", "/dta"], 3, "did you mean /data ?"),
        (&["cat", "/data"], 1, "is a directory"),
        (&["cat", "/nothing"], 3, "no such file or directory"),
        (&["mkdir", "/data"], 1, "exists"),
        (&["mkdir", "/f/below"], 1, "not a directory"),
        (&["put", "/etc/passwd", "/f"], 1, "replace it with -f"),
        (&["put", "/no/such/file", "/x"], 3, "no such file or directory"),
        (&["put", "/etc", "/x"], 1, "copy the tree with -r"),
        (&["get", "/data", "."], 1, "-r"),
        (&["rm", "/data"], 1, "rm -r"),
        (&["rm", "-r", "/"], 1, "root"),
        (&["rm", "/nothing"], 3, "no such file or directory"),
        (&["rm", "-f", "/nothing"], 0, ""),
        (&["mv", "/data", "/data/deep"], 1, "below itself"),
        (&["mv", "/f", "/newdir/"], 1, "not a directory"),
        (&["mv", "/nothing", "/x"], 3, "no such file or directory"),
        (&["mv", "--exchange", "/f", "/nothing"], 3, "no such file or directory"),
        (&["mv", "--exchange", "/f", "/data", "/x"], 2, "two names"),
        (&["mv", "--exchange", "-f", "/f", "/data"], 2, "cannot be used"),
        (&["ls", "relative"], 3, "relative paths begin at /user/"),
        (&["ls", ""], 2, "empty path"),
        (&["ls", "/da*x"], 3, "nothing fits the pattern: /da*x"),
        (&["rm", "-f", "/no*"], 0, ""),
        (&["ls", "/a/../b"], 2, "write the path out"),
        (&["ls", "/a//b"], 2, "doubled"),
        (&["ls", "--colour"], 2, "--colour"),
        (&["lss"], 2, "did you mean \"ls\""),
        (&["node", "lss"], 2, "did you mean \"ls\""),
        (&["--user", "bob", "mkdir", "/user/bob"], 4, "permission denied"),
        (&["--user", "bob", "rm", "/f"], 4, "permission denied"),
        (&["--user", "no body", "ls", "/"], 4, "not a user name"),
    ];
    for (args, code, words) in cases {
        let ended = cluster.run(args);
        assert_eq!(ended.code(), *code, "{args:?}: {}{}", ended.text(), ended.stderr);
        assert!(ended.stderr.contains(words), "{args:?}: {words:?} is not in {}", ended.stderr);
    }
    // A failed item does not stop the others, and is told as an object.
    let ended = cluster.run(&["rm", "/nothing", "/f", "--json"]);
    assert_eq!(ended.code(), 1);
    let told = objects(&ended);
    assert_eq!((&told[0]["type"], &told[0]["code"]), (&"error".into(), &"not_found".into()), "{told:?}");
    assert_eq!((&told[1]["type"], &told[1]["path"]), (&"removed".into(), &"/f".into()), "{told:?}");
    let nobody = cluster.run(&["--fs", "blockyard://127.0.0.1:1", "ls", "/"]);
    assert_eq!(nobody.code(), 5, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("blockyard dev"), "{}", nobody.stderr);
}

#[test]
fn callers_are_who_they_say_and_modes_and_sticky_bits_count() {
    let cluster = small();
    cluster.run(&["--user", "bob", "mkdir", "-m", "700", "/tmp/bob"]).ok();
    let mut put = cluster.command(&["put", "/etc/passwd", "/tmp/bob/secret"]);
    put.env("BLOCKYARD_USER", "bob");
    tests::command::run(put).ok();
    for args in
        [&["cat", "/tmp/bob/secret"][..], &["ls", "/tmp/bob"], &["rm", "-r", "/tmp/bob"], &["mv", "/tmp/bob", "/tmp/x"]]
    {
        let ended = cluster.run(&[&["--user", "eve"], args].concat());
        assert_eq!(ended.code(), 4, "{args:?}: {}", ended.stderr);
    }
    assert_eq!(json(&cluster, &["stat", "/tmp/bob/secret"])[0]["owner"], "bob");
    cluster.run(&["--user", "bob", "rm", "-r", "/tmp/bob"]).ok();
}

#[test]
fn files_of_many_blocks_and_many_sizes_come_back() {
    let cluster = small();
    for (i, len_bytes) in
        [0, 1, 511, 512, 513, 65_535, 65_536, 65_537, 262_144, 262_145, 1_000_003].into_iter().enumerate()
    {
        let bytes = tests::ledger::Content { seed: 70 + i as u64, len_bytes }.bytes();
        let name = format!("/f{i}");
        cluster.run_with_input(&["put", "--block-size", "64K", "-", &name], &bytes).ok();
        assert!(cluster.run(&["cat", &name]).ok().stdout == bytes, "{len_bytes} bytes");
        assert_eq!(json(&cluster, &["stat", &name])[0]["size"], len_bytes);
    }
}

#[test]
fn modes_are_kept_and_a_read_only_directory_can_be_filled() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = small();
    let from = cluster.scratch("from");
    std::fs::create_dir(&from).expect("folder");
    let secret = from.join("secret");
    std::fs::write(&secret, b"nobody reads this").expect("file");
    for (path, mode) in [(&secret, 0o000), (&from, 0o555)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
    }
    cluster.run(&["--user", "bob", "put", "-r", arg(&from), "/tmp/copy"]).ok();
    assert_eq!(json(&cluster, &["stat", "/tmp/copy/secret"])[0]["mode"], "0000");
    assert_eq!(json(&cluster, &["stat", "/tmp/copy"])[0]["mode"], "0755");
    assert_eq!(cluster.run(&["--user", "eve", "cat", "/tmp/copy/secret"]).code(), 4);
    std::fs::set_permissions(&from, std::fs::Permissions::from_mode(0o755)).expect("mode");
}
