//! `blockyard bench rebuild`: a datanode dies, its blocks are copied again. How long until that begins, how fast it is.
//!
//! ```text
//!   own cluster ─▶ write a long file ─▶ fill: a copy of every block on dn1 ─▶ kill -9 dn1 ─▶ watch the pages ─▶ check
//!                  (the write figure)   it stands alone in its rack             the others        of the servers
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::clock::{Clock, Moment, SystemClock};
use base::disk::{Disk, OsDisk};
use base::task::CancellationToken;
use bytes::Bytes;
use clap::Args;
use client::{Client, CreateOptions, ErrorCode, FsError, FsResult};
use serde_json::json;

use super::files::{self, Content};
use super::limits::gib;
use super::own::{self, Own, Wanted};
use super::roles::{Costs, Roles};
use super::series::{Series, short};
use super::stage::{self, Report};
use super::watch::{Figures, Survivors};
use super::workers::{self, Shift};
use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{Failure, os_user, parse_size, size};

/// Blocks of a file of the fill.
const BLOCKS_A_FILE: u64 = 100;
/// Copies of the long file that the rate is compared with.
const WRITE_COPIES: u32 = 3;
/// How often it is written.
const WRITES: u32 = 3;
/// Time between two looks at the servers.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for blocks of a deleted file to go, and for reports to come.
const REPORTS: Duration = Duration::from_secs(60);
/// Longest time until everything is copied again.
const LONGEST: Duration = Duration::from_secs(3600);

/// Flags of `blockyard bench rebuild`.
#[derive(Debug, Args)]
#[command(
    after_help = "It starts a cluster of its own, one process for each role, in a temporary folder, and removes it at the end; --fs
counts for nothing. The first datanode stands in a rack of its own, so that it has a copy of every block; when all are
written it is killed (kill -9). With two copies, one is left then: the namenode begins as soon as the node is silent
for its setting stale_after. With three it waits until the node is dead.

MB are 10^6 bytes, GiB 2^30. The rate is that of the copies, from the first one to the last. It is compared with the
rate at which a long file is written with three copies in the same cluster, before.

Examples:
  blockyard bench rebuild                                20,000 blocks of 128 KiB on the node that dies
  blockyard bench rebuild --blocks 4000 --block-size 1M  fewer and longer ones
  blockyard bench rebuild --blocks 200 --write-bytes 16M --json"
)]
pub(crate) struct RebuildOptions {
    /// Blocks of the node that dies
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    blocks: u64,
    /// Length of a block: 64K at least, a multiple of 512
    #[arg(long, value_name = "SIZE", default_value = "128K", value_parser = parse_size)]
    block_size: u64,
    /// Copies of every block
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=16))]
    replication: u32,
    /// Datanodes, the one that dies included
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(3..=17))]
    datanodes: u16,
    /// Length of the long file that the rate is compared with
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse_size)]
    write_bytes: u64,
    /// Files of blocks written at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    in_flight: u64,
    /// How often everything is done, each time in a new cluster
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Folder for the cluster [default: the system's]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Figures of all rounds.
#[derive(Debug, Default)]
struct Found {
    write: Series,
    fill: Series,
    begins_s: Series,
    whole_s: Series,
    rate: Series,
    of_write: Series,
    blocks_per_s: Series,
    cpu: Costs,
    syncs: Costs,
    most: Series,
    /// Processes of the last round.
    processes: serde_json::Value,
}

/// Measures and prints.
pub(super) fn run(options: &RebuildOptions, global: &Global) -> Status {
    stage::at_home((options.dir.as_deref(), 1), global, async |home: &Path, stop: &CancellationToken| {
        check(options, home)?;
        let mut found = Found::default();
        for _ in 0..options.rounds {
            let failed = |error: std::io::Error| Failure::local("make or remove a folder in", home, &error);
            let place = tempfile::Builder::new().prefix("cluster-").tempdir_in(home).map_err(failed)?;
            let wanted = Wanted {
                dir: place.path().join("cluster"),
                datanodes: options.datanodes,
                user: global.user.clone().unwrap_or_else(os_user),
                racks: vec!["/alone"],
            };
            own::with(wanted, stop, async |own: Own| {
                let client = stage::client(&own.fs, global)?;
                Round { options, client, own, clock: Arc::new(SystemClock::new()) }.play(&mut found).await
            })
            .await?;
            // Room for the next one.
            place.close().map_err(failed)?;
        }
        Ok(report(options, &found))
    })
}

/// Refuses what cannot be.
fn check(options: &RebuildOptions, home: &Path) -> Result<(), Failure> {
    if u32::from(options.datanodes) <= options.replication {
        let text = format!("{} copies need more datanodes than {}", options.replication, options.datanodes);
        return Err(Failure::usage(text, &format!("--datanodes {}", options.replication + 1)));
    }
    let copies = u64::from(options.replication) + 1;
    let wanted = (options.blocks.saturating_mul(options.block_size).saturating_mul(copies))
        .max(options.write_bytes.saturating_mul(u64::from(WRITE_COPIES)));
    let space = OsDisk.space(home).map_err(|error| Failure::local("look at the disk of", home, &error))?;
    if wanted <= space.available_bytes {
        return Ok(());
    }
    let text = format!("{} are needed for all copies, there is room for {}", size(wanted), size(space.available_bytes));
    Err(FsError::new(ErrorCode::NoSpace, text).with_hint("fewer --blocks, or --dir on another disk").into())
}

struct Round<'a> {
    options: &'a RebuildOptions,
    client: Client,
    own: Own,
    clock: Arc<SystemClock>,
}

