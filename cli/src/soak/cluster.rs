//! The cluster of a soak: each role a process of its own, which can be killed, stopped, and started again as it was.
//!
//! ```text
//!   folder/namenode, dn1 … dnN, logs/      ports below those that the system gives to connections: nobody takes a port
//!                                          while its owner is dead
//!   end of a process that nobody asked for ─▶ told to `ends`: a finding
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::clock::{Clock, Moment};
use base::random::Randomness;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::dev::health;
use crate::dev::ports::{self, Plan, Ports, RolePorts};
use crate::dev::process::{self, Ended, Launch, Process};
use crate::dev::roles::{Facts, Kind};
use crate::verbs::Failure;

/// Longest time from the start of a role until it can serve.
pub(super) const READY: Duration = Duration::from_secs(60);
/// Longest time for a role to stop before it is killed.
const STOP: Duration = Duration::from_secs(15);
/// First ports that are tried, and how many: below the ports that Linux gives to outgoing connections.
const PORTS: (u16, u16) = (10_000, 20_000);
/// Rows of ports that are tried.
const PORT_TRIES: u32 = 50;

/// Settings unlike the defaults, with the reason.
const SETTINGS: [(Kind, &str, &str); 7] = [
    // The namenode dies more often than the minute after which a new leader removes anything: nothing would ever go.
    (Kind::Namenode, "namenode.delete_delay", "5s"),
    // Leases of killed clients run out within the run.
    (Kind::Namenode, "namenode.lease_hard_limit", "60s"),
    // Images and new log files are part of what is to be met by a kill.
    (Kind::Namenode, "namenode.image_every", "2MiB"),
    (Kind::Namenode, "namenode.log_segment", "4MiB"),
    // Deleted files give their room back soon.
    (Kind::Datanode, "datanode.trash_keep", "20s"),
    (Kind::Datanode, "datanode.reserve", "64MiB"),
    // The scrubber meets what the load does.
    (Kind::Datanode, "datanode.scrub_period", "1h"),
];

/// A role.
#[derive(Debug)]
struct Role {
    name: String,
    kind: Kind,
    settings: Vec<(String, String)>,
    log: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    facts: Facts,
    since: Moment,
    stopped: bool,
}

/// What is to be known of a running process.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) pid: i32,
    /// Its operations page.
    pub(super) page: SocketAddr,
    pub(super) since: Moment,
    /// Is it stopped by SIGSTOP?
    pub(super) stopped: bool,
}

/// Ends that were asked for and have not been told yet.
type Asked = Arc<Mutex<BTreeMap<String, u32>>>;

/// The cluster. Dropping it ends its processes: each waits for the end of its standard input.
#[derive(Debug)]
pub(super) struct Cluster {
    clock: Arc<dyn Clock>,
    roles: Vec<Role>,
    ends: mpsc::Sender<Ended>,
    asked: Asked,
    namenode: SocketAddr,
}

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) dir: &'a Path,
    pub(super) datanodes: u16,
    pub(super) user: &'a str,
}

impl Cluster {
    /// Prepares a cluster; nothing runs yet. Ends of its processes that nobody asked for come from the receiver.
    ///
    /// # Errors
    /// If no ports are free.
    pub(super) fn new(
        wanted: &Wanted<'_>,
        clock: Arc<dyn Clock>,
        random: &dyn Randomness,
    ) -> Result<(Self, Ends), Failure> {
        let plan = free_ports(wanted.datanodes, random)?;
        let (ends, told) = mpsc::channel(64);
        let asked = Asked::default();
        let namenode = plan.namenode.addresses().0;
        let of = |name: String, kind, ports| role(wanted, namenode, name, kind, ports);
        let datanodes = plan.datanodes.iter().zip(1..);
        let datanodes = datanodes.map(|(ports, number)| of(datanode(number), Kind::Datanode, *ports));
        let roles = std::iter::once(of(NAMENODE.to_owned(), Kind::Namenode, plan.namenode)).chain(datanodes).collect();
        let cluster = Self { clock, roles, ends, asked: Arc::clone(&asked), namenode };
        Ok((cluster, Ends { told, asked }))
    }

