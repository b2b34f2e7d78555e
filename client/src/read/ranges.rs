//! Which reads serve a list of ranges: neighbours are merged, what is left is cut at the borders of blocks. Pure.
//!
//! ```text
//!   asked     [a]  [b]          [c]        in any order, also overlapping
//!   merged    [a + gap + b]     [c]        a small gap costs less than another request
//!   cut       [block 0][block 1][block 1]  read in parallel
//! ```

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use proto::common::LocatedBlock;

use super::reader::len_of;

/// How ranges that lie close together become one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalesce {
    /// Gaps up to this many bytes are read and thrown away. Default: 64 KiB.
    /// Larger saves requests and costs bytes.
    pub gap_bytes: u64,
    /// No read is made longer than this by merging. Default: 8 MiB. All results of a read share its memory.
    pub max_bytes: u64,
}

impl Default for Coalesce {
    fn default() -> Self {
        Self { gap_bytes: 64 << 10, max_bytes: 8 << 20 }
    }
}

/// One read that serves some of the ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    /// Bytes of the file.
    pub(super) range: Range<u64>,
    /// Which of the ranges lie in it.
    pub(super) serves: Vec<usize>,
}

/// The part of a range that lies within a file.
pub(super) fn within(range: &Range<u64>, len_bytes: u64) -> Range<u64> {
    let end = range.end.min(len_bytes);
    range.start.min(end)..end
}

/// Reads that serve all ranges, in the order of the file. Ranges without bytes in the file are served by none.
pub(super) fn merge(asked: &[Range<u64>], len_bytes: u64, coalesce: Coalesce) -> Vec<Merged> {
    let mut wanted: Vec<(usize, Range<u64>)> =
        asked.iter().map(|range| within(range, len_bytes)).enumerate().filter(|(_, range)| !range.is_empty()).collect();
    wanted.sort_by_key(|(_, range)| (range.start, Reverse(range.end)));
    let mut reads: Vec<Merged> = Vec::new();
    for (number, range) in wanted {
        match reads.last_mut() {
            Some(last) if joins(&last.range, &range, coalesce) => {
                last.range.end = last.range.end.max(range.end);
                last.serves.push(number);
            }
            _ => reads.push(Merged { range, serves: vec![number] }),
        }
    }
    reads
}

/// Does a range belong to the read before it? It does not begin before that.
fn joins(read: &Range<u64>, range: &Range<u64>, coalesce: Coalesce) -> bool {
    let near = range.start <= read.end.saturating_add(coalesce.gap_bytes);
    range.end <= read.end || near && range.end - read.start <= coalesce.max_bytes
}

/// A part of a read within one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Number of the block in the file.
    pub(super) block: usize,
    /// First byte within the block.
    pub(super) offset_bytes: u64,
    /// Never 0.
    pub(super) len_bytes: u64,
}

