//! One node is left of a pipeline: those that were left out are asked again, and who has what counts is taken in again.
//!
//! ```text
//!   Stamping ─▶ Checking ─┬ has what was acknowledged ─▶ it stays, as it is
//!      ▲                  ├ has less, or nothing      ─▶ it gets a copy
//!      │                  └ silent, or has a whole replica that does not count ─▶ left out
//!      └ WaitingForStamp ◀─ nobody but one is left, and there is time
//! ```
//!
//! What a node says does not count if it would not go on with it: it was started anew since (SC-27), what it has is a copy
//! that broke off, which nobody has synced, or it said so before and then refused.
//!
//! Who failed a moment ago may be well: it was its link, or another node. Its replica need not be made again, and, if it is
//! whole, cannot be (I-2). And a stopped node that the namenode still takes for live gets no copy that it would hold up.

use base::clock::Moment;
use proto::common::{LocatedBlock, StorageLocation};

use super::open::AGAIN_AFTER;
use super::repair::is_in;
use super::{FileWriter, ProbeAnswer, Stage, WriteEffect};

/// What becomes of a node that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its replica is whole: it only proves what it has.
    Whole,
    /// Its replica has all that was cut.
    Full,
    /// Its replica has what was acknowledged, at least.
    Good,
    /// It gets a copy.
    Behind,
    Out,
}

impl FileWriter {
    /// Asks for a stamp where less than two nodes stay: also for those that were left out before, and may be back.
    pub(super) fn ask_for_stamp_alone(&mut self, stay: Vec<StorageLocation>, out: &mut Vec<WriteEffect>) {
        let (until, exclude_nodes) = (self.limit(), self.excluded_nodes());
        let Some(block) = &self.block else { return };
        let is_back = |node: &&StorageLocation| !exclude_nodes.contains(&node.node) && !is_in(&stay, node);
        let back = block.lost.iter().filter(is_back);
        let keep: Vec<String> = stay.iter().chain(back).map(|node| node.storage.clone()).collect();
        self.stage = Stage::Stamping { whole: false };
        out.push(WriteEffect::NewStamp {
            block: block.located(block.acked_bytes).block.unwrap_or_default(),
            more: u32::try_from(block.wanted.saturating_sub(keep.len())).unwrap_or(0),
            keep,
            exclude_nodes,
            until,
        });
        self.fault.stay = stay;
    }

    /// After a moment all are asked again, also those that failed.
    pub(super) fn wait_for_nodes(&mut self, now: Moment) {
        self.excluded.clear();
        self.fault.transfers = 0;
        self.stage = Stage::WaitingForStamp(now.plus(AGAIN_AFTER));
    }

    /// The moment is over.
    pub(super) fn ask_for_stamp_again(&mut self, out: &mut Vec<WriteEffect>) {
        let stay = std::mem::take(&mut self.fault.stay);
        self.ask_for_stamp_alone(stay, out);
    }

    /// Asks the nodes of the pipeline that could be made what they have.
    pub(super) fn check(&mut self, located: LocatedBlock, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(block) = &self.block else { return };
        // Their token is in the newest answer.
        let asked = LocatedBlock { block: block.located(block.acked_bytes).block, ..located.clone() };
        self.fault.next = Some(located);
        self.stage = Stage::Checking;
        self.ask(asked, now, out);
    }

