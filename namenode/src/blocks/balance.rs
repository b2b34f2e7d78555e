//! Balancing: copies go from fuller nodes to emptier ones, one block at a time, and never is there one less than before.
//!
//! ```text
//!   fullness of nodes ─▶ evening ─▶ flows ─▶ a block that may move ─▶ copy ─▶ reported whole by the new node
//!                                                                              │ counted as a copy: one is too many
//!          block changed, copy failed: given up ◀──────────────────────────────┤
//!                                                      deletion rule ◀── the old one is wished away ─▶ told gone: moved
//! ```
//!
//! A move is nothing but a copy beyond the number wanted, and a word on which copy is the one too many. So it deletes by the
//! one rule for all deletions (`removal.rs`), on what is known at that moment and never on what was known when the move
//! began (scar SC-77), and a block that is appended to or removed meanwhile is left alone. Blocks that lack copies go
//! first. What is moved is bounded in number and in bytes a second.
//!
//! A balance is its leader's own: with the leadership it ends, and what it had under way ends as a surplus copy that is
//! removed, or as nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use base::clock::Moment;
use proto::ids::{BlockId, GenerationStamp, Term};

use super::BlockManager;
use super::evening::{Flow, Fullness, flows, keeps_racks, nearer};
use super::facts::{Facts, Names};
use super::jobs::{Blocker, JobKind, JobState, JobView, Pace, Why};
use super::placement::has_room;
use super::registry::{NodeIndex, NodeState, StorageIndex};

/// Blocks that a step looks at.
const LOOKS: usize = 256;
/// Moves that a step begins.
const BEGINS: usize = 4;
/// Moves under way, of all nodes together.
const UNDER_WAY: usize = 64;
/// Moves under way from or to one node.
const UNDER_WAY_OF_NODE: usize = 8;
/// Time after which the one copy too many is judged again: the rule may have refused it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Time after which a move whose old copy does not go is left to itself.
const GIVE_UP: Duration = Duration::from_secs(600);
/// Time since the last move (or the begin) within which blocks that are not in order are waited for: new ones settle, nodes
/// are heard of again, copies are made. One that never is must not keep a balance going.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time within which a node says how full it is, or is not waited for.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// Balances that are remembered when they have ended.
const REMEMBERED: usize = 8;

/// Threshold of a balance that names none, in percent.
const DEFAULT_THRESHOLD_PERCENT: u32 = 10;

/// The balance under way, and those that ended.
#[derive(Debug, Default)]
pub(super) struct Balance {
    running: Option<Run>,
    ended: VecDeque<JobView>,
    count: u64,
}

#[derive(Debug)]
struct Run {
    name: String,
    threshold_percent: u32,
    rate_bytes_per_s: u64,
    began: Moment,
    /// Bytes that may be begun; below zero after a long block.
    allowance: i128,
    refilled: Moment,
    moves: BTreeMap<BlockId, Move>,
    /// Moves that are done, until their nodes have said how full they are since.
    recent: Vec<(Move, Moment)>,
    /// How far each disk was looked through for a block that may move to a node.
    cursors: BTreeMap<Way, BlockId>,
    /// Ways for which a disk was looked through without finding one since the last block was moved.
    barren: BTreeSet<Way>,
    /// Ways on which a block was passed by that may move when it is in order again.
    unready: BTreeSet<Way>,
    /// Ways that are looked along from the first block on since a block was moved last: only then the end says something.
    whole: BTreeSet<Way>,
    /// Ways on which blocks were passed by because they are longer than what was to flow, with the shortest such length;
    /// `None`: others were passed by for another reason that may change.
    too_long: BTreeMap<Way, Option<u64>>,
    /// When a block was moved last.
    progress: Moment,
    moved_blocks: u64,
    moved_bytes: u64,
    left_bytes: u64,
    pace: Pace,
}

/// From a disk to a node.
type Way = (StorageIndex, NodeIndex);

/// May a block go from a disk to a node?
enum Fit {
    Fits(Facts),
    /// When it is in order again.
    NotYet,
    /// If so many bytes were to flow.
    TooLong(u64),
    No,
}

