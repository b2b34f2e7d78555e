//! What may go of a tree that the source does not have: not what the filters leave out, nor what cannot be copied.
//!
//! ```text
//!   directory by directory, the deepest first:  all of it goes ─▶ one name in the directory above
//!                                               something stays ─▶ so do all above; what goes in them goes by itself
//! ```
//!
//! Kept are the names of the directories on the way to where it is, not those of the tree.

use std::collections::VecDeque;

use super::plan::{Entry, Kind, wanted};
use super::side::{Origin, Role, Side};
use crate::verbs::failure::Failure;
use crate::verbs::filter::join;
use crate::verbs::transfer::Shared;

/// A look through a tree of the destination. What is put there after a directory was listed goes with it, as with any
/// recursive removal.
pub(super) struct Survey<'a> {
    shared: &'a Shared,
    /// The directories on the way, with what is left of each and its path below the top.
    listings: Vec<(std::vec::IntoIter<Entry<Origin>>, String)>,
    doomed: Doomed,
}

impl<'a> Survey<'a> {
    /// Begins at `top`; `below` is its path below what was named.
    ///
    /// # Errors
    /// Those of listing.
    pub(super) async fn of(shared: &'a Shared, top: &Side, below: &str, is_directory: bool) -> Result<Self, Failure> {
        let mut survey = Self { shared, listings: Vec::new(), doomed: Doomed::default() };
        if is_directory {
            survey.enter(top.clone(), below.to_owned()).await?;
        } else {
            survey.doomed.goes(top.clone());
        }
        Ok(survey)
    }

    async fn enter(&mut self, side: Side, below: String) -> Result<(), Failure> {
        let entries = side.list(self.shared, Role::Doomed).await?;
        self.doomed.enter(side);
        self.listings.push((entries.into_iter(), below));
        Ok(())
    }

    /// The next tree that goes, with all that is in it; none lies in another. `None` after the last.
    ///
    /// # Errors
    /// Those of listing: what cannot be read is not removed, nor are the directories above it.
    pub(super) async fn next(&mut self) -> Result<Option<Side>, Failure> {
        loop {
            if let Some(side) = self.doomed.ready.pop_front() {
                return Ok(Some(side));
            }
            let Some((left, below)) = self.listings.last_mut() else { return Ok(None) };
            let Some(entry) = left.next() else {
                self.listings.pop();
                self.doomed.leave();
                continue;
            };
            let path = join(below, &entry.name);
            let Some(child) = self.doomed.here().map(|side| side.child(&entry.name)) else { return Ok(None) };
            let stays = matches!(entry.kind, Kind::Unfit(_)) || !wanted(&self.shared.filters, &path, &entry.kind);
            match entry.kind {
                _ if stays => self.doomed.stays(child),
                Kind::Directory => self.enter(child, path).await?,
                _ => self.doomed.goes(child),
            }
        }
    }

    /// Something that stays, of what was looked at so far.
    pub(super) const fn stays(&self) -> Option<&Side> {
        self.doomed.first_that_stays.as_ref()
    }

    /// Something that stays anywhere in the tree.
    ///
    /// # Errors
    /// As [`Survey::next`].
    pub(super) async fn any_that_stays(mut self) -> Result<Option<Side>, Failure> {
        while self.stays().is_none() && self.next().await?.is_some() {}
        Ok(self.doomed.first_that_stays)
    }
}

/// The largest trees in which nothing stays, as a function of a walk. Pure.
#[derive(Debug, Default)]
struct Doomed {
    /// The directories on the way.
    levels: Vec<Level>,
    /// What goes for sure, and was not told yet.
    ready: VecDeque<Side>,
    first_that_stays: Option<Side>,
}

#[derive(Debug)]
struct Level {
    side: Side,
    /// Does something stay in it?
    holds: bool,
    /// What goes of it, as long as all of it may go at once.
    goes: Vec<Side>,
}

impl Doomed {
    /// The directory that the walk is in.
    fn here(&self) -> Option<&Side> {
        self.levels.last().map(|level| &level.side)
    }
    fn enter(&mut self, side: Side) {
        self.levels.push(Level { side, holds: false, goes: Vec::new() });
    }
    /// All of the directory was seen.
    fn leave(&mut self) {
        if let Some(level) = self.levels.pop().filter(|level| !level.holds) {
            self.goes(level.side);
        }
    }
    fn goes(&mut self, side: Side) {
        match self.levels.last_mut() {
            Some(above) if !above.holds => above.goes.push(side),
            _ => self.ready.push_back(side),
        }
    }
    /// This stays, and with it all directories that it is in.
    fn stays(&mut self, side: Side) {
        self.first_that_stays.get_or_insert(side);
        for level in self.levels.iter_mut().filter(|level| !level.holds) {
            level.holds = true;
            self.ready.extend(level.goes.drain(..));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as a walk finds it: `+d` enters a directory, `-` leaves it, `!x` stays, everything else goes.
    fn walked(steps: &[&str]) -> (Vec<String>, Option<String>, usize) {
        let (mut doomed, mut kept) = (Doomed::default(), 0);
        let mut told = Vec::new();
        for step in steps {
            let at = |name: &str| doomed.here().map_or(Side::Cluster(format!("/{name}")), |side| side.child(name));
            match step.split_at(1) {
                ("+", name) => {
                    let side = at(name);
                    doomed.enter(side);
                }
                ("-", _) => doomed.leave(),
                ("!", name) => {
                    let side = at(name);
                    doomed.stays(side);
                }
                _ => {
                    let side = at(step);
                    doomed.goes(side);
                }
            }
            kept = kept.max(doomed.levels.iter().map(|level| level.goes.len()).sum());
            told.extend(doomed.ready.drain(..).map(|side| side.shown()));
        }
        (told, doomed.first_that_stays.map(|side| side.shown()), kept)
    }

    #[test]
    fn what_stays_keeps_the_directories_above_it_and_nothing_else() {
        let tree = |keep| ["+d", "a.csv", "+e", keep, "y", "-", "+f", "x", "-", "-"];
        let (all, stays, _) = walked(&tree("keep.log"));
        assert_eq!((all, stays), (vec!["/d".to_owned()], None), "a tree goes at once");
        let (some, stays, _) = walked(&tree("!keep.log"));
        assert_eq!(some, ["/d/a.csv", "/d/e/y", "/d/f"]);
        assert_eq!(stays.as_deref(), Some("/d/e/keep.log"));
        assert_eq!(walked(&["x"]).0, ["/x"], "a file alone");
        assert_eq!(walked(&["+d", "!x", "-"]).0, [""; 0]);
    }

    #[test]
    fn a_large_tree_is_not_kept() {
        let one = |n: usize| [format!("+d{n}"), "a".into(), "b".into(), "c".into(), "-".into()];
        let mut steps = vec!["+top".to_owned()];
        (0..1000).for_each(|n| steps.extend(one(n)));
        steps.push("-".to_owned());
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let (all, _, kept) = walked(&steps);
        assert_eq!(all, ["/top"]);
        assert!(kept <= 1003, "{kept} names of 4001");
        // Where something stays, what goes beside it is told at once.
        let mut steps = steps;
        steps.insert(1, "!keep");
        let (all, _, kept) = walked(&steps);
        assert_eq!(all.len(), 1000);
        assert!(kept <= 3, "{kept}");
    }
}
