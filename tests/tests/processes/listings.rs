//! Directories of very many names, as the command line lists them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use base::task::JoinSet;
use client::Client;
use tests::{Cluster, Options, heavy};

/// Changes in flight: they share the namenode's syncs.
const IN_FLIGHT: usize = 190;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

/// Makes `/big` with this many directories in it.
fn fill(cluster: &Cluster, names: usize) {
    runtime().block_on(async {
        let client = Client::builder().connect(&cluster.ready().fs).user(whoami(cluster)).build().expect("client");
        client.mkdir("/big", 0o755, true).await.expect("mkdir");
        let mut jobs: JoinSet<()> = JoinSet::new();
        for i in 0..names {
            if jobs.len() >= IN_FLIGHT {
                jobs.join_next().await.expect("a job").expect("made");
            }
            let client = client.clone();
            jobs.spawn(async move {
                client.mkdir(&format!("/big/part-{i:07}"), 0o755, false).await.expect("mkdir");
            });
        }
        jobs.join_all().await;
    });
}

/// The superuser: who started the cluster.
fn whoami(cluster: &Cluster) -> String {
    cluster.run(&["stat", "--format", "%u", "/"]).ok().text().trim().to_owned()
}

/// Lists to a pipe that is read all the time; how long until the first byte, until the end, and how many lines.
fn timed(cluster: &Cluster, args: &[&str]) -> (Duration, Duration, usize) {
    use std::io::Read;
    let began = Instant::now();
    let mut child = cluster.command(args).stdout(Stdio::piped()).spawn().expect("the command starts");
    let mut out = child.stdout.take().expect("piped");
    let (mut buffer, mut first, mut lines) = (vec![0; 1 << 20], None, 0);
    loop {
        let got = out.read(&mut buffer).expect("a pipe can be read");
        first.get_or_insert_with(|| began.elapsed());
        if got == 0 {
            break;
        }
        lines += buffer[..got].iter().filter(|byte| **byte == b'\n').count();
    }
    let whole = began.elapsed();
    assert!(child.wait().expect("wait").success());
    (first.expect("the first byte"), whole, lines)
}

#[test]
fn many_pages_come_whole_and_in_order() {
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    fill(&cluster, 3500);
    let wanted: Vec<String> = (0..3500).map(|i| format!("part-{i:07}/")).collect();
    let listed = cluster.run(&["ls", "/big"]).ok().text();
    assert_eq!(listed.lines().collect::<Vec<_>>(), wanted);
    let reversed = cluster.run(&["ls", "--reverse", "/big"]).ok().text();
    assert!(reversed.lines().rev().eq(listed.lines()));
    for (args, lines) in [
        (&["ls", "-l", "/big"][..], 3500),
        (&["ls", "--json", "/big"], 3500),
        (&["ls", "-1d", "/big/part-00029*"], 100),
        (&["ls", "-1d", "/big/part-0003[0-4]??"], 500),
        (&["find", "/big"], 3501),
    ] {
        assert_eq!(cluster.run(args).ok().text().lines().count(), lines, "{args:?}");
    }
}

/// A million names, whole, by every way of listing; how long each takes is printed.
#[test]
fn heavy_a_million_names_are_listed_whole() {
    if !heavy("million-names") {
        return;
    }
    let names = 1_000_000;
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    let began = Instant::now();
    fill(&cluster, names);
    println!("made {names} names in {:.1} s", began.elapsed().as_secs_f64());
    for (args, wanted) in [
        (&["ls", "/big"][..], 1_000_000),
        (&["ls", "-l", "/big"], 1_000_000),
        (&["ls", "--json", "/big"], 1_000_000),
        (&["find", "/big"], 1_000_001),
        (&["ls", "-d", "/big/part-05000*"], 100),
    ] {
        let (first, whole, lines) = timed(&cluster, args);
        println!("{args:?}: first byte after {first:.3?}, all {lines} lines after {whole:.3?}");
        assert_eq!(lines, wanted, "{args:?}");
    }
}
