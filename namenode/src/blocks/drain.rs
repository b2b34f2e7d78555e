//! Nodes that leave or are to be away: how far they are, and what is in the way.
//!
//! ```text
//!   look: good replicas of each disk ─▶ odd ones ─▶ open blocks placed there ─▶ closed lately ─▶ found
//!           ▲  some blocks at a time, in turn with scans              nothing is left: done ◀──┤
//!           │                                                    copies are coming: running ◀──┤
//!           └───────────── again a moment later ◀──────────────── nothing can come: blocked ◀──┘
//! ```
//!
//! Nothing is counted by hand between two looks: a look counts everything from the tables as they are, so that it cannot
//! drift (scar SC-72). What is ordered to empty the node is ordered by `judge` and `orders`, as for every block that lacks
//! copies. A node that leaves is done when every block of it has as many copies elsewhere as are wanted, the open ones
//! included (scar SC-75); one that is to be away when every block has one copy elsewhere.

mod late;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::ReplicaState;
use proto::ids::{BlockId, NodeId};

use super::BlockManager;
use super::facts::{Facts, Names};
use super::jobs::{Blocker, Pace, Why};
use super::placement::has_room;
use super::registry::{NodeIndex, NodeState, StorageIndex};
use super::replicas::{Class, Odd, classify};
use crate::namespace::NodeService;
use late::Late;

/// Blocks that a step looks at.
const STEP: usize = 256;
/// Time from one look to the next: this long, and ever more the longer the last one took.
const PAUSE: Duration = Duration::from_secs(1);
/// A look that took so long is followed by a pause of so many times that.
const PAUSE_FACTOR: u32 = 3;
/// Blockers that are named.
const NAMED: usize = 10;

/// The nodes that are being emptied, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// As of the log, by node.
    pub(super) services: Vec<(NodeId, NodeService)>,
    by_node: BTreeMap<NodeIndex, Drain>,
    turn: Option<NodeIndex>,
}

/// One node that is being emptied.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) service: NodeService,
    pub(super) began: Moment,
    look: Option<Look>,
    next_at: Moment,
    /// What the last whole look found.
    pub(super) found: Option<Found>,
    pub(super) pace: Pace,
    pub(super) late: Late,
    /// It was said that the node may go for ever: it may have, whatever its last heartbeat said.
    may_have_gone: bool,
}

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) total_blocks: u64,
    pub(super) total_bytes: u64,
    pub(super) done_blocks: u64,
    pub(super) done_bytes: u64,
    /// Blocks whose copies are made, or will be.
    pub(super) waiting: u64,
    /// Blocks, or other reasons, for which nothing can be done by itself.
    pub(super) blocked: u64,
    /// The first of them.
    pub(super) named: Vec<Blocker>,
}

impl Found {
    pub(super) const fn is_done(&self) -> bool {
        self.waiting == 0 && self.blocked == 0
    }
    fn block(&mut self, blocker: Blocker) {
        self.blocked += 1;
        if self.named.len() < NAMED {
            self.named.push(blocker);
        }
    }
}

/// Where a look stands.
#[derive(Debug)]
struct Look {
    began: Moment,
    stage: Stage,
    found: Found,
    /// Open blocks that were counted: they may be met as replicas and as placements.
    open: BTreeSet<BlockId>,
    /// Closed where the look is past already: nothing else of it comes by them.
    behind: BTreeSet<BlockId>,
    /// What was not known when it began: what comes to be known meanwhile may belong where it is past already.
    unheard: Option<Why>,
}

/// What a look goes over; the number is of the node's disk.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Good(usize, Option<BlockId>),
    Odd(usize, Option<BlockId>),
    Open(Option<BlockId>),
    Late(Option<BlockId>),
}

impl Look {
    fn new(began: Moment, unheard: Option<Why>) -> Self {
        let (found, open, behind) = (Found::default(), BTreeSet::new(), BTreeSet::new());
        Self { began, stage: Stage::Good(0, None), found, open, behind, unheard }
    }
}

