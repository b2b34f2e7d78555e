//! Who writes a file, and what becomes of it when the writer is gone.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::SessionId;
use proto::log::ReleaseLease;

use crate::namespace::store::records::Open;
use crate::namespace::{BlockEffect, Call, Namespace, Outcome};

impl Namespace {
    /// The slot of a file that the holder of this lease may go on writing. Every writer's call comes through here:
    /// by inode and epoch, never by path, so that renames do not matter and deletes are noticed (SC-01, SC-02).
    ///
    /// # Errors
    /// `NotFound` if the file was deleted or replaced, `LeaseLost` if it is closed or someone else's by now.
    pub(in crate::namespace) fn writable(&self, id: u64, epoch: u64, session: Option<SessionId>) -> FsResult<u32> {
        let alive = |slot: &u32| self.store.alive(*slot) || base::mutated!(Sc01DeletedFileIsWritten);
        let slot = self.store.slot(id).filter(alive).ok_or_else(|| {
            FsError::new(ErrorCode::NotFound, format!("inode {id} is gone: the file was deleted while it was written"))
        })?;
        let lost = |why: &str| {
            FsError::new(ErrorCode::LeaseLost, format!("inode {id} {why}")).with_hint("write the file again")
        };
        match self.store.open_of(slot) {
            None => Err(lost("is not being written")),
            Some(_) if base::mutated!(Sc25RecoveryFencesNobody) => Ok(slot),
            Some(open) if open.epoch != epoch || open.session != session => Err(lost("is not this writer's any more")),
            Some(open) if open.recovery.is_some() => Err(lost("is being closed by the cluster")),
            Some(_) => Ok(slot),
        }
    }

    /// Inode 0 means every file of the session.
    pub(in crate::namespace) fn release_lease(
        &mut self,
        call: &Call<'_>,
        release: &ReleaseLease,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let session = SessionId::from_slice(&release.session);
        let held: Vec<u32> = if release.inode == 0 {
            let open = self.store.open.sorted();
            let of_session = open.into_iter().filter(|(_, open)| session.is_some() && open.session == session);
            of_session.filter_map(|(id, _)| self.store.slot(*id)).filter(|slot| self.store.alive(*slot)).collect()
        } else {
            vec![self.writable(release.inode, release.lease_epoch, session)?]
        };

        for slot in held {
            self.abandon_file(call, slot, effects);
        }
        Ok(Outcome::Done)
    }

    /// The writer is gone. What nobody can see vanishes; a visible file is recovered. Entries of versions before 4 left
    /// it open, with a new epoch and no holder, and do.
    pub(super) fn abandon_file(&mut self, call: &Call<'_>, slot: u32, effects: &mut Vec<BlockEffect>) {
        if call.version >= 4 {
            self.take_from_writer(slot, call.now_ns, effects);
            return;
        }
        if self.store.open_of(slot).is_some_and(|open| open.pin.is_some()) {
            self.discard_tree(slot, effects);
            return;
        }
        self.end_lease(slot);
        let epoch = self.next.epoch;
        self.next.epoch = epoch.next();
        self.store.set_open(slot, Open::by(epoch.raw(), None, None));
    }

    /// Ends construction, if it is under way.
    pub(super) fn end_lease(&mut self, slot: u32) {
        if let Some(open) = self.store.clear_open(slot) {
            self.sessions.lease_ended(open.session);
        }
    }
}
