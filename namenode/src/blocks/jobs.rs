//! Long work of the cluster, as people look at it: what, how far, how fast, until when, and what is in the way.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use base::clock::Moment;
use proto::ids::{BlockId, NodeId};

use super::BlockManager;
use super::drain::Drain;
use super::registry::NodeIndex;
use crate::namespace::NodeService;

/// Time that a rate is an average of.
const WINDOW: Duration = Duration::from_secs(30);

/// Kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// A node is emptied for good.
    Decommission,
    /// A node is made ready to be away for a while.
    Maintenance,
    /// Nodes are evened out.
    Balance,
}

impl JobKind {
    /// The word in listings, and the beginning of the job's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decommission => "decommission",
            Self::Maintenance => "maintenance",
            Self::Balance => "balance",
        }
    }
}

/// How a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It goes on.
    Running,
    /// It cannot go on before somebody does something, or what it waits for ends.
    Blocked,
    /// There is nothing left to do.
    Done,
    /// Somebody ended it.
    Cancelled,
}

impl JobState {
    /// The word in listings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What is in the way of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Of this block, if of one.
    pub block: Option<BlockId>,
    /// Why.
    pub why: Why,
}

/// Why a job does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Copies are made, or will be: nothing is in the way.
    Copying,
    /// The block is being written, and its pipeline has too few nodes that stay.
    Open {
        /// Of the pipeline.
        have: u32,
        /// Nodes that are to hold it.
        wanted: u32,
    },
    /// Every other node in service holds the block already.
    NotEnoughNodes {
        /// Copies that count.
        have: u32,
        /// Copies wanted.
        wanted: u32,
    },
    /// No node that lacks the block has room for it.
    NoRoom {
        /// Of the block.
        len_bytes: u64,
    },
    /// Every copy that is known is damaged or old.
    OnlyDamaged,
    /// No node that holds the block answers.
    NoCopy,
    /// The node has not told this leader yet what it holds.
    NotReported,
    /// The node does not answer, what it holds is not known, and blocks lack copies.
    Silent {
        /// How many.
        lacking: u64,
    },
    /// A disk of the node has failed, and blocks lack copies.
    FailedDisk {
        /// How many.
        lacking: u64,
    },
    /// What is left cannot be moved without losing a rack, or is longer than the difference.
    NothingFits,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copying => f.write_str("is being copied"),
            Self::Open { have, wanted } => {
                write!(
                    f,
                    "is being written, {have} of {wanted} of its nodes stay: wait until it is closed, or recover its lease"
                )
            }
            Self::NotEnoughNodes { have, wanted } => {
                write!(
                    f,
                    "{have} of {wanted} copies are elsewhere, and no further node is in service: add one, or want fewer copies"
                )
            }
            Self::NoRoom { len_bytes } => {
                write!(f, "no node that lacks it has room for {len_bytes} bytes: free space, or add a node")
            }
            Self::OnlyDamaged => f.write_str("its only replicas are damaged: restore or remove the file"),
            Self::NoCopy => f.write_str("no node that holds it answers: start one"),
            Self::NotReported => f.write_str("the datanode has not reported yet what it holds"),
            Self::Silent { lacking } => {
                write!(f, "the datanode does not answer, and {lacking} blocks lack copies that it may hold: start it")
            }
            Self::FailedDisk { lacking } => write!(
                f,
                "a disk of the datanode has failed, and {lacking} blocks lack copies that it may hold: mend it, or restart the datanode"
            ),
            Self::NothingFits => {
                f.write_str("no block that is left can move without losing a rack, or fits the difference")
            }
        }
    }
}

/// A job at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: JobKind,
    /// How it is.
    pub state: JobState,
    /// The node that it is about, if it is about one.
    pub subject: Option<NodeId>,
    /// Blocks that are done.
    pub done_blocks: u64,
    /// Blocks altogether, as far as is known.
    pub total_blocks: u64,
    /// Bytes that are done.
    pub done_bytes: u64,
    /// Bytes altogether, as far as is known.
    pub total_bytes: u64,
    /// Over the last half minute.
    pub rate_bytes_per_s: u64,
    /// Time to the end at this rate; `None`: it cannot be said.
    pub eta: Option<Duration>,
    /// Time since it began, or this leader took it over.
    pub running: Duration,
    /// The first blockers.
    pub blockers: Vec<Blocker>,
    /// Blockers altogether.
    pub blocked: u64,
}

