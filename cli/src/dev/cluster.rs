//! The roles of the cluster: started in order, stopped together.

use std::collections::BTreeSet;
use std::time::Duration;

use base::config::{ENVIRONMENT_PREFIX, Sources};
use base::task::{CancellationToken, TaskTracker};
use rustix::process::Signal;
use tokio::sync::mpsc;

use super::folder::Folder;
use super::output::Named;
use super::ports::{Plan, RolePorts};
use super::process::{self, Ended, Launch, Process};
use super::roles::Kind;
use super::{DevError, REPLICATION, health};
use crate::args::DevOptions;
use crate::server::{self, Running};

/// Longest time for a role to become able to serve.
const READY: Duration = Duration::from_secs(45);
/// Longest time for a role to stop before it is killed.
const STOP: Duration = Duration::from_secs(15);

/// One running role.
#[derive(Debug)]
enum Part {
    /// In this process: cancel `stop`; `gone` is cancelled at its end.
    Inside {
        stop: CancellationToken,
        gone: CancellationToken,
    },
    Process(Process),
}

/// Tells the end of a role in this process as that of a child is told.
fn watch(mut running: Running, name: String, ends: mpsc::Sender<Ended>) -> Part {
    let (stop, gone) = (running.stop(), CancellationToken::new());
    let over = gone.clone();
    base::task::spawn(&TaskTracker::new(), async move {
        let how = match running.ended().await {
            Ok(()) => "status 0".to_owned(),
            Err(error) => {
                tracing::error!(role = name, "{}", error.text);
                error.text
            }
        };
        over.cancel();
        // An error: dev has stopped and does not wait for ends any more.
        drop(ends.send(Ended { name, how }).await);
    });
    Part::Inside { stop, gone }
}

/// All roles.
#[derive(Debug)]
pub(crate) struct Cluster<'a> {
    folder: &'a Folder,
    options: &'a DevOptions,
    superuser: String,
    ends: mpsc::Sender<Ended>,
    parts: Vec<Part>,
    roles: Vec<Named>,
    ended: BTreeSet<String>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(
        folder: &'a Folder,
        options: &'a DevOptions,
        superuser: String,
        ends: mpsc::Sender<Ended>,
    ) -> Self {
        Self { folder, options, superuser, ends, parts: vec![], roles: vec![], ended: BTreeSet::new() }
    }

    /// Starts the namenode, then all datanodes, and waits until every one can serve.
    ///
    /// # Errors
    /// The first role that cannot start or does not become ready.
    ///
    /// # Cancel safety
    /// What was started stays until [`Cluster::stop`].
    pub(crate) async fn start(&mut self, plan: &Plan) -> Result<(), DevError> {
        self.start_roles(&[("namenode".to_owned(), Kind::Namenode, plan.namenode)]).await?;
        let nodes = plan.datanodes.iter().zip(1..).map(|(ports, i)| (format!("dn{i}"), Kind::Datanode, *ports));
        self.start_roles(&nodes.collect::<Vec<_>>()).await?;
        // Datanodes first: the namenode leaves its safe mode by their reports.
        for role in self.roles.iter().rev() {
            let ready = health::until_ready(role.facts.http, READY).await;
            ready.map_err(|error| DevError { text: format!("{}: {error}", role.name), ..error.into() })?;
        }
        Ok(())
    }

    async fn start_roles(&mut self, roles: &[(String, Kind, RolePorts)]) -> Result<(), DevError> {
        let mut starting = Vec::new();
        for (name, kind, ports) in roles {
            let settings = self.settings(name, *kind, *ports);
            if self.options.processes {
                let launch = Launch {
                    name,
                    kind: *kind,
                    settings: settings.into_iter().map(|(key, value)| (variable_of(&key), value)).collect(),
                    role_env: &self.options.role_env,
                    log_file: &self.folder.log_of(name),
                };
                starting.push((name, process::spawn(launch, self.ends.clone())?));
                continue;
            }
            let sources = Sources::new().process_environment();
            let sources = settings.into_iter().fold(sources, |all, (key, value)| all.flag(&key, "of dev", value));
            let (running, facts) = server::start(*kind, &sources).await.map_err(|error| DevError {
                status: error.status,
                text: format!("{name} did not start: {}", error.text),
            })?;
            self.parts.push(watch(running, name.clone(), self.ends.clone()));
            self.roles.push(Named { name: name.clone(), facts });
        }
        for (name, child) in starting {
            let (process, facts) = child.listening().await?;
            self.parts.push(Part::Process(process));
            self.roles.push(Named { name: name.clone(), facts });
        }
        Ok(())
    }

    /// What dev decides; everything else is as the environment or the defaults have it.
    fn settings(&self, name: &str, kind: Kind, ports: RolePorts) -> Vec<(String, String)> {
        let (address, http) = ports.addresses();
        let dir = self.folder.of(name).display().to_string();
        let verb = kind.verb();
        let mut settings =
            vec![(format!("{verb}.listen"), address.to_string()), (format!("{verb}.http"), http.to_string())];
        match kind {
            Kind::Namenode => {
                let replication = self.folder.datanodes().min(REPLICATION).to_string();
                settings.extend([
                    ("namenode.dir".to_owned(), dir),
                    ("namenode.superuser".to_owned(), self.superuser.clone()),
                    ("namenode.replication".to_owned(), replication),
                ]);
            }
            Kind::Datanode => settings.extend([
                ("datanode.dirs".to_owned(), toml::Value::Array(vec![dir.into()]).to_string()),
                ("datanode.namenodes".to_owned(), toml::Value::Array(vec![self.namenode().into()]).to_string()),
            ]),
        }
        settings
    }

    fn namenode(&self) -> String {
        let role = self.roles.iter().find(|role| role.facts.role == Kind::Namenode);
        role.map_or_else(String::new, |role| role.facts.address.to_string())
    }

    /// What clients need to know.
    pub(crate) fn uri(&self) -> String {
        format!("blockyard://{}", self.namenode())
    }

    /// All roles that were started.
    pub(crate) fn roles(&self) -> &[Named] {
        &self.roles
    }

    /// Notes the end of a role; `true` if none is left.
    pub(crate) fn none_left(&mut self, ended: &Ended) -> bool {
        self.ended.insert(ended.name.clone());
        self.ended.len() == self.roles.len()
    }

    /// Stops all roles and waits for their ends; kills processes that do not end in time.
    pub(crate) async fn stop(&mut self) {
        for part in &self.parts {
            match part {
                Part::Inside { stop, .. } => stop.cancel(),
                Part::Process(process) => process.signal(Signal::TERM),
            }
        }
        let all = async {
            for part in &self.parts {
                match part {
                    Part::Inside { gone, .. } => gone.cancelled().await,
                    Part::Process(process) => process.gone().await,
                }
            }
        };
        if base::shutdown::within(STOP, all).await {
            return;
        }
        for part in &self.parts {
            if let Part::Process(process) = part {
                process.signal(Signal::KILL);
                process.gone().await;
            }
        }
    }
}

/// `namenode.listen` as a variable of the environment.
fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}
