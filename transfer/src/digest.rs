//! The digest of a block: a tree of SHA-256 over its data, beside the CRCs.
//!
//! ```text
//!   data     | 1 MiB | 1 MiB |  …  | rest |
//!   leaves   SHA-256  SHA-256        SHA-256       in the replica's trailer
//!   root     SHA-256 of all leaves, then the length in 8 bytes, little-endian
//!   prefix   the first 16 bytes of the root          in the namespace
//! ```
//!
//! CRCs find what decays; whoever changes data on purpose, or writes the right checksums with the wrong data, makes
//! new ones. A digest holds for one stamp and one length of a block only. Pure: whoever has the bytes calls
//! [`LeafHasher`].

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Bytes of data below a leaf; the last segment of a block may be shorter.
pub const SEGMENT_BYTES: u64 = 1 << 20;
/// Bytes of a leaf.
pub const LEAF_BYTES: usize = 32;
/// Bytes of the root that the namespace keeps.
pub const PREFIX_BYTES: usize = 16;
/// Leaves in the header of one packet, at most: the header stays below 512 bytes.
pub const MAX_PACKET_LEAVES: usize = 14;

/// SHA-256 of a segment.
pub type Leaf = [u8; LEAF_BYTES];
/// The start of a root.
pub type Prefix = [u8; PREFIX_BYTES];

/// Does a writer compute digests?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockDigest {
    /// The tree described in [`crate::digest`].
    #[default]
    Sha256,
    /// None: less work for the writer, and nothing but CRCs to tell right from wrong.
    None,
}

/// Leaves of a block of this length.
#[must_use]
pub const fn leaf_count(len_bytes: u64) -> u64 {
    len_bytes.div_ceil(SEGMENT_BYTES)
}

/// The root over the leaves of a block.
#[must_use]
pub fn root(leaves: &[Leaf], len_bytes: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    leaves.iter().for_each(|leaf| hash.update(leaf));
    hash.update(len_bytes.to_le_bytes());
    hash.finalize().into()
}

/// What the namespace keeps of a block's digest.
#[must_use]
pub fn prefix(leaves: &[Leaf], len_bytes: u64) -> Prefix {
    start_of(root(leaves, len_bytes))
}

/// One digest for a file, of the lengths and digests of its blocks.
#[must_use]
pub fn of_blocks(blocks: &[(u64, Prefix)]) -> Prefix {
    let mut hash = Sha256::new();
    for (len_bytes, prefix) in blocks {
        hash.update(len_bytes.to_le_bytes());
        hash.update(prefix);
    }
    start_of(hash.finalize().into())
}

fn start_of(root: [u8; 32]) -> Prefix {
    let mut prefix = [0; PREFIX_BYTES];
    prefix.iter_mut().zip(root).for_each(|(to, from)| *to = from);
    prefix
}

/// Leaves one behind the other, as they travel; `None` if the bytes are not whole leaves.
#[must_use]
pub fn parse_leaves(bytes: &[u8]) -> Option<&[Leaf]> {
    let (leaves, odd) = bytes.as_chunks::<LEAF_BYTES>();
    odd.is_empty().then_some(leaves)
}

/// Makes the leaves of a block whose data come in pieces of any length.
#[derive(Clone, Debug, Default)]
pub struct LeafHasher {
    segment: Sha256,
    len_bytes: u64,
    leaves: Vec<Leaf>,
}

impl LeafHasher {
    /// Takes the next bytes of the block.
    pub fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let left_bytes = SEGMENT_BYTES - self.len_bytes % SEGMENT_BYTES;
            let (now, rest) = data.split_at(data.len().min(left_bytes as usize));
            self.segment.update(now);
            self.len_bytes += now.len() as u64;
            if self.len_bytes.is_multiple_of(SEGMENT_BYTES) {
                self.end_segment();
            }
            data = rest;
        }
    }
    /// The block ends here: its last segment, too. Nothing may be added then.
    pub fn finish(&mut self) {
        if (self.leaves.len() as u64) < leaf_count(self.len_bytes) {
            self.end_segment();
        }
    }
    /// Leaves of the segments that have ended.
    #[must_use]
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }
    /// Bytes taken.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
    /// Start of the root, once [`LeafHasher::finish`] was called.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        prefix(&self.leaves, self.len_bytes)
    }
    fn end_segment(&mut self) {
        self.leaves.push(std::mem::take(&mut self.segment).finalize().into());
    }
}

