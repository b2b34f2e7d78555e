//! `blockyard mount` and `blockyard umount`.
//!
//! ```text
//!   mount DIR ── starts itself again, with --foreground --ready ─▶ a process of its own session
//!      │                                                             │ mounts, says "mounted" on standard output
//!      └── waits for that word, or for the end and what was said ◀───┘ … until SIGTERM, or until it is taken away
//!
//!   umount DIR ── the system's call and nothing else: asks neither the process nor the cluster
//! ```

pub(crate) mod helper;

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::logs::{self, LogOptions};
use base::metrics::Metrics;
use base::mounts::Unmount;
use base::net::TcpListener;
use base::shutdown;
use base::task::{CancellationToken, TaskTracker};
use clap::{Args, ValueEnum};
use client::{Client, ErrorCode, FsError};
use fuse_mount::{KIND, MountConfig, MountError, Mounted, SyncAt};
use serde_json::json;

use crate::args::Global;
use crate::exit::Status;
use crate::verbs::{DEFAULT_FS, Failure, Output, hostname, os_user, parse_size};

/// What the process of a mount says when programs may use it.
const READY: &str = "mounted";
/// From the first signal to the end nothing may go on for so long, or for a little longer than one call of the cluster takes.
const GRACE: Duration = Duration::from_secs(20);
/// Its log, in the folder of the cache, unless one is named.
const LOG: &str = "blockyard-mount.log";

/// Flags of `mount`.
#[derive(Debug, Clone, Args)]
#[command(
    long_about = "Mounts the cluster at a directory of this machine, for every program. What is read, and what is written at \
        the end of\na file, goes straight from and to the datanodes. What is changed inside a file is kept in the cache \
        folder until the\nfile is closed or synced, and then takes the place of the file in one step.",
    after_help = "\
Other mounts see what is in a file as it was closed or synced last when they open it, and names and attributes within
a second. When the cluster does not answer, programs get errors after --timeout; everything goes on when it is back.

Users and groups are matched by name. Programs of other users need --allow-other, and the mount should then run as a
superuser of the cluster: changed files are committed on its account and keep their owners.

Examples:
  blockyard mount /mnt/blockyard             go on in the background
  blockyard mount --foreground /mnt/b        until Ctrl-C
  blockyard umount /mnt/blockyard

For /etc/fstab, link /sbin/mount.blockyard to this program:
  blockyard://namenode:8020  /mnt/blockyard  blockyard  _netdev,allow_other  0 0"
)]
pub(crate) struct MountOptions {
    /// A directory of this machine
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Nothing may be changed
    #[arg(long)]
    read_only: bool,
    /// Other users of this machine may use it, too
    #[arg(long)]
    allow_other: bool,
    /// When what programs wrote is durable
    #[arg(long, value_name = "WHEN", value_enum, default_value = "close")]
    sync: SyncWhen,
    /// Numbers of users that this machine does not know, or knows by others
    #[arg(long, value_name = "NAME=UID", value_delimiter = ',', value_parser = user_of)]
    uid_map: Vec<(String, u32)>,
    /// Folder for changed files that are open
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp")]
    cache_dir: PathBuf,
    /// Most bytes in it, with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = parse_size)]
    cache_size: u64,
    /// Longest time that a program waits for the cluster, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Stay in the foreground until a signal, or until it is taken away
    #[arg(long)]
    foreground: bool,
    /// Log every detail
    #[arg(long)]
    debug: bool,
    /// Write logs to this file [default: standard error; in the background blockyard-mount.log in the cache folder]
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Say on this address of this machine what it does: /livez, /readyz, /metrics
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<SocketAddr>,
    /// Say so when programs may use it, in a session of its own
    #[arg(long, hide = true)]
    ready: bool,
}

/// When what programs wrote is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SyncWhen {
    /// When a file is closed: close waits for it, and says if it failed
    Close,
    /// At fsync only, as on a local disk: what is closed is committed behind the program
    Fsync,
}

/// Flags of `umount`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "It asks neither the mount's process nor the cluster. What was closed or synced is safe in any case. Of a mount with\n\
        --sync fsync its process goes on until what was closed is committed."
)]
pub(crate) struct UmountOptions {
    /// Where a cluster is mounted
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Also if it is in use: programs that use it go on, and it ends with the last of them
    #[arg(long)]
    lazy: bool,
    /// At once: programs that use it get errors
    #[arg(long, conflicts_with = "lazy")]
    force: bool,
}

