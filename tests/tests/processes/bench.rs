//! Benchmarks run, say what they measured, and leave nothing behind.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::{Cluster, Options};

#[test]
fn calls_on_names_are_measured_over_both_carriers_and_nothing_stays() {
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    let dir = cluster.scratch("syncs");
    std::fs::create_dir(&dir).expect("a folder");
    let dir = tests::command::arg(&dir);
    for (op, carrier) in [
        ("create", "framed"),
        ("stat", "framed"),
        ("stat", "grpc"),
        ("list", "framed"),
        ("mkdir", "framed"),
        ("rename", "grpc"),
        ("delete", "framed"),
    ] {
        let names = ["--names", "200", "--in-flight", "8", "--seconds", "1"];
        let args = [&["bench", "meta", "--json", "--dir", dir, "--op", op, "--carrier", carrier], &names[..]].concat();
        let ended = cluster.run(&args).ok();
        let said: Value = serde_json::from_str(ended.text().trim()).expect("one object");
        assert_eq!((&said["op"], &said["carrier"]), (&op.into(), &carrier.into()), "{said}");
        for figure in [&said["result"], &said["limits"]["empty_calls"], &said["limits"]["syncs"]] {
            assert!(figure["per_s"].as_f64() > Some(0.0) && figure["p99_us"].as_f64() > Some(0.0), "{op}: {said}");
        }
    }
    let table = cluster.run(&["bench", "meta", "--op", "stat", "--seconds", "1", "--dir", dir]).ok().text();
    assert!(table.contains("limit: write and sync 4 KiB"), "{table}");
    let left = cluster.run(&["ls", "/"]).ok().text();
    assert!(!left.contains("bench-"), "{left}");
    assert_eq!(std::fs::read_dir(dir).expect("the folder").count(), 0);
}

/// The median of a figure.
fn median(figure: &Value) -> f64 {
    figure["median"].as_f64().unwrap_or_else(|| panic!("no median in {figure}"))
}

/// What every benchmark of files says, and that its own process and all these servers were counted.
fn check_stage(said: &Value, bench: &str, roles: &[&str]) {
    assert_eq!((&said["v"], &said["type"], &said["bench"]), (&1.into(), &"bench".into(), &bench.into()), "{said}");
    let counted: Vec<&str> = said["processes"]
        .as_array()
        .expect("processes")
        .iter()
        .map(|process| {
            assert!(process["pid"].as_u64() > Some(1), "{said}");
            process["roles"][0].as_str().expect("a role")
        })
        .collect();
    assert_eq!(counted, roles, "{said}");
}

/// Every cost has all three parts, and they are its sum when there was one round.
fn check_cost(cost: &Value, parts: &[&str]) {
    let sum: f64 = parts.iter().map(|part| cost[*part].as_f64().unwrap_or_else(|| panic!("{part}: {cost}"))).sum();
    assert!(median(cost) > 0.0 && (median(cost) / sum - 1.0).abs() < 0.01, "{cost} is not {sum}");
}

const ALL: [&str; 3] = ["client", "namenode", "datanodes"];
const LIMITS: [&str; 6] =
    ["memory_copy", "page_cache_write", "durable_write", "page_cache_read", "loopback_tcp", "loopback_tcp_sendfile"];

fn check_io(said: &Value, bytes: u64) {
    assert_eq!(said["bytes"], bytes);
    for flow in [&said["write"], &said["read"]["tcp"], &said["read"]["local"]] {
        assert!(median(&flow["mb_per_s"]) > 0.0, "{said}");
        check_cost(&flow["cpu_s_per_gib"], &ALL);
    }
    assert!(said["write"]["of_durable_write_limit"].as_f64() > Some(0.0), "{said}");
    assert!(said["read"]["tcp"]["of_sendfile_limit"].as_f64() > Some(0.0), "{said}");
    assert!(said["read"]["local"]["of_page_cache_read_limit"].as_f64() > Some(0.0), "{said}");
    for limit in LIMITS {
        let limit = &said["limits"][limit];
        assert!(median(&limit["mb_per_s"]) > 0.0 && median(&limit["cpu_s_per_gib"]) > 0.0, "{limit} in {said}");
    }
}

