//! `blockyard bench meta`: calls on names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::clock::SystemClock;
use base::process::process_cpu;
use base::random::{OsRandom, Randomness};
use clap::{Args, ValueEnum};
use client::{Carrier, Client, FsResult};
use serde_json::{Value, json};

use super::latencies::Latencies;
use super::load::{Load, Op};
use super::workers::Measured;
use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{DEFAULT_FS, Failure, Output, os_user};

/// Time before the measured part, in which connections and caches come to rest.
const WARM_UP: Duration = Duration::from_millis(500);
/// Longest time for each of the limits beside.
const LIMIT_TIME: Duration = Duration::from_secs(2);

/// Flags of `blockyard bench meta`.
#[derive(Debug, Args)]
#[command(
    after_help = "It works in a directory of its own, /bench-…, and removes it at the end. Beside the figures stand the limits of the
same run: how many empty calls the same carrier takes, and how often this machine can write and sync 4 KiB.

Examples:
  blockyard bench meta --op stat
  blockyard bench meta --op create --in-flight 256 --seconds 10 --json"
)]
pub(crate) struct MetaOptions {
    /// What is called
    #[arg(long, value_enum)]
    op: Op,
    /// Calls under way at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    in_flight: u64,
    /// How long
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// What carries the calls
    #[arg(long, value_enum, default_value_t = CarrierName::Framed)]
    carrier: CarrierName,
    /// Connections that share the calls
    #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    connections: u64,
    /// Names made before `delete`, which ends early when all are gone
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    names: u64,
    /// Folder in which this machine's syncs are measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CarrierName {
    /// Our frames
    Framed,
    /// gRPC
    Grpc,
}

impl CarrierName {
    const fn carrier(self) -> Carrier {
        match self {
            Self::Framed => Carrier::Framed,
            Self::Grpc => Carrier::Grpc,
        }
    }
}

/// Everything that is printed.
struct Report {
    measured: Measured,
    client_cpu: Duration,
    empty: Measured,
    alone: Measured,
    syncs: Measured,
}

/// Measures and prints.
pub(super) fn run(options: &MetaOptions, global: &Global) -> Status {
    let output = Output::new(global.json, false);
    match measure(options, global).and_then(|report| print(options, &report, &output)) {
        Ok(()) => Status::OK,
        Err(failure) => {
            output.failure(&failure);
            failure.status()
        }
    }
}

fn measure(options: &MetaOptions, global: &Global) -> Result<Report, Failure> {
    let clock = Arc::new(SystemClock::new());
    let times = base::probe::sync_times(&options.dir, LIMIT_TIME / 2, clock.as_ref(), &OsRandom)
        .map_err(|error| Failure::local("measure syncs", &options.dir, &error))?;
    let syncs = Measured { took: times.iter().sum(), times: times.into_iter().collect::<Latencies>() };
    // One thread: callers and connections wake each other without a system call, and the server has the other cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local("start", "", &error))?;
    runtime.block_on(async {
        let clients = (0..options.connections).map(|_| client(options, global)).collect::<FsResult<Vec<_>>>();
        let clients = clients.map_err(|error| Failure::usage(error.message, &error.hint))?;
        let dir = format!("/bench-{:016x}", OsRandom.next_u64());
        let load = Load { clients, clock, dir, in_flight: options.in_flight, names: options.names };
        let outcome = tokio::select! {
            outcome = measure_calls(options, &load, syncs) => outcome,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| Failure::local("wait for signals", "", &error)).and(Err(Failure::interrupted("what it made is removed")))
            }
        };
        let removed = match load.clients.first() {
            Some(client) => client.delete(&load.dir, true).await.map(drop),
            None => Ok(()),
        };
        let report = outcome?;
        removed?;
        Ok(report)
    })
}

