//! What follows when a pipeline fails: who is at fault, a higher stamp, further nodes, and on with what was not acknowledged.
//!
//! ```text
//!   failed ─┬ node known ──────────────┐          nothing acknowledged: Abandoning ─▶ another block
//!           └ Probing ─▶ blame ────────┴▶ replace ┤
//!                                                 └ Stamping ─▶ Transferring ─▶ Opening ─▶ Updating ─▶ Streaming
//!                                                     (only if there are further nodes)      namenode agrees: D-7
//! ```
//!
//! Whatever fails on the way begins again at the top, with a still higher stamp; the time since the last byte was
//! acknowledged, and the failures since then (SC-38), are what ends it.
//!
//! When the packet that ends the block was sent, replicas may be finalised already. Those are whole, and are not written
//! again: the others get copies of one, and all only prove what they have.

use std::time::Duration;

use base::clock::Moment;
use proto::common::{LocatedBlock, StorageLocation};
use proto::error::{ErrorCode, FsError, FsResult};
use transfer::{Ack, WriteStage};

use super::blame::{Blamed, Known, ProbeAnswer, blame};
use super::block::OpenBlock;
use super::{FileWriter, Stage, WriteEffect};

/// Time until a pipeline of which no node could be reached is looked for again: it may be this machine's own network.
const UNREACHED_PAUSE: Duration = Duration::from_secs(1);
/// Time from a failure within which a further node must have been brought up to date, and how long it gets in any case: then
/// it goes on without, while there is time for that. Where one node is left there is no without: then it takes what the
/// data take, as long as something moves.
const TRANSFER_WITHIN: Duration = Duration::from_secs(12);
const TRANSFER_AT_LEAST: Duration = Duration::from_secs(3);
/// How long a node that failed gets no block of this file: then the namenode knows by itself whether it is silent, and one
/// that was only started anew is wanted again (SC-38).
const EXCLUDE_FOR: Duration = Duration::from_secs(10);

/// How a pipeline ended.
#[derive(Debug)]
pub(super) struct Seen {
    /// Position of the node at fault, if known.
    pub(super) bad: Option<usize>,
    /// It could not be set up, although nodes answered: what they have may be other than was thought.
    pub(super) refused: bool,
    /// Its connection broke, and nobody said why.
    pub(super) broke: bool,
    /// It stood, and its acknowledgements were lost on their way.
    pub(super) lost_acks: bool,
    /// For the message.
    pub(super) why: String,
    /// What the nodes said of themselves just before.
    pub(super) answers: Vec<ProbeAnswer>,
}

impl Seen {
    pub(super) fn of(bad: Option<usize>, why: impl Into<String>) -> Self {
        Self { bad, refused: false, broke: false, lost_acks: false, why: why.into(), answers: Vec::new() }
    }
}

/// What is known of the failure that is being repaired.
#[derive(Debug, Default)]
pub(super) struct Fault {
    /// Position of the node at fault in the pipeline that failed, if it is known without asking.
    bad: Option<usize>,
    /// The pipeline could not be set up, although nodes answered: what they have may be other than was thought.
    refused: bool,
    /// A connection broke, and nobody said why.
    broke: bool,
    /// Acknowledgements were lost, between nodes that are well.
    lost_acks: bool,
    /// What was seen.
    why: String,
    /// What the nodes of that pipeline said since.
    answers: Vec<ProbeAnswer>,
    /// The node at fault, as messages name it.
    name: String,
    /// Transfers that failed since nodes were waited for.
    pub(super) transfers: u32,
    /// Signs of life of the transfer that is under way.
    signs: u32,
    /// Transfers that moved bytes, and failed.
    broken_off: u32,
    /// Nodes of the pipeline that is being made that need what the others have.
    pub(super) behind: Vec<StorageLocation>,
    /// Nodes that stay, while a stamp and further ones are waited for.
    pub(super) stay: Vec<StorageLocation>,
    /// Only one node has what they need: without them the namenode will not agree.
    pub(super) alone: bool,
    /// The pipeline that is being made, while its nodes are asked what they have.
    pub(super) next: Option<LocatedBlock>,
}

impl Fault {
    /// What was known of the node at fault is not believed any more.
    pub(super) const fn blame_nobody(&mut self) {
        self.bad = None;
    }
}

/// A question that was asked of all nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    number: u32,
    asked: Moment,
}

impl FileWriter {
    /// Asks every node of the pipeline how far it is.
    pub(super) fn ask_nodes(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        if let Some(block) = &self.block {
            self.ask(block.located(block.acked_bytes), now, out);
        }
    }

