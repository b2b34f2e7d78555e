//! Recovery of the last blocks of files whose writers are gone, or that a truncate cuts: soft state of the leader.
//!
//! ```text
//!   note ─▶ waiting ─┬─ its stamp is another leader's or an earlier try's ─▶ BeginRecovery (log) ─▶ waiting
//!                    └─▶ round: PrepareRecovery to its storages ─▶ answers ─▶ decide.rs ─▶ FinishReplica ─▶ answers
//!                          │                                                                              │
//!                          │ nothing can be decided: resting, longer each time                            ▼
//!                          └──────────────▶ waiting                                     FinishRecovery (log)
//! ```
//!
//! The stamp of a recovery fences whoever wrote before, and earlier recoveries (scar SC-26): the namespace gives a higher
//! one with each `BeginRecovery`, and takes the end of the last one only. So a new leader begins each of them again, and
//! whatever commands of an earlier one are still under way, nothing comes of them.
//!
//! Bounded: so many files at a time have a round or a command in the log; of the others only their inode is kept. A
//! round ends by itself after a time (scar SC-28), and its file waits before the next one, longer each time (SC-94).

mod decide;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::node_command::Kind;
use proto::cluster::{CommandResult, FinishReplica, NodeCommand, PrepareRecovery};
use proto::common::Block;
use proto::ids::{BlockId, GenerationStamp, InodeId, LeaseEpoch};

use super::BlockManager;
use super::registry::{NodeIndex, NodeState, StorageIndex};
use crate::namespace::NodeService;
use decide::{Bounds, Decision, FEW, Participant, Said, Why, decide};

/// Files that are worked on at a time.
const MAX_RUNNING: usize = 256;
/// Of these, files of which a try came to nothing.
const MAX_RUNNING_AGAIN: usize = MAX_RUNNING / 2;
/// A command without a result is sent again with a heartbeat after this time: the reply may have been lost.
const AGAIN: Duration = Duration::from_secs(3);
/// Time that the others have from the moment at which they were told to finish their replicas, once one has.
const FINISH: Duration = Duration::from_secs(5);
/// Time to fetch that command and to carry it out; after it nobody is waited for.
const FINISH_AT_MOST: Duration = Duration::from_secs(12);
/// Time from the begin of a round in which its nodes are asked to come again soon.
const HURRY: Duration = Duration::from_secs(10);
/// Rest before a file is tried again; doubled each time up to the longest one.
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A file's last block that is to be recovered, as the namespace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToRecover {
    /// The file.
    pub inode: InodeId,
    /// Its lease.
    pub lease_epoch: LeaseEpoch,
    /// Its last block.
    pub block: BlockId,
    /// The block's stamp: lower ones count for nothing.
    pub stamp: GenerationStamp,
    /// The stamp of this recovery.
    pub recovery_stamp: GenerationStamp,
    /// Bytes that the block has at least.
    pub floor_bytes: u64,
    /// The length that a truncate gives it.
    pub target_bytes: Option<u64>,
    /// Its pipeline, as the log has it.
    pub homes: Vec<StorageIndex>,
    /// It was finished before, and no pipeline was logged since it is open again.
    pub untouched: bool,
    /// A superuser takes for lost what does not answer, or has nothing of use.
    pub accept_loss: bool,
}

/// How a recovery ended at the storages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What was to be recovered.
    pub what: ToRecover,
    /// Length of the block on each of the storages.
    pub len_bytes: u64,
    /// None: nothing was ever written, and the block goes.
    pub storages: Vec<StorageIndex>,
}

/// What the leader has to do for a file next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The file.
    pub inode: InodeId,
    /// Its stamp was given in this term, and no round used it: a round may begin. Else it needs another one first.
    pub fresh: bool,
}

#[derive(Debug)]
enum Stage {
    Asking,
    Finishing { len_bytes: u64, since: Moment },
}

/// A storage of a round, and the command that it was sent last.
#[derive(Debug)]
struct Asked {
    home: bool,
    said: Said,
    number: u64,
    /// First and last time.
    sent: Option<(Moment, Moment)>,
    /// Is it one of those that finish?
    chosen: bool,
    finished: Option<bool>,
}

