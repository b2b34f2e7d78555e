//! The namespace: a deterministic state machine over the log. No clock, no randomness, no I/O.
pub mod api;
pub use api::*;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, InodeId, LeaseEpoch, LogIndex, SessionId, StorageId, Term};
use proto::log::{CallerRecord, Entry, Settings};
use proto::namespace::FileStatus;
use proto::path::FsPath;
use std::io;

/// The whole namespace.
#[derive(Default)]
pub struct Namespace {
    settings: Settings,
}

fn unsupported<T>() -> FsResult<T> {
    Err(FsError::new(ErrorCode::Unsupported, "not offered yet"))
}

impl Namespace {
    /// An unformatted namespace: everything but `Format` is refused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Can this build apply the entry? The caller must stop, not skip, when it cannot.
    ///
    /// # Errors
    /// `VersionMismatch` for a newer command set.
    pub fn check_version(entry: &Entry) -> FsResult<()> {
        if entry.version <= COMMAND_SET_VERSION {
            Ok(())
        } else {
            Err(FsError::new(ErrorCode::VersionMismatch, "newer"))
        }
    }
    /// Applies one entry; exactly one [`Applied`] for each command, in order. An empty entry only moves the index.
    pub fn apply(&mut self, _index: LogIndex, _term: Term, entry: &Entry) -> Vec<Applied> {
        entry.commands.iter().map(|_| Applied { result: unsupported(), effects: vec![], replayed: false }).collect()
    }
    /// Status of a path. Needs the right to pass through every directory above.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `NotADirectory`.
    pub fn stat(&self, _who: &CallerRecord, _path: &FsPath) -> FsResult<FileStatus> {
        unsupported()
    }
    /// At most `limit` entries by name after `start_after`, and whether more follow. `path` of each is its name.
    ///
    /// # Errors
    /// As [`Namespace::stat`].
    pub fn list(
        &self,
        _who: &CallerRecord,
        _path: &FsPath,
        _start_after: &str,
        _limit: usize,
    ) -> FsResult<(Vec<FileStatus>, bool)> {
        unsupported()
    }
    /// A file and all its blocks. Needs the right to read it.
    ///
    /// # Errors
    /// As [`Namespace::stat`], and `IsADirectory`.
    pub fn open(&self, _who: &CallerRecord, _path: &FsPath) -> FsResult<OpenFile> {
        unsupported()
    }
    /// A block by its id.
    #[must_use]
    pub fn block(&self, _block: BlockId) -> Option<BlockView> {
        None
    }
    /// Calls `each` for every block, by ascending inode, then by position: to fill a block map after a restart.
    pub fn for_each_block(&self, _each: impl FnMut(BlockView)) {}
    /// The id that the next allocation will get: an id below it that has no owner was removed.
    #[must_use]
    pub fn next_block_id(&self) -> BlockId {
        BlockId::FIRST
    }
    /// Blocks with their final length.
    #[must_use]
    pub fn committed_blocks(&self) -> u64 {
        0
    }
    /// Up to `limit` blocks after `after`, ascending: for scans in bounded steps.
    #[must_use]
    pub fn blocks_after(&self, _after: Option<BlockId>, _limit: usize) -> Vec<BlockId> {
        Vec::new()
    }
    /// Would this call be answered from the session's remembered outcomes? Then the leader skips its own checks.
    #[must_use]
    pub fn remembers(&self, _session: Option<SessionId>, _call: u64) -> bool {
        false
    }
    /// The leader's check before it chooses targets for a further block.
    ///
    /// # Errors
    /// `LeaseLost` if the lease is not (any more) the caller's, `NotFound` if the file is gone.
    pub fn file_for_write(
        &self,
        _inode: InodeId,
        _epoch: LeaseEpoch,
        _session: Option<SessionId>,
    ) -> FsResult<WriteView> {
        unsupported()
    }
    /// Replicated settings; all zero before format.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// Names of the cluster; `None` before format.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        None
    }
    /// The keys of block tokens, oldest first; the last one is in use.
    #[must_use]
    pub fn block_keys(&self) -> &[BlockKey] {
        &[]
    }
    /// The registry: position = [`StorageIndex`].
    #[must_use]
    pub fn storages(&self) -> &[StorageRecord] {
        &[]
    }
    /// Index of a registered storage.
    #[must_use]
    pub fn storage_index(&self, _storage: &StorageId) -> Option<StorageIndex> {
        None
    }
    /// Copies that `complete` and a further block ask for: min(2, replication, registered nodes), at least 1.
    #[must_use]
    pub fn minimum_copies(&self, _replication: u32) -> u32 {
        1
    }
    /// Is this caller above all permission checks?
    #[must_use]
    pub fn is_superuser(&self, _who: &CallerRecord) -> bool {
        false
    }
    /// Numbers of the whole.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
    /// Every file under construction, by inode.
    #[must_use]
    pub fn open_files(&self) -> Vec<OpenLease> {
        Vec::new()
    }
    /// Inodes of unlinked trees that wait for `Reclaim`; the leader proposes it while this is not 0.
    #[must_use]
    pub fn reclaim_pending(&self) -> u64 {
        0
    }
    /// Hash of the whole state: equal on every member at the same index, after replay and after loading an image.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        0
    }
    /// Index and term of the last applied entry; zeros at first.
    #[must_use]
    pub fn applied(&self) -> (LogIndex, Term) {
        (LogIndex::default(), Term::default())
    }
    /// Monotonic time that the log has counted, in ms.
    #[must_use]
    pub fn log_time_ms(&self) -> u64 {
        0
    }
    /// A view of this moment for writing an image elsewhere, made in time proportional to the number of pages.
    #[must_use]
    pub fn freeze(&self) -> FrozenNamespace {
        FrozenNamespace {}
    }
    /// Reads an image body.
    ///
    /// # Errors
    /// [`ImageError`]: the reader failed, or what it gave is not a whole and consistent image.
    pub fn read_from(_reader: &mut dyn io::Read) -> Result<Self, ImageError> {
        Err(ImageError::Version { found: 0, known: 0 })
    }
}

/// A namespace at one moment, independent of what happens to the original.
pub struct FrozenNamespace {}

impl FrozenNamespace {
    /// Index and term of the last entry that is in it.
    #[must_use]
    pub fn applied(&self) -> (LogIndex, Term) {
        (LogIndex::default(), Term::default())
    }
    /// Encodes the image body. Two members at the same index write the same bytes.
    ///
    /// # Errors
    /// [`ImageError::Io`] of the writer.
    pub fn write_to(&self, _writer: &mut dyn io::Write) -> Result<(), ImageError> {
        Err(ImageError::Version { found: 0, known: 0 })
    }
}