/// A block that is being moved.
#[derive(Clone, Copy, Debug)]
struct Move {
    from: StorageIndex,
    to: StorageIndex,
    stamp: GenerationStamp,
    len_bytes: u64,
    /// When its copy was reported.
    arrived: Option<Moment>,
    judged: Moment,
}

impl Balance {
    /// Copies of this block that are made only because it moves: one or none.
    pub(super) fn copies_of(&self, block: BlockId) -> usize {
        let of = self.running.as_ref().and_then(|run| run.moves.get(&block));
        usize::from(of.is_some_and(|one| one.arrived.is_none()))
    }
    /// Where a block that is being moved comes from.
    pub(super) fn leaves(&self, block: BlockId) -> Option<StorageIndex> {
        self.running.as_ref()?.moves.get(&block).map(|one| one.from)
    }
    fn goes_to(&self, block: BlockId) -> Option<StorageIndex> {
        self.running.as_ref()?.moves.get(&block).map(|one| one.to)
    }
    /// Another member leads.
    pub(super) fn clear(&mut self) {
        *self = Self { count: self.count, ..Self::default() };
    }
}

impl Run {
    /// What may be begun by now. A second's worth is saved up at most.
    fn refill(&mut self, now: Moment) {
        let passed_ms = now.since(self.refilled).as_millis() as i128;
        let rate = i128::from(self.rate_bytes_per_s);
        self.allowance = (self.allowance + rate * passed_ms / 1000).min(rate.max(1));
        self.refilled = now;
    }
    const fn may_begin(&self) -> bool {
        self.rate_bytes_per_s == 0 || self.allowance > 0
    }
    /// Would a node give more to another, if its blocks were shorter? None of those that may go is as short as what is to flow.
    fn is_too_long(&self, from: &Place, to: &Place, bytes: u64) -> bool {
        let mut passed = from.disks.iter().filter_map(|disk| self.too_long.get(&(*disk, to.node))).peekable();
        passed.peek().is_some() && passed.all(|shortest| shortest.is_some_and(|shortest| shortest > bytes))
    }
    fn job(&self, state: JobState, now: Moment) -> JobView {
        let running = state == JobState::Running;
        JobView {
            name: self.name.clone(),
            kind: JobKind::Balance,
            state,
            subject: None,
            done_blocks: self.moved_blocks,
            total_blocks: self.moved_blocks + self.moves.len() as u64,
            done_bytes: self.moved_bytes,
            total_bytes: self.moved_bytes.saturating_add(if running { self.left_bytes } else { 0 }),
            rate_bytes_per_s: if running { self.pace.bytes_per_s() } else { 0 },
            eta: self.pace.eta(self.left_bytes).filter(|_| running),
            running: now.since(self.began),
            blockers: Vec::new(),
            blocked: 0,
        }
    }
}

impl BlockManager {
    /// Begins to balance, within `threshold_percent` of the mean (0: the default) and at so many bytes a second (0: what the
    /// nodes allow); its name. If the same is under way, that is it.
    ///
    /// # Errors
    /// The name of another balance that is under way.
    pub fn begin_balance(
        &mut self,
        threshold_percent: u32,
        rate_bytes_per_s: u64,
        now: Moment,
    ) -> Result<String, String> {
        let threshold_percent = if threshold_percent == 0 { DEFAULT_THRESHOLD_PERCENT } else { threshold_percent };
        if let Some(run) = &self.balance.running {
            let same = (run.threshold_percent, run.rate_bytes_per_s) == (threshold_percent, rate_bytes_per_s);
            return if same { Ok(run.name.clone()) } else { Err(run.name.clone()) };
        }
        self.balance.count += 1;
        let term = self.leading.map_or(0, |leading| Term::raw(leading.term));
        let name = format!("balance-{term}-{}", self.balance.count);
        tracing::info!(job = name, threshold_percent, rate_bytes_per_s, "balancing begins");
        self.balance.running = Some(Run {
            name: name.clone(),
            threshold_percent,
            rate_bytes_per_s,
            began: now,
            allowance: i128::from(rate_bytes_per_s.max(1)),
            refilled: now,
            moves: BTreeMap::new(),
            recent: Vec::new(),
            cursors: BTreeMap::new(),
            barren: BTreeSet::new(),
            unready: BTreeSet::new(),
            whole: BTreeSet::new(),
            too_long: BTreeMap::new(),
            progress: now,
            moved_blocks: 0,
            moved_bytes: 0,
            left_bytes: 0,
            pace: Pace::default(),
        });
        Ok(name)
    }

