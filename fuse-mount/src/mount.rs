//! Mounting and taking away.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::local;
use base::metrics::Metrics;
use base::mounts::{self, Unmount};
use base::task::{self, TaskTracker};
use client::FsError;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use tokio::runtime::Handle;

use crate::config::MountConfig;
use crate::core::Core;
use crate::figures::Figures;
use crate::requests::Kernel;

/// The device by which the kernel talks to mounts.
const DEVICE: &str = "/dev/fuse";
/// What mounts are called in the table of mounts.
pub const KIND: &str = "fuse.blockyard";

/// Why nothing was mounted, or taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The kernel has no FUSE, or this place does not show it.
    #[error("this machine has no {DEVICE}")]
    NoFuse,
    /// Neither root nor a helper that may mount.
    #[error("mounting needs root, or fusermount3")]
    NotAllowed,
    /// The target is not a directory that is there.
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    /// A mount whose process is gone.
    #[error("a mount whose process is gone is still at {0}")]
    Dead(PathBuf),
    /// One is there already.
    #[error("a cluster is mounted at {0} already")]
    Taken(PathBuf),
    /// Nothing of ours is there.
    #[error("no cluster is mounted at {0}")]
    NotMounted(PathBuf),
    /// Programs use it.
    #[error("{0} is in use")]
    InUse(PathBuf),
    /// The cluster refused, or cannot be reached.
    #[error(transparent)]
    Cluster(#[from] FsError),
    /// The system refused.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl MountError {
    /// What to do about it; may be empty.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoFuse => {
                "load it with `modprobe fuse`; in a container, start that with --device /dev/fuse".to_owned()
            }
            Self::NotAllowed => "run it as root, or install fusermount3 (package fuse3)".to_owned(),
            Self::NotADirectory(path) => format!("make it with `mkdir {}`", path.display()),
            Self::Dead(path) | Self::Taken(path) => {
                format!("take it away with `blockyard umount {}`", path.display())
            }
            Self::NotMounted(_) => "`grep blockyard /proc/mounts` says what is mounted".to_owned(),
            Self::InUse(path) => {
                format!(
                    "`fuser -vm {}` says by whom; or use --lazy, which waits for them behind the scenes",
                    path.display()
                )
            }
            Self::Cluster(error) => error.hint.clone(),
            Self::System { .. } => String::new(),
        }
    }
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> MountError {
    let what = what.into();
    move |source| MountError::System { what, source }
}

/// A mounted cluster. Dropped, it is taken away, and nobody waits for what is under way.
#[derive(Debug)]
pub struct Mounted {
    core: Arc<Core>,
    session: Option<BackgroundSession>,
    target: PathBuf,
    tasks: TaskTracker,
}

impl Mounted {
    /// Mounts a cluster at a directory of this machine. Its requests are worked on by the current tokio runtime, which must
    /// have several threads.
    ///
    /// # Errors
    /// [`MountError`]; nothing is mounted then.
    pub async fn start(config: MountConfig, target: &Path) -> Result<Self, MountError> {
        let core = Arc::new(Core::new(config)?);
        core.ask(core.own.stat("/")).await?;
        let wanted = target.to_path_buf();
        let target = blocking(move || check_target(&wanted)).await?;
        let tasks = TaskTracker::new();
        let kernel = Kernel::new(Arc::clone(&core), Handle::current(), tasks.clone());
        let (options, at, told) = (options(&core.config), target.clone(), Arc::clone(&core));
        let session = blocking(move || {
            let session = Session::new(kernel, &at, &options).map_err(refused)?;
            told.notifier.get_or_init(|| session.notifier());
            session.spawn().map_err(system("start the thread of the mount"))
        });
        let mounted = Self { core, session: Some(session.await?), target, tasks };
        mounted.read_ahead().await;
        Ok(mounted)
    }

    /// Registers what it counts: requests, errors, bytes, what it holds.
    pub fn tell(&self, metrics: &Metrics) {
        Figures::register(&self.core, metrics);
    }

    /// Where it is mounted.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The kernel reads further ahead. Where it may not be told so, reading is slower, and nothing else.
    async fn read_ahead(&self) {
        let (target, kib) = (self.target.clone(), self.core.config.read_ahead_kib);
        let set = task::blocking(move || match mounts::mounted_at(&target)? {
            Some(mount) => mounts::set_read_ahead(&mount.device, kib),
            None => Ok(()),
        });
        if let Err(error) = set.await.and_then(|set| set) {
            tracing::info!("the kernel keeps its read-ahead: {error}");
        }
    }

    /// Waits until it is taken away, by whomever, or until `stop`, at which it is taken away; and until what is open or was
    /// closed is committed and what is under way has ended: as long as that goes on, and `grace` at most without a step.
    ///
    /// # Errors
    /// What ended the kernel's side early; if the system does not take it away.
    ///
    /// # Cancel safety
    /// The mount is taken away if the future is dropped.
    pub async fn until(mut self, stop: impl Future<Output = ()>, grace: Duration) -> Result<(), MountError> {
        let Some(session) = self.session.take() else { return Ok(()) };
        let read = move || match session.join() {
            Err(error) if is_taken_away(&error) => Ok(()),
            ended => ended.map_err(system("read the kernel's requests")),
        };
        let mut end = std::pin::pin!(blocking(read));
        let mut in_use = false;
        let ended = tokio::select! {
            ended = &mut end => ended,
            () = stop => {
                if let Err(error) = self.take_away(grace).await {
                    self.settle(grace, true).await;
                    return Err(error);
                }
                // Who still has a file open keeps the kernel's side up: it ends with this process.
                match tokio::time::timeout(grace, end).await {
                    Ok(ended) => ended,
                    Err(_elapsed) => {
                        tracing::warn!("programs still have files open; they get errors from now on");
                        in_use = true;
                        Ok(())
                    }
                }
            }
        };
        self.settle(grace, in_use).await;
        ended
    }

