//! Whether a volume may be used, and how that is found out without touching its disk.
//!
//! ```text
//!             a call is out for slow_after          for hung_after
//!   working ────────────────────────────▶ slow ───────────────────▶ hung ──calls came back, check passed──▶ working
//!      │  ◀───────── calls came back ──────┘
//!      ├─ a write, sync or read of its own files failed ──▶ failed       for this run
//!      └─ the file system takes no writes any more ───────▶ read-only    for this run; still served
//! ```
//!
//! *Slow*: nothing new is begun on it, whoever waits for it is told to go elsewhere, and its replicas count. *Hung* and
//! *failed*: its replicas count as away until it is back; nothing of them is forgotten (SC-54). The looks come from a timer
//! that waits for no disk (SC-53); the check is made by the volume's own upkeep, which may hang with it.

use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use base::crash::CrashPoint;
use base::disk::{Cut, OpenMode, Stuck};

use super::error::{StoreError, is_exhausted, is_full, is_read_only};
use super::layout;
use super::unsynced;
use super::volume::{State, Volume};

/// Bytes that a check writes and reads again.
const CHECK_BYTES: usize = 4096;

/// How a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeState {
    /// It is used for everything.
    Working,
    /// A call has not come back for a while: nothing new is begun on it.
    Slow,
    /// It takes no writes any more; what it holds is served.
    ReadOnly,
    /// A call has not come back for long: its replicas count as away.
    Hung,
    /// Taken out of service until the node starts again: its replicas count as away.
    Failed,
}

impl VolumeState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Working, Self::Slow, Self::ReadOnly, Self::Hung, Self::Failed];
    /// The word in reports, listings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Slow => "slow",
            Self::ReadOnly => "read-only",
            Self::Hung => "hung",
            Self::Failed => "failed",
        }
    }
    /// Do its replicas count as away?
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Hung | Self::Failed)
    }
}

/// What is the matter with a volume. Guarded by its state's lock.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Out of service for this run, and why.
    failed: Option<String>,
    read_only: Option<String>,
    stall: Option<Stall>,
    changes: u64,
}

/// Calls do not come back, or have come back late.
#[derive(Clone, Debug)]
struct Stall {
    reason: String,
    /// It was reported as away: before it is used again, it is checked.
    hung: bool,
    /// Calls are still out.
    stuck: bool,
}

impl Health {
    /// The state, and why it is not [`VolumeState::Working`].
    pub(crate) fn state(&self) -> (VolumeState, &str) {
        match self {
            Self { failed: Some(why), .. } => (VolumeState::Failed, why),
            Self { stall: Some(stall), .. } if stall.hung => (VolumeState::Hung, &stall.reason),
            Self { read_only: Some(why), .. } => (VolumeState::ReadOnly, why),
            Self { stall: Some(stall), .. } => (VolumeState::Slow, &stall.reason),
            _ => (VolumeState::Working, ""),
        }
    }
    /// How many times the state has changed.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }
    /// Changes it, and counts if the state is another one then.
    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.state().0;
        change(self);
        self.changes += u64::from(self.state().0 != before);
    }
    /// Why nothing may be asked of the disk now.
    pub(crate) fn refusal(&self) -> Option<&str> {
        let stalled = || self.stall.as_ref().map(|stall| stall.reason.as_str());
        self.failed.as_deref().or_else(stalled)
    }
    /// Why nothing may be changed on it now.
    fn write_refusal(&self) -> Option<&str> {
        self.refusal().or(self.read_only.as_deref())
    }
}

