//! Times and sizes of the core.

use std::time::Duration;

use proto::log::Settings;

use crate::blocks::BlocksConfig;
use crate::consensus::ConsensusConfig;

/// Times and sizes of the core.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Time between two [`Event::Tick`](super::Event::Tick).
    pub tick: Duration,
    /// Raft and its log.
    pub consensus: ConsensusConfig,
    /// The block map.
    pub blocks: BlocksConfig,
    /// Time between heartbeats that datanodes are told.
    pub heartbeat_interval: Duration,
    /// Bytes of log after which an image is written.
    pub image_every_bytes: u64,
    /// Entries after which an image is written.
    pub image_every_entries: u64,
    /// Silence of the log after which an entry carries time forward.
    pub idle_entry: Duration,
    /// Time that `complete` and `add_block` wait for reports where receipts are missing.
    pub report_wait: Duration,
    /// Life of a block token.
    pub token_life: Duration,
    /// Silence of a writer after which others may have its file.
    pub lease_soft_limit: Duration,
    /// Commands in one entry.
    pub max_batch_commands: usize,
    /// Bytes of commands in one entry.
    pub max_batch_bytes: usize,
    /// Requests that wait for the log at most; more are refused as overload.
    pub max_waiting: usize,
    /// What the first leader does in an unformatted cluster; `None`: it waits.
    pub bootstrap: Option<Bootstrap>,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            consensus: ConsensusConfig::default(),
            blocks: BlocksConfig::default(),
            heartbeat_interval: Duration::from_secs(3),
            image_every_bytes: 64 << 20,
            image_every_entries: 1_000_000,
            idle_entry: Duration::from_secs(60),
            report_wait: Duration::from_millis(400),
            token_life: Duration::from_secs(10 * 3600),
            lease_soft_limit: Duration::from_secs(60),
            max_batch_commands: 4096,
            max_batch_bytes: 1 << 20,
            max_waiting: 65_536,
            bootstrap: None,
        }
    }
}

/// First contents of a cluster.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The user above all permission checks.
    pub superuser: String,
    /// Replicated settings.
    pub settings: Settings,
    /// Directories to make, parents first.
    pub directories: Vec<InitialDirectory>,
}

/// A directory that exists from the first moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialDirectory {
    /// Where.
    pub path: String,
    /// 12 permission bits.
    pub mode: u32,
    /// Whose; its group is that of its parent.
    pub owner: String,
}
