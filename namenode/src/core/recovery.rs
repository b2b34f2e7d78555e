//! Files whose writers are gone: what the leader puts to the log for them. What happens in between at the datanodes is
//! decided in [`blocks::recovery`](crate::blocks).
//!
//! ```text
//!   Discard, ReleaseLease, RecoverLease, Truncate, BeginRecovery are applied ─┐
//!   a new leader finds files that are being recovered ────────────────────────┴─▶ block map: due
//!   every tick: due ─▶ BeginRecovery, or a round;  a round ended ─▶ FinishRecovery
//!   an append to a file whose writer was silent for the soft limit ─▶ BeginRecovery
//! ```

use std::time::Duration;

use base::clock::Moment;
use parking_lot::RwLockWriteGuard;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{GenerationStamp, InodeId, LeaseEpoch, SessionId};
use proto::log::command::Op;
use proto::log::{self, Entry};
use proto::path::FsPath;

use super::NamenodeCore;
use super::batch::{Then, Waiting};
use crate::blocks::{Due, Recovered, ToRecover};
use crate::namespace::{Applied, LeaseView, Namespace, OpenLease, Outcome};
use crate::service::request::Request;

/// Open files that a new leader looks at while it holds the locks once.
const SCAN: usize = 512;
/// How often it does so in one tick.
const SCANS_PER_TICK: usize = 16;

/// Recoveries that nobody asked for by name, which are taken up with one look.
const FOUND_AT_ONCE: usize = if cfg!(test) { 16 } else { 8192 };

/// How far a new leader has gone through the open files.
#[derive(Debug, Default)]
pub(super) enum Scan {
    #[default]
    Done,
    After(Option<InodeId>),
}

/// What comes next for a file.
enum Next {
    /// Nothing: it is closed, gone, or somebody writes it.
    Over,
    /// It needs a stamp.
    Begin(LeaseEpoch),
    /// Its replicas can be asked.
    Round(ToRecover),
}

fn next_of(namespace: &Namespace, due: Due) -> Next {
    let Some(LeaseView { lease, last_block, .. }) = namespace.lease(due.inode) else { return Next::Over };
    let Some(recovery) = lease.recovery else {
        // Before version 4 of the commands a file whose writer was gone stayed as it was.
        return if lease.session.is_none() { Next::Begin(lease.lease_epoch) } else { Next::Over };
    };
    let open = last_block.filter(|block| !block.committed);
    match open.filter(|_| due.fresh) {
        None => Next::Begin(lease.lease_epoch),
        Some(block) => Next::Round(ToRecover {
            inode: due.inode,
            lease_epoch: lease.lease_epoch,
            block: block.block,
            stamp: block.stamp,
            recovery_stamp: recovery.stamp,
            floor_bytes: block.len_bytes,
            target_bytes: recovery.target_len_bytes,
            homes: block.storages,
            untouched: block.untouched,
            accept_loss: recovery.accept_loss,
        }),
    }
}

/// Does this session write this file, as far as the log says?
fn writes(namespace: &Namespace, session: SessionId, inode: InodeId) -> bool {
    namespace.open_lease(inode).is_some_and(|lease| lease.session == Some(session))
}

impl NamenodeCore {
    /// A new leader: every open file is looked at once.
    pub(super) fn begin_leases(&mut self, now: Moment) {
        self.shared.leases.write().begin(now);
        self.scan = Scan::After(None);
    }

    /// Goes on with that look.
    pub(super) fn scan_leases(&mut self, now: Moment) {
        for _ in 0..SCANS_PER_TICK {
            let Scan::After(after) = self.scan else { return };
            let namespace = self.shared.namespace.read();
            let open = namespace.open_files_after(after, SCAN);
            self.scan = match open.last() {
                Some(last) if open.len() == SCAN => Scan::After(Some(last.inode)),
                _ => Scan::Done,
            };
            let mut blocks = self.shared.blocks.write();
            let mut leases = self.shared.leases.write();
            for OpenLease { inode, session, .. } in open {
                match session {
                    Some(session) => leases.opened(session, inode, now, |other| writes(&namespace, session, other)),
                    None => blocks.recovery_is_due(inode, GenerationStamp::default(), false),
                }
            }
        }
    }

