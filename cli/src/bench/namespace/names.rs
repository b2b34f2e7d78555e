//! The names of the benchmark: 39 bytes, in no order within their directories, as hashes and task ids are.

use std::fmt::Write;

use crate::bench::mix::mix;

/// Files of a directory.
pub(super) const FILES_PER_DIRECTORY: u64 = 1000;

/// Path of a directory.
pub(super) fn directory(tree: &str, number: u64) -> String {
    format!("/{tree}/d{number:07}")
}

/// Path of a file: the last name has 39 bytes.
pub(super) fn file(tree: &str, number: u64) -> String {
    let mut path = directory(tree, number / FILES_PER_DIRECTORY);
    write!(path, "/{}", leaf(number)).ok();
    path
}

/// Path of a file in a directory that holds all of them.
pub(super) fn wide_file(tree: &str, number: u64) -> String {
    format!("/{tree}/{}", leaf(number))
}

/// The last name of a file: 32 hexadecimal digits and a suffix.
pub(super) fn leaf(number: u64) -> String {
    let (a, b) = (mix(number), mix(number ^ 0x5555));
    format!("{a:016x}{b:016x}.tar.gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_39_bytes_and_differ() {
        assert_eq!(file("t", 5).rsplit('/').next().map(str::len), Some(39));
        assert_ne!(file("t", 5), file("t", 6));
    }
}