    /// Ends a balance at somebody's word. False: none of this name is under way.
    pub fn cancel_balance(&mut self, name: &str, now: Moment) -> bool {
        let is_it = self.balance.running.as_ref().is_some_and(|run| run.name == name);
        if is_it && let Some(run) = self.balance.running.take() {
            self.end_balance(run, JobState::Cancelled, now);
        }
        is_it
    }

    /// Has this leader had a balance of this name, which ended?
    #[must_use]
    pub fn had_balance(&self, name: &str) -> bool {
        self.balance.ended.iter().any(|job| job.name == name)
    }

    fn end_balance(&mut self, run: Run, state: JobState, now: Moment) {
        for (block, one) in &run.moves {
            self.repair.prune(*block, |copy| copy.target == one.to);
        }
        tracing::info!(job = run.name, state = state.as_str(), blocks = run.moved_blocks, "balancing has ended");
        let mut job = run.job(state, now);
        if state == JobState::Blocked {
            job.blocked = 1;
            job.blockers.push(Blocker { block: None, why: Why::NothingFits });
        }
        self.balance.ended.push_back(job);
        if self.balance.ended.len() > REMEMBERED {
            self.balance.ended.pop_front();
        }
    }

    /// Is the new copy of a block that is being moved here, on a node that is heard of?
    pub(super) fn arrived(&self, block: BlockId) -> bool {
        self.balance.goes_to(block).is_some_and(|to| {
            self.replicas.is_good(block, to)
                && self.registry.counts(to)
                && self.registry.node_of(to).state == NodeState::Live
        })
    }

    /// A bounded step of balancing: looks after moves under way, and begins some.
    pub(super) fn balance_step(&mut self, names: &dyn Names, now: Moment) {
        let Some(mut run) = self.balance.running.take() else { return };
        let ended = self.look_after(&mut run, names, now);
        run.recent.retain(|(one, at)| {
            let heard = self.heard_since(one.from, *at) && self.heard_since(one.to, *at);
            !heard && now.since(*at) < TOLD_WITHIN
        });
        run.refill(now);
        run.pace.sample(now, run.moved_bytes);
        let (places, wanted, all_flows) = self.wanted_flows(&run);
        run.left_bytes = wanted.iter().map(|flow| flow.bytes).sum();
        let even = wanted.is_empty();
        let mut found = false;
        // What lacks copies goes first: it needs the same disks and links.
        if !even && !self.repair.has_ready() {
            found = self.begin_some(&mut run, &places, &all_flows, names, now);
        }
        // Before nodes have said how full they are now, nothing is concluded.
        let settled = run.moves.is_empty() && run.recent.is_empty();
        let stuck = !even && settled && !found && all_flows.is_empty();
        // As even as whole blocks make it.
        let indivisible =
            stuck && wanted.iter().all(|flow| run.is_too_long(&places[flow.from], &places[flow.to], flow.bytes));
        let over = (even && settled) || indivisible;
        self.balance.running = Some(run);
        // Judged with the moves known: which copy is the one too many.
        for block in ended {
            self.judge(block, names, now);
        }
        if (over || stuck)
            && let Some(run) = self.balance.running.take()
        {
            self.end_balance(run, if over { JobState::Done } else { JobState::Blocked }, now);
        }
    }

