//! Everything slow at once, while callers ask for the status of files.
//!
//! ```text
//!   world ──image──▶ folder ──▶ a namenode as it is shipped, on a loopback port
//!     /top/bench   N files      deleted as a whole, then reclaimed step by step
//!     /top/wide    N entries    listed from end to end, again and again
//!     images                    one after another
//!     reports                   a new datanode comes with a replica of every file that stays
//!     4 callers ─▶ stat         the time of each is what is measured
//! ```

mod callers;
mod node;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::clock::{Clock, SystemClock};
use base::config::{ByteSize, HumanDuration};
use base::disk::{Disk, OsDisk};
use base::random::{OsRandom, Randomness};
use base::task::{CancellationToken, JoinSet};
use client::Client;
use namenode::blocks::Names;
use namenode::config::NamenodeConfig;
use namenode::consensus::{Consensus, ConsensusConfig, Identity, ImageMeta};
use namenode::server::Running;
use proto::cluster::cluster_client::ClusterClient;
use proto::ids::{BlockId, ClusterId, MemberId, PoolId};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use self::callers::{Callers, Times};
use self::node::FakeNode;
use super::world::{self, World};
use super::{Outcome, report::Report};

/// Time in which only the callers call.
const QUIET: Duration = Duration::from_secs(3);
const CALLERS: usize = 4;
/// Datanodes; every block is on three of them.
const NODES: u64 = 3;
const HEARTBEAT: Duration = Duration::from_millis(500);
/// So little log is there between two images that one follows the other.
const IMAGE_EVERY: ByteSize = ByteSize(32 << 10);
const POLL: Duration = Duration::from_millis(20);

/// A folder that a namenode can start from, and the nodes that belong to it.
struct Prepared {
    dir: PathBuf,
    nodes: Vec<FakeNode>,
    /// Comes later, with a replica of each file that stays.
    newcomer: FakeNode,
}

/// What was done meanwhile.
#[derive(Default)]
struct Done {
    delete: Duration,
    reclaim: Duration,
    report: Duration,
    reported: u64,
    listings: u64,
    listing: Duration,
    images: u64,
}

/// Measures.
pub(super) fn measure(files: u64, folder: &Path, report: &mut Report) -> Outcome<()> {
    let prepared = prepare(files, folder)?;
    let failed = |error: std::io::Error| format!("no threads: {error}");
    let workers = base::task::server_workers();
    let server =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().map_err(failed)?;
    // What other machines would do stands back: here it shares the processors with the namenode.
    let mut load = tokio::runtime::Builder::new_multi_thread();
    load.worker_threads(1).enable_all().on_thread_start(base::process::stand_back);
    let load = load.build().map_err(failed)?;
    let config = NamenodeConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        http: ([127, 0, 0, 1], 0).into(),
        dir: prepared.dir.clone(),
        superuser: world::SUPERUSER.to_owned(),
        delete_delay: HumanDuration(Duration::from_secs(1)),
        image_every: IMAGE_EVERY,
        ..NamenodeConfig::default()
    };
    let shutdown = CancellationToken::new();
    let running = server.block_on(namenode::server::start(config, shutdown.clone())).map_err(|e| e.to_string())?;
    let measured = with_server(files, prepared, &running, &load, report);
    shutdown.cancel();
    let ended = server.block_on(running.join).map_err(|error| error.to_string())?;
    measured?;
    ended.map_err(|error| error.to_string())
}

