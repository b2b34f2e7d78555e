//! Files are read through descriptors of the datanodes on this machine, and over the network where that is not to be had.

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, LocalReads};
use tests::ledger::Content;
use tests::{Cluster, Options, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const LEN_BYTES: u64 = 3_000_000;

fn content() -> Content {
    Content { seed: 77, len_bytes: LEN_BYTES }
}

fn client(cluster: &Cluster, local_reads: LocalReads) -> Client {
    let builder = Client::builder().connect(&cluster.ready().fs).user("root");
    builder.local_reads(local_reads).build().expect("client")
}

/// A figure of all datanodes together.
fn figure(cluster: &Cluster, name: &str) -> u64 {
    let nodes = cluster.ready().roles.iter().filter(|role| role.role == "datanode");
    let value = |http: &str| {
        let page = super::dev::page(http, "/metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<u64>().expect("a number"))
    };
    nodes.map(|node| value(&node.http)).sum()
}

fn lent(cluster: &Cluster) -> u64 {
    figure(cluster, "blockyard_datanode_operations_total{operation=\"lend\",outcome=\"ok\"}")
}

fn sent(cluster: &Cluster) -> u64 {
    figure(cluster, "blockyard_datanode_sent_bytes_total")
}

/// Every file of the datanodes whose name fits.
fn block_files(cluster: &Cluster, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![cluster.data_dir()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "trash" {
                folders.push(path);
            } else if name.starts_with("blk_") && fits(&name) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn flip(path: &Path, at: usize) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("a block file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at as u64).expect("write");
}

async fn read_all(client: &Client, path: &str) -> Vec<u8> {
    let mut reader = client.open(path).await.expect("open");
    let mut data = Vec::new();
    while let Some(bytes) = reader.next().await.expect("read") {
        data.extend_from_slice(&bytes);
    }
    data
}

#[test]
fn a_file_is_read_through_the_local_door_and_over_the_network_if_told_so() {
    let cluster = Cluster::start();
    cluster.run_with_input(&["put", "-", "/f"], &content().bytes()).ok();
    let sent_before = sent(&cluster);
    assert!(cluster.run(&["cat", "/f"]).ok().stdout == content().bytes());
    assert_eq!((lent(&cluster), sent(&cluster)), (1, sent_before), "no byte went over the network");
    wait::until("the loans to end with their process", PATIENCE, || {
        (figure(&cluster, "blockyard_datanode_loans") == 0).then_some(())
    });

    assert!(cluster.run(&["--local-reads", "off", "cat", "/f"]).ok().stdout == content().bytes());
    assert_eq!(lent(&cluster), 1);
    assert!(sent(&cluster) >= sent_before + LEN_BYTES);
    let wrong = cluster.run(&["--local-reads", "perhaps", "cat", "/f"]);
    assert_eq!(wrong.code(), 2);
    let why = &wrong.stderr;
    assert!(why.contains("write auto or off"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s_4_a_reader_without_a_door_falls_back_without_a_word() {
    let cluster = Cluster::with(Options::default().env("BLOCKYARD_DATANODE__LOCAL_SOCKET", "off"));
    cluster.run_with_input(&["put", "-", "/f"], &content().bytes()).ok();
    let client = client(&cluster, LocalReads::Auto);
    assert!(read_all(&client, "/f").await == content().bytes());
    assert_eq!(client.local_figures(), client::LocalFigures::default(), "there was nothing to try");
    assert_eq!(lent(&cluster), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_6_damage_behind_the_local_door_is_found_reported_and_read_around() {
    // Data of one replica, checksums of another: what is left is one sound replica of three.
    let cluster = Cluster::with(Options::default().env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms"));
    cluster.run_with_input(&["put", "-", "/f"], &content().bytes()).ok();
    let client = client(&cluster, LocalReads::Auto);
    let reader = client.open("/f").await.expect("open");
    // Borrowed before the damage comes: nobody opens the files anew, only what is read is looked at.
    for offset in [0, 1_000_000] {
        reader.read_at(offset, 4096).await.expect("read");
    }
    let (data, sums) =
        (block_files(&cluster, |name| !name.ends_with(".meta")), block_files(&cluster, |name| name.ends_with(".meta")));
    assert_eq!((data.len(), sums.len()), (3, 3), "{data:?} {sums:?}");
    let first = &reader.blocks()[0].locations[0].node;
    let dir = &cluster.ready().roles.iter().find(|role| role.id == *first).expect("the first node").dir;
    let of = |files: &[PathBuf]| files.iter().find(|file| file.starts_with(dir)).cloned().expect("its file");
    flip(&of(&data), 2_000_000);
    let bytes = reader.read_at(2_000_000 - 100, 4096).await.expect("another replica");
    assert!(bytes[..] == content().bytes()[1_999_900..1_999_900 + 4096]);
    assert!(
        client.local_figures().borrowed >= 2,
        "the other replica is on this machine, too: {:?}",
        client.local_figures()
    );
    wait::until("the repair of the damaged replica", PATIENCE, || {
        let whole = |file: &PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes == content().bytes());
        let files = block_files(&cluster, |name| !name.ends_with(".meta"));
        (files.len() == 3 && files.iter().all(whole)).then_some(())
    });

    // The same with a checksum, for a reader that streams.
    let mut reader = client.open("/f").await.expect("open");
    let first = reader.blocks()[0].locations[0].node.clone();
    let dir = &cluster.ready().roles.iter().find(|role| role.id == first).expect("the first node").dir;
    let sums = block_files(&cluster, |name| name.ends_with(".meta"));
    let mut data = reader.next().await.expect("read").expect("bytes").to_vec();
    flip(sums.iter().find(|file| file.starts_with(dir)).expect("its file"), 7 + 4 * 5000);
    while let Some(bytes) = reader.next().await.expect("read") {
        data.extend_from_slice(&bytes);
    }
    assert!(data == content().bytes());
}

/// What cannot be read through a loan says nothing of the replica to anybody: its node finds out when it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn f_5_a_file_that_was_cut_under_a_loan_is_read_over_the_network_and_repaired() {
    let cluster = Cluster::with(Options::default().env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms"));
    cluster.run_with_input(&["put", "-", "/f"], &content().bytes()).ok();
    let client = client(&cluster, LocalReads::Auto);
    let reader = client.open("/f").await.expect("open");
    reader.read_at(0, 4096).await.expect("borrows");
    let first = &reader.blocks()[0].locations[0].node;
    let dir = &cluster.ready().roles.iter().find(|role| role.id == *first).expect("the first node").dir;
    let data = block_files(&cluster, |name| !name.ends_with(".meta"));
    let cut = data.iter().find(|file| file.starts_with(dir)).expect("its file");
    std::fs::OpenOptions::new().write(true).open(cut).expect("open").set_len(1_000_000).expect("cut");
    let bytes = reader.read_at(2_000_000, 4096).await.expect("another replica");
    assert!(bytes[..] == content().bytes()[2_000_000..2_000_000 + 4096]);
    wait::until("the repair of the cut replica", PATIENCE, || {
        let whole = |file: &PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes == content().bytes());
        let files = block_files(&cluster, |name| !name.ends_with(".meta"));
        (files.len() == 3 && files.iter().all(whole)).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn f_1_a_datanode_that_dies_in_mid_read_is_left_for_another() {
    let cluster = Cluster::start();
    cluster.run_with_input(&["put", "-", "/f"], &content().bytes()).ok();
    let client = client(&cluster, LocalReads::Auto);
    let mut reader = client.open("/f").await.expect("open");
    let mut data = reader.next().await.expect("read").expect("bytes").to_vec();
    let first = &reader.blocks()[0].locations[0].node;
    let name = &cluster.ready().roles.iter().find(|role| role.id == *first).expect("the first node").name;
    cluster.kill(name);
    while let Some(bytes) = reader.next().await.expect("read") {
        data.extend_from_slice(&bytes);
    }
    assert!(data == content().bytes());
    // The socket that the dead one left behind is in nobody's way.
    assert!(read_all(&client, "/f").await == content().bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_is_called_back_from_its_readers() {
    let options = Options { datanodes: 1, ..Options::default() }
        .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms")
        .env("BLOCKYARD_NAMENODE__SETTLE", "500ms")
        .env("BLOCKYARD_NAMENODE__DELETE_DELAY", "0s");
    let cluster = Cluster::with(options);
    cluster.run_with_input(&["put", "-", "/f"], &content().bytes()).ok();
    let client = client(&cluster, LocalReads::Auto);
    let reader = client.open("/f").await.expect("open");
    reader.read_at(0, 100).await.expect("read");
    assert_eq!(figure(&cluster, "blockyard_datanode_loans"), 1);
    cluster.run(&["rm", "--skip-trash", "/f"]).ok();
    wait::until("the loan to be called back", PATIENCE, || (client.local_figures().revoked == 1).then_some(()));
    assert_eq!(figure(&cluster, "blockyard_datanode_loans"), 0);
    let error = reader.read_at(0, 100).await.expect_err("the file is gone");
    assert_eq!(error.code, client::ErrorCode::NotFound, "{error}");
}

/// Others hold all places: the file is read over the network, and the door is not tried for every read.
#[tokio::test(flavor = "multi_thread")]
async fn r_6_a_full_door_is_left_for_the_network() {
    let options = Options { datanodes: 1, ..Options::default() }.env("BLOCKYARD_DATANODE__MAX_CONNECTIONS", "8");
    let cluster = Cluster::with(options);
    cluster.run_with_input(&["put", "-", "/f"], &content().bytes()).ok();
    let client = client(&cluster, LocalReads::Auto);
    let reader = client.open("/f").await.expect("open");
    let door = PathBuf::from(&reader.blocks()[0].locations[0].local_socket);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(base::net::unix::dial(&door, PATIENCE).await.expect("the door"));
    }
    let places = "blockyard_datanode_local_connections";
    wait::until("a full door", PATIENCE, || (figure(&cluster, places) >= 6).then_some(()));
    for at in [0_u64, 1_000_000, 2_000_000] {
        let bytes = reader.read_at(at, 100_000).await.expect("over the network");
        assert!(bytes[..] == content().bytes()[at as usize..at as usize + 100_000]);
    }
    let figures = client.local_figures();
    assert_eq!((figures.borrowed, figures.refused), (0, 1), "{figures:?}");
    assert!(read_all(&client, "/f").await == content().bytes());
    // Another client, when there are places again.
    drop(held);
    wait::until("places", PATIENCE, || (figure(&cluster, places) == 0).then_some(()));
    let sent_before = sent(&cluster);
    assert!(cluster.run(&["cat", "/f"]).ok().stdout == content().bytes());
    assert_eq!(sent(&cluster), sent_before);
}

/// Processor time of this process so far, in seconds.
fn cpu() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_local_reads_are_fast() {
    if !tests::heavy("local-reads") {
        return;
    }
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    let whole = Content { seed: 5, len_bytes: 1 << 30 };
    cluster.run_with_input(&["put", "-", "/f"], &whole.bytes()).ok();
    let client = client(&cluster, LocalReads::Auto);
    for round in 0..4 {
        let (began, cpu_before) = (std::time::Instant::now(), cpu());
        let mut reader = client.open("/f").await.expect("open");
        let mut got = 0;
        while let Some(bytes) = reader.next().await.expect("read") {
            got += bytes.len() as u64;
        }
        let (seconds, spent) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
        assert_eq!(got, whole.len_bytes);
        println!("read 1 GiB, round {round}: {:.2} GB/s, {spent:.3} CPU s/GiB", got as f64 / 1e9 / seconds);
    }
    const EACH: u64 = 50_000;
    let reader = std::sync::Arc::new(client.open("/f").await.expect("open"));
    for round in 0..4 {
        let (began, cpu_before) = (std::time::Instant::now(), cpu());
        let mut all = base::task::JoinSet::new();
        for task in 0..16_u64 {
            let reader = std::sync::Arc::clone(&reader);
            all.spawn(async move {
                let mut at = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(task + 1);
                for _ in 0..EACH {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let offset = (at >> 11) % ((1 << 30) - 4096);
                    assert_eq!(reader.read_at(offset, 4096).await.expect("read").len(), 4096);
                }
            });
        }
        while let Some(ended) = all.join_next().await {
            ended.expect("a reader");
        }
        let (reads, seconds) = ((16 * EACH) as f64, began.elapsed().as_secs_f64());
        let each = (cpu() - cpu_before) * 1e6 / reads;
        println!("random 4 KiB reads, round {round}: {:.0}/s, {each:.2} µs of CPU each", reads / seconds);
        assert!(reads / seconds > 30_000.0, "slower than the network");
    }
}
