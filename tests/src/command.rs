//! Running the `blockyard` binary as a person would.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// Environment variable that names the binary; else it is looked for beside the test's own executable.
pub const BINARY_VARIABLE: &str = "BLOCKYARD_BIN";

/// Longest run of one command.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The `blockyard` binary: `$BLOCKYARD_BIN`, else `target/<profile>/blockyard` of this very build.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE) {
        return path.into();
    }
    let own = std::env::current_exe().expect("the test's executable has a path");
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("blockyard"));
    beside.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no blockyard binary beside {}: build it first (cargo build --profile ci -p cli)", own.display())
    })
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Exit code; -1 if a signal ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
    /// Itself if the command succeeded.
    ///
    /// # Panics
    /// If it failed, with what it said.
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "failed with {}: {}{}", self.status, self.text(), self.stderr);
        self
    }
}

/// A `blockyard` command with nothing of this process' environment that could change what it does.
#[must_use]
pub fn blockyard<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BLOCKYARD_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started or takes longer than [`PATIENCE`].
pub fn run(command: Command) -> Ended {
    run_with_input(command, b"")
}

/// Runs a command to its end with bytes on its standard input.
///
/// # Panics
/// As [`run`].
pub fn run_with_input(mut command: Command, input: &[u8]) -> Ended {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    std::thread::scope(|scope| {
        let stdin = child.stdin.take();
        let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let out = scope.spawn(move || read_all(&mut out));
        let err = scope.spawn(move || read_all(&mut err));
        let feeder = scope.spawn(move || {
            // A command that ends early closes its input: that is its right, its status tells.
            stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input)).is_ok()
        });
        let status = wait_with_patience(&mut child, PATIENCE);
        feeder.join().expect("feeder");
        let stdout = out.join().expect("reader");
        let stderr = String::from_utf8_lossy(&err.join().expect("reader")).into_owned();
        Ended { status, stdout, stderr }
    })
}

fn read_all(source: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).expect("a pipe can be read");
    bytes
}

/// Waits for a child.
///
/// # Panics
/// If it takes too long; it is killed then.
pub fn wait_with_patience(child: &mut Child, patience: Duration) -> ExitStatus {
    let began = std::time::Instant::now();
    wait::until("the end of a process", patience + Duration::from_secs(10), || {
        if began.elapsed() > patience {
            child.kill().expect("kill");
            let status = child.wait().expect("wait");
            panic!("a command took longer than {patience:?} and was killed ({status})");
        }
        child.try_wait().expect("wait")
    })
}

/// The path as an argument.
///
/// # Panics
/// If it is not UTF-8; temporary folders are.
#[must_use]
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8 path")
}
