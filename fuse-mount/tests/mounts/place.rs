//! A cluster, a mount of it, and a way to use the mount: by a thread, because the system's calls block.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use fuse_mount::{MountConfig, Mounted};
use minicluster::MiniCluster;
use tempfile::TempDir;

/// Blocks small enough for files of many.
pub(crate) const BLOCK_BYTES: u64 = 256 << 10;
/// Longest time for a mount to end.
pub(crate) const GRACE: Duration = Duration::from_secs(20);

pub(crate) struct Place {
    pub(crate) cluster: MiniCluster,
    pub(crate) mounts: Vec<(Mounted, TempDir)>,
}

/// Can this machine mount? If not, it says so.
fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists() && base::process::is_root();
    if !can {
        eprintln!("SKIPPED: mounting needs /dev/fuse and root");
    }
    can
}

/// Settings of a mount by the superuser of a cluster at this address.
pub(crate) fn config(uri: String, deadline: Duration) -> MountConfig {
    let source = uri.clone();
    let connect = move |user: &str| {
        let client = Client::builder().connect(uri.clone()).user(user);
        client.timeout(deadline * 9 / 10).patience(deadline / 2).build()
    };
    MountConfig { deadline, ..MountConfig::new(Arc::new(connect), "root", source) }
}

/// Mounts at a new folder.
pub(crate) async fn mount(config: MountConfig) -> (Mounted, TempDir) {
    let dir = tempfile::Builder::new().prefix("blockyard-mount-").tempdir().unwrap();
    let cache_dir = dir.path().parent().unwrap().to_path_buf();
    let mounted = Mounted::start(MountConfig { cache_dir, ..config }, dir.path()).await.unwrap();
    (mounted, dir)
}

impl Place {
    /// A cluster with so many mounts; `None` where nothing can be mounted.
    pub(crate) async fn with(mounts: usize) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let cluster = MiniCluster::builder().datanodes(1).block_size_bytes(BLOCK_BYTES).start().await.unwrap();
        cluster.client().unwrap().mkdir("/t", 0o777, false).await.unwrap();
        let mut place = Self { cluster, mounts: Vec::new() };
        for _ in 0..mounts {
            place.mounts.push(mount(config(place.cluster.uri(), Duration::from_secs(30))).await);
        }
        Some(place)
    }

    /// A directory in which there is nothing else, as a mount shows it.
    pub(crate) fn dir(&self, mount: usize) -> PathBuf {
        self.mounts[mount].1.path().join("t")
    }

    /// Ends the mounts, sees that nothing of them is left, and ends the cluster.
    pub(crate) async fn end(self) {
        for (mounted, dir) in self.mounts {
            mounted.unmount(GRACE).await.unwrap();
            let left = base::mounts::mounted_at(&dir.path().canonicalize().unwrap()).unwrap();
            assert_eq!(left, None, "the mount is gone");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the folder is what it was");
        }
        self.cluster.shutdown().await.unwrap();
    }
}

/// Uses the system's files, by a thread of its own.
pub(crate) async fn by_program<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    base::task::blocking(work).await.unwrap()
}

/// Does something as another user of this machine, by a thread that is this user's to file systems.
pub(crate) fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: changes nothing but what this thread is to file systems.
            unsafe { libc::setfsuid(uid) };
            work()
        });
        thread.join().unwrap()
    })
}

/// Bytes that say where they belong.
pub(crate) fn content(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(31) ^ (i / 253) ^ (i / 65_536) ^ seed) as u8).collect()
}

/// Closes a descriptor, and says what the system says: the number of an error. Dropping a file says nothing.
pub(crate) fn close(file: std::fs::File) -> Option<i32> {
    use std::os::fd::IntoRawFd;
    let fd = file.into_raw_fd();
    // SAFETY: it is open, and nobody has it any more.
    let closed = unsafe { libc::close(fd) };
    (closed != 0).then(|| std::io::Error::last_os_error().raw_os_error()).flatten()
}
