//! A namenode as threads and sockets around the core.
//!
//! ```text
//!   tokio tasks: the port with its doors, operations pages
//!        │ Message::Call (bounded)
//!   "nn-apply" thread: drives the core ──PersistBatch──▶ "nn-commit" thread: LogWriter, one sync for all that waits
//!        │                            ◀──Persisted────
//!        └──ImageJob──▶ "nn-image" thread, while operations go on
//! ```
//!
//! Everything stops through one token: the door finishes calls under way, then the apply thread ends, then
//! the committer. A disk error of the log ends the server with its reason: it is never retried.

mod driver;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use base::clock::{Clock, SystemClock};
use base::disk::Disk;
use base::http::Readiness;
use base::metrics::Metrics;
use base::random::{OsRandom, Randomness};
use base::task::{CancellationToken, TaskTracker};
use proto::ids::{ClusterId, MemberId, PoolId};
use tokio::task::JoinHandle;

use crate::config::{BadSetting, NamenodeConfig};
use crate::consensus::{Consensus, ConsensusError, Identity};
use crate::core::{CoreConfig, NamenodeCore, OpenError, OpenedCore, Shared};
use crate::doors::{Desk, DeskLimits, Port, PortFigures};
use crate::metrics::Figures;

pub use driver::Message;

/// Messages that may wait for the apply thread.
const QUEUE: usize = 8192;
/// Time that calls under way have after the token is cancelled.
const DRAIN: Duration = Duration::from_secs(5);

/// A namenode that runs.
#[derive(Debug)]
pub struct Running {
    /// Address for clients and datanodes.
    pub address: SocketAddr,
    /// Address of the operations pages.
    pub http: SocketAddr,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its block pool.
    pub pool: PoolId,
    /// This member.
    pub member: MemberId,
    /// Was the folder formatted by this start?
    pub formatted: bool,
    /// The state, for those who look at it without a call.
    pub shared: Arc<Shared>,
    /// Cancel it to stop.
    pub shutdown: CancellationToken,
    /// Ends when everything has stopped; an error if it stopped by itself.
    pub join: JoinHandle<Result<(), ServerError>>,
}

/// Why a namenode does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings cannot work.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The folder cannot be used.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// A socket, a thread or a task.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The core cannot go on.
    #[error("the namenode stopped: {0}")]
    Stopped(String),
}

