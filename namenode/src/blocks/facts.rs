//! What the block map asks of the namespace: a narrow view, so that its tests need no namespace.

use proto::ids::{BlockId, GenerationStamp};

use super::registry::StorageIndex;

/// What the namespace knows of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Current stamp.
    pub stamp: GenerationStamp,
    /// Final length; meaningful once committed.
    pub len_bytes: u64,
    /// Is length and stamp final? An open block has neither good nor bad replicas.
    pub committed: bool,
    /// Nodes that shall hold it.
    pub replication: u32,
    /// It was finished, is open again, and no pipeline was logged since.
    pub untouched: bool,
}

/// The namespace as the block map sees it.
pub trait Names {
    /// The block, if a file owns it.
    fn facts(&self, block: BlockId) -> Option<Facts>;
    /// The next block that will be allocated: ids are sequential and never reused, so an id below it that
    /// has no owner *was* removed, and an id from it on is not known here yet.
    fn next_block(&self) -> BlockId;
    /// Number of committed blocks.
    fn committed_blocks(&self) -> u64;
    /// Copies below which a block is not safe: min(2, replication, registered nodes that were not told to go).
    fn minimum_copies(&self, replication: u32) -> u32;
    /// Storages of a committed block in the log: those that proved it when it was committed. Copies may have been moved
    /// since.
    fn logged(&self, block: BlockId) -> Vec<StorageIndex>;
    /// Up to `limit` blocks after `after`, in order of id.
    fn blocks_after(&self, after: Option<BlockId>, limit: usize) -> Vec<BlockId>;
}
