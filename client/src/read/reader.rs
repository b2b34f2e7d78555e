//! An open file: its blocks one after another, or any ranges of it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{FileKind, FileStatus, OpenResponse};
use proto::path::FsPath;

use super::ahead::Ahead;
use super::parallel::{join, read_all};
use super::race::{RacedStream, Range as BlockRange};
use super::ranges::{Cut, cut, merge, within};
use super::sequence::Sequence;
use super::visible::Look;

use crate::client::{Inner, incomplete};
use crate::splits::{BlockLocation, FileLayout};

/// No block holds more packets ahead, whatever the settings say.
const MAX_PACKETS: usize = 1024;

/// A positional read goes on without being counted after so long: whoever holds what is counted may be waiting for it, where
/// results are taken in turn.
const POSITIONAL_WAIT: Duration = Duration::from_secs(1);

/// A file that is open for reading. What it shows is the file as it was when it was opened; of a file that was being
/// written, [`Reader::next`] looks at the end whether there is more by now, and so does [`Reader::refresh`]. It never
/// becomes shorter (V-3).
///
/// [`Reader::next`] goes through the file in sequence, and goes ahead of the application within
/// [`ReadAhead`](super::ReadAhead). [`Reader::read_at`] and [`Reader::read_ranges`] read any ranges, at the same time
/// if they like, and do not move the position.
#[derive(Debug)]
pub struct Reader {
    inner: Arc<Inner>,
    path: FsPath,
    status: FileStatus,
    /// Shared with the reads that are under way.
    blocks: Vec<Arc<LocatedBlock>>,
    position_bytes: u64,
    /// Nothing behind it is read in sequence.
    until_bytes: u64,
    sequence: Sequence,
    /// The block of the position, and those after it that are open already.
    open: VecDeque<Ahead>,
    look: Look,
}

impl Reader {
    pub(crate) fn new(inner: Arc<Inner>, path: FsPath, opened: OpenResponse) -> FsResult<Self> {
        let status = opened.status.ok_or_else(incomplete)?;
        if status.kind() == FileKind::Directory {
            return Err(FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(path.as_str()));
        }
        let blocks: Vec<_> = opened.blocks.into_iter().map(Arc::new).collect();
        check_blocks(&blocks, status.len_bytes).map_err(|error| error.with_path(path.as_str()))?;
        let (sequence, open, look) = (Sequence::default(), VecDeque::new(), Look::default());
        Ok(Self { inner, path, status, blocks, position_bytes: 0, until_bytes: u64::MAX, sequence, open, look })
    }

