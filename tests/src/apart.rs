//! A cluster of which each server is on a machine of its own: processes in namespaces of a [`Net`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{is_alive, signal};
use crate::command::{self, Ended};
use crate::net::{Cut, Net};
use crate::wait;

/// Longest time until all servers serve.
const READY: Duration = Duration::from_secs(60);
/// The machine from which commands run.
pub const CLIENT: &str = "client";
/// A machine from which others look.
pub const OBSERVER: &str = "observer";
/// The machine of the namenode.
pub const NAMENODE: &str = "namenode";

/// A server. Its standard input tells it that the test is gone, however that ended.
#[derive(Debug)]
struct Server {
    child: Child,
    _stdin: ChildStdin,
}

/// A cluster on several machines. Dropped, its processes and its network are gone.
#[derive(Debug)]
pub struct Apart {
    // In this order: processes go before their network.
    servers: BTreeMap<String, Server>,
    net: Net,
    home: TempDir,
    fs: String,
}

/// Name of a datanode's machine.
#[must_use]
pub fn datanode(number: u16) -> String {
    format!("dn{number}")
}

impl Apart {
    /// Starts a namenode and datanodes, with settings as `section.key=value`; `None` where no network can be made, with
    /// the reason printed.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start(datanodes: u16, settings: &[&str]) -> Option<Self> {
        let nodes: Vec<String> = (1..=datanodes).map(datanode).collect();
        let others = [CLIENT, OBSERVER].map(str::to_owned);
        let machines: Vec<String> =
            [NAMENODE.to_owned()].into_iter().chain(nodes.iter().cloned()).chain(others).collect();
        let net = Net::new(&machines)?;
        let home = tempfile::Builder::new().prefix("blockyard-apart-").tempdir().expect("temporary folder");
        let fs = format!("blockyard://{}:8020", net.address(NAMENODE));
        let mut cluster = Self { servers: BTreeMap::new(), net, home, fs };
        cluster.start_server(NAMENODE, "namenode", settings);
        for node in &nodes {
            cluster.start_server(node, "datanode", settings);
        }
        wait::until("every datanode to be live", READY, || {
            let ended = cluster.run(&["cluster", "status", "--json"]);
            let status: Value = serde_json::from_str(&ended.text()).ok()?;
            (status["live_nodes"] == datanodes && status["safe_mode"] == false).then_some(())
        });
        Some(cluster)
    }

    fn start_server(&mut self, machine: &str, verb: &str, settings: &[&str]) {
        let address = self.net.address(machine);
        let (port, http) = if verb == "namenode" { (8020, 9870) } else { (9866, 9864) };
        let listen = format!("{address}:{port}");
        let dir = self.home.path().join(machine);
        let mut server = command::blockyard([verb, "--json", "--end-with-parent", "--insecure", "--listen", &listen]);
        server.args(["--dir", command::arg(&dir), "--log-file", command::arg(&self.log_of(machine))]);
        server.args(["--set", &format!("{verb}.http={address}:{http}")]);
        if verb == "datanode" {
            let namenode = self.net.address(NAMENODE);
            server.args(["--set", &format!("datanode.namenodes=[\"{namenode}:8020\"]")]);
        }
        for one in settings.iter().filter(|one| one.starts_with(verb)) {
            server.args(["--set", one]);
        }
        let mut child = self.net.on(machine, &server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ip");
        let stdin = child.stdin.take().expect("piped");
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut first).expect("a line");
        self.servers.insert(machine.to_owned(), Server { child, _stdin: stdin });
        assert!(!first.is_empty(), "{machine} did not start: {}", self.logs());
    }

    fn log_of(&self, machine: &str) -> PathBuf {
        self.home.path().join(format!("{machine}.log"))
    }

    /// The network.
    #[must_use]
    pub const fn net(&self) -> &Net {
        &self.net
    }
    /// Process of a server.
    ///
    /// # Panics
    /// If there is no such server.
    #[must_use]
    pub fn pid(&self, machine: &str) -> i32 {
        i32::try_from(self.servers.get(machine).expect("a server").child.id()).expect("pid")
    }
    /// Does this to the packets of a machine.
    pub fn cut(&self, machine: &str, cut: &Cut) {
        self.net.cut(machine, cut);
    }
    /// Lets them through again.
    pub fn heal(&self, machine: &str) {
        self.net.heal(machine);
    }
    /// Sends a signal to a server.
    pub fn signal(&self, machine: &str, what: Signal) {
        signal(self.pid(machine), what);
    }

    /// `blockyard ARGS` on the client's machine, not yet started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_on(CLIENT, args)
    }
    /// `blockyard ARGS` on a machine, not yet started.
    #[must_use]
    pub fn command_on(&self, machine: &str, args: &[&str]) -> Command {
        let mut command = command::blockyard(args);
        // Without the network there would be nothing to cut.
        command.env("BLOCKYARD_FS", &self.fs).env("BLOCKYARD_LOCAL_READS", "off");
        let mut command = self.net.on(machine, &command);
        command.stdin(Stdio::null());
        command
    }
    /// Runs `blockyard ARGS` on the client's machine.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ended {
        command::run(self.command(args))
    }
    /// Runs `blockyard ARGS` on the machine from which others look.
    #[must_use]
    pub fn observe(&self, args: &[&str]) -> Ended {
        command::run(self.command_on(OBSERVER, args))
    }
    /// Runs `blockyard ARGS` on the client's machine with bytes on its standard input.
    #[must_use]
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        command::run_with_input(self.command(args), input)
    }
    /// The cluster's state.
    ///
    /// # Panics
    /// If it does not tell.
    #[must_use]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["cluster", "status", "--json"]).ok().text()).expect("JSON")
    }

    /// Ends of the servers' logs, for messages.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for machine in self.servers.keys() {
            let log = std::fs::read_to_string(self.log_of(machine)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"audit\"")).collect();
            let from = lines.len().saturating_sub(12);
            text.push_str(&format!("\n--- {machine}\n{}", lines[from..].join("\n")));
        }
        text
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for server in self.servers.values_mut() {
            // One that has ended is as good; a stopped one dies too.
            if server.child.kill().is_ok() && server.child.wait().is_err() {
                eprintln!("a server could not be waited for");
            }
        }
    }
}

