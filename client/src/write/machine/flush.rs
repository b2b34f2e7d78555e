//! Flushes: when everything that was given before one is acknowledged, the file is visible, and the block is its own.
//!
//! ```text
//!   Flush ─▶ the packet that reaches it (cut short; with the sync flag if asked) ─ acknowledged
//!         ─▶ Publish, once a block ─▶ Flushed
//! ```
//!
//! Why once a block, as HDFS' clients do. A file that is taken from a silent writer has its last block fenced at every
//! node that has a replica of it, or would get one. But a fence for a replica that is not there yet is in that node's
//! memory alone. Were all of these nodes restarted, they would take the block from the writer that lost it, acknowledge
//! everything, and nobody would ever read it. So the namenode is asked once the nodes have their replicas: a recovery
//! that begins after its answer finds them, and one that began before makes it refuse.

use std::collections::VecDeque;

use base::clock::Moment;
use proto::error::FsResult;

use super::block::OpenBlock;
use super::{FileWriter, Stage, WriteEffect};

/// Flushes that were not answered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    waiting: VecDeque<Waiting>,
    /// Can the file be seen?
    pub(super) published: bool,
    publishing: bool,
    /// The block that was being written when the namenode was asked to show the file.
    asked_for: Option<i64>,
    /// The last block that was the writer's own after its replicas were there, as the namenode said.
    vouched: Option<i64>,
}

#[derive(Debug)]
struct Waiting {
    /// Bytes that were given before it.
    target_bytes: u64,
    sync: bool,
    /// The packet whose acknowledgement ends it, of the block that began at this byte.
    mark: Option<(u64, i64)>,
}

impl Waiting {
    /// Does the packet between these bytes reach it?
    const fn is_reached(&self, before_bytes: u64, after_bytes: u64) -> bool {
        before_bytes < self.target_bytes && self.target_bytes <= after_bytes
    }
}

impl Flushes {
    pub(super) const fn is_publishing(&self) -> bool {
        self.publishing
    }
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
    /// The namenode took a pipeline of this block: it is the writer's.
    pub(super) const fn vouch(&mut self, block: i64) {
        self.vouched = Some(block);
    }
    /// Does one wait for bytes that are not cut yet?
    pub(super) fn wants_more_than(&self, cut_bytes: u64) -> bool {
        self.waiting.back().is_some_and(|last| last.target_bytes > cut_bytes)
    }
    /// Must the packet between these bytes be synced?
    pub(super) fn syncs_between(&self, before_bytes: u64, after_bytes: u64) -> bool {
        let syncs = |one: &Waiting| one.sync && !base::mutated!(Sc44SyncIsLost);
        self.waiting.iter().any(|one| syncs(one) && one.is_reached(before_bytes, after_bytes))
    }
    /// A packet was cut: those that it reaches end with it.
    pub(super) fn reached(&mut self, before_bytes: u64, after_bytes: u64, begin_bytes: u64, seqno: i64) {
        for one in self.waiting.iter_mut().filter(|one| one.is_reached(before_bytes, after_bytes)) {
            one.mark = Some((begin_bytes, seqno));
        }
    }

    /// Marks those whose bytes were all cut before they came. True: a packet without data has to ask for the sync.
    fn mark_late(&mut self, block: &OpenBlock, cut_bytes: u64) -> bool {
        let mut asks = false;
        for one in &mut self.waiting {
            let here = one.target_bytes > block.begin_total && one.target_bytes <= cut_bytes;
            if !here || one.mark.is_some() {
                continue;
            }
            let ask = one.sync && !block.last_cut && !base::mutated!(Sc44SyncIsLost);
            one.mark = Some((block.begin_total, if ask { block.next_seqno } else { block.next_seqno - 1 }));
            asks |= ask;
        }
        asks
    }
}

impl FileWriter {
    pub(super) fn on_flush(&mut self, sync: bool) {
        if !self.closing {
            self.flushes.waiting.push_back(Waiting { target_bytes: self.given_bytes, sync, mark: None });
        }
    }

    /// Cuts a packet without data where none with data carries the wish of a flush for a sync.
    pub(super) fn cut_syncs(&mut self) {
        let cut_bytes = self.cut_bytes;
        let Some(block) = &mut self.block else { return };
        if self.flushes.mark_late(block, cut_bytes) {
            block.push(bytes::Bytes::new(), false, true);
        }
    }

    /// Answers the flushes that are done, after the file was made visible.
    pub(super) fn settle_flushes(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        while self.stage != Stage::Over {
            let Some(first) = self.flushes.waiting.front().filter(|first| self.is_held(first)) else { return };
            let unnamed = self.unnamed_block(first);
            if !self.flushes.published || unnamed.is_some() {
                if !self.flushes.publishing {
                    (self.flushes.publishing, self.flushes.asked_for) = (true, unnamed);
                    out.push(WriteEffect::Publish { until: now.plus(self.config.stall_limit) });
                }
                return;
            }
            self.flushes.waiting.pop_front();
            out.push(WriteEffect::Flushed);
        }
    }

    /// The block with the flush's last byte, if the namenode has not said since its replicas are there that it is the
    /// writer's. Those before it are committed.
    fn unnamed_block(&self, flush: &Waiting) -> Option<i64> {
        let id = match &self.block {
            Some(block) if flush.target_bytes <= block.begin_total => return None,
            Some(block) => block.named.id,
            None => self.previous.as_ref()?.block.as_ref()?.id,
        };
        let known = self.flushes.vouched == Some(id) || base::mutated!(Sc25FlushIsNotAskedFor);
        (!known).then_some(id)
    }

    /// Is everything that a flush waits for acknowledged?
    fn is_held(&self, flush: &Waiting) -> bool {
        if flush.target_bytes > self.cut_bytes {
            return false;
        }
        let Some(block) = &self.block else {
            // A block that was given and never needed would be seen as one of which nobody has anything.
            return self.given_bytes > 0 || !self.has_unused_block();
        };
        if flush.target_bytes <= block.begin_total {
            return true;
        }
        match flush.mark {
            Some((begin_bytes, seqno)) => begin_bytes < block.begin_total || seqno <= block.acked_seqno(),
            None => false,
        }
    }

    pub(super) fn on_published(&mut self, result: FsResult<()>, out: &mut Vec<WriteEffect>) {
        self.flushes.publishing = false;
        match result {
            Ok(()) => {
                self.flushes.published = true;
                self.flushes.vouched = self.flushes.asked_for.take().or(self.flushes.vouched);
            }
            Err(error) => self.give_up(error, out),
        }
    }
}
