//! `blockyard bench read`: short pieces of a long file at random, all of it in a row, small files.

use std::sync::Arc;
use std::time::Duration;

use base::clock::Clock;
use clap::{Args, ValueEnum};
use client::{ErrorCode, FsError, FsResult};
use serde_json::{Map, Value, json};

use super::door::{Door, DoorOptions, Proof};
use super::files::{self, Content};
use super::io::{Flow, limit_of, part_of, row};
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
  blockyard bench read                             all three by both ways, 16 reads at a time
  blockyard bench read --door tcp                  as a reader on another machine
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
    #[command(flatten)]
    doors: DoorOptions,
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
    /// Calls that move data, of each read.
    calls: Costs,
}

impl Short {
    /// Questions over a socket are no limit of reads without one.
    fn json(&self, door: Door, exchanges_per_s: f64) -> Value {
        let mut json = self.times.json();
        json["per_s"] = self.per_s.json();
        json["cpu_us_each"] = self.cpu_us.json();
        json["calls_each"] = self.calls.json();
        if door == Door::Tcp {
            json["of_exchange_limit"] = short(self.per_s.median() / exchanges_per_s.max(1e-9)).into();
        }
        json
    }
    fn row(&self, what: &str) -> String {
        let [p50, p99] = [0.5, 0.99].map(|share| self.times.quantile_us(share));
        let calls = self.calls.all().median();
        let cost = format!("{} µs  {}  {calls:.1} calls", self.cpu_us.all().text(), self.cpu_us.text());
        row(&[
            what.to_owned(),
            format!("{} /s", self.per_s.text()),
            format!("{cost}  p50 {p50:.0} µs, p99 {p99:.0} µs"),
        ])
    }
}

/// Reads by one way.
struct Reads {
    door: Door,
    random: Short,
    sequential: Flow,
    small: Short,
}

impl Reads {
    fn new(door: Door) -> Self {
        Self { door, random: Short::default(), sequential: Flow::default(), small: Short::default() }
    }
}

