//! What can be made to go wrong with a disk: one description, for the disk in memory and for the machine's.
//!
//! ```text
//!   DiskFault ── which calls, on which files, the n-th ──┬─▶ MemDisk::inject          simulation, unit tests
//!             ── what happens                            └─▶ a plan file, FaultyDisk  whole processes
//! ```
//!
//! As text, a line each (see [`DiskFault::parse`]), so that a plan can be written by hand:
//!
//! ```text
//!   any hang on=/dn1/a/ from=1        every call below that folder waits until the line is gone
//!   sync fail=EIO on=blk_ at=3        the third sync of a block's file fails
//!   write tear=512 on=log-            of the next write only the first sectors are stored
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// A call of [`Disk`](super::Disk) or [`DiskFile`](super::DiskFile) that a fault may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DiskCall {
    /// Opening a file for reading.
    Open,
    /// Opening a file for writing too.
    OpenForWriting,
    /// Creating a file.
    Create,
    /// Creating a folder.
    CreateDir,
    /// Renaming.
    Rename,
    /// Removing a file.
    Remove,
    /// Making names durable.
    SyncDir,
    /// Making everything durable.
    SyncAll,
    /// Listing a folder.
    List,
    /// Looking at a name, or at a file's length.
    Info,
    /// Asking for the room.
    Space,
    /// Taking a lock.
    Lock,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Making a file's contents durable.
    Sync,
    /// Cutting or extending.
    SetLen,
    /// Setting room aside.
    Allocate,
}

/// Calls with their names in plans.
const CALLS: [(DiskCall, &str); 17] = [
    (DiskCall::Open, "open"),
    (DiskCall::OpenForWriting, "open-rw"),
    (DiskCall::Create, "create"),
    (DiskCall::CreateDir, "create-dir"),
    (DiskCall::Rename, "rename"),
    (DiskCall::Remove, "remove"),
    (DiskCall::SyncDir, "sync-dir"),
    (DiskCall::SyncAll, "sync-all"),
    (DiskCall::List, "list"),
    (DiskCall::Info, "info"),
    (DiskCall::Space, "space"),
    (DiskCall::Lock, "lock"),
    (DiskCall::Read, "read"),
    (DiskCall::Write, "write"),
    (DiskCall::Sync, "sync"),
    (DiskCall::SetLen, "set-len"),
    (DiskCall::Allocate, "allocate"),
];

impl DiskCall {
    /// The name in plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        CALLS.iter().find(|(call, _)| *call == self).map_or("any", |(_, name)| name)
    }
    const fn changes(self) -> bool {
        matches!(
            self,
            Self::OpenForWriting
                | Self::Create
                | Self::CreateDir
                | Self::Rename
                | Self::Remove
                | Self::Write
                | Self::SetLen
                | Self::Allocate
        )
    }
    const fn needs_room(self) -> bool {
        matches!(self, Self::Create | Self::CreateDir | Self::Rename | Self::Write | Self::SetLen | Self::Allocate)
    }
    const fn syncs(self) -> bool {
        matches!(self, Self::Sync | Self::SyncDir | Self::SyncAll)
    }
}

/// Kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DiskFaultKind {
    /// A sync fails, and the unsynced pages count as clean afterwards, as with real kernels (the machine's own disk is
    /// simply not asked: what a later sync makes durable there is more than a broken one would).
    SyncError,
    /// A sync (of a file or a directory) says yes and makes nothing durable.
    SyncLie,
    /// A write fails with an I/O error and writes nothing.
    WriteError,
    /// A write fails for want of room.
    NoSpace,
    /// A write says yes and is never stored.
    LostWrite,
    /// A write says yes and lands one page away.
    MisdirectedWrite,
    /// A write says yes, and only its first half is stored, up to a border of this many bytes.
    TornWrite(u32),
    /// A read fails with an I/O error.
    ReadError,
    /// A read fails because the process has no descriptor left: the disk is not at fault.
    NoDescriptor,
    /// A read returns its bytes with one bit flipped.
    ReadFlip,
    /// A read returns what was there before the last write, since the fault is there, to the same bytes.
    StaleRead,
    /// Nothing can be written, created, renamed or removed.
    ReadOnly,
    /// The call fails with an I/O error.
    Error,
    /// Whatever needs room fails for want of it: creating, renaming, growing, writing. A sync does so only where it is the
    /// call that is named: then what was written before is lost, as after any failed sync.
    Full,
    /// The call takes so many milliseconds longer.
    Delay(u32),
    /// The call does not come back until the fault is taken away; then it goes well.
    Hang,
}

