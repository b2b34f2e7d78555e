//! Numbers in no order, the same in every run.

/// Mixes a number: neighbours come out far apart.
pub(super) const fn mix(number: u64) -> u64 {
    let a = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}
