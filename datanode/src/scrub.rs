//! What a volume's scrubber does next: which replica it reads, when, and what follows from what it saw. Pure.
//!
//! ```text
//!   suspects ───────────────────────────────────────┐ in turn
//!   folders: never read, then longest ago, if due    ▼
//!     └─ pass over a folder, by block id ─────────▶ Look ─▶ Read, Read, … ─▶ sound
//!                                                     ▲             └ differs: once more, from the beginning
//!                                                     └─────────────┘         └ differs again ─▶ damaged
//! ```
//!
//! What was read when is kept by folder, of which a volume has 256: two kilobytes that survive a restart, in place of a
//! record for each of millions of replicas. Within a folder the pass under way says how far it has come. So every
//! replica is read within one period of its last reading, or of being written, if the rate allows for it.
//!
//! A difference is believed only when it is seen twice: memory and controllers fail a read now and then (the bytes on the
//! disk are the same before and after), and a replica that is called damaged costs a copy over the network.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use base::clock::Moment;
use proto::ids::BlockId;
use proto::store::{ScrubPass, VolumeScrub};

use crate::store::FOLDERS;

/// What the opening of a replica is charged with, for the seeks: a volume of small replicas is not read faster than its
/// heads can move.
pub const OPEN_BYTES: u64 = 64 * 1024;
/// A folder that was never read is begun this long after it was first seen: what was written a moment ago is not what
/// rots, and its writers still need the disk.
const FIRST_LOOK: Duration = Duration::from_secs(3600);
/// Longest time between two looks at what there is to do.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How much work a restart may repeat.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Pause when descriptors or memory are wanting.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(10);
/// Version of the record.
const VERSION: u32 = 1;
const READ_BYTES: usize = FOLDERS as usize / 8;

/// What a scrubber is told by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubOptions {
    /// Bytes a second that are read at most, of each volume. 0: nothing is.
    pub rate_bytes_per_s: u64,
    /// Every replica is to be read once in this time.
    pub period: Duration,
}

/// What there is to read, by folder.
pub trait Holdings {
    /// Number of whole replicas of each folder.
    fn counts(&self) -> Box<[u32]>;
    /// A replica that somebody doubts; it is handed out once.
    fn take_suspect(&self) -> Option<BlockId>;
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing before this moment.
    Rest(Moment),
    /// Make the record durable, then call [`Scrubber::saved`].
    Save,
    /// Find the whole replicas of a folder above an id, then call [`Scrubber::listed`].
    List {
        /// The folder.
        folder: u16,
        /// Replicas up to this one were read.
        above: Option<BlockId>,
    },
    /// Open a replica from its beginning, then call [`Scrubber::looked`].
    Look(BlockId),
    /// Read the next slice of it, then call [`Scrubber::looked`].
    Read,
}

/// What a look or a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Right so far, and there is more.
    Going,
    /// Right to the end.
    Sound,
    /// It is not there any more, or is another one by now.
    Gone,
    /// Bytes differ, or the disk did not give them.
    Differs,
    /// There was no descriptor or memory to look with.
    Exhausted,
}

/// What follows for the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing, or nothing yet.
    None,
    /// It was read whole and is sound.
    Sound,
    /// It differed twice: to be reported.
    Damaged,
}

/// When a folder was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    /// Wall time at which its last whole pass began, or at which it was first seen. 0: it was never seen.
    since_s: u64,
    read: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pass {
    folder: u16,
    began_s: u64,
    done: Option<BlockId>,
}

/// What survives a restart. Wall time orders and is for people; a clock that jumps makes folders be read earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubRecord {
    marks: Vec<Mark>,
    pass: Option<Pass>,
}

/// A record that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Written by a newer program.
    #[error("version {0} is newer than this program's {VERSION}")]
    Newer(u32),
    /// Lists of the wrong length, or a folder that there is not.
    #[error("it is malformed")]
    Malformed,
}

impl Default for ScrubRecord {
    fn default() -> Self {
        Self { marks: vec![Mark::default(); usize::from(FOLDERS)], pass: None }
    }
}