/// The children of a process' first thread.
fn children(pid: u32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Does a datanode below a folder have a block?
fn has_block(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let is_block = entry.file_name().to_string_lossy().starts_with("blk_");
        is_block || (entry.path().is_dir() && has_block(&entry.path()))
    })
}

#[test]
fn files_are_measured_in_a_named_cluster_and_nothing_stays_in_it() {
    let cluster = Cluster::start();
    let dir = cluster.scratch("limits");
    std::fs::create_dir(&dir).expect("a folder");
    let namenode = cluster.role("namenode").http.trim_start_matches("http://");
    let stage = ["--json", "--rounds", "1", "--dir", tests::command::arg(&dir), "--pages", namenode];
    let run = |words: &[&str]| -> Value {
        let ended = cluster.run(&[&["bench"], words, &stage[..]].concat()).ok();
        serde_json::from_str(ended.text().trim()).expect("one object")
    };
    let roles = ["client", "datanode", "datanode", "datanode", "namenode"];

    let said = run(&["io", "--bytes", "3M"]);
    check_stage(&said, "io", &roles);
    check_io(&said, 3 << 20);
    // Data, checksums and names, on three nodes, and the log for create and complete: no fewer are durable.
    let syncs = &said["write"]["syncs_per_file"];
    check_cost(&syncs_without_client(syncs), &["namenode", "datanodes"]);
    assert!(syncs["datanodes"].as_f64() >= Some(3.0) && syncs["namenode"].as_f64() >= Some(1.0), "{syncs}");

    let said = run(&["small", "--files", "20", "--in-flight", "4"]);
    check_stage(&said, "small", &roles);
    let write = &said["write"];
    for figure in [&write["files_per_s"], &write["of_bare_loop"], &said["limits"]["bare_loop"]["files_per_s"]] {
        assert!(median(figure) > 0.0, "{said}");
    }
    check_cost(&write["cpu_ms_per_file"], &ALL);
    assert!(write["syncs_per_file"]["datanodes"].as_f64() >= Some(1.0), "{said}");
    assert!(write["times"]["p99_us"].as_f64() > Some(0.0), "{said}");

    let said = run(&["read", "--bytes", "1M", "--files", "10", "--in-flight", "4", "--seconds", "1"]);
    check_stage(&said, "read", &roles);
    for door in ["tcp", "local"] {
        for op in ["random", "small"] {
            let op = &said[op][door];
            assert!(median(&op["per_s"]) > 0.0 && op["of_exchange_limit"].is_f64() == (door == "tcp"), "{said}");
            check_cost(&op["cpu_us_each"], &ALL);
        }
        assert!(median(&said["sequential"][door]["mb_per_s"]) > 0.0, "{said}");
    }
    assert!(median(&said["limits"]["exchange"]["per_s"]) > 0.0, "{said}");

    // Two rounds, as text.
    let words =
        ["bench", "io", "--bytes", "1M", "--rounds", "2", "--digest", "both", "--dir", tests::command::arg(&dir)];
    let table = cluster.run(&words).ok().text();
    let ways = ["write, durable, digest sha256", "write, durable, digest none", "syncs a file, digest none:"];
    for line in ways.into_iter().chain(["limit: memory copy", "not counted: the namenode"]) {
        assert!(table.contains(line), "{line}: {table}");
    }
    let left = cluster.run(&["ls", "/"]).ok().text();
    assert!(!left.contains("bench-"), "{left}");
    assert_eq!(std::fs::read_dir(&dir).expect("the folder").count(), 0);
}

/// Bytes that datanodes sent over TCP, and replicas that they lent.
fn sent_and_lent(cluster: &Cluster) -> [u64; 2] {
    let names = [
        "blockyard_datanode_sent_bytes_total ",
        "blockyard_datanode_operations_total{operation=\"lend\",outcome=\"ok\"} ",
    ];
    names.map(|name| {
        let nodes = cluster.ready().roles.iter().filter(|role| role.role == "datanode");
        let pages = nodes.map(|node| super::dev::page(&node.http, "/metrics"));
        let value = |page: String| page.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
        pages.map(|page| value(page).unwrap_or(0)).sum()
    })
}

