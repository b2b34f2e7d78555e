//! Reads the log back and judges damage: a torn tail, or rot.
//!
//! ```text
//!   batch:  1 1 1│2│3 3│4 4 ▒ 4│          damage, nothing of batch 5 behind it: never acknowledged, cut
//!   batch:  1 1 1│2│3 ▒│4 4 4 │5│         damage, batch 4 behind it: batch 3 was synced, so this is rot
//! ```
//!
//! A batch counts only as a whole: its records take effect when the record that ends it verifies. Batch n+1
//! is written only after batch n was synced, so *any* record of a later batch behind the damage, wherever
//! it stands, proves that the damaged bytes were once durable.
#![deny(clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use base::disk::{Disk, read_file};
use prost::Message;
use proto::raft::RaftEntry;

use super::record::{self, ALIGN_BYTES, Found, HEADER_BYTES, Header, Kind, Seed};
use super::segment::{self, HeaderFound, RECORDS_AT};
use crate::consensus::ConsensusError;
use crate::consensus::wire::ENTRY_NORMAL;

/// No segment is longer than this: a longer file is refused before anything of it is read.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// Everything that the log says.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) segments: Vec<Scanned>,
    /// Index and term of the image that the log was restarted after, if it was.
    pub(crate) base: Option<(u64, u64)>,
    /// Entries after `base`, without gaps.
    pub(crate) entries: Vec<RaftEntry>,
    /// Number of the last whole batch.
    pub(crate) last_batch: u64,
    /// Where the last whole batch begins.
    pub(crate) last_from: Position,
    /// Where the last whole batch ends.
    pub(crate) end: Position,
    /// Is there anything but zeros behind `end`?
    pub(crate) needs_cut: bool,
    /// Damage to what was durable once. `end` and `entries` are those before it.
    pub(crate) rot: Option<Rot>,
}

/// A segment that was read.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) seed: Seed,
    pub(crate) max_index: u64,
    /// Behind this there are only zeros.
    pub(crate) used_bytes: u64,
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    pub(crate) segment: usize,
    pub(crate) offset: u64,
}

/// Damage to what was durable once.
#[derive(Debug)]
pub(crate) struct Rot {
    pub(crate) at: Position,
    pub(crate) what: String,
}

/// How a segment was left.
enum Left {
    /// By the record that says so: there must be a next one.
    Ended,
    /// At bytes that do not verify, or at the end of the file.
    Stopped(Stop),
}

/// Why the walk went no further.
#[derive(Debug, Clone, Copy)]
struct Stop {
    offset: u64,
    what: &'static str,
    /// No crash explains this.
    certain: bool,
}

impl Stop {
    const fn at(offset: u64, what: &'static str) -> Left {
        Left::Stopped(Self { offset, what, certain: false })
    }
}

struct Walk {
    scan: Scan,
    /// Records of the batch that is not whole yet, with the segment each stands in.
    pending: Vec<(Header, Option<RaftEntry>, usize)>,
    pending_from: Position,
    cluster: u64,
}

/// Reads all segments in `dir`.
///
/// # Errors
/// The disk's; a missing segment or a damaged segment header; a newer format.
pub(crate) fn scan(disk: &dyn Disk, dir: &Path, cluster: u64) -> Result<Scan, ConsensusError> {
    let sequences = list(disk, dir)?;
    let mut walk = Walk { scan: Scan::default(), pending: Vec::new(), pending_from: Position::default(), cluster };
    let mut stopped: Option<(usize, Stop)> = None;
    let mut evidence = Evidence::default();
    for (number, sequence) in sequences.iter().copied().enumerate() {
        let path = segment::path(dir, sequence);
        let bytes = read(disk, &path)?;
        let seed = walk.check_header(&path, sequence, &bytes)?;
        // What was set aside and never written reads as zeros.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        walk.scan.segments.push(Scanned { sequence, path, seed, max_index: 0, used_bytes: used as u64 });
        let from = match stopped {
            Some(_) => RECORDS_AT,
            None => match walk.segment(number, seed, &bytes)? {
                Left::Ended if number + 1 == sequences.len() => return Err(missing(dir, sequence + 1)),
                Left::Ended => continue,
                Left::Stopped(stop) => {
                    stopped = Some((number, stop));
                    stop.offset
                }
            },
        };
        let to = bytes.len().min(used + HEADER_BYTES);
        evidence.collect(bytes.get(from as usize..to).unwrap_or_default(), seed);
    }
    walk.judge(stopped, evidence, sequences.first().copied().unwrap_or(0));
    walk.scan.needs_cut = needs_cut(&walk.scan);
    Ok(walk.scan)
}

