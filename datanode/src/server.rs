//! A datanode as threads and sockets around the node.
//!
//! ```text
//!   tokio: accept (caps) ─▶ one thread a data connection ─▶ write.rs (a second thread for acks) / read.rs / verify.rs
//!          local door: a task a connection ─▶ local.rs lends descriptors
//!          operations pages                                        │ changes
//!   "dn-agent" thread: drives the agent  ◀─────────────────────────┘
//!        │ calls as tasks, one a namenode and kind ──▶ namenodes
//!        └ deletes, copies, terms as blocking tasks
//!   "dn-upkeep-<n>" threads, one a disk: old trash, room, a check of a disk that hung
//!   "dn-scrub-<n>" threads, one a disk: read replicas and compare them with their checksums
//! ```
//!
//! Everything stops through one token: nothing more is accepted, idle connections are closed at once, busy ones
//! have a few seconds, then the agent and the rest end. A full or failing disk ends no thread.

mod acceptor;
mod agent;
mod calls;
mod catch_up;
mod connection;
mod copy;
mod local;
mod peer;
mod places;
mod read;
mod scrub;
mod upkeep;
mod verify;
mod write;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base::clock::{Clock, SystemClock};
use base::http::Readiness;
use base::metrics::Metrics;
use base::random::OsRandom;
use base::task::{CancellationToken, TaskTracker};
use proto::ids::NodeId;
use tokio::task::JoinHandle;

use crate::agent::{Agent, AgentConfig};
use crate::config::{BadSetting, DatanodeConfig};
use crate::metrics::Figures;
use crate::node::Node;
use crate::store::{Store, StoreError};
use acceptor::{Acceptor, Connections};
use agent::{AgentThread, Wake};
use calls::Namenodes;

/// Time that operations under way have after the token is cancelled.
const DRAIN: Duration = Duration::from_secs(5);

/// A datanode that runs.
#[derive(Debug)]
pub struct Running {
    /// Address of the transfer server.
    pub address: SocketAddr,
    /// Address of the operations pages.
    pub http: SocketAddr,
    /// Says whether it can serve.
    pub ready: Ready,
    /// This node.
    pub node: NodeId,
    /// Cancel it to stop.
    pub shutdown: CancellationToken,
    /// Ends when everything has stopped; an error if it stopped by itself.
    pub join: JoinHandle<Result<(), ServerError>>,
}

/// What the page `/readyz` says, for those who have the node in their own process.
#[derive(Clone)]
pub struct Ready(base::http::Readiness);

impl Ready {
    /// Has a namenode taken the node and its reports, and does a disk work? Before, it refuses whatever is asked of it:
    /// it has no keys yet, though the namenode may name it to writers already.
    ///
    /// # Errors
    /// Why it cannot serve, for people.
    pub fn check(&self) -> Result<(), Vec<String>> {
        (self.0)()
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ready").field(&self.check()).finish()
    }
}

/// Why a datanode does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings cannot work.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// No folder can be used.
    #[error("{}", crate::receive::chain(.0))]
    Storage(StoreError),
    /// A socket, a thread or a task.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Every namenode of the list says that this node does not belong to its cluster.
    #[error("{0}")]
    WrongCluster(String),
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ServerError {
    move |source| ServerError::Io { what, source }
}

/// What every thread of the server needs.
#[derive(Clone, Debug)]
struct Context {
    node: Arc<Node>,
    clock: Arc<dyn Clock>,
    figures: Figures,
    /// Tells the agent that replicas changed.
    wake: Wake,
    copies: Arc<copy::Copies>,
    /// Silence after which a peer counts as gone.
    peer_timeout: Duration,
    /// What all verifications together may read.
    verifying: Arc<verify::Throttle>,
    stop: CancellationToken,
}

impl Context {
    /// Wall time, for the end of tokens only.
    fn wall_ms(&self) -> i64 {
        self.clock.wall_ns() / 1_000_000
    }
}

