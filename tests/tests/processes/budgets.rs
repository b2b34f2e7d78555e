//! Counts against `tests/budgets.toml`: what an operation may cost in calls, log entries, syncs, bytes, instructions.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use tests::{Options, cluster::Cluster, command};

use crate::dev::page;

/// Calls that datanodes make by themselves.
const OF_DATANODES: [&str; 5] = ["register", "heartbeat", "incrementalReport", "reportHashes", "reportBuckets"];

#[derive(Debug, Deserialize)]
struct Budgets {
    log: BTreeMap<String, f64>,
    calls: BTreeMap<String, u64>,
    memory: BTreeMap<String, f64>,
    instructions: BTreeMap<String, f64>,
    copies: BTreeMap<String, f64>,
    data_calls: BTreeMap<String, f64>,
}

fn budgets() -> Budgets {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.toml");
    toml::from_str(&std::fs::read_to_string(path).expect("budgets.toml")).expect("the lines of budgets.toml")
}

/// Holds a count against its line.
fn check(table: &BTreeMap<String, f64>, line: &str, found: f64) {
    let budget = *table.get(line).unwrap_or_else(|| panic!("budgets.toml has no line {line}"));
    println!("budget: {line} = {found:.2} (line: {budget})");
    assert!(found <= budget * 1.05, "{line}: {found:.2} is above the budget of {budget} by more than 5 %");
    assert!(found >= budget * 0.95, "{line}: {found:.2} is far below the budget of {budget}: lower the line");
}

/// Holds a count against its line that also depends on who was faster: a line is the most that may be.
fn check_at_most(table: &BTreeMap<String, f64>, line: &str, found: f64) {
    let budget = *table.get(line).unwrap_or_else(|| panic!("budgets.toml has no line {line}"));
    println!("budget: {line} = {found:.2} (at most: {budget})");
    assert!(found <= budget, "{line}: {found:.2} is above the budget of {budget}");
    assert!(found >= budget * 0.5, "{line}: {found:.2} is far below the budget of {budget}: lower the line");
}

/// Counters of a namenode whose names begin so, by their full names.
fn counters(cluster: &Cluster, prefix: &str) -> BTreeMap<String, u64> {
    let text = page(&cluster.role("namenode").http, "/metrics");
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse::<f64>().unwrap_or(0.0) as u64))
        .collect()
}

fn calls(cluster: &Cluster) -> u64 {
    let of_clients = |name: &&String| !OF_DATANODES.iter().any(|method| name.contains(&format!("\"{method}\"")));
    let all = counters(cluster, "blockyard_rpc_requests_total");
    all.iter().filter(|(name, _)| of_clients(name)).map(|(_, count)| *count).sum()
}

