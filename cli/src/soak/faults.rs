//! Plays the faults of the plan: the only place where anything is broken.

use std::path::PathBuf;
use std::sync::Arc;

use base::local::LocalWriter;
use base::task::JoinSet;
use tokio::sync::Mutex;

use super::child::{self, FlushingWriter};
use super::cluster::{self, Cluster, NAMENODE, datanode};
use super::model::State;
use super::plan::{Fault, FaultKind};
use super::repair;
use super::shared::{Killed, Shared, TOP};
use super::stall::Who;
use super::words::Content;
use crate::verbs::Failure;

/// Directory of the files of clients that are killed.
pub(super) const KILLED: &str = "killed";
/// Bytes that such a client is given.
const GIVEN_BYTES: u64 = 24 << 20;

/// Who plays.
#[derive(Clone, Debug)]
pub(super) struct Player {
    pub(super) shared: Arc<Shared>,
    pub(super) cluster: Arc<Mutex<Cluster>>,
    pub(super) user: String,
    /// The cluster's folder.
    pub(super) home: PathBuf,
}

impl Player {
    /// Injects every fault at its time, and ends when all are over.
    ///
    /// # Cancel safety
    /// Dropping the future leaves what is broken as it is.
    pub(super) async fn play(self, faults: Vec<Fault>) {
        let mut under_way = JoinSet::new();
        for (number, fault) in faults.into_iter().enumerate() {
            let passed = self.shared.clock.now().since(self.shared.began);
            tokio::time::sleep(fault.at.saturating_sub(passed)).await;
            let player = self.clone();
            under_way.spawn(async move { player.one(number, fault).await });
            while let Some(ended) = under_way.try_join_next() {
                self.shared.task_ended("a fault", ended);
            }
        }
        self.shared.all_ended("a fault", &mut under_way).await;
    }

    async fn one(&self, number: usize, fault: Fault) {
        tracing::info!(kind = fault.kind.name(), node = fault.node, lasts_ms = fault.lasts.as_millis() as u64, "fault");
        self.shared.injected(fault.kind.name());
        let name = if fault.node > 0 { datanode(fault.node) } else { NAMENODE.to_owned() };
        let who = if fault.node > 0 { Who::Datanode(fault.node) } else { Who::Namenode };
        let outcome = match fault.kind {
            FaultKind::KillClient => self.kill_client(number, fault).await,
            FaultKind::KillDatanode | FaultKind::KillNamenode => self.away(&name, who, fault, true).await,
            FaultKind::StopDatanode | FaultKind::StopNamenode => self.away(&name, who, fault, false).await,
            kind => match kind.disk_plan() {
                Some(plan) => self.bad_disk(&name, who, fault, plan).await,
                None => Ok(()),
            },
        };
        if let Err(failure) = outcome {
            self.shared.found("fault", &name, failure.text());
        }
    }

    /// A server is away for a while.
    async fn away(&self, name: &str, who: Who, fault: Fault, killed: bool) -> Result<(), Failure> {
        let others = match who {
            Who::Datanode(_) if fault.lasts >= repair::WORTH_WATCHING => Some(self.pages_but(name).await),
            _ => None,
        };
        self.shared.faulty().lock().begins(who, self.shared.clock.now());
        match killed {
            true => self.cluster.lock().await.kill(name).await?,
            false => self.cluster.lock().await.hold(name, true)?,
        }
        match others {
            Some(pages) => repair::watch(&self.shared, &pages, fault.lasts).await,
            None => tokio::time::sleep(fault.lasts).await,
        }
        match killed {
            true => {
                let page = self.cluster.lock().await.start_role(name).await?;
                cluster::ready(name, page).await?;
            }
            false => self.cluster.lock().await.hold(name, false)?,
        }
        self.shared.faulty().lock().ends(who, self.shared.clock.now());
        Ok(())
    }

    /// A datanode's disk does something wrong for a while. One whose sync failed is out of service until a restart.
    async fn bad_disk(&self, name: &str, who: Who, fault: Fault, plan: &str) -> Result<(), Failure> {
        let file = cluster::disk_plan(&self.home, name);
        let written = |text: &str| {
            let mut writer = LocalWriter::create(&file, 0o600)?;
            writer.write(text.as_bytes())?;
            writer.finish(&file, true)
        };
        let failed = |error: std::io::Error| Failure::local("write", &file, &error);
        self.shared.faulty().lock().begins(who, self.shared.clock.now());
        written(&format!("{plan}\n")).map_err(failed)?;
        tokio::time::sleep(fault.lasts).await;
        written("").map_err(failed)?;
        if fault.kind == FaultKind::FailSync {
            self.cluster.lock().await.kill(name).await?;
            let page = self.cluster.lock().await.start_role(name).await?;
            cluster::ready(name, page).await?;
        }
        self.shared.faulty().lock().ends(who, self.shared.clock.now());
        Ok(())
    }

    async fn pages_but(&self, name: &str) -> repair::Pages {
        let known = self.cluster.lock().await.known();
        let page = |of: &cluster::Known| (of.name != name && of.name != NAMENODE).then(|| of.page.to_string());
        let namenode = known.iter().find(|one| one.name == NAMENODE).map(|one| one.page.to_string());
        repair::Pages { datanodes: known.iter().filter_map(page).collect(), namenode }
    }

    /// A client is killed in the middle of its file. Of one that never flushed nothing may ever be seen; of another one
    /// at least what it flushed.
    async fn kill_client(&self, number: usize, fault: Fault) -> Result<(), Failure> {
        let name = format!("k{number}");
        let path = format!("{TOP}/{KILLED}/{name}");
        let content = Content::new(self.shared.number(), GIVEN_BYTES);
        if number.is_multiple_of(2) {
            let bytes = content.bytes(0, GIVEN_BYTES);
            let taken_bytes = child::killed_put(self.shared.fs(), &self.user, &path, bytes, fault.lasts).await?;
            self.shared.killed_client(if taken_bytes > 0 { Killed::Writing } else { Killed::Idle });
            return Ok(());
        }
        let book = self.shared.books.last().ok_or_else(|| Failure::server("there is no book for killed clients"))?;
        book.lock().may(&name, State::File { content: content.clone(), least_bytes: 0 });
        let writer = FlushingWriter { path, number: content.first_writer(), len_bytes: GIVEN_BYTES };
        let flushed_bytes = child::killed_writer(self.shared.fs(), &self.user, &writer, fault.lasts).await?;
        self.shared.killed_client(if flushed_bytes > 0 { Killed::Flushed } else { Killed::Unflushed });
        if flushed_bytes > 0 {
            book.lock().is(&name, State::File { content, least_bytes: flushed_bytes });
        }
        Ok(())
    }
}
