//! Names in the trash, and back: pure, and exact in both directions for every name that `rm` gives. What lies in a tree
//! that was moved as a whole keeps its names; one of them that looks like a time is taken for itself first.
//!
//! ```text
//!   x                  ─▶ x                            nothing of that name is kept yet
//!   x                  ─▶ x~1795339719515                it is taken: the time in ms, 13 digits
//!   x~1795339719515    ─▶ x~1795339719515~0000000000000  ends so itself: always with a time, 0 at first
//! ```
//!
//! Names that end in a time without the mark are ordinary (logs of many systems), with it they are not.

use std::borrow::Cow;

/// Stands before a time.
const MARK: char = '~';
/// Digits of a time in ms.
const DIGITS: usize = 13;

/// The name that something gets if it is free.
pub(super) fn kept(name: &str) -> Cow<'_, str> {
    if time_at_the_end(name).is_some() { Cow::Owned(kept_at(name, 0)) } else { Cow::Borrowed(name) }
}

/// The name that something gets at a time.
pub(super) fn kept_at(name: &str, now_ms: u64) -> String {
    format!("{name}{MARK}{now_ms:0DIGITS$}")
}

/// What a kept name was, and when it was kept: 0 for the first one.
pub(super) fn was(kept: &str) -> (&str, u64) {
    time_at_the_end(kept).unwrap_or((kept, 0))
}

/// What a path below a checkpoint was.
pub(super) fn path_was(kept: &str) -> String {
    kept.split('/').map(|name| was(name).0).collect::<Vec<_>>().join("/")
}

fn time_at_the_end(name: &str) -> Option<(&str, u64)> {
    let (before, digits) = name.split_at_checked(name.len().checked_sub(DIGITS)?)?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let before = before.strip_suffix(MARK)?;
    if all_digits { Some((before, digits.parse().ok()?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_looks_like_a_later_removal_is_its_own() {
        assert_eq!(kept("x"), "x");
        assert_eq!(kept_at("x", 1_795_339_719_515), "x~1795339719515");
        assert_eq!(was("x~1795339719515"), ("x", 1_795_339_719_515));
        assert_eq!(kept("x~1795339719515"), "x~1795339719515~0000000000000");
        assert_eq!(was("x~1795339719515~0000000000000"), ("x~1795339719515", 0));
        for name in ["x17", "x1795339719515", "x~1795339719515.", "ä…"] {
            assert_eq!((kept(name).as_ref(), was(name)), (name, (name, 0)));
        }
        assert_eq!(path_was("/d~1795339719515/x1795339719515"), "/d/x1795339719515");
    }

    proptest! {
        #[test]
        fn what_is_kept_tells_what_it_was(name in "[a0-9ä~]{1,30}", time in 1_000_000_000_000_u64..9_999_999_999_999) {
            let (first, later) = (kept(&name), kept_at(&name, time));
            prop_assert_eq!(was(&first), (name.as_str(), 0));
            prop_assert_eq!(was(&later), (name.as_str(), time));
        }
    }
}
