//! What people write and read, as pure functions: times, sizes, modes, tables, formats.

pub(crate) mod acl;
pub(crate) mod bytes;
pub(crate) mod format;
pub(crate) mod mode;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod time;

/// `1 file`, `2 files`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The name with nothing in it that a terminal would act on.
pub(crate) fn plain(name: &str) -> std::borrow::Cow<'_, str> {
    if name.contains(char::is_control) {
        name.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>().into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_is_not_many() {
        let files = |count| super::counted(count, "file", "files");
        assert_eq!([files(0), files(1), files(2)], ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        assert_eq!(super::plain("a\u{1b}[2Jb\n"), "a?[2Jb?");
        assert_eq!(super::plain("ä b"), "ä b");
    }
}
