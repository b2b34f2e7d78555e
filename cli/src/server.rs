//! `blockyard namenode` and `blockyard datanode`: one role in this process.
//!
//! ```text
//!   FILE.toml < BLOCKYARD_… < flags ─▶ settings ─▶ start ─▶ (--json: one line of facts) ─▶ until a signal,
//!                                                            or until the role fails ─▶ stop within a deadline
//! ```

use std::time::Duration;

use base::config::{ConfigError, Sources};
use base::logs::{self, LogOptions};
use base::shutdown;
use base::task::CancellationToken;
use datanode::config::DatanodeConfig;
use namenode::config::NamenodeConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::args::{Global, ServerOptions};
use crate::dev::roles::{Facts, Kind};
use crate::exit::Status;

/// Longest time from the first signal to the end.
const DEADLINE: Duration = Duration::from_secs(20);

/// The settings file: one file may serve all roles of a machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) namenode: NamenodeConfig,
    pub(crate) datanode: DatanodeConfig,
}

/// Why a role does not run (any more).
#[derive(Debug)]
pub(crate) struct RoleError {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl From<ConfigError> for RoleError {
    fn from(error: ConfigError) -> Self {
        Self { status: Status::USAGE, text: error.to_string() }
    }
}

impl From<std::io::Error> for RoleError {
    fn from(error: std::io::Error) -> Self {
        Self { status: Status::FAILED, text: error.to_string() }
    }
}

impl From<namenode::server::ServerError> for RoleError {
    fn from(error: namenode::server::ServerError) -> Self {
        use namenode::server::ServerError;
        let status = match error {
            ServerError::Setting(_) => Status::USAGE,
            ServerError::Storage(_) => Status::STORAGE_REFUSED,
            _ => Status::FAILED,
        };
        Self { status, text: error.to_string() }
    }
}

impl From<datanode::server::ServerError> for RoleError {
    fn from(error: datanode::server::ServerError) -> Self {
        use datanode::server::ServerError;
        let status = match error {
            ServerError::Setting(_) => Status::USAGE,
            ServerError::Storage(_) | ServerError::WrongCluster(_) => Status::STORAGE_REFUSED,
            _ => Status::FAILED,
        };
        Self { status, text: error.to_string() }
    }
}

/// A role that runs in this process.
#[derive(Debug)]
pub(crate) struct Running {
    stop: CancellationToken,
    ended: mpsc::Receiver<Result<(), RoleError>>,
}

impl Running {
    /// Cancelled to make it stop.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Why it ended, if nobody asked for it.
    ///
    /// # Cancel safety
    /// Yes.
    pub(crate) async fn ended(&mut self) -> Result<(), RoleError> {
        self.ended.recv().await.unwrap_or(Ok(()))
    }
}

/// Starts a role in this process.
///
/// # Errors
/// [`RoleError`] with the status that a server verb ends with.
pub(crate) async fn start(kind: Kind, sources: &Sources) -> Result<(Running, Facts), RoleError> {
    let settings: Settings = base::config::load(sources)?;
    let stop = CancellationToken::new();
    let (sender, ended) = mpsc::channel(1);
    let facts = match kind {
        Kind::Namenode => {
            let mut config = settings.namenode;
            if config.superuser.is_empty() {
                config.superuser = crate::verbs::os_user();
            }
            let dir = config.dir.clone();
            let running = namenode::server::start(config, stop.clone()).await?;
            let facts = Facts::new(kind, String::new(), dir, running.address, running.http);
            tell_the_end(running.join, sender);
            facts
        }
        Kind::Datanode => {
            let dir = settings.datanode.dirs.first().cloned().unwrap_or_default();
            let running = datanode::server::start(settings.datanode, stop.clone()).await?;
            let facts = Facts::new(kind, running.node.to_string(), dir, running.address, running.http);
            tell_the_end(running.join, sender);
            facts
        }
    };
    Ok((Running { stop, ended }, facts))
}

fn tell_the_end<E>(join: tokio::task::JoinHandle<Result<(), E>>, sender: mpsc::Sender<Result<(), RoleError>>)
where
    E: Into<RoleError> + Send + 'static,
{
    let tracker = base::task::TaskTracker::new();
    base::task::spawn(&tracker, async move {
        let end = match join.await {
            Ok(end) => end.map_err(Into::into),
            Err(panic) => Err(RoleError { status: Status::FAILED, text: panic.to_string() }),
        };
        // An error: nobody waits for the end any more.
        drop(sender.send(end).await);
    });
}

/// Runs a namenode until a signal.
pub(crate) fn namenode(options: &ServerOptions, global: &Global) -> Status {
    run(Kind::Namenode, options, global)
}

/// Runs a datanode until a signal.
pub(crate) fn datanode(options: &ServerOptions, global: &Global) -> Status {
    run(Kind::Datanode, options, global)
}

fn run(kind: Kind, options: &ServerOptions, global: &Global) -> Status {
    match try_run(kind, options, global) {
        Ok(()) => Status::OK,
        Err(error) => {
            tracing::error!("{}", error.text);
            eprintln!("error: {}", error.text);
            error.status
        }
    }
}

fn try_run(kind: Kind, options: &ServerOptions, global: &Global) -> Result<(), RoleError> {
    let sources = sources_of(kind, options)?;
    logs::init(&LogOptions { default_filter: String::new(), file: options.log_file.clone() })?;
    if options.end_with_parent {
        shutdown::end_with_parent()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(base::task::server_workers())
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        shutdown::on_signals(stop.clone())?;
        let (mut running, facts) = tokio::select! {
            started = start(kind, &sources) => started?,
            () = stop.cancelled() => return Ok(()),
        };
        say(&facts, global.json)?;
        tokio::select! {
            ended = running.ended() => return ended,
            () = stop.cancelled() => running.stop().cancel(),
        }
        let mut ended = Ok(());
        shutdown::within(DEADLINE, async { ended = running.ended().await }).await;
        ended
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn say(facts: &Facts, json: bool) -> Result<(), RoleError> {
    use std::io::Write;
    let mut out = std::io::stdout();
    if json {
        let line = serde_json::to_string(facts).map_err(std::io::Error::other)?;
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{} listens on {}, operations pages on http://{}", facts.role.verb(), facts.address, facts.http)?;
    }
    Ok(out.flush()?)
}

fn sources_of(kind: Kind, options: &ServerOptions) -> Result<Sources, RoleError> {
    let verb = kind.verb();
    let mut sources = Sources::new().process_environment();
    if let Some(file) = &options.config {
        sources = sources.file(file);
    }
    for text in &options.set {
        let Some((key, value)) = text.split_once('=') else {
            return Err(ConfigError::one("flag --set", format!("{text:?} is not KEY=VALUE")).into());
        };
        sources = sources.flag(key.trim(), "--set", value);
    }
    if let Some(address) = options.listen {
        sources = sources.flag(&format!("{verb}.listen"), "--listen", address.to_string());
    }
    if let Some(dir) = &options.dir {
        let dir = dir.display().to_string();
        sources = match kind {
            Kind::Namenode => sources.flag("namenode.dir", "--dir", dir),
            Kind::Datanode => sources.flag("datanode.dirs", "--dir", toml::Value::Array(vec![dir.into()]).to_string()),
        };
    }
    if options.insecure {
        sources = sources.flag(&format!("{verb}.insecure"), "--insecure", "true");
    }
    Ok(sources)
}