/// The servers say by which way it was read, and so do the figures.
#[test]
fn a_figure_is_named_after_the_way_that_was_read_by() {
    const BYTES: u64 = 2_000_000;
    let one = Options { datanodes: 1, ..Options::default() };
    let cluster = Cluster::with(one.clone());
    let bytes = BYTES.to_string();
    let args = ["bench", "io", "--json", "--replication", "1", "--rounds", "1", "--bytes", &bytes];
    let run = |more: &[&str]| -> Value {
        let ended = cluster.run(&[&args, more].concat()).ok();
        serde_json::from_str(ended.text().trim()).expect("one object")
    };
    let before = sent_and_lent(&cluster);
    let said = run(&["--door", "tcp"]);
    assert!(said["read"]["tcp"].is_object() && said["read"]["local"].is_null(), "{said}");
    let over_tcp = sent_and_lent(&cluster);
    assert!(over_tcp[0] >= before[0] + BYTES && over_tcp[1] == before[1], "{before:?} {over_tcp:?}");
    let said = run(&["--door", "local"]);
    assert!(said["read"]["local"].is_object() && said["read"]["tcp"].is_null(), "{said}");
    let local = sent_and_lent(&cluster);
    assert!(local[0] == over_tcp[0] && local[1] > over_tcp[1], "{over_tcp:?} {local:?}");

    let text = [&args[..2], &args[3..]].concat();
    let shut = cluster.run(&[&text[..], &["--door", "local", "--local-reads", "off"]].concat());
    assert_eq!(shut.code(), 2);
    let why = &shut.stderr;
    assert!(why.contains("no datanode lends descriptors") && why.contains("--door tcp"), "{why}");
    // Nobody chose: what there is.
    let cluster = Cluster::with(one.env("BLOCKYARD_DATANODE__LOCAL_SOCKET", "off"));
    let table = cluster.run(&text).ok().text();
    assert!(table.contains("read, tcp") && !table.contains("read, local"), "{table}");
    assert!(table.contains("not measured: the local door"), "{table}");
}

/// This process syncs nothing: its part is not told.
fn syncs_without_client(syncs: &Value) -> Value {
    assert_eq!(syncs["client"], Value::Null, "{syncs}");
    syncs.clone()
}

#[test]
fn one_command_measures_in_a_cluster_of_its_own_which_is_gone_afterwards() {
    let home = tempfile::tempdir().expect("a folder");
    let args = ["bench", "io", "--json", "--bytes", "2M", "--rounds", "2", "--replication", "2"];
    let mut command = tests::command::blockyard(args);
    command.args(["--dir", tests::command::arg(home.path())]);
    let ended = tests::command::run(command).ok();
    let said: Value = serde_json::from_str(ended.text().trim()).expect("one object");
    check_stage(&said, "io", &["client", "namenode", "datanode", "datanode"]);
    assert_eq!((&said["own_cluster"], &said["replication"]), (&true.into(), &2.into()));
    for flow in [&said["write"], &said["read"]["tcp"], &said["read"]["local"]] {
        assert!(median(&flow["mb_per_s"]) > 0.0, "{said}");
    }
    for process in said["processes"].as_array().expect("processes") {
        let pid = i32::try_from(process["pid"].as_i64().expect("a number")).expect("a process");
        assert!(!tests::cluster::is_alive(pid), "{process} still runs");
    }
    assert_eq!(std::fs::read_dir(home.path()).expect("the folder").count(), 0);
}