#[test]
fn verbs_make_as_many_calls_as_they_may() {
    let cluster = Cluster::start();
    let budgets = budgets();
    let local = cluster.scratch("local");
    std::fs::write(&local, [7; 3000]).expect("a local file");
    // Two parts of two blocks: looks at the place, create, add and complete of each, one concat, one rename.
    let long = cluster.scratch("long");
    std::fs::File::create(&long).expect("a local file").set_len(128 << 20).expect("its length");
    let long = command::arg(&long).to_owned();
    let copy = cluster.scratch("copy");
    let (local, copy) = (command::arg(&local).to_owned(), command::arg(&copy).to_owned());
    let verbs: [(&str, &[&str]); 9] = [
        ("mkdir", &["mkdir", "/d"]),
        ("put", &["put", &local, "/d/f"]),
        ("put_in_parts", &["put", "-j", "2", "--block-size", "32M", &long, "/d/long"]),
        ("stat", &["stat", "/d/f"]),
        ("ls", &["ls", "/d"]),
        ("cat", &["cat", "/d/f"]),
        ("get", &["get", "/d/f", &copy]),
        ("mv", &["mv", "/d/f", "/d/g"]),
        ("rm", &["rm", "/d/g"]),
    ];
    let mut wrong = Vec::new();
    for (verb, words) in verbs {
        let before = calls(&cluster);
        cluster.run(words).ok();
        let made = calls(&cluster) - before;
        println!("budget: {verb} = {made}");
        if budgets.calls.get(verb) != Some(&made) {
            wrong.push(format!("{verb} makes {made} calls, the line says {:?}", budgets.calls.get(verb)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn operations_write_as_many_log_entries_and_syncs_as_they_may() {
    let cluster = Cluster::start();
    let budgets = budgets();
    let directories: Vec<String> = (0..200).map(|n| format!("/d{n}")).collect();
    let mut words = vec!["mkdir"];
    words.extend(directories.iter().map(String::as_str));
    let figures = ["blockyard_namenode_applied_index", "blockyard_editlog_sync_duration_seconds_count"];
    let look = || figures.map(|name| counters(&cluster, name).values().sum::<u64>());
    let before = look();
    cluster.run(&words).ok();
    let after = look();
    // An idle second adds an entry: less than the tolerance of so many.
    let [entries, syncs] = [0, 1].map(|n| (after[n] - before[n]) as f64 / directories.len() as f64);
    check(&budgets.log, "entries_per_mkdir", entries);
    check(&budgets.log, "syncs_per_mkdir", syncs);
}

#[test]
fn bytes_take_as_many_calls_and_copies_as_they_may() {
    // Scrubbers read, too.
    let cluster = Cluster::with(Options::default().env("BLOCKYARD_DATANODE__SCRUB_RATE", "0"));
    let budgets = budgets();
    let namenode = cluster.role("namenode").http.trim_start_matches("http://").to_owned();
    let run = |words: &[&str]| -> Value {
        let more = ["--json", "--rounds", "1", "--pages", &namenode];
        let ended = cluster.run(&[&["bench"], words, &more[..]].concat()).ok();
        serde_json::from_str(ended.text().trim()).expect("one object")
    };
    let median = |figure: &Value| figure["median"].as_f64().unwrap_or_else(|| panic!("no median in {figure}"));
    let said = run(&["io", "--bytes", "64M"]);
    for (line, flow) in
        [("written", &said["write"]), ("read_tcp", &said["read"]["tcp"]), ("read_local", &said["read"]["local"])]
    {
        check(&budgets.copies, line, median(&flow["copies_per_byte"]));
        check_at_most(&budgets.data_calls, &format!("{line}_per_mib"), median(&flow["calls_per_mib"]));
    }
    // One at a time: nobody waits for anybody.
    let said = run(&["read", "--op", "random", "--bytes", "8M", "--in-flight", "1", "--seconds", "1"]);
    for door in ["tcp", "local"] {
        check(&budgets.data_calls, &format!("short_read_{door}"), median(&said["random"][door]["calls_each"]));
    }
}

fn bench(words: &[&str]) -> Value {
    let ended = command::run(command::blockyard(["bench", "namespace", "--json"].iter().chain(words))).ok();
    serde_json::from_str(&ended.text()).expect("one JSON object")
}

#[test]
fn a_file_takes_as_much_memory_as_it_may() {
    let figures = bench(&["--files", "1000000", "--only", "create"]);
    let bytes = figures["all_parts_bytes_per_file"].as_f64().expect("bytes per file");
    check(&budgets().memory, "bytes_per_file", bytes);
}

/// Is there no valgrind? Says so.
fn cannot_count_instructions() -> bool {
    let absent = Command::new("valgrind").arg("--version").output().is_err();
    if absent {
        println!("skipped: instructions are not counted, valgrind is not installed");
    }
    absent
}

/// Instructions of one run of `bench namespace`.
fn instructions(words: &[&str]) -> f64 {
    counted(&[&["bench", "namespace", "--json", "--nodes", "10"], words].concat(), None)
}

/// Instructions of one run of the binary.
fn counted(words: &[&str], cluster: Option<&Cluster>) -> f64 {
    let out = tempfile::NamedTempFile::new().expect("a file for callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.path().display()));
    valgrind.arg(command::binary()).args(words);
    valgrind.envs(cluster.map(|cluster| ("BLOCKYARD_FS", &cluster.ready().fs)));
    command::run(valgrind).ok();
    let text = std::fs::read_to_string(out.path()).expect("what callgrind wrote");
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ")).expect("a summary");
    total.trim().parse().expect("a number")
}

#[test]
fn calls_take_as_many_instructions_as_they_may() {
    if cannot_count_instructions() {
        return;
    }
    let budgets = budgets().instructions;
    let files = 4000.0;
    let create =
        instructions(&["--only", "create", "--files", "8000"]) - instructions(&["--only", "create", "--files", "4000"]);
    check(&budgets, "create", create / files);
    for (line, only) in [("stat", "stat"), ("list_entry", "list")] {
        let run = |rounds| instructions(&["--only", only, "--files", "4000", "--rounds", rounds]);
        check(&budgets, line, (run("4") - run("2")) / (2.0 * files));
    }
}

/// What one packet of 256 KiB costs the client: checksums are most of it.
#[test]
fn packets_take_as_many_instructions_as_they_may() {
    const PACKET: usize = 256 << 10;
    const SIZES: [usize; 2] = [16, 80];
    if cannot_count_instructions() {
        return;
    }
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    let budgets = budgets().instructions;
    let each = |runs: [f64; 2]| (runs[1] - runs[0]) / (SIZES[1] - SIZES[0]) as f64;
    let written = SIZES.map(|packets| {
        let local = cluster.scratch(&format!("of-{packets}"));
        std::fs::write(&local, vec![7; packets * PACKET]).expect("a local file");
        // The processor that counts has no instructions for SHA-256: a digest would cost it many times what it costs.
        counted(&["put", "--digest", "none", command::arg(&local), &format!("/of-{packets}")], Some(&cluster))
    });
    check_at_most(&budgets, "packet_written", each(written));
    for (line, local_reads) in [("packet_read_tcp", "off"), ("packet_read_local", "auto")] {
        let read = SIZES.map(|packets| {
            let path = format!("/of-{packets}");
            counted(&["--local-reads", local_reads, "cat", &path], Some(&cluster))
        });
        check(&budgets, line, each(read));
    }
}
