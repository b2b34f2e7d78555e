//! What goes in and comes out of the namespace besides commands: outcomes, block effects, views.

use bytes::Bytes;
use proto::error::FsResult;
use proto::ids::{BlockId, ClusterId, GenerationStamp, InodeId, LeaseEpoch, NodeId, PoolId, SessionId, StorageId};
use proto::namespace::FileStatus;

/// Highest version of the command set that this build can apply ([`proto::log::Entry::version`]).
pub const COMMAND_SET_VERSION: u32 = 8;

/// Number of a storage in the replicated registry, from 0, never reused; below 2^24.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StorageIndex(pub u32);

/// A storage as the registry knows it. Addresses are not in it: they are soft state of the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StorageRecord {
    /// The storage.
    pub storage: StorageId,
    /// The node that it belongs to, for good.
    pub node: NodeId,
    /// Kind of medium, as the node said (`DISK`, `SSD`).
    pub media: String,
    /// Rack of the node, a path such as `/default-rack`.
    pub rack: String,
}

/// Names of the cluster, fixed at format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its block pool.
    pub pool: PoolId,
    /// The user that formatted.
    pub superuser: String,
}

/// A key from which block tokens are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockKey {
    /// Number, ascending.
    pub number: u32,
    /// The secret.
    pub key: Bytes,
}

/// What one command did. There is exactly one for each command of an entry, in order.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// What the caller is told.
    pub result: FsResult<Outcome>,
    /// What the block map must take over, in order. Empty on a refusal and on a replayed answer.
    pub effects: Vec<BlockEffect>,
    /// Answered from the session's remembered outcomes: nothing changed this time.
    pub replayed: bool,
    /// The session was asked whether it knows the call: the result is the call's, whichever attempt brought it. False
    /// for refusals before that, and for commands without a session.
    pub looked_up: bool,
    /// Refused only because the tree of this inode is too large for its rights to be checked in one step: the leader
    /// checks them in several, and proposes the command again, with that it has.
    pub unchecked: Option<InodeId>,
}

/// The result of a successful command.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// The directory, new or already there.
    Mkdir(FileStatus),
    /// A file under construction.
    Create {
        /// The new inode.
        inode: InodeId,
        /// The lease that every later call for this inode must show.
        lease_epoch: LeaseEpoch,
        /// The first block, if the command asked for it.
        first_block: Option<NewBlock>,
        /// The file as it would be listed.
        status: FileStatus,
    },
    /// A further block.
    AddBlock(NewBlock),
    /// The file, closed and visible.
    Complete(FileStatus),
    /// What a delete took out of the tree.
    Deleted {
        /// Files.
        files: u64,
        /// Directories, the named one included.
        directories: u64,
    },
    /// One bounded step of reclaiming.
    Reclaimed {
        /// Inodes that still wait.
        pending: u64,
    },
    /// A storage is in the registry.
    StorageRegistered(StorageIndex),
    /// What was changed or made, as it is now.
    Status(FileStatus),
    /// What was made is called this.
    Named(String),
    /// A stamp is reserved for the open last block of a file.
    NewStamp {
        /// It.
        stamp: GenerationStamp,
        /// Storages that the leader chose beside those of the pipeline.
        more: Vec<StorageIndex>,
    },
    /// A closed file is open for writing at its end.
    Appending {
        /// The file.
        inode: InodeId,
        /// The lease that every later call for this inode must show.
        lease_epoch: LeaseEpoch,
        /// The file as of this step.
        status: FileStatus,
        /// Its last block, if it has room.
        last: Option<ReopenedBlock>,
    },
    /// A file was cut; or its last block must be recovered first, by its replicas.
    Truncated {
        /// The file.
        status: FileStatus,
        /// Nothing is left to do.
        done: bool,
    },
    /// A file is taken from its writer.
    Recovering {
        /// The file.
        status: FileStatus,
        /// It is closed; else the replicas of its last block are asked first.
        closed: bool,
    },
}

