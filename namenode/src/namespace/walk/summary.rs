//! Totals of a tree. Those of what is there now are kept in every directory: only the rights of callers that may not
//! look into everything have to be asked for, directory by directory, as in HDFS. A snapshot is added up.
//!
//! The totals are those of the moment when the last step was made; the rights are those of each directory when it was
//! looked at.

use std::collections::BTreeSet;
use std::ops::Bound;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::ContentSummaryResponse;
use proto::path::FsPath;

use super::{Need, RightsWalk, Walk};
use crate::namespace::Namespace;
use crate::namespace::access::{EXECUTE, READ, Who};
use crate::namespace::resolve::Last;
use crate::namespace::store::history::{GhostKey, Place};
use crate::namespace::store::records::flags;
use crate::namespace::store::sharded::SHARDS;
use crate::namespace::store::totals::Totals;
use crate::namespace::view::Seen;

/// Most inodes that a summary of a snapshot looks at: it has no running totals.
const MAX_INODES: u64 = 1 << 20;

/// Where it stands.
#[derive(Debug)]
pub(crate) struct SummaryWalk {
    path: FsPath,
    stage: Stage,
    answer: ContentSummaryResponse,
}

#[derive(Debug)]
enum Stage {
    Begin,
    Rights(RightsWalk),
    Snapshot(PastTree),
    Held(Held),
    Done,
}

/// A tree as a snapshot sees it.
#[derive(Debug)]
struct PastTree {
    snapshot: u64,
    /// Directories to look into, the last one first.
    open: Vec<(u64, Place)>,
    totals: Totals,
    looked_at: u64,
}

/// What only snapshots hold of the directories with snapshots in a tree.
#[derive(Debug, Default)]
struct Held {
    top: u64,
    /// Directories with snapshots in the tree, and the last one that was asked; `None` when all were.
    roots: BTreeSet<u64>,
    asked: Option<u64>,
    /// Shards of ghosts that are done, and the ghost after which to go on.
    shard: usize,
    after: Option<GhostKey>,
    seen: BTreeSet<u64>,
    totals: Totals,
}

impl SummaryWalk {
    pub(crate) fn new(path: FsPath) -> Self {
        Self { path, stage: Stage::Begin, answer: ContentSummaryResponse::default() }
    }

    fn begin(&mut self, namespace: &Namespace, who: &Who<'_>) -> FsResult<Stage> {
        let store = &namespace.store;
        match namespace.look(who, &self.path, Last::Follow)? {
            Seen::Inode { slot, snapshot: None } if who.superuser || !store.inode(slot).is_dir() => {
                Ok(self.weigh(namespace, slot))
            }
            Seen::Inode { slot, snapshot: None } => {
                Ok(Stage::Rights(RightsWalk::new(Need::ToList, store.inode(slot).id)))
            }
            Seen::Inode { slot, snapshot: Some(snapshot) } => {
                let mut tree = PastTree { snapshot, open: Vec::new(), totals: Totals::default(), looked_at: 0 };
                tree.add(namespace, slot, &self.path)?;
                Ok(Stage::Snapshot(tree))
            }
            Seen::Snapshots { .. } => {
                self.answer = ContentSummaryResponse { directories: 1, names_used: 1, ..Default::default() };
                Ok(Stage::Done)
            }
        }
    }

    fn after_rights(&mut self, namespace: &Namespace, top: u64) -> FsResult<Stage> {
        let slot = namespace.store.slot(top).filter(|slot| namespace.store.alive(*slot));
        let slot = slot.ok_or_else(|| FsError::not_found(self.path.as_str()))?;
        Ok(self.weigh(namespace, slot))
    }

    fn weigh(&mut self, namespace: &Namespace, slot: u32) -> Stage {
        let quota = namespace.store.quota_of(slot);
        self.tell(namespace.store.weight(slot));
        (self.answer.name_quota, self.answer.space_quota_bytes) = (quota.names, quota.space_bytes);
        if namespace.store.ghosts.len() == 0 {
            return Stage::Done;
        }
        Stage::Held(Held { top: namespace.store.inode(slot).id, asked: Some(0), ..Held::default() })
    }

    fn tell(&mut self, totals: Totals) {
        self.answer = ContentSummaryResponse {
            files: totals.files,
            directories: totals.directories,
            symlinks: totals.symlinks,
            len_bytes: totals.len_bytes,
            space_bytes: totals.space_bytes,
            names_used: totals.names(),
            ..ContentSummaryResponse::default()
        };
    }
}

