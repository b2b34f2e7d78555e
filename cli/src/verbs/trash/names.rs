//! Names in the trash, and back: pure, and exact in both directions.
//!
//! ```text
//!   x                  ─▶ x                            nothing of that name is kept yet
//!   x                  ─▶ x1795339719515               it is taken: the time in ms, 13 digits
//!   x1795339719515     ─▶ x17953397195150000000000000  ends in 13 digits itself: always with a time, 0 at first
//! ```
//!
//! So 13 digits at the end of a kept name are always a time, and what is before them is the name as it was.

use std::borrow::Cow;

/// Digits of a time in ms.
const DIGITS: usize = 13;

/// The name that something gets if it is free.
pub(super) fn kept(name: &str) -> Cow<'_, str> {
    if time_at_the_end(name).is_some() { Cow::Owned(kept_at(name, 0)) } else { Cow::Borrowed(name) }
}

/// The name that something gets at a time.
pub(super) fn kept_at(name: &str, now_ms: u64) -> String {
    format!("{name}{now_ms:0DIGITS$}")
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
    if all_digits { Some((before, digits.parse().ok()?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_looks_like_a_later_removal_is_its_own() {
        assert_eq!(kept("x"), "x");
        assert_eq!(kept_at("x", 1_795_339_719_515), "x1795339719515");
        assert_eq!(was("x1795339719515"), ("x", 1_795_339_719_515));
        assert_eq!(kept("x1795339719515"), "x17953397195150000000000000");
        assert_eq!(was("x17953397195150000000000000"), ("x1795339719515", 0));
        assert_eq!([was("x17"), was("x1795339719515."), was("ä…")], [("x17", 0), ("x1795339719515.", 0), ("ä…", 0)]);
        assert_eq!(path_was("/d1795339719515/x"), "/d/x");
    }

    proptest! {
        #[test]
        fn what_is_kept_tells_what_it_was(name in "[a0-9ä]{1,30}", time in 1_000_000_000_000_u64..9_999_999_999_999) {
            let (first, later) = (kept(&name), kept_at(&name, time));
            prop_assert_eq!(was(&first), (name.as_str(), 0));
            prop_assert_eq!(was(&later), (name.as_str(), time));
        }
    }
}