#[derive(Debug)]
struct Round {
    what: ToRecover,
    began: Moment,
    stage: Stage,
    asked: BTreeMap<StorageIndex, Asked>,
}

#[derive(Debug)]
enum Place {
    Waiting {
        fresh: bool,
    },
    /// A command is in the log.
    Logged,
    Round(Box<Round>),
    Resting {
        until: Moment,
        why: Why,
        /// Datanodes that may have more, for people.
        who: String,
    },
}

#[derive(Debug)]
struct File {
    tries: u32,
    /// Stamp of its last round. Of each stamp there is one round: commands of one that is over may still be under way.
    used: Option<GenerationStamp>,
    /// The block of its last round.
    block: Option<BlockId>,
    place: Place,
}

/// All recoveries.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    files: BTreeMap<InodeId, File>,
    /// By the tries they had: those that came to nothing over and over again are not in the way of others.
    waiting: BTreeSet<(u32, InodeId)>,
    resting: BTreeSet<(Moment, InodeId)>,
    /// Files with a round or a command in the log.
    running: BTreeSet<InodeId>,
    /// Open questions, by the number of their command.
    numbers: BTreeMap<u64, (InodeId, StorageIndex)>,
    /// Rounds in which a node has a part.
    of_node: BTreeSet<(NodeIndex, InodeId)>,
    ended: Vec<Recovered>,
}

impl Recoveries {
    fn put(&mut self, inode: InodeId, place: Place) {
        self.leave(inode);
        match place {
            Place::Waiting { .. } => {
                let tries = self.files.get(&inode).map_or(0, |file| file.tries);
                self.waiting.insert((tries, inode));
            }
            Place::Resting { until, .. } => drop(self.resting.insert((until, inode))),
            Place::Logged | Place::Round(_) => drop(self.running.insert(inode)),
        }
        self.files.entry(inode).or_insert(File { tries: 0, used: None, block: None, place: Place::Logged }).place =
            place;
    }
    /// Takes a file out of the index of its place.
    fn leave(&mut self, inode: InodeId) {
        let Some(file) = self.files.get(&inode) else { return };
        match &file.place {
            Place::Waiting { .. } => drop(self.waiting.remove(&(file.tries, inode))),
            Place::Resting { until, .. } => drop(self.resting.remove(&(*until, inode))),
            Place::Logged => drop(self.running.remove(&inode)),
            Place::Round(round) => {
                round.asked.values().for_each(|asked| {
                    self.numbers.remove(&asked.number);
                });
                self.of_node.retain(|(_, other)| *other != inode);
                self.running.remove(&inode);
            }
        }
    }
    fn forget(&mut self, inode: InodeId) {
        self.leave(inode);
        self.files.remove(&inode);
    }
    fn round(&mut self, inode: InodeId) -> Option<&mut Round> {
        match &mut self.files.get_mut(&inode)?.place {
            Place::Round(round) => Some(round),
            _ => None,
        }
    }
    /// May a recovery at this stamp begin with a round? Without a fresh one it begins with a command, and gets another
    /// stamp.
    fn is_news(&self, inode: InodeId, stamp: GenerationStamp, fresh: bool) -> bool {
        let used = self.files.get(&inode).and_then(|file| file.used);
        !fresh || used.is_none_or(|used| used < stamp)
    }
    /// Files with a round or a command in the log that came to nothing before.
    fn running_again(&self) -> usize {
        self.running.iter().filter(|inode| self.files.get(inode).is_some_and(|file| file.tries > 0)).count()
    }
    fn rest(&mut self, inode: InodeId, (why, who): (Why, String), now: Moment) {
        let tries = self.files.get(&inode).map_or(0, |file| file.tries);
        let rest = REST.saturating_mul(1 << tries.min(10)).min(LONGEST_REST);
        self.put(inode, Place::Resting { until: now.plus(rest), why, who });
        if let Some(file) = self.files.get_mut(&inode) {
            file.tries = tries.saturating_add(1);
        }
    }
    fn wake(&mut self, now: Moment) {
        while let Some((until, inode)) = self.resting.first().copied()
            && until <= now
        {
            self.put(inode, Place::Waiting { fresh: false });
        }
    }
}

