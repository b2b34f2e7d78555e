//! Shared directory syncs: concurrent closes in one folder wait for one sync together.

use std::collections::BTreeMap;
use std::io;

use parking_lot::{Condvar, Mutex};

use super::error::wants_descriptors;

#[derive(Debug, Default)]
struct Folder {
    /// Tickets handed out: each caller's names were made before it took its ticket.
    wanted: u64,
    /// Every ticket up to this one is durable.
    done: u64,
    running: bool,
    /// A failed sync is never repeated (SC-48): the volume is condemned.
    failed: bool,
}

/// The committer of one volume. The first caller to find no sync running leads; a sync that starts after a
/// caller's ticket was taken covers it.
#[derive(Debug, Default)]
pub(crate) struct DirCommitter {
    folders: Mutex<BTreeMap<u16, Folder>>,
    changed: Condvar,
}

impl DirCommitter {
    /// Returns when the names that exist in `folder` now are durable. `run` syncs the folder.
    pub(crate) fn commit(&self, folder: u16, run: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut folders = self.folders.lock();
        let entry = folders.entry(folder).or_default();
        entry.wanted += 1;
        let ticket = entry.wanted;
        loop {
            let entry = folders.entry(folder).or_default();
            if entry.failed {
                return Err(io::Error::other("an earlier sync of this folder failed"));
            }
            if entry.done >= ticket {
                return Ok(());
            }
            if entry.running {
                self.changed.wait(&mut folders);
                continue;
            }
            entry.running = true;
            let covers = entry.wanted;
            drop(folders);
            let result = run();
            folders = self.folders.lock();
            let entry = folders.entry(folder).or_default();
            entry.running = false;
            // Without a descriptor nothing was synced, and nothing was lost: the next one may try.
            let lost = |error: &io::Error| !wants_descriptors(error) && !base::mutated!(Sc48FolderSyncIsRepeated);
            entry.failed = result.as_ref().is_err_and(lost);
            if result.is_ok() {
                entry.done = covers;
            }
            self.changed.notify_all();
            result?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Barrier};

    #[test]
    fn closes_at_once_share_a_sync_and_none_returns_before_one_that_covers_it() {
        let committer = Arc::new(DirCommitter::default());
        let (syncs, entered, leave) =
            (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let first = {
            let (committer, syncs) = (committer.clone(), syncs.clone());
            let (entered, leave) = (entered.clone(), leave.clone());
            base::task::thread("first", move || {
                committer.commit(1, || {
                    if syncs.fetch_add(1, Ordering::SeqCst) == 0 {
                        entered.wait();
                        leave.wait();
                    }
                    Ok(())
                })
            })
            .unwrap()
        };
        entered.wait();
        let others: Vec<_> = (0..8)
            .map(|_| {
                let (committer, syncs) = (committer.clone(), syncs.clone());
                base::task::thread("other", move || {
                    committer.commit(1, || {
                        syncs.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    })
                })
                .unwrap()
            })
            .collect();
        while committer.folders.lock().get(&1).is_none_or(|folder| folder.wanted < 9) {
            std::thread::yield_now();
        }
        leave.wait();
        first.join().unwrap().unwrap();
        others.into_iter().for_each(|other| other.join().unwrap().unwrap());
        assert_eq!(syncs.load(Ordering::SeqCst), 2, "one for the first, one for the eight that came during it");
    }

    #[test]
    fn sc_48_a_failed_sync_is_never_tried_again() {
        let committer = DirCommitter::default();
        assert!(committer.commit(1, || Err(io::ErrorKind::Other.into())).is_err());
        assert!(committer.commit(1, || Ok(())).is_err());
        assert!(committer.commit(2, || Ok(())).is_ok(), "another folder has its own fate");
        let exhausted = || io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        assert!(committer.commit(3, || Err(exhausted())).is_err());
        assert!(committer.commit(3, || Ok(())).is_ok(), "no descriptor was left: the disk is not at fault");
    }
}
