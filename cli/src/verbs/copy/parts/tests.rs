//! Copies in parts against a real cluster.

use base::local::LocalWriter;
use clap::Parser;
use client::{Client, Quota};
use minicluster::MiniCluster;

use super::*;
use crate::args::{Cli, Command};
use crate::verbs::context::Context;
use crate::verbs::output::Output;
use crate::verbs::transfer::{FlowOptions, Manner, Transfer};

/// Blocks in these tests: two of them are a part.
const BLOCK: u64 = 64 << 10;
const LONG_BYTES: usize = 9 * BLOCK as usize + 100;
/// Parts of [`LONG_BYTES`] with four jobs: 3, 3, 3 and 1 blocks.
const PARTS: u64 = 4;

/// Flags of a transfer by themselves.
#[derive(Debug, Parser)]
struct Flow {
    #[command(flatten)]
    flow: FlowOptions,
}

/// A cluster, and a local file.
struct Place {
    cluster: MiniCluster,
    client: Client,
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Place {
    async fn new() -> Self {
        let cluster = MiniCluster::builder().datanodes(1).block_size_bytes(BLOCK).start().await.unwrap();
        let (client, folder) = (cluster.client().unwrap(), tempfile::tempdir().unwrap());
        let bytes: Vec<u8> = (0..LONG_BYTES).map(|i| (i * 31 + i / 253 + i / 65_536) as u8).collect();
        let place = Self { cluster, client, folder, bytes };
        place.write_local(&place.bytes);
        place
    }

    fn local(&self) -> String {
        self.folder.path().join("long").display().to_string()
    }

    fn write_local(&self, bytes: &[u8]) {
        let path = self.folder.path().join("long");
        let mut writer = LocalWriter::create(&path, 0o644).unwrap();
        writer.write(bytes).unwrap();
        writer.finish(&path, true).unwrap();
    }

    fn context(&self, words: &[&str]) -> (Command, Context) {
        let uri = self.cluster.uri();
        let all = ["blockyard", "--fs", &uri, "--user", "root"].into_iter().chain(words.iter().copied());
        let cli = Cli::try_parse_from(all).unwrap();
        let context = Context::new(&cli.global, Output::new(true, false), 0o022).unwrap();
        (cli.command, context)
    }

    /// Runs a verb; how many inodes it made, and how many of its items failed.
    async fn run(&self, words: &[&str]) -> (u64, u64) {
        let (command, context) = self.context(words);
        let Command::Files(verb) = command else { panic!("{words:?}") };
        let before = self.mark().await;
        let ended = crate::verbs::dispatch(&verb, &context).await;
        context.client.settle(std::time::Duration::from_secs(60)).await;
        assert!(ended.is_ok(), "{words:?}: {}", ended.unwrap_err().text());
        (self.mark().await - before - 1, context.output.failed())
    }

    /// Inodes are numbered in the order in which they are made.
    async fn mark(&self) -> u64 {
        let made = self.client.mkdir("/mark", 0o755, false).await.unwrap().inode;
        self.client.delete("/mark", false).await.unwrap();
        made
    }

    async fn read(&self, path: &str) -> Vec<u8> {
        let reader = self.client.open(path).await.unwrap();
        reader.read_at(0, reader.len_bytes() as usize).await.unwrap().to_vec()
    }

    /// Names in a directory, but for those that every new cluster has.
    async fn names(&self, directory: &str) -> Vec<String> {
        let entries = self.client.list(directory).unwrap().collect().await.unwrap();
        entries.into_iter().map(|entry| entry.path).filter(|name| name != "tmp" && name != "user").collect()
    }

    fn shared(&self, verify: bool) -> Arc<Shared> {
        let (_, context) = self.context(&["put", "x", "/x"]);
        let flow = Flow::parse_from(["put", "-j", "4"]).flow;
        Transfer::with("put", &flow, Manner { verify, ..Manner::default() }, &context).shared()
    }

    async fn end(self) {
        self.cluster.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_is_put_and_copied_in_parts_and_a_short_one_is_not() {
    let place = Place::new().await;
    let long = place.local();
    let put = place.run(&["put", "-j", "4", "--verify", "--preserve", &long, "/a"]).await;
    assert_eq!(put, (PARTS, 0));
    assert!(place.read("/a").await == place.bytes);
    assert_eq!(place.client.open("/a").await.unwrap().blocks().len(), 10);
    let found = base::local::info(long.as_ref()).unwrap().unwrap();
    let status = place.client.stat("/a").await.unwrap();
    assert_eq!((status.mode & 0o7777, status.mtime_ns), (found.mode, found.times.mtime_ns));
    assert_eq!(place.run(&["put", "-j", "4", "--resume", &long, "/a"]).await, (0, 0), "it is there");

    assert_eq!(place.run(&["cp", "-j", "4", "--verify", "--preserve", "/a", "/b"]).await, (PARTS, 0));
    assert!(place.read("/b").await == place.bytes);
    assert_eq!(place.client.stat("/b").await.unwrap().mtime_ns, status.mtime_ns);

    assert_eq!(place.run(&["put", "-j", "1", &long, "/c"]).await, (1, 0), "one at a time");
    assert_eq!(place.run(&["put", "-j", "4", "--block-size", "1M", &long, "/d"]).await, (1, 0), "one block");
    place.write_local(&place.bytes[..2 * BLOCK as usize]);
    assert_eq!(place.run(&["put", "-j", "4", &long, "/e"]).await, (1, 0), "too short");
    assert_eq!(place.names("/").await, ["a", "b", "c", "d", "e"]);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_the_place_is_refused_before_anything_is_written_or_replaced_as_ever() {
    let place = Place::new().await;
    let long = place.local();
    place.run(&["put", "-j", "4", &long, "/a"]).await;
    assert_eq!(place.run(&["put", "-j", "4", &long, "/a"]).await, (0, 1));
    assert_eq!(place.run(&["put", "-j", "4", "-f", &long, "/a"]).await, (PARTS, 0));
    // Through a link, which stays.
    place.client.symlink("/link", "/a", false).await.unwrap();
    assert_eq!(place.run(&["put", "-j", "4", "-f", &long, "/link"]).await, (1, 0));
    assert_eq!(place.client.stat_link("/link").await.unwrap().symlink_target, "/a");
    assert_eq!(place.names("/").await, ["a", "link"]);
    assert_eq!(place.run(&["put", "-j", "4", &long, "/gone/a"]).await, (0, 1), "no directory");
    assert_eq!(place.run(&["put", "-j", "4", "-p", &long, "/made/a"]).await, (PARTS + 1, 0));
    assert!(place.read("/made/a").await == place.bytes && place.names("/made").await == ["a"]);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_has_room_for_the_file_but_not_for_its_parts_is_no_obstacle() {
    let place = Place::new().await;
    let long = place.local();
    place.client.mkdir("/q", 0o755, false).await.unwrap();
    // The directory itself counts.
    place.client.set_quota("/q", Quota::Limit(2), Quota::Keep).await.unwrap();
    assert_eq!(place.run(&["put", "-j", "4", "--verify", &long, "/q/a"]).await, (PARTS + 1, 0));
    assert!(place.read("/q/a").await == place.bytes);
    // What is replaced makes room for one writer.
    let space = Quota::Limit(LONG_BYTES as u64 + BLOCK);
    place.client.set_quota("/q", Quota::Clear, space).await.unwrap();
    assert_eq!(place.run(&["put", "-j", "4", "-f", &long, "/q/a"]).await.1, 0);
    assert_eq!(place.run(&["put", "-j", "4", &long, "/q/b"]).await.1, 1, "there is no room for two");
    assert_eq!(place.names("/q").await, ["a"]);
    place.end().await;
}

/// A source that says what it is told to.
struct Told {
    pieces: Vec<Bytes>,
    failure: Option<Failure>,
}

impl Pieces for Told {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        match self.pieces.pop() {
            Some(piece) => Ok(piece),
            None => self.failure.take().map_or(Ok(Bytes::new()), Err),
        }
    }
}

/// Two blocks, a part each.
fn halves() -> Vec<(Range<u64>, Told)> {
    let block = |range| (range, Told { pieces: vec![Bytes::from(vec![7; BLOCK as usize])], failure: None });
    [0..BLOCK, BLOCK..2 * BLOCK].map(block).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_in_the_middle_leaves_nothing() {
    let place = Place::new().await;
    let shared = place.shared(false);
    let mut sources = halves();
    sources[1].1.failure = Some(Failure::item("/src".as_ref(), "changed while it was read", ""));
    let ended = write(&shared, "/x", CreateOptions::default(), sources).await;
    let Err(failure) = ended else { panic!("it was written") };
    assert!(failure.text().contains("changed while it was read"), "{}", failure.text());
    shared.context.client.settle(std::time::Duration::from_secs(60)).await;
    assert_eq!(place.names("/").await, [""; 0]);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_came_out_short_is_refused_and_leaves_nothing() {
    let place = Place::new().await;
    let shared = place.shared(false);
    let mut sources = halves();
    sources[0].1.pieces = vec![Bytes::from(vec![7; BLOCK as usize - 1])];
    let written = write(&shared, "/x", CreateOptions::default(), sources).await.ok().flatten();
    let Err(failure) = written.unwrap().publish().await else { panic!("it was published") };
    assert!(failure.text().contains("part 1 of 2 has 65535 bytes instead of 65536"), "{}", failure.text());
    shared.context.client.settle(std::time::Duration::from_secs(60)).await;
    assert_eq!(place.names("/").await, [""; 0]);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_what_was_read_is_told() {
    let place = Place::new().await;
    let shared = place.shared(true);
    let written = write(&shared, "/x", CreateOptions::default(), halves()).await.ok().flatten();
    let mut written = written.unwrap();
    written.parts[1].content = Some(Hasher::default().content());
    let Err(failure) = written.publish().await else { panic!("it is the same") };
    assert!(failure.text().contains("the copy is not what was read"), "{}", failure.text());
    place.end().await;
}
