//! A datanode dies: its blocks are copied again. It comes back: the surplus goes, and nothing else.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::command::{arg, blockyard};
use tests::ledger::Content;
use tests::{Cluster, Options, wait};

const FILES: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(60);

fn content(i: u64) -> Content {
    Content { seed: 4000 + i, len_bytes: 1 + i * 37_000 }
}

pub(super) fn status(cluster: &Cluster) -> Value {
    let text = cluster.run(&["cluster", "status", "--json"]).ok().text();
    serde_json::from_str(&text).expect("JSON")
}

/// Replicas on the live nodes together.
pub(super) fn replicas(cluster: &Cluster) -> u64 {
    let text = cluster.run(&["node", "ls", "--json"]).ok().text();
    let nodes = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    nodes.filter(|node| node["state"] == "live").map(|node| node["blocks"].as_u64().expect("blocks")).sum()
}

fn all_read_back(cluster: &Cluster) {
    for i in 0..FILES {
        assert!(cluster.run(&["cat", &format!("/f{i}")]).ok().stdout == content(i).bytes(), "/f{i} differs");
    }
}

/// A datanode beside `dev`, with the folder of one that died. Killed at its end.
struct Beside(Child);

impl Beside {
    fn start(cluster: &Cluster, role: &str) -> Self {
        let namenode = cluster.ready().fs.trim_start_matches("blockyard://").to_owned();
        let mut command = blockyard(["datanode", "--listen", "127.0.0.1:0", "--set", "datanode.http=127.0.0.1:0"]);
        command.args(["--set", &format!("datanode.namenodes=[\"{namenode}\"]")]);
        command.args(["--dir", arg(&cluster.role(role).dir), "--log-file", arg(&cluster.scratch("beside.log"))]);
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
fn a_dead_nodes_blocks_are_copied_again_and_its_return_leaves_no_surplus() {
    let options = Options { datanodes: 4, ..Options::default() }
        .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms")
        .env("BLOCKYARD_NAMENODE__STALE_AFTER", "1s")
        .env("BLOCKYARD_NAMENODE__DEAD_AFTER", "2s")
        .env("BLOCKYARD_NAMENODE__SETTLE", "500ms")
        .env("BLOCKYARD_NAMENODE__DELETE_DELAY", "0s");
    let cluster = Cluster::with(options);
    for i in 0..FILES {
        cluster.run_with_input(&["put", "-", &format!("/f{i}")], &content(i).bytes()).ok();
    }
    assert_eq!(replicas(&cluster), 3 * FILES);

    let victim = "dn1";
    cluster.kill(victim);
    wait::until("the death of a node to be known", PATIENCE, || (status(&cluster)["dead_nodes"] == 1).then_some(()));
    wait::until("full redundancy on the nodes that are left", PATIENCE, || {
        (status(&cluster)["under_replicated"] == 0 && replicas(&cluster) == 3 * FILES).then_some(())
    });
    all_read_back(&cluster);

    let _returned = Beside::start(&cluster, victim);
    wait::until("the return of the node", PATIENCE, || (status(&cluster)["dead_nodes"] == 0).then_some(()));
    wait::until("the surplus to go", PATIENCE, || {
        (status(&cluster)["pending_delete"] == 0 && replicas(&cluster) == 3 * FILES).then_some(())
    });
    assert_eq!(status(&cluster)["missing"], 0);
    all_read_back(&cluster);
}

/// Blocks with two copies left keep to the budget: one stream a node, and the bytes of a second.
#[test]
fn copies_of_blocks_in_no_danger_keep_to_the_streams_and_the_rate() {
    const RATE: u64 = 4 << 20;
    let options = Options { datanodes: 4, ..Options::default() }
        .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms")
        .env("BLOCKYARD_NAMENODE__STALE_AFTER", "1s")
        .env("BLOCKYARD_NAMENODE__DEAD_AFTER", "2s")
        .env("BLOCKYARD_NAMENODE__SETTLE", "500ms")
        .env("BLOCKYARD_DATANODE__COPY_STREAMS", "1")
        .env("BLOCKYARD_DATANODE__COPY_RATE", "4MiB");
    let mut cluster = Cluster::with(options);
    let long = Content { seed: 4999, len_bytes: 9 << 20 };
    for i in 0..FILES {
        cluster.run_with_input(&["put", "-", &format!("/f{i}")], &long.bytes()).ok();
    }
    wait::until("the replicas to be counted", PATIENCE, || (replicas(&cluster) == 3 * FILES).then_some(()));
    let held = figure(&cluster, "dn1", "blockyard_datanode_blocks ");
    cluster.kill("dn1");
    wait::until("full redundancy on the nodes that are left", PATIENCE * 3, || {
        (status(&cluster)["dead_nodes"] == 1 && replicas(&cluster) == 3 * FILES).then_some(())
    });
    assert_eq!(status(&cluster)["missing"], 0);
    let left = ["dn2", "dn3", "dn4"];
    let sum = |name: &str| -> f64 { left.iter().map(|node| any_figure(&cluster, node, name)).sum() };
    let copied = sum("blockyard_replication_bytes_total{reason=\"lacking\"} ");
    assert!(copied >= (held * long.len_bytes) as f64, "{held} replicas, {copied} bytes");
    assert_eq!(sum("blockyard_replication_bytes_total{reason=\"endangered\"} "), 0.0);
    // What was sent beyond the tokens of the first moment was waited for, in all streams together.
    let tokens = left.len() as f64 * RATE as f64 / 2.0;
    let waited = sum("blockyard_replication_wait_seconds_total ");
    assert!(waited * RATE as f64 >= (copied - tokens) / 2.0, "{waited} s for {copied} bytes");
    for node in left {
        assert!(figure(&cluster, node, "blockyard_datanode_copies_most ") <= 1, "{node} has one stream");
    }
    assert!(cluster.stop().success());
}

/// Every replica of one node is damaged on its disk: readers never see it, and what they met is repaired.
#[test]
fn flipped_bytes_are_never_delivered_and_are_repaired() {
    let options = Options::default()
        .env("BLOCKYARD_NAMENODE__SETTLE", "500ms")
        .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms");
    let cluster = Cluster::with(options);
    for i in 0..FILES {
        cluster.run_with_input(&["put", "-", &format!("/f{i}")], &content(i).bytes()).ok();
    }
    let blocks = data_files(&cluster, "dn1");
    assert_eq!(blocks.len() as u64, FILES, "{blocks:?}");
    let flipped: Vec<Vec<u8>> = blocks.iter().map(|path| flip_the_middle(path)).collect();

    // Readers of different blocks begin at different nodes: some of them meet the damage.
    all_read_back(&cluster);
    wait::until("a damaged replica to be replaced", PATIENCE, || {
        all_read_back(&cluster);
        let still = |(path, bad): &(&PathBuf, &Vec<u8>)| std::fs::read(path).is_ok_and(|now| now == **bad);
        let damaged = blocks.iter().zip(&flipped).filter(still).count() as u64;
        let whole = replicas(&cluster) == 3 * FILES && status(&cluster)["corrupt"] == 0;
        (damaged < FILES && whole).then_some(())
    });
    assert_eq!(status(&cluster)["missing"], 0);
}

/// Nobody reads: the scrubber finds the damage by itself, in the data, the checksums and the trailer, and all is whole again.
#[test]
fn f_6_the_scrubber_finds_flipped_bytes_that_nobody_reads_and_they_are_repaired() {
    let options = Options::default()
        .env("BLOCKYARD_NAMENODE__SETTLE", "500ms")
        .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms")
        .env("BLOCKYARD_NAMENODE__DELETE_DELAY", "0s")
        .env("BLOCKYARD_DATANODE__SCRUB_RATE", "1GiB")
        .env("BLOCKYARD_DATANODE__SCRUB_PERIOD", "1s");
    let cluster = Cluster::with(options);
    for i in 0..FILES {
        cluster.run_with_input(&["put", "-", &format!("/f{i}")], &content(i).bytes()).ok();
    }
    wait::until("the replicas to be counted", PATIENCE, || (replicas(&cluster) == 3 * FILES).then_some(()));
    let blocks = data_files(&cluster, "dn2");
    assert_eq!(blocks.len() as u64, FILES, "{blocks:?}");
    // The data of one, the checksums of another, the end of the trailer of a third.
    let [data, sums, trailer] = [0, 1, 2].map(|n| blocks[n].clone());
    let damaged: Vec<(PathBuf, Vec<u8>)> = [(data, 0), (checksums_of(&sums), 8), (checksums_of(&trailer), u64::MAX)]
        .map(|(path, at)| flip(&path, at))
        .into();
    let errors = || figure(&cluster, "dn2", "blockyard_scrub_errors_total ");
    wait::until("the scrubber to find all three", PATIENCE, || (errors() >= 3).then_some(()));
    wait::until("the damaged replicas to be replaced", PATIENCE, || {
        let gone = |(path, bad): &(PathBuf, Vec<u8>)| std::fs::read(path).is_ok_and(|now| now != *bad);
        let whole = replicas(&cluster) == 3 * FILES && status(&cluster)["corrupt"] == 0;
        (whole && damaged.iter().all(gone) && status(&cluster)["under_replicated"] == 0).then_some(())
    });
    assert_eq!(errors(), 3, "nothing sound was called damaged");
    assert_eq!(figure(&cluster, "dn1", "blockyard_scrub_errors_total "), 0);
    assert!(figure(&cluster, "dn1", "blockyard_scrub_bytes_total ") > 0);
    assert_eq!(status(&cluster)["missing"], 0);
    all_read_back(&cluster);
}

/// A figure of a datanode.
fn figure(cluster: &Cluster, name: &str, figure: &str) -> u64 {
    any_figure(cluster, name, figure) as u64
}

/// A figure of a datanode that may be a fraction, or have not been counted yet.
fn any_figure(cluster: &Cluster, name: &str, figure: &str) -> f64 {
    let page = super::dev::page(&cluster.role(name).http, "/metrics");
    let value = page.lines().find_map(|line| line.strip_prefix(figure));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Flips a bit of one byte, or of the last one, in place; gives the path and what the file holds then.
pub(super) fn flip(path: &Path, at: u64) -> (PathBuf, Vec<u8>) {
    use std::os::unix::fs::FileExt;
    let mut bytes = std::fs::read(path).expect("a file");
    let at = at.min(bytes.len() as u64 - 1);
    bytes[at as usize] ^= 0x10;
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
    file.write_all_at(&bytes[at as usize..=at as usize], at).expect("one byte");
    (path.to_path_buf(), bytes)
}

/// The checksum file beside a data file.
pub(super) fn checksums_of(data: &Path) -> PathBuf {
    let start = format!("{}_", data.file_name().expect("a name").to_str().expect("a text"));
    let entries = std::fs::read_dir(data.parent().expect("a folder")).expect("a folder").flatten();
    let metas = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&start)));
    metas.map(|entry| entry.path()).next().expect("a checksum file")
}

fn flip_the_middle(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).expect("block");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(path, &bytes).expect("block");
    bytes
}

/// Data files of a node's replicas.
pub(super) fn data_files(cluster: &Cluster, name: &str) -> Vec<PathBuf> {
    let top = cluster.role(name).dir.join("current");
    let files = tests::tree::list(&top).into_keys().map(|path| top.join(path));
    files.filter(|path| path.is_file() && path.extension().is_none()).collect()
}
