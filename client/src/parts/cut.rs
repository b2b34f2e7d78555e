//! Where a file is cut into parts. Pure.

use std::ops::Range;

use super::join::MAX_MOVED_BLOCKS;

/// Shortest part, and least that one writer alone must have to write beyond the longest part, that are worth the trouble:
/// at 1 GB/s 64 MiB take 67 ms, and what joining costs more are two syncs of the namenode's log one after another, some
/// 20 ms on spinning disks. So files of two blocks of 128 MiB, and of one and a half, are cut.
pub const LEAST_PART_BYTES: u64 = 64 << 20;
/// Most blocks of a file, as clusters are set up by default. One writer is refused the block that is too many; parts would
/// be refused after everything was written.
const MAX_BLOCKS: u64 = 10_000;

/// Ranges of a file of `len_bytes` that may be written side by side: whole blocks but for the end, as long as one another,
/// each of at least `least_part_bytes`, at most `most_parts` of them. `None`: one writer is as good.
#[must_use]
pub fn cut(len_bytes: u64, block_size_bytes: u64, most_parts: usize, least_part_bytes: u64) -> Option<Vec<Range<u64>>> {
    if block_size_bytes == 0 || most_parts < 2 {
        return None;
    }
    let blocks = len_bytes.div_ceil(block_size_bytes);
    if blocks > MAX_BLOCKS {
        return None;
    }
    let least_blocks = least_part_bytes.div_ceil(block_size_bytes).max(1);
    let part_blocks = blocks.div_ceil(most_parts as u64).max(least_blocks);
    let part_bytes = part_blocks.checked_mul(block_size_bytes)?;
    if part_blocks > MAX_MOVED_BLOCKS || len_bytes < part_bytes.checked_add(least_part_bytes.max(1))? {
        return None;
    }
    let begins = (0..blocks.div_ceil(part_blocks)).map(|number| number * part_bytes);
    Some(begins.map(|begin| begin..len_bytes.min(begin + part_bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn lengths(len_bytes: u64, block_size_bytes: u64, most_parts: usize) -> Vec<u64> {
        let parts = cut(len_bytes, block_size_bytes, most_parts, LEAST_PART_BYTES).unwrap_or_default();
        parts.iter().map(|part| (part.end - part.start) / MIB).collect()
    }

    #[test]
    fn files_are_cut_where_it_pays() {
        assert_eq!(lengths(1024 * MIB, 128 * MIB, 4), [256; 4]);
        assert_eq!(lengths(1024 * MIB, 128 * MIB, 16), [128; 8]);
        assert_eq!(lengths(640 * MIB, 128 * MIB, 4), [256, 256, 128], "no part is longer than the work of four needs");
        assert_eq!(lengths(192 * MIB, 128 * MIB, 16), [128, 64]);
        assert_eq!(lengths(192 * MIB - 1, 128 * MIB, 16), [0; 0], "too little is saved");
        assert_eq!(lengths(128 * MIB, MIB, 16), [64, 64], "parts of small blocks are long enough, too");
        assert_eq!(lengths(1024 * MIB, 128 * MIB, 1), [0; 0]);
        assert_eq!(lengths(1024 * MIB, 2048 * MIB, 16), [0; 0], "one block");
        assert_eq!([lengths(0, 128 * MIB, 16), lengths(1024 * MIB, 0, 16)], [[0; 0], [0; 0]]);
    }

    #[test]
    fn limits_of_a_namenode_are_kept() {
        let of_blocks = |blocks: u64, most| cut(blocks * MIB, MIB, most, MIB);
        assert_eq!(of_blocks(10_000, 2).unwrap(), [0..5000 * MIB, 5000 * MIB..10_000 * MIB]);
        assert_eq!(of_blocks(10_001, 2), None, "refused by the block, not in the end");
        assert_eq!(cut(u64::MAX, 1 << 40, 4, 1), None);
        assert_eq!(cut(9000 * MIB, MIB, 4, 6000 * MIB), None, "such a part could not be joined");
    }

    proptest! {
        #[test]
        fn parts_cover_the_file_in_whole_blocks(
            len_bytes in 0_u64..3_000_000,
            block_size_bytes in 1_u64..200_000,
            most_parts in 0_usize..40,
            least_part_bytes in 0_u64..400_000,
        ) {
            let Some(parts) = cut(len_bytes, block_size_bytes, most_parts, least_part_bytes) else { return Ok(()) };
            prop_assert!(parts.len() >= 2 && parts.len() <= most_parts);
            prop_assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, len_bytes));
            for pair in parts.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
                prop_assert!(pair[0].end % block_size_bytes == 0 && pair[0].end - pair[0].start >= least_part_bytes);
            }
            prop_assert!(parts.iter().all(|part| part.end > part.start));
        }
    }
}
