//! Processes of this binary that a soak runs: a client that is to die, and the check at the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::{Client, CreateOptions};

use super::words::{Content, WriterNumber};
use crate::verbs::{Failure, Output};

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

/// Bytes that a pipe takes although nobody has read any (64 KiB on Linux), and what is given at a time.
const PIPE_BYTES: usize = 64 << 10;

/// Puts bytes into a file until it is killed, so long after it was started: the end of the input never comes. Gives the
/// bytes that it had taken by then, at least.
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
) -> Result<u64, Failure> {
    let mut command = blockyard(fs, user, &["put", "-", path])?;
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let failed = |error: std::io::Error| Failure::local("start a client for", path, &error);
    let mut child = Guard(command.spawn().map_err(failed)?);
    let stdin = child.0.stdin.take();
    let (done, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let given = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&given);
    let feeder = base::task::thread("soak-feeder", move || {
        let Some(mut stdin) = stdin else { return };
        for piece in bytes.chunks(PIPE_BYTES) {
            // It was killed.
            if stdin.write_all(piece).is_err() {
                return;
            }
            told.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        // The pipe stays open until it is.
        while gone.recv().is_ok() {}
    });
    tokio::time::sleep(after).await;
    let given_bytes = given.load(Ordering::Relaxed);
    drop(child);
    drop(done);
    feeder.map_err(failed)?;
    Ok(given_bytes.saturating_sub(PIPE_BYTES as u64))
}

/// A client that writes, flushes, and says how far.
#[derive(Clone, Debug)]
pub(super) struct FlushingWriter {
    pub(super) path: String,
    pub(super) number: WriterNumber,
    pub(super) len_bytes: u64,
}

impl FlushingWriter {
    /// As the value of the flag that makes a process such a client.
    fn text(&self) -> String {
        format!("{}:{}:{}", self.number.0, self.len_bytes, self.path)
    }
}

impl FromStr for FlushingWriter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (number, rest) = text.split_once(':')?;
            let (len_bytes, path) = rest.split_once(':')?;
            let (number, len_bytes) = (WriterNumber(number.parse().ok()?), len_bytes.parse().ok()?);
            Some(Self { path: path.to_owned(), number, len_bytes })
        };
        parsed().ok_or_else(|| "write NUMBER:LENGTH:PATH".to_owned())
    }
}

/// Writes and flushes until it is killed, so long after it was started. Gives the last length of which it said that it is
/// flushed.
///
/// # Errors
/// If no process can be started.
///
/// # Cancel safety
/// Dropping the future kills it at once.
pub(super) async fn killed_writer(
    fs: &str,
    user: &str,
    writer: &FlushingWriter,
    after: Duration,
) -> Result<u64, Failure> {
    let mut command = blockyard(fs, user, &["soak", "--as-client", &writer.text()])?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |error: std::io::Error| Failure::local("run a client for", &writer.path, &error);
    let mut child = Guard(command.spawn().map_err(failed)?);
    let stdout = child.0.stdout.take();
    // Ends with the pipe, that is with the process: nothing that it said is missed.
    let listen = base::task::blocking(move || {
        let lines = stdout.map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
        lines.into_iter().flatten().filter_map(|line| line.parse().ok()).last()
    });
    let kill = async {
        tokio::time::sleep(after).await;
        drop(child);
    };
    let (flushed_bytes, ()) = tokio::join!(listen, kill);
    Ok(flushed_bytes.map_err(failed)?.unwrap_or(0))
}

/// What such a client does: it writes, and says each length that is flushed. It does not close the file.
///
/// # Errors
/// The client's.
pub(super) async fn write_and_flush(client: &Client, options: &FlushingWriter, output: &Output) -> Result<(), Failure> {
    /// Bytes from one flush to the next: not the end of a chunk, a packet or a block.
    const EVERY_BYTES: u64 = 100_003;
    let content = Content::new(options.number, options.len_bytes);
    let create = CreateOptions { block_size_bytes: 1 << 20, ..CreateOptions::default() };
    let mut writer = client.create(&options.path, create).await?;
    while writer.written_bytes() < options.len_bytes {
        writer.write(content.bytes(writer.written_bytes(), EVERY_BYTES)).await?;
        match writer.written_bytes() / EVERY_BYTES % 2 {
            0 => writer.sync_data().await?,
            _ => writer.flush().await?,
        }
        output.line(&writer.written_bytes().to_string())?;
    }
    std::future::pending().await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flushing_client_is_told_all_by_one_word() {
        let writer = FlushingWriter { path: "/soak/killed/k1:2".into(), number: WriterNumber(7), len_bytes: 99 };
        let again: FlushingWriter = writer.text().parse().unwrap();
        assert_eq!((again.path, again.number, again.len_bytes), (writer.path, writer.number, 99));
        assert!("7:x:/p".parse::<FlushingWriter>().is_err());
    }
}
