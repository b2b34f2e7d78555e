//! The administrator: takes datanodes out of service and back while clients work, replaces those that are empty, and has
//! the cluster balanced.
//!
//! ```text
//!   in service ─▶ decommission ─▶ drained ─┬─▶ back, or an empty node in its place
//!              ─▶ maintenance  ─▶ ready ───┴─▶ away for a while ─▶ back
//! ```
//!
//! When the leader says that a node may go, this looks at the disks: of every block that the node holds there must be as
//! many copies elsewhere as are wanted. A node that is replaced takes its bytes with it, for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use base::random::{Randomness, SeededRandom};
use namenode::blocks::{JobKind, JobState, JobView};
use namenode::namespace::{BlockView, NodeService};
use namenode::service::request::Request;
use proto::ids::{BlockId, NodeId};
use proto::namespace as n;

use crate::checks::counted;
use crate::cluster::{Cluster, Phase};
use crate::coverage::Rare;
use crate::hosts::{DatanodeHost, Death, NamenodeHost, millis};
use crate::message::{Address, Event};

/// Time after which a node that was not emptied is taken back.
const PATIENCE: Duration = Duration::from_secs(45);

/// Time within which the leader looks again at what a node holds.
const LOOKS_AGAIN: Duration = Duration::from_secs(5);
/// Time after which a call is not repeated any more.
const CALL: Duration = Duration::from_secs(25);

/// A node that is out of service.
#[derive(Clone, Debug)]
struct Out {
    datanode: usize,
    node: NodeId,
    service: n::NodeService,
    since: Moment,
    /// The log has it.
    seen: bool,
    /// The leader has said that it may go.
    ready: bool,
    /// A block that lacks copies elsewhere although the leader says that the node may go, and since when.
    lacks: Option<(BlockId, Moment)>,
    /// It is being taken back.
    back: bool,
}

/// What the administrator knows.
#[derive(Debug)]
pub struct Admin {
    random: SeededRandom,
    out: Option<Out>,
    /// Until then a call that takes a node back may still come through.
    may_recall_until: Moment,
    /// Blocks that the balance under way had moved at the last look.
    moved: BTreeMap<String, u64>,
}

impl Admin {
    /// With randomness of its own.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: SeededRandom::new(seed), out: None, may_recall_until: Moment::START, moved: BTreeMap::new() }
    }
    /// Does it look after a node?
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.out.is_some()
    }
    fn one_in(&self, n: u64) -> bool {
        self.random.below(n) == 0
    }
    fn some(&self, count: usize) -> usize {
        self.random.below(count as u64) as usize
    }
}

impl Cluster {
    /// Lets the administrator begin.
    pub fn schedule_admin(&mut self) {
        let wait = self.admin.as_ref().map(|admin| millis(500 + admin.random.below(1_500)));
        if let Some(wait) = wait {
            self.scene.after(wait, Event::Admin);
        }
    }

    /// The administrator looks at the cluster.
    pub(crate) fn admin_turn(&mut self) {
        let Some(mut admin) = self.admin.take() else { return };
        self.note_balances(&mut admin);
        match admin.out.take() {
            Some(out) => admin.out = self.look_after(&mut admin, out),
            None => match self.stray() {
                Some(stray) => admin.out = self.look_after(&mut admin, stray),
                None if self.phase == Phase::Work => self.begin_something(&mut admin),
                None => {}
            },
        }
        self.admin = Some(admin);
        self.schedule_admin();
    }

    /// A node that the log has out of service though nobody looks after it: the call was given up before it came through.
    /// It is taken back, as by an administrator who reads the list of nodes. Without that, one cluster in two hundred
    /// ended with two of four nodes out of service, and no place for third copies.
    fn stray(&self) -> Option<Out> {
        let (datanode, node) = self.out_of_service()?;
        let (service, since) = (n::NodeService::InService, self.scene.now());
        Some(Out { datanode, node, service, since, seen: true, ready: false, lacks: None, back: true })
    }
    /// A node of the cluster that the log has out of service.
    #[must_use]
    pub fn out_of_service(&self) -> Option<(usize, NodeId)> {
        let services = self.newest().map(|shared| shared.namespace.read().services_in_force())?;
        let of = |host: &DatanodeHost| host.store().map(datanode::store::Store::node).cloned();
        let nodes = self.datanodes.iter().map(of).enumerate();
        let mut here = nodes.filter_map(|(at, node)| Some((at, node?)));
        here.find(|(_, node)| services.iter().any(|(other, _)| other == node))
    }

