//! `blockyard dev`: a whole cluster on this machine, for development.
//!
//! ```text
//!   folder (locked) ─▶ ports ─▶ namenode ─▶ dn1 dn2 dn3 ─▶ all say ready ─▶ banner ─▶ until a signal, or the end
//!                               each a task group of this process, or a process        of --exec ─▶ stop all
//! ```

pub(crate) mod cluster;
mod exec;
pub(crate) mod folder;
pub(crate) mod health;
pub(crate) mod output;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod roles;

use std::io;
use std::time::Duration;

use base::clock::{Clock, Moment, SystemClock};
use base::logs::{self, LogOptions};
use base::task::CancellationToken;
use tokio::sync::mpsc;

use crate::args::{DevOptions, Global};
use crate::exit::Status;
use cluster::Cluster;
use folder::Folder;
use output::Output;
use ports::Plan;
use process::Ended;

/// Replicas of a file unless there are fewer datanodes.
const REPLICATION: u16 = 3;

/// Why the cluster does not run.
#[derive(Debug)]
pub(crate) struct DevError {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl From<io::Error> for DevError {
    fn from(error: io::Error) -> Self {
        Self { status: Status::FAILED, text: error.to_string() }
    }
}

/// Runs the cluster until a signal, or until the end of `--exec`.
pub(crate) fn run(options: &DevOptions, global: &Global) -> Status {
    match try_run(options, global) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {}", error.text);
            error.status
        }
    }
}

fn try_run(options: &DevOptions, global: &Global) -> Result<Status, DevError> {
    let clock = SystemClock::new();
    let folder = Folder::open(options)?;
    logs::init(&LogOptions { default_filter: String::new(), file: Some(folder.log_of("dev")) })?;
    let plan = ports::plan(options.ports, folder.datanodes())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let stop = CancellationToken::new();
        base::shutdown::on_signals(stop.clone())?;
        let (sender, ends) = mpsc::channel(64);
        let mut cluster = Cluster::new(&folder, options, server_user(global), sender);
        let dev = Dev {
            output: Output { json: global.json, aside: options.exec.is_some() },
            began: clock.now(),
            clock: &clock,
            folder: &folder,
            exec: options.exec.as_deref(),
        };
        let outcome = dev.serve(&mut cluster, &plan, &stop, ends).await;
        cluster.stop().await;
        outcome
    });
    // Blocking work that did not end in time must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    status
}

/// The superuser of a new cluster: who starts it.
fn server_user(global: &Global) -> String {
    global.user.clone().unwrap_or_else(crate::verbs::os_user)
}

struct Dev<'a> {
    output: Output,
    clock: &'a SystemClock,
    began: Moment,
    folder: &'a Folder,
    exec: Option<&'a str>,
}

impl Dev<'_> {
    async fn serve(
        &self,
        cluster: &mut Cluster<'_>,
        plan: &Plan,
        stop: &CancellationToken,
        mut ends: mpsc::Receiver<Ended>,
    ) -> Result<Status, DevError> {
        plan.notes.iter().for_each(|note| self.output.note(note));
        tokio::select! {
            started = cluster.start(plan) => started?,
            () = stop.cancelled() => return Ok(Status::OK),
            Some(ended) = ends.recv() => return Err(unready_end(&ended, self.folder)),
        }
        let fs = cluster.uri();
        let replication = self.folder.datanodes().min(REPLICATION);
        let after = self.clock.now().since(self.began);
        self.output.ready(&fs, cluster.roles(), self.folder, replication, after);
        if let Some(command) = self.exec {
            return Ok(exec::run(command, &fs, stop).await?);
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.output.stopping();
                    return Ok(Status::OK);
                }
                Some(ended) = ends.recv() => {
                    self.output.ended(&ended);
                    if cluster.none_left(&ended) {
                        return Err(DevError { status: Status::FAILED, text: "every role has ended".to_owned() });
                    }
                }
            }
        }
    }
}

fn unready_end(ended: &Ended, folder: &Folder) -> DevError {
    let log = folder.log_of(&ended.name);
    let text =
        format!("{} ended with {} before the cluster was ready; its log is {}", ended.name, ended.how, log.display());
    DevError { status: Status::FAILED, text }
}
