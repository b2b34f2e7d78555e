//! What the machine can do, measured in the same run: no figure beside it can be better than these allow.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::clock::{Clock, SystemClock};
use base::probe::{self, StreamSource, Work};
use base::process::process_cpu;
use base::random::OsRandom;
use serde_json::{Value, json};

use super::series::Series;
use crate::verbs::Failure;

/// Bytes that a limit moves at most.
const MOST_BYTES: u64 = 512 << 20;
/// Longest memory copy.
const COPY_BYTES: u64 = 256 << 20;
/// Bytes of a question to a datanode: what a read request is long.
const QUESTION_BYTES: usize = 256;

/// A way to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    MemoryCopy,
    CacheWrite,
    DurableWrite,
    CacheRead,
    TcpMemory,
    TcpSendfile,
}

impl Limit {
    /// Its name in JSON.
    const fn key(self) -> &'static str {
        match self {
            Self::MemoryCopy => "memory_copy",
            Self::CacheWrite => "page_cache_write",
            Self::DurableWrite => "durable_write",
            Self::CacheRead => "page_cache_read",
            Self::TcpMemory => "loopback_tcp",
            Self::TcpSendfile => "loopback_tcp_sendfile",
        }
    }
    const fn text(self) -> &'static str {
        match self {
            Self::MemoryCopy => "memory copy",
            Self::CacheWrite => "one new file into the page cache",
            Self::DurableWrite => "one new file, synced",
            Self::CacheRead => "page cache read",
            Self::TcpMemory => "loopback TCP, from memory",
            Self::TcpSendfile => "loopback TCP, sendfile",
        }
    }
    fn measure(self, dir: &Path, bytes: u64, clock: &dyn Clock) -> std::io::Result<Work> {
        let bytes = bytes.min(MOST_BYTES);
        match self {
            Self::MemoryCopy => Ok(memory_copy(bytes.min(COPY_BYTES), clock)),
            Self::CacheWrite => probe::write_file(dir, bytes, false, clock, &OsRandom),
            Self::DurableWrite => probe::write_file(dir, bytes, true, clock, &OsRandom),
            Self::CacheRead => probe::read_cached(dir, bytes, clock, &OsRandom),
            Self::TcpMemory => probe::stream(StreamSource::Memory, bytes, clock, &OsRandom),
            Self::TcpSendfile => probe::stream(StreamSource::File(dir), bytes, clock, &OsRandom),
        }
    }
}

/// Copies memory once, from and to where every page is there already.
pub(super) fn memory_copy(len_bytes: u64, clock: &dyn Clock) -> Work {
    let len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
    let from = vec![1_u8; len];
    let mut to = vec![2_u8; len];
    let (begun, cpu) = (clock.now(), process_cpu());
    to.copy_from_slice(&from);
    std::hint::black_box(&to);
    Work { count: len_bytes, took: clock.now().since(begun), cpu: process_cpu().saturating_sub(cpu) }
}

/// Limits of a run, round by round.
#[derive(Debug)]
pub(super) struct Limits {
    rows: Vec<(Limit, Moved)>,
}

/// Bytes moved: how fast, and what the processors did for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved {
    pub(super) mb_per_s: Series,
    pub(super) cpu_s_per_gib: Series,
}

impl Moved {
    fn add(&mut self, work: &Work) {
        self.mb_per_s.add(work.count as f64 / 1e6 / work.took.as_secs_f64().max(1e-9));
        self.cpu_s_per_gib.add(work.cpu.as_secs_f64() / gib(work.count));
    }
}

/// Bytes in GiB.
pub(super) fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 30) as f64
}

impl Limits {
    pub(super) fn new(limits: &[Limit]) -> Self {
        Self { rows: limits.iter().map(|limit| (*limit, Moved::default())).collect() }
    }
    /// Measures each once more, with about as many bytes as the benchmark moves.
    pub(super) async fn round(&mut self, dir: &Path, bytes: u64) -> Result<(), Failure> {
        for (limit, moved) in &mut self.rows {
            let (limit, dir) = (*limit, dir.to_owned());
            let failed = |error: std::io::Error| Failure::local("measure the limits", &dir, &error);
            let folder = dir.clone();
            let work = base::task::blocking(move || limit.measure(&folder, bytes, &SystemClock::new())).await;
            moved.add(&work.map_err(failed)?.map_err(failed)?);
        }
        Ok(())
    }
    pub(super) fn of(&self, wanted: Limit) -> Option<&Moved> {
        self.rows.iter().find(|(limit, _)| *limit == wanted).map(|(_, moved)| moved)
    }
    pub(super) fn json(&self) -> Value {
        let row = |(limit, moved): &(Limit, Moved)| {
            let row = json!({ "mb_per_s": moved.mb_per_s.json(), "cpu_s_per_gib": moved.cpu_s_per_gib.json() });
            (limit.key().to_owned(), row)
        };
        Value::Object(self.rows.iter().map(row).collect())
    }
    /// Rows of a table: what, MB/s, CPU s/GiB.
    pub(super) fn rows(&self) -> impl Iterator<Item = [String; 3]> {
        self.rows.iter().map(|(limit, moved)| {
            [format!("limit: {}", limit.text()), moved.mb_per_s.text(), moved.cpu_s_per_gib.text()]
        })
    }
}

/// Questions with answers of `answer_bytes` over loopback, so many at a time: each over a connection of its own.
pub(super) async fn exchange(in_flight: u64, answer_bytes: usize, during: Duration) -> Result<Work, Failure> {
    let failed = |error: std::io::Error| Failure::local("measure sockets", "", &error);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let work = base::task::blocking(move || probe::exchange(in_flight, (QUESTION_BYTES, answer_bytes), during, &clock));
    work.await.map_err(failed)?.map_err(failed)
}

/// The bare loop of a durable small file: the time of each round.
pub(super) async fn small_files(
    dir: &Path,
    (copies, len_bytes): (u32, usize),
    during: Duration,
) -> Result<Vec<Duration>, Failure> {
    let failed = |error: std::io::Error| Failure::local("measure small files", dir, &error);
    let folder = dir.to_owned();
    let work = base::task::blocking(move || {
        probe::small_files(&folder, (copies, len_bytes), during, &SystemClock::new(), &OsRandom)
    });
    work.await.map_err(failed)?.map_err(failed)
}
