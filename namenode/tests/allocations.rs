//! Allocations of one status, against `tests/budgets.toml`. A binary of its own: it counts with the allocator.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test reads its budget from a file; a failed expectation is a failed test"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use namenode::namespace::Namespace;
use proto::ids::{LogIndex, Term};
use proto::log::command::Op;
use proto::log::{CallerRecord, Command, Entry, Format, Mkdir, Settings};
use proto::path::FsPath;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
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

#[test]
fn a_status_allocates_as_often_as_it_may() {
    let settings = Settings {
        superuser_group: "supergroup".into(),
        default_replication: 3,
        default_block_size_bytes: 1 << 20,
        max_replication: 512,
        min_block_size_bytes: 512,
        max_block_size_bytes: 1 << 40,
        max_blocks_per_file: 100,
        max_directory_entries: 1000,
        ..Settings::default()
    };
    let format =
        Format { cluster: "CID-1".into(), pool: "BP-1".into(), superuser: "op".into(), settings: Some(settings) };
    let mkdir = Mkdir { path: "/a/b/c".into(), mode: 0o755, parents: true, unmasked_mode: None };
    let operator = CallerRecord { user: "op".into(), groups: vec!["op".into()] };
    let commands = [Op::Format(format), Op::Mkdir(mkdir)].map(|op| Command { op: Some(op), ..Command::default() });
    let entry = Entry { version: 1, callers: vec![operator], commands: commands.to_vec(), ..Entry::default() };
    let mut namespace = Namespace::new();
    for applied in namespace.apply(LogIndex::from_raw(1), Term::from_raw(1), &entry) {
        applied.result.unwrap();
    }

    let caller = CallerRecord { user: "ann".into(), groups: vec!["ann".into(), "staff".into()] };
    let before = COUNT.with(Cell::get);
    for _ in 0..100 {
        let path = FsPath::parse("/a/b/c").unwrap();
        std::hint::black_box(namespace.stat(&caller, &path).unwrap());
    }
    let each = (COUNT.with(Cell::get) - before) / 100;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/budgets.toml");
    let budgets: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let budget = budgets["allocations"]["stat"].as_integer().unwrap();
    println!("budget: stat allocates {each} times (line: {budget})");
    assert_eq!(each, budget as u64, "a status allocates {each} times, the line says {budget}");
}