/// A command that bytes flow through, and the longest time in which none did.
#[derive(Debug)]
pub struct Flow {
    child: Child,
    longest: Duration,
    moved: usize,
}

/// Bytes that are handed over at a time.
const PIECE: usize = 64 << 10;

impl Flow {
    /// Starts a command with both pipes open.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self { child: child.expect("the command starts"), longest: Duration::ZERO, moved: 0 }
    }
    /// Feeds bytes; `false` if it does not take them any more.
    ///
    /// # Panics
    /// After [`Flow::finish`].
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let stdin = self.child.stdin.as_mut().expect("piped");
        for piece in bytes.chunks(PIECE) {
            let began = Instant::now();
            if stdin.write_all(piece).is_err() {
                return false;
            }
            self.longest = self.longest.max(began.elapsed());
            self.moved += piece.len();
        }
        true
    }
    /// The next line that it prints, without its end; `None` when it has ended.
    ///
    /// # Panics
    /// If its output cannot be read.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            match self.take(1)[..] {
                [] => return None,
                [b'\n'] => return Some(String::from_utf8_lossy(&line).into_owned()),
                [byte] => line.push(byte),
                _ => unreachable!("one byte was asked for"),
            }
        }
    }
    /// Takes so many bytes from it, fewer only if it ends.
    ///
    /// # Panics
    /// If its output cannot be read.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let stdout = self.child.stdout.as_mut().expect("piped");
        let mut bytes = vec![0; len];
        let mut at = 0;
        while at < len {
            let end = len.min(at + PIECE);
            let began = Instant::now();
            let count = stdout.read(&mut bytes[at..end]).expect("output");
            self.longest = self.longest.max(began.elapsed());
            if count == 0 {
                break;
            }
            at += count;
        }
        self.moved += at;
        bytes.truncate(at);
        bytes
    }
    /// Bytes that went through so far.
    #[must_use]
    pub const fn moved(&self) -> usize {
        self.moved
    }
    /// The longest wait so far.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.longest
    }
    /// Kills it, as kill -9 does.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
    /// Closes its input and waits for its end, which counts as a wait too: how it ended, and the longest wait.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn finish(mut self) -> (Ended, Duration) {
        drop(self.child.stdin.take());
        let began = Instant::now();
        let status = command::wait_with_patience(&mut self.child, Duration::from_secs(120));
        let longest = self.longest.max(began.elapsed());
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        self.child.stdout.take().expect("piped").read_to_end(&mut stdout).expect("output");
        self.child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("errors");
        (Ended { status, stdout, stderr }, longest)
    }
}

/// Processes that still run, of these.
#[must_use]
pub fn still_alive(pids: &[i32]) -> Vec<i32> {
    pids.iter().copied().filter(|pid| is_alive(*pid)).collect()
}
