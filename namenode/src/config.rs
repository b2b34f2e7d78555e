//! Settings of a namenode, as they stand in the section `[namenode]` of its file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::config::{ByteSize, HumanDuration};
use proto::log::Settings;
use serde::{Deserialize, Serialize};

use crate::blocks::BlocksConfig;
use crate::consensus::ConsensusConfig;
use crate::core::{Bootstrap, CoreConfig, InitialDirectory};
use crate::doors::PortLimits;

/// Settings of a namenode. What is replicated (`superuser`, `replication`, `block_size`, `lease_hard_limit`,
/// `directories`) is read at the first start only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamenodeConfig {
    /// Address for clients and datanodes; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address of the operations pages; port 0 takes a free one.
    pub http: SocketAddr,
    /// Accept addresses that other machines can reach, although nothing is authenticated or encrypted yet.
    pub insecure: bool,
    /// Folder of log and images. A first start formats it if it is empty or missing, and never otherwise.
    pub dir: PathBuf,
    /// The user above all permission checks.
    pub superuser: String,
    /// Default number of copies.
    pub replication: u32,
    /// Default size of a block.
    pub block_size: ByteSize,
    /// Directories of a new cluster, each `PATH MODE OWNER`, parents first. None: `/tmp` (1777) and the
    /// superuser's `/user/NAME`.
    pub directories: Vec<String>,
    /// Time between heartbeats that datanodes are told.
    pub heartbeat_interval: HumanDuration,
    /// Silence after which a datanode is stale.
    pub stale_after: HumanDuration,
    /// Silence after which a datanode's copies do not count and are made again elsewhere.
    pub dead_after: HumanDuration,
    /// Time after a block's commit in which missing copies are only waited for.
    pub settle: HumanDuration,
    /// Time from the begin of a leadership in which no replica is removed.
    pub delete_delay: HumanDuration,
    /// Deletes per minute that no user asked for; beyond it they stop and an alarm is logged.
    pub unasked_deletes_per_minute: u32,
    /// Silence of a writer after which its file is taken away as soon as somebody else wants to write it; `0s` stands
    /// for a minute, or for `lease_hard_limit` where that is less.
    pub lease_soft_limit: HumanDuration,
    /// Silence after which a writer's lease is taken away.
    pub lease_hard_limit: HumanDuration,
    /// Time that deleted files stay in the trash; `0s` is no trash, deletes are final.
    pub trash_interval: HumanDuration,
    /// Time between two checkpoints of the trash; `0s` stands for `trash_interval`.
    pub trash_checkpoint: HumanDuration,
    /// An access time is set again only when it is older than this; `0s` keeps none.
    pub access_time_precision: HumanDuration,
    /// Bytes of log after which an image is written.
    pub image_every: ByteSize,
    /// Size of a log segment.
    pub log_segment: ByteSize,
    /// Longest time that a call may wait, if the client names no shorter one.
    pub call_deadline: HumanDuration,
    /// Calls in work at a time; more are refused as overload.
    pub max_calls: u32,
    /// Connections of clients and datanodes at a time; more are turned away.
    pub max_connections: u32,
    /// Time that a new connection has to say which protocol it speaks.
    pub preamble_timeout: HumanDuration,
    /// Time without a call after which a connection is closed.
    pub idle_timeout: HumanDuration,
}

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

impl Default for NamenodeConfig {
    fn default() -> Self {
        let blocks = BlocksConfig::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8020)),
            http: SocketAddr::from(([127, 0, 0, 1], 9870)),
            insecure: false,
            dir: PathBuf::new(),
            superuser: String::new(),
            replication: 3,
            block_size: ByteSize(128 << 20),
            directories: Vec::new(),
            heartbeat_interval: HumanDuration(SECOND * 3),
            stale_after: HumanDuration(blocks.stale_after),
            dead_after: HumanDuration(blocks.dead_after),
            settle: HumanDuration(blocks.settle),
            delete_delay: HumanDuration(blocks.delete_delay),
            unasked_deletes_per_minute: blocks.unasked_deletes_per_minute,
            lease_soft_limit: HumanDuration(Duration::ZERO),
            lease_hard_limit: HumanDuration(SECOND * 1200),
            trash_interval: HumanDuration(Duration::ZERO),
            trash_checkpoint: HumanDuration(Duration::ZERO),
            access_time_precision: HumanDuration(SECOND * 3600),
            image_every: ByteSize(64 << 20),
            log_segment: ByteSize(ConsensusConfig::default().segment_bytes),
            call_deadline: HumanDuration(SECOND * 30),
            max_calls: 4096,
            max_connections: 4096,
            preamble_timeout: HumanDuration(SECOND * 5),
            idle_timeout: HumanDuration(SECOND * 600),
        }
    }
}

