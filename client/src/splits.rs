//! Where the data of a file are, and how a compute job cuts it into tasks. Pure.

use std::ops::Range;

use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsError, FsResult};

/// More parts are no plan but a mistake.
const MAX_SPLITS: u64 = 1_000_000;
/// A last part may be longer than the others by a tenth, as Hadoop's `FileInputFormat` has it (`SPLIT_SLOP` 1.1):
/// better than a task for a few bytes.
const SLOP_TENTHS: u128 = 11;

/// A block of a file and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLocation {
    /// First byte, counted from the begin of the file.
    pub offset_bytes: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Hosts with a replica, nearest to the caller first, each once.
    pub hosts: Vec<String>,
    /// `HOST:PORT` of the data port of every replica's node.
    pub nodes: Vec<String>,
    /// Racks with a replica, in the same order, each once.
    pub racks: Vec<String>,
    /// Every known replica is damaged.
    pub corrupt: bool,
}

impl BlockLocation {
    /// Of a located block.
    #[must_use]
    pub fn of(block: &LocatedBlock) -> Self {
        let mut location = Self {
            offset_bytes: block.offset_bytes,
            len_bytes: block.block.as_ref().map_or(0, |block| block.len_bytes),
            hosts: Vec::new(),
            nodes: Vec::new(),
            racks: Vec::new(),
            corrupt: block.corrupt,
        };
        for at in &block.locations {
            for (list, name) in [(&mut location.hosts, &at.host), (&mut location.racks, &at.rack)] {
                if !name.is_empty() && !list.contains(name) {
                    list.push(name.clone());
                }
            }
            location.nodes.push(format!("{}:{}", at.host, at.transfer_port));
        }
        location
    }

    /// Its bytes in the file.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.offset_bytes..self.offset_bytes.saturating_add(self.len_bytes)
    }
}

/// What is to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    /// Length in bytes.
    pub len_bytes: u64,
    /// Length of a full block in bytes.
    pub block_size_bytes: u64,
    /// The blocks, in order, without holes.
    pub blocks: Vec<BlockLocation>,
}

/// How a file is cut. A part is as long as a block, within these bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitOptions {
    /// No part is shorter, except the last. Default: 1.
    pub min_bytes: u64,
    /// No part is longer, except the last, by a tenth; `min_bytes` goes before. Default: no bound.
    pub max_bytes: u64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { min_bytes: 1, max_bytes: u64::MAX }
    }
}

/// A part of a file for one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// First byte.
    pub offset_bytes: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Hosts where the task would find its data: those of the block that most of the bytes are in, nearest first.
    pub hosts: Vec<String>,
}

/// Cuts a file into parts as Hadoop's `FileInputFormat.getSplits` does: the parts are
/// max(min, min(max, block)) long, the last one up to a tenth longer; an empty file is one empty part without hosts.
/// Hadoop names the hosts of the block in which a part begins, we those of the block that has most of its bytes: where
/// parts are no longer than blocks and begin with them, that is the same.
///
/// ```
/// use client::{BlockLocation, FileLayout, SplitOptions, splits};
///
/// let block = |number: u64, host: &str| BlockLocation {
///     offset_bytes: number * 128,
///     len_bytes: 128,
///     hosts: vec![host.to_owned()],
///     nodes: vec![],
///     racks: vec![],
///     corrupt: false,
/// };
/// let file = FileLayout { len_bytes: 256, block_size_bytes: 128, blocks: vec![block(0, "a"), block(1, "b")] };
/// let parts = splits(&file, &SplitOptions::default())?;
/// assert_eq!(parts.len(), 2);
/// assert_eq!((parts[1].offset_bytes, parts[1].len_bytes, parts[1].hosts[0].as_str()), (128, 128, "b"));
/// # Ok::<(), client::FsError>(())
/// ```
///
/// # Errors
/// [`ErrorCode::InvalidArgument`] if `max_bytes` is 0, or if there would be more than a million parts.
pub fn splits(file: &FileLayout, options: &SplitOptions) -> FsResult<Vec<Split>> {
    let invalid = |text: String| Err(FsError::new(ErrorCode::InvalidArgument, text));
    if options.max_bytes == 0 {
        return invalid("parts of a file cannot have 0 bytes at most".to_owned());
    }
    if file.len_bytes == 0 {
        return Ok(vec![Split { offset_bytes: 0, len_bytes: 0, hosts: Vec::new() }]);
    }
    let part_bytes = options.min_bytes.max(options.max_bytes.min(file.block_size_bytes)).max(1);
    if file.len_bytes / part_bytes > MAX_SPLITS {
        return invalid(format!("a file of {} bytes in parts of {part_bytes} is too many parts", file.len_bytes))
            .map_err(|error| error.with_hint("allow longer parts"));
    }
    let mut parts = Vec::new();
    let mut left_bytes = file.len_bytes;
    while u128::from(left_bytes) * 10 > u128::from(part_bytes) * SLOP_TENTHS {
        parts.push(part(file, left_bytes, part_bytes));
        left_bytes -= part_bytes;
    }
    parts.push(part(file, left_bytes, left_bytes));
    Ok(parts)
}

