//! Where a benchmark of files works: a cluster, a directory in it, a folder of this machine; all of it goes at the end.
//!
//! ```text
//!   --fs or BLOCKYARD_FS ─▶ that cluster            ┐                          ┌ the directory is deleted
//!   neither              ─▶ one of its own (own.rs) ┴▶ directory, measure ─▶ end ┤ the own cluster is stopped
//!                                                        │ Ctrl-C ─────────▲    └ the folder is removed
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::clock::{Clock, SystemClock};
use base::disk::{Disk, OsDisk};
use base::random::{OsRandom, Randomness};
use base::task::CancellationToken;
use clap::Args;
use client::{Client, ErrorCode, FsError, LocalReads};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::door::Door;
use super::own::{self, Own, Wanted};
use super::roles::{Roles, Spent};
use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{Failure, Output, os_user, size};

/// How long a cluster that does not answer at all is tried.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time for the end: writers that were stopped say so, and the directory is deleted.
const END: Duration = Duration::from_secs(10);
/// Time for a limit that is being measured when the run is stopped: it does not see that.
const LAST_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait until blocks of deleted files are gone from the own cluster's disks.
const GONE: Duration = Duration::from_secs(30);
/// Time between two looks at them.
const LOOK: Duration = Duration::from_millis(100);

/// Flags of all benchmarks of files.
#[derive(Debug, Args)]
pub(super) struct StageOptions {
    /// Copies of every block
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    replication: u32,
    /// How often everything is measured: medians are printed, with the least and the greatest
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,
    /// Threads of the client
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Folder for the cluster that it starts, and in which this machine's limits are measured [default: the system's]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Operations pages of servers to count beside those that a named cluster tells of: its namenode's
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pages: Vec<String>,
}

/// What a benchmark found out, as people and as programs read it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) text: String,
    /// The fields of this benchmark; those of every one are added.
    pub(super) json: Value,
}

/// A benchmark's place.
#[derive(Debug)]
pub(super) struct Stage {
    /// Makes, writes and removes; reads over TCP.
    pub(super) client: Client,
    /// Reads through descriptors where a datanode of this machine lends them.
    local: Client,
    pub(super) clock: Arc<SystemClock>,
    /// Directory in the cluster.
    pub(super) dir: String,
    /// Folder of this machine.
    pub(super) home: PathBuf,
    pub(super) replication: u32,
    pub(super) rounds: u32,
    fs: String,
    own: Option<Own>,
    roles: Roles,
}

/// Sets the stage, measures, clears it away, prints.
pub(super) fn run(
    options: &StageOptions,
    global: &Global,
    measure: impl AsyncFnOnce(&Stage) -> Result<Report, Failure>,
) -> Status {
    at_home((options.dir.as_deref(), options.threads), global, async |home: &Path, stop: &CancellationToken| {
        match &global.fs {
            Some(fs) => on_named(options, global, fs, home, stop, measure).await,
            None => on_own(options, global, home, stop, measure).await,
        }
    })
}

/// Runs a benchmark in a folder that goes with it, until it is done or stopped by a signal, and prints what it found.
pub(super) fn at_home(
    (dir, threads): (Option<&Path>, u16),
    global: &Global,
    body: impl AsyncFnOnce(&Path, &CancellationToken) -> Result<Report, Failure>,
) -> Status {
    let output = Output::new(global.json, false);
    let ended = play(dir, threads, body).and_then(|report| match output.is_json() {
        true => output.object(&report.json),
        false => output.line(&report.text),
    });
    match ended {
        Ok(()) => Status::OK,
        Err(failure) => {
            output.failure(&failure);
            failure.status()
        }
    }
}

