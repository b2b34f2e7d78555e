//! How much of a file that is being written can be seen: what the replicas of its open block say, and growing with it.
//!
//! ```text
//!   open block ─▶ nothing was written since it was opened again: what it had then
//!               └▶ else first node of its pipeline: what it and all behind it have acknowledged
//!                  └ silent, or its writer is gone ─▶ all nodes: the least that one says which knows;
//!                     │                               if none does and nobody writes, the most: a recovery keeps that
//!                     └ nobody answers, or some have it and cannot serve it ─▶ where is it now? … in the end an error,
//!                       never a shorter file (SC-88)
//! ```
//!
//! Every node of a pipeline has acknowledged at least what its writer was told of, so that each answer is enough (V-1); the
//! least of them is what is most likely to stay.

use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{FileStatus, OpenResponse};
use proto::path::FsPath;

use super::pages::{Page, join_page, next_page_bytes};
use super::reader::len_of;
use super::shown::Opening;
use crate::client::{Inner, incomplete};
use crate::datanode::{progress, progress_of_all};
use crate::write::ProbeAnswer;

/// Time for one node to say how far it is: it answers from memory.
const ASK: Duration = Duration::from_millis(900);
/// How often the block is looked for again if nobody answers, and the pause before.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// What is known of an open block beside what its nodes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The lowest stamp that counts.
    pub stamp: u64,
    /// Bytes that are committed.
    pub floor_bytes: u64,
    /// Nodes of its pipeline that could not be asked: they are dead, or have said that their replica is worth nothing.
    pub left_out: u32,
}

/// Bytes of an open block that can be seen by what its nodes say; `None`: nobody knows.
#[must_use]
pub fn visible_bytes(answers: &[ProbeAnswer], asked: Asked) -> Option<u64> {
    let Asked { stamp, floor_bytes, left_out } = asked;
    let nodes = || answers.iter().filter_map(ProbeAnswer::at).filter(|at| at.stamp >= stamp);
    let unsure = || nodes().filter(|at| at.unsure);
    // Those that were not asked, too: a namenode that has just started does not know yet where they are.
    let unheard = answers.iter().any(|one| matches!(one, ProbeAnswer::Silent | ProbeAnswer::Mute));
    let some_may_know_better = unheard || left_out > 0;
    // The least of all that know what was acknowledged: of a block that is being closed one may be whole when another one has
    // less, and its writer is gone; what is beyond that may be lost. What is whole says nothing of those behind it, and
    // another one that is heard of next would say less (V-3). One that was started anew may have lost what was not synced
    // (SC-27). Where nobody writes, a recovery takes the longest of those, and nobody shows less than what was seen before
    // then. Either is believed if nobody else can be: that is, no node of the pipeline is unheard. What one node alone has is
    // lost with that (V-1).
    let whole = nodes().filter(|at| at.finalized).map(|at| at.received_bytes).min();
    let (waiting, stored) = (unsure().all(|at| at.waiting), unsure().map(|at| at.stored_bytes));
    let found = if waiting { stored.max() } else { stored.min() };
    let is_held = |bytes: &u64| nodes().filter(|at| at.stored_bytes >= *bytes).count() >= answers.len().min(2);
    let believed = match whole {
        Some(whole) => Some(whole).filter(is_held),
        None => found,
    };
    let believed = believed.filter(|_| !some_may_know_better);
    let acked = nodes().filter(|at| !at.unsure && !at.finalized).map(|at| at.acked_bytes).min();
    let seen = acked.map(|acked| acked.min(whole.unwrap_or(acked))).or(believed);
    // The writer has the block, and has not come to any of its nodes yet (SC-33): all of them say that they have nothing.
    // One that has a replica and cannot serve it, or that is not there to be asked, may have acknowledged something.
    let nothing = !answers.is_empty() && answers.iter().all(|one| *one == ProbeAnswer::Missing);
    let unborn = floor_bytes == 0 && left_out == 0 && nothing;
    seen.or(unborn.then_some(0)).map(|bytes| bytes.max(floor_bytes))
}