    /// Sees what became of moves. Blocks that are to be judged again.
    fn look_after(&mut self, run: &mut Run, names: &dyn Names, now: Moment) -> Vec<BlockId> {
        let mut judge = Vec::new();
        let mut over = Vec::new();
        for (block, one) in &mut run.moves {
            let (block, same) = (*block, |facts: &Facts| facts.committed && facts.stamp == one.stamp);
            if !names.facts(block).as_ref().is_some_and(same) {
                // Removed, or being written again: whatever was known of it is void.
                self.repair.prune(block, |copy| copy.target == one.to);
                over.push((block, false));
            } else if !self.replicas.is_good(block, one.to) {
                if one.arrived.is_some() || !self.repair.targets_of(block).any(|target| target == one.to) {
                    over.push((block, false));
                }
            } else if !self.replicas.is_good(block, one.from) {
                over.push((block, true));
            } else if one.arrived.is_none() {
                (one.arrived, one.judged) = (Some(now), now);
                judge.push(block);
            } else if one.arrived.is_some_and(|at| now.since(at) >= GIVE_UP) {
                over.push((block, false));
            } else if now.since(one.judged) >= LOOK_AGAIN && !self.removal.is_sent(one.from, block) {
                one.judged = now;
                judge.push(block);
            }
        }
        for (block, moved) in over {
            let Some(one) = run.moves.remove(&block) else { continue };
            if moved {
                run.moved_blocks += 1;
                run.moved_bytes += one.len_bytes;
                run.recent.push((one, now));
                run.progress = now;
                run.barren.clear();
                run.whole.clear();
                run.too_long.clear();
            }
            judge.push(block);
        }
        judge
    }

    /// Has the node of this disk said since then how full it is?
    fn heard_since(&self, storage: StorageIndex, at: Moment) -> bool {
        self.registry.node_of(storage).last_contact.is_some_and(|contact| contact >= at)
    }

    /// How full nodes are, by kind of medium, with what is under way counted as done; what is to flow between them;
    /// and what can.
    fn wanted_flows(&self, run: &Run) -> (Vec<Place>, Vec<Flow>, Vec<Flow>) {
        let mut places: Vec<Place> = Vec::new();
        for (index, node) in self.registry.nodes() {
            if !node.service.is_in_service() || node.state != NodeState::Live {
                continue;
            }
            for storage in &node.storages {
                let disk = self.registry.at(*storage);
                if disk.failure.is_some() {
                    continue;
                }
                let media = disk.media.clone();
                let new = || Place { node: index, media, disks: Vec::new(), said: 0, expected: 0, size: 0 };
                let at = places.iter().position(|place| place.node == index && place.media == disk.media);
                let at = at.unwrap_or_else(|| {
                    places.push(new());
                    places.len() - 1
                });
                if let Some(place) = places.get_mut(at) {
                    place.disks.push(*storage);
                    place.said += i128::from(disk.used_bytes);
                    place.expected += i128::from(disk.used_bytes);
                    place.size += disk.used_bytes.saturating_add(disk.available_bytes);
                }
            }
        }
        let under_way =
            run.moves.values().map(|one| (one, true, one.arrived.is_none_or(|at| !self.heard_since(one.to, at))));
        let recent = run.recent.iter();
        let recent = recent.map(|(one, at)| (one, !self.heard_since(one.from, *at), !self.heard_since(one.to, *at)));
        for (one, gives, takes) in under_way.chain(recent) {
            for place in &mut places {
                let bytes = i128::from(one.len_bytes);
                place.expected -= if gives && place.disks.contains(&one.from) { bytes } else { 0 };
                place.expected += if takes && place.disks.contains(&one.to) { bytes } else { 0 };
            }
        }
        let media: BTreeSet<&str> = places.iter().map(|place| place.media.as_str()).collect();
        let (mut all, mut possible) = (Vec::new(), Vec::new());
        for medium in media {
            let of: Vec<usize> = (0..places.len()).filter(|at| places[*at].media == medium).collect();
            let said: i128 = of.iter().map(|at| places[*at].said).sum();
            let size: i128 = of.iter().map(|at| i128::from(places[*at].size)).sum();
            let full = |at: &usize| {
                let place = &places[*at];
                let share = said * i128::from(place.size) / size.max(1);
                let used = nearer(share, place.said, place.expected).max(0);
                Fullness { used_bytes: u64::try_from(used).unwrap_or(u64::MAX), size_bytes: place.size }
            };
            let fullness: Vec<_> = of.iter().map(full).collect();
            // A disk that was looked through for another node in vain gives to others.
            let may = |from: usize, to: usize| {
                let (from, to) = (&places[of[from]], &places[of[to]]);
                from.disks.iter().any(|disk| !run.barren.contains(&(*disk, to.node)))
            };
            let placed = |flow: Flow| Flow { from: of[flow.from], to: of[flow.to], ..flow };
            all.extend(flows(&fullness, run.threshold_percent, |_, _| true).into_iter().map(placed));
            possible.extend(flows(&fullness, run.threshold_percent, may).into_iter().map(placed));
        }
        (places, all, possible)
    }