fn user_of(text: &str) -> Result<(String, u32), String> {
    let (name, uid) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=UID"))?;
    let uid = uid.parse().map_err(|error| format!("{uid:?} is no number of a user: {error}"))?;
    Ok((name.to_owned(), uid))
}

/// Runs `mount`.
pub(crate) fn mount(options: &MountOptions, global: &Global) -> Status {
    let output = Output::new(global.json, false);
    let done = if options.foreground { serve(options, global, &output) } else { background(options, global, &output) };
    done.unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.status()
    })
}

/// Runs `umount`.
pub(crate) fn umount(options: &UmountOptions, global: &Global) -> Status {
    let output = Output::new(global.json, false);
    let how = match (options.lazy, options.force) {
        (true, _) => Unmount::Detach,
        (_, true) => Unmount::Abort,
        _ => Unmount::Idle,
    };
    let done = fuse_mount::unmount(&options.dir, how).map_err(|error| failed(&error, &options.dir));
    let told = done.and_then(|()| tell(&output, "unmounted", &options.dir, global));
    match told {
        Ok(()) => Status::OK,
        Err(failure) => {
            output.failure(&failure);
            failure.status()
        }
    }
}

fn tell(output: &Output, what: &str, dir: &Path, global: &Global) -> Result<(), Failure> {
    if !global.json {
        return Ok(());
    }
    output.object(&json!({"v": 1, "type": what, "dir": dir.display().to_string()}))
}

fn failed(error: &MountError, dir: &Path) -> Failure {
    let code = match error {
        MountError::Cluster(error) => return error.clone().into(),
        MountError::NotAllowed => ErrorCode::PermissionDenied,
        MountError::NotADirectory(_) => ErrorCode::NotADirectory,
        MountError::NotMounted(_) => ErrorCode::NotFound,
        MountError::Taken(_) | MountError::Dead(_) => ErrorCode::AlreadyExists,
        _ => ErrorCode::Internal,
    };
    let text = match error {
        MountError::System { what, source } => format!("cannot {what}: {source}"),
        other => other.to_string(),
    };
    let named = text.contains(&dir.display().to_string());
    let error = FsError::new(code, text).with_hint(error.hint());
    if named { error.into() } else { Failure::from(error).at(&dir.display().to_string()) }
}

/// Starts this program again, and waits until it has mounted.
fn background(options: &MountOptions, global: &Global, output: &Output) -> Result<Status, Failure> {
    let cannot = |error: io::Error| Failure::local("start the process of the mount", "", &error);
    let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
    // What was typed, and what only the environment said is inherited.
    command.args(crate::args::words().into_iter().skip(1)).args(["--foreground", "--ready"]);
    if options.log_file.is_none() {
        command.arg("--log-file").arg(options.cache_dir.join(LOG));
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(cannot)?;
    let mut first = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut first).map_err(cannot)?;
    }
    if first.trim_end() == READY {
        tell(output, READY, &options.dir, global)?;
        return Ok(Status::OK);
    }
    // It ended, and said why, in one of two places.
    let ended = child.wait_with_output().map_err(cannot)?;
    let said = [first.as_bytes(), &ended.stdout].concat();
    let told = io::stdout().write_all(&said).and_then(|()| io::stderr().write_all(&ended.stderr));
    told.map_err(|error| Failure::output(&error))?;
    Ok(Status(ended.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Status::FAILED.0)))
}

fn config(options: &MountOptions, global: &Global) -> Result<MountConfig, Failure> {
    let fs = global.fs.clone().unwrap_or_else(|| DEFAULT_FS.to_owned());
    let (user, deadline) = (global.user.clone().unwrap_or_else(os_user), Duration::from_secs(options.timeout));
    let (address, local_reads) = (fs.clone(), global.local_reads);
    // Calls end before requests do, so that programs learn what became of them.
    let connect = move |user: &str| {
        Client::builder()
            .connect(address.clone())
            .user(user)
            .host(hostname())
            .local_reads(local_reads)
            .timeout(deadline * 9 / 10)
            .patience(deadline / 2)
            .build()
    };
    let folder = base::local::canonical(&options.cache_dir);
    let cache_dir = folder.map_err(|error| Failure::local("use the cache folder", &options.cache_dir, &error))?;
    Ok(MountConfig {
        read_only: options.read_only,
        allow_other: options.allow_other,
        sync: match options.sync {
            SyncWhen::Close => SyncAt::Close,
            SyncWhen::Fsync => SyncAt::Fsync,
        },
        users: options.uid_map.clone(),
        cache_dir,
        cache_bytes: options.cache_size,
        deadline,
        ..MountConfig::new(Arc::new(connect), user, fs)
    })
}

