//! The one writer of the log and of the vote file.
//!
//! ```text
//!   waiting PersistBatches ─▶ vote (if it changed, synced) ─▶ records ─▶ one fdatasync ─▶ PersistDone
//!                                                                        then: segments below an image go,
//!                                                                              a new spare is set aside
//! ```

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::Disk;
use base::random::Randomness;
use base::two_slot::TwoSlotFile;
use prost::Message;
use proto::raft::{HardState, RaftEntry, RaftMessage};

use super::record::{self, Header, Kind, Seed};
use super::scan::Scan;
use super::segment::{self, RECORDS_AT, Segment};
use crate::consensus::member::{ENTRY_PART, RECORD_OVERHEAD_BYTES};
use crate::consensus::{ConsensusError, ImageStore, LogError, PersistBatch, PersistDone, Room};

/// Room kept in each segment for the record that ends it.
const END_BYTES: u64 = record::size_bytes(0) as u64;

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The one writer of segments and of the vote file. Owned by the committer thread; every call blocks.
#[derive(Debug)]
pub struct LogWriter {
    parts: WriterParts,
    closed: VecDeque<Closed>,
    active: Segment,
    /// Where the next record goes in the active segment.
    offset: u64,
    spare: Option<Segment>,
    /// Records that are encoded but not written yet.
    buffer: Vec<u8>,
    /// Number of the last batch.
    batch: u64,
    /// Does the last batch hold anything that a later batch has not proven to be synced yet?
    unsealed: bool,
    room: Room,
    condemned: bool,
}

/// What a writer is made of.
#[derive(Debug)]
pub(crate) struct WriterParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) cluster: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) random: Arc<dyn Randomness>,
    pub(crate) vote: TwoSlotFile,
    pub(crate) images: ImageStore,
}

/// A segment that is full.
#[derive(Debug)]
struct Closed {
    path: PathBuf,
    max_index: u64,
}

/// Something to append.
struct Record {
    kind: Kind,
    term: u64,
    index: u64,
    body: Vec<u8>,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { operation, path: path.display().to_string(), source }
}

/// Makes the first two segments of a new member.
pub(crate) fn create_first(
    disk: &dyn Disk,
    dir: &Path,
    cluster: u64,
    random: &dyn Randomness,
    segment_bytes: u64,
) -> Result<(), (&'static str, io::Error)> {
    for sequence in 1..=2 {
        let seed = Seed { salt: random.next_u64(), cluster };
        drop(Segment::create(disk, dir, sequence, seed, segment_bytes)?);
    }
    Ok(())
}