/// Starts a datanode on the current tokio runtime; it is registered and has reported a moment later (see readiness).
///
/// # Errors
/// [`ServerError`]; nothing runs then.
///
/// # Cancel safety
/// Dropping the future before it ends may leave threads running: cancel `shutdown` instead.
pub async fn start(config: DatanodeConfig, shutdown: CancellationToken) -> Result<Running, ServerError> {
    config.validate()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let listener = base::net::listen(config.listen).await.map_err(io("listen for data"))?;
    let pages = base::net::listen(config.http).await.map_err(io("listen for the operations pages"))?;
    let address = listener.local_addr().map_err(io("listen for data"))?;
    let http = pages.local_addr().map_err(io("listen for the operations pages"))?;
    let namenodes = Namenodes::new(&config.namenodes)?;

    let node = open(&config, &clock).await?;
    let metrics = Metrics::new("datanode");
    let figures = Figures::new(&metrics, &node);
    let door = local::listen(&config, &node)?;
    let mut told = agent_config(&config, address, http);
    told.local_socket = door.as_ref().map(|door| door.path().display().to_string()).unwrap_or_default();
    let agent = Agent::new(told, &node);
    let (wake, inbox) = Wake::new();
    let peer_timeout = config.peer_timeout.0;
    let clock_now = clock.now();
    let context = Context {
        node: Arc::clone(&node),
        clock,
        figures,
        wake: wake.clone(),
        copies: Arc::new(copy::Copies::new(&config)),
        peer_timeout,
        verifying: Arc::new(verify::Throttle::new(clock_now)),
        stop: shutdown.clone(),
    };

    let connections = Connections::new(config.max_connections as usize);
    let talk = AgentThread::start(agent, context.clone(), namenodes, Arc::clone(&connections), inbox)
        .map_err(io("start the agent's thread"))?;
    let upkeep = upkeep::start(&context).map_err(io("start the upkeep thread"))?;
    let scrubbers = scrub::start(&context, config.scrub()).map_err(io("start the scrubbers' threads"))?;
    let tasks = TaskTracker::new();
    let lending = door.map(|door| {
        let limit = config.max_connections as usize;
        let door = local::LocalDoor::new(door, context.clone(), limit);
        base::task::spawn_vital(&tasks, "dn-local", shutdown.clone(), door.run())
    });
    let acceptor = Acceptor { listener, context, connections: Arc::clone(&connections) };
    let accepting = base::task::spawn_vital(&tasks, "dn-accept", shutdown.clone(), acceptor.run());
    let ready = readiness(Arc::downgrade(&node), talk.status());
    let page = base::task::spawn(&tasks, base::http::serve(pages, Arc::clone(&ready), metrics, shutdown.clone()));
    let end = End { shutdown: shutdown.clone(), accepting, lending, page, connections, talk, upkeep, scrubbers };
    let join = base::task::spawn(&tasks, end.wait());
    tracing::info!(%address, %http, node = %node.id(), "the datanode listens");
    Ok(Running { address, http, ready: Ready(ready), node: node.id().clone(), shutdown, join })
}

async fn open(config: &DatanodeConfig, clock: &Arc<dyn Clock>) -> Result<Arc<Node>, ServerError> {
    let dirs = config.dirs.iter().map(std::path::absolute).collect::<Result<Vec<PathBuf>, _>>();
    let (dirs, options, clock) = (dirs.map_err(io("find the folders"))?, config.store(), Arc::clone(clock));
    let opening = base::task::blocking(move || {
        let disk = base::disk::machine();
        Store::open_apart(&disk, &dirs, options, &OsRandom, clock.as_ref())
    });
    let (store, problems) = opening.await.map_err(io("open the folders"))?.map_err(ServerError::Storage)?;
    for problem in &problems {
        tracing::error!(error = %crate::receive::chain(problem), "a folder is left out; the others are used");
    }
    Ok(Arc::new(Node::new(store)))
}

fn agent_config(config: &DatanodeConfig, address: SocketAddr, http: SocketAddr) -> AgentConfig {
    let host = config.advertised_host();
    AgentConfig {
        namenodes: config.namenodes.len(),
        http_address: format!("{host}:{}", http.port()),
        host,
        transfer_port: address.port(),
        rack: config.rack.clone(),
        machine: base::process::machine(),
        // Until it listens.
        local_socket: String::new(),
        // Until a namenode says its own.
        heartbeat: Duration::from_secs(3),
        full_report: config.full_report.0,
        copy_streams: config.copy_streams,
        copy_rate_bytes_per_s: config.copy_rate.0,
    }
}

/// Can it serve: does a namenode know its blocks, and does a disk work?
fn readiness(node: Weak<Node>, status: Arc<agent::Status>) -> Readiness {
    Arc::new(move || {
        // Whoever asks keeps no folder locked.
        let Some(node) = node.upgrade() else { return Err(vec!["the node has ended".to_owned()]) };
        let mut reasons = Vec::new();
        if !status.ready() {
            reasons
                .push(status.refusal().unwrap_or_else(|| "no namenode has taken this node's reports yet".to_owned()));
        }
        if node.store().counts().volumes_working == 0 {
            reasons.push("no disk works".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    })
}

/// What has to be stopped, in order.
struct End {
    shutdown: CancellationToken,
    accepting: JoinHandle<()>,
    lending: Option<JoinHandle<()>>,
    page: JoinHandle<std::io::Result<()>>,
    connections: Arc<Connections>,
    talk: AgentThread,
    upkeep: upkeep::Upkeep,
    scrubbers: scrub::Scrubbers,
}

impl End {
    /// Waits for the token and stops everything.
    async fn wait(self) -> Result<(), ServerError> {
        self.shutdown.cancelled().await;
        let failed = |what| move |panic| io(what)(std::io::Error::other(panic));
        let accepted = self.accepting.await.map_err(failed("the acceptor"));
        let lent = match self.lending {
            Some(lending) => lending.await.map_err(failed("the local door")),
            None => Ok(()),
        };
        if !self.connections.drain(DRAIN).await {
            tracing::warn!("transfers were still under way after {} s: they are cut off", DRAIN.as_secs());
        }
        self.page.abort();
        // Everything that holds the folders is waited for: who starts again finds them free.
        let aborted = self.page.await;
        tracing::debug!(?aborted, "the operations pages ended");
        let result = self.talk.stop().await;
        self.upkeep.stop().await;
        self.scrubbers.stop().await;
        result.and(accepted).and(lent)
    }
}
