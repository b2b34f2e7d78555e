//! The block map: which node holds which replica, what to copy, what to remove. Soft state, pure decisions.
//!
//! ```text
//!   reports ─▶ streams ─▶ replicas (good │ odd) ─▶ judge ─┬▶ repair  ─▶ copy commands ─┐
//!   effects of apply ────────▲                            └▶ removal ─▶ deletes ───────┼─▶ heartbeat replies
//!   heartbeats ─▶ registry ─▶ placement ◀── add block ◀──────────────────────────────────┘
//!   files whose writers are gone ─▶ recovery ─▶ prepare, finish ─▶ heartbeat replies
//! ```
//!
//! Nothing here is logged: after a restart it is rebuilt from reports, and every member keeps it warm.
//! Every decision is taken from the tables as they are at that moment, by [`judge`](BlockManager), and
//! checked once more when a command leaves. Time, randomness and the namespace are arguments.

mod balance;
mod command;
mod drain;
mod evening;
mod facts;
mod hand;
mod heartbeat;
mod homes;
mod jobs;
mod judge;
mod locate;
mod open;
mod orders;
pub mod placement;
mod recovery;
mod registry;
mod removal;
mod repair;
mod replicas;
mod reports;
mod safe_mode;
mod scan;
mod service_state;
mod slots;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::{
    IncrementalReportRequest, IncrementalReportResponse, NodeCommand, RegisterRequest, ReplicaRecord,
    ReportBucketsRequest, ReportBucketsResponse, ReportHashesRequest, ReportHashesResponse, StorageReport,
};
use proto::ids::{BlockId, NodeId, StorageId, Term};

pub use command::NodeBusiness;
pub use facts::{Facts, Names};
pub use heartbeat::Turn;
pub use jobs::{Blocker, JobKind, JobState, JobView, Why};
pub use locate::{Copies, Located, Place};
pub use open::Reopened;
pub use recovery::{Due, Recovered, ToRecover};
pub use registry::{Address, Node, NodeIndex, NodeState, Registry, RegistryError, Storage, StorageIndex};
pub use removal::Reason;
pub use replicas::{Class, Odd, Replicas, Reported, classify};
pub use reports::{Malformed, Part, Plan, Progress, Stream};
pub use safe_mode::{SafeMode, Sight};

use crate::namespace::NodeService;
use balance::Balance;
use drain::Drains;
use homes::Home;
use recovery::Recoveries;
use removal::Removal;
use repair::Repair;
use scan::{Over, Passes};
use verify::Suspects;

/// Times and limits of the block map.
#[derive(Clone, Debug)]
pub struct BlocksConfig {
    /// Silence after which a node is stale.
    pub stale_after: Duration,
    /// Silence after which its copies do not count.
    pub dead_after: Duration,
    /// Time from a block's commit until missing copies are made: their reports are on the way.
    pub settle: Duration,
    /// Time that a copy may take.
    pub copy_timeout: Duration,
    /// Copies that one node makes for others at a time, if it does not say how many itself.
    pub copies_per_node: u32,
    /// Copies that it is given ahead nevertheless while they are short, the ones under way included.
    pub copies_ahead: u32,
    /// Bytes of these together.
    pub copies_ahead_bytes: u64,
    /// Time from the begin of a term in which nothing is deleted.
    pub delete_delay: Duration,
    /// Blocks in the delete commands of one heartbeat.
    pub deletes_per_heartbeat: usize,
    /// Deletes per minute that no user asked for; beyond it they stop and an alarm is raised.
    pub unasked_deletes_per_minute: u32,
    /// Time between two looks at every block, for what events alone would never bring up again.
    pub rescan_every: Duration,
}

impl Default for BlocksConfig {
    fn default() -> Self {
        Self {
            stale_after: Duration::from_secs(10),
            dead_after: Duration::from_secs(300),
            settle: Duration::from_secs(10),
            copy_timeout: Duration::from_secs(120),
            copies_per_node: 4,
            copies_ahead: 64,
            copies_ahead_bytes: 64 << 20,
            delete_delay: Duration::from_secs(60),
            deletes_per_heartbeat: 1000,
            unasked_deletes_per_minute: 6000,
            rescan_every: Duration::from_secs(600),
        }
    }
}