    /// A second reader, at the beginning of the file as this one sees it. Nothing is asked.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            path: self.path.clone(),
            status: self.status.clone(),
            blocks: self.blocks.clone(),
            position_bytes: 0,
            until_bytes: u64::MAX,
            sequence: Sequence::default(),
            open: VecDeque::new(),
            look: Look::default(),
        }
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
    pub fn blocks(&self) -> &[Arc<LocatedBlock>] {
        &self.blocks
    }
    /// The file's blocks by their hosts: for those who bring work to the data.
    #[must_use]
    pub fn locations(&self) -> Vec<BlockLocation> {
        self.blocks.iter().map(|block| BlockLocation::of(block)).collect()
    }
    /// What [`splits`](crate::splits()) needs to know.
    #[must_use]
    pub fn layout(&self) -> FileLayout {
        let (len_bytes, block_size_bytes) = (self.len_bytes(), self.status.block_size_bytes);
        FileLayout { len_bytes, block_size_bytes, blocks: self.locations() }
    }
    /// Where the next [`Reader::next`] begins.
    #[must_use]
    pub const fn position_bytes(&self) -> u64 {
        self.position_bytes
    }
    /// Moves the position; beyond the end there is nothing to read. What was received ahead is thrown away.
    pub fn seek(&mut self, position_bytes: u64) {
        if position_bytes != self.position_bytes {
            self.position_bytes = position_bytes;
            self.sequence.jumped();
            self.open.clear();
        }
    }

    /// Lets [`Reader::next`] end before `end_bytes` of the file, as if the file ended there: nothing behind it is received
    /// ahead. Call it before the first read.
    pub const fn end_at(&mut self, end_bytes: u64) {
        self.until_bytes = end_bytes;
    }

    /// The next bytes, as many as came in one packet; `None` at the end. Every byte was verified against its
    /// checksum; replicas that fail are left for others without a word.
    ///
    /// # Errors
    /// [`ErrorCode::NoReplica`] if no replica of a block can be read; the namenode's refusals. The next call tries
    /// again from the same position.
    ///
    /// # Cancel safety
    /// No byte is lost if the future is dropped, and what was begun goes on.
    pub async fn next(&mut self) -> FsResult<Option<Bytes>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Reader::next`], for those who write futures by hand. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<FsResult<Option<Bytes>>> {
        loop {
            self.open_blocks();
            let Some(current) = self.open.front_mut() else {
                let more_may_come = self.status.open_for_write && self.position_bytes < self.until_bytes;
                if more_may_come && ready!(self.poll_refresh(context))? {
                    continue;
                }
                return Poll::Ready(Ok(None));
            };
            match ready!(current.poll_next(context)) {
                Ok(Some(bytes)) => {
                    self.position_bytes += bytes.len() as u64;
                    self.sequence.read(bytes.len() as u64);
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Ok(None) => drop(self.open.pop_front()),
                Err(error) => {
                    let early = current.is_early();
                    self.open.clear();
                    // What failed ahead of its time is tried once more in its time.
                    if !early {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    /// Looks whether a file that was being written is longer by now, or closed; true if there is more to read. A file that
    /// was closed when it was opened stays as it was.
    ///
    /// # Errors
    /// As [`Client::open`](crate::Client::open).
    ///
    /// # Cancel safety
    /// The next call goes on with the look.
    pub async fn refresh(&mut self) -> FsResult<bool> {
        if !self.status.open_for_write {
            return Ok(false);
        }
        poll_fn(|context| self.poll_refresh(context)).await
    }

    fn poll_refresh(&mut self, context: &mut Context<'_>) -> Poll<FsResult<bool>> {
        let opened = ready!(self.look.poll(&self.inner, &self.path, context))?;
        let status = opened.status.ok_or_else(incomplete)?;
        let shorter = status.len_bytes < self.status.len_bytes;
        if status.inode == self.status.inode && shorter && status.open_for_write {
            // Whoever was asked now knows less than whoever was asked before (V-3).
            return Poll::Ready(Ok(false));
        }
        if status.inode != self.status.inode || shorter {
            // Another file has its name, or it was cut: this one is not followed any more.
            self.status.open_for_write = false;
            return Poll::Ready(Ok(false));
        }
        let blocks: Vec<_> = opened.blocks.into_iter().map(Arc::new).collect();
        check_blocks(&blocks, status.len_bytes).map_err(|error| error.with_path(self.path.as_str()))?;
        let longer = status.len_bytes > self.status.len_bytes;
        (self.status, self.blocks) = (status, blocks);
        Poll::Ready(Ok(longer))
    }

    /// Opens the block of the position, and as many after it as are due.
    fn open_blocks(&mut self) {
        let ahead = self.inner.read.ahead;
        let mut left_bytes: u64 = self.open.iter().map(Ahead::left_bytes).sum();
        while self.sequence.opens_another(&ahead, self.open.len(), left_bytes) {
            let Some(place) = self.rest_of_block(self.position_bytes + left_bytes) else { break };
            let early = !self.open.is_empty();
            let (stream, packets) = (self.stream(place), ahead.packets.clamp(1, MAX_PACKETS));
            self.open.push_back(Ahead::start(stream, place.len_bytes, &self.inner.buffers, packets, early));
            left_bytes += place.len_bytes;
        }
        if self.sequence.goes_ahead(&ahead) {
            self.open.iter().for_each(Ahead::hurry);
        }
    }

    /// What is left of the block at a position.
    fn rest_of_block(&self, at_bytes: u64) -> Option<Cut> {
        let after = self.blocks.partition_point(|block| block.offset_bytes <= at_bytes);
        let number = after.checked_sub(1)?;
        let block = self.blocks.get(number)?;
        let offset_bytes = at_bytes - block.offset_bytes;
        let len_bytes = len_of(block).checked_sub(offset_bytes)?.min(self.until_bytes.saturating_sub(at_bytes));
        (len_bytes > 0).then_some(Cut { block: number, offset_bytes, len_bytes })
    }

    /// Reads a range, shorter only if the file ends before. The position does not move, and several ranges
    /// may be read at the same time. Parts that lie in different blocks are read in parallel.
    ///
    /// # Errors
    /// As [`Reader::next`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the read.
    pub async fn read_at(&self, offset_bytes: u64, len_bytes: usize) -> FsResult<Bytes> {
        let range = within(&(offset_bytes..offset_bytes.saturating_add(len_bytes as u64)), self.len_bytes());
        if let Some(bytes) = self.read_cached(&range).await {
            return Ok(bytes);
        }
        let wanted_bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let _held = self.inner.positional.take_within(wanted_bytes, POSITIONAL_WAIT).await;
        let parts = cut(&range, &self.blocks);
        Ok(join(read_all(parts, self.inner.read.streams, |part| self.stream(part)).await?))
    }

    /// A small range that lies in one block, if that is on this machine and in its page cache.
    async fn read_cached(&self, range: &Range<u64>) -> Option<Bytes> {
        let after = self.blocks.partition_point(|block| block.offset_bytes <= range.start);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let (start, len) = (range.start - block.offset_bytes, range.end.checked_sub(range.start)?);
        if len_of(block) < start.saturating_add(len) {
            return None;
        }
        let bytes = self.inner.local.read_cached(block, start, len)?;
        // Nothing above waits: without this, a caller that reads on and on would keep everybody else waiting.
        tokio::task::coop::consume_budget().await;
        Some(bytes)
    }

    /// Reads a range that lies within the file.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] if the file ends before; as [`Reader::next`].
    ///
    /// # Cancel safety
    /// As [`Reader::read_at`].
    pub async fn read_exact_at(&self, offset_bytes: u64, len_bytes: usize) -> FsResult<Bytes> {
        let end_bytes = offset_bytes.checked_add(len_bytes as u64).filter(|end| *end <= self.len_bytes());
        if end_bytes.is_none() {
            let text = format!("{len_bytes} bytes at {offset_bytes} are not in a file of {} bytes", self.len_bytes());
            let error = FsError::new(ErrorCode::InvalidArgument, text).with_path(self.path.as_str());
            return Err(error.with_hint("ask for its length first, or use read_at"));
        }
        self.read_at(offset_bytes, len_bytes).await
    }

    /// Reads many ranges, in any order, also overlapping ones: neighbours are read with one request (see
    /// [`Coalesce`](super::Coalesce)), and requests in parallel. Result `n` is that of range `n`, shorter only if the
    /// file ends before.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for a range that ends before it begins; as [`Reader::next`].
    ///
    /// # Cancel safety
    /// As [`Reader::read_at`].
    pub async fn read_ranges(&self, ranges: &[Range<u64>]) -> FsResult<Vec<Bytes>> {
        if let Some(range) = ranges.iter().find(|range| range.start > range.end) {
            let text = format!("the range {}..{} ends before it begins", range.start, range.end);
            return Err(FsError::new(ErrorCode::InvalidArgument, text).with_path(self.path.as_str()));
        }
        let reads = merge(ranges, self.len_bytes(), self.inner.read.coalesce);
        let cuts: Vec<Vec<Cut>> = reads.iter().map(|read| cut(&read.range, &self.blocks)).collect();
        let all: Vec<Cut> = cuts.iter().flatten().copied().collect();
        let bytes = all.iter().map(|part| part.len_bytes).sum::<u64>();
        let wanted_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let _held = self.inner.positional.take_within(wanted_bytes, POSITIONAL_WAIT).await;
        let mut parts = read_all(all, self.inner.read.streams, |part| self.stream(part)).await?.into_iter();
        let mut results = vec![Bytes::new(); ranges.len()];
        for (read, cuts) in reads.iter().zip(&cuts) {
            let bytes = join(parts.by_ref().take(cuts.len()).collect());
            for number in &read.serves {
                let (Some(asked), Some(result)) = (ranges.get(*number), results.get_mut(*number)) else { continue };
                *result = part_of(&bytes, &read.range, &within(asked, self.len_bytes()));
            }
        }
        Ok(results)
    }

    fn stream(&self, part: Cut) -> RacedStream {
        // Cuts are made of these blocks.
        let block = Arc::clone(&self.blocks[part.block]);
        let Cut { offset_bytes, len_bytes, .. } = part;
        RacedStream::new(
            Arc::clone(&self.inner),
            BlockRange { path: self.path.clone(), block, offset_bytes, len_bytes },
        )
    }
}

pub(super) fn len_of(block: &LocatedBlock) -> u64 {
    block.block.as_ref().map_or(0, |block| block.len_bytes)
}

/// The bytes of `wanted` in those of the read that it lies in.
fn part_of(bytes: &Bytes, read: &Range<u64>, wanted: &Range<u64>) -> Bytes {
    let place = |at: u64| usize::try_from(at - read.start).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(place(wanted.start)..place(wanted.end))
}

/// The blocks must cover the file without holes: a file is never shown shorter than it is.
fn check_blocks(blocks: &[Arc<LocatedBlock>], len_bytes: u64) -> FsResult<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proto::common::{Block, StorageLocation};

    /// Nodes that never answer: what is asked for stays under way.
    #[tokio::test]
    async fn r_1_positional_reads_wait_for_room_and_give_it_back() {
        let silent = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = u32::from(silent.local_addr().unwrap().port());
        let config = super::super::ReadConfig { positional_bytes: 64 << 10, ..Default::default() };
        let client = crate::Client::builder().connect("blockyard://127.0.0.1:1").user("u").read_config(config);
        let client = client.build().unwrap();
        let at = StorageLocation { host: "127.0.0.1".into(), transfer_port: port, ..StorageLocation::default() };
        let block = Block { pool: "BP-1".into(), id: 1, stamp: 1, len_bytes: 1 << 20 };
        let located = LocatedBlock { block: Some(block), locations: vec![at], ..LocatedBlock::default() };
        let status = FileStatus { kind: FileKind::File as i32, len_bytes: 1 << 20, ..FileStatus::default() };
        let opened = OpenResponse { status: Some(status), blocks: vec![located] };
        let reader = Reader::new(Arc::clone(&client.inner), FsPath::parse("/f").unwrap(), opened).unwrap();
        let free = || client.inner.positional.free_bytes();
        assert_eq!(free(), 64 << 10);
        let mut tasks = tokio::task::JoinSet::new();
        let first = tasks.spawn({
            let reader = Reader::new(
                Arc::clone(&client.inner),
                reader.path.clone(),
                OpenResponse {
                    status: Some(reader.status.clone()),
                    blocks: reader.blocks.iter().map(|block| LocatedBlock::clone(block)).collect(),
                },
            );
            async move { reader.unwrap().read_at(0, 40 << 10).await }
        });
        let asked = silent.accept().await.unwrap();
        assert_eq!(free(), 24 << 10, "it is under way");
        let mut second = Box::pin(reader.read_ranges(&[0..10, 100_000..140_000]));
        assert!(std::future::poll_fn(|context| Poll::Ready(second.as_mut().poll(context).is_pending())).await);
        let fits = Box::pin(reader.read_at(0, 1000));
        tokio::select! {
            biased;
            _ = second.as_mut() => panic!("there is no room for it"),
            _ = fits => panic!("nobody answers"),
            _ = silent.accept() => panic!("nobody passes who came before"),
            () = tokio::task::yield_now() => {}
        }
        first.abort();
        drop(asked);
        tokio::select! {
            _ = second.as_mut() => panic!("nobody answers"),
            accepted = silent.accept() => drop(accepted.unwrap()),
        }
        drop(second);
        assert_eq!(free(), 64 << 10);
    }
}
