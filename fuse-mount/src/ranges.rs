//! Sets of bytes of a file, as ranges. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of a file. Ranges that touch are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Start and end of each.
    parts: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Nothing in it?
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
    /// The first byte in it.
    #[must_use]
    pub(crate) fn first(&self) -> Option<u64> {
        self.parts.keys().next().copied()
    }
    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
    }

    /// Puts a range in.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        // Whatever touches it becomes a part of it.
        while let Some((at, until)) = self.parts.range(..=end).next_back().map(|(at, until)| (*at, *until)) {
            if until < start {
                break;
            }
            self.parts.remove(&at);
            (start, end) = (start.min(at), end.max(until));
        }
        self.parts.insert(start, end);
    }

    /// Takes everything from a byte on out.
    pub(crate) fn cut(&mut self, from: u64) {
        self.parts.split_off(&from);
        if let Some((_, end)) = self.parts.range_mut(..from).next_back() {
            *end = (*end).min(from);
        }
    }

    /// Bytes of a range that are in it.
    #[must_use]
    pub(crate) fn bytes_of(&self, range: Range<u64>) -> u64 {
        self.pieces(range).into_iter().filter(|(_, inside)| *inside).map(|(piece, _)| piece.end - piece.start).sum()
    }

    /// Takes a range out.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let above: Vec<_> = self.parts.range(range.start..range.end).map(|(at, until)| (*at, *until)).collect();
        for (at, until) in above {
            self.parts.remove(&at);
            if until > range.end {
                self.parts.insert(range.end, until);
            }
        }
        if let Some((_, until)) = self.parts.range_mut(..range.start).next_back()
            && *until > range.start
        {
            let rest = std::mem::replace(until, range.start);
            if rest > range.end {
                self.parts.insert(range.end, rest);
            }
        }
    }

    /// The pieces of a range in order, with whether they are in the set.
    #[must_use]
    pub(crate) fn pieces(&self, range: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        let before = self.parts.range(..=range.start).next_back().map(|(start, _)| *start).unwrap_or(range.start);
        for (start, end) in self.parts.range(before..range.end.max(before)) {
            let (start, end) = ((*start).max(at), (*end).min(range.end));
            if start >= end {
                continue;
            }
            if at < start {
                pieces.push((at..start, false));
            }
            pieces.push((start..end, true));
            at = end;
        }
        if at < range.end {
            pieces.push((at..range.end, false));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_touches_is_one_range() {
        let mut ranges = Ranges::default();
        ranges.add(10..20);
        ranges.add(30..40);
        ranges.add(20..30);
        assert_eq!(ranges.pieces(0..50), vec![(0..10, false), (10..40, true), (40..50, false)]);
        ranges.cut(15);
        assert_eq!((ranges.pieces(12..18), ranges.first()), (vec![(12..15, true), (15..18, false)], Some(10)));
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_bytes(steps in proptest::collection::vec((0..4_u8, 0..64_u64, 0..20_u64), 0..40)) {
            let (mut ranges, mut model) = (Ranges::default(), [false; 100]);
            for (kind, at, len) in steps {
                match kind {
                    0 | 1 => {
                        ranges.add(at..at + len);
                        model[at as usize..(at + len) as usize].fill(true);
                    }
                    2 => {
                        ranges.remove(at..at + len);
                        model[at as usize..(at + len) as usize].fill(false);
                    }
                    _ => {
                        ranges.cut(at);
                        model[at as usize..].fill(false);
                    }
                }
                let mut seen = Vec::new();
                for (piece, inside) in ranges.pieces(0..100) {
                    prop_assert_eq!(piece.start as usize, seen.len());
                    seen.resize(piece.end as usize, inside);
                }
                prop_assert_eq!(&seen[..], &model[..]);
                let touching = ranges.parts.iter().zip(ranges.parts.iter().skip(1)).any(|(a, b)| a.1 >= b.0);
                prop_assert!(!touching);
            }
        }
    }
}
