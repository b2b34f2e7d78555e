//! What can be made to go wrong with a disk in memory.

use std::io;

/// Kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DiskFaultKind {
    /// A sync fails, and the unsynced pages count as clean afterwards, as with real kernels.
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
    /// A read fails with an I/O error.
    ReadError,
    /// A read fails because the process has no descriptor left: the disk is not at fault.
    NoDescriptor,
    /// A read returns its bytes with one bit flipped.
    ReadFlip,
    /// Nothing can be written, created, renamed or removed.
    ReadOnly,
}

/// One fault: what happens, to which files, when, and whether it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// What happens.
    pub kind: DiskFaultKind,
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
        Self { kind, path_contains: String::new(), skip: 0, lasting: false }
    }
    /// Strikes at every matching call until it is cleared.
    #[must_use]
    pub fn lasting(kind: DiskFaultKind) -> Self {
        Self { kind, path_contains: String::new(), skip: 0, lasting: true }
    }
    /// Only files whose path contains `text`.
    #[must_use]
    pub fn on(mut self, text: &str) -> Self {
        self.path_contains = text.to_owned();
        self
    }
    /// Lets `calls` matching calls go well first.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
    Sync,
    OpenForWriting,
    /// A durable step of any kind: create, rename, remove, lengths, syncs.
    Change,
}

#[derive(Debug)]
pub(super) enum Verdict {
    Proceed,
    Fail(io::Error),
    Lose,
    Misdirect,
    Flip,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    waiting: Vec<DiskFault>,
    fired: u64,
}

impl Faults {
    pub(super) fn push(&mut self, fault: DiskFault) {
        self.waiting.push(fault);
    }
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
    pub(super) fn fired(&self) -> u64 {
        self.fired
    }

    pub(super) fn judge(&mut self, operation: Operation, path: &str) -> Verdict {
        let mut at = 0;
        while let Some(fault) = self.waiting.get_mut(at) {
            if !strikes(fault.kind, operation) || !path.contains(&fault.path_contains) {
                at += 1;
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                at += 1;
                continue;
            }
            let kind = fault.kind;
            if !fault.lasting {
                self.waiting.remove(at);
            }
            self.fired += 1;
            return verdict(kind);
        }
        Verdict::Proceed
    }
}

fn strikes(kind: DiskFaultKind, operation: Operation) -> bool {
    use DiskFaultKind as Kind;
    match kind {
        Kind::SyncError | Kind::SyncLie => operation == Operation::Sync,
        Kind::WriteError | Kind::NoSpace | Kind::LostWrite | Kind::MisdirectedWrite => operation == Operation::Write,
        Kind::ReadError | Kind::NoDescriptor | Kind::ReadFlip => operation == Operation::Read,
        Kind::ReadOnly => operation != Operation::Read && operation != Operation::Sync,
    }
}

fn verdict(kind: DiskFaultKind) -> Verdict {
    use DiskFaultKind as Kind;
    match kind {
        Kind::SyncError | Kind::WriteError | Kind::ReadError => {
            Verdict::Fail(io::Error::other("input/output error (simulated)"))
        }
        Kind::NoDescriptor => Verdict::Fail(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error())),
        Kind::NoSpace => Verdict::Fail(io::ErrorKind::StorageFull.into()),
        Kind::ReadOnly => Verdict::Fail(io::ErrorKind::ReadOnlyFilesystem.into()),
        Kind::SyncLie | Kind::LostWrite => Verdict::Lose,
        Kind::MisdirectedWrite => Verdict::Misdirect,
        Kind::ReadFlip => Verdict::Flip,
    }
}