    /// Asks the nodes of this block.
    pub(super) fn ask(&mut self, block: LocatedBlock, now: Moment, out: &mut Vec<WriteEffect>) {
        self.probes += 1;
        self.probe = Some(Probe { number: self.probes, asked: now });
        let until = now.plus(self.config.probe_within);
        out.push(WriteEffect::Probe { number: self.probes, block, until });
    }

    /// The present pipeline is over.
    pub(super) fn on_failed(&mut self, seen: Seen, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &self.block else { return };
        out.push(WriteEffect::ClosePipeline { attempt: self.attempt });
        self.failures += 1;
        // An application that writes nothing for an hour has not used up the time in which a pipeline must get on.
        let idle = matches!(self.stage, Stage::Streaming(_)) && !self.waits_for_ack();
        self.fault_since.get_or_insert(if idle { now } else { self.progress });
        let Seen { bad, refused, broke, lost_acks, why, answers } = seen;
        let Fault { transfers, broken_off, .. } = self.fault;
        self.fault = Fault { bad, refused, broke, lost_acks, why, answers, transfers, broken_off, ..Fault::default() };
        let states_matter = block.last_sent && block.is_kept();
        self.stage = Stage::Probing;
        if bad.is_some() && !states_matter {
            return self.replace(bad, now, out);
        }
        // A question that was asked of the pipeline while it stood serves as well, unless replicas may be finalised since.
        if self.probe.is_none() || states_matter {
            self.ask_nodes(now, out);
        }
    }

    /// All nodes were asked.
    pub(super) fn on_probed(
        &mut self,
        number: u32,
        answers: Vec<ProbeAnswer>,
        now: Moment,
        out: &mut Vec<WriteEffect>,
    ) {
        let Some(probe) = self.probe.take_if(|probe| probe.number == number) else { return };
        match self.stage {
            Stage::Probing => {
                let by_chance = self.fault.lost_acks || self.fault.broke && self.failures == 1;
                let nobody = by_chance && self.all_take_part(&answers);
                let bad = if nobody { None } else { self.fault.bad.or_else(|| self.judge(&answers, true, now)) };
                let mistaken = self.fault.refused && bad.is_some_and(|bad| self.is_whole_already(&answers, bad));
                self.fault.answers = answers;
                self.replace(bad.filter(|_| !mistaken), now, out);
            }
            Stage::Checking => self.on_checked(&answers, now, out),
            // Acks that came meanwhile say more than the answers.
            Stage::Opening(_) | Stage::Streaming(_) if self.heard <= probe.asked => {
                self.heard = now;
                self.on_looked(answers, now, out);
            }
            _ => {}
        }
    }

    /// The nodes of a pipeline that is silent say how far they are.
    fn on_looked(&mut self, answers: Vec<ProbeAnswer>, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.acks_are_lost(&answers) {
            let why = "its acknowledgements were lost on their way";
            return self.on_failed(Seen { lost_acks: true, ..Seen::of(None, why) }, now, out);
        }
        let Some(bad) = self.judge(&answers, false, now) else { return };
        let why = match answers.get(bad) {
            Some(ProbeAnswer::Silent) => "it does not answer",
            Some(ProbeAnswer::Missing) => "it has no replica",
            Some(ProbeAnswer::Refused) => "it cannot serve its replica",
            _ => "it is behind the others and does not get on",
        };
        let seen = Seen { answers, ..Seen::of(Some(bad), why) };
        self.on_failed(seen, now, out);
    }

    /// Who is at fault, by what the nodes say; remembers the other end of a broken link.
    fn judge(&mut self, answers: &[ProbeAnswer], over: bool, now: Moment) -> Option<usize> {
        let block = self.block.as_mut()?;
        let doubted: Vec<bool> = block.pipeline.iter().map(|at| block.doubted.contains(&at.node)).collect();
        let known = Known {
            stamp: block.new_stamp,
            acked_bytes: block.acked_bytes,
            sent_bytes: block.sent_bytes,
            silent_for: now.since(self.progress),
            over,
            doubted: &doubted,
        };
        let Blamed { at, other } = blame(answers, known)?;
        if let Some(other) = other.and_then(|other| block.pipeline.get(other)) {
            block.doubted.insert(other.node.clone());
        }
        Some(at)
    }

    /// Are all nodes there, with what they acknowledged? Then it may have been only the connection: nobody has to go before
    /// it breaks again.
    pub(super) fn all_take_part(&self, answers: &[ProbeAnswer]) -> bool {
        let Some(block) = &self.block else { return false };
        let takes_part = |answer: &ProbeAnswer| match answer {
            ProbeAnswer::At(at) => at.stamp >= block.new_stamp && at.stored_bytes >= block.acked_bytes,
            _ => false,
        };
        answers.len() == block.pipeline.len() && answers.iter().all(takes_part)
    }

