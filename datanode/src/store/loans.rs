//! Who was lent the descriptors of which replica, so that a loan can be called back.
//!
//! ```text
//!   local door ── lend ──▶ Loans ◀── revoke ── every change of a finalised replica (delete, re-stamp, damage)
//!              ◀─ woken, take_revoked ─┘
//! ```
//!
//! A loan is entered *before* the replica is opened, and looked at once more after: a change between the two
//! revokes it, so that nobody holds descriptors that nobody would call back. What was lent costs a few words here,
//! no descriptor of this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use proto::ids::BlockId;
use tokio::sync::Notify;

/// One borrower gets at most this part of all loans.
const SHARE: usize = 4;

/// A user of this machine, by the number that the kernel tells of a peer; `None` where it does not.
pub type User = Option<u32>;

/// What one user gets at most of something that is there `limit` times: a quarter is left for others, if that is anything.
pub(crate) const fn share_of_user(limit: usize) -> usize {
    limit - limit / 4
}

/// All loans of a node.
#[derive(Debug)]
pub struct Loans {
    limit: usize,
    /// Number of loans, for a look without the lock: most changes of replicas meet none.
    lent: AtomicUsize,
    revoked: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last_borrower: u64,
    last_loan: u64,
    /// Borrower and loan, by block.
    blocks: BTreeMap<BlockId, Vec<(u64, u64)>>,
    borrowers: BTreeMap<u64, Account>,
    /// Loans of each user that has any.
    users: BTreeMap<User, usize>,
}

#[derive(Debug)]
struct Account {
    user: User,
    loans: BTreeMap<u64, BlockId>,
    /// Called back, and not told yet.
    revoked: Vec<u64>,
    wake: Arc<Notify>,
}

/// As many descriptors are lent as may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} replicas are lent already: no more at a time")]
pub struct TooMany(usize);

impl Loans {
    /// A table for `limit` loans at a time.
    #[must_use]
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let (lent, revoked) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { limit, lent, revoked, table: Mutex::default() })
    }
    /// Somebody new who may borrow, for a user.
    #[must_use]
    pub fn borrower(self: &Arc<Self>, user: User) -> Borrower {
        let wake = Arc::new(Notify::new());
        let mut table = self.table.lock();
        table.last_borrower += 1;
        let number = table.last_borrower;
        let account = Account { user, loans: BTreeMap::new(), revoked: Vec::new(), wake: Arc::clone(&wake) };
        table.borrowers.insert(number, account);
        Borrower { loans: Arc::clone(self), number, wake }
    }
    /// Calls back every loan of a block.
    pub(crate) fn revoke(&self, block: BlockId) {
        if self.lent.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut table = self.table.lock();
        for (borrower, loan) in table.blocks.remove(&block).unwrap_or_default() {
            self.lent.fetch_sub(1, Ordering::SeqCst);
            self.revoked.fetch_add(1, Ordering::Relaxed);
            if let Some(account) = table.borrowers.get_mut(&borrower) {
                account.loans.remove(&loan);
                account.revoked.push(loan);
                account.wake.notify_one();
                let user = account.user;
                table.ended(user, 1);
            }
        }
    }
    /// Loans at this moment.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.load(Ordering::SeqCst)
    }
    /// Loans that were called back so far.
    #[must_use]
    pub fn revoked(&self) -> u64 {
        self.revoked.load(Ordering::Relaxed)
    }
}

impl Table {
    /// So many loans of a user are over.
    fn ended(&mut self, user: User, loans: usize) {
        if let Some(his) = self.users.get_mut(&user) {
            *his = his.saturating_sub(loans);
            if *his == 0 {
                self.users.remove(&user);
            }
        }
    }
    fn forget(&mut self, borrower: u64, loan: u64, block: BlockId) {
        if let Some(holders) = self.blocks.get_mut(&block) {
            holders.retain(|holder| *holder != (borrower, loan));
            if holders.is_empty() {
                self.blocks.remove(&block);
            }
        }
    }
}

/// Somebody who may borrow: a connection. What it holds ends with it.
#[derive(Debug)]
pub struct Borrower {
    loans: Arc<Loans>,
    number: u64,
    wake: Arc<Notify>,
}