impl LogWriter {
    /// Takes over a log that was read and found sound: cuts a torn tail, goes on behind it.
    pub(crate) fn open(parts: WriterParts, scan: &Scan) -> Result<Self, ConsensusError> {
        let name = parts.dir.display().to_string();
        let io = |operation: &'static str, path: &Path| {
            let path = path.display().to_string();
            move |source| ConsensusError::Io { operation, path, source }
        };
        segment::remove_unfinished(parts.disk.as_ref(), &parts.dir).map_err(io("clean up", &parts.dir))?;
        let mut closed = VecDeque::new();
        let mut active = None;
        let mut spare = None;
        // They held nothing but the batch that is cut. From the end, and each durable before the next: no hole is left.
        for found in scan.segments.iter().skip(scan.end.segment + 2).rev() {
            parts.disk.remove_file(&found.path, CrashPoint::SegmentRemove).map_err(io("remove", &found.path))?;
            parts.disk.sync_dir(&parts.dir, CrashPoint::NamenodeDirSync).map_err(io("sync", &parts.dir))?;
        }
        for (number, found) in scan.segments.iter().enumerate().take(scan.end.segment + 2) {
            if number < scan.end.segment {
                closed.push_back(Closed { path: found.path.clone(), max_index: found.max_index });
                continue;
            }
            let disk = parts.disk.as_ref();
            let opened = Segment::open(disk, found.path.clone(), found.sequence, found.seed, found.max_index)
                .map_err(io("open", &found.path))?;
            let keep = if number == scan.end.segment { scan.end.offset } else { RECORDS_AT };
            if found.used_bytes > keep {
                opened.cut(keep).map_err(io("cut the torn tail of", &found.path))?;
            }
            if number == scan.end.segment { active = Some(opened) } else { spare = Some(opened) }
        }
        let what = "there is no log segment".to_owned();
        let active = active.ok_or(ConsensusError::Incomplete { dir: name, what })?;
        // A process that was killed, or stopped by a failed sync, may have left its last batch and names in the page
        // cache only. They count as durable from now on, so they have to be. What came before that batch was synced.
        let same = scan.last_from.segment == scan.end.segment;
        let from = if same { scan.last_from.offset } else { RECORDS_AT };
        if scan.last_batch != 0 {
            active.rewrite(from, scan.end.offset).map_err(io("write", &active.path))?;
        }
        active.file.sync(CrashPoint::LogSync).map_err(io("sync", &active.path))?;
        if !base::mutated!(Sc47SegmentNameIsNotSynced) {
            parts.disk.sync_dir(&parts.dir, CrashPoint::NamenodeDirSync).map_err(io("sync", &parts.dir))?;
        }
        let mut writer = Self {
            parts,
            closed,
            active,
            offset: scan.end.offset,
            spare,
            buffer: Vec::new(),
            batch: scan.last_batch,
            unsealed: scan.last_batch != 0,
            room: Room::Normal,
            condemned: false,
        };
        writer.hold_room().map_err(|error| match error {
            LogError::Io { operation, path, source } => ConsensusError::Io { operation, path, source },
            LogError::Condemned => ConsensusError::BadConfig(error.to_string()),
        })?;
        Ok(writer)
    }

    /// Makes all waiting batches durable with one sync. They must come in the order of their readies.
    ///
    /// # Errors
    /// [`LogError`]: the log is condemned and the member must stop.
    pub fn write(&mut self, batches: Vec<PersistBatch>) -> Result<PersistDone, LogError> {
        if self.condemned {
            return Err(LogError::Condemned);
        }
        let done = self.try_write(batches);
        // Whatever failed, the file's contents are unknown now: no second try (SC-48).
        self.condemned = done.is_err() && !base::mutated!(Sc48LogSyncIsRepeated);
        done
    }

    fn try_write(&mut self, batches: Vec<PersistBatch>) -> Result<PersistDone, LogError> {
        let number = batches.iter().map(|batch| batch.number).max().unwrap_or(0);
        let release = batches.iter().filter_map(|batch| batch.release_through).max();
        let hard_state = batches.iter().rev().find_map(|batch| batch.hard_state);
        let mut arrived = Vec::new();
        let mut records = Vec::new();
        let mut seal = false;
        for batch in batches {
            arrived.extend(batch.image_parts.into_iter().filter_map(|part| self.receive(part)));
            if let Some((index, term)) = batch.restart {
                records.push(Record { kind: Kind::Restart, term, index, body: Vec::new() });
            }
            records.extend(batch.entries.iter().map(Record::of));
            seal |= batch.seal;
        }
        if let Some(hard_state) = hard_state {
            self.write_vote(&hard_state)?;
        }
        let has_records = !records.is_empty();
        if !has_records && seal && self.unsealed {
            records.push(Record { kind: Kind::Seal, term: 0, index: 0, body: Vec::new() });
        }
        if !records.is_empty() {
            self.append(records)?;
            self.unsealed = has_records;
        }
        if let Some(through) = release {
            self.release(through)?;
        }
        self.hold_room()?;
        Ok(PersistDone { number, room: self.room, free_bytes: self.free_bytes(), arrived })
    }

    /// Takes a part of an image; a broken transfer is the sender's to repeat, not a reason to stop.
    fn receive(&self, part: RaftMessage) -> Option<RaftMessage> {
        match self.parts.images.receive(part) {
            Ok(arrived) => arrived,
            Err(error) => {
                tracing::warn!(%error, "an image from the leader was not taken");
                None
            }
        }
    }

    fn write_vote(&mut self, hard_state: &HardState) -> Result<(), LogError> {
        let path = self.parts.dir.join(super::super::files::VOTE);
        self.parts.vote.write(&hard_state.encode_to_vec()).map_err(failed("write", &path))
    }

    /// Writes one batch and syncs it.
    fn append(&mut self, records: Vec<Record>) -> Result<(), LogError> {
        let batch = self.batch + 1;
        let last = records.len() - 1;
        self.buffer.clear();
        for (number, record) in records.into_iter().enumerate() {
            let size = record::size_bytes(record.body.len()) as u64;
            if self.offset + self.buffer.len() as u64 + size + END_BYTES > self.active.len_bytes {
                self.roll(batch, size)?;
            }
            let Record { kind, term, index, body } = record;
            let header = Header { kind, last_of_batch: number == last, term, index, batch };
            record::encode(&mut self.buffer, self.active.seed, header, &body);
            if kind == Kind::Entry {
                self.active.max_index = self.active.max_index.max(index);
            }
        }
        self.flush()?;
        self.batch = batch;
        Ok(())
    }

    /// Writes what is encoded, and syncs the active segment.
    fn flush(&mut self) -> Result<(), LogError> {
        self.active.file.write_at(&self.buffer, self.offset).map_err(failed("write", &self.active.path))?;
        if !base::mutated!(Sc20AckBeforeSync) {
            self.active.file.sync(CrashPoint::LogSync).map_err(failed("sync", &self.active.path))?;
        }
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the active segment and goes on in the spare one.
    fn roll(&mut self, batch: u64, needed_bytes: u64) -> Result<(), LogError> {
        // The next segment is there before this one says so: an end without a next segment is a loss.
        let next = match self.spare.take() {
            Some(spare) => spare,
            None => self.create_segment(self.active.sequence + 1)?,
        };
        let end = Header { kind: Kind::End, last_of_batch: false, term: 0, index: 0, batch };
        record::encode(&mut self.buffer, self.active.seed, end, &[]);
        self.flush()?;
        let full = std::mem::replace(&mut self.active, next);
        self.closed.push_back(Closed { path: full.path, max_index: full.max_index });
        self.offset = RECORDS_AT;
        let needed = RECORDS_AT + needed_bytes + END_BYTES;
        if self.active.len_bytes < needed {
            self.active.grow(needed).map_err(failed("grow", &self.active.path))?;
        }
        Ok(())
    }

    fn create_segment(&self, sequence: u64) -> Result<Segment, LogError> {
        let seed = Seed { salt: self.parts.random.next_u64(), cluster: self.parts.cluster };
        let WriterParts { disk, dir, segment_bytes, .. } = &self.parts;
        Segment::create(disk.as_ref(), dir, sequence, seed, *segment_bytes)
            .map_err(|(operation, source)| failed(operation, dir)(source))
    }

    /// Removes the oldest segments that hold nothing above `through`. Each removal is durable before the next one: after a
    /// power cut the newer of two names may be gone and the older one be back, and such a hole stops a start.
    fn release(&mut self, through: u64) -> Result<(), LogError> {
        while let Some(oldest) = self.closed.front().filter(|closed| closed.max_index <= through) {
            let gone = self.parts.disk.remove_file(&oldest.path, CrashPoint::SegmentRemove);
            gone.map_err(failed("remove", &oldest.path))?;
            self.closed.pop_front();
            let synced = self.parts.disk.sync_dir(&self.parts.dir, CrashPoint::NamenodeDirSync);
            synced.map_err(failed("sync", &self.parts.dir))?;
        }
        Ok(())
    }

    /// Sets the next segment and the room of the next image aside, if the disk has room.
    fn hold_room(&mut self) -> Result<(), LogError> {
        let spare = base::mutated!(Sc57NoRoomIsKept) || self.hold_spare()?;
        let held = spare && self.parts.images.hold_reserve();
        let room = if held {
            Room::Normal
        } else if self.free_bytes() > self.parts.segment_bytes / ENTRY_PART {
            Room::DeletesOnly
        } else {
            Room::Nothing
        };
        if room != self.room {
            tracing::warn!(?room, dir = %self.parts.dir.display(), "room for the log has changed");
        }
        self.room = room;
        Ok(())
    }

    /// Sets the next segment aside. False: the disk has no room for it.
    fn hold_spare(&mut self) -> Result<bool, LogError> {
        let wanted = self.parts.segment_bytes;
        // One that a crash cut short, or that smaller settings made, is too short to be held as the next one.
        let have = self.spare.as_ref().map_or(0, |spare| spare.len_bytes);
        if have >= wanted {
            return Ok(true);
        }
        if !self.has_space(wanted - have)? {
            return Ok(false);
        }
        let held = match &mut self.spare {
            Some(spare) => spare.grow(wanted).map_err(failed("set room aside for", &spare.path)),
            None => self.create_segment(self.active.sequence + 1).map(|spare| self.spare = Some(spare)),
        };
        match held {
            Ok(()) => Ok(true),
            Err(LogError::Io { source, .. }) if is_full(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn has_space(&self, wanted_bytes: u64) -> Result<bool, LogError> {
        let space = self.parts.disk.space(&self.parts.dir).map_err(failed("ask for the room of", &self.parts.dir))?;
        Ok(space.available_bytes >= wanted_bytes)
    }

    /// Bytes of records that fit without asking the disk for more, however they are cut.
    fn free_bytes(&self) -> u64 {
        let active = self.active.len_bytes.saturating_sub(self.offset + END_BYTES);
        let Some(spare) = &self.spare else { return active };
        let next = spare.len_bytes.saturating_sub(RECORDS_AT + END_BYTES);
        // The first record that does not fit into the active segment any more leaves its end unused.
        let largest = self.parts.segment_bytes / ENTRY_PART + RECORD_OVERHEAD_BYTES;
        (active + next).saturating_sub(active.min(largest))
    }

    /// Room now, and the bytes of records that fit without asking the disk for more.
    pub(crate) fn status(&self) -> (Room, u64) {
        (self.room, self.free_bytes())
    }
}

impl Record {
    fn of(entry: &RaftEntry) -> Self {
        Self { kind: Kind::Entry, term: entry.term, index: entry.index, body: entry.encode_to_vec() }
    }
}