/// L-4, counts only: every block has its copies again, none is lost, and nobody makes more copies at a time than it may.
#[test]
fn l_4_the_blocks_of_a_datanode_that_is_killed_are_all_copied_again_in_so_many_streams() {
    const BLOCKS: u64 = 300;
    let home = tempfile::tempdir().expect("a folder");
    let blocks = BLOCKS.to_string();
    let args = ["bench", "rebuild", "--json", "--blocks", &blocks, "--block-size", "64K", "--write-bytes", "4M"];
    let mut command = tests::command::blockyard(args);
    command.args(["--dir", tests::command::arg(home.path())]);
    command.env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms");
    command.env("BLOCKYARD_NAMENODE__STALE_AFTER", "1s");
    command.env("BLOCKYARD_NAMENODE__SETTLE", "500ms");
    command.env("BLOCKYARD_DATANODE__COPY_STREAMS", "2");
    // Blocks with one copy left are not held to the rate: at this one they would take more than a minute.
    command.env("BLOCKYARD_DATANODE__COPY_RATE", "1MiB");
    let ended = tests::command::run(command).ok();
    let said: Value = serde_json::from_str(ended.text().trim()).expect("one object");
    // The benchmark itself fails if a file is not whole at the end, or a block is missing.
    assert_eq!((&said["blocks"], &said["replication"], &said["datanodes"]), (&BLOCKS.into(), &2.into(), &4.into()));
    let most = said["copied"]["at_a_time_most"].as_f64().expect("a number");
    assert!((1.0..=4.0).contains(&most), "two streams, and two more for endangered blocks: {said}");
    for figure in [&said["begins_s"], &said["whole_s"], &said["copied"]["mb_per_s"], &said["of_write"]] {
        assert!(median(figure) > 0.0, "{said}");
    }
    // Data, checksums and names of every block were made durable.
    assert!(median(&said["copied"]["syncs_per_block"]) >= 2.0, "{said}");
    for process in said["processes"].as_array().expect("processes") {
        let pid = i32::try_from(process["pid"].as_i64().expect("a number")).expect("a process");
        assert!(!tests::cluster::is_alive(pid), "{process} still runs");
    }
    assert_eq!(std::fs::read_dir(home.path()).expect("the folder").count(), 0);
}

#[test]
fn an_interrupted_benchmark_leaves_nothing_in_the_cluster_and_no_process() {
    let cluster = Cluster::start();
    let dir = cluster.scratch("limits");
    std::fs::create_dir(&dir).expect("a folder");
    // One that would go on for an hour, in the named cluster and in one of its own.
    for fs in [Some(cluster.ready().fs.as_str()), None] {
        let mut command = tests::command::blockyard(["bench", "read", "--op", "random", "--seconds", "3600"]);
        command.args(["--bytes", "1M", "--replication", "1", "--dir", tests::command::arg(&dir)]);
        command.args(fs.iter().flat_map(|fs| ["--fs", fs]));
        let mut child = command.spawn().expect("the benchmark starts");
        let pid = i32::try_from(child.id()).expect("a process");
        let servers = tests::wait::until("the benchmark at work", Duration::from_secs(30), || match fs {
            Some(_) => cluster.run(&["ls", "/"]).ok().text().contains("bench-").then(Vec::new),
            None => has_block(&dir).then(|| children(child.id())),
        });
        tests::cluster::signal(pid, rustix::process::Signal::INT);
        let status = tests::command::wait_with_patience(&mut child, Duration::from_secs(60));
        assert_eq!(status.code(), Some(130), "with {fs:?}");
        assert_eq!(servers.len(), if fs.is_some() { 0 } else { 2 }, "a namenode and a datanode of its own");
        assert!(servers.iter().all(|server| !tests::cluster::is_alive(*server)), "{servers:?}");
        assert!(!cluster.run(&["ls", "/"]).ok().text().contains("bench-"));
        assert_eq!(std::fs::read_dir(&dir).expect("the folder").count(), 0);
    }
}

#[test]
fn a_benchmark_that_cannot_be_says_why() {
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    let few = cluster.run(&["bench", "io", "--bytes", "1M"]);
    assert_eq!(few.code(), 2, "{}", few.stderr);
    assert!(few.stderr.contains("3 copies need as many datanodes") && few.stderr.contains("--replication 1"));
    let huge = cluster.run(&["bench", "io", "--bytes", "100000T", "--replication", "1"]);
    assert_ne!(huge.code(), 0);
    assert!(huge.stderr.contains("there is room for") && huge.stderr.contains("--bytes"), "{}", huge.stderr);
    let short = cluster.run(&["bench", "read", "--bytes", "100", "--replication", "1"]);
    assert_eq!(short.code(), 2, "{}", short.stderr);
    assert!(!cluster.run(&["ls", "/"]).ok().text().contains("bench-"));
}
