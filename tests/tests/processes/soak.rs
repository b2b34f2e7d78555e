//! `blockyard soak`: a cluster under load and faults, in which nothing may be lost.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::cluster::signal;
use tests::command::{self, arg, blockyard, wait_with_patience};
use tests::wait;

/// Load and faults of the heavy suite.
const MINUTES: u64 = 2;
/// Longest time for the end of a run.
const END: Duration = Duration::from_secs(600);

/// Processes that have a folder in their environment or on their command line.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = arg(folder).as_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let all = [read("environ"), read("cmdline")].concat();
        // Of our own process the name of the folder is only in memory.
        if all.windows(folder.len()).any(|part| part == folder) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("a folder").next().is_none()
}

#[test]
fn ctrl_c_ends_a_soak_and_leaves_no_process_and_no_file() {
    let home = tempfile::tempdir().expect("temporary folder");
    let mut command = blockyard(["soak", "--minutes", "5", "--seed", "1", "--workers", "2", "--dir", arg(home.path())]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("soak starts");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut first = String::new();
    said.read_line(&mut first).expect("a line");
    assert!(first.contains("seed 1, folder"), "{first}");
    wait::until("all servers, the namenode among them, and a client that is to be killed or the load", END, || {
        (processes_of(home.path()).len() >= 7).then_some(())
    });
    wait::let_pass(Duration::from_secs(6));
    signal(i32::try_from(child.id()).expect("pid"), Signal::INT);
    let status = wait_with_patience(&mut child, Duration::from_secs(60));
    assert_eq!(status.code(), Some(130), "{status}");
    wait::until("all its processes to be gone", Duration::from_secs(20), || {
        processes_of(home.path()).is_empty().then_some(())
    });
    assert!(is_empty(home.path()), "its folder is removed");
}

#[test]
fn a_soak_without_room_is_refused_before_anything_starts() {
    let home = tempfile::tempdir().expect("temporary folder");
    let missing = home.path().join("missing");
    let refused = command::run(blockyard(["soak", "--dir", arg(&missing)]));
    assert_eq!(refused.code(), 3, "{}", refused.stderr);
    let refused = command::run(blockyard(["soak", "--faults", "earthquake"]));
    assert_eq!(refused.code(), 2);
    assert!(refused.stderr.contains("kill-datanode"), "{}", refused.stderr);
    assert!(is_empty(home.path()));
}

/// Two minutes of everything; 30 of them are run by hand.
#[test]
fn heavy_soak_nothing_acknowledged_is_lost_or_wrong() {
    if !tests::heavy("soak") {
        return;
    }
    let home = tempfile::tempdir().expect("temporary folder");
    let minutes = MINUTES.to_string();
    let mut soak = soak(&["--minutes", &minutes, "--json", "--dir", arg(home.path())]);
    let mut child = soak.stdout(Stdio::piped()).spawn().expect("soak starts");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("piped"), &mut text).expect("output");
    let status = wait_with_patience(&mut child, END);
    println!("{text}");
    let report: Value = serde_json::from_str(&text).expect("one object");
    assert!(status.success(), "{status}: {}", report["findings"]);
    assert_eq!((&report["lost_bytes"], &report["wrong_files"], &report["ok"]), (&0.into(), &0.into(), &true.into()));
    assert!(report["faults_injected"].as_u64().is_some_and(|count| count >= 15), "{}", report["faults"]);
    for kind in ["kill_datanode", "stop_datanode", "kill_client"] {
        assert!(report["faults"][kind].as_u64().is_some_and(|count| count > 0), "{kind}: {}", report["faults"]);
    }
    assert!(report["checked_bytes"].as_u64().is_some_and(|bytes| bytes > 50 << 20), "{}", report["checked_bytes"]);
    assert!(report["max_write_stall_ms"].is_u64() && report["max_read_stall_ms"].is_u64());
    assert!(is_empty(home.path()), "a clean run removes its folder");
}

fn soak(args: &[&str]) -> Command {
    let mut command = blockyard(["soak"]);
    command.args(args);
    command
}
