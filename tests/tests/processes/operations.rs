//! Operations without risk: a datanode leaves while a file is being written on it, one is away for a while, a new one is
//! filled.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::command::{self, arg, blockyard};
use tests::ledger::Content;
use tests::mount::SmallDisk;
use tests::{Cluster, Options, wait};

use super::repair::{data_files, replicas, status};

const FILES: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(90);

fn content(i: u64) -> Content {
    Content { seed: 7000 + i, len_bytes: 1 + i * 41_000 }
}

fn quick(datanodes: u16) -> Options {
    Options { datanodes, ..Options::default() }
        .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms")
        .env("BLOCKYARD_NAMENODE__STALE_AFTER", "1s")
        .env("BLOCKYARD_NAMENODE__DEAD_AFTER", "2s")
        .env("BLOCKYARD_NAMENODE__SETTLE", "500ms")
        .env("BLOCKYARD_NAMENODE__DELETE_DELAY", "0s")
}

fn objects(cluster: &Cluster, args: &[&str]) -> Vec<Value> {
    let text = cluster.run(&[args, &["--json"]].concat()).ok().text();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn node(cluster: &Cluster, id: &str) -> Value {
    let nodes = objects(cluster, &["node", "ls"]);
    nodes.into_iter().find(|node| node["id"] == id).expect("the node")
}

fn put_all(cluster: &Cluster) {
    for i in 0..FILES {
        cluster.run_with_input(&["put", "-", &format!("/f{i}")], &content(i).bytes()).ok();
    }
}

fn all_read_back(cluster: &Cluster) {
    for i in 0..FILES {
        assert!(cluster.run(&["cat", &format!("/f{i}")]).ok().stdout == content(i).bytes(), "/f{i} differs");
    }
}

#[test]
fn l_7_sc_75_a_node_of_four_is_emptied_under_an_open_file_and_nobody_misses_it() {
    let cluster = Cluster::with(quick(4));
    put_all(&cluster);
    wait::until("the replicas to be counted", PATIENCE, || (replicas(&cluster) == 3 * FILES).then_some(()));
    // A file that is being written on three of the four.
    let names = ["dn1", "dn2", "dn3", "dn4"];
    let count = |name: &&str| data_files(&cluster, name).len();
    let before: Vec<usize> = names.iter().map(count).collect();
    let bytes = Content { seed: 77, len_bytes: 6 << 20 }.bytes();
    let mut writer = cluster.command(&["put", "-", "/open"]);
    writer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = writer.spawn().expect("put starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&bytes[..3 << 20]).expect("half");
    let victim = wait::until("a replica that is being written", PATIENCE, || {
        let at = names.iter().zip(&before).position(|(name, before)| count(name) > *before);
        at.map(|at| names[at])
    });
    let id = cluster.role(victim).id.clone();
    let begun = objects(&cluster, &["node", "decommission", &id]);
    let job = begun[0]["job"].as_str().expect("a job").to_owned();
    assert_eq!((&begun[0]["id"], job.as_str()), (&Value::from(id.as_str()), format!("decommission-{id}").as_str()));
    let refused = cluster.run(&["--user", "nobody", "node", "recommission", &id]);
    assert_eq!(refused.code(), 4, "{}", refused.stderr);
    let job_now = || objects(&cluster, &["jobs", "ls"]).into_iter().find(|one| one["job"] == job.as_str());
    let blocked = wait::until("the open file to be named", PATIENCE, || {
        job_now().filter(|job| job["state"] == "blocked" && job["blocked"] == 1)
    });
    let why = blocked["blocked_by"][0].as_str().expect("a reason");
    assert!(why.contains("/open: is being written"), "{why}");
    assert_eq!(node(&cluster, &id)["service"], "decommissioning");
    // It is finished, and the node with it.
    stdin.write_all(&bytes[3 << 20..]).expect("the rest");
    drop(stdin);
    assert!(command::wait_with_patience(&mut child, PATIENCE).success());
    let told = cluster.run(&["jobs", "watch", &job]).ok().text();
    assert!(told.contains("done"), "{told}");
    assert_eq!(node(&cluster, &id)["service"], "decommissioned");
    cluster.kill(victim);
    wait::until("its end to be known", PATIENCE, || (node(&cluster, &id)["state"] == "dead").then_some(()));
    all_read_back(&cluster);
    assert!(cluster.run(&["cat", "/open"]).ok().stdout == bytes);
    let status = status(&cluster);
    for figure in ["under_replicated", "missing", "dead_nodes"] {
        assert_eq!(status[figure], 0, "{status}");
    }
    assert_eq!(status["leaving_nodes"], 1);
    assert!(replicas(&cluster) >= 3 * (FILES + 1), "everything is there three times without it");
}

#[test]
fn a_node_in_maintenance_is_away_without_a_copy_being_made_and_its_time_ends() {
    let cluster = Cluster::with(quick(4));
    put_all(&cluster);
    wait::until("the replicas to be counted", PATIENCE, || (replicas(&cluster) == 3 * FILES).then_some(()));
    let id = cluster.role("dn2").id.clone();
    let held = node(&cluster, &id)["blocks"].as_u64().expect("blocks");
    let ended = cluster.run(&["node", "maintenance", &id, "--for", "20s", "--wait"]).ok();
    assert!(ended.text().contains("done"), "{}", ended.text());
    cluster.kill("dn2");
    wait::until("its absence to be known", PATIENCE, || (node(&cluster, &id)["state"] == "dead").then_some(()));
    assert_eq!(node(&cluster, &id)["service"], "in maintenance");
    let away = status(&cluster);
    assert_eq!((&away["dead_nodes"], &away["under_replicated"]), (&Value::from(0), &Value::from(0)), "{away}");
    assert_eq!(replicas(&cluster), 3 * FILES - held, "nothing was copied because of it");
    all_read_back(&cluster);
    // The twenty seconds are over: dead like any other, and made good.
    wait::until("the end of its maintenance", PATIENCE, || {
        (node(&cluster, &id)["service"] == "in service").then_some(())
    });
    wait::until("full redundancy on the others", PATIENCE, || (replicas(&cluster) == 3 * FILES).then_some(()));
    assert_eq!(status(&cluster)["dead_nodes"], 1);
    all_read_back(&cluster);
}

/// A datanode beside those of `dev`. Killed at its end.
struct Beside(Child);

impl Beside {
    fn start(cluster: &Cluster, dir: &Path) -> Self {
        let namenode = cluster.ready().fs.trim_start_matches("blockyard://").to_owned();
        let mut command = blockyard(["datanode", "--listen", "127.0.0.1:0", "--set", "datanode.http=127.0.0.1:0"]);
        command.args(["--set", &format!("datanode.namenodes=[\"{namenode}\"]")]);
        command.args(["--dir", arg(dir), "--log-file", arg(&cluster.scratch("beside.log"))]);
        Self(command.stdout(Stdio::null()).spawn().expect("datanode starts"))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

#[test]
fn l_7_sc_77_an_empty_node_that_was_added_is_filled_and_every_byte_is_there() {
    const BLOCK: u64 = 4 << 20;
    let mut cluster = Cluster::unstarted(quick(3).env("BLOCKYARD_NAMENODE__LOG_SEGMENT", "1MiB"));
    // A small disk for all of them, so that a few blocks are a share of it that counts.
    let Some(_disk) = SmallDisk::mount(&cluster.data_dir(), 512) else { return };
    cluster.restart();
    let file = |i: u64| Content { seed: 7500 + i, len_bytes: BLOCK };
    for i in 0..20 {
        cluster.run_with_input(&["put", "-", &format!("/b{i}")], &file(i).bytes()).ok();
    }
    wait::until("the replicas to be counted", PATIENCE, || (replicas(&cluster) == 60).then_some(()));
    let _new = Beside::start(&cluster, &cluster.data_dir().join("beside"));
    wait::until("the new node", PATIENCE, || (status(&cluster)["live_nodes"] == 4).then_some(()));
    let blocks = || {
        let nodes = objects(&cluster, &["node", "ls"]);
        nodes.iter().map(|node| node["blocks"].as_u64().expect("blocks")).collect::<Vec<_>>()
    };
    assert_eq!(blocks().iter().min(), Some(&0));
    let ended = cluster.run(&["balance", "--threshold", "4", "--wait"]).ok();
    println!("{} {:?}", ended.text().trim(), blocks());
    wait::until("what was moved to be gone where it was", PATIENCE, || {
        (status(&cluster)["pending_delete"] == 0 && replicas(&cluster) == 60).then_some(())
    });
    assert!(blocks().iter().all(|blocks| *blocks >= 8), "{:?}", blocks());
    let status = status(&cluster);
    assert_eq!((&status["under_replicated"], &status["missing"]), (&Value::from(0), &Value::from(0)));
    for i in 0..20 {
        assert!(cluster.run(&["cat", &format!("/b{i}")]).ok().stdout == file(i).bytes(), "/b{i} differs");
    }
    let jobs = objects(&cluster, &["jobs", "ls"]);
    assert_eq!((&jobs[0]["kind"], &jobs[0]["state"]), (&Value::from("balance"), &Value::from("done")));
}
