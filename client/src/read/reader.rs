//! An open file: its blocks one after another, or any range of it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{FileKind, FileStatus, OpenResponse};
use proto::path::FsPath;

use super::stream::BlockStream;
use crate::client::{Inner, incomplete};

/// A file that is open for reading. What it shows is the file as it was when it was opened.
#[derive(Debug)]
pub struct Reader {
    inner: Arc<Inner>,
    path: FsPath,
    status: FileStatus,
    blocks: Vec<LocatedBlock>,
    position_bytes: u64,
    current: Option<BlockStream>,
}

impl Reader {
    pub(crate) fn new(inner: Arc<Inner>, path: FsPath, opened: OpenResponse) -> FsResult<Self> {
        let status = opened.status.ok_or_else(incomplete)?;
        if status.kind() == FileKind::Directory {
            return Err(FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(path.as_str()));
        }
        let blocks = opened.blocks;
        check_blocks(&blocks, status.len_bytes).map_err(|error| error.with_path(path.as_str()))?;
        Ok(Self { inner, path, status, blocks, position_bytes: 0, current: None })
    }

    /// What is known of the file.
    #[must_use]
    pub const fn status(&self) -> &FileStatus {
        &self.status
    }
    /// Length in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.status.len_bytes
    }
    /// The file's blocks with the nodes that hold them, nearest first.
    #[must_use]
    pub fn blocks(&self) -> &[LocatedBlock] {
        &self.blocks
    }
    /// Where the next [`Reader::next`] begins.
    #[must_use]
    pub const fn position_bytes(&self) -> u64 {
        self.position_bytes
    }
    /// Moves the position; beyond the end there is nothing to read.
    pub fn seek(&mut self, position_bytes: u64) {
        if position_bytes != self.position_bytes {
            self.position_bytes = position_bytes;
            self.current = None;
        }
    }

    /// The next bytes, as many as came in one packet; `None` at the end. Every byte was verified against its
    /// checksum; replicas that fail are left for others without a word.
    ///
    /// # Errors
    /// [`ErrorCode::NoReplica`] if no replica of a block can be read; the namenode's refusals.
    ///
    /// # Cancel safety
    /// No byte is lost if the future is dropped.
    pub async fn next(&mut self) -> FsResult<Option<Bytes>> {
        loop {
            if self.current.is_none() {
                self.current = self.stream(self.position_bytes, u64::MAX);
            }
            let Some(stream) = &mut self.current else { return Ok(None) };
            if let Some(bytes) = stream.next().await? {
                self.position_bytes += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            self.current = None;
        }
    }

    /// Reads a range, shorter only if the file ends before. The position does not move, and several ranges
    /// may be read at the same time.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn read_at(&self, offset_bytes: u64, len_bytes: usize) -> FsResult<Bytes> {
        let end_bytes = offset_bytes.saturating_add(len_bytes as u64).min(self.len_bytes());
        let mut at = offset_bytes;
        let mut pieces: Vec<Bytes> = Vec::new();
        while at < end_bytes {
            if let Some(bytes) = self.read_cached(at, end_bytes).await {
                at += bytes.len() as u64;
                pieces.push(bytes);
                continue;
            }
            let Some(mut stream) = self.stream(at, end_bytes) else { break };
            while let Some(piece) = stream.next().await? {
                at += piece.len() as u64;
                pieces.push(piece);
            }
        }
        Ok(join(pieces))
    }

    /// The part of a small range that lies in the block at a position, if it is on this machine and in its page cache.
    async fn read_cached(&self, at_bytes: u64, end_bytes: u64) -> Option<Bytes> {
        let after = self.blocks.partition_point(|block| block.offset_bytes <= at_bytes);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let start = at_bytes - block.offset_bytes;
        let end = len_of(block).min(end_bytes - block.offset_bytes);
        let bytes = self.inner.local.read_cached(block, start, end.checked_sub(start)?)?;
        // Nothing above waits: without this, a caller that reads on and on would keep everybody else waiting.
        tokio::task::coop::consume_budget().await;
        Some(bytes)
    }

    /// A stream of the block at a position, to the end of the block or `end_bytes`; `None` at the file's end.
    fn stream(&self, at_bytes: u64, end_bytes: u64) -> Option<BlockStream> {
        let after = self.blocks.partition_point(|block| block.offset_bytes <= at_bytes);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let block_end = block.offset_bytes + len_of(block);
        let end = end_bytes.min(block_end);
        if at_bytes >= end {
            return None;
        }
        let (inner, path) = (Arc::clone(&self.inner), self.path.clone());
        Some(BlockStream::new(inner, path, block.clone(), at_bytes - block.offset_bytes, end - at_bytes))
    }
}

pub(super) fn len_of(block: &LocatedBlock) -> u64 {
    block.block.as_ref().map_or(0, |block| block.len_bytes)
}

fn join(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        joined.extend_from_slice(&piece);
    }
    joined.freeze()
}

/// The blocks must cover the file without holes: a file is never shown shorter than it is.
fn check_blocks(blocks: &[LocatedBlock], len_bytes: u64) -> FsResult<()> {
    let mut at_bytes = 0;
    for block in blocks {
        if block.offset_bytes != at_bytes {
            break;
        }
        at_bytes += len_of(block);
    }
    if at_bytes >= len_bytes {
        return Ok(());
    }
    let text = format!("the namenode named blocks for {at_bytes} of {len_bytes} bytes");
    Err(FsError::new(ErrorCode::Internal, text))
}