    fn begin_something(&mut self, admin: &mut Admin) {
        if admin.one_in(4) {
            self.begin_hang(&admin.random);
        }
        let service = match admin.random.below(12) {
            0 | 1 => n::NodeService::Decommissioned,
            2 => n::NodeService::Maintenance,
            3 | 4 => {
                let threshold_percent = 1 + admin.random.below(2) as u32;
                let request = n::BalanceRequest { header: None, threshold_percent, rate_bytes_per_s: 0 };
                return self.ask_for(admin, request.into());
            }
            _ => return,
        };
        let datanode = admin.some(self.datanodes.len());
        let Some(node) = self.datanodes[datanode].store().map(|store| store.node().clone()) else { return };
        let since = self.scene.now();
        admin.out = Some(Out {
            datanode,
            node: node.clone(),
            service,
            since,
            seen: false,
            ready: false,
            lacks: None,
            back: false,
        });
        self.scene.say(format_args!("datanode {datanode} ({node}) is to be {service:?}"));
        self.set_service(admin, &node, service);
    }

    fn ask_for(&mut self, admin: &Admin, request: Request) {
        let client = admin.some(self.clients.len());
        self.clients[client].administer(request, true, &mut self.scene);
    }
    fn set_service(&mut self, admin: &mut Admin, node: &NodeId, service: n::NodeService) {
        if service == n::NodeService::InService {
            admin.may_recall_until = self.scene.now().plus(CALL);
        }
        let node = node.as_str().to_owned();
        let maintenance_ms = if service == n::NodeService::Maintenance && admin.one_in(3) { 20_000 } else { 0 };
        let service = service.into();
        self.ask_for(admin, n::SetNodeStateRequest { header: None, node, service, maintenance_ms }.into());
    }

    /// What the leader says that this node is; `None` while nobody leads. A member that has just started knows what was once.
    fn service_of(&self, node: &NodeId) -> Option<NodeService> {
        let services = self.serving()?.namespace.read().services_in_force();
        let its = services.iter().find(|(other, _)| other == node);
        Some(its.map_or(NodeService::InService, |(_, service)| *service))
    }
    fn newest(&self) -> Option<&std::sync::Arc<namenode::core::Shared>> {
        let running = self.namenodes.iter().filter_map(NamenodeHost::shared);
        running.max_by_key(|shared| shared.namespace.read().applied().0)
    }
    fn serving(&self) -> Option<&std::sync::Arc<namenode::core::Shared>> {
        let leads = |host: &&NamenodeHost| host.role().is_some_and(|role| role.serving);
        self.namenodes.iter().find(leads).and_then(NamenodeHost::shared)
    }
    /// The leader's jobs.
    fn jobs(&self) -> Vec<JobView> {
        self.serving().map(|shared| shared.blocks.read().jobs(self.scene.now())).unwrap_or_default()
    }

    fn note_balances(&mut self, admin: &mut Admin) {
        for job in self.jobs().into_iter().filter(|job| job.kind == JobKind::Balance) {
            let before = admin.moved.insert(job.name.clone(), job.done_blocks);
            (before.unwrap_or(0)..job.done_blocks).for_each(|_| self.scene.hit(Rare::BalanceMoved));
        }
    }

    /// The next step with a node that is out of service; nothing if it is back.
    fn look_after(&mut self, admin: &mut Admin, mut out: Out) -> Option<Out> {
        let now = self.scene.now();
        // Nobody says that it is back: it is waited for.
        let Some(service) = self.service_of(&out.node) else { return Some(out) };
        let decommissioned = service == NodeService::Decommissioned;
        self.checks.leaving.retain(|at, _| *at == out.datanode && decommissioned);
        if decommissioned {
            self.checks.leaving.entry(out.datanode).or_insert(now);
        }
        out.seen |= !service.is_in_service();
        if out.back || self.phase != Phase::Work {
            // A call that was not seen to take effect may still do so while it is repeated.
            if service.is_in_service() && (out.seen || now.since(out.since) > CALL) {
                if out.seen {
                    self.scene.hit(Rare::BackInService);
                }
                return None;
            }
            self.set_service(admin, &out.node, n::NodeService::InService);
            return Some(out);
        }
        if service.is_in_service() {
            // The call did not come through, or its time is over.
            out.back = now.since(out.since) > PATIENCE || out.ready;
            return Some(out);
        }
        // Another service than this one may still be in force: what is enough for it is not what was asked for.
        let leaves = out.service == n::NodeService::Decommissioned;
        let kind = if leaves { JobKind::Decommission } else { JobKind::Maintenance };
        let is_its = |job: &JobView| job.subject.as_ref() == Some(&out.node) && job.kind == kind;
        if !out.ready && self.jobs().iter().any(|job| is_its(job) && job.state == JobState::Done) {
            return self.may_go(admin, out);
        }
        out.lacks = None;
        out.back = now.since(out.since) > if out.ready { millis(3_000) } else { PATIENCE };
        Some(out)
    }

