//! Allocations of one packet, written and read, of client and datanode together, against `tests/budgets.toml`. A binary of
//! its own: it counts with the allocator.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads its budget from a file; a failed expectation is a failed test"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use client::{Client, CreateOptions, LocalReads};
use minicluster::MiniCluster;

const PACKET: usize = 256 << 10;
/// Packets of the short file and of the long one: what a file costs in any case is in both.
const SHORT: usize = 32;
const LONG: usize = 288;

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the allocator's contract, and so does this call.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

async fn write(client: &Client, path: &str, packets: usize) -> u64 {
    let data = bytes::Bytes::from(vec![7; PACKET]);
    let before = COUNT.load(Ordering::Relaxed);
    let mut writer = client.create(path, CreateOptions::default()).await.unwrap();
    for _ in 0..packets {
        writer.write(data.clone()).await.unwrap();
    }
    writer.close().await.unwrap();
    COUNT.load(Ordering::Relaxed) - before
}

async fn read(client: &Client, path: &str, packets: usize) -> u64 {
    let before = COUNT.load(Ordering::Relaxed);
    let mut reader = client.open(path).await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = reader.next().await.unwrap() {
        bytes += piece.len();
    }
    assert_eq!(bytes, packets * PACKET);
    COUNT.load(Ordering::Relaxed) - before
}

/// Holds what one packet costs against its line. Heartbeats of the servers fall into one of the two runs, and a socket gives
/// a packet in one piece or in two: so the line is the most that may be.
fn check(line: &str, short: u64, long: u64) {
    let each = long.saturating_sub(short) as f64 / (LONG - SHORT) as f64;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/budgets.toml");
    let budgets: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let budget = budgets["allocations"][line].as_integer().unwrap() as f64;
    println!("budget: {line} allocates {each:.2} times (at most: {budget})");
    assert!(each <= budget, "{line}: {each:.2} allocations, the line says {budget}");
    assert!(each >= budget * 0.5, "{line}: {each:.2} allocations are far below {budget}: lower the line");
}

#[tokio::test]
async fn a_packet_allocates_as_often_as_it_may() {
    let cluster = MiniCluster::start(1).await.unwrap();
    let client =
        |local_reads| Client::builder().connect(cluster.uri()).user("root").local_reads(local_reads).build().unwrap();
    let (tcp, local) = (client(LocalReads::Off), client(LocalReads::Auto));
    // Everything is there once: connections, threads, tables. A node that was just registered may not know its key yet.
    let warm = async |round: u32| {
        let mut writer = tcp.create(&format!("/warm-{round}"), CreateOptions::default()).await.ok()?;
        writer.write(bytes::Bytes::from(vec![7; PACKET])).await.ok()?;
        writer.close().await.ok()
    };
    let mut round = 0;
    while warm(round).await.is_none() {
        round += 1;
        assert!(round < 1000, "no file can be written");
    }
    write(&tcp, "/warm", 2).await;
    for client in [&tcp, &local] {
        read(client, "/warm", 2).await;
    }
    check("packet_written", write(&tcp, "/short", SHORT).await, write(&tcp, "/long", LONG).await);
    check("packet_read_tcp", read(&tcp, "/short", SHORT).await, read(&tcp, "/long", LONG).await);
    check("packet_read_local", read(&local, "/short", SHORT).await, read(&local, "/long", LONG).await);
    cluster.shutdown().await.unwrap();
}
