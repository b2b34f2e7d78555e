//! Hashes of report buckets: both ends must compute them alike.
//!
//! The hash of a bucket is the wrapping sum of the hashes of its replicas, so that it can be kept up to
//! date change by change, in any order.

use crate::ids::{BlockId, GenerationStamp};

/// Number of buckets in a full report of a storage.
pub const BUCKETS: usize = 1024;

/// Hash of one finalised replica. Any change of stamp or length changes it.
#[must_use]
pub fn replica_hash(id: BlockId, stamp: GenerationStamp, len_bytes: u64) -> u64 {
    let mut state = mix(id.raw() as u64 ^ 0x9e37_79b9_7f4a_7c15);
    state = mix(state ^ stamp.raw());
    mix(state ^ len_bytes.rotate_left(32))
}

/// Finaliser of splitmix64: every input bit moves every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_never_changes() {
        // Nodes and namenodes of different builds compare hashes made with it.
        let first = replica_hash(BlockId::FIRST, GenerationStamp::FIRST, 1);
        assert_eq!(first, 0x894c_dd2c_ba73_0e21);
    }

    #[test]
    fn every_field_counts() {
        let h = |i, s, l| replica_hash(BlockId::from_raw(i), GenerationStamp::from_raw(s), l);
        assert_ne!(h(1, 1, 1), h(2, 1, 1));
        assert_ne!(h(1, 1, 1), h(1, 2, 1));
        assert_ne!(h(1, 1, 1), h(1, 1, 2));
        assert_ne!(h(1, 2, 3), h(3, 2, 1));
    }
}
