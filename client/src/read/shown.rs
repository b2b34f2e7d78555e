//! What a client has shown of blocks that are being written: it never shows less of one of them (V-3).
//!
//! Which nodes of an open block answer changes from look to look, and each says what it knows to be acknowledged: the one
//! that was silent before may have heard of less. What is beyond what can be read by then is an error, not a shorter file.

use std::collections::{BTreeMap, VecDeque};

/// Blocks that are remembered; one more takes the place of the one that was shown first.
const MOST_BLOCKS: usize = 1024;

/// One time that a block is open. Whatever closes it, or cuts its file, changes the file's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Bytes of it that the namenode knows of: while it is open, they become more.
    pub floor_bytes: u64,
    /// When its file changed, in ns since the Unix epoch.
    pub mtime_ns: i64,
}

/// Bytes of open blocks that were shown.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    blocks: BTreeMap<i64, (Opening, u64)>,
    order: VecDeque<i64>,
}

impl Shown {
    /// So much of a block can be seen by what its nodes say; gives what is shown.
    pub fn show(&mut self, block: i64, opening: Opening, seen_bytes: u64) -> u64 {
        if let Some((known, shown_bytes)) = self.blocks.get_mut(&block) {
            let goes_on = known.mtime_ns == opening.mtime_ns && known.floor_bytes <= opening.floor_bytes;
            let least_bytes = if goes_on { *shown_bytes } else { 0 };
            (*known, *shown_bytes) = (opening, seen_bytes.max(least_bytes));
            return *shown_bytes;
        }
        if self.order.len() >= MOST_BLOCKS
            && let Some(first) = self.order.pop_front()
        {
            self.blocks.remove(&first);
        }
        self.order.push_back(block);
        self.blocks.insert(block, (opening, seen_bytes));
        seen_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Opening = Opening { floor_bytes: 0, mtime_ns: 7 };

    #[test]
    fn v_3_a_client_shows_no_less_of_an_open_block_than_before() {
        let mut shown = Shown::default();
        assert_eq!(shown.show(1, FIRST, 80), 80);
        assert_eq!(shown.show(1, FIRST, 60), 80, "another node answers, and has heard of less");
        assert_eq!(shown.show(1, FIRST, 90), 90);
        assert_eq!(shown.show(2, FIRST, 10), 10, "another block");
    }

    #[test]
    fn a_block_that_was_closed_or_cut_since_begins_anew() {
        let mut shown = Shown::default();
        shown.show(1, FIRST, 80);
        assert_eq!(shown.show(1, Opening { mtime_ns: 8, ..FIRST }, 60), 60);
        assert_eq!(shown.show(1, Opening { floor_bytes: 50, mtime_ns: 9 }, 55), 55);
        assert_eq!(shown.show(1, Opening { floor_bytes: 52, mtime_ns: 9 }, 53), 55, "its pipeline has changed");
        assert_eq!(shown.show(1, Opening { floor_bytes: 40, mtime_ns: 9 }, 40), 40);
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for() {
        let mut shown = Shown::default();
        let many = i64::try_from(MOST_BLOCKS).unwrap();
        (0..=many).for_each(|block| assert_eq!(shown.show(block, FIRST, 80), 80));
        assert_eq!((shown.show(many, FIRST, 1), shown.show(0, FIRST, 1)), (80, 1));
        assert_eq!((shown.blocks.len(), shown.order.len()), (MOST_BLOCKS, MOST_BLOCKS));
    }
}