    /// The leader says that a node may go: it does, for a while or for ever.
    fn may_go(&mut self, admin: &mut Admin, mut out: Out) -> Option<Out> {
        let Out { datanode, service, .. } = out;
        let decommissioned = service == n::NodeService::Decommissioned;
        // What the leader says is as old as its last look: a block that was opened and closed since is found by the next one.
        if let Some((block, what)) = self.needed_on(datanode, decommissioned) {
            let now = self.scene.now();
            let since = out.lacks.filter(|(before, _)| *before == block).map_or(now, |(_, since)| since);
            out.lacks = Some((block, since));
            if now.since(since) > LOOKS_AGAIN {
                self.scene.violation(format!("datanode {datanode} may go, says the leader, but {what}"));
            }
            return Some(out);
        }
        out.ready = true;
        self.scene.say(format_args!("datanode {datanode} may go ({service:?})"));
        self.scene.hit(if decommissioned { Rare::NodeDrained } else { Rare::MaintenanceReady });
        let host = Address::Datanode(datanode);
        if decommissioned {
            // Whoever destroys a node that a call of his own may put back into service at the same moment has himself to blame.
            let may_be_recalled = self.scene.now() < admin.may_recall_until;
            if admin.one_in(3) || !self.may_be_replaced(datanode) || may_be_recalled {
                out.back = true;
                return Some(out);
            }
            self.scene.say(format_args!("datanode {datanode} is replaced by an empty one"));
            self.scene.hit(Rare::DrainedNodeReplaced);
            self.kill(host, Death::Kill);
            self.datanodes[datanode].replace_disks();
            self.note_power_cut(datanode);
            self.checks.rotten.retain(|(at, _)| *at != datanode);
            self.checks.flips.retain(|(at, _), _| *at != datanode);
            self.checks.leaving.remove(&datanode);
            self.scene.after(millis(500 + admin.random.below(4_000)), Event::Restart(host));
            return None;
        }
        self.kill(host, Death::Kill);
        let away = millis(3_000 + admin.random.below(25_000));
        self.scene.after(away, Event::Restart(host));
        out.since = self.scene.now().plus(away);
        Some(out)
    }

    /// What of the blocks of a node has too few copies elsewhere, in words.
    fn needed_on(&self, datanode: usize, for_ever: bool) -> Option<(BlockId, String)> {
        let mut found = None;
        let mut look = |view: &BlockView, others: &[usize]| {
            let needed = if for_ever { view.replication } else { 1 };
            if (others.len() as u32) < needed && found.is_none() {
                let text = format!("{needed} copies of {view:?} are wanted elsewhere, there are {others:?}");
                found = Some((view.block, text));
            }
        };
        self.each_block_on(datanode, &mut look);
        self.each_reopened_on(datanode, &mut look);
        found
    }
    /// May its bytes go for ever? Not those of new blocks that are being written, and not those whose other copies rot where
    /// nobody looked.
    fn may_be_replaced(&self, datanode: usize) -> bool {
        let mut may = true;
        self.each_block_on(datanode, |view, others| {
            may &= others.iter().any(|at| !self.checks.rotten.contains(&(*at, view.block)));
        });
        let (Some(shared), Some(store)) = (self.newest(), self.datanodes[datanode].store()) else { return false };
        let namespace = shared.namespace.read();
        let last = |open: namenode::namespace::OpenLease| {
            namespace.lease(open.inode)?.last_block.filter(|_| namespace.reopened_block(open.inode).is_none())
        };
        let mut open = namespace.open_files_after(None, usize::MAX).into_iter().filter_map(last);
        may && !open.any(|view| store.replica(view.block).is_some())
    }
    /// Every block that was finished before and is open again of which a node holds what it was finished with, and the other
    /// nodes that do.
    fn each_reopened_on(&self, datanode: usize, mut each: impl FnMut(&BlockView, &[usize])) {
        let Some(shared) = self.newest() else { return };
        let namespace = shared.namespace.read();
        for open in namespace.open_files_after(None, usize::MAX) {
            let Some(view) = namespace.reopened_block(open.inode) else { continue };
            let has = |at: &usize| self.datanodes[*at].has_of(view.block, view.stamp, view.len_bytes);
            if has(&datanode) {
                let others: Vec<usize> = (0..self.datanodes.len()).filter(|at| *at != datanode && has(at)).collect();
                each(&view, &others);
            }
        }
    }
    /// Every committed block of which a node holds a whole replica, and the other nodes that count.
    fn each_block_on(&self, datanode: usize, mut each: impl FnMut(&BlockView, &[usize])) {
        let Some(shared) = self.newest() else { return };
        let (host, now) = (&self.datanodes[datanode], self.scene.now());
        shared.namespace.read().for_each_block(|view| {
            if !view.committed || !host.holds(view.block, view.stamp) {
                return;
            }
            let counts = |at: &usize| *at != datanode && counted(&self.datanodes[*at], view.block, view.stamp, now);
            let others: Vec<usize> = (0..self.datanodes.len()).filter(counts).collect();
            each(&view, &others);
        });
    }
}
