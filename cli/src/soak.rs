//! `blockyard soak`: a cluster of its own under load and faults; every byte is compared with what was acknowledged.
//!
//! ```text
//!   seed ─▶ plan ─┬▶ faults ─▶ cluster (kill -9, SIGSTOP, restart)     repair   when copies of the last copy begin
//!                 └▶ workers ─▶ client ─▶ …                            memory   how processes grow (slope)
//!                       │  words    contents that say where they belong  stall    how long operations stood still
//!                       └▶ model    what must be there, what may be there
//!   finish: faults lifted ─▶ whole again ─▶ every file, every replica read ─▶ fsck --full        report
//! ```
//!
//! `plan`, `words`, `model`, `slope` and `stall` are pure.

mod child;
mod cluster;
mod faults;
mod finish;
mod memory;
mod model;
mod plan;
mod reading;
mod repair;
mod replicas;
mod report;
mod shared;
mod slope;
mod stall;
mod words;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::crash::CrashPoint;
use base::disk::{Disk, OsDisk};
use base::random::{OsRandom, Randomness};
use base::task::{CancellationToken, JoinSet};
use clap::Args;
use client::LocalReads;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{Failure, Output, os_user};
use child::FlushingWriter;
use cluster::Cluster;
use faults::Player;
use finish::Finished;
use memory::{Memory, SharedMemory};
use plan::FaultKind;
use report::Report;
use shared::{Shared, TOP};
use worker::Worker;

/// Room that a run may need, for each worker.
const ROOM_A_WORKER_BYTES: u64 = 200 << 20;
/// Time between two lines that say how it goes.
const TELL: Duration = Duration::from_secs(15);
/// Time for blocking work that is still under way at the end.
const LAST: Duration = Duration::from_secs(5);

/// Flags of `blockyard soak`.
#[derive(Debug, Args)]
#[command(
    long_about = "Starts a cluster of its own, one process for each role, in a temporary folder, and puts it under load and faults \
        for as long as it is told. Every byte that comes back is compared with what was acknowledged.",
    after_help = "The load: workers write, flush, append to, cut, overwrite, move, delete, list and read files, and make snapshots, each
in a directory of its own; they also read each other's files, open ones too. Every eight bytes of a file tell who wrote
them and where they belong, so that a lost, stale or misplaced byte is found and named.

The faults, one every few seconds: datanodes and the namenode are killed (kill -9) and started again, or stopped
(SIGSTOP) for 1 to 30 s; clients are killed while they write; in builds with debug assertions the disk of a datanode is
slow, hangs, fails a sync, is full, or flips bits. Never are more than two datanodes hit at a time. The last datanode is
never killed, and the namenode only in the first half: so that their memory is looked at for long enough.

In the end all faults are lifted. The cluster has to become whole, every file and every replica of its blocks is read
from its beginning to its end, and fsck --full has to be clean. The run fails if a byte is lost or wrong, if an
operation fails while nothing is broken, if a server ended by itself, if of four clients that were killed none had
begun, or if a process grows without bound (judged from five minutes on).

max_write_stall_ms and max_read_stall_ms are the longest times in which a write or a read made no progress while one
datanode was away. one_copy_repair_start_ms is the longest time from the silence of a datanode until the first copy was
made of a block that had one copy left. Neither counts while the only namenode is away.

The same seed plans the same faults and the same steps; the machine decides how they meet.

Exit status: 0 all is well, 6 something was found (what, where, and the seed are printed, and the folder is kept), 130
interrupted, else it could not be run.

Examples:
  blockyard soak --minutes 2                         a first impression
  blockyard soak --minutes 30 --json > soak.json     what a release is held to
  blockyard soak --seed 17 --keep --dir /data/tmp    the run of a seed again; servers' logs are in the folder's logs/
  blockyard soak --faults kill-datanode,stop-datanode"
)]
pub(crate) struct SoakOptions {
    /// How long load and faults last; the end takes a minute or two more
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// What is planned [default: a new one, which is printed]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Workers, each with a client and a directory of its own
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Datanodes
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(4..=64))]
    datanodes: u16,
    /// Faults that may happen [default: all]
    #[arg(
        long,
        value_name = "KIND,…",
        value_delimiter = ',',
        value_enum,
        default_values_t = FaultKind::all(),
        hide_default_value = true
    )]
    faults: Vec<FaultKind>,
    /// Folder for the cluster [default: the system's]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the cluster's folder, with its data and logs
    #[arg(long)]
    keep: bool,
    /// Be a client of a soak that is to be killed: NUMBER:LENGTH:PATH
    #[arg(long, value_name = "CLIENT", hide = true)]
    as_client: Option<FlushingWriter>,
}

