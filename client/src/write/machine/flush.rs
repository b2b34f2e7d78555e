//! Flushes: when everything that was given before one is acknowledged, and the file is visible.
//!
//! ```text
//!   Flush ─▶ the packet that reaches it (cut short; with the sync flag if asked) ─ acknowledged ─▶ Publish, once ─▶ Flushed
//! ```

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
        while self.flushes.waiting.front().is_some_and(|first| self.is_held(first)) && self.stage != Stage::Over {
            if !self.flushes.published {
                if !self.flushes.publishing {
                    self.flushes.publishing = true;
                    out.push(WriteEffect::Publish { until: now.plus(self.config.stall_limit) });
                }
                return;
            }
            self.flushes.waiting.pop_front();
            out.push(WriteEffect::Flushed);
        }
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
            Ok(()) => self.flushes.published = true,
            Err(error) => self.give_up(error, out),
        }
    }
}