/// One fault: what happens, to which files, when, and whether it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// What happens.
    pub kind: DiskFaultKind,
    /// Only this call; `None`: every call that the kind can strike.
    pub call: Option<DiskCall>,
    /// Only files whose path contains this; empty: all.
    pub path_contains: String,
    /// How many matching calls go well before it strikes.
    pub skip: u64,
    /// Does it strike every time from then on, or once?
    pub lasting: bool,
}

impl DiskFault {
    /// Strikes once, at the next matching call.
    #[must_use]
    pub fn once(kind: DiskFaultKind) -> Self {
        Self { kind, call: None, path_contains: String::new(), skip: 0, lasting: false }
    }
    /// Strikes at every matching call until it is cleared.
    #[must_use]
    pub fn lasting(kind: DiskFaultKind) -> Self {
        Self { lasting: true, ..Self::once(kind) }
    }
    /// Only files whose path contains `text`.
    #[must_use]
    pub fn on(mut self, text: &str) -> Self {
        self.path_contains = text.to_owned();
        self
    }
    /// Only this call.
    #[must_use]
    pub const fn at(mut self, call: DiskCall) -> Self {
        self.call = Some(call);
        self
    }
    /// Lets `calls` matching calls go well first.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// A line of a plan: `CALL WHAT [on=TEXT] [at=N | from=N]`.
    ///
    /// `CALL` is `any`, `open`, `open-rw`, `create`, `create-dir`, `rename`, `remove`, `sync`, `sync-dir`, `sync-all`,
    /// `list`, `info`, `space`, `lock`, `read`, `write`, `set-len` or `allocate`. `WHAT` is `fail=EIO`, `fail=ENOSPC`,
    /// `fail=EROFS`, `fail=EMFILE`, `tear=512`, `tear=4096`, `lose`, `misplace`, `flip`, `stale`, `lie`, `hang` or
    /// `delay=MS`. `at=N` strikes the N-th matching call (the first if nothing is said), `from=N` that one and all after
    /// it. Texts hold no spaces.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let call = match words.next().unwrap_or_default() {
            "any" => None,
            name => match CALLS.iter().find(|(_, known)| *known == name) {
                Some((call, _)) => Some(*call),
                None => return Err(format!("{name:?} is no call of a disk")),
            },
        };
        let mut fault = Self { call, ..Self::once(parse_kind(words.next().unwrap_or_default())?) };
        for word in words {
            let number = |text: &str| match text.parse::<u64>() {
                Ok(number @ 1..) => Ok(number - 1),
                _ => Err(format!("{text:?} is not a number from 1 on")),
            };
            match word.split_once('=') {
                Some(("on", text)) => text.clone_into(&mut fault.path_contains),
                Some(("at", text)) => fault.skip = number(text)?,
                Some(("from", text)) => (fault.skip, fault.lasting) = (number(text)?, true),
                _ => return Err(format!("{word:?} is not understood")),
            }
        }
        if CALLS.iter().any(|(call, _)| fault.strikes(*call)) {
            return Ok(fault);
        }
        Err(format!("{line:?} can never strike: that call cannot go wrong in this way"))
    }

    fn strikes(&self, call: DiskCall) -> bool {
        match self.call {
            None => strikes(self.kind, call),
            // Room that is promised at the write and found wanting at the sync: quotas, thin volumes, file systems over a net.
            Some(only) if only.syncs() && self.kind == DiskFaultKind::Full => only == call,
            Some(only) => only == call && strikes(self.kind, call),
        }
    }
    /// Can it strike a read of this file?
    #[cfg(any(test, debug_assertions))]
    pub(super) fn spoils_reads_of(&self, path: &str) -> bool {
        self.strikes(DiskCall::Read) && path.contains(&self.path_contains)
    }
}