/// Runs a soak and says how it ended.
pub(crate) fn run(options: &SoakOptions, global: &Global) -> Status {
    let output = Output::new(global.json, false);
    let ended = match &options.as_client {
        Some(writer) => be_client(writer, global, &output),
        None => try_run(options, global, &output),
    };
    match ended {
        Ok(status) => status,
        Err(failure) => {
            output.failure(&failure);
            failure.status()
        }
    }
}

/// Writes until it is killed.
fn be_client(writer: &FlushingWriter, global: &Global, output: &Output) -> Result<Status, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local("start", "", &error))?;
    let user = global.user.clone().unwrap_or_else(os_user);
    let client = client::Client::builder().connect(global.fs.clone().unwrap_or_default()).user(user).build()?;
    runtime.block_on(child::write_and_flush(&client, writer, output))?;
    Ok(Status::OK)
}

fn try_run(options: &SoakOptions, global: &Global, output: &Output) -> Result<Status, Failure> {
    let seed = options.seed.unwrap_or_else(|| OsRandom.below(1 << 32));
    let home = home(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local("start", "", &error))?;
    output.note(&format!("seed {seed}, folder {}", home.path().display()));
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        base::shutdown::on_signals(stop.clone()).map_err(|error| Failure::local("wait for signals", "", &error))?;
        Soak { options, global, output, seed, home: home.path(), stop }.run().await
    });
    runtime.shutdown_timeout(LAST);
    let clean = ended.as_ref().is_ok_and(|report| !report.failed());
    let interrupted = ended.as_ref().is_err_and(|failure| failure.status() == Status::INTERRUPTED);
    if options.keep || !(clean || interrupted) {
        let kept = home.keep();
        output.note(&format!("the cluster's folder is kept: {}", kept.display()));
    } else {
        home.close().map_err(|error| Failure::local("remove the cluster's folder", "", &error))?;
    }
    let report = ended?;
    report.print(output)?;
    Ok(if report.failed() { Status::PROBLEMS } else { Status::OK })
}

fn home(options: &SoakOptions) -> Result<TempDir, Failure> {
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let space = OsDisk.space(&parent).map_err(|error| Failure::local("look at the disk of", &parent, &error))?;
    let wanted_bytes = ROOM_A_WORKER_BYTES * u64::from(options.workers);
    if space.available_bytes < wanted_bytes {
        let text = format!("a run may take {} MiB, {} MiB are free", wanted_bytes >> 20, space.available_bytes >> 20);
        return Err(Failure::item(&parent, &text, "fewer --workers, or --dir on another disk"));
    }
    let made = tempfile::Builder::new().prefix("blockyard-soak-").tempdir_in(&parent);
    made.map_err(|error| Failure::local("make a folder in", &parent, &error))
}

/// The kinds that can happen: disks do wrong only in builds that can make them.
fn kinds(wanted: &[FaultKind]) -> Vec<FaultKind> {
    let possible = |kind: &&FaultKind| cfg!(debug_assertions) || kind.disk_plan().is_none();
    wanted.iter().filter(possible).copied().collect()
}

struct Soak<'a> {
    options: &'a SoakOptions,
    global: &'a Global,
    output: &'a Output,
    seed: u64,
    home: &'a Path,
    stop: CancellationToken,
}