impl BlockManager {
    /// A file is to be recovered. `fresh`: it was given this stamp by an entry of this leader's term. What is known at
    /// this stamp goes on as it does, be it a round, its end that is in the log, or a rest: who asks again hurries
    /// nothing.
    pub fn recovery_is_due(&mut self, inode: InodeId, stamp: GenerationStamp, fresh: bool) {
        if self.leading.is_some() && self.recovery.is_news(inode, stamp, fresh) {
            self.recovery.put(inode, Place::Waiting { fresh });
        }
    }
    /// A file is closed, gone, or somebody's again.
    pub fn recovery_is_over(&mut self, inode: InodeId) {
        self.recovery.forget(inode);
    }
    /// A command for this file is on its way into the log.
    pub fn recovery_is_logged(&mut self, inode: InodeId) {
        self.recovery.put(inode, Place::Logged);
    }
    /// Nothing came of a command for this file.
    pub fn recovery_was_refused(&mut self, inode: InodeId, now: Moment) {
        if self.recovery.files.get(&inode).is_some_and(|file| matches!(file.place, Place::Logged)) {
            self.recovery.rest(inode, (Why::Refused, String::new()), now);
        }
    }
    /// Is something under way for this file, or about to be?
    #[must_use]
    pub fn is_recovering(&self, inode: InodeId) -> bool {
        self.recovery.files.contains_key(&inode)
    }
    /// Is there a round for this block, or is its end on its way into the log? Which of its replicas count after that is open.
    pub(super) fn is_in_round(&self, block: BlockId) -> bool {
        self.recovery.running.iter().any(|inode| self.recovery.files.get(inode).is_some_and(|f| f.block == Some(block)))
    }
    /// Files that are being recovered, those that wait included.
    #[must_use]
    pub fn recoveries(&self) -> u64 {
        self.recovery.files.len() as u64
    }

    /// The files that come next, as many as may be worked on. Half of the places are kept for those that had no try:
    /// what is hopeless takes its time with each try.
    pub fn recoveries_due(&mut self, now: Moment) -> Vec<Due> {
        if !self.active() {
            return Vec::new();
        }
        let recovery = &mut self.recovery;
        recovery.wake(now);
        let room = MAX_RUNNING.saturating_sub(recovery.running.len());
        let fresh = |inode: &InodeId| {
            let place = recovery.files.get(inode).map(|file| &file.place);
            Due { inode: *inode, fresh: matches!(place, Some(Place::Waiting { fresh: true })) }
        };
        let mut again = MAX_RUNNING_AGAIN.saturating_sub(recovery.running_again());
        let mut may_run = |(tries, _): &&(u32, InodeId)| {
            let may_run = *tries == 0 || again > 0;
            again -= usize::from(may_run && *tries > 0);
            may_run
        };
        // First come those without a try: behind the first one that finds no place there are only others like it.
        let next = recovery.waiting.iter().take_while(|waiting| may_run(waiting));
        next.take(room).map(|(_, inode)| fresh(inode)).collect()
    }

    /// Begins a round.
    pub fn recover(&mut self, what: ToRecover, now: Moment) {
        tracing::info!(inode = %what.inode, block = %what.block, stamp = %what.recovery_stamp, "a block is being recovered");
        let (inode, block, stamp) = (what.inode, what.block, what.recovery_stamp);
        let round = Round { what, began: now, stage: Stage::Asking, asked: BTreeMap::new() };
        self.recovery.put(inode, Place::Round(Box::new(round)));
        if let Some(file) = self.recovery.files.get_mut(&inode) {
            (file.used, file.block) = (Some(stamp), Some(block));
        }
        self.ask_more(inode);
    }

    /// Asks the storages of the pipeline, and those that have reported a replica that may count.
    fn ask_more(&mut self, inode: InodeId) {
        let Some(round) = self.recovery.round(inode) else { return };
        let (block, stamp, homes) = (round.what.block, round.what.stamp, round.what.homes.clone());
        let known: BTreeSet<StorageIndex> = round.asked.keys().copied().collect();
        let reported = self.replicas.odd_of(block).into_iter().filter(|(_, odd)| odd.stamp >= stamp);
        let storages: BTreeSet<StorageIndex> =
            homes.iter().copied().chain(reported.map(|(storage, _)| storage)).collect();
        for storage in storages.difference(&known) {
            if (storage.0 as usize) < self.streams.len() {
                let number = self.number();
                let node = self.registry.at(*storage).node;
                let home = homes.contains(storage);
                let asked = Asked { home, said: Said::Nothing, number, sent: None, chosen: false, finished: None };
                self.recovery.numbers.insert(number, (inode, *storage));
                self.recovery.of_node.insert((node, inode));
                if let Some(round) = self.recovery.round(inode) {
                    round.asked.insert(*storage, asked);
                }
            }
        }
    }

