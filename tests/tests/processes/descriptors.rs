//! A namenode that has no file descriptor left waits for one, and goes on.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::{command, wait};

/// Descriptors that the process may have, and leaves none of.
const DESCRIPTORS: usize = 64;
/// Times that its threads wait for something before it gets descriptors back: a loop that does not pause fails thousands
/// of times meanwhile.
const WAITS: u64 = 100;

/// Descriptors that a process has.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How often threads of a process began to wait so far.
fn waits(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    let of = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.map(of).sum()
}

#[test]
fn without_descriptors_the_accept_loop_pauses_and_goes_on() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path().join("namenode");
    let script = format!(
        "ulimit -n {DESCRIPTORS}; exec {} namenode --json --end-with-parent --listen 127.0.0.1:0 --dir {} \
         --set namenode.http=127.0.0.1:0 --set namenode.preamble_timeout=1h",
        command::arg(&command::binary()),
        command::arg(&dir)
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut namenode = shell.spawn().expect("sh starts");
    let mut line = String::new();
    BufReader::new(namenode.stdout.take().expect("piped")).read_line(&mut line).expect("the facts");
    let facts: Value = serde_json::from_str(&line).expect("JSON");
    let address = facts["address"].as_str().expect("an address").to_owned();
    let fs = format!("blockyard://{address}");
    let serves = || command::run(command::blockyard(["--fs", &fs, "ls", "/"])).status.success();
    wait::until("the namenode to lead", Duration::from_secs(20), || serves().then_some(()));

    // More than it has descriptors for; the kernel holds the rest in the queue of the port.
    let held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).expect("the port listens")).collect();
    let patience = Duration::from_secs(60);
    let starves = || (descriptors(namenode.id()) >= DESCRIPTORS).then_some(());
    wait::until("it to have no descriptor left", patience, starves);
    let before = waits(namenode.id());
    wait::until("it to wait", patience, || (waits(namenode.id()) >= before + WAITS).then_some(()));
    drop(held);
    wait::until("it to go on", Duration::from_secs(20), || serves().then_some(()));
    let figures = super::dev::page(facts["http"].as_str().expect("an address"), "/metrics");
    let failures = figures.lines().find_map(|line| line.strip_prefix("blockyard_accept_failures_total "));
    let failures: u64 = failures.expect("the figure").parse().expect("a number");
    assert!((1..1000).contains(&failures), "{failures}: the accept loop spins, or was never short of descriptors");
    // The end of its standard input ends it.
    drop(namenode.stdin.take());
    command::wait_with_patience(&mut namenode, Duration::from_secs(30));
}