fn parse_kind(word: &str) -> Result<DiskFaultKind, String> {
    use DiskFaultKind as Kind;
    let unknown = || format!("{word:?} is nothing that a disk does wrong");
    Ok(match word.split_once('=').unwrap_or((word, "")) {
        ("fail", "EIO") => Kind::Error,
        ("fail", "ENOSPC") => Kind::Full,
        ("fail", "EROFS") => Kind::ReadOnly,
        ("fail", "EMFILE") => Kind::NoDescriptor,
        ("tear", "512") => Kind::TornWrite(512),
        ("tear", "4096") => Kind::TornWrite(4096),
        ("lose", "") => Kind::LostWrite,
        ("misplace", "") => Kind::MisdirectedWrite,
        ("flip", "") => Kind::ReadFlip,
        ("stale", "") => Kind::StaleRead,
        ("lie", "") => Kind::SyncLie,
        ("hang", "") => Kind::Hang,
        ("delay", ms) => Kind::Delay(ms.parse().ok().ok_or_else(unknown)?),
        _ => return Err(unknown()),
    })
}

/// As a line of a plan. The kinds that are `fail=EIO` or `fail=ENOSPC` of certain calls only must name their call.
impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use DiskFaultKind as Kind;
        let implied = match self.kind {
            Kind::SyncError => Some(DiskCall::Sync),
            Kind::WriteError | Kind::NoSpace => Some(DiskCall::Write),
            Kind::ReadError => Some(DiskCall::Read),
            _ => None,
        };
        write!(f, "{} ", self.call.or(implied).map_or("any", DiskCall::name))?;
        match self.kind {
            Kind::SyncError | Kind::WriteError | Kind::ReadError | Kind::Error => f.write_str("fail=EIO")?,
            Kind::NoSpace | Kind::Full => f.write_str("fail=ENOSPC")?,
            Kind::ReadOnly => f.write_str("fail=EROFS")?,
            Kind::NoDescriptor => f.write_str("fail=EMFILE")?,
            Kind::TornWrite(unit) => write!(f, "tear={unit}")?,
            Kind::LostWrite => f.write_str("lose")?,
            Kind::MisdirectedWrite => f.write_str("misplace")?,
            Kind::ReadFlip => f.write_str("flip")?,
            Kind::StaleRead => f.write_str("stale")?,
            Kind::SyncLie => f.write_str("lie")?,
            Kind::Hang => f.write_str("hang")?,
            Kind::Delay(ms) => write!(f, "delay={ms}")?,
        }
        if !self.path_contains.is_empty() {
            write!(f, " on={}", self.path_contains)?;
        }
        write!(f, " {}={}", if self.lasting { "from" } else { "at" }, self.skip + 1)
    }
}