    /// The result of a command, if it is of a recovery. False: it is none.
    pub(super) fn recovery_result(&mut self, node: NodeIndex, result: &CommandResult, now: Moment) -> bool {
        let Some((inode, storage)) = self.recovery.numbers.get(&result.number).copied() else { return false };
        if self.registry.at(storage).node != node {
            return true;
        }
        let Some(round) = self.recovery.round(inode) else { return true };
        let finishing = matches!(round.stage, Stage::Finishing { .. });
        let Some(asked) = round.asked.get_mut(&storage) else { return true };
        if !result.ok {
            let node = &self.registry.node(node).id;
            tracing::warn!(%inode, %node, error = %result.error, "a datanode cannot take part in a recovery");
        }
        if finishing {
            asked.finished = Some(result.ok);
        } else {
            asked.said = result.replica.filter(|_| result.ok).map_or(Said::Unable, Said::Found);
        }
        self.recovery.numbers.remove(&result.number);
        self.go_on_recovering(inode, now);
        true
    }

    /// Commands for the storages of a node: those that it was not sent, or may not have received.
    pub(super) fn recovery_commands(&mut self, node: NodeIndex, now: Moment) -> Vec<NodeCommand> {
        let mut commands = Vec::new();
        let all = (node, InodeId::from_raw(0))..=(node, InodeId::from_raw(u64::MAX));
        let inodes: Vec<InodeId> = self.recovery.of_node.range(all).map(|(_, inode)| *inode).collect();
        for inode in inodes {
            let registry = &self.registry;
            let Some(round) = self.recovery.round(inode) else { continue };
            let Round { what, stage, asked, .. } = round;
            let stage = &*stage;
            for (storage, asked) in asked.iter_mut().filter(|(storage, _)| registry.at(**storage).node == node) {
                let waits = match stage {
                    Stage::Asking => asked.said == Said::Nothing,
                    Stage::Finishing { .. } => asked.chosen && asked.finished.is_none(),
                };
                if !waits || asked.sent.is_some_and(|(_, last)| now.since(last) < AGAIN) {
                    continue;
                }
                asked.sent = Some((asked.sent.map_or(now, |(first, _)| first), now));
                let storage = registry.at(*storage).id.as_str().to_owned();
                commands.push(NodeCommand { number: asked.number, kind: Some(command(what, stage, storage)) });
            }
        }
        commands
    }

    /// Has this node a part in a round that goes on? Its next command depends on others, and a heartbeat at its time
    /// would bring it seconds later. Not of rounds that take long: those wait for somebody who is away.
    pub(super) fn recovery_goes_on_at(&self, node: NodeIndex, now: Moment) -> bool {
        let all = (node, InodeId::from_raw(0))..=(node, InodeId::from_raw(u64::MAX));
        let young = |inode: &InodeId| match self.recovery.files.get(inode).map(|file| &file.place) {
            Some(Place::Round(round)) => now.since(round.began) < HURRY,
            _ => false,
        };
        self.recovery.of_node.range(all).any(|(_, inode)| young(inode))
    }

    /// Takes the ends of rounds that came about since the last call.
    pub fn take_recovered(&mut self) -> Vec<Recovered> {
        std::mem::take(&mut self.recovery.ended)
    }

    /// Time passed: looks at every round.
    pub(super) fn look_at_recoveries(&mut self, now: Moment) {
        let rounds: Vec<InodeId> = self.recovery.running.iter().copied().collect();
        for inode in rounds {
            if self.recovery.round(inode).is_some_and(|round| matches!(round.stage, Stage::Asking)) {
                self.ask_more(inode);
            }
            self.go_on_recovering(inode, now);
        }
    }

