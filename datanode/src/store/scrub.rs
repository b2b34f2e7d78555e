//! A volume's scrubber at work: carries out what `crate::scrub` decides, one step a call. Waits for the disk, never for
//! time: a server gives it a thread, the simulation calls it between other events.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use base::clock::Moment;
use base::crash::CrashPoint;
use base::disk::dir_of;
use base::two_slot::{TwoSlotError, TwoSlotFile};
use prost::Message;
use proto::ids::{BlockId, StorageId};
use proto::store::VolumeScrub as VolumeScrubRecord;

use super::error::StoreError;
use super::layout;
use super::look::{Look, LookError, Watch};
use super::replica::ReplicaState;
use super::restore;
use super::volume::Volume;
use crate::scrub::{Act, BadRecord, Holdings, ScrubOptions, ScrubRecord, Scrubber, Seen, Verdict};

const MAGIC: [u8; 8] = *b"BYVLSCRB";

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is to be done before this moment.
    Rest(Moment),
    /// Something was done; the next step may follow at once.
    Did {
        /// Bytes read from the disk.
        bytes: u64,
        /// The replica that was read to its end and is sound.
        sound: Option<BlockId>,
        /// The replica that was found damaged, and is marked so: the namenodes are to be told.
        damaged: Option<BlockId>,
    },
}

/// The scrubber of a volume, with its file.
#[derive(Debug)]
pub struct VolumeScrub {
    volume: Arc<Volume>,
    options: ScrubOptions,
    /// `None` until the record is read.
    scrubber: Option<Scrubber>,
    /// `None`: the record is not kept, because a newer program's is there, or the disk refused.
    file: Option<TwoSlotFile>,
    looking: Option<(Watch, Option<Look>)>,
}

impl Holdings for Volume {
    fn counts(&self) -> Box<[u32]> {
        self.state.lock().whole.clone()
    }
    fn take_suspect(&self) -> Option<BlockId> {
        self.state.lock().suspects.pop_first()
    }
}

/// Replicas that are gone through under the volume's lock at a time.
const LISTED_AT_ONCE: usize = 4096;

/// Finalised replicas of a folder above an id, sorted.
fn list(volume: &Volume, folder: u16, above: Option<BlockId>) -> Vec<BlockId> {
    let mut found = Vec::new();
    let mut from = above.map_or(Bound::Unbounded, Bound::Excluded);
    loop {
        let (mut seen, mut last) = (0, None);
        for (id, replica) in volume.state.lock().replicas.range((from, Bound::Unbounded)).take(LISTED_AT_ONCE) {
            (seen, last) = (seen + 1, Some(*id));
            if replica.state == ReplicaState::Finalized && layout::folder_of(*id) == folder {
                found.push(*id);
            }
        }
        match last {
            Some(last) if seen == LISTED_AT_ONCE => from = Bound::Excluded(last),
            _ => return found,
        }
    }
}

impl VolumeScrub {
    pub(crate) const fn new(volume: Arc<Volume>, options: ScrubOptions) -> Self {
        Self { volume, options, scrubber: None, file: None, looking: None }
    }
    /// The volume's storage.
    #[must_use]
    pub fn storage(&self) -> &StorageId {
        &self.volume.storage
    }
    /// Age in seconds of the oldest reading that counts; see [`Scrubber::oldest_s`]. No disk call.
    #[must_use]
    pub fn oldest_s(&self, wall_s: u64) -> u64 {
        self.scrubber.as_ref().map_or(0, |scrubber| scrubber.oldest_s(wall_s, &self.volume.counts()))
    }

    /// Does one step, if its time has come. `wall_s` is seconds since 1970.
    pub fn turn(&mut self, now: Moment, wall_s: u64) -> Turn {
        if self.volume.is_failed() {
            self.looking = None;
            return Turn::Rest(now.plus(crate::scrub::IDLE));
        }
        let Some(scrubber) = &mut self.scrubber else {
            let record = self.load();
            self.scrubber = Some(Scrubber::new(self.options, record, now));
            return NOTHING;
        };
        match scrubber.next(now, wall_s, self.volume.as_ref()) {
            Act::Rest(until) => return Turn::Rest(until),
            Act::Save => {
                let record = scrubber.record().to_wire().encode_to_vec();
                scrubber.saved(now);
                self.save(&record);
                return NOTHING;
            }
            Act::List { folder, above } => {
                scrubber.listed(list(&self.volume, folder, above));
                return NOTHING;
            }
            Act::Look(id) => {
                let whole = |watch: &Watch| watch.replica().state == ReplicaState::Finalized;
                self.looking = Watch::begin(&self.volume, id).filter(whole).map(|watch| (watch, None));
            }
            Act::Read => {}
        }
        let (seen, bytes) = self.see();
        self.settle(seen, bytes, now)
    }