struct Found {
    reads: Vec<Reads>,
    note: Option<&'static str>,
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
    let doors = options.doors.choose(stage, &long).await?;
    let mut found = Found {
        note: doors.note(),
        reads: doors.doors.into_iter().map(Reads::new).collect(),
        limits: Limits::new(&[Limit::CacheRead, Limit::TcpSendfile]),
        exchanges: Series::default(),
        exchange_us: Series::default(),
    };
    for round in 0..stage.rounds {
        for op in &options.op {
            for reads in &mut found.reads {
                let door = reads.door;
                match op {
                    Op::Random => random(options, stage, (&long, round, door), &mut reads.random).await?,
                    Op::Sequential => sequential(options, stage, (&long, door), &mut reads.sequential).await?,
                    Op::Small => small(options, stage, (round, door), &mut reads.small).await?,
                }
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
        (stage, door): (&Stage, Door),
        work: impl Fn(Turn) -> F + Clone + Send + 'static,
    ) -> Result<(), Failure>
    where
        F: Future<Output = FsResult<()>> + Send + 'static,
    {
        let shift = |during| Shift { in_flight: options.in_flight, warm_up: Duration::ZERO, during, limit: u64::MAX };
        workers::run(&stage.clock, shift(WARM_UP), work.clone()).await?;
        let during = Duration::from_secs(options.seconds);
        let proof = Proof::begin(stage, door);
        let reading = async { Ok(workers::run(&stage.clock, shift(during), work).await?) };
        let (measured, _, spent) = stage.metered(reading).await?;
        proof.check(stage, measured.times.count() * SHORT_BYTES)?;
        self.per_s.add(measured.per_second());
        self.cpu_us.add_cpu(&spent, 1e6, measured.times.count() as f64);
        self.calls.add_calls(&spent, measured.times.count() as f64);
        self.times.merge(&measured.times);
        Ok(())
    }
}

/// Reads at random places of one open file.
async fn random(
    options: &ReadOptions,
    stage: &Stage,
    (path, round, door): (&str, u32, Door),
    found: &mut Short,
) -> Result<(), Failure> {
    let reader = Arc::new(stage.reads_by(door).open(path).await?);
    let places = options.bytes / SHORT_BYTES;
    let work = move |turn: Turn| {
        let reader = Arc::clone(&reader);
        let at = mix(turn.number ^ (u64::from(round) << 40)) % places * SHORT_BYTES;
        async move { whole(reader.read_at(at, SHORT_BYTES as usize).await?.len() as u64) }
    };
    found.measure(options, (stage, door), work).await
}

/// Reads whole small files.
async fn small(
    options: &ReadOptions,
    stage: &Stage,
    (round, door): (u32, Door),
    found: &mut Short,
) -> Result<(), Failure> {
    let (client, dir, files) = (stage.reads_by(door).clone(), stage.dir.clone(), options.files);
    let work = move |turn: Turn| {
        let path = small_path(&dir, mix(turn.number ^ (u64::from(round) << 40)) % files);
        let client = client.clone();
        async move { whole(files::read(&client, &path).await?) }
    };
    found.measure(options, (stage, door), work).await
}

/// Reads the long file from begin to end until time is up.
async fn sequential(
    options: &ReadOptions,
    stage: &Stage,
    (path, door): (&str, Door),
    found: &mut Flow,
) -> Result<(), Failure> {
    let during = Duration::from_secs(options.seconds);
    let proof = Proof::begin(stage, door);
    let reading = async {
        let (begun, mut bytes) = (stage.clock.now(), 0);
        while stage.clock.now().since(begun) < during {
            bytes += files::read(stage.reads_by(door), path).await?;
        }
        Ok(bytes)
    };
    let (bytes, took, spent) = stage.metered(reading).await?;
    proof.check(stage, bytes)?;
    found.add(bytes, took, &spent);
    Ok(())
}

/// The rows of one kind of read, by each way: lines of the table, and figures by the name of the way.
fn rows_of(op: Op, found: &Found) -> (&'static str, Vec<String>, Map<String, Value>) {
    let exchanges_per_s = found.exchanges.median();
    let key = match op {
        Op::Random => "random",
        Op::Sequential => "sequential",
        Op::Small => "small",
    };
    let (mut lines, mut values) = (Vec::new(), Map::new());
    for reads in &found.reads {
        let (door, name) = (reads.door, reads.door.name());
        let (line, value) = match op {
            Op::Random => {
                (reads.random.row(&format!("4 KiB at random, {name}")), reads.random.json(door, exchanges_per_s))
            }
            Op::Small => (reads.small.row(&format!("files of 4 KiB, {name}")), reads.small.json(door, exchanges_per_s)),
            Op::Sequential => {
                let (limit, of_limit, _) = limit_of(door);
                let mut value = reads.sequential.json();
                value[of_limit] = short(part_of(&reads.sequential, &found.limits, limit)).into();
                (reads.sequential.row(&format!("in a row, {name}, MB/s, CPU s/GiB")), value)
            }
        };
        lines.push(line);
        values.insert(name.to_owned(), value);
    }
    (key, lines, values)
}

fn report(options: &ReadOptions, stage: &Stage, found: &Found) -> Report {
    let mut lines = vec![
        format!(
            "{} at a time, {} s, {} round(s): median (least-greatest)",
            options.in_flight, options.seconds, stage.rounds
        ),
        row(&["", "speed", "CPU"].map(str::to_owned)),
    ];
    let mut json = Map::new();
    for op in &options.op {
        let (key, rows, values) = rows_of(*op, found);
        lines.extend(rows);
        json.insert(key.to_owned(), Value::Object(values));
    }
    lines.extend(found.limits.rows().map(|one| row(&one)));
    let exchanges = [
        "limit: questions, answers of 4 KiB".to_owned(),
        format!("{} /s", found.exchanges.text()),
        format!("{} µs", found.exchange_us.text()),
    ];
    lines.push(row(&exchanges));
    lines.extend(found.note.map(str::to_owned));
    let mut limits = found.limits.json();
    limits["exchange"] = json!({ "per_s": found.exchanges.json(), "cpu_us_each": found.exchange_us.json() });
    json.extend([
        ("bench".to_owned(), json!("read")),
        ("bytes".to_owned(), json!(options.bytes)),
        ("files".to_owned(), json!(options.files)),
        ("in_flight".to_owned(), json!(options.in_flight)),
        ("seconds".to_owned(), json!(options.seconds)),
        ("limits".to_owned(), limits),
    ]);
    Report { text: lines.join("\n"), json: Value::Object(json) }
}
