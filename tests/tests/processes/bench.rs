//! Benchmarks run, say what they measured, and leave nothing behind.

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