    /// Did a node refuse to go on with a replica only because that is whole?
    fn is_whole_already(&self, answers: &[ProbeAnswer], bad: usize) -> bool {
        let resumed = self.block.as_ref().is_some_and(|block| block.is_restamped() && !block.only_closes());
        resumed && answers.get(bad).is_some_and(ProbeAnswer::is_finalized)
    }

    /// Makes another pipeline without the node at fault.
    fn replace(&mut self, bad: Option<usize>, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &self.block else { return };
        let silent = |at: usize| self.fault.answers.get(at) == Some(&ProbeAnswer::Silent);
        let gone = |at: usize| bad == Some(at) || silent(at);
        let (out_of_it, stay): (Vec<_>, Vec<_>) =
            block.pipeline.iter().cloned().enumerate().partition(|(at, _)| gone(*at));
        let blamed = bad.and_then(|bad| block.pipeline.get(bad)).or_else(|| block.pipeline.first());
        self.fault.name = blamed.map_or_else(|| "a datanode".to_owned(), place);
        if self.failures > self.config.attempts || !self.has_time(now) {
            return self.give_up(self.write_failed(), out);
        }
        let (many, kept) = (block.pipeline.len() > 1, self.keeps_block());
        if kept && stay.is_empty() {
            // One node that is gone is gone. All at once are more likely behind a network that is; also if one of them
            // still told of the others, or was named by them, before it was its turn.
            if many {
                self.stage = Stage::Pausing(now.plus(UNREACHED_PAUSE));
                return;
            }
            return self.give_up(self.write_failed(), out);
        }
        self.believe_no_more(bad.filter(|bad| self.fault.answers.get(*bad) != Some(&ProbeAnswer::Silent)));
        self.leave_out(out_of_it.into_iter().map(|(_, node)| node), now);
        if kept {
            return self.ask_for_stamp(stay.into_iter().map(|(_, node)| node).collect(), out);
        }
        self.stage = Stage::Abandoning;
        if let Some(block) = &self.block {
            out.push(WriteEffect::AbandonBlock { block: block.named.clone(), until: self.limit() });
        }
    }

    /// Must what is there of the block be kept? What this writer was told of, and, once the file is visible, what it sent:
    /// all nodes may have acknowledged it to each other, and somebody have read it, while the answer was on its way here.
    fn keeps_block(&self) -> bool {
        let visible = self.flushes.published || self.flushes.is_publishing();
        let may_be_seen =
            |block: &OpenBlock| visible && block.sent_bytes > 0 && !base::mutated!(Sc33SeenBlockIsAbandoned);
        self.block.as_ref().is_some_and(|block| block.is_kept() || may_be_seen(block))
    }

    /// May another pipeline still be tried?
    pub(super) fn has_time(&self, now: Moment) -> bool {
        now.since(self.fault_since.unwrap_or(self.progress)) < self.config.retry_within
    }

    /// These get no bytes for a while. If there are too few others, they are asked what they have of the block.
    pub(super) fn leave_out(&mut self, nodes: impl IntoIterator<Item = StorageLocation>, now: Moment) {
        for node in nodes {
            self.excluded.push((node.node.clone(), now.plus(EXCLUDE_FOR)));
            if let Some(block) = self.block.as_mut().filter(|block| !is_in(&block.lost, &node)) {
                block.lost.push(node);
            }
        }
    }

    /// Nodes that failed before this failure are left out no more: nobody else is there, and they may be back by now. Are
    /// there any?
    pub(super) fn forgive(&mut self) -> bool {
        let since = self.fault_since.unwrap_or(self.progress).plus(EXCLUDE_FOR);
        let before = self.excluded.len();
        self.excluded.retain(|(_, until)| *until >= since);
        self.excluded.len() < before
    }