/// Settings that contradict each other or cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("namenode.{key}: {what}")]
pub struct BadSetting {
    /// Which setting.
    pub key: &'static str,
    /// What is wrong, and what to write.
    pub what: String,
}

fn bad<T>(key: &'static str, what: impl Into<String>) -> Result<T, BadSetting> {
    Err(BadSetting { key, what: what.into() })
}

/// Smallest block (HDFS: 1 MiB); small enough for tests of many blocks.
const MIN_BLOCK_BYTES: u64 = 64 << 10;
const MAX_BLOCK_BYTES: u64 = 8 << 30;
const MAX_REPLICATION: u32 = 512;
/// Soft limit of leases, if none is chosen and the hard one is not less.
const SOFT_LIMIT: Duration = Duration::from_secs(60);

impl NamenodeConfig {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// The first [`BadSetting`].
    pub fn validate(&self) -> Result<(), BadSetting> {
        for (key, address) in [("listen", self.listen), ("http", self.http)] {
            if let Err(error) = base::http::refuse_non_loopback(address, self.insecure) {
                return bad(key, error.to_string());
            }
        }
        if self.dir.as_os_str().is_empty() {
            return bad("dir", "name the folder that keeps log and images");
        }
        if auth::Caller::simple(&self.superuser, "", "").is_none() {
            return bad("superuser", format!("{:?} is not a user name", self.superuser));
        }
        if self.replication == 0 || self.replication > MAX_REPLICATION {
            return bad("replication", format!("write a number from 1 to {MAX_REPLICATION}"));
        }
        if !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&self.block_size.0) || !self.block_size.0.is_multiple_of(512) {
            return bad("block_size", "write a multiple of 512 from 64KiB to 8GiB");
        }
        if self.heartbeat_interval.0 < TENTH {
            return bad("heartbeat_interval", "write at least 100ms");
        }
        if self.stale_after.0 <= self.heartbeat_interval.0 {
            return bad("stale_after", "write more than heartbeat_interval, or every datanode is stale");
        }
        if self.dead_after.0 <= self.stale_after.0 {
            return bad("dead_after", "write more than stale_after");
        }
        if self.lease_hard_limit.0 < SECOND {
            return bad("lease_hard_limit", "write at least 1s");
        }
        let soft_limit = self.soft_limit();
        if soft_limit < TENTH || soft_limit > self.lease_hard_limit.0 {
            let text =
                "write at least 100ms, and not more than lease_hard_limit; 0s stands for a minute, or less if that is";
            return bad("lease_soft_limit", text);
        }
        if self.max_calls == 0 || self.call_deadline.0.is_zero() {
            return bad("max_calls", "max_calls and call_deadline must not be 0");
        }
        if self.max_connections == 0 {
            return bad("max_connections", "write a number above 0");
        }
        if self.preamble_timeout.0 < TENTH {
            return bad("preamble_timeout", "write at least 100ms");
        }
        if self.idle_timeout.0 < TENTH {
            return bad("idle_timeout", "write at least 100ms; datanodes call with every heartbeat");
        }
        self.initial_directories().map(|_| ())
    }

    /// The soft limit of leases that is in force.
    fn soft_limit(&self) -> Duration {
        match self.lease_soft_limit.0 {
            Duration::ZERO => SOFT_LIMIT.min(self.lease_hard_limit.0),
            chosen => chosen,
        }
    }

    /// Limits of the port.
    pub(crate) fn port_limits(&self) -> PortLimits {
        PortLimits {
            max_connections: self.max_connections as usize,
            preamble: self.preamble_timeout.0,
            idle: self.idle_timeout.0,
        }
    }

    fn initial_directories(&self) -> Result<Vec<InitialDirectory>, BadSetting> {
        let made = |path: &str, mode, owner: &str| InitialDirectory { path: path.into(), mode, owner: owner.into() };
        if self.directories.is_empty() {
            let home = format!("/user/{}", self.superuser);
            return Ok(vec![
                made("/tmp", 0o1777, &self.superuser),
                made("/user", 0o755, &self.superuser),
                made(&home, 0o755, &self.superuser),
            ]);
        }
        let parse = |text: &String| {
            let mut parts = text.split_whitespace();
            let (path, mode, owner) = (parts.next()?, parts.next()?, parts.next()?);
            let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)?;
            proto::path::FsPath::parse(path).ok().filter(|_| parts.next().is_none()).map(|_| made(path, mode, owner))
        };
        let parse =
            |text| parse(text).ok_or_else(|| format!("{text:?} is not PATH MODE OWNER, such as \"/tmp 1777 root\""));
        let all: Result<Vec<_>, String> = self.directories.iter().map(parse).collect();
        all.or_else(|what| bad("directories", what))
    }

    /// The core's settings.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn core(&self) -> Result<CoreConfig, BadSetting> {
        let settings = Settings {
            superuser_group: "supergroup".to_owned(),
            default_replication: self.replication,
            default_block_size_bytes: self.block_size.0,
            max_replication: MAX_REPLICATION,
            min_block_size_bytes: MIN_BLOCK_BYTES,
            max_block_size_bytes: MAX_BLOCK_BYTES,
            lease_hard_limit_ms: self.lease_hard_limit.0.as_millis() as u64,
            feature_level: 1,
            max_blocks_per_file: 10_000,
            max_directory_entries: 16 << 20,
            trash_interval_ms: self.trash_interval.0.as_millis() as u64,
            trash_checkpoint_ms: self.trash_checkpoint.0.as_millis() as u64,
            access_time_precision_ms: self.access_time_precision.0.as_millis() as u64,
        };
        Ok(CoreConfig {
            consensus: ConsensusConfig { segment_bytes: self.log_segment.0, ..ConsensusConfig::default() },
            blocks: BlocksConfig {
                stale_after: self.stale_after.0,
                dead_after: self.dead_after.0,
                settle: self.settle.0,
                delete_delay: self.delete_delay.0,
                unasked_deletes_per_minute: self.unasked_deletes_per_minute,
                ..BlocksConfig::default()
            },
            heartbeat_interval: self.heartbeat_interval.0,
            lease_soft_limit: self.soft_limit(),
            image_every_bytes: self.image_every.0,
            bootstrap: Some(Bootstrap {
                superuser: self.superuser.clone(),
                settings,
                directories: self.initial_directories()?,
            }),
            ..CoreConfig::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> NamenodeConfig {
        NamenodeConfig { dir: "/d".into(), superuser: "ana".into(), ..NamenodeConfig::default() }
    }

    #[test]
    fn each_bad_setting_is_named() {
        assert_eq!(good().validate(), Ok(()));
        type Break = fn(&mut NamenodeConfig);
        let cases: [(&str, Break); 10] = [
            ("dir", |c| c.dir = PathBuf::new()),
            ("superuser", |c| c.superuser = "a b".into()),
            ("replication", |c| c.replication = 0),
            ("block_size", |c| c.block_size = ByteSize(1000)),
            ("listen", |c| c.listen = SocketAddr::from(([0, 0, 0, 0], 1))),
            ("stale_after", |c| c.stale_after = HumanDuration(SECOND)),
            ("lease_soft_limit", |c| c.lease_soft_limit = HumanDuration(SECOND * 1201)),
            ("lease_hard_limit", |c| c.lease_hard_limit = HumanDuration(TENTH)),
            ("dead_after", |c| c.dead_after = HumanDuration(SECOND)),
            ("directories", |c| c.directories = vec!["/x 9999 ana".into()]),
        ];
        for (key, spoil) in cases {
            let mut config = good();
            spoil(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
        let open = NamenodeConfig { insecure: true, listen: SocketAddr::from(([0, 0, 0, 0], 1)), ..good() };
        assert_eq!(open.validate(), Ok(()));
    }

    #[test]
    fn a_soft_limit_that_nobody_chose_is_never_above_the_hard_one() {
        let limits = |soft: Option<u64>, hard_secs: u64| {
            let mut config = NamenodeConfig { lease_hard_limit: HumanDuration(SECOND * hard_secs as u32), ..good() };
            if let Some(secs) = soft {
                config.lease_soft_limit = HumanDuration(Duration::from_secs(secs));
            }
            config.validate().map(|()| config.core().unwrap().lease_soft_limit.as_secs()).map_err(|bad| bad.key)
        };
        assert_eq!(limits(None, 1200), Ok(60));
        assert_eq!(limits(None, 8), Ok(8));
        assert_eq!(limits(Some(0), 8), Ok(8));
        assert_eq!(limits(Some(5), 8), Ok(5));
        assert_eq!(limits(Some(60), 8), Err("lease_soft_limit"), "both were chosen, and contradict each other");
    }

    #[test]
    fn the_default_directories_are_tmp_and_the_superusers_home() {
        let bootstrap = good().core().unwrap().bootstrap.unwrap();
        let paths: Vec<_> = bootstrap.directories.iter().map(|d| (d.path.as_str(), d.mode)).collect();
        assert_eq!(paths, [("/tmp", 0o1777), ("/user", 0o755), ("/user/ana", 0o755)]);
    }
}