fn strikes(kind: DiskFaultKind, call: DiskCall) -> bool {
    use DiskFaultKind as Kind;
    match kind {
        Kind::SyncError | Kind::SyncLie => call.syncs(),
        Kind::WriteError | Kind::NoSpace | Kind::LostWrite | Kind::MisdirectedWrite | Kind::TornWrite(_) => {
            call == DiskCall::Write
        }
        Kind::ReadError | Kind::NoDescriptor | Kind::ReadFlip | Kind::StaleRead => call == DiskCall::Read,
        Kind::ReadOnly => call.changes(),
        Kind::Full => call.needs_room(),
        Kind::Error | Kind::Delay(_) | Kind::Hang => true,
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Verdict {
    Proceed,
    Fail(io::Error),
    Lose,
    Misdirect,
    Flip,
    Stale,
    /// Only what lies before a border of so many bytes in the middle.
    Tear(u64),
    Delay(Duration),
    /// Until the fault of this number is gone.
    Hang(u64),
}

fn verdict(kind: DiskFaultKind, number: u64) -> Verdict {
    use DiskFaultKind as Kind;
    let fail = |errno: Errno| Verdict::Fail(io::Error::from_raw_os_error(errno.raw_os_error()));
    match kind {
        Kind::SyncError | Kind::WriteError | Kind::ReadError | Kind::Error => fail(Errno::IO),
        Kind::NoDescriptor => fail(Errno::MFILE),
        Kind::NoSpace | Kind::Full => fail(Errno::NOSPC),
        Kind::ReadOnly => fail(Errno::ROFS),
        Kind::SyncLie | Kind::LostWrite => Verdict::Lose,
        Kind::MisdirectedWrite => Verdict::Misdirect,
        Kind::TornWrite(unit) => Verdict::Tear(u64::from(unit.max(1))),
        Kind::ReadFlip => Verdict::Flip,
        Kind::StaleRead => Verdict::Stale,
        Kind::Delay(ms) => Verdict::Delay(Duration::from_millis(u64::from(ms))),
        Kind::Hang => Verdict::Hang(number),
    }
}

/// How many of `len` bytes at `offset` a write stores that is torn at a border of `unit` bytes.
pub(super) fn torn(offset_bytes: u64, len: usize, unit_bytes: u64) -> usize {
    let middle = offset_bytes + len as u64 / 2;
    let border = middle - middle % unit_bytes;
    usize::try_from(border.saturating_sub(offset_bytes)).unwrap_or(len).min(len)
}

/// A fault that waits for its call.
#[derive(Debug)]
struct Waiting {
    number: u64,
    fault: DiskFault,
    /// Matching calls that still go well.
    left: u64,
    /// A hang that struck once: it is kept until it is taken away, because its call waits for that.
    spent: bool,
}

/// Writes that are kept for stale reads, of each file, and the longest of them.
const MAX_KEPT: usize = 256;
const MAX_KEPT_BYTES: usize = 1 << 20;

/// The faults of a disk.
#[derive(Debug, Default)]
pub(super) struct Faults {
    waiting: Vec<Waiting>,
    fired: u64,
    last_number: u64,
    /// What was at a place of a file before it was written, oldest first.
    before: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
}

impl Faults {
    pub(super) fn push(&mut self, fault: DiskFault) {
        self.last_number += 1;
        let left = fault.skip;
        self.waiting.push(Waiting { number: self.last_number, fault, left, spent: false });
    }
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.before.clear();
    }
    /// Puts a new plan in the place of the old one. Faults that are in both go on where they are, and those that struck
    /// for the last time do not strike again.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn replace(&mut self, plan: &[DiskFault], known: &[DiskFault]) {
        let mut known: Vec<&DiskFault> = known.iter().collect();
        let mut stay = Vec::new();
        let mut fresh = Vec::new();
        for fault in plan {
            match known.iter().position(|one| *one == fault) {
                Some(at) => stay.push(known.swap_remove(at).clone()),
                None => fresh.push(fault.clone()),
            }
        }
        self.waiting.retain(|waiting| match stay.iter().position(|fault| *fault == waiting.fault) {
            Some(at) => {
                stay.swap_remove(at);
                true
            }
            None => false,
        });
        fresh.into_iter().for_each(|fault| self.push(fault));
        let keeping = |path: &String| self.waiting.iter().any(|waiting| keeps(waiting, path));
        let gone: Vec<String> = self.before.keys().filter(|path| !keeping(path)).cloned().collect();
        gone.iter().for_each(|path| drop(self.before.remove(path)));
    }
    pub(super) const fn fired(&self) -> u64 {
        self.fired
    }
    /// Does the fault of this number still wait, or last?
    pub(super) fn is_there(&self, number: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.number == number)
    }
    /// Can any fault strike a read of this file?
    #[cfg(any(test, debug_assertions))]
    pub(super) fn spoil_reads_of(&self, path: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.fault.spoils_reads_of(path))
    }

    /// What becomes of this call.
    pub(super) fn judge(&mut self, call: DiskCall, path: &str) -> Verdict {
        for at in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.get_mut(at) else { break };
            let Waiting { number, fault, left, spent } = waiting;
            if *spent || !fault.strikes(call) || !path.contains(&fault.path_contains) {
                continue;
            }
            // Nothing is stale before something was written.
            if fault.kind == DiskFaultKind::StaleRead && !self.before.contains_key(path) {
                continue;
            }
            if *left > 0 {
                *left -= 1;
                continue;
            }
            let verdict = verdict(fault.kind, *number);
            if !fault.lasting {
                if fault.kind == DiskFaultKind::Hang {
                    *spent = true;
                } else {
                    self.waiting.remove(at);
                }
            }
            self.fired += 1;
            return verdict;
        }
        Verdict::Proceed
    }

    /// Are the bytes to be noted that a write to this file replaces?
    pub(super) fn keep_before(&self, path: &str) -> bool {
        self.waiting.iter().any(|waiting| keeps(waiting, path))
    }
    /// Notes what a write is about to replace.
    pub(super) fn note_before(&mut self, path: &str, offset_bytes: u64, bytes: Vec<u8>) {
        if bytes.len() > MAX_KEPT_BYTES {
            return;
        }
        let kept = self.before.entry(path.to_owned()).or_default();
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push((offset_bytes, bytes));
    }
    /// Makes what was read what it was before.
    pub(super) fn make_stale(&self, path: &str, offset_bytes: u64, buffer: &mut [u8]) {
        for (at_bytes, old) in self.before.get(path).into_iter().flatten() {
            let end_bytes = offset_bytes + buffer.len() as u64;
            let (from, to) = (offset_bytes.max(*at_bytes), end_bytes.min(at_bytes + old.len() as u64));
            if from < to {
                let (len, target) = ((to - from) as usize, (from - offset_bytes) as usize);
                let source = (from - at_bytes) as usize;
                buffer[target..target + len].copy_from_slice(&old[source..source + len]);
            }
        }
    }
}