    fn ask_for_stamp(&mut self, stay: Vec<StorageLocation>, out: &mut Vec<WriteEffect>) {
        let (until, exclude_nodes) = (self.limit(), self.excluded_nodes());
        let Some(block) = &self.block else { return };
        if stay.len() < 2 && block.wanted > 1 {
            return self.ask_for_stamp_alone(stay, out);
        }
        let answer_of = |node: &StorageLocation| {
            let at = block.pipeline.iter().position(|one| one.node == node.node)?;
            self.fault.answers.get(at).copied()
        };
        let some_whole = block.last_sent && stay.iter().any(|node| answer_of(node).is_some_and(|at| at.is_finalized()));
        // Who gets a copy of a whole replica: those that are not whole.
        let lacks = |node: &&StorageLocation| match answer_of(node) {
            Some(ProbeAnswer::At(at)) => !at.finalized && at.stored_bytes < block.cut_bytes,
            _ => true,
        };
        self.fault.behind = if some_whole { stay.iter().filter(lacks).cloned().collect() } else { Vec::new() };
        // A whole one comes first: it sends.
        let mut stay = stay;
        if some_whole {
            stay.sort_by_key(|node| !answer_of(node).is_some_and(|at| at.is_finalized()));
        }
        self.stage = Stage::Stamping { whole: some_whole };
        out.push(WriteEffect::NewStamp {
            block: block.located(block.acked_bytes).block.unwrap_or_default(),
            keep: stay.iter().map(|node| node.storage.clone()).collect(),
            more: u32::try_from(block.wanted.saturating_sub(stay.len())).unwrap_or(0),
            exclude_nodes,
            until,
        });
        self.fault.stay = stay;
    }

    pub(super) fn on_stamped(&mut self, result: FsResult<LocatedBlock>, now: Moment, out: &mut Vec<WriteEffect>) {
        let Stage::Stamping { whole } = self.stage else { return };
        let located = match result {
            Ok(located) => located,
            Err(error) => return self.give_up(error, out),
        };
        let Some(block) = &self.block else { return };
        let stamp = located.block.as_ref().map_or(0, |named| named.stamp);
        if stamp <= block.named.stamp || located.locations.is_empty() {
            let text = "the namenode's answer names no higher stamp, or no datanode";
            return self.give_up(FsError::new(ErrorCode::Corrupt, text), out);
        }
        if block.wanted > 1 && self.fault.stay.len() < 2 {
            if located.locations.len() < 2 && !self.excluded.is_empty() && self.has_time(now) {
                return if self.forgive() { self.ask_for_stamp_again(out) } else { self.wait_for_nodes(now) };
            }
            return self.check(located, now, out);
        }
        let kept = std::mem::take(&mut self.fault.stay);
        self.fault.behind.retain(|node| is_in(&located.locations, node));
        self.fault.behind.extend(located.locations.iter().filter(|node| !is_in(&kept, node)).cloned());
        self.go_on(located, whole, now, out);
    }

    /// Goes on with these nodes, of which some are behind; the others are in order.
    pub(super) fn go_on(&mut self, located: LocatedBlock, whole: bool, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &mut self.block else { return };
        let stamp = located.block.as_ref().map_or(0, |named| named.stamp);
        let source = located.locations.iter().find(|node| !is_in(&self.fault.behind, node)).cloned();
        let stage = match (whole, block.streamed) {
            (true, _) => WriteStage::PipelineCloseRecovery,
            (false, true) => WriteStage::PipelineSetupStreamingRecovery,
            (false, false) => WriteStage::PipelineSetupAppendRecovery,
        };
        let len_bytes = if whole { block.cut_bytes } else { block.acked_bytes };
        let old = block.located(len_bytes).block;
        block.go_on_with(located.clone(), stage);
        if self.fault.behind.is_empty() {
            return self.open_pipeline(now, out);
        }
        let Some(source) = source else {
            return self.give_up(self.write_failed(), out);
        };
        let left = located.locations.len().saturating_sub(self.fault.behind.len());
        self.fault.alone = left < 2 && block.wanted > 1;
        self.fault.signs = 0;
        self.stage = Stage::Transferring;
        let within = self.fault_since.unwrap_or(now).plus(TRANSFER_WITHIN).max(now.plus(TRANSFER_AT_LEAST));
        out.push(WriteEffect::Transfer {
            block: LocatedBlock { block: old, locations: vec![source], ..located },
            targets: self.fault.behind.clone(),
            new_stamp: stamp,
            until: (!self.fault.alone).then(|| within.min(self.limit())),
        });
    }

    /// The sender gives a sign of life, as it does before it sends a packet. From the second one on, bytes moved since the
    /// one before: while nothing else can be done, that is progress like an ack. But it is not what everybody has: after
    /// some transfers that moved bytes, and failed, it is none.
    pub(super) fn on_transfer_goes(&mut self, now: Moment) {
        if self.stage != Stage::Transferring || !self.fault.alone {
            return;
        }
        self.fault.signs += 1;
        if self.fault.signs > 1 && self.fault.broken_off < self.config.attempts {
            (self.fault_since, self.progress) = (Some(now), now);
        }
    }

