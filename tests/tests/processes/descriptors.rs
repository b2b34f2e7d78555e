//! A namenode that has no file descriptor left waits for one, and goes on.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::{command, wait};

/// Processor time of a process so far, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // Fields 14 and 15 of the whole line: user and system time.
    [11, 12].map(|at| fields[at].parse::<u64>().expect("a number")).iter().sum()
}

#[test]
fn without_descriptors_the_accept_loop_pauses_and_goes_on() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path().join("namenode");
    let script = format!(
        "ulimit -n 64; exec {} namenode --json --end-with-parent --listen 127.0.0.1:0 --dir {} \
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
    let before = ticks(namenode.id());
    std::thread::sleep(Duration::from_secs(2));
    let spent = ticks(namenode.id()) - before;
    assert!(spent < 40, "{spent} ticks of 10 ms in two seconds: the accept loop spins");
    drop(held);
    wait::until("it to go on", Duration::from_secs(20), || serves().then_some(()));
    let figures = super::dev::page(facts["http"].as_str().expect("an address"), "/metrics");
    let failures = figures.lines().find_map(|line| line.strip_prefix("blockyard_accept_failures_total "));
    let failures: u64 = failures.expect("the figure").parse().expect("a number");
    assert!((1..1000).contains(&failures), "{failures}");
    // The end of its standard input ends it.
    drop(namenode.stdin.take());
    command::wait_with_patience(&mut namenode, Duration::from_secs(30));
}
