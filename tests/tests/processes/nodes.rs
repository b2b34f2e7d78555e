//! A datanode dies while a file is read, and while one is written.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::Cluster;
use tests::command::{self, Ended};
use tests::ledger::Content;

const CONTENT: Content = Content { seed: 99, len_bytes: 96 << 20 };

/// A write that fails says so within this time (issue 01, 6.3).
const CLEAR_ERROR: Duration = Duration::from_secs(30);

fn read_while_dying(victims: &[&str]) {
    let cluster = Cluster::start();
    let bytes = CONTENT.bytes();
    cluster.run_with_input(&["put", "-", "/big"], &bytes).ok();
    let mut reader = cluster.command(&["cat", "/big"]).stdout(Stdio::piped()).spawn().expect("cat starts");
    let mut stdout = reader.stdout.take().expect("piped");
    let mut got = vec![0; bytes.len()];
    let step = got.len() / (victims.len() + 1);
    let mut at = 0;
    for victim in victims {
        stdout.read_exact(&mut got[at..at + step]).expect("data");
        at += step;
        cluster.kill(victim);
    }
    stdout.read_exact(&mut got[at..]).expect("the rest of the data");
    assert_eq!(stdout.read(&mut [0]).expect("end"), 0, "nothing after the end");
    let status = command::wait_with_patience(&mut reader, Duration::from_secs(60));
    assert!(status.success(), "cat ended with {status}");
    assert!(got == bytes, "what was read differs");
}

#[test]
fn a_datanode_that_dies_under_a_read_is_not_noticed() {
    read_while_dying(&["dn1"]);
}

#[test]
fn two_datanodes_that_die_under_a_read_are_not_noticed() {
    read_while_dying(&["dn2", "dn3"]);
}

/// Feeds half of a file, kills, feeds the rest. How the put ended, and how long after the kill.
fn write_while_dying(cluster: &Cluster, victim: &str, bytes: &[u8]) -> (Ended, Duration) {
    let mut writer = cluster.command(&["put", "-", "/big"]);
    writer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = writer.spawn().expect("put starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&bytes[..bytes.len() / 2]).expect("half");
    cluster.kill(victim);
    let killed = Instant::now();
    // A put that has given up does not read the rest: its status tells.
    let fed = stdin.write_all(&bytes[bytes.len() / 2..]).is_ok();
    drop(stdin);
    let status = command::wait_with_patience(&mut child, Duration::from_secs(60));
    let after = killed.elapsed();
    assert!(fed || !status.success(), "a put succeeded without having read its input");
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("stderr");
    (Ended { status, stdout: vec![], stderr }, after)
}

#[test]
fn a_datanode_that_dies_under_a_write_gives_success_or_a_clear_error_and_never_half_a_file() {
    let bytes = CONTENT.bytes();
    for victim in ["dn1", "dn2", "dn3"] {
        let cluster = Cluster::start();
        let (ended, after) = write_while_dying(&cluster, victim, &bytes);
        println!("{victim}: {} after {after:?}: {}", ended.status, ended.stderr.trim());
        let read = cluster.run(&["cat", "/big"]);
        if ended.status.success() {
            assert!(read.ok().stdout == bytes, "an acknowledged file reads back whole");
        } else {
            assert!(after < CLEAR_ERROR, "the error came after {after:?}");
            assert!(ended.stderr.contains("error"), "a clear error: {}", ended.stderr);
            assert!(!read.status.success(), "a file that was not acknowledged is not there");
            assert!(read.stdout.is_empty(), "no byte of it either");
        }
        // The cluster goes on with the others.
        cluster.run_with_input(&["put", "-", "/after"], b"still here").ok();
        assert_eq!(cluster.run(&["cat", "/after"]).ok().stdout, b"still here");
    }
}

#[test]
fn the_end_of_a_role_is_an_event_and_the_rest_goes_on() {
    let cluster = Cluster::start();
    cluster.run_with_input(&["put", "-", "/x"], b"x").ok();
    cluster.kill("dn3");
    let event = cluster.event("the end of dn3", |event| event["type"] == "exit");
    assert_eq!(event["name"], "dn3");
    assert!(event["message"].as_str().unwrap().contains("signal 9"), "{event}");
    assert_eq!(cluster.run(&["cat", "/x"]).ok().stdout, b"x");
}
