//! `blockyard bench small`: small files, each durable on all its nodes.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::files::{self, Content};
use super::latencies::Latencies;
use super::limits;
use super::roles::Costs;
use super::series::{Series, short};
use super::stage::{self, Report, Stage, StageOptions};
use super::workers::{self, Shift};
use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{Failure, parse_size, size};

/// Time of the bare loop, in each round.
const BARE: Duration = Duration::from_secs(1);
/// Longest round: files that are not made by then are not made.
const LONGEST: Duration = Duration::from_secs(3600);

/// Flags of `blockyard bench small`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every file is created, written, and closed: durable on all its nodes, its name in the namespace. The limit beside is
the bare loop of this machine: as many files as there are copies are created, written and synced one after the other,
then their directory is synced.

Without --fs and BLOCKYARD_FS it starts a cluster of its own, one process for each role, in a temporary folder, and
removes it at the end. In a named cluster it works in a directory of its own, /bench-…, and deletes that.

Examples:
  blockyard bench small                            2,000 files of 4 KiB a round, 16 at a time
  blockyard bench small --files 200 --rounds 1     a first impression
  blockyard bench small --in-flight 64 --json"
)]
pub(crate) struct SmallOptions {
    /// Length of a file
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = parse_size)]
    bytes: u64,
    /// Files of a round
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    files: u64,
    /// Files under way at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    in_flight: u64,
    #[command(flatten)]
    stage: StageOptions,
}

#[derive(Default)]
struct Found {
    files_per_s: Series,
    of_bare: Series,
    bare_per_s: Series,
    times: Latencies,
    cpu_ms: Costs,
    syncs: Costs,
}

/// Measures and prints.
pub(super) fn run(options: &SmallOptions, global: &Global) -> Status {
    stage::run(&options.stage, global, async |stage: &Stage| measure(options, stage).await)
}

async fn measure(options: &SmallOptions, stage: &Stage) -> Result<Report, Failure> {
    let bare_bytes = usize::try_from(options.bytes).unwrap_or(usize::MAX);
    let content = Content::new(options.bytes);
    let mut found = Found::default();
    for round in 0..stage.rounds {
        let bare = limits::small_files(&stage.home, (stage.replication, bare_bytes), BARE).await?;
        let bare_per_s = bare.len() as f64 / bare.iter().sum::<Duration>().as_secs_f64().max(1e-9);
        let dir = stage.path(&format!("round-{round}"));
        stage.client.mkdir(&dir, 0o755, false).await?;
        let (measured, _, spent) =
            stage.metered(async { Ok(write_all(options, stage, &dir, &content).await?) }).await?;
        found.bare_per_s.add(bare_per_s);
        found.files_per_s.add(measured.per_second());
        found.of_bare.add(measured.per_second() / bare_per_s.max(1e-9));
        found.cpu_ms.add_cpu(&spent, 1e3, options.files as f64);
        found.syncs.add_syncs(&spent, options.files as f64);
        found.times.merge(&measured.times);
    }
    Ok(report(options, stage, &found))
}

/// Writes the files of a round.
async fn write_all(
    options: &SmallOptions,
    stage: &Stage,
    dir: &str,
    content: &Content,
) -> client::FsResult<workers::Measured> {
    let shift = Shift { in_flight: options.in_flight, warm_up: Duration::ZERO, during: LONGEST, limit: options.files };
    let (client, dir, content, copies) = (stage.client.clone(), dir.to_owned(), content.clone(), stage.replication);
    workers::run(&stage.clock, shift, move |turn| {
        let (client, path, content) = (client.clone(), format!("{dir}/f{}", turn.number), content.clone());
        async move { files::write(&client, &path, &content, copies).await }
    })
    .await
}

fn report(options: &SmallOptions, stage: &Stage, found: &Found) -> Report {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| found.times.quantile_us(share) / 1e3);
    let text = format!(
        "{} files of {}, {} copies, {} at a time, {} round(s): median (least-greatest)\n\
         durable files/s          {}  p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms\n\
         limit: bare loop, per s  {}  {} files created and synced, their directory synced\n\
         of the bare loop         {}\n\
         CPU ms a file            {}  {}\n\
         syncs a file             {}  {}",
        options.files,
        size(options.bytes),
        stage.replication,
        options.in_flight,
        stage.rounds,
        found.files_per_s.text(),
        found.bare_per_s.text(),
        stage.replication,
        found.of_bare.text(),
        found.cpu_ms.all().text(),
        found.cpu_ms.text(),
        found.syncs.all().text(),
        found.syncs.text(),
    );
    let json = json!({
        "bench": "small", "bytes": options.bytes, "files": options.files, "in_flight": options.in_flight,
        "write": {
            "files_per_s": found.files_per_s.json(), "of_bare_loop": found.of_bare.json(),
            "times": found.times.json(), "cpu_ms_per_file": found.cpu_ms.json(),
            "syncs_per_file": found.syncs.json(),
        },
        "limits": { "bare_loop": {
            "files_per_s": found.bare_per_s.json(), "syncs_per_file": short(f64::from(stage.replication) + 1.0),
        } },
    });
    Report { text, json }
}
