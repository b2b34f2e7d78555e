//! The cluster: how it is built, hurt and ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::config::ByteSize;
use base::task::CancellationToken;
use client::{Client, FsError};
use datanode::config::DatanodeConfig;
use namenode::config::NamenodeConfig;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Longest time until all servers serve.
const READY: Duration = Duration::from_secs(60);
/// Longest time for one server to end.
const STOP: Duration = Duration::from_secs(20);
/// Time between two looks whether all are ready.
const LOOK: Duration = Duration::from_millis(5);
/// Copies, if there are nodes for them and nobody says otherwise.
const REPLICATION: usize = 3;
/// The superuser, as whom [`MiniCluster::client`] calls.
const USER: &str = "root";

/// Why a cluster does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MiniClusterError {
    /// There is no temporary folder.
    #[error("no temporary folder")]
    Folder(#[source] std::io::Error),
    /// The namenode does not start.
    #[error("the namenode does not start or has stopped")]
    Namenode(#[source] namenode::server::ServerError),
    /// A datanode does not start.
    #[error("a datanode does not start or has stopped")]
    Datanode(#[source] datanode::server::ServerError),
    /// A server did not end, or its task panicked.
    #[error("a server did not end well: {0}")]
    End(String),
    /// It was not ready in time.
    #[error("the cluster is not ready after {0:?}: {1}")]
    NotReady(Duration, String),
    /// A call of its client failed.
    #[error(transparent)]
    Call(#[from] FsError),
    /// There is no such datanode.
    #[error("there is no datanode {0}; they are counted from 0")]
    NoSuchNode(usize),
}

type Result<T> = std::result::Result<T, MiniClusterError>;

/// How a cluster is built.
#[derive(Clone, Debug)]
pub struct MiniClusterBuilder {
    datanodes: usize,
    replication: Option<u32>,
    block_size_bytes: Option<u64>,
}

impl MiniClusterBuilder {
    /// Number of datanodes; 1 unless set.
    #[must_use]
    pub const fn datanodes(mut self, datanodes: usize) -> Self {
        self.datanodes = datanodes;
        self
    }
    /// Copies of new files; as many as there are nodes, 3 at most, unless set.
    #[must_use]
    pub const fn replication(mut self, replication: u32) -> Self {
        self.replication = Some(replication);
        self
    }
    /// Size of the blocks of new files in bytes; the servers' default unless set. 64 KiB is the smallest.
    #[must_use]
    pub const fn block_size_bytes(mut self, block_size_bytes: u64) -> Self {
        self.block_size_bytes = Some(block_size_bytes);
        self
    }

    /// Starts the cluster on the current tokio runtime and waits until every server serves.
    ///
    /// # Errors
    /// [`MiniClusterError`]; nothing keeps running then.
    ///
    /// # Cancel safety
    /// What was started stops by itself if the future is dropped.
    pub async fn start(self) -> Result<MiniCluster> {
        let dir = tempfile::Builder::new().prefix("minicluster-").tempdir().map_err(MiniClusterError::Folder)?;
        let copies = self.replication.unwrap_or(self.datanodes.clamp(1, REPLICATION) as u32);
        let mut config = NamenodeConfig {
            listen: free_port(),
            http: free_port(),
            dir: dir.path().join("namenode"),
            superuser: USER.to_owned(),
            replication: copies,
            ..NamenodeConfig::default()
        };
        if let Some(block_size_bytes) = self.block_size_bytes {
            config.block_size = ByteSize(block_size_bytes);
        }
        let stop = StopOnDrop(CancellationToken::new());
        let running = namenode::server::start(config, stop.0.clone()).await.map_err(MiniClusterError::Namenode)?;
        let namenode = Namenode { address: running.address, join: running.join };
        let mut cluster = MiniCluster { namenode, datanodes: Vec::new(), stop, dir };
        match cluster.fill(self.datanodes).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                // The folder goes only when nobody writes to it any more. The first error is the one to know.
                drop(cluster.shutdown().await);
                Err(error)
            }
        }
    }
}

/// A running cluster. Dropping it stops all servers, without waiting for their ends, and removes the folder;
/// [`MiniCluster::shutdown`] waits.
#[derive(Debug)]
pub struct MiniCluster {
    namenode: Namenode,
    datanodes: Vec<Option<Datanode>>,
    stop: StopOnDrop,
    dir: TempDir,
}

#[derive(Debug)]
struct Namenode {
    address: SocketAddr,
    join: JoinHandle<std::result::Result<(), namenode::server::ServerError>>,
}

#[derive(Debug)]
struct Datanode {
    id: String,
    address: SocketAddr,
    ready: datanode::server::Ready,
    stop: CancellationToken,
    join: JoinHandle<std::result::Result<(), datanode::server::ServerError>>,
}

#[derive(Debug)]
struct StopOnDrop(CancellationToken);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl MiniCluster {
    /// Begins to build a cluster.
    #[must_use]
    pub const fn builder() -> MiniClusterBuilder {
        MiniClusterBuilder { datanodes: 1, replication: None, block_size_bytes: None }
    }

    /// Starts a cluster of so many datanodes with the servers' defaults.
    ///
    /// # Errors
    /// As [`MiniClusterBuilder::start`].
    ///
    /// # Cancel safety
    /// As [`MiniClusterBuilder::start`].
    pub async fn start(datanodes: usize) -> Result<Self> {
        Self::builder().datanodes(datanodes).start().await
    }

    /// Address for clients: `blockyard://127.0.0.1:PORT`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("blockyard://{}", self.namenode.address)
    }

    /// A new client, as the superuser. To call as somebody else, build one with [`MiniCluster::uri`].
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::builder().connect(self.uri()).user(USER).build()?)
    }

    /// Identity of a datanode that runs, as located blocks name it; datanodes are counted from 0.
    #[must_use]
    pub fn datanode_id(&self, number: usize) -> Option<&str> {
        self.running(number).map(|node| node.id.as_str())
    }

    /// Address of a running datanode's data port.
    #[must_use]
    pub fn datanode_address(&self, number: usize) -> Option<SocketAddr> {
        self.running(number).map(|node| node.address)
    }

    /// Folder of a datanode's blocks, whether it runs or not.
    #[must_use]
    pub fn datanode_dir(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("dn{}", number + 1))
    }

    /// Stops a datanode and waits for its end. Its blocks stay in its folder. One that is stopped already stays so.
    ///
    /// # Errors
    /// [`MiniClusterError::NoSuchNode`]; how the node ended, if not well.
    ///
    /// # Cancel safety
    /// The node stops anyway.
    pub async fn stop_datanode(&mut self, number: usize) -> Result<()> {
        let node = self.datanodes.get_mut(number).ok_or(MiniClusterError::NoSuchNode(number))?;
        let Some(node) = node.take() else { return Ok(()) };
        node.stop.cancel();
        ended(node.join).await?.map_err(MiniClusterError::Datanode)
    }

    /// Starts a stopped datanode with its folder, on another port, and waits until it has reported.
    ///
    /// # Errors
    /// As [`MiniClusterBuilder::start`].
    ///
    /// # Cancel safety
    /// The node stops if the future is dropped while it starts.
    pub async fn start_datanode(&mut self, number: usize) -> Result<()> {
        if self.datanodes.get(number).ok_or(MiniClusterError::NoSuchNode(number))?.is_some() {
            return Ok(());
        }
        let node = self.launch(number).await?;
        if let Some(place) = self.datanodes.get_mut(number) {
            *place = Some(node);
        }
        let running = self.datanodes.iter().flatten().count();
        self.until_ready(running).await
    }

    /// Stops all servers, waits for their ends, and removes the folder.
    ///
    /// # Errors
    /// The first server that did not end well.
    pub async fn shutdown(mut self) -> Result<()> {
        let mut first = Ok(());
        for number in 0..self.datanodes.len() {
            first = first.and(self.stop_datanode(number).await);
        }
        self.stop.0.cancel();
        let namenode = ended(self.namenode.join).await.and_then(|end| end.map_err(MiniClusterError::Namenode));
        let folder = self.dir.close().map_err(MiniClusterError::Folder);
        first.and(namenode).and(folder)
    }

    /// Starts its datanodes and waits until all serve.
    async fn fill(&mut self, datanodes: usize) -> Result<()> {
        for number in 0..datanodes {
            let node = self.launch(number).await?;
            self.datanodes.push(Some(node));
        }
        self.until_ready(datanodes).await
    }

    fn running(&self, number: usize) -> Option<&Datanode> {
        self.datanodes.get(number)?.as_ref()
    }

    async fn launch(&self, number: usize) -> Result<Datanode> {
        let config = DatanodeConfig {
            listen: free_port(),
            http: free_port(),
            dirs: vec![self.datanode_dir(number)],
            namenodes: vec![self.namenode.address.to_string()],
            ..DatanodeConfig::default()
        };
        let stop = self.stop.0.child_token();
        let running = datanode::server::start(config, stop.clone()).await.map_err(MiniClusterError::Datanode)?;
        Ok(Datanode {
            id: running.node.to_string(),
            address: running.address,
            ready: running.ready,
            stop,
            join: running.join,
        })
    }

    /// Waits until the namenode has left its safe mode and knows the storages of `wanted` live nodes, each at its
    /// present address, and these nodes know that.
    async fn until_ready(&self, wanted: usize) -> Result<()> {
        let client = self.client()?;
        let mut last = String::from("no answer");
        let looks = async {
            loop {
                match self.look(&client, wanted).await {
                    Ok(()) => return,
                    Err(why) => last = why,
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(READY, looks).await;
        waited.map_err(|elapsed| MiniClusterError::NotReady(READY, format!("{last} ({elapsed})")))
    }

    async fn look(&self, client: &Client, wanted: usize) -> std::result::Result<(), String> {
        let status = client.status().await.map_err(|error| error.to_string())?;
        if status.safe_mode {
            return Err(format!("safe mode: {}", status.safe_mode_reason));
        }
        let nodes = client.nodes().await.map_err(|error| error.to_string())?;
        let serves = |node: &&client::NodeStatus| {
            let here = |one: &Datanode| one.id == node.node && u32::from(one.address.port()) == node.transfer_port;
            node.state == "live" && !node.storages.is_empty() && self.datanodes.iter().flatten().any(here)
        };
        let ready = nodes.iter().filter(serves).count();
        // The namenode names a node before that has its keys: a writer that comes earlier is refused.
        for node in self.datanodes.iter().flatten() {
            node.ready.check().map_err(|reasons| format!("datanode {}: {}", node.id, reasons.join(", ")))?;
        }
        if ready < wanted { Err(format!("{ready} of {wanted} datanodes have reported")) } else { Ok(()) }
    }
}

fn free_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The end of a server that was told to stop.
async fn ended<T>(join: JoinHandle<T>) -> Result<T> {
    let joined = tokio::time::timeout(STOP, join).await;
    let joined = joined.map_err(|elapsed| MiniClusterError::End(format!("it still runs ({elapsed})")))?;
    joined.map_err(|error| MiniClusterError::End(error.to_string()))
}