    /// Commits what is open, takes the mount away, whoever uses it, and waits for what is under way: `grace` at most where
    /// nothing goes on.
    ///
    /// # Errors
    /// As [`Mounted::until`].
    pub async fn unmount(self, grace: Duration) -> Result<(), MountError> {
        self.until(std::future::ready(()), grace).await
    }

    async fn take_away(&self, grace: Duration) -> Result<(), MountError> {
        self.commit_all(grace).await;
        let target = self.target.clone();
        blocking(move || detach(&target)).await
    }

    async fn commit_all(&self, grace: Duration) {
        if !self.while_it_goes_on(grace, self.core.commit_all()).await {
            tracing::warn!("files were still being committed when nothing had gone on for {grace:?}");
        }
    }

    /// Waits for the end of work. False: nothing went on for as long as `grace`.
    async fn while_it_goes_on(&self, grace: Duration, work: impl Future<Output = ()>) -> bool {
        let mut work = std::pin::pin!(work);
        loop {
            let steps = self.core.behind.steps();
            if tokio::time::timeout(grace, work.as_mut()).await.is_ok() {
                return true;
            }
            if self.core.behind.steps() == steps {
                return false;
            }
        }
    }

    /// `in_use`: programs go on, and would have it go on for ever.
    async fn settle(&self, grace: Duration, in_use: bool) {
        self.tasks.close();
        let ended = if in_use {
            tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
        } else {
            self.while_it_goes_on(grace, self.tasks.wait()).await
        };
        if !ended {
            tracing::warn!("requests were still under way after {grace:?}");
        }
        // Whoever took it away may have done so before the kernel told of the last close.
        self.commit_all(grace).await;
        self.core.own.settle(grace).await;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MountError> + Send + 'static,
) -> Result<T, MountError> {
    task::blocking(work).await.map_err(system("run the work of a mount"))?
}

/// Takes a mount away, however it is and whatever became of its process and its cluster: nothing here asks either.
///
/// # Errors
/// [`MountError::NotMounted`], [`MountError::InUse`], [`MountError::NotAllowed`]; the system's.
pub fn unmount(target: &Path, how: Unmount) -> Result<(), MountError> {
    let target = absolute(target)?;
    let mount = mounts::mounted_at(&target).map_err(system("read the table of mounts"))?;
    if mount.is_none_or(|mount| mount.kind != KIND) {
        return Err(MountError::NotMounted(target));
    }
    mounts::unmount(&target, how).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => MountError::InUse(target),
        Some(libc::EPERM) => MountError::NotAllowed,
        _ => system(format!("take {} away", target.display()))(error),
    })
}

fn detach(target: &Path) -> Result<(), MountError> {
    match unmount(target, Unmount::Detach) {
        Err(MountError::NotMounted(_)) => Ok(()),
        other => other,
    }
}

/// A path without links, of which the last name is not looked at: what is mounted there may not answer.
fn absolute(target: &Path) -> Result<PathBuf, MountError> {
    let above = base::disk::dir_of(target);
    let cannot = || system(format!("find {}", target.display()));
    match target.file_name() {
        Some(name) => Ok(local::canonical(&above).map_err(cannot())?.join(name)),
        None => local::canonical(target).map_err(cannot()),
    }
}

fn check_target(target: &Path) -> Result<PathBuf, MountError> {
    if !local::info(Path::new(DEVICE)).is_ok_and(|info| info.is_some()) {
        return Err(MountError::NoFuse);
    }
    let at = absolute(target)?;
    let mount = mounts::mounted_at(&at).map_err(system("read the table of mounts"))?;
    if mount.is_some_and(|mount| mount.kind == KIND) {
        let dead = local::info(&at).is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN));
        return Err(if dead { MountError::Dead(at) } else { MountError::Taken(at) });
    }
    match local::info(target) {
        Ok(Some(info)) if info.is_dir() => {
            local::canonical(target).map_err(system(format!("find {}", target.display())))
        }
        Ok(_) => Err(MountError::NotADirectory(target.to_path_buf())),
        Err(error) => Err(system(format!("look at {}", target.display()))(error)),
    }
}

/// What the system said to a mount.
fn refused(error: io::Error) -> MountError {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::PermissionDenied, _) | (_, Some(libc::EPERM)) => MountError::NotAllowed,
        // There is no helper.
        (io::ErrorKind::NotFound, _) => MountError::NotAllowed,
        _ => system("mount")(error),
    }
}

fn options(config: &MountConfig) -> Config {
    let mut options = Config::default();
    options.mount_options =
        vec![MountOption::FSName(config.source.clone()), MountOption::CUSTOM("subtype=blockyard".to_owned())];
    options.mount_options.push(if config.read_only { MountOption::RO } else { MountOption::RW });
    options.mount_options.extend([MountOption::NoSuid, MountOption::NoDev]);
    options.acl = if config.allow_other { SessionACL::All } else { SessionACL::Owner };
    options
}

/// Is it only that the mount was taken away, gently or by force? The kernel says one or the other, by when it was asked.
fn is_taken_away(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ECONNABORTED))
}