fn part(file: &FileLayout, left_bytes: u64, len_bytes: u64) -> Split {
    let offset_bytes = file.len_bytes - left_bytes;
    let end_bytes = offset_bytes + len_bytes;
    let first = file.blocks.partition_point(|block| block.range().end <= offset_bytes);
    let shared = |block: &BlockLocation| {
        let range = block.range();
        range.end.min(end_bytes).saturating_sub(range.start.max(offset_bytes))
    };
    let inside = file.blocks.iter().skip(first).take_while(|block| block.offset_bytes < end_bytes);
    let mut most: Option<(u64, &BlockLocation)> = None;
    for block in inside {
        // Of several with as many bytes the first one.
        if most.is_none_or(|(bytes, _)| shared(block) > bytes) {
            most = Some((shared(block), block));
        }
    }
    let hosts = most.map(|(_, block)| block.hosts.clone()).unwrap_or_default();
    Split { offset_bytes, len_bytes, hosts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::common::{Block, StorageLocation};

    fn layout(len_bytes: u64, block_size_bytes: u64) -> FileLayout {
        let block = |number: u64| BlockLocation {
            offset_bytes: number * block_size_bytes,
            len_bytes: block_size_bytes.min(len_bytes - number * block_size_bytes),
            hosts: vec![format!("host-{number}")],
            nodes: vec![],
            racks: vec![],
            corrupt: false,
        };
        let blocks = (0..len_bytes.div_ceil(block_size_bytes)).map(block).collect();
        FileLayout { len_bytes, block_size_bytes, blocks }
    }

    fn cut(len_bytes: u64, block_size_bytes: u64, min_bytes: u64, max_bytes: u64) -> Vec<(u64, u64, String)> {
        let parts = splits(&layout(len_bytes, block_size_bytes), &SplitOptions { min_bytes, max_bytes }).unwrap();
        parts.into_iter().map(|part| (part.offset_bytes, part.len_bytes, part.hosts.concat())).collect()
    }

    #[test]
    fn parts_are_blocks_within_bounds_and_the_last_is_not_tiny() {
        let part = |offset: u64, len: u64, host: &str| (offset, len, host.to_owned());
        assert_eq!(
            cut(250, 100, 1, u64::MAX),
            [part(0, 100, "host-0"), part(100, 100, "host-1"), part(200, 50, "host-2")]
        );
        assert_eq!(cut(210, 100, 1, u64::MAX), [part(0, 100, "host-0"), part(100, 110, "host-1")], "a tenth more");
        assert_eq!(cut(211, 100, 1, u64::MAX).len(), 3);
        assert_eq!(cut(100, 100, 1, 40), [part(0, 40, "host-0"), part(40, 40, "host-0"), part(80, 20, "host-0")]);
        assert_eq!(
            cut(300, 100, 150, u64::MAX),
            [part(0, 150, "host-0"), part(150, 150, "host-2")],
            "most of the bytes"
        );
        assert_eq!(cut(200, 100, 200, 10), [part(0, 200, "host-0")], "min goes before max; the first of two");
        assert_eq!(cut(0, 100, 1, u64::MAX), [part(0, 0, "")], "an empty file is one task");
    }

    #[test]
    fn plans_that_cannot_be_meant_are_refused() {
        let plan = |len_bytes, min_bytes, max_bytes| {
            let file = FileLayout { len_bytes, block_size_bytes: 1 << 27, blocks: vec![] };
            splits(&file, &SplitOptions { min_bytes, max_bytes }).map_err(|error| error.code)
        };
        assert_eq!(plan(10, 1, 0), Err(ErrorCode::InvalidArgument));
        assert_eq!(plan(1 << 40, 1, 10), Err(ErrorCode::InvalidArgument));
        assert_eq!(plan(u64::MAX, 1 << 50, u64::MAX).map(|parts| parts.len()), Ok(16384));
        assert_eq!(plan(u64::MAX, u64::MAX, u64::MAX).map(|parts| parts.len()), Ok(1));
    }

    #[test]
    fn hosts_are_named_once_and_nearest_first() {
        let at = |host: &str, rack: &str, transfer_port| StorageLocation {
            host: host.into(),
            rack: rack.into(),
            transfer_port,
            ..StorageLocation::default()
        };
        let located = LocatedBlock {
            block: Some(Block { len_bytes: 7, ..Block::default() }),
            offset_bytes: 3,
            locations: vec![at("b", "/r2", 1), at("a", "/r1", 1), at("b", "/r2", 2)],
            ..LocatedBlock::default()
        };
        let location = BlockLocation::of(&located);
        assert_eq!((location.hosts.concat(), location.racks.concat()), ("ba".to_owned(), "/r2/r1".to_owned()));
        assert_eq!((location.nodes.join(" "), location.range()), ("b:1 a:1 b:2".to_owned(), 3..10));
    }

    proptest! {
        #[test]
        fn parts_cover_the_file_exactly(
            len_bytes in 0..100_000_u64,
            block_size_bytes in 1..20_000_u64,
            min_bytes in 0..30_000_u64,
            max_bytes in 1..30_000_u64,
        ) {
            let file = layout(len_bytes, block_size_bytes);
            let parts = splits(&file, &SplitOptions { min_bytes, max_bytes }).unwrap();
            let wanted = min_bytes.max(max_bytes.min(block_size_bytes)).max(1);
            let (last, others) = parts.split_last().unwrap();
            let mut at = 0;
            for part in &parts {
                prop_assert_eq!(part.offset_bytes, at);
                at += part.len_bytes;
            }
            prop_assert_eq!(at, len_bytes);
            prop_assert!(others.iter().all(|part| part.len_bytes == wanted));
            prop_assert!(last.len_bytes * 10 <= wanted * 11);
            prop_assert!(last.len_bytes > 0 || len_bytes == 0);
            // If parts are cut short there is more than a tenth left for the last one.
            prop_assert!(others.is_empty() || last.len_bytes * 10 > wanted);
            for part in parts.iter().filter(|part| part.len_bytes > 0) {
                let bytes_at = |host: &String| -> u64 {
                    let end = part.offset_bytes + part.len_bytes;
                    let of_host = file.blocks.iter().filter(|block| block.hosts.contains(host));
                    of_host.map(|b| b.range().end.min(end).saturating_sub(b.offset_bytes.max(part.offset_bytes))).sum()
                };
                let chosen = bytes_at(&part.hosts[0]);
                prop_assert!(chosen > 0 && file.blocks.iter().all(|block| bytes_at(&block.hosts[0]) <= chosen));
            }
        }
    }
}
