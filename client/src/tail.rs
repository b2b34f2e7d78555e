//! Cutting a file inside a block by a copy: what a snapshot sees stays, and it is done at once.
//!
//! ```text
//!   truncate ─▶ refused: what a snapshot sees of a block is not cut off it
//!      copy the block's first bytes ─▶ a file of its own beside the target, `.blockyard-….part`
//!      truncate, with that file as the tail ─▶ one step of the namenode: cut at the block's begin, the tail's blocks behind
//!      └─ refused ─▶ the tail is removed
//! ```
//!
//! HDFS' namenode has its datanodes copy ("copy-on-truncate"). Here whoever cuts does: the data are read and written with
//! all checks that other reads and writes have, and nothing is half done if any machine dies. Only a process that is
//! killed between the end of the copy and the answer leaves the tail, under a name that `put -r` and `sync` pass over.

use std::time::Duration;

use base::local::temporary_name;
use proto::common::Block;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace as n;
use proto::path::FsPath;

use crate::leases::Truncated;
use crate::{Client, CreateOptions, Reader};

/// Time to remove a tail that nobody took; then whoever waits is told, and it stays.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);
/// Read and written at a time.
const PIECE_BYTES: u64 = 4 << 20;
/// The tail is the caller's alone: the file that it becomes a part of has its own rights.
const TAIL_MODE: u32 = 0o600;

impl Client {
    /// Cuts a file inside a block that a snapshot sees.
    ///
    /// # Cancel safety
    /// If the future is dropped, cutting goes on to its end: the file is cut, or nothing happened.
    pub(crate) async fn truncate_by_copy(
        &self,
        path: &FsPath,
        len_bytes: u64,
        expected_len_bytes: Option<u64>,
        inode: Option<u64>,
    ) -> FsResult<Truncated> {
        let (client, path, tasks) = (self.clone(), path.clone(), self.inner.tasks.clone());
        let cutting = async move { client.cut_with_tail(&path, len_bytes, expected_len_bytes, inode).await };
        let cut = base::task::spawn(&tasks, cutting).await;
        cut.unwrap_or_else(|error| Err(FsError::new(ErrorCode::Internal, error.to_string())))
    }

    async fn cut_with_tail(
        &self,
        path: &FsPath,
        len_bytes: u64,
        expected: Option<u64>,
        inode: Option<u64>,
    ) -> FsResult<Truncated> {
        let reader = self.open(path.as_str()).await?;
        let Some((begin_bytes, block)) = block_around(&reader, len_bytes) else {
            // It is another file than the one that was refused.
            return Err(FsError::new(ErrorCode::Changed, "the file changed meanwhile").with_path(path.as_str()));
        };
        let tail = path.parent().unwrap_or_else(FsPath::root).join(&temporary_name())?;
        self.write_tail(&reader, begin_bytes..len_bytes, &tail).await?;
        let request = n::TruncateRequest {
            whole: false,
            expected_inode: inode,
            header: None,
            path: path.clone().into(),
            len_bytes,
            expected_len_bytes: Some(expected.unwrap_or_else(|| reader.len_bytes())),
            tail: Some(tail.clone().into()),
            tail_of: Some(block),
        };
        let cut = self.truncate_request(request).await;
        if cut.is_err() {
            self.remove_tail(&tail).await;
        }
        cut.map_err(|error| if error.path == tail.as_str() { error.with_path(path.as_str()) } else { error })
    }

    async fn write_tail(&self, reader: &Reader, range: std::ops::Range<u64>, tail: &FsPath) -> FsResult<()> {
        let status = reader.status();
        let options = CreateOptions {
            mode: Some(TAIL_MODE),
            replication: status.replication,
            block_size_bytes: status.block_size_bytes,
            ..CreateOptions::default()
        };
        let mut writer = self.create(tail.as_str(), options).await?;
        let mut at_bytes = range.start;
        while at_bytes < range.end {
            let piece_bytes = usize::try_from(PIECE_BYTES.min(range.end - at_bytes)).unwrap_or(usize::MAX);
            let piece = reader.read_exact_at(at_bytes, piece_bytes).await?;
            at_bytes += piece.len() as u64;
            writer.write(piece).await?;
        }
        match writer.close().await {
            Ok(_) => Ok(()),
            Err(error) => {
                // It may be there, closed.
                self.remove_tail(tail).await;
                Err(error)
            }
        }
    }

    async fn remove_tail(&self, tail: &FsPath) {
        match tokio::time::timeout(REMOVE_WITHIN, self.delete(tail.as_str(), false)).await {
            Ok(Err(error)) if error.code != ErrorCode::NotFound => tracing::warn!("{tail} was not removed: {error}"),
            Err(_) => tracing::warn!("{tail} could not be removed in time"),
            _ => {}
        }
    }
}

/// The block in which a length ends, and where it begins; none at a boundary, or beyond the end.
pub(crate) fn block_around(reader: &Reader, len_bytes: u64) -> Option<(u64, Block)> {
    let around = reader.blocks().iter().find(|located| {
        let block_bytes = located.block.as_ref().map_or(0, |block| block.len_bytes);
        located.offset_bytes < len_bytes && len_bytes < located.offset_bytes + block_bytes
    })?;
    Some((around.offset_bytes, around.block.clone()?))
}
