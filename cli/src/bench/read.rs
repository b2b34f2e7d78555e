//! `blockyard bench read`: short pieces of a long file at random, all of it in a row, small files.

use std::sync::Arc;
use std::time::Duration;

use base::clock::Clock;
use clap::{Args, ValueEnum};
use client::{ErrorCode, FsError, FsResult};
use serde_json::{Map, Value, json};

use super::files::{self, Content, Door};
use super::io::{Flow, row};
use super::latencies::Latencies;
use super::limits::{self, Limit, Limits};
use super::mix::mix;
use super::roles::Costs;
use super::series::{Series, short};
use super::stage::{self, Report, Stage, StageOptions};
use super::workers::{self, Shift, Turn};
use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{Failure, parse_size};

/// Length of a random read and of a small file.
const SHORT_BYTES: u64 = 4096;
/// Time before the measured part, in which connections and caches come to rest.
const WARM_UP: Duration = Duration::from_millis(300);
/// Time of the limit of questions and answers, in each round.
const EXCHANGES: Duration = Duration::from_secs(1);
/// Longest time for the files that are read.
const LONGEST: Duration = Duration::from_secs(3600);
/// Bytes of an answer beside the data: a short reply, lengths, a head and the checksums of eight chunks.
const FRAME_BYTES: u64 = 150;

/// Flags of `blockyard bench read`.
#[derive(Debug, Args)]
#[command(
    after_help = "It makes a long file and many small ones first. Everything is then in the page cache of the datanodes: disks are not
measured. Every checksum is verified. The limits beside are a bare sendfile over loopback, and questions with answers of
4 KiB over as many connections.

Without --fs and BLOCKYARD_FS it starts a cluster of its own, one process for each role, in a temporary folder, and
removes it at the end. In a named cluster it works in a directory of its own, /bench-…, and deletes that.

Examples:
  blockyard bench read                             all three, 16 reads at a time
  blockyard bench read --op random --seconds 10
  blockyard bench read --op small,sequential --rounds 1 --json"
)]
pub(crate) struct ReadOptions {
    /// What is read
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Op::Random, Op::Sequential, Op::Small])]
    op: Vec<Op>,
    /// Reads under way at a time; `sequential` is one
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1000))]
    in_flight: u64,
    /// How long each of them, in each round
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Length of the long file
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    bytes: u64,
    /// Number of small files
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    files: u64,
    /// By which way it is read
    #[arg(long, value_enum, default_value_t = Door::Tcp)]
    door: Door,
    #[command(flatten)]
    stage: StageOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Op {
    /// 4 KiB at a random place of the long file, which stays open
    Random,
    /// The long file from begin to end, again and again
    Sequential,
    /// A whole file of 4 KiB: open and read
    Small,
}

/// Short reads.
#[derive(Default)]
struct Short {
    per_s: Series,
    times: Latencies,
    cpu_us: Costs,
}

impl Short {
    fn json(&self, of_limit: f64) -> Value {
        let mut json = self.times.json();
        json["per_s"] = self.per_s.json();
        json["cpu_us_each"] = self.cpu_us.json();
        json["of_exchange_limit"] = short(of_limit).into();
        json
    }
    fn row(&self, what: &str) -> String {
        let [p50, p99] = [0.5, 0.99].map(|share| self.times.quantile_us(share));
        let cost = format!("{} µs  {}", self.cpu_us.all().text(), self.cpu_us.text());
        row(&[
            what.to_owned(),
            format!("{} /s", self.per_s.text()),
            format!("{cost}  p50 {p50:.0} µs, p99 {p99:.0} µs"),
        ])
    }
}

struct Found {
    random: Short,
    sequential: Flow,
    small: Short,
    limits: Limits,
    exchanges: Series,
    exchange_us: Series,
}

/// Measures and prints.
pub(super) fn run(options: &ReadOptions, global: &Global) -> Status {
    stage::run(&options.stage, global, async |stage: &Stage| measure(options, stage).await)
}