impl PastTree {
    /// Adds one inode; a directory is gone through later.
    fn add(&mut self, namespace: &Namespace, slot: u32, path: &FsPath) -> FsResult<()> {
        let store = &namespace.store;
        self.looked_at += 1;
        if self.looked_at > MAX_INODES {
            let text = format!("the snapshot has more than {MAX_INODES} files and directories here");
            return Err(FsError::new(ErrorCode::NoSpace, text)
                .with_path(path.as_str())
                .with_hint("ask for its directories one by one"));
        }
        let inode = store.inode(slot);
        if inode.is_dir() {
            self.totals.directories += 1;
            self.open.push((inode.id, Place::default()));
        } else if inode.is_symlink() {
            self.totals.symlinks += 1;
        } else {
            let (len_bytes, copies) = match namespace.version(slot, Some(self.snapshot)) {
                Some(version) => (version.len_bytes, version.inode.replication),
                None => (store.extent(slot).len_bytes, inode.replication),
            };
            self.totals.files += 1;
            self.totals.len_bytes += len_bytes;
            self.totals.space_bytes += len_bytes.saturating_mul(u64::from(copies));
        }
        Ok(())
    }

    fn step(&mut self, namespace: &Namespace, who: &Who<'_>, path: &FsPath, left: &mut usize) -> FsResult<bool> {
        while *left > 0 {
            let Some((id, place)) = self.open.pop() else { return Ok(true) };
            *left -= 1;
            let slot = namespace.slot_in_snapshot(id, self.snapshot, path)?;
            namespace.need_at(who, slot, Some(self.snapshot), READ | EXECUTE, path)?;
            // What is found is gone through before the rest of this directory.
            let at = self.open.len();
            let (mut whole, mut last) = (false, None);
            let mut all = namespace.store.glimpses(slot, &place, self.snapshot);
            while *left > 0 {
                let Some(glimpse) = all.next() else {
                    whole = true;
                    break;
                };
                *left -= 1;
                if let Some(child) = glimpse.seen {
                    self.add(namespace, child, path)?;
                }
                last = Some(glimpse);
            }
            if !whole {
                self.open.insert(at, (id, last.map_or(place, |last| last.place())));
            }
        }
        Ok(false)
    }
}

impl Held {
    fn step(&mut self, namespace: &Namespace, left: &mut usize) -> bool {
        let store = &namespace.store;
        let Some(top) = store.slot(self.top) else { return true };
        while let Some(asked) = self.asked {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            let next = store.snapshots().range((Bound::Excluded(asked), Bound::Unbounded)).next();
            self.asked = next.map(|(root, _)| *root);
            let below = |slot: u32, left: &mut usize| namespace.is_still_below(slot, top, left);
            if let Some(root) = self.asked
                && store.slot(root).is_some_and(|slot| below(slot, left))
            {
                self.roots.insert(root);
            }
        }
        while self.shard < SHARDS && !self.roots.is_empty() {
            let mut last: Option<&GhostKey> = None;
            for (key, ghost) in store.ghosts_of_shard_after(self.shard, self.after.clone()) {
                if *left == 0 {
                    if let Some(last) = last {
                        self.after = Some(last.clone());
                    }
                    return false;
                }
                *left -= 1;
                last = Some(key);
                let held = store.slot(ghost.inode).filter(|_| self.roots.contains(&ghost.root));
                if let Some(slot) = held.filter(|slot| store.inode(*slot).has(flags::HELD))
                    && self.seen.insert(ghost.inode)
                {
                    self.totals = self.totals.plus(store.weight(slot));
                }
            }
            (self.shard, self.after) = (self.shard + 1, None);
        }
        true
    }
}

impl Walk for SummaryWalk {
    type Answer = ContentSummaryResponse;

    fn step(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> FsResult<bool> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Begin => self.begin(namespace, who)?,
                Stage::Rights(walk) => {
                    if !walk.step(namespace, who, left)? {
                        return Ok(false);
                    }
                    let top = walk.top();
                    self.after_rights(namespace, top)?
                }
                Stage::Snapshot(tree) => {
                    if !tree.step(namespace, who, &self.path, left)? {
                        return Ok(false);
                    }
                    let totals = tree.totals;
                    self.tell(totals);
                    Stage::Done
                }
                Stage::Held(held) => {
                    if !held.step(namespace, left) {
                        return Ok(false);
                    }
                    let totals = held.totals;
                    self.answer.snapshot_files = totals.files + totals.symlinks;
                    self.answer.snapshot_directories = totals.directories;
                    self.answer.snapshot_len_bytes = totals.len_bytes;
                    self.answer.snapshot_space_bytes = totals.space_bytes;
                    Stage::Done
                }
                Stage::Done => return Ok(true),
            };
        }
    }
    fn answer(self) -> ContentSummaryResponse {
        self.answer
    }
}
