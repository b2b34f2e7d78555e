//! Writers that do not come to their end: dropped, or gone with their process.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, CreateOptions, ErrorCode};
use serde_json::Value;
use tests::command::arg;
use tests::{Cluster, Options, wait};

fn client(cluster: &Cluster) -> Client {
    Client::builder().connect(&cluster.ready().fs).user("root").build().expect("client")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime")
}

fn entry(cluster: &Cluster, path: &str) -> Value {
    let text = cluster.run(&["stat", "--json", path]).ok().text();
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn d_5_dropping_a_writer_publishes_nothing_and_keeps_what_was_there() {
    let cluster = Cluster::with(Options { datanodes: 2, ..Options::default() });
    cluster.run_with_input(&["put", "-", "/old"], b"old").ok();
    runtime().block_on(async {
        let client = client(&cluster);
        for (path, overwrite) in [("/new", false), ("/old", true)] {
            let options = CreateOptions { overwrite, ..CreateOptions::default() };
            let mut writer = client.create(path, options).await.expect("create");
            writer.write(Bytes::from(vec![1; 3 << 20])).await.expect("write");
            drop(writer);
        }
        client.settle(Duration::from_secs(10)).await;
        assert_eq!(client.stat("/new").await.expect_err("never published").code, ErrorCode::NotFound);
    });
    assert_eq!(cluster.run(&["cat", "/old"]).ok().stdout, b"old");
}

#[test]
fn a_put_that_is_killed_publishes_nothing() {
    let cluster = Cluster::with(Options { datanodes: 2, ..Options::default() });
    let mut put = cluster.command(&["put", "-", "/half"]).stdin(Stdio::piped()).spawn().expect("put starts");
    let mut stdin = put.stdin.take().expect("piped");
    stdin.write_all(&vec![3; 8 << 20]).expect("data");
    put.kill().expect("kill");
    put.wait().expect("wait");
    assert_eq!(cluster.run(&["stat", "/half"]).code(), 3);
    cluster.run_with_input(&["put", "-", "/half"], b"whole").ok();
    assert_eq!(cluster.run(&["cat", "/half"]).ok().stdout, b"whole");
}

#[test]
fn d_5_a_put_in_parts_that_is_killed_publishes_nothing() {
    let cluster = Cluster::with(Options { datanodes: 2, ..Options::default() });
    let long = cluster.scratch("long");
    std::fs::File::create(&long).expect("file").set_len(1 << 30).expect("length");
    cluster.run(&["mkdir", "/d"]).ok();
    let mut put = cluster.command(&["put", "-j", "4", arg(&long), "/d/half"]).spawn().expect("put starts");
    let open_files = || {
        let text = cluster.run(&["cluster", "status", "--json"]).ok().text();
        serde_json::from_str::<Value>(&text).expect("JSON")["open_files"].as_u64().expect("a count")
    };
    let both = || (open_files() >= 2 || put.try_wait().expect("wait").is_some()).then_some(());
    wait::until("parts that are written side by side", Duration::from_secs(60), both);
    put.kill().expect("it is not done yet");
    put.wait().expect("wait");
    assert_eq!(cluster.run(&["ls", "/d"]).ok().text(), "", "nothing is there");
    cluster.run_with_input(&["put", "-", "/d/half"], b"whole").ok();
    assert_eq!(cluster.run(&["cat", "/d/half"]).ok().stdout, b"whole");
}

#[test]
fn a_visible_file_whose_writer_died_is_listed_as_open_and_can_be_deleted_or_overwritten() {
    let mut cluster = Cluster::with(Options { datanodes: 2, ..Options::default() });
    let paths = ["/deleted", "/overwritten"];
    let rt = runtime();
    rt.block_on(async {
        let client = client(&cluster);
        for path in paths {
            let options = CreateOptions { publish_at_once: true, ..CreateOptions::default() };
            let mut writer = client.create(path, options).await.expect("create");
            writer.write(Bytes::from(vec![1; 1 << 20])).await.expect("write");
            // The process of the writer dies: nobody says good-bye.
            std::mem::forget(writer);
        }
    });
    rt.shutdown_background();
    for path in paths {
        assert_eq!(entry(&cluster, path)["open"], true, "{path}");
    }
    let listed = cluster.run(&["ls", "-l", "/"]).ok().text();
    assert_eq!(listed.matches("(being written)").count(), 2, "{listed}");
    // Open it stays, also after a restart of everything.
    cluster.kill_all();
    cluster.restart();
    assert_eq!(entry(&cluster, paths[0])["open"], true);
    cluster.run(&["rm", paths[0]]).ok();
    assert_eq!(cluster.run(&["stat", paths[0]]).code(), 3);
    cluster.run_with_input(&["put", "-f", "-", paths[1]], b"new").ok();
    assert_eq!(cluster.run(&["cat", paths[1]]).ok().stdout, b"new");
    assert_eq!(entry(&cluster, paths[1])["open"], false);
    wait::until("no open file to be counted", Duration::from_secs(20), || {
        let text = cluster.run(&["cluster", "status", "--json"]).ok().text();
        let status: Value = serde_json::from_str(&text).expect("JSON");
        (status["open_files"] == 0).then_some(())
    });
}

/// Blocks that a writer gave back because their nodes did not come up.
fn given_back(cluster: &Cluster) -> u64 {
    let page = super::dev::page(&cluster.role("namenode").http, "/metrics");
    let lines = page.lines().filter(|line| line.starts_with("blockyard_rpc_requests_total"));
    let lines = lines.filter(|line| line.contains("\"abandonBlock\""));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// The namenode does not know yet that the node is dead; the client does.
#[test]
fn i_15_a_node_that_was_found_dead_gets_no_block_of_the_same_client() {
    let cluster = Cluster::start();
    let dead = cluster.role("dn2").id.clone();
    cluster.kill("dn2");
    runtime().block_on(async {
        let client = client(&cluster);
        let write = async |path: String| {
            let options = CreateOptions { replication: 2, ..CreateOptions::default() };
            let mut writer = client.create(&path, options).await.expect("create");
            writer.write(Bytes::from(vec![1; 1000])).await.expect("write");
            writer.close().await.expect("close");
        };
        assert!(client.unreachable_nodes().is_empty());
        let mut files = 0;
        while client.unreachable_nodes().is_empty() {
            assert!(files < 64, "no file was to go to the dead node");
            write(format!("/before-{files}")).await;
            files += 1;
        }
        assert_eq!(client.unreachable_nodes(), std::slice::from_ref(&dead));
        let found_out = given_back(&cluster);
        assert!(found_out >= 1, "a pipeline did not come up");
        // Two of three nodes are drawn: without the memory one of a dozen files would meet the dead one.
        for number in 0..12 {
            write(format!("/after-{number}")).await;
            let reader = client.open(&format!("/after-{number}")).await.expect("open");
            assert!(reader.blocks()[0].locations.iter().all(|at| at.node != dead));
        }
        assert_eq!(given_back(&cluster), found_out, "nobody met it again");
        // More copies than nodes that answer: better on fewer than not at all.
        let mut writer = client.create("/three", CreateOptions::default()).await.expect("create");
        writer.write(Bytes::from_static(b"abc")).await.expect("write");
        writer.close().await.expect("close");
    });
}