/// Sequence numbers in the folder; they must be consecutive.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, ConsensusError> {
    let io = |source| ConsensusError::Io { operation: "list", path: dir.display().to_string(), source };
    let sequences: Vec<u64> =
        disk.read_dir(dir).map_err(io)?.iter().filter_map(|entry| segment::sequence_of(&entry.name)).collect();
    let incomplete = |what: String| ConsensusError::Incomplete { dir: dir.display().to_string(), what };
    if sequences.is_empty() {
        return Err(incomplete("there is no log segment (log-…)".to_owned()));
    }
    for pair in sequences.windows(2) {
        if let [one, next] = pair
            && one + 1 != *next
            && !base::mutated!(Sc22GapIsTheEndOfTheLog)
        {
            return Err(missing(dir, one + 1));
        }
    }
    Ok(sequences)
}

fn missing(dir: &Path, sequence: u64) -> ConsensusError {
    let name = segment::path(Path::new(""), sequence).display().to_string();
    ConsensusError::Incomplete { dir: dir.display().to_string(), what: format!("the log segment {name} is missing") }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, ConsensusError> {
    read_file(disk, path, MAX_SEGMENT_BYTES).map_err(|source| ConsensusError::Io {
        operation: "read",
        path: path.display().to_string(),
        source,
    })
}

impl Walk {
    fn check_header(&self, path: &Path, sequence: u64, bytes: &[u8]) -> Result<Seed, ConsensusError> {
        let file = path.display().to_string();
        let rot = |what: String| ConsensusError::Rot { file: file.clone(), offset: 0, what };
        match segment::decode_header(bytes) {
            HeaderFound::Valid { cluster, .. } if cluster != self.cluster => {
                Err(rot("the segment belongs to another cluster".to_owned()))
            }
            HeaderFound::Valid { sequence: found, .. } if found != sequence => {
                Err(rot(format!("the header says that this is segment {found}")))
            }
            HeaderFound::Valid { cluster, salt, .. } => Ok(Seed { salt, cluster }),
            HeaderFound::Newer(found) => Err(ConsensusError::Newer { file, found, known: segment::VERSION }),
            HeaderFound::Damaged => Err(rot("the segment's header does not verify".to_owned())),
        }
    }

    /// Walks over the records of a segment.
    fn segment(&mut self, number: usize, seed: Seed, bytes: &[u8]) -> Result<Left, ConsensusError> {
        let mut offset = RECORDS_AT;
        if self.pending.is_empty() {
            self.scan.end = Position { segment: number, offset };
        }
        loop {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            if rest.len() < HEADER_BYTES {
                return Ok(Stop::at(offset, "the segment is cut short"));
            }
            let here = Position { segment: number, offset };
            let (header, body, size) = match record::decode(rest, seed) {
                Found::Record { header, body, size_bytes } => (header, body, size_bytes as u64),
                Found::Unknown { version, kind, flags } => {
                    return Err(self.unknown(number, offset, version, (kind, flags)));
                }
                Found::BadBody(_) => return Ok(Stop::at(offset, "a record's body does not verify")),
                Found::Nothing => return Ok(Stop::at(offset, "a record's header does not verify")),
            };
            if self.scan.last_batch != 0 && header.batch != self.expected_batch() {
                return Ok(Stop::at(offset, "a batch of records is missing before this one"));
            }
            let entry = match entry_of(header, body) {
                Ok(entry) => entry,
                // Its checksum is right, so no crash made it: it was written like this.
                Err(what) => return Ok(Left::Stopped(Stop { offset, what, certain: true })),
            };
            if let Err(what) = self.take(here, header, entry) {
                return Ok(Stop::at(offset, what));
            }
            if header.last_of_batch {
                if let Err(what) = self.apply_batch(header.batch) {
                    return Ok(Left::Stopped(Stop { offset, what, certain: true }));
                }
                self.scan.end = Position { segment: number, offset: offset + size };
            }
            offset += size;
            if header.kind == Kind::End {
                return Ok(Left::Ended);
            }
        }
    }

    const fn expected_batch(&self) -> u64 {
        self.scan.last_batch + 1
    }

    fn take(&mut self, here: Position, header: Header, entry: Option<RaftEntry>) -> Result<(), &'static str> {
        if self.pending.is_empty() {
            self.pending_from = here;
        } else if self.pending.first().is_some_and(|(first, ..)| first.batch != header.batch) {
            return Err("the end of a batch is missing before this record");
        }
        self.pending.push((header, entry, here.segment));
        Ok(())
    }

    /// The batch is whole: its records take effect.
    fn apply_batch(&mut self, batch: u64) -> Result<(), &'static str> {
        if !self.follows() {
            self.pending.clear();
            return Err("entries are missing before this batch");
        }
        let scan = &mut self.scan;
        for (header, entry, number) in self.pending.drain(..) {
            if header.kind == Kind::Restart {
                scan.base = Some((header.index, header.term));
                scan.entries.clear();
            }
            let Some(entry) = entry else { continue };
            if let Some(segment) = scan.segments.get_mut(number) {
                segment.max_index = segment.max_index.max(entry.index);
            }
            if let Some(first) = scan.entries.first().map(|e| e.index) {
                scan.entries.truncate(entry.index.saturating_sub(first) as usize);
            }
            scan.entries.push(entry);
        }
        scan.last_batch = batch;
        scan.last_from = self.pending_from;
        Ok(())
    }

    /// Do the pending entries continue the log, or overwrite its end? They may overwrite all that is left of it: what
    /// the oldest segment begins with may have been written before a new leader went back to an entry of a segment
    /// that is gone. Not what an image stands for: that was committed.
    fn follows(&self) -> bool {
        let mut first = self.scan.base.map(|(index, _)| index + 1);
        let mut next = self.scan.entries.last().map(|e| e.index + 1).or(self.scan.base.map(|(index, _)| index + 1));
        for (header, ..) in &self.pending {
            match header.kind {
                Kind::Restart => {
                    first = Some(header.index.saturating_add(1));
                    next = first;
                }
                Kind::Entry => {
                    let low = first.unwrap_or(1);
                    let high = next.unwrap_or(header.index);
                    if header.index < low || header.index > high {
                        return false;
                    }
                    next = Some(header.index.saturating_add(1));
                }
                Kind::Seal | Kind::End => {}
            }
        }
        true
    }

    /// Was what does not verify durable once?
    fn judge(&mut self, stopped: Option<(usize, Stop)>, evidence: Evidence, first_sequence: u64) {
        let whole = self.scan.last_batch != 0;
        if !self.pending.is_empty() {
            // An unfinished batch was never acknowledged.
            self.scan.end = self.pending_from;
        }
        let Some((segment, Stop { offset, what, certain })) = stopped else { return };
        // A segment is removed only after the batch that runs into the next one was synced: what the oldest of the
        // rest begins with was durable. Only the very first segment may begin with a torn batch.
        let proven = (!whole && first_sequence != 1) || evidence.highest_batch > self.expected_batch();
        if (proven || certain) && !base::mutated!(Sc19RotIsCutLikeATornTail) {
            self.scan.rot = Some(Rot { at: Position { segment, offset }, what: what.to_owned() });
        }
    }

    fn unknown(&self, number: usize, offset: u64, version: u8, (kind, flags): (u8, u8)) -> ConsensusError {
        let file = self.scan.segments.get(number).map_or_else(String::new, |s| s.path.display().to_string());
        if version > record::VERSION {
            return ConsensusError::Newer { file, found: u32::from(version), known: u32::from(record::VERSION) };
        }
        let what = format!("a record of the unknown kind {kind} with flags {flags:#04x}; a newer program wrote it");
        ConsensusError::Rot { file, offset, what }
    }
}

