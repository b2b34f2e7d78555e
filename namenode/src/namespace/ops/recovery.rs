//! Recovery: a file is taken from its writer, and closed at what the replicas of its last block hold.
//!
//! ```text
//!   the writer is silent, gives up, or somebody else wants the file
//!      │   nobody saw it yet: it vanishes      its last block is finished, or there is none: it is closed
//!      ▼
//!   open, nobody's, a stamp R reserved ──the leader asks the replicas──▶ FinishRecovery at R ─▶ closed
//!      ▲                                   │ no end of it
//!      └────────── BeginRecovery ◀─────────┘   a higher R: what was answered at the old one counts for nothing
//! ```
//!
//! A writer that comes back has the epoch of before, and a recovery that was overtaken has the stamp of before: neither
//! commits anything (scars SC-25, SC-26).

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::{BeginRecovery, FinishRecovery, RecoverLease};
use proto::path::FsPath;

use super::blocks::LastBlock;
use super::pipeline::{SINCE_OFFERS, check_length};
use crate::namespace::access::WRITE;
use crate::namespace::resolve::Last;
use crate::namespace::store::NONE;
use crate::namespace::store::records::{Block, Open, Recovering, flags};
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, registry};

impl Namespace {
    /// The leader's own. Comes again when a recovery does not end.
    pub(in crate::namespace) fn begin_recovery(
        &mut self,
        call: &Call<'_>,
        begin: &BeginRecovery,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let slot = self.recoverable(begin.inode, begin.lease_epoch)?;
        self.work += self.store.links_of(slot).len();
        self.check_room(0)?;

        self.take_from_writer(slot, call.now_ns, effects);
        Ok(Outcome::Done)
    }

