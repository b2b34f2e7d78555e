//! Loans by block and stamp, for all readers of a client. The one that was used longest ago goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::common::Block;

use super::door::Loan;

/// Loans kept: two descriptors each. A process may usually open 1,024 files.
const KEEP: usize = 256;

/// The loans that readers share.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Counts uses.
    clock: u64,
    loans: BTreeMap<(i64, u64), Entry>,
}

#[derive(Debug)]
struct Entry {
    pool: String,
    loan: Arc<Loan>,
    used: u64,
}

const fn key(block: &Block) -> (i64, u64) {
    (block.id, block.stamp)
}

impl Cache {
    /// The loan of a block, unless it is over.
    pub(super) fn get(&self, block: &Block) -> Option<Arc<Loan>> {
        let mut kept = self.kept.lock();
        let Kept { clock, loans } = &mut *kept;
        let entry = loans.get_mut(&key(block)).filter(|entry| entry.pool == block.pool)?;
        if !entry.loan.is_over() {
            *clock += 1;
            entry.used = *clock;
            return Some(Arc::clone(&entry.loan));
        }
        let over = loans.remove(&key(block));
        // A last holder tells its door: not under the lock.
        drop(kept);
        drop(over);
        None
    }

    /// Keeps a loan for a block, as readers name it; its stamp may be older than the replica's.
    pub(super) fn put(&self, block: &Block, loan: &Arc<Loan>) {
        let mut kept = self.kept.lock();
        kept.clock += 1;
        let entry = Entry { pool: block.pool.clone(), loan: Arc::clone(loan), used: kept.clock };
        let replaced = kept.loans.insert(key(block), entry);
        let full = kept.loans.len() > KEEP;
        let oldest = kept.loans.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
        let gone = oldest.filter(|_| full).and_then(|oldest| kept.loans.remove(&oldest));
        drop(kept);
        drop((replaced, gone));
    }

    /// Lets go of what is over: a file that was removed keeps its room on the disk as long as it is open here.
    pub(super) fn sweep(&self) {
        let mut kept = self.kept.lock();
        let over: Vec<_> = kept.loans.extract_if(.., |_, entry| entry.loan.is_over()).collect();
        drop(kept);
        drop(over);
    }

    /// A loan is not to be used again.
    pub(super) fn forget(&self, loan: &Arc<Loan>) {
        let mut kept = self.kept.lock();
        let found = kept.loans.iter().find(|(_, entry)| Arc::ptr_eq(&entry.loan, loan)).map(|(key, _)| *key);
        let gone = found.and_then(|found| kept.loans.remove(&found));
        drop(kept);
        drop(gone);
    }
}
