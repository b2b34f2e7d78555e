//! Getting a block and the first pipeline of it; giving one back of which nothing was acknowledged.

use std::time::Duration;

use base::clock::Moment;
use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsError};

use super::block::{First, OpenBlock};
use super::{FileWriter, Stage, WriteEffect};

/// Time until nodes that failed are asked again where there are too few others.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a block is asked for that is on none of the nodes that failed lately: "too few" is repeated until then.
const CAREFUL: Duration = Duration::from_millis(500);

impl FileWriter {
    /// There are data, or an appended block has to be closed again, and no block is open.
    pub(super) fn begin_block(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        self.progress = now;
        match self.first.take() {
            Some(First::New(located)) => self.on_block_of(located, now, out),
            Some(First::Reopened(reopened)) => {
                let block = OpenBlock::reopened(reopened, self.cut_bytes);
                if block.pipeline.is_empty() || block.named.id == 0 {
                    return self.give_up(no_nodes(), out);
                }
                self.block = Some(block);
                self.open_pipeline(now, out);
            }
            None => self.ask_for_block(now, out),
        }
    }

    pub(super) fn has_unused_block(&self) -> bool {
        matches!(self.first, Some(First::New(_)))
    }

    /// Gives back a first block that was never needed.
    pub(super) fn return_unused(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        let Some(First::New(unused)) = self.first.take_if(|first| matches!(first, First::New(_))) else { return };
        // However long the application took to say that there is nothing: the time starts here.
        self.progress = now;
        self.stage = Stage::Abandoning;
        let block = unused.block.unwrap_or_default();
        out.push(WriteEffect::AbandonBlock { block, until: self.limit() });
    }

    pub(super) fn ask_for_block(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        self.stage = Stage::Adding;
        let (previous, exclude_nodes) = (self.previous.clone(), self.excluded_nodes());
        // A cluster that has too few others is asked for those, too, before it is too late.
        let until = if exclude_nodes.is_empty() { self.limit() } else { self.limit().min(now.plus(CAREFUL)) };
        out.push(WriteEffect::AddBlock { previous, exclude_nodes, until });
    }

    pub(super) fn on_no_block(&mut self, error: FsError, now: Moment, out: &mut Vec<WriteEffect>) {
        let too_few = self.stage == Stage::Adding && error.code == ErrorCode::NotEnoughNodes && self.has_time(now);
        if too_few && self.forgive() {
            return self.ask_for_block(now, out);
        }
        let left_out = !std::mem::take(&mut self.excluded).is_empty();
        if too_few && left_out {
            // Those who refused may not do so for long, and there is nobody else: it is the time that ends this, not how
            // often they can say no in a second.
            self.failures = 0;
            self.stage = Stage::WaitingForBlock(now.plus(AGAIN_AFTER));
            return;
        }
        self.give_up(error, out);
    }

    pub(super) fn on_block(&mut self, located: LocatedBlock, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.stage == Stage::Adding {
            self.on_block_of(located, now, out);
        }
    }

    fn on_block_of(&mut self, located: LocatedBlock, now: Moment, out: &mut Vec<WriteEffect>) {
        if located.locations.is_empty() || located.block.is_none() {
            return self.give_up(no_nodes(), out);
        }
        match &mut self.block {
            Some(block) => block.move_to(located),
            None => self.block = Some(OpenBlock::new(located, self.config.digest, self.cut_bytes)),
        }
        self.open_pipeline(now, out);
    }

    /// Dials the pipeline of the open block.
    pub(super) fn open_pipeline(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        self.attempt += 1;
        self.stage = Stage::Opening(self.attempt);
        self.progress = now;
        self.heard = now;
        self.early_ack = None;
        (self.probe, self.held) = (None, None);
        let until = now.plus(self.config.open_timeout).min(self.limit());
        let Some(block) = &self.block else { return };
        let (attempt, begin) = (self.attempt, block.begin());
        let block = block.located(block.acked_bytes);
        out.push(WriteEffect::OpenPipeline { attempt, block, begin, until });
    }

    pub(super) fn on_abandoned(&mut self, now: Moment, out: &mut Vec<WriteEffect>) {
        if self.stage != Stage::Abandoning {
            return;
        }
        if self.block.is_some() {
            self.ask_for_block(now, out);
        } else {
            // It was the unused first block of an empty file.
            self.progress = now;
            self.stage = Stage::Idle;
        }
    }
}

fn no_nodes() -> FsError {
    FsError::new(ErrorCode::NotEnoughNodes, "the namenode named no datanode for a block")
}
