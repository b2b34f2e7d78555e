//! A cluster of real processes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{self, Ended};
use crate::wait;

/// Longest time from start to the ready line.
const READY: Duration = Duration::from_secs(60);

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of datanodes.
    pub datanodes: u16,
    /// Environment of `dev` and of all roles.
    pub environment: Vec<(String, String)>,
    /// `ROLE:NAME=VALUE` for single roles.
    pub role_environment: Vec<String>,
    /// Value of `--ports`.
    pub ports: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { datanodes: 3, environment: vec![], role_environment: vec![], ports: "random".to_owned() }
    }
}

impl Options {
    /// Arms a crash point on one role.
    #[must_use]
    pub fn crash(mut self, role: &str, point: &str) -> Self {
        self.role_environment.push(format!("{role}:{}={point}", base::crash::CRASH_VARIABLE));
        self
    }
    /// Sets an environment variable everywhere.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The ready line.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// Version of the line's layout.
    pub v: u32,
    /// URI of the cluster.
    pub fs: String,
    /// The namenode's operations page.
    pub http: String,
    /// Every process, or every role of the one process.
    pub roles: Vec<Role>,
}

/// One role of the ready line.
#[derive(Debug, Clone, Deserialize)]
pub struct Role {
    /// `namenode` or `datanode`.
    pub role: String,
    /// Its process.
    pub pid: i32,
    /// Its name in this cluster: `namenode`, `dn1`, ….
    pub name: String,
    /// Identity of a datanode.
    #[serde(default)]
    pub id: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Address of a datanode's data port.
    #[serde(default)]
    pub data: String,
    /// Its operations page.
    #[serde(default)]
    pub http: String,
}

/// Running `blockyard dev --processes`.
#[derive(Debug)]
struct Dev {
    child: Child,
    events: Mutex<Receiver<Value>>,
    said: Arc<Mutex<Vec<String>>>,
}

/// A cluster in a temporary folder.
#[derive(Debug)]
pub struct Cluster {
    home: TempDir,
    options: Options,
    dev: Option<Dev>,
    ready: Ready,
    /// How long the last start took.
    pub ready_after: Duration,
}

impl Cluster {
    /// Starts three datanodes and a namenode.
    ///
    /// # Panics
    /// If it is not ready in time, with what it said.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Starts a cluster.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    #[must_use]
    pub fn with(options: Options) -> Self {
        match Self::try_with(options) {
            Ok(cluster) => cluster,
            Err(text) => panic!("the cluster does not start: {text}"),
        }
    }

    /// Starts a cluster that may die while it starts.
    ///
    /// # Errors
    /// What it said, if it ended before it was ready.
    pub fn try_with(options: Options) -> Result<Self, String> {
        let home = tempfile::Builder::new().prefix("blockyard-test-").tempdir().expect("temporary folder");
        let mut cluster = Self { home, options, dev: None, ready: Ready::none(), ready_after: Duration::ZERO };
        cluster.start_again().map(|()| cluster)
    }

    /// An empty place for a cluster, nothing started.
    #[must_use]
    pub fn unstarted(options: Options) -> Self {
        let home = tempfile::Builder::new().prefix("blockyard-test-").tempdir().expect("temporary folder");
        Self { home, options, dev: None, ready: Ready::none(), ready_after: Duration::ZERO }
    }

    /// Changes how the next start goes.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Starts with the folder as it is.
    ///
    /// # Errors
    /// What it said, if it ended before it was ready.
    ///
    /// # Panics
    /// If it still runs, or neither ends nor is ready in time.
    pub fn start_again(&mut self) -> Result<(), String> {
        assert!(self.dev.is_none(), "the cluster runs already");
        let began = Instant::now();
        let mut dev = Dev::spawn(&self.data_dir(), &self.options);
        let first = wait::until("the ready line", READY, || match dev.event() {
            Some(line) if line["type"] == "ready" => Some(Ok(line)),
            Some(_) => None,
            None => dev.ended().map(Err),
        });
        match first {
            Ok(line) => {
                self.ready = serde_json::from_value(line).expect("ready line");
                self.ready_after = began.elapsed();
                self.dev = Some(dev);
                Ok(())
            }
            Err(status) => Err(format!("ended with {status}: {}", dev.said())),
        }
    }

