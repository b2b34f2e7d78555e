//! Plays the faults of the plan: the only place where anything is broken.

use std::sync::Arc;

use base::task::JoinSet;
use tokio::sync::Mutex;

use super::child;
use super::cluster::{self, Cluster, NAMENODE, datanode};
use super::plan::{Fault, FaultKind};
use super::repair;
use super::shared::{Shared, TOP};
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
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
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

    async fn pages_but(&self, name: &str) -> repair::Pages {
        let known = self.cluster.lock().await.known();
        let page = |of: &cluster::Known| (of.name != name && of.name != NAMENODE).then(|| of.page.to_string());
        let namenode = known.iter().find(|one| one.name == NAMENODE).map(|one| one.page.to_string());
        repair::Pages { datanodes: known.iter().filter_map(page).collect(), namenode }
    }

    /// A client is killed in the middle of its file, of which nothing may ever be seen.
    async fn kill_client(&self, number: usize, fault: Fault) -> Result<(), Failure> {
        let content = Content::new(self.shared.number(), GIVEN_BYTES);
        let path = format!("{TOP}/{KILLED}/k{number}");
        let bytes = content.bytes(0, GIVEN_BYTES);
        child::killed_put(self.shared.fs(), &self.user, &path, bytes, fault.lasts).await
    }
}