impl Borrower {
    /// Enters a loan; the replica is to be opened after that, and then [`Borrower::holds`] asked.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn lend(&self, block: BlockId) -> Result<u64, TooMany> {
        let mut table = self.loans.table.lock();
        let limit = self.loans.limit;
        let table = &mut *table;
        let Some(account) = table.borrowers.get_mut(&self.number) else { return Err(TooMany(0)) };
        let all = self.loans.lent.load(Ordering::SeqCst);
        let his = table.users.get(&account.user).copied().unwrap_or(0);
        if all >= limit || account.loans.len() >= limit.div_ceil(SHARE) || his >= share_of_user(limit) {
            return Err(TooMany(account.loans.len()));
        }
        table.users.insert(account.user, his + 1);
        table.last_loan += 1;
        account.loans.insert(table.last_loan, block);
        table.blocks.entry(block).or_default().push((self.number, table.last_loan));
        self.loans.lent.fetch_add(1, Ordering::SeqCst);
        Ok(table.last_loan)
    }
    /// Ends everything that it holds, and lends nothing any more: whoever it is may be held by somebody who waits for a disk.
    pub fn end(&self) {
        let mut table = self.loans.table.lock();
        let Some(account) = table.borrowers.remove(&self.number) else { return };
        self.loans.lent.fetch_sub(account.loans.len(), Ordering::SeqCst);
        table.ended(account.user, account.loans.len());
        for (loan, block) in account.loans {
            table.forget(self.number, loan, block);
        }
    }
    /// Is the loan neither returned nor called back?
    #[must_use]
    pub fn holds(&self, loan: u64) -> bool {
        let table = self.loans.table.lock();
        table.borrowers.get(&self.number).is_some_and(|account| account.loans.contains_key(&loan))
    }
    /// Takes a loan back; one that is over is no error.
    pub fn give_back(&self, loan: u64) {
        let mut table = self.loans.table.lock();
        let Some(account) = table.borrowers.get_mut(&self.number) else { return };
        // Not told any more: the borrower has just said it himself.
        account.revoked.retain(|revoked| *revoked != loan);
        let (user, held) = (account.user, account.loans.remove(&loan));
        if let Some(block) = held {
            table.forget(self.number, loan, block);
            table.ended(user, 1);
            self.loans.lent.fetch_sub(1, Ordering::SeqCst);
        }
    }
    /// Loans of this borrower.
    #[must_use]
    pub fn count(&self) -> usize {
        self.loans.table.lock().borrowers.get(&self.number).map_or(0, |account| account.loans.len())
    }
    /// What was called back since the last time, at most `most` of it.
    #[must_use]
    pub fn take_revoked(&self, most: usize) -> Vec<u64> {
        let mut table = self.loans.table.lock();
        let Some(account) = table.borrowers.get_mut(&self.number) else { return Vec::new() };
        let rest = account.revoked.split_off(account.revoked.len().min(most));
        if !rest.is_empty() {
            self.wake.notify_one();
        }
        std::mem::replace(&mut account.revoked, rest)
    }
    /// Waits until something is called back.
    ///
    /// # Cancel safety
    /// No call is lost if the future is dropped.
    pub async fn called(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Borrower {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(n: i64) -> BlockId {
        BlockId::from_raw(n)
    }

    #[test]
    fn a_change_of_a_block_calls_back_its_loans_and_no_others() {
        let loans = Loans::new(100);
        let (a, b) = (loans.borrower(None), loans.borrower(None));
        let (one, two, other) = (a.lend(block(1)).unwrap(), b.lend(block(1)).unwrap(), a.lend(block(2)).unwrap());
        loans.revoke(block(1));
        loans.revoke(block(3));
        assert_eq!((a.take_revoked(9), b.take_revoked(9)), (vec![one], vec![two]));
        assert_eq!((a.holds(one), a.holds(other), loans.lent(), loans.revoked()), (false, true, 1, 2));
        assert!(a.take_revoked(9).is_empty(), "told once");
    }

    #[test]
    fn what_is_returned_or_closed_is_over_and_leaves_room() {
        let loans = Loans::new(8);
        let (a, b) = (loans.borrower(None), loans.borrower(None));
        let first = a.lend(block(1)).unwrap();
        a.lend(block(2)).unwrap();
        assert_eq!(a.lend(block(3)), Err(TooMany(2)), "a quarter is the share of one");
        a.give_back(first);
        a.give_back(first);
        a.give_back(77);
        assert_eq!((a.count(), loans.lent()), (1, 1));
        let again = a.lend(block(3)).unwrap();
        assert_ne!(again, first, "numbers are not used twice");
        b.lend(block(3)).unwrap();
        drop(a);
        assert_eq!(loans.lent(), 1);
        loans.revoke(block(3));
        assert_eq!((b.take_revoked(9).len(), loans.lent()), (1, 0));
        assert!(loans.table.lock().blocks.is_empty());
        let all: Vec<Borrower> = (0..8).map(|n| loans.borrower(Some(u32::from(n > 3)))).collect();
        let lent = all.iter().map(|one| [one.lend(block(1)).is_ok(), one.lend(block(2)).is_ok()]);
        let lent: Vec<bool> = lent.flatten().collect();
        assert_eq!(lent[..8].iter().filter(|lent| **lent).count(), 6, "a quarter is left for other users");
        assert_eq!(lent[8..].iter().filter(|lent| **lent).count(), 2, "and there is a limit for all together");
        loans.revoke(block(1));
        drop(all);
        assert!(loans.table.lock().users.is_empty());
    }

    #[tokio::test]
    async fn a_borrower_is_woken_and_long_lists_come_in_parts() {
        let loans = Loans::new(100);
        let a = loans.borrower(None);
        let lent: Vec<u64> = (0..5).map(|n| a.lend(block(n)).unwrap()).collect();
        (0..5).for_each(|n| loans.revoke(block(n)));
        let mut told = Vec::new();
        while told.len() < 5 {
            a.called().await;
            let part = a.take_revoked(2);
            assert!(part.len() <= 2);
            told.extend(part);
        }
        assert_eq!(told, lent);
    }

    #[test]
    fn what_is_called_back_while_it_is_opened_is_not_held() {
        let loans = Loans::new(100);
        let a = loans.borrower(None);
        let loan = a.lend(block(1)).unwrap();
        loans.revoke(block(1));
        assert!(!a.holds(loan));
        a.give_back(loan);
        assert!(a.take_revoked(9).is_empty(), "it was never told of the loan");
    }
}
