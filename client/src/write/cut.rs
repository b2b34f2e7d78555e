//! Data that are not in a packet yet.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Data waiting to be cut. Pieces are kept as the application gave them: a piece that fills a packet by
/// itself is never copied.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pieces: VecDeque<Bytes>,
    len_bytes: usize,
}

impl Pending {
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len_bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }
    pub(crate) const fn len_bytes(&self) -> usize {
        self.len_bytes
    }
    pub(crate) const fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.len_bytes = 0;
    }

    /// Takes the first `want_bytes` (or all, if there are fewer) as one piece.
    pub(crate) fn take(&mut self, want_bytes: usize) -> Bytes {
        let want_bytes = want_bytes.min(self.len_bytes);
        self.len_bytes -= want_bytes;
        let Some(first) = self.pieces.front_mut() else { return Bytes::new() };
        if first.len() > want_bytes {
            return first.split_to(want_bytes);
        }
        if first.len() == want_bytes {
            return self.pieces.pop_front().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(want_bytes);
        while joined.len() < want_bytes {
            let Some(piece) = self.pieces.front_mut() else { break };
            let part = piece.split_to(piece.len().min(want_bytes - joined.len()));
            joined.extend_from_slice(&part);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        joined.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_or_reordered(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..12),
            wants in proptest::collection::vec(0_usize..60, 0..40),
        ) {
            let all: Vec<u8> = pieces.concat();
            let mut pending = Pending::default();
            for piece in pieces {
                pending.push(piece.into());
            }
            let mut taken = Vec::new();
            for want in wants {
                let expected = want.min(pending.len_bytes());
                let piece = pending.take(want);
                prop_assert_eq!(piece.len(), expected);
                taken.extend_from_slice(&piece);
            }
            taken.extend_from_slice(&pending.take(usize::MAX));
            prop_assert_eq!(taken, all);
            prop_assert!(pending.is_empty());
        }
    }
}