impl Drains {
    /// A node has another service.
    pub(super) fn changed(&mut self, node: NodeIndex, service: NodeService, now: Moment) {
        if service.is_in_service() {
            self.by_node.remove(&node);
        } else {
            let late = self.by_node.remove(&node).map(|drain| drain.late).unwrap_or_default();
            self.by_node.insert(node, Drain::new(service, late, now));
        }
    }
    /// This member leads from now on: what it knew of progress may be old. Not what closed lately: the log has said it.
    pub(super) fn begin_anew(&mut self, now: Moment) {
        for drain in self.by_node.values_mut() {
            *drain = Drain::new(drain.service, std::mem::take(&mut drain.late), now);
        }
    }
    /// The nodes, with what is known of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeIndex, &Drain)> {
        self.by_node.iter().map(|(node, drain)| (*node, drain))
    }
    pub(super) fn get(&self, node: NodeIndex) -> Option<&Drain> {
        self.by_node.get(&node)
    }
    /// Was it said of this node that it may go for ever, since it leaves?
    pub(super) fn may_have_gone(&self, node: NodeIndex) -> bool {
        self.by_node.get(&node).is_some_and(|drain| drain.may_have_gone)
    }
    /// The next node that is to be looked at.
    fn next(&mut self, is_due: impl Fn(NodeIndex, &Drain) -> bool) -> Option<NodeIndex> {
        let due = |(node, drain): &(&NodeIndex, &Drain)| is_due(**node, drain);
        let behind = self.turn.and_then(|turn| self.by_node.range(turn..).filter(|(node, _)| **node > turn).find(due));
        let next = behind.or_else(|| self.by_node.iter().find(due)).map(|(node, _)| *node);
        self.turn = next;
        next
    }
}

impl Drain {
    fn new(service: NodeService, late: Late, now: Moment) -> Self {
        let (look, found, pace) = (None, None, Pace::default());
        Self { service, began: now, look, next_at: now, found, pace, late, may_have_gone: false }
    }
    /// Was everything elsewhere when it was looked at last?
    pub(super) fn is_done(&self) -> bool {
        self.found.as_ref().is_some_and(Found::is_done)
    }
}

impl BlockManager {
    /// A bounded step of looking at nodes that are being emptied. True if there is more to look at now.
    pub(super) fn drain_step(&mut self, names: &dyn Names, now: Moment) -> bool {
        let (registry, streams) = (&self.registry, &self.streams);
        let due = |node: NodeIndex, drain: &Drain| {
            // Whoever was done and is gone is not asked again: its copies are in nobody's way. One of which nothing was ever
            // heard was done only as far as was known then, and one of which a block closed since, or is being looked at,
            // only as far as was seen then.
            let known = registry.node(node).storages.iter().all(|storage| streams[storage.0 as usize].complete());
            let seen = drain.look.is_none() && drain.late.is_empty();
            let gone = known && seen && drain.is_done() && registry.node(node).state == NodeState::Dead;
            !gone && (drain.look.is_some() || drain.next_at <= now)
        };
        let Some(node) = self.drains.next(due) else { return false };
        let Some(mut drain) = self.drains.by_node.remove(&node) else { return false };
        let was_done = drain.is_done();
        let mut look = drain.look.take().unwrap_or_else(|| Look::new(now, self.unheard(node, drain.began)));
        let over = self.look_on(node, &mut drain, &mut look, names);
        if over {
            self.end_look(node, &mut drain, look, now);
        } else {
            drain.look = Some(look);
        }
        let emptied = over && drain.is_done();
        self.drains.by_node.insert(node, drain);
        if emptied && !was_done {
            self.wait_no_more_if_gone(node);
        }
        !over
    }

    fn end_look(&self, node: NodeIndex, drain: &mut Drain, mut look: Look, now: Moment) {
        if let Some(why) = self.unheard(node, drain.began).or(look.unheard) {
            look.found.block(Blocker { block: None, why });
        }
        let (was_done, id) = (drain.is_done(), &self.registry.node(node).id);
        drain.pace.sample(now, look.found.done_bytes);
        drain.next_at = now.plus(PAUSE.max(now.since(look.began) * PAUSE_FACTOR));
        drain.found = Some(look.found);
        drain.may_have_gone |= drain.is_done() && drain.service == NodeService::Decommissioned;
        if drain.is_done() && !was_done {
            tracing::info!(node = %id, service = ?drain.service, "everything that the datanode holds is elsewhere: it may go");
        }
    }