/// Is the answer of the first node alone enough?
const fn is_enough(answer: &ProbeAnswer, stamp: u64) -> bool {
    matches!(answer, ProbeAnswer::At(at) if at.stamp >= stamp && !at.waiting && !at.unsure && !at.finalized)
}

impl Inner {
    /// The whole file as it can be seen now, with all pages of its blocks, and the length of an open one.
    pub(crate) async fn open_whole(&self, path: &FsPath) -> FsResult<OpenResponse> {
        let until = self.deadline();
        let mut opened = self.open(path, 0, 0, until).await?;
        while let Some(at_bytes) = next_page_bytes(&opened) {
            let page = self.open(path, at_bytes, 0, until).await?;
            match join_page(&mut opened, page) {
                Page::Joined => {}
                Page::Replaced => opened = self.open(path, 0, 0, until).await?,
                Page::Nothing => break,
            }
        }
        self.add_open_block(path, &mut opened, until).await?;
        self.measure(path, &mut opened, until).await?;
        Ok(opened)
    }

    /// An open block without a committed byte may have been left out where a page ended exactly before it.
    async fn add_open_block(&self, path: &FsPath, opened: &mut OpenResponse, until: Moment) -> FsResult<()> {
        let Some(status) = opened.status.as_ref().filter(|status| status.open_for_write) else { return Ok(()) };
        if opened.blocks.is_empty() || opened.blocks.last().is_some_and(|last| last.open) {
            return Ok(());
        }
        let (inode, end_bytes) = (status.inode, status.len_bytes);
        let page = self.open(path, end_bytes, 0, until).await?;
        if page.status.is_some_and(|status| status.inode == inode) {
            opened.blocks.extend(page.blocks.into_iter().filter(|block| block.open && block.offset_bytes == end_bytes));
        }
        Ok(())
    }