fn client(options: &MetaOptions, global: &Global) -> FsResult<Client> {
    Client::builder()
        .connect(global.fs.as_deref().unwrap_or(DEFAULT_FS))
        .carrier(options.carrier.carrier())
        .user(global.user.clone().unwrap_or_else(os_user))
        .patience(Duration::from_secs(1))
        .build()
}

async fn measure_calls(options: &MetaOptions, load: &Load, syncs: Measured) -> Result<Report, Failure> {
    let during = Duration::from_secs(options.seconds);
    let first = load.clients.first().ok_or_else(|| Failure::usage("no connection", ""))?;
    first.mkdir(&load.dir, 0o755, false).await?;
    load.prepare(options.op).await?;
    let alone = Load { in_flight: 1, ..load.clone() };
    let alone = alone.run(Op::Nothing, Duration::ZERO, LIMIT_TIME / 4, u64::MAX).await?;
    let empty = load.run(Op::Nothing, WARM_UP, LIMIT_TIME.min(during), u64::MAX).await?;
    // What is made before can only be used up once.
    let (warm_up, limit) = if options.op == Op::Delete { (Duration::ZERO, load.names) } else { (WARM_UP, u64::MAX) };
    let before = process_cpu();
    let measured = load.run(options.op, warm_up, during, limit).await?;
    let share = measured.took.as_secs_f64() / (measured.took + warm_up).as_secs_f64();
    let client_cpu = process_cpu().saturating_sub(before).mul_f64(share);
    Ok(Report { measured, client_cpu, empty, alone, syncs })
}

fn print(options: &MetaOptions, report: &Report, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&json_of(options, report));
    }
    let Report { measured, client_cpu, empty, alone, syncs } = report;
    let name =
        |value: Option<clap::builder::PossibleValue>| value.map_or_else(String::new, |v| v.get_name().to_owned());
    let (op, carrier) = (name(options.op.to_possible_value()), name(options.carrier.to_possible_value()));
    output.line(&format!(
        "{op}, {carrier}: {} in flight over {} connection(s), {:.1} s, {} calls, {:.1} µs of client CPU each",
        options.in_flight,
        options.connections,
        measured.took.as_secs_f64(),
        measured.times.count(),
        cpu_us_each(measured, *client_cpu),
    ))?;
    output.line(&format!("{:<34} {:>10} {:>10} {:>10} {:>10}", "", "per s", "p50 µs", "p99 µs", "p99.9 µs"))?;
    for (what, one) in [
        (op.as_str(), measured),
        ("limit: empty call, as many", empty),
        ("limit: empty call, one at a time", alone),
        ("limit: write and sync 4 KiB", syncs),
    ] {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| one.times.quantile_us(share));
        output.line(&format!("{what:<34} {:>10.0} {p50:>10.1} {p99:>10.1} {p999:>10.1}", one.per_second()))?;
    }
    Ok(())
}

fn cpu_us_each(measured: &Measured, cpu: Duration) -> f64 {
    cpu.as_secs_f64() * 1e6 / (measured.times.count().max(1)) as f64
}

fn json_of(options: &MetaOptions, report: &Report) -> Value {
    let Report { measured, client_cpu, empty, alone, syncs } = report;
    let name = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
    let row = |one: &Measured| {
        let mut row = one.times.json();
        row["calls"] = one.times.count().into();
        row["per_s"] = one.per_second().round().into();
        row
    };
    let mut all = row(measured);
    all["client_cpu_us_each"] = ((cpu_us_each(measured, *client_cpu) * 100.0).round() / 100.0).into();
    json!({
        "v": 1, "type": "bench", "bench": "meta",
        "op": name(options.op.to_possible_value()), "carrier": name(options.carrier.to_possible_value()),
        "in_flight": options.in_flight, "connections": options.connections, "took_s": measured.took.as_secs_f64(),
        "result": all,
        "limits": { "empty_calls": row(empty), "empty_calls_alone": row(alone), "syncs": row(syncs) },
    })
}