    /// Takes up recoveries that no call asked for by name: of a file that was deleted and that a snapshot sees, or whose
    /// leader is gone.
    pub(super) fn find_recoveries(&self) {
        let namespace = self.shared.namespace.read();
        // Those that are known already must not be in the way of others behind them.
        let found: Vec<OpenLease> = {
            let blocks = self.shared.blocks.read();
            let is_news = |lease: &OpenLease| !blocks.is_recovering(lease.inode);
            namespace.recovering().filter(is_news).take(FOUND_AT_ONCE).collect()
        };
        if found.is_empty() {
            return;
        }
        let mut blocks = self.shared.blocks.write();
        for lease in found {
            let stamp = lease.recovery.map(|recovery| recovery.stamp).unwrap_or_default();
            blocks.recovery_is_due(lease.inode, stamp, false);
        }
    }

    /// Notes who writes what, and what is to be recovered, from an entry that was applied.
    pub(super) fn note_leases(&self, entry: &Entry, applied: &[Applied], now: Moment) {
        if !self.role.serving {
            return;
        }
        let mut recover = Vec::new();
        for (command, applied) in entry.commands.iter().zip(applied) {
            let Ok(outcome) = &applied.result else { continue };
            let session = SessionId::from_slice(&command.session);
            match (&command.op, outcome, session) {
                (_, Outcome::Create { inode, .. } | Outcome::Appending { inode, .. }, Some(session)) => {
                    let namespace = self.shared.namespace.read();
                    let is_its = |other| writes(&namespace, session, other);
                    self.shared.leases.write().opened(session, *inode, now, is_its);
                }
                (Some(Op::Complete(complete)), _, Some(session)) => {
                    self.shared.leases.write().closed(session, InodeId::from_raw(complete.inode));
                }
                (Some(Op::Discard(discard)), ..) => {
                    let inode = InodeId::from_raw(discard.inode);
                    if let Some(session) = session {
                        self.shared.leases.write().closed(session, inode);
                    }
                    recover.push(inode);
                }
                (Some(Op::ReleaseLease(release)), ..) => recover.push(InodeId::from_raw(release.inode)),
                (_, Outcome::Recovering { status, .. } | Outcome::Truncated { status, .. }, _) => {
                    recover.push(InodeId::from_raw(status.inode));
                }
                _ => {}
            }
        }
        if !recover.is_empty() {
            self.recoveries_are_due(&recover);
        }
    }

    /// Files that may have begun to be recovered just now, by an entry of this term.
    fn recoveries_are_due(&self, inodes: &[InodeId]) {
        let namespace = self.shared.namespace.read();
        let mut blocks = self.shared.blocks.write();
        for inode in inodes {
            match namespace.lease(*inode).and_then(|view| view.lease.recovery) {
                Some(recovery) => blocks.recovery_is_due(*inode, recovery.stamp, true),
                None => blocks.recovery_is_over(*inode),
            }
        }
    }

    /// Puts to the log what is due, and begins rounds.
    pub(super) fn look_at_recoveries(&mut self, now: Moment) {
        let mut ops = Vec::new();
        {
            let namespace = self.shared.namespace.read();
            let mut blocks = self.shared.blocks.write();
            for recovered in blocks.take_recovered() {
                let registry = blocks.registry();
                let name = |storage| registry.at(storage).id.as_str().to_owned();
                ops.push((recovered.what.inode, finish(recovered, name)));
            }
            for due in blocks.recoveries_due(now) {
                match next_of(&namespace, due) {
                    Next::Over => blocks.recovery_is_over(due.inode),
                    Next::Round(what) => blocks.recover(what, now),
                    Next::Begin(epoch) => {
                        blocks.recovery_is_logged(due.inode);
                        ops.push((due.inode, begin(due.inode, epoch)));
                    }
                }
                RwLockWriteGuard::bump(&mut blocks);
            }
        }
        for (inode, op) in ops {
            self.log_recovery(inode, op);
        }
    }