    /// Asks the nodes of the open block, if there is one, how much of it there is.
    async fn measure(&self, path: &FsPath, opened: &mut OpenResponse, until: Moment) -> FsResult<()> {
        for look in 0..LOOKS {
            let Some(last) = opened.blocks.last().filter(|last| last.open) else { return Ok(()) };
            if let Some(bytes) = self.seen_of(last).await {
                let bytes = self.shown_of(last, opened.status.as_ref(), bytes);
                return set_len(opened, bytes);
            }
            if self.rpc.clock.now().plus(PAUSE) >= until || look + 1 == LOOKS {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            let (inode, at_bytes) = (opened.status.as_ref().map(|status| status.inode), last.offset_bytes);
            let again = self.open(path, at_bytes, 0, until).await?;
            if again.status.as_ref().map(|status| status.inode) != inode {
                let text = "the file was replaced while it was opened";
                return Err(FsError::new(ErrorCode::NotFound, text)
                    .with_path(path.as_str())
                    .with_hint("open it again"));
            }
            opened.status = again.status;
            opened.blocks.retain(|block| block.offset_bytes < at_bytes);
            opened.blocks.extend(again.blocks);
        }
        let text = "the file is being written, and no datanode says how much of its last block there is";
        let error = FsError::new(ErrorCode::NoReplica, text).with_path(path.as_str());
        Err(error
            .with_hint("`blockyard node ls` shows which datanodes are dead; `blockyard lease ls` who writes the file"))
    }

    /// No less than this client has shown of it before.
    fn shown_of(&self, block: &LocatedBlock, status: Option<&FileStatus>, seen_bytes: u64) -> u64 {
        let opening = Opening { floor_bytes: len_of(block), mtime_ns: status.map_or(0, |status| status.mtime_ns) };
        match &block.block {
            Some(named) => self.shown.lock().show(named.id, opening, seen_bytes),
            None => seen_bytes,
        }
    }

    async fn seen_of(&self, block: &LocatedBlock) -> Option<u64> {
        let stamp = block.block.as_ref()?.stamp;
        if block.untouched {
            return Some(len_of(block));
        }
        let first = block.locations.first()?;
        let asked = Asked { stamp, floor_bytes: len_of(block), left_out: block.left_out };
        let answer = progress(block, first, ASK).await;
        if is_enough(&answer, stamp) {
            return visible_bytes(&[answer], asked);
        }
        visible_bytes(&progress_of_all(block, ASK).await, asked)
    }
}

/// The open block has this length.
fn set_len(opened: &mut OpenResponse, bytes: u64) -> FsResult<()> {
    let status = opened.status.as_mut().ok_or_else(incomplete)?;
    let last = opened.blocks.last_mut().ok_or_else(incomplete)?;
    let named = last.block.as_mut().ok_or_else(incomplete)?;
    named.len_bytes = bytes;
    status.len_bytes = status.len_bytes.max(last.offset_bytes.saturating_add(bytes));
    Ok(())
}

type Looking = std::pin::Pin<Box<dyn Future<Output = FsResult<OpenResponse>> + Send>>;

/// A look at an open file that is under way. Behind a lock only so that readers may be shared.
#[derive(Default)]
pub(super) struct Look(parking_lot::Mutex<Option<Looking>>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl Look {
    /// Begins one, or goes on with it.
    pub(super) fn poll(
        &mut self,
        inner: &Arc<Inner>,
        path: &FsPath,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<FsResult<OpenResponse>> {
        let slot = self.0.get_mut();
        let looking = slot.get_or_insert_with(|| {
            let (inner, path) = (Arc::clone(inner), path.clone());
            Box::pin(async move { inner.open_whole(&path).await })
        });
        let opened = std::task::ready!(looking.as_mut().poll(context));
        *slot = None;
        std::task::Poll::Ready(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::ReplicaAt;

    fn of(floor_bytes: u64) -> Asked {
        Asked { stamp: 7, floor_bytes, left_out: 0 }
    }
    fn at(acked_bytes: u64) -> ProbeAnswer {
        let stored_bytes = acked_bytes + 5;
        ProbeAnswer::At(ReplicaAt {
            stamp: 7,
            received_bytes: stored_bytes,
            stored_bytes,
            acked_bytes,
            ..Default::default()
        })
    }
    fn restarted(stored_bytes: u64) -> ProbeAnswer {
        let received_bytes = stored_bytes;
        let (waiting, unsure) = (true, true);
        ProbeAnswer::At(ReplicaAt { stamp: 7, received_bytes, stored_bytes, waiting, unsure, ..Default::default() })
    }
    /// A writer goes on with what a start found.
    fn taken_up(stored_bytes: u64) -> ProbeAnswer {
        let ProbeAnswer::At(found) = restarted(stored_bytes) else { unreachable!("see above") };
        ProbeAnswer::At(ReplicaAt { waiting: false, ..found })
    }
    fn closed(len_bytes: u64) -> ProbeAnswer {
        let (received_bytes, stored_bytes, acked_bytes) = (len_bytes, len_bytes, len_bytes);
        ProbeAnswer::At(ReplicaAt {
            stamp: 8,
            received_bytes,
            stored_bytes,
            acked_bytes,
            finalized: true,
            ..Default::default()
        })
    }

    #[test]
    fn v_1_what_was_acknowledged_is_seen_whoever_answers() {
        use ProbeAnswer::{Missing, Mute, Silent};
        let seen = |answers: &[ProbeAnswer]| visible_bytes(answers, of(0));
        // The writer has heard of 40 bytes; those behind have acknowledged more.
        assert_eq!(seen(&[at(40), at(60), at(80)]), Some(40));
        assert_eq!(seen(&[Silent, at(60), at(80)]), Some(60));
        assert_eq!(seen(&[Silent, Silent, at(80)]), Some(80));
        assert_eq!(seen(&[closed(90), at(40)]), Some(40));
        assert_eq!(seen(&[closed(90), closed(90)]), Some(90));
        assert_eq!(seen(&[closed(90), restarted(95)]), Some(90));
        assert_eq!(seen(&[closed(90)]), Some(90), "there is no other");
        assert_eq!(
            seen(&[closed(90), restarted(70)]),
            None,
            "one alone has it, and the other may have had more than 70"
        );
        for silent in [Silent, Mute] {
            assert_eq!(seen(&[closed(90), silent]), None, "it may have acknowledged less, and say so next");
            assert_eq!(seen(&[closed(90), restarted(70), silent]), None);
        }
        assert_eq!(visible_bytes(&[closed(90)], Asked { left_out: 1, ..of(0) }), None);
        assert_eq!(seen(&[restarted(70), at(40)]), Some(40), "a node that was started anew knows less");
        assert_eq!(seen(&[restarted(70), restarted(75), Missing]), Some(75), "a recovery keeps the longest");
        assert_eq!(seen(&[restarted(70), Silent]), None, "the silent one may know of more");
        let left = ProbeAnswer::At(ReplicaAt {
            stamp: 7,
            stored_bytes: 55,
            acked_bytes: 50,
            waiting: true,
            ..Default::default()
        });
        assert_eq!(seen(&[restarted(10), left, left]), Some(50), "those that know what was acknowledged come first");
        let nothing = ProbeAnswer::At(ReplicaAt { stamp: 7, stored_bytes: 55, waiting: true, ..Default::default() });
        assert_eq!(seen(&[nothing, left]), Some(0), "one to which nothing was acknowledged knows that");
        assert_eq!(seen(&[nothing, restarted(70)]), Some(0));
        assert_eq!(seen(&[closed(90), left]), Some(50), "what only one of them has may vanish");
        assert_eq!(seen(&[left, at(60), Silent]), Some(50));
        let old = ProbeAnswer::At(ReplicaAt { stamp: 6, acked_bytes: 10, ..ReplicaAt::default() });
        assert_eq!(seen(&[old, at(40)]), Some(40), "one of an older pipeline does not count");
        assert_eq!(visible_bytes(&[at(40)], of(55)), Some(55), "what is committed is seen in any case");
        assert_eq!(seen(&[Mute, at(3)]), Some(3));
    }

    #[test]
    fn v_3_a_writer_that_goes_on_with_what_a_start_found_hides_nothing_that_was_seen() {
        // The first node was started anew, and its writer has not sent everything again.
        let unsure = taken_up(70);
        assert!(!is_enough(&unsure, 7), "the others are asked");
        assert_eq!(visible_bytes(&[unsure, at(60), at(65)], of(0)), Some(60));
        assert_eq!(visible_bytes(&[unsure, restarted(75)], of(0)), Some(70), "not nothing, although both were");
        assert_eq!(visible_bytes(&[unsure, taken_up(75)], of(0)), Some(70));
    }

    #[test]
    fn sc_88_nobody_answers_is_not_an_empty_block() {
        use ProbeAnswer::{Missing, Mute, Refused, Silent};
        for answers in [&[][..], &[Silent], &[Silent, Missing], &[Mute, Missing], &[Mute]] {
            assert_eq!(visible_bytes(answers, of(0)), None, "{answers:?}");
        }
        assert_eq!(visible_bytes(&[Missing, Missing], of(100)), None, "there was something, and it is gone");
        assert_eq!(visible_bytes(&[Missing, Missing], of(0)), Some(0), "sc_33: nobody has begun it");
        for answers in [&[Refused][..], &[Refused, Missing], &[Missing, Refused]] {
            assert_eq!(visible_bytes(answers, of(0)), None, "{answers:?}: there is a replica that cannot be served");
        }
        assert_eq!(visible_bytes(&[Refused, at(40)], of(0)), Some(40));
        let alone = Asked { left_out: 2, ..of(0) };
        assert_eq!(visible_bytes(&[Missing], alone), None, "the two that are dead may have had something");
        assert_eq!(visible_bytes(&[at(40)], alone), Some(40));
        assert_eq!(visible_bytes(&[restarted(0)], alone), None, "what was synced is where the others are");
    }
}
