//! What a mount is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, FsResult};

/// Makes the client of a user, by name: of the mount's own, and of everybody who uses it.
///
/// It should end its calls before [`MountConfig::deadline`] (see [`client::ClientBuilder::timeout`] and
/// [`client::ClientBuilder::patience`]), so that programs learn what became of them.
pub type Connect = Arc<dyn Fn(&str) -> FsResult<Client> + Send + Sync>;

/// When what programs wrote is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncAt {
    /// When a descriptor is closed, and at `fsync`.
    #[default]
    Close,
    /// At `fsync` only. What is closed is committed behind the program: sooner or later, in any order, and what cannot be
    /// committed is told to whoever opens the file next and closes or syncs it. As local file systems do.
    Fsync,
}

/// Settings of a mount.
#[derive(Clone)]
pub struct MountConfig {
    /// Makes clients.
    pub connect: Connect,
    /// The user of the cluster on whose account changed files are committed. Should be able to do what the users of the
    /// mount can: a superuser, or the only user.
    pub user: String,
    /// What the table of mounts says was mounted.
    pub source: String,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Other users of this machine may use it, too.
    pub allow_other: bool,
    /// When what programs wrote is durable. Default: at close.
    pub sync: SyncAt,
    /// Users of the cluster that have another number than this machine's tables say.
    pub users: Vec<(String, u32)>,
    /// Folder for the changed copies of files; its space is used only while files are open. Default: `/var/tmp`.
    pub cache_dir: PathBuf,
    /// Most bytes that are in it at the same time; beyond, writes get "no space". Default: 8 GiB. More needs room on the disk,
    /// less refuses changes inside large files.
    pub cache_bytes: u64,
    /// Longest time that a program waits for the cluster without anything going on. Default: 30 s. Shorter gives errors
    /// during a change of leaders, longer keeps programs waiting that nothing can help.
    pub deadline: Duration,
    /// For how long the kernel believes what it was told of a name. Default: 1 s. Longer is faster, and shows changes of
    /// others later.
    pub attribute_ttl: Duration,
    /// Most names of a directory that is read as a whole, so that the kernel may keep its listing. Default: 16,384. Longer ones
    /// are read page by page: more takes more memory for each program that reads one.
    pub max_whole_names: usize,
    /// Most requests that are worked on at the same time; others wait in the kernel. Default: 256.
    pub max_requests: usize,
    /// How far the kernel reads ahead, in KiB, where the mount may set it (as root). Default: 1024.
    pub read_ahead_kib: u32,
}

impl std::fmt::Debug for MountConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountConfig").field("source", &self.source).field("user", &self.user).finish_non_exhaustive()
    }
}

impl MountConfig {
    /// The defaults.
    #[must_use]
    pub fn new(connect: Connect, user: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            connect,
            user: user.into(),
            source: source.into(),
            read_only: false,
            allow_other: false,
            sync: SyncAt::Close,
            users: Vec::new(),
            cache_dir: PathBuf::from("/var/tmp"),
            cache_bytes: 8 << 30,
            deadline: Duration::from_secs(30),
            attribute_ttl: Duration::from_secs(1),
            max_whole_names: 16_384,
            max_requests: 256,
            read_ahead_kib: 1024,
        }
    }
}