impl ScrubRecord {
    /// As it is stored.
    #[must_use]
    pub fn to_wire(&self) -> VolumeScrub {
        let mut read = vec![0_u8; READ_BYTES];
        for (folder, mark) in self.marks.iter().enumerate() {
            if let Some(byte) = read.get_mut(folder / 8) {
                *byte |= u8::from(mark.read) << (folder % 8);
            }
        }
        let pass = self.pass.map(|pass| ScrubPass {
            folder: u32::from(pass.folder),
            began_s: pass.began_s,
            done: pass.done.map(BlockId::raw),
        });
        VolumeScrub {
            version: VERSION,
            since_s: self.marks.iter().map(|mark| mark.since_s).collect(),
            read: read.into(),
            pass,
        }
    }
    /// From what was stored.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn from_wire(wire: &VolumeScrub) -> Result<Self, BadRecord> {
        if wire.version > VERSION {
            return Err(BadRecord::Newer(wire.version));
        }
        if wire.since_s.len() != usize::from(FOLDERS) || wire.read.len() != READ_BYTES {
            return Err(BadRecord::Malformed);
        }
        let bit = |folder: usize| wire.read.get(folder / 8).is_some_and(|byte| byte >> (folder % 8) & 1 == 1);
        let marks = wire.since_s.iter().enumerate();
        let marks = marks.map(|(folder, since_s)| Mark { since_s: *since_s, read: bit(folder) }).collect();
        let pass = match &wire.pass {
            None => None,
            Some(pass) => Some(Pass {
                folder: u16::try_from(pass.folder)
                    .ok()
                    .filter(|folder| *folder < FOLDERS)
                    .ok_or(BadRecord::Malformed)?,
                began_s: pass.began_s,
                done: pass.done.map(BlockId::from_raw),
            }),
        };
        Ok(Self { marks, pass })
    }
}

/// Bytes so far decide when the next may be read. What was not used is not saved up: a rest is followed by no burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate_bytes_per_s: u64,
    free_at: Moment,
}

impl Pace {
    pub(crate) const fn new(rate_bytes_per_s: u64, now: Moment) -> Self {
        Self { rate_bytes_per_s, free_at: now }
    }
    /// When the next bytes may be read.
    pub(crate) const fn free_at(&self) -> Moment {
        self.free_at
    }
    pub(crate) fn spend(&mut self, bytes: u64, now: Moment) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate_bytes_per_s.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now).plus(takes);
    }
}

#[derive(Clone, Copy, Debug)]
struct Looking {
    id: BlockId,
    open: bool,
    /// It differed once.
    again: bool,
    of_pass: bool,
}

/// The scrubber of one volume.
#[derive(Debug)]
pub struct Scrubber {
    options: ScrubOptions,
    record: ScrubRecord,
    pace: Pace,
    /// Replicas of the pass that are still to be read; `None` until they are listed.
    list: Option<VecDeque<BlockId>>,
    looking: Option<Looking>,
    suspect_was_last: bool,
    /// The record has changed, and when it was made durable last.
    unsaved: bool,
    saved_at: Moment,
}

impl Scrubber {
    /// A scrubber that goes on where `record` says.
    #[must_use]
    pub fn new(options: ScrubOptions, record: ScrubRecord, now: Moment) -> Self {
        Self {
            options,
            record,
            pace: Pace::new(options.rate_bytes_per_s, now),
            list: None,
            looking: None,
            suspect_was_last: false,
            unsaved: false,
            saved_at: now,
        }
    }
    /// What is to survive a restart.
    #[must_use]
    pub const fn record(&self) -> &ScrubRecord {
        &self.record
    }

    /// What to do now. `wall_s` is seconds since 1970.
    pub fn next(&mut self, now: Moment, wall_s: u64, holdings: &impl Holdings) -> Act {
        if self.options.rate_bytes_per_s == 0 {
            return Act::Rest(now.plus(IDLE));
        }
        if self.pace.free_at > now {
            return Act::Rest(self.pace.free_at.min(now.plus(IDLE)));
        }
        if self.unsaved && now.since(self.saved_at) >= SAVE_EVERY {
            return Act::Save;
        }
        if let Some(looking) = self.looking {
            return if looking.open { Act::Read } else { Act::Look(looking.id) };
        }
        // In turn, so that no reader who doubts everything keeps the rest from being read.
        let suspect_was_last = std::mem::take(&mut self.suspect_was_last);
        if !suspect_was_last && let Some(id) = holdings.take_suspect() {
            return self.doubt(id);
        }
        let act = self.go_on(now, wall_s, holdings);
        if suspect_was_last
            && matches!(act, Act::Rest(_))
            && let Some(id) = holdings.take_suspect()
        {
            return self.doubt(id);
        }
        act
    }

