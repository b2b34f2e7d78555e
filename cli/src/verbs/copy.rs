//! The copy of one file, between this machine and the cluster and within the cluster.
//!
//! ```text
//!   put, get, cp, sync ─▶ upload | download | duplicate     a file, as a job of a transfer
//!                           │
//!                           ├─ same      is it there already? (--resume)
//!                           ├─ parts     of a long file, written side by side (put, cp, sync)
//!                           ├─ content   what is in it, as a checksum (--verify, sync --checksum)
//!                           └─ part      a download that was cut off, and goes on (get --resume)
//! ```

pub(crate) mod content;
pub(crate) mod download;
pub(crate) mod duplicate;
mod part;
mod parts;
pub(crate) mod same;
pub(crate) mod upload;

use super::failure::Failure;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was copied.
    Copied,
    /// It was there already, as a whole.
    Same,
    /// It would be copied.
    Planned,
}

/// What a copy gets of the original beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Permission bits, masked.
    #[default]
    Nothing,
    /// The same, and times.
    Times,
    /// Times, all twelve permission bits, and what else there is.
    All,
}

impl Keep {
    /// Of the flag `--preserve`.
    pub(crate) const fn of(preserve: bool) -> Self {
        if preserve { Self::All } else { Self::Nothing }
    }
}

/// A copy is not what was read of its source.
fn differs(path: &str) -> Failure {
    let text = "the copy is not what was read of its source";
    let error = client::FsError::new(client::ErrorCode::Corrupt, text).with_path(path);
    Failure::from(error.with_hint("copy it again with -f; if that is said again, suspect the machines' memory"))
}