    fn go_on_recovering(&mut self, inode: InodeId, now: Moment) {
        let Some(round) = self.recovery.round(inode) else { return };
        match round.stage {
            Stage::Asking => self.decide_round(inode, now),
            Stage::Finishing { len_bytes, since } => self.end_round(inode, len_bytes, since, now),
        }
    }

    /// What a storage that says nothing is taken for.
    fn silence_of(&self, storage: StorageIndex, now: Moment) -> Said {
        let node = self.registry.node_of(storage);
        // A node that has not spoken since this namenode leads may be about to.
        let heard = node.last_contact.is_some();
        let long = self.leading.is_some_and(|leading| now.since(leading.since) >= self.config.dead_after);
        let gone = node.service == NodeService::Decommissioned && (heard || long);
        match node.state {
            _ if self.registry.at(storage).failure.is_some() => Said::Unable,
            NodeState::Dead if gone => Said::Lost,
            NodeState::Dead if heard => Said::Dead,
            _ => Said::Nothing,
        }
    }

    fn decide_round(&mut self, inode: InodeId, now: Moment) {
        let Some(File { place: Place::Round(round), .. }) = self.recovery.files.get(&inode) else { return };
        let part = |(storage, asked): (&StorageIndex, &Asked)| {
            let said = match asked.said {
                Said::Nothing => self.silence_of(*storage, now),
                // Whoever refuses now may not the next time: it is not waited for, and not lost either.
                Said::Unable if self.registry.at(*storage).failure.is_none() => Said::Dead,
                said => said,
            };
            (*storage, Participant { home: asked.home, said })
        };
        let (storages, participants): (Vec<StorageIndex>, Vec<Participant>) = round.asked.iter().map(part).unzip();
        let Round { what, began, .. } = &**round;
        let bounds = Bounds {
            stamp: what.stamp,
            floor_bytes: what.floor_bytes,
            target_bytes: what.target_bytes,
            untouched: what.untouched,
            accept_loss: what.accept_loss,
        };
        match decide(&bounds, &participants, now.since(*began)) {
            Decision::Wait => {}
            Decision::Finish { len_bytes, on } => {
                let on = on.into_iter().filter_map(|at| storages.get(at).copied()).collect();
                self.begin_finishing(inode, len_bytes, on, now);
            }
            Decision::Drop => self.end(inode, 0, Vec::new()),
            Decision::GiveUp { len_bytes } => {
                tracing::warn!(%inode, block = %what.block, len_bytes, "a superuser accepts that a block is lost");
                let homes = what.homes.clone();
                self.end(inode, len_bytes, homes);
            }
            Decision::Again(why) => {
                let away =
                    |(_, part): &(&StorageIndex, &Participant)| part.home && !matches!(part.said, Said::Found(_));
                let away = storages.iter().zip(&participants).filter(away).map(|(storage, _)| *storage);
                let who = self.names_of(away);
                self.recovery.rest(inode, (why, who), now);
            }
        }
    }

    /// The length is decided.
    fn begin_finishing(&mut self, inode: InodeId, len_bytes: u64, on: BTreeSet<StorageIndex>, now: Moment) {
        let numbers: Vec<(StorageIndex, u64)> = on.into_iter().map(|storage| (storage, self.number())).collect();
        let Some(round) = self.recovery.round(inode) else { return };
        round.stage = Stage::Finishing { len_bytes, since: now };
        let before: Vec<u64> = round.asked.values().map(|asked| asked.number).collect();
        for (storage, number) in &numbers {
            if let Some(asked) = round.asked.get_mut(storage) {
                (asked.chosen, asked.number, asked.sent) = (true, *number, None);
            }
        }
        before.iter().for_each(|number| {
            self.recovery.numbers.remove(number);
        });
        self.recovery.numbers.extend(numbers.into_iter().map(|(storage, number)| (number, (inode, storage))));
    }