/// A finished block that may be written again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReopenedBlock {
    /// Its id.
    pub block: BlockId,
    /// The stamp of its replicas.
    pub stamp: GenerationStamp,
    /// Reserved for the pipeline that goes on.
    pub new_stamp: GenerationStamp,
    /// Its length: no byte of it may be lost.
    pub len_bytes: u64,
    /// Where it begins in its file.
    pub offset_bytes: u64,
    /// Most bytes that it may hold.
    pub block_size_bytes: u64,
    /// Copies wanted.
    pub replication: u32,
    /// Storages that hold it, as far as the log knows, and then those that the leader knew beside them.
    pub storages: Vec<StorageIndex>,
}

/// A block that was just allocated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewBlock {
    /// Its id.
    pub block: BlockId,
    /// Its stamp.
    pub stamp: GenerationStamp,
    /// Where it begins in its file.
    pub offset_bytes: u64,
    /// Copies wanted.
    pub replication: u32,
    /// Most bytes that it may hold.
    pub block_size_bytes: u64,
    /// Where the leader placed it.
    pub storages: Vec<StorageIndex>,
}

/// A change of the set of blocks, for the block map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlockEffect {
    /// A block is under construction.
    Allocated {
        /// The block.
        block: BlockId,
        /// Its stamp.
        stamp: GenerationStamp,
        /// Copies wanted.
        replication: u32,
        /// Where the leader placed it; nothing is known to be there yet.
        storages: Vec<StorageIndex>,
    },
    /// A block has its final length.
    Committed {
        /// The block.
        block: BlockId,
        /// Its stamp.
        stamp: GenerationStamp,
        /// Its length.
        len_bytes: u64,
        /// Copies wanted.
        replication: u32,
        /// Storages whose receipts the leader has checked.
        storages: Vec<StorageIndex>,
    },
    /// An open block has a new pipeline: replicas of older stamps count for nothing any more.
    Restamped {
        /// The block.
        block: BlockId,
        /// Its stamp from now on.
        stamp: GenerationStamp,
        /// Copies wanted.
        replication: u32,
        /// The pipeline; nothing is proven of it.
        storages: Vec<StorageIndex>,
    },
    /// A finished block is open again (append, truncate): its replicas are about to change, and are not judged meanwhile.
    Reopened {
        /// The block.
        block: BlockId,
        /// The stamp at which it was finished, and is until it is restamped.
        stamp: GenerationStamp,
        /// The length that it keeps at least.
        len_bytes: u64,
        /// The length at which it was finished: that of its replicas.
        finished_bytes: u64,
        /// Copies wanted.
        replication: u32,
        /// Storages in the log.
        storages: Vec<StorageIndex>,
    },
    /// Another number of copies is wanted.
    Replicated {
        /// The block.
        block: BlockId,
        /// Copies wanted.
        replication: u32,
    },
    /// No file names the block any more: its replicas may go.
    Freed {
        /// The block.
        block: BlockId,
        /// Its last stamp.
        stamp: GenerationStamp,
        /// Its committed length; what it held at least if it was open.
        len_bytes: u64,
        /// Had it its final length?
        committed: bool,
    },
}

/// What of a block concerns its replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockState {
    /// Its stamp.
    pub stamp: GenerationStamp,
    /// Its committed length. While it is open, what it holds at least: 0 for a new one.
    pub len_bytes: u64,
    /// Has it its final length?
    pub committed: bool,
    /// Copies wanted.
    pub replication: u32,
    /// It was finished before, is open again, and no pipeline was logged since.
    pub untouched: bool,
}

/// A block as the namespace knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockView {
    /// Its id.
    pub block: BlockId,
    /// Its stamp.
    pub stamp: GenerationStamp,
    /// Its committed length. While it is open, what it holds at least: 0 for a new one.
    pub len_bytes: u64,
    /// Has it its final length?
    pub committed: bool,
    /// Copies wanted.
    pub replication: u32,
    /// The file that it belongs to.
    pub inode: InodeId,
    /// Where it begins in that file.
    pub offset_bytes: u64,
    /// Storages in the log: while it is open its pipeline, first node first (of a block that was reopened, until its
    /// pipeline stands: the proven copies of before); proven copies once committed.
    pub storages: Vec<StorageIndex>,
    /// It was finished before, is open again, and no pipeline was logged since: nothing beyond `len_bytes` was
    /// acknowledged to anybody.
    pub untouched: bool,
    /// Start of the root of its digest, if its writer made one.
    pub digest: Option<[u8; 16]>,
}