impl From<ConsensusError> for ServerError {
    fn from(error: ConsensusError) -> Self {
        Self::Storage(OpenError::Consensus(error))
    }
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ServerError {
    move |source| ServerError::Io { what, source }
}

/// Starts a namenode on the current tokio runtime; it leads and answers a moment later (see readiness).
///
/// # Errors
/// [`ServerError`]; nothing runs then.
///
/// # Cancel safety
/// Dropping the future before it ends may leave threads running: cancel `shutdown` instead.
pub async fn start(config: NamenodeConfig, shutdown: CancellationToken) -> Result<Running, ServerError> {
    config.validate()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let listener = base::net::listen(config.listen).await.map_err(io("listen for clients"))?;
    let pages = base::net::listen(config.http).await.map_err(io("listen for the operations pages"))?;
    let address = listener.local_addr().map_err(io("listen for clients"))?;
    let http = pages.local_addr().map_err(io("listen for the operations pages"))?;

    let core_config = config.core()?;
    let token_life_ms = i64::try_from(core_config.token_life.as_millis()).unwrap_or(i64::MAX);
    let (dir, opener) = (config.dir.clone(), Arc::clone(&clock));
    let opening = base::task::blocking(move || open(&dir, core_config, opener.as_ref())).await;
    let (opened, formatted) = opening.map_err(io("open the namenode's folder"))??;
    for note in &opened.notes {
        tracing::warn!("{note}");
    }

    let metrics = Metrics::new("namenode");
    let figures = Figures::new(&metrics, &opened.shared);
    let (calls, messages) = sync_channel(QUEUE);
    let identity = opened.identity.clone();
    let shared = Arc::clone(&opened.shared);
    let ended = driver::run(opened, (calls.clone(), messages), &clock, figures.clone(), shutdown.clone())
        .map_err(io("start the namenode's threads"))?;
    let limits = DeskLimits { max_calls: config.max_calls as usize, deadline: config.call_deadline.0, token_life_ms };
    let desk = Desk::new(calls.clone(), Arc::clone(&shared), clock, figures, limits);

    let tasks = TaskTracker::new();
    let ready = readiness(Arc::clone(&shared));
    let port = Port { listener, desk, limits: config.port_limits(), figures: PortFigures::new(&metrics) };
    let door = base::task::spawn_vital(&tasks, "nn-door", shutdown.clone(), {
        let serving = port.serve(Arc::clone(&ready), shutdown.clone());
        async move { serving.await.map_err(|error| ServerError::Stopped(format!("the gRPC door failed: {error}"))) }
    });
    let page = base::task::spawn(&tasks, base::http::serve(pages, ready, metrics, shutdown.clone()));
    let join = base::task::spawn(&tasks, end(shutdown.clone(), door, page, calls, ended));
    tracing::info!(%address, %http, cluster = %identity.cluster, formatted, "the namenode listens");
    Ok(Running {
        address,
        http,
        cluster: identity.cluster,
        pool: identity.pool,
        member: identity.member,
        formatted,
        shared,
        shutdown,
        join,
    })
}

/// Opens the member; formats an empty or missing folder first, and never another one.
fn open(dir: &Path, config: CoreConfig, clock: &dyn Clock) -> Result<(OpenedCore, bool), ServerError> {
    let disk: Arc<dyn Disk> = base::disk::machine();
    let random: Arc<dyn Randomness> = Arc::new(OsRandom);
    let formatted = !Consensus::is_formatted(&disk, dir)?;
    if formatted {
        Consensus::format(&disk, dir, &new_identity(random.as_ref(), clock), &config.consensus, &random)?;
    }
    let opened = NamenodeCore::open(&disk, dir, None, config, random, clock.now())?;
    Ok((opened, formatted))
}

/// Names of a new cluster of one member, in Hadoop's forms.
fn new_identity(random: &dyn Randomness, clock: &dyn Clock) -> Identity {
    let member = MemberId::from_raw(1);
    let made_ms = clock.wall_ns() / 1_000_000;
    Identity {
        cluster: ClusterId::new(&random.uuid()),
        pool: PoolId::new(&format!("{}-127.0.0.1-{made_ms}", random.below(1 << 31))),
        member,
        initial_voters: vec![member],
    }
}

/// Can it serve: does it lead, and has it found its blocks?
fn readiness(shared: Arc<Shared>) -> Readiness {
    Arc::new(move || {
        let mut reasons = Vec::new();
        let member = *shared.member.read();
        if !member.serving {
            reasons.push("this namenode does not lead yet".to_owned());
        }
        if member.log_stalled {
            reasons.push("the disk of the log does not answer".to_owned());
        }
        if shared.namespace.read().identity().is_none() {
            reasons.push("the cluster is being formatted".to_owned());
        }
        if let Some(reason) = shared.blocks.read().safe_mode() {
            reasons.push(format!("safe mode: {reason}"));
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    })
}

/// Waits for the end, by the token or by a failure, and stops everything in order.
async fn end(
    shutdown: CancellationToken,
    mut door: JoinHandle<Result<(), ServerError>>,
    page: JoinHandle<std::io::Result<()>>,
    calls: SyncSender<Message>,
    ended: driver::Ended,
) -> Result<(), ServerError> {
    shutdown.cancelled().await;
    let drained = tokio::time::timeout(DRAIN, &mut door).await;
    if drained.is_err() {
        tracing::warn!("calls were still under way after {} s: they are cut off", DRAIN.as_secs());
        door.abort();
    }
    page.abort();
    // The queue may be full of calls that nobody waits for: asking to stop must not block a worker.
    base::task::blocking(move || calls.send(Message::Stop))
        .await
        .map_err(io("stop the apply thread"))?
        .unwrap_or_default();
    let result = ended.wait().await;
    match drained {
        Ok(Ok(Err(error))) => result.and(Err(error)),
        Ok(Err(panic)) => result.and(Err(ServerError::Stopped(format!("the door failed: {panic}")))),
        _ => result,
    }
}