/// The parts of a range, in order. What lies behind the last block is left out.
pub(super) fn cut(range: &Range<u64>, blocks: &[Arc<LocatedBlock>]) -> Vec<Cut> {
    let first = blocks.partition_point(|block| block.offset_bytes + len_of(block) <= range.start);
    let mut cuts = Vec::new();
    for (number, block) in blocks.iter().enumerate().skip(first) {
        let start = range.start.max(block.offset_bytes);
        let end = range.end.min(block.offset_bytes + len_of(block));
        if block.offset_bytes >= range.end {
            break;
        }
        if start < end {
            cuts.push(Cut { block: number, offset_bytes: start - block.offset_bytes, len_bytes: end - start });
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::common::Block;

    fn blocks(lens: &[u64]) -> Vec<Arc<LocatedBlock>> {
        let mut offset_bytes = 0;
        let located = |len_bytes: &u64| {
            let block = Some(Block { len_bytes: *len_bytes, ..Block::default() });
            let located = LocatedBlock { block, offset_bytes, ..LocatedBlock::default() };
            offset_bytes += len_bytes;
            Arc::new(located)
        };
        lens.iter().map(located).collect()
    }

    #[test]
    fn neighbours_are_merged_and_strangers_are_not() {
        let coalesce = Coalesce { gap_bytes: 10, max_bytes: 100 };
        let merged = |asked: &[Range<u64>]| {
            let reads = merge(asked, 1000, coalesce);
            reads.into_iter().map(|read| (read.range, read.serves)).collect::<Vec<_>>()
        };
        assert_eq!(merged(&[20..30, 0..10]), [(0..30, vec![1, 0])], "in any order");
        assert_eq!(merged(&[0..10, 21..30]), [(0..10, vec![0]), (21..30, vec![1])], "the gap is too large");
        assert_eq!(merged(&[0..60, 60..120]), [(0..60, vec![0]), (60..120, vec![1])], "the read would be too long");
        assert_eq!(merged(&[0..500, 100..200, 450..500]), [(0..500, vec![0, 1, 2])], "what lies within costs nothing");
        assert_eq!(merged(&[5..5, 990..2000, 3000..4000]), [(990..1000, vec![1])], "the file ends");
        assert_eq!(merged(&[]), []);
    }

    #[test]
    fn reads_are_cut_at_the_borders_of_blocks() {
        let blocks = blocks(&[100, 100, 0, 50]);
        let cut =
            |range| cut(&range, &blocks).iter().map(|c| (c.block, c.offset_bytes, c.len_bytes)).collect::<Vec<_>>();
        assert_eq!(cut(10..20), [(0, 10, 10)]);
        assert_eq!(cut(100..101), [(1, 0, 1)]);
        assert_eq!(cut(99..201), [(0, 99, 1), (1, 0, 100), (3, 0, 1)]);
        assert_eq!(cut(240..900), [(3, 40, 10)]);
        assert_eq!(cut(250..900), []);
    }

    proptest! {
        #[test]
        fn every_byte_is_read_and_no_more_than_was_agreed(
            asked in proptest::collection::vec((0..5000_u64, 0..400_u64), 0..30),
            gap_bytes in 0..200_u64,
            max_bytes in 0..2000_u64,
            len_bytes in 0..5000_u64,
        ) {
            let asked: Vec<_> = asked.into_iter().map(|(start, len)| start..start + len).collect();
            let reads = merge(&asked, len_bytes, Coalesce { gap_bytes, max_bytes });
            let mut served = vec![0; asked.len()];
            for read in &reads {
                prop_assert!(read.range.end <= len_bytes);
                let parts: Vec<_> = read.serves.iter().map(|number| within(&asked[*number], len_bytes)).collect();
                for (number, part) in read.serves.iter().zip(&parts) {
                    served[*number] += 1;
                    prop_assert!(!part.is_empty() && part.start >= read.range.start && part.end <= read.range.end);
                }
                let longest = parts.iter().map(|part| part.end - part.start).max().unwrap_or(0);
                prop_assert!(read.range.end - read.range.start <= longest.max(max_bytes));
                // No byte is further from a wanted one than a gap allows.
                let mut covered = read.range.start;
                for part in &parts {
                    prop_assert!(part.start <= covered + gap_bytes);
                    covered = covered.max(part.end);
                }
                prop_assert_eq!(covered, read.range.end);
            }
            for (number, times) in served.into_iter().enumerate() {
                prop_assert_eq!(times, usize::from(!within(&asked[number], len_bytes).is_empty()));
            }
        }

        #[test]
        fn cuts_cover_the_range_in_order(
            lens in proptest::collection::vec(0..300_u64, 0..10),
            start in 0..3000_u64,
            len in 0..1500_u64,
        ) {
            let blocks = blocks(&lens);
            let file_bytes: u64 = lens.iter().sum();
            let mut at = start;
            for cut in cut(&(start..start + len), &blocks) {
                let block = &blocks[cut.block];
                prop_assert_eq!(block.offset_bytes + cut.offset_bytes, at);
                prop_assert!(cut.len_bytes > 0 && cut.offset_bytes + cut.len_bytes <= len_of(block));
                at += cut.len_bytes;
            }
            prop_assert_eq!(at, (start + len).min(file_bytes).max(start));
        }
    }
}