    /// Why what is known of this node, which is being emptied since `began`, is not enough to let it go.
    fn unheard(&self, node: NodeIndex, began: Moment) -> Option<Why> {
        let term = self.leading?.term;
        let works = |storage: &&StorageIndex| self.registry.at(**storage).failure.is_none();
        let mut disks = self.registry.node(node).storages.iter().filter(works);
        let dead = self.registry.node(node).state == NodeState::Dead;
        let stream = |storage: &StorageIndex| &self.streams[storage.0 as usize];
        if !dead {
            // It may hold what was written lately, and the report of that is still on its way.
            let untold = |disk| !stream(disk).full_in(term) || !stream(disk).is_heard_out();
            // What closed before it was to be emptied it may have changed after its last heartbeat until then.
            let silent = self.registry.node(node).last_contact.is_none_or(|at| at <= began);
            // Where open blocks were placed before this member started it learns from the open files.
            let unplaced = self.open_looks > 0;
            if silent || unplaced || disks.any(untold) {
                return Some(Why::NotReported);
            }
        }
        // What a dead node has, or a failed disk, nobody can say, unless it was said before: it may be what other blocks lack.
        let mut all = self.registry.node(node).storages.iter();
        let unknown = all.any(|disk| (dead || !works(&disk)) && !stream(disk).complete());
        let lacking = self.repair.under_count() + self.short_open.len() as u64;
        match (unknown, self.passes.is_empty() && self.open_looks == 0) {
            (false, _) => None,
            // Not every block was looked at by this leader yet, or not every open one.
            (true, false) => Some(Why::NotReported),
            (true, true) if lacking == 0 => None,
            (true, true) if dead => Some(Why::Silent { lacking }),
            (true, true) => Some(Why::FailedDisk { lacking }),
        }
    }

    /// Looks at the next blocks of a node. True: that was all of them.
    fn look_on(&self, node: NodeIndex, drain: &mut Drain, look: &mut Look, names: &dyn Names) -> bool {
        let (service, late, mut left) = (drain.service, &mut drain.late, STEP);
        while left > 0 {
            let looked = match look.stage {
                Stage::Good(disk, after) => match self.registry.node(node).storages.get(disk) {
                    Some(storage) => {
                        let blocks = self.replicas.blocks_on(*storage, after, left);
                        let others = blocks.iter().filter(|block| !late.contains(**block));
                        others.for_each(|block| self.look_at_good(*block, service, look, names));
                        look.stage =
                            blocks.last().map_or(Stage::Good(disk + 1, None), |last| Stage::Good(disk, Some(*last)));
                        blocks.len()
                    }
                    None => {
                        look.stage = Stage::Odd(0, None);
                        0
                    }
                },
                Stage::Odd(disk, after) => match self.registry.node(node).storages.get(disk) {
                    Some(storage) => {
                        let blocks = self.replicas.odd_on_after(*storage, after, left);
                        for block in &blocks {
                            self.look_at_odd((*block, *storage), (service, &*late), look, names);
                        }
                        look.stage =
                            blocks.last().map_or(Stage::Odd(disk + 1, None), |last| Stage::Odd(disk, Some(*last)));
                        blocks.len()
                    }
                    None => {
                        look.stage = Stage::Open(None);
                        0
                    }
                },
                Stage::Open(after) => {
                    let from = after.map_or(BlockId::from_raw(i64::MIN), BlockId::next);
                    let some: Vec<_> = self.open_targets.range(from..).take(left).collect();
                    for (block, homes) in &some {
                        if homes.iter().any(|home| self.registry.at(home.storage).node == node) {
                            self.look_at_open(**block, service, look, names);
                        }
                    }
                    match some.last() {
                        Some((last, _)) => look.stage = Stage::Open(Some(**last)),
                        None => look.stage = Stage::Late(None),
                    }
                    some.len()
                }
                // The last one: what closes during the look comes here, whatever the look is past already.
                Stage::Late(after) => match self.look_at_some_late(after, left, (service, &mut *late), look, names) {
                    0 => return true,
                    looked => looked,
                },
            };
            left -= looked;
        }
        false
    }

    fn look_at_good(&self, block: BlockId, service: NodeService, look: &mut Look, names: &dyn Names) {
        if let Some(facts) = names.facts(block).filter(|facts| facts.committed) {
            self.count_closed(block, facts, service, look, names);
        }
    }

    /// Counts a committed block of a node. True: it is safe elsewhere.
    fn count_closed(
        &self,
        block: BlockId,
        facts: Facts,
        service: NodeService,
        look: &mut Look,
        names: &dyn Names,
    ) -> bool {
        let found = &mut look.found;
        found.total_blocks += 1;
        found.total_bytes += facts.len_bytes;
        match self.in_the_way(block, facts, service, names) {
            None => {
                found.done_blocks += 1;
                found.done_bytes += facts.len_bytes;
                return true;
            }
            Some(Why::Copying) => found.waiting += 1,
            // Reports of it are on their way.
            Some(Why::NoCopy) if self.repair.is_settling(block, look.began) => found.waiting += 1,
            Some(Why::NoCopy) if self.is_only_damaged(block) => {
                found.block(Blocker { block: Some(block), why: Why::OnlyDamaged });
            }
            Some(why) => found.block(Blocker { block: Some(block), why }),
        }
        false
    }
    fn is_only_damaged(&self, block: BlockId) -> bool {
        self.replicas.each_good(block).next().is_none() && !self.replicas.odd_of(block).is_empty()
    }