    /// Starts all roles and waits until all can serve.
    ///
    /// # Errors
    /// The first role that does not start.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let names: Vec<String> = self.roles.iter().map(|role| role.name.clone()).collect();
        for name in &names {
            self.start_role(name).await?;
        }
        for role in self.roles.iter().rev() {
            if let Some(running) = &role.running {
                ready(&role.name, running.facts.http).await?;
            }
        }
        Ok(())
    }

    /// Starts a role that does not run, and waits until it listens.
    ///
    /// # Errors
    /// If it does not start; its log says more.
    pub(super) async fn start_role(&mut self, name: &str) -> Result<SocketAddr, Failure> {
        let now = self.clock.now();
        let ends = self.ends.clone();
        let role = self.role(name)?;
        let launch =
            Launch { name, kind: role.kind, settings: role.settings.clone(), role_env: &[], log_file: &role.log };
        let failed = |text: String| Failure::server(format!("{name} could not be started: {text}"));
        let starting = process::spawn(launch, ends).map_err(|error| failed(error.text))?;
        let (process, facts) = starting.listening().await.map_err(|error| failed(error.text))?;
        let page = facts.http;
        role.running = Some(Running { process, facts, since: now, stopped: false });
        Ok(page)
    }

    /// Kills a role, as kill -9 does, and waits until it is gone.
    ///
    /// # Errors
    /// If there is no such role.
    pub(super) async fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let asked = Arc::clone(&self.asked);
        if let Some(running) = self.role(name)?.running.take() {
            *asked.lock().entry(name.to_owned()).or_default() += 1;
            running.process.signal(Signal::KILL);
            running.process.gone().await;
        }
        Ok(())
    }

    /// Stops a role where it is, or lets it go on.
    ///
    /// # Errors
    /// If there is no such role.
    pub(super) fn hold(&mut self, name: &str, stopped: bool) -> Result<(), Failure> {
        if let Some(running) = &mut self.role(name)?.running {
            running.process.signal(if stopped { Signal::STOP } else { Signal::CONT });
            running.stopped = stopped;
        }
        Ok(())
    }

    /// Ends everything: asks first, kills what does not end in time.
    pub(super) async fn stop(&mut self) {
        let running: Vec<(String, Running)> =
            self.roles.iter_mut().filter_map(|role| Some((role.name.clone(), role.running.take()?))).collect();
        for (name, one) in &running {
            *self.asked.lock().entry(name.clone()).or_default() += 1;
            one.process.signal(Signal::CONT);
            one.process.signal(Signal::TERM);
        }
        let all = async {
            for (_, one) in &running {
                one.process.gone().await;
            }
        };
        if !base::shutdown::within(STOP, all).await {
            for (_, one) in &running {
                one.process.signal(Signal::KILL);
                one.process.gone().await;
            }
        }
    }

    /// What clients need to know.
    pub(super) fn uri(&self) -> String {
        format!("blockyard://{}", self.namenode)
    }
    /// The processes that run.
    pub(super) fn known(&self) -> Vec<Known> {
        let known = |role: &Role| {
            let running = role.running.as_ref()?;
            Some(Known {
                name: role.name.clone(),
                pid: running.facts.pid,
                page: running.facts.http,
                since: running.since,
                stopped: running.stopped,
            })
        };
        self.roles.iter().filter_map(known).collect()
    }
    /// Names of all roles, whether they run or not.
    pub(super) fn names(&self) -> Vec<String> {
        self.roles.iter().map(|role| role.name.clone()).collect()
    }
    fn role(&mut self, name: &str) -> Result<&mut Role, Failure> {
        let role = self.roles.iter_mut().find(|role| role.name == name);
        role.ok_or_else(|| Failure::server(format!("there is no role {name}")))
    }
}