/// Builds the state and writes it where a namenode finds it.
fn prepare(files: u64, folder: &Path) -> Outcome<Prepared> {
    let mut world = World::new(NODES, true)?;
    world.make_top()?;
    world.create_tree("top/bench", files)?;
    let first_kept = world.namespace.next_block();
    world.create_wide("top/wide", files)?;

    let mut newcomer = FakeNode::new("node-newcomer", "DS-00000099-0000-0000-0000-000000000000", "/rack-9");
    for raw in first_kept.raw()..world.namespace.next_block().raw() {
        newcomer.hold(BlockId::from_raw(raw), &world.namespace);
    }
    let mut nodes = Vec::new();
    for (node, storage, rack) in world.node_names() {
        let mut fake = FakeNode::new(&node, &storage, &rack);
        for index in world.blocks.storages_named(&[storage]) {
            fake.hold_all_of(index, &world.blocks, &world.namespace);
        }
        nodes.push(fake);
    }

    let dir = folder.join("namenode");
    let member = MemberId::from_raw(1);
    let identity = Identity {
        cluster: ClusterId::new(world::CLUSTER),
        pool: PoolId::new(world::POOL),
        member,
        initial_voters: vec![member],
    };
    let (disk, random): (_, Arc<dyn Randomness>) = (OsDisk::shared(), Arc::new(OsRandom));
    let (index, term) = world.namespace.applied();
    let meta = ImageMeta { index, term, state_hash: world.namespace.state_hash() };
    let frozen = world.namespace.freeze();
    let mut body = |out: &mut dyn std::io::Write| frozen.write_to(out).map_err(std::io::Error::other);
    Consensus::format_with_image(&disk, &dir, &identity, &ConsensusConfig::default(), &random, (meta, &mut body))
        .map_err(|error| format!("the state cannot be written: {error}"))?;
    Ok(Prepared { dir, nodes, newcomer })
}

fn client(running: &Running, user: &str) -> Outcome<Client> {
    let address = format!("blockyard://{}", running.address);
    Client::builder().connect(address).user(user).build().map_err(|error| error.to_string())
}

async fn stub(running: &Running) -> Outcome<ClusterClient<Channel>> {
    ClusterClient::connect(format!("http://{}", running.address)).await.map_err(|error| error.to_string())
}

fn with_server(files: u64, prepared: Prepared, running: &Running, load: &Runtime, report: &mut Report) -> Outcome<()> {
    let stop = CancellationToken::new();
    let Prepared { dir, nodes, newcomer } = prepared;
    let mut lives = JoinSet::new();
    load.block_on(async {
        for mut node in nodes {
            let mut stub = stub(running).await?;
            node.join(&mut stub, world::CLUSTER).await?;
            lives.spawn(node.live(stub, HEARTBEAT, stop.clone()));
        }
        leave_safe_mode(running).await
    })?;
    let callers = (0..CALLERS).map(|_| client(running, world::USER)).collect::<Outcome<Vec<_>>>()?;
    let callers = Callers { clients: callers, dir: "/top/wide".to_owned(), files };

    let quiet = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&quiet);
    let timer = load.spawn(async move {
        tokio::time::sleep(QUIET).await;
        over.store(true, Ordering::Relaxed);
    });
    let quiet = callers.run(&running.shared, &quiet)?;
    load.block_on(timer).map_err(|error| error.to_string())?;

    let mixed = Arc::new(AtomicBool::new(false));
    let mixture = Mixture {
        operator: client(running, world::USER)?,
        stub: load.block_on(stub(running))?,
        shared: Arc::clone(&running.shared),
        newcomer,
        dir,
        given_up: Arc::clone(&mixed),
    };
    let over = Arc::clone(&mixed);
    let mixing = load.spawn(async move {
        let done = mixture.run().await;
        over.store(true, Ordering::Relaxed);
        done
    });
    let times = callers.run(&running.shared, &mixed);
    let done = load.block_on(mixing).map_err(|error| error.to_string())?;
    // What the callers met says more than that they gave up.
    let times = times?;
    let done = done?;
    stop.cancel();
    while let Some(life) = load.block_on(lives.join_next()) {
        life.map_err(|error| error.to_string())??;
    }
    print(files, &quiet, &times, &done, report);
    Ok(())
}

