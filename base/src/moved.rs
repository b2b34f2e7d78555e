//! Bytes that this process moved between itself and the kernel, and the calls that it took: what reading and writing cost
//! whatever the machine. The data plane is counted: files behind [`crate::disk`] and [`crate::passed`], data connections.
//!
//! A call that is made for nothing (a socket that has nothing yet) is not counted: it depends on who was faster.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// A file is opened. No bytes.
    Open,
    /// From a file.
    Read,
    /// To a file.
    Write,
    /// From a socket.
    Receive,
    /// To a socket.
    Send,
    /// From a file to a socket, without a copy in this process.
    SendFile,
}

impl Move {
    /// All of them, in the order of [`Counts`].
    pub const ALL: [Self; 6] = [Self::Open, Self::Read, Self::Write, Self::Receive, Self::Send, Self::SendFile];

    /// In metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Receive => "receive",
            Self::Send => "send",
            Self::SendFile => "sendfile",
        }
    }
    /// Do its bytes pass through this process?
    #[must_use]
    pub const fn copies(self) -> bool {
        !matches!(self, Self::Open | Self::SendFile)
    }
}

/// Calls and bytes of one kind so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Calls.
    pub calls: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What this process has moved so far, in the order of [`Move::ALL`].
pub type Counts = [Moved; Move::ALL.len()];

/// One kind, alone in its cache line: threads that send do not disturb those that read.
#[repr(align(64))]
struct Line {
    calls: AtomicU64,
    bytes: AtomicU64,
}

static LINES: [Line; Move::ALL.len()] =
    [const { Line { calls: AtomicU64::new(0), bytes: AtomicU64::new(0) } }; Move::ALL.len()];

/// Counts a call.
pub fn note(what: Move, bytes: usize) {
    let line = &LINES[what as usize];
    line.calls.fetch_add(1, Ordering::Relaxed);
    line.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// The counts so far, of all roles in this process.
#[must_use]
pub fn counts() -> Counts {
    Move::ALL.map(|what| {
        let line = &LINES[what as usize];
        Moved { calls: line.calls.load(Ordering::Relaxed), bytes: line.bytes.load(Ordering::Relaxed) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_line() {
        for (at, what) in Move::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, at);
            // Other tests of this process move bytes, too.
            let before = counts()[at];
            note(what, 1000);
            let after = counts()[at];
            assert!(after.calls > before.calls && after.bytes >= before.bytes + 1000, "{}", what.name());
        }
    }
}