impl Soak<'_> {
    async fn run(&self) -> Result<Report, Failure> {
        let user = self.global.user.clone().unwrap_or_else(os_user);
        let made = OsDisk.create_dir_all(&self.home.join("logs"), CrashPoint::CreateServerDir);
        made.map_err(|error| Failure::local("make folders in", self.home, &error))?;
        let clock = memory::clock();
        let wanted = cluster::Wanted { dir: self.home, datanodes: self.options.datanodes, user: &user };
        let (cluster, mut ends) = Cluster::new(&wanted, Arc::clone(&clock), &OsRandom)?;
        let uri = cluster.uri();
        let cluster = Arc::new(Mutex::new(cluster));
        let outcome = tokio::select! {
            outcome = async {
                cluster.lock().await.start().await?;
                let shared = Shared::new(clock, uri, user.clone(), self.options.workers.into());
                let told = Arc::clone(&shared);
                tokio::select! {
                    outcome = self.load(shared, &cluster, &user) => outcome,
                    never = async { loop { told.found("ended", "a server", ends.unasked().await); } } => never,
                }
            } => outcome,
            () = self.stop.cancelled() => Err(Failure::interrupted("what it made is removed")),
        };
        // Tasks that were dropped have let go of it; one that is just starting a role is waited for.
        cluster.lock().await.stop().await;
        outcome
    }

    /// Load and faults, then the end.
    async fn load(&self, shared: Arc<Shared>, cluster: &Arc<Mutex<Cluster>>, user: &str) -> Result<Report, Failure> {
        let memory = SharedMemory::default();
        let mut aside = JoinSet::new();
        aside.spawn({
            let (memory, shared, cluster) = (Arc::clone(&memory), Arc::clone(&shared), Arc::clone(cluster));
            async move { memory.watch(&shared, &cluster).await }
        });
        let workers = self.load_until_over(&shared, cluster, user).await?;
        finish::lift(&shared, cluster).await?;
        self.output.note("all faults are lifted; every byte is compared");
        let finished = finish::finish(&shared, workers, self.options.datanodes, user).await?;
        // It looks for ever, unless it panicked.
        if let Some(ended) = aside.try_join_next() {
            shared.task_ended("the look at memory", ended);
        }
        aside.shutdown().await;
        Ok(self.report(shared, memory, finished))
    }

    async fn load_until_over(
        &self,
        shared: &Arc<Shared>,
        cluster: &Arc<Mutex<Cluster>>,
        user: &str,
    ) -> Result<Vec<Worker>, Failure> {
        let length = Duration::from_secs(self.options.minutes * 60);
        let client = shared.client(LocalReads::Off)?;
        client.mkdir(&format!("{TOP}/{}", faults::KILLED), 0o755, true).await?;
        let mut workers = Vec::new();
        for number in 0..usize::from(self.options.workers) {
            let worker = Worker::new(Arc::clone(shared), self.seed, number)?;
            worker.prepare().await?;
            workers.push(worker);
        }
        let end = CancellationToken::new();
        let mut working = JoinSet::new();
        for worker in workers {
            working.spawn(worker.run(end.clone()));
        }
        let wanted = plan::Wanted {
            seed: self.seed,
            datanodes: self.options.datanodes,
            length,
            kinds: kinds(&self.options.faults),
        };
        let player = Player {
            shared: Arc::clone(shared),
            cluster: Arc::clone(cluster),
            user: user.to_owned(),
            home: self.home.to_owned(),
        };
        let mut breaking = JoinSet::new();
        breaking.spawn(player.play(plan::faults(&wanted)));
        self.tell_until_over(shared, length).await;
        shared.all_ended("the player of faults", &mut breaking).await;
        shared.look_at_killed();
        end.cancel();
        let mut back = Vec::new();
        while let Some(worker) = working.join_next().await {
            match worker {
                Ok(worker) => back.push(worker),
                Err(panic) => shared.found("panic", "a worker", panic.to_string()),
            }
        }
        Ok(back)
    }

    /// Says now and then how it goes.
    async fn tell_until_over(&self, shared: &Shared, length: Duration) {
        loop {
            let passed = shared.clock.now().since(shared.began);
            let Some(left) = length.checked_sub(passed).filter(|left| !left.is_zero()) else { return };
            tokio::time::sleep(left.min(TELL)).await;
            let (operations, faults) = shared.so_far();
            let passed = shared.clock.now().since(shared.began).as_secs();
            let text = format!("{passed} s: {operations} operations, {faults} faults, {} findings", shared.findings());
            self.output.note(&text);
        }
    }

    fn report(&self, shared: Arc<Shared>, memory: Arc<Memory>, finished: Finished) -> Report {
        for (name, slope) in memory.without_bound() {
            shared.found("memory", &name, format!("grows by {:.1} MiB a minute", slope / f64::from(1 << 20)));
        }
        Report { seed: self.seed, minutes: self.options.minutes, shared, memory, finished }
    }
}