fn play(
    dir: Option<&Path>,
    threads: u16,
    body: impl AsyncFnOnce(&Path, &CancellationToken) -> Result<Report, Failure>,
) -> Result<Report, Failure> {
    let home = home(dir)?;
    let runtime = match threads {
        // Callers and connections wake each other without a system call, and the servers have the other cores.
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        more => tokio::runtime::Builder::new_multi_thread().worker_threads(more.into()).enable_all().build(),
    };
    let runtime = runtime.map_err(|error| Failure::local("start", "", &error))?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        base::shutdown::on_signals(stop.clone()).map_err(|error| Failure::local("wait for signals", "", &error))?;
        body(home.path(), &stop).await
    });
    // What is still written there would be left behind.
    runtime.shutdown_timeout(LAST_LIMIT);
    home.close().map_err(|error| Failure::local("remove the benchmark's folder", "", &error))?;
    ended
}

fn home(dir: Option<&Path>) -> Result<TempDir, Failure> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("blockyard-bench-");
    let made = match dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    };
    made.map_err(|error| Failure::local("make a folder", dir.unwrap_or(Path::new("")), &error))
}

async fn on_named(
    options: &StageOptions,
    global: &Global,
    fs: &str,
    home: &Path,
    stop: &CancellationToken,
    measure: impl AsyncFnOnce(&Stage) -> Result<Report, Failure>,
) -> Result<Report, Failure> {
    let clients = clients(fs, global)?;
    let known = async { Ok::<_, Failure>(clients.0.nodes().await?) };
    let known = tokio::select! {
        known = known => known?,
        () = stop.cancelled() => return Err(Failure::interrupted("what it made is removed")),
    };
    let mut pages: Vec<String> =
        known.into_iter().filter(|node| node.state == "live").map(|node| node.http_address).collect();
    pages.extend_from_slice(&options.pages);
    let unknown = "the namenode: clients are not told of its operations page, name it with --pages HOST:PORT";
    let roles = Roles::find(&pages, options.pages.is_empty().then_some(unknown)).await;
    let stage = Stage::new(options, clients, fs, home, roles, None);
    let outcome = tokio::select! {
        outcome = stage.play(measure) => outcome,
        () = stop.cancelled() => Err(Failure::interrupted("what it made is removed")),
    };
    stage.client.settle(END).await;
    let gone = tokio::time::timeout(END, stage.client.delete(&stage.dir, true)).await;
    let gone: Result<(), Failure> = match gone {
        Ok(Err(error)) if error.code != ErrorCode::NotFound => Err(error.into()),
        Ok(_) => Ok(()),
        Err(_late) => Err(FsError::new(ErrorCode::Unavailable, "could not be deleted in time").into()),
    };
    match (outcome, gone) {
        (Err(failure), Err(left)) => {
            Output::new(global.json, false).note(&format!("{} stays in the cluster: {}", stage.dir, left.text()));
            Err(failure)
        }
        (outcome, gone) => gone.and(outcome),
    }
}

async fn on_own(
    options: &StageOptions,
    global: &Global,
    home: &Path,
    stop: &CancellationToken,
    measure: impl AsyncFnOnce(&Stage) -> Result<Report, Failure>,
) -> Result<Report, Failure> {
    let datanodes = u16::try_from(options.replication).unwrap_or(u16::MAX);
    let user = global.user.clone().unwrap_or_else(os_user);
    let wanted = Wanted { dir: home.join("cluster"), datanodes, user, racks: Vec::new() };
    own::with(wanted, stop, async |own: Own| {
        let pages: Vec<String> = own.pages.iter().chain(&options.pages).cloned().collect();
        let roles = Roles::find(&pages, None).await;
        let clients = clients(&own.fs, global)?;
        let fs = own.fs.clone();
        Stage::new(options, clients, &fs, home, roles, Some(own)).play(measure).await
    })
    .await
}

/// One that reads over TCP only, and one that reads as it was told.
fn clients(fs: &str, global: &Global) -> Result<(Client, Client), Failure> {
    Ok((client_of(fs, global, LocalReads::Off)?, client(fs, global)?))
}

/// A client of a cluster, which reads as it was told.
pub(super) fn client(fs: &str, global: &Global) -> Result<Client, Failure> {
    client_of(fs, global, global.local_reads)
}