    /// They have answered, or not.
    pub(super) fn on_checked(&mut self, answers: &[ProbeAnswer], now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(mut located) = self.fault.next.take() else { return };
        let mut placed: Vec<(Place, StorageLocation)> = Vec::new();
        for (at, node) in std::mem::take(&mut located.locations).into_iter().enumerate() {
            let answer = answers.get(at).copied().unwrap_or(ProbeAnswer::Silent);
            placed.push((self.place_of(&node, answer), node));
        }
        // A whole one comes first: it sends.
        placed.sort_by_key(|(place, _)| *place as u8);
        let of = |places: &[Place]| -> Vec<StorageLocation> {
            placed.iter().filter(|(place, _)| places.contains(place)).map(|(_, node)| node.clone()).collect()
        };
        let whole = !of(&[Place::Whole]).is_empty();
        let mut behind = of(if whole { &[Place::Good, Place::Behind] } else { &[Place::Behind] });
        let mut kept = of(if whole { &[Place::Whole, Place::Full] } else { &[Place::Full, Place::Good] });
        let gone = of(&[Place::Out]);
        self.one_at_a_time(&mut behind);
        // More of them may be back than the file has copies.
        let wanted = self.block.as_ref().map_or(0, |block| block.wanted);
        kept.truncate(wanted);
        behind.truncate(wanted - kept.len());
        kept.extend(behind.iter().cloned());
        located.locations = kept;
        let has_source = behind.len() < located.locations.len();
        self.leave_out(gone.iter().filter(|node| !is_in(&self.fault.stay, node)).cloned().collect::<Vec<_>>(), now);
        if let Some(block) = &mut self.block {
            // The places that they would take are for others. Whoever is back is offered again, and asked again.
            block.lost.retain(|node| !is_in(&gone, node));
        }
        if (located.locations.len() < 2 || !has_source) && self.has_time(now) {
            return self.wait_for_nodes(now);
        }
        if !has_source {
            return self.give_up(self.write_failed(), out);
        }
        let stay = std::mem::take(&mut self.fault.stay);
        let rejoin = located.locations.iter().filter(|node| !is_in(&behind, node) && !is_in(&stay, node));
        if let Some(block) = &mut self.block {
            block.rejoined.extend(rejoin.map(|node| node.node.clone()));
        }
        self.fault.behind = behind;
        self.go_on(located, whole, now, out);
    }

    /// Of a copy to several that failed it is not known at which of them: then one gets it, and another one the next time.
    fn one_at_a_time(&self, behind: &mut Vec<StorageLocation>) {
        let Some(block) = self.block.as_ref().filter(|block| !block.uncopied.is_empty()) else { return };
        behind.sort_by_key(|node| block.uncopied.iter().filter(|name| **name == node.node).count());
        behind.truncate(1);
    }

    /// What becomes of a node that says this of its replica.
    fn place_of(&self, node: &StorageLocation, answer: ProbeAnswer) -> Place {
        let Some(block) = &self.block else { return Place::Out };
        let stays = is_in(&self.fault.stay, node);
        let at = match answer {
            ProbeAnswer::At(at) => at,
            ProbeAnswer::Silent => return Place::Out,
            ProbeAnswer::Mute if stays => return Place::Good,
            ProbeAnswer::Missing | ProbeAnswer::Refused if stays => return Place::Out,
            _ => return Place::Behind,
        };
        let counts = stays || at.stamp >= block.named.stamp && !block.disbelieved.contains(&node.node);
        let all = at.stored_bytes == block.cut_bytes;
        if at.finalized {
            // Before the first pipeline of an append stands, all replicas are whole, and as good as reopened ones.
            let untouched = !block.streamed && at.stored_bytes == block.acked_bytes;
            return match counts {
                true if block.last_sent && all => Place::Whole,
                true if stays || untouched => Place::Good,
                _ => Place::Out,
            };
        }
        let goes_on = counts && (stays || block.is_good_at(node, &at));
        match goes_on && at.stored_bytes >= block.acked_bytes {
            true if all => Place::Full,
            true => Place::Good,
            false => Place::Behind,
        }
    }

    /// Who took its place again for what it said, and is at fault although it answers, is not believed again.
    pub(super) fn believe_no_more(&mut self, bad: Option<usize>) {
        let Some(block) = &mut self.block else { return };
        let node = bad.and_then(|bad| block.pipeline.get(bad)).map(|at| at.node.clone());
        block.disbelieved.extend(node.filter(|node| block.rejoined.contains(node)));
    }
}