/// Leadership, as far as the block map cares.
#[derive(Clone, Copy, Debug)]
struct Leading {
    term: Term,
    since: Moment,
    quorum_at: Option<Moment>,
}

/// Numbers for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// Blocks with fewer copies than asked for, those without any included: of blocks that are open again, of what they
    /// were committed with.
    pub under_replicated: u64,
    /// Blocks that have as many, but too many of them on nodes that leave or are in maintenance.
    pub moving: u64,
    /// Those of them with one copy or none on nodes that are heard of.
    pub endangered: u64,
    /// Committed blocks without any copy on a node that is alive.
    pub missing: u64,
    /// Blocks with a damaged replica that is not replaced yet.
    pub corrupt: u64,
    /// Copies under way.
    pub pending_copy: u64,
    /// Replicas that wait to be removed; not those on nodes that were emptied and are gone.
    pub pending_delete: u64,
    /// Times that deletes nobody asked for were stopped.
    pub delete_alarms: u64,
}

/// The block map of one namenode.
#[derive(Debug)]
pub struct BlockManager {
    config: BlocksConfig,
    registry: Registry,
    replicas: Replicas,
    streams: Vec<Stream>,
    repair: Repair,
    removal: Removal,
    suspects: Suspects,
    recovery: Recoveries,
    drains: Drains,
    balance: Balance,
    safe_mode: SafeMode,
    leading: Option<Leading>,
    passes: Passes,
    judged: u64,
    open_targets: BTreeMap<BlockId, Vec<Home>>,
    /// Looks at all open files that are still to end before this leader knows where every open block was placed.
    open_looks: u8,
    /// Blocks that are open again and have too few copies, and since when they lack the minimum.
    short_open: BTreeMap<BlockId, Option<Moment>>,
    outboxes: BTreeMap<NodeIndex, VecDeque<(Moment, NodeCommand)>>,
    next_number: u64,
    next_report: u64,
    unasked_left: u32,
    unasked_refill: Moment,
    /// Was the alarm of this minute raised?
    alarmed: bool,
    delete_alarms: u64,
    scanned_at: Moment,
}

/// What a block map knew and meant to do, of a million blocks perhaps: to be dropped where nobody waits for it.
#[derive(Debug, Default)]
pub struct Forgotten {
    _replicas: Replicas,
    _repair: Repair,
    _removal: Removal,
    _suspects: Suspects,
    _recovery: Recoveries,
    _passes: Passes,
    _open_targets: BTreeMap<BlockId, Vec<Home>>,
    _short_open: BTreeMap<BlockId, Option<Moment>>,
    _outboxes: BTreeMap<NodeIndex, VecDeque<(Moment, NodeCommand)>>,
}

/// Blocks that are judged while the lock is held once: a fraction of a millisecond.
const STEP: usize = 128;
/// The end of a look at all open files that is under way says nothing of those at its beginning; that of the next one does.
const LOOKS_AT_OPEN: u8 = 2;
/// Blocks of which only the slots are looked at in a step.
const LOOK: usize = 2048;

/// The node must register again.
pub(crate) const REREGISTER: ReportBucketsResponse = ReportBucketsResponse { reregister: true, restart: false };
/// The report must begin again with hashes.
pub(crate) const RESTART: ReportBucketsResponse = ReportBucketsResponse { reregister: false, restart: true };

impl BlockManager {
    /// An empty map, in safe mode.
    #[must_use]
    pub fn new(config: BlocksConfig, now: Moment) -> Self {
        Self {
            unasked_left: config.unasked_deletes_per_minute,
            config,
            registry: Registry::default(),
            replicas: Replicas::default(),
            streams: Vec::new(),
            repair: Repair::default(),
            removal: Removal::default(),
            suspects: Suspects::default(),
            recovery: Recoveries::default(),
            drains: Drains::default(),
            balance: Balance::default(),
            safe_mode: SafeMode::new(now),
            leading: None,
            passes: Passes::default(),
            judged: 0,
            open_targets: BTreeMap::new(),
            open_looks: LOOKS_AT_OPEN,
            short_open: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            next_number: 1,
            next_report: 1,
            unasked_refill: now,
            alarmed: false,
            delete_alarms: 0,
            scanned_at: now,
        }
    }

