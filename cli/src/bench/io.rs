//! `blockyard bench io`: one long file, written with all its copies and read back.

use clap::{Args, ValueEnum};
use client::CreateOptions;
use serde_json::json;

use super::files::{self, Content, Door};
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
    /// By which way it is read
    #[arg(long, value_enum, default_value_t = Door::Tcp)]
    door: Door,
    /// What the writer computes beside checksums
    #[arg(long, value_enum, default_value_t = DigestChoice::Sha256)]
    digest: DigestChoice,
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
}

impl Flow {
    pub(super) fn add(&mut self, bytes: u64, took: std::time::Duration, spent: &Spent) {
        self.mb_per_s.add(bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9));
        self.cpu.add_cpu(spent, 1.0, gib(bytes));
    }
    pub(super) fn json(&self) -> serde_json::Value {
        json!({ "mb_per_s": self.mb_per_s.json(), "cpu_s_per_gib": self.cpu.json() })
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

async fn measure(options: &IoOptions, stage: &Stage) -> Result<Report, Failure> {
    stage.need_room(options.bytes).await?;
    let content = Content::new(options.bytes);
    let way = |digest: &Digest| Writes { digest: *digest, flow: Flow::default(), syncs: Costs::default() };
    let mut writes: Vec<Writes> = options.digest.all().iter().map(way).collect();
    let (mut read, mut limits) = (Flow::default(), Limits::new(&LIMITS));
    for round in 0..stage.rounds {
        let mut path = String::new();
        for (number, way) in writes.iter_mut().enumerate() {
            if number > 0 {
                stage.delete(&path).await?;
            }
            path = stage.path(&format!("long-{round}-{}", way.digest.name()));
            write(stage, &path, &content, way).await?;
        }
        let (found, took, spent) =
            stage.metered(async { Ok(files::read(&stage.client, options.door, &path).await?) }).await?;
        read.add(options.bytes, took, &spent);
        if found != options.bytes {
            return Err(Failure::server(format!("{path}: {} bytes were written, {found} came back", options.bytes)));
        }
        limits.round(&stage.home, options.bytes).await?;
        if round + 1 < stage.rounds {
            stage.delete(&path).await?;
        }
    }
    Ok(report(options, stage, &writes, &read, &limits))
}

async fn write(stage: &Stage, path: &str, content: &Content, way: &mut Writes) -> Result<(), Failure> {
    let digest = Some(way.digest.wanted());
    let create = CreateOptions { replication: stage.replication, digest, ..CreateOptions::default() };
    let written = async { Ok(files::write_as(&stage.client, path, content, create).await?) };
    let ((), took, spent) = stage.metered(written).await?;
    way.flow.add(content.len_bytes, took, &spent);
    way.syncs.add_syncs(&spent, 1.0);
    Ok(())
}

fn report(options: &IoOptions, stage: &Stage, writes: &[Writes], read: &Flow, limits: &Limits) -> Report {
    let of = |flow: &Flow, limit, copies: u32| {
        let limit = limits.of(limit).map_or(0.0, |moved| moved.mb_per_s.median());
        flow.mb_per_s.median() * f64::from(copies) / limit.max(1e-9)
    };
    let of_disk = |way: &Writes| of(&way.flow, Limit::DurableWrite, stage.replication);
    let of_socket = of(read, Limit::TcpSendfile, 1);
    let door = options.door.name();
    let mut lines = vec![
        format!(
            "{}, {} copies, {} round(s): median (least-greatest)",
            size(options.bytes),
            stage.replication,
            stage.rounds
        ),
        row(&["", "MB/s", "CPU s/GiB"].map(str::to_owned)),
    ];
    lines.extend(writes.iter().map(|way| way.flow.row(&format!("write, durable, digest {}", way.digest.name()))));
    lines.push(read.row(&format!("read, {door}")));
    lines.extend(limits.rows().map(|one| row(&one)));
    let shares: Vec<String> = writes.iter().map(|way| format!("{:.0} %", of_disk(way) * 100.0)).collect();
    lines.push(format!(
        "all copies are written at {} of one synced file, read at {:.0} % of a bare sendfile",
        shares.join(" and "),
        of_socket * 100.0
    ));
    lines.extend(writes.iter().map(|way| {
        let which = if writes.len() > 1 { format!(", digest {}", way.digest.name()) } else { String::new() };
        format!("syncs a file{which}: {}  {}", way.syncs.all().text(), way.syncs.text())
    }));
    let written: Vec<serde_json::Value> = writes
        .iter()
        .map(|way| {
            let mut written = way.flow.json();
            written["digest"] = way.digest.name().into();
            written["syncs_per_file"] = way.syncs.json();
            written["of_durable_write_limit"] = short(of_disk(way)).into();
            written
        })
        .collect();
    let mut was_read = read.json();
    was_read["of_sendfile_limit"] = short(of_socket).into();
    was_read["door"] = door.into();
    let json = json!({
        "bench": "io", "bytes": options.bytes, "write": written.first(), "writes": written, "read": was_read,
        "limits": limits.json(),
    });
    Report { text: lines.join("\n"), json }
}