fn client_of(fs: &str, global: &Global, local_reads: LocalReads) -> Result<Client, Failure> {
    let user = global.user.clone().unwrap_or_else(os_user);
    let builder = Client::builder().connect(fs).user(user).patience(PATIENCE).local_reads(local_reads);
    builder.build().map_err(|error| Failure::usage(error.message, &error.hint))
}

impl Stage {
    fn new(
        options: &StageOptions,
        (client, local): (Client, Client),
        fs: &str,
        home: &Path,
        roles: Roles,
        own: Option<Own>,
    ) -> Self {
        Self {
            client,
            local,
            clock: Arc::new(SystemClock::new()),
            dir: format!("/bench-{:016x}", OsRandom.next_u64()),
            home: home.to_owned(),
            replication: options.replication,
            rounds: options.rounds,
            fs: fs.to_owned(),
            own,
            roles,
        }
    }

    async fn play(&self, measure: impl AsyncFnOnce(&Self) -> Result<Report, Failure>) -> Result<Report, Failure> {
        let live = self.client.nodes().await?.iter().filter(|node| node.state == "live").count();
        if live < self.replication as usize {
            let text = format!("{} copies need as many datanodes, the cluster has {live}", self.replication);
            return Err(Failure::usage(text, &format!("--replication {}", live.max(1))));
        }
        self.client.mkdir(&self.dir, 0o755, false).await?;
        let mut report = measure(self).await?;
        report.text = format!("{}\n{}", report.text, self.roles.text());
        for (key, value) in [
            ("v", json!(1)),
            ("type", json!("bench")),
            ("cluster", json!(self.fs)),
            ("own_cluster", json!(self.own.is_some())),
            ("replication", json!(self.replication)),
            ("rounds", json!(self.rounds)),
            ("processes", self.roles.json()),
            ("not_counted", json!(self.roles.not_counted())),
        ] {
            report.json[key] = value;
        }
        Ok(report)
    }

    /// The client that reads by a way.
    pub(super) const fn reads_by(&self, door: Door) -> &Client {
        match door {
            Door::Tcp => &self.client,
            Door::Local => &self.local,
        }
    }

    /// Path of a file in the directory.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// Refuses what cannot fit: `bytes` of files at a time. A named cluster keeps deleted replicas for a while.
    pub(super) async fn need_room(&self, bytes: u64) -> Result<(), Failure> {
        let wanted = bytes.saturating_mul(self.replication.into());
        let (wanted, there) = match &self.own {
            Some(_) => {
                let space = OsDisk.space(&self.home);
                (
                    wanted,
                    space.map_err(|error| Failure::local("look at the disk of", &self.home, &error))?.available_bytes,
                )
            }
            None => (wanted.saturating_mul(self.rounds.into()), self.client.status().await?.available_bytes),
        };
        if wanted <= there {
            return Ok(());
        }
        let text = format!("{} are needed for all copies, there is room for {}", size(wanted), size(there));
        let hint = "fewer --bytes, or fewer --rounds; --dir on another disk for a cluster of its own";
        Err(FsError::new(ErrorCode::NoSpace, text).with_hint(hint).into())
    }

    /// Runs something: its time, and what all counted processes spent on it.
    pub(super) async fn metered<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Duration, Spent), Failure> {
        self.roles.metered(self.clock.as_ref(), work).await
    }

    /// Deletes a file. In its own cluster, waits until the blocks are gone from the disks: the next round must not
    /// pay for that. Elsewhere they go minutes later.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        let Some(own) = &self.own else { return Ok(self.client.delete(path, false).await.map(drop)?) };
        let before = own.block_bytes().await?;
        let expected = before.saturating_sub(self.client.stat(path).await?.len_bytes * u64::from(self.replication));
        self.client.delete(path, false).await?;
        let end = self.clock.now().plus(GONE);
        while own.block_bytes().await? > expected {
            if self.clock.now() > end {
                return Err(Failure::server(format!("blocks of a deleted file are still there after {GONE:?}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}