    /// Nodes and storages.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }
    /// Who holds what.
    #[must_use]
    pub const fn replicas(&self) -> &Replicas {
        &self.replicas
    }
    /// Why the namenode is in safe mode; `None` if it is not.
    #[must_use]
    pub fn safe_mode(&self) -> Option<&str> {
        self.safe_mode.reason()
    }
    /// Numbers for people.
    #[must_use]
    pub fn counts(&self) -> BlockCounts {
        BlockCounts {
            under_replicated: self.repair.under_count() + self.short_open.len() as u64,
            moving: self.repair.moving_count(),
            endangered: self.repair.endangered_count(),
            missing: self.repair.missing_count(),
            corrupt: self.repair.corrupt_count(),
            pending_copy: self.repair.copies_count(),
            pending_delete: self.removal.count() - self.told_to_the_gone(),
            delete_alarms: self.delete_alarms,
        }
    }

    /// Takes over a storage of the replicated registry; they come in its order, so that indexes agree.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn add_storage(
        &mut self,
        storage: &StorageId,
        node: &NodeId,
        media: &str,
    ) -> Result<StorageIndex, RegistryError> {
        let index = self.registry.add_storage(storage, node, media)?;
        if self.streams.len() <= index.0 as usize {
            self.streams.resize_with(index.0 as usize + 1, Stream::default);
        }
        Ok(index)
    }

    /// A node registered; its storages are in the registry already.
    pub fn registered(&mut self, node: &NodeId, request: &RegisterRequest, now: Moment) {
        let address = Address {
            host: request.host.clone(),
            transfer_port: u16::try_from(request.transfer_port).unwrap_or(0),
            http_address: request.http_address.clone(),
            rack: request.rack.clone(),
            version: request.version.clone(),
            machine: request.machine.clone(),
            local_socket: request.local_socket.clone(),
        };
        let was_silent = self.registry.node_by_id(node).is_none_or(|i| self.registry.node(i).state != NodeState::Live);
        let index = self.registry.registered(node, address, now);
        self.registry.knows_term(index, Term::from_raw(request.highest_term));
        for report in &request.storages {
            let Some(storage) = self.storage_of(index, &report.storage) else { continue };
            let replicas = &self.replicas;
            let stream = &mut self.streams[storage.0 as usize];
            if stream.registered(report.incarnation, || replicas.not_final_on(storage)) {
                self.removal.restarted(storage);
            }
        }
        for lost in self.registry.brought_up(index, &request.storages) {
            let storage = &self.registry.at(lost).id;
            tracing::warn!(%storage, %node, "a datanode started without this storage: its blocks are copied again");
            self.lost(lost);
        }
        self.usage(index, &request.storages);
        if was_silent {
            self.rescan_node(index);
        }
    }

    /// Takes fullness and failures over; copies on a disk that failed, or is back, are looked at again.
    fn usage(&mut self, node: NodeIndex, reports: &[StorageReport]) {
        for changed in self.registry.usage(node, reports) {
            if self.registry.at(changed).failure.is_some() {
                self.lost(changed);
            } else {
                self.rescan(changed);
            }
        }
    }

    fn rescan_node(&mut self, node: NodeIndex) {
        for storage in self.registry.node(node).storages.clone() {
            self.rescan(storage);
        }
        // While it was gone, nothing was to be removed from it.
        if self.registry.node(node).service == NodeService::Decommissioned {
            self.rescan_odd();
        }
    }

    /// Looks at the blocks of a storage again. Only leaders judge.
    fn rescan(&mut self, storage: StorageIndex) {
        if self.leading.is_some() {
            self.passes.begin(Over::Storage(storage));
        }
    }

    /// Looks at every odd replica again.
    fn rescan_odd(&mut self) {
        if self.leading.is_some() {
            self.passes.begin(Over::Odd);
        }
    }

    /// Looks at every block again.
    fn rescan_all(&mut self) {
        if self.leading.is_some() {
            self.passes.begin(Over::All);
        }
    }

    /// As [`BlockManager::rescan`], the blocks first that may have a single copy left.
    fn lost(&mut self, storage: StorageIndex) {
        if self.leading.is_some() {
            self.passes.begin(Over::Endangered(storage));
        }
        self.rescan(storage);
    }
    fn lost_node(&mut self, node: NodeIndex) {
        for storage in self.registry.node(node).storages.clone() {
            self.lost(storage);
        }
    }

    /// A storage of this node by its name.
    fn storage_of(&self, node: NodeIndex, storage: &str) -> Option<StorageIndex> {
        let index = self.registry.storage(&StorageId::parse(storage).ok()?)?;
        (self.registry.at(index).node == node).then_some(index)
    }

    /// Must this node report every storage in full?
    #[must_use]
    pub fn wants_full_report(&self, node: NodeIndex) -> bool {
        let storages = &self.registry.node(node).storages;
        let mut in_service = storages.iter().filter(|s| self.registry.at(**s).failure.is_none());
        in_service.any(|storage| {
            let stream = &self.streams[storage.0 as usize];
            self.leading.map_or(!stream.complete(), |leading| !stream.full_in(leading.term))
        })
    }

    /// The storage that a report is about, with its node; `None`: the node must register (again).
    fn reporter(&mut self, node: &str, storage: &str, now: Moment) -> Option<StorageIndex> {
        let node = self.registry.node_by_id(&NodeId::parse(node).ok()?)?;
        self.registry.node(node).last_contact?;
        let storage = self.storage_of(node, storage)?;
        if self.registry.node(node).state == NodeState::Dead {
            let transfers = self.registry.node(node).active_transfers;
            self.registry.heartbeat(node, transfers, now);
            self.rescan_node(node);
        }
        Some(storage)
    }

    /// Takes an incremental report in.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn incremental(
        &mut self,
        request: &IncrementalReportRequest,
        names: &dyn Names,
        now: Moment,
    ) -> Result<IncrementalReportResponse, Malformed> {
        self.changes(request, (request.first_sequence, &request.changes), names, now)
    }

    /// Takes some changes of an incremental report in. They come in order; the answer to the last ones is that to all,
    /// unless one before asks for something else.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn changes(
        &mut self,
        request: &IncrementalReportRequest,
        (first, changes): (u64, &[ReplicaRecord]),
        names: &dyn Names,
        now: Moment,
    ) -> Result<IncrementalReportResponse, Malformed> {
        let Some(storage) = self.reporter(&request.node, &request.storage, now) else {
            return Ok(IncrementalReportResponse { reregister: true, ..Default::default() });
        };
        let mut touched = Vec::new();
        let stream = &mut self.streams[storage.0 as usize];
        let place = (request.incarnation, first);
        let taken = stream.changes(storage, place, changes, (&mut self.replicas, names), &mut touched);
        if self.streams[storage.0 as usize].incarnation == request.incarnation {
            self.told_of_homes(storage, changes, names);
        }
        self.changed(storage, &touched, names, now);
        self.outlived(storage, names, now);
        let Progress { next, full_report, reregister } = taken?;
        Ok(IncrementalReportResponse { next_sequence: next, full_report, reregister })
    }

    /// Compares the bucket hashes of a full report.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn hashes(
        &mut self,
        request: &ReportHashesRequest,
        names: &dyn Names,
        now: Moment,
    ) -> Result<ReportHashesResponse, Malformed> {
        let Some(storage) = self.reporter(&request.node, &request.storage, now) else {
            return Ok(ReportHashesResponse { reregister: true, ..Default::default() });
        };
        let number = self.next_report;
        self.next_report += 1;
        let stream = &mut self.streams[storage.0 as usize];
        let place = (request.incarnation, request.sequence);
        let term = self.leading.map(|leading| leading.term);
        let Some(differing) = stream.hashes(storage, place, &request.hashes, number, &self.replicas, term)? else {
            return Ok(ReportHashesResponse { reregister: true, ..Default::default() });
        };
        if differing.is_empty() {
            self.reported_in_full(storage, names, now);
        }
        Ok(ReportHashesResponse { differing, report: number, reregister: false })
    }

    /// Takes buckets of a full report in.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn buckets(
        &mut self,
        request: &ReportBucketsRequest,
        names: &dyn Names,
        now: Moment,
    ) -> Result<ReportBucketsResponse, Malformed> {
        let Some(storage) = self.begin_part(request, now) else { return Ok(REREGISTER) };
        let Some(mut plan) = self.plan_part(storage, request)? else { return Ok(RESTART) };
        while !plan.is_done() {
            if !self.take_some(&mut plan, usize::MAX, names, now) {
                return Ok(RESTART);
            }
        }
        Ok(self.end_part(plan, names, now))
    }

    /// Begins with a part of a full report. `None`: the node must register (again).
    pub fn begin_part(&mut self, request: &ReportBucketsRequest, now: Moment) -> Option<StorageIndex> {
        let storage = self.reporter(&request.node, &request.storage, now)?;
        (self.streams[storage.0 as usize].incarnation == request.incarnation).then_some(storage)
    }
    /// What a part will change: the long look at everything that is believed, for which reading is enough. `None`: the
    /// report has to begin again.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn plan_part(&self, storage: StorageIndex, request: &ReportBucketsRequest) -> Result<Option<Plan>, Malformed> {
        let place = (request.sequence, request.report, request.last);
        self.streams[storage.0 as usize].plan(storage, place, &request.buckets, &self.replicas)
    }
    /// Does up to `limit` changes of a plan. False if the report has to begin again.
    pub fn take_some(&mut self, plan: &mut Plan, limit: usize, names: &dyn Names, now: Moment) -> bool {
        let (storage, mut touched) = (plan.storage(), Vec::new());
        let stream = &mut self.streams[storage.0 as usize];
        let taken = stream.take_some(plan, limit, (&mut self.replicas, names), &mut touched);
        self.changed(storage, &touched, names, now);
        taken
    }
    /// Ends a part whose plan is done.
    pub fn end_part(&mut self, plan: Plan, names: &dyn Names, now: Moment) -> ReportBucketsResponse {
        let (storage, term) = (plan.storage(), self.leading.map(|leading| leading.term));
        let part = self.streams[storage.0 as usize].end_part(plan, term);
        if part == Part::Complete {
            self.reported_in_full(storage, names, now);
        }
        ReportBucketsResponse { reregister: false, restart: part == Part::Restart }
    }

    fn reported_in_full(&mut self, storage: StorageIndex, names: &dyn Names, now: Moment) {
        let gone: Vec<BlockId> = self.streams[storage.0 as usize].take_unconfirmed().into_iter().collect();
        for block in &gone {
            self.replicas.remove(storage, *block, names);
        }
        self.changed(storage, &gone, names, now);
        self.outlived(storage, names, now);
        // What the deletion rule refused before this report may be allowed now.
        self.rescan(storage);
        // Until now the log was believed about it: what it does not hold after all is found only among all blocks.
        if self.registry.node_of(storage).service.is_maintenance() {
            self.rescan_all();
        }
    }

    /// Replicas that were told to go and are still there count again.
    fn outlived(&mut self, storage: StorageIndex, names: &dyn Names, now: Moment) {
        for block in self.take_outlived(storage) {
            self.judge(block, names, now);
        }
    }
    /// The blocks of such replicas.
    fn take_outlived(&mut self, storage: StorageIndex) -> Vec<BlockId> {
        let stream = &self.streams[storage.0 as usize];
        if stream.complete() { self.removal.outlived(storage, stream.heard()) } else { Vec::new() }
    }

    /// Reports changed these blocks on this storage.
    fn changed(&mut self, storage: StorageIndex, blocks: &[BlockId], names: &dyn Names, now: Moment) {
        for block in blocks {
            if !self.replicas.is_good(*block, storage) && self.replicas.odd_at(*block, storage).is_none() {
                self.removal.drop(storage, *block);
            }
            self.judge(*block, names, now);
        }
    }

    /// A reader found replicas damaged.
    pub fn mark_corrupt(&mut self, block: BlockId, storages: &[StorageIndex], names: &dyn Names, now: Moment) {
        for storage in storages {
            self.replicas.mark_corrupt(*storage, block, names);
        }
        self.judge(block, names, now);
    }

    /// This member leads from now on: it judges and commands. What was known before is to be given back without a lock.
    pub fn lead(&mut self, term: Term, now: Moment) -> Forgotten {
        let forgotten = self.follow();
        self.leading = Some(Leading { term, since: now, quorum_at: None });
        // Numbers of commands are never used twice, not by another leader either: nodes remember them.
        self.next_number = self.next_number.max(term.raw() << 32);
        self.open_looks = LOOKS_AT_OPEN;
        self.drains.begin_anew(now);
        self.scan_everything();
        forgotten
    }
    /// This member leads no more: what it meant to command is forgotten (scar SC-70), and is to be given back without a
    /// lock.
    pub fn follow(&mut self) -> Forgotten {
        self.leading = None;
        self.balance.clear();
        Forgotten {
            _repair: std::mem::take(&mut self.repair),
            _removal: std::mem::take(&mut self.removal),
            _suspects: std::mem::take(&mut self.suspects),
            _recovery: std::mem::take(&mut self.recovery),
            _short_open: std::mem::take(&mut self.short_open),
            _outboxes: std::mem::take(&mut self.outboxes),
            _passes: std::mem::take(&mut self.passes),
            ..Forgotten::default()
        }
    }
    /// The leader's quorum answered a question asked at `asked`.
    pub fn quorum_confirmed(&mut self, asked: Moment) {
        if let Some(leading) = &mut self.leading {
            leading.quorum_at = leading.quorum_at.max(Some(asked));
        }
    }
    /// Time since the quorum was last known to follow this leader; `None`: not yet in this term.
    #[must_use]
    pub fn quorum_age(&self, now: Moment) -> Option<Duration> {
        self.leading.and_then(|leading| leading.quorum_at).map(|at| now.since(at))
    }
    /// The namespace was replaced by an image: what was concluded from the old one is void, and every node
    /// reports again.
    pub fn forget_replicas(&mut self) -> Forgotten {
        self.balance.clear();
        self.registry.forget_open_writes();
        self.streams.iter_mut().for_each(|stream| *stream = Stream::default());
        Forgotten {
            _repair: std::mem::take(&mut self.repair),
            _removal: std::mem::take(&mut self.removal),
            _suspects: std::mem::take(&mut self.suspects),
            _recovery: std::mem::take(&mut self.recovery),
            _short_open: std::mem::take(&mut self.short_open),
            _outboxes: std::mem::take(&mut self.outboxes),
            _replicas: std::mem::take(&mut self.replicas),
            _open_targets: std::mem::take(&mut self.open_targets),
            ..Forgotten::default()
        }
    }
    fn scan_everything(&mut self) {
        self.passes.clear();
        [Over::All, Over::Odd].into_iter().for_each(|over| self.passes.begin(over));
    }

    /// Judges and commands only as a leader that has found its blocks.
    fn active(&self) -> bool {
        self.leading.is_some() && self.safe_mode.reason().is_none()
    }

    /// Ends safe mode if its time has come. True if it ended just now.
    pub fn look_at_safe_mode(&mut self, names: &dyn Names, now: Moment) -> bool {
        let silent = |(index, storage): &(StorageIndex, &Storage)| {
            storage.failure.is_none() && !self.streams[index.0 as usize].complete()
        };
        let sight = Sight {
            committed: names.committed_blocks(),
            known: self.replicas.known_blocks(),
            silent_storages: self.registry.storages().filter(silent).count() as u64,
        };
        let ended = self.safe_mode.look(sight, now, self.config.dead_after);
        if ended && self.leading.is_some() {
            self.scan_everything();
        }
        ended
    }
}