/// A file for reading.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenFile {
    /// The file.
    pub status: FileStatus,
    /// Its blocks in the range that was asked for, in order. `committed` says of each whether its length is final, as far
    /// as readers are concerned. The last block of a file that is being written is there too, if the range reaches to
    /// where it begins or beyond: it is not committed, and how much of it can be seen its replicas know (`len_bytes` at
    /// least). A snapshot has final lengths only; so has a block that a truncate makes shorter.
    pub blocks: Vec<BlockView>,
}

/// A file for writing, as the leader looks at it before it chooses targets.
#[derive(Clone, PartialEq, Debug)]
pub struct WriteView {
    /// The file.
    pub inode: InodeId,
    /// Most bytes of a block.
    pub block_size_bytes: u64,
    /// Copies wanted.
    pub replication: u32,
    /// Number of its blocks.
    pub blocks: u64,
    /// Its visible bytes: those of committed blocks, and what its open last block holds at least.
    pub len_bytes: u64,
    /// Its last block.
    pub last_block: Option<BlockView>,
    /// Reserved for its open last block by `NewStamp` or `Append`, and not in force yet.
    pub reserved_stamp: Option<GenerationStamp>,
    /// Storages that its writer was offered for the open last block since its pipeline was logged.
    pub offered: Vec<StorageIndex>,
    /// Not in the tree before it is published or complete.
    pub unpublished: bool,
}

/// A file under construction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenLease {
    /// The file.
    pub inode: InodeId,
    /// The lease in force.
    pub lease_epoch: LeaseEpoch,
    /// Who writes; `None` if the file is being recovered, if the writer is gone (in logs before version 4, which left it
    /// at that), or writes without a session.
    pub session: Option<SessionId>,
    /// Not in the tree before it is published or complete.
    pub unpublished: bool,
    /// Reserved for its open last block, and not in force yet. During a recovery: that of the recovery.
    pub reserved_stamp: Option<GenerationStamp>,
    /// Nobody writes it: the replicas of its last block are to be asked, and `FinishRecovery` closes it.
    pub recovery: Option<Recovery>,
}

/// The recovery of a file's last block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Its stamp: each `BeginRecovery` gives a higher one, and only the last one counts.
    pub stamp: GenerationStamp,
    /// Of a truncate: the length that the block must get, which is also what it shows by now. Replicas that are longer
    /// are cut.
    pub target_len_bytes: Option<u64>,
    /// A superuser said that what does not answer is lost: the best of what is left is taken.
    pub accept_loss: bool,
}

/// A file under construction with all that a recovery, or somebody who lists leases, asks of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseView {
    /// Who writes, and under which lease.
    pub lease: OpenLease,
    /// Its path; of an unpublished file where it will appear. Empty if only snapshots hold it, or if the directory of an
    /// unpublished file is gone.
    pub path: String,
    /// Its owner.
    pub owner: String,
    /// Its visible bytes, as in [`WriteView`].
    pub len_bytes: u64,
    /// Most bytes of a block.
    pub block_size_bytes: u64,
    /// Its last block, whether open or not.
    pub last_block: Option<BlockView>,
}

/// Numbers of the whole namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Files in the tree.
    pub files: u64,
    /// Directories in the tree, the root included.
    pub directories: u64,
    /// Symbolic links in the tree.
    pub symlinks: u64,
    /// Blocks that some inode holds, those of unlinked trees included until they are reclaimed.
    pub blocks: u64,
    /// Files under construction, those in unlinked trees included until they are reclaimed.
    pub open_files: u64,
    /// Inodes of unlinked trees that wait to be reclaimed.
    pub reclaim_pending: u64,
    /// Sessions with remembered outcomes.
    pub sessions: u64,
}

/// Why an image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The bytes could not be read or written.
    #[error("image: {0}")]
    Io(#[from] std::io::Error),
    /// The bytes are not an image, are damaged, or contradict themselves.
    #[error("image is damaged: {what} (section {section}, byte {offset})")]
    Damaged {
        /// What is wrong.
        what: String,
        /// Kind of the section.
        section: u32,
        /// Where the section begins in the body.
        offset: u64,
    },
    /// A version of the format that this build does not know.
    #[error("image has format version {found}, this build reads {known}: start a newer build")]
    Version {
        /// In the image.
        found: u32,
        /// Highest known.
        known: u32,
    },
}
