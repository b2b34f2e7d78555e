//! The end of a write: `complete` makes a file whole and visible, `discard` gives it up.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::{Complete, Discard};

use super::blocks::LastBlock;
use crate::namespace::access::{EXECUTE, WRITE, Who};
use crate::namespace::store::NONE;
use crate::namespace::store::records::Pin;
use crate::namespace::store::totals::Totals;
use crate::namespace::{BlockEffect, Call, Namespace, Outcome};

/// Since this version of the commands the end of writing nothing at all is no change.
const SINCE_EMPTY: u32 = 7;

/// Where an unpublished file goes.
pub(super) struct Place {
    pub(super) directory: u32,
    pub(super) name: Box<str>,
    pub(super) old: Option<u32>,
}

impl Namespace {
    /// Rights and the state of the target are checked again: both may have changed since `create`.
    pub(in crate::namespace) fn complete(
        &mut self,
        call: &Call<'_>,
        complete: &Complete,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let slot = self.writable(complete.inode, complete.lease_epoch, call.session)?;
        self.work += self.store.links_of(slot).len();
        if base::mutated!(Sc03ChangeBeforeCheck) {
            self.end_lease(slot);
        }
        let last = self.judge_last(slot, complete.last.as_ref())?;
        let place = match self.store.open_of(slot).and_then(|open| open.pin.as_ref()) {
            Some(pin) => Some(self.place(&self.who_calls(call)?, pin)?),
            None => None,
        };
        if let Some(place) = &place {
            let less = place.old.map_or_else(Totals::default, |old| self.store.weight(old));
            self.check_quota(place.directory, self.weight_when_closed(slot, &last), less, NONE)?;
        }

        self.settle(slot, last, effects);
        // Nobody wrote anything since it was made.
        if call.version >= SINCE_EMPTY && place.is_none() && self.store.extent(slot).count == 0 {
            self.end_lease(slot);
        } else {
            self.close_file(slot, call.now_ns);
        }
        if let Some(place) = place {
            self.put_in_place(place.directory, &place.name, slot, place.old, call.now_ns, effects);
        }
        let path = self.store.path(slot);
        Ok(Outcome::Complete(self.status(slot, &path)))
    }

    /// An unpublished file vanishes; a visible one is closed at what its replicas hold (see [`super::recovery`]).
    pub(in crate::namespace) fn discard(
        &mut self,
        call: &Call<'_>,
        discard: &Discard,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let slot = self.writable(discard.inode, discard.lease_epoch, call.session)?;

        self.abandon_file(call, slot, effects);
        Ok(Outcome::Done)
    }

    /// What a file will add to its directory once its last block is settled.
    fn weight_when_closed(&self, slot: u32, last: &LastBlock) -> Totals {
        let len_bytes = self.store.extent(slot).len_bytes + self.more_when_settled(last);
        let space_bytes = len_bytes.saturating_mul(u64::from(self.store.inode(slot).replication));
        Totals { files: 1, len_bytes, space_bytes, ..Totals::default() }
    }

    /// Where an unpublished file would go now, if the caller may put it there.
    pub(super) fn place(&self, who: &Who<'_>, pin: &Pin) -> FsResult<Place> {
        let directory = self.store.slot(pin.parent).filter(|slot| self.store.alive(*slot)).ok_or_else(|| {
            FsError::new(ErrorCode::NotFound, "the directory of the file was deleted while it was written")
                .with_path(&*pin.name)
        })?;
        who.need(&self.store, directory, WRITE | EXECUTE)?;
        let old = self.store.child(directory, &pin.name);
        match old {
            Some(old) => {
                self.check_replaceable(who, directory, old, pin.overwrite, &self.store.path(old))?;
            }
            None => {
                self.check_entries(directory)?;
                self.check_room(0)?;
            }
        }
        Ok(Place { directory, name: pin.name.clone(), old })
    }
}