async fn measure(options: &ReadOptions, stage: &Stage) -> Result<Report, Failure> {
    if options.bytes < SHORT_BYTES {
        return Err(Failure::usage("the long file is shorter than one read", "--bytes 4K, or more"));
    }
    stage.need_room(options.bytes).await?;
    let long = stage.path("long");
    files::write(&stage.client, &long, &Content::new(options.bytes), stage.replication).await?;
    if options.op.contains(&Op::Small) {
        make_small(options, stage).await?;
    }
    let mut found = Found {
        random: Short::default(),
        sequential: Flow::default(),
        small: Short::default(),
        limits: Limits::new(&[Limit::CacheRead, Limit::TcpSendfile]),
        exchanges: Series::default(),
        exchange_us: Series::default(),
    };
    for round in 0..stage.rounds {
        for op in &options.op {
            match op {
                Op::Random => random(options, stage, &long, round, &mut found.random).await?,
                Op::Sequential => sequential(options, stage, &long, &mut found.sequential).await?,
                Op::Small => small(options, stage, round, &mut found.small).await?,
            }
        }
        found.limits.round(&stage.home, options.bytes).await?;
        let answer = usize::try_from(SHORT_BYTES + FRAME_BYTES).unwrap_or(usize::MAX);
        let work = limits::exchange(options.in_flight, answer, EXCHANGES).await?;
        found.exchanges.add(work.count as f64 / work.took.as_secs_f64());
        found.exchange_us.add(work.cpu.as_secs_f64() * 1e6 / work.count.max(1) as f64);
    }
    Ok(report(options, stage, &found))
}

async fn make_small(options: &ReadOptions, stage: &Stage) -> FsResult<()> {
    let shift = Shift { in_flight: options.in_flight, warm_up: Duration::ZERO, during: LONGEST, limit: options.files };
    let (client, dir, copies) = (stage.client.clone(), stage.dir.clone(), stage.replication);
    let content = Content::new(SHORT_BYTES);
    let made = workers::run(&stage.clock, shift, move |turn| {
        let (client, path, content) = (client.clone(), small_path(&dir, turn.number), content.clone());
        async move { files::write(&client, &path, &content, copies).await }
    });
    made.await.map(drop)
}

fn small_path(dir: &str, number: u64) -> String {
    format!("{dir}/small-{number}")
}

/// A read of whole `SHORT_BYTES`, or an error.
fn whole(len: u64) -> FsResult<()> {
    match len {
        SHORT_BYTES => Ok(()),
        other => Err(FsError::new(ErrorCode::Internal, format!("{other} bytes came back, not {SHORT_BYTES}"))),
    }
}

impl Short {
    /// Keeps reads under way for a while, after a moment in which connections are made.
    async fn measure<F>(
        &mut self,
        options: &ReadOptions,
        stage: &Stage,
        work: impl Fn(Turn) -> F + Clone + Send + 'static,
    ) -> Result<(), Failure>
    where
        F: Future<Output = FsResult<()>> + Send + 'static,
    {
        let shift = |during| Shift { in_flight: options.in_flight, warm_up: Duration::ZERO, during, limit: u64::MAX };
        workers::run(&stage.clock, shift(WARM_UP), work.clone()).await?;
        let during = Duration::from_secs(options.seconds);
        let reading = async { Ok(workers::run(&stage.clock, shift(during), work).await?) };
        let (measured, _, spent) = stage.metered(reading).await?;
        self.per_s.add(measured.per_second());
        self.cpu_us.add_cpu(&spent, 1e6, measured.times.count() as f64);
        self.times.merge(&measured.times);
        Ok(())
    }
}