    /// Why a committed block of a node is not yet safe elsewhere; `None`: it is.
    fn in_the_way(&self, block: BlockId, facts: Facts, service: NodeService, names: &dyn Names) -> Option<Why> {
        let holders = self.nodes_of(&self.counting(block));
        let node = |index: &NodeIndex| self.registry.node(*index);
        let heard = |index: &&NodeIndex| node(index).state == NodeState::Live;
        let staying = || holders.iter().filter(|index| node(index).service.is_in_service());
        let have = match service {
            NodeService::Maintenance { .. } => staying().filter(heard).count() as u32,
            _ => self.standing(block, &holders, facts.replication, names).towards,
        };
        let wanted = if service.is_maintenance() { 1 } else { facts.replication };
        if have >= wanted {
            return None;
        }
        if !holders.iter().any(|index| heard(&index)) {
            return Some(Why::NoCopy);
        }
        if self.repair.targets_of(block).next().is_some() {
            return Some(Why::Copying);
        }
        let mut places = 0;
        let mut room = false;
        for (index, place) in self.registry.nodes() {
            if place.service.is_in_service() && place.state != NodeState::Dead && !holders.contains(&index) {
                places += 1;
                room |= place.storages.iter().any(|storage| has_room(&self.registry, *storage, facts.len_bytes));
            }
        }
        match (places, room) {
            (0, _) => Some(Why::NotEnoughNodes { have, wanted }),
            (_, false) => Some(Why::NoRoom { len_bytes: facts.len_bytes }),
            _ => Some(Why::Copying),
        }
    }

    fn look_at_odd(
        &self,
        (block, storage): (BlockId, StorageIndex),
        (service, late): (NodeService, &Late),
        look: &mut Look,
        names: &dyn Names,
    ) {
        let Some(odd) = self.replicas.odd_at(block, storage) else { return };
        let Some(facts) = names.facts(block) else { return };
        match classify(&odd, block, names) {
            Class::Open | Class::Unknown => self.look_at_open(block, service, look, names),
            // It is no copy; but where there is no other one, it is what is left of the block.
            Class::Corrupt | Class::Stale
                if facts.committed && !late.contains(block) && self.counting(block).is_empty() =>
            {
                look.found.total_blocks += 1;
                look.found.total_bytes += facts.len_bytes;
                look.found.block(Blocker { block: Some(block), why: Why::OnlyDamaged });
            }
            _ => {}
        }
    }

    /// A block that is being written, with a replica on the node.
    fn look_at_open(&self, block: BlockId, service: NodeService, look: &mut Look, names: &dyn Names) {
        let Some(facts) = names.facts(block) else { return };
        if !look.open.insert(block) {
            return;
        }
        let odd = self.replicas.odd_of(block);
        // A recovery may end the block on the newest ones alone: others count for nothing then.
        let newest = odd.iter().map(|(_, odd)| odd.stamp).max().filter(|_| !base::mutated!(Sc75OldCopiesStay));
        let least_stamp = newest.map_or(facts.stamp, |newest| newest.max(facts.stamp));
        let is_written = |odd: &Odd| {
            let whole = odd.stamp >= least_stamp && odd.len_bytes >= facts.len_bytes;
            whole && !odd.marked && odd.state != ReplicaState::Corrupt
        };
        let written = odd.iter().filter(|(_, odd)| is_written(odd)).map(|(storage, _)| *storage);
        // What was finished before is where nodes say that it is: a copy may have been moved since the log named its place.
        // A pipeline that was logged has it, unless it should have told so: what is being written is in no full report.
        let expected = |storage: &StorageIndex| match self.replicas.odd_at(block, *storage) {
            None if facts.untouched => self.is_untold(*storage),
            None => self.may_write_untold(block, *storage),
            Some(odd) => !facts.untouched && !odd.marked && odd.state == ReplicaState::BeingWritten,
        };
        let placed = self.open_targets.get(&block).into_iter().flatten().map(|home| home.storage).filter(expected);
        let storages: Vec<_> = written.chain(placed).collect();
        let stays = |storage: &&StorageIndex| self.registry.counts(**storage) && self.registry.in_service(**storage);
        let staying: BTreeSet<_> = storages.iter().filter(stays).map(|s| self.registry.at(*s).node).collect();
        let staying = if self.is_in_round(block) { BTreeSet::new() } else { staying };
        let wanted = if service.is_maintenance() { 1 } else { facts.replication };
        look.found.total_blocks += 1;
        if staying.len() as u32 >= wanted {
            look.found.done_blocks += 1;
        } else {
            look.found.block(Blocker { block: Some(block), why: Why::Open { have: staying.len() as u32, wanted } });
        }
    }
}
