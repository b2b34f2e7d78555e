//! Settings of a datanode, as they stand in the section `[datanode]` of its file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::config::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

use crate::scrub::ScrubOptions;
use crate::store::{MAX_OPENED, StoreOptions};

/// Settings of a datanode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatanodeConfig {
    /// Address of the transfer server; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address of the operations pages; port 0 takes a free one.
    pub http: SocketAddr,
    /// Accept addresses that other machines can reach, although nothing is encrypted yet.
    pub insecure: bool,
    /// Folders of blocks, one for each disk. A first start gives each empty one an identity.
    pub dirs: Vec<PathBuf>,
    /// The namenodes, each `HOST:PORT`. All of them get every report.
    pub namenodes: Vec<String>,
    /// Host at which clients and other datanodes reach this one. Empty: the address of `listen`.
    pub host: String,
    /// Where the machine stands, for placement: `/rack` or `/room/rack`.
    pub rack: String,
    /// Room on each disk that blocks never use.
    pub reserve: ByteSize,
    /// How long deleted replicas are kept while there is room.
    pub trash_keep: HumanDuration,
    /// Nothing new is begun on a disk of which a call has not come back for this long.
    pub disk_slow_after: HumanDuration,
    /// Replicas on a disk of which a call has not come back for this long count as away, until it works again.
    pub disk_hung_after: HumanDuration,
    /// Bytes a second that the scrubber of each disk reads at most; 0: there is none.
    pub scrub_rate: ByteSize,
    /// Every replica is read and compared with its checksums once in this time, if `scrub_rate` allows for it.
    pub scrub_period: HumanDuration,
    /// Copies that this node makes at a time for blocks that lack some; as many again for blocks with one copy left.
    pub copy_streams: u32,
    /// Bytes a second that it sends for them, those of blocks with one copy left excepted; 0: as fast as it can.
    pub copy_rate: ByteSize,
    /// Time between full reports of a storage. Between them only changes are told.
    pub full_report: HumanDuration,
    /// Data connections at a time; more are closed as they come.
    pub max_connections: u32,
    /// Silence on a data connection after which it is closed while an operation is under way. Longer than the
    /// heartbeats of writers (15 s; Hadoop's: 30 s).
    pub peer_timeout: HumanDuration,
    /// Where readers on this machine are lent descriptors: a path of a Unix socket, whose folder says who may reach it;
    /// `auto` for `local.sock` in the first folder of blocks, which only this process' user can; or `off`.
    pub local_socket: String,
    /// Replicas whose descriptors are lent at a time, three quarters of them to one user at most; other readers use the
    /// transfer server. Connections of the local door are shared alike: as many as `max_connections`.
    pub max_loans: u32,
}

/// [`DatanodeConfig::local_socket`]: choose a path.
pub const LOCAL_AUTO: &str = "auto";
/// [`DatanodeConfig::local_socket`]: have none.
pub const LOCAL_OFF: &str = "off";
const SECOND: Duration = Duration::from_secs(1);
/// Slower ones would let a packet wait for longer than its receiver does.
const MIN_COPY_RATE: u64 = 1 << 20;
const MAX_COPY_STREAMS: u32 = 256;
/// A slower scrubber would rest for minutes between two reads.
const MIN_SCRUB_RATE: u64 = 64 * 1024;

impl Default for DatanodeConfig {
    fn default() -> Self {
        let store = StoreOptions::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9866)),
            http: SocketAddr::from(([127, 0, 0, 1], 9864)),
            insecure: false,
            dirs: Vec::new(),
            namenodes: vec!["127.0.0.1:8020".to_owned()],
            host: String::new(),
            rack: "/default-rack".to_owned(),
            reserve: ByteSize(store.reserve_bytes),
            trash_keep: HumanDuration(store.trash_keep),
            disk_slow_after: HumanDuration(store.slow_after),
            disk_hung_after: HumanDuration(store.hung_after),
            scrub_rate: ByteSize(8 << 20),
            scrub_period: HumanDuration(SECOND * 21 * 24 * 3600),
            copy_streams: 4,
            copy_rate: ByteSize(128 << 20),
            full_report: HumanDuration(SECOND * 6 * 3600),
            max_connections: 4096,
            peer_timeout: HumanDuration(SECOND * 60),
            local_socket: LOCAL_AUTO.to_owned(),
            max_loans: store.max_loans as u32,
        }
    }
}

/// Settings that contradict each other or cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("datanode.{key}: {what}")]
pub struct BadSetting {
    /// Which setting.
    pub key: &'static str,
    /// What is wrong, and what to write.
    pub what: String,
}

fn bad<T>(key: &'static str, what: impl Into<String>) -> Result<T, BadSetting> {
    Err(BadSetting { key, what: what.into() })
}