/// Reads at random places of one open file.
async fn random(
    options: &ReadOptions,
    stage: &Stage,
    path: &str,
    round: u32,
    found: &mut Short,
) -> Result<(), Failure> {
    let reader = Arc::new(options.door.open(&stage.client, path).await?);
    let places = options.bytes / SHORT_BYTES;
    let work = move |turn: Turn| {
        let reader = Arc::clone(&reader);
        let at = mix(turn.number ^ (u64::from(round) << 40)) % places * SHORT_BYTES;
        async move { whole(reader.read_at(at, SHORT_BYTES as usize).await?.len() as u64) }
    };
    found.measure(options, stage, work).await
}

/// Reads whole small files.
async fn small(options: &ReadOptions, stage: &Stage, round: u32, found: &mut Short) -> Result<(), Failure> {
    let (client, dir, door, files) = (stage.client.clone(), stage.dir.clone(), options.door, options.files);
    let work = move |turn: Turn| {
        let path = small_path(&dir, mix(turn.number ^ (u64::from(round) << 40)) % files);
        let client = client.clone();
        async move { whole(files::read(&client, door, &path).await?) }
    };
    found.measure(options, stage, work).await
}

/// Reads the long file from begin to end until time is up.
async fn sequential(options: &ReadOptions, stage: &Stage, path: &str, found: &mut Flow) -> Result<(), Failure> {
    let during = Duration::from_secs(options.seconds);
    let reading = async {
        let (begun, mut bytes) = (stage.clock.now(), 0);
        while stage.clock.now().since(begun) < during {
            bytes += files::read(&stage.client, options.door, path).await?;
        }
        Ok(bytes)
    };
    let (bytes, took, spent) = stage.metered(reading).await?;
    found.add(bytes, took, &spent);
    Ok(())
}

fn report(options: &ReadOptions, stage: &Stage, found: &Found) -> Report {
    let exchange = found.exchanges.median().max(1e-9);
    let of_exchange = |short: &Short| short.per_s.median() / exchange;
    let sendfile = found.limits.of(Limit::TcpSendfile).map_or(0.0, |moved| moved.mb_per_s.median());
    let of_sendfile = found.sequential.mb_per_s.median() / sendfile.max(1e-9);
    let mut lines = vec![
        format!(
            "{} at a time over {}, {} s, {} round(s): median (least-greatest)",
            options.in_flight,
            options.door.name(),
            options.seconds,
            stage.rounds
        ),
        row(&["", "speed", "CPU"].map(str::to_owned)),
    ];
    let mut json = Map::new();
    for op in &options.op {
        let (key, line, value) = match op {
            Op::Random => {
                ("random", found.random.row("4 KiB at random"), found.random.json(of_exchange(&found.random)))
            }
            Op::Small => ("small", found.small.row("files of 4 KiB"), found.small.json(of_exchange(&found.small))),
            Op::Sequential => {
                let mut value = found.sequential.json();
                value["of_sendfile_limit"] = short(of_sendfile).into();
                ("sequential", found.sequential.row("in a row, MB/s, CPU s/GiB"), value)
            }
        };
        lines.push(line);
        json.insert(key.to_owned(), value);
    }
    lines.extend(found.limits.rows().map(|one| row(&one)));
    let exchanges = [
        "limit: questions, answers of 4 KiB".to_owned(),
        format!("{} /s", found.exchanges.text()),
        format!("{} µs", found.exchange_us.text()),
    ];
    lines.push(row(&exchanges));
    let mut limits = found.limits.json();
    limits["exchange"] = json!({ "per_s": found.exchanges.json(), "cpu_us_each": found.exchange_us.json() });
    json.extend([
        ("bench".to_owned(), json!("read")),
        ("bytes".to_owned(), json!(options.bytes)),
        ("files".to_owned(), json!(options.files)),
        ("in_flight".to_owned(), json!(options.in_flight)),
        ("seconds".to_owned(), json!(options.seconds)),
        ("door".to_owned(), json!(options.door.name())),
        ("limits".to_owned(), limits),
    ]);
    Report { text: lines.join("\n"), json: Value::Object(json) }
}
