//! `--exec CMD`: one command beside the cluster.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use base::task::{self, CancellationToken};
use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;

use crate::exit::Status;

/// Runs `sh -c CMD` with `BLOCKYARD_FS` set and gives its status; a signal counts as 128 and its number.
/// When `stop` is cancelled the command is asked to end by SIGTERM.
///
/// # Errors
/// If there is no shell or no thread to be had.
pub(crate) async fn run(command: &str, fs: &str, stop: &CancellationToken) -> io::Result<Status> {
    let mut child = Command::new("sh").arg("-c").arg(command).env("BLOCKYARD_FS", fs).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (sender, ended) = oneshot::channel();
    task::thread("exec", move || drop(sender.send(child.wait())))?;
    tokio::pin!(ended);
    let status = tokio::select! {
        status = &mut ended => status,
        () = stop.cancelled() => {
            if let Some(pid) = pid
                && let Err(error) = rustix::process::kill_process(pid, Signal::TERM)
            {
                tracing::warn!(%error, "cannot stop the command of --exec");
            }
            ended.await
        }
    };
    let status = status.map_err(io::Error::other)??;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Status(u8::try_from(code).unwrap_or(1)))
}