    pub(super) fn log_recovery(&mut self, inode: InodeId, op: Op) {
        let (record, call) = (self.own_record(), (bytes::Bytes::new(), 0, 0));
        self.waiting.push_back(Waiting { record, call, op, then: Then::Recovery(inode) });
    }

    /// A command of a recovery was applied.
    pub(super) fn recovery_applied(&self, inode: InodeId, result: FsResult<Outcome>, now: Moment) {
        match result {
            Ok(outcome) => {
                let closed = !matches!(outcome, Outcome::Recovering { closed: false, .. });
                tracing::info!(%inode, closed, "a recovery went on");
                self.recoveries_are_due(&[inode]);
            }
            Err(error) => {
                tracing::warn!(%inode, %error, "a step of a recovery was refused");
                self.shared.blocks.write().recovery_was_refused(inode, now);
            }
        }
    }

    /// Somebody wants to write a file that is open. If its writer was silent for the soft limit it is taken away from it,
    /// and the caller is told to try again.
    pub(super) fn want_open_file(&mut self, request: &Request, refusal: FsError, now: Moment) -> FsError {
        let path = match request {
            Request::Append(r) => &r.path,
            Request::Truncate(r) => &r.path,
            Request::Create(r) if r.overwrite => &r.path,
            _ => return refusal,
        };
        let Some(view) = self.open_at_path(path) else { return refusal };
        let inode = view.lease.inode;
        let Some(session) = view.lease.session else {
            let waits_for = self.shared.blocks.read().recovery_waits_for(inode, now);
            let waits_for = if waits_for.is_empty() { "its turn".to_owned() } else { waits_for };
            return busy(path, format!("the file is being recovered, which waits for {waits_for}"));
        };
        let silence = self.shared.leases.read().silence(session, now);
        let secs = silence.as_secs();
        if silence < self.config.lease_soft_limit {
            let hint = format!("its writer was heard of {secs} s ago; `blockyard lease recover` takes it away");
            return FsError { hint, ..refusal };
        }
        if !self.shared.blocks.read().is_recovering(inode) {
            tracing::info!(%inode, secs, "a file is taken from a writer that was silent for the soft limit");
            self.shared.blocks.write().recovery_is_logged(inode);
            self.log_recovery(inode, begin(inode, view.lease.lease_epoch));
        }
        busy(path, format!("its writer was silent for {secs} s: the file is being recovered"))
    }

    fn open_at_path(&self, path: &str) -> Option<LeaseView> {
        let namespace = self.shared.namespace.read();
        let record = Self::own_record_in(&namespace);
        let status = namespace.stat(&record, &FsPath::parse(path).ok()?).ok()?;
        namespace.lease(InodeId::from_raw(status.inode))
    }

    /// Silence after which others may have a file.
    #[must_use]
    pub const fn lease_soft_limit(&self) -> Duration {
        self.config.lease_soft_limit
    }
}

pub(super) fn begin(inode: InodeId, epoch: LeaseEpoch) -> Op {
    Op::BeginRecovery(log::BeginRecovery { inode: inode.raw(), lease_epoch: epoch.raw() })
}

fn finish(recovered: Recovered, name: impl Fn(crate::blocks::StorageIndex) -> String) -> Op {
    let Recovered { what, len_bytes, storages } = recovered;
    Op::FinishRecovery(log::FinishRecovery {
        inode: what.inode.raw(),
        lease_epoch: what.lease_epoch.raw(),
        id: what.block.raw(),
        stamp: what.recovery_stamp.raw(),
        len_bytes,
        storages: storages.into_iter().map(name).collect(),
    })
}

fn busy(path: &str, text: String) -> FsError {
    let hint = "try again in some seconds; `blockyard lease ls` shows how far it is";
    FsError::new(ErrorCode::FileOpen, text).with_hint(hint).with_path(path)
}