impl DatanodeConfig {
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
        if self.dirs.is_empty() || self.dirs.iter().any(|dir| dir.as_os_str().is_empty()) {
            return bad("dirs", "name at least one folder for blocks, such as [\"/data/1\"]");
        }
        if let Some((at, dir)) =
            self.dirs.iter().enumerate().find(|(at, dir)| self.dirs.iter().take(*at).any(|d| d == *dir))
        {
            return bad("dirs", format!("{} is named twice (entry {})", dir.display(), at + 1));
        }
        if self.namenodes.is_empty() {
            return bad("namenodes", "name at least one namenode, such as [\"127.0.0.1:8020\"]");
        }
        for namenode in &self.namenodes {
            let port =
                namenode.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) || namenode.contains(['/', ' ']) {
                return bad("namenodes", format!("{namenode:?} is not HOST:PORT"));
            }
        }
        if self.host.is_empty() && self.listen.ip().is_unspecified() {
            return bad(
                "host",
                "name the host at which others reach this node: listen is an address of every interface",
            );
        }
        if !self.rack.starts_with('/') || self.rack.contains(char::is_whitespace) {
            return bad("rack", format!("{:?} is not a place such as \"/rack-1\"", self.rack));
        }
        if self.max_connections == 0 {
            return bad("max_connections", "write at least 1");
        }
        if self.peer_timeout.0 < SECOND {
            return bad("peer_timeout", "write at least 1s");
        }
        if self.disk_slow_after.0 < SECOND / 2 {
            return bad("disk_slow_after", "write at least 500ms: a busy disk is not a slow one");
        }
        if self.disk_hung_after.0 < self.disk_slow_after.0 {
            return bad("disk_hung_after", "write at least as much as disk_slow_after");
        }
        if (1..MIN_SCRUB_RATE).contains(&self.scrub_rate.0) {
            return bad("scrub_rate", "write at least 64KiB, or 0 for no scrubber");
        }
        if self.scrub_period.0 < SECOND {
            return bad("scrub_period", "write at least 1s");
        }
        if !(1..=MAX_COPY_STREAMS).contains(&self.copy_streams) {
            return bad("copy_streams", format!("write a number from 1 to {MAX_COPY_STREAMS}"));
        }
        if (1..MIN_COPY_RATE).contains(&self.copy_rate.0) {
            return bad("copy_rate", "write at least 1MiB, or 0 for no limit");
        }
        if ![LOCAL_AUTO, LOCAL_OFF].contains(&self.local_socket.as_str())
            && let Err(error) = base::net::unix::check_path(self.local_socket.as_ref())
        {
            return bad("local_socket", format!("{:?}: {error}; or write \"auto\" or \"off\"", self.local_socket));
        }
        if self.max_loans == 0 {
            return bad("max_loans", "write at least 1; or local_socket = \"off\"");
        }
        if self.full_report.0 < SECOND {
            return bad("full_report", "write at least 1s");
        }
        Ok(())
    }

    /// The host that is told to the namenodes.
    #[must_use]
    pub fn advertised_host(&self) -> String {
        if self.host.is_empty() { self.listen.ip().to_string() } else { self.host.clone() }
    }

    /// The scrubbers' settings.
    #[must_use]
    pub const fn scrub(&self) -> ScrubOptions {
        ScrubOptions { rate_bytes_per_s: self.scrub_rate.0, period: self.scrub_period.0 }
    }
    /// The store's settings.
    #[must_use]
    pub const fn store(&self) -> StoreOptions {
        let max_loans = self.max_loans as usize;
        let (reserve_bytes, trash_keep) = (self.reserve.0, self.trash_keep.0);
        let (slow_after, hung_after) = (self.disk_slow_after.0, self.disk_hung_after.0);
        StoreOptions { reserve_bytes, trash_keep, slow_after, hung_after, max_loans, max_opened: MAX_OPENED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_setting_is_named() {
        let good = || DatanodeConfig { dirs: vec!["/d".into()], ..DatanodeConfig::default() };
        assert_eq!(good().validate(), Ok(()));
        type Break = fn(&mut DatanodeConfig);
        let cases: [(&str, Break); 23] = [
            ("disk_slow_after", |c| c.disk_slow_after = HumanDuration(Duration::ZERO)),
            ("disk_hung_after", |c| c.disk_hung_after = HumanDuration(SECOND)),
            ("listen", |c| c.listen = SocketAddr::from(([0, 0, 0, 0], 1))),
            ("http", |c| c.http = SocketAddr::from(([10, 0, 0, 1], 1))),
            ("dirs", |c| c.dirs.clear()),
            ("dirs", |c| c.dirs = vec!["/a".into(), "/b".into(), "/a".into()]),
            ("dirs", |c| c.dirs = vec![PathBuf::new()]),
            ("namenodes", |c| c.namenodes.clear()),
            ("namenodes", |c| c.namenodes = vec!["localhost".into()]),
            ("namenodes", |c| c.namenodes = vec!["blockyard://h:8020".into()]),
            ("namenodes", |c| c.namenodes = vec!["h:0".into()]),
            ("host", |c| (c.listen, c.insecure) = (SocketAddr::from(([0, 0, 0, 0], 1)), true)),
            ("rack", |c| c.rack = "rack 1".into()),
            ("max_connections", |c| c.max_connections = 0),
            ("scrub_rate", |c| c.scrub_rate = ByteSize(1)),
            ("scrub_period", |c| c.scrub_period = HumanDuration(Duration::ZERO)),
            ("copy_streams", |c| c.copy_streams = 0),
            ("copy_streams", |c| c.copy_streams = 257),
            ("copy_rate", |c| c.copy_rate = ByteSize(1)),
            ("local_socket", |c| c.local_socket = "local.sock".into()),
            ("local_socket", |c| c.local_socket = format!("/{}", "x".repeat(107))),
            ("max_loans", |c| c.max_loans = 0),
            ("peer_timeout", |c| c.peer_timeout = HumanDuration(Duration::ZERO)),
        ];
        for (key, break_it) in cases {
            let mut config = good();
            break_it(&mut config);
            assert_eq!(config.validate().map_err(|error| error.key), Err(key));
        }
    }
}
