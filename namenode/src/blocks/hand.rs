//! How much copying a node may have in hand: ordered from it, or on its way to it.
//!
//! Copies are handed out in replies to heartbeats, so a node that is done with all it has is idle until the next one.
//! It therefore gets small replicas ahead: more of them than it copies at a time, but never more bytes than it copies
//! in a moment. A command is void ten seconds after it left, and what waits at a node that dies is lost time.

/// What a node has in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    copies: u32,
    bytes: u64,
}

impl Load {
    pub(super) const fn add(&mut self, len_bytes: u64) {
        self.copies += 1;
        self.bytes += len_bytes;
    }
    pub(super) const fn remove(&mut self, len_bytes: u64) {
        self.copies = self.copies.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(len_bytes);
    }
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
    /// For choosing the least busy node.
    pub(super) const fn copies(&self) -> u32 {
        self.copies
    }
}

/// What a node may have in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hand {
    /// Copies at a time, of any length.
    pub(super) streams: u32,
    /// Copies at a time while they are short.
    pub(super) ahead: u32,
    /// Bytes of them together.
    pub(super) ahead_bytes: u64,
}

impl Hand {
    /// Does a node that has `load` take another copy?
    pub(super) const fn takes(&self, load: Load, len_bytes: u64) -> bool {
        load.copies < self.streams
            || (load.copies < self.ahead && load.bytes.saturating_add(len_bytes) <= self.ahead_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies of one length that an idle node takes.
    fn taken(hand: Hand, len_bytes: u64) -> u32 {
        let mut load = Load::default();
        while hand.takes(load, len_bytes) {
            load.add(len_bytes);
        }
        load.copies()
    }

    #[test]
    fn long_replicas_go_by_streams_and_short_ones_ahead() {
        let hand = Hand { streams: 4, ahead: 64, ahead_bytes: 64 << 20 };
        assert_eq!(taken(hand, 128 << 20), 4);
        assert_eq!(taken(hand, 4 << 20), 16);
        assert_eq!([taken(hand, 1 << 20), taken(hand, 0)], [64; 2]);
        let mut load = Load::default();
        load.add(7);
        load.remove(7);
        assert!(load.is_nothing());
    }
}
