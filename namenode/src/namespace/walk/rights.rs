//! Has a caller what it needs on every directory of a tree? Asked before the whole tree is deleted or summed up.
//!
//! Of each directory the caller has the right at the moment when it was looked at. Whether that is still so at the end
//! is told by [`RightsWalk::still_true`]: it counts every change by which rights in the tree could have become fewer,
//! and every new directory. Directories that left the tree meanwhile are not asked for any more. A walk that comes again
//! passes by what did not change since: each directory counts the changes below it.

use std::collections::BTreeMap;

use proto::error::FsResult;

use crate::namespace::Namespace;
use crate::namespace::access::{EXECUTE, READ, WRITE, Who};

/// What is needed on the directories of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// To list each of them.
    ToList,
    /// All rights on each that is not empty, as if each entry were deleted by itself; and in sticky ones that the
    /// entries are the caller's.
    ToDelete,
}

/// Directories of which the count is kept; further ones are looked at again each time.
const MAX_SEEN: usize = 1 << 16;

/// Where it stands.
#[derive(Debug)]
pub(crate) struct RightsWalk {
    need: Need,
    /// Id of the top.
    top: u64,
    /// [`Directory::rights`](crate::namespace::store::Directory) of the top when the walk began.
    rights: Option<u64>,
    /// Directories to look into, each with the name after which to go on; the last one first.
    open: Vec<(u64, Box<str>)>,
    /// The counts of directories when they were looked at; at the end all below them was looked at, too.
    seen: BTreeMap<u64, u64>,
}

impl RightsWalk {
    /// Of the tree below a directory, which is looked at as well.
    pub(crate) fn new(need: Need, top: u64) -> Self {
        Self { need, top, rights: None, open: vec![(top, "".into())], seen: BTreeMap::new() }
    }
    /// Id of the top.
    pub(crate) const fn top(&self) -> u64 {
        self.top
    }
    /// From the beginning, after it came to its end. What did not change since is passed by.
    pub(crate) fn again(&mut self) -> Self {
        Self { seen: std::mem::take(&mut self.seen), ..Self::new(self.need, self.top) }
    }

    /// Looks at up to `left` names. True: at all. A tree that is gone has no directories to ask for.
    ///
    /// # Errors
    /// `PermissionDenied`, naming what and where.
    pub(crate) fn step(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> FsResult<bool> {
        let Some(top) = directory_of(namespace, self.top) else { return Ok(true) };
        self.rights.get_or_insert(namespace.store.directory(top).rights);
        // What is found in this step is in the tree: nothing changes while the lock is held.
        let known = self.open.len();
        let mut lowest = known;
        while *left > 0 {
            let Some((id, after)) = self.open.pop() else { return Ok(true) };
            *left -= 1;
            let from_before = self.open.len() < lowest;
            lowest = lowest.min(self.open.len());
            let slot = directory_of(namespace, id);
            let exists = slot.is_some();
            let slot = slot.filter(|slot| !from_before || namespace.is_still_below(*slot, top, left));
            if exists && slot.is_none() {
                // It may come back with a directory that counts as looked at.
                self.seen.clear();
            }
            if let Some(slot) = slot {
                // A deep directory may have cost all that the step has: without one more name it would for ever.
                *left = (*left).max(1);
                self.look_into(namespace, who, (slot, id), &after, left)?;
            }
        }
        Ok(self.open.is_empty())
    }

    fn look_into(
        &mut self,
        namespace: &Namespace,
        who: &Who<'_>,
        (slot, id): (u32, u64),
        after: &str,
        left: &mut usize,
    ) -> FsResult<()> {
        let store = &namespace.store;
        let directory = store.directory(slot);
        if after.is_empty() {
            if self.seen.get(&id) == Some(&directory.rights) {
                return Ok(());
            }
            if self.seen.len() < MAX_SEEN {
                self.seen.insert(id, directory.rights);
            } else {
                self.seen.remove(&id);
            }
        }
        match self.need {
            Need::ToDelete if directory.children.len() == 0 => return Ok(()),
            Need::ToDelete => who.need(store, slot, READ | WRITE | EXECUTE)?,
            Need::ToList => who.need(store, slot, READ | EXECUTE)?,
        }
        let sticky = self.need == Need::ToDelete && store.inode(slot).is_sticky();
        if !sticky && directory.below.directories == 0 {
            return Ok(());
        }
        let (mut found, mut last) = (Vec::new(), None);
        let mut entries = store.entries_after(slot, after);
        while *left > 0 {
            let Some(entry) = entries.next() else {
                self.open.extend(found);
                return Ok(());
            };
            *left -= 1;
            last = Some(entry);
            if sticky {
                who.need_unstuck(store, slot, entry)?;
            }
            if store.inode(entry).is_dir() {
                found.push((store.inode(entry).id, Box::default()));
            }
        }
        let after = last.map_or_else(|| after.into(), |entry| store.name(entry).into());
        self.open.push((id, after));
        self.open.extend(found);
        Ok(())
    }

    /// Is everything that the walk saw as it was when it began? Then the caller has every right that the walk asked for
    /// at this moment.
    pub(crate) fn still_true(&self, namespace: &Namespace) -> bool {
        let now = directory_of(namespace, self.top).map(|top| namespace.store.directory(top).rights);
        now.is_some() && now == self.rights
    }
    /// Is there nothing (any more) that rights are needed on?
    pub(crate) fn is_moot(&self, namespace: &Namespace) -> bool {
        directory_of(namespace, self.top).is_none_or(|top| !namespace.store.hangs(top))
    }
}

fn directory_of(namespace: &Namespace, id: u64) -> Option<u32> {
    namespace.store.slot(id).filter(|slot| namespace.store.inode(*slot).is_dir())
}
