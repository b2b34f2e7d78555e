//! A cluster for one benchmark: `blockyard dev --processes` in a folder that goes with it.
//!
//! The servers end with this process, also after kill -9: each waits for the end of its standard input.

use std::path::{Path, PathBuf};

use base::disk::{Disk, OsDisk};
use base::task::CancellationToken;
use tokio::sync::mpsc;

use crate::args::DevOptions;
use crate::dev::cluster::Cluster;
use crate::dev::folder::Folder;
use crate::dev::ports::{self, Ports};
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
    /// Folders of the datanodes.
    folders: Vec<PathBuf>,
}

impl Own {
    /// Bytes of all blocks on disk, those in the trash included.
    pub(super) async fn block_bytes(&self) -> Result<u64, Failure> {
        let folders = self.folders.clone();
        let failed = |error: std::io::Error| Failure::local("look at the blocks", "", &error);
        let sum = move || folders.iter().map(|folder| bytes_below(folder)).sum::<std::io::Result<u64>>();
        base::task::blocking(sum).await.map_err(failed)?.map_err(failed)
    }
}

fn bytes_below(folder: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in OsDisk.read_dir(folder)? {
        // Removed between the listing and the look: nothing is there any more.
        let below = if entry.info.is_dir { bytes_below(&folder.join(&entry.name)).unwrap_or(0) } else { 0 };
        sum += entry.info.len_bytes + below;
    }
    Ok(sum)
}

/// Starts a cluster in `dir`, runs `body` with it, and stops all of it, whatever happened.
pub(super) async fn with<T>(
    (dir, datanodes, user): (PathBuf, u16, String),
    stop: &CancellationToken,
    body: impl AsyncFnOnce(Own) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let options = options(dir, datanodes);
    let failed = |error: std::io::Error| Failure::server(format!("no cluster could be started: {error}"));
    let folder = Folder::open(&options).map_err(failed)?;
    let plan = ports::plan(options.ports, folder.datanodes()).map_err(failed)?;
    let (sender, mut ends) = mpsc::channel(64);
    let mut cluster = Cluster::new(&folder, &options, user, sender);
    let outcome = {
        let work = async {
            // Not given up half-way: a role that is just being started would be waited for by nobody.
            let started = cluster.start(&plan).await;
            started.map_err(|error| Failure::server(format!("no cluster could be started: {}", error.text)))?;
            let own = of(&cluster);
            tokio::select! {
                outcome = body(own) => outcome,
                () = stop.cancelled() => Err(Failure::interrupted("what it made is removed")),
            }
        };
        tokio::select! {
            outcome = work => outcome,
            Some(ended) = ends.recv() => {
                Err(Failure::server(format!("{} of the benchmark's own cluster ended with {}", ended.name, ended.how)))
            }
        }
    };
    cluster.stop().await;
    outcome
}

fn options(dir: PathBuf, datanodes: u16) -> DevOptions {
    let roles = (1..=datanodes).map(|number| (format!("dn{number}"), Kind::Datanode));
    let roles = roles.chain([("namenode".to_owned(), Kind::Namenode)]);
    let role_env = roles.flat_map(|(role, kind)| {
        let own = SETTINGS.iter().filter(move |(of, _, _)| *of == kind);
        own.map(move |(_, name, value)| RoleEnv { role: role.clone(), name: (*name).into(), value: (*value).into() })
    });
    DevOptions {
        dir,
        ephemeral: false,
        datanodes: Some(datanodes),
        ports: Ports::Random,
        processes: true,
        exec: None,
        role_env: role_env.collect(),
    }
}

fn of(cluster: &Cluster<'_>) -> Own {
    let roles = cluster.roles();
    let datanodes = roles.iter().filter(|role| role.facts.role == Kind::Datanode);
    Own {
        fs: cluster.uri(),
        pages: roles.iter().map(|role| role.facts.http.to_string()).collect(),
        folders: datanodes.map(|role| role.facts.dir.clone()).collect(),
    }
}
