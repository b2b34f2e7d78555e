//! `blockyard bench io`: one long file, written with all its copies and read back.

use clap::{Args, ValueEnum};
use client::CreateOptions;
use serde_json::{Map, Value, json};

use super::door::{Door, DoorOptions, Doors, Proof};
use super::files::{self, Content};
use super::limits::{Limit, Limits, gib};
use super::roles::{Costs, Spent};
use super::series::{Series, short};
use super::stage::{self, Report, Stage, StageOptions};
use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{Digest, Failure, parse_size, size};

/// What bounds a write and a read.
const LIMITS: [Limit; 6] =
    [Limit::MemoryCopy, Limit::CacheWrite, Limit::DurableWrite, Limit::CacheRead, Limit::TcpMemory, Limit::TcpSendfile];

/// Flags of `blockyard bench io`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --fs and BLOCKYARD_FS it starts a cluster of its own, one process for each role, in a temporary folder, and
removes it at the end. In a named cluster it works in a directory of its own, /bench-…, and deletes that; replicas of
deleted files stay on the datanodes' disks for as long as their setting trash_keep says.

MB are 10^6 bytes, GiB 2^30. A write ends when the file is closed: durable on all nodes, its name in the namespace.
With --digest both every round writes two files, one with a digest of its blocks and one without.
\"CPU s/GiB\" is the processor time of the client and of all servers for each GiB of the file; the servers tell theirs
on their operations pages. The copies share this machine's disk and processors if the servers do: a file that is synced
at the limit of the disk arrives at the limit divided by the copies.

Examples:
  blockyard bench io                               1 GiB, 3 copies, 5 rounds, in a cluster of its own
  blockyard bench io --bytes 64M --rounds 3        a first impression
  blockyard bench io --fs blockyard://nn:8020 --pages nn:9870 --json"
)]
pub(crate) struct IoOptions {
    /// Length of the file, such as 64M or 1G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    bytes: u64,
    /// What the writer computes beside checksums
    #[arg(long, value_enum, default_value_t = DigestChoice::Sha256)]
    digest: DigestChoice,
    #[command(flatten)]
    doors: DoorOptions,
    #[command(flatten)]
    stage: StageOptions,
}

/// With or without a digest, or one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DigestChoice {
    Sha256,
    None,
    Both,
}

impl DigestChoice {
    const fn all(self) -> &'static [Digest] {
        match self {
            Self::Sha256 => &[Digest::Sha256],
            Self::None => &[Digest::None],
            Self::Both => &[Digest::Sha256, Digest::None],
        }
    }
}

/// Writes in one way, over all rounds.
#[derive(Debug)]
struct Writes {
    digest: Digest,
    flow: Flow,
    syncs: Costs,
}

/// Bytes through the cluster: how fast, at which cost.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) mb_per_s: Series,
    pub(super) cpu: Costs,
    /// Calls that move data, a MiB.
    calls: Costs,
    /// How often a byte passes between a process and the kernel.
    copies: Costs,
}

impl Flow {
    pub(super) fn add(&mut self, bytes: u64, took: std::time::Duration, spent: &Spent) {
        self.mb_per_s.add(bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9));
        self.cpu.add_cpu(spent, 1.0, gib(bytes));
        self.calls.add_calls(spent, bytes as f64 / f64::from(1 << 20));
        self.copies.add_copies(spent, bytes as f64);
    }
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "mb_per_s": self.mb_per_s.json(), "cpu_s_per_gib": self.cpu.json(),
            "calls_per_mib": self.calls.json(), "copies_per_byte": self.copies.json(),
        })
    }
    /// What does not depend on the machine.
    fn counts(&self, what: &str) -> String {
        format!(
            "{what} {:.1} calls a MiB, {:.2} copies of a byte",
            self.calls.all().median(),
            self.copies.all().median()
        )
    }
    pub(super) fn row(&self, what: &str) -> String {
        row(&[what.to_owned(), self.mb_per_s.text(), format!("{}  {}", self.cpu.all().text(), self.cpu.text())])
    }
}

/// A line of the table.
pub(super) fn row([what, speed, cpu]: &[String; 3]) -> String {
    format!("{what:<40} {speed:<24} {cpu}")
}

/// Measures and prints.
pub(super) fn run(options: &IoOptions, global: &Global) -> Status {
    stage::run(&options.stage, global, async |stage: &Stage| measure(options, stage).await)
}

/// What was measured.
#[derive(Debug)]
struct Found {
    writes: Vec<Writes>,
    /// By each way, and what is said of one that was not measured.
    reads: Vec<(Door, Flow)>,
    note: Option<&'static str>,
    limits: Limits,
}