/// Leaves that go out with the packets of a block, each once, with the packet that ends its segment or a later one.
#[derive(Clone, Debug, Default)]
pub struct LeafQueue {
    sent: usize,
}

impl LeafQueue {
    /// Leaves for the next packet, as they travel: of those in `leaves` that were not taken yet, `until` at most.
    pub fn take(&mut self, leaves: &[Leaf], until: u64) -> Bytes {
        let until = usize::try_from(until).unwrap_or(usize::MAX).min(leaves.len());
        let until = until.min(self.sent.saturating_add(MAX_PACKET_LEAVES));
        let due = leaves.get(self.sent..until).unwrap_or_default();
        self.sent += due.len();
        if due.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(due.as_flattened()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + 7) as u8).collect()
    }
    fn hashed(pieces: &[&[u8]]) -> LeafHasher {
        let mut hasher = LeafHasher::default();
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finish();
        hasher
    }

    #[test]
    fn known_answers() {
        // Computed with Python's hashlib from the description above.
        let (zeros, long) = (vec![0; 1 << 20], pattern((2 << 20) + 5));
        let cases: [(&[u8], usize, &str); 4] = [
            (b"", 0, "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"),
            (b"abc", 1, "39e6ecbb90eec724b8db13f608fbf85c4ead558d6dfbbf2942ab4d6a6d536457"),
            (&zeros, 1, "047d83f3fd2b0577b99fb435fb38c13db546a1773b5b58400ac6e8b165e569e6"),
            (&long, 3, "de9a13003d1a3b9111ec82a22c43b6925134214823d514a454646431ee920bc6"),
        ];
        for (data, leaves, expected) in cases {
            let hasher = hashed(&[data]);
            assert_eq!(hasher.leaves().len(), leaves);
            assert_eq!(leaf_count(data.len() as u64), leaves as u64);
            assert_eq!(hex(&root(hasher.leaves(), data.len() as u64)), expected);
            assert_eq!(hex(&hasher.prefix()), expected[..32]);
        }
        let abc = hashed(&[b"abc"]);
        assert_eq!(hex(&abc.leaves()[0]), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn the_length_counts_and_so_does_every_leaf() {
        let hasher = hashed(&[b"abc"]);
        assert_ne!(prefix(hasher.leaves(), 3), prefix(hasher.leaves(), 4));
        assert_ne!(prefix(hasher.leaves(), 3), prefix(&[], 3));
    }

    #[test]
    fn leaves_go_out_once_in_order_and_never_too_many_at_a_time() {
        let leaves: Vec<Leaf> = (0..40).map(|n| [n; LEAF_BYTES]).collect();
        let (mut queue, mut sent) = (LeafQueue::default(), Vec::new());
        assert!(queue.take(&leaves, 0).is_empty());
        for until in [1, 1, 3, 40, 40, 40, 40] {
            let bytes = queue.take(&leaves, until);
            let taken = parse_leaves(&bytes).unwrap();
            assert!(taken.len() <= MAX_PACKET_LEAVES);
            sent.extend_from_slice(taken);
        }
        assert_eq!(sent, leaves);
        assert_eq!(parse_leaves(&[0; 33]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_make_no_difference(len in 0..3_000_000_usize, cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
            let data = pattern(len);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (len + 1)).collect();
            cuts.extend([0, len]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect();
            let (whole, cut) = (hashed(&[&data]), hashed(&pieces));
            prop_assert_eq!(whole.leaves(), cut.leaves());
            prop_assert_eq!(whole.prefix(), cut.prefix());
        }
    }
}