fn keeps(waiting: &Waiting, path: &str) -> bool {
    waiting.fault.kind == DiskFaultKind::StaleRead && path.contains(&waiting.fault.path_contains)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_line_of_a_plan_and_back() {
        use DiskFaultKind as Kind;
        let kinds = [
            Kind::Error,
            Kind::Full,
            Kind::ReadOnly,
            Kind::NoDescriptor,
            Kind::TornWrite(512),
            Kind::TornWrite(4096),
            Kind::LostWrite,
            Kind::MisdirectedWrite,
            Kind::ReadFlip,
            Kind::StaleRead,
            Kind::SyncLie,
            Kind::Hang,
            Kind::Delay(250),
        ];
        for kind in kinds {
            for fault in [DiskFault::once(kind), DiskFault::lasting(kind).on("/d1/").after(2)] {
                assert_eq!(DiskFault::parse(&fault.to_string()), Ok(fault.clone()), "{fault}");
            }
        }
        let sync = DiskFault::parse("sync fail=EIO on=blk_ at=3").unwrap();
        assert_eq!(sync, DiskFault::once(Kind::Error).at(DiskCall::Sync).on("blk_").after(2));
    }

    #[test]
    fn lines_that_mean_nothing_or_can_never_strike_are_refused() {
        for line in [
            "",
            "any",
            "hang",
            "sync fail=EWHAT",
            "write tear=7",
            "any delay=soon",
            "any hang at=0",
            "any hang often",
            "write flip",
            "read lie",
            "sync lose",
        ] {
            assert!(DiskFault::parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_plan_that_changes_keeps_the_counts_of_what_stays() {
        let third = DiskFault::once(DiskFaultKind::WriteError).after(2);
        let other = DiskFault::lasting(DiskFaultKind::ReadError);
        let mut faults = Faults::default();
        faults.replace(std::slice::from_ref(&third), &[]);
        let struck = |faults: &mut Faults, call| !matches!(faults.judge(call, "/f"), Verdict::Proceed);
        assert!(!struck(&mut faults, DiskCall::Write));
        faults.replace(&[third.clone(), other.clone()], std::slice::from_ref(&third));
        assert!(!struck(&mut faults, DiskCall::Write));
        assert!(struck(&mut faults, DiskCall::Write), "the third one");
        faults.replace(std::slice::from_ref(&third), &[third.clone(), other]);
        assert!(!struck(&mut faults, DiskCall::Read), "taken away");
        assert!((0..5).all(|_| !struck(&mut faults, DiskCall::Write)), "what struck once is over");
        faults.replace(&[], std::slice::from_ref(&third));
        faults.replace(&[third], &[]);
        assert!((0..3).any(|_| struck(&mut faults, DiskCall::Write)), "taken out and put in again, it is new");
    }

    #[test]
    fn a_torn_write_ends_at_a_border() {
        assert_eq!([torn(0, 4096, 512), torn(100, 2000, 512), torn(0, 4096, 4096)], [2048, 924, 0]);
        assert_eq!([torn(4096, 8192, 4096), torn(10, 20, 512)], [4096, 0]);
    }
}