impl Volume {
    /// Refuses if the volume is out of service, or its disk does not answer.
    pub(crate) fn working(&self) -> Result<(), StoreError> {
        self.refuse(self.state.lock().health.refusal())
    }
    /// As [`Volume::working`], and if it takes no writes.
    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        self.refuse(self.state.lock().health.write_refusal())
    }
    fn refuse(&self, reason: Option<&str>) -> Result<(), StoreError> {
        match reason {
            None => Ok(()),
            Some(reason) => Err(StoreError::VolumeFailed { storage: self.storage.clone(), reason: reason.to_owned() }),
        }
    }
    /// Is nothing to be asked of its disk?
    pub(crate) fn is_failed(&self) -> bool {
        self.state.lock().health.refusal().is_some()
    }
    /// Does it take new replicas?
    pub(crate) fn takes_writes(&self) -> bool {
        self.state.lock().health.write_refusal().is_none()
    }

    /// Passes a result through. An error of the disk takes the volume out (SC-48), for writes only if the file system
    /// takes none; "full" and "no more descriptors" are none, but for a sync: whatever a sync fails with, what was written
    /// before it may be lost.
    pub(crate) fn guard<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Sync { path, source }) = &result {
            unsynced::note(self.disk.as_ref(), &self.dir);
            self.condemn(format!("sync {path}: {source}"));
        }
        if let Err(StoreError::Io { operation, path, source }) = &result
            && !is_exhausted(source)
        {
            if is_full(source) {
                self.state.lock().is_full = true;
                return result;
            }
            let reason = format!("{operation} {path}: {source}");
            if is_read_only(source) { self.takes_no_writes(reason) } else { self.condemn(reason) }
        }
        result
    }
    pub(crate) fn condemn(&self, reason: String) {
        let mut state = self.state.lock();
        if state.health.failed.is_none() {
            tracing::error!(storage = %self.storage, dir = %self.dir.display(), reason, "volume is out of service");
            state.health.change(|health| health.failed = Some(reason));
            let opened = state.opened.clear();
            state.call_back_all();
            drop(state);
            drop(opened);
        }
    }
    fn takes_no_writes(&self, reason: String) {
        let mut state = self.state.lock();
        if state.health.read_only.is_none() {
            let dir = self.dir.display();
            tracing::error!(storage = %self.storage, %dir, reason, "volume takes no writes any more: it is read only");
            state.health.change(|health| health.read_only = Some(reason));
        }
    }

    /// Looks whether calls of the disk do not come back. Waits for no disk. Whoever waits for such calls is told to go
    /// elsewhere.
    pub(crate) fn watch(&self, now: Moment) {
        let (slow_after, hung_after) = (self.options().slow_after, self.options().hung_after);
        let stuck = self.calls.look(now).filter(|stuck| stuck.for_time >= slow_after);
        if stuck.is_some() {
            self.calls.take_cuts(now, slow_after).iter().for_each(Cut::run);
        }
        let mut state = self.state.lock();
        match stuck {
            Some(stuck) => self.stalls(&mut state, &stuck, hung_after),
            None => {
                let Some(stall) = &mut state.health.stall else { return };
                stall.stuck = false;
                if !stall.hung {
                    tracing::info!(storage = %self.storage, "the volume answers again");
                    state.health.change(|health| health.stall = None);
                }
            }
        }
    }
    fn stalls(&self, state: &mut State, stuck: &Stuck, hung_after: Duration) {
        let Stuck { what, path, for_time } = stuck;
        let reason = format!("no answer from the disk: \"{what}\" of {path}, for {} s", for_time.as_secs());
        let (storage, known) = (&self.storage, state.health.stall.as_ref());
        let hung = *for_time >= hung_after || known.is_some_and(|stall| stall.hung);
        if known.is_none() {
            tracing::warn!(%storage, reason, "the volume is slow: nothing is begun on it");
        }
        if hung && !known.is_some_and(|stall| stall.hung) {
            tracing::error!(%storage, reason, "the volume hangs: its replicas count as away");
            state.call_back_all();
        }
        state.health.change(|health| health.stall = Some(Stall { reason, hung, stuck: true }));
    }

    /// Takes a volume that hung up again, once its calls have come back and it does what it should. Waits for the disk.
    pub(crate) fn check_again(&self) {
        let due = self.state.lock().health.stall.as_ref().is_some_and(|stall| stall.hung && !stall.stuck);
        if !due {
            return;
        }
        let checked = self.try_disk();
        let mut state = self.state.lock();
        match checked {
            // It may have hung anew meanwhile.
            Ok(()) => {
                if state.health.stall.as_ref().is_some_and(|stall| !stall.stuck) {
                    tracing::info!(storage = %self.storage, "the volume hung, and works again: its replicas count again");
                    state.health.change(|health| health.stall = None);
                }
            }
            Err(error) => {
                drop(state);
                if matches!(error, StoreError::Sync { .. }) {
                    unsynced::note(self.disk.as_ref(), &self.dir);
                }
                let error = crate::receive::chain(&error);
                self.condemn(format!("it hung, and the check after that failed: {error}"));
            }
        }
    }
    /// Writes, syncs and reads a little. A full disk, and one that takes no writes, is read only.
    fn try_disk(&self) -> Result<(), StoreError> {
        match self.try_a_file() {
            Err(StoreError::Io { source, .. }) if is_full(&source) || is_read_only(&source) => {
                let identity = self.dir.join(layout::IDENTITY);
                let file = self.disk.open(&identity, OpenMode::Read).map_err(StoreError::io("open", &identity))?;
                file.read_medium_at(&mut [0; 512], 0).map_err(StoreError::io("read", &identity))
            }
            other => other,
        }
    }
    /// A disk that refused something for want of room gets nothing before it takes a file again: bytes are not all that can
    /// run out (F-10).
    pub(crate) fn look_for_room(&self) {
        if !self.state.lock().is_full {
            return;
        }
        match self.try_a_file() {
            Ok(()) => self.state.lock().is_full = false,
            // A look that fails shows that there is no room yet; one whose sync fails, that the disk is not to be trusted.
            Err(error @ StoreError::Sync { .. }) => drop(self.guard::<()>(Err(error))),
            Err(error) => tracing::debug!(storage = %self.storage, %error, "the disk has no room yet"),
        }
    }
    fn try_a_file(&self) -> Result<(), StoreError> {
        let path = self.dir.join(layout::CHECK);
        let io = |operation| StoreError::io(operation, &path);
        match self.disk.remove_file(&path, CrashPoint::CheckRemove) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.map_err(io("remove"))?,
        }
        let file = self.disk.create_new(&path, CrashPoint::CheckCreate).map_err(io("create"))?;
        let bytes = [0x5a; CHECK_BYTES];
        file.write_at(&bytes, 0).map_err(io("write"))?;
        file.sync(CrashPoint::CheckSync).map_err(StoreError::sync(&path))?;
        let mut read = [0; CHECK_BYTES];
        file.read_medium_at(&mut read, 0).map_err(io("read"))?;
        if read != bytes {
            let other = std::io::Error::new(std::io::ErrorKind::InvalidData, "it gives back something else");
            return Err(io("read")(other));
        }
        self.disk.remove_file(&path, CrashPoint::CheckRemove).map_err(io("remove"))
    }

    /// Enters something that may wait for the disk behind other calls: a lock that is held across them, for one.
    pub(crate) fn waits(&self, what: &'static str) -> base::disk::UnderWay<'_> {
        self.calls.enter(what, Arc::clone(&self.named))
    }
    /// The state, and why.
    pub(crate) fn health(&self) -> (VolumeState, String) {
        let state = self.state.lock();
        let (now, why) = state.health.state();
        (now, why.to_owned())
    }
}
