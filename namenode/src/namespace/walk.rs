//! Looks at more than one hold of the lock may take: in steps of so many names, with the lock released in between.
//!
//! ```text
//!   Walk::step(most) ─▶ false: more to look at ─▶ lock released, somebody else writes ─▶ step again
//!                    └▶ true: all seen ─▶ Walk::answer, without the lock
//! ```
//!
//! Between two steps a walk keeps ids and names, never slots: whatever it goes on with may be gone by then, or be
//! elsewhere. What each one promises of changes meanwhile is said where it is.

mod list;
mod rights;
mod snapshots;
mod summary;

use proto::error::FsResult;
use proto::log::CallerRecord;

pub(crate) use list::{ListWalk, StatWalk};
pub(crate) use rights::{Need, RightsWalk};
pub(crate) use snapshots::SnapshotsWalk;
pub(crate) use summary::SummaryWalk;

use super::Namespace;
use super::access::Who;
pub(crate) use super::diff::DiffWalk;
pub(crate) use super::fsck::FsckWalk;

/// Names that a walk looks at while the lock is held once. One costs up to a microsecond: half a millisecond.
pub(crate) const NAMES_AT_ONCE: usize = 512;

/// A look in steps.
pub(crate) trait Walk {
    /// What it finds out.
    type Answer;

    /// Looks on until `left` names are used up, or all is seen: then it is true. The last name may be a little dearer
    /// than what is left, such as a file with its blocks.
    ///
    /// # Errors
    /// What the look finds that ends it; the walk is over then.
    fn step(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> FsResult<bool>;

    /// What was found, once all is seen. Needs no lock.
    fn answer(self) -> Self::Answer;
}

impl Namespace {
    /// Walks to the end without letting anybody in between: for tests, and for whoever holds no lock that matters.
    pub(super) fn walk_whole<W: Walk>(&self, who: &CallerRecord, mut walk: W) -> FsResult<W::Answer> {
        let who = self.who(who)?;
        while !walk.step(self, &who, &mut NAMES_AT_ONCE.clone())? {}
        Ok(walk.answer())
    }

    /// Is this directory equal to `top`, or still below it? What that costs is taken off `left`.
    fn is_still_below(&self, slot: u32, top: u32, left: &mut usize) -> bool {
        let mut at = slot;
        while at != super::store::NONE {
            *left = left.saturating_sub(1);
            if at == top {
                return true;
            }
            at = self.store.inode(at).parent;
        }
        false
    }
}
