//! `append`, `truncate` and `lease` as a person uses them: what is flushed is seen, who writes is named, and what a dead
//! writer flushed is kept.

use std::time::Duration;

use serde_json::Value;
use tests::apart::Flow;
use tests::command::arg;
use tests::{Cluster, wait};

const PATIENCE: Duration = Duration::from_secs(60);

fn text_of(cluster: &Cluster, path: &str) -> String {
    cluster.run(&["cat", path]).ok().text()
}

fn until_text(cluster: &Cluster, path: &str, text: &str) {
    wait::until(text, PATIENCE, || {
        let shown = cluster.run(&["cat", path]);
        (shown.status.success() && shown.text() == text).then_some(())
    });
}

/// Who writes, as `lease ls --json` says.
fn leases(cluster: &Cluster) -> Vec<Value> {
    let listed = cluster.run(&["lease", "ls", "--json"]).ok().text();
    listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn appended_lines_are_seen_as_they_are_flushed_and_two_writers_are_told_apart() {
    let cluster = Cluster::start();
    cluster.run_with_input(&["put", "-", "/log"], b"one\n").ok();
    let mut writer = Flow::start(cluster.command(&["append", "--flush", "-", "/log"]));
    for (line, whole) in [("two\n", "one\ntwo\n"), ("three\n", "one\ntwo\nthree\n")] {
        assert!(writer.feed(line.as_bytes()));
        until_text(&cluster, "/log", whole);
    }
    let open = leases(&cluster);
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!((&open[0]["path"], &open[0]["recovering"]), (&Value::from("/log"), &Value::from(false)));
    let refused = cluster.run_with_input(&["append", "-", "/log"], b"mine");
    assert_eq!(refused.code(), 5, "later it may be had");
    assert!(refused.stderr.contains("/log") && refused.stderr.contains("lease recover"), "{}", refused.stderr);
    assert!(cluster.run(&["truncate", "-s", "0", "/log"]).code() != 0, "an open file is not cut");
    let (ended, _) = writer.finish();
    ended.ok();
    assert_eq!(leases(&cluster), Vec::<Value>::new());
    // Local files, in their order; one that is not there changes nothing.
    let (first, second) = (cluster.scratch("first"), cluster.scratch("second"));
    std::fs::write(&first, "four\n").expect("a file");
    std::fs::write(&second, "five\n").expect("a file");
    assert!(cluster.run(&["append", arg(&first), "/none/such", "/log"]).code() != 0);
    cluster.run(&["append", "--sync", arg(&first), arg(&second), "/log"]).ok();
    assert_eq!(text_of(&cluster, "/log"), "one\ntwo\nthree\nfour\nfive\n");
    let missing = cluster.run_with_input(&["append", "-", "/new"], b"x");
    assert!(missing.code() == 3 && missing.stderr.contains("--create"), "{}", missing.stderr);
    cluster.run_with_input(&["append", "--create", "-", "/new"], b"x").ok();
    assert_eq!(text_of(&cluster, "/new"), "x");
}

#[test]
fn v_4_l_6_a_file_is_taken_from_its_writer_with_all_that_it_flushed() {
    let cluster = Cluster::start();
    for (path, kills) in [("/taken", false), ("/left", true)] {
        let mut writer = Flow::start(cluster.command(&["append", "--create", "--flush", "-", path]));
        assert!(writer.feed(b"flushed\n"));
        until_text(&cluster, path, "flushed\n");
        let writer = if kills {
            writer.kill();
            None
        } else {
            Some(writer)
        };
        cluster.run(&["lease", "recover", path]).ok();
        assert!(text_of(&cluster, path).starts_with("flushed\n"));
        assert_eq!(leases(&cluster), Vec::<Value>::new());
        // The file is anybody's; whoever had it before is told, and changes nothing.
        cluster.run_with_input(&["append", "-", path], b"mine\n").ok();
        if let Some(mut writer) = writer {
            let _taken_or_refused = writer.feed(b"late\n");
            let (ended, _) = writer.finish();
            assert!(ended.code() != 0 && ended.stderr.contains(path), "{}", ended.stderr);
        }
        assert_eq!(text_of(&cluster, path), "flushed\nmine\n");
    }
    // What is closed is left as it is.
    cluster.run(&["lease", "recover", "/left"]).ok();
    assert_eq!(cluster.run(&["lease", "recover", "/none"]).code(), 3);
}

#[test]
fn d_6_files_are_cut_by_every_way_to_say_it() {
    let cluster = Cluster::start();
    cluster.run_with_input(&["put", "-", "/f"], b"0123456789abcdef").ok();
    cluster.run(&["mkdir", "/d"]).ok();
    for (size, wanted) in
        [("15", "0123456789abcde"), ("-2", "0123456789abc"), ("<20", "0123456789abc"), ("/5", "0123456789")]
    {
        cluster.run(&["truncate", &format!("--size={size}"), "/f"]).ok();
        assert_eq!(text_of(&cluster, "/f"), wanted, "{size}");
    }
    for (size, path, code) in [("11", "/f", 1), ("+1", "/f", 2), ("x", "/f", 2), ("0", "/none", 3)] {
        let refused = cluster.run(&["truncate", &format!("--size={size}"), path]);
        assert_eq!(refused.code(), code, "{size} {path}: {}", refused.stderr);
    }
    assert!(cluster.run(&["truncate", "--size=0", "/d"]).code() != 0);
    assert_eq!(text_of(&cluster, "/f"), "0123456789");
    // Inside a block that a snapshot sees.
    cluster.run_with_input(&["put", "-", "/d/f"], b"0123456789").ok();
    cluster.run(&["snapshot", "enable", "/d"]).ok();
    cluster.run(&["snapshot", "create", "/d", "s"]).ok();
    cluster.run(&["truncate", "--size=4", "/d/f"]).ok();
    assert_eq!(text_of(&cluster, "/d/f"), "0123");
    assert_eq!(text_of(&cluster, "/d/.snapshot/s/f"), "0123456789");
    cluster.run(&["truncate", "--size=0", "/f"]).ok();
    assert_eq!(text_of(&cluster, "/f"), "");
}