    fn doubt(&mut self, id: BlockId) -> Act {
        self.suspect_was_last = true;
        self.look_at(id, false)
    }
    /// The next step of the pass, or a new one.
    fn go_on(&mut self, now: Moment, wall_s: u64, holdings: &impl Holdings) -> Act {
        let Some(pass) = self.record.pass else { return self.begin_pass(now, wall_s, &holdings.counts()) };
        let Some(list) = &mut self.list else { return Act::List { folder: pass.folder, above: pass.done } };
        match list.pop_front() {
            Some(id) => self.look_at(id, true),
            None => self.end_pass(pass),
        }
    }
    fn look_at(&mut self, id: BlockId, of_pass: bool) -> Act {
        self.looking = Some(Looking { id, open: false, again: false, of_pass });
        Act::Look(id)
    }
    fn begin_pass(&mut self, now: Moment, wall_s: u64, counts: &[u32]) -> Act {
        let first = self.options.period.min(FIRST_LOOK).as_secs();
        let period = self.options.period.as_secs();
        let (mut next, mut rest_s) = (None, IDLE.as_secs().min(period.max(1)));
        for (folder, (mark, count)) in (0..FOLDERS).zip(self.record.marks.iter_mut().zip(counts)) {
            if *count == 0 {
                continue;
            }
            // In the future: the clock was wrong, then or now. It counts as not read.
            if mark.since_s == 0 || (mark.since_s > wall_s && !base::mutated!(Sc92ClockIsTrusted)) {
                *mark = Mark { since_s: wall_s, read: false };
                self.unsaved = true;
            }
            let due_s = mark.since_s.saturating_add(if mark.read { period } else { first });
            let rank = (mark.read, mark.since_s, folder);
            if due_s > wall_s {
                rest_s = rest_s.min(due_s - wall_s);
            } else if next.is_none_or(|best| rank < best) {
                next = Some(rank);
            }
        }
        let Some((_, _, folder)) = next else { return Act::Rest(now.plus(Duration::from_secs(rest_s))) };
        self.record.pass = Some(Pass { folder, began_s: wall_s, done: None });
        (self.list, self.unsaved) = (None, true);
        Act::List { folder, above: None }
    }
    fn end_pass(&mut self, pass: Pass) -> Act {
        if let Some(mark) = self.record.marks.get_mut(usize::from(pass.folder)) {
            *mark = Mark { since_s: pass.began_s, read: true };
        }
        (self.record.pass, self.list, self.unsaved) = (None, None, true);
        Act::Save
    }

    /// The replicas that [`Act::List`] asked for, by id.
    pub fn listed(&mut self, ids: Vec<BlockId>) {
        self.list = Some(ids.into());
    }
    /// The record is as durable as it will be.
    pub const fn saved(&mut self, now: Moment) {
        (self.unsaved, self.saved_at) = (false, now);
    }
    /// What [`Act::Look`] or [`Act::Read`] came to, and the bytes that it read.
    pub fn looked(&mut self, seen: Seen, bytes: u64, now: Moment) -> Verdict {
        let Some(looking) = &mut self.looking else { return Verdict::None };
        let opening = if looking.open { 0 } else { OPEN_BYTES };
        self.pace.spend(bytes.max(opening), now);
        looking.open = seen == Seen::Going;
        let verdict = match seen {
            Seen::Going => return Verdict::None,
            Seen::Exhausted => {
                self.pace.free_at = self.pace.free_at.max(now.plus(EXHAUSTED_PAUSE));
                return Verdict::None;
            }
            Seen::Differs if !looking.again => {
                looking.again = true;
                return Verdict::None;
            }
            Seen::Differs => Verdict::Damaged,
            Seen::Sound => Verdict::Sound,
            Seen::Gone => Verdict::None,
        };
        let done = looking.of_pass.then_some(looking.id);
        self.looking = None;
        if let (Some(id), Some(pass)) = (done, &mut self.record.pass) {
            (pass.done, self.unsaved) = (Some(id), true);
        }
        verdict
    }

    /// Age in seconds of the oldest reading that counts: no replica was unread for longer. A folder that was never read
    /// counts from when it was first seen.
    #[must_use]
    pub fn oldest_s(&self, wall_s: u64, counts: &[u32]) -> u64 {
        let held = self.record.marks.iter().zip(counts).filter(|(mark, count)| **count > 0 && mark.since_s > 0);
        held.map(|(mark, _)| wall_s.saturating_sub(mark.since_s)).max().unwrap_or(0)
    }
}
