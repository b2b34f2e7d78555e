//! A cluster for one benchmark: `blockyard dev --processes` in a folder that goes with it.
//!
//! The servers end with this process, also after kill -9: each waits for the end of its standard input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::disk::{Disk, OsDisk};
use base::task::CancellationToken;
use rustix::process::{Pid, Signal};
use tokio::sync::mpsc;

use crate::args::DevOptions;
use crate::dev::cluster::Cluster;
use crate::dev::folder::Folder;
use crate::dev::ports::{self, Ports};
use crate::dev::process::Ended;
use crate::dev::roles::{Kind, RoleEnv};
use crate::verbs::Failure;

/// Settings unlike the defaults: what a round has deleted must not take room, and no time in the next round.
const SETTINGS: [(Kind, &str, &str); 2] = [
    (Kind::Namenode, "BLOCKYARD_NAMENODE__DELETE_DELAY", "1s"),
    (Kind::Datanode, "BLOCKYARD_DATANODE__TRASH_KEEP", "0s"),
];

/// A cluster that runs.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// Its address.
    pub(super) fs: String,
    /// Operations pages of all roles.
    pub(super) pages: Vec<String>,
    /// Its datanodes.
    pub(super) datanodes: Vec<OwnDatanode>,
}

/// A datanode of it.
#[derive(Clone, Debug)]
pub(super) struct OwnDatanode {
    name: String,
    pid: i32,
    /// Its operations page.
    pub(super) page: String,
    folder: PathBuf,
    /// Its end is no fault.
    killed: CancellationToken,
}

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Its folder.
    pub(super) dir: PathBuf,
    pub(super) datanodes: u16,
    pub(super) user: String,
    /// Racks of the first datanodes; the others are where the default is.
    pub(super) racks: Vec<&'static str>,
}

impl Own {
    /// Kills a datanode, as kill -9 does.
    pub(super) fn kill(datanode: &OwnDatanode) -> Result<(), Failure> {
        datanode.killed.cancel();
        let pid = Pid::from_raw(datanode.pid).ok_or(rustix::io::Errno::SRCH);
        let done = pid.and_then(|pid| rustix::process::kill_process(pid, Signal::KILL));
        done.map_err(|error| Failure::local("kill", &datanode.name, &error.into()))
    }

    /// Bytes of all blocks on disk, those in the trash included.
    pub(super) async fn block_bytes(&self) -> Result<u64, Failure> {
        let folders: Vec<PathBuf> = self.datanodes.iter().map(|datanode| datanode.folder.clone()).collect();
        let failed = |error: std::io::Error| Failure::local("look at the blocks", "", &error);
        let sum = move || folders.iter().map(|folder| bytes_below(folder)).sum::<std::io::Result<u64>>();
        base::task::blocking(sum).await.map_err(failed)?.map_err(failed)
    }
}

fn bytes_below(folder: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in OsDisk.read_dir(folder)? {
        // Room that the node holds for deletes on a full disk: none of it is of a block.
        if entry.name == "reserve" {
            continue;
        }
        // Removed between the listing and the look: nothing is there any more.
        let below = if entry.info.is_dir { bytes_below(&folder.join(&entry.name)).unwrap_or(0) } else { 0 };
        sum += entry.info.len_bytes + below;
    }
    Ok(sum)
}

/// Starts a cluster in `dir`, runs `body` with it, and stops all of it, whatever happened.
pub(super) async fn with<T>(
    wanted: Wanted,
    stop: &CancellationToken,
    body: impl AsyncFnOnce(Own) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let options = options(&wanted);
    let killed: BTreeMap<String, CancellationToken> =
        (1..=wanted.datanodes).map(|number| (datanode_name(number), CancellationToken::new())).collect();
    let failed = |error: std::io::Error| Failure::server(format!("no cluster could be started: {error}"));
    let folder = Folder::open(&options).map_err(failed)?;
    let plan = ports::plan(options.ports, folder.datanodes()).map_err(failed)?;
    let (sender, mut ends) = mpsc::channel(64);
    let mut cluster = Cluster::new(&folder, &options, wanted.user, sender);
    let outcome = {
        let work = async {
            // Not given up half-way: a role that is just being started would be waited for by nobody.
            let started = cluster.start(&plan).await;
            started.map_err(|error| Failure::server(format!("no cluster could be started: {}", error.text)))?;
            let own = of(&cluster, &killed);
            tokio::select! {
                outcome = body(own) => outcome,
                () = stop.cancelled() => Err(Failure::interrupted("what it made is removed")),
            }
        };
        tokio::select! {
            outcome = work => outcome,
            ended = unexpected(&mut ends, &killed) => {
                Err(Failure::server(format!("{} of the benchmark's own cluster ended with {}", ended.name, ended.how)))
            }
        }
    };
    cluster.stop().await;
    outcome
}

/// The end of a role that was not killed by the benchmark.
async fn unexpected(ends: &mut mpsc::Receiver<Ended>, killed: &BTreeMap<String, CancellationToken>) -> Ended {
    loop {
        match ends.recv().await {
            Some(ended) if killed.get(&ended.name).is_some_and(CancellationToken::is_cancelled) => {}
            Some(ended) => return ended,
            None => std::future::pending().await,
        }
    }
}

/// As `dev` calls them.
fn datanode_name(number: u16) -> String {
    format!("dn{number}")
}

fn options(wanted: &Wanted) -> DevOptions {
    let roles = (1..=wanted.datanodes).map(|number| (datanode_name(number), Kind::Datanode));
    let roles = roles.chain([("namenode".to_owned(), Kind::Namenode)]);
    let role_env = roles.flat_map(|(role, kind)| {
        let own = SETTINGS.iter().filter(move |(of, _, _)| *of == kind);
        own.map(move |(_, name, value)| RoleEnv { role: role.clone(), name: (*name).into(), value: (*value).into() })
    });
    let racks = (1..).zip(&wanted.racks).map(|(number, rack)| RoleEnv {
        role: datanode_name(number),
        name: "BLOCKYARD_DATANODE__RACK".into(),
        value: (*rack).into(),
    });
    DevOptions {
        dir: wanted.dir.clone(),
        ephemeral: false,
        datanodes: Some(wanted.datanodes),
        ports: Ports::Random,
        processes: true,
        exec: None,
        role_env: role_env.chain(racks).collect(),
    }
}

fn of(cluster: &Cluster<'_>, killed: &BTreeMap<String, CancellationToken>) -> Own {
    let roles = cluster.roles();
    let datanodes = roles.iter().filter(|role| role.facts.role == Kind::Datanode);
    Own {
        fs: cluster.uri(),
        pages: roles.iter().map(|role| role.facts.http.to_string()).collect(),
        datanodes: datanodes
            .map(|role| OwnDatanode {
                name: role.name.clone(),
                pid: role.facts.pid,
                page: role.facts.http.to_string(),
                folder: role.facts.dir.clone(),
                killed: killed.get(&role.name).cloned().unwrap_or_default(),
            })
            .collect(),
    }
}