    /// Opens the replica, or reads the next slice of it.
    fn see(&mut self) -> (Seen, u64) {
        let Some((watch, look)) = self.looking.as_mut().filter(|(watch, _)| watch.is_unchanged()) else {
            return (Seen::Gone, 0);
        };
        let step = match look {
            Some(look) => look.slice().map(|slice| (if slice.sound { Seen::Sound } else { Seen::Going }, slice.bytes)),
            None => self.volume.pool().map_err(LookError::Store).and_then(|pool| {
                *look = Some(Look::begin(watch, &pool, None)?);
                Ok((Seen::Going, 0))
            }),
        };
        step.unwrap_or_else(|error| {
            let (block, storage) = (watch.id(), &self.volume.storage);
            match error {
                // Deleted in mid-look: files that are not there are no damage.
                _ if !watch.is_unchanged() => (Seen::Gone, 0),
                LookError::Store(error) if error.is_exhausted() => (Seen::Exhausted, 0),
                error => {
                    let error = crate::receive::chain(&error);
                    tracing::warn!(%block, %storage, error, "the scrubber found a difference");
                    (Seen::Differs, 0)
                }
            }
        })
    }

    fn settle(&mut self, seen: Seen, bytes: u64, now: Moment) -> Turn {
        let Some(scrubber) = &mut self.scrubber else { return NOTHING };
        let verdict = scrubber.looked(seen, bytes, now);
        let looking = if seen == Seen::Going { None } else { self.looking.take() };
        let (mut sound, mut damaged) = (None, None);
        if let Some((watch, look)) = looking {
            let (id, storage) = (watch.id(), &self.volume.storage);
            match verdict {
                Verdict::None => {}
                Verdict::Sound => {
                    sound = self.volume.looked_at(&watch, true, false).then_some(id);
                    restore(&watch, sound.and(look.as_ref()));
                }
                Verdict::Damaged => {
                    damaged = self.volume.looked_at(&watch, false, false).then_some(id);
                    if damaged.is_some() {
                        tracing::error!(block = %id, %storage, "the scrubber found a damaged replica: a copy of a good one will replace it");
                    }
                }
            }
        }
        Turn::Did { bytes, sound, damaged }
    }

    /// Where an earlier run was. The file decides nothing but the order, so a damaged one is begun anew.
    fn load(&mut self) -> ScrubRecord {
        let (disk, path) = (self.volume.disk.as_ref(), self.volume.dir.join(layout::SCRUB));
        let found = match TwoSlotFile::open(disk, &path, MAGIC, CrashPoint::ScrubSync) {
            Ok(found) => found,
            Err(TwoSlotError::Damaged { path }) => {
                tracing::warn!(path, "the scrubber's record is damaged: it begins anew");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "the scrubber begins anew and keeps no record");
                // A record that cannot be read is missed by nobody; a disk that fails a write or a sync is not trusted.
                if matches!(error, TwoSlotError::Io { operation: "write" | "sync", .. }) {
                    let _condemned = self.volume.guard::<()>(Err(flat(error)));
                }
                return ScrubRecord::default();
            }
        };
        if let Some((file, body)) = found {
            let read = VolumeScrubRecord::decode(body.as_slice()).map_err(|_error| BadRecord::Malformed);
            match read.and_then(|wire| ScrubRecord::from_wire(&wire)) {
                Ok(record) => {
                    self.file = Some(file);
                    return record;
                }
                Err(BadRecord::Newer(version)) => {
                    tracing::warn!(
                        version,
                        "the scrubber's record is of a newer program: it begins anew, and keeps none"
                    );
                    return ScrubRecord::default();
                }
                Err(error) => tracing::warn!(%error, "the scrubber's record is of no use: it begins anew"),
            }
        }
        let fresh = ScrubRecord::default();
        let made = TwoSlotFile::create(disk, &path, MAGIC, &fresh.to_wire().encode_to_vec(), CrashPoint::ScrubSync);
        match self.volume.guard(made.map_err(flat)) {
            Ok(file) => self.file = Some(file),
            Err(error) => tracing::warn!(%error, "the scrubber keeps no record"),
        }
        fresh
    }
    /// Makes the record durable, where there is one.
    fn save(&mut self, record: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let written = file.put(record).map_err(StoreError::slot(&self.volume.dir.join(layout::SCRUB)));
        let kept = self.volume.guard(written);
        if let Err(error) = &kept {
            tracing::warn!(error = %crate::receive::chain(error), "how far the scrubber has come is not kept");
            // After a failed write the file is not to be used again; a failed sync has cost the volume anyway.
            self.file = None;
        }
    }
}

/// Keeps the digest of a sound replica that has none, or a wrong one. Failing that, it stays so until its next turn.
pub(super) fn restore(watch: &Watch, look: Option<&Look>) {
    let Some(look) = look else { return };
    let (block, storage) = (watch.id(), &watch.volume().storage);
    match restore::restore(watch, look) {
        Ok(true) => tracing::debug!(%block, %storage, "a replica without a digest has one now"),
        Ok(false) => {}
        Err(error) => {
            let error = crate::receive::chain(&error);
            tracing::warn!(%block, %storage, error, "the digest of a replica is not kept");
        }
    }
}

const NOTHING: Turn = Turn::Did { bytes: 0, sound: None, damaged: None };

/// Errors of the disk as those of other files, so that they cost the volume.
fn flat(error: TwoSlotError) -> StoreError {
    match error {
        TwoSlotError::Io { operation: "sync", path, source } => StoreError::Sync { path, source },
        TwoSlotError::Io { operation: "sync the folder of", path, source } => {
            StoreError::sync_names(&dir_of(Path::new(&path)))(source)
        }
        TwoSlotError::Io { operation, path, source } => StoreError::Io { operation, path, source },
        other => StoreError::Identity(other),
    }
}