async fn measure(options: &IoOptions, stage: &Stage) -> Result<Report, Failure> {
    if options.bytes == 0 {
        return Err(Failure::usage("an empty file has nothing to measure", "--bytes 64M"));
    }
    stage.need_room(options.bytes).await?;
    let content = Content::new(options.bytes);
    let way = |digest: &Digest| Writes { digest: *digest, flow: Flow::default(), syncs: Costs::default() };
    let (writes, limits) = (options.digest.all().iter().map(way).collect(), Limits::new(&LIMITS));
    let mut found = Found { writes, reads: Vec::new(), note: None, limits };
    for round in 0..stage.rounds {
        let mut path = String::new();
        for (number, way) in found.writes.iter_mut().enumerate() {
            if number > 0 {
                stage.delete(&path).await?;
            }
            path = stage.path(&format!("long-{round}-{}", way.digest.name()));
            write(stage, &path, &content, way).await?;
        }
        if round == 0 {
            let doors: Doors = options.doors.choose(stage, &path).await?;
            found.note = doors.note();
            found.reads = doors.doors.into_iter().map(|door| (door, Flow::default())).collect();
        }
        for (door, flow) in &mut found.reads {
            read(options, stage, &path, *door, flow).await?;
        }
        found.limits.round(&stage.home, options.bytes).await?;
        if round + 1 < stage.rounds {
            stage.delete(&path).await?;
        }
    }
    Ok(report(options, stage, &found))
}

/// Writes the file once in one way.
async fn write(stage: &Stage, path: &str, content: &Content, way: &mut Writes) -> Result<(), Failure> {
    let digest = Some(way.digest.wanted());
    let create = CreateOptions { replication: stage.replication, digest, ..CreateOptions::default() };
    let written = async { Ok(files::write_as(&stage.client, path, content, create).await?) };
    let ((), took, spent) = stage.metered(written).await?;
    way.flow.add(content.len_bytes, took, &spent);
    way.syncs.add_syncs(&spent, 1.0);
    Ok(())
}

/// Reads the file once by one way.
async fn read(options: &IoOptions, stage: &Stage, path: &str, door: Door, flow: &mut Flow) -> Result<(), Failure> {
    let proof = Proof::begin(stage, door);
    let reading = async { Ok(files::read(stage.reads_by(door), path).await?) };
    let (came_bytes, took, spent) = stage.metered(reading).await?;
    if came_bytes != options.bytes {
        return Err(Failure::server(format!("{path}: {} bytes were written, {came_bytes} came back", options.bytes)));
    }
    proof.check(stage, came_bytes)?;
    flow.add(options.bytes, took, &spent);
    Ok(())
}

/// The limit that stands above a read in a row by a way, its name in JSON and for people.
pub(super) const fn limit_of(door: Door) -> (Limit, &'static str, &'static str) {
    match door {
        Door::Tcp => (Limit::TcpSendfile, "of_sendfile_limit", "a bare sendfile"),
        Door::Local => (Limit::CacheRead, "of_page_cache_read_limit", "a bare read"),
    }
}

/// A speed as a part of a limit of the same run.
pub(super) fn part_of(flow: &Flow, limits: &Limits, limit: Limit) -> f64 {
    let limit = limits.of(limit).map_or(0.0, |moved| moved.mb_per_s.median());
    flow.mb_per_s.median() / limit.max(1e-9)
}

fn report(options: &IoOptions, stage: &Stage, found: &Found) -> Report {
    let of_disk = |way: &Writes| part_of(&way.flow, &found.limits, Limit::DurableWrite) * f64::from(stage.replication);
    let shares: Vec<String> = found.writes.iter().map(|way| format!("{:.0} %", of_disk(way) * 100.0)).collect();
    let mut parts = vec![format!("all copies are written at {} of one synced file", shares.join(" and "))];
    let mut counts: Vec<String> = found.writes.iter().map(|way| way.flow.counts("write:")).take(1).collect();
    let mut lines = vec![
        format!(
            "{}, {} copies, {} round(s): median (least-greatest)",
            size(options.bytes),
            stage.replication,
            stage.rounds
        ),
        row(&["", "MB/s", "CPU s/GiB"].map(str::to_owned)),
    ];
    lines.extend(found.writes.iter().map(|way| way.flow.row(&format!("write, durable, digest {}", way.digest.name()))));
    let mut reads = Map::new();
    for (door, flow) in &found.reads {
        let (limit, key, what) = limit_of(*door);
        let part = part_of(flow, &found.limits, limit);
        lines.push(flow.row(&format!("read, {}", door.name())));
        parts.push(format!("read by {} at {:.0} % of {what}", door.name(), part * 100.0));
        counts.push(flow.counts(&format!("read, {}:", door.name())));
        let mut value = flow.json();
        value[key] = short(part).into();
        reads.insert(door.name().to_owned(), value);
    }
    lines.extend(found.limits.rows().map(|one| row(&one)));
    lines.push(parts.join(", "));
    lines.extend(found.writes.iter().map(|way| {
        let which = if found.writes.len() > 1 { format!(", digest {}", way.digest.name()) } else { String::new() };
        format!("syncs a file{which}: {}  {}", way.syncs.all().text(), way.syncs.text())
    }));
    lines.push(counts.join("; "));
    lines.extend(found.note.map(str::to_owned));
    let written: Vec<Value> = found
        .writes
        .iter()
        .map(|way| {
            let mut written = way.flow.json();
            written["digest"] = way.digest.name().into();
            written["syncs_per_file"] = way.syncs.json();
            written["of_durable_write_limit"] = short(of_disk(way)).into();
            written
        })
        .collect();
    let json = json!({
        "bench": "io", "bytes": options.bytes, "write": written.first(), "writes": written, "read": reads,
        "limits": found.limits.json(),
    });
    Report { text: lines.join("\n"), json }
}
