//! A role as a process of its own.
//!
//! ```text
//!   dev ── spawns ──▶ blockyard namenode --json --end-with-parent
//!    │  stdin: a pipe that dev never writes to; its end tells the child that dev is gone, also after kill -9
//!    │  stdout: one line of facts when it listens
//!    │  process group of its own: Ctrl-C at the terminal reaches dev alone, which then stops the children
//!    └─ a thread waits for the end of the child
//! ```

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::task::{self, CancellationToken};
use rustix::process::{Pid, Signal};
use tokio::sync::{mpsc, oneshot};

use super::DevError;
use super::roles::{Facts, Kind, RoleEnv};
use crate::exit::Status;

/// The end of a role that nobody asked for.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: String,
    /// `status 1`, `signal 9`, or an error.
    pub(crate) how: String,
}

/// What a child is started with.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    /// Settings, as variables of the environment.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) role_env: &'a [RoleEnv],
    pub(crate) log_file: &'a Path,
}

/// A running child. Dropping it closes its standard input, at which it ends.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    pid: Pid,
    end: EndFlag,
    _stdin: ChildStdin,
}

/// Set at the end of a child, before its pid can be used again by the system for long.
#[derive(Clone, Debug, Default)]
struct EndFlag {
    ended: Arc<AtomicBool>,
    gone: CancellationToken,
}

/// A child that does not listen yet.
#[derive(Debug)]
pub(crate) struct Starting {
    process: Process,
    first: oneshot::Receiver<First>,
    log: String,
}

/// Starts a child.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn spawn(launch: Launch<'_>, ends: mpsc::Sender<Ended>) -> Result<Starting, DevError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(launch.kind.verb()).args(["--json", "--end-with-parent", "--log-file"]).arg(launch.log_file);
    command.envs(launch.settings);
    let own = launch.role_env.iter().filter(|one| one.role == launch.name);
    command.envs(own.map(|one| (&one.name, &one.value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;

    let missing = || io::Error::other("a child without the pipes that were asked for");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(missing)?;
    let end = EndFlag::default();
    let (sender, first) = oneshot::channel();
    let (name, flag) = (launch.name.to_owned(), end.clone());
    task::thread(launch.name, move || watch(name, child, BufReader::new(stdout), sender, &flag, &ends))?;
    let process = Process { name: launch.name.to_owned(), pid, end, _stdin: stdin };
    Ok(Starting { process, first, log: launch.log_file.display().to_string() })
}

impl Starting {
    /// Waits until it listens.
    ///
    /// # Errors
    /// If it ends before (what it said went to standard error).
    ///
    /// # Cancel safety
    /// Dropping the future ends the child.
    pub(crate) async fn listening(self) -> Result<(Process, Facts), DevError> {
        match self.first.await.map_err(io::Error::other)? {
            First::Line(line) => Ok((self.process, serde_json::from_str(&line).map_err(io::Error::other)?)),
            First::Ended(status) => Err(DevError {
                status: Status(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
                text: format!("{} did not start ({}); its log is {}", self.process.name, how(status), self.log),
            }),
        }
    }
}

/// What came first.
#[derive(Debug)]
enum First {
    Line(String),
    Ended(ExitStatus),
}

fn watch(
    name: String,
    mut child: Child,
    mut stdout: impl BufRead,
    first: oneshot::Sender<First>,
    flag: &EndFlag,
    ends: &mpsc::Sender<Ended>,
) {
    let mut line = String::new();
    let listens = matches!(stdout.read_line(&mut line), Ok(n) if n > 0);
    let mut first = Some(first);
    if listens && let Some(first) = first.take() {
        // An error: dev stops already and does not wait for the facts any more.
        drop(first.send(First::Line(line)));
    }
    let status = match child.wait() {
        Ok(status) => status,
        Err(error) => {
            tracing::error!(role = name, %error, "cannot wait for a child");
            return;
        }
    };
    flag.ended.store(true, Ordering::SeqCst);
    flag.gone.cancel();
    if let Some(first) = first {
        drop(first.send(First::Ended(status)));
    } else if let Err(unheard) = ends.blocking_send(Ended { name, how: how(status) }) {
        tracing::debug!(role = unheard.0.name, "ended after everything else");
    }
}

/// How a process ended, for people.
fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

impl Process {
    /// Sends a signal unless the child has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.end.ended.load(Ordering::SeqCst) {
            return;
        }
        if let Err(error) = rustix::process::kill_process(self.pid, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(role = self.name, %error, "cannot signal");
        }
    }

    /// Waits for the end of the child.
    ///
    /// # Cancel safety
    /// Yes: waiting again is fine.
    pub(crate) async fn gone(&self) {
        self.end.gone.cancelled().await;
    }
}