    fn end_round(&mut self, inode: InodeId, len_bytes: u64, since: Moment, now: Moment) {
        let Some(round) = self.recovery.round(inode) else { return };
        let chosen = || round.asked.iter().filter(|(_, asked)| asked.chosen);
        let finished: Vec<StorageIndex> =
            chosen().filter(|(_, asked)| asked.finished == Some(true)).map(|(storage, _)| *storage).collect();
        let late = |asked: &Asked| {
            now.since(since) >= FINISH_AT_MOST || asked.sent.is_some_and(|(first, _)| now.since(first) >= FINISH)
        };
        let unheard = |asked: &Asked| asked.finished.is_none();
        // One alone is waited upon by what comes: the others are given up with its end (F-1).
        let waits = if finished.len() < FEW.min(chosen().count()) {
            now.since(since) < FINISH_AT_MOST && chosen().any(|(_, asked)| unheard(asked))
        } else {
            chosen().any(|(_, asked)| unheard(asked) && !late(asked))
        };
        if waits {
            return;
        }
        if finished.is_empty() {
            self.recovery.rest(inode, (Why::NobodyFinished, String::new()), now);
        } else {
            self.end(inode, len_bytes, finished);
        }
    }

    fn end(&mut self, inode: InodeId, len_bytes: u64, storages: Vec<StorageIndex>) {
        let Some(round) = self.recovery.round(inode) else { return };
        let what = round.what.clone();
        self.recovery.ended.push(Recovered { what, len_bytes, storages });
        self.recovery.put(inode, Place::Logged);
    }

    /// What the recovery of a file waits for, for people. Empty: nothing is known of one.
    #[must_use]
    pub fn recovery_waits_for(&self, inode: InodeId, now: Moment) -> String {
        let Some(file) = self.recovery.files.get(&inode) else { return String::new() };
        match &file.place {
            Place::Waiting { .. } if !self.active() => "the namenode to leave safe mode".to_owned(),
            Place::Waiting { .. } => {
                format!("its turn; {} others are being recovered", self.recovery.running.len())
            }
            Place::Logged => "the log".to_owned(),
            Place::Resting { until, why, who } => {
                let (secs, tries, why) = (until.since(now).as_secs(), tries(file.tries), why.for_people(who));
                format!("the next try in {secs} s, after {tries} without success: {why}")
            }
            Place::Round(round) => self.round_waits_for(round),
        }
    }

    fn round_waits_for(&self, round: &Round) -> String {
        let (waits, what): (fn(&Asked) -> bool, _) = match round.stage {
            Stage::Asking => (|asked| asked.said == Said::Nothing, "to say what it holds of"),
            Stage::Finishing { .. } => (|asked| asked.chosen && asked.finished.is_none(), "to finish its replica of"),
        };
        let waited_for = round.asked.iter().filter(|(_, asked)| waits(asked)).map(|(storage, _)| *storage);
        let (nodes, block) = (self.names_of(waited_for), round.what.block);
        if nodes.is_empty() {
            return format!("a datanode that holds {block} to report");
        }
        format!("datanode {nodes} {what} {block}")
    }

    /// Datanodes of storages, for people; empty if there are none.
    fn names_of(&self, storages: impl Iterator<Item = StorageIndex>) -> String {
        let name = |storage: StorageIndex| {
            let node = self.registry.node_of(storage);
            format!("{} ({}:{}, {})", node.id, node.host, node.transfer_port, node.state.as_str())
        };
        let mut nodes: Vec<String> = storages.map(name).collect();
        let more = nodes.len().saturating_sub(NAMED);
        nodes.truncate(NAMED);
        match more {
            0 => nodes.join(" and "),
            more => format!("{} and {more} others", nodes.join(", ")),
        }
    }
}

/// Datanodes that are named to people.
const NAMED: usize = 3;

fn tries(tries: u32) -> String {
    if tries == 1 { "one".to_owned() } else { format!("{tries} tries") }
}

/// Pool and name of the storage are added by whoever sends it.
fn command(what: &ToRecover, stage: &Stage, storage: String) -> Kind {
    let block =
        |len_bytes| Some(Block { pool: String::new(), id: what.block.raw(), stamp: what.stamp.raw(), len_bytes });
    let recovery_stamp = what.recovery_stamp.raw();
    match stage {
        Stage::Asking => {
            Kind::PrepareRecovery(PrepareRecovery { storage, block: block(what.floor_bytes), recovery_stamp })
        }
        Stage::Finishing { len_bytes, .. } => {
            Kind::FinishReplica(FinishReplica { storage, block: block(*len_bytes), recovery_stamp })
        }
    }
}