    /// At the word of a user. Success also for a file that is closed; one whose recovery is under way is left to it.
    pub(in crate::namespace) fn recover_lease(
        &mut self,
        call: &Call<'_>,
        recover: &RecoverLease,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&recover.path)?;
        let slot = self.find(&who, &path, Last::Follow)?;
        if self.store.inode(slot).is_dir() {
            return Err(FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(path.as_str()));
        }
        who.need(&self.store, slot, WRITE)?;
        let accept_loss = call.version >= SINCE_OFFERS && recover.accept_loss;
        if accept_loss && !self.is_superuser(call.caller()?) {
            let text = "only a superuser gives up what may be on datanodes that do not answer";
            return Err(FsError::new(ErrorCode::PermissionDenied, text).with_path(path.as_str()));
        }
        self.work += self.store.links_of(slot).len();
        let under_way = self.store.open_of(slot).is_some_and(|open| open.recovery.is_some());
        // What was asked under another rule is asked again, at a stamp of its own.
        if self.store.inode(slot).has(flags::OPEN) && (!under_way || accept_loss) {
            self.check_room(0)?;

            self.take_from_writer(slot, call.now_ns, effects);
            if accept_loss {
                self.accept_loss(slot);
            }
        }
        let closed = !self.store.inode(slot).has(flags::OPEN);
        Ok(Outcome::Recovering { status: self.status(slot, path.as_str()), closed })
    }

    /// The replicas that are left have the recovery's stamp and this length; or there is no replica. Fewer copies than
    /// the minimum are enough: what is left is all there is.
    pub(in crate::namespace) fn finish_recovery(
        &mut self,
        call: &Call<'_>,
        finish: &FinishRecovery,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let slot = self.recoverable(finish.inode, finish.lease_epoch)?;
        self.work += self.store.links_of(slot).len();
        let (last, block) = self.open_last(slot, finish.id)?;
        self.check_recovery(slot, finish.stamp)?;
        let end = self.judge_end(slot, (last, &block), finish)?;

        if let LastBlock::Commit { homes, .. } = &end {
            self.store.restamp_block(last, finish.stamp, homes);
        }
        self.settle(slot, end, effects);
        self.close_file(slot, call.now_ns);
        let path = self.store.path(slot);
        Ok(Outcome::Complete(self.status(slot, &path)))
    }

    fn check_recovery(&self, slot: u32, stamp: u64) -> FsResult<()> {
        let open = self.store.open_of(slot).filter(|open| open.recovery.is_some());
        let Some(open) = open else {
            return Err(registry::invalid("the file is not being recovered".to_owned()));
        };
        if open.reserved_stamp == stamp || base::mutated!(Sc26OvertakenRecoveryCounts) {
            return Ok(());
        }
        let message = format!("the recovery at stamp {stamp} was overtaken by one at {}", open.reserved_stamp);
        Err(FsError::new(ErrorCode::StaleStamp, message))
    }

    fn judge_end(&self, slot: u32, (last, block): (u32, &Block), finish: &FinishRecovery) -> FsResult<LastBlock> {
        if finish.storages.is_empty() || finish.len_bytes == 0 {
            return if block.is_visible() {
                Err(registry::invalid(format!("the block had {} bytes, it cannot be dropped", block.len_bytes)))
            } else {
                Ok(LastBlock::Drop)
            };
        }
        check_length(&self.store, slot, block, finish.len_bytes)?;
        let target = self.store.open_of(slot).and_then(|open| open.recovery).and_then(|it| it.target_len_bytes);
        if let Some(target) = target.filter(|target| *target != finish.len_bytes) {
            return Err(registry::invalid(format!("the block must get {target} bytes, not {}", finish.len_bytes)));
        }
        let homes = self.known_storages(&finish.storages)?;
        Ok(LastBlock::Commit { slot: last, len_bytes: finish.len_bytes, homes, digest: None })
    }

    /// The slot of an open file of this lease that can be recovered. What only snapshots hold has a recovery by itself.
    fn recoverable(&self, id: u64, epoch: u64) -> FsResult<u32> {
        let gone = || FsError::new(ErrorCode::NotFound, format!("inode {id} is gone"));
        let slot = self.store.slot(id).filter(|slot| self.may_recover(*slot)).ok_or_else(gone)?;
        match self.store.open_of(slot).filter(|open| open.epoch == epoch) {
            Some(open) if open.recovery.is_some() || self.store.alive(slot) => Ok(slot),
            _ if !self.store.alive(slot) => Err(gone()),
            _ => Err(FsError::new(ErrorCode::LeaseLost, format!("inode {id} is not open under lease {epoch}"))),
        }
    }
    /// Does anybody see this inode, now or in a snapshot? One in a tree that is gone is freed with its tree.
    pub(in crate::namespace) fn may_recover(&self, slot: u32) -> bool {
        let held = |slot: u32| self.store.is_held(slot);
        self.store.alive(slot) || held(slot) || self.store.links_of(slot).iter().any(|link| held(*link))
    }

    /// Fences whoever writes an open file. It vanishes, is closed, or its recovery begins (again, at a higher stamp).
    pub(super) fn take_from_writer(&mut self, slot: u32, now_ns: i64, effects: &mut Vec<BlockEffect>) {
        let Some(open) = self.store.open_of(slot).cloned() else { return };
        if open.pin.is_some() {
            self.discard_tree(slot, effects);
            return;
        }
        let last = self.store.extent(slot).last;
        if last == NONE || self.store.block(last).committed() {
            self.close_file(slot, now_ns);
            return;
        }
        let target_len_bytes = open.recovery.and_then(|recovery| recovery.target_len_bytes);
        self.recover(slot, target_len_bytes);
    }

    /// What does not answer is taken for lost in the recovery of this file from now on.
    fn accept_loss(&mut self, slot: u32) {
        let Some(open) = self.store.open_of(slot).cloned() else { return };
        if let Some(recovery) = open.recovery {
            let recovery = Some(Recovering { accept_loss: true, ..recovery });
            self.store.set_open(slot, Open { recovery, ..open });
        }
    }

    /// An open file is nobody's, and a stamp is reserved for its recovery. What a superuser said of an earlier try
    /// holds.
    pub(super) fn recover(&mut self, slot: u32, target_len_bytes: Option<u64>) {
        let Some(open) = self.store.open_of(slot).cloned() else { return };
        let mut epoch = open.epoch;
        if open.recovery.is_none() {
            self.sessions.lease_ended(open.session);
            epoch = self.next.epoch.raw();
            self.next.epoch = self.next.epoch.next();
        }
        let accept_loss = open.recovery.is_some_and(|recovery| recovery.accept_loss);
        let recovery = Some(Recovering { target_len_bytes, accept_loss });
        self.store.set_open(slot, Open { recovery, ..Open::by(epoch, None, None) });
        self.reserve_stamp(slot);
    }

    /// Ends construction: from now on the file is what it is.
    pub(super) fn close_file(&mut self, slot: u32, now_ns: i64) {
        self.end_lease(slot);
        // What only snapshots see keeps its times.
        if self.store.alive(slot) {
            self.store.edit(slot, |inode| {
                inode.mtime_ns = now_ns;
                inode.ctime_ns = now_ns;
            });
        }
    }
}