/// How fast something grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(VecDeque<(Moment, u64)>);

impl Pace {
    /// So many bytes are done now.
    pub(super) fn sample(&mut self, now: Moment, done_bytes: u64) {
        self.0.push_back((now, done_bytes));
        while self.0.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }
    /// Bytes a second between the first and the last sample of the window.
    pub(super) fn bytes_per_s(&self) -> u64 {
        let (Some((first, had)), Some((last, have))) = (self.0.front(), self.0.back()) else { return 0 };
        let grown = u128::from(have.saturating_sub(*had)) * 1000;
        grown.checked_div(last.since(*first).as_millis()).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
    }
    /// Time for the rest at this rate.
    pub(super) fn eta(&self, left_bytes: u64) -> Option<Duration> {
        Some(Duration::from_secs(left_bytes.div_ceil(self.bytes_per_s().max(1)))).filter(|_| self.bytes_per_s() > 0)
    }
}

impl BlockManager {
    /// Every job of this leader: nodes first, then balancing.
    #[must_use]
    pub fn jobs(&self, now: Moment) -> Vec<JobView> {
        let drains = self.drains.iter().map(|(node, drain)| self.job_of(node, drain, now));
        drains.chain(self.balance_jobs(now)).collect()
    }

    fn job_of(&self, node: NodeIndex, drain: &Drain, now: Moment) -> JobView {
        let id = &self.registry.node(node).id;
        let kind = if drain.service.is_maintenance() { JobKind::Maintenance } else { JobKind::Decommission };
        let found = drain.found.clone().unwrap_or_default();
        let state = match &drain.found {
            Some(found) if found.is_done() => JobState::Done,
            Some(found) if found.waiting == 0 => JobState::Blocked,
            _ => JobState::Running,
        };
        let running = state == JobState::Running;
        JobView {
            name: format!("{}-{id}", kind.as_str()),
            kind,
            state,
            subject: Some(id.clone()),
            done_blocks: found.done_blocks,
            total_blocks: found.total_blocks,
            done_bytes: found.done_bytes,
            total_bytes: found.total_bytes,
            rate_bytes_per_s: if running { drain.pace.bytes_per_s() } else { 0 },
            eta: drain.pace.eta(found.total_bytes.saturating_sub(found.done_bytes)).filter(|_| running),
            running: now.since(drain.began),
            blockers: found.named,
            blocked: found.blocked,
        }
    }

    /// What a node's service amounts to, in a word or two for listings.
    #[must_use]
    pub fn service_word(&self, node: NodeIndex) -> &'static str {
        let done = self.drains.get(node).is_some_and(Drain::is_done);
        match (self.registry.node(node).service, done) {
            (NodeService::InService, _) => "in service",
            (NodeService::Decommissioned, false) => "decommissioning",
            (NodeService::Decommissioned, true) => "decommissioned",
            (NodeService::Maintenance { .. }, false) => "entering maintenance",
            (NodeService::Maintenance { .. }, true) => "in maintenance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_half_minute() {
        let at = |secs| Moment::after_start(Duration::from_secs(secs));
        let mut pace = Pace::default();
        assert_eq!((pace.bytes_per_s(), pace.eta(5)), (0, None));
        for secs in 0..=100 {
            pace.sample(at(secs), if secs < 50 { secs * 100 } else { 5000 + (secs - 50) * 10 });
        }
        assert_eq!((pace.bytes_per_s(), pace.eta(95)), (10, Some(Duration::from_secs(10))));
        pace.sample(at(101), 0);
        assert_eq!(pace.bytes_per_s(), 0, "blocks that went away are no progress");
    }
}