/// Mounts, and stays until a signal or until somebody takes the mount away.
fn serve(options: &MountOptions, global: &Global, output: &Output) -> Result<Status, Failure> {
    let config = config(options, global)?;
    if options.ready {
        // A session of its own: no terminal's signals reach it.
        rustix::process::setsid().map_err(|error| Failure::local("begin a session", "", &error.into()))?;
    }
    let filter = if options.debug { "info,fuse_mount=debug,client=debug" } else { "" };
    logs::init(&LogOptions { default_filter: filter.to_owned(), file: options.log_file.clone() })
        .map_err(|error| Failure::local("write logs", options.log_file.clone().unwrap_or_default(), &error))?;
    base::limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(base::task::server_workers())
        .enable_all()
        .build()
        .map_err(|error| Failure::local("start", "", &error))?;
    let ended = runtime.block_on(until_the_end(config, options, output));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended.map(|()| Status::OK)
}

/// Listens for those who ask what a mount does.
async fn page(address: SocketAddr) -> Result<TcpListener, Failure> {
    base::http::refuse_non_loopback(address, false)
        .map_err(|error| Failure::usage(error.to_string(), "--http 127.0.0.1:0"))?;
    let listener = base::net::listen(address).await;
    listener.map_err(|error| Failure::local("listen on", address.to_string(), &error))
}

async fn until_the_end(config: MountConfig, options: &MountOptions, output: &Output) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone()).map_err(|error| Failure::local("wait for signals", "", &error))?;
    let page = match options.http {
        Some(address) => Some(page(address).await?),
        None => None,
    };
    let source = config.source.clone();
    let mounted = Mounted::start(config, &options.dir).await.map_err(|error| failed(&error, &options.dir))?;
    let target = mounted.target().to_path_buf();
    tracing::info!("{source} is mounted at {} ({KIND})", target.display());
    if options.ready {
        output.line(READY)?;
        output.flush()?;
        // Nobody's working directory is held.
        rustix::process::chdir("/").map_err(|error| Failure::local("leave the directory", "", &error.into()))?;
    } else if output.is_json() {
        output.object(&json!({"v": 1, "type": READY, "dir": target.display().to_string()}))?;
    }
    let tasks = TaskTracker::new();
    let over = CancellationToken::new();
    if let Some(listener) = page {
        let metrics = Metrics::new("mount");
        mounted.tell(&metrics);
        let ready = Arc::new(|| Ok(()));
        drop(base::task::spawn(&tasks, base::http::serve(listener, ready, metrics, over.clone())));
    }
    let ended = mounted.until(stop.cancelled_owned(), GRACE.max(Duration::from_secs(options.timeout + 5))).await;
    over.cancel();
    tracing::info!("{} is not mounted any more", target.display());
    ended.map_err(|error| failed(&error, &options.dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_mapped_by_pairs() {
        assert_eq!(user_of("ana=1000"), Ok(("ana".to_owned(), 1000)));
        assert!(user_of("ana").is_err() && user_of("ana=x").is_err());
    }

    #[test]
    fn each_failure_has_a_status_and_says_what_to_do() {
        let dir = Path::new("/mnt/x");
        let status = |error: &MountError| failed(error, dir).status();
        assert_eq!(status(&MountError::NotAllowed), Status::DENIED);
        assert_eq!(status(&MountError::NotMounted(dir.into())), Status::NOT_FOUND);
        assert_eq!(status(&MountError::NoFuse), Status::FAILED);
        let text = failed(&MountError::NoFuse, dir).text();
        assert!(text.contains("/dev/fuse") && text.contains("modprobe") && text.contains("/mnt/x"), "{text}");
        assert_eq!(failed(&MountError::InUse(dir.into()), dir).text().matches("/mnt/x").count(), 2);
    }
}