/// The entry in a record's body, if it is to have one.
fn entry_of(header: Header, body: &[u8]) -> Result<Option<RaftEntry>, &'static str> {
    match header.kind {
        Kind::Entry => {
            let Ok(entry) = RaftEntry::decode(body) else { return Err("an entry's body is malformed") };
            if (entry.index, entry.term) != (header.index, header.term) {
                return Err("an entry's body contradicts its header");
            }
            if entry.kind != ENTRY_NORMAL {
                return Err("an entry of an unknown kind; a newer program wrote it");
            }
            Ok(Some(entry))
        }
        Kind::Seal | Kind::Restart | Kind::End if body.is_empty() => Ok(None),
        Kind::Seal | Kind::Restart | Kind::End => Err("a marker with a body; a newer program wrote it"),
    }
}

/// What stands behind bytes that do not verify.
#[derive(Debug, Default)]
struct Evidence {
    highest_batch: u64,
}

impl Evidence {
    /// Looks for record headers at every place where one may start.
    fn collect(&mut self, bytes: &[u8], seed: Seed) {
        let mut rest = bytes;
        while rest.len() >= HEADER_BYTES {
            if record::has_magic(rest)
                && let Found::Record { header, .. } | Found::BadBody(header) = record::decode(rest, seed)
            {
                self.highest_batch = self.highest_batch.max(header.batch);
            }
            rest = rest.get(ALIGN_BYTES..).unwrap_or_default();
        }
    }
}

/// Is anything but zeros behind the end? Then it must go before the log goes on there.
fn needs_cut(scan: &Scan) -> bool {
    scan.segments.iter().enumerate().skip(scan.end.segment).any(|(number, segment)| {
        let from = if number == scan.end.segment { scan.end.offset } else { RECORDS_AT };
        segment.used_bytes > from
    })
}

/// Why a log with rot is refused.
pub(crate) fn rot_error(scan: &Scan, rot: &Rot) -> ConsensusError {
    let file = scan.segments.get(rot.at.segment).map_or_else(String::new, |s| s.path.display().to_string());
    ConsensusError::Rot { file, offset: rot.at.offset, what: rot.what.clone() }
}
