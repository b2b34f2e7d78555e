//! Processes of this binary that a soak runs: a client that is to die, and the check at the end.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::verbs::Failure;

/// A child that never outlives its guard.
#[derive(Debug)]
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        if self.0.kill().is_ok() || self.0.id() > 0 {
            drop(self.0.wait());
        }
    }
}

fn blockyard(fs: &str, user: &str, args: &[&str]) -> Result<Command, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::local("find", "this program", &error))?;
    let mut command = Command::new(own);
    command.args(["--fs", fs, "--user", user]).args(args);
    Ok(command)
}

/// Puts bytes into a file until it is killed, so long after it was started: the end of the input never comes.
///
/// # Errors
/// If no process can be started.
///
/// # Cancel safety
/// Dropping the future kills it at once.
pub(super) async fn killed_put(
    fs: &str,
    user: &str,
    path: &str,
    bytes: bytes::Bytes,
    after: Duration,
) -> Result<(), Failure> {
    let mut command = blockyard(fs, user, &["put", "-", path])?;
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let failed = |error: std::io::Error| Failure::local("start a client for", path, &error);
    let mut child = Guard(command.spawn().map_err(failed)?);
    let stdin = child.0.stdin.take();
    let (done, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let feeder = base::task::thread("soak-feeder", move || {
        let Some(mut stdin) = stdin else { return };
        // An error: it was killed. Else the pipe stays open until it is.
        if stdin.write_all(&bytes).is_ok() {
            while gone.recv().is_ok() {}
        }
    });
    tokio::time::sleep(after).await;
    drop(child);
    drop(done);
    feeder.map(drop).map_err(failed)
}

/// Runs a verb to its end: its exit status, and what it said.
///
/// # Errors
/// If it cannot be run.
///
/// # Cancel safety
/// Dropping the future kills it.
pub(super) async fn run(fs: &str, user: &str, args: &[&str]) -> Result<(Option<i32>, String), Failure> {
    let mut command = blockyard(fs, user, args)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let failed = |error: std::io::Error| Failure::local("run", args.join(" "), &error);
    let mut child = Guard(command.spawn().map_err(failed)?);
    let stdout = child.0.stdout.take();
    let read = move || {
        let mut text = String::new();
        stdout.map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut text)).map(|_| text)
    };
    let text = base::task::blocking(read).await.map_err(failed)?.map_err(failed)?;
    let status = child.0.wait().map_err(failed)?;
    Ok((status.code(), text))
}
