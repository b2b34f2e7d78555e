//! Why the store refuses.

use std::io;
use std::path::Path;

use base::two_slot::{SlotFailure, TwoSlotError};
use proto::ids::{BlockId, GenerationStamp, StorageId};
use transfer::Status;

/// A refusal of the block store. Paths and ids are fields; causes are in the chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No volume has room for the block.
    #[error("no room: {wanted_bytes} bytes wanted, {room_bytes} usable; delete files or add a disk")]
    NoSpace {
        /// What the writer announced.
        wanted_bytes: u64,
        /// What could still be promised.
        room_bytes: u64,
    },
    /// The volume is out of service.
    #[error("storage {storage} is out of service: {reason}")]
    VolumeFailed {
        /// Its id.
        storage: StorageId,
        /// Why it was taken out.
        reason: String,
    },
    /// This node has no such storage, or none at all that works.
    #[error("this node has no working storage {0}")]
    NoStorage(String),
    /// The node has not joined a cluster yet.
    #[error("this node has not registered with a namenode yet")]
    NotRegistered,
    /// Another pool than this node's.
    #[error("pool {0} is not this node's")]
    WrongPool(String),
    /// No such replica.
    #[error("{0}: no replica on this node")]
    NotFound(BlockId),
    /// No such replica on the disks that are in use, and others of this node were left out when it was started.
    #[error("{0}: no replica on the disks in use, but {1} of this node's disks was left out at its start")]
    NotOnDisksInUse(BlockId, usize),
    /// There is one already.
    #[error("{0}: a replica exists on this node")]
    Exists(BlockId),
    /// The caller knows another generation of the block.
    #[error("{id}: replica has {found}, the caller says {sent}")]
    StaleStamp {
        /// The block.
        id: BlockId,
        /// Stamp of the replica.
        found: GenerationStamp,
        /// Stamp of the caller.
        sent: GenerationStamp,
    },
    /// The replica is not finalised: half-written, damaged, or still being written.
    #[error("{id}: replica is {state} and is not served")]
    NotWhole {
        /// The block.
        id: BlockId,
        /// State in words.
        state: &'static str,
    },
    /// A range beyond the replica.
    #[error("{id}: bytes {offset_bytes}+{len_bytes} are beyond the replica's {replica_bytes}")]
    OutOfRange {
        /// The block.
        id: BlockId,
        /// First byte wanted.
        offset_bytes: u64,
        /// Bytes wanted.
        len_bytes: u64,
        /// Bytes there.
        replica_bytes: u64,
    },
    /// Packets that do not continue the replica.
    #[error("{id}: packet at {offset_bytes} does not continue a replica of {replica_bytes} bytes on a chunk border")]
    NotContinuous {
        /// The block.
        id: BlockId,
        /// Where the packet starts.
        offset_bytes: u64,
        /// Bytes there.
        replica_bytes: u64,
    },
    /// Data without the checksums that the set-up announced.
    #[error("{0}: data and checksums do not belong together")]
    Checksums(BlockId),
    /// Leaves of a digest that are not one for each segment.
    #[error("{id}: {leaves} leaves of a digest do not fit {replica_bytes} bytes: the sender is not of this release")]
    Leaves {
        /// The block.
        id: BlockId,
        /// Leaves that came.
        leaves: u64,
        /// Bytes there.
        replica_bytes: u64,
    },
    /// The replica changed while it was read whole.
    #[error("{0}: the replica changed while it was read: ask again")]
    Changed(BlockId),
    /// The replica was removed while it was written.
    #[error("{0}: the replica was deleted while it was being written")]
    Removed(BlockId),
    /// Somebody with a higher stamp has taken the replica over: its writer is done.
    #[error("{0}: another writer or a recovery has taken the replica over")]
    Superseded(BlockId),
    /// The writer of a replica does not leave it: it waits for the disk.
    #[error("{0}: the writer of the replica waits for the disk and cannot be stopped now")]
    Busy(BlockId),
    /// A recovery has shut out every writer but those that come after it.
    #[error("{id}: a recovery to {fence} is under way, and {sent} may not change the replica")]
    Fenced {
        /// The block.
        id: BlockId,
        /// Stamp of the recovery.
        fence: GenerationStamp,
        /// Stamp of the caller.
        sent: GenerationStamp,
    },
    /// The replica is shorter or longer than its writer knows.
    #[error("{id}: the replica has {found_bytes} bytes, its writer knows of {min_bytes} to {max_bytes}")]
    WrongLength {
        /// The block.
        id: BlockId,
        /// Bytes there.
        found_bytes: u64,
        /// Fewest that would do.
        min_bytes: u64,
        /// Most that would do.
        max_bytes: u64,
    },
    /// Bytes that were sent before came again, and are others.
    #[error("{id}: bytes from {offset_bytes} on were sent again and are not those that were stored")]
    Differs {
        /// The block.
        id: BlockId,
        /// Where the packet starts.
        offset_bytes: u64,
    },
    /// A disk call failed.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Something could not be made durable, whatever the reason: what was written since the last good sync is not to be
    /// believed, and no second sync proves it (SC-48).
    #[error("sync {path}")]
    Sync {
        /// What.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// An identity or term file cannot be used.
    #[error(transparent)]
    Identity(#[from] TwoSlotError),
    /// A volume that must not be touched.
    #[error("{path}: {problem}")]
    Refused {
        /// The volume.
        path: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Volumes or namenodes of different clusters.
    #[error("{what} belongs to {found}, this node to {expected}; nothing was changed")]
    WrongCluster {
        /// What does not fit.
        what: String,
        /// Where it belongs.
        found: String,
        /// Where the node belongs.
        expected: String,
    },
}

impl StoreError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.display().to_string(), source }
    }
    /// A sync of a file failed.
    pub(crate) fn sync(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Sync { path: path.display().to_string(), source }
    }
    /// A sync of a folder failed. It has to be opened first: without a descriptor nothing was synced, and nothing was lost.
    pub(crate) fn sync_names(folder: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match wants_descriptors(&source) {
            true => Self::io("open", folder)(source),
            false => Self::sync(folder)(source),
        }
    }
    /// A small file of two slots did not take a value.
    pub(crate) fn slot(path: &Path) -> impl FnOnce(SlotFailure) -> Self {
        move |failure| match failure {
            SlotFailure::Write(source) => Self::io("write", path)(source),
            SlotFailure::Sync(source) => Self::sync(path)(source),
        }
    }
    /// Is it only that the disk is full? Not if it said so at a sync: then what was written before is lost.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
    /// Is it only that the process or the machine has no descriptor or memory left?
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Identity(TwoSlotError::Io { source, .. }) => is_exhausted(source),
            _ => false,
        }
    }
    /// As a status on the wire.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Exists(_) => Status::ErrorExists,
            Self::NotContinuous { .. } | Self::OutOfRange { .. } | Self::Leaves { .. } => Status::ErrorInvalid,
            Self::Checksums(_) => Status::ErrorChecksum,
            _ => Status::Error,
        }
    }
}

/// The process or the machine has no descriptor left.
pub(crate) fn wants_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The process or the machine has no descriptor or memory left: nothing was done, and the disk is not at fault.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    wants_descriptors(error) || error.raw_os_error() == Some(Errno::NOMEM.raw_os_error())
}

/// The file system takes no writes: it was mounted so, or became so after an error.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Full disks are refused cleanly; every other failed write condemns its volume, and so does every failed sync.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
