//! Is a file at its target already? The rule of `--resume` and `sync`, pure; contents are compared by the caller.

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    pub(crate) len_bytes: u64,
    /// Of the last change, in ns since the Unix epoch.
    pub(crate) mtime_ns: i64,
}

/// How two files look beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// One is longer: they differ, whatever the times are.
    OtherLength,
    /// As long, and changed at the same time: taken for the same.
    SameTime,
    /// As long, and changed at another time: their contents say.
    OtherTime,
}

impl Looks {
    pub(crate) fn likeness(&self, other: &Self) -> Likeness {
        if self.len_bytes != other.len_bytes {
            return Likeness::OtherLength;
        }
        if same_time(self.mtime_ns, other.mtime_ns) { Likeness::SameTime } else { Likeness::OtherTime }
    }
}

/// Are two times the same, as far as both sides can keep them? Some file systems keep whole seconds.
fn same_time(a_ns: i64, b_ns: i64) -> bool {
    const SECOND: i64 = 1_000_000_000;
    let whole = |ns: i64| ns.rem_euclid(SECOND) == 0;
    a_ns == b_ns || (whole(a_ns) || whole(b_ns)) && a_ns.div_euclid(SECOND) == b_ns.div_euclid(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_first_then_time() {
        let looks = |len_bytes, mtime_ns| Looks { len_bytes, mtime_ns };
        let of = |a: Looks, b: Looks| a.likeness(&b);
        assert_eq!(of(looks(5, 1), looks(6, 1)), Likeness::OtherLength);
        assert_eq!(of(looks(5, 1), looks(5, 1)), Likeness::SameTime);
        assert_eq!(of(looks(5, 1), looks(5, 2)), Likeness::OtherTime);
    }

    #[test]
    fn a_side_that_keeps_seconds_is_compared_by_seconds() {
        assert!(same_time(7_000_000_000, 7_999_999_999) && same_time(7_123_456_789, 7_000_000_000));
        assert!(!same_time(7_100_000_000, 7_200_000_000) && !same_time(7_000_000_000, 8_000_000_000));
        assert!(same_time(-1_000_000_000, -500_000_000) && !same_time(-1_500_000_000, -1_000_000_000));
    }
}