    /// Starts with the folder as it is.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn restart(&mut self) {
        if let Err(text) = self.start_again() {
            panic!("the cluster does not start again: {text}{}", self.logs());
        }
    }

    /// The ready line of the last start.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Folder given as `--dir`.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A folder for the test's own files.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A role by its name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn role(&self, name: &str) -> &Role {
        self.ready.roles.iter().find(|role| role.name == name).unwrap_or_else(|| panic!("no role {name}"))
    }

    /// Kills one role with SIGKILL and waits until it is gone.
    pub fn kill(&self, name: &str) {
        let pid = self.role(name).pid;
        signal(pid, Signal::KILL);
        wait_gone(pid);
    }

    /// Kills every role at once with SIGKILL, without waiting.
    pub fn kill_roles(&self) {
        self.ready.roles.iter().for_each(|role| signal(role.pid, Signal::KILL));
    }

    /// Kills every process at once with SIGKILL: `dev` and all roles.
    pub fn kill_all(&mut self) {
        self.kill_roles();
        if let Some(mut dev) = self.dev.take() {
            dev.kill();
        }
        self.ready.roles.iter().for_each(|role| wait_gone(role.pid));
    }

    /// Kills `dev` alone with SIGKILL; its children must follow by themselves.
    pub fn kill_parent(&mut self) {
        if let Some(mut dev) = self.dev.take() {
            dev.kill();
        }
        self.ready.roles.iter().for_each(|role| wait_gone(role.pid));
    }

    /// Stops with SIGTERM and gives the status of `dev`.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn stop(&mut self) -> ExitStatus {
        let mut dev = self.dev.take().expect("the cluster runs");
        signal(i32::try_from(dev.child.id()).expect("pid"), Signal::TERM);
        command::wait_with_patience(&mut dev.child, Duration::from_secs(45))
    }

    /// Waits for an event of `dev` that fits.
    ///
    /// # Panics
    /// If none comes in time.
    pub fn event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let dev = self.dev.as_ref().expect("the cluster runs");
        wait::until(what, Duration::from_secs(30), || dev.event().filter(|event| fits(event)))
    }

    /// Is this role's process alive?
    #[must_use]
    pub fn alive(&self, name: &str) -> bool {
        is_alive(self.role(name).pid)
    }

    /// Runs `blockyard ARGS` against this cluster.
    pub fn run(&self, args: &[&str]) -> Ended {
        command::run(self.command(args))
    }

    /// Runs `blockyard ARGS` with bytes on its standard input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        command::run_with_input(self.command(args), input)
    }

    /// `blockyard ARGS` against this cluster, not yet started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = command::blockyard(args);
        command.env("BLOCKYARD_FS", &self.ready.fs);
        command
    }

    /// Ends of the logs of all roles, for messages.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let Ok(entries) = std::fs::read_dir(self.data_dir().join("logs")) else { return text };
        for entry in entries.flatten() {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"audit\"")).collect();
            let from = lines.len().saturating_sub(15);
            text.push_str(&format!("\n--- {}\n{}", entry.path().display(), lines[from..].join("\n")));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for role in &self.ready.roles {
            signal(role.pid, Signal::KILL);
        }
        if let Some(mut dev) = self.dev.take() {
            dev.kill();
        }
    }
}

impl Ready {
    fn none() -> Self {
        Self { v: 1, fs: String::new(), http: String::new(), roles: vec![] }
    }
}

impl Dev {
    fn spawn(dir: &Path, options: &Options) -> Self {
        let datanodes = options.datanodes.to_string();
        let mut command = command::blockyard(["dev", "--processes", "--json", "--datanodes", &datanodes]);
        command.args(["--ports", &options.ports, "--dir", command::arg(dir)]);
        for one in &options.role_environment {
            command.args(["--role-env", one]);
        }
        command.envs(options.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("blockyard dev starts");
        let (sender, events) = sync_channel(4096);
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&said);
        let readers = [
            base::task::thread("dev-stdout", move || {
                for line in stdout.lines().map_while(Result::ok) {
                    let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    if sender.send(value).is_err() {
                        return;
                    }
                }
            }),
            base::task::thread("dev-stderr", move || {
                stderr.lines().map_while(Result::ok).for_each(|line| keep.lock().expect("lock").push(line));
            }),
        ];
        // They end with the pipes, that is with the process.
        readers.into_iter().for_each(|reader| drop(reader.expect("thread")));
        Self { child, events: Mutex::new(events), said }
    }

    fn event(&self) -> Option<Value> {
        self.events.lock().expect("lock").try_recv().ok()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    fn kill(&mut self) {
        // Already ended is as good.
        if self.child.kill().is_ok() {
            self.child.wait().expect("wait");
        }
    }

    fn said(&self) -> String {
        self.said.lock().expect("lock").join("\n")
    }
}

/// Sends a signal; a process that is gone already is no fault.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("cannot signal process {pid:?}: {error}"),
        }
    }
}

/// Is there such a process, not counting one that only waits to be reaped?
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

fn wait_gone(pid: i32) {
    wait::until("the end of a role's process", Duration::from_secs(20), || (!is_alive(pid)).then_some(()));
}