/// Waits until a role can serve.
///
/// # Errors
/// After [`READY`], with its reasons.
pub(super) async fn ready(name: &str, page: SocketAddr) -> Result<(), Failure> {
    health::until_ready(page, READY).await.map_err(|error| Failure::server(format!("{name}: {error}")))
}

/// Tells the ends of processes.
#[derive(Debug)]
pub(super) struct Ends {
    told: mpsc::Receiver<Ended>,
    asked: Asked,
}

impl Ends {
    /// The next end that nobody asked for: who, and how.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn unasked(&mut self) -> String {
        loop {
            let Some(ended) = self.told.recv().await else { return std::future::pending().await };
            let mut asked = self.asked.lock();
            match asked.get_mut(&ended.name) {
                Some(count) if *count > 0 => *count -= 1,
                _ => return format!("{} ended with {}, and nobody had asked for it", ended.name, ended.how),
            }
        }
    }
}

/// Name of the namenode.
pub(super) const NAMENODE: &str = "namenode";

/// Name of a datanode.
pub(super) fn datanode(number: u16) -> String {
    format!("dn{number}")
}

fn role(wanted: &Wanted<'_>, namenode: SocketAddr, name: String, kind: Kind, ports: RolePorts) -> Role {
    let (address, http) = ports.addresses();
    let dir = wanted.dir.join(&name).display().to_string();
    let verb = kind.verb();
    let array = |text: String| toml::Value::Array(vec![text.into()]).to_string();
    let mut settings =
        vec![(format!("{verb}.listen"), address.to_string()), (format!("{verb}.http"), http.to_string())];
    settings.extend(
        match kind {
            Kind::Namenode => [("namenode.dir", dir), ("namenode.superuser", wanted.user.to_owned())],
            Kind::Datanode => [("datanode.dirs", array(dir)), ("datanode.namenodes", array(namenode.to_string()))],
        }
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let own = SETTINGS.iter().filter(|(of, _, _)| *of == kind);
    settings.extend(own.map(|(_, key, value)| ((*key).to_owned(), (*value).to_owned())));
    let settings = settings.into_iter().map(|(key, value)| (variable_of(&key), value));
    let settings = settings.chain(disk_faults(wanted, kind, &name)).collect();
    let log = wanted.dir.join("logs").join(format!("{name}.log"));
    Role { name, kind, settings, log, running: None }
}

/// Names the plan of its disks to a datanode.
#[cfg(debug_assertions)]
fn disk_faults(wanted: &Wanted<'_>, kind: Kind, name: &str) -> Option<(String, String)> {
    let plan = || disk_plan(wanted.dir, name).display().to_string();
    (kind == Kind::Datanode).then(|| (base::disk::FAULTS_VARIABLE.to_owned(), plan()))
}

/// Disks do no wrong in builds that are not for tests.
#[cfg(not(debug_assertions))]
const fn disk_faults(_: &Wanted<'_>, _: Kind, _: &str) -> Option<(String, String)> {
    None
}

/// The plan of what a datanode's disk does wrong. Only builds with debug assertions look at it.
pub(super) fn disk_plan(home: &Path, name: &str) -> PathBuf {
    home.join(format!("{name}.faults"))
}

/// `namenode.listen` as a variable of the environment.
fn variable_of(key: &str) -> String {
    format!("{}{}", base::config::ENVIRONMENT_PREFIX, key.to_ascii_uppercase().replace('.', "__"))
}

fn free_ports(datanodes: u16, random: &dyn Randomness) -> Result<Plan, Failure> {
    let mut why = None;
    for _ in 0..PORT_TRIES {
        let first = PORTS.0 + u16::try_from(random.below(PORTS.1.into())).unwrap_or(0);
        match ports::plan(Ports::From(first), datanodes) {
            Ok(plan) => return Ok(plan),
            Err(error) => why = Some(error),
        }
    }
    let why = why.map_or_else(String::new, |error| format!(": {error}"));
    Err(Failure::server(format!("no free row of ports was found{why}")))
}