    /// Begins moves along the flows. True if one was begun, or might be in the next step.
    fn begin_some(&mut self, run: &mut Run, places: &[Place], all: &[Flow], names: &dyn Names, now: Moment) -> bool {
        let (mut looks, mut begun) = (LOOKS, 0);
        for flow in all {
            let (from, to) = (&places[flow.from], &places[flow.to]);
            let mut left_bytes = flow.bytes;
            while begun < BEGINS && looks > 0 {
                if !run.may_begin() || run.moves.len() >= UNDER_WAY || !self.have_hands(run, from.node, to.node) {
                    break;
                }
                let Some((block, source, target, facts)) =
                    self.movable(run, (from, to), left_bytes, &mut looks, (names, now))
                else {
                    break;
                };
                self.order(block, facts, (source, target), false, now);
                run.allowance -= i128::from(facts.len_bytes);
                left_bytes = left_bytes.saturating_sub(facts.len_bytes);
                let (stamp, len_bytes) = (facts.stamp, facts.len_bytes);
                run.moves
                    .insert(block, Move { from: source, to: target, stamp, len_bytes, arrived: None, judged: now });
                begun += 1;
            }
        }
        begun > 0 || looks == 0
    }

    fn have_hands(&self, run: &Run, from: NodeIndex, to: NodeIndex) -> bool {
        let of = |node: NodeIndex| {
            let touches = |storage: StorageIndex| self.registry.at(storage).node == node;
            run.moves.values().filter(|one| touches(one.from) || touches(one.to)).count()
        };
        let coming = self.repair.coming().find(|(node, _)| *node == to).map(|(_, load)| load).unwrap_or_default();
        of(from) < UNDER_WAY_OF_NODE
            && of(to) < UNDER_WAY_OF_NODE
            && self.hand(from, false).takes(self.repair.reading(from), 0)
            && self.hand(to, false).takes(coming, 0)
    }

    /// The next block of a node that may move to another, with the disks.
    fn movable(
        &self,
        run: &mut Run,
        (from, to): (&Place, &Place),
        left_bytes: u64,
        looks: &mut usize,
        (names, now): (&dyn Names, Moment),
    ) -> Option<(BlockId, StorageIndex, StorageIndex, Facts)> {
        let fullest_first = |disks: &[StorageIndex]| {
            let mut disks = disks.to_vec();
            disks.sort_by_key(|disk| (self.registry.at(*disk).available_bytes, *disk));
            disks
        };
        for source in fullest_first(&from.disks) {
            let way = (source, to.node);
            while *looks > 0 && !run.barren.contains(&way) {
                let after = run.cursors.get(&way).copied();
                if after.is_none() {
                    run.whole.insert(way);
                    run.too_long.remove(&way);
                }
                let blocks = self.replicas.blocks_on(source, after, *looks);
                let last = blocks.last().copied();
                for block in &blocks {
                    *looks -= 1;
                    run.cursors.insert(way, *block);
                    let facts = match self.may_move(run, *block, source, to.node, left_bytes, (names, now)) {
                        Fit::Fits(facts) => facts,
                        Fit::NotYet => {
                            run.unready.insert(way);
                            run.too_long.insert(way, None);
                            continue;
                        }
                        Fit::TooLong(len_bytes) => {
                            let shortest = run.too_long.entry(way).or_insert(Some(len_bytes));
                            *shortest = shortest.map(|shortest| shortest.min(len_bytes));
                            continue;
                        }
                        Fit::No => continue,
                    };
                    let room = |disk: &StorageIndex| has_room(&self.registry, *disk, facts.len_bytes);
                    let emptiest = fullest_first(&to.disks).into_iter().rev().find(room);
                    if let Some(target) = emptiest {
                        return Some((*block, source, target, facts));
                    }
                    run.too_long.insert(way, None);
                }
                if last.is_none() {
                    // Once around: from the first block again when something has changed, or may change by itself.
                    run.cursors.remove(&way);
                    if !run.whole.contains(&way) {
                        continue;
                    }
                    if run.unready.remove(&way) && now.since(run.progress) < PATIENCE {
                        break;
                    }
                    run.barren.insert(way);
                }
            }
        }
        None
    }

