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
        // Both ends of a report must agree (docs/formats/reports.md).
        let h = |i, s, l| replica_hash(BlockId::from_raw(i), GenerationStamp::from_raw(s), l);
        assert_eq!(h(1_073_741_825, 1001, 134_217_728), 0xdb84_c1da_3bae_23c7);
        assert_eq!(h(-16, 1001, 0), 0x0ec9_0bed_78a8_9517);
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