/// The moments of a rebuild.
struct Moments {
    killed: Moment,
    first: Moment,
    last: Moment,
}

impl Round<'_> {
    async fn play(self, found: &mut Found) -> Result<(), Failure> {
        let write = self.write_figure().await?;
        let fill = self.fill().await?;
        let victim = self.own.datanodes.first().ok_or_else(|| Failure::server("there is no datanode"))?;
        let watch = Survivors::new(&self.own, &victim.page);
        self.reported(&watch).await?;
        let roles = Roles::find(&watch.pages(), None).await;
        let rebuilt = async {
            Own::kill(victim)?;
            self.watch(&watch).await
        };
        let (moments, _, spent) = roles.metered(self.clock.as_ref(), rebuilt).await?;
        let figures = watch.look().await?;
        self.nothing_is_lost().await?;

        let bytes = self.options.blocks * self.options.block_size;
        let took = moments.last.since(moments.first).as_secs_f64().max(1e-9);
        let rate = bytes as f64 / 1e6 / took;
        found.write.add(write);
        found.fill.add(fill);
        found.begins_s.add(moments.first.since(moments.killed).as_secs_f64());
        found.whole_s.add(moments.last.since(moments.killed).as_secs_f64());
        found.rate.add(rate);
        found.of_write.add(rate / write.max(1e-9));
        found.blocks_per_s.add(self.options.blocks as f64 / took);
        found.cpu.add_cpu(&spent, 1.0, gib(bytes));
        found.syncs.add_syncs(&spent, self.options.blocks as f64);
        found.most.add(figures.copies_most as f64);
        found.processes = roles.json();
        Ok(())
    }

    /// MB/s of a long file with three copies: the median of some.
    async fn write_figure(&self) -> Result<f64, Failure> {
        let content = Content::new(self.options.write_bytes);
        let copies = WRITE_COPIES.min(self.options.datanodes.into());
        let mut series = Series::default();
        for number in 0..WRITES {
            let path = format!("/long-{number}");
            let begun = self.clock.now();
            files::write(&self.client, &path, &content, copies).await?;
            let took = self.clock.now().since(begun);
            series.add(self.options.write_bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9));
            self.client.delete(&path, false).await?;
            let limit = self.options.write_bytes / 2;
            self.until("blocks of a deleted file are still there", async || Ok(self.own.block_bytes().await? <= limit))
                .await?;
        }
        Ok(series.median())
    }

    /// Writes the blocks; MB/s of all files together.
    async fn fill(&self) -> Result<f64, Failure> {
        let files = self.options.blocks.div_ceil(BLOCKS_A_FILE);
        let shift = Shift { in_flight: self.options.in_flight, warm_up: Duration::ZERO, during: LONGEST, limit: files };
        let (client, blocks) = (self.client.clone(), self.options.blocks);
        let create = CreateOptions {
            replication: self.options.replication,
            block_size_bytes: self.options.block_size,
            ..CreateOptions::default()
        };
        let block = files::pattern(usize::try_from(self.options.block_size).unwrap_or(1 << 20));
        let begun = self.clock.now();
        workers::run(&self.clock, shift, move |turn| {
            let left = blocks - turn.number * BLOCKS_A_FILE;
            write_blocks(client.clone(), turn.number, create.clone(), (block.clone(), left.min(BLOCKS_A_FILE)))
        })
        .await?;
        let took = self.clock.now().since(begun).as_secs_f64().max(1e-9);
        Ok((self.options.blocks * self.options.block_size) as f64 / 1e6 / took)
    }

    /// Waits until the namenode knows every copy, and the node that is to die has one of each block.
    async fn reported(&self, watch: &Survivors) -> Result<(), Failure> {
        let others = self.options.blocks * u64::from(self.options.replication - 1);
        self.until("not all copies of the fill are reported", async || {
            let nodes = self.client.nodes().await?;
            let victim = nodes.iter().find(|node| watch.is_victim(&node.http_address)).map_or(0, |node| node.blocks);
            let figures = watch.look().await?;
            Ok(victim == self.options.blocks && figures.replicas == others && figures.under_replicated == 0)
        })
        .await
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> Result<bool, Failure>) -> Result<(), Failure> {
        let end = self.clock.now().plus(REPORTS);
        while !is_so().await? {
            if self.clock.now() > end {
                return Err(Failure::server(format!("{what} after {} s", REPORTS.as_secs())));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until everything has all its copies on the nodes that are left.
    async fn watch(&self, watch: &Survivors) -> Result<Moments, Failure> {
        let (killed, mut first) = (self.clock.now(), None);
        let all = self.options.blocks * u64::from(self.options.replication);
        loop {
            let Figures { replicas, copied_bytes, under_replicated, missing, .. } = watch.look().await?;
            let now = self.clock.now();
            if copied_bytes > 0 && first.is_none() {
                first = Some(now);
            }
            if replicas >= all
                && under_replicated == 0
                && missing == 0
                && let Some(first) = first
            {
                return Ok(Moments { killed, first, last: now });
            }
            if now.since(killed) > LONGEST {
                let text = format!("{under_replicated} blocks lack copies an hour after their node died");
                return Err(Failure::server(text));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has the namenode go through all files.
    async fn nothing_is_lost(&self) -> Result<(), Failure> {
        let (mut cursor, mut blocks) = (Bytes::new(), 0);
        loop {
            let step = self.client.fsck_step("/", cursor).await?;
            blocks += step.blocks;
            if let Some(file) = step.problems.first() {
                return Err(Failure::server(format!("{} is not whole after the rebuild", file.path)));
            }
            cursor = step.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        if blocks == self.options.blocks {
            return Ok(());
        }
        Err(Failure::server(format!("{} blocks were written, there are {blocks}", self.options.blocks)))
    }
}

/// Writes a file of equal blocks.
async fn write_blocks(
    client: Client,
    number: u64,
    options: CreateOptions,
    (block, count): (Bytes, u64),
) -> FsResult<()> {
    let mut writer = client.create(&format!("/blocks-{number}"), options).await?;
    for _ in 0..count {
        writer.write(block.clone()).await?;
    }
    writer.close().await.map(drop)
}

fn report(options: &RebuildOptions, found: &Found) -> Report {
    let text = format!(
        "{} blocks of {} on the node that died, {} copies, {} datanodes, {} round(s): median (least-greatest)\n\
         first copy begins, s after the kill   {}\n\
         all copies there, s after the kill    {}\n\
         copied, MB/s                          {}  {} blocks/s, {} at a time at most\n\
         of the write figure                   {}\n\
         a long file with 3 copies, MB/s       {}\n\
         the blocks were written at, MB/s      {}\n\
         CPU s/GiB copied                      {}  {}\n\
         syncs a block                         {}  {}",
        options.blocks,
        size(options.block_size),
        options.replication,
        options.datanodes,
        options.rounds,
        found.begins_s.text(),
        found.whole_s.text(),
        found.rate.text(),
        found.blocks_per_s.text(),
        found.most.text(),
        found.of_write.text(),
        found.write.text(),
        found.fill.text(),
        found.cpu.all().text(),
        found.cpu.text(),
        found.syncs.all().text(),
        found.syncs.text(),
    );
    let json = json!({
        "v": 1, "type": "bench", "bench": "rebuild", "own_cluster": true, "rounds": options.rounds,
        "blocks": options.blocks, "block_size": options.block_size, "replication": options.replication,
        "datanodes": options.datanodes, "processes": found.processes,
        "begins_s": found.begins_s.json(), "whole_s": found.whole_s.json(),
        "copied": {
            "mb_per_s": found.rate.json(), "blocks_per_s": found.blocks_per_s.json(),
            "cpu_s_per_gib": found.cpu.json(), "syncs_per_block": found.syncs.json(),
            "at_a_time_most": short(found.most.ends().1),
        },
        "of_write": found.of_write.json(),
        "write": { "bytes": options.write_bytes, "replication": WRITE_COPIES, "mb_per_s": found.write.json() },
        "fill": { "mb_per_s": found.fill.json() },
    });
    Report { text, json }
}