async fn leave_safe_mode(running: &Running) -> Outcome<()> {
    let client = client(running, world::SUPERUSER)?;
    loop {
        let status = client.status().await.map_err(|error| error.to_string())?;
        if !status.safe_mode {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Everything slow.
struct Mixture {
    operator: Client,
    stub: ClusterClient<Channel>,
    shared: Arc<namenode::core::Shared>,
    newcomer: FakeNode,
    dir: PathBuf,
    /// The callers gave up: nothing will end by itself any more.
    given_up: Arc<AtomicBool>,
}

impl Mixture {
    /// Runs all of it until the deleted tree is reclaimed, the report is in and one listing came to its end.
    async fn run(self) -> Outcome<Done> {
        let Self { operator, mut stub, shared, mut newcomer, dir, given_up } = self;
        let over = AtomicBool::new(false);
        let clock = SystemClock::new();
        let started = clock.now();
        let delete_and_reclaim = async {
            operator.delete("/top/bench", true).await.map_err(|error| format!("the delete failed: {error}"))?;
            let delete = clock.now().since(started);
            while shared.namespace.read().reclaim_pending() > 0 {
                if given_up.load(Ordering::Relaxed) {
                    return Err("the callers gave up".to_owned());
                }
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, String>((delete, clock.now().since(started)))
        };
        let report = async {
            let reported = newcomer.join(&mut stub, world::CLUSTER).await?;
            Ok::<_, String>((reported, clock.now().since(started)))
        };
        let slow = async {
            let (deleted, reported) = tokio::join!(delete_and_reclaim, report);
            over.store(true, Ordering::Relaxed);
            Ok::<_, String>((deleted?, reported?))
        };
        let (slow, listed, images) = tokio::join!(slow, list(&operator, &over), watch_images(&dir, &over));
        let (((delete, reclaim), (reported, report)), (listings, listing)) = (slow?, listed?);
        Ok(Done { delete, reclaim, report, reported, listings, listing, images: images? })
    }
}

/// Lists the wide directory from end to end, until it is over. How often, and the time of the longest.
async fn list(client: &Client, over: &AtomicBool) -> Outcome<(u64, Duration)> {
    let clock = SystemClock::new();
    let (mut listings, mut longest) = (0, Duration::ZERO);
    while listings == 0 || !over.load(Ordering::Relaxed) {
        let started = clock.now();
        let mut listing = client.list("/top/wide").map_err(|error| error.to_string())?;
        while listing.next().await.map_err(|error| format!("a listing failed: {error}"))?.is_some() {}
        longest = longest.max(clock.now().since(started));
        listings += 1;
    }
    Ok((listings, longest))
}

/// Counts the images that appear.
async fn watch_images(dir: &Path, over: &AtomicBool) -> Outcome<u64> {
    let mut seen = BTreeSet::new();
    let mut first = None;
    while !over.load(Ordering::Relaxed) {
        let names = OsDisk.read_dir(dir).map_err(|error| error.to_string())?;
        let images = names.into_iter().map(|entry| entry.name).filter(|name| name.starts_with("image-"));
        seen.extend(images);
        first.get_or_insert(seen.len());
        tokio::time::sleep(POLL).await;
    }
    Ok((seen.len() - first.unwrap_or(0)) as u64)
}

fn print(files: u64, quiet: &Times, times: &Times, done: &Done, report: &mut Report) {
    report.number("files_deleted", files);
    report.number("files_kept", files);
    report.millis("delete_answered_ms", done.delete);
    report.millis("reclaimed_ms", done.reclaim);
    report.number("replicas_reported", done.reported);
    report.millis("full_report_ms", done.report);
    report.number("images_written", done.images);
    report.number("listings", done.listings);
    report.millis("longest_listing_ms", done.listing);
    for (when, times) in [("quiet", quiet), ("mixed", times)] {
        report.number(&format!("stats_{when}"), times.stats.count());
        for (what, times) in [
            ("stat", &times.stats),
            ("namespace_lock_wait", &times.namespace_lock),
            ("blocks_lock_wait", &times.blocks_lock),
            ("limit_wakeup", &times.wakeups),
        ] {
            for (share, name) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p999")] {
                report.ratio(&format!("{what}_{when}_{name}_ms"), times.quantile_us(share) / 1000.0);
            }
        }
    }
}
