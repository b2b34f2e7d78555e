//! What can go wrong, in words that say what to do.

use std::io;

use base::two_slot::TwoSlotError;
use proto::ids::MemberId;

/// Why a member cannot be formatted or opened. Nothing is ever erased because of one of these.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The disk refused.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// The disk's answer.
        source: io::Error,
    },
    /// The folder holds no member of a cluster.
    #[error("{dir}: no namenode was formatted here; format one, or correct the folder in the configuration")]
    NotFormatted {
        /// The folder.
        dir: String,
    },
    /// Formatting was asked for in a folder that is in use.
    #[error("{dir} is not empty (it holds {found:?}); choose an empty folder, nothing was changed")]
    NotEmpty {
        /// The folder.
        dir: String,
        /// One of the names in it.
        found: String,
    },
    /// A file that must exist does not, though others of the member do (scars SC-16, SC-50).
    #[error(
        "{dir}: the file {missing:?} is missing, but {found:?} exists: this folder lost a part of a namenode. Restore the file from a copy; in a group, remove this member and add it anew with an empty folder. Nothing was changed"
    )]
    Missing {
        /// The folder.
        dir: String,
        /// What should be there.
        missing: &'static str,
        /// What is there.
        found: String,
    },
    /// Another process uses the folder.
    #[error("{dir} is in use by another process (its file \"lock\" is locked); stop that namenode first")]
    Locked {
        /// The folder.
        dir: String,
    },
    /// The folder belongs to something else than was configured.
    #[error("{dir} belongs to {kind} {found}, but {expected} was expected; correct the folder or the configuration")]
    WrongIdentity {
        /// The folder.
        dir: String,
        /// "cluster", "pool" or "member".
        kind: &'static str,
        /// What the identity file says.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// The identity or the vote file cannot be used.
    #[error(transparent)]
    TwoSlot(#[from] TwoSlotError),
    /// A record of a sealed batch, or something else that was once durable, is damaged.
    #[error(
        "{file}: damaged at offset {offset}: {what}. This was acknowledged once, so the log cannot be used without it. Restore this folder from a copy, or check the disk and put the file back; nothing was changed"
    )]
    Rot {
        /// The file.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The files are well-formed one by one, but something between them is missing.
    #[error(
        "{dir}: {what}. Acknowledged changes are missing, so this namenode does not start. Restore the folder from a copy; nothing was changed"
    )]
    Incomplete {
        /// The folder.
        dir: String,
        /// What is missing.
        what: String,
    },
    /// A newer program wrote the file.
    #[error("{file}: format version {found} is newer than this program's {known}; use the newer program")]
    Newer {
        /// The file.
        file: String,
        /// Version found.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// The settings contradict each other or the files.
    #[error("{0}")]
    BadConfig(String),
    /// An image cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Why a batch could not be made durable. The log is condemned: the member must stop (scar SC-48).
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused. What the file holds now is unknown, so nothing is tried again.
    #[error("{operation} {path}: {source}; the log is not used any more, the namenode must stop")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// The disk's answer.
        source: io::Error,
    },
    /// An earlier write failed.
    #[error("the log was condemned by an earlier disk error")]
    Condemned,
}

/// Why an image cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The disk refused.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// The disk's answer.
        source: io::Error,
    },
    /// The file is damaged or cut short.
    #[error("{file}: damaged at offset {offset}: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A newer program wrote the file.
    #[error("{file}: format version {found} is newer than this program's {known}; use the newer program")]
    Newer {
        /// The file.
        file: String,
        /// Version found.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// A newer image exists: this one is of no use.
    #[error("an image at index {newest} exists, {index} is of no use")]
    Superseded {
        /// The index asked for.
        index: u64,
        /// The newest image's.
        newest: u64,
    },
    /// There is no such image (it was superseded and removed).
    #[error("there is no image at index {index}")]
    Gone {
        /// The index asked for.
        index: u64,
    },
}

/// Why a payload was not proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This member does not lead.
    #[error("not the leader{}", hint(*.leader))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<MemberId>,
    },
    /// Too much is waiting to be committed: try again after the next committed entries.
    #[error("too many changes are waiting to be committed")]
    Busy,
    /// The payload is larger than an entry may be.
    #[error("an entry of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk has no room for any further record.
    #[error("no space left for the log")]
    NoSpace,
}

fn hint(leader: Option<MemberId>) -> String {
    leader.map_or_else(String::new, |id| format!("; {id} is"))
}

/// Why a message of a peer was refused. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It belongs to another cluster.
    #[error("message of cluster {found:?}, this is {expected}")]
    WrongCluster {
        /// What the message says.
        found: String,
        /// The cluster here.
        expected: String,
    },
    /// It is not addressed to this member, or its sender is not in the group.
    #[error("message from member {from} to member {to} does not belong here")]
    WrongMember {
        /// Sender.
        from: u64,
        /// Addressee.
        to: u64,
    },
    /// Its contents contradict themselves or the protocol.
    #[error("malformed Raft message: {0}")]
    Malformed(&'static str),
    /// The disk has no room for its entries: the leader sends them again later.
    #[error("no space left for the log")]
    NoSpace,
    /// The leader knows of entries here that this member does not have (any more).
    #[error("the leader committed index {commit}, this member's log ends at {last}")]
    LogLost {
        /// What the leader says.
        commit: u64,
        /// Last index here.
        last: u64,
    },
}