    /// Is everything that the application gave acknowledged, and the block open?
    fn nothing_is_due(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.window.front().is_none() && !block.only_closes())
    }

    pub(super) fn on_transferred(&mut self, result: Result<(), String>, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.stage != Stage::Transferring {
            return;
        }
        let Err(why) = result else { return self.open_pipeline(now, out) };
        self.fault.transfers += 1;
        self.fault.broken_off += u32::from(self.fault.signs > 1);
        let behind = std::mem::take(&mut self.fault.behind);
        // Who was to get it goes: whether it or the sender is at fault shows when the rest goes on.
        self.leave_out(behind.iter().cloned(), now);
        let Some(block) = &mut self.block else { return };
        block.pipeline.retain(|node| !is_in(&behind, node));
        block.uncopied.extend(behind.iter().map(|node| node.node.clone()));
        self.fault.why = format!("a further copy could not be made: {why}");
        // One copy is less than the namenode allows, as a rule: others are asked for once more. Whatever the nodes say, and
        // how soon: what moved bytes and broke off is not begun for ever, and nothing is when the time is over.
        let alone = block.pipeline.len() < 2 && block.wanted > 1;
        let again = self.fault.broken_off < self.config.attempts;
        let stay = block.pipeline.clone();
        if !(alone && again && self.has_time(now)) {
            return self.open_pipeline(now, out);
        }
        if self.fault.transfers < self.config.attempts {
            return self.ask_for_stamp(stay, out);
        }
        self.fault.stay = stay;
        self.wait_for_nodes(now);
    }

    /// The pipeline stands at its new stamp: the namenode has to agree before anything more is sent.
    pub(super) fn ask_to_update(&mut self, attempt: super::Attempt, out: &mut Vec<WriteEffect>) {
        self.stage = Stage::Updating(attempt);
        let until = self.limit();
        let Some(block) = &self.block else { return };
        out.push(WriteEffect::UpdatePipeline {
            block: block.located(block.begin().acked_bytes).block.unwrap_or_default(),
            new_stamp: block.new_stamp,
            storages: block.pipeline.iter().map(|node| node.storage.clone()).collect(),
            until,
        });
    }

    pub(super) fn on_updated(&mut self, result: FsResult<()>, now: Moment, out: &mut Vec<WriteEffect>) {
        let Stage::Updating(attempt) = self.stage else { return };
        if let Err(error) = result {
            let without =
                if self.fault.name.is_empty() { String::new() } else { format!(" without {}", self.fault.name) };
            let text = format!("the block cannot go on{without}: {}; {}", error.message, self.what_is_left());
            return self.give_up(FsError { message: text, ..error }, out);
        }
        let Some(block) = &mut self.block else { return };
        block.named.stamp = block.new_stamp;
        block.streamed = true;
        self.flushes.vouch(block.named.id);
        block.forget_lost();
        self.fault = Fault::default();
        self.stage = Stage::Streaming(attempt);
        (self.progress, self.heard, self.last_sent) = (now, now, now);
        if self.nothing_is_due() {
            // No ack will come that says that it gets on: it has. What fails later is another failure (SC-38).
            self.fault_since = None;
        }
        // The ack came before the connection ended, and may be all that was waited for.
        let broken = self.broken.take();
        if let Some(ack) = self.early_ack.take() {
            self.on_ack(ack, now, out);
        }
        if let Some((bad, why)) = broken {
            self.on_pipeline_failed(attempt, bad, why, now, out);
        }
    }

    /// The proofs of replicas that were whole already.
    pub(super) fn on_close_ack(&mut self, ack: Ack, now: Moment, out: &mut Vec<WriteEffect>) {
        if matches!(self.stage, Stage::Updating(_)) {
            self.early_ack = Some(ack);
            return;
        }
        self.acknowledged(now);
        if let Some(block) = &mut self.block {
            block.acked_bytes = block.cut_bytes;
        }
        self.on_block_finished(ack, out);
    }

    /// Nodes that failed lately.
    pub(super) fn excluded_nodes(&self) -> Vec<String> {
        self.excluded.iter().map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn write_failed(&self) -> FsError {
        let Fault { name, why, .. } = &self.fault;
        let left = self.what_is_left();
        let message = format!("the write failed at datanode {name}: {why}; {left}");
        let hint = "write the file again; `blockyard node ls` shows the nodes";
        FsError::new(ErrorCode::WriteFailed, message).with_hint(hint)
    }
}

pub(super) fn is_in(nodes: &[StorageLocation], node: &StorageLocation) -> bool {
    nodes.iter().any(|one| one.node == node.node)
}

fn place(node: &StorageLocation) -> String {
    format!("{}:{}", node.host, node.transfer_port)
}
