//! Replicas whose files stay open for the next short read: opening two files costs more than reading a few bytes.
//!
//! ```text
//!   Store::open_shared ─▶ State ── replicas, opened ──▶ files that belong to just that replica
//!                           ▲
//!                           └ set_replica, condemn: whatever changes a replica closes its files, under the same lock
//! ```
//!
//! Replica and files are looked up under one lock, and entered under it only if nothing has changed since before they were
//! opened. So nobody is given files of a replica that was deleted, re-stamped, found damaged, or whose disk is out of
//! service, since [`State::set_replica`](super::volume::State::set_replica) has returned: as with loans. Who has them
//! already reads on, as ever.
//!
//! Long reads open files of their own: the kernel reads ahead for each open file, not for each reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::disk::DiskFile;
use proto::ids::BlockId;
use transfer::ChunkFormat;

use super::error::StoreError;
use super::look::Watch;
use super::replica::Replica;
use super::volume::Volume;

/// The two files of a replica, what the header of the second one says, and the checksum of a last chunk that is not whole.
#[derive(Debug)]
pub(super) struct OpenFiles {
    pub(super) data: Arc<dyn DiskFile>,
    pub(super) meta: Arc<dyn DiskFile>,
    pub(super) chunks: ChunkFormat,
    pub(super) tail: Option<[u8; 4]>,
}

impl Volume {
    /// What is known of a replica, and its files, if they are open: they are just that replica's.
    pub(super) fn opened(&self, id: BlockId) -> Result<(Replica, Option<Arc<OpenFiles>>), StoreError> {
        let mut state = self.state.lock();
        if let Some(reason) = state.health.refusal() {
            return Err(StoreError::VolumeFailed { storage: self.storage.clone(), reason: reason.to_owned() });
        }
        let replica = state.replicas.get(&id).copied().ok_or(StoreError::NotFound(id))?;
        Ok((replica, state.opened.get(id)))
    }
    /// Keeps the files of a replica open, unless it has changed since the watch began, or the volume has failed.
    pub(super) fn keep_open(&self, watch: &Watch, files: &Arc<OpenFiles>) {
        let mut state = self.state.lock();
        if state.health.refusal().is_none() && watch.is_unchanged_in(&state) {
            let gone = state.opened.put(watch.id(), files);
            drop(state);
            drop(gone);
        }
    }
    /// Notes that a replica's checksums are those of its trailer, unless it has changed since the watch began.
    pub(super) fn was_checked(&self, watch: &Watch) {
        let mut state = self.state.lock();
        if watch.is_unchanged_in(&state) {
            state.checked.insert(watch.id());
        }
    }
    /// Closes the files that no short read has used since the last call.
    pub(super) fn close_unused(&self) {
        let unused = self.state.lock().opened.take_unused();
        drop(unused);
    }
    /// Closes all files that wait for short reads. How many replicas' they were.
    pub(super) fn close_opened(&self) -> usize {
        let opened = self.state.lock().opened.clear();
        opened.len()
    }
    /// Replicas whose files wait for short reads.
    pub(super) fn opened_count(&self) -> usize {
        self.state.lock().opened.len()
    }
}

/// Files that are open for whoever comes next. The one that was used longest ago goes.
#[derive(Debug)]
pub(crate) struct Opened {
    limit: usize,
    /// Counts uses.
    clock: u64,
    /// What was not used after this goes with the next round of the upkeep.
    round: u64,
    files: BTreeMap<BlockId, Entry>,
    /// By the last use.
    uses: BTreeMap<u64, BlockId>,
}

#[derive(Debug)]
struct Entry {
    files: Arc<OpenFiles>,
    used: u64,
}