    /// May this block go from a disk to another node? It must be in perfect order: as many copies as wanted, on nodes in
    /// service that are heard of, nothing of it under way, and no rack the fewer for it.
    fn may_move(
        &self,
        run: &Run,
        block: BlockId,
        source: StorageIndex,
        to: NodeIndex,
        left_bytes: u64,
        (names, now): (&dyn Names, Moment),
    ) -> Fit {
        let Some(facts) = names.facts(block) else { return Fit::No };
        if !facts.committed {
            return Fit::NotYet;
        }
        let good = self.counting(block);
        let nodes = self.nodes_of(&good);
        let racks = nodes.iter().map(|node| self.registry.node(*node).rack.as_str());
        let source_rack = self.registry.node_of(source).rack.as_str();
        let fits = facts.len_bytes > 0
            && !nodes.contains(&to)
            && keeps_racks(racks, source_rack, &self.registry.node(to).rack);
        if !fits {
            return Fit::No;
        }
        if facts.len_bytes > left_bytes {
            return Fit::TooLong(facts.len_bytes);
        }
        if self.is_in_order(run, block, &facts, source, now) { Fit::Fits(facts) } else { Fit::NotYet }
    }

    /// As many copies as wanted, on nodes in service that are heard of, and nothing under way?
    fn is_in_order(&self, run: &Run, block: BlockId, facts: &Facts, source: StorageIndex, now: Moment) -> bool {
        let good = self.counting(block);
        let nodes = self.nodes_of(&good);
        let sound = |node: &NodeIndex| {
            let node = self.registry.node(*node);
            node.state == NodeState::Live && node.service.is_in_service()
        };
        nodes.len() == good.len()
            && nodes.len() as u32 == facts.replication
            && nodes.iter().all(sound)
            && good.contains(&source)
            && !run.moves.contains_key(&block)
            && !self.repair.is_settling(block, now)
            && self.repair.targets_of(block).next().is_none()
            && self.replicas.odd_of(block).is_empty()
    }

    /// Moves under way, blocks and bytes that were moved by the balance under way: for metrics.
    #[must_use]
    pub fn balance_figures(&self) -> (u64, u64, u64) {
        let figures = |run: &Run| (run.moves.len() as u64, run.moved_blocks, run.moved_bytes);
        self.balance.running.as_ref().map(figures).unwrap_or_default()
    }

    pub(super) fn balance_jobs(&self, now: Moment) -> Vec<JobView> {
        let running = self.balance.running.as_ref().map(|run| run.job(JobState::Running, now));
        self.balance.ended.iter().cloned().chain(running).collect()
    }
}

/// A node's disks of one kind.
#[derive(Debug)]
struct Place {
    node: NodeIndex,
    media: String,
    disks: Vec<StorageIndex>,
    /// Bytes of blocks, as its node said last.
    said: i128,
    /// The same when what is under way is done.
    expected: i128,
    size: u64,
}