impl Opened {
    /// Room for `limit` replicas, two descriptors each.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, clock: 0, round: 0, files: BTreeMap::new(), uses: BTreeMap::new() }
    }
    /// The files of a replica, if they are open.
    pub(super) fn get(&mut self, id: BlockId) -> Option<Arc<OpenFiles>> {
        let entry = self.files.get_mut(&id)?;
        self.clock += 1;
        self.uses.remove(&entry.used);
        entry.used = self.clock;
        self.uses.insert(entry.used, id);
        Some(Arc::clone(&entry.files))
    }
    /// Keeps files open. What had to go for them is returned: to be closed without the lock.
    pub(super) fn put(&mut self, id: BlockId, files: &Arc<OpenFiles>) -> Vec<Arc<OpenFiles>> {
        let mut gone: Vec<_> = self.remove(id).into_iter().collect();
        if self.limit == 0 {
            return gone;
        }
        while self.files.len() >= self.limit
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            gone.extend(self.files.remove(&oldest).map(|entry| entry.files));
        }
        self.clock += 1;
        self.files.insert(id, Entry { files: Arc::clone(files), used: self.clock });
        self.uses.insert(self.clock, id);
        gone
    }
    /// Lets go of a replica's files.
    pub(super) fn remove(&mut self, id: BlockId) -> Option<Arc<OpenFiles>> {
        let entry = self.files.remove(&id)?;
        self.uses.remove(&entry.used);
        Some(entry.files)
    }
    /// Lets go of all of them.
    pub(super) fn clear(&mut self) -> Vec<Arc<OpenFiles>> {
        self.uses.clear();
        std::mem::take(&mut self.files).into_values().map(|entry| entry.files).collect()
    }
    /// Lets go of those that were not used since the last call.
    pub(super) fn take_unused(&mut self) -> Vec<Arc<OpenFiles>> {
        let used = self.uses.split_off(&(self.round + 1));
        let unused = std::mem::replace(&mut self.uses, used);
        self.round = self.clock;
        unused.values().filter_map(|id| self.files.remove(id)).map(|entry| entry.files).collect()
    }
    /// Replicas whose files are open.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base::crash::CrashPoint;
    use base::disk::{Disk, MemDisk};

    use super::*;

    fn files() -> Arc<OpenFiles> {
        let disk = MemDisk::new().shared();
        let file = |name: &str| Disk::create_new(disk.as_ref(), Path::new(name), CrashPoint::BlockCreate).unwrap();
        disk.create_dir_all(Path::new("/d"), CrashPoint::VolumeDirCreate).unwrap();
        Arc::new(OpenFiles { data: file("/d/a"), meta: file("/d/b"), chunks: ChunkFormat::CRC32C_512, tail: None })
    }

    fn ids(opened: &Opened) -> Vec<i64> {
        assert_eq!(opened.files.len(), opened.uses.len());
        opened.files.keys().map(|id| id.raw()).collect()
    }

    #[test]
    fn r_6_no_more_are_open_than_may_be_and_the_least_used_goes() {
        let mut opened = Opened::new(2);
        let [a, b, c] = [1, 2, 3].map(BlockId::from_raw);
        assert!(opened.put(a, &files()).is_empty() && opened.put(b, &files()).is_empty());
        assert!(opened.get(a).is_some());
        assert_eq!((opened.put(c, &files()).len(), ids(&opened)), (1, vec![1, 3]));
        assert_eq!((opened.put(c, &files()).len(), ids(&opened)), (1, vec![1, 3]), "again: the files before go");
        assert!(opened.get(b).is_none() && opened.remove(b).is_none());
        assert!(opened.remove(a).is_some());
        assert_eq!((ids(&opened), opened.clear().len(), opened.len()), (vec![3], 1, 0));
        let mut none = Opened::new(0);
        assert!(none.put(a, &files()).is_empty() && none.get(a).is_none());
    }

    #[test]
    fn what_nobody_used_for_a_round_is_closed() {
        let mut opened = Opened::new(9);
        let [a, b] = [1, 2].map(BlockId::from_raw);
        opened.put(a, &files());
        opened.put(b, &files());
        assert!(opened.take_unused().is_empty(), "they are new");
        opened.get(b);
        assert_eq!((opened.take_unused().len(), ids(&opened)), (1, vec![2]));
        assert_eq!((opened.take_unused().len(), ids(&opened)), (1, vec![]));
    }
}
